//! Hostile and random IKE messages against the parser; tests are named by the line of the threat list that they cover.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use iked::ike::types::{AddressRange, Encryption, Group, Integrity, Prf, TrafficSelector};
use iked::ike::wire::payload::{
    Attribute, AttributeValue, Auth, Cert, CertReq, Config, ConfigAttribute, Delete, Deleted, Id, Ke, Nonce,
    Notify, Proposal, Sa, Transform, Ts, Unknown, Vendor,
};
use iked::ike::wire::{
    AttributeType, AuthMethod, CertEncoding, ChildSuite, ExchangeType, Fault, Flags, Fragment, Header,
    IdType, IkeSuite, MAX_PAYLOADS, Message, NotifyType, Parsed, Payload, PayloadType, ProtocolId,
    SuiteFault, TransformType, WireError, choose_child, choose_ike, transform,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn header() -> Header {
    let flags = Flags { initiator: true, ..Flags::default() };
    Header::new(1, 0, ExchangeType::IKE_SA_INIT, flags, 0)
}

fn message(payloads: Vec<Payload>) -> Message {
    Message::new(header(), payloads)
}

/// A datagram of payloads given as (type, critical, body), whatever they say.
fn raw(payloads: &[(u8, bool, &[u8])]) -> Vec<u8> {
    let mut out = message(vec![]).encode().unwrap();
    out[16] = payloads.first().map_or(0, |payload| payload.0);
    for (index, (_, critical, body)) in payloads.iter().enumerate() {
        out.push(payloads.get(index + 1).map_or(0, |payload| payload.0));
        out.push(if *critical { 0x80 } else { 0 });
        out.extend_from_slice(&u16::try_from(body.len() + 4).unwrap().to_be_bytes());
        out.extend_from_slice(body);
    }
    fix_length(&mut out);
    out
}

fn fix_length(datagram: &mut [u8]) {
    let length = u32::try_from(datagram.len()).unwrap();
    datagram[24..28].copy_from_slice(&length.to_be_bytes());
}

fn parse(datagram: &[u8]) -> Result<Message, WireError> {
    Message::parse(datagram).map(|parsed| match parsed {
        Parsed::Clear(message) => message,
        Parsed::Protected(protected) => panic!("{protected:?}"),
    })
}

fn fault(datagram: &[u8]) -> Fault {
    parse(datagram).unwrap_err().fault
}

/// One payload with this body, parsed.
fn one(kind: PayloadType, body: &[u8]) -> Result<Payload, WireError> {
    parse(&raw(&[(kind.0, false, body)])).map(|mut message| message.payloads.remove(0))
}

const NOTIFY: u8 = PayloadType::NOTIFY.0;
const VENDOR: u8 = PayloadType::VENDOR.0;
const SOME_NOTIFY: &[u8] = &[0, 0, 0x40, 6, 1, 2, 3];

#[test]
fn t02_payload_lengths_that_lie() {
    for length in [0_u16, 1, 2, 3] {
        let mut datagram = raw(&[(VENDOR, false, b"abcd")]);
        datagram[30..32].copy_from_slice(&length.to_be_bytes());
        let error = parse(&datagram).unwrap_err();
        assert_eq!((error.payload, error.offset), (PayloadType::VENDOR, 28));
        assert_eq!(error.fault, Fault::Length(length.into()));
        assert_eq!(error.notify(), (NotifyType::INVALID_SYNTAX, vec![]));
    }
    for length in [9_u16, 100, u16::MAX] {
        let mut datagram = raw(&[(VENDOR, false, b"abcd")]);
        datagram[30..32].copy_from_slice(&length.to_be_bytes());
        assert_eq!(fault(&datagram), Fault::Truncated { needed: usize::from(length) - 4, left: 4 });
    }
    // Ending inside the next payload's header.
    for cut in 1..4 {
        let mut datagram = raw(&[(VENDOR, false, b"abcd"), (VENDOR, false, b"")]);
        datagram.truncate(datagram.len() - cut);
        fix_length(&mut datagram);
        assert!(matches!(fault(&datagram), Fault::Truncated { .. }));
    }
    // "No next payload" before the end, and a next payload after it.
    let mut datagram = raw(&[(VENDOR, false, b"abcd")]);
    datagram.push(0);
    fix_length(&mut datagram);
    assert_eq!(fault(&datagram), Fault::Trailing(1));
    let mut datagram = raw(&[(VENDOR, false, b"abcd")]);
    datagram[28] = VENDOR;
    assert_eq!(fault(&datagram), Fault::Truncated { needed: 1, left: 0 });
}

#[test]
fn t03_more_payloads_than_any_real_message() {
    for (count, fine) in [
        (MAX_PAYLOADS - 1, true),
        (MAX_PAYLOADS, true),
        (MAX_PAYLOADS + 1, false),
        (33, false),
        (256, false),
        (10_000, false),
    ] {
        let datagram = raw(&vec![(NOTIFY, false, SOME_NOTIFY); count]);
        match parse(&datagram) {
            Ok(message) => assert!(fine && message.payloads.len() == count, "{count}"),
            Err(error) => {
                assert!(!fine, "{count}: {error}");
                assert_eq!(error.fault, Fault::TooMany { what: "payloads", limit: MAX_PAYLOADS });
            }
        }
    }
}

#[test]
fn t03_payloads_that_stand_once() {
    for kind in [33, 34, 35, 36, 39, 40, 44, 45, 47, 48] {
        let datagram = raw(&[(kind, false, &[0; 20]), (kind, false, &[0; 20])]);
        let error = parse(&datagram).unwrap_err();
        assert_eq!((error.fault, error.payload, error.offset), (Fault::Repeated, PayloadType(kind), 52));
    }
    for kind in [37, 38, NOTIFY, 42, VENDOR, 200] {
        let body = if kind == 42 { &[1, 0, 0, 0][..] } else { SOME_NOTIFY };
        assert_eq!(parse(&raw(&[(kind, false, body), (kind, false, body)])).unwrap().payloads.len(), 2);
    }
}

#[test]
fn t03_encrypted_payload_is_the_last() {
    let datagram = raw(&[(46, false, &[0; 40]), (VENDOR, false, b"abcd")]);
    assert_eq!(fault(&datagram), Fault::NotLast);
    let datagram = raw(&[(VENDOR, false, b"abcd"), (46, false, &[0; 40])]);
    let Ok(Parsed::Protected(protected)) = Message::parse(&datagram) else { panic!() };
    assert_eq!((protected.body, protected.first), (28 + 8 + 4, PayloadType::NONE));
}

/// RFC 7383 section 2.5: numbers from 1 to the count, and no more than could be one message.
#[test]
fn fragments_say_which_part_they_are() {
    let with = |number: u16, total: u16| {
        let mut body = [number.to_be_bytes(), total.to_be_bytes()].concat();
        body.extend_from_slice(&[0; 40]);
        raw(&[(53, false, &body)])
    };
    for (number, total) in [(1, 1), (1, 128), (128, 128), (2, 3)] {
        let Ok(Parsed::Protected(protected)) = Message::parse(&with(number, total)) else { panic!() };
        assert_eq!((protected.fragment, protected.body), (Some(Fragment { number, total }), 28 + 4 + 4));
    }
    for (number, total) in [(0, 0), (0, 1), (2, 1), (u16::MAX, 128)] {
        let (counted, found) = (total.into(), number.into());
        assert_eq!(fault(&with(number, total)), Fault::Count { what: "fragments", counted, found });
    }
    for (number, total) in [(1, 129), (u16::MAX, u16::MAX)] {
        assert_eq!(fault(&with(number, total)), Fault::TooMany { what: "fragments", limit: 128 });
    }
    assert!(matches!(fault(&raw(&[(53, false, &[0, 1, 0])])), Fault::Truncated { .. }));
    assert_eq!(fault(&raw(&[(53, false, &[0; 40]), (VENDOR, false, b"abcd")])), Fault::NotLast);
}

#[test]
fn t04_critical_bit() {
    for kind in [1, 20, 32, 49, 54, 128, 255] {
        let error = parse(&raw(&[(VENDOR, false, b""), (kind, true, b"abcd")])).unwrap_err();
        assert_eq!(error.fault, Fault::UnsupportedCritical(kind));
        assert_eq!(error.notify(), (NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, vec![kind]));
        // The same without it, IKEv1's types included: carried, never understood.
        let unknown = Unknown { kind: PayloadType(kind), body: b"abcd".to_vec() };
        assert_eq!(one(PayloadType(kind), b"abcd"), Ok(Payload::Unknown(unknown)));
    }
    let known = parse(&raw(&[(VENDOR, true, b"abcd"), (NOTIFY, true, SOME_NOTIFY)])).unwrap();
    assert_eq!(known.payloads.len(), 2);
}

fn ike_suite() -> IkeSuite {
    IkeSuite {
        encryption: Encryption::AesGcm16(128),
        integrity: None,
        prf: Prf::HmacSha256,
        group: Group::Curve25519,
    }
}

fn cbc_suite() -> IkeSuite {
    IkeSuite { encryption: Encryption::AesCbc(128), integrity: Some(Integrity::HmacSha256), ..ike_suite() }
}

fn child_suite() -> ChildSuite {
    ChildSuite { encryption: Encryption::AesGcm16(128), integrity: None, group: None, esn: false }
}

fn sa_body(sa: &Sa) -> Vec<u8> {
    message(vec![Payload::Sa(sa.clone())]).encode().unwrap()[32..].to_vec()
}

#[test]
fn t06_counts_and_lengths_that_lie() {
    let good = sa_body(&Sa {
        proposals: vec![Proposal::ike(1, None, &ike_suite()), Proposal::ike(2, None, &cbc_suite())],
    });
    assert!(one(PayloadType::SA, &good).is_ok());
    assert!(one(PayloadType::SA, &[]).is_err());
    for cut in 1..good.len() {
        assert!(one(PayloadType::SA, &good[..cut]).is_err(), "cut to {cut}");
    }
    let lie = |at: usize, value: u8| {
        let mut body = good.clone();
        body[at] = value;
        one(PayloadType::SA, &body)
    };
    assert!(lie(0, 0).is_err(), "last proposal, but more follow");
    assert!(lie(0, 7).is_err(), "neither last nor more");
    for length in [0, 3, 7, 200] {
        assert!(lie(3, length).is_err(), "proposal length {length}");
        assert!(lie(8 + 3, length).is_err(), "transform length {length}");
    }
    for number in [1, 0, 3, 255] {
        let mut body = good.clone();
        let second = usize::from(u16::from_be_bytes([body[2], body[3]]));
        body[second + 4] = number;
        let error = one(PayloadType::SA, &body).unwrap_err();
        assert_eq!(error.fault, Fault::Value { what: "proposal number", value: number.into() });
    }
    for count in [0, 1, 2, 4, 64] {
        assert!(lie(7, count).is_err(), "{count} transforms counted, 3 there");
    }
    assert_eq!(lie(7, 255).unwrap_err().fault, Fault::TooMany { what: "transforms", limit: 64 });
    for spi in [1, 8, 200] {
        assert!(lie(6, spi).is_err(), "SPI size {spi}");
    }
}

#[test]
fn t06_255_proposals_of_255_transforms() {
    let transforms = vec![Transform::new(TransformType::ENCR, 12, Some(128)); 64];
    let proposals: Vec<_> = (1..=33)
        .map(|number| Proposal {
            number,
            protocol: ProtocolId::IKE,
            spi: vec![],
            transforms: transforms.clone(),
        })
        .collect();
    let body = sa_body(&Sa { proposals: proposals[..32].to_vec() });
    let Ok(Payload::Sa(sa)) = one(PayloadType::SA, &body) else { panic!() };
    // However often it is repeated, it counts once.
    assert_eq!(sa.proposals[0].offered(ProtocolId::IKE).unwrap().encryption, [Encryption::AesCbc(128)]);
    let faults = choose_ike(&sa, &[ike_suite(), cbc_suite()]).unwrap_err();
    assert_eq!(faults.len(), 32);
    assert_eq!(faults[0], (1, SuiteFault::NoCommon(TransformType::PRF)));
    let body = sa_body(&Sa { proposals });
    assert_eq!(
        one(PayloadType::SA, &body).unwrap_err().fault,
        Fault::TooMany { what: "proposals", limit: 32 }
    );
}

#[test]
fn t06_proposals_that_cannot_be_taken() {
    let offer = |change: &dyn Fn(&mut Proposal)| {
        let mut proposal = Proposal::ike(1, None, &ike_suite());
        change(&mut proposal);
        choose_ike(&Sa { proposals: vec![proposal] }, &[ike_suite(), cbc_suite()])
            .map_err(|faults| faults[0].1)
    };
    assert_eq!(offer(&|_| ()).unwrap().suite, ike_suite());
    assert_eq!(offer(&|it| it.transforms.clear()), Err(SuiteFault::NoCommon(TransformType::ENCR)));
    let without =
        |kind| offer(&move |it: &mut Proposal| it.transforms.retain(|transform| transform.kind != kind));
    assert_eq!(without(TransformType::PRF), Err(SuiteFault::NoCommon(TransformType::PRF)));
    assert_eq!(without(TransformType::KE), Err(SuiteFault::NoCommon(TransformType::KE)));
    let with = |transform: Transform| offer(&move |it: &mut Proposal| it.transforms.push(transform.clone()));
    assert_eq!(with(Transform::new(TransformType::INTEG, 12, None)), Err(SuiteFault::AeadWithIntegrity));
    assert!(with(Transform::new(TransformType::INTEG, transform::AUTH_NONE, None)).is_ok());
    assert_eq!(
        with(Transform::new(TransformType(6), 35, None)),
        Err(SuiteFault::UnknownKind(TransformType(6)))
    );
    assert_eq!(
        with(Transform::new(TransformType::ESN, 0, None)),
        Err(SuiteFault::Misplaced(TransformType::ESN))
    );
    // Key lengths: none, odd, huge, on an algorithm that takes none; an attribute that nobody knows.
    for key_length in [None, Some(0), Some(127), Some(65_535)] {
        let found = offer(&|it| it.transforms[0] = Transform::new(TransformType::ENCR, 20, key_length));
        assert_eq!(found, Err(SuiteFault::NoCommon(TransformType::ENCR)));
    }
    let found = offer(&|it| it.transforms[1] = Transform::new(TransformType::PRF, 5, Some(256)));
    assert_eq!(found, Err(SuiteFault::NoCommon(TransformType::PRF)));
    let found = offer(&|it| {
        let value = AttributeValue::Long(vec![0; 60_000]);
        it.transforms[0].attributes.push(Attribute { kind: AttributeType(99), value });
    });
    assert_eq!(found, Err(SuiteFault::NoCommon(TransformType::ENCR)));
    for spi in [vec![1], vec![0; 8], vec![1; 4]] {
        assert_eq!(offer(&|it| it.spi.clone_from(&spi)), Err(SuiteFault::Spi(spi.len())));
    }
    assert_eq!(offer(&|it| it.protocol = ProtocolId::ESP), Err(SuiteFault::Protocol(ProtocolId::ESP)));
}

#[test]
fn a_cipher_without_integrity_is_never_chosen() {
    // Neither for the IKE SA nor for a child, even if policy held such a combination.
    let bare = IkeSuite { integrity: None, ..cbc_suite() };
    assert!(choose_ike(&Sa { proposals: vec![Proposal::ike(1, None, &bare)] }, &[bare]).is_err());
    let bare = ChildSuite { encryption: Encryption::AesCbc(256), ..child_suite() };
    assert!(
        choose_child(&Sa { proposals: vec![Proposal::child(1, 300, &bare, &[false])] }, &[bare]).is_err()
    );
}

#[test]
fn our_preference_decides_and_reserved_spis_are_refused() {
    let proposals = vec![Proposal::ike(1, None, &cbc_suite()), Proposal::ike(2, None, &ike_suite())];
    let sa = Sa { proposals };
    assert_eq!(choose_ike(&sa, &[ike_suite(), cbc_suite()]).unwrap().number, 2);
    assert_eq!(choose_ike(&sa, &[cbc_suite(), ike_suite()]).unwrap().number, 1);
    let with_spi = |spi| Sa { proposals: vec![Proposal::child(1, spi, &child_suite(), &[false, true])] };
    assert_eq!(choose_child(&with_spi(255), &[child_suite()]), Err(vec![(1, SuiteFault::Spi(4))]));
    let esn = ChildSuite { esn: true, ..child_suite() };
    assert_eq!(choose_child(&with_spi(256), &[esn, child_suite()]).unwrap().suite, esn);
    // An answer with alternatives is none.
    assert_eq!(with_spi(256).accepted_child(&[child_suite()]), Err(SuiteFault::NotOne));
    assert_eq!(sa.accepted_ike(&[ike_suite()]), Err(SuiteFault::NotOne));
    let one = Sa { proposals: vec![Proposal::child(1, 256, &child_suite(), &[false])] };
    assert_eq!(one.accepted_child(&[esn]), Err(SuiteFault::NoCommon(TransformType::ESN)));
    assert_eq!(one.accepted_child(&[child_suite()]).unwrap().spi, 256);
    assert_eq!(
        sa.to_string(),
        "IKE: AES_CBC_128/PRF_HMAC_SHA2_256/HMAC_SHA2_256_128/CURVE25519, IKE: AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE25519"
    );
}

#[test]
fn t07_key_exchange_payloads() {
    for short in [&[][..], &[0], &[0, 19], &[0, 19, 0]] {
        assert!(matches!(one(PayloadType::KE, short).unwrap_err().fault, Fault::Truncated { .. }));
    }
    let Ok(Payload::Ke(ke)) = one(PayloadType::KE, &[0xff, 0xff, 0, 0]) else { panic!() };
    assert_eq!((ke.group, ke.value.len(), Group::from_number(ke.group)), (65_535, 0, None));
}

#[test]
fn t08_nonce_lengths() {
    for length in [0, 15, 257, 65_000] {
        let error = one(PayloadType::NONCE, &vec![7; length]).unwrap_err();
        assert_eq!((error.fault, error.payload), (Fault::Length(length), PayloadType::NONCE));
    }
    for length in [16, 256] {
        let Ok(Payload::Nonce(nonce)) = one(PayloadType::NONCE, &vec![7; length]) else { panic!() };
        assert_eq!(nonce.as_slice().len(), length);
    }
}

/// A selector of type 7 as it stands on the wire.
fn selector(ports: [u16; 2], low: [u8; 4], high: [u8; 4]) -> Vec<u8> {
    let mut out = vec![7, 6, 0, 16];
    out.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    out.extend(low.iter().chain(&high));
    out
}

#[test]
fn t09_traffic_selectors() {
    let good = selector([0, 65_535], [10, 0, 0, 0], [10, 0, 0, 255]);
    let ts = |count: u8, parts: &[&[u8]]| {
        let body = [&[count, 0, 0, 0][..], &parts.concat()].concat();
        let mut message = parse(&raw(&[(PayloadType::TS_I.0, false, &body)])).unwrap();
        let Payload::TsInitiator(ts) = message.payloads.remove(0) else { panic!() };
        match message.ignored.first() {
            Some(error) => {
                assert!(ts.selectors.is_empty(), "nothing is made of a payload that contradicts itself");
                Err(*error)
            }
            None => Ok(ts),
        }
    };
    assert_eq!(ts(1, &[&good]).unwrap().selectors.len(), 1);
    assert!(ts(0, &[]).unwrap().selectors.is_empty());
    for count in [0, 2, 255] {
        let fault = ts(count, &[&good]).unwrap_err().fault;
        assert_eq!(fault, Fault::Count { what: "traffic selectors", counted: count.into(), found: 1 });
    }
    assert!(ts(1, &[&good, &good]).is_err(), "more than counted");
    assert_eq!(ts(255, &vec![&good[..]; 255]).unwrap().selectors.len(), 255);
    // Left out, never widened.
    let reversed = selector([0, 65_535], [10, 0, 0, 255], [10, 0, 0, 0]);
    let ports = selector([90, 80], [10, 0, 0, 0], [10, 0, 0, 255]);
    let opaque = selector([65_535, 0], [10, 0, 0, 0], [10, 0, 0, 255]);
    let unknown = [9, 0, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8];
    for bad in [&reversed[..], &ports, &opaque, &unknown] {
        let found = ts(2, &[bad, &good]).unwrap();
        assert_eq!((found.selectors.len(), found.skipped), (1, 1));
        assert!(ts(1, &[bad]).unwrap().selectors.is_empty());
    }
    // An IPv4 selector with an IPv6 length and the other way round, and lengths below the fixed part.
    for (kind, length) in [(7, 40), (8, 16), (7, 12), (7, 7), (7, 0), (9, 3)] {
        let mut bad = [0; 40];
        bad[0] = kind;
        bad[3] = length;
        assert!(ts(1, &[&bad[..usize::from(length).max(8)]]).is_err(), "type {kind} of {length}");
    }
}

#[test]
fn t11_notify_and_delete_that_contradict_themselves_are_left_out() {
    let bad: [(u8, &[u8]); 9] = [
        (NOTIFY, &[3, 4, 0x40, 9, 1, 2]),            // SPI beyond the payload
        (NOTIFY, &[3]),                              // cut
        (42, &[]),                                   // empty
        (42, &[0, 4, 0, 1, 1, 2, 3, 4]),             // protocol 0
        (42, &[255, 4, 0, 1, 1, 2, 3, 4]),           // protocol 255
        (42, &[1, 8, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]), // IKE with an SPI
        (42, &[3, 3, 0, 1, 1, 2, 3]),                // wrong SPI size
        (42, &[3, 4, 0xff, 0xff, 1, 2, 3, 4]),       // count beyond the payload
        (42, &[3, 4, 0, 1, 1, 2, 3, 4, 5]),          // octets left over
    ];
    for (kind, body) in bad {
        let message = parse(&raw(&[(kind, false, body), (VENDOR, false, b"")])).unwrap();
        assert_eq!((message.ignored.len(), message.payloads.len()), (1, 1), "{body:?}");
        assert_eq!(message.ignored[0].payload, PayloadType(kind));
    }
    // An SPI where none belongs is carried, but names no SA.
    let Ok(Payload::Notify(notify)) = one(PayloadType::NOTIFY, &[3, 8, 0x40, 9, 1, 2, 3, 4, 5, 6, 7, 8])
    else {
        panic!()
    };
    assert_eq!(notify.esp_spi(), None);
    assert_eq!(Notify::about_esp(NotifyType::REKEY_SA, 0x0102_0304).esp_spi(), Some(0x0102_0304));
    assert_eq!(Notify::invalid_ke(31).group(), Some(31));
}

#[test]
fn too_much_of_our_own_is_an_error_not_a_lie() {
    let error = message(vec![Payload::Vendor(Vendor(vec![0; 65_532]))]).encode().unwrap_err();
    assert_eq!((error.what, error.length), ("payload", 65_536));
    assert!(message(vec![Payload::Vendor(Vendor(vec![0; 65_531]))]).encode().is_ok());
    let selector = TrafficSelector {
        addresses: AddressRange { low: Ipv4Addr::UNSPECIFIED.into(), high: Ipv6Addr::UNSPECIFIED.into() },
        protocol: 0,
        port_low: 0,
        port_high: 0,
    };
    assert!(message(vec![Payload::TsInitiator(Ts::new(vec![selector; 256]))]).encode().is_err());
    assert!(message(vec![Payload::TsInitiator(Ts::new(vec![selector]))]).encode().is_err());
}

fn octets(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..most)
}

fn attributes() -> impl Strategy<Value = Attribute> {
    let value =
        prop_oneof![any::<u16>().prop_map(AttributeValue::Short), octets(20).prop_map(AttributeValue::Long),];
    (0_u16..0x8000, value).prop_map(|(kind, value)| Attribute { kind: AttributeType(kind), value })
}

fn transforms() -> impl Strategy<Value = Transform> {
    (any::<u8>(), any::<u16>(), vec(attributes(), 0..3)).prop_map(|(kind, id, attributes)| Transform {
        kind: TransformType(kind),
        id,
        attributes,
    })
}

fn sas() -> impl Strategy<Value = Sa> {
    let proposal = (any::<u8>(), octets(9), vec(transforms(), 0..6));
    (1_u8..200, vec(proposal, 1..6)).prop_map(|(first, proposals)| {
        let proposals = (first..).zip(proposals).map(|(number, (protocol, spi, transforms))| Proposal {
            number,
            protocol: ProtocolId(protocol),
            spi,
            transforms,
        });
        Sa { proposals: proposals.collect() }
    })
}

fn selectors() -> impl Strategy<Value = TrafficSelector> {
    let v4 = any::<[u32; 2]>().prop_map(|[a, b]| AddressRange {
        low: Ipv4Addr::from(a.min(b)).into(),
        high: Ipv4Addr::from(a.max(b)).into(),
    });
    let v6 = any::<[u128; 2]>().prop_map(|[a, b]| AddressRange {
        low: Ipv6Addr::from(a.min(b)).into(),
        high: Ipv6Addr::from(a.max(b)).into(),
    });
    (prop_oneof![v4, v6], any::<u8>(), any::<[u16; 2]>()).prop_map(|(addresses, protocol, [a, b])| {
        TrafficSelector { addresses, protocol, port_low: a.min(b), port_high: a.max(b) }
    })
}

fn payloads() -> impl Strategy<Value = Payload> {
    let id = || {
        (any::<u8>(), any::<[u8; 3]>(), octets(40)).prop_map(|(kind, reserved, data)| Id {
            kind: IdType(kind),
            reserved,
            data,
        })
    };
    let delete = prop_oneof![
        Just(Deleted::IkeSa),
        (prop_oneof![Just(ProtocolId::ESP), Just(ProtocolId::AH)], vec(any::<u32>(), 0..5))
            .prop_map(|(protocol, spis)| Deleted::Children { protocol, spis }),
    ];
    let config = (0_u16..0x8000, octets(20)).prop_map(|(kind, value)| ConfigAttribute { kind, value });
    prop_oneof![
        sas().prop_map(Payload::Sa),
        (any::<u16>(), octets(300)).prop_map(|(group, value)| Payload::Ke(Ke { group, value })),
        id().prop_map(Payload::IdInitiator),
        id().prop_map(Payload::IdResponder),
        (any::<u8>(), octets(50))
            .prop_map(|(encoding, data)| Payload::Cert(Cert { encoding: CertEncoding(encoding), data })),
        (any::<u8>(), octets(50)).prop_map(|(encoding, authorities)| {
            Payload::CertReq(CertReq { encoding: CertEncoding(encoding), authorities })
        }),
        (any::<u8>(), octets(80))
            .prop_map(|(method, data)| Payload::Auth(Auth { method: AuthMethod(method), data })),
        any::<[u8; 32]>().prop_map(|octets| Payload::Nonce(Nonce::new(octets))),
        (any::<u8>(), octets(9), any::<u16>(), octets(80)).prop_map(|(protocol, spi, kind, data)| {
            Payload::Notify(Notify { protocol: ProtocolId(protocol), spi, kind: NotifyType(kind), data })
        }),
        delete.prop_map(|deleted| Payload::Delete(Delete(deleted))),
        octets(40).prop_map(|octets| Payload::Vendor(Vendor(octets))),
        vec(selectors(), 1..5).prop_map(|selectors| Payload::TsInitiator(Ts::new(selectors))),
        vec(selectors(), 1..5).prop_map(|selectors| Payload::TsResponder(Ts::new(selectors))),
        (any::<u8>(), vec(config, 0..4))
            .prop_map(|(kind, attributes)| Payload::Config(Config { kind, attributes })),
        (48_u8.., octets(40))
            .prop_filter("Encrypted Fragment is not for here", |(kind, _)| *kind != 53)
            .prop_map(|(kind, body)| Payload::Unknown(Unknown { kind: PayloadType(kind), body })),
    ]
}

fn messages() -> impl Strategy<Value = Message> {
    let flags =
        any::<[bool; 3]>().prop_map(|[initiator, version, response]| Flags { initiator, version, response });
    let header = (1_u64.., any::<u64>(), 0_u8..16, any::<u8>(), flags, any::<u32>()).prop_map(
        |(spi_i, spi_r, minor, exchange, flags, message_id)| Header {
            spi_i,
            spi_r,
            version: 0x20 | minor,
            exchange: ExchangeType(exchange),
            flags,
            message_id,
        },
    );
    (header, vec(payloads(), 0..10)).prop_map(|(header, payloads)| {
        let mut seen = Vec::new();
        let payloads = payloads.into_iter().filter(|payload| {
            let repeated = payload.kind().stands_once() && seen.contains(&payload.kind());
            seen.push(payload.kind());
            !repeated
        });
        Message::new(header, payloads.collect())
    })
}

proptest! {
    #[test]
    fn what_is_encoded_parses_to_itself(message in messages()) {
        let datagram = message.encode().unwrap();
        prop_assert_eq!(Message::parse(&datagram), Ok(Parsed::Clear(message)));
    }

    #[test]
    fn changed_octets_never_panic_and_what_parses_encodes(
        message in messages(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut datagram = message.encode().unwrap();
        for (at, value) in changes {
            let at = at.index(datagram.len());
            datagram[at] = value;
        }
        if let Ok(Parsed::Clear(message)) = Message::parse(&datagram) {
            let again = message.encode().unwrap();
            prop_assert!(again.len() <= datagram.len());
            let skipped = |payload: &Payload| match payload {
                Payload::TsInitiator(ts) | Payload::TsResponder(ts) => ts.skipped > 0,
                _ => false,
            };
            if message.payloads.iter().any(skipped) {
                return Ok(());
            }
            let Ok(Parsed::Clear(mut twice)) = Message::parse(&again) else { panic!("{again:02x?}") };
            twice.ignored.clone_from(&message.ignored);
            prop_assert_eq!(twice, message);
        }
    }

    #[test]
    fn octets_never_panic(octets in octets(200)) {
        let _ = Message::parse(&octets);
    }
}
