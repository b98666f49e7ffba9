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
