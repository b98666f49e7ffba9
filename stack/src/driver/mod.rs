//! Ways of packets into and out of the process: TUN, UDP and raw sockets, and waiting for them.
//!
//! Thin safe wrappers over system calls, one kind of descriptor a file, all non-blocking and used by the one
//! worker thread. The only `unsafe` of the project is here, where `nix` has no call that works without an
//! allocation per packet or does not know an option.

pub mod batch;
pub mod confine;
pub mod gre_udp;
pub mod option;
pub mod packet;
pub mod poll;
pub mod raw;
pub mod tun;
pub mod udp;

/// UDP port of IKE.
pub const IKE_PORT: u16 = 500;
/// UDP port of IKE and ESP behind NATs (RFC 3948).
pub const NAT_T_PORT: u16 = 4500;

/// Largest IP packet, and so the largest thing that one read can give.
pub const MAX_PACKET: usize = 65_535;

/// Receive and send buffer of sockets that carry traffic, octets: 20 ms of 10 Gbit/s as the kernel accounts it.
const SOCKET_BUFFER_BYTES: i32 = 16 << 20;

/// What became of something that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The kernel has it.
    Done,
    /// It is larger than the interface takes.
    TooLong,
    /// The socket's buffer stayed full for as long as we wait.
    Full,
    /// Anything else: no route, no such address, a firewall.
    Failed(nix::errno::Errno),
}

/// Longest wait for room in a full send buffer before its datagrams are dropped, milliseconds: enough for a busy
/// receiver on the same CPU, too short to hold up other peers.
const SEND_PATIENCE_MS: u8 = 2;

/// Calls `send` until it is done or will not succeed: retries interruptions at once and a full buffer once.
fn send_patiently(fd: std::os::fd::BorrowedFd<'_>, mut send: impl FnMut() -> nix::Result<()>) -> Sent {
    use nix::errno::Errno;
    let mut waited = false;
    loop {
        return match send() {
            Ok(()) => Sent::Done,
            Err(Errno::EINTR) => continue,
            Err(Errno::EMSGSIZE) => Sent::TooLong,
            Err(Errno::EAGAIN | Errno::ENOBUFS) if !waited => {
                waited = true;
                poll::wait_writable(fd, SEND_PATIENCE_MS);
                continue;
            }
            Err(Errno::EAGAIN | Errno::ENOBUFS) => Sent::Full,
            Err(e) => Sent::Failed(e),
        };
    }
}

/// Size of a C structure, as calls take it.
#[expect(clippy::cast_possible_truncation, reason = "C structures have a few hundred octets")]
const fn length_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}
