//! Protected messages: sealing and opening of the Encrypted payload (RFC 7296 section 3.14, RFC 5282).
//!
//! ```text
//! | IKE header | SK header | IV | payloads | padding | pad length | ICV |
//! |<--- AEAD: associated --->|    |<------- encrypted ---------->|     |
//! |<---------------- HMAC: authenticated ----------------------->|     |
//! ```

use super::aead::{Forged, GcmKey, IV_LEN, TAG_LEN};
use super::cbc::CbcKey;
use crate::ike::types::{Encryption, Secret};
use crate::ike::wire::payload::encode_chain;
use crate::ike::wire::{
    EncodeError, Fragment, HEADER_LEN, Header, IkeSuite, MAX_FRAGMENTS, Message, PayloadType, Protected,
    WireError,
};
use rand::CryptoRng;
use thiserror::Error;

/// Octets of the generic header of the Encrypted payload.
const GENERIC_LEN: usize = 4;
/// Octets of the number of a fragment and of how many there are (RFC 7383 section 2.5).
const FRAGMENT_LEN: usize = 4;
/// Octets of an IKE message that is not fragmented: with IPv6 and UDP headers and the non-ESP marker 1280, which every link
/// carries (RFC 7383 section 2.5.1).
const DATAGRAM: usize = 1280 - 40 - 8 - 4;
/// Bits of an IV that count; the rest are the epoch.
const COUNTER_BITS: u32 = 48;

/// The IVs of one AEAD key: each is given out once (T26).
///
/// The high 16 bits are the epoch of the address's owner, so that a new owner of the same SA never meets an IV of the old
/// one; the low 48 bits count.
#[derive(Debug, PartialEq, Eq)]
pub struct IvCounter {
    next: u64,
    left: u64,
}

impl IvCounter {
    /// The IVs of a fresh key, or of a key that this side takes over in `epoch` for the first time.
    #[must_use]
    pub const fn of_epoch(epoch: u16) -> Self {
        Self { next: (epoch as u64) << COUNTER_BITS, left: 1 << COUNTER_BITS }
    }

    /// What is left when `next` is the first that was never used, of the same epoch (a restart).
    #[must_use]
    pub const fn resume(next: u64) -> Self {
        Self { next, left: (1 << COUNTER_BITS) - (next & ((1 << COUNTER_BITS) - 1)) }
    }

    /// The next IV, to be stored before a message is sent where SAs outlive the process.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    fn take(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let iv = self.next;
        self.next = self.next.wrapping_add(1);
        Some(iv)
    }
}

/// Seals what this side sends on one IKE SA.
pub struct Sealer {
    protection: Protection,
    ivs: IvCounter,
    /// The peer takes fragments (RFC 7383).
    fragments: bool,
}

/// The datagrams that [`Sealer::seal`] gave as one: each says its length in its header (RFC 7296 section 3.1).
pub(crate) fn datagrams(mut octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let field = octets.get(HEADER_LEN - 4..HEADER_LEN)?;
        let length = field.try_into().map(u32::from_be_bytes).ok().and_then(|n| usize::try_from(n).ok());
        // What says something else goes out as it is: it was not made here.
        let length = length.filter(|n| (HEADER_LEN..=octets.len()).contains(n)).unwrap_or(octets.len());
        let (one, rest) = octets.split_at(length);
        octets = rest;
        Some(one)
    })
}

/// Opens what the peer sends on one IKE SA.
pub struct Opener {
    protection: Protection,
}

enum Protection {
    Gcm(GcmKey),
    Cbc(CbcKey),
}

/// Why a message of ours cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// It does not fit.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// All IVs of the key are used: the IKE SA must be replaced.
    #[error("the key has no IV left")]
    Exhausted,
}

/// Why a peer's message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Cut, changed or made without the key. Nothing says which (T25); drop it and count it.
    #[error("integrity check failed")]
    Forged,
    /// Authentic, but its content cannot be taken apart: answer with [`WireError::notify`].
    #[error(transparent)]
    Content(#[from] WireError),
}

impl From<Forged> for OpenError {
    fn from(_: Forged) -> Self {
        Self::Forged
    }
}

impl Protection {
    /// # Panics
    /// A suite that is not sound, which `wire::choose_ike` never chooses, or keys of wrong length.
    fn new(suite: &IkeSuite, encryption: &Secret, authentication: &Secret) -> Self {
        match suite.encryption {
            Encryption::AesGcm16(_) => Self::Gcm(GcmKey::new(encryption)),
            Encryption::AesCbc(_) | Encryption::TripleDes | Encryption::Des => {
                let integrity = suite.integrity.expect("a cipher that is no AEAD is chosen with integrity");
                let (encryption, authentication) = (encryption.clone(), authentication.clone());
                Self::Cbc(CbcKey::new(suite.encryption, encryption, integrity, authentication))
            }
            other => {
                unreachable!("{other:?} is a cipher of child SAs: a suite of an IKE SA with it is not sound")
            }
        }
    }

    /// Octets of IV and ICV.
    const fn overhead(&self) -> (usize, usize) {
        match self {
            Self::Gcm(_) => (IV_LEN, TAG_LEN),
            Self::Cbc(key) => (key.block_len(), key.icv_len()),
        }
    }
}

impl Sealer {
    /// With SK_ei and SK_ai or SK_er and SK_ar.
    ///
    /// # Panics
    /// The suite has neither AEAD nor integrity, or the keys have not its lengths: it did not come from negotiation.
    #[must_use]
    pub fn new(suite: &IkeSuite, encryption: &Secret, authentication: &Secret, ivs: IvCounter) -> Self {
        Self { protection: Protection::new(suite, encryption, authentication), ivs, fragments: false }
    }

    /// The same for a peer that takes fragments, or does not (RFC 7383 section 2.3).
    #[must_use]
    pub fn fragmenting(self, fragments: bool) -> Self {
        Self { fragments, ..self }
    }

    /// Whether the peer takes fragments.
    #[must_use]
    pub const fn fragments(&self) -> bool {
        self.fragments
    }

    /// The next IV, for the state store.
    #[must_use]
    pub const fn next_iv(&self) -> u64 {
        self.ivs.next()
    }

    /// The datagram of `message`, all its payloads inside one Encrypted payload; or, where that is too long and the peer takes
    /// them, its fragments, one behind the other ([`datagrams`] parts them).
    ///
    /// # Errors
    /// It does not fit, or the key is used up.
    pub fn seal(
        &mut self,
        message: &Message,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Vec<u8>, SealError> {
        let mut text = Vec::new();
        let first = encode_chain(&message.payloads, &mut text)?;
        let (iv_len, icv_len) = self.protection.overhead();
        let room = DATAGRAM - HEADER_LEN - GENERIC_LEN - FRAGMENT_LEN - iv_len - icv_len;
        // The octet that says how much is padding, and padding up to a whole block.
        let room = match &self.protection {
            Protection::Gcm(_) => room - 1,
            Protection::Cbc(key) => room - room % key.block_len() - 1,
        };
        if !self.fragments || text.len() <= room {
            return self.seal_one(message.header, first, None, text, rng);
        }
        let too_long = EncodeError { what: "fragments", length: text.len() };
        let total = u16::try_from(text.len().div_ceil(room)).map_err(|_| too_long)?;
        if total > MAX_FRAGMENTS {
            return Err(too_long.into());
        }
        let mut out = Vec::new();
        for (number, part) in (1..=total).zip(text.chunks(room)) {
            // Section 2.5.3: only the first one says what the message begins with.
            let first = if number == 1 { first } else { PayloadType::NONE };
            let fragment = Some(Fragment { number, total });
            out.extend(self.seal_one(message.header, first, fragment, part.to_vec(), rng)?);
        }
        Ok(out)
    }

    /// A datagram with these octets of content.
    fn seal_one(
        &mut self,
        header: Header,
        first: PayloadType,
        fragment: Option<Fragment>,
        mut text: Vec<u8>,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Vec<u8>, SealError> {
        let padding = match self.protection {
            Protection::Gcm(_) => 0,
            Protection::Cbc(ref key) => key.block_len() - 1 - text.len() % key.block_len(),
        };
        text.resize(text.len() + padding, 0);
        text.push(u8::try_from(padding).expect("padding is shorter than a block"));

        let (iv_len, icv_len) = self.protection.overhead();
        let fields = if fragment.is_some() { FRAGMENT_LEN } else { 0 };
        let length = GENERIC_LEN + fields + iv_len + text.len() + icv_len;
        let field = u16::try_from(length).map_err(|_| EncodeError { what: "Encrypted payload", length })?;
        let mut out = Vec::with_capacity(HEADER_LEN + length);
        let kind = if fragment.is_some() { PayloadType::FRAGMENT } else { PayloadType::ENCRYPTED };
        header.encode(kind, length, &mut out)?;
        out.extend_from_slice(&[first.0, 0]);
        out.extend_from_slice(&field.to_be_bytes());
        if let Some(Fragment { number, total }) = fragment {
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&total.to_be_bytes());
        }
        match &self.protection {
            Protection::Gcm(key) => {
                let iv = self.ivs.take().ok_or(SealError::Exhausted)?.to_be_bytes();
                let tag = key.seal(iv, &out, &mut text);
                out.extend_from_slice(&iv);
                out.extend_from_slice(&text);
                out.extend_from_slice(&tag);
            }
            Protection::Cbc(key) => {
                let mut iv = vec![0; iv_len];
                rng.fill_bytes(&mut iv);
                key.encrypt(&iv, &mut text);
                out.extend_from_slice(&iv);
                out.extend_from_slice(&text);
                let icv = key.checksum(&out);
                out.extend_from_slice(&icv);
            }
        }
        Ok(out)
    }
}

impl Opener {
    /// With SK_ei and SK_ai or SK_er and SK_ar.
    ///
    /// # Panics
    /// As [`Sealer::new`].
    #[must_use]
    pub fn new(suite: &IkeSuite, encryption: &Secret, authentication: &Secret) -> Self {
        Self { protection: Protection::new(suite, encryption, authentication) }
    }

    /// The content of `datagram`, which [`Message::parse`] gave as `protected`.
    ///
    /// # Errors
    /// It is forged, or its content is no chain of payloads.
    pub fn open(&self, datagram: &[u8], protected: &Protected) -> Result<Message, OpenError> {
        let text = self.open_text(datagram, protected)?;
        Ok(Message::parse_inner(protected.header, protected.first, &text)?)
    }

    /// As [`Self::open`], the content as octets: of a fragment it is a part of a chain of payloads.
    ///
    /// # Errors
    /// It is forged.
    pub(crate) fn open_text(&self, datagram: &[u8], protected: &Protected) -> Result<Vec<u8>, OpenError> {
        let mut text = self.decrypt(datagram, protected.body)?;
        let padding = usize::from(text.pop().ok_or(OpenError::Forged)?);
        let end = text.len().checked_sub(padding).ok_or(OpenError::Forged)?;
        text.truncate(end);
        Ok(text)
    }

    /// Checks integrity and decrypts what stands from `body` on.
    fn decrypt(&self, datagram: &[u8], body: usize) -> Result<Vec<u8>, OpenError> {
        let (iv_len, icv_len) = self.protection.overhead();
        let (covered, icv) =
            datagram.len().checked_sub(icv_len).map(|at| datagram.split_at(at)).ok_or(OpenError::Forged)?;
        let (associated, sealed) = covered.split_at_checked(body).ok_or(OpenError::Forged)?;
        let (iv, text) = sealed.split_at_checked(iv_len).ok_or(OpenError::Forged)?;
        let mut text = text.to_vec();
        match &self.protection {
            Protection::Gcm(key) => {
                let iv = iv.try_into().map_err(|_| OpenError::Forged)?;
                let tag = icv.try_into().map_err(|_| OpenError::Forged)?;
                key.open(iv, associated, &mut text, tag)?;
            }
            Protection::Cbc(key) => {
                if text.is_empty() || !text.len().is_multiple_of(key.block_len()) {
                    return Err(OpenError::Forged);
                }
                key.verify(covered, icv)?;
                key.decrypt(iv, &mut text);
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::keymat::{IkeKeys, Role};
    use super::*;
    use crate::ike::types::{Group, Integrity, Prf};
    use crate::ike::wire::payload::{Delete, Notify};
    use crate::ike::wire::{ExchangeType, Flags, Header, NotifyType, Parsed, Payload};
    use proptest::prelude::*;
    use rand::SeedableRng;

    /// The largest block.
    const BLOCK: usize = 16;

    fn suites() -> [IkeSuite; 9] {
        let suite = |encryption, integrity| IkeSuite {
            encryption,
            integrity,
            prf: Prf::HmacSha256,
            group: Group::Curve25519,
        };
        [
            suite(Encryption::AesGcm16(128), None),
            suite(Encryption::AesGcm16(256), None),
            suite(Encryption::AesCbc(128), Some(Integrity::HmacSha256)),
            suite(Encryption::AesCbc(256), Some(Integrity::HmacSha384)),
            suite(Encryption::AesCbc(256), Some(Integrity::HmacSha512)),
            suite(Encryption::AesCbc(192), Some(Integrity::HmacSha1)),
            suite(Encryption::AesCbc(128), Some(Integrity::AesXcbc96)),
            suite(Encryption::TripleDes, Some(Integrity::HmacMd5)),
            suite(Encryption::Des, Some(Integrity::HmacSha1)),
        ]
    }

    fn pair(suite: &IkeSuite) -> (Sealer, Opener) {
        let keys = IkeKeys::initial(suite, &[1; 32], &[2; 32], &Secret(vec![3; 32]), 4, 5);
        (keys.sealer(suite, Role::Initiator, IvCounter::of_epoch(7)), keys.opener(suite, Role::Responder))
    }

    fn message(payloads: Vec<Payload>) -> Message {
        let flags = Flags { initiator: true, ..Flags::default() };
        Message::new(Header::new(4, 5, ExchangeType::INFORMATIONAL, flags, 9), payloads)
    }

    fn some() -> Vec<Payload> {
        vec![
            Payload::Notify(Notify::new(NotifyType::INITIAL_CONTACT, b"some data".to_vec())),
            Payload::Delete(Delete::esp(vec![0x1000, 0x1001])),
        ]
    }

    fn open(opener: &Opener, datagram: &[u8]) -> Result<Message, OpenError> {
        match Message::parse(datagram).unwrap() {
            Parsed::Protected(protected) => opener.open(datagram, &protected),
            Parsed::Clear(_) => panic!("not protected"),
        }
    }

    #[test]
    fn sealed_messages_open_again() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        for suite in suites() {
            let (mut sealer, opener) = pair(&suite);
            for payloads in [vec![], some()] {
                let message = message(payloads);
                let datagram = sealer.seal(&message, &mut rng).unwrap();
                assert_eq!(open(&opener, &datagram), Ok(message));
            }
        }
    }

    #[test]
    fn t25_any_flipped_bit_and_any_cut_is_one_and_the_same_failure() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        for suite in suites() {
            let (mut sealer, opener) = pair(&suite);
            let datagram = sealer.seal(&message(some()), &mut rng).unwrap();
            let Ok(Parsed::Protected(protected)) = Message::parse(&datagram) else { panic!() };
            for bit in 0..datagram.len() * 8 {
                let mut forged = datagram.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(opener.open(&forged, &protected), Err(OpenError::Forged), "bit {bit}");
            }
            for len in 0..datagram.len() {
                assert_eq!(opener.open(&datagram[..len], &protected), Err(OpenError::Forged), "cut to {len}");
            }
        }
    }

    #[test]
    fn t25_pad_length_beyond_the_content() {
        // Authentic messages whose pad length lies can only come from a peer with the key.
        for (suite, text) in [(suites()[0], vec![9; 3]), (suites()[2], vec![200; 16])] {
            let (mut sealer, opener) = pair(&suite);
            let (iv_len, icv_len) = sealer.protection.overhead();
            let length = GENERIC_LEN + iv_len + text.len() + icv_len;
            let mut out = Vec::new();
            let header = message(vec![]).header;
            header.encode(PayloadType::ENCRYPTED, length, &mut out).unwrap();
            out.extend_from_slice(&[PayloadType::NOTIFY.0, 0, 0, u8::try_from(length).unwrap()]);
            let mut text = text;
            match &mut sealer.protection {
                Protection::Gcm(key) => {
                    let tag = key.seal([1; 8], &out, &mut text);
                    out.extend_from_slice(&[&[1; 8][..], &text, &tag].concat());
                }
                Protection::Cbc(key) => {
                    key.encrypt(&[1; 16], &mut text);
                    out.extend_from_slice(&[&[1; 16][..], &text].concat());
                    let icv = key.checksum(&out);
                    out.extend_from_slice(&icv);
                }
            }
            assert_eq!(open(&opener, &out), Err(OpenError::Forged));
        }
    }

    #[test]
    fn t26_ivs_never_repeat_and_run_out() {
        let mut ivs = IvCounter::of_epoch(3);
        assert_eq!((ivs.take(), ivs.take()), (Some(3 << 48), Some((3 << 48) + 1)));
        assert_eq!(IvCounter::resume(ivs.next()), ivs);
        let mut last = IvCounter::resume((4 << 48) - 1);
        assert_eq!((last.take(), last.take()), (Some((4 << 48) - 1), None));
        let mut top = IvCounter::resume(u64::MAX);
        assert_eq!((top.take(), top.take()), (Some(u64::MAX), None));

        let suite = suites()[0];
        let (mut sealer, _) = pair(&suite);
        sealer.ivs = IvCounter { next: 5, left: 0 };
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        assert_eq!(sealer.seal(&message(some()), &mut rng), Err(SealError::Exhausted));
    }

    proptest! {
        /// The fragments of a message hold what it holds, each as long as it may be and no longer.
        #[test]
        fn fragments_are_the_message(len in 0_usize..9_000, which in 0..suites().len()) {
            let mut rng = rand::rngs::StdRng::seed_from_u64(1);
            let (sealer, opener) = pair(&suites()[which]);
            let message = message(vec![Payload::Notify(Notify::new(NotifyType::COOKIE2, vec![7; len]))]);
            let octets = sealer.fragmenting(true).seal(&message, &mut rng).unwrap();
            let (mut joined, mut first, mut count) = (Vec::new(), None, 0);
            for datagram in datagrams(&octets) {
                prop_assert!(datagram.len() <= DATAGRAM);
                let Ok(Parsed::Protected(protected)) = Message::parse(datagram) else { panic!("not protected") };
                joined.extend(opener.open_text(datagram, &protected).unwrap());
                first.get_or_insert(protected.first);
                count += 1;
                if let Some(fragment) = protected.fragment {
                    prop_assert_eq!(usize::from(fragment.number), count);
                    prop_assert!(count == 1 || protected.first == PayloadType::NONE);
                    prop_assert!(fragment.number == fragment.total || datagram.len() > DATAGRAM - BLOCK);
                }
            }
            let opened = Message::parse_inner(message.header, first.unwrap(), &joined);
            prop_assert_eq!(opened, Ok(message));
            prop_assert!(count >= len / DATAGRAM && (count > 1 || octets.len() <= DATAGRAM));
        }

        #[test]
        fn any_length_round_trips(len in 0_usize..300, which in 0..suites().len()) {
            let mut rng = rand::rngs::StdRng::seed_from_u64(1);
            let (mut sealer, opener) = pair(&suites()[which]);
            let message = message(vec![Payload::Notify(Notify::new(NotifyType::COOKIE2, vec![7; len]))]);
            let datagram = sealer.seal(&message, &mut rng).unwrap();
            prop_assert_eq!(open(&opener, &datagram), Ok(message));
        }
    }
}
