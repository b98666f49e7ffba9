//! Datagrams are lost, doubled and overtaken: both sides come to the same SAs with the same keys.

use iked::ike::command::Command;
use iked::ike::rules::{Rules, Settings};
use iked::ike::sim::{ADDRESS_A, ADDRESS_B, Network, Pair, Side, rules};
use proptest::prelude::*;
use std::time::Duration;

fn restless() -> (Rules, Rules) {
    let (mut a, mut b) = (rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A));
    for rules in [&mut a, &mut b] {
        rules.child[0].offers[0].lifetime = Duration::from_secs(90);
        rules.exchange[0].offers[0].lifetime = Duration::from_secs(240);
    }
    (a, b)
}

fn rough(loss: u32, duplicate: u32, reorder: u32) -> Network {
    Network { loss, duplicate, reorder, hold: Duration::from_secs(3), ..Network::default() }
}

#[test]
fn t15_a_lost_answer_is_repeated_not_made_again() {
    // Every datagram twice: nothing is executed twice.
    let mut pair = Pair::with_defaults(41);
    pair.network = rough(0, 1000, 0);
    pair.connect(Side::A);
    pair.assert_matching();
    assert_eq!(pair.a.installed.len(), 1);
    assert_eq!(pair.b.engine.counters().remote_success, 1);
    assert!(pair.b.engine.counters().ike.replays > 0);
}

#[test]
fn a_handshake_survives_the_loss_of_any_one_datagram() {
    for lost in 1..4 {
        let mut pair = Pair::with_defaults(42);
        pair.ask(Side::A);
        while pair.wire.len() < lost {
            let limit = pair.now + Duration::from_secs(1);
            pair.step(limit);
        }
        // The next one, and only that.
        pair.network.loss = 1000;
        let count = pair.wire.len();
        while pair.wire.len() == count {
            let limit = pair.now + Duration::from_secs(5);
            pair.step(limit);
        }
        pair.network.loss = 0;
        pair.run(Duration::from_secs(20));
        pair.assert_matching();
        assert_eq!(pair.a.installed.len(), 1, "datagram {lost}");
    }
}

/// How many cases: few by default, more by PROPTEST_CASES.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// Whatever the network does while both sides negotiate, rekey and delete: once it is quiet again, both have the
    /// same SAs with the same keys, and everything still works.
    #[test]
    fn both_sides_converge(
        seed in any::<u64>(),
        loss in 0u32..250,
        duplicate in 0u32..200,
        reorder in 0u32..300,
        actions in prop::collection::vec((any::<bool>(), 0u8..6, 0u64..60_000), 0..25),
    ) {
        let (a, b) = restless();
        let settings = Settings { retransmit_tries: 9, ..Settings::default() };
        let mut pair = Pair::new(seed >> 3, &settings, a, b);
        pair.network = rough(loss, duplicate, reorder);
        pair.ask(Side::A);
        for (at_a, action, wait) in actions {
            let side = if at_a { Side::A } else { Side::B };
            let engine = &pair.host(side).engine;
            let child = engine.children().first().map(|child| child.id);
            let ike = engine.ike_tunnels().first().map(|ike| ike.id);
            match (action, child, ike) {
                (0, _, _) => pair.ask(side),
                (1 | 2, Some(child), _) => pair.command(side, Command::RekeyChild(child)),
                (3, Some(child), _) => pair.command(side, Command::DeleteChild(child)),
                (4, _, Some(ike)) => pair.command(side, Command::RefreshIke(ike)),
                (5, _, Some(ike)) => pair.command(side, Command::DeleteIke(ike)),
                _ => {}
            }
            pair.run(Duration::from_millis(wait));
        }
        pair.network = Network::default();
        // Long lives, so that nothing is under way at the end; what one side has lost is found by liveness.
        let now = pair.now;
        pair.a.engine.set_rules(now, rules(ADDRESS_A, ADDRESS_B));
        pair.b.engine.set_rules(now, rules(ADDRESS_B, ADDRESS_A));
        pair.assert_recovers();
        prop_assert!(!pair.a.installed.is_empty());
    }

    /// The same seed and the same inputs give the same octets, whatever the network did.
    #[test]
    fn runs_are_reproducible(seed in 0u64..1000) {
        let run = || {
            let (a, b) = restless();
            let mut pair = Pair::new(seed, &Settings::default(), a, b);
            pair.network = rough(100, 100, 100);
            pair.ask(Side::A);
            pair.run(Duration::from_secs(600));
            pair.wire
        };
        prop_assert!(run() == run());
    }
}
