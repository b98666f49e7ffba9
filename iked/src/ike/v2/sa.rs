//! An IKE SA: who its ends are, which state it is in, and what it still has to do.
//!
//! ```text
//!  initiator:  Connecting(open request: Init → Auth) ─┐
//!                                                     ├─► Established ─► Closed
//!  responder:  ExpectAuthRequest ─────────────────────┘
//! ```
//!
//! A state holds exactly what is known in it; an open request ([`Exchange`]) holds what its answer is checked against.

use super::auth::{ExpectAuthRequest, ExpectAuthResponse};
use super::create_child::ExpectChild;
use super::established::Established;
use super::fragments::Fragments;
use super::informational::{ExpectChildDelete, ExpectIkeDelete};
use super::init::ExpectInitResponse;
use super::rekey::ExpectChildRekey;
use super::rekey_ike::ExpectIkeRekey;
use super::window::{Inbound, Outbound};
use crate::ike::context::{Context, Verdict};
use crate::ike::event::{Event, Payload as SendPayload, Transmit};
use crate::ike::failure::Failure;
use crate::ike::rules::{ChildRule, ExchangeRule};
use crate::ike::table::SaKey;
use crate::ike::timer::{Backoff, Timer, TimerTable};
use crate::ike::types::{Group, Identity, IkeTunnelId, StoreTicket, TrafficSelector, TunnelId};
use crate::ike::view::{IkeCounters, Role};
use crate::ike::wire::{AuthMethod, ExchangeType, Flags, Header};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a closed SA still answers repeats of the last request that it answered.
const LINGER: Duration = Duration::from_secs(30);

/// Acquires of the stack that one negotiation answers for.
const ACQUIRES: usize = 16;

/// An IKE SA.
#[derive(Debug)]
pub(crate) struct IkeSa {
    /// Its number.
    pub(crate) key: SaKey,
    /// Its tunnel.
    pub(crate) tunnel: IkeTunnelId,
    /// Its place in the tunnel, from 1.
    pub(crate) generation: u32,
    /// Who was the original initiator (RFC 7296 section 3.1, flag I).
    pub(crate) role: Role,
    /// Initiator's SPI.
    pub(crate) spi_i: u64,
    /// Responder's SPI, 0 while unknown.
    pub(crate) spi_r: u64,
    /// Own address and port.
    pub(crate) local: SocketAddr,
    /// The peer's.
    pub(crate) remote: SocketAddr,
    /// NATs on the way.
    pub(crate) nat: NatPath,
    /// KeyExchangeRule; tentative until the peer's identity is known.
    pub(crate) rule: Arc<ExchangeRule>,
    /// How this side and the peer proved who they are, as far as it is known.
    pub(crate) proofs: Option<(AuthMethod, AuthMethod)>,
    /// Counters.
    pub(crate) counters: IkeCounters,
    /// Deadlines.
    pub(crate) timers: TimerTable,
    /// The peer's requests.
    pub(crate) inbound: Inbound,
    /// Messages of the peer that come in fragments.
    pub(crate) fragments: Fragments,
    /// Our requests.
    pub(crate) outbound: Outbound<Exchange>,
    /// What is to be done as soon as no request is open.
    pub(crate) tasks: VecDeque<Task>,
    /// Messages that wait until they are stored.
    pub(crate) held: Held,
    /// The SA whose place this one takes when its children are made (re-authentication).
    pub(crate) replaces: Option<SaKey>,
    /// State.
    pub(crate) state: State,
}

/// The tickets with which the last request and the last answer were held back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Held {
    request: Option<StoreTicket>,
    answer: Option<StoreTicket>,
}

/// NATs between the peers (RFC 7296 section 2.23).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct NatPath {
    /// In front of this side.
    pub(crate) local: bool,
    /// In front of the peer.
    pub(crate) remote: bool,
    /// There need be none: encapsulation is wanted anyway.
    pub(crate) forced: bool,
}

impl NatPath {
    /// Whether ESP goes in UDP.
    pub(crate) const fn encapsulate(self) -> bool {
        self.local || self.remote || self.forced
    }
}

/// State of an IKE SA.
#[derive(Debug)]
pub(crate) enum State {
    /// As initiator: the open request says how far.
    Connecting,
    /// As responder: IKE_SA_INIT is answered.
    ExpectAuthRequest(Box<ExpectAuthRequest>),
    /// Authenticated.
    Established(Box<Established>),
    /// Gone; answers repeats for a while.
    Closed,
}

/// An open request of ours.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// IKE_SA_INIT.
    Init(Box<ExpectInitResponse>),
    /// IKE_AUTH.
    Auth(Box<ExpectAuthResponse>),
    /// CREATE_CHILD_SA for a new child.
    NewChild(Box<ExpectChild>),
    /// CREATE_CHILD_SA for a child in place of another.
    RekeyChild(Box<ExpectChildRekey>),
    /// CREATE_CHILD_SA for an IKE SA in place of this one.
    RekeyIke(Box<ExpectIkeRekey>),
    /// INFORMATIONAL with the Delete of a child.
    DeleteChild(ExpectChildDelete),
    /// INFORMATIONAL with the Delete of this SA.
    DeleteIke(ExpectIkeDelete),
    /// Empty INFORMATIONAL.
    Liveness,
}

impl Exchange {
    /// The exchange type that the answer must have.
    pub(crate) const fn kind(&self) -> ExchangeType {
        match self {
            Self::Init(_) => ExchangeType::IKE_SA_INIT,
            Self::Auth(_) => ExchangeType::IKE_AUTH,
            Self::NewChild(_) | Self::RekeyChild(_) | Self::RekeyIke(_) => ExchangeType::CREATE_CHILD_SA,
            Self::DeleteChild(_) | Self::DeleteIke(_) | Self::Liveness => ExchangeType::INFORMATIONAL,
        }
    }
}

/// SPIs of Deletes that are kept beside an open request.
const EARLY_DELETES: usize = 16;

impl Exchange {
    /// Whether its answer can bring a child.
    pub(crate) const fn makes_child(&self) -> bool {
        matches!(self, Self::NewChild(_) | Self::RekeyChild(_))
    }

    /// The peer deletes a child that is not there: it may be the one that the answer under way makes.
    pub(crate) fn deleted_early(&mut self, spi_out: u32) {
        let deleted = match self {
            Self::NewChild(child) => &mut child.deleted,
            Self::RekeyChild(rekey) => &mut rekey.deleted,
            Self::Init(_)
            | Self::Auth(_)
            | Self::RekeyIke(_)
            | Self::DeleteChild(_)
            | Self::DeleteIke(_)
            | Self::Liveness => return,
        };
        if deleted.len() < EARLY_DELETES {
            deleted.push(spi_out);
        }
    }
}

/// Something to do when no request is open.
#[derive(Debug)]
pub(crate) enum Task {
    /// Negotiate a child.
    NewChild(Box<ChildRequest>),
    /// Replace a child, by its inbound SPI.
    RekeyChild(u32),
    /// Delete a child, by its inbound SPI; why.
    DeleteChild(u32, &'static str),
    /// Delete a child that the peer made and this side never installed, by its inbound SPI.
    Disown(u32),
    /// Replace this SA.
    RekeyIke,
    /// Delete this SA; why.
    DeleteIke(&'static str),
    /// Ask whether the peer lives.
    Liveness,
}

/// A child to negotiate.
#[derive(Debug)]
pub(crate) struct ChildRequest {
    /// Its tunnel, of which this request is a user.
    pub(crate) tunnel: TunnelId,
    /// Its rule.
    pub(crate) rule: Arc<ChildRule>,
    /// Selectors of this side.
    pub(crate) local: Vec<TrafficSelector>,
    /// Selectors of the peer's side.
    pub(crate) remote: Vec<TrafficSelector>,
    /// The stack's acquires that wait for it.
    pub(crate) acquires: Vec<u64>,
    /// Group for a fresh key exchange.
    pub(crate) group: Option<Group>,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// Items of a renegotiation that wait for it.
    pub(crate) items: Vec<u64>,
    /// The peer has refused it.
    pub(crate) refused: bool,
    /// An IKE SA that is made for it may be the only one between its identities.
    pub(crate) initial_contact: bool,
    /// Who the peer was before a takeover; its rule may be for many.
    pub(crate) peer: Option<Identity>,
}

impl ChildRequest {
    /// One more acquire or item waits for it.
    pub(crate) fn join(&mut self, acquire: Option<u64>, item: Option<u64>) {
        self.items.extend(item);
        if self.acquires.len() < ACQUIRES {
            self.acquires.extend(acquire.filter(|id| !self.acquires.contains(id)));
        }
    }

    /// It is made.
    pub(crate) fn made(&self, ctx: &mut Context<'_>) {
        for item in &self.items {
            ctx.out.verdicts.push_back((*item, Verdict::Made(self.tunnel)));
        }
        leave_child(self.tunnel, ctx, "");
    }

    /// It came to nothing: tells the shell, and the tunnel loses a user.
    pub(crate) fn fail(self, peer: SocketAddr, ctx: &mut Context<'_>, reason: &Failure) {
        let failed = |acquire| Event::Failed {
            peer: peer.ip(),
            rule: Some(self.rule.rule.clone()),
            reason: reason.clone(),
            acquire,
        };
        if self.acquires.is_empty() && self.items.is_empty() {
            ctx.out.events.push_back(failed(None));
        }
        for item in &self.items {
            let reason = reason.text.clone();
            let verdict = if self.refused { Verdict::Refused(reason) } else { Verdict::Silent(reason) };
            ctx.out.verdicts.push_back((*item, verdict));
        }
        for acquire in &self.acquires {
            ctx.out.events.push_back(failed(Some(*acquire)));
        }
        leave_child(self.tunnel, ctx, &reason.text);
    }
}

/// A user of a dynamic tunnel is gone; says so when it was the last.
pub(crate) fn leave_child(tunnel: TunnelId, ctx: &mut Context<'_>, reason: &str) {
    if ctx.book.leave_child(tunnel) {
        ctx.out.events.push_back(Event::ChildDown { id: tunnel, reason: reason.to_owned() });
    }
}

impl IkeSa {
    /// Our own SPI.
    pub(crate) const fn own_spi(&self) -> u64 {
        match self.role {
            Role::Initiator => self.spi_i,
            Role::Responder => self.spi_r,
        }
    }

    /// A header for a message of ours.
    pub(crate) const fn header(&self, exchange: ExchangeType, response: bool, id: u32) -> Header {
        let flags = Flags { initiator: matches!(self.role, Role::Initiator), version: false, response };
        Header::new(self.spi_i, self.spi_r, exchange, flags, id)
    }

    /// Whether it is half open as responder.
    pub(crate) const fn is_half_open(&self) -> bool {
        matches!(self.state, State::ExpectAuthRequest(_))
    }

    /// Whether this side itself asks, or is about to ask, for a child of this tunnel here.
    pub(crate) fn awaits_child_of(&self, tunnel: TunnelId) -> bool {
        let asked = match self.outbound.open().map(|open| &open.exchange) {
            Some(Exchange::NewChild(child)) => child.request().tunnel == tunnel,
            _ => false,
        };
        asked
            || self
                .tasks
                .iter()
                .any(|task| matches!(task, Task::NewChild(request) if request.tunnel == tunnel))
    }

    /// Whether nothing of it is left.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.state, State::Closed) && self.timers.at(Timer::Linger).is_none()
    }

    /// When it has to be looked at next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let children = match &self.state {
            State::Established(established) => established.next_child_deadline(),
            State::Connecting | State::ExpectAuthRequest(_) | State::Closed => None,
        };
        [self.timers.next(), children].into_iter().flatten().min()
    }

    /// Sends octets to the peer.
    pub(crate) fn send(&self, ctx: &mut Context<'_>, message: Vec<u8>) {
        ctx.out.send(self.local, self.remote, message);
    }

    /// Sends a message of an established SA for the first time: if the SA outlives this process, once it is stored. An
    /// SA that goes on elsewhere then repeats it octet by octet and never gives its id or its IV to another one.
    fn send_stored(&self, ctx: &mut Context<'_>, message: Vec<u8>) -> Option<StoreTicket> {
        if !ctx.is_continued(self.local.ip()) {
            self.send(ctx, message);
            return None;
        }
        let transmit =
            Transmit { local: self.local, remote: self.remote, payload: SendPayload::Message(message) };
        Some(ctx.out.hold(self.tunnel, transmit))
    }

    /// The state that outlives this process has changed.
    pub(crate) fn changed(&self, ctx: &mut Context<'_>) {
        if ctx.is_continued(self.local.ip()) {
            ctx.out.change(self.tunnel);
        }
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn open_request(&mut self, ctx: &mut Context<'_>, message: Vec<u8>, exchange: Exchange) {
        let backoff = Backoff::new(ctx.settings.retransmit_initial, ctx.settings.retransmit_tries);
        self.held.request = None;
        if matches!(exchange, Exchange::Init(_) | Exchange::Auth(_)) {
            self.send(ctx, message.clone());
        } else {
            self.held.request = self.send_stored(ctx, message.clone());
        }
        self.restart_keepalive(ctx);
        let wait = self.outbound.sent(message, backoff, exchange);
        self.timers.set(Timer::Retransmit, ctx.now + wait);
    }

    /// Answers the request `octets`, which was the expected one, while the SA is not established.
    pub(crate) fn answer(&mut self, ctx: &mut Context<'_>, octets: &[u8], response: Vec<u8>) {
        self.send(ctx, response.clone());
        self.restart_keepalive(ctx);
        self.inbound.answered(octets, response);
    }

    /// As [`Self::answer`], of an established SA.
    pub(crate) fn answer_stored(&mut self, ctx: &mut Context<'_>, octets: &[u8], response: Vec<u8>) {
        self.held.answer = self.send_stored(ctx, response.clone());
        self.restart_keepalive(ctx);
        self.inbound.answered(octets, response);
    }

    /// Sends the answer to a repeated request again, unless it still waits to be sent at all.
    pub(crate) fn answer_again(&self, ctx: &mut Context<'_>, response: Vec<u8>) {
        if !self.held.answer.is_some_and(|ticket| ctx.out.is_held(ticket)) {
            self.send(ctx, response);
        }
    }

    /// The answer to the open request has come.
    pub(crate) fn close_request(&mut self) -> Option<Exchange> {
        self.timers.stop(Timer::Retransmit);
        self.outbound.close().map(|open| open.exchange)
    }

    /// The retransmission timer fired. False when the peer is to be given up.
    pub(crate) fn retransmit(&mut self, ctx: &mut Context<'_>) -> bool {
        let Some(open) = self.outbound.open_mut() else { return true };
        if self.held.request.is_some_and(|ticket| ctx.out.is_held(ticket)) {
            // It was not sent yet: the peer cannot be blamed.
            self.timers.set(Timer::Retransmit, ctx.now + open.backoff.wait());
            return true;
        }
        let Some(wait) = open.backoff.again() else { return false };
        let message = open.message.clone();
        if matches!(open.exchange, Exchange::Init(_) | Exchange::Auth(_)) {
            self.counters.retransmits += 1;
            ctx.out.counters.ike.retransmits += 1;
        } else {
            self.counters.child_retransmits += 1;
            ctx.out.counters.ike.child_retransmits += 1;
        }
        self.send(ctx, message);
        self.timers.set(Timer::Retransmit, ctx.now + wait);
        true
    }

    /// Starts the wait for the next NAT keepalive: sent by the side behind the NAT only (RFC 3948 section 4).
    pub(crate) fn restart_keepalive(&mut self, ctx: &Context<'_>) {
        if self.nat.local && !ctx.settings.nat_keepalive.is_zero() {
            self.timers.set(Timer::Keepalive, ctx.now + ctx.settings.nat_keepalive);
        } else {
            self.timers.stop(Timer::Keepalive);
        }
    }

    /// Sends a NAT keepalive.
    pub(crate) fn keepalive(&mut self, ctx: &mut Context<'_>) {
        let transmit =
            Transmit { local: self.local, remote: self.remote, payload: SendPayload::NatKeepalive };
        ctx.out.transmits.push_back(transmit);
        self.restart_keepalive(ctx);
    }

    /// The open request comes to nothing.
    pub(crate) fn fail_open(&mut self, ctx: &mut Context<'_>, reason: &Failure) {
        let waiting = match self.close_request() {
            Some(Exchange::Init(init)) => init.child,
            Some(Exchange::Auth(auth)) => auth.child,
            Some(Exchange::NewChild(child)) => Some(child.into_request()),
            Some(Exchange::RekeyIke(rekey)) => {
                ctx.book.ike_spis.remove(&rekey.spi);
                None
            }
            Some(
                Exchange::RekeyChild(_)
                | Exchange::DeleteChild(_)
                | Exchange::DeleteIke(_)
                | Exchange::Liveness,
            )
            | None => None,
        };
        if let Some(request) = waiting {
            ctx.out.counters.ike.child_local_failure += 1;
            request.fail(self.remote, ctx, reason);
        }
    }

    /// The queued negotiations will not be had from this peer.
    pub(crate) fn refuse_tasks(&mut self) {
        for task in &mut self.tasks {
            if let Task::NewChild(request) = task {
                request.refused = true;
            }
        }
    }

    /// The queued negotiations come to nothing.
    pub(crate) fn fail_tasks(&mut self, ctx: &mut Context<'_>, reason: &Failure) {
        for task in std::mem::take(&mut self.tasks) {
            if let Task::NewChild(request) = task {
                ctx.out.counters.ike.child_local_failure += 1;
                request.fail(self.remote, ctx, reason);
            }
        }
    }

    /// The SA ends: what waits for it fails, its tunnel loses it. It still answers repeats of the last request, so that a
    /// peer whose answer was lost need not guess.
    pub(crate) fn end(&mut self, ctx: &mut Context<'_>, reason: &Failure) -> State {
        self.fail_open(ctx, reason);
        self.fail_tasks(ctx, reason);
        self.timers = TimerTable::default();
        self.timers.set(Timer::Linger, ctx.now + LINGER);
        if ctx.book.leave_ike(self.tunnel, self.key) {
            let reason = reason.text.clone();
            ctx.out.events.push_back(Event::IkeDown { id: self.tunnel, reason });
        }
        State::Closed
    }

    /// The SA could not be established, by fault of either side.
    pub(crate) fn fail(&mut self, ctx: &mut Context<'_>, reason: &Failure) -> State {
        match self.role {
            Role::Initiator => ctx.out.counters.local_failure += 1,
            Role::Responder => ctx.out.counters.remote_failure += 1,
        }
        // The children that wait for it say so themselves.
        let says_so = match self.outbound.open().map(|open| &open.exchange) {
            Some(Exchange::Init(init)) => init.child.is_some(),
            Some(Exchange::Auth(auth)) => auth.child.is_some(),
            _ => false,
        } || self.tasks.iter().any(|task| matches!(task, Task::NewChild(_)));
        if !says_so {
            ctx.out.events.push_back(Event::Failed {
                peer: self.remote.ip(),
                rule: Some(self.rule.name.clone()),
                reason: reason.clone(),
                acquire: None,
            });
        }
        self.end(ctx, reason)
    }

    /// Counts an invalid message.
    pub(crate) const fn count_invalid(&mut self, ctx: &mut Context<'_>) {
        if matches!(self.state, State::Established(_)) {
            self.counters.child_invalid += 1;
            ctx.out.counters.ike.child_invalid += 1;
        } else {
            self.counters.invalid += 1;
            ctx.out.counters.ike.invalid += 1;
        }
    }
}
