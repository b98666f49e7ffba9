//! Stateless cookies against floods with forged source addresses (RFC 7296 section 2.6).
//!
//! `cookie = generation | HMAC-SHA-256(secret of that generation, Ni | IPi | SPIi)`. Secrets change; the one before the
//! current stays good for one more period, so that a cookie just handed out is not worthless.

use crate::ike::types::{Prf, Secret};
use rand::CryptoRng;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// The longest cookie that section 2.6 allows.
pub const MAX_COOKIE: usize = 64;

/// How long a secret is the current one.
const PERIOD: Duration = Duration::from_secs(60);
const SECRET_LEN: usize = 32;

/// The current secret and the one before.
#[derive(Debug)]
pub struct CookieJar {
    generation: u8,
    current: Secret,
    previous: Option<Secret>,
    since: Instant,
}

impl CookieJar {
    /// With a first secret.
    #[must_use]
    pub fn new(now: Instant, rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self { generation: 0, current: fresh(rng), previous: None, since: now }
    }

    /// A cookie for an initiator.
    #[must_use]
    pub fn bake(&self, peer: IpAddr, spi_i: u64, ni: &[u8]) -> Vec<u8> {
        cookie(self.generation, &self.current, peer, spi_i, ni)
    }

    /// Whether `received` is a cookie that was made for this initiator not long ago (T29).
    #[must_use]
    pub fn check(&self, received: &[u8], peer: IpAddr, spi_i: u64, ni: &[u8]) -> bool {
        let Some(&generation) = received.first() else { return false };
        let secret = match self.generation.wrapping_sub(generation) {
            0 => &self.current,
            1 => match &self.previous {
                Some(previous) => previous,
                None => return false,
            },
            _ => return false,
        };
        cookie(generation, secret, peer, spi_i, ni).ct_eq(received).into()
    }

    /// Changes the secret when its period is over; to be called before cookies are made or checked.
    pub fn refresh(&mut self, now: Instant, rng: &mut (impl CryptoRng + ?Sized)) {
        let age = now.saturating_duration_since(self.since);
        if age < PERIOD {
            return;
        }
        let last = std::mem::replace(&mut self.current, fresh(rng));
        // After a long silence the last secret is as stale as the one before it.
        self.previous = (age < 2 * PERIOD).then_some(last);
        self.generation = self.generation.wrapping_add(1);
        self.since = now;
    }
}

fn fresh(rng: &mut (impl CryptoRng + ?Sized)) -> Secret {
    let mut secret = Secret(vec![0; SECRET_LEN]);
    rng.fill_bytes(&mut secret.0);
    secret
}

fn cookie(generation: u8, secret: &Secret, peer: IpAddr, spi_i: u64, ni: &[u8]) -> Vec<u8> {
    let address = match peer {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    // Only the nonce has no fixed length, and it stands first: nothing can be shifted between the parts.
    let hash = Prf::HmacSha256.compute(&secret.0, &[ni, &address.octets(), &spi_i.to_be_bytes()]);
    let mut out = Vec::with_capacity(1 + hash.0.len());
    out.push(generation);
    out.extend_from_slice(&hash.0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn t29_cookies() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let now = start();
        let mut jar = CookieJar::new(now, &mut rng);
        let (peer, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let ni = [7; 32];
        let good = jar.bake(peer, 5, &ni);
        assert!(good.len() <= MAX_COOKIE);
        assert!(jar.check(&good, peer, 5, &ni));
        assert!(!jar.check(&good, other, 5, &ni), "another address");
        assert!(!jar.check(&good, peer, 6, &ni), "another SPI");
        assert!(!jar.check(&good, peer, 5, &[8; 32]), "another nonce");
        for wrong in [&[][..], &[0], &[0; 64], &[0; 65], &good[..32], &[1; 33]] {
            assert!(!jar.check(wrong, peer, 5, &ni));
        }

        jar.refresh(now + Duration::from_secs(59), &mut rng);
        assert_eq!(jar.bake(peer, 5, &ni), good);
        jar.refresh(now + PERIOD, &mut rng);
        assert_ne!(jar.bake(peer, 5, &ni), good);
        assert!(jar.check(&good, peer, 5, &ni), "the previous secret");
        jar.refresh(now + 2 * PERIOD, &mut rng);
        assert!(!jar.check(&good, peer, 5, &ni), "stale");
    }

    #[test]
    fn t29_a_long_silence_makes_all_stale() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let now = start();
        let mut jar = CookieJar::new(now, &mut rng);
        let peer = "2001:db8::1".parse().unwrap();
        let good = jar.bake(peer, 5, &[7; 16]);
        jar.refresh(now + 3 * PERIOD, &mut rng);
        assert!(!jar.check(&good, peer, 5, &[7; 16]));
    }
}
