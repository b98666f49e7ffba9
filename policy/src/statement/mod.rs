//! The statements of the language, one family a file: keywords, ranges, defaults.

pub(crate) mod action;
pub(crate) mod address;
pub(crate) mod endpoint;
pub(crate) mod filter;
pub(crate) mod key_exchange;
pub(crate) mod local_dyn_vpn;
pub(crate) mod local_start;
pub(crate) mod manual;
pub(crate) mod members;
pub(crate) mod offer;
pub(crate) mod params;
pub(crate) mod service;
pub(crate) mod time;
pub(crate) mod value;
