//! WEIGHTEDACTIVE and WLM: in proportion to weights that are configured, or to capacity that targets report (spec 7).

use super::Candidate;
use super::round_robin::RoundRobin;

/// The candidate that, with one connection more, has the fewest for its weight; among equals, whose turn it is.
pub(super) fn weighted_active(turn: &mut RoundRobin, candidates: &[Candidate]) -> Option<usize> {
    let chosen = candidates.iter().min_by(|a, b| {
        let load = |of: &Candidate, other: &Candidate| (u128::from(of.active) + 1) * u128::from(other.weight);
        load(a, b).cmp(&load(b, a)).then_with(|| turn.distance(a.index).cmp(&turn.distance(b.index)))
    })?;
    turn.after(chosen.index);
    Some(chosen.index)
}

/// Shares out connections by weights that may change between any two, smoothly: each candidate earns its weight, the richest
/// gets the connection and pays the sum.
#[derive(Debug, Clone, Default)]
pub(super) struct Wlm {
    credit: Vec<i64>,
}

impl Wlm {
    /// The next one.
    pub(super) fn pick(&mut self, candidates: &[Candidate]) -> Option<usize> {
        let most = candidates.last()?.index;
        if self.credit.len() <= most {
            self.credit.resize(most + 1, 0);
        }
        let mut at = 0;
        for (index, credit) in self.credit.iter_mut().enumerate() {
            while candidates.get(at).is_some_and(|c| c.index < index) {
                at += 1;
            }
            // Who was away comes back without debts or savings.
            if candidates.get(at).is_none_or(|c| c.index != index) {
                *credit = 0;
            }
        }
        // When nobody has capacity left, the configured weights still say who is larger.
        let exhausted = candidates.iter().all(|c| c.capacity == 0);
        let weight = |c: &Candidate| i64::from(c.weight) * if exhausted { 1 } else { i64::from(c.capacity) };
        let mut sum = 0;
        for c in candidates {
            self.credit[c.index] += weight(c);
            sum += weight(c);
        }
        let eligible = candidates.iter().filter(|c| weight(c) > 0);
        let chosen = eligible.rev().max_by_key(|c| self.credit[c.index])?.index;
        self.credit[chosen] -= sum;
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidates;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn active_connections_follow_the_weights() {
        let mut turn = RoundRobin::default();
        let mut active = [0u64; 3];
        for _ in 0..160 {
            let all = candidates(&[(0, 10, active[0]), (1, 5, active[1]), (2, 1, active[2])]);
            active[weighted_active(&mut turn, &all).unwrap()] += 1;
        }
        assert_eq!(active, [100, 50, 10]);
        // One that has lost its connections catches up.
        active[0] = 0;
        for _ in 0..60 {
            let all = candidates(&[(0, 10, active[0]), (1, 5, active[1]), (2, 1, active[2])]);
            active[weighted_active(&mut turn, &all).unwrap()] += 1;
        }
        assert_eq!(active, [60, 50, 10]);
        let equal = candidates(&[(0, 1, 0), (1, 1, 0)]);
        let mut turn = RoundRobin::default();
        let turns: Vec<_> = (0..4).map(|_| weighted_active(&mut turn, &equal).unwrap()).collect();
        assert_eq!(turns, [0, 1, 0, 1], "equals in turn");
    }

    #[test]
    fn t45_the_largest_numbers_do_not_overflow() {
        let mut turn = RoundRobin::default();
        let extreme = candidates(&[(0, 255, u64::MAX), (1, 1, u64::MAX)]);
        assert_eq!(weighted_active(&mut turn, &extreme), Some(0));
    }

    #[test]
    fn capacity_shares_smoothly_and_an_exhausted_sysplex_falls_back_on_weights() {
        let mut wlm = Wlm::default();
        let mut all = candidates(&[(0, 10, 0), (1, 10, 0), (2, 10, 0)]);
        for (c, capacity) in all.iter_mut().zip([60, 30, 0]) {
            c.capacity = capacity;
        }
        let turns: Vec<_> = (0..6).map(|_| wlm.pick(&all).unwrap()).collect();
        assert_eq!(turns, [0, 1, 0, 0, 1, 0], "two to one, mixed");
        for c in &mut all {
            c.capacity = 0;
        }
        let mut turns: Vec<_> = (0..3).map(|_| wlm.pick(&all).unwrap()).collect();
        turns.sort_unstable();
        assert_eq!(turns, [0, 1, 2]);
        assert_eq!(wlm.pick(&[]), None);
    }

    proptest! {
        /// Whatever the weights, after as many connections as their sum each has its share.
        #[test]
        fn shares_are_exact(weights in prop::collection::vec(1u8..20, 1..6)) {
            let mut wlm = Wlm::default();
            let specs: Vec<_> = weights.iter().enumerate().map(|(i, w)| (i, *w, 0)).collect();
            let all = candidates(&specs);
            let mut got = vec![0u32; weights.len()];
            for _ in 0..weights.iter().map(|w| u32::from(*w)).sum::<u32>() {
                got[wlm.pick(&all).unwrap()] += 1;
            }
            prop_assert_eq!(got, weights.iter().map(|w| u32::from(*w)).collect::<Vec<_>>());
        }
    }
}
