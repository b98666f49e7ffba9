//! Defensive filters on the way of packets: before every other filter, in every direction, on every way.
#![allow(clippy::unwrap_used, reason = "tests: helpers beside #[test] functions too")]

mod common;

use common::*;
use stack::control::{
    AddressRange, DefenseMode, DefenseSet, DefensiveFilter, Direction, FilterAction, FilterKind, FilterRule,
    FilterSet, Role, Scope,
};
use stack::engine::io::UdpArrival;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const PERMIT: FilterAction = FilterAction::Permit;

fn filter(id: u64, direction: Direction, source: AddressRange, destination: AddressRange) -> DefensiveFilter {
    let mut rule = FilterRule::new(format!("F{id}"), 1, direction, source, destination, FilterAction::Deny);
    rule.scope = Scope::Either;
    DefensiveFilter {
        id,
        rule,
        simulate: false,
        log: true,
        log_limit: 0,
        remaining_ms: 60_000,
        expires: 60,
        created: 0,
        updated: 0,
        global: false,
    }
}

fn defend(w: &mut World, filters: Vec<DefensiveFilter>) {
    let (now, set) = (w.now, DefenseSet { mode: DefenseMode::Active, excluded: vec![], filters });
    w.n("SRV").engine.defend_with(now, set);
}

/// A server whose policy lets everything in and out, in clear.
fn open() -> World {
    let mut w = World::new(vec![Node::new("SRV", None, vec![home(DVIPA, Role::Static)], &[])]);
    let mut rules = both("open", one(DVIPA), any4(), PERMIT);
    let mut routed = both("routed", any4(), any4(), PERMIT);
    routed.iter_mut().for_each(|r| r.scope = Scope::Routed);
    rules.extend(routed);
    w.filters("SRV", rules);
    w
}

fn knock(w: &mut World, from: IpAddr) -> bool {
    w.n("SRV").app.clear();
    w.send("SRV", ends(from, 4000, DVIPA, 80).tcp("S", 1, 0, b""));
    !w.n("SRV").app.is_empty()
}

#[test]
fn a_blocked_source_does_not_come_in_until_its_filter_ends_by_itself() {
    let mut w = open();
    assert!(knock(&mut w, STRANGER));
    defend(&mut w, vec![filter(1, Direction::Inbound, one(STRANGER), any4())]);
    assert!(!knock(&mut w, STRANGER) && knock(&mut w, PEER));
    assert_eq!(w.dropped("SRV", "defensive_block"), 1);
    assert!(w.n("SRV").logs.iter().any(|l| l.contains("dropped defensive_block: filter F1.1")));
    // It stands before all others in the display, with what it has counted.
    let now = w.now;
    let first = &w.n("SRV").filters(now)[0];
    assert!(matches!(first.kind, FilterKind::Defensive { simulate: false, expires: 60, .. }));
    assert_eq!((first.rule.name.as_str(), first.totals.denies), ("F1", 1));
    w.timeout("SRV", Duration::from_secs(59));
    assert!(!knock(&mut w, STRANGER));
    w.timeout("SRV", Duration::from_secs(1));
    assert!(knock(&mut w, STRANGER), "nobody told it");
    let now = w.now;
    assert!(w.n("SRV").filters(now).iter().all(|f| !matches!(f.kind, FilterKind::Defensive { .. })));
}

#[test]
fn a_simulating_filter_says_what_it_would_have_dropped_and_drops_nothing() {
    let mut w = open();
    let simulate = DefensiveFilter { simulate: true, ..filter(1, Direction::Inbound, one(STRANGER), any4()) };
    defend(&mut w, vec![simulate]);
    assert!(knock(&mut w, STRANGER));
    assert_eq!(w.dropped("SRV", "defensive_block"), 0);
    assert!(w.n("SRV").logs.iter().any(|l| l.contains("would have dropped defensive_block: filter F1.1")));
    let now = w.now;
    assert_eq!(w.n("SRV").filters(now)[0].totals.permits, 1);
}

#[test]
fn what_goes_out_what_is_forwarded_and_ike_are_judged_too() {
    let mut w = open();
    let out = filter(1, Direction::Outbound, one(DVIPA), one(STRANGER));
    defend(&mut w, vec![out, filter(2, Direction::Inbound, one(PEER), one(DVIPA))]);
    w.send("SRV", ends(DVIPA, 80, STRANGER, 4000).tcp("SA", 1, 1, b""));
    assert!(w.n("SRV").clear.is_empty() && w.dropped("SRV", "defensive_block") == 1);
    // IKE of a source that is blocked does not come to the daemon.
    let (local, remote) = (SocketAddr::new(DVIPA, 500), SocketAddr::new(PEER, 500));
    let now = w.now;
    let i = w.node("SRV");
    for remote in [remote, SocketAddr::new(STRANGER, 500)] {
        let n = &mut w.nodes[i];
        let mut message = vec![0; 28];
        let arrival = UdpArrival { local, remote, segment: 28, tos: 0 };
        n.engine.handle_udp(now, arrival, &mut message, &mut n.out);
        w.carry(i);
    }
    assert_eq!(w.n("SRV").ike.len(), 1, "only that of the other");
    assert_eq!(w.dropped("SRV", "defensive_block"), 2);
    // Forwarded: neither end is this host.
    let elsewhere = IpAddr::from([10, 7, 7, 7]);
    defend(&mut w, vec![filter(3, Direction::Outbound, any4(), one(elsewhere))]);
    w.send("SRV", ends(STRANGER, 1, elsewhere, 2).udp(b"x"));
    assert_eq!(w.dropped("SRV", "defensive_block"), 3);
    w.send("SRV", ends(STRANGER, 1, IpAddr::from([10, 7, 7, 8]), 2).udp(b"x"));
    assert_eq!(w.n("SRV").clear.len(), 1);
}

/// A client with an SA to the server.
fn protected() -> World {
    let mut w = World::new(vec![
        Node::new("ONE", None, vec![home(PEER, Role::Static)], &[]),
        Node::new("SRV", None, vec![home(DVIPA, Role::Static)], &[]),
    ]);
    w.filters("ONE", both("R", one(PEER), one(DVIPA), IPSEC));
    w.filters("SRV", both("R", one(DVIPA), one(PEER), IPSEC));
    let (client, server) = pair(PEER, DVIPA, 0x1010, "R");
    w.sa("ONE", client);
    w.sa("SRV", server);
    w
}

#[test]
fn what_an_sa_opened_is_judged_by_what_was_inside() {
    let mut w = protected();
    let ask = |w: &mut World| {
        w.n("SRV").app.clear();
        w.send("ONE", ends(PEER, 4000, DVIPA, 80).tcp("S", 1, 0, b""));
        !w.n("SRV").app.is_empty()
    };
    assert!(ask(&mut w));
    defend(&mut w, vec![filter(1, Direction::Inbound, one(PEER), any4())]);
    assert!(!ask(&mut w));
    assert_eq!(w.dropped("SRV", "defensive_block"), 1);
    defend(&mut w, vec![]);
    assert!(ask(&mut w));
}

#[test]
fn with_predecap_a_sealed_packet_is_judged_before_it_is_opened() {
    let mut w = protected();
    let ask = |w: &mut World| w.send("ONE", ends(PEER, 4000, DVIPA, 80).tcp("S", 1, 0, b""));
    let mut esp = filter(1, Direction::Inbound, one(PEER), any4());
    esp.rule.protocol = Some(50);
    defend(&mut w, vec![esp]);
    ask(&mut w);
    assert_eq!(
        (w.n("SRV").app.len(), w.dropped("SRV", "defensive_block")),
        (1, 0),
        "without PreDecap nobody asks about ESP"
    );
    let now = w.now;
    let rules = both("R", one(DVIPA), one(PEER), IPSEC);
    let set = FilterSet {
        epoch: 2,
        policy: true,
        logging: true,
        predecap: true,
        log_implicit: true,
        implicit_icmp: false,
        rules,
    };
    w.n("SRV").engine.set_filters(now, 2, set);
    ask(&mut w);
    assert_eq!((w.n("SRV").app.len(), w.dropped("SRV", "defensive_block")), (1, 1));
    defend(&mut w, vec![]);
    ask(&mut w);
    assert_eq!((w.n("SRV").app.len(), w.dropped("SRV", "defensive_block")), (2, 1));
}
