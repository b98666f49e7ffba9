//! What each suite takes: keying material, IV, ICV, alignment.

use super::KeyError;
use crate::control::{EspIntegrity, EspSuite};

/// Block of AES.
pub(super) const AES_BLOCK: usize = 16;
/// IV that a counter fills: AES-GCM (RFC 4106), AES-GMAC (RFC 4543), AES-CTR (RFC 3686), ChaCha20-Poly1305 (RFC 7634).
pub(super) const COUNTER_IV: usize = 8;
/// Tag of an AEAD.
pub(super) const TAG: usize = 16;
/// Salt, or nonce in the words of RFC 3686, behind the key.
pub(super) const SALT: usize = 4;
/// Key of ChaCha20.
const CHACHA_KEY: usize = 32;

impl EspSuite {
    /// Octets of keying material that one direction takes.
    ///
    /// # Errors
    /// A key size that the algorithm does not have.
    pub fn key_len(self) -> Result<usize, KeyError> {
        let aes = |bits: u16| match bits {
            128 | 192 | 256 => Ok(usize::from(bits / 8)),
            _ => Err(KeyError::KeyBits(bits)),
        };
        match self {
            // The library has no AES-192-GCM, and RFC 8221 section 5 asks for none.
            Self::AesGcm16 { key_bits: 192 } | Self::AesGmac { key_bits: 192 } => Err(KeyError::KeyBits(192)),
            Self::AesGcm16 { key_bits } | Self::AesGmac { key_bits } => Ok(aes(key_bits)? + SALT),
            Self::ChaCha20Poly1305 => Ok(CHACHA_KEY + SALT),
            Self::AesCbc { key_bits, integrity } => Ok(aes(key_bits)? + integrity.key_len()),
            Self::AesCtr { key_bits, integrity } => Ok(aes(key_bits)? + SALT + integrity.key_len()),
            Self::Null { integrity } => Ok(integrity.key_len()),
        }
    }

    /// Octets of the IV in each packet.
    #[must_use]
    pub const fn iv_len(self) -> usize {
        match self {
            Self::AesGcm16 { .. } | Self::AesGmac { .. } | Self::ChaCha20Poly1305 | Self::AesCtr { .. } => {
                COUNTER_IV
            }
            Self::AesCbc { .. } => AES_BLOCK,
            Self::Null { .. } => 0,
        }
    }

    /// Octets of the ICV.
    #[must_use]
    pub const fn icv_len(self) -> usize {
        match self {
            Self::AesGcm16 { .. } | Self::AesGmac { .. } | Self::ChaCha20Poly1305 => TAG,
            Self::AesCbc { integrity, .. } | Self::AesCtr { integrity, .. } | Self::Null { integrity } => {
                integrity.icv_len()
            }
        }
    }

    /// What the plaintext with its trailer is a multiple of (RFC 4303 section 2.4: at least 4).
    #[must_use]
    pub const fn alignment(self) -> usize {
        match self {
            Self::AesCbc { .. } => AES_BLOCK,
            Self::AesGcm16 { .. }
            | Self::AesGmac { .. }
            | Self::ChaCha20Poly1305
            | Self::AesCtr { .. }
            | Self::Null { .. } => 4,
        }
    }

    /// Whether the content can be read by who sees the packet.
    #[must_use]
    pub const fn is_in_clear(self) -> bool {
        matches!(self, Self::AesGmac { .. } | Self::Null { .. })
    }
}

impl EspIntegrity {
    /// Octets of the key: the length of the hash (RFC 2404 section 3, RFC 4868 section 2.1.1), or AES-128's.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AesXcbc96 => 16,
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }

    /// Octets of the ICV: 96 bits of the older ones (RFC 2404, RFC 3566), half the hash of SHA-2 (RFC 4868).
    #[must_use]
    pub const fn icv_len(self) -> usize {
        match self {
            Self::AesXcbc96 | Self::HmacSha1 => 12,
            Self::HmacSha256 => 16,
            Self::HmacSha384 => 24,
            Self::HmacSha512 => 32,
        }
    }
}
