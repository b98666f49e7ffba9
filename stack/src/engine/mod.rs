//! The packet engine: pure, driven in batches.
//!
//! The driver calls one `handle_…` for each piece that it read, always with the same [`Output`], then
//! [`Engine::flush`], then carries out and clears the [`Output`]; never clears it without the flush before, because
//! packets that are being joined still grow in it. Time only enters as an argument.
//!
//! ```text
//!            network.rs                         placed here ───────────────► host (TUN)
//! network ──► open, selectors ─► inbound.rs ─► filter, connection ─┬─ to a target ─► gre.rs ─► xcf
//! host ─────► outbound.rs ─► filter ─┬─ clear ─► host              └─ routed ─┐
//!   (cleartext of the network: inbound.rs) ├─ SA ─► seal ─► network ◄─────────┘
//! xcf ──────► gre.rs: arrival check ─┴─ at the distributor: outbound.rs · at a target: host
//! ```

pub mod acquire;
pub mod ah;
pub mod ceiling;
pub mod coalesce;
pub mod connection;
pub mod defense;
pub mod distribute;
pub mod esp;
pub mod filter;
mod gre;
mod group;
mod hold;
pub mod icmp;
mod inbound;
pub mod io;
mod lease;
pub mod log;
pub mod natt;
mod network;
mod outbound;
mod packet_test;
pub mod pmtu;
pub mod reassemble;
mod rebuild;
mod refuse;
pub mod replay;
mod roles;
pub mod sad;
pub mod segment;
pub mod spd;
mod strays;
pub mod survey;
pub mod udp_encap;
pub mod verdict;
mod view;

pub use packet_test::Candidates;
pub use roles::Owned;
pub use sad::InstallError;

use crate::control::{
    FilterRule, FilterSet, FromStack, Mode, PortTranslation, SaNotice, SaPair, StackConfig,
};
use crate::counters::Counters;
use crate::wire::packet::{self, Parsed};
use acquire::AcquireTable;
use coalesce::Coalescer;
use connection::{ConnectionKey, Connections, Signs};
use defense::Defense;
use distribute::Distributor;
use filter::{Subject, Table, Upper};
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use hold::Hold;
use io::{Output, ToGroup};
use lease::{Ceilings, Lease};
use log::{LogLimit, Topic};
use natt::NatPorts;
use pmtu::PathMtu;
use reassemble::Reassembler;
use rebuild::Rebuilds;
use roles::{HeardOwner, HomeRole};
use sad::{Sa, Sad};
use spd::{Denied, Spd};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use strays::TakenOver;
use verdict::DropReason;

/// Connections before a configuration says how many.
const DEFAULT_CONNECTIONS: usize = 65_536;

/// What the driver knows about its links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Links {
    /// MTU of the interface to the network, octets.
    pub network_mtu: u16,
    /// MTU of the XCF link, octets; up to 65,535.
    pub xcf_mtu: u32,
}

/// Where joined packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Host,
    Xcf { remote: IpAddr, clear: bool, fragmentable: bool },
}

/// One stack's packet engine.
#[derive(Debug)]
pub struct Engine {
    config: Option<StackConfig>,
    links: Links,
    homes: HashMap<IpAddr, HomeRole, FixedState>,
    members: HashSet<IpAddr, FixedState>,
    own_xcf: Option<IpAddr>,
    /// GRE to other stacks has a UDP header before it (RFC 8086).
    gre_in_udp: bool,
    /// Epochs of the owners of the home addresses.
    epochs: HashMap<IpAddr, u64>,
    /// Owners that other stacks told of, at epochs above that of the configuration.
    heard: HashMap<IpAddr, HeardOwner>,
    spd: Spd,
    defense: Defense,
    sad: Sad,
    /// Inbound SPIs by outbound one, which peers choose and which need not differ: for ICMP about ESP.
    spi_out: HashMap<u32, Vec<u32>, FixedState>,
    connections: Connections,
    distributor: Distributor,
    acquires: AcquireTable,
    /// Flows of clients behind NATs.
    nat: NatPorts,
    /// When their translations are to be told.
    nat_news_due: Option<Instant>,
    path_mtu: PathMtu,
    /// Fragments in clear; apart from the others, so that a flood of them takes nothing from tunnels.
    clear_fragments: Reassembler,
    fragments: Reassembler,
    joined: Coalescer<To>,
    lease: Lease,
    ceilings: Ceilings,
    rebuilds: Rebuilds,
    /// Packets of unknown flows, while tables are rebuilt.
    unplaced: Hold,
    /// Packets of applications, while their DVIPA has no owner.
    undirected: Hold,
    /// What came before this stack was owner, or before an SA.
    early: Hold,
    /// DVIPAs taken over in the last second.
    taken_over: HashMap<IpAddr, TakenOver>,
    /// What is held may have somewhere to go.
    unplaced_news: bool,
    /// Members that are silent, and when their connections are given up.
    silent: Vec<(Instant, IpAddr)>,
    idle_told: HashSet<IpAddr>,
    events: Vec<FromStack>,
    group: Vec<ToGroup>,
    /// When the driver is to come for what was produced outside of a batch.
    due: Option<Instant>,
    /// Where packets of transport mode get their IP header back; reused.
    restored: Vec<u8>,
    errors: icmp::ErrorLimit,
    drops: Counters<DropReason>,
    log: LogLimit,
}

impl Engine {
    /// An engine without configuration: drops everything. `seed` keys its hash tables.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            config: None,
            links: Links { network_mtu: 1500, xcf_mtu: 1500 },
            homes: HashMap::with_hasher(FixedState::with_seed(seed ^ 1)),
            members: HashSet::with_hasher(FixedState::with_seed(seed ^ 10)),
            own_xcf: None,
            gre_in_udp: false,
            epochs: HashMap::new(),
            heard: HashMap::new(),
            spd: Spd::new(seed ^ 2),
            defense: Defense::default(),
            sad: Sad::new(seed ^ 3),
            spi_out: HashMap::with_hasher(FixedState::with_seed(seed ^ 11)),
            connections: Connections::new(seed ^ 4, DEFAULT_CONNECTIONS),
            distributor: Distributor::default(),
            acquires: AcquireTable::new(seed ^ 5),
            nat: NatPorts::new(seed ^ 12),
            nat_news_due: None,
            path_mtu: PathMtu::new(seed ^ 6),
            clear_fragments: Reassembler::new(reassemble::Limits::default(), seed ^ 8),
            fragments: Reassembler::new(reassemble::Limits::default(), seed ^ 9),
            joined: Coalescer::default(),
            lease: Lease::default(),
            ceilings: Ceilings::default(),
            rebuilds: Rebuilds::default(),
            unplaced: Hold::default(),
            undirected: Hold::default(),
            early: Hold::default(),
            taken_over: HashMap::new(),
            unplaced_news: false,
            silent: Vec::new(),
            idle_told: HashSet::new(),
            events: Vec::new(),
            group: Vec::new(),
            due: None,
            restored: Vec::new(),
            errors: icmp::ErrorLimit::default(),
            drops: Counters::default(),
            log: LogLimit::new(seed ^ 7),
        }
    }

    /// Replaces the filter table; SAs and their dynamic filters stay. `unix_secs` is shown as creation time.
    pub fn set_filters(&mut self, _now: Instant, unix_secs: u64, set: FilterSet) {
        self.spd.set_filters(unix_secs, set);
    }

    /// As [`Engine::set_filters`], with a table that was compiled elsewhere. Gives the one before.
    pub fn exchange_filters(&mut self, unix_secs: u64, table: Arc<Table>) -> Arc<Table> {
        self.spd.exchange(unix_secs, table)
    }

    /// Installs an SA pair and its dynamic filter. What waited for it goes out with the next [`Engine::handle_timeout`]
    /// or [`Engine::flush`]; [`Engine::poll_timeout`] says so.
    ///
    /// # Errors
    /// When the pair cannot be used; nothing is changed then.
    pub fn install_sa(&mut self, now: Instant, unix_secs: u64, pair: SaPair) -> Result<(), InstallError> {
        let public = SaPair {
            key_in: crate::control::KeyBytes(Vec::new()),
            key_out: crate::control::KeyBytes(Vec::new()),
            rule: pair.rule.clone(),
            local_selectors: pair.local_selectors.clone(),
            remote_selectors: pair.remote_selectors.clone(),
            continued: pair.continued.clone(),
            ..pair
        };
        let handle = self.sad.install(pair)?;
        let mtu = self.path_mtu.of(now, public.remote);
        // Its numbers are bounded by what all SAs of the DVIPA may use.
        let ceiling = public.ceiling_of.map(|dvipa| self.ceilings.of(dvipa));
        if let Some(sa) = self.sad.get_mut(handle) {
            sa.set_path_mtu(mtu);
            if let Some(ceiling) = ceiling {
                sa.share_ceiling(ceiling);
            }
        }
        self.spi_out.entry(public.spi_out).or_default().push(public.spi_in);
        if let (Some((_, port)), Mode::Transport) = (public.udp, public.mode) {
            self.nat.tunnel_came(public.tunnel, SocketAddr::new(public.remote, port));
        }
        let set = self.spd.add_pair(unix_secs, &public);
        self.acquires.sa_came(now, set, |source, destination| {
            public.local_selectors.iter().any(|s| s.addresses.contains(source))
                && public.remote_selectors.iter().any(|s| s.addresses.contains(destination))
        });
        self.waiting_news(now);
        Ok(())
    }

    /// Makes the outbound half of a pair the one in use.
    pub fn activate_outbound(&mut self, spi_in: u32) {
        if let Some(sa) = self.sad.lookup(spi_in).and_then(|h| self.sad.get_mut(h)) {
            sa.activate_outbound();
        }
        self.spd.activate(spi_in);
    }

    /// Removes a pair and, with the last one of its tunnel, the dynamic filter.
    pub fn remove_sa(&mut self, spi_in: u32) {
        if let Some(sa) = self.sad.lookup(spi_in).and_then(|h| self.sad.get(h)) {
            let spi_out = sa.pair().spi_out;
            if let Some(pairs) = self.spi_out.get_mut(&spi_out) {
                pairs.retain(|i| *i != spi_in);
                if pairs.is_empty() {
                    self.spi_out.remove(&spi_out);
                }
            }
        }
        self.sad.remove(spi_in);
        if let Some(tunnel) = self.spd.remove_pair(spi_in) {
            self.nat.forget(tunnel);
        }
    }

    /// Flows of clients behind NATs that an earlier owner translated.
    pub fn expect_translations(&mut self, now: Instant, flows: &[PortTranslation]) {
        self.nat.expect(now, flows);
        let ends: Vec<_> = self
            .sad
            .iter()
            .map(Sa::pair)
            .filter(|p| p.mode == Mode::Transport)
            .filter_map(|p| Some((p.tunnel, SocketAddr::new(p.remote, p.udp?.1))))
            .collect();
        for (tunnel, endpoint) in ends {
            self.nat.tunnel_came(tunnel, endpoint);
        }
    }

    /// Removes every pair: what was protected is now denied.
    pub fn remove_all_sas(&mut self) {
        self.sad.clear();
        self.spi_out.clear();
        self.nat.clear();
        self.spd.remove_all_pairs();
    }

    /// The negotiation of `id` failed: what waited for it is dropped and counted.
    pub fn acquire_failed(&mut self, id: u64, _out: &mut Output) {
        let dropped = self.acquires.failed(id);
        self.drops.add(DropReason::AcquireFailed, dropped);
    }

    /// The driver learnt (EMSGSIZE) that packets to `remote` must not be longer than `mtu`.
    pub fn path_mtu(&mut self, now: Instant, remote: IpAddr, mtu: u16) {
        if self.path_mtu.lower(now, remote, mtu) {
            self.spread_path_mtu(now, remote);
        }
    }

    fn spread_path_mtu(&mut self, now: Instant, remote: IpAddr) {
        let mtu = self.path_mtu.of(now, remote);
        for sa in self.sad.iter_mut().filter(|sa| sa.pair().remote == remote) {
            sa.set_path_mtu(mtu);
        }
    }

    /// End of a batch: what was collected to be sent as one goes out.
    pub fn flush(&mut self, now: Instant, out: &mut Output) {
        self.release_held(now, out);
        self.release_waiting(now, out);
        self.joined.flush(out, gre::emit);
        for (tunnel, flows) in self.nat.take_news(now) {
            self.events.push(FromStack::Translations { tunnel, flows });
        }
        self.nat_news_due = self.nat.news_due(now);
        self.deliver_news(out);
    }

    /// To be called when [`Engine::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
        self.connections.expire(now);
        self.note_ended();
        self.give_up_silent(now);
        self.work_on_rebuilds(now);
        self.note_idle(now);
        self.expire_waiting(now);
        let waited = self.acquires.expire(now);
        self.drops.add(DropReason::AcquireTimeout, waited);
        while let Some(remote) = self.path_mtu.expire(now) {
            self.spread_path_mtu(now, remote);
        }
        self.defense.expire(now);
        self.clear_fragments.expire(now);
        self.fragments.expire(now);
        self.count_given_up();
        self.flush(now, out);
    }

    /// When [`Engine::handle_timeout`] wants to be called; `None`: nothing waits.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.connections.next_expiry(),
            self.acquires.next_timeout(),
            self.path_mtu.next_expiry(),
            self.defense.next_expiry(),
            self.clear_fragments.poll_timeout(),
            self.fragments.poll_timeout(),
            self.rebuilds.next_timeout(),
            self.unplaced.next_timeout(),
            self.undirected.next_timeout(),
            self.early.next_timeout(),
            self.silent.iter().map(|(t, _)| *t).min(),
            self.due,
            self.nat_news_due,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Inbound SPIs of the installed pairs, for `Hello`.
    #[must_use]
    pub fn installed_spis(&self) -> Vec<u32> {
        self.sad.spis()
    }

    /// Epoch of the filter table in force, 0 if none, for `Hello`.
    #[must_use]
    pub fn filter_epoch(&self) -> u64 {
        self.spd.epoch()
    }

    /// Whether a configuration is in force, for `Hello`.
    #[must_use]
    pub fn configured(&self) -> bool {
        self.config.is_some()
    }

    // ---- shared by the ways ----

    fn role(&self, a: IpAddr) -> Option<HomeRole> {
        self.homes.get(&a).copied()
    }

    /// Whether an address belongs to the XCF: nothing that comes from elsewhere may name it.
    fn is_xcf(&self, a: IpAddr) -> bool {
        self.own_xcf.is_some_and(|own| own == a || self.members.contains(&a))
    }

    /// An SA of which the peer has begun to use the pair is what we send with (RFC 7296 section 2.8).
    fn note_first_inbound(&mut self, from: usize, out: &Output) {
        for (spi_in, notice) in &out.sa_notices[from..] {
            if *notice == SaNotice::FirstInbound {
                self.spd.activate(*spi_in);
            }
        }
    }

    /// Counts a packet that goes nowhere, and says so within limits. `about` is only asked when a line is written.
    fn drop_packet(
        &mut self,
        now: Instant,
        reason: DropReason,
        source: Option<IpAddr>,
        out: &mut Output,
        about: impl FnOnce() -> String,
    ) {
        self.drops.count(reason);
        if reason.is_quiet() {
            return;
        }
        if let Some(suppressed) = self.log.admit(now, Topic::Drop(reason, source)) {
            out.logs.push((true, with_suppressed(format!("dropped {reason}: {}", about()), suppressed)));
        }
    }

    /// Counts and logs what a filter refused.
    fn drop_denied(&mut self, now: Instant, d: Denied, s: &Subject, out: &mut Output) {
        self.drops.count(d.reason);
        let mismatch = !matches!(d.reason, DropReason::FilterDeny | DropReason::ImplicitDeny);
        if !d.log && !mismatch {
            return;
        }
        let Some(suppressed) = self.log.admit(now, Topic::Drop(d.reason, Some(s.source))) else { return };
        let (name, extension) = match d.rule.and_then(|r| self.spd.rule(r)) {
            Some(rule) => (rule.name.as_str(), rule.extension),
            None => (spd::IMPLICIT_RULE, 0),
        };
        out.logs.push((
            true,
            with_suppressed(
                format!("dropped {}: rule {name}.{extension}, {}", d.reason, Line(s)),
                suppressed,
            ),
        ));
    }

    fn log_permit(&mut self, now: Instant, rule: usize, s: &Subject, out: &mut Output) {
        let Some(suppressed) = self.log.admit(now, Topic::Permit(rule)) else { return };
        let Some(FilterRule { name, extension, .. }) = self.spd.rule(rule) else { return };
        let line = format!("permitted: rule {name}.{extension}, {}", Line(s));
        out.logs.push((false, with_suppressed(line, suppressed)));
    }
}

fn with_suppressed(mut line: String, suppressed: u64) -> String {
    if suppressed > 0 {
        let _ = write!(line, " ({suppressed} more suppressed)");
    }
    line
}

/// A packet in a log line: `in 10.0.0.1:40000 -> 192.0.2.1:443 protocol 6`.
struct Line<'a>(&'a Subject);

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = self.0;
        f.write_str(match (s.direction, s.routed) {
            (crate::control::Direction::Inbound, false) => "in ",
            (crate::control::Direction::Outbound, false) => "out ",
            (crate::control::Direction::Inbound, true) => "in routed ",
            (crate::control::Direction::Outbound, true) => "out routed ",
        })?;
        match s.upper {
            Upper::Ports { source, destination, .. } => {
                write!(f, "{}.{source} -> {}.{destination} protocol {}", s.source, s.destination, s.protocol)
            }
            Upper::Type { kind, code } => {
                write!(f, "{} -> {} protocol {} type {kind} code {code}", s.source, s.destination, s.protocol)
            }
            Upper::None | Upper::Opaque => {
                write!(f, "{} -> {} protocol {}", s.source, s.destination, s.protocol)
            }
        }
    }
}

/// What the filters want to know of a parsed packet.
fn subject(p: &Parsed, direction: crate::control::Direction, routed: bool) -> Subject {
    let upper = match p.upper {
        packet::Upper::Tcp { source, destination, flags, .. } => {
            Upper::Ports { source, destination, opens: flags.opens() }
        }
        packet::Upper::Ports { source, destination } => Upper::Ports { source, destination, opens: false },
        packet::Upper::Typed { kind, code } => Upper::Type { kind, code },
        packet::Upper::Opaque if p.fragment.is_some_and(|f| f.offset != 0) => Upper::Opaque,
        packet::Upper::Opaque => Upper::None,
        packet::Upper::Cut => Upper::Opaque,
    };
    Subject {
        direction,
        routed,
        security_class: 0,
        source: p.source,
        destination: p.destination,
        protocol: p.protocol,
        upper,
        fragment: p.fragment.is_some(),
    }
}

/// The flow of a packet that goes to a DVIPA; `None` for protocols without ports.
fn key_inbound(p: &Parsed) -> Option<ConnectionKey> {
    let (remote_port, local_port) = flow_ports(p)?;
    Some(ConnectionKey {
        protocol: p.protocol,
        local: p.destination,
        local_port,
        remote: p.source,
        remote_port,
    })
}

/// The flow of a packet that comes from a DVIPA.
fn key_outbound(p: &Parsed) -> Option<ConnectionKey> {
    let (local_port, remote_port) = flow_ports(p)?;
    Some(ConnectionKey {
        protocol: p.protocol,
        local: p.source,
        local_port,
        remote: p.destination,
        remote_port,
    })
}

fn flow_ports(p: &Parsed) -> Option<(u16, u16)> {
    match p.upper {
        packet::Upper::Tcp { source, destination, .. } | packet::Upper::Ports { source, destination } => {
            Some((source, destination))
        }
        packet::Upper::Typed { .. } | packet::Upper::Opaque | packet::Upper::Cut => None,
    }
}

fn signs(p: &Parsed) -> Signs {
    use crate::wire::tcp::TcpFlags;
    p.tcp_flags().map_or_else(Signs::default, |f| Signs {
        tcp: true,
        syn: f.has(TcpFlags::SYN),
        ack: f.has(TcpFlags::ACK),
        fin: f.has(TcpFlags::FIN),
        rst: f.has(TcpFlags::RST),
    })
}
