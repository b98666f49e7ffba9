//! What waits to be told to `iked`, within bounds: while it restarts, IKE messages of peers and notices are kept.
//!
//! Answers to the one connection are not kept for the next. When a bound is reached the oldest goes, and is counted.

use crate::control::FromStack;
use std::collections::VecDeque;

/// IKE messages kept, at most. A peer repeats a request for minutes, so the newest are worth most.
const MAX_IKE: usize = 512;
/// Octets of them.
const MAX_IKE_BYTES: usize = 4 << 20;
/// Octets from the `iked`s of other stacks that wait for a slow one, at most.
const MAX_RELAYED_BYTES: usize = 16 << 20;
/// Acquires and notices kept, at most.
const MAX_NOTICES: usize = 16_384;

/// What waits.
#[derive(Debug, PartialEq)]
pub enum Waiting {
    /// A message.
    Message(FromStack),
    /// An answer, as the frame that it is on the connection: it was encoded elsewhere because it is large.
    Frame(Vec<u8>),
}

/// The queue.
#[derive(Debug, Default)]
pub struct Outbox {
    ike: VecDeque<(u64, FromStack)>,
    ike_bytes: usize,
    others: VecDeque<(u64, Waiting)>,
    relayed_bytes: usize,
    next: u64,
    dropped: u64,
}

impl Outbox {
    /// Adds a message; `connected` says whether somebody is there to read it.
    pub fn push(&mut self, message: FromStack, connected: bool) {
        match &message {
            FromStack::Ike(datagram) => {
                self.ike_bytes += datagram.bytes.len();
                self.ike.push_back((self.next, message));
                while self.ike.len() > MAX_IKE || self.ike_bytes > MAX_IKE_BYTES {
                    self.pop_ike();
                    self.dropped += 1;
                }
            }
            FromStack::Acquire(_) | FromStack::Sa { .. } => {
                self.others.push_back((self.next, Waiting::Message(message)));
                while !connected && self.others.len() > MAX_NOTICES {
                    self.others.pop_front();
                    self.dropped += 1;
                }
            }
            FromStack::Relayed { bytes, .. } => {
                if !connected || self.relayed_bytes + bytes.len() > MAX_RELAYED_BYTES {
                    self.dropped += 1;
                    return;
                }
                self.relayed_bytes += bytes.len();
                self.others.push_back((self.next, Waiting::Message(message)));
            }
            FromStack::Hello(_)
            | FromStack::Configured { .. }
            | FromStack::Refused { .. }
            | FromStack::SaRefused { .. }
            | FromStack::Answer { .. }
            | FromStack::Heard(_)
            | FromStack::OwnerHeard { .. }
            | FromStack::Rebuilt { .. }
            | FromStack::Idle { .. }
            | FromStack::CeilingWanted { .. }
            | FromStack::Translations { .. }
            | FromStack::Log { .. } => {
                if connected {
                    self.others.push_back((self.next, Waiting::Message(message)));
                }
            }
        }
        self.next += 1;
    }

    /// Adds the frame of an answer, for whoever is connected now.
    pub fn push_frame(&mut self, frame: Vec<u8>) {
        self.others.push_back((self.next, Waiting::Frame(frame)));
        self.next += 1;
    }

    /// The oldest.
    pub fn pop(&mut self) -> Option<Waiting> {
        match (self.ike.front(), self.others.front()) {
            (Some((ike, _)), Some((other, _))) if ike > other => self.pop_other(),
            (Some(_), _) => self.pop_ike().map(Waiting::Message),
            (None, _) => self.pop_other(),
        }
    }

    /// The connection ended: what was meant for it alone is forgotten.
    pub fn disconnected(&mut self) {
        let outlives =
            |w: &Waiting| matches!(w, Waiting::Message(FromStack::Acquire(_) | FromStack::Sa { .. }));
        self.others.retain(|(_, w)| outlives(w));
        self.relayed_bytes = 0;
    }

    /// Messages that found no room.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn pop_other(&mut self) -> Option<Waiting> {
        let (_, waiting) = self.others.pop_front()?;
        if let Waiting::Message(FromStack::Relayed { bytes, .. }) = &waiting {
            self.relayed_bytes -= bytes.len();
        }
        Some(waiting)
    }

    fn pop_ike(&mut self) -> Option<FromStack> {
        let (_, message) = self.ike.pop_front()?;
        if let FromStack::Ike(datagram) = &message {
            self.ike_bytes -= datagram.bytes.len();
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{IkeDatagram, SaNotice};

    fn ike(n: u8, length: usize) -> FromStack {
        FromStack::Ike(IkeDatagram {
            local: "192.0.2.1:500".parse().unwrap(),
            remote: "192.0.2.2:500".parse().unwrap(),
            bytes: vec![n; length],
        })
    }

    #[test]
    fn messages_come_in_the_order_in_which_they_went_in() {
        let mut o = Outbox::default();
        let sa = FromStack::Sa { spi_in: 1, notice: SaNotice::FirstInbound };
        let log = FromStack::Log { warning: true, text: "x".into() };
        for m in [ike(1, 1), sa.clone(), ike(2, 1), log.clone(), ike(3, 1)] {
            o.push(m, true);
        }
        o.push_frame(vec![7]);
        let got: Vec<_> = std::iter::from_fn(|| o.pop()).collect();
        let sent = [ike(1, 1), sa, ike(2, 1), log, ike(3, 1)].map(Waiting::Message);
        assert_eq!(got[..5], sent);
        assert_eq!(got[5..], [Waiting::Frame(vec![7])]);
    }

    #[test]
    fn t28_a_flood_while_iked_is_away_keeps_the_newest_within_the_bounds() {
        let mut o = Outbox::default();
        for n in 0..=255 {
            o.push(ike(n, 60_000), false);
        }
        assert!(o.ike_bytes <= MAX_IKE_BYTES);
        assert_eq!(o.ike.len() as u64 + o.dropped(), 256);
        assert_eq!(o.ike.back().map(|(_, m)| m), Some(&ike(255, 60_000)));
        for n in 0..=255 {
            for _ in 0..4 {
                o.push(ike(n, 1), false);
            }
        }
        assert_eq!(o.ike.len(), MAX_IKE);
    }

    #[test]
    fn t28_what_other_systems_say_is_bounded_and_not_kept() {
        let mut o = Outbox::default();
        let relayed = |n: u8| FromStack::Relayed { from: "T1".into(), bytes: vec![n; 1 << 20] };
        for n in 0..20 {
            o.push(relayed(n), true);
        }
        assert_eq!((o.relayed_bytes, o.dropped()), (MAX_RELAYED_BYTES, 4));
        assert_eq!(o.pop(), Some(Waiting::Message(relayed(0))));
        o.push(relayed(99), true);
        assert_eq!(o.dropped(), 4);
        o.disconnected();
        assert_eq!((o.pop(), o.relayed_bytes), (None, 0));
    }

    #[test]
    fn answers_are_not_kept_for_the_next_connection() {
        let mut o = Outbox::default();
        o.push(FromStack::Configured { warnings: vec![] }, true);
        o.push(ike(1, 1), true);
        o.disconnected();
        o.push(FromStack::Refused { reason: "late".into() }, false);
        assert_eq!(std::iter::from_fn(|| o.pop()).collect::<Vec<_>>(), [Waiting::Message(ike(1, 1))]);
    }
}
