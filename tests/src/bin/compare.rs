//! `cargo compare`: figures beside another system's, in one run on one machine.
//!
//! Absolute figures mean little between machines; the ratio does. Every round measures each case once, so that
//! whatever else the machine does falls on all of them; the medians are printed.

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use e2e::http;
use e2e::lab::Lab;
use e2e::node::{Daemon, Files, SERVAUTH_ROOT_ONLY};
use e2e::policy::{self, Pair};
use e2e::process::{Background, check, cpu_seconds};
use e2e::say;
use e2e::scenario::{self, DVIPA4, Options, PEER_HOME4, SECRET, Sysplex};
use e2e::swan::{self, Connection, Swan};
use nix::unistd::Pid;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(about = "Measures this project beside another system, interleaved in one run")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// TCP through ESP: our stack to our stack, strongSwan to strongSwan (kernel-libipsec), and
    /// peer to distributor to target in GRE.
    Throughput {
        /// Rounds; the medians are printed.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds of each measurement.
        #[arg(long, default_value_t = 4)]
        seconds: u32,
        /// Size of the file that is downloaded and verified in each case, in MB.
        #[arg(long, default_value_t = 100)]
        file_mb: u64,
    },
    /// The compiled filter table at 10, 1,000 and 100,000 rules: lookup, build, memory (bench `filter` of `stack`).
    Filter,
    /// The management interface with 100,000 dynamic tunnels: all of them in one answer, 50 clients, memory.
    Nmi {
        /// Dynamic tunnels, negotiated by up to 500 peers.
        #[arg(long, default_value_t = 100_000)]
        tunnels: u32,
        /// Seconds of each measurement.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().what {
        What::Throughput { rounds, seconds, file_mb } => {
            e2e::node::build(&["e2e"], false).and_then(|()| throughput(rounds, seconds, file_mb * 1_000_000))
        }
        What::Filter => filter(),
        What::Nmi { tunnels, seconds } => e2e::node::build(&["e2e"], false)
            .and_then(|()| e2e::nmi_load::measure(tunnels, Duration::from_secs(seconds))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say(&format!("compare: failed: {e:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The bench of the crate that has the table.
fn filter() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args(["bench", "--quiet", "--package", "stack", "--no-default-features", "--bench", "filter"])
        .status()
        .context("cargo bench")?;
    ensure!(status.success(), "cargo bench: {status}");
    Ok(())
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Figure {
    gbit_per_s: f64,
    cpu_s_per_gb: f64,
}

/// Figures of one case over all rounds.
#[derive(Debug, Default)]
struct Case {
    figures: Vec<Figure>,
}

impl Case {
    fn median(&self, of: impl Fn(&Figure) -> f64) -> f64 {
        let mut values: Vec<f64> = self.figures.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

fn throughput(rounds: usize, seconds: u32, file: u64) -> Result<()> {
    ensure!(
        !cfg!(debug_assertions),
        "figures of a debug build mean nothing: cargo compare builds with --release"
    );
    ensure!(nix::unistd::geteuid().is_root(), "needs root for namespaces");
    ensure!(Path::new("/usr/bin/iperf3").exists(), "needs iperf3: apt-get install iperf3");
    ensure!(
        swan::installed(),
        "needs strongSwan with kernel-libipsec: apt-get install strongswan-charon strongswan-swanctl libcharon-extra-plugins libstrongswan-extra-plugins libstrongswan-standard-plugins"
    );
    let (mut ours, mut theirs, mut sysplex) = (Case::default(), Case::default(), Case::default());
    for round in 1..=rounds {
        theirs.figures.push(strongswan(seconds, file).context("strongSwan to strongSwan")?);
        ours.figures.push(stack_to_stack(seconds, file).context("stack to stack")?);
        sysplex.figures.push(through_distributor(seconds, file).context("peer to target")?);
        say(&format!(
            "round {round}: strongSwan {}, stack to stack {}, peer-distributor-target {}",
            show(theirs.figures[round - 1]),
            show(ours.figures[round - 1]),
            show(sysplex.figures[round - 1])
        ));
    }
    say(&format!("\n{} cores, kernel {}, {}", cores(), kernel()?, swan::version()?));
    say(&format!(
        "medians of {rounds} interleaved rounds of {seconds} s; files of {file} bytes verified in each"
    ));
    say("case                                             Gbit/s   CPU s per GB (tunnel processes)");
    for (name, case) in [
        ("strongSwan to strongSwan, kernel-libipsec", &theirs),
        ("stackd to stackd", &ours),
        ("peer -> distributor -> GRE -> target", &sysplex),
    ] {
        say(&format!(
            "{name:46} {:8.2} {:8.2}",
            case.median(|f| f.gbit_per_s),
            case.median(|f| f.cpu_s_per_gb)
        ));
    }
    let ratio = |case: &Case| case.median(|f| f.gbit_per_s) / theirs.median(|f| f.gbit_per_s);
    let cpu = |case: &Case| theirs.median(|f| f.cpu_s_per_gb) / case.median(|f| f.cpu_s_per_gb);
    say(&format!(
        "stackd to stackd: {:.1} times strongSwan's throughput, {:.1} times less CPU per byte",
        ratio(&ours),
        cpu(&ours)
    ));
    say(&format!(
        "through the distributor: {:.1} times strongSwan's throughput, {:.1} times less CPU per byte",
        ratio(&sysplex),
        cpu(&sysplex)
    ));
    Ok(())
}

fn show(f: Figure) -> String {
    format!("{:.2} Gbit/s ({:.2} CPU s/GB)", f.gbit_per_s, f.cpu_s_per_gb)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn kernel() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned())
}

/// Two hosts on one segment.
fn two_hosts() -> Result<Lab> {
    let mut lab = Lab::new("cmp")?;
    for (node, host) in [("A", 11), ("B", 12)] {
        lab.node(node)?;
        lab.join(node, "ext", host)?;
    }
    Ok(lab)
}

fn strongswan(seconds: u32, file: u64) -> Result<Figure> {
    let lab = two_hosts()?;
    let (a, b) = ("192.0.2.11", "192.0.2.12");
    let left = Swan::start(&lab, "A", &[Connection::host_to_host("t", a, b, SECRET)])?;
    let right = Swan::start(&lab, "B", &[Connection::host_to_host("t", b, a, SECRET)])?;
    left.initiate("t")?;
    measure(&lab, "A", "B", b, &[left.pid(), right.pid()], seconds, file)
}

fn stack_to_stack(seconds: u32, file: u64) -> Result<Figure> {
    let lab = two_hosts()?;
    let (a, b) = (PEER_HOME4, "198.51.100.12");
    let left = static_host(&lab, "A", a, b)?;
    let right = static_host(&lab, "B", b, a)?;
    lab.ip("A", &format!("route add {b}/32 via 192.0.2.12 src {a}"))?;
    lab.ip("B", &format!("route add {a}/32 via 192.0.2.11 src {b}"))?;
    left.ipsec("-p A -y activate -l toPeer")?;
    up(&left, "A")?;
    up(&right, "B")?;
    let pids: Vec<Pid> = left.stack_pids().into_iter().chain(right.stack_pids()).collect();
    ensure!(pids.len() == 2, "two stackd expected, found {pids:?}");
    measure(&lab, "A", "B", b, &pids, seconds, file)
}

/// An `iked` with one stack that protects the static address `own` towards `peer`.
fn static_host(lab: &Lab, node: &str, own: &str, peer: &str) -> Result<Daemon> {
    // In UDP, as Debian's strongSwan does it in the same run.
    let mut toml = "[ike]\nudp_encapsulation = \"always\"\n\n".to_owned();
    scenario::stack_table(&mut toml, lab, node, "[\"ext\"]", None, &format!("[\"{own}\"]"), None);
    let pairs = [Pair { name: "all", local: own, remote: peer, start: "toPeer" }];
    let policy = policy::policy(&pairs, &Options::default());
    Daemon::start(
        lab,
        &format!("SYS{node}"),
        &Files { stacks: toml, policy, servauth: SERVAUTH_ROOT_ONLY.to_owned() },
        &[node],
    )
}

/// Waits until the stack has its SA.
fn up(daemon: &Daemon, stack: &str) -> Result<()> {
    e2e::wait::until("a dynamic tunnel", Duration::from_secs(15), || {
        ensure!(
            !daemon.entries(&format!("-p {stack} -y display"))?.is_empty(),
            "no tunnel: {}",
            daemon.log()
        );
        Ok(())
    })
}

fn through_distributor(seconds: u32, file: u64) -> Result<Figure> {
    let mut lab = Lab::new("cmp")?;
    let options = Options {
        targets: 1,
        peer4: PEER_HOME4.to_owned(),
        ports: vec![scenario::PORT, 5201],
        ..Options::default()
    };
    let plex = Sysplex::start(&mut lab, &options)?;
    let peer = scenario::iked_peer(&lab)?;
    peer.ipsec("-p PEER -y activate -l toDvipa")?;
    up(&peer, "PEER")?;
    up(&plex.daemon, "DIST")?;
    let pids: Vec<Pid> = peer.stack_pids().into_iter().chain(plex.daemon.stack_pids()).collect();
    measure(&lab, "PEER", "TGT1", DVIPA4, &pids, seconds, file)
}

/// Downloads from `server` to `client`: a timed stream, and a file whose checksum is verified.
fn measure(
    lab: &Lab,
    client: &str,
    server: &str,
    address: &str,
    tunnel: &[Pid],
    seconds: u32,
    file: u64,
) -> Result<Figure> {
    let http =
        if server == "TGT1" { None } else { Some(http::start_server(lab, server, server, scenario::PORT)?) };
    let mut command = lab.exec(server, Path::new("iperf3"));
    command.args(["-s", "--forceflush"]);
    let iperf = Background::start(command, &lab.folder("iperf")?.join("server.log"))?;
    e2e::wait::until("iperf3", Duration::from_secs(5), || {
        ensure!(iperf.output().contains("listening"), "not listening: {}", iperf.output());
        Ok(())
    })?;
    // A distributor refuses connections until it has heard that a target's server listens.
    e2e::wait::until("a first connection to iperf3", Duration::from_secs(30), || {
        let mut command = lab.exec(client, Path::new("iperf3"));
        command.args(["-c", address, "-n", "1K"]);
        check(&mut command).map(drop)
    })?;
    let used = || -> Result<f64> { tunnel.iter().map(|p| cpu_seconds(*p)).sum() };
    let before = used()?;
    let mut command = lab.exec(client, Path::new("iperf3"));
    // Upload: the client is the sender, as of a backup or a replication stream.
    command.args(["-c", address, "-t", &seconds.to_string(), "-J"]);
    let report: Value = serde_json::from_str(&check(&mut command)?)?;
    let cpu = used()? - before;
    let received = &report["end"]["sum_received"];
    let (Some(bits), Some(bytes)) = (received["bits_per_second"].as_f64(), received["bytes"].as_f64()) else {
        bail!("iperf3 gave no figure: {report}")
    };
    let address: SocketAddr = format!("{address}:{}", scenario::PORT).parse()?;
    let limit = Duration::from_secs(120);
    let download = lab.inside(client, move || http::download(address, file, limit))??;
    download.verify(file)?;
    drop(http);
    Ok(Figure { gbit_per_s: bits / 1e9, cpu_s_per_gb: cpu / (bytes / 1e9) })
}
