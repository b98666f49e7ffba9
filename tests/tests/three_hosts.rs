//! `examples/three-hosts`: every file is valid, and the script that runs them shows what it says.

use anyhow::{Context, Result, ensure};
use e2e::etcd;
use e2e::process::run;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/three-hosts")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn every_host_has_valid_files() -> Result<()> {
    for host in ["alpha", "beta", "gamma", "branch"] {
        let etc = tempfile::tempdir()?;
        let own = folder().join(host);
        let policy = if own.join("policy.conf").exists() { own.clone() } else { folder() };
        fs::copy(own.join("iked.toml"), etc.path().join("iked.toml"))?;
        fs::copy(policy.join("policy.conf"), etc.path().join("policy.conf"))?;
        fs::copy(folder().join("servauth.toml"), etc.path().join("servauth.toml"))?;
        fs::write(etc.path().join("sysplex.key"), "5a".repeat(32))?;
        for secret in ["sysplex.key", "policy.conf"] {
            fs::set_permissions(etc.path().join(secret), fs::Permissions::from_mode(0o600))?;
        }
        let mut command = Command::new(e2e::node::binary("iked")?);
        let output = run(command.arg("--config").arg(etc.path().join("iked.toml")).arg("--check"))?;
        assert_eq!(output.status.code(), Some(0), "{host}: {}", text(&output));
        assert!(!text(&output).contains("warning"), "{host}: {}", text(&output));
    }
    Ok(())
}

#[test]
fn the_units_are_valid() -> Result<()> {
    let verify = "systemd-analyze";
    if Command::new(verify).arg("--version").output().is_err() {
        eprintln!("not run: {verify} is not installed");
        return Ok(());
    }
    let bin = e2e::node::binary("iked")?;
    let bin = bin.parent().context("a program lies in a folder")?;
    let dir = tempfile::tempdir()?;
    for (unit, name) in [("iked.service", "iked.service"), ("stackd@.service", "stackd@WEB1.service")] {
        // As installed, but for the folder of the programs.
        let unit = fs::read_to_string(folder().join("systemd").join(unit))?;
        let unit = unit.replace("/usr/sbin/", &format!("{}/", bin.display()));
        fs::write(
            dir.path().join(name),
            unit.replace("Documentation=man:ipsec(1)\n", "").replace("%i", "WEB1"),
        )?;
        let output = run(Command::new(verify).arg("verify").arg(dir.path().join(name)))?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{name}: {}", text(&output));
    }
    Ok(())
}

#[test]
fn the_script_loses_a_gateway_and_is_served_on() -> Result<()> {
    if !etcd::installed() || !nix::unistd::geteuid().is_root() {
        eprintln!("not run: needs etcd and root");
        return Ok(());
    }
    let bin = e2e::node::binary("iked")?;
    let output = run(Command::new(folder().join("in-namespaces")).env("BIN", bin.parent().unwrap_or(&bin)))?;
    let said = text(&output);
    ensure!(output.status.success(), "{}: {said}", output.status);
    let told = String::from_utf8_lossy(&output.stdout);
    let last = told.lines().last().unwrap_or_default();
    assert_eq!(last, "in-namespaces: served before and after the loss of alpha", "{said}");
    Ok(())
}
