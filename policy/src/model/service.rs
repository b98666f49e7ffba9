//! IpService: which traffic between two addresses a rule is about.

use super::Name;

/// One IpService.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Name, made up for an inline statement without one.
    pub name: Name,
    /// Protocol and what is selected of it.
    pub protocol: Protocol,
    /// Which filters are made.
    pub direction: Direction,
    /// Local or routed traffic.
    pub routing: Routing,
    /// Security class of the interface, 0 = any.
    pub security_class: u8,
    /// Matches fragments only.
    pub fragments_only: bool,
}

/// What of a packet's upper layer is selected, seen from an outbound packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Every protocol.
    Any,
    /// A protocol with ports (TCP, UDP, SCTP).
    Ports {
        /// IP protocol number.
        number: u8,
        /// Local ports.
        source: PortRange,
        /// Remote ports.
        destination: PortRange,
    },
    /// A protocol with types and codes (ICMP, ICMPv6; OSPF and MIPv6 have a type only).
    Typed {
        /// IP protocol number.
        number: u8,
        /// Type, `None` = any.
        kind: Option<ByteRange>,
        /// Code, `None` = any.
        code: Option<ByteRange>,
    },
    /// Another protocol.
    Other(u8),
    /// IPv6 fragments that do not show their protocol.
    Opaque,
}

impl Protocol {
    /// IP protocol number, `None` = any.
    #[must_use]
    pub const fn number(&self) -> Option<u8> {
        match *self {
            Self::Any | Self::Opaque => None,
            Self::Ports { number, .. } | Self::Typed { number, .. } | Self::Other(number) => Some(number),
        }
    }
    /// Whether ports, type or code select a part of the protocol's packets: fragments do not show them.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        match self {
            Self::Any | Self::Other(_) | Self::Opaque => false,
            Self::Ports { source, destination, .. } => !source.is_any() || !destination.is_any(),
            Self::Typed { kind, code, .. } => kind.is_some() || code.is_some(),
        }
    }
}

/// Inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    low: u16,
    high: u16,
}

impl PortRange {
    /// Every port.
    pub const ANY: Self = Self { low: 0, high: u16::MAX };
    /// `None` if `low` is above `high`.
    #[must_use]
    pub const fn new(low: u16, high: u16) -> Option<Self> {
        if low <= high { Some(Self { low, high }) } else { None }
    }
    /// Low end.
    #[must_use]
    pub const fn low(self) -> u16 {
        self.low
    }
    /// High end.
    #[must_use]
    pub const fn high(self) -> u16 {
        self.high
    }
    /// Whether `port` lies in it.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.low <= port && port <= self.high
    }
    /// Whether it holds every port.
    #[must_use]
    pub const fn is_any(self) -> bool {
        self.low == 0 && self.high == u16::MAX
    }
    /// Whether all of `other` lies in it.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.low <= other.low && other.high <= self.high
    }
    /// Whether it is one port.
    #[must_use]
    pub const fn is_single(self) -> bool {
        self.low == self.high
    }
}

/// Inclusive range of types or codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    low: u8,
    high: u8,
}

impl ByteRange {
    /// `None` if `low` is above `high`.
    #[must_use]
    pub const fn new(low: u8, high: u8) -> Option<Self> {
        if low <= high { Some(Self { low, high }) } else { None }
    }
    /// Whether `value` lies in it.
    #[must_use]
    pub const fn contains(self, value: u8) -> bool {
        self.low <= value && value <= self.high
    }
    /// Low end.
    #[must_use]
    pub const fn low(self) -> u8 {
        self.low
    }
    /// High end.
    #[must_use]
    pub const fn high(self) -> u8 {
        self.high
    }
}

/// Which filters a service makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// An outbound filter and its mirror image inbound.
    Bidirectional(Connect),
    /// Inbound only.
    Inbound,
    /// Outbound only.
    Outbound,
}

/// Which side may open a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// Either.
    Either,
    /// The remote side only (InboundConnect).
    Inbound,
    /// This side only (OutboundConnect).
    Outbound,
}

/// Traffic of this host, or forwarded by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// From or to this host.
    Local,
    /// Forwarded.
    Routed,
    /// Both.
    Either,
}
