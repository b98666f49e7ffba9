//! Rules for certain peers (RemoteIdentity with FilterByIdentity, spec/policy.md section 5.5).
//!
//! Peers whose addresses nobody knows beforehand have rules with the same selectors, told apart by who proved to be whom. That
//! is known of tunnels and not of packets, so a packet that meets such a rule and is served by none of its tunnels goes on to the
//! next ipsec rule whose tunnel serves it. It goes no further than ipsec rules: a permit further down must not
//! let out, or in, what this rule wants protected. Without a tunnel anywhere it stays with the first rule.

use super::{NO_SET, Spd};
use crate::engine::filter::{Subject, plain_search};

impl Spd {
    /// The rule for a packet that came in by a tunnel, or in clear, and met the rule at `first`.
    pub(super) fn for_peer_of(&self, first: usize, s: &Subject, through: Option<u32>) -> usize {
        let Some(tunnel) = through else { return first };
        self.beyond(first, s, |set| {
            let place = self.tunnel_numbers.get(&tunnel);
            place.and_then(|&i| self.tunnels[i].as_ref()).is_some_and(|t| t.set == set)
        })
    }

    /// The rule for a packet that wants out and met the rule at `first`.
    pub(super) fn for_peer(&self, first: usize, s: &Subject) -> usize {
        self.beyond(first, s, |set| self.sets[set].find(&self.tunnels, s).is_some())
    }

    fn beyond(&self, first: usize, s: &Subject, serves: impl Fn(usize) -> bool) -> usize {
        let rules = self.table.rules();
        if !rules[first].by_identity {
            return first;
        }
        let mut at = first;
        loop {
            let set = self.set_of[at];
            if set == NO_SET {
                return first;
            }
            if serves(set) {
                return at;
            }
            if !rules[at].by_identity {
                return first;
            }
            match plain_search(&rules[at + 1..], s) {
                Some(next) => at += 1 + next,
                None => return first,
            }
        }
    }
}
