//! Project extensions: answers to `NMsec_GET_DROPS` and `NMsec_GET_DISTRIBUTION` (sections 6.15 and 6.16).

use super::Record;
use crate::code::MessageType;
use crate::error::DecodeError;
use crate::record::{RecordBuilder, RecordView};
use crate::text::{CodePage, Text};
use crate::value::Address;

structure! {
    /// Packets that a stack dropped for one reason.
    DropCount = "NMsecDrop", 56, "6.15" {
        /// Name of the reason in `snake_case`, the same in documentation, metrics and reports.
        [0 C "NMsDropReason"] reason: Text<48>,
        /// Packets dropped for it since the stack started.
        [48 C "NMsDropPackets"] packets: u64,
    } reserved {
    }
}

impl Record for DropCount {
    const TYPES: &'static [MessageType] = &[MessageType::GET_DROPS];

    fn build(&self, page: CodePage) -> Vec<u8> {
        RecordBuilder::new(page).one(self).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        record.one(0)
    }
}

structure! {
    /// Connections of one target at one port of a DVIPA.
    Distribution = "NMsecDistribution", 64, "6.16" {
        /// The DVIPA is IPv6.
        [0:0 C "NMsDtrIPv6"] ipv6: bool,
        /// The distributed address.
        [4 C "NMsDtrDVIPA"] dvipa: Address,
        /// Stack that the connections were given to.
        [20 C "NMsDtrTarget"] target: Text<24>,
        /// Port (low end of a range).
        [44 C "NMsDtrPort"] port: u16,
        /// Connections in the table now.
        [48 C "NMsDtrActive"] active: u64,
        /// Connections since the distributor started.
        [56 C "NMsDtrTotal"] total: u64,
    } reserved {
        [0:1 C "NMsDtrRsvd1"] 31,
        [46 C "NMsDtrRsvd2"] 16,
    }
}

impl Record for Distribution {
    const TYPES: &'static [MessageType] = &[MessageType::GET_DISTRIBUTION];

    fn build(&self, page: CodePage) -> Vec<u8> {
        RecordBuilder::new(page).one(self).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        record.one(0)
    }
}
