//! The last guard, where nftables is there: nothing that is made on this host leaves by an interface to the network
//! with a home address as source, unless the stack's own sockets sent it.
//!
//! Routing keeps such packets in already; this catches what would get round it (a rule that somebody removed, a
//! socket bound to an interface). It stays when the stack dies.

use crate::control::StackConfig;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Name of our table.
pub const TABLE: &str = "stackd_guard";

/// Puts the guard in place of the one before. Without nftables there is none, which is no error.
pub(super) async fn set(config: &StackConfig) -> Option<String> {
    match run(&script(config)).await {
        Ok(()) => None,
        Err(Failure::NotInstalled) => None,
        Err(Failure::Refused(text)) => Some(format!(
            "nft refused the output guard ({text}); routing alone keeps clear packets of home addresses in"
        )),
    }
}

/// Removes it.
pub(super) async fn remove() {
    // Adding before deleting: deleting what is not there would be an error.
    if let Err(Failure::Refused(error)) =
        run(&format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")).await
    {
        tracing::warn!(error, "the output guard cannot be removed");
    }
}

/// What `nft` is told.
pub(super) fn script(config: &StackConfig) -> String {
    let mut s = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
    if config.network.is_empty() || config.home.is_empty() {
        return s;
    }
    s += &format!("table inet {TABLE} {{\n chain output {{\n  type filter hook output priority 300;\n");
    let interfaces: Vec<String> = config.network.iter().map(|n| format!("\"{n}\"")).collect();
    for home in &config.home {
        let family = match home.address {
            IpAddr::V4(_) => "ip",
            IpAddr::V6(_) => "ip6",
        };
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            s,
            "  oifname {{ {} }} {family} saddr {} meta mark & {:#x} != {:#x} counter drop",
            interfaces.join(", "),
            home.address,
            config.mark_mask,
            config.mark,
        );
    }
    s + " }\n}\n"
}

enum Failure {
    NotInstalled,
    Refused(String),
}

async fn run(script: &str) -> Result<(), Failure> {
    let refused = |e: std::io::Error| Failure::Refused(e.to_string());
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(
            |e| if e.kind() == std::io::ErrorKind::NotFound { Failure::NotInstalled } else { refused(e) },
        )?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes()).await.map_err(refused)?;
    }
    let output = child.wait_with_output().await.map_err(refused)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(Failure::Refused(text.lines().next().unwrap_or("no reason given").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Home, Role};

    #[test]
    fn the_script_names_every_home_address_and_the_mark() {
        let config = StackConfig {
            name: "S".into(),
            network: vec!["net0".into(), "net1".into()],
            xcf: None,
            mark: 0x42,
            mark_mask: 0xff,
            home: ["203.0.113.10", "2001:db8::10"]
                .map(|a| Home { address: a.parse().unwrap(), role: Role::Static, epoch: 0 })
                .to_vec(),
            members: vec![],
            sysplex: None,
            max_connections: 1,
        };
        let s = script(&config);
        for line in [
            r#"oifname { "net0", "net1" } ip saddr 203.0.113.10 meta mark & 0xff != 0x42 counter drop"#,
            r#"oifname { "net0", "net1" } ip6 saddr 2001:db8::10 meta mark & 0xff != 0x42 counter drop"#,
        ] {
            assert!(s.contains(line), "{s}");
        }
    }
}
