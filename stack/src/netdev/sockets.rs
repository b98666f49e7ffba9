//! Sockets that outlive their address.
//!
//! IPv4 refuses to send from an address that the host no longer has. IPv6 does not: when a home address goes, its
//! established connections go on, and without our rules they would go on in clear (tried). So TCP connections are
//! ended while the rules still lead them into the engine, and an address of which sockets are left keeps its rule.

use crate::driver::{IKE_PORT, NAT_T_PORT};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_sockid`: ports, addresses, interface, cookie.
const ID: usize = 48;
/// Where the identity stands in `struct inet_diag_msg`, behind family, state, timer and retransmissions.
const ID_IN_ANSWER: usize = 4;
/// Where the source address stands in the identity.
const SOURCE_IN_ID: usize = 4;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Every state but LISTEN: a listener says nothing by itself, and its program shall find it when the address is back.
const STATES: u32 = !(1 << 10);

/// Ends the TCP connections of IPv6 addresses that went. Gives the addresses of which sockets are left all the same:
/// bound UDP sockets, or all where the kernel does not tell.
pub(super) fn end_connections(gone: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
    let v6 = |a: &IpAddr| matches!(a, IpAddr::V6(_)).then_some(*a);
    let gone: BTreeSet<IpAddr> = gone.iter().filter_map(v6).collect();
    if gone.is_empty() {
        return gone;
    }
    match try_end(&gone) {
        Ok(left) => left,
        Err(error) => {
            tracing::warn!(%error, "the sockets of home addresses that went cannot be looked at");
            gone
        }
    }
}

fn try_end(gone: &BTreeSet<IpAddr>) -> nix::Result<BTreeSet<IpAddr>> {
    let fd = open()?;
    let of_gone = |ids: Vec<[u8; ID]>| ids.into_iter().filter(|id| gone.contains(&source(id)));
    for id in of_gone(dump(&fd, TCP)?) {
        // It may have ended meanwhile.
        let _ = destroy(&fd, TCP, &id);
    }
    let mut left = BTreeSet::new();
    for protocol in [TCP, UDP] {
        // Our own sockets of the address are still open, and marked.
        let own = |id: &[u8; ID]| {
            protocol == UDP && [IKE_PORT, NAT_T_PORT].contains(&u16::from_be_bytes([id[0], id[1]]))
        };
        left.extend(of_gone(dump(&fd, protocol)?).filter(|id| !own(id)).map(|id| source(&id)));
    }
    Ok(left)
}

fn open() -> nix::Result<OwnedFd> {
    let fd =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(2, 0))?;
    Ok(fd)
}

fn source(id: &[u8; ID]) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&id[SOURCE_IN_ID..SOURCE_IN_ID + 16]);
    IpAddr::V6(Ipv6Addr::from(octets))
}

fn request(kind: u16, flags: u16, protocol: u8, id: &[u8; ID]) -> Vec<u8> {
    let mut m = Vec::with_capacity(HEADER + 8 + ID);
    let length = u32::try_from(HEADER + 8 + ID).unwrap_or(u32::MAX);
    m.extend_from_slice(&length.to_ne_bytes());
    m.extend_from_slice(&kind.to_ne_bytes());
    m.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    m.extend_from_slice(&[0; 8]);
    m.extend_from_slice(&[AF_INET6, protocol, 0, 0]);
    m.extend_from_slice(&STATES.to_ne_bytes());
    m.extend_from_slice(id);
    m
}

/// The identities of all IPv6 sockets of a protocol that do not listen.
fn dump(fd: &OwnedFd, protocol: u8) -> nix::Result<Vec<[u8; ID]>> {
    send(fd.as_raw_fd(), &request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, protocol, &[0; ID]), MsgFlags::empty())?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for (kind, content) in Messages(&buffer[..n]) {
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => return Err(refusal(content)),
                _ => found.extend(content.get(ID_IN_ANSWER..).and_then(|c| c.first_chunk::<ID>()).copied()),
            }
        }
    }
}

fn destroy(fd: &OwnedFd, protocol: u8, id: &[u8; ID]) -> nix::Result<()> {
    send(fd.as_raw_fd(), &request(SOCK_DESTROY, NLM_F_ACK, protocol, id), MsgFlags::empty())?;
    let mut buffer = [0; 1024];
    let n = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    match Messages(&buffer[..n]).next() {
        Some((NLMSG_ERROR, content)) if refusal(content) as i32 == 0 => Ok(()),
        Some((NLMSG_ERROR, content)) => Err(refusal(content)),
        _ => Ok(()),
    }
}

/// The `errno` of an error message; 0 says that all is well.
fn refusal(content: &[u8]) -> nix::errno::Errno {
    let code = content.first_chunk().map_or(0, |c| i32::from_ne_bytes(*c));
    nix::errno::Errno::from_raw(code.saturating_neg())
}

/// Type and content of each message of one read.
struct Messages<'b>(&'b [u8]);

impl<'b> Iterator for Messages<'b> {
    type Item = (u16, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::try_from(u32::from_ne_bytes(*self.0.first_chunk()?)).ok()?;
        let kind = u16::from_ne_bytes(*self.0.get(4..)?.first_chunk()?);
        let content = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn only_sockets_of_the_wanted_address_are_found() {
        let Ok(udp) = UdpSocket::bind("[::1]:0") else { return eprintln!("SKIPPED: no IPv6 here") };
        let port = udp.local_addr().unwrap().port().to_be_bytes();
        let found = dump(&open().unwrap(), UDP).unwrap();
        let own: Vec<_> = found.iter().filter(|id| id[..2] == port).collect();
        assert_eq!(own.len(), 1);
        assert_eq!(source(own[0]), IpAddr::from(Ipv6Addr::LOCALHOST));
    }

    #[test]
    fn a_listener_is_left_alone() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return eprintln!("SKIPPED: no IPv6 here") };
        let port = listener.local_addr().unwrap().port().to_be_bytes();
        let found = dump(&open().unwrap(), TCP).unwrap();
        assert!(!found.iter().any(|id| id[..2] == port));
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(dump(&open().unwrap(), TCP).unwrap().iter().any(|id| id[2..4] == port));
        stream.write_all(b"x").unwrap();
    }

    #[test]
    fn a_message_that_lies_about_its_length_ends_the_walk() {
        for lie in [0u32, 15, 400, u32::MAX] {
            let mut bytes = [0u8; 64];
            bytes[..4].copy_from_slice(&lie.to_ne_bytes());
            assert_eq!(Messages(&bytes).count(), 0, "length {lie}");
        }
    }
}
