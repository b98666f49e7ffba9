//! NAT detection (RFC 7296 section 2.23) and which datagrams may move a peer's endpoint.

use super::crypto::nat_detection_hash;
use super::v2::found::Found;
use super::v2::sa::NatPath;
use super::wire::payload::Notify;
use super::wire::{NotifyType, Payload};
use std::net::{IpAddr, SocketAddr};

/// The port that IKE moves to when there is a NAT.
pub(crate) const NAT_PORT: u16 = 4500;

/// The notifications that let the peer see a NAT, for a message with these SPIs. With `force` it sees one in front of us
/// that is not there, and encapsulates ESP in UDP as this side does.
pub(crate) fn notifies(
    spi_i: u64,
    spi_r: u64,
    local: SocketAddr,
    remote: SocketAddr,
    force: bool,
) -> [Payload; 2] {
    // Nobody sends from the unspecified address: this hash never matches.
    let source = if force { SocketAddr::from(([0, 0, 0, 0], 0)) } else { local };
    let notify =
        |kind, end| Payload::Notify(Notify::new(kind, nat_detection_hash(spi_i, spi_r, end).to_vec()));
    [
        notify(NotifyType::NAT_DETECTION_SOURCE_IP, source),
        notify(NotifyType::NAT_DETECTION_DESTINATION_IP, remote),
    ]
}

/// What a peer's notifications say about a message that came with these SPIs from `remote` to `local`; `None` if there
/// are none: the peer does not traverse NATs.
pub(crate) fn detect(
    found: &Found<'_>,
    spi_i: u64,
    spi_r: u64,
    local: SocketAddr,
    remote: SocketAddr,
    force: bool,
) -> Option<NatPath> {
    let destination = found.notify(NotifyType::NAT_DETECTION_DESTINATION_IP)?;
    let matches = |notify: &Notify, end| notify.data == nat_detection_hash(spi_i, spi_r, end);
    // A peer with several addresses may send several source hashes; one that matches is enough.
    let mut sources =
        found.notifies().filter(|notify| notify.kind == NotifyType::NAT_DETECTION_SOURCE_IP).peekable();
    sources.peek()?;
    Some(NatPath {
        local: !matches(destination, local),
        remote: !sources.any(|notify| matches(notify, remote)),
        forced: force,
    })
}

/// Whether a peer can be at this address and port at all (threats T20).
pub(crate) fn is_plausible(remote: SocketAddr, local: IpAddr) -> bool {
    let address = remote.ip();
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    remote.port() != 0
        && !address.is_multicast()
        && !address.is_unspecified()
        && !broadcast
        && address != local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t20_nobody_is_at_such_an_address() {
        let own: IpAddr = "192.0.2.1".parse().unwrap();
        for bad in [
            "224.0.0.1:500",
            "255.255.255.255:500",
            "0.0.0.0:500",
            "192.0.2.1:500",
            "192.0.2.9:0",
            "[ff02::1]:500",
        ] {
            assert!(!is_plausible(bad.parse().unwrap(), own), "{bad}");
        }
        for good in ["192.0.2.9:4500", "198.51.100.1:1", "[2001:db8::1]:500"] {
            assert!(is_plausible(good.parse().unwrap(), own), "{good}");
        }
    }
}
