//! What the filters would do with a packet that is only asked about: as for one that comes, without counting.

use super::{NO_SET, Spd};
use crate::control::FilterRule;
use crate::engine::filter::Subject;

/// The rule that the search ends at, and the tunnel that serves the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Position of the rule.
    pub rule: usize,
    /// The tunnel; `None`: the rule wants none, or there is none.
    pub tunnel: Option<u32>,
}

impl Spd {
    /// Which rule decides on the packet; `None`: no rule matches.
    #[must_use]
    pub fn ask(&self, s: &Subject) -> Option<Found> {
        let (rule, _) = self.find(s, None)?;
        let rule = self.for_peer(rule, s);
        let set = self.set_of.get(rule).copied().filter(|set| *set != NO_SET);
        Some(Found { rule, tunnel: set.and_then(|set| self.tunnel_in(set, s)) })
    }

    /// The tunnel that would serve the packet under this rule.
    #[must_use]
    pub fn serves(&self, rule: &FilterRule, s: &Subject) -> Option<u32> {
        self.tunnel_in(*self.set_names.get(&rule.anchor()?)?, s)
    }

    fn tunnel_in(&self, set: usize, s: &Subject) -> Option<u32> {
        let place = self.sets.get(set)?.find(&self.tunnels, s)?;
        self.tunnels.get(place)?.as_ref().map(|t| t.number)
    }

    /// The inbound SPI of the pair that a tunnel sends with.
    #[must_use]
    pub fn sends_with(&self, tunnel: u32) -> Option<u32> {
        let place = *self.tunnel_numbers.get(&tunnel)?;
        self.tunnels.get(place)?.as_ref().map(|t| t.current)
    }
}
