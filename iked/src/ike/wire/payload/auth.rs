//! Authentication payload (RFC 7296 section 3.8).

use super::super::error::WireError;
use super::super::iana::AuthMethod;
use super::super::reader::Reader;

/// The payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Method.
    pub method: AuthMethod,
    /// Authentication data.
    pub data: Vec<u8>,
}

impl Auth {
    pub(super) fn parse(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let method = AuthMethod(body.u8()?);
        let _reserved = body.take(3)?;
        Ok(Self { method, data: body.rest().to_vec() })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.method.0, 0, 0, 0]);
        out.extend_from_slice(&self.data);
    }
}
