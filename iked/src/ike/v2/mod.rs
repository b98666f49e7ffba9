//! IKEv2 (RFC 7296): one module per exchange, one type per awaited message.

pub(crate) mod auth;
pub(crate) mod child;
pub(crate) mod collision;
pub(crate) mod create_child;
pub(crate) mod established;
pub(crate) mod found;
pub(crate) mod fragments;
#[cfg(test)]
mod hostile;
pub(crate) mod informational;
pub(crate) mod init;
pub(crate) mod liveness;
mod proof;
pub(crate) mod receive;
pub(crate) mod record;
pub(crate) mod rekey;
pub(crate) mod rekey_ike;
pub(crate) mod revive;
pub(crate) mod sa;
pub(crate) mod shown;
pub(crate) mod window;
