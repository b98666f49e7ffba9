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

#[test]
fn t52_clients_that_come_and_go_at_any_moment_leave_nothing_behind() {
    let daemon = Daemon::start_with(|c| c.max_clients = 200, true);
    drop(daemon.client());
    daemon.wait_for_connections(0);
    let before = descriptors();
    let ask = request(CodePage::Ascii, MessageType::GET_IPFLTCURR, "TCPCS1", 1, &[]);
    // As many as a test may take; where each ends differs from one to the next.
    for n in 0..6_000_usize {
        let Ok(mut stream) = UnixStream::connect(daemon.socket()) else { continue };
        match n % 6 {
            0 => {}
            1 => drop(stream.write_all(&ask[..n % ask.len()])),
            2 => drop(stream.read(&mut [0; 40])),
            3 => drop(stream.shutdown(std::net::Shutdown::Write)),
            4 if n % 60 == 4 => {
                let _ = stream.write_all(&ask);
                drop(stream.read(&mut [0; 200]));
            }
            _ => drop(stream.write_all(b"garbage garbage garbage")),
        }
    }
    daemon.wait_for_connections(0);
    // Descriptors of other tests of this process come and go; many more would be a leak of these connections.
    until(|| (descriptors() < before + 100).then_some(()));
    assert!(daemon.client_when_free().drops("TCPCS1").is_ok());
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
