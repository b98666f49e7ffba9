//! Packet formats: checked views over bytes and writers, none of which can panic on what a peer sends.
//!
//! A view's constructor (`new_checked`) proves that every accessor stays inside the bytes; writers take slices whose
//! length they check. [`packet::Parsed`] is the one pass over an inner packet that everything behind it works on.

pub mod ah;
pub mod checksum;
pub mod ecn;
pub mod esp;
pub mod gre;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod packet;
pub mod tcp;
pub mod udp;
pub mod vnet;

/// IP protocol numbers that the engine knows by name.
pub mod protocol {
    /// Hop-by-hop options (IPv6 extension header).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP: next header of ESP in tunnel mode.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP: next header of ESP in tunnel mode.
    pub const IPV6: u8 = 41;
    /// Routing header (IPv6 extension header).
    pub const ROUTING: u8 = 43;
    /// Fragment header (IPv6 extension header).
    pub const FRAGMENT: u8 = 44;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ESP.
    pub const ESP: u8 = 50;
    /// AH.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// No next header; an ESP dummy packet (RFC 4303 section 2.6).
    pub const NO_NEXT: u8 = 59;
    /// Destination options (IPv6 extension header).
    pub const DESTINATION: u8 = 60;
    /// OSPF.
    pub const OSPF: u8 = 89;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// Mobility header.
    pub const MOBILITY: u8 = 135;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// Two octets at `at`, which the caller has checked to lie inside.
pub(crate) fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

/// Four octets at `at`, which the caller has checked to lie inside.
pub(crate) fn be32(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// `N` octets at `at`, which the caller has checked to lie inside.
pub(crate) fn array<const N: usize>(b: &[u8], at: usize) -> [u8; N] {
    let mut a = [0; N];
    a.copy_from_slice(&b[at..at + N]);
    a
}
