//! AH in tunnel and transport mode (RFC 4302), alone or around an ESP that only encrypts.
//!
//! ```text
//! tunnel      | outer IP | AH | IP packet |            | outer IP | AH | ESP( IP packet ) |
//! transport   | IP | AH | what followed it |           | IP | AH | ESP( what followed it ) |
//! ```
//! AH protects the header before it, so no kernel may write that: packets are made whole here, and go out by the TUN, as
//! those in clear do; those of the network come by it too.

use super::esp::{self, Content, OpenError, Opened, packet_in_tunnel};
use super::io::{Output, VnetHeader};
use super::sad::{Expired, Sa};
use super::segment::{self, SegmentError, Way};
use crate::control::{Mode, SaNotice};
use crate::wire::ah::{self, Ah, CoverError, FIXED};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, FRAGMENT_HEADER, Ipv6Header};
use crate::wire::packet::{IpVersion, Parsed};
use crate::wire::protocol;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Instant;

const HOP_LIMIT: u8 = 64;
/// Padding behind an ICV that a peer may send: it fills words of 8 octets (RFC 4302 section 2.6; Linux does so under IPv4 too).
const MAX_PAD: usize = 7;

impl From<CoverError> for OpenError {
    fn from(_: CoverError) -> Self {
        Self::AhHeader
    }
}

/// Where AH goes in a packet of transport mode.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Where it begins.
    at: usize,
    /// Where the header before it names it.
    next_at: usize,
}

/// Checks `packet`, one whole IP packet whose AH begins at `at`, and decrypts what is in it. The SPI is the one that `sa` was
/// found by. What is left is always an IP packet: in transport mode the one that the peer protected.
///
/// # Errors
/// Each is a packet to be dropped and counted.
pub fn open(
    sa: &mut Sa,
    packet: &mut [u8],
    at: usize,
    now: Instant,
    notices: &mut Vec<(u32, SaNotice)>,
) -> Result<Opened, OpenError> {
    if sa.is_inbound_closed() {
        return Err(OpenError::Closed);
    }
    if sa.is_expired() {
        return Err(Expired.into());
    }
    let length = packet.len();
    let (headers, rest) = packet.split_at_checked(at).ok_or(OpenError::TooShort(length))?;
    let header = Ah::new_checked(rest).ok_or(OpenError::AhHeader)?;
    let key = sa.ah_inbound().ok_or(OpenError::AhHeader)?;
    let icv = header.icv().get(..key.icv_len()).ok_or(OpenError::AhHeader)?;
    if header.icv().len() - icv.len() > MAX_PAD {
        return Err(OpenError::AhHeader);
    }
    let sequence = sa.check_number(header.sequence())?;
    let mut covered = Vec::with_capacity(at + header.len());
    let next_at = ah::cover(headers, &mut covered)?;
    covered.extend_from_slice(&rest[..header.len()]);
    // The padding counts as it is.
    covered[at + FIXED..at + FIXED + icv.len()].fill(0);
    let high = high_half(sequence).to_be_bytes();
    let high = if sa.pair().esn { &high[..] } else { &[] };
    key.verify(&[&covered, &rest[header.len()..], high], icv)?;
    let (next, payload) = (header.next_header(), at + header.len()..length);
    sa.accept_number(sequence);

    let inside = if sa.pair().suite.has_esp() {
        if next == protocol::ESP {
            esp::open_inside(sa, &mut packet[payload.clone()])
        } else {
            Err(OpenError::NextHeader(next))
        }
    } else {
        Ok((0..payload.len(), next))
    };
    sa.count_inbound(inside.as_ref().map_or(0, |(r, _)| r.len()) as u64, now, notices);
    let (inside, next) = inside?;
    let inner = payload.start + inside.start..payload.start + inside.end;
    let first = packet[inner.clone()].first().map(|b| b >> 4);
    match (next, sa.pair().mode, first) {
        (protocol::IPV4, Mode::Tunnel, Some(4)) => {
            Ok(Opened { inner, content: Content::Packet(IpVersion::V4) })
        }
        (protocol::IPV6, Mode::Tunnel, Some(6)) => {
            Ok(Opened { inner, content: Content::Packet(IpVersion::V6) })
        }
        (other, Mode::Tunnel, _) => Err(OpenError::NextHeader(other)),
        (next, Mode::Transport, _) => Ok(close_gap(packet, at, inner, next_at, next)),
    }
}

/// Moves the headers up to the payload and mends them.
fn close_gap(packet: &mut [u8], headers: usize, payload: Range<usize>, next_at: usize, next: u8) -> Opened {
    let start = payload.start - headers;
    packet.copy_within(..headers, start);
    let whole = &mut packet[start..payload.end];
    whole[next_at] = next;
    let v4 = whole[0] >> 4 == 4;
    write_lengths(whole, headers);
    let content = Content::Packet(if v4 { IpVersion::V4 } else { IpVersion::V6 });
    Opened { inner: start..payload.end, content }
}

/// Writes the length of a whole packet, and the checksum of IPv4, whose header has `headers` octets.
fn write_lengths(packet: &mut [u8], headers: usize) {
    let length = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
    if packet[0] >> 4 == 4 {
        let total = length(packet.len());
        packet[2..4].copy_from_slice(&total);
        ipv4::fill_checksum(&mut packet[..headers]);
    } else {
        let payload = length(packet.len() - ipv6::HEADER);
        packet[4..6].copy_from_slice(&payload);
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the high half")]
const fn high_half(sequence: u64) -> u32 {
    (sequence >> 32) as u32
}

/// As [`segment::seal`], for a pair with AH. The packets stand among those for the TUN.
pub(super) fn seal(
    sa: &mut Sa,
    header: &VnetHeader,
    packet: &mut [u8],
    parsed: &Parsed,
    limit: usize,
    way: Way,
    out: &mut Output,
) -> Result<u32, SegmentError> {
    let place = match sa.pair().mode {
        Mode::Tunnel => None,
        Mode::Transport => Some(transport_place(sa, packet, parsed)?),
    };
    let Some(plan) = segment::plan(header, parsed, limit)? else {
        segment::complete_checksum(header, packet)?;
        let longest = sa.max_inner(ipv4::MAX_PACKET);
        if packet.len() > longest {
            return Err(SegmentError::TooBig { length: packet.len(), limit: longest });
        }
        let number = sa.take_numbers(1, packet.len() as u64, &mut out.sa_notices)?;
        protect(sa, number, packet, place, way, out);
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
        protect(sa, first + index as u64, &whole, place, way, out);
    }
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Where AH goes: behind the IPv4 header, or the hop-by-hop options of IPv6 (RFC 4302 section 3.1.1).
fn transport_place(sa: &Sa, packet: &[u8], parsed: &Parsed) -> Result<Place, SegmentError> {
    let pair = sa.pair();
    if (parsed.source, parsed.destination) != (pair.local, pair.remote) || parsed.fragment.is_some() {
        return Err(SegmentError::Transport);
    }
    let place = match (parsed.version, packet.get(6), packet.get(ipv6::HEADER + 1)) {
        (IpVersion::V4, ..) => Place { at: parsed.header_len, next_at: 9 },
        (IpVersion::V6, Some(&protocol::HOP_BY_HOP), Some(words)) => {
            Place { at: ipv6::HEADER + (usize::from(*words) + 1) * 8, next_at: ipv6::HEADER }
        }
        (IpVersion::V6, ..) => Place { at: ipv6::HEADER, next_at: 6 },
    };
    // A source route changes the destination, which the peer would have to foresee.
    const ROUTES: [u8; 2] = [131, 137];
    let routed = match parsed.version {
        IpVersion::V4 => {
            packet.get(ipv4::MIN_HEADER..place.at).is_some_and(|o| ROUTES.iter().any(|r| o.contains(r)))
        }
        IpVersion::V6 => packet.get(place.next_at) == Some(&protocol::ROUTING),
    };
    let mut headers = packet.get(..place.at).ok_or(SegmentError::Transport)?.to_vec();
    headers[place.next_at] = protocol::AH;
    if routed || ah::cover(&headers, &mut Vec::new()).is_err() {
        return Err(SegmentError::Transport);
    }
    Ok(place)
}

/// Makes the packet that goes out of a whole one. Its length was checked.
fn protect(sa: &Sa, number: u64, packet: &[u8], place: Option<Place>, way: Way, out: &mut Output) {
    let Some(key) = sa.ah_outbound() else { return };
    let pair = sa.pair();
    let bytes = &mut out.bytes;
    let start = bytes.len();
    bytes.extend_from_slice(&VnetHeader::default().to_bytes());
    let ip_at = bytes.len();
    let (content, inside, next_at) = match place {
        None => {
            push_outer(pair.local, pair.remote, number, way, bytes);
            (packet, packet_in_tunnel(packet), if pair.remote.is_ipv4() { 9 } else { 6 })
        }
        Some(Place { at, next_at }) => {
            bytes.extend_from_slice(&packet[..at]);
            bytes[ip_at + next_at] = protocol::AH;
            (&packet[at..], packet[next_at], next_at)
        }
    };
    let ah_at = bytes.len();
    let length = ah::len(key.icv_len(), pair.remote.is_ipv4());
    let has_esp = pair.suite.has_esp();
    let next = if has_esp { protocol::ESP } else { inside };
    #[allow(clippy::cast_possible_truncation, reason = "the low half is what is sent")]
    bytes.extend_from_slice(&ah::header(next, length, pair.spi_out, number as u32));
    bytes.resize(ah_at + length, 0);
    if has_esp {
        esp::seal_numbered(sa, number, inside, content, &[], bytes, |_| ());
    } else {
        bytes.extend_from_slice(content);
    }
    write_lengths(&mut bytes[ip_at..], ah_at - ip_at);

    let mut covered = Vec::with_capacity(ah_at - ip_at);
    ah::cover(&bytes[ip_at..ah_at], &mut covered)
        .expect("a header that was made here, or looked at before a number was taken");
    let high = high_half(number).to_be_bytes();
    let high = if pair.esn { &high[..] } else { &[] };
    let icv = key.sign(&[&covered, &bytes[ah_at..], high], number);
    bytes[ah_at + FIXED..ah_at + FIXED + key.icv_len()].copy_from_slice(icv.as_slice());
    let mtu = usize::from(sa.path_mtu());
    if pair.remote.is_ipv6() && bytes.len() - ip_at > mtu {
        fragment(out, start, ah_at - ip_at, next_at, mtu, number);
    } else {
        out.host.push(start..out.bytes.len());
    }
}

/// The header of tunnel mode; its length is written later.
fn push_outer(local: IpAddr, remote: IpAddr, number: u64, way: Way, bytes: &mut Vec<u8>) {
    match (local, remote) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            // AH covers the identification, and Linux would fill in a zero.
            #[allow(clippy::cast_possible_truncation, reason = "it goes round (RFC 6864 section 4.3)")]
            let id = (number % 0xffff) as u16 + 1;
            let flags_and_offset = if way.df { ipv4::DF } else { 0 };
            let (total_len, ttl, protocol) = (0, HOP_LIMIT, protocol::AH);
            let header = Ipv4Header {
                tos: way.tos,
                total_len,
                id,
                flags_and_offset,
                ttl,
                protocol,
                source,
                destination,
            };
            bytes.extend_from_slice(&header.to_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                traffic_class: way.tos,
                flow_label: 0,
                payload_len: 0,
                next_header: protocol::AH,
                hop_limit: HOP_LIMIT,
                source,
                destination,
            };
            bytes.extend_from_slice(&header.to_bytes());
        }
        _ => unreachable!("a pair with endpoints of two families is not installed"),
    }
}

/// Cuts the IPv6 packet that ends the arena (its vnet header begins at `start`), of which `fixed` octets stand in every
/// fragment (RFC 8200 section 4.5): routers do not do it.
fn fragment(out: &mut Output, start: usize, fixed: usize, next_at: usize, mtu: usize, number: u64) {
    let whole = out.bytes.split_off(start + VnetHeader::default().to_bytes().len());
    out.bytes.truncate(start);
    let (fixed, data) = whole.split_at(fixed);
    // A path takes 1,280 octets at least (RFC 8200 section 5).
    let room = mtu.max(1280).saturating_sub(fixed.len() + FRAGMENT_HEADER);
    let size = (room - room % 8).max(8);
    #[allow(clippy::cast_possible_truncation, reason = "it goes round, after 2^32 packets")]
    let id = number as u32;
    for (index, piece) in data.chunks(size).enumerate() {
        let from = out.bytes.len();
        out.bytes.extend_from_slice(&VnetHeader::default().to_bytes());
        let ip_at = out.bytes.len();
        out.bytes.extend_from_slice(fixed);
        out.bytes[ip_at + next_at] = protocol::FRAGMENT;
        let more = u16::from((index + 1) * size < data.len());
        let offset = u16::try_from(index * size).unwrap_or(u16::MAX) & 0xfff8;
        out.bytes.extend_from_slice(&[protocol::AH, 0]);
        out.bytes.extend_from_slice(&(offset | more).to_be_bytes());
        out.bytes.extend_from_slice(&id.to_be_bytes());
        out.bytes.extend_from_slice(piece);
        write_lengths(&mut out.bytes[ip_at..], fixed.len());
        out.host.push(from..out.bytes.len());
    }
}
