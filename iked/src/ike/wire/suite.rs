//! Proposals and our algorithms: what of an offer we can use, and which proposal is taken (RFC 7296 sections 2.7 and 3.3).
//!
//! A peer's proposal is first reduced to the algorithms that we know, each at most once, so that matching costs the same
//! for one transform and for thousands of repeated ones (T06).

use super::iana::{AttributeType, ProtocolId, TransformType, transform};
use super::payload::{AttributeValue, Proposal, Sa, Transform};
use crate::ike::types::{Encryption, Group, Integrity, Prf};
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// Algorithms of an IKE SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IkeSuite {
    /// Encryption.
    pub encryption: Encryption,
    /// Integrity; `None` with an AEAD.
    pub integrity: Option<Integrity>,
    /// PRF.
    pub prf: Prf,
    /// Group.
    pub group: Group,
}

/// Algorithms of a child SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChildSuite {
    /// Encryption.
    pub encryption: Encryption,
    /// Integrity; `None` with an AEAD.
    pub integrity: Option<Integrity>,
    /// Group of a fresh key exchange.
    pub group: Option<Group>,
    /// Extended sequence numbers.
    pub esn: bool,
}

/// What was taken out of an SA payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen<Suite, Spi> {
    /// The proposal's number, to be repeated in the answer.
    pub number: u8,
    /// The sender's SPI.
    pub spi: Spi,
    /// Algorithms.
    pub suite: Suite,
}

/// What was taken for an IKE SA; the SPI is there in a rekey.
pub type ChosenIke = Chosen<IkeSuite, Option<u64>>;

/// What was taken for a child SA.
pub type ChosenChild = Chosen<ChildSuite, u32>;

/// Why none was taken: the reason for each proposal, by number.
pub type SuiteFaults = Vec<(u8, SuiteFault)>;

/// Why a proposal cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SuiteFault {
    /// It is for another protocol.
    #[error("for protocol {0}")]
    Protocol(ProtocolId),
    /// Its SPI has the wrong size, or a value that is reserved.
    #[error("bad SPI of {0} octets")]
    Spi(usize),
    /// It needs a kind of transform that we do not know (section 3.3.6).
    #[error("needs {0}")]
    UnknownKind(TransformType),
    /// It has a kind of transform that this protocol does not take.
    #[error("has {0}, which does not belong there")]
    Misplaced(TransformType),
    /// An AEAD together with an integrity algorithm (section 3.3).
    #[error("an AEAD and an integrity algorithm")]
    AeadWithIntegrity,
    /// None of its transforms of this type is allowed here.
    #[error("no {0} that is allowed")]
    NoCommon(TransformType),
    /// Each algorithm is allowed, this combination is not.
    #[error("a combination that is not allowed")]
    NoCombination,
    /// An answer must hold exactly one proposal with one transform of each type (section 2.7).
    #[error("an answer with alternatives")]
    NotOne,
}

/// What of one proposal we could use: each algorithm once, in the peer's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offered {
    /// Encryption.
    pub encryption: Vec<Encryption>,
    /// Integrity; `None` stands for none, with an AEAD.
    pub integrity: Vec<Option<Integrity>>,
    /// PRFs.
    pub prf: Vec<Prf>,
    /// Groups; `None` stands for no key exchange.
    pub groups: Vec<Option<Group>>,
    /// Extended sequence numbers, or not.
    pub esn: Vec<bool>,
}

impl Proposal {
    /// A proposal for an IKE SA: an offer, or the answer that takes it. `spi` is ours, in a rekey only.
    #[must_use]
    pub fn ike(number: u8, spi: Option<u64>, suite: &IkeSuite) -> Self {
        let mut transforms: Vec<_> = encryption(suite.encryption).into_iter().collect();
        transforms.push(prf(suite.prf));
        transforms.extend(suite.integrity.map(integrity));
        transforms.push(group(suite.group));
        let spi = spi.map(|spi| spi.to_be_bytes().to_vec()).unwrap_or_default();
        Self { number, protocol: ProtocolId::IKE, spi, transforms }
    }

    /// A proposal for an ESP or AH SA on whose SPI we shall receive. `esn` lists what is acceptable: one in an answer.
    #[must_use]
    pub fn child(number: u8, spi: u32, suite: &ChildSuite, esn: &[bool]) -> Self {
        let mut transforms: Vec<_> = encryption(suite.encryption).into_iter().collect();
        transforms.extend(suite.integrity.map(integrity));
        transforms.extend(suite.group.map(group));
        let id = |esn: &bool| if *esn { transform::ESN_YES } else { transform::ESN_NO };
        transforms.extend(esn.iter().map(|esn| Transform::new(TransformType::ESN, id(esn), None)));
        Self { number, protocol: suite.protocol(), spi: spi.to_be_bytes().to_vec(), transforms }
    }

    /// What of it we could use as `protocol`'s proposal.
    ///
    /// # Errors
    /// It cannot be used at all.
    pub fn offered(&self, protocol: ProtocolId) -> Result<Offered, SuiteFault> {
        if self.protocol != protocol {
            return Err(SuiteFault::Protocol(self.protocol));
        }
        let mut out = Offered::default();
        let (mut kinds_ke, mut kinds_integrity) = (false, false);
        for transform in &self.transforms {
            kinds_ke |= transform.kind == TransformType::KE;
            kinds_integrity |= transform.kind == TransformType::INTEG && transform.id != transform::AUTH_NONE;
            let misplaced = match protocol {
                ProtocolId::IKE => transform.kind == TransformType::ESN,
                ProtocolId::AH => matches!(transform.kind, TransformType::PRF | TransformType::ENCR),
                _ => transform.kind == TransformType::PRF,
            };
            if misplaced {
                return Err(SuiteFault::Misplaced(transform.kind));
            }
            match transform.kind {
                TransformType::ENCR => add(&mut out.encryption, transform.encryption()),
                TransformType::PRF => add(&mut out.prf, transform.prf()),
                TransformType::INTEG => add(&mut out.integrity, transform.integrity()),
                TransformType::KE => add(&mut out.groups, transform.group()),
                TransformType::ESN => add(&mut out.esn, transform.esn()),
                other => return Err(SuiteFault::UnknownKind(other)),
            }
        }
        if kinds_integrity && self.transforms.iter().any(Transform::is_aead) {
            return Err(SuiteFault::AeadWithIntegrity);
        }
        // Sections 3.3.2 and 3.3.3: leaving optional kinds out means "none".
        if !kinds_integrity {
            add(&mut out.integrity, Some(None));
        }
        if !kinds_ke {
            add(&mut out.groups, Some(None));
        }
        if protocol == ProtocolId::AH {
            add(&mut out.encryption, Some(Encryption::Absent));
        }
        Ok(out)
    }

    fn ike_spi(&self) -> Result<Option<u64>, SuiteFault> {
        let fault = SuiteFault::Spi(self.spi.len());
        match self.spi.len() {
            0 => Ok(None),
            8 => {
                let spi = self.spi.as_slice().try_into().map(u64::from_be_bytes).map_err(|_| fault)?;
                if spi == 0 { Err(fault) } else { Ok(Some(spi)) }
            }
            _ => Err(fault),
        }
    }

    fn child_spi(&self) -> Result<u32, SuiteFault> {
        let fault = SuiteFault::Spi(self.spi.len());
        let spi = self.spi.as_slice().try_into().map(u32::from_be_bytes).map_err(|_| fault)?;
        // RFC 4303 section 2.1: 0 to 255 are reserved.
        if spi < 256 { Err(fault) } else { Ok(spi) }
    }

    /// No type stands twice, as in an answer.
    fn is_answer(&self) -> bool {
        let mut seen = [false; 256];
        self.transforms
            .iter()
            .all(|transform| !std::mem::replace(&mut seen[usize::from(transform.kind.0)], true))
    }
}

/// The first of `ours` that one of the peer's proposals has, as responder.
///
/// # Errors
/// None: the reason for each proposal, by number.
pub fn choose_ike(sa: &Sa, ours: &[IkeSuite]) -> Result<ChosenIke, SuiteFaults> {
    choose(sa, ours, &[ProtocolId::IKE], Proposal::ike_spi)
}

/// The first of `ours` that one of the peer's ESP or AH proposals has, as responder.
///
/// # Errors
/// None: the reason for each proposal, by number.
pub fn choose_child(sa: &Sa, ours: &[ChildSuite]) -> Result<ChosenChild, SuiteFaults> {
    choose(sa, ours, &[ProtocolId::ESP, ProtocolId::AH], Proposal::child_spi)
}

impl Sa {
    /// What the responder took of our offers `ours`, as initiator.
    ///
    /// # Errors
    /// The answer is not exactly one of them.
    pub fn accepted_ike(&self, ours: &[IkeSuite]) -> Result<ChosenIke, SuiteFault> {
        self.accepted(|| choose_ike(self, ours))
    }

    /// What the responder took of our offers `ours`, as initiator.
    ///
    /// # Errors
    /// The answer is not exactly one of them.
    pub fn accepted_child(&self, ours: &[ChildSuite]) -> Result<ChosenChild, SuiteFault> {
        self.accepted(|| choose_child(self, ours))
    }

    fn accepted<T>(&self, choose: impl FnOnce() -> Result<T, SuiteFaults>) -> Result<T, SuiteFault> {
        match self.proposals.as_slice() {
            [proposal] if proposal.is_answer() => choose()
                .map_err(|faults| faults.first().map_or(SuiteFault::NoCombination, |(_, fault)| *fault)),
            _ => Err(SuiteFault::NotOne),
        }
    }
}

/// How a suite is looked for in what was offered.
trait Suite: Copy {
    /// Encryption and integrity belong together: an AEAD without, another cipher with integrity. One that is not sound
    /// is never chosen, whatever policy says.
    fn is_sound(&self) -> bool;

    /// The transform types of it that are not offered.
    fn missing(&self, offered: &Offered) -> Vec<TransformType>;
}

impl IkeSuite {
    /// See [`Suite::is_sound`].
    pub(crate) fn is_sound(&self) -> bool {
        self.encryption.is_for_ike()
            && self.encryption.has_key_length()
            && match self.integrity {
                None => self.encryption.is_aead(),
                Some(integrity) => !self.encryption.is_aead() && integrity.is_for_ike(),
            }
    }
}

impl ChildSuite {
    /// ESP, or AH.
    #[must_use]
    pub const fn protocol(&self) -> ProtocolId {
        match self.encryption {
            Encryption::Absent => ProtocolId::AH,
            _ => ProtocolId::ESP,
        }
    }

    /// See [`Suite::is_sound`]. AES-GMAC is an integrity algorithm of AH, and a cipher of ESP (RFC 4543 sections 3 and 4).
    pub(crate) fn is_sound(&self) -> bool {
        self.encryption.has_key_length()
            && match self.integrity {
                None => self.encryption.is_aead(),
                Some(Integrity::AesGmac(bits)) => {
                    self.encryption == Encryption::Absent && matches!(bits, 128 | 256)
                }
                Some(_) => !self.encryption.is_aead(),
            }
    }
}

impl Suite for IkeSuite {
    fn is_sound(&self) -> bool {
        self.is_sound()
    }

    fn missing(&self, offered: &Offered) -> Vec<TransformType> {
        let found = [
            (TransformType::ENCR, offered.encryption.contains(&self.encryption)),
            (TransformType::PRF, offered.prf.contains(&self.prf)),
            (TransformType::INTEG, offered.integrity.contains(&self.integrity)),
            (TransformType::KE, offered.groups.contains(&Some(self.group))),
        ];
        found.into_iter().filter(|(_, found)| !found).map(|(kind, _)| kind).collect()
    }
}

impl Suite for ChildSuite {
    fn is_sound(&self) -> bool {
        self.is_sound()
    }

    fn missing(&self, offered: &Offered) -> Vec<TransformType> {
        let found = [
            (TransformType::ENCR, offered.encryption.contains(&self.encryption)),
            (TransformType::INTEG, offered.integrity.contains(&self.integrity)),
            (TransformType::KE, offered.groups.contains(&self.group)),
            (TransformType::ESN, offered.esn.contains(&self.esn)),
        ];
        found.into_iter().filter(|(_, found)| !found).map(|(kind, _)| kind).collect()
    }
}

fn choose<S: Suite, Spi>(
    sa: &Sa,
    ours: &[S],
    protocols: &[ProtocolId],
    spi_of: impl Fn(&Proposal) -> Result<Spi, SuiteFault>,
) -> Result<Chosen<S, Spi>, SuiteFaults> {
    let mut usable = Vec::new();
    let mut faults = Vec::new();
    for proposal in &sa.proposals {
        // Of one protocol that is not wanted here, the fault is named by what is.
        let protocol = protocols.iter().find(|p| **p == proposal.protocol).or(protocols.first());
        let protocol = protocol.copied().unwrap_or(ProtocolId::NONE);
        match spi_of(proposal).and_then(|spi| Ok((spi, proposal.offered(protocol)?))) {
            Ok((spi, offered)) => usable.push((proposal.number, spi, offered)),
            Err(fault) => faults.push((proposal.number, fault)),
        }
    }
    for suite in ours.iter().filter(|suite| suite.is_sound()) {
        if let Some(index) = usable.iter().position(|(_, _, offered)| suite.missing(offered).is_empty()) {
            let (number, spi, _) = usable.swap_remove(index);
            return Ok(Chosen { number, spi, suite: *suite });
        }
    }
    for (number, _, offered) in &usable {
        // A type that every one of ours misses is the reason; otherwise it is the combination.
        let mut missing = ours.iter().map(|suite| suite.missing(offered));
        let common = missing.next().unwrap_or_default();
        let always = missing
            .fold(common, |common, next| common.into_iter().filter(|kind| next.contains(kind)).collect());
        faults.push((
            *number,
            always.first().map_or(SuiteFault::NoCombination, |kind| SuiteFault::NoCommon(*kind)),
        ));
    }
    faults.sort_by_key(|(number, _)| *number);
    Err(faults)
}

fn add<T: PartialEq>(list: &mut Vec<T>, item: Option<T>) {
    list.extend(item.filter(|item| !list.contains(item)));
}

impl Transform {
    /// The Key Length attribute; `Err` where an attribute stands that we do not know, so that the transform is passed over.
    fn key_length(&self) -> Result<Option<u16>, ()> {
        match self.attributes.as_slice() {
            [] => Ok(None),
            [attribute] => match (attribute.kind, &attribute.value) {
                (AttributeType::KEY_LENGTH, AttributeValue::Short(bits)) => Ok(Some(*bits)),
                _ => Err(()),
            },
            _ => Err(()),
        }
    }

    fn encryption(&self) -> Option<Encryption> {
        match (self.id, self.key_length()) {
            (transform::ENCR_AES_CBC, Ok(Some(bits @ (128 | 192 | 256)))) => Some(Encryption::AesCbc(bits)),
            (transform::ENCR_AES_CTR, Ok(Some(bits @ (128 | 192 | 256)))) => Some(Encryption::AesCtr(bits)),
            (transform::ENCR_NULL_AUTH_AES_GMAC, Ok(Some(bits @ (128 | 256)))) => {
                Some(Encryption::AesGmac(bits))
            }
            (transform::ENCR_CHACHA20_POLY1305, Ok(None)) => Some(Encryption::ChaCha20Poly1305),
            (transform::ENCR_NULL, Ok(None)) => Some(Encryption::Null),
            (transform::ENCR_3DES, Ok(None)) => Some(Encryption::TripleDes),
            (transform::ENCR_DES, Ok(None)) => Some(Encryption::Des),
            (transform::ENCR_AES_GCM_16, Ok(Some(bits @ (128 | 256)))) => Some(Encryption::AesGcm16(bits)),
            _ => None,
        }
    }

    /// An AEAD, ours or not (RFC 4309, RFC 4543, RFC 5282, RFC 7634).
    fn is_aead(&self) -> bool {
        self.kind == TransformType::ENCR && matches!(self.id, 14..=16 | 18..=21 | 25..=28)
    }

    fn prf(&self) -> Option<Prf> {
        match (self.id, self.key_length()) {
            (transform::PRF_HMAC_SHA2_256, Ok(None)) => Some(Prf::HmacSha256),
            (transform::PRF_HMAC_SHA2_384, Ok(None)) => Some(Prf::HmacSha384),
            (transform::PRF_HMAC_SHA2_512, Ok(None)) => Some(Prf::HmacSha512),
            (transform::PRF_HMAC_SHA1, Ok(None)) => Some(Prf::HmacSha1),
            (transform::PRF_HMAC_MD5, Ok(None)) => Some(Prf::HmacMd5),
            (transform::PRF_AES128_XCBC, Ok(None)) => Some(Prf::AesXcbc),
            _ => None,
        }
    }

    fn integrity(&self) -> Option<Option<Integrity>> {
        match (self.id, self.key_length()) {
            (transform::AUTH_NONE, Ok(None)) => Some(None),
            (transform::AUTH_HMAC_SHA2_256_128, Ok(None)) => Some(Some(Integrity::HmacSha256)),
            (transform::AUTH_HMAC_SHA2_384_192, Ok(None)) => Some(Some(Integrity::HmacSha384)),
            (transform::AUTH_HMAC_SHA2_512_256, Ok(None)) => Some(Some(Integrity::HmacSha512)),
            (transform::AUTH_HMAC_SHA1_96, Ok(None)) => Some(Some(Integrity::HmacSha1)),
            (transform::AUTH_AES_XCBC_96, Ok(None)) => Some(Some(Integrity::AesXcbc96)),
            (transform::AUTH_HMAC_MD5_96, Ok(None)) => Some(Some(Integrity::HmacMd5)),
            (transform::AUTH_AES_128_GMAC, Ok(None)) => Some(Some(Integrity::AesGmac(128))),
            (transform::AUTH_AES_256_GMAC, Ok(None)) => Some(Some(Integrity::AesGmac(256))),
            _ => None,
        }
    }

    fn group(&self) -> Option<Option<Group>> {
        match (self.id, self.key_length()) {
            (transform::KE_NONE, Ok(None)) => Some(None),
            (id, Ok(None)) => Group::from_number(id).map(Some),
            _ => None,
        }
    }

    fn esn(&self) -> Option<bool> {
        match (self.id, self.key_length()) {
            (transform::ESN_NO, Ok(None)) => Some(false),
            (transform::ESN_YES, Ok(None)) => Some(true),
            _ => None,
        }
    }
}

fn encryption(encryption: Encryption) -> Option<Transform> {
    let (id, key_length) = match encryption {
        Encryption::AesCbc(bits) => (transform::ENCR_AES_CBC, Some(bits)),
        Encryption::AesGcm16(bits) => (transform::ENCR_AES_GCM_16, Some(bits)),
        Encryption::AesCtr(bits) => (transform::ENCR_AES_CTR, Some(bits)),
        Encryption::AesGmac(bits) => (transform::ENCR_NULL_AUTH_AES_GMAC, Some(bits)),
        Encryption::ChaCha20Poly1305 => (transform::ENCR_CHACHA20_POLY1305, None),
        Encryption::Null => (transform::ENCR_NULL, None),
        Encryption::TripleDes => (transform::ENCR_3DES, None),
        Encryption::Des => (transform::ENCR_DES, None),
        Encryption::Absent => return None,
    };
    Some(Transform::new(TransformType::ENCR, id, key_length))
}

fn prf(prf: Prf) -> Transform {
    let id = match prf {
        Prf::HmacSha256 => transform::PRF_HMAC_SHA2_256,
        Prf::HmacSha384 => transform::PRF_HMAC_SHA2_384,
        Prf::HmacSha512 => transform::PRF_HMAC_SHA2_512,
        Prf::HmacSha1 => transform::PRF_HMAC_SHA1,
        Prf::HmacMd5 => transform::PRF_HMAC_MD5,
        Prf::AesXcbc => transform::PRF_AES128_XCBC,
    };
    Transform::new(TransformType::PRF, id, None)
}

fn integrity(integrity: Integrity) -> Transform {
    let id = match integrity {
        Integrity::HmacSha256 => transform::AUTH_HMAC_SHA2_256_128,
        Integrity::HmacSha384 => transform::AUTH_HMAC_SHA2_384_192,
        Integrity::HmacSha512 => transform::AUTH_HMAC_SHA2_512_256,
        Integrity::HmacSha1 => transform::AUTH_HMAC_SHA1_96,
        Integrity::AesXcbc96 => transform::AUTH_AES_XCBC_96,
        Integrity::HmacMd5 => transform::AUTH_HMAC_MD5_96,
        Integrity::AesGmac(128) => transform::AUTH_AES_128_GMAC,
        Integrity::AesGmac(_) => transform::AUTH_AES_256_GMAC,
    };
    Transform::new(TransformType::INTEG, id, None)
}

fn group(group: Group) -> Transform {
    Transform::new(TransformType::KE, group.number(), None)
}

/// `AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE25519`, as proposals are shown.
impl fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Proposal::ike(1, None, self).fmt(f)
    }
}

/// As [`IkeSuite`].
impl fmt::Display for ChildSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Proposal::child(1, 0, self, &[self.esn]).fmt(f)
    }
}
