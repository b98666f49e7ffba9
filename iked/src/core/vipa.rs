//! Requests about DVIPAs, as far as the core itself knows the answers.

use super::{Core, Now, Stack};
use crate::config::{self, Distribute, Dvipa};
use crate::request::vipa::{
    BackupState, BackupStatus, DistributionMethod, DvipaState, DvipaStatus, GivebackMode, Owner, Protection,
    StepTime, TakeoverCause, TakeoverMode, TakeoverReport, TakeoverResult, TakeoverStep, TargetStatus,
    VipaOrder, VipaOutcome, VipaRequest, VipaResult,
};
use crate::request::{CfState, CoreError};
use crate::stack_link::{ANSWER_TIME, StackIndex};
use crate::takeover::{
    self, CandidateState, CandidateView, Cause, DvipaView, Entry, Progress, Refusal, Request, StepName,
};
use crate::topology;
use stack::control::{Answer, Heard, Method, Question, TargetView};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::oneshot;

impl Core {
    /// Answers, or lets a task answer that waits for the owner's stack. The asker may be gone; so it is with every
    /// reply.
    pub(super) fn vipa(&mut self, now: Now, request: VipaRequest) {
        match request {
            VipaRequest::Display { stack, reply } => match self.find(&stack) {
                Some(index) => {
                    let all =
                        self.parts(index).map(|d| (self.dvipa(now, index, d), self.counts(d))).collect();
                    tokio::spawn(with_connections(all, reply));
                }
                None => drop(reply.send(Err(CoreError::UnknownStack))),
            },
            VipaRequest::Targets { stack, reply } => match self.find(&stack) {
                Some(index) => {
                    let owns = |d: &Dvipa| self.owner_stack(d.address) == Some(index);
                    let all = self.parts(index).flat_map(|d| {
                        let counts = owns(d).then(|| self.counts(d)).flatten();
                        let mut rows = self.targets(now, d);
                        // One question for all targets of the DVIPA: it goes with the first.
                        let first = rows.first_mut().map(|row| (row.clone(), counts));
                        first.into_iter().chain(rows.into_iter().skip(1).map(|row| (row, None)))
                    });
                    tokio::spawn(with_counts(all.collect(), reply));
                }
                None => drop(reply.send(Err(CoreError::UnknownStack))),
            },
            VipaRequest::History { stack, reply } => {
                let all = self.find(&stack).map(|index| self.history(now, &self.stacks[index].entry.name));
                let _ = reply.send(all.ok_or(CoreError::UnknownStack));
            }
            VipaRequest::Control { stack, order, reply } => {
                let done = match self.find(&stack) {
                    Some(index) => Ok(self.vipa_order(now, index, order)),
                    None => Err(CoreError::UnknownStack),
                };
                let _ = reply.send(done);
            }
        }
    }

    /// Takeovers that a stack made, or lost its DVIPA by, newest first.
    fn history(&self, now: Now, stack: &config::Name) -> Vec<TakeoverReport> {
        let machine = &self.takeovers.machine;
        let running = self.config.dvipas.iter().filter_map(|d| machine.running(d.address));
        let all = machine.history().iter().chain(running);
        let mut mine: Vec<_> = all
            .filter(|e| e.to == *stack || e.from.as_ref() == Some(stack))
            .map(|e| self.report_of(now, e))
            .collect();
        mine.reverse();
        mine
    }

    fn report_of(&self, now: Now, e: &Entry) -> TakeoverReport {
        let mode = self.config.dvipas.iter().find(|d| d.address == e.dvipa).map(|d| d.takeover);
        let ago = now.boot.saturating_sub(e.begun).as_secs();
        TakeoverReport {
            dvipa: e.dvipa,
            from: e.from.as_ref().map(|n| n.as_str().to_owned()),
            to: e.to.as_str().to_owned(),
            epoch: e.epoch,
            cause: match e.cause {
                Cause::Start => TakeoverCause::Start,
                Cause::Restart => TakeoverCause::Restart,
                Cause::ProcessEnded => TakeoverCause::OwnerEnded,
                Cause::LeaseEnded => TakeoverCause::LeaseEnded,
                Cause::Operator => TakeoverCause::Operator,
                Cause::Deactivated => TakeoverCause::Deactivated,
                Cause::Giveback => TakeoverCause::Giveback,
                Cause::Stopping => TakeoverCause::OwnerStopped,
            },
            result: match e.progress {
                Progress::Running => TakeoverResult::Running,
                Progress::Done => TakeoverResult::Done,
                Progress::Incomplete => TakeoverResult::Incomplete,
                Progress::Overtaken => TakeoverResult::Overtaken,
                Progress::Failed => TakeoverResult::Failed,
            },
            mode: mode.map_or(TakeoverMode::Renegotiate, mode_of),
            planned: e.planned,
            started_unix: now.unix.saturating_sub(ago),
            duration: e.duration(now.boot),
            ready: e.ready(),
            steps: e.steps.iter().map(|t| step_of(now, e, t)).collect(),
            connections: e.connections,
            sas: e.counts.total,
            remade: e.counts.remade,
            continued: e.counts.continued,
            failed: e.counts.failed,
            waiting: e.counts.waiting,
            reason: e.reason.clone(),
        }
    }

    fn vipa_order(&mut self, now: Now, index: StackIndex, order: VipaOrder) -> Vec<VipaOutcome> {
        let here = self.stacks[index].entry.name.clone();
        let outcome = |dvipa, stack: Option<&str>, done: Result<(), Refusal>| {
            let (result, reason) = match done {
                Ok(()) => (VipaResult::Started, None),
                Err(e) => (result_of(&e), Some(e.to_string())),
            };
            vec![VipaOutcome { dvipa, stack: stack.map(str::to_owned), result, reason }]
        };
        match order {
            VipaOrder::Move { dvipa, to } => {
                let done = match config::Name::parse(&to) {
                    Ok(name) => self.takeovers.machine.request(now.boot, &Request::Move { dvipa, to: name }),
                    Err(_) => Err(Refusal::NoCandidate { dvipa, stack: here }),
                };
                self.carry_out(now);
                outcome(Some(dvipa), Some(&to), done)
            }
            VipaOrder::Deactivate(dvipa) => {
                let request = Request::Deactivate { dvipa, stack: here.clone() };
                let done = self.takeovers.machine.request(now.boot, &request);
                self.carry_out(now);
                outcome(Some(dvipa), Some(here.as_str()), done)
            }
            VipaOrder::Reactivate(dvipa) => {
                let request = Request::Reactivate { dvipa, stack: here.clone() };
                let done = self.takeovers.machine.request(now.boot, &request);
                self.carry_out(now);
                outcome(Some(dvipa), Some(here.as_str()), done)
            }
            VipaOrder::Quiesce { target, dvipa } => self.quiesce(now, &target, dvipa, true),
            VipaOrder::Resume { target, dvipa } => self.quiesce(now, &target, dvipa, false),
        }
    }

    /// Takes a target out of the distribution of one DVIPA or of all, or puts it back.
    fn quiesce(&mut self, now: Now, target: &str, dvipa: Option<IpAddr>, out: bool) -> Vec<VipaOutcome> {
        let outcome = |dvipa, result, reason: Option<&str>| VipaOutcome {
            dvipa,
            stack: Some(target.to_owned()),
            result,
            reason: reason.map(str::to_owned),
        };
        let concerned = |d: &&Dvipa| {
            dvipa.is_none_or(|a| a == d.address)
                && d.distribute.iter().any(|x| x.targets.iter().any(|t| t.stack.is(target)))
        };
        let all: Vec<IpAddr> = self.config.dvipas.iter().filter(concerned).map(|d| d.address).collect();
        let Ok(name) = config::Name::parse(target) else {
            return vec![outcome(dvipa, VipaResult::NotFound, Some("no target of that name"))];
        };
        if all.is_empty() {
            return vec![outcome(dvipa, VipaResult::NotFound, Some("no target of that name"))];
        }
        let mut outcomes = Vec::new();
        for a in all {
            let entry = (name.clone(), Some(a));
            let changed = if out { self.quiesced.insert(entry) } else { self.quiesced.remove(&entry) };
            let result = if changed { VipaResult::Started } else { VipaResult::AlreadySet };
            outcomes.push(outcome(Some(a), result, None));
        }
        self.save_quiesced();
        self.configure_all(now, None);
        outcomes
    }

    /// The DVIPAs that a stack takes part in.
    fn parts(&self, index: StackIndex) -> impl Iterator<Item = &Dvipa> {
        let name = &self.stacks[index].entry.name;
        self.config.dvipas.iter().filter(move |d| topology::takes_part_in(d, name))
    }

    fn owner_stack(&self, dvipa: IpAddr) -> Option<StackIndex> {
        let owner = self.owners.get(&dvipa)?;
        self.stacks.iter().position(|s| s.entry.name == owner.stack)
    }

    /// A question to the owner for its connections.
    fn counts(&self, d: &Dvipa) -> Option<oneshot::Receiver<Answer>> {
        let link = self.stacks[self.owner_stack(d.address)?].link.as_ref()?;
        Some(link.ask(Question::Distribution))
    }

    fn dvipa(&self, now: Now, index: StackIndex, d: &Dvipa) -> DvipaStatus {
        let (entry, owner) = (&self.stacks[index].entry, self.owners.get(&d.address));
        let view = self.takeovers.machine.view(d.address, now.boot);
        let off = |v: &DvipaView| v.candidates.iter().any(|c| c.stack == entry.name && c.deactivated);
        let moving = |v: &DvipaView| v.moving.contains(&entry.name);
        let state = match owner {
            Some(o) if o.stack == entry.name => DvipaState::Active,
            _ if view.as_ref().is_some_and(|v| off(v) && moving(v)) => DvipaState::Quiescing,
            _ if view.as_ref().is_some_and(off) => DvipaState::Deactivated,
            _ if view.as_ref().is_some_and(moving) => DvipaState::Moving,
            _ if d.owner == entry.name || d.backups.contains(&entry.name) => DvipaState::Backup,
            _ => DvipaState::Dest,
        };
        let sas = self.owner_stack(d.address).map_or((0, 0, 0, 0), |i| sas(&self.stacks[i], d.address));
        let facility = self.facility.as_ref().filter(|(works, _)| !works).map(|(_, reason)| reason);
        let protection = match (owner, self.unprotected.get(&d.address)) {
            (Some(_), _) if facility.is_some() => {
                Protection::NotProtected(facility.cloned().unwrap_or_default())
            }
            (Some(_), Some(reason)) => Protection::Failed(reason.clone()),
            (Some(_), None) if self.keeper.is_some() => match sas.3 {
                0 => Protection::Stored,
                n => Protection::Failed(format!("{n} records are not written yet")),
            },
            _ => Protection::NotApplicable,
        };
        let backup = |c: &CandidateView| BackupStatus {
            stack: c.stack.as_str().to_owned(),
            system: c.system.as_ref().map_or_else(String::new, |s| s.as_str().to_owned()),
            rank: u16::try_from(c.rank).unwrap_or(u16::MAX),
            state: match c.state {
                CandidateState::Unknown => BackupState::Unknown,
                CandidateState::Ready => BackupState::Ready,
                CandidateState::NotReady => BackupState::NotReady,
                CandidateState::Gone => BackupState::Gone,
            },
        };
        DvipaStatus {
            address: d.address,
            owner: owner.map(|o| Owner {
                stack: o.stack.as_str().to_owned(),
                system: view
                    .as_ref()
                    .and_then(|v| v.system.as_ref())
                    .map_or_else(String::new, |s| s.as_str().to_owned()),
                epoch: o.epoch,
                since_unix: view
                    .as_ref()
                    .and_then(|v| v.since)
                    .map(|t| now.unix.saturating_sub(now.boot.saturating_sub(t).as_secs())),
                from: view.as_ref().and_then(|v| v.from.as_ref()).map(|f| f.as_str().to_owned()),
            }),
            state,
            mode: mode_of(d.takeover),
            giveback: match d.giveback {
                config::Giveback::Immediate => GivebackMode::Immediate,
                config::Giveback::WhenIdle => GivebackMode::WhenIdle,
                config::Giveback::Manual => GivebackMode::Manual,
            },
            protection,
            backups: view.iter().flat_map(|v| &v.candidates).map(backup).collect(),
            connections: None,
            ike_sas: sas.0,
            child_sas: sas.1,
            stored: sas.2,
            failed: sas.3,
            lease: view.as_ref().and_then(|v| v.lease),
            ceiling: self.continuing.ceiling(d.address),
        }
    }

    /// What the owner's stack, or any other of this system, has heard of a target.
    fn heard_of(&self, now: Now, d: &Dvipa, target: &config::Name) -> Option<(Duration, &Heard)> {
        let owner = self.owner_stack(d.address);
        let mut all: Vec<_> = self.heard.iter().filter(|((_, member), _)| member == target).collect();
        all.sort_by_key(|((by, _), (at, _))| (Some(*by) != owner, std::cmp::Reverse(*at)));
        all.first().map(|(_, (at, heard))| (now.instant.saturating_duration_since(*at), heard))
    }

    fn targets(&self, now: Now, d: &Dvipa) -> Vec<TargetStatus> {
        let owner = self.owners.get(&d.address).map(|o| &o.stack);
        let row = |x: &Distribute, ports: (u16, u16), rank: usize, target: &config::Target| {
            let name = &target.stack;
            let stack = self.stacks.iter().find(|s| s.entry.name == *name);
            let there = || self.takeovers.members.get(name).and_then(|(_, m)| m.xcf);
            let xcf = stack.and_then(|s| s.entry.xcf.as_ref()).map(|x| x.address).or_else(there);
            let heard = self.heard_of(now, d, name);
            let in_force = x.method.weight_in_force(target.weight, heard.map(|(_, h)| h.capacity));
            let servers = |h: &Heard| {
                let of = h.ready.iter().filter(|r| {
                    r.dvipa == d.address && r.protocol == x.protocol && (ports.0..=ports.1).contains(&r.port)
                });
                of.map(|r| r.count).fold(0, u32::saturating_add)
            };
            TargetStatus {
                dvipa: d.address,
                protocol: x.protocol,
                ports,
                method: method_of(x.method),
                target: name.as_str().to_owned(),
                xcf: xcf.filter(|_| owner != Some(name)),
                path_up: heard.map(|(_, h)| h.alive),
                heard: heard.map(|(at, _)| at),
                ready: heard.map(|(_, h)| servers(h)),
                weight: in_force.map(u32::from),
                quiesced: [None, Some(d.address)].iter().any(|w| self.quiesced.contains(&(name.clone(), *w))),
                preferred: matches!(x.method, Method::HotStandby { .. }) && rank == 0,
                connections: None,
                affinity: Duration::from_secs(x.affinity_secs.into()),
            }
        };
        let mut rows = Vec::new();
        for x in &d.distribute {
            for ports in &x.ports {
                rows.extend(x.targets.iter().enumerate().map(|(rank, target)| row(x, *ports, rank, target)));
            }
        }
        rows
    }
}

const fn method_of(method: Method) -> DistributionMethod {
    match method {
        Method::RoundRobin => DistributionMethod::RoundRobin,
        Method::WeightedActive => DistributionMethod::WeightedActive,
        Method::HotStandby { .. } => DistributionMethod::HotStandby,
        Method::Wlm => DistributionMethod::Wlm,
        Method::Maglev => DistributionMethod::Maglev,
    }
}

const fn mode_of(mode: config::Takeover) -> TakeoverMode {
    match mode {
        config::Takeover::Renegotiate => TakeoverMode::Renegotiate,
        config::Takeover::Continue => TakeoverMode::Continue,
    }
}

fn step_of(now: Now, e: &Entry, t: &takeover::StepTime) -> StepTime {
    let step = match t.step {
        StepName::Detect => TakeoverStep::Detect,
        StepName::Acquire => TakeoverStep::Acquire,
        StepName::Read => TakeoverStep::Read,
        StepName::Relieve => TakeoverStep::Relieve,
        StepName::Filters => TakeoverStep::Filters,
        StepName::Announce => TakeoverStep::Announce,
        StepName::Notify => TakeoverStep::Notify,
        StepName::Renegotiate => TakeoverStep::Renegotiate,
        StepName::Store => TakeoverStep::Store,
        StepName::Clear => TakeoverStep::Clear,
    };
    let so_far = e.duration(now.boot).saturating_sub(t.begin);
    StepTime { step, begin: t.begin, duration: t.took.unwrap_or(so_far) }
}

const fn result_of(e: &Refusal) -> VipaResult {
    match e {
        Refusal::UnknownDvipa(_) => VipaResult::NotFound,
        Refusal::NoCandidate { .. } => VipaResult::NotABackup,
        Refusal::AlreadyOwner(_) | Refusal::NotDeactivated(_) => VipaResult::AlreadySet,
        Refusal::Deactivated(_) | Refusal::NotReady(_) => VipaResult::NotReady,
        Refusal::Busy => VipaResult::Busy,
        Refusal::NoOwner | Refusal::Elsewhere(_) => VipaResult::NotOwner,
    }
}

/// IKE SAs, child SAs, and of both those with and without a record.
fn sas(stack: &Stack, dvipa: IpAddr) -> (u32, u32, u32, u32) {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let ike = stack.engine.ike_tunnels().iter().filter(|v| v.local.ip() == dvipa).count();
    let children = stack.engine.children().iter().filter(|v| v.local.ip() == dvipa).count();
    let states = stack.ledger.states_of(dvipa);
    let stored = states.iter().filter(|s| **s == CfState::Stored).count();
    (count(ike), count(children), count(stored), count(states.len() - stored))
}

/// What a stack answers about its connections; `None`: nothing in time.
async fn answered(question: Option<oneshot::Receiver<Answer>>) -> Option<Vec<TargetView>> {
    match tokio::time::timeout(ANSWER_TIME, question?).await {
        Ok(Ok(Answer::Distribution(views))) => Some(views),
        _ => None,
    }
}

type Asked<T> = Vec<(T, Option<oneshot::Receiver<Answer>>)>;
type Reply<T> = oneshot::Sender<Result<Vec<T>, CoreError>>;

async fn with_connections(all: Asked<DvipaStatus>, reply: Reply<DvipaStatus>) {
    let mut done = Vec::with_capacity(all.len());
    for (mut status, question) in all {
        let views = answered(question).await;
        let of = |views: Vec<TargetView>| {
            views.iter().filter(|v| v.dvipa == status.address).map(|v| v.active).sum()
        };
        status.connections = views.map(of);
        done.push(status);
    }
    let _ = reply.send(Ok(done));
}

async fn with_counts(all: Asked<TargetStatus>, reply: Reply<TargetStatus>) {
    let mut done: Vec<TargetStatus> = Vec::with_capacity(all.len());
    let mut views: Option<(IpAddr, Vec<TargetView>)> = None;
    for (mut status, question) in all {
        if question.is_some() {
            views = answered(question).await.map(|v| (status.dvipa, v));
        }
        if let Some((_, views)) = views.as_ref().filter(|(dvipa, _)| *dvipa == status.dvipa) {
            let mine: Vec<&TargetView> = views
                .iter()
                .filter(|v| {
                    v.dvipa == status.dvipa
                        && v.protocol == status.protocol
                        && v.target == status.target
                        && (status.ports.0..=status.ports.1).contains(&v.port)
                })
                .collect();
            status.connections = Some(mine.iter().fold((0, 0), |(a, t), v| (a + v.active, t + v.total)));
            // What the owner distributes by, of itself too.
            if let Some(v) = mine.first() {
                let has_weight =
                    !matches!(status.method, DistributionMethod::RoundRobin | DistributionMethod::HotStandby);
                status.weight = has_weight.then_some(v.weight.into());
                status.ready = v.ready.or(status.ready);
            }
        }
        done.push(status);
    }
    let _ = reply.send(Ok(done));
}
