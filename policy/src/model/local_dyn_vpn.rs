//! LocalDynVpnRule: tunnels that a command, or the start of the stack, brings up.

use super::{AddressRange, ByteRange, Name, PortRange};

/// A LocalDynVpnRule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalDynVpnRule {
    /// Name.
    pub name: Name,
    /// LocalDynVpnGroup that it stands in.
    pub group: Option<Name>,
    /// Own data endpoint.
    pub local: AddressRange,
    /// The peer's data endpoint, of the same family.
    pub remote: AddressRange,
    /// Traffic.
    pub traffic: LocalTraffic,
    /// AutoActivate: bring it up without a command.
    pub auto_activate: bool,
}

/// Which traffic between the data endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalTraffic {
    /// Every protocol.
    Any,
    /// A protocol with ports.
    Ports {
        /// IP protocol number.
        number: u8,
        /// LocalDataPort.
        local: PortRange,
        /// RemoteDataPort.
        remote: PortRange,
    },
    /// A protocol with types and codes.
    Typed {
        /// IP protocol number.
        number: u8,
        /// Type, `None` = any.
        kind: Option<ByteRange>,
        /// Code, `None` = any.
        code: Option<ByteRange>,
    },
    /// Another protocol.
    Other(u8),
}
