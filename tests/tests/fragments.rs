//! IKE that arrives as IP fragments: the kernel gives none of them to a socket here, the stack must. (ESP in UDP likewise:
//! `stack/tests/fragments.rs`; strongSwan cuts what it seals at 1,400 octets.)
//!
//! ```text
//!   PEER .11 === ext (MTU 1500) === .1 DIST
//! ```

use anyhow::{Context, Result};
use e2e::capture::Capture;
use e2e::lab::Lab;
use e2e::packet::Seen;
use e2e::scenario::{DVIPA4, DVIPA6, PEER4, PEER6, Sysplex};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// An IKE message of version 3 and `length` octets: it must be answered with INVALID_MAJOR_VERSION
/// (RFC 7296 section 2.5), so an answer shows that all of it arrived.
fn of_another_version(length: u32) -> Vec<u8> {
    let mut message = vec![0u8; length as usize];
    message[..8].copy_from_slice(&0x0102_0304_0506_0708_u64.to_be_bytes());
    message[16..20].copy_from_slice(&[33, 0x30, 34, 0x08]);
    message[24..28].copy_from_slice(&length.to_be_bytes());
    message
}

fn asks(lab: &Lab, from: &str, to: &str) -> Result<Vec<u8>> {
    let (from, to): (SocketAddr, SocketAddr) =
        (SocketAddr::new(from.parse()?, 0), SocketAddr::new(to.parse()?, 500));
    lab.inside("PEER", move || -> Result<Vec<u8>> {
        let socket = UdpSocket::bind(from)?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        socket.send_to(&of_another_version(3000), to)?;
        let mut answer = vec![0; 2000];
        let (n, _) = socket.recv_from(&mut answer).context("no answer")?;
        answer.truncate(n);
        Ok(answer)
    })?
}

#[test]
fn an_ike_datagram_of_3000_bytes_in_fragments_is_processed() -> Result<()> {
    let (lab, _plex) = Sysplex::with_one_target("ikefrag")?;
    for (from, to) in [(PEER4, DVIPA4), (PEER6, DVIPA6)] {
        let network = Capture::start(&lab, "DIST", "ext")?;
        let answer = asks(&lab, from, to).with_context(|| format!("{from} to {to}"))?;
        assert_eq!(&answer[..8], &0x0102_0304_0506_0708_u64.to_be_bytes());
        // The first payload is a Notify of type INVALID_MAJOR_VERSION (5).
        assert_eq!((answer[16], u16::from_be_bytes([answer[34], answer[35]])), (41, 5), "{answer:02x?}");
        let network = network.finish()?;
        assert!(
            network.count(|s| matches!(s, Seen::Fragment(_, 17))) >= 1,
            "it came whole: {:?}",
            network.file
        );
    }
    Ok(())
}
