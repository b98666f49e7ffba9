//! The link to one stack: a task that finds or starts its process, connects, and passes messages both ways.
//!
//! Each connection has a channel of its own ([`Connection`]), handed to the core with [`LinkEvent::Up`]: what was
//! meant for one connection can never reach the next. The core closes a connection by dropping its end. The
//! process goes on when the link or the daemon ends; only [`stack::control::ToStack::Shutdown`] ends it.

mod connection;

use crate::supervise::{Backoff, Launch};
pub use connection::{Answers, Connection, ConnectionEnd, Stuck};
use nix::sys::signal::{Signal as NixSignal, kill};
use nix::unistd::Pid;
use stack::control::{FromStack, Hello, PROTOCOL_VERSION, ToStack};
use stack::framing::{Decoder, FrameError, encode};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize;

/// Which stack: its place in the configuration.
pub type StackIndex = usize;

/// How long a stack may take to answer.
pub const ANSWER_TIME: Duration = Duration::from_secs(3);
/// How long a new process may take to listen, and a connection to say hello.
const START_TIME: Duration = Duration::from_secs(10);
/// How long a stack may take to undo what it did to the system.
const STOP_TIME: Duration = Duration::from_secs(4);
/// How long a process that has closed its connection may take to end.
const END_TIME: Duration = Duration::from_millis(500);
/// How often it is looked whether a process is ending.
const LOOK_TIME: Duration = Duration::from_millis(1);
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

/// Why a connection could not be made or did not last.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Launch(#[from] crate::supervise::LaunchError),
    #[error("the process ended: {0}")]
    Ended(std::process::ExitStatus),
    /// No thread of it runs any more; the kernel takes back what it had.
    #[error("the process ends")]
    Ending,
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
            if matches!(e, LinkError::Ending) {
                link.reap().await;
            }
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
        let ConnectionEnd { from_core, answers } = end;
        // A task of its own: a stack that does not read must not keep us from reading, or both wait for ever.
        let mut writer = tokio::spawn(write_all(write, from_core));
        let failure = loop {
            tokio::select! {
                done = &mut writer => break match done {
                    Ok(Ok(())) => LinkError::Dropped,
                    Ok(Err(e)) => e,
                    Err(e) => LinkError::Io(std::io::Error::other(e)),
                },
                read = self.read(&mut read, &mut decoder, &answers) => if let Err(e) = read { break e },
            }
        };
        writer.abort();
        if self.stop.is_cancelled() {
            // It was told to end: its end of the connection closes when it has undone everything.
            let closed = async { while self.read(&mut read, &mut decoder, &answers).await.is_ok() {} };
            let _ = timeout(STOP_TIME, closed).await;
        }
        if matches!(failure, LinkError::Closed | LinkError::Io(_))
            && let Some(child) = &mut self.child
        {
            // A closed socket mostly means that the process ends: its exit says more.
            let end = Instant::now() + END_TIME;
            while Instant::now() < end {
                if child.id().is_some_and(is_ending) {
                    return LinkError::Ending;
                }
                if let Ok(Ok(status)) = timeout(LOOK_TIME, child.wait()).await {
                    self.child = None;
                    return LinkError::Ended(status);
                }
            }
        }
        failure
    }

    /// Waits for the rest of a process that sends nothing any more: the next one wants the names of its devices.
    async fn reap(&mut self) {
        if let Some(child) = &mut self.child
            && let Ok(Ok(status)) = timeout(STOP_TIME, child.wait()).await
        {
            tracing::info!(stack = %self.launch.name, "the process ended: {status}");
            self.child = None;
        }
    }

    /// Whether it is certain that no process of the stack runs: another stack may take its addresses then.
    async fn has_ended(&self, e: &LinkError) -> bool {
        match e {
            LinkError::Ended(_) | LinkError::Ending | LinkError::Launch(_) => true,
            _ if self.child.is_some() => false,
            // It was started by an earlier daemon: it is not ours to wait for, but its number tells.
            _ => match self.process {
                Some(process) => {
                    let gone = async {
                        let ending = || u32::try_from(process.as_raw()).is_ok_and(is_ending);
                        while !ending() && kill(process, None) != Err(nix::errno::Errno::ESRCH) {
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
        answers: &Answers,
    ) -> Result<(), LinkError> {
        while let Some(message) = decoder.next_message::<FromStack>()? {
            match message {
                FromStack::Answer { id, answer } => answers.give(id, answer),
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

/// Whether every thread of a process is on its way out (`PF_EXITING`): none runs its code any more, so nothing is sent. To take
/// its TUN and sockets away the kernel needs some tens of milliseconds more, for which a takeover need not wait.
fn is_ending(process: u32) -> bool {
    const PF_EXITING: u32 = 4;
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return false };
    let mut any = false;
    for thread in threads {
        let Ok(thread) = thread else { return false };
        // One that is gone meanwhile was exiting.
        let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else { continue };
        // proc(5): after the name in brackets come state, ppid, pgrp, session, tty_nr, tpgid, flags.
        let flags = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(6)?.parse().ok());
        if flags.is_none_or(|flags: u32| flags & PF_EXITING == 0) {
            return false;
        }
        any = true;
    }
    any
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
mod tests;
