//! Takeover: which stack owns which DVIPA, decided without doing anything.
//!
//! One [`Machine`] for each system (each `iked`). It is told what happened and what time it is, and says what is to
//! be done; the core does it ([`crate::core`]). It opens nothing, reads no clock and draws no random number, so three
//! systems, their stacks, the coupling facility and every accident between them run in memory ([`sim`]).
//!
//! ```text
//!  stacks come, go, announce, rebuild ─┐                     ┌─► Claim, Clear, Serve, End      (coupling facility)
//!  records, lives, claims, renewals ───┤   ┌─────────────┐   ├─► TakeOver, GiveUp, Lease, Kill (stacks, IKE)
//!  owners heard, messages ─────────────┼──►│   Machine   │──►┤
//!  an operator's requests ─────────────┤   │ Dvipa: Step │   ├─► Send                          (another system)
//!  time ───────────────────────────────┘   └─────────────┘   └─► Done                          (log, history)
//! ```
//!
//! The steps of one DVIPA at one system; a system that does nothing is `Steady`, whether its stack serves or not:
//!
//! ```text
//!            claim                   owned            old one is fenced            all records done, stored, cleared
//!  Steady ─────────► Acquiring ─┬──────────────────────────────► Taking ─────────────────────────────────► Steady
//!     │ planned, remote         └─► Relieving ── gave up, or ───► (announce, notify, renegotiate,
//!     └────► Offering ──► GivingUp ──► Steady    its lease ended    store, clear)
//! ```
//!
//! What keeps two stacks from speaking for one address (threats T47):
//! - An epoch is taken by compare-and-swap of the owner record, for a failed owner together with the revision of its
//!   `alive` record that has not changed for a lease and a quarter, by the clock of the one who takes.
//! - With a lease an owner speaks until a lease after it *sent* the last renewal that was acknowledged; a renewal is
//!   refused when the owner record has changed. So whoever owns the record knows: a lease and a quarter later nobody
//!   else speaks, whatever was delayed. It waits that long unless the old owner's life had ended before, or it says
//!   that it gave up.
//! - Without a lease all stacks are of this system, and their ends are seen.
//! - The coupling facility is away for everybody: the owner goes on by consent ([`consent`]): each stack that could
//!   take the address promises not to.

mod claim;
mod consent;
mod dvipa;
mod history;
mod inputs;
mod machine;
mod operator;
mod taking;
mod types;
mod view;
pub mod wire;

pub use history::{Cause, Counts, Entry, History, Outcome, Progress, Step as StepName, StepTime};
pub use machine::{Machine, Plan, Settings};
pub use operator::{Refusal, Request};
pub use types::{ClaimFailure, Expected, Input, Known, Left, Message, Output, Over, Role, StackState, Time};
pub use view::{CandidateState, CandidateView, DvipaView};

#[cfg(test)]
mod sim;
