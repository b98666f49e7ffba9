//! UDP 500 and 4500 of one home address: IKE, and ESP in UDP in batches of equal datagrams.

use super::batch::{Extras, RecvBatch, Sender};
use super::{SOCKET_BUFFER_BYTES, Sent, option};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Most segments of one `UDP_SEGMENT` send that every kernel takes.
pub(super) const MAX_SEGMENTS: usize = 64;
/// Most octets of one: a UDP datagram in IPv4 with room for options.
pub(super) const MAX_SEGMENTED_BYTES: usize = 65_000;

/// Buffers of the socket for messages between stacks: a window of every member.
const MESSAGE_BUFFER_BYTES: i32 = 4 << 20;
/// DSCP CS6 (RFC 2474 section 4.2.2): heartbeats pass before the packets that would make them late.
const NETWORK_CONTROL: i32 = 0xc0;

/// One bound socket.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    local: SocketAddr,
    df: bool,
}

impl UdpSocket {
    /// Binds `local`, which need not be an address of this host yet. What it sends carries `mark`.
    ///
    /// # Errors
    /// When the port is taken, or we may not.
    pub fn bind(local: SocketAddr, mark: u32) -> nix::Result<Self> {
        Self::bind_on(local, None, mark)
    }

    /// The same; where an interface is given, nothing that comes by another one reaches the socket.
    ///
    /// # Errors
    /// When the port is taken, there is no such interface, or we may not.
    pub fn bind_on(local: SocketAddr, interface: Option<&str>, mark: u32) -> nix::Result<Self> {
        let (family, freebind) = match local {
            SocketAddr::V4(_) => (AddressFamily::Inet, (libc::SOL_IP, libc::IP_FREEBIND)),
            SocketAddr::V6(_) => (AddressFamily::Inet6, (libc::SOL_IPV6, libc::IPV6_FREEBIND)),
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let owned = socket::socket(family, SockType::Datagram, flags, None)?;
        let fd = owned.as_fd();
        if let Some(name) = interface {
            option::bind_to_device(fd, name)?;
        }
        option::set_int(fd, freebind.0, freebind.1, 1)?;
        option::set_mark(fd, mark)?;
        option::set_buffers(fd, SOCKET_BUFFER_BYTES)?;
        match local {
            SocketAddr::V4(_) => {
                option::set_df(fd, false)?;
                option::set_int(fd, libc::SOL_IP, libc::IP_RECVTOS, 1)?;
            }
            SocketAddr::V6(_) => {
                option::set_int(fd, libc::SOL_IPV6, libc::IPV6_RECVTCLASS, 1)?;
                option::set_int(fd, libc::SOL_IPV6, libc::IPV6_V6ONLY, 1)?;
                option::set_v6_fragmenting(fd)?;
            }
        }
        if local.port() != super::IKE_PORT {
            option::set_int(fd, libc::SOL_UDP, libc::UDP_GRO, 1)?;
        }
        socket::bind(owned.as_raw_fd(), &SockaddrStorage::from(local))?;
        Ok(Self { fd: owned, local, df: false })
    }

    /// The address and port it is bound to.
    #[must_use]
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Fills `batch`; how many messages it holds.
    ///
    /// # Errors
    /// What the kernel says; "nothing there" is zero messages.
    pub fn receive(&self, batch: &mut RecvBatch) -> nix::Result<usize> {
        batch.receive(self.fd.as_fd())
    }

    /// Sends datagrams of `segment` octets each (the last may be shorter), in as few calls as the kernel allows.
    /// Gives each result with the number of datagrams that it decides; a batch that was too long as a whole, and is
    /// then sent singly, decides none.
    pub fn send(
        &mut self,
        sender: &mut Sender,
        to: SocketAddr,
        bytes: &[u8],
        how: UdpHow,
        mut result: impl FnMut(Sent, u64),
    ) {
        if how.df != self.df && self.local.is_ipv4() {
            if let Err(e) = option::set_df(self.fd.as_fd(), how.df) {
                return result(Sent::Failed(e), 1);
            }
            self.df = how.df;
        }
        let segment = how.segment.max(1);
        let per_call = (MAX_SEGMENTED_BYTES / segment).clamp(1, MAX_SEGMENTS) * segment;
        for part in bytes.chunks(per_call) {
            let count = part.len().div_ceil(segment);
            let whole = self.send_one(sender, to, part, how.tos, (count > 1).then_some(segment));
            // A segment that exceeds the MTU of the route, or a driver without the offload, fails as a whole.
            if count > 1
                && matches!(
                    whole,
                    Sent::TooLong | Sent::Failed(nix::errno::Errno::EINVAL | nix::errno::Errno::EIO)
                )
            {
                if whole == Sent::TooLong {
                    result(whole, 0);
                }
                for single in part.chunks(segment) {
                    result(self.send_one(sender, to, single, how.tos, None), 1);
                }
            } else {
                result(whole, count as u64);
            }
        }
    }

    fn send_one(
        &self,
        sender: &mut Sender,
        to: SocketAddr,
        bytes: &[u8],
        tos: u8,
        segment: Option<usize>,
    ) -> Sent {
        let segment = segment.and_then(|s| u16::try_from(s).ok());
        sender.send(self.fd.as_fd(), to, bytes, Extras { segment, tos, source: None })
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket for the messages between stacks, bound to one interface: nothing that comes by another one reaches it.
///
/// # Errors
/// When the port is taken, there is no such interface, or we may not.
pub fn bind_on(local: SocketAddr, interface: &str, mark: u32) -> nix::Result<std::net::UdpSocket> {
    let (family, level, freebind, class) = match local {
        SocketAddr::V4(_) => (AddressFamily::Inet, libc::SOL_IP, libc::IP_FREEBIND, libc::IP_TOS),
        SocketAddr::V6(_) => (AddressFamily::Inet6, libc::SOL_IPV6, libc::IPV6_FREEBIND, libc::IPV6_TCLASS),
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let owned = socket::socket(family, SockType::Datagram, flags, None)?;
    let fd = owned.as_fd();
    option::bind_to_device(fd, interface)?;
    option::set_mark(fd, mark)?;
    option::set_buffers(fd, MESSAGE_BUFFER_BYTES)?;
    option::set_int(fd, level, freebind, 1)?;
    option::set_int(fd, level, class, NETWORK_CONTROL)?;
    if local.is_ipv6() {
        option::set_int(fd, libc::SOL_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    socket::bind(owned.as_raw_fd(), &SockaddrStorage::from(local))?;
    Ok(owned.into())
}

/// How datagrams are to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpHow {
    /// Octets of each datagram but the last.
    pub segment: usize,
    /// DSCP and ECN.
    pub tos: u8,
    /// DF of the outer header (IPv4).
    pub df: bool,
}

/// The MTU that the route to `remote` has now, asked of the kernel on a throw-away socket (seldom).
#[must_use]
pub fn route_mtu(remote: IpAddr, mark: u32) -> Option<u16> {
    let (family, level, name) = match remote {
        IpAddr::V4(_) => (AddressFamily::Inet, libc::SOL_IP, libc::IP_MTU),
        IpAddr::V6(_) => (AddressFamily::Inet6, libc::SOL_IPV6, libc::IPV6_MTU),
    };
    let fd = socket::socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    option::set_mark(fd.as_fd(), mark).ok()?;
    let to = SockaddrStorage::from(SocketAddr::new(remote, super::NAT_T_PORT));
    socket::connect(fd.as_raw_fd(), &to).ok()?;
    u16::try_from(option::get_int(fd.as_fd(), level, name).ok()?).ok()
}
