//! What is asked about DVIPAs: their state, their targets, their takeovers, and orders of an operator.
//!
//! The values are plain: the core fills them from the takeover machine, the coupling facility and its stacks; the
//! management interface writes them to the wire (docs/nmi.md sections 6.17 to 6.19 and 7.1).

use super::CoreError;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::oneshot;

/// A request about DVIPAs. `stack` is the stack that was asked, as configured (matched without regard to case); it
/// is active, but need not take part in any DVIPA.
#[derive(Debug)]
pub enum VipaRequest {
    /// The DVIPAs that the stack takes part in.
    Display {
        /// Stack name.
        stack: String,
        /// Answer: in the order of the configuration.
        reply: oneshot::Sender<Result<Vec<DvipaStatus>, CoreError>>,
    },
    /// The targets of these DVIPAs.
    Targets {
        /// Stack name.
        stack: String,
        /// Answer: by DVIPA, port range and target, in the order of the configuration.
        reply: oneshot::Sender<Result<Vec<TargetStatus>, CoreError>>,
    },
    /// The takeovers that the stack made or lost.
    History {
        /// Stack name.
        stack: String,
        /// Answer: the latest first.
        reply: oneshot::Sender<Result<Vec<TakeoverReport>, CoreError>>,
    },
    /// An order. Who gives it may control `stack`.
    Control {
        /// Stack name.
        stack: String,
        /// What.
        order: VipaOrder,
        /// One outcome for each object that the order stands for; at least one.
        reply: oneshot::Sender<Result<Vec<VipaOutcome>, CoreError>>,
    },
}

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VipaOrder {
    /// Another stack is to own a DVIPA: a planned takeover.
    Move {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack name of the new owner, as typed.
        to: String,
    },
    /// The owner gives a DVIPA up to a backup, and does not own it again until [`Self::Reactivate`].
    Deactivate(IpAddr),
    /// The stack may own it again.
    Reactivate(IpAddr),
    /// No new connections go to a target. Kept over restarts.
    Quiesce {
        /// Stack name of the target, as typed.
        target: String,
        /// Only for this DVIPA; `None`: for all that it is a target of.
        dvipa: Option<IpAddr>,
    },
    /// A target takes part again.
    Resume {
        /// Stack name of the target, as typed.
        target: String,
        /// As in [`Self::Quiesce`].
        dvipa: Option<IpAddr>,
    },
}

/// What became of an order, for one DVIPA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VipaOutcome {
    /// The DVIPA, if the order named one or was resolved to one.
    pub dvipa: Option<IpAddr>,
    /// The stack or target of the order.
    pub stack: Option<String>,
    /// Result.
    pub result: VipaResult,
    /// A sentence for the operator, if there is more to say.
    pub reason: Option<String>,
}

/// Result of an order (NMsVctStatus, docs/nmi.md section 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VipaResult {
    /// 1: no such DVIPA, or no such target of it.
    NotFound,
    /// 2: begun (move) or done.
    Started,
    /// 3: it is so already.
    AlreadySet,
    /// 4: that stack is neither owner nor backup.
    NotABackup,
    /// 5: that stack does not run, or is not ready.
    NotReady,
    /// 6: a takeover of the DVIPA is under way.
    Busy,
    /// 7: to be ordered on the owner's system.
    NotOwner,
    /// 8: it failed; the reason says why.
    Failed,
}

/// A DVIPA, seen from one stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DvipaStatus {
    /// The DVIPA.
    pub address: IpAddr,
    /// Its owner; `None`: nobody, or not known.
    pub owner: Option<Owner>,
    /// What the asked stack is for it.
    pub state: DvipaState,
    /// What becomes of its SAs at a takeover.
    pub mode: TakeoverMode,
    /// When it goes back to its preferred owner.
    pub giveback: GivebackMode,
    /// Whether a takeover would find everything.
    pub protection: Protection,
    /// The stacks that can own it; rank 0 is the preferred owner, then the backups in their order.
    pub backups: Vec<BackupStatus>,
    /// Connections in the owner's table; `None`: not known here.
    pub connections: Option<u64>,
    /// IKE SAs of the owner with this local endpoint, where it is a stack of this system.
    pub ike_sas: u32,
    /// Its child SAs.
    pub child_sas: u32,
    /// Of both, those whose record stands in the coupling facility.
    pub stored: u32,
    /// Of both, those whose record could not be written.
    pub failed: u32,
    /// Length of the owner's lease; `None`: it needs none.
    pub lease: Option<Duration>,
    /// Highest sequence number that the owner may send (continue).
    pub ceiling: Option<u64>,
}

/// Who owns a DVIPA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Stack.
    pub stack: String,
    /// Its system.
    pub system: String,
    /// Epoch.
    pub epoch: u64,
    /// Since when, in Unix seconds, if known.
    pub since_unix: Option<u64>,
    /// The owner before, if known.
    pub from: Option<String>,
}

/// What a stack is for a DVIPA (docs/nmi.md section 8.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DvipaState {
    /// Owner.
    Active,
    /// Can take it over.
    Backup,
    /// Gave it up; connections still end here.
    Moving,
    /// Gives it up.
    Quiescing,
    /// An operator took it away from this stack.
    Deactivated,
    /// Target only.
    Dest,
}

/// What becomes of the SAs at a takeover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeoverMode {
    /// New ones are negotiated.
    Renegotiate,
    /// They go on.
    Continue,
}

/// When a DVIPA goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivebackMode {
    /// As soon as the preferred owner is ready.
    Immediate,
    /// When no connection is left.
    WhenIdle,
    /// When an operator says so.
    Manual,
}

/// Whether the coupling facility has what a backup needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection {
    /// No owner here, or no coupling facility.
    NotApplicable,
    /// Every SA has its record.
    Stored,
    /// Some record could not be written; why.
    Failed(String),
    /// The coupling facility does not answer, or nobody could take over; why.
    NotProtected(String),
}

/// A stack that can own a DVIPA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupStatus {
    /// Stack.
    pub stack: String,
    /// Its system.
    pub system: String,
    /// Its place in the order, see [`DvipaStatus::backups`].
    pub rank: u16,
    /// Its state.
    pub state: BackupState,
}

/// Whether a stack could take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupState {
    /// Nothing was heard of it yet.
    Unknown,
    /// It runs, and has policy and IKE.
    Ready,
    /// It runs, and could not take over.
    NotReady,
    /// It ended, or was not heard in time.
    Gone,
}

/// A target of one port range of a DVIPA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetStatus {
    /// The DVIPA.
    pub dvipa: IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Ports: low and high.
    pub ports: (u16, u16),
    /// How a target is chosen.
    pub method: DistributionMethod,
    /// Stack.
    pub target: String,
    /// Its XCF address; `None`: it is the owner itself.
    pub xcf: Option<IpAddr>,
    /// Whether the XCF path works; `None`: not known here.
    pub path_up: Option<bool>,
    /// How long ago it was heard.
    pub heard: Option<Duration>,
    /// Listeners on these ports; `None`: not known here.
    pub ready: Option<u32>,
    /// Weight in use; `None`: the method has none.
    pub weight: Option<u32>,
    /// No new connections.
    pub quiesced: bool,
    /// Preferred in a hot standby.
    pub preferred: bool,
    /// Connections now and since the distributor started; `None`: the asked stack is not the owner.
    pub connections: Option<(u64, u64)>,
    /// Timed affinity; zero: none.
    pub affinity: Duration,
}

/// How a target is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DistributionMethod {
    /// In turn.
    RoundRobin,
    /// In proportion to weights.
    WeightedActive,
    /// One, the others stand by.
    HotStandby,
    /// By reported load.
    Wlm,
    /// By a consistent hash.
    Maglev,
}

/// A change of owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeoverReport {
    /// The DVIPA.
    pub dvipa: IpAddr,
    /// Old owner, if there was one.
    pub from: Option<String>,
    /// New owner.
    pub to: String,
    /// Its epoch.
    pub epoch: u64,
    /// Why.
    pub cause: TakeoverCause,
    /// How far it is.
    pub result: TakeoverResult,
    /// The SAs went on.
    pub mode: TakeoverMode,
    /// The old owner gave it up by itself.
    pub planned: bool,
    /// When it began, in Unix seconds.
    pub started_unix: u64,
    /// From its begin to its end, or to now.
    pub duration: Duration,
    /// From its begin to the moment at which the new owner could send the first packet.
    pub ready: Option<Duration>,
    /// Steps that were begun, in order.
    pub steps: Vec<StepTime>,
    /// Connections that targets reported.
    pub connections: u64,
    /// SAs that were to be taken over.
    pub sas: u32,
    /// Of these, negotiated anew.
    pub remade: u32,
    /// Of these, gone on with.
    pub continued: u32,
    /// Of these, given up.
    pub failed: u32,
    /// Of these, waiting for a peer that cannot be initiated.
    pub waiting: u32,
    /// What is to be said beside.
    pub reason: Option<String>,
}

/// A step of a takeover and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepTime {
    /// Which.
    pub step: TakeoverStep,
    /// From the begin of the takeover to that of the step.
    pub begin: Duration,
    /// How long it took, so far if it still runs.
    pub duration: Duration,
}

/// A step of a takeover (docs/nmi.md section 8.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TakeoverStep {
    /// The owner's end is noticed, or its lease runs out.
    Detect,
    /// The owner record is taken.
    Acquire,
    /// Records are read.
    Read,
    /// The old owner gives up, or its lease runs out.
    Relieve,
    /// Filters are installed.
    Filters,
    /// The address is announced.
    Announce,
    /// Targets re-route and report.
    Notify,
    /// Peers are negotiated with.
    Renegotiate,
    /// New records are written.
    Store,
    /// Old ones are removed.
    Clear,
    /// Done.
    Owner,
}

/// Why an owner changed (docs/nmi.md section 8.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeoverCause {
    /// There was none.
    Start,
    /// An operator said so.
    Operator,
    /// The configuration changed.
    Configuration,
    /// The preferred owner is back.
    Giveback,
    /// The owner stopped in an orderly way.
    OwnerStopped,
    /// The end of the owner's process was seen.
    OwnerEnded,
    /// The owner's lease ran out.
    LeaseEnded,
    /// The owner's daemon, or the store, began anew: the same owner at a new epoch.
    Restart,
    /// An operator deactivated it at its owner.
    Deactivated,
}

/// How far a takeover is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeoverResult {
    /// Under way.
    Running,
    /// Everything was taken over.
    Done,
    /// Some SAs were not.
    Incomplete,
    /// Another stack took it over meanwhile.
    Overtaken,
    /// It was given up.
    Failed,
}
