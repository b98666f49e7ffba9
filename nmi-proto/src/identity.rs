//! Identity sections: content of variable length whose type stands in the structure before it (section 6.10).

use crate::code::IdType;
use crate::error::DecodeError;
use crate::text::CodePage;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An identity that a side proves, or a client identity of a dynamic tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// ID_IPV4_ADDR or ID_IPV6_ADDR.
    Address(IpAddr),
    /// ID_FQDN.
    Fqdn(String),
    /// ID_USER_FQDN.
    UserFqdn(String),
    /// ID_DER_ASN1_DN as an RFC 4514 string.
    Dn(String),
    /// ID_KEY_ID: bytes that are never translated.
    KeyId(Vec<u8>),
    /// ID_IPV4_ADDR_SUBNET or ID_IPV6_ADDR_SUBNET: address and mask.
    Subnet(IpAddr, IpAddr),
    /// ID_IPV4_ADDR_RANGE or ID_IPV6_ADDR_RANGE: low and high end.
    Range(IpAddr, IpAddr),
    /// A type that this version does not know.
    Other(IdType, Vec<u8>),
}

impl Identity {
    /// Its type.
    #[must_use]
    pub const fn id_type(&self) -> IdType {
        match self {
            Self::Address(IpAddr::V4(_)) => IdType::IPV4_ADDR,
            Self::Address(IpAddr::V6(_)) => IdType::IPV6_ADDR,
            Self::Fqdn(_) => IdType::FQDN,
            Self::UserFqdn(_) => IdType::USER_FQDN,
            Self::Dn(_) => IdType::DER_ASN1_DN,
            Self::KeyId(_) => IdType::KEY_ID,
            Self::Subnet(IpAddr::V4(_), _) => IdType::IPV4_SUBNET,
            Self::Subnet(IpAddr::V6(_), _) => IdType::IPV6_SUBNET,
            Self::Range(IpAddr::V4(_), _) => IdType::IPV4_RANGE,
            Self::Range(IpAddr::V6(_), _) => IdType::IPV6_RANGE,
            Self::Other(t, _) => *t,
        }
    }

    /// The bytes of its section.
    #[must_use]
    pub fn to_bytes(&self, page: CodePage) -> Vec<u8> {
        match self {
            Self::Address(a) => octets(*a),
            Self::Fqdn(s) | Self::UserFqdn(s) | Self::Dn(s) => page.encode_str(s),
            Self::KeyId(b) | Self::Other(_, b) => b.clone(),
            Self::Subnet(a, b) | Self::Range(a, b) => [octets(*a), octets(*b)].concat(),
        }
    }

    /// The identity of type `id_type` in `bytes`; `None` if there is none.
    ///
    /// # Errors
    /// Bytes that do not fit the type.
    pub fn from_bytes(id_type: IdType, bytes: &[u8], page: CodePage) -> Result<Option<Self>, DecodeError> {
        let fault = || DecodeError::Identity { id_type, length: bytes.len() };
        let text = || page.decode_str(bytes).map_err(|_| fault());
        let pair = |v6: bool| match bytes.len() {
            8 if !v6 => Ok((ip4(bytes, 0), ip4(bytes, 4))),
            32 if v6 => Ok((ip6(bytes, 0), ip6(bytes, 16))),
            _ => Err(fault()),
        };
        Ok(Some(match id_type {
            IdType::NONE if bytes.is_empty() => return Ok(None),
            IdType::IPV4_ADDR if bytes.len() == 4 => Self::Address(ip4(bytes, 0)),
            IdType::IPV6_ADDR if bytes.len() == 16 => Self::Address(ip6(bytes, 0)),
            IdType::NONE | IdType::IPV4_ADDR | IdType::IPV6_ADDR => return Err(fault()),
            IdType::FQDN => Self::Fqdn(text()?),
            IdType::USER_FQDN => Self::UserFqdn(text()?),
            IdType::DER_ASN1_DN => Self::Dn(text()?),
            IdType::KEY_ID => Self::KeyId(bytes.to_vec()),
            IdType::IPV4_SUBNET | IdType::IPV6_SUBNET => {
                pair(id_type == IdType::IPV6_SUBNET).map(|(a, b)| Self::Subnet(a, b))?
            }
            IdType::IPV4_RANGE | IdType::IPV6_RANGE => {
                pair(id_type == IdType::IPV6_RANGE).map(|(a, b)| Self::Range(a, b))?
            }
            other => Self::Other(other, bytes.to_vec()),
        }))
    }
}

fn octets(a: IpAddr) -> Vec<u8> {
    match a {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// The caller has checked that the bytes are there.
fn ip4(bytes: &[u8], at: usize) -> IpAddr {
    bytes[at..].first_chunk().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |b: &[u8; 4]| IpAddr::from(*b))
}

fn ip6(bytes: &[u8], at: usize) -> IpAddr {
    bytes[at..].first_chunk().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |b: &[u8; 16]| IpAddr::from(*b))
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(a) => a.fmt(f),
            Self::Fqdn(s) | Self::UserFqdn(s) | Self::Dn(s) => f.write_str(s),
            Self::Subnet(a, m) => write!(f, "{a}/{m}"),
            Self::Range(a, b) => write!(f, "{a}-{b}"),
            Self::KeyId(b) | Self::Other(_, b) => {
                f.write_str("0x")?;
                b.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}
