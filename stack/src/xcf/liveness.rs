//! Whether a member is heard, and whether it is steady enough for new connections (threats T45).
//!
//! A member that has said nothing for the configured number of heartbeats is silent. One that falls silent again and again
//! is heard at once when it comes back, but gets new connections only after it was steady for a while, twice as long each
//! time; a minute without another loss and all is forgiven.

use std::time::{Duration, Instant};

/// How long a member is watched after its second loss; doubled with each further one.
const FIRST_DAMPING: Duration = Duration::from_secs(1);
/// No member is damped for longer.
const MAX_DAMPING: Duration = Duration::from_secs(60);
/// A member that was steady for so long begins anew.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// What became of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is heard, for the first time or again.
    Heard,
    /// It is not heard any more.
    Silent,
    /// It was heard all the time, and is steady now.
    Steady,
}

/// One member.
#[derive(Debug, Clone, Default)]
pub struct Liveness {
    /// When it was heard last; `None`: it is silent.
    heard: Option<Instant>,
    /// Since when it is heard without interruption.
    since: Option<Instant>,
    losses: u32,
    damped_until: Option<Instant>,
}

impl Liveness {
    /// It said something.
    pub fn hear(&mut self, now: Instant) -> Option<Change> {
        if self.heard.replace(now).is_some() {
            return None;
        }
        self.since = Some(now);
        self.damped_until = self.losses.checked_sub(2).map(|doubled| {
            let factor = 1u32.checked_shl(doubled.min(16)).unwrap_or(u32::MAX);
            now + FIRST_DAMPING.saturating_mul(factor).min(MAX_DAMPING)
        });
        Some(Change::Heard)
    }

    /// It ended in order: silent at once, and nothing to hold against it.
    pub fn leave(&mut self) -> Option<Change> {
        self.since = None;
        self.damped_until = None;
        self.heard.take().map(|_| Change::Silent)
    }

    /// It started again without being missed.
    pub fn restarted(&mut self) -> Option<Change> {
        let change = self.leave();
        if change.is_some() {
            self.losses = self.losses.saturating_add(1);
        }
        change
    }

    /// Time has passed.
    pub fn check(&mut self, now: Instant, patience: Duration) -> Option<Change> {
        let heard = self.heard?;
        if now.saturating_duration_since(heard) >= patience {
            return self.restarted();
        }
        if self.since.is_some_and(|s| now.saturating_duration_since(s) >= FORGIVEN_AFTER) {
            self.losses = 0;
        }
        if self.damped_until.is_some_and(|until| until <= now) {
            self.damped_until = None;
            return Some(Change::Steady);
        }
        None
    }

    /// Whether it is heard.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        self.heard.is_some()
    }

    /// Whether it may get new connections.
    #[must_use]
    pub const fn is_steady(&self) -> bool {
        self.heard.is_some() && self.damped_until.is_none()
    }

    /// When [`Liveness::check`] has something to say.
    #[must_use]
    pub fn deadline(&self, patience: Duration) -> Option<Instant> {
        let silent = self.heard? + patience;
        Some(self.damped_until.map_or(silent, |d| d.min(silent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(300);

    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn silent_after_its_time_and_heard_at_once() {
        let mut l = Liveness::default();
        let t = start();
        assert_eq!((l.is_alive(), l.deadline(PATIENCE)), (false, None));
        assert_eq!(l.hear(t), Some(Change::Heard));
        assert_eq!(l.hear(t), None);
        assert!(l.is_steady());
        assert_eq!(l.deadline(PATIENCE), Some(t + PATIENCE));
        assert_eq!(l.check(t + PATIENCE - Duration::from_nanos(1), PATIENCE), None);
        assert_eq!(l.check(t + PATIENCE, PATIENCE), Some(Change::Silent));
        assert_eq!(l.check(t + PATIENCE, PATIENCE), None);
        assert_eq!(l.hear(t + PATIENCE), Some(Change::Heard));
        assert!(l.is_steady(), "once is no flapping");
    }

    #[test]
    fn t45_a_member_that_flaps_every_second_gets_nothing_new() {
        let mut l = Liveness::default();
        let mut t = start();
        let mut steady = Duration::ZERO;
        for _ in 0..60 {
            l.hear(t);
            for _ in 0..5 {
                t += Duration::from_millis(100);
                l.hear(t);
                l.check(t, PATIENCE);
                if l.is_steady() {
                    steady += Duration::from_millis(100);
                }
            }
            t += Duration::from_millis(500);
            assert_eq!(l.check(t, PATIENCE), Some(Change::Silent));
        }
        assert!(steady <= Duration::from_secs(1), "steady for {steady:?} of 60 s");
        // It becomes steady in the end, and is forgiven.
        assert_eq!(l.hear(t), Some(Change::Heard));
        let back = t;
        let mut steady_at = None;
        while t < back + Duration::from_secs(130) {
            t += Duration::from_millis(100);
            l.hear(t);
            if l.check(t, PATIENCE) == Some(Change::Steady) {
                steady_at = Some(t - back);
            }
        }
        assert_eq!(steady_at, Some(MAX_DAMPING));
        l.check(t + PATIENCE, PATIENCE);
        l.hear(t + PATIENCE);
        assert!(l.is_steady(), "forgiven");
    }

    #[test]
    fn an_orderly_end_is_not_held_against_it() {
        let mut l = Liveness::default();
        let t = start();
        for _ in 0..10 {
            assert_eq!(l.hear(t), Some(Change::Heard));
            assert_eq!(l.leave(), Some(Change::Silent));
        }
        l.hear(t);
        assert!(l.is_steady());
    }
}
