use super::*;
use stack::control::{Answer, Question};
use tokio::net::UnixListener;

fn hello(name: &str, version: u16) -> FromStack {
    FromStack::Hello(Hello {
        version,
        name: name.into(),
        start_id: 1,
        configured: false,
        filter_epoch: 0,
        sas: vec![],
    })
}

struct Fixture {
    _dir: tempfile::TempDir,
    listener: UnixListener,
    events: mpsc::Receiver<(StackIndex, LinkEvent)>,
    stop: CancellationToken,
}

/// A link to a socket on which the test itself listens, as a stack that runs already.
fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let control = dir.path().join("S.sock");
    let listener = UnixListener::bind(&control).unwrap();
    let launch = Launch { stackd: "/nowhere".into(), name: "S".into(), netns: None, control };
    let (tx, events) = mpsc::channel(16);
    let stop = CancellationToken::new();
    tokio::spawn(run(3, launch, tx, stop.clone()));
    Fixture { _dir: dir, listener, events, stop }
}

impl Fixture {
    async fn accept(&mut self, first: &FromStack) -> UnixStream {
        let (mut s, _) = self.listener.accept().await.unwrap();
        say(&mut s, first).await;
        s
    }
    async fn next(&mut self) -> LinkEvent {
        let (index, event) = timeout(Duration::from_secs(30), self.events.recv()).await.unwrap().unwrap();
        assert_eq!(index, 3);
        event
    }
}

async fn say(s: &mut UnixStream, m: &FromStack) {
    let mut frame = Vec::new();
    encode(m, &mut frame).unwrap();
    s.write_all(&frame).await.unwrap();
}

async fn hear(s: &mut UnixStream, d: &mut Decoder) -> ToStack {
    loop {
        if let Some(m) = d.next_message().unwrap() {
            return m;
        }
        let mut b = [0; 4096];
        let n = s.read(&mut b).await.unwrap();
        assert!(n > 0, "the link closed");
        d.push(&b[..n]);
    }
}

#[tokio::test]
async fn a_live_stack_is_adopted_asked_and_found_again() {
    let mut f = fixture();
    let mut s = f.accept(&hello("S", PROTOCOL_VERSION)).await;
    let LinkEvent::Up { connection, adopted: true, .. } = f.next().await else { panic!() };
    let mut d = Decoder::default();
    let answer = connection.ask(Question::Drops);
    let ToStack::Ask { id, question: Question::Drops } = hear(&mut s, &mut d).await else { panic!() };
    say(&mut s, &FromStack::Answer { id: id + 1, answer: Answer::Drops(vec![]) }).await;
    say(&mut s, &FromStack::Answer { id, answer: Answer::Sas(vec![]) }).await;
    assert_eq!(answer.await.unwrap(), Answer::Sas(vec![]));
    drop(s);
    let LinkEvent::Down { reason, .. } = f.next().await else { panic!() };
    assert_eq!(reason, "the stack closed the connection");
    connection.send(ToStack::RemoveAllSas).unwrap();
    let mut s = f.accept(&hello("S", PROTOCOL_VERSION)).await;
    let LinkEvent::Up { connection, .. } = f.next().await else { panic!() };
    connection.send(ToStack::Shutdown).unwrap();
    assert_eq!(
        hear(&mut s, &mut Decoder::default()).await,
        ToStack::Shutdown,
        "nothing of the old connection"
    );
    f.stop.cancel();
}

#[tokio::test]
async fn another_version_or_stack_is_refused_with_its_reason() {
    let mut f = fixture();
    let _s = f.accept(&hello("S", 99)).await;
    let LinkEvent::Unreachable { reason, .. } = f.next().await else { panic!() };
    assert!(reason.contains("speaks protocol version 99"), "{reason}");
    let _s = f.accept(&hello("T", PROTOCOL_VERSION)).await;
    let LinkEvent::Unreachable { reason, .. } = f.next().await else { panic!() };
    assert_eq!(reason, "it is stack \"T\"; another one was expected here");
    let _s = f.accept(&FromStack::Log { warning: false, text: String::new() }).await;
    assert!(matches!(f.next().await, LinkEvent::Unreachable { .. }));
}

#[tokio::test]
async fn a_lying_stack_ends_its_connection_only() {
    let mut f = fixture();
    let mut s = f.accept(&hello("S", PROTOCOL_VERSION)).await;
    assert!(matches!(f.next().await, LinkEvent::Up { .. }));
    s.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    assert!(matches!(f.next().await, LinkEvent::Down { .. }));
    let _s = f.accept(&hello("S", PROTOCOL_VERSION)).await;
    assert!(matches!(f.next().await, LinkEvent::Up { .. }));
}

#[tokio::test]
async fn t59_a_program_that_ends_is_reported_with_its_status() {
    let dir = tempfile::tempdir().unwrap();
    let control = dir.path().join("S.sock");
    let launch = Launch { stackd: "/bin/false".into(), name: "S".into(), netns: None, control };
    let (tx, mut events) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(0, launch, tx, stop.clone()));
    let (_, LinkEvent::Unreachable { reason, .. }) = events.recv().await.unwrap() else { panic!() };
    assert_eq!(reason, "the process ended: exit status: 1");
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn t59_a_stop_while_a_stack_starts_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let control = dir.path().join("S.sock");
    // Takes the arguments, listens on nothing, and ends when it is told to.
    let stackd = dir.path().join("stackd");
    std::fs::write(&stackd, "#!/bin/sh\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&stackd, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let launch = Launch { stackd, name: "S".into(), netns: None, control };
    let (tx, _events) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(0, launch, tx, stop.clone()));
    sleep(Duration::from_millis(200)).await;
    stop.cancel();
    timeout(2 * STOP_TIME, task).await.expect("SIGTERM is enough").unwrap();
}

#[test]
fn the_control_folder_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    make_control_folder(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/tmp", &link).unwrap();
    assert!(make_control_folder(&link).is_err(), "t57: a symlink is not followed");
}

#[test]
fn a_process_is_ending_when_none_of_its_threads_runs() {
    assert!(!is_ending(std::process::id()));
    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    assert!(!is_ending(child.id()));
    child.kill().unwrap();
    // A process that nobody has waited for stays, and says so.
    let mut looks = 0;
    while !is_ending(child.id()) {
        looks += 1;
        assert!(looks < 30_000, "killed, and still it runs");
        std::thread::sleep(LOOK_TIME);
    }
    child.wait().unwrap();
    assert!(!is_ending(child.id()), "nobody has that number");
}
