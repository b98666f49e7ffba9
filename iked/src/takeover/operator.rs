//! What an operator may ask for, and the orderly stop.

use super::dvipa::Step;
use super::history::Cause;
use super::machine::Machine;
use super::types::{Message, Output, StackState, Time};
use crate::config::Name;
use std::net::IpAddr;

/// A request of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Move a DVIPA to this stack, and keep it there.
    Move {
        /// The DVIPA.
        dvipa: IpAddr,
        /// New owner.
        to: Name,
    },
    /// A stack of this system is not to own the DVIPA; the best backup takes it.
    Deactivate {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack.
        stack: Name,
    },
    /// A stack of this system may own it again.
    Reactivate {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack.
        stack: Name,
    },
}

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such DVIPA.
    #[error("{0} is no DVIPA of this sysplex")]
    UnknownDvipa(IpAddr),
    /// The stack is neither owner nor backup.
    #[error("{stack} is neither owner nor backup of {dvipa}")]
    NoCandidate {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack.
        stack: Name,
    },
    /// It owns it already.
    #[error("{0} owns it already")]
    AlreadyOwner(Name),
    /// It was deactivated there.
    #[error("it is deactivated at {0}: reactivate it first")]
    Deactivated(Name),
    /// It is active there.
    #[error("it is not deactivated at {0}")]
    NotDeactivated(Name),
    /// The stack cannot take it now.
    #[error("{0} is not ready to take it")]
    NotReady(Name),
    /// Nobody owns it.
    #[error("nobody owns it")]
    NoOwner,
    /// Something is under way already.
    #[error("a takeover is under way")]
    Busy,
    /// The stack is of another system.
    #[error("{0} is no stack of this system: ask there")]
    Elsewhere(Name),
}

impl Machine {
    /// Carries out a request, or begins to.
    ///
    /// # Errors
    /// Why not.
    pub fn request(&mut self, now: Time, request: &Request) -> Result<(), Refusal> {
        let (Request::Move { dvipa, to: stack }
        | Request::Deactivate { dvipa, stack }
        | Request::Reactivate { dvipa, stack }) = request;
        let d = self.dvipas.get(dvipa).ok_or(Refusal::UnknownDvipa(*dvipa))?;
        if d.rank(stack).is_none() {
            return Err(Refusal::NoCandidate { dvipa: *dvipa, stack: stack.clone() });
        }
        match request {
            Request::Move { dvipa, to } => self.request_move(now, *dvipa, to),
            Request::Deactivate { dvipa, stack } => self.deactivate(now, *dvipa, stack),
            Request::Reactivate { dvipa, stack } => self.reactivate(now, *dvipa, stack),
        }
    }

    pub(super) fn request_move(&mut self, now: Time, dvipa: IpAddr, to: &Name) -> Result<(), Refusal> {
        let d = self.dvipas.get(&dvipa).ok_or(Refusal::UnknownDvipa(dvipa))?;
        if !matches!(d.step, Step::Steady) {
            return Err(Refusal::Busy);
        }
        if d.deactivated.contains(to) {
            return Err(Refusal::Deactivated(to.clone()));
        }
        let ready = match self.is_local(to) {
            true => self.state(to) == StackState::Ready,
            false => self.facility == Some(false) || self.lives(to, now),
        };
        if !ready {
            return Err(Refusal::NotReady(to.clone()));
        }
        match (d.serving.as_ref().map(|s| s.stack.clone()), d.current.as_ref().map(|c| c.stack.clone())) {
            (Some(owner), _) | (None, Some(owner)) if owner == *to => Err(Refusal::AlreadyOwner(owner)),
            (Some(_), _) => {
                if let Some(d) = self.dvipas.get_mut(&dvipa) {
                    d.held = d.rank(to) != Some(0);
                }
                self.move_to(now, dvipa, to, Cause::Operator);
                Ok(())
            }
            (None, Some(owner)) if !self.is_local(&owner) => {
                // Its owner's system does it.
                let own =
                    self.local.iter().find(|(_, l)| l.state == StackState::Ready).map(|(n, _)| n.clone());
                let from = if self.is_local(to) { Some(to.clone()) } else { own };
                let from = from.ok_or_else(|| Refusal::NotReady(to.clone()))?;
                let message = Message::Request { dvipa, to: to.as_str().to_owned() };
                self.out.push_back(Output::Send { from, to: owner, message, with_records: false });
                Ok(())
            }
            (None, _) => Err(Refusal::NoOwner),
        }
    }

    fn deactivate(&mut self, now: Time, dvipa: IpAddr, stack: &Name) -> Result<(), Refusal> {
        if !self.is_local(stack) {
            return Err(Refusal::Elsewhere(stack.clone()));
        }
        let d = self.dvipas.get_mut(&dvipa).ok_or(Refusal::UnknownDvipa(dvipa))?;
        if d.deactivated.contains(stack) {
            return Err(Refusal::Deactivated(stack.clone()));
        }
        let owner = d.serving.as_ref().is_some_and(|s| s.stack == *stack);
        if owner && !matches!(d.step, Step::Steady) {
            return Err(Refusal::Busy);
        }
        d.deactivated.insert(stack.clone());
        if owner {
            match self.successor(now, dvipa, stack) {
                Some(to) => self.move_to(now, dvipa, &to, Cause::Deactivated),
                None => {
                    self.note(dvipa, true, "deactivated, and no backup is ready: nobody owns it");
                    self.give_up(now, dvipa, None, true);
                }
            }
        }
        Ok(())
    }

    fn reactivate(&mut self, now: Time, dvipa: IpAddr, stack: &Name) -> Result<(), Refusal> {
        if !self.is_local(stack) {
            return Err(Refusal::Elsewhere(stack.clone()));
        }
        let d = self.dvipas.get_mut(&dvipa).ok_or(Refusal::UnknownDvipa(dvipa))?;
        if !d.deactivated.remove(stack) {
            return Err(Refusal::NotDeactivated(stack.clone()));
        }
        (d.held, d.not_before) = (false, now);
        let owner = d.current.as_ref().map(|c| c.stack.clone());
        if let Some(to) = owner.filter(|o| !self.is_local(o)) {
            let message = Message::Reactivated { dvipa };
            self.out.push_back(Output::Send { from: stack.clone(), to, message, with_records: false });
        }
        self.consider(now, dvipa);
        Ok(())
    }

    /// The best stack, not `but`, that could take a DVIPA from this system's owner.
    fn successor(&self, now: Time, dvipa: IpAddr, but: &Name) -> Option<Name> {
        let d = self.dvipas.get(&dvipa)?;
        let fit = |c: &&Name| {
            let ready = match self.is_local(c) {
                true => !self.stopping && self.state(c) == StackState::Ready && !d.deactivated.contains(*c),
                false => self.lives(c, now),
            };
            *c != but && ready
        };
        d.plan.candidates.iter().find(fit).cloned()
    }

    /// This system ends in good order: its DVIPAs go to stacks of others that can take them.
    pub fn stop(&mut self, now: Time) {
        self.stopping = true;
        for dvipa in self.addresses() {
            let Some(stack) = self.serving(dvipa).map(|(s, _)| s.clone()) else { continue };
            if let Some(to) = self.successor(now, dvipa, &stack) {
                self.abandon(now, dvipa, super::history::Progress::Overtaken);
                self.move_to(now, dvipa, &to, Cause::Stopping);
            }
        }
    }

    /// After [`Machine::stop`]: nothing is left that somebody else could take.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.dvipas.values().all(|d| !matches!(d.step, Step::Offering(_) | Step::GivingUp(_)))
    }
}
