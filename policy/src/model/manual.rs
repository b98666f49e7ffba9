//! IpManVpnAction: a tunnel whose keys stand in the policy.

use super::{AddressSet, DfBit, Encap, Name, Protection, Secret, TimeCondition};
use std::sync::Arc;

/// IpManVpnAction. It has no lifetime, no refresh and no replay check; it is neither distributed nor taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManVpnAction {
    /// Name.
    pub name: Name,
    /// Encapsulation.
    pub encap: Encap,
    /// ESP, AH or both, and their algorithms.
    pub protection: Protection,
    /// LocalSecurityEndpointAddr: one address or a whole family.
    pub local: AddressSet,
    /// RemoteSecurityEndpointAddr: one address or a whole family.
    pub remote: AddressSet,
    /// SA of packets into this host.
    pub inbound: ManualSa,
    /// SA of packets out of it.
    pub outbound: ManualSa,
    /// Active: its packets pass; otherwise they are dropped until `ipsec -m activate`.
    pub active: bool,
    /// DF bit of the outer header (PassthroughDF).
    pub df: DfBit,
    /// Copy the DSCP to the outer header (PassthroughDSCP).
    pub copy_dscp: bool,
    /// When it is installed, one of them has to hold; none: always.
    pub times: Vec<Arc<TimeCondition>>,
}

/// One direction of a manual tunnel; what is there follows from [`Protection`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualSa {
    /// SPI of ESP.
    pub esp_spi: Option<u32>,
    /// SPI of AH.
    pub ah_spi: Option<u32>,
    /// Key of the encryption.
    pub encryption_key: Option<Secret>,
    /// Key of the authentication, of ESP or of AH.
    pub integrity_key: Option<Secret>,
}
