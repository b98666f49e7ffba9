//! The IKE daemon: lib and thin bin.
pub mod ike;
