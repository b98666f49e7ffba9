//! Traffic Selector payloads (RFC 7296 section 3.13).

use super::super::error::{EncodeError, Fault, WireError};
use super::super::iana::TsType;
use super::super::reader::Reader;
use super::octet;
use crate::ike::types::{AddressRange, TrafficSelector};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The payload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ts {
    /// Selectors that say something.
    pub selectors: Vec<TrafficSelector>,
    /// Selectors that were left out: of an unknown type, with a reversed range, or for OPAQUE ports (T09). Leaving one
    /// out can only narrow what is protected; a payload with none left is answered with TS_UNACCEPTABLE.
    pub skipped: usize,
}

/// Octets in front of a selector's addresses.
const SELECTOR_FIXED: usize = 8;

impl Ts {
    /// A payload of our own.
    #[must_use]
    pub const fn new(selectors: Vec<TrafficSelector>) -> Self {
        Self { selectors, skipped: 0 }
    }

    pub(super) fn parse(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let here = body.clone();
        let counted = usize::from(body.u8()?);
        let _reserved = body.take(3)?;
        let mut out = Self::default();
        let mut found = 0;
        while !body.is_empty() {
            found += 1;
            match selector(body)? {
                Some(selector) if found <= counted => out.selectors.push(selector),
                _ => out.skipped += 1,
            }
        }
        if found != counted {
            return Err(here.fault(Fault::Count { what: "traffic selectors", counted, found }));
        }
        Ok(out)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&[octet(self.selectors.len(), "traffic selectors")?, 0, 0, 0]);
        for selector in &self.selectors {
            let (kind, length): (_, u16) = match selector.addresses.low {
                IpAddr::V4(_) => (TsType::IPV4_ADDR_RANGE, 16),
                IpAddr::V6(_) => (TsType::IPV6_ADDR_RANGE, 40),
            };
            out.extend_from_slice(&[kind.0, selector.protocol]);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&selector.port_low.to_be_bytes());
            out.extend_from_slice(&selector.port_high.to_be_bytes());
            match (selector.addresses.low, selector.addresses.high) {
                (IpAddr::V4(low), IpAddr::V4(high)) => {
                    out.extend_from_slice(&low.octets());
                    out.extend_from_slice(&high.octets());
                }
                (IpAddr::V6(low), IpAddr::V6(high)) => {
                    out.extend_from_slice(&low.octets());
                    out.extend_from_slice(&high.octets());
                }
                _ => return Err(EncodeError { what: "address range of two families", length: 1 }),
            }
        }
        Ok(())
    }
}

/// One selector; `None` when it is well formed but nothing that we can use.
fn selector(body: &mut Reader<'_>) -> Result<Option<TrafficSelector>, WireError> {
    let here = body.clone();
    let kind = TsType(body.u8()?);
    let protocol = body.u8()?;
    let length = usize::from(body.u16()?);
    if length < SELECTOR_FIXED {
        return Err(here.fault(Fault::Length(length)));
    }
    let mut part = body.sub(length - 4)?;
    let (port_low, port_high) = (part.u16()?, part.u16()?);
    let (low, high): (IpAddr, IpAddr) = match kind {
        TsType::IPV4_ADDR_RANGE => {
            (Ipv4Addr::from(part.array::<4>()?).into(), Ipv4Addr::from(part.array::<4>()?).into())
        }
        TsType::IPV6_ADDR_RANGE => {
            (Ipv6Addr::from(part.array::<16>()?).into(), Ipv6Addr::from(part.array::<16>()?).into())
        }
        _ => return Ok(None),
    };
    part.finish()?;
    // Section 3.13.1: ports 65535 to 0 mean OPAQUE, which our selectors cannot say.
    if low > high || port_low > port_high {
        return Ok(None);
    }
    Ok(Some(TrafficSelector { addresses: AddressRange { low, high }, protocol, port_low, port_high }))
}
