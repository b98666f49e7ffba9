//! The IKE core: datagrams, commands and the time in; datagrams, events and the next deadline out.
//!
//! It does no I/O, reads no clock and draws randomness only from the generator it was given. It imports nothing
//! of this crate but itself.
pub mod command;
pub mod crypto;
mod engine;
pub mod event;
pub mod rules;
pub mod types;
pub mod view;
pub mod wire;

pub use engine::Engine;
