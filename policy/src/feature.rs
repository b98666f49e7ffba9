//! What a policy may ask for and not every stack can do.
//!
//! The language knows all of it; whoever loads a policy says what its stacks support, and the rest is refused where
//! it stands in the text.

use std::fmt;

/// Something that a stack may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// IpManVpnAction.
    ManualTunnels,
    /// IpTimeCondition.
    TimeConditions,
    /// RemoteIdentity of a filter rule, FilterByIdentity.
    FilterByIdentity,
    /// HowToAuth AH (RFC 4302).
    Ah,
    /// ESP without encryption (RFC 2410).
    NoEncryption,
    /// HMAC-SHA1 (RFC 2404).
    HmacSha1,
    /// AES-XCBC (RFC 3566, RFC 4434).
    AesXcbc,
    /// AES-GMAC (RFC 4543).
    AesGmac,
    /// What AllowWeak allows: DES, 3DES, MD5, short groups.
    WeakAlgorithms,
    /// Authentication by signatures: certificates, distinguished names, revocation.
    Signatures,
    /// Protocol Opaque: IPv6 fragments that do not say their protocol.
    Opaque,
    /// FIPS140: algorithms of a validated module only.
    Fips,
}

impl Feature {
    /// All of them: what the language has.
    pub const ALL: &'static [Self] = &[
        Self::ManualTunnels,
        Self::TimeConditions,
        Self::FilterByIdentity,
        Self::Ah,
        Self::NoEncryption,
        Self::HmacSha1,
        Self::AesXcbc,
        Self::AesGmac,
        Self::WeakAlgorithms,
        Self::Signatures,
        Self::Opaque,
        Self::Fips,
    ];
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ManualTunnels => "manual tunnels",
            Self::TimeConditions => "time conditions",
            Self::FilterByIdentity => "filters by identity",
            Self::Ah => "AH",
            Self::NoEncryption => "ESP without encryption",
            Self::HmacSha1 => "HMAC-SHA1",
            Self::AesXcbc => "AES-XCBC",
            Self::AesGmac => "AES-GMAC",
            Self::WeakAlgorithms => "weak algorithms",
            Self::Signatures => "signatures and certificates",
            Self::Opaque => "filters of opaque fragments",
            Self::Fips => "validated cryptographic module",
        })
    }
}
