//! Traffic selectors as sets: what covers what, and what two sides can agree on (RFC 7296 section 2.9).

use super::types::{AddressRange, TrafficSelector};
use std::net::IpAddr;

/// Selectors of one side that an SA may have at most; a peer that sends more is narrowed to the first ones.
pub(crate) const MAX_SELECTORS: usize = 32;

impl AddressRange {
    /// The range of one address.
    #[must_use]
    pub const fn single(address: IpAddr) -> Self {
        Self { low: address, high: address }
    }

    /// Whether `address` lies in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        same_family(self.low, address) && self.low <= address && address <= self.high
    }

    /// Whether all of `other` lies in the range.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.contains(other.low) && self.contains(other.high)
    }

    /// What both have; `None` if that is nothing.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        if !same_family(self.low, other.low) {
            return None;
        }
        let range = Self { low: self.low.max(other.low), high: self.high.min(other.high) };
        (range.low <= range.high).then_some(range)
    }
}

impl TrafficSelector {
    /// All protocols and ports of some addresses.
    #[must_use]
    pub const fn all_of(addresses: AddressRange) -> Self {
        Self { addresses, protocol: 0, port_low: 0, port_high: u16::MAX }
    }

    /// Ends in order and of one family; what a peer sent otherwise is not used (threats T09). The pair 65535, 0 stands
    /// for OPAQUE ports (RFC 7296 section 3.13.1), which our policies cannot express.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        same_family(self.addresses.low, self.addresses.high)
            && self.addresses.low <= self.addresses.high
            && self.port_low <= self.port_high
    }

    /// Whether all traffic of `other` is traffic of this selector.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.addresses.covers(&other.addresses)
            && (self.protocol == 0 || self.protocol == other.protocol)
            && self.port_low <= other.port_low
            && other.port_high <= self.port_high
    }

    /// The traffic of both; `None` if that is nothing.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let protocol = match (self.protocol, other.protocol) {
            (0, other) => other,
            (own, 0) => own,
            (own, other) if own == other => own,
            _ => return None,
        };
        let both = Self {
            addresses: self.addresses.intersect(&other.addresses)?,
            protocol,
            port_low: self.port_low.max(other.port_low),
            port_high: self.port_high.min(other.port_high),
        };
        (both.port_low <= both.port_high).then_some(both)
    }

    /// Whether it stands for the packets of one address, protocol and port: the first selector of an initiator whose
    /// request a packet caused (RFC 7296 section 2.9).
    #[must_use]
    pub fn is_packet(&self) -> bool {
        self.addresses.low == self.addresses.high && self.protocol != 0 && self.port_low == self.port_high
    }
}

/// Whether `policy` allows everything in `offered`.
pub(crate) fn covered(policy: &[TrafficSelector], offered: &[TrafficSelector]) -> bool {
    !offered.is_empty() && offered.iter().all(|o| policy.iter().any(|p| p.covers(o)))
}

/// The part of `offered` that `policy` allows, in the order of `offered`, at most [`MAX_SELECTORS`], none of which lies
/// within another.
pub(crate) fn narrowed(policy: &[TrafficSelector], offered: &[TrafficSelector]) -> Vec<TrafficSelector> {
    let mut kept: Vec<TrafficSelector> = Vec::new();
    for part in offered.iter().flat_map(|o| policy.iter().filter_map(|p| p.intersect(o))) {
        if kept.iter().any(|k| k.covers(&part)) {
            continue;
        }
        // The first stays the first: it may be the packet's (RFC 7296 section 2.9).
        if kept.len() < MAX_SELECTORS {
            kept.push(part);
        }
    }
    kept
}

/// How what a peer offers fits to a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// A part can be agreed on.
    Part,
    /// A part, which the packet that the peer wants to send is in.
    Packet,
    /// All of it.
    Whole,
}

/// How a rule's selectors and those that a peer offers fit.
pub(crate) fn fit(
    local: &[TrafficSelector],
    remote: &[TrafficSelector],
    offered_local: &[TrafficSelector],
    offered_remote: &[TrafficSelector],
) -> Option<Fit> {
    if covered(local, offered_local) && covered(remote, offered_remote) {
        return Some(Fit::Whole);
    }
    let packet = |policy: &[TrafficSelector], offered: &[TrafficSelector]| {
        offered.first().is_some_and(|first| first.is_packet() && policy.iter().any(|p| p.covers(first)))
    };
    if packet(local, offered_local) && packet(remote, offered_remote) {
        return Some(Fit::Packet);
    }
    let touches = |policy: &[TrafficSelector], offered: &[TrafficSelector]| {
        offered.iter().any(|o| policy.iter().any(|p| p.intersect(o).is_some()))
    };
    (touches(local, offered_local) && touches(remote, offered_remote)).then_some(Fit::Part)
}

fn same_family(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ts(low: &str, high: &str, protocol: u8, ports: (u16, u16)) -> TrafficSelector {
        let addresses = AddressRange { low: low.parse().unwrap(), high: high.parse().unwrap() };
        TrafficSelector { addresses, protocol, port_low: ports.0, port_high: ports.1 }
    }

    #[test]
    fn narrowing_keeps_the_order_of_the_offer_and_drops_what_is_covered() {
        let policy = [ts("10.0.0.0", "10.0.0.255", 6, (80, 80)), ts("10.0.1.0", "10.0.1.255", 0, (0, 65535))];
        let offer = [
            ts("10.0.1.7", "10.0.1.7", 17, (53, 53)),
            ts("10.0.0.0", "10.0.255.255", 0, (0, 65535)),
            ts("fd00::", "fd00::ffff", 0, (0, 65535)),
        ];
        assert_eq!(
            narrowed(&policy, &offer),
            [
                ts("10.0.1.7", "10.0.1.7", 17, (53, 53)),
                ts("10.0.0.0", "10.0.0.255", 6, (80, 80)),
                ts("10.0.1.0", "10.0.1.255", 0, (0, 65535)),
            ]
        );
    }

    #[test]
    fn t09_ranges_the_wrong_way_round_are_not_valid() {
        assert!(!ts("10.0.0.2", "10.0.0.1", 0, (0, 65535)).is_valid());
        assert!(!ts("10.0.0.1", "10.0.0.2", 0, (65535, 0)).is_valid());
        assert!(!ts("10.0.0.1", "fd00::1", 0, (0, 65535)).is_valid());
        assert!(ts("10.0.0.1", "10.0.0.1", 0, (0, 65535)).is_valid());
    }

    #[test]
    fn a_packet_selector_decides_between_rules() {
        let rule = [ts("10.0.0.0", "10.0.0.255", 0, (0, 65535))];
        let offer = [ts("10.0.0.9", "10.0.0.9", 6, (80, 80)), ts("10.0.0.0", "10.0.9.255", 0, (0, 65535))];
        assert_eq!(fit(&rule, &rule, &offer, &offer), Some(Fit::Packet));
        assert_eq!(fit(&rule, &rule, &offer[1..], &offer[1..]), Some(Fit::Part));
        assert_eq!(fit(&rule, &rule, &offer[..1], &offer[..1]), Some(Fit::Whole));
        let other = [ts("10.9.0.0", "10.9.0.255", 0, (0, 65535))];
        assert_eq!(fit(&rule, &other, &offer, &offer), None);
    }

    prop_compose! {
        fn any_selector()(a in 0u32..64, b in 0u32..64, protocol in prop::sample::select(vec![0u8, 6, 17]),
                          p in 0u16..8, q in 0u16..8) -> TrafficSelector {
            let address = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n));
            let addresses = AddressRange { low: address(a.min(b)), high: address(a.max(b)) };
            TrafficSelector { addresses, protocol, port_low: p.min(q), port_high: p.max(q) }
        }
    }

    proptest! {
        #[test]
        fn t09_narrowing_never_widens(policy in prop::collection::vec(any_selector(), 1..6),
                                      offer in prop::collection::vec(any_selector(), 1..50)) {
            let kept = narrowed(&policy, &offer);
            prop_assert!(kept.len() <= MAX_SELECTORS);
            for part in &kept {
                prop_assert!(part.is_valid());
                prop_assert!(policy.iter().any(|p| p.covers(part)));
                prop_assert!(offer.iter().any(|o| o.covers(part)));
            }
        }

        #[test]
        fn what_is_covered_is_not_narrowed(policy in any_selector(), offer in any_selector()) {
            if policy.covers(&offer) {
                prop_assert_eq!(narrowed(&[policy], &[offer]), vec![offer]);
            }
            prop_assert_eq!(policy.intersect(&offer).is_some(), !narrowed(&[policy], &[offer]).is_empty());
        }
    }
}
