//! What the shell asks of the engine.

use super::snapshot::IkeSnapshot;
use super::types::{Continued, Identity, IkeTunnelId, StoreTicket, TrafficSelector, TunnelId};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A command. Its outcome comes as events.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Negotiate a child SA, with an IKE SA before it where none fits.
    Initiate(Box<Initiate>),
    /// Negotiate many children after a takeover, in this order, a few peers at a time and one IKE SA for each peer. Each
    /// ends with one [`super::event::Event::Renegotiated`].
    Renegotiate(Vec<Renegotiate>),
    /// Go on with an IKE tunnel of another process. Ends with [`super::event::Event::Restored`] or
    /// [`super::event::Event::RestoreRefused`].
    Restore(Box<Restore>),
    /// The state with this ticket is stored (or removed, where [`super::Engine::export`] gave none): what was held back for
    /// it and for earlier ones of the tunnel may be sent.
    Stored(StoreTicket),
    /// Forget an IKE tunnel and all its children without a word to the peer: another process goes on with it.
    Forget(IkeTunnelId),
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
    /// The peer's identity, if it is known already: its KeyExchangeRule is the first that accepts it.
    pub remote_id: Option<Identity>,
    /// It is known to be behind a NAT, which has given it this port for its port 4500: what comes from our port 4500 passes there
    /// as long as the NAT remembers that, so IKE uses these ports from its first message on (RFC 7296 section 2.23).
    pub nat_port: Option<u16>,
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
    /// The shell knows of no other IKE SA of the sysplex between the two identities: an IKE SA that is made for this may
    /// say so (INITIAL_CONTACT, RFC 7296 section 2.4). The engine looks at its own SAs itself.
    pub initial_contact: bool,
}

/// A child to negotiate again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renegotiate {
    /// The shell's name for it.
    pub item: u64,
    /// What.
    pub initiate: Initiate,
}

/// An IKE tunnel to go on with.
#[derive(Debug, Clone, PartialEq)]
pub struct Restore {
    /// Its state.
    pub snapshot: IkeSnapshot,
    /// Now, in seconds since 1970 UTC, by this side's clock.
    pub unix: u64,
    /// What is known of the old owner's numbers.
    pub succession: Succession,
}

/// How an owner of SAs followed another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Succession {
    /// The old one failed. Its SAs send from `next_sequence` on and accept nothing; each child is rekeyed at once.
    Failed {
        /// Above every number that the old owner could have used.
        next_sequence: u64,
    },
    /// The old one has stopped, and told where its SAs stand, by inbound SPI. One that is missing goes on as after a failure.
    Handed {
        /// Above every number that the old owner could have used.
        next_sequence: u64,
        /// Where each child stands.
        children: BTreeMap<u32, Continued>,
    },
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
