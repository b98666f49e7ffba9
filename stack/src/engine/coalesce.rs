//! Opened packets of a flow become one super-packet again, for a TUN or for the XCF.
//!
//! The reverse of [`super::segment`], with the rules of the kernel's GRO: only what could have been one super-packet
//! before it was cut is joined, so that cutting gives the same packets again. Checksums are verified before, because
//! nobody can do so afterwards. Several flows are collected at a time; the order within a flow never changes.
//!
//! A super-packet grows at the end of the arena while its packets come in one burst, as they do. When another
//! packet came in between, it moves to a buffer of its own and is copied once more when it is complete.

use super::io::{Output, VnetHeader};
use super::segment::super_header;
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::packet::{FlowKey, IpVersion, Parsed, Upper};
use crate::wire::tcp::{self, TcpFlags};
use crate::wire::{be16, be32, ipv4, ipv6, protocol, udp};
use std::ops::Range;

/// Octets before each packet that is handed out, for what its destination wants there (10 of a [`VnetHeader`], up to 8
/// of a GRE header).
pub const PREFIX: usize = 16;
/// Flows that are collected at a time.
const FLOWS: usize = 8;
/// Largest super-packet for a TUN.
pub const MAX_SUPER: usize = 65_535;

/// What may be joined for a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest super-packet, at most [`MAX_SUPER`].
    pub bytes: usize,
    /// Also join UDP datagrams (the TUN must take `UDP_L4`).
    pub udp: bool,
}

/// A packet or super-packet that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complete {
    /// Where the IP packet lies in the arena; [`PREFIX`] octets before it are free.
    pub packet: Range<usize>,
    /// The offload header: all zero for a single packet.
    pub vnet: VnetHeader,
}

impl Complete {
    /// Writes the offload header before the packet and puts both out to the host.
    pub fn to_host(self, out: &mut Output) {
        let header = self.vnet.to_bytes();
        let start = self.packet.start - header.len();
        out.bytes[start..self.packet.start].copy_from_slice(&header);
        out.host.push(start..self.packet.end);
    }
}

/// Collects packets for destinations that a `D` names.
#[derive(Debug)]
pub struct Coalescer<D> {
    /// In the order in which they were begun.
    slots: Vec<Slot<D>>,
    /// Buffers that are not in use.
    spare: Vec<Vec<u8>>,
}

/// A super-packet that grows.
#[derive(Debug)]
struct Slot<D> {
    destination: D,
    flow: FlowKey,
    limits: Limits,
    place: Place,
    head: Head,
    /// Payload of each packet but the last.
    size: usize,
    count: usize,
    next_sequence: u32,
    /// [`Output::clears`] when it was begun.
    clears: u64,
}

#[derive(Debug)]
enum Place {
    /// In the arena; grows while it ends there.
    Arena(Range<usize>),
    /// In a buffer of its own.
    Own(Vec<u8>),
}

/// What is known of a packet that may be joined.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// Length of all headers.
    len: usize,
    /// Where the TCP or UDP header starts.
    upper: usize,
    tcp: bool,
    v4: bool,
}

impl<D> Default for Coalescer<D> {
    fn default() -> Self {
        Self { slots: Vec::with_capacity(FLOWS), spare: Vec::with_capacity(FLOWS) }
    }
}

impl<D: Copy + PartialEq> Coalescer<D> {
    /// Takes a packet (no super-packet) for `destination`; it is copied. What is complete by it is handed to `emit`, the
    /// rest by [`Coalescer::flush`] at the end of the batch, before [`Output::clear`].
    pub fn push(
        &mut self,
        destination: D,
        packet: &[u8],
        parsed: &Parsed,
        limits: Limits,
        out: &mut Output,
        mut emit: impl FnMut(&mut Output, D, Complete),
    ) {
        let Some(packet) = packet.get(..parsed.total_len) else { return };
        self.forget_cleared(out);
        let flow = parsed.flow();
        let head = Head::of(packet, parsed, limits);
        let Some(head) = head else {
            self.finish_related(parsed, &flow, out, &mut emit);
            let range = append(out, packet);
            emit(out, destination, Complete { packet: range, vnet: VnetHeader::default() });
            return;
        };
        if let Some(i) = self.slots.iter().rposition(|s| s.flow == flow && s.destination == destination) {
            if self.slots[i].joins(packet, head, out) {
                let closes = self.slots[i].join(packet, head, out, &mut self.spare);
                if closes {
                    self.finish(i, out, &mut emit);
                }
                return;
            }
            self.finish(i, out, &mut emit);
        }
        if self.slots.len() == FLOWS {
            self.finish(0, out, &mut emit);
        }
        let range = append(out, packet);
        let slot = Slot::begin(destination, flow, limits, range, out.clears, head, packet);
        let closes = head.tcp && packet[head.upper + tcp::FLAGS_AT] & TcpFlags::PSH.0 != 0;
        self.slots.push(slot);
        if closes {
            self.finish(self.slots.len() - 1, out, &mut emit);
        }
    }

    /// Hands out everything that was collected.
    pub fn flush(&mut self, out: &mut Output, mut emit: impl FnMut(&mut Output, D, Complete)) {
        self.forget_cleared(out);
        while !self.slots.is_empty() {
            self.finish(0, out, &mut emit);
        }
    }

    /// A caller that cleared the output without a flush has lost what lay there, but nothing else may come of it.
    fn forget_cleared(&mut self, out: &Output) {
        let clears = out.clears;
        if self.slots.first().is_some_and(|s| s.clears != clears) {
            self.slots.retain(|s| s.clears == clears);
        }
    }

    /// A packet that cannot be joined overtakes nothing of its flow; a fragment, nothing between its addresses.
    fn finish_related(
        &mut self,
        parsed: &Parsed,
        flow: &FlowKey,
        out: &mut Output,
        emit: &mut impl FnMut(&mut Output, D, Complete),
    ) {
        let mut i = 0;
        while i < self.slots.len() {
            let f = &self.slots[i].flow;
            let addresses = (f.source, f.destination) == (flow.source, flow.destination);
            if *f == *flow || (addresses && parsed.fragment.is_some()) {
                self.finish(i, out, emit);
            } else {
                i += 1;
            }
        }
    }

    fn finish(&mut self, i: usize, out: &mut Output, emit: &mut impl FnMut(&mut Output, D, Complete)) {
        let slot = self.slots.remove(i);
        let range = match slot.place {
            Place::Arena(range) => range,
            Place::Own(mut buffer) => {
                let range = append(out, &buffer);
                buffer.clear();
                self.spare.push(buffer);
                range
            }
        };
        let mut vnet = VnetHeader::default();
        if slot.count > 1 {
            vnet = slot.head.complete(&mut out.bytes[range.clone()], slot.size);
        }
        emit(out, slot.destination, Complete { packet: range, vnet });
    }
}

fn append(out: &mut Output, packet: &[u8]) -> Range<usize> {
    out.bytes.extend_from_slice(&[0; PREFIX]);
    let start = out.bytes.len();
    out.bytes.extend_from_slice(packet);
    start..out.bytes.len()
}

impl<D> Slot<D> {
    fn begin(
        destination: D,
        flow: FlowKey,
        limits: Limits,
        place: Range<usize>,
        clears: u64,
        head: Head,
        packet: &[u8],
    ) -> Self {
        let size = packet.len() - head.len;
        let next_sequence = if head.tcp { next(packet, head) } else { 0 };
        let place = Place::Arena(place);
        Self { destination, flow, limits, place, head, size, count: 1, next_sequence, clears }
    }

    fn bytes<'a>(&'a self, out: &'a Output) -> &'a [u8] {
        match &self.place {
            Place::Arena(range) => &out.bytes[range.clone()],
            Place::Own(buffer) => buffer,
        }
    }

    /// Whether the packet is what the cut super-packet would go on with. Only packets that have the same flow are asked.
    fn joins(&self, packet: &[u8], head: Head, out: &Output) -> bool {
        let have = self.bytes(out);
        let size = packet.len() - head.len;
        head.len == self.head.len
            && size <= self.size
            && have.len() + size <= self.limits.bytes.min(MAX_SUPER)
            && same_ip(have, packet, head, self.count)
            && if head.tcp { self.same_tcp(have, packet, head) } else { true }
    }

    fn same_tcp(&self, have: &[u8], packet: &[u8], head: Head) -> bool {
        let (a, b) = (&have[head.upper..head.len], &packet[head.upper..head.len]);
        be32(b, 4) == self.next_sequence
            // Acknowledgment and header length; flags are looked at before, and PSH may only end a super-packet.
            && a[8..13] == b[8..13]
            && (a[tcp::FLAGS_AT] ^ b[tcp::FLAGS_AT]) & !TcpFlags::PSH.0 == 0
            // The window; then the urgent pointer, which means nothing without URG, and options.
            && a[14..16] == b[14..16]
            && a[18..] == b[18..]
    }

    /// Appends the payload; true if nothing can follow.
    fn join(&mut self, packet: &[u8], head: Head, out: &mut Output, spare: &mut Vec<Vec<u8>>) -> bool {
        let payload = &packet[head.len..];
        if let Place::Arena(range) = &mut self.place {
            if range.end == out.bytes.len() {
                out.bytes.extend_from_slice(payload);
                range.end = out.bytes.len();
            } else {
                let mut buffer = spare.pop().unwrap_or_default();
                buffer.reserve(MAX_SUPER);
                buffer.extend_from_slice(&out.bytes[range.clone()]);
                self.place = Place::Own(buffer);
            }
        }
        if let Place::Own(buffer) = &mut self.place {
            buffer.extend_from_slice(payload);
        }
        self.count += 1;
        let mut closes = payload.len() < self.size;
        if head.tcp {
            self.next_sequence = next(packet, head);
            let flags = packet[head.upper + tcp::FLAGS_AT];
            if flags & TcpFlags::PSH.0 != 0 {
                let bytes = match &mut self.place {
                    Place::Arena(range) => &mut out.bytes[range.clone()],
                    Place::Own(buffer) => buffer.as_mut_slice(),
                };
                bytes[head.upper + tcp::FLAGS_AT] |= TcpFlags::PSH.0;
                closes = true;
            }
        }
        closes
    }
}

/// The sequence number after the packet.
fn next(packet: &[u8], head: Head) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "a packet is shorter than 2^16")]
    be32(packet, head.upper + 4).wrapping_add((packet.len() - head.len) as u32)
}

/// Whether the IP headers are those of one super-packet, and `packet` is number `index` of it.
fn same_ip(have: &[u8], packet: &[u8], head: Head, index: usize) -> bool {
    if !head.v4 {
        // Version, traffic class, flow label; next header, hop limit. Addresses are the flow's.
        return have[..4] == packet[..4] && have[6..8] == packet[6..8];
    }
    // An atomic packet's identification means nothing (RFC 6864 section 4.1); another's counts up.
    #[allow(clippy::cast_possible_truncation, reason = "identifications wrap")]
    let follows = be16(packet, 4) == be16(have, 4).wrapping_add(index as u16);
    let df = be16(packet, 6) & ipv4::DF != 0;
    have[..2] == packet[..2] && have[6..10] == packet[6..10] && (df || follows)
}

impl Head {
    /// `None` if the packet cannot be part of a super-packet.
    fn of(packet: &[u8], parsed: &Parsed, limits: Limits) -> Option<Self> {
        let v4 = parsed.version == IpVersion::V4;
        let upper = parsed.header_len;
        // No options, extension headers or fragments.
        if parsed.fragment.is_some() || upper != if v4 { ipv4::MIN_HEADER } else { ipv6::HEADER } {
            return None;
        }
        let (tcp, upper_len) = match parsed.upper {
            Upper::Tcp { flags, header_len, .. } if flags.without(TcpFlags::PSH) == TcpFlags::ACK => {
                (true, usize::from(header_len))
            }
            Upper::Ports { .. } if parsed.protocol == protocol::UDP && limits.udp => {
                let length = usize::from(be16(packet, upper + 4));
                // A checksum of zero says that there is none: nothing could be verified, or restored.
                if length != packet.len() - upper || be16(packet, upper + udp::CHECKSUM_AT) == 0 {
                    return None;
                }
                (false, udp::HEADER)
            }
            Upper::Tcp { .. } | Upper::Ports { .. } | Upper::Typed { .. } | Upper::Opaque | Upper::Cut => {
                return None;
            }
        };
        let head = Self { len: upper + upper_len, upper, tcp, v4 };
        let fine = packet.len() > head.len
            && (!v4 || Sum::ZERO.with(&packet[..upper]).is_valid())
            && head.pseudo(packet).with(&packet[upper..]).is_valid();
        fine.then_some(head)
    }

    fn pseudo(&self, packet: &[u8]) -> Sum {
        let addresses = if self.v4 { 12..20 } else { 8..40 };
        let proto = if self.tcp { protocol::TCP } else { protocol::UDP };
        pseudo_header(&packet[addresses], proto, u32::try_from(packet.len() - self.upper).unwrap_or(0))
    }

    /// Makes the headers of the first packet those of the super-packet.
    fn complete(&self, packet: &mut [u8], size: usize) -> VnetHeader {
        let total = packet.len();
        #[allow(clippy::cast_possible_truncation, reason = "at most MAX_SUPER")]
        let be = |n: usize| (n as u16).to_be_bytes();
        if self.v4 {
            packet[2..4].copy_from_slice(&be(total));
            ipv4::fill_checksum(&mut packet[..self.upper]);
        } else {
            packet[4..6].copy_from_slice(&be(total - ipv6::HEADER));
        }
        let at = if self.tcp { tcp::CHECKSUM_AT } else { udp::CHECKSUM_AT };
        if !self.tcp {
            packet[self.upper + 4..self.upper + 6].copy_from_slice(&be(total - self.upper));
        }
        let partial = self.pseudo(packet).folded();
        packet[self.upper + at..self.upper + at + 2].copy_from_slice(&partial);
        let size = u16::try_from(size).unwrap_or(0);
        Parsed::parse(packet).ok().and_then(|p| super_header(&p, size)).unwrap_or_default()
    }
}
