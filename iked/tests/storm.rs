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

/// Plays a random story: what each side is told, and how long until the next word, of which the first second does not count,
/// so that what both ends want often crosses. Then the network mends, and both ends must agree, then and after another start.
fn weather(seed: u64, (loss, duplicate, reorder): (u32, u32, u32), storm: &[(bool, Told, u64)]) {
    let mut pair =
        Pair::new(seed, &Settings::default(), rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A));
    pair.connect(Side::A);
    pair.network = Network { loss, duplicate, reorder, ..Network::default() };
    for (side, told, wait) in storm {
        tell(&mut pair, if *side { Side::A } else { Side::B }, *told);
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
    assert!(!pair.b.sending.is_empty() && !pair.a.sending.is_empty());
}

proptest! {
    #[test]
    fn both_ends_agree_in_the_end(
        seed in any::<u64>(),
        network in (0_u32..300, 0_u32..300, 0_u32..500),
        storm in proptest::collection::vec((any::<bool>(), told(), 0_u64..3000), 1..16),
    ) {
        weather(seed, network, &storm);
    }
}

#[test]
fn t18_a_child_asked_for_during_a_reauthentication_gets_a_tunnel_of_its_own() {
    // What the peer asks for at the new IKE SA must not be taken for a child that this side makes again there.
    for offset in (0..120).step_by(2) {
        for asking in [Side::A, Side::B] {
            let mut pair = Pair::with_defaults(offset);
            pair.connect(Side::A);
            pair.connect(Side::A);
            let refreshing = asking.other();
            let ike = pair.host(refreshing).engine.ike_tunnels()[0].id;
            pair.command(refreshing, Command::RefreshIke(ike));
            pair.run(Duration::from_millis(offset));
            pair.ask(asking);
            pair.run(Duration::from_secs(60));
            judge(&pair);
            assert_eq!(pair.a.installed.len(), 3, "{asking:?} after {offset} ms");
        }
    }
}

#[test]
fn t18_storms_that_once_left_two_pairs_in_one_tunnel() {
    use Told::{Ask, DeleteChild, DeleteIke, RefreshIke, RekeyChild, SoftLimit};
    const A: bool = true;
    const B: bool = false;
    weather(
        6_774_599_963_092_714_707,
        (216, 158, 400),
        &[(B, RekeyChild, 0), (B, Ask, 1920), (B, Ask, 1140), (B, RefreshIke, 2124), (A, Ask, 0)],
    );
    weather(
        7_842_960_016_513_577_251,
        (79, 1, 261),
        &[(B, Ask, 0), (A, RekeyChild, 1010), (A, RefreshIke, 1210), (B, Ask, 0)],
    );
    weather(
        16_171_659_020_675_338_280,
        (44, 1, 398),
        &[(B, Ask, 1413), (A, Ask, 0), (B, Ask, 2361), (B, RefreshIke, 1520), (A, Ask, 0)],
    );
    weather(
        12_579_564_587_820_598_593,
        (0, 98, 192),
        &[
            (B, Ask, 1020),
            (B, Ask, 1171),
            (B, Ask, 0),
            (B, RekeyChild, 0),
            (B, SoftLimit, 1936),
            (A, RefreshIke, 1080),
            (B, Ask, 0),
        ],
    );
    weather(
        16_587_675_851_258_293_625,
        (102, 115, 351),
        &[
            (B, DeleteIke, 0),
            (B, Ask, 1627),
            (B, Ask, 2631),
            (B, RekeyChild, 1062),
            (B, RekeyChild, 1164),
            (B, RefreshIke, 1030),
            (A, Ask, 0),
            (A, RekeyChild, 2280),
            (A, Ask, 2110),
            (B, RefreshIke, 1989),
            (A, DeleteChild, 2041),
            (A, Ask, 0),
        ],
    );
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
