//! The compiled table against the plain search, and what single filters mean.

use super::classifier::{COPIES, LEAF};
use super::*;
use crate::control::AddressRange;
use proptest::prelude::*;
use std::cell::Cell;
use std::net::Ipv4Addr;

fn rule(direction: Direction, source: AddressRange, destination: AddressRange) -> FilterRule {
    FilterRule::new("R", 1, direction, source, destination, FilterAction::Permit)
}

fn v4(low: u32, high: u32) -> AddressRange {
    AddressRange { low: IpAddr::V4(low.min(high).into()), high: IpAddr::V4(low.max(high).into()) }
}

fn addresses() -> impl Strategy<Value = AddressRange> {
    prop_oneof![
        Just(v4(0, u32::MAX)),
        (0u32..64).prop_map(|a| v4(a, a)),
        (0u32..64, 0u32..64).prop_map(|(a, b)| v4(a, b)),
        (0u128..64, 0u128..64).prop_map(|(a, b)| AddressRange {
            low: IpAddr::V6(a.min(b).into()),
            high: IpAddr::V6(a.max(b).into())
        }),
        Just(AddressRange { low: IpAddr::V6(0.into()), high: IpAddr::V6(u128::MAX.into()) }),
    ]
}

fn ports() -> impl Strategy<Value = PortRange> {
    prop_oneof![
        3 => Just(PortRange::ANY),
        1 => (0u16..20, 0u16..20).prop_map(|(a, b)| PortRange { low: a.min(b), high: a.max(b) }),
        1 => (65530u16..=65535).prop_map(|a| PortRange { low: a, high: u16::MAX }),
    ]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Inbound), Just(Direction::Outbound)]
}

prop_compose! {
    fn any_rule()(
        direction in direction(), source in addresses(), destination in addresses(),
        protocol in prop_oneof![Just(None), Just(Some(6u8)), Just(Some(1)), Just(Some(17))],
        source_ports in ports(), destination_ports in ports(),
        (icmp, icmp_code) in (prop_oneof![4 => Just(None), 1 => (0u8..10, 0u8..10).prop_map(|(a, b)| Some((a.min(b), a.max(b))))], any::<bool>()),
        scope in prop_oneof![Just(Scope::Local), Just(Scope::Routed), Just(Scope::Either)],
        class in prop_oneof![4 => Just(0u8), 1 => Just(1u8)],
        qualifier in prop_oneof![4 => Just(TcpQualifier::None), 1 => Just(TcpQualifier::InboundConnect), 1 => Just(TcpQualifier::OutboundConnect)],
        (fragments_only, opaque) in (prop::bool::weighted(0.1), prop::bool::weighted(0.05)),
        action in prop_oneof![Just(FilterAction::Permit), Just(FilterAction::Deny), Just(FilterAction::Ipsec { on_demand: true })],
    ) -> FilterRule {
        let mut r = rule(direction, source, destination);
        // Addresses of one rule are of one family (control.rs); mixed ones become "any of the source's family".
        if r.source.low.is_ipv4() != r.destination.low.is_ipv4() {
            r.destination = r.source;
        }
        r.protocol = protocol;
        (r.source_ports, r.destination_ports) = (source_ports, destination_ports);
        if icmp_code { r.icmp_code = icmp } else { r.icmp_type = icmp }
        r.action = action;
        (r.scope, r.security_class, r.tcp_qualifier) = (scope, class, qualifier);
        (r.fragments_only, r.opaque) = (fragments_only, opaque);
        r
    }
}

/// SplitMix64: packets are drawn from a seed, so that thousands for each policy cost little.
struct Packets(u64);

impl Packets {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn address(&mut self, near: AddressRange) -> IpAddr {
        let last = if near.low.is_ipv6() { u128::MAX } else { u128::from(u32::MAX) };
        let n = match self.below(4) {
            0 => number(near.low),
            1 => number(near.high),
            2 => number(near.high).saturating_add(1).min(last),
            _ => u128::from(self.below(70)),
        };
        if near.low.is_ipv6() { IpAddr::V6(n.into()) } else { IpAddr::V4(u32::try_from(n).unwrap().into()) }
    }

    fn port(&mut self, near: PortRange) -> u16 {
        match self.below(4) {
            0 => near.low,
            1 => near.high,
            2 => near.high.wrapping_add(1),
            _ => u16::try_from(self.below(22)).unwrap(),
        }
    }

    fn byte(&mut self, limit: u64) -> u8 {
        u8::try_from(self.below(limit)).unwrap()
    }

    /// At the edges of this rule or just beside them: there a wrong cut shows.
    fn subject(&mut self, near: &FilterRule) -> Subject {
        let protocol = match (self.below(4), near.protocol) {
            (1.., Some(p)) => p,
            _ => [6, 17, 1, 58, 50, 60][usize::from(self.byte(6))],
        };
        let fragment = self.below(4) == 0;
        let upper = match protocol {
            _ if fragment && self.below(2) == 0 => Upper::Opaque,
            6 | 17 => Upper::Ports {
                source: self.port(near.source_ports),
                destination: self.port(near.destination_ports),
                opens: protocol == 6 && self.below(2) == 0,
            },
            1 | 58 => Upper::Type { kind: self.byte(12), code: self.byte(12) },
            _ => Upper::None,
        };
        let mut s = Subject {
            direction: near.direction,
            routed: match near.scope {
                Scope::Local => false,
                Scope::Routed => true,
                Scope::Either => self.below(2) == 0,
            },
            security_class: self.byte(2),
            source: self.address(near.source),
            destination: self.address(near.destination),
            protocol,
            upper,
            fragment,
        };
        if self.below(8) == 0 {
            s.routed = !s.routed;
        }
        if self.below(16) == 0 { s.reversed() } else { s }
    }
}

const POLICIES: u32 = 500;
const PACKETS: u32 = 4_000;

/// Two million packets and more, each against a policy of up to 160 filters that overlap.
#[test]
fn tree_equals_the_plain_search() {
    let (judged, matched) = (Cell::new(0u32), Cell::new(0u32));
    proptest!(ProptestConfig::with_cases(POLICIES), |(
        rules in prop_oneof![1 => prop::collection::vec(any_rule(), 1..8), 3 => prop::collection::vec(any_rule(), 8..160)],
        seed in any::<u64>(),
    )| {
        let compiled = Classifier::compile(&rules);
        let mut packets = Packets(seed);
        for _ in 0..PACKETS {
            let near = usize::try_from(packets.below(rules.len() as u64)).unwrap();
            let s = packets.subject(&rules[near]);
            let plain = plain_search(&rules, &s);
            prop_assert_eq!(compiled.classify(&rules, &s), plain, "{:?}", s);
            judged.set(judged.get() + 1);
            matched.set(matched.get() + u32::from(plain.is_some()));
        }
    });
    assert!(judged.get() >= 2_000_000, "{}", judged.get());
    let percent = u64::from(matched.get()) * 100 / u64::from(judged.get());
    assert!((25..98).contains(&percent), "packets that match a rule: {percent}%");
}

/// The same range so many digits further up.
fn scaled(r: AddressRange, digits: u32) -> AddressRange {
    match (r.low, r.high) {
        (IpAddr::V4(low), IpAddr::V4(high)) if high != Ipv4Addr::BROADCAST => {
            v4(u32::from(low) << digits, u32::from(high) << digits | ((1 << digits) - 1))
        }
        _ => r,
    }
}

/// Large enough for several trees and for a search among wide rules alone for those that hide others.
#[test]
fn large_tables_equal_the_plain_search() {
    let rule = (any_rule(), 0u32..26).prop_map(|(mut r, digits)| {
        (r.source, r.destination) = (scaled(r.source, digits), scaled(r.destination, 25 - digits));
        r
    });
    proptest!(ProptestConfig::with_cases(6), |(rules in prop::collection::vec(rule, 8_000..12_000), seed in any::<u64>())| {
        let compiled = Classifier::compile(&rules);
        let mut packets = Packets(seed);
        for _ in 0..4_000 {
            let near = usize::try_from(packets.below(rules.len() as u64)).unwrap();
            let s = packets.subject(&rules[near]);
            prop_assert_eq!(compiled.classify(&rules, &s), plain_search(&rules, &s), "{:?}", s);
        }
    });
}

#[test]
fn a_rule_that_no_packet_reaches_takes_no_room() {
    let any = v4(0, u32::MAX);
    let mut rules = vec![rule(Direction::Inbound, v4(0x0a00_0000, 0x0aff_ffff), any)];
    rules.extend(
        (0..5_000).map(|i| rule(Direction::Inbound, v4(0x0a00_0000 + i, 0x0a00_0000 + i), v4(i, u32::MAX))),
    );
    let hidden = Classifier::compile(&rules).entries();
    // One that is asked about more than its box hides nothing.
    rules[0].security_class = 7;
    let shown = Classifier::compile(&rules).entries();
    assert!(hidden < 30 && shown > 5_000, "{hidden} {shown}");
}

#[test]
fn without_rules_nothing_matches() {
    let s = Packets(1).subject(&rule(Direction::Inbound, v4(1, 9), v4(1, 9)));
    assert_eq!(Classifier::compile(&[]).classify(&[], &s), None);
}

#[test]
fn ten_thousand_usual_rules_cost_a_short_path() {
    let mut rules: Vec<_> = (0..10_000u32)
        .map(|i| {
            let mut r =
                rule(Direction::Inbound, v4(0x0a00_0000 + i * 16, 0x0a00_000f + i * 16), v4(0, u32::MAX));
            r.protocol = Some(6);
            r
        })
        .collect();
    rules.push(rule(Direction::Inbound, v4(0, u32::MAX), v4(0, u32::MAX)));
    let c = Classifier::compile(&rules);
    let (depth, leaf) = c.deepest();
    assert!(depth <= 6, "{depth}");
    assert!(leaf <= LEAF + 1, "{leaf}");
    // Two tables hold them: ports known, ports unknown.
    assert!(c.entries() < 2 * 20_000, "{}", c.entries());
}

/// A cross: rules that are wide in one address and `width` in the other, and the other way round.
fn cross(count: u32, width: u32) -> Vec<FilterRule> {
    let any = v4(0, u32::MAX);
    (0..count)
        .map(|i| {
            let narrow = v4(i, i + width);
            let (source, destination) = if i % 2 == 0 { (narrow, any) } else { (any, narrow) };
            rule(Direction::Inbound, source, destination)
        })
        .collect()
}

#[test]
fn memory_stays_bounded_when_every_rule_meets_every_other() {
    for width in [0, 40, 5_000] {
        let rules = cross(2_000, width);
        let c = Classifier::compile(&rules);
        assert!(c.entries() < 2 * 2_000 * (COPIES + 1), "{width}: {}", c.entries());
        let mut packets = Packets(1);
        for near in rules.iter().cycle().take(4_000) {
            let s = packets.subject(near);
            assert_eq!(c.classify(&rules, &s), plain_search(&rules, &s), "{width}: {s:?}");
        }
    }
    let parted = Classifier::compile(&cross(2_000, 0));
    assert_eq!(parted.trees(), 4, "two trees with ports known, two without");
    assert!(parted.deepest().1 <= LEAF, "{:?}", parted.deepest());
}

#[test]
fn a_fragment_without_ports_does_not_slip_past_a_deny() {
    let mut deny = rule(Direction::Inbound, v4(0, u32::MAX), v4(0, u32::MAX));
    deny.action = FilterAction::Deny;
    deny.destination_ports = PortRange { low: 23, high: 23 };
    deny.protocol = Some(6);
    deny.scope = Scope::Routed;
    let mut permit = rule(Direction::Inbound, v4(0, u32::MAX), v4(0, u32::MAX));
    permit.scope = Scope::Routed;
    let rules = [deny, permit];
    let c = Classifier::compile(&rules);
    let mut s = Subject {
        direction: Direction::Inbound,
        routed: true,
        security_class: 0,
        source: IpAddr::V4(1.into()),
        destination: IpAddr::V4(2.into()),
        protocol: 6,
        upper: Upper::Opaque,
        fragment: true,
    };
    assert_eq!(c.classify(&rules, &s), None);
    s.protocol = 17;
    assert_eq!(c.classify(&rules, &s), Some(1));
}

#[test]
fn connect_qualifiers_close_one_way_only() {
    let mut r = rule(Direction::Outbound, v4(1, 1), v4(2, 2));
    r.protocol = Some(6);
    r.tcp_qualifier = TcpQualifier::InboundConnect;
    let mut s = Subject {
        direction: Direction::Outbound,
        routed: false,
        security_class: 0,
        source: IpAddr::V4(1.into()),
        destination: IpAddr::V4(2.into()),
        protocol: 6,
        upper: Upper::Ports { source: 443, destination: 1025, opens: true },
        fragment: false,
    };
    assert!(!matches(&r, &s), "an outbound SYN does not match InboundConnect");
    s.upper = Upper::Ports { source: 443, destination: 1025, opens: false };
    assert!(matches(&r, &s));
    r.direction = Direction::Inbound;
    (s.direction, s.source, s.destination) = (Direction::Inbound, s.destination, s.source);
    (r.source, r.destination) = (r.destination, r.source);
    s.upper = Upper::Ports { source: 1025, destination: 443, opens: true };
    assert!(matches(&r, &s), "the inbound one does");
    r.tcp_qualifier = TcpQualifier::OutboundConnect;
    assert!(!matches(&r, &s), "but not OutboundConnect");
}
