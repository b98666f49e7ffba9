//! The control thread of `stackd`: the control socket, the network namespace and the worker, brought together.
//!
//! ```text
//!   iked ══ control socket ══ daemon ──► netdev (netlink, sysctl)
//!                              │ ▲ │ ▲
//!                    commands  ▼ │ ▼ │ events, news
//!            worker (packets) ◄────► group_link ══ the other stacks
//! ```
//!
//! Nothing here is in the way of a packet: while it configures or waits, the worker goes on. It also goes on when
//! `iked` goes.

use crate::control::{Answer, DropView, FromStack, Hello, PROTOCOL_VERSION, Question, StackConfig, ToStack};
use crate::control_socket::{Connection, ConnectionEnd, ControlListener};
use crate::driver::tun::Tun;
use crate::engine::survey::{Finished, Survey};
use crate::engine::{Candidates, Links};
use crate::filter_compiler::Compiler;
use crate::framing;
use crate::group_link::{self, GroupHandle};
use crate::netdev::announce::Announcing;
use crate::netdev::{self, NetDev, links};
use crate::outbox::Outbox;
use crate::worker::{self, Command, Told, WorkerHandle};
use anyhow::{Context, anyhow, bail};
use futures_util::StreamExt;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

/// Changes of interfaces come in bursts; they are looked at together, this long after the first.
const LINK_SETTLE: Duration = Duration::from_millis(100);
/// When the rest of a configuration that only gives addresses up is done: after the questions of whoever takes them.
const FINISH: Duration = Duration::from_millis(5);

/// What `stackd` is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the stack.
    pub name: String,
    /// Path of the control socket.
    pub control: PathBuf,
}

/// Runs a stack until it is told to stop. The calling thread must be in the stack's network namespace.
///
/// # Errors
/// When it cannot start, or its packet path ended; what keeps clear packets in then stays in place.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let _only_one = lock_namespace()?;
    let listener = ControlListener::bind(&options.control)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (connection, handle, _) = rtnetlink::new_connection().context("no netlink socket")?;
    tokio::spawn(connection);
    let (monitor, _monitor_handle, mut link_messages) =
        rtnetlink::new_multicast_connection(&[MulticastGroup::Link]).context("no netlink socket")?;
    tokio::spawn(monitor);
    let (worker, worker::Said { mut events, reports }) =
        worker::start(random()?).context("the packet path cannot start")?;
    let state_file = options.control.with_extension("state");
    let start_id = random()?;
    let capacity = options.control.with_extension("capacity");
    let mut stack = Stack {
        group: group_link::start(start_id, worker.clone(), reports, capacity),
        netdev: NetDev::new(handle, &options.name, state_file),
        name: options.name,
        start_id,
        compiler: Compiler::start(worker.clone()).context("filters cannot be compiled")?,
        worker,
        outbox: Outbox::default(),
        config: None,
        refusals: Vec::new(),
        watched: Vec::new(),
        links: None,
        unfinished: None,
        announcing: Vec::new(),
        answers: JoinSet::new(),
    };
    let mut peer: Option<Connection> = None;
    let mut settle: Option<Instant> = None;
    tracing::info!(stack = %stack.name, socket = %options.control.display(), "ready");

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            accepted = listener.accept() => match accepted {
                Ok(connection) => {
                    if peer.is_some() {
                        tracing::info!("a new connection of iked replaces the one before");
                    }
                    peer = Some(stack.greet(connection, &mut events).await?);
                }
                Err(error) => {
                    // Out of descriptors, most likely: others have to be closed first.
                    tracing::warn!(%error, "a control connection cannot be accepted");
                    tokio::time::sleep(LINK_SETTLE).await;
                }
            },
            exchanged = exchange(&mut peer, &mut stack.outbox) => {
                match stack.converse(&mut peer, exchanged).await? {
                    Next::GoOn => {}
                    Next::Stop => break,
                }
            }
            event = events.recv() => match event {
                Some(told) => stack.hear(told, peer.is_some()),
                None => bail!("the packet path ended"),
            },
            news = stack.group.news() => {
                let news = news?;
                stack.report(news, peer.is_some());
            }
            Some(prepared) = stack.answers.join_next() => stack.answer(prepared)?,
            message = link_messages.next() => {
                let Some((message, _)) = message else { bail!("the kernel closed the netlink socket") };
                if settle.is_none() && stack.concerns_us(&message.payload) {
                    settle = Some(Instant::now() + LINK_SETTLE);
                }
            }
            () = sleep_until(stack.unfinished) => stack.finish_late(peer.is_some()).await,
            () = sleep_until(settle) => {
                settle = None;
                stack.links_changed(peer.is_some()).await;
            }
        }
    }
    tracing::info!(stack = %stack.name, "stopping");
    stack.group.leave().await;
    stack.announcing.clear();
    stack.netdev.remove().await.context("not everything could be removed")?;
    Ok(())
}

/// Waits for the connection, for ever if there is none.
async fn exchange(peer: &mut Option<Connection>, outbox: &mut Outbox) -> Result<(), ConnectionEnd> {
    match peer {
        Some(connection) => connection.exchange(outbox).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(t) => tokio::time::sleep_until(t).await,
        None => std::future::pending().await,
    }
}

/// Two stacks in one namespace would take each other's rules for their own. An abstract socket is one per network
/// namespace, and goes with its process.
fn lock_namespace() -> anyhow::Result<std::os::unix::net::UnixListener> {
    use std::os::linux::net::SocketAddrExt;
    let name = std::os::unix::net::SocketAddr::from_abstract_name("stackd")?;
    std::os::unix::net::UnixListener::bind_addr(&name)
        .map_err(|e| anyhow!("another stackd runs in this network namespace ({e})"))
}

/// The kernel's random numbers enter here; the engine gets a seed.
fn random() -> anyhow::Result<u64> {
    use rand::TryRng;
    rand::rngs::SysRng.try_next_u64().context("the kernel gives no random numbers")
}

enum Next {
    GoOn,
    Stop,
}

struct Stack {
    netdev: NetDev,
    group: GroupHandle,
    name: String,
    start_id: u64,
    worker: WorkerHandle,
    compiler: Compiler,
    outbox: Outbox,
    config: Option<StackConfig>,
    /// What the group ignored, when it was asked last.
    refusals: Vec<DropView>,
    /// The interfaces of the configuration as they were when it was put in force.
    watched: Vec<links::Link>,
    /// What the engine knows of the interfaces.
    links: Option<Links>,
    /// When the rest of a configuration is done that only gives addresses up: whoever takes them does not wait for it.
    unfinished: Option<Instant>,
    /// Announcements under way, and the addresses (with epochs) that were owned when they began.
    announcing: Vec<(BTreeSet<(IpAddr, u64)>, Announcing)>,
    /// Large answers, made from surveys in threads of their own: heartbeats wait for none.
    answers: JoinSet<Prepared>,
}

/// What became of a survey.
enum Prepared {
    /// The answer, encoded.
    Frame(Vec<u8>),
    /// There is none.
    Refused(FromStack),
    /// The engine has to decide.
    Judge { id: u64, candidates: Candidates },
}

fn prepare(id: u64, survey: Survey) -> Prepared {
    match survey.finish() {
        Finished::Candidates(candidates) => Prepared::Judge { id, candidates },
        Finished::Answer(answer) => {
            let mut frame = Vec::new();
            match framing::encode(&FromStack::Answer { id, answer }, &mut frame) {
                Ok(()) => Prepared::Frame(frame),
                Err(error) => Prepared::Refused(FromStack::Refused { reason: error.to_string() }),
            }
        }
    }
}

fn owners(config: &StackConfig) -> BTreeSet<(IpAddr, u64)> {
    config.home.iter().filter(|h| netdev::is_owned(h)).map(|h| (h.address, h.epoch)).collect()
}

impl Stack {
    /// Says who we are, first of all.
    async fn greet(
        &mut self,
        mut connection: Connection,
        events: &mut mpsc::Receiver<Told>,
    ) -> anyhow::Result<Connection> {
        // What is on its way was meant for nobody, or for the one before.
        while let Ok(told) = events.try_recv() {
            self.hear(told, false);
        }
        self.answers = JoinSet::new();
        self.outbox.disconnected();
        let (reply, greeting) = oneshot::channel();
        self.command(Command::Greeting(reply))?;
        let greeting = greeting.await.context("the packet path ended")?;
        connection.push(&FromStack::Hello(Hello {
            version: PROTOCOL_VERSION,
            name: self.name.clone(),
            start_id: self.start_id,
            configured: greeting.configured,
            filter_epoch: greeting.filter_epoch,
            sas: greeting.sas,
        }))?;
        self.group.greet();
        Ok(connection)
    }

    /// Obeys what arrived. A connection that is over is taken away; the stack goes on.
    async fn converse(
        &mut self,
        peer: &mut Option<Connection>,
        exchanged: Result<(), ConnectionEnd>,
    ) -> anyhow::Result<Next> {
        let mut result = exchanged;
        while result.is_ok() {
            let Some(connection) = peer else { return Ok(Next::GoOn) };
            match connection.next_message() {
                Ok(Some(ToStack::Shutdown)) => return Ok(Next::Stop),
                Ok(Some(message)) => self.obey(message).await?,
                Ok(None) => return Ok(Next::GoOn),
                Err(end) => result = Err(end),
            }
        }
        match result {
            Err(ConnectionEnd::Closed) => tracing::info!("iked is gone; packets go on"),
            Err(end) => tracing::warn!(%end, "the control connection ends; packets go on"),
            Ok(()) => {}
        }
        *peer = None;
        self.outbox.disconnected();
        self.answers = JoinSet::new();
        Ok(Next::GoOn)
    }

    async fn obey(&mut self, message: ToStack) -> anyhow::Result<()> {
        match message {
            ToStack::Configure(config) => {
                self.finish_late(true).await;
                let answer = match self.configure(*config).await {
                    Ok(warnings) => FromStack::Configured { warnings },
                    Err(error) => FromStack::Refused { reason: format!("configuration: {error:#}") },
                };
                self.outbox.push(answer, true);
            }
            ToStack::Ask { id, question: Question::Interfaces } => {
                let answer = match self.netdev.interfaces(self.config.as_ref()).await {
                    Ok(views) => FromStack::Answer { id, answer: Answer::Interfaces(views) },
                    Err(error) => FromStack::Refused { reason: format!("question {id}: {error}") },
                };
                self.outbox.push(answer, true);
            }
            ToStack::Relay { to, bytes } => self.group.relay(to, bytes),
            other => {
                match &other {
                    // Before the engine uses it: a backup that heard of it must not fall behind.
                    ToStack::Ceiling { dvipa, epoch, highest } => {
                        self.group.ceiling(*dvipa, *epoch, *highest)
                    }
                    ToStack::Ask { question: Question::Drops, .. } => {
                        self.refusals = self.group.refusals().await;
                    }
                    _ => {}
                }
                if !Compiler::takes(&other) {
                    self.command(Command::Message(other))?;
                } else if !self.compiler.send(other) {
                    bail!("the packet path has ended");
                }
            }
        }
        Ok(())
    }

    /// What the engine is to know of the interfaces, where a configuration only takes addresses from this stack and gives it
    /// none: another one waits until they are free.
    fn gives_up(&self, config: &StackConfig) -> Option<Links> {
        let before = self.config.as_ref()?;
        let (owned, left) = (owners(before), owners(config));
        let same = before.network == config.network && before.xcf == config.xcf;
        self.links.filter(|_| same && left.is_subset(&owned) && left != owned)
    }

    /// Puts a configuration in force, or goes back to the one before.
    async fn configure(&mut self, config: StackConfig) -> anyhow::Result<Vec<String>> {
        if config.name != self.name {
            bail!("it is for stack {}, this is {}", config.name, self.name);
        }
        let gives_up = self.gives_up(&config);
        let done = match gives_up {
            // What comes from now on is given on; that neighbours are not answered any more can wait.
            Some(links) => self.enforce(&config, links, None, false).await.map(|()| Vec::new()),
            None => self.try_configure(&config).await,
        };
        match done {
            Ok(warnings) => {
                self.unfinished = gives_up.map(|_| Instant::now() + FINISH);
                for w in &warnings {
                    tracing::warn!("{w}");
                }
                self.config = Some(config);
                Ok(warnings)
            }
            Err(error) => {
                if let Some(before) = self.config.clone()
                    && let Err(again) = self.try_configure(&before).await
                {
                    tracing::error!("nor can the configuration before be put back: {again:#}");
                }
                Err(error)
            }
        }
    }

    async fn try_configure(&mut self, config: &StackConfig) -> anyhow::Result<Vec<String>> {
        let begun = Instant::now();
        let prepared = self.netdev.prepare(config).await?;
        let ready = Instant::now();
        self.enforce(config, prepared.links, prepared.tun, prepared.rebind_xcf).await?;
        let enforced = Instant::now();
        let published = self.netdev.publish(config).await?;
        if !published.announcements.is_empty() {
            self.announcing.push((owners(config), Announcing::start(published.announcements)));
        }
        tracing::debug!(prepare = ?(ready - begun), enforce = ?(enforced - ready), publish = ?enforced.elapsed(),
            "configuration in force");
        self.watched = published.links;
        let mut warnings = prepared.warnings;
        warnings.extend(self.netdev.secure(config).await);
        Ok(warnings)
    }

    /// The part that counts for packets: from here on this stack is what the configuration says.
    async fn enforce(
        &mut self,
        config: &StackConfig,
        links: Links,
        tun: Option<Tun>,
        rebind_xcf: bool,
    ) -> anyhow::Result<()> {
        // What was announced and is another one's now, or is owned anew, is not repeated.
        let owners = owners(config);
        self.announcing.retain(|(announced, sending)| !sending.is_over() && announced.is_subset(&owners));
        let (done, result) = oneshot::channel();
        self.command(Command::Configure { config: Box::new(config.clone()), links, tun, rebind_xcf, done })?;
        result.await.context("the packet path ended")?.map_err(|reason| anyhow!(reason))?;
        // Before the addresses: targets turn round while the neighbours are told.
        self.group.configure(config, rebind_xcf).await.map_err(|reason| anyhow!(reason))?;
        self.links = Some(links);
        Ok(())
    }

    /// Finishes what [`Stack::configure`] left. There is no way back from it: others own these addresses by now.
    async fn finish_late(&mut self, connected: bool) {
        let (Some(_), Some(config)) = (self.unfinished.take(), self.config.clone()) else { return };
        match self.try_configure(&config).await {
            Ok(warnings) => warnings.iter().for_each(|w| tracing::warn!("{w}")),
            Err(e) => {
                let text = format!("of addresses that were given up something is left: {e:#}");
                tracing::warn!("{text}");
                self.outbox.push(FromStack::Log { warning: true, text }, connected);
            }
        }
    }

    /// Whether a message of the kernel tells of a change at an interface that the configuration names.
    fn concerns_us(&self, payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
        let NetlinkPayload::InnerMessage(message) = payload else { return false };
        let (link, gone) = match message {
            RouteNetlinkMessage::NewLink(m) => (links::parse(m), false),
            RouteNetlinkMessage::DelLink(m) => (links::parse(m), true),
            _ => return false,
        };
        let (Some(link), Some(config)) = (link, &self.config) else { return false };
        self.netdev.uses(config, &link) && (gone || !self.watched.contains(&link))
    }

    /// An interface came, went, or has another MTU: everything is put in force again.
    async fn links_changed(&mut self, connected: bool) {
        let Some(config) = self.config.clone() else { return };
        // Most messages tell of what our own changes did.
        if self.netdev.links(&config).await.is_ok_and(|now| now == self.watched) {
            return;
        }
        let (warning, text) = match self.try_configure(&config).await {
            Ok(_) => (false, "an interface changed; the configuration is adapted to it".to_owned()),
            Err(e) => {
                (true, format!("an interface changed, and the configuration does not fit any more: {e:#}"))
            }
        };
        tracing::info!("{text}");
        self.outbox.push(FromStack::Log { warning, text }, connected);
    }

    fn hear(&mut self, told: Told, connected: bool) {
        match told {
            Told::Message(message) => self.report(message, connected),
            Told::Surveyed { id, survey } if connected => {
                self.answers.spawn_blocking(move || prepare(id, survey));
            }
            Told::Surveyed { .. } => {}
        }
    }

    fn answer(&mut self, prepared: Result<Prepared, JoinError>) -> anyhow::Result<()> {
        match prepared {
            Ok(Prepared::Frame(frame)) => self.outbox.push_frame(frame),
            Ok(Prepared::Refused(message)) => self.outbox.push(message, true),
            Ok(Prepared::Judge { id, candidates }) => self.command(Command::Judge { id, candidates })?,
            Err(error) => tracing::error!("an answer to iked could not be made: {error}"),
        }
        Ok(())
    }

    /// Takes a message of the worker over into the outbox.
    fn report(&mut self, mut event: FromStack, connected: bool) {
        if let FromStack::Answer { answer: Answer::Drops(drops), .. } = &mut event {
            drops.append(&mut self.refusals);
            if self.outbox.dropped() > 0 {
                drops
                    .push(DropView { reason: "control_backlog_full".into(), packets: self.outbox.dropped() });
            }
        }
        self.outbox.push(event, connected);
    }

    fn command(&self, command: Command) -> anyhow::Result<()> {
        if self.worker.send(command) { Ok(()) } else { bail!("the packet path ended") }
    }
}
