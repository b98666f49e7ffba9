//! Numbers with names of the extension for defensive filters (section 7.3).

use crate::error::TextFault;
use crate::layout::{Field, Kind, Value};
use crate::text::CodePage;
use binrw::{BinRead, BinWrite};
use std::fmt;

open_enum! {
    /// Result for one object of a control request about defensive filters (`NMsDctStatus`, section 7.3).
    DefensiveStatus: u8 {
        NOT_PROCESSED = 0 "not processed",
        NOTFOUND = 1 "NMsec_DEFSTATUS_NOTFOUND",
        DONE = 2 "NMsec_DEFSTATUS_DONE",
        EXISTS = 3 "NMsec_DEFSTATUS_EXISTS",
        INACTIVE = 4 "NMsec_DEFSTATUS_INACTIVE",
        LIFETIME = 5 "NMsec_DEFSTATUS_LIFETIME",
        FULL = 6 "NMsec_DEFSTATUS_FULL",
        FAILED = 7 "NMsec_DEFSTATUS_FAILED",
    }
}
