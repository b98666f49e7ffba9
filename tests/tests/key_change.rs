//! The key of a sysplex of several systems is changed, system by system, while connections go on (docs/coupling-facility.md).

use anyhow::{Context, Result, ensure};
use e2e::etcd;
use e2e::http::PacedDownload;
use e2e::lab::Lab;
use e2e::node::SYSPLEX_KEY as OLD;
use e2e::plex::{Mode, Plex, Shape, swan_peer};
use e2e::scenario::server;
use e2e::swan;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(600);
/// The key that follows the one that the harness has given out.
const NEW: &str = "f0e1d2c3b4a5968778695a4b3c2d1e0ff0e1d2c3b4a5968778695a4b3c2d1e0f";

/// Gives all systems these keys, one after the other. The stacks of SYSC are the targets: connections end there, so that its
/// daemon alone is replaced; the others move what they own away.
fn give(plex: &mut Plex, keys: &[&str]) -> Result<()> {
    for system in ["SYSC", "SYSA", "SYSB"] {
        let daemon = plex.systems.get_mut(system).context("it runs")?;
        // In its place: it keeps its mode.
        std::fs::write(daemon.dir.join("sysplex.key"), keys.join("\n") + "\n")?;
        if system == "SYSC" {
            daemon.start_again()?
        } else {
            daemon.restart_in_order()?
        }
        let (owner, _) = plex.owner_and_backup(SOON).with_context(|| plex.logs())?;
        plex.tunnel(owner)?;
    }
    Ok(())
}

/// Runs `iked cf …` on the owner's system.
fn at_owner(plex: &Plex, line: &str) -> Result<String> {
    let (owner, _) = plex.owner_and_backup(SOON)?;
    plex.of(owner)?.cf(line)
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

    give(&mut plex, &[OLD, NEW])?;
    give(&mut plex, &[NEW, OLD])?;
    at_owner(&plex, "repair --yes")?;
    give(&mut plex, &[NEW])?;
    let found = at_owner(&plex, "verify")?;
    ensure!(!found.contains("sealed under"), "{found}");

    for ended in PacedDownload::conclude(downloads, SOON)? {
        ensure!(ended.error.is_none(), "{}: {:?}\n{}", ended.server, ended.error, plex.logs());
    }
    Ok(())
}
