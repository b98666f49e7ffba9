//! A peer reaches the DVIPA through IPsec and is served by targets, against strongSwan and against ourselves.
//!
//! ```text
//!   PEER .11 === ext === .1 DIST .1 === xcf === .21 .22 .23 TGT1 TGT2 TGT3 (on ext as well)
//!   strongSwan            DVIPA 192.0.2.100, 2001:db8:2::100
//! ```

use anyhow::{Result, ensure};
use e2e::capture::Capture;
use e2e::http::PacedDownload;
use e2e::lab::Lab;
use e2e::node::Daemon;
use e2e::packet::Seen;
use e2e::scenario::{DVIPA4, Options, PEER_HOME4, Sysplex, iked_peer, server, swan_peer};
use e2e::swan::Swan;
use e2e::{http, swan, wait};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);

/// The sysplex with strongSwan as peer, or `None` where that is not installed.
fn with_swan(name: &str, options: &Options) -> Result<Option<(Lab, Sysplex, Swan)>> {
    if swan::missing() {
        return Ok(None);
    }
    let mut lab = Lab::new(name)?;
    let plex = Sysplex::start(&mut lab, options)?;
    let peer = swan_peer(&lab)?;
    Ok(Some((lab, plex, peer)))
}

/// Opens `count` connections and gives how many each target served.
fn spread(lab: &Lab, v6: bool, count: u32) -> Result<BTreeMap<String, u32>> {
    let mut spread = BTreeMap::new();
    for _ in 0..count {
        *spread.entry(http::get(lab, "PEER", server(v6), SOON)?).or_default() += 1;
    }
    Ok(spread)
}

fn number(entry: &Value, field: &str) -> u64 {
    entry[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {entry}"))
}

/// The only tunnel that `stack` has.
fn only_tunnel(daemon: &Daemon, stack: &str) -> Result<Value> {
    wait::until("one dynamic tunnel", SOON, || {
        let mut tunnels = daemon.entries(&format!("-p {stack} -y display"))?;
        ensure!(tunnels.len() == 1, "{tunnels:?}\n{}", daemon.log());
        Ok(tunnels.remove(0))
    })
}

fn no_tunnel(daemon: &Daemon, what: &str) -> Result<()> {
    wait::until(what, SOON, || {
        let tunnels = daemon.entries("-p DIST -y display")?;
        ensure!(tunnels.is_empty(), "{tunnels:?}\n{}", daemon.log());
        Ok(())
    })
}

/// The first but one of this file by its name: most of its minute passes while the others run.
#[test]
fn a_lifetime_that_ends_is_renewed_under_traffic_before_it_does() -> Result<()> {
    if swan::missing() {
        return Ok(());
    }
    let options = Options { targets: 1, child_minutes: 1, ike_minutes: 1, ..Options::default() };
    let mut lab = Lab::idle("lifetime")?;
    let plex = Sysplex::start(&mut lab, &options)?;
    let peer = swan_peer(&lab)?;
    peer.initiate("v4")?;
    let dist = &plex.daemon;
    let child = |t: &Value| number(t, "EncryptInboundSpi");
    let ike = || -> Result<String> {
        let tunnels = dist.entries("-p DIST -k display")?;
        ensure!(tunnels.len() == 1, "{tunnels:?}");
        Ok(format!("{}{}", tunnels[0]["InitiatorCookie"], tunnels[0]["ResponderCookie"]))
    };
    let (old_child, old_ike) = (child(&only_tunnel(dist, "DIST")?), ike()?);
    // Rekeys are due after 54 seconds, give or take; a download goes on meanwhile, and then some more.
    let job = (1, 30_000_000, 50_000);
    let download = PacedDownload::start(&lab, "PEER", server(false), job, Duration::from_secs(600))?;
    wait::until("both SAs rekeyed by their lifetimes", Duration::from_secs(120), || {
        std::thread::park_timeout(Duration::from_millis(200));
        ensure!(child(&only_tunnel(dist, "DIST")?) != old_child, "still the same child SA\n{}", dist.log());
        ensure!(ike()? != old_ike, "still the same IKE SA\n{}", dist.log());
        Ok(())
    })?;
    let bytes = || download[0].watch.bytes.load(Ordering::Relaxed);
    let before = bytes();
    wait::until("the download goes on", SOON, || {
        ensure!(bytes() > before + 50_000, "{} bytes", bytes());
        Ok(())
    })?;
    for end in PacedDownload::conclude(download, SOON)? {
        assert_eq!(end.error, None);
    }
    wait::until("one child in strongSwan", SOON, || {
        ensure!(peer.spis()?.len() == 1, "{}", peer.sas()?);
        Ok(())
    })
}

#[test]
fn strongswan_initiates_and_its_connections_spread_over_three_targets() -> Result<()> {
    let Some((lab, plex, peer)) = with_swan("respond", &Options::default())? else { return Ok(()) };
    let captures = [("DIST", "ext"), ("DIST", "xcf"), ("TGT1", "ext"), ("TGT2", "ext"), ("TGT3", "ext")];
    let captures = captures.map(|(node, link)| Capture::start(&lab, node, link));
    let dvipa: IpAddr = DVIPA4.parse()?;

    peer.initiate("v4")?;
    let before = only_tunnel(&plex.daemon, "DIST")?;
    assert_eq!(
        spread(&lab, false, 30)?,
        BTreeMap::from(["TGT1", "TGT2", "TGT3"].map(|t| (t.to_owned(), 10)))
    );

    // The distributor counts both ways; the SPIs are the ones that the peer has.
    let after = only_tunnel(&plex.daemon, "DIST")?;
    for field in ["InboundBytes", "OutboundBytes", "InboundPackets", "OutboundPackets"] {
        assert!(number(&after, field) > number(&before, field), "{field}: {after}");
    }
    let (swan_in, swan_out) = peer.spis()?[0];
    assert_eq!(number(&after, "EncryptInboundSpi"), u64::from(swan_out));
    assert_eq!(number(&after, "EncryptOutboundSpi"), u64::from(swan_in));
    // No SA on a target.
    for target in &plex.targets {
        assert!(plex.daemon.entries(&format!("-p {target} -y display"))?.is_empty());
    }

    let mut frames = captures.into_iter().map(|c| c.and_then(Capture::finish));
    let network = frames.next().expect("five captures")?;
    assert_eq!(network.count(|s| s.is_clear_of(dvipa)), 0, "{:?}", network.file);
    assert!(network.count(Seen::is_esp) >= 30 * 4);
    let xcf = frames.next().expect("five captures")?;
    assert!(xcf.count(|s| matches!(s, Seen::Gre(..))) >= 30 * 4);
    assert_eq!(xcf.count(|s| matches!(s, Seen::Clear(..)) || s.is_esp()), 0, "{:?}", xcf.file);
    for target in frames {
        let target = target?;
        let of_dvipa = target.count(|s| match s {
            Seen::Esp(e, _) | Seen::EspInUdp(e, _) | Seen::Ike(e) => e.source == dvipa,
            other => other.is_clear_of(dvipa),
        });
        assert_eq!(of_dvipa, 0, "a target answered on the network: {:?}", target.file);
    }
    Ok(())
}

#[test]
fn ipv6_inside_and_outside() -> Result<()> {
    let Some((lab, plex, peer)) = with_swan("six", &Options::default())? else { return Ok(()) };
    let network = Capture::start(&lab, "DIST", "ext")?;
    peer.initiate("v6")?;
    only_tunnel(&plex.daemon, "DIST")?;
    assert_eq!(spread(&lab, true, 6)?, BTreeMap::from(["TGT1", "TGT2", "TGT3"].map(|t| (t.to_owned(), 2))));
    let dvipa: IpAddr = e2e::scenario::DVIPA6.parse()?;
    let network = network.finish()?;
    assert_eq!(network.count(|s| s.is_clear_of(dvipa)), 0, "{:?}", network.file);
    assert!(network.count(Seen::is_esp) > 24);
    Ok(())
}

#[test]
fn ipsec_activate_initiates_and_strongswan_responds() -> Result<()> {
    let Some((lab, plex, peer)) = with_swan("initiate", &Options::default())? else { return Ok(()) };
    let network = Capture::start(&lab, "DIST", "ext")?;
    let said = plex.daemon.ipsec("-p DIST -y activate -l toPeer")?;
    assert!(said.contains("Activating"), "{said}");
    let tunnel = only_tunnel(&plex.daemon, "DIST")?;
    assert_eq!(tunnel["LocalDynVpnRule"], "toPeer");
    wait::until("the SA in strongSwan", SOON, || {
        ensure!(peer.spis()?.len() == 1, "{}", peer.log());
        Ok(())
    })?;
    assert_eq!(spread(&lab, false, 3)?.len(), 3);
    // The first IKE datagram came from the DVIPA.
    let network = network.finish()?;
    let first = network.matching(|s| matches!(s, Seen::Ike(_))).next().expect("IKE was captured");
    let Seen::Ike(ends) = first.seen else { unreachable!("just matched") };
    assert_eq!(ends.source, DVIPA4.parse::<IpAddr>()?);
    Ok(())
}

#[test]
fn half_a_gigabyte_arrives_byte_for_byte() -> Result<()> {
    let Some((lab, plex, peer)) = with_swan("bulk", &Options { targets: 1, ..Options::default() })? else {
        return Ok(());
    };
    peer.initiate("v4")?;
    let length = 500_000_000;
    let got =
        lab.inside("PEER", move || http::download(server(false), length, Duration::from_secs(300)))??;
    got.verify(length)?;
    let tunnel = only_tunnel(&plex.daemon, "DIST")?;
    assert!(number(&tunnel, "OutboundBytes") > length);
    Ok(())
}

#[test]
fn rekeys_from_both_sides_lose_no_byte_of_a_running_download() -> Result<()> {
    let Some((lab, plex, peer)) = with_swan("rekey", &Options { targets: 1, ..Options::default() })? else {
        return Ok(());
    };
    peer.initiate("v4")?;
    // One connection that lasts as long as the rekeys take.
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let download = lab.spawn("PEER", move || {
        http::download_until(server(false), &stopped, 10_000_000, Duration::from_secs(120))
    })?;
    let dist = &plex.daemon;
    let tunnel = only_tunnel(dist, "DIST")?["TunnelID"].as_str().expect("a tunnel id").to_owned();
    let spi = || -> Result<u64> { Ok(number(&only_tunnel(dist, "DIST")?, "EncryptInboundSpi")) };
    let ike_spis = || -> Result<String> {
        let tunnels = dist.entries("-p DIST -k display")?;
        ensure!(tunnels.len() == 1, "{tunnels:?}");
        Ok(format!("{}{}", tunnels[0]["InitiatorCookie"], tunnels[0]["ResponderCookie"]))
    };
    let changed = |what: &str, old: u64| {
        wait::until(what, SOON, || {
            ensure!(spi()? != old, "still the same SA\n{}", dist.log());
            ensure!(peer.spis()?.len() == 1, "strongSwan has more than one: {}", peer.sas()?);
            Ok(())
        })
    };

    let old = spi()?;
    peer.swanctl(&["--rekey", "--child", "v4"])?;
    changed("child rekeyed by strongSwan", old)?;
    let old = spi()?;
    dist.ipsec(&format!("-p DIST -y refresh -a {tunnel}"))?;
    changed("child rekeyed by ipsec -y refresh", old)?;
    let old = ike_spis()?;
    peer.swanctl(&["--rekey", "--ike", "v4"])?;
    wait::until("IKE SA rekeyed by strongSwan", SOON, || {
        ensure!(ike_spis()? != old, "still the same IKE SA");
        Ok(())
    })?;
    let old = ike_spis()?;
    dist.ipsec("-p DIST -k refresh -a all")?;
    wait::until("IKE SA refreshed by ipsec -k refresh", SOON, || {
        ensure!(ike_spis()? != old, "still the same IKE SA");
        Ok(())
    })?;
    stop.store(true, Ordering::Relaxed);
    download.join().expect("the download does not panic")?
}

#[test]
fn deletes_from_both_sides_remove_the_sas_of_both() -> Result<()> {
    let Some((_lab, plex, peer)) = with_swan("delete", &Options::default())? else { return Ok(()) };
    let dist = &plex.daemon;
    let gone_there = |what: &str| {
        wait::until(what, SOON, || {
            ensure!(peer.spis()?.is_empty(), "{}", peer.sas()?);
            Ok(())
        })
    };
    for (way, argument) in [("--child", "v4"), ("--ike", "v4")] {
        peer.initiate("v4")?;
        only_tunnel(dist, "DIST")?;
        peer.swanctl(&["--terminate", way, argument])?;
        no_tunnel(dist, &format!("strongSwan's delete ({way}) removes ours"))?;
    }
    for control in ["-y deactivate -a all", "-k deactivate -a all"] {
        peer.initiate("v4")?;
        only_tunnel(dist, "DIST")?;
        dist.ipsec(&format!("-p DIST {control}"))?;
        no_tunnel(dist, control)?;
        gone_there(&format!("ipsec {control} removes strongSwan's"))?;
    }
    // A clean end says goodbye.
    peer.initiate("v4")?;
    only_tunnel(dist, "DIST")?;
    let mut plex = plex;
    plex.daemon.end(Signal::SIGTERM);
    gone_there("the end of iked deletes strongSwan's SAs")
}

#[test]
fn a_killed_peer_is_noticed_and_its_sas_removed() -> Result<()> {
    let options = Options { liveness_secs: 1, ..Options::default() };
    let Some((_lab, plex, mut peer)) = with_swan("dead", &options)? else { return Ok(()) };
    peer.initiate("v4")?;
    only_tunnel(&plex.daemon, "DIST")?;
    peer.end(Signal::SIGKILL);
    wait::until("liveness removes the SAs", Duration::from_secs(40), || {
        let (y, k) = (plex.daemon.entries("-p DIST -y display")?, plex.daemon.entries("-p DIST -k display")?);
        ensure!(y.is_empty() && k.is_empty(), "{y:?} {k:?}");
        Ok(())
    })
}

#[test]
fn iked_is_a_peer_as_good_as_strongswan() -> Result<()> {
    let mut lab = Lab::new("ours")?;
    let plex = Sysplex::start(&mut lab, &Options { peer4: PEER_HOME4.to_owned(), ..Options::default() })?;
    let peer = iked_peer(&lab)?;
    let network = Capture::start(&lab, "DIST", "ext")?;
    // No activation: the first packet asks for the tunnel and is held until it is there.
    assert_eq!(
        spread(&lab, false, 30)?,
        BTreeMap::from(["TGT1", "TGT2", "TGT3"].map(|t| (t.to_owned(), 10)))
    );
    only_tunnel(&plex.daemon, "DIST")?;
    only_tunnel(&peer, "PEER")?;
    let length = 100_000_000;
    lab.inside("PEER", move || http::download(server(false), length, Duration::from_secs(100)))??
        .verify(length)?;
    let network = network.finish()?;
    for address in [DVIPA4, PEER_HOME4] {
        let address: IpAddr = address.parse()?;
        assert_eq!(network.count(|s| s.is_clear_of(address)), 0, "{:?}", network.file);
    }
    Ok(())
}
