//! AES-CBC with an HMAC over the ciphertext: encrypt, then authenticate (RFC 7296 section 3.14).

use super::aead::Forged;
use crate::ike::types::{Integrity, Secret};
use aes::{Aes128, Aes192, Aes256, Block};
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use subtle::ConstantTimeEq;

/// Octets of a block, and of the IV.
pub(super) const BLOCK_LEN: usize = 16;

/// Both keys.
pub(super) struct CbcHmacKey {
    encryption: Secret,
    integrity: Integrity,
    authentication: Secret,
}

impl CbcHmacKey {
    pub(super) fn new(encryption: Secret, integrity: Integrity, authentication: Secret) -> Self {
        Self { encryption, integrity, authentication }
    }

    pub(super) const fn icv_len(&self) -> usize {
        self.integrity.icv_len()
    }

    /// Encrypts `text`, whole blocks, in place.
    pub(super) fn encrypt(&self, iv: &[u8; BLOCK_LEN], text: &mut [u8]) {
        let (blocks, rest) = Block::slice_as_chunks_mut(text);
        debug_assert!(rest.is_empty(), "the caller pads");
        match self.encryption.0.len() {
            16 => cbc::Encryptor::<Aes128>::new_from_slices(&self.encryption.0, iv)
                .expect("a 128-bit key and an IV of one block")
                .encrypt_blocks(blocks),
            24 => cbc::Encryptor::<Aes192>::new_from_slices(&self.encryption.0, iv)
                .expect("a 192-bit key and an IV of one block")
                .encrypt_blocks(blocks),
            _ => cbc::Encryptor::<Aes256>::new_from_slices(&self.encryption.0, iv)
                .expect("key derivation gives 128, 192 or 256 bits")
                .encrypt_blocks(blocks),
        }
    }

    /// Decrypts `text`, whole blocks, in place.
    pub(super) fn decrypt(&self, iv: &[u8; BLOCK_LEN], text: &mut [u8]) {
        let (blocks, rest) = Block::slice_as_chunks_mut(text);
        debug_assert!(rest.is_empty(), "the caller checks");
        match self.encryption.0.len() {
            16 => cbc::Decryptor::<Aes128>::new_from_slices(&self.encryption.0, iv)
                .expect("a 128-bit key and an IV of one block")
                .decrypt_blocks(blocks),
            24 => cbc::Decryptor::<Aes192>::new_from_slices(&self.encryption.0, iv)
                .expect("a 192-bit key and an IV of one block")
                .decrypt_blocks(blocks),
            _ => cbc::Decryptor::<Aes256>::new_from_slices(&self.encryption.0, iv)
                .expect("key derivation gives 128, 192 or 256 bits")
                .decrypt_blocks(blocks),
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
            let key = CbcHmacKey::new(Secret(hex(key)), Integrity::HmacSha256, Secret(vec![0; 32]));
            let iv = hex(iv).try_into().unwrap();
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
}
