//! Pairs of security associations: keys, algorithms, selectors, and where those of an earlier owner go on.

use super::{AddressRange, PortRange};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Numbers of manual tunnels ([`SaPair::tunnel`]) are this and the number that is shown: `M1` is this and 1. Those of dynamic
/// tunnels are below.
pub const MANUAL_TUNNELS: u32 = 1 << 31;

/// A pair of SAs, with all that ESP, AH and the filters need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaPair {
    /// Number of the dynamic tunnel (`Y7` is 7), or of the manual one above [`MANUAL_TUNNELS`].
    pub tunnel: u32,
    /// SA number within the tunnel, from 1.
    pub generation: u32,
    /// Number of the IKE tunnel (`K3` is 3); 0 of a manual one.
    pub ike_tunnel: u32,
    /// SPI of packets to us.
    pub spi_in: u32,
    /// SPI of packets to the peer.
    pub spi_out: u32,
    /// Own security endpoint. Unspecified, in a manual pair only: that of each packet. The families that both ends have
    /// if both are unspecified are those of the two: `0.0.0.0` and `::` is either.
    pub local: IpAddr,
    /// The peer's security endpoint, in the same way.
    pub remote: IpAddr,
    /// ESP in UDP (RFC 3948): own and the peer's port.
    pub udp: Option<(u16, u16)>,
    /// Tunnel or transport.
    pub mode: Mode,
    /// Algorithms.
    pub suite: EspSuite,
    /// Keying material inbound, in the order of RFC 7296 section 2.17 (encryption with salt, then integrity).
    pub key_in: KeyBytes,
    /// Keying material outbound.
    pub key_out: KeyBytes,
    /// Extended sequence numbers (RFC 4303 section 2.2.1).
    pub esn: bool,
    /// Replay window in packets; 0: numbers are not looked at, and go round (manual keys, RFC 4303 section 3.3.3).
    pub replay_window: u32,
    /// Traffic selectors of this side.
    pub local_selectors: Vec<Selector>,
    /// Traffic selectors of the peer's side.
    pub remote_selectors: Vec<Selector>,
    /// Name of the IpFilterRule whose anchors (both directions) this pair serves; of a manual tunnel see
    /// [`super::manual_anchor`].
    pub rule: String,
    /// False for the responder of a rekey: outbound stays on the old pair until the first packet arrives on this
    /// one, or [`ToStack::ActivateOutbound`] says so (RFC 7296 section 2.8).
    pub outbound_active: bool,
    /// DF bit of the outer header.
    pub df: DfMode,
    /// Copy the DSCP to the outer header.
    pub copy_dscp: bool,
    /// Bytes in both directions after which IKE is told to rekey; `None`: no limit.
    pub soft_bytes: Option<u64>,
    /// Bytes after which nothing passes any more.
    pub hard_bytes: Option<u64>,
    /// DVIPA whose [`ToStack::Ceiling`] bounds the outbound sequence numbers; `None`: no ceiling.
    pub ceiling_of: Option<IpAddr>,
    /// The pair was in use at an earlier owner of its DVIPA; `None`: it is fresh.
    pub continued: Option<Continued>,
}

/// Where an SA pair of an earlier owner goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continued {
    /// First sequence number to send: above every one that was ever sent.
    pub next_sequence: u64,
    /// Replay window of the earlier owner; `None`: nobody knows it, and nothing is accepted.
    pub replay: Option<ReplaySnapshot>,
}

/// A flow of a client behind a NAT whose port is translated (RFC 3948 section 5.2). Known by where its NAT sends from, which
/// stays when the client negotiates again with another owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortTranslation {
    /// Address and port of the client's NAT.
    pub endpoint: SocketAddr,
    /// 6 or 17.
    pub protocol: u8,
    /// Own address and port.
    pub local: SocketAddr,
    /// Public address of the client.
    pub remote: IpAddr,
    /// The client's own port.
    pub original: u16,
    /// Its port as this side sees it.
    pub translated: u16,
}

/// A replay window (RFC 4303 section 3.4.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaySnapshot {
    /// Highest sequence number accepted.
    pub highest: u64,
    /// Bit `n` of the whole says whether `highest - n` was seen; word 0 holds the newest 64.
    pub seen: Vec<u64>,
}

/// Encapsulation mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Tunnel mode.
    Tunnel,
    /// Transport mode.
    Transport,
}

/// DF bit of the outer header (PassthroughDF).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DfMode {
    /// As in the inner header.
    Copy,
    /// 0.
    Clear,
    /// 1.
    Set,
}

/// What protects the packets of a pair: ESP, AH or both, and their algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EspSuite {
    /// AES-GCM with a 16-octet ICV (RFC 4106); key and 4 octets of salt.
    AesGcm16 {
        /// 128 or 256.
        key_bits: u16,
    },
    /// AES-CBC (RFC 3602) with an integrity algorithm.
    AesCbc {
        /// 128, 192 or 256.
        key_bits: u16,
        /// Integrity algorithm.
        integrity: EspIntegrity,
    },
    /// AES in counter mode (RFC 3686) with an integrity algorithm; key and 4 octets of nonce.
    AesCtr {
        /// 128, 192 or 256.
        key_bits: u16,
        /// Integrity algorithm.
        integrity: EspIntegrity,
    },
    /// ChaCha20-Poly1305 (RFC 7634); key and 4 octets of salt.
    ChaCha20Poly1305,
    /// No encryption (RFC 2410), integrity alone.
    Null {
        /// Integrity algorithm.
        integrity: EspIntegrity,
    },
    /// No encryption, AES-GMAC (RFC 4543); key and 4 octets of salt.
    AesGmac {
        /// 128 or 256.
        key_bits: u16,
    },
    /// 3DES-CBC (RFC 2451) with an integrity algorithm; weak.
    TripleDes {
        /// Integrity algorithm.
        integrity: EspIntegrity,
    },
    /// DES-CBC (RFC 2405) with an integrity algorithm; weak.
    Des {
        /// Integrity algorithm.
        integrity: EspIntegrity,
    },
    /// No ESP: AH alone (RFC 4302).
    Ah {
        /// Integrity algorithm.
        integrity: AhIntegrity,
    },
    /// ESP that only encrypts, inside AH that authenticates it: one AH and one ESP SA in each direction. The SPIs of the
    /// pair are those of AH; the keying material is ESP's, then AH's.
    AhEsp {
        /// What ESP encrypts with.
        cipher: BareCipher,
        /// What AH authenticates with.
        integrity: EspIntegrity,
        /// SPI of ESP in packets to us.
        esp_spi_in: u32,
        /// SPI of ESP in packets to the peer.
        esp_spi_out: u32,
    },
}

/// Ciphers of an ESP that leaves authentication to AH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BareCipher {
    /// AES-CBC (RFC 3602).
    AesCbc {
        /// 128, 192 or 256.
        key_bits: u16,
    },
    /// AES in counter mode (RFC 3686); key and 4 octets of nonce.
    AesCtr {
        /// 128, 192 or 256.
        key_bits: u16,
    },
    /// 3DES-CBC (RFC 2451); weak.
    TripleDes,
    /// DES-CBC (RFC 2405); weak.
    Des,
}

/// Integrity of AH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AhIntegrity {
    /// An algorithm that ESP has too.
    Mac(EspIntegrity),
    /// AES-GMAC (RFC 4543); key and 4 octets of salt.
    AesGmac {
        /// 128 or 256.
        key_bits: u16,
    },
}

/// Integrity algorithms of ESP and AH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EspIntegrity {
    /// HMAC-SHA2-256-128 (RFC 4868).
    HmacSha256,
    /// HMAC-SHA2-384-192 (RFC 4868).
    HmacSha384,
    /// HMAC-SHA2-512-256 (RFC 4868).
    HmacSha512,
    /// HMAC-SHA1-96 (RFC 2404).
    HmacSha1,
    /// AES-XCBC-MAC-96 (RFC 3566).
    AesXcbc96,
    /// HMAC-MD5-96 (RFC 2403); weak.
    HmacMd5,
}

/// Keying material; wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
pub struct KeyBytes(pub Vec<u8>);

impl std::fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// A traffic selector (RFC 7296 section 3.13.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// Addresses.
    pub addresses: AddressRange,
    /// IP protocol, `None` = any.
    pub protocol: Option<u8>,
    /// Ports; for ICMP type and code as in RFC 7296 (type in the high octet).
    pub ports: PortRange,
}

/// What happened to an SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaNotice {
    /// The first packet arrived on it.
    FirstInbound,
    /// `soft_bytes` or the soft limit of sequence numbers was reached: rekey.
    SoftLimit,
    /// Nothing passes any more: `hard_bytes` or the end of the sequence numbers.
    HardLimit,
}
