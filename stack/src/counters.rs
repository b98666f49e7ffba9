//! What the engine counts, apart from what filters and SAs count of themselves: drops by reason.

use crate::control::DropView;
use crate::engine::verdict::DropReason;

/// Packets dropped, by reason.
#[derive(Debug, Clone)]
pub struct DropCounters {
    packets: [u64; DropReason::COUNT],
}

impl Default for DropCounters {
    fn default() -> Self {
        Self { packets: [0; DropReason::COUNT] }
    }
}

impl DropCounters {
    /// Counts one packet.
    pub fn count(&mut self, reason: DropReason) {
        self.add(reason, 1);
    }

    /// Counts several packets at once.
    pub fn add(&mut self, reason: DropReason, packets: u64) {
        let slot = &mut self.packets[reason as usize];
        *slot = slot.saturating_add(packets);
    }

    /// Packets dropped for one reason.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> u64 {
        self.packets[reason as usize]
    }

    /// The reasons that occurred.
    #[must_use]
    pub fn view(&self) -> Vec<DropView> {
        DropReason::ALL
            .iter()
            .filter(|r| self.of(**r) > 0)
            .map(|r| DropView { reason: r.name().to_owned(), packets: self.of(*r) })
            .collect()
    }
}
