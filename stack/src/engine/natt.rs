//! Several clients behind one public address in transport mode (RFC 3948 section 5.2): to this host they are one host.
//!
//! Each flow that comes in by such a tunnel has a *resolution*: it says by which tunnel the answers go, where the address
//! alone would name any of them. Where two clients use the same port towards the same service, the port of the later
//! one is translated, so that this stack sees two flows: an unused one from the top of the range is put in on arrival, and
//! the original one before answers are sealed. Applications, targets and filters see the translated port.
//!
//! Bounded: resolutions in all and of one tunnel; idle ones go.
//!
//! ```text
//!  owner: a port is translated ─► Translations to iked ─► the tunnel's record ─► iked of the next owner ─► expect()
//! ```
//! So a takeover finds which client had which port: known by where its NAT sends from, it gets that port again, and until its
//! tunnel is there, nothing for it goes by another one. What was not translated is in the table of connections, and its port
//! is given to nobody else.

use super::verdict::DropReason;
use crate::control::{PortTranslation, PortTranslationView};
use crate::wire::packet::{Parsed, Upper};
use crate::wire::tcp::{self, TcpFlags};
use crate::wire::{checksum, protocol, udp};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Resolutions at a time.
const MAX_FLOWS: usize = 65_536;
/// Of them of one tunnel.
const MAX_OF_TUNNEL: usize = 4_096;
/// Ports below are never translated: services live there.
const LOWEST: u16 = 1_024;
/// Ports that are tried for a flow before it is refused.
const TRIES: u16 = 2_048;
/// How long a TCP connection may be idle (RFC 5382 REQ-5), and one that is over, or another protocol (RFC 4787 REQ-5).
const IDLE_TCP: Duration = Duration::from_secs(2 * 3_600 + 240);
const IDLE: Duration = Duration::from_secs(300);
/// Idle ones are looked for so often.
const SWEEP: Duration = Duration::from_secs(30);
/// Translations of one tunnel that are told, the newest ones: its record has bounds.
const MAX_TOLD: usize = 256;
/// Shortest time between two tellings.
const TELL: Duration = Duration::from_millis(100);
/// The tunnel of a flow whose client has not come to this owner yet.
const NO_TUNNEL: u32 = 0;

/// A flow as this stack sees it: with the translated port. Of a client, as it sends: with its own one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    protocol: u8,
    local: (Ipv4Addr, u16),
    remote: (Ipv4Addr, u16),
}

/// Whose flow it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    /// Number of the tunnel; [`NO_TUNNEL`] of an expected client.
    tunnel: u32,
    /// The client's own port.
    pub original: u16,
    /// Where its ESP came from last: address and port of its NAT.
    endpoint: SocketAddr,
    last: Instant,
    /// A TCP connection that is not over.
    lasting: bool,
}

/// Whose a packet is that wants out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// No client's behind a NAT.
    Nobodys,
    /// It goes by this tunnel, to the client's own port.
    Tunnel(u32, u16),
    /// A client's that has no tunnel here, yet.
    Absent,
}

/// The resolutions.
#[derive(Debug)]
pub struct NatPorts {
    flows: HashMap<Flow, Resolution, FixedState>,
    /// The translated port by tunnel and flow with the original one.
    translated: HashMap<(u32, Flow), u16, FixedState>,
    /// The same by where the client's NAT sends from: what stays when it negotiates again, here or with another owner.
    clients: HashMap<(SocketAddr, Flow), u16, FixedState>,
    of_tunnel: HashMap<u32, usize>,
    /// Clients' flows and their ports here, of clients that have not come yet, by where their NAT sends from.
    expected: HashMap<SocketAddr, Vec<(Flow, u16)>, FixedState>,
    swept: Option<Instant>,
    /// Tunnels with translations that were not told.
    news: BTreeSet<u32>,
    told: Option<Instant>,
}

impl NatPorts {
    /// None yet. `seed` keys the hashes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            flows: HashMap::with_hasher(FixedState::with_seed(seed)),
            translated: HashMap::with_hasher(FixedState::with_seed(seed ^ 1)),
            clients: HashMap::with_hasher(FixedState::with_seed(seed ^ 2)),
            of_tunnel: HashMap::new(),
            expected: HashMap::with_hasher(FixedState::with_seed(seed ^ 3)),
            swept: None,
            news: BTreeSet::new(),
            told: None,
        }
    }

    /// A packet that `tunnel` brought from `endpoint`: resolves its flow and writes the translated port into it. True if one
    /// was written. `held` says whether a port (of protocol, own and foreign end) is that of a connection of somebody who was
    /// here before: it is not given to a client that opens another one.
    ///
    /// # Errors
    /// No port is free, or too many flows are resolved.
    pub fn inbound(
        &mut self,
        now: Instant,
        (tunnel, endpoint): (u32, SocketAddr),
        packet: &mut [u8],
        parsed: &Parsed,
        held: impl Fn(u8, SocketAddr, SocketAddr) -> bool,
    ) -> Result<bool, DropReason> {
        let Some((original, flags)) = flow_in(parsed) else { return Ok(false) };
        let known = self.translated.get(&(tunnel, original)).copied();
        let port = match known {
            Some(port) => port,
            None => {
                let opens = flags.is_some_and(|f| f.has(TcpFlags::SYN) && !f.has(TcpFlags::ACK));
                let held = |f: &Flow| opens && held(f.protocol, f.local.into(), f.remote.into());
                self.resolve(now, (tunnel, endpoint), original, held)?
            }
        };
        let flow = original.at(port);
        if let Some(r) = self.flows.get_mut(&flow) {
            if r.endpoint != endpoint {
                // Its NAT has another mapping for it.
                let before = std::mem::replace(&mut r.endpoint, endpoint);
                self.clients.remove(&(before, original));
                self.clients.insert((endpoint, original), port);
                if port != original.remote.1 {
                    self.news.insert(tunnel);
                }
            }
            r.seen(now, flags);
        }
        if port == original.remote.1 {
            return Ok(false);
        }
        write_port(packet, parsed, 0, port);
        Ok(true)
    }

    /// Whose flow a packet that wants out belongs to.
    pub fn outbound(&mut self, now: Instant, parsed: &Parsed) -> Whose {
        if self.flows.is_empty() {
            return Whose::Nobodys;
        }
        let Some((flow, flags)) = flow_out(parsed) else { return Whose::Nobodys };
        let Some(r) = self.flows.get_mut(&flow) else { return Whose::Nobodys };
        if r.tunnel == NO_TUNNEL {
            return Whose::Absent;
        }
        r.seen(now, flags);
        Whose::Tunnel(r.tunnel, r.original)
    }

    /// Flows that an earlier owner translated: whoever comes with one keeps its port.
    pub fn expect(&mut self, now: Instant, flows: &[PortTranslation]) {
        for f in flows {
            let (IpAddr::V4(local), IpAddr::V4(remote)) = (f.local.ip(), f.remote) else { continue };
            let local = (local, f.local.port());
            let own = Flow { protocol: f.protocol, local, remote: (remote, f.original) };
            let flow = own.at(f.translated);
            if self.flows.len() >= MAX_FLOWS
                || self.flows.contains_key(&flow)
                || self.clients.contains_key(&(f.endpoint, own))
            {
                continue;
            }
            let lasting = f.protocol == protocol::TCP;
            let (tunnel, original, endpoint) = (NO_TUNNEL, f.original, f.endpoint);
            self.flows.insert(flow, Resolution { tunnel, original, endpoint, last: now, lasting });
            self.clients.insert((endpoint, own), f.translated);
            self.expected.entry(endpoint).or_default().push((own, f.translated));
            *self.of_tunnel.entry(NO_TUNNEL).or_default() += 1;
        }
    }

    /// A tunnel to a client whose NAT sends from `endpoint`: what was expected of it goes that way.
    pub fn tunnel_came(&mut self, tunnel: u32, endpoint: SocketAddr) {
        for (own, port) in self.expected.remove(&endpoint).unwrap_or_default() {
            // Some may have ended, or come by another way.
            if self.flows.get(&own.at(port)).is_some_and(|r| r.awaits(endpoint)) {
                self.goes_by(tunnel, own, port);
            }
        }
    }

    /// A tunnel is no more.
    pub fn forget(&mut self, tunnel: u32) {
        self.news.remove(&tunnel);
        if self.of_tunnel.remove(&tunnel).is_some() {
            let Self { flows, clients, .. } = self;
            flows.retain(|flow, r| {
                if r.tunnel == tunnel {
                    clients.remove(&(r.endpoint, flow.at(r.original)));
                }
                r.tunnel != tunnel
            });
            self.translated.retain(|(t, _), _| *t != tunnel);
        }
    }

    /// No tunnel is left.
    pub fn clear(&mut self) {
        self.flows.clear();
        self.translated.clear();
        self.clients.clear();
        self.of_tunnel.clear();
        self.expected.clear();
        self.news.clear();
    }

    /// When translations are to be told; `None`: all are.
    #[must_use]
    pub fn news_due(&self, now: Instant) -> Option<Instant> {
        (!self.news.is_empty()).then(|| self.told.map_or(now, |at| at + TELL))
    }

    /// Tunnels whose translations have changed, each with all of them, the newest ones where they are too many.
    pub fn take_news(&mut self, now: Instant) -> Vec<(u32, Vec<PortTranslation>)> {
        if self.news_due(now).is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.told = Some(now);
        let news = std::mem::take(&mut self.news);
        let mut all: Vec<(u32, Vec<(Instant, PortTranslation)>)> =
            news.into_iter().map(|tunnel| (tunnel, Vec::new())).collect();
        for (flow, r) in self.flows.iter().filter(|(f, r)| f.remote.1 != r.original) {
            if let Ok(at) = all.binary_search_by_key(&r.tunnel, |(tunnel, _)| *tunnel) {
                let translation = PortTranslation {
                    endpoint: r.endpoint,
                    protocol: flow.protocol,
                    local: flow.local.into(),
                    remote: flow.remote.0.into(),
                    original: r.original,
                    translated: flow.remote.1,
                };
                all[at].1.push((r.last, translation));
            }
        }
        let told = |(tunnel, mut flows): (u32, Vec<(Instant, PortTranslation)>)| {
            flows.sort_unstable_by_key(|(last, f)| (std::cmp::Reverse(*last), f.translated));
            flows.truncate(MAX_TOLD);
            (tunnel, flows.into_iter().map(|(_, f)| f).collect())
        };
        all.into_iter().map(told).collect()
    }

    /// Every resolution, in a fixed order.
    #[must_use]
    pub fn view(&self) -> Vec<PortTranslationView> {
        let view = |(f, r): (&Flow, &Resolution)| PortTranslationView {
            local: f.local.0.into(),
            local_port: f.local.1,
            remote: f.remote.0.into(),
            protocol: f.protocol,
            translated: f.remote.1,
            original: r.original,
            tunnel: r.tunnel,
        };
        let mut views: Vec<_> = self.flows.iter().map(view).collect();
        views.sort_unstable_by_key(|v| (v.remote, v.protocol, v.translated, v.local, v.local_port));
        views
    }

    fn resolve(
        &mut self,
        now: Instant,
        (tunnel, endpoint): (u32, SocketAddr),
        original: Flow,
        held: impl Fn(&Flow) -> bool,
    ) -> Result<u16, DropReason> {
        if self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP) {
            self.sweep(now);
        }
        if let Some(&port) = self.clients.get(&(endpoint, original)) {
            // The same client, by another tunnel: it has negotiated again, or comes to a new owner.
            self.goes_by(tunnel, original, port);
            return Ok(port);
        }
        let of_tunnel = self.of_tunnel.get(&tunnel).copied().unwrap_or(0);
        if self.flows.len() >= MAX_FLOWS || of_tunnel >= MAX_OF_TUNNEL {
            return Err(DropReason::NatTableFull);
        }
        let wanted = original.remote.1;
        let free = |port: u16| {
            let flow = original.at(port);
            !self.flows.contains_key(&flow) && !held(&flow)
        };
        let port = if free(wanted) {
            wanted
        } else if wanted < LOWEST {
            return Err(DropReason::NatPortTaken);
        } else {
            let found = (LOWEST..=u16::MAX).rev().take(TRIES.into()).find(|p| free(*p));
            found.ok_or(DropReason::NatPortTaken)?
        };
        let lasting = original.protocol == protocol::TCP;
        let resolution = Resolution { tunnel, original: wanted, endpoint, last: now, lasting };
        self.flows.insert(original.at(port), resolution);
        self.translated.insert((tunnel, original), port);
        self.clients.insert((endpoint, original), port);
        *self.of_tunnel.entry(tunnel).or_default() += 1;
        if port != wanted {
            self.news.insert(tunnel);
        }
        Ok(port)
    }

    /// A client's flow (with its own port) that has `port` here goes by another tunnel than before.
    fn goes_by(&mut self, tunnel: u32, own: Flow, port: u16) {
        let Some(r) = self.flows.get_mut(&own.at(port)) else { return };
        let before = std::mem::replace(&mut r.tunnel, tunnel);
        self.translated.remove(&(before, own));
        self.translated.insert((tunnel, own), port);
        one_less(&mut self.of_tunnel, before);
        *self.of_tunnel.entry(tunnel).or_default() += 1;
        if port != own.remote.1 {
            self.news.insert(tunnel);
            if before != NO_TUNNEL {
                self.news.insert(before);
            }
        }
    }

    /// Lets idle flows go.
    fn sweep(&mut self, now: Instant) {
        self.swept = Some(now);
        let Self { flows, translated, clients, of_tunnel, expected, news, .. } = self;
        flows.retain(|flow, r| {
            let limit = if r.lasting { IDLE_TCP } else { IDLE };
            let keep = now.saturating_duration_since(r.last) < limit;
            if !keep {
                let own = flow.at(r.original);
                translated.remove(&(r.tunnel, own));
                clients.remove(&(r.endpoint, own));
                one_less(of_tunnel, r.tunnel);
                if own != *flow && r.tunnel != NO_TUNNEL {
                    news.insert(r.tunnel);
                }
            }
            keep
        });
        expected.retain(|endpoint, of_client| {
            of_client.retain(|(own, port)| flows.get(&own.at(*port)).is_some_and(|r| r.awaits(*endpoint)));
            !of_client.is_empty()
        });
    }
}

fn one_less(of_tunnel: &mut HashMap<u32, usize>, tunnel: u32) {
    if let Some(held) = of_tunnel.get_mut(&tunnel) {
        *held = held.saturating_sub(1);
        if *held == 0 {
            of_tunnel.remove(&tunnel);
        }
    }
}

impl Flow {
    /// The same with another port of the client.
    const fn at(self, port: u16) -> Self {
        Self { remote: (self.remote.0, port), ..self }
    }
}

impl Resolution {
    /// Whether its client, behind a NAT that sends from `endpoint`, has not come yet.
    fn awaits(&self, endpoint: SocketAddr) -> bool {
        self.tunnel == NO_TUNNEL && self.endpoint == endpoint
    }

    fn seen(&mut self, now: Instant, flags: Option<TcpFlags>) {
        self.last = now;
        if let Some(flags) = flags {
            // One FIN is half of an end: the other side may go on for long, but rarely does.
            let over = flags.has(TcpFlags::RST) || flags.has(TcpFlags::FIN);
            self.lasting = if flags.has(TcpFlags::SYN) { true } else { self.lasting && !over };
        }
    }
}

/// Writes the client's own port into an answer. `partial`: its checksum is still to be completed (virtio), and then it holds
/// the pseudo header alone, which has no ports.
pub fn restore_port(packet: &mut [u8], parsed: &Parsed, original: u16, partial: bool) {
    if partial {
        let at = parsed.header_len + 2;
        if let Some(field) = packet.get_mut(at..at + 2) {
            field.copy_from_slice(&original.to_be_bytes());
        }
    } else {
        write_port(packet, parsed, 2, original);
    }
}

fn flow_in(parsed: &Parsed) -> Option<(Flow, Option<TcpFlags>)> {
    let (source, destination, flags) = ports(parsed)?;
    let (IpAddr::V4(remote), IpAddr::V4(local)) = (parsed.source, parsed.destination) else { return None };
    let flow = Flow { protocol: parsed.protocol, local: (local, destination), remote: (remote, source) };
    Some((flow, flags))
}

fn flow_out(parsed: &Parsed) -> Option<(Flow, Option<TcpFlags>)> {
    let (source, destination, flags) = ports(parsed)?;
    let (IpAddr::V4(local), IpAddr::V4(remote)) = (parsed.source, parsed.destination) else { return None };
    let flow = Flow { protocol: parsed.protocol, local: (local, source), remote: (remote, destination) };
    Some((flow, flags))
}

/// Of TCP and UDP: no other protocol's ports are translated.
fn ports(parsed: &Parsed) -> Option<(u16, u16, Option<TcpFlags>)> {
    match parsed.upper {
        Upper::Tcp { source, destination, flags, .. } => Some((source, destination, Some(flags))),
        Upper::Ports { source, destination } if parsed.protocol == protocol::UDP => {
            Some((source, destination, None))
        }
        Upper::Ports { .. } | Upper::Typed { .. } | Upper::Opaque | Upper::Cut => None,
    }
}

/// Writes a port at `offset` of the upper header, and the checksum that belongs to it.
fn write_port(packet: &mut [u8], parsed: &Parsed, offset: usize, port: u16) {
    let check_at = match parsed.protocol {
        protocol::TCP => tcp::CHECKSUM_AT,
        _ => udp::CHECKSUM_AT,
    };
    let Some(upper) = packet.get_mut(parsed.header_len..parsed.total_len) else { return };
    let new = port.to_be_bytes();
    let (Some(&[a, b]), Some(&[c, d])) = (upper.get(offset..offset + 2), upper.get(check_at..check_at + 2))
    else {
        return;
    };
    // A datagram without a checksum keeps none (RFC 768).
    if !(parsed.protocol == protocol::UDP && [c, d] == [0, 0]) {
        let mut check = checksum::update([c, d], &[a, b], &new);
        if parsed.protocol == protocol::UDP && check == [0, 0] {
            check = [0xff, 0xff];
        }
        upper[check_at..check_at + 2].copy_from_slice(&check);
    }
    upper[offset..offset + 2].copy_from_slice(&new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::pseudo_header;
    use proptest::prelude::*;

    const PUBLIC: [u8; 4] = [203, 0, 113, 5];
    const SERVICE: [u8; 4] = [192, 0, 2, 80];

    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn start() -> Instant {
        Instant::now()
    }

    /// A packet of the client (or, swapped, to it) with a good checksum.
    fn packet(proto: u8, (from, sport): ([u8; 4], u16), (to, dport): ([u8; 4], u16), flags: u8) -> Vec<u8> {
        let mut upper = Vec::new();
        upper.extend_from_slice(&sport.to_be_bytes());
        upper.extend_from_slice(&dport.to_be_bytes());
        if proto == 6 {
            upper.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 5 << 4, flags, 1, 0, 0, 0, 0, 0]);
        } else {
            upper.extend_from_slice(&[0, 12, 0, 0]);
        }
        upper.extend_from_slice(b"data");
        let total = u16::try_from(20 + upper.len()).unwrap();
        let mut p = vec![0x45, 0];
        p.extend_from_slice(&total.to_be_bytes());
        p.extend_from_slice(&[0, 0, 0x40, 0, 64, proto, 0, 0]);
        p.extend_from_slice(&from);
        p.extend_from_slice(&to);
        crate::wire::ipv4::fill_checksum(&mut p);
        p.extend_from_slice(&upper);
        let at = 20 + if proto == 6 { 16 } else { 6 };
        let check = pseudo_header(&p[12..20], proto, u32::from(total) - 20).with(&p[20..]).finish();
        p[at..at + 2].copy_from_slice(&check);
        p
    }

    fn good(p: &[u8]) -> bool {
        let length = u32::try_from(p.len() - 20).unwrap();
        pseudo_header(&p[12..20], p[9], length).with(&p[20..]).finish() == [0, 0]
    }

    /// The mapping of a client at its NAT.
    fn mapping(client: u32) -> SocketAddr {
        SocketAddr::new(PUBLIC.into(), 10_000 + u16::try_from(client).unwrap())
    }

    fn arrive(n: &mut NatPorts, now: Instant, tunnel: u32, proto: u8, port: u16) -> Result<u16, DropReason> {
        arrive_from(n, now, (tunnel, mapping(tunnel)), proto, port)
    }

    fn arrive_from(
        n: &mut NatPorts,
        now: Instant,
        from: (u32, SocketAddr),
        proto: u8,
        port: u16,
    ) -> Result<u16, DropReason> {
        let mut p = packet(proto, (PUBLIC, port), (SERVICE, 443), 0x02);
        let parsed = Parsed::parse(&p).unwrap();
        n.inbound(now, from, &mut p, &parsed, |_, _, _| false)?;
        assert!(good(&p), "the checksum is that of what stands there");
        Ok(Parsed::parse(&p).unwrap().ports().0)
    }

    fn answer(n: &mut NatPorts, now: Instant, proto: u8, port: u16) -> Option<(u32, u16)> {
        let mut p = packet(proto, (SERVICE, 443), (PUBLIC, port), 0x10);
        let parsed = Parsed::parse(&p).unwrap();
        let Whose::Tunnel(tunnel, original) = n.outbound(now, &parsed) else { return None };
        restore_port(&mut p, &parsed, original, false);
        assert!(good(&p));
        Some((tunnel, Parsed::parse(&p).unwrap().ports().1))
    }

    #[test]
    fn two_clients_with_the_same_port_are_told_apart() {
        for proto in [6, 17] {
            let (now, mut n) = (start(), NatPorts::new(1));
            assert_eq!(arrive(&mut n, now, 1, proto, 40_000), Ok(40_000));
            assert_eq!(arrive(&mut n, now, 2, proto, 40_000), Ok(65_535));
            assert_eq!(arrive(&mut n, now, 3, proto, 40_000), Ok(65_534));
            // Every packet of a flow gets the same port.
            assert_eq!(arrive(&mut n, now, 2, proto, 40_000), Ok(65_535));
            assert_eq!(answer(&mut n, now, proto, 40_000), Some((1, 40_000)));
            assert_eq!(answer(&mut n, now, proto, 65_535), Some((2, 40_000)));
            assert_eq!(answer(&mut n, now, proto, 65_534), Some((3, 40_000)));
            assert_eq!(answer(&mut n, now, proto, 50_000), None);
            // Whoever has the translated port as his own is translated in turn.
            assert_eq!(arrive(&mut n, now, 4, proto, 65_535), Ok(65_533));
            assert_eq!(n.view().iter().filter(|v| v.translated != v.original).count(), 3);
            n.forget(2);
            assert_eq!(answer(&mut n, now, proto, 65_535), None);
            assert_eq!(n.flows.len(), n.translated.len());
        }
    }

    #[test]
    fn a_service_port_is_never_translated() {
        let (now, mut n) = (start(), NatPorts::new(1));
        assert_eq!(arrive(&mut n, now, 1, 17, 123), Ok(123));
        assert_eq!(arrive(&mut n, now, 2, 17, 123), Err(DropReason::NatPortTaken));
    }

    #[test]
    fn a_client_that_negotiates_again_keeps_its_flows() {
        let (now, mut n) = (start(), NatPorts::new(1));
        for (tunnel, port) in [(1, 80), (2, 80)] {
            assert_eq!(arrive_from(&mut n, now, (tunnel, mapping(1)), 6, port), Ok(80));
        }
        assert_eq!(answer(&mut n, now, 6, 80), Some((2, 80)), "by the tunnel that it uses now");
        n.forget(1);
        assert_eq!(answer(&mut n, now, 6, 80), Some((2, 80)));
        n.forget(2);
        assert!(n.flows.is_empty() && n.translated.is_empty() && n.of_tunnel.is_empty());
        assert!(n.clients.is_empty());
    }

    #[test]
    fn a_client_that_negotiates_again_keeps_its_translated_port() {
        let (now, mut n) = (start(), NatPorts::new(1));
        arrive(&mut n, now, 1, 6, 40_000).unwrap();
        assert_eq!(arrive(&mut n, now, 2, 6, 40_000), Ok(65_535));
        assert_eq!(arrive_from(&mut n, now, (3, mapping(2)), 6, 40_000), Ok(65_535));
        assert_eq!(answer(&mut n, now, 6, 65_535), Some((3, 40_000)));
        n.forget(2);
        assert_eq!(arrive_from(&mut n, now, (3, mapping(2)), 6, 40_000), Ok(65_535));
    }

    #[test]
    fn what_is_translated_is_told_and_goes_on_at_the_next_owner() {
        let (now, mut old) = (start(), NatPorts::new(1));
        for (tunnel, port) in [(1, 40_000), (1, 40_001), (2, 40_000), (3, 40_000)] {
            arrive(&mut old, now, tunnel, 6, port).unwrap();
        }
        assert_eq!(old.news_due(now), Some(now));
        let told = old.take_news(now);
        let ports: Vec<_> =
            told.iter().map(|(t, f)| (*t, f.iter().map(|f| f.translated).collect())).collect();
        assert_eq!(ports, [(2, vec![65_535]), (3, vec![65_534])]);
        assert_eq!((old.news_due(now), old.take_news(now)), (None, vec![]));
        // Soon after, another one: it is told, with those before it, but not at once.
        assert_eq!(arrive(&mut old, now, 3, 6, 40_001), Ok(65_533));
        assert_eq!((old.news_due(now), old.take_news(now)), (Some(now + TELL), vec![]));
        let third = old.take_news(now + TELL).remove(0).1;
        assert_eq!(third.len(), 2);

        let mut new = NatPorts::new(2);
        let flows: Vec<_> = told.into_iter().flat_map(|(_, f)| f).chain(third).collect();
        new.expect(now, &flows);
        // For a client that has not come yet, nothing goes by anybody's tunnel.
        let p = packet(6, (SERVICE, 443), (PUBLIC, 65_535), 0x10);
        assert_eq!(new.outbound(now, &Parsed::parse(&p).unwrap()), Whose::Absent);
        // The third client's tunnel is there before it says anything; the second speaks first.
        new.tunnel_came(13, mapping(3));
        assert_eq!(answer(&mut new, now, 6, 65_534), Some((13, 40_000)));
        assert_eq!(arrive_from(&mut new, now, (12, mapping(2)), 6, 40_000), Ok(65_535));
        assert_eq!(answer(&mut new, now, 6, 65_535), Some((12, 40_000)));
        assert_eq!(arrive_from(&mut new, now, (11, mapping(1)), 6, 40_000), Ok(40_000), "the first");
        assert_eq!(arrive_from(&mut new, now, (13, mapping(3)), 6, 40_001), Ok(65_533));
        // The next takeover finds it again.
        let again: usize = new.take_news(now).iter().map(|(_, f)| f.len()).sum();
        assert_eq!(again, 3);
        for tunnel in [11, 12, 13] {
            new.forget(tunnel);
        }
        assert!(new.flows.is_empty() && new.translated.is_empty() && new.clients.is_empty());
        assert!(new.of_tunnel.is_empty());
    }

    #[test]
    fn a_port_of_a_connection_that_was_there_before_goes_to_no_new_one() {
        let (now, mut n) = (start(), NatPorts::new(1));
        let mut come = |tunnel, flags| {
            let mut p = packet(6, (PUBLIC, 40_000), (SERVICE, 443), flags);
            let parsed = Parsed::parse(&p).unwrap();
            let held = |proto, local: SocketAddr, remote: SocketAddr| {
                (proto, local.port(), remote.port()) == (6, 443, 40_000)
            };
            n.inbound(now, (tunnel, mapping(tunnel)), &mut p, &parsed, held).unwrap();
            Parsed::parse(&p).unwrap().ports().0
        };
        assert_eq!(come(2, 0x02), 65_535, "a SYN of a client that came after the takeover");
        assert_eq!(come(1, 0x10), 40_000, "the one whose connection it is");
    }

    #[test]
    fn t49_expected_flows_are_bounded_and_idle_ones_go() {
        let (now, mut n) = (start(), NatPorts::new(1));
        let flow = |original: u16, translated| PortTranslation {
            endpoint: mapping(1),
            protocol: 17,
            local: SocketAddr::new(SERVICE.into(), 443),
            remote: PUBLIC.into(),
            original,
            translated,
        };
        n.expect(
            now,
            &[flow(1, 2), flow(1, 3), flow(4, 2), PortTranslation { remote: [0; 16].into(), ..flow(5, 6) }],
        );
        assert_eq!((n.flows.len(), n.clients.len()), (1, 1), "one flow has one port, one port one flow");
        let many: Vec<_> = (0..MAX_FLOWS + 9)
            .map(|i| {
                let (host, port) = (u8::try_from(i >> 16).unwrap(), u16::try_from(i & 0xffff).unwrap());
                PortTranslation { local: SocketAddr::new([10, 0, 0, host].into(), port), ..flow(7, 8) }
            })
            .collect();
        n.expect(now, &many);
        assert!(n.flows.len() <= MAX_FLOWS);
        arrive(&mut n, now + IDLE, 1, 6, 5_000).unwrap_or_default();
        assert!(n.flows.len() <= 1 && n.clients.len() == n.flows.len() && n.expected.is_empty());
    }

    #[test]
    fn idle_flows_go_and_connections_stay() {
        let (now, mut n) = (start(), NatPorts::new(1));
        arrive(&mut n, now, 1, 17, 5_000).unwrap();
        arrive(&mut n, now, 1, 6, 5_000).unwrap();
        arrive(&mut n, now + IDLE, 2, 6, 6_000).unwrap();
        assert_eq!(n.flows.len(), 2, "the datagrams' flow is over");
        // A reset ends it.
        let mut p = packet(6, (PUBLIC, 5_000), (SERVICE, 443), 0x04);
        let parsed = Parsed::parse(&p).unwrap();
        n.inbound(now + IDLE, (1, mapping(1)), &mut p, &parsed, |_, _, _| false).unwrap();
        arrive(&mut n, now + IDLE * 2, 2, 6, 6_001).unwrap();
        assert_eq!(n.flows.len(), 2);
        assert_eq!(n.of_tunnel.get(&1), None);
    }

    #[test]
    fn one_tunnel_cannot_take_everything() {
        let (now, mut n) = (start(), NatPorts::new(1));
        let limit = u16::try_from(MAX_OF_TUNNEL).unwrap();
        for port in 10_000..10_000 + limit {
            arrive(&mut n, now, 1, 17, port).unwrap();
        }
        assert_eq!(arrive(&mut n, now, 1, 17, 9_000), Err(DropReason::NatTableFull));
        assert_eq!(arrive(&mut n, now, 2, 17, 9_000), Ok(9_000));
        n.clear();
        assert!(n.view().is_empty());
    }

    proptest! {
        #[test]
        fn every_flow_has_one_port_and_every_port_one_flow(
            events in prop::collection::vec((1u32..6, 1020u16..1030, any::<bool>()), 1..120),
        ) {
            let (now, mut n) = (start(), NatPorts::new(1));
            let mut seen: HashMap<(u32, u16, u8), u16> = HashMap::new();
            for (tunnel, port, tcp) in events {
                let proto = if tcp { 6 } else { 17 };
                let Ok(got) = arrive(&mut n, now, tunnel, proto, port) else {
                    prop_assert!(port < LOWEST);
                    continue;
                };
                prop_assert_eq!(*seen.entry((tunnel, port, proto)).or_insert(got), got);
                prop_assert_eq!(answer(&mut n, now, proto, got), Some((tunnel, port)));
            }
            let mut ports: Vec<_> = seen.iter().map(|((_, _, proto), port)| (*proto, *port)).collect();
            ports.sort_unstable();
            let all = ports.len();
            ports.dedup();
            prop_assert_eq!(ports.len(), all);
        }
    }
}
