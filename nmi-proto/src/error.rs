//! What can be wrong with bytes that claim to be this format.
//!
//! These are for the log and for clients. What a server *answers* to a bad request is in [`crate::check`].

use crate::code::{IdType, ReasonCode};
use crate::text::CodePage;

/// Why bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Neither ident in either code page.
    #[error("bad ident {found:02x?} at offset {at}")]
    Ident {
        /// The four bytes.
        found: [u8; 4],
        /// Where, from the start of the message or record.
        at: usize,
    },
    /// A record in another code page than its message.
    #[error("record ident in {found:?}, message in {expected:?}")]
    MixedPages {
        /// The message's code page.
        expected: CodePage,
        /// The record's.
        found: CodePage,
    },
    /// A message larger than this side takes.
    #[error("message of {length} bytes, at most {limit} are taken")]
    TooLarge {
        /// What the header says.
        length: u32,
        /// The limit.
        limit: u32,
    },
    /// Something is shorter than it must be.
    #[error("{what}: {length} bytes, {need} needed")]
    Short {
        /// What.
        what: Part,
        /// How long it is.
        length: usize,
        /// How long it must be at least.
        need: usize,
    },
    /// A header length that is not the one of this version, or does not fit the descriptors.
    #[error("{what}: header length {found}, expected {expected}")]
    HeaderLength {
        /// Message or record.
        what: Part,
        /// Found.
        found: u32,
        /// Expected.
        expected: u32,
    },
    /// A record length that is no multiple of 4, too short, or past the end.
    #[error("record length {length} with {left} bytes left")]
    RecordLength {
        /// What the header says.
        length: u32,
        /// Bytes up to the end of the message.
        left: usize,
    },
    /// A section or cascade descriptor that points outside of its record, backwards or into its header.
    #[error(
        "descriptor {index}: offset {offset}, {length} bytes x {number} do not fit a record of {record} bytes"
    )]
    Descriptor {
        /// Which, from 0.
        index: usize,
        /// Offset.
        offset: u32,
        /// Length of one.
        length: u32,
        /// How many.
        number: u32,
        /// Length of the record.
        record: usize,
    },
    /// The record descriptor of a message header contradicts the message.
    #[error(
        "record descriptor: offset {offset}, length {length}, number {number} in a message of {message} bytes"
    )]
    Records {
        /// Offset.
        offset: u32,
        /// Length.
        length: u32,
        /// Number.
        number: u32,
        /// Length of the message.
        message: usize,
    },
    /// A section that must be there is not, or is there more often than it may be.
    #[error("{what}: {found} instances")]
    SectionCount {
        /// Structure.
        what: &'static str,
        /// Number found.
        found: usize,
    },
    /// A record with another number of sections or cascades than its type has.
    #[error("record with {sections} sections and {cascades} cascades")]
    Shape {
        /// Sections.
        sections: usize,
        /// Cascades.
        cascades: usize,
    },
    /// A text field holds something that is no text.
    #[error("{structure}.{field}: {fault}")]
    Text {
        /// Structure.
        structure: &'static str,
        /// Field.
        field: &'static str,
        /// What.
        fault: TextFault,
    },
    /// An identity whose bytes do not fit its type.
    #[error("identity of type {id_type} with {length} bytes")]
    Identity {
        /// Type.
        id_type: IdType,
        /// Bytes.
        length: usize,
    },
}

/// A part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A message.
    Message,
    /// A record.
    Record,
    /// A section: name of its structure.
    Section(&'static str),
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Message => "message",
            Self::Record => "record",
            Self::Section(name) => name,
        })
    }
}

/// A byte that no text field may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {byte:#04x} at position {at} is no printable character")]
pub struct TextFault {
    /// The byte as it came.
    pub byte: u8,
    /// Position in the field.
    pub at: usize,
}

impl DecodeError {
    /// The reason code with which a server would refuse a request for this (section 9).
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::Ident { .. } | Self::MixedPages { .. } => ReasonCode::BAD_IDENT,
            Self::TooLarge { .. } => ReasonCode::EXCESSIVE_SIZE,
            Self::HeaderLength { what: Part::Message, .. } => ReasonCode::HDR_SIZE,
            Self::Records { .. } | Self::Short { what: Part::Message, .. } => ReasonCode::MSG_SIZE,
            Self::RecordLength { .. } | Self::Short { what: Part::Record, .. } => ReasonCode::RECORD_LENGTH,
            Self::Short { what: Part::Section(_), .. } => ReasonCode::SEC_LENGTH,
            Self::HeaderLength { .. }
            | Self::Descriptor { .. }
            | Self::SectionCount { .. }
            | Self::Shape { .. } => ReasonCode::SEC_DESC,
            Self::Text { .. } | Self::Identity { .. } => ReasonCode::BAD_VALUE,
        }
    }
}
