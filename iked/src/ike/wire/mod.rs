//! IKEv2 messages as octets (RFC 7296 section 3): the one place where what a peer sent is taken apart.
//!
//! Parsing gives owned, checked values or a [`WireError`] that names payload, offset and value; it never panics, never
//! sizes a buffer by a length that it has not compared with the datagram, and works in time linear in the datagram.
//! What the values mean, which may come when, and what is answered is the engine's business.
mod error;
mod header;
mod iana;
mod message;
pub mod payload;
mod reader;
mod suite;

pub use error::{EncodeError, Fault, WireError};
pub use header::{Flags, HEADER_LEN, Header};
pub use iana::{
    AttributeType, AuthMethod, CertEncoding, ExchangeType, IdType, NotifyType, PayloadType, ProtocolId,
    TransformType, TsType, transform,
};
pub use message::{Fragment, MAX_FRAGMENTS, MAX_PAYLOADS, Message, Parsed, Protected};
pub use payload::Payload;
pub use reader::Reader;
pub use suite::{
    ChildSuite, Chosen, ChosenChild, ChosenIke, IkeSuite, Offered, SuiteFault, SuiteFaults, choose_child,
    choose_ike,
};
