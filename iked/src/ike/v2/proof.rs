//! Proofs of identity in IKE_AUTH: a shared key or a signature (RFC 7296 section 2.15, RFC 7427).

use super::found::Found;
use crate::ike::context::Context;
use crate::ike::crypto::{AuthInput, SIGNATURE_HASHES, psk_auth, verify_psk_auth};
use crate::ike::failure::{Failure, FailureKind};
use crate::ike::rules::{Authentication, ExchangeRule};
use crate::ike::types::Identity;
use crate::ike::wire::payload::{Auth, Cert, CertReq, Notify};
use crate::ike::wire::{AuthMethod, CertEncoding, NotifyType, Payload};
use std::net::IpAddr;

/// Somebody is not who a rule wants. The peer hears AUTHENTICATION_FAILED whatever it is (T17).
pub(super) fn unproved(text: String) -> Failure {
    Failure::new(FailureKind::Authentication, text)
}

/// SIGNATURE_HASH_ALGORITHMS of this side (RFC 7427 section 4).
pub(super) fn signature_hashes() -> Payload {
    let data = SIGNATURE_HASHES.iter().flat_map(|hash| hash.to_be_bytes()).collect();
    Payload::Notify(Notify::new(NotifyType::SIGNATURE_HASH_ALGORITHMS, data))
}

/// Those of the peer; none: it does not know RFC 7427.
pub(super) fn peer_hashes(found: &Found<'_>) -> Vec<u16> {
    let notify = found.notify(NotifyType::SIGNATURE_HASH_ALGORITHMS);
    let hashes = notify.into_iter().flat_map(|n| n.data.as_chunks().0).map(|pair| u16::from_be_bytes(*pair));
    hashes.filter(|hash| SIGNATURE_HASHES.contains(hash)).collect()
}

/// Authorities that a Certificate Request names at most: it answers a request whose source may be forged, and many would make it
/// larger than that (threats T28). It is a hint: a peer of another authority may send its certificate all the same (RFC 7296
/// section 3.7).
const AUTHORITIES: usize = 8;

/// What asks a peer for its certificate, under the rules that can be its.
pub(super) fn certificate_request(ctx: &Context<'_>, local: IpAddr, remote: IpAddr) -> Option<Payload> {
    request_of(ctx.rules.exchange(local, remote).map(|rule| &**rule))
}

/// What asks the peer of these rules for its certificate.
pub(super) fn request_of<'r>(rules: impl Iterator<Item = &'r ExchangeRule>) -> Option<Payload> {
    let mut authorities: Vec<[u8; 20]> = Vec::new();
    for hash in rules.filter_map(|rule| rule.authentication.trust()).flat_map(|trust| trust.key_hashes()) {
        if authorities.len() == AUTHORITIES {
            break;
        }
        if !authorities.contains(&hash) {
            authorities.push(hash);
        }
    }
    let encoding = CertEncoding::X509_SIGNATURE;
    (!authorities.is_empty())
        .then(|| Payload::CertReq(CertReq { encoding, authorities: authorities.concat() }))
}

/// What proves that this side is the rule's local identity: certificates, and the AUTH payload.
pub(super) fn prove(
    rule: &ExchangeRule,
    input: &AuthInput<'_>,
    peer_hashes: &[u16],
) -> Result<(Vec<Payload>, Auth), Failure> {
    match &rule.authentication {
        Authentication::SharedKey(key) => {
            let auth = Auth { method: AuthMethod::SHARED_KEY, data: psk_auth(key, input) };
            Ok((Vec::new(), auth))
        }
        Authentication::Signature { own, method, .. } => {
            let encoding = CertEncoding::X509_SIGNATURE;
            let certificates =
                own.chain().iter().map(|der| Payload::Cert(Cert { encoding, data: der.clone() })).collect();
            let (method, data) = own
                .key()
                .sign(*method, peer_hashes, &input.octets())
                .map_err(|error| unproved(format!("rule {}: {error}", rule.name)))?;
            Ok((certificates, Auth { method, data }))
        }
    }
}

/// Whether the peer has proved to be `identity`, in the way that the rule wants.
pub(super) fn check(
    rule: &ExchangeRule,
    identity: &Identity,
    auth: &Auth,
    input: &AuthInput<'_>,
    found: &Found<'_>,
    unix: u64,
) -> Result<(), Failure> {
    match &rule.authentication {
        Authentication::SharedKey(_) if auth.method != AuthMethod::SHARED_KEY => Err(unproved(format!(
            "peer {identity} authenticates with {}; rule {} wants the shared key",
            auth.method, rule.name
        ))),
        Authentication::SharedKey(key) if !verify_psk_auth(key, input, &auth.data) => Err(unproved(format!(
            "{identity} did not prove its identity: the shared key of rule {} is another one",
            rule.name
        ))),
        Authentication::SharedKey(_) => Ok(()),
        Authentication::Signature { .. } if auth.method == AuthMethod::SHARED_KEY => Err(unproved(format!(
            "peer {identity} authenticates with a shared key; rule {} wants a signature",
            rule.name
        ))),
        Authentication::Signature { trust, .. } => {
            let certificates: Vec<&[u8]> = found.certificates().collect();
            trust.verify(&certificates, identity, (auth.method, &auth.data), &input.octets(), unix).map_err(
                |why| {
                    let other = if certificates.is_empty() { found.other_certificates() } else { "" };
                    unproved(format!(
                        "{identity} did not prove its identity under rule {}: {why}{other}",
                        rule.name
                    ))
                },
            )
        }
    }
}
