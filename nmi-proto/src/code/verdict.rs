//! Numbers with names of the extension for tested packets (section 6.23).

use crate::error::TextFault;
use crate::layout::{Field, Kind, Value};
use crate::text::CodePage;
use binrw::{BinRead, BinWrite};
use std::fmt;

open_enum! {
    /// What becomes of a tested packet (`NMsVdtTreatment`, section 6.23).
    Treatment: u8 {
        CLEAR = 1 "in clear",
        DENIED = 2 "denied",
        PROTECTED = 3 "by an SA",
        NO_SA = 4 "dropped: no SA",
        NEGOTIATED = 5 "an SA is negotiated",
    }
}
