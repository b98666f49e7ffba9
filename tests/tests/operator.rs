//! What an operator sees and may do: reports, permissions, clear errors.
//!
//! ```text
//!   PEER === ext === DIST === xcf === TGT1
//! ```

use anyhow::{Context, Result, ensure};
use e2e::lab::Lab;
use e2e::node::Daemon;
use e2e::process::run;
use e2e::scenario::{Options, Sysplex};
use std::process::Output;

fn small() -> Options {
    Options { targets: 1, target_ext: false, ..Options::default() }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs `ipsec` as the user `nobody`, who may reach the socket.
fn as_nobody(daemon: &Daemon, line: &str) -> Result<Output> {
    let ipsec = daemon.ipsec_command(line)?;
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(own_copy(daemon, ipsec.get_program())?).args(ipsec.get_args());
    command.env("IPSECMGMT_SOCKET", daemon.socket());
    run(&mut command)
}

/// A copy of the program where another user may execute it.
fn own_copy(daemon: &Daemon, program: &std::ffi::OsStr) -> Result<std::path::PathBuf> {
    let copy = daemon.dir.join("ipsec-for-all");
    if !copy.exists() {
        std::fs::copy(program, &copy).context("copy of ipsec")?;
    }
    Ok(copy)
}

#[test]
fn who_may_not_is_told_so_and_who_may_is_served() -> Result<()> {
    let servauth = r#"
[[profile]]
name = "EZB.NETMGMT.SYSA.SYSA.IKED.DISPLAY"
permit = [{ user = "root" }, { user = "nobody" }]
[[profile]]
name = "EZB.NETMGMT.SYSA.TGT1.IPSEC.DISPLAY"
permit = [{ user = "root" }, { user = "nobody" }]
"#;
    let mut lab = Lab::new("permit")?;
    let plex = Sysplex::start(&mut lab, &Options { servauth: servauth.to_owned(), ..small() })?;
    let refused = as_nobody(&plex.daemon, "-p DIST -y display")?;
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused));
    assert!(text(&refused).contains("EACCES"), "{}", text(&refused));
    // Display of a stack does not allow control of it.
    let display = as_nobody(&plex.daemon, "-p TGT1 -y display")?;
    assert_eq!(display.status.code(), Some(0), "{}", text(&display));
    let control = as_nobody(&plex.daemon, "-p TGT1 -y deactivate -a all")?;
    assert_eq!(control.status.code(), Some(3), "{}", text(&control));
    // Both refusals stand in the audit lines.
    let log = plex.daemon.log();
    ensure!(log.lines().filter(|l| l.contains("audit") && l.contains("65534")).count() >= 2, "{log}");
    Ok(())
}

#[test]
fn an_unknown_stack_and_a_missing_daemon_are_clear_errors() -> Result<()> {
    let mut lab = Lab::new("unknown")?;
    let mut plex = Sysplex::start(&mut lab, &small())?;
    let unknown = run(&mut plex.daemon.ipsec_command("-p NOSUCH -y display")?)?;
    assert_eq!(unknown.status.code(), Some(4), "{}", text(&unknown));
    assert!(text(&unknown).contains("NOSUCH"), "{}", text(&unknown));
    plex.daemon.end(nix::sys::signal::Signal::SIGTERM);
    let gone = run(&mut plex.daemon.ipsec_command("-p DIST -y display")?)?;
    assert_eq!(gone.status.code(), Some(4), "{}", text(&gone));
    assert_eq!(text(&gone).lines().count(), 1, "one line, please: {}", text(&gone));
    Ok(())
}

#[test]
fn reports_have_the_products_headings_and_fields() -> Result<()> {
    let mut lab = Lab::new("reports")?;
    let plex = Sysplex::start(&mut lab, &small())?;
    let report = |line: &str| plex.daemon.ipsec(&format!("-p DIST {line}"));
    for (line, primary) in [
        ("-f display", "Primary:  Filter"),
        ("-k display", "Primary:  IKE tunnel"),
        ("-y display", "Primary:  Dynamic tunnel"),
        ("-i", "Primary:  Interface"),
    ] {
        let text = report(line)?;
        assert!(text.contains("Stack Name: DIST") && text.contains(primary), "{line}: {text}");
        assert!(text.contains("entries selected"), "{line}: {text}");
    }
    let filters = report("-f display")?;
    for name in ["SYSXCFGRE", "web", "web6"] {
        assert!(filters.contains(&format!("FilterName:                   {name}")), "{filters}");
    }
    let interfaces = report("-i")?;
    assert!(interfaces.contains("InterfaceAddress:             192.0.2.100"), "{interfaces}");
    assert!(interfaces.contains("DVIPA:                        Yes"), "{interfaces}");
    // Abbreviated keywords, short layout.
    assert!(report("-f DIS -r sho")?.contains("|FilterNameExtension"));
    Ok(())
}

#[test]
fn check_finds_every_error_and_starts_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let toml = "system = \"SYSA\"\nstate_dir = \"state\"\npolicy = \"policy.conf\"\nservauth = \"servauth.toml\"\n\n\
                [[stack]]\nname = \"DIST\"\nnetwork = [\"lo\"]\nhome = []\n";
    std::fs::write(dir.path().join("iked.toml"), toml)?;
    std::fs::write(dir.path().join("servauth.toml"), "")?;
    std::fs::write(
        dir.path().join("policy.conf"),
        "IpFilterPolicy\n{\n  IpFilterRulRef web\n  FilterLoging On\n}\n",
    )?;
    let check = || {
        let mut command = std::process::Command::new(e2e::node::binary("iked")?);
        run(command.arg("--config").arg(dir.path().join("iked.toml")).arg("--check"))
    };
    let bad = check()?;
    assert_eq!(bad.status.code(), Some(1), "{}", text(&bad));
    for expected in ["policy.conf:3:3", "policy.conf:4:3", "IpFilterRuleRef", "FilterLogging"] {
        assert!(text(&bad).contains(expected), "{expected} is not in: {}", text(&bad));
    }
    assert!(!dir.path().join("state").exists(), "--check left a state folder");
    std::fs::write(
        dir.path().join("policy.conf"),
        "IpFilterPolicy\n{\n  IpFilterRule all\n  {\n    IpGenericFilterAction\n    {\n      IpFilterAction Deny\n    }\n  }\n}\n",
    )?;
    let good = check()?;
    assert_eq!(good.status.code(), Some(0), "{}", text(&good));
    Ok(())
}

#[test]
fn the_examples_are_valid() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for name in ["iked.toml", "policy.conf", "servauth.toml"] {
        std::fs::copy(examples.join(name), dir.path().join(name))?;
    }
    // It holds a key.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(dir.path().join("policy.conf"), private)?;
    let key = dir.path().join("sysplex.key");
    std::fs::write(&key, "5a".repeat(32))?;
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let mut command = std::process::Command::new(e2e::node::binary("iked")?);
    let output = run(command.arg("--config").arg(dir.path().join("iked.toml")).arg("--check"))?;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(!text(&output).contains("warning"), "{}", text(&output));
    Ok(())
}
