//! IKE SAs with strongSwan whose two sides prove themselves with certificates: RSA and ECDSA, either side begins.
//!
//! ```text
//!   PEER .11 === ext === .1 DIST .1 === xcf === .21 TGT1
//! ```

use anyhow::{Context, Result, ensure};
use e2e::http;
use e2e::lab::Lab;
use e2e::scenario::{DVIPA4, DVIPA6, Options, PEER4, PEER6, SECRET, Sysplex, server};
use e2e::swan::{Certificates, Connection, Swan, missing};
use e2e::wait;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, RsaKeySize,
};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// An authority: its issuer, its certificate in PEM.
fn authority(name: &str) -> Result<(Issuer<'static, KeyPair>, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

/// A certificate for these addresses, in PEM; with so many more names that IKE_AUTH goes in fragments.
fn issue(issuer: &Issuer<'static, KeyPair>, key: &KeyPair, name: &str, addresses: &[&str]) -> Result<String> {
    let more = (0..40).map(|n| format!("one-of-many-names-{n}.example.net"));
    let names: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).chain(more).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params.signed_by(key, issuer)?.pem())
}

/// A keyring that vouches for what `ca` issues.
fn keyring(lab: &Lab, ca: &str, own: &str, key: &KeyPair) -> Result<PathBuf> {
    let folder = lab.folder("keyring")?;
    for of in ["own", "ca"] {
        fs::create_dir_all(folder.join(of))?;
    }
    fs::write(folder.join("ca/lab.pem"), ca)?;
    let file = folder.join("own/dvipa.pem");
    fs::write(&file, own.to_owned() + &key.serialize_pem())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Ok(folder)
}

/// One lab: HowToAuthMe, the keys of both sides, how each is shown to have proved itself.
fn with(name: &str, how: &'static str, ours: &KeyPair, theirs: &KeyPair, shown: (&str, &str)) -> Result<()> {
    let mut lab = Lab::new(name)?;
    let (issuer, ca) = authority("Lab CA")?;
    let own = issue(&issuer, ours, "dvipa.example.net", &[DVIPA4, DVIPA6])?;
    let folder = keyring(&lab, &ca, &own, ours)?;
    let options = Options { targets: 1, keyring: Some((how, folder)), ..Options::default() };
    let plex = Sysplex::start(&mut lab, &options)?;
    let own = issue(&issuer, theirs, "peer.example.net", &[PEER4, PEER6])?;
    let certificates = Some(Certificates { own, key: theirs.serialize_pem(), ca });
    let connection = Connection { certificates, ..Connection::host_to_host("v4", PEER4, DVIPA4, SECRET) };
    let peer = Swan::start(&lab, "PEER", &[connection])?;
    for we_begin in [false, true] {
        let logs = || format!("{name}, we begin: {we_begin}\n{}\n{}", plex.daemon.log(), peer.log());
        if we_begin {
            plex.daemon.ipsec("-p DIST -y activate -l toPeer")?;
        } else {
            peer.initiate("v4").with_context(logs)?;
        }
        let proofs = wait::until("an IKE SA", SOON, || {
            let tunnels = plex.daemon.entries("-p DIST -k display")?;
            ensure!(tunnels.len() == 1 && tunnels[0]["State"] == "DONE", "{tunnels:?}");
            let of = |key: &str| tunnels[0][key].as_str().unwrap_or_default().to_owned();
            Ok((of("LocalAuthenticationMethod"), of("RemoteAuthenticationMethod")))
        })
        .with_context(logs)?;
        ensure!((proofs.0.as_str(), proofs.1.as_str()) == shown, "{proofs:?}\n{}", logs());
        // strongSwan says of what it sends and of what it receives that it is in fragments.
        for said in ["splitting IKE message", "received fragment #2 of"] {
            ensure!(peer.log().contains(said), "{said}\n{}", logs());
        }
        lab.inside("PEER", || http::download(server(false), 100_000, SOON))?
            .with_context(logs)?
            .verify(100_000)?;
        plex.ended_by(&peer, "v4")?;
    }
    Ok(())
}

#[test]
fn strongswan_and_we_prove_ourselves_with_certificates() -> Result<()> {
    if missing() {
        return Ok(());
    }
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    let p256 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?;
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512)?;
    let digital = ("DigitalSignature", "DigitalSignature");
    with("certrsa", "DigitalSignature", &rsa, &rsa, digital)?;
    with("certecdsa", "DigitalSignature", &p384, &p256, digital)?;
    with("certown", "ECDSA-521", &p521, &p521, ("ECDSA-521", "DigitalSignature"))
}

#[test]
fn a_peer_of_another_authority_is_refused_and_its_reason_is_said() -> Result<()> {
    if missing() {
        return Ok(());
    }
    let mut lab = Lab::new("certother")?;
    let (issuer, ca) = authority("Lab CA")?;
    let (other, other_ca) = authority("Other CA")?;
    let (ours, theirs) = (KeyPair::generate()?, KeyPair::generate()?);
    let own = issue(&issuer, &ours, "dvipa.example.net", &[DVIPA4, DVIPA6])?;
    let folder = keyring(&lab, &ca, &own, &ours)?;
    let options =
        Options { targets: 1, keyring: Some(("DigitalSignature", folder.clone())), ..Options::default() };
    let plex = Sysplex::start(&mut lab, &options)?;
    let own = issue(&other, &theirs, "peer.example.net", &[PEER4])?;
    let certificates = Some(Certificates { own, key: theirs.serialize_pem(), ca: ca.clone() });
    let connection = Connection { certificates, ..Connection::host_to_host("v4", PEER4, DVIPA4, SECRET) };
    let peer = Swan::start(&lab, "PEER", &[connection])?;
    ensure!(peer.initiate("v4").is_err(), "taken\n{}", plex.daemon.log());
    let log = plex.daemon.log();
    ensure!(log.contains("no path from the certificate of CN=peer.example.net to CN=Lab CA"), "{log}");
    // The other authority is put into the keyring, and the policy read again.
    fs::write(folder.join("ca/other.pem"), other_ca)?;
    plex.daemon.ipsec("-p DIST -f reload")?;
    peer.initiate("v4").with_context(|| format!("{}\n{}", plex.daemon.log(), peer.log()))
}
