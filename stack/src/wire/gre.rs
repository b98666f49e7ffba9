//! GRE (RFC 2784) with the key of RFC 2890, as the XCF uses it.
//!
//! ```text
//! |C| |K|S|  Reserved0  | Ver |     Protocol Type      |
//! |           Key (only when K is set)                 |
//! ```
//! The key carries what the other stack must know of the inner packet: bit 0 (most significant) *clear* (did not come
//! by IPsec), bit 1 *forwarded* (by the owner before, which it was sent to), bit 2 *fragmentable* (its source had fragmented
//! it, so that who protects it may too), bits 16 to 31 the segment size of a coalesced TCP packet; no key: one packet that
//! came by IPsec.

use super::{be16, be32};

/// Protocol type of an inner IPv4 packet.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Protocol type of an inner IPv6 packet.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Longest header that we write.
pub const MAX_HEADER: usize = 8;
const KEY: u16 = 0x2000;
const CLEAR: u32 = 0x8000_0000;
const FORWARDED: u32 = 0x4000_0000;
const FRAGMENTABLE: u32 = 0x2000_0000;
const SEGMENT_MASK: u32 = 0xffff;

/// A GRE header of the XCF.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GreHeader {
    /// IPv6 inside.
    pub v6: bool,
    /// The inner packet did not come by IPsec.
    pub clear: bool,
    /// Given on by a stack that owned the DVIPA when it was sent.
    pub forwarded: bool,
    /// An IPv6 packet that its source had fragmented. IPv4 says so itself.
    pub fragmentable: bool,
    /// Segment size of a coalesced TCP packet, whose checksum field then holds the sum of the pseudo header; 0: one packet.
    pub segment: u16,
}

/// What is wrong with a GRE packet (threats T42, each apart).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GreError {
    /// Shorter than its header.
    #[error("{0} octets are no GRE header")]
    Short(usize),
    /// Version not 0.
    #[error("GRE version {0}")]
    Version(u16),
    /// Checksum, routing, sequence number or a reserved bit: not used on an XCF.
    #[error("GRE flags {0:#06x}")]
    Flags(u16),
    /// Neither IPv4 nor IPv6.
    #[error("GRE protocol type {0:#06x}")]
    Protocol(u16),
    /// A bit of the key that has no meaning.
    #[error("GRE key {0:#010x}")]
    Key(u32),
}

impl GreHeader {
    /// Parses the header and returns it with what follows.
    pub fn parse(packet: &[u8]) -> Result<(Self, usize), GreError> {
        if packet.len() < 4 {
            return Err(GreError::Short(packet.len()));
        }
        let flags = be16(packet, 0);
        if flags & 7 != 0 {
            return Err(GreError::Version(flags & 7));
        }
        if flags & !KEY != 0 {
            return Err(GreError::Flags(flags));
        }
        let v6 = match be16(packet, 2) {
            ETHERTYPE_IPV4 => false,
            ETHERTYPE_IPV6 => true,
            other => return Err(GreError::Protocol(other)),
        };
        if flags & KEY == 0 {
            return Ok((Self { v6, ..Self::default() }, 4));
        }
        if packet.len() < 8 {
            return Err(GreError::Short(packet.len()));
        }
        let key = be32(packet, 4);
        if key & !(CLEAR | FORWARDED | FRAGMENTABLE | SEGMENT_MASK) != 0 {
            return Err(GreError::Key(key));
        }
        let segment = be16(packet, 6);
        let bit = |mask| key & mask != 0;
        let header = Self {
            v6,
            clear: bit(CLEAR),
            forwarded: bit(FORWARDED),
            fragmentable: bit(FRAGMENTABLE),
            segment,
        };
        Ok((header, 8))
    }

    const fn key(&self) -> u32 {
        (if self.clear { CLEAR } else { 0 })
            | (if self.forwarded { FORWARDED } else { 0 })
            | (if self.fragmentable { FRAGMENTABLE } else { 0 })
            | self.segment as u32
    }

    /// Length of the header when written.
    #[must_use]
    pub const fn len(&self) -> usize {
        if self.key() == 0 { 4 } else { 8 }
    }

    /// Never: a header has at least four octets.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes the header so that it ends where `room` ends; `room` has at least [`GreHeader::len`] octets.
    pub fn write_before(&self, room: &mut [u8]) {
        let at = room.len() - self.len();
        let b = &mut room[at..];
        let keyed = self.len() == 8;
        b[..2].copy_from_slice(&(if keyed { KEY } else { 0 }).to_be_bytes());
        b[2..4].copy_from_slice(&(if self.v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 }).to_be_bytes());
        if keyed {
            b[4..8].copy_from_slice(&self.key().to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_bytes() {
        let write = |h: GreHeader| {
            let mut b = [0xee; 8];
            h.write_before(&mut b);
            hex::encode(&b[8 - h.len()..])
        };
        let plain = GreHeader::default();
        assert_eq!(write(plain), "00000800");
        assert_eq!(write(GreHeader { v6: true, clear: true, ..plain }), "200086dd80000000");
        assert_eq!(write(GreHeader { segment: 1348, ..plain }), "2000080000000544");
        assert_eq!(write(GreHeader { forwarded: true, ..plain }), "2000080040000000");
        assert_eq!(write(GreHeader { v6: true, fragmentable: true, ..plain }), "200086dd20000000");
    }

    #[test]
    fn t42_each_reason_apart() {
        let p = |s: &str| GreHeader::parse(&hex::decode(s).unwrap()).map(|(h, n)| (h.segment, n));
        assert_eq!(p("000008"), Err(GreError::Short(3)));
        assert_eq!(p("00010800"), Err(GreError::Version(1)));
        assert_eq!(p("8000080000000000"), Err(GreError::Flags(0x8000)));
        assert_eq!(p("4000080000000000"), Err(GreError::Flags(0x4000)));
        assert_eq!(p("1000080000000000"), Err(GreError::Flags(0x1000)));
        assert_eq!(p("00080800"), Err(GreError::Flags(8)));
        assert_eq!(p("000088be"), Err(GreError::Protocol(0x88be)));
        assert_eq!(p("20000800000000"), Err(GreError::Short(7)));
        assert_eq!(p("2000080000010000"), Err(GreError::Key(0x1_0000)));
        assert_eq!(p("2000080080000544"), Ok((1348, 8)));
    }

    proptest! {
        #[test]
        fn parse_of_write_is_the_same(v6: bool, clear: bool, forwarded: bool, fragmentable: bool, segment: u16) {
            let h = GreHeader { v6, clear, forwarded, fragmentable, segment };
            let mut b = [0; MAX_HEADER];
            h.write_before(&mut b);
            prop_assert_eq!(GreHeader::parse(&b[MAX_HEADER - h.len()..]), Ok((h, h.len())));
        }

        #[test]
        fn random_bytes_never_panic(b in proptest::collection::vec(any::<u8>(), 0..12)) {
            let _ = GreHeader::parse(&b);
        }
    }
}
