//! One DVIPA as this system sees it: what is known of its owner, and the step that is under way here.

use super::history::{Counts, Entry, Outcome};
use super::machine::Plan;
use super::types::{Known, Left, Time};
use crate::cf::RecordKey;
use crate::config::Name;
use std::collections::{BTreeMap, BTreeSet};

/// What the coupling facility says about the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// Nothing yet.
    Unknown,
    /// There is no owner record.
    Nobody,
    /// The owner record.
    Owned(Known),
}

/// The stack of this system that speaks for the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Serving {
    pub(super) stack: Name,
    pub(super) epoch: u64,
    /// The owner record says so.
    pub(super) recorded: bool,
    pub(super) since: Time,
    pub(super) from: Option<Name>,
}

/// What is under way here.
#[derive(Debug)]
pub(super) enum Step {
    Steady,
    Acquiring(Acquiring),
    Relieving(Relieving),
    Offering(Offering),
    GivingUp(GivingUp),
    Taking(Taking),
}

/// The owner record is asked for.
#[derive(Debug)]
pub(super) struct Acquiring {
    /// Who is to own it.
    pub(super) stack: Name,
    pub(super) asked: Time,
    /// Who gives it up as soon as the record is ours.
    pub(super) giver: Option<Giver>,
    /// Records that the giver sent, in case the coupling facility does not answer.
    pub(super) handed: Option<Vec<Left>>,
    /// The one before cannot speak any more: its process has ended, or its life was claimed over.
    pub(super) silent: bool,
    /// The keeper was told not to make the claim.
    pub(super) withdrawn: bool,
    pub(super) entry: Entry,
}

/// Who gives a DVIPA up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Giver {
    /// A stack of this system.
    Local(Name),
    /// A stack of another one, and its epoch.
    Remote(Name, u64),
}

/// The record is ours, the old owner may still speak.
#[derive(Debug)]
pub(super) struct Relieving {
    pub(super) stack: Name,
    pub(super) epoch: u64,
    pub(super) recorded: bool,
    pub(super) giver: Option<Giver>,
    /// From then on it does not, whatever it says.
    pub(super) until: Option<Time>,
    pub(super) records: Vec<Left>,
    pub(super) again: bool,
    pub(super) entry: Entry,
}

/// This owner has offered the DVIPA to a stack of another system.
#[derive(Debug)]
pub(super) struct Offering {
    pub(super) to: Name,
    pub(super) until: Time,
}

/// This owner tells its peers and gives the address up.
#[derive(Debug)]
pub(super) struct GivingUp {
    pub(super) stack: Name,
    pub(super) epoch: u64,
    /// Who waits for our word, if it is known.
    pub(super) to: Option<Name>,
    pub(super) until: Time,
}

/// This system's stack speaks; what an earlier owner had is made again.
#[derive(Debug)]
pub(super) struct Taking {
    pub(super) phase: Phase,
    pub(super) entry: Entry,
}

/// The first step that is not complete. Renegotiation begins with the first and goes on beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The stack is being configured as owner.
    Announcing,
    /// Targets report their connections, until then at the latest.
    Notifying(Time),
    /// Peers are negotiated with.
    Renegotiating,
    /// Records are written.
    Storing,
    /// Records of earlier epochs are removed.
    Clearing,
}

/// What earlier owners left, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Work {
    outcomes: BTreeMap<RecordKey, Option<Outcome>>,
    /// Those whose SA went on.
    continued: BTreeSet<RecordKey>,
}

impl Work {
    pub(super) fn new(records: Vec<Left>) -> Self {
        let outcomes = records.into_iter().map(|l| (l.key, l.outcome)).collect();
        Self { outcomes, continued: BTreeSet::new() }
    }

    /// More records, from elsewhere than the coupling facility.
    pub(super) fn add(&mut self, records: Vec<Left>) {
        for l in records {
            self.outcomes.entry(l.key).or_insert(l.outcome);
        }
    }

    /// Notes an outcome; false: nobody asked. A new SA is never forgotten for a failure that came late.
    pub(super) fn note(&mut self, key: RecordKey, outcome: Outcome) -> bool {
        let Some(now) = self.outcomes.get_mut(&key) else { return false };
        if outcome == Outcome::Continued {
            self.continued.insert(key);
        }
        let settled = |o: &Outcome| matches!(o, Outcome::Remade | Outcome::Stored | Outcome::Continued);
        let stays = now.as_ref().is_some_and(|n| match &outcome {
            Outcome::Stored => false,
            Outcome::Remade | Outcome::Continued => *n == Outcome::Stored,
            Outcome::Waiting(_) | Outcome::Failed(_) | Outcome::Dropped(_) => settled(n),
        });
        if !stays {
            *now = Some(outcome);
        }
        true
    }

    /// Every peer has new SAs or was reported.
    pub(super) fn renegotiated(&self) -> bool {
        self.outcomes.values().all(Option::is_some)
    }

    /// Every new SA has its record.
    pub(super) fn stored(&self) -> bool {
        !self.outcomes.values().any(|o| matches!(o, None | Some(Outcome::Remade | Outcome::Continued)))
    }

    /// Nothing waits for a peer.
    pub(super) fn nothing_waits(&self) -> bool {
        !self.outcomes.values().any(|o| matches!(o, None | Some(Outcome::Waiting(_) | Outcome::Failed(_))))
    }

    pub(super) fn counts(&self) -> Counts {
        let mut c = Counts::default();
        for (key, outcome) in &self.outcomes {
            c.total += 1;
            match outcome {
                None => {}
                Some(Outcome::Remade | Outcome::Stored) if self.continued.contains(key) => c.continued += 1,
                Some(Outcome::Remade | Outcome::Stored) => c.remade += 1,
                Some(Outcome::Continued) => c.continued += 1,
                Some(Outcome::Waiting(_)) => c.waiting += 1,
                Some(Outcome::Failed(_)) => c.failed += 1,
                Some(Outcome::Dropped(_)) => c.dropped += 1,
            }
        }
        c
    }

    /// The first sentence that says why something is not as it was.
    pub(super) fn reason(&self) -> Option<&str> {
        self.outcomes.values().find_map(|o| match o {
            Some(Outcome::Waiting(r) | Outcome::Failed(r)) => Some(r.as_str()),
            _ => None,
        })
    }
}

/// One DVIPA.
#[derive(Debug)]
pub(super) struct Dvipa {
    pub(super) plan: Plan,
    pub(super) record: Record,
    /// Highest epoch that was ever heard of.
    pub(super) highest: u64,
    /// Who spoke for the address last, as far as known.
    pub(super) current: Option<Known>,
    pub(super) serving: Option<Serving>,
    /// Stacks of this system with connections from the time when they owned it.
    pub(super) moving: BTreeSet<Name>,
    pub(super) step: Step,
    pub(super) work: Work,
    /// Records of earlier epochs go then, even if peers still wait.
    pub(super) clear_at: Option<Time>,
    /// Stacks of this system that are not to own it.
    pub(super) deactivated: BTreeSet<Name>,
    /// An operator chose the owner: it does not go back by itself.
    pub(super) held: bool,
    /// Connections at the owner of this system.
    pub(super) connections: Option<u64>,
    /// No claim and no offer before.
    pub(super) not_before: Time,
    /// The store was set back under this owner: it takes it again, whatever the store says.
    pub(super) reclaim: Option<Name>,
    /// Since when stacks of this system are waited for that may own it.
    pub(super) waits_since: Option<Time>,
    /// When the first sign of the owner's end was seen.
    pub(super) suspected: Option<Time>,
    /// Others promised this owner not to take it, and it promised others.
    pub(super) promised: Option<(Name, Time)>,
}

impl Dvipa {
    pub(super) const fn new(plan: Plan) -> Self {
        Self {
            plan,
            record: Record::Unknown,
            highest: 0,
            current: None,
            serving: None,
            moving: BTreeSet::new(),
            step: Step::Steady,
            work: Work { outcomes: BTreeMap::new(), continued: BTreeSet::new() },
            clear_at: None,
            deactivated: BTreeSet::new(),
            held: false,
            connections: None,
            not_before: Time::ZERO,
            reclaim: None,
            waits_since: None,
            suspected: None,
            promised: None,
        }
    }

    /// 0: preferred owner; `None`: it can never own it.
    pub(super) fn rank(&self, stack: &Name) -> Option<usize> {
        self.plan.candidates.iter().position(|c| c == stack)
    }

    /// The entry of what is under way, to be closed.
    pub(super) fn take_entry(&mut self) -> Option<Entry> {
        match std::mem::replace(&mut self.step, Step::Steady) {
            Step::Acquiring(a) => Some(a.entry),
            Step::Relieving(r) => Some(r.entry),
            Step::Taking(t) => Some(t.entry),
            Step::Steady | Step::Offering(_) | Step::GivingUp(_) => None,
        }
    }
}
