//! What the management interface shows of takeover.

use super::dvipa::{Dvipa, Phase, Step};
use super::history::Entry;
use super::machine::Machine;
use super::types::{StackState, Time};
use crate::config::{Giveback, Name};
use std::net::IpAddr;
use std::time::Duration;

/// Whether a stack could take a DVIPA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateState {
    /// Nothing is known of it.
    Unknown,
    /// It could.
    Ready,
    /// It lives and could not.
    NotReady,
    /// It has ended.
    Gone,
}

/// A stack that can own a DVIPA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateView {
    /// Stack.
    pub stack: Name,
    /// Its system, if known.
    pub system: Option<Name>,
    /// 0: preferred owner; then the backups.
    pub rank: usize,
    /// State.
    pub state: CandidateState,
    /// An operator has deactivated the DVIPA there.
    pub deactivated: bool,
}

/// A DVIPA as this system sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DvipaView {
    /// The address.
    pub address: IpAddr,
    /// Who speaks for it, as far as known.
    pub owner: Option<Name>,
    /// Its system, if known.
    pub system: Option<Name>,
    /// Its epoch.
    pub epoch: u64,
    /// The owner is of this system, and the coupling facility knows it; `None`: it is of another.
    pub recorded: Option<bool>,
    /// When it became owner; `None`: it is of another system.
    pub since: Option<Time>,
    /// Owner before, if known.
    pub from: Option<Name>,
    /// Who could own it, by rank.
    pub candidates: Vec<CandidateView>,
    /// Stacks of this system whose old connections go on.
    pub moving: Vec<Name>,
    /// What is under way here, in one word.
    pub step: &'static str,
    /// Why an owner speaks at all.
    pub lease: Option<Duration>,
    /// When it goes back to the preferred owner.
    pub giveback: Giveback,
    /// An operator chose the owner.
    pub held: bool,
    /// Connections at the owner, if they were counted.
    pub connections: Option<u64>,
}

impl Machine {
    /// All DVIPAs.
    #[must_use]
    pub fn views(&self, now: Time) -> Vec<DvipaView> {
        self.dvipas.values().map(|d| self.view_of(d, now)).collect()
    }

    /// One DVIPA.
    #[must_use]
    pub fn view(&self, dvipa: IpAddr, now: Time) -> Option<DvipaView> {
        self.dvipas.get(&dvipa).map(|d| self.view_of(d, now))
    }

    /// The takeover that is under way for a DVIPA here.
    #[must_use]
    pub fn running(&self, dvipa: IpAddr) -> Option<&Entry> {
        match &self.dvipas.get(&dvipa)?.step {
            Step::Acquiring(a) => Some(&a.entry),
            Step::Relieving(r) => Some(&r.entry),
            Step::Taking(t) => Some(&t.entry),
            Step::Steady | Step::Offering(_) | Step::GivingUp(_) => None,
        }
    }

    /// Whether a stack of this system is about to own the DVIPA in the place of one that was lost.
    #[must_use]
    pub fn replaces_lost(&self, dvipa: IpAddr) -> bool {
        self.dvipas.get(&dvipa).is_some_and(|d| match &d.step {
            Step::Acquiring(a) => a.giver.is_none(),
            Step::Relieving(r) => r.giver.is_none(),
            Step::Steady | Step::Offering(_) | Step::GivingUp(_) | Step::Taking(_) => false,
        })
    }

    fn view_of(&self, d: &Dvipa, now: Time) -> DvipaView {
        let current = d.current.as_ref();
        DvipaView {
            address: d.plan.address,
            owner: current.map(|c| c.stack.clone()),
            system: current.and_then(|c| c.system.clone().or_else(|| self.system_of(&c.stack))),
            epoch: current.map_or(d.highest, |c| c.epoch),
            recorded: d.serving.as_ref().map(|s| s.recorded),
            since: d.serving.as_ref().map(|s| s.since),
            from: d.serving.as_ref().and_then(|s| s.from.clone()),
            candidates: (0..)
                .zip(&d.plan.candidates)
                .map(|(rank, c)| self.candidate(d, rank, c, now))
                .collect(),
            moving: d.moving.iter().cloned().collect(),
            step: match &d.step {
                Step::Steady => "steady",
                Step::Acquiring(_) => "acquiring",
                Step::Relieving(_) => "relieving",
                Step::Offering(_) => "offering",
                Step::GivingUp(_) => "giving up",
                Step::Taking(t) => match t.phase {
                    Phase::Announcing => "announcing",
                    Phase::Notifying(_) => "notifying",
                    Phase::Renegotiating => "renegotiating",
                    Phase::Storing => "storing",
                    Phase::Clearing => "clearing",
                },
            },
            lease: self.settings.lease,
            giveback: d.plan.giveback,
            held: d.held,
            connections: d.connections,
        }
    }

    fn system_of(&self, stack: &Name) -> Option<Name> {
        match self.is_local(stack) {
            true => Some(self.settings.system.clone()),
            false => self.remote.get(stack).map(|r| r.system.clone()),
        }
    }

    fn candidate(&self, d: &Dvipa, rank: usize, stack: &Name, now: Time) -> CandidateView {
        let deactivated = d.deactivated.contains(stack);
        let state = match self.is_local(stack) {
            true => match self.state(stack) {
                StackState::Ready if deactivated => CandidateState::NotReady,
                StackState::Ready => CandidateState::Ready,
                StackState::Starting | StackState::Lost | StackState::Configured => CandidateState::NotReady,
                StackState::Ended => CandidateState::Gone,
                StackState::Unknown => CandidateState::Unknown,
            },
            false if self.lives(stack, now) => CandidateState::Ready,
            false if self.remote.contains_key(stack) => CandidateState::Gone,
            false => CandidateState::Unknown,
        };
        CandidateView { stack: stack.clone(), system: self.system_of(stack), rank, state, deactivated }
    }
}
