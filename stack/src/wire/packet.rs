//! One pass over an IP packet: everything that filters, flows and the transforms want to know of it.

use super::ipv4::{self, Ipv4, Ipv4Error};
use super::ipv6::{Ipv6, Ipv6Error};
use super::tcp::{self, TcpFlags};
use super::{be16, protocol};
use std::net::IpAddr;

/// Version of an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What is wrong with a packet (threats T37, each row apart).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// No octet at all.
    #[error("empty packet")]
    Empty,
    /// Neither version 4 nor 6.
    #[error("IP version {0}")]
    Version(u8),
    /// A wrong IPv4 header.
    #[error(transparent)]
    Ipv4(#[from] Ipv4Error),
    /// A wrong IPv6 header or extension header.
    #[error(transparent)]
    Ipv6(#[from] Ipv6Error),
    /// A fragment whose data is not a multiple of 8 octets though more follow, or that ends beyond 65,535 octets.
    #[error("fragment of {length} octets at offset {offset}")]
    Fragment {
        /// Its offset in octets.
        offset: usize,
        /// Its data in octets.
        length: usize,
    },
    /// The packet ends inside its TCP, UDP, SCTP or ICMP header, or that header's length is wrong.
    #[error("header of protocol {0} is cut off or its length is wrong")]
    UpperHeader(u8),
}

/// The place of a fragment in its packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Identification.
    pub id: u32,
    /// Offset in octets; 0: the first.
    pub offset: u16,
    /// More follow.
    pub more: bool,
}

/// What the upper layer says, as far as the engine looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upper {
    /// TCP.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Flags.
        flags: TcpFlags,
        /// Header length in octets, options included.
        header_len: u8,
    },
    /// UDP, UDP-Lite or SCTP.
    Ports {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP, ICMPv6 or a mobility header.
    Typed {
        /// Type.
        kind: u8,
        /// Code; 0 of a mobility header.
        code: u8,
    },
    /// Another protocol, or a fragment that is not the first.
    Opaque,
    /// A first fragment that is too short for its upper header: it may not be judged by ports or type.
    Cut,
}

/// What one packet says about itself. Its bytes are at least [`Parsed::total_len`] long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// Version.
    pub version: IpVersion,
    /// Where the upper layer's header (or a later fragment's data) starts: after IPv4 options, IPv6 extension headers.
    pub header_len: usize,
    /// Length of the packet by its header.
    pub total_len: usize,
    /// DSCP and ECN.
    pub tos: u8,
    /// Time to live, hop limit.
    pub ttl: u8,
    /// May not be fragmented on the way: the IPv4 DF bit; always true of IPv6.
    pub df: bool,
    /// Protocol of the upper layer.
    pub protocol: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Set if the packet is a fragment (an IPv6 packet with an atomic fragment header is not, RFC 6946).
    pub fragment: Option<Fragment>,
    /// The upper layer.
    pub upper: Upper,
}

/// The five values that name a flow; as a key of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Source port, 0 without ports.
    pub source_port: u16,
    /// Destination port, 0 without ports.
    pub destination_port: u16,
}

impl FlowKey {
    /// The same flow seen from the other side.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

impl Parsed {
    /// Parses an IP packet. Bytes beyond the length in its header (ESP's traffic flow padding) are no error.
    pub fn parse(packet: &[u8]) -> Result<Self, PacketError> {
        match packet.first().map(|b| b >> 4) {
            None => Err(PacketError::Empty),
            Some(4) => Self::parse_v4(packet),
            Some(6) => Self::parse_v6(packet),
            Some(v) => Err(PacketError::Version(v)),
        }
    }

    fn parse_v4(packet: &[u8]) -> Result<Self, PacketError> {
        let ip = Ipv4::new_checked(packet)?;
        let field = ip.flags_and_offset();
        let offset = (field & ipv4::OFFSET_MASK) << 3;
        let more = field & ipv4::MF != 0;
        let fragment = (more || offset != 0).then(|| Fragment { id: u32::from(ip.id()), offset, more });
        let (protocol, header_len) = (ip.protocol(), ip.header_len());
        Ok(Self {
            version: IpVersion::V4,
            header_len,
            total_len: ip.bytes().len(),
            tos: ip.tos(),
            ttl: ip.ttl(),
            df: field & ipv4::DF != 0,
            protocol,
            source: ip.source().into(),
            destination: ip.destination().into(),
            fragment,
            upper: upper(protocol, ip.payload(), fragment)?,
        })
    }

    fn parse_v6(packet: &[u8]) -> Result<Self, PacketError> {
        let ip = Ipv6::new_checked(packet)?;
        let walked = ip.upper()?;
        let fragment = walked.fragment.filter(|f| f.more || f.offset != 0).map(|f| Fragment {
            id: f.id,
            offset: f.offset,
            more: f.more,
        });
        Ok(Self {
            version: IpVersion::V6,
            header_len: walked.offset,
            total_len: ip.bytes().len(),
            tos: ip.traffic_class(),
            ttl: ip.hop_limit(),
            df: true,
            protocol: walked.protocol,
            source: ip.source().into(),
            destination: ip.destination().into(),
            fragment,
            upper: upper(walked.protocol, &ip.bytes()[walked.offset..], fragment)?,
        })
    }

    /// Source and destination port, 0 without ports.
    #[must_use]
    pub const fn ports(&self) -> (u16, u16) {
        match self.upper {
            Upper::Tcp { source, destination, .. } | Upper::Ports { source, destination } => {
                (source, destination)
            }
            Upper::Typed { .. } | Upper::Opaque | Upper::Cut => (0, 0),
        }
    }

    /// TCP flags.
    #[must_use]
    pub const fn tcp_flags(&self) -> Option<TcpFlags> {
        match self.upper {
            Upper::Tcp { flags, .. } => Some(flags),
            Upper::Ports { .. } | Upper::Typed { .. } | Upper::Opaque | Upper::Cut => None,
        }
    }

    /// The flow that the packet belongs to.
    #[must_use]
    pub const fn flow(&self) -> FlowKey {
        let (source_port, destination_port) = self.ports();
        FlowKey {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            source_port,
            destination_port,
        }
    }
}

fn upper(proto: u8, payload: &[u8], fragment: Option<Fragment>) -> Result<Upper, PacketError> {
    if let Some(f) = fragment {
        let (offset, length) = (usize::from(f.offset), payload.len());
        if length == 0 || (f.more && !length.is_multiple_of(8)) || offset + length > ipv4::MAX_PACKET {
            return Err(PacketError::Fragment { offset, length });
        }
        if f.offset != 0 {
            return Ok(Upper::Opaque);
        }
    }
    let cut = || if fragment.is_some() { Ok(Upper::Cut) } else { Err(PacketError::UpperHeader(proto)) };
    match proto {
        protocol::TCP => match tcp::Tcp::new_checked(payload) {
            Ok(t) => Ok(Upper::Tcp {
                source: t.source_port(),
                destination: t.destination_port(),
                flags: t.flags(),
                header_len: (payload[12] >> 4) * 4,
            }),
            Err(_) => cut(),
        },
        protocol::UDP | protocol::UDP_LITE | protocol::SCTP => {
            let least = if proto == protocol::SCTP { 12 } else { 8 };
            if payload.len() < least {
                return cut();
            }
            if proto == protocol::UDP && fragment.is_none() && super::udp::Udp::new_checked(payload).is_err()
            {
                return Err(PacketError::UpperHeader(proto));
            }
            Ok(Upper::Ports { source: be16(payload, 0), destination: be16(payload, 2) })
        }
        protocol::ICMP | protocol::ICMPV6 if payload.len() < super::icmp::HEADER => cut(),
        protocol::ICMP | protocol::ICMPV6 => Ok(Upper::Typed { kind: payload[0], code: payload[1] }),
        // The type is behind the version, and there is no code (RFC 2328 section A.3.1, RFC 5340 section A.3.1).
        protocol::OSPF if payload.len() < 16 => cut(),
        protocol::OSPF => Ok(Upper::Typed { kind: payload[1], code: 0 }),
        protocol::MOBILITY if payload.len() < 6 => cut(),
        protocol::MOBILITY => Ok(Upper::Typed { kind: payload[2], code: 0 }),
        _ => Ok(Upper::Opaque),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(protocol: u8, flags_and_offset: u16, payload: &[u8]) -> Vec<u8> {
        let mut p = ipv4::Ipv4Header {
            tos: 0x12,
            total_len: u16::try_from(20 + payload.len()).unwrap(),
            id: 77,
            flags_and_offset,
            ttl: 5,
            protocol,
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
        }
        .to_bytes()
        .to_vec();
        p.extend_from_slice(payload);
        p
    }

    #[test]
    fn everything_of_a_tcp_packet() {
        let mut t = vec![0u8; 24];
        (t[0], t[3], t[12], t[13]) = (0x10, 80, 0x60, 0x12);
        let mut bytes = v4(6, ipv4::DF, &t);
        bytes.extend_from_slice(&[9; 7]);
        let p = Parsed::parse(&bytes).unwrap();
        let want = Parsed {
            version: IpVersion::V4,
            header_len: 20,
            total_len: 44,
            tos: 0x12,
            ttl: 5,
            df: true,
            protocol: 6,
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
            fragment: None,
            upper: Upper::Tcp { source: 0x1000, destination: 80, flags: TcpFlags(0x12), header_len: 24 },
        };
        assert_eq!(p, want, "padding behind the packet is no part of it");
        let flow = p.flow();
        assert_eq!((flow.source_port, flow.destination_port), (0x1000, 80));
        assert_eq!(flow.reversed().reversed(), flow);
        assert_eq!(flow.reversed().source_port, 80);
        assert_eq!(p.tcp_flags().map(TcpFlags::opens), Some(false));
    }

    #[test]
    fn upper_layers() {
        let upper = |proto, b: &[u8]| Parsed::parse(&v4(proto, 0, b)).map(|p| p.upper);
        let udp = [0, 53, 0, 99, 0, 8, 0, 0];
        assert_eq!(upper(17, &udp), Ok(Upper::Ports { source: 53, destination: 99 }));
        assert_eq!(
            upper(132, &[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]),
            Ok(Upper::Ports { source: 1, destination: 2 })
        );
        assert_eq!(upper(1, &[8, 3, 0, 0, 0, 0, 0, 0]), Ok(Upper::Typed { kind: 8, code: 3 }));
        assert_eq!(
            upper(89, &[2, 1, 0, 44, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Ok(Upper::Typed { kind: 1, code: 0 })
        );
        assert_eq!(upper(135, &[59, 0, 5, 0, 0, 0]), Ok(Upper::Typed { kind: 5, code: 0 }));
        assert_eq!(upper(47, &[]), Ok(Upper::Opaque));
        assert_eq!(upper(50, &[1; 30]), Ok(Upper::Opaque));
    }

    #[test]
    fn t37_each_row_apart() {
        let error = |b: &[u8]| Parsed::parse(b).unwrap_err();
        assert_eq!(error(&[]), PacketError::Empty);
        assert_eq!(error(&[0x05; 40]), PacketError::Version(0));
        assert_eq!(error(&[0xf5; 40]), PacketError::Version(15));
        let good = v4(17, 0, &[0, 1, 0, 2, 0, 8, 0, 0]);
        assert_eq!(error(&good[..27]), PacketError::Ipv4(Ipv4Error::TotalLength { total: 28, have: 27 }));
        assert_eq!(error(&v4(17, 0, &[0; 7])), PacketError::UpperHeader(17));
        assert_eq!(error(&v4(17, 0, &[0, 1, 0, 2, 0, 9, 0, 0])), PacketError::UpperHeader(17), "UDP length");
        assert_eq!(error(&v4(6, 0, &[0; 19])), PacketError::UpperHeader(6));
        assert_eq!(error(&v4(6, 0, &[0; 20])), PacketError::UpperHeader(6), "header length 0");
        assert_eq!(error(&v4(132, 0, &[0; 11])), PacketError::UpperHeader(132));
        assert_eq!(error(&v4(1, 0, &[8; 7])), PacketError::UpperHeader(1));
        assert_eq!(error(&v4(1, ipv4::MF, &[8; 7])), PacketError::Fragment { offset: 0, length: 7 });
        assert_eq!(error(&v4(1, 5, &[])), PacketError::Fragment { offset: 40, length: 0 });
        let p = v4(17, 0x1fff, &[0; 100]);
        assert_eq!(error(&p), PacketError::Fragment { offset: 65_528, length: 100 });
    }

    #[test]
    fn t39_fragments() {
        let first = Parsed::parse(&v4(17, ipv4::MF, &[0, 1, 0, 2, 9, 9, 0, 0])).unwrap();
        assert_eq!(first.fragment, Some(Fragment { id: 77, offset: 0, more: true }));
        assert_eq!(first.ports(), (1, 2), "the UDP length is that of the whole");
        let later = Parsed::parse(&v4(17, 3, &[0, 1, 0, 2, 9])).unwrap();
        assert_eq!((later.fragment.unwrap().offset, later.upper, later.ports()), (24, Upper::Opaque, (0, 0)));
        let tiny = Parsed::parse(&v4(6, ipv4::MF, &[0; 8])).unwrap();
        assert_eq!(tiny.upper, Upper::Cut);
    }

    #[test]
    fn an_atomic_ipv6_fragment_is_none() {
        let h = super::super::ipv6::Ipv6Header {
            traffic_class: 0x21,
            flow_label: 0,
            payload_len: 16,
            next_header: 44,
            hop_limit: 3,
            source: "2001:db8::1".parse().unwrap(),
            destination: "2001:db8::2".parse().unwrap(),
        };
        let mut b = h.to_bytes().to_vec();
        b.extend_from_slice(&[17, 0, 0, 0, 0, 0, 0, 5, 0, 1, 0, 2, 0, 8, 0, 0]);
        let p = Parsed::parse(&b).unwrap();
        assert_eq!(
            (p.fragment, p.header_len, p.ports(), p.tos, p.ttl, p.df),
            (None, 48, (1, 2), 0x21, 3, true)
        );
        b[43] = 1;
        assert!(Parsed::parse(&b).unwrap().fragment.is_some());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_offsets_lie_inside(mut b in proptest::collection::vec(any::<u8>(), 0..200), shape in 0u8..4) {
            if b.len() > 40 {
                match shape {
                    0 => { b[0] = 0x45; b[2] = 0; b[6] = 0; }
                    1 => { b[0] = 0x46; b[2] = 0; }
                    2 => { b[0] = 0x60; b[4] = 0; b[6] = [6, 17, 0, 44][usize::from(b[6] & 3)]; }
                    _ => {}
                }
            }
            if let Ok(p) = Parsed::parse(&b) {
                prop_assert!(p.total_len <= b.len());
                prop_assert!(p.header_len <= p.total_len);
                if let Upper::Tcp { header_len, .. } = p.upper {
                    prop_assert!(p.header_len + usize::from(header_len) <= p.total_len);
                }
            }
        }

        /// Against another parser: what we accept as TCP or UDP, it reads the same.
        #[test]
        fn agrees_with_etherparse(mut b in proptest::collection::vec(any::<u8>(), 40..120), tcp: bool) {
            b[0] = 0x45;
            let n = u16::try_from(b.len()).unwrap();
            b[2..4].copy_from_slice(&n.to_be_bytes());
            b[6..8].fill(0);
            b[9] = if tcp { 6 } else { 17 };
            let theirs = etherparse::PacketHeaders::from_ip_slice(&b);
            if let (Ok(p), Ok(h)) = (Parsed::parse(&b), theirs) {
                match h.transport.unwrap() {
                    etherparse::TransportHeader::Tcp(t) => {
                        prop_assert_eq!(p.ports(), (t.source_port, t.destination_port));
                        let f = p.tcp_flags().unwrap();
                        prop_assert_eq!((f.has(TcpFlags::SYN), f.has(TcpFlags::FIN), f.has(TcpFlags::ACK)), (t.syn, t.fin, t.ack));
                    }
                    etherparse::TransportHeader::Udp(u) => prop_assert_eq!(p.ports(), (u.source_port, u.destination_port)),
                    _ => prop_assert!(false),
                }
            }
        }
    }
}
