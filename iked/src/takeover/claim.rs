//! From the first sign to the owner record: who takes a DVIPA, when, and over whom.

use super::dvipa::{Acquiring, Giver, Offering, Record, Relieving, Step};
use super::history::{Cause, Entry, Progress, Step as StepName};
use super::machine::{ANSWER, FIRST_START, GIVE_UP, Life, Machine, OFFER, PAUSE, SILENT};
use super::types::{ClaimFailure, Expected, Known, Left, Message, Output, Over, StackState, Time};
use crate::config::{Giveback, Name};
use std::net::IpAddr;

/// A claim to be made.
pub(super) struct Wish {
    pub(super) stack: Name,
    pub(super) cause: Cause,
    pub(super) begun: Time,
    pub(super) expected: Expected,
    pub(super) over: Option<Over>,
    pub(super) giver: Option<Giver>,
    pub(super) handed: Option<Vec<Left>>,
    pub(super) silent: bool,
}

impl Wish {
    pub(super) const fn new(stack: Name, cause: Cause, begun: Time, expected: Expected) -> Self {
        Self { stack, cause, begun, expected, over: None, giver: None, handed: None, silent: false }
    }
}

impl Machine {
    /// Looks whether something is to be done for a DVIPA for which nothing is.
    pub(super) fn consider(&mut self, now: Time, dvipa: IpAddr) {
        let Some(d) = self.dvipas.get(&dvipa) else { return };
        if !matches!(d.step, Step::Steady) || self.stopping {
            return;
        }
        if d.not_before > now {
            let at = d.not_before;
            return self.wake(at);
        }
        match d.serving.as_ref().map(|s| (s.stack.clone(), s.epoch)) {
            Some((stack, epoch)) => match self.state(&stack) {
                StackState::Ended => self.hand_on(now, dvipa, &stack, epoch),
                StackState::Ready => self.consider_giveback(now, dvipa, &stack),
                StackState::Unknown | StackState::Lost | StackState::Starting | StackState::Configured => {}
            },
            None => self.consider_vacant(now, dvipa),
        }
    }

    /// The best stack of this system that could take a DVIPA, and how many live ones of others are better.
    fn best(&self, now: Time, dvipa: IpAddr) -> Option<(Name, u32)> {
        let d = self.dvipas.get(&dvipa)?;
        let fit = |c: &Name| self.state(c) == StackState::Ready && !d.deactivated.contains(c);
        let rank = d.plan.candidates.iter().position(fit)?;
        let better = d.plan.candidates.iter().take(rank).filter(|c| self.lives(c, now)).count();
        Some((d.plan.candidates.get(rank)?.clone(), u32::try_from(better).unwrap_or(u32::MAX)))
    }

    /// The owner's process, of this system, has ended.
    fn hand_on(&mut self, now: Time, dvipa: IpAddr, old: &Name, epoch: u64) {
        let Some((stack, better)) = self.best(now, dvipa) else { return };
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        let begun = *d.suspected.get_or_insert(now);
        let at = begun + self.rank_step() * better;
        if at > now {
            return self.wake(at);
        }
        let expected = self.expect_own(dvipa, old, epoch);
        // Should it come back meanwhile, it comes back as a backup.
        if let Some(d) = self.dvipas.get_mut(&dvipa) {
            d.serving = None;
        }
        let mut wish = Wish::new(stack, Cause::ProcessEnded, begun, expected);
        wish.silent = true;
        self.claim(now, dvipa, wish);
    }

    /// What the record should be if a stack of this system owns the DVIPA.
    fn expect_own(&self, dvipa: IpAddr, stack: &Name, epoch: u64) -> Expected {
        let recorded = self.dvipas.get(&dvipa).and_then(|d| d.serving.as_ref()).is_some_and(|s| s.recorded);
        if self.settings.lease.is_none() || !recorded {
            Expected::Any
        } else {
            Expected::Owner(stack.clone(), epoch)
        }
    }

    fn consider_giveback(&mut self, now: Time, dvipa: IpAddr, owner: &Name) {
        let Some(d) = self.dvipas.get(&dvipa) else { return };
        let Some(preferred) = d.plan.candidates.first().cloned() else { return };
        let wanted = match d.plan.giveback {
            Giveback::Immediate => true,
            Giveback::WhenIdle => d.connections == Some(0),
            Giveback::Manual => false,
        };
        let fit = match self.is_local(&preferred) {
            true => self.state(&preferred) == StackState::Ready && !d.deactivated.contains(&preferred),
            false => self.lives(&preferred, now),
        };
        let works = self.facility != Some(false);
        if wanted && fit && works && !d.held && preferred != *owner {
            self.move_to(now, dvipa, &preferred, Cause::Giveback);
        }
    }

    /// Without leases: whether every stack that may have owned it has been told that it does not, or has ended.
    fn others_know(&mut self, now: Time, dvipa: IpAddr) -> bool {
        let Some(d) = self.dvipas.get(&dvipa) else { return false };
        let unknown = |c: &&Name| {
            self.local.get(*c).is_some_and(|l| {
                !l.fresh && matches!(l.state, StackState::Unknown | StackState::Lost | StackState::Starting)
            })
        };
        let waits: Vec<Name> = d.plan.candidates.iter().filter(unknown).cloned().collect();
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return false };
        if self.settings.lease.is_some() || waits.is_empty() {
            d.waits_since = None;
            return true;
        }
        let until = *d.waits_since.get_or_insert(now) + SILENT;
        if until <= now {
            d.waits_since = None;
            for stack in waits {
                self.note(
                    dvipa,
                    true,
                    format!("stack {stack} is silent and may own it: its process is ended"),
                );
                self.out.push_back(Output::Kill { stack });
            }
            self.wake(now + SILENT);
        } else {
            self.wake(until);
        }
        false
    }

    /// No stack of this system speaks for the address.
    fn consider_vacant(&mut self, now: Time, dvipa: IpAddr) {
        let Some((best, better)) = self.best(now, dvipa) else { return };
        if !self.others_know(now, dvipa) {
            return;
        }
        let Some(d) = self.dvipas.get(&dvipa) else { return };
        if self.facility == Some(false) {
            if self.settings.lease.is_none() {
                self.own_unrecorded(now, dvipa, best);
            }
            return;
        }
        let owner = match &d.record {
            Record::Unknown => return,
            Record::Nobody => {
                // Nothing is interrupted yet: the better ones may come up first.
                let before = d.plan.candidates.iter().take_while(|c| **c != best);
                let better = u32::try_from(before.filter(|c| !self.is_local(c)).count()).unwrap_or(u32::MAX);
                let at = self.synced.unwrap_or(now) + self.rank_step().max(FIRST_START) * better;
                if at > now {
                    return self.wake(at);
                }
                return self.claim(now, dvipa, Wish::new(best, Cause::Start, now, Expected::Nobody));
            }
            Record::Owned(owner) => owner.clone(),
        };
        let expected = Expected::Owner(owner.stack.clone(), owner.epoch);
        if let Some(stack) = d.reclaim.clone().filter(|s| self.state(s) == StackState::Ready) {
            return self.claim(now, dvipa, Wish::new(stack, Cause::Restart, now, expected));
        }
        // While the store was away somebody may have taken it at an epoch that the store never saw.
        let owner = d.current.clone().filter(|c| c.epoch > owner.epoch).unwrap_or(owner);
        if self.is_local(&owner.stack) {
            let away = d.deactivated.contains(&owner.stack);
            // Whoever had it at this epoch is that stack alone, and it takes no orders but ours.
            let silent = d.current.as_ref().is_none_or(|c| c.stack == owner.stack);
            let mut wish = match self.state(&owner.stack) {
                StackState::Ready if !away => {
                    Wish { silent, ..Wish::new(owner.stack, Cause::Restart, now, expected) }
                }
                StackState::Ready => Wish::new(best, Cause::Deactivated, now, expected),
                StackState::Ended => Wish { silent, ..Wish::new(best, Cause::ProcessEnded, now, expected) },
                StackState::Unknown | StackState::Lost | StackState::Starting => return,
                StackState::Configured => return,
            };
            if self.settings.lease.is_none() {
                wish.expected = Expected::Any;
            }
            return self.claim(now, dvipa, wish);
        }
        let (since, ended, revision) = match self.life(&owner.stack, now) {
            Life::Unknown => return,
            Life::Until(at) => return self.wake(at),
            Life::Dead { since, ended, revision } => (since, ended, revision),
        };
        let seen = if ended { since } else { since + self.patience().unwrap_or_default() };
        let promised = d.promised.as_ref().filter(|(to, _)| *to == owner.stack).map(|(_, until)| *until);
        let at = (seen + self.rank_step() * better).max(promised.unwrap_or_default());
        if at > now {
            return self.wake(at);
        }
        let cause = if ended { Cause::ProcessEnded } else { Cause::LeaseEnded };
        let begun = d.suspected.unwrap_or(since);
        // Somebody else may speak than the one over whom it is taken: the store was set back.
        let silent = d.current.as_ref().is_none_or(|c| c.stack == owner.stack);
        let Some(system) = self.remote.get(&owner.stack).map(|r| r.system.clone()).or(owner.system) else {
            return;
        };
        let over = Some(Over { stack: owner.stack, system, revision });
        let wish = Wish { over, silent, ..Wish::new(best, cause, begun, expected) };
        self.claim(now, dvipa, wish);
    }

    /// All stacks are of this system and the store does not work: nobody else can own it.
    fn own_unrecorded(&mut self, now: Time, dvipa: IpAddr, best: Name) {
        let current = self.dvipas.get(&dvipa).and_then(|d| d.current.as_ref());
        let owner = current.or_else(|| self.recorded(dvipa)).map(|k| k.stack.clone());
        let stack = match owner {
            Some(o) if self.is_local(&o) => match self.state(&o) {
                StackState::Ready => o,
                StackState::Ended => best,
                StackState::Unknown | StackState::Lost | StackState::Starting => return,
                StackState::Configured => return,
            },
            _ => best,
        };
        self.claim(now, dvipa, Wish::new(stack, Cause::Start, now, Expected::Any));
    }

    pub(super) fn claim(&mut self, now: Time, dvipa: IpAddr, wish: Wish) {
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        let from = d.current.as_ref().map(|c| c.stack.clone());
        let mut entry = Entry::new(dvipa, from, wish.stack.clone(), wish.cause, wish.begun.min(now));
        entry.planned = wish.giver.is_some();
        entry.begin(StepName::Detect, wish.begun.min(now));
        entry.end(StepName::Detect, now);
        entry.begin(StepName::Acquire, now);
        let Wish { stack, expected, over, giver, handed, silent, .. } = wish;
        let above = d.highest;
        self.out.push_back(Output::Claim { dvipa, stack: stack.clone(), expected, over, above });
        d.step =
            Step::Acquiring(Acquiring { stack, asked: now, giver, handed, silent, withdrawn: false, entry });
        self.wake(now + ANSWER);
        if self.facility == Some(false) {
            self.go_without_record(now, dvipa);
        }
    }

    /// The owner record is ours.
    pub(super) fn claimed(
        &mut self,
        now: Time,
        dvipa: IpAddr,
        stack: &Name,
        epoch: u64,
        acquired: Time,
        records: Vec<Left>,
    ) {
        let known = Known { stack: stack.clone(), system: Some(self.settings.system.clone()), epoch };
        let patience = self.patience();
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        d.record = Record::Owned(known);
        d.highest = d.highest.max(epoch);
        d.reclaim = None;
        match std::mem::replace(&mut d.step, Step::Steady) {
            Step::Acquiring(a) if a.stack == *stack => {
                let mut entry = a.entry;
                entry.epoch = epoch;
                entry.end(StepName::Acquire, acquired);
                entry.begin(StepName::Read, acquired);
                entry.end(StepName::Read, now);
                let until = match (&a.giver, a.silent) {
                    (None, true) => None,
                    // Nobody is known to speak: a lease will show. (Without leases all stacks are seen.)
                    _ => patience.map(|p| acquired + p),
                };
                let again = entry.from.as_ref() == Some(stack);
                let relieving = Relieving {
                    stack: stack.clone(),
                    epoch,
                    recorded: true,
                    giver: a.giver,
                    until,
                    records,
                    again,
                    entry,
                };
                self.relieve(now, dvipa, relieving);
            }
            // The claim was made after all, while the old owner gives up.
            Step::Relieving(mut r) if r.stack == *stack => {
                (r.recorded, r.epoch, r.entry.epoch, r.records) = (true, epoch, epoch, records);
                d.step = Step::Relieving(r);
            }
            // It was taken without a record while the store was away.
            other => {
                let same = d.serving.as_ref().is_some_and(|s| s.stack == *stack && !s.recorded);
                d.step = other;
                if same {
                    self.recorded_late(now, dvipa, epoch, records);
                } else {
                    self.consider(now, dvipa);
                }
            }
        }
    }

    /// The claim of a stack that serves already was carried out.
    fn recorded_late(&mut self, now: Time, dvipa: IpAddr, epoch: u64, records: Vec<Left>) {
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        let Some(s) = &mut d.serving else { return };
        s.recorded = true;
        let changed = std::mem::replace(&mut s.epoch, epoch) != epoch;
        if let Some(c) = &mut d.current {
            c.epoch = c.epoch.max(epoch);
        }
        let (stack, from) = (s.stack.clone(), s.from.clone());
        d.work.add(records);
        if let Step::Taking(t) = &mut d.step {
            t.entry.epoch = epoch;
        }
        if changed {
            self.out.push_back(Output::Configure);
        }
        self.out.push_back(Output::TakeOver { dvipa, stack, epoch, from, planned: false, again: true });
        self.note(dvipa, false, "the coupling facility knows the owner again");
        self.advance(now, dvipa);
    }

    /// Waits until nobody else can speak for the address, or goes on at once.
    pub(super) fn relieve(&mut self, now: Time, dvipa: IpAddr, mut r: Relieving) {
        let leased = self.settings.lease.is_some();
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        match &r.giver {
            None if r.until.is_none_or(|t| t <= now) => return self.take(now, dvipa, r),
            None => {}
            Some(Giver::Local(old)) => {
                let epoch = d.serving.as_ref().map_or(0, |s| s.epoch);
                d.serving = None;
                d.begins_to_move(old);
                // Whoever is told to stop is told at once who goes on; that one keeps what comes too early.
                let system = Some(self.settings.system.clone());
                d.current = Some(Known { stack: r.stack.clone(), system, epoch: r.epoch });
                if !leased {
                    r.until = None;
                }
                let stack = old.clone();
                self.out.push_back(Output::GiveUp { dvipa, stack, epoch, planned: true });
                self.wake(now + GIVE_UP);
            }
            Some(Giver::Remote(old, _)) => {
                let message = Message::Taken { dvipa, epoch: r.epoch };
                let (from, to) = (r.stack.clone(), old.clone());
                self.out.push_back(Output::Send { from, to, message, with_records: false });
            }
        }
        if let Some(until) = r.until {
            self.wake(until);
        }
        r.entry.begin(StepName::Relieve, now);
        if let Some(d) = self.dvipas.get_mut(&dvipa) {
            d.step = Step::Relieving(r);
        }
    }

    pub(super) fn claim_failed(&mut self, now: Time, dvipa: IpAddr, failure: ClaimFailure) {
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        if let Step::Acquiring(a) = &d.step {
            if let Some(Giver::Remote(to, _)) = &a.giver {
                let (from, to) = (a.stack.clone(), to.clone());
                let reason = "the coupling facility refused the claim".to_owned();
                let message = Message::Refuse { dvipa, reason };
                self.out.push_back(Output::Send { from, to, message, with_records: false });
            }
            if failure == ClaimFailure::Overtaken {
                d.suspected = None;
            }
            // Silence: who was faster, or lives, is seen in the records.
            d.take_entry();
            d.not_before = now + PAUSE;
            self.wake(now + PAUSE);
        } else if let Some(s) = d.serving.as_ref().filter(|s| !s.recorded) {
            // It was taken while the store was away, and an older claim was made after all.
            let (stack, above) = (s.stack.clone(), d.highest);
            if self.settings.lease.is_none() {
                let expected = Expected::Any;
                self.out.push_back(Output::Claim { dvipa, stack, expected, over: None, above });
            } else {
                self.give_up(now, dvipa, None, false);
            }
        }
    }

    /// The claim was not answered in time: what can be done without it.
    pub(super) fn go_without_record(&mut self, now: Time, dvipa: IpAddr) {
        let leased = self.settings.lease.is_some();
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        let Step::Acquiring(a) = &mut d.step else { return };
        let possible = match &a.giver {
            Some(Giver::Local(_)) => !leased,
            Some(Giver::Remote(..)) => a.handed.is_some(),
            None => !leased,
        };
        if !possible {
            if leased && !std::mem::replace(&mut a.withdrawn, true) {
                self.out.push_back(Output::Withdraw { dvipa });
            }
            return;
        }
        let Step::Acquiring(a) = std::mem::replace(&mut d.step, Step::Steady) else { return };
        let epoch = match &a.giver {
            Some(Giver::Remote(_, epoch)) => d.highest.max(*epoch) + 1,
            _ => d.highest + 1,
        };
        d.highest = epoch;
        let mut entry = a.entry;
        entry.epoch = epoch;
        entry.end(StepName::Acquire, now);
        let again = entry.from.as_ref() == Some(&a.stack);
        let records = a.handed.unwrap_or_default();
        let r = Relieving {
            stack: a.stack,
            epoch,
            recorded: false,
            giver: a.giver,
            until: None,
            records,
            again,
            entry,
        };
        self.note(dvipa, true, "takeover not protected: taken without the coupling facility");
        self.relieve(now, dvipa, r);
    }

    /// Moves a DVIPA that a stack of this system owns. The caller has seen to it that `to` could take it.
    pub(super) fn move_to(&mut self, now: Time, dvipa: IpAddr, to: &Name, cause: Cause) {
        let Some((old, epoch)) = self.serving(dvipa).map(|(s, e)| (s.clone(), e)) else { return };
        if self.is_local(to) {
            let expected = self.expect_own(dvipa, &old, epoch);
            let mut wish = Wish::new(to.clone(), cause, now, expected);
            wish.giver = Some(Giver::Local(old));
            self.claim(now, dvipa, wish);
        } else {
            let with_records = self.facility == Some(false);
            let message = Message::Offer { dvipa, epoch, cause, handed: None };
            self.out.push_back(Output::Send { from: old, to: to.clone(), message, with_records });
            let until = now + OFFER;
            self.wake(until);
            if let Some(d) = self.dvipas.get_mut(&dvipa) {
                d.step = Step::Offering(Offering { to: to.clone(), until });
            }
        }
    }

    /// Deadlines of what is under way.
    pub(super) fn step_on_time(&mut self, now: Time, dvipa: IpAddr) {
        let leased = self.settings.lease.is_some();
        let facility = self.facility;
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        match &mut d.step {
            Step::Steady => {
                if d.clear_at.is_some_and(|t| t <= now) && d.serving.is_some() {
                    d.clear_at = None;
                    self.out.push_back(Output::Clear { dvipa });
                }
            }
            Step::Acquiring(a) => {
                if facility == Some(false) || a.asked + ANSWER <= now {
                    self.go_without_record(now, dvipa);
                }
            }
            Step::Relieving(r) => {
                let local = match &r.giver {
                    Some(Giver::Local(old)) => Some(old.clone()),
                    _ => None,
                };
                if r.until.is_some_and(|t| t <= now) {
                    self.relieved(now, dvipa);
                } else if let Some(stack) = local
                    && !leased
                    && r.entry.steps.last().is_some_and(|s| r.entry.begun + s.begin + GIVE_UP <= now)
                {
                    self.note(
                        dvipa,
                        true,
                        format!("stack {stack} does not give the address up: its process is ended"),
                    );
                    self.out.push_back(Output::Kill { stack });
                    self.wake(now + GIVE_UP);
                }
            }
            Step::Offering(o) => {
                if o.until <= now {
                    let text = format!("stack {} does not answer the offer", o.to);
                    d.step = Step::Steady;
                    d.not_before = now + OFFER;
                    self.note(dvipa, true, text);
                }
            }
            Step::GivingUp(g) => {
                if g.until <= now {
                    let stack = g.stack.clone();
                    if leased {
                        // What it was told comes before any lease that it may still be given.
                        d.step = Step::Steady;
                    } else {
                        self.out.push_back(Output::Kill { stack });
                        self.wake(now + GIVE_UP);
                    }
                }
            }
            Step::Taking(_) => self.advance(now, dvipa),
        }
    }

    /// The old owner cannot speak any more.
    pub(super) fn relieved(&mut self, now: Time, dvipa: IpAddr) {
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        if !matches!(d.step, Step::Relieving(_)) {
            return;
        }
        if let Step::Relieving(mut r) = std::mem::replace(&mut d.step, Step::Steady) {
            r.entry.end(StepName::Relieve, now);
            self.take(now, dvipa, r);
        }
    }

    /// The stack that was to own it has ended before it did.
    pub(super) fn claimant_gone(&mut self, now: Time, dvipa: IpAddr, stack: &Name) {
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        let concerned = match &d.step {
            Step::Relieving(r) => r.stack == *stack,
            Step::Taking(_) => d.serving.as_ref().is_some_and(|s| s.stack == *stack),
            // The claim's answer must be waited for: it may have been made.
            Step::Acquiring(_) | Step::Steady | Step::Offering(_) | Step::GivingUp(_) => false,
        };
        if concerned {
            self.abandon(now, dvipa, Progress::Failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::takeover::machine::{Plan, Settings};
    use crate::takeover::types::Input;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// What is claimed until `end`, on whose record.
    fn claims(machine: &mut Machine, now: &mut Time, end: Time) -> Vec<(Name, Expected)> {
        let mut all = Vec::new();
        loop {
            while let Some(output) = machine.poll() {
                if let Output::Claim { stack, expected, .. } = output {
                    all.push((stack, expected));
                }
            }
            match machine.deadline().filter(|at| *at <= end) {
                Some(at) => *now = at.max(*now),
                None => return all,
            }
            machine.on_time(*now);
        }
    }

    #[test]
    fn t48_an_owner_under_which_the_store_was_set_back_claims_until_it_has_it() {
        let (dvipa, second) = ("192.0.2.100".parse().unwrap(), Time::from_secs(1));
        let settings = Settings { system: name("SYSB"), lease: Some(second / 2) };
        let candidates = vec![name("DIST"), name("BACK")];
        let plan = Plan { address: dvipa, candidates, giveback: Giveback::Manual };
        let mut m = Machine::new(settings, [name("BACK")], [plan]);
        let mut now = second;
        let known = |stack, epoch| Some(Known { stack: name(stack), system: None, epoch });
        m.handle(now, Input::Facility { works: true });
        m.handle(now, Input::Stack { stack: name("BACK"), state: StackState::Ready });
        let dist =
            |revision| Input::Alive { stack: name("DIST"), system: name("SYSA"), revision, ended: false };
        m.handle(now, dist(1));
        m.handle(now, Input::Synced);
        m.handle(now, Input::OwnerIs { dvipa, owner: known("BACK", 2) });
        assert_eq!(claims(&mut m, &mut now, second), [(name("BACK"), Expected::Owner(name("BACK"), 2))]);
        m.handle(
            now,
            Input::Claimed { dvipa, stack: name("BACK"), epoch: 3, acquired: now, records: vec![] },
        );
        claims(&mut m, &mut now, 3 * second);
        assert_eq!(m.serving(dvipa), Some((&name("BACK"), 3)));

        // It hears of it before the watch has told which owner the old copy names: its claim is in vain.
        m.handle(now, Input::SetBack { dvipa });
        m.handle(now, Input::GaveUp { dvipa, stack: name("BACK") });
        let at = now;
        assert_eq!(claims(&mut m, &mut now, at), [(name("BACK"), Expected::Owner(name("BACK"), 3))]);
        m.handle(now, Input::OwnerIs { dvipa, owner: known("DIST", 1) });
        m.handle(now, Input::ClaimFailed { dvipa, failure: ClaimFailure::Overtaken });
        m.handle(now, dist(2));
        let end = now + 2 * second;
        let again = claims(&mut m, &mut now, end);
        assert_eq!(again.first(), Some(&(name("BACK"), Expected::Owner(name("DIST"), 1))));

        // Nor does it take it from anybody who has it anew.
        m.handle(now, Input::OwnerIs { dvipa, owner: known("DIST", 4) });
        m.handle(now, Input::ClaimFailed { dvipa, failure: ClaimFailure::Overtaken });
        m.handle(now, dist(3));
        let end = now + second / 4;
        assert_eq!(claims(&mut m, &mut now, end), []);
    }
}
