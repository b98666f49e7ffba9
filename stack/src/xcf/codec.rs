//! Octets of messages: a reader that cannot leave its bytes, and what can be wrong with them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use thiserror::Error;

/// What is wrong with a message of another stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MessageError {
    /// It ends too early.
    #[error("the message ends within {0}")]
    Truncated(&'static str),
    /// Bytes are left behind its end.
    #[error("{0} bytes behind the end of the message")]
    Trailing(usize),
    /// It is not one of ours at all.
    #[error("it begins with {0:#06x}, not as a message of a stack")]
    Magic(u16),
    /// Another version of this protocol.
    #[error("it has version {0}, this stack speaks version {version}", version = super::datagram::VERSION)]
    Version(u8),
    /// A value that the field cannot have.
    #[error("{what} cannot be {value}")]
    Value {
        /// The field.
        what: &'static str,
        /// What it says.
        value: u64,
    },
    /// More than a message may hold.
    #[error("{count} {what}, at most {limit} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// What it announces.
        count: usize,
        /// The bound.
        limit: usize,
    },
}

/// Reads from the front.
pub(super) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    pub(super) const fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    fn chunk<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], MessageError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(MessageError::Truncated(what))?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, MessageError> {
        self.chunk::<1>(what).map(|[b]| b)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, MessageError> {
        self.chunk(what).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, MessageError> {
        self.chunk(what).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, MessageError> {
        self.chunk(what).map(u64::from_be_bytes)
    }

    /// 0 or 1.
    pub(super) fn flag(&mut self, what: &'static str) -> Result<bool, MessageError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(MessageError::Value { what, value: other.into() }),
        }
    }

    /// An octet 4 or 6, and an address of that family.
    pub(super) fn address(&mut self, what: &'static str) -> Result<IpAddr, MessageError> {
        match self.u8(what)? {
            4 => self.address_of(false, what),
            6 => self.address_of(true, what),
            other => Err(MessageError::Value { what, value: other.into() }),
        }
    }

    pub(super) fn address_of(&mut self, v6: bool, what: &'static str) -> Result<IpAddr, MessageError> {
        if v6 {
            self.chunk::<16>(what).map(|o| IpAddr::V6(Ipv6Addr::from(o)))
        } else {
            self.chunk::<4>(what).map(|o| IpAddr::V4(Ipv4Addr::from(o)))
        }
    }

    pub(super) fn rest(&mut self) -> &'b [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) const fn left(&self) -> usize {
        self.0.len()
    }

    pub(super) const fn end(self) -> Result<(), MessageError> {
        if self.0.is_empty() { Ok(()) } else { Err(MessageError::Trailing(self.0.len())) }
    }
}

/// Writes an address as [`Reader::address`] reads it.
pub(super) fn put_address(to: &mut Vec<u8>, address: IpAddr) {
    to.push(if address.is_ipv4() { 4 } else { 6 });
    put_octets(to, address);
}

/// Writes the octets of an address alone.
pub(super) fn put_octets(to: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(a) => to.extend_from_slice(&a.octets()),
        IpAddr::V6(a) => to.extend_from_slice(&a.octets()),
    }
}
