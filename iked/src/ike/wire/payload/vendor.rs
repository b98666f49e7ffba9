//! Vendor ID payload (RFC 7296 section 3.12).

use super::super::reader::Reader;

/// A vendor's mark; never a licence to act without negotiation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vendor(pub Vec<u8>);

impl Vendor {
    pub(super) fn parse(body: &mut Reader<'_>) -> Self {
        Self(body.rest().to_vec())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}
