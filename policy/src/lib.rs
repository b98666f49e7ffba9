//! The Policy Agent language: text to a typed, checked policy, without I/O.
pub mod compile;
pub mod model;

pub use model::Policy;
