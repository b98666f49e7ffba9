//! Algorithms that a policy can ask for. A stack need not have all of them: see [`crate::Feature`].

/// Encryption, for IKE and ESP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// AES-CBC with a key of so many bits.
    AesCbc(KeyBits),
    /// AES-GCM with a 16-octet ICV (RFC 4106, RFC 5282) with a key of so many bits.
    AesGcm16(KeyBits),
    /// AES in counter mode (RFC 3686) with a key of so many bits; child SAs only (extension for Linux).
    AesCtr(KeyBits),
    /// ChaCha20-Poly1305 (RFC 7634); child SAs only (extension for Linux).
    ChaCha20Poly1305,
    /// None (RFC 2410).
    Null,
    /// 3DES-CBC; weak.
    TripleDes,
    /// DES-CBC; weak.
    Des,
}

impl Encryption {
    /// Whether it protects integrity too.
    #[must_use]
    pub const fn is_aead(self) -> bool {
        matches!(self, Self::AesGcm16(_) | Self::ChaCha20Poly1305)
    }

    /// Octets of its key, with the salt of an AEAD.
    #[must_use]
    pub const fn key_bytes(self) -> u16 {
        match self {
            Self::AesCbc(bits) => bits.bits() / 8,
            Self::AesGcm16(bits) | Self::AesCtr(bits) => bits.bits() / 8 + SALT_BYTES,
            Self::ChaCha20Poly1305 => 32 + SALT_BYTES,
            Self::Null => 0,
            Self::TripleDes => 24,
            Self::Des => 8,
        }
    }
}

/// Octets of salt behind the key of AES-GCM, AES-GMAC and ChaCha20-Poly1305 (RFC 4106 section 8.1, RFC 4543 section 5.4,
/// RFC 7634 section 2), of nonce behind that of AES-CTR (RFC 3686 section 5.1).
const SALT_BYTES: u16 = 4;

/// Length of an AES key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyBits {
    /// 128 bits.
    B128,
    /// 192 bits.
    B192,
    /// 256 bits.
    B256,
}

impl KeyBits {
    /// In bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        match self {
            Self::B128 => 128,
            Self::B192 => 192,
            Self::B256 => 256,
        }
    }
}

/// Integrity, for IKE and ESP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Integrity {
    /// HMAC_SHA2_256_128.
    HmacSha256,
    /// HMAC_SHA2_384_192.
    HmacSha384,
    /// HMAC_SHA2_512_256.
    HmacSha512,
    /// HMAC_SHA1_96.
    HmacSha1,
    /// AES128_XCBC_96.
    AesXcbc,
    /// AES-GMAC with a key of so many bits; child SAs only.
    AesGmac(KeyBits),
    /// HMAC_MD5_96; weak.
    HmacMd5,
}

impl Integrity {
    /// Octets of its key, with the salt of AES-GMAC.
    #[must_use]
    pub const fn key_bytes(self) -> u16 {
        match self {
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
            Self::HmacSha1 => 20,
            Self::AesXcbc | Self::HmacMd5 => 16,
            Self::AesGmac(bits) => bits.bits() / 8 + SALT_BYTES,
        }
    }
}

/// Pseudo-random function of the IKE SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prf {
    /// HMAC_SHA2_256.
    HmacSha256,
    /// HMAC_SHA2_384.
    HmacSha384,
    /// HMAC_SHA2_512.
    HmacSha512,
    /// HMAC_SHA1.
    HmacSha1,
    /// AES128_XCBC.
    AesXcbc,
    /// HMAC_MD5; weak.
    HmacMd5,
}

/// Diffie-Hellman group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// Group14: 2048-bit MODP.
    Modp2048,
    /// Group19: 256-bit random ECP.
    Ecp256,
    /// Group20: 384-bit random ECP.
    Ecp384,
    /// Group21: 521-bit random ECP.
    Ecp521,
    /// Group31: Curve25519 (extension for Linux).
    Curve25519,
    /// Group1: 768-bit MODP; weak.
    Modp768,
    /// Group2: 1024-bit MODP; weak.
    Modp1024,
    /// Group5: 1536-bit MODP; weak.
    Modp1536,
    /// Group24: 2048-bit MODP with a 256-bit subgroup; weak (RFC 8247 section 2.4).
    Modp2048Subgroup256,
}
