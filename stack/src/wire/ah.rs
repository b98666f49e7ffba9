//! The authentication header (RFC 4302 section 2), and what of the headers before it is authenticated (section 3.3.3.1).
//!
//! ```text
//! | next header | length in words - 2 | reserved | SPI | sequence number (low 32 bits) | ICV | padding |
//! ```

use super::{be32, ipv4, ipv6, protocol};

/// Everything before the ICV.
pub const FIXED: usize = 12;
/// Where the sequence number stands.
pub const SEQUENCE_AT: usize = 8;

/// IPv4 options that routers do not change (RFC 4302 appendix A1); every other one counts as zeros.
const IMMUTABLE_OPTIONS: [u8; 5] = [130, 133, 134, 148, 149];
/// The bit of an IPv6 option's type that says: routers may change the data (RFC 8200 section 4.2).
const MAY_CHANGE: u8 = 0x20;

/// An AH that lies inside its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Ah<'a> {
    header: &'a [u8],
}

impl<'a> Ah<'a> {
    /// `None` if cut off, or shorter by its length field than what every AH has.
    #[must_use]
    pub fn new_checked(bytes: &'a [u8]) -> Option<Self> {
        let length = (usize::from(*bytes.get(1)?) + 2) * 4;
        let header = bytes.get(..length).filter(|h| h.len() >= FIXED)?;
        Some(Self { header })
    }
    /// Protocol of what follows.
    #[must_use]
    pub fn next_header(&self) -> u8 {
        self.header[0]
    }
    /// Security parameters index.
    #[must_use]
    pub fn spi(&self) -> u32 {
        be32(self.header, 4)
    }
    /// The sequence number's low 32 bits.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        be32(self.header, SEQUENCE_AT)
    }
    /// ICV and padding.
    #[must_use]
    pub fn icv(&self) -> &'a [u8] {
        &self.header[FIXED..]
    }
    /// Length of the header.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub fn len(&self) -> usize {
        self.header.len()
    }
}

/// Length of an AH with an ICV of `icv` octets: whole words, of 8 octets under IPv6 (RFC 4302 section 2.6).
#[must_use]
pub const fn len(icv: usize, v4: bool) -> usize {
    (FIXED + icv).next_multiple_of(if v4 { 4 } else { 8 })
}

/// The header without its ICV; `len` is its length from [`len`].
#[must_use]
pub fn header(next_header: u8, len: usize, spi: u32, sequence: u32) -> [u8; FIXED] {
    let mut b = [0; FIXED];
    b[0] = next_header;
    // The longest ICV makes 12 words.
    b[1] = u8::try_from(len / 4 - 2).unwrap_or(u8::MAX);
    b[4..8].copy_from_slice(&spi.to_be_bytes());
    b[8..].copy_from_slice(&sequence.to_be_bytes());
    b
}

/// Headers that cannot stand before AH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CoverError {
    /// An IPv4 or IPv6 option that is cut off, or of no length.
    #[error("an option of type {0} is cut off")]
    Option(u8),
    /// An IPv6 extension header that is cut off or does not end where AH begins.
    #[error("extension header {0} does not end where it should")]
    Extension(u8),
    /// A route that has not come to its end, so that the addresses are not those of the end.
    #[error("a route that has not come to its end")]
    Route,
    /// A fragment header: AH is computed before fragmentation and checked behind reassembly.
    #[error("a fragment header before AH")]
    Fragment,
}

/// Appends what of `headers` the ICV covers: all that stands before AH, with what changes on the way as zeros. Returns where
/// in `headers` the protocol AH is named.
///
/// # Errors
/// When they cannot stand before AH; `covered` is of no use then.
pub fn cover(headers: &[u8], covered: &mut Vec<u8>) -> Result<usize, CoverError> {
    let start = covered.len();
    covered.extend_from_slice(headers);
    let copy = &mut covered[start..];
    if headers.first().is_some_and(|b| b >> 4 == 4) { cover_v4(copy) } else { cover_v6(copy) }
}

fn cover_v4(h: &mut [u8]) -> Result<usize, CoverError> {
    let Some((fixed, mut options)) = h.split_at_mut_checked(ipv4::MIN_HEADER) else {
        return Err(CoverError::Option(0));
    };
    // DSCP and ECN, flags and offset, TTL, checksum (section 3.3.3.1.1.1).
    fixed[1] = 0;
    fixed[6..9].fill(0);
    fixed[10..12].fill(0);
    while let [kind, ..] = *options {
        let length = match kind {
            // The end, and what pads behind it.
            0 => break,
            1 => 1,
            _ => match options.get(1) {
                Some(n) if *n >= 2 => usize::from(*n),
                _ => return Err(CoverError::Option(kind)),
            },
        };
        let Some((option, rest)) = options.split_at_mut_checked(length) else {
            return Err(CoverError::Option(kind));
        };
        if kind != 1 && !IMMUTABLE_OPTIONS.contains(&kind) {
            option.fill(0);
        }
        options = rest;
    }
    Ok(9)
}

fn cover_v6(h: &mut [u8]) -> Result<usize, CoverError> {
    if h.len() < ipv6::HEADER {
        return Err(CoverError::Extension(protocol::AH));
    }
    // Traffic class, flow label, hop limit (section 3.3.3.1.2.1).
    h[0] = 0x60;
    h[1..4].fill(0);
    h[7] = 0;
    let (mut next_at, mut at) = (6, ipv6::HEADER);
    while at < h.len() {
        let kind = h[next_at];
        let length = (usize::from(*h.get(at + 1).ok_or(CoverError::Extension(kind))?) + 1) * 8;
        let header = h.get_mut(at..at + length).ok_or(CoverError::Extension(kind))?;
        match kind {
            protocol::HOP_BY_HOP | protocol::DESTINATION => cover_options(&mut header[2..])?,
            protocol::ROUTING if header[3] != 0 => return Err(CoverError::Route),
            protocol::ROUTING => {}
            protocol::FRAGMENT => return Err(CoverError::Fragment),
            other => return Err(CoverError::Extension(other)),
        }
        (next_at, at) = (at, at + length);
    }
    if h[next_at] == protocol::AH { Ok(next_at) } else { Err(CoverError::Extension(h[next_at])) }
}

fn cover_options(mut options: &mut [u8]) -> Result<(), CoverError> {
    while let [kind, ..] = *options {
        let length = match (kind, options.get(1)) {
            (0, _) => 1,
            (_, Some(n)) => usize::from(*n) + 2,
            (_, None) => return Err(CoverError::Option(kind)),
        };
        let Some((option, rest)) = options.split_at_mut_checked(length) else {
            return Err(CoverError::Option(kind));
        };
        if kind & MAY_CHANGE != 0 {
            option[2..].fill(0);
        }
        options = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covered(headers: &[u8]) -> Result<(String, usize), CoverError> {
        let mut out = vec![0xee];
        let at = cover(headers, &mut out)?;
        Ok((hex::encode(&out[1..]), at))
    }
    fn hex(s: &str) -> Vec<u8> {
        hex::decode(s.replace(' ', "")).unwrap()
    }

    #[test]
    fn parse_of_write_is_the_same() {
        let b = [&header(6, len(12, true), 0x0102_0304, 0xfffe_fdfc)[..], &[7; 12], &[9]].concat();
        let ah = Ah::new_checked(&b).unwrap();
        assert_eq!((ah.next_header(), ah.spi(), ah.sequence()), (6, 0x0102_0304, 0xfffe_fdfc));
        assert_eq!((ah.icv(), ah.len()), (&[7; 12][..], 24));
        assert!((0..24).all(|n| Ah::new_checked(&b[..n]).is_none()));
        // RFC 4302 section 2.6: 64 bits under IPv6.
        assert_eq!([12, 16, 24, 32].map(|i| len(i, true)), [24, 28, 36, 44]);
        assert_eq!([12, 16, 24, 32].map(|i| len(i, false)), [24, 32, 40, 48]);
        assert!(Ah::new_checked(&[0, 0, 0, 0, 0, 0, 0, 0]).is_none(), "two words are no AH");
    }

    #[test]
    fn ipv4_fields_and_options_that_change_are_zero() {
        // Router alert stays, record route and an unknown option do not; what stands behind the end is padding.
        let h = hex(
            "4b b8 0064 1234 4000 3f 33 abcd 0a000001 0a000002 94040000 0107070403030303 5e030900 00aa0000",
        );
        let want = hex(
            "4b 00 0064 1234 0000 00 33 0000 0a000001 0a000002 94040000 0100000000000000 00000000 00aa0000",
        );
        // The last octet of the unknown option's word is the end of the list.
        let mut want = want;
        want[35] = h[35];
        assert_eq!(covered(&h[..]), Ok((hex::encode(want), 9)));
        assert_eq!(
            covered(&hex("46 00 0018 0000 0000 40 33 0000 0a000001 0a000002 07090000")),
            Err(CoverError::Option(7))
        );
        assert_eq!(
            covered(&hex("46 00 0018 0000 0000 40 33 0000 0a000001 0a000002 07000000")),
            Err(CoverError::Option(7))
        );
    }

    #[test]
    fn ipv6_fields_and_options_that_change_are_zero() {
        let addresses = "20010db8000000000000000000000001 20010db8000000000000000000000002";
        let v6 =
            |next: &str, extensions: &str| hex(&format!("6b812345 0040 {next} 3f {addresses} {extensions}"));
        let want = |next: &str, extensions: &str| {
            hex::encode(hex(&format!("60000000 0040 {next} 00 {addresses} {extensions}")))
        };
        assert_eq!(covered(&v6("33", "")), Ok((want("33", ""), 6)));
        // Hop by hop: one option that may change, one that may not; destination options behind it.
        let (hop, dest) = ("3c00 3e02ffff 0500", "3300 0102ffff 0000");
        assert_eq!(
            covered(&v6("00", &format!("{hop} {dest}"))),
            Ok((want("00", &format!("3c00 3e020000 0500 {dest}")), 48))
        );
        assert_eq!(covered(&v6("2b", "3300 0201 00000000")), Err(CoverError::Route));
        assert!(covered(&v6("2b", "3300 0200 00000000")).is_ok());
        assert_eq!(covered(&v6("2c", "3300 0000 00000001")), Err(CoverError::Fragment));
        assert_eq!(covered(&v6("00", "3300 01")), Err(CoverError::Extension(0)));
        assert_eq!(covered(&v6("00", "3300 01070000 0000")), Err(CoverError::Option(1)));
        assert_eq!(covered(&v6("06", "")), Err(CoverError::Extension(6)));
    }

    proptest! {
        #[test]
        fn t37_no_header_panics_and_none_changes_its_length(h in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = vec![];
            if cover(&h, &mut out).is_ok() {
                prop_assert_eq!(out.len(), h.len());
            }
            let _ = Ah::new_checked(&h);
        }
    }
}
