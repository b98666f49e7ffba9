//! `cargo demo -- chaos`: random kills, moves, partitions and target losses under traffic.

use anyhow::Result;
use clap::Args;
use e2e::plex::{Mode, Shape};
use e2e::random::Random;
use e2e::{chaos, say};
use std::time::Duration;

/// How long, and which accidents.
#[derive(Debug, Args)]
pub(crate) struct Chaos {
    /// Seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Decides the accidents and their moments.
    #[arg(long)]
    seed: Option<u64>,
    /// SAs go on at the new owner instead of being negotiated anew.
    #[arg(long)]
    r#continue: bool,
    /// The lease in milliseconds.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    lease_ms: u32,
}

/// Makes accidents; an error when a connection was lost whose target lived, or something was in clear.
pub(crate) fn run(arguments: &Chaos) -> Result<()> {
    let seed = arguments.seed.unwrap_or_else(|| Random::any().1);
    let mode = if arguments.r#continue { Mode::Continue } else { Mode::Renegotiate };
    super::step(&format!("{} seconds of accidents, seed {seed}, {}", arguments.seconds, mode.word()));
    let shape = Shape { mode, lease_ms: arguments.lease_ms, ..Shape::default() };
    let outcome = chaos::run(shape, Duration::from_secs(arguments.seconds), seed, say)?;
    say(&format!("{:?}; longest until served again {:.1?}", outcome.accidents, outcome.outage));
    say(&format!(
        "chaos: {} downloads, {} lost, {} ended with their target, {} accidents, {} clear packets (seed {seed})",
        outcome.finished,
        outcome.lost.len(),
        outcome.excused,
        outcome.accidents.values().sum::<u32>(),
        outcome.clear
    ));
    outcome.judge()
}
