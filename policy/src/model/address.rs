//! Addresses: single ones, prefixes and ranges are all ranges; a set is a list of them.

use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Inclusive range of addresses of one family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    low: IpAddr,
    high: IpAddr,
}

impl AddressRange {
    /// Every IPv4 address.
    pub const ALL_V4: Self =
        Self { low: IpAddr::V4(Ipv4Addr::UNSPECIFIED), high: IpAddr::V4(Ipv4Addr::BROADCAST) };
    /// Every IPv6 address.
    pub const ALL_V6: Self =
        Self { low: IpAddr::V6(Ipv6Addr::UNSPECIFIED), high: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)) };

    /// `None` if the families differ or `low` is above `high`.
    #[must_use]
    pub fn new(low: IpAddr, high: IpAddr) -> Option<Self> {
        (low.is_ipv4() == high.is_ipv4() && low <= high).then_some(Self { low, high })
    }
    /// One address.
    #[must_use]
    pub const fn single(address: IpAddr) -> Self {
        Self { low: address, high: address }
    }
    /// The addresses that agree with `net` in its leading bits; bits behind them are ignored.
    #[must_use]
    pub fn prefix(net: IpNet) -> Self {
        Self { low: net.network(), high: net.broadcast() }
    }
    /// Low end.
    #[must_use]
    pub const fn low(&self) -> IpAddr {
        self.low
    }
    /// High end.
    #[must_use]
    pub const fn high(&self) -> IpAddr {
        self.high
    }
    /// Family.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.low.is_ipv4()
    }
    /// The address, if it is only one.
    #[must_use]
    pub fn as_single(&self) -> Option<IpAddr> {
        (self.low == self.high).then_some(self.low)
    }
    /// Whether `address` lies in it; never true across families.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && self.low <= address && address <= self.high
    }
    /// Whether all of `other` lies in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.contains(other.low) && self.contains(other.high)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            return write!(f, "{}", self.low);
        }
        write!(f, "{}-{}", self.low, self.high)
    }
}
impl fmt::Debug for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One or more ranges, in the order coded; `All` is one range of each family. Cheap to copy: groups are large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressSet(Arc<[AddressRange]>);

impl AddressSet {
    /// `None` if there is no range.
    #[must_use]
    pub fn new(ranges: Vec<AddressRange>) -> Option<Self> {
        (!ranges.is_empty()).then(|| Self(ranges.into()))
    }
    /// Every address of both families.
    #[must_use]
    pub fn all() -> Self {
        Self([AddressRange::ALL_V4, AddressRange::ALL_V6].into())
    }
    /// One range.
    #[must_use]
    pub fn one(range: AddressRange) -> Self {
        Self([range].into())
    }
    /// The ranges.
    #[must_use]
    pub fn ranges(&self) -> &[AddressRange] {
        &self.0
    }
    /// Whether `address` lies in one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|r| r.contains(address))
    }
    /// The address, if the set has only one.
    #[must_use]
    pub fn as_single(&self) -> Option<IpAddr> {
        match self.ranges() {
            [one] => one.as_single(),
            _ => None,
        }
    }
}
