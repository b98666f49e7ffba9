//! The harness proves itself on systems of others: what later tests rely on must be able to fail.
//!
//! ```text
//!   A .11 ====== ext ====== .12 B
//! ```

use anyhow::Result;
use e2e::capture::Capture;
use e2e::etcd::{self, Etcd};
use e2e::http::PacedDownload;
use e2e::lab::Lab;
use e2e::meter::{self, Meter};
use e2e::packet::Seen;
use e2e::swan::{Connection, Swan};
use e2e::{http, swan, wait};
use nix::sys::signal::Signal;
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
    if swan::missing() {
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

#[test]
fn the_meter_measures_how_long_a_link_is_cut() -> Result<()> {
    let lab = two_hosts()?;
    let server: SocketAddr = "192.0.2.12:9000".parse()?;
    let meter = Meter::start(&lab, "A", server, &["B".to_owned()])?;
    let (cut_at, started) = (meter::realtime(), wait::now());
    lab.cut("A", "ext")?;
    wait::until("a quarter of a second of silence", Duration::from_secs(5), || {
        anyhow::ensure!(started.elapsed() >= Duration::from_millis(250));
        Ok(())
    })?;
    lab.heal("A", "ext")?;
    let healed_at = meter::realtime();
    let before = meter.so_far().to_client.arrived.len();
    wait::until("the streams again", Duration::from_secs(5), || {
        anyhow::ensure!(meter.so_far().to_client.arrived.len() > before + 20);
        Ok(())
    })?;
    let silence = meter.finish()?;
    for stream in [&silence.to_server, &silence.to_client] {
        let (gap, cut) = (stream.silence(cut_at), healed_at - cut_at);
        // It began up to a period before the cut was made, and ended when the next datagram came.
        assert!(
            gap > Duration::from_millis(225) && gap < cut + Duration::from_millis(200),
            "{gap:?} of {cut:?}"
        );
        assert!(stream.lost() >= 20 && stream.lost() <= 60, "{} lost", stream.lost());
        assert_eq!(stream.doubled(), 0);
    }
    Ok(())
}

#[test]
fn a_paced_download_takes_its_time_and_tells_its_longest_stall() -> Result<()> {
    let lab = two_hosts()?;
    let _server = http::start_server(&lab, "B", "B", 80)?;
    let server: SocketAddr = "192.0.2.12:80".parse()?;
    let started = wait::now();
    let job = (2, 200_000, 200_000);
    let downloads = PacedDownload::start(&lab, "A", server, job, Duration::from_secs(20))?;
    for download in downloads {
        let end = download.finish()?;
        assert_eq!((end.error, end.server.as_str()), (None, "B"));
        assert!(
            end.stall > Duration::from_millis(20) && end.stall < Duration::from_millis(700),
            "{:?}",
            end.stall
        );
    }
    let took = started.elapsed();
    assert!(took > Duration::from_millis(800) && took < Duration::from_secs(5), "{took:?}");
    Ok(())
}

#[test]
fn etcd_goes_on_after_a_crash_and_back_to_a_snapshot() -> Result<()> {
    if !etcd::installed() {
        eprintln!("not run: etcd is not installed");
        return Ok(());
    }
    let mut lab = Lab::new("etcd")?;
    let mut etcd = Etcd::start(&mut lab)?;
    etcd.ctl("put /a one")?;
    let snapshot = lab.dir.join("snapshot");
    etcd.save(&snapshot)?;
    etcd.ctl("put /a two")?;
    etcd.end(Signal::SIGKILL);
    assert!(etcd.ctl("get /a").is_err());
    etcd.again()?;
    assert_eq!(etcd.records("/")?, [("/a".to_owned(), b"two".to_vec())]);
    etcd.restore(&snapshot)?;
    assert_eq!(etcd.records("/")?, [("/a".to_owned(), b"one".to_vec())]);
    Ok(())
}
