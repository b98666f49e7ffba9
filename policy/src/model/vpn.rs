//! IpDynVpnAction and IpDataOffer: what a dynamic tunnel is made of.

use super::{Encryption, Group, Integrity, Name, NonEmpty};
use std::time::Duration;

/// IpDynVpnAction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynVpnAction {
    /// Name.
    pub name: Name,
    /// Who may start.
    pub initiation: Initiation,
    /// How long the tunnel is kept alive by refreshes; `None`: without limit.
    pub vpn_life: Option<Duration>,
    /// Group for a fresh key exchange as initiator (InitiateWithPfs).
    pub pfs_initiate: Option<Group>,
    /// Groups accepted as responder (AcceptablePfs); `None` stands for no fresh key exchange.
    pub pfs_accept: NonEmpty<Option<Group>>,
    /// Encapsulations that are accepted, the preferred one first (HowToEncapIKEv2).
    pub encap: NonEmpty<Encap>,
    /// DF bit of the outer header (PassthroughDF).
    pub df: DfBit,
    /// Copy the DSCP to the outer header (PassthroughDSCP).
    pub copy_dscp: bool,
    /// Offers, the preferred one first.
    pub offers: NonEmpty<DataOffer>,
}

/// Who may start a negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initiation {
    /// Both.
    Either,
    /// This side only.
    LocalOnly,
    /// The peer only.
    RemoteOnly,
    /// Nobody.
    None,
}

/// Encapsulation mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encap {
    /// Tunnel mode.
    Tunnel,
    /// Transport mode.
    Transport,
}

/// DF bit of the outer header in tunnel mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DfBit {
    /// As in the inner header.
    Copy,
    /// 0.
    Clear,
    /// 1.
    Set,
}

/// What protects the packets of an SA pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// ESP.
    Esp {
        /// Encryption.
        encryption: Encryption,
        /// Integrity: `None` if, and only if, the encryption is an AEAD.
        integrity: Option<Integrity>,
    },
    /// AH.
    Ah {
        /// Integrity.
        integrity: Integrity,
    },
    /// ESP that encrypts within AH that authenticates.
    AhEsp {
        /// Integrity of AH.
        integrity: Integrity,
        /// Encryption of ESP.
        encryption: Encryption,
    },
}

impl Protection {
    /// Encryption, if there is ESP.
    #[must_use]
    pub const fn encryption(&self) -> Option<Encryption> {
        match *self {
            Self::Esp { encryption, .. } | Self::AhEsp { encryption, .. } => Some(encryption),
            Self::Ah { .. } => None,
        }
    }
    /// Integrity apart from that of an AEAD.
    #[must_use]
    pub const fn integrity(&self) -> Option<Integrity> {
        match *self {
            Self::Esp { integrity, .. } => integrity,
            Self::Ah { integrity } | Self::AhEsp { integrity, .. } => Some(integrity),
        }
    }
    /// Whether an algorithm of it is broken by a nonce that is used twice.
    #[must_use]
    pub const fn needs_nonces(&self) -> bool {
        matches!(
            self.encryption(),
            Some(Encryption::AesGcm16(_) | Encryption::AesCtr(_) | Encryption::ChaCha20Poly1305)
        ) || matches!(self.integrity(), Some(Integrity::AesGmac(_)))
    }
}

/// IpDataOffer: one combination for a child SA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataOffer {
    /// Name.
    pub name: Name,
    /// Encapsulation; decides the preference where the action says Either.
    pub encap: Encap,
    /// ESP, AH or both, and their algorithms.
    pub protection: Protection,
    /// Lifetime.
    pub lifetime: Duration,
    /// Lifesize in bytes.
    pub lifesize_bytes: Option<u64>,
}
