//! Looking for a firewall that drops what the kernel forwards: all traffic of the home addresses passes there, since
//! it goes through the TUN.

use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Longest time that a firewall tool may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Warnings, one for each chain that drops.
pub(super) async fn dropping_forward_chains() -> Vec<String> {
    let mut warnings: Vec<String> = match output("nft", &["-j", "list", "ruleset"]).await {
        Some(json) => serde_json::from_str(&json).map(|v| dropping(&v)).unwrap_or_default(),
        None => Vec::new(),
    };
    // The older tables are not shown by nft. The tool is only asked where they are in use: asking makes them.
    for (tables, tool) in
        [("/proc/net/ip_tables_names", "iptables-legacy"), ("/proc/net/ip6_tables_names", "ip6tables-legacy")]
    {
        let used = std::fs::read_to_string(tables).is_ok_and(|t| t.lines().any(|l| l == "filter"));
        if used
            && let Some(rules) = output(tool, &["-S", "FORWARD"]).await
            && rules.lines().any(|l| l == "-P FORWARD DROP")
        {
            warnings.push(warning(tool, "FORWARD"));
        }
    }
    warnings
}

fn warning(table: &str, chain: &str) -> String {
    format!(
        "the forward chain {chain} of {table} drops by default, and traffic of home addresses passes it on its way \
         through the TUN: accept it there (interface names ipsec-*)"
    )
}

/// What a tool printed; `None` where it is not installed or fails.
async fn output(tool: &str, arguments: &[&str]) -> Option<String> {
    let run = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Base chains at the forward hook whose policy, or whose last rule without condition, drops.
fn dropping(ruleset: &Value) -> Vec<String> {
    let Some(objects) = ruleset["nftables"].as_array() else { return Vec::new() };
    let key = |o: &Value, name: &str| {
        (
            o["family"].as_str().map(str::to_owned),
            o["table"].as_str().map(str::to_owned),
            o[name].as_str().map(str::to_owned),
        )
    };
    objects
        .iter()
        .map(|o| &o["chain"])
        .filter(|c| c["hook"] == "forward" && c["type"] == "filter")
        .filter(|c| {
            let last = objects
                .iter()
                .map(|o| &o["rule"])
                .rfind(|r| !r.is_null() && key(r, "chain") == key(c, "name"));
            c["policy"] == "drop" || last.is_some_and(drops_all)
        })
        .map(|c| {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            warning(
                &format!("nftables table {} {}", text(&c["family"]), text(&c["table"])),
                &text(&c["name"]),
            )
        })
        .collect()
}

/// Drops or rejects whatever it sees: there is nothing before the verdict but counting and logging.
fn drops_all(rule: &Value) -> bool {
    let Some(parts) = rule["expr"].as_array() else { return false };
    let Some((verdict, before)) = parts.split_last() else { return false };
    let is = |part: &Value, names: &[&str]| names.iter().any(|n| part.get(n).is_some());
    is(verdict, &["drop", "reject"]) && before.iter().all(|p| is(p, &["counter", "log", "limit"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_and_a_last_rule_that_drop_are_found() {
        let v: Value = serde_json::from_str(
            r#"{"nftables":[{"metainfo":{"version":"1"}},{"table":{"family":"ip","name":"filter"}},
            {"chain":{"family":"ip","table":"filter","name":"FORWARD","type":"filter","hook":"forward","prio":0,"policy":"drop"}},
            {"chain":{"family":"inet","table":"fw","name":"fwd","type":"filter","hook":"forward","prio":0,"policy":"accept"}},
            {"rule":{"family":"inet","table":"fw","chain":"fwd","expr":[{"match":{}},{"accept":null}]}},
            {"rule":{"family":"inet","table":"fw","chain":"fwd","expr":[{"counter":{}},{"drop":null}]}},
            {"chain":{"family":"inet","table":"ok","name":"fwd","type":"filter","hook":"forward","prio":0,"policy":"accept"}},
            {"rule":{"family":"inet","table":"ok","chain":"fwd","expr":[{"match":{}},{"drop":null}]}},
            {"chain":{"family":"inet","table":"ok","name":"in","type":"filter","hook":"input","prio":0,"policy":"drop"}}]}"#,
        )
        .unwrap();
        let found = dropping(&v);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("ip filter") && found[1].contains("inet fw"));
    }
}
