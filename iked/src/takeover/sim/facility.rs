//! The coupling facility, and the keeper of one system: what `iked::cf` promises, without its bytes.

use super::*;
use crate::cf::RecordKey;
use crate::cf::record::RecordId;

pub(super) const fn key(id: u8) -> RecordKey {
    RecordKey::Phase2(RecordId([id; 16]))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) stack: Name,
    pub(super) system: Name,
    pub(super) revision: u64,
    pub(super) ended: bool,
    /// Which start of the stack.
    pub(super) start: u64,
}

/// The store.
#[derive(Debug, Default, Clone)]
pub(super) struct Facility {
    pub(super) down: bool,
    pub(super) slow: bool,
    pub(super) cut: BTreeSet<usize>,
    pub(super) revision: u64,
    pub(super) owners: BTreeMap<IpAddr, (Name, Name, u64)>,
    pub(super) lives: BTreeMap<Name, Life>,
    /// Records, with the epoch of their writer.
    pub(super) records: BTreeMap<IpAddr, BTreeMap<u8, u64>>,
}

#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) dvipa: IpAddr,
    pub(super) stack: Name,
    pub(super) expected: Expected,
    pub(super) over: Option<Over>,
    pub(super) above: u64,
    /// Distinguishes this claim from others of the same stack, as a seal's salt does.
    pub(super) number: u64,
}

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Renew {
        stack: Name,
        start: u64,
        sent: Time,
        fences: Vec<(IpAddr, u64)>,
    },
    End {
        stack: Name,
        start: u64,
    },
    Claim(Claim),
    Write {
        dvipa: IpAddr,
        stack: Name,
        epoch: u64,
        id: u8,
    },
    Clear {
        dvipa: IpAddr,
        stack: Name,
        epoch: u64,
    },
    /// Everything, as a watch begins.
    Sync,
}

#[derive(Debug, Clone)]
pub(super) enum Reply {
    Renewed {
        stack: Name,
        sent: Time,
    },
    /// These are lost, and the renewal with them.
    Fenced {
        lost: Vec<IpAddr>,
    },
    Ended {
        stack: Name,
    },
    Claimed {
        number: u64,
        dvipa: IpAddr,
        stack: Name,
        epoch: u64,
        acquired: Time,
        records: Vec<u8>,
    },
    ClaimFailed {
        number: u64,
        dvipa: IpAddr,
    },
    Written {
        dvipa: IpAddr,
        id: u8,
    },
    Cleared {
        dvipa: IpAddr,
    },
    Lost {
        dvipa: IpAddr,
    },
    Synced {
        owners: Vec<(IpAddr, Option<Known>)>,
        lives: Vec<Life>,
    },
    /// A watch's change.
    Owner {
        dvipa: IpAddr,
        known: Known,
    },
    Life(Life),
}

/// What a keeper wants of the store; it repeats what is not answered.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    pub(super) serves: BTreeSet<Name>,
    pub(super) ends: BTreeSet<Name>,
    pub(super) starts: BTreeMap<Name, u64>,
    pub(super) claims: BTreeMap<IpAddr, (Claim, bool)>,
    pub(super) fences: BTreeMap<IpAddr, (Name, u64)>,
    pub(super) writes: BTreeSet<(IpAddr, u8)>,
    pub(super) clears: BTreeSet<IpAddr>,
    pub(super) synced: bool,
    pub(super) works: Option<bool>,
    pub(super) heard: Time,
}

impl Facility {
    fn known(&self, dvipa: IpAddr) -> Option<Known> {
        self.owners.get(&dvipa).map(|(stack, system, epoch)| Known {
            stack: stack.clone(),
            system: Some(system.clone()),
            epoch: *epoch,
        })
    }

    fn owns(&self, dvipa: IpAddr, stack: &Name, epoch: u64) -> bool {
        self.owners.get(&dvipa).is_some_and(|(s, _, e)| s == stack && *e == epoch)
    }

    /// Carries out an operation whole; gives the answer and what watchers see.
    pub(super) fn apply(
        &mut self,
        op: Operation,
        system: &Name,
        now: Time,
        claimed: &mut BTreeMap<u64, (IpAddr, Name, u64)>,
    ) -> (Reply, Vec<Reply>) {
        match op {
            // Of an earlier start, and late.
            Operation::Renew { stack, start, .. }
                if self.lives.get(&stack).is_some_and(|l| l.start > start) =>
            {
                (Reply::Fenced { lost: vec![] }, vec![])
            }
            Operation::Renew { stack, start, sent, fences } => {
                let lost: Vec<IpAddr> =
                    fences.iter().filter(|(d, e)| !self.owns(*d, &stack, *e)).map(|(d, _)| *d).collect();
                if !lost.is_empty() {
                    return (Reply::Fenced { lost }, vec![]);
                }
                self.revision += 1;
                let life = Life {
                    stack: stack.clone(),
                    system: system.clone(),
                    revision: self.revision,
                    ended: false,
                    start,
                };
                self.lives.insert(stack.clone(), life.clone());
                (Reply::Renewed { stack, sent }, vec![Reply::Life(life)])
            }
            // A later start lives.
            Operation::End { stack, start } if self.lives.get(&stack).is_some_and(|l| l.start > start) => {
                (Reply::Ended { stack }, vec![])
            }
            Operation::End { stack, start } => {
                self.revision += 1;
                let life = Life {
                    stack: stack.clone(),
                    system: system.clone(),
                    revision: self.revision,
                    ended: true,
                    start,
                };
                self.lives.insert(stack.clone(), life.clone());
                (Reply::Ended { stack }, vec![Reply::Life(life)])
            }
            Operation::Claim(c) => {
                let records =
                    |f: &Self| f.records.get(&c.dvipa).map_or(vec![], |r| r.keys().copied().collect());
                let done = |records, epoch| Reply::Claimed {
                    number: c.number,
                    dvipa: c.dvipa,
                    stack: c.stack.clone(),
                    epoch,
                    acquired: now,
                    records,
                };
                // Repeated because its answer was lost: it is known by its bytes.
                if let Some((d, s, e)) = claimed.get(&c.number)
                    && self.owns(*d, s, *e)
                {
                    return (done(records(self), *e), vec![]);
                }
                let owner = self.owners.get(&c.dvipa);
                let expected = match &c.expected {
                    Expected::Any => true,
                    Expected::Nobody => owner.is_none(),
                    Expected::Owner(s, e) => owner.is_some_and(|(n, _, x)| n == s && x == e),
                };
                let still = c.over.as_ref().is_none_or(|over| {
                    self.lives.get(&over.stack).map_or(0, |l| l.revision) == over.revision
                });
                if !expected || !still || claimed.contains_key(&c.number) {
                    return (Reply::ClaimFailed { number: c.number, dvipa: c.dvipa }, vec![]);
                }
                let epoch = owner.map_or(0, |(_, _, e)| *e).max(c.above) + 1;
                self.revision += 1;
                self.owners.insert(c.dvipa, (c.stack.clone(), system.clone(), epoch));
                claimed.insert(c.number, (c.dvipa, c.stack.clone(), epoch));
                let known = self.known(c.dvipa).unwrap();
                (done(records(self), epoch), vec![Reply::Owner { dvipa: c.dvipa, known }])
            }
            Operation::Write { dvipa, stack, epoch, id } => {
                if !self.owns(dvipa, &stack, epoch) {
                    return (Reply::Lost { dvipa }, vec![]);
                }
                self.records.entry(dvipa).or_default().insert(id, epoch);
                (Reply::Written { dvipa, id }, vec![])
            }
            Operation::Clear { dvipa, stack, epoch } => {
                if !self.owns(dvipa, &stack, epoch) {
                    return (Reply::Lost { dvipa }, vec![]);
                }
                self.records.entry(dvipa).or_default().retain(|_, e| *e >= epoch);
                (Reply::Cleared { dvipa }, vec![])
            }
            Operation::Sync => {
                let owners = self.records.keys().map(|d| (*d, self.known(*d))).collect();
                (Reply::Synced { owners, lives: self.lives.values().cloned().collect() }, vec![])
            }
        }
    }
}

impl World {
    /// The keeper sends what it wants, whatever it sent before: each operation may be repeated.
    pub(super) fn keep(&mut self, system: usize) {
        let sent = self.local_time(system);
        let s = &self.systems[system];
        let mut ops = Vec::new();
        if !s.keeper.synced {
            ops.push(Operation::Sync);
        }
        for stack in &s.keeper.serves {
            let fences = s.keeper.fences.iter().filter(|(_, (n, _))| n == stack).map(|(d, (_, e))| (*d, *e));
            let start = s.keeper.starts.get(stack).copied().unwrap_or_default();
            ops.push(Operation::Renew { stack: stack.clone(), start, sent, fences: fences.collect() });
        }
        ops.extend(s.keeper.ends.iter().map(|stack| Operation::End {
            stack: stack.clone(),
            start: s.keeper.starts.get(stack).copied().unwrap_or_default(),
        }));
        ops.extend(s.keeper.claims.values().map(|(c, _)| Operation::Claim(c.clone())));
        for (dvipa, id) in &s.keeper.writes {
            if let Some((stack, epoch)) = s.keeper.fences.get(dvipa) {
                ops.push(Operation::Write { dvipa: *dvipa, stack: stack.clone(), epoch: *epoch, id: *id });
            }
        }
        for dvipa in &s.keeper.clears {
            if let Some((stack, epoch)) = s.keeper.fences.get(dvipa) {
                ops.push(Operation::Clear { dvipa: *dvipa, stack: stack.clone(), epoch: *epoch });
            }
        }
        for op in ops {
            self.send_operation(system, op);
        }
    }

    pub(super) fn send_operation(&mut self, system: usize, op: Operation) {
        let delay = if self.store.slow { self.delay(20, 300) } else { self.delay(0, 3) };
        let incarnation = self.systems[system].incarnation;
        self.at(self.now + delay, Event::Operation { system, incarnation, op });
    }

    pub(super) fn operation(&mut self, system: usize, incarnation: u64, op: Operation) {
        if self.store.down || self.store.cut.contains(&system) {
            return;
        }
        let name = self.systems[system].name.clone();
        let mut claimed = std::mem::take(&mut self.claimed_numbers);
        let acquired = self.local_time(system);
        let (reply, seen) = self.store.apply(op, &name, acquired, &mut claimed);
        self.claimed_numbers = claimed;
        for change in seen {
            for other in 0..self.systems.len() {
                if !self.store.cut.contains(&other) {
                    self.tell(other, change.clone());
                }
            }
        }
        // An answer is lost now and then.
        if !self.faults || self.rng.random_range(0..100) > 2 {
            self.answer(system, incarnation, reply);
        }
    }

    /// A watch tells in order, but not in the order of the answers.
    fn tell(&mut self, system: usize, reply: Reply) {
        let delay = if self.store.slow { self.delay(20, 300) } else { self.delay(0, 3) };
        let s = &mut self.systems[system];
        s.last_seen = (self.now + delay).max(s.last_seen);
        let (at, incarnation) = (s.last_seen, s.incarnation);
        self.at(at, Event::Answer { system, incarnation, reply });
    }

    fn answer(&mut self, system: usize, incarnation: u64, reply: Reply) {
        let delay = if self.store.slow { self.delay(20, 300) } else { self.delay(0, 3) };
        let s = &mut self.systems[system];
        s.last_answer = (self.now + delay).max(s.last_answer);
        let at = s.last_answer;
        self.at(at, Event::Answer { system, incarnation, reply });
    }

    pub(super) fn answered(&mut self, system: usize, reply: Reply) {
        let now = self.local_time(system);
        let s = &mut self.systems[system];
        s.keeper.heard = self.now;
        let mut inputs = Vec::new();
        if s.keeper.works != Some(true) {
            // What a watch missed is read again.
            if s.keeper.works == Some(false) && !matches!(reply, Reply::Synced { .. }) {
                s.keeper.synced = false;
                return self.send_operation(system, Operation::Sync);
            }
            s.keeper.works = Some(true);
            inputs.push(Input::Facility { works: true });
        }
        let mut fenced = Vec::new();
        match reply {
            Reply::Renewed { stack, sent } => inputs.push(Input::Renewed { stack, sent }),
            Reply::Fenced { lost } => fenced = lost,
            Reply::Ended { stack } => {
                s.keeper.ends.remove(&stack);
            }
            Reply::Claimed { number, dvipa, stack, epoch, acquired, records } => {
                if s.keeper.claims.get(&dvipa).is_some_and(|(c, _)| c.number == number) {
                    s.keeper.claims.remove(&dvipa);
                    s.keeper.fences.insert(dvipa, (stack.clone(), epoch));
                    if self.bugs.early_clear {
                        s.keeper.clears.insert(dvipa);
                    } else {
                        s.keeper.clears.remove(&dvipa);
                    }
                    let records =
                        records.into_iter().map(|id| Left { key: key(id), outcome: None }).collect();
                    inputs.push(Input::Claimed { dvipa, stack, epoch, acquired: acquired.min(now), records });
                }
            }
            Reply::ClaimFailed { number, dvipa } => {
                if s.keeper.claims.get(&dvipa).is_some_and(|(c, _)| c.number == number) {
                    s.keeper.claims.remove(&dvipa);
                    inputs.push(Input::ClaimFailed { dvipa, failure: ClaimFailure::Overtaken });
                }
            }
            Reply::Written { dvipa, id } => {
                if s.keeper.writes.remove(&(dvipa, id)) {
                    inputs.push(Input::Record { dvipa, key: key(id), outcome: Outcome::Stored });
                }
            }
            Reply::Cleared { dvipa } => {
                if s.keeper.clears.remove(&dvipa) {
                    inputs.push(Input::Cleared { dvipa });
                }
            }
            Reply::Lost { dvipa } => fenced.push(dvipa),
            Reply::Synced { owners, lives } => {
                s.keeper.synced = true;
                let owners = owners.into_iter();
                inputs.extend(owners.map(|(dvipa, owner)| Input::OwnerIs { dvipa, owner }));
                inputs.extend(lives.into_iter().map(life_input));
                inputs.push(Input::Synced);
            }
            Reply::Owner { dvipa, known } => inputs.push(Input::OwnerIs { dvipa, owner: Some(known) }),
            Reply::Life(life) => inputs.push(life_input(life)),
        }
        for dvipa in fenced {
            // Only what is still believed; an answer to an older epoch says nothing of this one.
            let k = &mut self.systems[system].keeper;
            if k.fences.get(&dvipa).is_none_or(|(n, e)| !self.store.owns(dvipa, n, *e)) {
                k.fences.remove(&dvipa);
                k.writes.retain(|(d, _)| *d != dvipa);
                k.clears.remove(&dvipa);
                inputs.push(Input::Fenced { dvipa });
            }
        }
        for input in inputs {
            self.input(system, input);
        }
    }

    /// Renewals and whatever was not answered; the store's silence is noticed here.
    pub(super) fn keeper_timer(&mut self, system: usize) {
        let incarnation = self.systems[system].incarnation;
        let s = &mut self.systems[system];
        if s.keeper.works != Some(false) && self.now > s.keeper.heard + ms(150) && s.keeper.heard > Time::ZERO
        {
            s.keeper.works = Some(false);
            self.input(system, Input::Facility { works: false });
        }
        self.keep(system);
        self.at(self.now + LEASE / 5, Event::Keep { system, incarnation });
    }
}

fn life_input(life: Life) -> Input {
    let Life { stack, system, revision, ended, .. } = life;
    Input::Alive { stack, system, revision, ended }
}
