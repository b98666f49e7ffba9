//! A peer that has authenticated and then sends what it likes (threats T09, T11, T18, T32). Tests only.

use super::window::REPLACE_AT;
use crate::ike::command::Command;
use crate::ike::sim::{self, ADDRESS_A, Pair, Side};
use crate::ike::types::{AddressRange, Encryption, Group, TrafficSelector};
use crate::ike::wire::payload::{Delete, Deleted, Ke, Nonce, Notify, Proposal, Sa, Ts, Unknown};
use crate::ike::wire::{ChildSuite, ExchangeType, Message, NotifyType, Payload, PayloadType, ProtocolId};
use std::net::SocketAddr;
use std::time::Duration;

/// A's side is the hostile one; its engine is only asked for its keys.
struct Hostile {
    pair: Pair,
    id: u32,
}

impl Hostile {
    fn new(seed: u64) -> Self {
        let mut pair = Pair::with_defaults(seed);
        pair.connect(Side::A);
        Self { pair, id: 2 }
    }

    /// Sends a request and returns what B answers, if anything.
    fn ask(&mut self, exchange: ExchangeType, payloads: Vec<Payload>) -> Option<Message> {
        let octets = self.pair.a.engine.craft(exchange, self.id, payloads);
        self.id += 1;
        let before = self.pair.wire.len();
        self.pair.inject(Side::B, SocketAddr::new(ADDRESS_A, 500), 500, &octets);
        let answer = self.pair.wire.get(before)?.bytes.clone();
        Some(self.pair.a.engine.open(&answer))
    }

    fn inform(&mut self, payloads: Vec<Payload>) -> Message {
        self.ask(ExchangeType::INFORMATIONAL, payloads).unwrap()
    }

    fn create(&mut self, payloads: Vec<Payload>) -> Message {
        self.ask(ExchangeType::CREATE_CHILD_SA, payloads).unwrap()
    }

    /// SPI on which A receives, of the child that both have.
    fn spi(&self) -> u32 {
        *self.pair.a.installed.keys().next().unwrap()
    }
}

fn notified(message: &Message) -> Option<NotifyType> {
    match message.payloads.as_slice() {
        [Payload::Notify(notify)] => Some(notify.kind),
        _ => None,
    }
}

/// What asks for a child: of `rekeyed`, or a new one.
fn child(n: u8, rekeyed: Option<u32>, selectors: (&[TrafficSelector], &[TrafficSelector])) -> Vec<Payload> {
    let encryption = Encryption::AesGcm16(128);
    let suite = ChildSuite { encryption, integrity: None, group: Some(Group::Curve25519), esn: true };
    let spi = 0x1000_0000 + u32::from(n);
    let mut payloads = Vec::new();
    payloads.extend(rekeyed.map(|spi| Payload::Notify(Notify::about_esp(NotifyType::REKEY_SA, spi))));
    payloads.extend([
        Payload::Sa(Sa { proposals: vec![Proposal::child(1, spi, &suite, &[true])] }),
        Payload::Nonce(Nonce::new([n; 32])),
        Payload::Ke(Ke { group: 31, value: vec![9; 32] }),
        Payload::TsInitiator(Ts::new(selectors.0.to_vec())),
        Payload::TsResponder(Ts::new(selectors.1.to_vec())),
    ]);
    payloads
}

fn selectors(pair: &Pair) -> (Vec<TrafficSelector>, Vec<TrafficSelector>) {
    let install = pair.a.installed.values().next().unwrap();
    (install.local_selectors.clone(), install.remote_selectors.clone())
}

#[test]
fn t11_deletes_of_what_is_not_there_are_ignored_and_of_what_is_done_once() {
    let mut peer = Hostile::new(81);
    let answer = peer.inform(vec![Payload::Delete(Delete::esp(vec![1, 0, u32::MAX]))]);
    assert!(answer.payloads.is_empty());
    let ah = Payload::Delete(Delete(Deleted::Children { protocol: ProtocolId::AH, spis: vec![peer.spi()] }));
    assert!(peer.inform(vec![ah]).payloads.is_empty());
    assert_eq!(peer.pair.b.installed.len(), 1);
    let spi = peer.spi();
    let twice = Payload::Delete(Delete::esp(vec![spi, spi]));
    let answer = peer.inform(vec![twice.clone(), twice.clone()]);
    let [Payload::Delete(Delete(Deleted::Children { spis, .. }))] = answer.payloads.as_slice() else {
        panic!("{answer:?}")
    };
    assert_eq!(spis.len(), 1);
    assert!(peer.pair.b.installed.is_empty());
    assert!(peer.inform(vec![twice]).payloads.is_empty());
}

#[test]
fn t11_nothing_of_an_ike_sa_is_used_after_its_delete() {
    let mut peer = Hostile::new(82);
    let spi = peer.spi();
    let answer = peer.inform(vec![
        Payload::Delete(Delete::ike_sa()),
        Payload::Delete(Delete::esp(vec![spi])),
        Payload::Notify(Notify::new(NotifyType::INITIAL_CONTACT, Vec::new())),
    ]);
    assert!(answer.payloads.is_empty());
    assert!(peer.pair.b.installed.is_empty() && peer.pair.b.engine.ike_tunnels().is_empty());
    assert!(peer.ask(ExchangeType::INFORMATIONAL, Vec::new()).is_none(), "it is gone");
    // Yet a repeat of the Delete is answered, in case that the answer was lost.
    peer.id = 2;
    let octets = peer.pair.wire.iter().rev().find(|datagram| datagram.from == Side::B).unwrap().bytes.clone();
    assert_eq!(peer.pair.a.engine.open(&octets).header.message_id, 2);
    peer.pair.run(Duration::from_secs(60));
    assert!(peer.pair.b.engine.is_idle() && peer.pair.b.engine.poll_timeout().is_none(), "nothing is kept");
}

#[test]
fn t18_a_rekey_of_a_child_that_is_gone() {
    let mut peer = Hostile::new(83);
    let (local, remote) = selectors(&peer.pair);
    let answer = peer.create(child(1, Some(77_777), (&local, &remote)));
    let [Payload::Notify(notify)] = answer.payloads.as_slice() else { panic!("{answer:?}") };
    assert_eq!((notify.kind, notify.esp_spi()), (NotifyType::CHILD_SA_NOT_FOUND, Some(77_777)));
    assert_eq!(peer.pair.b.installed.len(), 1);
}

#[test]
fn t18_two_rekeys_of_one_child() {
    let mut peer = Hostile::new(84);
    let (local, remote) = selectors(&peer.pair);
    let spi = peer.spi();
    assert_eq!(notified(&peer.create(child(1, Some(spi), (&local, &remote)))), None);
    let second = peer.create(child(2, Some(spi), (&local, &remote)));
    assert_eq!(notified(&second), Some(NotifyType::TEMPORARY_FAILURE));
    assert_eq!(peer.pair.b.installed.len(), 2);
    assert_eq!(peer.pair.b.sending.len(), 1, "still on the old one");
    peer.inform(vec![Payload::Delete(Delete::esp(vec![spi]))]);
    assert_eq!((peer.pair.b.installed.len(), peer.pair.b.sending.len()), (1, 1));
    assert_eq!(peer.pair.b.engine.children()[0].spi_out, 0x1000_0001);
}

#[test]
fn t09_t18_foreign_selectors_are_refused_and_the_old_sa_stays() {
    let mut peer = Hostile::new(85);
    let (local, remote) = selectors(&peer.pair);
    let spi = peer.spi();
    let foreign = AddressRange::single("198.51.100.9".parse().unwrap());
    let six = AddressRange::single("2001:db8::9".parse().unwrap());
    for (n, range) in [(1, foreign), (2, six)] {
        let other = [TrafficSelector::all_of(range)];
        for rekeyed in [None, Some(spi)] {
            let answer = peer.create(child(n, rekeyed, (&other, &remote)));
            assert_eq!(notified(&answer), Some(NotifyType::TS_UNACCEPTABLE));
            let answer = peer.create(child(n, rekeyed, (&local, &other)));
            assert_eq!(notified(&answer), Some(NotifyType::TS_UNACCEPTABLE));
        }
    }
    assert_eq!(peer.pair.b.installed.len(), 1);
    // Wider than the rule: narrowed, never widened.
    let all = AddressRange { low: "0.0.0.0".parse().unwrap(), high: "255.255.255.255".parse().unwrap() };
    let all = [TrafficSelector::all_of(all)];
    assert_eq!(notified(&peer.create(child(9, None, (&all, &all)))), None);
    for install in peer.pair.b.installed.values() {
        assert_eq!((&install.remote_selectors, &install.local_selectors), (&local, &remote));
    }
}

#[test]
fn t07_t23_bad_public_values_make_no_child() {
    let mut peer = Hostile::new(86);
    let (local, remote) = selectors(&peer.pair);
    for (group, value, expected) in [
        (31, vec![0; 32], NotifyType::INVALID_SYNTAX),
        (31, vec![9; 31], NotifyType::INVALID_SYNTAX),
        (31, Vec::new(), NotifyType::INVALID_SYNTAX),
        (19, vec![9; 64], NotifyType::INVALID_KE_PAYLOAD),
        (1024, vec![9; 32], NotifyType::INVALID_KE_PAYLOAD),
    ] {
        let mut payloads = child(1, None, (&local, &remote));
        for payload in &mut payloads {
            if let Payload::Ke(ke) = payload {
                *ke = Ke { group, value: value.clone() };
            }
        }
        assert_eq!(notified(&peer.create(payloads)), Some(expected), "group {group}");
    }
    let mut payloads = child(1, None, (&local, &remote));
    payloads.retain(|payload| !matches!(payload, Payload::Ke(_)));
    assert_eq!(notified(&peer.create(payloads)), Some(NotifyType::INVALID_KE_PAYLOAD));
    assert_eq!(peer.pair.b.installed.len(), 1);
}

#[test]
fn t32_a_thousand_requests_in_a_moment_are_told_to_wait() {
    let mut peer = Hostile::new(87);
    let (local, remote) = selectors(&peer.pair);
    let mut told = [0_u32; 3];
    for _ in 0..1000 {
        let answer = peer.create(child(1, None, (&local, &remote)));
        match notified(&answer) {
            None => told[0] += 1,
            Some(NotifyType::NO_ADDITIONAL_SAS) => told[1] += 1,
            Some(NotifyType::TEMPORARY_FAILURE) => told[2] += 1,
            Some(other) => panic!("{other}"),
        }
    }
    assert_eq!(told[0] + 1, 256, "the limit of children");
    assert!(told[1] > 0 && told[2] >= 300, "{told:?}");
    // Events about it are few (R3).
    assert!(peer.pair.b.failures().len() < 5);
}

#[test]
fn t02_a_protected_message_that_cannot_be_parsed_ends_the_sa_on_both_sides() {
    let mut peer = Hostile::new(88);
    let garbage = Payload::Unknown(Unknown { kind: PayloadType::SA, body: vec![1, 2, 3] });
    let answer = peer.create(vec![garbage]);
    assert_eq!(notified(&answer), Some(NotifyType::INVALID_SYNTAX));
    assert!(peer.pair.b.installed.is_empty() && peer.pair.b.engine.ike_tunnels().is_empty());
}

#[test]
fn requests_that_lack_payloads_or_have_an_unknown_exchange_are_answered_and_end_nothing() {
    let mut peer = Hostile::new(89);
    assert_eq!(notified(&peer.create(Vec::new())), Some(NotifyType::INVALID_SYNTAX));
    let answer = peer.ask(ExchangeType(99), Vec::new()).unwrap();
    assert_eq!(notified(&answer), Some(NotifyType::INVALID_SYNTAX));
    let answer = peer.ask(ExchangeType::IKE_AUTH, Vec::new()).unwrap();
    assert_eq!(notified(&answer), Some(NotifyType::INVALID_SYNTAX));
    // Liveness, and notifications of no meaning here.
    let strange = Notify::new(NotifyType(40_960), vec![0; 300]);
    assert!(peer.inform(vec![Payload::Notify(strange)]).payloads.is_empty());
    assert_eq!(peer.pair.b.installed.len(), 1);
    peer.pair.assert_matching();
}

#[test]
fn t15_an_ike_sa_is_replaced_before_its_message_ids_end() {
    let mut pair = Pair::with_defaults(90);
    pair.connect(Side::A);
    pair.a.engine.set_message_ids(REPLACE_AT - 1);
    pair.b.engine.set_message_ids(REPLACE_AT - 1);
    let tunnel = pair.a.engine.children()[0].id;
    pair.command(Side::A, Command::RekeyChild(tunnel));
    pair.run(Duration::from_secs(5));
    pair.assert_matching();
    let [ike] = pair.a.engine.ike_tunnels().try_into().unwrap();
    assert!(ike.generation >= 2);
    assert_eq!(pair.a.installed.len(), 1);
}

#[test]
fn t15_a_peer_that_refuses_the_replacement_is_not_asked_without_pause() {
    let mut pair = Pair::with_defaults(91);
    pair.connect(Side::A);
    let mut rules = sim::rules(sim::ADDRESS_B, ADDRESS_A);
    rules.exchange[0].offers[0].group = Group::Ecp384;
    let now = pair.now;
    pair.b.engine.set_rules(now, rules);
    pair.a.engine.set_message_ids(REPLACE_AT);
    pair.b.engine.set_message_ids(REPLACE_AT);
    let before = pair.wire.len();
    let tunnel = pair.a.engine.children()[0].id;
    pair.command(Side::A, Command::RekeyChild(tunnel));
    pair.run(Duration::from_secs(60));
    assert!(pair.wire.len() - before < 50, "{} messages", pair.wire.len() - before);
    pair.assert_matching();
}
