//! Two gateways that cannot see each other, the store, or the network: one speaks for the address, and one only.
//!
//! ```text
//!   PEER === ext === DIST (SYSA), BACK (SYSB), TGT1-3 (SYSC) === xcf; CF (etcd) === mgmt === SYSA, SYSB, SYSC
//! ```

use anyhow::{Context, Result, ensure};
use e2e::capture::{Capture, Frames};
use e2e::evidence::{Sent, esp, no_number_twice, one_after_the_other};
use e2e::http::PacedDownload;
use e2e::lab::Lab;
use e2e::load::Load;
use e2e::plex::{Mode, Plex, Shape, swan_peer};
use e2e::scenario::{DVIPA4, PEER4, server};
use e2e::swan::Swan;
use e2e::{etcd, swan, wait};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

const LEASE: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(40);

struct World {
    peer: Swan,
    plex: Plex,
    lab: Lab,
}

fn possible() -> bool {
    let possible = etcd::installed() && swan::installed();
    if !possible {
        eprintln!("not run: needs etcd and strongSwan with kernel-libipsec");
    }
    possible
}

/// What happened while something was broken.
struct Story {
    sent: Vec<Sent>,
    /// Gateways that sent ESP, in this order.
    order: Vec<&'static str>,
    network: Frames,
}

impl World {
    fn new(name: &str, mode: Mode) -> Result<Self> {
        let mut lab = Lab::new(name)?;
        let shape = Shape { mode, lease_ms: 500, ..Shape::default() };
        let plex = Plex::start(&mut lab, shape)?;
        let peer = swan_peer(&lab)?;
        peer.initiate("v4")?;
        plex.tunnel("DIST")?;
        Ok(Self { peer, plex, lab })
    }

    fn vipa(&self, stack: &str) -> Result<Value> {
        self.plex.vipa(stack)
    }

    /// Waits until `stack` itself says that it owns the DVIPA and has its SAs.
    fn owns(&self, stack: &str) -> Result<()> {
        wait::until(&format!("{stack} owns the DVIPA"), SOON, || {
            let v = self.vipa(stack)?;
            ensure!(v["State"] == "ACTIVE", "{v}\n{}", self.plex.logs());
            Ok(())
        })?;
        self.plex.tunnel(stack).map(drop)
    }

    /// Keeps downloads running while `work` breaks something; every one of them must go on well.
    fn under_traffic(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<Story> {
        let capture = Capture::start(&self.lab, "PEER", "ext")?;
        // Far longer than all of it takes: they are stopped when it is over.
        let (job, limit) = ((6, 36_000_000, 60_000), Duration::from_secs(600));
        let downloads = PacedDownload::start(&self.lab, "PEER", server(false), job, limit)?;
        let bytes = |d: &PacedDownload| d.watch.bytes.load(Ordering::Relaxed);
        let go_on = |more: u64| {
            let before: Vec<u64> = downloads.iter().map(bytes).collect();
            wait::until("the downloads go on", SOON, || {
                let stuck = downloads.iter().zip(&before).filter(|(d, b)| bytes(d) < **b + more).count();
                ensure!(stuck == 0, "{stuck} stand still");
                Ok(())
            })
        };
        go_on(1)?;
        work(self)?;
        // A second's worth.
        go_on(60_000).with_context(|| self.plex.logs())?;
        for end in PacedDownload::conclude(downloads, SOON)? {
            ensure!(end.error.is_none(), "{}: {:?}\n{}", end.server, end.error, self.plex.logs());
        }
        let network = capture.finish()?;
        let gateways = self.plex.gateways();
        let macs = gateways.iter().map(|g| self.lab.mac(g, "ext")).collect::<Result<Vec<_>>>()?;
        let sent = esp(&network);
        let order = one_after_the_other(&sent, &macs).with_context(|| format!("{:?}", network.file))?;
        let name = |mac: &[u8; 6]| gateways[macs.iter().position(|m| m == mac).expect("one of them")];
        let order = order.iter().map(name).collect();
        for address in [DVIPA4, PEER4] {
            let address: IpAddr = address.parse()?;
            assert_eq!(network.count(|s| s.is_clear_of(address)), 0, "{:?}", network.file);
        }
        no_number_twice(&sent)?;
        Ok(Story { sent, order, network })
    }

    /// Waits for `time` to pass.
    fn pass(time: Duration) -> Result<()> {
        let end = wait::now() + time;
        wait::until("time", time + SOON, || {
            ensure!(wait::now() >= end);
            Ok(())
        })
    }
}

#[test]
fn t47_an_owner_cut_off_from_etcd_stops_before_another_may_take_the_address() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut w = World::new("cutcf", Mode::Renegotiate)?;
    let mac = w.lab.mac("DIST", "ext")?;
    let story = w.under_traffic(|w| {
        w.lab.cut("SYSA", "mgmt")?;
        w.owns("BACK")?;
        w.lab.heal("SYSA", "mgmt")
    })?;
    assert_eq!(story.order, ["DIST", "BACK"]);
    let last_old = story.sent.iter().filter(|s| s.by == mac).map(|s| s.at).next_back();
    let first_new =
        story.sent.iter().find(|s| s.by == w.lab.mac("BACK", "ext").unwrap_or_default()).map(|s| s.at);
    assert!(last_old < first_new, "{:?}", story.network.file);
    // What it is now: a backup that knows the owner.
    wait::until("DIST is a backup", SOON, || {
        let v = w.vipa("DIST")?;
        ensure!(v["State"] == "BACKUP" && v["Owner"] == "BACK", "{v}\n{}", w.plex.logs());
        Ok(())
    })
}

#[test]
fn an_owner_cut_off_from_xcf_shares_the_address_with_nobody() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut w = World::new("cutxcf", Mode::Renegotiate)?;
    let story = w.under_traffic(|w| {
        w.lab.cut("DIST", "xcf")?;
        World::pass(LEASE * 3)?;
        w.lab.heal("DIST", "xcf")
    })?;
    // Its lease runs on: heartbeats that are missing take no address away.
    assert!(story.order == ["DIST"] || story.order == ["DIST", "BACK"], "{:?}", story.order);
    Ok(())
}

#[test]
fn an_owner_cut_off_from_the_network_shares_the_address_with_nobody() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut w = World::new("cutnet", Mode::Renegotiate)?;
    let story = w.under_traffic(|w| {
        w.lab.cut("DIST", "ext")?;
        World::pass(LEASE * 3)?;
        w.lab.heal("DIST", "ext")
    })?;
    assert!(story.order == ["DIST"] || story.order == ["DIST", "BACK"], "{:?}", story.order);
    Ok(())
}

#[test]
fn t48_etcd_dies_and_comes_back_and_nobody_notices_but_the_operator() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut w = World::new("cfdies", Mode::Renegotiate)?;
    let protection = |w: &World, wanted: &str| {
        wait::until(wanted, SOON, || {
            let v = w.vipa("DIST")?;
            ensure!(v["CFRecords"] == wanted, "{v}\n{}", w.plex.logs());
            Ok(())
        })
    };
    protection(&w, "Stored")?;
    let story = w.under_traffic(|w| {
        let etcd = w.plex.etcd.as_mut().context("an etcd")?;
        etcd.end(Signal::SIGKILL);
        protection(w, "not protected")?;
        World::pass(LEASE * 3)?;
        w.plex.etcd.as_mut().context("an etcd")?.again()?;
        protection(w, "Stored")
    })?;
    assert_eq!(story.order, ["DIST"]);
    let told = w.plex.of("DIST")?.log().contains("takeover not protected");
    assert!(told, "{}", w.plex.of("DIST")?.log());
    Ok(())
}

/// An old copy of the store says that DIST owns the address, and has old ceilings: whoever owns it by then takes it anew, at an
/// epoch that never was, and goes on with nothing.
#[test]
fn t48_etcd_restored_from_an_old_copy_makes_nothing_go_on() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let mut w = World::new("oldcopy", Mode::Continue)?;
    let copy = w.lab.dir.join("copy.db");
    w.plex.etcd.as_ref().context("an etcd")?.save(&copy)?;
    w.plex.of("DIST")?.ipsec(&format!("-p DIST vipa move {DVIPA4} --to BACK"))?;
    w.owns("BACK")?;
    let (epoch, before) = (w.vipa("BACK")?["Epoch"].as_u64().context("an epoch")?, w.peer.spis()?);
    let story = w.under_traffic(|w| {
        w.plex.etcd.as_mut().context("an etcd")?.restore(&copy)?;
        wait::until("an owner at a later epoch with new SAs", SOON, || {
            let owner = w.plex.gateways().into_iter().find_map(|g| {
                let v = w.vipa(g).ok()?;
                (v["State"] == "ACTIVE" && v["CFRecords"] == "Stored").then_some((g, v))
            });
            let (owner, v) = owner.context("nobody owns it")?;
            ensure!(v["Epoch"].as_u64() > Some(epoch), "{v}");
            let now = w.peer.spis()?;
            // The old ones stay at the peer: nobody who knows their keys says a Delete.
            ensure!(now.iter().any(|s| !before.contains(s)), "{owner}: {now:x?}");
            Ok(())
        })
        .with_context(|| w.plex.logs())
    })?;
    assert!(story.order == ["BACK"] || story.order == ["BACK", "DIST"], "{:?}", story.order);
    let told = w.plex.gateways().iter().any(|g| w.plex.of(g).is_ok_and(|d| d.log().contains("set back")));
    assert!(told, "{}", w.plex.logs());
    // A new IKE SA, not a rekey of the old one.
    assert!(w.peer.log().contains("IKE_SA v4[2] established"), "{}", w.peer.log());
    Ok(())
}

/// Stops the owner for three leases and lets it go on while others work.
fn stopped(mode: Mode, name: &str) -> Result<()> {
    let mut w = World::new(name, mode)?;
    let story = w.under_traffic(|w| {
        w.plex.of_mut("DIST")?.signal_all(Signal::SIGSTOP);
        w.owns("BACK")?;
        World::pass(LEASE * 3)?;
        w.plex.of_mut("DIST")?.signal_all(Signal::SIGCONT);
        // It finds out, and says so.
        wait::until("DIST is a backup", SOON, || {
            let v = w.vipa("DIST")?;
            ensure!(v["State"] == "BACKUP" && v["Owner"] == "BACK", "{v}\n{}", w.plex.logs());
            Ok(())
        })
    })?;
    // `under_traffic` saw to the rest: nothing from DIST after BACK, no number twice under one SPI.
    assert_eq!(story.order, ["DIST", "BACK"]);
    Ok(())
}

#[test]
fn t47_an_owner_that_was_stopped_for_three_leases_sends_nothing_as_owner() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    stopped(Mode::Renegotiate, "stopren")
}

#[test]
fn t47_with_continued_sas_no_number_is_sent_twice_by_an_owner_that_was_stopped() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    stopped(Mode::Continue, "stopcon")
}

/// All processors are busy for `time`; the owner stays.
fn saturated(time: Duration, name: &str) -> Result<()> {
    let w = World::new(name, Mode::Renegotiate)?;
    let epoch = w.vipa("DIST")?["Epoch"].clone();
    let load = Load::start();
    World::pass(time)?;
    drop(load);
    let v = w.vipa("DIST")?;
    assert!(v["State"] == "ACTIVE" && v["Epoch"] == epoch, "{v}\n{}", w.plex.logs());
    Ok(())
}

#[test]
fn saturated_processors_cause_no_takeover() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    saturated(Duration::from_secs(10), "busy")
}

#[test]
#[ignore = "five minutes; run with --ignored"]
fn saturated_processors_cause_no_takeover_in_five_minutes() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    saturated(Duration::from_secs(300), "busy5")
}
