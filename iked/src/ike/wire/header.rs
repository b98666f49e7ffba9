//! The IKE header (RFC 7296 section 3.1): 28 octets in front of every message.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |                    IKE SA initiator's SPI                     |
//! |                    IKE SA responder's SPI                     |
//! +---------------+-------+-------+---------------+---------------+
//! | Next payload  | major | minor | Exchange type |     Flags     |
//! |                          Message ID                           |
//! |                            Length                             |
//! +---------------------------------------------------------------+
//! ```

use super::error::{EncodeError, Fault, WireError};
use super::iana::{ExchangeType, PayloadType};
use super::reader::Reader;

/// Octets of the IKE header.
pub const HEADER_LEN: usize = 28;

/// Version 2.0 as it stands in the header.
const VERSION_2_0: u8 = 0x20;

/// Offset of the Next Payload field.
const NEXT_PAYLOAD_AT: usize = 16;

/// The header's flags; reserved bits are ignored on receipt and sent as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags {
    /// I(nitiator): sent by the original initiator of the IKE SA.
    pub initiator: bool,
    /// V(ersion): the sender can speak a higher major version.
    pub version: bool,
    /// R(esponse): an answer to the request with the same message id.
    pub response: bool,
}

impl Flags {
    const INITIATOR: u8 = 0x08;
    const VERSION: u8 = 0x10;
    const RESPONSE: u8 = 0x20;

    const fn from_octet(octet: u8) -> Self {
        Self {
            initiator: octet & Self::INITIATOR != 0,
            version: octet & Self::VERSION != 0,
            response: octet & Self::RESPONSE != 0,
        }
    }

    const fn to_octet(self) -> u8 {
        (if self.initiator { Self::INITIATOR } else { 0 })
            | (if self.version { Self::VERSION } else { 0 })
            | (if self.response { Self::RESPONSE } else { 0 })
    }
}

/// An IKE header without the fields that follow from the payloads (next payload, length).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    /// Initiator's SPI, never zero.
    pub spi_i: u64,
    /// Responder's SPI, zero in the first request.
    pub spi_r: u64,
    /// Major version in the high four bits, minor in the low four.
    pub version: u8,
    /// Exchange.
    pub exchange: ExchangeType,
    /// Flags.
    pub flags: Flags,
    /// Message id.
    pub message_id: u32,
}

impl Header {
    /// A header of version 2.0.
    #[must_use]
    pub const fn new(spi_i: u64, spi_r: u64, exchange: ExchangeType, flags: Flags, message_id: u32) -> Self {
        Self { spi_i, spi_r, version: VERSION_2_0, exchange, flags, message_id }
    }

    /// The header of a datagram (without non-ESP marker), whatever its version: compare [`Header::major`] first.
    ///
    /// # Errors
    /// The datagram is shorter than a header, or not as long as its header says; or the initiator's SPI is zero.
    pub fn parse(datagram: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(datagram, 0, PayloadType::NONE);
        let mut fixed = reader.sub(HEADER_LEN)?;
        let (spi_i, spi_r) = (fixed.u64()?, fixed.u64()?);
        let _next_payload = fixed.u8()?;
        let version = fixed.u8()?;
        let exchange = ExchangeType(fixed.u8()?);
        let flags = Flags::from_octet(fixed.u8()?);
        let message_id = fixed.u32()?;
        let at_length = fixed.clone();
        let length = fixed.u32()?;
        if usize::try_from(length) != Ok(datagram.len()) {
            let fault = Fault::DatagramLength { header: length, datagram: datagram.len() };
            return Err(at_length.fault(fault));
        }
        if spi_i == 0 {
            return Err(WireError { payload: PayloadType::NONE, offset: 0, fault: Fault::ZeroInitiatorSpi });
        }
        Ok(Self { spi_i, spi_r, version, exchange, flags, message_id })
    }

    /// Major version.
    #[must_use]
    pub const fn major(&self) -> u8 {
        self.version >> 4
    }

    /// Insists on major version 2; the minor version is ignored (RFC 7296 section 2.5).
    ///
    /// # Errors
    /// Another major version.
    pub const fn check_version(&self) -> Result<(), WireError> {
        match self.major() {
            2 => Ok(()),
            other => {
                let fault = Fault::MajorVersion(other);
                Err(WireError { payload: PayloadType::NONE, offset: NEXT_PAYLOAD_AT + 1, fault })
            }
        }
    }

    /// The type of the first payload of a datagram that [`Header::parse`] accepted.
    pub(super) fn first_payload(datagram: &[u8]) -> PayloadType {
        PayloadType(datagram.get(NEXT_PAYLOAD_AT).copied().unwrap_or(0))
    }

    /// Appends the header of a message whose payloads take `payloads` octets, `first` in front.
    ///
    /// # Errors
    /// More than the length field can say.
    pub(crate) fn encode(
        &self,
        first: PayloadType,
        payloads: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let length = HEADER_LEN + payloads;
        let field = u32::try_from(length).map_err(|_| EncodeError { what: "message", length })?;
        out.extend_from_slice(&self.spi_i.to_be_bytes());
        out.extend_from_slice(&self.spi_r.to_be_bytes());
        out.extend_from_slice(&[first.0, self.version, self.exchange.0, self.flags.to_octet()]);
        out.extend_from_slice(&self.message_id.to_be_bytes());
        out.extend_from_slice(&field.to_be_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let flags = Flags { initiator: true, ..Flags::default() };
        let header = Header::new(0x0102_0304_0506_0708, 0, ExchangeType::IKE_SA_INIT, flags, 0);
        let mut out = Vec::new();
        header.encode(PayloadType::SA, 0, &mut out).unwrap();
        out
    }

    #[test]
    fn golden() {
        let bytes = hex::decode("0102030405060708000000000000000021202208000000000000001c");
        assert_eq!(sample(), bytes.unwrap());
        let header = Header::parse(&sample()).unwrap();
        assert_eq!((header.major(), header.exchange), (2, ExchangeType::IKE_SA_INIT));
        assert!(header.flags.initiator && !header.flags.response);
    }

    #[test]
    fn t01_short_datagrams_and_lying_lengths() {
        let whole = sample();
        for len in 0..HEADER_LEN {
            let error = Header::parse(&whole[..len]).unwrap_err();
            assert_eq!(error.fault, Fault::Truncated { needed: HEADER_LEN, left: len });
        }
        for lie in [0, 27, 29, 0x8000_0000, u32::MAX] {
            let mut bytes = whole.clone();
            bytes[24..28].copy_from_slice(&lie.to_be_bytes());
            let error = Header::parse(&bytes).unwrap_err();
            assert_eq!(error.fault, Fault::DatagramLength { header: lie, datagram: 28 });
            assert_eq!(error.offset, 24);
        }
    }

    #[test]
    fn t05_versions_and_reserved_bits() {
        for major in [0_u8, 1, 3, 15] {
            let mut bytes = sample();
            bytes[17] = major << 4;
            let header = Header::parse(&bytes).unwrap();
            assert_eq!(header.check_version().unwrap_err().fault, Fault::MajorVersion(major));
        }
        let mut bytes = sample();
        bytes[17] = 0x2f;
        bytes[19] |= 0xc7;
        let header = Header::parse(&bytes).unwrap();
        assert!(header.check_version().is_ok());
        assert_eq!(header.flags, Flags { initiator: true, ..Flags::default() });
    }
}
