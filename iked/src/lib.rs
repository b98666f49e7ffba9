//! The IKE daemon: lib and thin bin.
pub mod ike;
#[cfg(feature = "shell")]
pub mod request;
