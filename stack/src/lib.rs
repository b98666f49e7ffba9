//! One forwarding stack: ESP, filters, GRE and distribution.
pub mod control;
pub mod engine;
