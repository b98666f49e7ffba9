//! The command against a daemon made of this test: exit codes, choice of the stack, what is said on failure.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use nmi_proto::answer::with_records;
use nmi_proto::check::{Body, Request};
use nmi_proto::code::{Direction, EventKind, MessageType, ReasonCode, ReturnCode, Treatment, TunnelStatus};
use nmi_proto::codec::{Decoder, Frame};
use nmi_proto::control::Subscription;
use nmi_proto::display::{
    DropCount, Event, FilterRecord, IkeRecord, IkeTunnel, IpFilter, Record, Stack, StackRecord, TestRecord,
    Verdict,
};
use nmi_proto::header::MessageHeader;
use nmi_proto::text::CodePage;
use nmi_proto::value::Time;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

const PAGE: CodePage = CodePage::Ascii;
const NOW: Time = Time(1_741_010_841);

/// Records of an answer, or how it is refused.
type Reply = Result<Vec<Vec<u8>>, (ReturnCode, ReasonCode)>;

/// A daemon for one client: answers what `serve` says, and hands back what it was asked.
struct Daemon {
    folder: tempfile::TempDir,
    thread: JoinHandle<Vec<(MessageType, String)>>,
}

impl Daemon {
    fn start(serve: impl Fn(MessageType, &str, Option<Body>) -> Reply + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&MessageHeader::init(PAGE, NOW).to_bytes()).unwrap();
            let mut decoder = Decoder::new(1 << 20);
            let mut asked = Vec::new();
            while let Some(frame) = receive(&mut stream, &mut decoder) {
                let header = MessageHeader::read_lenient(frame.bytes()).unwrap();
                let request = Request::check(&frame).expect("the command sends good requests");
                let target = request.target().unwrap_or_default().to_owned();
                asked.push((header.message_type, target.clone()));
                let (answer, records) = match serve(header.message_type, &target, request.body().ok()) {
                    Ok(records) => {
                        let number = u32::try_from(records.len()).unwrap();
                        let length = records.iter().map(Vec::len).sum::<usize>() as u64;
                        let header = header.answer(NOW, ReturnCode::OK, ReasonCode::NONE);
                        (with_records(header, length, number, number).unwrap(), records)
                    }
                    Err((rc, rsn)) => (header.answer(NOW, rc, rsn), vec![]),
                };
                stream.write_all(&answer.to_bytes()).unwrap();
                // The command may have ended early: its broken pipe is not this daemon's trouble.
                let _ = stream.write_all(&records.concat());
            }
            asked
        });
        Self { folder, thread }
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ipsec"));
        command
            .args(line.split_whitespace())
            .env("IPSECMGMT_SOCKET", self.folder.path().join("s"))
            .env("TZ", "UTC");
        command.output().unwrap()
    }

    /// What it was asked.
    fn asked(self) -> Vec<(MessageType, String)> {
        self.thread.join().unwrap()
    }
}

fn receive(stream: &mut UnixStream, decoder: &mut Decoder) -> Option<Frame> {
    let mut chunk = [0; 4096];
    loop {
        if let Some(frame) = decoder.next_frame().unwrap() {
            return Some(frame);
        }
        match stream.read(&mut chunk).unwrap() {
            0 => return None,
            n => decoder.push(&chunk[..n]),
        }
    }
}

fn stacks(names: &[&str]) -> Reply {
    let stack = |name: &&str| StackRecord {
        stack: Stack { name: (*name).into(), policy_filters: true, ..Stack::default() },
        excluded: vec![],
    };
    Ok(names.iter().map(|n| stack(n).build(PAGE)).collect())
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn t59_without_a_daemon_there_is_one_line_and_code_4() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipsec"));
    let output = command.args(["-y", "--socket"]).arg(folder.path().join("none")).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(err(&output).starts_with("ipsec: cannot connect to "), "{}", err(&output));
    assert_eq!(err(&output).lines().count(), 1);
    assert!(out(&output).is_empty());
}

#[test]
fn without_p_the_first_active_stack_is_meant() {
    let daemon = Daemon::start(|ty, _, _| match ty {
        MessageType::GET_STACKINFO => stacks(&["DIST", "TGT1"]),
        _ => Ok(vec![DropCount { reason: "gre_untrusted_link".into(), packets: 3 }.build(PAGE)]),
    });
    let output = daemon.run("--drops");
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).contains("Stack Name: DIST  Mon Mar  3 14:07:21 2025\n"), "{}", out(&output));
    assert!(out(&output).contains("gre_untrusted_link                      3\n"));
    let asked = [(MessageType::GET_STACKINFO, String::new()), (MessageType::GET_DROPS, "DIST".into())];
    assert_eq!(daemon.asked(), asked);
}

#[test]
fn no_active_stack_is_said() {
    let daemon = Daemon::start(|_, _, _| stacks(&[]));
    let output = daemon.run("-y");
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(4), "ipsec: no stack is active\n"));
}

#[test]
fn t55_refusals_have_their_codes_and_sentences() {
    for (rc, code, text) in [
        (ReturnCode::EACCES, 3, "ipsec: permission denied for stack NOSUCH (EACCES)\n"),
        (ReturnCode::ENXIO, 4, "ipsec: no active stack NOSUCH (ENXIO)\n"),
    ] {
        let daemon = Daemon::start(move |_, _, _| Err((rc, ReasonCode::NONE)));
        let output = daemon.run("-p NOSUCH -y display");
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(code), text));
        assert_eq!(daemon.asked(), [(MessageType::GET_IPTUNDYNSTACK, "NOSUCH".into())]);
    }
}

#[test]
fn filters_are_shown_to_those_who_may_not_list_stacks() {
    let daemon = Daemon::start(|ty, _, _| match ty {
        MessageType::GET_STACKINFO => Err((ReturnCode::EACCES, ReasonCode::NONE)),
        _ => Ok(vec![]),
    });
    let output = daemon.run("-p DIST -f");
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).contains("Logging:  n/a") && out(&output).ends_with("\n0 entries selected\n"));
}

#[test]
fn t59_a_control_that_failed_for_one_tunnel_is_code_1() {
    let serve = |_: MessageType, _: &str, body: Option<Body>| {
        let Some(Body::Control(tunnels)) = body else { panic!("{body:?}") };
        let answer = tunnels.into_iter().enumerate().map(|(number, mut tunnel)| {
            tunnel.status = if number == 0 { TunnelStatus::STATEUPDATED } else { TunnelStatus::NOTFOUND };
            tunnel.build(PAGE)
        });
        Ok(answer.collect())
    };
    let both = Daemon::start(serve).run("-p DIST -k refresh -a K1 K2");
    assert_eq!(both.status.code(), Some(1));
    assert!(
        out(&both).contains("K1               Refreshing\nK2               Not found\n"),
        "{}",
        out(&both)
    );
    let one = Daemon::start(serve).run("-p DIST -y activate -l branchNet");
    assert_eq!(one.status.code(), Some(0), "{}", err(&one));
    assert!(out(&one).contains("branchNet") && out(&one).contains("Activating"));
}

#[test]
fn all_is_a_request_without_records() {
    let daemon = Daemon::start(|ty, _, body| {
        assert_eq!((ty, body), (MessageType::DEACTIVATE_IPTUNDYN, Some(Body::Control(vec![]))));
        Ok(vec![])
    });
    let output = daemon.run("-p DIST -y deactivate -a all");
    assert_eq!(output.status.code(), Some(1), "nothing was done");
    assert!(out(&output).ends_with("There are no dynamic tunnels\n"));
}

#[test]
fn a_policy_that_does_not_load_is_code_1() {
    let daemon = Daemon::start(|_, _, _| Err((ReturnCode::EIO, ReasonCode::POLICY_LOAD)));
    let output = daemon.run("-p DIST -f reload");
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("the policy was not loaded for stack DIST"), "{}", err(&output));
}

#[test]
fn t59_a_reader_that_goes_away_is_no_error() {
    let daemon = Daemon::start(|_, _, _| {
        let record = |n: u32| IkeRecord {
            tunnel: IkeTunnel { id: format!("K{n}").as_str().into(), ..IkeTunnel::default() },
            ..IkeRecord::default()
        };
        Ok((0..2_000).map(|n| record(n).build(PAGE)).collect())
    });
    let mut child = Command::new(env!("CARGO_BIN_EXE_ipsec"))
        .args(["-p", "DIST", "-k", "--socket"])
        .arg(daemon.folder.path().join("s"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Two megabytes do not fit a pipe: the command meets the closed end.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
}

fn ipsec(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ipsec")).args(line.split_whitespace()).output().unwrap()
}

#[test]
fn completions_and_the_manual_page_come_without_a_daemon() {
    for shell in ["bash", "zsh", "fish"] {
        let output = ipsec(&format!("completions {shell}"));
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        assert!(out(&output).contains("ipsec") && out(&output).contains("quiesce"), "{shell}");
    }
    let page = ipsec("man");
    assert_eq!(page.status.code(), Some(0));
    let page = out(&page);
    assert!(page.contains(".TH ipsec 1") && page.contains("\\fB\\-k\\fR"), "{page}");
}

#[test]
fn a_traffic_test_shows_the_filters_that_match_in_their_order() {
    let daemon = Daemon::start(|ty, _, body| match ty {
        MessageType::GET_STACKINFO => stacks(&["DIST"]),
        _ => {
            let Some(Body::Test(asked)) = body else { panic!("{ty} {body:?}") };
            assert_eq!((asked.protocol, asked.source_port, asked.destination_port), (6, 0, 80));
            let filter = |name: &str, protocol: u8, decides: bool| TestRecord {
                filter: FilterRecord {
                    filter: IpFilter {
                        name: name.into(),
                        protocol,
                        protocol_any: protocol == 0,
                        direction: Direction::INBOUND,
                        source_port_any: true,
                        destination_port_low: 80,
                        destination_port_high: 80,
                        ..IpFilter::default()
                    },
                    ..FilterRecord::default()
                },
                verdict: decides.then(|| Verdict {
                    treatment: Treatment::PROTECTED,
                    tunnel_id: "Y7".into(),
                    spi_in: 0x1001,
                    spi_out: 0x1002,
                    ..Verdict::default()
                }),
            };
            let all = [filter("web", 6, true), filter("rest", 0, false)];
            Ok(all.iter().map(|f| f.build(PAGE)).collect())
        }
    });
    let output = daemon.run("-p DIST -t 203.0.113.20 192.0.2.10 tcp 0 80 in -r wide");
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    assert!(text.contains("Primary:  IP Traffic Test"), "{text}");
    assert!(text.contains("TestData: 203.0.113.20 192.0.2.10 tcp 0 80 in 0\n"), "{text}");
    assert!(text.contains("TotAvail: 2") && text.ends_with("\n2 entries selected\n"), "{text}");
    let line = |name: &str| text.lines().find(|l| l.starts_with(name)).unwrap();
    assert!(text.find("\nweb|") < text.find("\nrest|"), "{text}");
    let decides = "Yes|No|by an SA|Y7|4097 (0X00001001)|4098 (0X00001002)";
    assert!(line("web|").ends_with(decides) && line("rest|").contains("|No|n/a|n/a|"), "{text}");
}

#[test]
fn watch_prints_a_line_for_each_event() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("s")).unwrap();
    let daemon = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&MessageHeader::init(PAGE, NOW).to_bytes()).unwrap();
        let mut decoder = Decoder::new(1 << 20);
        let frame = receive(&mut stream, &mut decoder).unwrap();
        let request = Request::check(&frame).unwrap();
        let asked = (request.message_type(), request.body().unwrap());
        let header = request.header().clone();
        stream.write_all(&header.answer(NOW, ReturnCode::OK, ReasonCode::NONE).to_bytes()).unwrap();
        let event = |sequence| Event {
            sequence,
            time: NOW,
            kind: EventKind::STACK_UP,
            stack: "DIST".into(),
            ..Event::default()
        };
        let records = [event(1).build(PAGE), event(2).build(PAGE)].concat();
        let mut head = MessageHeader::new(PAGE, MessageType::EVENT);
        head.correlator = header.correlator;
        let head = head.answer(NOW, ReturnCode::OK, ReasonCode::NONE);
        let head = with_records(head, records.len() as u64, 2, 2).unwrap();
        stream.write_all(&[head.to_bytes().as_slice(), &records].concat()).unwrap();
        asked
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipsec"));
    command.args(["watch", "stack_up", "--count", "2", "--socket"]).arg(folder.path().join("s"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let line = |n: u32| {
        format!(r#"{{"time":"2025-03-03T14:07:21Z","sequence":{n},"event":"stack_up","stack":"DIST"}}"#)
    };
    assert_eq!(out(&output), format!("{}\n{}\n", line(1), line(2)));
    let wanted = Subscription { kinds: EventKind::STACK_UP.bit() };
    assert_eq!(daemon.join().unwrap(), (MessageType::SUBSCRIBE, Body::Subscribe(wanted)));
}

#[test]
fn t59_a_full_disk_is_said() {
    let serve = |_: MessageType, _: &str, _: Option<Body>| -> Reply { Ok(vec![]) };
    let daemon = Daemon::start(serve);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipsec"));
    command.args(["-p", "DIST", "--drops", "--socket"]).arg(daemon.folder.path().join("s"));
    command.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).starts_with("ipsec: cannot write: "), "{}", err(&output));
}

#[test]
fn quiet_says_nothing_and_a_trace_shows_every_message() {
    let serve = |_: MessageType, _: &str, _: Option<Body>| -> Reply {
        Ok(vec![DropCount { reason: "no_filter".into(), packets: 3 }.build(PAGE)])
    };
    let output = Daemon::start(serve).run("-p DIST --drops -q");
    assert_eq!((output.status.code(), out(&output), err(&output)), (Some(0), String::new(), String::new()));
    let output = Daemon::start(serve).run("-p DIST --drops -d");
    let trace = err(&output);
    assert!(trace.contains("--> NMsec_GET_DROPS, 96 bytes\n0000  4e4d734d"), "{trace}");
    assert!(trace.contains("<-- NMsec_GET_DROPS, 176 bytes\n") && trace.contains("NMsR"), "{trace}");
    assert!(out(&output).contains("no_filter"), "the report is there all the same");
}

#[test]
fn colours_are_for_terminals() {
    let serve = |_: MessageType, _: &str, _: Option<Body>| -> Reply { Ok(vec![]) };
    let plain = Daemon::start(serve).run("-p DIST --drops");
    assert!(!out(&plain).contains('\x1b'));
    let asked = Daemon::start(serve).run("-p DIST --drops --color always");
    assert!(out(&asked).starts_with("\x1b[1m"));
}

#[test]
fn t59_wrong_use_is_code_2_and_help_is_not() {
    let run = |line: &str| {
        Command::new(env!("CARGO_BIN_EXE_ipsec")).args(line.split_whitespace()).output().unwrap()
    };
    for line in ["", "-y destroy", "-z", "-y deactivate", "-f -k", "-f -l x"] {
        let output = run(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(out(&output).is_empty() && !err(&output).is_empty(), "{line}");
    }
    for line in ["-?", "--help", "--version"] {
        let output = run(line);
        assert_eq!(output.status.code(), Some(0), "{line}");
        assert!(out(&output).contains("ipsec"), "{line}");
    }
}
