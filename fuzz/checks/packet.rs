//! Any octets as an IP packet: parsed, seen as a fragment, as an ICMP error, as a piece of a UDP read.

use stack::engine::icmp::{self, Quoted};
use stack::engine::reassemble::{Limits, Reassembler};
use stack::engine::udp_encap::classify;
use stack::wire::packet::Parsed;
use std::time::Instant;

pub(crate) fn check(data: &[u8]) {
    let _ = classify(data);
    fragments(data);
    let Ok(parsed) = Parsed::parse(data) else { return };
    assert!(parsed.header_len <= parsed.total_len && parsed.total_len <= data.len());
    let _ = icmp::may_answer(&parsed);
    let _ = Quoted::of(&parsed, data);
}

/// The octets cut into packets by a length in front of each.
#[allow(clippy::disallowed_methods, reason = "some instant to count from")]
fn fragments(data: &[u8]) {
    let now = Instant::now();
    let limits = Limits::default();
    let mut reassembler = Reassembler::new(limits, 1);
    let mut rest = data;
    while let Some((&length, tail)) = rest.split_first() {
        let (packet, tail) = tail.split_at(usize::from(length).min(tail.len()));
        if let Ok(parsed) = Parsed::parse(packet)
            && let Ok(Some(whole)) = reassembler.push(0, packet, &parsed, now)
            // A UDP length that no fragment could show to be wrong shows now.
            && let Ok(parsed) = Parsed::parse(&whole)
        {
            assert!(parsed.fragment.is_none());
        }
        rest = tail;
    }
}
