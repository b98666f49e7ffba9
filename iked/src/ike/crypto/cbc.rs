//! A block cipher in CBC mode with a MAC over the ciphertext: encrypt, then authenticate (RFC 7296 section 3.14).

use super::aead::Forged;
use crate::ike::types::{Encryption, Integrity, Secret};
use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, KeyInit, KeyIvInit,
};
use des::{Des, TdesEde3};
use subtle::ConstantTimeEq;

/// Both keys.
pub(super) struct CbcKey {
    cipher: Encryption,
    encryption: Secret,
    integrity: Integrity,
    authentication: Secret,
}

impl CbcKey {
    /// `encryption` has the length that the cipher takes.
    pub(super) fn new(
        cipher: Encryption,
        encryption: Secret,
        integrity: Integrity,
        authentication: Secret,
    ) -> Self {
        Self { cipher, encryption, integrity, authentication }
    }

    pub(super) const fn icv_len(&self) -> usize {
        self.integrity.icv_len()
    }

    /// Octets of a block, and of the IV.
    pub(super) const fn block_len(&self) -> usize {
        match self.cipher {
            Encryption::TripleDes | Encryption::Des => 8,
            _ => 16,
        }
    }

    /// Encrypts `text`, whole blocks, in place.
    pub(super) fn encrypt(&self, iv: &[u8], text: &mut [u8]) {
        let key = &self.encryption.0;
        match (self.cipher, key.len()) {
            (Encryption::TripleDes, _) => encrypt::<TdesEde3>(key, iv, text),
            (Encryption::Des, _) => encrypt::<Des>(key, iv, text),
            (_, 16) => encrypt::<Aes128>(key, iv, text),
            (_, 24) => encrypt::<Aes192>(key, iv, text),
            _ => encrypt::<Aes256>(key, iv, text),
        }
    }

    /// Decrypts `text`, whole blocks, in place.
    pub(super) fn decrypt(&self, iv: &[u8], text: &mut [u8]) {
        let key = &self.encryption.0;
        match (self.cipher, key.len()) {
            (Encryption::TripleDes, _) => decrypt::<TdesEde3>(key, iv, text),
            (Encryption::Des, _) => decrypt::<Des>(key, iv, text),
            (_, 16) => decrypt::<Aes128>(key, iv, text),
            (_, 24) => decrypt::<Aes192>(key, iv, text),
            _ => decrypt::<Aes256>(key, iv, text),
        }
    }

    /// The integrity checksum of `covered`.
    pub(super) fn checksum(&self, covered: &[u8]) -> Vec<u8> {
        self.integrity.checksum(&self.authentication.0, &[covered])
    }

    /// Compares in constant time.
    pub(super) fn verify(&self, covered: &[u8], icv: &[u8]) -> Result<(), Forged> {
        if bool::from(self.checksum(covered).ct_eq(icv)) { Ok(()) } else { Err(Forged) }
    }
}

fn encrypt<C: BlockCipherEncrypt + KeyInit>(key: &[u8], iv: &[u8], text: &mut [u8]) {
    let (blocks, rest) = Array::slice_as_chunks_mut(text);
    debug_assert!(rest.is_empty(), "the caller pads");
    let cipher = cbc::Encryptor::<C>::new_from_slices(key, iv);
    cipher.expect("key derivation gives keys to measure, and an IV is a block").encrypt_blocks(blocks);
}

fn decrypt<C: BlockCipherDecrypt + KeyInit>(key: &[u8], iv: &[u8], text: &mut [u8]) {
    let (blocks, rest) = Array::slice_as_chunks_mut(text);
    debug_assert!(rest.is_empty(), "the caller checks");
    let cipher = cbc::Decryptor::<C>::new_from_slices(key, iv);
    cipher.expect("key derivation gives keys to measure, and an IV is a block").decrypt_blocks(blocks);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    // RFC 3602 section 4, cases 1 and 2; NIST SP 800-38A F.2.3 and F.2.5 for 192 and 256 bits (first two blocks).
    #[test]
    fn rfc_3602() {
        let check = |key: &str, iv: &str, plain: Vec<u8>, sealed: &str| {
            let key = hex(key);
            let cipher = Encryption::AesCbc(u16::try_from(8 * key.len()).unwrap());
            let key = CbcKey::new(cipher, Secret(key), Integrity::HmacSha256, Secret(vec![0; 32]));
            let iv = hex(iv);
            let mut text = plain.clone();
            key.encrypt(&iv, &mut text);
            assert_eq!(text, hex(sealed));
            key.decrypt(&iv, &mut text);
            assert_eq!(text, plain);
        };
        check(
            "06a9214036b8a15b512e03d534120006",
            "3dafba429d9eb430b422da802c9fac41",
            b"Single block msg".to_vec(),
            "e353779c1079aeb82708942dbe77181a",
        );
        check(
            "c286696d887c9aa0611bbb3e2025a45a",
            "562e17996d093d28ddb3ba695a2e6f58",
            (0..32).collect(),
            "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
        );
        check(
            "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
            "000102030405060708090a0b0c0d0e0f",
            hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"),
            "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a",
        );
        check(
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "000102030405060708090a0b0c0d0e0f",
            hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"),
            "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d",
        );
    }

    // FIPS 81 appendix C; with three different keys as OpenSSL 3 computes it.
    #[test]
    fn fips_81() {
        let check = |cipher, key: &str, sealed: &str| {
            let key = CbcKey::new(cipher, Secret(hex(key)), Integrity::HmacMd5, Secret(vec![0; 16]));
            let iv = hex("1234567890abcdef");
            let mut text = b"Now is the time for all ".to_vec();
            key.encrypt(&iv, &mut text);
            assert_eq!(hex::encode(&text), sealed);
            key.decrypt(&iv, &mut text);
            assert_eq!(text, b"Now is the time for all ");
        };
        check(Encryption::Des, "0123456789abcdef", "e5c7cdde872bf27c43e934008c389c0f683788499a7c05f6");
        check(
            Encryption::TripleDes,
            "0123456789abcdef23456789abcdef01456789abcdef0123",
            "f3c0ff026c023089656fbb169def7edb30ba36075d6f0176",
        );
    }
}
