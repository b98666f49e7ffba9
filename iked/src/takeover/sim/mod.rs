//! Systems, their stacks, the coupling facility and the links between them, under one virtual clock.
//!
//! Everything that can go wrong between two machines goes wrong here: processes end or stop for a while, messages are
//! late, lost or doubled, the store is away, slow or cut off from some, an operator moves DVIPAs meanwhile. After each
//! event the invariants of [`World::check`] are looked at; at the end everything heals and [`World::settled`] must hold.

mod facility;
mod tests;
mod world;

use super::*;
use crate::config::{Giveback, Name};
use facility::{Facility, Keeper, Reply};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

const LEASE: Duration = Duration::from_millis(200);
/// Records that each DVIPA has from the beginning.
const RECORDS: u8 = 6;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn name(s: &str) -> Name {
    Name::parse(s).unwrap()
}

/// Where the bugs are that a test sows by hand, to see that they are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bugs {
    /// Some wait a quarter of the lease only.
    impatient: bool,
    /// The engine does not look at the lease.
    no_gate: bool,
    /// Records are cleared right after they were read.
    early_clear: bool,
}

/// What happens at a moment.
#[derive(Debug)]
enum Event {
    /// The machine's deadline.
    Wake { system: usize, incarnation: u64 },
    /// An input for a machine.
    Input { system: usize, incarnation: u64, input: Box<Input> },
    /// A message of `iked` reaches its stack.
    ToStack { stack: usize, start: u64, incarnation: u64, what: ToStack },
    /// The stack answers a configuration.
    Configured { stack: usize, start: u64, incarnation: u64 },
    /// An owner's heartbeat.
    Heartbeat { stack: usize, start: u64 },
    /// A relayed message reaches the other stack.
    Relayed { from: usize, to: usize, start: u64, message: Message },
    /// An operation reaches the store.
    Operation { system: usize, incarnation: u64, op: facility::Operation },
    /// Its answer reaches the keeper.
    Answer { system: usize, incarnation: u64, reply: Reply },
    /// The keeper's timer.
    Keep { system: usize, incarnation: u64 },
    /// An SA is negotiated.
    Negotiated { dvipa: IpAddr, id: u8, stack: usize, start: u64, epoch: u64 },
    /// A process that was stopped goes on.
    Resume { stack: usize },
    /// A process comes back.
    StartStack { stack: usize },
    /// The daemon has connected to it.
    Connected { stack: usize, start: u64, incarnation: u64 },
    /// A daemon comes back.
    StartSystem { system: usize },
    /// Something goes wrong.
    Fault,
    /// What went wrong for a while is well again.
    Heal(Heal),
}

#[derive(Debug, Clone, Copy)]
enum Heal {
    Store,
    Slow,
    Cut { system: usize },
    Link { a: usize, b: usize },
}

#[derive(Debug, Clone)]
enum ToStack {
    Configure(BTreeMap<IpAddr, Role>),
    Lease(Time),
}

/// A `stackd`.
struct Stack {
    name: Name,
    system: usize,
    up: bool,
    start: u64,
    /// The start that its `iked` is connected to.
    link: u64,
    paused_until: Time,
    /// Its filters are in force.
    filters: bool,
    roles: BTreeMap<IpAddr, Role>,
    lease: Time,
    /// What the core waits for: one list for each configuration that is not answered.
    unanswered: VecDeque<Vec<Input>>,
    beats: bool,
    /// What waits while the process is stopped.
    held: Vec<Event>,
    /// Order on the control socket, both ways.
    last_down: Time,
    last_up: Time,
}

/// An `iked`.
struct System {
    name: Name,
    up: bool,
    incarnation: u64,
    paused_until: Time,
    /// Its clock runs so much faster, in thousandths.
    drift: i32,
    machine: Machine,
    keeper: Keeper,
    held: Vec<Event>,
    wake: Option<Time>,
    stopping: bool,
    last_answer: Time,
    last_seen: Time,
}

struct World {
    now: Time,
    number: u64,
    events: BTreeMap<(Time, u64), Event>,
    rng: StdRng,
    seed: u64,
    leased: bool,
    systems: Vec<System>,
    stacks: Vec<Stack>,
    plans: Vec<Plan>,
    store: Facility,
    /// Pairs of stacks that do not hear each other.
    cut: BTreeSet<(usize, usize)>,
    last_relayed: BTreeMap<(usize, usize), Time>,
    /// Who spoke at which epoch.
    spoke: BTreeMap<(IpAddr, u64), usize>,
    /// SAs: where they live now.
    live: BTreeMap<(IpAddr, u8), (usize, u64, u64)>,
    /// What was reported of a record at an epoch.
    reported: BTreeMap<(IpAddr, u8), u64>,
    faults: bool,
    bugs: Bugs,
    /// Ends this system when its machine has said so many things.
    crash_at: Option<(usize, u64)>,
    said: Vec<u64>,
    done: Vec<Entry>,
    trace: Vec<String>,
    claimed_numbers: BTreeMap<u64, (IpAddr, Name, u64)>,
}
