//! Security Association payload (RFC 7296 section 3.3): proposals of transforms, as they were sent.
//!
//! Only the structure is checked here. What of it we can use, and which proposal is chosen, is `wire::suite`.

use super::super::error::{EncodeError, Fault, WireError};
use super::super::iana::{AttributeType, ProtocolId, TransformType, transform};
use super::super::reader::Reader;
use super::{octet, put_length};
use std::fmt;

/// Proposals that one SA payload may hold.
pub const MAX_PROPOSALS: usize = 32;
/// Transforms that one proposal may hold.
pub const MAX_TRANSFORMS: usize = 64;
/// Attributes that one transform may hold; RFC 7296 knows one.
const MAX_ATTRIBUTES: usize = 8;
/// Octets in front of a proposal's SPI.
const PROPOSAL_FIXED: usize = 8;
/// Octets in front of a transform's attributes.
const TRANSFORM_FIXED: usize = 8;
/// "More proposals follow".
const MORE_PROPOSALS: u8 = 2;
/// "More transforms follow".
const MORE_TRANSFORMS: u8 = 3;
/// Attribute format bit: the value is the two octets behind the type.
const SHORT: u16 = 0x8000;

/// The payload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sa {
    /// Proposals, in the sender's order of preference.
    pub proposals: Vec<Proposal>,
}

/// One proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Number: 1 for the first, one more for each that follows; a response repeats the number chosen.
    pub number: u8,
    /// Protocol.
    pub protocol: ProtocolId,
    /// The sender's SPI: 4 octets for ESP and AH, 8 for IKE in a rekey, none in IKE_SA_INIT.
    pub spi: Vec<u8>,
    /// Transforms.
    pub transforms: Vec<Transform>,
}

/// One transform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transform {
    /// Transform type.
    pub kind: TransformType,
    /// Transform identifier, to be read with the type.
    pub id: u16,
    /// Attributes.
    pub attributes: Vec<Attribute>,
}

/// A transform attribute (RFC 7296 section 3.3.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Type, without the format bit.
    pub kind: AttributeType,
    /// Value.
    pub value: AttributeValue,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// Type/value format.
    Short(u16),
    /// Type/length/value format.
    Long(Vec<u8>),
}

impl Transform {
    /// A transform, with a Key Length attribute where the algorithm takes one.
    #[must_use]
    pub fn new(kind: TransformType, id: u16, key_length: Option<u16>) -> Self {
        let attribute =
            |bits| Attribute { kind: AttributeType::KEY_LENGTH, value: AttributeValue::Short(bits) };
        Self { kind, id, attributes: key_length.map(attribute).into_iter().collect() }
    }

    fn parse(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut body = substructure(reader, MORE_TRANSFORMS, TRANSFORM_FIXED)?;
        let kind = TransformType(body.u8()?);
        let _reserved = body.u8()?;
        let id = body.u16()?;
        let mut attributes = Vec::new();
        while !body.is_empty() {
            if attributes.len() == MAX_ATTRIBUTES {
                return Err(
                    body.fault(Fault::TooMany { what: "transform attributes", limit: MAX_ATTRIBUTES })
                );
            }
            let head = body.u16()?;
            let field = body.u16()?;
            let value = if head & SHORT == 0 {
                AttributeValue::Long(body.take(usize::from(field))?.to_vec())
            } else {
                AttributeValue::Short(field)
            };
            attributes.push(Attribute { kind: AttributeType(head & !SHORT), value });
        }
        Ok(Self { kind, id, attributes })
    }

    fn encode(&self, last: bool, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        out.extend_from_slice(&[if last { 0 } else { MORE_TRANSFORMS }, 0, 0, 0, self.kind.0, 0]);
        out.extend_from_slice(&self.id.to_be_bytes());
        for attribute in &self.attributes {
            match &attribute.value {
                AttributeValue::Short(value) => {
                    out.extend_from_slice(&(attribute.kind.0 | SHORT).to_be_bytes());
                    out.extend_from_slice(&value.to_be_bytes());
                }
                AttributeValue::Long(value) => {
                    let error = EncodeError { what: "transform attribute", length: value.len() };
                    let length = u16::try_from(value.len()).map_err(|_| error)?;
                    out.extend_from_slice(&(attribute.kind.0 & !SHORT).to_be_bytes());
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(value);
                }
            }
        }
        put_length(out, start, start + 2, "transform")
    }
}

impl Proposal {
    fn parse(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut body = substructure(reader, MORE_PROPOSALS, PROPOSAL_FIXED)?;
        let number = body.u8()?;
        let protocol = ProtocolId(body.u8()?);
        let spi_size = usize::from(body.u8()?);
        let counted = usize::from(body.u8()?);
        if counted > MAX_TRANSFORMS {
            return Err(body.fault(Fault::TooMany { what: "transforms", limit: MAX_TRANSFORMS }));
        }
        let spi = body.take(spi_size)?.to_vec();
        let mut transforms = Vec::new();
        while !body.is_empty() && transforms.len() < counted {
            transforms.push(Transform::parse(&mut body)?);
        }
        if transforms.len() != counted {
            return Err(body.fault(Fault::Count { what: "transforms", counted, found: transforms.len() }));
        }
        body.finish()?;
        Ok(Self { number, protocol, spi, transforms })
    }

    fn encode(&self, last: bool, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        out.extend_from_slice(&[
            if last { 0 } else { MORE_PROPOSALS },
            0,
            0,
            0,
            self.number,
            self.protocol.0,
        ]);
        out.push(octet(self.spi.len(), "SPI")?);
        out.push(octet(self.transforms.len(), "transforms")?);
        out.extend_from_slice(&self.spi);
        for (index, transform) in self.transforms.iter().enumerate() {
            transform.encode(index + 1 == self.transforms.len(), out)?;
        }
        put_length(out, start, start + 2, "proposal")
    }
}

impl Sa {
    pub(super) fn parse(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut proposals: Vec<Proposal> = Vec::new();
        while !body.is_empty() {
            if proposals.len() == MAX_PROPOSALS {
                return Err(body.fault(Fault::TooMany { what: "proposals", limit: MAX_PROPOSALS }));
            }
            let here = body.clone();
            let proposal = Proposal::parse(body)?;
            // RFC 7296 section 3.3.1: numbers go up by one.
            if proposals.last().is_some_and(|before| before.number.checked_add(1) != Some(proposal.number)) {
                let value = u64::from(proposal.number);
                return Err(here.fault(Fault::Value { what: "proposal number", value }));
            }
            proposals.push(proposal);
        }
        if proposals.is_empty() {
            return Err(body.fault(Fault::Truncated { needed: PROPOSAL_FIXED, left: 0 }));
        }
        Ok(Self { proposals })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        for (index, proposal) in self.proposals.iter().enumerate() {
            proposal.encode(index + 1 == self.proposals.len(), out)?;
        }
        Ok(())
    }
}

/// The content of a proposal or transform substructure: "last" octet, reserved octet and length are checked and gone.
fn substructure<'a>(reader: &mut Reader<'a>, more: u8, fixed: usize) -> Result<Reader<'a>, WireError> {
    let here = reader.clone();
    let last = reader.u8()?;
    let _reserved = reader.u8()?;
    let length = usize::from(reader.u16()?);
    if length < fixed {
        return Err(here.fault(Fault::Length(length)));
    }
    let body = reader.sub(length - 4)?;
    let expected = if reader.is_empty() { 0 } else { more };
    if last != expected {
        return Err(here.fault(Fault::Value { what: "last-substructure octet", value: u64::from(last) }));
    }
    Ok(body)
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match transform::name(self.kind, self.id) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "{}:{}", self.kind, self.id)?,
        }
        for attribute in &self.attributes {
            match (attribute.kind, &attribute.value) {
                (AttributeType::KEY_LENGTH, AttributeValue::Short(bits)) => write!(f, "_{bits}")?,
                (kind, _) => write!(f, "[{kind}]")?,
            }
        }
        Ok(())
    }
}

/// `ESP: AES_GCM_16_128/ECP_256/NO_ESN`, alternatives of one type joined by `+`.
impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.protocol)?;
        let mut before = None;
        for transform in &self.transforms {
            let separator = match before {
                None => " ",
                Some(kind) if kind == transform.kind => "+",
                Some(_) => "/",
            };
            write!(f, "{separator}{transform}")?;
            before = Some(transform.kind);
        }
        Ok(())
    }
}

/// The proposals, for a log line.
impl fmt::Display for Sa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, proposal) in self.proposals.iter().enumerate() {
            write!(f, "{}{proposal}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
