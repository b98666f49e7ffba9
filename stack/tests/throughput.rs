//! Two stacks back to back, ESP in UDP with AES-GCM-128 and static keys, iperf3 between applications: how many
//! Gbit/s, and what a GB costs. Not run by default; `cargo compare` has the figures of negotiated tunnels.
//!
//! ```text
//! cargo build --release -p stack
//! STACKD=target/release/stackd cargo test -p stack --test throughput -- --ignored --nocapture
//! ```
//!
//! `T` seconds (5), `ROUNDS` (3), `RAW=1` (protocol 50), `WIRE=1` (single packets cross the link).

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod support;

use stack::control::*;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use support::*;

const A: [u8; 4] = [192, 0, 2, 101];
const B: [u8; 4] = [192, 0, 2, 102];
/// The default of the daemon.
const REPLAY_WINDOW: u32 = 1024;

fn config(name: &str, home: [u8; 4]) -> StackConfig {
    StackConfig {
        name: name.into(),
        network: vec!["ext".into()],
        xcf: None,
        mark: 0x42,
        mark_mask: 0xff,
        home: vec![Home { address: IpAddr::from(home), role: Role::Static, epoch: 0 }],
        members: vec![],
        sysplex: None,
        max_connections: 100_000,
    }
}

/// 200 rules that do not match before the one that does.
fn filters() -> Vec<FilterRule> {
    let mut rules = Vec::new();
    for n in 0..100u8 {
        for mut rule in everything(false, FilterAction::Deny) {
            rule.name = format!("Other{n}");
            rule.source = AddressRange::single(IpAddr::from([10, 1, n, 1]));
            rules.push(rule);
        }
    }
    rules.extend(everything(false, FilterAction::Ipsec { on_demand: false }));
    rules
}

fn measured(local: [u8; 4], remote: [u8; 4], spi_in: u32, spi_out: u32) -> SaPair {
    let common = pair(IpAddr::from(local), IpAddr::from(remote), spi_in, spi_out);
    let udp = if std::env::var_os("RAW").is_some() { None } else { common.udp };
    SaPair { udp, esn: true, replay_window: REPLAY_WINDOW, ..common }
}

/// Seconds of CPU that a process has used.
fn cpu(process: nix::unistd::Pid) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Seconds of CPU that the machine has used.
fn busy() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let f: Vec<f64> =
        stat.lines().next().unwrap().split_whitespace().skip(1).map(|v| v.parse().unwrap()).collect();
    (f[0] + f[1] + f[2] + f[5] + f[6] + f[7]) / 100.0
}

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
#[ignore = "a measurement; takes the whole machine"]
fn throughput_back_to_back() {
    assert!(nix::unistd::geteuid().is_root(), "needs root");
    let net = Net::new("srtp", &[]).back_to_back("a", "b");
    let (a, b) = (net.namespace("a"), net.namespace("b"));
    if std::env::var_os("WIRE").is_some() {
        for node in ["a", "b"] {
            net.inside(node, || run("ethtool", "-K ext tx-udp-segmentation off tso off gro on"));
        }
    }
    let mut stacks = [net.start("a", "A"), net.start("b", "B")];
    let mut controls = Vec::new();
    for (stack, (name, local, remote, spi_in, spi_out)) in
        stacks.iter_mut().zip([("A", A, B, 0x1001, 0x1002), ("B", B, A, 0x1002, 0x1001)])
    {
        let mut iked = stack.connect();
        println!("{name}: {:?}", iked.configure(&config(name, local)));
        iked.filters(1, filters());
        iked.send(&ToStack::InstallSa(Box::new(measured(local, remote, spi_in, spi_out))));
        iked.ask(Question::Summary);
        controls.push(iked);
    }
    let mut server = Command::new("ip")
        .args(["netns", "exec", &b, "iperf3", "-s", "-B", &IpAddr::from(B).to_string()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let seconds = setting("T", 5);
    let client = |more: &str| -> serde_json::Value {
        let base = format!("netns exec {a} iperf3 -J -B {} -c {} {more}", IpAddr::from(A), IpAddr::from(B));
        let mut result = serde_json::Value::Null;
        until("the iperf3 server answers", || {
            // It ends well, with an error in its report, when the server does not listen yet.
            let report = try_run("ip", &base).ok();
            result = report.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            result.get("end").is_some_and(|end| end.get("sum").or(end.get("sum_received")).is_some())
        });
        result
    };
    for round in 1..=setting("ROUNDS", 3) {
        let before = (busy(), stacks.iter().map(|s| cpu(s.pid())).sum::<f64>());
        let json = client(&format!("-t {seconds}"));
        let after = (busy(), stacks.iter().map(|s| cpu(s.pid())).sum::<f64>());
        let received = &json["end"]["sum_received"];
        let gb = received["bytes"].as_f64().unwrap() / 1e9;
        println!(
            "round {round}: {:.2} Gbit/s, {:.2} CPU s/GB in all, {:.2} in the two stacks, {} retransmissions",
            received["bits_per_second"].as_f64().unwrap() / 1e9,
            (after.0 - before.0) / gb,
            (after.1 - before.1) / gb,
            json["end"]["sum_sent"]["retransmits"],
        );
    }
    for length in [64, 1340] {
        let json = client(&format!("-u -b 0 -l {length} -t 2"));
        let sum = &json["end"]["sum"];
        let value = |name: &str| sum[name].as_f64().unwrap();
        println!(
            "UDP {length}: {:.0} kpps received of {:.0} sent",
            (value("packets") - value("lost_packets")) / value("seconds") / 1e3,
            value("packets") / value("seconds") / 1e3
        );
    }
    for control in &mut controls {
        println!("{:?}", control.ask(Question::Drops));
        println!("{:?}", control.ask(Question::Sas));
    }
    server.kill().unwrap();
    server.wait().unwrap();
}
