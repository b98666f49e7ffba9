//! Hostile and broken input against whole engines (threats T01 to T32): nothing panics, nothing grows, what stands stands.

use iked::ike::command::Command;
use iked::ike::event::Event;
use iked::ike::failure::Failure;
use iked::ike::rules::{Rules, Settings};
use iked::ike::sim::{ADDRESS_A, ADDRESS_B, Pair, Side, initiate, rules};
use iked::ike::types::{AddressRange, TrafficSelector};
use iked::ike::view::{ChildView, IkeView};
use iked::ike::wire::payload::{Delete, Ke, Nonce, Notify, Proposal, Sa};
use iked::ike::wire::{ExchangeType, Flags, Header, Message, NotifyType, Parsed, Payload};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const ATTACKER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 66)), 500);

fn connected(seed: u64) -> Pair {
    let mut pair = Pair::with_defaults(seed);
    pair.connect(Side::A);
    pair
}

/// What must not change (R4); counters of invalid messages may.
fn standing(pair: &Pair) -> (Vec<IkeView>, Vec<ChildView>) {
    let mut ike = pair.b.engine.ike_tunnels();
    for view in &mut ike {
        view.counters = Default::default();
    }
    (ike, pair.b.engine.children())
}

/// An IKE_SA_INIT like those of [`rules`]; `n` makes it another one.
fn init_request(n: u64, cookie: Option<Vec<u8>>) -> Vec<u8> {
    let suite = iked::ike::wire::IkeSuite {
        encryption: iked::ike::types::Encryption::AesGcm16(128),
        integrity: None,
        prf: iked::ike::types::Prf::HmacSha256,
        group: iked::ike::types::Group::Curve25519,
    };
    let mut nonce = [3; 32];
    nonce[..8].copy_from_slice(&n.to_be_bytes());
    let mut payloads = Vec::new();
    payloads.extend(cookie.map(|cookie| Payload::Notify(Notify::new(NotifyType::COOKIE, cookie))));
    payloads.extend([
        Payload::Sa(Sa { proposals: vec![Proposal::ike(1, None, &suite)] }),
        Payload::Ke(Ke { group: 31, value: vec![9; 32] }),
        Payload::Nonce(Nonce::new(nonce)),
    ]);
    let flags = Flags { initiator: true, ..Flags::default() };
    let header = Header::new(n + 1, 0, ExchangeType::IKE_SA_INIT, flags, 0);
    Message::new(header, payloads).encode().expect("a small message")
}

fn source(n: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)), 500)
}

/// Takes what B answered and does not carry it anywhere.
fn answers(pair: &mut Pair) -> Vec<(SocketAddr, Vec<u8>)> {
    let from = pair.wire.len();
    pair.drain(Side::B);
    pair.wire[from..].iter().map(|datagram| (datagram.destination, datagram.bytes.clone())).collect()
}

fn inject(pair: &mut Pair, from: SocketAddr, bytes: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
    let before = pair.wire.len();
    pair.inject(Side::B, from, 500, bytes);
    let mut out: Vec<_> =
        pair.wire[before..].iter().map(|datagram| (datagram.destination, datagram.bytes.clone())).collect();
    out.extend(answers(pair));
    out
}

#[test]
fn t01_runts_and_lying_lengths_are_dropped() {
    let mut pair = connected(61);
    let before = standing(&pair);
    let good = init_request(1, None);
    for length in 0..28 {
        assert!(inject(&mut pair, ATTACKER, &good[..length]).is_empty());
    }
    let true_length = u32::try_from(good.len()).unwrap();
    for length in [0, 27, 28, true_length - 1, true_length + 1, u32::MAX] {
        let mut bytes = good.clone();
        bytes[24..28].copy_from_slice(&length.to_be_bytes());
        let out = inject(&mut pair, ATTACKER, &bytes);
        assert!(out.is_empty(), "length {length} was answered");
    }
    assert!(pair.b.engine.counters().dropped >= 34);
    assert_eq!(standing(&pair), before);
}

#[test]
fn t05_another_major_version_is_told_once() {
    let mut pair = connected(62);
    let mut told = 0;
    for version in [0x00, 0x10, 0x30, 0xf0] {
        for _ in 0..50 {
            let mut bytes = init_request(2, None);
            bytes[17] = version;
            let out = inject(&mut pair, ATTACKER, &bytes);
            for (to, answer) in &out {
                assert_eq!(*to, ATTACKER);
                let Ok(Parsed::Clear(message)) = Message::parse(answer) else { panic!("{answer:?}") };
                assert!(
                    matches!(&message.payloads[0], Payload::Notify(n) if n.kind == NotifyType::INVALID_MAJOR_VERSION)
                );
                assert!(message.header.flags.response);
            }
            told += out.len();
        }
    }
    assert_eq!(told, 1);
    // A higher minor version and reserved flags are ignored.
    let mut bytes = init_request(3, None);
    bytes[17] = 0x2f;
    bytes[19] |= 0x47;
    assert_eq!(inject(&mut pair, ATTACKER, &bytes).len(), 1);
}

#[test]
fn t06_t07_hopeless_first_requests_get_one_small_answer_and_no_state() {
    let mut pair = connected(63);
    let before = pair.b.engine.ike_tunnels().len();
    let flags = Flags { initiator: true, ..Flags::default() };
    let header = Header::new(77, 0, ExchangeType::IKE_SA_INIT, flags, 0);
    let bare = Message::new(header, vec![Payload::Nonce(Nonce::new([1; 32]))]).encode().unwrap();
    for bad in [bare, {
        // The group's value is too short.
        let Ok(Parsed::Clear(mut message)) = Message::parse(&init_request(4, None)) else { unreachable!() };
        for payload in &mut message.payloads {
            if let Payload::Ke(ke) = payload {
                ke.value.truncate(31);
            }
        }
        message.encode().unwrap()
    }] {
        let mut told = 0;
        for _ in 0..20 {
            let out = inject(&mut pair, ATTACKER, &bad);
            assert!(out.iter().all(|(_, answer)| answer.len() <= bad.len()), "amplification");
            told += out.len();
        }
        assert!(told <= 1);
    }
    // An all-zero shared secret (T23).
    let Ok(Parsed::Clear(mut message)) = Message::parse(&init_request(5, None)) else { unreachable!() };
    for payload in &mut message.payloads {
        if let Payload::Ke(ke) = payload {
            ke.value = vec![0; 32];
        }
    }
    inject(&mut pair, source(1), &message.encode().unwrap());
    assert_eq!(pair.b.engine.ike_tunnels().len(), before);
}

#[test]
fn t08_t15_our_own_packets_come_back_and_change_nothing() {
    let mut pair = Pair::with_defaults(64);
    pair.connect(Side::A);
    let tunnel = pair.a.engine.children()[0].id;
    pair.command(Side::A, Command::RekeyChild(tunnel));
    pair.settle();
    let before = (standing(&pair), pair.a.engine.children());
    for datagram in pair.wire.clone() {
        let back = SocketAddr::new(pair.host(datagram.from.other()).address, 500);
        let count = pair.wire.len();
        pair.inject(datagram.from, back, 500, &datagram.bytes);
        assert_eq!(pair.wire.len(), count, "a reflected packet was answered");
    }
    assert_eq!((standing(&pair), pair.a.engine.children()), before);
    // And while the first exchange is under way.
    let mut pair = Pair::with_defaults(65);
    pair.ask(Side::A);
    let own = pair.wire[0].bytes.clone();
    let mut answer = own.clone();
    answer[19] = 0x20;
    answer[8..16].copy_from_slice(&[7; 8]);
    let back = SocketAddr::new(ADDRESS_B, 500);
    pair.inject(Side::A, back, 500, &own);
    pair.inject(Side::A, back, 500, &answer);
    pair.settle();
    pair.assert_matching();
    assert_eq!(pair.a.installed.len(), 1);
}

#[test]
fn t13_t14_nothing_but_ike_auth_is_served_before_authentication() {
    // A peer that stops after IKE_SA_INIT and then talks as if it were authenticated.
    let mut pair = Pair::with_defaults(66);
    pair.ask(Side::A);
    let limit = pair.now + Duration::from_millis(21);
    while pair.step(limit) {}
    assert_eq!(pair.wire.len(), 3, "IKE_AUTH is on the way");
    let auth = pair.wire[2].bytes.clone();
    for exchange in [36, 37, 40, 0, 255] {
        let mut forged = auth.clone();
        forged[18] = exchange;
        let out = inject(&mut pair, SocketAddr::new(ADDRESS_A, 500), &forged);
        assert!(out.is_empty());
    }
    pair.settle();
    pair.assert_matching();
    assert_eq!(pair.a.installed.len(), 1, "the true request was still served");
}

#[test]
fn t15_wrong_ids_and_flags_are_dropped() {
    let mut pair = connected(67);
    let before = standing(&pair);
    let last = pair.wire.iter().rev().find(|datagram| datagram.from == Side::A).unwrap().bytes.clone();
    let from = SocketAddr::new(ADDRESS_A, 500);
    for id in [0u32, 1, 2, 3, 4, 1000, u32::MAX - 1, u32::MAX] {
        for flags in [0x00u8, 0x08, 0x20, 0x28] {
            let mut bytes = last.clone();
            bytes[19] = flags;
            bytes[20..24].copy_from_slice(&id.to_be_bytes());
            let out = inject(&mut pair, from, &bytes);
            // Only the exact repeat is answered, with the stored answer.
            assert_eq!(!out.is_empty(), bytes == last, "id {id}, flags {flags:#x}");
        }
    }
    assert_eq!(standing(&pair), before);
}

#[test]
fn t16_unprotected_errors_end_nothing() {
    let mut pair = connected(68);
    let before = standing(&pair);
    let ike = pair.b.engine.ike_tunnels()[0].clone();
    let kinds = [
        NotifyType::INVALID_IKE_SPI,
        NotifyType::AUTHENTICATION_FAILED,
        NotifyType::NO_PROPOSAL_CHOSEN,
        NotifyType::INVALID_MAJOR_VERSION,
        NotifyType::INVALID_SYNTAX,
    ];
    for exchange in [34, 35, 36, 37] {
        for kind in kinds {
            for flags in 0..8u8 {
                let flags =
                    Flags { initiator: flags & 1 != 0, version: flags & 2 != 0, response: flags & 4 != 0 };
                for id in 0..4 {
                    let header = Header::new(ike.spi_i, ike.spi_r, ExchangeType(exchange), flags, id);
                    let payloads = vec![
                        Payload::Notify(Notify::new(kind, Vec::new())),
                        Payload::Delete(Delete::ike_sa()),
                    ];
                    let bytes = Message::new(header, payloads).encode().unwrap();
                    inject(&mut pair, SocketAddr::new(ADDRESS_A, 500), &bytes);
                }
            }
        }
    }
    assert_eq!(standing(&pair), before);
    // During set-up: the true answer still counts.
    let mut pair = Pair::with_defaults(69);
    pair.ask(Side::A);
    let spi_i = pair.a.engine.ike_tunnels()[0].spi_i;
    for kind in kinds {
        let flags = Flags { response: true, ..Flags::default() };
        let header = Header::new(spi_i, 0, ExchangeType::IKE_SA_INIT, flags, 0);
        let bytes =
            Message::new(header, vec![Payload::Notify(Notify::new(kind, Vec::new()))]).encode().unwrap();
        pair.inject(Side::A, SocketAddr::new(ADDRESS_B, 500), 500, &bytes);
    }
    pair.settle();
    pair.assert_matching();
    assert_eq!(pair.a.installed.len(), 1);
}

#[test]
fn t25_one_bit_anywhere_makes_a_protected_message_worthless() {
    let mut pair = Pair::with_defaults(70);
    pair.ask(Side::A);
    let limit = pair.now + Duration::from_millis(21);
    while pair.step(limit) {}
    let auth = pair.wire[2].bytes.clone();
    let from = SocketAddr::new(ADDRESS_A, 500);
    for bit in (28 * 8)..(auth.len() * 8) {
        let mut forged = auth.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        inject(&mut pair, from, &forged);
    }
    for length in 28..auth.len() {
        let mut cut = auth[..length].to_vec();
        cut[24..28].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        inject(&mut pair, from, &cut);
    }
    assert!(pair.b.engine.children().is_empty());
    pair.settle();
    pair.assert_matching();
    assert_eq!(pair.a.installed.len(), 1);
}

fn open_rules() -> (Rules, Rules) {
    let (a, mut b) = (rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A));
    b.exchange[0].remote_location =
        vec![AddressRange { low: IpAddr::from([0; 4]), high: IpAddr::from([255; 4]) }];
    (a, b)
}

#[test]
fn t28_t30_a_flood_of_forged_sources_keeps_little_and_honest_peers_get_through() {
    let (a, b) = open_rules();
    let settings = Settings::default();
    let mut pair = Pair::new(71, &settings, a, b);
    pair.connect(Side::A);
    pair.run(Duration::from_secs(60));
    let standing_before = pair.b.engine.children();
    let mut cookies = 0;
    for n in 0..20_000u32 {
        let request = init_request(u64::from(n), None);
        let out = inject(&mut pair, source(n), &request);
        let sent: usize = out.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(sent <= 3 * request.len(), "amplification");
        cookies += out.len();
        pair.wire.clear();
        assert!(pair.b.engine.ike_tunnels().len() <= settings.cookie_threshold + 2);
    }
    assert!(cookies > 19_000);
    assert!(pair.b.engine.counters().cookies > 19_000);
    // An honest peer pays one round trip more and is served, in the midst of it.
    let fresh = Pair::new(72, &settings, open_rules().0, open_rules().1);
    pair.a = fresh.a;
    pair.connect(Side::A);
    assert_eq!(pair.a.installed.len(), 1);
    let first = |bytes: &[u8]| matches!(bytes[18], 34 | 35);
    let answers = pair.wire.iter().filter(|d| d.destination.ip() == ADDRESS_A && first(&d.bytes)).count();
    assert_eq!(answers, 3, "cookie, IKE_SA_INIT, IKE_AUTH");
    assert_eq!(standing_before.len(), pair.b.engine.children().len());
    // When it ends, cookies are not asked for any more.
    pair.run(settings.half_open_timeout + Duration::from_secs(1));
    assert_eq!(pair.b.engine.ike_tunnels().len(), 1);
    let asked = pair.b.engine.counters().cookies;
    assert_eq!(inject(&mut pair, source(1), &init_request(1, None)).len(), 1);
    assert_eq!(pair.b.engine.counters().cookies, asked);
}

#[test]
fn t28_one_address_cannot_use_up_what_is_for_all() {
    let (a, b) = open_rules();
    let settings = Settings { cookie_threshold: 10_000, ..Settings::default() };
    let mut pair = Pair::new(73, &settings, a, b);
    for n in 0..500u64 {
        let out = inject(&mut pair, ATTACKER, &init_request(n, None));
        // It is where it says, so it can answer the cookie.
        if let Some((_, answer)) = out.first()
            && let Ok(Parsed::Clear(message)) = Message::parse(answer)
            && let Some(Payload::Notify(notify)) = message.payloads.first()
            && notify.kind == NotifyType::COOKIE
        {
            inject(&mut pair, ATTACKER, &init_request(n, Some(notify.data.clone())));
        }
    }
    assert_eq!(pair.b.engine.ike_tunnels().len(), settings.half_open_per_source);
    pair.connect(Side::A);
    assert_eq!(pair.a.installed.len(), 1, "another address is served");
}

#[test]
fn t29_bad_cookies_get_a_fresh_one_and_no_state() {
    let (a, b) = open_rules();
    let settings = Settings { cookie_threshold: 0, ..Settings::default() };
    let mut pair = Pair::new(74, &settings, a, b);
    let out = inject(&mut pair, source(1), &init_request(1, None));
    let Ok(Parsed::Clear(message)) = Message::parse(&out[0].1) else { panic!() };
    let Some(Payload::Notify(notify)) = message.payloads.first() else { panic!() };
    let good = notify.data.clone();
    let mut wrong = good.clone();
    *wrong.last_mut().unwrap() ^= 1;
    for (from, cookie) in [
        (source(1), wrong),
        (source(1), vec![1]),
        (source(1), vec![1; 65]),
        (source(2), good.clone()),
        (source(1), Vec::new()),
    ] {
        let out = inject(&mut pair, from, &init_request(1, Some(cookie)));
        assert_eq!(out.len(), 1, "a fresh cookie");
        assert!(pair.b.engine.ike_tunnels().is_empty());
    }
    pair.run(Duration::from_secs(130));
    let out = inject(&mut pair, source(1), &init_request(1, Some(good)));
    assert!(pair.b.engine.ike_tunnels().is_empty(), "the secret has changed twice");
    let Ok(Parsed::Clear(message)) = Message::parse(&out[0].1) else { panic!() };
    let Some(Payload::Notify(notify)) = message.payloads.first() else { panic!() };
    inject(&mut pair, source(1), &init_request(1, Some(notify.data.clone())));
    assert_eq!(pair.b.engine.ike_tunnels().len(), 1);
}

#[test]
fn t32_children_of_one_peer_are_limited() {
    let (mut a, mut b) = (rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A));
    for rules in [&mut a, &mut b] {
        let child = &mut rules.child[0];
        for selector in child.local.iter_mut().chain(&mut child.remote) {
            selector.protocol = 6;
        }
    }
    let settings = Settings { children_per_peer: 10, ..Settings::default() };
    let mut pair = Pair::new(75, &settings, a, b);
    for port in 1000..1030u16 {
        let mut command = initiate(ADDRESS_A, ADDRESS_B);
        if let Command::Initiate(initiate) = &mut command {
            initiate.local =
                vec![TrafficSelector { protocol: 6, port_low: port, port_high: port, ..initiate.local[0] }];
        }
        pair.command(Side::A, command);
    }
    pair.run(Duration::from_secs(60));
    pair.assert_matching();
    assert_eq!(pair.b.installed.len(), 10);
    assert!(pair.a.failures().iter().all(|reason| reason.contains("NO_ADDITIONAL_SAS")));
    assert_eq!(pair.a.failures().len(), 20);
}

#[test]
fn what_a_hostile_peer_says_is_escaped_in_events() {
    let (mut a, b) = open_rules();
    a.exchange[0].local_id = iked::ike::types::Identity::UserFqdn("a\u{7}b@example.net".to_owned());
    let mut pair = Pair::new(76, &Settings::default(), a, b);
    pair.connect(Side::A);
    for event in &pair.b.events {
        let (Event::Failed { reason: Failure { text, .. }, .. } | Event::Notice { text, .. }) = event else {
            continue;
        };
        assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Octets of any kind, true messages with changed octets: no panic, and the SAs stand.
    #[test]
    fn t02_mangled_messages_change_nothing(
        seed in 0u64..1000,
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..60),
    ) {
        let mut pair = connected(seed);
        let before = standing(&pair);
        let sent = pair.wire.clone();
        for bytes in &noise {
            inject(&mut pair, ATTACKER, bytes);
        }
        for (which, at, value) in changes {
            let mut bytes = which.get(&sent).bytes.clone();
            let at = at.index(bytes.len());
            bytes[at] = value;
            pair.inject(Side::A, SocketAddr::new(ADDRESS_B, 500), 500, &bytes);
            inject(&mut pair, SocketAddr::new(ADDRESS_A, 500), &bytes);
        }
        let kept = |mut views: (Vec<IkeView>, Vec<ChildView>)| {
            views.0.retain(|view| view.established.is_some());
            views
        };
        prop_assert_eq!(kept(standing(&pair)), before);
    }
}
