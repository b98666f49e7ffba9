//! ICMP in the engine: what an error quotes, and how many errors of our own may be sent.

use super::connection::ConnectionKey;
use super::filter::{Subject, Upper};
use crate::control::Direction;
use crate::wire::icmp::Icmp;
use crate::wire::packet::{self, IpVersion, Parsed};
use crate::wire::{be16, be32, ipv4, ipv6, protocol};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What an ICMP error says of the packet that it is about. Only as much of that packet as is needed to name its flow
/// has to be there (RFC 792: 8 octets behind the IP header).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// Source of the quoted packet.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// Its upper-layer protocol.
    pub protocol: u8,
    /// Its ports, if the protocol has some.
    pub ports: Option<(u16, u16)>,
    /// The four octets after its IP (and UDP) header, or the second four of AH: the SPI.
    pub spi: Option<u32>,
}

impl Quoted {
    /// What `packet`, an ICMP error, quotes; `None` for other packets and unusable quotations.
    #[must_use]
    pub fn of(parsed: &Parsed, packet: &[u8]) -> Option<Self> {
        let v6 = parsed.version == IpVersion::V6;
        let own = if v6 { protocol::ICMPV6 } else { protocol::ICMP };
        if parsed.protocol != own || parsed.fragment.is_some() {
            return None;
        }
        let message = packet.get(parsed.header_len..parsed.total_len)?;
        let quoted = Icmp::new_checked(message, v6)?.quoted()?;
        if v6 { Self::read_v6(quoted) } else { Self::read_v4(quoted) }
    }

    fn read_v4(b: &[u8]) -> Option<Self> {
        let first = *b.first()?;
        let header = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4
            || header < ipv4::MIN_HEADER
            || b.len() < header
            || be16(b, 6) & ipv4::OFFSET_MASK != 0
        {
            return None;
        }
        let at = |i: usize| IpAddr::from([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        Some(Self::with_upper(at(12), at(16), b[9], &b[header..]))
    }

    fn read_v6(b: &[u8]) -> Option<Self> {
        if b.len() < ipv6::HEADER || b[0] >> 4 != 6 {
            return None;
        }
        let address = |i: usize| {
            let mut a = [0u8; 16];
            a.copy_from_slice(&b[i..i + 16]);
            IpAddr::from(a)
        };
        let (mut next, mut at) = (b[6], ipv6::HEADER);
        // More extension headers than this stand in no packet of ours.
        for _ in 0..4 {
            let length = match next {
                protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION => {
                    (usize::from(*b.get(at + 1)?) + 1) * 8
                }
                protocol::FRAGMENT => {
                    if b.len() < at + 8 || be16(b, at + 2) & 0xfff8 != 0 {
                        return None;
                    }
                    8
                }
                _ => break,
            };
            next = *b.get(at)?;
            at += length;
        }
        Some(Self::with_upper(address(8), address(24), next, b.get(at..)?))
    }

    fn with_upper(source: IpAddr, destination: IpAddr, proto: u8, upper: &[u8]) -> Self {
        let has_ports = matches!(proto, protocol::TCP | protocol::UDP | protocol::UDP_LITE | protocol::SCTP)
            && upper.len() >= 4;
        let ports = has_ports.then(|| (be16(upper, 0), be16(upper, 2)));
        let spi_at = match proto {
            protocol::UDP => 8,
            protocol::AH => 4,
            _ => 0,
        };
        let spi = (upper.len() >= spi_at + 4).then(|| be32(upper, spi_at));
        Self { source, destination, protocol: proto, ports, spi }
    }

    /// The flow as the filters see the packet that caused the error, in that packet's direction.
    #[must_use]
    pub fn subject(&self, direction: Direction) -> Subject {
        let upper = match self.ports {
            Some((source, destination)) => Upper::Ports { source, destination, opens: false },
            None => Upper::None,
        };
        Subject {
            direction,
            routed: false,
            security_class: 0,
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            upper,
            fragment: false,
        }
    }

    /// The connection that was quoted, where the quoted packet came from the DVIPA.
    #[must_use]
    pub fn connection_from_local(&self) -> Option<ConnectionKey> {
        let (local_port, remote_port) = self.ports?;
        Some(ConnectionKey {
            protocol: self.protocol,
            local: self.source,
            local_port,
            remote: self.destination,
            remote_port,
        })
    }

    /// The connection that was quoted, where the quoted packet went to the DVIPA.
    #[must_use]
    pub fn connection_to_local(&self) -> Option<ConnectionKey> {
        let (remote_port, local_port) = self.ports?;
        Some(ConnectionKey {
            protocol: self.protocol,
            local: self.destination,
            local_port,
            remote: self.source,
            remote_port,
        })
    }
}

/// Whether an error may be sent about a packet (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e).
#[must_use]
pub fn may_answer(parsed: &Parsed) -> bool {
    let single = |a: IpAddr| {
        !a.is_multicast()
            && !a.is_unspecified()
            && !a.is_loopback()
            && a != IpAddr::from([255, 255, 255, 255])
    };
    let error = match parsed.upper {
        packet::Upper::Typed { kind, .. } => {
            let v6 = parsed.version == IpVersion::V6;
            matches!(parsed.protocol, protocol::ICMP | protocol::ICMPV6)
                && crate::wire::icmp::is_error(kind, v6)
        }
        packet::Upper::Tcp { .. }
        | packet::Upper::Ports { .. }
        | packet::Upper::Opaque
        | packet::Upper::Cut => false,
    };
    !error
        && single(parsed.source)
        && single(parsed.destination)
        && parsed.fragment.is_none_or(|f| f.offset == 0)
}

/// Errors that may be sent at once, and how fast that is given back (RFC 4443 section 2.4 f).
const BURST: u32 = 50;
const REFILL: Duration = Duration::from_millis(10);

/// How many errors may be sent.
#[derive(Debug)]
pub struct ErrorLimit {
    tokens: u32,
    refilled: Option<Instant>,
}

impl Default for ErrorLimit {
    fn default() -> Self {
        Self { tokens: BURST, refilled: None }
    }
}

impl ErrorLimit {
    /// Takes one, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let last = *self.refilled.get_or_insert(now);
        let back = now.saturating_duration_since(last).as_millis() / REFILL.as_millis();
        if back > 0 {
            self.tokens = self.tokens.saturating_add(u32::try_from(back).unwrap_or(BURST)).min(BURST);
            self.refilled = Some(now);
        }
        let some = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::icmp::{Error, write_error};
    use proptest::prelude::*;

    fn udp(source: [u8; 4], destination: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let builder = etherparse::PacketBuilder::ipv4(source, destination, 64).udp(ports.0, ports.1);
        let mut p = Vec::new();
        builder.write(&mut p, payload).unwrap();
        p
    }

    #[test]
    fn an_error_names_the_flow_and_the_spi() {
        let esp = udp([192, 0, 2, 1], [203, 0, 113, 9], (4500, 4501), &[0xc0, 1, 2, 3, 0, 0, 0, 1]);
        let mut e = Vec::new();
        assert!(write_error(&mut e, IpAddr::from([10, 0, 0, 1]), &esp, Error::TooBig(1300)));
        let q = Quoted::of(&Parsed::parse(&e).unwrap(), &e).unwrap();
        assert_eq!((q.ports, q.spi), (Some((4500, 4501)), Some(0xc001_0203)));
        let k = q.connection_from_local().unwrap();
        assert_eq!((k.local, k.local_port, k.remote_port), (IpAddr::from([192, 0, 2, 1]), 4500, 4501));
        assert!(!may_answer(&Parsed::parse(&e).unwrap()), "no error about an error");
        let p = Parsed::parse(&esp).unwrap();
        assert!(may_answer(&p));
        assert_eq!(Quoted::of(&p, &esp), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn errors_are_limited() {
        let now = Instant::now();
        let mut l = ErrorLimit::default();
        assert_eq!((0..1000).filter(|_| l.take(now)).count(), BURST as usize);
        let later = now + Duration::from_millis(100);
        assert_eq!((0..1000).filter(|_| l.take(later)).count(), 10);
    }

    proptest! {
        #[test]
        fn random_quotations_never_panic(b in prop::collection::vec(any::<u8>(), 0..120), v6: bool) {
            let mut e = b.clone();
            if let Some(first) = e.first_mut() { *first = if v6 { 0x60 } else { 0x45 }; }
            let _ = Quoted::read_v4(&e);
            let _ = Quoted::read_v6(&e);
        }
    }
}
