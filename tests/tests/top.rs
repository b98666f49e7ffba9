//! `ipsec top` in a terminal of 80 by 24, before a running system.
//!
//! ```text
//!   PEER === ext === DIST === xcf === TGT1        tmux (80x24) ── ipsec top ── NMI ──► iked
//!   strongSwan       DVIPA 192.0.2.100
//! ```

use anyhow::{Context, Result, ensure};
use e2e::process::{check, run};
use e2e::scenario::{PEER4, Sysplex, server, swan_peer};
use e2e::{http, swan, wait};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(40);

/// A terminal that nobody else has; gone when dropped.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    fn start(folder: &Path, command: &str) -> Result<Self> {
        let terminal = Self { socket: folder.join("tmux") };
        check(terminal.tmux().args(["new-session", "-d", "-x", "80", "-y", "24", command]))?;
        Ok(terminal)
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-f").arg("/dev/null").arg("-S").arg(&self.socket).env_remove("TMUX");
        command
    }

    fn screen(&self) -> Result<String> {
        check(self.tmux().args(["capture-pane", "-p"]))
    }

    fn keys(&self, keys: &[&str]) -> Result<()> {
        check(self.tmux().arg("send-keys").args(keys)).map(drop)
    }

    fn shows(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        wait::until(what, LIMIT, || {
            let screen = self.screen()?;
            ensure!(wanted(&screen), "{screen}");
            Ok(screen)
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = run(self.tmux().arg("kill-server"));
    }
}

#[test]
fn tunnels_rates_targets_and_keys_in_a_terminal() -> Result<()> {
    if !swan::installed() || run(Command::new("tmux").arg("-V")).is_err() {
        eprintln!("not run: strongSwan with kernel-libipsec or tmux is not installed");
        return Ok(());
    }
    let (lab, plex) = Sysplex::with_one_target("top")?;
    let peer = swan_peer(&lab)?;
    peer.initiate("v4")?;

    // Without a terminal it says so, and prints one screen where that is asked for.
    let refused = run(&mut plex.daemon.ipsec_command("top -p DIST")?)?;
    assert_eq!(refused.status.code(), Some(2));
    let once = plex.daemon.ipsec("top -p DIST --once --interval 0.2")?;
    assert_eq!(once.lines().count(), 24, "{once}");
    assert!(once.lines().all(|l| l.chars().count() <= 80), "{once}");
    assert!(once.contains("stack DIST") && once.contains(PEER4) && once.contains("TGT1"), "{once}");

    let program = plex.daemon.ipsec_command("top")?.get_program().to_owned();
    let program = program.to_str().context("a path of text")?;
    let folder = lab.folder("tmux")?;
    let socket = plex.daemon.socket();
    // What is left on the screen after the end shows how it ended.
    let command = format!(
        "{program} --socket {} top -p DIST --interval 0.3; echo ended $?; sleep 600",
        socket.display()
    );
    let terminal = Terminal::start(&folder, &command)?;
    terminal.shows("the tunnel", |s| {
        s.contains("stack DIST") && s.contains(PEER4) && s.contains("1/1 by traffic")
    })?;
    // Traffic is seen as rates, of the tunnel and in sum.
    let busy = wait::until("rates", LIMIT, || {
        http::get(&lab, "PEER", server(false), LIMIT)?;
        let screen = terminal.screen()?;
        let row = screen.lines().find(|l| l.contains(PEER4)).context("no tunnel")?;
        let rates: Vec<_> = row.split_whitespace().skip(3).take(4).collect();
        ensure!(rates.iter().all(|r| *r != "0"), "{screen}");
        Ok(screen)
    })?;
    assert!(busy.contains("TGT1") && busy.contains("DVIPA 192.0.2.100"), "{busy}");
    println!("{busy}");
    terminal.keys(&["/", "nowhere", "Enter"])?;
    terminal.shows("nothing that fits", |s| s.contains("0/0 by traffic") && !s.contains(PEER4))?;
    terminal.keys(&[
        "/", "BSpace", "BSpace", "BSpace", "BSpace", "BSpace", "BSpace", "BSpace", "Enter", "5", "r",
    ])?;
    terminal.shows("another order", |s| s.contains("1/1 by peer up"))?;
    terminal.keys(&["q"])?;
    terminal.shows("the end", |s| s.contains("ended 0"))?;
    Ok(())
}
