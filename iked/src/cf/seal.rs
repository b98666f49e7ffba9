//! Sealing of records: whoever can read the store learns nothing, and whoever can write it can forge nothing.
//!
//! ```text
//!  ┌─────────┬─────────────────┬──────────────────┬────────────────────────────┐
//!  │ format  │ epoch (u64, BE) │ salt (32 octets) │ AES-256-GCM ciphertext+tag │
//!  └─────────┴─────────────────┴──────────────────┴────────────────────────────┘
//!   key and nonce = HKDF-SHA256(sysplex key, salt)      AAD = path, epoch, format
//! ```
//!
//! The format is that of the content: which ones a kind of record has, [`super::record::Stored`] says.
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
use std::sync::{Arc, PoisonError, RwLock};
use subtle::ConstantTimeEq;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// The format that every kind of record has had from the beginning.
pub const FIRST_FORMAT: u8 = 1;
/// The newest format that any kind of record has.
pub const NEWEST_FORMAT: u8 = 2;
const SALT: usize = 32;
const TAG: usize = 16;
const HEAD: usize = 1 + 8 + SALT;

/// Most keys of a sysplex at a time: the newest, and older ones under which records may still be sealed.
pub const MAX_KEYS: usize = 4;
/// Largest key file that is read.
const MAX_KEY_FILE: u64 = 4096;

/// The key of a sysplex: 32 octets, the same on all its systems. While it is changed, the older ones too: what is
/// sealed under one of them is read, and everything is written under the newest.
#[derive(Clone, ZeroizeOnDrop)]
pub struct SysplexKey {
    newest: [u8; 32],
    older: Vec<[u8; 32]>,
}

impl std::fmt::Debug for SysplexKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(32 bytes)")
    }
}

impl PartialEq for SysplexKey {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&[u8; 32], &[u8; 32])| bool::from(a.ct_eq(b));
        same((&self.newest, &other.newest))
            && self.older.len() == other.older.len()
            && self.older.iter().zip(&other.older).all(same)
    }
}

/// The key in force, for all who seal and open with it: another one can take its place while they work.
#[derive(Debug, Clone)]
pub struct KeyInForce(Arc<RwLock<Arc<SysplexKey>>>);

impl KeyInForce {
    /// As it is now.
    #[must_use]
    pub fn get(&self) -> Arc<SysplexKey> {
        // It is replaced in one step.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another key in force.
    pub fn replace(&self, key: SysplexKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }
}

impl From<SysplexKey> for KeyInForce {
    fn from(key: SysplexKey) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(key))))
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
    /// It does not hold the key that seals until now: nobody could read what stands in the store.
    #[error(
        "key file {}: the key in force until now is on none of its lines; keep it below the new one until nothing is sealed under it (iked cf verify)",
        path.display()
    )]
    Unrelated {
        /// File.
        path: PathBuf,
    },
    /// It holds no key. The content is not told.
    #[error("key file {}: expected 32 bytes as 64 hexadecimal digits on one line; older keys on lines below it, {MAX_KEYS} keys at most", path.display())]
    Malformed {
        /// File.
        path: PathBuf,
    },
}

impl SysplexKey {
    /// A key from its octets.
    #[must_use]
    pub const fn new(octets: [u8; 32]) -> Self {
        Self { newest: octets, older: Vec::new() }
    }

    /// This key, and `older` ones under which records may still be sealed.
    #[must_use]
    pub fn with_older(mut self, older: &[[u8; 32]]) -> Self {
        self.older.extend_from_slice(older);
        self
    }

    /// Whether there are older keys beside the newest.
    #[must_use]
    pub const fn has_older(&self) -> bool {
        !self.older.is_empty()
    }

    /// Reads a key file, readable by its owner only: each line 64 hexadecimal digits, the newest key first; empty
    /// lines and lines that begin with `#` count for nothing.
    ///
    /// # Errors
    /// The file cannot be read, is accessible to others, or holds something else.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = read_private(path, MAX_KEY_FILE)?;
        Self::parse(&text).ok_or_else(|| KeyError::Malformed { path: path.into() })
    }

    /// Reads the key that is to follow `before`.
    ///
    /// # Errors
    /// As [`SysplexKey::load`], and if it cannot open what `before` sealed.
    pub fn load_next(path: &Path, before: &Self) -> Result<Self, KeyError> {
        let next = Self::load(path)?;
        if next.opens_what_seals(before) { Ok(next) } else { Err(KeyError::Unrelated { path: path.into() }) }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut found: Option<Self> = None;
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let mut octets = Zeroizing::new([0; 32]);
            hex::decode_to_slice(line, octets.as_mut()).ok()?;
            match &mut found {
                None => found = Some(Self { newest: *octets, older: Vec::with_capacity(MAX_KEYS) }),
                Some(key) if key.older.len() + 1 < MAX_KEYS => key.older.push(*octets),
                Some(_) => return None,
            }
        }
        found
    }

    /// Whether what is sealed under the newest of `before` can be opened with this one.
    #[must_use]
    pub fn opens_what_seals(&self, before: &Self) -> bool {
        std::iter::once(&self.newest).chain(&self.older).any(|k| bool::from(k.ct_eq(&before.newest)))
    }

    /// A key for another purpose, called `label`, from the newest key and from each older one, in this order.
    #[must_use]
    pub fn derive(&self, label: &[u8]) -> Vec<Zeroizing<[u8; 32]>> {
        let from = |octets: &[u8; 32]| {
            let mut key = Zeroizing::new([0; 32]);
            Hkdf::<Sha256>::new(None, octets)
                .expand_multi_info(&[b"iked ", label], key.as_mut())
                .expect("32 octets are a valid HKDF length");
            key
        };
        std::iter::once(&self.newest).chain(&self.older).map(from).collect()
    }

    /// A name for `input` that only holders of the key can compute: 16 octets.
    #[must_use]
    pub fn name_of(&self, label: &[u8], input: &[u8]) -> [u8; 16] {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, &self.newest)
            .expand_multi_info(&[b"iked cf name ", label], key.as_mut())
            .expect("32 octets are a valid HKDF length");
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_ref()).expect("HMAC takes keys of any length");
        mac.update(input);
        let full = mac.finalize().into_bytes();
        let mut name = [0; 16];
        name.copy_from_slice(&full[..16]);
        name
    }

    /// Seals `plaintext`, which is of `format`, for `path`. `salt` must be fresh random octets.
    #[must_use]
    pub fn seal(&self, path: &str, format: u8, epoch: u64, salt: [u8; SALT], plaintext: &[u8]) -> Vec<u8> {
        let (cipher, nonce) = cipher(&self.newest, &salt);
        let aad = aad(path, epoch, format);
        let sealed = cipher
            .encrypt(&nonce.into(), Payload { msg: plaintext, aad: &aad })
            .expect("AES-GCM seals messages up to 64 GiB");
        let mut out = Vec::with_capacity(HEAD + sealed.len());
        out.push(format);
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
        let format = *sealed.first().ok_or(SealError::Truncated(0))?;
        if !(FIRST_FORMAT..=NEWEST_FORMAT).contains(&format) {
            return Err(SealError::Format(format));
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
        let aad = aad(path, epoch, format);
        for (n, key) in std::iter::once(&self.newest).chain(&self.older).enumerate() {
            let (cipher, nonce) = cipher(key, &salt);
            if let Ok(plaintext) = cipher.decrypt(&nonce.into(), Payload { msg: ciphertext, aad: &aad }) {
                return Ok(Opened { format, epoch, plaintext: Zeroizing::new(plaintext), old_key: n > 0 });
            }
        }
        Err(SealError::Unauthentic)
    }
}

/// Reads a file of at most `most` octets of text that only its owner may read or change (threats T27).
///
/// # Errors
/// It cannot be read, is accessible to others, is too large, or is no text.
pub(crate) fn read_private(path: &Path, most: u64) -> Result<Zeroizing<String>, KeyError> {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;
    let unreadable = |e: std::io::Error| KeyError::Unreadable { path: path.into(), reason: e.to_string() };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // Of the open file, not of the path: what is checked is what is read.
    let meta = file.metadata().map_err(unreadable)?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.into(), mode });
    }
    let too_large =
        || KeyError::Unreadable { path: path.into(), reason: format!("larger than {most} bytes") };
    let size = usize::try_from(meta.len().min(most)).unwrap_or(0);
    // Large enough from the start, so that no copy of a key stays behind in memory that was given back.
    let mut text = Zeroizing::new(String::with_capacity(size + 2));
    let read = file.take(size as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    if read > size { Err(too_large()) } else { Ok(text) }
}

fn cipher(key: &[u8; 32], salt: &[u8; SALT]) -> (Aes256Gcm, [u8; 12]) {
    let mut okm = Zeroizing::new([0; 44]);
    Hkdf::<Sha256>::new(Some(salt), key)
        .expand(b"iked cf record AES-256-GCM", okm.as_mut())
        .expect("44 octets are a valid HKDF length");
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&okm[32..]);
    (Aes256Gcm::new_from_slice(&okm[..32]).expect("32 octets are an AES-256 key"), nonce)
}

/// The format and the epoch have fixed lengths, so the encoding of the three is unambiguous.
fn aad(path: &str, epoch: u64, format: u8) -> Vec<u8> {
    let mut aad = vec![format];
    aad.extend_from_slice(&epoch.to_be_bytes());
    aad.extend_from_slice(path.as_bytes());
    aad
}

/// An opened record.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// Format of the content.
    pub format: u8,
    /// Epoch of its writer.
    pub epoch: u64,
    /// Content.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// It is sealed under an older key than the newest.
    pub old_key: bool,
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
    #[error("format {0}; expected {FIRST_FORMAT} to {NEWEST_FORMAT}")]
    Format(u8),
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
            let opened = KEY.open(&path, &KEY.seal(&path, 1, epoch, salt, &text)).unwrap();
            prop_assert_eq!(opened.epoch, epoch);
            prop_assert_eq!(&*opened.plaintext, &text);
        }

        #[test]
        fn t49_any_flipped_bit_is_refused(at in 0usize..90, bit in 0u8..8, salt: [u8; 32]) {
            let mut sealed = KEY.seal("/p", 1, 3, salt, &[9; 40]);
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
        let sealed = KEY.seal("/p", 1, 3, [1; 32], b"x");
        for n in 0..sealed.len() {
            assert!(KEY.open("/p", &sealed[..n]).is_err(), "cut to {n}");
        }
        assert_eq!(KEY.open("/q", &sealed), Err(SealError::Unauthentic));
        assert_eq!(SysplexKey::new([8; 32]).open("/p", &sealed), Err(SealError::Unauthentic));
        let mut other = sealed.clone();
        for format in [0, NEWEST_FORMAT + 1] {
            other[0] = format;
            assert_eq!(KEY.open("/p", &other), Err(SealError::Format(format)));
        }
        other[0] = FIRST_FORMAT + 1;
        assert_eq!(KEY.open("/p", &other), Err(SealError::Unauthentic), "the format is sealed too");
        let huge = KEY.seal("/p", 1, 3, [1; 32], &vec![0; MAX_VALUE_BYTES]);
        assert_eq!(KEY.open("/p", &huge), Err(SealError::TooLarge(huge.len())));
    }

    #[test]
    fn the_epoch_cannot_be_raised() {
        let mut sealed = KEY.seal("/p", 1, 3, [1; 32], b"x");
        sealed[8] = 4;
        assert_eq!(KEY.open("/p", &sealed), Err(SealError::Unauthentic));
    }

    #[test]
    fn t26_each_salt_gives_its_own_key_and_nonce() {
        let (a, b) = (KEY.seal("/p", 1, 3, [1; 32], &[0; 32]), KEY.seal("/p", 1, 3, [2; 32], &[0; 32]));
        assert_ne!(a[HEAD..], b[HEAD..]);
    }

    #[test]
    fn what_an_older_key_sealed_is_read_until_that_key_is_gone() {
        let sealed = KEY.seal("/p", 1, 3, [1; 32], b"x");
        let both = SysplexKey::new([8; 32]).with_older(&[[7; 32]]);
        assert!(both.open("/p", &sealed).unwrap().old_key);
        let again = both.seal("/p", 1, 3, [2; 32], b"x");
        assert!(!both.open("/p", &again).unwrap().old_key);
        assert_eq!(KEY.open("/p", &again), Err(SealError::Unauthentic), "only the newest key seals");
        assert_eq!(SysplexKey::new([8; 32]).open("/p", &sealed), Err(SealError::Unauthentic));
    }

    #[test]
    fn t27_a_key_file_is_read_only_if_it_is_ours_alone_and_says_nothing_when_it_is_wrong() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            SysplexKey::load(&path)
        };
        let (new, old) = ("ab".repeat(32), "cd".repeat(32));
        let key = write(&format!("# 2026\n{new}\n\n{old}\n"), 0o600).unwrap();
        assert_eq!((key.newest, key.older.as_slice()), ([0xab; 32], [[0xcd; 32]].as_slice()));
        assert!(matches!(write(&new, 0o640), Err(KeyError::Exposed { mode: 0o640, .. })));
        for bad in [
            "",
            "# nothing\n",
            &new[2..],
            &format!("{new}x"),
            &format!("{new}\n").repeat(5),
            &"\n".repeat(5000),
        ] {
            let e = write(bad, 0o600).unwrap_err();
            assert!(matches!(e, KeyError::Malformed { .. } | KeyError::Unreadable { .. }), "{e}");
            assert!(!e.to_string().contains("abab"), "{e}");
        }
    }

    #[test]
    fn keys_for_different_purposes_differ() {
        assert_ne!(KEY.derive(b"xcf"), KEY.derive(b"other"));
        let other = SysplexKey::new([8; 32]);
        assert_ne!(KEY.derive(b"xcf"), other.derive(b"xcf"));
        // While the key is changed: the newest one's first, the others' too.
        let both = KEY.with_older(&[[8; 32]]).derive(b"xcf");
        assert_eq!(both, [KEY.derive(b"xcf"), other.derive(b"xcf")].concat());
    }

    #[test]
    fn t27_the_key_is_not_printed() {
        assert_eq!(format!("{KEY:?}"), "Key(32 bytes)");
    }
}
