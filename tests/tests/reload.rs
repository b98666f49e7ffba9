//! A policy of ten thousand rules is replaced under traffic: nothing of what it still permits is lost.
//!
//! ```text
//!   A 198.51.100.11 === ext === 198.51.100.12 B
//! ```

use anyhow::{Context, Result, ensure};
use e2e::http::PacedDownload;
use e2e::lab::Lab;
use e2e::meter::Meter;
use e2e::node::{Daemon, Files, SERVAUTH_ROOT_ONLY};
use e2e::policy::{Pair, policy};
use e2e::process::run;
use e2e::scenario::{Options, stack_table};
use e2e::{http, say, wait};
use nix::sys::signal::{Signal, kill};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

const A: &str = "198.51.100.11";
const B: &str = "198.51.100.12";
const RULES: usize = 10_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// The policy of a host: its tunnel, and rules about the rest of the world, of which `variant` makes others.
fn large(local: &str, remote: &str, rules: usize, variant: u8) -> String {
    let pairs = [Pair { name: "all", local, remote, start: "toPeer" }];
    let text = policy(&pairs, &Options { on_demand: true, ..Options::default() });
    let (mut names, mut more) = (String::new(), String::new());
    for n in 0..rules {
        let _ = writeln!(names, "  IpFilterRuleRef  r{n}");
        let (high, low) = (n / 250, n % 250);
        let _ = write!(
            more,
            "IpFilterRule r{n}\n{{\n  IpSourceAddr  {local}\n  IpDestAddr    10.{high}.{low}.{variant}\n  IpService\n  {{\n    Protocol              tcp\n    DestinationPortRange  {}\n  }}\n  IpGenericFilterActionRef  plain\n}}\n",
            1000 + n % 60_000
        );
    }
    // After the tunnel's rule, which comes first.
    let text = text.replacen("  IpFilterRuleRef  all\n", &format!("  IpFilterRuleRef  all\n{names}"), 1);
    text + &more + "IpGenericFilterAction plain\n{\n  IpFilterAction  Permit\n}\n"
}

fn start(lab: &Lab, node: &str, own: &str, policy: String) -> Result<Daemon> {
    let mut toml = "[ike]\nretries = 3\ninit_wait_secs = 2\n\n".to_owned();
    stack_table(&mut toml, lab, node, "[\"ext\"]", None, &format!("[\"{own}\"]"), None);
    let files = Files { stacks: toml, policy, servauth: SERVAUTH_ROOT_ONLY.to_owned() };
    Daemon::start(lab, &format!("SYS{node}"), &files, &[node])
}

fn replace(daemon: &Daemon, policy: &str) -> Result<()> {
    // In place: the file keeps its mode.
    std::fs::write(daemon.dir.join("policy.conf"), policy).context("policy.conf")
}

/// The SPIs of the only tunnel.
fn spis(daemon: &Daemon) -> Result<String> {
    let tunnels = daemon.entries("-p B -y display")?;
    ensure!(tunnels.len() == 1, "{tunnels:?}\n{}", daemon.log());
    Ok(format!("{} {}", tunnels[0]["EncryptInboundSpi"], tunnels[0]["EncryptOutboundSpi"]))
}

/// How often something stands in the log.
fn said(daemon: &Daemon, what: &str) -> usize {
    daemon.log().matches(what).count()
}

#[test]
fn ten_thousand_rules_are_replaced_under_a_download() -> Result<()> {
    let mut lab = Lab::new("reload")?;
    for (node, host) in [("A", 11), ("B", 12)] {
        lab.node(node)?;
        lab.join(node, "ext", host)?;
    }
    let _a = start(&lab, "A", A, large(A, B, 0, 0))?;
    // Small at first: whoever waits for a daemon asks for all of its filters.
    let b = start(&lab, "B", B, large(B, A, 3, 1))?;
    lab.ip("A", &format!("route add {B}/32 via 192.0.2.12 src {A}"))?;
    lab.ip("B", &format!("route add {A}/32 via 192.0.2.11 src {B}"))?;
    let _server = http::start_server(&lab, "B", "B", 80)?;
    let server: SocketAddr = format!("{B}:80").parse()?;
    wait::until("the tunnel", PATIENCE, || http::get(&lab, "A", server, Duration::from_secs(5)))?;
    let before = spis(&b)?;

    let own = A.parse()?;
    let meter_at: SocketAddr = format!("{B}:{}", e2e::meter::PORT).parse()?;
    let meter = Meter::start_from(&lab, "A", own, meter_at, &["B".to_owned()])?;
    // Slow, so that a machine with other work loses nothing to its own queues.
    let download = PacedDownload::start(&lab, "A", server, (1, 4_000_000, 250_000), PATIENCE)?;

    // Ten thousand rules, and others in their place, by the command.
    for variant in [2, 3] {
        let exchanges = said(&b, "filters in force");
        replace(&b, &large(B, A, RULES, variant))?;
        b.ipsec("-p B -f reload")?;
        wait::until("the new filters", PATIENCE, || {
            let shown = b.ipsec("-p B -f display -n r7")?;
            ensure!(shown.contains(&format!("10.0.7.{variant}")), "{shown}");
            ensure!(said(&b, "filters in force") > exchanges, "{}", b.log());
            Ok(())
        })?;
    }
    // By the signal.
    replace(&b, &large(B, A, RULES, 4))?;
    kill(b.pid(), Signal::SIGHUP)?;
    wait::until("the filters after the signal", PATIENCE, || {
        let shown = b.ipsec("-p B -f display -n r7")?;
        ensure!(shown.contains("10.0.7.4"), "{shown}");
        Ok(())
    })?;
    // With a fault: the answer, the exit code and the log say so, and nothing changes.
    replace(
        &b,
        &large(B, A, RULES, 5)
            .replace("IpSourceAddr  198.51.100.12\n  IpDestAddr    10.0.7.5", "IpSorceAddr  x"),
    )?;
    let refused = run(&mut b.ipsec_command("-p B -f reload")?)?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1), "{:?} {told}", refused.status);
    ensure!(told.contains("the filters before stay in force"), "{told}");
    ensure!(b.log().contains("did you mean `IpSourceAddr`?"), "{}", b.log());
    ensure!(b.ipsec("-p B -f display -n r7")?.contains("10.0.7.4"), "the filters before are gone");
    kill(b.pid(), Signal::SIGHUP)?;
    wait::until("the second refusal", PATIENCE, || {
        ensure!(said(&b, "the one before stays in force") == 2, "{}", b.log());
        Ok(())
    })?;

    for d in download {
        let done = d.finish()?;
        ensure!(done.error.is_none(), "{:?}", done.error);
    }
    let silence = meter.finish()?;
    ensure!(spis(&b)? == before, "the SA of an unchanged rule was touched");
    for (way, stream) in [("to B", &silence.to_server), ("to A", &silence.to_client)] {
        ensure!(stream.missing() == 0, "{way}: {} of {} datagrams lost", stream.missing(), stream.sent);
    }
    for line in b.log().lines().filter(|l| l.contains("filters in force")) {
        say(line);
    }
    say(&format!(
        "{} and {} datagrams beside the download, none lost",
        silence.to_server.sent, silence.to_client.sent
    ));

    // A policy without the rule: its SAs go, at both ends.
    replace(
        &b,
        "IpFilterPolicy\n{\n  IpFilterRule nothing\n  {\n    IpGenericFilterAction\n    {\n      IpFilterAction  Deny\n    }\n  }\n}\n",
    )?;
    b.ipsec("-p B -f reload")?;
    wait::until("no tunnel", PATIENCE, || {
        let left = b.entries("-p B -y display")?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    ensure!(b.log().contains("no rule covers it any more"), "{}", b.log());
    Ok(())
}

#[test]
fn default_filters_and_back() -> Result<()> {
    let mut lab = Lab::new("default")?;
    for (node, host) in [("A", 11), ("B", 12)] {
        lab.node(node)?;
        lab.join(node, "ext", host)?;
    }
    let _a = start(&lab, "A", A, large(A, B, 0, 0))?;
    let b = start(&lab, "B", B, large(B, A, 3, 1))?;
    lab.ip("A", &format!("route add {B}/32 via 192.0.2.12 src {A}"))?;
    lab.ip("B", &format!("route add {A}/32 via 192.0.2.11 src {B}"))?;
    let _server = http::start_server(&lab, "B", "B", 80)?;
    let server: SocketAddr = format!("{B}:80").parse()?;
    let get = |limit| http::get(&lab, "A", server, limit);
    wait::until("the tunnel", PATIENCE, || get(Duration::from_secs(5)))?;
    let before = spis(&b)?;
    // The defaults deny it; the SA stays, unused.
    b.ipsec("-p B -f default")?;
    wait::until("the defaults", PATIENCE, || {
        let shown = b.ipsec("-p B -f display")?;
        ensure!(shown.contains("SYSDEFAULTRULE.1") && shown.contains("Stack Profile"), "{shown}");
        Ok(())
    })?;
    ensure!(get(Duration::from_secs(1)).is_err(), "served under the default filters");
    ensure!(spis(&b)? == before, "an SA went");
    b.ipsec("-p B -f reload")?;
    wait::until("an answer under the policy", PATIENCE, || get(Duration::from_secs(5)))?;
    ensure!(spis(&b)? == before, "an SA was made again");
    Ok(())
}
