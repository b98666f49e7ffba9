//! The ciphers of ESP and the integrity algorithms of ESP and AH behind one enum each: one direction of an SA.
//!
//! Keys come in the order of RFC 7296 section 2.17: encryption key, then the salt of AES-GCM (RFC 4106 section 8.1), of
//! ChaCha20-Poly1305 (RFC 7634 section 2) or the nonce of AES-CTR (RFC 3686 section 5.1), then the integrity key. The
//! libraries wipe their key schedules; what is kept here beside them is wiped too. Of an SA pair with AH its key comes
//! last.

mod ah;
mod combined;
mod des;
pub(crate) mod mac;
mod separate;
mod suite;
mod xcbc;

pub use ah::AhKey;
pub use combined::AeadKey;
pub use separate::{SeparateOpener, SeparateSealer};

use crate::control::{AhIntegrity, BareCipher, EspIntegrity, EspSuite};
use separate::Kind;

/// Longest IV of a suite.
pub const MAX_IV: usize = 16;
/// Longest ICV of a suite.
pub const MAX_ICV: usize = 32;

/// Keying material that does not fit its suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A key size that AES does not have.
    #[error("AES key of {0} bits")]
    KeyBits(u16),
    /// Too many or too few octets.
    #[error("{have} octets of keying material where {suite:?} takes {want}")]
    Length {
        /// The suite.
        suite: EspSuite,
        /// What it takes.
        want: usize,
        /// What there is.
        have: usize,
    },
    /// The library refused the key.
    #[error("the cryptographic library refused the key")]
    Library,
}

/// The integrity check failed, and that is all there is to say (threats T25).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the integrity check failed")]
pub struct IntegrityError;

/// Protects the outbound packets of an SA.
#[derive(Debug)]
pub enum Sealer {
    /// AES-GCM, ChaCha20-Poly1305.
    Aead(AeadKey),
    /// AES-GMAC.
    Gmac(AeadKey),
    /// A cipher and an integrity algorithm.
    Separate(Box<SeparateSealer>),
}

/// Opens the inbound packets of an SA.
#[derive(Debug)]
pub enum Opener {
    /// AES-GCM, ChaCha20-Poly1305.
    Aead(AeadKey),
    /// AES-GMAC.
    Gmac(AeadKey),
    /// A cipher and an integrity algorithm.
    Separate(Box<SeparateOpener>),
}

/// How ESP is made of a cipher and an integrity algorithm; `None`: it is an AEAD.
fn separate(suite: EspSuite) -> Option<(Kind, Option<EspIntegrity>)> {
    match suite {
        EspSuite::AesGcm16 { .. } | EspSuite::ChaCha20Poly1305 | EspSuite::AesGmac { .. } => None,
        EspSuite::AesCbc { integrity, .. } => Some((Kind::Cbc, Some(integrity))),
        EspSuite::AesCtr { integrity, .. } => Some((Kind::Ctr, Some(integrity))),
        EspSuite::TripleDes { integrity } | EspSuite::Des { integrity } => Some((Kind::Des, Some(integrity))),
        EspSuite::Null { integrity } => Some((Kind::Null, Some(integrity))),
        EspSuite::Ah { .. } => Some((Kind::Null, None)),
        EspSuite::AhEsp { cipher, .. } => Some((
            match cipher {
                BareCipher::AesCbc { .. } => Kind::Cbc,
                BareCipher::AesCtr { .. } => Kind::Ctr,
                BareCipher::TripleDes | BareCipher::Des => Kind::Des,
            },
            None,
        )),
    }
}

/// The part of the keying material that is ESP's.
fn of_esp(suite: EspSuite, key: &[u8]) -> Result<&[u8], KeyError> {
    check_length(suite, key)?;
    let of_ah = suite.ah().map_or(Ok(0), AhIntegrity::key_len)?;
    Ok(&key[..key.len() - of_ah])
}

fn check_length(suite: EspSuite, key: &[u8]) -> Result<(), KeyError> {
    let want = suite.key_len()?;
    if key.len() == want { Ok(()) } else { Err(KeyError::Length { suite, want, have: key.len() }) }
}

impl Sealer {
    /// Takes the keying material of one direction.
    ///
    /// # Errors
    /// When it does not fit the suite.
    pub fn new(suite: EspSuite, key: &[u8]) -> Result<Self, KeyError> {
        let key = of_esp(suite, key)?;
        if let Some((kind, integrity)) = separate(suite) {
            return Ok(Self::Separate(Box::new(SeparateSealer::new(kind, integrity, key)?)));
        }
        match suite {
            EspSuite::ChaCha20Poly1305 => Ok(Self::Aead(AeadKey::chacha20(key)?)),
            EspSuite::AesGmac { .. } => Ok(Self::Gmac(AeadKey::aes(key)?)),
            _ => Ok(Self::Aead(AeadKey::aes(key)?)),
        }
    }

    /// From now on `salt` is a part of every IV that AES-CBC, 3DES and DES encrypt their numbers to. Keys that somebody typed
    /// are used again with the numbers from 1: then their IVs must not come again.
    pub fn salt_ivs(&mut self, salt: u64) {
        if let Self::Separate(sealer) = self {
            sealer.salt_ivs(salt);
        }
    }

    /// Encrypts `packet` in place and writes IV and ICV.
    ///
    /// `packet` is the ESP header, room for the IV, the plaintext with its trailer (a multiple of the suite's
    /// alignment) and room for the ICV. `sequence` is the whole sequence number, never used before with this key: it is
    /// the IV where a unique one is asked for (RFC 4106 section 3.1, RFC 3686 section 3.1, RFC 7634 section 2), and
    /// AES-CBC's IV is the encryption of it under the same key (NIST SP 800-38A appendix C), unpredictable as RFC 3602
    /// section 3 asks.
    ///
    /// # Errors
    /// Never with the lengths above.
    pub fn seal(&self, packet: &mut [u8], sequence: u64, esn: bool) -> Result<(), IntegrityError> {
        #[allow(clippy::cast_possible_truncation, reason = "the high half")]
        let esn_high = esn.then_some((sequence >> 32) as u32);
        match self {
            Self::Aead(k) => k.seal(packet, sequence, esn_high),
            Self::Gmac(k) => k.sign(packet, sequence, esn_high),
            Self::Separate(k) => k.seal(packet, sequence, esn_high),
        }
    }
}

impl Opener {
    /// Takes the keying material of one direction.
    ///
    /// # Errors
    /// When it does not fit the suite.
    pub fn new(suite: EspSuite, key: &[u8]) -> Result<Self, KeyError> {
        let key = of_esp(suite, key)?;
        if let Some((kind, integrity)) = separate(suite) {
            return Ok(Self::Separate(Box::new(SeparateOpener::new(kind, integrity, key)?)));
        }
        match suite {
            EspSuite::ChaCha20Poly1305 => Ok(Self::Aead(AeadKey::chacha20(key)?)),
            EspSuite::AesGmac { .. } => Ok(Self::Gmac(AeadKey::aes(key)?)),
            _ => Ok(Self::Aead(AeadKey::aes(key)?)),
        }
    }

    /// Checks and decrypts `packet` (from the ESP header to the ICV) in place; afterwards the plaintext with its trailer
    /// stands between IV and ICV. `esn_high` is what the receiver takes the high half of the sequence number for.
    ///
    /// # Errors
    /// When the packet is too short, not whole blocks, or not authentic: not told apart (threats T25).
    pub fn open(&self, packet: &mut [u8], esn_high: Option<u32>) -> Result<(), IntegrityError> {
        match self {
            Self::Aead(k) => k.open(packet, esn_high),
            Self::Gmac(k) => k.verify(packet, esn_high),
            Self::Separate(k) => k.open(packet, esn_high),
        }
    }
}
