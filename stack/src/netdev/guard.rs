//! The last guard, where nftables is there: nothing that is made on this host leaves by an interface to the network
//! with a home address as source, unless the stack's own sockets sent it.
//!
//! Routing keeps most such packets in already. Two kinds get round it. A socket that has not chosen its source (unbound and
//! unconnected UDP, raw sockets) is routed first, and gets a home address as source from the route that was found: such a
//! packet is *diverted*, that is marked, whereupon the kernel routes it again, now with its source, into the TUN. What
//! still would leave (a rule that somebody removed) is dropped and counted. The guard stays when the stack dies.
//!
//! ```text
//!  output, -150   divert       home address as source, not the stack's mark ─► another mark: routed again
//!  output, 300    output       the same, and not diverted ─► dropped: where there is no mark to divert with
//!  postrouting    postrouting  diverted, and yet on its way to the network ─► dropped
//! ```

use crate::control::StackConfig;
use std::fmt::Write as _;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Name of our table.
pub const TABLE: &str = "stackd_guard";

/// Puts the guard in place of the one before. Without nftables there is none, which is no error.
pub(super) async fn set(config: &StackConfig) -> Option<String> {
    let script = script(config);
    let plain = plain_script(config);
    let set = match run(&script).await {
        // A kernel before 5.2 routes nothing again in a table for both families.
        Err(Failure::Refused(text)) if script != plain => {
            tracing::info!(text, "nft diverts nothing: unbound sockets must bind to a home address");
            run(&plain).await
        }
        other => other,
    };
    match set {
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
    let (own, mask) = (config.mark, config.mark_mask);
    let Some(diverted) = divert_mark(own, mask) else { return plain_script(config) };
    guard(
        config,
        &[
            (
                "divert { type route hook output priority -150;",
                format!(
                    "meta mark & {mask:#x} != {own:#x} counter meta mark set meta mark & {:#x} | {diverted:#x}",
                    !mask
                ),
            ),
            (
                "output { type filter hook output priority 300;",
                format!("meta mark & {mask:#x} != {{ {own:#x}, {diverted:#x} }} counter drop"),
            ),
            (
                "postrouting { type filter hook postrouting priority 300;",
                format!("meta mark & {mask:#x} == {diverted:#x} counter drop"),
            ),
        ],
    )
}

/// The same without diverting anything.
fn plain_script(config: &StackConfig) -> String {
    let drop = format!("meta mark & {:#x} != {:#x} counter drop", config.mark_mask, config.mark);
    guard(config, &[("output { type filter hook output priority 300;", drop)])
}

/// Another mark than the stack's and none, of the bits that are the stack's; `None`: there is no other.
fn divert_mark(own: u32, mask: u32) -> Option<u32> {
    let bits = (0..u32::BITS).map(|n| 1 << n).filter(|bit| mask & bit != 0);
    bits.map(|bit| own ^ bit).find(|mark| mark & mask != 0).map(|mark| mark & mask)
}

/// Chains, each with what is done with packets that would leave by the network with a home address as source.
fn guard(config: &StackConfig, chains: &[(&str, String)]) -> String {
    let mut s = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
    if config.network.is_empty() || config.home.is_empty() {
        return s;
    }
    let interfaces: Vec<String> = config.network.iter().map(|n| format!("\"{n}\"")).collect();
    let interfaces = interfaces.join(", ");
    // Writing to a `String` cannot fail.
    let _ = writeln!(s, "table inet {TABLE} {{");
    for (head, action) in chains {
        let _ = writeln!(s, " chain {head}");
        for home in &config.home {
            let family = if home.address.is_ipv4() { "ip" } else { "ip6" };
            let _ = writeln!(s, "  oifname {{ {interfaces} }} {family} saddr {} {action}", home.address);
        }
        s += " }\n";
    }
    s + "}\n"
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
        for (address, actions) in [
            ("ip saddr 203.0.113.10", 3),
            ("ip6 saddr 2001:db8::10", 3),
            ("meta mark & 0xff != 0x42 counter meta mark set meta mark & 0xffffff00 | 0x43", 2),
            ("meta mark & 0xff != { 0x42, 0x43 } counter drop", 2),
            ("meta mark & 0xff == 0x43 counter drop", 2),
        ] {
            assert_eq!(s.matches(address).count(), actions, "{address}: {s}");
            assert!(
                s.lines()
                    .filter(|l| l.contains(address))
                    .all(|l| l.contains(r#"oifname { "net0", "net1" }"#))
            );
        }
        let plain = plain_script(&config);
        assert_eq!(plain.matches("meta mark & 0xff != 0x42 counter drop").count(), 2, "{plain}");
        // One bit is the stack's own mark or none: there is nothing to divert with.
        let narrow = StackConfig { mark: 1, mark_mask: 1, ..config };
        assert_eq!(script(&narrow), plain_script(&narrow));
        assert_eq!(divert_mark(0x100, 0x300), Some(0x300));
    }
}
