//! GRE in UDP (RFC 8086) on the XCF link: where its MTU is small, one call sends or receives many packets.

use super::batch::{RecvBatch, Sender};
use super::udp::{UdpHow, UdpSocket};
use super::{Sent, udp};
use crate::engine::io::XcfSend;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

/// Destination port of GRE in UDP (RFC 8086 section 8.1).
pub const PORT: u16 = 4754;

/// The socket of one stack on its XCF link.
#[derive(Debug)]
pub struct GreUdp {
    socket: UdpSocket,
    /// Where packets of one size that lie apart come together; reused.
    run: Vec<u8>,
}

impl GreUdp {
    /// Binds the stack's XCF address: nothing that comes by another interface than `interface` reaches it.
    ///
    /// # Errors
    /// When the port is taken, there is no such interface, or we may not.
    pub fn bind(address: IpAddr, interface: &str, mark: u32) -> nix::Result<Self> {
        let socket = UdpSocket::bind_on(SocketAddr::new(address, PORT), Some(interface), mark)?;
        Ok(Self { socket, run: Vec::new() })
    }

    /// Fills `batch`; how many messages it holds, each with one GRE packet or several of equal length.
    ///
    /// # Errors
    /// What the kernel says; "nothing there" is zero messages.
    pub fn receive(&self, batch: &mut RecvBatch) -> nix::Result<usize> {
        self.socket.receive(batch)
    }

    /// Sends GRE packets in order, those of equal length to one stack in one call. Gives each result with the number of
    /// packets that it decides.
    pub fn send(
        &mut self,
        sender: &mut Sender,
        sends: &[XcfSend],
        arena: &[u8],
        mut result: impl FnMut(Sent, u64),
    ) {
        let mut rest = sends;
        while let Some(first) = rest.first() {
            let (run, after) = rest.split_at(run_length(rest));
            rest = after;
            let how = UdpHow { segment: first.range.len(), tos: first.tos, df: false };
            let to = SocketAddr::new(first.remote, PORT);
            if run.len() == 1 {
                self.socket.send(sender, to, &arena[first.range.clone()], how, &mut result);
                continue;
            }
            self.run.clear();
            for send in run {
                self.run.extend_from_slice(&arena[send.range.clone()]);
            }
            self.socket.send(sender, to, &self.run, how, &mut result);
        }
    }
}

/// How many packets from the first on can leave in one call: to the same stack, as long as the first; the last may be
/// shorter.
fn run_length(sends: &[XcfSend]) -> usize {
    let Some(first) = sends.first() else { return 0 };
    let length = first.range.len();
    let most = (udp::MAX_SEGMENTED_BYTES / length.max(1)).clamp(1, udp::MAX_SEGMENTS);
    let alike = |s: &XcfSend| (s.remote, s.tos) == (first.remote, first.tos);
    let full = sends.iter().take(most).take_while(|s| alike(s) && s.range.len() == length).count();
    let shorter = sends.get(full).is_some_and(|s| full < most && alike(s) && s.range.len() < length);
    full + usize::from(shorter)
}

impl AsFd for GreUdp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_one_size_and_a_shorter_last_one_leave_together() {
        let send = |n: u8, length: usize, tos| XcfSend {
            remote: IpAddr::from([10, 99, 0, n]),
            range: 0..length,
            tos,
        };
        let lengths = |sends: &[XcfSend]| {
            let (mut rest, mut runs) = (sends, vec![]);
            while !rest.is_empty() {
                let n = run_length(rest);
                runs.push(n);
                rest = &rest[n..];
            }
            runs
        };
        let four = [send(2, 1400, 0), send(2, 1400, 0), send(2, 900, 0), send(2, 1400, 0)];
        assert_eq!(lengths(&four), [3, 1], "behind a shorter one begins the next");
        assert_eq!(lengths(&[send(2, 100, 0), send(3, 100, 0), send(3, 100, 8)]), [1, 1, 1]);
        assert_eq!(lengths(&[send(2, 900, 0), send(2, 1400, 0)]), [1, 1]);
        assert_eq!(lengths(&[send(2, 60_000, 0), send(2, 60_000, 0)]), [1, 1]);
        let many = vec![send(2, 500, 0); 200];
        assert_eq!(lengths(&many), [64, 64, 64, 8]);
        assert_eq!(run_length(&[]), 0);
    }
}
