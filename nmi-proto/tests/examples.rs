//! The example monitors in C and Python, against a daemon made of this test.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

mod tools;

use nmi_proto::answer::with_records;
use nmi_proto::check::Request;
use nmi_proto::code::{CfProtection, DvipaState, EventKind, MessageType, ReasonCode, ReturnCode};
use nmi_proto::codec::Decoder;
use nmi_proto::display::{Dvipa, DvipaRecord, Event, Record as _, Stack, StackRecord, Statistics};
use nmi_proto::header::MessageHeader;
use nmi_proto::text::CodePage;
use nmi_proto::value::Time;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NOW: Time = Time(0x6600_0000);

fn records(kind: MessageType, page: CodePage) -> Vec<Vec<u8>> {
    let stack =
        |name: &str| StackRecord { stack: Stack { name: name.into(), ..Stack::default() }, excluded: vec![] };
    let dvipa = |address: &str, state, owner: &str, cf_state| {
        let address: IpAddr = address.parse().unwrap();
        DvipaRecord {
            dvipa: Dvipa {
                ipv6: address.is_ipv6(),
                address: address.into(),
                state,
                owner: owner.into(),
                epoch: 7,
                cf_state,
                ..Dvipa::default()
            },
            backups: vec![],
        }
    };
    match kind {
        MessageType::GET_STACKINFO => vec![stack("DIST").build(page), stack("TGT1").build(page)],
        MessageType::GET_SUMMARY => {
            let numbers = Statistics {
                phase1_active: 3,
                phase2_active: 5,
                packets_permit: 1 << 40,
                packets_deny: 9,
                ..Statistics::default()
            };
            vec![numbers.build(page)]
        }
        MessageType::GET_DVIPA => vec![
            dvipa("192.0.2.80", DvipaState::ACTIVE, "DIST", CfProtection::NOT_PROTECTED).build(page),
            dvipa("2001:db8:1:2:3:4:5:6", DvipaState::BACKUP, "TGT1", CfProtection::STORED).build(page),
        ],
        other => panic!("{other}"),
    }
}

/// Serves `clients` clients; INIT is in EBCDIC, as a daemon for clients of z/OS sends it.
fn daemon(socket: &Path, clients: usize, refuse: bool) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for _ in 0..clients {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&MessageHeader::init(CodePage::Ibm1047, NOW).to_bytes()).unwrap();
            let (mut decoder, mut chunk) = (Decoder::new(1 << 20), [0; 4096]);
            while let Ok(n @ 1..) = stream.read(&mut chunk) {
                decoder.push(&chunk[..n]);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    let request = Request::check(&frame).unwrap();
                    let header = request.header();
                    let kind = request.message_type();
                    if refuse {
                        let no = header.answer(NOW, ReturnCode::EACCES, ReasonCode::NONE);
                        stream.write_all(&no.to_bytes()).unwrap();
                        continue;
                    }
                    let all = match kind {
                        MessageType::SUBSCRIBE => vec![],
                        _ => records(kind, header.page),
                    };
                    let send = |header: &MessageHeader, all: &[Vec<u8>]| {
                        let head = header.answer(NOW, ReturnCode::OK, ReasonCode::NONE);
                        let number = u32::try_from(all.len()).unwrap();
                        let length = all.iter().map(|r| r.len() as u64).sum();
                        let head = with_records(head, length, number, number).unwrap();
                        (&stream).write_all(&[head.to_bytes().as_slice(), &all.concat()].concat()).unwrap();
                    };
                    send(header, &all);
                    if kind == MessageType::SUBSCRIBE {
                        let event = Event {
                            sequence: 8,
                            lost: 2,
                            kind: EventKind::IKE_DOWN,
                            stack: "DIST".into(),
                            tunnel_id: "K3".into(),
                            reason: "expired".into(),
                            ..Event::default()
                        };
                        send(
                            &MessageHeader::new(header.page, MessageType::EVENT),
                            &[event.build(header.page)],
                        );
                    }
                }
            }
        }
    })
}

const EXPECTED: &str = "\
stack DIST: 3 IKE tunnels, 5 dynamic tunnels, 1099511627776 packets permitted, 9 denied
  dvipa 192.0.2.80 ACTIVE owner DIST epoch 7 NOT PROTECTED
  dvipa 2001:db8:1:2:3:4:5:6 BACKUP owner TGT1 epoch 7
stack TGT1: 3 IKE tunnels, 5 dynamic tunnels, 1099511627776 packets permitted, 9 denied
  dvipa 192.0.2.80 ACTIVE owner DIST epoch 7 NOT PROTECTED
  dvipa 2001:db8:1:2:3:4:5:6 BACKUP owner TGT1 epoch 7
";

fn socket(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// Runs a monitor against a daemon that serves it, and one that refuses it.
fn check(name: &str, monitor: impl Fn() -> Command) {
    for (refuse, code, out) in [(false, 0, EXPECTED), (true, 3, "")] {
        let socket = socket(&format!("{name}-{refuse}"));
        let daemon = daemon(&socket, 1, refuse);
        let output = monitor().arg(&socket).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), out, "{err}");
        assert_eq!((output.status.code(), err.is_empty()), (Some(code), !refuse), "{err}");
        daemon.join().unwrap();
        std::fs::remove_file(&socket).unwrap();
    }
    let nobody = monitor().arg(socket(name)).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(!nobody.stderr.is_empty());
}

#[test]
fn the_monitor_in_c() {
    if !tools::is_installed(&tools::c_compiler(), "the_monitor_in_c") {
        return;
    }
    let program = tools::compile(&tools::in_crate("examples/monitor.c"), "monitor");
    check("c", || Command::new(&program));
}

#[test]
fn the_monitor_in_python() {
    if !tools::is_installed("python3", "the_monitor_in_python") {
        return;
    }
    let script = tools::in_crate("examples/monitor.py");
    let python = || {
        let mut python = Command::new("python3");
        python.arg("-B").arg(&script);
        python
    };
    check("python", python);

    // And what happens, as it happens.
    let socket = socket("watch");
    let daemon = daemon(&socket, 1, false);
    let mut child = python().arg("--watch").arg(&socket).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "(2 events were lost)");
    assert_eq!(lines.next().unwrap().unwrap(), "8 ike_down DIST K3 expired");
    child.kill().unwrap();
    child.wait().unwrap();
    daemon.join().unwrap();
    std::fs::remove_file(&socket).unwrap();
}
