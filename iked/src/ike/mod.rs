//! The IKE core: datagrams, commands and the time in; datagrams, events and the next deadline out.
//!
//! It does no I/O, reads no clock and draws randomness only from the generator it was given. It imports nothing
//! of this crate but itself.
pub mod command;
mod context;
pub mod crypto;
mod engine;
mod error;
pub mod event;
pub mod failure;
mod identity;
mod lifetime;
mod natt;
pub mod pki;
mod proposal;
pub mod rules;
mod selector;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod snapshot;
mod table;
mod timer;
pub mod types;
mod v2;
pub mod view;
pub mod wire;

pub use engine::{Engine, NextSa};
#[cfg(feature = "shell")]
pub(crate) use selector::covered;
