//! What the engine is told about policy: settings, key exchange rules and child rules, in search order.

use super::crypto::SignatureMethod;
use super::pki::{Credential, Trust};
use super::types::{
    AddressRange, Encryption, Group, Identity, IdentityPattern, Integrity, Mode, Prf, Secret, TrafficSelector,
};
use super::wire::AuthMethod;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Settings that do not come from a rule.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Wait before the first retransmission; doubles each time (IkeInitWait).
    pub retransmit_initial: Duration,
    /// Number of retransmissions before a peer is given up (IkeRetries).
    pub retransmit_tries: u32,
    /// Half-open SAs from which on cookies are asked for (RFC 7296 section 2.6).
    pub cookie_threshold: usize,
    /// Half-open SAs that are kept at most.
    pub half_open_limit: usize,
    /// Half-open SAs of one source address that are kept at most.
    pub half_open_per_source: usize,
    /// How long a half-open SA as responder is kept.
    pub half_open_timeout: Duration,
    /// Interval of NAT keepalives when this side is behind a NAT; zero: none (NatKeepAliveInterval).
    pub nat_keepalive: Duration,
    /// Encapsulate ESP in UDP without a NAT too, where the rule allows NAT traversal: the peer is shown one.
    pub force_udp: bool,
    /// Ask for liveness after this time without an inbound message or ESP packet; zero: never (LivenessInterval).
    pub liveness: Duration,
    /// Child SAs that one peer may have (threats T32).
    pub children_per_peer: usize,
    /// Home addresses whose SAs outlive this process, each with the epoch at which this side owns it
    /// (`takeover = "continue"`). Their messages wait until the state that they belong to is stored, and the low 16 bits of
    /// the epoch head the IVs of their IKE SAs.
    pub continued: BTreeMap<IpAddr, u64>,
    /// Peers to which [`super::command::Command::Renegotiate`] opens IKE SAs at a time.
    pub renegotiate_at_once: usize,
    /// How long it goes on trying with a peer that does not answer.
    pub renegotiate_for: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retransmit_initial: Duration::from_secs(2),
            retransmit_tries: 6,
            cookie_threshold: 32,
            half_open_limit: 1024,
            half_open_per_source: 32,
            half_open_timeout: Duration::from_secs(30),
            nat_keepalive: Duration::from_secs(20),
            force_udp: false,
            liveness: Duration::from_secs(30),
            children_per_peer: 256,
            continued: BTreeMap::new(),
            renegotiate_at_once: 64,
            renegotiate_for: Duration::from_secs(600),
        }
    }
}

/// Everything policy says about negotiation.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// KeyExchangeRules in search order (spec/policy.md section 5.2).
    pub exchange: Vec<ExchangeRule>,
    /// IpFilterRules with a dynamic VPN action in search order (section 5.3).
    /// Several have the same name where the rule has several services: their selectors must not be mixed.
    pub child: Vec<ChildRule>,
}

/// A KeyExchangeRule with its action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRule {
    /// KeyExchangeRule name.
    pub name: String,
    /// KeyExchangeAction name.
    pub action: String,
    /// Own identity.
    pub local_id: Identity,
    /// Own addresses for which the rule holds.
    pub local_location: Vec<AddressRange>,
    /// Identities of the peer.
    pub remote_id: IdentityPattern,
    /// Addresses of the peer.
    pub remote_location: Vec<AddressRange>,
    /// Whether this side may initiate IKEv2.
    pub initiate: bool,
    /// Whether this side answers IKEv2.
    pub respond: bool,
    /// How both sides prove who they are.
    pub authentication: Authentication,
    /// Offers, most preferred first.
    pub offers: Vec<IkeOffer>,
    /// NAT traversal is allowed.
    pub allow_nat: bool,
    /// Child SAs are only for rules whose [`ChildRule::remote_identity`] accepts the peer (FilterByIdentity).
    pub filter_by_identity: bool,
    /// Re-authenticate after this time.
    pub reauth_interval: Option<Duration>,
}

/// How both sides of an IKE SA prove who they are (HowToAuthMe): in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// By a pre-shared key, of both.
    SharedKey(Secret),
    /// By signatures.
    Signature {
        /// What this side signs with.
        own: Arc<Credential>,
        /// How.
        method: SignatureMethod,
        /// Who vouches for peers.
        trust: Arc<Trust>,
    },
}

impl Authentication {
    /// Methods of this side and of a peer, where the rule alone says them.
    #[must_use]
    pub const fn proofs(&self) -> Option<(AuthMethod, AuthMethod)> {
        match self {
            Self::SharedKey(_) => Some((AuthMethod::SHARED_KEY, AuthMethod::SHARED_KEY)),
            Self::Signature { .. } => None,
        }
    }

    /// Who vouches for peers that sign.
    #[must_use]
    pub const fn trust(&self) -> Option<&Arc<Trust>> {
        match self {
            Self::SharedKey(_) => None,
            Self::Signature { trust, .. } => Some(trust),
        }
    }
}

/// One combination for the IKE SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IkeOffer {
    /// Encryption.
    pub encryption: Encryption,
    /// Integrity; `None` with an AEAD.
    pub integrity: Option<Integrity>,
    /// PRF.
    pub prf: Prf,
    /// Group.
    pub group: Group,
    /// Lifetime of the IKE SA; it is rekeyed before.
    pub lifetime: Duration,
}

/// Who may start a child negotiation.
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

/// An IpFilterRule with a dynamic VPN action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildRule {
    /// IpFilterRule name; events and the stack's filters refer to it.
    pub rule: String,
    /// IpDynVpnAction name.
    pub vpn_action: String,
    /// What of this side may be protected.
    pub local: Vec<TrafficSelector>,
    /// What of the peer's side may be protected.
    pub remote: Vec<TrafficSelector>,
    /// Whose tunnels it is for, where identities filter (RemoteIdentity); `None`: anybody's.
    pub remote_identity: Option<IdentityPattern>,
    /// Who may start.
    pub initiation: Initiation,
    /// Modes accepted, preferred first.
    pub modes: Vec<Mode>,
    /// Group for a fresh key exchange as initiator.
    pub pfs_initiate: Option<Group>,
    /// Groups accepted as responder; `None` stands for no fresh key exchange.
    pub pfs_accept: Vec<Option<Group>>,
    /// Offers, most preferred first.
    pub offers: Vec<ChildOffer>,
    /// How long the tunnel is kept alive by rekeys from its first SA on.
    pub vpn_life: Option<Duration>,
    /// Security endpoints for local starts, where they are not the data endpoints.
    pub local_endpoint: Option<IpAddr>,
    /// As `local_endpoint`, of the peer.
    pub remote_endpoint: Option<IpAddr>,
}

impl ExchangeRule {
    /// Whether a child under `rule` may be made with the peer that has proved to be `peer` (spec/policy.md section 5.5).
    #[must_use]
    pub fn lets(&self, peer: &Identity, rule: &ChildRule) -> bool {
        !self.filter_by_identity || rule.remote_identity.as_ref().is_none_or(|whose| whose.accepts(peer))
    }
}

/// One combination for a child SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildOffer {
    /// Encryption.
    pub encryption: Encryption,
    /// Integrity; `None` with an AEAD.
    pub integrity: Option<Integrity>,
    /// Offer and accept extended sequence numbers (both are always offered when true).
    pub esn: bool,
    /// Lifetime of the SA; it is rekeyed before.
    pub lifetime: Duration,
    /// Bytes after which it is rekeyed.
    pub lifesize_bytes: Option<u64>,
}
