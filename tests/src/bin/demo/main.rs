//! `cargo demo`: a DVIPA in namespaces, from nothing to evidence.
//!
//! Makes a peer, a distributor and three targets, lets the peer reach the virtual address through IPsec, shows
//! what an operator sees, and proves from captures that the network carried nothing in clear. The peer is
//! strongSwan where it is installed, a second `iked` otherwise (or with `--peer iked`).
//!
//! `cargo demo -- takeover` loses the owner of the address under traffic and measures the outage; `cargo demo -- chaos` makes
//! accidents for as long as one likes.

mod chaos;
mod takeover;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use e2e::capture::{Capture, Frames};
use e2e::lab::Lab;
use e2e::node::Daemon;
use e2e::packet::Seen;
use e2e::scenario::{self, DVIPA4, Options, PEER_HOME4, PEER4, Sysplex};
use e2e::swan::{self, Swan};
use e2e::{etcd, http, process, say};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(about = "A distributed virtual address behind IPsec, in network namespaces")]
struct Arguments {
    /// What the peer runs.
    #[arg(long, value_enum, default_value_t = Peer::Auto)]
    peer: Peer,
    /// How many connections the peer opens.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Leave everything up and say how to look around.
    #[arg(long)]
    keep: bool,
    #[command(subcommand)]
    command: Option<Show>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// strongSwan where installed, else iked.
    Auto,
    /// strongSwan with kernel-libipsec.
    Strongswan,
    /// A second iked.
    Iked,
}

#[derive(Debug, Subcommand)]
enum Show {
    /// Lose the owner of the virtual address under traffic and measure the outage
    Takeover(takeover::Takeover),
    /// Make random accidents under traffic
    Chaos(chaos::Chaos),
    /// Serve HTTP (used by the demo itself, inside a target).
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        name: String,
        #[arg(long)]
        port: u16,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Some(Show::Serve { name, port }) => http::serve(name, *port),
        Some(Show::Takeover(what)) => ready(what.needs_etcd()).and_then(|()| takeover::run(what)),
        Some(Show::Chaos(what)) => ready(true).and_then(|()| chaos::run(what)),
        None => ready(false).and_then(|()| demo(&arguments)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say(&format!("demo: failed: {e:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Root, what the system must have, and the programs built.
fn ready(etcd: bool) -> Result<()> {
    as_root()?;
    let protoc = || Command::new("protoc").arg("--version").output().is_ok();
    ensure!(
        !etcd || (etcd::installed() && protoc()),
        "needs etcd, and protoc to build with it: apt-get install etcd-server etcd-client protobuf-compiler libprotobuf-dev"
    );
    e2e::node::build(&[], etcd)
}

fn step(line: &str) {
    say(&format!("\n== {line}"));
}

/// Without root: starts itself again in a user namespace where the caller is root, with an own /run.
fn as_root() -> Result<()> {
    let own = std::env::current_exe()?;
    if !nix::unistd::geteuid().is_root() {
        let probe = Command::new("unshare").args(["-Urnm", "true"]).output();
        ensure!(
            probe.is_ok_and(|o| o.status.success()),
            "needs root, or a kernel that lets users make namespaces (try: sysctl kernel.unprivileged_userns_clone=1, \
             kernel.apparmor_restrict_unprivileged_userns=0) and unshare(1) of util-linux"
        );
        say("not root: going on in a user namespace");
        let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/netns && exec \"$0\" \"$@\"";
        let error = Command::new("unshare")
            .args(["-Urnm", "sh", "-c", script])
            .arg(own)
            .args(std::env::args_os().skip(1))
            .exec();
        return Err(error).context("unshare");
    }
    ensure!(std::path::Path::new("/dev/net/tun").exists(), "needs /dev/net/tun (modprobe tun)");
    ensure!(process::run(Command::new("ip").arg("-V")).is_ok(), "needs ip(8): apt-get install iproute2");
    Ok(())
}

fn demo(arguments: &Arguments) -> Result<()> {
    let use_swan = match arguments.peer {
        Peer::Auto => swan::installed() && nix::unistd::getuid().is_root() && user_namespace_is_first(),
        Peer::Strongswan => true,
        Peer::Iked => false,
    };
    ensure!(
        !use_swan || swan::installed(),
        "strongSwan is not installed: apt-get install strongswan-charon strongswan-swanctl libcharon-extra-plugins \
         libstrongswan-extra-plugins libstrongswan-standard-plugins, or use --peer iked"
    );

    let mut lab = Lab::new("demo")?;
    if arguments.keep {
        lab.keep();
    }
    let peer4 = if use_swan { PEER4 } else { PEER_HOME4 };
    step(&format!("a peer ({}), a distributor, three targets", if use_swan { "strongSwan" } else { "iked" }));
    let options = Options { peer4: peer4.to_owned(), ..Options::default() };
    let plex = Sysplex::start(&mut lab, &options)?;
    let network = Capture::start(&lab, "DIST", "ext")?;
    let xcf = Capture::start(&lab, "DIST", "xcf")?;

    step("the peer negotiates");
    let peer: (Option<Swan>, Option<Daemon>) = if use_swan {
        let swan = scenario::swan_peer(&lab)?;
        swan.initiate("v4")?;
        (Some(swan), None)
    } else {
        let daemon = scenario::iked_peer(&lab)?;
        say(daemon.ipsec("-p PEER -y activate -l toDvipa")?.trim_end());
        (None, Some(daemon))
    };
    e2e::wait::until("a dynamic tunnel", Duration::from_secs(20), || {
        ensure!(!plex.daemon.entries("-p DIST -y display")?.is_empty(), "no tunnel: {}", plex.daemon.log());
        Ok(())
    })?;

    step(&format!("{} connections through ESP to http://{DVIPA4}/", arguments.connections));
    let mut spread: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..arguments.connections {
        let who = http::get(&lab, "PEER", scenario::server(false), Duration::from_secs(10))?;
        *spread.entry(who).or_default() += 1;
    }
    for (target, count) in &spread {
        say(&format!("{target:8} {count:4} {}", "#".repeat(*count as usize)));
    }

    for report in ["-k display", "-y display", "-f display -r short", "--vipa", "--drops"] {
        step(&format!("ipsec -p DIST {report}"));
        say(plex.daemon.ipsec(&format!("-p DIST {report}"))?.trim_end());
    }

    step("what the captures say");
    let (network, xcf) = (network.finish()?, xcf.finish()?);
    let clear = judge(&network, &xcf, peer4.parse()?)?;

    if arguments.keep {
        say(&look_around(&lab, &plex));
        std::mem::forget((plex, peer));
    } else {
        drop(peer);
    }
    say(&format!(
        "demo: {} connections, {} targets, {clear} cleartext packets on the network",
        spread.values().sum::<u32>(),
        spread.len()
    ));
    ensure!(clear == 0, "there was cleartext on the network");
    ensure!(spread.len() == usize::from(options.targets), "not every target was used: {spread:?}");
    Ok(())
}

/// Says what the two links carried and gives the number of cleartext packets of the DVIPA or the peer on the network.
fn judge(network: &Frames, xcf: &Frames, peer: IpAddr) -> Result<usize> {
    let dvipa: IpAddr = DVIPA4.parse()?;
    let clear = network.count(|s| s.is_clear_of(dvipa) || s.is_clear_of(peer));
    let (ike, esp) = (network.count(|s| matches!(s, Seen::Ike(_))), network.count(Seen::is_esp));
    say(&format!("network: {ike} IKE, {esp} ESP, {clear} cleartext   {}", network.file.display()));
    let gre = xcf.count(|s| matches!(s, Seen::Gre(..)));
    let other = xcf.count(|s| matches!(s, Seen::Clear(..) | Seen::Ike(_)) || s.is_esp());
    let messages = xcf.count(|s| matches!(s, Seen::Message(_)));
    say(&format!(
        "xcf:     {gre} GRE, {messages} sealed messages between stacks, {other} other IP packets   {}",
        xcf.file.display()
    ));
    ensure!(
        esp > 0 && gre > 0,
        "no ESP on the network or no GRE on the XCF link: the traffic went another way"
    );
    if other > 0 {
        bail!("the XCF link carried {other} packets that are neither GRE nor messages between stacks");
    }
    Ok(clear)
}

/// Whether this is the machine's own user namespace (strongSwan's charon does not start in another one).
fn user_namespace_is_first() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        let mut words = map.split_whitespace();
        words.next() == Some("0") && words.next() == Some("0") && words.next().is_some_and(|n| n.len() > 5)
    })
}

fn look_around(lab: &Lab, plex: &Sysplex) -> String {
    let mut text = String::from("\n== everything stays up; to look around:\n");
    let _ = writeln!(text, "export IPSECMGMT_SOCKET={}", plex.daemon.socket().display());
    let ipsec =
        e2e::node::binary("ipsec").map(|p| p.display().to_string()).unwrap_or_else(|_| "ipsec".to_owned());
    let _ = writeln!(text, "{ipsec} -p DIST -y display");
    let _ = writeln!(text, "ip netns exec {} curl http://{DVIPA4}/", lab.namespace("PEER"));
    let _ = writeln!(text, "ip netns exec {} tcpdump -ni xcf", lab.namespace("DIST"));
    let _ = writeln!(text, "files and logs: {}", lab.dir.display());
    let _ = writeln!(
        text,
        "to end it: kill {}; for n in $(ip netns | awk '/^{}/{{print $1}}'); do ip netns pids $n | xargs -r kill; \
         ip netns del $n; done",
        plex.daemon.pid(),
        lab.namespace("").trim_end_matches('-'),
    );
    text
}
