//! Both ends do the same at once (RFC 7296 sections 2.8 and 2.25, threats T18): one SA pair remains, the same on both
//! sides, whatever the order in which the messages meet.

use iked::ike::command::Command;
use iked::ike::rules::Settings;
use iked::ike::sim::{ADDRESS_A, ADDRESS_B, Pair, Side, rules};
use std::time::Duration;

/// Latencies of the two directions do not differ in the model, but moments do: B acts this long after A.
const OFFSETS: [u64; 8] = [0, 1, 5, 9, 10, 11, 19, 21];

fn connected(seed: u64) -> Pair {
    let mut pair = Pair::with_defaults(seed);
    pair.connect(Side::A);
    pair
}

fn one_child_remains(pair: &Pair, what: &str) {
    pair.assert_matching();
    assert_eq!((pair.a.installed.len(), pair.b.installed.len()), (1, 1), "{what}");
    for host in [&pair.a, &pair.b] {
        let ready = host.installed.keys().all(|spi| host.sending.contains(spi));
        assert!(ready, "{what}: cannot send on what remains");
    }
}

#[test]
fn t18_both_rekey_the_same_child() {
    for offset in OFFSETS {
        for seed in 0..8 {
            let mut pair = connected(seed);
            let (a, b) = (pair.a.engine.children()[0].id, pair.b.engine.children()[0].id);
            pair.command(Side::A, Command::RekeyChild(a));
            pair.run(Duration::from_millis(offset));
            pair.command(Side::B, Command::RekeyChild(b));
            pair.run(Duration::from_secs(10));
            one_child_remains(&pair, &format!("offset {offset}, seed {seed}"));
        }
    }
}

#[test]
fn t18_both_rekey_the_ike_sa() {
    for seed in 0..12 {
        // The same lifetime on both sides, and jitter that often falls close together.
        let (mut a, mut b) = (rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A));
        a.exchange[0].offers[0].lifetime = Duration::from_secs(20);
        b.exchange[0].offers[0].lifetime = Duration::from_secs(20);
        let mut pair = Pair::new(seed, &Settings::default(), a, b);
        pair.network.latency = Duration::from_millis(100);
        pair.connect(Side::A);
        pair.run(Duration::from_secs(600));
        // The last rekey may be under way: let lives be long and things come to rest.
        let now = pair.now;
        pair.a.engine.set_rules(now, rules(ADDRESS_A, ADDRESS_B));
        pair.b.engine.set_rules(now, rules(ADDRESS_B, ADDRESS_A));
        pair.run(Duration::from_secs(100));
        one_child_remains(&pair, &format!("seed {seed}"));
        assert_eq!(
            (pair.a.engine.ike_tunnels().len(), pair.b.engine.ike_tunnels().len()),
            (1, 1),
            "seed {seed}"
        );
        assert!(pair.a.engine.ike_tunnels()[0].generation > 25, "seed {seed}");
        let (a, b) = (&pair.a.engine.ike_tunnels()[0], &pair.b.engine.ike_tunnels()[0]);
        assert_eq!((a.spi_i, a.spi_r), (b.spi_i, b.spi_r), "seed {seed}");
    }
}

#[test]
fn t18_a_rekey_crosses_a_delete() {
    for offset in OFFSETS {
        let mut pair = connected(31);
        let (a, b) = (pair.a.engine.children()[0].id, pair.b.engine.children()[0].id);
        pair.command(Side::A, Command::RekeyChild(a));
        pair.run(Duration::from_millis(offset));
        pair.command(Side::B, Command::DeleteChild(b));
        pair.run(Duration::from_secs(10));
        pair.assert_matching();
        assert!(pair.a.installed.is_empty(), "offset {offset}: deleted is deleted");
    }
}

#[test]
fn t18_both_delete_the_same_child() {
    for offset in OFFSETS {
        let mut pair = connected(32);
        let (a, b) = (pair.a.engine.children()[0].id, pair.b.engine.children()[0].id);
        pair.command(Side::A, Command::DeleteChild(a));
        pair.run(Duration::from_millis(offset));
        pair.command(Side::B, Command::DeleteChild(b));
        pair.run(Duration::from_secs(10));
        assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty());
        assert_eq!(pair.a.engine.ike_tunnels().len(), 1);
    }
}

#[test]
fn t18_both_delete_the_ike_sa() {
    for offset in OFFSETS {
        let mut pair = connected(33);
        let (a, b) = (pair.a.engine.ike_tunnels()[0].id, pair.b.engine.ike_tunnels()[0].id);
        pair.command(Side::A, Command::DeleteIke(a));
        pair.run(Duration::from_millis(offset));
        pair.command(Side::B, Command::DeleteIke(b));
        pair.run(Duration::from_secs(10));
        assert!(pair.a.engine.is_idle() && pair.b.engine.is_idle());
        assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty());
    }
}

#[test]
fn t18_a_child_is_rekeyed_while_the_ike_sa_is() {
    for offset in OFFSETS {
        for seed in 0..4 {
            let (mut a, b) = (rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A));
            a.exchange[0].initiate = true;
            a.exchange[0].offers[0].lifetime = Duration::from_secs(100);
            let mut pair = Pair::new(seed, &Settings::default(), a, b);
            pair.connect(Side::A);
            let at = pair.a.engine.ike_tunnels()[0].rekey_at.unwrap();
            let limit = at - Duration::from_millis(offset);
            while pair.step(limit) {}
            let tunnel = pair.b.engine.children()[0].id;
            pair.command(Side::B, Command::RekeyChild(tunnel));
            pair.run(Duration::from_secs(12));
            one_child_remains(&pair, &format!("offset {offset}, seed {seed}"));
            assert_eq!(pair.a.engine.children()[0].generation, 2, "offset {offset}, seed {seed}");
            assert_eq!(pair.a.engine.ike_tunnels()[0].generation, 2, "offset {offset}, seed {seed}");
        }
    }
}

#[test]
fn r4_both_start_at_once_and_one_remains() {
    for offset in OFFSETS {
        for seed in 0..8 {
            let what = format!("offset {offset}, seed {seed}");
            let mut pair = Pair::with_defaults(seed);
            pair.ask(Side::A);
            pair.run(Duration::from_millis(offset));
            pair.ask(Side::B);
            // Both stand; then one goes, and no packet is sent on what the other side has not.
            pair.run(Duration::from_secs(1));
            let limit = pair.now + Duration::from_secs(60);
            while pair.step(limit) {
                for (from, to) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
                    let newest = &from.installed[from.sending.last().expect("a side has no SA to send on")];
                    assert!(to.installed.contains_key(&newest.spi_out), "{what}");
                }
            }
            one_child_remains(&pair, &what);
            let spis = |side| {
                let ikes = pair.host(side).engine.ike_tunnels();
                assert_eq!(ikes.len(), 1, "{what}");
                (ikes[0].spi_i, ikes[0].spi_r)
            };
            assert_eq!(spis(Side::A), spis(Side::B), "{what}");
        }
    }
}

#[test]
fn r4_both_authenticate_again_at_once_and_one_remains() {
    for offset in OFFSETS {
        for seed in 0..8 {
            let mut pair = connected(seed);
            let (a, b) = (pair.a.engine.ike_tunnels()[0].id, pair.b.engine.ike_tunnels()[0].id);
            pair.command(Side::A, Command::RefreshIke(a));
            pair.run(Duration::from_millis(offset));
            pair.command(Side::B, Command::RefreshIke(b));
            pair.run(Duration::from_secs(60));
            one_child_remains(&pair, &format!("offset {offset}, seed {seed}"));
        }
    }
}

#[test]
fn an_ike_sa_with_other_children_is_not_redundant() {
    let port = |port: u16, rules: &mut iked::ike::rules::Rules, local: bool| {
        let mut one = rules.child[0].clone();
        one.rule = format!("port{port}");
        let side = if local { &mut one.local } else { &mut one.remote };
        (side[0].protocol, side[0].port_low, side[0].port_high) = (6, port, port);
        rules.child.push(one);
    };
    let (mut a, mut b) = (rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A));
    a.child.clear();
    b.child.clear();
    for (rules, own, peer, local) in
        [(&mut a, ADDRESS_A, ADDRESS_B, true), (&mut b, ADDRESS_B, ADDRESS_A, false)]
    {
        rules.child = iked::ike::sim::rules(own, peer).child;
        port(80, rules, local);
        port(443, rules, local);
        rules.child.remove(0);
    }
    let mut pair = Pair::new(3, &Settings::default(), a, b);
    for (side, wanted) in [(Side::A, "port80"), (Side::B, "port443")] {
        let (own, peer) = if side == Side::A { (ADDRESS_A, ADDRESS_B) } else { (ADDRESS_B, ADDRESS_A) };
        let Command::Initiate(mut initiate) = iked::ike::sim::initiate(own, peer) else { unreachable!() };
        initiate.rule = wanted.to_owned();
        pair.command(side, Command::Initiate(initiate));
    }
    pair.run(Duration::from_secs(100));
    pair.assert_matching();
    assert_eq!((pair.a.installed.len(), pair.a.engine.ike_tunnels().len()), (2, 2));
}
