//! The Internet checksum (RFC 1071), wide and incremental (RFC 1624).
//!
//! Sums are kept in the byte order of the machine: one's complement addition does not care (RFC 1071 section 2 B), so
//! no octet is swapped. Results are two octets as they stand in the packet.

/// A running one's complement sum.
///
/// Every piece but the last has an even length; of the last, a missing octet counts as zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Nothing summed.
    pub const ZERO: Self = Self(0);

    /// Adds octets.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        // Independent lanes of 32-bit words in 64-bit sums: no carry to propagate, and the compiler makes vectors of it.
        let mut lanes = [0u64; 8];
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            let (words, _) = block.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let mut sum: u64 = lanes.iter().sum();
        let (pairs, odd) = rest.as_chunks::<2>();
        for pair in pairs {
            sum += u64::from(u16::from_ne_bytes(*pair));
        }
        if let [last] = odd {
            sum += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        // A packet has at most 2^16 octets, so the total stays far below 2^64; folding keeps it so for any input.
        Self(fold32(self.0) + fold32(sum))
    }

    /// Adds a 16-bit number.
    #[must_use]
    pub fn add_u16(self, n: u16) -> Self {
        Self(self.0 + u64::from(u16::from_ne_bytes(n.to_be_bytes())))
    }

    /// Adds what another sum holds (of a piece of even length, or of the last).
    #[must_use]
    pub fn add_sum(self, other: Self) -> Self {
        Self(fold32(self.0) + fold32(other.0))
    }

    /// The sum, folded to 16 bits, not complemented: what `VIRTIO_NET_HDR_F_NEEDS_CSUM` wants of the pseudo header.
    #[must_use]
    pub fn folded(self) -> [u8; 2] {
        fold(self.0).to_ne_bytes()
    }

    /// The checksum of what was summed.
    #[must_use]
    pub fn finish(self) -> [u8; 2] {
        (!fold(self.0)).to_ne_bytes()
    }

    /// Whether the octets, checksum field included, sum to what a correct packet does.
    #[must_use]
    pub fn is_valid(self) -> bool {
        fold(self.0) == 0xffff
    }
}

fn fold32(s: u64) -> u64 {
    (s >> 32) + (s & 0xffff_ffff)
}

#[allow(clippy::cast_possible_truncation, reason = "the loop ends below 2^16")]
fn fold(mut s: u64) -> u16 {
    while s > 0xffff {
        s = (s >> 16) + (s & 0xffff);
    }
    s as u16
}

/// Sum of the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1). `addresses` are source and destination as
/// they stand in the IP header (8 or 32 octets), `length` is that of the upper-layer header and data.
#[must_use]
pub fn pseudo_header(addresses: &[u8], protocol: u8, length: u32) -> Sum {
    Sum::ZERO.with(addresses).with(&[0, protocol]).with(&length.to_be_bytes())
}

/// The checksum after `old` octets became `new` ones: HC' = ~(~HC + ~m + m') (RFC 1624 section 3).
///
/// Both have the same even length and begin at an even offset.
#[must_use]
pub fn update(checksum: [u8; 2], old: &[u8], new: &[u8]) -> [u8; 2] {
    debug_assert!(old.len() == new.len() && old.len().is_multiple_of(2));
    let mut s = u64::from(!u16::from_ne_bytes(checksum));
    for pair in old.as_chunks::<2>().0 {
        s += u64::from(!u16::from_ne_bytes(*pair));
    }
    for pair in new.as_chunks::<2>().0 {
        s += u64::from(u16::from_ne_bytes(*pair));
    }
    (!fold(s)).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The sum as RFC 1071 section 4.1 writes it, octet by octet.
    fn reference(b: &[u8]) -> [u8; 2] {
        let mut s = 0u32;
        for c in b.chunks(2) {
            s += u32::from(u16::from_be_bytes([c[0], *c.get(1).unwrap_or(&0)]));
        }
        while s > 0xffff {
            s = (s >> 16) + (s & 0xffff);
        }
        (!u16::try_from(s).unwrap()).to_be_bytes()
    }

    #[test]
    fn rfc_1071_example() {
        let s = Sum::ZERO.with(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(s.folded(), [0xdd, 0xf2]);
        assert_eq!(s.finish(), [0x22, 0x0d]);
    }

    #[test]
    fn the_largest_sum_does_not_overflow() {
        let b = vec![0xff; 1 << 17];
        assert!(Sum::ZERO.with(&b).with(&b).is_valid());
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference(b in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..150) {
            prop_assert_eq!(Sum::ZERO.with(&b).finish(), reference(&b));
            let cut = (cut * 2).min(b.len() & !1);
            let (x, y) = b.split_at(cut);
            prop_assert_eq!(Sum::ZERO.with(x).with(y).finish(), reference(&b));
            prop_assert_eq!(Sum::ZERO.with(x).add_sum(Sum::ZERO.with(y)).finish(), reference(&b));
        }

        #[test]
        fn incremental_is_recomputed(mut b in proptest::collection::vec(any::<u8>(), 20..60), new in any::<[u8; 4]>(), at in 1usize..8) {
            // The field is the first pair; data that is not all zero, or 0x0000 and 0xffff cannot be told apart.
            b[2] = 1;
            b[..2].fill(0);
            let c = Sum::ZERO.with(&b).finish();
            let at = at * 2 + 2;
            prop_assume!(at + 4 <= b.len());
            let old: [u8; 4] = b[at..at + 4].try_into().unwrap();
            b[at..at + 4].copy_from_slice(&new);
            prop_assert_eq!(update(c, &old, &new), Sum::ZERO.with(&b).finish());
        }
    }
}
