//! One forwarding stack: ESP, filters, GRE and distribution.
pub mod aead;
pub mod control;
pub mod counters;
pub mod engine;
pub mod framing;
pub mod wire;
pub mod xcf;

#[cfg(feature = "driver")]
pub mod capacity;
#[cfg(feature = "driver")]
pub mod control_socket;
#[cfg(feature = "driver")]
pub mod daemon;
#[cfg(feature = "driver")]
pub mod driver;
#[cfg(feature = "driver")]
pub mod group_link;
#[cfg(feature = "driver")]
pub mod listeners;
#[cfg(feature = "driver")]
pub mod netdev;
#[cfg(feature = "driver")]
pub mod outbox;
#[cfg(feature = "driver")]
pub mod worker;
