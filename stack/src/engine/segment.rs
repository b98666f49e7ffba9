//! Super-packets of a TUN or of the XCF become packets that fit a path: sealed at once, or in clear.
//!
//! A TCP super-packet is cut as a network card with TSO would do it: headers copied, sequence numbers advanced, FIN and
//! PSH left to the last segment, CWR to the first (RFC 3168 section 6.1.2), lengths and checksums written. Each segment
//! is copied into the arena once and sealed there; equal ones stand one behind the other, as one [`UdpSend`].

use super::esp::{packet_in_tunnel, seal_numbered, sealed_len};
use super::io::{Output, RawSend, UdpSend, VnetHeader};
use super::sad::{NoNumber, Sa};
use super::verdict::DropReason;
use crate::control::{DfMode, Mode};
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::packet::{IpVersion, Parsed, Upper};
use crate::wire::tcp::{self, TcpFlags};
use crate::wire::{be32, ecn, ipv4, ipv6, protocol, udp, vnet};
use std::net::SocketAddr;
use std::ops::Range;

/// Most segments of one `UDP_SEGMENT` send (the kernel's `UDP_MAX_SEGMENTS` before Linux 6.9).
pub const MAX_UDP_SEGMENTS: usize = 64;
/// Least TCP payload that a super-packet is cut down to for a narrow path (RFC 9293 section 3.7.1: 536 is assumed of
/// everybody, but IPv6 options and overhead may take of it).
const MIN_TCP_SEGMENT: usize = 256;

/// Why a packet was not cut or sealed. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The offload header does not fit the packet.
    #[error("offload header does not fit its packet")]
    Offload,
    /// Longer than the path takes, and not TCP that could be cut smaller.
    #[error("{length} octets where {limit} fit")]
    TooBig {
        /// Length of the packet, or of the largest segment.
        length: usize,
        /// What fits.
        limit: usize,
    },
    /// Transport mode carries whole packets between its own endpoints, without hop-by-hop options.
    #[error("transport mode cannot carry it")]
    Transport,
    /// No number may be sent.
    #[error(transparent)]
    NoNumber(#[from] NoNumber),
}

impl From<SegmentError> for DropReason {
    fn from(e: SegmentError) -> Self {
        match e {
            SegmentError::Offload => Self::MalformedPacket,
            SegmentError::TooBig { .. } => Self::TooBig,
            SegmentError::Transport => Self::SelectorViolation,
            SegmentError::NoNumber(e) => e.into(),
        }
    }
}

/// How a packet is to be cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Length of all headers.
    pub(super) head: usize,
    /// Where the TCP or UDP header starts.
    upper: usize,
    /// Payload of each segment but the last.
    pub(super) size: usize,
    tcp: bool,
    v4: bool,
}

/// The offload header of a super-packet that came by another way than a TUN (GRE, with the segment size in its key);
/// `None` if the packet is no TCP or UDP packet that `segment` octets of payload would cut. Its checksum field holds the
/// sum of the pseudo header.
#[must_use]
pub fn super_header(parsed: &Parsed, segment: u16) -> Option<VnetHeader> {
    let (gso_type, upper_len, csum_offset) = match (parsed.upper, parsed.version) {
        (Upper::Tcp { header_len, .. }, version) => {
            let gso = if version == IpVersion::V4 { vnet::GSO_TCP4 } else { vnet::GSO_TCP6 };
            (gso, usize::from(header_len), tcp::CHECKSUM_AT)
        }
        (Upper::Ports { .. }, _) if parsed.protocol == protocol::UDP => {
            (vnet::GSO_UDP, udp::HEADER, udp::CHECKSUM_AT)
        }
        (Upper::Ports { .. } | Upper::Typed { .. } | Upper::Opaque | Upper::Cut, _) => return None,
    };
    let head = parsed.header_len + upper_len;
    if parsed.fragment.is_some() || segment == 0 || parsed.total_len <= head + usize::from(segment) {
        return None;
    }
    Some(VnetHeader {
        flags: vnet::NEEDS_CSUM,
        gso_type,
        hdr_len: u16::try_from(head).ok()?,
        gso_size: segment,
        csum_start: u16::try_from(parsed.header_len).ok()?,
        csum_offset: u16::try_from(csum_offset).ok()?,
    })
}

/// Completes the checksum of a packet that is no super-packet, as `VIRTIO_NET_HDR_F_NEEDS_CSUM` asks.
///
/// # Errors
/// When the offload header points outside of the packet.
pub fn complete_checksum(header: &VnetHeader, packet: &mut [u8]) -> Result<(), SegmentError> {
    if header.flags & vnet::NEEDS_CSUM == 0 {
        return Ok(());
    }
    let start = usize::from(header.csum_start);
    let at = start + usize::from(header.csum_offset);
    let covered = packet.get(start..).ok_or(SegmentError::Offload)?;
    let mut check = Sum::ZERO.with(covered).finish();
    if usize::from(header.csum_offset) == udp::CHECKSUM_AT && check == [0, 0] {
        check = [0xff, 0xff];
    }
    packet.get_mut(at..at + 2).ok_or(SegmentError::Offload)?.copy_from_slice(&check);
    Ok(())
}

/// `None`: the packet goes as it is.
pub(super) fn plan(header: &VnetHeader, parsed: &Parsed, limit: usize) -> Result<Option<Plan>, SegmentError> {
    let length = parsed.total_len;
    if !header.is_super() {
        return if length > limit { Err(SegmentError::TooBig { length, limit }) } else { Ok(None) };
    }
    let mut size = usize::from(header.gso_size);
    let v4 = parsed.version == IpVersion::V4;
    let (tcp, upper_len) = match (header.gso_type & !vnet::GSO_ECN, parsed.upper) {
        (vnet::GSO_TCP4, Upper::Tcp { header_len, .. }) if v4 => (true, usize::from(header_len)),
        (vnet::GSO_TCP6, Upper::Tcp { header_len, .. }) if !v4 => (true, usize::from(header_len)),
        (vnet::GSO_UDP, Upper::Ports { .. }) if parsed.protocol == protocol::UDP => (false, udp::HEADER),
        _ => return Err(SegmentError::Offload),
    };
    let head = parsed.header_len + upper_len;
    if parsed.fragment.is_some() || size == 0 || head > length {
        return Err(SegmentError::Offload);
    }
    if head + size > limit {
        let smaller = limit.saturating_sub(head);
        if !tcp || smaller < MIN_TCP_SEGMENT {
            return Err(SegmentError::TooBig { length: head + size, limit });
        }
        size = smaller;
    }
    Ok(Some(Plan { head, upper: parsed.header_len, size, tcp, v4 }))
}

impl Plan {
    pub(super) fn count(&self, length: usize) -> usize {
        (length - self.head).div_ceil(self.size).max(1)
    }

    /// Makes a copy of the headers and the data of segment `index` of `count` a packet of its own.
    pub(super) fn fix(&self, packet: &mut [u8], index: usize, count: usize) {
        let length = packet.len();
        let addresses = if self.v4 {
            write16(packet, 2, length);
            let id = u16::from_be_bytes([packet[4], packet[5]]);
            write16(packet, 4, (usize::from(id) + index) & 0xffff);
            ipv4::fill_checksum(&mut packet[..self.upper]);
            12..20
        } else {
            write16(packet, 4, length - ipv6::HEADER);
            8..40
        };
        let upper_length = length - self.upper;
        let proto = if self.tcp { protocol::TCP } else { protocol::UDP };
        // A packet has at most 65,535 octets by its header, so this fits.
        let pseudo = pseudo_header(&packet[addresses], proto, u32::try_from(upper_length).unwrap_or(0));
        let upper = &mut packet[self.upper..];
        let at = if self.tcp {
            // Sequence numbers wrap.
            #[allow(clippy::cast_possible_truncation, reason = "below 2^16")]
            let sequence = be32(upper, 4).wrapping_add((index * self.size) as u32);
            upper[4..8].copy_from_slice(&sequence.to_be_bytes());
            if index > 0 {
                upper[tcp::FLAGS_AT] &= !TcpFlags::CWR.0;
            }
            if index + 1 < count {
                upper[tcp::FLAGS_AT] &= !(TcpFlags::FIN.0 | TcpFlags::PSH.0);
            }
            tcp::CHECKSUM_AT
        } else {
            write16(upper, 4, upper_length);
            udp::CHECKSUM_AT
        };
        upper[at..at + 2].fill(0);
        let mut check = pseudo.with(upper).finish();
        if !self.tcp && check == [0, 0] {
            check = [0xff, 0xff];
        }
        upper[at..at + 2].copy_from_slice(&check);
    }
}

/// `n` is below 2^16.
#[allow(clippy::cast_possible_truncation, reason = "lengths of a packet and masked numbers")]
fn write16(b: &mut [u8], at: usize, n: usize) {
    b[at..at + 2].copy_from_slice(&(n as u16).to_be_bytes());
}

/// Seals what a TUN gave (or GRE, see [`super_header`]) and puts it out: one [`UdpSend`] as long as segments are equal, or
/// a [`RawSend`] for each; with AH whole packets for the TUN. `limit` is the longest inner packet ([`Sa::max_inner`]); a TCP super-packet with longer segments
/// is cut smaller. Returns the number of packets.
///
/// # Errors
/// Nothing is sent then.
pub fn seal(
    sa: &mut Sa,
    header: &VnetHeader,
    packet: &mut [u8],
    parsed: &Parsed,
    limit: usize,
    out: &mut Output,
) -> Result<u32, SegmentError> {
    let packet = packet.get_mut(..parsed.total_len).ok_or(SegmentError::Offload)?;
    let mut way = Way {
        tos: ecn::encapsulate(parsed.tos, sa.pair().copy_dscp),
        df: match sa.pair().df {
            DfMode::Copy => parsed.df,
            DfMode::Clear => false,
            DfMode::Set => true,
        },
    };
    let transport = sa.pair().mode == Mode::Transport;
    if transport {
        // The header stays the packet's own.
        way.tos = parsed.tos;
    }
    if sa.pair().suite.ah().is_some() {
        return super::ah::seal(sa, header, packet, parsed, limit, way, out);
    }
    if transport {
        return seal_transport(sa, header, packet, parsed, limit, way, out);
    }
    let next = packet_in_tunnel(packet);
    let Some(plan) = plan(header, parsed, limit)? else {
        complete_checksum(header, packet)?;
        let number = sa.take_numbers(1, packet.len() as u64, &mut out.sa_notices)?;
        let range = seal_numbered(sa, number, next, packet, &[], &mut out.bytes, |_| ());
        put(sa, range, way, out);
        return Ok(1);
    };
    let count = plan.count(packet.len());
    let (head, data) = packet.split_at(plan.head);
    let bytes = (count * plan.head + data.len()) as u64;
    let first = sa.take_numbers(count as u64, bytes, &mut out.sa_notices)?;
    out.bytes.reserve(count * sealed_len(sa, plan.head + plan.size));
    if data.is_empty() {
        let range = seal_numbered(sa, first, next, head, &[], &mut out.bytes, |p| plan.fix(p, 0, 1));
        put(sa, range, way, out);
    }
    for ((index, piece), number) in data.chunks(plan.size).enumerate().zip(first..) {
        let fix = |p: &mut [u8]| plan.fix(p, index, count);
        let range = seal_numbered(sa, number, next, head, piece, &mut out.bytes, fix);
        put(sa, range, way, out);
    }
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// As [`seal`], for transport mode: each segment is made whole first, then what follows its IP header is sealed.
fn seal_transport(
    sa: &mut Sa,
    header: &VnetHeader,
    packet: &mut [u8],
    parsed: &Parsed,
    limit: usize,
    way: Way,
    out: &mut Output,
) -> Result<u32, SegmentError> {
    let pair = sa.pair();
    let v4 = parsed.version == IpVersion::V4;
    // IPv4 options stay behind: the kernel makes the header. IPv6 extension headers are protected with the rest.
    let (start, next) = if v4 { (parsed.header_len, parsed.protocol) } else { (ipv6::HEADER, packet[6]) };
    if (parsed.source, parsed.destination) != (pair.local, pair.remote)
        || parsed.fragment.is_some()
        || next == protocol::HOP_BY_HOP && !v4
    {
        return Err(SegmentError::Transport);
    }
    let Some(plan) = plan(header, parsed, limit)? else {
        complete_checksum(header, packet)?;
        let number = sa.take_numbers(1, packet.len() as u64, &mut out.sa_notices)?;
        let range = seal_numbered(sa, number, next, &packet[start..], &[], &mut out.bytes, |_| ());
        put(sa, range, way, out);
        return Ok(1);
    };
    let count = plan.count(packet.len());
    let (head, data) = packet.split_at(plan.head);
    let bytes = (count * plan.head + data.len()) as u64;
    let first = sa.take_numbers(count as u64, bytes, &mut out.sa_notices)?;
    let mut whole = Vec::with_capacity(plan.head + plan.size);
    for index in 0..count {
        let from = index * plan.size;
        whole.clear();
        whole.extend_from_slice(head);
        whole.extend_from_slice(&data[from..data.len().min(from + plan.size)]);
        plan.fix(&mut whole, index, count);
        let number = first + index as u64;
        let range = seal_numbered(sa, number, next, &whole[start..], &[], &mut out.bytes, |_| ());
        put(sa, range, way, out);
    }
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Cuts a super-packet into packets in clear, each of at most `limit` octets and with `headroom` octets before it, and
/// hands each to `emit`. Returns the number of packets.
///
/// # Errors
/// Nothing is emitted then.
pub fn split(
    header: &VnetHeader,
    packet: &mut [u8],
    parsed: &Parsed,
    limit: usize,
    headroom: usize,
    out: &mut Output,
    mut emit: impl FnMut(&mut Output, Range<usize>),
) -> Result<u32, SegmentError> {
    let packet = packet.get_mut(..parsed.total_len).ok_or(SegmentError::Offload)?;
    let mut append = |out: &mut Output, parts: [&[u8]; 2], fix: &dyn Fn(&mut [u8])| {
        out.bytes.resize(out.bytes.len() + headroom, 0);
        let start = out.bytes.len();
        out.bytes.extend_from_slice(parts[0]);
        out.bytes.extend_from_slice(parts[1]);
        fix(&mut out.bytes[start..]);
        let range = start..out.bytes.len();
        emit(out, range);
    };
    let Some(plan) = plan(header, parsed, limit)? else {
        complete_checksum(header, packet)?;
        append(out, [packet, &[]], &|_| ());
        return Ok(1);
    };
    let count = plan.count(packet.len());
    let (head, data) = packet.split_at(plan.head);
    if data.is_empty() {
        append(out, [head, &[]], &|p| plan.fix(p, 0, 1));
    }
    for (index, piece) in data.chunks(plan.size).enumerate() {
        append(out, [head, piece], &|p| plan.fix(p, index, count));
    }
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// What the outer header takes from the inner one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) tos: u8,
    pub(super) df: bool,
}

/// Puts a sealed packet that ends the arena on its way; to the UDP datagrams before it where that is possible.
fn put(sa: &Sa, range: Range<usize>, way: Way, out: &mut Output) {
    let pair = sa.pair();
    let Some((own, port)) = pair.udp else {
        out.raw.push(RawSend {
            local: pair.local,
            remote: pair.remote,
            protocol: protocol::ESP,
            range,
            tos: way.tos,
            df: way.df,
        });
        return;
    };
    let (local, remote) = (SocketAddr::new(pair.local, own), SocketAddr::new(pair.remote, port));
    let length = range.len();
    if let Some(last) = out.udp.last_mut() {
        let full = last.range.len();
        let joins = last.range.end == range.start
            && length <= last.segment
            && full.is_multiple_of(last.segment)
            && full / last.segment < MAX_UDP_SEGMENTS
            && full + length <= udp::MAX_PAYLOAD
            && (last.tos, last.df) == (way.tos, way.df)
            && (last.local, last.remote) == (local, remote);
        if joins {
            last.range.end = range.end;
            return;
        }
    }
    out.udp.push(UdpSend { local, remote, range, segment: length, tos: way.tos, df: way.df });
}
