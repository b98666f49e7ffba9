//! Whole groups in memory, in virtual time, over links that delay, lose, double and swap datagrams.

use super::PORT;
use super::datagram::{Body, Content, Envelope, Heartbeat, Name, Owned};
use super::group::{Event, Group};
use super::order::{EngineOrder, EngineReport};
use super::seal::LinkKey;
use crate::control::*;
use crate::engine::connection::ConnectionKey;
use crate::engine::io::{FlowRecord, FlowStage, ToGroup};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

const BEAT: Duration = Duration::from_millis(100);
const MISSED: u32 = 3;
const DVIPA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 80));

fn xcf(host: u8) -> IpAddr {
    IpAddr::from([10, 99, 0, host])
}

fn flow(n: u16) -> FlowRecord {
    FlowRecord {
        key: ConnectionKey {
            protocol: 6,
            local: DVIPA,
            local_port: 443,
            remote: IpAddr::from([203, 0, 113, 7]),
            remote_port: n,
        },
        ipsec_routed: true,
        stage: FlowStage::Open,
    }
}

/// One stack, with an engine that only remembers.
struct Node {
    group: Group,
    start: u64,
    up: bool,
    host: u8,
    home: Vec<Home>,
    orders: Vec<EngineOrder>,
    to_iked: Vec<FromStack>,
    /// Connections that end here.
    connections: BTreeSet<u16>,
    /// What the owner's engine knows: port → member.
    table: BTreeMap<u16, IpAddr>,
}

impl Node {
    fn heard(&self, member: &str) -> Option<&Heard> {
        self.to_iked.iter().rev().find_map(|m| match m {
            FromStack::Heard(h) if h.member == member => Some(h),
            _ => None,
        })
    }

    fn is_alive(&self, member: &str) -> bool {
        self.heard(member).is_some_and(|h| h.alive)
    }

    fn owner_order(&self) -> Option<(IpAddr, u64)> {
        self.orders.iter().rev().find_map(|o| match o {
            EngineOrder::OwnerChanged { dvipa, owner, epoch } if *dvipa == DVIPA => Some((*owner, *epoch)),
            _ => None,
        })
    }

    fn refused(&self, name: &str) -> u64 {
        self.group.refusals().iter().find(|d| d.reason == name).map_or(0, |d| d.packets)
    }

    fn lists_asked(&self) -> usize {
        self.orders.iter().filter(|o| matches!(o, EngineOrder::ListConnections { .. })).count()
    }
}

struct Flying {
    at: Instant,
    from: IpAddr,
    to: IpAddr,
    bytes: Vec<u8>,
}

struct Cluster {
    now: Instant,
    begin: Instant,
    nodes: BTreeMap<&'static str, Node>,
    flying: Vec<Flying>,
    random: StdRng,
    loss: f64,
    doubling: f64,
    /// Latency is between one and this many tenths of a millisecond.
    jitter: u64,
    cut: BTreeSet<(IpAddr, IpAddr)>,
    /// Everything that was sent.
    tape: Vec<(IpAddr, IpAddr, Vec<u8>)>,
}

const NAMES: [(&str, u8); 4] = [("D1", 1), ("D2", 2), ("T1", 3), ("T2", 4)];

impl Cluster {
    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn new(seed: u64) -> Self {
        let begin = Instant::now();
        let nodes = NAMES.map(|(name, host)| {
            let start = 1000 + u64::from(host);
            let node = Node {
                group: Group::new(start),
                start,
                up: true,
                host,
                home: vec![],
                orders: vec![],
                to_iked: vec![],
                connections: BTreeSet::new(),
                table: BTreeMap::new(),
            };
            (name, node)
        });
        let mut c = Self {
            now: begin,
            begin,
            nodes: nodes.into(),
            flying: vec![],
            random: StdRng::seed_from_u64(seed),
            loss: 0.0,
            doubling: 0.0,
            jitter: 1,
            cut: BTreeSet::new(),
            tape: vec![],
        };
        c.roles("D1", 1);
        c.configure_all();
        c
    }

    fn bad_link(&mut self) {
        (self.loss, self.doubling, self.jitter) = (0.2, 0.1, 200);
    }

    fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).unwrap()
    }

    /// Who owns the DVIPA, by the configuration of everybody.
    fn roles(&mut self, owner: &str, epoch: u64) {
        let by = xcf(self.nodes[owner].host);
        for (name, node) in &mut self.nodes {
            let role = if *name == owner {
                Role::Owner { distribution: vec![] }
            } else {
                Role::Target { distributor: Some(by) }
            };
            node.home = vec![Home { address: DVIPA, role, epoch }];
        }
    }

    fn config(&self, name: &str) -> StackConfig {
        let host = self.nodes[name].host;
        StackConfig {
            name: name.into(),
            network: vec![],
            xcf: Some(Xcf { interface: "xcf".into(), address: xcf(host) }),
            mark: 1,
            mark_mask: 1,
            home: self.nodes[name].home.clone(),
            members: self
                .nodes
                .iter()
                .map(|(n, m)| Member { name: (*n).into(), xcf: xcf(m.host), start: Some(m.start) })
                .collect(),
            sysplex: Some(SysplexLink {
                name: "PLEX".into(),
                key: KeyBytes(vec![9; 32]),
                heartbeat_ms: 100,
                missed_heartbeats: MISSED,
                gre_in_udp: false,
                leased: false,
            }),
            max_connections: 1000,
        }
    }

    fn configure(&mut self, name: &'static str) {
        let config = self.config(name);
        let now = self.now;
        self.node(name).group.configure(now, &config);
    }

    fn configure_all(&mut self) {
        for (name, _) in NAMES {
            if self.nodes[name].up {
                self.configure(name);
            }
        }
    }

    fn kill(&mut self, name: &str) {
        self.node(name).up = false;
    }

    /// Another start of the same stack; the others are told of it by `configure_all`.
    fn start(&mut self, name: &'static str) {
        let node = self.node(name);
        node.start += 10_000;
        node.group = Group::new(node.start);
        node.up = true;
        node.orders.clear();
        node.to_iked.clear();
    }

    fn cut(&mut self, a: &str, b: &str, cut: bool) {
        let (a, b) = (xcf(self.nodes[a].host), xcf(self.nodes[b].host));
        for pair in [(a, b), (b, a)] {
            if cut {
                self.cut.insert(pair);
            } else {
                self.cut.remove(&pair);
            }
        }
    }

    fn settle(&mut self) {
        loop {
            let mut idle = true;
            for node in self.nodes.values_mut().filter(|n| n.up) {
                let mut bytes = Vec::new();
                while let Some(to) = node.group.poll_transmit(self.now, &mut bytes) {
                    assert_eq!(to.port(), PORT);
                    idle = false;
                    let (from, to) = (xcf(node.host), to.ip());
                    self.tape.push((from, to, bytes.clone()));
                    let copies = if self.random.random_bool(self.doubling) { 2 } else { 1 };
                    for _ in 0..copies {
                        if self.cut.contains(&(from, to)) || self.random.random_bool(self.loss) {
                            continue;
                        }
                        let at = self.now
                            + Duration::from_micros(100)
                                * u32::try_from(self.random.random_range(1..=self.jitter)).unwrap();
                        self.flying.push(Flying { at, from, to, bytes: bytes.clone() });
                    }
                }
                while let Some(event) = node.group.poll_event() {
                    idle = false;
                    match event {
                        Event::ToIked(m) => node.to_iked.push(m),
                        Event::ToEngine(order) => {
                            engine(node, self.now, &order);
                            node.orders.push(order);
                        }
                    }
                }
            }
            if idle {
                return;
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        loop {
            let timers = self.nodes.values().filter(|n| n.up).filter_map(|n| n.group.poll_timeout());
            let next = self.flying.iter().map(|f| f.at).chain(timers).min();
            let Some(next) = next.filter(|t| *t <= end) else { break };
            self.now = self.now.max(next);
            let (due, later) = std::mem::take(&mut self.flying).into_iter().partition(|f| f.at <= self.now);
            self.flying = later;
            let due: Vec<Flying> = due;
            for mut f in due {
                if let Some(node) = self.nodes.values_mut().find(|n| n.up && xcf(n.host) == f.to) {
                    node.group.handle_datagram(self.now, SocketAddr::new(f.from, PORT), &mut f.bytes);
                }
            }
            for node in self.nodes.values_mut().filter(|n| n.up) {
                if node.group.poll_timeout().is_some_and(|t| t <= self.now) {
                    node.group.handle_timeout(self.now);
                }
            }
            self.settle();
        }
        self.now = end;
    }

    fn report(&mut self, name: &str, report: ToGroup) {
        let now = self.now;
        self.node(name).group.handle_report(now, EngineReport::Said(report));
    }

    /// The engine of a new owner asks everybody.
    fn ask(&mut self, name: &str, epoch: u64) {
        for (other, host) in NAMES {
            if other != name {
                self.report(name, ToGroup::AskConnections { to: xcf(host), dvipa: DVIPA, epoch });
            }
        }
    }

    fn open(&mut self, name: &str, port: u16, owner: &str) {
        let to = xcf(self.nodes[owner].host);
        self.node(name).connections.insert(port);
        self.report(name, ToGroup::Opened { to, flow: flow(port) });
    }

    fn end(&mut self, name: &str, port: u16, owner: &str) {
        let to = xcf(self.nodes[owner].host);
        self.node(name).connections.remove(&port);
        self.report(name, ToGroup::Ended { to, key: flow(port).key });
    }

    /// Gives a recorded or made-up datagram to a node.
    fn inject(&mut self, name: &str, from: IpAddr, bytes: &[u8]) {
        let now = self.now;
        self.node(name).group.handle_datagram(now, SocketAddr::new(from, PORT), &mut bytes.to_vec());
    }
}

fn engine(node: &mut Node, now: Instant, order: &EngineOrder) {
    match order {
        EngineOrder::ListConnections { to, dvipa, epoch, from } => {
            // Small pages, so that there are several.
            let start = usize::try_from(*from).unwrap();
            let entries: Vec<_> = node.connections.iter().skip(start).take(7).map(|p| flow(*p)).collect();
            let next = (start + 7 < node.connections.len()).then_some(from + 7);
            let (to, dvipa, epoch, from) = (*to, *dvipa, *epoch, *from);
            node.group
                .handle_report(now, EngineReport::Connections { to, dvipa, epoch, from, entries, next });
        }
        EngineOrder::Connections { member, entries, .. } => {
            node.table.extend(entries.iter().map(|f| (f.key.remote_port, *member)));
        }
        EngineOrder::Gap { member } => {
            let owned = node.home.iter().find(|h| matches!(h.role, Role::Owner { .. }));
            if let Some(Home { address: dvipa, epoch, .. }) = owned.cloned() {
                let ask = ToGroup::AskConnections { to: *member, dvipa, epoch };
                node.group.handle_report(now, EngineReport::Said(ask));
            }
        }
        EngineOrder::NewConnection { member, entry, .. } => {
            node.table.insert(entry.key.remote_port, *member);
        }
        EngineOrder::ConnectionEnded { key, .. } => {
            node.table.remove(&key.remote_port);
        }
        EngineOrder::OwnerChanged { .. } | EngineOrder::Target(_) => {}
    }
}

#[test]
fn everybody_hears_everybody_within_a_heartbeat() {
    let mut c = Cluster::new(1);
    c.run(BEAT);
    for (name, node) in &c.nodes {
        for (other, _) in NAMES.iter().filter(|(n, _)| n != name) {
            assert!(node.is_alive(other), "{name} hears {other}");
            let targets = node.orders.iter().rev();
            let state = targets.filter_map(|o| match o {
                EngineOrder::Target(t) if t.name == *other => Some(t),
                _ => None,
            });
            assert!(state.take(1).all(|t| t.alive && t.candidate));
        }
    }
}

#[test]
fn a_killed_stack_is_silent_after_the_configured_time_and_heard_again_with_its_new_start() {
    let mut c = Cluster::new(2);
    c.run(BEAT * 10);
    c.kill("T1");
    c.run(BEAT * (MISSED - 1));
    assert!(c.nodes["D1"].is_alive("T1"));
    c.run(BEAT * 2);
    assert!(!c.nodes["D1"].is_alive("T1"));
    c.start("T1");
    c.configure("T1");
    c.run(BEAT * 5);
    assert!(!c.nodes["D1"].is_alive("T1"), "a start that nobody vouches for");
    assert!(c.nodes["D1"].refused("xcf_unknown_start") > 0);
    c.configure_all();
    c.run(BEAT);
    let heard = c.nodes["D1"].heard("T1").unwrap();
    assert_eq!((heard.alive, heard.start), (true, 11_003));
    assert!(c.nodes["T1"].is_alive("D1"));
}

#[test]
fn an_orderly_end_is_known_at_once() {
    let mut c = Cluster::new(3);
    c.run(BEAT);
    c.node("T1").group.leave();
    c.run(Duration::from_millis(1));
    c.kill("T1");
    assert!(c.nodes["D1"].heard("T1").is_some_and(|h| !h.alive));
}

#[test]
fn ports_and_capacity_reach_everybody() {
    let mut c = Cluster::new(4);
    c.bad_link();
    c.run(BEAT * 3);
    let port = ReadyPort { dvipa: DVIPA, protocol: 6, port: 443, count: 2 };
    let now = c.now;
    c.node("T1").group.set_ready(now, vec![port], 40);
    c.run(BEAT * 10);
    let heard = c.nodes["D1"].heard("T1").unwrap();
    assert_eq!((heard.ready.as_slice(), heard.capacity), (&[port][..], 40));
    let now = c.now;
    c.node("T1").group.set_ready(now, vec![], 40);
    c.run(BEAT * 10);
    assert_eq!(c.nodes["D2"].heard("T1").unwrap().ready, []);
}

#[test]
fn connections_reach_the_owner_once_and_in_order_over_a_bad_link() {
    for seed in 0..10 {
        let mut c = Cluster::new(seed);
        c.run(BEAT * 2);
        c.bad_link();
        for n in 0..500u16 {
            c.open("T1", n, "D1");
            c.open("T2", 1000 + n, "D1");
            if n % 3 == 0 {
                c.end("T1", n, "D1");
            }
            c.run(Duration::from_millis(2));
        }
        c.run(Duration::from_secs(5));
        let want: BTreeMap<u16, IpAddr> = [("T1", 3), ("T2", 4)]
            .into_iter()
            .flat_map(|(t, host)| c.nodes[t].connections.iter().map(move |p| (*p, xcf(host))))
            .collect();
        assert_eq!(c.nodes["D1"].table, want, "seed {seed}");
    }
}

#[test]
fn t47_r8_a_takeover_turns_everybody_round_and_the_table_is_rebuilt() {
    for seed in 0..10 {
        let mut c = Cluster::new(seed);
        c.run(BEAT * 2);
        for n in 0..50 {
            c.open("T1", n, "D1");
            c.open("T2", 100 + n, "D1");
            c.node("D1").connections.insert(200 + n);
        }
        c.run(BEAT);
        c.bad_link();
        // Only D2's own `iked` knows yet: it is owner at epoch 2 now.
        c.node("D2").home =
            vec![Home { address: DVIPA, role: Role::Owner { distribution: vec![] }, epoch: 2 }];
        c.configure("D2");
        c.ask("D2", 2);
        c.run(Duration::from_secs(2));
        for name in ["D1", "T1", "T2"] {
            assert_eq!(c.nodes[name].owner_order(), Some((xcf(2), 2)), "{name}");
        }
        let heard = FromStack::OwnerHeard { dvipa: DVIPA, owner: "D2".into(), epoch: 2, ceiling: None };
        assert!(c.nodes["D1"].to_iked.contains(&heard));
        let want: BTreeMap<u16, IpAddr> = [("D1", 1), ("T1", 3), ("T2", 4)]
            .into_iter()
            .flat_map(|(t, host)| c.nodes[t].connections.iter().map(move |p| (*p, xcf(host))))
            .collect();
        assert_eq!(c.nodes["D2"].table, want, "seed {seed}");
        // The old owner's configuration comes late: it changes nothing, and nobody is told of the old epoch.
        c.configure("D1");
        c.configure("T1");
        c.run(BEAT * 5);
        assert_eq!(c.nodes["T1"].owner_order(), Some((xcf(2), 2)));
        assert_eq!(c.nodes["D1"].owner_order(), Some((xcf(2), 2)));
        // What a target still says to the old owner goes nowhere.
        let table = c.nodes["D1"].table.len();
        c.open("T1", 300, "D1");
        c.run(BEAT * 5);
        assert_eq!(c.nodes["D1"].table.len(), table);
    }
}

#[test]
fn t47_the_claim_of_an_old_owner_is_counted_and_ignored() {
    let mut c = Cluster::new(5);
    c.run(BEAT * 2);
    c.roles("D2", 2);
    for name in ["D2", "T1", "T2"] {
        c.configure(name);
    }
    // D1 heard nothing of it, and goes on to say that it is the owner.
    c.cut("D1", "D2", true);
    c.node("D1").group = Group::new(c.nodes["D1"].start + 1);
    c.node("D1").start += 1;
    c.node("D1").home = vec![Home { address: DVIPA, role: Role::Owner { distribution: vec![] }, epoch: 1 }];
    c.configure("D1");
    c.configure("T1");
    c.run(BEAT * 3);
    assert!(c.nodes["T1"].is_alive("D1"));
    assert!(c.nodes["T1"].refused("xcf_old_epoch") > 0);
    assert_ne!(c.nodes["T1"].owner_order(), Some((xcf(1), 1)));
    // Two owners of one epoch cannot be by the coupling facility; if it happens it is seen.
    c.cut("D1", "D2", false);
    c.node("D1").home[0].epoch = 2;
    c.configure("D1");
    c.run(BEAT * 3);
    assert!(c.nodes["T1"].refused("xcf_epoch_conflict") > 0);
    assert_ne!(c.nodes["T1"].owner_order(), Some((xcf(1), 2)));
}

#[test]
fn after_a_gap_the_owner_asks_again() {
    let mut c = Cluster::new(6);
    c.run(BEAT * 2);
    for n in 0..20 {
        c.open("T1", n, "D1");
    }
    c.run(BEAT);
    // Reports of the engine were lost: connections came and went of which nothing was said.
    c.node("T1").connections = (10..40).collect();
    let now = c.now;
    c.node("T1").group.handle_report(now, EngineReport::Lost);
    c.run(BEAT);
    let knows = |c: &Cluster, ports: std::ops::Range<u16>| {
        ports.into_iter().all(|p| c.nodes["D1"].table.get(&p) == Some(&xcf(3)))
    };
    assert!(knows(&c, 10..40));
    // The same with more messages than may wait.
    let asked = c.nodes["T1"].lists_asked();
    c.cut("T1", "D1", true);
    for n in 0..60_000u16 {
        c.open("T1", n, "D1");
        c.report("T1", ToGroup::Ended { to: xcf(1), key: flow(n).key });
    }
    c.run(BEAT);
    let resets = c.nodes["T1"].refused("xcf_stream_reset");
    for n in 0..60_000u16 {
        c.open("T1", n, "D1");
        c.report("T1", ToGroup::Ended { to: xcf(1), key: flow(n).key });
    }
    c.node("T1").connections = (60_000..60_100).collect();
    assert!(c.nodes["T1"].refused("xcf_stream_reset") > resets);
    c.cut("T1", "D1", false);
    c.run(Duration::from_secs(2));
    assert!(c.nodes["T1"].lists_asked() > asked);
    assert!(knows(&c, 60_000..60_100));
}

#[test]
fn r20_a_cut_link_makes_both_silent_and_what_was_missed_is_caught_up() {
    let mut c = Cluster::new(7);
    c.run(BEAT * 2);
    c.cut("T1", "D1", true);
    c.run(BEAT * 5);
    assert!(!c.nodes["D1"].is_alive("T1") && !c.nodes["T1"].is_alive("D1"));
    assert!(c.nodes["T2"].is_alive("T1"), "others hear it");
    for n in 0..30 {
        c.open("T1", n, "D1");
    }
    c.cut("T1", "D1", false);
    c.run(BEAT * 3);
    assert!(c.nodes["D1"].is_alive("T1") && c.nodes["T1"].is_alive("D1"));
    assert_eq!(c.nodes["D1"].table.len(), 30);
}

#[test]
fn t45_a_flapping_member_is_heard_but_no_candidate() {
    let mut c = Cluster::new(8);
    c.run(BEAT * 2);
    for _ in 0..5 {
        c.cut("T1", "D1", true);
        c.run(BEAT * 5);
        c.cut("T1", "D1", false);
        c.run(BEAT * 5);
    }
    let state = |c: &Cluster| {
        let last = c.nodes["D1"].orders.iter().rev().find_map(|o| match o {
            EngineOrder::Target(t) if t.name == "T1" => Some((t.alive, t.candidate)),
            _ => None,
        });
        last.unwrap()
    };
    assert_eq!(state(&c), (true, false));
    c.run(Duration::from_secs(30));
    assert_eq!(state(&c), (true, true));
}

#[test]
fn what_iked_says_to_iked_arrives_whole() {
    let mut c = Cluster::new(9);
    c.run(BEAT * 2);
    c.bad_link();
    // While both live: three heartbeats in a row do not get lost.
    c.loss = 0.05;
    let large: Vec<u8> = (0..MAX_RELAY_BYTES).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    c.node("D1").group.relay("D2", b"first".to_vec());
    c.node("D1").group.relay("D2", large.clone());
    c.node("D1").group.relay("D2", b"last".to_vec());
    c.run(Duration::from_secs(30));
    let got: Vec<_> = c.nodes["D2"]
        .to_iked
        .iter()
        .filter_map(|m| match m {
            FromStack::Relayed { from, bytes } => Some((from.as_str(), bytes.clone())),
            _ => None,
        })
        .collect();
    assert!(got == [("D1", b"first".to_vec()), ("D1", large), ("D1", b"last".to_vec())]);
    for (to, bytes) in [("D2", vec![0; MAX_RELAY_BYTES + 1]), ("NOBODY", vec![1]), ("D1", vec![1])] {
        c.node("D1").group.relay(to, bytes);
        let said = c.node("D1").group.poll_event();
        assert!(matches!(said, Some(Event::ToIked(FromStack::Refused { .. }))), "{to}");
    }
}

#[test]
fn a_ceiling_is_heard_and_only_grows() {
    let mut c = Cluster::new(10);
    c.run(BEAT);
    c.node("D1").group.set_ceiling(DVIPA, 1, 5000);
    c.node("D1").group.set_ceiling(DVIPA, 2, 9000);
    c.run(BEAT * 2);
    c.node("D1").group.set_ceiling(DVIPA, 1, 100);
    c.run(BEAT * 2);
    let ceilings: Vec<_> = c.nodes["D2"]
        .to_iked
        .iter()
        .filter_map(|m| match m {
            FromStack::OwnerHeard { epoch: 1, ceiling, .. } => Some(*ceiling),
            _ => None,
        })
        .collect();
    assert_eq!(ceilings, [None, Some(5000)]);
}

#[test]
fn more_dvipas_than_a_heartbeat_holds_are_all_heard() {
    let mut c = Cluster::new(11);
    let dvipas: Vec<IpAddr> = (0..100).map(|n| IpAddr::from([198, 51, 100, n])).collect();
    c.node("D1").home = dvipas
        .iter()
        .map(|a| Home { address: *a, role: Role::Owner { distribution: vec![] }, epoch: 3 })
        .collect();
    c.configure("D1");
    c.run(BEAT * 5);
    let heard: BTreeSet<IpAddr> = c.nodes["T1"]
        .to_iked
        .iter()
        .filter_map(|m| match m {
            FromStack::OwnerHeard { dvipa, epoch: 3, .. } => Some(*dvipa),
            _ => None,
        })
        .collect();
    assert_eq!(heard, dvipas.into_iter().collect());
}

#[test]
fn a_new_iked_hears_all_that_is_known() {
    let mut c = Cluster::new(12);
    c.run(BEAT * 2);
    c.node("T1").to_iked.clear();
    c.node("T1").group.greet();
    c.run(Duration::ZERO);
    for other in ["D1", "D2", "T2"] {
        assert!(c.nodes["T1"].is_alive(other));
    }
    let owner = FromStack::OwnerHeard { dvipa: DVIPA, owner: "D1".into(), epoch: 1, ceiling: None };
    assert!(c.nodes["T1"].to_iked.contains(&owner));
}

#[test]
fn t45_nothing_that_was_recorded_works_again_anywhere() {
    let mut c = Cluster::new(13);
    c.run(BEAT * 5);
    let tape = std::mem::take(&mut c.tape);
    let settled = |c: &Cluster| c.nodes.values().map(|n| n.orders.len()).collect::<Vec<_>>();
    let before = settled(&c);
    for (from, _, bytes) in &tape {
        for (name, _) in NAMES {
            c.inject(name, *from, bytes);
        }
        c.inject("T1", xcf(99), bytes);
    }
    c.run(Duration::ZERO);
    assert_eq!(settled(&c), before);
    let t1 = &c.nodes["T1"];
    assert!(
        t1.refused("xcf_replay") > 0 && t1.refused("xcf_bad_seal") > 0 && t1.refused("xcf_not_member") > 0
    );
    // A stack that has just started believes nothing that was said before.
    for (name, _) in NAMES {
        c.kill(name);
    }
    c.start("T1");
    c.configure("T1");
    for (from, _, bytes) in &tape {
        c.inject("T1", *from, bytes);
    }
    c.run(BEAT);
    assert!(!c.nodes["T1"].is_alive("D1"), "a dead member stays dead");
}

#[test]
fn versions_strangers_and_other_keys_are_counted_by_name() {
    let mut c = Cluster::new(14);
    c.run(BEAT);
    let (own, sender) = (Name::new("T1").unwrap(), Name::new("D1").unwrap());
    let content = Content {
        to_start: Some(c.nodes["T1"].start),
        acknowledgement: None,
        body: Body::Heartbeat(Heartbeat {
            leaving: false,
            capacity: 1,
            owned: vec![Owned { dvipa: DVIPA, epoch: 99, ceiling: None }],
        }),
    };
    let seal = |key: u8, sender: Name, start: u64| {
        let key = LinkKey::new(&KeyBytes(vec![key; 32])).unwrap().of(sender, start);
        let mut out = Vec::new();
        let envelope = Envelope { start, counter: 1 << 40, sender };
        key.seal(&envelope, own, |o| content.write(o), &mut out);
        out
    };
    let mut version = seal(9, sender, 1001);
    version[2] = 2;
    let cases = [
        ("xcf_wrong_version", version, xcf(1)),
        ("xcf_bad_seal", seal(8, sender, 1001), xcf(1)),
        ("xcf_unknown_start", seal(9, sender, 7), xcf(1)),
        ("xcf_not_member", seal(9, Name::new("EVIL").unwrap(), 7), xcf(1)),
        ("xcf_not_member", seal(9, sender, 1001), xcf(2)),
        ("xcf_not_member", seal(9, own, 1003), xcf(3)),
        ("xcf_malformed", b"hello".to_vec(), xcf(1)),
    ];
    for (name, bytes, from) in cases {
        let before = c.nodes["T1"].refused(name);
        c.inject("T1", from, &bytes);
        assert_eq!(c.nodes["T1"].refused(name), before + 1, "{name}");
    }
    c.run(Duration::ZERO);
    assert_eq!(c.nodes["T1"].owner_order(), None);
    c.inject("T1", xcf(1), &seal(9, sender, 1001));
    c.run(Duration::ZERO);
    assert_eq!(c.nodes["T1"].owner_order(), Some((xcf(1), 99)), "the right one counts");
}

#[test]
fn without_a_link_nothing_is_said_and_nothing_heard() {
    let mut c = Cluster::new(15);
    c.run(BEAT);
    let mut config = c.config("T1");
    config.sysplex = None;
    let now = c.now;
    c.node("T1").group.configure(now, &config);
    c.run(BEAT * 5);
    assert_eq!(c.nodes["T1"].group.poll_timeout(), None);
    assert!(!c.nodes["T1"].is_alive("D1") && !c.nodes["D1"].is_alive("T1"));
    config.sysplex = Some(SysplexLink { key: KeyBytes(vec![1; 31]), ..c.config("T1").sysplex.unwrap() });
    c.node("T1").group.configure(now, &config);
    let said = c.node("T1").group.poll_event();
    assert!(matches!(said, Some(Event::ToIked(FromStack::Log { warning: true, .. }))), "{said:?}");
    c.configure("T1");
    c.run(BEAT * 2);
    assert!(c.nodes["T1"].is_alive("D1") && c.nodes["D1"].is_alive("T1"));
}

#[test]
fn what_is_sent_stops_when_all_is_said() {
    let mut c = Cluster::new(16);
    c.run(BEAT * 5);
    let sent = c.tape.len();
    c.run(BEAT * 100);
    // Twelve pairs, one heartbeat each.
    let rate = (c.tape.len() - sent) / 100;
    assert!((12..=13).contains(&rate), "{rate} datagrams per heartbeat");
    assert!(c.begin < c.now);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn t45_bytes_of_a_member_gone_mad_do_no_harm(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..40),
        seed in any::<u64>(),
    ) {
        let mut c = Cluster::new(seed);
        c.run(BEAT * 2);
        let sender = Name::new("T2").unwrap();
        let key = LinkKey::new(&KeyBytes(vec![9; 32])).unwrap().of(sender, 1004);
        for (n, body) in bodies.iter().enumerate() {
            let counter = (1 << 40) + n as u64;
            let mut out = Vec::new();
            let write = |o: &mut Vec<u8>| {
                // Every second one is for this start, so that its content counts.
                if n % 2 == 0 {
                    o.extend_from_slice(&1001u64.to_be_bytes());
                }
                o.extend_from_slice(body);
            };
            key.seal(&Envelope { start: 1004, counter, sender }, Name::new("D1").unwrap(), write, &mut out);
            c.inject("D1", xcf(4), &out);
            c.run(Duration::from_millis(10));
        }
        c.run(BEAT * 3);
        prop_assert!(c.nodes["D1"].is_alive("T1"));
    }
}
