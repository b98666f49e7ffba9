//! Numbers with names of the extensions for DVIPAs (sections 7.1 and 8.10 to 8.13).

use crate::error::TextFault;
use crate::layout::{Field, Kind, Value};
use crate::text::CodePage;
use binrw::{BinRead, BinWrite};
use std::fmt;

open_enum! {
    /// What a stack is for a DVIPA (`NMsDvpState`, section 8.10).
    DvipaState: u8 {
        UNKNOWN = 0 "unknown",
        ACTIVE = 1 "ACTIVE",
        BACKUP = 2 "BACKUP",
        MOVING = 3 "MOVING",
        QUIESCING = 4 "QUIESCING",
        DEACTIVATED = 5 "DEACTIVATED",
        DEST = 6 "DEST",
    }
}

open_enum! {
    /// What becomes of the SAs of a DVIPA when its owner changes (`NMsDvpTakeover`).
    TakeoverMode: u8 {
        RENEGOTIATE = 1 "renegotiate",
        CONTINUE = 2 "continue",
    }
}

open_enum! {
    /// When a DVIPA goes back to its preferred owner (`NMsDvpGiveback`).
    Giveback: u8 {
        IMMEDIATE = 1 "immediate",
        WHEN_IDLE = 2 "when idle",
        MANUAL = 3 "manual",
    }
}

open_enum! {
    /// Whether the coupling facility has what a backup needs of a DVIPA (`NMsDvpCFState`, section 8.11).
    CfProtection: u8 {
        NOT_APPLICABLE = 0 "n/a",
        STORED = 1 "Stored",
        FAILED = 2 "Failed",
        NOT_PROTECTED = 3 "not protected",
    }
}

open_enum! {
    /// A backup, as the asked system knows it (`NMsBkpState`).
    BackupState: u8 {
        UNKNOWN = 0 "unknown",
        READY = 1 "ready",
        NOT_READY = 2 "not ready",
        GONE = 3 "gone",
    }
}

open_enum! {
    /// How a target is chosen for a connection (`NMsVtgMethod`).
    DistributionMethod: u8 {
        UNKNOWN = 0 "unknown",
        ROUND_ROBIN = 1 "round-robin",
        WEIGHTED_ACTIVE = 2 "weighted-active",
        HOT_STANDBY = 3 "hot-standby",
        WLM = 4 "wlm",
        MAGLEV = 5 "maglev",
    }
}

open_enum! {
    /// Why a DVIPA changed its owner (`NMsTkoCause`, section 8.12).
    TakeoverCause: u8 {
        UNKNOWN = 0 "unknown",
        START = 1 "start",
        OPERATOR = 2 "operator",
        CONFIGURATION = 3 "configuration",
        GIVEBACK = 4 "giveback",
        OWNER_STOPPED = 5 "owner stopped",
        OWNER_ENDED = 6 "owner ended",
        LEASE_ENDED = 7 "lease ended",
        RESTART = 8 "restart",
        DEACTIVATED = 9 "deactivated",
    }
}

open_enum! {
    /// How far a takeover is (`NMsTkoResult`).
    TakeoverResult: u8 {
        RUNNING = 0 "running",
        DONE = 1 "done",
        INCOMPLETE = 2 "incomplete",
        OVERTAKEN = 3 "overtaken",
        FAILED = 4 "failed",
    }
}

open_enum! {
    /// A step of a takeover at the new owner (`NMsTksStep`, section 8.13).
    TakeoverStep: u8 {
        DETECT = 1 "detect",
        ACQUIRE = 2 "acquire",
        READ = 3 "read",
        FILTERS = 4 "filters",
        ANNOUNCE = 5 "announce",
        NOTIFY = 6 "notify",
        RENEGOTIATE = 7 "renegotiate",
        STORE = 8 "store",
        CLEAR = 9 "clear",
        OWNER = 10 "owner",
        RELIEVE = 11 "relieve",
    }
}

open_enum! {
    /// Result for one object of a control request about DVIPAs (`NMsVctStatus`, section 7).
    VipaStatus: u8 {
        NOT_PROCESSED = 0 "not processed",
        NOTFOUND = 1 "NMsec_VIPASTATUS_NOTFOUND",
        STARTED = 2 "NMsec_VIPASTATUS_STARTED",
        ALREADYSET = 3 "NMsec_VIPASTATUS_ALREADYSET",
        NOTABACKUP = 4 "NMsec_VIPASTATUS_NOTABACKUP",
        NOTREADY = 5 "NMsec_VIPASTATUS_NOTREADY",
        BUSY = 6 "NMsec_VIPASTATUS_BUSY",
        NOTOWNER = 7 "NMsec_VIPASTATUS_NOTOWNER",
        FAILED = 8 "NMsec_VIPASTATUS_FAILED",
    }
}
