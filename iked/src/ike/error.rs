//! What went wrong, said so that an operator can act on it, and how often it is said.
//!
//! What a peer is told is a notify (RFC 7296 section 3.10.1) and stands apart from the text that is logged.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Kinds of mistakes of which each source gets one answer or log line per [`INTERVAL`] (threats R3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mistake {
    /// Not an IKE message at all.
    Malformed,
    /// Another major version.
    Version,
    /// An IKE_SA_INIT that cannot be answered with an SA.
    Init,
    /// A message that does not belong to any SA.
    UnknownSa,
    /// A protected message that does not open.
    Sealed,
    /// Out of order, out of turn or not allowed yet.
    Order,
    /// Wrong identity or secret.
    Authentication,
    /// A notify outside of an Encrypted payload.
    Unprotected,
    /// Too many half-open SAs.
    HalfOpen,
    /// A child request that cannot be granted.
    Child,
}

/// How long one answer or line stands for all of its kind and source.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// Sources remembered at most; more share what is said about nobody in particular.
const SOURCES: usize = 1024;

/// Answers that may go to unauthenticated sources in one [`INTERVAL`], in all.
const TOTAL: u32 = 256;

/// Says once per interval, source and kind; bounded in memory and in all.
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    said: BTreeMap<(IpAddr, Mistake), Said>,
    window: Option<Instant>,
    total: u32,
}

#[derive(Debug)]
struct Said {
    at: Instant,
    suppressed: u64,
}

impl RateLimit {
    /// Whether to say it now; if so, how many were suppressed since it was last said.
    pub(crate) fn allow(&mut self, now: Instant, source: IpAddr, mistake: Mistake) -> Option<u64> {
        if self.window.is_none_or(|start| now.saturating_duration_since(start) >= INTERVAL) {
            self.window = Some(now);
            self.total = 0;
            // Those with something to tell stay until it is told or as old as ten intervals.
            self.said.retain(|_, said| {
                let age = now.saturating_duration_since(said.at);
                age < INTERVAL || (said.suppressed > 0 && age < INTERVAL * 10)
            });
        }
        if let Some(said) = self.said.get_mut(&(source, mistake)) {
            if now.saturating_duration_since(said.at) < INTERVAL || self.total >= TOTAL {
                said.suppressed += 1;
                return None;
            }
            self.total += 1;
            said.at = now;
            return Some(std::mem::take(&mut said.suppressed));
        }
        if self.total >= TOTAL || self.said.len() >= SOURCES {
            return None;
        }
        self.total += 1;
        self.said.insert((source, mistake), Said { at: now, suppressed: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn once_per_interval_and_source_with_the_number_suppressed() {
        let now = Instant::now();
        let one = IpAddr::from([192, 0, 2, 1]);
        let other = IpAddr::from([192, 0, 2, 2]);
        let mut limit = RateLimit::default();
        assert_eq!(limit.allow(now, one, Mistake::Version), Some(0));
        assert_eq!(limit.allow(now, one, Mistake::Version), None);
        assert_eq!(limit.allow(now, one, Mistake::Sealed), Some(0));
        assert_eq!(limit.allow(now, other, Mistake::Version), Some(0));
        assert_eq!(limit.allow(now + INTERVAL, one, Mistake::Version), Some(1));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn t28_a_hundred_thousand_sources_take_bounded_memory_and_few_answers() {
        let now = Instant::now();
        let mut limit = RateLimit::default();
        let mut allowed = 0;
        for n in 0..100_000u32 {
            let source = IpAddr::from(std::net::Ipv4Addr::from(n));
            allowed += u32::from(limit.allow(now, source, Mistake::Init).is_some());
        }
        assert_eq!(allowed, TOTAL);
        assert!(limit.said.len() <= SOURCES);
    }
}
