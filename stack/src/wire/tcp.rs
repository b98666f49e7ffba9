//! TCP (RFC 9293): the header fields that filters, segmentation and coalescing look at.

use super::{be16, be32};

/// Length of a header without options.
pub const MIN_HEADER: usize = 20;
/// Where the checksum stands in the header.
pub const CHECKSUM_AT: usize = 16;
/// Where the flags stand in the header.
pub const FLAGS_AT: usize = 13;

/// The flags octet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment field means something.
    pub const ACK: Self = Self(0x10);
    /// Urgent pointer.
    pub const URG: Self = Self(0x20);
    /// ECN echo.
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced.
    pub const CWR: Self = Self(0x80);

    /// Whether every flag of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// The first segment of a connection: SYN without ACK.
    #[must_use]
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN.0 | Self::ACK.0) == Self::SYN.0
    }
    /// All but the flags of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// What is wrong with a TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TcpError {
    /// Shorter than a header.
    #[error("{0} octets are no TCP header")]
    Short(usize),
    /// Data offset below 5 words or beyond the packet.
    #[error("TCP header length {0}")]
    HeaderLength(usize),
}

/// A segment whose header lies inside its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Tcp<'a> {
    bytes: &'a [u8],
}

impl<'a> Tcp<'a> {
    /// Checks the header length.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, TcpError> {
        if bytes.len() < MIN_HEADER {
            return Err(TcpError::Short(bytes.len()));
        }
        let header = usize::from(bytes[12] >> 4) * 4;
        if header < MIN_HEADER || header > bytes.len() {
            return Err(TcpError::HeaderLength(header));
        }
        Ok(Self { bytes })
    }
    /// Header length in octets, options included.
    #[must_use]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes[12] >> 4) * 4
    }
    /// Source port.
    #[must_use]
    pub fn source_port(&self) -> u16 {
        be16(self.bytes, 0)
    }
    /// Destination port.
    #[must_use]
    pub fn destination_port(&self) -> u16 {
        be16(self.bytes, 2)
    }
    /// Sequence number.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        be32(self.bytes, 4)
    }
    /// Acknowledgment number.
    #[must_use]
    pub fn acknowledgment(&self) -> u32 {
        be32(self.bytes, 8)
    }
    /// Flags.
    #[must_use]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags(self.bytes[FLAGS_AT])
    }
    /// Options, padding included.
    #[must_use]
    pub fn options(&self) -> &'a [u8] {
        &self.bytes[MIN_HEADER..self.header_len()]
    }
    /// Data.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_len()..]
    }
    /// Where the value of the maximum segment size option stands in the header, if there is a well-formed one.
    #[must_use]
    pub fn mss_at(&self) -> Option<usize> {
        let options = self.options();
        let mut at = 0;
        while let Some(kind) = options.get(at) {
            match kind {
                0 => return None,
                1 => at += 1,
                _ => {
                    let length = usize::from(*options.get(at + 1)?);
                    if length < 2 || at + length > options.len() {
                        return None;
                    }
                    if *kind == 2 && length == 4 {
                        return Some(MIN_HEADER + at + 2);
                    }
                    at += length;
                }
            }
        }
        None
    }
}

/// Lowers the maximum segment size of a SYN to `limit` and mends the checksum; returns whether it did. `segment`
/// begins with the TCP header.
pub fn clamp_mss(segment: &mut [u8], limit: u16) -> bool {
    let Some(at) =
        Tcp::new_checked(segment).ok().and_then(|t| t.flags().has(TcpFlags::SYN).then(|| t.mss_at())?)
    else {
        return false;
    };
    if be16(segment, at) <= limit {
        return false;
    }
    // The option may stand at an odd offset: take the octets around it that make whole 16-bit words.
    let (start, end) = (at & !1, (at + 3) & !1);
    let mut old = [0u8; 4];
    let words = end - start;
    old[..words].copy_from_slice(&segment[start..end]);
    segment[at..at + 2].copy_from_slice(&limit.to_be_bytes());
    let check = [segment[CHECKSUM_AT], segment[CHECKSUM_AT + 1]];
    let check = super::checksum::update(check, &old[..words], &segment[start..end]);
    segment[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&check);
    true
}

#[cfg(test)]
mod tests {
    use super::super::checksum::Sum;
    use super::*;
    use proptest::prelude::*;

    fn syn(options: &[u8]) -> Vec<u8> {
        let mut s = vec![0u8; 20];
        s.extend_from_slice(options);
        s.resize(20 + options.len().next_multiple_of(4), 0);
        s[12] = u8::try_from(s.len() / 4).unwrap() << 4;
        s[FLAGS_AT] = 2;
        s[1] = 80;
        let c = Sum::ZERO.with(&s).finish();
        s[16..18].copy_from_slice(&c);
        s
    }

    #[test]
    fn mss_is_lowered_never_raised_and_the_checksum_holds() {
        for options in [
            vec![2, 4, 0x05, 0xb4],
            vec![1, 2, 4, 0x05, 0xb4],
            vec![4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 5, 0xb4],
        ] {
            let mut s = syn(&options);
            assert!(!clamp_mss(&mut s, 1460));
            assert!(clamp_mss(&mut s, 1300), "{options:?}");
            let at = Tcp::new_checked(&s).unwrap().mss_at().unwrap();
            assert_eq!(be16(&s, at), 1300);
            assert!(Sum::ZERO.with(&s).is_valid());
        }
        let mut s = syn(&[2, 4, 5, 0xb4]);
        s[FLAGS_AT] = 0x10;
        assert!(!clamp_mss(&mut s, 536), "only SYNs");
    }

    #[test]
    fn broken_options_end_the_search() {
        for o in [&[2u8, 0, 5, 0xb4][..], &[8, 1, 2, 4], &[3, 40, 0, 0], &[0, 2, 4, 5], &[2, 3, 5, 0]] {
            assert_eq!(Tcp::new_checked(&syn(o)).unwrap().mss_at(), None, "{o:?}");
        }
    }

    #[test]
    fn header_lengths_that_lie() {
        let mut s = syn(&[]);
        s[12] = 0x40;
        assert_eq!(Tcp::new_checked(&s).err(), Some(TcpError::HeaderLength(16)));
        s[12] = 0x60;
        assert_eq!(Tcp::new_checked(&s).err(), Some(TcpError::HeaderLength(24)));
        assert_eq!(Tcp::new_checked(&s[..19]).err(), Some(TcpError::Short(19)));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(mut b in proptest::collection::vec(any::<u8>(), 0..80), limit: u16) {
            if let Ok(t) = Tcp::new_checked(&b) {
                let _ = (t.payload().len(), t.mss_at(), t.sequence(), t.acknowledgment());
            }
            let _ = clamp_mss(&mut b, limit);
        }
    }
}
