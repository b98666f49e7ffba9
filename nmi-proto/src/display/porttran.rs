//! Answer to `NMsec_GET_PORTTRAN`: remote ports that NAT traversal translated (section 6.4).

use super::Record;
use crate::code::MessageType;
use crate::error::DecodeError;
use crate::record::{RecordBuilder, RecordView};
use crate::text::CodePage;
use crate::value::Address;

structure! {
    /// One translation of a remote port. An inner address of zero is not known.
    PortTranslation = "NMsecPortTran", 44, "6.4" {
        /// Addresses are IPv6 (always 0).
        [0:0 C "NMsPTrIPv6"] ipv6: bool,
        /// Remote (public) address.
        [4 I "NMsPTrRmtAddr"] remote_address: Address,
        /// Remote inner (private) address.
        [20 I "NMsPTrInnerAddr"] inner_address: Address,
        /// 6 TCP or 17 UDP.
        [36 I "NMsPTrProtocol"] protocol: u8,
        /// Translated remote connection port.
        [38 I "NMsPTrTransPort"] translated_port: u16,
        /// Original remote connection port.
        [40 I "NMsPTrOrigPort"] original_port: u16,
    } reserved {
        [0:1 C "NMsPTrRsvd1"] 31,
        [37 C "NMsPTrRsvd2"] 8,
        [42 C "NMsPTrRsvd3"] 16,
    }
}

impl Record for PortTranslation {
    const TYPES: &'static [MessageType] = &[MessageType::GET_PORTTRAN];

    fn build(&self, page: CodePage) -> Vec<u8> {
        RecordBuilder::new(page).one(self).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        record.one(0)
    }
}
