//! The `Pair`: two engines, a network between them and a clock moved by hand (feature `sim`).
//!
//! ```text
//!   a ──[NAT?]── network: latency, loss, duplication, reordering ──[NAT?]── b
//! ```
//!
//! Everything is a function of the seed: the engines' randomness and the network's. Nothing sleeps; time goes from
//! deadline to deadline. Each side also keeps what a stack would have: the SA pairs that its events installed.

use super::Engine;
use super::command::Command;
use super::command::{ActivationMethod, Initiate};
use super::event::{ChildInstall, Event, Payload};
use super::rules::{
    Authentication, ChildOffer, ChildRule, ExchangeRule, IkeOffer, Initiation, Rules, Settings,
};
use super::snapshot::IkeSnapshot;
use super::types::{
    AddressRange, Encryption, Group, Identity, IdentityPattern, IkeTunnelId, Mode, Prf, Secret, StoreTicket,
    TrafficSelector,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The first engine.
    A,
    /// The second.
    B,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What the network does to datagrams. Rates are in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Time from end to end.
    pub latency: Duration,
    /// Datagrams lost.
    pub loss: u32,
    /// Datagrams that arrive twice.
    pub duplicate: u32,
    /// Datagrams that are held back for up to `hold`, so that later ones overtake them.
    pub reorder: u32,
    /// Longest time held back.
    pub hold: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(10),
            loss: 0,
            duplicate: 0,
            reorder: 0,
            hold: Duration::from_millis(500),
        }
    }
}

/// A NAT in front of one side: it gives each inside port an outside one and lets in what has a mapping.
#[derive(Debug)]
pub struct Nat {
    /// Outside address.
    pub outside: IpAddr,
    next_port: u16,
    ports: BTreeMap<SocketAddr, u16>,
}

impl Nat {
    /// A NAT with this outside address.
    #[must_use]
    pub const fn new(outside: IpAddr) -> Self {
        Self { outside, next_port: 40_000, ports: BTreeMap::new() }
    }

    /// Forgets all mappings: the next datagram out gets another port.
    pub fn restart(&mut self) {
        self.ports.clear();
    }

    /// A fixed mapping, as for a server behind a NAT.
    pub fn forward(&mut self, outside_port: u16, inside: SocketAddr) {
        self.ports.insert(inside, outside_port);
    }

    fn out(&mut self, inside: SocketAddr) -> SocketAddr {
        let next = &mut self.next_port;
        let port = *self.ports.entry(inside).or_insert_with(|| {
            *next += 1;
            *next
        });
        SocketAddr::new(self.outside, port)
    }

    fn back(&self, outside: SocketAddr) -> Option<SocketAddr> {
        let mapping = |(inside, port): (&SocketAddr, &u16)| (*port == outside.port()).then_some(*inside);
        self.ports.iter().find_map(mapping)
    }
}

/// An engine, and what its shell would hold.
pub struct Host {
    /// The engine.
    pub engine: Engine,
    /// Own address.
    pub address: IpAddr,
    /// NAT in front.
    pub nat: Option<Nat>,
    /// SA pairs installed and not removed, by inbound SPI.
    pub installed: BTreeMap<u32, ChildInstall>,
    /// Inbound SPIs of the pairs on which this side may send, the one that it would use last.
    pub sending: Vec<u32>,
    /// All events, in order.
    pub events: Vec<Event>,
    /// Keepalives sent.
    pub keepalives: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// No datagram reaches or leaves this side.
    pub cut: bool,
    /// What the coupling facility holds of this side's IKE tunnels.
    pub stored: BTreeMap<IkeTunnelId, IkeSnapshot>,
}

/// A datagram under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub from: Side,
    /// Source as the receiver sees it.
    pub source: SocketAddr,
    /// Destination as the sender gave it.
    pub destination: SocketAddr,
    /// IKE message.
    pub bytes: Vec<u8>,
}

/// Two engines and what lies between.
pub struct Pair {
    /// The clock.
    pub now: Instant,
    /// The first engine.
    pub a: Host,
    /// The second.
    pub b: Host,
    /// The network.
    pub network: Network,
    /// Every datagram handed to the network, lost or not.
    pub wire: Vec<Datagram>,
    /// How long the coupling facility takes to store something.
    pub store_delay: Duration,
    stores: BTreeMap<(Instant, u64), (Side, StoreTicket, Option<IkeSnapshot>)>,
    queue: BTreeMap<(Instant, u64), Datagram>,
    sequence: u64,
    rng: StdRng,
    start: Instant,
}

/// Address of [`Pair::a`].
pub const ADDRESS_A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
/// Address of [`Pair::b`].
pub const ADDRESS_B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

/// Seconds of the wall clock when a simulation begins.
const START_UNIX: u64 = 1_700_000_000;

/// A policy between two addresses: pre-shared key, AES-GCM, Curve25519, everything between the two in tunnel mode.
#[must_use]
pub fn rules(own: IpAddr, peer: IpAddr) -> Rules {
    let hour = Duration::from_secs(3600);
    let encryption = Encryption::AesGcm16(128);
    let suite = IkeOffer {
        encryption,
        integrity: None,
        prf: Prf::HmacSha256,
        group: Group::Curve25519,
        lifetime: hour * 8,
    };
    let any = AddressRange { low: IpAddr::from([0; 4]), high: IpAddr::from([255; 4]) };
    Rules {
        exchange: vec![ExchangeRule {
            name: "kxPeer".to_owned(),
            action: "kxAction".to_owned(),
            local_id: Identity::Address(own),
            local_location: vec![AddressRange::single(own)],
            remote_id: IdentityPattern::Exact(Identity::Address(peer)),
            remote_location: vec![any],
            initiate: true,
            respond: true,
            authentication: Authentication::SharedKey(Secret(b"a secret of the two".to_vec())),
            offers: vec![suite],
            allow_nat: true,
            filter_by_identity: false,
            reauth_interval: None,
        }],
        child: vec![ChildRule {
            rule: "hostToHost".to_owned(),
            vpn_action: "vpnAction".to_owned(),
            local: vec![TrafficSelector::all_of(AddressRange::single(own))],
            remote: vec![TrafficSelector::all_of(AddressRange::single(peer))],
            remote_identity: None,
            initiation: Initiation::Either,
            modes: vec![Mode::Tunnel],
            pfs_initiate: Some(Group::Curve25519),
            pfs_accept: vec![Some(Group::Curve25519), None],
            offers: vec![ChildOffer {
                encryption,
                integrity: None,
                esn: true,
                lifetime: hour,
                lifesize_bytes: None,
            }],
            vpn_life: None,
            local_endpoint: None,
            remote_endpoint: None,
        }],
    }
}

/// The command that negotiates all of the first child rule of [`rules`].
#[must_use]
pub fn initiate(own: IpAddr, peer: IpAddr) -> Command {
    Command::Initiate(Box::new(Initiate {
        rule: "hostToHost".to_owned(),
        local_endpoint: own,
        remote_endpoint: peer,
        remote_id: None,
        nat_port: None,
        local: vec![TrafficSelector::all_of(AddressRange::single(own))],
        remote: vec![TrafficSelector::all_of(AddressRange::single(peer))],
        local_dyn_vpn_rule: None,
        method: ActivationMethod::Command,
        acquire: None,
        initial_contact: true,
    }))
}

impl Pair {
    /// Two engines of the policy [`rules`] with the default settings.
    #[must_use]
    pub fn with_defaults(seed: u64) -> Self {
        Self::new(seed, &Settings::default(), rules(ADDRESS_A, ADDRESS_B), rules(ADDRESS_B, ADDRESS_A))
    }

    /// One side asks for the child of [`rules`], and all exchanges that follow are run.
    pub fn connect(&mut self, side: Side) {
        self.ask(side);
        self.settle();
    }

    /// One side asks for the child of [`rules`].
    pub fn ask(&mut self, side: Side) {
        let (own, peer) = match side {
            Side::A => (ADDRESS_A, self.b.outside()),
            Side::B => (ADDRESS_B, self.a.outside()),
        };
        let mut command = initiate(own, self.host(side.other()).address);
        if let Command::Initiate(initiate) = &mut command {
            initiate.remote_endpoint = peer;
        }
        self.command(side, command);
    }

    /// Two engines with their rules; everything random follows from `seed`.
    #[must_use]
    pub fn new(seed: u64, settings: &Settings, a: Rules, b: Rules) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an instant to start from; only differences matter")]
        let now = Instant::now();
        let host = |salt: u64, address, rules| {
            let rng = StdRng::seed_from_u64(seed.wrapping_mul(4) + salt);
            let mut engine = Engine::new(settings.clone(), rng, now);
            engine.set_clock(now, START_UNIX);
            engine.set_rules(now, rules);
            Host {
                engine,
                address,
                nat: None,
                installed: BTreeMap::new(),
                sending: Vec::new(),
                events: Vec::new(),
                keepalives: 0,
                sent: 0,
                cut: false,
                stored: BTreeMap::new(),
            }
        };
        Self {
            now,
            a: host(1, ADDRESS_A, a),
            b: host(2, ADDRESS_B, b),
            network: Network::default(),
            wire: Vec::new(),
            store_delay: Duration::ZERO,
            stores: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            rng: StdRng::seed_from_u64(seed.wrapping_mul(4) + 3),
            start: now,
        }
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// One of the hosts.
    #[must_use]
    pub const fn host(&self, side: Side) -> &Host {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// One of the hosts.
    pub const fn host_mut(&mut self, side: Side) -> &mut Host {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    /// Gives a command to one side and drains it.
    pub fn command(&mut self, side: Side, command: Command) {
        let now = self.now;
        self.host_mut(side).engine.handle_command(now, command);
        self.drain(side);
    }

    /// Hands octets to one side as if they had come from `source`.
    pub fn inject(&mut self, to: Side, source: SocketAddr, local_port: u16, bytes: &[u8]) {
        let now = self.now;
        let host = self.host_mut(to);
        let local = SocketAddr::new(host.address, local_port);
        host.engine.handle_datagram(now, local, source, bytes);
        self.drain(to);
    }

    /// Takes everything that one side has to say.
    pub fn drain(&mut self, side: Side) {
        while let Some(transmit) = self.host_mut(side).engine.poll_transmit() {
            let host = self.host_mut(side);
            assert_eq!(transmit.local.ip(), host.address, "sent from an address of another host");
            let source = host.nat.as_mut().map_or(transmit.local, |nat| nat.out(transmit.local));
            match transmit.payload {
                Payload::NatKeepalive => host.keepalives += 1,
                Payload::Message(bytes) => {
                    host.sent += 1;
                    let datagram = Datagram { from: side, source, destination: transmit.remote, bytes };
                    self.wire.push(datagram.clone());
                    self.carry(datagram);
                }
            }
        }
        while let Some(event) = self.host_mut(side).engine.poll_event() {
            self.host_mut(side).act(&event);
            if let Event::Changed { id, ticket } = event {
                let snapshot = self.host(side).engine.export(id, self.unix());
                self.sequence += 1;
                self.stores.insert((self.now + self.store_delay, self.sequence), (side, ticket, snapshot));
            }
            self.host_mut(side).events.push(event);
        }
        if self.store_delay.is_zero() {
            self.store();
        }
    }

    /// The coupling facility has stored what was written long enough ago.
    fn store(&mut self) {
        let now = self.now;
        while let Some(entry) = self.stores.first_entry().filter(|entry| entry.key().0 <= now) {
            let (side, ticket, snapshot) = entry.remove();
            let host = self.host_mut(side);
            match snapshot {
                Some(snapshot) => {
                    // As it is in the coupling facility: octets.
                    let octets = snapshot.encode();
                    let read = IkeSnapshot::decode(&octets).expect("what was written can be read");
                    host.stored.insert(ticket.tunnel(), read);
                }
                None => {
                    host.stored.remove(&ticket.tunnel());
                }
            }
            self.command(side, Command::Stored(ticket));
        }
    }

    /// Seconds of the wall clock.
    #[must_use]
    pub fn unix(&self) -> u64 {
        START_UNIX + self.elapsed().as_secs()
    }

    /// One side fails; an engine with `settings` and `rules` that knows nothing but what is stored takes its place.
    pub fn take_over(&mut self, side: Side, seed: u64, settings: &Settings, rules: Rules) {
        let now = self.now;
        self.stores.retain(|_, (of, _, _)| *of != side);
        let mut engine = Engine::new(settings.clone(), StdRng::seed_from_u64(seed), now);
        engine.set_clock(now, self.unix());
        engine.set_rules(now, rules);
        let host = self.host_mut(side);
        host.engine = engine;
        host.installed.clear();
        host.sending.clear();
    }

    fn carry(&mut self, datagram: Datagram) {
        let network = self.network;
        if self.chance(network.loss) {
            return;
        }
        let copies = if self.chance(network.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let mut at = self.now + network.latency;
            if self.chance(network.reorder) {
                at += network.hold / 1000 * (self.rng.next_u32() % 1001);
            }
            self.sequence += 1;
            self.queue.insert((at, self.sequence), datagram.clone());
        }
    }

    fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.rng.next_u32() % 1000 < permille
    }

    /// When something happens next.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let arrival = self.queue.keys().next().map(|(at, _)| *at);
        let stored = self.stores.keys().next().map(|(at, _)| *at);
        let engines = [self.a.engine.poll_timeout(), self.b.engine.poll_timeout()];
        engines.into_iter().chain([arrival, stored]).flatten().min()
    }

    /// Goes to the next arrival or deadline, not past `limit`. False if there is none until then.
    pub fn step(&mut self, limit: Instant) -> bool {
        let Some(at) = self.next().filter(|at| *at <= limit) else {
            self.now = self.now.max(limit);
            return false;
        };
        self.now = self.now.max(at);
        let now = self.now;
        self.store();
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= now) {
            let datagram = entry.remove();
            self.deliver(&datagram);
        }
        for side in [Side::A, Side::B] {
            if self.host(side).engine.poll_timeout().is_some_and(|at| at <= now) {
                self.host_mut(side).engine.handle_timeout(now);
                self.drain(side);
                let next = self.host(side).engine.poll_timeout();
                assert!(next.is_none_or(|next| next > now), "a deadline that its handling does not move");
            }
        }
        true
    }

    fn deliver(&mut self, datagram: &Datagram) {
        let to = datagram.from.other();
        if self.host(to).cut || self.host(datagram.from).cut {
            return;
        }
        let host = self.host(to);
        let local = match &host.nat {
            None if datagram.destination.ip() == host.address => Some(datagram.destination),
            Some(nat) if datagram.destination.ip() == nat.outside => nat.back(datagram.destination),
            _ => None,
        };
        if let Some(local) = local {
            let now = self.now;
            let engine = &mut self.host_mut(to).engine;
            engine.handle_datagram(now, local, datagram.source, &datagram.bytes);
            self.drain(to);
        }
    }

    /// Runs for `time`.
    pub fn run(&mut self, time: Duration) {
        let limit = self.now + time;
        while self.step(limit) {}
    }

    /// Runs until no datagram is under way and nothing is due within a second: an exchange is over.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let limit = self.now + Duration::from_secs(1);
            if self.queue.is_empty() && self.stores.is_empty() && self.next().is_none_or(|at| at > limit) {
                return;
            }
            self.step(limit);
        }
        panic!("the pair does not settle");
    }

    /// Lets what both ends lost be found by liveness, and asks that they agree, then and after another start.
    ///
    /// # Panics
    /// When they do not.
    pub fn assert_recovers(&mut self) {
        self.run(Duration::from_secs(3000));
        self.settle();
        self.assert_matching();
        self.connect(Side::A);
        self.assert_matching();
    }

    /// Asserts that each SA pair of one side stands at the other one with the same keys the other way round, that both
    /// engines show what is installed, and that the newest of each side is sent on.
    ///
    /// # Panics
    /// If it is not so.
    pub fn assert_matching(&self) {
        for (one, other) in [(&self.a, &self.b), (&self.b, &self.a)] {
            for install in one.installed.values() {
                let twin = other.installed.get(&install.spi_out);
                let twin =
                    twin.unwrap_or_else(|| panic!("SPI {:08x} stands on one side only", install.spi_out));
                assert_eq!(twin.spi_out, install.spi_in);
                assert!(twin.key_in == install.key_out && twin.key_out == install.key_in, "keys differ");
                assert_eq!(
                    (twin.encryption, twin.integrity, twin.esn),
                    (install.encryption, install.integrity, install.esn)
                );
                assert_eq!((twin.mode, twin.udp), (install.mode, install.udp));
                assert_eq!(twin.local_selectors, install.remote_selectors);
                assert_eq!(twin.remote_selectors, install.local_selectors);
                assert_ne!(install.key_in, install.key_out);
            }
            let shown: BTreeSet<u32> =
                one.engine.children().iter().map(|c| c.spi_in).filter(|spi| *spi != 0).collect();
            let installed: BTreeSet<u32> = one.installed.keys().copied().collect();
            assert_eq!(shown, installed, "the engine shows other SAs than are installed");
        }
    }
}

impl Host {
    /// Its address as the other side sees it.
    #[must_use]
    pub fn outside(&self) -> IpAddr {
        self.nat.as_ref().map_or(self.address, |nat| nat.outside)
    }

    fn act(&mut self, event: &Event) {
        match event {
            Event::InstallChild(install) => {
                if install.outbound_active {
                    self.sending.push(install.spi_in);
                }
                let before = self.installed.insert(install.spi_in, (**install).clone());
                assert!(before.is_none(), "inbound SPI {:08x} installed twice", install.spi_in);
            }
            Event::ActivateOutbound { spi_in } => {
                assert!(self.installed.contains_key(spi_in), "activated an SA that is not installed");
                self.sending.push(*spi_in);
            }
            Event::RemoveChild { spi_in } => {
                assert!(self.installed.remove(spi_in).is_some(), "removed an SA that is not installed");
                self.sending.retain(|spi| spi != spi_in);
            }
            Event::IkeUp(_)
            | Event::Changed { .. }
            | Event::Restored { .. }
            | Event::RestoreRefused { .. }
            | Event::Renegotiated { .. }
            | Event::IkeDown { .. }
            | Event::ChildUp(_)
            | Event::ChildDown { .. }
            | Event::Failed { .. }
            | Event::Notice { .. } => {}
        }
    }

    /// Reasons of [`Event::Failed`], oldest first.
    #[must_use]
    pub fn failures(&self) -> Vec<&str> {
        let mut reasons = Vec::new();
        for event in &self.events {
            if let Event::Failed { reason, .. } = event {
                reasons.push(reason.text.as_str());
            }
        }
        reasons
    }
}
