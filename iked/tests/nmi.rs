//! The management interface over real sockets, with a core made of fixed values (threats T52 to T57).
#![cfg(feature = "shell")]
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]
#![allow(
    clippy::disallowed_methods,
    reason = "deadlines of tests over real sockets are measured with the real clock"
)]

#[path = "nmi/defense.rs"]
mod defense;
#[path = "nmi/events.rs"]
mod events;
#[path = "nmi/fake.rs"]
mod fake;
#[path = "nmi/robust.rs"]
mod robust;
#[path = "nmi/vipa.rs"]
mod vipa;

use fake::{Daemon, OPERATOR, PROFILES, STRANGER, config, frame};
use iked::servauth::Profiles;
use nmi_proto::answer::{Answer, input_record, request};
use nmi_proto::client::{Client, ClientError};
use nmi_proto::code::{
    DfMode, DscpMode, FilterSet, FilterState, MessageType, ReasonCode, ReturnCode, SaState, Treatment,
    TunnelStatus,
};
use nmi_proto::control::{LoadPolicy, TestPacket, Tunnel};
use nmi_proto::display::FilterRecord;
use nmi_proto::filter::InFilter;
use nmi_proto::text::CodePage;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SECONDS: Option<Duration> = Some(fake::LIMIT);

fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (ReturnCode, ReasonCode) {
    match result {
        Err(ClientError::Refused { rc, rsn }) => (rc, rsn),
        other => panic!("refusal expected, got {other:?}"),
    }
}

fn terminated<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (ReturnCode, ReasonCode) {
    match result {
        Err(ClientError::Terminated { rc, rsn }) => (rc, rsn),
        other => panic!("TERM expected, got {other:?}"),
    }
}

#[test]
fn every_display_request_has_its_records() {
    let daemon = Daemon::start();
    for page in [CodePage::Ascii, CodePage::Ibm1047] {
        let mut nmi = daemon.client();
        nmi.set_page(page);
        let stacks = nmi.stacks().unwrap().records;
        assert_eq!(stacks.len(), 1, "the inactive one is not shown");
        assert_eq!(stacks[0].stack.name, "TCPCS1");
        assert!(stacks[0].stack.dvipsec && stacks[0].stack.policy_filters);

        let sum = nmi.summary("tcpcs1").unwrap();
        assert_eq!((sum.phase1_active, sum.phase2_active, sum.packets_deny), (1, 1, 7));

        let ike = nmi.ike_tunnels("TCPCS1", &[]).unwrap();
        assert_eq!((ike.records.len(), ike.total), (2, 2));
        assert_eq!(ike.records[0].tunnel.id, "K3");
        assert_eq!(ike.records[0].local_id.as_ref().unwrap().to_string(), "shop.example.org");
        assert_eq!(ike.records[0].dist.as_ref().unwrap().owner, "TCPCS1");
        assert_eq!(ike.records[0].tunnel.expire_time.0 - ike.records[0].tunnel.start_time.0, 3600);
        assert!(ike.records[1].dist.is_none(), "its local endpoint is no DVIPA");
        assert!(ike.records.iter().all(|r| r.cascade.is_none()));

        let cascade = nmi.ike_tunnels_cascade("TCPCS1", &[InFilter::tunnel("K3")]).unwrap();
        assert_eq!((cascade.records.len(), cascade.total), (1, 2));
        let children = cascade.records[0].cascade.as_ref().unwrap();
        assert_eq!(children.iter().map(|c| c.dynamic.generation).collect::<Vec<_>>(), [2, 1]);
        assert!(children[1].ike.pending_activation, "its successor is being negotiated");

        let stack = nmi.dynamic_tunnels("TCPCS1", &[]).unwrap().records;
        assert_eq!(stack.len(), 2, "one that IKE knows, one that it does not");
        assert_eq!((stack[0].tunnel.id.as_str(), stack[0].usage.in_bytes), ("Y7", 4_000_000_000_000));
        assert_eq!(stack[0].dynamic.local_prefix, 24);
        assert_eq!((stack[0].tunnel.df_mode, stack[0].tunnel.dscp_mode), (DfMode::CLEARED, DscpMode::COPIED));
        assert_eq!(stack[1].tunnel.id, "Y9");

        let by_state = InFilter { by_state: true, state: SaState::IN_NEGOTIATION, ..InFilter::default() };
        let iked = nmi.dynamic_tunnels_ike("TCPCS1", &[by_state]).unwrap();
        assert_eq!((iked.records.len(), iked.total), (1, 2));
        let current = InFilter { current_only: true, ..InFilter::default() };
        let iked = nmi.dynamic_tunnels_ike("TCPCS1", &[current]).unwrap().records;
        assert_eq!(iked.iter().map(|r| r.dynamic.generation).collect::<Vec<_>>(), [2]);

        let interfaces = nmi.interfaces("TCPCS1").unwrap().records;
        assert_eq!(interfaces.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["eth0", "lo"]);
        assert!(interfaces[1].dvipa);
        assert_eq!(nmi.drops("TCPCS1").unwrap().records[0].packets, 12);
        let targets = nmi.distribution("TCPCS1").unwrap().records;
        assert_eq!((targets[0].target.as_str(), targets[0].active), ("TGT1", 4));
        assert_eq!(nmi.nss().unwrap().records[0].stack_name, "TCPCS1");
        let manual = nmi.manual_tunnels("TCPCS1", &[]).unwrap().records;
        let (tunnel, usage) = (&manual[0].tunnel, &manual[0].usage);
        assert_eq!((tunnel.id.as_str(), tunnel.vpn_action.as_str()), ("M1", "staticLab"));
        assert_eq!(
            (tunnel.auth_protocol.0, tunnel.in_auth_spi, tunnel.in_encryption_spi),
            (51, 0x1001, 0x1003)
        );
        assert!(usage.out_packets > 0, "{usage:?}");
        let gone = InFilter::tunnel("M2");
        assert!(nmi.manual_tunnels("TCPCS1", &[gone]).unwrap().records.is_empty());
        assert!(
            nmi.dynamic_tunnels("TCPCS1", &[]).unwrap().records.iter().all(|r| r.tunnel.id.as_str() != "M1")
        );
        let packet = TestPacket {
            source: std::net::IpAddr::from([203, 0, 113, 5]).into(),
            destination: std::net::IpAddr::from([203, 0, 113, 10]).into(),
            protocol: 6,
            destination_port: 80,
            ..TestPacket::default()
        };
        let tested = nmi.test_packet("tcpcs1", &packet).unwrap();
        assert_eq!((tested.records.len(), tested.total), (10_000, 10_017), "the total is of all that match");
        let decides: Vec<_> = tested.records.iter().filter(|r| r.verdict.is_some()).collect();
        let [one] = decides[..] else { panic!("{decides:?}") };
        assert_eq!((one.filter.filter.extension, one.filter.filter.tunnel_id.as_str()), (10_000, "Y7"));
        let verdict = one.verdict.as_ref().unwrap();
        assert!(verdict.certain && verdict.treatment == Treatment::PROTECTED);
        assert_eq!(
            (verdict.tunnel_id.as_str(), verdict.spi_in, verdict.spi_out),
            ("Y7", 0xC000_0001, 0xD000_0001)
        );
        let typed = TestPacket { typed: true, ..packet };
        assert_eq!(
            refused(nmi.test_packet("TCPCS1", &typed)),
            (ReturnCode::EINVAL, ReasonCode::BAD_VALUE),
            "TCP has no types"
        );
        let ports = nmi.port_translations("TCPCS1", &[]).unwrap();
        let shown: Vec<_> = ports.records.iter().map(|p| (p.translated_port, p.original_port)).collect();
        assert_eq!(shown, [(65_535, 40_000)], "flows whose port is their own are no translations");
    }
}

#[test]
fn t56_ten_thousand_filters_a_hundred_criteria_and_the_other_sets() {
    let daemon = Daemon::start();
    let mut nmi = daemon.client();
    let all = nmi.filters("TCPCS1", &[]).unwrap();
    assert_eq!((all.records.len(), all.total), (10_000, 10_000));
    assert!(all.records.iter().zip(1..).all(|(r, i)| r.filter.extension == i), "in search order");
    let hundred: Vec<_> = (0..100).map(|i| InFilter::rule(&format!("Rule{i}"))).collect();
    let some = nmi.filters("TCPCS1", &hundred).unwrap();
    assert_eq!((some.records.len(), some.total), (1_000, 10_000));
    let set: Answer<FilterRecord> = nmi.display(MessageType::GET_IPFLTPOLICY, "TCPCS1", &[]).unwrap();
    assert_eq!(set.records.len(), 9_999, "without the dynamic filter");
    assert!(set.records.iter().all(|r| r.filter.state == FilterState::ACTIVE));
    let default: Answer<FilterRecord> = nmi.display(MessageType::GET_IPFLTDEFAULT, "TCPCS1", &[]).unwrap();
    assert_eq!(default.total, 1, "the set that is not in force can be seen too");
    assert_eq!(default.records[0].filter.state, FilterState::INACTIVE);
    let dynamic = all.records.last().unwrap();
    assert_eq!((dynamic.filter.tunnel_id.as_str(), dynamic.filter.remote_udp_port), ("Y7", 4500));
    assert_eq!(dynamic.remote_id.as_ref().unwrap().to_string(), "branch.example.org");
}

#[test]
fn t56_fifty_clients_ask_for_everything_at_once() {
    // 224 MB of answers in all: a slow machine takes its time for them.
    let daemon = Daemon::start_with(|c| c.patience = fake::LIMIT, true);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| assert_eq!(daemon.client().filters("TCPCS1", &[]).unwrap().records.len(), 10_000));
        }
    });
}

#[test]
fn everybody_is_told_what_he_may_do_and_not_what_others_may() {
    let daemon = Daemon::start();
    let told = |user| {
        daemon.be(user);
        daemon.client().authority().unwrap().records
    };
    let flags = |all: &[nmi_proto::display::AuthorityRecord]| {
        all.iter()
            .map(|r| (r.authority.stack.as_str().to_owned(), r.authority.display, r.authority.control))
            .collect::<Vec<_>>()
    };
    let root = told(fake::ROOT);
    let all =
        [(String::new(), true, false), ("TCPCS1".into(), true, true), ("DMD_GLOBAL".into(), true, true)];
    assert_eq!(flags(&root), all);
    let operator = told(OPERATOR);
    assert_eq!(flags(&operator), [(String::new(), false, false), ("TCPCS1".into(), true, false)]);
    let me = operator[0].caller.as_ref().unwrap();
    assert_eq!((me.user.as_str(), me.system.as_str(), me.pid), ("olga", "SYSA", std::process::id()));
    assert_eq!(operator[1].authority.display_by, "EZB.NETMGMT.SYSA.TCPCS1.IPSEC.DISPLAY");
    assert_eq!(operator[1].authority.control_by, "EZB.NETMGMT.**");
    let stranger = told(STRANGER);
    assert_eq!(flags(&stranger), [(String::new(), false, false)], "not even which stacks there are");
}

#[test]
fn controls_reach_the_core_once_and_return_each_result() {
    let daemon = Daemon::start();
    let mut nmi = daemon.client();
    let asked = [Tunnel::with_id("Y7"), Tunnel::named("NoSuch"), Tunnel::with_id("y7")];
    let done = nmi.control(MessageType::REFRESH_IPTUNDYN, "TCPCS1", &asked).unwrap();
    let status: Vec<_> = done.iter().map(|t| t.status).collect();
    assert_eq!(status, [TunnelStatus::STATEUPDATED, TunnelStatus::NOTFOUND, TunnelStatus::NOTFOUND]);
    let all = nmi.control_all(MessageType::DEACTIVATE_IKETUN, "TCPCS1").unwrap();
    assert_eq!(all.iter().map(|t| t.tunnel_id.as_str()).collect::<Vec<_>>(), ["K3", "K4"]);
    assert_eq!(daemon.controls(), 2);

    let manual = nmi.control(MessageType::ACTIVATE_IPTUNMANUAL, "TCPCS1", &[Tunnel::named("Man1")]).unwrap();
    assert_eq!((manual[0].name.as_str(), manual[0].status), ("Man1", TunnelStatus::NOTFOUND));
    nmi.control_all(MessageType::DEACTIVATE_IPTUNMANUAL, "TCPCS1").unwrap();
    assert_eq!(daemon.controls(), 4);

    nmi.load_policy("TCPCS1", &LoadPolicy { filter_set: FilterSet::DEFAULT }).unwrap();
    let failed = nmi.load_policy("TCPCS1", &LoadPolicy { filter_set: FilterSet::POLICY });
    assert_eq!(refused(failed), (ReturnCode::EIO, ReasonCode::POLICY_LOAD));
}

#[test]
fn unknown_and_inactive_stacks_are_refused_alike_and_before_the_records_are_looked_at() {
    let daemon = Daemon::start();
    let mut nmi = daemon.client();
    for stack in ["NOSUCH", "DOWN", "TCPCS1 X", "*"] {
        assert_eq!(refused(nmi.summary(stack)), (ReturnCode::ENXIO, ReasonCode::NONE), "{stack}");
    }
    let empty = InFilter::default();
    let none = nmi.ike_tunnels("NOSUCH", std::slice::from_ref(&empty));
    assert_eq!(refused(none), (ReturnCode::ENXIO, ReasonCode::NONE));
    assert_eq!(refused(nmi.ike_tunnels("TCPCS1", &[empty])), (ReturnCode::EINVAL, ReasonCode::BAD_FILTER));
}

#[test]
fn t55_permission_is_asked_for_each_request() {
    let daemon = Daemon::start();
    daemon.be(OPERATOR);
    let mut nmi = daemon.client();
    assert!(nmi.summary("TCPCS1").is_ok());
    let denied = (ReturnCode::EACCES, ReasonCode::NONE);
    let control = nmi.control_all(MessageType::DEACTIVATE_IKETUN, "TCPCS1");
    assert_eq!(refused(control), denied, "display is not control");
    assert_eq!(refused(nmi.summary("TGT1")), denied, "another stack's name, unknown or not");
    assert_eq!(refused(nmi.stacks()), denied);
    // No authority: not even the faults of the records are told.
    assert_eq!(refused(nmi.ike_tunnels("TGT1", &[InFilter::default()])), denied);
    assert!(nmi.summary("TCPCS1").is_ok(), "the connection stays open");

    // Whoever runs this test: as uid 0 he would be a superuser where no profile is left.
    let nobody = "[[profile]]\nname = \"**\"";
    daemon.profiles.send_replace(Arc::new(Profiles::parse(nobody, Path::new("servauth.toml")).unwrap()));
    assert_eq!(refused(nmi.summary("TCPCS1")), denied, "revoked while connected");
    daemon.profiles.send_replace(Arc::new(Profiles::parse(PROFILES, Path::new("servauth.toml")).unwrap()));
    assert!(nmi.summary("TCPCS1").is_ok());

    daemon.be(STRANGER);
    assert_eq!(refused(daemon.client().summary("TCPCS1")), denied);
    assert_eq!(daemon.controls(), 0);
}

#[test]
fn t52_the_51st_client_is_told_and_a_slot_is_free_when_one_leaves() {
    let daemon = Daemon::start();
    let mut clients: Vec<Client> = (0..50).map(|_| daemon.client()).collect();
    for _ in 0..1000 {
        let extra = Client::connect(daemon.socket(), SECONDS);
        assert_eq!(terminated(extra), (ReturnCode::EAGAIN, ReasonCode::MAX_CLIENTS));
    }
    for client in &mut clients {
        assert!(client.summary("TCPCS1").is_ok(), "the 50 are untouched");
    }
    clients.pop();
    daemon.client_when_free();
}

#[test]
fn t52_clients_that_leave_before_the_greeting_free_their_slots() {
    let daemon = Daemon::start_with(|_| {}, false);
    let waiting: Vec<_> = (0..50).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    // Requests that are sent too early stay unread, and do not hide that their client has gone.
    let ask = |correlator| request(CodePage::Ascii, MessageType::GET_STACKINFO, "", correlator, &[]);
    for mut stream in waiting {
        stream.write_all(&ask(1)).unwrap();
    }
    let mut early = daemon.stream_when_free();
    early.write_all(&ask(9)).unwrap();
    early.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(early.read(&mut [0; 1]).is_err(), "INIT is withheld until there is a policy");
    early.set_read_timeout(SECONDS).unwrap();
    daemon.policy_loaded.send_replace(true);
    assert_eq!(frame(&mut early).header.message_type, MessageType::INIT);
    let answer = frame(&mut early).header;
    assert_eq!((answer.message_type, answer.correlator), (MessageType::GET_STACKINFO, 9u64.to_be_bytes()));
}

#[test]
fn t53_slow_clients_are_ended_and_delay_nobody() {
    let patience = Duration::from_secs(5);
    let daemon = Daemon::start_with(|c| c.patience = patience, true);
    // One never ends its request, one never reads an answer of 4 MB.
    let begun = Instant::now();
    let mut half = daemon.raw();
    half.write_all(&request(CodePage::Ibm1047, MessageType::GET_SUMMARY, "TCPCS1", 1, &[])[..40]).unwrap();
    let mut deaf = daemon.raw();
    deaf.write_all(&request(CodePage::Ascii, MessageType::GET_IPFLTCURR, "TCPCS1", 1, &[])).unwrap();
    let mut idle = daemon.client();

    let mut nmi = daemon.client();
    let mut waits: Vec<_> = (0..21)
        .map(|_| {
            let asked = Instant::now();
            assert!(nmi.interfaces("TCPCS1").is_ok());
            asked.elapsed()
        })
        .collect();
    waits.sort();
    // Who waits for a slow client waits for the end of its patience; a busy machine takes less.
    println!("median {:?}, most {:?}", waits[10], waits[20]);
    assert!(waits[20] < patience, "{waits:?}");
    let term = frame(&mut half);
    assert_eq!(term.header.message_type, MessageType::TERM);
    assert_eq!(term.refusal(), Some((ReturnCode::ETIMEDOUT, ReasonCode::TIMEOUT)));
    assert!(begun.elapsed() >= patience);

    // What is left of the answer can be read, then the stream ends in the middle: no TERM stands in it.
    daemon.wait_for_connections(2);
    let mut rest = Vec::new();
    deaf.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 96 && rest.len() < 4_000_000, "{}", rest.len());
    assert!(idle.summary("TCPCS1").is_ok(), "between requests there is no deadline");
}

#[test]
fn t53_a_whole_answer_then_the_next_in_the_order_of_the_requests() {
    let daemon = Daemon::start();
    let mut stream = daemon.raw();
    stream.write_all(&request(CodePage::Ascii, MessageType::GET_IPFLTCURR, "TCPCS1", 5, &[])).unwrap();
    stream.write_all(&request(CodePage::Ascii, MessageType::GET_SUMMARY, "TCPCS1", 6, &[])).unwrap();
    assert_eq!(frame(&mut stream).records().unwrap().len(), 10_000);
    assert_eq!(frame(&mut stream).header.correlator, 6u64.to_be_bytes());
}

type Edit = fn(&mut Vec<u8>);

#[test]
fn t54_bad_messages_close_or_answer_as_the_rules_say() {
    let daemon = Daemon::start();
    let good = request(CodePage::Ibm1047, MessageType::GET_SUMMARY, "TCPCS1", 3, &[]);
    let cut_off: [(&str, Edit, ReasonCode); 4] = [
        ("ident", |m| m[0] = 0, ReasonCode::BAD_IDENT),
        ("size", |m| m[12..16].fill(0xFF), ReasonCode::EXCESSIVE_SIZE),
        ("length 0", |m| m[12..16].fill(0), ReasonCode::MSG_SIZE),
        ("byte order", |m| m[12..16].copy_from_slice(&96u32.to_le_bytes()), ReasonCode::EXCESSIVE_SIZE),
    ];
    for (what, edit, reason) in cut_off {
        let mut stream = daemon.raw();
        // A good request first: TERM comes in its code page.
        stream.write_all(&good).unwrap();
        assert_eq!(frame(&mut stream).refusal(), None, "{what}");
        let mut bad = good.clone();
        edit(&mut bad);
        stream.write_all(&bad).unwrap();
        let term = frame(&mut stream);
        assert_eq!(term.header.message_type, MessageType::TERM, "{what}");
        assert_eq!(term.header.page, CodePage::Ibm1047, "{what}");
        assert_eq!(term.refusal(), Some((ReturnCode::EINVAL, reason)), "{what}");
        let after = stream.read(&mut [0; 1]);
        assert!(matches!(&after, Ok(0)) || after.is_err(), "{what}: closed");
    }

    let mut nmi = daemon.raw();
    let answered: [(&str, Edit, ReasonCode); 4] = [
        ("version", |m| m[9] = 9, ReasonCode::BAD_VERSION),
        ("type", |m| m[10..12].copy_from_slice(&[0x01, 0x0E]), ReasonCode::BAD_TYPE),
        ("reserved", |m| m[36] = 1, ReasonCode::RESERVED_NONZERO),
        ("target", |m| m[40..64].fill(0x40), ReasonCode::BAD_TARGET),
    ];
    for (what, edit, reason) in answered {
        let mut bad = good.clone();
        edit(&mut bad);
        nmi.write_all(&bad).unwrap();
        let answer = frame(&mut nmi);
        assert_eq!(answer.refusal(), Some((ReturnCode::EINVAL, reason)), "{what}");
        assert_eq!(answer.header.correlator, 3u64.to_be_bytes(), "{what}");
        assert_eq!(answer.header.message_type.0.to_be_bytes(), [bad[10], bad[11]], "{what}");
        assert!(answer.records().unwrap().is_empty());
    }
    nmi.write_all(&good).unwrap();
    assert_eq!(frame(&mut nmi).refusal(), None, "the connection stays open");

    // Everything that was refused or ended has been counted by its reason (threats R2).
    let counted = daemon.client().drops("").unwrap().records;
    let count = |reason| counted.iter().find(|r| r.reason == reason).map(|r| r.packets);
    assert_eq!(count("nmi_closed_bad_message"), Some(4));
    assert_eq!(count("nmi_refused_bad_request"), Some(4));
    assert_eq!(count("nmi_closed_too_many_clients"), None);
}

#[test]
fn t54_a_record_of_another_ident_closes() {
    let daemon = Daemon::start();
    let mut stream = daemon.raw();
    let record = input_record(CodePage::Ibm1047, &InFilter::tunnel("K1"));
    stream.write_all(&request(CodePage::Ascii, MessageType::GET_IKETUN, "TCPCS1", 1, &[record])).unwrap();
    let term = frame(&mut stream);
    assert_eq!(term.header.message_type, MessageType::TERM);
    assert_eq!(term.refusal(), Some((ReturnCode::EINVAL, ReasonCode::BAD_IDENT)));
}

#[test]
fn end_of_file_between_and_within_messages() {
    let daemon = Daemon::start();
    let ask = request(CodePage::Ascii, MessageType::GET_SUMMARY, "TCPCS1", 1, &[]);
    let mut stream = daemon.raw();
    stream.write_all(&[ask.clone(), ask.clone()].concat()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..2 {
        assert_eq!(
            frame(&mut stream).header.message_type,
            MessageType::GET_SUMMARY,
            "what is pending is answered"
        );
    }
    let term = frame(&mut stream);
    assert_eq!((term.header.message_type, term.refusal()), (MessageType::TERM, None));

    let mut stream = daemon.raw();
    stream.write_all(&ask[..50]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(frame(&mut stream).refusal(), Some((ReturnCode::EINVAL, ReasonCode::MSG_SIZE)));
}

#[test]
fn shutdown_tells_every_client_and_removes_the_socket() {
    let daemon = Daemon::start();
    let mut streams: Vec<_> = (0..5).map(|_| daemon.raw()).collect();
    let socket = daemon.socket().to_owned();
    let folder = daemon.stop();
    for stream in &mut streams {
        let term = frame(stream).header;
        assert_eq!((term.message_type, term.reason_code), (MessageType::TERM, ReasonCode::SHUTDOWN));
    }
    assert!(folder.path().exists() && !socket.exists());
}

#[test]
fn a_second_daemon_is_refused() {
    let daemon = Daemon::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _in = runtime.enter();
    let error = iked::nmi::Server::bind(config(daemon.socket())).unwrap_err();
    assert!(error.to_string().contains("another daemon serves"), "{error}");
}

#[test]
fn a_core_that_has_ended_is_an_internal_error() {
    let daemon = Daemon::start();
    let mut nmi = daemon.client();
    daemon.end_core();
    assert_eq!(refused(nmi.summary("TCPCS1")), (ReturnCode::EIO, ReasonCode::INTERNAL));
}
