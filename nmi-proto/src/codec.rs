//! Bytes of a stream in, whole messages out (section 2.5, steps 1 to 4).

use crate::error::{DecodeError, Part};
use crate::header::PREFIX_BYTES;
use crate::text::CodePage;

/// A whole message: its ident is good, its length is what its header says, nothing else has been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    page: CodePage,
    bytes: Vec<u8>,
}

impl Frame {
    /// Code page of the message.
    #[must_use]
    pub const fn page(&self) -> CodePage {
        self.page
    }
    /// The whole message.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Cuts a stream into messages.
///
/// Memory follows what has arrived, never what a length field says. Any error is final: framing is lost, or the
/// rules say that the connection ends.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    limit: u32,
}

impl Decoder {
    /// A decoder that takes messages of at most `limit` bytes ([`MAX_REQUEST_BYTES`](crate::MAX_REQUEST_BYTES) or
    /// [`MAX_ANSWER_BYTES`](crate::MAX_ANSWER_BYTES)).
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { buffer: Vec::new(), limit }
    }

    /// Bytes that arrived. Call [`Self::next_frame`] until it has no more before the next push: what is buffered is
    /// then at most one incomplete message.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a message has begun to arrive and is not complete.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next whole message.
    ///
    /// # Errors
    /// A bad ident, a length above the limit, a length below [`PREFIX_BYTES`]; in this order.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DecodeError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let [i0, i1, i2, i3, _, _, _, _, _, _, _, _, l0, l1, l2, l3] = *prefix;
        let ident = [i0, i1, i2, i3];
        let page = CodePage::of_message_ident(ident).ok_or(DecodeError::Ident { found: ident, at: 0 })?;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length > self.limit {
            return Err(DecodeError::TooLarge { length, limit: self.limit });
        }
        let length = length as usize;
        if length < PREFIX_BYTES {
            return Err(DecodeError::Short { what: Part::Message, length, need: PREFIX_BYTES });
        }
        if self.buffer.len() < length {
            return Ok(None);
        }
        let rest = self.buffer.split_off(length);
        let bytes = std::mem::replace(&mut self.buffer, rest);
        Ok(Some(Frame { page, bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::MessageType;
    use crate::header::MessageHeader;

    #[test]
    fn messages_come_out_whole_however_they_arrive() {
        let one = MessageHeader::new(CodePage::Ascii, MessageType::GET_STACKINFO).to_bytes();
        let two = MessageHeader::new(CodePage::Ibm1047, MessageType::GET_SUMMARY).to_bytes();
        let stream = [one, two].concat();
        for step in [1, 7, 95, 96, 97, 192] {
            let mut decoder = Decoder::new(1 << 20);
            let mut out = Vec::new();
            for piece in stream.chunks(step) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    out.push((frame.page(), frame.bytes().to_vec()));
                }
            }
            assert!(!decoder.is_partial());
            assert_eq!(
                out,
                [(CodePage::Ascii, one.to_vec()), (CodePage::Ibm1047, two.to_vec())],
                "step {step}"
            );
        }
    }
}
