//! A connection that nobody can have: TCP hears it at once, from the address that it wanted (spec section 7).

use super::Engine;
use super::io::{Output, VnetHeader};
use super::outbound::Origin;
use crate::wire::checksum::pseudo_header;
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::packet::{Parsed, Upper};
use crate::wire::tcp::{self, TcpFlags};
use crate::wire::{be32, protocol};
use std::net::IpAddr;
use std::time::Instant;

const HOP_LIMIT: u8 = 64;
/// Octets of a segment without options and data.
const LENGTH: u16 = 20;
/// Its data offset, 5 words, as it stands in the header.
const OFFSET: u8 = 5 << 4;
const MAX_RESET: usize = ipv6::HEADER + tcp::MIN_HEADER;

impl Engine {
    /// Answers a SYN with RST, by the same filters and SA that any answer goes by. Other protocols hear nothing.
    pub(super) fn refuse(&mut self, now: Instant, packet: &[u8], parsed: &Parsed, out: &mut Output) {
        let mut bytes = [0; MAX_RESET];
        let Some(reset) = reset_for(packet, parsed, &mut bytes) else { return };
        if let Ok(parsed) = Parsed::parse(reset) {
            self.judge_outbound(now, Origin::Local, &VnetHeader::default(), reset, &parsed, out);
        }
    }
}

/// The RST that answers a SYN (RFC 9293 section 3.10.7.1): no sequence number, and the SYN and its data acknowledged.
fn reset_for<'b>(packet: &[u8], parsed: &Parsed, bytes: &'b mut [u8; MAX_RESET]) -> Option<&'b mut [u8]> {
    let Upper::Tcp { source, destination, flags, header_len } = parsed.upper else { return None };
    if !flags.opens() || flags.has(TcpFlags::RST) {
        return None;
    }
    let segment = packet.get(parsed.header_len..parsed.total_len)?;
    let data = u32::try_from(segment.len().checked_sub(usize::from(header_len))?).ok()?;
    let acknowledged = be32(segment, 4).wrapping_add(data).wrapping_add(1);
    let start = match (parsed.destination, parsed.source) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Header {
                tos: parsed.tos & !ECN,
                total_len: 20 + LENGTH,
                id: 0,
                flags_and_offset: ipv4::DF,
                ttl: HOP_LIMIT,
                protocol: protocol::TCP,
                source,
                destination,
            };
            bytes[..ipv4::MIN_HEADER].copy_from_slice(&header.to_bytes());
            ipv4::MIN_HEADER
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                traffic_class: parsed.tos & !ECN,
                flow_label: 0,
                payload_len: LENGTH,
                next_header: protocol::TCP,
                hop_limit: HOP_LIMIT,
                source,
                destination,
            };
            bytes[..ipv6::HEADER].copy_from_slice(&header.to_bytes());
            ipv6::HEADER
        }
        _ => return None,
    };
    let reset = &mut bytes[..start + tcp::MIN_HEADER];
    let (header, segment) = reset.split_at_mut(start);
    segment[..2].copy_from_slice(&destination.to_be_bytes());
    segment[2..4].copy_from_slice(&source.to_be_bytes());
    segment[8..12].copy_from_slice(&acknowledged.to_be_bytes());
    segment[12] = OFFSET;
    segment[tcp::FLAGS_AT] = TcpFlags::RST.0 | TcpFlags::ACK.0;
    let addresses = if start == ipv4::MIN_HEADER { 12..20 } else { 8..40 };
    let check = pseudo_header(&header[addresses], protocol::TCP, u32::from(LENGTH)).with(segment).finish();
    segment[tcp::CHECKSUM_AT..tcp::CHECKSUM_AT + 2].copy_from_slice(&check);
    Some(reset)
}

/// The ECN bits of the traffic class: a reset is not ECN-capable (RFC 3168 section 6.1.1).
const ECN: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, PacketHeaders, TransportHeader};

    #[test]
    fn a_reset_that_another_parser_reads_right() {
        for v6 in [false, true] {
            let ip = if v6 {
                PacketBuilder::ipv6([1; 16], [2; 16], 9)
            } else {
                PacketBuilder::ipv4([10, 0, 0, 1], [192, 0, 2, 80], 9)
            };
            let mut syn = Vec::new();
            ip.tcp(40_000, 443, u32::MAX, 1000).syn().write(&mut syn, b"early").unwrap();
            let parsed = Parsed::parse(&syn).unwrap();
            let mut bytes = [0; MAX_RESET];
            let reset = reset_for(&syn, &parsed, &mut bytes).unwrap();
            let h = PacketHeaders::from_ip_slice(reset).unwrap();
            let Some(TransportHeader::Tcp(t)) = &h.transport else { panic!() };
            assert_eq!((t.source_port, t.destination_port), (443, 40_000));
            assert_eq!((t.rst, t.ack, t.syn, t.sequence_number), (true, true, false, 0));
            assert_eq!(t.acknowledgment_number, 5, "SYN and data, across the wrap");
            let p = Parsed::parse(reset).unwrap();
            assert_eq!((p.source, p.destination), (parsed.destination, parsed.source));
            let right = match h.net.unwrap() {
                etherparse::NetHeaders::Ipv4(ip, _) => {
                    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                    t.calc_checksum_ipv4(&ip, &[])
                }
                etherparse::NetHeaders::Ipv6(ip, _) => t.calc_checksum_ipv6(&ip, &[]),
                etherparse::NetHeaders::Arp(_) => panic!(),
            };
            assert_eq!(t.checksum, right.unwrap());
            assert!(reset_for(reset, &p, &mut [0; MAX_RESET]).is_none(), "never for a reset");
        }
    }
}
