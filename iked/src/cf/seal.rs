//! Sealing of records: whoever can read the store learns nothing, and whoever can write it can forge nothing.
//!
//! ```text
//!  ┌─────────┬─────────────────┬──────────────────┬────────────────────────────┐
//!  │ version │ epoch (u64, BE) │ salt (32 octets) │ AES-256-GCM ciphertext+tag │
//!  └─────────┴─────────────────┴──────────────────┴────────────────────────────┘
//!   key and nonce = HKDF-SHA256(sysplex key, salt)      AAD = path, epoch, version
//! ```
//!
//! The salt is random for each record, so key and nonce are used once even though many hosts write under one
//! sysplex key (threats T26). The path in the associated data keeps a record from being moved to another key.

use super::MAX_VALUE_BYTES;
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::path::{Path, PathBuf};
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// Format of records that this program writes and reads.
pub const VERSION: u8 = 1;
const SALT: usize = 32;
const TAG: usize = 16;
const HEAD: usize = 1 + 8 + SALT;

/// The key of a sysplex: 32 octets, the same on all its systems.
#[derive(Clone, ZeroizeOnDrop)]
pub struct SysplexKey([u8; 32]);

impl std::fmt::Debug for SysplexKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(32 bytes)")
    }
}

/// Why there is no sysplex key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("key file {}: {reason}", path.display())]
    Unreadable {
        /// File.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Others than the owner may read or change it (threats T27).
    #[error("key file {}: mode {mode:04o} gives group or others access; expected 0600 (chmod 600)", path.display())]
    Exposed {
        /// File.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds no key. The content is not told.
    #[error("key file {}: expected 32 bytes as 64 hexadecimal digits on one line", path.display())]
    Malformed {
        /// File.
        path: PathBuf,
    },
}

impl SysplexKey {
    /// A key from its octets.
    #[must_use]
    pub const fn new(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// Reads a key file: 64 hexadecimal digits, readable by its owner only.
    ///
    /// # Errors
    /// The file cannot be read, is accessible to others, or holds something else.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        use std::io::Read;
        use std::os::unix::fs::MetadataExt;
        let unreadable =
            |e: std::io::Error| KeyError::Unreadable { path: path.into(), reason: e.to_string() };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        // Of the open file, not of the path: what is checked is what is read.
        let meta = file.metadata().map_err(unreadable)?;
        let mode = meta.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.into(), mode });
        }
        let malformed = || KeyError::Malformed { path: path.into() };
        let mut text = Zeroizing::new(String::with_capacity(256));
        file.take(256).read_to_string(&mut text).map_err(|_| malformed())?;
        let mut octets = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), octets.as_mut()).map_err(|_| malformed())?;
        Ok(Self(*octets))
    }

    /// A name for `input` that only holders of the key can compute: 16 octets.
    #[must_use]
    pub fn name_of(&self, label: &[u8], input: &[u8]) -> [u8; 16] {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, &self.0)
            .expand_multi_info(&[b"iked cf name ", label], key.as_mut())
            .expect("32 octets are a valid HKDF length");
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_ref()).expect("HMAC takes keys of any length");
        mac.update(input);
        let full = mac.finalize().into_bytes();
        let mut name = [0; 16];
        name.copy_from_slice(&full[..16]);
        name
    }

    /// Seals `plaintext` for `path`. `salt` must be fresh random octets.
    #[must_use]
    pub fn seal(&self, path: &str, epoch: u64, salt: [u8; SALT], plaintext: &[u8]) -> Vec<u8> {
        let (cipher, nonce) = self.cipher(&salt);
        let aad = aad(path, epoch, VERSION);
        let sealed = cipher
            .encrypt(&nonce.into(), Payload { msg: plaintext, aad: &aad })
            .expect("AES-GCM seals messages up to 64 GiB");
        let mut out = Vec::with_capacity(HEAD + sealed.len());
        out.push(VERSION);
        out.extend_from_slice(&epoch.to_be_bytes());
        out.extend_from_slice(&salt);
        out.extend_from_slice(&sealed);
        out
    }

    /// Opens what [`SysplexKey::seal`] made for the same path.
    ///
    /// # Errors
    /// It was made by somebody else, for another place, in another format, or was changed.
    pub fn open(&self, path: &str, sealed: &[u8]) -> Result<Opened, SealError> {
        let version = *sealed.first().ok_or(SealError::Truncated(0))?;
        if version != VERSION {
            return Err(SealError::Version(version));
        }
        if sealed.len() > MAX_VALUE_BYTES {
            return Err(SealError::TooLarge(sealed.len()));
        }
        if sealed.len() < HEAD + TAG {
            return Err(SealError::Truncated(sealed.len()));
        }
        let (head, ciphertext) = sealed.split_at(HEAD);
        let mut epoch = [0; 8];
        epoch.copy_from_slice(&head[1..9]);
        let epoch = u64::from_be_bytes(epoch);
        let mut salt = [0; SALT];
        salt.copy_from_slice(&head[9..]);
        let (cipher, nonce) = self.cipher(&salt);
        let aad = aad(path, epoch, version);
        let plaintext = cipher
            .decrypt(&nonce.into(), Payload { msg: ciphertext, aad: &aad })
            .map_err(|_| SealError::Unauthentic)?;
        Ok(Opened { epoch, plaintext: Zeroizing::new(plaintext) })
    }

    fn cipher(&self, salt: &[u8; SALT]) -> (Aes256Gcm, [u8; 12]) {
        let mut okm = Zeroizing::new([0; 44]);
        Hkdf::<Sha256>::new(Some(salt), &self.0)
            .expand(b"iked cf record AES-256-GCM", okm.as_mut())
            .expect("44 octets are a valid HKDF length");
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&okm[32..]);
        (Aes256Gcm::new_from_slice(&okm[..32]).expect("32 octets are an AES-256 key"), nonce)
    }
}

/// The version and the epoch have fixed lengths, so the encoding of the three is unambiguous.
fn aad(path: &str, epoch: u64, version: u8) -> Vec<u8> {
    let mut aad = vec![version];
    aad.extend_from_slice(&epoch.to_be_bytes());
    aad.extend_from_slice(path.as_bytes());
    aad
}

/// An opened record.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// Epoch of its writer.
    pub epoch: u64,
    /// Content.
    pub plaintext: Zeroizing<Vec<u8>>,
}

/// Why a record is refused (threats T49).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Too short to be a record.
    #[error("truncated ({0} bytes)")]
    Truncated(usize),
    /// Too large to be a record of ours.
    #[error("too large ({0} bytes)")]
    TooLarge(usize),
    /// Written by another version of the program.
    #[error("format version {0}; expected {VERSION}")]
    Version(u8),
    /// Wrong key, wrong place, or changed.
    #[error("not sealed under this sysplex key for this place")]
    Unauthentic,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: SysplexKey = SysplexKey::new([7; 32]);

    proptest! {
        #[test]
        fn what_is_sealed_opens_to_the_same(path in "[a-z/]{1,40}", epoch: u64, salt: [u8; 32], text: Vec<u8>) {
            let opened = KEY.open(&path, &KEY.seal(&path, epoch, salt, &text)).unwrap();
            prop_assert_eq!(opened.epoch, epoch);
            prop_assert_eq!(&*opened.plaintext, &text);
        }

        #[test]
        fn t49_any_flipped_bit_is_refused(at in 0usize..90, bit in 0u8..8, salt: [u8; 32]) {
            let mut sealed = KEY.seal("/p", 3, salt, &[9; 40]);
            let at = at % sealed.len();
            sealed[at] ^= 1 << bit;
            prop_assert!(KEY.open("/p", &sealed).is_err());
        }

        #[test]
        fn t49_noise_never_opens_nor_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(KEY.open("/p", &bytes).is_err());
        }
    }

    #[test]
    fn t49_truncated_moved_foreign_and_huge_records_are_refused() {
        let sealed = KEY.seal("/p", 3, [1; 32], b"x");
        for n in 0..sealed.len() {
            assert!(KEY.open("/p", &sealed[..n]).is_err(), "cut to {n}");
        }
        assert_eq!(KEY.open("/q", &sealed), Err(SealError::Unauthentic));
        assert_eq!(SysplexKey::new([8; 32]).open("/p", &sealed), Err(SealError::Unauthentic));
        let mut other = sealed.clone();
        other[0] = 2;
        assert_eq!(KEY.open("/p", &other), Err(SealError::Version(2)));
        let huge = KEY.seal("/p", 3, [1; 32], &vec![0; MAX_VALUE_BYTES]);
        assert_eq!(KEY.open("/p", &huge), Err(SealError::TooLarge(huge.len())));
    }

    #[test]
    fn the_epoch_cannot_be_raised() {
        let mut sealed = KEY.seal("/p", 3, [1; 32], b"x");
        sealed[8] = 4;
        assert_eq!(KEY.open("/p", &sealed), Err(SealError::Unauthentic));
    }

    #[test]
    fn t26_each_salt_gives_its_own_key_and_nonce() {
        let (a, b) = (KEY.seal("/p", 3, [1; 32], &[0; 32]), KEY.seal("/p", 3, [2; 32], &[0; 32]));
        assert_ne!(a[HEAD..], b[HEAD..]);
    }

    #[test]
    fn t27_the_key_is_not_printed() {
        assert_eq!(format!("{KEY:?}"), "Key(32 bytes)");
    }
}
