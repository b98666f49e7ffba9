//! What a captured frame is. Read by hand, independently of the product, because captures keep only headers.

use std::net::IpAddr;
use std::time::Instant;

/// A captured frame.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its first bytes.
    pub bytes: Vec<u8>,
    /// Its length on the link.
    pub length: usize,
    /// When it was captured.
    pub at: Instant,
    /// What it is.
    pub seen: Seen,
}

impl Frame {
    /// Judges a frame of `length` bytes of which the first ones are given.
    #[must_use]
    pub fn new(bytes: &[u8], length: usize, at: Instant) -> Self {
        Self { bytes: bytes.to_vec(), length, at, seen: Seen::of(bytes) }
    }
}

/// What a frame is. Addresses are those of the outer IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// ARP: operation, sender and target address.
    Arp {
        /// 1 request, 2 reply.
        operation: u16,
        /// Sender protocol address.
        sender: IpAddr,
        /// Target protocol address.
        target: IpAddr,
    },
    /// ICMPv6 of neighbour discovery, MLD or router discovery: type.
    Neighbour(u8),
    /// IKE on port 500, or on 4500 behind the non-ESP marker.
    Ike(Ends),
    /// ESP in UDP.
    EspInUdp(Ends, u32),
    /// A NAT keepalive.
    Keepalive(Ends),
    /// ESP, IP protocol 50.
    Esp(Ends, u32),
    /// GRE and the addresses of the inner packet.
    Gre(Ends, Option<Ends>),
    /// A sealed message between stacks: UDP, port 4740 on both ends.
    Message(Ends),
    /// IP fragment that is not the first.
    Fragment(Ends, u8),
    /// Any other IP packet: protocol.
    Clear(Ends, u8),
    /// Not IP, not ARP.
    Other,
}

/// Source and destination of an IP packet, ports where it has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// Source port or 0.
    pub source_port: u16,
    /// Destination port or 0.
    pub destination_port: u16,
}

impl Ends {
    /// Whether `address` is one of the two.
    #[must_use]
    pub fn involves(&self, address: IpAddr) -> bool {
        self.source == address || self.destination == address
    }
}

impl Seen {
    /// Judges the beginning of an Ethernet frame.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        if let Some(arp) = arp(bytes) {
            return arp;
        }
        let Some(ip) = bytes.get(14..) else { return Self::Other };
        match bytes.get(12..14) {
            Some([0x08, 0x00] | [0x86, 0xdd]) => ip_packet(ip),
            _ => Self::Other,
        }
    }

    /// Whether this is a cleartext packet of `address`: neither IKE nor ESP nor GRE nor address resolution. Stacks speak
    /// from their XCF addresses: a message of any other address is none.
    #[must_use]
    pub fn is_clear_of(&self, address: IpAddr) -> bool {
        match self {
            Self::Clear(ends, _) | Self::Fragment(ends, _) | Self::Message(ends) => ends.involves(address),
            _ => false,
        }
    }

    /// Whether this is ESP, raw or in UDP.
    #[must_use]
    pub const fn is_esp(&self) -> bool {
        matches!(self, Self::Esp(..) | Self::EspInUdp(..))
    }
}

fn arp(bytes: &[u8]) -> Option<Seen> {
    if bytes.get(12..14)? != [0x08, 0x06] {
        return None;
    }
    let a = |at: usize| -> Option<IpAddr> {
        Some(IpAddr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?))
    };
    let operation = u16::from_be_bytes(bytes.get(20..22)?.try_into().ok()?);
    Some(Seen::Arp { operation, sender: a(28)?, target: a(38)? })
}

/// Judges the beginning of an IP packet (also of the one inside GRE).
fn ip_packet(ip: &[u8]) -> Seen {
    let Some(head) = Head::of(ip) else { return Seen::Other };
    let ends =
        Ends { source: head.source, destination: head.destination, source_port: 0, destination_port: 0 };
    if head.later_fragment {
        return Seen::Fragment(ends, head.protocol);
    }
    let payload = &ip[head.length.min(ip.len())..];
    match (head.protocol, payload) {
        (50, [a, b, c, d, ..]) => Seen::Esp(ends, u32::from_be_bytes([*a, *b, *c, *d])),
        (47, gre) => Seen::Gre(ends, inner_of_gre(gre)),
        (58, [kind @ (130..=137 | 143), ..]) => Seen::Neighbour(*kind),
        (2, _) => Seen::Neighbour(0),
        (17 | 6, [s0, s1, d0, d1, rest @ ..]) => {
            let ends = Ends {
                source_port: u16::from_be_bytes([*s0, *s1]),
                destination_port: u16::from_be_bytes([*d0, *d1]),
                ..ends
            };
            if head.protocol == 17 {
                udp(ends, rest.get(4..).unwrap_or_default())
            } else {
                Seen::Clear(ends, 6)
            }
        }
        (protocol, _) => Seen::Clear(ends, protocol),
    }
}

fn udp(ends: Ends, data: &[u8]) -> Seen {
    let on = |port| ends.source_port == port || ends.destination_port == port;
    match data {
        [0xff] if on(4500) => Seen::Keepalive(ends),
        [0, 0, 0, 0, ..] if on(4500) => Seen::Ike(ends),
        [a, b, c, d, ..] if on(4500) => Seen::EspInUdp(ends, u32::from_be_bytes([*a, *b, *c, *d])),
        _ if on(500) => Seen::Ike(ends),
        _ if (ends.source_port, ends.destination_port) == (4740, 4740) => Seen::Message(ends),
        _ => Seen::Clear(ends, 17),
    }
}

fn inner_of_gre(gre: &[u8]) -> Option<Ends> {
    let key = usize::from(gre.first()? & 0x20 != 0) * 4;
    match ip_packet(gre.get(4 + key..)?) {
        Seen::Clear(ends, _) | Seen::Fragment(ends, _) | Seen::Message(ends) => Some(ends),
        _ => None,
    }
}

/// The part of an IP header that the judgement needs; read by hand because captures are cut short.
struct Head {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
    later_fragment: bool,
}

impl Head {
    fn of(ip: &[u8]) -> Option<Self> {
        if ip.first()? >> 4 == 4 {
            let a =
                |at: usize| -> Option<IpAddr> { Some(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?.into()) };
            let fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x1fff;
            return Some(Self {
                source: a(12)?,
                destination: a(16)?,
                protocol: *ip.get(9)?,
                length: usize::from(ip[0] & 0x0f) * 4,
                later_fragment: fragment != 0,
            });
        }
        let a =
            |at: usize| -> Option<IpAddr> { Some(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?.into()) };
        let (mut protocol, mut length, mut later_fragment) = (*ip.get(6)?, 40, false);
        while matches!(protocol, 0 | 43 | 44 | 60) {
            let header = ip.get(length..length + 8)?;
            if protocol == 44 {
                later_fragment = u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0;
            }
            length += if protocol == 44 { 8 } else { usize::from(header[1]) * 8 + 8 };
            protocol = header[0];
        }
        Some(Self { source: a(8)?, destination: a(24)?, protocol, length, later_fragment })
    }
}
