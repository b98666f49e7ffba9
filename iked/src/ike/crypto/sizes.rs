//! How many octets of key, IV and checksum each algorithm takes.

use crate::ike::types::{Encryption, Integrity, Prf};

/// Octets of salt behind an AEAD key (RFC 5282 section 4), of nonce behind that of AES-CTR (RFC 3686 section 5.1).
pub(super) const SALT_LEN: usize = 4;

impl Encryption {
    /// An AEAD: no integrity algorithm beside it.
    #[must_use]
    pub const fn is_aead(self) -> bool {
        matches!(self, Self::AesGcm16(_) | Self::ChaCha20Poly1305 | Self::AesGmac(_))
    }

    /// It can protect an IKE SA here.
    #[must_use]
    pub const fn is_for_ike(self) -> bool {
        matches!(self, Self::AesGcm16(_) | Self::AesCbc(_) | Self::TripleDes | Self::Des)
    }

    /// Its key has a length that the algorithm takes.
    #[must_use]
    pub const fn has_key_length(self) -> bool {
        match self {
            Self::AesCbc(bits) | Self::AesCtr(bits) => matches!(bits, 128 | 192 | 256),
            // RFC 8221 section 5 asks for no 192 bits here.
            Self::AesGcm16(bits) | Self::AesGmac(bits) => matches!(bits, 128 | 256),
            Self::ChaCha20Poly1305 | Self::Null | Self::TripleDes | Self::Des | Self::Absent => true,
        }
    }

    /// Octets of keying material: the key, and the salt of an AEAD.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AesCbc(bits) => bits as usize / 8,
            Self::AesGcm16(bits) | Self::AesGmac(bits) | Self::AesCtr(bits) => bits as usize / 8 + SALT_LEN,
            // RFC 7634 section 2.
            Self::ChaCha20Poly1305 => 32 + SALT_LEN,
            Self::TripleDes => 24,
            Self::Des => 8,
            Self::Null | Self::Absent => 0,
        }
    }
}

impl Integrity {
    /// It can protect an IKE SA here.
    #[must_use]
    pub const fn is_for_ike(self) -> bool {
        !matches!(self, Self::AesGmac(_))
    }

    /// Octets of key (RFC 2404 section 3, RFC 4868 section 2.1.1: as long as the hash), with the salt of AES-GMAC.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
            Self::HmacSha1 => 20,
            Self::AesXcbc96 | Self::HmacMd5 => 16,
            Self::AesGmac(bits) => bits as usize / 8 + SALT_LEN,
        }
    }

    /// Octets of the integrity checksum: half of the hash of SHA-2, 96 bits of the older ones.
    #[must_use]
    pub const fn icv_len(self) -> usize {
        match self {
            Self::HmacSha256 | Self::HmacSha384 | Self::HmacSha512 => self.key_len() / 2,
            Self::HmacSha1 | Self::AesXcbc96 | Self::HmacMd5 => 12,
            Self::AesGmac(_) => 16,
        }
    }
}

impl Prf {
    /// Octets of output, and of the preferred key.
    #[must_use]
    pub const fn output_len(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
            Self::HmacSha1 => 20,
            Self::HmacMd5 | Self::AesXcbc => 16,
        }
    }
}
