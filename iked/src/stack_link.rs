//! The link to one stack: a task that finds or starts its process, connects, and passes messages both ways.
//!
//! Each connection has a channel of its own ([`Connection`]), handed to the core with [`LinkEvent::Up`]: what was
//! meant for one connection can never reach the next. The core closes a connection by dropping its end. The
//! process goes on when the link or the daemon ends; only [`stack::control::ToStack::Shutdown`] ends it.

use crate::supervise::{Backoff, Launch};
use nix::sys::signal::{Signal as NixSignal, kill};
use nix::unistd::Pid;
use stack::control::{Answer, FromStack, Hello, PROTOCOL_VERSION, Question, ToStack};
use stack::framing::{Decoder, FrameError, encode};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize;

/// Which stack: its place in the configuration.
pub type StackIndex = usize;

/// Messages that may wait for one stack; a stack that lets more pile up is reset.
const QUEUE: usize = 8192;
/// From this many free places on IKE datagrams are dropped, so that commands still fit. IKE repeats itself.
const RESERVE: usize = QUEUE / 2;
/// Questions to one stack that may be open.
const MAX_QUESTIONS: usize = 256;
/// How long a stack may take to answer.
pub const ANSWER_TIME: Duration = Duration::from_secs(3);
/// How long a new process may take to listen, and a connection to say hello.
const START_TIME: Duration = Duration::from_secs(10);
/// How long a stack may take to undo what it did to the system.
const STOP_TIME: Duration = Duration::from_secs(4);
/// How long a process that has closed its connection may take to end.
const END_TIME: Duration = Duration::from_millis(500);
/// A process that lived so long was well; the next start is tried at once.
const WELL: Duration = Duration::from_secs(30);

/// What a link tells the core.
#[derive(Debug)]
pub enum LinkEvent {
    /// Connected.
    Up {
        /// What the stack said.
        hello: Hello,
        /// For the core's messages; valid until [`LinkEvent::Down`].
        connection: Connection,
        /// It ran before this daemon: what it does was decided by an earlier one.
        adopted: bool,
    },
    /// Anything but hello and answers.
    Message(Box<FromStack>),
    /// The connection ended.
    Down {
        /// Why, for an operator.
        reason: String,
        /// The process has ended for certain: it sends nothing any more.
        ended: bool,
    },
    /// No process could be started or reached; it is tried again.
    Unreachable {
        /// Why, for an operator.
        reason: String,
        /// There is no process for certain.
        ended: bool,
    },
}

/// The core's end of one connection.
#[derive(Debug, Clone)]
pub struct Connection {
    to: mpsc::Sender<ToStack>,
    /// The process at its other end.
    process: Option<Pid>,
    questions: Arc<Mutex<Questions>>,
}

#[derive(Debug, Default)]
struct Questions {
    next: u64,
    open: BTreeMap<u64, oneshot::Sender<Answer>>,
}

/// The stack does not take messages: the connection is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stack does not take messages")]
pub struct Stuck;

impl Connection {
    /// A connection, and the end at which what was sent comes out and answers go in.
    #[must_use]
    pub fn pair() -> (Self, ConnectionEnd) {
        let (to, from_core) = mpsc::channel(QUEUE);
        let questions = Arc::<Mutex<Questions>>::default();
        let this = Self { to, process: None, questions: Arc::clone(&questions) };
        (this, ConnectionEnd { from_core, questions })
    }

    /// Queues a command, which must not be lost.
    ///
    /// # Errors
    /// The queue is full: drop the connection, the next one begins from the desired state again.
    pub fn send(&self, message: ToStack) -> Result<(), Stuck> {
        match self.to.try_send(message) {
            // Closed: the link has seen the end and says Down soon.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Stuck),
        }
    }

    /// Ends the process at the other end, which does not do what it must. While the connection stands the number is
    /// that process's.
    pub fn kill(&self) {
        if let Some(process) = self.process {
            // It may have ended by itself.
            let _ = kill(process, NixSignal::SIGKILL);
        }
    }

    /// Queues a datagram, which may be lost as on any network.
    pub fn send_datagram(&self, message: ToStack) {
        if self.to.capacity() > RESERVE {
            // Closed is as good as lost.
            let _ = self.to.try_send(message);
        }
    }

    /// Asks the stack. The receiver fails when the connection ends or too many questions are open.
    #[must_use]
    pub fn ask(&self, question: Question) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        let id = {
            let mut q = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
            q.open.retain(|_, waiting| !waiting.is_closed());
            if q.open.len() >= MAX_QUESTIONS {
                return answer;
            }
            q.next += 1;
            let id = q.next;
            q.open.insert(id, reply);
            id
        };
        if self.to.try_send(ToStack::Ask { id, question }).is_err() {
            self.questions.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&id);
        }
        answer
    }
}

/// The link's end of a [`Connection`].
#[derive(Debug)]
pub struct ConnectionEnd {
    /// What the core sends; ends when the core dropped the connection.
    pub from_core: mpsc::Receiver<ToStack>,
    questions: Arc<Mutex<Questions>>,
}

impl ConnectionEnd {
    /// Gives an answer to whoever asked. Answers that nobody waits for any more are dropped.
    pub fn answer(&self, id: u64, answer: Answer) {
        answer_to(&self.questions, id, answer);
    }
}

fn answer_to(questions: &Mutex<Questions>, id: u64, answer: Answer) {
    let waiting = questions.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&id);
    if let Some(waiting) = waiting {
        let _ = waiting.send(answer);
    }
}

/// Why a connection could not be made or did not last.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Launch(#[from] crate::supervise::LaunchError),
    #[error("the process ended: {0}")]
    Ended(std::process::ExitStatus),
    #[error("the control socket: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the stack closed the connection")]
    Closed,
    #[error("no hello within {} s", START_TIME.as_secs())]
    NoHello,
    #[error("the process listens not within {} s", START_TIME.as_secs())]
    NotListening,
    #[error("another user (uid {0}) serves the control socket; refused")]
    Stranger(u32),
    #[error("it is stack {0:?}; another one was expected here")]
    OtherStack(String),
    #[error(
        "process {pid} speaks protocol version {version}, this daemon {PROTOCOL_VERSION}: stop it so that the installed stackd is started"
    )]
    Version { version: u16, pid: i32 },
    #[error("the core dropped the connection")]
    Dropped,
}

/// Runs the link of one stack until `stop`.
pub async fn run(
    index: StackIndex,
    launch: Launch,
    events: mpsc::Sender<(StackIndex, LinkEvent)>,
    stop: CancellationToken,
) {
    let mut link = Link { index, launch, events, stop, child: None, process: None, started_here: false };
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    while !link.stop.is_cancelled() {
        let begun = Instant::now();
        if let Err((up, e)) = link.once().await {
            if link.stop.is_cancelled() {
                break;
            }
            let (reason, ended) = (e.to_string(), link.has_ended(&e).await);
            let event = match up {
                true => LinkEvent::Down { reason, ended },
                false => LinkEvent::Unreachable { reason, ended },
            };
            link.tell(event).await;
        }
        if begun.elapsed() > WELL {
            backoff.reset();
        }
        tokio::select! {
            () = sleep(backoff.pause()) => {}
            () = link.stop.cancelled() => {}
        }
    }
    link.wait_for_end().await;
}

struct Link {
    index: StackIndex,
    launch: Launch,
    events: mpsc::Sender<(StackIndex, LinkEvent)>,
    stop: CancellationToken,
    child: Option<Child>,
    /// The process of the last connection.
    process: Option<Pid>,
    started_here: bool,
}

impl Link {
    async fn tell(&self, event: LinkEvent) {
        // The core only goes away when the daemon ends.
        let _ = self.events.send((self.index, event)).await;
    }

    /// One connection from its beginning to its end. The error says whether it was up.
    async fn once(&mut self) -> Result<(), (bool, LinkError)> {
        let stop = self.stop.clone();
        let connected = tokio::select! {
            connected = self.connect() => connected,
            () = stop.cancelled() => Err(LinkError::Dropped),
        };
        let (stream, hello, decoder) = connected.map_err(|e| (false, e))?;
        let (mut connection, end) = Connection::pair();
        connection.process = self.process;
        self.tell(LinkEvent::Up { hello, connection, adopted: !self.started_here }).await;
        Err((true, self.drive(stream, decoder, end).await))
    }

    /// Connects to a live process, or to one that is started now.
    async fn connect(&mut self) -> Result<(UnixStream, Hello, Decoder), LinkError> {
        let deadline = Instant::now() + START_TIME;
        if self.ended().is_some() {
            self.child = None;
        }
        let mut stream = UnixStream::connect(&self.launch.control).await.ok();
        if stream.is_none() && self.child.is_none() {
            self.child = Some(self.launch.start()?);
            self.started_here = true;
        }
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(200));
        let stream = loop {
            if let Some(stream) = stream {
                break stream;
            }
            if let Some(status) = self.ended() {
                self.child = None;
                return Err(LinkError::Ended(status));
            }
            if Instant::now() > deadline {
                return Err(LinkError::NotListening);
            }
            sleep(backoff.pause()).await;
            stream = UnixStream::connect(&self.launch.control).await.ok();
        };
        let peer = stream.peer_cred()?;
        if peer.uid() != 0 && peer.uid() != nix::unistd::geteuid().as_raw() {
            return Err(LinkError::Stranger(peer.uid()));
        }
        let (mut stream, mut decoder) = (stream, Decoder::default());
        let hello = timeout(START_TIME, read_hello(&mut stream, &mut decoder))
            .await
            .map_err(|_| LinkError::NoHello)??;
        self.process = peer.pid().map(Pid::from_raw);
        if hello.version != PROTOCOL_VERSION {
            return Err(LinkError::Version { version: hello.version, pid: peer.pid().unwrap_or(0) });
        }
        if !hello.name.eq_ignore_ascii_case(&self.launch.name) {
            return Err(LinkError::OtherStack(hello.name));
        }
        Ok((stream, hello, decoder))
    }

    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.as_mut().and_then(|c| c.try_wait().ok().flatten())
    }

    async fn drive(&mut self, stream: UnixStream, mut decoder: Decoder, end: ConnectionEnd) -> LinkError {
        let (mut read, write) = stream.into_split();
        let ConnectionEnd { from_core, questions } = end;
        // A task of its own: a stack that does not read must not keep us from reading, or both wait for ever.
        let mut writer = tokio::spawn(write_all(write, from_core));
        let failure = loop {
            tokio::select! {
                done = &mut writer => break match done {
                    Ok(Ok(())) => LinkError::Dropped,
                    Ok(Err(e)) => e,
                    Err(e) => LinkError::Io(std::io::Error::other(e)),
                },
                read = self.read(&mut read, &mut decoder, &questions) => if let Err(e) = read { break e },
            }
        };
        writer.abort();
        if self.stop.is_cancelled() {
            // It was told to end: its end of the connection closes when it has undone everything.
            let closed = async { while self.read(&mut read, &mut decoder, &questions).await.is_ok() {} };
            let _ = timeout(STOP_TIME, closed).await;
        }
        if matches!(failure, LinkError::Closed | LinkError::Io(_))
            && let Some(child) = &mut self.child
        {
            // A closed socket mostly means that the process ends: its exit says more.
            if let Ok(Ok(status)) = timeout(END_TIME, child.wait()).await {
                self.child = None;
                return LinkError::Ended(status);
            }
        }
        failure
    }

    /// Whether it is certain that no process of the stack runs: another stack may take its addresses then.
    async fn has_ended(&self, e: &LinkError) -> bool {
        match e {
            LinkError::Ended(_) | LinkError::Launch(_) => true,
            _ if self.child.is_some() => false,
            // It was started by an earlier daemon: it is not ours to wait for, but its number tells.
            _ => match self.process {
                Some(process) => {
                    let gone = async {
                        while kill(process, None) != Err(nix::errno::Errno::ESRCH) {
                            sleep(Duration::from_millis(2)).await;
                        }
                    };
                    timeout(END_TIME, gone).await.is_ok()
                }
                None => false,
            },
        }
    }

    /// Reads once and passes on what is complete.
    async fn read(
        &self,
        from: &mut OwnedReadHalf,
        decoder: &mut Decoder,
        questions: &Mutex<Questions>,
    ) -> Result<(), LinkError> {
        while let Some(message) = decoder.next_message::<FromStack>()? {
            match message {
                FromStack::Answer { id, answer } => answer_to(questions, id, answer),
                FromStack::Hello(_) => {}
                other => self.tell(LinkEvent::Message(Box::new(other))).await,
            }
        }
        let mut bytes = [0; 16 << 10];
        let n = from.read(&mut bytes).await?;
        if n == 0 {
            return Err(LinkError::Closed);
        }
        decoder.push(&bytes[..n]);
        Ok(())
    }

    /// After the stop: the process was told to end, or is told now; then it gets [`STOP_TIME`] and no more.
    async fn wait_for_end(&mut self) {
        let Some(child) = &mut self.child else { return };
        if timeout(STOP_TIME / 5, child.wait()).await.is_ok() {
            return;
        }
        if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
            // It may just have ended; it is not reaped yet, so the number is still its own.
            let _ = kill(Pid::from_raw(pid), NixSignal::SIGTERM);
        }
        if timeout(STOP_TIME, child.wait()).await.is_err() {
            tracing::warn!(stack = %self.launch.name, "does not end in {} s: killed", STOP_TIME.as_secs());
            let _ = child.kill().await;
        }
    }
}

async fn read_hello(stream: &mut UnixStream, decoder: &mut Decoder) -> Result<Hello, LinkError> {
    let mut bytes = [0; 4096];
    loop {
        match decoder.next_message::<FromStack>()? {
            Some(FromStack::Hello(hello)) => return Ok(hello),
            Some(_) => return Err(LinkError::NoHello),
            None => {}
        }
        let n = stream.read(&mut bytes).await?;
        if n == 0 {
            return Err(LinkError::Closed);
        }
        decoder.push(&bytes[..n]);
    }
}

/// Writes what the core sends until the core drops its end. Frames carry keys: the buffer is wiped after each write.
async fn write_all(mut to: OwnedWriteHalf, mut from_core: mpsc::Receiver<ToStack>) -> Result<(), LinkError> {
    let mut frames = Vec::new();
    while let Some(message) = from_core.recv().await {
        encode(&message, &mut frames)?;
        while frames.len() < 64 << 10 {
            let Ok(more) = from_core.try_recv() else { break };
            encode(&more, &mut frames)?;
        }
        to.write_all(&frames).await?;
        frames.zeroize();
    }
    Ok(())
}

/// Makes the folder of the control sockets: ours, mode 0700, because what passes carries keys.
///
/// # Errors
/// It cannot be made, is no folder, or belongs to somebody else.
pub fn make_control_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let meta = std::fs::symlink_metadata(path)?;
    if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(std::io::Error::other("is no folder of ours"));
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let (index, event) = timeout(Duration::from_secs(5), self.events.recv()).await.unwrap().unwrap();
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
        timeout(STOP_TIME, task).await.expect("SIGTERM is enough").unwrap();
    }

    #[test]
    fn a_full_queue_drops_datagrams_first_and_then_says_stuck() {
        let (c, mut end) = Connection::pair();
        let datagram = || ToStack::AcquireFailed { id: 0 };
        for _ in 0..QUEUE {
            c.send_datagram(datagram());
        }
        let mut kept = 0;
        while end.from_core.try_recv().is_ok() {
            kept += 1;
        }
        assert_eq!(kept, QUEUE - RESERVE);
        for _ in 0..QUEUE {
            c.send(datagram()).unwrap();
        }
        assert_eq!(c.send(datagram()), Err(Stuck));
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
}
