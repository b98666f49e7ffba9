//! The samples of `examples/samples`: each does in namespaces what its text says.
//!
//! ```text
//!   1  S1 192.0.2.10 ====================== 203.0.113.20 PEER        transport mode, either side starts
//!   2  H1 .129 -- GATE1 192.0.2.1 ========= 203.0.113.99 GATE2 -- 198.51.100.7 H2      tunnel of two nets
//!   3  HERE 192.0.2.10 ==================== 203.0.113.30 THERE       keys in the policy
//!   4  PEER 203.0.113.5 === D1, D2 192.0.2.80 === xcf === D2, T3     profiles, distribution, takeover
//!   5  the IkeConfig of all of them
//! ```

use anyhow::{Context, Result, ensure};
use e2e::capture::Capture;
use e2e::lab::Lab;
use e2e::node::{Daemon, Files, SERVAUTH_ROOT_ONLY};
use e2e::packet::Seen;
use e2e::{http, wait};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A file of the samples.
fn sample(path: &str) -> Result<String> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/samples"));
    Ok(std::fs::read_to_string(folder.join(path))?)
}

/// The daemon of `node`, with a policy and the IkeConfig of the samples.
fn start(lab: &Lab, node: &str, stack: &str, policy: &str) -> Result<Daemon> {
    start_with(lab, node, stack, sample(policy)?)
}

fn start_with(lab: &Lab, node: &str, stack: &str, policy: String) -> Result<Daemon> {
    let system = format!("SYS{node}");
    let dir = lab.folder(&system)?;
    std::fs::write(dir.join("iked.conf"), sample("5-iked/iked.conf")?)?;
    let toml = format!(
        "[ike]\nfile = \"iked.conf\"\n\n[[stack]]\nname = \"{node}\"\nnetns = \"{}\"\n{stack}\n",
        lab.namespace(node)
    );
    let files = Files { stacks: toml, policy, servauth: SERVAUTH_ROOT_ONLY.to_owned() };
    Daemon::start(lab, &system, &files, &[node])
}

/// Sends one datagram, and no second one.
fn send_once(lab: &Lab, node: &str, from: &'static str, to: &'static str) -> Result<()> {
    lab.inside(node, move || UdpSocket::bind(from)?.send_to(b"once", to))??;
    Ok(())
}

/// The tunnels that a stack has.
fn tunnels(daemon: &Daemon, stack: &str) -> Result<Vec<Value>> {
    daemon.entries(&format!("-p {stack} -y display"))
}

fn one_tunnel(daemon: &Daemon, stack: &str) -> Result<Value> {
    wait::until("one tunnel", PATIENCE, || {
        let mut all = tunnels(daemon, stack)?;
        ensure!(all.len() == 1, "{all:?}\n{}", daemon.log());
        Ok(all.remove(0))
    })
}

fn get(lab: &Lab, node: &str, server: &str, whose: &str) -> Result<()> {
    let address: SocketAddr = server.parse()?;
    wait::until("an answer", PATIENCE, || {
        let said = http::get(lab, node, address, Duration::from_secs(5))?;
        ensure!(said == whose, "{said}");
        Ok(())
    })
}

#[test]
fn host_to_host() -> Result<()> {
    let mut lab = Lab::new("one")?;
    for (node, host) in [("S1", 1), ("PEER", 20)] {
        lab.node(node)?;
        lab.join(node, "ext", host)?;
    }
    let s1 = start(&lab, "S1", "network = [\"ext\"]\nhome = [\"192.0.2.10\"]", "1-host-to-host/s1.conf")?;
    let peer =
        start(&lab, "PEER", "network = [\"ext\"]\nhome = [\"203.0.113.20\"]", "1-host-to-host/peer.conf")?;
    lab.ip("S1", "route add 203.0.113.20/32 via 192.0.2.20 src 192.0.2.10")?;
    lab.ip("PEER", "route add 192.0.2.10/32 via 192.0.2.1 src 203.0.113.20")?;
    let _servers = [http::start_server(&lab, "S1", "S1", 80)?, http::start_server(&lab, "PEER", "PEER", 80)?];
    // IkeSyslogLevel 15 of the IkeConfig.
    ensure!(s1.log().contains("DEBUG"), "{}", s1.log());
    let network = Capture::start(&lab, "S1", "ext")?;

    // Initiation Either and AllowOnDemand: the first packet starts the negotiation, on whichever side it is sent. It waits for
    // the SA and is not lost.
    let listener = lab.inside("PEER", || UdpSocket::bind("203.0.113.20:9999"))??;
    listener.set_read_timeout(Some(PATIENCE))?;
    send_once(&lab, "S1", "192.0.2.10:0", "203.0.113.20:9999")?;
    let mut datagram = [0; 16];
    let length = listener.recv(&mut datagram).with_context(|| s1.log())?;
    ensure!(&datagram[..length] == b"once", "{datagram:?}");
    get(&lab, "S1", "203.0.113.20:80", "PEER")?;
    let tunnel = one_tunnel(&s1, "S1")?;
    ensure!(tunnel["HowToEncap"] == "Transport", "{tunnel}");
    get(&lab, "PEER", "192.0.2.10:80", "S1")?;
    ensure!(tunnels(&s1, "S1")?.len() == 1, "one tunnel serves both directions");
    s1.ipsec("-p S1 -k deactivate -a all")?;
    wait::until("no tunnel at the peer", PATIENCE, || {
        let left = tunnels(&peer, "PEER")?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    get(&lab, "PEER", "192.0.2.10:80", "S1")?;
    let tunnel = one_tunnel(&peer, "PEER")?;
    ensure!(tunnel["HowToEncap"] == "Transport", "{tunnel}");

    let network = network.finish()?;
    for address in ["192.0.2.10", "203.0.113.20"] {
        let address: IpAddr = address.parse()?;
        ensure!(network.count(|s| s.is_clear_of(address)) == 0, "in clear: {:?}", network.file);
    }
    ensure!(network.count(Seen::is_esp) > 10, "{:?}", network.file);
    Ok(())
}

/// The first sample with another key at the peer: nothing passes, nothing leaves in clear, and everybody is told why.
#[test]
fn what_cannot_be_negotiated_is_denied_with_the_reason() -> Result<()> {
    let mut lab = Lab::new("denied")?;
    for (node, host) in [("S1", 1), ("PEER", 20)] {
        lab.node(node)?;
        lab.join(node, "ext", host)?;
    }
    let s1 = start(&lab, "S1", "network = [\"ext\"]\nhome = [\"192.0.2.10\"]", "1-host-to-host/s1.conf")?;
    let other = sample("1-host-to-host/peer.conf")?.replace("correct-horse-battery", "another-horse");
    let peer = start_with(&lab, "PEER", "network = [\"ext\"]\nhome = [\"203.0.113.20\"]", other)?;
    lab.ip("S1", "route add 203.0.113.20/32 via 192.0.2.20 src 192.0.2.10")?;
    lab.ip("PEER", "route add 192.0.2.10/32 via 192.0.2.1 src 203.0.113.20")?;
    let network = Capture::start(&lab, "S1", "ext")?;
    wait::until("a denial", PATIENCE, || {
        send_once(&lab, "S1", "192.0.2.10:0", "203.0.113.20:9999")?;
        let denied = s1.drops("S1", "acquire_failed")?;
        ensure!(denied > 0, "{}", s1.log());
        Ok(())
    })?;
    let said = |daemon: &Daemon, what: &str| {
        let log = daemon.log();
        let line = log.lines().find(|line| line.contains("negotiation failed") && line.contains(what));
        line.map(str::to_owned).with_context(|| format!("no {what} in:\n{log}"))
    };
    let line = said(&s1, "AUTHENTICATION_FAILED")?;
    ensure!(line.contains("peer=203.0.113.20"), "{line}");
    said(&peer, "did not prove its identity")?;
    ensure!(tunnels(&s1, "S1")?.is_empty());
    let network = network.finish()?;
    let address: IpAddr = "192.0.2.10".parse()?;
    ensure!(network.count(|s| s.is_clear_of(address)) == 0, "in clear: {:?}", network.file);
    ensure!(network.count(Seen::is_esp) == 0, "{:?}", network.file);
    Ok(())
}

#[test]
fn subnet_behind_the_host() -> Result<()> {
    let mut lab = Lab::new("two")?;
    for node in ["GATE1", "GATE2", "H1", "H2"] {
        lab.node(node)?;
    }
    lab.join("GATE1", "ext", 2)?;
    lab.join("GATE2", "ext", 3)?;
    for (gate, host, own, inner, far) in [
        ("GATE1", "H1", "192.0.2.254/25", "192.0.2.129/25", "198.51.100.0/24"),
        ("GATE2", "H2", "198.51.100.1/24", "198.51.100.7/24", "192.0.2.128/25"),
    ] {
        let inside = lab.namespace(host);
        lab.ip(gate, &format!("link add lan type veth peer name eth netns {inside}"))?;
        lab.ip(gate, &format!("addr add {own} dev lan"))?;
        lab.ip(gate, "link set lan up")?;
        lab.ip(host, &format!("addr add {inner} dev eth"))?;
        lab.ip(host, "link set eth up")?;
        let gateway = own.split('/').next().unwrap_or_default();
        lab.ip(host, &format!("route add {far} via {gateway}"))?;
    }
    let network = "network = [\"ext\", \"lan\"]\n";
    let gate2 = start(&lab, "GATE2", &format!("{network}home = [\"203.0.113.99\"]"), "2-subnet/gate2.conf")?;
    lab.ip("GATE2", "route add 192.0.2.1/32 via 192.0.2.2 src 203.0.113.99")?;
    lab.ip("GATE1", "route add 203.0.113.99/32 via 192.0.2.3")?;
    // What no SA protects goes nowhere: the far net is behind the tunnel and nothing else.
    let capture = Capture::start(&lab, "GATE1", "ext")?;
    let gate1 = start(&lab, "GATE1", &format!("{network}home = [\"192.0.2.1\"]"), "2-subnet/gate1.conf")?;

    // AutoActivate: nobody sent a packet.
    let tunnel = one_tunnel(&gate1, "GATE1")?;
    ensure!(tunnel["LocalDynVpnRule"] == "branchNet" && tunnel["HowToEncap"] == "Tunnel", "{tunnel}");
    one_tunnel(&gate2, "GATE2")?;
    lab.ip("GATE1", "route add 198.51.100.0/24 via 192.0.2.3")?;
    lab.ip("GATE2", "route add 192.0.2.128/25 via 192.0.2.2")?;
    let _servers = [http::start_server(&lab, "H1", "H1", 80)?, http::start_server(&lab, "H2", "H2", 80)?];
    get(&lab, "H1", "198.51.100.7:80", "H2")?;
    get(&lab, "H2", "192.0.2.129:80", "H1")?;
    let length = 3_000_000;
    let far: SocketAddr = "198.51.100.7:80".parse()?;
    lab.inside("H1", move || http::download(far, length, PATIENCE))??.verify(length)?;

    let capture = capture.finish()?;
    for address in ["192.0.2.129", "198.51.100.7"] {
        let address: IpAddr = address.parse()?;
        ensure!(capture.count(|s| s.is_clear_of(address)) == 0, "in clear: {:?}", capture.file);
    }
    ensure!(capture.count(Seen::is_esp) > 100, "{:?}", capture.file);
    Ok(())
}

#[test]
fn manual_tunnel() -> Result<()> {
    let mut lab = Lab::new("three")?;
    for (node, host) in [("HERE", 1), ("THERE", 20)] {
        lab.node(node)?;
        lab.join(node, "ext", host)?;
    }
    let here = start(&lab, "HERE", "network = [\"ext\"]\nhome = [\"192.0.2.10\"]", "3-manual/here.conf")?;
    let there =
        start(&lab, "THERE", "network = [\"ext\"]\nhome = [\"203.0.113.30\"]", "3-manual/there.conf")?;
    lab.ip("HERE", "route add 203.0.113.30/32 via 192.0.2.20 src 192.0.2.10")?;
    lab.ip("THERE", "route add 192.0.2.10/32 via 192.0.2.1 src 203.0.113.30")?;
    let _servers =
        [http::start_server(&lab, "HERE", "HERE", 80)?, http::start_server(&lab, "THERE", "THERE", 80)?];
    let network = Capture::start(&lab, "HERE", "ext")?;
    let state = |daemon: &Daemon, stack: &str| -> Result<Value> {
        let mut all = daemon.entries(&format!("-p {stack} -m display -n staticLab"))?;
        ensure!(all.len() == 1, "{all:?}");
        Ok(all.remove(0))
    };
    let refused = |daemon: &Daemon| -> Result<()> {
        let server: SocketAddr = "203.0.113.30:80".parse()?;
        let said = http::get(&lab, "HERE", server, Duration::from_secs(2));
        ensure!(said.is_err(), "{said:?}\n{}", daemon.log());
        Ok(())
    };

    // Active no: dropped until an operator says otherwise, at both ends.
    ensure!(state(&here, "HERE")?["State"] == "Inactive", "{}", state(&here, "HERE")?);
    refused(&here)?;
    let test = "-p HERE -t 192.0.2.10 203.0.113.30 tcp 40000 80 out";
    let decides = |entries: &[Value]| entries.iter().find(|e| e["Decides"] == true).cloned();
    let before = decides(&here.entries(test)?);
    ensure!(before.as_ref().is_some_and(|e| e["Treatment"] == "dropped: no SA"), "{before:?}");
    here.ipsec("-p HERE -m activate -n staticLab")?;
    let tunnel = state(&here, "HERE")?;
    ensure!(tunnel["State"] == "Active" && tunnel["HowToEncap"] == "Tunnel", "{tunnel}");
    refused(&here)?;
    there.ipsec("-p THERE -m activate -n staticLab")?;
    get(&lab, "HERE", "203.0.113.30:80", "THERE")?;
    get(&lab, "THERE", "192.0.2.10:80", "HERE")?;

    // The traffic test names the tunnel and its SPIs.
    let by = decides(&here.entries(test)?).unwrap_or_default();
    ensure!(by["FilterName"] == "lab" && by["ServedBy"] == "M1" && by["Certain"] == true, "{by}");
    ensure!(by["Treatment"] == "by an SA" && by["OutboundSpi"] == 4098, "{by}");
    here.ipsec("-p HERE -m deactivate -a M1")?;
    refused(&here)?;

    let network = network.finish()?;
    for address in ["192.0.2.10", "203.0.113.30"] {
        let address: IpAddr = address.parse()?;
        ensure!(network.count(|s| s.is_clear_of(address)) == 0, "in clear: {:?}", network.file);
    }
    ensure!(network.count(Seen::is_esp) > 10, "{:?}", network.file);
    Ok(())
}

#[test]
fn distributed_dvipa_with_takeover() -> Result<()> {
    let mut lab = Lab::new("four")?;
    lab.node("PEER")?;
    lab.join("PEER", "ext", 11)?;
    let dir = lab.folder("SYSA")?;
    let mut toml = "[ike]\nfile = \"iked.conf\"\n\n[sysplex]\nname = \"PLEX1\"\nkey_file = \"sysplex.key\"\ncoupling_facility = \"sled\"\n\n".to_owned();
    std::fs::write(dir.join("iked.conf"), sample("5-iked/iked.conf")?)?;
    for (number, node) in (1..).zip(["D1", "D2", "T3"]) {
        lab.node(node)?;
        if node != "T3" {
            lab.join(node, "ext", number)?;
        }
        lab.join(node, "xcf", number)?;
        lab.ip(node, &format!("addr add 198.51.100.{number}/24 dev xcf"))?;
        let profile = format!("{}.profile", node.to_lowercase());
        std::fs::write(dir.join(&profile), sample(&format!("4-dvipa/{profile}"))?)?;
        let network = if node == "T3" { "[]" } else { "[\"ext\"]" };
        // What a DVIPA is, who owns it and who backs it up stands in the profiles.
        toml += &format!(
            "[[stack]]\nname = \"{node}\"\nnetns = \"{}\"\nnetwork = {network}\nxcf = {{ interface = \"xcf\" }}\nprofile = \"{profile}\"\n\n",
            lab.namespace(node)
        );
    }
    let files = Files {
        stacks: toml,
        policy: sample("4-dvipa/common.conf")?,
        servauth: SERVAUTH_ROOT_ONLY.to_owned(),
    };
    let plex = Daemon::start(&lab, "SYSA", &files, &["D1", "D2", "T3"])?;
    let _servers = [http::start_server(&lab, "D2", "D2", 443)?, http::start_server(&lab, "T3", "T3", 443)?];
    for node in ["D1", "D2"] {
        lab.ip(node, "route add 203.0.113.5/32 via 192.0.2.11")?;
    }
    plex.servers_known("D1", 443, 2)?;
    let peer = start(&lab, "PEER", "network = [\"ext\"]\nhome = [\"203.0.113.5\"]", "4-dvipa/peer.conf")?;
    lab.ip("PEER", "route add 192.0.2.80/32 dev ext src 203.0.113.5")?;
    let network = Capture::start(&lab, "PEER", "ext")?;

    // Round robin over the two targets that DESTIP names.
    let server: SocketAddr = "192.0.2.80:443".parse()?;
    let ask = || -> Result<String> { http::get(&lab, "PEER", server, Duration::from_secs(5)) };
    let first = wait::until("the first answer", PATIENCE, ask)?;
    let mut said = vec![first];
    for _ in 0..3 {
        said.push(ask()?);
    }
    for target in ["D2", "T3"] {
        ensure!(said.iter().filter(|s| *s == target).count() == 2, "{said:?}");
    }
    let tunnel = one_tunnel(&plex, "D1")?;
    ensure!(tunnel["HowToEncap"] == "Transport", "{tunnel}");
    for target in ["D2", "T3"] {
        ensure!(tunnels(&plex, target)?.is_empty(), "no SA on {target}");
    }

    // InboundConnect: the service opens nothing towards the client.
    let denied = plex.ipsec("-p D1 -t 192.0.2.80 203.0.113.5 tcp 443 40000 out")?;
    ensure!(denied.contains("dvWeb"), "{denied}");

    // The owner is lost: its backup takes the address, and the same clients are served. MOVEABLE IMMEDIATE gives it
    // back as soon as the owner runs again, so who has it at the end is not asked.
    kill(plex.stack_pid("D1")?, Signal::SIGKILL)?;
    wait::until("D2 has taken the DVIPA", PATIENCE, || {
        let all = plex.entries("-p D2 vipa history")?;
        ensure!(!all.is_empty(), "no takeover\n{}", plex.log());
        Ok(())
    })?;
    let again = wait::until("an answer after the takeover", PATIENCE, ask)?;
    ensure!(again == "D2" || again == "T3", "{again}");

    let network = network.finish()?;
    let client: IpAddr = "203.0.113.5".parse()?;
    ensure!(network.count(|s| s.is_clear_of(client)) == 0, "in clear: {:?}", network.file);
    drop(peer);
    Ok(())
}
