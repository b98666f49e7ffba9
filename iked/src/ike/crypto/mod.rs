//! The cryptography of IKEv2: key exchange, key derivation, the Encrypted payload, authentication, cookies.
//!
//! Nothing here reads a clock or a random source that it was not handed; every key is a [`Secret`](super::types::Secret)
//! or wipes itself. Sizes and orders follow RFC 7296 sections 2.13 to 2.18.

mod aead;
mod auth;
mod cbc;
mod cookie;
mod group;
mod keymat;
mod natd;
mod prf;
mod signature;
mod sizes;
mod sk;

pub use auth::{AuthInput, psk_auth, verify_psk_auth};
pub use cookie::{CookieJar, MAX_COOKIE};
pub use group::{GroupError, PrivateKey};
pub use keymat::{ChildKeys, IkeKeys, Role};
pub use natd::nat_detection_hash;
pub use signature::{CannotSign, SIGNATURE_HASHES, SignatureError, SignatureMethod, SigningKey};
pub(crate) use signature::{VERIFIED, verify as verify_signature};
pub(crate) use sk::datagrams;
pub use sk::{IvCounter, OpenError, Opener, SealError, Sealer};
