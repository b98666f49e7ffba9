//! Stories of two stacks that protect traffic between them, without sysplex: what passes, what does not, what is counted.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests: helpers beside #[test] functions too"
)]

mod common;

use common::*;
use proptest::prelude::*;
use stack::control::{
    AddressRange, EspIntegrity, EspSuite, FilterAction, FilterKind, KeyBytes, MANUAL_TUNNELS, Mode,
    PortRange, Role, SaNotice, SaPair, Scope, Selector, UpperLayer, manual_anchor,
};
use stack::engine::io::{UdpArrival, VnetHeader};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const A: IpAddr = PEER;
const B: IpAddr = DVIPA;

/// Two hosts, A and B, with everything between them protected by one tunnel.
fn two() -> World {
    let mut w = unprotected();
    let (a, b) = pair(A, B, 0x1000, "R");
    w.sa("A", a);
    w.sa("B", b);
    w
}

fn unprotected() -> World {
    let mut w = World::new(vec![
        Node::new("A", None, vec![home(A, Role::Static)], &[]),
        Node::new("B", None, vec![home(B, Role::Static)], &[]),
    ]);
    w.filters("A", both("R", one(A), one(B), IPSEC));
    w.filters("B", both("R", one(B), one(A), IPSEC));
    w
}

fn flow() -> Ends {
    ends(A, 40_000, B, 443)
}

#[test]
fn a_handshake_and_data_pass_unchanged_and_only_as_esp() {
    let mut w = two();
    let data = b"GET / HTTP/1.1\r\n\r\n";
    w.send("A", flow().tcp("S", 1, 0, b""));
    w.send("B", flow().back().tcp("SA", 100, 2, b""));
    w.send("A", flow().tcp("A", 2, 101, b""));
    w.send("A", flow().tcp("AP", 2, 101, data));
    let b = &w.nodes[1].app;
    assert_eq!(b.len(), 3);
    let syn = check_tcp(&b[0].1);
    // 1500 - IPv4 20 - ESP 8 - IV 8 - ICV 16 - pad length and next header 2 = 1446, of that a multiple of 4 with them.
    assert_eq!(mss_of(&syn), Some(1406), "as much as fits the tunnel, both ways");
    assert_eq!(b[2].1, flow().tcp("AP", 2, 101, data), "what was sent, octet by octet");
    assert_eq!(mss_of(&check_tcp(&w.nodes[0].app[0].1)), Some(1406));
    assert_eq!(w.wire.len(), 4);
    assert!(w.wire.iter().all(|p| matches!(p, OnWire::Esp { .. })));
    assert!(w.nodes.iter().all(|n| n.clear.is_empty()));
    assert_eq!((w.drops("A"), w.drops("B")), (vec![], vec![]));
    let totals: Vec<_> = w.nodes[1]
        .filters(w.now)
        .into_iter()
        .filter(|f| matches!(f.kind, FilterKind::Dynamic(_)))
        .map(|f| (f.rule.name, f.rule.extension, f.totals.permits))
        .collect();
    assert_eq!(totals, [("R".into(), 1, 1), ("R".into(), 2, 3)]);
    assert_eq!(w.nodes[1].notices, [(0x1000, SaNotice::FirstInbound)]);
}

fn super_packets_cross(udp: bool) {
    let mut w = unprotected();
    let (mut a, mut b) = pair(A, B, 0x1000, "R");
    if udp {
        a.udp = Some((4500, 4500));
        b.udp = Some((4500, 4500));
    }
    w.sa("A", a);
    w.sa("B", b);
    let data: Vec<u8> = (0..40_000u32).map(|n| (n % 251) as u8).collect();
    let (header, packet) = flow().tso(1000, 1, &data, 1398);
    w.tun("A", header, packet);
    let app = &w.nodes[1].app;
    assert_eq!(app.len(), 1, "joined again");
    let (header, p) = &app[0];
    assert_eq!((header.gso_type, header.gso_size, header.flags, header.hdr_len), (1, 1398, 1, 40));
    assert_eq!(p[40..], data);
    assert_eq!(etherparse::Ipv4HeaderSlice::from_slice(p).unwrap().total_len() as usize, p.len());
    let segments = data.len().div_ceil(1398);
    if udp {
        assert!(matches!(&w.wire[..], [OnWire::EspInUdp { segment, bytes, .. }]
            if bytes.len().div_ceil(*segment) == segments && *segment <= 1500 - 28));
    } else {
        assert_eq!(w.wire.len(), segments);
    }
    assert_eq!((w.drops("A"), w.drops("B")), (vec![], vec![]));
}

#[test]
fn a_super_packet_is_cut_sealed_opened_and_joined_again() {
    super_packets_cross(false);
    super_packets_cross(true);
}

#[test]
fn t46_a_super_packet_of_segments_that_do_not_fit_is_cut_smaller() {
    let mut w = two();
    let data = vec![7u8; 20_000];
    let (header, packet) = flow().tso(1000, 1, &data, 1460);
    w.tun("A", header, packet);
    assert_eq!(w.nodes[1].app[0].1[40..], data);
    for p in &w.wire {
        let OnWire::Esp { bytes, .. } = p else { panic!() };
        assert!(bytes.len() + 20 <= 1500);
    }
}

#[test]
fn t46_what_does_not_fit_is_answered_and_counted() {
    let mut w = two();
    let p = ends(A, 1, B, 2).tcp("A", 1, 1, &[0; 1460]);
    w.send("A", p.clone());
    assert!(w.wire.is_empty());
    assert_eq!(w.drops("A"), [("too_big".into(), 1)]);
    let (_, answer) = &w.nodes[0].app[0];
    let parsed = etherparse::PacketHeaders::from_ip_slice(answer).unwrap();
    let Some(etherparse::TransportHeader::Icmpv4(icmp)) = parsed.transport else { panic!() };
    let etherparse::Icmpv4Type::DestinationUnreachable(
        etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu },
    ) = icmp.icmp_type
    else {
        panic!("{icmp:?}")
    };
    assert_eq!(next_hop_mtu, 1446);
    w.send("A", ends(A, 1, B, 2).tcp("A", 1, 1, &[0; 1406]));
    assert_eq!(w.nodes[1].app.len(), 1, "what the answer says fits");
    let OnWire::Esp { bytes, .. } = &w.wire[0] else { panic!() };
    assert_eq!(bytes.len() + 20, 1500);
    w.send("A", ends(A, 1, B, 2).udp(&[0; 1460]));
    assert_eq!(w.nodes[1].app.len(), 2, "without DF it is sealed whole, for the network to fragment");
}

#[test]
fn t38_clear_where_protection_is_due_is_dropped_both_ways_and_at_any_time() {
    let mut w = unprotected();
    w.send("B", flow().tcp("S", 1, 0, b""));
    assert_eq!(w.drops("B"), [("clear_but_ipsec_required".into(), 1)]);
    let (a, b) = pair(A, B, 0x1000, "R");
    w.sa("A", a);
    w.sa("B", b);
    w.send("B", flow().tcp("S", 1, 0, b""));
    assert_eq!(w.dropped("B", "clear_but_ipsec_required"), 2);
    w.n("B").engine.remove_all_sas();
    w.send("B", flow().tcp("S", 1, 0, b""));
    assert_eq!(w.dropped("B", "clear_but_ipsec_required"), 3);
    w.send("B", flow().back().tcp("SA", 1, 2, b""));
    w.filters("B", vec![]);
    w.send("B", flow().tcp("S", 1, 0, b""));
    w.send("B", flow().back().tcp("SA", 1, 2, b""));
    assert_eq!(w.dropped("B", "implicit_deny"), 2);
    assert!(w.nodes[1].app.iter().all(|(_, p)| p[9] == 1), "nothing but ICMP for the own application");
    assert!(w.nodes[1].clear.is_empty());
    let mismatch = w.nodes[1].logs.iter().find(|l| l.contains("clear_but_ipsec_required")).unwrap();
    assert!(mismatch.contains("rule R.2, in 198.51.100.7.40000 -> 192.0.2.80.443 protocol 6"), "{mismatch}");
}

#[test]
fn t38_esp_where_policy_says_clear_is_dropped() {
    let mut w = two();
    w.filters("B", both("P", one(B), one(A), FilterAction::Permit));
    w.send("A", flow().tcp("S", 1, 0, b""));
    assert_eq!(w.drops("B"), [("protected_but_clear_required".into(), 1)]);
    assert!(w.nodes[1].app.is_empty());
}

#[test]
fn permitted_clear_traffic_passes_unchanged_both_ways() {
    let mut w = unprotected();
    let mut rules = both("P", one(B), any4(), FilterAction::Permit);
    rules[1].tcp_qualifier = stack::control::TcpQualifier::InboundConnect;
    rules[0].tcp_qualifier = stack::control::TcpQualifier::InboundConnect;
    w.filters("B", rules);
    let f = ends(STRANGER, 5, B, 80);
    w.send("B", f.tcp("S", 1, 0, b""));
    assert_eq!(w.nodes[1].app[0].1, f.tcp("S", 1, 0, b""));
    w.send("B", f.back().tcp("SA", 1, 2, b""));
    assert_eq!(w.nodes[1].clear[0].1, f.back().tcp("SA", 1, 2, b""));
    w.send("B", ends(B, 1025, STRANGER, 80).tcp("S", 1, 0, b""));
    assert_eq!(w.drops("B"), [("implicit_deny".into(), 1)], "the qualifier: only they may connect");
}

#[test]
fn a_denied_application_hears_of_it_and_a_stranger_only_if_the_rule_says_so() {
    let mut w = unprotected();
    let mut rules = both("N", one(B), any4(), FilterAction::Deny);
    w.filters("B", rules.clone());
    w.send("B", ends(STRANGER, 5, B, 80).udp(b"x"));
    assert!(w.nodes[1].clear.is_empty());
    w.send("B", ends(B, 5, STRANGER, 80).udp(b"x"));
    assert_eq!(w.nodes[1].app.len(), 1);
    assert_eq!(w.nodes[1].app[0].1[20..22], [3, 13]);
    rules[1].discard_icmp = true;
    w.filters("B", rules);
    w.send("B", ends(STRANGER, 5, B, 80).udp(b"x"));
    assert_eq!(w.nodes[1].clear[0].1[20..22], [3, 13]);
    assert_eq!(destination(&w.nodes[1].clear[0].1), STRANGER);
    assert_eq!(w.drops("B"), [("filter_deny".into(), 3)]);
}

#[test]
fn t36_what_lies_outside_the_selectors_is_dropped_after_opening() {
    let mut w = unprotected();
    let (a, mut b) = pair(A, B, 0x1000, "R");
    let ports = PortRange { low: 443, high: 443 };
    b.local_selectors = vec![Selector { ports, protocol: Some(6), ..selector(one(B)) }];
    w.sa("A", a);
    w.sa("B", b);
    w.send("A", ends(A, 1, B, 444).tcp("S", 1, 0, b""));
    w.send("A", ends(A, 1, B, 443).udp(b""));
    assert_eq!(w.drops("B"), [("selector_violation".into(), 2)]);
    w.send("A", ends(A, 1, B, 443).tcp("S", 1, 0, b""));
    assert_eq!(w.nodes[1].app.len(), 1);
    assert!(
        w.nodes[1]
            .logs
            .iter()
            .any(|l| l.contains("in 198.51.100.7.1 -> 192.0.2.80.444 protocol 6 by tunnel"))
    );
}

#[test]
fn a_packet_of_the_wrong_tunnel_is_a_mismatch() {
    // One tunnel for port 443 by rule W, one for the rest by rule R; the peer sends port 443 through the wrong one.
    let mut w = two();
    let mut web = both("W", one(B), one(A), IPSEC);
    web[0].protocol = Some(6);
    web[0].source_ports = PortRange { low: 443, high: 443 };
    web[1].protocol = Some(6);
    web[1].destination_ports = PortRange { low: 443, high: 443 };
    web.extend(both("R", one(B), one(A), IPSEC));
    w.filters("B", web);
    w.send("A", flow().tcp("S", 1, 0, b""));
    assert_eq!(w.drops("B"), [("tunnel_mismatch".into(), 1)]);
    w.send("A", ends(A, 1, B, 80).tcp("S", 1, 0, b""));
    assert_eq!(w.nodes[1].app.len(), 1);
}

#[test]
fn t33_t34_t25_forged_and_repeated_esp() {
    let mut w = two();
    w.send("A", flow().tcp("S", 1, 0, b""));
    let OnWire::Esp { bytes, .. } = w.wire[0].clone() else { panic!() };
    w.esp("B", A, B, bytes.clone());
    assert_eq!(w.drops("B"), [("replay".into(), 1)]);
    let mut forged = bytes.clone();
    forged[7] = 200;
    w.esp("B", A, B, forged);
    let last = bytes.len() - 1;
    let mut flipped = bytes.clone();
    flipped[7] = 2;
    flipped[last] ^= 1;
    w.esp("B", A, B, flipped);
    assert_eq!(w.dropped("B", "authentication_failed"), 2);
    for spi in [0u32, 1, 255] {
        let mut p = bytes.clone();
        p[..4].copy_from_slice(&spi.to_be_bytes());
        w.esp("B", A, B, p);
    }
    assert_eq!(w.dropped("B", "reserved_spi"), 3);
    for spi in [256u32, 0x1001, 0xffff_ffff] {
        let mut p = bytes.clone();
        p[..4].copy_from_slice(&spi.to_be_bytes());
        w.esp("B", A, B, p);
    }
    w.esp("B", A, STRANGER, bytes.clone());
    assert_eq!(w.dropped("B", "unknown_spi"), 4);
    w.esp("B", STRANGER, B, bytes.clone());
    assert_eq!(w.dropped("B", "wrong_encapsulation"), 1);
    w.esp("B", A, B, bytes[..7].to_vec());
    assert_eq!(w.dropped("B", "malformed_esp"), 1);
    assert_eq!(w.nodes[1].app.len(), 1, "exactly one delivery");
    assert!(w.wire.len() == 1 && w.nodes[1].clear.is_empty(), "no answer to any of it");
    w.send("A", flow().tcp("S", 1, 0, b""));
    assert_eq!(w.nodes[1].app.len(), 2, "a forged number did not move the window");
}

#[test]
fn t37_impossible_inner_packets() {
    let mut w = unprotected();
    let (mut a, mut b) = pair(A, B, 0x1000, "R");
    a.local_selectors = vec![selector(any4())];
    a.remote_selectors = vec![selector(any4())];
    b.local_selectors = vec![selector(any4())];
    b.remote_selectors = vec![selector(any4())];
    let mut rules = both("R", any4(), any4(), IPSEC);
    for r in &mut rules {
        r.scope = Scope::Either;
    }
    w.filters("A", rules[..1].to_vec());
    w.filters("B", rules);
    w.nodes[1].config.xcf = Some(stack::control::Xcf { interface: "x".into(), address: xcf(1) });
    w.nodes[1].config.members = vec![stack::control::Member { name: "S2".into(), xcf: xcf(2), start: None }];
    w.configure(1);
    w.sa("A", a);
    w.sa("B", b);
    let nest = |to: IpAddr, proto: u8| {
        let mut p = ends(A, 1, to, 2).udp(&[0; 40]);
        p[9] = proto;
        p[10..12].fill(0);
        let check = stack::wire::checksum::Sum::ZERO.with(&p[..20]).finish();
        p[10..12].copy_from_slice(&check);
        p
    };
    // A sends as a gateway for anything; its own engine only looks at the outer layers of it.
    for proto in [50, 51, 47] {
        w.send("A", nest(B, proto));
    }
    w.send("A", ends(A, 4500, B, 4500).udp(&[0; 40]));
    assert_eq!(w.dropped("B", "nesting"), 4);
    w.send("A", nest(xcf(1), 47));
    w.send("A", nest(xcf(2), 47));
    assert_eq!(w.dropped("B", "gre_not_xcf"), 2, "T41: GRE for the XCF out of a tunnel");
    w.send("A", ends(B, 1, B, 2).udp(b"x"));
    assert_eq!(w.dropped("B", "forged_from_home"), 1);
    w.send("A", ends(IpAddr::from([127, 0, 0, 1]), 1, B, 2).udp(b"x"));
    w.send("A", ends(IpAddr::from([224, 0, 0, 1]), 1, B, 2).udp(b"x"));
    assert_eq!(w.dropped("B", "martian") + w.dropped("A", "martian"), 2);
    assert!(w.nodes[1].app.is_empty() && w.nodes[1].clear.is_empty());
}

#[test]
fn an_sa_is_asked_for_once_and_what_waited_goes_out_in_order() {
    let mut w = unprotected();
    for n in 1..=5u32 {
        w.send("A", flow().tcp("S", n, 0, b""));
    }
    assert_eq!(w.nodes[0].acquires.len(), 1);
    let asked = w.nodes[0].acquires[0].clone();
    assert_eq!((asked.rule.as_str(), asked.source, asked.destination, asked.protocol), ("R", A, B, 6));
    assert!(matches!(asked.upper, UpperLayer::Ports { destination: 443, .. }), "{asked:?}");
    assert!(w.wire.is_empty());
    let (a, b) = pair(A, B, 0x1000, "R");
    w.sa("B", b);
    w.sa("A", a);
    let order: Vec<_> = w.nodes[1].app.iter().map(|(_, p)| check_tcp(p).sequence_number).collect();
    assert_eq!(order, [1, 2, 3, 4, 5]);
    assert_eq!(w.drops("A"), []);
}

#[test]
fn what_waits_in_vain_is_dropped_and_counted() {
    let mut w = unprotected();
    w.send("A", flow().tcp("S", 1, 0, b""));
    let id = w.nodes[0].acquires[0].id;
    let n = w.n("A");
    n.engine.acquire_failed(id, &mut n.out);
    assert_eq!(w.drops("A"), [("acquire_failed".into(), 1)]);
    w.send("A", flow().tcp("S", 1, 0, b""));
    assert_eq!(w.dropped("A", "acquire_failed"), 2, "cooling");
    w.timeout("A", Duration::from_secs(3));
    for _ in 0..40 {
        w.send("A", flow().tcp("S", 1, 0, b""));
    }
    assert_eq!(w.nodes[0].acquires.len(), 2);
    assert_eq!(w.dropped("A", "acquire_queue_full"), 24);
    w.timeout("A", Duration::from_secs(11));
    assert_eq!(w.dropped("A", "acquire_timeout"), 16);
    assert!(w.wire.is_empty() && w.nodes[0].clear.is_empty());
}

#[test]
fn without_on_demand_the_application_is_told() {
    let mut w = unprotected();
    w.filters("A", both("R", one(A), one(B), FilterAction::Ipsec { on_demand: false }));
    w.send("A", flow().tcp("S", 1, 0, b""));
    assert!(w.nodes[0].acquires.is_empty());
    assert_eq!(w.drops("A"), [("no_sa".into(), 1)]);
    assert_eq!(w.nodes[0].app[0].1[20..22], [3, 13]);
}

#[test]
fn a_rekey_loses_nothing_and_the_responder_waits_for_the_first_packet() {
    let mut w = two();
    let (a2, b2) = pair(A, B, 0x1100, "R");
    let (a2, b2) = (
        SaPair { generation: 2, tunnel: 0, ..a2 },
        SaPair { generation: 2, tunnel: 0, outbound_active: false, ..b2 },
    );
    w.sa("B", b2);
    w.send("B", flow().back().tcp("A", 1, 1, b""));
    w.sa("A", a2);
    w.send("A", flow().tcp("A", 1, 1, b""));
    w.send("B", flow().back().tcp("A", 1, 1, b""));
    let spis: Vec<u32> = w
        .wire
        .iter()
        .map(|p| match p {
            OnWire::Esp { bytes, .. } => u32::from_be_bytes(bytes[..4].try_into().unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(spis, [0x1001, 0x1100, 0x1101]);
    assert_eq!(w.nodes[1].notices, [(0x1100, SaNotice::FirstInbound)]);
    w.n("A").engine.remove_sa(0x1001);
    w.n("B").engine.remove_sa(0x1000);
    w.send("A", flow().tcp("A", 1, 1, b""));
    assert_eq!(w.nodes[1].app.len(), 2);
    assert_eq!((w.drops("A"), w.drops("B")), (vec![], vec![]));
}

fn too_big_about(w: &mut World, esp: &[u8], mtu: u16) {
    // What a router on the way would quote: IP header and the ESP packet's start.
    let mut quoted = etherparse::Ipv4Header::new(
        u16::try_from(esp.len()).unwrap(),
        60,
        etherparse::IpNumber(50),
        [198, 51, 100, 7],
        [192, 0, 2, 80],
    )
    .unwrap()
    .to_bytes()
    .to_vec();
    quoted.extend_from_slice(esp);
    let mut error = Vec::new();
    assert!(stack::wire::icmp::write_error(
        &mut error,
        STRANGER_V4.into(),
        &quoted,
        stack::wire::icmp::Error::TooBig(mtu)
    ));
    // From a router: source is not what `write_error` quotes.
    w.send("A", error);
}

const STRANGER_V4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(203, 0, 113, 66);

#[test]
fn t39_path_mtu_follows_only_reports_about_a_live_spi_and_recovers() {
    let mut w = two();
    w.send("A", flow().tcp("S", 1, 0, b""));
    let OnWire::Esp { bytes, .. } = w.wire[0].clone() else { panic!() };
    let mut unknown = bytes.clone();
    unknown[0] ^= 1;
    too_big_about(&mut w, &unknown, 900);
    assert_eq!(w.drops("A"), [("icmp_unrelated".into(), 1)]);
    w.send("A", flow().tcp("A", 1, 1, &[0; 1300]));
    assert_eq!(w.nodes[1].app.len(), 2, "unchanged");
    too_big_about(&mut w, &bytes, 1300);
    assert_eq!(w.dropped("A", "icmp_consumed"), 1);
    w.send("A", flow().tcp("A", 1, 1, &[0; 1300]));
    assert_eq!(w.dropped("A", "too_big"), 1);
    too_big_about(&mut w, &bytes, 9000);
    too_big_about(&mut w, &bytes, 68);
    w.send("A", flow().tcp("A", 1, 1, &[0; 450]));
    assert_eq!(w.nodes[1].app.len(), 3, "never below the minimum");
    w.timeout("A", Duration::from_secs(601));
    w.send("A", flow().tcp("A", 1, 1, &[0; 1300]));
    assert_eq!(w.nodes[1].app.len(), 4, "forgotten after a while");
    assert!(
        w.nodes[0].app.iter().all(|(_, p)| p[20..22] == [3, 4]),
        "only our own answers reach the application"
    );
}

#[test]
fn what_the_driver_learns_of_the_path_counts_too() {
    let mut w = two();
    let now = w.now;
    w.n("A").engine.path_mtu(now, B, 1300);
    w.send("A", flow().tcp("S", 1, 0, b""));
    assert_eq!(mss_of(&check_tcp(&w.nodes[1].app[0].1)), Some(1206));
}

fn fragments(p: &[u8], size: usize) -> Vec<Vec<u8>> {
    let ip = etherparse::Ipv4Header::from_slice(p).unwrap().0;
    let data = &p[20..];
    data.chunks(size)
        .enumerate()
        .map(|(i, piece)| {
            let mut h = ip.clone();
            h.dont_fragment = false;
            h.identification = 77;
            h.fragment_offset =
                etherparse::IpFragOffset::try_new(u16::try_from(i * size / 8).unwrap()).unwrap();
            h.more_fragments = i * size + piece.len() < data.len();
            h.set_payload_len(piece.len()).unwrap();
            h.header_checksum = h.calc_header_checksum();
            [&h.to_bytes()[..], piece].concat()
        })
        .collect()
}

#[test]
fn fragmented_ike_and_esp_in_udp_come_by_the_tun_and_are_understood() {
    let mut w = unprotected();
    let message = [&[9u8; 8][..], &[0; 1992]].concat();
    let mut pieces = fragments(&ends(A, 500, B, 500).udp(&message), 1400);
    pieces.reverse();
    for p in pieces {
        w.send("B", p);
    }
    assert_eq!(w.nodes[1].ike.len(), 1);
    assert_eq!(w.nodes[1].ike[0].bytes, message);
    assert_eq!(w.nodes[1].ike[0].remote, SocketAddr::new(A, 500));
    let (mut a, mut b) = pair(A, B, 0x1000, "R");
    a.udp = Some((4500, 4500));
    b.udp = Some((4500, 4500));
    w.sa("A", a);
    w.sa("B", b);
    w.cut = true;
    w.send("A", ends(A, 1, B, 2).udp(&[5; 1400]));
    w.cut = false;
    let OnWire::EspInUdp { bytes, .. } = w.wire.pop().unwrap() else { panic!() };
    for p in fragments(&ends(A, 4500, B, 4500).udp(&bytes), 800) {
        w.send("B", p);
    }
    assert_eq!(w.nodes[1].app.len(), 1);
    assert_eq!(w.drops("B"), []);
}

#[test]
fn fragments_inside_of_the_tunnel_are_joined_before_the_filters() {
    let mut w = two();
    let whole = ends(A, 1, B, 2).udp(&[5; 2000]);
    // A's application sent more than its link takes: the kernel gave fragments to the TUN.
    for p in fragments(&whole, 1200) {
        w.send("A", p);
    }
    assert_eq!(w.nodes[1].app.len(), 1);
    assert_eq!(w.nodes[1].app[0].1[20..], whole[20..]);
}

#[test]
fn t39_fragments_in_clear_and_in_the_tunnel_are_never_joined() {
    let mut w = two();
    let whole = fragments(&ends(STRANGER, 1, B, 2).udp(&[5; 2000]), 1200);
    w.send("B", whole[0].clone());
    w.send("B", whole[0].clone());
    assert_eq!(w.dropped("B", "reassembly_bad_fragment"), 1, "a duplicate");
    w.timeout("B", Duration::from_secs(16));
    assert_eq!(w.dropped("B", "reassembly_timeout"), 1);
    for n in 0..200u16 {
        let mut p = whole[0].clone();
        p[4..6].copy_from_slice(&n.to_be_bytes());
        w.send("B", p);
    }
    assert!(w.dropped("B", "reassembly_full") > 100, "{:?}", w.drops("B"));
}

#[test]
fn one_udp_gro_read_holds_esp_ike_and_a_keepalive() {
    let mut w = unprotected();
    let (mut a, mut b) = pair(A, B, 0x1000, "R");
    a.udp = Some((4500, 4500));
    b.udp = Some((4500, 4500));
    w.sa("A", a);
    w.sa("B", b);
    w.cut = true;
    w.send("A", flow().tcp("A", 1, 1, b"hello"));
    let OnWire::EspInUdp { bytes: esp, .. } = w.wire.pop().unwrap() else { panic!() };
    let mut ike = vec![0u8; esp.len()];
    ike[4] = 1;
    let mut read = [&esp[..], &ike, &[0xff]].concat();
    let (now, n) = (w.now, w.node("B"));
    let arrival = UdpArrival {
        local: SocketAddr::new(B, 4500),
        remote: SocketAddr::new(A, 4500),
        segment: esp.len(),
        tos: 0,
    };
    let b = &mut w.nodes[n];
    b.engine.handle_udp(now, arrival, &mut read, &mut b.out);
    w.carry(n);
    assert_eq!(w.nodes[1].app.len(), 1);
    assert_eq!(w.nodes[1].ike[0].bytes, ike[4..]);
    assert_eq!(w.drops("B"), [("keepalive".into(), 1)]);
}

/// RFC 6040 section 4.2: marks of the network reach the transport, or the packet is dropped where it would not hear.
#[test]
fn congestion_marks_of_the_network_go_inside() {
    let mut w = unprotected();
    let (mut a, mut b) = pair(A, B, 0x1000, "R");
    a.udp = Some((4500, 4500));
    b.udp = Some((4500, 4500));
    w.sa("A", a);
    w.sa("B", b);
    w.cut = true;
    for (inner, delivered) in [(2u8, true), (0, false)] {
        let mut packet = flow().tcp("A", 1, 1, b"hello");
        stack::wire::ecn::set_traffic_class(&mut packet, inner);
        w.send("A", packet);
        let OnWire::EspInUdp { bytes: mut esp, .. } = w.wire.pop().unwrap() else { panic!() };
        let (local, remote) = (SocketAddr::new(B, 4500), SocketAddr::new(A, 4500));
        let arrival = UdpArrival { local, remote, segment: esp.len(), tos: 3 };
        let (now, n) = (w.now, w.node("B"));
        let b = &mut w.nodes[n];
        let before = b.app.len();
        b.engine.handle_udp(now, arrival, &mut esp, &mut b.out);
        w.carry(n);
        assert_eq!(w.nodes[n].app.len() > before, delivered);
    }
    assert_eq!(w.drops("B"), [("congestion_unheard".into(), 1)]);
}

/// Transport mode, without and with UDP: what the application gets is a whole packet again, between the same addresses.
#[test]
fn a_connection_in_transport_mode() {
    for udp in [None, Some((4500, 4500))] {
        let mut w = unprotected();
        let (mut a, mut b) = pair(A, B, 0x1001, "R");
        for p in [&mut a, &mut b] {
            (p.mode, p.udp) = (Mode::Transport, udp);
        }
        w.sa("A", a);
        w.sa("B", b);
        w.send("A", flow().tcp("S", 1, 0, b""));
        w.send("B", flow().back().tcp("SA", 100, 2, b""));
        w.send("A", flow().tcp("AP", 2, 101, b"hello"));
        let got = &w.nodes[1].app;
        assert_eq!((got.len(), w.nodes[0].app.len()), (2, 1), "{udp:?}");
        let packet = &got[1].1;
        let p = stack::wire::packet::Parsed::parse(packet).unwrap();
        assert_eq!((p.source, p.destination, p.ports()), (A, B, (40_000, 443)));
        check_tcp(packet);
        assert!(packet.ends_with(b"hello"));
        assert!(w.drops("A").is_empty() && w.drops("B").is_empty());
    }
}

#[test]
fn t20_only_the_newest_authentic_packet_moves_a_peer() {
    let mut w = unprotected();
    let (mut a, mut b) = pair(A, B, 0x1000, "R");
    a.udp = Some((4500, 4500));
    b.udp = Some((4500, 4500));
    w.sa("A", a);
    w.sa("B", b);
    w.cut = true;
    let sealed = |w: &mut World| {
        w.send("A", flow().tcp("A", 1, 1, b"hello"));
        let OnWire::EspInUdp { bytes, .. } = w.wire.pop().unwrap() else { panic!() };
        bytes
    };
    let packets: Vec<_> = (0..4).map(|_| sealed(&mut w)).collect();
    let from = |w: &mut World, port: u16, mut p: Vec<u8>| {
        let arrival = UdpArrival {
            local: SocketAddr::new(B, 4500),
            remote: SocketAddr::new(A, port),
            segment: p.len(),
            tos: 0,
        };
        let (now, n) = (w.now, w.node("B"));
        let b = &mut w.nodes[n];
        b.engine.handle_udp(now, arrival, &mut p, &mut b.out);
        w.carry(n);
        w.send("B", flow().back().tcp("A", 1, 1, b""));
        let OnWire::EspInUdp { to, .. } = w.wire.pop().unwrap() else { panic!() };
        to.port()
    };
    assert_eq!(from(&mut w, 4500, packets[1].clone()), 4500);
    let mut forged = packets[3].clone();
    forged[20] ^= 1;
    assert_eq!(from(&mut w, 6666, forged), 4500, "not authentic");
    assert_eq!(from(&mut w, 6666, packets[1].clone()), 4500, "replayed");
    assert_eq!(from(&mut w, 6666, packets[0].clone()), 4500, "held back");
    assert_eq!(from(&mut w, 7777, packets[2].clone()), 7777, "the NAT chose another port");
}

#[test]
fn an_icmp_error_about_a_protected_flow_travels_in_its_tunnel() {
    let mut w = two();
    // The rule names TCP only; the error is let through for the flow that it quotes.
    for (n, local, remote) in [("A", A, B), ("B", B, A)] {
        let mut rules = both("R", one(local), one(remote), IPSEC);
        for r in &mut rules {
            r.protocol = Some(6);
        }
        w.filters(n, rules);
    }
    let syn = flow().tcp("S", 1, 0, b"");
    let mut error = Vec::new();
    assert!(stack::wire::icmp::write_error(&mut error, B, &syn, stack::wire::icmp::Error::Prohibited));
    w.send("B", error.clone());
    assert_eq!(w.nodes[0].app.len(), 1);
    assert_eq!(w.nodes[0].app[0].1, error);
    let other = ends(STRANGER, 1, B, 2).tcp("S", 1, 0, b"");
    let mut unrelated = Vec::new();
    assert!(stack::wire::icmp::write_error(&mut unrelated, B, &other, stack::wire::icmp::Error::Prohibited));
    w.send("B", unrelated);
    assert_eq!(w.dropped("B", "implicit_deny"), 1);
}

#[test]
fn a_gateway_protects_what_it_forwards() {
    let (inside, outside) = (IpAddr::from([10, 1, 0, 5]), IpAddr::from([10, 2, 0, 9]));
    let net =
        |n: u8| AddressRange { low: IpAddr::from([10, n, 0, 0]), high: IpAddr::from([10, n, 255, 255]) };
    let mut w = unprotected();
    for (name, own, other) in [("A", 1, 2), ("B", 2, 1)] {
        let mut rules = both("R", net(own), net(other), IPSEC);
        for r in &mut rules {
            r.scope = Scope::Routed;
        }
        w.filters(name, rules);
    }
    let (mut a, mut b) = pair(A, B, 0x1000, "R");
    (a.local_selectors, a.remote_selectors) = (vec![selector(net(1))], vec![selector(net(2))]);
    (b.local_selectors, b.remote_selectors) = (vec![selector(net(2))], vec![selector(net(1))]);
    w.sa("A", a);
    w.sa("B", b);
    let f = ends(inside, 1, outside, 2);
    w.send("A", f.tcp("A", 1, 1, b"data"));
    assert_eq!(w.nodes[1].clear[0].1, f.tcp("A", 1, 1, b"data"));
    w.send("B", f.back().tcp("A", 1, 1, b"back"));
    assert_eq!(w.nodes[0].clear[0].1, f.back().tcp("A", 1, 1, b"back"));
    assert!(w.wire.iter().all(|p| matches!(p, OnWire::Esp { .. })));
    // The same in clear from outside, or anything that no rule names.
    w.send("B", f.tcp("A", 1, 1, b"data"));
    assert_eq!(w.dropped("B", "clear_but_ipsec_required"), 1);
    w.send("B", ends(STRANGER, 1, outside, 2).udp(b"x"));
    assert_eq!(w.dropped("B", "implicit_deny"), 1);
    // Fragments of what is protected are protected one by one.
    for p in fragments(&f.udp(&[1; 2000]), 1200) {
        w.send("A", p);
    }
    assert_eq!(w.nodes[1].clear.len(), 3);
}

#[test]
fn nothing_passes_before_a_configuration() {
    let mut w = World::new(vec![]);
    w.nodes.push(Node::new("A", None, vec![home(A, Role::Static)], &[]));
    w.send("A", flow().tcp("S", 1, 0, b""));
    w.send("A", flow().back().tcp("S", 1, 0, b""));
    w.esp("A", B, A, vec![1; 100]);
    w.gre("A", xcf(1), xcf(2), vec![0; 100]);
    let n = &w.nodes[0];
    assert!(n.app.is_empty() && n.clear.is_empty() && w.wire.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is sent, in whatever pieces: the other side gets the same stream.
    #[test]
    fn streams_arrive_whole(sizes in prop::collection::vec(1usize..20_000, 1..8), mss in 300u16..1460, udp: bool) {
        let mut w = unprotected();
        let (mut a, mut b) = pair(A, B, 0x1000, "R");
        if udp {
            (a.udp, b.udp) = (Some((4500, 4500)), Some((4500, 4500)));
        }
        w.sa("A", a);
        w.sa("B", b);
        let (mut seq, mut sent) = (1u32, Vec::new());
        for size in sizes {
            // What is one packet already cannot be cut: it has to fit into the tunnel, as a sender knows from the path MTU.
            let size = if size > usize::from(mss) { size } else { size.min(1380) };
            let data: Vec<u8> = (0..size).map(|i| ((i * 7 + size) % 256) as u8).collect();
            if size > usize::from(mss) {
                let (header, packet) = flow().tso(seq, 1, &data, mss);
                w.tun("A", header, packet);
            } else {
                w.tun("A", VnetHeader::default(), flow().tcp("A", seq, 1, &data));
            }
            seq = seq.wrapping_add(u32::try_from(size).unwrap());
            sent.extend(data);
        }
        let got: Vec<u8> = w.nodes[1].app.iter().flat_map(|(_, p)| p[40..].to_vec()).collect();
        prop_assert_eq!(got, sent);
    }
}

/// A manual pair of this node, whose ends are what it says.
fn manual(ends: (IpAddr, IpAddr), mode: Mode, spis: (u32, u32), keys: (u8, u8)) -> SaPair {
    let any = |addresses| Selector { addresses, protocol: None, ports: PortRange::ANY };
    let selectors = vec![any(any4()), any(AddressRange::ANY_V6)];
    let (pair, _) = pair(A, B, 0x1000, &manual_anchor("lab"));
    let suite = EspSuite::AesCbc { key_bits: 128, integrity: EspIntegrity::HmacSha256 };
    let key = |n: u8| KeyBytes(vec![n; suite.key_len().unwrap()]);
    SaPair {
        tunnel: MANUAL_TUNNELS + 1,
        ike_tunnel: 0,
        spi_in: spis.0,
        spi_out: spis.1,
        local: ends.0,
        remote: ends.1,
        mode,
        suite,
        key_in: key(keys.0),
        key_out: key(keys.1),
        replay_window: 0,
        local_selectors: selectors.clone(),
        remote_selectors: selectors,
        ..pair
    }
}

#[test]
fn a_manual_tunnel_with_open_ends_takes_those_of_each_packet() {
    let any = IpAddr::from([0, 0, 0, 0]);
    for mode in [Mode::Transport, Mode::Tunnel] {
        let mut w = World::new(vec![
            Node::new("A", None, vec![home(A, Role::Static)], &[]),
            Node::new("B", None, vec![home(B, Role::Static)], &[]),
            Node::new("C", None, vec![home(STRANGER, Role::Static)], &[]),
        ]);
        for (name, own) in [("A", A), ("B", B), ("C", STRANGER)] {
            let mut rules = both("lab", one(own), any4(), FilterAction::Manual);
            rules.iter_mut().for_each(|r| r.vpn_action = Some("lab".into()));
            w.filters(name, rules);
            // B is the same to A and to C; these name it.
            let (ends, spis, keys) = match name {
                "B" => ((any, any), (0x2001, 0x2002), (1, 2)),
                _ => ((own, B), (0x2002, 0x2001), (2, 1)),
            };
            w.sa(name, manual(ends, mode, spis, keys));
        }
        for (name, own) in [("A", A), ("C", STRANGER), ("A", A)] {
            let flow = ends(own, 40_000, B, 443);
            w.nodes.iter_mut().for_each(|n| n.app.clear());
            w.send(name, flow.tcp("S", 1, 0, b""));
            let b = w.node("B");
            assert_eq!(check_tcp(&w.nodes[b].app[0].1).source_port, 40_000);
            w.send("B", flow.back().tcp("SA", 100, 2, b""));
            let n = w.node(name);
            assert_eq!(w.nodes[n].app.len(), 1, "{name} is answered");
        }
        assert!(w.wire.iter().all(|p| matches!(p, OnWire::Esp { .. })));
        // Of the family that the ends are of, and to one host.
        let group = IpAddr::from([224, 0, 0, 9]);
        w.wire.clear();
        w.send("B", ends(B, 1, group, 2).udp(b"x"));
        assert!(w.wire.is_empty());
        assert_eq!(w.drops("B").len(), 1, "{:?}", w.drops("B"));
    }
}

#[test]
fn only_a_manual_pair_may_have_open_ends() {
    let mut w = unprotected();
    let (a, _) = pair(A, B, 0x1000, "R");
    let now = w.now;
    let error = w.n("A").engine.install_sa(now, 1, SaPair { remote: [0, 0, 0, 0].into(), ..a }).unwrap_err();
    assert!(error.to_string().contains("not one address"), "{error}");
}
