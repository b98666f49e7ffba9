//! Kinds of events (section 8.14).

use crate::error::TextFault;
use crate::layout::{Field, Kind, Value};
use crate::text::CodePage;
use binrw::{BinRead, BinWrite};
use std::fmt;

open_enum! {
    /// What happened (`NMsEvtKind`, section 8.14).
    EventKind: u16 {
        IKE_UP = 1 "ike_up",
        IKE_REKEYED = 2 "ike_rekeyed",
        IKE_DOWN = 3 "ike_down",
        CHILD_UP = 4 "child_up",
        CHILD_REKEYED = 5 "child_rekeyed",
        CHILD_DOWN = 6 "child_down",
        NEGOTIATION_FAILED = 7 "negotiation_failed",
        OWNER_CHANGED = 8 "owner_changed",
        PROTECTION_LOST = 9 "protection_lost",
        PROTECTION_REGAINED = 10 "protection_regained",
        POLICY_LOADED = 11 "policy_loaded",
        POLICY_FAILED = 12 "policy_failed",
        STACK_UP = 13 "stack_up",
        STACK_DOWN = 14 "stack_down",
    }
}

impl EventKind {
    /// Its bit in [`Subscription::kinds`](crate::control::Subscription::kinds); 0 if there is none.
    #[must_use]
    pub const fn bit(self) -> u32 {
        if self.0 < 32 { 1 << self.0 } else { 0 }
    }
}
