//! Packets that nobody should send: made by hand and put on a link of a node.

use crate::lab::Lab;
use anyhow::{Context, Result};
use etherparse::PacketBuilder;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

/// A TCP SYN from `source` to `destination`, as an IPv4 packet.
///
/// # Errors
/// Never for real addresses; the builder says so.
pub fn syn(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ipv4(source.0.octets(), destination.0.octets(), 64)
        .tcp(source.1, destination.1, 0x0102_0304, 64_000)
        .syn();
    let mut packet = Vec::with_capacity(builder.size(0));
    builder.write(&mut packet, &[])?;
    Ok(packet)
}

/// GRE (RFC 2784, four octets of header) around `inner`, as an IPv4 packet.
///
/// # Errors
/// When `inner` is too long for a packet.
pub fn gre(source: Ipv4Addr, destination: Ipv4Addr, inner: &[u8]) -> Result<Vec<u8>> {
    let mut payload = vec![0, 0, 0x08, 0x00];
    payload.extend_from_slice(inner);
    let builder = PacketBuilder::ipv4(source.octets(), destination.octets(), 64);
    let mut packet = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut packet, etherparse::IpNumber(47), &payload)?;
    Ok(packet)
}

/// Sends `count` copies of a whole IPv4 packet from a node, by its routes.
///
/// # Errors
/// When the node cannot send it.
pub fn send(lab: &Lab, node: &str, packet: Vec<u8>, count: usize) -> Result<()> {
    lab.inside(node, move || -> Result<()> {
        let fd = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Raw)?;
        let to = <[u8; 4]>::try_from(packet.get(16..20).context("an IPv4 packet has a destination")?)?;
        let to = SockaddrIn::from(std::net::SocketAddrV4::new(Ipv4Addr::from(to), 0));
        for _ in 0..count {
            sendto(fd.as_raw_fd(), &packet, &to, MsgFlags::empty())?;
        }
        Ok(())
    })?
}
