//! The engine: one per stack. It owns all IKE SAs of the stack's home addresses and is driven by a shell.
//!
//! After any `handle_*` call the shell drains [`Engine::poll_event`] and [`Engine::poll_transmit`] until both are empty
//! (events first: an SA should be installed before the peer can use it) and asks [`Engine::poll_timeout`] again.
//!
//! ```text
//!  datagram ─► header ─┬─ IKE_SA_INIT request ─► v2::init::respond ─► a half-open SA
//!                      └─ SA by our SPI ─► v2::receive ─► the SA's state, its open request
//!  command ─► the SA, or a new one           time ─► each SA with a deadline that has come
//! ```

use super::command::{Command, Initiate};
use super::context::{After, Context, Outbox, RuleSet};
use super::crypto::CookieJar;
use super::error::Mistake;
use super::event::{Event, Transmit};
use super::lifetime::retry_after;
use super::rules::{Initiation, Rules, Settings};
use super::selector::narrowed;
use super::table::{Book, SaKey};
use super::timer::Timer;
use super::types::{IkeTunnelId, TunnelId};
use super::v2::established::{IkeStanding, Next};
use super::v2::init::{self, Target};
use super::v2::receive::{Datagram, receive};
use super::v2::sa::{ChildRequest, Exchange, IkeSa, State, Task};
use super::v2::{informational, shown};
use super::view::{ChildView, EngineCounters, IkeView, Role};
use super::wire::payload::Notify;
use super::wire::{ExchangeType, Fault, Header, Message, Parsed, Payload, WireError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long after an SA was made an INITIAL_CONTACT may still have crossed it on the way.
const CROSSING: Duration = Duration::from_secs(30);

/// IKE's port without a NAT.
const IKE_PORT: u16 = 500;

/// What a step works with, borrowed field by field, so that the table of SAs stays free.
macro_rules! context {
    ($engine:ident) => {
        Context {
            now: $engine.now,
            settings: &$engine.settings,
            rules: &$engine.rules,
            rng: &mut *$engine.rng,
            out: &mut $engine.out,
            book: &mut $engine.book,
            after: Vec::new(),
        }
    };
}

/// All IKE SAs of one stack, and what they negotiate.
pub struct Engine {
    settings: Settings,
    rules: RuleSet,
    rng: Box<dyn rand::CryptoRng + Send>,
    now: Instant,
    out: Outbox,
    book: Book,
    cookies: CookieJar,
    sas: BTreeMap<SaKey, Box<IkeSa>>,
    index: BTreeMap<SaKey, Indexed>,
    deadlines: BTreeSet<(Instant, SaKey)>,
    by_endpoints: BTreeMap<(IpAddr, IpAddr), BTreeSet<SaKey>>,
    open: usize,
}

/// Under what an SA stands in the engine's indexes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Indexed {
    deadline: Option<Instant>,
    half_open: Option<(SocketAddr, u64)>,
    endpoints: Option<(IpAddr, IpAddr)>,
}

impl Engine {
    /// An engine without SAs. All randomness (SPIs, nonces, private keys, jitter) comes from `rng`.
    #[must_use]
    pub fn new(settings: Settings, mut rng: impl rand::CryptoRng + Send + 'static, now: Instant) -> Self {
        let cookies = CookieJar::new(now, &mut rng);
        Self {
            settings,
            rules: RuleSet::default(),
            rng: Box::new(rng),
            now,
            out: Outbox::default(),
            book: Book::default(),
            cookies,
            sas: BTreeMap::new(),
            index: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            by_endpoints: BTreeMap::new(),
            open: 0,
        }
    }

    /// Replaces the settings; timers that run keep their deadlines.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Replaces the rules. SAs stay; their next negotiation goes by the new rules.
    pub fn set_rules(&mut self, now: Instant, rules: Rules) {
        self.advance(now);
        self.rules = RuleSet::new(rules);
    }

    /// Takes a datagram that came to `local` from `remote`, the non-ESP marker already removed. `local`'s port is
    /// 500 or 4500.
    pub fn handle_datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, bytes: &[u8]) {
        self.advance(now);
        match Message::parse(bytes) {
            Ok(Parsed::Protected(protected)) => {
                let datagram = Datagram { local, remote, octets: bytes, protected };
                let key = self.by_spi(&protected.header);
                if key.and_then(|key| self.with(key, |sa, ctx| receive(sa, ctx, &datagram))).is_none() {
                    self.unknown(remote);
                }
            }
            Ok(Parsed::Clear(message)) => self.clear(local, remote, &message, bytes),
            Err(error) => self.malformed(local, remote, bytes, &error),
        }
    }

    /// Takes a command of the shell. Its outcome comes as events.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        self.advance(now);
        match command {
            Command::Initiate(initiate) => self.initiate(*initiate),
            Command::RekeyChild(id) => self.rekey_child(id),
            Command::DeleteChild(id) => self.delete_child(id),
            Command::RefreshIke(id) => {
                if let Some(key) = self.newest(id) {
                    self.reauthenticate(key);
                }
            }
            Command::DeleteIke(id) => {
                for key in self.keys(|sa| sa.tunnel == id) {
                    self.delete_ike(key, "deactivated");
                }
            }
            Command::Shutdown => {
                for key in self.keys(|_| true) {
                    self.delete_ike(key, "shutdown");
                    self.with(key, |sa, ctx| {
                        if !matches!(sa.state, State::Closed) {
                            informational::bound_shutdown(sa, ctx);
                        }
                    });
                }
            }
            Command::InboundTraffic { spi_in, idle } => self.inbound_traffic(spi_in, idle),
            Command::SoftLimit { spi_in } => {
                self.with_child(spi_in, |established, sa, _| established.want_rekey(sa, spi_in));
            }
            Command::ChildLost { spi_in } => {
                self.with_child(spi_in, |established, sa, _| {
                    established.want_delete(sa, spi_in, "lost or used up in the stack");
                });
            }
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        // Each SA once: what sets itself a deadline in the past waits for the next call.
        let due: Vec<SaKey> =
            self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect();
        for key in due {
            self.with(key, timeout);
        }
    }

    /// The next datagram to send.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.transmits.pop_front()
    }

    /// The next event to act upon.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// When [`Engine::handle_timeout`] is next due; ask again after any `handle_*` call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// All IKE SAs, by tunnel, the newest SA of a tunnel first.
    #[must_use]
    pub fn ike_tunnels(&self) -> Vec<IkeView> {
        let mut views: Vec<IkeView> = self.sas.values().filter_map(|sa| shown::ike(sa)).collect();
        views.sort_by_key(|view| (view.id, std::cmp::Reverse(view.generation)));
        views
    }

    /// The newest IKE SA of a tunnel.
    #[must_use]
    pub fn ike_tunnel(&self, id: IkeTunnelId) -> Option<IkeView> {
        let of_tunnel = self.sas.values().filter(|sa| sa.tunnel == id);
        of_tunnel.filter_map(|sa| shown::ike(sa)).max_by_key(|view| view.generation)
    }

    /// All child SAs, by tunnel, the newest SA of a tunnel first.
    #[must_use]
    pub fn children(&self) -> Vec<ChildView> {
        let mut views: Vec<ChildView> =
            self.sas.values().flat_map(|sa| shown::children(sa, &self.book)).collect();
        views.sort_by_key(|view| (view.id, std::cmp::Reverse(view.generation)));
        views
    }

    /// The newest child SA of a tunnel.
    #[must_use]
    pub fn child(&self, id: TunnelId) -> Option<ChildView> {
        let all = self.sas.values().flat_map(|sa| shown::children(sa, &self.book));
        all.filter(|view| view.id == id).max_by_key(|view| view.generation)
    }

    /// Counters since the engine's start.
    #[must_use]
    pub fn counters(&self) -> EngineCounters {
        self.out.counters
    }

    /// No IKE SA and nothing left to send: a shutdown is complete.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open == 0 && self.out.transmits.is_empty() && self.out.events.is_empty()
    }
}

/// Datagrams.
impl Engine {
    fn clear(&mut self, local: SocketAddr, remote: SocketAddr, message: &Message, octets: &[u8]) {
        let header = message.header;
        if header.exchange != ExchangeType::IKE_SA_INIT {
            // An unprotected notification about an SA changes nothing (T16).
            let text = match message.payloads.first() {
                Some(Payload::Notify(notify)) => format!("unprotected {}", notify.kind),
                _ => format!("unprotected {}", header.exchange),
            };
            self.out.counters.dropped += 1;
            self.out.notice(self.now, remote, Mistake::Unprotected, &text);
            return;
        }
        match (header.flags.initiator, header.flags.response) {
            (true, false) if header.message_id == 0 && header.spi_r == 0 => {
                self.init_request(local, remote, message, octets);
            }
            (false, true) => {
                let key = self.book.ike_spis.get(&header.spi_i).copied();
                let taken = key.and_then(|key| {
                    self.with(key, |sa, ctx| {
                        if sa.role == Role::Initiator {
                            init::on_response(sa, ctx, message, octets, remote);
                        } else {
                            ctx.out.counters.dropped += 1;
                        }
                    })
                });
                if taken.is_none() {
                    self.unknown(remote);
                }
            }
            // Our own packet back, or flags that contradict each other (T15).
            (true, _) | (false, false) => {
                self.out.counters.dropped += 1;
                self.out.notice(
                    self.now,
                    remote,
                    Mistake::Order,
                    "IKE_SA_INIT with wrong flags or message id",
                );
            }
        }
    }

    fn init_request(&mut self, local: SocketAddr, remote: SocketAddr, message: &Message, octets: &[u8]) {
        if let Some(key) = self.book.half_open.find(remote, message.header.spi_i) {
            self.with(key, |sa, ctx| {
                sa.counters.replays += 1;
                ctx.out.counters.ike.replays += 1;
                if let super::v2::window::Arrival::Repeat(response) = sa.inbound.arrival(0, octets) {
                    let response = response.to_vec();
                    sa.send(ctx, response);
                }
            });
            return;
        }
        let mut ctx = context!(self);
        let made = init::respond(&mut ctx, &mut self.cookies, message, octets, local, remote);
        let after = ctx.after;
        if let Some(sa) = made {
            self.store(sa);
        }
        self.carry_out(after);
    }

    fn malformed(&mut self, local: SocketAddr, remote: SocketAddr, octets: &[u8], error: &WireError) {
        self.out.counters.dropped += 1;
        let version = matches!(error.fault, Fault::MajorVersion(_));
        let mistake = if version { Mistake::Version } else { Mistake::Malformed };
        let said = self.out.notice(self.now, remote, mistake, &error.to_string());
        // One small answer, and only to what could have been a first request (T02, T05).
        let Ok(header) = Header::parse(octets) else { return };
        let first = header.exchange == ExchangeType::IKE_SA_INIT && header.spi_r == 0;
        if said && !header.flags.response && (version || first) {
            let (kind, data) = error.notify();
            let payloads = vec![Payload::Notify(Notify::new(kind, data))];
            let mut ctx = context!(self);
            init::send_unprotected(&mut ctx, header, local, remote, payloads);
        }
    }

    fn unknown(&mut self, remote: SocketAddr) {
        self.out.counters.dropped += 1;
        self.out.notice(self.now, remote, Mistake::UnknownSa, "a message for no IKE SA of ours");
    }

    /// The SA that a protected message names: by our own SPI, which the flag tells (RFC 7296 section 2.6).
    fn by_spi(&self, header: &Header) -> Option<SaKey> {
        let own = if header.flags.initiator { header.spi_r } else { header.spi_i };
        self.book.ike_spis.get(&own).copied()
    }
}

/// Commands.
impl Engine {
    fn initiate(&mut self, initiate: Initiate) {
        let Initiate { local_endpoint, remote_endpoint, .. } = initiate;
        let failed = |reason: String| Event::Failed {
            peer: remote_endpoint,
            rule: Some(initiate.rule.clone()),
            reason,
            acquire: initiate.acquire,
        };
        let Some(rule) = self.rules.child_named(&initiate.rule, &initiate.local, &initiate.remote).cloned()
        else {
            return self.out.events.push_back(failed(format!("no rule {}", initiate.rule)));
        };
        if matches!(rule.initiation, Initiation::RemoteOnly | Initiation::None) {
            let reason = format!("rule {} does not let this side start", rule.rule);
            return self.out.events.push_back(failed(reason));
        }
        let local = narrowed(&rule.local, &initiate.local);
        let remote = narrowed(&rule.remote, &initiate.remote);
        if local.is_empty() || remote.is_empty() {
            let reason = format!("rule {} does not cover what is to be negotiated", rule.rule);
            return self.out.events.push_back(failed(reason));
        }
        let existing = self.usable(local_endpoint, remote_endpoint);
        if let Some(key) = existing
            && self.join(key, &rule.rule, &local, &remote, initiate.acquire)
        {
            return;
        }
        let target = match existing {
            Some(_) => None,
            None => {
                let mut rules = self.rules.exchange(local_endpoint, remote_endpoint);
                let Some(exchange) = rules.find(|rule| rule.initiate).cloned() else {
                    let reason =
                        format!("no KeyExchangeRule lets {local_endpoint} negotiate with {remote_endpoint}");
                    return self.out.events.push_back(failed(reason));
                };
                Some(Target {
                    tunnel: None,
                    rule: exchange,
                    local: SocketAddr::new(local_endpoint, IKE_PORT),
                    remote: SocketAddr::new(remote_endpoint, IKE_PORT),
                })
            }
        };
        let request = Box::new(ChildRequest {
            tunnel: self.book.new_child_tunnel(initiate.method, initiate.local_dyn_vpn_rule),
            group: rule.pfs_initiate,
            rule,
            local,
            remote,
            acquires: initiate.acquire.into_iter().collect(),
            attempts: 0,
        });
        match (existing, target) {
            (Some(key), _) => {
                self.with(key, |sa, ctx| {
                    sa.tasks.push_back(Task::NewChild(request));
                    go_on(sa, ctx);
                });
            }
            (None, Some(target)) => self.connect(target, Some(request), Vec::new(), None),
            (None, None) => {}
        }
    }

    /// Starts an IKE SA.
    fn connect(
        &mut self,
        target: Target,
        child: Option<Box<ChildRequest>>,
        more: Vec<ChildRequest>,
        replaces: Option<SaKey>,
    ) {
        let mut ctx = context!(self);
        let mut sa = init::start(&mut ctx, target, child);
        if matches!(sa.state, State::Closed) {
            for request in more {
                request.fail(sa.remote, &mut ctx, "the IKE SA could not be started");
            }
        } else {
            sa.tasks.extend(more.into_iter().map(|request| Task::NewChild(Box::new(request))));
            sa.replaces = replaces;
        }
        self.store(sa);
    }

    /// An SA that can take one more negotiation: established, or being so.
    fn usable(&self, local: IpAddr, remote: IpAddr) -> Option<SaKey> {
        let keys = self.by_endpoints.get(&(local, remote))?;
        let is_usable = |key: &&SaKey| match self.sas.get(key).map(|sa| &sa.state) {
            Some(State::Established(established)) => established.standing == IkeStanding::Serving,
            Some(State::Connecting) => true,
            Some(State::ExpectAuthRequest(_) | State::Closed) | None => false,
        };
        // One that stands before one that may fail; then the newest.
        let stands =
            |key: &SaKey| matches!(self.sas.get(key).map(|sa| &sa.state), Some(State::Established(_)));
        keys.iter().filter(is_usable).max_by_key(|key| (stands(key), **key)).copied()
    }

    /// Whether the same is being negotiated already; then the acquire waits for that.
    fn join(
        &mut self,
        key: SaKey,
        rule: &str,
        local: &[super::types::TrafficSelector],
        remote: &[super::types::TrafficSelector],
        acquire: Option<u64>,
    ) -> bool {
        let Some(sa) = self.sas.get_mut(&key) else { return false };
        let same = |request: &&mut ChildRequest| {
            request.rule.rule == rule && request.local == local && request.remote == remote
        };
        let open = sa.outbound.open_mut().and_then(|open| match &mut open.exchange {
            Exchange::Init(init) => init.child.as_deref_mut(),
            Exchange::Auth(auth) => auth.child.as_deref_mut(),
            Exchange::NewChild(child) => Some(child.request_mut()),
            _ => None,
        });
        let queued = sa.tasks.iter_mut().filter_map(|task| match task {
            Task::NewChild(request) => Some(&mut **request),
            _ => None,
        });
        match open.into_iter().chain(queued).find(same) {
            Some(request) => {
                request.join(acquire);
                true
            }
            None => false,
        }
    }

    fn rekey_child(&mut self, id: TunnelId) {
        for key in self.keys(|sa| matches!(&sa.state, State::Established(e) if e.newest_of(id).is_some())) {
            self.with(key, |sa, ctx| {
                established(sa, ctx, |established, sa, _| {
                    if let Some(spi) = established.newest_of(id).map(|child| child.spi_in) {
                        established.want_rekey(sa, spi);
                    }
                    Next::Keep
                });
            });
        }
    }

    fn delete_child(&mut self, id: TunnelId) {
        for key in self.keys(|_| true) {
            self.with(key, |sa, ctx| {
                let (gone, kept): (VecDeque<Task>, VecDeque<Task>) = std::mem::take(&mut sa.tasks)
                    .into_iter()
                    .partition(|task| matches!(task, Task::NewChild(request) if request.tunnel == id));
                sa.tasks = kept;
                for task in gone {
                    if let Task::NewChild(request) = task {
                        request.fail(sa.remote, ctx, "deactivated");
                    }
                }
                cancel(sa, ctx, id);
                established(sa, ctx, |established, sa, _| {
                    let of_tunnel = established.children.values().filter(|child| child.tunnel == id);
                    let spis: Vec<u32> = of_tunnel.map(|child| child.spi_in).collect();
                    for spi in spis {
                        established.want_delete(sa, spi, "deactivated");
                    }
                    Next::Keep
                });
            });
        }
    }

    fn delete_ike(&mut self, key: SaKey, reason: &'static str) {
        self.with(key, |sa, ctx| match std::mem::replace(&mut sa.state, State::Closed) {
            State::Established(mut established) => {
                established.want_delete_ike(sa, ctx, reason);
                sa.state = established.settle(sa, ctx, Next::Keep);
            }
            State::Connecting | State::ExpectAuthRequest(_) => sa.state = sa.end(ctx, reason),
            State::Closed => {}
        });
    }

    /// Makes a new IKE SA with authentication and all children of `key`, which goes when that is done. Where this side may
    /// not initiate, the SA is rekeyed instead.
    fn reauthenticate(&mut self, key: SaKey) {
        let Some(sa) = self.sas.get_mut(&key) else { return };
        let State::Established(established) = &sa.state else { return };
        if established.standing != IkeStanding::Serving {
            return;
        }
        let rule = self.rules.current_exchange(&sa.rule);
        if !rule.initiate || established.children.is_empty() {
            self.with(key, |sa, ctx| {
                self::established(sa, ctx, |established, sa, _| {
                    established.want_rekey_ike(sa);
                    Next::Keep
                });
            });
            return;
        }
        if let Some(interval) = rule.reauth_interval {
            // In case that it fails.
            let again = self.now + retry_after(interval / 20, &mut *self.rng);
            sa.timers.set(Timer::Reauth, again);
        }
        let mut requests = Vec::new();
        let mut tunnels = BTreeSet::new();
        for child in established.children.values() {
            if !tunnels.insert(child.tunnel) {
                continue;
            }
            self.book.enter_child(child.tunnel);
            let rule = self.rules.current_child(&child.terms);
            requests.push(ChildRequest {
                tunnel: child.tunnel,
                group: rule.pfs_initiate,
                rule,
                local: child.terms.local.clone(),
                remote: child.terms.remote.clone(),
                acquires: Vec::new(),
                attempts: 0,
            });
        }
        let target = Target { tunnel: Some(sa.tunnel), rule, local: sa.local, remote: sa.remote };
        let more = requests.split_off(1);
        self.connect(target, requests.pop().map(Box::new), more, Some(key));
        self.index_deadline(key);
    }

    fn inbound_traffic(&mut self, spi_in: u32, idle: Duration) {
        let now = self.now;
        self.with_child(spi_in, |established, _, ctx| {
            let Some(at) = now.checked_sub(idle) else { return };
            established.heard = established.heard.max(at);
            // The peer sends on the new SA of a rekey: it has it, and so may we (RFC 7296 section 2.8).
            if established.children.get(&spi_in).is_some_and(|child| child.installed <= at) {
                established.activate(ctx, spi_in);
            }
        });
    }

    fn with_child(
        &mut self,
        spi_in: u32,
        act: impl FnOnce(&mut super::v2::established::Established, &mut IkeSa, &mut Context<'_>),
    ) {
        if let Some(key) = self.book.child_spis.get(&spi_in).copied() {
            self.with(key, |sa, ctx| {
                established(sa, ctx, |established, sa, ctx| {
                    act(established, sa, ctx);
                    Next::Keep
                });
            });
        }
    }

    fn newest(&self, id: IkeTunnelId) -> Option<SaKey> {
        let serves = |sa: &&IkeSa| {
            sa.tunnel == id
                && matches!(&sa.state, State::Established(e) if e.standing == IkeStanding::Serving)
        };
        self.sas.values().map(|sa| &**sa).filter(serves).max_by_key(|sa| sa.generation).map(|sa| sa.key)
    }

    fn keys(&self, choose: impl Fn(&IkeSa) -> bool) -> Vec<SaKey> {
        self.sas.values().filter(|sa| choose(sa)).map(|sa| sa.key).collect()
    }
}

/// The table.
impl Engine {
    fn advance(&mut self, now: Instant) {
        // Time goes forward only, whatever a caller's clock says (T22).
        self.now = self.now.max(now);
    }

    /// Takes a step with an SA, and what follows from it for others. `None` if there is no such SA.
    fn with<R>(&mut self, key: SaKey, step: impl FnOnce(&mut IkeSa, &mut Context<'_>) -> R) -> Option<R> {
        let mut sa = self.sas.remove(&key)?;
        if !matches!(sa.state, State::Closed) {
            self.open -= 1;
        }
        let mut ctx = context!(self);
        let result = step(&mut sa, &mut ctx);
        let after = ctx.after;
        self.store(sa);
        self.carry_out(after);
        Some(result)
    }

    fn carry_out(&mut self, after: Vec<After>) {
        for after in after {
            match after {
                After::Adopt(sa) => {
                    let key = sa.key;
                    self.store(sa);
                    self.with(key, go_on);
                }
                After::Inherit { to, children, tasks, replaces } => {
                    self.inherit(to, children, tasks, replaces);
                }
                After::Activate(spi_in) => {
                    self.with_child(spi_in, |established, _, ctx| established.activate(ctx, spi_in));
                }
                After::Retire(key, reason) => {
                    self.with(key, |sa, ctx| {
                        established(sa, ctx, |established, sa, ctx| {
                            established.want_orderly_delete_ike(sa, ctx, reason);
                            Next::Keep
                        });
                    });
                }
                After::Reauthenticate(key) => self.reauthenticate(key),
                After::Delete(key, reason) => self.delete_ike(key, reason),
                After::Forget(key, reason) => self.forget(key, reason),
            }
        }
    }

    /// The peer says that it has this SA no longer. Where both ends have started at once it may have made it only after
    /// it said so: then it is told.
    fn forget(&mut self, key: SaKey, reason: &'static str) {
        let young = |since: Instant| self.now.saturating_duration_since(since) < CROSSING;
        let crossed =
            matches!(self.sas.get(&key).map(|sa| &sa.state), Some(State::Established(e)) if young(e.since));
        if crossed {
            return self.delete_ike(key, reason);
        }
        self.with(key, |sa, ctx| {
            established(sa, ctx, |_, _, _| Next::End(reason.to_owned()));
        });
    }

    fn inherit(
        &mut self,
        to: SaKey,
        children: BTreeMap<u32, super::v2::child::Child>,
        tasks: Vec<Task>,
        replaces: Option<SaKey>,
    ) {
        let serves = self.sas.get(&to).is_some_and(|sa| matches!(sa.state, State::Established(_)));
        if serves {
            self.with(to, |sa, ctx| {
                sa.replaces = sa.replaces.take().or(replaces);
                established(sa, ctx, |established, sa, ctx| {
                    established.inherit(sa, ctx, children, tasks);
                    Next::Keep
                });
            });
            return;
        }
        // The successor ended before it could take them: the peer has none of them either.
        let mut ctx = context!(self);
        let reason = "the IKE SA that took its place is gone";
        for child in children.into_values() {
            super::v2::child::remove(&child, &mut ctx, reason);
        }
        for task in tasks {
            if let Task::NewChild(request) = task {
                let peer = SocketAddr::new(IpAddr::from([0; 4]), 0);
                request.fail(peer, &mut ctx, reason);
            }
        }
    }

    fn store(&mut self, sa: Box<IkeSa>) {
        let key = sa.key;
        let before = self.index.get(&key).copied().unwrap_or_default();
        if let Some((remote, spi_i)) = before.half_open
            && !sa.is_half_open()
        {
            self.book.half_open.leave(remote, spi_i);
        }
        if sa.is_gone() {
            self.book.ike_spis.remove(&sa.own_spi());
            self.unindex(key, before);
            return;
        }
        let closed = matches!(sa.state, State::Closed);
        let half_open = match &sa.state {
            State::ExpectAuthRequest(expect) => Some((expect.came_from, sa.spi_i)),
            State::Connecting | State::Established(_) | State::Closed => None,
        };
        let endpoints = (!closed).then_some((sa.local.ip(), sa.remote.ip()));
        let now = Indexed { deadline: sa.next_deadline(), half_open, endpoints };
        self.reindex(key, before, now);
        if !closed {
            self.open += 1;
        }
        self.sas.insert(key, sa);
    }

    fn index_deadline(&mut self, key: SaKey) {
        let Some(sa) = self.sas.get(&key) else { return };
        let before = self.index.get(&key).copied().unwrap_or_default();
        let now = Indexed { deadline: sa.next_deadline(), ..before };
        self.reindex(key, before, now);
    }

    fn unindex(&mut self, key: SaKey, before: Indexed) {
        self.reindex(key, before, Indexed::default());
        self.index.remove(&key);
    }

    fn reindex(&mut self, key: SaKey, before: Indexed, now: Indexed) {
        if before.deadline != now.deadline {
            if let Some(at) = before.deadline {
                self.deadlines.remove(&(at, key));
            }
            if let Some(at) = now.deadline {
                self.deadlines.insert((at, key));
            }
        }
        if before.endpoints != now.endpoints {
            if let Some(endpoints) = before.endpoints
                && let Some(keys) = self.by_endpoints.get_mut(&endpoints)
            {
                keys.remove(&key);
                if keys.is_empty() {
                    self.by_endpoints.remove(&endpoints);
                }
            }
            if let Some(endpoints) = now.endpoints {
                self.by_endpoints.entry(endpoints).or_default().insert(key);
            }
        }
        self.index.insert(key, now);
    }
}

/// Acts on an established SA, and starts what can be started then.
fn established(
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    act: impl FnOnce(&mut super::v2::established::Established, &mut IkeSa, &mut Context<'_>) -> Next,
) {
    match std::mem::replace(&mut sa.state, State::Closed) {
        State::Established(mut established) => {
            let next = act(&mut established, sa, ctx);
            sa.state = established.settle(sa, ctx, next);
        }
        other @ (State::Connecting | State::ExpectAuthRequest(_) | State::Closed) => sa.state = other,
    }
}

fn go_on(sa: &mut IkeSa, ctx: &mut Context<'_>) {
    established(sa, ctx, |_, _, _| Next::Keep);
}

/// A child that is being asked for is deleted as soon as it is made.
fn cancel(sa: &mut IkeSa, ctx: &mut Context<'_>, id: TunnelId) {
    let alone = match sa.outbound.open_mut().map(|open| &mut open.exchange) {
        Some(Exchange::NewChild(child)) if child.request().tunnel == id => {
            child.unwanted = true;
            false
        }
        Some(Exchange::Init(init)) => init.child.as_ref().is_some_and(|child| child.tunnel == id),
        Some(Exchange::Auth(auth)) => auth.child.as_ref().is_some_and(|child| child.tunnel == id),
        _ => false,
    };
    if alone {
        // Nothing else was wanted of this SA, or it starts again for the rest.
        sa.state = sa.end(ctx, "deactivated");
    }
}

fn timeout(sa: &mut IkeSa, ctx: &mut Context<'_>) {
    match std::mem::replace(&mut sa.state, State::Closed) {
        State::Established(mut established) => {
            let next = established.on_timeout(sa, ctx);
            sa.state = established.settle(sa, ctx, next);
        }
        State::Connecting => {
            sa.state = State::Connecting;
            if sa.timers.expired(Timer::Keepalive, ctx.now) {
                sa.keepalive(ctx);
            }
            let lingers = sa.timers.expired(Timer::Linger, ctx.now);
            let silent = sa.timers.expired(Timer::Retransmit, ctx.now) && !sa.retransmit(ctx);
            if silent || lingers {
                let reason = match sa.outbound.open().map(|open| &open.exchange) {
                    Some(Exchange::Init(expect)) => expect.given_up(),
                    _ => format!("peer {} does not answer IKE_AUTH", sa.remote),
                };
                sa.state = sa.fail(ctx, &reason);
            }
        }
        State::ExpectAuthRequest(expect) => {
            sa.state = State::ExpectAuthRequest(expect);
            sa.timers.stop(Timer::Keepalive);
            if sa.timers.expired(Timer::Linger, ctx.now) {
                ctx.out.counters.remote_failure += 1;
                sa.state = sa.end(ctx, "peer has not authenticated in time");
                // Nobody waits for a repeat of an answer to IKE_SA_INIT.
                sa.timers.stop(Timer::Linger);
            }
        }
        State::Closed => {
            sa.timers.expired(Timer::Linger, ctx.now);
        }
    }
}
