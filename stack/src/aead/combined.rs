//! Suites that encrypt and authenticate in one: AES-GCM, ChaCha20-Poly1305, and AES-GMAC, which only authenticates.

use super::suite::{COUNTER_IV, SALT, TAG};
use super::{IntegrityError, KeyError};
use aws_lc_rs::aead::{self, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// Octets of the ESP header.
const HEADER: usize = 8;
/// Octets of the high half of the sequence number.
const HIGH: usize = 4;

/// Key and salt of an AEAD.
pub struct AeadKey {
    key: LessSafeKey,
    salt: Zeroizing<[u8; SALT]>,
}

impl std::fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AeadKey(..)")
    }
}

impl AeadKey {
    /// AES-GCM and AES-GMAC; `material` is an AES key of 16 or 32 octets and the salt.
    pub(super) fn aes(material: &[u8]) -> Result<Self, KeyError> {
        let algorithm = if material.len() == 16 + SALT { &aead::AES_128_GCM } else { &aead::AES_256_GCM };
        Self::new(algorithm, material)
    }

    /// ChaCha20-Poly1305; `material` is the key and the salt (RFC 7634 section 2).
    pub(super) fn chacha20(material: &[u8]) -> Result<Self, KeyError> {
        Self::new(&aead::CHACHA20_POLY1305, material)
    }

    fn new(algorithm: &'static Algorithm, material: &[u8]) -> Result<Self, KeyError> {
        let (key, salt) = material.split_at(material.len() - SALT);
        let key = UnboundKey::new(algorithm, key).map_err(|_| KeyError::Library)?;
        let mut s = Zeroizing::new([0; SALT]);
        s.copy_from_slice(salt);
        Ok(Self { key: LessSafeKey::new(key), salt: s })
    }

    /// Salt and IV (RFC 4106 section 4, RFC 7634 section 2).
    fn nonce(&self, iv: [u8; COUNTER_IV]) -> Nonce {
        let mut n = [0; SALT + COUNTER_IV];
        n[..SALT].copy_from_slice(self.salt.as_slice());
        n[SALT..].copy_from_slice(&iv);
        Nonce::assume_unique_for_key(n)
    }

    pub(super) fn seal(
        &self,
        packet: &mut [u8],
        sequence: u64,
        esn_high: Option<u32>,
    ) -> Result<(), IntegrityError> {
        let (header, rest) = packet.split_first_chunk_mut::<HEADER>().ok_or(IntegrityError)?;
        let (iv, rest) = rest.split_first_chunk_mut::<COUNTER_IV>().ok_or(IntegrityError)?;
        let (text, icv) = rest.split_last_chunk_mut::<TAG>().ok_or(IntegrityError)?;
        *iv = sequence.to_be_bytes();
        let aad = HeaderAad::new(*header, esn_high);
        let tag = self.key.seal_in_place_separate_tag(self.nonce(*iv), aad.aad(), text);
        icv.copy_from_slice(tag.map_err(|_| IntegrityError)?.as_ref());
        Ok(())
    }

    pub(super) fn open(&self, packet: &mut [u8], esn_high: Option<u32>) -> Result<(), IntegrityError> {
        let (header, rest) = packet.split_first_chunk_mut::<HEADER>().ok_or(IntegrityError)?;
        let (iv, text) = rest.split_first_chunk_mut::<COUNTER_IV>().ok_or(IntegrityError)?;
        let aad = HeaderAad::new(*header, esn_high);
        self.key.open_in_place(self.nonce(*iv), aad.aad(), text).map_err(|_| IntegrityError)?;
        Ok(())
    }

    /// AES-GMAC (RFC 4543 section 3): nothing is encrypted, everything before the ICV is authenticated.
    pub(super) fn sign(
        &self,
        packet: &mut [u8],
        sequence: u64,
        esn_high: Option<u32>,
    ) -> Result<(), IntegrityError> {
        let iv = packet.get_mut(HEADER..HEADER + COUNTER_IV).ok_or(IntegrityError)?;
        iv.copy_from_slice(&sequence.to_be_bytes());
        let tag = self.gmac(packet, esn_high)?;
        *packet.last_chunk_mut::<TAG>().ok_or(IntegrityError)? = tag;
        Ok(())
    }

    pub(super) fn verify(&self, packet: &mut [u8], esn_high: Option<u32>) -> Result<(), IntegrityError> {
        use subtle::ConstantTimeEq;
        let icv = *packet.last_chunk::<TAG>().ok_or(IntegrityError)?;
        let want = self.gmac(packet, esn_high)?;
        if bool::from(want.ct_eq(&icv)) { Ok(()) } else { Err(IntegrityError) }
    }

    /// The tag over `covered` alone, as AH has it (RFC 4543 section 4).
    pub(super) fn tag(&self, iv: [u8; COUNTER_IV], covered: &[u8]) -> [u8; TAG] {
        let tag = self.key.seal_in_place_separate_tag(self.nonce(iv), Aad::from(covered), &mut []);
        let mut bytes = [0; TAG];
        bytes
            .copy_from_slice(tag.expect("an IP packet is far below GCM's limit of associated data").as_ref());
        bytes
    }

    /// The tag of what stands before the ICV. With ESN the whole number is authenticated where its low half stands
    /// (RFC 4543 section 3.3): the packet moves up to make room for it, into the place of the ICV, and back.
    fn gmac(&self, packet: &mut [u8], esn_high: Option<u32>) -> Result<[u8; TAG], IntegrityError> {
        let end =
            packet.len().checked_sub(TAG).filter(|e| *e >= HEADER + COUNTER_IV).ok_or(IntegrityError)?;
        let mut iv = [0; COUNTER_IV];
        iv.copy_from_slice(&packet[HEADER..HEADER + COUNTER_IV]);
        let tag = match esn_high {
            None => self.key.seal_in_place_separate_tag(self.nonce(iv), Aad::from(&packet[..end]), &mut []),
            Some(high) => {
                packet.copy_within(4..end, 4 + HIGH);
                packet[4..4 + HIGH].copy_from_slice(&high.to_be_bytes());
                let covered = Aad::from(&packet[..end + HIGH]);
                let tag = self.key.seal_in_place_separate_tag(self.nonce(iv), covered, &mut []);
                packet.copy_within(4 + HIGH..end + HIGH, 4);
                tag
            }
        };
        let mut bytes = [0; TAG];
        bytes.copy_from_slice(tag.map_err(|_| IntegrityError)?.as_ref());
        Ok(bytes)
    }
}

/// Additional authenticated data (RFC 4106 section 5, RFC 7634 section 2.1): SPI and sequence number, of 64 bits with
/// ESN. `header` is the ESP header as it stands in the packet.
struct HeaderAad {
    bytes: [u8; HEADER + HIGH],
    len: usize,
}

impl HeaderAad {
    fn new(header: [u8; HEADER], esn_high: Option<u32>) -> Self {
        let mut bytes = [0; HEADER + HIGH];
        let Some(high) = esn_high else {
            bytes[..HEADER].copy_from_slice(&header);
            return Self { bytes, len: HEADER };
        };
        bytes[..4].copy_from_slice(&header[..4]);
        bytes[4..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&header[4..]);
        Self { bytes, len: HEADER + HIGH }
    }

    fn aad(&self) -> Aad<&[u8]> {
        Aad::from(&self.bytes[..self.len])
    }
}
