//! A cursor over a bounded part of a message: nothing read through it can leave that part.

use super::error::{Fault, WireError};
use super::iana::PayloadType;

/// Reads big-endian fields; knows where in the message it stands, for the error.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// Octets of `bytes` that are read.
    at: usize,
    /// Offset of `bytes[0]` in the message.
    base: usize,
    payload: PayloadType,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`, which start at offset `base` of the message and belong to `payload`.
    #[must_use]
    pub fn new(bytes: &'a [u8], base: usize, payload: PayloadType) -> Self {
        Self { bytes, at: 0, base, payload }
    }

    /// This reader with another payload's name on its errors.
    #[must_use]
    pub fn within(self, payload: PayloadType) -> Self {
        Self { payload, ..self }
    }

    /// Octets not yet read.
    #[must_use]
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Everything is read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left() == 0
    }

    /// Offset in the message of the next octet.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.base + self.at
    }

    /// An error at the next octet.
    #[must_use]
    pub fn fault(&self, fault: Fault) -> WireError {
        WireError { payload: self.payload, offset: self.offset(), fault }
    }

    /// The next `len` octets.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let left = self.left();
        if len > left {
            return Err(self.fault(Fault::Truncated { needed: len, left }));
        }
        let part = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(part)
    }

    /// A reader of the next `len` octets, which this one then has passed.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn sub(&mut self, len: usize) -> Result<Self, WireError> {
        let base = self.offset();
        let bytes = self.take(len)?;
        Ok(Self { bytes, at: 0, base, payload: self.payload })
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let part = &self.bytes[self.at..];
        self.at = self.bytes.len();
        part
    }

    /// A field of `N` octets.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One octet.
    ///
    /// # Errors
    /// None is left.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[octet]| octet)
    }

    /// Two octets.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four octets.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight octets.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Insists that everything is read.
    ///
    /// # Errors
    /// Octets are left over.
    pub fn finish(self) -> Result<(), WireError> {
        match self.left() {
            0 => Ok(()),
            left => Err(self.fault(Fault::Trailing(left))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_cannot_be_left() {
        let mut whole = Reader::new(&[1, 2, 3, 4, 5], 100, PayloadType::NONCE);
        let mut part = whole.sub(3).unwrap();
        assert_eq!(part.u16().unwrap(), 0x0102);
        let error = part.u16().unwrap_err();
        assert_eq!(error.offset, 102);
        assert_eq!(error.fault, Fault::Truncated { needed: 2, left: 1 });
        assert_eq!(error.to_string(), "Nonce at octet 102: 2 octets needed, 1 left");
        assert_eq!(whole.u16().unwrap(), 0x0405);
        assert!(whole.finish().is_ok());
        assert_eq!(part.finish().unwrap_err().fault, Fault::Trailing(1));
    }
}
