//! Pseudo-random functions and integrity checksums, all HMAC with SHA-2 or SHA-1 (RFC 7296 section 2.13, RFC 4868,
//! RFC 2404).

use crate::ike::types::{Integrity, Prf, Secret};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroize;

impl Prf {
    /// `prf(key, parts…)`, the parts taken as one string.
    #[must_use]
    pub fn compute(self, key: &[u8], parts: &[&[u8]]) -> Secret {
        Secret(match self {
            Self::HmacSha256 => hmac::<Hmac<Sha256>>(key, parts),
            Self::HmacSha384 => hmac::<Hmac<Sha384>>(key, parts),
            Self::HmacSha512 => hmac::<Hmac<Sha512>>(key, parts),
            Self::HmacSha1 => hmac::<Hmac<Sha1>>(key, parts),
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
            Self::AesXcbc96 | Self::HmacMd5 | Self::AesGmac(_) => {
                unreachable!(
                    "{self:?} is an algorithm of child SAs: a suite of an IKE SA with it is not sound"
                )
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

    proptest! {
        #[test]
        fn prf_plus_is_a_chain_of_prf(
            key in proptest::collection::vec(any::<u8>(), 0..80),
            seed in proptest::collection::vec(any::<u8>(), 0..80),
            len in 0_usize..400,
            which in 0..4,
        ) {
            let prf = [Prf::HmacSha256, Prf::HmacSha384, Prf::HmacSha512, Prf::HmacSha1][which as usize];
            let mut expected = prf.compute(&key, &[&seed, &[1]]).0.clone();
            let mut last = expected.clone();
            for counter in 2..=20_u8 {
                last = prf.compute(&key, &[&last, &seed, &[counter]]).0.clone();
                expected.extend_from_slice(&last);
            }
            let (front, back) = seed.split_at(seed.len() / 2);
            prop_assert_eq!(&prf.plus(&key, &[front, back], len).0, &expected[..len]);
        }
    }
}
