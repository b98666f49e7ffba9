//! Sealing of datagrams: AES-256-GCM under a key of the sender and its start.
//!
//! The key is HKDF-SHA-256 (RFC 5869) of the link key with the sender's name and start as info, so that a stack that
//! starts again never meets its old nonces, and the nonce is the datagram's counter. The envelope and the receiver's name
//! are authenticated with the content: a datagram for one stack is worth nothing at another.

use super::datagram::{ENVELOPE, Envelope, MAX_DATAGRAM, Name};
use crate::control::KeyBytes;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use thiserror::Error;
use zeroize::Zeroizing;

/// Octets of the authentication tag.
pub const TAG: usize = 16;
/// Octets of the link key.
const KEY: usize = 32;
const LABEL: &[u8] = b"xcf datagram 1";

/// The link key of the configuration is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the key of the XCF link has {0} bytes, {KEY} are needed")]
pub struct BadKey(usize);

/// The seal is not of the one that the envelope names, and that is all there is to say (threats T25).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the seal is broken")]
pub struct BrokenSeal;

/// The key that all stacks of the sysplex share for their messages. Wiped when dropped.
#[derive(Clone)]
pub struct LinkKey(Zeroizing<[u8; KEY]>);

impl std::fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkKey")
    }
}

impl LinkKey {
    /// The key of a configuration.
    ///
    /// # Errors
    /// When it has another length.
    pub fn new(key: &KeyBytes) -> Result<Self, BadKey> {
        let mut own = Zeroizing::new([0; KEY]);
        if key.0.len() != KEY {
            return Err(BadKey(key.0.len()));
        }
        own.copy_from_slice(&key.0);
        Ok(Self(own))
    }

    /// The key of one start of one stack.
    #[must_use]
    pub fn of(&self, sender: Name, start: u64) -> SenderKey {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(self.0.as_slice());
        let start = start.to_be_bytes();
        let info: [&[u8]; 3] = [LABEL, sender.octets(), &start];
        let okm = extracted.expand(&info, &AES_256_GCM).expect("one key is far below HKDF's limit");
        SenderKey(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

/// The keys that messages may be sealed with: this stack's own first, then, while the sysplex key is changed, the others.
#[derive(Debug, Clone)]
pub struct LinkKeys(Vec<LinkKey>);

impl LinkKeys {
    /// The keys of a configuration.
    ///
    /// # Errors
    /// When one of them has another length.
    pub fn new(own: &KeyBytes, others: &[KeyBytes]) -> Result<Self, BadKey> {
        std::iter::once(own).chain(others).map(LinkKey::new).collect::<Result<_, _>>().map(Self)
    }

    /// What one start of this stack seals with.
    #[must_use]
    pub fn own(&self, sender: Name, start: u64) -> Option<SenderKey> {
        self.0.first().map(|key| key.of(sender, start))
    }

    /// What opens the messages of one start of another stack, whichever of the keys it has first.
    #[must_use]
    pub fn of(&self, sender: Name, start: u64) -> SenderKeys {
        SenderKeys(self.0.iter().map(|key| key.of(sender, start)).collect())
    }
}

/// Opens what one start of one stack sends, under any of its keys.
#[derive(Debug)]
pub struct SenderKeys(Vec<SenderKey>);

impl SenderKeys {
    /// As [`SenderKey::open`]. The key that fitted last is tried first.
    ///
    /// # Errors
    /// When the seal is of none of the keys.
    pub fn open<'b>(
        &mut self,
        envelope: &Envelope,
        to: Name,
        datagram: &'b mut [u8],
    ) -> Result<&'b [u8], BrokenSeal> {
        let [first, others @ ..] = &self.0[..] else { return Err(BrokenSeal) };
        if others.is_empty() {
            return first.open(envelope, to, datagram);
        }
        // A key that does not fit leaves nothing to try the next one on.
        let mut copy = [0; MAX_DATAGRAM];
        let copy = copy.get_mut(..datagram.len()).ok_or(BrokenSeal)?;
        copy.copy_from_slice(datagram);
        let fits = |key: &SenderKey| {
            datagram.copy_from_slice(copy);
            key.open(envelope, to, datagram).is_ok()
        };
        let fitted = self.0.iter().position(fits).ok_or(BrokenSeal)?;
        self.0.swap(0, fitted);
        datagram.get(ENVELOPE..datagram.len() - TAG).ok_or(BrokenSeal)
    }
}

/// Seals or opens what one start of one stack sends.
#[derive(Debug)]
pub struct SenderKey(LessSafeKey);

impl SenderKey {
    /// Puts a sealed datagram into `out`, in the place of what it held. The counter of `envelope` is used once.
    pub fn seal(&self, envelope: &Envelope, to: Name, content: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
        out.clear();
        let header = envelope.octets();
        out.extend_from_slice(&header);
        content(out);
        let text = out.get_mut(ENVELOPE..).expect("the envelope stands there");
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(envelope.counter), aad(header, to), text)
            .expect("a datagram is far below the limit of AES-GCM");
        out.extend_from_slice(tag.as_ref());
        debug_assert!(out.len() <= MAX_DATAGRAM, "{} octets", out.len());
    }

    /// Opens a datagram in place; the content. `to` is the own name.
    ///
    /// # Errors
    /// When the seal is not of this sender, or for somebody else.
    pub fn open<'b>(
        &self,
        envelope: &Envelope,
        to: Name,
        datagram: &'b mut [u8],
    ) -> Result<&'b [u8], BrokenSeal> {
        let text = datagram.get_mut(ENVELOPE..).ok_or(BrokenSeal)?;
        self.0
            .open_in_place(nonce(envelope.counter), aad(envelope.octets(), to), text)
            .map(|content| &*content)
            .map_err(|_| BrokenSeal)
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut n = [0; 12];
    n[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(n)
}

fn aad(envelope: [u8; ENVELOPE], to: Name) -> Aad<[u8; ENVELOPE + 8]> {
    let mut a = [0; ENVELOPE + 8];
    a[..ENVELOPE].copy_from_slice(&envelope);
    a[ENVELOPE..].copy_from_slice(to.octets());
    Aad::from(a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xcf::datagram::{Body, Content};

    fn name(n: &str) -> Name {
        Name::new(n).unwrap()
    }

    fn link(octet: u8) -> LinkKey {
        LinkKey::new(&KeyBytes(vec![octet; 32])).unwrap()
    }

    fn sealed(key: &SenderKey, envelope: &Envelope, to: &str) -> Vec<u8> {
        let content = Content { to_start: Some(5), acknowledgement: None, body: Body::Nothing };
        let mut out = Vec::new();
        key.seal(envelope, name(to), |o| content.write(o), &mut out);
        out
    }

    /// Computed with Python's `cryptography`: HKDF-SHA-256 and AESGCM.
    #[test]
    fn a_sealed_datagram_octet_by_octet() {
        let envelope = Envelope { start: 7, counter: 1, sender: name("T1") };
        let out = sealed(&link(0x2a).of(envelope.sender, 7), &envelope, "D1");
        assert_eq!(hex::encode(&out), GOLDEN);
    }

    const GOLDEN: &str = "58430100000000000000000700000000000000015431202020202020\
                          53dbd1100fe4e297d5409719a9ba157f688452e29be639169e93";

    #[test]
    fn t45_only_the_sender_and_its_start_and_for_the_receiver_alone() {
        let envelope = Envelope { start: 7, counter: 1, sender: name("T1") };
        let key = link(1).of(envelope.sender, 7);
        let good = sealed(&key, &envelope, "D1");
        assert!(key.open(&envelope, name("D1"), &mut good.clone()).is_ok());
        let others = [
            ("another receiver", link(1).of(name("T1"), 7), "D2"),
            ("another start", link(1).of(name("T1"), 8), "D1"),
            ("another sender", link(1).of(name("T2"), 7), "D1"),
            ("another sysplex", link(2).of(name("T1"), 7), "D1"),
        ];
        for (what, key, to) in others {
            assert_eq!(key.open(&envelope, name(to), &mut good.clone()), Err(BrokenSeal), "{what}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let Ok(read) = Envelope::parse(&bad) else { continue };
            assert_eq!(key.open(&read, name("D1"), &mut bad), Err(BrokenSeal), "octet {at}");
        }
        for length in 0..good.len() {
            assert!(key.open(&envelope, name("D1"), &mut good[..length].to_vec()).is_err());
        }
    }

    #[test]
    fn while_the_key_is_changed_each_first_one_is_understood() {
        let [old, new, foreign] = [1, 2, 3].map(|octet| KeyBytes(vec![octet; 32]));
        let of = |key: &KeyBytes, counter| {
            let envelope = Envelope { start: 7, counter, sender: name("T1") };
            let key = LinkKeys::new(key, &[]).unwrap().own(envelope.sender, 7).unwrap();
            (envelope, sealed(&key, &envelope, "D1"))
        };
        let mut ring = LinkKeys::new(&old, std::slice::from_ref(&new)).unwrap().of(name("T1"), 7);
        let content = Content { to_start: Some(5), acknowledgement: None, body: Body::Nothing };
        for (counter, key) in (1..).zip([&old, &new, &new, &old, &new]) {
            let (envelope, datagram) = of(key, counter);
            let mut bytes = datagram.clone();
            let text = ring.open(&envelope, name("D1"), &mut bytes).unwrap();
            assert_eq!(Content::parse(text), Ok(content.clone()));
            for at in ENVELOPE..datagram.len() {
                let mut bad = datagram.clone();
                bad[at] ^= 1;
                assert_eq!(ring.open(&envelope, name("D1"), &mut bad), Err(BrokenSeal), "octet {at}");
            }
        }
        let (envelope, datagram) = of(&foreign, 9);
        assert_eq!(ring.open(&envelope, name("D1"), &mut datagram.clone()), Err(BrokenSeal));
        for length in 0..datagram.len() {
            assert!(ring.open(&envelope, name("D1"), &mut datagram[..length].to_vec()).is_err());
        }
        let mut huge = vec![0; MAX_DATAGRAM + 1];
        assert_eq!(ring.open(&envelope, name("D1"), &mut huge), Err(BrokenSeal));
        assert_eq!(LinkKeys::new(&old, &[KeyBytes(vec![])]).unwrap_err(), BadKey(0));
    }

    #[test]
    fn a_key_is_32_octets_and_never_printed() {
        assert_eq!(LinkKey::new(&KeyBytes(vec![1; 31])).unwrap_err(), BadKey(31));
        assert_eq!(format!("{:?}", link(0x55)), "LinkKey");
    }
}
