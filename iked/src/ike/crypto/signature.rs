//! Signatures of the AUTH payload: RSA and ECDSA by their own methods (RFC 7296 section 3.8, RFC 4754), and any of them named by
//! its algorithm (RFC 7427).

use crate::ike::wire::AuthMethod;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature as aws;
use aws_lc_rs::signature::{EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair, RsaEncoding, RsaKeyPair};
use rustls_pki_types::{AlgorithmIdentifier, SignatureVerificationAlgorithm, alg_id};
use thiserror::Error;
use webpki::aws_lc_rs as algorithms;
use zeroize::Zeroizing;

/// What a DER SEQUENCE begins with.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 2;

/// Hashes of RFC 7427 that are made and taken: SHA2-256, SHA2-384, SHA2-512 (IANA).
pub const SIGNATURE_HASHES: [u16; 3] = [2, 3, 4];

/// How this side signs (HowToAuthMe).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureMethod {
    /// RSA, PKCS#1 v1.5 with SHA2-256.
    Rsa,
    /// ECDSA on P-256 with SHA2-256.
    Ecdsa256,
    /// ECDSA on P-384 with SHA2-384.
    Ecdsa384,
    /// ECDSA on P-521 with SHA2-512.
    Ecdsa521,
    /// What fits the key, named by its algorithm; a peer that does not know that gets the method of the key.
    Digital,
}

/// Kinds of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    P521,
}

/// A private key for signatures.
pub struct SigningKey {
    kind: Kind,
    pkcs8: Zeroizing<Vec<u8>>,
    public: Vec<u8>,
}

/// The key cannot sign in this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the key cannot sign in this way")]
pub struct CannotSign;

/// Why a signature is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// A method that is no signature, or none that is supported.
    #[error("authentication method {0} is not supported")]
    Method(AuthMethod),
    /// RFC 7427: an algorithm that is not known, or not allowed: SHA-1, parameters that nobody means.
    #[error("a signature algorithm that is not supported")]
    Algorithm,
    /// It is not the signature of the certificate's key.
    #[error("the signature is wrong")]
    Wrong,
}

/// The curves' signatures, as their own methods have them and as RFC 7427 does.
type Curve = (&'static EcdsaSigningAlgorithm, &'static EcdsaSigningAlgorithm, AlgorithmIdentifier);

impl Kind {
    fn curve(self) -> Option<Curve> {
        Some(match self {
            Self::Rsa => return None,
            Self::P256 => (
                &aws::ECDSA_P256_SHA256_FIXED_SIGNING,
                &aws::ECDSA_P256_SHA256_ASN1_SIGNING,
                alg_id::ECDSA_SHA256,
            ),
            Self::P384 => (
                &aws::ECDSA_P384_SHA384_FIXED_SIGNING,
                &aws::ECDSA_P384_SHA384_ASN1_SIGNING,
                alg_id::ECDSA_SHA384,
            ),
            Self::P521 => (
                &aws::ECDSA_P521_SHA512_FIXED_SIGNING,
                &aws::ECDSA_P521_SHA512_ASN1_SIGNING,
                alg_id::ECDSA_SHA512,
            ),
        })
    }

    /// Number of its hash in RFC 7427.
    const fn hash(self) -> u16 {
        match self {
            Self::Rsa | Self::P256 => 2,
            Self::P384 => 3,
            Self::P521 => 4,
        }
    }

    const fn method(self) -> AuthMethod {
        match self {
            Self::Rsa => AuthMethod::RSA_SIGNATURE,
            Self::P256 => AuthMethod::ECDSA_SHA256_P256,
            Self::P384 => AuthMethod::ECDSA_SHA384_P384,
            Self::P521 => AuthMethod::ECDSA_SHA512_P521,
        }
    }
}

impl SigningKey {
    /// Of a PKCS#8 document; `None` if it is none, or of a kind that is not supported.
    #[must_use]
    pub fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let pkcs8 = Zeroizing::new(der.to_vec());
        if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
            let public = pair.public_key().as_ref().to_vec();
            // What peers verify: RFC 8247 section 4.1 asks for 2048 bits.
            return (256..=1024).contains(&pair.public_modulus_len()).then_some(Self {
                kind: Kind::Rsa,
                pkcs8,
                public,
            });
        }
        [Kind::P256, Kind::P384, Kind::P521].into_iter().find_map(|kind| {
            let pair = EcdsaKeyPair::from_pkcs8(kind.curve()?.0, der).ok()?;
            Some(Self { kind, pkcs8: pkcs8.clone(), public: pair.public_key().as_ref().to_vec() })
        })
    }

    /// The subjectPublicKey of its certificate.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// Whether it can sign so.
    #[must_use]
    pub fn can(&self, method: SignatureMethod) -> bool {
        match method {
            SignatureMethod::Rsa => self.kind == Kind::Rsa,
            SignatureMethod::Ecdsa256 => self.kind == Kind::P256,
            SignatureMethod::Ecdsa384 => self.kind == Kind::P384,
            SignatureMethod::Ecdsa521 => self.kind == Kind::P521,
            SignatureMethod::Digital => true,
        }
    }

    /// Method and data of the AUTH payload over `octets`, for a peer that takes these `hashes` in RFC 7427; none: it does not
    /// know it.
    ///
    /// Salts and nonces come from the system's random source, which is the library's rule.
    ///
    /// # Errors
    /// The key is of another kind than the method.
    pub fn sign(
        &self,
        method: SignatureMethod,
        hashes: &[u16],
        octets: &[u8],
    ) -> Result<(AuthMethod, Vec<u8>), CannotSign> {
        if !self.can(method) {
            return Err(CannotSign);
        }
        let named = method == SignatureMethod::Digital && hashes.contains(&self.kind.hash());
        let (identifier, signature) = match self.kind.curve() {
            None if named => (alg_id::RSA_PSS_SHA256, self.rsa(&aws::RSA_PSS_SHA256, octets)?),
            None => (alg_id::RSA_PKCS1_SHA256, self.rsa(&aws::RSA_PKCS1_SHA256, octets)?),
            Some((_, asn1, identifier)) if named => (identifier, self.ecdsa(asn1, octets)?),
            Some((fixed, _, identifier)) => (identifier, self.ecdsa(fixed, octets)?),
        };
        if !named {
            return Ok((self.kind.method(), signature));
        }
        // RFC 7427 section 3: length of the AlgorithmIdentifier, the AlgorithmIdentifier, the signature.
        let mut data = sequence(&identifier);
        data.insert(0, u8::try_from(data.len()).map_err(|_| CannotSign)?);
        data.extend_from_slice(&signature);
        Ok((AuthMethod::DIGITAL_SIGNATURE, data))
    }

    fn rsa(&self, encoding: &'static dyn RsaEncoding, octets: &[u8]) -> Result<Vec<u8>, CannotSign> {
        let pair = RsaKeyPair::from_pkcs8(&self.pkcs8).map_err(|_| CannotSign)?;
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), octets, &mut signature).map_err(|_| CannotSign)?;
        Ok(signature)
    }

    fn ecdsa(&self, algorithm: &'static EcdsaSigningAlgorithm, octets: &[u8]) -> Result<Vec<u8>, CannotSign> {
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &self.pkcs8).map_err(|_| CannotSign)?;
        let signature = pair.sign(&SystemRandom::new(), octets).map_err(|_| CannotSign)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({:?})", self.kind)
    }
}

/// What is verified: SHA-2 with RSA of 2048 to 8192 bits or the three curves; SHA-1 is not among it (RFC 8247 section 4.2).
pub(crate) const VERIFIED: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P256_SHA512,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ECDSA_P384_SHA512,
    algorithms::ECDSA_P521_SHA256,
    algorithms::ECDSA_P521_SHA384,
    algorithms::ECDSA_P521_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
];

/// Checks the data of an AUTH payload against the key of `signer`.
///
/// # Errors
/// It is not the signer's signature over `octets`, or one that is not taken at all.
pub(crate) fn verify(
    signer: &webpki::EndEntityCert<'_>,
    method: AuthMethod,
    data: &[u8],
    octets: &[u8],
) -> Result<(), SignatureError> {
    let by = |algorithm: &&dyn SignatureVerificationAlgorithm, signature: &[u8]| {
        signer.verify_signature(*algorithm, octets, signature).is_ok()
    };
    let proved = match method {
        // The hash is named in the signature itself: the one that was meant is the one that fits.
        AuthMethod::RSA_SIGNATURE => [
            algorithms::RSA_PKCS1_2048_8192_SHA256,
            algorithms::RSA_PKCS1_2048_8192_SHA384,
            algorithms::RSA_PKCS1_2048_8192_SHA512,
        ]
        .iter()
        .any(|algorithm| by(algorithm, data)),
        AuthMethod::ECDSA_SHA256_P256 => {
            fixed(data, 32).is_some_and(|s| by(&algorithms::ECDSA_P256_SHA256, &s))
        }
        AuthMethod::ECDSA_SHA384_P384 => {
            fixed(data, 48).is_some_and(|s| by(&algorithms::ECDSA_P384_SHA384, &s))
        }
        AuthMethod::ECDSA_SHA512_P521 => {
            fixed(data, 66).is_some_and(|s| by(&algorithms::ECDSA_P521_SHA512, &s))
        }
        AuthMethod::DIGITAL_SIGNATURE => {
            let (identifier, signature) = parted(data).ok_or(SignatureError::Algorithm)?;
            let mut named =
                VERIFIED.iter().filter(|a| sequence(&a.signature_alg_id()) == identifier).peekable();
            if named.peek().is_none() {
                return Err(SignatureError::Algorithm);
            }
            named.any(|algorithm| by(algorithm, signature))
        }
        other => return Err(SignatureError::Method(other)),
    };
    if proved { Ok(()) } else { Err(SignatureError::Wrong) }
}

/// AlgorithmIdentifier and signature (RFC 7427 section 3).
fn parted(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = data.split_first()?;
    rest.split_at_checked(length.into())
}

/// A SEQUENCE of this content, which is short.
fn sequence(content: &[u8]) -> Vec<u8> {
    let mut out = vec![SEQUENCE];
    match u8::try_from(content.len()) {
        Ok(length @ ..0x80) => out.push(length),
        Ok(length) => out.extend_from_slice(&[0x81, length]),
        // Nothing that is put here is as long; what were would equal nothing.
        Err(_) => return Vec::new(),
    }
    out.extend_from_slice(content);
    out
}

/// `r | s` of RFC 4754 section 7 as the DER that a verifier takes; `None`: not of this length.
fn fixed(data: &[u8], half: usize) -> Option<Vec<u8>> {
    if data.len() != 2 * half {
        return None;
    }
    let (r, s) = data.split_at(half);
    let mut content = integer(r);
    content.extend(integer(s));
    Some(sequence(&content))
}

/// An unsigned number as a DER INTEGER.
fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|octet| **octet == 0).count().min(number.len() - 1);
    let digits = &number[zeros..];
    let sign = usize::from(digits[0] & 0x80 != 0);
    let length = u8::try_from(digits.len() + sign).unwrap_or(u8::MAX);
    let mut out = vec![INTEGER, length];
    out.extend(std::iter::repeat_n(0, sign));
    out.extend_from_slice(digits);
    out
}
