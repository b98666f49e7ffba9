//! SAs that follow each other: rekeys of children and of the IKE SA, re-authentication, ends of life. At no moment may a
//! side that sends find no SA, or send on one that the other side does not have.

use iked::ike::command::Command;
use iked::ike::event::Event;
use iked::ike::rules::{Rules, Settings};
use iked::ike::sim::{ADDRESS_A, ADDRESS_B, Host, Pair, Side, rules};
use iked::ike::types::{AddressRange, Group, Identity, IdentityPattern};
use iked::ike::view::SaState;
use std::net::IpAddr;
use std::time::Duration;

fn both() -> (Rules, Rules) {
    (rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A))
}

/// Runs for a time and looks after each step that traffic would flow both ways.
fn run_with_traffic(pair: &mut Pair, time: Duration) {
    let limit = pair.now + time;
    loop {
        for (from, to) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
            let newest = from.sending.last().expect("a side has no SA to send on");
            let newest = &from.installed[newest];
            assert!(
                to.installed.contains_key(&newest.spi_out),
                "sends on an SA that the other side does not have"
            );
        }
        if !pair.step(limit) {
            return;
        }
    }
}

fn generations(host: &Host) -> Vec<u32> {
    host.installed.values().map(|install| install.generation).collect()
}

#[test]
fn a_child_is_replaced_without_a_gap_from_either_side() {
    for side in [Side::A, Side::B] {
        let mut pair = Pair::with_defaults(11);
        pair.connect(Side::A);
        let tunnel = pair.host(side).engine.children()[0].id;
        let before = pair.wire.len();
        pair.command(side, Command::RekeyChild(tunnel));
        run_with_traffic(&mut pair, Duration::from_secs(1));
        assert_eq!(pair.wire.len() - before, 4, "CREATE_CHILD_SA, then INFORMATIONAL with the Delete");
        pair.assert_matching();
        assert_eq!((generations(&pair.a), generations(&pair.b)), (vec![2], vec![2]));
        let child = pair.host(side).engine.child(tunnel).unwrap();
        assert_eq!(child.group, Some(Group::Curve25519), "fresh key exchange");
        // The responder was told to receive only, and to send once the old one was deleted.
        let responder = pair.host(side.other());
        let new = responder.installed.values().next().unwrap();
        assert!(!new.outbound_active);
        let at = |wanted: &Event| responder.events.iter().position(|event| event == wanted).unwrap();
        let activated = at(&Event::ActivateOutbound { spi_in: new.spi_in });
        let removed = responder.events.iter().position(|event| matches!(event, Event::RemoveChild { .. }));
        assert!(activated < removed.unwrap() || removed.unwrap() + 1 == activated);
        assert!(
            !pair.a.events.iter().any(|event| matches!(event, Event::ChildDown { .. })),
            "the tunnel stays"
        );
    }
}

#[test]
fn a_rekey_without_fresh_keys_and_one_that_asks_for_another_group() {
    let (mut a, b) = both();
    a.child[0].pfs_initiate = None;
    let mut pair = Pair::new(12, &Settings::default(), a.clone(), b.clone());
    pair.connect(Side::A);
    let tunnel = pair.a.engine.children()[0].id;
    pair.command(Side::A, Command::RekeyChild(tunnel));
    pair.settle();
    pair.assert_matching();
    assert_eq!(generations(&pair.a), [2]);
    assert_eq!(pair.a.engine.child(tunnel).unwrap().group, None);

    let mut b = b;
    a.child[0].pfs_initiate = Some(Group::Ecp256);
    a.child[0].pfs_accept = vec![Some(Group::Ecp384)];
    b.child[0].pfs_accept = vec![Some(Group::Ecp384)];
    let mut pair = Pair::new(13, &Settings::default(), a, b);
    pair.connect(Side::A);
    let tunnel = pair.a.engine.children()[0].id;
    pair.command(Side::A, Command::RekeyChild(tunnel));
    pair.settle();
    // A offers ECP-256 only: the old SA goes on, and both are told why.
    assert_eq!(generations(&pair.a), [1]);
    pair.assert_matching();
    assert!(pair.a.failures()[0].contains("NO_PROPOSAL_CHOSEN"), "{:?}", pair.a.failures());
    assert!(pair.b.failures()[0].contains("ECP_256"), "{:?}", pair.b.failures());
}

#[test]
fn lifetimes_are_kept_by_rekeys_for_a_day() {
    let (mut a, mut b) = both();
    a.child[0].offers[0].lifetime = Duration::from_secs(600);
    a.exchange[0].offers[0].lifetime = Duration::from_secs(3000);
    b.child[0].offers[0].lifetime = Duration::from_secs(700);
    b.exchange[0].offers[0].lifetime = Duration::from_secs(3500);
    let mut pair = Pair::new(14, &Settings::default(), a, b);
    pair.connect(Side::A);
    let (ike, child) = (pair.a.engine.ike_tunnels()[0].id, pair.a.engine.children()[0].id);
    run_with_traffic(&mut pair, Duration::from_secs(86_400));
    pair.settle();
    pair.assert_matching();
    let ike = pair.a.engine.ike_tunnel(ike).unwrap();
    let child = pair.a.engine.child(child).unwrap();
    assert!(ike.generation >= 86_400 / 3000, "generation {}", ike.generation);
    assert!(child.generation >= 86_400 / 600, "generation {}", child.generation);
    assert_eq!(pair.a.installed.len(), 1);
    assert!(pair.a.failures().is_empty() && pair.b.failures().is_empty(), "{:?}", pair.a.failures());
    let downs = |host: &Host| {
        host.events.iter().filter(|e| matches!(e, Event::ChildDown { .. } | Event::IkeDown { .. })).count()
    };
    assert_eq!((downs(&pair.a), downs(&pair.b)), (0, 0));
}

#[test]
fn the_ike_sa_is_replaced_and_its_children_move() {
    for side in [Side::A, Side::B] {
        let (mut a, mut b) = both();
        let rekeys = if side == Side::A { &mut a } else { &mut b };
        rekeys.exchange[0].offers[0].lifetime = Duration::from_secs(1000);
        let mut pair = Pair::new(15, &Settings::default(), a, b);
        pair.connect(Side::A);
        let before = pair.a.engine.ike_tunnels()[0].clone();
        run_with_traffic(&mut pair, Duration::from_secs(1000));
        let [after] = pair.a.engine.ike_tunnels().try_into().unwrap();
        assert_eq!((after.id, after.generation), (before.id, 2));
        assert_ne!(after.spi_i, before.spi_i);
        pair.assert_matching();
        assert_eq!(generations(&pair.a), [1], "the child is the same");
        assert_eq!(pair.a.engine.children()[0].ike, after.id);
        // The new IKE SA serves: its children can be rekeyed and deleted.
        let tunnel = pair.b.engine.children()[0].id;
        pair.command(Side::B, Command::RekeyChild(tunnel));
        run_with_traffic(&mut pair, Duration::from_secs(1));
        assert_eq!(generations(&pair.a), [2]);
        pair.command(Side::B, Command::DeleteChild(tunnel));
        pair.settle();
        assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty());
    }
}

#[test]
fn refresh_makes_before_it_breaks() {
    let mut pair = Pair::with_defaults(16);
    pair.connect(Side::A);
    let (ike, child) = (pair.a.engine.ike_tunnels()[0].id, pair.a.engine.children()[0].id);
    pair.command(Side::A, Command::RefreshIke(ike));
    run_with_traffic(&mut pair, Duration::from_secs(2));
    pair.assert_matching();
    let view = pair.a.engine.ike_tunnel(ike).unwrap();
    assert_eq!((view.generation, view.state), (2, SaState::Active));
    assert_eq!(pair.a.engine.child(child).unwrap().generation, 2);
    assert_eq!((pair.a.installed.len(), pair.b.installed.len()), (1, 1));
    assert_eq!((pair.a.engine.ike_tunnels().len(), pair.b.engine.ike_tunnels().len()), (1, 1));
    assert!(
        !pair.a.events.iter().any(|event| matches!(event, Event::IkeDown { .. } | Event::ChildDown { .. }))
    );
}

#[test]
fn an_old_ike_sa_whose_delete_is_lost_does_not_wake_up_for_its_children() {
    let (mut a, b) = both();
    a.child[0].offers[0].lifetime = Duration::from_secs(30);
    let mut pair = Pair::new(25, &Settings::default(), a, b);
    pair.connect(Side::A);
    let ike = pair.a.engine.ike_tunnels()[0].id;
    pair.command(Side::A, Command::RefreshIke(ike));
    pair.run(Duration::from_millis(41));
    assert_eq!(pair.a.engine.ike_tunnels().len(), 2, "the old one is being deleted");
    pair.b.cut = true;
    // The pair itself asserts that each deadline moves when it is handled.
    pair.run(Duration::from_secs(600));
    assert!(pair.a.engine.ike_tunnels().is_empty() && pair.a.installed.is_empty());
}

#[test]
fn reauthentication_comes_by_itself() {
    let (mut a, b) = both();
    a.exchange[0].reauth_interval = Some(Duration::from_secs(600));
    let mut pair = Pair::new(17, &Settings::default(), a, b);
    pair.connect(Side::A);
    assert!(pair.a.engine.ike_tunnels()[0].reauth_at.is_some());
    run_with_traffic(&mut pair, Duration::from_secs(3 * 600 + 60));
    pair.assert_matching();
    let [ike] = pair.a.engine.ike_tunnels().try_into().unwrap();
    assert!(ike.generation >= 4, "generation {}", ike.generation);
    assert_eq!(pair.b.engine.ike_tunnels().len(), 1);
}

#[test]
fn a_failed_reauthentication_keeps_the_old_sa() {
    let mut pair = Pair::with_defaults(18);
    pair.connect(Side::A);
    let ike = pair.a.engine.ike_tunnels()[0].id;
    let (_, mut b) = both();
    b.exchange[0].respond = false;
    let now = pair.now;
    pair.b.engine.set_rules(now, b);
    pair.command(Side::A, Command::RefreshIke(ike));
    run_with_traffic(&mut pair, Duration::from_secs(60));
    pair.assert_matching();
    assert_eq!(generations(&pair.a), [1]);
    assert_eq!(pair.a.engine.ike_tunnels().len(), 1);
}

#[test]
fn deletes_reach_both_sides_from_either() {
    for side in [Side::A, Side::B] {
        let mut pair = Pair::with_defaults(19);
        pair.connect(Side::A);
        let child = pair.host(side).engine.children()[0].id;
        pair.command(side, Command::DeleteChild(child));
        pair.settle();
        assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty());
        assert_eq!((pair.a.engine.ike_tunnels().len(), pair.b.engine.ike_tunnels().len()), (1, 1));
        let ike = pair.host(side).engine.ike_tunnels()[0].id;
        pair.command(side, Command::DeleteIke(ike));
        pair.settle();
        assert!(pair.a.engine.ike_tunnels().is_empty() && pair.b.engine.ike_tunnels().is_empty());
        let downs = |host: &Host| {
            host.events
                .iter()
                .filter(|e| matches!(e, Event::IkeDown { .. } | Event::ChildDown { .. }))
                .count()
        };
        assert_eq!((downs(&pair.a), downs(&pair.b)), (2, 2));
    }
}

#[test]
fn a_tunnel_ends_with_its_vpn_life() {
    let (mut a, mut b) = both();
    for rules in [&mut a, &mut b] {
        rules.child[0].offers[0].lifetime = Duration::from_secs(600);
        rules.child[0].vpn_life = Some(Duration::from_secs(1500));
    }
    let mut pair = Pair::new(20, &Settings::default(), a, b);
    pair.connect(Side::A);
    let tunnel = pair.a.engine.children()[0].id;
    pair.run(Duration::from_secs(1400));
    assert!(pair.a.engine.child(tunnel).unwrap().generation >= 2);
    pair.run(Duration::from_secs(200));
    assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty());
}

#[test]
fn the_stacks_limits_start_a_rekey_or_a_delete() {
    let mut pair = Pair::with_defaults(21);
    pair.connect(Side::A);
    let spi_in = *pair.b.installed.keys().next().unwrap();
    pair.command(Side::B, Command::SoftLimit { spi_in });
    run_with_traffic(&mut pair, Duration::from_secs(1));
    assert_eq!(generations(&pair.a), [2]);
    let spi_in = *pair.a.installed.keys().next().unwrap();
    pair.command(Side::A, Command::ChildLost { spi_in });
    pair.settle();
    assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty());
}

#[test]
fn traffic_on_the_new_sa_is_leave_to_send_on_it() {
    let mut pair = Pair::with_defaults(22);
    pair.connect(Side::A);
    let tunnel = pair.a.engine.children()[0].id;
    pair.command(Side::A, Command::RekeyChild(tunnel));
    // Until B has answered; the answer is on the way.
    let limit = pair.now + Duration::from_millis(11);
    while pair.step(limit) {}
    let new = pair.b.installed.values().find(|install| install.generation == 2).unwrap().spi_in;
    assert!(!pair.b.sending.contains(&new));
    pair.run(Duration::from_millis(5));
    pair.command(Side::B, Command::InboundTraffic { spi_in: new, idle: Duration::from_millis(1) });
    assert!(pair.b.sending.contains(&new));
}

#[test]
fn a_dead_peer_is_found_and_its_sas_removed() {
    let mut pair = Pair::with_defaults(23);
    pair.connect(Side::A);
    pair.a.cut = true;
    pair.run(Duration::from_secs(30 + 400));
    assert!(pair.b.installed.is_empty() && pair.b.engine.ike_tunnels().is_empty());
    let reason = pair.b.events.iter().find_map(|event| match event {
        Event::IkeDown { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.unwrap().contains("does not answer"));
}

#[test]
fn an_idle_pair_asks_and_a_busy_one_does_not() {
    let mut pair = Pair::with_defaults(24);
    pair.connect(Side::A);
    let before = pair.wire.len();
    pair.run(Duration::from_secs(100));
    assert!(pair.wire.len() > before, "nobody asked");
    let (spi_a, spi_b) = (*pair.a.installed.keys().next().unwrap(), *pair.b.installed.keys().next().unwrap());
    pair.settle();
    let idle = Duration::ZERO;
    pair.command(Side::A, Command::InboundTraffic { spi_in: spi_a, idle });
    pair.command(Side::B, Command::InboundTraffic { spi_in: spi_b, idle });
    pair.run(Duration::from_secs(35));
    let before = pair.wire.len();
    for _ in 0..20 {
        pair.command(Side::A, Command::InboundTraffic { spi_in: spi_a, idle });
        pair.command(Side::B, Command::InboundTraffic { spi_in: spi_b, idle });
        pair.run(Duration::from_secs(10));
    }
    assert_eq!(pair.wire.len(), before, "asked although traffic came");
}

#[test]
fn a_new_sa_is_preferred_after_a_moment_even_if_the_old_one_is_not_deleted() {
    let (a, mut b) = both();
    let any = AddressRange { low: IpAddr::from([0; 4]), high: IpAddr::from([255; 4]) };
    let mut named = b.exchange[0].clone();
    named.remote_id = IdentityPattern::FqdnSuffix(".example.net".to_owned());
    b.exchange.push(named);
    b.exchange[0].remote_id = IdentityPattern::Addresses(any);
    let mut pair = Pair::new(26, &Settings::default(), a.clone(), b.clone());
    pair.connect(Side::A);
    // The peer comes back without memory and under another name: its INITIAL_CONTACT does not mean the old SA.
    let mut a = a;
    a.exchange[0].local_id = Identity::Fqdn("a.example.net".to_owned());
    pair.a = Pair::new(27, &Settings::default(), a, b).a;
    pair.connect(Side::A);
    let new = pair.a.installed.values().next().unwrap().spi_out;
    assert_eq!(pair.b.installed.len(), 2);
    assert_ne!(pair.b.sending.last(), Some(&new));
    pair.run(Duration::from_secs(6));
    assert_eq!(pair.b.sending.last(), Some(&new));
}

#[test]
fn both_ends_keep_their_numbers_when_one_authenticates_again() {
    for side in [Side::A, Side::B] {
        let mut pair = Pair::with_defaults(44);
        pair.connect(Side::A);
        let numbers = |pair: &Pair, side| {
            let engine = &pair.host(side).engine;
            (engine.ike_tunnels()[0].id, engine.children()[0].id)
        };
        let before = (numbers(&pair, Side::A), numbers(&pair, Side::B));
        let ike = pair.host(side).engine.ike_tunnels()[0].id;
        pair.command(side, Command::RefreshIke(ike));
        run_with_traffic(&mut pair, Duration::from_secs(10));
        assert_eq!((numbers(&pair, Side::A), numbers(&pair, Side::B)), before);
        for host in [&pair.a, &pair.b] {
            assert_eq!((generations(host), host.engine.ike_tunnels()[0].generation), (vec![2], 2));
            let down = |event: &Event| matches!(event, Event::ChildDown { .. } | Event::IkeDown { .. });
            assert!(!host.events.iter().any(down), "{:?}", host.events);
        }
    }
}
