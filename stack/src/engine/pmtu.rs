//! Path MTU: what fits a peer's path, learnt from authenticated hints and forgotten after a while, and the MSS that follows.
//!
//! A report only lowers, only with a quotation of a live SPI (the caller checks that), never below the protocol's minimum, and
//! is forgotten after ten minutes (RFC 1191 section 6.3, RFC 8201 section 4; T39).

use crate::wire::checksum;
use crate::wire::tcp::{self, Tcp};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long a lowered MTU is believed.
const MEMORY: Duration = Duration::from_secs(600);
/// Peers that are remembered; beyond, the oldest report gives way.
const MAX_PEERS: usize = 4096;
/// No path of IPv4 is believed to be smaller. RFC 791 would allow 68, but a host that halves every segment
/// because of one packet is denial of service; Linux draws the line here too.
pub const MIN_V4: u16 = 552;
/// No path of IPv6 is smaller (RFC 8200 section 5).
pub const MIN_V6: u16 = 1280;

/// What fits the way to peers.
#[derive(Debug)]
pub struct PathMtu {
    link: u16,
    lowered: HashMap<IpAddr, (u16, Instant), FixedState>,
    /// Reports in the order in which they are forgotten.
    order: VecDeque<(Instant, IpAddr)>,
}

impl PathMtu {
    /// All paths are as wide as the link.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            link: 1500,
            lowered: HashMap::with_hasher(FixedState::with_seed(seed)),
            order: VecDeque::new(),
        }
    }

    /// The link's own MTU.
    pub fn set_link(&mut self, mtu: u16) {
        self.link = mtu.max(MIN_V4);
    }

    /// Largest IP packet to `remote`.
    #[must_use]
    pub fn of(&self, now: Instant, remote: IpAddr) -> u16 {
        if self.lowered.is_empty() {
            return self.link;
        }
        match self.lowered.get(&remote) {
            Some((mtu, since)) if now.saturating_duration_since(*since) < MEMORY => (*mtu).min(self.link),
            _ => self.link,
        }
    }

    /// Lowers the MTU of a path. True if that changed something.
    pub fn lower(&mut self, now: Instant, remote: IpAddr, mtu: u16) -> bool {
        let mtu = mtu.max(if remote.is_ipv4() { MIN_V4 } else { MIN_V6 });
        if mtu >= self.of(now, remote) {
            return false;
        }
        while self.order.len() >= MAX_PEERS {
            if let Some((since, oldest)) = self.order.pop_front() {
                self.forget(oldest, since);
            }
        }
        self.order.push_back((now, remote));
        self.lowered.insert(remote, (mtu, now));
        true
    }

    /// A path whose report is too old to be believed any more; to be called until there is none.
    pub fn expire(&mut self, now: Instant) -> Option<IpAddr> {
        while let Some((since, remote)) = self.order.front().copied() {
            if now.saturating_duration_since(since) < MEMORY {
                return None;
            }
            self.order.pop_front();
            if self.forget(remote, since) {
                return Some(remote);
            }
        }
        None
    }

    /// When [`PathMtu::expire`] has something to do.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        self.order.front().map(|(since, _)| *since + MEMORY)
    }

    fn forget(&mut self, remote: IpAddr, since: Instant) -> bool {
        let current = self.lowered.get(&remote).is_some_and(|(_, s)| *s == since);
        current && self.lowered.remove(&remote).is_some()
    }
}

/// Lowers the MSS option of a SYN (or SYN and ACK) to `mss`; `segment` starts with the TCP header. `partial`: the checksum
/// field holds only the sum of the pseudo header, which does not change. True if the option was lowered.
pub fn clamp_mss(segment: &mut [u8], mss: u16, partial: bool) -> bool {
    let Ok(view) = Tcp::new_checked(segment) else { return false };
    let Some(at) = view.mss_at() else { return false };
    let old = [segment[at], segment[at + 1]];
    if u16::from_be_bytes(old) <= mss {
        return false;
    }
    let new = mss.to_be_bytes();
    if !partial {
        let was = [segment[tcp::CHECKSUM_AT], segment[tcp::CHECKSUM_AT + 1]];
        // An option may start at an odd octet; the checksum then sees the value's halves in two words.
        let check = if at.is_multiple_of(2) {
            checksum::update(was, &old, &new)
        } else {
            let (before, after) = (segment[at - 1], segment[at + 2]);
            checksum::update(was, &[before, old[0], old[1], after], &[before, new[0], new[1], after])
        };
        segment[tcp::CHECKSUM_AT..tcp::CHECKSUM_AT + 2].copy_from_slice(&check);
    }
    segment[at..at + 2].copy_from_slice(&new);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::pseudo_header;
    use proptest::prelude::*;

    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn t39_reports_lower_within_bounds_and_are_forgotten() {
        let now = start();
        let mut p = PathMtu::new(1);
        p.set_link(1500);
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert!(!p.lower(now, a, 9000));
        assert!(p.lower(now, a, 1400));
        assert!(!p.lower(now, a, 1450), "never raised by a report");
        assert_eq!((p.of(now, a), p.of(now, b)), (1400, 1500));
        assert!(p.lower(now, a, 0));
        assert_eq!(p.of(now, a), MIN_V4);
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert!(p.lower(now, v6, 68));
        assert_eq!(p.of(now, v6), MIN_V6);
        assert_eq!(p.of(now + MEMORY, a), 1500, "recovers");
        assert_eq!(p.next_expiry(), Some(now + MEMORY));
        assert_eq!(p.expire(now), None);
        assert_eq!(p.expire(now + MEMORY), Some(a));
        assert_eq!(p.expire(now + MEMORY), Some(v6));
        assert_eq!(p.next_expiry(), None);
    }

    #[test]
    fn t39_a_flood_of_reports_is_bounded() {
        let now = start();
        let mut p = PathMtu::new(1);
        for n in 0..10_000u32 {
            p.lower(now + Duration::from_millis(n.into()), IpAddr::V4(n.into()), 1400);
        }
        assert!(p.lowered.len() <= MAX_PEERS);
        assert_eq!(p.of(now, IpAddr::V4(9_999.into())), 1400);
    }

    proptest! {
        #[test]
        fn the_checksum_stays_right_wherever_the_option_stands(lead in 0usize..8, mss: u16, limit in 1u16.., noise: [u8; 12]) {
            let mut segment = noise.to_vec();
            segment.extend([0x00, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
            segment.extend(std::iter::repeat_n(1, lead));
            segment.extend([2, 4]);
            segment.extend(mss.to_be_bytes());
            while !segment.len().is_multiple_of(4) { segment.push(0); }
            segment[12] = u8::try_from(segment.len() / 4).unwrap() << 4;
            let addresses = [10, 0, 0, 1, 10, 0, 0, 2];
            let sum = |s: &[u8]| pseudo_header(&addresses, 6, u32::try_from(s.len()).unwrap()).with(s);
            let check = sum(&segment).finish();
            segment[16..18].copy_from_slice(&check);
            let changed = clamp_mss(&mut segment, limit, false);
            prop_assert_eq!(changed, mss > limit);
            prop_assert!(sum(&segment).is_valid());
            let at = Tcp::new_checked(&segment).unwrap().mss_at().unwrap();
            prop_assert_eq!(u16::from_be_bytes([segment[at], segment[at + 1]]), mss.min(limit));
        }

        #[test]
        fn random_bytes_never_panic(mut b in prop::collection::vec(any::<u8>(), 0..80), mss: u16, partial: bool) {
            clamp_mss(&mut b, mss, partial);
        }
    }
}
