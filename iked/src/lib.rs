//! The IKE daemon: lib and thin bin.
#[cfg(feature = "shell")]
mod act;
#[cfg(feature = "shell")]
pub mod cf;
#[cfg(feature = "shell")]
pub mod check;
#[cfg(feature = "shell")]
pub mod config;
#[cfg(feature = "shell")]
pub mod core;
#[cfg(feature = "shell")]
pub mod events;
pub mod ike;
#[cfg(feature = "shell")]
pub mod log;
#[cfg(feature = "shell")]
mod management;
#[cfg(feature = "shell")]
pub mod nmi;
#[cfg(feature = "shell")]
pub mod policies;
#[cfg(feature = "shell")]
pub mod request;
#[cfg(feature = "shell")]
pub mod servauth;
#[cfg(feature = "shell")]
pub mod shell;
#[cfg(feature = "shell")]
mod shutdown;
#[cfg(feature = "shell")]
pub mod stack_link;
#[cfg(feature = "shell")]
pub mod supervise;
#[cfg(feature = "shell")]
pub mod takeover;
#[cfg(feature = "shell")]
pub mod topology;
#[cfg(feature = "shell")]
pub mod translate;
