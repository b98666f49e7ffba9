//! Stacks in memory: engines back to back, an ideal network and XCF between them, and applications made of packets.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its part")]

use etherparse::PacketBuilder;
use stack::control::{
    AddressRange, Answer, DfMode, Direction, Distribution, EspSuite, FilterAction, FilterRule, FilterSet,
    FilterView, FromStack, Home, KeyBytes, Member, Method, Mode, PortRange, Question, ReadyPort, Role,
    SaPair, Selector, StackConfig, SysplexLink, Target, Xcf,
};
use stack::engine::io::{Output, RawArrival, ToGroup, UdpArrival, VnetHeader};
use stack::engine::survey::{Finished, Reply};
use stack::engine::{Engine, Links};
use stack::xcf::order::{EngineOrder, TargetState};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));
pub const DVIPA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 80));
pub const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 66));

pub fn xcf(n: u8) -> IpAddr {
    IpAddr::from([10, 99, 0, n])
}

pub fn any4() -> AddressRange {
    AddressRange { low: IpAddr::from([0, 0, 0, 0]), high: IpAddr::from([255, 255, 255, 255]) }
}

pub const LINKS: Links = Links { network_mtu: 1500, xcf_mtu: 65_535 };

/// A host with a stack.
pub struct Node {
    pub name: &'static str,
    pub engine: Engine,
    pub out: Output,
    pub config: StackConfig,
    /// What local applications received.
    pub app: Vec<(VnetHeader, Vec<u8>)>,
    /// What left the TUN for somewhere else: the network in clear, or a forwarded packet.
    pub clear: Vec<(VnetHeader, Vec<u8>)>,
    pub logs: Vec<String>,
    pub ike: Vec<stack::control::IkeDatagram>,
    pub acquires: Vec<stack::control::Acquire>,
    pub notices: Vec<(u32, stack::control::SaNotice)>,
    /// What it told its `iked` beside that.
    pub events: Vec<FromStack>,
    /// What it wanted other stacks to be told.
    pub group: Vec<ToGroup>,
    /// Its messages to others, and theirs to it, are lost.
    pub mute: bool,
}

impl Node {
    pub fn new(name: &'static str, own_xcf: Option<u8>, homes: Vec<Home>, members: &[u8]) -> Self {
        let config = StackConfig {
            name: name.into(),
            network: vec!["eth0".into()],
            xcf: own_xcf.map(|n| Xcf { interface: "xcf0".into(), address: xcf(n) }),
            mark: 1,
            mark_mask: 1,
            home: homes,
            members: members
                .iter()
                .map(|n| Member { name: format!("S{n}"), xcf: xcf(*n), start: None })
                .collect(),
            sysplex: None,
            max_connections: 1000,
        };
        Self {
            name,
            engine: Engine::new(42),
            out: Output::default(),
            config,
            app: vec![],
            clear: vec![],
            logs: vec![],
            ike: vec![],
            acquires: vec![],
            notices: vec![],
            events: vec![],
            group: vec![],
            mute: false,
        }
    }

    /// Gives it an engine that knows nothing, as after a crash.
    pub fn crash(&mut self) {
        self.engine = Engine::new(43);
        self.out = Output::default();
    }

    pub fn xcf(&self) -> Option<IpAddr> {
        self.config.xcf.as_ref().map(|x| x.address)
    }

    pub fn drops(&self, now: Instant) -> Vec<(String, u64)> {
        match answer(&self.engine, now, Question::Drops) {
            Answer::Drops(d) => d.into_iter().map(|d| (d.reason, d.packets)).collect(),
            other => panic!("{other:?}"),
        }
    }

    pub fn filters(&self, now: Instant) -> Vec<FilterView> {
        match answer(&self.engine, now, Question::Filters) {
            Answer::Filters(f) => f,
            other => panic!("{other:?}"),
        }
    }

    pub fn distribution(&self, now: Instant) -> Vec<(String, u64, u64)> {
        match answer(&self.engine, now, Question::Distribution) {
            Answer::Distribution(d) => d.into_iter().map(|t| (t.target, t.active, t.total)).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn owns(&self, a: IpAddr) -> bool {
        self.config.home.iter().any(|h| h.address == a && matches!(h.role, Role::Static | Role::Owner { .. }))
    }

    fn has(&self, a: IpAddr) -> bool {
        self.config.home.iter().any(|h| h.address == a)
    }
}

/// What was on a link, for assertions.
#[derive(Debug, Clone)]
pub enum OnWire {
    Esp { from: IpAddr, to: IpAddr, bytes: Vec<u8> },
    EspInUdp { from: SocketAddr, to: SocketAddr, bytes: Vec<u8>, segment: usize },
    Gre { from: IpAddr, to: IpAddr, bytes: Vec<u8> },
}

pub struct World {
    pub now: Instant,
    pub nodes: Vec<Node>,
    pub wire: Vec<OnWire>,
    /// Loses everything on the network while set.
    pub cut: bool,
    /// Neighbours on the network still believe that the DVIPA is there.
    pub stale: Option<&'static str>,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    pub fn new(nodes: Vec<Node>) -> Self {
        let mut w = Self { now: Instant::now(), nodes, wire: vec![], cut: false, stale: None };
        for i in 0..w.nodes.len() {
            w.configure(i);
        }
        w
    }

    pub fn configure(&mut self, i: usize) {
        let n = &mut self.nodes[i];
        n.engine.configure(self.now, &n.config, LINKS);
    }

    /// Moves the XCF to IPv6 addresses: `10.99.0.n` becomes `fd00:99::n`.
    pub fn xcf_v6(&mut self) {
        let v6 = |a: &mut IpAddr| {
            if let IpAddr::V4(v4) = a {
                *a = IpAddr::from([0xfd00, 0x99, 0, 0, 0, 0, 0, u16::from(v4.octets()[3])]);
            }
        };
        for i in 0..self.nodes.len() {
            let c = &mut self.nodes[i].config;
            c.xcf.iter_mut().for_each(|x| v6(&mut x.address));
            c.members.iter_mut().for_each(|m| v6(&mut m.xcf));
            for home in &mut c.home {
                match &mut home.role {
                    Role::Owner { distribution } => {
                        let targets = distribution.iter_mut().flat_map(|d| &mut d.targets);
                        targets.flat_map(|t| &mut t.xcf).for_each(v6);
                    }
                    Role::Target { distributor } | Role::Moving { distributor } => {
                        distributor.iter_mut().for_each(v6);
                    }
                    Role::Static | Role::Backup => {}
                }
            }
            self.configure(i);
        }
    }

    /// Stacks talk to each other, and each knows that all others live and serve `ports`.
    pub fn with_group(&mut self, ports: &[u16]) {
        for i in 0..self.nodes.len() {
            self.nodes[i].config.sysplex = Some(link());
            self.configure(i);
        }
        self.all_ready(ports);
    }

    pub fn all_ready(&mut self, ports: &[u16]) {
        for i in 0..self.nodes.len() {
            let members: Vec<IpAddr> = self.nodes[i].config.members.iter().map(|m| m.xcf).collect();
            for m in members {
                self.ready(i, m, ports, 100);
            }
            let own = EngineOrder::Target(target_state(None, ports, 100));
            self.nodes[i].engine.handle_group(self.now, &own);
            self.carry(i);
        }
    }

    /// What node `i` hears of a member.
    pub fn ready(&mut self, i: usize, member: IpAddr, ports: &[u16], capacity: u8) {
        let now = self.now;
        let order = EngineOrder::Target(target_state(Some(member), ports, capacity));
        self.nodes[i].engine.handle_group(now, &order);
        self.carry(i);
    }

    /// An ideal group: every message arrives at once, unless one of both is mute.
    fn group_message(&mut self, i: usize, message: &ToGroup) {
        let now = self.now;
        let from = self.nodes[i].xcf().unwrap();
        let (ToGroup::AskConnections { to, .. } | ToGroup::Opened { to, .. } | ToGroup::Ended { to, .. }) =
            message;
        let Some(j) = self.nodes.iter().position(|n| n.xcf() == Some(*to)) else { return };
        if self.nodes[i].mute || self.nodes[j].mute {
            return;
        }
        let order = match message {
            ToGroup::AskConnections { dvipa, epoch, .. } => return self.report(j, i, *dvipa, *epoch),
            ToGroup::Opened { flow, .. } => {
                let epoch = self.nodes[i].engine.epoch_of(flow.key.local);
                EngineOrder::NewConnection { member: from, epoch, entry: *flow }
            }
            ToGroup::Ended { key, .. } => {
                let epoch = self.nodes[i].engine.epoch_of(key.local);
                EngineOrder::ConnectionEnded { member: from, epoch, key: *key }
            }
        };
        self.nodes[j].engine.handle_group(now, &order);
    }

    /// Node `of` tells node `to` its connections, in small pieces.
    pub fn report(&mut self, of: usize, to: usize, dvipa: IpAddr, epoch: u64) {
        let (now, member) = (self.now, self.nodes[of].xcf().unwrap());
        let mut from = 0;
        loop {
            let (entries, next) = self.nodes[of].engine.connections_of(dvipa, from, 3);
            let order = EngineOrder::Connections { member, dvipa, epoch, entries, last: next.is_none() };
            self.nodes[to].engine.handle_group(now, &order);
            match next {
                Some(n) => from = n,
                None => return,
            }
        }
    }

    pub fn node(&self, name: &str) -> usize {
        self.nodes.iter().position(|n| n.name == name).expect(name)
    }

    pub fn n(&mut self, name: &str) -> &mut Node {
        let i = self.node(name);
        &mut self.nodes[i]
    }

    pub fn drops(&self, name: &str) -> Vec<(String, u64)> {
        self.nodes[self.node(name)].drops(self.now)
    }

    pub fn dropped(&self, name: &str, reason: &str) -> u64 {
        self.drops(name).into_iter().find(|(r, _)| r == reason).map_or(0, |(_, n)| n)
    }

    pub fn filters(&mut self, name: &str, rules: Vec<FilterRule>) {
        let now = self.now;
        let set = FilterSet {
            epoch: 1,
            policy: true,
            logging: true,
            predecap: false,
            log_implicit: true,
            implicit_icmp: false,
            rules,
        };
        self.n(name).engine.set_filters(now, 1, set);
    }

    pub fn sa(&mut self, name: &str, pair: SaPair) {
        let now = self.now;
        self.n(name).engine.install_sa(now, 1, pair).expect("installs");
        let i = self.node(name);
        self.carry(i);
    }

    /// A packet of an application, or of the network in clear, comes by the TUN of a node.
    pub fn tun(&mut self, name: &str, header: VnetHeader, mut packet: Vec<u8>) {
        let i = self.node(name);
        let n = &mut self.nodes[i];
        n.engine.handle_host(self.now, header, &mut packet, &mut n.out);
        self.carry(i);
    }

    pub fn send(&mut self, name: &str, packet: Vec<u8>) {
        self.tun(name, VnetHeader::default(), packet);
    }

    pub fn timeout(&mut self, name: &str, after: Duration) {
        self.now += after;
        let i = self.node(name);
        let n = &mut self.nodes[i];
        n.engine.handle_timeout(self.now, &mut n.out);
        self.carry(i);
    }

    /// GRE on the XCF of a node.
    pub fn gre(&mut self, name: &str, from: IpAddr, to: IpAddr, mut packet: Vec<u8>) {
        let i = self.node(name);
        let n = &mut self.nodes[i];
        n.engine.handle_xcf(
            self.now,
            RawArrival { source: from, destination: to, tos: 0 },
            &mut packet,
            &mut n.out,
        );
        self.carry(i);
    }

    /// ESP on the network side of a node.
    pub fn esp(&mut self, name: &str, from: IpAddr, to: IpAddr, mut packet: Vec<u8>) {
        let i = self.node(name);
        let n = &mut self.nodes[i];
        n.engine.handle_esp(
            self.now,
            RawArrival { source: from, destination: to, tos: 0 },
            &mut packet,
            &mut n.out,
        );
        self.carry(i);
    }

    /// Who gets what the network carries to an address.
    fn on_network(&self, a: IpAddr) -> Option<usize> {
        if self.cut {
            return None;
        }
        let stale = self.stale.map(|name| self.node(name)).filter(|j| self.nodes[*j].has(a));
        stale.or_else(|| self.nodes.iter().position(|n| n.owns(a)))
    }

    /// Carries out what a node wants, until everything is quiet.
    pub fn carry(&mut self, first: usize) {
        let mut todo = vec![first];
        while let Some(i) = todo.pop() {
            let now = self.now;
            let n = &mut self.nodes[i];
            n.engine.flush(now, &mut n.out);
            let out = std::mem::take(&mut n.out);
            n.logs.extend(out.logs.iter().map(|l| l.1.clone()));
            n.ike.extend(out.ike.iter().cloned());
            n.acquires.extend(out.acquires.iter().cloned());
            n.notices.extend(out.sa_notices.iter().copied());
            n.events.extend(out.events.iter().cloned());
            n.group.extend(out.group.iter().cloned());
            if !out.group.is_empty() {
                for message in &out.group {
                    self.group_message(i, message);
                }
                todo.extend(0..self.nodes.len());
            }
            let n = &mut self.nodes[i];
            for r in &out.host {
                let b = &out.bytes[r.clone()];
                let (header, packet) = (VnetHeader::parse(b).unwrap(), b[10..].to_vec());
                let to = destination(&packet);
                if n.has(to) { n.app.push((header, packet)) } else { n.clear.push((header, packet)) }
            }
            let own_xcf = n.config.xcf.as_ref().map(|x| x.address);
            for s in &out.xcf {
                let bytes = out.bytes[s.range.clone()].to_vec();
                self.wire.push(OnWire::Gre { from: own_xcf.unwrap(), to: s.remote, bytes: bytes.clone() });
                let Some(j) = self
                    .nodes
                    .iter()
                    .position(|n| n.config.xcf.as_ref().is_some_and(|x| x.address == s.remote))
                else {
                    continue;
                };
                let (mut bytes, n) = (bytes, &mut self.nodes[j]);
                let arrival = RawArrival { source: own_xcf.unwrap(), destination: s.remote, tos: s.tos };
                n.engine.handle_xcf(now, arrival, &mut bytes, &mut n.out);
                todo.push(j);
            }
            for s in &out.raw {
                let mut bytes = out.bytes[s.range.clone()].to_vec();
                self.wire.push(OnWire::Esp { from: s.local, to: s.remote, bytes: bytes.clone() });
                let Some(j) = self.on_network(s.remote) else { continue };
                let n = &mut self.nodes[j];
                n.engine.handle_esp(
                    now,
                    RawArrival { source: s.local, destination: s.remote, tos: s.tos },
                    &mut bytes,
                    &mut n.out,
                );
                todo.push(j);
            }
            for s in &out.udp {
                let mut bytes = out.bytes[s.range.clone()].to_vec();
                self.wire.push(OnWire::EspInUdp {
                    from: s.local,
                    to: s.remote,
                    bytes: bytes.clone(),
                    segment: s.segment,
                });
                let Some(j) = self.on_network(s.remote.ip()) else { continue };
                let n = &mut self.nodes[j];
                let arrival = UdpArrival { local: s.remote, remote: s.local, segment: s.segment, tos: s.tos };
                n.engine.handle_udp(now, arrival, &mut bytes, &mut n.out);
                todo.push(j);
            }
        }
    }
}

pub fn destination(p: &[u8]) -> IpAddr {
    if p[0] >> 4 == 4 {
        IpAddr::from([p[16], p[17], p[18], p[19]])
    } else {
        IpAddr::from(<[u8; 16]>::try_from(&p[24..40]).unwrap())
    }
}

pub fn home(address: IpAddr, role: Role) -> Home {
    Home { address, role, epoch: 1 }
}

pub fn rule(
    name: &str,
    direction: Direction,
    local: AddressRange,
    remote: AddressRange,
    action: FilterAction,
) -> FilterRule {
    let (source, destination) = match direction {
        Direction::Inbound => (remote, local),
        Direction::Outbound => (local, remote),
    };
    let extension = if direction == Direction::Outbound { 1 } else { 2 };
    FilterRule { log_deny: true, ..FilterRule::new(name, extension, direction, source, destination, action) }
}

/// Both directions of a rule.
pub fn both(name: &str, local: AddressRange, remote: AddressRange, action: FilterAction) -> Vec<FilterRule> {
    vec![
        rule(name, Direction::Outbound, local, remote, action),
        rule(name, Direction::Inbound, local, remote, action),
    ]
}

pub const IPSEC: FilterAction = FilterAction::Ipsec { on_demand: true };

/// The answer to a question, all of it at once.
pub fn answer(engine: &Engine, now: Instant, question: Question) -> Answer {
    let mut survey = match engine.ask(question).expect("the engine's question") {
        Reply::Answer(answer) => return answer,
        Reply::Survey(survey) => survey,
    };
    while !engine.survey(now, &mut survey) {}
    match survey.finish() {
        Finished::Answer(answer) => answer,
        Finished::Candidates(candidates) => Answer::Test(Box::new(engine.judge(candidates))),
    }
}

pub fn one(a: IpAddr) -> AddressRange {
    AddressRange::single(a)
}

pub fn selector(addresses: AddressRange) -> Selector {
    Selector { addresses, protocol: None, ports: PortRange::ANY }
}

/// Both ends of a pair of SAs between two hosts; the first sends with SPI `spi`, the second with `spi + 1`.
pub fn pair(a: IpAddr, b: IpAddr, spi: u32, rule: &str) -> (SaPair, SaPair) {
    let key = |n: u8| KeyBytes(vec![n; 20]);
    let low = u8::try_from(spi & 0x7f).unwrap();
    let first = SaPair {
        tunnel: spi & 0xff,
        generation: 1,
        ike_tunnel: 1,
        spi_in: spi + 1,
        spi_out: spi,
        local: a,
        remote: b,
        udp: None,
        mode: Mode::Tunnel,
        suite: EspSuite::AesGcm16 { key_bits: 128 },
        key_in: key(low ^ 0x80),
        key_out: key(low),
        esn: false,
        replay_window: 64,
        local_selectors: vec![selector(one(a))],
        remote_selectors: vec![selector(one(b))],
        rule: rule.into(),
        outbound_active: true,
        df: DfMode::Copy,
        copy_dscp: true,
        soft_bytes: None,
        hard_bytes: None,
        ceiling_of: None,
        continued: None,
    };
    let second = SaPair {
        spi_in: spi,
        spi_out: spi + 1,
        local: b,
        remote: a,
        key_in: key(low),
        key_out: key(low ^ 0x80),
        local_selectors: vec![selector(one(b))],
        remote_selectors: vec![selector(one(a))],
        ..first.clone()
    };
    (first, second)
}

fn octets(a: IpAddr) -> [u8; 4] {
    match a {
        IpAddr::V4(a) => a.octets(),
        IpAddr::V6(_) => panic!("IPv4 here"),
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Ends {
    pub from: (IpAddr, u16),
    pub to: (IpAddr, u16),
}

pub fn ends(from: IpAddr, from_port: u16, to: IpAddr, to_port: u16) -> Ends {
    Ends { from: (from, from_port), to: (to, to_port) }
}

impl Ends {
    pub fn back(self) -> Self {
        Self { from: self.to, to: self.from }
    }

    fn ip(self) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        match (self.from.0, self.to.0) {
            // With DF, as TCP sends.
            (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
            other => panic!("{other:?}"),
        }
    }

    /// A TCP segment with DF; `flags` as in the names of the flags: S, A, F, R, P.
    pub fn tcp(self, flags: &str, seq: u32, ack: u32, data: &[u8]) -> Vec<u8> {
        let mut b = self.ip().tcp(self.from.1, self.to.1, seq, 64_000);
        for f in flags.chars() {
            b = match f {
                'S' => b.syn().options(&[etherparse::TcpOptionElement::MaximumSegmentSize(1460)]).unwrap(),
                'A' => b.ack(ack),
                'F' => b.fin(),
                'R' => b.rst(),
                'P' => b.psh(),
                other => panic!("{other}"),
            };
        }
        let mut p = Vec::new();
        b.write(&mut p, data).unwrap();
        p
    }

    /// A UDP datagram without DF.
    pub fn udp(self, data: &[u8]) -> Vec<u8> {
        let mut ip = etherparse::Ipv4Header::new(
            0,
            64,
            etherparse::IpNumber::UDP,
            octets(self.from.0),
            octets(self.to.0),
        )
        .unwrap();
        ip.dont_fragment = false;
        let mut p = Vec::new();
        PacketBuilder::ip(etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default()))
            .udp(self.from.1, self.to.1)
            .write(&mut p, data)
            .unwrap();
        p
    }

    /// A TCP super-packet as a TUN with TSO gives it: partial checksum, segments of `mss`.
    pub fn tso(self, seq: u32, ack: u32, data: &[u8], mss: u16) -> (VnetHeader, Vec<u8>) {
        let mut p = self.tcp("AP", seq, ack, data);
        let (ip, addresses, gso_type) = if self.from.0.is_ipv4() { (20, 12..20, 1) } else { (40, 8..40, 4) };
        let length = u32::try_from(p.len() - ip).unwrap();
        let partial = stack::wire::checksum::pseudo_header(&p[addresses], 6, length).folded();
        p[ip + 16..ip + 18].copy_from_slice(&partial);
        let start = u16::try_from(ip).unwrap();
        let header = VnetHeader {
            flags: 1,
            gso_type,
            hdr_len: start + 20,
            gso_size: mss,
            csum_start: start,
            csum_offset: 16,
        };
        (header, p)
    }
}

/// What an independent parser says of a packet with a complete checksum.
pub fn check_tcp(p: &[u8]) -> etherparse::TcpHeader {
    let h = etherparse::PacketHeaders::from_ip_slice(p).expect("well formed");
    let Some(etherparse::TransportHeader::Tcp(tcp)) = h.transport else { panic!("no TCP") };
    let right = match h.net {
        Some(etherparse::NetHeaders::Ipv4(ip, _)) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            tcp.calc_checksum_ipv4(&ip, &p[ip.header_len() + tcp.header_len()..])
        }
        Some(etherparse::NetHeaders::Ipv6(ip, _)) => tcp.calc_checksum_ipv6(&ip, &p[40 + tcp.header_len()..]),
        other => panic!("{other:?}"),
    };
    assert_eq!(tcp.checksum, right.unwrap(), "TCP checksum");
    tcp
}

pub fn mss_of(tcp: &etherparse::TcpHeader) -> Option<u16> {
    tcp.options_iterator().flatten().find_map(|o| match o {
        etherparse::TcpOptionElement::MaximumSegmentSize(m) => Some(m),
        _ => None,
    })
}

pub fn distribution(ports: &[u16], targets: &[(&str, Option<u8>)]) -> Distribution {
    Distribution {
        protocol: 6,
        ports: ports.iter().map(|p| PortRange { low: *p, high: *p }).collect(),
        method: Method::RoundRobin,
        affinity_secs: 0,
        targets: targets
            .iter()
            .map(|(n, x)| Target { name: (*n).into(), xcf: x.map(xcf), weight: 10, quiesced: false })
            .collect(),
    }
}

/// A peer, a distributor of the DVIPA and two targets; everything between DVIPA and peer is protected.
pub fn sysplex() -> World {
    sysplex_of(DVIPA, PEER)
}

/// The same with other addresses.
pub fn sysplex_of(dvipa: IpAddr, peer: IpAddr) -> World {
    let targets = [("T1", Some(2)), ("T2", Some(3))];
    let owner = Role::Owner { distribution: vec![distribution(&[443], &targets)] };
    let target = || Role::Target { distributor: Some(xcf(1)) };
    let mut w = World::new(vec![
        Node::new("peer", None, vec![home(peer, Role::Static)], &[]),
        Node::new("D", Some(1), vec![home(dvipa, owner)], &[2, 3]),
        Node::new("T1", Some(2), vec![home(dvipa, target())], &[1, 3]),
        Node::new("T2", Some(3), vec![home(dvipa, target())], &[1, 2]),
    ]);
    w.filters("peer", both("R", one(peer), one(dvipa), IPSEC));
    for n in ["D", "T1", "T2"] {
        w.filters(n, both("R", one(dvipa), one(peer), IPSEC));
    }
    let (d, p) = pair(dvipa, peer, 0x1000, "R");
    w.sa("D", d);
    w.sa("peer", p);
    w
}

fn link() -> SysplexLink {
    SysplexLink {
        name: "PLEX".into(),
        key: KeyBytes(vec![7; 32]),
        other_keys: vec![],
        heartbeat_ms: 20,
        missed_heartbeats: 5,
        gre_in_udp: false,
        leased: false,
    }
}

/// A stack that lives, with a TCP server on each of the ports of the DVIPA.
pub fn target_state(xcf: Option<IpAddr>, ports: &[u16], capacity: u8) -> TargetState {
    let ready =
        ports.iter().map(|port| ReadyPort { dvipa: DVIPA, protocol: 6, port: *port, count: 1 }).collect();
    TargetState { name: String::new(), xcf, alive: true, left: false, candidate: true, ready, capacity }
}
