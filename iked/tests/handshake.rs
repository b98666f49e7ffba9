//! The first exchanges, both sides in one process: IKE_SA_INIT, IKE_AUTH, the first child.

use iked::ike::command::Command;
use iked::ike::event::Event;
use iked::ike::failure::FailureKind;
use iked::ike::rules::{Authentication, Initiation, Rules, Settings};
use iked::ike::sim::{ADDRESS_A, ADDRESS_B, Pair, Side, initiate, rules};
use iked::ike::types::{
    AddressRange, Encryption, Group, Identity, IdentityPattern, Integrity, Mode, Prf, Secret, TrafficSelector,
};
use iked::ike::view::{IkeProgress, Role, SaState};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::time::Duration;

fn pair_of(a: Rules, b: Rules) -> Pair {
    Pair::new(7, &Settings::default(), a, b)
}

fn both() -> (Rules, Rules) {
    (rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A))
}

#[test]
fn two_round_trips_make_an_ike_sa_and_a_child() {
    let mut pair = Pair::with_defaults(1);
    pair.connect(Side::A);
    assert_eq!(pair.wire.len(), 4);
    assert_eq!(pair.elapsed(), Duration::from_millis(40));
    pair.assert_matching();
    for (host, role) in [(&pair.a, Role::Initiator), (&pair.b, Role::Responder)] {
        let [ike] = host.engine.ike_tunnels().try_into().unwrap();
        assert_eq!((ike.state, ike.progress, ike.role), (SaState::Active, IkeProgress::Done, role));
        assert_eq!((ike.nat_local, ike.nat_remote), (false, false));
        assert_eq!((ike.local.port(), ike.remote.port()), (500, 500));
        let [child] = host.engine.children().try_into().unwrap();
        assert_eq!((child.state, child.role, child.generation), (SaState::Active, role, 1));
        let [install] = host.installed.values().collect::<Vec<_>>().try_into().unwrap();
        assert!(install.outbound_active && !install.udp && install.esn);
        assert_eq!(install.key_in.0.len(), 20, "key and salt");
    }
    assert!(pair.a.failures().is_empty() && pair.b.failures().is_empty());
    assert_eq!(pair.a.engine.counters().local_success, 1);
    assert_eq!(pair.b.engine.counters().remote_success, 1);
}

#[test]
fn the_same_seed_gives_the_same_octets() {
    let run = |seed| {
        let mut pair = Pair::with_defaults(seed);
        pair.connect(Side::A);
        pair.run(Duration::from_secs(4000));
        pair.wire.iter().map(|datagram| datagram.bytes.clone()).collect::<Vec<_>>()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn every_suite_works() {
    let hour = Duration::from_secs(3600);
    let ciphers = [
        (Encryption::AesGcm16(128), None),
        (Encryption::AesGcm16(256), None),
        (Encryption::AesCbc(128), Some(Integrity::HmacSha256)),
        (Encryption::AesCbc(256), Some(Integrity::HmacSha384)),
        (Encryption::AesCbc(256), Some(Integrity::HmacSha512)),
    ];
    let groups = [Group::Curve25519, Group::Ecp256, Group::Ecp384, Group::Modp2048, Group::Ecp521];
    let prfs = [Prf::HmacSha256, Prf::HmacSha384, Prf::HmacSha512];
    for (index, (encryption, integrity)) in ciphers.into_iter().enumerate() {
        let (mut a, mut b) = both();
        for rules in [&mut a, &mut b] {
            let offer = &mut rules.exchange[0].offers[0];
            (offer.encryption, offer.integrity) = (encryption, integrity);
            (offer.group, offer.prf) = (groups[index % 5], prfs[index % 3]);
            let child = &mut rules.child[0];
            (child.offers[0].encryption, child.offers[0].integrity) = (encryption, integrity);
            child.offers[0].lifetime = hour;
            child.pfs_initiate = Some(groups[index % 5]);
            child.pfs_accept = vec![Some(groups[index % 5])];
        }
        let mut pair = pair_of(a, b);
        pair.connect(Side::A);
        pair.assert_matching();
        assert_eq!(pair.a.installed.len(), 1, "{encryption:?}");
        let child = pair.a.engine.children()[0].id;
        pair.command(Side::A, Command::RekeyChild(child));
        pair.settle();
        pair.assert_matching();
        assert_eq!(pair.a.installed.values().map(|install| install.generation).collect::<Vec<_>>(), [2]);
    }
}

/// Suites of child SAs under one IKE SA: what is agreed on, how much keying material each direction has (RFC 7296 section
/// 2.17, with nonce or salt), and a rekey with Delete, in virtual time.
#[test]
fn every_suite_of_child_sas_works() {
    use Encryption::{Absent, AesCbc, AesCtr, AesGmac, ChaCha20Poly1305, Des, Null, TripleDes};
    use Integrity::{AesXcbc96, HmacMd5, HmacSha1, HmacSha256, HmacSha512};
    let suites = [
        (AesCbc(192), Some(HmacSha256), 24 + 32),
        (AesCbc(128), Some(HmacSha1), 16 + 20),
        (AesCbc(256), Some(AesXcbc96), 32 + 16),
        (AesCtr(128), Some(HmacSha256), 16 + 4 + 32),
        (AesCtr(256), Some(HmacSha512), 32 + 4 + 64),
        (ChaCha20Poly1305, None, 32 + 4),
        (AesGmac(128), None, 16 + 4),
        (AesGmac(256), None, 32 + 4),
        (Null, Some(HmacSha256), 32),
        (TripleDes, Some(HmacSha1), 24 + 20),
        (Des, Some(HmacMd5), 8 + 16),
        (Absent, Some(HmacSha256), 32),
        (Absent, Some(HmacSha1), 20),
        (Absent, Some(AesXcbc96), 16),
        (Absent, Some(Integrity::AesGmac(256)), 32 + 4),
    ];
    for (encryption, integrity, octets) in suites {
        let (mut a, mut b) = both();
        for rules in [&mut a, &mut b] {
            let offer = &mut rules.child[0].offers[0];
            (offer.encryption, offer.integrity) = (encryption, integrity);
        }
        let mut pair = pair_of(a, b);
        pair.connect(Side::A);
        pair.assert_matching();
        let install =
            pair.a.installed.values().next().unwrap_or_else(|| panic!("{encryption:?} {integrity:?}"));
        assert_eq!((install.encryption, install.integrity), (encryption, integrity));
        assert_eq!((install.key_in.0.len(), install.key_out.0.len()), (octets, octets), "{encryption:?}");
        let child = pair.a.engine.children()[0].id;
        pair.command(Side::B, Command::RekeyChild(pair.b.engine.children()[0].id));
        pair.settle();
        pair.assert_matching();
        for end in [&pair.a, &pair.b] {
            let generations: Vec<_> = end.installed.values().map(|install| install.generation).collect();
            assert_eq!(generations, [2], "{encryption:?}: the old one was deleted by its protocol");
        }
        pair.command(Side::A, Command::DeleteChild(child));
        pair.settle();
        assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty(), "{encryption:?}");
    }
}

#[test]
fn ah_is_not_agreed_on_behind_a_nat_and_not_mixed_up_with_esp() {
    let (mut a, mut b) = both();
    for rules in [&mut a, &mut b] {
        let mut ah = rules.child[0].offers[0];
        (ah.encryption, ah.integrity) = (Encryption::Absent, Some(Integrity::HmacSha256));
        rules.child[0].offers.insert(0, ah);
    }
    let mut pair = pair_of(a.clone(), b.clone());
    pair.connect(Side::A);
    pair.assert_matching();
    assert_eq!(pair.a.installed.values().next().map(|i| i.encryption), Some(Encryption::Absent));
    let mut pair = Pair::new(7, &Settings { force_udp: true, ..Settings::default() }, a, b);
    pair.connect(Side::A);
    pair.assert_matching();
    let install = pair.a.installed.values().next().unwrap();
    assert!(install.udp && install.encryption != Encryption::Absent, "{:?}", install.encryption);
}

#[test]
fn another_group_costs_one_more_round_trip() {
    let (mut a, b) = both();
    let mut other = a.exchange[0].offers[0];
    other.group = Group::Ecp256;
    a.exchange[0].offers.insert(0, other);
    let mut pair = pair_of(a, b);
    pair.connect(Side::A);
    assert_eq!(pair.wire.len(), 6, "INVALID_KE_PAYLOAD");
    pair.assert_matching();
    assert_eq!(pair.a.installed.len(), 1);
}

#[test]
fn no_common_proposal_says_what_each_side_has() {
    let (mut a, b) = both();
    a.exchange[0].offers[0].encryption = Encryption::AesCbc(256);
    a.exchange[0].offers[0].integrity = Some(Integrity::HmacSha512);
    let mut pair = pair_of(a, b);
    pair.ask(Side::A);
    pair.run(Duration::from_secs(60));
    assert!(pair.a.engine.ike_tunnels().is_empty() && pair.b.engine.ike_tunnels().is_empty());
    let [at_b] = pair.b.failures().try_into().unwrap();
    assert!(at_b.contains("AES_CBC_256") && at_b.contains("rule kxPeer allows"), "{at_b}");
    let [at_a] = pair.a.failures().try_into().unwrap();
    assert!(at_a.contains("NO_PROPOSAL_CHOSEN"), "{at_a}");
}

#[test]
fn t17_a_wrong_secret_is_refused_on_both_sides() {
    let (mut a, b) = both();
    a.exchange[0].authentication = Authentication::SharedKey(Secret(b"another secret".to_vec()));
    let mut pair = pair_of(a, b);
    pair.connect(Side::A);
    assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty());
    assert!(pair.a.engine.ike_tunnels().is_empty() && pair.b.engine.ike_tunnels().is_empty());
    assert!(pair.b.failures()[0].contains("did not prove"), "{:?}", pair.b.failures());
    assert!(pair.a.failures()[0].contains("AUTHENTICATION_FAILED"), "{:?}", pair.a.failures());
    assert_eq!(pair.b.engine.counters().ike.auth_failures, 1);
}

#[test]
fn t17_an_unknown_name_is_refused_like_a_wrong_secret() {
    let (mut a, b) = both();
    a.exchange[0].local_id = Identity::Fqdn("nobody.example.net".to_owned());
    let mut pair = pair_of(a, b);
    pair.connect(Side::A);
    assert!(pair.b.failures()[0].contains("no KeyExchangeRule for peer nobody.example.net"));
    assert!(pair.a.failures()[0].contains("AUTHENTICATION_FAILED"));
}

#[test]
fn an_impostor_as_responder_is_found_out() {
    let (a, mut b) = both();
    b.exchange[0].local_id = Identity::Fqdn("impostor.example.net".to_owned());
    // Both name nobody, so that the responder proves what it likes.
    let mut a = a;
    a.exchange[0].remote_id = IdentityPattern::FqdnSuffix(".example.org".to_owned());
    b.exchange[0].remote_id = IdentityPattern::Exact(Identity::Address(ADDRESS_A));
    let mut pair = pair_of(a, b);
    pair.connect(Side::A);
    assert!(pair.a.failures()[0].contains("impostor.example.net"), "{:?}", pair.a.failures());
    assert!(pair.a.installed.is_empty());
    assert!(pair.b.installed.is_empty(), "told by AUTHENTICATION_FAILED");
    assert!(pair.b.engine.ike_tunnels().is_empty());
}

#[test]
fn the_responder_narrows_to_its_rule() {
    let (mut a, mut b) = both();
    let wide: AddressRange =
        AddressRange { low: "192.0.2.0".parse().unwrap(), high: "192.0.2.255".parse().unwrap() };
    a.child[0].remote = vec![TrafficSelector::all_of(wide)];
    let tcp = TrafficSelector { protocol: 6, port_low: 80, port_high: 80, ..b.child[0].local[0] };
    b.child[0].local = vec![tcp];
    let mut pair = pair_of(a, b);
    let mut command = initiate(ADDRESS_A, ADDRESS_B);
    if let Command::Initiate(initiate) = &mut command {
        initiate.remote = vec![TrafficSelector::all_of(wide)];
    }
    pair.command(Side::A, command);
    pair.settle();
    pair.assert_matching();
    let install = pair.a.installed.values().next().unwrap();
    assert_eq!(install.remote_selectors, [tcp]);
}

#[test]
fn t19_a_refused_child_leaves_the_ike_sa_for_the_next() {
    let (a, mut b) = both();
    b.child[0].initiation = Initiation::LocalOnly;
    let mut pair = pair_of(a, b.clone());
    pair.connect(Side::A);
    assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty());
    assert_eq!(pair.a.engine.ike_tunnels()[0].state, SaState::Active);
    assert!(pair.a.failures()[0].contains("TS_UNACCEPTABLE"), "{:?}", pair.a.failures());
    assert!(pair.b.failures()[0].contains("lets no peer start"), "{:?}", pair.b.failures());
    assert!(!pair.a.events.iter().any(|event| matches!(event, Event::ChildDown { .. })), "it was never up");
    // The same IKE SA serves the next attempt.
    b.child[0].initiation = Initiation::Either;
    let now = pair.now;
    pair.b.engine.set_rules(now, b);
    pair.connect(Side::A);
    pair.assert_matching();
    assert_eq!((pair.a.installed.len(), pair.a.engine.ike_tunnels().len()), (1, 1));
}

#[test]
fn transport_mode_where_both_want_it() {
    let (mut a, mut b) = both();
    a.child[0].modes = vec![Mode::Transport, Mode::Tunnel];
    b.child[0].modes = vec![Mode::Tunnel, Mode::Transport];
    let mut pair = pair_of(a.clone(), b.clone());
    pair.connect(Side::A);
    pair.assert_matching();
    assert_eq!(pair.a.installed.values().next().unwrap().mode, Mode::Transport);
    b.child[0].modes = vec![Mode::Tunnel];
    let mut pair = pair_of(a, b);
    pair.connect(Side::A);
    pair.assert_matching();
    assert_eq!(pair.a.installed.values().next().unwrap().mode, Mode::Tunnel);
}

#[test]
fn further_children_take_one_round_trip_on_the_same_ike_sa() {
    let (mut a, mut b) = both();
    for rules in [&mut a, &mut b] {
        let mut second = rules.child[0].clone();
        second.rule = "second".to_owned();
        for selector in second.local.iter_mut().chain(&mut second.remote) {
            selector.protocol = 17;
        }
        rules.child[0].local[0].protocol = 6;
        rules.child[0].remote[0].protocol = 6;
        rules.child.push(second);
    }
    let mut pair = pair_of(a, b);
    pair.connect(Side::A);
    let mut command = initiate(ADDRESS_A, ADDRESS_B);
    if let Command::Initiate(initiate) = &mut command {
        initiate.rule = "second".to_owned();
        initiate.acquire = Some(9);
    }
    let before = pair.wire.len();
    pair.command(Side::A, command);
    pair.settle();
    assert_eq!(pair.wire.len() - before, 2);
    pair.assert_matching();
    assert_eq!((pair.a.installed.len(), pair.a.engine.ike_tunnels().len()), (2, 1));
    let rules: Vec<_> = pair.b.installed.values().map(|install| install.rule.as_str()).collect();
    assert!(rules.contains(&"second") && rules.contains(&"hostToHost"), "{rules:?}");
}

#[test]
fn asking_twice_negotiates_once() {
    let mut pair = Pair::with_defaults(3);
    pair.ask(Side::A);
    pair.ask(Side::A);
    pair.settle();
    assert_eq!(pair.a.installed.len(), 1);
    assert_eq!(pair.wire.len(), 4);
}

#[test]
fn a_peer_that_is_not_there_is_given_up_and_said_so() {
    let mut pair = Pair::with_defaults(3);
    pair.b.cut = true;
    let mut command = initiate(ADDRESS_A, ADDRESS_B);
    if let Command::Initiate(initiate) = &mut command {
        initiate.acquire = Some(41);
    }
    pair.command(Side::A, command);
    pair.run(Duration::from_secs(600));
    assert!(pair.a.engine.is_idle());
    let settings = Settings::default();
    assert_eq!(pair.a.sent, u64::from(settings.retransmit_tries) + 1);
    let [Event::Failed { acquire: Some(41), reason, .. }] = pair.a.events.as_slice() else {
        panic!("{:?}", pair.a.events)
    };
    assert_eq!(reason.kind, FailureKind::Timeout);
    assert!(reason.text.contains("does not answer IKE_SA_INIT"), "{reason}");
}

#[test]
fn initial_contact_clears_what_a_restarted_peer_has_forgotten() {
    let mut pair = Pair::with_defaults(8);
    pair.connect(Side::A);
    pair.run(Duration::from_secs(60));
    // A comes back without memory.
    let fresh = Pair::with_defaults(9);
    pair.a = fresh.a;
    pair.connect(Side::A);
    pair.assert_matching();
    assert_eq!(pair.b.installed.len(), 1);
    assert_eq!(pair.b.engine.ike_tunnels().len(), 1);
    assert!(pair.b.events.iter().any(|event| matches!(event, Event::IkeDown { .. })));
}

#[test]
fn shutdown_deletes_everything_at_the_peer_too() {
    let mut pair = Pair::with_defaults(8);
    pair.connect(Side::A);
    pair.command(Side::A, Command::Shutdown);
    assert!(!pair.a.engine.is_idle());
    pair.settle();
    assert!(pair.a.engine.is_idle());
    assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty());
    assert!(pair.b.engine.ike_tunnels().is_empty());
}

#[test]
fn shutdown_does_not_wait_for_ever() {
    let mut pair = Pair::with_defaults(8);
    pair.connect(Side::A);
    pair.b.cut = true;
    pair.command(Side::A, Command::Shutdown);
    pair.run(Duration::from_secs(10));
    assert!(pair.a.engine.is_idle());
}

#[test]
fn a_packet_that_crosses_the_sa_it_asks_for_makes_no_second_one() {
    let mut pair = Pair::with_defaults(9);
    pair.connect(Side::A);
    let before = pair.wire.len();
    let mut command = initiate(ADDRESS_A, ADDRESS_B);
    if let Command::Initiate(initiate) = &mut command {
        initiate.method = iked::ike::command::ActivationMethod::OnDemand;
        initiate.acquire = Some(5);
    }
    pair.command(Side::A, command.clone());
    pair.settle();
    assert_eq!(pair.wire.len(), before);
    let tunnel = pair.a.engine.children()[0].id;
    assert_eq!(pair.a.events.last(), Some(&Event::ChildUp(tunnel)));
    // Later the stack must have a reason.
    pair.run(Duration::from_secs(10));
    pair.command(Side::A, command);
    pair.settle();
    assert_eq!(pair.a.installed.len(), 2);
}

#[test]
fn initial_contact_is_said_only_when_the_shell_knows_that_it_is_true() {
    // Another SA of the sysplex, of which this engine knows nothing, must survive.
    for (told, kept) in [(true, 0), (false, 1)] {
        let mut pair = Pair::with_defaults(51);
        pair.connect(Side::A);
        pair.b.engine.set_settings(Settings { liveness: Duration::ZERO, ..Settings::default() });
        pair.run(Duration::from_secs(60));
        let old = pair.b.engine.ike_tunnels()[0].spi_i;
        let now = pair.now;
        pair.a.engine = iked::ike::Engine::new(Settings::default(), StdRng::seed_from_u64(5), now);
        pair.a.engine.set_rules(now, rules(ADDRESS_A, ADDRESS_B));
        pair.a.installed.clear();
        let Command::Initiate(mut initiate) = initiate(ADDRESS_A, ADDRESS_B) else { unreachable!() };
        initiate.initial_contact = told;
        pair.command(Side::A, Command::Initiate(initiate));
        pair.settle();
        let left = pair.b.engine.ike_tunnels().iter().filter(|ike| ike.spi_i == old).count();
        assert_eq!(left, kept, "told: {told}");
    }
}

fn fqdn(name: &str) -> Identity {
    Identity::Fqdn(name.to_owned())
}

/// A calls itself `name`; B has the same selectors twice, for alice and for bob, and asks whose they are if `filters`.
fn named(name: &str, filters: bool) -> Pair {
    let (mut a, mut b) = both();
    a.exchange[0].local_id = fqdn(name);
    let exchange = &mut b.exchange[0];
    (exchange.remote_id, exchange.filter_by_identity) =
        (IdentityPattern::FqdnSuffix(".example".to_owned()), filters);
    let rule = |whose: &str| {
        let mut rule = b.child[0].clone();
        whose.clone_into(&mut rule.rule);
        rule.remote_identity = Some(IdentityPattern::Exact(fqdn(&format!("{whose}.example"))));
        rule
    };
    b.child = vec![rule("alice"), rule("bob")];
    pair_of(a, b)
}

#[test]
fn who_the_peer_is_decides_on_the_rule() {
    for (name, filters, expected) in
        [("alice.example", true, "alice"), ("BOB.example", true, "bob"), ("bob.example", false, "alice")]
    {
        let mut pair = named(name, filters);
        pair.connect(Side::A);
        let [child] = pair.b.engine.children().try_into().unwrap();
        assert_eq!(child.rule, expected, "{name}");
        let id = pair.a.engine.children()[0].id;
        pair.command(Side::A, Command::RekeyChild(id));
        pair.settle();
        pair.assert_matching();
        assert_eq!(pair.b.engine.children()[0].rule, expected, "{name}, rekeyed");
    }
}

#[test]
fn a_peer_that_no_rule_is_for_gets_no_child() {
    let mut pair = named("carol.example", true);
    pair.connect(Side::A);
    assert!(pair.b.installed.is_empty() && pair.a.installed.is_empty());
    assert_eq!(pair.b.engine.ike_tunnels().len(), 1, "the IKE SA stands");
    let why = pair.b.failures().join("; ");
    assert!(why.contains("peer is carol.example; rule alice is for alice.example"), "{why}");
    // A rule that is not for anybody is for everybody.
    let mut pair = named("carol.example", true);
    let (_, b) = both();
    let mut rules = b.clone();
    rules.exchange[0].remote_id = IdentityPattern::FqdnSuffix(".example".to_owned());
    rules.exchange[0].filter_by_identity = true;
    let now = pair.now;
    pair.b.engine.set_rules(now, rules);
    pair.connect(Side::A);
    assert_eq!(pair.b.installed.len(), 1);
}

#[test]
fn an_initiator_gives_up_a_child_whose_peer_is_another_one() {
    let (mut a, b) = both();
    a.exchange[0].filter_by_identity = true;
    a.child[0].remote_identity = Some(IdentityPattern::Exact(fqdn("alice.example")));
    let mut pair = pair_of(a, b);
    pair.connect(Side::A);
    assert!(pair.a.installed.is_empty());
    let why = pair.a.failures().join("; ");
    assert!(why.contains("rule hostToHost is for alice.example"), "{why}");
    pair.run(Duration::from_secs(10));
    assert!(pair.b.installed.is_empty(), "what the peer had made is deleted");
}
