//! ESP in tunnel mode (RFC 4303): sealing into the output arena, opening in place.
//!
//! ```text
//! | SPI | sequence number (low 32 bits) | IV | inner packet | padding 1,2,3… | pad length | next header | ICV |
//! ```

use super::replay::ReplayError;
use super::sad::{Expired, Sa};
use super::verdict::DropReason;
use crate::aead::{IntegrityError, MAX_ICV};
use crate::control::SaNotice;
use crate::wire::esp::{self, HEADER};
use crate::wire::packet::IpVersion;
use crate::wire::protocol;
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
    /// Authentic, but the pad length is larger than the content.
    #[error("pad length {0} is larger than the content")]
    PadLength(u8),
    /// Authentic, but the padding is not 1, 2, 3, ….
    #[error("wrong padding")]
    Padding,
    /// A dummy packet (RFC 4303 section 2.6).
    #[error("dummy packet")]
    Dummy,
    /// Authentic, but neither IPv4 nor IPv6 inside, or another version than the next header says.
    #[error("next header {0} and what follows are no IP packet")]
    NextHeader(u8),
    /// The lifetime in bytes is used up.
    #[error(transparent)]
    Expired(#[from] Expired),
}

impl From<OpenError> for DropReason {
    fn from(e: OpenError) -> Self {
        match e {
            OpenError::TooShort(_) | OpenError::Integrity(_) => Self::AuthenticationFailed,
            OpenError::Replay(_) => Self::Replay,
            OpenError::PadLength(_) | OpenError::Padding | OpenError::NextHeader(_) => Self::MalformedEsp,
            OpenError::Dummy => Self::Dummy,
            OpenError::Expired(_) => Self::SaExpired,
        }
    }
}

impl From<Expired> for DropReason {
    fn from(_: Expired) -> Self {
        Self::SaExpired
    }
}

/// Where the inner packet lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its place in the packet that was given to [`open`]. It may be longer than the inner IP header says (traffic flow
    /// confidentiality padding, RFC 4303 section 2.7).
    pub inner: Range<usize>,
    /// Its version: what the next header says and what it begins with.
    pub version: IpVersion,
}

/// Length of the ESP packet that an inner packet of `inner` octets becomes.
#[must_use]
pub fn sealed_len(sa: &Sa, inner: usize) -> usize {
    let suite = sa.pair().suite;
    HEADER + suite.iv_len() + (inner + TRAILER).next_multiple_of(suite.alignment()) + suite.icv_len()
}

/// Seals one inner packet, given in two pieces, and appends the ESP packet to `arena`; returns where it lies.
///
/// # Errors
/// When the SA is used up; nothing is appended then.
pub fn seal(
    sa: &mut Sa,
    head: &[u8],
    rest: &[u8],
    arena: &mut Vec<u8>,
    notices: &mut Vec<(u32, SaNotice)>,
) -> Result<Range<usize>, Expired> {
    let sequence = sa.take_numbers(1, (head.len() + rest.len()) as u64, notices)?;
    Ok(seal_numbered(sa, sequence, head, rest, arena, |_| ()))
}

/// As [`seal`], with a number taken before; `fix` may change the inner packet between copying and encryption.
pub(super) fn seal_numbered(
    sa: &Sa,
    sequence: u64,
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
    front[..HEADER].copy_from_slice(&esp::header(sa.pair().spi_out, sequence as u32));
    let front = &front[..HEADER + suite.iv_len()];
    arena.extend_from_slice(front);
    arena.extend_from_slice(head);
    arena.extend_from_slice(rest);
    fix(&mut arena[start + front.len()..]);

    let version = arena[start + front.len()..].first().map_or(0, |b| b >> 4);
    let mut back = [0u8; MAX_PAD + TRAILER + MAX_ICV];
    back[..pad].copy_from_slice(&PADDING[..pad]);
    #[allow(clippy::cast_possible_truncation, reason = "less than the alignment")]
    let pad_length = pad as u8;
    back[pad] = pad_length;
    back[pad + 1] = if version == 6 { protocol::IPV6 } else { protocol::IPV4 };
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
    if sa.is_expired() {
        return Err(Expired.into());
    }
    if packet.len() < before + TRAILER + after {
        return Err(OpenError::TooShort(packet.len()));
    }
    let low = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
    let sequence = sa.replay.check(low)?;
    #[allow(clippy::cast_possible_truncation, reason = "the high half")]
    let esn_high = sa.pair().esn.then_some((sequence >> 32) as u32);
    sa.opener.open(packet, esn_high)?;
    sa.replay.commit(sequence);

    let end = packet.len() - after;
    let text = &packet[before..end];
    let [content @ .., pad, next] = text else { return Err(OpenError::TooShort(packet.len())) };
    let inner_len = content.len().checked_sub(usize::from(*pad));
    sa.count_inbound(inner_len.unwrap_or(0) as u64, now, notices);
    let Some(inner_len) = inner_len else { return Err(OpenError::PadLength(*pad)) };
    if content[inner_len..] != PADDING[..usize::from(*pad)] {
        return Err(OpenError::Padding);
    }
    let version = match (*next, content[..inner_len].first().map(|b| b >> 4)) {
        (protocol::NO_NEXT, _) => return Err(OpenError::Dummy),
        (protocol::IPV4, Some(4)) => IpVersion::V4,
        (protocol::IPV6, Some(6)) => IpVersion::V6,
        (other, _) => return Err(OpenError::NextHeader(other)),
    };
    Ok(Opened { inner: before..before + inner_len, version })
}
