//! The shell of the group: its socket on the XCF link, its clock, and what the kernel tells of servers.
//!
//! A task of the control thread, apart from the one that configures: heartbeats go on while netlink and firewall tools are
//! waited for.
//!
//! ```text
//!   iked ◄── daemon ── commands ──►  group_link  ◄── orders, reports ──► worker (engine)
//!               ▲────── news ─────────  │   ▲
//!                                       ▼   │ UDP 4740 on the XCF interface
//!                                  the other stacks
//! ```

use crate::capacity::Capacity;
use crate::control::{DropView, FromStack, Role, StackConfig, Xcf};
use crate::driver::udp;
use crate::listeners::Listeners;
use crate::worker::{Command, WorkerHandle};
use crate::xcf::PORT;
use crate::xcf::datagram::MAX_DATAGRAM;
use crate::xcf::group::{Event, Group};
use crate::xcf::order::EngineReport;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

/// How often the kernel is asked where servers listen.
const LOOK: Duration = Duration::from_millis(250);
/// Datagrams read in one turn.
const BATCH: usize = 64;
/// Datagrams read before members are called silent: all that may wait in the socket.
const BACKLOG: usize = 8192;
/// Reports of the engine taken in one turn.
const REPORTS: usize = 1024;
/// News that the daemon has not taken yet, at most.
const NEWS: usize = 1024;
/// Of them, messages for `iked`, each up to 1 MiB.
const RELAYED: usize = 16;

/// What the daemon wants of the group.
#[derive(Debug)]
enum Wish {
    Configure { config: Box<StackConfig>, rebind: bool, done: oneshot::Sender<Result<(), String>> },
    Relay { to: String, bytes: Vec<u8> },
    Ceiling { dvipa: IpAddr, epoch: u64, highest: u64 },
    Greet,
    Refusals(oneshot::Sender<Vec<DropView>>),
    Leave(oneshot::Sender<()>),
}

/// The daemon's end.
#[derive(Debug)]
pub struct GroupHandle {
    wishes: mpsc::UnboundedSender<Wish>,
    news: mpsc::Receiver<FromStack>,
}

/// The task of the group is over, which it never is by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the group of stacks ended")]
pub struct GroupEnded;

impl GroupHandle {
    /// Puts a configuration in force, of which the engine knows already. `rebind`: the XCF interface is another one.
    ///
    /// # Errors
    /// The reason, when there can be no socket. There is none then, until a configuration is put in force again.
    pub async fn configure(&self, config: &StackConfig, rebind: bool) -> Result<(), String> {
        let (done, result) = oneshot::channel();
        self.wish(Wish::Configure { config: Box::new(config.clone()), rebind, done });
        result.await.unwrap_or_else(|_| Err(GroupEnded.to_string()))
    }

    /// Bytes for the `iked` of another stack.
    pub fn relay(&self, to: String, bytes: Vec<u8>) {
        self.wish(Wish::Relay { to, bytes });
    }

    /// The coupling facility holds a ceiling of ours.
    pub fn ceiling(&self, dvipa: IpAddr, epoch: u64, highest: u64) {
        self.wish(Wish::Ceiling { dvipa, epoch, highest });
    }

    /// A new `iked` is to hear all that is known.
    pub fn greet(&self) {
        self.wish(Wish::Greet);
    }

    /// What was ignored, by reason.
    pub async fn refusals(&self) -> Vec<DropView> {
        let (reply, answer) = oneshot::channel();
        self.wish(Wish::Refusals(reply));
        answer.await.unwrap_or_default()
    }

    /// Says goodbye to the other stacks, and ends the task.
    pub async fn leave(&self) {
        let (done, result) = oneshot::channel();
        self.wish(Wish::Leave(done));
        // It may have ended before.
        let _ = result.await;
    }

    /// The next news for `iked`.
    ///
    /// # Errors
    /// When the task is over.
    pub async fn news(&mut self) -> Result<FromStack, GroupEnded> {
        self.news.recv().await.ok_or(GroupEnded)
    }

    /// [`GroupHandle::news`] says when the task is over.
    fn wish(&self, wish: Wish) {
        let _ = self.wishes.send(wish);
    }
}

/// Starts the group of this stack in a task of this thread, which is in the stack's namespace. `capacity` is the file of
/// the operator (see [`Capacity`]).
#[must_use]
pub fn start(
    start_id: u64,
    worker: WorkerHandle,
    reports: mpsc::Receiver<EngineReport>,
    capacity: PathBuf,
) -> GroupHandle {
    let (wishes, wished) = mpsc::unbounded_channel();
    let (news_sender, news) = mpsc::channel(NEWS);
    let shell = Shell {
        group: Group::new(start_id),
        worker,
        news: news_sender,
        news_lost: false,
        socket: None,
        dvipas: Vec::new(),
        listeners: Listeners::default(),
        capacity: Capacity::new(capacity),
        complained: false,
        send_failed: 0,
        relays_dropped: 0,
        out: Vec::with_capacity(MAX_DATAGRAM),
    };
    tokio::spawn(shell.run(wished, reports));
    GroupHandle { wishes, news }
}

#[derive(Debug)]
struct Shell {
    group: Group,
    worker: WorkerHandle,
    news: mpsc::Sender<FromStack>,
    /// News found no room; all is said again when there is.
    news_lost: bool,
    socket: Option<(Xcf, u32, UdpSocket)>,
    /// DVIPAs that applications of this host serve.
    dvipas: Vec<IpAddr>,
    listeners: Listeners,
    capacity: Capacity,
    complained: bool,
    send_failed: u64,
    relays_dropped: u64,
    out: Vec<u8>,
}

#[expect(clippy::disallowed_methods, reason = "the clock of the group enters here")]
fn now() -> Instant {
    Instant::now()
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(t) => tokio::time::sleep_until(t.into()).await,
        None => std::future::pending().await,
    }
}

async fn readable(socket: Option<&(Xcf, u32, UdpSocket)>) {
    match socket {
        // An error is one that an earlier send left; reading takes it away.
        Some((_, _, socket)) => drop(socket.readable().await),
        None => std::future::pending().await,
    }
}

impl Shell {
    /// Ends when the daemon or the worker does.
    async fn run(
        mut self,
        mut wished: mpsc::UnboundedReceiver<Wish>,
        mut reports: mpsc::Receiver<EngineReport>,
    ) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(REPORTS);
        loop {
            let deadline = self.group.poll_timeout();
            tokio::select! {
                biased;
                () = sleep_until(deadline) => {
                    // After a pause of this process: what members said meanwhile comes before they are judged.
                    self.receive(BACKLOG);
                    self.group.handle_timeout(now());
                }
                wish = wished.recv() => match wish {
                    Some(Wish::Leave(done)) => {
                        self.group.leave();
                        self.transmit();
                        // The daemon waits for it. Whoever says more now would be heard again.
                        let _ = done.send(());
                        return;
                    }
                    Some(wish) => self.obey(wish),
                    None => return,
                },
                () = readable(self.socket.as_ref()) => self.receive(BATCH),
                count = reports.recv_many(&mut batch, REPORTS) => {
                    if count == 0 {
                        return;
                    }
                    for report in batch.drain(..) {
                        self.group.handle_report(now(), report);
                    }
                }
                _ = look.tick() => self.look(),
            }
            if !self.settle() {
                return;
            }
        }
    }

    fn obey(&mut self, wish: Wish) {
        match wish {
            Wish::Configure { config, rebind, done } => {
                let result = self.configure(&config, rebind);
                // The daemon waits for it, unless it is ending.
                let _ = done.send(result);
            }
            Wish::Relay { to, bytes } => self.group.relay(&to, bytes),
            Wish::Ceiling { dvipa, epoch, highest } => self.group.set_ceiling(dvipa, epoch, highest),
            Wish::Greet => self.group.greet(),
            Wish::Refusals(reply) => {
                let mut views = self.group.refusals();
                let own = [("xcf_send_failed", self.send_failed), ("xcf_relay_dropped", self.relays_dropped)];
                views.extend(
                    own.into_iter()
                        .filter(|(_, n)| *n > 0)
                        .map(|(reason, packets)| DropView { reason: reason.into(), packets }),
                );
                let _ = reply.send(views);
            }
            // The end of the task, where it is received.
            Wish::Leave(_) => {}
        }
    }

    fn configure(&mut self, config: &StackConfig, rebind: bool) -> Result<(), String> {
        let wanted = config.xcf.as_ref().filter(|_| config.sysplex.is_some());
        let unchanged = match (&self.socket, wanted) {
            (Some((xcf, mark, _)), Some(wanted)) => xcf == wanted && *mark == config.mark && !rebind,
            (None, None) => true,
            _ => false,
        };
        if !unchanged {
            // One port cannot be had twice: the old socket goes first.
            self.socket = None;
            if let Some(xcf) = wanted {
                let local = SocketAddr::new(xcf.address, PORT);
                let socket = udp::bind_on(local, &xcf.interface, config.mark)
                    .map_err(std::io::Error::from)
                    .and_then(UdpSocket::from_std)
                    .map_err(|e| format!("no socket for messages on {local} at {} ({e})", xcf.interface))?;
                self.socket = Some((xcf.clone(), config.mark, socket));
            }
        }
        self.dvipas = config
            .home
            .iter()
            .filter(|h| !matches!(h.role, Role::Static | Role::Backup))
            .map(|h| h.address)
            .collect();
        self.group.configure(now(), config);
        self.look();
        Ok(())
    }

    /// Where servers listen, and how much this host can do.
    fn look(&mut self) {
        if self.socket.is_none() {
            return;
        }
        let capacity = self.capacity.look();
        match self.listeners.look(&self.dvipas) {
            Ok(ready) => {
                self.complained = false;
                self.group.set_ready(now(), ready, capacity);
            }
            Err(error) if !self.complained => {
                tracing::warn!("{error}");
                self.complained = true;
            }
            Err(_) => {}
        }
    }

    fn receive(&mut self, most: usize) {
        let Some((_, _, socket)) = &self.socket else { return };
        let mut buffer = [0; MAX_DATAGRAM + 1];
        for _ in 0..most {
            match socket.try_recv_from(&mut buffer) {
                Ok((length, source)) => {
                    self.group.handle_datagram(now(), source, &mut buffer[..length]);
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {}
            }
        }
    }

    fn transmit(&mut self) {
        while let Some(to) = self.group.poll_transmit(now(), &mut self.out) {
            // What does not go out is sent again, or is a heartbeat of many.
            let sent = self.socket.as_ref().map(|(_, _, s)| s.try_send_to(&self.out, to));
            if !matches!(sent, Some(Ok(_))) {
                self.send_failed += 1;
            }
        }
    }

    /// Carries out all that the group wants. False when nobody is left to hear of it.
    fn settle(&mut self) -> bool {
        self.transmit();
        let mut orders = Vec::new();
        while let Some(event) = self.group.poll_event() {
            match event {
                Event::ToEngine(order) => orders.push(order),
                Event::ToIked(news) => {
                    if !self.tell(news) {
                        return false;
                    }
                }
            }
        }
        if self.news_lost && self.news.capacity() > NEWS / 2 {
            self.news_lost = false;
            self.group.greet();
        }
        orders.is_empty() || self.worker.send(Command::Group(orders))
    }

    fn tell(&mut self, news: FromStack) -> bool {
        if let FromStack::Log { warning, text } = &news {
            if *warning {
                tracing::warn!("{text}");
            } else {
                tracing::info!("{text}");
            }
        }
        let relayed = matches!(news, FromStack::Relayed { .. });
        if relayed && self.news.max_capacity() - self.news.capacity() > RELAYED {
            self.relays_dropped += 1;
            return true;
        }
        match self.news.try_send(news) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.news_lost = true;
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}
