//! Explicit congestion notification through a tunnel (RFC 6040) and the traffic class octet.

/// The ECN field of a traffic class octet.
pub const ECN_MASK: u8 = 0x03;
const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const CE: u8 = 3;

/// Traffic class octet of the outer header: ECN is always copied ("normal mode", RFC 6040 section 4.1), the DSCP on
/// request (RFC 4301 section 8, `copy_dscp`).
#[must_use]
pub const fn encapsulate(inner: u8, copy_dscp: bool) -> u8 {
    if copy_dscp { inner } else { inner & ECN_MASK }
}

/// The ECN field that the inner packet leaves the tunnel with (RFC 6040 section 4.2, figure 4), or `None`: the packet
/// is to be dropped, because the network reported congestion to a transport that cannot hear it.
///
/// Takes the traffic class octets of both headers, returns the inner one with the new ECN field.
#[must_use]
pub const fn decapsulate(inner: u8, outer: u8) -> Option<u8> {
    match (inner & ECN_MASK, outer & ECN_MASK) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(inner),
        (_, CE) => Some(inner | CE),
        // ECT(0) inside and ECT(1) outside becomes ECT(1); CE inside stays.
        (2, ECT_1) => Some((inner & !ECN_MASK) | ECT_1),
        _ => Some(inner),
    }
}

/// Writes the traffic class octet of an IP packet and mends the IPv4 header checksum. Anything that is not an IP
/// packet is left alone.
pub fn set_traffic_class(packet: &mut [u8], tos: u8) {
    match packet.first().map(|b| b >> 4) {
        Some(4) if packet.len() >= super::ipv4::MIN_HEADER => {
            let old = [packet[0], packet[1]];
            let new = [packet[0], tos];
            let check = super::checksum::update([packet[10], packet[11]], &old, &new);
            packet[1] = tos;
            packet[10..12].copy_from_slice(&check);
        }
        Some(6) if packet.len() >= super::ipv6::HEADER => {
            packet[0] = (packet[0] & 0xf0) | (tos >> 4);
            packet[1] = (packet[1] & 0x0f) | (tos << 4);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6040_figure_4() {
        // Rows: inner Not-ECT, ECT(0), ECT(1), CE; columns: outer Not-ECT, ECT(0), ECT(1), CE.
        let codes = [0, 2, 1, 3];
        let figure: [[Option<u8>; 4]; 4] = [
            [Some(0), Some(0), Some(0), None],
            [Some(2), Some(2), Some(1), Some(3)],
            [Some(1), Some(1), Some(1), Some(3)],
            [Some(3), Some(3), Some(3), Some(3)],
        ];
        for (row, inner) in figure.iter().zip(codes) {
            for (want, outer) in row.iter().zip(codes) {
                assert_eq!(decapsulate(0xb8 | inner, outer), want.map(|e| 0xb8 | e), "{inner} {outer}");
            }
        }
    }

    #[test]
    fn encapsulation_copies_ecn_always_and_dscp_on_request() {
        assert_eq!(encapsulate(0xba, false), 2);
        assert_eq!(encapsulate(0xba, true), 0xba);
    }

    #[test]
    fn setting_the_octet_keeps_the_header_checksum() {
        let mut p = [0u8; 20];
        p[0] = 0x45;
        p[3] = 20;
        super::super::ipv4::fill_checksum(&mut p);
        set_traffic_class(&mut p, 0xb9);
        assert_eq!(p[1], 0xb9);
        assert!(super::super::checksum::Sum::ZERO.with(&p).is_valid());
        let mut q = [0u8; 40];
        q[0] = 0x60;
        q[1] = 0x0f;
        set_traffic_class(&mut q, 0xb9);
        assert_eq!(q[..2], [0x6b, 0x9f]);
        set_traffic_class(&mut [], 1);
        set_traffic_class(&mut [0x45], 1);
    }
}
