//! A process that dies lets nothing pass in clear, and comes back.
//!
//! ```text
//!   PEER .11 === ext === .1 DIST .1 === xcf === .21 .22 TGT1 TGT2
//! ```

use anyhow::{Result, ensure};
use e2e::capture::Capture;
use e2e::lab::Lab;
use e2e::node::Daemon;
use e2e::packet::Seen;
use e2e::scenario::{DVIPA4, Options, PEER_HOME4, Sysplex, iked_peer, server};
use e2e::{http, wait};
use nix::sys::signal::{Signal, kill};
use std::net::IpAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

fn start(name: &str) -> Result<(Lab, Sysplex, Daemon)> {
    let mut lab = Lab::new(name)?;
    let options =
        Options { targets: 2, peer4: PEER_HOME4.to_owned(), liveness_secs: 2, ..Options::default() };
    let plex = Sysplex::start(&mut lab, &options)?;
    let peer = iked_peer(&lab)?;
    http::get(&lab, "PEER", server(false), SOON)?;
    Ok((lab, plex, peer))
}

fn nothing_clear(captures: Vec<(&str, Capture)>) -> Result<()> {
    for (node, capture) in captures {
        let frames = capture.finish()?;
        for address in [DVIPA4, PEER_HOME4] {
            let address: IpAddr = address.parse()?;
            // What the peer's own kernel would send is the peer's matter; here: nothing of a TCP connection.
            assert_eq!(
                frames.count(|s| matches!(s, Seen::Clear(e, 6) if e.involves(address))),
                0,
                "{node}: {:?}",
                frames.file
            );
        }
    }
    Ok(())
}

#[test]
fn a_killed_stack_leaks_nothing_and_is_started_again() -> Result<()> {
    let (lab, plex, _peer) = start("killed")?;
    let captures = ["DIST", "TGT1", "TGT2"].map(|n| Capture::start(&lab, n, "ext").map(|c| (n, c)));
    let captures = captures.into_iter().collect::<Result<Vec<_>>>()?;
    let old = plex.daemon.stack_pid("DIST")?;
    kill(old, Signal::SIGKILL)?;
    wait::until("another stackd", SOON, || {
        let new = plex.daemon.stack_pid("DIST")?;
        ensure!(new != old, "still the old one");
        Ok(())
    })?;
    wait::until("a connection again", SOON, || {
        http::get(&lab, "PEER", server(false), Duration::from_secs(2))
    })?;
    nothing_clear(captures)
}

#[test]
fn a_killed_iked_takes_no_packet_with_it_and_adopts_its_stacks() -> Result<()> {
    let (lab, mut plex, _peer) = start("adopt")?;
    let captures = ["DIST", "TGT1", "TGT2"].map(|n| Capture::start(&lab, n, "ext").map(|c| (n, c)));
    let captures = captures.into_iter().collect::<Result<Vec<_>>>()?;
    let stacks = plex.daemon.stack_pids();
    plex.daemon.end(Signal::SIGKILL);
    // The stacks go on with the SAs that they have.
    for _ in 0..4 {
        http::get(&lab, "PEER", server(false), Duration::from_secs(5))?;
    }
    let again = Daemon::restart(plex.daemon.dir.clone(), "SYSA", &["DIST", "TGT1", "TGT2"])?;
    for pid in stacks {
        ensure!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "stackd {pid} was not adopted");
    }
    wait::until("a connection again", SOON, || {
        http::get(&lab, "PEER", server(false), Duration::from_secs(2))
    })?;
    drop(again);
    nothing_clear(captures)
}

#[test]
fn the_coupling_facility_has_a_record_of_each_sa_and_no_key() -> Result<()> {
    let (_lab, mut plex, _peer) = start("cf")?;
    let y = plex.daemon.entries("-p DIST -y display")?;
    assert_eq!(y[0]["CFRecord"], "Stored", "{y:?}");
    // A crash: what was written stays, no delete is recorded.
    let stacks = plex.daemon.stack_pids();
    plex.daemon.end(Signal::SIGKILL);
    for pid in stacks {
        kill(pid, Signal::SIGTERM)?;
    }
    let mut command = std::process::Command::new(e2e::node::binary("iked")?);
    let dump = e2e::process::check(
        command.arg("--config").arg(plex.daemon.dir.join("iked.toml")).args(["cf", "dump"]),
    )?;
    for expected in [
        format!("dvipa/{DVIPA4}/owner"),
        format!("dvipa/{DVIPA4}/phase1/"),
        format!("dvipa/{DVIPA4}/phase2/"),
    ] {
        assert!(dump.contains(&expected), "{expected} is not in: {dump}");
    }
    Ok(())
}
