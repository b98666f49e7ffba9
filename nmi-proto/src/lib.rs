//! The wire format of the IPsec network management interface (NMI), both sides, without I/O.
//!
//! ```text
//! message  = MessageHeader (96 bytes)  record*
//! record   = RecordHeader (16)  SectionDescriptor*  CascadeDescriptor?  section*  cascaded record*
//! section  = one or more instances of a structure of section 5 to 7, or an identity
//! ```
//!
//! Bytes come in through [`codec::Decoder`], which cuts them into whole messages and never holds more than one
//! message and the read that completed it. A server turns a message into a [`check::Request`], in the order in
//! which faults must be reported; a client into an [`answer::Answer`] of typed [records](display). Writing goes the
//! other way: values to [`record::RecordBuilder`], records to [`answer::Response`].
//!
//! Integers are big-endian. Text is in one of two [code pages](text::CodePage), chosen per message by its ident.
//! Every structure is one table ([`layout`]): Rust fields, offsets, documentation and the checks that no byte is
//! described twice or not at all come from the same rows. The section numbers are those of `docs/nmi.md`.
//!
//! With the feature `client`, [`client::Client`] is a blocking client over a Unix socket:
//!
//! ```no_run
//! # #[cfg(feature = "client")] fn f() -> Result<(), nmi_proto::client::ClientError> {
//! let mut nmi = nmi_proto::client::Client::connect("/var/sock/ipsecmgmt", None)?;
//! for tunnel in nmi.ike_tunnels("TCPCS1", &[])?.records {
//!     println!("{} {}", tunnel.tunnel.id, tunnel.tunnel.state);
//! }
//! # Ok(()) }
//! ```
//!
//! With the feature `tokio`, the module `tokio_client` has one for tokio.

// First: its macros are used by the modules below.
#[macro_use]
pub mod layout;

pub mod answer;
pub mod check;
#[cfg(feature = "client")]
pub mod client;
pub mod code;
pub mod codec;
pub mod control;
pub mod display;
mod error;
pub mod filter;
pub mod header;
pub mod identity;
pub mod record;
pub mod text;
#[cfg(feature = "tokio")]
pub mod tokio_client;
pub mod value;

pub use error::{DecodeError, Part, TextFault};

/// Where the daemon listens unless configured otherwise (section 1, rule 1).
pub const SOCKET_PATH: &str = "/var/sock/ipsecmgmt";
/// The interface version that this crate speaks, `NMsec_VERSION1` (section 10).
pub const VERSION: u16 = 1;
/// Largest request in bytes (section 2.5, step 2).
pub const MAX_REQUEST_BYTES: u32 = 1 << 20;
/// Largest answer in bytes that [`client::Client`](SOCKET_PATH) and tests accept: more than any real stack holds.
pub const MAX_ANSWER_BYTES: u32 = 1 << 30;
/// Largest number of input filters in a request (section 5).
pub const MAX_FILTERS: usize = 100;
/// Largest number of objects in a control request (section 7).
pub const MAX_TUNNELS: usize = 1000;
/// Longest identity that is put into a section; longer ones are cut (a section's length has 16 bits).
pub const MAX_IDENTITY_BYTES: usize = 65_532;
