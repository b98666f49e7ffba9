//! IKE and child SAs that another process goes on with (`takeover = "continue"`): whenever the old one ends, the peer sees one
//! and the same side, and no number that it has seen comes again (threats T18, T26, T47, T50).

use iked::ike::command::{Command, Restore, Succession};
use iked::ike::event::Event;
use iked::ike::rules::{Rules, Settings};
use iked::ike::sim::{ADDRESS_A, ADDRESS_B, Datagram, Network, Pair, Side, rules};
use iked::ike::snapshot::IkeSnapshot;
use iked::ike::types::{Continued, Encryption, Integrity, ReplayState};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// Above every sequence number of the old owner.
const CEILING: u64 = 1 << 20;

fn settings(epoch: u64) -> Settings {
    Settings { continued: BTreeMap::from([(ADDRESS_A, epoch)]), ..Settings::default() }
}

/// A pair whose side A keeps what it does in the coupling facility.
fn pair(seed: u64, a: Rules, b: Rules) -> Pair {
    let mut pair = Pair::new(seed, &settings(1), a, b);
    pair.b.engine.set_settings(Settings::default());
    pair
}

fn kept(seed: u64) -> Pair {
    pair(seed, rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A))
}

/// Side A fails, and another engine goes on with what is stored.
fn fail_over(pair: &mut Pair, seed: u64, epoch: u64) {
    fail_over_with(pair, seed, epoch, rules(ADDRESS_A, ADDRESS_B));
}

fn fail_over_with(pair: &mut Pair, seed: u64, epoch: u64, rules: Rules) {
    pair.take_over(Side::A, seed, &settings(epoch), rules);
    let unix = pair.unix();
    for snapshot in std::mem::take(&mut pair.a.stored).into_values() {
        let succession = Succession::Failed { next_sequence: CEILING * epoch };
        pair.command(Side::A, Command::Restore(Box::new(Restore { snapshot, unix, succession })));
    }
}

/// What of one side's messages may never come twice: ids with other octets, and IVs with other octets.
fn assert_nothing_reused(wire: &[Datagram], gcm: bool) {
    let mut by_id: BTreeMap<Vec<u8>, &[u8]> = BTreeMap::new();
    let mut by_iv: BTreeMap<Vec<u8>, &[u8]> = BTreeMap::new();
    for datagram in wire {
        let bytes = datagram.bytes.as_slice();
        // An Encrypted payload is the first one of every message after IKE_SA_INIT.
        if bytes[16] != 46 {
            continue;
        }
        // SPIs, flags (who, request or answer), id.
        let id = [&bytes[..16], &bytes[19..20], &bytes[20..24]].concat();
        let before = by_id.insert(id, bytes);
        assert!(
            before.is_none_or(|before| before == bytes),
            "two messages of one id from {:?}",
            datagram.from
        );
        if gcm {
            let iv = [&bytes[..16], &bytes[19..20] as &[u8], &bytes[32..40]].concat();
            // Both requests and answers of one side are sealed with one key.
            let key = [&iv[..16], &[iv[16] & 0x08], &iv[17..]].concat();
            let before = by_iv.insert(key, bytes);
            assert!(before.is_none_or(|before| before == bytes), "an IV used twice by {:?}", datagram.from);
        }
    }
}

fn continued(pair: &Pair) -> usize {
    pair.a.installed.values().filter(|install| install.continued.is_some()).count()
}

#[test]
fn a_restored_tunnel_rekeys_its_children_at_once_and_lives() {
    let mut pair = kept(1);
    pair.connect(Side::A);
    let before = pair.wire.len();
    fail_over(&mut pair, 77, 2);
    // Outbound goes on at once, above all that was used; nothing is accepted.
    assert_eq!(continued(&pair), 1);
    let old = pair.a.installed.values().next().unwrap();
    let numbers = old.continued.as_ref().unwrap();
    assert_eq!((numbers.next_sequence, &numbers.replay), (2 * CEILING, &None));
    assert!(pair.a.sending.contains(&old.spi_in));
    // Rekeyed at once: one round trip, and there is a child on which this side accepts.
    pair.run(Duration::from_millis(21));
    assert_eq!(pair.a.installed.values().filter(|install| install.continued.is_none()).count(), 1);
    pair.settle();
    pair.assert_matching();
    assert_eq!((pair.a.installed.len(), continued(&pair)), (1, 0));
    // Rekey and Delete, no new IKE SA.
    assert!(pair.wire[before..].iter().all(|datagram| datagram.bytes[18] != 34), "no IKE_SA_INIT");
    for side in [Side::A, Side::B] {
        let (child, ike) =
            (pair.host(side).engine.children()[0].id, pair.host(side).engine.ike_tunnels()[0].id);
        pair.command(side, Command::RekeyChild(child));
        pair.settle();
        pair.assert_matching();
        pair.command(side, Command::RefreshIke(ike));
        pair.settle();
        pair.assert_matching();
    }
    pair.run(Duration::from_secs(300));
    assert_eq!(pair.a.installed.len(), 1, "the peer answers, and is answered");
    let ike = pair.a.engine.ike_tunnels()[0].id;
    pair.command(Side::A, Command::DeleteIke(ike));
    pair.settle();
    assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty());
    assert!(pair.a.stored.is_empty(), "what has ended is not stored");
    assert_nothing_reused(&pair.wire, true);
}

#[test]
fn a_planned_move_rekeys_nothing() {
    let mut pair = kept(2);
    pair.connect(Side::B);
    let id = pair.a.engine.ike_tunnels()[0].id;
    let snapshot = pair.a.engine.export(id, pair.unix()).unwrap();
    pair.command(Side::A, Command::Forget(id));
    assert!(pair.a.installed.is_empty(), "the old owner has none of it");
    let sent = pair.wire.len();
    pair.take_over(Side::A, 5, &settings(2), rules(ADDRESS_A, ADDRESS_B));
    let numbers = |next_sequence| Continued {
        next_sequence,
        replay: Some(ReplayState { highest: 99, seen: vec![u64::MAX] }),
        bytes: 1000,
    };
    let children = snapshot.children().map(|child| (child.spi_in, numbers(41))).collect();
    let succession = Succession::Handed { next_sequence: CEILING, children };
    let unix = pair.unix();
    pair.command(Side::A, Command::Restore(Box::new(Restore { snapshot, unix, succession })));
    pair.settle();
    pair.assert_matching();
    assert_eq!(pair.wire.len(), sent, "nobody is told anything");
    assert_eq!(pair.a.installed.values().next().unwrap().continued, Some(numbers(41)));
    assert_eq!(pair.a.engine.ike_tunnels()[0].id, id, "the number stays");
    pair.run(Duration::from_secs(7200));
    pair.assert_matching();
    assert_eq!(pair.a.installed.len(), 1);
    assert_nothing_reused(&pair.wire, true);
}

fn restore(pair: &mut Pair, snapshot: IkeSnapshot) -> Option<String> {
    let succession = Succession::Failed { next_sequence: CEILING };
    let unix = pair.unix();
    let seen = pair.a.events.len();
    pair.command(Side::A, Command::Restore(Box::new(Restore { snapshot, unix, succession })));
    pair.a.events[seen..].iter().find_map(|event| match event {
        Event::RestoreRefused { reason, .. } => Some(reason.clone()),
        _ => None,
    })
}

#[test]
fn t50_a_takeover_that_is_repeated_doubles_nothing() {
    let mut pair = kept(3);
    pair.connect(Side::A);
    let snapshot = pair.a.stored.values().next().unwrap().clone();
    fail_over(&mut pair, 1, 2);
    assert_eq!(restore(&mut pair, snapshot).as_deref(), Some("it is here already"));
    pair.settle();
    pair.assert_matching();
    assert_eq!((pair.a.installed.len(), pair.a.engine.ike_tunnels().len()), (1, 1));
}

#[test]
fn what_does_not_belong_here_is_refused_with_its_reason() {
    let mut pair = kept(4);
    pair.connect(Side::A);
    let snapshot = pair.a.stored.values().next().unwrap().clone();
    let mut refused = |settings: &Settings, rules: Rules| {
        pair.take_over(Side::A, 9, settings, rules);
        let reason = restore(&mut pair, snapshot.clone()).expect("it is refused");
        assert!(pair.a.installed.is_empty() && pair.a.engine.is_idle(), "{reason}");
        reason
    };
    let ours = || rules(ADDRESS_A, ADDRESS_B);
    assert!(refused(&Settings::default(), ours()).contains("not continued here"));
    assert!(refused(&settings(0), ours()).contains("epoch"), "an owner of before");
    // IVs would begin again.
    assert!(refused(&settings(1 + (1 << 16)), ours()).contains("epoch"));
    assert!(refused(&settings(2), Rules::default()).contains("no KeyExchangeRule"));
}

#[test]
fn a_child_whose_rule_is_gone_is_deleted_at_the_peer() {
    let mut pair = kept(5);
    pair.connect(Side::A);
    let mut without = rules(ADDRESS_A, ADDRESS_B);
    without.child.clear();
    let snapshot = pair.a.stored.values().next().unwrap().clone();
    pair.take_over(Side::A, 9, &settings(2), without);
    assert_eq!(restore(&mut pair, snapshot), None);
    pair.settle();
    assert!(pair.a.events.iter().any(|event| matches!(event, Event::Restored { lost: 1, .. })));
    assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty());
    assert_eq!(pair.a.failures().len(), 1, "{:?}", pair.a.failures());
}

#[test]
fn another_tunnel_with_the_same_numbers_gets_others() {
    let mut pair = kept(6);
    pair.connect(Side::A);
    let snapshot = pair.a.stored.values().next().unwrap().clone();
    let was = snapshot.tunnel();
    let mut pair = kept(7);
    pair.connect(Side::A);
    assert_eq!(restore(&mut pair, snapshot), None);
    let restored = |event: &Event| match event {
        Event::Restored { was, id, .. } => Some((*was, *id)),
        _ => None,
    };
    let (from, to) = pair.a.events.iter().find_map(restored).unwrap();
    assert!(from == was && to != was);
    assert_eq!((pair.a.engine.children().len(), pair.a.engine.ike_tunnels().len()), (2, 2));
}

#[test]
fn t47_an_owner_that_gave_up_says_nothing_more() {
    let mut pair = kept(8);
    pair.store_delay = Duration::from_millis(5);
    pair.connect(Side::A);
    let (ike, child) = (pair.a.engine.ike_tunnels()[0].id, pair.a.engine.children()[0].id);
    // A rekey that waits to be stored.
    pair.command(Side::A, Command::RekeyChild(child));
    let sent = pair.a.sent;
    pair.command(Side::A, Command::Forget(ike));
    let question = pair.b.engine.children()[0].id;
    pair.command(Side::B, Command::RekeyChild(question));
    pair.run(Duration::from_secs(100));
    assert_eq!(pair.a.sent, sent);
    assert!(pair.a.engine.is_idle() && pair.a.engine.ike_tunnels().is_empty() && pair.a.installed.is_empty());
}

#[test]
fn a_message_waits_for_the_coupling_facility_and_is_not_blamed_on_the_peer() {
    let mut pair = kept(9);
    pair.connect(Side::A);
    // It takes longer than all retransmissions together.
    pair.store_delay = Duration::from_secs(600);
    let child = pair.a.engine.children()[0].id;
    let (sent, heard) = (pair.a.sent, pair.b.sent);
    pair.command(Side::A, Command::RekeyChild(child));
    pair.run(Duration::from_secs(590));
    assert_eq!((pair.a.sent, pair.b.installed.len()), (sent, 0), "nothing went out; the peer has given up");
    assert!(pair.b.sent > heard);
    assert_eq!(pair.a.engine.ike_tunnels().len(), 1);
}

#[test]
fn children_made_before_are_replaced_when_continuing_is_switched_on() {
    let mut pair = Pair::with_defaults(10);
    pair.connect(Side::A);
    pair.a.engine.set_settings(settings(1));
    pair.drain(Side::A);
    pair.settle();
    assert_eq!(pair.a.installed.values().map(|one| one.generation).collect::<Vec<_>>(), [2]);
    assert!(pair.a.installed.values().all(|one| one.outlives));
    fail_over(&mut pair, 4, 2);
    assert_eq!(continued(&pair), 1);
    pair.settle();
    pair.assert_matching();
}

#[test]
fn t27_a_snapshot_prints_no_keys() {
    let mut pair = kept(11);
    pair.connect(Side::A);
    let snapshot = pair.a.stored.values().next().unwrap();
    let shown = format!("{snapshot:?}");
    assert!(
        shown.starts_with("IkeSnapshot { tunnel: IkeTunnelId(1), sas: 1,") && shown.len() < 100,
        "{shown}"
    );
    assert_eq!(snapshot.children().count(), 1);
    assert_eq!((snapshot.local(), snapshot.remote()), (Some(ADDRESS_A), Some(ADDRESS_B)));
}

/// No child's numbers begin again: an install with keys that were used before goes on above them and accepts nothing.
fn assert_numbers_grow(pair: &Pair) {
    let mut bases: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for event in &pair.a.events {
        let Event::InstallChild(install) = event else { continue };
        let base = install.continued.as_ref().map_or(0, |numbers| numbers.next_sequence);
        if let Some(before) = bases.insert(install.key_out.0.clone(), base) {
            assert!(base >= before + CEILING, "numbers from {base} on, {before} before");
        }
        assert!(install.continued.as_ref().is_none_or(|numbers| numbers.replay.is_none()));
    }
}

/// How many cases: few by default, more by PROPTEST_CASES.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)
}

/// What happens to the pair.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Ask(Side),
    RekeyChild(Side),
    Refresh(Side),
    DeleteChild(Side),
    SoftLimit,
    Fail,
}

fn deed() -> impl Strategy<Value = Deed> {
    let side = || any::<bool>().prop_map(|a| if a { Side::A } else { Side::B });
    prop_oneof![
        2 => side().prop_map(Deed::Ask),
        6 => side().prop_map(Deed::RekeyChild),
        3 => side().prop_map(Deed::Refresh),
        1 => side().prop_map(Deed::DeleteChild),
        1 => Just(Deed::SoftLimit),
        4 => Just(Deed::Fail),
    ]
}

fn restless(a: bool, cbc: bool) -> Rules {
    let (own, peer) = if a { (ADDRESS_A, ADDRESS_B) } else { (ADDRESS_B, ADDRESS_A) };
    let mut rules = rules(own, peer);
    rules.child[0].offers[0].lifetime = Duration::from_secs(90);
    rules.exchange[0].offers[0].lifetime = Duration::from_secs(200);
    if cbc {
        rules.exchange[0].offers[0].encryption = Encryption::AesCbc(256);
        rules.exchange[0].offers[0].integrity = Some(Integrity::HmacSha384);
    }
    // A Refresh of side B rekeys the IKE SA, one of side A authenticates again.
    rules.exchange[0].initiate |= a;
    rules
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// What stands in the store is not trusted: damaged in any way, it is refused, or taken up without harm (threats T49).
    #[test]
    fn t49_a_damaged_snapshot_harms_nobody(
        seed in 0_u64..50,
        open in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut pair = kept(seed);
        pair.connect(Side::A);
        if open {
            let child = pair.a.engine.children()[0].id;
            pair.command(Side::A, Command::RekeyChild(child));
        }
        let mut octets = pair.a.stored.values().next().unwrap().encode().to_vec();
        for (at, value) in damage {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        if let Some(cut) = cut {
            octets.truncate(cut.index(octets.len()));
        }
        if let Ok(snapshot) = IkeSnapshot::decode(&octets) {
            prop_assert_eq!(IkeSnapshot::decode(&snapshot.encode()), Ok(snapshot.clone()));
            pair.take_over(Side::A, seed, &settings(2), rules(ADDRESS_A, ADDRESS_B));
            pair.a.address = snapshot.local().unwrap_or(ADDRESS_A);
            if restore(&mut pair, snapshot).is_none() {
                pair.run(Duration::from_secs(40));
            }
        }
    }

    /// Whenever an owner fails, in the middle of whatever exchange, on a bad network and with a slow coupling facility: the
    /// next one goes on with what is stored, nothing is reused, and in the end both sides have the same SAs.
    #[test]
    fn t50_an_owner_may_fail_at_any_moment(
        seed in any::<u32>(),
        cbc in any::<bool>(),
        (loss, duplicate, reorder) in (0_u32..200, 0_u32..200, 0_u32..300),
        store in 0_u64..60,
        first in any::<bool>(),
        deeds in prop::collection::vec((deed(), 0_u64..1_000, any::<bool>()), 1..25),
    ) {
        let seed = u64::from(seed);
        let mut pair = pair(seed, restless(true, cbc), restless(false, cbc));
        pair.store_delay = Duration::from_millis(store);
        pair.connect(if first { Side::A } else { Side::B });
        pair.network =
            Network { loss, duplicate, reorder, hold: Duration::from_secs(1), ..Network::default() };
        let mut epoch = 1;
        for (deed, wait, long) in deeds {
            let id = |side| pair.host(side).engine.children().first().map(|child| child.id);
            match deed {
                Deed::Ask(side) => pair.ask(side),
                Deed::RekeyChild(side) => {
                    if let Some(id) = id(side) {
                        pair.command(side, Command::RekeyChild(id));
                    }
                }
                Deed::DeleteChild(side) => {
                    if let Some(id) = id(side) {
                        pair.command(side, Command::DeleteChild(id));
                    }
                }
                Deed::Refresh(side) => {
                    if let Some(ike) = pair.host(side).engine.ike_tunnels().first().map(|ike| ike.id) {
                        pair.command(side, Command::RefreshIke(ike));
                    }
                }
                Deed::SoftLimit => {
                    if let Some(spi_in) = pair.a.installed.keys().next().copied() {
                        pair.command(Side::A, Command::SoftLimit { spi_in });
                    }
                }
                Deed::Fail => {
                    epoch += 1;
                    fail_over_with(&mut pair, seed + epoch, epoch, restless(true, cbc));
                }
            }
            // Up to a second, or into the lifetimes.
            pair.run(Duration::from_millis(if long { wait * 60 } else { wait / 8 }));
        }
        pair.network = Network::default();
        let now = pair.now;
        let long = |own, peer| {
            let mut rules = rules(own, peer);
            if cbc {
                rules.exchange[0].offers[0].encryption = Encryption::AesCbc(256);
                rules.exchange[0].offers[0].integrity = Some(Integrity::HmacSha384);
            }
            rules
        };
        pair.a.engine.set_rules(now, long(ADDRESS_A, ADDRESS_B));
        pair.b.engine.set_rules(now, long(ADDRESS_B, ADDRESS_A));
        pair.assert_recovers();
        prop_assert!(!pair.a.installed.is_empty());
        assert_nothing_reused(&pair.wire, !cbc);
        assert_numbers_grow(&pair);
    }
}
