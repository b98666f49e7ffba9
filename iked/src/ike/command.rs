//! What the shell asks of the engine.

use super::types::{IkeTunnelId, TrafficSelector, TunnelId};
use std::net::IpAddr;

/// A command. Its outcome comes as events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Negotiate a child SA, with an IKE SA before it where none fits.
    Initiate(Box<Initiate>),
    /// Rekey a dynamic tunnel's SA now.
    RekeyChild(TunnelId),
    /// Delete a dynamic tunnel: all its SAs, with a Delete to the peer.
    DeleteChild(TunnelId),
    /// Make a new IKE SA with authentication and move the children to it (`ipsec -k refresh`).
    RefreshIke(IkeTunnelId),
    /// Delete an IKE SA and all its children, with a Delete to the peer.
    DeleteIke(IkeTunnelId),
    /// As [`Command::DeleteIke`] for all; [`super::Engine::is_idle`] says when it is done.
    Shutdown,
    /// The stack has seen `spi_in` carry inbound traffic `idle` ago (proof of liveness, RFC 7296 section 2.4).
    InboundTraffic {
        /// Inbound SPI.
        spi_in: u32,
        /// Age of the last packet.
        idle: std::time::Duration,
    },
    /// The stack reached the soft limit of a child SA: rekey it.
    SoftLimit {
        /// Inbound SPI.
        spi_in: u32,
    },
    /// The stack reached the hard limit, or lost the SA (restart): delete it towards the peer as well.
    ChildLost {
        /// Inbound SPI.
        spi_in: u32,
    },
}

/// What to negotiate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initiate {
    /// Name of the [`super::rules::ChildRule`].
    pub rule: String,
    /// Own security endpoint.
    pub local_endpoint: IpAddr,
    /// The peer's security endpoint.
    pub remote_endpoint: IpAddr,
    /// Selectors of this side.
    pub local: Vec<TrafficSelector>,
    /// Selectors of the peer's side.
    pub remote: Vec<TrafficSelector>,
    /// LocalDynVpnRule, if one asked.
    pub local_dyn_vpn_rule: Option<String>,
    /// Why.
    pub method: ActivationMethod,
    /// The stack's acquire, to be answered with [`super::event::Event::AcquireFailed`] on failure.
    pub acquire: Option<u64>,
}

/// Why a tunnel exists (nmi.md section 8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum ActivationMethod {
    /// `ipsec -y activate` (1).
    Command,
    /// The peer (2).
    Remote,
    /// An outbound packet (3).
    OnDemand,
    /// Takeover of a DVIPA (5).
    Takeover,
    /// AutoActivate (6).
    Auto,
}
