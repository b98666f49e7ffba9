//! The ESP header (RFC 4303 section 2).

use super::be32;

/// SPI and sequence number.
pub const HEADER: usize = 8;
/// SPIs up to this one are reserved (RFC 4303 section 2.1).
pub const MAX_RESERVED_SPI: u32 = 255;

/// A packet that has an ESP header.
#[derive(Debug, Clone, Copy)]
pub struct Esp<'a> {
    bytes: &'a [u8],
}

impl<'a> Esp<'a> {
    /// `None` if shorter than a header.
    #[must_use]
    pub fn new_checked(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() >= HEADER).then_some(Self { bytes })
    }
    /// Security parameters index.
    #[must_use]
    pub fn spi(&self) -> u32 {
        be32(self.bytes, 0)
    }
    /// The sequence number's low 32 bits.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        be32(self.bytes, 4)
    }
    /// IV, protected data and ICV.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER..]
    }
}

/// The header.
#[must_use]
pub fn header(spi: u32, sequence: u32) -> [u8; HEADER] {
    let mut b = [0; HEADER];
    b[..4].copy_from_slice(&spi.to_be_bytes());
    b[4..].copy_from_slice(&sequence.to_be_bytes());
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_of_write_is_the_same() {
        let b = header(0x0102_0304, 0xfffe_fdfc);
        assert_eq!(b, [1, 2, 3, 4, 0xff, 0xfe, 0xfd, 0xfc]);
        let e = Esp::new_checked(&b).unwrap();
        assert_eq!((e.spi(), e.sequence(), e.body().len()), (0x0102_0304, 0xfffe_fdfc, 0));
        assert!(Esp::new_checked(&b[..7]).is_none());
    }
}
