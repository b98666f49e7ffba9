//! Rules for certain peers (RemoteIdentity with FilterByIdentity, spec/policy.md section 5.5).
//!
//! Peers whose addresses nobody knows beforehand have rules with the same selectors, told apart by who proved to be whom. That
//! is known of tunnels and not of packets, so a packet that meets such a rule and is served by none of its tunnels goes on to the
//! next ipsec rule whose tunnel serves it. It goes no further than ipsec rules: a permit further down must not
//! let out, or in, what this rule wants protected. Without a tunnel anywhere it stays with the first rule.
//!
//! A thousand peers have a thousand such rules. They are not gone through: the tunnel is found by the packet, and says which of
//! them is its own; how far the search may go, the rules for anybody say ([`Table::for_anybody`]).
//!
//! [`Table::for_anybody`]: crate::engine::filter::Table::for_anybody

use super::dynamic::{DynamicSet, Tunnel};
use super::{NO_SET, Spd};
use crate::control::FilterRule;
use crate::engine::filter::{Subject, Upper, plain_search};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// The rules for certain peers, and the tunnels that serve them.
#[derive(Debug)]
pub(super) struct Identified {
    /// Where the rules of a set stand in the table, in order.
    rules: HashMap<usize, Vec<usize>, FixedState>,
    tunnels: DynamicSet,
}

impl Identified {
    /// None; `seed` keys the hashes.
    pub(super) fn new(seed: u64) -> Self {
        Self { rules: HashMap::with_hasher(FixedState::with_seed(seed)), tunnels: DynamicSet::new(seed) }
    }

    /// Another table is in force.
    pub(super) fn exchange(&mut self, rules: &[FilterRule], set_of: &[usize], tunnels: &[Option<Tunnel>]) {
        self.rules.clear();
        self.tunnels.clear();
        for (position, _) in rules.iter().enumerate().filter(|(_, r)| r.is_for_certain_peers()) {
            self.rules.entry(set_of[position]).or_default().push(position);
        }
        if !self.rules.is_empty() {
            let there = tunnels.iter().enumerate();
            there
                .filter_map(|(place, t)| Some((place, t.as_ref()?)))
                .for_each(|(place, t)| self.insert(place, t));
        }
    }

    pub(super) fn insert(&mut self, place: usize, tunnel: &Tunnel) {
        if self.rules.contains_key(&tunnel.set) {
            self.tunnels.insert(place, &tunnel.remote);
        }
    }

    pub(super) fn remove(&mut self, place: usize, tunnel: &Tunnel) {
        if self.rules.contains_key(&tunnel.set) {
            self.tunnels.remove(place, &tunnel.remote);
        }
    }

    pub(super) fn clear(&mut self) {
        self.tunnels.clear();
    }

    /// The first rule of a set between two positions that the packet matches.
    fn first_of(
        &self,
        set: usize,
        rules: &[FilterRule],
        s: &Subject,
        first: usize,
        end: usize,
    ) -> Option<usize> {
        let positions = self.rules.get(&set)?.iter().copied();
        let mut between = positions.skip_while(|p| *p < first).take_while(|p| *p < end);
        between.find(|p| plain_search(&rules[*p..=*p], s).is_some())
    }
}

impl Spd {
    /// The rule for a packet that came in by a tunnel, or in clear, and met the rule at `first`.
    pub(super) fn for_peer_of(&self, first: usize, s: &Subject, through: Option<u32>) -> usize {
        let Some(tunnel) = through else { return first };
        let place = self.tunnel_numbers.get(&tunnel);
        let Some(own) = place.and_then(|&i| self.tunnels[i].as_ref()).map(|t| t.set) else { return first };
        let rules = self.table.rules();
        self.beyond(first, s, |set| set == own, |end| self.identified.first_of(own, rules, s, first, end))
    }

    /// The rule for a packet that wants out and met the rule at `first`.
    pub(super) fn for_peer(&self, first: usize, s: &Subject) -> usize {
        let rules = self.table.rules();
        let serves = |set: usize| self.sets[set].find(&self.tunnels, s).is_some();
        self.beyond(first, s, serves, |end| {
            let serving = self.identified.tunnels.matching(&self.tunnels, s);
            serving.filter_map(|(_, t)| self.identified.first_of(t.set, rules, s, first, end)).min()
        })
    }

    /// `before` finds the first rule for a certain peer, before a position, that serves the packet.
    fn beyond(
        &self,
        first: usize,
        s: &Subject,
        serves: impl Fn(usize) -> bool,
        before: impl Fn(usize) -> Option<usize>,
    ) -> usize {
        let rules = self.table.rules();
        let Some(for_anybody) = self.table.for_anybody().filter(|_| rules[first].is_for_certain_peers())
        else {
            return first;
        };
        if s.upper == Upper::Opaque {
            // A fragment ends its search at a rule that it could be meant by.
            return self.one_by_one(first, s, serves);
        }
        let end = for_anybody.classify(rules, s);
        if let Some(found) = before(end.unwrap_or(rules.len())) {
            return found;
        }
        end.filter(|&at| self.set_of[at] != NO_SET && serves(self.set_of[at])).unwrap_or(first)
    }

    fn one_by_one(&self, first: usize, s: &Subject, serves: impl Fn(usize) -> bool) -> usize {
        let rules = self.table.rules();
        let mut at = first;
        loop {
            let set = self.set_of[at];
            if set == NO_SET {
                return first;
            }
            if serves(set) {
                return at;
            }
            if !rules[at].is_for_certain_peers() {
                return first;
            }
            match plain_search(&rules[at + 1..], s) {
                Some(next) => at += 1 + next,
                None => return first,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{anchor, pair, selector, subject, table};
    use super::*;
    use crate::control::{Direction, FilterAction};
    use proptest::prelude::*;

    proptest! {
        /// What is found is what going through the rules finds.
        #[test]
        fn the_rule_of_a_peer_is_found_as_by_going_through_all(
            kinds in proptest::collection::vec((0u8..8, 0u8..6, 0u32..4, 0u32..4), 1..24),
            pairs in proptest::collection::vec((0u8..6, 0u32..16, 0u32..4), 0..12),
            asked in proptest::collection::vec((0u32..16, 0u32..16, 0usize..14), 1..24),
            out: bool,
        ) {
            let direction = if out { Direction::Outbound } else { Direction::Inbound };
            let rules = kinds.iter().map(|(kind, name, low, wide)| {
                let mut rule = anchor(&format!("R{name}"), direction, false);
                let own = selector(low * 4, (low * 4 + wide * 4 + 3).min(15)).addresses;
                if out { rule.destination = own } else { rule.source = own }
                match kind {
                    0 => rule.action = FilterAction::Permit,
                    1 => rule.action = FilterAction::Deny,
                    2 => {}
                    _ => rule.by_identity = true,
                }
                rule
            });
            let rules: Vec<FilterRule> = rules.collect();
            let mut spd = Spd::new(7);
            let half = pairs.len() / 2;
            let add = |spd: &mut Spd, n: usize, (name, low, wide): (u8, u32, u32)| {
                let spi = u32::try_from(n).unwrap() + 1;
                let mut new = pair(spi, 1, spi, selector(low, (low + wide).min(15)));
                new.rule = format!("R{name}");
                spd.add_pair(0, &new);
            };
            for (n, of) in pairs[..half].iter().enumerate() { add(&mut spd, n, *of); }
            spd.set_filters(0, table(rules.clone()));
            for (n, of) in pairs[half..].iter().enumerate() { add(&mut spd, half + n, *of); }
            if half > 1 { spd.remove_pair(1); }
            for (own, peer, through) in asked {
                let (source, destination) = if out { (own, peer) } else { (peer, own) };
                let s = subject(direction, source, destination);
                let Some((first, _)) = spd.find(&s, None) else { continue };
                let (found, expected) = if out {
                    let serves = |set: usize| spd.sets[set].find(&spd.tunnels, &s).is_some();
                    (spd.for_peer(first, &s), spd.one_by_one(first, &s, serves))
                } else {
                    let through = u32::try_from(through).unwrap();
                    let of = spd.tunnel_numbers.get(&through).and_then(|&i| spd.tunnels[i].as_ref());
                    let serves = |set: usize| of.is_some_and(|t| t.set == set);
                    (spd.for_peer_of(first, &s, Some(through)), spd.one_by_one(first, &s, serves))
                };
                prop_assert_eq!(found, expected);
            }
        }
    }
}
