//! ESP in tunnel and transport mode (RFC 4303): sealing into the output arena, opening in place.
//!
//! ```text
//! | SPI | sequence number (low 32 bits) | IV | content | padding 1,2,3… | pad length | next header | ICV |
//! ```
//! The content is an IP packet in tunnel mode, and what follows the IP header in transport mode. There the kernel makes
//! the IP header on the way out, and [`restore_packet`] on the way in.

use super::replay::ReplayError;
use super::sad::{Expired, NoNumber, Sa};
use super::verdict::DropReason;
use crate::aead::{IntegrityError, MAX_ICV};
use crate::control::{Mode, SaNotice};
use crate::wire::checksum::pseudo_header;
use crate::wire::esp::{self, HEADER};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::packet::IpVersion;
use crate::wire::{protocol, tcp, udp};
use std::net::IpAddr;
use std::ops::Range;
use std::time::Instant;

/// Pad length and next header.
const TRAILER: usize = 2;
/// Longest padding that we write: the alignment of AES-CBC less one.
const MAX_PAD: usize = 15;
/// The default padding (RFC 4303 section 2.4): 1, 2, 3, …
const PADDING: [u8; 255] = {
    let mut p = [0u8; 255];
    let mut i = 0u8;
    while i < 255 {
        p[i as usize] = i + 1;
        i += 1;
    }
    p
};

/// Why a packet did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not even room for header, IV, one block and ICV.
    #[error("{0} octets are no ESP packet")]
    TooShort(usize),
    /// Seen before, or left of the window.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The integrity check failed.
    #[error(transparent)]
    Integrity(#[from] IntegrityError),
    /// AH whose length, ICV or the headers before it cannot be.
    #[error("no AH that can be checked")]
    AhHeader,
    /// Authentic, but the pad length is larger than the content.
    #[error("pad length {0} is larger than the content")]
    PadLength(u8),
    /// Authentic, but the padding is not 1, 2, 3, ….
    #[error("wrong padding")]
    Padding,
    /// A dummy packet (RFC 4303 section 2.6).
    #[error("dummy packet")]
    Dummy,
    /// Authentic, but in tunnel mode neither IPv4 nor IPv6 inside, or another version than the next header says.
    #[error("next header {0} and what follows are no IP packet")]
    NextHeader(u8),
    /// The lifetime in bytes is used up.
    #[error(transparent)]
    Expired(#[from] Expired),
    /// It goes on from an earlier owner, and nobody knows what that one accepted.
    #[error("nothing is accepted on a continued SA whose replay window is lost")]
    Closed,
}

impl From<OpenError> for DropReason {
    fn from(e: OpenError) -> Self {
        match e {
            OpenError::TooShort(_) | OpenError::Integrity(_) => Self::AuthenticationFailed,
            OpenError::Replay(_) => Self::Replay,
            OpenError::AhHeader => Self::MalformedAh,
            OpenError::PadLength(_) | OpenError::Padding | OpenError::NextHeader(_) => Self::MalformedEsp,
            OpenError::Dummy => Self::Dummy,
            OpenError::Expired(_) => Self::SaExpired,
            OpenError::Closed => Self::ContinuedInboundClosed,
        }
    }
}

impl From<NoNumber> for DropReason {
    fn from(e: NoNumber) -> Self {
        match e {
            NoNumber::Expired(_) => Self::SaExpired,
            NoNumber::Ceiling => Self::CeilingReached,
        }
    }
}

/// Where the content lies, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its place in the packet that was given to [`open`]. In tunnel mode it may be longer than the inner IP header says
    /// (traffic flow confidentiality padding, RFC 4303 section 2.7).
    pub inner: Range<usize>,
    /// What it is.
    pub content: Content,
}

/// What was protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Tunnel mode: an IP packet. The version is what the next header says and what it begins with.
    Packet(IpVersion),
    /// Transport mode: what follows the IP header, of this protocol; see [`restore_packet`].
    Payload(u8),
}

/// A payload that no IP packet can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} octets do not fit an IP packet")]
pub struct PayloadTooLong(pub usize);

/// Length of the ESP packet that a content of `content` octets becomes.
#[must_use]
pub fn sealed_len(sa: &Sa, content: usize) -> usize {
    let suite = sa.pair().suite;
    HEADER + suite.iv_len() + (content + TRAILER).next_multiple_of(suite.alignment()) + suite.icv_len()
}

/// Seals one IP packet for tunnel mode, given in two pieces, and appends the ESP packet to `arena`; returns where it lies.
///
/// # Errors
/// When the SA has no number to send; nothing is appended then.
pub fn seal(
    sa: &mut Sa,
    head: &[u8],
    rest: &[u8],
    arena: &mut Vec<u8>,
    notices: &mut Vec<(u32, SaNotice)>,
) -> Result<Range<usize>, NoNumber> {
    let sequence = sa.take_numbers(1, (head.len() + rest.len()) as u64, notices)?;
    Ok(seal_numbered(sa, sequence, packet_in_tunnel(head), head, rest, arena, |_| ()))
}

/// The next header of a packet in a tunnel.
pub(super) fn packet_in_tunnel(packet: &[u8]) -> u8 {
    if packet.first().is_some_and(|b| b >> 4 == 6) { protocol::IPV6 } else { protocol::IPV4 }
}

/// Seals a content in two pieces, with a number taken before; `fix` may change it between copying and encryption.
pub(super) fn seal_numbered(
    sa: &Sa,
    sequence: u64,
    next_header: u8,
    head: &[u8],
    rest: &[u8],
    arena: &mut Vec<u8>,
    fix: impl FnOnce(&mut [u8]),
) -> Range<usize> {
    let suite = sa.pair().suite;
    let inner = head.len() + rest.len();
    let padded = (inner + TRAILER).next_multiple_of(suite.alignment());
    let pad = padded - inner - TRAILER;
    let start = arena.len();
    arena.reserve(sealed_len(sa, inner));

    let mut front = [0u8; HEADER + crate::aead::MAX_IV];
    #[allow(clippy::cast_possible_truncation, reason = "the low half is what is sent")]
    front[..HEADER].copy_from_slice(&esp::header(sa.esp_spi_out(), sequence as u32));
    let front = &front[..HEADER + suite.iv_len()];
    arena.extend_from_slice(front);
    arena.extend_from_slice(head);
    arena.extend_from_slice(rest);
    fix(&mut arena[start + front.len()..]);

    let mut back = [0u8; MAX_PAD + TRAILER + MAX_ICV];
    back[..pad].copy_from_slice(&PADDING[..pad]);
    #[allow(clippy::cast_possible_truncation, reason = "less than the alignment")]
    let pad_length = pad as u8;
    back[pad] = pad_length;
    back[pad + 1] = next_header;
    arena.extend_from_slice(&back[..pad + TRAILER + suite.icv_len()]);

    sa.sealer
        .seal(&mut arena[start..], sequence, sa.pair().esn)
        .expect("the lengths are those of the suite, and far below a cipher's limits");
    start..arena.len()
}

/// Opens `packet`, from the ESP header to the ICV, in place. The SPI is the one that `sa` was found by.
///
/// What the packet says is believed, counted and marked as seen only after the integrity check.
///
/// # Errors
/// Each is a packet to be dropped and counted, see its conversion to [`DropReason`].
pub fn open(
    sa: &mut Sa,
    packet: &mut [u8],
    now: Instant,
    notices: &mut Vec<(u32, SaNotice)>,
) -> Result<Opened, OpenError> {
    let suite = sa.pair().suite;
    let (before, after) = (HEADER + suite.iv_len(), suite.icv_len());
    if sa.is_inbound_closed() {
        return Err(OpenError::Closed);
    }
    if sa.is_expired() {
        return Err(Expired.into());
    }
    if packet.len() < before + TRAILER + after {
        return Err(OpenError::TooShort(packet.len()));
    }
    let low = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
    let sequence = sa.check_number(low)?;
    #[allow(clippy::cast_possible_truncation, reason = "the high half")]
    let esn_high = sa.pair().esn.then_some((sequence >> 32) as u32);
    sa.opener.open(packet, esn_high)?;
    sa.accept_number(sequence);

    let end = packet.len() - after;
    let text = &packet[before..end];
    let unpadded = unpad(text);
    sa.count_inbound(unpadded.map_or(0, |(n, _)| n) as u64, now, notices);
    let (inner_len, next) = unpadded?;
    let content = match (next, sa.pair().mode, text[..inner_len].first().map(|b| b >> 4)) {
        (protocol::NO_NEXT, _, _) => return Err(OpenError::Dummy),
        (next, Mode::Transport, _) => Content::Payload(next),
        (protocol::IPV4, Mode::Tunnel, Some(4)) => Content::Packet(IpVersion::V4),
        (protocol::IPV6, Mode::Tunnel, Some(6)) => Content::Packet(IpVersion::V6),
        (other, Mode::Tunnel, _) => return Err(OpenError::NextHeader(other)),
    };
    Ok(Opened { inner: before..before + inner_len, content })
}

/// Length of what stands before padding and trailer, and the next header.
fn unpad(text: &[u8]) -> Result<(usize, u8), OpenError> {
    let [content @ .., pad, next] = text else { return Err(OpenError::TooShort(text.len())) };
    let inner_len = content.len().checked_sub(usize::from(*pad)).ok_or(OpenError::PadLength(*pad))?;
    if content[inner_len..] != PADDING[..usize::from(*pad)] {
        return Err(OpenError::Padding);
    }
    Ok((inner_len, *next))
}

/// Decrypts an ESP packet that AH has authenticated, in place: where in it the content lies, and its next header.
pub(super) fn open_inside(sa: &Sa, packet: &mut [u8]) -> Result<(Range<usize>, u8), OpenError> {
    let suite = sa.pair().suite;
    let (before, length) = (HEADER + suite.iv_len(), packet.len());
    let spi = esp::Esp::new_checked(packet).map(|e| e.spi());
    if length < before + TRAILER || spi != sa.esp_spi_in() {
        return Err(OpenError::TooShort(length));
    }
    sa.opener.open(packet, None)?;
    let (inner, next) = unpad(&packet[before..])?;
    Ok((before..before + inner, next))
}

/// Makes the IP packet that a payload of transport mode came in, in place of what `packet` held. The outer header did not
/// come with it: addresses are those of the SA, `tos` that of the arrival, and the hop limit is not known any more.
///
/// Behind a NAT the checksums of TCP and UDP were made with other addresses; they are made anew, as ESP has verified the
/// payload (RFC 3948 section 3.1.2).
///
/// # Errors
/// When the payload is longer than an IP packet's.
pub fn restore_packet(
    sa: &Sa,
    protocol: u8,
    payload: &[u8],
    tos: u8,
    packet: &mut Vec<u8>,
) -> Result<(), PayloadTooLong> {
    const HOP_LIMIT: u8 = 64;
    let pair = sa.pair();
    let too_long = |_| PayloadTooLong(payload.len());
    packet.clear();
    match (pair.remote, pair.local) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total_len = u16::try_from(ipv4::MIN_HEADER + payload.len()).map_err(too_long)?;
            // Whole and not to be fragmented: the identification means nothing (RFC 6864 section 4.1).
            let (id, flags_and_offset, ttl) = (0, ipv4::DF, HOP_LIMIT);
            let header =
                Ipv4Header { tos, total_len, id, flags_and_offset, ttl, protocol, source, destination };
            packet.extend_from_slice(&header.to_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let payload_len = u16::try_from(payload.len()).map_err(too_long)?;
            let header = Ipv6Header {
                traffic_class: tos,
                flow_label: 0,
                payload_len,
                next_header: protocol,
                hop_limit: HOP_LIMIT,
                source,
                destination,
            };
            packet.extend_from_slice(&header.to_bytes());
        }
        // Such a pair is not installed.
        _ => return Err(PayloadTooLong(payload.len())),
    }
    packet.extend_from_slice(payload);
    if pair.udp.is_some() {
        renew_checksum(packet, protocol, pair.local.is_ipv4());
    }
    Ok(())
}

/// Computes the checksum of a TCP segment or UDP datagram (that has one) behind an IP header without options.
fn renew_checksum(packet: &mut [u8], proto: u8, v4: bool) {
    let (addresses, upper_at) = if v4 { (12..20, ipv4::MIN_HEADER) } else { (8..40, ipv6::HEADER) };
    let at = match proto {
        protocol::TCP => tcp::CHECKSUM_AT,
        protocol::UDP => udp::CHECKSUM_AT,
        _ => return,
    };
    let (header, upper) = packet.split_at_mut(upper_at);
    let Ok(length) = u32::try_from(upper.len()) else { return };
    let Some(field) = upper.get_mut(at..at + 2) else { return };
    if proto == protocol::UDP && *field == [0, 0] {
        return;
    }
    field.fill(0);
    let mut check = pseudo_header(&header[addresses], proto, length).with(upper).finish();
    if proto == protocol::UDP && check == [0, 0] {
        check = [0xff, 0xff];
    }
    upper[at..at + 2].copy_from_slice(&check);
}
