//! Why octets were refused, in terms that an operator and the answer to the peer both can be made from.

use super::iana::{NotifyType, PayloadType};
use thiserror::Error;

/// A peer's message that cannot be taken apart: where and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{payload} at octet {offset}: {fault}")]
pub struct WireError {
    /// The payload concerned; [`PayloadType::NONE`] for the IKE header itself.
    pub payload: PayloadType,
    /// Octets from the start of the datagram; inside an Encrypted payload, from the start of its content.
    pub offset: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    /// A field or a counted part goes past the end of what holds it.
    #[error("{needed} octets needed, {left} left")]
    Truncated {
        /// Octets that the field takes.
        needed: usize,
        /// Octets that there are.
        left: usize,
    },
    /// The IKE header's length is not the datagram's (RFC 7296 section 3.1).
    #[error("header says {header} octets, the datagram has {datagram}")]
    DatagramLength {
        /// The header's length field.
        header: u32,
        /// Octets received.
        datagram: usize,
    },
    /// A major version that is not 2 (RFC 7296 section 2.5).
    #[error("major version {0}")]
    MajorVersion(u8),
    /// The initiator's SPI is zero (RFC 7296 section 3.1).
    #[error("initiator's SPI is zero")]
    ZeroInitiatorSpi,
    /// A length field that cannot be: shorter than the fixed part, or not the sum of the parts.
    #[error("impossible length {0}")]
    Length(usize),
    /// More of something than any real message has.
    #[error("more than {limit} {what}")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// A count field that disagrees with what follows.
    #[error("{what}: counted {counted}, found {found}")]
    Count {
        /// What.
        what: &'static str,
        /// The count field.
        counted: usize,
        /// What there is.
        found: usize,
    },
    /// Octets after the last part.
    #[error("{0} octets left over")]
    Trailing(usize),
    /// A payload that we do not know, marked critical (RFC 7296 section 2.5).
    #[error("unsupported critical payload {0}")]
    UnsupportedCritical(u8),
    /// A payload that may stand once stands twice.
    #[error("payload repeated")]
    Repeated,
    /// A payload follows the Encrypted payload (RFC 7296 section 3.14).
    #[error("Encrypted payload is not the last")]
    NotLast,
    /// A field whose value is not allowed.
    #[error("{what} is {value}")]
    Value {
        /// Field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
}

impl WireError {
    /// The error notify that answers this, with its data (RFC 7296 sections 2.5, 2.21 and 3.10.1).
    #[must_use]
    pub fn notify(&self) -> (NotifyType, Vec<u8>) {
        match self.fault {
            Fault::MajorVersion(_) => (NotifyType::INVALID_MAJOR_VERSION, Vec::new()),
            Fault::UnsupportedCritical(kind) => (NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, vec![kind]),
            Fault::Truncated { .. }
            | Fault::DatagramLength { .. }
            | Fault::ZeroInitiatorSpi
            | Fault::Length(_)
            | Fault::TooMany { .. }
            | Fault::Count { .. }
            | Fault::Trailing(_)
            | Fault::Repeated
            | Fault::NotLast
            | Fault::Value { .. } => (NotifyType::INVALID_SYNTAX, Vec::new()),
        }
    }
}

/// A value of our own that does not fit its length field: a mistake of configuration, never of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{what} of {length} does not fit into the message")]
pub struct EncodeError {
    /// What is too long.
    pub what: &'static str,
    /// Its length or count.
    pub length: usize,
}
