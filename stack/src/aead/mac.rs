//! Integrity algorithms by themselves: HMAC with SHA-1 (RFC 2404), SHA-2 (RFC 4868) and MD5 (RFC 2403),
//! AES-XCBC-MAC-96 (RFC 3566).

use super::KeyError;
use super::suite::AES_BLOCK;
use super::xcbc::Xcbc;
use crate::control::EspIntegrity;
use ::hmac::{Hmac, KeyInit as _, Mac as _};
use aws_lc_rs::hmac;
use md5::Md5;

/// Longest ICV of an integrity algorithm.
const MAX_ICV: usize = 32;

/// A key of an integrity algorithm.
pub(crate) struct Mac {
    key: MacKey,
    icv: usize,
}

#[expect(
    clippy::large_enum_variant,
    reason = "one for each SA, and most are HMAC: no pointer to follow for a packet"
)]
enum MacKey {
    Hmac(hmac::Key),
    Xcbc(Box<Xcbc>),
    Md5(Box<Hmac<Md5>>),
}

/// An ICV.
pub(crate) struct Icv {
    bytes: [u8; MAX_ICV],
    len: usize,
}

impl Icv {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Mac {
    /// `key` has the length of the algorithm's.
    pub(crate) fn new(algorithm: EspIntegrity, key: &[u8]) -> Result<Self, KeyError> {
        let hash = match algorithm {
            EspIntegrity::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            EspIntegrity::HmacSha256 => hmac::HMAC_SHA256,
            EspIntegrity::HmacSha384 => hmac::HMAC_SHA384,
            EspIntegrity::HmacSha512 => hmac::HMAC_SHA512,
            EspIntegrity::AesXcbc96 => {
                let key: &[u8; AES_BLOCK] = key.try_into().map_err(|_| KeyError::Library)?;
                return Ok(Self { key: MacKey::Xcbc(Box::new(Xcbc::new(key))), icv: algorithm.icv_len() });
            }
            EspIntegrity::HmacMd5 => {
                let key = Hmac::<Md5>::new_from_slice(key).map_err(|_| KeyError::Library)?;
                return Ok(Self { key: MacKey::Md5(Box::new(key)), icv: algorithm.icv_len() });
            }
        };
        Ok(Self { key: MacKey::Hmac(hmac::Key::new(hash, key)), icv: algorithm.icv_len() })
    }

    /// Octets of the ICV.
    pub(crate) const fn icv_len(&self) -> usize {
        self.icv
    }

    /// The ICV over `parts`, one behind the other. With ESN the last one is the high half of the sequence number, which is
    /// authenticated but not sent (RFC 4303 section 2.2.1, RFC 4302 section 3.3.3.2.1).
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> Icv {
        let mut icv = Icv { bytes: [0; MAX_ICV], len: self.icv };
        match &self.key {
            MacKey::Hmac(key) => {
                let mut context = hmac::Context::with_key(key);
                parts.iter().for_each(|p| context.update(p));
                icv.bytes[..self.icv].copy_from_slice(&context.sign().as_ref()[..self.icv]);
            }
            MacKey::Md5(key) => {
                let mut context = Hmac::clone(key);
                parts.iter().for_each(|p| context.update(p));
                icv.bytes[..self.icv].copy_from_slice(&context.finalize().into_bytes()[..self.icv]);
            }
            MacKey::Xcbc(key) => icv.bytes[..self.icv].copy_from_slice(&key.mac(parts)[..self.icv]),
        }
        icv
    }

    /// Whether `icv` is the one over `parts`; takes as long whatever differs.
    pub(crate) fn verify(&self, parts: &[&[u8]], icv: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        bool::from(self.sign(parts).as_slice().ct_eq(icv))
    }
}
