//! The group of stacks as one of them sees it: a state machine without socket and clock.
//!
//! The shell calls [`Group::configure`], [`Group::handle_datagram`], [`Group::handle_report`], … with the time, then
//! takes everything from [`Group::poll_transmit`] and [`Group::poll_event`], and calls [`Group::handle_timeout`] when
//! [`Group::poll_timeout`] has come.

use crate::control::{DropView, FromStack, MAX_RELAY_BYTES, ReadyPort, Role, StackConfig, SysplexLink, Xcf};
use crate::engine::io::ToGroup;
use crate::xcf::codec::MessageError;
use crate::xcf::datagram::{Body, Content, Envelope, Heartbeat, MAX_OWNED, Name, Owned};
use crate::xcf::member::Member;
use crate::xcf::message::{MAX_READY, Message, Page};
use crate::xcf::order::{EngineOrder, EngineReport, TargetState};
use crate::xcf::owners::{Claim, Owners};
use crate::xcf::refusal::{Refusal, Refusals};
use crate::xcf::seal::{BadKey, LinkKeys, SenderKey};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Shortest time between two heartbeats, whatever the configuration says.
const MIN_HEARTBEAT: Duration = Duration::from_millis(5);

mod heard;
mod say;

/// What the group wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The engine is to know.
    ToEngine(EngineOrder),
    /// `iked` is to know.
    ToIked(FromStack),
}

/// The link to the other stacks, by the configuration in force.
#[derive(Debug)]
struct Link {
    own: Name,
    xcf: IpAddr,
    seal: SenderKey,
    heartbeat: Duration,
    patience: Duration,
}

/// What this stack says of a DVIPA that it owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Own {
    epoch: u64,
    ceiling: Option<u64>,
}

/// One stack's view of the group.
#[derive(Debug)]
pub struct Group {
    start: u64,
    /// Of the last datagram; grows as long as the process lives, so that no nonce is used twice.
    counter: u64,
    /// Of the last stream that was begun.
    generation: u64,
    link: Option<Link>,
    members: BTreeMap<Name, Member>,
    owners: Owners,
    owned: BTreeMap<IpAddr, Own>,
    ready: Vec<ReadyPort>,
    capacity: u8,
    heartbeat_at: Option<Instant>,
    /// How many heartbeats were sent: which of many DVIPAs the next one names.
    round: usize,
    leaving: bool,
    refusals: Refusals,
    events: VecDeque<Event>,
}

impl Group {
    /// A group without members. `start` is the random id of this start of the process.
    #[must_use]
    pub fn new(start: u64) -> Self {
        Self {
            start,
            counter: 0,
            generation: 0,
            link: None,
            members: BTreeMap::new(),
            owners: Owners::default(),
            owned: BTreeMap::new(),
            ready: Vec::new(),
            capacity: 100,
            heartbeat_at: None,
            round: 0,
            leaving: false,
            refusals: Refusals::default(),
            events: VecDeque::new(),
        }
    }

    // ---- in ----

    /// Puts a configuration in force. Members that stay with the same start are not forgotten.
    pub fn configure(&mut self, now: Instant, config: &StackConfig) {
        let link = match (&config.sysplex, &config.xcf) {
            (Some(sysplex), Some(xcf)) => self.make_link(config, sysplex, xcf).unwrap_or_else(|error| {
                self.log(true, format!("no messages to other stacks: {error}"));
                None
            }),
            _ => None,
        };
        let mut before = std::mem::take(&mut self.members);
        self.link = None;
        if let Some((link, keys)) = link {
            for m in &config.members {
                let Some(name) = Name::new(&m.name) else {
                    self.log(true, format!("no stack can have the name {:?}", m.name));
                    continue;
                };
                if name == link.own || m.xcf == link.xcf {
                    continue;
                }
                let known = before.get(&name).is_some_and(|b| b.xcf == m.xcf);
                let mut member =
                    known.then(|| before.remove(&name)).flatten().unwrap_or_else(|| Member::new(name, m.xcf));
                member.expect(m.start, &keys);
                self.members.insert(name, member);
            }
            self.link = Some(link);
        }
        for (_, mut gone) in before {
            gone.liveness.leave();
            self.publish(&mut gone);
        }
        self.take_owners(now, config);
        let mut members = std::mem::take(&mut self.members);
        for member in members.values_mut() {
            self.publish(member);
            // The engine forgets with its configuration. Of a member that was never heard nothing is said: that it is dead
            // is not known, and an engine that has just started shall wait for its connections (R10).
            if member.was_told() {
                self.events.push_back(Event::ToEngine(EngineOrder::Target(member.state())));
            }
        }
        self.members = members;
        if self.link.is_some() {
            self.publish_self();
            self.heartbeat_at.get_or_insert(now);
        } else {
            self.heartbeat_at = None;
        }
    }

    fn make_link(
        &self,
        config: &StackConfig,
        sysplex: &SysplexLink,
        xcf: &Xcf,
    ) -> Result<Option<(Link, LinkKeys)>, BadKey> {
        let Some(own) = Name::new(&config.name) else { return Ok(None) };
        let keys = LinkKeys::new(&sysplex.key, &sysplex.other_keys)?;
        let heartbeat = Duration::from_millis(sysplex.heartbeat_ms.into()).max(MIN_HEARTBEAT);
        let patience = heartbeat.saturating_mul(sysplex.missed_heartbeats.max(1));
        let Some(seal) = keys.own(own, self.start) else { return Ok(None) };
        Ok(Some((Link { own, xcf: xcf.address, seal, heartbeat, patience }, keys)))
    }

    /// What the configuration says of owners, beside what was heard.
    fn take_owners(&mut self, now: Instant, config: &StackConfig) {
        let Some(link) = &self.link else {
            self.owners = Owners::default();
            self.owned.clear();
            return;
        };
        let own = link.xcf;
        let mut owned = BTreeMap::new();
        let mut behind = Vec::new();
        let members = &self.members;
        self.owners.retain(|dvipa, owner| {
            config.home.iter().any(|h| h.address == dvipa) || members.values().any(|m| m.xcf == owner.xcf)
        });
        for home in &config.home {
            let by = match &home.role {
                Role::Owner { .. } => Some(own),
                Role::Target { distributor } | Role::Moving { distributor } => *distributor,
                Role::Static | Role::Backup => None,
            };
            let Some(by) = by else { continue };
            let before = self.owned.get(&home.address).filter(|o| o.epoch == home.epoch);
            let ceiling = before.filter(|_| by == own).and_then(|o| o.ceiling);
            let claim = Owned { dvipa: home.address, epoch: home.epoch, ceiling };
            if self.owners.claim(by, claim, false) == Claim::Old {
                behind.push(home.address);
            } else if by == own {
                owned.insert(home.address, Own { epoch: home.epoch, ceiling });
            }
        }
        let new: Vec<Owned> = owned
            .iter()
            .filter(|(dvipa, o)| self.owned.get(*dvipa).is_none_or(|b| b.epoch != o.epoch))
            .map(|(dvipa, o)| Owned { dvipa: *dvipa, epoch: o.epoch, ceiling: o.ceiling })
            .collect();
        self.owned = owned;
        for dvipa in behind {
            self.tell_engine_owner(dvipa);
        }
        if !new.is_empty() {
            self.round = 0;
            self.beat();
            self.each_alive(|group, member| {
                for owned in &new {
                    group.push(now, member, &Message::Owner { owned: *owned, list_wanted: false });
                }
            });
        }
    }

    /// Where servers listen here, and the free capacity of this host (0 to 100).
    pub fn set_ready(&mut self, now: Instant, mut ready: Vec<ReadyPort>, capacity: u8) {
        if ready.len() > MAX_READY {
            ready.truncate(MAX_READY);
        }
        let changed = ready != self.ready;
        let same_capacity = self.capacity == capacity;
        self.capacity = capacity.min(100);
        if changed {
            self.ready = ready;
            let message = Message::Ready(self.ready.clone());
            self.each_alive(|group, member| group.push(now, member, &message));
        }
        if self.link.is_some() && (changed || !same_capacity) {
            self.publish_self();
        }
    }

    /// The coupling facility holds a ceiling of ours; heartbeats carry it.
    pub fn set_ceiling(&mut self, dvipa: IpAddr, epoch: u64, highest: u64) {
        if let Some(own) = self.owned.get_mut(&dvipa).filter(|o| o.epoch == epoch) {
            own.ceiling = own.ceiling.max(Some(highest));
        }
    }

    /// A datagram arrived on the XCF link; it is decrypted in place.
    pub fn handle_datagram(&mut self, now: Instant, source: SocketAddr, datagram: &mut [u8]) {
        let Some(link) = &self.link else { return };
        let envelope = match Envelope::parse(datagram) {
            Ok(envelope) => envelope,
            Err(error) => {
                let reason = match error {
                    MessageError::Version(_) => Refusal::WrongVersion,
                    _ => Refusal::Malformed,
                };
                return self.refuse(now, reason, || format!("from {source}: {error}"));
            }
        };
        let Envelope { sender, start, counter } = envelope;
        let Some(member) = self.members.get_mut(&sender).filter(|m| m.xcf == source.ip()) else {
            return self.refuse(now, Refusal::NotMember, || format!("from {source}, as {sender}"));
        };
        let Some(key) = member.key.as_mut().filter(|_| member.start == Some(start)) else {
            return self.refuse(now, Refusal::UnknownStart, || format!("from {sender}, start {start:016x}"));
        };
        if member.window.check_whole(counter).is_err() {
            return self.refuse(now, Refusal::Replay, || format!("from {sender}, counter {counter}"));
        }
        let Ok(text) = key.open(&envelope, link.own, datagram) else {
            return self.refuse(now, Refusal::BadSeal, || format!("from {source}, as {sender}"));
        };
        member.window.commit(counter);
        match Content::parse(text) {
            Ok(content) => self.handle_content(now, sender, counter, content),
            Err(error) => self.refuse(now, Refusal::Malformed, || format!("from {sender}: {error}")),
        }
    }

    /// The engine has something to say.
    pub fn handle_report(&mut self, now: Instant, report: EngineReport) {
        match report {
            EngineReport::Said(ToGroup::AskConnections { to, dvipa, epoch }) => {
                self.with_member(to, |group, member| group.ask(now, member, dvipa, epoch));
            }
            EngineReport::Said(ToGroup::Opened { to, flow }) => {
                let Some(epoch) = self.epoch_of(to, flow.key.local) else { return };
                let message = Message::NewConnection { epoch, flow };
                self.with_member(to, |group, member| group.push(now, member, &message));
            }
            EngineReport::Said(ToGroup::Ended { to, key }) => {
                let Some(epoch) = self.epoch_of(to, key.local) else { return };
                let message = Message::ConnectionEnded { epoch, key };
                self.with_member(to, |group, member| group.push(now, member, &message));
            }
            EngineReport::Connections { to, dvipa, epoch, from, entries, next } => {
                self.with_member(to, |group, member| {
                    group.page(
                        now,
                        member,
                        Page { dvipa, epoch, last: next.is_none(), flows: entries },
                        from,
                        next,
                    );
                });
            }
            EngineReport::Lost => {
                self.each_alive(|group, member| {
                    group.reset(now, member, "the packet path outran the messages")
                });
            }
        }
    }

    /// `iked` has something for the `iked` of another stack. What cannot be sent is refused in words.
    pub fn relay(&mut self, to: &str, bytes: Vec<u8>) {
        let length = bytes.len();
        let name = Name::new(to).filter(|n| self.members.get(n).is_some_and(|m| m.outgoing.is_open()));
        let member = name.and_then(|n| self.members.get_mut(&n));
        let reason = match member {
            _ if length > MAX_RELAY_BYTES => format!("{length} bytes, at most {MAX_RELAY_BYTES} are allowed"),
            None => "it is not heard".to_owned(),
            Some(member) => match member.outgoing.push(&Message::Relay(bytes)) {
                Ok(()) => return,
                Err(full) => full.to_string(),
            },
        };
        let reason = format!("bytes for the iked of stack {to}: {reason}");
        self.events.push_back(Event::ToIked(FromStack::Refused { reason }));
    }

    /// This stack ends in order: the next heartbeat is the last.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.beat();
    }

    /// A new `iked` is to hear all that is known.
    pub fn greet(&mut self) {
        let heard = self.members.values().filter_map(Member::heard).map(FromStack::Heard);
        let owners = self.owners.iter().filter_map(|(dvipa, _)| self.owner_heard(dvipa));
        let all: Vec<_> = heard.chain(owners).map(Event::ToIked).collect();
        self.events.extend(all);
    }

    /// To be called when [`Group::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some((heartbeat, patience)) = self.link.as_ref().map(|l| (l.heartbeat, l.patience)) else {
            return;
        };
        if self.heartbeat_at.is_some_and(|t| t <= now) {
            self.beat();
            self.heartbeat_at = Some(now + heartbeat);
        }
        let mut members = std::mem::take(&mut self.members);
        for member in members.values_mut() {
            if let Some(change) = member.liveness.check(now, patience) {
                self.changed(now, member, change);
            }
            match member.outgoing.is_stuck(now) {
                true if member.liveness.is_alive() => self.reset(now, member, "nothing got through"),
                true => member.give_up(),
                false => {}
            }
        }
        self.members = members;
    }

    // ---- out ----

    /// The next datagram, put into `out`, and where it goes; ask until there is none.
    #[must_use]
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<SocketAddr> {
        let link = self.link.as_ref()?;
        let beating = self.members.iter().find(|(_, m)| m.heartbeat).map(|(n, _)| *n);
        let (name, body) = if let Some(name) = beating {
            (name, Body::Heartbeat(self.heartbeat()))
        } else {
            self.members.values_mut().find_map(|m| {
                if let Some(record) = m.outgoing.next_record(now) {
                    return Some((m.name, Body::Record(record)));
                }
                m.acknowledge.then_some((m.name, Body::Nothing))
            })?
        };
        let member = self.members.get_mut(&name)?;
        member.acknowledge = false;
        if matches!(body, Body::Heartbeat(_)) {
            member.heartbeat = false;
        }
        self.counter += 1;
        let envelope = Envelope { start: self.start, counter: self.counter, sender: link.own };
        let content =
            Content { to_start: member.start, acknowledgement: member.incoming.acknowledgement(), body };
        link.seal.seal(&envelope, name, |o| content.write(o), out);
        Some(SocketAddr::new(member.xcf, crate::xcf::PORT))
    }

    /// What is to be done; ask until there is nothing.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Group::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let patience = self.link.as_ref()?.patience;
        let members = self
            .members
            .values()
            .flat_map(|m| [m.liveness.deadline(patience), m.outgoing.deadline()].into_iter().flatten());
        members.chain(self.heartbeat_at).min()
    }

    /// What was ignored, by reason; only reasons that occurred.
    #[must_use]
    pub fn refusals(&self) -> Vec<DropView> {
        self.refusals.view()
    }

    // ---- shared ----

    /// Everybody is to hear of us now.
    fn beat(&mut self) {
        self.round = self.round.wrapping_add(1);
        for member in self.members.values_mut() {
            member.heartbeat = true;
        }
    }

    /// The heartbeat of this round: more DVIPAs than fit are named in turn.
    fn heartbeat(&self) -> Heartbeat {
        let rounds = self.owned.len().div_ceil(MAX_OWNED).max(1);
        let owned = self
            .owned
            .iter()
            .skip(self.round % rounds * MAX_OWNED)
            .take(MAX_OWNED)
            .map(|(dvipa, o)| Owned { dvipa: *dvipa, epoch: o.epoch, ceiling: o.ceiling })
            .collect();
        Heartbeat { leaving: self.leaving, capacity: self.capacity, owned }
    }

    fn publish(&mut self, member: &mut Member) {
        if let Some((state, heard)) = member.news() {
            self.events.push_back(Event::ToEngine(EngineOrder::Target(state)));
            self.events.extend(heard.map(FromStack::Heard).map(Event::ToIked));
        }
    }

    fn publish_self(&mut self) {
        let Some(link) = &self.link else { return };
        let state = TargetState {
            name: link.own.to_string(),
            xcf: None,
            alive: true,
            left: false,
            candidate: true,
            ready: self.ready.clone(),
            capacity: self.capacity,
        };
        self.events.push_back(Event::ToEngine(EngineOrder::Target(state)));
    }

    fn tell_engine_owner(&mut self, dvipa: IpAddr) {
        let Some(owner) = self.owners.get(dvipa) else { return };
        let order = EngineOrder::OwnerChanged { dvipa, owner: owner.xcf, epoch: owner.epoch };
        self.events.push_back(Event::ToEngine(order));
    }

    fn tell_iked_owner(&mut self, name: Name, owned: Owned) {
        let Owned { dvipa, epoch, ceiling } = owned;
        let owner = name.to_string();
        self.events.push_back(Event::ToIked(FromStack::OwnerHeard { dvipa, owner, epoch, ceiling }));
    }

    fn owner_heard(&self, dvipa: IpAddr) -> Option<FromStack> {
        let owner = self.owners.get(dvipa)?;
        let member = self.members.values().find(|m| m.xcf == owner.xcf)?;
        let (owner, epoch, ceiling) = (member.name.to_string(), owner.epoch, owner.ceiling);
        Some(FromStack::OwnerHeard { dvipa, owner, epoch, ceiling })
    }

    fn refuse(&mut self, now: Instant, reason: Refusal, about: impl FnOnce() -> String) {
        if let Some(line) = self.refusals.count(now, reason, about) {
            self.log(true, line);
        }
    }

    fn log(&mut self, warning: bool, text: String) {
        self.events.push_back(Event::ToIked(FromStack::Log { warning, text }));
    }
}
