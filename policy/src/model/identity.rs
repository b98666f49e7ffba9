//! Identities, security endpoints and shared keys.

use super::{AddressRange, AddressSet, Name};
use std::fmt;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// An identity that this side proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// IpAddr.
    Address(IpAddr),
    /// Fqdn.
    Fqdn(String),
    /// UserAtFqdn.
    UserAtFqdn(String),
    /// KeyID.
    KeyId(Vec<u8>),
    /// X500dn, as DER.
    Dn(Vec<u8>),
}

/// Identities of a peer that a rule accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityPattern {
    /// Exactly this one.
    Exact(Identity),
    /// Any address of the range.
    Addresses(AddressRange),
    /// `*.example.net`: any name with this suffix, its dot included.
    FqdnSuffix(String),
    /// `*@example.net`: any user with this suffix, its `@` included.
    UserSuffix(String),
}

/// LocalSecurityEndpoint of a key exchange rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalEndpoint {
    /// Name.
    pub name: Name,
    /// Identity.
    pub identity: Identity,
    /// Own addresses for which it holds.
    pub location: AddressSet,
}

/// RemoteSecurityEndpoint of a key exchange rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteEndpoint {
    /// Name.
    pub name: Name,
    /// Identities.
    pub identity: IdentityPattern,
    /// Addresses of the peer.
    pub location: AddressSet,
    /// Labels of the certificate authorities that are accepted (CaLabel); none: all that are trusted.
    pub ca_labels: Vec<String>,
}

/// Secret bytes: wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over; `None` if there is none.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        (!bytes.is_empty()).then_some(Self(bytes))
    }
    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}
