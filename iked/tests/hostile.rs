//! What peers, impostors and floods do to the engine; tests are named by the line of the threat list that they cover.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod peer;

use iked::ike::command::{ActivationMethod, Command, Initiate};
use iked::ike::event::Event;
use iked::ike::rules::Settings;
use iked::ike::types::AddressRange;
use iked::ike::wire::payload::{Delete, Id, Ke, Nonce, Notify, Ts, Unknown};
use iked::ike::wire::{
    ExchangeType, Flags, Header, IdType, Message, NotifyType, Parsed, Payload, PayloadType, ProtocolId,
};
use peer::{Host, OWN, PEER, Peer, clear, notifies, only, selector};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

fn host() -> Host {
    Host::new(Settings::default())
}

/// Settings without timers that speak by themselves.
fn silent() -> Settings {
    Settings { liveness: Duration::ZERO, nat_keepalive: Duration::ZERO, ..Settings::default() }
}

fn at(last: u32, port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from(0xcb00_7100_u32.wrapping_add(last)).into(), port)
}

#[test]
fn the_scripted_peer_is_taken_for_a_peer() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.connect(&mut host);
    assert!(peer.is_alive(&mut host));
    assert_eq!((host.engine.ike_tunnels().len(), host.engine.children().len()), (1, 1));
    let request = peer.ask(ExchangeType::INFORMATIONAL, Peer::delete());
    only(host.hear(PEER, &request));
    assert!(host.engine.ike_tunnels().is_empty());
}

#[test]
fn t01_t02_t03_what_is_no_message_gets_no_answer_or_one_small_one() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.connect(&mut host);
    let good = Peer::new(2).init(None);
    for len in 0..28 {
        assert!(host.hear(at(1, 500), &good[..len]).is_empty());
    }
    let before = host.refused();
    let mut answered = 0;
    for at_octet in 28..good.len() {
        // Cut, with a length that says so: a syntax error at every place.
        let mut cut = good[..at_octet].to_vec();
        cut[24..28].copy_from_slice(&u32::try_from(at_octet).unwrap().to_be_bytes());
        for (_, answer) in host.hear(at(2, 500), &cut) {
            answered += 1;
            assert!(answer.len() <= cut.len().max(40));
            let message = clear(&answer);
            assert!(message.header.flags.response && notifies(&message) == [NotifyType::INVALID_SYNTAX]);
        }
    }
    assert!(answered <= 3, "{answered} answers to one source");
    assert!(host.refused() >= before + u64::try_from(good.len() - 28).unwrap());
    assert!(peer.is_alive(&mut host));
}

#[test]
fn t04_unsupported_critical_payload_is_named() {
    let mut host = host();
    let mut peer = Peer::new(1);
    let mut payloads = peer.init_payloads();
    payloads.push(Payload::Unknown(Unknown { kind: PayloadType(200), body: vec![1, 2, 3] }));
    let mut octets = Message::new(peer.header(ExchangeType::IKE_SA_INIT, 0), payloads).encode().unwrap();
    let critical_at = octets.len() - 7 + 1;
    let not_critical = octets.clone();
    octets[critical_at] = 0x80;
    let answer = clear(&only(host.hear(PEER, &octets)));
    assert_eq!(notifies(&answer), [NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD]);
    let Payload::Notify(notify) = &answer.payloads[0] else { panic!() };
    assert_eq!(notify.data, [200]);
    assert!(host.engine.ike_tunnels().is_empty());
    // Without the bit it is skipped.
    let answer = only(host.hear(PEER, &not_critical));
    assert!(peer.take_init(&answer).is_ok());

    // Inside an established SA: an error under its protection, and the SA stays (RFC 7296 section 2.5).
    let mut peer = Peer::new(2);
    peer.connect(&mut host);
    assert!(peer.is_alive(&mut host));
}

#[test]
fn t05_a_higher_major_version_is_refused_once_per_interval() {
    let mut host = host();
    let mut peer = Peer::new(1);
    let mut octets = peer.init(None);
    octets[17] = 0x30;
    let answers: usize = (0..100).map(|_| host.hear(PEER, &octets).len()).sum();
    assert_eq!(answers, 1);
    octets[17] = 0x2f;
    octets[19] |= 0xc0;
    let answer = only(host.hear(PEER, &octets));
    assert!(peer.take_init(&answer).is_ok(), "minor version and reserved bits are ignored");
}

#[test]
fn t07_key_exchange_values_that_do_not_fit() {
    let mut host = host();
    let ke = |group, value: Vec<u8>| Payload::Ke(Ke { group, value });
    let with = |host: &mut Host, seed, payload: Option<Payload>| {
        let peer = Peer::new(seed);
        let mut payloads = peer.init_payloads();
        payloads.remove(1);
        payloads.extend(payload);
        let octets = Message::new(peer.header(ExchangeType::IKE_SA_INIT, 0), payloads).encode().unwrap();
        let sent = host.hear(at(u32::try_from(seed).unwrap(), 500), &octets);
        assert!(sent.len() <= 1);
        sent.first().map(|(_, answer)| notifies(&clear(answer)))
    };
    for (seed, group) in (10..).zip([14, 19, 1, 65_535, 0]) {
        assert_eq!(
            with(&mut host, seed, Some(ke(group, vec![9; 32]))),
            Some(vec![NotifyType::INVALID_KE_PAYLOAD])
        );
    }
    for (seed, value) in (20..).zip([vec![], vec![0; 32], vec![9; 31], vec![9; 33]]) {
        let said = with(&mut host, seed, Some(ke(31, value)));
        assert!(said.is_none_or(|said| said.iter().all(|kind| kind.is_error())));
    }
    let said = with(&mut host, 30, None);
    assert!(said.is_none_or(|said| said.iter().all(|kind| kind.is_error())));
    assert!(host.engine.ike_tunnels().is_empty(), "nothing is kept of them");
}

fn initiate(host: &mut Host) -> Message {
    let command = Command::Initiate(Box::new(Initiate {
        rule: "hostToHost".to_owned(),
        local_endpoint: OWN,
        remote_endpoint: PEER.ip(),
        remote_id: None,
        nat_port: None,
        local: vec![selector(AddressRange { low: OWN, high: OWN })],
        remote: vec![selector(AddressRange { low: PEER.ip(), high: PEER.ip() })],
        local_dyn_vpn_rule: None,
        method: ActivationMethod::Command,
        acquire: None,
        initial_contact: true,
    }));
    clear(&only(host.tell(command)))
}

#[test]
fn t08_our_own_nonce_is_not_taken_for_the_peers() {
    let mut host = host();
    let request = initiate(&mut host);
    let header = Header { flags: Flags { response: true, ..Flags::default() }, spi_r: 7, ..request.header };
    let peer = Peer::new(1);
    let answer = |nonce: Option<Payload>| {
        let mut payloads = peer.init_payloads();
        payloads.truncate(2);
        payloads.extend(nonce);
        Message::new(header, payloads).encode().unwrap()
    };
    let ours = request.payloads.iter().find(|payload| matches!(payload, Payload::Nonce(_))).cloned();
    assert!(host.hear(PEER, &answer(ours)).is_empty(), "reflected");
    assert!(host.hear(PEER, &answer(None)).is_empty(), "none");
    let theirs = Payload::Nonce(Nonce::new([9; 32]));
    let auth = only(host.hear(PEER, &answer(Some(theirs))));
    assert!(matches!(Message::parse(&auth), Ok(Parsed::Protected(_))), "the true answer still counts");
}

#[test]
fn t08_a_child_needs_a_nonce() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.connect(&mut host);
    let payloads = peer.child_payloads(0x0a00_0002);
    let request = peer.ask(ExchangeType::CREATE_CHILD_SA, payloads);
    let answer = peer.open(&only(host.hear(PEER, &request)));
    assert!(notifies(&answer).iter().any(|kind| kind.is_error()), "{answer:?}");
    assert_eq!(host.engine.children().len(), 1);
}

#[test]
fn t09_selectors_are_never_widened() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.connect(&mut host);
    let foreign = |low: [u8; 4], high: [u8; 4]| selector(AddressRange { low: low.into(), high: high.into() });
    // Nothing of ours in them, or nothing that says anything.
    for ts in [Ts::new(vec![foreign([10, 0, 0, 0], [10, 255, 255, 255])]), Ts::new(vec![])] {
        let mut payloads = peer.create_child_payloads(0x0a00_0002);
        payloads.pop();
        payloads.push(Payload::TsResponder(ts));
        let request = peer.ask(ExchangeType::CREATE_CHILD_SA, payloads);
        let answer = peer.open(&only(host.hear(PEER, &request)));
        assert!(notifies(&answer).iter().any(|kind| kind.is_error()), "{answer:?}");
        assert_eq!(host.engine.children().len(), 1);
    }
    // Everything: narrowed to what policy gives.
    let mut payloads = peer.create_child_payloads(0x0a00_0002);
    payloads.pop();
    payloads.push(Payload::TsResponder(Ts::new(vec![foreign([0; 4], [255; 4]); 255])));
    let request = peer.ask(ExchangeType::CREATE_CHILD_SA, payloads);
    let answer = peer.open(&only(host.hear(PEER, &request)));
    let narrowed = answer.payloads.iter().find_map(|payload| match payload {
        Payload::TsResponder(ts) => Some(ts.selectors.clone()),
        _ => None,
    });
    assert_eq!(narrowed, Some(vec![selector(AddressRange { low: OWN, high: OWN })]));
    for child in host.engine.children() {
        assert_eq!(child.local_selectors, [selector(AddressRange { low: OWN, high: OWN })]);
    }
}

#[test]
fn t10_identities_that_are_nobodys() {
    let mut host = host();
    let ids: [(IdType, &[u8]); 7] = [
        (IdType::FQDN, b""),
        (IdType::FQDN, b"a\0.peer.example"),
        (IdType::FQDN, b"\xff.peer.example"),
        (IdType::IPV4_ADDR, b"abc"),
        (IdType::DER_ASN1_DN, b"\x30\x80"),
        (IdType::KEY_ID, &[0; 60_000]),
        (IdType(200), b"x.peer.example"),
    ];
    for (seed, (kind, data)) in (1..).zip(ids) {
        let mut peer = Peer::at(seed, at(u32::try_from(seed).unwrap(), 500));
        peer.half_open(&mut host);
        let id = Id { kind, reserved: [0; 3], data: data.to_vec() };
        // It even proves that it is nobody.
        let payloads = peer.auth_payloads_as(id);
        let request = peer.ask(ExchangeType::IKE_AUTH, payloads);
        let answer = peer.open(&only(host.hear(peer.at, &request)));
        assert_eq!(notifies(&answer), [NotifyType::AUTHENTICATION_FAILED], "{kind}");
        assert_eq!(answer.payloads.len(), 1);
    }
    let said = host.events.iter().filter_map(|event| match event {
        Event::Failed { reason, .. } => Some(&reason.text),
        Event::Notice { text, .. } => Some(text),
        _ => None,
    });
    for text in said {
        assert!(text.len() < 5000 && !text.chars().any(char::is_control), "{text:?}");
    }
}

#[test]
fn t11_deletes_that_name_nothing() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.connect(&mut host);
    for spis in [vec![], vec![0], vec![0xdead_beef; 100]] {
        let request = peer.ask(ExchangeType::INFORMATIONAL, vec![Payload::Delete(Delete::esp(spis))]);
        let answer = peer.open(&only(host.hear(PEER, &request)));
        assert!(answer.payloads.is_empty());
    }
    assert_eq!(host.engine.children().len(), 1);
    // The child, twice in one message: deleted once, answered once.
    let delete = Payload::Delete(Delete::esp(vec![0x0a00_0001, 0x0a00_0001]));
    let request = peer.ask(ExchangeType::INFORMATIONAL, vec![delete.clone(), delete]);
    let answer = peer.open(&only(host.hear(PEER, &request)));
    let spis: usize = answer.payloads.iter().filter(|payload| matches!(payload, Payload::Delete(_))).count();
    assert_eq!(spis, 1);
    assert!(host.engine.children().is_empty());
    let removed = host.events.iter().filter(|event| matches!(event, Event::RemoveChild { .. })).count();
    assert_eq!(removed, 1);
    // The IKE SA, with something for it behind: nothing is used after it was deleted.
    let mut payloads = Peer::delete();
    payloads.push(Payload::Delete(Delete::esp(vec![0x0a00_0001])));
    payloads.extend(Peer::delete());
    let request = peer.ask(ExchangeType::INFORMATIONAL, payloads);
    only(host.hear(PEER, &request));
    assert!(host.engine.ike_tunnels().is_empty());
}

#[test]
fn t13_t14_nothing_before_authentication() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.half_open(&mut host);
    let before = host.refused();
    for exchange in [ExchangeType::INFORMATIONAL, ExchangeType::CREATE_CHILD_SA] {
        for payloads in [vec![], Peer::delete(), peer.create_child_payloads(0x0a00_0009)] {
            let header = peer.header(exchange, 1);
            let request = peer.seal(header, payloads);
            assert!(host.hear(PEER, &request).is_empty(), "{exchange} was answered");
        }
    }
    assert!(host.refused() >= before + 6);
    assert!(!host.events.iter().any(|event| matches!(event, Event::InstallChild(_) | Event::IkeUp(_))));
    // The true IKE_AUTH still counts.
    peer.authenticate(&mut host);
    assert!(peer.is_alive(&mut host));
}

#[test]
fn t15_wrong_flags_ids_and_reflections() {
    let mut host = host();
    let mut peer = Peer::new(1);
    let first = peer.init(None);
    peer.half_open(&mut host);
    peer.authenticate(&mut host);
    let id = peer.next;

    let flags = |initiator, response| Flags { initiator, response, ..Flags::default() };
    let informational = |flags, id| {
        move |peer: &Peer| Header::new(peer.spi_i, peer.spi_r, ExchangeType::INFORMATIONAL, flags, id)
    };
    let bad: [(&str, Header); 8] = [
        ("wrong initiator flag", informational(flags(false, false), id)(&peer)),
        ("answer to a request never sent", informational(flags(true, true), 0)(&peer)),
        ("answer with the wrong flag", informational(flags(false, true), 0)(&peer)),
        ("message id ahead of the window", informational(flags(true, false), id + 1)(&peer)),
        ("message id at its maximum", informational(flags(true, false), u32::MAX)(&peer)),
        ("message id too old", informational(flags(true, false), 0)(&peer)),
        ("zero responder SPI", Header { spi_r: 0, ..informational(flags(true, false), id)(&peer) }),
        (
            "exchange of the beginning",
            Header { exchange: ExchangeType::IKE_AUTH, ..informational(flags(true, false), id + 9)(&peer) },
        ),
    ];
    for (what, header) in bad {
        let before = host.refused();
        let octets = peer.seal(header, Peer::delete());
        assert!(host.hear(PEER, &octets).is_empty(), "{what} was answered");
        assert_eq!(host.refused(), before + 1, "{what} is not counted");
    }
    assert_eq!(host.engine.ike_tunnels().len(), 1);

    // An exact repeat gets the same stored answer; the same id with other octets gets none.
    let spi = 0x0a00_0002;
    let payloads = peer.create_child_payloads(spi);
    let request = peer.ask(ExchangeType::CREATE_CHILD_SA, payloads);
    let answer = only(host.hear(PEER, &request));
    assert_eq!(host.engine.children().len(), 2);
    assert_eq!(only(host.hear(PEER, &request)), answer);
    let header = peer.header(ExchangeType::CREATE_CHILD_SA, peer.next - 1);
    let payloads = peer.create_child_payloads(0x0a00_0003);
    let other = peer.seal(header, payloads);
    assert!(host.hear(PEER, &other).is_empty());
    assert_eq!(host.engine.children().len(), 2, "executed once");

    // Our own packets back.
    assert!(host.hear(PEER, &answer).is_empty());
    let again = host.hear(PEER, &first);
    assert!(again.len() <= 1, "at most the beginning of another SA");
    assert!(peer.is_alive(&mut host));
}

#[test]
fn t16_unprotected_errors_end_nothing() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.connect(&mut host);
    let errors = [
        NotifyType::INVALID_IKE_SPI,
        NotifyType::INVALID_SPI,
        NotifyType::AUTHENTICATION_FAILED,
        NotifyType::NO_PROPOSAL_CHOSEN,
        NotifyType::INVALID_MAJOR_VERSION,
        NotifyType::INVALID_SYNTAX,
    ];
    for kind in errors {
        for exchange in [ExchangeType::INFORMATIONAL, ExchangeType::IKE_AUTH, ExchangeType::IKE_SA_INIT] {
            for response in [false, true] {
                for initiator in [false, true] {
                    let header = Header {
                        flags: Flags { initiator, response, ..Flags::default() },
                        ..peer.header(exchange, peer.next)
                    };
                    let notify = Payload::Notify(Notify::new(kind, vec![]));
                    let octets = Message::new(header, vec![notify]).encode().unwrap();
                    assert!(host.hear(PEER, &octets).len() <= 1);
                }
            }
        }
    }
    assert_eq!((host.engine.ike_tunnels().len(), host.engine.children().len()), (1, 1));
    assert!(peer.is_alive(&mut host));
}

#[test]
fn t16_an_unprotected_refusal_during_set_up_is_not_believed_at_once() {
    let mut host = host();
    let request = initiate(&mut host);
    let header = Header { flags: Flags { response: true, ..Flags::default() }, spi_r: 7, ..request.header };
    for kind in
        [NotifyType::NO_PROPOSAL_CHOSEN, NotifyType::INVALID_SYNTAX, NotifyType::AUTHENTICATION_FAILED]
    {
        let refusal =
            Message::new(header, vec![Payload::Notify(Notify::new(kind, vec![]))]).encode().unwrap();
        assert!(host.hear(PEER, &refusal).is_empty());
    }
    assert!(!host.events.iter().any(|event| matches!(event, Event::Failed { .. })), "{:?}", host.events);
    // Nobody else comes: then it has failed, sooner than after all retransmissions.
    host.pass(Duration::from_secs(60));
    assert!(host.events.iter().any(|event| matches!(event, Event::Failed { .. })), "{:?}", host.events);
}

#[test]
fn t17_authentication_data_that_proves_nothing() {
    let mut host = host();
    for (seed, data) in (1..).zip([vec![], vec![0; 32], vec![0; 31], vec![0; 64], vec![7; 32]]) {
        let mut peer = Peer::new(seed);
        peer.half_open(&mut host);
        let mut payloads = peer.auth_payloads();
        let Payload::Auth(auth) = &mut payloads[1] else { panic!() };
        auth.data = data;
        let request = peer.ask(ExchangeType::IKE_AUTH, payloads);
        let answer = peer.open(&only(host.hear(PEER, &request)));
        assert_eq!(notifies(&answer), [NotifyType::AUTHENTICATION_FAILED]);
        assert_eq!(answer.payloads.len(), 1, "nothing is revealed");
    }
    assert!(host.engine.children().is_empty());
    assert!(!host.events.iter().any(|event| matches!(event, Event::InstallChild(_) | Event::IkeUp(_))));
    assert_eq!(host.engine.counters().ike.auth_failures, 5);
}

#[test]
fn t20_only_a_peer_behind_a_nat_moves() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.connect(&mut host);
    let remotes = |host: &Host| (host.engine.ike_tunnels()[0].remote, host.engine.children()[0].remote);
    let before = remotes(&host);
    let request = peer.ask(ExchangeType::INFORMATIONAL, vec![]);
    // A copy from elsewhere overtakes the true one: it may be answered, it moves nothing.
    let _ = host.hear(at(9, 500), &request);
    let _ = host.hear(PEER, &request);
    for bad in ["224.0.0.1:500", "255.255.255.255:500", "192.0.2.1:500", "0.0.0.0:500", "198.51.100.7:0"] {
        let request = peer.ask(ExchangeType::INFORMATIONAL, vec![]);
        let _ = host.hear(bad.parse().unwrap(), &request);
    }
    assert_eq!(remotes(&host), before);
    assert!(peer.is_alive(&mut host));
}

#[test]
fn t21_nobody_is_redirected() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.connect(&mut host);
    let gateway = [&[1, 4][..], &[192, 0, 2, 1]].concat();
    for kind in [NotifyType::REDIRECT, NotifyType::REDIRECT_SUPPORTED, NotifyType::UPDATE_SA_ADDRESSES] {
        let notify = Payload::Notify(Notify::new(kind, gateway.clone()));
        let request = peer.ask(ExchangeType::INFORMATIONAL, vec![notify]);
        let sent = host.hear(PEER, &request);
        assert!(sent.len() == 1 && sent[0].0 == PEER);
    }
    assert_eq!((host.engine.ike_tunnels().len(), host.engine.children().len()), (1, 1));
    // Nor during set-up.
    let mut host = self::host();
    let request = initiate(&mut host);
    let header = Header { flags: Flags { response: true, ..Flags::default() }, spi_r: 0, ..request.header };
    let redirect = Payload::Notify(Notify::new(NotifyType::REDIRECT, gateway));
    let octets = Message::new(header, vec![redirect]).encode().unwrap();
    assert!(host.hear(PEER, &octets).is_empty());
}

#[test]
fn t31_fragments_that_were_not_agreed_on_are_dropped() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.connect(&mut host);
    for (number, total) in [(0, 0), (0, 5), (1, 2), (3, 2), (1, u16::MAX)] {
        let body = [&u16::to_be_bytes(number)[..], &u16::to_be_bytes(total), &[7; 60]].concat();
        let fragment = Payload::Unknown(Unknown { kind: PayloadType::FRAGMENT, body });
        let header = peer.header(ExchangeType::INFORMATIONAL, peer.next);
        let octets = Message::new(header, vec![fragment]).encode().unwrap();
        let before = host.refused();
        assert!(host.hear(PEER, &octets).is_empty());
        assert_eq!(host.refused(), before + 1);
    }
    assert!(peer.is_alive(&mut host));
}

#[test]
fn t28_a_flood_from_everywhere_is_met_with_cookies_that_go_again() {
    let settings = Settings { half_open_limit: 64, cookie_threshold: 16, ..silent() };
    let mut host = Host::new(settings.clone());
    let mut old = Peer::new(1);
    old.connect(&mut host);
    let mut established = 0;
    // One request, made anew by its SPI: the flood does not care for the rest.
    let mut request = Peer::new(2).init(None);
    for n in 0..20_000_u32 {
        request[..8].copy_from_slice(&u64::from(n + 1).to_be_bytes());
        let _ = host.hear(at(n, 500), &request);
        if n % 4000 == 3999 {
            assert!(old.is_alive(&mut host), "an established peer after {n}");
            let mut honest = Peer::at(u64::from(n), at(n.wrapping_mul(7919), 500));
            honest.connect(&mut host);
            established += 1;
        }
    }
    let half_open = host.engine.ike_tunnels().len() - established - 1;
    assert!(half_open <= settings.cookie_threshold, "{half_open} half-open SAs without a cookie");
    assert!(host.engine.counters().cookies > 19_000);

    // The flood ends: half-open SAs go, and with them the cookies.
    host.pass(settings.half_open_timeout + Duration::from_secs(1));
    assert_eq!(host.engine.ike_tunnels().len(), established + 1);
    let mut late = Peer::at(77, at(77, 500));
    let request = late.init(None);
    let answer = only(host.hear(late.at, &request));
    assert!(late.take_init(&answer).is_ok(), "no cookie is asked for any more");
}

#[test]
fn t28_one_source_cannot_take_all_places() {
    let settings = Settings { half_open_per_source: 4, cookie_threshold: 1000, ..silent() };
    let mut host = Host::new(settings.clone());
    let mut request = Peer::new(2).init(None);
    for n in 0..100_u64 {
        request[..8].copy_from_slice(&(n + 1).to_be_bytes());
        let _ = host.hear(PEER, &request);
    }
    assert!(host.engine.ike_tunnels().len() <= settings.half_open_per_source);
    let mut other = Peer::at(5, at(5, 500));
    other.connect(&mut host);
    // Behind the same NAT: again once the flood has ended.
    host.pass(settings.half_open_timeout + Duration::from_secs(1));
    let mut neighbour = Peer::at(6, SocketAddr::new(PEER.ip(), 1024));
    neighbour.connect(&mut host);
}

#[test]
fn t29_cookies_that_are_none() {
    let settings = Settings { cookie_threshold: 0, ..silent() };
    let mut host = Host::new(settings);
    let mut peer = Peer::new(1);
    let request = peer.init(None);
    let Err(cookie) = peer.take_init(&only(host.hear(PEER, &request))) else { panic!("no cookie") };
    assert!((1..=64).contains(&cookie.len()));
    let mut changed = cookie.clone();
    changed[5] ^= 1;
    let wrong = [vec![7], vec![0; 64], vec![0; 65], changed, cookie[..cookie.len() - 1].to_vec()];
    for (n, wrong) in (0..).zip(wrong) {
        let request = peer.init(Some(&wrong));
        let answer = only(host.hear(PEER, &request));
        assert_eq!(peer.take_init(&answer), Err(cookie.clone()), "cookie {n}");
    }
    // From another address.
    let request = peer.init(Some(&cookie));
    let answer = only(host.hear(at(1, 500), &request));
    assert!(peer.take_init(&answer).is_err());
    assert!(host.engine.ike_tunnels().is_empty(), "no state is kept");
    // After the secret has changed twice.
    host.pass(Duration::from_secs(61));
    let _ = host.hear(at(2, 500), &Peer::new(2).init(None));
    host.pass(Duration::from_secs(61));
    let answer = only(host.hear(PEER, &request));
    let Err(fresh) = peer.take_init(&answer) else { panic!("a stale cookie") };
    assert_ne!(fresh, cookie);
    let request = peer.init(Some(&fresh));
    let answer = only(host.hear(PEER, &request));
    assert!(peer.take_init(&answer).is_ok());
}

#[test]
fn t30_no_amplification_and_no_repeats_towards_forged_sources() {
    for threshold in [0, 1000] {
        let mut host = Host::new(Settings { cookie_threshold: threshold, ..silent() });
        let peer = Peer::new(1);
        let all: Vec<Payload> = peer.init_payloads();
        // From an empty request, the smallest that could be answered, to the whole.
        for count in 0..=3_u8 {
            let payloads = all[..usize::from(count)].to_vec();
            let header = Header { spi_i: u64::from(count) + 1, ..peer.header(ExchangeType::IKE_SA_INIT, 0) };
            let request = Message::new(header, payloads).encode().unwrap();
            let sent = host.hear(at(count.into(), 500), &request);
            let octets: usize = sent.iter().map(|(_, octets)| octets.len()).sum();
            assert!(octets <= 3 * request.len(), "{octets} octets for {}", request.len());
        }
        let later = host.pass(Duration::from_secs(600));
        assert!(later.is_empty(), "a responder repeated itself");
    }
}

#[test]
fn t32_child_sas_without_end() {
    let settings = Settings { children_per_peer: 8, ..silent() };
    let mut host = Host::new(settings.clone());
    let mut peer = Peer::new(1);
    peer.connect(&mut host);
    let mut refused = 0;
    for n in 0..50 {
        let payloads = peer.create_child_payloads(0x0b00_0000 + n);
        let request = peer.ask(ExchangeType::CREATE_CHILD_SA, payloads);
        let answer = peer.open(&only(host.hear(PEER, &request)));
        refused += usize::from(notifies(&answer).contains(&NotifyType::NO_ADDITIONAL_SAS));
    }
    assert_eq!(host.engine.children().len(), settings.children_per_peer);
    assert_eq!(refused, 51 - settings.children_per_peer);
    let mut other = Peer::at(2, at(2, 500));
    other.connect(&mut host);
    assert!(peer.is_alive(&mut host));
}

#[test]
fn t11_rekey_of_what_is_not_there() {
    let mut host = host();
    let mut peer = Peer::new(1);
    peer.connect(&mut host);
    for notify in [
        Notify::about_esp(NotifyType::REKEY_SA, 0xdead_beef),
        Notify { protocol: ProtocolId(255), ..Notify::about_esp(NotifyType::REKEY_SA, 0x0a00_0001) },
        Notify { spi: vec![1, 2, 3], ..Notify::about_esp(NotifyType::REKEY_SA, 0) },
    ] {
        let mut payloads = peer.create_child_payloads(0x0a00_0005);
        payloads.insert(0, Payload::Notify(notify));
        let request = peer.ask(ExchangeType::CREATE_CHILD_SA, payloads);
        let answer = peer.open(&only(host.hear(PEER, &request)));
        assert!(notifies(&answer).iter().any(|kind| kind.is_error()), "{answer:?}");
    }
    assert_eq!(host.engine.children().len(), 1);
    assert!(peer.is_alive(&mut host));
}
