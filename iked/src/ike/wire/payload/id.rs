//! Identification payloads (RFC 7296 section 3.5).

use super::super::error::WireError;
use super::super::iana::IdType;
use super::super::reader::Reader;
use crate::ike::types::Identity;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use thiserror::Error;

/// Longest name or key id that is looked at.
const MAX_NAME: usize = 1024;
/// Longest distinguished name that is looked at.
const MAX_DN: usize = 4096;

/// The payload as it was sent: authentication covers these very octets (section 2.15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    /// Type.
    pub kind: IdType,
    /// Reserved octets, ignored but authenticated.
    pub reserved: [u8; 3],
    /// Identification data.
    pub data: Vec<u8>,
}

/// Why identification data is no identity that could match a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IdFault {
    /// A type that we do not use.
    #[error("{0} is not supported")]
    Kind(IdType),
    /// Wrong length for the type.
    #[error("{kind} of {length} octets")]
    Length {
        /// Type.
        kind: IdType,
        /// Length.
        length: usize,
    },
    /// Not a name: control characters, spaces, NUL, or not the character set that the type has.
    #[error("{0} is not a well-formed name")]
    Text(IdType),
    /// Not a DER distinguished name.
    #[error("ID_DER_ASN1_DN is not a DER name")]
    Dn,
}

impl Id {
    /// The payload that states `identity`.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        let (kind, data) = match identity {
            Identity::Address(IpAddr::V4(address)) => (IdType::IPV4_ADDR, address.octets().to_vec()),
            Identity::Address(IpAddr::V6(address)) => (IdType::IPV6_ADDR, address.octets().to_vec()),
            Identity::Fqdn(name) => (IdType::FQDN, name.clone().into_bytes()),
            Identity::UserFqdn(name) => (IdType::RFC822_ADDR, name.clone().into_bytes()),
            Identity::Dn(der) => (IdType::DER_ASN1_DN, der.clone()),
            Identity::KeyId(octets) => (IdType::KEY_ID, octets.clone()),
        };
        Self { kind, reserved: [0; 3], data }
    }

    /// The body of the payload, which the AUTH payload covers (`RestOfInitIDPayload`, section 2.15).
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.data.len());
        self.encode(&mut out);
        out
    }

    /// The identity it states.
    ///
    /// # Errors
    /// It states none that could match a peer (T10).
    pub fn identity(&self) -> Result<Identity, IdFault> {
        let length = IdFault::Length { kind: self.kind, length: self.data.len() };
        let limit = if self.kind == IdType::DER_ASN1_DN { MAX_DN } else { MAX_NAME };
        if self.data.is_empty() || self.data.len() > limit {
            return Err(length);
        }
        match self.kind {
            IdType::IPV4_ADDR => {
                let octets: [u8; 4] = self.data.as_slice().try_into().map_err(|_| length)?;
                Ok(Identity::Address(Ipv4Addr::from(octets).into()))
            }
            IdType::IPV6_ADDR => {
                let octets: [u8; 16] = self.data.as_slice().try_into().map_err(|_| length)?;
                Ok(Identity::Address(Ipv6Addr::from(octets).into()))
            }
            // Section 3.5: "All characters in the ID_FQDN are ASCII", without terminators.
            IdType::FQDN => match std::str::from_utf8(&self.data) {
                Ok(name) if name.bytes().all(|octet| octet.is_ascii_graphic()) => {
                    Ok(Identity::Fqdn(name.to_owned()))
                }
                _ => Err(IdFault::Text(self.kind)),
            },
            IdType::RFC822_ADDR => match std::str::from_utf8(&self.data) {
                Ok(name)
                    if name.contains('@') && !name.chars().any(|c| c.is_control() || c.is_whitespace()) =>
                {
                    Ok(Identity::UserFqdn(name.to_owned()))
                }
                _ => Err(IdFault::Text(self.kind)),
            },
            IdType::DER_ASN1_DN if is_der_name(&self.data) => Ok(Identity::Dn(self.data.clone())),
            IdType::DER_ASN1_DN => Err(IdFault::Dn),
            IdType::KEY_ID => Ok(Identity::KeyId(self.data.clone())),
            other => Err(IdFault::Kind(other)),
        }
    }

    pub(super) fn parse(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let kind = IdType(body.u8()?);
        let reserved = body.array()?;
        Ok(Self { kind, reserved, data: body.rest().to_vec() })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind.0);
        out.extend_from_slice(&self.reserved);
        out.extend_from_slice(&self.data);
    }
}

const DER_OID: u8 = 0x06;
const DER_SEQUENCE: u8 = 0x30;
const DER_SET: u8 = 0x31;

/// `RDNSequence ::= SEQUENCE OF SET OF SEQUENCE { OBJECT IDENTIFIER, ANY }` (RFC 5280 section 4.1.2.4), nothing behind it.
fn is_der_name(der: &[u8]) -> bool {
    let Some((DER_SEQUENCE, mut names, [])) = der_value(der) else { return false };
    while !names.is_empty() {
        let Some((DER_SET, mut attributes, rest)) = der_value(names) else { return false };
        if attributes.is_empty() {
            return false;
        }
        while !attributes.is_empty() {
            let Some((DER_SEQUENCE, pair, next)) = der_value(attributes) else { return false };
            let Some((DER_OID, oid, value)) = der_value(pair) else { return false };
            if oid.is_empty() || !matches!(der_value(value), Some((_, _, []))) {
                return false;
            }
            attributes = next;
        }
        names = rest;
    }
    true
}

/// Tag, content and what follows of the first DER value; lengths in their shortest form.
fn der_value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            (Some(usize::from(length)).filter(|length| *length >= 0x80)?, rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (Some(usize::from(u16::from_be_bytes(*length))).filter(|length| *length >= 0x100)?, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(kind: IdType, data: &[u8]) -> Id {
        Id { kind, reserved: [0; 3], data: data.to_vec() }
    }

    #[test]
    fn identities_round_trip() {
        // CN=peer.example
        let dn = hex::decode("3017311530130603550403 0c0c706565722e6578616d706c65".replace(' ', "")).unwrap();
        for identity in [
            Identity::Address("192.0.2.1".parse().unwrap()),
            Identity::Address("2001:db8::1".parse().unwrap()),
            Identity::Fqdn("peer.example".to_owned()),
            Identity::UserFqdn("user@peer.example".to_owned()),
            Identity::Dn(dn),
            Identity::KeyId(vec![0, 1, 2]),
        ] {
            assert_eq!(Id::new(&identity).identity(), Ok(identity));
        }
    }

    #[test]
    fn t10_what_names_nobody() {
        for kind in (0..=12).map(IdType) {
            assert!(id(kind, &[]).identity().is_err(), "{kind}");
            assert!(id(kind, &vec![b'a'; 65_000]).identity().is_err(), "{kind}");
        }
        assert_eq!(
            id(IdType::IPV4_ADDR, &[1, 2, 3]).identity(),
            Err(IdFault::Length { kind: IdType::IPV4_ADDR, length: 3 })
        );
        assert!(id(IdType::IPV6_ADDR, &[1, 2, 3, 4]).identity().is_err());
        for text in
            [&b"peer\0.example"[..], b"peer.example\n", b"peer example", b"p\xffer", "p\u{e9}er".as_bytes()]
        {
            assert_eq!(id(IdType::FQDN, text).identity(), Err(IdFault::Text(IdType::FQDN)));
        }
        for text in [&b"nobody"[..], b"a@b\0", b"a@\x1b[31m", b"\xff@b"] {
            assert_eq!(id(IdType::RFC822_ADDR, text).identity(), Err(IdFault::Text(IdType::RFC822_ADDR)));
        }
        for der in [
            "30",
            "3001",
            "300100",
            "30820000",
            "3080",
            "3002310 0",
            "30043102300 0",
            "3000ff",
            "30063104300206 00",
        ] {
            let der = hex::decode(der.replace(' ', "")).unwrap();
            assert_eq!(id(IdType::DER_ASN1_DN, &der).identity(), Err(IdFault::Dn), "{der:02x?}");
        }
    }
}
