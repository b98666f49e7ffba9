//! The machine of one system: what it knows of the stacks, and the way of inputs to the DVIPA that they concern.

use super::dvipa::{Dvipa, Record, Step};
use super::history::{Entry, History, Progress};
use super::types::{Known, Output, Role, StackState, Time};
use crate::config::{Giveback, Name};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// How long an answer of the coupling facility is waited for where there is another way.
pub(super) const ANSWER: Duration = Duration::from_millis(500);
/// How long a stack of this system may take to give up before its process is ended.
pub(super) const GIVE_UP: Duration = Duration::from_secs(1);
/// How much earlier a better stack of another system is let begin where nobody ever owned the DVIPA.
pub(super) const FIRST_START: Duration = Duration::from_secs(2);
/// Without leases: how long a stack may be silent that may own a DVIPA.
pub(super) const SILENT: Duration = Duration::from_secs(12);
/// How long targets are waited for, beyond the stack's own limit.
pub(super) const REBUILD: Duration = Duration::from_secs(3);
/// How long a stack without connections goes on to give on what comes to an address that it gave up: neighbours and other
/// stacks learn of the new owner meanwhile.
pub(super) const STRAYS: Duration = Duration::from_secs(2);
/// How long an offer stands.
pub(super) const OFFER: Duration = Duration::from_secs(2);
/// After a refusal or a failed claim nothing is tried for so long.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// How long records are kept whose peers wait or failed (distributor.md R6).
pub(super) const LEFTOVERS: Duration = Duration::from_secs(30 * 60);
/// Without a lease: how much earlier a backup of a better rank is let try.
const RANK_STEP: Duration = Duration::from_millis(200);

/// What does not change.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This system.
    pub system: Name,
    /// How long an owner may speak after the last acknowledged renewal of its life; `None`: all stacks are of this
    /// system.
    pub lease: Option<Duration>,
}

/// A DVIPA as the configuration has it, the same on each system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The address.
    pub address: IpAddr,
    /// Preferred owner, then the backups by rank.
    pub candidates: Vec<Name>,
    /// When it goes back to the preferred owner.
    pub giveback: Giveback,
}

/// A stack of this system.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) state: StackState,
    /// Its process is another one than the one that was ready last: it has no filters yet.
    pub(super) fresh: bool,
    /// It became ready then: renewals that were sent before are another process's.
    pub(super) ready: Time,
    /// The last acknowledged renewal was sent then.
    pub(super) renewed: Time,
    /// When others are asked for their consent next, and what was asked.
    pub(super) asks: super::consent::Asks,
}

/// A stack of another system.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) system: Name,
    pub(super) revision: u64,
    /// When this revision was first seen.
    pub(super) seen: Time,
    pub(super) ended: bool,
}

/// Whether a stack of another system lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It does, or may; it is dead from then on unless something is seen.
    Until(Time),
    /// It has ended, or its lease has.
    Dead { since: Time, ended: bool, revision: u64 },
    /// Nothing can be said.
    Unknown,
}

/// Takeover decisions of one system. After each call the outputs are polled until there is none, and
/// [`Machine::deadline`] is asked again.
#[derive(Debug)]
pub struct Machine {
    pub(super) settings: Settings,
    pub(super) local: BTreeMap<Name, Local>,
    pub(super) remote: BTreeMap<Name, Remote>,
    pub(super) dvipas: BTreeMap<IpAddr, Dvipa>,
    /// Whether the coupling facility works; `None`: not known yet.
    pub(super) facility: Option<bool>,
    /// Everything in it was told, then.
    pub(super) synced: Option<Time>,
    pub(super) stopping: bool,
    pub(super) out: VecDeque<Output>,
    pub(super) history: History,
    wakes: BTreeSet<Time>,
}

impl Machine {
    /// A machine for these stacks of this system and these DVIPAs.
    #[must_use]
    pub fn new(
        settings: Settings,
        stacks: impl IntoIterator<Item = Name>,
        plans: impl IntoIterator<Item = Plan>,
    ) -> Self {
        let fresh = || Local {
            state: StackState::Unknown,
            fresh: false,
            ready: Time::ZERO,
            renewed: Time::ZERO,
            asks: super::consent::Asks::default(),
        };
        Self {
            settings,
            local: stacks.into_iter().map(|name| (name, fresh())).collect(),
            remote: BTreeMap::new(),
            dvipas: plans.into_iter().map(|p| (p.address, Dvipa::new(p))).collect(),
            facility: None,
            synced: None,
            stopping: false,
            out: VecDeque::new(),
            history: History::default(),
            wakes: BTreeSet::new(),
        }
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`Machine::on_time`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.wakes.first().copied()
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Time) {
        while self.wakes.first().is_some_and(|t| *t <= now) {
            self.wakes.pop_first();
        }
        for dvipa in self.addresses() {
            self.step_on_time(now, dvipa);
            self.end_moves(now, dvipa);
            self.consider(now, dvipa);
        }
        self.ask_for_consent(now);
    }

    /// Stacks that gave the DVIPA up, have no connection left and need not give on anything any more.
    fn end_moves(&mut self, now: Time, dvipa: IpAddr) {
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        let over: Vec<Name> =
            d.drained.iter().filter(|(_, until)| **until <= now).map(|(stack, _)| stack.clone()).collect();
        for stack in over {
            if d.has_moved(&stack) {
                self.out.push_back(Output::Configure);
            }
        }
    }

    /// What a stack of this system is for a DVIPA.
    #[must_use]
    pub fn role(&self, dvipa: IpAddr, stack: &Name) -> Role {
        let Some(d) = self.dvipas.get(&dvipa) else { return Role::Other { owner: None } };
        match &d.serving {
            Some(s) if s.stack == *stack && !self.local.get(stack).is_some_and(|l| l.fresh) => {
                Role::Owner { epoch: s.epoch }
            }
            _ if d.moving.contains(stack) => Role::Moving { owner: d.current.clone() },
            _ => Role::Other { owner: d.current.clone() },
        }
    }

    /// The stack of this system that speaks for a DVIPA, and its epoch.
    #[must_use]
    pub fn serving(&self, dvipa: IpAddr) -> Option<(&Name, u64)> {
        self.dvipas.get(&dvipa)?.serving.as_ref().map(|s| (&s.stack, s.epoch))
    }

    /// Takeovers of this system.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.dvipas.keys().copied().collect()
    }

    pub(super) fn wake(&mut self, at: Time) {
        self.wakes.insert(at);
    }

    pub(super) fn note(&mut self, dvipa: IpAddr, warning: bool, text: impl Into<String>) {
        self.out.push_back(Output::Note { dvipa, warning, text: text.into() });
    }

    /// A lease and a quarter: how long another clock is waited for.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.settings.lease.map(|l| l + l / 4)
    }

    /// How long a better backup is let try before a worse one does.
    pub(super) fn rank_step(&self) -> Duration {
        self.settings.lease.unwrap_or(RANK_STEP)
    }

    pub(super) fn is_local(&self, stack: &Name) -> bool {
        self.local.contains_key(stack)
    }

    pub(super) fn state(&self, stack: &Name) -> StackState {
        self.local.get(stack).map_or(StackState::Unknown, |l| l.state)
    }

    pub(super) fn life(&self, stack: &Name, now: Time) -> Life {
        let (Some(patience), Some(synced), Some(true)) = (self.patience(), self.synced, self.facility) else {
            return Life::Unknown;
        };
        let (since, revision) = match self.remote.get(stack) {
            Some(r) if r.ended => return Life::Dead { since: r.seen, ended: true, revision: r.revision },
            Some(r) => (r.seen, r.revision),
            None => (synced, 0),
        };
        let until = since + patience;
        if until <= now { Life::Dead { since, ended: false, revision } } else { Life::Until(until) }
    }

    /// The stack lives, as far as the coupling facility shows.
    pub(super) fn lives(&self, stack: &Name, now: Time) -> bool {
        self.remote.contains_key(stack) && matches!(self.life(stack, now), Life::Until(_))
    }

    /// Closes the entry of a takeover and remembers it.
    pub(super) fn close(&mut self, mut entry: Entry, now: Time, progress: Progress) {
        entry.progress = progress;
        entry.ended = Some(now);
        self.history.push(entry.clone());
        self.out.push_back(Output::Done(Box::new(entry)));
    }

    /// What is under way here for `dvipa` ends; its entry is closed.
    pub(super) fn abandon(&mut self, now: Time, dvipa: IpAddr, progress: Progress) {
        let entry = self.dvipas.get_mut(&dvipa).and_then(Dvipa::take_entry);
        if let Some(mut entry) = entry {
            if let Some(d) = self.dvipas.get(&dvipa)
                && entry.epoch > 0
            {
                entry.counts = d.work.counts();
            }
            self.close(entry, now, progress);
        }
    }

    /// Somebody's epoch was heard of.
    pub(super) fn learn(&mut self, dvipa: IpAddr, known: &Known) {
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        // An owner of long ago is heard of when the store was set back: whoever takes it anew still does.
        let stale = known.epoch < d.highest;
        d.highest = d.highest.max(known.epoch);
        let newer = d.current.as_ref().map_or(!stale, |c| c.epoch < known.epoch);
        if newer {
            d.current = Some(known.clone());
            (d.promised, d.reclaim) = (None, None);
            self.out.push_back(Output::Configure);
        }
    }

    /// Whether this system's part of a DVIPA stands still.
    #[must_use]
    pub fn is_steady(&self, dvipa: IpAddr) -> bool {
        self.dvipas.get(&dvipa).is_none_or(|d| matches!(d.step, Step::Steady))
    }

    /// The owner that the coupling facility has, if this system has seen it.
    pub(super) fn recorded(&self, dvipa: IpAddr) -> Option<&Known> {
        match &self.dvipas.get(&dvipa)?.record {
            Record::Owned(known) => Some(known),
            Record::Unknown | Record::Nobody => None,
        }
    }
}
