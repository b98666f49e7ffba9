//! One certificate: whose it is.

use super::PkiError;
use super::dn::{same_dn, show_dn};
use crate::ike::types::Identity;
use std::net::IpAddr;
use x509_cert::Certificate as X509;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{KeyUsage, SubjectAltName};

/// What is wanted of a certificate beside its path and its key.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Subject, DER.
    pub(super) subject: Vec<u8>,
    /// SubjectPublicKeyInfo, DER.
    pub(super) key_info: Vec<u8>,
    /// Until when it is valid, in seconds since 1970.
    pub(super) expires: u64,
    /// The bits of its subjectPublicKey.
    pub(super) key: Vec<u8>,
    others: Vec<Identity>,
}

impl Names {
    /// Of an end entity's certificate.
    ///
    /// # Errors
    /// It cannot be read, or is not for signatures.
    pub(super) fn of_signer(der: &[u8]) -> Result<Self, PkiError> {
        let (names, usage) = read(der)?;
        // RFC 4945 section 5.1.3.2: where key usage is said at all, one of the two kinds of signature is among it.
        if usage.is_some_and(|usage| !usage.digital_signature() && !usage.non_repudiation()) {
            return Err(PkiError::Usage);
        }
        Ok(names)
    }

    /// Of an authority's certificate.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn of_authority(der: &[u8]) -> Result<Self, PkiError> {
        Ok(read(der)?.0)
    }

    /// Whether the certificate is for `identity` (RFC 4945 section 3.1).
    pub(super) fn hold(&self, identity: &Identity) -> bool {
        match identity {
            Identity::Dn(name) => same_dn(name, &self.subject),
            other => self.others.iter().any(|own| crate::ike::identity::same(own, other)),
        }
    }

    /// The subject for an operator.
    pub(super) fn shown(&self) -> String {
        show_dn(&self.subject)
    }
}

fn read(der: &[u8]) -> Result<(Names, Option<KeyUsage>), PkiError> {
    let malformed = |why: x509_cert::der::Error| PkiError::malformed("a certificate", why);
    let certificate = X509::from_der(der).map_err(malformed)?;
    let tbs = certificate.tbs_certificate();
    let alternative = tbs.get_extension::<SubjectAltName>().map_err(malformed)?;
    let usage = tbs.get_extension::<KeyUsage>().map_err(malformed)?;
    let info = tbs.subject_public_key_info();
    let names = Names {
        subject: tbs.subject().to_der().map_err(malformed)?,
        key_info: info.to_der().map_err(malformed)?,
        expires: tbs.validity().not_after.to_unix_duration().as_secs(),
        key: info.subject_public_key.raw_bytes().to_vec(),
        others: alternative
            .map(|(_, names)| names.0.iter().filter_map(identity).collect())
            .unwrap_or_default(),
    };
    Ok((names, usage.map(|(_, usage)| usage)))
}

fn identity(name: &GeneralName) -> Option<Identity> {
    match name {
        GeneralName::DnsName(name) => Some(Identity::Fqdn(name.as_str().to_owned())),
        GeneralName::Rfc822Name(name) => Some(Identity::UserFqdn(name.as_str().to_owned())),
        GeneralName::IpAddress(address) => {
            let octets = address.as_bytes();
            let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok().map(Identity::Address)
        }
        _ => None,
    }
}
