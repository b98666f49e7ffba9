//! Verdicts, dynamic filters and counters.

use super::dynamic::{prefix_of, prefixes};
use super::*;
use crate::control::{DfMode, EspSuite, KeyBytes, Mode};
use crate::control::{FilterKind, FilterView, PortRange, Selector};
use crate::engine::filter::Upper;
use proptest::prelude::*;
use std::net::IpAddr;

fn v4(low: u32, high: u32) -> AddressRange {
    AddressRange { low: IpAddr::V4(low.into()), high: IpAddr::V4(high.into()) }
}

pub(super) fn selector(low: u32, high: u32) -> Selector {
    Selector { addresses: v4(low, high), protocol: None, ports: PortRange::ANY }
}

pub(super) fn anchor(name: &str, direction: Direction, on_demand: bool) -> FilterRule {
    let any = v4(0, u32::MAX);
    FilterRule::new(name, 1, direction, any, any, FilterAction::Ipsec { on_demand })
}

pub(super) fn table(rules: Vec<FilterRule>) -> FilterSet {
    FilterSet {
        epoch: 3,
        policy: true,
        logging: false,
        predecap: false,
        log_implicit: false,
        implicit_icmp: false,
        rules,
    }
}

pub(super) fn pair(tunnel: u32, generation: u32, spi_in: u32, remote: Selector) -> SaPair {
    SaPair {
        tunnel,
        generation,
        ike_tunnel: 1,
        spi_in,
        spi_out: spi_in + 1,
        local: IpAddr::from([192, 0, 2, 1]),
        remote: IpAddr::from([203, 0, 113, 1]),
        udp: None,
        mode: Mode::Tunnel,
        suite: EspSuite::AesGcm16 { key_bits: 128 },
        key_in: KeyBytes(vec![1; 20]),
        key_out: KeyBytes(vec![2; 20]),
        esn: false,
        replay_window: 64,
        local_selectors: vec![selector(0, u32::MAX)],
        remote_selectors: vec![remote],
        rule: "R".into(),
        outbound_active: true,
        df: DfMode::Copy,
        copy_dscp: false,
        soft_bytes: None,
        hard_bytes: None,
        ceiling_of: None,
        continued: None,
    }
}

pub(super) fn subject(direction: Direction, source: u32, destination: u32) -> Subject {
    Subject {
        direction,
        routed: false,
        security_class: 0,
        source: IpAddr::V4(source.into()),
        destination: IpAddr::V4(destination.into()),
        protocol: 6,
        upper: Upper::Ports { source: 1, destination: 2, opens: false },
        fragment: false,
    }
}

#[test]
fn the_dynamic_filter_of_the_peer_decides_and_the_newest_first() {
    let mut spd = Spd::new(1);
    spd.set_filters(
        1,
        table(vec![anchor("R", Direction::Outbound, false), anchor("R", Direction::Inbound, false)]),
    );
    let out = subject(Direction::Outbound, 1, 0x0a00_0005);
    assert_eq!(spd.outbound(&out, None).unwrap_err().reason, DropReason::NoSa);
    spd.add_pair(1, &pair(7, 1, 100, selector(0x0a00_0000, 0x0a00_00ff)));
    assert_eq!(spd.outbound(&out, None).unwrap().0, Outbound::Protect { spi_in: 100 });
    spd.add_pair(1, &pair(8, 1, 200, selector(0x0a00_0005, 0x0a00_0005)));
    assert_eq!(spd.outbound(&out, None).unwrap().0, Outbound::Protect { spi_in: 200 });
    let other = subject(Direction::Outbound, 1, 0x0a00_0006);
    assert_eq!(spd.outbound(&other, None).unwrap().0, Outbound::Protect { spi_in: 100 });
    spd.remove_pair(200);
    assert_eq!(spd.outbound(&out, None).unwrap().0, Outbound::Protect { spi_in: 100 });
    spd.remove_pair(100);
    assert_eq!(spd.outbound(&out, None).unwrap_err().reason, DropReason::NoSa);
}

#[test]
fn t18_the_responder_of_a_rekey_sends_on_the_old_pair_until_told() {
    let mut spd = Spd::new(1);
    spd.set_filters(1, table(vec![anchor("R", Direction::Outbound, false)]));
    let remote = selector(9, 9);
    spd.add_pair(1, &pair(7, 1, 100, remote.clone()));
    spd.add_pair(1, &SaPair { outbound_active: false, ..pair(7, 2, 101, remote) });
    let out = subject(Direction::Outbound, 1, 9);
    assert_eq!(spd.outbound(&out, None).unwrap().0, Outbound::Protect { spi_in: 100 });
    assert!(spd.activate(101));
    assert!(!spd.activate(101));
    assert_eq!(spd.outbound(&out, None).unwrap().0, Outbound::Protect { spi_in: 101 });
    spd.remove_pair(100);
    assert_eq!(spd.outbound(&out, None).unwrap().0, Outbound::Protect { spi_in: 101 });
    assert_eq!(spd.tunnels.iter().flatten().count(), 1);
}

#[test]
fn t38_clear_and_protected_are_not_exchanged() {
    let mut spd = Spd::new(1);
    let mut permit = FilterRule::new("P", 1, Direction::Inbound, v4(1, 1), v4(1, 1), FilterAction::Permit);
    permit.destination = v4(0, u32::MAX);
    let mut other = anchor("S", Direction::Inbound, true);
    other.source = v4(2, 2);
    spd.set_filters(1, table(vec![permit, other, anchor("R", Direction::Inbound, true)]));
    spd.add_pair(1, &pair(7, 1, 100, selector(0, u32::MAX)));
    let from = |n| subject(Direction::Inbound, n, 99);
    let mut judge = |n, through| spd.inbound(&from(n), None, through).map(|a| a.rule).map_err(|d| d.reason);
    assert_eq!(judge(1, None), Ok(0));
    assert_eq!(judge(1, Some(7)), Err(DropReason::ProtectedButClearRequired));
    assert_eq!(judge(2, Some(7)), Err(DropReason::TunnelMismatch));
    assert_eq!(judge(3, None), Err(DropReason::ClearButIpsecRequired));
    assert_eq!(judge(3, Some(7)), Ok(2));
    assert_eq!(judge(3, Some(8)), Err(DropReason::TunnelMismatch), "a tunnel that is gone");
    assert_eq!(spd.summary(), FilterTotals { permits: 2, denies: 0, mismatches: 4 });
}

#[test]
fn views_show_dynamic_filters_before_their_anchor_and_counters_survive_a_reload() {
    let mut spd = Spd::new(1);
    let rules = vec![anchor("R", Direction::Outbound, false), anchor("R", Direction::Inbound, false)];
    spd.set_filters(5, table(rules.clone()));
    spd.set_xcf(Some(v4(1, 3)));
    spd.add_pair(6, &pair(7, 1, 100, selector(9, 9)));
    spd.outbound(&subject(Direction::Outbound, 1, 9), None).unwrap();
    spd.inbound(&subject(Direction::Inbound, 9, 1), None, None).unwrap_err();
    spd.set_filters(8, table(rules));
    let mut survey = spd.begin_survey();
    assert!(spd.survey(&mut survey, 10));
    let view = survey.views();
    let line = |v: &FilterView| (v.rule.name.clone(), v.rule.direction, v.kind);
    let (i, o) = (Direction::Inbound, Direction::Outbound);
    assert_eq!(
        view.iter().map(line).collect::<Vec<_>>(),
        [
            (XCF_RULE.into(), o, FilterKind::Common),
            (XCF_RULE.into(), i, FilterKind::Common),
            ("R".into(), o, FilterKind::Dynamic(7)),
            ("R".into(), o, FilterKind::DynamicAnchor),
            ("R".into(), i, FilterKind::Dynamic(7)),
            ("R".into(), i, FilterKind::DynamicAnchor),
            (IMPLICIT_RULE.into(), o, FilterKind::Generic),
            (IMPLICIT_RULE.into(), i, FilterKind::Generic),
            (IMPLICIT_RULE.into(), o, FilterKind::Generic),
            (IMPLICIT_RULE.into(), i, FilterKind::Generic),
        ]
    );
    assert_eq!(view[2].totals.permits, 1);
    assert_eq!(view[2].created, 6);
    assert_eq!(view[5].totals.mismatches, 1);
}

proptest! {
    #[test]
    fn prefixes_are_the_range_and_nothing_else(a in 0u32..600, b in 0u32..600, edge: bool) {
        let (low, high) = (a.min(b), a.max(b));
        let (low, high) = if edge { (u32::MAX - high, u32::MAX - low) } else { (low, high) };
        let ps = prefixes(&[selector(low, high)]);
        let hit = |n: u32| ps.iter().filter(|p| prefix_of(u128::from(n), p.1, false) == p.2).count();
        for n in low.saturating_sub(3)..=high.saturating_add(3) {
            prop_assert_eq!(hit(n), usize::from(n >= low && n <= high), "{}", n);
        }
        prop_assert!(ps.len() <= 62);
    }

    #[test]
    fn lookup_by_prefix_equals_a_scan_of_the_tunnels(
        ranges in prop::collection::vec((0u32..300, 0u32..300), 1..20), removed in prop::collection::vec(any::<bool>(), 20), peer in 0u32..310,
    ) {
        let mut spd = Spd::new(1);
        spd.set_filters(1, table(vec![anchor("R", Direction::Outbound, false)]));
        for (n, (a, b)) in (1u32..).zip(&ranges) {
            spd.add_pair(1, &pair(n, 1, 1000 + n, selector(*a.min(b), *a.max(b))));
        }
        for (n, r) in (1u32..).zip(&removed) {
            if *r { spd.remove_pair(1000 + n); }
        }
        let expected = (1u32..).zip(&ranges).zip(&removed).filter(|((_, (a, b)), r)| !**r && *a.min(b) <= peer && peer <= *a.max(b)).map(|((n, _), _)| 1000 + n).last();
        let got = spd.outbound(&subject(Direction::Outbound, 1, peer), None);
        match expected {
            Some(spi_in) => prop_assert_eq!(got.unwrap().0, Outbound::Protect { spi_in }),
            None => prop_assert_eq!(got.unwrap_err().reason, DropReason::NoSa),
        }
    }
}

#[test]
fn whole_families_are_one_prefix() {
    assert_eq!(prefixes(&[selector(0, u32::MAX)]), [(false, 0, 0)]);
    let all6 = Selector {
        addresses: AddressRange { low: IpAddr::V6(0.into()), high: IpAddr::V6(u128::MAX.into()) },
        protocol: None,
        ports: PortRange::ANY,
    };
    assert_eq!(prefixes(&[all6]), [(true, 0, 0)]);
}
