//! KeyExchangePolicy: with whom, under which identities and how IKE SAs are made.

use super::{Encryption, Group, Integrity, LocalEndpoint, Name, NonEmpty, Prf, RemoteEndpoint, Secret};
use std::sync::Arc;
use std::time::Duration;

/// KeyExchangePolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyExchangePolicy {
    /// NatKeepAliveInterval; zero: none.
    pub nat_keepalive: Duration,
    /// LivenessInterval; zero: never.
    pub liveness: Duration,
    /// The rules in search order, groups opened.
    pub rules: Vec<ExchangeRule>,
}

impl Default for KeyExchangePolicy {
    fn default() -> Self {
        Self { nat_keepalive: Duration::from_secs(20), liveness: Duration::from_secs(30), rules: Vec::new() }
    }
}

/// A KeyExchangeRule with its action; the policy's defaults are worked in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRule {
    /// Name.
    pub name: Name,
    /// KeyExchangeGroup that it stands in.
    pub group: Option<Name>,
    /// Own identity and addresses.
    pub local: Arc<LocalEndpoint>,
    /// The peer's identities and addresses.
    pub remote: Arc<RemoteEndpoint>,
    /// KeyExchangeAction.
    pub action: Arc<ExchangeAction>,
    /// This side may initiate (HowToInitiate IKEv2).
    pub initiate: bool,
    /// NAT traversal is allowed.
    pub allow_nat: bool,
    /// SharedKey, for both sides.
    pub shared_key: Secret,
}

/// KeyExchangeAction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeAction {
    /// Name.
    pub name: Name,
    /// HowToInitiate: IKEv2 (true) or DoNot; `None`: as the policy says.
    pub initiate: Option<bool>,
    /// HowToRespondIKEv2 (extension for Linux).
    pub respond: bool,
    /// AllowNat; `None`: as the policy says.
    pub allow_nat: Option<bool>,
    /// ReauthInterval; `None`: never.
    pub reauth_interval: Option<Duration>,
    /// Offers, the preferred one first.
    pub offers: NonEmpty<ExchangeOffer>,
}

/// KeyExchangeOffer: one combination for the IKE SA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeOffer {
    /// Name.
    pub name: Name,
    /// Encryption.
    pub encryption: Encryption,
    /// Integrity: `None` if, and only if, the encryption is an AEAD.
    pub integrity: Option<Integrity>,
    /// Pseudo-random function.
    pub prf: Prf,
    /// Group.
    pub group: Group,
    /// Lifetime.
    pub lifetime: Duration,
}
