//! What two systems say to each other about takeovers, as bytes for the XCF link (which seals them).
//!
//! One octet of version, then a `postcard` encoding. Records go in frames of their own before the offer that they
//! belong to, so that no frame is larger than the link takes.

use super::types::Message;
use crate::cf::record::{Phase1, Phase2, RecordId};
use serde::{Deserialize, Serialize};
use stack::control::{PortTranslation, ReplaySnapshot};
use std::net::IpAddr;

/// Version of the frames.
const VERSION: u8 = 1;
/// Records in one frame: far below the link's limit, as a record has at most some kilobytes.
pub const RECORDS: usize = 64;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// For the machine.
    Message(Message),
    /// Records of a DVIPA; the offer follows.
    Records(Records),
    /// What an old owner has accepted; [`Message::GaveUp`] follows.
    Windows(Windows),
    /// Ports that an owner translates, beside its records; the offer follows.
    Translations {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Some of them.
        flows: Vec<PortTranslation>,
    },
}

/// Replay windows of the SAs of a DVIPA whose owner has stopped to use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// The DVIPA.
    pub dvipa: IpAddr,
    /// The epoch that has ended.
    pub epoch: u64,
    /// The first frame: what came before is of no use.
    pub first: bool,
    /// Some of them.
    pub children: Vec<Window>,
}

/// Where one SA stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Inbound SPI.
    pub spi_in: u32,
    /// Bytes carried, of the direction that carried more.
    pub bytes: u64,
    /// What was accepted.
    pub replay: ReplaySnapshot,
}

/// Records that are handed over without a coupling facility, with the epochs of their writers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// The DVIPA; never absent in a frame.
    pub dvipa: Option<IpAddr>,
    /// The first frame: what came before is not of this offer.
    pub first: bool,
    /// IKE tunnels.
    pub phase1: Vec<(RecordId, u64, Phase1)>,
    /// Dynamic tunnels.
    pub phase2: Vec<(RecordId, u64, Phase2)>,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Empty.
    #[error("empty")]
    Empty,
    /// Another version.
    #[error("version {0}, expected {VERSION}")]
    Version(u8),
    /// Not a frame of this version.
    #[error("content is no frame")]
    Malformed,
}

impl Frame {
    /// The bytes.
    ///
    /// # Panics
    /// Never: every frame can be encoded into memory.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("frames have no unencodable parts")
    }

    /// Reads a frame; all of `bytes` must be it.
    ///
    /// # Errors
    /// It is something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        match bytes {
            [] => Err(WireError::Empty),
            [VERSION, rest @ ..] => match postcard::take_from_bytes(rest) {
                Ok((frame, [])) => Ok(frame),
                _ => Err(WireError::Malformed),
            },
            [other, ..] => Err(WireError::Version(*other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_survive_the_way() {
        let dvipa: IpAddr = "192.0.2.1".parse().unwrap();
        for message in [
            Message::Taken { dvipa, epoch: 7 },
            Message::Ask { number: 1, owned: vec![(dvipa, 3)] },
            Message::Refuse { dvipa, reason: "no".into() },
        ] {
            let frame = Frame::Message(message);
            assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
        }
    }

    #[test]
    fn t49_what_is_no_frame_is_refused() {
        assert_eq!(Frame::decode(&[]), Err(WireError::Empty));
        assert_eq!(Frame::decode(&[2, 0]), Err(WireError::Version(2)));
        let mut long = Frame::Records(Records::default()).encode();
        long.push(0);
        assert_eq!(Frame::decode(&long), Err(WireError::Malformed));
    }

    proptest! {
        #[test]
        fn t49_no_bytes_panic(bytes: Vec<u8>) {
            let _ = Frame::decode(&bytes);
        }
    }
}
