//! Socket options with an integer or a name as value, and the number of a descriptor.
#![expect(
    unsafe_code,
    reason = "nix has no IP_MTU_DISCOVER, IPV6_FREEBIND, UDP_GRO and SO_*BUFFORCE, and gives new descriptors as integers"
)]

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Sets an option whose value is a C `int`.
///
/// # Errors
/// What the kernel says.
pub fn set_int(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> nix::Result<()> {
    // SAFETY: the pointer is to a live `int` and the length is its size; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            super::length_of::<libc::c_int>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Reads an option whose value is a C `int`.
///
/// # Errors
/// What the kernel says.
pub fn get_int(fd: BorrowedFd<'_>, level: i32, name: i32) -> nix::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut length = super::length_of::<libc::c_int>();
    // SAFETY: both pointers are to live values of the sizes that the kernel is told; it writes at most `length`.
    let result =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length) };
    Errno::result(result).map(|_| value)
}

/// Binds a socket to one interface (`SO_BINDTODEVICE`).
///
/// # Errors
/// When there is no such interface.
pub fn bind_to_device(fd: BorrowedFd<'_>, interface: &str) -> nix::Result<()> {
    let length = libc::socklen_t::try_from(interface.len()).map_err(|_| Errno::ENAMETOOLONG)?;
    // SAFETY: the kernel reads `length` bytes of a string that is that long.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            interface.as_ptr().cast(),
            length,
        )
    };
    Errno::result(result).map(drop)
}

/// The same open file under the first free number from `least` on, closed on exec.
///
/// # Errors
/// When the process may not have descriptors of such numbers.
pub fn duplicate_from(fd: BorrowedFd<'_>, least: RawFd) -> nix::Result<OwnedFd> {
    let new = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(least))?;
    // SAFETY: the kernel has just given us this descriptor; nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Buffers of a socket that carries traffic: as large as wanted with `CAP_NET_ADMIN`, else as `rmem_max` allows.
pub(super) fn set_buffers(fd: BorrowedFd<'_>, bytes: i32) -> nix::Result<()> {
    for (force, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        if set_int(fd, libc::SOL_SOCKET, force, bytes).is_err() {
            set_int(fd, libc::SOL_SOCKET, plain, bytes)?;
        }
    }
    Ok(())
}

/// Sets the mark by which policy routing knows what the stack's own sockets send.
pub(super) fn set_mark(fd: BorrowedFd<'_>, mark: u32) -> nix::Result<()> {
    set_int(fd, libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed())
}

/// Whether outgoing IPv4 packets carry DF. Either way the kernel's own idea of the path MTU is left aside: the
/// engine keeps that (`engine::pmtu`), since the ICMP errors go to it. Without DF the kernel may fragment (IKE).
pub(super) fn set_df(fd: BorrowedFd<'_>, df: bool) -> nix::Result<()> {
    let value = if df { libc::IP_PMTUDISC_PROBE } else { libc::IP_PMTUDISC_OMIT };
    set_int(fd, libc::SOL_IP, libc::IP_MTU_DISCOVER, value)
}

/// IPv6: the kernel may fragment at the source (IKE); ESP is made to fit by the engine.
pub(super) fn set_v6_fragmenting(fd: BorrowedFd<'_>) -> nix::Result<()> {
    set_int(fd, libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_OMIT)
}
