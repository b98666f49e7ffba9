//! Stories of takeovers: what becomes of connections when a DVIPA changes its owner.
//!
//! ```text
//! peer ══ ESP ══ D (owner) ─┬─ T1        then        peer ══ ESP ══ B (owner) ─┬─ T1
//!                B (backup) ├─ T2                                              ├─ T2
//!                           └─ XCF                                             └─ D (what ended here)
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests: helpers beside #[test] functions too"
)]

mod common;

use common::*;
use stack::control::{AhIntegrity, EspIntegrity, EspSuite, FilterAction, FromStack, Role};
use stack::engine::io::{FlowRecord, FlowStage, ToGroup};
use stack::xcf::order::{EngineOrder, TargetState};
use std::net::IpAddr;
use std::time::Duration;

fn client(port: u16) -> Ends {
    ends(PEER, port, DVIPA, 443)
}

/// The sysplex with a backup that is no target, and stacks that talk to each other.
fn sysplex_with_backup() -> World {
    let mut w = sysplex();
    w.nodes.push(Node::new("B", Some(4), vec![home(DVIPA, Role::Backup)], &[1, 2, 3]));
    for (name, members) in [("D", [2, 3, 4]), ("T1", [1, 3, 4]), ("T2", [1, 2, 4])] {
        let n = w.n(name);
        n.config.members = Node::new("", None, vec![], &members).config.members;
    }
    w.filters("B", both("R", one(DVIPA), one(PEER), IPSEC));
    w.with_group(&[443]);
    for n in &mut w.nodes {
        n.events.clear();
    }
    w
}

fn owner() -> Role {
    Role::Owner { distribution: vec![distribution(&[443], &[("T1", Some(2)), ("T2", Some(3))])] }
}

fn set_role(w: &mut World, name: &str, role: Role, epoch: u64) {
    let i = w.node(name);
    w.nodes[i].config.home[0] = stack::control::Home { address: DVIPA, role, epoch };
    w.configure(i);
    w.carry(i);
}

/// The peer's tunnel now ends at another stack.
fn tunnel_to(w: &mut World, name: &str, spi: u32) {
    w.n("peer").engine.remove_all_sas();
    let (a, p) = pair(DVIPA, PEER, spi, "R");
    w.sa(name, a);
    w.sa("peer", p);
}

/// B is the owner at epoch 2; D is dead, if it has not given the DVIPA up before.
fn b_takes_over(w: &mut World) {
    if matches!(w.n("D").config.home[0].role, Role::Owner { .. }) {
        set_role(w, "D", Role::Backup, 1);
        w.n("D").mute = true;
    }
    set_role(w, "B", owner(), 2);
    tunnel_to(w, "B", 0x3020);
    let now = w.now;
    for name in ["T1", "T2"] {
        assert!(w.n(name).engine.owner_heard(now, DVIPA, xcf(4), 2));
    }
}

fn open(w: &mut World, f: Ends) -> &'static str {
    w.send("peer", f.tcp("S", 1, 0, b""));
    let at = ["D", "T1", "T2", "B"]
        .into_iter()
        .find(|n| w.nodes[w.node(n)].app.last().is_some_and(|(_, p)| *p == clamped(&f.tcp("S", 1, 0, b""))))
        .unwrap();
    w.n(at).app.clear();
    w.send(at, f.back().tcp("SA", 100, 2, b""));
    w.send("peer", f.tcp("A", 2, 101, b""));
    w.n(at).app.clear();
    w.n("peer").app.clear();
    at
}

/// A SYN as it comes out of a tunnel.
fn clamped(p: &[u8]) -> Vec<u8> {
    let mut p = p.to_vec();
    let parsed = stack::wire::packet::Parsed::parse(&p).unwrap();
    stack::engine::pmtu::clamp_mss(&mut p[parsed.header_len..], 1406, false);
    p
}

fn got(w: &mut World, name: &str) -> Vec<Vec<u8>> {
    std::mem::take(&mut w.n(name).app).into_iter().map(|(_, p)| p).collect()
}

fn rebuilt(w: &World, name: &str) -> Vec<(u64, u64, Vec<String>)> {
    w.nodes[w.node(name)]
        .events
        .iter()
        .filter_map(|e| match e {
            FromStack::Rebuilt { epoch, connections, missing, .. } => {
                Some((*epoch, *connections, missing.clone()))
            }
            _ => None,
        })
        .collect()
}

/// A page of what a member has, for the owner at epoch 2.
fn list(member: IpAddr, entries: Vec<FlowRecord>, last: bool) -> EngineOrder {
    EngineOrder::Connections { member, dvipa: DVIPA, epoch: 2, entries, last }
}

/// A stack does not hear a member any more.
fn silent(w: &mut World, name: &str, member: IpAddr) {
    let now = w.now;
    let state = TargetState { alive: false, ..target_state(Some(member), &[], 0) };
    w.n(name).engine.handle_group(now, &EngineOrder::Target(state));
}

fn no_leak(w: &World) {
    for n in &w.nodes {
        assert!(n.clear.is_empty(), "{} sent in clear", n.name);
    }
}

#[test]
fn s1_claims_2_5_13_connections_of_targets_and_of_the_old_owner_go_on_by_way_of_the_new_one() {
    let mut w = sysplex_with_backup();
    let at: Vec<_> = (1..7).map(|port| (port, open(&mut w, client(port)))).collect();
    // A session that ends on D itself, on a port that is not distributed.
    let ssh = ends(PEER, 9, DVIPA, 22);
    assert_eq!(open(&mut w, ssh), "D");
    set_role(&mut w, "D", Role::Moving { distributor: Some(xcf(4)) }, 2);
    b_takes_over(&mut w);
    assert_eq!(rebuilt(&w, "B"), [(2, 7, vec![])]);
    for (port, target) in at {
        w.send("peer", client(port).tcp("AP", 2, 101, b"to"));
        assert_eq!(got(&mut w, target), [client(port).tcp("AP", 2, 101, b"to")]);
        w.send(target, client(port).back().tcp("AP", 101, 4, b"fro"));
        assert_eq!(got(&mut w, "peer"), [client(port).back().tcp("AP", 101, 4, b"fro")]);
    }
    w.send("peer", ssh.tcp("AP", 2, 101, b"ls"));
    assert_eq!(got(&mut w, "D"), [ssh.tcp("AP", 2, 101, b"ls")]);
    w.send("D", ssh.back().tcp("AP", 101, 4, b"README"));
    assert_eq!(got(&mut w, "peer"), [ssh.back().tcp("AP", 101, 4, b"README")]);
    assert_eq!(w.nodes[w.node("B")].distribution(w.now), [("T1".into(), 3, 3), ("T2".into(), 3, 3)]);
    // D takes nothing new, and says when the last one has ended.
    w.gre("D", xcf(4), xcf(1), [&[0, 0, 8, 0][..], &client(50).tcp("S", 1, 0, b"")].concat());
    assert_eq!(w.dropped("D", "gre_not_dvipa"), 1);
    assert!(w.n("D").events.is_empty());
    w.send("peer", ssh.tcp("R", 4, 0, b""));
    w.timeout("D", Duration::from_secs(61));
    assert_eq!(w.n("D").events, [FromStack::Idle { dvipa: DVIPA }]);
    w.timeout("D", Duration::from_secs(61));
    assert_eq!(w.n("D").events.len(), 1, "said once");
    no_leak(&w);
}

#[test]
fn s1_claim_8_connections_that_end_on_the_new_owner_are_local_there() {
    let mut w = sysplex_with_backup();
    let at: Vec<_> = (1..5).map(|port| (port, open(&mut w, client(port)))).collect();
    let targets = [("T1", None), ("T2", Some(3))];
    set_role(&mut w, "D", Role::Moving { distributor: Some(xcf(2)) }, 2);
    set_role(&mut w, "T1", Role::Owner { distribution: vec![distribution(&[443], &targets)] }, 2);
    set_role(&mut w, "T2", Role::Target { distributor: Some(xcf(2)) }, 2);
    tunnel_to(&mut w, "T1", 0x3020);
    assert_eq!(rebuilt(&w, "T1"), [(2, 4, vec![])]);
    for (port, target) in at {
        let on_xcf = w.wire.iter().filter(|p| matches!(p, OnWire::Gre { .. })).count();
        w.send("peer", client(port).tcp("AP", 2, 101, b"to"));
        assert_eq!(got(&mut w, target), [client(port).tcp("AP", 2, 101, b"to")]);
        w.send(target, client(port).back().tcp("AP", 101, 4, b"fro"));
        assert_eq!(got(&mut w, "peer"), [client(port).back().tcp("AP", 101, 4, b"fro")]);
        let now_on_xcf = w.wire.iter().filter(|p| matches!(p, OnWire::Gre { .. })).count();
        assert_eq!(
            now_on_xcf - on_xcf,
            if target == "T1" { 0 } else { 2 },
            "local ones need no GRE any more"
        );
    }
    assert_eq!(w.nodes[w.node("T1")].distribution(w.now), [("T1".into(), 2, 2), ("T2".into(), 2, 2)]);
    no_leak(&w);
}

#[test]
fn r10_a_packet_of_an_unknown_flow_waits_for_the_targets_and_is_not_answered_with_rst() {
    let mut w = sysplex_with_backup();
    let on_t1: Vec<u16> = (1..7).filter(|port| open(&mut w, client(*port)) == "T1").collect();
    for t in ["T1", "T2", "D"] {
        w.n(t).mute = true;
    }
    b_takes_over(&mut w);
    let port = on_t1[0];
    w.send("peer", client(port).tcp("AP", 2, 101, b"one"));
    w.send("peer", client(port).tcp("AP", 5, 101, b"two"));
    w.send("peer", client(99).tcp("AP", 5, 101, b"of nobody"));
    w.send("peer", client(100).tcp("S", 1, 0, b""));
    assert!(got(&mut w, "B").is_empty() && w.n("peer").app.is_empty(), "held");
    let (t1, t2) = (got(&mut w, "T1"), got(&mut w, "T2"));
    assert_eq!(t1.len() + t2.len(), 1, "a new connection need not wait");
    // T1 answers: what is its own goes on, in order, the other waits.
    let (b, t1) = (w.node("B"), w.node("T1"));
    w.report(t1, b, DVIPA, 2);
    w.carry(b);
    assert_eq!(
        got(&mut w, "T1"),
        [client(port).tcp("AP", 2, 101, b"one"), client(port).tcp("AP", 5, 101, b"two")]
    );
    assert!(rebuilt(&w, "B").is_empty());
    // After a second the owner goes on without the others: its kernel answers what nobody knows.
    w.timeout("B", Duration::from_millis(999));
    assert!(got(&mut w, "B").is_empty() && rebuilt(&w, "B").is_empty());
    w.timeout("B", Duration::from_millis(1));
    assert_eq!(rebuilt(&w, "B"), [(2, 4, vec!["S1".into(), "S3".into()])]);
    assert_eq!(got(&mut w, "B"), [client(99).tcp("AP", 5, 101, b"of nobody")]);
    let asked = w.n("B").group.iter().filter(|g| matches!(g, ToGroup::AskConnections { .. })).count();
    assert!((4..30).contains(&asked), "asked again while they are silent: {asked}");
    no_leak(&w);
    assert_eq!(w.drops("B"), []);
}

#[test]
fn r10_while_the_table_is_rebuilt_a_target_tells_of_a_flow_by_sending_in_it() {
    let mut w = sysplex_with_backup();
    let target = open(&mut w, client(1));
    let other = if target == "T1" { "T2" } else { "T1" };
    for t in ["T1", "T2", "D"] {
        w.n(t).mute = true;
    }
    b_takes_over(&mut w);
    w.send("peer", client(1).tcp("AP", 2, 101, b"waits"));
    w.send(target, client(1).back().tcp("AP", 101, 2, b"goes on"));
    assert_eq!(got(&mut w, "peer"), [client(1).back().tcp("AP", 101, 2, b"goes on")]);
    assert_eq!(got(&mut w, target), [client(1).tcp("AP", 2, 101, b"waits")]);
    // T43: nobody else can have it from then on, by no message.
    let stolen = FlowRecord {
        key: stack::engine::connection::ConnectionKey {
            protocol: 6,
            local: DVIPA,
            local_port: 443,
            remote: PEER,
            remote_port: 1,
        },
        ipsec_routed: true,
        stage: FlowStage::Open,
    };
    let (now, thief) = (w.now, w.n(other).xcf().unwrap());
    for order in [
        list(thief, vec![stolen], true),
        EngineOrder::NewConnection { member: thief, epoch: 2, entry: stolen },
        EngineOrder::ConnectionEnded { member: thief, epoch: 2, key: stolen.key },
    ] {
        w.n("B").engine.handle_group(now, &order);
    }
    w.send("peer", client(1).tcp("AP", 7, 101, b"still there"));
    assert_eq!(got(&mut w, target), [client(1).tcp("AP", 7, 101, b"still there")]);
    // When the table is whole, unknown flows are refused again.
    w.timeout("B", Duration::from_secs(1));
    w.gre("B", thief, xcf(4), [&[0, 0, 8, 0][..], &client(7).back().tcp("A", 1, 1, b"x")].concat());
    assert_eq!(w.dropped("B", "gre_unknown_flow"), 1);
}

#[test]
fn r11_what_a_target_sends_while_nobody_owns_the_address_waits_for_the_next_owner() {
    let mut w = sysplex_with_backup();
    let target = open(&mut w, client(1));
    set_role(&mut w, target, Role::Target { distributor: None }, 1);
    let on_wire = w.wire.len();
    w.send(target, client(1).back().tcp("AP", 101, 2, b"a"));
    w.send(target, client(1).back().tcp("AP", 102, 2, b"b"));
    assert_eq!(w.wire.len(), on_wire);
    b_takes_over(&mut w);
    let i = w.node(target);
    w.carry(i);
    let want: Vec<_> = [(101, b"a"), (102, b"b")].map(|(s, d)| client(1).back().tcp("AP", s, 2, d)).to_vec();
    let sent: Vec<u8> = got(&mut w, "peer").iter().flat_map(|p| p[40..].to_vec()).collect();
    assert_eq!((sent, want.len()), (b"ab".to_vec(), 2), "in order");
    // Without an owner for long, they are dropped and counted.
    set_role(&mut w, target, Role::Target { distributor: None }, 3);
    w.send(target, client(1).back().tcp("AP", 103, 2, b"c"));
    w.timeout(target, Duration::from_secs(2));
    assert_eq!(w.dropped(target, "hold_timeout"), 1);
    no_leak(&w);
}

#[test]
fn t47_the_higher_epoch_is_right_whoever_says_it_first() {
    let mut w = sysplex_with_backup();
    let now = w.now;
    let target = open(&mut w, client(1));
    let heard =
        |w: &mut World, name: &str, owner, epoch| w.n(name).engine.owner_heard(now, DVIPA, xcf(owner), epoch);
    assert!(!heard(&mut w, target, 4, 1), "no higher than what is known");
    assert!(!heard(&mut w, target, 4, 0));
    assert!(!heard(&mut w, target, 9, 5), "no member");
    assert!(!w.n(target).engine.owner_heard(now, PEER, xcf(4), 5), "not our address");
    assert!(heard(&mut w, target, 4, 5));
    assert!(!heard(&mut w, target, 1, 4), "the old owner goes on talking");
    // So does the configuration of an iked that has not heard of it.
    set_role(&mut w, target, Role::Target { distributor: Some(xcf(1)) }, 4);
    let before = w.wire.len();
    w.send(target, client(1).back().tcp("A", 101, 2, b"x"));
    assert!(matches!(w.wire[before], OnWire::Gre { to, .. } if to == xcf(4)));
    set_role(&mut w, target, Role::Target { distributor: Some(xcf(1)) }, 6);
    let before = w.wire.len();
    w.send(target, client(1).back().tcp("A", 101, 2, b"x"));
    assert!(matches!(w.wire[before], OnWire::Gre { to, .. } if to == xcf(1)));
    assert_eq!(w.n(target).engine.epoch_of(DVIPA), 6);
}

#[test]
fn t47_an_owner_that_hears_of_a_higher_epoch_stops_at_once() {
    let mut w = sysplex_with_backup();
    let now = w.now;
    open(&mut w, client(1));
    let ssh = ends(PEER, 9, DVIPA, 22);
    assert_eq!(open(&mut w, ssh), "D");
    assert!(w.n("D").engine.owner_heard(now, DVIPA, xcf(4), 2));
    assert!(w.n("D").engine.owned().is_empty());
    let esp =
        |w: &World| w.wire.iter().filter(|p| matches!(p, OnWire::Esp { from, .. } if *from == DVIPA)).count();
    let before = esp(&w);
    w.send("D", ssh.back().tcp("AP", 101, 2, b"through the new owner"));
    assert!(matches!(w.wire.last(), Some(OnWire::Gre { to, .. }) if *to == xcf(4)));
    w.send("peer", client(1).tcp("A", 2, 101, b"late"));
    w.gre("D", xcf(2), xcf(1), [&[0, 0, 8, 0][..], &client(1).back().tcp("A", 1, 1, b"x")].concat());
    assert_eq!(esp(&w), before, "nothing is sent as owner");
    // Its iked, which was stopped as well, does not bring it back; a new epoch does.
    set_role(&mut w, "D", owner(), 1);
    assert!(w.n("D").engine.owned().is_empty());
    set_role(&mut w, "D", owner(), 3);
    assert_eq!(w.n("D").engine.owned().len(), 1);
}

/// D has given the DVIPA up, B is about to own it: what surprises them is on its way. Returns what the peer and the
/// targets will have got in the end.
fn surprised(w: &mut World) -> (&'static str, Ends) {
    let ssh = ends(PEER, 9, DVIPA, 22);
    let target = open(w, client(1));
    assert_eq!(open(w, ssh), "D");
    set_role(w, "D", Role::Moving { distributor: Some(xcf(4)) }, 2);
    w.stale = Some("D");
    w.send("peer", client(1).tcp("AP", 2, 101, b"to the target"));
    w.send("peer", ssh.tcp("AP", 2, 101, b"to D itself"));
    w.send(target, client(1).back().tcp("AP", 101, 2, b"of the target"));
    w.send("D", ssh.back().tcp("AP", 101, 2, b"of D itself"));
    for n in ["peer", "D", "T1", "T2"] {
        assert!(got(w, n).is_empty(), "all of it waits");
    }
    (target, ssh)
}

/// The SA of D, with its numbers, at B.
fn hand_over(w: &mut World) {
    let d = w.node("D");
    let stack::control::Answer::Sas(sas) = answer(&w.nodes[d].engine, w.now, stack::control::Question::Sas)
    else {
        panic!()
    };
    let (pair, _) = pair(DVIPA, PEER, 0x1000, "R");
    let continued =
        stack::control::Continued { next_sequence: sas[0].next_sequence, replay: sas[0].replay.clone() };
    w.n("D").engine.remove_all_sas();
    w.sa("B", stack::control::SaPair { continued: Some(continued), ..pair });
}

fn nothing_was_lost(w: &mut World, target: &'static str, ssh: Ends) {
    assert_eq!(got(w, target), [client(1).tcp("AP", 2, 101, b"to the target")]);
    assert_eq!(got(w, "D"), [ssh.tcp("AP", 2, 101, b"to D itself")]);
    let mut at_peer = got(w, "peer");
    at_peer.sort();
    let mut want =
        [client(1).back().tcp("AP", 101, 2, b"of the target"), ssh.back().tcp("AP", 101, 2, b"of D itself")];
    want.sort();
    assert_eq!(at_peer, want);
    for n in ["peer", "D", "T1", "T2", "B"] {
        assert_eq!(w.drops(n), [], "{n}");
    }
    no_leak(w);
}

#[test]
fn r11_r12_a_planned_move_loses_no_packet_when_the_owner_has_its_sas_first() {
    let mut w = sysplex_with_backup();
    let (target, ssh) = surprised(&mut w);
    hand_over(&mut w);
    set_role(&mut w, "B", owner(), 2);
    nothing_was_lost(&mut w, target, ssh);
}

#[test]
fn r11_r12_a_planned_move_loses_no_packet_when_the_sas_come_last() {
    let mut w = sysplex_with_backup();
    let (target, ssh) = surprised(&mut w);
    set_role(&mut w, "B", owner(), 2);
    w.timeout("B", Duration::from_millis(100));
    hand_over(&mut w);
    nothing_was_lost(&mut w, target, ssh);
    // The neighbours still send to D, and a target has not heard of B.
    w.send("peer", client(1).tcp("AP", 15, 101, b"late"));
    assert_eq!(got(&mut w, target), [client(1).tcp("AP", 15, 101, b"late")]);
    w.send(target, client(1).back().tcp("AP", 114, 2, b"late"));
    assert_eq!(got(&mut w, "peer"), [client(1).back().tcp("AP", 114, 2, b"late")]);
}

#[test]
fn r11_r12_what_nobody_takes_is_given_up_and_nothing_is_forwarded_twice() {
    let mut w = sysplex_with_backup();
    let (target, _) = surprised(&mut w);
    w.timeout("B", Duration::from_secs(1));
    assert_eq!(w.drops("B"), [("gre_not_dvipa".into(), 4)]);
    // An owner takes what was given on only from the one before it, and only for a second.
    set_role(&mut w, "B", owner(), 2);
    hand_over(&mut w);
    let late = [&[0x20, 0, 8, 0, 0x40, 0, 0, 0][..], &client(1).back().tcp("A", 114, 2, b"x")].concat();
    w.timeout("B", Duration::from_secs(1));
    w.gre("B", xcf(1), xcf(4), late.clone());
    assert_eq!(w.dropped("B", "gre_not_owner"), 1);
    w.gre("D", xcf(3), xcf(1), late.clone());
    assert_eq!(w.dropped("D", "gre_not_dvipa"), 1, "given on already");
    let member = w.n(target).xcf().unwrap();
    w.gre(target, xcf(1), member, [&late[..8], &client(1).tcp("A", 2, 2, b"x")].concat());
    assert_eq!(w.dropped(target, "gre_bad_key"), 1);
    // ESP that no SA comes for is what it is.
    set_role(&mut w, "B", Role::Backup, 2);
    set_role(&mut w, "B", owner(), 3);
    w.esp("B", PEER, DVIPA, vec![0x77; 60]);
    assert_eq!(w.dropped("B", "unknown_spi"), 0);
    w.timeout("B", Duration::from_secs(1));
    w.esp("B", PEER, DVIPA, vec![0x77; 60]);
    assert_eq!(w.dropped("B", "unknown_spi"), 2);
}

#[test]
fn ike_and_esp_in_udp_that_come_to_the_old_owner_reach_the_new_one() {
    let mut w = sysplex_with_backup();
    set_role(&mut w, "D", Role::Moving { distributor: Some(xcf(4)) }, 2);
    set_role(&mut w, "B", owner(), 2);
    let socket = |a: IpAddr, port| std::net::SocketAddr::new(a, port);
    let now = w.now;
    let d = w.node("D");
    for (port, bytes) in [(500, vec![9; 28]), (4500, [&[0; 4][..], &[9; 28]].concat())] {
        let mut bytes = bytes;
        let arrival = stack::engine::io::UdpArrival {
            local: socket(DVIPA, port),
            remote: socket(PEER, 1234),
            segment: bytes.len(),
            tos: 0,
        };
        let n = &mut w.nodes[d];
        n.engine.handle_udp(now, arrival, &mut bytes, &mut n.out);
        w.carry(d);
        let ike = w.n("B").ike.pop().unwrap();
        assert_eq!((ike.local, ike.remote), (socket(DVIPA, port), socket(PEER, 1234)));
        assert_eq!(ike.bytes, [9; 28]);
    }
    assert!(w.n("D").ike.is_empty());
    assert_eq!((w.drops("D"), w.drops("B")), (vec![], vec![]));
}

/// AH covers the IP header: the packet is given on as it came, and waits at the new owner until the SA is there.
#[test]
fn r11_ah_that_comes_to_the_old_owner_reaches_the_new_one() {
    let mut w = sysplex_with_backup();
    let ssh = ends(PEER, 9, DVIPA, 22);
    assert_eq!(open(&mut w, ssh), "D");
    let (mut a, mut p) = pair(DVIPA, PEER, 0x1020, "R");
    for sa in [&mut a, &mut p] {
        sa.suite = EspSuite::Ah { integrity: AhIntegrity::Mac(EspIntegrity::HmacSha256) };
        sa.key_in.0.resize(32, 7);
        sa.key_out.0.resize(32, 7);
    }
    w.n("peer").engine.remove_all_sas();
    w.sa("peer", p);
    let sealed = |w: &mut World, seq, data: &[u8]| {
        w.send("peer", ssh.tcp("AP", seq, 101, data));
        let (_, packet) = w.n("peer").clear.pop().unwrap();
        assert_eq!(packet[9], 51, "AH comes out by the TUN");
        packet
    };
    set_role(&mut w, "D", Role::Moving { distributor: Some(xcf(4)) }, 2);
    // B is not the owner yet, then it is without the SA, then all is there.
    for (n, role) in [(0, None), (1, Some(owner()))] {
        if let Some(role) = role {
            set_role(&mut w, "B", role, 2);
        }
        let packet = sealed(&mut w, 2 + n, b"!");
        w.send("D", packet);
        assert!(got(&mut w, "D").is_empty(), "it waits");
    }
    w.sa("B", a);
    assert_eq!(got(&mut w, "D"), [ssh.tcp("AP", 2, 101, b"!"), ssh.tcp("AP", 3, 101, b"!")]);
    let packet = sealed(&mut w, 4, b"late");
    w.send("D", packet.clone());
    assert_eq!(got(&mut w, "D"), [ssh.tcp("AP", 4, 101, b"late")]);
    w.send("D", packet);
    assert_eq!(w.drops("D"), []);
    assert_eq!(w.drops("B"), [("replay".into(), 1)]);
    // What nobody has an SA for is given up.
    let mut unknown = sealed(&mut w, 8, b"!");
    unknown[24] ^= 0xff;
    w.send("D", unknown);
    w.timeout("B", Duration::from_secs(1));
    assert_eq!(w.dropped("B", "unknown_spi"), 1);
    no_leak(&w);
}

#[test]
fn a_restarted_distributor_learns_its_table_again_its_own_sessions_too() {
    let mut w = sysplex_with_backup();
    let at: Vec<_> = (1..5).map(|port| (port, open(&mut w, client(port)))).collect();
    let ssh = ends(PEER, 9, DVIPA, 22);
    assert_eq!(open(&mut w, ssh), "D");
    let d = w.node("D");
    w.nodes[d].crash();
    w.nodes[d].group.clear();
    w.filters("D", both("R", one(DVIPA), one(PEER), IPSEC));
    w.configure(d);
    w.carry(d);
    tunnel_to(&mut w, "D", 0x3020);
    for (port, target) in at {
        w.send("peer", client(port).tcp("AP", 2, 101, b"to"));
        assert_eq!(got(&mut w, target), [client(port).tcp("AP", 2, 101, b"to")]);
        w.send(target, client(port).back().tcp("AP", 101, 4, b"fro"));
        assert_eq!(got(&mut w, "peer").len(), 1);
    }
    assert_eq!(rebuilt(&w, "D"), [(1, 4, vec![])]);
    // The application did not notice; a packet of it puts the session into the table again.
    w.send("D", ssh.back().tcp("AP", 101, 2, b"$"));
    w.send("peer", ssh.tcp("AP", 2, 102, b"ls"));
    assert_eq!(got(&mut w, "D"), [ssh.tcp("AP", 2, 102, b"ls")]);
    set_role(&mut w, "D", Role::Moving { distributor: Some(xcf(4)) }, 2);
    b_takes_over(&mut w);
    assert_eq!(rebuilt(&w, "B"), [(2, 5, vec![])], "a takeover finds it");
    no_leak(&w);
}

#[test]
fn t45_a_member_that_is_silent_keeps_its_connections_for_a_second_and_gets_them_back() {
    let mut w = sysplex_with_backup();
    let d = w.node("D");
    let on_t1 = (1..9).find(|port| open(&mut w, client(*port)) == "T1").unwrap();
    silent(&mut w, "D", xcf(2));
    for port in 20..24 {
        assert_eq!(open(&mut w, client(port)), "T2", "new ones go elsewhere");
    }
    w.send("peer", client(on_t1).tcp("A", 2, 101, b"x"));
    assert_eq!(got(&mut w, "T1").len(), 1, "silence is no proof");
    w.timeout("D", Duration::from_millis(999));
    w.ready(d, xcf(2), &[443], 100);
    w.timeout("D", Duration::from_millis(10));
    w.send("peer", client(on_t1).tcp("A", 2, 101, b"x"));
    assert_eq!(got(&mut w, "T1").len(), 1, "a flap moves nothing");
    silent(&mut w, "D", xcf(2));
    w.timeout("D", Duration::from_secs(1));
    w.send("peer", client(on_t1).tcp("A", 2, 101, b"x"));
    assert_eq!(got(&mut w, "D").len(), 1, "the owner's kernel answers with RST");
    // It lived after all: what it has is asked for, and found again.
    w.ready(d, xcf(2), &[443], 100);
    w.send("peer", client(on_t1).tcp("A", 2, 101, b"x"));
    assert_eq!(got(&mut w, "T1").len(), 1);
    // One that says that it ends has nothing any more, at once.
    let state = TargetState { alive: false, left: true, ..target_state(Some(xcf(2)), &[], 0) };
    let now = w.now;
    w.n("D").engine.handle_group(now, &EngineOrder::Target(state));
    w.send("peer", client(on_t1).tcp("A", 2, 101, b"x"));
    assert_eq!((got(&mut w, "D").len(), got(&mut w, "T1").len()), (1, 0));
}

#[test]
fn t45_without_candidate_tcp_is_refused_through_the_tunnel_and_udp_is_counted() {
    let mut w = sysplex_with_backup();
    let d = w.node("D");
    for member in [2, 3] {
        w.ready(d, xcf(member), &[], 100);
    }
    let f = client(1);
    w.send("peer", f.tcp("S", 7, 0, b""));
    let answer = got(&mut w, "peer");
    assert_eq!(answer.len(), 1);
    let tcp = check_tcp(&answer[0]);
    assert_eq!((tcp.rst, tcp.ack, tcp.acknowledgment_number, tcp.source_port), (true, true, 8, 443));
    assert!(got(&mut w, "D").is_empty(), "even if a server listens there");
    let Role::Owner { distribution } = &mut w.nodes[d].config.home[0].role else { panic!() };
    distribution[0].protocol = 17;
    w.configure(d);
    w.send("peer", f.udp(b"?"));
    assert_eq!(w.dropped("D", "no_target"), 2);
    assert!(got(&mut w, "peer").is_empty() && got(&mut w, "D").is_empty());
    no_leak(&w);
}

#[test]
fn a_clear_connection_that_a_target_opens_gets_its_answers_by_the_owner() {
    let mut w = sysplex_with_backup();
    for n in ["D", "T1", "T2", "B"] {
        let mut rules = both("R", one(DVIPA), one(PEER), IPSEC);
        rules.extend(both("P", one(DVIPA), any4(), FilterAction::Permit));
        w.filters(n, rules);
    }
    let f = ends(DVIPA, 50_000, STRANGER, 25);
    w.send("T2", f.tcp("S", 1, 0, b""));
    assert_eq!(w.n("T2").clear.len(), 1, "its own filters let it out, not by the distributor");
    let told: Vec<_> =
        w.n("T2").group.iter().filter(|g| matches!(g, ToGroup::Opened { .. })).cloned().collect();
    assert!(matches!(told[..], [ToGroup::Opened { to, flow }] if to == xcf(1) && !flow.ipsec_routed));
    w.send("D", f.back().tcp("SA", 9, 2, b""));
    assert_eq!(got(&mut w, "T2"), [f.back().tcp("SA", 9, 2, b"")]);
    // It ends; the owner, who sees one direction, hears of it.
    w.send("T2", f.tcp("FA", 2, 10, b""));
    w.send("D", f.back().tcp("FA", 10, 3, b""));
    assert!(w.n("T2").group.iter().any(|g| matches!(g, ToGroup::Ended { to, .. } if *to == xcf(1))));
    // A takeover keeps clear connections as well: they are in the list, marked.
    let g = ends(DVIPA, 50_001, STRANGER, 25);
    w.send("T2", g.tcp("S", 1, 0, b""));
    set_role(&mut w, "D", Role::Backup, 2);
    b_takes_over(&mut w);
    w.n("T2").app.clear();
    w.send("B", g.back().tcp("SA", 9, 2, b""));
    assert_eq!(got(&mut w, "T2"), [g.back().tcp("SA", 9, 2, b"")]);
    let last = w.wire.iter().rev().find_map(|p| match p {
        OnWire::Gre { bytes, .. } => Some(bytes[..8].to_vec()),
        _ => None,
    });
    assert_eq!(last.unwrap(), [0x20, 0, 8, 0, 0x80, 0, 0, 0]);
}

#[test]
fn t44_a_list_of_a_million_connections_fills_the_table_and_no_more() {
    let mut w = sysplex_with_backup();
    let b = w.node("B");
    w.nodes[b].config.max_connections = 200_000;
    b_takes_over(&mut w);
    let now = w.now;
    let mut flows = Vec::new();
    for n in 0..1_000_000u32 {
        flows.push(FlowRecord {
            key: stack::engine::connection::ConnectionKey {
                protocol: 6,
                local: DVIPA,
                local_port: 443,
                remote: IpAddr::V4((0x0a00_0000 + n / 50_000).into()),
                remote_port: (n % 50_000) as u16,
            },
            ipsec_routed: true,
            stage: FlowStage::Open,
        });
    }
    for page in flows.chunks(1000) {
        w.n("B").engine.handle_group(now, &list(xcf(2), page.to_vec(), false));
    }
    assert_eq!(w.dropped("B", "connection_table_full"), 800_000);
    let of_t1 = w.nodes[b].distribution(w.now)[0].1;
    assert_eq!(of_t1, 200_000);
}
