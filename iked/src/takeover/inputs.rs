//! What happened, and whom it concerns.

use super::claim::Wish;
use super::dvipa::{Giver, Record, Step};
use super::history::{Cause, Progress};
use super::machine::{Machine, PAUSE, Remote, STRAYS};
use super::types::{Expected, Input, Known, Message, Output, StackState, Time};
use crate::config::Name;
use std::net::IpAddr;

impl Machine {
    /// Takes an input.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Stack { stack, state } => self.stack_is(now, &stack, state),
            Input::Facility { works } => self.facility_is(now, works),
            Input::Alive { stack, system, revision, ended } => {
                self.alive(now, stack, Remote { system, revision, seen: now, ended });
            }
            Input::Synced => {
                self.synced = Some(now);
                self.consider_all(now);
            }
            Input::OwnerIs { dvipa, owner } => self.owner_is(now, dvipa, owner),
            Input::Renewed { stack, sent } => self.renewed(&stack, sent),
            Input::Claimed { dvipa, stack, epoch, acquired, records } => {
                self.claimed(now, dvipa, &stack, epoch, acquired, records);
            }
            Input::ClaimFailed { dvipa, failure } => self.claim_failed(now, dvipa, failure),
            Input::Fenced { dvipa } => {
                // Who took it is seen in the record.
                let recorded =
                    self.dvipas.get(&dvipa).and_then(|d| d.serving.as_ref()).is_some_and(|s| s.recorded);
                if recorded {
                    self.superseded(now, dvipa, None);
                }
            }
            Input::SetBack { dvipa } => {
                let Some(stack) = self.serving(dvipa).map(|(s, _)| s.clone()) else { return };
                self.note(
                    dvipa,
                    true,
                    "the coupling facility was set back: the DVIPA is taken anew, SAs are negotiated",
                );
                self.give_up(now, dvipa, None, false);
                if let Some(d) = self.dvipas.get_mut(&dvipa) {
                    d.reclaim = Some(stack);
                }
                self.consider(now, dvipa);
            }
            Input::Records { dvipa, records } => {
                if let Some(d) = self.dvipas.get_mut(&dvipa)
                    && d.serving.is_some()
                {
                    d.work.add(records);
                }
            }
            Input::Record { dvipa, key, outcome } => {
                if self.dvipas.get_mut(&dvipa).is_some_and(|d| d.work.note(key, outcome)) {
                    self.record_outcome(now, dvipa);
                }
            }
            Input::Cleared { dvipa } => self.cleared(now, dvipa),
            Input::Announced { dvipa, stack } => self.announced(now, dvipa, &stack),
            Input::GaveUp { dvipa, stack } => self.gave_up(now, dvipa, &stack),
            Input::Rebuilt { dvipa, epoch, connections, missing } => {
                self.rebuilt(now, dvipa, epoch, connections, missing);
            }
            Input::Drained { dvipa, stack } => {
                if let Some(d) = self.dvipas.get_mut(&dvipa)
                    && d.moving.contains(&stack)
                {
                    let until = *d.drained.entry(stack).or_insert(now + STRAYS);
                    self.wake(until);
                }
            }
            Input::Connections { dvipa, count } => {
                if let Some(d) = self.dvipas.get_mut(&dvipa) {
                    d.connections = Some(count);
                }
                self.consider(now, dvipa);
            }
            Input::OwnerHeard { dvipa, owner, epoch } => {
                let system = self.remote.get(&owner).map(|r| r.system.clone());
                self.owner_heard(now, dvipa, Known { stack: owner, system, epoch });
            }
            Input::Heard { stack, alive } => self.heard(now, &stack, alive),
            Input::Message { from, to, message } => self.message(now, &from, &to, message),
        }
    }

    fn consider_all(&mut self, now: Time) {
        for dvipa in self.addresses() {
            self.consider(now, dvipa);
        }
    }

    fn stack_is(&mut self, now: Time, stack: &Name, state: StackState) {
        let Some(local) = self.local.get_mut(stack) else { return };
        let before = std::mem::replace(&mut local.state, state);
        if before == state {
            return;
        }
        if state == StackState::Ready {
            local.ready = now;
        }
        match state {
            StackState::Ended => local.fresh = true,
            StackState::Ready if std::mem::take(&mut local.fresh) => self.out.push_back(Output::Configure),
            StackState::Ready
            | StackState::Lost
            | StackState::Unknown
            | StackState::Starting
            | StackState::Configured => {}
        }
        let stack = stack.clone();
        match state {
            StackState::Ready => self.out.push_back(Output::Serve { stack: stack.clone() }),
            StackState::Ended => self.out.push_back(Output::End { stack: stack.clone() }),
            StackState::Lost => self.out.push_back(Output::Retire { stack: stack.clone() }),
            StackState::Unknown | StackState::Starting | StackState::Configured => {}
        }
        for dvipa in self.addresses() {
            if state == StackState::Ready {
                self.ready(dvipa, &stack);
            }
            if state == StackState::Ended {
                self.claimant_gone(now, dvipa, &stack);
                if let Some(d) = self.dvipas.get_mut(&dvipa) {
                    d.has_moved(&stack);
                    if d.serving.as_ref().is_some_and(|s| s.stack == stack) {
                        d.suspected = Some(now);
                        if matches!(d.step, Step::Offering(_)) {
                            d.step = Step::Steady;
                        }
                    }
                }
                // Whoever has ended has given up.
                self.gave_up(now, dvipa, &stack);
            }
            self.consider(now, dvipa);
        }
    }

    /// A stack came, or came back.
    fn ready(&mut self, dvipa: IpAddr, stack: &Name) {
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        if d.rank(stack) == Some(0) {
            d.held = false;
        }
        if d.serving.as_ref().is_some_and(|s| s.stack == *stack) {
            d.suspected = None;
        }
    }

    fn facility_is(&mut self, now: Time, works: bool) {
        let before = self.facility.replace(works);
        if works && before == Some(false) {
            // Nothing was seen meanwhile, so nothing is known of how long others were silent.
            for r in self.remote.values_mut() {
                r.seen = now;
            }
            self.synced = self.synced.map(|_| now);
        }
        for dvipa in self.addresses() {
            self.step_on_time(now, dvipa);
            self.consider(now, dvipa);
        }
        self.ask_for_consent(now);
    }

    fn alive(&mut self, now: Time, stack: Name, remote: Remote) {
        if self.is_local(&stack) {
            return;
        }
        let changed =
            self.remote.get(&stack).is_none_or(|r| (r.revision, r.ended) != (remote.revision, remote.ended));
        if changed {
            let ended = remote.ended;
            let known = self.remote.insert(stack.clone(), remote).is_some();
            for dvipa in self.addresses() {
                let Some(d) = self.dvipas.get_mut(&dvipa) else { continue };
                let concerned =
                    d.rank(&stack).is_some() || d.current.as_ref().is_some_and(|c| c.stack == stack);
                if !ended && !known && d.rank(&stack) == Some(0) {
                    d.held = false;
                }
                if !ended && d.current.as_ref().is_some_and(|c| c.stack == stack) {
                    d.suspected = None;
                }
                // Whoever has ended has given up.
                if ended
                    && matches!(&d.step, Step::Relieving(r) if matches!(&r.giver, Some(Giver::Remote(o, _)) if *o == stack))
                {
                    self.relieved(now, dvipa);
                }
                if concerned {
                    self.consider(now, dvipa);
                }
            }
        }
    }

    fn heard(&mut self, now: Time, stack: &Name, alive: bool) {
        for d in self.dvipas.values_mut() {
            if d.current.as_ref().is_some_and(|c| c.stack == *stack) && d.serving.is_none() {
                d.suspected = if alive { None } else { Some(d.suspected.unwrap_or(now)) };
            }
        }
    }

    fn owner_is(&mut self, now: Time, dvipa: IpAddr, owner: Option<Known>) {
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        let Some(known) = owner else {
            d.record = Record::Nobody;
            return self.consider(now, dvipa);
        };
        d.record = Record::Owned(known.clone());
        let set_back = known.epoch < d.highest;
        if set_back && d.serving.is_none() {
            let text = format!(
                "the coupling facility says epoch {}, {} was seen: it was set back; SAs are negotiated anew",
                known.epoch, d.highest
            );
            self.note(dvipa, true, text);
        }
        if self.is_local(&known.stack) {
            if let Some(d) = self.dvipas.get_mut(&dvipa) {
                d.highest = d.highest.max(known.epoch);
            }
        } else {
            self.owner_heard(now, dvipa, known);
        }
        self.consider(now, dvipa);
    }

    /// Somebody owns a DVIPA: the coupling facility or a stack says so.
    pub(super) fn owner_heard(&mut self, now: Time, dvipa: IpAddr, known: Known) {
        let local = self.is_local(&known.stack);
        let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
        if local {
            // As an earlier daemon of this system had it.
            d.highest = d.highest.max(known.epoch);
            if d.serving.is_none() && d.current.as_ref().is_none_or(|c| c.epoch < known.epoch) {
                d.current = Some(known);
            }
            return;
        }
        let (mine, relieving) = (
            d.serving.as_ref().map(|s| s.epoch),
            match &d.step {
                Step::Relieving(r) => Some(r.epoch),
                _ => None,
            },
        );
        if relieving.is_some_and(|e| e < known.epoch) {
            self.abandon(now, dvipa, Progress::Overtaken);
        }
        self.learn(dvipa, &known);
        if mine.is_some_and(|e| e < known.epoch) {
            self.superseded(now, dvipa, Some(&known));
        }
    }

    /// This system's stack owns the DVIPA no more.
    fn superseded(&mut self, now: Time, dvipa: IpAddr, by: Option<&Known>) {
        let Some(d) = self.dvipas.get(&dvipa) else { return };
        // It was offered, and taken: as agreed.
        let offered = match &d.step {
            Step::Offering(o) if by.is_none_or(|by| o.to == by.stack) => Some(o.to.clone()),
            _ => None,
        };
        if offered.is_none() {
            self.note(dvipa, true, "another stack owns it by now: it is given up here");
        }
        self.give_up(now, dvipa, offered.as_ref().or(by.map(|k| &k.stack)), offered.is_some());
    }

    fn message(&mut self, now: Time, from: &Name, to: &Name, message: Message) {
        match message {
            Message::Request { dvipa, to: wanted } => {
                let done = match Name::parse(&wanted) {
                    Ok(wanted) => self.request_move(now, dvipa, &wanted).map_err(|e| e.to_string()),
                    Err(e) => Err(e),
                };
                if let Err(reason) = done {
                    self.note(dvipa, true, format!("the move that {from} asked for is refused: {reason}"));
                    self.refuse(to, from, dvipa, reason);
                }
            }
            Message::Offer { dvipa, epoch, cause, handed } => {
                self.offered(now, from, to, dvipa, epoch, cause, handed)
            }
            Message::Reactivated { dvipa } => {
                if let Some(d) = self.dvipas.get_mut(&dvipa)
                    && d.rank(from) == Some(0)
                {
                    (d.held, d.not_before) = (false, now);
                }
                self.consider(now, dvipa);
            }
            Message::Refuse { dvipa, reason } => {
                let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
                if matches!(&d.step, Step::Offering(o) if o.to == *from) {
                    d.step = Step::Steady;
                    d.not_before = now + PAUSE * 10;
                }
                self.note(dvipa, true, format!("stack {from} refuses: {}", reason.escape_debug()));
            }
            Message::Taken { dvipa, epoch } => {
                let Some(d) = self.dvipas.get_mut(&dvipa) else { return };
                let mine = d.serving.as_ref().map(|s| s.epoch);
                let known = Known {
                    stack: from.clone(),
                    system: self.remote.get(from).map(|r| r.system.clone()),
                    epoch,
                };
                self.learn(dvipa, &known);
                match mine {
                    Some(mine) if mine < epoch => self.give_up(now, dvipa, Some(from), true),
                    Some(_) => {}
                    // Whoever spoke here does not any more.
                    None => self.told_already(dvipa, from, to, epoch),
                }
            }
            Message::GaveUp { dvipa, epoch } => {
                let Some(d) = self.dvipas.get(&dvipa) else { return };
                let waited = match &d.step {
                    Step::Relieving(r) => match &r.giver {
                        Some(Giver::Remote(old, e)) => old == from && *e == epoch,
                        _ => r.entry.from.as_ref() == Some(from) && epoch < r.epoch && r.recorded,
                    },
                    _ => false,
                };
                if waited {
                    self.relieved(now, dvipa);
                }
            }
            Message::Ask { number, owned } => self.asked(now, from, to, number, &owned),
            Message::Granted { number } => self.granted(now, to, Some(from), number),
        }
    }

    fn told_already(&mut self, dvipa: IpAddr, to: &Name, here: &Name, epoch: u64) {
        let Some(d) = self.dvipas.get(&dvipa) else { return };
        // While it is being given up, its end is told when it has.
        if matches!(d.step, Step::Steady) {
            let message = Message::GaveUp { dvipa, epoch: epoch.saturating_sub(1) };
            self.out.push_back(Output::Send {
                from: here.clone(),
                to: to.clone(),
                message,
                with_records: false,
            });
        }
    }

    fn refuse(&mut self, from: &Name, to: &Name, dvipa: IpAddr, reason: String) {
        let message = Message::Refuse { dvipa, reason };
        self.out.push_back(Output::Send { from: from.clone(), to: to.clone(), message, with_records: false });
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message and its way")]
    fn offered(
        &mut self,
        now: Time,
        from: &Name,
        to: &Name,
        dvipa: IpAddr,
        epoch: u64,
        cause: Cause,
        handed: Option<Vec<super::types::Left>>,
    ) {
        let known =
            Known { stack: from.clone(), system: self.remote.get(from).map(|r| r.system.clone()), epoch };
        self.learn(dvipa, &known);
        let Some(d) = self.dvipas.get(&dvipa) else {
            return self.refuse(to, from, dvipa, "not a DVIPA of this system".into());
        };
        let reason = if d.rank(to).is_none() {
            Some("neither owner nor backup of it")
        } else if d.deactivated.contains(to) {
            Some("it is deactivated there")
        } else if self.state(to) != StackState::Ready || self.stopping {
            Some("the stack is not ready")
        } else if d.serving.is_some() || !matches!(d.step, Step::Steady) || d.highest > epoch {
            Some("a takeover is under way there")
        } else {
            None
        };
        if let Some(reason) = reason {
            return self.refuse(to, from, dvipa, reason.into());
        }
        let wish = Wish {
            giver: Some(Giver::Remote(from.clone(), epoch)),
            handed,
            ..Wish::new(to.clone(), cause, now, Expected::Owner(from.clone(), epoch))
        };
        if let Some(d) = self.dvipas.get_mut(&dvipa) {
            d.held = matches!(cause, Cause::Operator | Cause::Deactivated) && d.rank(to) != Some(0);
        }
        self.claim(now, dvipa, wish);
    }
}
