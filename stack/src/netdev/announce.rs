//! Telling the neighbours that an address is here now: gratuitous ARP (RFC 5227 section 3) and unsolicited neighbour
//! advertisements with the override flag (RFC 4861 section 7.2.6).

use super::links::Link;
use crate::driver::packet::FrameSender;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// When announcements are repeated, counted from the first: neighbours lose frames, and bridges learn late.
const REPEATS: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(1), Duration::from_secs(3)];

const BROADCAST: [u8; 6] = [0xff; 6];
/// 33:33:00:00:00:01, all nodes (RFC 2464 section 7).
const ALL_NODES_HARDWARE: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Router and override; not solicited (RFC 4861 section 4.4). Router: forwarding is on.
const ADVERTISEMENT_FLAGS: u8 = 0xa0;
const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];

/// Announcements that are being sent. They end when it is dropped: nobody may announce what another one owns now.
#[derive(Debug)]
pub struct Announcing(Option<tokio::task::AbortHandle>);

impl Announcing {
    /// Sends at once, before anything else is sent from the addresses (or the answers would go to who had them
    /// before), and again several times over some seconds.
    #[must_use]
    pub fn start(announcements: Vec<Announcement>) -> Self {
        match FrameSender::open() {
            Ok(socket) => {
                let socket = PacketSocket(Some(socket));
                socket.send(&announcements);
                Self(Some(tokio::spawn(repeat(socket, announcements)).abort_handle()))
            }
            Err(error) => {
                tracing::warn!(%error, "home addresses cannot be announced; neighbours learn late");
                Self(None)
            }
        }
    }

    /// All is sent.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.as_ref().is_none_or(tokio::task::AbortHandle::is_finished)
    }
}

impl Drop for Announcing {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Frames to send by one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    interface: u32,
    frames: Vec<Vec<u8>>,
}

/// What to send for `addresses` on the interfaces to the network that have Ethernet addresses.
pub(super) fn announcements(
    addresses: impl Iterator<Item = IpAddr> + Clone,
    network: &[&Link],
) -> Vec<Announcement> {
    network
        .iter()
        .filter_map(|link| {
            let hardware = link.hardware?;
            let frames: Vec<_> = addresses.clone().flat_map(|a| frames(a, hardware)).collect();
            (!frames.is_empty()).then_some(Announcement { interface: link.index, frames })
        })
        .collect()
}

/// A packet socket that is closed aside: the kernel takes some 10 ms for it (it waits until no processor uses the socket any
/// more), which whoever takes an address over would wait for.
#[derive(Debug)]
struct PacketSocket(Option<FrameSender>);

impl PacketSocket {
    fn send(&self, announcements: &[Announcement]) {
        let Some(socket) = &self.0 else { return };
        for a in announcements {
            for frame in &a.frames {
                if let Err(error) = socket.send(a.interface, frame) {
                    tracing::debug!(%error, interface = a.interface, "announcement not sent");
                }
            }
        }
    }
}

impl Drop for PacketSocket {
    fn drop(&mut self) {
        if let (Some(socket), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(socket));
        }
    }
}

async fn repeat(socket: PacketSocket, announcements: Vec<Announcement>) {
    let mut elapsed = Duration::ZERO;
    for at in REPEATS {
        tokio::time::sleep(at.saturating_sub(elapsed)).await;
        elapsed = at;
        socket.send(&announcements);
    }
}

fn frames(address: IpAddr, hardware: [u8; 6]) -> Vec<Vec<u8>> {
    match address {
        // Both forms: some hosts update their cache by requests only, others by replies only.
        IpAddr::V4(a) => vec![arp(a, hardware, 1), arp(a, hardware, 2)],
        IpAddr::V6(a) => vec![advertisement(a, hardware)],
    }
}

fn ethernet(to: [u8; 6], from: [u8; 6], kind: [u8; 2]) -> Vec<u8> {
    let mut f = Vec::with_capacity(86);
    f.extend_from_slice(&to);
    f.extend_from_slice(&from);
    f.extend_from_slice(&kind);
    f
}

fn arp(address: Ipv4Addr, hardware: [u8; 6], operation: u8) -> Vec<u8> {
    let mut f = ethernet(BROADCAST, hardware, ETHERTYPE_ARP);
    f.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
    f.extend_from_slice(&hardware);
    f.extend_from_slice(&address.octets());
    f.extend_from_slice(&BROADCAST);
    f.extend_from_slice(&address.octets());
    f
}

fn advertisement(address: Ipv6Addr, hardware: [u8; 6]) -> Vec<u8> {
    const LENGTH: u8 = 32;
    let mut icmp = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, ADVERTISEMENT_FLAGS, 0, 0, 0];
    icmp.extend_from_slice(&address.octets());
    icmp.extend_from_slice(&TARGET_LINK_LAYER_ADDRESS);
    icmp.extend_from_slice(&hardware);
    let sum = checksum(&[&address.octets(), &ALL_NODES.octets(), &[0, 0, 0, LENGTH, 0, 0, 0, ICMPV6], &icmp]);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut f = ethernet(ALL_NODES_HARDWARE, hardware, ETHERTYPE_IPV6);
    f.extend_from_slice(&[0x60, 0, 0, 0, 0, LENGTH, ICMPV6, 255]);
    f.extend_from_slice(&address.octets());
    f.extend_from_slice(&ALL_NODES.octets());
    f.extend_from_slice(&icmp);
    f
}

/// The Internet checksum over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words =
        parts.iter().flat_map(|p| p.chunks_exact(2)).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 9];

    #[test]
    fn golden_bytes_of_a_gratuitous_arp() {
        let f = arp("203.0.113.10".parse().unwrap(), HARDWARE, 1);
        assert_eq!(
            hex::encode(f),
            "ffffffffffff02000000000908060001080006040001020000000009cb00710affffffffffffcb00710a"
        );
    }

    #[test]
    fn an_independent_parser_accepts_the_advertisement() {
        let f = advertisement("2001:db8::10".parse().unwrap(), HARDWARE);
        let packet = etherparse::PacketHeaders::from_ethernet_slice(&f).unwrap();
        let Some(etherparse::NetHeaders::Ipv6(ip, _)) = packet.net else { panic!("no IPv6") };
        assert_eq!(ip.hop_limit, 255, "RFC 4861 section 7.1.2");
        let Some(etherparse::TransportHeader::Icmpv6(icmp)) = packet.transport else { panic!("no ICMPv6") };
        let expected =
            icmp.icmp_type.calc_checksum(ip.source, ip.destination, packet.payload.slice()).unwrap();
        assert_eq!(icmp.checksum, expected);
        assert_eq!(icmp.icmp_type.type_u8(), 136);
    }
}
