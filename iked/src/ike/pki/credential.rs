//! What this side signs with.

use super::PkiError;
use super::certificate::Names;
use crate::ike::crypto::{SignatureMethod, SigningKey};
use crate::ike::types::Identity;

/// An own certificate with its key and what leads from it to an authority.
#[derive(Debug)]
pub struct Credential {
    names: Names,
    chain: Vec<Vec<u8>>,
    key: SigningKey,
}

impl Credential {
    /// Of certificates, one's own first, and the PKCS#8 document of its key, all DER.
    ///
    /// # Errors
    /// One of them cannot be used, or they do not belong together.
    pub fn new(chain: Vec<Vec<u8>>, key: &[u8]) -> Result<Self, PkiError> {
        let names = Names::of_signer(chain.first().ok_or(PkiError::NoCertificate)?)?;
        let key = SigningKey::from_pkcs8(key).ok_or(PkiError::Key)?;
        if names.key != key.public() {
            return Err(PkiError::OtherKey);
        }
        Ok(Self { names, chain, key })
    }

    /// Whether the certificate is for `identity`.
    #[must_use]
    pub fn is_for(&self, identity: &Identity) -> bool {
        self.names.hold(identity)
    }

    /// Its subject, DER: how the peer finds it written in the certificate.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.names.subject
    }

    /// Until when it is valid, in seconds since 1970.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.names.expires
    }

    /// Its subject for an operator.
    #[must_use]
    pub fn shown(&self) -> String {
        self.names.shown()
    }

    /// The certificates, the own one first.
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Whether its key can sign so.
    #[must_use]
    pub fn can(&self, method: SignatureMethod) -> bool {
        self.key.can(method)
    }
}

/// The same certificates are for the same key.
impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain
    }
}

impl Eq for Credential {}
