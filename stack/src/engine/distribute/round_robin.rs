//! ROUNDROBIN: the next candidate in turn, no weights (spec section 7).

use super::Candidate;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// The next of the candidates, which stand in the order of their places.
    pub(super) fn pick(&mut self, candidates: &[Candidate]) -> Option<usize> {
        let chosen = candidates.iter().find(|c| c.index >= self.next).or(candidates.first())?.index;
        self.next = chosen + 1;
        Some(chosen)
    }

    /// How far a candidate stands behind the one whose turn it is.
    pub(super) const fn distance(self, index: usize) -> usize {
        index.wrapping_sub(self.next)
    }

    /// The turn after this one.
    pub(super) const fn after(&mut self, index: usize) {
        self.next = index + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidates;
    use super::*;

    #[test]
    fn all_have_their_turn_and_the_unready_are_skipped() {
        let mut r = RoundRobin::default();
        let all = candidates(&[(0, 1, 0), (1, 1, 0), (2, 1, 0)]);
        let turns: Vec<_> = (0..6).filter_map(|_| r.pick(&all)).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
        let turns: Vec<_> = (0..4).filter_map(|_| r.pick(&candidates(&[(0, 1, 0), (2, 1, 0)]))).collect();
        assert_eq!(turns, [0, 2, 0, 2]);
        assert_eq!(r.pick(&[]), None);
    }
}
