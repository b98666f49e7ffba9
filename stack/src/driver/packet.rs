//! Whole Ethernet frames to one interface: announcements of an address, which no other socket can send.
#![expect(unsafe_code, reason = "nix cannot make a sockaddr_ll")]

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::{AsRawFd, OwnedFd};

/// A packet socket that receives nothing.
#[derive(Debug)]
pub struct FrameSender(OwnedFd);

impl FrameSender {
    /// Opens it.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn open() -> nix::Result<Self> {
        // Protocol 0: no frame is ever delivered to it.
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).map(Self)
    }

    /// Sends a frame, from its destination address on, by the interface with this index.
    ///
    /// # Errors
    /// When the interface is down or gone.
    pub fn send(&self, interface: u32, frame: &[u8]) -> nix::Result<()> {
        // SAFETY: integers and an array of them: zeros are valid.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).map_err(|_| Errno::EAFNOSUPPORT)?;
        to.sll_ifindex = i32::try_from(interface).map_err(|_| Errno::ENODEV)?;
        // SAFETY: the frame and the address are live and of the lengths given; the kernel only reads them.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                super::length_of::<libc::sockaddr_ll>(),
            )
        };
        Errno::result(sent).map(drop)
    }
}
