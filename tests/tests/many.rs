//! Many peers at once: each with an identity, an address and SAs of its own.
//!
//! ```text
//!   PEER (198.18.0.1 …) === ext === DIST, BACK === xcf === TGT1-3
//! ```

use anyhow::{Context, Result, ensure};
use e2e::capture::Capture;
use e2e::lab::Lab;
use e2e::peers::{Peers, Seen};
use e2e::plex::{Facility, Mode, Plex, Shape, TARGETS};
use e2e::scenario::DVIPA4;
use e2e::{etcd, takeover, wait};
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

/// The owner's system is lost while a thousand peers are there; gives for each when it was remade, and when it was served again.
fn thousand(mode: Mode, name: &str) -> Result<()> {
    if !etcd::installed() {
        eprintln!("not run: etcd is not installed");
        return Ok(());
    }
    let count = 1000;
    let mut lab = Lab::new(name)?;
    let mut plex = Plex::start(&mut lab, Shape { mode, ..Shape::default() })?;
    let begun = wait::now();
    let peers = Peers::start(&lab, "PEER", count, DVIPA4.parse()?, Duration::from_millis(500), &targets())?;
    peers.all_echoed(begun, Duration::from_secs(120)).with_context(|| plex.logs())?;
    let network = Capture::start(&lab, "PEER", "ext")?;
    let before: Vec<usize> = peers.seen().iter().map(|s| s.child_up.len()).collect();
    let lost = wait::now();
    plex.of_mut("DIST")?.crash();
    // Every one is served by the new owner; and in `renegotiate`, has other SAs.
    wait::until("every peer is served again", Duration::from_secs(60), || {
        let seen = peers.seen();
        let without =
            seen.iter().filter(|s| s.echoes.iter().all(|at| *at < lost + Duration::from_millis(100))).count();
        let old = seen.iter().zip(&before).filter(|(s, b)| s.child_up.len() == **b).count();
        ensure!(without == 0, "{without} have no echo");
        ensure!(old == 0, "{old} have their old SAs still");
        Ok(())
    })
    .with_context(|| plex.logs())?;
    let frames = network.finish()?;
    let mac = lab.mac("BACK", "ext")?;
    let first =
        frames.matching(|s| s.is_esp()).find(|f| f.bytes[6..12] == mac && f.at > lost).map(|f| f.at - lost);
    let seen = peers.finish()?;
    let last = |times: &mut dyn Iterator<Item = std::time::Instant>| times.max().map(|at| at - lost);
    let served = |s: &Seen| s.echoes.iter().copied().find(|at| *at > lost + Duration::from_millis(100));
    let remade = |s: &Seen| s.child_up.iter().copied().find(|at| *at > lost);
    eprintln!(
        "{count} tunnels, {}: first ESP {first:?}; last peer has new SAs {:?}; last peer is served {:?}",
        mode.word(),
        last(&mut seen.iter().filter_map(remade)),
        last(&mut seen.iter().filter_map(served)),
    );
    eprint!("{}", takeover::steps(&takeover::new_owner(&plex)?));
    assert!(seen.iter().all(|s| s.failed.is_empty()));
    Ok(())
}

#[test]
#[ignore = "measures; a thousand tunnels take half a minute to make"]
fn a_thousand_tunnels_are_renegotiated() -> Result<()> {
    thousand(Mode::Renegotiate, "thousand")
}

#[test]
#[ignore = "measures; a thousand tunnels take half a minute to make"]
fn a_thousand_tunnels_go_on() -> Result<()> {
    thousand(Mode::Continue, "thousandc")
}
