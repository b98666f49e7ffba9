//! Random accidents under traffic: what an operator fears, one after the other, for as long as one likes.

use crate::capture::Capture;
use crate::http::{self, PacedDownload};
use crate::lab::Lab;
use crate::packet::Seen;
use crate::plex::{GATEWAYS, Plex, Shape, TARGETS, swan_peer};
use crate::random::Random;
use crate::scenario::{DVIPA4, PEER4, server};
use crate::wait;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Downloads at the same time.
const DOWNLOADS: usize = 12;
/// Bytes of a download and bytes a second.
const JOB: (u64, u64) = (200_000, 50_000);
/// How long service may be away after an accident before that counts as lost.
const LIMIT: Duration = Duration::from_secs(30);

/// An accident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Accident {
    /// The owner's system is killed, and comes back.
    System,
    /// The owner's `iked` alone is killed, and comes back.
    Daemon,
    /// The owner's `stackd` alone is killed.
    Stack,
    /// An operator moves the DVIPA.
    Move,
    /// The owner is cut off from the coupling facility.
    CutStore,
    /// The owner is cut off from the XCF link.
    CutXcf,
    /// The owner is cut off from the network.
    CutNetwork,
    /// A target's stack is killed.
    Target,
    /// The coupling facility is killed, and comes back.
    Store,
}

const ALL: [Accident; 9] = [
    Accident::System,
    Accident::Daemon,
    Accident::Stack,
    Accident::Move,
    Accident::CutStore,
    Accident::CutXcf,
    Accident::CutNetwork,
    Accident::Target,
    Accident::Store,
];

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Downloads that ended well.
    pub finished: usize,
    /// Downloads that failed because their target was killed.
    pub excused: usize,
    /// Why the others failed.
    pub lost: Vec<String>,
    /// How often each accident was made.
    pub accidents: BTreeMap<Accident, u32>,
    /// Packets of the DVIPA or the peer that were in clear on the network.
    pub clear: usize,
    /// The longest time until service was there again.
    pub outage: Duration,
}

impl Outcome {
    /// What must hold.
    ///
    /// # Errors
    /// When it does not.
    pub fn judge(&self) -> Result<()> {
        ensure!(self.lost.is_empty(), "{} connections lost: {:#?}", self.lost.len(), self.lost);
        ensure!(self.clear == 0, "{} clear packets on the network", self.clear);
        ensure!(self.finished > DOWNLOADS, "only {} downloads ended: it proves little", self.finished);
        Ok(())
    }
}

struct Chaos<'a> {
    plex: Plex,
    lab: &'a Lab,
    random: Random,
    running: Vec<(PacedDownload, Instant)>,
    /// When which target was killed.
    killed: Vec<(&'static str, Instant)>,
    outcome: Outcome,
}

/// Makes accidents for `time`, as `seed` decides, and tells each.
///
/// # Errors
/// When the scenario does not come up, or service does not come back after an accident.
pub fn run(shape: Shape, time: Duration, seed: u64, tell: impl Fn(&str)) -> Result<Outcome> {
    let mut lab = Lab::new("chaos")?;
    let plex = Plex::start(&mut lab, shape)?;
    let peer = swan_peer(&lab)?;
    peer.initiate("v4")?;
    plex.tunnel("DIST")?;
    let (dvipa, own): (IpAddr, IpAddr) = (DVIPA4.parse()?, PEER4.parse()?);
    let clear = move |s: &Seen| s.is_clear_of(dvipa) || s.is_clear_of(own);
    let nodes = ["PEER", "DIST", "BACK", "TGT1", "TGT2", "TGT3"];
    let captures = nodes.map(|n| Capture::start_keeping(&lab, n, "ext", clear));
    let captures = captures.into_iter().collect::<Result<Vec<_>>>()?;
    let random = Random::new(seed);
    let mut chaos = Chaos {
        plex,
        lab: &lab,
        random,
        running: Vec::new(),
        killed: Vec::new(),
        outcome: Outcome::default(),
    };
    let begun = wait::now();
    while begun.elapsed() < time {
        chaos.refill()?;
        let pause = chaos.random.between(Duration::from_millis(500), Duration::from_millis(2500));
        crate::meter::pause_until(wait::now() + pause);
        chaos.accident(&tell).with_context(|| chaos.plex.logs())?;
        chaos.collect()?;
    }
    for (download, at) in std::mem::take(&mut chaos.running) {
        chaos.finished(download, at)?;
    }
    let mut outcome = chaos.outcome;
    for capture in captures {
        outcome.clear += capture.finish()?.frames.len();
    }
    drop(peer);
    Ok(outcome)
}

impl Chaos<'_> {
    fn refill(&mut self) -> Result<()> {
        let missing = DOWNLOADS.saturating_sub(self.running.len());
        let job = (missing, JOB.0, JOB.1);
        let limit = LIMIT + Duration::from_secs(60);
        let now = wait::now();
        let new = PacedDownload::start(self.lab, "PEER", server(false), job, limit)?;
        self.running.extend(new.into_iter().map(|d| (d, now)));
        Ok(())
    }

    fn collect(&mut self) -> Result<()> {
        let (done, running) = std::mem::take(&mut self.running).into_iter().partition(|(d, _)| d.ended());
        self.running = running;
        let done: Vec<(PacedDownload, Instant)> = done;
        done.into_iter().try_for_each(|(d, at)| self.finished(d, at))
    }

    fn finished(&mut self, download: PacedDownload, started: Instant) -> Result<()> {
        let end = download.finish()?;
        match end.error {
            None => self.outcome.finished += 1,
            // Its target was killed while it ran; one that was never answered may have been meant for it.
            Some(_)
                if self
                    .killed
                    .iter()
                    .any(|(t, at)| *at >= started && (end.server == *t || end.server.is_empty())) =>
            {
                self.outcome.excused += 1;
            }
            Some(error) => self.outcome.lost.push(format!("{}: {error}", end.server)),
        }
        Ok(())
    }

    fn accident(&mut self, tell: &impl Fn(&str)) -> Result<()> {
        let (owner, backup) = self.plex.owner_and_backup(LIMIT)?;
        let accident = *self.random.one_of(&ALL).context("there are accidents")?;
        let short = self.random.between(Duration::from_millis(200), Duration::from_millis(1500));
        tell(&format!("{accident:?} while {owner} owns the address"));
        *self.outcome.accidents.entry(accident).or_default() += 1;
        let began = wait::now();
        let system = GATEWAYS.iter().find(|g| g.1 == owner).context("a gateway")?.0;
        match accident {
            Accident::System => {
                self.plex.of_mut(owner)?.crash();
                self.served(began)?;
                self.plex.of_mut(owner)?.start_again()?;
            }
            Accident::Daemon => {
                self.plex.of_mut(owner)?.end(Signal::SIGKILL);
                self.served(began)?;
                self.plex.of_mut(owner)?.start_again()?;
            }
            Accident::Stack => kill(&self.plex, owner)?,
            Accident::Move => {
                self.plex.of(owner)?.ipsec(&format!("-p {owner} vipa move {DVIPA4} --to {backup}"))?;
            }
            Accident::CutStore => self.cut(system, "mgmt", short)?,
            Accident::CutXcf => self.cut(owner, "xcf", short)?,
            Accident::CutNetwork => self.cut(owner, "ext", short)?,
            Accident::Target => {
                let target = self.random.one_of(&TARGETS).context("there are targets")?.0;
                self.killed.push((target, wait::now()));
                kill(&self.plex, target)?;
            }
            Accident::Store => {
                let etcd = self.plex.etcd.as_mut().context("chaos has an etcd")?;
                etcd.end(Signal::SIGKILL);
                crate::meter::pause_until(wait::now() + short);
                etcd.again()?;
            }
        }
        self.served(began)
    }

    fn cut(&self, node: &str, segment: &str, time: Duration) -> Result<()> {
        self.lab.cut(node, segment)?;
        crate::meter::pause_until(wait::now() + time);
        self.lab.heal(node, segment)
    }

    /// Waits until a new connection is served.
    fn served(&mut self, since: Instant) -> Result<()> {
        wait::until("service again", LIMIT, || {
            http::get(self.lab, "PEER", server(false), Duration::from_millis(1500))
        })?;
        self.outcome.outage = self.outcome.outage.max(since.elapsed());
        Ok(())
    }
}

fn kill(plex: &Plex, stack: &str) -> Result<()> {
    let pid = plex.of(stack)?.stack_pid(stack)?;
    nix::sys::signal::kill(pid, Signal::SIGKILL).context("kill stackd")
}
