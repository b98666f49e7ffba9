//! Many datagrams with one call, with their control messages, and no allocation for any of them.
//!
//! Receiving is `recvmmsg`. Sending is one `sendmsg` for each run of segments: with `UDP_SEGMENT` it carries up to
//! 64 datagrams, and for what cannot be segmented `sendmmsg` was measured and gains nothing (1.53 against 1.51 µs).
#![expect(unsafe_code, reason = "nix allocates for each control message that is sent")]

use super::Sent;
use nix::errno::Errno;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Room for the control messages of one datagram.
const CONTROL_BYTES: usize = 128;
/// `struct cmsghdr` without its data.
const CONTROL_HEADER_BYTES: usize = size_of::<libc::cmsghdr>();

/// Memory for control messages, aligned as the kernel wants it.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// Space that a control message with `n` octets of data takes.
const fn control_space(n: usize) -> usize {
    (CONTROL_HEADER_BYTES + n).next_multiple_of(size_of::<usize>())
}

/// One datagram as it arrived, or several equal ones (`UDP_GRO`).
#[derive(Debug)]
pub struct Received<'b> {
    /// The octets.
    pub bytes: &'b mut [u8],
    /// Who sent them; port 0 on raw sockets.
    pub source: SocketAddr,
    /// Octets of each datagram but the last, where there are several.
    pub segment: Option<usize>,
    /// Own address (raw IPv6 sockets).
    pub destination: Option<IpAddr>,
    /// DSCP and ECN octet; 0 where the socket was not asked for it.
    pub tos: u8,
}

/// Buffers for one call of `recvmmsg`.
pub struct RecvBatch {
    size: usize,
    data: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    control: Box<[Control]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

impl std::fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecvBatch({} buffers of {} bytes)", self.headers.len(), self.size)
    }
}

impl RecvBatch {
    /// `slots` buffers of `size` octets. Pages that no datagram reaches are never touched.
    #[must_use]
    pub fn new(slots: usize, size: usize) -> Self {
        // SAFETY: all three are C structures of integers, arrays and nullable pointers: zeros are valid.
        let (name, vector, header) = unsafe {
            (
                std::mem::zeroed::<libc::sockaddr_storage>(),
                std::mem::zeroed::<libc::iovec>(),
                std::mem::zeroed::<libc::mmsghdr>(),
            )
        };
        Self {
            size,
            data: vec![0; slots * size].into_boxed_slice(),
            names: vec![name; slots].into_boxed_slice(),
            control: vec![Control([0; CONTROL_BYTES]); slots].into_boxed_slice(),
            vectors: vec![vector; slots].into_boxed_slice(),
            headers: vec![header; slots].into_boxed_slice(),
        }
    }

    /// How many datagrams fit.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.headers.len()
    }

    /// Fills the buffers with what waits at a non-blocking socket; how many datagrams there are now.
    pub(super) fn receive(&mut self, fd: BorrowedFd<'_>) -> nix::Result<usize> {
        for ((((header, vector), name), control), data) in self
            .headers
            .iter_mut()
            .zip(&mut self.vectors)
            .zip(&mut self.names)
            .zip(&mut self.control)
            .zip(self.data.chunks_exact_mut(self.size))
        {
            vector.iov_base = data.as_mut_ptr().cast();
            vector.iov_len = data.len();
            let h = &mut header.msg_hdr;
            h.msg_name = (&raw mut *name).cast();
            h.msg_namelen = super::length_of::<libc::sockaddr_storage>();
            h.msg_iov = vector;
            h.msg_iovlen = 1;
            h.msg_control = control.0.as_mut_ptr().cast();
            h.msg_controllen = CONTROL_BYTES;
            h.msg_flags = 0;
            header.msg_len = 0;
        }
        let slots = u32::try_from(self.headers.len()).unwrap_or(u32::MAX);
        loop {
            // SAFETY: each header points to a name, a vector, a data slot and control memory of this batch, all
            // live and of the lengths given; nothing else borrows them during the call. No timeout is passed.
            let n = unsafe {
                libc::recvmmsg(
                    fd.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    slots,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            match Errno::result(n) {
                Ok(n) => return Ok(usize::try_from(n).unwrap_or(0)),
                Err(Errno::EAGAIN) => return Ok(0),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Datagram `index` of the last call; `None` if it was cut off or its sender has no IP address.
    pub fn get(&mut self, index: usize) -> Option<Received<'_>> {
        let header = self.headers.get(index)?;
        if header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return None;
        }
        let length = usize::try_from(header.msg_len).ok()?;
        // SAFETY: the kernel wrote `msg_namelen` octets of an address into this `sockaddr_storage`.
        let name = unsafe {
            SockaddrStorage::from_raw((&raw const self.names[index]).cast(), Some(header.msg_hdr.msg_namelen))
        }?;
        let source = if let Some(a) = name.as_sockaddr_in() {
            SocketAddr::from((a.ip(), a.port()))
        } else {
            let a = name.as_sockaddr_in6()?;
            SocketAddr::from((a.ip(), a.port()))
        };
        let control_length = header.msg_hdr.msg_controllen;
        let control = self.control[index].0.get(..control_length)?;
        let mut received = Received { bytes: &mut [], source, segment: None, destination: None, tos: 0 };
        for (level, kind, data) in ControlMessages(control) {
            match (level, kind) {
                // An `int`, as the kernel writes it.
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    received.segment = data
                        .first_chunk()
                        .and_then(|c| usize::try_from(i32::from_ne_bytes(*c)).ok())
                        .filter(|s| *s > 0);
                }
                (libc::SOL_IP, libc::IP_TOS) => received.tos = data.first().copied().unwrap_or(0),
                (libc::SOL_IPV6, libc::IPV6_TCLASS) => {
                    // An `int` that holds one octet.
                    received.tos = data
                        .first_chunk()
                        .and_then(|c| u8::try_from(i32::from_ne_bytes(*c)).ok())
                        .unwrap_or(0);
                }
                (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                    received.destination = data.first_chunk::<16>().map(|a| IpAddr::V6(Ipv6Addr::from(*a)));
                }
                _ => {}
            }
        }
        received.bytes = self.data.get_mut(index * self.size..)?.get_mut(..length)?;
        Some(received)
    }
}

/// Level, type and data of each control message.
struct ControlMessages<'b>(&'b [u8]);

impl<'b> Iterator for ControlMessages<'b> {
    type Item = (i32, i32, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // `struct cmsghdr`: size_t, int, int.
        let length = usize::from_ne_bytes(*self.0.first_chunk()?);
        let level = i32::from_ne_bytes(*self.0.get(size_of::<usize>()..)?.first_chunk()?);
        let kind = i32::from_ne_bytes(*self.0.get(size_of::<usize>() + 4..)?.first_chunk()?);
        let data = self.0.get(CONTROL_HEADER_BYTES..length)?;
        self.0 = self.0.get(length.next_multiple_of(size_of::<usize>())..).unwrap_or(&[]);
        Some((level, kind, data))
    }
}

/// What a datagram has beside its octets and its destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extras {
    /// `UDP_SEGMENT`: octets of each datagram but the last.
    pub segment: Option<u16>,
    /// DSCP and ECN.
    pub tos: u8,
    /// Own address, where the socket is not bound to one.
    pub source: Option<IpAddr>,
}

/// Memory for what `sendmsg` reads beside the octets.
#[derive(Debug)]
pub struct Sender {
    control: Control,
    used: usize,
}

impl Default for Sender {
    fn default() -> Self {
        Self { control: Control([0; CONTROL_BYTES]), used: 0 }
    }
}

impl Sender {
    /// Sends `bytes` with one call.
    pub(super) fn send(&mut self, fd: BorrowedFd<'_>, to: SocketAddr, bytes: &[u8], extras: Extras) -> Sent {
        self.used = 0;
        if let Some(segment) = extras.segment {
            self.put(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        if extras.tos != 0 {
            let (level, kind) = match to {
                SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_TOS),
                SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_TCLASS),
            };
            self.put(level, kind, &i32::from(extras.tos).to_ne_bytes());
        }
        match extras.source {
            // `struct in_pktinfo`: interface, source ("spec_dst"), destination (unused when sending).
            Some(IpAddr::V4(a)) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&a.octets());
                self.put(libc::SOL_IP, libc::IP_PKTINFO, &info);
            }
            // `struct in6_pktinfo`: address, interface.
            Some(IpAddr::V6(a)) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&a.octets());
                self.put(libc::SOL_IPV6, libc::IPV6_PKTINFO, &info);
            }
            None => {}
        }
        let name = SockaddrStorage::from(to);
        let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: integers and nullable pointers: zeros are valid.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_namelen = name.len();
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        if self.used > 0 {
            header.msg_control = self.control.0.as_mut_ptr().cast();
            header.msg_controllen = self.used;
        }
        super::send_patiently(fd, || {
            // SAFETY: name, vector, octets and control memory are live for the call and of the lengths given;
            // `sendmsg` only reads through the pointers, also through those that had to be cast to mutable.
            let n = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
            Errno::result(n).map(drop)
        })
    }

    fn put(&mut self, level: i32, kind: i32, data: &[u8]) {
        let space = control_space(data.len());
        let slot = self
            .control
            .0
            .get_mut(self.used..self.used + space)
            .expect("one segment, one TOS and one source message fit into CONTROL_BYTES");
        slot.fill(0);
        let length = CONTROL_HEADER_BYTES + data.len();
        slot[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
        slot[size_of::<usize>()..][..4].copy_from_slice(&level.to_ne_bytes());
        slot[size_of::<usize>() + 4..][..4].copy_from_slice(&kind.to_ne_bytes());
        slot[CONTROL_HEADER_BYTES..][..data.len()].copy_from_slice(data);
        self.used += space;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::udp::{UdpHow, UdpSocket};

    #[test]
    fn control_messages_read_back_as_written() {
        let mut s = Sender::default();
        s.put(libc::SOL_UDP, libc::UDP_SEGMENT, &1400u16.to_ne_bytes());
        s.put(libc::SOL_IP, libc::IP_TOS, &184i32.to_ne_bytes());
        let got: Vec<_> = ControlMessages(&s.control.0[..s.used]).collect();
        assert_eq!(got[0], (libc::SOL_UDP, libc::UDP_SEGMENT, &1400u16.to_ne_bytes()[..]));
        assert_eq!(got[1], (libc::SOL_IP, libc::IP_TOS, &184i32.to_ne_bytes()[..]));
        assert_eq!(got.len(), 2);
    }

    #[test]
    fn a_control_message_that_lies_about_its_length_ends_the_walk() {
        for lie in [0usize, 15, 4096, usize::MAX] {
            let mut bytes = [0u8; 32];
            bytes[..8].copy_from_slice(&lie.to_ne_bytes());
            assert_eq!(ControlMessages(&bytes).count(), 0, "length {lie}");
        }
    }

    /// Both sockets without a mark, so that no privilege is needed.
    #[test]
    fn segments_sent_as_one_arrive_as_one_with_their_size() {
        let a = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let mut b = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let to = local_of(&a);
        let bytes: Vec<u8> = (0..3500u32).map(|i| i.to_le_bytes()[0]).collect();
        let mut results = Vec::new();
        let how = UdpHow { segment: 1000, tos: 0, df: false };
        b.send(&mut Sender::default(), to, &bytes, how, |sent, n| results.push((sent, n)));
        assert_eq!(results, [(Sent::Done, 4)]);
        let mut batch = RecvBatch::new(8, 65_535);
        let mut got = Vec::new();
        let mut poller = crate::driver::poll::Poller::new().unwrap();
        poller.add(&a, 1).unwrap();
        while got.len() < bytes.len() {
            let ready = poller.wait(Some(std::time::Duration::from_secs(5))).unwrap().count();
            assert_eq!(ready, 1, "nothing arrived in five seconds");
            let n = a.receive(&mut batch).unwrap();
            for i in 0..n {
                let r = batch.get(i).unwrap();
                assert_eq!(r.source, local_of(&b));
                assert!(r.segment.is_none_or(|s| s == 1000));
                got.extend_from_slice(r.bytes);
            }
        }
        assert_eq!(got, bytes);
    }

    fn local_of(s: &UdpSocket) -> SocketAddr {
        use std::os::fd::AsFd;
        let name: nix::sys::socket::SockaddrIn =
            nix::sys::socket::getsockname(s.as_fd().as_raw_fd()).unwrap();
        SocketAddr::from((name.ip(), name.port()))
    }
}
