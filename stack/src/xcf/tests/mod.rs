//! Whole groups in memory, in virtual time, over links that delay, lose, double and swap datagrams.

mod hostile;
mod life;
mod takeover;

use crate::control::*;
use crate::engine::connection::ConnectionKey;
use crate::engine::io::{FlowRecord, FlowStage, ToGroup};
use crate::xcf::PORT;
use crate::xcf::datagram::{Body, Content, Envelope, Heartbeat, Name, Owned};
use crate::xcf::group::{Event, Group};
use crate::xcf::order::{EngineOrder, EngineReport};
use crate::xcf::seal::LinkKey;
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
                other_keys: vec![],
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
