//! Defensive filters: short-lived filters before policy's, put there by an operator or by what detects intrusions.

use super::{AddressRange, FilterKind, FilterRule, FilterTotals, FilterView};
use serde::{Deserialize, Serialize};

/// All defensive filters of a stack in search order, the latest first; replaces the ones before. Counters of a filter
/// that is in both, by its id, are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefenseSet {
    /// What the stack does with them.
    pub mode: DefenseMode,
    /// Packets from or to these remote addresses pass by all of them.
    pub excluded: Vec<AddressRange>,
    /// The filters.
    pub filters: Vec<DefensiveFilter>,
}

/// What a stack does with its defensive filters (DmStackConfig Mode).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefenseMode {
    /// Nothing.
    Inactive,
    /// Says what they would have dropped, whatever they say themselves.
    Simulate,
    /// What each says.
    #[default]
    Active,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefensiveFilter {
    /// Never given twice.
    pub id: u64,
    /// Which packets; its action says nothing.
    pub rule: FilterRule,
    /// What a match says is only logged, and the packet goes on to the filters behind.
    pub simulate: bool,
    /// Matches are logged.
    pub log: bool,
    /// Lines in five minutes, on average; 0: as many as the stack writes about anything.
    pub log_limit: u16,
    /// Milliseconds for which it lives from now on.
    pub remaining_ms: u64,
    /// Seconds since 1970 UTC at which they are over, for people.
    pub expires: u64,
    /// When it was added, seconds since 1970 UTC.
    pub created: u64,
    /// When it was changed last.
    pub updated: u64,
    /// It is a copy of one for all stacks.
    pub global: bool,
}

impl DefensiveFilter {
    /// It among the filters in force: the packets that it matched count as what became of them.
    #[must_use]
    pub fn view(&self, matched: u64) -> FilterView {
        let totals = match self.simulate {
            true => FilterTotals { permits: matched, ..FilterTotals::default() },
            false => FilterTotals { denies: matched, ..FilterTotals::default() },
        };
        FilterView {
            rule: FilterRule { log_deny: self.log, ..self.rule.clone() },
            kind: FilterKind::Defensive {
                simulate: self.simulate,
                global: self.global,
                log_limit: self.log_limit,
                expires: self.expires,
                updated: self.updated,
            },
            totals,
            created: self.created,
        }
    }
}
