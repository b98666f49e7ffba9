//! What clients and others do to the socket, and that nothing of it is left behind.

use super::fake::Daemon;
use super::{Client, SECONDS, fake::until};
use nmi_proto::answer::request;
use nmi_proto::code::MessageType;
use nmi_proto::text::CodePage;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn t57_a_socket_that_was_removed_is_made_again_and_clients_stay() {
    let daemon = Daemon::start();
    let mut before = daemon.client();
    std::fs::remove_file(daemon.socket()).unwrap();
    until(|| Client::connect(daemon.socket(), SECONDS).ok());
    assert!(before.drops("TCPCS1").is_ok(), "who was connected still is");

    // What somebody else puts there is left alone, for longer than the daemon waits between two looks.
    let place = daemon.socket().to_owned();
    until(|| {
        let _ = std::fs::remove_file(&place);
        std::fs::write(&place, b"precious").ok()
    });
    std::thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(std::fs::read(&place).unwrap(), b"precious");
    std::fs::remove_file(&place).unwrap();
    until(|| Client::connect(&place, SECONDS).ok());
    assert!(before.drops("TCPCS1").is_ok());
}

/// Numbers that look random, the same in each run.
struct Steps(u64);

impl Steps {
    fn below(&mut self, n: usize) -> usize {
        // Xorshift: any sequence that wanders will do.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }
}

/// Clients that connect and leave, each somewhere else: before and within the greeting, within a request, before, within and
/// after its answer, with and without saying so.
fn churn(daemon: &Daemon, clients: usize, seed: u64) {
    let small = request(CodePage::Ascii, MessageType::GET_SUMMARY, "TCPCS1", 1, &[]);
    let large = request(CodePage::Ibm1047, MessageType::GET_IPFLTCURR, "TCPCS1", 2, &[]);
    let mut steps = Steps(seed | 1);
    for _ in 0..clients {
        let Ok(mut stream) = UnixStream::connect(daemon.socket()) else { continue };
        stream.set_read_timeout(SECONDS).unwrap();
        match steps.below(8) {
            0 => {}
            1 => drop(stream.shutdown(std::net::Shutdown::Write)),
            2 => drop(stream.write_all(&small[..steps.below(small.len())])),
            3 => drop(stream.write_all(b"garbage garbage garbage")),
            4 => {
                let mut init = vec![0; 1 + steps.below(96)];
                drop(stream.read(&mut init));
            }
            5 => {
                drop(stream.write_all(&small));
                let mut part = vec![0; 1 + steps.below(300)];
                drop(stream.read(&mut part));
            }
            // Few: each answer has ten thousand records.
            6 if steps.below(200) == 0 => {
                drop(stream.write_all(&large));
                let mut part = vec![0; 1 + steps.below(1 << 20)];
                drop(stream.read(&mut part));
            }
            _ => drop(stream.write_all(&small)),
        }
    }
}

/// Resident memory of this process, which the daemon is part of, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
fn t52_clients_that_come_and_go_at_any_moment_leave_nothing_behind() {
    let daemon = Daemon::start_with(|c| c.max_clients = 200, true);
    drop(daemon.client());
    daemon.wait_for_connections(0);
    let before = descriptors();
    churn(&daemon, 10_000, 52);
    daemon.wait_for_connections(0);
    // Descriptors of other tests of this process come and go; many more would be a leak of these connections.
    until(|| (descriptors() < before + 100).then_some(()));
    assert!(daemon.client_when_free().drops("TCPCS1").is_ok());
}

/// `cargo test --release -p iked --test nmi -- --ignored a_million_clients --nocapture`: some minutes, and alone, because
/// descriptors and memory are those of the process.
#[test]
#[ignore = "takes minutes"]
fn t52_a_million_clients_leave_descriptors_and_memory_where_they_were() {
    const THREADS: usize = 4;
    let daemon = Daemon::start_with(|c| c.max_clients = 200, true);
    let round = |clients: usize, seed: u64| {
        std::thread::scope(|scope| {
            for thread in (1..).take(THREADS) {
                let daemon = &daemon;
                scope.spawn(move || churn(daemon, clients / THREADS, seed * 1000 + thread));
            }
        });
        daemon.wait_for_connections(0);
        until(|| (daemon.statistics.clients() == 0).then_some(()));
        (descriptors(), resident_kib())
    };
    // Allocators and thread pools have their full size after the first tenth.
    let (fds, kib) = round(100_000, 1);
    let begun = std::time::Instant::now();
    for tenth in 2..=10 {
        let now = round(100_000, tenth);
        println!("{} clients: {} descriptors, {} KiB resident", tenth * 100_000, now.0, now.1);
    }
    let (fds_after, kib_after) = (descriptors(), resident_kib());
    println!(
        "900,000 clients in {:.0} s: descriptors {fds} -> {fds_after}, resident {kib} -> {kib_after} KiB",
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(fds, fds_after);
    assert!(kib_after < kib + 16 * 1024, "{kib} -> {kib_after} KiB");
    assert!(daemon.client_when_free().summary("TCPCS1").is_ok());
}

/// Bytes that a client reads at most of an answer before it stops.
const SIP: usize = 64 << 10;

#[test]
fn t53_an_answer_of_a_hundred_megabytes_that_is_not_read_costs_little_and_ends_in_time() {
    // A record of a filter has 448 bytes.
    const FILTERS: u32 = 240_000;
    let patience = std::time::Duration::from_secs(10);
    let daemon = Daemon::start_with_filters(|c| c.patience = patience, true, FILTERS);
    let ask = request(CodePage::Ascii, MessageType::GET_IPFLTCURR, "TCPCS1", 1, &[]);
    let mut whole = daemon.raw();
    whole.write_all(&ask).unwrap();
    let mut head = [0; 96];
    whole.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes([head[12], head[13], head[14], head[15]]);
    assert!(length > 100_000_000, "{length}");
    let with_one = resident_kib();

    // Nine more begin to read it and stop.
    let mut deaf: Vec<UnixStream> = (0..9)
        .map(|_| {
            let mut stream = daemon.raw();
            stream.write_all(&ask).unwrap();
            stream.read_exact(&mut vec![0; SIP]).unwrap();
            stream
        })
        .collect();
    let with_ten = resident_kib();
    println!(
        "an answer of {length} bytes: {with_one} KiB resident while one client reads it, {with_ten} KiB with ten"
    );
    // Ten answers have 1 GB. What they are made of is held in common, as far as they came at about the same time.
    let grown = with_ten.saturating_sub(with_one);
    assert!(grown < u64::from(length) * 4 / 1024, "{with_one} -> {with_ten} KiB");
    // The others are served as if nothing were.
    assert!(daemon.client().interfaces("TCPCS1").is_ok());

    // Each is given up at its deadline, in the middle of the answer and without TERM.
    until(|| (daemon.statistics.clients() == 0).then_some(()));
    for stream in &mut deaf {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.len() < 16 << 20, "{} bytes were made for who does not read", rest.len());
    }
}

#[test]
fn t56_a_control_of_all_twice_at_the_same_moment_runs_once_for_each_request() {
    let daemon = Daemon::start();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let done = daemon.client().control_all(MessageType::DEACTIVATE_IKETUN, "TCPCS1").unwrap();
                assert_eq!(done.iter().map(|t| t.tunnel_id.as_str()).collect::<Vec<_>>(), ["K3", "K4"]);
            });
        }
    });
    assert_eq!(daemon.controls(), 2, "each request once");
}

#[test]
fn the_client_for_tokio_reads_what_the_blocking_one_reads() {
    use iked::events::What;
    use nmi_proto::client::ClientError;
    use nmi_proto::control::Tunnel;
    use nmi_proto::display::IkeRecord;
    use nmi_proto::tokio_client;
    let daemon = Daemon::start();
    let mut blocking = daemon.client();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut nmi = tokio_client::Client::connect(daemon.socket(), SECONDS).await.unwrap();
        for page in [CodePage::Ascii, CodePage::Ibm1047] {
            nmi.set_page(page);
            assert_eq!(nmi.stacks().await.unwrap().records, blocking.stacks().unwrap().records);
            assert_eq!(nmi.summary("TCPCS1").await.unwrap(), blocking.summary("TCPCS1").unwrap());
            let tunnels = nmi.display::<IkeRecord>(MessageType::GET_IKETUN, "TCPCS1", &[]).await.unwrap();
            assert_eq!((tunnels.records.len(), tunnels.total), (2, 2));
        }
        assert!(matches!(nmi.summary("NOSUCH").await, Err(ClientError::Refused { .. })));
        let one = [Tunnel::with_id("Y7")];
        let done = nmi.control(MessageType::REFRESH_IPTUNDYN, "TCPCS1", &one).await.unwrap();
        assert_eq!(done.len(), 1);
        nmi.subscribe("", 0).await.unwrap();
        daemon.events.report(1, "TCPCS1", What::StackUp);
        // Events that come between a request and its answer are kept.
        nmi.summary("TCPCS1").await.unwrap();
        assert_eq!(nmi.next_event(SECONDS).await.unwrap().unwrap().sequence, 1);
        nmi.unsubscribe().await.unwrap();
        let nothing = nmi.next_event(Some(std::time::Duration::from_millis(20))).await.unwrap();
        assert!(nothing.is_none(), "{nothing:?}");
        assert!(matches!(
            tokio_client::Client::connect("/nowhere", SECONDS).await,
            Err(ClientError::Connect { .. })
        ));
    });
}
