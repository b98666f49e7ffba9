//! HOTSTANDBY: all connections to one target, the others wait (spec section 7).

use super::Candidate;
use crate::control::Method;

/// Who serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HotStandby {
    serving: Option<usize>,
}

impl HotStandby {
    /// The first in the order of the list, or the one that serves while it can; with *healthswitch* one that has no
    /// capacity cannot, unless nobody has.
    pub(super) fn pick(&mut self, method: Method, candidates: &[Candidate]) -> Option<usize> {
        let (back, health) = match method {
            Method::HotStandby { autoswitchback, healthswitch } => (autoswitchback, healthswitch),
            Method::RoundRobin | Method::WeightedActive | Method::Wlm | Method::Maglev => (true, false),
        };
        let able = |c: &&Candidate| !health || c.capacity > 0;
        let stays = candidates.iter().filter(able).find(|c| !back && Some(c.index) == self.serving);
        let first = candidates.iter().find(able);
        // Nobody is well: better the one that serves than a switch to and fro.
        let unwell = candidates.iter().find(|c| Some(c.index) == self.serving).or(candidates.first());
        self.serving = stays.or(first).or(unwell).map(|c| c.index);
        self.serving
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidates;
    use super::*;

    fn method(autoswitchback: bool, healthswitch: bool) -> Method {
        Method::HotStandby { autoswitchback, healthswitch }
    }

    #[test]
    fn switches_when_the_preferred_one_goes_and_back_as_configured() {
        let (all, rest) =
            (candidates(&[(0, 1, 0), (1, 1, 0), (2, 1, 0)]), candidates(&[(1, 1, 0), (2, 1, 0)]));
        for (back, then) in [(true, 0), (false, 1)] {
            let mut h = HotStandby::default();
            assert_eq!(h.pick(method(back, false), &all), Some(0));
            assert_eq!(h.pick(method(back, false), &all), Some(0));
            assert_eq!(h.pick(method(back, false), &rest), Some(1));
            assert_eq!(h.pick(method(back, false), &all), Some(then));
            assert_eq!(h.pick(method(back, false), &[]), None);
            assert_eq!(h.pick(method(back, false), &all), Some(0), "from none, the preferred one");
        }
    }

    #[test]
    fn bad_health_switches_only_where_that_is_wanted() {
        let mut all = candidates(&[(0, 1, 0), (1, 1, 0)]);
        all[0].capacity = 0;
        assert_eq!(HotStandby::default().pick(method(true, false), &all), Some(0));
        let mut h = HotStandby::default();
        assert_eq!(h.pick(method(true, true), &all), Some(1));
        all[1].capacity = 0;
        assert_eq!(h.pick(method(true, true), &all), Some(1), "nobody is well: no switch");
        all[0].capacity = 5;
        assert_eq!(h.pick(method(false, true), &all), Some(0));
    }
}
