//! MAGLEV: by a consistent hash of the flow, so that every distributor chooses the same, and few flows would move when the
//! targets change (Eisenbud et al., *Maglev*, NSDI 2016, section 3.4).
//!
//! Each target walks its own permutation of the table and takes the next free place in turn, as often as its weight
//! says. The hash is fixed, not seeded: distributors of one sysplex have to agree.

use super::{Candidate, Client};
use std::net::IpAddr;

/// Places of the table: prime, and more than a hundred for each target up to 160 targets.
const SIZE: usize = 16_381;
/// Places that are looked at for a ready target before the ready ones are shared out by the hash alone.
const PROBES: u64 = 16;
const NOBODY: u16 = u16::MAX;

/// The lookup table.
#[derive(Debug)]
pub(super) struct Maglev {
    table: Box<[u16]>,
}

impl Maglev {
    /// The table of targets with these names and weights, in the order of their places.
    pub(super) fn new<'n>(targets: impl Iterator<Item = (&'n str, u8)>) -> Self {
        struct Walk {
            target: u16,
            at: u64,
            skip: u64,
            weight: u32,
            credit: u32,
        }
        let mut table = vec![NOBODY; SIZE].into_boxed_slice();
        let mut walks: Vec<Walk> = targets
            .enumerate()
            .filter(|(_, (_, weight))| *weight > 0)
            .filter_map(|(i, (name, weight))| {
                Some(Walk {
                    target: u16::try_from(i).ok().filter(|t| *t != NOBODY)?,
                    at: hash(0x6d61_676c, name.as_bytes()) % SIZE as u64,
                    skip: hash(0x6576_2121, name.as_bytes()) % (SIZE as u64 - 1) + 1,
                    weight: u32::from(weight),
                    credit: 0,
                })
            })
            .collect();
        let most = walks.iter().map(|w| w.weight).max().unwrap_or(1);
        let mut free = if walks.is_empty() { 0 } else { SIZE };
        while free > 0 {
            for w in &mut walks {
                w.credit += w.weight;
                if w.credit < most || free == 0 {
                    continue;
                }
                w.credit -= most;
                // The size is prime, so the walk visits every place.
                while table[place(w.at)] != NOBODY {
                    w.at = (w.at + w.skip) % SIZE as u64;
                }
                table[place(w.at)] = w.target;
                free -= 1;
            }
        }
        Self { table }
    }

    /// The target of a flow; if that is no candidate, the one of a second hash, and so on.
    pub(super) fn pick(&self, candidates: &[Candidate], flow: u64) -> Option<usize> {
        if candidates.is_empty() {
            return None;
        }
        let mut at = flow;
        for _ in 0..PROBES {
            let target = usize::from(self.table[place(at)]);
            if candidates.iter().any(|c| c.index == target) {
                return Some(target);
            }
            at = mix(at);
        }
        let share = usize::try_from(flow % candidates.len() as u64).unwrap_or(0);
        candidates.get(share).map(|c| c.index)
    }
}

fn place(hash: u64) -> usize {
    usize::try_from(hash % SIZE as u64).expect("below the size of the table")
}

/// Hash of a flow, the same in every process.
pub(super) fn hash_flow(dvipa: IpAddr, protocol: u8, port: u16, client: Client) -> u64 {
    let address = |h: u64, a: IpAddr| match a {
        IpAddr::V4(a) => mix(h ^ u64::from(a.to_bits())),
        IpAddr::V6(a) => a
            .octets()
            .chunks(8)
            .fold(h, |h, half| mix(h ^ half.iter().fold(0, |n, b| n << 8 | u64::from(*b)))),
    };
    let ports = u64::from(protocol) << 32 | u64::from(port) << 16 | u64::from(client.port);
    mix(address(address(mix(ports), dvipa).wrapping_add(1), client.address))
}

fn hash(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(mix(seed), |h, b| mix(h ^ u64::from(*b)))
}

/// The finalizer of SplitMix64: every bit depends on every bit.
const fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidates;
    use super::*;

    const NAMES: [(&str, u8); 5] = [("TGT1", 10), ("TGT2", 10), ("TGT3", 10), ("TGT4", 10), ("TGT5", 10)];

    fn all(n: usize) -> Vec<Candidate> {
        candidates(&(0..n).map(|i| (i, 10, 0)).collect::<Vec<_>>())
    }

    fn flow(n: u16) -> u64 {
        let client = Client { address: IpAddr::V4((0x0a00_0000 + u32::from(n)).into()), port: n };
        hash_flow(IpAddr::from([192, 0, 2, 80]), 6, 443, client)
    }

    #[test]
    fn even_and_the_same_in_every_process() {
        let m = Maglev::new(NAMES.into_iter());
        for t in 0..5u16 {
            let share = m.table.iter().filter(|p| **p == t).count();
            assert!((3276..=3277).contains(&share), "{share}");
        }
        let first: Vec<_> = (0..8).map(|n| m.pick(&all(5), flow(n)).unwrap()).collect();
        assert_eq!(first, GOLDEN, "distributors of one release after the other must agree");
    }

    /// What the first flows get; a change of it moves flows at a takeover between releases.
    const GOLDEN: [usize; 8] = [2, 3, 0, 3, 2, 3, 3, 1];

    #[test]
    fn a_target_less_moves_only_its_own_flows() {
        let m = Maglev::new(NAMES.into_iter());
        let without: Vec<_> = all(5).into_iter().filter(|c| c.index != 2).collect();
        let mut moved = [0u32; 5];
        for n in 0..10_000 {
            let before = m.pick(&all(5), flow(n)).unwrap();
            let after = m.pick(&without, flow(n)).unwrap();
            if before == 2 {
                moved[after] += 1;
            } else {
                assert_eq!(before, after);
            }
        }
        assert!(moved.iter().enumerate().all(|(i, n)| i == 2 || *n > 350), "{moved:?}");
        // One more target in the list: about a sixth moves, to it.
        let mut six = NAMES.to_vec();
        six.push(("TGT6", 10));
        let larger = Maglev::new(six.into_iter());
        let kept =
            (0..10_000).filter(|n| m.pick(&all(5), flow(*n)) == larger.pick(&all(6), flow(*n))).count();
        assert!(kept > 7500, "{kept}");
    }

    #[test]
    fn weights_and_extremes() {
        let m = Maglev::new([("A", 30), ("B", 10), ("C", 0)].into_iter());
        let share = |t: u16| m.table.iter().filter(|p| **p == t).count();
        assert!((share(0) as f64 / share(1) as f64 - 3.0).abs() < 0.01);
        assert_eq!(share(2), 0);
        assert_eq!(m.pick(&[], 7), None);
        let nobody = Maglev::new([("A", 0)].into_iter());
        assert_eq!(nobody.pick(&all(1), 7), Some(0), "candidates decide");
    }
}
