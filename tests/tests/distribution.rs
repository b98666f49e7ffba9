//! Each way of distributing, through ESP, with what `vipa targets` says of it; stacks speak GRE in UDP (RFC 8086) here.

use anyhow::{Context, Result, ensure};
use e2e::capture::Capture;
use e2e::lab::Lab;
use e2e::packet::Seen;
use e2e::process::Background;
use e2e::scenario::{DVIPA4, DVIPA6, Options, Sysplex, server, swan_peer};
use e2e::shared::Shared;
use e2e::swan::Swan;
use e2e::{http, swan, wait};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
/// Destination port of GRE in UDP.
const GRE_IN_UDP: u16 = 4754;

const WEIGHTED: u16 = 9001;
const STANDBY: u16 = 9002;
const STAYING: u16 = 9003;
const WLM: u16 = 9004;
const MAGLEV: u16 = 9005;
const AFFINE: u16 = 9006;

/// TGT2 is the preferred one of both hot standbys.
const DISTRIBUTIONS: &str = r#"
[[dvipa.distribute]]
ports = [9001]
method = "weighted-active"
targets = ["TGT1", { stack = "TGT2", weight = 20 }, "TGT3"]

[[dvipa.distribute]]
ports = [9002]
method = "hot-standby"
targets = ["TGT2", "TGT1"]

[[dvipa.distribute]]
ports = [9003]
method = "hot-standby"
autoswitchback = false
healthswitch = false
targets = ["TGT2", "TGT1"]

[[dvipa.distribute]]
ports = [9004]
method = "wlm"
targets = ["TGT1", "TGT2", "TGT3"]

[[dvipa.distribute]]
ports = [9005]
method = "maglev"
targets = ["TGT1", "TGT2", "TGT3"]

[[dvipa.distribute]]
ports = [9006]
affinity_secs = 2
targets = ["TGT1", "TGT2", "TGT3"]

"#;

struct World {
    _peer: Swan,
    plex: Sysplex,
    /// Web servers by target and port.
    servers: BTreeMap<(&'static str, u16), Background>,
    lab: Lab,
}

static WORLD: Shared<World> = Shared::new();

fn test(work: impl FnOnce(&mut World) -> Result<()>) -> Result<()> {
    if swan::missing() {
        return Ok(());
    }
    WORLD.with(World::new, work)
}

/// A connection that stays, and the target where it ends.
struct Held {
    target: String,
    stream: TcpStream,
}

impl World {
    fn new() -> Result<Self> {
        let mut lab = Lab::new("methods")?;
        let options =
            Options { distributions: DISTRIBUTIONS.to_owned(), gre_in_udp: true, ..Options::default() };
        let plex = Sysplex::start(&mut lab, &options)?;
        let peer = swan_peer(&lab)?;
        peer.initiate("v4")?;
        peer.initiate("v6")?;
        let mut world = Self { _peer: peer, plex, servers: BTreeMap::new(), lab };
        for port in [WEIGHTED, STANDBY, STAYING, WLM, MAGLEV, AFFINE] {
            let targets: &[&'static str] =
                if matches!(port, STANDBY | STAYING) { &["TGT1", "TGT2"] } else { &["TGT1", "TGT2", "TGT3"] };
            for target in targets {
                world.serve(target, port)?;
            }
        }
        Ok(world)
    }

    /// Starts a server and waits until the distributor knows.
    fn serve(&mut self, target: &'static str, port: u16) -> Result<()> {
        let server = http::start_server(&self.lab, target, target, port)?;
        self.servers.insert((target, port), server);
        self.told(target, port, "ReadyCount", |ready| *ready == 1)
    }

    /// Waits until `vipa targets` says of a target what is expected.
    fn told(&self, target: &str, port: u16, field: &str, expected: impl Fn(&Value) -> bool) -> Result<()> {
        wait::until("what the distributor says of a target", SOON, || {
            let entry = self.target(target, port)?;
            ensure!(expected(&entry[field]), "{field}: {entry}");
            Ok(())
        })
    }

    fn target(&self, target: &str, port: u16) -> Result<Value> {
        let entries = self.plex.daemon.entries("-p DIST vipa targets")?;
        let is = |e: &&Value| {
            e["DVIPA"] == DVIPA4
                && e["Target"] == target
                && e["Ports"].to_string().contains(&port.to_string())
        };
        entries.iter().find(is).cloned().with_context(|| format!("no {target} for port {port}: {entries:?}"))
    }

    /// Opens a connection from the peer and keeps it.
    fn hold(&self, port: u16) -> Result<Held> {
        let to = SocketAddr::new(server(false).ip(), port);
        let (target, stream) = self.lab.inside("PEER", move || -> Result<(String, TcpStream)> {
            let stream = TcpStream::connect_timeout(&to, SOON)?;
            stream.set_read_timeout(Some(SOON))?;
            Ok((who_serves(&stream)?, stream))
        })??;
        Ok(Held { target, stream })
    }

    fn hold_all(&self, port: u16, count: usize) -> Result<Vec<Held>> {
        (0..count).map(|_| self.hold(port)).collect()
    }

    /// Which target serves one connection to `port`.
    fn get(&self, port: u16) -> Result<String> {
        http::get(&self.lab, "PEER", SocketAddr::new(server(false).ip(), port), SOON)
    }

    /// Waits until `target` serves `port`.
    fn served_by(&self, target: &str, port: u16) -> Result<()> {
        wait::until("another target", SOON, || {
            let by = self.get(port)?;
            ensure!(by == target, "{by} serves, not {target}");
            Ok(())
        })
    }

    /// The program of an operator that says what a host can still do.
    fn capacity(&self, target: &str, capacity: Option<u8>) -> Result<()> {
        let file = self.plex.daemon.dir.join("state/control").join(format!("{target}.capacity"));
        match capacity {
            Some(capacity) => std::fs::write(&file, capacity.to_string())?,
            None => std::fs::remove_file(&file)?,
        }
        Ok(())
    }
}

/// Asks once more over a connection, and gives the name of the target that answers.
fn who_serves(mut stream: &TcpStream) -> Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: dvipa\r\n\r\n")?;
    let mut lines = BufReader::new(stream).lines();
    let name = lines.find(|line| line.as_ref().map_or(true, |l| l.starts_with("TGT")));
    Ok(name.context("no answer")??)
}

fn spread(held: &[Held]) -> BTreeMap<&str, usize> {
    let mut spread = BTreeMap::new();
    for h in held {
        *spread.entry(h.target.as_str()).or_default() += 1;
    }
    spread
}

#[test]
fn weighted_active_keeps_connections_in_proportion_to_weights() -> Result<()> {
    test(|w| {
        let mut held = w.hold_all(WEIGHTED, 16)?;
        assert_eq!(spread(&held), BTreeMap::from([("TGT1", 4), ("TGT2", 8), ("TGT3", 4)]));
        let shown = w.target("TGT2", WEIGHTED)?;
        assert_eq!((&shown["Method"], &shown["Weight"]), (&"weighted-active".into(), &20.into()), "{shown}");
        // Whoever has lost its connections gets the next ones.
        held.retain(|h| h.target != "TGT3");
        w.told("TGT3", WEIGHTED, "ActiveConnections", |n| *n == 0)?;
        let more = w.hold_all(WEIGHTED, 4)?;
        assert_eq!(spread(&more), BTreeMap::from([("TGT3", 4)]));
        Ok(())
    })
}

#[test]
fn hot_standby_serves_when_the_preferred_target_cannot_and_until_it_can() -> Result<()> {
    test(|w| {
        assert_eq!(spread(&w.hold_all(STANDBY, 5)?), BTreeMap::from([("TGT2", 5)]));
        assert_eq!(w.target("TGT2", STANDBY)?["Preferred"], true);
        assert_eq!(w.target("TGT1", STANDBY)?["Preferred"], false);
        w.servers.remove(&("TGT2", STANDBY));
        w.served_by("TGT1", STANDBY)?;
        w.serve("TGT2", STANDBY)?;
        w.served_by("TGT2", STANDBY)?;
        // It is there, but says that it can do no more.
        w.capacity("TGT2", Some(0))?;
        w.served_by("TGT1", STANDBY)?;
        assert_eq!(w.get(STAYING)?, "TGT2", "healthswitch is off there");
        w.capacity("TGT2", None)?;
        w.served_by("TGT2", STANDBY)
    })
}

#[test]
fn hot_standby_without_autoswitchback_stays_where_it_is() -> Result<()> {
    test(|w| {
        w.served_by("TGT2", STAYING)?;
        w.servers.remove(&("TGT2", STAYING));
        w.served_by("TGT1", STAYING)?;
        w.serve("TGT2", STAYING)?;
        assert_eq!(spread(&w.hold_all(STAYING, 5)?), BTreeMap::from([("TGT1", 5)]));
        // Back by the same way, for the next test.
        w.servers.remove(&("TGT1", STAYING));
        w.served_by("TGT2", STAYING)?;
        w.serve("TGT1", STAYING)
    })
}

#[test]
fn wlm_follows_the_capacity_that_targets_report() -> Result<()> {
    test(|w| {
        // Small changes are not told at once: from what the load says, nothing may be near.
        for target in ["TGT1", "TGT2", "TGT3"] {
            w.capacity(target, Some(0))?;
            w.told(target, WLM, "Weight", Value::is_null)?;
        }
        for (target, capacity, weight) in [("TGT1", 100, 10), ("TGT2", 50, 5)] {
            w.capacity(target, Some(capacity))?;
            w.told(target, WLM, "Weight", |shown| *shown == weight)?;
        }
        let held = w.hold_all(WLM, 30)?;
        assert_eq!(spread(&held), BTreeMap::from([("TGT1", 20), ("TGT2", 10)]));
        ["TGT1", "TGT2", "TGT3"].iter().try_for_each(|target| w.capacity(target, None))
    })
}

#[test]
fn maglev_spreads_and_leaves_flows_of_others_when_a_target_goes() -> Result<()> {
    test(|w| {
        let held = w.hold_all(MAGLEV, 60)?;
        let spread = spread(&held);
        assert!(spread.len() == 3 && spread.values().all(|n| *n >= 5), "{spread:?}");
        w.plex.daemon.ipsec("-p DIST vipa quiesce TGT3")?;
        w.told("TGT3", MAGLEV, "Quiesced", |q| *q == true)?;
        let more = w.hold_all(MAGLEV, 20)?;
        assert!(more.iter().all(|h| h.target != "TGT3"));
        // Those that it has go on.
        for h in &held {
            assert_eq!(who_serves(&h.stream)?, h.target);
        }
        w.plex.daemon.ipsec("-p DIST vipa resume TGT3")?;
        w.told("TGT3", MAGLEV, "Quiesced", |q| *q == false)
    })
}

#[test]
fn a_client_stays_with_its_target_for_the_time_of_its_affinity() -> Result<()> {
    test(|w| {
        assert_eq!(w.target("TGT1", AFFINE)?["TimedAffinity"].as_u64(), Some(2));
        let held = w.hold_all(AFFINE, 6)?;
        let first = held[0].target.clone();
        assert_eq!(spread(&held), BTreeMap::from([(first.as_str(), 6)]));
        drop(held);
        // Two seconds after the last one has ended it is free; asking again would bind it again.
        wait::until("the connections have ended", SOON, || {
            let shown = w.target(&first, AFFINE)?;
            ensure!(shown["ActiveConnections"] == 0, "{shown}");
            Ok(())
        })?;
        std::thread::sleep(Duration::from_secs(3));
        assert_ne!(w.hold(AFFINE)?.target, first, "it is the turn of another");
        Ok(())
    })
}

#[test]
fn packets_between_stacks_are_in_udp_where_that_is_configured() -> Result<()> {
    const LENGTH: u64 = 3_000_000;
    test(|w| {
        let capture = Capture::start(&w.lab, "DIST", "xcf")?;
        for v6 in [false, true] {
            let to = server(v6);
            w.lab.inside("PEER", move || http::download(to, LENGTH, SOON))??.verify(LENGTH)?;
        }
        let frames = capture.finish()?;
        let in_udp = |s: &Seen| matches!(s, Seen::Clear(ends, 17) if ends.destination_port == GRE_IN_UDP);
        assert!(frames.count(in_udp) >= 4, "{:?}", frames.file);
        assert_eq!(frames.count(|s| matches!(s, Seen::Gre(..))), 0, "{:?}", frames.file);
        for dvipa in [DVIPA4, DVIPA6] {
            let dvipa = dvipa.parse()?;
            assert_eq!(frames.count(|s| s.is_clear_of(dvipa)), 0, "{:?}", frames.file);
        }
        Ok(())
    })
}
