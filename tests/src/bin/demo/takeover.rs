//! `cargo demo -- takeover`: the owner is lost under traffic, and what the outage was is measured.

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use e2e::lab::Lab;
use e2e::plex::{self, Shape};
use e2e::random::Random;
use e2e::takeover::{self as trial, Initiator, Loss, Trial};
use e2e::{say, swan};

/// What to lose, and how.
#[derive(Debug, Args)]
pub(crate) struct Takeover {
    /// What becomes of the SAs; both, one after the other, when not given.
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// The coupling facility: etcd with several systems, or sled with one.
    #[arg(long, value_enum, default_value_t = Facility::Etcd)]
    cf: Facility,
    /// An operator moves the DVIPA instead of a loss; without `--mode` and this, both are shown.
    #[arg(long)]
    planned: bool,
    /// Only the owner's stackd is killed; its iked sees the end and says so.
    #[arg(long, conflicts_with = "planned")]
    stack: bool,
    /// The lease in milliseconds.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    lease_ms: u32,
    /// Who starts the SAs.
    #[arg(long, value_enum, default_value_t = Starts::Peer)]
    initiator: Starts,
    /// Downloads at the same time.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    downloads: u32,
    /// Print what the stacks dropped and the last lines of each daemon's log too.
    #[arg(long)]
    logs: bool,
    /// Decides the moment of the loss.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Renegotiate,
    Continue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Facility {
    Etcd,
    Sled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Starts {
    /// strongSwan.
    Peer,
    /// iked.
    Own,
}

impl Takeover {
    pub(crate) fn needs_etcd(&self) -> bool {
        self.cf == Facility::Etcd
    }
}

/// Makes the takeovers that are asked for.
pub(crate) fn run(arguments: &Takeover) -> Result<()> {
    ensure!(
        swan::installed(),
        "needs strongSwan: apt-get install strongswan-charon strongswan-swanctl libcharon-extra-plugins \
         libstrongswan-extra-plugins libstrongswan-standard-plugins"
    );
    let modes = match arguments.mode {
        Some(Mode::Renegotiate) => vec![plex::Mode::Renegotiate],
        Some(Mode::Continue) => vec![plex::Mode::Continue],
        None => vec![plex::Mode::Renegotiate, plex::Mode::Continue],
    };
    let losses = match (arguments.planned, arguments.stack, arguments.mode) {
        (true, ..) => vec![Loss::Planned],
        (_, true, _) => vec![Loss::Stack],
        (false, false, Some(_)) => vec![Loss::System],
        (false, false, None) => vec![Loss::System, Loss::Planned],
    };
    let mut results = Vec::new();
    for mode in modes {
        for loss in &losses {
            results.push(one(arguments, mode, *loss)?);
        }
    }
    say("");
    for (line, _) in &results {
        say(line);
    }
    // The first that missed a bar; all were made and told.
    results.into_iter().map(|(_, judged)| judged).collect::<Result<Vec<()>>>().map(drop)
}

/// One takeover: its last line, and whether it lost nothing and leaked nothing.
fn one(arguments: &Takeover, mode: plex::Mode, loss: Loss) -> Result<(String, Result<()>)> {
    let seed = arguments.seed.unwrap_or_else(|| Random::any().1);
    let facility = match arguments.cf {
        Facility::Etcd => plex::Facility::Etcd,
        Facility::Sled => plex::Facility::Sled,
    };
    let shape = Shape { facility, mode, lease_ms: arguments.lease_ms, ..Shape::default() };
    let mut plan = Trial::new(shape, loss, seed);
    plan.downloads = arguments.downloads as usize;
    plan.initiator = if arguments.initiator == Starts::Own { Initiator::Own } else { Initiator::Peer };
    super::step(&format!("{}, {loss:?}, seed {seed}", mode.word()));
    let mut lab = Lab::new("demo")?;
    let report = trial::run(&mut lab, &plan, say)?;
    let text = report.text(&plan);
    if arguments.logs {
        say(&report.logs);
    }
    say(&text);
    let (inbound, outbound) = report.silences();
    let (goal, seen) = (trial::goal(&plan), inbound.max(outbound));
    let met = if seen <= goal { "met" } else { "missed" };
    say(&format!("goal for the silence: at most {}: {met}", trial::ms(goal)));
    Ok((text.lines().last().unwrap_or_default().to_owned(), report.judge()))
}
