//! The demo is held to what it promises: with strongSwan as the peer, with ourselves, and without root.

use anyhow::{Result, ensure};
use e2e::process::run;
use e2e::swan;
use std::process::{Command, Output};

/// The program as a test starts it: what it needs is built already.
fn demo(prefix: &[&str], arguments: &[&str]) -> Result<Output> {
    let program = e2e::node::binary("demo")?;
    let mut command = match prefix {
        [] => Command::new(&program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(&program);
            command
        }
    };
    run(command.args(arguments).env_remove("CARGO"))
}

fn holds_its_promise(output: &Output) -> Result<()> {
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    let last = text.lines().last().unwrap_or_default();
    assert_eq!(last, "demo: 30 connections, 3 targets, 0 cleartext packets on the network", "{text}");
    Ok(())
}

#[test]
fn with_strongswan_as_peer() -> Result<()> {
    if swan::missing() {
        return Ok(());
    }
    holds_its_promise(&demo(&[], &["--peer", "strongswan"])?)
}

#[test]
fn with_iked_as_peer() -> Result<()> {
    holds_its_promise(&demo(&[], &["--peer", "iked"])?)
}

#[test]
fn without_root() -> Result<()> {
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let reachable = demo(&nobody, &["--help"])?;
    let allowed = Command::new("setpriv").args(&nobody[1..]).args(["unshare", "-Urnm", "true"]).output()?;
    if !reachable.status.success() || !allowed.status.success() {
        eprintln!("not run: user nobody cannot start the program here, or may not make namespaces");
        return Ok(());
    }
    holds_its_promise(&demo(&nobody, &["--peer", "iked"])?)
}
