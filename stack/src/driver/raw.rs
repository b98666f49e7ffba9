//! Raw IP sockets: ESP from the network, GRE on the XCF interface.

use super::batch::{Extras, RecvBatch, Sender};
use super::{SOCKET_BUFFER_BYTES, Sent, option};
use nix::sys::socket::{AddressFamily, SockFlag, SockType};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// IP protocols that the stack takes by raw sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawProtocol {
    /// GRE (RFC 2784).
    Gre,
    /// Encapsulating Security Payload (RFC 4303).
    Esp,
}

impl RawProtocol {
    /// The protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Gre => 47,
            Self::Esp => 50,
        }
    }
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// One raw socket.
#[derive(Debug)]
pub struct RawSocket {
    fd: OwnedFd,
    family: Family,
    df: bool,
}

impl RawSocket {
    /// Opens a socket for one protocol and family, bound to `interface` where one is given.
    ///
    /// # Errors
    /// When we may not, or there is no such interface or family.
    pub fn open(
        family: Family,
        protocol: RawProtocol,
        interface: Option<&str>,
        mark: u32,
    ) -> nix::Result<Self> {
        let owned = open_raw(family, protocol)?;
        let fd = owned.as_fd();
        if let Some(name) = interface {
            option::bind_to_device(fd, name)?;
        }
        option::set_mark(fd, mark)?;
        option::set_buffers(fd, SOCKET_BUFFER_BYTES)?;
        match family {
            Family::V4 => option::set_df(fd, false)?,
            Family::V6 => {
                option::set_int(fd, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
                option::set_int(fd, libc::SOL_IPV6, libc::IPV6_RECVTCLASS, 1)?;
                option::set_v6_fragmenting(fd)?;
            }
        }
        Ok(Self { fd: owned, family, df: false })
    }

    /// Fills `batch`; how many messages it holds. Use [`RawSocket::strip`] on each.
    ///
    /// # Errors
    /// What the kernel says; "nothing there" is zero messages.
    pub fn receive(&self, batch: &mut RecvBatch) -> nix::Result<usize> {
        batch.receive(self.fd.as_fd())
    }

    /// The payload of what this socket received, and its destination: an IPv4 raw socket gives the IP header, too.
    #[must_use]
    pub fn strip<'b>(
        &self,
        bytes: &'b mut [u8],
        packet_info: Option<IpAddr>,
    ) -> Option<(IpAddr, &'b mut [u8])> {
        match self.family {
            Family::V6 => Some((packet_info?, bytes)),
            Family::V4 => {
                let header = bytes.first_chunk::<20>()?;
                let length = usize::from(header[0] & 0x0f) * 4;
                let destination: [u8; 4] = *header.last_chunk()?;
                Some((IpAddr::from(destination), bytes.get_mut(length.max(20)..)?))
            }
        }
    }

    /// Sends one payload; the kernel makes the IP header.
    #[must_use]
    pub fn send(&mut self, sender: &mut Sender, how: RawHow, bytes: &[u8]) -> Sent {
        if how.df != self.df && self.family == Family::V4 {
            if let Err(e) = option::set_df(self.fd.as_fd(), how.df) {
                return Sent::Failed(e);
            }
            self.df = how.df;
        }
        let extras = Extras { segment: None, tos: how.tos, source: how.source };
        sender.send(self.fd.as_fd(), SocketAddr::new(how.remote, 0), bytes, extras)
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How a payload is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawHow {
    /// Own address; `None`: the kernel's choice.
    pub source: Option<IpAddr>,
    /// To whom.
    pub remote: IpAddr,
    /// DSCP and ECN.
    pub tos: u8,
    /// DF (IPv4).
    pub df: bool,
}

#[expect(unsafe_code, reason = "nix's SockProtocol has no ESP and GRE")]
fn open_raw(family: Family, protocol: RawProtocol) -> nix::Result<OwnedFd> {
    let domain = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let kind = SockType::Raw as i32 | (SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC).bits();
    // SAFETY: three integers; the kernel touches no memory of ours.
    let fd = unsafe { libc::socket(domain as i32, kind, i32::from(protocol.number())) };
    let fd = nix::errno::Errno::result(fd)?;
    // SAFETY: the call succeeded, so this is an open descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
