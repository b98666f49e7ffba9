//! The anti-replay window of an inbound SA (RFC 4303 section 3.4.3), with extended sequence numbers (appendix A).
//!
//! A bitmap used as a ring of words, so that moving the window costs a few words and never a shift of all of it
//! (RFC 6479). [`ReplayWindow::check`] comes before the integrity check and changes nothing; only
//! [`ReplayWindow::commit`], after it, moves the window (threats T34).

use crate::control::ReplaySnapshot;

/// Smallest window that is used, in packets.
pub const MIN_WINDOW: u32 = 64;
/// Largest window that is used, in packets.
pub const MAX_WINDOW: u32 = 4096;
const WORD: u64 = 64;

/// Why a sequence number is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Zero is never sent (RFC 4303 section 2.2).
    #[error("sequence number zero")]
    Zero,
    /// Seen before.
    #[error("sequence number {0} again")]
    Duplicate(u64),
    /// Left of the window.
    #[error("sequence number {0} is older than the window")]
    TooOld(u64),
}

/// Which sequence numbers arrived.
#[derive(Debug, Clone)]
pub struct ReplayWindow {
    /// Bit `s % 64` of word `s / 64 % words.len()` is set if `s` arrived. One word more than the window needs, so that
    /// the word that the right edge moves into holds nothing that is still inside.
    words: Box<[u64]>,
    /// Number of words minus one; their number is a power of two.
    mask: u64,
    window: u64,
    highest: u64,
    esn: bool,
}

impl ReplayWindow {
    /// A window of `packets`, within [`MIN_WINDOW`] and [`MAX_WINDOW`].
    #[must_use]
    pub fn new(packets: u32, esn: bool) -> Self {
        let window = u64::from(packets.clamp(MIN_WINDOW, MAX_WINDOW));
        let count = (window.div_ceil(WORD) + 1).next_power_of_two();
        let words = (0..count).map(|_| 0).collect();
        Self { words, mask: count - 1, window, highest: 0, esn }
    }

    /// The highest sequence number that was accepted; 0: none.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// The whole sequence number that a packet with these low 32 bits must have (RFC 4303 appendix A2.2).
    #[must_use]
    pub const fn infer(&self, low: u32) -> u64 {
        if !self.esn {
            return low as u64;
        }
        let (top_low, top_high) = (self.highest & 0xffff_ffff, self.highest >> 32);
        let low = low as u64;
        // Case A: the window lies within one subspace of 2^32. Case B: it spans two.
        let high = if top_low >= self.window - 1 {
            if low + self.window > top_low { top_high } else { top_high.wrapping_add(1) }
        } else if low > (1 << 32) + top_low - self.window {
            // Left part of the window: the subspace before. Before the first one there is nothing.
            match top_high.checked_sub(1) {
                Some(h) => h,
                None => return low,
            }
        } else {
            top_high
        };
        (high << 32) | low
    }

    /// Whether a packet with these low 32 bits may be new; its whole number.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check(&self, low: u32) -> Result<u64, ReplayError> {
        let sequence = self.infer(low);
        self.check_whole(sequence)?;
        Ok(sequence)
    }

    /// As [`ReplayWindow::check`], with the whole number.
    ///
    /// # Errors
    /// When it cannot be new.
    pub fn check_whole(&self, sequence: u64) -> Result<(), ReplayError> {
        if sequence == 0 {
            return Err(ReplayError::Zero);
        }
        if sequence > self.highest {
            return Ok(());
        }
        if self.highest - sequence >= self.window {
            return Err(ReplayError::TooOld(sequence));
        }
        let (word, bit) = self.place(sequence);
        if self.words[word] & bit == 0 { Ok(()) } else { Err(ReplayError::Duplicate(sequence)) }
    }

    /// Marks the number of an authenticated packet as arrived.
    pub fn commit(&mut self, sequence: u64) {
        if sequence > self.highest {
            // Empty the words that come into use; all of them if the jump is far.
            let (from, to) = (self.highest / WORD, sequence / WORD);
            for w in 1..=(to - from).min(self.mask + 1) {
                let (word, _) = self.place((from.wrapping_add(w)).wrapping_mul(WORD));
                self.words[word] = 0;
            }
            self.highest = sequence;
        }
        let (word, bit) = self.place(sequence);
        self.words[word] |= bit;
    }

    /// What arrived, for another process or node to go on with. What lies left of the window counts as arrived.
    #[must_use]
    pub fn snapshot(&self) -> ReplaySnapshot {
        let mut seen = vec![u64::MAX; usize::try_from(self.window.div_ceil(WORD)).unwrap_or(0)];
        for n in 0..self.window.min(self.highest) {
            let (word, bit) = self.place(self.highest - n);
            if self.words[word] & bit == 0 {
                // Below the window, which is small.
                let at = usize::try_from(n / WORD).unwrap_or(0);
                seen[at] &= !(1 << (n % WORD));
            }
        }
        ReplaySnapshot { highest: self.highest, seen }
    }

    /// A window that goes on where another ended. What its snapshot says nothing of counts as seen.
    #[must_use]
    pub fn restore(packets: u32, esn: bool, from: &ReplaySnapshot) -> Self {
        let mut w = Self::new(packets, esn);
        w.accept_only_above(from.highest);
        for (n, word) in (0..w.window.min(from.highest)).zip(from.seen.iter().flat_map(|w| [*w; 64])) {
            if word & (1 << (n % WORD)) == 0 {
                let (at, bit) = w.place(from.highest - n);
                w.words[at] &= !bit;
            }
        }
        w
    }

    /// Refuses everything up to `sequence`: for an SA that goes on where another process left it.
    pub fn accept_only_above(&mut self, sequence: u64) {
        if sequence >= self.highest {
            self.highest = sequence;
            self.words.fill(u64::MAX);
            // Numbers of the last word that lie above are new.
            let (word, bit) = self.place(sequence);
            self.words[word] = bit | (bit - 1);
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "masked by the number of words")]
    fn place(&self, sequence: u64) -> (usize, u64) {
        (((sequence / WORD) & self.mask) as usize, 1 << (sequence % WORD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn receive(w: &mut ReplayWindow, low: u32) -> Result<u64, ReplayError> {
        let s = w.check(low)?;
        w.commit(s);
        Ok(s)
    }

    #[test]
    fn t34_the_same_packet_again() {
        let mut w = ReplayWindow::new(128, false);
        assert_eq!(receive(&mut w, 7), Ok(7));
        assert_eq!(receive(&mut w, 7), Err(ReplayError::Duplicate(7)));
        assert_eq!(receive(&mut w, 0), Err(ReplayError::Zero));
    }

    #[test]
    fn t34_window_edge() {
        for size in [64u32, 100, 128, 1000, 1024, 4096] {
            let mut w = ReplayWindow::new(size, false);
            let top = 3 * size + 17;
            assert_eq!(receive(&mut w, top), Ok(u64::from(top)));
            let edge = top - size;
            assert_eq!(receive(&mut w, edge - 1), Err(ReplayError::TooOld(u64::from(edge) - 1)));
            assert_eq!(receive(&mut w, edge), Err(ReplayError::TooOld(u64::from(edge))));
            assert_eq!(receive(&mut w, edge + 1), Ok(u64::from(edge) + 1), "window {size}");
            assert_eq!(receive(&mut w, edge + 1), Err(ReplayError::Duplicate(u64::from(edge) + 1)));
        }
    }

    #[test]
    fn t34_a_forged_high_number_moves_nothing() {
        let mut w = ReplayWindow::new(128, false);
        receive(&mut w, 10).unwrap();
        assert_eq!(w.check(4_000_000_000), Ok(4_000_000_000));
        assert_eq!(w.highest(), 10);
        assert_eq!(receive(&mut w, 11), Ok(11));
    }

    #[test]
    fn t34_the_wrap_without_extended_numbers_is_the_end() {
        let mut w = ReplayWindow::new(128, false);
        assert_eq!(receive(&mut w, u32::MAX), Ok(u64::from(u32::MAX)));
        assert_eq!(receive(&mut w, 1), Err(ReplayError::TooOld(1)));
    }

    #[test]
    fn t34_the_wrap_with_extended_numbers() {
        let mut w = ReplayWindow::new(128, true);
        let top = (1u64 << 32) - 3;
        w.commit(top);
        assert_eq!(receive(&mut w, u32::MAX), Ok((1 << 32) - 1));
        assert_eq!(receive(&mut w, 0), Ok(1 << 32));
        assert_eq!(receive(&mut w, 5), Ok((1 << 32) + 5));
        assert_eq!(
            receive(&mut w, u32::MAX - 1),
            Ok((1 << 32) - 2),
            "left part of a window over two subspaces"
        );
        assert_eq!(receive(&mut w, u32::MAX - 1), Err(ReplayError::Duplicate((1 << 32) - 2)));
        assert_eq!(w.highest(), (1 << 32) + 5);
        // Left of the window is taken for the next subspace (and will fail its tag there).
        assert_eq!(w.check(u32::MAX - 200), Ok((1 << 32) + u64::from(u32::MAX) - 200));
    }

    #[test]
    fn esn_at_the_very_start_has_no_subspace_before() {
        let w = ReplayWindow::new(128, true);
        assert_eq!(w.check(1), Ok(1));
        assert_eq!(w.check(u32::MAX), Ok(u64::from(u32::MAX)));
        assert_eq!(w.check(u32::MAX - 10), Ok(u64::from(u32::MAX) - 10));
    }

    #[test]
    fn t26_after_a_restart_only_what_is_above_is_new() {
        for start in [0u64, 1, 63, 64, 65, 1000] {
            let mut w = ReplayWindow::new(128, false);
            w.accept_only_above(start);
            for s in start.saturating_sub(200).max(1)..=start {
                assert!(w.check(u32::try_from(s).unwrap()).is_err(), "{s} of {start}");
            }
            for s in start + 1..start + 300 {
                let s = u32::try_from(s).unwrap();
                assert!(receive(&mut w, s).is_ok(), "{s} of {start}");
                assert!(receive(&mut w, s).is_err(), "{s} of {start} again");
            }
        }
    }

    proptest! {
        /// Against a model that remembers every number.
        #[test]
        fn exactly_one_delivery(esn: bool, size in 64u32..300, start in prop::sample::select(vec![0u64, 1000, (1 << 32) - 150, (5 << 32) - 10]),
                                steps in proptest::collection::vec((0i64..400, any::<bool>()), 1..300)) {
            let start = if esn { start } else { start.min(1000) };
            let mut w = ReplayWindow::new(size, esn);
            if start > 0 {
                w.commit(start);
            }
            let mut seen = BTreeSet::from([start]);
            let mut top = start;
            for (step, back) in steps {
                let s = if back { top.saturating_sub(step.unsigned_abs()) } else { top + step.unsigned_abs() / 40 };
                if s == 0 { continue; }
                let inside = s > top || top - s < u64::from(size);
                let want = inside && !seen.contains(&s);
                #[allow(clippy::cast_possible_truncation, reason = "low half")]
                let got = w.check(s as u32).ok().filter(|g| *g == s);
                prop_assert_eq!(got.is_some(), want, "{} top {}", s, top);
                if got.is_some() {
                    w.commit(s);
                    seen.insert(s);
                    top = top.max(s);
                }
            }
            prop_assert_eq!(w.highest(), top);
        }

        /// A window that was handed over judges as the one before; with other sizes it never takes a number twice.
        #[test]
        fn t26_handed_over_it_judges_the_same(esn: bool, size in 64u32..300, other in 64u32..300,
                                              lows in proptest::collection::vec(1u32..500, 0..200)) {
            let mut w = ReplayWindow::new(size, esn);
            let mut seen = BTreeSet::new();
            for low in lows {
                if let Ok(s) = w.check(low) {
                    w.commit(s);
                    seen.insert(s);
                }
            }
            let same = ReplayWindow::restore(size, esn, &w.snapshot());
            let mut resized = ReplayWindow::restore(other, esn, &w.snapshot());
            prop_assert_eq!(same.snapshot(), w.snapshot());
            for low in 0..700 {
                prop_assert_eq!(same.check(low), w.check(low), "{}", low);
                if let Ok(s) = resized.check(low) {
                    prop_assert!(!seen.contains(&s), "{}", s);
                    resized.commit(s);
                    prop_assert!(resized.check(low).is_err());
                }
            }
        }

        /// T49: whatever a snapshot says, nothing breaks.
        #[test]
        fn t49_a_snapshot_of_nonsense_is_harmless(esn: bool, highest: u64, seen in proptest::collection::vec(any::<u64>(), 0..80), low: u32) {
            let mut w = ReplayWindow::restore(128, esn, &ReplaySnapshot { highest, seen });
            if let Ok(s) = w.check(low) {
                w.commit(s);
                prop_assert!(w.check(low).is_err());
            }
            let _ = w.snapshot();
        }

        #[test]
        fn no_number_breaks_it(esn: bool, lows in proptest::collection::vec(any::<u32>(), 1..50)) {
            let mut w = ReplayWindow::new(128, esn);
            for low in lows {
                if let Ok(s) = w.check(low) {
                    w.commit(s);
                    prop_assert!(w.check_whole(s).is_err());
                }
            }
        }
    }
}
