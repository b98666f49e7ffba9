//! Packets that a takeover surprised: they came to the stack that was the owner a moment ago, or to the one that will be it in a
//! moment (races R11 and R12). A planned move loses none of them.
//!
//! ```text
//!   peer ── ESP, AH, IKE ► old owner (Moving) ── GRE, clear ─────► new owner: as from the network
//!   target ── GRE ─────► old owner (Moving) ── GRE, forwarded ─► new owner: as from the target that has the flow
//! ```
//! What comes before the new owner knows that it is one, or before the SA is there, waits up to a second. Nothing is
//! forwarded twice.

use super::Engine;
use super::connection::{ConnectionKey, Place};
use super::gre;
use super::hold::Stage;
use super::io::{Output, RawArrival, UdpArrival, VnetHeader};
use super::network::{IKE_PORT, NATT_PORT};
use super::rebuild;
use super::roles::HomeRole;
use super::verdict::DropReason;
use crate::wire::checksum::pseudo_header;
use crate::wire::gre::{GreHeader, MAX_HEADER};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::Ipv6Header;
use crate::wire::packet::{IpVersion, Parsed, Upper};
use crate::wire::{protocol, udp};
use std::net::IpAddr;
use std::time::Instant;

const HOP_LIMIT: u8 = 64;

/// A DVIPA that this stack has just taken over.
#[derive(Debug, Clone, Copy)]
pub(super) struct TakenOver {
    /// When nobody can be surprised any more.
    pub(super) until: Instant,
    /// XCF address of the owner before, where it is known.
    pub(super) from: Option<IpAddr>,
}

/// Whether a packet to a DVIPA is for its owner's IKE or IPsec.
pub(super) fn is_sealed(p: &Parsed) -> bool {
    match (p.protocol, p.upper) {
        (protocol::ESP | protocol::AH, _) => true,
        (protocol::UDP, Upper::Ports { destination, .. }) => matches!(destination, IKE_PORT | NATT_PORT),
        _ => false,
    }
}

impl Engine {
    /// ESP that came to a DVIPA which was given up: to its new owner, with the header that it came with.
    pub(super) fn forward_esp(&mut self, to: IpAddr, arrival: RawArrival, esp: &[u8], out: &mut Output) {
        let RawArrival { source, destination, tos } = arrival;
        self.forward(to, (source, destination, tos), protocol::ESP, [&[], esp], out);
    }

    /// The same with AH, whose check covers the IP header (RFC 4302 section 3.3.3.1): the packet as it came.
    pub(super) fn forward_ah(&mut self, to: IpAddr, packet: &[u8], parsed: &Parsed, out: &mut Output) {
        self.spd.count_xcf(crate::control::Direction::Outbound);
        let v6 = parsed.version == IpVersion::V6;
        let range = gre::start_packet(out, packet, parsed);
        gre::put(out, to, GreHeader { v6, clear: true, ..GreHeader::default() }, range, parsed.tos);
    }

    /// The same with a datagram of port 500 or 4500.
    pub(super) fn forward_udp(&mut self, to: IpAddr, arrival: UdpArrival, datagram: &[u8], out: &mut Output) {
        let UdpArrival { local, remote, tos, .. } = arrival;
        let Ok(length) = u16::try_from(udp::HEADER + datagram.len()) else {
            return self.drops.count(DropReason::MalformedPacket);
        };
        let mut header = [0; udp::HEADER];
        header[..2].copy_from_slice(&remote.port().to_be_bytes());
        header[2..4].copy_from_slice(&local.port().to_be_bytes());
        header[4..6].copy_from_slice(&length.to_be_bytes());
        let pseudo = |addresses: &[u8]| pseudo_header(addresses, protocol::UDP, u32::from(length));
        let pseudo = match (remote.ip(), local.ip()) {
            (IpAddr::V4(s), IpAddr::V4(d)) => pseudo(&[s.octets(), d.octets()].concat()),
            (IpAddr::V6(s), IpAddr::V6(d)) => pseudo(&[s.octets(), d.octets()].concat()),
            _ => return self.drops.count(DropReason::MalformedPacket),
        };
        let check = pseudo.with(&header).with(datagram).finish();
        let check = if check == [0, 0] { [0xff, 0xff] } else { check };
        header[udp::CHECKSUM_AT..udp::CHECKSUM_AT + 2].copy_from_slice(&check);
        self.forward(to, (remote.ip(), local.ip(), tos), protocol::UDP, [&header, datagram], out);
    }

    fn forward(
        &mut self,
        to: IpAddr,
        (source, destination, tos): (IpAddr, IpAddr, u8),
        proto: u8,
        parts: [&[u8]; 2],
        out: &mut Output,
    ) {
        let length = parts[0].len() + parts[1].len();
        out.bytes.extend_from_slice(&[0; MAX_HEADER]);
        let start = out.bytes.len();
        let v6 = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let Ok(total_len) = u16::try_from(ipv4::MIN_HEADER + length) else {
                    return self.drops.count(DropReason::MalformedPacket);
                };
                let header = Ipv4Header {
                    tos,
                    total_len,
                    id: 0,
                    flags_and_offset: ipv4::DF,
                    ttl: HOP_LIMIT,
                    protocol: proto,
                    source,
                    destination,
                };
                out.bytes.extend_from_slice(&header.to_bytes());
                false
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let Ok(payload_len) = u16::try_from(length) else {
                    return self.drops.count(DropReason::MalformedPacket);
                };
                let header = Ipv6Header {
                    traffic_class: tos,
                    flow_label: 0,
                    payload_len,
                    next_header: proto,
                    hop_limit: HOP_LIMIT,
                    source,
                    destination,
                };
                out.bytes.extend_from_slice(&header.to_bytes());
                true
            }
            _ => return self.drops.count(DropReason::MalformedPacket),
        };
        out.bytes.extend_from_slice(parts[0]);
        out.bytes.extend_from_slice(parts[1]);
        self.spd.count_xcf(crate::control::Direction::Outbound);
        let range = start..out.bytes.len();
        gre::put(out, to, GreHeader { v6, clear: true, ..GreHeader::default() }, range, tos);
    }

    /// What a target sent to a DVIPA's owner, which is another one by now: to that one.
    pub(super) fn forward_outbound(
        &mut self,
        to: IpAddr,
        header: GreHeader,
        packet: &[u8],
        parsed: &Parsed,
        out: &mut Output,
    ) {
        self.spd.count_xcf(crate::control::Direction::Outbound);
        let range = gre::start_packet(out, packet, parsed);
        gre::put(out, to, GreHeader { forwarded: true, ..header }, range, parsed.tos);
    }

    /// What another stack gave on, from the network to this owner.
    pub(super) fn stray(
        &mut self,
        now: Instant,
        vnet: VnetHeader,
        packet: &mut [u8],
        parsed: &Parsed,
        out: &mut Output,
    ) {
        match parsed.protocol {
            protocol::ESP => {
                let RawArrival { source, destination, tos } =
                    RawArrival { source: parsed.source, destination: parsed.destination, tos: parsed.tos };
                if let Some(esp) = packet.get_mut(parsed.header_len..parsed.total_len) {
                    self.handle_esp(now, RawArrival { source, destination, tos }, esp, out);
                }
            }
            protocol::AH => self.handle_ah(now, parsed, packet, out),
            protocol::UDP if is_sealed(parsed) => self.reassembled_udp(now, parsed, packet, out),
            _ => self.inbound(now, None, vnet, packet, parsed, out),
        }
    }

    /// The stack that may speak for a flow of which an old owner gave a packet on: the one that has the flow. `None`: nobody
    /// does, or the old owner is none.
    pub(super) fn forwarded_for(&self, now: Instant, member: IpAddr, key: &ConnectionKey) -> Option<IpAddr> {
        let taken = self.taken_over.get(&key.local).filter(|t| now < t.until)?;
        if taken.from.is_some_and(|from| from != member) {
            return None;
        }
        match self.connections.get(self.connections.find(key)?).place {
            Place::At(target) => Some(target),
            Place::Here => None,
        }
    }

    /// What came a moment too early waits.
    pub(super) fn hold_early(
        &mut self,
        now: Instant,
        dvipa: IpAddr,
        packet: &[u8],
        stage: Stage,
    ) -> Result<(), DropReason> {
        self.early.push(now, rebuild::PHASE, dvipa, VnetHeader::default(), packet, stage)
    }

    /// ESP or AH for which there is no SA, at an owner that has just become it: the SA may be on its way. False: it is not
    /// to wait.
    pub(super) fn hold_sealed(&mut self, now: Instant, dvipa: IpAddr, packet: &[u8], stage: Stage) -> bool {
        self.role(dvipa) == Some(HomeRole::Owner)
            && self.taken_over.get(&dvipa).is_some_and(|t| now < t.until)
            && self.hold_early(now, dvipa, packet, stage).is_ok()
    }

    /// What waited in vain.
    pub(super) fn expire_waiting(&mut self, now: Instant) {
        let drops = &mut self.drops;
        for hold in [&mut self.unplaced, &mut self.undirected, &mut self.early] {
            hold.expire(now, |stage| {
                drops.count(match stage {
                    Stage::Unplaced(_) | Stage::Undirected => DropReason::HoldTimeout,
                    Stage::FromMember { .. } => DropReason::GreNotDvipa,
                    Stage::Sealed(_) | Stage::Authenticated => DropReason::UnknownSpi,
                });
            });
        }
    }
}
