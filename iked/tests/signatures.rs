//! Authentication by signatures and certificates, both sides in one process (RFC 7296 section 2.15, RFC 7427, RFC 4945).

#![allow(clippy::unwrap_used, reason = "a test says what it expects, in its helpers too")]

use iked::ike::command::{Command, Restore, Succession};
use iked::ike::crypto::SignatureMethod;
use iked::ike::pki::{Authority, Credential, Revocation, RevocationList, Trust};
use iked::ike::rules::{Authentication, Rules, Settings};
use iked::ike::sim::{ADDRESS_A, ADDRESS_B, Pair, Side, rules};
use iked::ike::types::{Identity, IdentityPattern, Secret};
use iked::ike::wire::AuthMethod;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, RsaKeySize, SanType,
    SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;
use x509_cert::der::Encode as _;
use x509_cert::name::Name;

/// An authority, and what it issues.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
}

impl Ca {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// Of another authority.
    fn below(above: &Self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.signed_by(&key, &above.issuer).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    fn authority(&self) -> Arc<Authority> {
        Arc::new(Authority::new("ca".to_owned(), &self.der).unwrap())
    }

    fn issue(&self, key: &KeyPair, own: &Own) -> Vec<u8> {
        let mut params = CertificateParams::new(vec![own.name.to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress(own.address.parse().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, own.name);
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.serial_number = Some(SerialNumber::from(own.serial));
        params.not_before = date_time_ymd(own.years.0, 1, 1);
        params.not_after = date_time_ymd(own.years.1, 1, 1);
        params.key_usages.clone_from(&own.usages);
        params.extended_key_usages.clone_from(&own.purposes);
        params.signed_by(key, &self.issuer).unwrap().der().to_vec()
    }

    fn revoke(&self, serial: u64) -> Vec<u8> {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2023, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2023, 1, 1),
            next_update: date_time_ymd(2030, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

/// What stands in a certificate.
#[derive(Clone)]
struct Own {
    name: &'static str,
    address: &'static str,
    serial: u64,
    /// It is valid between the beginnings of these; a simulation begins in 2023.
    years: (i32, i32),
    usages: Vec<KeyUsagePurpose>,
    purposes: Vec<ExtendedKeyUsagePurpose>,
}

fn own(name: &'static str, address: &'static str) -> Own {
    let usages = vec![KeyUsagePurpose::DigitalSignature];
    Own { name, address, serial: 7, years: (2020, 2040), usages, purposes: Vec::new() }
}

fn own_a() -> Own {
    own("a.example.net", "192.0.2.1")
}

fn own_b() -> Own {
    own("b.example.net", "192.0.2.2")
}

/// Rules of both with these proofs.
fn both(a: Authentication, b: Authentication) -> (Rules, Rules) {
    let (mut at_a, mut at_b) = (rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A));
    at_a.exchange[0].authentication = a;
    at_b.exchange[0].authentication = b;
    (at_a, at_b)
}

fn signs(
    chain: Vec<Vec<u8>>,
    key: &KeyPair,
    method: SignatureMethod,
    authorities: &[&Ca],
    lists: &[Vec<u8>],
    revocation: Revocation,
) -> Authentication {
    let own = Arc::new(Credential::new(chain, key.serialized_der()).unwrap());
    let authorities = authorities.iter().map(|ca| ca.authority()).collect();
    let lists = lists.iter().map(|der| Arc::new(RevocationList::new(der).unwrap())).collect();
    let trust = Arc::new(Trust::new(authorities, lists, revocation));
    Authentication::Signature { own, method, trust }
}

/// As `signs`, of one authority, without lists.
fn plainly(ca: &Ca, own: &Own, key: &KeyPair, method: SignatureMethod) -> Authentication {
    signs(vec![ca.issue(key, own)], key, method, &[ca], &[], Revocation::Loose)
}

fn connected((a, b): (Rules, Rules)) -> Pair {
    let mut pair = Pair::new(3, &Settings::default(), a, b);
    pair.connect(Side::A);
    pair
}

/// Both have the child, with the same keys.
fn assert_made(pair: &Pair) {
    pair.assert_matching();
    let failures = (pair.a.failures(), pair.b.failures());
    assert!(!pair.a.installed.is_empty() && !pair.b.installed.is_empty(), "{failures:?}");
}

fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

#[test]
fn every_kind_of_key_proves_an_identity() {
    let ca = Ca::new("Test CA");
    let rsa = || KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let (p256, p384, p521) =
        (&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ECDSA_P521_SHA512);
    for (key_a, key_b, method, shown) in [
        (rsa(), rsa(), SignatureMethod::Rsa, AuthMethod::RSA_SIGNATURE),
        (rsa(), rsa(), SignatureMethod::Digital, AuthMethod::DIGITAL_SIGNATURE),
        (key(p256), key(p256), SignatureMethod::Ecdsa256, AuthMethod::ECDSA_SHA256_P256),
        (key(p384), key(p384), SignatureMethod::Ecdsa384, AuthMethod::ECDSA_SHA384_P384),
        (key(p521), key(p521), SignatureMethod::Ecdsa521, AuthMethod::ECDSA_SHA512_P521),
        (key(p256), key(p384), SignatureMethod::Digital, AuthMethod::DIGITAL_SIGNATURE),
        (key(p521), rsa(), SignatureMethod::Digital, AuthMethod::DIGITAL_SIGNATURE),
    ] {
        let (a, b) = (plainly(&ca, &own_a(), &key_a, method), plainly(&ca, &own_b(), &key_b, method));
        let pair = connected(both(a, b));
        assert_made(&pair);
        for host in [&pair.a, &pair.b] {
            assert!(host.failures().is_empty(), "{method:?}: {:?}", host.failures());
            let [ike] = host.engine.ike_tunnels().try_into().unwrap();
            assert_eq!(ike.proofs, Some((shown, shown)), "{method:?}");
        }
    }
}

#[test]
fn every_kind_of_identity_is_found_in_the_certificate() {
    let ca = Ca::new("Test CA");
    let key = KeyPair::generate().unwrap();
    let name = |text| Identity::Dn(Name::from_str(text).unwrap().to_der().unwrap());
    for (identity, expected) in [
        (Identity::Address(ADDRESS_B), None),
        (Identity::Fqdn("B.example.net".to_owned()), None),
        (name("O=example,CN=B.EXAMPLE.net"), None),
        (name("CN=b.example.net,O=Example"), Some("is not for CN=b.example.net,O=Example")),
        (Identity::Fqdn("c.example.net".to_owned()), Some("is not for c.example.net")),
        (Identity::UserFqdn("b@example.net".to_owned()), Some("is not for b@example.net")),
        (Identity::KeyId(b"b.example.net".to_vec()), Some("is not for KeyID:")),
    ] {
        let sign = |own: &Own| plainly(&ca, own, &key, SignatureMethod::Digital);
        let (mut a, mut b) = both(sign(&own_a()), sign(&own_b()));
        b.exchange[0].local_id = identity.clone();
        a.exchange[0].remote_id = IdentityPattern::Exact(identity.clone());
        let pair = connected((a, b));
        match expected {
            None => assert_made(&pair),
            Some(expected) => {
                assert!(pair.a.failures()[0].contains(expected), "{identity}: {:?}", pair.a.failures());
                assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty());
            }
        }
    }
}

#[test]
fn a_path_over_another_authority_is_followed() {
    let root = Ca::new("Root");
    let between = Ca::below(&root, "Between");
    let key = KeyPair::generate().unwrap();
    let chain = |own: &Own, whole: bool| {
        let mut chain = vec![between.issue(&key, own)];
        chain.extend(whole.then(|| between.der.clone()));
        signs(chain, &key, SignatureMethod::Digital, &[&root], &[], Revocation::Loose)
    };
    assert_made(&connected(both(chain(&own_a(), true), chain(&own_b(), true))));
    let pair = connected(both(chain(&own_a(), false), chain(&own_b(), true)));
    assert!(pair.b.failures()[0].contains("no path from the certificate of"), "{:?}", pair.b.failures());
    assert!(pair.a.failures()[0].contains("AUTHENTICATION_FAILED"), "{:?}", pair.a.failures());
}

/// T12: what is wrong with a certificate is said here, and nothing of it to the peer.
#[test]
fn t12_certificates_that_are_not_taken() {
    let (ca, other, namesake) = (Ca::new("Test CA"), Ca::new("Other CA"), Ca::new("Test CA"));
    let key = KeyPair::generate().unwrap();
    let good = || plainly(&ca, &own_b(), &key, SignatureMethod::Digital);
    let with = |change: &dyn Fn(&mut Own)| {
        let mut own = own_a();
        change(&mut own);
        plainly(&ca, &own, &key, SignatureMethod::Digital)
    };
    let of = |other: &Ca| {
        let chain = vec![other.issue(&key, &own_a())];
        signs(chain, &key, SignatureMethod::Digital, &[&ca], &[], Revocation::Loose)
    };
    for (a, expected) in [
        (of(&namesake), "is not signed by the key of an authority of that name (CN=Test CA)"),
        (of(&other), "no path from the certificate of O=Example,CN=a.example.net to CN=Test CA"),
        (with(&|own| own.years = (2010, 2023)), "has expired"),
        (with(&|own| own.years = (2024, 2040)), "is not valid yet"),
        (with(&|own| own.address = "192.0.2.9"), "is not for 192.0.2.1"),
        (with(&|own| own.purposes = vec![ExtendedKeyUsagePurpose::ServerAuth]), "RequiredEkuNotFound"),
        (Authentication::SharedKey(Secret(b"a secret of the two".to_vec())), "wants a signature"),
    ] {
        let pair = connected(both(a, good()));
        assert!(pair.b.failures()[0].contains(expected), "{expected}: {:?}", pair.b.failures());
        assert!(pair.a.failures()[0].contains("AUTHENTICATION_FAILED"), "{:?}", pair.a.failures());
        assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty());
        assert!(pair.a.engine.ike_tunnels().is_empty() && pair.b.engine.ike_tunnels().is_empty());
    }
    // The other way round: the side that answers is found out by the side that asks.
    let pair = connected(both(with(&|_| ()), plainly(&other, &own_b(), &key, SignatureMethod::Digital)));
    assert!(!pair.a.failures().is_empty() && pair.a.installed.is_empty() && pair.b.installed.is_empty());
    // An own certificate that is of no use is refused before anybody is asked.
    let mut for_encryption = own_a();
    for_encryption.usages = vec![KeyUsagePurpose::KeyEncipherment];
    let refused =
        |own: &Own, with: &KeyPair| Credential::new(vec![ca.issue(&key, own)], with.serialized_der());
    assert!(refused(&for_encryption, &key).unwrap_err().to_string().contains("not for signatures"));
    let other_key = KeyPair::generate().unwrap();
    assert!(refused(&own_a(), &other_key).unwrap_err().to_string().contains("another key"));
}

#[test]
fn revocation_is_seen_as_the_policy_says() {
    let ca = Ca::new("Test CA");
    let key = KeyPair::generate().unwrap();
    let (revoked, unrelated) = (ca.revoke(7), ca.revoke(9));
    for (revocation, lists, expected) in [
        (Revocation::None, vec![revoked.clone()], None),
        (Revocation::Loose, vec![], None),
        (Revocation::Loose, vec![unrelated.clone()], None),
        (Revocation::Loose, vec![revoked.clone()], Some("is revoked")),
        (Revocation::Strict, vec![unrelated], None),
        (Revocation::Strict, vec![], Some("no revocation list says")),
        (Revocation::Strict, vec![revoked], Some("is revoked")),
    ] {
        let digital = SignatureMethod::Digital;
        let a = plainly(&ca, &own_a(), &key, digital);
        let b = signs(vec![ca.issue(&key, &own_b())], &key, digital, &[&ca], &lists, revocation);
        let pair = connected(both(a, b));
        match expected {
            None => assert_made(&pair),
            Some(expected) => {
                assert!(pair.b.failures()[0].contains(expected), "{expected}: {:?}", pair.b.failures());
            }
        }
    }
}

/// The new owner of an address goes on with the SA, whose proofs nobody knows any more, and proves itself when it is time.
#[test]
fn a_new_owner_goes_on_and_proves_itself_again() {
    let ca = Ca::new("Test CA");
    let key = KeyPair::generate().unwrap();
    let sign = |own: &Own| plainly(&ca, own, &key, SignatureMethod::Digital);
    let (mut a, b) = both(sign(&own_a()), sign(&own_b()));
    a.exchange[0].reauth_interval = Some(Duration::from_secs(1_800));
    let settings = |epoch| Settings { continued: [(ADDRESS_A, epoch)].into(), ..Settings::default() };
    let mut pair = Pair::new(5, &settings(1), a.clone(), b);
    pair.b.engine.set_settings(Settings::default());
    pair.connect(Side::A);
    assert_made(&pair);
    pair.take_over(Side::A, 6, &settings(2), a);
    let unix = pair.unix();
    for snapshot in std::mem::take(&mut pair.a.stored).into_values() {
        let succession = Succession::Failed { next_sequence: 1 << 20 };
        pair.command(Side::A, Command::Restore(Box::new(Restore { snapshot, unix, succession })));
    }
    pair.settle();
    assert_made(&pair);
    let proofs = |pair: &Pair| pair.a.engine.ike_tunnels()[0].proofs;
    assert_eq!(proofs(&pair), None);
    pair.run(Duration::from_secs(2_000));
    assert_made(&pair);
    assert_eq!(proofs(&pair), Some((AuthMethod::DIGITAL_SIGNATURE, AuthMethod::DIGITAL_SIGNATURE)));
}

/// T12, T24: whatever is changed of a certificate or a signature, or cut from it, is refused, and nothing panics.
#[test]
fn t12_t24_changed_and_cut() {
    let ca = Ca::new("Test CA");
    let trust = Trust::new(vec![ca.authority()], vec![], Revocation::Loose);
    let identity = Identity::Fqdn("a.example.net".to_owned());
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P521_SHA512] {
        let key = key(algorithm);
        let certificate = ca.issue(&key, &own_a());
        let credential = Credential::new(vec![certificate.clone()], key.serialized_der()).unwrap();
        for hashes in [&[][..], &[2, 3, 4]] {
            let (method, data) = credential.key().sign(SignatureMethod::Digital, hashes, b"octets").unwrap();
            let verify = |certificate: &[u8], data: &[u8], octets: &[u8]| {
                trust.verify(&[certificate], &identity, (method, data), octets, 1_700_000_000)
            };
            assert_eq!(verify(&certificate, &data, b"octets"), Ok(()));
            assert!(verify(&certificate, &data, b"octetz").is_err());
            for cut in 0..data.len() {
                assert!(verify(&certificate, &data[..cut], b"octets").is_err(), "signature cut to {cut}");
            }
            for at in 0..data.len() {
                let mut changed = data.clone();
                changed[at] ^= 1;
                assert!(verify(&certificate, &changed, b"octets").is_err(), "octet {at} of the signature");
            }
            assert!(verify(&certificate, &[&data[..], &[0]].concat(), b"octets").is_err());
            assert!(verify(&certificate, &vec![0; data.len()], b"octets").is_err());
            for cut in 0..certificate.len() {
                assert!(verify(&certificate[..cut], &data, b"octets").is_err(), "certificate cut to {cut}");
            }
            for at in 0..certificate.len() {
                let mut changed = certificate.clone();
                changed[at] ^= 1;
                assert!(verify(&changed, &data, b"octets").is_err(), "octet {at} of the certificate");
            }
            let nine = vec![certificate.as_slice(); 9];
            assert!(trust.verify(&nine, &identity, (method, &data), b"octets", 1_700_000_000).is_err());
            assert!(trust.verify(&[], &identity, (method, &data), b"octets", 1_700_000_000).is_err());
            let nobody = Trust::new(vec![], vec![], Revocation::Loose);
            assert!(
                nobody.verify(&[&certificate], &identity, (method, &data), b"octets", 1_700_000_000).is_err()
            );
            for other in
                [AuthMethod::NULL, AuthMethod::SHARED_KEY, AuthMethod::DSS_SIGNATURE, AuthMethod(200)]
            {
                assert!(
                    trust
                        .verify(&[&certificate], &identity, (other, &data), b"octets", 1_700_000_000)
                        .is_err()
                );
            }
        }
    }
}
