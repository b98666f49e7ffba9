//! Suites of a cipher and an integrity algorithm, which covers the encrypted packet: AES-CBC (RFC 3602), AES-CTR
//! (RFC 3686), DES and 3DES (RFC 2405, RFC 2451), no encryption at all (RFC 2410). Inside AH there is no integrity algorithm:
//! AH's has been checked before (RFC 4303 section 3.4.4.1).

use super::des::DesCbc;
use super::mac::Mac;
use super::suite::{AES_BLOCK, COUNTER_IV, DES_BLOCK, SALT};
use super::{IntegrityError, KeyError};
use crate::control::EspIntegrity;
use aws_lc_rs::cipher::{
    self, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

/// Octets of the ESP header.
const HEADER: usize = 8;

/// Which cipher.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Cbc,
    Ctr,
    Des,
    Null,
}

/// Protects one direction.
pub struct SeparateSealer {
    cipher: CipherSealer,
    mac: Option<Mac>,
    /// Makes the IVs of two SAs with one key differ, where there can be two: see [`super::Sealer::salt_ivs`].
    salt: u64,
}

/// Opens one direction.
pub struct SeparateOpener {
    cipher: CipherOpener,
    mac: Option<Mac>,
}

enum CipherSealer {
    Cbc(EncryptingKey),
    Ctr(EncryptingKey, Zeroizing<[u8; SALT]>),
    Des(DesCbc),
    Null,
}

enum CipherOpener {
    Cbc(DecryptingKey),
    Ctr(DecryptingKey, Zeroizing<[u8; SALT]>),
    Des(DesCbc),
    Null,
}

impl std::fmt::Debug for SeparateSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SeparateSealer(..)")
    }
}

impl std::fmt::Debug for SeparateOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SeparateOpener(..)")
    }
}

fn aes(key: &[u8]) -> Result<UnboundCipherKey, KeyError> {
    let algorithm = match key.len() {
        16 => &cipher::AES_128,
        24 => &cipher::AES_192,
        _ => &cipher::AES_256,
    };
    UnboundCipherKey::new(algorithm, key).map_err(|_| KeyError::Library)
}

/// Key and nonce (RFC 3686 section 5.1).
fn ctr_key(material: &[u8]) -> Result<(UnboundCipherKey, Zeroizing<[u8; SALT]>), KeyError> {
    let (key, nonce) = material.split_at(material.len() - SALT);
    let mut n = Zeroizing::new([0; SALT]);
    n.copy_from_slice(nonce);
    Ok((aes(key)?, n))
}

/// The first counter block (RFC 3686 section 4): nonce, IV, one.
fn counter_block(nonce: &[u8; SALT], iv: &[u8; COUNTER_IV]) -> FixedLength<AES_BLOCK> {
    let mut block = [0; AES_BLOCK];
    block[..SALT].copy_from_slice(nonce);
    block[SALT..SALT + COUNTER_IV].copy_from_slice(iv);
    block[AES_BLOCK - 1] = 1;
    FixedLength::from(block)
}

fn split_keys(integrity: Option<EspIntegrity>, material: &[u8]) -> Result<(&[u8], Option<Mac>), KeyError> {
    let Some(integrity) = integrity else { return Ok((material, None)) };
    let (encryption, key) = material.split_at(material.len() - integrity.key_len());
    Ok((encryption, Some(Mac::new(integrity, key)?)))
}

/// Octets of the ICV.
fn icv_len(mac: Option<&Mac>) -> usize {
    mac.map_or(0, Mac::icv_len)
}

/// The parts that the ICV covers.
fn covered<'a>(packet: &'a [u8], high: &'a [u8; 4], esn: bool) -> [&'a [u8]; 2] {
    [packet, if esn { high } else { &[] }]
}

impl SeparateSealer {
    /// `material` has the length of the suite's.
    pub(super) fn new(
        kind: Kind,
        integrity: Option<EspIntegrity>,
        material: &[u8],
    ) -> Result<Self, KeyError> {
        let (encryption, mac) = split_keys(integrity, material)?;
        let cipher = match kind {
            Kind::Null => CipherSealer::Null,
            Kind::Des => CipherSealer::Des(DesCbc::new(encryption)?),
            Kind::Cbc => {
                CipherSealer::Cbc(EncryptingKey::cbc(aes(encryption)?).map_err(|_| KeyError::Library)?)
            }
            Kind::Ctr => {
                let (key, nonce) = ctr_key(encryption)?;
                CipherSealer::Ctr(EncryptingKey::ctr(key).map_err(|_| KeyError::Library)?, nonce)
            }
        };
        Ok(Self { cipher, mac, salt: 0 })
    }

    pub(super) const fn salt_ivs(&mut self, salt: u64) {
        self.salt = salt;
    }

    pub(super) fn seal(
        &self,
        packet: &mut [u8],
        sequence: u64,
        esn_high: Option<u32>,
    ) -> Result<(), IntegrityError> {
        let end = packet.len().checked_sub(icv_len(self.mac.as_ref())).ok_or(IntegrityError)?;
        let (packet, icv) = packet.split_at_mut(end);
        let text = packet.get_mut(HEADER..).ok_or(IntegrityError)?;
        match &self.cipher {
            CipherSealer::Null => {}
            CipherSealer::Cbc(key) => {
                // Block 0 is the number: encrypted with a zero IV it becomes the IV of what follows, in the same pass.
                let block: &mut [u8; AES_BLOCK] = text.first_chunk_mut().ok_or(IntegrityError)?;
                *block = (u128::from(self.salt) << 64 | u128::from(sequence)).to_be_bytes();
                let zero = EncryptionContext::Iv128(FixedLength::from([0; AES_BLOCK]));
                key.less_safe_encrypt(text, zero).map_err(|_| IntegrityError)?;
            }
            CipherSealer::Des(key) => {
                let block: &mut [u8; DES_BLOCK] = text.first_chunk_mut().ok_or(IntegrityError)?;
                *block = self.salt.wrapping_add(sequence).to_be_bytes();
                key.encrypt([0; DES_BLOCK], text)?;
            }
            CipherSealer::Ctr(key, nonce) => {
                let (iv, text) = text.split_first_chunk_mut::<COUNTER_IV>().ok_or(IntegrityError)?;
                *iv = sequence.to_be_bytes();
                let counter = EncryptionContext::Iv128(counter_block(nonce, iv));
                key.less_safe_encrypt(text, counter).map_err(|_| IntegrityError)?;
            }
        }
        let high = esn_high.unwrap_or(0).to_be_bytes();
        if let Some(mac) = &self.mac {
            icv.copy_from_slice(mac.sign(&covered(packet, &high, esn_high.is_some())).as_slice());
        }
        Ok(())
    }
}

impl SeparateOpener {
    /// `material` has the length of the suite's.
    pub(super) fn new(
        kind: Kind,
        integrity: Option<EspIntegrity>,
        material: &[u8],
    ) -> Result<Self, KeyError> {
        let (encryption, mac) = split_keys(integrity, material)?;
        let cipher = match kind {
            Kind::Null => CipherOpener::Null,
            Kind::Des => CipherOpener::Des(DesCbc::new(encryption)?),
            Kind::Cbc => {
                CipherOpener::Cbc(DecryptingKey::cbc(aes(encryption)?).map_err(|_| KeyError::Library)?)
            }
            Kind::Ctr => {
                let (key, nonce) = ctr_key(encryption)?;
                CipherOpener::Ctr(DecryptingKey::ctr(key).map_err(|_| KeyError::Library)?, nonce)
            }
        };
        Ok(Self { cipher, mac })
    }

    pub(super) fn open(&self, packet: &mut [u8], esn_high: Option<u32>) -> Result<(), IntegrityError> {
        let end = packet.len().checked_sub(icv_len(self.mac.as_ref())).ok_or(IntegrityError)?;
        let (packet, icv) = packet.split_at_mut(end);
        let high = esn_high.unwrap_or(0).to_be_bytes();
        if let Some(mac) = &self.mac
            && !mac.verify(&covered(packet, &high, esn_high.is_some()), icv)
        {
            return Err(IntegrityError);
        }
        let body = packet.get_mut(HEADER..).ok_or(IntegrityError)?;
        match &self.cipher {
            CipherOpener::Null => {}
            CipherOpener::Cbc(key) => {
                let (iv, text) = body.split_first_chunk_mut::<AES_BLOCK>().ok_or(IntegrityError)?;
                let iv = DecryptionContext::Iv128(FixedLength::from(*iv));
                key.decrypt(text, iv).map_err(|_| IntegrityError)?;
            }
            CipherOpener::Des(key) => {
                let (iv, text) = body.split_first_chunk_mut::<DES_BLOCK>().ok_or(IntegrityError)?;
                key.decrypt(*iv, text)?;
            }
            CipherOpener::Ctr(key, nonce) => {
                let (iv, text) = body.split_first_chunk_mut::<COUNTER_IV>().ok_or(IntegrityError)?;
                let counter = DecryptionContext::Iv128(counter_block(nonce, iv));
                key.decrypt(text, counter).map_err(|_| IntegrityError)?;
            }
        }
        Ok(())
    }
}
