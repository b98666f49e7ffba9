//! The coupling facility (CF): the store that survives the death of any stack.
//!
//! ```text
//!  core ──Order──► keeper (router) ──► clerk, 1 per DVIPA ──┐
//!   ▲                    ├───────────► pulse, 1 per stack ──┼──► Sysplex (fence) ──► CouplingFacility (trait)
//!   │                    └───────────► watches ─────────────┘    │ record: what is kept   sled (one system)
//!   └──────────Report (all of them)                              │ seal: AES-256-GCM      etcd (many systems)
//! ```
//!
//! Keys are paths under `/<sysplex>/`; see [`Paths`]. Every value is sealed ([`seal`]). A write of an owner is one
//! transaction with the condition that the owner record is still the one that this owner wrote ([`fence`]):
//! whoever lost a DVIPA cannot write any more, nor renew the lease that lets it send. Keys of SAs stand only in
//! the `keys` records of DVIPAs with `takeover = "continue"`. Traffic never waits for the CF.

mod clerk;
mod contents;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod fence;
mod health;
pub mod inspect;
pub mod keeper;
#[cfg(test)]
pub(crate) mod memory;
mod mirror;
pub mod order;
mod paths;
mod pulse;
pub mod record;
pub mod seal;
pub mod sled;
mod spy;
#[cfg(test)]
mod suite;
mod watch;

pub use paths::{Paths, Place, RecordKey};
pub use watch::{Seen, Watch};

use std::future::Future;
use std::time::Duration;

/// Largest value that is written or read; larger ones are refused unread.
pub const MAX_VALUE_BYTES: usize = 16 << 10;
/// Records that are changed in one step: what etcd takes in one transaction unless configured otherwise.
pub const PAGE: usize = 128;
/// Records that are read in one step: at a takeover of a thousand SAs each step more is a longer silence.
pub const READ: usize = 1024;
/// Most bytes of values in one transaction: half of what etcd takes in one request.
pub const MAX_TRANSACTION_BYTES: usize = 768 << 10;
/// Most records of one kind that are read of a DVIPA, and most keys that are watched under a prefix: whoever can write
/// the store must not fill the memory of everybody who reads it (threats T49).
pub const MAX_RECORDS: usize = 1 << 17;
/// Refused records of a DVIPA that are kept to be told.
pub const MAX_REFUSED: usize = 1000;
/// How long one call to the store may take; what takes longer counts as failed (threats T48).
pub const CALL_TIME: Duration = Duration::from_secs(2);
/// How often a record that expires is repeated.
pub const LEASED_PERIOD: Duration = Duration::from_secs(3);

/// A store of bytes with transactions. Values are opaque to it.
pub trait CouplingFacility: Clone + Send + Sync + 'static {
    /// Whether [`Change::PutLeased`] expires: then it must be repeated every [`LEASED_PERIOD`].
    const EXPIRES: bool;

    /// The entry of `key`.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Entry>, CfError>> + Send;

    /// Carries out `t` whole or not at all; returns once it would survive a crash. After an error it may have
    /// happened, or may happen yet.
    fn commit(&self, t: Transaction) -> impl Future<Output = Result<Outcome, CfError>> + Send;

    /// Up to [`READ`] entries whose key begins with `prefix` and is greater than `after`, in order of keys.
    fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> impl Future<Output = Result<Vec<Entry>, CfError>> + Send;

    /// What stands under `prefix` and every change of it from then on. A watch that lost some changes begins
    /// again with everything ([`Seen::All`]); it ends with an error when the store cannot be reached.
    fn watch(&self, prefix: &str) -> impl Future<Output = Result<Watch, CfError>> + Send;
}

/// When a key was last written, in the store's count of its transactions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Of a key that does not exist.
    pub const ABSENT: Self = Self(0);
}

/// A key and what stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Key.
    pub key: String,
    /// Value.
    pub value: Vec<u8>,
    /// When it was written.
    pub revision: Revision,
}

/// Changes that happen together, under conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Nothing happens unless all of them hold; at most [`PAGE`].
    pub conditions: Vec<Condition>,
    /// At most [`PAGE`] changes, each of another key.
    pub changes: Vec<Change>,
}

/// What must be so for a transaction to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The key has this value.
    Value(String, Vec<u8>),
    /// The key does not exist.
    Absent(String),
    /// The key was last written at this revision ([`Revision::ABSENT`]: does not exist).
    Revision(String, Revision),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Write.
    Put(String, Vec<u8>),
    /// Write; the store may remove it by itself some seconds after this process has gone. For records that nothing
    /// is decided by.
    PutLeased(String, Vec<u8>),
    /// Remove; not an error if it does not exist.
    Remove(String),
}

impl Change {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(key, _) | Self::PutLeased(key, _) | Self::Remove(key) => key,
        }
    }

    /// The value that it writes.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Put(_, value) | Self::PutLeased(_, value) => Some(value),
            Self::Remove(_) => None,
        }
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done and durable, at this revision.
    Committed(Revision),
    /// A condition did not hold.
    ConditionFailed,
}

/// The store does not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CfError {
    /// Another process has it open.
    #[error("{0} is in use by another process: is iked running already?")]
    InUse(String),
    /// Anything else.
    #[error("coupling facility: {0}")]
    Store(String),
    /// It does not answer.
    #[error("coupling facility: no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// A value is larger than [`MAX_VALUE_BYTES`].
    #[error("coupling facility: a value of {0} bytes is refused, expected at most {MAX_VALUE_BYTES}")]
    TooLarge(usize),
    /// A transaction is larger than any store takes. Our own mistake.
    #[error("coupling facility: a transaction of {0} steps is refused, expected at most {PAGE}")]
    TooMany(usize),
}

impl CfError {
    /// The call was sent and may have been carried out, or may be yet.
    #[must_use]
    pub const fn outcome_unknown(&self) -> bool {
        match self {
            Self::Store(_) | Self::Timeout(_) => true,
            Self::InUse(_) | Self::TooLarge(_) | Self::TooMany(_) => false,
        }
    }
}

impl Transaction {
    /// One change under one condition.
    #[must_use]
    pub fn new(condition: Condition, change: Change) -> Self {
        Self { conditions: vec![condition], changes: vec![change] }
    }

    /// Refuses what is out of bounds, before any store sees it.
    ///
    /// # Errors
    /// A value or the number of steps is too large.
    pub fn check(&self) -> Result<(), CfError> {
        if let Some(n) =
            self.changes.iter().filter_map(|c| Some(c.value()?.len())).find(|n| *n > MAX_VALUE_BYTES)
        {
            return Err(CfError::TooLarge(n));
        }
        match self.conditions.len().max(self.changes.len()) {
            n if n > PAGE => Err(CfError::TooMany(n)),
            _ => Ok(()),
        }
    }
}
