//! What captures prove about owners: who sent ESP, with which numbers, and who after whom.

use crate::capture::Frames;
use crate::packet::Seen;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::time::Instant;

/// One ESP packet on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Ethernet source.
    pub by: [u8; 6],
    /// SPI.
    pub spi: u32,
    /// Sequence number, the 32 bits that are sent.
    pub sequence: u32,
    /// When it was captured.
    pub at: Instant,
}

/// The ESP packets of a capture.
#[must_use]
pub fn esp(frames: &Frames) -> Vec<Sent> {
    let one = |f: &crate::packet::Frame| {
        let (spi, offset) = match f.seen {
            Seen::Esp(e, spi) => (spi, if e.source.is_ipv4() { 34 } else { 54 }),
            Seen::EspInUdp(e, spi) => (spi, if e.source.is_ipv4() { 42 } else { 62 }),
            _ => return None,
        };
        let sequence = f.bytes.get(offset + 4..offset + 8)?;
        Some(Sent {
            by: f.bytes.get(6..12)?.try_into().ok()?,
            spi,
            sequence: u32::from_be_bytes(sequence.try_into().ok()?),
            at: f.at,
        })
    };
    frames.frames.iter().filter_map(one).collect()
}

/// Says whether no sequence number was sent twice under one SPI.
///
/// # Errors
/// The first that was.
pub fn no_number_twice(sent: &[Sent]) -> Result<()> {
    let mut seen: BTreeMap<(u32, u32), [u8; 6]> = BTreeMap::new();
    for s in sent {
        if let Some(by) = seen.insert((s.spi, s.sequence), s.by) {
            anyhow::bail!(
                "SPI {:08x}, number {}: sent twice, by {by:02x?} and {:02x?}",
                s.spi,
                s.sequence,
                s.by
            );
        }
    }
    Ok(())
}

/// Says whether the gateways sent one after the other and none came back before `again` allows it: once another has sent, the
/// one before is silent.
///
/// # Errors
/// When one that was relieved sent once more.
pub fn one_after_the_other(sent: &[Sent], gateways: &[[u8; 6]]) -> Result<Vec<[u8; 6]>> {
    let mut order: Vec<[u8; 6]> = Vec::new();
    for s in sent.iter().filter(|s| gateways.contains(&s.by)) {
        if order.last() != Some(&s.by) {
            ensure!(
                !order.contains(&s.by),
                "{:02x?} sent ESP (SPI {:08x}, number {}) after {:02x?} had",
                s.by,
                s.spi,
                s.sequence,
                order.last()
            );
            order.push(s.by);
        }
    }
    Ok(order)
}
