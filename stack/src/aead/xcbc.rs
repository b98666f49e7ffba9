//! AES-XCBC-MAC (RFC 3566): a CBC-MAC with AES-128 that is safe for messages of any length.

use super::suite::AES_BLOCK;
use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

/// One block.
type Block = [u8; AES_BLOCK];

/// The three keys that RFC 3566 section 4 derives from one.
pub(super) struct Xcbc {
    k1: Aes128,
    k2: Zeroizing<Block>,
    k3: Zeroizing<Block>,
}

impl Xcbc {
    pub(super) fn new(key: &Block) -> Self {
        let k = Aes128::new(key.into());
        let derive = |octet: u8| Zeroizing::new(encrypt(&k, [octet; AES_BLOCK]));
        let k1 = derive(1);
        Self { k1: Aes128::new((&*k1).into()), k2: derive(2), k3: derive(3) }
    }

    /// The MAC of `parts`, one behind the other, before it is cut to 96 bits.
    pub(super) fn mac(&self, parts: &[&[u8]]) -> Block {
        let mut e = [0; AES_BLOCK];
        // The block that is being filled; it is only encrypted when another octet follows, as the last one is special.
        let mut block = [0; AES_BLOCK];
        let mut filled = 0;
        for mut part in parts.iter().copied() {
            while !part.is_empty() {
                if filled == AES_BLOCK {
                    e = encrypt(&self.k1, xor(e, &block));
                    filled = 0;
                }
                let n = part.len().min(AES_BLOCK - filled);
                block[filled..filled + n].copy_from_slice(&part[..n]);
                (filled, part) = (filled + n, &part[n..]);
            }
        }
        let last_key = if filled == AES_BLOCK {
            &self.k2
        } else {
            block[filled] = 0x80;
            block[filled + 1..].fill(0);
            &self.k3
        };
        encrypt(&self.k1, xor(xor(e, &block), last_key))
    }
}

fn encrypt(key: &Aes128, block: Block) -> Block {
    let mut b = block.into();
    key.encrypt_block(&mut b);
    b.into()
}

fn xor(mut a: Block, b: &Block) -> Block {
    a.iter_mut().zip(b).for_each(|(a, b)| *a ^= b);
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3566 section 4.6.
    #[test]
    fn test_vectors_of_rfc_3566() {
        let key: Block = hex::decode("000102030405060708090a0b0c0d0e0f").unwrap().try_into().unwrap();
        let counting: Vec<u8> = (0..=255).collect();
        let xcbc = Xcbc::new(&key);
        for (message, mac) in [
            (&counting[..0], "75f0251d528ac01c4573dfd584d79f29"),
            (&counting[..3], "5b376580ae2f19afe7219ceef172756f"),
            (&counting[..16], "d2a246fa349b68a79998a4394ff7a263"),
            (&counting[..20], "47f51b4564966215b8985c63055ed308"),
            (&counting[..32], "f54f0ec8d2b9f3d36807734bd5283fd4"),
            (&counting[..34], "becbb3bccdb518a30677d5481fb6b4d8"),
            (&[0; 1000][..], "f0dafee895db30253761103b5d84528f"),
        ] {
            assert_eq!(hex::encode(xcbc.mac(&[message])), mac, "{} octets", message.len());
            for cut in 0..message.len().min(40) {
                let (a, b) = message.split_at(cut);
                assert_eq!(hex::encode(xcbc.mac(&[a, b])), mac, "{} octets cut at {cut}", message.len());
            }
        }
    }
}
