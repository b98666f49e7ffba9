//! One forwarding stack: ESP, filters, GRE and distribution.
pub mod aead;
pub mod control;
pub mod counters;
pub mod engine;
pub mod framing;
pub mod wire;
