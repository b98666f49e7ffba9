//! Stories of a sysplex: a peer talks IPsec to a DVIPA, its distributor spreads connections over two targets.
//!
//! ```text
//! peer 198.51.100.7 ══ ESP ══ D (owner of 192.0.2.80) ── GRE on XCF 10.99.0.0/24 ──┬── T1
//!                                                                                  └── T2
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests: helpers beside #[test] functions too"
)]

mod common;

use common::*;
use stack::control::{FilterAction, FilterKind, PortRange, Role};
use stack::engine::io::VnetHeader;
use std::net::IpAddr;
use std::time::Duration;

fn client(port: u16) -> Ends {
    ends(PEER, port, DVIPA, 443)
}

fn gre(w: &World) -> Vec<(IpAddr, IpAddr, Vec<u8>)> {
    w.wire
        .iter()
        .filter_map(|p| match p {
            OnWire::Gre { from, to, bytes } => Some((*from, *to, bytes.clone())),
            OnWire::Esp { .. } | OnWire::EspInUdp { .. } => None,
        })
        .collect()
}

fn no_leak(w: &World) {
    for n in &w.nodes {
        assert!(n.clear.is_empty(), "{} sent in clear", n.name);
    }
}

/// The target that got the last packet.
fn who(w: &World) -> &'static str {
    let (_, to, _) = gre(w).pop().unwrap();
    if to == xcf(2) { "T1" } else { "T2" }
}

fn handshake(w: &mut World, port: u16) -> &'static str {
    let f = client(port);
    w.send("peer", f.tcp("S", 1, 0, b""));
    let target = who(w);
    w.send(target, f.back().tcp("SA", 100, 2, b""));
    w.send("peer", f.tcp("A", 2, 101, b""));
    target
}

#[test]
fn a_connection_goes_to_a_target_and_its_answers_come_back_as_esp() {
    let mut w = sysplex();
    let target = handshake(&mut w, 40_000);
    let f = client(40_000);
    w.send("peer", f.tcp("AP", 2, 101, b"request"));
    w.send(target, f.back().tcp("AP", 101, 9, b"response"));
    no_leak(&w);
    let app = &w.nodes[w.node(target)].app;
    assert_eq!(app.len(), 3);
    assert_eq!(app[2].1, f.tcp("AP", 2, 101, b"request"), "inner packet untouched: no NAT, no TTL taken");
    assert_eq!(w.n("peer").app.last().unwrap().1, f.back().tcp("AP", 101, 9, b"response"));
    let on_xcf = gre(&w);
    assert_eq!(on_xcf.len(), 5);
    let (from, to, bytes) = &on_xcf[3];
    assert_eq!((*from, *to), (xcf(1), if target == "T1" { xcf(2) } else { xcf(3) }));
    assert_eq!(bytes[..4], [0, 0, 8, 0], "IPsec-routed and not joined: no key");
    assert_eq!(bytes[4..], f.tcp("AP", 2, 101, b"request"));
    assert_eq!(w.wire.len() - on_xcf.len(), 5, "every packet crosses the network as ESP");
    for n in ["peer", "D", "T1", "T2"] {
        assert_eq!(w.drops(n), [], "{n}");
    }
    let common: Vec<_> = w.nodes[1]
        .filters(w.now)
        .into_iter()
        .filter(|v| v.kind == FilterKind::Common)
        .map(|v| (v.rule.name, v.totals.permits))
        .collect();
    assert_eq!(common, [("SYSXCFGRE".into(), 3), ("SYSXCFGRE".into(), 2)], "out and in");
}

#[test]
fn twenty_connections_are_ten_and_ten() {
    let mut w = sysplex();
    for port in 0..20 {
        handshake(&mut w, 40_000 + port);
    }
    assert_eq!(w.nodes[1].distribution(w.now), [("T1".into(), 10, 10), ("T2".into(), 10, 10)]);
    for port in 0..20 {
        let before = gre(&w).len();
        w.send("peer", client(40_000 + port).tcp("FA", 2, 101, b""));
        assert_eq!(gre(&w).len(), before + 1);
        let target = who(&w);
        w.send(target, client(40_000 + port).back().tcp("FA", 101, 3, b""));
    }
    let ended = [("T1".into(), 0, 10), ("T2".into(), 0, 10)];
    assert_eq!(w.nodes[1].distribution(w.now), ended, "late packets still find their way");
    w.timeout("D", Duration::from_secs(61));
    assert_eq!(w.nodes[1].distribution(w.now), ended);
    no_leak(&w);
}

#[test]
fn ports_that_are_not_distributed_and_unknown_segments_stay_at_the_owner() {
    let mut w = sysplex();
    w.send("peer", ends(PEER, 1, DVIPA, 22).tcp("S", 1, 0, b""));
    w.send("peer", client(5).tcp("A", 1, 1, b"x"));
    w.send("peer", ends(PEER, 1, DVIPA, 443).udp(b"x"));
    assert_eq!(w.n("D").app.len(), 3);
    assert!(gre(&w).is_empty());
    w.send("D", ends(DVIPA, 22, PEER, 1).tcp("SA", 1, 2, b""));
    assert_eq!(w.n("peer").app.len(), 1);
    no_leak(&w);
}

#[test]
fn t45_without_candidate_tcp_is_refused_and_a_target_that_left_gets_nothing() {
    let mut w = sysplex();
    let target = handshake(&mut w, 1);
    let gone = if target == "T1" { 2 } else { 3 };
    let d = w.node("D");
    w.nodes[d].config.members.retain(|m| m.xcf != xcf(gone));
    w.configure(d);
    for port in 2..6 {
        assert_ne!(handshake(&mut w, port), target);
    }
    w.send("peer", client(1).tcp("A", 2, 101, b"x"));
    assert_eq!(w.n("D").app.len(), 1, "its connections are over: the owner answers with RST");
    w.nodes[d].config.members.clear();
    w.configure(d);
    w.n("peer").app.clear();
    w.send("peer", client(7).tcp("S", 1, 0, b""));
    assert_eq!((w.n("D").app.len(), w.n("peer").app.len()), (1, 1));
    assert!(check_tcp(&w.n("peer").app[0].1).rst);
    no_leak(&w);
}

#[test]
fn super_packets_cross_the_xcf_whole() {
    let mut w = sysplex();
    let target = handshake(&mut w, 1);
    let f = client(1);
    let data: Vec<u8> = (0..50_000u32).map(|n| (n % 253) as u8).collect();
    let (header, packet) = f.tso(2, 101, &data, 1398);
    w.tun("peer", header, packet);
    let (_, _, bytes) = gre(&w).pop().unwrap();
    assert_eq!(bytes[..8], [0x20, 0, 8, 0, 0, 0, 0x05, 0x76], "key: segments of 1398 octets");
    let (header, p) = w.n(target).app.last().unwrap().clone();
    assert_eq!((header.gso_type, header.gso_size, header.csum_start, header.csum_offset), (1, 1398, 20, 16));
    assert_eq!(p[40..], data);
    // And the way back: whole to the distributor, cut while it is sealed.
    let (header, packet) = f.back().tso(101, 2, &data, 1448);
    w.tun(target, header, packet);
    let (_, _, bytes) = gre(&w).pop().unwrap();
    assert_eq!(bytes.len(), 8 + 40 + data.len());
    let (header, p) = w.n("peer").app.last().unwrap().clone();
    assert_eq!((header.gso_type, header.gso_size), (1, 1406), "cut to what fits the tunnel");
    assert_eq!(p[40..], data);
    no_leak(&w);
    for n in ["peer", "D", "T1", "T2"] {
        assert_eq!(w.drops(n), [], "{n}");
    }
}

#[test]
fn t46_over_a_narrow_xcf_packets_go_one_by_one() {
    let mut w = sysplex();
    for i in 1..4 {
        let n = &mut w.nodes[i];
        n.engine.configure(w.now, &n.config, stack::engine::Links { network_mtu: 1500, xcf_mtu: 1500 });
    }
    let target = handshake(&mut w, 1);
    let before = gre(&w).len();
    let data = vec![3u8; 14_000];
    let (header, packet) = client(1).back().tso(101, 2, &data, 1406);
    w.tun(target, header, packet);
    let sent = gre(&w).split_off(before);
    assert_eq!(sent.len(), 10);
    for (_, _, bytes) in &sent {
        assert_eq!(bytes[..4], [0, 0, 8, 0]);
        assert!(bytes.len() + 20 <= 1500);
        check_tcp(&bytes[4..]);
    }
    let got: Vec<u8> = w.n("peer").app.iter().skip(1).flat_map(|(_, p)| p[40..].to_vec()).collect();
    assert_eq!(got, data);
    no_leak(&w);
}

/// DVIPA traffic of everybody but the peer is permitted in clear.
fn with_clear(w: &mut World) {
    for n in ["D", "T1", "T2"] {
        let mut rules = both("R", one(DVIPA), one(PEER), IPSEC);
        rules.extend(both("P", one(DVIPA), any4(), FilterAction::Permit));
        w.filters(n, rules);
    }
}

#[test]
fn permitted_clear_connections_are_distributed_and_answered_directly() {
    let mut w = sysplex();
    with_clear(&mut w);
    let f = ends(STRANGER, 7, DVIPA, 443);
    w.send("D", f.tcp("S", 1, 0, b""));
    let (_, _, bytes) = gre(&w).pop().unwrap();
    assert_eq!(bytes[..8], [0x20, 0, 8, 0, 0x80, 0, 0, 0], "the key says: clear");
    let target = who(&w);
    assert_eq!(w.n(target).app[0].1, f.tcp("S", 1, 0, b""));
    w.send(target, f.back().tcp("SA", 1, 2, b""));
    assert_eq!(w.n(target).clear[0].1, f.back().tcp("SA", 1, 2, b""), "not through the distributor");
    assert_eq!(gre(&w).len(), 1);
    w.send("D", f.tcp("A", 2, 2, b"x"));
    assert_eq!(who(&w), target);
    // The target's own policy decides about clear packets.
    w.filters(target, both("R", one(DVIPA), one(PEER), IPSEC));
    w.send("D", f.tcp("A", 2, 2, b"x"));
    assert_eq!(w.dropped(target, "implicit_deny"), 1);
}

#[test]
fn the_targets_policy_does_not_touch_what_the_distributor_has_filtered() {
    let mut w = sysplex();
    for n in ["T1", "T2"] {
        w.filters(n, both("N", any4(), any4(), FilterAction::Deny));
    }
    let target = handshake(&mut w, 1);
    assert_eq!(w.n(target).app.len(), 2);
    assert_eq!(w.n("peer").app.len(), 1);
    assert_eq!(w.drops(target), []);
}

#[test]
fn t43_a_target_may_only_speak_for_its_own_flows() {
    let mut w = sysplex();
    let target = handshake(&mut w, 1);
    let other = if target == "T1" { "T2" } else { "T1" };
    let of = |t: &str| if t == "T1" { xcf(2) } else { xcf(3) };
    let packet =
        |flags: &str, port| [&[0, 0, 8, 0][..], &client(port).back().tcp(flags, 1, 1, b"stolen")].concat();
    let sent = w.wire.len();
    w.gre("D", of(other), xcf(1), packet("A", 1));
    assert_eq!(w.dropped("D", "gre_not_owner"), 1);
    w.gre("D", of(other), xcf(1), packet("A", 2));
    w.gre("D", of(other), xcf(1), packet("SA", 2));
    assert_eq!(w.dropped("D", "gre_unknown_flow"), 2);
    // A flow for which policy wants no protection is not let out in clear.
    with_clear(&mut w);
    let stranger = ends(DVIPA, 1, STRANGER, 2).tcp("S", 1, 0, b"");
    w.gre("D", of(other), xcf(1), [&[0, 0, 8, 0][..], &stranger].concat());
    assert_eq!(w.dropped("D", "gre_clear_outbound"), 1);
    // And one without an SA waits for it.
    w.n("D").engine.remove_all_sas();
    w.gre("D", of(target), xcf(1), packet("A", 1));
    assert_eq!(w.n("D").acquires.len(), 1);
    assert_eq!(w.wire.len(), sent);
    no_leak(&w);
}

#[test]
fn a_connection_that_a_target_opens_goes_through_the_distributor_both_ways() {
    let mut w = sysplex();
    let f = ends(DVIPA, 50_000, PEER, 25);
    w.send("T2", f.tcp("S", 1, 0, b""));
    assert_eq!(w.n("peer").app[0].1[20..24], f.tcp("S", 1, 0, b"")[20..24]);
    w.send("peer", f.back().tcp("SA", 9, 2, b""));
    assert_eq!(w.n("T2").app.len(), 1, "the answer finds the target though the port is not distributed");
    w.send("T2", f.tcp("A", 2, 10, b"mail"));
    assert_eq!(w.n("peer").app.len(), 2);
    no_leak(&w);
    for n in ["peer", "D", "T1", "T2"] {
        assert_eq!(w.drops(n), [], "{n}");
    }
}

#[test]
fn a_target_protects_its_own_addresses_itself() {
    let own = IpAddr::from([192, 0, 2, 12]);
    let mut w = sysplex();
    let t = w.node("T1");
    w.nodes[t].config.home.push(home(own, Role::Static));
    w.configure(t);
    let mut rules = both("R", one(DVIPA), one(PEER), IPSEC);
    rules.extend(both("O", one(own), one(PEER), IPSEC));
    w.filters("T1", rules);
    let mut rules = both("R", one(PEER), one(DVIPA), IPSEC);
    rules.extend(both("O", one(PEER), one(own), IPSEC));
    w.filters("peer", rules);
    let (a, p) = pair(own, PEER, 0x2010, "O");
    w.sa("T1", a);
    w.sa("peer", p);
    w.send("T1", ends(own, 1, PEER, 2).tcp("S", 1, 0, b""));
    assert_eq!(w.n("peer").app.len(), 1);
    assert!(gre(&w).is_empty(), "not routed through the distributor");
    assert!(matches!(w.wire[0], OnWire::Esp { from, .. } if from == own));
    no_leak(&w);
}

#[test]
fn t41_gre_that_did_not_come_by_the_xcf() {
    let mut w = sysplex();
    let gre_packet = |from: IpAddr, to: IpAddr| {
        let mut p = ends(from, 0, to, 0).udp(&client(1).tcp("S", 1, 0, b""));
        p[9] = 47;
        p[10..12].fill(0);
        let check = stack::wire::checksum::Sum::ZERO.with(&p[..20]).finish();
        p[10..12].copy_from_slice(&check);
        p
    };
    // By the TUN comes what came from the network.
    w.send("T1", gre_packet(xcf(1), xcf(2)));
    w.send("D", gre_packet(xcf(2), xcf(3)));
    w.send("D", gre_packet(xcf(2), xcf(1)));
    let mut fragment = gre_packet(xcf(1), xcf(2));
    fragment[6] = 0x20;
    fragment.truncate(20 + 8);
    fragment[2..4].copy_from_slice(&28u16.to_be_bytes());
    w.send("T1", fragment);
    assert_eq!((w.dropped("T1", "gre_not_xcf"), w.dropped("D", "gre_not_xcf")), (2, 2));
    assert!(w.n("T1").app.is_empty());
    no_leak(&w);
    let n = w.node("peer");
    w.gre("peer", xcf(1), xcf(2), vec![0; 60]);
    assert_eq!(w.nodes[n].drops(w.now), [("gre_not_xcf".into(), 1)], "a stack without XCF");
}

#[test]
fn t42_each_reason_apart() {
    let mut w = sysplex();
    let inner = client(1).tcp("S", 1, 0, b"");
    let with = |head: &[u8]| [head, &inner].concat();
    let good = with(&[0, 0, 8, 0]);
    w.gre("T1", xcf(9), xcf(2), good.clone());
    w.gre("T1", xcf(2), xcf(2), good.clone());
    assert_eq!(w.dropped("T1", "gre_bad_source"), 2, "no member; this stack itself");
    w.gre("T1", xcf(1), xcf(3), good.clone());
    assert_eq!(w.dropped("T1", "gre_bad_destination"), 1);
    w.gre("T1", xcf(1), xcf(2), with(&[0, 0, 0x88, 0xbe]));
    w.gre("T1", xcf(1), xcf(2), with(&[0, 0, 0x86, 0xdd]));
    assert_eq!(w.dropped("T1", "gre_bad_protocol"), 2, "neither IP; not what is inside");
    for flags in [[0x80, 0], [0x40, 0], [0x10, 0], [0x08, 0], [0, 1], [0, 8]] {
        w.gre("T1", xcf(1), xcf(2), with(&[flags[0], flags[1], 8, 0, 0, 0, 0, 0]));
    }
    assert_eq!(w.dropped("T1", "gre_bad_flags"), 6, "checksum, routing, sequence, reserved, version");
    w.gre("T1", xcf(1), xcf(2), with(&[0x20, 0, 8, 0, 0x40, 0, 0, 0]));
    w.gre("T1", xcf(1), xcf(2), with(&[0x20, 0, 8, 0, 0, 0, 5, 0]));
    assert_eq!(w.dropped("T1", "gre_bad_key"), 2, "undefined bit; segments longer than the packet");
    for cut in 0..4 {
        w.gre("T1", xcf(1), xcf(2), good[..cut].to_vec());
    }
    assert_eq!(w.dropped("T1", "gre_truncated"), 4);
    w.gre("T1", xcf(1), xcf(2), good[..30].to_vec());
    assert_eq!(w.dropped("T1", "malformed_packet"), 1);
    let mut nested = inner.clone();
    nested[9] = 47;
    w.gre("T1", xcf(1), xcf(2), [&[0, 0, 8, 0][..], &nested].concat());
    assert_eq!(w.dropped("T1", "gre_in_gre"), 1);
    w.gre("T1", xcf(1), xcf(2), [&[0, 0, 8, 0][..], &ends(PEER, 1, STRANGER, 2).udp(b"x")].concat());
    w.gre("D", xcf(2), xcf(1), [&[0, 0, 8, 0][..], &ends(STRANGER, 1, PEER, 2).udp(b"x")].concat());
    assert_eq!((w.dropped("T1", "gre_not_dvipa"), w.dropped("D", "gre_not_dvipa")), (1, 1));
    w.gre("D", xcf(2), xcf(1), [&[0, 0, 8, 0][..], &inner].concat());
    assert_eq!(w.dropped("D", "gre_not_dvipa"), 2, "the owner takes nothing inbound from others");
    assert!(w.n("T1").app.is_empty());
    w.gre("T1", xcf(1), xcf(2), good);
    assert_eq!(w.n("T1").app.len(), 1);
    assert!(w.n("T1").logs.iter().any(|l| l.starts_with("dropped gre_bad_source: GRE from 10.99.0.9")));
}

#[test]
fn icmp_errors_follow_the_flow_that_they_quote() {
    let mut w = sysplex();
    let target = handshake(&mut w, 1);
    // A router behind the peer's gateway tells the DVIPA that its segment did not fit; the peer's stack sends it on.
    let segment = client(1).back().tcp("A", 101, 2, &[0; 600]);
    let mut error = Vec::new();
    assert!(stack::wire::icmp::write_error(
        &mut error,
        PEER,
        &segment,
        stack::wire::icmp::Error::TooBig(900)
    ));
    w.send("peer", error.clone());
    assert_eq!(w.n(target).app.last().unwrap().1, error);
    // One about nobody's flow, and an echo request, stay at the owner.
    let mut unknown = Vec::new();
    let lost = client(99).back().tcp("A", 1, 1, b"");
    assert!(stack::wire::icmp::write_error(&mut unknown, PEER, &lost, stack::wire::icmp::Error::TooBig(900)));
    w.send("peer", unknown);
    let mut echo = Vec::new();
    etherparse::PacketBuilder::ipv4([198, 51, 100, 7], [192, 0, 2, 80], 64)
        .icmpv4_echo_request(1, 1)
        .write(&mut echo, b"ping")
        .unwrap();
    w.send("peer", echo);
    assert_eq!(w.n("D").app.len(), 2);
    // The target's own error about what the peer sent travels back the flow's way.
    let mut back = Vec::new();
    let asked = client(1).tcp("A", 2, 101, b"x");
    assert!(stack::wire::icmp::write_error(&mut back, DVIPA, &asked, stack::wire::icmp::Error::Prohibited));
    w.send(target, back.clone());
    assert_eq!(w.n("peer").app.last().unwrap().1, back);
    no_leak(&w);
}

#[test]
fn t46_what_the_tunnel_cannot_take_is_told_to_the_target() {
    let mut w = sysplex();
    let target = handshake(&mut w, 1);
    let before = w.n(target).app.len();
    w.send(target, client(1).back().tcp("A", 101, 2, &[0; 1460]));
    assert_eq!(w.dropped("D", "too_big"), 1);
    let app = &w.n(target).app;
    assert_eq!(app.len(), before + 1);
    assert_eq!(app[before].1[20..22], [3, 4]);
    assert_eq!(u16::from_be_bytes([app[before].1[26], app[before].1[27]]), 1446);
}

#[test]
fn t44_a_syn_flood_in_the_tunnel_moves_no_flow_of_others() {
    let mut w = sysplex();
    let homes: Vec<_> = (0..50).map(|port| handshake(&mut w, 1000 + port)).collect();
    for port in 2000..12_000 {
        w.send("peer", client(port).tcp("S", 1, 0, b""));
    }
    let total: u64 = w.nodes[1].distribution(w.now).iter().map(|t| t.1).sum();
    assert!(total <= 1000, "{total}");
    for (port, target) in (0..50).zip(&homes) {
        w.send("peer", client(1000 + port).tcp("A", 2, 101, b"x"));
        assert_eq!(who(&w), *target);
    }
    // Segments in clear, whatever they say, never touch a flow that came protected.
    w.send("D", client(1000).tcp("RA", 2, 101, b""));
    assert_eq!(w.dropped("D", "clear_but_ipsec_required"), 1);
    w.send("peer", client(1000).tcp("A", 2, 101, b"x"));
    assert_eq!(who(&w), homes[0]);
    // Nor does a SYN inside the tunnel move an open one; after its end it opens a new one.
    w.send("peer", client(1001).tcp("S", 7, 0, b""));
    assert_eq!(who(&w), homes[1]);
}

/// T1 takes the DVIPA over; D goes on as a target.
fn take_over(w: &mut World) {
    let targets = [("T1", None), ("T2", Some(3)), ("D", Some(1))];
    let (d, t1, t2) = (w.node("D"), w.node("T1"), w.node("T2"));
    w.nodes[t1].config.home =
        vec![home(DVIPA, Role::Owner { distribution: vec![distribution(&[443], &targets)] })];
    w.configure(t1);
    for n in [d, t2] {
        w.nodes[n].config.home = vec![home(DVIPA, Role::Target { distributor: Some(xcf(2)) })];
        w.configure(n);
    }
    w.n("D").engine.remove_all_sas();
}

#[test]
fn at_a_takeover_local_flows_change_their_way_and_live_on() {
    let mut w = sysplex();
    let mut on_t1 = 0;
    for port in 1..4 {
        if handshake(&mut w, port) == "T1" {
            on_t1 = port;
        }
    }
    // One that ends on D itself: a port that is not distributed.
    let ssh = ends(PEER, 9, DVIPA, 22);
    w.send("peer", ssh.tcp("S", 1, 0, b""));
    w.send("D", ssh.back().tcp("SA", 1, 2, b""));
    take_over(&mut w);
    w.n("peer").engine.remove_all_sas();
    let (a, p) = pair(DVIPA, PEER, 0x3020, "R");
    w.sa("T1", a);
    w.sa("peer", p);
    let (gre_before, peer_before) = (gre(&w).len(), w.n("peer").app.len());
    w.send("T1", client(on_t1).back().tcp("A", 101, 2, b"from T1 itself"));
    assert_eq!(gre(&w).len(), gre_before, "not distributed any more: own IPsec");
    assert_eq!(w.n("peer").app.len(), peer_before + 1);
    // D's local session now goes through T1. D has no entry for it (its port was not distributed): policy says ipsec.
    w.send("D", ssh.back().tcp("S", 1, 2, b""));
    assert_eq!(gre(&w).pop().unwrap().1, xcf(2));
    assert_eq!(w.n("peer").app.len(), peer_before + 2);
    w.send("peer", ssh.tcp("A", 2, 2, b"x"));
    assert_eq!(w.n("D").app.last().unwrap().1, ssh.tcp("A", 2, 2, b"x"));
    no_leak(&w);
}

#[test]
fn a_backup_neither_sends_nor_delivers() {
    let mut w = sysplex();
    let t = w.node("T1");
    w.nodes[t].config.home = vec![home(DVIPA, Role::Backup)];
    w.configure(t);
    w.send("T1", client(1).back().tcp("S", 1, 0, b""));
    w.send("T1", client(1).tcp("S", 1, 0, b""));
    assert_eq!(w.drops("T1"), [("no_distributor".into(), 2)]);
    w.gre("T1", xcf(1), xcf(2), [&[0, 0, 8, 0][..], &client(1).tcp("S", 1, 0, b"")].concat());
    assert_eq!(w.dropped("T1", "gre_not_dvipa"), 1);
    assert!(w.n("T1").app.is_empty());
    no_leak(&w);
}

#[test]
fn udp_and_other_protocols_are_spread_by_flow() {
    let mut w = sysplex();
    let d = w.node("D");
    let mut udp = distribution(&[53], &[("T1", Some(2)), ("T2", Some(3))]);
    udp.protocol = 17;
    udp.ports = vec![PortRange { low: 50, high: 60 }];
    w.nodes[d].config.home = vec![home(DVIPA, Role::Owner { distribution: vec![udp] })];
    w.configure(d);
    let mut seen = vec![];
    for port in [1, 2, 1, 2, 1] {
        w.send("peer", ends(PEER, port, DVIPA, 53).udp(b"?"));
        seen.push(who(&w));
    }
    assert_eq!(seen, ["T1", "T2", "T1", "T2", "T1"]);
    w.send("T2", ends(DVIPA, 53, PEER, 2).udp(b"!"));
    assert_eq!(w.n("peer").app.len(), 1);
    w.timeout("D", Duration::from_secs(200));
    w.send("peer", ends(PEER, 2, DVIPA, 53).udp(b"?"));
    assert_eq!(who(&w), "T1", "forgotten: chosen anew");
    let header = VnetHeader::default();
    assert!(w.n("T1").app.iter().all(|(h, _)| *h == header));
    no_leak(&w);
}

#[test]
fn ipv6_over_an_ipv4_xcf() {
    let (dvipa, peer): (IpAddr, IpAddr) =
        ("2001:db8:1::80".parse().unwrap(), "2001:db8:2::7".parse().unwrap());
    let mut w = sysplex_of(dvipa, peer);
    let f = ends(peer, 40_000, dvipa, 443);
    w.send("peer", f.tcp("S", 1, 0, b""));
    let target = who(&w);
    let (_, _, bytes) = gre(&w).pop().unwrap();
    assert_eq!(bytes[..4], [0, 0, 0x86, 0xdd]);
    w.send(target, f.back().tcp("SA", 100, 2, b""));
    // 1500 - IPv6 40 - ESP 8 - IV 8 - ICV 16 = 1428 of which 2 are the trailer; less IPv6 and TCP headers.
    assert_eq!(mss_of(&check_tcp(&w.n("peer").app[0].1)), Some(1366));
    w.send("peer", f.tcp("A", 2, 101, b""));
    let data: Vec<u8> = (0..30_000u32).map(|n| (n % 249) as u8).collect();
    let (header, packet) = f.back().tso(101, 2, &data, 1366);
    w.tun(target, header, packet);
    let (header, p) = w.n("peer").app.last().unwrap().clone();
    assert_eq!((header.gso_type, header.gso_size), (4, 1366));
    assert_eq!(p[60..], data);
    let (header, packet) = f.tso(2, 30_101, &data, 1366);
    w.tun("peer", header, packet);
    let (header, p) = w.n(target).app.last().unwrap().clone();
    assert_eq!((header.gso_type, header.gso_size), (4, 1366));
    assert_eq!(p[60..], data);
    // Too big: ICMPv6 to the target, from the peer's address.
    w.send(target, f.back().tcp("A", 101, 2, &[0; 1400]));
    let app = w.n(target).app.last().unwrap().1.clone();
    let parsed = etherparse::PacketHeaders::from_ip_slice(&app).unwrap();
    let Some(etherparse::TransportHeader::Icmpv6(icmp)) = parsed.transport else { panic!() };
    assert_eq!(icmp.icmp_type, etherparse::Icmpv6Type::PacketTooBig { mtu: 1426 });
    no_leak(&w);
    for n in ["peer", "T1", "T2"] {
        assert_eq!(w.drops(n), [], "{n}");
    }
    assert_eq!(w.drops("D"), [("too_big".into(), 1)]);
}

/// The two fragments of an IPv6 datagram.
fn fragments_of(p: &[u8], at: usize) -> [Vec<u8>; 2] {
    let payload = &p[40..];
    [(0, &payload[..at], true), (at, &payload[at..], false)].map(|(offset, part, more)| {
        let mut f = p[..40].to_vec();
        f[4..6].copy_from_slice(&(part.len() as u16 + 8).to_be_bytes());
        f[6] = 44;
        f.extend([p[6], 0]);
        f.extend((offset as u16 | u16::from(more)).to_be_bytes());
        f.extend([0, 0, 0, 77]);
        f.extend(part);
        f
    })
}

#[test]
fn an_ipv6_datagram_that_its_source_fragmented_goes_from_a_target_to_the_peer() {
    let (dvipa, peer): (IpAddr, IpAddr) =
        ("2001:db8:1::80".parse().unwrap(), "2001:db8:2::7".parse().unwrap());
    let mut w = sysplex_of(dvipa, peer);
    let f = ends(dvipa, 53, peer, 40_000);
    let mut datagram = Vec::new();
    let (IpAddr::V6(s), IpAddr::V6(d)) = (f.from.0, f.to.0) else { panic!() };
    let ip = etherparse::PacketBuilder::ipv6(s.octets(), d.octets(), 64);
    ip.udp(53, 40_000).write(&mut datagram, &[5; 3000]).unwrap();
    for fragment in fragments_of(&datagram, 1448) {
        w.send("T1", fragment);
    }
    let (_, _, bytes) = gre(&w).pop().unwrap();
    assert_eq!(bytes[..8], [0x20, 0, 0x86, 0xdd, 0x20, 0, 0, 0], "the key says: may be fragmented");
    assert_eq!(w.n("peer").app.last().unwrap().1, datagram);
    let Some(OnWire::Esp { bytes, .. }) = w.wire.last() else { panic!() };
    assert!(bytes.len() > 3000, "sealed whole, the network fragments it");
    // One that was not cut is told how much fits.
    let mut whole = Vec::new();
    let ip = etherparse::PacketBuilder::ipv6(s.octets(), d.octets(), 64);
    ip.udp(53, 40_000).write(&mut whole, &[5; 1452]).unwrap();
    w.send("T1", whole);
    assert_eq!(w.dropped("D", "too_big"), 1);
    no_leak(&w);
}

/// A connection both ways.
fn converses(w: &mut World, f: Ends) {
    w.send("peer", f.tcp("S", 1, 0, b""));
    let (_, to, _) = gre(w).pop().unwrap();
    let target = ["T1", "T2"].into_iter().find(|n| w.nodes[w.node(n)].xcf() == Some(to)).unwrap();
    w.send(target, f.back().tcp("SA", 100, 2, b""));
    w.send("peer", f.tcp("AP", 2, 101, b"question"));
    assert_eq!(w.n(target).app.last().unwrap().1, f.tcp("AP", 2, 101, b"question"));
    w.send(target, f.back().tcp("AP", 101, 9, b"answer"));
    assert_eq!(w.n("peer").app.last().unwrap().1, f.back().tcp("AP", 101, 9, b"answer"));
    no_leak(w);
    for n in ["peer", "D", "T1", "T2"] {
        assert_eq!(w.drops(n), [], "{n}");
    }
}

#[test]
fn families_mix_on_the_xcf_and_in_tunnels() {
    let v6: (IpAddr, IpAddr) = ("2001:db8:1::80".parse().unwrap(), "2001:db8:2::7".parse().unwrap());
    for (dvipa, peer) in [(DVIPA, PEER), v6] {
        for xcf_v6 in [false, true] {
            // The tunnel between addresses of the same family, and of the other.
            for outer in [(dvipa, peer), if dvipa == DVIPA { v6 } else { (DVIPA, PEER) }] {
                let mut w = sysplex_of(dvipa, peer);
                if xcf_v6 {
                    w.xcf_v6();
                }
                if outer.0 != dvipa {
                    for (n, a) in [("D", outer.0), ("peer", outer.1)] {
                        let role = if n == "D" { Role::Owner { distribution: vec![] } } else { Role::Static };
                        w.n(n).config.home.push(home(a, role));
                        let i = w.node(n);
                        w.configure(i);
                        w.n(n).engine.remove_all_sas();
                    }
                    let (d, p) = pair(dvipa, peer, 0x1500, "R");
                    w.sa("D", stack::control::SaPair { local: outer.0, remote: outer.1, ..d });
                    w.sa("peer", stack::control::SaPair { local: outer.1, remote: outer.0, ..p });
                }
                converses(&mut w, ends(peer, 40_000, dvipa, 443));
                assert!(
                    gre(&w).iter().all(|(from, to, _)| from.is_ipv6() == xcf_v6 && to.is_ipv6() == xcf_v6)
                );
            }
        }
    }
}

#[test]
fn sctp_is_spread_by_flow_and_forgotten_with_time() {
    let mut w = sysplex();
    let d = w.node("D");
    let mut sctp = distribution(&[2905], &[("T1", Some(2)), ("T2", Some(3))]);
    sctp.protocol = 132;
    w.nodes[d].config.home = vec![home(DVIPA, Role::Owner { distribution: vec![sctp] })];
    w.configure(d);
    let packet = |from: (IpAddr, u16), to: (IpAddr, u16)| {
        let (IpAddr::V4(s), IpAddr::V4(d)) = (from.0, to.0) else { panic!() };
        let mut chunk = [&from.1.to_be_bytes()[..], &to.1.to_be_bytes(), &[1; 8]].concat();
        chunk.extend([3; 20]);
        let mut p = Vec::new();
        let ip = etherparse::PacketBuilder::ipv4(s.octets(), d.octets(), 64);
        ip.write(&mut p, etherparse::IpNumber(132), &chunk).unwrap();
        p
    };
    let mut seen = vec![];
    for port in [1, 2, 1, 2] {
        w.send("peer", packet((PEER, port), (DVIPA, 2905)));
        seen.push(who(&w));
    }
    assert_eq!(seen, ["T1", "T2", "T1", "T2"]);
    w.send("T2", packet((DVIPA, 2905), (PEER, 2)));
    assert_eq!(w.n("peer").app.len(), 1);
    w.send("T1", packet((DVIPA, 2905), (PEER, 2)));
    assert_eq!(w.dropped("D", "gre_not_owner"), 1, "another's association");
    let known = |w: &World| w.nodes[d].distribution(w.now).iter().map(|t| t.1).sum::<u64>();
    assert_eq!(known(&w), 2);
    w.timeout("D", Duration::from_secs(181));
    assert_eq!(known(&w), 0);
    no_leak(&w);
}

#[test]
fn claims_12_31_50_a_target_is_an_ipsec_host_of_its_own_at_the_same_time() {
    let own = IpAddr::from([192, 0, 2, 12]);
    let mut w = sysplex();
    let t = w.node("T1");
    w.nodes[t].config.home.push(home(own, Role::Static));
    w.configure(t);
    let mut rules = both("R", one(DVIPA), one(PEER), IPSEC);
    rules.extend(both("O", one(own), one(PEER), IPSEC));
    w.filters("T1", rules);
    let mut rules = both("R", one(PEER), one(DVIPA), IPSEC);
    rules.extend(both("O", one(PEER), one(own), IPSEC));
    w.filters("peer", rules);
    let port = (1..9).find(|port| handshake(&mut w, *port) == "T1").unwrap();
    // Its own address: it asks for its own negotiation, and for none for the DVIPA.
    let f = ends(own, 22, PEER, port);
    w.send("T1", f.tcp("S", 1, 0, b""));
    assert_eq!(w.n("T1").acquires.iter().map(|a| a.source).collect::<Vec<_>>(), [own]);
    let (a, p) = pair(own, PEER, 0x2010, "O");
    w.sa("T1", a);
    w.sa("peer", p);
    let sas =
        |w: &World, n: &str| match answer(&w.nodes[w.node(n)].engine, w.now, stack::control::Question::Sas) {
            stack::control::Answer::Sas(v) => {
                v.iter().map(|s| (s.out_packets, s.in_packets)).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
    assert_eq!(sas(&w, "T1"), [(1, 0)], "what waited");
    w.send("peer", f.back().tcp("SA", 1, 2, b""));
    let on_d = sas(&w, "D");
    // Both connections at once, the same client, the same target.
    for n in 0..5 {
        w.send("T1", f.tcp("A", 2 + n, 2, b"own"));
        w.send("T1", client(port).back().tcp("A", 101 + n, 2, b"dvipa"));
    }
    assert_eq!(sas(&w, "T1"), [(6, 1)], "the own tunnel has the own connection alone");
    assert_eq!(sas(&w, "D"), [(on_d[0].0 + 5, on_d[0].1)]);
    assert!(w.n("T1").acquires.len() == 1);
    no_leak(&w);
}

#[test]
fn t44_a_million_flows_keep_their_targets_in_a_flood() {
    let mut w = sysplex();
    w.with_group(&[443]);
    let d = w.node("D");
    w.nodes[d].config.max_connections = 1_000_000;
    w.configure(d);
    let key = |n: u32| stack::engine::connection::ConnectionKey {
        protocol: 6,
        local: DVIPA,
        local_port: 443,
        remote: IpAddr::V4((0x0a00_0000 + n / 40_000).into()),
        remote_port: (n % 40_000) as u16,
    };
    let now = w.now;
    for (member, range) in [(xcf(2), 0..450_000), (xcf(3), 450_000..900_000)] {
        let all: Vec<u32> = range.collect();
        for page in all.chunks(1000) {
            let entries = page
                .iter()
                .map(|n| stack::engine::io::FlowRecord {
                    key: key(*n),
                    ipsec_routed: true,
                    stage: stack::engine::io::FlowStage::Open,
                })
                .collect();
            let order = stack::xcf::order::EngineOrder::Connections {
                member,
                dvipa: DVIPA,
                epoch: 1,
                entries,
                last: false,
            };
            w.n("D").engine.handle_group(now, &order);
        }
    }
    let count = |w: &World| w.nodes[d].distribution(w.now).iter().map(|t| t.1).sum::<u64>();
    assert_eq!(count(&w), 900_000);
    // Twice as many SYNs as there is room for.
    let n = &mut w.nodes[d];
    n.config.sysplex = None;
    let rules = both("P", one(DVIPA), any4(), FilterAction::Permit);
    w.filters("D", rules);
    let n = &mut w.nodes[d];
    for i in 0..200_000u32 {
        let from = IpAddr::V4((0x3000_0000 + i).into());
        let mut syn = ends(from, 1, DVIPA, 443).tcp("S", 1, 0, b"");
        n.engine.handle_host(now, VnetHeader::default(), &mut syn, &mut n.out);
        if i % 64 == 0 {
            n.engine.flush(now, &mut n.out);
            n.out.clear();
        }
    }
    n.engine.flush(now, &mut n.out);
    n.out.clear();
    assert!(count(&w) <= 1_000_000 && count(&w) >= 950_000, "{}", count(&w));
    for (n, target) in (0..900_000).step_by(997).map(|n| (n, if n < 450_000 { xcf(2) } else { xcf(3) })) {
        let f = ends(key(n).remote, key(n).remote_port, DVIPA, 443);
        let node = &mut w.nodes[d];
        let mut packet = f.tcp("A", 1, 1, b"x");
        node.engine.handle_host(now, VnetHeader::default(), &mut packet, &mut node.out);
        node.engine.flush(now, &mut node.out);
        assert_eq!(node.out.xcf.last().map(|s| s.remote), Some(target));
        node.out.clear();
    }
}
