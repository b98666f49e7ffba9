//! Half a minute of random accidents under traffic, as a seed decides; `cargo demo -- chaos` makes ten minutes of others.
//!
//! ```text
//!   PEER === ext === DIST, BACK === xcf === TGT1-3; etcd
//! ```

use anyhow::Result;
use e2e::plex::Shape;
use e2e::{chaos, etcd, swan};
use std::time::Duration;

const SEED: u64 = 7;

#[test]
fn t45_t47_connections_whose_target_lives_survive_thirty_seconds_of_accidents() -> Result<()> {
    if !etcd::installed() || !swan::installed() {
        eprintln!("not run: needs etcd and strongSwan with kernel-libipsec");
        return Ok(());
    }
    let outcome = chaos::run(Shape::default(), Duration::from_secs(30), SEED, |line| eprintln!("{line}"))?;
    eprintln!("{outcome:?}");
    outcome.judge()
}
