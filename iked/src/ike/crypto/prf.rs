//! Pseudo-random functions and integrity checksums (RFC 7296 section 2.13): HMAC with SHA-2, SHA-1 or MD5 (RFC 4868,
//! RFC 2404, RFC 2403), and AES-XCBC (RFC 3566, RFC 4434).

use crate::ike::types::{Integrity, Prf, Secret};
use aes::Aes128;
use cbc::cipher::{BlockCipherEncrypt, BlockModeEncrypt, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::{Zeroize, Zeroizing};

impl Prf {
    /// `prf(key, parts…)`, the parts taken as one string.
    #[must_use]
    pub fn compute(self, key: &[u8], parts: &[&[u8]]) -> Secret {
        Secret(match self {
            Self::HmacSha256 => hmac::<Hmac<Sha256>>(key, parts),
            Self::HmacSha384 => hmac::<Hmac<Sha384>>(key, parts),
            Self::HmacSha512 => hmac::<Hmac<Sha512>>(key, parts),
            Self::HmacSha1 => hmac::<Hmac<Sha1>>(key, parts),
            Self::HmacMd5 => hmac::<Hmac<Md5>>(key, parts),
            Self::AesXcbc => xcbc(&xcbc_key(key), parts).to_vec(),
        })
    }

    /// The first `len` octets of `prf+(key, parts…)` (section 2.13).
    ///
    /// # Panics
    /// `len` is more than 255 outputs of the PRF; no sum of our algorithms' key lengths comes near.
    #[must_use]
    pub fn plus(self, key: &[u8], parts: &[&[u8]], len: usize) -> Secret {
        let mut out = Secret(Vec::with_capacity(len + self.output_len()));
        let mut block = Secret(Vec::new());
        for counter in 1..=u8::MAX {
            if out.0.len() >= len {
                break;
            }
            let mut input: Vec<&[u8]> = Vec::with_capacity(parts.len() + 2);
            input.push(&block.0);
            input.extend_from_slice(parts);
            let counter = [counter];
            input.push(&counter);
            block = self.compute(key, &input);
            out.0.extend_from_slice(&block.0);
        }
        assert!(out.0.len() >= len, "prf+ gives 255 blocks at most");
        out.0[len..].zeroize();
        out.0.truncate(len);
        out
    }
}

impl Integrity {
    /// The integrity checksum over the parts, cut to [`Integrity::icv_len`].
    ///
    /// # Panics
    /// An algorithm that is not [for IKE](Integrity::is_for_ike): no IKE SA is negotiated with it.
    #[must_use]
    pub fn checksum(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let mut full = match self {
            Self::HmacSha256 => hmac::<Hmac<Sha256>>(key, parts),
            Self::HmacSha384 => hmac::<Hmac<Sha384>>(key, parts),
            Self::HmacSha512 => hmac::<Hmac<Sha512>>(key, parts),
            Self::HmacSha1 => hmac::<Hmac<Sha1>>(key, parts),
            Self::HmacMd5 => hmac::<Hmac<Md5>>(key, parts),
            Self::AesXcbc96 => xcbc(key.try_into().expect("key derivation gives 128 bits"), parts).to_vec(),
            Self::AesGmac(_) => {
                unreachable!("AES-GMAC is for child SAs: a suite of an IKE SA with it is not sound")
            }
        };
        full.truncate(self.icv_len());
        full
    }
}

fn hmac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// A key, and a block, of AES-128.
type Block = [u8; 16];

/// A key of any length for the PRF (RFC 4434 section 2): a short one is filled up, a long one becomes its own MAC.
fn xcbc_key(key: &[u8]) -> Zeroizing<Block> {
    let mut out = Zeroizing::new([0; 16]);
    match out.get_mut(..key.len()) {
        Some(front) => front.copy_from_slice(key),
        None => *out = xcbc(&[0; 16], &[key]),
    }
    out
}

/// AES-XCBC-MAC (RFC 3566 section 4), not cut.
fn xcbc(key: &Block, parts: &[&[u8]]) -> Block {
    let cipher = Aes128::new(key.into());
    let derived = |octet| {
        let mut block = [octet; 16].into();
        cipher.encrypt_block(&mut block);
        Zeroizing::new(Block::from(block))
    };
    let mut text = Zeroizing::new(parts.concat());
    let is_whole = !text.is_empty() && text.len().is_multiple_of(16);
    if !is_whole {
        text.push(0x80);
        let padded = text.len().next_multiple_of(16);
        text.resize(padded, 0);
    }
    let last_key = derived(if is_whole { 2 } else { 3 });
    let (blocks, _) = aes::Block::slice_as_chunks_mut(&mut text);
    if let Some(last) = blocks.last_mut() {
        last.iter_mut().zip(*last_key).for_each(|(octet, key)| *octet ^= key);
    }
    // What CBC without an IV leaves in the last block is the MAC.
    cbc::Encryptor::<Aes128>::new((&*derived(1)).into(), &[0; 16].into()).encrypt_blocks(blocks);
    blocks.last().copied().map_or([0; 16], Block::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    // RFC 4231 section 4.2 (test case 1), 4.3 (2), 4.7 (6: a key longer than the block).
    #[test]
    fn rfc_4231() {
        let (key, data) = (vec![0x0b; 20], b"Hi There");
        assert_eq!(
            Prf::HmacSha256.compute(&key, &[data]).0,
            hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
        );
        assert_eq!(
            Prf::HmacSha384.compute(&key, &[data]).0,
            hex(
                "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6"
            )
        );
        assert_eq!(
            Prf::HmacSha512.compute(&key, &[data]).0,
            hex(
                "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4\
                 be9d914eeb61f1702e696c203a126854"
            )
        );
        let (one, two) = (&b"what do ya want "[..], &b"for nothing?"[..]);
        assert_eq!(
            Prf::HmacSha256.compute(b"Jefe", &[one, two]).0,
            hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        );
        assert_eq!(
            Prf::HmacSha256
                .compute(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"])
                .0,
            hex("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
        );
    }

    // RFC 4868 section 2.7.2.1, test case AUTH256-1 and 2.7.2.3 AUTH512-1: the truncated codes.
    #[test]
    fn rfc_4868_truncation() {
        assert_eq!(
            Integrity::HmacSha256.checksum(&[0x0b; 32], &[b"Hi There"]),
            hex("198a607eb44bfbc69903a0f1cf2bbdc5")
        );
        assert_eq!(
            Integrity::HmacSha512.checksum(&[0x0b; 64], &[b"Hi There"]),
            hex("637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8")
        );
    }

    // RFC 2202 section 3, test case 1 (cut to 96 bits by RFC 2404) and 2.
    #[test]
    fn rfc_2202() {
        assert_eq!(
            Integrity::HmacSha1.checksum(&[0x0b; 20], &[b"Hi There"]),
            hex("b617318655057264e28bc0b6")
        );
        assert_eq!(
            Prf::HmacSha1.compute(b"Jefe", &[b"what do ya want ", b"for nothing?"]).0,
            hex("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
        );
    }

    // RFC 2202 section 2, test cases 1 and 2; RFC 2403 cuts to 96 bits.
    #[test]
    fn rfc_2202_md5() {
        assert_eq!(Integrity::HmacMd5.checksum(&[0x0b; 16], &[b"Hi There"]), hex("9294727a3638bb1c13f48ef8"));
        assert_eq!(
            Prf::HmacMd5.compute(b"Jefe", &[b"what do ya want ", b"for nothing?"]).0,
            hex("750c783e6ab0b503eaa86e310a5db738")
        );
    }

    // RFC 3566 section 4.6, test cases 1 to 4 and 6; the parts may be cut anywhere.
    #[test]
    fn rfc_3566() {
        let key = hex("000102030405060708090a0b0c0d0e0f");
        let counting: Vec<u8> = (0..34).collect();
        for (octets, mac) in [
            (0, "75f0251d528ac01c4573dfd5"),
            (3, "5b376580ae2f19afe7219cee"),
            (16, "d2a246fa349b68a79998a439"),
            (20, "47f51b4564966215b8985c63"),
            (34, "becbb3bccdb518a30677d548"),
        ] {
            let (front, back) = counting[..octets].split_at(octets / 3);
            assert_eq!(Integrity::AesXcbc96.checksum(&key, &[front, back]), hex(mac), "{octets} octets");
        }
    }

    // RFC 4434 section 2.1: keys of 16, 10 and 18 octets.
    #[test]
    fn rfc_4434() {
        let message: Vec<u8> = (0..20).collect();
        for (key, mac) in [
            ("000102030405060708090a0b0c0d0e0f", "47f51b4564966215b8985c63055ed308"),
            ("00010203040506070809", "0fa087af7d866e7653434e602fdde835"),
            ("000102030405060708090a0b0c0d0e0fedcb", "8cd3c93ae598a9803006ffb67c40e9e4"),
        ] {
            assert_eq!(Prf::AesXcbc.compute(&hex(key), &[&message]).0, hex(mac));
        }
    }

    proptest! {
        #[test]
        fn prf_plus_is_a_chain_of_prf(
            key in proptest::collection::vec(any::<u8>(), 0..80),
            seed in proptest::collection::vec(any::<u8>(), 0..80),
            len in 0_usize..400,
            which in 0..6,
        ) {
            let prfs =
                [Prf::HmacSha256, Prf::HmacSha384, Prf::HmacSha512, Prf::HmacSha1, Prf::HmacMd5, Prf::AesXcbc];
            let prf = prfs[which as usize];
            let mut expected = prf.compute(&key, &[&seed, &[1]]).0.clone();
            let mut last = expected.clone();
            for counter in 2..=25_u8 {
                last = prf.compute(&key, &[&last, &seed, &[counter]]).0.clone();
                expected.extend_from_slice(&last);
            }
            let (front, back) = seed.split_at(seed.len() / 2);
            prop_assert_eq!(&prf.plus(&key, &[front, back], len).0, &expected[..len]);
        }
    }
}
