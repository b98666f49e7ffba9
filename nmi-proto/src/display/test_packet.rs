//! Project extension: answer to `NMsec_TEST_PACKET`, the filters that match a packet and which of them decides (section 6.23).

use super::{FilterRecord, Record};
use crate::code::{MessageType, Treatment};
use crate::error::DecodeError;
use crate::record::RecordView;
use crate::text::{CodePage, Text};

structure! {
    /// What becomes of the packet, with the filter that decides it.
    Verdict = "NMsecVerdict", 64, "6.23" {
        /// The filter decides whatever the request left open: ports, type, security class, fragments, the first segment of a connection.
        [0:0 C "NMsVdtCertain"] certain: bool,
        /// What becomes of an outbound packet, or how an inbound one has to come: 1 in clear, 2 denied, 3 by an SA, 4 dropped because there is no SA, 5 an SA is negotiated on demand.
        [4 C "NMsVdtTreatment"] treatment: Treatment,
        /// Tunnel, blank if none serves it.
        [8 C "NMsVdtTunnelID"] tunnel_id: Text<48>,
        /// Inbound SPI of the SAs that the tunnel sends with now, 0 if none serves it.
        [56 C "NMsVdtInSPI"] spi_in: u32,
        /// Outbound SPI of these SAs.
        [60 C "NMsVdtOutSPI"] spi_out: u32,
    } reserved {
        [0:1 C "NMsVdtRsvd1"] 31,
        [5 C "NMsVdtRsvd2"] 24,
    }
}

/// Record of an answer to `NMsec_TEST_PACKET`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestRecord {
    /// A filter that matches, or may match.
    pub filter: FilterRecord,
    /// Of the filter that decides, one in each direction.
    pub verdict: Option<Verdict>,
}

impl Record for TestRecord {
    const TYPES: &'static [MessageType] = &[MessageType::TEST_PACKET];

    fn build(&self, page: CodePage) -> Vec<u8> {
        self.filter.sections(page).all(self.verdict.as_slice()).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        Ok(Self { filter: FilterRecord::parse(record)?, verdict: record.optional(2)? })
    }
}
