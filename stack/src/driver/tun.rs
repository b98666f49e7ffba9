//! The TUN device: every packet of a home address that no socket of ours takes, as super-packets up to 64 KiB.
#![expect(unsafe_code, reason = "two ioctls, which nix leaves to its users")]

use super::{MAX_PACKET, Sent};
use crate::engine::io::VnetHeader;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use thiserror::Error;

/// Octets of the `struct virtio_net_hdr` before each packet.
pub const VNET_HEADER_BYTES: usize = 10;

/// Longest name of an interface.
pub const MAX_NAME: usize = libc::IFNAMSIZ - 1;

nix::ioctl_write_ptr_bad!(
    /// Attaches a queue to an interface, which is made if need be.
    tun_set_iff,
    libc::TUNSETIFF,
    libc::ifreq
);
nix::ioctl_write_int_bad!(
    /// Says which super-packets we take.
    tun_set_offload,
    libc::TUNSETOFFLOAD
);

/// Checksums and TCP super-packets of both families.
const OFFLOAD_TCP: u32 = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
/// UDP super-packets of both families (Linux 6.2).
const OFFLOAD_UDP: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// Why there is no TUN.
#[derive(Debug, Error)]
pub enum TunError {
    /// The kernel has no TUN driver or the container has no device node.
    #[error("/dev/net/tun cannot be opened ({0}): load the module tun, or give the container the device")]
    NoDevice(Errno),
    /// The interface could not be made.
    #[error("interface {name} cannot be made ({error}): CAP_NET_ADMIN is needed")]
    Refused {
        /// Its name.
        name: String,
        /// What the kernel said.
        error: Errno,
    },
}

/// One queue of a TUN device. The device goes with the process: it is not persistent.
#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
    /// Whether UDP super-packets pass, too.
    pub udp_segmentation: bool,
}

impl Tun {
    /// Makes the interface `name` in the namespace of the calling thread.
    ///
    /// # Errors
    /// When the system has no TUN or we may not make one.
    pub fn open(name: &str) -> Result<Self, TunError> {
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = open("/dev/net/tun", flags, Mode::empty()).map_err(TunError::NoDevice)?;
        let refused = |error| TunError::Refused { name: name.to_owned(), error };
        if name.len() > MAX_NAME {
            return Err(refused(Errno::ENAMETOOLONG));
        }
        // SAFETY: an `ifreq` of zeros is a valid one: it is integers and arrays of them.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        let tun_flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
        request.ifr_ifru.ifru_flags =
            i16::from_ne_bytes(u16::try_from(tun_flags).map_err(|_| refused(Errno::EINVAL))?.to_ne_bytes());
        // SAFETY: the descriptor is an open /dev/net/tun and the pointer is to a live, initialised `ifreq`.
        unsafe { tun_set_iff(fd.as_raw_fd(), &raw const request) }.map_err(refused)?;
        let mut udp_segmentation = true;
        // SAFETY: the descriptor is a TUN queue; the argument is a set of flags, no pointer.
        if unsafe { tun_set_offload(fd.as_raw_fd(), (OFFLOAD_TCP | OFFLOAD_UDP).cast_signed()) }.is_err() {
            udp_segmentation = false;
            // SAFETY: as above.
            unsafe { tun_set_offload(fd.as_raw_fd(), OFFLOAD_TCP.cast_signed()) }.map_err(refused)?;
        }
        Ok(Self { fd, udp_segmentation })
    }

    /// Reads one packet into `buffer`; `None` when there is none.
    ///
    /// # Errors
    /// What the kernel says, `EIO` while the interface is down.
    pub fn receive<'b>(&self, buffer: &'b mut HostBuffer) -> nix::Result<Option<(VnetHeader, &'b mut [u8])>> {
        loop {
            match nix::unistd::read(&self.fd, &mut buffer.0) {
                Ok(length) => return Ok(buffer.split(length)),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Gives the kernel a packet: a [`VnetHeader`] of ten octets and an IP packet.
    #[must_use]
    pub fn send(&self, packet: &[u8]) -> Sent {
        super::send_patiently(self.fd.as_fd(), || nix::unistd::write(&self.fd, packet).map(drop))
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Room for one packet of the TUN with its header.
#[derive(Debug)]
pub struct HostBuffer(Box<[u8]>);

impl Default for HostBuffer {
    fn default() -> Self {
        Self(vec![0; VNET_HEADER_BYTES + MAX_PACKET].into_boxed_slice())
    }
}

impl HostBuffer {
    fn split(&mut self, length: usize) -> Option<(VnetHeader, &mut [u8])> {
        let (header, packet) = self.0.get_mut(..length)?.split_first_chunk_mut()?;
        Some((parse_header(header), packet))
    }
}

fn parse_header(h: &[u8; VNET_HEADER_BYTES]) -> VnetHeader {
    let word = |at: usize| u16::from_ne_bytes([h[at], h[at + 1]]);
    VnetHeader {
        flags: h[0],
        gso_type: h[1],
        hdr_len: word(2),
        gso_size: word(4),
        csum_start: word(6),
        csum_offset: word(8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtio_header_is_read_in_host_order() {
        let mut b = HostBuffer::default();
        b.0[..12].copy_from_slice(&[1, 0x81, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0x45, 0]);
        let (header, packet) = b.split(12).unwrap();
        assert_eq!(packet, [0x45, 0]);
        if cfg!(target_endian = "little") {
            let expected = VnetHeader {
                flags: 1,
                gso_type: 0x81,
                hdr_len: 54,
                gso_size: 1460,
                csum_start: 34,
                csum_offset: 16,
            };
            assert_eq!(header, expected);
        }
    }

    #[test]
    fn a_read_shorter_than_the_header_is_no_packet() {
        assert!(HostBuffer::default().split(9).is_none());
    }
}
