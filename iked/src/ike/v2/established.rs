//! An authenticated IKE SA: its children, its requests one at a time, and the answers to the peer's.

use super::child::{self, Child, Standing};
use super::collision::Origin;
use super::sa::{Exchange, IkeSa, State, Task};
use super::{create_child, informational, liveness, rekey, rekey_ike};
use crate::ike::context::{After, Context};
use crate::ike::crypto::{IkeKeys, Opener, Sealer};
use crate::ike::error::Mistake;
use crate::ike::event::Event;
use crate::ike::failure::Failure;
use crate::ike::lifetime::Lifetime;
use crate::ike::timer::Timer;
use crate::ike::types::{Identity, TunnelId};
use crate::ike::wire::payload::Notify;
use crate::ike::wire::{ExchangeType, IkeSuite, Message, NotifyType, Payload, WireError};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// An authenticated IKE SA.
pub(crate) struct Established {
    /// Keys of which those of children and successors are derived.
    pub(crate) keys: IkeKeys,
    /// Seals our messages.
    pub(crate) sealer: Sealer,
    /// Opens the peer's.
    pub(crate) opener: Opener,
    /// Algorithms.
    pub(crate) suite: IkeSuite,
    /// Own identity.
    pub(crate) local_id: Identity,
    /// The peer's.
    pub(crate) remote_id: Identity,
    /// Child SAs by inbound SPI.
    pub(crate) children: BTreeMap<u32, Child>,
    /// When the peer was last heard.
    pub(crate) heard: Instant,
    /// Since when.
    pub(crate) since: Instant,
    /// When it is replaced, and when it ends.
    pub(crate) life: Lifetime,
    /// Lifetime.
    pub(crate) lifetime: Duration,
    /// What becomes of it.
    pub(crate) standing: IkeStanding,
    /// Message ids come to their end, and the SA is to be replaced for that (threats T15).
    pub(crate) ids_end: bool,
    /// CREATE_CHILD_SA requests that the peer may still make.
    pub(crate) allowance: Allowance,
    /// The epoch of the owner that sent first with these keys.
    pub(crate) born: u64,
    /// How the first SA of its line was made.
    pub(crate) origin: Option<Origin>,
    /// How often it is still looked whether it is redundant.
    pub(crate) looks: u8,
    /// What was made meanwhile at the SA that this one replaces was asked for here too.
    pub(crate) caught_up: bool,
    /// The peer made it in place of an SA that this side replaces too: until the answer to that is here, the children are
    /// still at the old one, and nothing can become of them at this one.
    pub(crate) contested: bool,
}

impl std::fmt::Debug for Established {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Established");
        out.field("suite", &self.suite).field("standing", &self.standing).field("children", &self.children);
        out.finish_non_exhaustive()
    }
}

/// What becomes of an established IKE SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum IkeStanding {
    /// In use.
    Serving,
    /// Its children have moved to another SA; the peer will delete it.
    Replaced,
    /// Its Delete is queued or under way.
    Closing,
}

/// How a step ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// The SA stays.
    Keep,
    /// The SA ends; why.
    End(Failure),
}

/// Exchanges that a peer may ask for: many at once after a start, then a steady rate (threats T32).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    left: u32,
    filled: Instant,
}

impl Allowance {
    const BURST: u32 = 600;
    const PER_SECOND: u32 = 20;

    pub(crate) const fn new(now: Instant) -> Self {
        Self { left: Self::BURST, filled: now }
    }

    /// Takes one; false if none is left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.filled).as_secs();
        if seconds > 0 {
            let more = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(Self::PER_SECOND);
            self.left = self.left.saturating_add(more).min(Self::BURST);
            self.filled = now;
        }
        let had = self.left > 0;
        self.left = self.left.saturating_sub(1);
        had
    }
}

/// What a new SA starts from.
pub(crate) struct Foundation {
    /// Keys.
    pub(crate) keys: IkeKeys,
    /// Algorithms.
    pub(crate) suite: IkeSuite,
    /// Own identity.
    pub(crate) local_id: Identity,
    /// The peer's.
    pub(crate) remote_id: Identity,
}

/// How long after it was made an SA is at rest.
pub(crate) const REST: Duration = Duration::from_secs(3);

/// How often it is looked whether it is, each time after twice as long: a bad network takes minutes.
pub(crate) const LOOKS: u8 = 8;

/// Lifetime where the rule has none for a suite (it was changed since).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(8 * 3600);

impl Established {
    /// A new SA; starts its timers, enters it in the book and tells the shell.
    pub(crate) fn new(
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        from: Foundation,
        sealer: Sealer,
        opener: Opener,
    ) -> Box<Self> {
        let Foundation { keys, suite, local_id, remote_id } = from;
        let lifetime = sa.rule.lifetime(&suite).unwrap_or(DEFAULT_LIFETIME);
        let life = Lifetime::start(ctx.now, lifetime, ctx.rng);
        sa.timers.stop(Timer::Linger);
        sa.timers.set(Timer::Rekey, life.rekey_at);
        sa.timers.set(Timer::Expire, life.expires_at);
        if !ctx.settings.liveness.is_zero() {
            sa.timers.set(Timer::Liveness, ctx.now + ctx.settings.liveness);
        }
        sa.restart_keepalive(ctx);
        ctx.book.ike_is_up(sa.tunnel);
        ctx.out.events.push_back(Event::IkeUp(sa.tunnel));
        sa.changed(ctx);
        Box::new(Self {
            keys,
            sealer,
            opener,
            suite,
            local_id,
            remote_id,
            children: BTreeMap::new(),
            heard: ctx.now,
            since: ctx.now,
            life,
            lifetime,
            standing: IkeStanding::Serving,
            ids_end: false,
            allowance: Allowance::new(ctx.now),
            born: ctx.epoch(sa.local.ip()),
            origin: None,
            looks: 0,
            caught_up: false,
            contested: false,
        })
    }

    /// Whether children can be made here.
    pub(crate) fn serves(&self) -> bool {
        self.standing == IkeStanding::Serving && !self.contested
    }

    /// The earliest deadline of a child. Those of an SA that is being deleted end with it.
    pub(crate) fn next_child_deadline(&self) -> Option<Instant> {
        let serving = self.standing == IkeStanding::Serving;
        self.children.values().filter(|_| serving).map(Child::deadline).min()
    }

    /// Serves the peer's request.
    pub(crate) fn on_request(
        &mut self,
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        message: &Message,
        octets: &[u8],
    ) -> Next {
        match message.header.exchange {
            ExchangeType::CREATE_CHILD_SA => create_child::respond(self, sa, ctx, message, octets),
            ExchangeType::INFORMATIONAL => informational::respond(self, sa, ctx, message, octets),
            other => {
                ctx.out.notice(ctx.now, sa.remote, Mistake::Order, &format!("unexpected {other} request"));
                self.refuse(sa, ctx, message, octets, Notify::new(NotifyType::INVALID_SYNTAX, Vec::new()));
                Next::Keep
            }
        }
    }

    /// Answers a request of the peer that opened but cannot be taken apart. INVALID_SYNTAX ends the SA on both sides
    /// (RFC 7296 section 2.21.3).
    pub(crate) fn on_bad_request(
        &mut self,
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        header: crate::ike::wire::Header,
        octets: &[u8],
        error: &WireError,
    ) -> Next {
        let (kind, data) = error.notify();
        let message = Message::new(header, Vec::new());
        self.refuse(sa, ctx, &message, octets, Notify::new(kind, data));
        if kind == NotifyType::INVALID_SYNTAX {
            return Next::End(Failure::invalid(format!("peer sent an invalid message: {error}")));
        }
        ctx.out.notice(ctx.now, sa.remote, Mistake::Malformed, &error.to_string());
        Next::Keep
    }

    /// Takes the answer to the open request.
    pub(crate) fn on_response(&mut self, sa: &mut IkeSa, ctx: &mut Context<'_>, message: &Message) -> Next {
        let closed = sa.close_request();
        if !matches!(closed, Some(Exchange::Liveness)) {
            // A question whether the peer lives can be asked twice.
            sa.changed(ctx);
        }
        match closed {
            Some(Exchange::NewChild(awaited)) => awaited.handle(self, sa, ctx, message),
            Some(Exchange::RekeyChild(awaited)) => awaited.handle(self, sa, ctx, message),
            Some(Exchange::RekeyIke(awaited)) => awaited.handle(self, sa, ctx, message),
            Some(Exchange::DeleteChild(awaited)) => awaited.handle(self, ctx),
            Some(Exchange::DeleteIke(awaited)) => Next::End(Failure::deactivated(awaited.reason)),
            Some(Exchange::Liveness | Exchange::Init(_) | Exchange::Auth(_)) | None => Next::Keep,
        }
    }

    /// Does what is due.
    pub(crate) fn on_timeout(&mut self, sa: &mut IkeSa, ctx: &mut Context<'_>) -> Next {
        liveness::on_timeout(self, sa, ctx)
    }

    /// Starts what can be started now.
    pub(crate) fn go_on(&mut self, sa: &mut IkeSa, ctx: &mut Context<'_>, next: Next) -> Next {
        if next == Next::Keep {
            let near_end = sa.outbound.near_end() || sa.inbound.near_end();
            if near_end && !self.ids_end {
                // Once: from then on the timer says when it is tried again.
                self.ids_end = true;
                sa.timers.set(Timer::Rekey, ctx.now);
            }
            while sa.outbound.next_id().is_some() {
                let Some(task) = self.next_task(sa, ctx) else { break };
                self.start(sa, ctx, task);
            }
            self.finish_reauthentication(sa, ctx);
        }
        next
    }

    fn next_task(&self, sa: &mut IkeSa, ctx: &Context<'_>) -> Option<Task> {
        if let Some(at) = sa.tasks.iter().position(|task| matches!(task, Task::DeleteIke(_))) {
            return sa.tasks.remove(at);
        }
        // The peer asked for patience (RFC 7296 section 2.25), which deletes and liveness need not have.
        let patience = sa.timers.at(Timer::Retry).is_some_and(|at| at > ctx.now);
        let ready = |task: &Task| match task {
            Task::NewChild(_) | Task::RekeyChild(_) | Task::RekeyIke => !patience && self.serves(),
            Task::DeleteChild(..) | Task::Disown(_) | Task::DeleteIke(_) | Task::Liveness => true,
        };
        let at = sa.tasks.iter().position(ready)?;
        sa.tasks.remove(at)
    }

    fn start(&mut self, sa: &mut IkeSa, ctx: &mut Context<'_>, task: Task) {
        match task {
            Task::NewChild(request) => create_child::start(self, sa, ctx, request),
            Task::RekeyChild(spi) => rekey::start_child(self, sa, ctx, spi),
            Task::RekeyIke => rekey_ike::start(self, sa, ctx),
            Task::DeleteChild(spi, reason) => informational::start_delete(self, sa, ctx, spi, reason),
            Task::Disown(spi) => informational::start_disown(self, sa, ctx, spi),
            Task::DeleteIke(reason) => informational::start_delete_ike(self, sa, ctx, reason),
            Task::Liveness => liveness::start(self, sa, ctx),
        }
    }

    /// Once all children of the SA that this one replaces are made again, that one goes.
    fn finish_reauthentication(&self, sa: &mut IkeSa, ctx: &mut Context<'_>) {
        let busy = matches!(sa.outbound.open().map(|open| &open.exchange), Some(Exchange::NewChild(_)))
            || sa.tasks.iter().any(|task| matches!(task, Task::NewChild(_)));
        if !busy && let Some(old) = sa.replaces.take() {
            ctx.after.push(After::Reauthenticated { old, new: sa.key });
        }
    }

    /// Sends a request.
    pub(crate) fn request(
        &mut self,
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        kind: ExchangeType,
        payloads: Vec<Payload>,
        exchange: Exchange,
    ) {
        let Some(id) = sa.outbound.next_id() else { return };
        let message = Message::new(sa.header(kind, false, id), payloads);
        match self.sealer.seal(&message, ctx.rng) {
            Ok(octets) => {
                self.count(sa, ctx, octets.len());
                sa.open_request(ctx, octets, exchange);
            }
            Err(error) => {
                // Too long for a message, or IVs at their end: this SA cannot go on.
                ctx.out.notice(ctx.now, sa.remote, Mistake::Order, &format!("cannot send {kind}: {error}"));
                self.abandon(sa, ctx, exchange);
            }
        }
    }

    fn abandon(&mut self, sa: &IkeSa, ctx: &mut Context<'_>, exchange: Exchange) {
        match exchange {
            Exchange::NewChild(awaited) => {
                awaited.into_request().fail(sa.remote, ctx, &Failure::invalid("message too long"));
            }
            Exchange::RekeyIke(awaited) => {
                ctx.book.ike_spis.remove(&awaited.spi);
            }
            Exchange::Init(_)
            | Exchange::Auth(_)
            | Exchange::RekeyChild(_)
            | Exchange::DeleteChild(_)
            | Exchange::DeleteIke(_)
            | Exchange::Liveness => {}
        }
    }

    /// Answers a request.
    pub(crate) fn reply(
        &mut self,
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        request: &Message,
        octets: &[u8],
        payloads: Vec<Payload>,
    ) {
        let header = sa.header(request.header.exchange, true, request.header.message_id);
        match self.sealer.seal(&Message::new(header, payloads), ctx.rng) {
            Ok(response) => {
                self.count(sa, ctx, response.len());
                sa.answer_stored(ctx, octets, response);
            }
            Err(error) => {
                ctx.out.notice(ctx.now, sa.remote, Mistake::Order, &format!("cannot answer: {error}"));
            }
        }
    }

    /// Answers a request with an error.
    pub(crate) fn refuse(
        &mut self,
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        request: &Message,
        octets: &[u8],
        notify: Notify,
    ) {
        self.reply(sa, ctx, request, octets, vec![Payload::Notify(notify)]);
    }

    fn count(&self, sa: &mut IkeSa, ctx: &mut Context<'_>, octets: usize) {
        let octets = octets as u64;
        sa.counters.bytes += octets;
        ctx.out.counters.ike.bytes += octets;
    }

    /// Queues the rekey of a child that serves.
    pub(crate) fn want_rekey(&mut self, sa: &mut IkeSa, spi_in: u32) {
        if let Some(child) = self.children.get_mut(&spi_in)
            && child.standing == Standing::Serving
        {
            child.standing = Standing::Rekeying;
            sa.tasks.push_back(Task::RekeyChild(spi_in));
        }
    }

    /// Queues the rekey of this SA, once.
    pub(crate) fn want_rekey_ike(&self, sa: &mut IkeSa) {
        let open = matches!(sa.outbound.open().map(|open| &open.exchange), Some(Exchange::RekeyIke(_)));
        if !open && !sa.tasks.iter().any(|task| matches!(task, Task::RekeyIke)) {
            sa.tasks.push_back(Task::RekeyIke);
        }
    }

    /// Queues the Delete of a child.
    pub(crate) fn want_delete(&mut self, sa: &mut IkeSa, spi_in: u32, reason: &'static str) {
        if let Some(child) = self.children.get_mut(&spi_in)
            && child.standing != Standing::Closing
        {
            child.standing = Standing::Closing;
            sa.tasks.push_back(Task::DeleteChild(spi_in, reason));
        }
    }

    /// Queues the Delete of this SA; its traffic ends at once.
    pub(crate) fn want_delete_ike(&mut self, sa: &mut IkeSa, ctx: &mut Context<'_>, reason: &'static str) {
        self.remove_children(ctx, reason);
        self.want_orderly_delete_ike(sa, ctx, reason);
    }

    /// Queues the Delete of this SA; what the peer still sends on its children is taken until it answers.
    pub(crate) fn want_orderly_delete_ike(
        &mut self,
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        reason: &'static str,
    ) {
        if self.standing == IkeStanding::Closing {
            return;
        }
        self.standing = IkeStanding::Closing;
        sa.fail_tasks(ctx, &Failure::deactivated(reason));
        sa.tasks.push_back(Task::DeleteIke(reason));
    }

    /// This side sends on a child from now on.
    pub(crate) fn activate(&mut self, ctx: &mut Context<'_>, spi_in: u32) {
        if let Some(child) = self.children.get_mut(&spi_in)
            && !child.outbound_active
        {
            child.outbound_active = true;
            child.activate_at = None;
            ctx.book.enter_twin(&child.terms.local, &child.terms.remote, child.tunnel, (spi_in, true));
            ctx.out.events.push_back(Event::ActivateOutbound { spi_in });
        }
    }

    /// This side sends on a child from now on, even if it has sent on another one since.
    pub(crate) fn prefer(&mut self, ctx: &mut Context<'_>, spi_in: u32) {
        match self.children.get(&spi_in) {
            Some(child) if child.outbound_active => {
                ctx.out.events.push_back(Event::ActivateOutbound { spi_in });
            }
            Some(_) => self.activate(ctx, spi_in),
            None => {}
        }
    }

    /// Takes a child out of the stack.
    pub(crate) fn remove_child(&mut self, ctx: &mut Context<'_>, spi_in: u32, reason: &str) {
        if let Some(child) = self.children.remove(&spi_in) {
            if let Standing::Replaced { by } = child.standing {
                self.activate(ctx, by);
            }
            // What it was to replace goes on.
            for old in
                self.children.values_mut().filter(|old| old.standing == Standing::Replaced { by: spi_in })
            {
                old.standing = Standing::Serving;
            }
            child::remove(&child, ctx, reason);
        }
    }

    fn remove_children(&mut self, ctx: &mut Context<'_>, reason: &str) {
        for child in std::mem::take(&mut self.children).into_values() {
            child::remove(&child, ctx, reason);
        }
    }

    /// The inbound SPI of the child on which the peer receives with `spi_out`.
    pub(crate) fn by_outbound(&self, spi_out: u32) -> Option<u32> {
        self.children.values().find(|child| child.spi_out == spi_out).map(|child| child.spi_in)
    }

    /// The child of a tunnel that serves, the newest first.
    pub(crate) fn newest_of(&self, tunnel: TunnelId) -> Option<&Child> {
        let of_tunnel = self.children.values().filter(|child| child.tunnel == tunnel);
        of_tunnel.max_by_key(|child| child.generation)
    }

    /// The SA ends.
    pub(crate) fn end(mut self: Box<Self>, sa: &mut IkeSa, ctx: &mut Context<'_>, reason: &Failure) -> State {
        self.yield_to_rival(sa, ctx);
        self.remove_children(ctx, &reason.text);
        ctx.book.leave_identities(&self.local_id, &self.remote_id, sa.key);
        sa.changed(ctx);
        sa.end(ctx, reason)
    }

    /// Hands children and tasks over to another SA of the same peers (RFC 7296 section 2.18).
    pub(crate) fn hand_over(&mut self, sa: &mut IkeSa, ctx: &mut Context<'_>, to: crate::ike::table::SaKey) {
        let (tasks, own): (Vec<_>, Vec<_>) =
            std::mem::take(&mut sa.tasks).into_iter().partition(|task| match task {
                Task::NewChild(_) | Task::RekeyChild(_) | Task::DeleteChild(..) | Task::Disown(_) => true,
                Task::RekeyIke | Task::DeleteIke(_) | Task::Liveness => false,
            });
        sa.tasks = own.into_iter().filter(|task| matches!(task, Task::DeleteIke(_))).collect();
        let children = std::mem::take(&mut self.children);
        ctx.after.push(After::Inherit { to, children, tasks, replaces: sa.replaces.take() });
    }

    /// This SA ends although its rekey is under way: if the peer has replaced it too, that one stays (section 2.8.2).
    pub(crate) fn yield_to_rival(&mut self, sa: &mut IkeSa, ctx: &mut Context<'_>) {
        if let Some(rival) = rekey_ike::rival_of(sa) {
            self.hand_over(sa, ctx, rival);
        }
    }

    /// Takes over what another SA hands over.
    pub(crate) fn inherit(
        &mut self,
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        children: BTreeMap<u32, Child>,
        tasks: Vec<Task>,
    ) {
        self.contested = false;
        for (spi, child) in &children {
            ctx.book.enter_child_spi(*spi, sa.key);
            ctx.book.place_child(child.tunnel, sa.key);
        }
        self.children.extend(children);
        sa.tasks.extend(tasks);
    }

    /// Whether this side is the one that must not be disturbed: it rekeys the IKE SA (RFC 7296 section 2.25).
    pub(crate) fn is_rekeying_ike(sa: &IkeSa) -> bool {
        matches!(sa.outbound.open().map(|open| &open.exchange), Some(Exchange::RekeyIke(_)))
    }

    /// A first IKE_SA_INIT made it: if the peer has started at the same time, one of the two goes when things have come to
    /// rest.
    pub(crate) fn note_origin(&mut self, sa: &mut IkeSa, ctx: &Context<'_>, origin: Origin) {
        if origin.role == crate::ike::view::Role::Initiator {
            self.looks = LOOKS;
            sa.timers.set(Timer::Redundant, ctx.now + REST);
        }
        self.origin = Some(origin);
    }

    /// Whether all that this SA has stands at another one too.
    pub(crate) fn is_doubled_by(&self, other: &Self) -> bool {
        let twin = |child: &Child| {
            other.children.values().any(|twin| {
                twin.standing != Standing::Closing
                    && twin.terms.mode == child.terms.mode
                    && twin.terms.local == child.terms.local
                    && twin.terms.remote == child.terms.remote
            })
        };
        self.children.values().all(twin)
    }

    /// A step after which the SA stays, or is over.
    pub(crate) fn settle(mut self: Box<Self>, sa: &mut IkeSa, ctx: &mut Context<'_>, next: Next) -> State {
        match self.go_on(sa, ctx, next) {
            Next::Keep => State::Established(self),
            Next::End(reason) => self.end(sa, ctx, &reason),
        }
    }
}
