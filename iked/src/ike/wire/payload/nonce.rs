//! Nonce payload (RFC 7296 section 3.9).

use super::super::error::{Fault, WireError};
use super::super::reader::Reader;

/// A nonce of 16 to 256 octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(Vec<u8>);

impl Nonce {
    /// Fewest octets.
    pub const MIN: usize = 16;
    /// Most octets.
    pub const MAX: usize = 256;

    /// A nonce of our own.
    #[must_use]
    pub fn new(octets: [u8; 32]) -> Self {
        Self(octets.to_vec())
    }

    /// A nonce that was one before; `None` if it has not a nonce's length.
    #[must_use]
    pub(crate) fn restore(octets: Vec<u8>) -> Option<Self> {
        (Self::MIN..=Self::MAX).contains(&octets.len()).then_some(Self(octets))
    }

    /// Its octets.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn parse(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let length = body.left();
        if !(Self::MIN..=Self::MAX).contains(&length) {
            return Err(body.fault(Fault::Length(length)));
        }
        Ok(Self(body.rest().to_vec()))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}
