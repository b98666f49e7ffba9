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

mod commands;
mod drops;
mod receive;
mod send;
mod sockets;

use crate::control::{FromStack, StackConfig, ToStack, Xcf};
use crate::driver::MAX_PACKET;
use crate::driver::batch::{RecvBatch, Sender};
use crate::driver::gre_udp::GreUdp;
use crate::driver::poll::{Poller, Waker};
use crate::driver::raw::{Family, RawProtocol, RawSocket};
use crate::driver::tun::{HostBuffer, Tun};
use crate::driver::udp::UdpSocket;
use crate::engine::filter::Table;
use crate::engine::io::Output;
use crate::engine::survey::Survey;
use crate::engine::{Candidates, Engine, Links};
use crate::filter_compiler::Exchanged;
use crate::xcf::order::{EngineOrder, EngineReport};
use drops::DriverDrops;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, mpsc};
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
    /// Put a filter table in force.
    Filters {
        /// The table, compiled.
        table: Arc<Table>,
        /// Where the one before goes.
        done: mpsc::Sender<Exchanged>,
    },
    /// What the other stacks said.
    Group(Vec<EngineOrder>),
    /// Filters among which the question `id` asks for the one that decides.
    Judge {
        /// The question.
        id: u64,
        /// The filters.
        candidates: Candidates,
    },
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

/// What the worker tells the control thread.
#[derive(Debug)]
pub enum Told {
    /// A message for `iked`.
    Message(FromStack),
    /// What the answer to a question is made from.
    Surveyed {
        /// The question.
        id: u64,
        /// Complete.
        survey: Survey,
    },
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
    events: events::Sender<Told>,
    reports: events::Sender<EngineReport>,
    /// Reports found no room; the group is to hear of it.
    reports_lost: bool,
    drops: DriverDrops,
    /// Answers in the making, by question.
    surveys: VecDeque<(u64, Survey)>,
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
    pub events: events::Receiver<Told>,
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
        // Before the first packet (threats T60).
        if let Err(error) = crate::driver::confine::this_thread() {
            tracing::warn!(%error, "the packet path is not confined: the kernel has no system call filters");
        }
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
    fn new(seed: u64, events: events::Sender<Told>, reports: events::Sender<EngineReport>) -> Self {
        Self {
            engine: Engine::new(seed),
            out: Output::default(),
            events,
            reports,
            reports_lost: false,
            drops: DriverDrops::default(),
            surveys: VecDeque::new(),
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
            let timeout = match self.surveys.is_empty() {
                true => self.engine.poll_timeout().map(|t| t.saturating_duration_since(before)),
                // Packets first, but no wait for them.
                false => Some(Duration::ZERO),
            };
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
            self.survey(now);
        }
    }

    /// Goes a step on with one of the answers in the making, in turn: a short one waits for no long one.
    fn survey(&mut self, now: Instant) {
        let Some((id, mut survey)) = self.surveys.pop_front() else { return };
        if self.engine.survey(now, &mut survey) {
            self.say(Told::Surveyed { id, survey });
        } else {
            self.surveys.push_back((id, survey));
        }
    }
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
