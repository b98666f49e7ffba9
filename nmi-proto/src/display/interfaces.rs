//! Answer to `NMsec_GET_IPINTERFACES`: one record for each address of an interface (section 6.12).

use super::Record;
use crate::code::MessageType;
use crate::error::DecodeError;
use crate::record::{RecordBuilder, RecordView};
use crate::text::{CodePage, Text};
use crate::value::Address;

structure! {
    /// An address of an interface.
    Interface = "NMsecInterface", 36, "6.12" {
        /// Interface name.
        [0 D "NMsInterfaceName"] name: Text<16>,
        /// IP address; IPv4 in the last 4 bytes, first 12 zero.
        [16 D "NMsInterfaceAddr"] address: Address,
        /// Security class.
        [32 D "NMsInterfaceSecClass"] security_class: u8,
        /// The address is IPv6.
        [33:0 D "NMsIPv6"] ipv6: bool,
        /// The interface is active.
        [33:1 D "NMsInterfaceActive"] active: bool,
        /// The address is a DVIPA.
        [33:2 D "NMsInterfaceDVIPA"] dvipa: bool,
    } reserved {
        [33:3 D "NMsInterfaceRsvd1"] 21,
    }
}

impl Record for Interface {
    const TYPES: &'static [MessageType] = &[MessageType::GET_IPINTERFACES];

    fn build(&self, page: CodePage) -> Vec<u8> {
        RecordBuilder::new(page).one(self).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        record.one(0)
    }
}
