//! Log lines of the data path: one for each reason and source in an interval, with how many were left out (threats R3).

use super::verdict::DropReason;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Lines about the same thing are this far apart.
const INTERVAL: Duration = Duration::from_secs(10);
/// Things that are told apart at a time; two that fall into one place share its limit.
const PLACES: usize = 512;
/// Lines of all things together in an interval.
const MAX_LINES: u32 = 100;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Packets dropped for a reason, from a source.
    Drop(DropReason, Option<IpAddr>),
    /// Packets that a rule let pass.
    Permit(usize),
    /// Packets that a defensive filter without a limit of its own matched.
    Defense(u64),
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    since: Option<Instant>,
    suppressed: u64,
}

/// Decides which lines are written.
#[derive(Debug)]
pub struct LogLimit {
    hasher: FixedState,
    places: Vec<Place>,
    window: Option<Instant>,
    lines: u32,
}

impl LogLimit {
    /// Nothing was written yet. `seed` keys the hash.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            places: vec![Place::default(); PLACES],
            window: None,
            lines: 0,
        }
    }

    /// Whether a line about this may be written now; if so, how many were suppressed since the last one.
    pub fn admit(&mut self, now: Instant, topic: Topic) -> Option<u64> {
        let at = self.hasher.hash_one(topic) % PLACES as u64;
        let at = usize::try_from(at).expect("below the number of places");
        let place = &mut self.places[at];
        if place.since.is_some_and(|s| now.saturating_duration_since(s) < INTERVAL) {
            place.suppressed += 1;
            return None;
        }
        if !self.has_room(now) {
            self.places[at].suppressed += 1;
            return None;
        }
        let place = &mut self.places[at];
        place.since = Some(now);
        Some(std::mem::take(&mut place.suppressed))
    }

    /// Whether one more line of all things together may be written now; it is counted.
    pub fn has_room(&mut self, now: Instant) -> bool {
        if self.window.is_none_or(|w| now.saturating_duration_since(w) >= INTERVAL) {
            self.window = Some(now);
            self.lines = 0;
        }
        let room = self.lines < MAX_LINES;
        self.lines += u32::from(room);
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn one_line_then_a_count() {
        let now = Instant::now();
        let mut l = LogLimit::new(1);
        let topic = Topic::Drop(DropReason::Replay, Some(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(l.admit(now, topic), Some(0));
        for _ in 0..41 {
            assert_eq!(l.admit(now, topic), None);
        }
        assert_eq!(l.admit(now + INTERVAL, topic), Some(41));
        let lines = (0..100_000u32)
            .filter(|n| {
                let source = IpAddr::V4((*n).into());
                l.admit(now + INTERVAL, Topic::Drop(DropReason::UnknownSpi, Some(source))).is_some()
            })
            .count();
        assert!(lines <= MAX_LINES as usize);
    }
}
