//! Identities, selectors and algorithms as commands, events and rules name them.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Number of an IKE tunnel, shown as `K3`; unique per engine, kept over rekeys of the same tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IkeTunnelId(pub u32);

/// Number of a dynamic tunnel, shown as `Y7`; unique per engine, kept over rekeys of the same tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TunnelId(pub u32);

/// Names a state of an IKE tunnel that has to be stored before its messages may be sent
/// ([`super::event::Event::Changed`], [`super::command::Command::Stored`]). Grows with each state of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreTicket {
    pub(crate) tunnel: IkeTunnelId,
    pub(crate) number: u64,
}

impl StoreTicket {
    /// The tunnel.
    #[must_use]
    pub const fn tunnel(&self) -> IkeTunnelId {
        self.tunnel
    }
}

/// Where the numbers of a child SA stand that is taken over from another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continued {
    /// The first sequence number that this side may send.
    pub next_sequence: u64,
    /// What the old owner accepted. `None`: nobody knows, so nothing is accepted on this SA any more.
    pub replay: Option<ReplayState>,
    /// Octets that the SA has carried already, of the direction that carried more.
    pub bytes: u64,
}

/// An anti-replay window, as a stack says it and takes it. The engine only hands it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayState {
    /// The highest sequence number that was accepted.
    pub highest: u64,
    /// Bit `n` of the whole says whether `highest - n` was accepted; word 0 holds the newest 64.
    pub seen: Vec<u64>,
}

/// Inclusive range of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AddressRange {
    /// Low end.
    pub low: IpAddr,
    /// High end: same family, at least `low`.
    pub high: IpAddr,
}

/// A traffic selector (RFC 7296 section 3.13.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TrafficSelector {
    /// Addresses.
    pub addresses: AddressRange,
    /// IP protocol, 0 = any.
    pub protocol: u8,
    /// Low port; ICMP: type and code (RFC 7296 section 3.13.1).
    pub port_low: u16,
    /// High port.
    pub port_high: u16,
}

/// An identity that one side proves (RFC 7296 section 3.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Identity {
    /// ID_IPV4_ADDR or ID_IPV6_ADDR.
    Address(IpAddr),
    /// ID_FQDN.
    Fqdn(String),
    /// ID_RFC822_ADDR.
    UserFqdn(String),
    /// ID_DER_ASN1_DN, the DER bytes.
    Dn(Vec<u8>),
    /// ID_KEY_ID.
    KeyId(Vec<u8>),
}

/// Which identities of a peer a rule accepts (spec/policy.md section 6.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityPattern {
    /// Exactly this one.
    Exact(Identity),
    /// Any address of the range.
    Addresses(AddressRange),
    /// `*.example.net`: any FQDN with this suffix (`.example.net`).
    FqdnSuffix(String),
    /// `*@example.net`: any user FQDN with this suffix (`@example.net`).
    UserFqdnSuffix(String),
}

/// Encryption algorithms (IANA IKEv2 transform type 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Encryption {
    /// ENCR_AES_CBC with this key length in bits.
    AesCbc(u16),
    /// AES-GCM with a 16-octet ICV with this key length in bits.
    AesGcm16(u16),
    /// ENCR_AES_CTR with this key length in bits; child SAs only.
    AesCtr(u16),
    /// ENCR_CHACHA20_POLY1305; child SAs only.
    ChaCha20Poly1305,
    /// ENCR_NULL: integrity alone; child SAs only.
    Null,
    /// ENCR_NULL_AUTH_AES_GMAC with this key length in bits: integrity alone; child SAs only.
    AesGmac(u16),
    /// ENCR_3DES; weak.
    TripleDes,
    /// ENCR_DES; weak.
    Des,
    /// No transform at all: the SA is one of AH (RFC 7296 section 3.3.3); child SAs only.
    Absent,
}

/// Integrity algorithms (transform type 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Integrity {
    /// AUTH_HMAC_SHA2_256_128 (12).
    HmacSha256,
    /// AUTH_HMAC_SHA2_384_192 (13).
    HmacSha384,
    /// AUTH_HMAC_SHA2_512_256 (14).
    HmacSha512,
    /// AUTH_HMAC_SHA1_96 (2).
    HmacSha1,
    /// AUTH_AES_XCBC_96 (5).
    AesXcbc96,
    /// AUTH_HMAC_MD5_96 (1); weak.
    HmacMd5,
    /// AUTH_AES_128_GMAC (9) to AUTH_AES_256_GMAC (11) with this key length in bits; AH only (RFC 4543 section 4).
    AesGmac(u16),
}

/// Pseudo-random functions (transform type 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Prf {
    /// PRF_HMAC_SHA2_256 (5).
    HmacSha256,
    /// PRF_HMAC_SHA2_384 (6).
    HmacSha384,
    /// PRF_HMAC_SHA2_512 (7).
    HmacSha512,
    /// PRF_HMAC_SHA1 (2).
    HmacSha1,
    /// PRF_HMAC_MD5 (1); weak.
    HmacMd5,
    /// PRF_AES128_XCBC (4).
    AesXcbc,
}

/// Key exchange methods (transform type 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Group {
    /// 2048-bit MODP (14).
    Modp2048,
    /// 256-bit random ECP (19).
    Ecp256,
    /// 384-bit random ECP (20).
    Ecp384,
    /// 521-bit random ECP (21).
    Ecp521,
    /// Curve25519 (31).
    Curve25519,
    /// 768-bit MODP (1); weak.
    Modp768,
    /// 1024-bit MODP (2); weak.
    Modp1024,
    /// 1536-bit MODP (5); weak.
    Modp1536,
    /// 2048-bit MODP with a subgroup of 256-bit prime order (24); weak.
    Modp2048Subgroup256,
}

impl Group {
    /// The group with this IANA number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Modp768),
            2 => Some(Self::Modp1024),
            5 => Some(Self::Modp1536),
            14 => Some(Self::Modp2048),
            19 => Some(Self::Ecp256),
            20 => Some(Self::Ecp384),
            21 => Some(Self::Ecp521),
            24 => Some(Self::Modp2048Subgroup256),
            31 => Some(Self::Curve25519),
            _ => None,
        }
    }

    /// IANA number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Modp768 => 1,
            Self::Modp1024 => 2,
            Self::Modp1536 => 5,
            Self::Modp2048 => 14,
            Self::Ecp256 => 19,
            Self::Ecp384 => 20,
            Self::Ecp521 => 21,
            Self::Modp2048Subgroup256 => 24,
            Self::Curve25519 => 31,
        }
    }
}

/// Encapsulation mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Tunnel mode.
    Tunnel,
    /// Transport mode.
    Transport,
}

/// Secret bytes: wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}
