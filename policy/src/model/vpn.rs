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

/// IpDataOffer: one combination for a child SA, always ESP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataOffer {
    /// Name.
    pub name: Name,
    /// Encapsulation; decides the preference where the action says Either.
    pub encap: Encap,
    /// Encryption.
    pub encryption: Encryption,
    /// Integrity: `None` if, and only if, the encryption is an AEAD.
    pub integrity: Option<Integrity>,
    /// Lifetime.
    pub lifetime: Duration,
    /// Lifesize in bytes.
    pub lifesize_bytes: Option<u64>,
}
