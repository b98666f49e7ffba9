//! Packets that wait for an SA: one negotiation for each rule and pair of addresses, a few packets each.
//!
//! Bounded in every direction: negotiations, their rate, packets and octets held, time. A negotiation that failed
//! is not asked for again for a while, so that a packet stream to a dead peer is not a stream of negotiations.

use super::filter::{Subject, Upper};
use super::io::VnetHeader;
use super::outbound::Origin;
use crate::control::{Acquire, UpperLayer};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Negotiations that may be wanted at a time.
const MAX_PENDING: usize = 4096;
/// Packets that wait for one SA.
const MAX_PACKETS: usize = 16;
/// Octets that wait for all SAs together.
const MAX_BYTES: usize = 4 << 20;
/// How long a packet waits.
const WAIT: Duration = Duration::from_secs(10);
/// How long nothing is asked for again after a failure.
const COOL: Duration = Duration::from_secs(2);
/// Negotiations that may be asked for at once, and how fast that is given back.
const BURST: u32 = 200;
const REFILL: Duration = Duration::from_millis(10);

/// A packet that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its header from the TUN.
    pub header: VnetHeader,
    /// The IP packet.
    pub packet: Vec<u8>,
    /// Where it came from.
    pub(super) from: Origin,
    /// It may not be fragmented; of an IPv6 packet its bytes do not say whether its source had.
    pub(super) df: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    /// Number of the rule's set of dynamic filters ([`super::spd::Spd::set_of`]).
    set: usize,
    source: IpAddr,
    destination: IpAddr,
}

#[derive(Debug)]
struct Pending {
    id: u64,
    since: Instant,
    /// The negotiation failed; the entry only keeps the next one from starting at once.
    failed: bool,
    packets: Vec<Held>,
}

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queued {
    /// It waits, and this negotiation is to be asked for.
    Ask(Acquire),
    /// It waits for one that runs already.
    Waits,
    /// Too much waits already.
    Full,
    /// The negotiation failed a moment ago.
    Failed,
}

/// What waits for SAs.
#[derive(Debug)]
pub struct AcquireTable {
    pending: HashMap<Key, Pending, FixedState>,
    /// Order of the deadlines; entries that are gone are skipped.
    order: VecDeque<(Instant, u64, Key)>,
    next_id: u64,
    bytes: usize,
    tokens: u32,
    refilled: Option<Instant>,
    ready: Vec<Held>,
    /// When packets became ready, so that the driver comes back for them.
    ready_since: Option<Instant>,
}

impl AcquireTable {
    /// Nothing waits. `seed` keys the hash.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            pending: HashMap::with_hasher(FixedState::with_seed(seed)),
            order: VecDeque::new(),
            next_id: 1,
            bytes: 0,
            tokens: BURST,
            refilled: None,
            ready: Vec::new(),
            ready_since: None,
        }
    }

    /// Lets a packet of `size` octets wait for an SA of the anchors `set`, of the rule named `rule`. `held` copies the packet
    /// and is only asked when it may wait.
    pub(super) fn wait(
        &mut self,
        now: Instant,
        (set, rule): (usize, &str),
        s: &Subject,
        size: usize,
        held: impl FnOnce() -> Held,
    ) -> Queued {
        let key = Key { set, source: s.source, destination: s.destination };
        if let Some(p) = self.pending.get_mut(&key) {
            if p.failed {
                return Queued::Failed;
            }
            if p.packets.len() >= MAX_PACKETS || self.bytes + size > MAX_BYTES {
                return Queued::Full;
            }
            let held = held();
            self.bytes += held.packet.len();
            p.packets.push(held);
            return Queued::Waits;
        }
        if self.pending.len() >= MAX_PENDING || self.bytes + size > MAX_BYTES || !self.token(now) {
            return Queued::Full;
        }
        let id = self.next_id;
        self.next_id += 1;
        let held = held();
        self.bytes += held.packet.len();
        self.order.push_back((now + WAIT, id, key));
        self.pending.insert(key, Pending { id, since: now, failed: false, packets: vec![held] });
        Queued::Ask(Acquire {
            id,
            rule: rule.to_owned(),
            source: s.source,
            destination: s.destination,
            protocol: s.protocol,
            upper: match s.upper {
                Upper::Ports { source, destination, .. } => UpperLayer::Ports { source, destination },
                Upper::Type { kind, code } => UpperLayer::Typed { kind, code },
                Upper::None | Upper::Opaque => UpperLayer::Open,
            },
        })
    }

    fn token(&mut self, now: Instant) -> bool {
        let last = *self.refilled.get_or_insert(now);
        let back = now.saturating_duration_since(last).as_millis() / REFILL.as_millis();
        if back > 0 {
            let back = u32::try_from(back).unwrap_or(BURST).min(BURST);
            self.tokens = (self.tokens + back).min(BURST);
            self.refilled = Some(now);
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }

    /// An SA for the anchors `set` came: what waits between addresses that it covers may try again.
    pub fn sa_came(&mut self, now: Instant, set: usize, covers: impl Fn(IpAddr, IpAddr) -> bool) {
        let ready = &mut self.ready;
        let before = ready.len();
        self.pending.retain(|key, p| {
            if key.set == set && !p.failed && covers(key.source, key.destination) {
                ready.append(&mut p.packets);
                return false;
            }
            true
        });
        if ready.len() > before {
            self.ready_since.get_or_insert(now);
        }
    }

    /// Whether packets may try again.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Packets that may try again.
    pub fn take_ready(&mut self) -> Vec<Held> {
        self.ready_since = None;
        let ready = std::mem::take(&mut self.ready);
        self.bytes -= ready.iter().map(|h| h.packet.len()).sum::<usize>();
        ready
    }

    /// A negotiation failed; how many packets are dropped by it.
    pub fn failed(&mut self, id: u64) -> u64 {
        let Some(p) = self.pending.values_mut().find(|p| p.id == id) else { return 0 };
        p.failed = true;
        let packets = std::mem::take(&mut p.packets);
        self.bytes -= packets.iter().map(|h| h.packet.len()).sum::<usize>();
        // The deadline of the wait ends the cooling too; a shorter one goes to the front.
        if let Some(key) = self.pending.iter().find(|(_, p)| p.id == id).map(|(k, p)| (*k, p.since)) {
            self.order.push_front((key.1 + COOL, id, key.0));
        }
        packets.len() as u64
    }

    /// Gives up what waited too long; how many packets that were.
    pub fn expire(&mut self, now: Instant) -> u64 {
        let mut dropped = 0;
        while self.order.front().is_some_and(|(deadline, _, _)| *deadline <= now) {
            let Some((_, id, key)) = self.order.pop_front() else { break };
            if self.pending.get(&key).is_some_and(|p| p.id == id)
                && let Some(p) = self.pending.remove(&key)
            {
                dropped += p.packets.len() as u64;
                self.bytes -= p.packets.iter().map(|h| h.packet.len()).sum::<usize>();
            }
        }
        dropped
    }

    /// When something is to be done.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.ready_since.into_iter().chain(self.order.front().map(|o| o.0)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Direction;

    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn start() -> Instant {
        Instant::now()
    }

    fn subject(n: u32) -> Subject {
        Subject {
            direction: Direction::Outbound,
            routed: false,
            security_class: 0,
            source: IpAddr::from([192, 0, 2, 1]),
            destination: IpAddr::V4(n.into()),
            protocol: 6,
            upper: Upper::Ports { source: 1, destination: 2, opens: true },
            fragment: false,
        }
    }

    fn held(octets: usize) -> Held {
        Held { header: VnetHeader::default(), packet: vec![0; octets], from: Origin::Local, df: true }
    }

    fn wait(t: &mut AcquireTable, now: Instant, n: u32, octets: usize) -> Queued {
        t.wait(now, (7, "R"), &subject(n), octets, || held(octets))
    }

    #[test]
    fn one_negotiation_and_its_packets_come_back_in_order() {
        let (now, mut t) = (start(), AcquireTable::new(1));
        let Queued::Ask(a) = wait(&mut t, now, 1, 1) else { panic!() };
        assert_eq!(
            (a.id, a.rule.as_str(), a.upper),
            (1, "R", UpperLayer::Ports { source: 1, destination: 2 })
        );
        assert_eq!(wait(&mut t, now, 1, 2), Queued::Waits);
        t.sa_came(now, 8, |_, _| true);
        t.sa_came(now, 7, |_, _| false);
        assert!(t.take_ready().is_empty());
        t.sa_came(now, 7, |_, _| true);
        assert_eq!(t.next_timeout(), Some(now));
        assert_eq!(t.take_ready().iter().map(|h| h.packet.len()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(t.bytes, 0);
        assert_eq!(t.expire(now + WAIT), 0);
        assert_eq!(t.next_timeout(), None);
    }

    #[test]
    fn a_failure_drops_what_waits_and_cools() {
        let (now, mut t) = (start(), AcquireTable::new(1));
        let Queued::Ask(a) = wait(&mut t, now, 1, 1) else { panic!() };
        assert_eq!(t.failed(a.id), 1);
        assert_eq!(t.failed(a.id), 0);
        assert_eq!(t.failed(99), 0);
        assert_eq!(wait(&mut t, now, 1, 1), Queued::Failed);
        assert_eq!(t.expire(now + COOL), 0);
        assert!(matches!(wait(&mut t, now + COOL, 1, 1), Queued::Ask(_)));
        assert_eq!(t.expire(now + COOL + WAIT), 1, "nobody answered");
        assert_eq!(t.bytes, 0);
    }

    #[test]
    fn nothing_grows_without_bound() {
        let (now, mut t) = (start(), AcquireTable::new(1));
        let mut asked = 0;
        for n in 0..100_000u32 {
            let at = now + Duration::from_millis(u64::from(n) / 10);
            asked += u32::from(matches!(wait(&mut t, at, n, 1400), Queued::Ask(_)));
            assert!(t.bytes <= MAX_BYTES && t.pending.len() <= MAX_PENDING);
        }
        assert!(asked <= BURST + 1100, "{asked} in ten seconds");
        for _ in 0..100 {
            let full = wait(&mut t, now, 0, 10);
            assert!(matches!(full, Queued::Waits | Queued::Full));
        }
        assert!(t.pending.values().all(|p| p.packets.len() <= MAX_PACKETS));
    }
}
