//! `struct virtio_net_hdr`, the ten octets before each packet of a TUN with `IFF_VNET_HDR`, in host order.

use crate::engine::io::VnetHeader;

/// Length of the header.
pub const HEADER: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum field holds the sum of the pseudo header.
pub const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV4`.
pub const GSO_TCP4: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV6`.
pub const GSO_TCP6: u8 = 4;
/// `VIRTIO_NET_HDR_GSO_UDP_L4`.
pub const GSO_UDP: u8 = 5;
/// `VIRTIO_NET_HDR_GSO_ECN`, or-ed to the type: the first segment carries CWR.
pub const GSO_ECN: u8 = 0x80;

impl VnetHeader {
    /// Whether the packet is a super-packet.
    #[must_use]
    pub const fn is_super(&self) -> bool {
        self.gso_type & !GSO_ECN != 0
    }

    /// Reads the header at the start of what a TUN gave; `None` if it is shorter.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let b: &[u8; HEADER] = bytes.first_chunk()?;
        let at = |i: usize| u16::from_ne_bytes([b[i], b[i + 1]]);
        Some(Self {
            flags: b[0],
            gso_type: b[1],
            hdr_len: at(2),
            gso_size: at(4),
            csum_start: at(6),
            csum_offset: at(8),
        })
    }

    /// The header as a TUN wants it.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        b[0] = self.flags;
        b[1] = self.gso_type;
        b[2..4].copy_from_slice(&self.hdr_len.to_ne_bytes());
        b[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        b[6..8].copy_from_slice(&self.csum_start.to_ne_bytes());
        b[8..10].copy_from_slice(&self.csum_offset.to_ne_bytes());
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_of_write_is_the_same(b: [u8; HEADER]) {
            prop_assert_eq!(VnetHeader::parse(&b).unwrap().to_bytes(), b);
            prop_assert_eq!(VnetHeader::parse(&b[..9]), None);
        }
    }
}
