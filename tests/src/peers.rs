//! A thousand peers in one process: each with an address, an identity, an IKE engine and SAs of its own, and one UDP flow to the
//! DVIPA. They run the project's own engines, driven by two sockets.
//!
//! ```text
//!   PEER: 198.18.0.0/16 is local; ports 500 and 4500 ── IKE engine of 198.18.0.1, of 198.18.0.2, …
//!                                                  └─── ESP in UDP around  198.18.x.y:20000 -> DVIPA:9001 and its echo
//! ```

use crate::lab::Lab;
use crate::scenario::SECRET;
use anyhow::{Context, Result, ensure};
use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use iked::ike::Engine;
use iked::ike::command::{ActivationMethod, Command, Initiate};
use iked::ike::event::{Event, Payload};
use iked::ike::rules::{
    Authentication, ChildOffer, ChildRule, ExchangeRule, IkeOffer, Initiation, Rules, Settings,
};
use iked::ike::types::{
    AddressRange, Encryption, Group, Identity, IdentityPattern, Mode, Prf, Secret, TrafficSelector,
};
use iked::translate::sa::sa_pair;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use stack::control::DfMode;
use stack::engine::{esp, sad::Sad};
use std::collections::BTreeSet;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where the peers' addresses come from.
pub const PREFIX: &str = "198.18.0.0/16";
/// Port of the echo behind the DVIPA.
pub const PORT: u16 = 9001;
const OWN_PORT: u16 = 20_000;
/// Peers that begin to negotiate in a tenth of a second: all at once would measure their own processor.
const STARTS: usize = 16;
/// A period longer than anything runs.
const NEVER: Duration = Duration::from_secs(86_400);

/// What one peer has seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// When each of its IKE SAs came up.
    pub ike_up: Vec<Instant>,
    /// When each child SA came up.
    pub child_up: Vec<Instant>,
    /// Arrival of each echo.
    pub echoes: Vec<Instant>,
    /// Requests sent.
    pub sent: u64,
    /// Why negotiations failed.
    pub failed: Vec<String>,
}

/// The running peers.
#[derive(Debug)]
pub struct Peers {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    thread: Option<JoinHandle<Result<()>>>,
    echoes: Vec<JoinHandle<Result<()>>>,
}

impl Peers {
    /// Starts `count` peers in `node` towards `dvipa`, and an echo on each of `targets`. Each peer makes its SAs and then sends
    /// a request every `period`.
    ///
    /// # Errors
    /// When a socket or route cannot be made.
    pub fn start(
        lab: &Lab,
        node: &str,
        count: usize,
        dvipa: Ipv4Addr,
        period: Duration,
        targets: &[String],
    ) -> Result<Self> {
        lab.ip(node, &format!("route add local {PREFIX} dev lo"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(vec![Seen::default(); count]));
        let mut echoes = Vec::new();
        for target in targets {
            let socket = lab.inside(target, move || UdpSocket::bind((dvipa, PORT)))??;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            let stop = Arc::clone(&stop);
            echoes.push(std::thread::spawn(move || echo(&socket, &stop)));
        }
        let sockets = sockets(lab, node)?;
        let (stopped, shown) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread =
            std::thread::spawn(move || Loop::new(sockets, count, dvipa, period, shown).run(&stopped));
        Ok(Self { stop, seen, thread: Some(thread), echoes })
    }

    /// Starts `count` peers in `node` towards `home`, each with `children` child SAs for UDP ports of their own, and no
    /// traffic.
    ///
    /// # Errors
    /// When a socket or route cannot be made.
    pub fn start_wide(lab: &Lab, node: &str, count: usize, home: Ipv4Addr, children: u16) -> Result<Self> {
        lab.ip(node, &format!("route add local {PREFIX} dev lo"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(vec![Seen::default(); count]));
        let sockets = sockets(lab, node)?;
        let (stopped, shown) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            let mut all = Loop::new(sockets, count, home, NEVER, shown);
            all.children = children;
            all.run(&stopped)
        });
        Ok(Self { stop, seen, thread: Some(thread), echoes: Vec::new() })
    }

    /// What each has seen so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until every peer has had an echo since `since`.
    ///
    /// # Errors
    /// When one has none within `limit`; says how many and why.
    pub fn all_echoed(&self, since: Instant, limit: Duration) -> Result<()> {
        crate::wait::until("an echo for each peer", limit, || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let without = seen.iter().filter(|s| s.echoes.last().is_none_or(|at| *at < since)).count();
            let why = seen.iter().flat_map(|s| s.failed.last()).next();
            ensure!(without == 0, "{without} of {} have none; {why:?}", seen.len());
            Ok(())
        })
    }

    /// Ends them.
    ///
    /// # Errors
    /// When the loop failed.
    pub fn finish(mut self) -> Result<Vec<Seen>> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.thread.take().into_iter().chain(self.echoes.drain(..)) {
            match thread.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(self.seen())
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Ports 500 and 4500 of a node, for every address that is local there.
fn sockets(lab: &Lab, node: &str) -> Result<[UdpSocket; 2]> {
    lab.inside(node, || -> Result<[UdpSocket; 2]> {
        let bind = |port| -> Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20))
                .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &(1 << 20)))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        Ok([bind(500)?, bind(4500)?])
    })?
}

fn echo(socket: &UdpSocket, stop: &AtomicBool) -> Result<()> {
    let mut buffer = [0u8; 256];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // A refused answer is lost as on any network.
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
    Ok(())
}

struct Peer {
    address: Ipv4Addr,
    engine: Engine,
    sad: Sad,
    /// Inbound SPI of the pair on which it sends, and those before it.
    sending: Vec<u32>,
    deadline: Option<Instant>,
    next: Instant,
    started: bool,
}

struct Loop {
    sockets: [UdpSocket; 2],
    peers: Vec<Peer>,
    /// Deadlines of engines, and of the next requests.
    due: BTreeSet<(Instant, usize)>,
    dvipa: Ipv4Addr,
    period: Duration,
    /// Child SAs of each peer.
    children: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    arena: Vec<u8>,
}

fn address_of(index: usize) -> Ipv4Addr {
    let n = u16::try_from(index + 1).expect("fewer peers than a /16 has addresses");
    let [high, low] = n.to_be_bytes();
    Ipv4Addr::new(198, 18, high, low)
}

/// A place between 0 and 1 that those before and after are far from.
fn spread(index: usize) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    (index as f64 * GOLDEN).fract()
}

impl Loop {
    fn new(
        sockets: [UdpSocket; 2],
        count: usize,
        dvipa: Ipv4Addr,
        period: Duration,
        seen: Arc<Mutex<Vec<Seen>>>,
    ) -> Self {
        let now = crate::wait::now();
        let settings = Settings { retransmit_initial: Duration::from_secs(1), ..Settings::default() };
        let peers = (0..count).map(|index| {
            let address = address_of(index);
            let seed = 0x5eed_0000 + index as u64;
            let mut engine = Engine::new(settings.clone(), StdRng::seed_from_u64(seed), now);
            engine.set_rules(now, rules(address.into(), dvipa.into()));
            // Spread: each begins, and later sends, at its own time.
            let wave = u32::try_from(index / STARTS).unwrap_or(u32::MAX);
            let next = now + Duration::from_millis(100) * wave;
            let sad = Sad::new(seed);
            Peer { address, engine, sad, sending: Vec::new(), deadline: None, next, started: false }
        });
        let peers: Vec<Peer> = peers.collect();
        let due = peers.iter().enumerate().map(|(i, p)| (p.next, i)).collect();
        Self { sockets, peers, due, dvipa, period, children: 1, seen, arena: Vec::new() }
    }

    fn run(mut self, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let now = crate::wait::now();
            let wait = self
                .due
                .first()
                .map_or(Duration::from_millis(50), |(at, _)| at.saturating_duration_since(now));
            let wait = u16::try_from(wait.min(Duration::from_millis(50)).as_millis()).unwrap_or(50);
            let mut fds = [0, 1].map(|i| PollFd::new(self.sockets[i].as_fd(), PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::from(wait)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e).context("poll"),
            }
            for which in 0..2 {
                // So many at a time, so that deadlines are not starved.
                for _ in 0..256 {
                    if !self.receive(which)? {
                        break;
                    }
                }
            }
            self.timers();
        }
        Ok(())
    }

    fn timers(&mut self) {
        let now = crate::wait::now();
        while let Some((at, index)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, index));
            if self.peers[index].next <= now {
                self.own_turn(index, now);
            }
            if self.peers[index].deadline.is_some_and(|d| d <= now) {
                self.peers[index].engine.handle_timeout(now);
            }
            self.drain(index, now);
        }
    }

    /// Its first turn is to negotiate, every later one a request.
    fn own_turn(&mut self, index: usize, now: Instant) {
        let (dvipa, period) = (self.dvipa, self.period);
        let peer = &mut self.peers[index];
        if !peer.started {
            peer.started = true;
            let children = self.children;
            for child in 0..children {
                let port = (children > 1).then(|| OWN_PORT + child);
                peer.engine.handle_command(now, initiate(peer.address.into(), dvipa.into(), port));
            }
            // From now on spread evenly: whatever a moment is, somebody has just sent.
            peer.next = now + period + period.mul_f64(spread(index));
            return;
        }
        peer.next = now + period;
        if let Some(spi) = peer.sending.last().copied() {
            self.request(index, spi);
        }
    }

    fn request(&mut self, index: usize, spi: u32) {
        let number = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen[index].sent += 1;
            seen[index].sent
        };
        let peer = &mut self.peers[index];
        let builder = PacketBuilder::ipv4(peer.address.octets(), self.dvipa.octets(), 64).udp(OWN_PORT, PORT);
        let payload = number.to_be_bytes();
        let mut packet = Vec::with_capacity(builder.size(payload.len()));
        if builder.write(&mut packet, &payload).is_err() {
            return;
        }
        let Some(sa) = peer.sad.lookup(spi).and_then(|h| peer.sad.get_mut(h)) else { return };
        let to = sa.udp_remote().unwrap_or_else(|| (self.dvipa, 4500).into());
        self.arena.clear();
        if let Ok(range) = esp::seal(sa, &packet, &[], &mut self.arena, &mut Vec::new()) {
            send(&self.sockets[1], peer.address, to, &[&self.arena[range]]);
        }
    }

    /// Takes one datagram; false: there was none.
    fn receive(&mut self, which: usize) -> Result<bool> {
        let mut bytes = [0u8; 4096];
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let mut control = cmsg_space!(in_pktinfo);
        let fd = self.sockets[which].as_raw_fd();
        let message = match recvmsg::<SockaddrIn>(fd, &mut buffers, Some(&mut control), MsgFlags::empty()) {
            Ok(message) => message,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
            // An ICMP error for something sent before.
            Err(Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => return Ok(true),
            Err(e) => return Err(e).context("receive"),
        };
        let own = message.cmsgs()?.find_map(|c| match c {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()))
            }
            _ => None,
        });
        let (Some(own), Some(from), length) = (own, message.address, message.bytes) else { return Ok(true) };
        let from = SocketAddr::from((from.ip(), from.port()));
        let [_, _, high, low] = own.octets();
        let Some(index) = usize::from(u16::from_be_bytes([high, low])).checked_sub(1) else {
            return Ok(true);
        };
        if index >= self.peers.len() || self.peers[index].address != own {
            return Ok(true);
        }
        let now = crate::wait::now();
        let local = SocketAddr::from((own, if which == 0 { 500 } else { 4500 }));
        match (which, &mut bytes[..length]) {
            (0, message) => self.peers[index].engine.handle_datagram(now, local, from, message),
            (_, [0, 0, 0, 0, message @ ..]) => {
                self.peers[index].engine.handle_datagram(now, local, from, message)
            }
            (_, [_]) => {}
            (_, packet) => self.esp(index, packet, now),
        }
        self.drain(index, now);
        Ok(true)
    }

    fn esp(&mut self, index: usize, packet: &mut [u8], now: Instant) {
        let Some(spi) = packet.first_chunk().map(|b| u32::from_be_bytes(*b)) else { return };
        let peer = &mut self.peers[index];
        let Some(sa) = peer.sad.lookup(spi).and_then(|h| peer.sad.get_mut(h)) else { return };
        let Ok(opened) = esp::open(sa, packet, now, &mut Vec::new()) else { return };
        let Ok(inner) = SlicedPacket::from_ip(&packet[opened.inner]) else { return };
        if matches!(inner.transport, Some(TransportSlice::Udp(u)) if u.source_port() == PORT) {
            peer.engine.handle_command(now, Command::InboundTraffic { spi_in: spi, idle: Duration::ZERO });
            self.seen.lock().unwrap_or_else(PoisonError::into_inner)[index].echoes.push(now);
        }
    }

    /// Carries out what an engine wants, and notes when it is due again.
    fn drain(&mut self, index: usize, now: Instant) {
        while let Some(transmit) = self.peers[index].engine.poll_transmit() {
            let IpAddr::V4(own) = transmit.local.ip() else { continue };
            let float = transmit.local.port() == 4500;
            let socket = &self.sockets[usize::from(float)];
            match &transmit.payload {
                Payload::Message(m) if float => send(socket, own, transmit.remote, &[&[0; 4], m]),
                Payload::Message(m) => send(socket, own, transmit.remote, &[m]),
                Payload::NatKeepalive => send(socket, own, transmit.remote, &[&[0xff]]),
            }
        }
        while let Some(event) = self.peers[index].engine.poll_event() {
            self.event(index, event, now);
        }
        let peer = &mut self.peers[index];
        if let Some(old) = peer.deadline.take() {
            self.due.remove(&(old, index));
        }
        peer.deadline = peer.engine.poll_timeout();
        self.due.extend(peer.deadline.map(|at| (at, index)));
        self.due.insert((peer.next, index));
    }

    fn event(&mut self, index: usize, event: Event, now: Instant) {
        let peer = &mut self.peers[index];
        let note = |work: &dyn Fn(&mut Seen)| {
            work(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner)[index])
        };
        match event {
            Event::InstallChild(child) => {
                let (spi, active) = (child.spi_in, child.outbound_active);
                if peer.sad.install(sa_pair(*child, (DfMode::Clear, false))).is_ok() {
                    let at = if active { peer.sending.len() } else { 0 };
                    peer.sending.insert(at, spi);
                }
            }
            Event::ActivateOutbound { spi_in } => {
                peer.sending.retain(|s| *s != spi_in);
                peer.sending.push(spi_in);
            }
            Event::RemoveChild { spi_in } => {
                peer.sending.retain(|s| *s != spi_in);
                peer.sad.remove(spi_in);
            }
            Event::IkeUp(_) => note(&|s| s.ike_up.push(now)),
            Event::ChildUp(_) => note(&|s| s.child_up.push(now)),
            Event::Failed { reason, .. } => note(&|s| s.failed.push(reason.text.clone())),
            _ => {}
        }
    }
}

fn send(socket: &UdpSocket, from: Ipv4Addr, to: SocketAddr, pieces: &[&[u8]]) {
    let SocketAddr::V4(to) = to else { return };
    let info = in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
        ipi_addr: in_addr { s_addr: 0 },
    };
    let slices: Vec<IoSlice<'_>> = pieces.iter().map(|p| IoSlice::new(p)).collect();
    let to = SockaddrIn::from(SocketAddrV4::new(*to.ip(), to.port()));
    let control = [ControlMessage::Ipv4PacketInfo(&info)];
    // Refused or full: lost as on any network.
    let _ = sendmsg(socket.as_raw_fd(), &slices, &control, MsgFlags::empty(), Some(&to));
}

/// With `port` only for that UDP port of the peer's.
fn initiate(own: IpAddr, dvipa: IpAddr, port: Option<u16>) -> Command {
    let all = TrafficSelector::all_of(AddressRange::single(own));
    let local = match port {
        Some(port) => TrafficSelector { protocol: 17, port_low: port, port_high: port, ..all },
        None => all,
    };
    Command::Initiate(Box::new(Initiate {
        rule: "toDvipa".to_owned(),
        local_endpoint: own,
        remote_endpoint: dvipa,
        remote_id: None,
        nat_port: None,
        local: vec![local],
        remote: vec![TrafficSelector::all_of(AddressRange::single(dvipa))],
        local_dyn_vpn_rule: None,
        method: ActivationMethod::Command,
        acquire: None,
        initial_contact: true,
    }))
}

/// What a peer's policy says: as [`crate::policy`] from the other side.
fn rules(own: IpAddr, dvipa: IpAddr) -> Rules {
    let hour = Duration::from_secs(3600);
    let encryption = Encryption::AesGcm16(128);
    Rules {
        exchange: vec![ExchangeRule {
            name: "kx".to_owned(),
            action: "kxAction".to_owned(),
            local_id: Identity::Address(own),
            local_location: vec![AddressRange::single(own)],
            remote_id: IdentityPattern::Exact(Identity::Address(dvipa)),
            remote_location: vec![AddressRange::single(dvipa)],
            initiate: true,
            respond: true,
            authentication: Authentication::SharedKey(Secret(SECRET.as_bytes().to_vec())),
            offers: vec![IkeOffer {
                encryption,
                integrity: None,
                prf: Prf::HmacSha256,
                group: Group::Curve25519,
                lifetime: hour * 8,
            }],
            allow_nat: true,
            filter_by_identity: false,
            reauth_interval: None,
        }],
        child: vec![ChildRule {
            rule: "toDvipa".to_owned(),
            vpn_action: "tunnel".to_owned(),
            local: vec![TrafficSelector::all_of(AddressRange::single(own))],
            remote: vec![TrafficSelector::all_of(AddressRange::single(dvipa))],
            remote_identity: None,
            initiation: Initiation::Either,
            modes: vec![Mode::Tunnel],
            pfs_initiate: None,
            pfs_accept: vec![None, Some(Group::Curve25519)],
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
