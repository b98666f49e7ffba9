//! The IKE daemon: lib and thin bin.
#[cfg(feature = "shell")]
pub mod cf;
#[cfg(feature = "shell")]
pub mod config;
pub mod ike;
#[cfg(feature = "shell")]
pub mod log;
#[cfg(feature = "shell")]
pub mod request;
#[cfg(feature = "shell")]
pub mod supervise;
