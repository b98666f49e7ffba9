//! Answers: whole messages from the daemon, written from records and read back (sections 1, 2 and 6).

use crate::code::{MessageType, ReasonCode, ReturnCode};
use crate::codec::Frame;
use crate::control::{Tunnel, VipaControl};
use crate::display::Record;
use crate::error::{DecodeError, Part};
use crate::header::{HEADER_BYTES, HEADER_LENGTH, InRecords, MessageHeader, OutRecords};
use crate::layout::Structure;
use crate::record::{RecordBuilder, RecordView, split_all};
use crate::text::CodePage;
use crate::value::Time;

/// Completes the header of an answer with records: `number` of them, `length` bytes in all, of `total` objects that
/// there were before filtering. `None`: too long for a message's 32-bit length.
///
/// The records themselves follow, in as many pieces as the writer likes: the header is all that must be known first.
#[must_use]
pub fn with_records(
    mut header: MessageHeader,
    length: u64,
    number: u32,
    total: u32,
) -> Option<MessageHeader> {
    header.length = u32::try_from(length).ok()?.checked_add(HEADER_LENGTH)?;
    header.output = OutRecords {
        offset: if number == 0 { 0 } else { HEADER_LENGTH },
        length: header.length - HEADER_LENGTH,
        number,
        total,
    };
    Some(header)
}

/// A request message: `input` are whole records.
#[must_use]
pub fn request(
    page: CodePage,
    message_type: MessageType,
    target: &str,
    correlator: u64,
    input: &[Vec<u8>],
) -> Vec<u8> {
    let mut header = MessageHeader::new(page, message_type);
    header.set_target(target);
    header.correlator = correlator.to_be_bytes();
    let length = input.iter().map(Vec::len).sum::<usize>();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    header.length = count(HEADER_BYTES + length);
    if !input.is_empty() {
        header.input = InRecords {
            offset: HEADER_LENGTH,
            length: count(length),
            number: count(input.len()),
            reserved: 0,
        };
    }
    let mut out = header.to_bytes().to_vec();
    input.iter().for_each(|record| out.extend_from_slice(record));
    out
}

/// An input record: one section.
#[must_use]
pub fn input_record<S: Structure>(page: CodePage, section: &S) -> Vec<u8> {
    RecordBuilder::new(page).one(section).finish()
}

impl Record for Tunnel {
    const TYPES: &'static [MessageType] = &[
        MessageType::ACTIVATE_IPTUNMANUAL,
        MessageType::DEACTIVATE_IPTUNMANUAL,
        MessageType::ACTIVATE_IPTUNDYN,
        MessageType::DEACTIVATE_IPTUNDYN,
        MessageType::REFRESH_IPTUNDYN,
        MessageType::DEACTIVATE_IKETUN,
        MessageType::REFRESH_IKETUN,
    ];

    fn build(&self, page: CodePage) -> Vec<u8> {
        input_record(page, self)
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        record.one(0)
    }
}

impl Record for VipaControl {
    const TYPES: &'static [MessageType] = &[
        MessageType::MOVE_DVIPA,
        MessageType::DEACTIVATE_DVIPA,
        MessageType::REACTIVATE_DVIPA,
        MessageType::QUIESCE_TARGET,
        MessageType::RESUME_TARGET,
    ];

    fn build(&self, page: CodePage) -> Vec<u8> {
        input_record(page, self)
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        record.one(0)
    }
}

/// A message from the daemon: INIT, TERM or the answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its header.
    pub header: MessageHeader,
    frame: Frame,
}

impl Message {
    /// Reads a message's header and checks that its records are where it says.
    ///
    /// # Errors
    /// The first fault found.
    pub fn read(frame: Frame) -> Result<Self, DecodeError> {
        let header = MessageHeader::read_lenient(frame.bytes())?;
        let message = frame.bytes().len();
        // A later version may have a longer header; its records are found by their offset.
        if header.header_length < HEADER_LENGTH || header.header_length as usize > message {
            return Err(DecodeError::HeaderLength {
                what: Part::Message,
                found: header.header_length,
                expected: HEADER_LENGTH,
            });
        }
        let OutRecords { offset, length, number, .. } = header.output;
        let at = if number == 0 && offset == 0 { header.header_length } else { offset };
        if at < header.header_length || u64::from(at) + u64::from(length) != message as u64 {
            return Err(DecodeError::Records { offset, length, number, message });
        }
        Ok(Self { header, frame })
    }

    /// Its records.
    ///
    /// # Errors
    /// A record that cannot be read, or another number of them than the header says.
    pub fn records(&self) -> Result<Vec<RecordView<'_>>, DecodeError> {
        let OutRecords { offset, length, number, .. } = self.header.output;
        if number == 0 {
            return Ok(Vec::new());
        }
        let message = self.frame.bytes().len();
        let bytes = self.frame.bytes().get(offset as usize..).unwrap_or_default();
        split_all(bytes, number, self.frame.page())
            .map_err(|e| e.unwrap_or(DecodeError::Records { offset, length, number, message }))
    }

    /// Its records as values.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn parse<R: Record>(&self) -> Result<Answer<R>, DecodeError> {
        let records = self.records()?.iter().map(R::parse).collect::<Result<_, _>>()?;
        Ok(Answer { records, total: self.header.output.total, timestamp: self.header.timestamp })
    }

    /// Return and reason code, if it is a refusal.
    #[must_use]
    pub fn refusal(&self) -> Option<(ReturnCode, ReasonCode)> {
        let h = &self.header;
        (h.return_code != ReturnCode::OK || h.reason_code != ReasonCode::NONE)
            .then_some((h.return_code, h.reason_code))
    }
}

/// The records of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<R> {
    /// What was asked for.
    pub records: Vec<R>,
    /// Objects that there were before the input filters.
    pub total: u32,
    /// When the daemon made the answer.
    pub timestamp: Time,
}
