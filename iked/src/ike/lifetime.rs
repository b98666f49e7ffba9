//! When SAs are replaced and when they end (spec: the policy's RefreshLifetime, at 90 % with jitter).
//!
//! Both ends of an SA often have the same lifetime. The jitter keeps them from replacing it at the same moment
//! (RFC 7296 section 2.8), and many SAs that were made together from being replaced together.

use rand::CryptoRng;
use std::time::{Duration, Instant};

/// Part of a lifetime, in thousandths, at which it is replaced at the earliest and at the latest.
const REPLACE_PERMILLE: std::ops::RangeInclusive<u32> = 850..=950;

/// The two moments of an SA's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// When it should be replaced.
    pub(crate) rekey_at: Instant,
    /// When it ends, replaced or not.
    pub(crate) expires_at: Instant,
}

impl Lifetime {
    /// The lifetime of an SA made at `now`.
    pub(crate) fn start(now: Instant, lifetime: Duration, rng: &mut dyn CryptoRng) -> Self {
        let rekey_after = lifetime / 1000 * permille(rng);
        Self { rekey_at: now + rekey_after, expires_at: now + lifetime }
    }
}

/// Bytes after which an SA that may carry `hard` is replaced.
pub(crate) fn soft_bytes(hard: u64, rng: &mut dyn CryptoRng) -> u64 {
    let part = u128::from(hard) * u128::from(permille(rng)) / 1000;
    u64::try_from(part).unwrap_or(hard)
}

/// A wait before something that the peer could not do now is tried again (TEMPORARY_FAILURE, RFC 7296 section 2.25):
/// between `least` and twice as long, so that two ends that hindered each other do not meet again.
pub(crate) fn retry_after(least: Duration, rng: &mut dyn CryptoRng) -> Duration {
    least + least / 1000 * below(rng, 1001)
}

fn permille(rng: &mut dyn CryptoRng) -> u32 {
    let span = REPLACE_PERMILLE.end() - REPLACE_PERMILLE.start() + 1;
    REPLACE_PERMILLE.start() + below(rng, span)
}

/// A number below `bound`; the bias of the remainder does not matter for jitter.
fn below(rng: &mut dyn CryptoRng, bound: u32) -> u32 {
    rng.next_u32() % bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn replaced_between_85_and_95_percent_and_not_always_at_the_same() {
        let mut rng = StdRng::seed_from_u64(1);
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let life = Lifetime::start(now, hour, &mut rng);
            assert_eq!(life.expires_at, now + hour);
            assert!(life.rekey_at >= now + hour * 85 / 100 && life.rekey_at <= now + hour * 95 / 100);
            seen.insert(life.rekey_at);
        }
        assert!(seen.len() > 50, "{} different moments", seen.len());
    }

    #[test]
    fn soft_limit_of_the_largest_lifesize_does_not_overflow() {
        let mut rng = StdRng::seed_from_u64(2);
        for hard in [0, 1, 1000, u64::MAX] {
            assert!(soft_bytes(hard, &mut rng) <= hard);
        }
    }
}
