//! Requests about DVIPAs, as far as the core itself knows the answers.

use super::{Core, Stack};
use crate::config::{self, Distribute, Dvipa};
use crate::request::vipa::{
    BackupState, BackupStatus, DistributionMethod, DvipaState, DvipaStatus, GivebackMode, Owner, Protection,
    TakeoverMode, TargetStatus, VipaRequest,
};
use crate::request::{CfState, CoreError};
use crate::stack_link::{ANSWER_TIME, StackIndex};
use crate::topology;
use stack::control::{Answer, Question, TargetView};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::oneshot;

impl Core {
    /// Answers, or lets a task answer that waits for the owner's stack. The asker may be gone; so it is with every
    /// reply.
    pub(super) fn vipa(&self, request: VipaRequest) {
        match request {
            VipaRequest::Display { stack, reply } => match self.find(&stack) {
                Some(index) => {
                    let all = self.parts(index).map(|d| (self.dvipa(index, d), self.counts(d))).collect();
                    tokio::spawn(with_connections(all, reply));
                }
                None => drop(reply.send(Err(CoreError::UnknownStack))),
            },
            VipaRequest::Targets { stack, reply } => match self.find(&stack) {
                Some(index) => {
                    let owns = |d: &Dvipa| self.owner_stack(d.address) == Some(index);
                    let all = self.parts(index).flat_map(|d| {
                        let counts = owns(d).then(|| self.counts(d)).flatten();
                        let mut rows = self.targets(d);
                        // One question for all targets of the DVIPA: it goes with the first.
                        let first = rows.first_mut().map(|row| (row.clone(), counts));
                        first.into_iter().chain(rows.into_iter().skip(1).map(|row| (row, None)))
                    });
                    tokio::spawn(with_counts(all.collect(), reply));
                }
                None => drop(reply.send(Err(CoreError::UnknownStack))),
            },
            VipaRequest::History { stack, reply } => {
                let known = self.find(&stack).is_some();
                let _ = reply.send(if known { Ok(Vec::new()) } else { Err(CoreError::UnknownStack) });
            }
            VipaRequest::Control { reply, .. } => {
                let _ = reply.send(Err(CoreError::NotSupported));
            }
        }
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

    fn dvipa(&self, index: StackIndex, d: &Dvipa) -> DvipaStatus {
        let (entry, owner) = (&self.stacks[index].entry, self.owners.get(&d.address));
        let state = match owner {
            Some(o) if o.stack == entry.name => DvipaState::Active,
            _ if d.owner == entry.name || d.backups.contains(&entry.name) => DvipaState::Backup,
            _ => DvipaState::Dest,
        };
        let sas = self.owner_stack(d.address).map_or((0, 0, 0, 0), |i| sas(&self.stacks[i], d.address));
        let protection = match (owner, self.unprotected.get(&d.address)) {
            (Some(_), Some(reason)) => Protection::Failed(reason.clone()),
            (Some(_), None) if self.keeper.is_some() => match sas.3 {
                0 => Protection::Stored,
                n => Protection::Failed(format!("{n} records are not written yet")),
            },
            _ => Protection::NotApplicable,
        };
        let backup = |(rank, name): (usize, &config::Name)| {
            let stack = self.stacks.iter().find(|s| s.entry.name == *name);
            BackupStatus {
                stack: name.as_str().to_owned(),
                system: self.config.system.as_str().to_owned(),
                rank: u16::try_from(rank).unwrap_or(u16::MAX),
                state: match stack {
                    None => BackupState::Unknown,
                    Some(s) if s.link.is_none() => BackupState::Gone,
                    Some(s) if s.configured && s.policy.is_some() => BackupState::Ready,
                    Some(_) => BackupState::NotReady,
                },
            }
        };
        DvipaStatus {
            address: d.address,
            owner: owner.map(|o| Owner {
                stack: o.stack.as_str().to_owned(),
                system: self.config.system.as_str().to_owned(),
                epoch: o.epoch,
                since_unix: None,
                from: None,
            }),
            state,
            mode: match d.takeover {
                config::Takeover::Renegotiate => TakeoverMode::Renegotiate,
            },
            giveback: match d.giveback {
                config::Giveback::Immediate => GivebackMode::Immediate,
                config::Giveback::WhenIdle => GivebackMode::WhenIdle,
                config::Giveback::Manual => GivebackMode::Manual,
            },
            protection,
            backups: std::iter::once(&d.owner).chain(&d.backups).enumerate().map(backup).collect(),
            connections: None,
            ike_sas: sas.0,
            child_sas: sas.1,
            stored: sas.2,
            failed: sas.3,
            lease: None,
            ceiling: None,
        }
    }

    fn targets(&self, d: &Dvipa) -> Vec<TargetStatus> {
        let owner = self.owners.get(&d.address).map(|o| &o.stack);
        let row = |x: &Distribute, ports: (u16, u16), name: &config::Name| {
            let stack = self.stacks.iter().find(|s| s.entry.name == *name);
            let xcf = stack.and_then(|s| s.entry.xcf.as_ref()).map(|x| x.address);
            TargetStatus {
                dvipa: d.address,
                protocol: x.protocol,
                ports,
                method: match x.method {
                    config::Method::RoundRobin => DistributionMethod::RoundRobin,
                },
                target: name.as_str().to_owned(),
                xcf: xcf.filter(|_| owner != Some(name)),
                path_up: None,
                heard: None,
                ready: None,
                weight: None,
                quiesced: false,
                preferred: false,
                connections: None,
                affinity: Duration::ZERO,
            }
        };
        let mut rows = Vec::new();
        for x in &d.distribute {
            for ports in &x.ports {
                rows.extend(x.targets.iter().map(|target| row(x, *ports, target)));
            }
        }
        rows
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
            let mine = views.iter().filter(|v| {
                v.dvipa == status.dvipa
                    && v.target == status.target
                    && (status.ports.0..=status.ports.1).contains(&v.port)
            });
            status.connections = Some(mine.fold((0, 0), |(a, t), v| (a + v.active, t + v.total)));
        }
        done.push(status);
    }
    let _ = reply.send(Ok(done));
}
