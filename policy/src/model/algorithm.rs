//! Algorithms that a policy can ask for; what the product names and we do not implement has no variant.

/// Encryption, for IKE and ESP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// AES-CBC with a key of so many bits.
    AesCbc(KeyBits),
    /// AES-GCM with a 16-octet ICV (RFC 4106, RFC 5282) with a key of so many bits.
    AesGcm16(KeyBits),
}

impl Encryption {
    /// Whether it protects integrity too.
    #[must_use]
    pub const fn is_aead(self) -> bool {
        matches!(self, Self::AesGcm16(_))
    }
}

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
    /// Group31: Curve25519 (extension for Linux).
    Curve25519,
}
