//! Dynamic filters: which tunnel of an anchor covers a packet?
//!
//! Found by the peer's address: each remote selector is kept as the few prefixes that make it up, in one hash table
//! for all lengths; a lookup asks it once for each length in use, and takes the newest filter whose selectors match.

use crate::control::{Direction, FilterTotals, PortRange, Selector};
use crate::engine::filter::{Subject, Upper, number};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::net::IpAddr;

#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) number: u32,
    /// Anchor name, as an index of [`Spd::sets`].
    pub(super) set: usize,
    pub(super) pairs: Vec<Pair>,
    /// The pair in use for outbound packets.
    pub(super) current: u32,
    pub(super) local: Vec<Selector>,
    pub(super) remote: Vec<Selector>,
    pub(super) created: u64,
    /// Newer filters stand before older ones.
    pub(super) order: u64,
    /// By direction.
    pub(super) totals: [FilterTotals; 2],
}

/// One of a tunnel's pairs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) spi_in: u32,
    pub(super) generation: u32,
}

/// The dynamic filters of the anchors of one rule, found by the peer's address.
#[derive(Debug, Default)]
pub(super) struct DynamicSet {
    by_prefix: HashMap<(bool, u8, u128), Vec<usize>, FixedState>,
    /// How many prefixes of each length there are, IPv4 and IPv6.
    lengths: [Vec<(u8, usize)>; 2],
}

impl DynamicSet {
    /// Without filters; `seed` keys the hash.
    pub(super) fn new(seed: u64) -> Self {
        Self { by_prefix: HashMap::with_hasher(FixedState::with_seed(seed)), lengths: Default::default() }
    }

    pub(super) fn clear(&mut self) {
        self.by_prefix.clear();
        self.lengths = Default::default();
    }

    pub(super) fn insert(&mut self, place: usize, remote: &[Selector]) {
        for (v6, length, value) in prefixes(remote) {
            let list = self.by_prefix.entry((v6, length, value)).or_default();
            if list.is_empty() {
                let lengths = &mut self.lengths[usize::from(v6)];
                match lengths.iter_mut().find(|l| l.0 == length) {
                    Some(l) => l.1 += 1,
                    None => lengths.push((length, 1)),
                }
            }
            if !list.contains(&place) {
                list.push(place);
            }
        }
    }

    pub(super) fn remove(&mut self, place: usize, remote: &[Selector]) {
        for (v6, length, value) in prefixes(remote) {
            let Some(list) = self.by_prefix.get_mut(&(v6, length, value)) else { continue };
            list.retain(|&p| p != place);
            if list.is_empty() {
                self.by_prefix.remove(&(v6, length, value));
                let lengths = &mut self.lengths[usize::from(v6)];
                if let Some(l) = lengths.iter_mut().find(|l| l.0 == length) {
                    l.1 -= 1;
                }
                lengths.retain(|l| l.1 > 0);
            }
        }
    }

    /// The newest dynamic filter that the packet matches.
    pub(super) fn find(&self, tunnels: &[Option<Tunnel>], s: &Subject) -> Option<usize> {
        self.matching(tunnels, s).max_by_key(|(_, t)| t.order).map(|(place, _)| place)
    }

    /// The dynamic filters that the packet matches, in no order; one may come more than once.
    pub(super) fn matching<'t>(
        &self,
        tunnels: &'t [Option<Tunnel>],
        s: &Subject,
    ) -> impl Iterator<Item = (usize, &'t Tunnel)> {
        let (_, peer) = s.local_remote();
        let v6 = peer.is_ipv6();
        let of_length = move |&(length, _): &(u8, usize)| {
            self.by_prefix.get(&(v6, length, prefix_of(number(peer), length, v6)))
        };
        let places = self.lengths[usize::from(v6)].iter().filter_map(of_length).flatten();
        let there = places.filter_map(|&place| Some((place, tunnels[place].as_ref()?)));
        there.filter(|(_, t)| selected(&t.local, &t.remote, s))
    }
}

/// The first `length` bits of an address, as a number.
pub(super) fn prefix_of(value: u128, length: u8, v6: bool) -> u128 {
    let width: u32 = if v6 { 128 } else { 32 };
    value.checked_shr(width - u32::from(length)).unwrap_or(0)
}

/// The prefixes that together are the addresses of the selectors.
pub(super) fn prefixes(selectors: &[Selector]) -> Vec<(bool, u8, u128)> {
    let mut found = Vec::new();
    for s in selectors {
        let v6 = s.addresses.low.is_ipv6();
        let width: u32 = if v6 { 128 } else { 32 };
        let (mut low, high) = (number(s.addresses.low), number(s.addresses.high));
        while low <= high {
            // The largest block that starts at `low` and does not reach beyond `high`.
            let aligned = low.trailing_zeros().min(width);
            let room = (high - low).checked_add(1).map_or(128, u128::ilog2).min(width);
            let bits = aligned.min(room);
            let length = u8::try_from(width - bits).expect("at most 128");
            let p = (v6, length, low.checked_shr(bits).unwrap_or(0));
            if !found.contains(&p) {
                found.push(p);
            }
            let step = 1u128.checked_shl(bits);
            match step.and_then(|s| low.checked_add(s)) {
                Some(next) => low = next,
                None => break,
            }
        }
    }
    found
}

/// Whether a packet of the subject's flow lies inside the selectors (RFC 7296 section 2.9, RFC 4301 section 4.4.1.1).
#[must_use]
pub fn selected(local: &[Selector], remote: &[Selector], s: &Subject) -> bool {
    let (own, peer) = s.local_remote();
    let (own_port, peer_port) = match (s.upper, s.direction) {
        (Upper::Ports { source, destination, .. }, Direction::Outbound) => (Some(source), Some(destination)),
        (Upper::Ports { source, destination, .. }, Direction::Inbound) => (Some(destination), Some(source)),
        (Upper::Type { kind, code }, _) => {
            let both = u16::from_be_bytes([kind, code]);
            (Some(both), Some(both))
        }
        (Upper::None | Upper::Opaque, _) => (None, None),
    };
    let any = |list: &[Selector], address: IpAddr, port: Option<u16>| {
        list.iter().any(|t| {
            t.addresses.contains(address)
                && t.protocol.is_none_or(|p| p == s.protocol)
                && (t.ports == PortRange::ANY || port.is_some_and(|p| t.ports.contains(p)))
        })
    };
    any(local, own, own_port) && any(remote, peer, peer_port)
}
