//! How far the sequence numbers of continued SAs may go: the ceiling that the coupling facility holds (threats T26).
//!
//! A new owner of a DVIPA goes on above the ceiling of the old one. So no number may be sent above a ceiling that is not
//! known to be stored; and as the packet path does not wait for that, it asks for more when half of what is left is used.
//! All SAs of a DVIPA share one ceiling; raising it costs the same for one and for ten thousand.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const NOTHING: u64 = u64::MAX;

/// The ceiling of a DVIPA. One thread changes and reads it; SAs share it.
#[derive(Debug)]
pub struct Ceiling {
    highest: AtomicU64,
    /// The number at which more is asked for.
    ask_at: AtomicU64,
    /// Highest number in use, as far as it was noted.
    used: AtomicU64,
    /// Number that was in use when more was asked for; [`NOTHING`]: nobody asked.
    wish: AtomicU64,
}

impl Default for Ceiling {
    /// Closed: no number may be sent.
    fn default() -> Self {
        Self {
            highest: AtomicU64::new(0),
            ask_at: AtomicU64::new(0),
            used: AtomicU64::new(0),
            wish: AtomicU64::new(NOTHING),
        }
    }
}

impl Ceiling {
    /// Highest number that may be sent.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest.load(Relaxed)
    }

    /// Sets the ceiling.
    pub fn set(&self, highest: u64) {
        self.highest.store(highest, Relaxed);
        self.plan();
    }

    /// An SA goes on with `next`.
    pub fn note_start(&self, next: u64) {
        self.used.fetch_max(next.saturating_sub(1), Relaxed);
        self.plan();
    }

    /// Whether numbers up to `last` may be sent; asks for more in time.
    pub fn admits(&self, last: u64) -> bool {
        let highest = self.highest();
        if last >= self.ask_at.load(Relaxed) {
            let used = last.min(highest);
            self.used.fetch_max(used, Relaxed);
            self.wish.store(self.used.load(Relaxed), Relaxed);
            if last > highest {
                // Once is enough until it is raised.
                self.ask_at.store(NOTHING, Relaxed);
            } else {
                self.plan();
            }
        }
        last <= highest
    }

    /// The wish for more, once: the highest number in use.
    pub fn take_wish(&self) -> Option<u64> {
        if self.wish.load(Relaxed) == NOTHING {
            return None;
        }
        Some(self.wish.swap(NOTHING, Relaxed))
    }

    /// More is asked for when half of what is left is used, then half of the rest, and so on; at the end with the packet
    /// that does not fit.
    fn plan(&self) {
        let (used, highest) = (self.used.load(Relaxed), self.highest());
        self.ask_at.store(used.saturating_add(highest.saturating_sub(used) / 2).saturating_add(1), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_at_the_half_of_what_is_left_and_when_it_is_reached() {
        let c = Ceiling::default();
        assert!(!c.admits(1), "closed");
        assert_eq!(c.take_wish(), Some(0));
        assert!(!c.admits(1));
        assert_eq!(c.take_wish(), None, "asked once");
        c.set(1000);
        let asked: Vec<u64> = (1..=1000).filter(|n| c.admits(*n) && c.take_wish().is_some()).collect();
        assert_eq!(asked[..4], [501, 751, 876, 939]);
        assert!(asked.len() < 12, "{asked:?}");
        assert!(!c.admits(1001));
        assert_eq!(c.take_wish(), Some(1000));
        c.set(3000);
        assert!(c.admits(1001));
        assert_eq!(c.take_wish(), None);
        c.note_start(2500);
        assert!(c.admits(2700) && c.take_wish().is_none(), "asked at half of what is left for the highest");
        assert!(c.admits(2751));
        assert_eq!(c.take_wish(), Some(2751));
        c.set(u64::MAX);
        assert!(c.admits(u64::MAX - 1));
    }
}
