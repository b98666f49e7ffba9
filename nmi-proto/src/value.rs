//! Values that are not plain integers: addresses and times.

use binrw::{BinRead, BinWrite};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address in 16 bytes. IPv4 is in the last four and the others are zero, **not** the `::ffff:` form; a flag of
/// the structure that holds it tells the family (section 0.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Address(pub [u8; 16]);

impl Address {
    /// The address, of the family that the structure's flag tells.
    #[must_use]
    pub fn ip(self, ipv6: bool) -> IpAddr {
        if ipv6 {
            return IpAddr::V6(Ipv6Addr::from(self.0));
        }
        let [.., a, b, c, d] = self.0;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    }

    /// All zero: not applicable or not known.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == [0; 16]
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => {
                let mut bytes = [0; 16];
                bytes[12..].copy_from_slice(&v4.octets());
                Self(bytes)
            }
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v4 = self.0[..12] == [0; 12];
        fmt::Display::fmt(&self.ip(!v4), f)
    }
}

/// Seconds since 1970-01-01 00:00:00 UTC; 0 is "not applicable".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BinRead, BinWrite)]
#[brw(big)]
pub struct Time(pub u32);

impl Time {
    /// Not applicable, not known, or not yet.
    pub const NONE: Self = Self(0);

    /// From a 64-bit count; what does not fit (after 2106) stays at the end.
    #[must_use]
    pub fn from_unix(seconds: u64) -> Self {
        Self(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    /// The count, `None` if not applicable.
    #[must_use]
    pub fn unix(self) -> Option<u32> {
        (self.0 != 0).then_some(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_sits_in_the_last_four_bytes() {
        let a = Address::from(IpAddr::from([192, 0, 2, 7]));
        assert_eq!(a.0, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7]);
        assert_eq!(a.ip(false), IpAddr::from([192, 0, 2, 7]));
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(Address::from(six).ip(true), six);
    }
}
