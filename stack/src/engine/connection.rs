//! The connection table: which stack has a flow, and whether it came through IPsec (the CRT, spec 6.2).
//!
//! At the distributor an entry says to which target a flow goes; at a target, that its answers go back to the
//! distributor. The table is bounded (T44). Flows of one state stand in a list ordered by their last packet, and
//! all in a list have the same time to live: what is too old is always at the front, so ageing and eviction never
//! scan. Only flows that nobody has answered or that have ended give way to new ones; an established one never does.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
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
    /// In the table.
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
    evicted: u64,
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

    /// Changes what a flow is routed by.
    pub fn set_routed(&mut self, id: ConnectionId, ipsec_routed: bool) {
        self.entries[id.0 as usize].ipsec_routed = ipsec_routed;
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
        if slot != 0 {
            if self.tallies.len() <= slot as usize {
                self.tallies.resize(slot as usize + 1, Tally::default());
            }
            let t = &mut self.tallies[slot as usize];
            t.active += 1;
            t.total += 1;
        }
        Ok(ConnectionId(i))
    }

    /// Notes a packet of the flow.
    pub fn seen(&mut self, now: Instant, id: ConnectionId, way: Way, signs: Signs) {
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
        if e.state != before || now.saturating_duration_since(e.last) >= GRAIN {
            self.unlink(id.0, before);
            self.entries[id.0 as usize].last = now;
            self.link(id.0);
        }
    }

    /// Removes one flow.
    pub fn remove(&mut self, id: ConnectionId) {
        let e = self.entries[id.0 as usize];
        self.unlink(id.0, e.state);
        if let Ok(found) = self.index.find_entry(self.hasher.hash_one(e.key), |&i| i == id.0) {
            found.remove();
        }
        self.free.push(id.0);
        if let Some(t) = self.tallies.get_mut(e.slot as usize).filter(|_| e.slot != 0) {
            t.active = t.active.saturating_sub(1);
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

    fn link(&mut self, i: u32) {
        let list = &mut self.lists[self.entries[i as usize].state as usize];
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

    fn unlink(&mut self, i: u32, state: State) {
        let Connection { previous, next, .. } = self.entries[i as usize];
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
mod tests {
    use super::*;

    const SYN: Signs = Signs { tcp: true, syn: true, ack: false, fin: false, rst: false };
    const SYN_ACK: Signs = Signs { ack: true, ..SYN };
    const ACK: Signs = Signs { tcp: true, ack: true, syn: false, fin: false, rst: false };
    const FIN: Signs = Signs { fin: true, ..ACK };
    const RST: Signs = Signs { rst: true, ..ACK };

    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn start() -> Instant {
        Instant::now()
    }

    fn key(n: u32) -> ConnectionKey {
        ConnectionKey {
            protocol: 6,
            local: IpAddr::from([192, 0, 2, 80]),
            local_port: 443,
            remote: IpAddr::V4((0x0a00_0000 + n).into()),
            remote_port: 40000,
        }
    }

    fn target() -> Place {
        Place::At(IpAddr::from([10, 99, 0, 2]))
    }

    fn open(t: &mut Connections, now: Instant, n: u32) -> ConnectionId {
        let id = t.insert(now, key(n), target(), true, 1).unwrap();
        t.seen(now, id, Way::In, SYN);
        id
    }

    fn establish(t: &mut Connections, now: Instant, n: u32) -> ConnectionId {
        let id = open(t, now, n);
        t.seen(now, id, Way::Out, SYN_ACK);
        t.seen(now, id, Way::In, ACK);
        assert_eq!(t.get(id).state(), State::Established);
        id
    }

    #[test]
    fn t44_a_syn_flood_pushes_out_only_itself() {
        let now = start();
        let mut t = Connections::new(1, 1000);
        for n in 0..500 {
            establish(&mut t, now, n);
        }
        for n in 1000..101_000 {
            open(&mut t, now, n);
        }
        assert!(t.len() <= 1000);
        for n in 0..500 {
            let id = t.find(&key(n)).expect("established flows stay");
            assert_eq!(t.get(id).place, target());
        }
        assert_eq!(t.tally(1).active, t.len() as u64);
        assert_eq!(t.tally(1).total, 100_500);
    }

    #[test]
    fn t44_a_full_table_refuses_and_keeps_what_it_has() {
        let now = start();
        let mut t = Connections::new(1, 8);
        for n in 0..8 {
            establish(&mut t, now, n);
        }
        assert_eq!(t.insert(now, key(99), target(), true, 1).unwrap_err(), TableFull);
        let closing = t.find(&key(3)).unwrap();
        t.seen(now, closing, Way::In, RST);
        t.insert(now, key(99), target(), true, 1).unwrap();
        assert!(t.find(&key(3)).is_none(), "what has ended makes room");
    }

    #[test]
    fn flows_age_by_state_without_a_scan() {
        let start = start();
        let mut t = Connections::new(1, 100);
        open(&mut t, start, 1);
        let kept = establish(&mut t, start, 2);
        let closing = establish(&mut t, start, 3);
        t.seen(start, closing, Way::In, FIN);
        assert_eq!(t.get(closing).state(), State::Established, "half closed is still open");
        t.seen(start, closing, Way::Out, FIN);
        assert_eq!(t.next_expiry(), Some(start + LIFE[0]));
        let later = start + Duration::from_secs(61);
        t.expire(later);
        assert_eq!(t.len(), 1);
        t.seen(later, kept, Way::In, ACK);
        assert_eq!(t.next_expiry(), Some(later + LIFE[1]));
        t.expire(later + LIFE[1]);
        assert!(t.is_empty());
        assert_eq!(t.next_expiry(), None);
        assert_eq!(t.tally(1), Tally { active: 0, total: 3 });
    }

    #[test]
    fn lists_stay_whole_under_random_use() {
        use proptest::prelude::*;
        use proptest::test_runner::{Config, TestRunner};
        let ops = proptest::collection::vec((0u32..40, 0u8..8, 0u64..40), 1..400);
        TestRunner::new(Config::with_cases(200))
            .run(&ops, |ops| {
                let mut now = start();
                let mut t = Connections::new(7, 24);
                for (n, op, secs) in ops {
                    now += Duration::from_secs(secs);
                    let id = t.find(&key(n));
                    match (op, id) {
                        (0..=2, None) => drop(t.insert(now, key(n), target(), n % 2 == 0, n % 3)),
                        (0, Some(id)) => t.remove(id),
                        (1, Some(id)) => t.seen(now, id, Way::Out, SYN_ACK),
                        (2 | 3, Some(id)) => t.seen(now, id, Way::In, ACK),
                        (4, Some(id)) => t.seen(now, id, Way::In, FIN),
                        (5, Some(id)) => t.seen(now, id, Way::Out, FIN),
                        (6, Some(id)) => t.seen(now, id, Way::In, RST),
                        _ => t.expire(now),
                    }
                    prop_assert!(t.len() <= 24);
                    prop_assert_eq!(t.index.len(), t.len());
                    for (s, list) in t.lists.iter().enumerate() {
                        let (mut at, mut count, mut before) = (list.head, 0, NIL);
                        while at != NIL {
                            let e = &t.entries[at as usize];
                            prop_assert_eq!(e.state as usize, s);
                            prop_assert_eq!(e.previous, before);
                            prop_assert_eq!(t.find(&e.key), Some(ConnectionId(at)));
                            (before, at, count) = (at, e.next, count + 1);
                        }
                        prop_assert_eq!(list.tail, before);
                        prop_assert_eq!(count, list.len);
                    }
                    let active: u64 = (1..3).map(|s| t.tally(s).active).sum();
                    prop_assert_eq!(active, t.iter().filter(|e| e.slot != 0).count() as u64);
                }
                Ok(())
            })
            .unwrap();
    }
}
