//! What a datagram on port 4500 is (RFC 3948): keepalive, IKE behind its marker, or ESP.

/// The non-ESP marker before an IKE message (RFC 3948 section 2.2).
pub const NON_ESP_MARKER: [u8; 4] = [0; 4];
/// The only octet of a NAT keepalive (RFC 3948 section 2.3).
pub const KEEPALIVE: u8 = 0xff;
/// Length of an IKE header (RFC 7296 section 3.1).
pub const IKE_HEADER: usize = 28;

/// A datagram on port 4500.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encapsulated {
    /// A NAT keepalive: nothing to do.
    Keepalive,
    /// An IKE message: from this offset on.
    Ike(usize),
    /// An ESP packet with this SPI, never below 256.
    Esp(u32),
    /// Neither (threats T01, T40).
    Junk,
}

/// Judges one datagram that came to port 4500 (one piece of a `UDP_GRO` read).
#[must_use]
pub fn classify(datagram: &[u8]) -> Encapsulated {
    match datagram {
        [KEEPALIVE] => Encapsulated::Keepalive,
        [0, 0, 0, 0, ike @ ..] if ike.len() >= IKE_HEADER => Encapsulated::Ike(NON_ESP_MARKER.len()),
        [a, b, c, d, rest @ ..] => {
            let spi = u32::from_be_bytes([*a, *b, *c, *d]);
            if spi > crate::wire::esp::MAX_RESERVED_SPI && rest.len() >= 4 {
                Encapsulated::Esp(spi)
            } else {
                Encapsulated::Junk
            }
        }
        _ => Encapsulated::Junk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t01_short_datagrams() {
        assert_eq!(classify(&[]), Encapsulated::Junk);
        assert_eq!(classify(&[0xff]), Encapsulated::Keepalive);
        assert_eq!(classify(&[0xfe]), Encapsulated::Junk);
        assert_eq!(classify(&[0xff, 0xff]), Encapsulated::Junk);
        for n in 0..32 {
            assert_eq!(classify(&vec![0; n]), Encapsulated::Junk, "marker and {n} octets in all");
        }
        assert_eq!(classify(&[0; 32]), Encapsulated::Ike(4));
        assert_eq!(classify(&[0; 1500]), Encapsulated::Ike(4));
    }

    #[test]
    fn t33_t40_reserved_spis_are_not_esp() {
        let mut p = [0u8; 60];
        for spi in 1..=255u8 {
            p[3] = spi;
            assert_eq!(classify(&p), Encapsulated::Junk);
        }
        p[..4].copy_from_slice(&256u32.to_be_bytes());
        assert_eq!(classify(&p), Encapsulated::Esp(256));
        assert_eq!(classify(&p[..7]), Encapsulated::Junk);
        p[..4].copy_from_slice(&[0xff; 4]);
        assert_eq!(classify(&p), Encapsulated::Esp(u32::MAX));
    }
}
