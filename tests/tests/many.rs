//! Many peers at once: each with an identity, an address and SAs of its own.
//!
//! ```text
//!   PEER (198.18.0.1 …) === ext === DIST, BACK === xcf === TGT1-3
//! ```

use anyhow::{Context, Result};
use e2e::lab::Lab;
use e2e::peers::Peers;
use e2e::plex::{Facility, Plex, Shape, TARGETS};
use e2e::scenario::DVIPA4;
use e2e::wait;
use std::time::Duration;

fn targets() -> Vec<String> {
    TARGETS.iter().map(|t| t.0.to_owned()).collect()
}

#[test]
fn a_hundred_peers_have_sas_of_their_own_and_an_echo_each() -> Result<()> {
    let mut lab = Lab::new("many")?;
    let plex = Plex::start(&mut lab, Shape { facility: Facility::Sled, ..Shape::default() })?;
    let begun = wait::now();
    let peers = Peers::start(&lab, "PEER", 100, DVIPA4.parse()?, Duration::from_millis(500), &targets())?;
    peers.all_echoed(begun, Duration::from_secs(60)).with_context(|| plex.logs())?;
    let seen = peers.finish()?;
    assert!(
        seen.iter().all(|s| s.ike_up.len() == 1 && s.child_up.len() == 1 && s.failed.is_empty()),
        "{seen:?}"
    );
    let tunnels = plex.of("DIST")?.entries("-p DIST -y display")?;
    assert_eq!(tunnels.len(), 100);
    Ok(())
}
