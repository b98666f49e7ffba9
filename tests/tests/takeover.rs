//! The owner of the DVIPA is lost, or relieved, under traffic: no connection is lost and nothing is in clear.
//!
//! ```text
//!   PEER (strongSwan) === ext === DIST, BACK === xcf === TGT1-3
//! ```

use anyhow::{Context, Result, ensure};
use e2e::lab::Lab;
use e2e::plex::{Facility, Mode, Plex, Shape, swan_peer};
use e2e::takeover::{Initiator, Loss, Trial, run};
use e2e::{etcd, swan, wait};
use nix::sys::signal::{Signal, kill};
use std::time::Duration;

fn takeover(name: &str, shape: Shape, loss: Loss, initiator: Initiator) -> Result<()> {
    let (facility, mode) = (shape.facility, shape.mode);
    if !swan::installed() || (facility == Facility::Etcd && !etcd::installed()) {
        eprintln!("not run: needs strongSwan with kernel-libipsec, and etcd");
        return Ok(());
    }
    let mut lab = Lab::new(name)?;
    let trial = Trial { downloads: 24, length: 240_000, initiator, ..Trial::new(shape, loss, 1) };
    let report = run(&mut lab, &trial, |_| ())?;
    let text = report.text(&trial);
    eprintln!("{text}");
    report.judge().context(text)?;
    assert_eq!((report.spis.0.len(), report.spis.1.len()), (1, 1), "{:?}", report.spis);
    // Others were negotiated. (In `continue` they may have been rekeyed since.)
    assert!(mode == Mode::Continue || report.spis.0 != report.spis.1, "{:?}", report.spis);
    Ok(())
}

fn shape(facility: Facility, mode: Mode) -> Shape {
    Shape { facility, mode, ..Shape::default() }
}

#[test]
fn a_stack_that_dies_loses_no_connection() -> Result<()> {
    takeover("tkostack", shape(Facility::Sled, Mode::Renegotiate), Loss::Stack, Initiator::Peer)
}

#[test]
fn a_dvipa_that_is_moved_loses_no_connection() -> Result<()> {
    takeover("tkomove", shape(Facility::Sled, Mode::Renegotiate), Loss::Planned, Initiator::Own)
}

#[test]
fn a_dvipa_that_is_moved_with_its_sas_loses_no_connection() -> Result<()> {
    takeover("tkocont", shape(Facility::Sled, Mode::Continue), Loss::Planned, Initiator::Peer)
}

#[test]
fn a_system_that_dies_loses_no_connection() -> Result<()> {
    takeover("tkosys", shape(Facility::Etcd, Mode::Renegotiate), Loss::System, Initiator::Peer)
}

#[test]
fn a_system_that_dies_leaves_its_sas_and_loses_no_connection() -> Result<()> {
    takeover("tkosysc", shape(Facility::Etcd, Mode::Continue), Loss::System, Initiator::Own)
}

#[test]
fn a_dvipa_that_is_moved_to_another_system_loses_no_connection() -> Result<()> {
    takeover("tkofar", shape(Facility::Etcd, Mode::Renegotiate), Loss::Planned, Initiator::Peer)
}

/// The new owner finds the translated ports in the coupling facility.
fn behind_a_napt(name: &str, mode: Mode, loss: Loss) -> Result<()> {
    if !Lab::can_masquerade() {
        eprintln!("not run: nft is not installed");
        return Ok(());
    }
    takeover(name, Shape { napt: true, ..shape(Facility::Etcd, mode) }, loss, Initiator::Peer)
}

#[test]
fn a_peer_behind_a_napt_goes_on_with_its_sas() -> Result<()> {
    behind_a_napt("tkonatc", Mode::Continue, Loss::System)
}

#[test]
fn a_peer_behind_a_napt_is_renegotiated_with() -> Result<()> {
    behind_a_napt("tkonatr", Mode::Renegotiate, Loss::System)
}

/// The stack of an owner dies, another system takes the DVIPA, and the stack comes back: what it had is nobody's any more. Its
/// `iked` once kept it, and took it for alive when the DVIPA came back.
#[test]
fn a_stack_that_died_has_no_sas_of_a_dvipa_that_another_system_took() -> Result<()> {
    if !swan::installed() || !etcd::installed() {
        eprintln!("not run: needs strongSwan with kernel-libipsec, and etcd");
        return Ok(());
    }
    let mut lab = Lab::new("tkoback")?;
    let plex = Plex::start(&mut lab, Shape::default())?;
    let peer = swan_peer(&lab)?;
    peer.initiate("v4")?;
    plex.tunnel("DIST")?;
    let mut before = peer.spis()?;
    for (from, to) in [("DIST", "BACK"), ("BACK", "DIST"), ("DIST", "BACK")] {
        kill(plex.of(from)?.stack_pid(from)?, Signal::SIGKILL)?;
        wait::until(&format!("{to} owns the DVIPA, with SAs of its own"), Duration::from_secs(40), || {
            let (old, new) = (plex.vipa(from)?, plex.vipa(to)?);
            ensure!(new["State"] == "ACTIVE" && old["State"] == "BACKUP", "{old} {new}");
            let stale = plex.of(from)?.entries(&format!("-p {from} -k display"))?;
            ensure!(stale.is_empty(), "{from} has {stale:?}");
            let now = peer.spis()?;
            ensure!(now.len() == 1 && now != before, "the peer has {now:x?}");
            before = now;
            Ok(())
        })
        .with_context(|| plex.logs())?;
    }
    Ok(())
}
