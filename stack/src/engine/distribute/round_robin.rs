//! ROUNDROBIN: the next ready target in turn, no weights (spec section 7).

/// Whose turn it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// The next of `count` targets that `ready` lets have a connection.
    pub fn pick(&mut self, count: usize, ready: impl Fn(usize) -> bool) -> Option<usize> {
        if count == 0 {
            return None;
        }
        let start = self.next % count;
        let chosen = (0..count).map(|step| (start + step) % count).find(|&i| ready(i))?;
        self.next = (chosen + 1) % count;
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_their_turn_and_the_unready_are_skipped() {
        let mut r = RoundRobin::default();
        let turns: Vec<_> = (0..6).filter_map(|_| r.pick(3, |_| true)).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
        let turns: Vec<_> = (0..4).filter_map(|_| r.pick(3, |i| i != 1)).collect();
        assert_eq!(turns, [0, 2, 0, 2]);
        assert_eq!(r.pick(3, |_| false), None);
        assert_eq!(r.pick(0, |_| true), None);
    }
}
