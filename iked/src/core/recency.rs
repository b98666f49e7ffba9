//! Who was there last comes first: when peers last used their tunnels, and the order of a takeover that follows from it.
//!
//! What a peer sends says that it is there and wants something; it is noted with the records of its tunnels, roughly
//! ([`GRAIN`]) and rarely ([`REWRITE`]), and for nothing where a record is written anyway. The next owner negotiates in that
//! order, as many peers at a time as it has places for.

use super::{Core, Now};
use crate::act;
use crate::cf::fence::Contents;
use crate::cf::record::Phase2;
use crate::ike::snapshot::IkeSnapshot;
use crate::ike::types::TunnelId;
use crate::stack_link::StackIndex;
use stack::control::LastArrival;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Moments within so many seconds are one.
pub(super) const GRAIN: u64 = 60;
/// How much older than the truth, in seconds, a record may be before it is written for that alone.
pub(super) const REWRITE: u64 = 300;
/// Records written for that alone at each look.
const AT_ONCE: usize = 64;

/// When a tunnel was used last, in seconds since 1970 UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Use {
    last: u64,
    /// What its record says.
    written: u64,
}

impl Use {
    /// It was used at `unix`.
    pub(super) fn at(&mut self, unix: u64) {
        self.last = self.last.max(unix - unix % GRAIN);
    }

    /// Its record is worth writing for that.
    pub(super) const fn is_due(self) -> bool {
        self.last >= self.written.saturating_add(REWRITE)
    }

    /// A record says what is known; gives what it is to say.
    pub(super) fn write(&mut self) -> Option<u64> {
        self.written = self.last;
        Some(self.last).filter(|last| *last > 0)
    }
}

impl Core {
    /// A stack has said on which SAs something arrived since the last look.
    pub(super) fn note_use(&mut self, now: Now, index: StackIndex, arrivals: &[LastArrival]) {
        let stack = &mut self.stacks[index];
        let mut due: Vec<TunnelId> = Vec::new();
        for LastArrival { spi_in, idle_in_ms } in arrivals {
            if let Some(tunnel) = stack.installed.get(spi_in)
                && stack.ledger.used(*tunnel, now.unix.saturating_sub(idle_in_ms / 1_000))
                && due.len() < AT_ONCE
            {
                due.push(*tunnel);
            }
        }
        for tunnel in due {
            act::write_child(stack, self.keeper.as_ref(), now, tunnel);
        }
    }
}

/// The dynamic tunnels that an earlier owner left, in the order in which they are negotiated: who used it last comes first,
/// of whom nothing is known, last.
pub(super) fn children_in_order(contents: &Contents) -> Vec<&(crate::cf::record::RecordId, u64, Phase2)> {
    let mut children: Vec<_> = contents.phase2.iter().collect();
    children.sort_by_key(|(.., child)| Reverse(child.last_used));
    children
}

/// The same for IKE tunnels that go on: by the child of each that was used last.
pub(super) fn tunnels_in_order(contents: &Contents, tunnels: &mut [IkeSnapshot]) {
    let last: HashMap<u32, Option<u64>> =
        contents.phase2.iter().map(|(.., child)| (child.spi_in, child.last_used)).collect();
    let of_tunnel =
        |tunnel: &IkeSnapshot| tunnel.children().filter_map(|c| last.get(&c.spi_in).copied().flatten()).max();
    tunnels.sort_by_cached_key(|tunnel| Reverse(of_tunnel(tunnel)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cf::record::RecordId;
    use crate::cf::record::tests::phase2;

    #[test]
    fn a_use_is_rough_and_its_record_is_written_rarely() {
        let mut used = Use::default();
        assert_eq!(used.write(), None, "nothing is known");
        used.at(1_000_000_019);
        assert_eq!(used.write(), Some(999_999_960), "to the minute");
        assert!(!used.is_due());
        used.at(999_999_000);
        assert_eq!(used.last, 999_999_960, "what is heard late changes nothing");
        used.at(999_999_960 + REWRITE - 1);
        assert!(!used.is_due());
        used.at(999_999_960 + REWRITE);
        assert!(used.is_due());
        assert_eq!(used.write(), Some(999_999_960 + REWRITE));
        assert!(!used.is_due());
        used.at(u64::MAX);
        used.write();
        assert!(!used.is_due(), "t22: at the end of time nothing overflows");
    }

    #[test]
    fn who_was_there_last_comes_first_and_nobody_is_left_out() {
        let child = |n: u8, last_used| {
            (RecordId([n; 16]), 1, Phase2 { last_used, ..phase2(RecordId([0; 16]), n.into()) })
        };
        let phase2 =
            vec![child(1, None), child(2, Some(60)), child(3, Some(180)), child(4, None), child(5, Some(60))];
        let contents = Contents { phase2, ..Contents::default() };
        let order: Vec<u8> = children_in_order(&contents).iter().map(|(id, ..)| id.0[0]).collect();
        assert_eq!(order, [3, 2, 5, 1, 4]);
    }
}
