//! UDP (RFC 768).

use super::be16;
use super::checksum::pseudo_header;

/// Length of the header.
pub const HEADER: usize = 8;
/// Where the checksum stands in the header.
pub const CHECKSUM_AT: usize = 6;
/// Largest payload over IPv4.
pub const MAX_PAYLOAD: usize = 65_507;

/// What is wrong with a UDP datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UdpError {
    /// Shorter than a header.
    #[error("{0} octets are no UDP header")]
    Short(usize),
    /// Length below 8 or beyond the packet.
    #[error("UDP length {length} in {have} octets")]
    Length {
        /// What the header says.
        length: usize,
        /// What is there.
        have: usize,
    },
}

/// A datagram whose length is right.
#[derive(Debug, Clone, Copy)]
pub struct Udp<'a> {
    bytes: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Checks the length; bytes beyond it are cut off.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, UdpError> {
        if bytes.len() < HEADER {
            return Err(UdpError::Short(bytes.len()));
        }
        let length = usize::from(be16(bytes, 4));
        if length < HEADER || length > bytes.len() {
            return Err(UdpError::Length { length, have: bytes.len() });
        }
        Ok(Self { bytes: &bytes[..length] })
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
    /// Data.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER..]
    }
    /// Whether the checksum is right. `addresses` as for [`pseudo_header`]. Zero means "none", which IPv6 does not allow
    /// (RFC 8200 section 8.1) and ESP in UDP must accept from IPv4 (RFC 3948 section 2.1).
    #[must_use]
    pub fn checksum_ok(&self, addresses: &[u8]) -> bool {
        if be16(self.bytes, CHECKSUM_AT) == 0 {
            return addresses.len() == 8;
        }
        let length = u32::from(be16(self.bytes, 4));
        pseudo_header(addresses, super::protocol::UDP, length).with(self.bytes).is_valid()
    }
}

/// The header; the checksum is left 0.
#[must_use]
pub fn header(source_port: u16, destination_port: u16, length: u16) -> [u8; HEADER] {
    let mut b = [0; HEADER];
    b[..2].copy_from_slice(&source_port.to_be_bytes());
    b[2..4].copy_from_slice(&destination_port.to_be_bytes());
    b[4..6].copy_from_slice(&length.to_be_bytes());
    b
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn t40_checksums_and_lengths() {
        let addresses = [192, 0, 2, 1, 192, 0, 2, 2];
        let mut d = header(4500, 4500, 11).to_vec();
        d.extend_from_slice(&[1, 2, 3, 99]);
        let u = Udp::new_checked(&d).unwrap();
        assert_eq!((u.payload(), u.source_port(), u.destination_port()), (&[1, 2, 3][..], 4500, 4500));
        assert!(u.checksum_ok(&addresses), "zero: none");
        assert!(!u.checksum_ok(&[0; 32]), "IPv6 has no zero checksum");
        let c = pseudo_header(&addresses, 17, 11).with(&d[..11]).finish();
        d[6..8].copy_from_slice(&c);
        assert!(Udp::new_checked(&d).unwrap().checksum_ok(&addresses));
        d[8] ^= 1;
        assert!(!Udp::new_checked(&d).unwrap().checksum_ok(&addresses));
        d[5] = 7;
        assert_eq!(Udp::new_checked(&d).err(), Some(UdpError::Length { length: 7, have: 12 }));
        d[5] = 13;
        assert_eq!(Udp::new_checked(&d).err(), Some(UdpError::Length { length: 13, have: 12 }));
        assert_eq!(Udp::new_checked(&[0; 7]).err(), Some(UdpError::Short(7)));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(b in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(u) = Udp::new_checked(&b) {
                let _ = (u.payload().len(), u.checksum_ok(&[0; 8]));
            }
        }
    }
}
