//! Events: who gets them, in which order, and what becomes of those who do not read.

use super::fake::{Daemon, OPERATOR, ROOT, frame, until};
use super::{SECONDS, refused};
use iked::events::{KEPT, What};
use nmi_proto::answer::{input_record, request};
use nmi_proto::client::Client;
use nmi_proto::code::{EventKind, MessageType, ReasonCode, ReturnCode};
use nmi_proto::control::Subscription;
use nmi_proto::display::Event;
use nmi_proto::text::CodePage;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn child_up(generation: u32) -> What {
    What::ChildUp {
        tunnel: 7,
        ike: 3,
        generation,
        rule: "Protect".into(),
        local: ip("203.0.113.10"),
        remote: ip("198.51.100.7"),
        spi_in: 0xC000_0001,
        spi_out: 0xD000_0001,
    }
}

fn next(nmi: &mut Client) -> Event {
    nmi.next_event(SECONDS).unwrap().expect("an event in ten seconds")
}

#[test]
fn a_subscriber_gets_what_he_asked_for_between_his_answers() {
    let daemon = Daemon::start();
    let report = |what| daemon.events.report(1_700_000_000, "TCPCS1", what);
    report(child_up(1));
    let mut nmi = daemon.client();
    nmi.subscribe("tcpcs1", 0).unwrap();
    report(child_up(2));
    daemon.events.report(1, "OTHER", What::StackUp);
    report(What::OwnerChanged {
        dvipa: ip("2001:db8::10"),
        owner: Some("TCPCS1".into()),
        from: Some("TCPCS2".into()),
        epoch: 9,
    });
    let first = next(&mut nmi);
    assert_eq!((first.sequence, first.lost, first.kind), (2, 0, EventKind::CHILD_REKEYED));
    assert_eq!((first.stack.as_str(), first.tunnel_id.as_str()), ("TCPCS1", "Y7"));
    assert_eq!((first.parent_id.as_str(), first.generation, first.in_spi), ("K3", 2, 0xC000_0001));
    assert_eq!(first.remote.ip(first.ipv6), ip("198.51.100.7"));
    // An answer comes through, whatever events stand before it.
    report(What::StackDown { reason: "killed".into() });
    assert_eq!(nmi.drops("TCPCS1").unwrap().records[0].packets, 12);
    let second = next(&mut nmi);
    assert_eq!((second.sequence, second.kind, second.epoch), (4, EventKind::OWNER_CHANGED, 9));
    assert_eq!(second.local.ip(second.ipv6), ip("2001:db8::10"));
    let third = next(&mut nmi);
    assert_eq!((third.kind, third.reason.as_str()), (EventKind::STACK_DOWN, "killed"));

    // Only some kinds, in another code page; and then none at all.
    nmi.set_page(CodePage::Ibm1047);
    nmi.subscribe("", EventKind::POLICY_FAILED.bit() | EventKind::STACK_UP.bit()).unwrap();
    report(child_up(3));
    report(What::PolicyFailed { reason: "policy.conf:3".into() });
    let event = next(&mut nmi);
    assert_eq!((event.kind, event.reason.as_str()), (EventKind::POLICY_FAILED, "policy.conf:3"));
    nmi.unsubscribe().unwrap();
    report(What::StackUp);
    assert_eq!(nmi.next_event(Some(Duration::from_millis(50))).unwrap(), None);
}

#[test]
fn t55_events_are_for_those_who_may_display_their_stack_and_only_as_long() {
    let daemon = Daemon::start();
    daemon.be(OPERATOR);
    let mut nmi = daemon.client();
    // He may display one stack, and not ask for all.
    assert_eq!(refused(nmi.subscribe("", 0)), (ReturnCode::EACCES, ReasonCode::NONE));
    nmi.subscribe("TCPCS1", 0).unwrap();
    daemon.events.report(1, "TCPCS1", What::StackUp);
    assert_eq!(next(&mut nmi).kind, EventKind::STACK_UP);
    // His right is taken away while he waits.
    let none = iked::servauth::Profiles::parse(
        "[[profile]]\nname = 'EZB.NETMGMT.SYSA.TCPCS1.IPSEC.DISPLAY'\n",
        std::path::Path::new("servauth.toml"),
    );
    daemon.profiles.send_replace(std::sync::Arc::new(none.unwrap()));
    daemon.events.report(1, "TCPCS1", What::StackUp);
    assert_eq!(nmi.next_event(Some(Duration::from_millis(50))).unwrap(), None);
}

#[test]
fn t53_who_does_not_read_loses_the_oldest_and_is_told_and_slows_nobody() {
    let daemon = Daemon::start_with(|c| c.patience = Duration::from_millis(200), true);
    daemon.be(ROOT);
    let mut lazy = daemon.raw();
    let page = CodePage::Ascii;
    let all = [input_record(page, &Subscription { kinds: 0 })];
    lazy.write_all(&request(page, MessageType::SUBSCRIBE, "", 9, &all)).unwrap();
    assert!(frame(&mut lazy).refusal().is_none());
    let mut eager = daemon.client();
    eager.subscribe("TCPCS1", 0).unwrap();

    let many = u64::try_from(KEPT).unwrap() * 4;
    for n in 0..many {
        daemon.events.report(1, "TCPCS1", child_up(1));
        // The eager one keeps up with them.
        assert_eq!(next(&mut eager).sequence, n + 1);
    }
    // The lazy one is still connected, long after an answer would have been given up.
    std::thread::sleep(Duration::from_millis(300));
    lazy.set_read_timeout(SECONDS).unwrap();
    let (mut seen, mut lost) = (0, 0);
    until(|| {
        let message = frame(&mut lazy);
        assert_eq!(message.header.message_type, MessageType::EVENT);
        assert_eq!(message.header.correlator, 9u64.to_be_bytes());
        for event in message.parse::<Event>().unwrap().records {
            (seen, lost) = (seen + 1, lost + event.lost);
            assert_eq!(event.sequence, seen + lost, "each event is either here or counted");
        }
        (seen + lost == many).then_some(())
    });
    assert!(lost > 0, "{seen} events cannot all have been kept");
}
