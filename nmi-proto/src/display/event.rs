//! Project extension: events, which come by themselves after `NMsec_SUBSCRIBE` (section 6.21).

use super::Record;
use crate::code::{EventKind, MessageType};
use crate::error::DecodeError;
use crate::record::{RecordBuilder, RecordView};
use crate::text::{CodePage, Text};
use crate::value::{Address, Time};

structure! {
    /// Something that happened. What does not belong to its kind is zero or blank.
    Event = "NMsecEvent", 424, "6.21" {
        /// Number of the event, from 1 since the daemon started; all kinds and stacks are counted.
        [0 C "NMsEvtSequence"] sequence: u64,
        /// Events before this one that this subscriber did not read in time, since its last one.
        [8 C "NMsEvtLost"] lost: u64,
        /// When it happened.
        [16 C "NMsEvtTime"] time: Time,
        /// What happened, section 8.14.
        [20 C "NMsEvtKind"] kind: EventKind,
        /// Addresses are IPv6.
        [22:0 C "NMsEvtIPv6"] ipv6: bool,
        /// Stack.
        [24 C "NMsEvtStack"] stack: Text<24>,
        /// Tunnel ID.
        [48 C "NMsEvtTunnelID"] tunnel_id: Text<48>,
        /// Dynamic tunnel: ID of its IKE tunnel.
        [96 C "NMsEvtParentID"] parent_id: Text<48>,
        /// IKE tunnel: KeyExchangeRule. Dynamic tunnel: IpFilterRule.
        [144 C "NMsEvtRule"] rule: Text<48>,
        /// Local endpoint, or the DVIPA.
        [192 C "NMsEvtLclAddr"] local: Address,
        /// Remote endpoint.
        [208 C "NMsEvtRmtAddr"] remote: Address,
        /// Inbound SPI of a dynamic tunnel.
        [224 C "NMsEvtInSPI"] in_spi: u32,
        /// Outbound SPI of a dynamic tunnel.
        [228 C "NMsEvtOutSPI"] out_spi: u32,
        /// SA number within the tunnel.
        [232 C "NMsEvtGeneration"] generation: u32,
        /// Epoch of the owner of a DVIPA.
        [240 C "NMsEvtEpoch"] epoch: u64,
        /// New owner of a DVIPA, blank if nobody is known.
        [248 C "NMsEvtOwner"] owner: Text<24>,
        /// Owner before.
        [272 C "NMsEvtFrom"] from: Text<24>,
        /// Why, or what is to be said beside.
        [296 C "NMsEvtReason"] reason: Text<128>,
    } reserved {
        [22:1 C "NMsEvtRsvd1"] 15,
        [236 C "NMsEvtRsvd2"] 32,
    }
}

impl Record for Event {
    const TYPES: &'static [MessageType] = &[MessageType::EVENT];

    fn build(&self, page: CodePage) -> Vec<u8> {
        RecordBuilder::new(page).one(self).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        record.one(0)
    }
}
