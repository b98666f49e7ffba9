//! Project extension: answer to `NMsec_GET_AUTHORITY`, what the caller may do (section 6.20).

use super::Record;
use crate::code::MessageType;
use crate::error::DecodeError;
use crate::record::{RecordBuilder, RecordView};
use crate::text::{CodePage, Text};

structure! {
    /// What the caller may do with one stack, or without one.
    Authority = "NMsecAuthority", 284, "6.20" {
        /// Displays are permitted.
        [0:0 C "NMsAutDisplay"] display: bool,
        /// Controls are permitted.
        [0:1 C "NMsAutControl"] control: bool,
        /// Stack; `DMD_GLOBAL`: the defensive filters of all stacks; blank: requests without a stack.
        [4 C "NMsAutStack"] stack: Text<24>,
        /// Profile that decided on displays, blank if none covers the resource.
        [28 C "NMsAutDisplayBy"] display_by: Text<128>,
        /// Profile that decided on controls, blank if none covers the resource.
        [156 C "NMsAutControlBy"] control_by: Text<128>,
    } reserved {
        [0:2 C "NMsAutRsvd1"] 30,
    }
}

structure! {
    /// Who the caller is to the daemon.
    Caller = "NMsecCaller", 68, "6.20" {
        /// What no profile covers is permitted: uid 0, or BPX.SUPERUSER.
        [0:0 C "NMsCalSuperuser"] superuser: bool,
        /// User number.
        [4 C "NMsCalUid"] uid: u32,
        /// Process that connected.
        [8 C "NMsCalPid"] pid: u32,
        /// User name, blank if the database has none.
        [12 C "NMsCalUser"] user: Text<32>,
        /// System of the daemon: the third qualifier of every resource.
        [44 C "NMsCalSystem"] system: Text<24>,
    } reserved {
        [0:1 C "NMsCalRsvd1"] 31,
    }
}

/// Record of an answer to `NMsec_GET_AUTHORITY`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorityRecord {
    /// What he may do.
    pub authority: Authority,
    /// Who he is: in the first record only.
    pub caller: Option<Caller>,
}

impl Record for AuthorityRecord {
    const TYPES: &'static [MessageType] = &[MessageType::GET_AUTHORITY];

    fn build(&self, page: CodePage) -> Vec<u8> {
        RecordBuilder::new(page).one(&self.authority).all(self.caller.as_slice()).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        Ok(Self { authority: record.one(0)?, caller: record.optional(1)? })
    }
}
