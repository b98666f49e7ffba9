//! Packets that wait until it is known where their flow goes: at a new owner until the targets have reported, at a target
//! while nobody owns the DVIPA (races R10 and R11, threats T51).
//!
//! Bounded in packets, octets and time. Order is kept, so that a flow's packets leave as they came.

use super::inbound::Through;
use super::io::VnetHeader;
use super::network::Arrival;
use super::verdict::DropReason;
use crate::wire::gre::GreHeader;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Packets that wait at a time.
const MAX_PACKETS: usize = 4096;
/// Octets that wait at a time.
const MAX_BYTES: usize = 8 << 20;

/// Where a packet was on its way.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    /// At the owner, admitted by the filters, opened by an SA or in clear; its flow is not known (yet).
    Unplaced(Option<Through>),
    /// At a target, from an application; there is no distributor.
    Undirected,
    /// By GRE of this member, which takes us for the owner; we are not, yet.
    FromMember {
        /// XCF address of the member.
        member: IpAddr,
        /// Its GRE header.
        header: GreHeader,
    },
    /// ESP, from its header on; the SA is not there, yet.
    Sealed(Arrival),
    /// A whole packet whose upper layer is AH, which covers the header; the SA is not there, yet.
    Authenticated,
}

/// A packet that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The DVIPA that it is about.
    pub(super) dvipa: IpAddr,
    /// Its header from the TUN.
    pub(super) header: VnetHeader,
    /// The IP packet.
    pub(super) packet: Vec<u8>,
    /// How far it had come.
    pub(super) stage: Stage,
    deadline: Instant,
}

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Hold {
    queue: VecDeque<Waiting>,
    bytes: usize,
}

impl Hold {
    /// Keeps a copy of a packet for `life`, the same for all in one hold.
    ///
    /// # Errors
    /// When too much waits already.
    pub(super) fn push(
        &mut self,
        now: Instant,
        life: Duration,
        dvipa: IpAddr,
        header: VnetHeader,
        packet: &[u8],
        stage: Stage,
    ) -> Result<(), DropReason> {
        if self.queue.len() >= MAX_PACKETS || self.bytes + packet.len() > MAX_BYTES {
            return Err(DropReason::HoldFull);
        }
        self.bytes += packet.len();
        let waiting = Waiting { dvipa, header, packet: packet.to_vec(), stage, deadline: now + life };
        self.queue.push_back(waiting);
        Ok(())
    }

    /// Takes out, in order, what `wanted` says.
    pub(super) fn take(&mut self, mut wanted: impl FnMut(&Waiting) -> bool) -> Vec<Waiting> {
        if self.queue.is_empty() {
            return Vec::new();
        }
        let (taken, left): (VecDeque<_>, VecDeque<_>) = self.queue.drain(..).partition(|w| wanted(w));
        self.queue = left;
        self.bytes -= taken.iter().map(|w| w.packet.len()).sum::<usize>();
        taken.into()
    }

    /// Gives up what waited too long, and names each to `lost`.
    pub(super) fn expire(&mut self, now: Instant, mut lost: impl FnMut(&Stage)) {
        while self.queue.front().is_some_and(|w| w.deadline <= now) {
            let Some(w) = self.queue.pop_front() else { break };
            self.bytes -= w.packet.len();
            lost(&w.stage);
        }
    }

    /// When the first packet is given up.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.queue.front().map(|w| w.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn bounded_ordered_and_given_up_in_time() {
        let (now, life) = (Instant::now(), Duration::from_secs(1));
        let mut h = Hold::default();
        let push = |h: &mut Hold, dvipa, n: usize| {
            h.push(now, life, dvipa, VnetHeader::default(), &vec![0; n], Stage::Undirected)
        };
        for n in 0..MAX_PACKETS {
            push(&mut h, if n % 2 == 0 { A } else { B }, 1 + n % 7).unwrap();
        }
        assert_eq!(push(&mut h, A, 1), Err(DropReason::HoldFull));
        let taken = h.take(|w| w.dvipa == A);
        assert_eq!(taken.len(), MAX_PACKETS / 2);
        assert!(taken.iter().zip((0..).step_by(2)).all(|(w, n)| w.packet.len() == 1 + n % 7), "in order");
        let big = vec![0; MAX_BYTES];
        assert!(h.push(now, life, A, VnetHeader::default(), &big, Stage::Undirected).is_err());
        assert_eq!(h.next_timeout(), Some(now + life));
        let mut lost = 0;
        h.expire(now + life / 2, |_| lost += 1);
        assert_eq!(lost, 0);
        h.expire(now + life, |_| lost += 1);
        assert_eq!(lost, MAX_PACKETS / 2);
        assert_eq!((h.bytes, h.next_timeout()), (0, None));
    }
}
