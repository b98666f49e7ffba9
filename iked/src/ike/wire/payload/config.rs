//! Configuration payload (RFC 7296 section 3.15): taken apart so that a peer that asks for an address gets a proper
//! refusal; this implementation assigns none.

use super::super::error::{EncodeError, WireError};
use super::super::reader::Reader;

/// The payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// CFG_REQUEST (1), CFG_REPLY (2), CFG_SET (3), CFG_ACK (4).
    pub kind: u8,
    /// Attributes.
    pub attributes: Vec<ConfigAttribute>,
}

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigAttribute {
    /// Type, 15 bits.
    pub kind: u16,
    /// Value.
    pub value: Vec<u8>,
}

/// The bit in front of the attribute type is reserved.
const TYPE_MASK: u16 = 0x7fff;

impl Config {
    pub(super) fn parse(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let kind = body.u8()?;
        let _reserved = body.take(3)?;
        let mut attributes = Vec::new();
        while !body.is_empty() {
            let kind = body.u16()? & TYPE_MASK;
            let length = usize::from(body.u16()?);
            attributes.push(ConfigAttribute { kind, value: body.take(length)?.to_vec() });
        }
        Ok(Self { kind, attributes })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&[self.kind, 0, 0, 0]);
        for attribute in &self.attributes {
            let error = EncodeError { what: "configuration attribute", length: attribute.value.len() };
            let length = u16::try_from(attribute.value.len()).map_err(|_| error)?;
            out.extend_from_slice(&(attribute.kind & TYPE_MASK).to_be_bytes());
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&attribute.value);
        }
        Ok(())
    }
}
