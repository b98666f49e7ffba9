//! The message header and its two record descriptors (sections 2.1 and 2.2).

use crate::code::{MessageType, ReasonCode, ReturnCode};
use crate::error::{DecodeError, TextFault};
use crate::text::CodePage;
use crate::value::Time;
use binrw::{BinRead, BinWrite};
use std::io::Cursor;

/// Bytes of a message header.
pub const HEADER_BYTES: usize = 96;
/// As [`HEADER_BYTES`], as the header's own length field has it.
pub const HEADER_LENGTH: u32 = 96;
/// Bytes from which a message's code page, type and length are known.
pub const PREFIX_BYTES: usize = 16;

/// `NMsecInRecDesc`: where the input records of a request are (section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, BinRead, BinWrite)]
#[brw(big)]
pub struct InRecords {
    /// `NMsMInOff`: offset from the start of the message, 0 if none.
    pub offset: u32,
    /// `NMsMInLen`: bytes.
    pub length: u32,
    /// `NMsMInNum`: records.
    pub number: u32,
    /// `NMsMInRsvd`: zero.
    pub reserved: u32,
}

/// `NMsecOutRecDesc`: where the output records of a response are (section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, BinRead, BinWrite)]
#[brw(big)]
pub struct OutRecords {
    /// `NMsMOutOff`: offset from the start of the message, 0 if none.
    pub offset: u32,
    /// `NMsMOutLen`: bytes, cascaded records included.
    pub length: u32,
    /// `NMsMOutNum`: top-level records.
    pub number: u32,
    /// `NMsMOutTot`: objects that there were before the input filters.
    pub total: u32,
}

/// `NMsecMessageHdr`, 96 bytes, at the start of every message (section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, BinRead, BinWrite)]
#[brw(big)]
pub struct MessageHeader {
    /// `NMsMIdent`: says the code page of the whole message.
    #[br(try_map = page_of)]
    #[bw(map = |page| page.message_ident())]
    pub page: CodePage,
    /// `NMsMHdrLength`: 96.
    pub header_length: u32,
    /// `NMsMVersion`: INIT: the highest supported; request: the wanted; response: the request's.
    pub version: u16,
    /// `NMsMType`; a response has its request's.
    pub message_type: MessageType,
    /// `NMsMLength`: bytes of the whole message.
    pub length: u32,
    /// `NMsMCorrelator`: what the client likes, copied into the response.
    pub correlator: [u8; 8],
    /// `NMsMTimestamp`: when the message was built.
    pub timestamp: Time,
    /// `NMsMRc`.
    pub return_code: ReturnCode,
    /// `NMsMRsn`.
    pub reason_code: ReasonCode,
    /// `NMsMRsvd1`: zero.
    pub reserved: u32,
    /// `NMsMTarget`: name of a stack, blank-padded, as it stands on the wire: a response repeats it byte for byte.
    pub target: [u8; 24],
    /// `NMsMInRec`.
    pub input: InRecords,
    /// `NMsMOutRec`.
    pub output: OutRecords,
}

fn page_of(ident: [u8; 4]) -> Result<CodePage, DecodeError> {
    CodePage::of_message_ident(ident).ok_or(DecodeError::Ident { found: ident, at: 0 })
}

impl MessageHeader {
    /// A header of a message without records: INIT, TERM, or a request to be completed.
    #[must_use]
    pub const fn new(page: CodePage, message_type: MessageType) -> Self {
        Self {
            page,
            header_length: HEADER_LENGTH,
            version: crate::VERSION,
            message_type,
            length: HEADER_LENGTH,
            correlator: [0; 8],
            timestamp: Time::NONE,
            return_code: ReturnCode::OK,
            reason_code: ReasonCode::NONE,
            reserved: 0,
            target: [page.blank(); 24],
            input: InRecords { offset: 0, length: 0, number: 0, reserved: 0 },
            output: OutRecords { offset: 0, length: 0, number: 0, total: 0 },
        }
    }

    /// INIT: sent by the daemon when it is ready to serve the connection.
    #[must_use]
    pub fn init(page: CodePage, now: Time) -> Self {
        Self { timestamp: now, ..Self::new(page, MessageType::INIT) }
    }

    /// TERM: sent by the daemon before it closes the connection, with the cause.
    #[must_use]
    pub fn term(page: CodePage, now: Time, rc: ReturnCode, rsn: ReasonCode) -> Self {
        Self { timestamp: now, return_code: rc, reason_code: rsn, ..Self::new(page, MessageType::TERM) }
    }

    /// The header of the answer to `self`, without records.
    #[must_use]
    pub fn answer(&self, now: Time, rc: ReturnCode, rsn: ReasonCode) -> Self {
        Self {
            version: self.version,
            correlator: self.correlator,
            timestamp: now,
            return_code: rc,
            reason_code: rsn,
            target: self.target,
            ..Self::new(self.page, self.message_type)
        }
    }

    /// The name in [`Self::target`], empty if it is blank.
    ///
    /// # Errors
    /// A byte that is no text.
    pub fn target_name(&self) -> Result<String, TextFault> {
        self.page.read_padded(&self.target)
    }

    /// Puts a name into [`Self::target`].
    pub fn set_target(&mut self, name: &str) {
        self.page.write_padded(name, &mut self.target);
    }

    /// Reads the header of a message that has been found to start with one of the idents. What a message shorter
    /// than a header lacks is taken as blank and zero: so much of a bad request can be repeated in its answer.
    ///
    /// # Errors
    /// The ident is neither.
    pub fn read_lenient(message: &[u8]) -> Result<Self, DecodeError> {
        let mut raw = [0; HEADER_BYTES];
        let have = message.len().min(HEADER_BYTES);
        if let Some(page) = message.first_chunk().copied().and_then(CodePage::of_message_ident) {
            raw[40..64].fill(page.blank());
        }
        raw[..have].copy_from_slice(&message[..have]);
        let mut ident = [0; 4];
        ident.copy_from_slice(&raw[..4]);
        // The buffer has all the bytes, so only the ident can be refused.
        Self::read(&mut Cursor::new(&raw)).map_err(|_| DecodeError::Ident { found: ident, at: 0 })
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut raw = [0; HEADER_BYTES];
        self.write(&mut Cursor::new(&mut raw[..])).expect("the fields of a header add up to HEADER_BYTES");
        raw
    }
}
