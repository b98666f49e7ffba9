//! Defensive filters of a running stack: what is blocked does not arrive, what is simulated does, each ends by itself, and
//! a daemon that starts again has them still.
//!
//! ```text
//!   PEER 192.0.2.11 === ext === 192.0.2.1 SRV (home 198.51.100.1, everything in clear permitted)
//! ```

use anyhow::{Result, bail, ensure};
use e2e::http;
use e2e::lab::Lab;
use e2e::node::{Daemon, Files, SERVAUTH_ROOT_ONLY};
use e2e::policy::policy;
use e2e::process::run;
use e2e::scenario::{Options, PEER4, stack_table};
use e2e::wait::until;
use std::net::SocketAddr;
use std::time::Duration;

const HOME: &str = "198.51.100.1";
const SOON: Duration = Duration::from_secs(90);
/// A request that a filter keeps back is given up after this.
const SILENCE: Duration = Duration::from_secs(2);

fn server() -> SocketAddr {
    SocketAddr::new(HOME.parse().expect("a fixed address"), 80)
}

fn start(lab: &mut Lab) -> Result<Daemon> {
    for (node, host) in [("PEER", 11), ("SRV", 1)] {
        lab.node(node)?;
        lab.join(node, "ext", host)?;
    }
    let mut toml = String::new();
    stack_table(&mut toml, lab, "SRV", "[\"ext\"]", None, &format!("[\"{HOME}\"]"), None);
    toml.push_str("[stack.defense]\nmax_lifetime = 60\n");
    let options = Options { permits: vec![(HOME.into(), PEER4.into())], ..Options::default() };
    let files =
        Files { stacks: toml, policy: policy(&[], &options), servauth: SERVAUTH_ROOT_ONLY.to_owned() };
    let daemon = Daemon::start(lab, "SYSA", &files, &["SRV"])?;
    lab.ip("PEER", &format!("route add {HOME}/32 via 192.0.2.1 dev ext"))?;
    lab.ip("SRV", &format!("route add {PEER4}/32 dev ext src {HOME} table main proto static"))?;
    Ok(daemon)
}

fn gets_through(lab: &Lab, what: &str) -> Result<()> {
    until(what, SOON, || http::get(lab, "PEER", server(), Duration::from_secs(5))).map(drop)
}

/// The filters of a stack as `(name, action, matches)`.
fn shown(daemon: &Daemon, line: &str) -> Result<Vec<(String, String, u64)>> {
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
    let entry = |e: &serde_json::Value| {
        (text(&e["FilterName"]), text(&e["Action"]), e["FilterMatches"].as_u64().unwrap_or_default())
    };
    Ok(daemon.entries(line)?.iter().map(entry).collect())
}

#[test]
fn what_is_blocked_does_not_arrive_and_each_filter_ends_by_itself() -> Result<()> {
    let mut lab = Lab::new("defense")?;
    let mut daemon = start(&mut lab)?;
    let _server = http::start_server(&lab, "SRV", "SRV", 80)?;
    gets_through(&lab, "the page")?;

    // Simulated: everything arrives, and the log names the filter.
    daemon
        .ipsec(&format!("-p SRV -F add srcip {PEER4} prot tcp destport 80 mode simulate log yes -N maybe"))?;
    gets_through(&lab, "the page past a simulating filter")?;
    until("the line about the simulating filter", SOON, || {
        ensure!(
            daemon.log().contains("would have dropped defensive_block: filter maybe.1"),
            "{}",
            daemon.log()
        );
        Ok(())
    })?;
    let all = shown(&daemon, "-p SRV -F")?;
    ensure!(all.len() == 1 && all[0].1 == "Defensive Simulate" && all[0].2 > 0, "{all:?}");
    ensure!(daemon.drops("SRV", "defensive_block")? == 0, "a simulating filter drops nothing");

    // Blocked: nothing arrives, and it is counted and named.
    daemon
        .ipsec(&format!("-p SRV -F add srcip {PEER4} prot tcp destport 80 log yes lifetime 1 -N scanner"))?;
    if let Ok(page) = http::get(&lab, "PEER", server(), SILENCE) {
        bail!("{page} came past a filter");
    }
    ensure!(daemon.drops("SRV", "defensive_block")? > 0, "{}", daemon.log());
    until("the line about the blocking filter", SOON, || {
        ensure!(daemon.log().contains(" dropped defensive_block: filter scanner.1"), "{}", daemon.log());
        Ok(())
    })?;
    let all = shown(&daemon, "-p SRV -F")?;
    let names: Vec<_> = all.iter().map(|f| (f.0.as_str(), f.1.as_str())).collect();
    ensure!(names == [("scanner", "Defensive Block"), ("maybe", "Defensive Simulate")], "{all:?}");
    // They stand first in the display of all filters, and in the traffic test.
    let first = &daemon.entries("-p SRV -f")?[0];
    ensure!(first["Type"] == "Defensive" && first["FilterName"] == "scanner", "{first}");
    let test = daemon.entries(&format!("-p SRV -t {PEER4} {HOME} tcp 0 80 in"))?;
    ensure!(test[0]["FilterName"] == "scanner", "{}", test[0]);

    // Another daemon takes the stack over and has them still; they go on to their ends.
    daemon.start_again()?;
    let again: Vec<_> = shown(&daemon, "-p SRV -F")?.into_iter().map(|f| f.0).collect();
    ensure!(again == ["scanner", "maybe"], "{again:?}");

    // It ends by itself, at the stack and in the list.
    gets_through(&lab, "the page after the filter's minute")?;
    until("the end in the list", SOON, || {
        let all = shown(&daemon, "-p SRV -F")?;
        ensure!(all.len() == 1 && all[0].0 == "maybe", "{all:?}");
        Ok(())
    })?;

    // Update, global ones, and what cannot be.
    daemon.ipsec("-p SRV -F update mode block -N maybe")?;
    if let Ok(page) = http::get(&lab, "PEER", server(), SILENCE) {
        bail!("{page} came past a filter");
    }
    daemon.ipsec("-p SRV -F delete -N maybe")?;
    gets_through(&lab, "the page after the filter was deleted")?;
    daemon.ipsec(&format!("-F add srcip {PEER4} -N worm -G"))?;
    if let Ok(page) = http::get(&lab, "PEER", server(), SILENCE) {
        bail!("{page} came past a global filter");
    }
    let global = &daemon.entries("-F -G")?[0];
    ensure!(global["AssociatedStackCount"] == 1 && global["DefensiveType"] == "Global", "{global}");
    for (line, code) in [
        ("-p SRV -F add -N worm", 1),
        ("-p SRV -F add lifetime 61 -N long", 1),
        ("-p SRV -F delete -N none", 1),
        ("-p SRV -F add mode bloc -N x", 2),
        ("-p NONE -F add -N x", 4),
    ] {
        let output = run(&mut daemon.ipsec_command(line)?)?;
        ensure!(output.status.code() == Some(code), "ipsec {line}: {output:?}");
    }
    daemon.ipsec("-F delete -a all -G")?;
    gets_through(&lab, "the page after the global filter was deleted")?;
    let log = daemon.log();
    let audit = log.lines().filter(|l| l.contains("audit") && l.contains("NMsec_DELETE_DEFENSIVE"));
    ensure!(audit.filter(|l| l.contains("DMD_GLOBAL") && l.contains("worm done")).count() == 1, "{log}");
    Ok(())
}
