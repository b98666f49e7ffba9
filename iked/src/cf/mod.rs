//! The coupling facility (CF): the store that survives the death of any stack.
//!
//! ```text
//!  core task ──Order──► keeper (task) ──► Sysplex (fence) ──► CouplingFacility (trait) ──► sled
//!      ▲                   │                 │ record: what is kept      │ bytes, transactions, pages
//!      └─────Report────────┘                 │ seal: AES-256-GCM         │
//! ```
//!
//! Keys are paths under `/<sysplex>/`; see [`Paths`]. Every value is sealed ([`seal`]); none holds a key of an SA.
//! A write of an owner is one transaction with the condition that the owner record is still the one that this
//! owner wrote ([`fence`]): whoever lost a DVIPA cannot write any more. Traffic never waits for the CF.

pub mod dump;
pub mod fence;
pub mod keeper;
pub mod record;
pub mod seal;
pub mod sled;

use record::RecordId;
use std::future::Future;
use std::net::IpAddr;

/// Largest value that is written or read; larger ones are refused unread.
pub const MAX_VALUE_BYTES: usize = 16 << 10;
/// Records that are read or changed in one step.
pub const PAGE: usize = 128;

/// A store of bytes with transactions. Values are opaque to it.
pub trait CouplingFacility: Send + Sync + 'static {
    /// The value of `key`.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Vec<u8>>, CfError>> + Send;

    /// Carries out `t` whole or not at all; returns once it would survive a crash.
    fn commit(&self, t: Transaction) -> impl Future<Output = Result<Outcome, CfError>> + Send;

    /// Up to [`PAGE`] entries whose key begins with `prefix` and is greater than `after`, in order of keys.
    fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> impl Future<Output = Result<Vec<(String, Vec<u8>)>, CfError>> + Send;
}

/// Changes that happen together, under a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Nothing happens unless this key has this value (`None`: does not exist).
    pub condition: (String, Option<Vec<u8>>),
    /// At most [`PAGE`] changes.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Write.
    Put(String, Vec<u8>),
    /// Remove; not an error if it does not exist.
    Remove(String),
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done and durable.
    Committed,
    /// The condition did not hold.
    ConditionFailed,
}

/// The store does not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CfError {
    /// Another process has it open.
    #[error("{0} is in use by another process: is iked running already?")]
    InUse(String),
    /// Anything else.
    #[error("coupling facility: {0}")]
    Store(String),
    /// A value is larger than [`MAX_VALUE_BYTES`].
    #[error("coupling facility: a value of {0} bytes is refused, expected at most {MAX_VALUE_BYTES}")]
    TooLarge(usize),
}

/// Where a sysplex keeps what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: String,
}

/// Key of a record of a DVIPA that its owner writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// IKE SA.
    Phase1(RecordId),
    /// Child SA.
    Phase2(RecordId),
}

impl Paths {
    /// Paths of the sysplex called `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { root: format!("/{}", name.to_ascii_uppercase()) }
    }

    /// Prefix of everything of the sysplex.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}/", self.root)
    }

    /// The owner record of a DVIPA.
    #[must_use]
    pub fn owner(&self, dvipa: IpAddr) -> String {
        format!("{}/dvipa/{dvipa}/owner", self.root)
    }

    /// A record that the owner of a DVIPA writes.
    #[must_use]
    pub fn record(&self, dvipa: IpAddr, key: RecordKey) -> String {
        match key {
            RecordKey::Phase1(id) => format!("{}{id}", self.phase1(dvipa)),
            RecordKey::Phase2(id) => format!("{}{id}", self.phase2(dvipa)),
        }
    }

    /// Prefix of the IKE SAs of a DVIPA.
    #[must_use]
    pub fn phase1(&self, dvipa: IpAddr) -> String {
        format!("{}/dvipa/{dvipa}/phase1/", self.root)
    }

    /// Prefix of the child SAs of a DVIPA.
    #[must_use]
    pub fn phase2(&self, dvipa: IpAddr) -> String {
        format!("{}/dvipa/{dvipa}/phase2/", self.root)
    }
}
