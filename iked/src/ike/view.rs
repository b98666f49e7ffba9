//! What the management interface shows of the engine. Times are engine times; the shell converts them.

use super::command::ActivationMethod;
use super::types::{
    Encryption, Group, Identity, IkeTunnelId, Integrity, Mode, Prf, TrafficSelector, TunnelId,
};
use super::wire::AuthMethod;
use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// State of an SA (nmi.md section 8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaState {
    /// Waiting to be negotiated.
    Pending,
    /// Being negotiated.
    InNegotiation,
    /// Usable.
    Active,
    /// Expired and kept.
    Expired,
    /// Being deleted.
    HalfClosed,
}

/// Progress of an IKE SA (nmi.md section 8.6, ipsec-command.md section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IkeProgress {
    /// Nothing exchanged.
    Init,
    /// IKE_SA_INIT under way or done, IKE_AUTH not begun.
    WaitKe,
    /// IKE_AUTH under way.
    WaitAuth,
    /// Established.
    Done,
    /// Expired, kept.
    Expired,
    /// Delete sent, not answered.
    HalfClosed,
}

/// Role in the exchange that made the SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Role {
    /// Initiator.
    Initiator,
    /// Responder.
    Responder,
}

impl From<Role> for super::crypto::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Initiator => Self::Initiator,
            Role::Responder => Self::Responder,
        }
    }
}

/// An IKE SA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IkeView {
    /// Tunnel.
    pub id: IkeTunnelId,
    /// SA number within the tunnel, from 1.
    pub generation: u32,
    /// KeyExchangeRule, empty while unknown.
    pub rule: String,
    /// KeyExchangeAction.
    pub action: String,
    /// Endpoints.
    pub local: SocketAddr,
    /// The peer.
    pub remote: SocketAddr,
    /// Own identity.
    pub local_id: Option<Identity>,
    /// The peer's identity, once known.
    pub remote_id: Option<Identity>,
    /// Initiator's SPI.
    pub spi_i: u64,
    /// Responder's SPI, 0 while unknown.
    pub spi_r: u64,
    /// State.
    pub state: SaState,
    /// Progress.
    pub progress: IkeProgress,
    /// Role.
    pub role: Role,
    /// Negotiated algorithms.
    pub suite: Option<IkeSuite>,
    /// NAT traversal allowed by policy.
    pub nat_allowed: bool,
    /// NAT in front of this side.
    pub nat_local: bool,
    /// NAT in front of the peer.
    pub nat_remote: bool,
    /// Lifetime.
    pub lifetime: Duration,
    /// When it was established.
    pub established: Option<Instant>,
    /// When it will be rekeyed.
    pub rekey_at: Option<Instant>,
    /// When it ends.
    pub expires_at: Option<Instant>,
    /// How this side and the peer proved who they are; `None`: not yet, or nobody here knows any more.
    pub proofs: Option<(AuthMethod, AuthMethod)>,
    /// Re-authentication interval.
    pub reauth_interval: Option<Duration>,
    /// Next re-authentication.
    pub reauth_at: Option<Instant>,
    /// Counters.
    pub counters: IkeCounters,
}

/// Algorithms of an IKE SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IkeSuite {
    /// Encryption.
    pub encryption: Encryption,
    /// Integrity.
    pub integrity: Option<Integrity>,
    /// PRF.
    pub prf: Prf,
    /// Group.
    pub group: Group,
}

/// Counters of one IKE SA, and (summed over its life) of an engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IkeCounters {
    /// Bytes of protected IKE messages.
    pub bytes: u64,
    /// Retransmitted messages of IKE_SA_INIT and IKE_AUTH.
    pub retransmits: u64,
    /// Replayed or repeated messages received.
    pub replays: u64,
    /// Invalid messages received.
    pub invalid: u64,
    /// Failed authentications.
    pub auth_failures: u64,
    /// Retransmitted messages of child exchanges.
    pub child_retransmits: u64,
    /// Replayed messages of child exchanges.
    pub child_replays: u64,
    /// Invalid messages of child exchanges.
    pub child_invalid: u64,
    /// Successful child activations started here.
    pub child_local_success: u64,
    /// Successful child activations started by the peer.
    pub child_remote_success: u64,
    /// Failed child activations started here.
    pub child_local_failure: u64,
    /// Failed child activations started by the peer.
    pub child_remote_failure: u64,
}

/// Counters of an engine since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineCounters {
    /// Sums over all IKE SAs that ever were.
    pub ike: IkeCounters,
    /// Successful IKE activations started here.
    pub local_success: u64,
    /// Successful IKE activations started by peers.
    pub remote_success: u64,
    /// Failed IKE activations started here.
    pub local_failure: u64,
    /// Failed IKE activations started by peers.
    pub remote_failure: u64,
    /// Datagrams that are no IKE message, or for no SA of ours.
    pub dropped: u64,
    /// Cookies asked for.
    pub cookies: u64,
}

/// SAs by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// [`SaState::Pending`].
    pub pending: u32,
    /// [`SaState::InNegotiation`].
    pub in_negotiation: u32,
    /// [`SaState::Active`].
    pub active: u32,
    /// [`SaState::Expired`].
    pub expired: u32,
    /// [`SaState::HalfClosed`].
    pub half_closed: u32,
}

impl StateCounts {
    /// One more.
    pub const fn add(&mut self, state: SaState) {
        let count = match state {
            SaState::Pending => &mut self.pending,
            SaState::InNegotiation => &mut self.in_negotiation,
            SaState::Active => &mut self.active,
            SaState::Expired => &mut self.expired,
            SaState::HalfClosed => &mut self.half_closed,
        };
        *count = count.saturating_add(1);
    }
}

/// How many SAs there are: what a summary and metrics need, without the SAs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// IKE SAs.
    pub ike: StateCounts,
    /// Child SAs.
    pub children: StateCounts,
    /// LocalDynVpnRules with an active child SA.
    pub rules_up: std::collections::BTreeSet<String>,
}

/// A child SA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildView {
    /// Tunnel.
    pub id: TunnelId,
    /// SA number within the tunnel, from 1.
    pub generation: u32,
    /// IKE tunnel.
    pub ike: IkeTunnelId,
    /// IpFilterRule.
    pub rule: String,
    /// IpDynVpnAction.
    pub vpn_action: String,
    /// LocalDynVpnRule.
    pub local_dyn_vpn_rule: Option<String>,
    /// Why it exists.
    pub method: ActivationMethod,
    /// State.
    pub state: SaState,
    /// Role in the exchange that made it.
    pub role: Role,
    /// Endpoints; ports matter with `udp`.
    pub local: SocketAddr,
    /// The peer.
    pub remote: SocketAddr,
    /// ESP in UDP.
    pub udp: bool,
    /// NAT in front of this side.
    pub nat_local: bool,
    /// NAT in front of the peer.
    pub nat_remote: bool,
    /// Mode.
    pub mode: Mode,
    /// Encryption; `None` while being negotiated.
    pub encryption: Option<Encryption>,
    /// Integrity.
    pub integrity: Option<Integrity>,
    /// Group of a fresh key exchange.
    pub group: Option<Group>,
    /// Extended sequence numbers.
    pub esn: bool,
    /// Inbound SPI, 0 while unknown.
    pub spi_in: u32,
    /// Outbound SPI, 0 while unknown.
    pub spi_out: u32,
    /// Selectors of this side.
    pub local_selectors: Vec<TrafficSelector>,
    /// Selectors of the peer's side.
    pub remote_selectors: Vec<TrafficSelector>,
    /// Lifetime.
    pub lifetime: Duration,
    /// Lifesize in bytes.
    pub lifesize_bytes: Option<u64>,
    /// When it was installed.
    pub installed: Option<Instant>,
    /// When it will be rekeyed.
    pub rekey_at: Option<Instant>,
    /// When it ends.
    pub expires_at: Option<Instant>,
    /// When rekeys end.
    pub vpn_life_ends: Option<Instant>,
}

/// By tunnel, the newest SA of a tunnel first.
pub fn order_ike(views: &mut [IkeView]) {
    views.sort_by_key(|view| (view.id, Reverse(view.generation)));
}

/// By tunnel, the newest SA of a tunnel first.
pub fn order_children(views: &mut [ChildView]) {
    views.sort_by_key(|view| (view.id, Reverse(view.generation)));
}
