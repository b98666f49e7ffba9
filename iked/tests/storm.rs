//! Random commands at both ends of a random network: whatever crosses, is lost, doubled or overtaken, in the end both ends
//! hold the same SAs with the same keys, one pair for each tunnel, and can still talk (T18, T19).

use iked::ike::command::Command;
use iked::ike::event::ChildInstall;
use iked::ike::rules::Settings;
use iked::ike::sim::{ADDRESS_A, ADDRESS_B, Network, Pair, Side, rules};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// What one side is told at some moment.
#[derive(Debug, Clone, Copy)]
enum Told {
    Ask,
    RekeyChild,
    SoftLimit,
    DeleteChild,
    Lost,
    DeleteIke,
    RefreshIke,
}

fn told() -> impl Strategy<Value = Told> {
    prop_oneof![
        3 => Just(Told::Ask),
        4 => Just(Told::RekeyChild),
        2 => Just(Told::SoftLimit),
        1 => Just(Told::DeleteChild),
        1 => Just(Told::Lost),
        1 => Just(Told::DeleteIke),
        2 => Just(Told::RefreshIke),
    ]
}

fn tell(pair: &mut Pair, side: Side, told: Told) {
    let engine = &pair.host(side).engine;
    let (ike, child) = (engine.ike_tunnels(), engine.children());
    let spi_in = pair.host(side).installed.keys().next().copied();
    let command = match told {
        Told::Ask => return pair.ask(side),
        Told::RekeyChild => child.first().map(|child| Command::RekeyChild(child.id)),
        Told::DeleteChild => child.first().map(|child| Command::DeleteChild(child.id)),
        Told::SoftLimit => spi_in.map(|spi_in| Command::SoftLimit { spi_in }),
        Told::Lost => spi_in.map(|spi_in| Command::ChildLost { spi_in }),
        Told::RefreshIke => ike.first().map(|ike| Command::RefreshIke(ike.id)),
        Told::DeleteIke => ike.first().map(|ike| Command::DeleteIke(ike.id)),
    };
    if let Some(command) = command {
        pair.command(side, command);
    }
}

/// Both ends hold the same, and no tunnel holds two pairs.
fn judge(pair: &Pair) {
    pair.assert_matching();
    for side in [Side::A, Side::B] {
        let host = pair.host(side);
        let mut pairs: BTreeMap<_, usize> = BTreeMap::new();
        for install in host.installed.values() {
            *pairs.entry((install.tunnel, install.ike)).or_default() += 1;
        }
        for ((tunnel, ike), pairs) in pairs {
            // Both ends may ask for it again at an IKE SA of their own.
            let sas = host.engine.ike_tunnels().iter().filter(|one| one.id == ike).count();
            assert!(pairs <= sas, "{tunnel:?} of {side:?} holds {pairs} pairs at {sas} IKE SAs");
        }
        // A second pair for the same traffic waits until the peer sends on it (RFC 7296 section 2.8); the first one serves.
        for waiting in host.installed.values().filter(|one| !host.sending.contains(&one.spi_in)) {
            let serves = |one: &&ChildInstall| {
                host.sending.contains(&one.spi_in)
                    && one.local_selectors == waiting.local_selectors
                    && one.remote_selectors == waiting.remote_selectors
            };
            assert!(
                host.installed.values().any(|one| serves(&one)),
                "{side:?} never sends on {:08x}",
                waiting.spi_in
            );
        }
    }
}

proptest! {
    #[test]
    fn both_ends_agree_in_the_end(
        seed in any::<u64>(),
        (loss, duplicate, reorder) in (0_u32..300, 0_u32..300, 0_u32..500),
        storm in proptest::collection::vec((any::<bool>(), told(), 0_u64..3000), 1..16),
    ) {
        let mut pair = Pair::new(
            seed,
            &Settings::default(),
            rules(ADDRESS_A, ADDRESS_B),
            rules(ADDRESS_B, ADDRESS_A),
        );
        pair.connect(Side::A);
        pair.network = Network { loss, duplicate, reorder, ..Network::default() };
        for (side, told, wait) in storm {
            tell(&mut pair, if side { Side::A } else { Side::B }, told);
            // Often at once, so that what both ends want crosses.
            pair.run(Duration::from_millis(wait.saturating_sub(1000)));
        }
        // The network mends; whatever was given up is cleared by liveness.
        pair.network = Network::default();
        pair.run(Duration::from_secs(900));
        judge(&pair);
        // And it can start anew from here.
        pair.connect(Side::B);
        pair.run(Duration::from_secs(120));
        judge(&pair);
        prop_assert!(!pair.b.sending.is_empty() && !pair.a.sending.is_empty());
    }
}

#[test]
fn t18_an_ike_sa_deleted_during_its_rekey_goes_with_its_successor() {
    let mut pair = Pair::with_defaults(1);
    pair.connect(Side::A);
    let child = pair.a.engine.children()[0].id;
    pair.command(Side::A, Command::DeleteChild(child));
    pair.settle();
    // Without children a refresh is a rekey; the Delete crosses it.
    let ike = pair.a.engine.ike_tunnels()[0].id;
    pair.command(Side::A, Command::RefreshIke(ike));
    pair.command(Side::A, Command::DeleteIke(ike));
    pair.run(Duration::from_secs(60));
    assert!(pair.a.engine.ike_tunnels().is_empty() && pair.b.engine.ike_tunnels().is_empty());
}
