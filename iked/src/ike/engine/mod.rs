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

use super::command::Command;
use super::context::{Context, Outbox, RuleSet};
use super::crypto::CookieJar;
use super::event::{Event, Transmit};
use super::failure::{Failure, FailureKind};
use super::rules::{Rules, Settings};
use super::table::{Book, SaKey};
use super::timer::Timer;
use super::types::{IkeTunnelId, TunnelId};
use super::v2::established::{Established, Next};
use super::v2::receive::{Datagram, receive};
use super::v2::sa::{Exchange, IkeSa, State};
use super::v2::{informational, shown};
use super::view::{self, Census, ChildView, EngineCounters, IkeView};
use super::wire::{Message, Parsed};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// What a step works with, borrowed field by field, so that the table of SAs stays free.
macro_rules! context {
    ($engine:ident) => {
        Context {
            now: $engine.now,
            clock: $engine.clock,
            settings: &$engine.settings,
            rules: &$engine.rules,
            rng: &mut *$engine.rng,
            out: &mut $engine.out,
            book: &mut $engine.book,
            after: Vec::new(),
        }
    };
}

mod commands;
mod datagrams;
mod index;
mod renegotiate;
mod restore;

use renegotiate::Renegotiation;

/// Where [`Engine::show`] goes on.
#[derive(Debug, Clone, Copy)]
pub struct NextSa(SaKey);

/// All IKE SAs of one stack, and what they negotiate.
pub struct Engine {
    settings: Settings,
    rules: RuleSet,
    rng: Box<dyn rand::CryptoRng + Send>,
    now: Instant,
    clock: (Instant, u64),
    out: Outbox,
    book: Book,
    cookies: CookieJar,
    sas: BTreeMap<SaKey, Box<IkeSa>>,
    index: BTreeMap<SaKey, Indexed>,
    deadlines: BTreeSet<(Instant, SaKey)>,
    by_endpoints: BTreeMap<(IpAddr, IpAddr), BTreeSet<SaKey>>,
    open: usize,
    renegotiation: Renegotiation,
    /// SAs taken up from another process whose requests still have to go out.
    resuming: VecDeque<SaKey>,
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
            clock: (now, 0),
            out: Outbox::default(),
            book: Book::default(),
            cookies,
            sas: BTreeMap::new(),
            index: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            by_endpoints: BTreeMap::new(),
            open: 0,
            renegotiation: Renegotiation::default(),
            resuming: VecDeque::new(),
        }
    }

    /// Replaces the settings; timers that run keep their deadlines.
    pub fn set_settings(&mut self, settings: Settings) {
        self.out.release_others(&settings.continued);
        let more = settings.continued.keys().any(|local| !self.settings.continued.contains_key(local));
        self.settings = settings;
        if more {
            self.renew_unkept();
        }
        self.out.tell_changes();
    }

    /// Says the time of day, in seconds since 1970; it goes on from there until it is said again. Certificates of peers
    /// are seen by it.
    pub fn set_clock(&mut self, now: Instant, unix: u64) {
        self.clock = (now, unix);
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
        self.finish();
    }

    /// Takes a command of the shell. Its outcome comes as events.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        self.advance(now);
        match command {
            Command::Initiate(initiate) => self.initiate(*initiate, None),
            Command::Renegotiate(items) => self.renegotiate(items),
            Command::Restore(restore) => self.restore(*restore),
            Command::Stored(ticket) => self.out.release(ticket),
            Command::Forget(id) => self.forget_tunnel(id),
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
        self.finish();
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
        self.resume_some();
        self.finish();
    }

    /// What follows from all that a call has done.
    fn finish(&mut self) {
        self.go_on_renegotiating();
        self.out.tell_changes();
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
        if !self.resuming.is_empty() {
            return Some(self.now);
        }
        let sas = self.deadlines.first().map(|(at, _)| *at);
        [sas, self.renegotiation.next()].into_iter().flatten().min()
    }

    /// All IKE SAs, by tunnel, the newest SA of a tunnel first.
    #[must_use]
    pub fn ike_tunnels(&self) -> Vec<IkeView> {
        let mut views: Vec<IkeView> = self.sas.values().filter_map(|sa| shown::ike(sa)).collect();
        view::order_ike(&mut views);
        views
    }

    /// Shows some of the IKE SAs with their children: from a place on (`None`: from the beginning) until there are `most` views
    /// more, in no order that counts. Gives the place to go on at; what comes or goes meanwhile is shown or is not.
    pub fn show(
        &self,
        from: Option<NextSa>,
        most: usize,
        ike: &mut Vec<IkeView>,
        children: &mut Vec<ChildView>,
    ) -> Option<NextSa> {
        let enough = ike.len() + children.len() + most;
        let from = from.map_or(SaKey(0), |next| next.0);
        for (key, sa) in self.sas.range(from..) {
            if ike.len() + children.len() >= enough {
                return Some(NextSa(*key));
            }
            ike.extend(shown::ike(sa));
            children.extend(shown::children(sa, &self.book));
        }
        None
    }

    /// The newest IKE SA of a tunnel.
    #[must_use]
    pub fn ike_tunnel(&self, id: IkeTunnelId) -> Option<IkeView> {
        let newest = self.book.newest_ike(id).and_then(|key| self.sas.get(&key));
        if let Some(view) = newest.and_then(|sa| shown::ike(sa)) {
            return Some(view);
        }
        // It has failed while the one before lives on.
        let of_tunnel = self.sas.values().filter(|sa| sa.tunnel == id);
        of_tunnel.filter_map(|sa| shown::ike(sa)).max_by_key(|view| view.generation)
    }

    /// All child SAs, by tunnel, the newest SA of a tunnel first.
    #[must_use]
    pub fn children(&self) -> Vec<ChildView> {
        let mut views: Vec<ChildView> =
            self.sas.values().flat_map(|sa| shown::children(sa, &self.book)).collect();
        view::order_children(&mut views);
        views
    }

    /// The newest child SA of a tunnel.
    #[must_use]
    pub fn child(&self, id: TunnelId) -> Option<ChildView> {
        let newest = |sa: &IkeSa| {
            let views = shown::children(sa, &self.book).into_iter().filter(|view| view.id == id);
            views.max_by_key(|view| view.generation)
        };
        let at = self.book.child_tunnel(id)?.at.and_then(|key| self.sas.get(&key));
        // Otherwise the IKE SA that had it has failed, while the one before lives on.
        at.and_then(|sa| newest(sa)).or_else(|| self.sas.values().filter_map(|sa| newest(sa)).next())
    }

    /// How many SAs there are; no more than the views of one IKE SA exist at a time.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for sa in self.sas.values() {
            shown::count(sa, &self.book, &mut census);
        }
        census
    }

    /// Counters since the engine's start.
    #[must_use]
    pub fn counters(&self) -> EngineCounters {
        self.out.counters
    }

    /// No IKE SA and nothing left to send: a shutdown is complete.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let said = self.out.transmits.is_empty() && self.out.events.is_empty() && !self.out.holds_any();
        self.open == 0 && said
    }
}

/// Acts on an established SA, and starts what can be started then.
fn established(
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    act: impl FnOnce(&mut Established, &mut IkeSa, &mut Context<'_>) -> Next,
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
                    _ => {
                        let text = format!("peer {} does not answer IKE_AUTH", sa.remote);
                        Failure::new(FailureKind::Timeout, text)
                    }
                };
                sa.state = sa.fail(ctx, &reason);
            }
        }
        State::ExpectAuthRequest(expect) => {
            sa.state = State::ExpectAuthRequest(expect);
            sa.timers.stop(Timer::Keepalive);
            if sa.timers.expired(Timer::Linger, ctx.now) {
                ctx.out.counters.remote_failure += 1;
                let unauthenticated =
                    Failure::new(FailureKind::Timeout, "peer has not authenticated in time");
                sa.state = sa.end(ctx, &unauthenticated);
                // Nobody waits for a repeat of an answer to IKE_SA_INIT.
                sa.timers.stop(Timer::Linger);
            }
        }
        State::Closed => {
            sa.timers.expired(Timer::Linger, ctx.now);
        }
    }
}

/// An authenticated peer that sends what it likes.
#[cfg(test)]
impl Engine {
    fn any_established<R>(
        &mut self,
        act: impl FnOnce(&IkeSa, &mut Established, &mut dyn rand::CryptoRng) -> R,
    ) -> R {
        for sa in self.sas.values_mut() {
            if let State::Established(mut established) = std::mem::replace(&mut sa.state, State::Closed) {
                let result = act(sa, &mut established, &mut *self.rng);
                sa.state = State::Established(established);
                return result;
            }
        }
        panic!("no established IKE SA");
    }

    /// Its IKE SA has come so far in both directions.
    pub(crate) fn set_message_ids(&mut self, id: u32) {
        for sa in self.sas.values_mut() {
            sa.outbound = super::v2::window::Outbound::new(id);
            sa.inbound = super::v2::window::Inbound::new(id);
        }
    }

    /// A request of its IKE SA with any id and payloads.
    pub(crate) fn craft(
        &mut self,
        exchange: super::wire::ExchangeType,
        id: u32,
        payloads: Vec<super::wire::Payload>,
    ) -> Vec<u8> {
        self.any_established(|sa, established, rng| {
            let message = Message::new(sa.header(exchange, false, id), payloads);
            established.sealer.seal(&message, rng).unwrap()
        })
    }

    /// The content of the peer's message.
    pub(crate) fn open(&mut self, octets: &[u8]) -> Message {
        let Ok(Parsed::Protected(protected)) = Message::parse(octets) else { panic!("not protected") };
        self.any_established(|_, established, _| established.opener.open(octets, &protected).unwrap())
    }
}
