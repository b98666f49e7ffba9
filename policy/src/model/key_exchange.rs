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
    /// Checks of identities and certificates, the defaults of the actions.
    pub validation: Validation,
    /// The rules in search order, groups opened.
    pub rules: Vec<ExchangeRule>,
}

impl Default for KeyExchangePolicy {
    fn default() -> Self {
        Self {
            nat_keepalive: Duration::from_secs(20),
            liveness: Duration::from_secs(30),
            validation: Validation::default(),
            rules: Vec::new(),
        }
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
    /// FilterByIdentity: child SAs are for filter rules whose RemoteIdentity fits.
    pub filter_by_identity: bool,
    /// SharedKey, for both sides; there with [`AuthMethod::PresharedKey`].
    pub shared_key: Option<Secret>,
}

/// HowToAuthMe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// Shared key.
    PresharedKey,
    /// RSA signature (RFC 7296).
    RsaSignature,
    /// ECDSA-256 (RFC 4754).
    Ecdsa256,
    /// ECDSA-384.
    Ecdsa384,
    /// ECDSA-521.
    Ecdsa521,
    /// Digital signature (RFC 7427).
    DigitalSignature,
}

/// CertificateURLLookupPreference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlLookup {
    /// Neither asked for nor refused.
    Tolerate,
    /// Refused.
    Disallow,
}

/// RevocationChecking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// Not checked.
    None,
    /// A certificate is accepted where nothing is known of its revocation.
    Loose,
    /// A certificate is accepted only if it is known not to be revoked.
    Strict,
}

/// How peers' identities and certificates are looked at, as far as it is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Validation {
    /// FilterByIdentity.
    pub filter_by_identity: Option<bool>,
    /// BypassIpValidation: an IpAddr identity need not be the packet's address.
    pub bypass_ip: Option<bool>,
    /// CertificateURLLookupPreference.
    pub url_lookup: Option<UrlLookup>,
    /// RevocationChecking.
    pub revocation: Option<Revocation>,
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
    /// HowToAuthMe.
    pub auth: AuthMethod,
    /// Checks of identities and certificates; what is not coded is as the policy says.
    pub validation: Validation,
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
