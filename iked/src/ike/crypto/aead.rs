//! AES-GCM with a 16-octet tag, in the shape that IKE and ESP use it (RFC 5282 sections 3 and 4).

use super::sizes::SALT_LEN;
use crate::ike::types::Secret;
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit, Nonce, Tag};

/// Octets of the explicit IV; the salt in front makes it the nonce.
pub(super) const IV_LEN: usize = 8;
/// Octets of the tag.
pub(super) const TAG_LEN: usize = 16;

/// A key with its salt; the ciphers wipe themselves.
pub(super) struct GcmKey {
    cipher: Cipher,
    salt: [u8; SALT_LEN],
}

enum Cipher {
    Aes128(Box<Aes128Gcm>),
    Aes256(Box<Aes256Gcm>),
}

/// The tag is not that of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forged;

impl GcmKey {
    /// From keying material of [`crate::ike::types::Encryption::key_len`] octets: key, then salt.
    ///
    /// # Panics
    /// Another length: key derivation cuts it to measure.
    pub(super) fn new(material: &Secret) -> Self {
        let (key, salt) = material.0.split_last_chunk().expect("keying material holds a salt");
        let cipher = match key.len() {
            16 => Aes128Gcm::new_from_slice(key).map(|cipher| Cipher::Aes128(Box::new(cipher))),
            _ => Aes256Gcm::new_from_slice(key).map(|cipher| Cipher::Aes256(Box::new(cipher))),
        };
        Self { cipher: cipher.expect("an AES key of 128 or 256 bits"), salt: *salt }
    }

    fn nonce(&self, iv: [u8; IV_LEN]) -> [u8; SALT_LEN + IV_LEN] {
        let mut nonce = [0; SALT_LEN + IV_LEN];
        nonce[..SALT_LEN].copy_from_slice(&self.salt);
        nonce[SALT_LEN..].copy_from_slice(&iv);
        nonce
    }

    /// Encrypts `text` in place and returns the tag. `iv` must never have been used with this key.
    pub(super) fn seal(&self, iv: [u8; IV_LEN], aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        let nonce = Nonce::from(self.nonce(iv));
        let tag = match &self.cipher {
            Cipher::Aes128(cipher) => cipher.encrypt_inout_detached(&nonce, aad, text.into()),
            Cipher::Aes256(cipher) => cipher.encrypt_inout_detached(&nonce, aad, text.into()),
        };
        tag.expect("an IKE message is far below GCM's 64 GiB").into()
    }

    /// Checks the tag, and only then decrypts `text` in place.
    pub(super) fn open(
        &self,
        iv: [u8; IV_LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: [u8; TAG_LEN],
    ) -> Result<(), Forged> {
        let (nonce, tag) = (Nonce::from(self.nonce(iv)), Tag::from(tag));
        let opened = match &self.cipher {
            Cipher::Aes128(cipher) => cipher.decrypt_inout_detached(&nonce, aad, text.into(), &tag),
            Cipher::Aes256(cipher) => cipher.decrypt_inout_detached(&nonce, aad, text.into(), &tag),
        };
        opened.map_err(|_| Forged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    /// Key, salt | IV, AAD, plaintext, ciphertext, tag.
    fn check(key: &str, nonce: &str, aad: &str, plain: &str, sealed: &str, tag: &str) {
        let (nonce, aad, plain) = (hex(nonce), hex(aad), hex(plain));
        let material = Secret([hex(key), nonce[..4].to_vec()].concat());
        let iv = nonce[4..].try_into().unwrap();
        let gcm = GcmKey::new(&material);
        let mut text = plain.clone();
        let made = gcm.seal(iv, &aad, &mut text);
        assert_eq!((text.clone(), made.to_vec()), (hex(sealed), hex(tag)));
        assert_eq!(gcm.open(iv, &aad, &mut text, made), Ok(()));
        assert_eq!(text, plain);
    }

    // The GCM specification (McGrew and Viega), test cases 4 (AES-128) and 16 (AES-256).
    #[test]
    fn gcm_specification() {
        let (nonce, aad) = ("cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
                     1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
        check(
            "feffe9928665731c6d6a8f9467308308",
            nonce,
            aad,
            plain,
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e\
             21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
            "5bc94fbc3221a5db94fae95ae7121a47",
        );
        check(
            "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
            nonce,
            aad,
            plain,
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
             8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
            "76fc6ece0f4e1768cddf8853bb2d551b",
        );
    }
}
