//! What a takeover did and how long each of its steps took: one line of the log, one entry of the ring.

use super::types::Time;
use crate::config::Name;
use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Takeovers that are remembered.
const REMEMBERED: usize = 64;

/// Why a DVIPA gets another owner, or the same one again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Cause {
    /// Nobody owned it.
    Start,
    /// The daemon of its owner, or the store, began anew.
    Restart,
    /// The process of the owner has ended.
    ProcessEnded,
    /// The life of the owner was not renewed.
    LeaseEnded,
    /// An operator moves it.
    Operator,
    /// An operator has deactivated it at its owner.
    Deactivated,
    /// It goes back to its preferred owner.
    Giveback,
    /// The system of the owner ends in good order.
    Stopping,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Restart => "restart",
            Self::ProcessEnded => "process ended",
            Self::LeaseEnded => "lease ended",
            Self::Operator => "operator",
            Self::Deactivated => "deactivated",
            Self::Giveback => "giveback",
            Self::Stopping => "orderly stop",
        })
    }
}

/// Steps in the order in which they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// From the first sign to the decision.
    Detect,
    /// Compare-and-swap of the owner record.
    Acquire,
    /// Reading the records.
    Read,
    /// The old owner gives up, or its lease runs out.
    Relieve,
    /// Filters in force: what must be protected is denied or queued.
    Filters,
    /// The stack is configured as owner and announces the address.
    Announce,
    /// Targets report their connections.
    Notify,
    /// Every peer has new SAs, or is reported.
    Renegotiate,
    /// New records stand.
    Store,
    /// Records of earlier epochs are gone.
    Clear,
}

impl Step {
    /// All, in order.
    pub const ALL: [Self; 10] = [
        Self::Detect,
        Self::Acquire,
        Self::Read,
        Self::Relieve,
        Self::Filters,
        Self::Announce,
        Self::Notify,
        Self::Renegotiate,
        Self::Store,
        Self::Clear,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Detect => "detect",
            Self::Acquire => "acquire",
            Self::Read => "read",
            Self::Relieve => "relieve",
            Self::Filters => "filters",
            Self::Announce => "announce",
            Self::Notify => "notify",
            Self::Renegotiate => "renegotiate",
            Self::Store => "store",
            Self::Clear => "clear",
        })
    }
}

/// What became of a record that an earlier owner left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There is a new SA in its place.
    Remade,
    /// The SA goes on at the new owner.
    Continued,
    /// The new SA's record stands in the place of the old one.
    Stored,
    /// The peer must begin; one sentence says why.
    Waiting(String),
    /// It could not be made again; one sentence says why.
    Failed(String),
    /// Nobody wants it any more (policy, lifetime); one sentence says why.
    Dropped(String),
}

/// How a takeover stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Under way.
    Running,
    /// Complete.
    Done,
    /// Complete but for peers that wait or failed.
    Incomplete,
    /// Another takeover came in between.
    Overtaken,
    /// The new owner ended.
    Failed,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Incomplete => "incomplete",
            Self::Overtaken => "overtaken",
            Self::Failed => "failed",
        })
    }
}

/// When a step began, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepTime {
    /// Step.
    pub step: Step,
    /// Since the beginning of the takeover.
    pub begin: Duration,
    /// `None`: under way.
    pub took: Option<Duration>,
}

/// Records of earlier owners, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub total: u32,
    /// With a new SA.
    pub remade: u32,
    /// Gone on with.
    pub continued: u32,
    /// Waiting for the peer.
    pub waiting: u32,
    /// Given up.
    pub failed: u32,
    /// Not wanted any more.
    pub dropped: u32,
}

/// One takeover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The DVIPA.
    pub dvipa: IpAddr,
    /// Owner before, if known.
    pub from: Option<Name>,
    /// New owner.
    pub to: Name,
    /// Its epoch; 0 until it is known.
    pub epoch: u64,
    /// Why.
    pub cause: Cause,
    /// The old owner gave it up by itself.
    pub planned: bool,
    /// The first sign.
    pub begun: Time,
    /// When it was complete.
    pub ended: Option<Time>,
    /// Steps, each once, in the order of their beginnings.
    pub steps: Vec<StepTime>,
    /// Records.
    pub counts: Counts,
    /// Connections in the rebuilt table.
    pub connections: u64,
    /// Targets that did not report.
    pub missing: usize,
    /// How it stands.
    pub progress: Progress,
    /// The first reason why it is incomplete.
    pub reason: Option<String>,
}

impl Entry {
    pub(super) const fn new(dvipa: IpAddr, from: Option<Name>, to: Name, cause: Cause, begun: Time) -> Self {
        Self {
            dvipa,
            from,
            to,
            epoch: 0,
            cause,
            planned: false,
            begun,
            ended: None,
            steps: Vec::new(),
            counts: Counts { total: 0, remade: 0, continued: 0, waiting: 0, failed: 0, dropped: 0 },
            connections: 0,
            missing: 0,
            progress: Progress::Running,
            reason: None,
        }
    }

    pub(super) fn begin(&mut self, step: Step, now: Time) {
        self.steps.push(StepTime { step, begin: now.saturating_sub(self.begun), took: None });
    }

    pub(super) fn end(&mut self, step: Step, now: Time) {
        let since = now.saturating_sub(self.begun);
        if let Some(t) = self.steps.iter_mut().find(|t| t.step == step && t.took.is_none()) {
            t.took = Some(since.saturating_sub(t.begin));
        }
    }

    /// From the first sign until the new owner could send and negotiate.
    #[must_use]
    pub fn ready(&self) -> Option<Duration> {
        let announce = self.steps.iter().find(|t| t.step == Step::Announce)?;
        Some(announce.begin + announce.took?)
    }

    /// From the first sign to the end, or to `now`.
    #[must_use]
    pub fn duration(&self, now: Time) -> Duration {
        self.ended.unwrap_or(now).saturating_sub(self.begun)
    }
}

/// The steps with their times in milliseconds, for the one line of the log.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, t) in self.steps.iter().enumerate() {
            let gap = if i == 0 { "" } else { " " };
            match t.took {
                Some(took) => write!(f, "{gap}{}={:.1}ms", t.step, took.as_secs_f64() * 1000.0)?,
                None => write!(f, "{gap}{}=open", t.step)?,
            }
        }
        Ok(())
    }
}

/// The last takeovers of this system, oldest first.
#[derive(Debug, Default)]
pub struct History {
    ring: VecDeque<Entry>,
}

impl History {
    pub(super) fn push(&mut self, entry: Entry) {
        if self.ring.len() == REMEMBERED {
            self.ring.pop_front();
        }
        self.ring.push_back(entry);
    }

    /// The newest entry of a DVIPA.
    pub(super) fn newest_mut(&mut self, dvipa: IpAddr) -> Option<&mut Entry> {
        self.ring.iter_mut().rev().find(|e| e.dvipa == dvipa)
    }

    /// Entries, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.ring.iter()
    }
}
