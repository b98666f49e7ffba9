//! Key Exchange payload (RFC 7296 section 3.4).

use super::super::error::WireError;
use super::super::reader::Reader;

/// The payload. Length and validity of the value are the group's business (`crypto::group`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ke {
    /// IANA number of the group, known to us or not.
    pub group: u16,
    /// Public value.
    pub value: Vec<u8>,
}

impl Ke {
    pub(super) fn parse(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let group = body.u16()?;
        let _reserved = body.u16()?;
        Ok(Self { group, value: body.rest().to_vec() })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.group.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.value);
    }
}
