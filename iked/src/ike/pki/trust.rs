//! Whether an authority that is trusted vouches for a peer.

use super::PkiError;
use super::certificate::Names;
use crate::ike::crypto::{VERIFIED, verify_signature};
use crate::ike::types::Identity;
use crate::ike::wire::AuthMethod;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sha1::{Digest, Sha1};
use std::sync::Arc;
use std::time::Duration;
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeId,
    KeyPurposeIdIter, KeyUsage, OwnedCertRevocationList, RequiredEkuNotFoundContext,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

/// Certificates of a peer that are looked at, its own counted (threats T12).
const CHAIN: usize = 8;
/// Octets of one of them.
const CERTIFICATE: usize = 16 * 1024;
/// id-kp-ipsecIKE (RFC 4945 section 5.1.3.12).
const IPSEC_IKE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 17];
/// anyExtendedKeyUsage (RFC 5280 section 4.2.1.12).
const ANY: KeyPurposeId<'static> = KeyPurposeId::new(&[0x55, 0x1d, 0x25, 0]);

/// RevocationChecking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// Not asked.
    None,
    /// What a list revokes is refused; of what no list says, nothing is known, and that is well.
    Loose,
    /// Every certificate of the path has to be in the care of a list that is in force.
    Strict,
}

/// A certificate authority that is trusted.
#[derive(Debug)]
pub struct Authority {
    label: String,
    anchor: TrustAnchor<'static>,
    subject: String,
    key_hash: [u8; 20],
}

impl Authority {
    /// Of its certificate, DER; `label` is what a policy calls it (CaLabel).
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new(label: String, certificate: &[u8]) -> Result<Self, PkiError> {
        let names = Names::of_authority(certificate)?;
        let der = CertificateDer::from(certificate);
        let anchor = webpki::anchor_from_trusted_cert(&der)
            .map_err(|why| PkiError::malformed("an authority's certificate", why))?
            .to_owned();
        let key_hash = Sha1::digest(&names.key_info).into();
        Ok(Self { label, anchor, subject: names.shown(), key_hash })
    }

    /// What a policy calls it.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

/// What an authority has revoked.
#[derive(Debug)]
pub struct RevocationList(CertRevocationList<'static>);

impl RevocationList {
    /// Of a CRL, DER.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new(der: &[u8]) -> Result<Self, PkiError> {
        let list = OwnedCertRevocationList::from_der(der);
        list.map(|list| Self(list.into())).map_err(|why| PkiError::malformed("a revocation list", why))
    }
}

/// The authorities of a rule, and how revocation is seen.
#[derive(Debug)]
pub struct Trust {
    authorities: Vec<Arc<Authority>>,
    anchors: Vec<TrustAnchor<'static>>,
    lists: Vec<Arc<RevocationList>>,
    revocation: Revocation,
}

impl Trust {
    /// Of authorities and the revocation lists that there are.
    #[must_use]
    pub fn new(
        authorities: Vec<Arc<Authority>>,
        lists: Vec<Arc<RevocationList>>,
        revocation: Revocation,
    ) -> Self {
        let anchors = authorities.iter().map(|a| a.anchor.clone()).collect();
        Self { authorities, anchors, lists, revocation }
    }

    /// What a Certificate Request asks for (RFC 7296 section 3.7): the hashes of the authorities' keys.
    pub fn key_hashes(&self) -> impl Iterator<Item = [u8; 20]> {
        self.authorities.iter().map(|authority| authority.key_hash)
    }

    /// The authorities for an operator.
    fn shown(&self) -> String {
        let subjects: Vec<&str> = self.authorities.iter().take(3).map(|a| a.subject.as_str()).collect();
        match self.authorities.len() {
            0 => "no authority".to_owned(),
            1..=3 => subjects.join(", "),
            more => format!("{} and {} more", subjects.join(", "), more - 3),
        }
    }

    /// Whether the sender of these certificates, its own first, is `identity` and has made the signature of an AUTH payload
    /// over `octets`; `unix` is now, in seconds since 1970.
    ///
    /// # Errors
    /// No, with the reason.
    pub fn verify(
        &self,
        certificates: &[&[u8]],
        identity: &Identity,
        (method, data): (AuthMethod, &[u8]),
        octets: &[u8],
        unix: u64,
    ) -> Result<(), PkiError> {
        let (own, between) = certificates.split_first().ok_or(PkiError::NoCertificate)?;
        if certificates.len() > CHAIN || certificates.iter().any(|c| c.len() > CERTIFICATE) {
            return Err(PkiError::Path(format!(
                "more than {CHAIN} certificates, or one of more than {CERTIFICATE} octets"
            )));
        }
        let names = Names::of_signer(own)?;
        let own = CertificateDer::from(*own);
        let malformed = |why: Error| PkiError::malformed("a certificate", why);
        let own = EndEntityCert::try_from(&own).map_err(malformed)?;
        self.vouch(&own, between, unix).map_err(|why| self.refused(&names, &why))?;
        if !names.hold(identity) {
            return Err(PkiError::Identity { subject: names.shown(), identity: identity.to_string() });
        }
        verify_signature(&own, method, data, octets)
            .map_err(|why| PkiError::Path(format!("certificate of {}: {why}", names.shown())))
    }

    fn vouch(&self, own: &EndEntityCert<'_>, between: &[&[u8]], unix: u64) -> Result<(), Error> {
        let between: Vec<CertificateDer<'_>> = between.iter().map(|der| CertificateDer::from(*der)).collect();
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().map(|list| &list.0).collect();
        let options = |unknown, expired| {
            let builder = RevocationOptionsBuilder::new(&lists).ok()?;
            Some(builder.with_status_policy(unknown).with_expiration_policy(expired).build())
        };
        let revocation = match self.revocation {
            Revocation::None => None,
            Revocation::Loose => options(UnknownStatusPolicy::Allow, ExpirationPolicy::Ignore),
            Revocation::Strict => {
                let strict = options(UnknownStatusPolicy::Deny, ExpirationPolicy::Enforce);
                Some(strict.ok_or(Error::UnknownRevocationStatus)?)
            }
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(unix));
        own.verify_for_usage(VERIFIED, &self.anchors, &between, now, ForIke, revocation, None).map(|_| ())
    }

    fn refused(&self, names: &Names, why: &Error) -> PkiError {
        let subject = names.shown();
        PkiError::Path(match why {
            Error::UnknownIssuer => {
                format!("no path from the certificate of {subject} to {}", self.shown())
            }
            Error::InvalidSignatureForPublicKey => format!(
                "the certificate of {subject}, or one above it, is not signed by the key of an authority of that name ({})",
                self.shown()
            ),
            Error::CertExpired { .. } => {
                format!("the certificate of {subject}, or one above it, has expired")
            }
            Error::CertNotValidYet { .. } => {
                format!("the certificate of {subject}, or one above it, is not valid yet")
            }
            Error::CertRevoked => format!("the certificate of {subject}, or one above it, is revoked"),
            Error::UnknownRevocationStatus => format!(
                "RevocationChecking Strict: no revocation list says whether the certificate of {subject}, or one above it, is \
                 revoked"
            ),
            other => format!("the certificate of {subject} is not taken: {other:?}"),
        })
    }
}

/// Equal where the same authorities are seen in the same way; lists come and go and change no rule.
impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.anchors == other.anchors && self.revocation == other.revocation
    }
}

impl Eq for Trust {}

/// Extended key usage, where there is one, has to be IKE or anything (RFC 4945 section 5.1.3.12). Certificates for TLS, which many sites
/// use for both, are not among it: who has one of these is not therefore a peer.
struct ForIke;

impl ExtendedKeyUsageValidator for ForIke {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let mut present = Vec::new();
        for purpose in purposes {
            let purpose = purpose?;
            if purpose == KeyPurposeId::new(IPSEC_IKE) || purpose == ANY {
                return Ok(());
            }
            present.push(purpose.to_decoded_oid());
        }
        if present.is_empty() {
            return Ok(());
        }
        let required = KeyUsage::required_if_present(IPSEC_IKE);
        Err(Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
    }
}
