//! Payloads that are carried but not understood (RFC 7296 section 2.5).

use super::super::iana::PayloadType;
use super::super::reader::Reader;

/// A payload to be skipped. Marked critical, it would have been an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Its type.
    pub kind: PayloadType,
    /// Its body.
    pub body: Vec<u8>,
}

impl Unknown {
    pub(super) fn parse(kind: PayloadType, body: &mut Reader<'_>) -> Self {
        Self { kind, body: body.rest().to_vec() }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.body);
    }
}
