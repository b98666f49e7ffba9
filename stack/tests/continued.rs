//! Stories of leases, ceilings and SAs that go on at another owner (threats T26, T47).
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests: helpers beside #[test] functions too"
)]

mod common;

use common::*;
use stack::control::{
    Answer, Continued, FilterAction, FromStack, Question, ReplaySnapshot, Role, SaPair, SaView,
};
use std::net::IpAddr;
use std::time::Duration;

const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 11));

fn client(port: u16) -> Ends {
    ends(PEER, port, DVIPA, 22)
}

/// A sysplex in which D needs a lease, and has a static address beside the DVIPA.
fn leased() -> World {
    let mut w = sysplex();
    let d = w.node("D");
    w.nodes[d].config.home.push(home(OWN, Role::Static));
    w.with_group(&[443]);
    w.nodes[d].config.sysplex.as_mut().unwrap().leased = true;
    w.configure(d);
    w.carry(d);
    let mut rules = both("R", one(DVIPA), one(PEER), IPSEC);
    rules.extend(both("O", one(OWN), one(PEER), IPSEC));
    rules.extend(both("P", any4(), any4(), FilterAction::Permit));
    w.filters("D", rules);
    let mut rules = both("R", one(PEER), one(DVIPA), IPSEC);
    rules.extend(both("O", one(PEER), one(OWN), IPSEC));
    w.filters("peer", rules);
    let (a, p) = pair(OWN, PEER, 0x2010, "O");
    w.sa("D", a);
    w.sa("peer", p);
    w.timeout("D", Duration::from_secs(1));
    w.n("D").events.clear();
    w
}

fn boot(w: &mut World, ns: u64) {
    w.n("D").engine.set_boot_time(ns);
}

#[test]
fn t47_without_a_lease_nothing_goes_in_or_out_for_the_dvipa_and_static_addresses_go_on() {
    let mut w = leased();
    boot(&mut w, 1000);
    let ended = |w: &World| w.dropped("D", "lease_ended");
    w.send("peer", client(1).tcp("S", 1, 0, b""));
    assert_eq!((ended(&w), w.n("D").app.len()), (1, 0), "no lease yet");
    w.n("D").engine.lease(2000);
    w.send("peer", client(1).tcp("S", 1, 0, b""));
    w.send("D", client(1).back().tcp("SA", 1, 2, b""));
    assert_eq!((ended(&w), w.n("D").app.len(), w.n("peer").app.len()), (1, 1, 1));
    assert!(w.n("D").engine.may_send_ike(DVIPA));
    // It was stopped for longer than its lease.
    boot(&mut w, 2000);
    let on_wire = w.wire.len();
    w.send("D", client(1).back().tcp("A", 2, 2, b"x"));
    w.send("D", ends(DVIPA, 1, STRANGER, 2).tcp("S", 1, 0, b""));
    w.gre("D", xcf(2), xcf(1), [&[0, 0, 8, 0][..], &client(1).back().tcp("S", 1, 1, b"x")].concat());
    assert_eq!(w.wire.len(), on_wire);
    w.send("peer", client(1).tcp("A", 2, 2, b"x"));
    w.send("D", ends(STRANGER, 1, DVIPA, 2).tcp("S", 1, 0, b""));
    assert!(!w.n("D").engine.may_send_ike(DVIPA));
    assert_eq!((ended(&w), w.n("D").app.len()), (7, 1));
    assert!(w.n("D").clear.is_empty());
    // The static address is nobody else's.
    assert!(w.n("D").engine.may_send_ike(OWN));
    let own = ends(PEER, 9, OWN, 22);
    w.send("peer", own.tcp("S", 1, 0, b""));
    w.send("D", own.back().tcp("SA", 1, 2, b""));
    assert_eq!((w.n("D").app.len(), w.n("peer").app.len()), (2, 2));
    // Renewed, it goes on; given back, it ends at once.
    w.n("D").engine.lease(3000);
    w.send("D", client(1).back().tcp("A", 2, 2, b"x"));
    assert_eq!(w.n("peer").app.len(), 3);
    w.n("D").engine.lease(0);
    w.send("D", client(1).back().tcp("A", 3, 2, b"x"));
    assert_eq!((w.n("peer").app.len(), ended(&w)), (3, 8));
}

#[test]
fn t47_what_waited_for_an_sa_is_not_sent_after_the_lease() {
    let mut w = leased();
    boot(&mut w, 0);
    w.n("D").engine.lease(10);
    w.n("D").engine.remove_all_sas();
    w.send("D", client(1).back().tcp("S", 1, 0, b""));
    assert_eq!(w.n("D").acquires.len(), 1);
    boot(&mut w, 10);
    let (d, _) = pair(DVIPA, PEER, 0x1200, "R");
    let on_wire = w.wire.len();
    w.sa("D", d);
    assert_eq!((w.wire.len(), w.dropped("D", "lease_ended")), (on_wire, 1));
}

fn wanted(w: &mut World) -> Vec<(u64, u64)> {
    let events = std::mem::take(&mut w.n("D").events);
    let wish = |e| match e {
        FromStack::CeilingWanted { dvipa, epoch, highest_used } => {
            assert_eq!(dvipa, DVIPA);
            Some((epoch, highest_used))
        }
        _ => None,
    };
    events.into_iter().filter_map(wish).collect()
}

/// D's tunnel to the peer, with a ceiling.
fn bounded(w: &mut World, continued: Option<Continued>) {
    for n in ["D", "peer"] {
        w.n(n).engine.remove_all_sas();
    }
    let (d, p) = pair(DVIPA, PEER, 0x1300, "R");
    w.sa("peer", p);
    w.sa("D", SaPair { ceiling_of: Some(DVIPA), continued, ..d });
}

fn say(w: &mut World, times: usize) -> usize {
    let before = w.n("peer").app.len();
    for n in 0..times {
        w.send("D", client(1).back().tcp("A", n as u32, 2, b"x"));
    }
    w.n("peer").app.len() - before
}

#[test]
fn t26_no_number_above_the_ceiling_and_more_is_asked_for_in_time() {
    let mut w = sysplex();
    bounded(&mut w, None);
    assert_eq!(say(&mut w, 1), 0);
    assert_eq!((w.dropped("D", "ceiling_reached"), wanted(&mut w)), (1, vec![(0, 0)]));
    w.n("D").engine.ceiling(DVIPA, 1, 100);
    assert_eq!(say(&mut w, 60), 60);
    assert_eq!(wanted(&mut w), [(1, 51)]);
    // A late message of an earlier write, and one of an earlier epoch, change nothing.
    w.n("D").engine.ceiling(DVIPA, 1, 50);
    w.n("D").engine.ceiling(DVIPA, 0, 1000);
    assert_eq!(say(&mut w, 60), 40);
    assert_eq!(w.n("D").engine.owned()[0].ceiling, Some(100));
    w.n("D").engine.ceiling(DVIPA, 1, 200);
    assert_eq!(say(&mut w, 10), 10);
    // A super-packet that does not fit below takes no number at all.
    w.n("D").engine.ceiling(DVIPA, 1, 201);
    let (header, packet) = client(1).back().tso(1, 2, &[7; 14_000], 1000);
    w.tun("D", header, packet.clone());
    assert_eq!(say(&mut w, 1), 1);
    // What is another's sends nothing more.
    let now = w.now;
    let d = w.node("D");
    w.nodes[d].config.home[0].epoch = 1;
    assert!(w.n("D").engine.owner_heard(now, DVIPA, xcf(2), 2));
    assert!(w.n("D").engine.owned().is_empty());
}

fn view(w: &World, name: &str) -> SaView {
    match answer(&w.nodes[w.node(name)].engine, w.now, Question::Sas) {
        Answer::Sas(v) => v[0].clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_planned_move_hands_numbers_and_replay_window_over() {
    let mut w = sysplex();
    bounded(&mut w, None);
    w.n("D").engine.ceiling(DVIPA, 1, 1000);
    assert_eq!(say(&mut w, 5), 5);
    w.send("peer", client(1).tcp("S", 1, 0, b""));
    for n in 0..7 {
        w.send("peer", client(1).tcp("A", n, 0, b""));
    }
    let sent: Vec<Vec<u8>> = w
        .wire
        .iter()
        .filter_map(|p| match p {
            OnWire::Esp { from, bytes, .. } if *from == PEER => Some(bytes.clone()),
            _ => None,
        })
        .collect();
    let old = view(&w, "D");
    assert_eq!((old.next_sequence, old.highest_received), (6, 8));
    // The same stack stands for the next owner: with an engine that knows nothing.
    let d = w.node("D");
    w.nodes[d].crash();
    w.filters("D", both("R", one(DVIPA), one(PEER), IPSEC));
    w.configure(d);
    let (a, _) = pair(DVIPA, PEER, 0x1300, "R");
    let continued = Some(Continued { next_sequence: old.next_sequence, replay: old.replay.clone() });
    w.sa("D", SaPair { ceiling_of: Some(DVIPA), continued, ..a });
    w.n("D").engine.ceiling(DVIPA, 2, 2000);
    let new = view(&w, "D");
    assert_eq!((new.next_sequence, new.highest_received, &new.replay), (6, 8, &old.replay));
    for packet in sent {
        w.esp("D", PEER, DVIPA, packet);
    }
    assert_eq!(w.dropped("D", "replay"), 9 - 1, "what the old one had accepted");
    assert_eq!(say(&mut w, 3), 3);
    let before = w.n("D").app.len();
    w.send("peer", client(1).tcp("A", 9, 0, b"goes on"));
    assert_eq!(w.n("D").app.len(), before + 1);
    assert_eq!(w.drops("peer"), []);
}

#[test]
fn t26_after_a_failure_nothing_is_accepted_and_sending_goes_on_above_the_ceiling() {
    let mut w = sysplex();
    bounded(&mut w, None);
    w.n("D").engine.ceiling(DVIPA, 1, 500);
    say(&mut w, 5);
    let peer_highest = view(&w, "peer").highest_received;
    let d = w.node("D");
    w.nodes[d].crash();
    w.filters("D", both("R", one(DVIPA), one(PEER), IPSEC));
    w.configure(d);
    let (a, _) = pair(DVIPA, PEER, 0x1300, "R");
    let continued = Some(Continued { next_sequence: 501, replay: None });
    w.sa("D", SaPair { ceiling_of: Some(DVIPA), continued, ..a });
    assert_eq!(say(&mut w, 1), 0, "not before the coupling facility has the next ceiling");
    w.n("D").engine.ceiling(DVIPA, 2, 1000);
    assert_eq!(say(&mut w, 5), 5);
    assert_eq!((peer_highest, view(&w, "peer").highest_received), (5, 505));
    w.send("peer", client(1).tcp("S", 1, 0, b""));
    assert!(w.n("D").app.is_empty());
    assert_eq!((w.dropped("D", "continued_inbound_closed"), view(&w, "D").replay), (1, None));
    // The child that replaces it is open.
    let (a, p) = pair(DVIPA, PEER, 0x1400, "R");
    w.sa("D", SaPair { ceiling_of: Some(DVIPA), ..a });
    w.sa("peer", p);
    w.send("peer", client(1).tcp("S", 1, 0, b""));
    assert_eq!(w.n("D").app.len(), 1);
    assert!(matches!(view(&w, "peer").replay, Some(ReplaySnapshot { .. })));
}
