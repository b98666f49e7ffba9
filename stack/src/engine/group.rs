//! What other stacks of the sysplex say, and what it does to the table: members come and go, report their connections,
//! open and end some (spec 6.3). The messages themselves, sealed and ordered, are `crate::xcf`'s.

use super::connection::{Connection, ConnectionId, ConnectionKey, Ended, Place, Signs, Way};
use super::hold::{Stage, Waiting};
use super::io::{FlowRecord, FlowStage, Output, ToGroup};
use super::roles::HomeRole;
use super::verdict::DropReason;
use super::{Engine, key_inbound};
use crate::control::FromStack;
use crate::wire::ah::Ah;
use crate::wire::packet::Parsed;
use crate::xcf::order::{EngineOrder, TargetState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A member that stays silent so long after it was given up has lost its connections: silence alone proves nothing.
const LOST_AFTER: Duration = Duration::from_secs(1);

impl Engine {
    /// Takes note of what the group has to say. What follows of it goes out with the next [`Engine::flush`].
    pub fn handle_group(&mut self, now: Instant, order: &EngineOrder) {
        match order {
            EngineOrder::OwnerChanged { dvipa, owner, epoch } => {
                self.owner_heard(now, *dvipa, *owner, *epoch);
            }
            // A flow that was chosen a moment ago may not be in the member's list yet: what is missing there stays, and ages.
            EngineOrder::Connections { member, dvipa, epoch, entries, last } => {
                self.connections_reported(now, *member, *dvipa, *epoch, entries, *last);
            }
            EngineOrder::Gap { member } => {
                if self.members.contains(member) {
                    self.ask_again(now, *member);
                }
            }
            EngineOrder::NewConnection { member, epoch, entry } => {
                self.connection_opened(now, *member, *epoch, entry);
            }
            EngineOrder::ConnectionEnded { member, epoch, key } => {
                self.connection_ended(now, *member, *epoch, key);
            }
            EngineOrder::Target(state) => self.target_told(now, state),
            // The driver asks [`Engine::connections_of`].
            EngineOrder::ListConnections { .. } => {}
        }
    }

    fn target_told(&mut self, now: Instant, state: &TargetState) {
        let Some(member) = state.xcf.filter(|x| Some(*x) != self.own_xcf) else {
            self.distributor.own(state);
            return;
        };
        if !self.members.contains(&member) {
            return;
        }
        if !state.alive {
            self.member_silent(now, member);
            if state.left {
                self.silent.retain(|(_, m)| *m != member);
                self.forget_connections(member);
            }
            return;
        }
        self.silent.retain(|(_, m)| *m != member);
        if self.distributor.heard(member, state) {
            self.ask_again(now, member);
        }
    }

    /// A member has missed its heartbeats: it gets no new connections. Those that it has stay for a second more.
    fn member_silent(&mut self, now: Instant, member: IpAddr) {
        if !self.silent.iter().any(|(_, m)| *m == member) {
            self.silent.push((now + LOST_AFTER, member));
        }
        self.distributor.down(member);
        self.rebuilds.gone(member);
        self.work_on_rebuilds(now);
    }

    fn forget_connections(&mut self, member: IpAddr) {
        self.connections.retain(|c| c.place != Place::At(member));
    }

    /// Something that a member said did not arrive, or it has started anew: what it has is asked for again.
    fn ask_again(&mut self, now: Instant, member: IpAddr) {
        let owned: Vec<IpAddr> =
            self.homes.iter().filter(|(_, r)| **r == HomeRole::Owner).map(|(a, _)| *a).collect();
        for dvipa in owned {
            let epoch = self.epoch_of(dvipa);
            self.rebuilds.start(now, dvipa, epoch, vec![member], false);
        }
        self.work_on_rebuilds(now);
    }

    /// The connections on a DVIPA that end here, in pieces (CONN_LIST): from place `from` on, at most `max`, and where the next
    /// piece begins; `None`: that was all. Connections that come meanwhile may be left out: they came by the new owner.
    #[must_use]
    pub fn connections_of(&self, dvipa: IpAddr, from: u32, max: usize) -> (Vec<FlowRecord>, Option<u32>) {
        self.connections.page(dvipa, from, max)
    }

    /// A piece of a member's connections on a DVIPA that this stack owns at this epoch; `last`: it has no more.
    ///
    /// What the table knows already is right: a member cannot take a flow from another one (T43).
    fn connections_reported(
        &mut self,
        now: Instant,
        member: IpAddr,
        dvipa: IpAddr,
        epoch: u64,
        flows: &[FlowRecord],
        last: bool,
    ) {
        if !self.owns_at(dvipa, epoch) || !self.members.contains(&member) {
            return;
        }
        for flow in flows.iter().filter(|f| f.key.local == dvipa) {
            if !self.adopt(now, member, flow) {
                self.drops.count(DropReason::ConnectionTableFull);
            }
        }
        if last {
            self.rebuilds.reported(dvipa, member);
        }
        self.waiting_news(now);
        self.work_on_rebuilds(now);
    }

    /// NEWCONN: a target has opened a connection with the DVIPA as source; or a stack that has restarted tells of one that was
    /// open before, as it would in its list.
    fn connection_opened(&mut self, now: Instant, member: IpAddr, epoch: u64, flow: &FlowRecord) {
        let dvipa = flow.key.local;
        if self.owns_at(dvipa, epoch)
            && self.members.contains(&member)
            && (flow.stage != FlowStage::Opening || self.distributor.is_target(dvipa, member))
            && !self.adopt(now, member, flow)
        {
            self.drops.count(DropReason::ConnectionTableFull);
        }
    }

    /// CONN_END: a connection that ends at the member is over.
    fn connection_ended(&mut self, now: Instant, member: IpAddr, epoch: u64, key: &ConnectionKey) {
        if !self.owns_at(key.local, epoch) {
            return;
        }
        if let Some(id) = self.connections.find(key)
            && self.connections.get(id).place == Place::At(member)
        {
            self.connections.end(now, id);
        }
    }

    fn owns_at(&self, dvipa: IpAddr, epoch: u64) -> bool {
        self.role(dvipa) == Some(HomeRole::Owner) && self.epoch_of(dvipa) == epoch
    }

    /// Takes a flow over that ends at a member, if it is not known. False: the table is full.
    pub(super) fn adopt(&mut self, now: Instant, member: IpAddr, flow: &FlowRecord) -> bool {
        if self.connections.find(&flow.key).is_some() {
            return true;
        }
        let place = Place::At(member);
        let slot = self.distributor.slot_of(&flow.key, place);
        let Ok(id) = self.connections.import(now, flow, place, slot) else { return false };
        self.unplaced_news = true;
        self.bind_client(now, id);
        true
    }

    /// Binds the client of a flow to its target, where the service wants that.
    pub(super) fn bind_client(&mut self, now: Instant, id: ConnectionId) {
        let Connection { key, place, .. } = *self.connections.get(id);
        let service = (key.local, key.protocol, key.local_port);
        if self.distributor.bind(now, service, key.remote, place) {
            self.connections.watch(id);
        }
    }

    /// What ended no longer binds its client.
    pub(super) fn note_ended(&mut self) {
        let distributor = &mut self.distributor;
        for Ended { key, at } in self.connections.take_ended() {
            distributor.unbind((key.local, key.protocol, key.local_port), key.remote, at);
        }
    }

    /// Notes a packet of a flow that ends here, at a target. The owner sees a clear one from one side only.
    pub(super) fn note_packet(
        &mut self,
        now: Instant,
        id: ConnectionId,
        role: HomeRole,
        way: Way,
        signs: Signs,
    ) {
        let ended = self.connections.seen(now, id, way, signs);
        let c = self.connections.get(id);
        if let HomeRole::Target { distributor: Some(to) } | HomeRole::Moving { distributor: Some(to) } = role
            && ended
            && !c.ipsec_routed
        {
            self.group.push(ToGroup::Ended { to, key: c.key });
            self.due.get_or_insert(now);
        }
    }

    /// Connections on home addresses that the kernel here had open before this engine: a restart forgets none of those
    /// that applications still have. Whether they are protected, their packets tell.
    pub fn found_open(&mut self, now: Instant, open: &[ConnectionKey]) {
        for key in open {
            let role = self.role(key.local);
            if matches!(role, None | Some(HomeRole::Static | HomeRole::Backup))
                || self.connections.find(key).is_some()
            {
                continue;
            }
            let flow = FlowRecord { key: *key, ipsec_routed: false, stage: FlowStage::Open };
            let slot = self.distributor.slot_of(key, Place::Here);
            if self.connections.import(now, &flow, Place::Here, slot).is_err() {
                return;
            }
        }
        self.waiting_news(now);
    }

    /// Asks whom there is to ask, and ends what is rebuilt.
    pub(super) fn work_on_rebuilds(&mut self, now: Instant) {
        for (to, dvipa, epoch) in self.rebuilds.asks(now) {
            self.group.push(ToGroup::AskConnections { to, dvipa, epoch });
            self.due.get_or_insert(now);
        }
        while let Some(done) = self.rebuilds.take_done(now) {
            if done.holding {
                self.tell_rebuilt(now, done.dvipa, done.epoch, &done.missing);
            }
            self.waiting_news(now);
        }
    }

    pub(super) fn tell_rebuilt(&mut self, now: Instant, dvipa: IpAddr, epoch: u64, missing: &[IpAddr]) {
        let members = self.config.as_ref().map_or(&[][..], |c| &c.members);
        let missing = members.iter().filter(|m| missing.contains(&m.xcf)).map(|m| m.name.clone()).collect();
        let connections = self.connections.count_of(dvipa) as u64;
        self.events.push(FromStack::Rebuilt { dvipa, epoch, connections, missing });
        self.due.get_or_insert(now);
    }

    /// What waits may have somewhere to go now.
    pub(super) fn waiting_news(&mut self, now: Instant) {
        self.unplaced_news = true;
        self.due.get_or_insert(now);
    }

    /// Forgets the connections of members that have been silent for too long.
    pub(super) fn give_up_silent(&mut self, now: Instant) {
        while let Some(at) = self.silent.iter().position(|(t, _)| *t <= now) {
            let (_, member) = self.silent.swap_remove(at);
            self.forget_connections(member);
        }
    }

    /// Lets go of packets whose flow is known by now, whose table is rebuilt, or whose DVIPA has an owner.
    pub(super) fn release_waiting(&mut self, now: Instant, out: &mut Output) {
        if !std::mem::take(&mut self.unplaced_news) {
            return;
        }
        let (rebuilds, connections, homes) = (&self.rebuilds, &self.connections, &self.homes);
        let mut released = self.unplaced.take(|w| {
            !rebuilds.holds(w.dvipa)
                || Parsed::parse(&w.packet)
                    .ok()
                    .and_then(|p| key_inbound(&p))
                    .is_some_and(|key| connections.find(&key).is_some())
        });
        released.extend(self.undirected.take(|w| {
            !matches!(
                homes.get(&w.dvipa),
                Some(HomeRole::Target { distributor: None } | HomeRole::Moving { distributor: None })
            )
        }));
        let sad = &self.sad;
        released.extend(self.early.take(|w| match w.stage {
            Stage::Sealed(_) | Stage::Authenticated => {
                sealed_spi(w.stage, &w.packet).is_some_and(|spi| sad.lookup(spi).is_some())
            }
            _ => homes.get(&w.dvipa) == Some(&HomeRole::Owner),
        }));
        for Waiting { dvipa, header, mut packet, stage, .. } in released {
            if let Stage::Sealed(arrival) = stage {
                self.open(now, arrival, &mut packet, out);
                continue;
            }
            let (Ok(parsed), Some(role)) = (Parsed::parse(&packet), self.role(dvipa)) else { continue };
            match stage {
                Stage::Unplaced(through) => {
                    self.admitted(now, role, through, &header, &mut packet, &parsed, out);
                }
                Stage::Undirected => self.local(now, role, header, &mut packet, &parsed, out),
                Stage::FromMember { member, header } => {
                    self.accepted(now, member, header, &mut packet, parsed, out);
                }
                Stage::Authenticated => self.handle_ah(now, &parsed, &mut packet, out),
                Stage::Sealed(_) => {}
            }
        }
    }
}

/// The SPI that ESP or AH waits for.
fn sealed_spi(stage: Stage, packet: &[u8]) -> Option<u32> {
    match stage {
        Stage::Sealed(_) => packet.first_chunk().map(|spi| u32::from_be_bytes(*spi)),
        Stage::Authenticated => {
            let parsed = Parsed::parse(packet).ok()?;
            packet.get(parsed.header_len..).and_then(Ah::new_checked).map(|header| header.spi())
        }
        Stage::Unplaced(_) | Stage::Undirected | Stage::FromMember { .. } => None,
    }
}
