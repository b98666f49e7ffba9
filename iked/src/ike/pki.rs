//! Certificates: which identities stand in one, what this side signs with, and which authorities vouch for a peer's
//! (RFC 5280, RFC 4945).
//!
//! Nothing here reads a file, the clock or the network: certificates come as DER, the time as seconds since 1970, and no
//! address that a peer names is ever asked (threats T12).

mod certificate;
mod credential;
mod dn;
mod dn_text;
mod trust;

pub use credential::Credential;
pub use dn_text::dn_text;
pub use trust::{Authority, Revocation, RevocationList, Trust};

pub(crate) use dn::{same_dn, show_dn};

use thiserror::Error;

/// Why a certificate or key is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PkiError {
    /// It cannot be read.
    #[error("{what} cannot be read: {why}")]
    Malformed {
        /// What: a certificate, a key, a list.
        what: &'static str,
        /// The reader's words.
        why: String,
    },
    /// There is none.
    #[error("no certificate")]
    NoCertificate,
    /// The certificate is for another key.
    #[error("the certificate is for another key")]
    OtherKey,
    /// The certificate is for something else than signatures.
    #[error("the certificate is not for signatures (key usage, RFC 4945 section 5.1.3.2)")]
    Usage,
    /// A kind of key that is not supported.
    #[error("the key is neither RSA of 2048 to 8192 bits nor on P-256, P-384 or P-521, or not PKCS#8")]
    Key,
    /// No authority that is trusted vouches for it.
    #[error("{0}")]
    Path(String),
    /// It has no such identity.
    #[error("the certificate of {subject} is not for {identity}")]
    Identity {
        /// Subject of the certificate.
        subject: String,
        /// What the peer calls itself.
        identity: String,
    },
}

impl PkiError {
    fn malformed(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Malformed { what, why: why.to_string() }
    }
}
