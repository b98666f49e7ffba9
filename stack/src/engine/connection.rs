//! The connection table: which stack has a flow, and whether it came through IPsec (the CRT, spec 6.2).
//!
//! At the distributor an entry says to which target a flow goes; at a target, that its answers go back to the
//! distributor. The table is bounded (T44). Flows of one state stand in a list ordered by their last packet, and
//! all in a list have the same time to live: what is too old is always at the front, so ageing and eviction never
//! scan. Only flows that nobody has answered or that have ended give way to new ones; an established one never does.

use super::io::{FlowRecord, FlowStage};
use crate::wire::protocol;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A flow seen from the DVIPA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    /// IP protocol.
    pub protocol: u8,
    /// The DVIPA.
    pub local: IpAddr,
    /// Its port.
    pub local_port: u16,
    /// The peer.
    pub remote: IpAddr,
    /// The peer's port.
    pub remote_port: u16,
}

/// Where a flow ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On this stack.
    Here,
    /// On the stack with this XCF address.
    At(IpAddr),
}

/// What a packet says about the state of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signs {
    /// It is a TCP segment; otherwise the flags below are false.
    pub tcp: bool,
    /// SYN.
    pub syn: bool,
    /// ACK.
    pub ack: bool,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
}

impl Signs {
    /// A TCP segment that opens a connection.
    #[must_use]
    pub const fn opens(self) -> bool {
        self.syn && !self.ack && !self.rst
    }
}

/// Which way a packet of the flow goes, seen from the DVIPA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// State of a flow, and the list it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nobody has answered yet, or the peer has not shown that it got the answer.
    Opening = 0,
    /// TCP, both sides heard.
    Established = 1,
    /// Not TCP, both sides heard.
    Datagram = 2,
    /// Reset, or closed from both sides.
    Closing = 3,
}

const STATES: usize = 4;
/// Time without a packet after which a flow is forgotten, by state.
const LIFE: [Duration; STATES] = [
    Duration::from_secs(60),
    // A connection without keepalives may be silent for long; the table's bound, not this, protects memory.
    Duration::from_secs(24 * 3600),
    Duration::from_secs(180),
    Duration::from_secs(60),
];
/// A flow moves to the end of its list at most this often.
const GRAIN: Duration = Duration::from_secs(1);
/// Places of the table that one call of [`Connections::page`] looks at.
const PAGE_SCAN: usize = 1 << 16;
/// Flows that one call of [`Connections::expire`] removes at most.
const SWEEP: usize = 4096;
const NIL: u32 = u32::MAX;

/// One flow.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// The flow.
    pub key: ConnectionKey,
    /// Where it ends.
    pub place: Place,
    /// IPSEC-ROUTED: its packets to the peer go through the distributor's IPsec (spec 6.2).
    pub ipsec_routed: bool,
    /// Line of the target counters, 0 for flows that are not distributed.
    pub slot: u32,
    state: State,
    answered: bool,
    fin_in: bool,
    fin_out: bool,
    /// Its end is told by [`Connections::take_ended`].
    watched: bool,
    /// Stands in the table; false in places that are free.
    live: bool,
    last: Instant,
    previous: u32,
    next: u32,
}

impl Connection {
    /// Its state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// As other stacks are told of it.
    #[must_use]
    pub fn record(&self) -> FlowRecord {
        let stage = match self.state {
            State::Opening => FlowStage::Opening,
            State::Established | State::Datagram => FlowStage::Open,
            State::Closing => FlowStage::Closing,
        };
        FlowRecord { key: self.key, ipsec_routed: self.ipsec_routed, stage }
    }
}

/// Handle of a flow; valid until the next call that inserts or expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionId(u32);

/// The table holds as many flows as it may, and none that may be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection table is full")]
pub struct TableFull;

#[derive(Debug, Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
    len: usize,
}

/// Connections of one line of target counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// That have not ended.
    pub active: u64,
    /// Since the start.
    pub total: u64,
}

/// The connection table.
#[derive(Debug)]
pub struct Connections {
    hasher: FixedState,
    index: HashTable<u32>,
    entries: Vec<Connection>,
    free: Vec<u32>,
    lists: [List; STATES],
    limit: usize,
    tallies: Vec<Tally>,
    /// Flows of each DVIPA.
    locals: HashMap<IpAddr, usize, FixedState>,
    ended: Vec<Ended>,
    evicted: u64,
}

/// A watched flow that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The flow.
    pub key: ConnectionKey,
    /// When its last packet passed.
    pub at: Instant,
}

impl Connections {
    /// An empty table for at most `limit` flows; `seed` keys the hash.
    #[must_use]
    pub fn new(seed: u64, limit: usize) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            index: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            lists: [List { head: NIL, tail: NIL, len: 0 }; STATES],
            limit: limit.clamp(1, NIL as usize - 1),
            tallies: vec![Tally::default()],
            locals: HashMap::with_hasher(FixedState::with_seed(seed.rotate_left(17))),
            ended: Vec::new(),
            evicted: 0,
        }
    }

    /// Changes the bound. Flows above a smaller one stay until they end.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.clamp(1, NIL as usize - 1);
    }

    /// Flows in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lists.iter().map(|l| l.len).sum()
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flows that gave way to newer ones before their time.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Counts of a slot.
    #[must_use]
    pub fn tally(&self, slot: u32) -> Tally {
        self.tallies.get(slot as usize).copied().unwrap_or_default()
    }

    /// The flow of a key.
    #[must_use]
    pub fn find(&self, key: &ConnectionKey) -> Option<ConnectionId> {
        let entries = &self.entries;
        self.index
            .find(self.hasher.hash_one(key), |&i| entries[i as usize].key == *key)
            .map(|&i| ConnectionId(i))
    }

    /// The flow behind a handle.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> &Connection {
        &self.entries[id.0 as usize]
    }

    /// Flows of a DVIPA in the table.
    #[must_use]
    pub fn count_of(&self, local: IpAddr) -> usize {
        self.locals.get(&local).copied().unwrap_or(0)
    }

    /// Changes what a flow is routed by.
    pub fn set_routed(&mut self, id: ConnectionId, ipsec_routed: bool) {
        self.entries[id.0 as usize].ipsec_routed = ipsec_routed;
    }

    /// Wants to hear of the end of a flow, once.
    pub fn watch(&mut self, id: ConnectionId) {
        self.entries[id.0 as usize].watched = true;
    }

    /// Watched flows that have ended since the last call.
    pub fn take_ended(&mut self) -> std::vec::Drain<'_, Ended> {
        self.ended.drain(..)
    }

    /// Counts a flow that stood outside of the distribution in a line of it.
    pub fn set_slot(&mut self, id: ConnectionId, slot: u32) {
        let e = &mut self.entries[id.0 as usize];
        let (before, state) = (std::mem::replace(&mut e.slot, slot), e.state);
        if before != slot {
            self.leave_tally(before, state);
            self.enter_tally(slot, state);
            self.count(slot);
        }
    }

    /// Counts the flows of a DVIPA that end here in the lines that `slot` says; a scan, for takeovers only.
    pub fn assign_slots(&mut self, local: IpAddr, slot: impl Fn(&ConnectionKey) -> u32) {
        for i in 0..self.entries.len() {
            let e = &self.entries[i];
            if e.live && e.place == Place::Here && e.key.local == local {
                let slot = slot(&e.key);
                self.set_slot(ConnectionId(u32::try_from(i).expect("the limit is below 2^32")), slot);
            }
        }
    }

    /// The flows of a DVIPA that end here, in pieces: what stands in the table from place `from` on, at most `max`, and the
    /// place to go on from; `None`: that was all. Flows that come while pieces are read may be left out.
    #[must_use]
    pub fn page(&self, local: IpAddr, from: u32, max: usize) -> (Vec<FlowRecord>, Option<u32>) {
        let mut flows = Vec::new();
        let start = from as usize;
        if self.count_of(local) == 0 {
            return (flows, None);
        }
        for (at, e) in self.entries.iter().enumerate().skip(start) {
            if flows.len() >= max || at - start >= PAGE_SCAN {
                return (flows, u32::try_from(at).ok());
            }
            if e.live && e.place == Place::Here && e.key.local == local {
                flows.push(e.record());
            }
        }
        (flows, None)
    }

    /// Adds a flow that is not in the table.
    ///
    /// # Errors
    /// When the table is full of flows that may not be evicted.
    pub fn insert(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        place: Place,
        ipsec_routed: bool,
        slot: u32,
    ) -> Result<ConnectionId, TableFull> {
        debug_assert!(self.find(&key).is_none(), "a flow stands in the table once");
        // No more than a quarter may be unanswered: a flood pushes out itself.
        if self.lists[State::Opening as usize].len >= (self.limit / 4).max(1) {
            self.evict(State::Opening);
        }
        if self.len() >= self.limit && !self.evict(State::Closing) && !self.evict(State::Opening) {
            return Err(TableFull);
        }
        let entry = Connection {
            key,
            place,
            ipsec_routed,
            slot,
            state: State::Opening,
            answered: false,
            fin_in: false,
            fin_out: false,
            watched: false,
            live: true,
            last: now,
            previous: NIL,
            next: NIL,
        };
        let i = if let Some(i) = self.free.pop() {
            self.entries[i as usize] = entry;
            i
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).expect("the limit is below 2^32")
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.index.insert_unique(hasher.hash_one(key), i, |&i| hasher.hash_one(entries[i as usize].key));
        self.link(i);
        *self.locals.entry(key.local).or_default() += 1;
        self.count(slot);
        Ok(ConnectionId(i))
    }

    /// Adds a flow of which another stack says how far it has come.
    ///
    /// # Errors
    /// As [`Connections::insert`].
    pub fn import(
        &mut self,
        now: Instant,
        flow: &FlowRecord,
        place: Place,
        slot: u32,
    ) -> Result<ConnectionId, TableFull> {
        let id = self.insert(now, flow.key, place, flow.ipsec_routed, slot)?;
        let tcp = flow.key.protocol == protocol::TCP;
        let (state, answered) = match flow.stage {
            FlowStage::Opening => (State::Opening, false),
            FlowStage::Open if tcp => (State::Established, true),
            FlowStage::Open => (State::Datagram, true),
            FlowStage::Closing => (State::Closing, true),
        };
        self.unlink(id.0, State::Opening);
        let e = &mut self.entries[id.0 as usize];
        (e.state, e.answered) = (state, answered);
        self.link(id.0);
        Ok(id)
    }

    /// Counts of a slot; flows that are not distributed have none.
    fn tally_mut(&mut self, slot: u32) -> Option<&mut Tally> {
        if self.tallies.len() <= slot as usize {
            self.tallies.resize(slot as usize + 1, Tally::default());
        }
        self.tallies.get_mut(slot as usize).filter(|_| slot != 0)
    }

    /// One more flow since the start.
    fn count(&mut self, slot: u32) {
        if let Some(t) = self.tally_mut(slot) {
            t.total += 1;
        }
    }

    /// A flow of this state stands in the table: one that has ended is no load.
    fn enter_tally(&mut self, slot: u32, state: State) {
        if let Some(t) = self.tally_mut(slot).filter(|_| state != State::Closing) {
            t.active += 1;
        }
    }

    fn leave_tally(&mut self, slot: u32, state: State) {
        if let Some(t) = self.tally_mut(slot).filter(|_| state != State::Closing) {
            t.active = t.active.saturating_sub(1);
        }
    }

    /// Notes a packet of the flow. True: the flow has ended with it.
    pub fn seen(&mut self, now: Instant, id: ConnectionId, way: Way, signs: Signs) -> bool {
        let e = &mut self.entries[id.0 as usize];
        let before = e.state;
        // The answers of a flow that came in clear do not pass here: the peer's second packet must do.
        let one_way = !e.ipsec_routed && matches!(e.place, Place::At(_));
        let answered = e.answered || one_way;
        match way {
            Way::In => e.fin_in |= signs.fin,
            Way::Out => {
                e.answered = true;
                e.fin_out |= signs.fin;
            }
        }
        e.state = if !signs.tcp {
            if answered || e.answered { State::Datagram } else { State::Opening }
        } else if signs.rst || (e.fin_in && (e.fin_out || one_way)) {
            State::Closing
        } else {
            match (e.state, way) {
                (State::Opening, Way::In) if signs.ack && answered => State::Established,
                // After a reset that the other side did not believe.
                (State::Closing, _) if !signs.syn => State::Established,
                (state, _) => state,
            }
        };
        let ended = e.state == State::Closing && before != State::Closing;
        if ended && std::mem::take(&mut e.watched) {
            self.ended.push(Ended { key: e.key, at: now });
        }
        if e.state != before || now.saturating_duration_since(e.last) >= GRAIN {
            self.unlink(id.0, before);
            self.entries[id.0 as usize].last = now;
            self.link(id.0);
        }
        ended
    }

    /// Another stack says that the flow is over.
    pub fn end(&mut self, now: Instant, id: ConnectionId) {
        self.seen(now, id, Way::In, Signs { tcp: true, rst: true, ..Signs::default() });
    }

    /// Removes one flow.
    pub fn remove(&mut self, id: ConnectionId) {
        let e = self.entries[id.0 as usize];
        self.unlink(id.0, e.state);
        if let Ok(found) = self.index.find_entry(self.hasher.hash_one(e.key), |&i| i == id.0) {
            found.remove();
        }
        self.free.push(id.0);
        self.entries[id.0 as usize].live = false;
        if let Some(n) = self.locals.get_mut(&e.key.local) {
            *n -= 1;
            if *n == 0 {
                self.locals.remove(&e.key.local);
            }
        }
        if e.watched {
            self.ended.push(Ended { key: e.key, at: e.last });
        }
    }

    /// Removes what `keep` does not want; a scan, for changes of configuration only.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut Connection) -> bool) {
        let all: Vec<u32> = self.index.iter().copied().collect();
        for i in all {
            let e = &mut self.entries[i as usize];
            let (key, slot, state) = (e.key, e.slot, e.state);
            let kept = keep(e);
            debug_assert!(
                key == e.key && slot == e.slot && state == e.state,
                "only place and route may change"
            );
            if !kept {
                self.remove(ConnectionId(i));
            }
        }
    }

    /// The flows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.index.iter().map(|&i| &self.entries[i as usize])
    }

    /// Forgets flows whose time is over.
    pub fn expire(&mut self, now: Instant) {
        let mut left = SWEEP;
        for (list, life) in LIFE.iter().enumerate() {
            while left > 0 {
                let head = self.lists[list].head;
                if head == NIL || now.saturating_duration_since(self.entries[head as usize].last) < *life {
                    break;
                }
                self.remove(ConnectionId(head));
                left -= 1;
            }
        }
    }

    /// When [`Connections::expire`] has something to do.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        let expiry = |(list, life): (&List, &Duration)| {
            (list.head != NIL).then(|| self.entries[list.head as usize].last + *life)
        };
        self.lists.iter().zip(&LIFE).filter_map(expiry).min()
    }

    fn evict(&mut self, state: State) -> bool {
        let head = self.lists[state as usize].head;
        if head == NIL {
            return false;
        }
        self.remove(ConnectionId(head));
        self.evicted += 1;
        true
    }

    /// Puts a flow into the list of its state, and counts it there.
    fn link(&mut self, i: u32) {
        let Connection { slot, state, .. } = self.entries[i as usize];
        self.enter_tally(slot, state);
        let list = &mut self.lists[state as usize];
        let tail = list.tail;
        list.tail = i;
        list.len += 1;
        if tail == NIL {
            list.head = i;
        } else {
            self.entries[tail as usize].next = i;
        }
        let e = &mut self.entries[i as usize];
        e.previous = tail;
        e.next = NIL;
    }

    /// Takes a flow out of the list of the state that it had.
    fn unlink(&mut self, i: u32, state: State) {
        let Connection { previous, next, slot, .. } = self.entries[i as usize];
        self.leave_tally(slot, state);
        let list = &mut self.lists[state as usize];
        list.len -= 1;
        if previous == NIL {
            list.head = next;
        } else {
            self.entries[previous as usize].next = next;
        }
        if next == NIL {
            list.tail = previous;
        } else {
            self.entries[next as usize].previous = previous;
        }
    }
}

#[cfg(test)]
mod tests;
