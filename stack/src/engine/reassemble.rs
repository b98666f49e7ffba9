//! Reassembly of IPv4 and IPv6 fragments within bounds of memory, count and time (threats T39).
//!
//! Overlapping fragments void the whole packet, and what comes later of it too, until its time is up (RFC 5722 section 4;
//! the same for IPv4). An exact duplicate is only dropped. Fragments that came by different ways (in clear, by one tunnel
//! or another) are never joined: a fragment in clear must not become part of a protected packet.

use super::verdict::DropReason;
use crate::wire::packet::{IpVersion, Parsed};
use crate::wire::{ecn, ipv4, ipv6};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Fragments of one packet.
const MAX_FRAGMENTS: usize = 128;
/// What a fragment is reckoned to cost beside its data.
const FRAGMENT_COST: usize = 64;
/// What an unfinished packet is reckoned to cost beside its fragments.
const PACKET_COST: usize = 256;

/// Bounds of a [`Reassembler`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Unfinished packets.
    pub packets: usize,
    /// Unfinished packets of one source.
    pub packets_of_source: usize,
    /// Octets that they may take, bookkeeping included.
    pub bytes: usize,
    /// How long a packet may take from its first fragment on.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // RFC 1122 section 3.3.2 asks for 60 to 120 seconds, RFC 8200 for 60; today's networks reorder by milliseconds,
        // and a short time is what keeps a flood from holding the memory.
        Self { packets: 1024, packets_of_source: 64, bytes: 4 << 20, timeout: Duration::from_secs(15) }
    }
}

/// Why a fragment was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReassemblyError {
    /// Not a fragment.
    #[error("not a fragment")]
    NotFragment,
    /// Overlaps another one, or belongs to a packet where two did.
    #[error("overlapping fragments")]
    Overlap,
    /// Exactly this one is there already.
    #[error("duplicate fragment")]
    Duplicate,
    /// Ends behind the last fragment, or another last one says otherwise.
    #[error("fragment beyond the end")]
    BeyondEnd,
    /// The packet would be longer than 65,535 octets or has too many fragments.
    #[error("too long, or too many fragments")]
    TooLong,
    /// The source has too many unfinished packets.
    #[error("too many unfinished packets of one source")]
    Full,
}

impl From<ReassemblyError> for DropReason {
    fn from(e: ReassemblyError) -> Self {
        match e {
            ReassemblyError::Full => Self::ReassemblyFull,
            ReassemblyError::NotFragment
            | ReassemblyError::Overlap
            | ReassemblyError::Duplicate
            | ReassemblyError::BeyondEnd
            | ReassemblyError::TooLong => Self::ReassemblyBadFragment,
        }
    }
}

/// Fragments lost in packets that were given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GivenUp {
    /// Fragments of packets that were not complete in time.
    pub timed_out: u64,
    /// Fragments of the oldest packets, which made room.
    pub evicted: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    origin: u64,
    source: IpAddr,
    destination: IpAddr,
    /// IPv4 only (RFC 791 section 3.2); 0 of IPv6 (RFC 8200 section 4.5).
    protocol: u8,
    id: u32,
}

#[derive(Debug)]
struct Unfinished {
    /// Tells this packet from a later one with the same key.
    number: u64,
    /// Sorted by offset; none overlaps another.
    pieces: Vec<Piece>,
    /// What goes before the data: of the first fragment.
    head: Option<Vec<u8>>,
    /// Length of the data, known from the last fragment.
    end: Option<usize>,
    have: usize,
    cost: usize,
    congested: bool,
    /// Two fragments overlapped: everything of it is dropped.
    void: bool,
}

#[derive(Debug)]
struct Piece {
    offset: usize,
    data: Box<[u8]>,
}

/// Collects fragments.
#[derive(Debug)]
pub struct Reassembler {
    limits: Limits,
    packets: HashMap<Key, Unfinished, FixedState>,
    /// In the order of their deadlines, which all packets have at the same distance.
    deadlines: VecDeque<(Instant, Key, u64)>,
    sources: HashMap<(u64, IpAddr), usize, FixedState>,
    bytes: usize,
    numbers: u64,
    given_up: GivenUp,
}

impl Reassembler {
    /// Without fragments; `seed` keys the hash tables.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            packets: HashMap::with_hasher(FixedState::with_seed(seed)),
            deadlines: VecDeque::new(),
            sources: HashMap::with_hasher(FixedState::with_seed(!seed)),
            bytes: 0,
            numbers: 0,
            given_up: GivenUp::default(),
        }
    }

    /// Takes a fragment that came by `origin` (the caller's name for a way); returns the packet that it completes.
    ///
    /// # Errors
    /// When the fragment is dropped.
    pub fn push(
        &mut self,
        origin: u64,
        packet: &[u8],
        parsed: &Parsed,
        now: Instant,
    ) -> Result<Option<Vec<u8>>, ReassemblyError> {
        self.expire(now);
        let fragment = parsed.fragment.ok_or(ReassemblyError::NotFragment)?;
        let packet = packet.get(..parsed.total_len).ok_or(ReassemblyError::NotFragment)?;
        let (head, data) = split_fragment(packet, parsed).ok_or(ReassemblyError::NotFragment)?;
        let offset = usize::from(fragment.offset);
        let end = offset + data.len();
        if head.len() + end > ipv4::MAX_PACKET {
            return Err(ReassemblyError::TooLong);
        }
        let v4 = parsed.version == IpVersion::V4;
        let key = Key {
            origin,
            source: parsed.source,
            destination: parsed.destination,
            protocol: if v4 { parsed.protocol } else { 0 },
            id: fragment.id,
        };
        self.begin(key, now)?;
        let Some(unfinished) = self.packets.get_mut(&key) else { return Err(ReassemblyError::Full) };
        if unfinished.void {
            return Err(ReassemblyError::Overlap);
        }
        let before = unfinished.cost;
        let outcome = unfinished.insert(offset, data, fragment.more);
        if outcome.is_ok() {
            unfinished.congested |= parsed.tos & ecn::ECN_MASK == ecn::ECN_MASK;
            if offset == 0 {
                unfinished.head = Some(head);
            }
        }
        let complete = unfinished.is_complete();
        self.bytes = self.bytes + unfinished.cost - before;
        outcome?;
        if complete && let Some(done) = self.remove(&key) {
            return Ok(done.assemble(v4));
        }
        while self.bytes > self.limits.bytes && self.packets.len() > 1 {
            self.evict_oldest();
        }
        Ok(None)
    }

    fn begin(&mut self, key: Key, now: Instant) -> Result<(), ReassemblyError> {
        if self.packets.contains_key(&key) {
            return Ok(());
        }
        let of_source = self.sources.get(&(key.origin, key.source)).copied().unwrap_or(0);
        if of_source >= self.limits.packets_of_source {
            return Err(ReassemblyError::Full);
        }
        while self.packets.len() >= self.limits.packets.max(1) {
            self.evict_oldest();
        }
        self.numbers += 1;
        let unfinished = Unfinished {
            number: self.numbers,
            pieces: Vec::new(),
            head: None,
            end: None,
            have: 0,
            cost: PACKET_COST,
            congested: false,
            void: false,
        };
        self.bytes += unfinished.cost;
        *self.sources.entry((key.origin, key.source)).or_default() += 1;
        self.packets.insert(key, unfinished);
        self.deadlines.push_back((now + self.limits.timeout, key, self.numbers));
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Option<Unfinished> {
        let gone = self.packets.remove(key)?;
        self.bytes -= gone.cost;
        let source = (key.origin, key.source);
        if let Some(n) = self.sources.get_mut(&source) {
            *n -= 1;
            if *n == 0 {
                self.sources.remove(&source);
            }
        }
        // Entries of packets that are complete stay until they come to the front; drop them when they are the majority.
        if self.deadlines.len() > 2 * self.packets.len() + 16 {
            let packets = &self.packets;
            self.deadlines.retain(|(_, k, number)| packets.get(k).is_some_and(|p| p.number == *number));
        }
        Some(gone)
    }

    /// The oldest packet if `may` says so of its deadline.
    fn pop_oldest(&mut self, may: impl Fn(Instant) -> bool) -> Option<Unfinished> {
        while let Some((deadline, key, number)) = self.deadlines.front().copied() {
            let alive = self.packets.get(&key).is_some_and(|p| p.number == number);
            if alive && !may(deadline) {
                return None;
            }
            self.deadlines.pop_front();
            if alive {
                return self.remove(&key);
            }
        }
        None
    }

    fn evict_oldest(&mut self) {
        if let Some(gone) = self.pop_oldest(|_| true) {
            self.given_up.evicted += gone.pieces.len() as u64;
        }
    }

    /// Gives up what was not complete in time.
    pub fn expire(&mut self, now: Instant) {
        while let Some(gone) = self.pop_oldest(|deadline| deadline <= now) {
            self.given_up.timed_out += gone.pieces.len() as u64;
        }
    }

    /// When [`Reassembler::expire`] has something to do; `None`: nothing waits.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.packets.is_empty() { None } else { self.deadlines.front().map(|d| d.0) }
    }

    /// Fragments lost since the last call, for the counters.
    pub fn take_given_up(&mut self) -> GivenUp {
        std::mem::take(&mut self.given_up)
    }

    /// Octets in use, bookkeeping included.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Unfinished packets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether nothing is unfinished.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

/// The headers that the whole packet begins with, and the data of the fragment.
fn split_fragment<'a>(packet: &'a [u8], parsed: &Parsed) -> Option<(Vec<u8>, &'a [u8])> {
    match parsed.version {
        IpVersion::V4 => {
            let (head, data) = packet.split_at_checked(parsed.header_len)?;
            Some((head.to_vec(), data))
        }
        IpVersion::V6 => {
            let fragment = ipv6::Ipv6::new_checked(packet).ok()?.upper().ok()?.fragment?;
            let mut head = packet.get(..fragment.at)?.to_vec();
            *head.get_mut(fragment.next_header_at)? = fragment.next_header;
            Some((head, packet.get(fragment.at + ipv6::FRAGMENT_HEADER..)?))
        }
    }
}

impl Unfinished {
    fn insert(&mut self, offset: usize, data: &[u8], more: bool) -> Result<(), ReassemblyError> {
        let end = offset + data.len();
        let at = self.pieces.partition_point(|p| p.offset < offset);
        if let Some(p) = self.pieces.get(at)
            && (p.offset, p.data.len()) == (offset, data.len())
        {
            return Err(ReassemblyError::Duplicate);
        }
        let left =
            at.checked_sub(1).is_some_and(|i| self.pieces[i].offset + self.pieces[i].data.len() > offset);
        if left || self.pieces.get(at).is_some_and(|p| p.offset < end) {
            return Err(self.make_void(ReassemblyError::Overlap));
        }
        let last = self.pieces.last().map_or(0, |p| p.offset + p.data.len());
        let wrong = match self.end {
            Some(known) => end > known || (!more && end != known),
            None => !more && last > end,
        };
        if wrong {
            return Err(self.make_void(ReassemblyError::BeyondEnd));
        }
        if self.pieces.len() == MAX_FRAGMENTS {
            return Err(self.make_void(ReassemblyError::TooLong));
        }
        if !more {
            self.end = Some(end);
        }
        self.have += data.len();
        self.cost += FRAGMENT_COST + data.len();
        self.pieces.insert(at, Piece { offset, data: data.into() });
        Ok(())
    }

    fn make_void(&mut self, why: ReassemblyError) -> ReassemblyError {
        self.void = true;
        self.pieces = Vec::new();
        self.head = None;
        self.cost = PACKET_COST;
        why
    }

    fn is_complete(&self) -> bool {
        !self.void && self.head.is_some() && self.end == Some(self.have)
    }

    fn assemble(self, v4: bool) -> Option<Vec<u8>> {
        let mut packet = self.head?;
        let head = packet.len();
        packet.reserve(self.have);
        for piece in &self.pieces {
            packet.extend_from_slice(&piece.data);
        }
        let total = u16::try_from(packet.len()).ok()?;
        if v4 {
            packet[2..4].copy_from_slice(&total.to_be_bytes());
            let flags = u16::from_be_bytes([packet[6], packet[7]]) & ipv4::DF;
            packet[6..8].copy_from_slice(&flags.to_be_bytes());
            ipv4::fill_checksum(&mut packet[..head]);
        } else {
            let payload = u16::try_from(packet.len() - ipv6::HEADER).ok()?;
            packet[4..6].copy_from_slice(&payload.to_be_bytes());
        }
        if self.congested {
            // RFC 3168 section 5.3: one mark marks the whole.
            let tos = if v4 { packet[1] } else { (packet[0] << 4) | (packet[1] >> 4) };
            ecn::set_traffic_class(&mut packet, tos | ecn::ECN_MASK);
        }
        Some(packet)
    }
}

#[cfg(test)]
mod tests;
