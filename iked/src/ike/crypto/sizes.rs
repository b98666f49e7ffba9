//! How many octets of key, IV and checksum each algorithm takes.

use crate::ike::types::{Encryption, Integrity, Prf};

/// Octets of salt behind an AEAD key (RFC 5282 section 4).
pub(super) const SALT_LEN: usize = 4;

impl Encryption {
    /// An AEAD: no integrity algorithm beside it.
    #[must_use]
    pub const fn is_aead(self) -> bool {
        matches!(self, Self::AesGcm16(_))
    }

    /// Octets of keying material: the key, and the salt of an AEAD.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AesCbc(bits) => bits as usize / 8,
            Self::AesGcm16(bits) => bits as usize / 8 + SALT_LEN,
        }
    }
}

impl Integrity {
    /// Octets of key (RFC 4868 section 2.1.1: as long as the hash).
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }

    /// Octets of the integrity checksum: half of the hash.
    #[must_use]
    pub const fn icv_len(self) -> usize {
        self.key_len() / 2
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
        }
    }
}
