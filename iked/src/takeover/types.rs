//! What goes into the machine and what comes out of it.

use super::history::{Cause, Entry, Outcome};
use crate::cf::RecordKey;
use crate::config::Name;
use std::net::IpAddr;
use std::time::Duration;

/// A moment: time since the host was started (`CLOCK_BOOTTIME`, which all processes of a host share).
pub type Time = Duration;

/// Who owns a DVIPA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Stack; its name is unique in the sysplex.
    pub stack: Name,
    /// Its system, if known.
    pub system: Option<Name>,
    /// Epoch.
    pub epoch: u64,
}

/// How far a stack of this system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackState {
    /// Nothing is known yet.
    Unknown,
    /// Its process has ended: it sends nothing.
    Ended,
    /// The link to it is gone, its process may live.
    Lost,
    /// Connected; its policy and its configuration are not in force yet.
    Starting,
    /// Configured, but without policy: it would attract what it must deny.
    Configured,
    /// Policy loaded and configured: it may own a DVIPA.
    Ready,
}

/// Why a claim did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimFailure {
    /// The owner record, or the life of the one it was claimed over, had changed.
    Overtaken,
    /// It was withdrawn before it was made.
    Withdrawn,
}

/// What the owner record must be for a claim to succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// It does not matter: all stacks that could own it are of this system.
    Any,
    /// There is none.
    Nobody,
    /// This stack at this epoch.
    Owner(Name, u64),
}

/// An owner whose life is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// Stack.
    pub stack: Name,
    /// Its system.
    pub system: Name,
    /// Revision of its `alive` record; 0: there is none.
    pub revision: u64,
}

/// A record that earlier owners left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Which.
    pub key: RecordKey,
    /// What is known of it already, where nothing is to be done.
    pub outcome: Option<Outcome>,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A stack of this system is now so far.
    Stack {
        /// Stack.
        stack: Name,
        /// How far.
        state: StackState,
    },
    /// The coupling facility answers, or does not.
    Facility {
        /// It works.
        works: bool,
    },
    /// The `alive` record of a stack of another system is seen at this revision.
    Alive {
        /// Stack.
        stack: Name,
        /// Its system.
        system: Name,
        /// Revision of the record.
        revision: u64,
        /// Its system says that its process has ended.
        ended: bool,
    },
    /// Everything that stood in the coupling facility was told.
    Synced,
    /// The owner record.
    OwnerIs {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Owner; `None`: there is no record.
        owner: Option<Known>,
    },
    /// A renewal of a stack's life, sent at this moment, was acknowledged.
    Renewed {
        /// Stack of this system.
        stack: Name,
        /// When it was sent.
        sent: Time,
    },
    /// [`Output::Claim`] was carried out.
    Claimed {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack.
        stack: Name,
        /// Its epoch.
        epoch: u64,
        /// When the owner record was taken; reading the records followed.
        acquired: Time,
        /// Records found.
        records: Vec<Left>,
    },
    /// [`Output::Claim`] was not.
    ClaimFailed {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Why.
        failure: ClaimFailure,
    },
    /// The coupling facility refused a write: the owner record has changed.
    Fenced {
        /// The DVIPA.
        dvipa: IpAddr,
    },
    /// Records of an earlier owner that did not come from the coupling facility.
    Records {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Records.
        records: Vec<Left>,
    },
    /// The coupling facility knows less than it did: an old copy of it was put in its place.
    SetBack {
        /// The DVIPA.
        dvipa: IpAddr,
    },
    /// What became of a record that an earlier owner left.
    Record {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Which.
        key: RecordKey,
        /// What.
        outcome: Outcome,
    },
    /// [`Output::Clear`] was carried out.
    Cleared {
        /// The DVIPA.
        dvipa: IpAddr,
    },
    /// [`Output::TakeOver`]: the stack speaks for the address.
    Announced {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack.
        stack: Name,
    },
    /// [`Output::GiveUp`]: the stack does not speak for the address any more.
    GaveUp {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack.
        stack: Name,
    },
    /// The connection table of the new owner is complete.
    Rebuilt {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Epoch.
        epoch: u64,
        /// Connections.
        connections: u64,
        /// Targets that did not report.
        missing: usize,
    },
    /// The last connection of a stack that had given the DVIPA up has ended.
    Drained {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack of this system.
        stack: Name,
    },
    /// Connections of the owner, for `giveback = "when-idle"`.
    Connections {
        /// The DVIPA.
        dvipa: IpAddr,
        /// How many.
        count: u64,
    },
    /// A stack says over XCF that it owns the DVIPA.
    OwnerHeard {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Owner.
        owner: Name,
        /// Epoch.
        epoch: u64,
    },
    /// Heartbeats of a stack arrive, or are missing.
    Heard {
        /// Stack.
        stack: Name,
        /// They arrive.
        alive: bool,
    },
    /// The machine of another stack's system says something.
    Message {
        /// Its stack.
        from: Name,
        /// The stack of this system that got it.
        to: Name,
        /// What.
        message: Message,
    },
}

/// From the machine of one system to that of another, over XCF: in order, not doubled, possibly never.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Message {
    /// Please give the DVIPA to this stack (an operator asked somewhere else than at the owner).
    Request {
        /// The DVIPA.
        dvipa: IpAddr,
        /// To whom.
        to: String,
    },
    /// The owner wants you to have the DVIPA.
    Offer {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Epoch of the one who offers.
        epoch: u64,
        /// Why.
        cause: Cause,
        /// Records that were sent before this message, because the coupling facility is away.
        #[serde(skip)]
        handed: Option<Vec<Left>>,
    },
    /// The stack that sends this may own it again.
    Reactivated {
        /// The DVIPA.
        dvipa: IpAddr,
    },
    /// Not now.
    Refuse {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Why, one sentence.
        reason: String,
    },
    /// The owner record is ours: stop.
    Taken {
        /// The DVIPA.
        dvipa: IpAddr,
        /// New epoch.
        epoch: u64,
    },
    /// We do not speak for the address any more.
    GaveUp {
        /// The DVIPA.
        dvipa: IpAddr,
        /// The epoch that has ended.
        epoch: u64,
    },
    /// The coupling facility does not answer: will you leave these DVIPAs to us for a lease?
    Ask {
        /// For [`Message::Granted`].
        number: u64,
        /// DVIPAs and our epochs.
        owned: Vec<(IpAddr, u64)>,
    },
    /// We will.
    Granted {
        /// [`Message::Ask`].
        number: u64,
    },
}

/// Something is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Write the stack's `member` record and renew its life from now on.
    Serve {
        /// Stack of this system.
        stack: Name,
    },
    /// Renew its life no more, and say nothing: it may live.
    Retire {
        /// Stack of this system.
        stack: Name,
    },
    /// Renew its life no more, and say that it has ended.
    End {
        /// Stack of this system.
        stack: Name,
    },
    /// Take the owner record; answered by [`Input::Claimed`] or [`Input::ClaimFailed`], however long it takes.
    Claim {
        /// The DVIPA.
        dvipa: IpAddr,
        /// For this stack.
        stack: Name,
        /// Only while the owner record is this one.
        expected: Expected,
        /// Only while the life of the owner stands still.
        over: Option<Over>,
        /// The new epoch is above this one, whatever the record says.
        above: u64,
    },
    /// Do not make the claim if it was not made; answered as the claim.
    Withdraw {
        /// The DVIPA.
        dvipa: IpAddr,
    },
    /// Remove the records of earlier epochs; answered by [`Input::Cleared`].
    Clear {
        /// The DVIPA.
        dvipa: IpAddr,
    },
    /// A stack of this system may speak until then.
    Lease {
        /// Stack.
        stack: Name,
        /// Until.
        until: Time,
    },
    /// Roles have changed: configure the stacks that it concerns.
    Configure,
    /// Begin to speak for the address with the records that the claim found: configure, start to negotiate. Answered by
    /// [`Input::Announced`], later [`Input::Rebuilt`] and one [`Input::Record`] or more for each record.
    TakeOver {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack.
        stack: Name,
        /// Epoch.
        epoch: u64,
        /// Owner before, if known.
        from: Option<Name>,
        /// The owner before gave it up by itself.
        planned: bool,
        /// The same stack had it before, and its SAs may live.
        again: bool,
    },
    /// Cease to speak for the address and forget its SAs; answered by [`Input::GaveUp`].
    GiveUp {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack.
        stack: Name,
        /// The epoch that ends.
        epoch: u64,
        /// Tell the peers first (Deletes); otherwise nothing is sent any more.
        planned: bool,
    },
    /// End the process of a stack that does not give up.
    Kill {
        /// Stack of this system.
        stack: Name,
    },
    /// Send to the machine of another stack's system.
    Send {
        /// By way of this stack of this system.
        from: Name,
        /// To the one of this stack.
        to: Name,
        /// What.
        message: Message,
        /// Send the DVIPA's records before it.
        with_records: bool,
    },
    /// A takeover is complete, or as complete as it gets for now.
    Done(Box<Entry>),
    /// A sentence for the log.
    Note {
        /// The DVIPA.
        dvipa: IpAddr,
        /// A warning.
        warning: bool,
        /// What.
        text: String,
    },
}

/// What a stack of this system is for a DVIPA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It speaks for the address.
    Owner {
        /// Epoch.
        epoch: u64,
    },
    /// It gave the address up; connections that end there go on by way of the owner.
    Moving {
        /// Owner now, if any.
        owner: Option<Known>,
    },
    /// Neither.
    Other {
        /// Owner now, if any.
        owner: Option<Known>,
    },
}
