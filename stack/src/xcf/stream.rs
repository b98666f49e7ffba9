//! A stream of messages from one stack to another: reliable, in order, bounded.
//!
//! Messages are joined to a stream of octets (length and message), which is cut into numbered records. The receiver keeps
//! records that arrived out of order and acknowledges all that it has; a record that is not acknowledged in time is sent
//! again. When the queue overflows, when nothing gets through any more, or when the receiver has lost what it had, the
//! sender gives the stream up (a short silence is no reason) and begins another with a greater *generation*: the receiver knows then that messages are
//! missing, and the owner asks for all connections again.

use super::datagram::{Acknowledgement, MAX_RECORD, Record};
use super::message::{MAX_MESSAGE, Message};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Records that are not acknowledged, at most: what [`Acknowledgement::seen`] can tell of.
const WINDOW: u64 = 64;
/// Octets of messages that wait, at most: three messages for `iked` and their like.
const MAX_QUEUED: usize = 4 << 20;
/// Time after which a record is sent again; doubled each time, at most [`MAX_DOUBLINGS`] times.
const RESEND_AFTER: Duration = Duration::from_millis(50);
const MAX_DOUBLINGS: u32 = 4;
/// A record is missing for good when so many behind it have arrived; it is sent again at once.
const REORDERED: usize = 3;
/// A stream without progress for so long is given up.
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// Octets of the length before each message.
const LENGTH: usize = 4;

/// More waits than may; the stream has to begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{MAX_QUEUED} octets of messages wait already")]
pub struct QueueFull;

/// The sender's octets are no messages; the rest of this stream is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a message of {0} octets is announced, at most {MAX_MESSAGE} are allowed")]
pub struct BadLength(u32);

#[derive(Debug)]
struct Flight {
    record: Record,
    due: Instant,
    sends: u32,
    arrived: bool,
}

/// The sender's end.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// 0: there is no stream.
    generation: u64,
    next_number: u64,
    flights: VecDeque<Flight>,
    messages: VecDeque<Vec<u8>>,
    /// Octets in `messages`.
    queued: usize,
    /// The message that is being cut, with its length before it, and how much of it is cut.
    cutting: Vec<u8>,
    cut: usize,
    progress: Option<Instant>,
    /// Counter of the datagram that acknowledged last: older ones come too late.
    acknowledged_by: u64,
}

impl Outgoing {
    /// Begins a stream; what waited for an earlier one is forgotten. `generation` is greater than any before.
    pub fn begin(&mut self, generation: u64) {
        debug_assert!(generation > self.generation, "generations grow");
        *self = Self { generation, next_number: 1, acknowledged_by: self.acknowledged_by, ..Self::default() };
    }

    /// Ends the stream: the receiver is not there.
    pub fn end(&mut self) {
        *self = Self { acknowledged_by: self.acknowledged_by, ..Self::default() };
    }

    /// Whether there is a stream.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.generation != 0
    }

    /// Adds a message.
    ///
    /// # Errors
    /// When too many octets wait.
    pub fn push(&mut self, message: &Message) -> Result<(), QueueFull> {
        let octets = message.octets();
        if self.queued + octets.len() > MAX_QUEUED {
            return Err(QueueFull);
        }
        self.queued += octets.len();
        self.messages.push_back(octets);
        Ok(())
    }

    /// Octets that wait to be sent for the first time.
    #[must_use]
    pub const fn queued(&self) -> usize {
        self.queued
    }

    /// What is to be sent now, if anything; ask until there is nothing.
    pub fn next_record(&mut self, now: Instant) -> Option<Record> {
        if let Some(flight) = self.flights.iter_mut().find(|f| !f.arrived && f.due <= now) {
            flight.due = now + RESEND_AFTER * (1 << flight.sends.min(MAX_DOUBLINGS));
            flight.sends = flight.sends.saturating_add(1);
            return Some(flight.record.clone());
        }
        if self.flights.len() as u64 >= WINDOW {
            return None;
        }
        let bytes = self.cut_record();
        if bytes.is_empty() {
            return None;
        }
        if self.flights.is_empty() {
            self.progress = Some(now);
        }
        let record = Record { generation: self.generation, number: self.next_number, bytes };
        self.next_number += 1;
        self.flights.push_back(Flight {
            record: record.clone(),
            due: now + RESEND_AFTER,
            sends: 1,
            arrived: false,
        });
        Some(record)
    }

    fn cut_record(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < MAX_RECORD {
            if self.cut == self.cutting.len() && !self.next_message() {
                break;
            }
            let end = self.cutting.len().min(self.cut + MAX_RECORD - bytes.len());
            bytes.extend_from_slice(&self.cutting[self.cut..end]);
            self.cut = end;
        }
        bytes
    }

    /// Puts the next message in `cutting`.
    fn next_message(&mut self) -> bool {
        self.cutting.clear();
        self.cut = 0;
        let Some(message) = self.messages.pop_front() else { return false };
        self.queued -= message.len();
        let length = u32::try_from(message.len()).expect("a message is bounded");
        self.cutting.extend_from_slice(&length.to_be_bytes());
        self.cutting.extend_from_slice(&message);
        true
    }

    /// The receiver says what it has; `counter` is that of its datagram. False: it has lost what it had, and the stream has
    /// to begin anew.
    #[must_use]
    pub fn acknowledge(&mut self, now: Instant, counter: u64, said: Option<Acknowledgement>) -> bool {
        if !self.is_open() || counter <= self.acknowledged_by {
            return true;
        }
        let first = self.next_number - self.flights.len() as u64;
        let Some(said) = said else {
            self.acknowledged_by = counter;
            return first == 1;
        };
        if said.generation != self.generation {
            return true;
        }
        self.acknowledged_by = counter;
        // It cannot have what was never sent.
        if said.next > self.next_number {
            return true;
        }
        if said.next < first {
            return false;
        }
        while self.flights.front().is_some_and(|f| f.record.number < said.next) {
            self.flights.pop_front();
            self.progress = Some(now);
        }
        for flight in &mut self.flights {
            let ahead = flight.record.number.checked_sub(said.next + 1);
            if ahead.is_some_and(|n| n < WINDOW && said.seen >> n & 1 == 1) {
                flight.arrived = true;
            }
        }
        let mut behind = self.flights.iter().filter(|f| f.arrived).count();
        for flight in &mut self.flights {
            if flight.arrived {
                behind -= 1;
            } else if behind >= REORDERED && flight.sends == 1 {
                flight.due = now;
            }
        }
        true
    }

    /// Whether nothing has got through for too long.
    #[must_use]
    pub fn is_stuck(&self, now: Instant) -> bool {
        !self.flights.is_empty()
            && self.progress.is_some_and(|p| now.saturating_duration_since(p) >= STUCK_AFTER)
    }

    /// When [`Outgoing::next_record`] has something to repeat.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.flights.iter().filter(|f| !f.arrived).map(|f| f.due).min()
    }
}

/// The receiver's end.
#[derive(Debug, Default)]
pub struct Incoming {
    generation: u64,
    next: u64,
    waiting: BTreeMap<u64, Vec<u8>>,
    /// Octets of the stream from the begin of a message on.
    bytes: VecDeque<u8>,
    broken: bool,
}

/// What a record was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// The first one of a new stream: messages of an earlier one may be lost.
    NewStream,
    /// One of the stream, or a copy of one.
    Here,
    /// Of a stream that was given up.
    Stale,
}

impl Incoming {
    /// Takes a record.
    pub fn take(&mut self, record: Record) -> Arrived {
        let mut arrived = Arrived::Here;
        if record.generation < self.generation {
            return Arrived::Stale;
        }
        if record.generation > self.generation {
            *self = Self { generation: record.generation, next: 1, ..Self::default() };
            arrived = Arrived::NewStream;
        }
        let within = self.next..self.next.saturating_add(WINDOW);
        if !self.broken && within.contains(&record.number) {
            self.waiting.insert(record.number, record.bytes);
            while let Some(bytes) = self.waiting.remove(&self.next) {
                self.bytes.extend(bytes);
                self.next += 1;
            }
        }
        arrived
    }

    /// The next whole message.
    ///
    /// # Errors
    /// When the sender announces one that is too long; nothing more of this stream is read then.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, BadLength> {
        if self.broken || self.bytes.len() < LENGTH {
            return Ok(None);
        }
        let mut announced = [0; LENGTH];
        announced.iter_mut().zip(&self.bytes).for_each(|(to, from)| *to = *from);
        let announced = u32::from_be_bytes(announced);
        let length = usize::try_from(announced).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            self.bytes = VecDeque::new();
            self.waiting.clear();
            self.broken = true;
            return Err(BadLength(announced));
        }
        if self.bytes.len() - LENGTH < length {
            return Ok(None);
        }
        self.bytes.drain(..LENGTH);
        Ok(Some(self.bytes.drain(..length).collect()))
    }

    /// What is there; `None`: there was no stream yet. A stream that is not read any more is not acknowledged, so that the
    /// sender begins anew.
    #[must_use]
    pub fn acknowledgement(&self) -> Option<Acknowledgement> {
        if self.generation == 0 || self.broken {
            return None;
        }
        let seen = self
            .waiting
            .keys()
            .filter_map(|n| n.checked_sub(self.next + 1))
            .filter(|n| *n < WINDOW)
            .fold(0, |seen, n| seen | 1 << n);
        Some(Acknowledgement { generation: self.generation, next: self.next, seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::connection::ConnectionKey;
    use crate::engine::io::{FlowRecord, FlowStage};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use std::net::IpAddr;

    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn start() -> Instant {
        Instant::now()
    }

    fn flow(n: usize) -> FlowRecord {
        let remote_port = u16::try_from(n % 60_000).unwrap();
        let octets = u32::try_from(n).unwrap().to_be_bytes();
        FlowRecord {
            key: ConnectionKey {
                protocol: 6,
                local: IpAddr::from([192, 0, 2, 80]),
                local_port: 443,
                remote: IpAddr::from(octets),
                remote_port,
            },
            ipsec_routed: n.is_multiple_of(2),
            stage: FlowStage::Open,
        }
    }

    /// Sends everything over a link that loses, doubles and swaps, until all is acknowledged.
    fn carry(outgoing: &mut Outgoing, seed: u64, loss: f64) -> (Vec<Message>, Duration) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut incoming = Incoming::default();
        let begin = start();
        let (mut now, mut counter, mut got) = (begin, 0, vec![]);
        loop {
            let mut records: Vec<_> = std::iter::from_fn(|| outgoing.next_record(now)).collect();
            if records.is_empty() {
                match outgoing.deadline() {
                    Some(t) => now = now.max(t),
                    None => return (got, now - begin),
                }
                continue;
            }
            now += Duration::from_millis(1);
            records.retain(|_| !random.random_bool(loss));
            let again: Vec<_> = records.iter().filter(|_| random.random_bool(0.1)).cloned().collect();
            records.extend(again);
            for i in (1..records.len()).rev() {
                if random.random_bool(0.3) {
                    records.swap(i, random.random_range(0..i));
                }
            }
            for record in records {
                incoming.take(record);
            }
            while let Some(message) = incoming.next_message().unwrap() {
                got.push(Message::parse(&message).unwrap());
            }
            counter += 1;
            if !random.random_bool(loss) {
                assert!(outgoing.acknowledge(now, counter, incoming.acknowledgement()));
            }
            assert!(now - begin < Duration::from_secs(600), "no end in sight");
        }
    }

    #[test]
    fn everything_arrives_once_and_in_order_over_a_bad_link() {
        for seed in 0..20 {
            let mut outgoing = Outgoing::default();
            outgoing.begin(1);
            let mut sent = vec![];
            for n in 0..300 {
                let m = Message::NewConnection { epoch: 1, flow: flow(n) };
                outgoing.push(&m).unwrap();
                sent.push(m);
            }
            let relay = Message::Relay((0..100_000u32).map(|n| n.to_be_bytes()[3]).collect());
            outgoing.push(&relay).unwrap();
            sent.push(relay);
            let (got, took) = carry(&mut outgoing, seed, 0.2);
            assert_eq!(got, sent, "seed {seed}");
            assert!(took < Duration::from_secs(10), "{took:?}");
        }
    }

    #[test]
    fn a_largest_message_for_iked_arrives() {
        let mut outgoing = Outgoing::default();
        outgoing.begin(1);
        let relay = Message::Relay(vec![7; crate::control::MAX_RELAY_BYTES]);
        outgoing.push(&relay).unwrap();
        assert_eq!(carry(&mut outgoing, 3, 0.02).0, [relay]);
    }

    #[test]
    fn t45_a_queue_that_nobody_empties_is_bounded() {
        let mut outgoing = Outgoing::default();
        outgoing.begin(1);
        let m = Message::Relay(vec![0; 100_000]);
        let taken = (0..1000).take_while(|_| outgoing.push(&m).is_ok()).count();
        assert_eq!(taken, MAX_QUEUED / 100_001);
    }

    #[test]
    fn a_new_generation_is_told_from_the_old_one() {
        let mut outgoing = Outgoing::default();
        let mut incoming = Incoming::default();
        let now = start();
        outgoing.begin(1);
        outgoing.push(&Message::Relay(vec![1; 5000])).unwrap();
        let old: Vec<_> = std::iter::from_fn(|| outgoing.next_record(now)).collect();
        assert_eq!(incoming.take(old[0].clone()), Arrived::NewStream);
        assert_eq!(incoming.take(old[1].clone()), Arrived::Here);
        outgoing.begin(2);
        outgoing.push(&Message::Relay(vec![2])).unwrap();
        let new = outgoing.next_record(now).unwrap();
        assert_eq!(incoming.take(new), Arrived::NewStream);
        assert_eq!(incoming.take(old[2].clone()), Arrived::Stale);
        assert_eq!(incoming.next_message().unwrap(), Some(Message::Relay(vec![2]).octets()));
        assert!(outgoing.acknowledge(now, 1, incoming.acknowledgement()));
        assert_eq!(outgoing.deadline(), None);
    }

    #[test]
    fn a_receiver_that_lost_what_it_had_is_noticed_but_not_an_old_acknowledgement() {
        let mut outgoing = Outgoing::default();
        let now = start();
        outgoing.begin(1);
        outgoing.push(&Message::Relay(vec![1; 3000])).unwrap();
        let records = std::iter::from_fn(|| outgoing.next_record(now)).count() as u64;
        let ack = |next| Some(Acknowledgement { generation: 1, next, seen: 0 });
        assert!(outgoing.acknowledge(now, 1, None), "nothing has arrived yet");
        assert!(outgoing.acknowledge(now, 10, ack(records + 1)));
        assert!(outgoing.acknowledge(now, 9, ack(1)), "an older datagram");
        assert!(!outgoing.acknowledge(now, 11, ack(1)), "it forgot");
        assert!(outgoing.acknowledge(now, 12, ack(99)), "a lie changes nothing");
        assert!(!outgoing.acknowledge(now, 13, None), "it forgot that there is a stream");
    }

    #[test]
    fn without_progress_the_stream_is_stuck() {
        let mut outgoing = Outgoing::default();
        let now = start();
        outgoing.begin(1);
        assert!(!outgoing.is_stuck(now + STUCK_AFTER));
        outgoing.push(&Message::Relay(vec![1])).unwrap();
        outgoing.next_record(now).unwrap();
        assert!(!outgoing.is_stuck(now + STUCK_AFTER - Duration::from_nanos(1)));
        assert!(outgoing.is_stuck(now + STUCK_AFTER));
    }

    #[test]
    fn t45_a_length_that_no_message_has_breaks_the_stream_until_the_next_one() {
        let mut incoming = Incoming::default();
        let record = |generation, number, bytes: &[u8]| Record { generation, number, bytes: bytes.to_vec() };
        incoming.take(record(1, 1, &u32::MAX.to_be_bytes()));
        assert_eq!(incoming.next_message(), Err(BadLength(u32::MAX)));
        assert_eq!(
            (incoming.take(record(1, 2, &[0; 8])), incoming.next_message()),
            (Arrived::Here, Ok(None))
        );
        assert_eq!(incoming.acknowledgement(), None);
        assert_eq!(incoming.take(record(2, 1, &[0, 0, 0, 1, 9])), Arrived::NewStream);
        assert_eq!(incoming.next_message(), Ok(Some(vec![9])));
        // Numbers far away take no memory.
        for number in 100..10_000 {
            incoming.take(record(2, number, &[0; 1000]));
        }
        assert!(incoming.waiting.is_empty());
    }
}
