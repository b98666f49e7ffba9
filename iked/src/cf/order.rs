//! What the core and the coupling facility's task say to each other.
//!
//! Orders never fail on the spot and never wait: what becomes of one comes as a report, however long it takes.

use super::fence::{Contents, Record};
use super::record::{Alive, Backup, Member, Owner, RecordId, Secret};
use super::{RecordKey, Revision};
use std::net::IpAddr;
use std::time::Duration;

/// What the core wants of the coupling facility.
#[derive(Debug)]
pub enum Order {
    /// A stack of this system runs: write its `member` record and, with a lease, renew its `alive` record every
    /// fifth of the lease from now on. Replaces an earlier one for the stack.
    Serve {
        /// Stack.
        stack: String,
        /// What others must know of it.
        member: Member,
        /// How long one renewal lets it use its DVIPAs; `None` where nobody outside can take them.
        lease: Option<Duration>,
    },
    /// The stack sends nothing any more (its process has ended, or it gave everything up): its lease is ended in
    /// the store, so that a backup need not wait. [`Report::Ended`] follows.
    End {
        /// Stack.
        stack: String,
    },
    /// Renew the stack's lease no more, and say nothing: it may live. [`Order::Serve`] begins again.
    Retire {
        /// Stack.
        stack: String,
    },
    /// Tell of members, lives, and the owners and backups of these DVIPAs, now and whenever they change. The first
    /// order counts.
    Watch {
        /// DVIPAs.
        dvipas: Vec<IpAddr>,
    },
    /// A stack of this system may come to own a DVIPA: what stands there is read before it is needed.
    Mirror {
        /// The DVIPA.
        dvipa: IpAddr,
    },
    /// Take a DVIPA for a stack of this system. [`Report::Owned`] or [`Report::NotOwned`] follows, however long the
    /// store takes. If its owner is of another system and has not released it, either that owner agreed
    /// ([`Expected::Owner`]) or its lease is over (`over`).
    Claim {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack.
        stack: String,
        /// Nothing happens if the owner record is another one.
        expected: Expected,
        /// The owner whose lease is over: nothing happens if its `alive` record is no longer this one.
        over: Option<AliveSeen>,
    },
    /// Do not make the claim if it was not made: [`Report::NotOwned`] follows, or [`Report::Owned`] if it was.
    Withdraw {
        /// The DVIPA.
        dvipa: IpAddr,
    },
    /// Give a DVIPA up: whoever wants may take it at once. The stack must have stopped to use it before.
    /// [`Report::Released`] follows.
    Release {
        /// The DVIPA.
        dvipa: IpAddr,
    },
    /// A stack of the sysplex said, past the store, how far a DVIPA is. Only ever raises what is known; a store
    /// that knows less was set back ([`Report::StoreSetBack`]).
    Heard {
        /// The DVIPA.
        dvipa: IpAddr,
        /// How far it is.
        seen: Progress,
    },
    /// A stack of this system is (`Some`) or is no longer (`None`) ready to take a DVIPA over.
    Backup {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Its place among the backups, from 0.
        rank: u8,
        /// Stack.
        stack: Option<String>,
    },
    /// Write or (`None`) remove a record; only the last order for a key counts.
    Write {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Which record.
        key: RecordKey,
        /// What it is to be.
        record: Option<Record>,
    },
    /// Write or (`None`) remove what continues an IKE SA and its children; only for DVIPAs that continue.
    /// [`Report::KeysStored`] follows with the ticket of this order or of a later one for the same id.
    Keys {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Which.
        id: RecordId,
        /// What it is to be.
        keys: Option<Secret>,
        /// Grows with each order of the daemon.
        ticket: u64,
    },
    /// Another sysplex key is in force: what this system has written is sealed again under it.
    SealAgain,
    /// Raise the ceiling of the sequence numbers of a DVIPA; only for DVIPAs that continue.
    /// [`Report::CeilingRaised`] follows; until then nothing above the one before may be sent.
    Ceiling {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Highest sequence number that may be used.
        highest: u64,
    },
    /// Remove what earlier epochs left. [`Report::Cleared`] follows.
    ClearOlder(IpAddr),
}

/// An `alive` record as it was when its lease was over, by the watcher's own clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliveSeen {
    /// System.
    pub system: String,
    /// Stack.
    pub stack: String,
    /// Revision; [`Revision::ABSENT`] if there was no record all that time.
    pub revision: Revision,
}

/// What the owner record must be for a claim to succeed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Expected {
    /// It does not matter.
    #[default]
    Any,
    /// There is none.
    Nobody,
    /// This one, who knows of the claim and has stopped to use the DVIPA.
    Owner {
        /// Stack.
        stack: String,
        /// Epoch.
        epoch: u64,
    },
}

/// How far a DVIPA has come: neither number ever gets smaller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Epoch of its owner.
    pub epoch: u64,
    /// Ceiling of its sequence numbers, where it continues.
    pub ceiling: Option<u64>,
}

impl Progress {
    /// The further of both.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { epoch: self.epoch.max(other.epoch), ceiling: self.ceiling.max(other.ceiling) }
    }
}

/// What became of orders, and what is seen in the store.
#[derive(Debug)]
pub enum Report {
    /// The DVIPA is owned.
    Owned {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack.
        stack: String,
        /// Epoch.
        epoch: u64,
        /// What the owners before left.
        left: Box<Contents>,
    },
    /// The DVIPA was not taken, and that is not tried again.
    NotOwned {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack.
        stack: String,
        /// Why.
        reason: NotOwned,
    },
    /// The DVIPA is given up.
    Released {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Epoch in which it was owned.
        epoch: u64,
    },
    /// These records stand in the store as wanted.
    Written {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Which.
        keys: Vec<RecordKey>,
    },
    /// What was ordered with these tickets, and everything older for the same ids, stands in the store.
    KeysStored {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Tickets.
        tickets: Vec<u64>,
    },
    /// Numbers up to `highest` may be used.
    CeilingRaised {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Epoch that may use them.
        epoch: u64,
        /// Highest.
        highest: u64,
    },
    /// These could not be written; it is tried again unless `lasting`. With no key: the claim.
    Failed {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Which.
        keys: Vec<RecordKey>,
        /// Why.
        reason: String,
        /// It is not tried again.
        lasting: bool,
    },
    /// What earlier epochs left of the DVIPA is removed.
    Cleared(IpAddr),
    /// Another stack owns the DVIPA by now: nothing is written for it any more.
    Lost(IpAddr),
    /// The store has the renewal of a stack's lease: it may use its DVIPAs until `lease` after `sent_boot_ns`.
    Renewed {
        /// Stack.
        stack: String,
        /// `CLOCK_BOOTTIME`, read before the renewal was sent, in nanoseconds.
        sent_boot_ns: u64,
        /// Lease.
        lease: Duration,
    },
    /// The store says that the stack has ended.
    Ended {
        /// Stack.
        stack: String,
    },
    /// Everything that is watched was told once.
    Synced,
    /// A member of the sysplex; `None`: it is gone.
    Member {
        /// System.
        system: String,
        /// Stack.
        stack: String,
        /// Its record.
        member: Option<Member>,
    },
    /// A stack was alive when this was written; `None`: there is no record.
    Alive {
        /// System.
        system: String,
        /// Stack.
        stack: String,
        /// For [`AliveSeen`].
        revision: Revision,
        /// Its record.
        alive: Option<Alive>,
    },
    /// Who owns a DVIPA; `None`: nobody ever did.
    OwnerIs {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Its record.
        owner: Option<Owner>,
        /// Its revision.
        revision: Revision,
    },
    /// Who is ready to take a DVIPA over; `None`: nobody at this rank.
    BackupIs {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Rank from 0.
        rank: u8,
        /// Its record.
        backup: Option<Backup>,
    },
    /// The store knows less than was seen before: an old copy of it was put in its place. Nothing of it may be
    /// continued; a claim gets an epoch above everything seen.
    StoreSetBack {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Seen or heard before.
        seen: Progress,
        /// What the store says.
        found: Progress,
    },
    /// Whether the store answers: told when it changes.
    Facility {
        /// It does.
        works: bool,
    },
    /// Whether a takeover would find everything: told when it changes. Traffic goes on either way.
    Protected {
        /// It would.
        protected: bool,
        /// Why not; empty if it would.
        reason: String,
    },
}

/// Why a claim came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOwned {
    /// Another one was faster.
    #[error("another stack was faster")]
    Faster,
    /// The owner record was not the one expected.
    #[error("the owner is not the one expected")]
    Changed,
    /// It was withdrawn before it was made.
    #[error("withdrawn")]
    Withdrawn,
    /// The owner was seen alive again.
    #[error("stack {stack} of system {system} is alive")]
    Alive {
        /// System.
        system: String,
        /// Stack.
        stack: String,
    },
    /// Somebody else's, and no proof came with the claim that its lease is over.
    #[error("stack {stack} of system {system} owns it and has not released it")]
    Held {
        /// System.
        system: String,
        /// Stack.
        stack: String,
    },
}
