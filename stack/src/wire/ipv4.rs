//! IPv4 (RFC 791): view and writer.

use super::checksum::Sum;
use super::{array, be16};
use std::net::Ipv4Addr;

/// Length of a header without options.
pub const MIN_HEADER: usize = 20;
/// "Don't fragment" in the flags and offset field.
pub const DF: u16 = 0x4000;
/// "More fragments" in the flags and offset field.
pub const MF: u16 = 0x2000;
/// The fragment offset, in units of 8 octets.
pub const OFFSET_MASK: u16 = 0x1fff;
/// Largest packet.
pub const MAX_PACKET: usize = 65_535;

/// What is wrong with an IPv4 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ipv4Error {
    /// Shorter than a header.
    #[error("{0} octets are no IPv4 header")]
    Short(usize),
    /// Not version 4.
    #[error("IP version {0}")]
    Version(u8),
    /// Header length below 20 or beyond the packet.
    #[error("IPv4 header length {0}")]
    HeaderLength(usize),
    /// Total length below the header length or beyond the packet.
    #[error("IPv4 total length {total} in {have} octets")]
    TotalLength {
        /// What the header says.
        total: usize,
        /// What is there.
        have: usize,
    },
}

/// A packet whose header lies inside its bytes. Bytes beyond the total length are cut off.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4<'a> {
    bytes: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// Checks version, header length and total length.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Ipv4Error> {
        if bytes.len() < MIN_HEADER {
            return Err(Ipv4Error::Short(bytes.len()));
        }
        if bytes[0] >> 4 != 4 {
            return Err(Ipv4Error::Version(bytes[0] >> 4));
        }
        let header = usize::from(bytes[0] & 0x0f) * 4;
        if header < MIN_HEADER || header > bytes.len() {
            return Err(Ipv4Error::HeaderLength(header));
        }
        let total = usize::from(be16(bytes, 2));
        if total < header || total > bytes.len() {
            return Err(Ipv4Error::TotalLength { total, have: bytes.len() });
        }
        Ok(Self { bytes: &bytes[..total] })
    }
    /// Header length in octets, options included.
    #[must_use]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes[0] & 0x0f) * 4
    }
    /// The packet, as long as its total length says.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
    /// What follows the header.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_len()..]
    }
    /// DSCP and ECN.
    #[must_use]
    pub fn tos(&self) -> u8 {
        self.bytes[1]
    }
    /// Identification.
    #[must_use]
    pub fn id(&self) -> u16 {
        be16(self.bytes, 4)
    }
    /// Flags and fragment offset as they stand.
    #[must_use]
    pub fn flags_and_offset(&self) -> u16 {
        be16(self.bytes, 6)
    }
    /// Time to live.
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.bytes[8]
    }
    /// Protocol of the payload.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.bytes[9]
    }
    /// Source address.
    #[must_use]
    pub fn source(&self) -> Ipv4Addr {
        array::<4>(self.bytes, 12).into()
    }
    /// Destination address.
    #[must_use]
    pub fn destination(&self) -> Ipv4Addr {
        array::<4>(self.bytes, 16).into()
    }
    /// Whether the header checksum is right.
    #[must_use]
    pub fn checksum_ok(&self) -> bool {
        Sum::ZERO.with(&self.bytes[..self.header_len()]).is_valid()
    }
}

/// A header without options, to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Header {
    /// DSCP and ECN.
    pub tos: u8,
    /// Length of header and payload.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// [`DF`], [`MF`] and the offset.
    pub flags_and_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl Ipv4Header {
    /// The 20 octets, checksum included.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; MIN_HEADER] {
        let mut b = [0; MIN_HEADER];
        b[0] = 0x45;
        b[1] = self.tos;
        b[2..4].copy_from_slice(&self.total_len.to_be_bytes());
        b[4..6].copy_from_slice(&self.id.to_be_bytes());
        b[6..8].copy_from_slice(&self.flags_and_offset.to_be_bytes());
        b[8] = self.ttl;
        b[9] = self.protocol;
        b[12..16].copy_from_slice(&self.source.octets());
        b[16..20].copy_from_slice(&self.destination.octets());
        fill_checksum(&mut b);
        b
    }
}

/// Computes the header checksum of `header`, which is the whole header with its options (at least 20 octets).
pub fn fill_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let c = Sum::ZERO.with(header).finish();
    header[10..12].copy_from_slice(&c);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_known_header_and_its_checksum() {
        let h = Ipv4Header {
            tos: 0,
            total_len: 115,
            id: 0,
            flags_and_offset: DF,
            ttl: 64,
            protocol: 17,
            source: [192, 168, 0, 1].into(),
            destination: [192, 168, 0, 199].into(),
        };
        assert_eq!(hex::encode(h.to_bytes()), "45000073000040004011b861c0a80001c0a800c7");
    }

    #[test]
    fn t37_lengths_that_lie() {
        let mut b = [0u8; 24];
        b[0] = 0x45;
        b[3] = 24;
        assert!(Ipv4::new_checked(&b).is_ok());
        assert_eq!(Ipv4::new_checked(&b[..19]).err(), Some(Ipv4Error::Short(19)));
        b[0] = 0x44;
        assert_eq!(Ipv4::new_checked(&b).err(), Some(Ipv4Error::HeaderLength(16)));
        b[0] = 0x4f;
        assert_eq!(Ipv4::new_checked(&b).err(), Some(Ipv4Error::HeaderLength(60)));
        b[0] = 0xf5;
        assert_eq!(Ipv4::new_checked(&b).err(), Some(Ipv4Error::Version(15)));
        b[0] = 0x46;
        b[3] = 23;
        assert_eq!(Ipv4::new_checked(&b).err(), Some(Ipv4Error::TotalLength { total: 23, have: 24 }));
        b[3] = 25;
        assert_eq!(Ipv4::new_checked(&b).err(), Some(Ipv4Error::TotalLength { total: 25, have: 24 }));
    }

    proptest! {
        #[test]
        fn parse_of_write_is_the_same(tos: u8, id: u16, fo: u16, ttl: u8, protocol: u8, s: [u8; 4], d: [u8; 4]) {
            let h = Ipv4Header { tos, total_len: 20, id, flags_and_offset: fo, ttl, protocol, source: s.into(), destination: d.into() };
            let b = h.to_bytes();
            let v = Ipv4::new_checked(&b).unwrap();
            prop_assert!(v.checksum_ok());
            prop_assert_eq!(h, Ipv4Header { tos: v.tos(), total_len: 20, id: v.id(), flags_and_offset: v.flags_and_offset(), ttl: v.ttl(),
                protocol: v.protocol(), source: v.source(), destination: v.destination() });
        }

        #[test]
        fn random_bytes_never_panic(b in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(v) = Ipv4::new_checked(&b) {
                let _ = (v.payload().len(), v.checksum_ok(), v.source(), v.destination());
            }
        }
    }
}
