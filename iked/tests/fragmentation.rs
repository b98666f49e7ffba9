//! IKE messages that are too long for a datagram go in fragments (RFC 7383), both sides in one process.

#![allow(clippy::unwrap_used, reason = "a test says what it expects, in its helpers too")]

use iked::ike::rules::Settings;
use iked::ike::sim::{ADDRESS_A, ADDRESS_B, Datagram, Network, Pair, Side, rules};
use iked::ike::types::{Identity, IdentityPattern};
use std::str::FromStr as _;
use std::time::Duration;
use x509_cert::der::Encode as _;
use x509_cert::name::Name;

/// Octets of a message that every link carries: 1280 without the headers of IPv6 and UDP and the non-ESP marker.
const LONGEST: usize = 1228;
/// Where a fragment says its number.
const NUMBER: usize = 28 + 4;
const FRAGMENT: u8 = 53;

/// Both have identities of so many octets: their IKE_AUTH has several fragments.
fn long_names(seed: u64, octets: usize) -> Pair {
    let name = |digit: u8| {
        let text = format!("CN={}", digit.to_string().repeat(octets));
        Identity::Dn(Name::from_str(&text).unwrap().to_der().unwrap())
    };
    let (mut a, mut b) = (rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A));
    for (rules, own, peer) in [(&mut a, 1, 2), (&mut b, 2, 1)] {
        rules.exchange[0].local_id = name(own);
        rules.exchange[0].remote_id = IdentityPattern::Exact(name(peer));
    }
    Pair::new(seed, &Settings::default(), a, b)
}

/// Both have the child, with the same keys.
fn assert_made(pair: &Pair) {
    pair.assert_matching();
    let failures = (pair.a.failures(), pair.b.failures());
    assert!(!pair.a.installed.is_empty() && !pair.b.installed.is_empty(), "{failures:?}");
}

fn is_fragment(datagram: &Datagram) -> bool {
    datagram.bytes[16] == FRAGMENT
}

#[test]
fn long_messages_go_in_fragments_and_short_ones_do_not() {
    let mut pair = long_names(1, 3_000);
    pair.connect(Side::A);
    pair.assert_matching();
    let fragments = |from| pair.wire.iter().filter(|d| d.from == from && is_fragment(d)).count();
    // Both names stand in the request, one in the answer.
    assert_eq!((fragments(Side::A), fragments(Side::B)), (6, 3));
    assert_eq!(pair.wire.len(), 2 + 6 + 3);
    assert!(pair.wire.iter().all(|d| d.bytes.len() <= LONGEST));
    assert!(pair.wire.iter().any(|d| d.bytes.len() == LONGEST), "as long as they may be");
    // An IKE SA that replaces this one knows that the peer takes them, and a child is made at it.
    pair.run(Duration::from_secs(9 * 3_600));
    assert_made(&pair);
}

#[test]
fn lost_repeated_and_reordered_fragments() {
    for seed in 0..200 {
        let mut pair = long_names(seed, 2_500);
        pair.network = Network { loss: 150, duplicate: 150, reorder: 300, ..Network::default() };
        pair.ask(Side::A);
        pair.run(Duration::from_secs(40));
        pair.network = Network::default();
        pair.run(Duration::from_secs(400));
        // Where the first exchange alone took longer than a half-open SA lives, it is asked for again.
        if pair.a.installed.is_empty() {
            pair.connect(Side::A);
        }
        assert_made(&pair);
    }
}

/// What waits until the coupling facility has it goes in fragments as well.
#[test]
fn fragments_of_an_sa_that_outlives_its_process() {
    let (mut a, b) = (rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A));
    // Many offers for the child: each time it is rekeyed, they are all sent.
    a.child[0].offers = vec![a.child[0].offers[0]; 32];
    let settings = Settings { continued: [(ADDRESS_A, 1)].into(), ..Settings::default() };
    let mut pair = Pair::new(4, &settings, a, b);
    pair.b.engine.set_settings(Settings::default());
    pair.store_delay = Duration::from_millis(5);
    pair.connect(Side::A);
    let before = pair.wire.len();
    pair.run(Duration::from_secs(2 * 3_600));
    assert_made(&pair);
    const CREATE_CHILD_SA: u8 = 36;
    let rekeys =
        || pair.wire[before..].iter().filter(|d| d.from == Side::A && d.bytes[18] == CREATE_CHILD_SA);
    assert!(rekeys().filter(|d| is_fragment(d)).count() >= 2, "{}", rekeys().count());
    assert!(pair.wire.iter().all(|d| d.bytes.len() <= LONGEST));
}

/// T25: what is changed of a fragment, its number and their count among it, is not taken, and harms none that comes behind it.
#[test]
fn t25_forged_fragments_change_nothing() {
    let mut pair = long_names(2, 2_500);
    pair.ask(Side::A);
    let (mut seen, mut forged) = (0, 0);
    let end = pair.now + Duration::from_secs(60);
    loop {
        for datagram in pair.wire.split_off(seen) {
            pair.wire.push(datagram.clone());
            seen += 1;
            if !is_fragment(&datagram) {
                continue;
            }
            for at in [NUMBER + 1, NUMBER + 3, NUMBER, NUMBER + 2, 60, datagram.bytes.len() - 1, 20] {
                let mut other = datagram.bytes.clone();
                other[at] ^= 1;
                pair.inject(datagram.from.other(), datagram.source, datagram.destination.port(), &other);
                forged += 1;
            }
            let cut = &datagram.bytes[..datagram.bytes.len() - 5];
            pair.inject(datagram.from.other(), datagram.source, datagram.destination.port(), cut);
        }
        if !pair.step(end) {
            break;
        }
    }
    assert!(forged > 30, "{forged}");
    assert_made(&pair);
}
