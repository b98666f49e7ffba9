//! ICMP and ICMPv6 (RFC 792, RFC 4443): reading errors and what they quote, and writing errors.

use super::checksum::{Sum, pseudo_header};
use super::{be16, be32, ipv4, ipv6, protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of the header of an error.
pub const HEADER: usize = 8;
/// ICMP destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Code: fragmentation needed and DF set (RFC 1191).
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// Code: communication administratively prohibited (RFC 1812 section 5.2.7.1).
pub const ADMIN_PROHIBITED: u8 = 13;
/// ICMP time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// ICMP parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;
/// ICMPv6 destination unreachable.
pub const V6_UNREACHABLE: u8 = 1;
/// ICMPv6 code: administratively prohibited.
pub const V6_ADMIN_PROHIBITED: u8 = 1;
/// ICMPv6 packet too big.
pub const V6_TOO_BIG: u8 = 2;
/// ICMPv6 time exceeded.
pub const V6_TIME_EXCEEDED: u8 = 3;
/// ICMPv6 parameter problem.
pub const V6_PARAMETER_PROBLEM: u8 = 4;

/// An ICMP or ICMPv6 message whose header is there.
#[derive(Debug, Clone, Copy)]
pub struct Icmp<'a> {
    bytes: &'a [u8],
    v6: bool,
}

impl<'a> Icmp<'a> {
    /// `None` if shorter than a header.
    #[must_use]
    pub fn new_checked(bytes: &'a [u8], v6: bool) -> Option<Self> {
        (bytes.len() >= HEADER).then_some(Self { bytes, v6 })
    }
    /// Type.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.bytes[0]
    }
    /// Code.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.bytes[1]
    }
    /// Whether the message is an error and thus quotes a packet (and must never be answered with an error).
    #[must_use]
    pub fn is_error(&self) -> bool {
        is_error(self.kind(), self.v6)
    }
    /// The packet that an error quotes, as much of it as there is.
    #[must_use]
    pub fn quoted(&self) -> Option<&'a [u8]> {
        self.is_error().then(|| &self.bytes[HEADER..])
    }
    /// The MTU of a "fragmentation needed" or "packet too big"; 0 from an old router.
    #[must_use]
    pub fn mtu(&self) -> Option<u32> {
        if self.v6 {
            (self.kind() == V6_TOO_BIG).then(|| be32(self.bytes, 4))
        } else {
            (self.kind() == UNREACHABLE && self.code() == FRAGMENTATION_NEEDED)
                .then(|| u32::from(be16(self.bytes, 6)))
        }
    }
    /// Whether the checksum is right. `addresses` as for [`pseudo_header`], used for ICMPv6 only.
    #[must_use]
    pub fn checksum_ok(&self, addresses: &[u8]) -> bool {
        let Ok(length) = u32::try_from(self.bytes.len()) else { return false };
        let start = if self.v6 { pseudo_header(addresses, protocol::ICMPV6, length) } else { Sum::ZERO };
        start.with(self.bytes).is_valid()
    }
}

/// Whether a message of this type is an error (RFC 1122 section 3.2.2, RFC 4443 section 2.1).
#[must_use]
pub const fn is_error(kind: u8, v6: bool) -> bool {
    if v6 { kind < 128 } else { matches!(kind, 3 | 4 | 5 | 11 | 12) }
}

/// An error to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Too big for the way; the largest packet that fits.
    TooBig(u16),
    /// Refused by a filter.
    Prohibited,
}

/// Appends a whole IP packet with an ICMP error from `source` about `offending` to `out`; nothing if the addresses do not
/// fit the offending packet's version. Quotes what RFC 1812 section 4.3.2.3 (576 octets in all) or RFC 4443 section 3
/// (1,280) allow. The caller does not ask for errors about errors, fragments, multicast or broadcast.
pub fn write_error(out: &mut Vec<u8>, source: IpAddr, offending: &[u8], error: Error) -> bool {
    match source {
        IpAddr::V4(source) => write_v4(out, source, offending, error),
        IpAddr::V6(source) => write_v6(out, source, offending, error),
    }
}

fn write_v4(out: &mut Vec<u8>, source: Ipv4Addr, offending: &[u8], error: Error) -> bool {
    const LIMIT: usize = 576;
    let Ok(bad) = ipv4::Ipv4::new_checked(offending) else { return false };
    let quote = &bad.bytes()[..bad.bytes().len().min(LIMIT - ipv4::MIN_HEADER - HEADER)];
    let Ok(total_len) = u16::try_from(ipv4::MIN_HEADER + HEADER + quote.len()) else { return false };
    let ip = ipv4::Ipv4Header {
        tos: 0xc0,
        total_len,
        id: 0,
        flags_and_offset: 0,
        ttl: 64,
        protocol: protocol::ICMP,
        source,
        destination: bad.source(),
    };
    let mut icmp = [0u8; HEADER];
    icmp[0] = UNREACHABLE;
    match error {
        Error::TooBig(mtu) => {
            icmp[1] = FRAGMENTATION_NEEDED;
            icmp[6..8].copy_from_slice(&mtu.to_be_bytes());
        }
        Error::Prohibited => icmp[1] = ADMIN_PROHIBITED,
    }
    let check = Sum::ZERO.with(&icmp).with(quote).finish();
    icmp[2..4].copy_from_slice(&check);
    out.extend_from_slice(&ip.to_bytes());
    out.extend_from_slice(&icmp);
    out.extend_from_slice(quote);
    true
}

fn write_v6(out: &mut Vec<u8>, source: Ipv6Addr, offending: &[u8], error: Error) -> bool {
    const LIMIT: usize = 1280;
    let Ok(bad) = ipv6::Ipv6::new_checked(offending) else { return false };
    let quote = &bad.bytes()[..bad.bytes().len().min(LIMIT - ipv6::HEADER - HEADER)];
    let Ok(payload_len) = u16::try_from(HEADER + quote.len()) else { return false };
    let ip = ipv6::Ipv6Header {
        traffic_class: 0,
        flow_label: 0,
        payload_len,
        next_header: protocol::ICMPV6,
        hop_limit: 64,
        source,
        destination: bad.source(),
    }
    .to_bytes();
    let mut icmp = [0u8; HEADER];
    match error {
        Error::TooBig(mtu) => {
            icmp[0] = V6_TOO_BIG;
            icmp[4..8].copy_from_slice(&u32::from(mtu).to_be_bytes());
        }
        Error::Prohibited => {
            icmp[0] = V6_UNREACHABLE;
            icmp[1] = V6_ADMIN_PROHIBITED;
        }
    }
    let sum = pseudo_header(&ip[8..40], protocol::ICMPV6, u32::from(payload_len));
    let check = sum.with(&icmp).with(quote).finish();
    icmp[2..4].copy_from_slice(&check);
    out.extend_from_slice(&ip);
    out.extend_from_slice(&icmp);
    out.extend_from_slice(quote);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn errors_are_well_formed_and_quote_within_bounds() {
        let mut p = ipv4::Ipv4Header {
            tos: 0,
            total_len: 1500,
            id: 1,
            flags_and_offset: ipv4::DF,
            ttl: 3,
            protocol: 6,
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
        }
        .to_bytes()
        .to_vec();
        p.resize(1500, 0xab);
        let mut out = Vec::new();
        assert!(write_error(&mut out, IpAddr::from([10, 0, 0, 2]), &p, Error::TooBig(1400)));
        assert_eq!(out.len(), 576);
        let ip = ipv4::Ipv4::new_checked(&out).unwrap();
        assert!(ip.checksum_ok());
        assert_eq!(ip.destination(), Ipv4Addr::new(10, 0, 0, 1));
        let m = Icmp::new_checked(ip.payload(), false).unwrap();
        assert!(m.checksum_ok(&[]) && m.is_error());
        assert_eq!((m.kind(), m.code(), m.mtu()), (3, 4, Some(1400)));
        assert_eq!(m.quoted(), Some(&p[..548]));
        let parsed = etherparse::PacketHeaders::from_ip_slice(&out).unwrap();
        assert!(matches!(parsed.transport, Some(etherparse::TransportHeader::Icmpv4(_))));
        assert!(!write_error(&mut out, IpAddr::V6(Ipv6Addr::LOCALHOST), &p, Error::Prohibited));
    }

    #[test]
    fn icmpv6_errors_are_well_formed() {
        let mut p = ipv6::Ipv6Header {
            traffic_class: 0,
            flow_label: 0,
            payload_len: 2000,
            next_header: 17,
            hop_limit: 9,
            source: "2001:db8::1".parse().unwrap(),
            destination: "2001:db8::2".parse().unwrap(),
        }
        .to_bytes()
        .to_vec();
        p.resize(2040, 1);
        let mut out = Vec::new();
        assert!(write_error(&mut out, "2001:db8::2".parse().unwrap(), &p, Error::TooBig(1280)));
        assert_eq!(out.len(), 1280);
        let m = Icmp::new_checked(&out[40..], true).unwrap();
        assert!(m.checksum_ok(&out[8..40]));
        assert_eq!((m.kind(), m.mtu(), m.quoted().unwrap().len()), (2, Some(1280), 1232));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(b in proptest::collection::vec(any::<u8>(), 0..80), v6: bool) {
            if let Some(m) = Icmp::new_checked(&b, v6) {
                let _ = (m.mtu(), m.quoted(), m.checksum_ok(&[0; 32]));
            }
            let _ = write_error(&mut Vec::new(), IpAddr::from([1, 2, 3, 4]), &b, Error::Prohibited);
        }
    }
}
