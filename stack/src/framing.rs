//! Frames of the control channel: a `u32` length (big-endian) and one `postcard` message.
//!
//! Pure, and used by both ends. The announced length never decides how much memory is taken: the buffer grows
//! with the bytes that arrived, and a frame above [`MAX_FRAME_BYTES`] is refused by its header alone. Frames
//! carry keys, so consumed bytes are overwritten.

use crate::control::MAX_FRAME_BYTES;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use zeroize::Zeroize;

/// Bytes of the length before each message.
const LENGTH_BYTES: usize = 4;

/// What the other end did wrong, or could not be said.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The other end announced a frame that no message needs.
    #[error("the peer announced a frame of {announced} bytes; at most {MAX_FRAME_BYTES} are allowed")]
    TooLong {
        /// Length in the header.
        announced: usize,
    },
    /// A frame whose content is no message of this protocol version.
    #[error("the peer sent a frame of {length} bytes that is no control message: {source}")]
    Malformed {
        /// Length of the frame.
        length: usize,
        /// What `postcard` found.
        source: postcard::Error,
    },
    /// A message whose encoding is followed by other bytes.
    #[error("the peer sent a control message with {excess} bytes behind it")]
    Trailing {
        /// Number of bytes behind the message.
        excess: usize,
    },
    /// Our own message does not fit into a frame.
    #[error("a control message of our own would take {length} bytes; at most {MAX_FRAME_BYTES} are allowed")]
    OwnTooLong {
        /// Encoded length.
        length: usize,
    },
    /// Our own message could not be encoded.
    #[error("a control message of our own could not be encoded: {0}")]
    Encode(postcard::Error),
}

/// Appends one frame with `message` to `to`.
///
/// # Errors
/// When the message is larger than a frame may be; `to` is then as before.
pub fn encode<T: Serialize>(message: &T, to: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = to.len();
    let length = postcard::experimental::serialized_size(message).map_err(FrameError::Encode)?;
    let announced = u32::try_from(length)
        .ok()
        .filter(|_| length <= MAX_FRAME_BYTES)
        .ok_or(FrameError::OwnTooLong { length })?;
    to.resize(start + LENGTH_BYTES + length, 0);
    to[start..start + LENGTH_BYTES].copy_from_slice(&announced.to_be_bytes());
    match postcard::to_slice(message, &mut to[start + LENGTH_BYTES..]) {
        Ok(_) => Ok(()),
        Err(e) => {
            to.truncate(start);
            Err(FrameError::Encode(e))
        }
    }
}

/// Cuts the bytes of a stream into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    consumed: usize,
}

impl Decoder {
    /// Takes bytes as they were read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.consumed > 0 {
            self.compact();
        }
        let needed = self.bytes.len() + bytes.len();
        if needed > self.bytes.capacity() {
            // A plain `Vec` growth would leave keys behind in the freed block.
            let mut larger = Vec::with_capacity(needed.next_power_of_two());
            larger.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, `None` until more bytes arrive.
    ///
    /// # Errors
    /// When the stream cannot be this protocol; the connection is then of no further use.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let pending = &self.bytes[self.consumed..];
        let Some((header, rest)) = pending.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
        if length > MAX_FRAME_BYTES {
            return Err(FrameError::TooLong { announced: length });
        }
        let Some(content) = rest.get(..length) else {
            return Ok(None);
        };
        let decoded =
            postcard::take_from_bytes(content).map_err(|source| FrameError::Malformed { length, source })?;
        let (message, []) = decoded else {
            return Err(FrameError::Trailing { excess: decoded.1.len() });
        };
        let end = self.consumed + LENGTH_BYTES + length;
        self.bytes[self.consumed..end].zeroize();
        self.consumed = end;
        if self.consumed == self.bytes.len() {
            self.bytes.clear();
            self.consumed = 0;
        }
        Ok(Some(message))
    }

    fn compact(&mut self) {
        let left = self.bytes.len() - self.consumed;
        self.bytes.copy_within(self.consumed.., 0);
        self.bytes[left..].zeroize();
        self.bytes.truncate(left);
        self.consumed = 0;
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{FromStack, IkeDatagram, ToStack};
    use proptest::prelude::*;

    fn ike(bytes: Vec<u8>) -> ToStack {
        ToStack::Ike(IkeDatagram {
            local: "192.0.2.1:500".parse().unwrap(),
            remote: "[2001:db8::1]:4500".parse().unwrap(),
            bytes,
        })
    }

    #[test]
    fn golden_bytes_of_a_frame() {
        let mut bytes = Vec::new();
        encode(&ToStack::RemoveSa { spi_in: 0x80 }, &mut bytes).unwrap();
        assert_eq!(hex::encode(bytes), "00000003048001");
    }

    #[test]
    fn t54_a_lying_length_is_refused_by_its_header_alone() {
        let mut d = Decoder::default();
        d.push(&u32::MAX.to_be_bytes());
        assert!(matches!(d.next_message::<ToStack>(), Err(FrameError::TooLong { announced: 0xffff_ffff })));
        let mut d = Decoder::default();
        d.push(&u32::try_from(MAX_FRAME_BYTES).unwrap().to_be_bytes());
        assert!(d.next_message::<ToStack>().unwrap().is_none());
        assert!(d.bytes.capacity() < 64, "no memory was taken for what did not arrive");
    }

    #[test]
    fn t54_bytes_behind_a_message_are_refused() {
        let mut d = Decoder::default();
        d.push(&[0, 0, 0, 4, 4, 0x80, 1, 0]);
        assert!(matches!(d.next_message::<ToStack>(), Err(FrameError::Trailing { excess: 1 })));
        let mut d = Decoder::default();
        d.push(&[0, 0, 0, 0]);
        assert!(matches!(d.next_message::<FromStack>(), Err(FrameError::Malformed { length: 0, .. })));
    }

    proptest! {
        #[test]
        fn any_cut_of_the_stream_gives_the_same_messages(
            sizes in proptest::collection::vec(0usize..3000, 1..6), cut in 1usize..700
        ) {
            let sent: Vec<ToStack> = sizes.iter().map(|n| ike(vec![7; *n])).collect();
            let mut stream = Vec::new();
            for m in &sent { encode(m, &mut stream).unwrap(); }
            let mut d = Decoder::default();
            let mut got = Vec::new();
            for piece in stream.chunks(cut) {
                d.push(piece);
                while let Some(m) = d.next_message::<ToStack>().unwrap() { got.push(m); }
            }
            prop_assert_eq!(got, sent);
            prop_assert!(d.bytes.is_empty());
        }

        #[test]
        fn no_bytes_can_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut d = Decoder::default();
            d.push(&bytes);
            while let Ok(Some(_)) = d.next_message::<ToStack>() {}
        }
    }
}
