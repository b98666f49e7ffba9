//! One engine and many peers around it, each with an engine of its own, under a clock moved by hand.

use iked::ike::Engine;
use iked::ike::command::{ActivationMethod, Command, Initiate};
use iked::ike::event::{Event, Payload};
use iked::ike::rules::{Rules, Settings};
use iked::ike::sim::{ADDRESS_A, rules};
use iked::ike::snapshot::IkeSnapshot;
use iked::ike::types::IkeTunnelId;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// A datagram under way: source, destination, octets.
type Datagram = (SocketAddr, SocketAddr, Vec<u8>);

pub(crate) struct Star {
    pub(crate) now: Instant,
    pub(crate) hub: Engine,
    pub(crate) peers: Vec<Engine>,
    /// Peers that nothing reaches.
    pub(crate) silent: BTreeSet<usize>,
    /// Peers behind one NAT, which sends what comes from their port 4500 on from [`NAT`] and the port here.
    pub(crate) translated: BTreeMap<usize, u16>,
    pub(crate) events: Vec<(Instant, Event)>,
    /// Peers in the order in which the hub first sent to them.
    pub(crate) reached: Vec<usize>,
    pub(crate) stored: BTreeMap<IkeTunnelId, IkeSnapshot>,
    /// IKE_SA_INIT messages of the hub.
    pub(crate) inits: usize,
    queue: BTreeMap<(Instant, u64), Datagram>,
    sequence: u64,
}

/// One way through the network.
pub(crate) const LATENCY: Duration = Duration::from_millis(10);

/// A NAT before some peers.
pub(crate) const NAT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

pub(crate) fn address(peer: usize) -> IpAddr {
    let number = u32::try_from(peer).expect("few peers");
    IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + number + 1))
}

/// What the hub has to negotiate with a peer: one of `children` pieces of it, told apart by port.
pub(crate) fn initiate(peer: usize, child: u16) -> Initiate {
    let mut local = all(ADDRESS_A);
    (local.protocol, local.port_low, local.port_high) = (6, 1000 + child, 1000 + child);
    Initiate {
        rule: name(peer, child),
        local_endpoint: ADDRESS_A,
        remote_endpoint: address(peer),
        remote_id: None,
        nat_port: None,
        local: vec![local],
        remote: vec![all(address(peer))],
        local_dyn_vpn_rule: None,
        method: ActivationMethod::Takeover,
        acquire: None,
        initial_contact: false,
    }
}

fn name(peer: usize, child: u16) -> String {
    format!("peer{peer}.{child}")
}

fn all(address: IpAddr) -> iked::ike::types::TrafficSelector {
    rules(address, address).child[0].local[0]
}

/// The hub's rules for so many peers with so many children each.
pub(crate) fn hub_rules(peers: usize, children: u16) -> Rules {
    let mut out = Rules::default();
    for peer in 0..peers {
        let mut of_peer = rules(ADDRESS_A, address(peer));
        let only = iked::ike::types::AddressRange::single(address(peer));
        of_peer.exchange[0].remote_location = vec![only];
        of_peer.exchange[0].name = format!("peer{peer}");
        out.exchange.append(&mut of_peer.exchange);
        let child = of_peer.child.pop().expect("one rule");
        for number in 0..children {
            let mut child = child.clone();
            child.rule = name(peer, number);
            child.local = initiate(peer, number).local;
            out.child.push(child);
        }
    }
    out
}

impl Star {
    pub(crate) fn new(peers: usize, children: u16, settings: &Settings) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an instant to start from; only differences matter")]
        let now = Instant::now();
        let engine = |seed, rules, settings: &Settings| {
            let mut engine = Engine::new(settings.clone(), StdRng::seed_from_u64(seed), now);
            engine.set_rules(now, rules);
            engine
        };
        Self {
            now,
            hub: engine(1, hub_rules(peers, children), settings),
            peers: (0..peers)
                .map(|peer| engine(2 + peer as u64, rules(address(peer), ADDRESS_A), &Settings::default()))
                .collect(),
            silent: BTreeSet::new(),
            translated: BTreeMap::new(),
            events: Vec::new(),
            reached: Vec::new(),
            stored: BTreeMap::new(),
            inits: 0,
            queue: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Another engine in the hub's place.
    pub(crate) fn replace_hub(&mut self, seed: u64, settings: &Settings, rules: Rules) {
        self.hub = Engine::new(settings.clone(), StdRng::seed_from_u64(seed), self.now);
        self.hub.set_rules(self.now, rules);
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.hub.handle_command(self.now, command);
        self.drain_hub();
    }

    fn send(&mut self, datagram: Datagram) {
        self.sequence += 1;
        self.queue.insert((self.now + LATENCY, self.sequence), datagram);
    }

    fn drain_hub(&mut self) {
        loop {
            while let Some(event) = self.hub.poll_event() {
                if let Event::Changed { id, ticket } = event {
                    match self.hub.export(id, 0) {
                        Some(snapshot) => self.stored.insert(id, snapshot),
                        None => self.stored.remove(&id),
                    };
                    self.hub.handle_command(self.now, Command::Stored(ticket));
                }
                self.events.push((self.now, event));
            }
            let Some(transmit) = self.hub.poll_transmit() else { return };
            let Payload::Message(bytes) = transmit.payload else { continue };
            self.inits += usize::from(bytes[18] == 34);
            let Some((peer, to)) = self.inside(transmit.remote) else { continue };
            if !self.reached.contains(&peer) {
                self.reached.push(peer);
            }
            self.send((transmit.local, to, bytes));
        }
    }

    fn drain_peer(&mut self, peer: usize) {
        while self.peers[peer].poll_event().is_some() {}
        while let Some(transmit) = self.peers[peer].poll_transmit() {
            if let Payload::Message(bytes) = transmit.payload {
                let from = match self.translated.get(&peer) {
                    Some(port) => SocketAddr::new(NAT, *port),
                    None => transmit.local,
                };
                self.send((from, transmit.remote, bytes));
            }
        }
    }

    /// Which peer a datagram of the hub reaches, and at which address.
    fn inside(&self, to: SocketAddr) -> Option<(usize, SocketAddr)> {
        if to.ip() != NAT {
            return Some((peer_of(to.ip()), to));
        }
        let (peer, _) = self.translated.iter().find(|(_, port)| **port == to.port())?;
        Some((*peer, SocketAddr::new(address(*peer), 4500)))
    }

    /// Runs until `done`, for `limit` at most. Returns how long it took.
    pub(crate) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !done(self) {
            let peers = self.peers.iter().filter_map(Engine::poll_timeout).min();
            let arrival = self.queue.keys().next().map(|(at, _)| *at);
            let next = [peers, arrival, self.hub.poll_timeout()].into_iter().flatten().min();
            let Some(at) = next.filter(|at| *at <= start + limit) else {
                self.now = start + limit;
                break;
            };
            self.now = self.now.max(at);
            self.step();
        }
        self.now - start
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= now) {
            let (source, destination, bytes) = entry.remove();
            if destination.ip() == ADDRESS_A {
                if source.ip() == NAT || !self.silent.contains(&peer_of(source.ip())) {
                    self.hub.handle_datagram(now, destination, source, &bytes);
                    self.drain_hub();
                }
            } else {
                let peer = peer_of(destination.ip());
                if !self.silent.contains(&peer) {
                    self.peers[peer].handle_datagram(now, destination, source, &bytes);
                    self.drain_peer(peer);
                }
            }
        }
        if self.hub.poll_timeout().is_some_and(|at| at <= now) {
            self.hub.handle_timeout(now);
            self.drain_hub();
        }
        for peer in 0..self.peers.len() {
            if self.peers[peer].poll_timeout().is_some_and(|at| at <= now) {
                self.peers[peer].handle_timeout(now);
                self.drain_peer(peer);
            }
        }
    }
}

fn peer_of(address: IpAddr) -> usize {
    let IpAddr::V4(address) = address else { panic!("an IPv4 address") };
    (address.to_bits() - Ipv4Addr::new(10, 0, 0, 0).to_bits() - 1) as usize
}
