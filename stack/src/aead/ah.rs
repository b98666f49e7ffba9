//! Integrity of AH: the algorithms that ESP has too, and AES-GMAC (RFC 4543 section 4).

use super::combined::AeadKey;
use super::mac::Mac;
use super::suite::{COUNTER_IV, TAG};
use super::{IntegrityError, KeyError};
use crate::control::{AhIntegrity, EspSuite};

/// Longest ICV field of AH, without padding.
const MAX_AH_ICV: usize = 32;

/// The AH key of one direction.
pub struct AhKey {
    key: Key,
    icv: usize,
}

enum Key {
    Mac(Box<Mac>),
    Gmac(Box<AeadKey>),
}

/// The ICV field of a packet.
pub(crate) struct AhIcv {
    bytes: [u8; MAX_AH_ICV],
    len: usize,
}

impl AhIcv {
    /// Its octets.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Debug for AhKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AhKey(..)")
    }
}

impl AhKey {
    /// Takes AH's part of the keying material of one direction; `None`: there is no AH.
    ///
    /// # Errors
    /// When the keying material does not fit the suite.
    pub fn new(suite: EspSuite, key: &[u8]) -> Result<Option<Self>, KeyError> {
        let Some(integrity) = suite.ah() else { return Ok(None) };
        super::check_length(suite, key)?;
        let key = &key[key.len() - integrity.key_len()?..];
        let icv = integrity.icv_len();
        let key = match integrity {
            AhIntegrity::Mac(integrity) => Key::Mac(Box::new(Mac::new(integrity, key)?)),
            AhIntegrity::AesGmac { .. } => Key::Gmac(Box::new(AeadKey::aes(key)?)),
        };
        Ok(Some(Self { key, icv }))
    }

    /// Octets of the ICV field, without padding.
    #[must_use]
    pub const fn icv_len(&self) -> usize {
        self.icv
    }

    /// The ICV field over `parts`, one behind the other, in which it is zero. `sequence` was never used before with this
    /// key.
    pub(crate) fn sign(&self, parts: &[&[u8]], sequence: u64) -> AhIcv {
        match &self.key {
            Key::Mac(_) => self.compute(parts, [0; COUNTER_IV]),
            Key::Gmac(_) => self.compute(parts, sequence.to_be_bytes()),
        }
    }

    /// Whether `icv` is the field over `parts`; takes as long whatever differs.
    pub(crate) fn verify(&self, parts: &[&[u8]], icv: &[u8]) -> Result<(), IntegrityError> {
        use subtle::ConstantTimeEq;
        let iv = match &self.key {
            Key::Mac(_) => [0; COUNTER_IV],
            Key::Gmac(_) => *icv.first_chunk().ok_or(IntegrityError)?,
        };
        let want = self.compute(parts, iv);
        if bool::from(want.as_slice().ct_eq(icv)) { Ok(()) } else { Err(IntegrityError) }
    }

    fn compute(&self, parts: &[&[u8]], iv: [u8; COUNTER_IV]) -> AhIcv {
        let mut icv = AhIcv { bytes: [0; MAX_AH_ICV], len: self.icv };
        match &self.key {
            Key::Mac(mac) => icv.bytes[..self.icv].copy_from_slice(mac.sign(parts).as_slice()),
            Key::Gmac(key) => {
                icv.bytes[..COUNTER_IV].copy_from_slice(&iv);
                let tag = key.tag(iv, &parts.concat());
                icv.bytes[COUNTER_IV..COUNTER_IV + TAG].copy_from_slice(&tag);
            }
        }
        icv
    }
}
