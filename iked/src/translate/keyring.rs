//! The keyring: a folder with the certificates and keys that policies speak of.
//!
//! ```text
//! KEYRING/own/LABEL.pem   an own certificate, those between it and its authority, its private key (PKCS#8); mode 600
//! KEYRING/ca/LABEL.pem    the certificate of an authority that is trusted (CaLabel LABEL)
//! KEYRING/crl/NAME.pem    a revocation list
//! ```

use super::files::{is_private, read};
use crate::ike::crypto::SignatureMethod;
use crate::ike::pki::{Authority, Credential, PkiError, Revocation, RevocationList, Trust};
use crate::ike::types::Identity;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivatePkcs8KeyDer};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Octets of one file; revocation lists are the largest.
const MAX_FILE: usize = 8 << 20;
/// A certificate that expires within these seconds is worth a warning.
const SOON: u64 = 30 * DAY;
const DAY: u64 = 86_400;
/// Files of one folder.
const MAX_FILES: usize = 1_000;

/// What was in the folder.
#[derive(Debug, Default)]
pub struct Keyring {
    folder: PathBuf,
    own: Vec<(String, Arc<Credential>)>,
    authorities: Vec<Arc<Authority>>,
    lists: Vec<Arc<RevocationList>>,
}

impl Keyring {
    /// Reads the folder.
    ///
    /// # Errors
    /// A file cannot be read or used: which, and why.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let mut ring = Self { folder: folder.to_owned(), ..Self::default() };
        for (path, label) in files(&folder.join("own"))? {
            let (pem, mode) = read(&path, MAX_FILE)?;
            let pem = Zeroizing::new(pem);
            is_private(&path, mode)?;
            let credential = own(&pem).map_err(|why| format!("{}: {why}", path.display()))?;
            ring.own.push((label, Arc::new(credential)));
        }
        for (path, label) in files(&folder.join("ca"))? {
            let failed = |why: String| format!("{}: {why}", path.display());
            let (pem, _) = read(&path, MAX_FILE)?;
            let certificate = CertificateDer::from_pem_slice(&pem)
                .map_err(|why| failed(format!("no certificate in PEM: {why}")))?;
            let authority =
                Authority::new(label, &certificate).map_err(|why: PkiError| failed(why.to_string()))?;
            ring.authorities.push(Arc::new(authority));
        }
        for (path, _) in files(&folder.join("crl"))? {
            let failed = |why: String| format!("{}: {why}", path.display());
            let (pem, _) = read(&path, MAX_FILE)?;
            let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
            let lists = lists.map_err(|why| failed(format!("no revocation list in PEM: {why}")))?;
            for list in lists {
                let list = RevocationList::new(&list).map_err(|why| failed(why.to_string()))?;
                ring.lists.push(Arc::new(list));
            }
        }
        Ok(ring)
    }

    /// What an operator should hear: own certificates that have expired, or will within [`SOON`]; `unix` is now.
    #[must_use]
    pub fn warnings(&self, unix: u64) -> Vec<String> {
        let warning = |(label, own): &(String, Arc<Credential>)| {
            let left = own.expires().checked_sub(unix);
            let what = match left {
                None => "has expired: peers refuse it".to_owned(),
                Some(left) if left < SOON => format!("expires in {} days", left / DAY),
                Some(_) => return None,
            };
            Some(format!("keyring: own/{label}.pem ({}) {what}", own.shown()))
        };
        self.own.iter().filter_map(warning).collect()
    }

    /// What this side proves `identity` with.
    ///
    /// # Errors
    /// There is no certificate for it, or none whose key can sign so.
    pub(super) fn credential(
        &self,
        identity: &Identity,
        method: SignatureMethod,
    ) -> Result<Arc<Credential>, String> {
        let mut of_identity = self.own.iter().filter(|(_, own)| own.is_for(identity)).peekable();
        if of_identity.peek().is_none() {
            let there: Vec<String> =
                self.own.iter().take(3).map(|(label, own)| format!("{label} ({})", own.shown())).collect();
            let there = if there.is_empty() { "it has none".to_owned() } else { there.join(", ") };
            let folder = self.folder.join("own");
            return Err(format!("no own certificate for {identity} in {}: {there}", folder.display()));
        }
        let fitting = of_identity.find(|(_, own)| own.can(method)).map(|(_, own)| own.clone());
        fitting.ok_or_else(|| {
            let folder = self.folder.join("own");
            format!("no key for {identity} in {} can sign as HowToAuthMe says", folder.display())
        })
    }

    /// Who vouches for peers: the authorities with these labels, all where there is none.
    ///
    /// # Errors
    /// There is no authority with a label, or none at all.
    pub(super) fn trust(&self, labels: &[String], revocation: Revocation) -> Result<Arc<Trust>, String> {
        let named = |label: &String| {
            let mut all = self.authorities.iter();
            let found = all.find(|authority| authority.label().eq_ignore_ascii_case(label)).cloned();
            found.ok_or_else(|| {
                let folder = self.folder.join("ca");
                format!("CaLabel {}: no {0}.pem in {}", label.escape_debug(), folder.display())
            })
        };
        let authorities = match labels {
            [] => self.authorities.clone(),
            labels => labels.iter().map(named).collect::<Result<_, _>>()?,
        };
        if authorities.is_empty() {
            let folder = self.folder.join("ca");
            return Err(format!("no authority that vouches for peers (LABEL.pem) in {}", folder.display()));
        }
        Ok(Arc::new(Trust::new(authorities, self.lists.clone(), revocation)))
    }
}

/// The `.pem` files of a folder, which may be missing, with their names without that, in order.
fn files(folder: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let label = path.file_stem().and_then(OsStr::to_str).map(str::to_owned);
        if let Some(label) = label
            && path.extension() == Some(OsStr::new("pem"))
        {
            files.push((path, label));
        }
        if files.len() > MAX_FILES {
            return Err(format!("{}: more than {MAX_FILES} files", folder.display()));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// An own certificate with its key, of a file in PEM.
fn own(pem: &[u8]) -> Result<Credential, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|why| format!("no certificate in PEM: {why}"))?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| {
        "no PRIVATE KEY (PKCS#8) in PEM: `openssl pkcs8 -topk8 -nocrypt` makes one".to_owned()
    })?;
    let chain = chain.iter().map(|der| der.to_vec()).collect();
    Credential::new(chain, key.secret_pkcs8_der()).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::rules::exchange;
    use super::super::tests::{SAMPLE, policy};
    use super::*;
    use crate::ike::rules::{Authentication, ExchangeRule};
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use std::os::unix::fs::PermissionsExt as _;
    use tempfile::TempDir;

    /// A keyring with the authority `site` and an own certificate for gw.example.net.
    fn ring() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (ca_key, own_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(params, ca_key);
        let own = CertificateParams::new(vec!["gw.example.net".to_owned()]).unwrap();
        let own = own.signed_by(&own_key, &issuer).unwrap().pem();
        for of in ["own", "ca", "crl"] {
            fs::create_dir(folder.path().join(of)).unwrap();
        }
        fs::write(folder.path().join("ca/site.pem"), ca).unwrap();
        let file = folder.path().join("own/gw.pem");
        fs::write(&file, own + &own_key.serialize_pem()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        (folder, file)
    }

    #[test]
    fn what_a_rule_wants_is_found_or_said_to_be_missing() {
        let (folder, _) = ring();
        let ring = Keyring::read(folder.path()).unwrap();
        let gateway = Identity::Fqdn("gw.example.net".to_owned());
        assert!(ring.credential(&gateway, SignatureMethod::Digital).is_ok());
        assert!(ring.trust(&["SITE".to_owned()], Revocation::Loose).is_ok());
        assert!(ring.trust(&[], Revocation::Strict).is_ok());
        // The certificates of rcgen are valid until the year 4096.
        let end = ring.own[0].1.expires();
        assert!(ring.warnings(end - 31 * DAY).is_empty());
        assert!(ring.warnings(end - 2 * DAY)[0].contains("own/gw.pem") && end > 60_000_000_000);
        assert!(ring.warnings(end - 2 * DAY)[0].contains("expires in 2 days"));
        assert!(ring.warnings(end + 1)[0].contains("has expired"));
        let other = Identity::Fqdn("other.example.net".to_owned());
        for (error, expected) in [
            (ring.credential(&other, SignatureMethod::Digital).unwrap_err(), "/own: gw ("),
            (ring.credential(&gateway, SignatureMethod::Rsa).unwrap_err(), "can sign as HowToAuthMe says"),
            (
                ring.trust(&["site2".to_owned()], Revocation::Loose).unwrap_err(),
                "CaLabel site2: no site2.pem in",
            ),
            (
                Keyring::default().trust(&[], Revocation::Loose).unwrap_err(),
                "no authority that vouches for peers",
            ),
            (Keyring::default().credential(&other, SignatureMethod::Digital).unwrap_err(), "it has none"),
        ] {
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn a_rule_that_signs_gets_its_certificate_or_refuses_the_policy() {
        let (folder, _) = ring();
        let ring = Keyring::read(folder.path()).unwrap();
        let with = |identity: &str, more: &str| {
            let action = format!("      HowToAuthMe  ECDSA-256\n{more}");
            let sample = SAMPLE
                .replace("      AllowNat  No\n", &action)
                .replace("Identity  Fqdn shop.example.org", &format!("Identity  {identity}"));
            policy(&sample)
        };
        let clients = |rules: &[ExchangeRule]| rules.iter().find(|r| r.name == "clients").unwrap().clone();
        let signs = clients(&exchange(&with("Fqdn gw.example.net", ""), Some(&ring)).unwrap());
        let Authentication::Signature { own, method, .. } = &signs.authentication else {
            panic!("{signs:?}")
        };
        assert_eq!((own, *method), (&ring.own[0].1, SignatureMethod::Ecdsa256));
        // A distinguished name is shown to peers as the certificate has it.
        let named = with("X500dn CN = RCGEN self signed cert", "      RevocationChecking  Strict\n");
        let named = clients(&exchange(&named, Some(&ring)).unwrap());
        assert_eq!(named.local_id, Identity::Dn(own.subject().to_vec()));
        assert_ne!(named.authentication, signs.authentication, "revocation is part of it");
        for (identity, keyring, expected) in [
            (
                "Fqdn shop.example.org",
                Some(&ring),
                "KeyExchangeRule clients: no own certificate for shop.example.org in",
            ),
            ("Fqdn gw.example.net", None, "KeyExchangeRule clients: HowToAuthMe wants certificates"),
            ("X500dn CN=other", Some(&ring), "for CN=other"),
        ] {
            let error = exchange(&with(identity, ""), keyring).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_of_no_use_is_named() {
        let (folder, file) = ring();
        let refused = |expected: &str| {
            let error = Keyring::read(folder.path()).unwrap_err();
            assert!(error.contains(expected) && error.contains(".pem: "), "{expected}: {error}");
        };
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        refused("chmod 600");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let good = fs::read_to_string(&file).unwrap();
        let (certificate, _) = good.split_once("-----BEGIN PRIVATE").unwrap();
        fs::write(&file, certificate).unwrap();
        refused("no PRIVATE KEY (PKCS#8)");
        fs::write(&file, certificate.to_owned() + &KeyPair::generate().unwrap().serialize_pem()).unwrap();
        refused("for another key");
        fs::write(&file, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        refused("no certificate");
        fs::write(&file, good).unwrap();
        fs::write(folder.path().join("ca/bad.pem"), "nothing").unwrap();
        refused("no certificate in PEM");
        fs::remove_file(folder.path().join("ca/bad.pem")).unwrap();
        fs::write(
            folder.path().join("crl/bad.pem"),
            "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
        )
        .unwrap();
        refused("a revocation list cannot be read");
        fs::remove_file(folder.path().join("crl/bad.pem")).unwrap();
        // What has another name is left alone.
        fs::write(folder.path().join("ca/README"), "notes").unwrap();
        assert!(Keyring::read(folder.path()).is_ok());
        assert!(Keyring::read(Path::new("/nonexistent")).is_ok_and(|ring| ring.own.is_empty()));
    }
}
