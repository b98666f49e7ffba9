//! IKE and ESP in UDP that arrive as IP fragments: the kernel gives none of them to a socket here, the stack must.
//!
//! ```text
//!   PEER .11 === ext (MTU 1500) === .1 DIST
//! ```

use anyhow::{Context, Result, ensure};
use e2e::capture::Capture;
use e2e::lab::Lab;
use e2e::packet::Seen;
use e2e::scenario::{DVIPA4, DVIPA6, Options, PEER4, PEER6, Sysplex, swan_peer};
use e2e::{swan, wait};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

fn sysplex(name: &str) -> Result<(Lab, Sysplex)> {
    let mut lab = Lab::new(name)?;
    let plex = Sysplex::start(&mut lab, &Options { targets: 1, target_ext: false, ..Options::default() })?;
    Ok((lab, plex))
}

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
    let (lab, _plex) = sysplex("ikefrag")?;
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

#[test]
fn esp_in_udp_of_3000_bytes_in_fragments_is_processed() -> Result<()> {
    if !swan::installed() {
        eprintln!("not run: strongSwan with kernel-libipsec is not installed");
        return Ok(());
    }
    let (lab, plex) = sysplex("espfrag")?;
    let peer = swan_peer(&lab)?;
    for (child, to) in [("v4", DVIPA4), ("v6", DVIPA6)] {
        peer.initiate(child)?;
        // The peer seals packets larger than the link; its kernel cuts the datagrams.
        lab.ip("PEER", "link set ipsec0 mtu 4000")?;
        let network = Capture::start(&lab, "DIST", "ext")?;
        wait::until("an echo of 2,900 bytes", Duration::from_secs(10), || {
            let mut ping = lab.exec("PEER", "ping".as_ref());
            let said = e2e::process::check(ping.args(["-c", "1", "-W", "1", "-s", "2900", to]));
            said.map(drop).with_context(|| {
                format!("{}{}", plex.daemon.ipsec("-p DIST --drops").unwrap_or_default(), plex.daemon.log())
            })
        })?;
        let network = network.finish()?;
        ensure!(
            network.count(|s| matches!(s, Seen::Fragment(_, 17))) >= 1,
            "no fragments: {:?}",
            network.file
        );
    }
    drop(plex);
    Ok(())
}
