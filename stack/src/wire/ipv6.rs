//! IPv6 (RFC 8200): view, writer and a bounded walk over the extension headers.

use super::{array, be16, be32, protocol};
use std::net::Ipv6Addr;

/// Length of the fixed header.
pub const HEADER: usize = 40;
/// Length of the fragment header.
pub const FRAGMENT_HEADER: usize = 8;
/// Extension headers that are looked at before the packet is called malformed (threats T37).
pub const MAX_EXTENSIONS: usize = 8;

/// What is wrong with an IPv6 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ipv6Error {
    /// Shorter than a header.
    #[error("{0} octets are no IPv6 header")]
    Short(usize),
    /// Not version 6.
    #[error("IP version {0}")]
    Version(u8),
    /// Payload length beyond the packet.
    #[error("IPv6 payload length {payload} in {have} octets")]
    PayloadLength {
        /// What the header says.
        payload: usize,
        /// What is there.
        have: usize,
    },
    /// An extension header goes beyond the packet.
    #[error("IPv6 extension header {0} is cut off")]
    ExtensionCut(u8),
    /// More extension headers than [`MAX_EXTENSIONS`].
    #[error("more than {MAX_EXTENSIONS} IPv6 extension headers")]
    TooManyExtensions,
    /// A hop-by-hop header that is not the first, or a second fragment header (RFC 8200 section 4.1).
    #[error("IPv6 extension header {0} out of order")]
    ExtensionOrder(u8),
}

/// A packet whose header lies inside its bytes. Bytes beyond the payload length are cut off.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6<'a> {
    bytes: &'a [u8],
}

/// Where the walk over the extension headers ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upper {
    /// Protocol of the upper layer, or of what follows the fragment header of a fragment that is not the first.
    pub protocol: u8,
    /// Where it starts.
    pub offset: usize,
    /// The fragment header, if there is one.
    pub fragment: Option<FragmentHeader>,
}

/// The fragment header and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentHeader {
    /// Where it stands in the packet.
    pub at: usize,
    /// Offset of the "next header" octet that leads to it.
    pub next_header_at: usize,
    /// What follows.
    pub next_header: u8,
    /// Fragment offset in octets.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

impl<'a> Ipv6<'a> {
    /// Checks version and payload length.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Ipv6Error> {
        if bytes.len() < HEADER {
            return Err(Ipv6Error::Short(bytes.len()));
        }
        if bytes[0] >> 4 != 6 {
            return Err(Ipv6Error::Version(bytes[0] >> 4));
        }
        let payload = usize::from(be16(bytes, 4));
        if HEADER + payload > bytes.len() {
            return Err(Ipv6Error::PayloadLength { payload, have: bytes.len() });
        }
        Ok(Self { bytes: &bytes[..HEADER + payload] })
    }
    /// The packet, as long as its payload length says.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
    /// Traffic class: DSCP and ECN.
    #[must_use]
    pub fn traffic_class(&self) -> u8 {
        (self.bytes[0] << 4) | (self.bytes[1] >> 4)
    }
    /// Flow label.
    #[must_use]
    pub fn flow_label(&self) -> u32 {
        be32(self.bytes, 0) & 0x000f_ffff
    }
    /// First next header.
    #[must_use]
    pub fn next_header(&self) -> u8 {
        self.bytes[6]
    }
    /// Hop limit.
    #[must_use]
    pub fn hop_limit(&self) -> u8 {
        self.bytes[7]
    }
    /// Source address.
    #[must_use]
    pub fn source(&self) -> Ipv6Addr {
        array::<16>(self.bytes, 8).into()
    }
    /// Destination address.
    #[must_use]
    pub fn destination(&self) -> Ipv6Addr {
        array::<16>(self.bytes, 24).into()
    }

    /// Walks the extension headers to the upper layer.
    pub fn upper(&self) -> Result<Upper, Ipv6Error> {
        let b = self.bytes;
        let (mut next, mut at, mut next_at) = (self.next_header(), HEADER, 6);
        let mut fragment: Option<FragmentHeader> = None;
        for walked in 0..=MAX_EXTENSIONS {
            let length = match next {
                protocol::HOP_BY_HOP if walked > 0 => return Err(Ipv6Error::ExtensionOrder(next)),
                protocol::FRAGMENT if fragment.is_some() => return Err(Ipv6Error::ExtensionOrder(next)),
                protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION => {
                    let Some(n) = b.get(at + 1) else { return Err(Ipv6Error::ExtensionCut(next)) };
                    (usize::from(*n) + 1) * 8
                }
                protocol::FRAGMENT => FRAGMENT_HEADER,
                _ => return Ok(Upper { protocol: next, offset: at, fragment }),
            };
            if walked == MAX_EXTENSIONS {
                break;
            }
            if at + length > b.len() {
                return Err(Ipv6Error::ExtensionCut(next));
            }
            if next == protocol::FRAGMENT {
                let field = be16(b, at + 2);
                let f = FragmentHeader {
                    at,
                    next_header_at: next_at,
                    next_header: b[at],
                    offset: field & 0xfff8,
                    more: field & 1 != 0,
                    id: be32(b, at + 4),
                };
                fragment = Some(f);
                if f.offset != 0 {
                    // What follows is data, not a header (RFC 8200 section 4.5).
                    return Ok(Upper { protocol: f.next_header, offset: at + FRAGMENT_HEADER, fragment });
                }
            }
            next = b[at];
            next_at = at;
            at += length;
        }
        Err(Ipv6Error::TooManyExtensions)
    }
}

/// A header to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Length of what follows the header.
    pub payload_len: u16,
    /// First next header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Ipv6Header {
    /// The 40 octets.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        let first = (6 << 28) | (u32::from(self.traffic_class) << 20) | (self.flow_label & 0x000f_ffff);
        b[..4].copy_from_slice(&first.to_be_bytes());
        b[4..6].copy_from_slice(&self.payload_len.to_be_bytes());
        b[6] = self.next_header;
        b[7] = self.hop_limit;
        b[8..24].copy_from_slice(&self.source.octets());
        b[24..40].copy_from_slice(&self.destination.octets());
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(next: u8, payload: &[u8]) -> Vec<u8> {
        let h = Ipv6Header {
            traffic_class: 0,
            flow_label: 0,
            payload_len: u16::try_from(payload.len()).unwrap(),
            next_header: next,
            hop_limit: 64,
            source: Ipv6Addr::LOCALHOST,
            destination: Ipv6Addr::LOCALHOST,
        };
        let mut v = h.to_bytes().to_vec();
        v.extend_from_slice(payload);
        v
    }

    fn upper(p: &[u8]) -> Result<Upper, Ipv6Error> {
        Ipv6::new_checked(p)?.upper()
    }

    #[test]
    fn walks_to_the_upper_layer() {
        assert_eq!(upper(&packet(6, &[0; 20])), Ok(Upper { protocol: 6, offset: 40, fragment: None }));
        let mut p = vec![60, 0, 0, 0, 0, 0, 0, 0, 17, 1];
        p.resize(24, 0);
        assert_eq!(upper(&packet(0, &p)), Ok(Upper { protocol: 17, offset: 64, fragment: None }));
        let f = upper(&packet(44, &[17, 0, 0, 9, 0, 0, 0, 7, 1, 2])).unwrap();
        let want =
            FragmentHeader { at: 40, next_header_at: 6, next_header: 17, offset: 8, more: true, id: 7 };
        assert_eq!(f, Upper { protocol: 17, offset: 48, fragment: Some(want) });
    }

    #[test]
    fn t37_extension_chains() {
        // Exactly the limit, then one more, then endless.
        let chain = |n: usize| {
            let mut p = [60u8, 0, 0, 0, 0, 0, 0, 0].repeat(n);
            if n > 0 {
                p[(n - 1) * 8] = 59;
            }
            packet(60, &p)
        };
        assert_eq!(upper(&chain(MAX_EXTENSIONS)).map(|u| u.protocol), Ok(59));
        assert_eq!(upper(&chain(MAX_EXTENSIONS + 1)), Err(Ipv6Error::TooManyExtensions));
        assert_eq!(
            upper(&packet(60, &[60u8, 0, 0, 0, 0, 0, 0, 0].repeat(8000))),
            Err(Ipv6Error::TooManyExtensions)
        );
        assert_eq!(upper(&packet(43, &[6, 255, 0, 0])), Err(Ipv6Error::ExtensionCut(43)));
        assert_eq!(upper(&packet(43, &[6])), Err(Ipv6Error::ExtensionCut(43)));
        assert_eq!(upper(&packet(44, &[6, 0, 0, 0])), Err(Ipv6Error::ExtensionCut(44)));
        assert_eq!(
            upper(&packet(60, &[0u8, 0, 0, 0, 0, 0, 0, 0].repeat(2))),
            Err(Ipv6Error::ExtensionOrder(0))
        );
        assert_eq!(
            upper(&packet(44, &[44u8, 0, 0, 0, 0, 0, 0, 0].repeat(2))),
            Err(Ipv6Error::ExtensionOrder(44))
        );
    }

    #[test]
    fn t37_lengths_that_lie() {
        let mut p = packet(59, &[1, 2, 3]);
        p[5] = 4;
        assert_eq!(upper(&p), Err(Ipv6Error::PayloadLength { payload: 4, have: 43 }));
        p[0] = 0x00;
        assert_eq!(upper(&p), Err(Ipv6Error::Version(0)));
        assert_eq!(upper(&p[..39]), Err(Ipv6Error::Short(39)));
    }

    proptest! {
        #[test]
        fn parse_of_write_is_the_same(tc: u8, fl in 0u32..0x10_0000, nh: u8, hl: u8, s: [u8; 16], d: [u8; 16]) {
            let h = Ipv6Header { traffic_class: tc, flow_label: fl, payload_len: 0, next_header: nh, hop_limit: hl, source: s.into(), destination: d.into() };
            let b = h.to_bytes();
            let v = Ipv6::new_checked(&b).unwrap();
            prop_assert_eq!(h, Ipv6Header { traffic_class: v.traffic_class(), flow_label: v.flow_label(), payload_len: 0,
                next_header: v.next_header(), hop_limit: v.hop_limit(), source: v.source(), destination: v.destination() });
        }

        #[test]
        fn random_bytes_never_panic(mut b in proptest::collection::vec(any::<u8>(), 40..200), nh in prop::sample::select(vec![0u8, 43, 44, 60])) {
            b[0] = 0x60;
            b[4] = 0;
            b[6] = nh;
            let _ = upper(&b);
        }
    }
}
