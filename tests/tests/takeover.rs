//! The owner of the DVIPA is lost, or relieved, under traffic: no connection is lost and nothing is in clear.
//!
//! ```text
//!   PEER (strongSwan) === ext === DIST, BACK === xcf === TGT1-3
//! ```

use anyhow::{Context, Result};
use e2e::lab::Lab;
use e2e::plex::{Facility, Mode, Shape};
use e2e::takeover::{Initiator, Loss, Trial, run};
use e2e::{etcd, swan};

fn takeover(name: &str, facility: Facility, loss: Loss, initiator: Initiator) -> Result<()> {
    if !swan::installed() || (facility == Facility::Etcd && !etcd::installed()) {
        eprintln!("not run: needs strongSwan with kernel-libipsec, and etcd");
        return Ok(());
    }
    let mut lab = Lab::new(name)?;
    let shape = Shape { facility, mode: Mode::Renegotiate, ..Shape::default() };
    let trial = Trial { downloads: 24, length: 240_000, initiator, ..Trial::new(shape, loss, 1) };
    let report = run(&mut lab, &trial, |_| ())?;
    let text = report.text(&trial);
    eprintln!("{text}");
    report.judge().context(text)?;
    // One pair of SAs, and it is not the one that was.
    assert_eq!((report.spis.0.len(), report.spis.1.len()), (1, 1), "{:?}", report.spis);
    assert_ne!(report.spis.0, report.spis.1);
    Ok(())
}

#[test]
fn a_stack_that_dies_loses_no_connection() -> Result<()> {
    takeover("tkostack", Facility::Sled, Loss::Stack, Initiator::Peer)
}

#[test]
fn a_dvipa_that_is_moved_loses_no_connection() -> Result<()> {
    takeover("tkomove", Facility::Sled, Loss::Planned, Initiator::Own)
}

#[test]
fn a_system_that_dies_loses_no_connection() -> Result<()> {
    takeover("tkosys", Facility::Etcd, Loss::System, Initiator::Peer)
}

#[test]
fn a_dvipa_that_is_moved_to_another_system_loses_no_connection() -> Result<()> {
    takeover("tkofar", Facility::Etcd, Loss::Planned, Initiator::Peer)
}
