//! Timers of an IKE SA: a small array of deadlines, and the back-off of retransmissions.

use std::time::{Duration, Instant};

/// What an IKE SA waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The open request is sent again, or the peer is given up.
    Retransmit,
    /// The SA must be established by then, or (closed) is forgotten.
    Linger,
    /// Nothing was heard of the peer: ask (RFC 7296 section 2.4).
    Liveness,
    /// A NAT keepalive is due (RFC 3948 section 2.3).
    Keepalive,
    /// The SA is replaced.
    Rekey,
    /// The SA ends.
    Expire,
    /// The peers authenticate again.
    Reauth,
    /// Tasks put off by TEMPORARY_FAILURE are tried again.
    Retry,
    /// It is looked whether the peer has made the same SA at the same time.
    Redundant,
}

const TIMERS: usize = 9;

/// Deadlines by [`Timer`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TimerTable([Option<Instant>; TIMERS]);

impl TimerTable {
    /// Sets a deadline in place of the one before.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    /// Takes a deadline away.
    pub(crate) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    /// The deadline of a timer that runs.
    pub(crate) fn at(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    /// Whether a timer is due; if so it is stopped.
    pub(crate) fn expired(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.at(timer).is_some_and(|at| at <= now);
        if due {
            self.stop(timer);
        }
        due
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}

/// Exponential back-off of an open request (RFC 7296 section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    wait: Duration,
    left: u32,
}

/// No wait is longer, however many tries are configured.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

impl Backoff {
    /// For a request sent just now: a first wait, and how often it is sent again.
    pub(crate) const fn new(initial: Duration, tries: u32) -> Self {
        Self { wait: initial, left: tries }
    }

    /// The wait after the transmission just made.
    pub(crate) const fn wait(&self) -> Duration {
        self.wait
    }

    /// Counts one more transmission; `None` when the peer is to be given up.
    pub(crate) fn again(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Some(self.wait)
    }

    /// No more transmissions: the end of the present wait is the end (threats T16: an unprotected error only shortens
    /// the wait).
    pub(crate) const fn give_up_after_this(&mut self) {
        self.left = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end() {
        let mut backoff = Backoff::new(Duration::from_secs(2), 3);
        let mut waits = vec![backoff.wait().as_secs()];
        while let Some(wait) = backoff.again() {
            waits.push(wait.as_secs());
        }
        assert_eq!(waits, [2, 4, 8, 16]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn a_timer_fires_once() {
        let now = Instant::now();
        let mut timers = TimerTable::default();
        timers.set(Timer::Rekey, now + Duration::from_secs(9));
        timers.set(Timer::Liveness, now + Duration::from_secs(5));
        assert_eq!(timers.next(), Some(now + Duration::from_secs(5)));
        assert!(!timers.expired(Timer::Rekey, now));
        assert!(timers.expired(Timer::Liveness, now + Duration::from_secs(5)));
        assert!(!timers.expired(Timer::Liveness, now + Duration::from_secs(6)));
        assert_eq!(timers.next(), Some(now + Duration::from_secs(9)));
    }
}
