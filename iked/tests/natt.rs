//! NATs (RFC 7296 section 2.23, RFC 3948): detection, port 4500, encapsulation, keepalives, mappings that change.

use iked::ike::command::Command;
use iked::ike::event::Event;
use iked::ike::rules::Settings;
use iked::ike::sim::{ADDRESS_A, ADDRESS_B, Nat, Pair, Side, rules};
use iked::ike::types::AddressRange;
use std::net::IpAddr;
use std::time::Duration;

const OUTSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

fn behind_nat(seed: u64) -> Pair {
    let mut pair = Pair::with_defaults(seed);
    pair.a.nat = Some(Nat::new(OUTSIDE));
    pair
}

#[test]
fn behind_a_nat_both_move_to_port_4500_and_encapsulate() {
    let mut pair = behind_nat(51);
    pair.connect(Side::A);
    pair.assert_matching();
    let a = pair.a.installed.values().next().unwrap();
    let b = pair.b.installed.values().next().unwrap();
    assert!(a.udp && b.udp);
    assert_eq!((a.local.port(), a.remote.port()), (4500, 4500));
    assert_eq!((b.local.port(), b.remote.ip()), (4500, OUTSIDE));
    assert!(b.remote.port() > 40_000, "the port that the NAT gave to 4500");
    let (ike_a, ike_b) = (&pair.a.engine.ike_tunnels()[0], &pair.b.engine.ike_tunnels()[0]);
    assert_eq!((ike_a.nat_local, ike_a.nat_remote), (true, false));
    assert_eq!((ike_b.nat_local, ike_b.nat_remote), (false, true));
    assert_eq!(ike_b.remote, b.remote);
}

#[test]
fn encapsulation_can_be_had_without_a_nat_and_says_nothing_untrue() {
    let settings = Settings { force_udp: true, ..Settings::default() };
    for wants in [Side::A, Side::B] {
        let mut pair = Pair::with_defaults(56);
        match wants {
            Side::A => pair.a.engine.set_settings(settings.clone()),
            Side::B => pair.b.engine.set_settings(settings.clone()),
        }
        pair.connect(Side::A);
        pair.assert_matching();
        for host in [&pair.a, &pair.b] {
            let install = host.installed.values().next().unwrap();
            assert!(install.udp, "{wants:?}");
            assert_eq!((install.local.port(), install.remote.port()), (4500, 4500));
            assert!(!host.engine.ike_tunnels()[0].nat_local, "no side is behind a NAT");
        }
    }
}

#[test]
fn keepalives_come_from_the_side_behind_the_nat_only() {
    let mut pair = behind_nat(52);
    pair.connect(Side::A);
    let settings = Settings::default();
    pair.run(settings.nat_keepalive * 10);
    assert!((4..=11).contains(&pair.a.keepalives), "{} keepalives", pair.a.keepalives);
    assert_eq!(pair.b.keepalives, 0);
}

#[test]
fn no_keepalives_with_interval_zero() {
    let settings = Settings { nat_keepalive: Duration::ZERO, ..Settings::default() };
    let mut pair = Pair::new(53, &settings, rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A));
    pair.a.nat = Some(Nat::new(OUTSIDE));
    pair.connect(Side::A);
    pair.run(Duration::from_secs(300));
    assert_eq!(pair.a.keepalives, 0);
}

#[test]
fn a_rule_without_nat_traversal_stays_on_port_500() {
    let (mut a, b) = (rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A));
    a.exchange[0].allow_nat = false;
    let mut pair = Pair::new(54, &Settings::default(), a, b);
    pair.connect(Side::A);
    pair.assert_matching();
    let install = pair.b.installed.values().next().unwrap();
    assert!(!install.udp);
    assert_eq!(pair.b.engine.ike_tunnels()[0].remote.port(), 500);
}

#[test]
fn t20_a_new_mapping_is_followed_when_an_authentic_message_comes_from_it() {
    let mut pair = behind_nat(55);
    pair.connect(Side::A);
    let before = pair.b.engine.ike_tunnels()[0].remote;
    pair.a.nat.as_mut().unwrap().restart();
    let tunnel = pair.a.engine.children()[0].id;
    pair.command(Side::A, Command::RekeyChild(tunnel));
    pair.run(Duration::from_secs(5));
    let after = pair.b.engine.ike_tunnels()[0].remote;
    assert_ne!(before, after);
    pair.assert_matching();
    for install in pair.b.installed.values() {
        assert_eq!(install.remote, after, "ESP goes where IKE goes");
    }
    // B can reach A again.
    let tunnel = pair.b.engine.children()[0].id;
    pair.command(Side::B, Command::RekeyChild(tunnel));
    pair.run(Duration::from_secs(5));
    pair.assert_matching();
    assert_eq!(pair.b.installed.len(), 1);
}

#[test]
fn t20_a_forged_or_replayed_message_moves_nothing() {
    let mut pair = behind_nat(56);
    pair.connect(Side::A);
    let before = pair.b.engine.ike_tunnels()[0].remote;
    let replayed = pair.wire.iter().rev().find(|datagram| datagram.from == Side::A).unwrap().bytes.clone();
    let mut forged = replayed.clone();
    *forged.last_mut().unwrap() ^= 1;
    forged[23] = 2;
    let elsewhere = "203.0.113.66:4500".parse().unwrap();
    pair.inject(Side::B, elsewhere, 4500, &replayed);
    pair.inject(Side::B, elsewhere, 4500, &forged);
    assert_eq!(pair.b.engine.ike_tunnels()[0].remote, before);
    let last = pair.wire.last().unwrap();
    assert_ne!(last.destination, elsewhere, "a repeat is answered to the peer, not to where it came from");
}

#[test]
fn a_peer_that_fakes_a_nat_is_believed() {
    // As strongSwan with forced encapsulation: its source hash never matches. The wrong address in the model does it.
    let mut pair = Pair::with_defaults(57);
    pair.a.nat = Some(Nat::new(OUTSIDE));
    pair.connect(Side::A);
    assert!(pair.b.installed.values().all(|install| install.udp));
    // And the responder may start exchanges.
    let tunnel = pair.b.engine.children()[0].id;
    pair.command(Side::B, Command::RekeyChild(tunnel));
    pair.settle();
    pair.assert_matching();
}

#[test]
fn a_responder_behind_a_static_nat_is_reached() {
    let mut pair = Pair::with_defaults(58);
    let mut nat = Nat::new(OUTSIDE);
    for port in [500, 4500] {
        nat.forward(port, std::net::SocketAddr::new(ADDRESS_B, port));
    }
    pair.b.nat = Some(nat);
    let mut b = rules(ADDRESS_B, ADDRESS_A);
    b.exchange[0].local_location = vec![AddressRange::single(ADDRESS_B)];
    pair.connect(Side::A);
    pair.assert_matching();
    assert_eq!(pair.a.installed.len(), 1);
    let (ike_a, ike_b) = (&pair.a.engine.ike_tunnels()[0], &pair.b.engine.ike_tunnels()[0]);
    assert!(ike_a.nat_remote && ike_b.nat_local);
    pair.run(Duration::from_secs(60));
    assert!(pair.b.keepalives > 0);
    assert!(!pair.a.events.iter().any(|event| matches!(event, Event::IkeDown { .. })));
}
