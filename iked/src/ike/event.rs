//! What the engine tells the shell.

use super::failure::Failure;
use super::types::{
    Continued, Encryption, IkeTunnelId, Integrity, Mode, Secret, StoreTicket, TrafficSelector, TunnelId,
};
use std::net::{IpAddr, SocketAddr};

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Own address and port (500 or 4500).
    pub local: SocketAddr,
    /// The peer.
    pub remote: SocketAddr,
    /// What.
    pub payload: Payload,
}

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// An IKE message, without the non-ESP marker.
    Message(Vec<u8>),
    /// A NAT keepalive.
    NatKeepalive,
}

/// Something the shell must act upon. Order matters: carry them out as they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Install this pair of SAs in the stack.
    InstallChild(Box<ChildInstall>),
    /// The responder of a rekey got the Delete of the old SA: send on this one.
    ActivateOutbound {
        /// Inbound SPI.
        spi_in: u32,
    },
    /// Remove this pair from the stack.
    RemoveChild {
        /// Inbound SPI.
        spi_in: u32,
    },
    /// An IKE SA was established, rekeyed or re-authenticated: [`super::Engine::ike_tunnel`] shows it.
    IkeUp(IkeTunnelId),
    /// The last IKE SA of a tunnel is gone.
    IkeDown {
        /// Tunnel.
        id: IkeTunnelId,
        /// Why, for an operator.
        reason: String,
    },
    /// A child SA is usable: [`super::Engine::child`] shows it.
    ChildUp(TunnelId),
    /// The last child SA of a tunnel is gone.
    ChildDown {
        /// Tunnel.
        id: TunnelId,
        /// Why, for an operator.
        reason: String,
    },
    /// A negotiation of ours, or one that a peer started, failed.
    Failed {
        /// The peer.
        peer: IpAddr,
        /// Rule concerned, if known.
        rule: Option<String>,
        /// Why.
        reason: Failure,
        /// The stack's acquire, if one started it.
        acquire: Option<u64>,
    },
    /// An IKE tunnel of an address that is [continued](super::rules::Settings::continued) has changed:
    /// [`super::Engine::export`] it now, store that, and answer with [`super::command::Command::Stored`]. Where it gives
    /// nothing the tunnel has ended: remove what is stored. Of several for one tunnel only the last counts.
    Changed {
        /// Tunnel.
        id: IkeTunnelId,
        /// For the answer.
        ticket: StoreTicket,
    },
    /// [`super::command::Command::Restore`] was carried out; its children's [`Event::InstallChild`] have gone before.
    Restored {
        /// Its number at the old owner.
        was: IkeTunnelId,
        /// Its number here.
        id: IkeTunnelId,
        /// Children that could not be continued and are negotiated anew.
        lost: usize,
    },
    /// [`super::command::Command::Restore`] cannot be carried out: negotiate anew.
    RestoreRefused {
        /// Its number at the old owner.
        was: IkeTunnelId,
        /// Why.
        reason: String,
    },
    /// An item of [`super::command::Command::Renegotiate`] has come to its end.
    Renegotiated {
        /// The shell's name for it.
        item: u64,
        /// How.
        outcome: Outcome,
    },
    /// A peer's mistake or attack, rate-limited, for the log.
    Notice {
        /// The peer.
        peer: SocketAddr,
        /// What, escaped.
        text: String,
    },
}

/// How an item of [`super::command::Command::Renegotiate`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The child is there.
    Made(TunnelId),
    /// Policy does not allow it, or the peer refuses it.
    Failed(String),
    /// The peer has not answered for as long as it was tried.
    GivenUp(String),
}

/// A pair of SAs to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildInstall {
    /// Dynamic tunnel.
    pub tunnel: TunnelId,
    /// SA number within the tunnel, from 1.
    pub generation: u32,
    /// IKE tunnel.
    pub ike: IkeTunnelId,
    /// Inbound SPI.
    pub spi_in: u32,
    /// Outbound SPI.
    pub spi_out: u32,
    /// Own endpoint (port 4500 with UDP encapsulation).
    pub local: SocketAddr,
    /// The peer's endpoint.
    pub remote: SocketAddr,
    /// ESP in UDP.
    pub udp: bool,
    /// Mode.
    pub mode: Mode,
    /// Encryption.
    pub encryption: Encryption,
    /// Integrity; `None` with an AEAD.
    pub integrity: Option<Integrity>,
    /// Keying material inbound: encryption key, salt, integrity key (RFC 7296 section 2.17).
    pub key_in: Secret,
    /// Keying material outbound.
    pub key_out: Secret,
    /// Extended sequence numbers.
    pub esn: bool,
    /// Selectors of this side.
    pub local_selectors: Vec<TrafficSelector>,
    /// Selectors of the peer's side.
    pub remote_selectors: Vec<TrafficSelector>,
    /// IpFilterRule it serves.
    pub rule: String,
    /// IpDynVpnAction.
    pub vpn_action: String,
    /// False for the responder of a rekey (RFC 7296 section 2.8).
    pub outbound_active: bool,
    /// Rekey after so many bytes.
    pub soft_bytes: Option<u64>,
    /// Never carry more than this.
    pub hard_bytes: Option<u64>,
    /// The SA outlives this process: another one may have to send above every number that this one has used.
    pub outlives: bool,
    /// It was another process's before. `None`: nothing was sent or accepted on it yet.
    pub continued: Option<Continued>,
}
