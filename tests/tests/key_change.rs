//! The key of a sysplex of several systems is changed, system by system, while all run and connections go on (docs/coupling-facility.md).

use anyhow::{Context, Result, ensure};
use e2e::etcd;
use e2e::http::PacedDownload;
use e2e::lab::Lab;
use e2e::node::{Daemon, SYSPLEX_KEY as OLD};
use e2e::plex::{Mode, Plex, Shape, swan_peer};
use e2e::scenario::server;
use e2e::{swan, wait};
use nix::sys::signal::{Signal, kill};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(600);
/// The key that follows the one that the harness has given out.
const NEW: &str = "f0e1d2c3b4a5968778695a4b3c2d1e0ff0e1d2c3b4a5968778695a4b3c2d1e0f";

/// Gives all systems these keys, one after the other, and tells each to read them.
fn give(plex: &Plex, keys: &[&str]) -> Result<()> {
    for daemon in plex.systems.values() {
        let before = changes(daemon);
        // In its place: it keeps its mode.
        std::fs::write(daemon.dir.join("sysplex.key"), keys.join("\n") + "\n")?;
        kill(daemon.pid(), Signal::SIGHUP)?;
        wait::until("another key", SOON, || {
            ensure!(changes(daemon) > before, "{}", daemon.log());
            Ok(())
        })?;
    }
    Ok(())
}

fn changes(daemon: &Daemon) -> usize {
    daemon.log().matches("sysplex key changed").count()
}

#[test]
fn t26_the_sysplex_key_is_changed_and_no_connection_is_lost() -> Result<()> {
    if !swan::installed() || !etcd::installed() {
        eprintln!("not run: strongSwan with kernel-libipsec, or etcd, is not installed");
        return Ok(());
    }
    let mut lab = Lab::new("keychange")?;
    let mut plex = Plex::start(&mut lab, Shape { mode: Mode::Continue, ..Shape::default() })?;
    let peer = swan_peer(&lab)?;
    peer.initiate("v4")?;
    plex.tunnel("DIST")?;
    let downloads = PacedDownload::start(&lab, "PEER", server(false), (10, 1 << 30, 20_000), LONG)?;

    // Without the key in force nobody could read what stands in the store: that is refused.
    let owner = plex.of("DIST")?;
    std::fs::write(owner.dir.join("sysplex.key"), NEW)?;
    kill(owner.pid(), Signal::SIGHUP)?;
    wait::until("a refusal", SOON, || {
        ensure!(
            owner.log().contains("the key in force until now is on none of its lines"),
            "{}",
            owner.log()
        );
        Ok(())
    })?;

    give(&plex, &[OLD, NEW])?;
    give(&plex, &[NEW, OLD])?;
    wait::until("nothing sealed under the older key", SOON, || {
        let found = owner.cf("verify")?;
        ensure!(!found.contains("sealed under"), "{found}");
        Ok(())
    })?;
    give(&plex, &[NEW])?;
    ensure!(plex.owner_and_backup(SOON)?.0 == "DIST", "the DVIPA has not moved");

    // What was sealed again is of use: the owner is lost, and its connections go on.
    plex.of_mut("DIST")?.crash();
    wait::until("another owner", SOON, || {
        let state = plex.vipa("BACK")?;
        ensure!(state["State"] == "ACTIVE", "{state}");
        Ok(())
    })
    .with_context(|| plex.logs())?;
    for ended in PacedDownload::conclude(downloads, SOON)? {
        ensure!(ended.error.is_none(), "{}: {:?}\n{}", ended.server, ended.error, plex.logs());
    }
    Ok(())
}
