//! From the owner record to the owner: announce, notify, renegotiate, store, clear; and the way back.

use super::dvipa::{GivingUp, Phase, Relieving, Serving, Step, Taking, Work};
use super::history::{Progress, Step as StepName};
use super::machine::{GIVE_UP, LEFTOVERS, Machine, REBUILD};
use super::types::{Known, Message, Output, StackState, Time};
use crate::config::Name;
use std::net::IpAddr;

impl Machine {
    /// Nobody else can speak for the address: this system's stack does from now on.
    pub(super) fn take(&mut self, now: Time, dvipa: IpAddr, r: Relieving) {
        if self.state(&r.stack) != StackState::Ready {
            if let Some(d) = self.dvipas.get_mut(&dvipa) {
                d.step = Step::Steady;
            }
            self.close(r.entry, now, Progress::Failed);
            return self.consider(now, dvipa);
        }
        let system = self.settings.system.clone();
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        let Relieving { stack, epoch, recorded, records, again, mut entry, .. } = r;
        let (from, planned) = (entry.from.clone(), entry.planned);
        // Filters are in force before a stack is ready: what must be protected is denied or queued.
        entry.begin(StepName::Filters, now);
        entry.end(StepName::Filters, now);
        entry.begin(StepName::Announce, now);
        entry.begin(StepName::Renegotiate, now);
        d.work = Work::new(records);
        entry.counts = d.work.counts();
        d.has_moved(&stack);
        d.serving = Some(Serving { stack: stack.clone(), epoch, recorded, since: now, from: from.clone() });
        d.current = Some(Known { stack: stack.clone(), system: Some(system), epoch });
        d.step = Step::Taking(Taking { phase: Phase::Announcing, entry });
        (d.suspected, d.connections, d.clear_at, d.promised) = (None, None, None, None);
        self.out.push_back(Output::TakeOver { dvipa, stack, epoch, from, planned, again });
        self.advance(now, dvipa);
    }

    /// Goes on as far as it can.
    pub(super) fn advance(&mut self, now: Time, dvipa: IpAddr) {
        loop {
            let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
            let Step::Taking(t) = &mut d.step else { return };
            t.entry.counts = d.work.counts();
            if d.work.renegotiated() {
                t.entry.end(StepName::Renegotiate, now);
            }
            match t.phase {
                Phase::Announcing | Phase::Clearing => return,
                Phase::Notifying(until) if until > now => return,
                Phase::Notifying(_) => {
                    t.entry.end(StepName::Notify, now);
                    t.phase = Phase::Renegotiating;
                }
                Phase::Renegotiating if !d.work.renegotiated() => return,
                Phase::Renegotiating => {
                    t.entry.begin(StepName::Store, now);
                    t.phase = Phase::Storing;
                }
                Phase::Storing if !d.work.stored() || !d.serving.as_ref().is_some_and(|s| s.recorded) => {
                    return;
                }
                Phase::Storing if d.work.nothing_waits() => {
                    t.entry.end(StepName::Store, now);
                    t.entry.begin(StepName::Clear, now);
                    t.phase = Phase::Clearing;
                    self.out.push_back(Output::Clear { dvipa });
                    return;
                }
                // The records of those who wait stay for the next owner, for a time.
                Phase::Storing => {
                    t.entry.end(StepName::Store, now);
                    t.entry.reason = d.work.reason().map(str::to_owned);
                    d.clear_at = Some(now + LEFTOVERS);
                    self.wake(now + LEFTOVERS);
                    self.abandon(now, dvipa, Progress::Incomplete);
                    return;
                }
            }
        }
    }

    pub(super) fn announced(&mut self, now: Time, dvipa: IpAddr, stack: &Name) {
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        if d.serving.as_ref().is_none_or(|s| s.stack != *stack) {
            return;
        }
        if let Step::Taking(t) = &mut d.step
            && t.phase == Phase::Announcing
        {
            t.entry.end(StepName::Announce, now);
            t.entry.begin(StepName::Notify, now);
            t.phase = Phase::Notifying(now + REBUILD);
            self.wake(now + REBUILD);
        }
    }

    pub(super) fn rebuilt(&mut self, now: Time, dvipa: IpAddr, epoch: u64, connections: u64, missing: usize) {
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        if d.serving.as_ref().is_none_or(|s| s.epoch != epoch) {
            return;
        }
        if let Step::Taking(t) = &mut d.step {
            (t.entry.connections, t.entry.missing) = (connections, missing);
            match t.phase {
                // Its stack is faster than the answer to its configuration.
                Phase::Announcing => self.announced_and_rebuilt(now, dvipa),
                Phase::Notifying(_) => t.phase = Phase::Notifying(now),
                Phase::Renegotiating | Phase::Storing | Phase::Clearing => {}
            }
        }
        self.advance(now, dvipa);
    }

    fn announced_and_rebuilt(&mut self, now: Time, dvipa: IpAddr) {
        if let Some(stack) = self.serving(dvipa).map(|(s, _)| s.clone()) {
            self.announced(now, dvipa, &stack);
        }
        if let Some(d) = self.dvipas.get_mut(&dvipa)
            && let Step::Taking(t) = &mut d.step
        {
            t.phase = Phase::Notifying(now);
        }
    }

    pub(super) fn cleared(&mut self, now: Time, dvipa: IpAddr) {
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        if let Step::Taking(t) = &mut d.step
            && t.phase == Phase::Clearing
        {
            t.entry.end(StepName::Clear, now);
            self.abandon(now, dvipa, Progress::Done);
            self.consider(now, dvipa);
        }
    }

    /// What became of a record, now or long after.
    pub(super) fn record_outcome(&mut self, now: Time, dvipa: IpAddr) {
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        if matches!(d.step, Step::Steady) && d.clear_at.is_some() {
            if let Some(entry) = self.history.newest_mut(dvipa) {
                entry.counts = d.work.counts();
            }
            // The last one that waited is there.
            if d.work.stored() && d.work.nothing_waits() && d.serving.as_ref().is_some_and(|s| s.recorded) {
                d.clear_at = None;
                self.out.push_back(Output::Clear { dvipa });
                if let Some(entry) = self.history.newest_mut(dvipa)
                    && entry.progress == Progress::Incomplete
                {
                    entry.progress = Progress::Done;
                }
            }
        }
        self.advance(now, dvipa);
    }

    /// The stack of this system speaks no more for the address: `to` does, or somebody who is not known yet.
    pub(super) fn give_up(&mut self, now: Time, dvipa: IpAddr, to: Option<&Name>, planned: bool) {
        self.abandon(now, dvipa, Progress::Overtaken);
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        let Some(Serving { stack, epoch, .. }) = d.serving.take() else { return };
        if d.current.as_ref().is_some_and(|c| c.stack == stack) {
            d.current = None;
        }
        (d.work, d.clear_at, d.connections) = (Work::default(), None, None);
        if self.state(&stack) == StackState::Ended {
            self.out.push_back(Output::Configure);
            return self.consider(now, dvipa);
        }
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        d.begins_to_move(&stack);
        let until = now + GIVE_UP;
        d.step = Step::GivingUp(GivingUp { stack: stack.clone(), epoch, to: to.cloned(), until });
        // What the stacks are told because of the new owner comes after it: Deletes go out while the address is still ours.
        let configure = self.out.contains(&Output::Configure);
        self.out.retain(|o| *o != Output::Configure);
        self.out.push_back(Output::GiveUp { dvipa, stack, epoch, planned });
        if configure {
            self.out.push_back(Output::Configure);
        }
        self.wake(until);
    }

    /// A stack of this system does not speak for the address any more.
    pub(super) fn gave_up(&mut self, now: Time, dvipa: IpAddr, stack: &Name) {
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        match &d.step {
            Step::Relieving(r) if r.giver == Some(super::dvipa::Giver::Local(stack.clone())) => {
                self.relieved(now, dvipa);
            }
            Step::GivingUp(g) if g.stack == *stack => {
                if let Some(to) = g.to.clone() {
                    let message = Message::GaveUp { dvipa, epoch: g.epoch };
                    let from = g.stack.clone();
                    self.out.push_back(Output::Send { from, to, message, with_records: false });
                }
                d.step = Step::Steady;
                self.consider(now, dvipa);
            }
            _ => {}
        }
    }
}
