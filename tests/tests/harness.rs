//! The harness proves itself on systems of others: what later tests rely on must be able to fail.
//!
//! ```text
//!   A .11 ====== ext ====== .12 B
//! ```

use anyhow::Result;
use e2e::capture::Capture;
use e2e::lab::Lab;
use e2e::packet::Seen;
use e2e::swan::{Connection, Swan};
use e2e::{http, swan};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

fn two_hosts() -> Result<Lab> {
    let mut lab = Lab::new("harness")?;
    for (node, host) in [("A", 11), ("B", 12)] {
        lab.node(node)?;
        lab.join(node, "ext", host)?;
    }
    Ok(lab)
}

#[test]
fn a_capture_sees_cleartext_as_cleartext() -> Result<()> {
    let lab = two_hosts()?;
    let _server = http::start_server(&lab, "B", "B", 80)?;
    let capture = Capture::start(&lab, "A", "ext")?;
    let server: SocketAddr = "192.0.2.12:80".parse()?;
    assert_eq!(http::get(&lab, "A", server, Duration::from_secs(5))?, "B");
    let frames = capture.finish()?;
    let b: IpAddr = "192.0.2.12".parse()?;
    assert!(frames.count(|s| s.is_clear_of(b)) > 6, "{:?}", frames.file);
    assert!(frames.count(|s| matches!(s, Seen::Arp { operation: 2, .. })) > 0);
    assert_eq!(frames.count(Seen::is_esp), 0);
    Ok(())
}

#[test]
fn strongswan_to_strongswan_is_esp_in_udp_and_every_byte_is_checked() -> Result<()> {
    if !swan::installed() {
        eprintln!("not run: strongSwan with kernel-libipsec is not installed");
        return Ok(());
    }
    let lab = two_hosts()?;
    let left =
        Swan::start(&lab, "A", &[Connection::host_to_host("t", "192.0.2.11", "192.0.2.12", "secret")])?;
    let _right =
        Swan::start(&lab, "B", &[Connection::host_to_host("t", "192.0.2.12", "192.0.2.11", "secret")])?;
    let _server = http::start_server(&lab, "B", "B", 80)?;
    left.initiate("t")?;
    assert_eq!(left.spis()?.len(), 1);
    let capture = Capture::start(&lab, "A", "ext")?;
    let server: SocketAddr = "192.0.2.12:80".parse()?;
    let length = 3_000_001;
    let download = lab.inside("A", move || http::download(server, length, Duration::from_secs(30)))??;
    download.verify(length)?;
    assert!(download.verify(length + 1).is_err(), "a checksum that fits anything proves nothing");
    let frames = capture.finish()?;
    let b: IpAddr = "192.0.2.12".parse()?;
    assert_eq!(frames.count(|s| s.is_clear_of(b)), 0, "{:?}", frames.file);
    assert!(frames.count(Seen::is_esp) > 1000);
    Ok(())
}
