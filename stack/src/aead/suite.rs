//! What each suite takes: keying material, IV, ICV, alignment.

use super::KeyError;
use crate::control::{AhIntegrity, BareCipher, EspIntegrity, EspSuite};

/// Block of AES.
pub(super) const AES_BLOCK: usize = 16;
/// IV that a counter fills: AES-GCM (RFC 4106), AES-GMAC (RFC 4543), AES-CTR (RFC 3686), ChaCha20-Poly1305 (RFC 7634).
pub(super) const COUNTER_IV: usize = 8;
/// Tag of an AEAD.
pub(super) const TAG: usize = 16;
/// Salt, or nonce in the words of RFC 3686, behind the key.
pub(super) const SALT: usize = 4;
/// Block, and IV, of DES and 3DES.
pub(super) const DES_BLOCK: usize = 8;
/// Keys of DES and 3DES, with their parity bits.
const DES_KEY: usize = 8;
const TRIPLE_DES_KEY: usize = 24;
/// Key of ChaCha20.
const CHACHA_KEY: usize = 32;

/// Octets of an AES key.
fn aes(bits: u16) -> Result<usize, KeyError> {
    match bits {
        128 | 192 | 256 => Ok(usize::from(bits / 8)),
        _ => Err(KeyError::KeyBits(bits)),
    }
}

/// Octets of the key and salt of AES-GCM and AES-GMAC. The library has no AES-192-GCM, and RFC 8221 section 5 asks for
/// none.
fn gcm(bits: u16) -> Result<usize, KeyError> {
    if bits == 192 { Err(KeyError::KeyBits(bits)) } else { Ok(aes(bits)? + SALT) }
}

impl EspSuite {
    /// Octets of keying material that one direction takes.
    ///
    /// # Errors
    /// A key size that the algorithm does not have.
    pub fn key_len(self) -> Result<usize, KeyError> {
        match self {
            Self::AesGcm16 { key_bits } | Self::AesGmac { key_bits } => gcm(key_bits),
            Self::ChaCha20Poly1305 => Ok(CHACHA_KEY + SALT),
            Self::AesCbc { key_bits, integrity } => Ok(aes(key_bits)? + integrity.key_len()),
            Self::AesCtr { key_bits, integrity } => Ok(aes(key_bits)? + SALT + integrity.key_len()),
            Self::Null { integrity } => Ok(integrity.key_len()),
            Self::TripleDes { integrity } => Ok(TRIPLE_DES_KEY + integrity.key_len()),
            Self::Des { integrity } => Ok(DES_KEY + integrity.key_len()),
            Self::Ah { integrity } => integrity.key_len(),
            Self::AhEsp { cipher, integrity, .. } => Ok(cipher.key_len()? + integrity.key_len()),
        }
    }

    /// Octets of the IV of ESP in each packet.
    #[must_use]
    pub const fn iv_len(self) -> usize {
        match self {
            Self::AesGcm16 { .. } | Self::AesGmac { .. } | Self::ChaCha20Poly1305 | Self::AesCtr { .. } => {
                COUNTER_IV
            }
            Self::AesCbc { .. } => AES_BLOCK,
            Self::TripleDes { .. } | Self::Des { .. } => DES_BLOCK,
            Self::AhEsp { cipher, .. } => cipher.iv_len(),
            Self::Null { .. } | Self::Ah { .. } => 0,
        }
    }

    /// Octets of the ICV of ESP.
    #[must_use]
    pub const fn icv_len(self) -> usize {
        match self {
            Self::AesGcm16 { .. } | Self::AesGmac { .. } | Self::ChaCha20Poly1305 => TAG,
            Self::AesCbc { integrity, .. }
            | Self::AesCtr { integrity, .. }
            | Self::Null { integrity }
            | Self::TripleDes { integrity }
            | Self::Des { integrity } => integrity.icv_len(),
            Self::Ah { .. } | Self::AhEsp { .. } => 0,
        }
    }

    /// What the plaintext with its trailer is a multiple of (RFC 4303 section 2.4: at least 4).
    #[must_use]
    pub const fn alignment(self) -> usize {
        match self {
            Self::AesCbc { .. } | Self::AhEsp { cipher: BareCipher::AesCbc { .. }, .. } => AES_BLOCK,
            Self::TripleDes { .. }
            | Self::Des { .. }
            | Self::AhEsp { cipher: BareCipher::TripleDes | BareCipher::Des, .. } => DES_BLOCK,
            Self::AesGcm16 { .. }
            | Self::AesGmac { .. }
            | Self::ChaCha20Poly1305
            | Self::AesCtr { .. }
            | Self::AhEsp { cipher: BareCipher::AesCtr { .. }, .. }
            | Self::Ah { .. }
            | Self::Null { .. } => 4,
        }
    }

    /// Whether the content can be read by who sees the packet.
    #[must_use]
    pub const fn is_in_clear(self) -> bool {
        matches!(self, Self::AesGmac { .. } | Self::Null { .. } | Self::Ah { .. })
    }

    /// What AH authenticates with, if there is AH.
    #[must_use]
    pub const fn ah(self) -> Option<AhIntegrity> {
        match self {
            Self::Ah { integrity } => Some(integrity),
            Self::AhEsp { integrity, .. } => Some(AhIntegrity::Mac(integrity)),
            _ => None,
        }
    }

    /// Whether there is ESP.
    #[must_use]
    pub const fn has_esp(self) -> bool {
        !matches!(self, Self::Ah { .. })
    }
}

impl BareCipher {
    /// Octets of the key, with the nonce of AES-CTR.
    ///
    /// # Errors
    /// A key size that the algorithm does not have.
    pub fn key_len(self) -> Result<usize, KeyError> {
        match self {
            Self::AesCbc { key_bits } => aes(key_bits),
            Self::AesCtr { key_bits } => Ok(aes(key_bits)? + SALT),
            Self::TripleDes => Ok(TRIPLE_DES_KEY),
            Self::Des => Ok(DES_KEY),
        }
    }

    const fn iv_len(self) -> usize {
        match self {
            Self::AesCbc { .. } => AES_BLOCK,
            Self::AesCtr { .. } => COUNTER_IV,
            Self::TripleDes | Self::Des => DES_BLOCK,
        }
    }
}

impl AhIntegrity {
    /// Octets of the key, with the salt of AES-GMAC.
    ///
    /// # Errors
    /// A key size that the algorithm does not have.
    pub fn key_len(self) -> Result<usize, KeyError> {
        match self {
            Self::Mac(integrity) => Ok(integrity.key_len()),
            Self::AesGmac { key_bits } => gcm(key_bits),
        }
    }

    /// Octets of the ICV field of AH, without padding. That of AES-GMAC begins with its IV (RFC 4543 section 4).
    #[must_use]
    pub const fn icv_len(self) -> usize {
        match self {
            Self::Mac(integrity) => integrity.icv_len(),
            Self::AesGmac { .. } => COUNTER_IV + TAG,
        }
    }
}

impl EspIntegrity {
    /// Octets of the key: the length of the hash (RFC 2403, RFC 2404 section 3, RFC 4868 section 2.1.1), or AES-128's.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AesXcbc96 | Self::HmacMd5 => 16,
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }

    /// Octets of the ICV: 96 bits of the older ones (RFC 2403, RFC 2404, RFC 3566), half the hash of SHA-2 (RFC 4868).
    #[must_use]
    pub const fn icv_len(self) -> usize {
        match self {
            Self::AesXcbc96 | Self::HmacSha1 | Self::HmacMd5 => 12,
            Self::HmacSha256 => 16,
            Self::HmacSha384 => 24,
            Self::HmacSha512 => 32,
        }
    }
}
