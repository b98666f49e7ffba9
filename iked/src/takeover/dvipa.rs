//! One DVIPA as this system sees it: what is known of its owner, and the step that is under way here.

use super::history::{Counts, Entry, Outcome};
use super::machine::Plan;
use super::types::{Known, Left, Time};
use crate::cf::RecordKey;
use crate::config::Name;
use std::collections::btree_map::Entry as Place;
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

/// What earlier owners left, and what became of it. Thousands of records come one by one: how many are how far is kept, not
/// counted anew for each.
#[derive(Debug, Default)]
pub(super) struct Work {
    outcomes: BTreeMap<RecordKey, Option<Outcome>>,
    /// Those whose SA went on.
    continued: BTreeSet<RecordKey>,
    counts: Counts,
    /// Nothing has become of them yet.
    open: u32,
    /// A new SA without a record.
    unstored: u32,
}

impl Work {
    pub(super) fn new(records: Vec<Left>) -> Self {
        let mut work = Self::default();
        work.add(records);
        work
    }

    /// More records, from elsewhere than the coupling facility.
    pub(super) fn add(&mut self, records: Vec<Left>) {
        for Left { key, outcome } in records {
            if let Place::Vacant(place) = self.outcomes.entry(key) {
                place.insert(outcome);
                self.counts.total = self.counts.total.saturating_add(1);
                self.weigh(key, u32::saturating_add);
            }
        }
    }

    /// Notes an outcome; false: nobody asked. A new SA is never forgotten for a failure that came late.
    pub(super) fn note(&mut self, key: RecordKey, outcome: Outcome) -> bool {
        let Some(now) = self.outcomes.get(&key) else { return false };
        let settled = |o: &Outcome| matches!(o, Outcome::Remade | Outcome::Stored | Outcome::Continued);
        let stays = now.as_ref().is_some_and(|n| match &outcome {
            Outcome::Stored => false,
            Outcome::Remade | Outcome::Continued => *n == Outcome::Stored,
            Outcome::Waiting(_) | Outcome::Failed(_) | Outcome::Dropped(_) => settled(n),
        });
        self.weigh(key, u32::saturating_sub);
        if outcome == Outcome::Continued {
            self.continued.insert(key);
        }
        if !stays {
            self.outcomes.insert(key, Some(outcome));
        }
        self.weigh(key, u32::saturating_add);
        true
    }

    /// Puts a record into the counts, or takes it out of them.
    fn weigh(&mut self, key: RecordKey, change: fn(u32, u32) -> u32) {
        let Some(outcome) = self.outcomes.get(&key) else { return };
        if matches!(outcome, Some(Outcome::Remade | Outcome::Continued)) {
            self.unstored = change(self.unstored, 1);
        }
        let c = &mut self.counts;
        let place = match outcome {
            None => &mut self.open,
            Some(Outcome::Remade | Outcome::Stored) if self.continued.contains(&key) => &mut c.continued,
            Some(Outcome::Remade | Outcome::Stored) => &mut c.remade,
            Some(Outcome::Continued) => &mut c.continued,
            Some(Outcome::Waiting(_)) => &mut c.waiting,
            Some(Outcome::Failed(_)) => &mut c.failed,
            Some(Outcome::Dropped(_)) => &mut c.dropped,
        };
        *place = change(*place, 1);
    }

    /// Every peer has new SAs or was reported.
    pub(super) const fn renegotiated(&self) -> bool {
        self.open == 0
    }

    /// Every new SA has its record.
    pub(super) const fn stored(&self) -> bool {
        self.open == 0 && self.unstored == 0
    }

    /// Nothing waits for a peer.
    pub(super) const fn nothing_waits(&self) -> bool {
        self.open == 0 && self.counts.waiting == 0 && self.counts.failed == 0
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
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
    /// Those of them whose last connection has ended, and until when they go on to give on what still comes to them.
    pub(super) drained: BTreeMap<Name, Time>,
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
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            record: Record::Unknown,
            highest: 0,
            current: None,
            serving: None,
            moving: BTreeSet::new(),
            drained: BTreeMap::new(),
            step: Step::Steady,
            work: Work::default(),
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

    /// A stack of this system gave the address up: what ends there goes on.
    pub(super) fn begins_to_move(&mut self, stack: &Name) {
        self.moving.insert(stack.clone());
        self.drained.remove(stack);
    }

    /// A stack has nothing more to do with what it gave up. True: it had.
    pub(super) fn has_moved(&mut self, stack: &Name) -> bool {
        self.drained.remove(stack);
        self.moving.remove(stack)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cf::record::RecordId;
    use proptest::prelude::*;

    fn outcome(n: u8) -> Outcome {
        match n {
            0 => Outcome::Remade,
            1 => Outcome::Stored,
            2 => Outcome::Continued,
            3 => Outcome::Waiting("it must begin".into()),
            4 => Outcome::Failed("it does not answer".into()),
            _ => Outcome::Dropped("its life is over".into()),
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_one_would_count(news in prop::collection::vec((0u8..8, 0u8..6), 0..60)) {
            let key = |n: u8| RecordKey::Phase2(RecordId([n; 16]));
            let mut work = Work::new((0..6).map(|n| Left { key: key(n), outcome: None }).collect());
            // One that is known already changes nothing.
            work.add(vec![Left { key: key(0), outcome: Some(outcome(5)) }, Left { key: key(6), outcome: Some(outcome(3)) }]);
            for (n, o) in news {
                prop_assert_eq!(work.note(key(n), outcome(o)), n < 7);
            }
            let of = |wanted: fn(&Option<Outcome>, bool) -> bool| {
                let all = work.outcomes.iter();
                u32::try_from(all.filter(|(k, o)| wanted(o, work.continued.contains(*k))).count()).unwrap()
            };
            let expected = Counts {
                total: 7,
                remade: of(|o, c| !c && matches!(o, Some(Outcome::Remade | Outcome::Stored))),
                continued: of(|o, c| {
                    matches!(o, Some(Outcome::Continued)) || c && matches!(o, Some(Outcome::Remade | Outcome::Stored))
                }),
                waiting: of(|o, _| matches!(o, Some(Outcome::Waiting(_)))),
                failed: of(|o, _| matches!(o, Some(Outcome::Failed(_)))),
                dropped: of(|o, _| matches!(o, Some(Outcome::Dropped(_)))),
            };
            prop_assert_eq!(work.counts(), expected);
            prop_assert_eq!(work.renegotiated(), of(|o, _| o.is_none()) == 0);
            let unstored = of(|o, _| matches!(o, None | Some(Outcome::Remade | Outcome::Continued)));
            prop_assert_eq!(work.stored(), unstored == 0);
        }
    }
}
