//! DES-CBC (RFC 2405) and 3DES-CBC (RFC 2451): weak, and only used where a policy insists.

use super::suite::DES_BLOCK;
use super::{IntegrityError, KeyError};
use des::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

/// One block.
type Block = [u8; DES_BLOCK];

/// A key of either; the library wipes it.
pub(super) enum DesCbc {
    Single(des::Des),
    Triple(Box<des::TdesEde3>),
}

impl DesCbc {
    /// 8 octets are a key of DES, 24 one of 3DES; parity bits mean nothing.
    pub(super) fn new(key: &[u8]) -> Result<Self, KeyError> {
        if key.len() == DES_BLOCK {
            des::Des::new_from_slice(key).map(Self::Single).map_err(|_| KeyError::Library)
        } else {
            let triple = des::TdesEde3::new_from_slice(key).map_err(|_| KeyError::Library)?;
            Ok(Self::Triple(Box::new(triple)))
        }
    }

    /// Encrypts whole blocks in place.
    pub(super) fn encrypt(&self, iv: Block, text: &mut [u8]) -> Result<(), IntegrityError> {
        let (blocks, []) = text.as_chunks_mut::<DES_BLOCK>() else { return Err(IntegrityError) };
        let mut before = iv;
        for block in blocks {
            let mut b = xor(*block, before).into();
            match self {
                Self::Single(key) => key.encrypt_block(&mut b),
                Self::Triple(key) => key.encrypt_block(&mut b),
            }
            before = b.into();
            *block = before;
        }
        Ok(())
    }

    /// Decrypts whole blocks in place.
    pub(super) fn decrypt(&self, iv: Block, text: &mut [u8]) -> Result<(), IntegrityError> {
        let (blocks, []) = text.as_chunks_mut::<DES_BLOCK>() else { return Err(IntegrityError) };
        let mut before = iv;
        for block in blocks {
            let sealed = *block;
            let mut b = sealed.into();
            match self {
                Self::Single(key) => key.decrypt_block(&mut b),
                Self::Triple(key) => key.decrypt_block(&mut b),
            }
            *block = xor(b.into(), before);
            before = sealed;
        }
        Ok(())
    }
}

fn xor(mut a: Block, b: Block) -> Block {
    a.iter_mut().zip(b).for_each(|(a, b)| *a ^= b);
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(s: &str) -> Vec<u8> {
        hex::decode(s).unwrap()
    }

    /// FIPS 81 appendix C, "Now is the time for all "; the same with 3DES under three equal keys, and under three
    /// different ones as OpenSSL 3 computes it.
    #[test]
    fn known_answers() {
        let iv: Block = hex("1234567890abcdef").try_into().unwrap();
        let plain = b"Now is the time for all ".to_vec();
        let check = |key: &str, sealed: &str| {
            let key = DesCbc::new(&hex(key)).unwrap();
            let mut text = plain.clone();
            key.encrypt(iv, &mut text).unwrap();
            assert_eq!(hex::encode(&text), sealed);
            key.decrypt(iv, &mut text).unwrap();
            assert_eq!(text, plain);
        };
        check("0123456789abcdef", "e5c7cdde872bf27c43e934008c389c0f683788499a7c05f6");
        check(
            "0123456789abcdef0123456789abcdef0123456789abcdef",
            "e5c7cdde872bf27c43e934008c389c0f683788499a7c05f6",
        );
        check(
            "0123456789abcdef23456789abcdef01456789abcdef0123",
            "f3c0ff026c023089656fbb169def7edb30ba36075d6f0176",
        );
    }

    #[test]
    fn t25_what_is_not_whole_blocks_is_refused() {
        let key = DesCbc::new(&[1; 24]).unwrap();
        assert_eq!(key.decrypt([0; 8], &mut [0; 9]), Err(IntegrityError));
        assert!(DesCbc::new(&[1; 16]).is_err());
    }
}
