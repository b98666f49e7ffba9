//! The worker: one thread that owns the engine and every descriptor of the packet path, and runs to completion.
//!
//! ```text
//!   TUN ─────────┐                       ┌──► TUN
//!   UDP 500,4500 ┼─ epoll ─► Engine ─► Output ──► UDP (UDP_SEGMENT), raw ESP, GRE on XCF
//!   raw ESP, GRE ┘     ▲                 └──► events to the control thread: IKE, acquires, notices
//!   commands ──────────┘ (eventfd)
//! ```
//!
//! Each ready descriptor gives one batch; what it produced is sent before the next is read, while it is in the
//! cache. Nothing is allocated for a packet, and no lock is taken.

use crate::control::{Answer, DropView, FromStack, IkeDatagram, Question, StackConfig, ToStack, Xcf};
use crate::driver::batch::{RecvBatch, Sender};
use crate::driver::gre_udp::GreUdp;
use crate::driver::poll::{Poller, Waker};
use crate::driver::raw::{Family, RawHow, RawProtocol, RawSocket};
use crate::driver::tun::{HostBuffer, Tun};
use crate::driver::udp::{self, UdpHow, UdpSocket};
use crate::driver::{IKE_PORT, MAX_PACKET, NAT_T_PORT, Sent};
use crate::engine::io::{Output, RawArrival, UdpArrival};
use crate::engine::{Engine, Links};
use crate::listeners;
use crate::xcf::message::MAX_PAGE;
use crate::xcf::order::{EngineOrder, EngineReport};
use hashbrown::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc as events, oneshot};

/// Super-packets read from the TUN in one turn.
const HOST_BATCH: usize = 64;
/// Messages (each up to 64 KiB) read from a UDP socket in one turn.
const UDP_BATCH: usize = 8;
/// Messages read from a raw socket in one turn.
const RAW_BATCH: usize = 64;
/// Octets of output after which a turn sends what it has: it must still lie in the second-level cache.
const OUTPUT_BYTES: usize = 60_000;
/// Events that the control thread has not taken yet, at most.
pub const EVENT_QUEUE: usize = 4096;
/// Reports to the group that it has not taken yet, at most.
pub const REPORT_QUEUE: usize = 65_536;
/// How long a path MTU that the kernel told is not asked for again.
const MTU_QUESTION_INTERVAL: Duration = Duration::from_secs(1);
/// Four zero octets before an IKE message on port 4500 (RFC 3948 section 2.2).
const NON_ESP_MARKER: [u8; 4] = [0; 4];
/// A NAT keepalive (RFC 3948 section 2.3).
const KEEPALIVE: [u8; 1] = [0xff];

const TOKEN_COMMANDS: u64 = 0;
const TOKEN_TUN: u64 = 1;
const TOKEN_XCF: u64 = 2;
const TOKEN_GRE_UDP: u64 = 3;
/// Raw sockets have the tokens from here, in their order.
const TOKEN_RAW: u64 = 8;
/// UDP sockets have the tokens from here; none is used twice.
const TOKEN_UDP: u64 = 16;

/// What the control thread wants.
#[derive(Debug)]
pub enum Command {
    /// Put a configuration in force, of which the system's part is prepared. The answer is the reason of a failure.
    Configure {
        /// The configuration.
        config: Box<StackConfig>,
        /// MTUs.
        links: Links,
        /// The TUN, the first time.
        tun: Option<Tun>,
        /// Whether the XCF interface is another one than before, so that its socket is to be bound again.
        rebind_xcf: bool,
        /// Called back with the result.
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Any message of `iked` that concerns packets.
    Message(ToStack),
    /// What the other stacks said.
    Group(Vec<EngineOrder>),
    /// What `Hello` says of the engine.
    Greeting(oneshot::Sender<Greeting>),
}

/// The engine's part of [`crate::control::Hello`].
#[derive(Debug)]
pub struct Greeting {
    /// A configuration is in force.
    pub configured: bool,
    /// Epoch of the filter table in force.
    pub filter_epoch: u64,
    /// Inbound SPIs of the installed pairs.
    pub sas: Vec<u32>,
}

/// The control thread's end of a running worker.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    commands: mpsc::Sender<Command>,
    waker: Waker,
}

impl WorkerHandle {
    /// Gives the worker a command. False when it has ended.
    #[must_use]
    pub fn send(&self, command: Command) -> bool {
        let sent = self.commands.send(command).is_ok();
        self.waker.wake();
        sent
    }
}

/// Packets that got lost between engine and kernel, by reason; the names stand beside the engine's in
/// [`Answer::Drops`].
#[derive(Debug, Default)]
struct DriverDrops {
    /// A datagram that did not fit into its buffer, or had no usable sender.
    receive_unusable: u64,
    /// AH, which no SA of this version uses.
    ah_not_supported: u64,
    /// The send buffer stayed full.
    send_buffer_full: u64,
    /// The kernel refused to send (no route, no such address, a firewall).
    send_refused: u64,
    /// Larger than the interface takes, with DF.
    send_too_long: u64,
    /// No socket for the own address (any more).
    send_no_socket: u64,
    /// The kernel did not take what the stack gave back.
    host_refused: u64,
    /// Membership reports that the kernel sends on the TUN itself.
    host_chatter: u64,
    /// The control thread did not keep up.
    control_queue_full: u64,
    /// The group did not keep up with connections that came and went.
    group_queue_full: u64,
}

impl DriverDrops {
    fn view(&self) -> impl Iterator<Item = DropView> {
        [
            ("receive_unusable", self.receive_unusable),
            ("ah_not_supported", self.ah_not_supported),
            ("send_buffer_full", self.send_buffer_full),
            ("send_refused", self.send_refused),
            ("send_too_long", self.send_too_long),
            ("send_no_socket", self.send_no_socket),
            ("host_refused", self.host_refused),
            ("host_chatter", self.host_chatter),
            ("control_queue_full", self.control_queue_full),
            ("group_queue_full", self.group_queue_full),
        ]
        .into_iter()
        .filter(|(_, packets)| *packets > 0)
        .map(|(reason, packets)| DropView { reason: reason.to_owned(), packets })
    }

    fn count_send(&mut self, sent: Sent, packets: u64) {
        let slot = match sent {
            Sent::Done => return,
            Sent::TooLong => &mut self.send_too_long,
            Sent::Full => &mut self.send_buffer_full,
            Sent::Failed(_) => &mut self.send_refused,
        };
        *slot = slot.saturating_add(packets);
    }
}

/// Sockets of the network side that do not depend on a home address.
#[derive(Debug)]
struct Raw {
    family: Family,
    protocol: RawProtocol,
    socket: RawSocket,
}

/// The packet path of one stack.
#[derive(Debug)]
pub struct Worker {
    engine: Engine,
    out: Output,
    events: events::Sender<FromStack>,
    reports: events::Sender<EngineReport>,
    /// Reports found no room; the group is to hear of it.
    reports_lost: bool,
    drops: DriverDrops,
    mark: u32,
    next_token: u64,
    tun: Option<Tun>,
    udp: HashMap<SocketAddr, UdpSocket>,
    udp_tokens: HashMap<u64, SocketAddr>,
    raw: Vec<Raw>,
    xcf: Option<(Xcf, RawSocket)>,
    /// What goes to other stacks goes in UDP.
    gre_udp: Option<GreUdp>,
    asked_mtu: HashMap<IpAddr, Instant>,
    // Kept beside each other so that a turn borrows them apart from the sockets.
    host_buffer: HostBuffer,
    udp_batch: RecvBatch,
    raw_batch: RecvBatch,
    sender: Sender,
    datagram: Vec<u8>,
}

/// What a running worker says.
#[derive(Debug)]
pub struct Said {
    /// What is to be told to `iked`; ends when the worker does.
    pub events: events::Receiver<FromStack>,
    /// What is to be told to the other stacks.
    pub reports: events::Receiver<EngineReport>,
}

/// Starts the worker in a thread of its own, in the network namespace of the caller.
///
/// # Errors
/// When the process is out of descriptors or threads.
pub fn start(seed: u64) -> std::io::Result<(WorkerHandle, Said)> {
    let waker = Waker::new()?;
    let poller = Poller::new()?;
    poller.add(&waker, TOKEN_COMMANDS)?;
    let (command_sender, commands) = mpsc::channel();
    let (event_sender, events) = events::channel(EVENT_QUEUE);
    let (report_sender, reports) = events::channel(REPORT_QUEUE);
    let handle = WorkerHandle { commands: command_sender, waker: waker.clone() };
    std::thread::Builder::new().name("packets".into()).spawn(move || {
        let mut worker = Worker::new(seed, event_sender, report_sender);
        if let Err(error) = worker.run(poller, &waker, &commands) {
            tracing::error!(%error, "the packet path ended; nothing passes until the stack is started again");
        }
    })?;
    Ok((handle, Said { events, reports }))
}

/// The worker is over: nobody is left to command it.
struct Ended;

impl Worker {
    fn new(seed: u64, events: events::Sender<FromStack>, reports: events::Sender<EngineReport>) -> Self {
        Self {
            engine: Engine::new(seed),
            out: Output::default(),
            events,
            reports,
            reports_lost: false,
            drops: DriverDrops::default(),
            mark: 0,
            next_token: TOKEN_UDP,
            tun: None,
            udp: HashMap::new(),
            udp_tokens: HashMap::new(),
            raw: Vec::new(),
            xcf: None,
            gre_udp: None,
            asked_mtu: HashMap::new(),
            host_buffer: HostBuffer::default(),
            udp_batch: RecvBatch::new(UDP_BATCH, MAX_PACKET),
            raw_batch: RecvBatch::new(RAW_BATCH, MAX_PACKET),
            sender: Sender::default(),
            datagram: Vec::new(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the clock enters here, once a turn")]
    fn run(
        &mut self,
        mut poller: Poller,
        waker: &Waker,
        commands: &mpsc::Receiver<Command>,
    ) -> nix::Result<()> {
        loop {
            let before = Instant::now();
            let timeout = self.engine.poll_timeout().map(|t| t.saturating_duration_since(before));
            for token in poller.wait(timeout)? {
                let now = Instant::now();
                self.engine.set_boot_time(boot_time());
                match token {
                    TOKEN_COMMANDS => {
                        waker.clear();
                        if self.obey(now, &poller, commands).is_err() {
                            return Ok(());
                        }
                    }
                    TOKEN_TUN => self.read_host(now)?,
                    TOKEN_XCF => self.read_xcf(now),
                    TOKEN_GRE_UDP => self.read_gre_udp(now),
                    TOKEN_RAW..TOKEN_UDP => self.read_raw(now, token),
                    _ => self.read_udp(now, token),
                }
            }
            let now = Instant::now();
            self.engine.set_boot_time(boot_time());
            if self.engine.poll_timeout().is_some_and(|t| t <= now) {
                self.engine.handle_timeout(now, &mut self.out);
                self.engine.flush(now, &mut self.out);
                self.carry_out(now);
            }
        }
    }

    // ---- in ----

    /// A failure here is the end: without its TUN the stack protects nothing, and routing then discards all.
    fn read_host(&mut self, now: Instant) -> nix::Result<()> {
        for _ in 0..HOST_BATCH {
            let Some(tun) = &self.tun else { return Ok(()) };
            let Some((header, packet)) = tun.receive(&mut self.host_buffer)? else { break };
            if is_chatter(packet) {
                self.drops.host_chatter += 1;
                continue;
            }
            self.engine.handle_host(now, header, packet, &mut self.out);
            if self.out.bytes.len() >= OUTPUT_BYTES {
                self.engine.flush(now, &mut self.out);
                self.carry_out(now);
            }
        }
        self.carry_out(now);
        Ok(())
    }

    fn read_udp(&mut self, now: Instant, token: u64) {
        let Some(local) = self.udp_tokens.get(&token).copied() else { return };
        let Some(socket) = self.udp.get(&local) else { return };
        // An error here is one that an earlier send left at the socket; what arrives comes with the next turn.
        let count = socket.receive(&mut self.udp_batch).unwrap_or(0);
        for i in 0..count {
            let Some(datagram) = self.udp_batch.get(i) else {
                self.drops.receive_unusable += 1;
                continue;
            };
            let segment = datagram.segment.unwrap_or(datagram.bytes.len());
            let arrival = UdpArrival { local, remote: datagram.source, segment, tos: datagram.tos };
            self.engine.handle_udp(now, arrival, datagram.bytes, &mut self.out);
            if self.out.bytes.len() >= OUTPUT_BYTES {
                self.engine.flush(now, &mut self.out);
                self.carry_out(now);
            }
        }
        self.carry_out(now);
    }

    fn read_raw(&mut self, now: Instant, token: u64) {
        let index = usize::try_from(token - TOKEN_RAW).unwrap_or(usize::MAX);
        let Some(raw) = self.raw.get(index) else { return };
        let count = raw.socket.receive(&mut self.raw_batch).unwrap_or(0);
        for i in 0..count {
            let Some((arrival, packet)) = raw_arrival(&raw.socket, &mut self.raw_batch, i) else {
                self.drops.receive_unusable += 1;
                continue;
            };
            if raw.protocol == RawProtocol::Esp {
                self.engine.handle_esp(now, arrival, packet, &mut self.out);
            } else {
                self.drops.ah_not_supported += 1;
            }
        }
        self.carry_out(now);
    }

    fn read_xcf(&mut self, now: Instant) {
        let Some((_, socket)) = &self.xcf else { return };
        let count = socket.receive(&mut self.raw_batch).unwrap_or(0);
        for i in 0..count {
            let Some((arrival, packet)) = raw_arrival(socket, &mut self.raw_batch, i) else {
                self.drops.receive_unusable += 1;
                continue;
            };
            self.engine.handle_xcf(now, arrival, packet, &mut self.out);
        }
        self.carry_out(now);
    }

    fn read_gre_udp(&mut self, now: Instant) {
        let (Some(socket), Some((xcf, _))) = (&self.gre_udp, &self.xcf) else { return };
        let destination = xcf.address;
        let count = socket.receive(&mut self.udp_batch).unwrap_or(0);
        for i in 0..count {
            let Some(received) = self.udp_batch.get(i) else {
                self.drops.receive_unusable += 1;
                continue;
            };
            let segment = received.segment.unwrap_or(received.bytes.len()).max(1);
            let arrival = RawArrival { source: received.source.ip(), destination, tos: received.tos };
            for packet in received.bytes.chunks_mut(segment) {
                self.engine.handle_xcf(now, arrival, packet, &mut self.out);
            }
            if self.out.bytes.len() >= OUTPUT_BYTES {
                self.carry_out(now);
            }
        }
        self.carry_out(now);
    }

    // ---- out ----

    /// Ends a batch: does what the engine wants, and makes its output empty.
    fn carry_out(&mut self, now: Instant) {
        // What is still open for coalescing lies in the output, too.
        self.engine.flush(now, &mut self.out);
        let mut out = std::mem::take(&mut self.out);
        for packet in &out.host {
            let sent = self.tun.as_ref().map(|tun| tun.send(&out.bytes[packet.clone()]));
            if sent != Some(Sent::Done) {
                self.drops.host_refused += 1;
            }
        }
        let mut too_long = None;
        for send in &out.udp {
            let Some(socket) = self.udp.get_mut(&send.local) else {
                self.drops.send_no_socket += 1;
                continue;
            };
            let how = UdpHow { segment: send.segment, tos: send.tos, df: send.df };
            socket.send(
                &mut self.sender,
                send.remote,
                &out.bytes[send.range.clone()],
                how,
                |sent, packets| {
                    if sent == Sent::TooLong {
                        too_long = Some(send.remote.ip());
                    }
                    self.drops.count_send(sent, packets);
                },
            );
            if let Some(remote) = too_long.take() {
                self.learn_mtu(now, remote);
            }
        }
        for send in &out.raw {
            let family = Family::of(send.remote);
            let socket =
                self.raw.iter_mut().find(|r| r.family == family && r.protocol.number() == send.protocol);
            let Some(Raw { socket, .. }) = socket else {
                self.drops.send_no_socket += 1;
                continue;
            };
            let how = RawHow { source: Some(send.local), remote: send.remote, tos: send.tos, df: send.df };
            let sent = socket.send(&mut self.sender, how, &out.bytes[send.range.clone()]);
            self.drops.count_send(sent, 1);
            if sent == Sent::TooLong {
                self.learn_mtu(now, send.remote);
            }
        }
        let plain = match &mut self.gre_udp {
            Some(socket) => {
                let drops = &mut self.drops;
                socket.send(&mut self.sender, &out.xcf, &out.bytes, |sent, n| drops.count_send(sent, n));
                &[][..]
            }
            None => &out.xcf[..],
        };
        for send in plain {
            let Some((xcf, socket)) = &mut self.xcf else {
                self.drops.send_no_socket += 1;
                continue;
            };
            let how = RawHow { source: Some(xcf.address), remote: send.remote, tos: send.tos, df: false };
            let sent = socket.send(&mut self.sender, how, &out.bytes[send.range.clone()]);
            self.drops.count_send(sent, 1);
        }
        for datagram in out.ike.drain(..) {
            self.tell(FromStack::Ike(datagram));
        }
        for acquire in out.acquires.drain(..) {
            self.tell(FromStack::Acquire(acquire));
        }
        for (spi_in, notice) in out.sa_notices.drain(..) {
            self.tell(FromStack::Sa { spi_in, notice });
        }
        for event in out.events.drain(..) {
            self.tell(event);
        }
        for report in out.group.drain(..) {
            self.report(EngineReport::Said(report));
        }
        for (warning, text) in out.logs.drain(..) {
            if warning {
                tracing::warn!("{text}");
            } else {
                tracing::info!("{text}");
            }
            self.tell(FromStack::Log { warning, text });
        }
        out.clear();
        self.out = out;
    }

    /// The interface takes less than the engine believes: ask the kernel how much, and tell the engine.
    fn learn_mtu(&mut self, now: Instant, remote: IpAddr) {
        self.asked_mtu.retain(|_, asked| now.saturating_duration_since(*asked) < MTU_QUESTION_INTERVAL);
        if self.asked_mtu.try_insert(remote, now).is_err() {
            return;
        }
        if let Some(mtu) = udp::route_mtu(remote, self.mark) {
            self.engine.path_mtu(now, remote, mtu);
        }
    }

    fn tell(&mut self, event: FromStack) {
        if self.events.try_send(event).is_err() {
            self.drops.control_queue_full += 1;
        }
    }

    /// What does not find room is not repeated: the group has its owner ask for all connections anew.
    fn report(&mut self, report: EngineReport) {
        if self.reports_lost && self.reports.try_send(EngineReport::Lost).is_ok() {
            self.reports_lost = false;
        }
        if self.reports_lost || self.reports.try_send(report).is_err() {
            self.drops.group_queue_full += 1;
            self.reports_lost = true;
        }
    }

    // ---- commands ----

    fn obey(
        &mut self,
        now: Instant,
        poller: &Poller,
        commands: &mpsc::Receiver<Command>,
    ) -> Result<(), Ended> {
        loop {
            match commands.try_recv() {
                Ok(Command::Configure { config, links, tun, rebind_xcf, done }) => {
                    let result = self.configure(now, poller, &config, links, tun, rebind_xcf);
                    // The control thread waits for it, unless it is ending.
                    let _ = done.send(result);
                }
                Ok(Command::Greeting(reply)) => {
                    let _ = reply.send(Greeting {
                        configured: self.engine.configured(),
                        filter_epoch: self.engine.filter_epoch(),
                        sas: self.engine.installed_spis(),
                    });
                }
                Ok(Command::Group(orders)) => {
                    for order in orders {
                        self.handle_order(now, order);
                    }
                    self.carry_out(now);
                }
                Ok(Command::Message(message)) => {
                    self.handle_message(now, message);
                    self.carry_out(now);
                }
                Err(mpsc::TryRecvError::Empty) => return Ok(()),
                Err(mpsc::TryRecvError::Disconnected) => return Err(Ended),
            }
        }
    }

    fn handle_message(&mut self, now: Instant, message: ToStack) {
        match message {
            ToStack::SetFilters(set) => self.engine.set_filters(now, unix_seconds(), *set),
            ToStack::InstallSa(pair) => {
                let spi_in = pair.spi_in;
                if let Err(e) = self.engine.install_sa(now, unix_seconds(), *pair) {
                    self.tell(FromStack::Refused { reason: format!("SA {spi_in:#010x}: {e}") });
                }
            }
            ToStack::ActivateOutbound { spi_in } => self.engine.activate_outbound(spi_in),
            ToStack::RemoveSa { spi_in } => self.engine.remove_sa(spi_in),
            ToStack::RemoveAllSas => self.engine.remove_all_sas(),
            ToStack::AcquireFailed { id } => self.engine.acquire_failed(id, &mut self.out),
            ToStack::Ike(datagram) => {
                if self.engine.may_send_ike(datagram.local.ip()) {
                    self.send_ike(&datagram);
                }
            }
            ToStack::NatKeepalive { local, remote } => {
                if self.engine.may_send_ike(local.ip()) {
                    self.send_datagram(local, remote, &KEEPALIVE);
                }
            }
            ToStack::Ask { id, question } => {
                let mut answer = self.engine.answer(now, question);
                if let (Question::Drops, Some(Answer::Drops(drops))) = (question, &mut answer) {
                    drops.extend(self.drops.view());
                }
                match answer {
                    Some(answer) => self.tell(FromStack::Answer { id, answer }),
                    None => self.tell(FromStack::Refused {
                        reason: format!("question {id}: the engine has no answer to {question:?}"),
                    }),
                }
            }
            // The control thread's business; it does not pass them on.
            ToStack::Configure(_) | ToStack::Shutdown | ToStack::Relay { .. } => {}
            ToStack::Lease { until_boot_ns } => self.engine.lease(until_boot_ns),
            ToStack::Ceiling { dvipa, epoch, highest } => self.engine.ceiling(dvipa, epoch, highest),
        }
    }

    fn handle_order(&mut self, now: Instant, order: EngineOrder) {
        match order {
            EngineOrder::ListConnections { to, dvipa, epoch, from } => {
                let (entries, next) = self.engine.connections_of(dvipa, from, MAX_PAGE);
                self.report(EngineReport::Connections { to, dvipa, epoch, from, entries, next });
            }
            other => self.engine.handle_group(now, &other),
        }
    }

    fn send_ike(&mut self, message: &IkeDatagram) {
        let mut datagram = std::mem::take(&mut self.datagram);
        datagram.clear();
        if message.local.port() != IKE_PORT {
            datagram.extend_from_slice(&NON_ESP_MARKER);
        }
        datagram.extend_from_slice(&message.bytes);
        self.send_datagram(message.local, message.remote, &datagram);
        self.datagram = datagram;
    }

    fn send_datagram(&mut self, local: SocketAddr, remote: SocketAddr, bytes: &[u8]) {
        let Some(socket) = self.udp.get_mut(&local) else {
            self.drops.send_no_socket += 1;
            return;
        };
        // Without DF: an IKE message with certificates may need fragments (RFC 7296 section 2).
        let how = UdpHow { segment: bytes.len(), tos: 0, df: false };
        let drops = &mut self.drops;
        socket.send(&mut self.sender, remote, bytes, how, |sent, n| drops.count_send(sent, n));
    }

    // ---- configuration ----

    /// Opens what is new before it closes what is old, so that a failure leaves everything as it was.
    fn configure(
        &mut self,
        now: Instant,
        poller: &Poller,
        config: &StackConfig,
        links: Links,
        tun: Option<Tun>,
        rebind_xcf: bool,
    ) -> Result<(), String> {
        let failed = |e: nix::errno::Errno| format!("a descriptor cannot be waited for ({e})");
        // Kept whatever becomes of the rest: the routes lead into it already.
        if let Some(tun) = tun {
            poller.add(&tun, TOKEN_TUN).map_err(failed)?;
            self.tun = Some(tun);
        }
        let remarked = self.mark != config.mark;
        let mut opened = Vec::new();
        for home in &config.home {
            for port in [IKE_PORT, NAT_T_PORT] {
                let local = SocketAddr::new(home.address, port);
                if remarked {
                    // Two sockets cannot have one port: the old one has to go first.
                    self.udp.remove(&local);
                }
                if !self.udp.contains_key(&local) {
                    opened.push(UdpSocket::bind(local, config.mark).map_err(|e| {
                        format!("UDP {local} cannot be bound ({e}): is another IKE daemon running?")
                    })?);
                }
            }
        }
        let raw = if remarked || self.raw.is_empty() { Some(open_raw(config.mark)?) } else { None };
        let in_udp = config.xcf.is_some() && config.sysplex.as_ref().is_some_and(|s| s.gre_in_udp);
        let unchanged = self.xcf.as_ref().map(|(x, _)| x) == config.xcf.as_ref()
            && self.gre_udp.is_some() == in_udp
            && !rebind_xcf
            && !remarked;
        let xcf = match &config.xcf {
            Some(x) if !unchanged => Some(
                RawSocket::open(Family::of(x.address), RawProtocol::Gre, Some(&x.interface), config.mark)
                    .map_err(|e| format!("no GRE socket on the XCF interface {} ({e})", x.interface))?,
            ),
            _ => None,
        };
        let gre_udp = match &config.xcf {
            Some(x) if !unchanged && in_udp => {
                // Two sockets cannot have one port: the old one has to go first.
                self.gre_udp = None;
                let bound = GreUdp::bind(x.address, &x.interface, config.mark);
                Some(bound.map_err(|e| format!("no socket for GRE in UDP on {} ({e})", x.interface))?)
            }
            _ => None,
        };
        if let Some(raw) = raw {
            self.raw = raw;
            for (r, token) in self.raw.iter().zip(TOKEN_RAW..) {
                poller.add(&r.socket, token).map_err(failed)?;
            }
        }
        if !unchanged {
            self.xcf = config.xcf.clone().zip(xcf);
            if let Some((_, socket)) = &self.xcf {
                poller.add(socket, TOKEN_XCF).map_err(failed)?;
            }
            self.gre_udp = gre_udp;
            if let Some(socket) = &self.gre_udp {
                poller.add(socket, TOKEN_GRE_UDP).map_err(failed)?;
            }
        }
        for socket in opened {
            poller.add(&socket, self.next_token).map_err(failed)?;
            self.udp_tokens.insert(self.next_token, socket.local());
            self.next_token += 1;
            self.udp.insert(socket.local(), socket);
        }
        self.udp.retain(|local, _| config.home.iter().any(|h| h.address == local.ip()));
        self.udp_tokens.retain(|_, local| self.udp.contains_key(local));
        self.mark = config.mark;
        let first = !self.engine.configured();
        self.engine.configure(now, config, links);
        if first {
            // Applications may have gone on while the stack was restarted.
            let homes: Vec<IpAddr> = config.home.iter().map(|h| h.address).collect();
            match listeners::open_connections(&homes) {
                Ok(open) => self.engine.found_open(now, &open),
                Err(error) => tracing::warn!(%error, "connections that were open before are not known"),
            }
        }
        Ok(())
    }
}

/// Multicast that never leaves its link (RFC 5771 section 4, RFC 4291 section 2.7): on the TUN it is the kernel's own
/// IGMP and MLD, since routers do not forward it.
fn is_chatter(packet: &[u8]) -> bool {
    match packet.first().map(|b| b >> 4) {
        Some(4) => packet.get(16..19) == Some(&[224, 0, 0]),
        Some(6) => packet.get(24) == Some(&0xff) && packet.get(25).is_some_and(|scope| scope & 0x0f <= 2),
        _ => false,
    }
}

fn raw_arrival<'b>(
    socket: &RawSocket,
    batch: &'b mut RecvBatch,
    index: usize,
) -> Option<(RawArrival, &'b mut [u8])> {
    let received = batch.get(index)?;
    let source = received.source.ip();
    // An IPv4 raw socket gives the IP header, an IPv6 one a control message.
    let tos = if source.is_ipv4() { *received.bytes.get(1)? } else { received.tos };
    let (destination, payload) = socket.strip(received.bytes, received.destination)?;
    Some((RawArrival { source, destination, tos }, payload))
}

/// ESP and AH of both families; a kernel without IPv6 has none of that family.
fn open_raw(mark: u32) -> Result<Vec<Raw>, String> {
    let mut sockets = Vec::new();
    for family in Family::BOTH {
        for protocol in [RawProtocol::Esp, RawProtocol::Ah] {
            match RawSocket::open(family, protocol, None, mark) {
                Ok(socket) => sockets.push(Raw { family, protocol, socket }),
                Err(nix::errno::Errno::EAFNOSUPPORT) if family == Family::V6 => {}
                Err(e) => return Err(format!("no raw socket for {protocol:?} ({e}): CAP_NET_RAW is needed")),
            }
        }
    }
    Ok(sockets)
}

/// Nanoseconds of the clock that goes on while the host sleeps and that nobody sets; leases are told in it. The end of all
/// time, which no lease outlives, should the kernel not have it.
fn boot_time() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    time.map_or(u64::MAX, |t| u64::try_from(Duration::from(t).as_nanos()).unwrap_or(u64::MAX))
}

#[expect(clippy::disallowed_methods, reason = "the wall clock enters here; only views show it")]
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
