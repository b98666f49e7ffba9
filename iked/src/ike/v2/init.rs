//! IKE_SA_INIT (RFC 7296 sections 1.2, 2.6, 2.7, 2.10 and 2.23), both sides.
//!
//! Nothing here is authenticated. As responder nothing is kept of a request that cannot be answered with an SA; as
//! initiator an answer that is an error only shortens the wait for a better one (threats T16).

use super::auth::{self, ExpectAuthRequest};
use super::found::Found;
use super::fragments::Fragments;
use super::proof;
use super::sa::{ChildRequest, Exchange, Held, IkeSa, NatPath, State};
use super::window::{Inbound, Outbound};
use crate::ike::context::Context;
use crate::ike::crypto::{self, CookieJar, IkeKeys, PrivateKey};
use crate::ike::error::Mistake;
use crate::ike::event::Event;
use crate::ike::failure::{Failure, FailureKind};
use crate::ike::natt::{self, NAT_PORT};
use crate::ike::proposal::{ike_proposals, mismatch};
use crate::ike::rules::ExchangeRule;
use crate::ike::timer::{Timer, TimerTable};
use crate::ike::types::{Group, IkeTunnelId};
use crate::ike::view::{IkeCounters, Role};
use crate::ike::wire::payload::{Ke, Nonce, Notify, Proposal, Sa};
use crate::ike::wire::{
    Chosen, ExchangeType, Flags, Header, IkeSuite, Message, NotifyType, Payload, choose_ike,
};
use rand::CryptoRng;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

/// How often an initiator starts over because the responder asks for a cookie or another group.
const ROUNDS: u32 = 5;

/// That this side takes fragments (RFC 7383 section 2.3).
fn fragmentation_supported() -> Payload {
    Payload::Notify(Notify::new(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED, Vec::new()))
}

/// A fresh nonce.
pub(crate) fn fresh_nonce(rng: &mut dyn CryptoRng) -> Nonce {
    let mut octets = [0; 32];
    rng.fill_bytes(&mut octets);
    Nonce::new(octets)
}

/// We sent IKE_SA_INIT.
pub(crate) struct ExpectInitResponse {
    /// The child that the SA is made for.
    pub(crate) child: Option<Box<ChildRequest>>,
    suites: Vec<IkeSuite>,
    private: PrivateKey,
    nonce: Nonce,
    cookie: Option<Vec<u8>>,
    rounds: u32,
    tried: Vec<Group>,
    /// What an unprotected error said, for the operator if nothing better comes.
    complaint: Option<Failure>,
}

impl std::fmt::Debug for ExpectInitResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExpectInitResponse").field("tried", &self.tried).finish_non_exhaustive()
    }
}

/// Where an SA is to be made.
#[derive(Debug)]
pub(crate) struct Target {
    /// Tunnel; a new one unless the SA takes another's place.
    pub(crate) tunnel: Option<IkeTunnelId>,
    /// Rule.
    pub(crate) rule: Arc<ExchangeRule>,
    /// Own address and port.
    pub(crate) local: SocketAddr,
    /// The peer's.
    pub(crate) remote: SocketAddr,
}

/// Starts an IKE SA as initiator.
pub(crate) fn start(ctx: &mut Context<'_>, target: Target, child: Option<Box<ChildRequest>>) -> Box<IkeSa> {
    let Target { tunnel, rule, local, remote } = target;
    let key = ctx.book.new_sa();
    let spi_i = ctx.book.new_ike_spi(key, ctx.rng);
    let tunnel = tunnel.unwrap_or_else(|| ctx.book.new_ike_tunnel());
    if let Some(request) = &child {
        ctx.book.place_child(request.tunnel, key);
    }
    let mut sa = Box::new(IkeSa {
        key,
        tunnel,
        generation: ctx.book.enter_ike(tunnel, key),
        role: Role::Initiator,
        spi_i,
        spi_r: 0,
        local,
        remote,
        nat: NatPath::default(),
        rule: rule.clone(),
        proofs: None,
        counters: IkeCounters::default(),
        timers: TimerTable::default(),
        inbound: Inbound::new(0),
        fragments: Fragments::default(),
        outbound: Outbound::new(0),
        tasks: VecDeque::new(),
        held: Held::default(),
        replaces: None,
        state: State::Connecting,
    });
    let suites = rule.suites();
    let Some(first) = suites.first() else {
        let text = format!("rule {} has no usable KeyExchangeOffer", rule.name);
        let reason = Failure::new(FailureKind::NoRule, text);
        sa.tasks.extend(child.map(super::sa::Task::NewChild));
        sa.state = sa.fail(ctx, &reason);
        return sa;
    };
    let group = first.group;
    let expect = Box::new(ExpectInitResponse {
        child,
        private: PrivateKey::generate(group, ctx.rng),
        nonce: fresh_nonce(ctx.rng),
        suites,
        cookie: None,
        rounds: 0,
        tried: vec![group],
        complaint: None,
    });
    expect.send(&mut sa, ctx);
    sa
}

impl ExpectInitResponse {
    fn send(self: Box<Self>, sa: &mut IkeSa, ctx: &mut Context<'_>) {
        let mut payloads = Vec::new();
        if let Some(cookie) = &self.cookie {
            // Section 2.6: the cookie comes first, everything else stays the same.
            payloads.push(Payload::Notify(Notify::new(NotifyType::COOKIE, cookie.clone())));
        }
        payloads.push(Payload::Sa(ike_proposals(&self.suites, None)));
        let value = self.private.public().to_vec();
        payloads.push(Payload::Ke(Ke { group: self.private.group().number(), value }));
        payloads.push(Payload::Nonce(self.nonce.clone()));
        payloads.push(fragmentation_supported());
        if sa.rule.authentication.trust().is_some() {
            payloads.push(proof::signature_hashes());
        }
        if sa.rule.allow_nat {
            payloads.extend(natt::notifies(sa.spi_i, 0, sa.local, sa.remote, ctx.settings.force_udp));
        }
        // Each round starts again with message id 0 (section 2.6).
        sa.outbound = Outbound::new(0);
        let message = Message::new(sa.header(ExchangeType::IKE_SA_INIT, false, 0), payloads);
        match message.encode() {
            Ok(octets) => sa.open_request(ctx, octets, Exchange::Init(self)),
            Err(error) => {
                sa.tasks.extend(self.child.map(super::sa::Task::NewChild));
                sa.state = sa.fail(ctx, &Failure::invalid(format!("rule {}: {error}", sa.rule.name.clone())));
            }
        }
    }

    /// Why nothing came of it, when the peer is given up.
    pub(crate) fn given_up(&self) -> Failure {
        match &self.complaint {
            Some(complaint) => complaint.clone(),
            None => Failure::new(FailureKind::Timeout, "peer does not answer IKE_SA_INIT"),
        }
    }
}

/// Takes an answer to IKE_SA_INIT. It may be anybody's: what does not fit leaves the wait as it is.
pub(crate) fn on_response(
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    message: &Message,
    octets: &[u8],
    from: SocketAddr,
) {
    let awaited = sa.outbound.awaits(message.header.message_id) && from.ip() == sa.remote.ip();
    let Some(open) = sa.outbound.open_mut().filter(|_| awaited) else {
        ctx.out.counters.dropped += 1;
        return;
    };
    let request = open.message.clone();
    let Exchange::Init(expect) = &mut open.exchange else {
        ctx.out.counters.dropped += 1;
        return;
    };
    let found = Found::in_message(message);
    let again = expect.rounds < ROUNDS;
    if let Some(cookie) = found.notify(NotifyType::COOKIE)
        && again
        && (1..=crypto::MAX_COOKIE).contains(&cookie.data.len())
    {
        expect.cookie = Some(cookie.data.clone());
        return start_over(sa, ctx);
    }
    if let Some(wanted) = found.notify(NotifyType::INVALID_KE_PAYLOAD)
        && again
        && let Some(group) = wanted.group().and_then(Group::from_number)
        && expect.suites.iter().any(|suite| suite.group == group)
        && !expect.tried.contains(&group)
    {
        expect.private = PrivateKey::generate(group, ctx.rng);
        expect.tried.push(group);
        return start_over(sa, ctx);
    }
    if let Some(error) = found.error() {
        let offers: Vec<String> = expect.suites.iter().take(4).map(ToString::to_string).collect();
        let complaint = format!("peer answers {} to IKE_SA_INIT; we offer {}", error.kind, offers.join(", "));
        expect.complaint = Some(Failure::notified(error.kind, complaint));
        let text = format!("unprotected {} in answer to IKE_SA_INIT", error.kind);
        open.backoff.give_up_after_this();
        ctx.out.notice(ctx.now, from, Mistake::Unprotected, &text);
        return;
    }
    match expect.accept(message, &found) {
        Ok(accepted) => proceed(sa, ctx, accepted, &request, message, octets, from),
        Err(fault) => {
            expect.complaint = Some(fault.clone());
            sa.count_invalid(ctx);
            ctx.out.notice(ctx.now, from, Mistake::Init, &fault.text);
        }
    }
}

fn start_over(sa: &mut IkeSa, ctx: &mut Context<'_>) {
    if let Some(Exchange::Init(mut expect)) = sa.close_request() {
        expect.rounds += 1;
        expect.send(sa, ctx);
    }
}

/// An answer that fits.
struct Accepted {
    suite: IkeSuite,
    keys: IkeKeys,
    nonce_r: Nonce,
}

impl ExpectInitResponse {
    fn accept(&self, message: &Message, found: &Found<'_>) -> Result<Accepted, Failure> {
        let invalid = |text: &str| Err(Failure::invalid(text));
        let (Some(sa), Some(ke), Some(nonce_r)) = (found.sa, found.ke, found.nonce) else {
            return invalid("answer to IKE_SA_INIT lacks a payload");
        };
        let header = message.header;
        if header.spi_r == 0 {
            return invalid("answer to IKE_SA_INIT without a responder's SPI");
        }
        // Our own packet back (T08, T15).
        if header.spi_r == header.spi_i
            || nonce_r.as_slice() == self.nonce.as_slice()
            || ke.value == self.private.public()
        {
            return invalid("our own IKE_SA_INIT came back");
        }
        let chosen = sa
            .accepted_ike(&self.suites)
            .map_err(|fault| mismatch(sa, "in use", &self.suites, &[(1, fault)]))
            .map_err(|text| Failure::new(FailureKind::NoProposal, text))?;
        if chosen.suite.group != self.private.group() || ke.group != self.private.group().number() {
            let text = format!("peer answers with group {}, not with the one sent", ke.group);
            return Err(Failure::new(FailureKind::NoProposal, text));
        }
        let shared = self.private.agree(&ke.value).map_err(|error| Failure::invalid(error.to_string()))?;
        let keys = IkeKeys::initial(
            &chosen.suite,
            self.nonce.as_slice(),
            nonce_r.as_slice(),
            &shared,
            header.spi_i,
            header.spi_r,
        );
        Ok(Accepted { suite: chosen.suite, keys, nonce_r: nonce_r.clone() })
    }
}

fn proceed(
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    accepted: Accepted,
    request: &[u8],
    message: &Message,
    octets: &[u8],
    from: SocketAddr,
) {
    let found = Found::in_message(message);
    sa.spi_r = message.header.spi_r;
    if sa.rule.allow_nat
        && let Some(nat) = natt::detect(&found, sa.spi_i, sa.spi_r, sa.local, from, ctx.settings.force_udp)
    {
        sa.nat = nat;
        if nat.encapsulate() {
            // Section 2.23: from IKE_AUTH on.
            sa.local.set_port(NAT_PORT);
            if sa.remote.port() == 500 {
                sa.remote.set_port(NAT_PORT);
            }
        }
    }
    let Some(Exchange::Init(init)) = sa.close_request() else { return };
    let ExpectInitResponse { child, nonce, .. } = *init;
    let transcript = auth::Transcript {
        request: request.to_vec(),
        response: octets.to_vec(),
        nonce_i: nonce,
        nonce_r: accepted.nonce_r,
        peer_hashes: proof::peer_hashes(&found),
        fragments: found.has(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED),
    };
    auth::start(sa, ctx, accepted.suite, accepted.keys, transcript, child);
}

/// Answers an IKE_SA_INIT request, with an SA if it can be.
pub(crate) fn respond(
    ctx: &mut Context<'_>,
    cookies: &mut CookieJar,
    message: &Message,
    octets: &[u8],
    local: SocketAddr,
    remote: SocketAddr,
) -> Option<Box<IkeSa>> {
    let header = message.header;
    let answer = |ctx: &mut Context<'_>, notify: Notify| {
        send_unprotected(ctx, header, local, remote, vec![Payload::Notify(notify)]);
    };
    let found = Found::in_message(message);
    let (Some(offer), Some(ke), Some(nonce_i)) = (found.sa, found.ke, found.nonce) else {
        if ctx.out.notice(ctx.now, remote, Mistake::Init, "IKE_SA_INIT lacks a payload") {
            answer(ctx, Notify::new(NotifyType::INVALID_SYNTAX, Vec::new()));
        }
        ctx.out.counters.ike.invalid += 1;
        return None;
    };
    // Our own packet back (T08, T15).
    if ctx.book.ike_spis.contains_key(&header.spi_i) {
        ctx.out.counters.dropped += 1;
        ctx.out.notice(ctx.now, remote, Mistake::Order, "our own IKE_SA_INIT came back");
        return None;
    }
    if !admitted(ctx, cookies, &found, nonce_i, header, local, remote) {
        return None;
    }
    let (rule, chosen) = match choose(ctx, offer, local, remote) {
        Ok(choice) => choice,
        Err((rule, reason)) => {
            ctx.out.counters.remote_failure += 1;
            // As often as it is said it is answered: both are limited by source.
            if ctx.out.limit.allow(ctx.now, remote.ip(), Mistake::Init).is_some() {
                ctx.out.events.push_back(Event::Failed { peer: remote.ip(), rule, reason, acquire: None });
                answer(ctx, Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, Vec::new()));
            }
            return None;
        }
    };
    let group = chosen.suite.group;
    if ke.group != group.number() {
        // No state: the peer comes again (section 1.2). The answer is smaller than the request.
        answer(ctx, Notify::invalid_ke(group.number()));
        return None;
    }
    let private = PrivateKey::generate(group, ctx.rng);
    let shared = match private.agree(&ke.value) {
        Ok(shared) => shared,
        Err(error) => {
            ctx.out.counters.ike.invalid += 1;
            if ctx.out.notice(ctx.now, remote, Mistake::Init, &error.to_string()) {
                answer(ctx, Notify::new(NotifyType::INVALID_SYNTAX, Vec::new()));
            }
            return None;
        }
    };
    let key = ctx.book.new_sa();
    let spi_r = ctx.book.new_ike_spi(key, ctx.rng);
    let nonce_r = fresh_nonce(ctx.rng);
    let suite = chosen.suite;
    let keys = IkeKeys::initial(&suite, nonce_i.as_slice(), nonce_r.as_slice(), &shared, header.spi_i, spi_r);
    let force = ctx.settings.force_udp;
    let nat = if rule.allow_nat { natt::detect(&found, header.spi_i, 0, local, remote, force) } else { None };
    let mut payloads = vec![
        Payload::Sa(Sa { proposals: vec![Proposal::ike(chosen.number, None, &suite)] }),
        Payload::Ke(Ke { group: group.number(), value: private.public().to_vec() }),
        Payload::Nonce(nonce_r.clone()),
    ];
    let fragments = found.has(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED);
    payloads.extend(fragments.then(fragmentation_supported));
    let peer_hashes = proof::peer_hashes(&found);
    if !peer_hashes.is_empty() {
        payloads.push(proof::signature_hashes());
    }
    payloads.extend(proof::certificate_request(ctx, local.ip(), remote.ip()));
    if nat.is_some() {
        payloads.extend(natt::notifies(header.spi_i, spi_r, local, remote, force));
    }
    let flags = Flags { response: true, ..Flags::default() };
    let response_header = Header::new(header.spi_i, spi_r, ExchangeType::IKE_SA_INIT, flags, 0);
    let Ok(response) = Message::new(response_header, payloads).encode() else {
        // Lengths of our own payloads are bounded: this cannot be, and if it were, nothing is kept.
        ctx.book.ike_spis.remove(&spi_r);
        return None;
    };
    let tunnel = ctx.book.new_ike_tunnel();
    let own = crypto::Role::Responder;
    let expect = ExpectAuthRequest {
        sealer: keys.sealer(&suite, own, ctx.ivs(local.ip())).fragmenting(fragments),
        opener: keys.opener(&suite, own),
        keys,
        suite,
        transcript: auth::Transcript {
            request: octets.to_vec(),
            response: response.clone(),
            nonce_i: nonce_i.clone(),
            nonce_r,
            peer_hashes,
            fragments,
        },
        came_from: remote,
    };
    let mut sa = Box::new(IkeSa {
        key,
        tunnel,
        generation: ctx.book.enter_ike(tunnel, key),
        role: Role::Responder,
        spi_i: header.spi_i,
        spi_r,
        local,
        remote,
        nat: nat.unwrap_or_default(),
        rule,
        proofs: None,
        counters: IkeCounters::default(),
        timers: TimerTable::default(),
        inbound: Inbound::new(0),
        fragments: Fragments::default(),
        outbound: Outbound::new(0),
        tasks: VecDeque::new(),
        held: Held::default(),
        replaces: None,
        state: State::ExpectAuthRequest(Box::new(expect)),
    });
    sa.timers.set(Timer::Linger, ctx.now + ctx.settings.half_open_timeout);
    sa.answer(ctx, octets, response);
    // The peer may never have been there: no keepalives before it has proved itself.
    sa.timers.stop(Timer::Keepalive);
    ctx.book.half_open.enter(remote, header.spi_i, key);
    Some(sa)
}

/// Whether an IKE_SA_INIT may cost us a key exchange (threats T28, T29): cookies from the threshold on, then limits for
/// all and for each source. The cookie proves that the source is where it says, so that the limit of one address cannot
/// be used up by others.
fn admitted(
    ctx: &mut Context<'_>,
    cookies: &mut CookieJar,
    found: &Found<'_>,
    nonce: &Nonce,
    header: Header,
    local: SocketAddr,
    remote: SocketAddr,
) -> bool {
    let (all, source) = (ctx.book.half_open.len(), ctx.book.half_open.of(remote.ip()));
    let settings = ctx.settings;
    if all >= settings.cookie_threshold || source * 2 >= settings.half_open_per_source {
        cookies.refresh(ctx.now, ctx.rng);
        let cookie = found.notify(NotifyType::COOKIE).map(|notify| notify.data.as_slice());
        let good =
            cookie.is_some_and(|cookie| cookies.check(cookie, remote.ip(), header.spi_i, nonce.as_slice()));
        if !good {
            ctx.out.counters.cookies += 1;
            let cookie = cookies.bake(remote.ip(), header.spi_i, nonce.as_slice());
            let notify = Payload::Notify(Notify::new(NotifyType::COOKIE, cookie));
            send_unprotected(ctx, header, local, remote, vec![notify]);
            return false;
        }
    }
    if all >= settings.half_open_limit || source >= settings.half_open_per_source {
        ctx.out.counters.dropped += 1;
        ctx.out.notice(ctx.now, remote, Mistake::HalfOpen, "too many half-open IKE SAs");
        return false;
    }
    true
}

/// A rule and what of its offers was chosen.
type Choice = (Arc<ExchangeRule>, Chosen<IkeSuite, Option<u64>>);

/// The rule and suite for a peer of which only the address is known (spec: the rule is tentative).
fn choose(
    ctx: &Context<'_>,
    offer: &Sa,
    local: SocketAddr,
    remote: SocketAddr,
) -> Result<Choice, (Option<String>, Failure)> {
    let mut reason = None;
    for rule in ctx.rules.exchange(local.ip(), remote.ip()).filter(|rule| rule.respond) {
        let ours = rule.suites();
        match choose_ike(offer, &ours) {
            Ok(chosen) => return Ok((rule.clone(), chosen)),
            Err(faults) => {
                let text =
                    || format!("peer {}: {}", remote.ip(), mismatch(offer, &rule.name, &ours, &faults));
                reason.get_or_insert_with(|| {
                    (Some(rule.name.clone()), Failure::new(FailureKind::NoProposal, text()))
                });
            }
        }
    }
    let text = || format!("no KeyExchangeRule for peer {} at {}", remote.ip(), local.ip());
    let nobody = || (None, Failure::new(FailureKind::NoRule, text()));
    Err(reason.unwrap_or_else(nobody))
}

/// Answers an IKE_SA_INIT without keeping anything.
pub(crate) fn send_unprotected(
    ctx: &mut Context<'_>,
    request: Header,
    local: SocketAddr,
    remote: SocketAddr,
    payloads: Vec<Payload>,
) {
    let flags = Flags { response: true, initiator: !request.flags.initiator, version: false };
    let header = Header::new(request.spi_i, request.spi_r, request.exchange, flags, request.message_id);
    if let Ok(octets) = Message::new(header, payloads).encode() {
        ctx.out.send(local, remote, octets);
    }
}
