//! The ciphers of ESP behind one enum: encryption and integrity of one direction of an SA.
//!
//! Keys come in the order of RFC 7296 section 2.17: encryption key, then the salt of AES-GCM (RFC 4106 section 8.1) or
//! the integrity key. The libraries wipe their key schedules; what is kept here beside them is wiped too.

use crate::control::{EspIntegrity, EspSuite};
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    self, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Longest IV of a suite.
pub const MAX_IV: usize = 16;
/// Longest ICV of a suite.
pub const MAX_ICV: usize = 32;
const AES_BLOCK: usize = 16;
const GCM_IV: usize = 8;
const GCM_ICV: usize = 16;
const SALT: usize = 4;

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

impl EspSuite {
    /// Octets of keying material that one direction takes.
    pub fn key_len(self) -> Result<usize, KeyError> {
        let cipher = |bits: u16| match bits {
            128 | 192 | 256 => Ok(usize::from(bits / 8)),
            _ => Err(KeyError::KeyBits(bits)),
        };
        match self {
            Self::AesGcm16 { key_bits: 192 } => Err(KeyError::KeyBits(192)),
            Self::AesGcm16 { key_bits } => Ok(cipher(key_bits)? + SALT),
            Self::AesCbc { key_bits, integrity } => Ok(cipher(key_bits)? + integrity.key_len()),
        }
    }
    /// Octets of the IV in each packet.
    #[must_use]
    pub const fn iv_len(self) -> usize {
        match self {
            Self::AesGcm16 { .. } => GCM_IV,
            Self::AesCbc { .. } => AES_BLOCK,
        }
    }
    /// Octets of the ICV.
    #[must_use]
    pub const fn icv_len(self) -> usize {
        match self {
            Self::AesGcm16 { .. } => GCM_ICV,
            Self::AesCbc { integrity, .. } => integrity.key_len() / 2,
        }
    }
    /// What the plaintext with its trailer is a multiple of (RFC 4303 section 2.4: at least 4).
    #[must_use]
    pub const fn alignment(self) -> usize {
        match self {
            Self::AesGcm16 { .. } => 4,
            Self::AesCbc { .. } => AES_BLOCK,
        }
    }
}

impl EspIntegrity {
    /// Octets of the key (RFC 4868 section 2.1.1); the ICV is half of it.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }
    fn algorithm(self) -> hmac::Algorithm {
        match self {
            Self::HmacSha256 => hmac::HMAC_SHA256,
            Self::HmacSha384 => hmac::HMAC_SHA384,
            Self::HmacSha512 => hmac::HMAC_SHA512,
        }
    }
}

/// Protects the outbound packets of an SA.
#[derive(Debug)]
pub enum Sealer {
    /// AES-GCM.
    Gcm(GcmKey),
    /// AES-CBC with HMAC.
    Cbc(Box<CbcSealer>),
}

/// Opens the inbound packets of an SA.
#[derive(Debug)]
pub enum Opener {
    /// AES-GCM.
    Gcm(GcmKey),
    /// AES-CBC with HMAC.
    Cbc(Box<CbcOpener>),
}

/// Key and salt of AES-GCM.
pub struct GcmKey {
    key: LessSafeKey,
    salt: Zeroizing<[u8; SALT]>,
}

/// AES-CBC encryption and HMAC.
pub struct CbcSealer {
    key: EncryptingKey,
    mac: hmac::Key,
    icv: usize,
}

/// AES-CBC decryption and HMAC.
pub struct CbcOpener {
    key: DecryptingKey,
    mac: hmac::Key,
    icv: usize,
}

impl std::fmt::Debug for GcmKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GcmKey(..)")
    }
}

impl std::fmt::Debug for CbcSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CbcSealer(..)")
    }
}

impl std::fmt::Debug for CbcOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CbcOpener(..)")
    }
}

impl GcmKey {
    fn new(key: &[u8], salt: &[u8]) -> Result<Self, KeyError> {
        let algorithm = if key.len() == 16 { &aead::AES_128_GCM } else { &aead::AES_256_GCM };
        let key = UnboundKey::new(algorithm, key).map_err(|_| KeyError::Library)?;
        let mut s = Zeroizing::new([0; SALT]);
        s.copy_from_slice(salt);
        Ok(Self { key: LessSafeKey::new(key), salt: s })
    }

    /// Salt and IV (RFC 4106 section 4).
    fn nonce(&self, iv: [u8; GCM_IV]) -> Nonce {
        let mut n = [0; SALT + GCM_IV];
        n[..SALT].copy_from_slice(self.salt.as_slice());
        n[SALT..].copy_from_slice(&iv);
        Nonce::assume_unique_for_key(n)
    }
}

/// Additional authenticated data (RFC 4106 section 5): SPI and sequence number, of 64 bits with ESN. `header` is the
/// ESP header as it stands in the packet.
struct GcmAad {
    bytes: [u8; 12],
    len: usize,
}

impl GcmAad {
    fn new(header: [u8; 8], esn_high: Option<u32>) -> Self {
        let mut bytes = [0; 12];
        let Some(high) = esn_high else {
            bytes[..8].copy_from_slice(&header);
            return Self { bytes, len: 8 };
        };
        bytes[..4].copy_from_slice(&header[..4]);
        bytes[4..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&header[4..]);
        Self { bytes, len: 12 }
    }
    fn aad(&self) -> Aad<&[u8]> {
        Aad::from(&self.bytes[..self.len])
    }
}

fn cbc_keys(suite_integrity: EspIntegrity, key: &[u8]) -> Result<(UnboundCipherKey, hmac::Key), KeyError> {
    let (encryption, integrity) = key.split_at(key.len() - suite_integrity.key_len());
    let algorithm = match encryption.len() {
        16 => &cipher::AES_128,
        24 => &cipher::AES_192,
        _ => &cipher::AES_256,
    };
    let unbound = UnboundCipherKey::new(algorithm, encryption).map_err(|_| KeyError::Library)?;
    Ok((unbound, hmac::Key::new(suite_integrity.algorithm(), integrity)))
}

fn check_length(suite: EspSuite, key: &[u8]) -> Result<(), KeyError> {
    let want = suite.key_len()?;
    if key.len() == want { Ok(()) } else { Err(KeyError::Length { suite, want, have: key.len() }) }
}

/// RFC 4303 section 2.2.1: the high-order bits are appended to what is authenticated, not sent.
fn mac(key: &hmac::Key, packet: &[u8], esn_high: Option<u32>) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(packet);
    if let Some(high) = esn_high {
        context.update(&high.to_be_bytes());
    }
    context.sign()
}

impl Sealer {
    /// Takes the keying material of one direction.
    pub fn new(suite: EspSuite, key: &[u8]) -> Result<Self, KeyError> {
        check_length(suite, key)?;
        Ok(match suite {
            EspSuite::AesGcm16 { .. } => {
                let (key, salt) = key.split_at(key.len() - SALT);
                Self::Gcm(GcmKey::new(key, salt)?)
            }
            EspSuite::AesCbc { integrity, .. } => {
                let (unbound, mac) = cbc_keys(integrity, key)?;
                let key = EncryptingKey::cbc(unbound).map_err(|_| KeyError::Library)?;
                Self::Cbc(Box::new(CbcSealer { key, mac, icv: integrity.key_len() / 2 }))
            }
        })
    }

    /// Encrypts `packet` in place and writes IV and ICV.
    ///
    /// `packet` is the ESP header, room for the IV, the plaintext with its trailer (a multiple of the suite's
    /// alignment) and room for the ICV. `sequence` is the whole sequence number, never used before with this key: it is
    /// the IV of AES-GCM (RFC 4106 section 3.1 asks for unique ones), and AES-CBC's IV is the encryption of it under
    /// the same key (NIST SP 800-38A appendix C), unpredictable as RFC 3602 section 3 asks.
    ///
    /// # Errors
    /// Never with the lengths above.
    pub fn seal(&self, packet: &mut [u8], sequence: u64, esn: bool) -> Result<(), IntegrityError> {
        #[allow(clippy::cast_possible_truncation, reason = "the high half")]
        let esn_high = esn.then_some((sequence >> 32) as u32);
        match self {
            Self::Gcm(k) => {
                let (header, rest) = packet.split_first_chunk_mut::<8>().ok_or(IntegrityError)?;
                let (iv, rest) = rest.split_first_chunk_mut::<GCM_IV>().ok_or(IntegrityError)?;
                let (text, icv) = rest.split_last_chunk_mut::<GCM_ICV>().ok_or(IntegrityError)?;
                *iv = sequence.to_be_bytes();
                let aad = GcmAad::new(*header, esn_high);
                let tag = k
                    .key
                    .seal_in_place_separate_tag(k.nonce(*iv), aad.aad(), text)
                    .map_err(|_| IntegrityError)?;
                icv.copy_from_slice(tag.as_ref());
                Ok(())
            }
            Self::Cbc(k) => {
                let end = packet.len().checked_sub(k.icv).ok_or(IntegrityError)?;
                let (covered, icv) = packet.split_at_mut(end);
                // Block 0 is the number: encrypted with a zero IV it becomes the IV of what follows, in the same pass.
                let text = covered.get_mut(8..).ok_or(IntegrityError)?;
                let block: &mut [u8; AES_BLOCK] = text.first_chunk_mut().ok_or(IntegrityError)?;
                *block = u128::from(sequence).to_be_bytes();
                let zero = EncryptionContext::Iv128(FixedLength::from([0; AES_BLOCK]));
                k.key.less_safe_encrypt(text, zero).map_err(|_| IntegrityError)?;
                icv.copy_from_slice(&mac(&k.mac, covered, esn_high).as_ref()[..k.icv]);
                Ok(())
            }
        }
    }
}

impl Opener {
    /// Takes the keying material of one direction.
    pub fn new(suite: EspSuite, key: &[u8]) -> Result<Self, KeyError> {
        check_length(suite, key)?;
        Ok(match suite {
            EspSuite::AesGcm16 { .. } => {
                let (key, salt) = key.split_at(key.len() - SALT);
                Self::Gcm(GcmKey::new(key, salt)?)
            }
            EspSuite::AesCbc { integrity, .. } => {
                let (unbound, mac) = cbc_keys(integrity, key)?;
                let key = DecryptingKey::cbc(unbound).map_err(|_| KeyError::Library)?;
                Self::Cbc(Box::new(CbcOpener { key, mac, icv: integrity.key_len() / 2 }))
            }
        })
    }

    /// Checks and decrypts `packet` (from the ESP header to the ICV) in place; afterwards the plaintext with its trailer
    /// stands between IV and ICV. `esn_high` is what the receiver takes the high half of the sequence number for.
    ///
    /// # Errors
    /// When the packet is too short, not whole blocks, or not authentic: not told apart (threats T25).
    pub fn open(&self, packet: &mut [u8], esn_high: Option<u32>) -> Result<(), IntegrityError> {
        match self {
            Self::Gcm(k) => {
                let (header, rest) = packet.split_first_chunk_mut::<8>().ok_or(IntegrityError)?;
                let (iv, text) = rest.split_first_chunk_mut::<GCM_IV>().ok_or(IntegrityError)?;
                let aad = GcmAad::new(*header, esn_high);
                k.key.open_in_place(k.nonce(*iv), aad.aad(), text).map_err(|_| IntegrityError)?;
                Ok(())
            }
            Self::Cbc(k) => {
                let end = packet.len().checked_sub(k.icv).ok_or(IntegrityError)?;
                let (covered, icv) = packet.split_at_mut(end);
                let want = mac(&k.mac, covered, esn_high);
                if !bool::from(want.as_ref()[..k.icv].ct_eq(icv)) {
                    return Err(IntegrityError);
                }
                let body = covered.get_mut(8..).ok_or(IntegrityError)?;
                let (iv, text) = body.split_first_chunk_mut::<AES_BLOCK>().ok_or(IntegrityError)?;
                let iv = DecryptionContext::Iv128(FixedLength::from(*iv));
                k.key.decrypt(text, iv).map_err(|_| IntegrityError)?;
                Ok(())
            }
        }
    }
}
