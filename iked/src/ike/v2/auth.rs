//! IKE_AUTH (RFC 7296 sections 1.2 and 2.15): both prove who they are and make the first child.

use super::child::{self, Draft, Occasion, PREFER_NEW, Refusal, Reply, Wish};
use super::collision::Origin;
use super::established::{Established, Foundation, Next};
use super::found::Found;
use super::proof::{self, prove, unproved};
use super::sa::{ChildRequest, Exchange, IkeSa, State, Task, leave_child};
use crate::ike::context::{After, Context};
use crate::ike::crypto::{self, AuthInput, IkeKeys, Opener, Sealer, verify_psk_auth};
use crate::ike::error::Mistake;
use crate::ike::event::Event;
use crate::ike::failure::{Failure, FailureKind};
use crate::ike::lifetime::Lifetime;
use crate::ike::table::SAS_PER_IDENTITIES;
use crate::ike::timer::Timer;
use crate::ike::types::{Identity, IdentityPattern, Mode, Secret};
use crate::ike::view::Role;
use crate::ike::wire::payload::{Id, Nonce, Notify, Ts};
use crate::ike::wire::{AuthMethod, ExchangeType, IkeSuite, Message, NotifyType, Payload};
use std::net::SocketAddr;

/// IKE_SA_INIT, octet for octet: what both sign.
#[derive(Debug)]
pub(crate) struct Transcript {
    /// The last request.
    pub(crate) request: Vec<u8>,
    /// Its answer.
    pub(crate) response: Vec<u8>,
    /// The initiator's nonce.
    pub(crate) nonce_i: Nonce,
    /// The responder's nonce.
    pub(crate) nonce_r: Nonce,
    /// Hashes that the peer takes in signatures (RFC 7427).
    pub(crate) peer_hashes: Vec<u16>,
    /// Both sides take fragments (RFC 7383).
    pub(crate) fragments: bool,
}

impl Transcript {
    /// What `signer` signs with its identity.
    fn signed<'t>(
        &'t self,
        suite: &IkeSuite,
        keys: &'t IkeKeys,
        signer: crypto::Role,
        id: &'t [u8],
    ) -> AuthInput<'t> {
        let (message, nonce) = match signer {
            crypto::Role::Initiator => (&self.request, &self.nonce_r),
            crypto::Role::Responder => (&self.response, &self.nonce_i),
        };
        AuthInput { prf: suite.prf, message, nonce: nonce.as_slice(), sk_p: keys.p(signer), id }
    }

    fn nonces(&self) -> (&[u8], &[u8]) {
        (self.nonce_i.as_slice(), self.nonce_r.as_slice())
    }
}

/// We sent IKE_AUTH.
pub(crate) struct ExpectAuthResponse {
    /// The child asked for.
    pub(crate) child: Option<Box<ChildRequest>>,
    /// Opens the answer.
    pub(crate) opener: Opener,
    sealer: Sealer,
    keys: IkeKeys,
    suite: IkeSuite,
    transcript: Transcript,
    spi_in: u32,
    own_proof: AuthMethod,
}

impl std::fmt::Debug for ExpectAuthResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExpectAuthResponse").field("suite", &self.suite).finish_non_exhaustive()
    }
}

impl ExpectAuthResponse {
    /// Algorithms.
    pub(crate) const fn suite(&self) -> IkeSuite {
        self.suite
    }
}

/// We answered IKE_SA_INIT.
pub(crate) struct ExpectAuthRequest {
    /// Opens the request.
    pub(crate) opener: Opener,
    /// Seals the answer.
    pub(crate) sealer: Sealer,
    /// Keys.
    pub(crate) keys: IkeKeys,
    /// Algorithms.
    pub(crate) suite: IkeSuite,
    /// What is signed.
    pub(crate) transcript: Transcript,
    /// Where IKE_SA_INIT came from: what the half-open SA is counted under.
    pub(crate) came_from: SocketAddr,
}

impl std::fmt::Debug for ExpectAuthRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExpectAuthRequest").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// Sends IKE_AUTH.
pub(crate) fn start(
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    suite: IkeSuite,
    keys: IkeKeys,
    transcript: Transcript,
    child: Option<Box<ChildRequest>>,
) {
    let own = crypto::Role::Initiator;
    let mut sealer = keys.sealer(&suite, own, ctx.ivs(sa.local.ip())).fragmenting(transcript.fragments);
    let opener = keys.opener(&suite, own);
    let rule = sa.rule.clone();
    let id = Id::new(&rule.local_id);
    let body = id.body();
    let (certificates, auth) =
        match prove(&rule, &transcript.signed(&suite, &keys, own, &body), &transcript.peer_hashes) {
            Ok(proof) => proof,
            Err(reason) => {
                sa.tasks.extend(child.map(Task::NewChild));
                sa.state = sa.fail(ctx, &reason);
                return;
            }
        };
    let mut payloads = vec![Payload::IdInitiator(id)];
    payloads.extend(certificates);
    payloads.extend(proof::request_of(std::iter::once(&*rule)));
    let known = child.as_ref().and_then(|child| child.peer.clone()).map(IdentityPattern::Exact);
    let expected = known.as_ref().unwrap_or(&rule.remote_id);
    payloads.extend(expected.exact().map(|peer| Payload::IdResponder(Id::new(peer))));
    // Section 2.4: "this is the only IKE SA currently active between the authenticated identities"; where the peer's is
    // not known yet, between any that it may be.
    let alone = child.as_ref().is_some_and(|child| child.initial_contact) && sa.replaces.is_none();
    if alone && !ctx.book.has_identities(&rule.local_id, expected) {
        payloads.push(Payload::Notify(Notify::new(NotifyType::INITIAL_CONTACT, Vec::new())));
    }
    let own_proof = auth.method;
    payloads.push(Payload::Auth(auth));
    let spi_in = ctx.book.new_child_spi(ctx.rng);
    if let Some(request) = &child {
        payloads.extend(request.payloads(spi_in, None));
    }
    let message = Message::new(sa.header(ExchangeType::IKE_AUTH, false, 1), payloads);
    match sealer.seal(&message, ctx.rng) {
        Ok(octets) => {
            sa.counters.bytes += octets.len() as u64;
            ctx.out.counters.ike.bytes += octets.len() as u64;
            let expect =
                ExpectAuthResponse { child, opener, sealer, keys, suite, transcript, spi_in, own_proof };
            sa.open_request(ctx, octets, Exchange::Auth(Box::new(expect)));
        }
        Err(error) => {
            sa.tasks.extend(child.map(Task::NewChild));
            sa.state = sa.fail(ctx, &Failure::invalid(format!("rule {}: {error}", rule.name)));
        }
    }
}

impl ChildRequest {
    /// The payloads that ask for it as initiator, nonce and KE apart: SA, selectors, mode.
    pub(crate) fn payloads(&self, spi_in: u32, group: Option<crate::ike::types::Group>) -> Vec<Payload> {
        let mut payloads = vec![
            Payload::Sa(self.rule.proposals(spi_in, group)),
            Payload::TsInitiator(Ts::new(self.local.clone())),
            Payload::TsResponder(Ts::new(self.remote.clone())),
        ];
        if self.rule.modes.first() == Some(&Mode::Transport) {
            payloads.push(Payload::Notify(Notify::new(NotifyType::USE_TRANSPORT_MODE, Vec::new())));
        }
        payloads
    }
}

impl ExpectAuthResponse {
    /// Takes the answer.
    pub(crate) fn handle(
        mut self: Box<Self>,
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        message: &Message,
    ) -> State {
        let found = Found::in_message(message);
        let remote_id = match self.authenticate(sa, ctx, &found) {
            Ok(identity) => identity,
            Err(reason) => {
                sa.counters.auth_failures += 1;
                ctx.out.counters.ike.auth_failures += 1;
                self.tell_failure(sa, ctx, found.error().is_some());
                sa.tasks.extend(self.child.map(Task::NewChild));
                sa.refuse_tasks();
                return sa.fail(ctx, &reason);
            }
        };
        ctx.out.counters.local_success += 1;
        let Self { child, opener, sealer, keys, suite, transcript, spi_in, own_proof } = *self;
        sa.proofs = found.auth.map(|auth| (own_proof, auth.method));
        let local_id = sa.rule.local_id.clone();
        enter(sa, ctx, &local_id, &remote_id);
        let foundation = Foundation { keys, suite, local_id, remote_id };
        let mut established = Established::new(sa, ctx, foundation, sealer, opener);
        established.note_origin(sa, ctx, Origin::new(Role::Initiator, transcript.nonces()));
        if let Some(request) = child {
            first_child(&mut established, sa, ctx, request, &found, &transcript, spi_in);
        }
        established.settle(sa, ctx, Next::Keep)
    }

    fn authenticate(
        &self,
        sa: &mut IkeSa,
        ctx: &Context<'_>,
        found: &Found<'_>,
    ) -> Result<Identity, Failure> {
        let rule = sa.rule.clone();
        let (Some(id), Some(auth)) = (found.id_r, found.auth) else {
            let mut reason = match found.error() {
                Some(error) => {
                    Failure::notified(error.kind, format!("peer answers {} to IKE_AUTH", error.kind))
                }
                None => Failure::invalid("answer to IKE_AUTH lacks a payload"),
            };
            reason.text += &format!(" (rule {}, our identity {})", rule.name, rule.local_id);
            return Err(reason);
        };
        let identity = id.identity().map_err(|fault| Failure::invalid(fault.to_string()))?;
        let body = id.body();
        let input = self.transcript.signed(&self.suite, &self.keys, crypto::Role::Responder, &body);
        proof::check(&rule, &identity, auth, &input, found, ctx.unix())?;
        if !rule.remote_id.accepts(&identity) {
            return Err(unproved(format!(
                "peer is {identity}; rule {} expects {}",
                rule.name, rule.remote_id
            )));
        }
        // Spec: with the identity known the rules are searched again; what was agreed on must be consistent.
        let (local, remote) = (sa.local.ip(), sa.remote.ip());
        let first = ctx.exchange_rule(local, remote, &identity, Some(&rule.local_id)).next();
        if let Some(first) = first
            && first.authentication == rule.authentication
            && first.lifetime(&self.suite).is_some()
        {
            sa.rule = first.clone();
        }
        Ok(identity)
    }

    /// Tells a peer that it did not prove itself (section 2.21.2); once, for nobody waits for the answer.
    fn tell_failure(&mut self, sa: &IkeSa, ctx: &mut Context<'_>, peer_refused: bool) {
        if peer_refused {
            return;
        }
        let notify = Notify::new(NotifyType::AUTHENTICATION_FAILED, Vec::new());
        let header = sa.header(ExchangeType::INFORMATIONAL, false, 2);
        if let Ok(octets) = self.sealer.seal(&Message::new(header, vec![Payload::Notify(notify)]), ctx.rng) {
            sa.send(ctx, octets);
        }
    }
}

/// A peer that authenticates again makes the next SA of the tunnel that there is, not another tunnel.
fn follow(sa: &mut IkeSa, ctx: &mut Context<'_>, own: &Identity, peer: &Identity) {
    let ends = (sa.local.ip(), sa.remote.ip());
    let between = ctx.book.with_identities(own, peer);
    let tunnel = between.into_iter().rev().find_map(|other| ctx.book.ike_of(other));
    let Some(tunnel) = tunnel.filter(|tunnel| ctx.book.ends_of_ike(*tunnel) == Some(ends)) else { return };
    sa.generation = ctx.book.move_ike(sa.tunnel, tunnel, sa.key);
    sa.tunnel = tunnel;
}

/// Notes an SA between two identities, which are to be proved again in time. The oldest goes when there are too many.
fn enter(sa: &mut IkeSa, ctx: &mut Context<'_>, own: &Identity, peer: &Identity) {
    if let Some(interval) = sa.rule.reauth_interval
        && sa.rule.initiate
    {
        // As with lifetimes, not all at the same moment.
        let Lifetime { rekey_at, .. } = Lifetime::start(ctx.now, interval, ctx.rng);
        sa.timers.set(Timer::Reauth, rekey_at);
    }
    ctx.book.note_ends_of_ike(sa.tunnel, (sa.local.ip(), sa.remote.ip()));
    let others = ctx.book.enter_identities(own, peer, sa.key);
    if others.len() >= SAS_PER_IDENTITIES
        && let Some(oldest) = others.first()
    {
        ctx.after.push(After::Delete(*oldest, "too many IKE SAs between the same identities"));
    }
}

fn first_child(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    mut request: Box<ChildRequest>,
    found: &Found<'_>,
    transcript: &Transcript,
    spi_in: u32,
) {
    let (Some(proposal), Some(ts_initiator), Some(ts_responder)) = (found.sa, found.ts_i, found.ts_r) else {
        // Section 1.2: the IKE SA stands, the child does not.
        let error = found.error().map_or(NotifyType::INVALID_SYNTAX, |error| error.kind);
        super::create_child::retry_or_fail(sa, ctx, request, error, false);
        return;
    };
    let reply = Reply {
        sa: proposal,
        ts_initiator,
        ts_responder,
        transport: found.has(NotifyType::USE_TRANSPORT_MODE),
    };
    match child::accept(
        &established.remote_id,
        sa,
        &request.rule,
        None,
        (&request.local, &request.remote),
        &reply,
    ) {
        Ok((terms, spi_out)) => {
            let draft = Draft {
                tunnel: request.tunnel,
                role: Role::Initiator,
                spi_in,
                spi_out,
                terms,
                shared: None,
                nonces: transcript.nonces(),
                outbound_active: true,
                resumed: None,
            };
            let child = child::install(sa, established, ctx, draft);
            established.children.insert(spi_in, child);
            ctx.out.counters.ike.child_local_success += 1;
            sa.counters.child_local_success += 1;
            request.made(ctx);
        }
        Err(reason) => {
            sa.counters.child_local_failure += 1;
            ctx.out.counters.ike.child_local_failure += 1;
            sa.tasks.push_back(Task::Disown(spi_in));
            request.attempts += 1;
            request.refused = true;
            request.fail(sa.remote, ctx, &reason);
        }
    }
}

/// An established identity and the rule that it goes by, or why there is none.
struct Verified {
    rule: std::sync::Arc<crate::ike::rules::ExchangeRule>,
    identity: Identity,
}

impl ExpectAuthRequest {
    /// Serves the request.
    pub(crate) fn handle(
        mut self: Box<Self>,
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        message: &Message,
        octets: &[u8],
    ) -> State {
        let found = Found::in_message(message);
        let verified = match self.authenticate(sa, ctx, &found) {
            Ok(verified) => verified,
            Err(reason) => {
                sa.counters.auth_failures += 1;
                ctx.out.counters.ike.auth_failures += 1;
                return self.refuse(sa, ctx, message, octets, NotifyType::AUTHENTICATION_FAILED, &reason);
            }
        };
        let own = Id::new(&verified.rule.local_id);
        let input = self.transcript.signed(&self.suite, &self.keys, crypto::Role::Responder, &[]);
        let body = own.body();
        let proof = prove(&verified.rule, &AuthInput { id: &body, ..input }, &self.transcript.peer_hashes);
        let (certificates, auth) = match proof {
            Ok(proof) => proof,
            Err(reason) => {
                return self.refuse(sa, ctx, message, octets, NotifyType::AUTHENTICATION_FAILED, &reason);
            }
        };
        sa.proofs = found.auth.map(|theirs| (auth.method, theirs.method));
        let mut payloads = vec![Payload::IdResponder(own)];
        payloads.extend(certificates);
        payloads.push(Payload::Auth(auth));
        sa.rule = verified.rule;
        ctx.out.counters.remote_success += 1;
        let local_id = sa.rule.local_id.clone();
        if found.has(NotifyType::INITIAL_CONTACT) {
            // Section 2.4: the peer has no other SA with us; ours to it are dead.
            for other in ctx.book.with_identities(&local_id, &verified.identity) {
                // Nothing follows them any more.
                ctx.book.leave_identities(&local_id, &verified.identity, other);
                ctx.after.push(After::Forget(other, "peer has started anew (INITIAL_CONTACT)"));
            }
        }
        follow(sa, ctx, &local_id, &verified.identity);
        enter(sa, ctx, &local_id, &verified.identity);
        let Self { opener, sealer, keys, suite, transcript, .. } = *self;
        let foundation = Foundation { keys, suite, local_id, remote_id: verified.identity };
        let mut established = Established::new(sa, ctx, foundation, sealer, opener);
        established.note_origin(sa, ctx, Origin::new(Role::Responder, transcript.nonces()));
        payloads.extend(grant_first(&mut established, sa, ctx, &found, &transcript));
        established.reply(sa, ctx, message, octets, payloads);
        established.settle(sa, ctx, Next::Keep)
    }

    fn authenticate(&self, sa: &IkeSa, ctx: &Context<'_>, found: &Found<'_>) -> Result<Verified, Failure> {
        let Some(id) = found.id_i else {
            return Err(Failure::invalid("IKE_AUTH lacks the peer's identity"));
        };
        let Some(auth) = found.auth else {
            return Err(unproved("peer wants EAP, which no rule allows".to_owned()));
        };
        let identity = id.identity().map_err(|fault| Failure::invalid(fault.to_string()))?;
        let wanted = match found.id_r.map(Id::identity).transpose() {
            Ok(wanted) => wanted,
            Err(fault) => return Err(Failure::invalid(fault.to_string())),
        };
        let matching = || ctx.exchange_rule(sa.local.ip(), sa.remote.ip(), &identity, wanted.as_ref());
        let rule = matching().find(|rule| rule.respond && rule.lifetime(&self.suite).is_some());
        let body = id.body();
        let input = self.transcript.signed(&self.suite, &self.keys, crypto::Role::Initiator, &body);
        let Some(rule) = rule else {
            // An unknown name costs what a wrong secret costs (T17).
            std::hint::black_box(verify_psk_auth(&Secret(vec![0; 32]), &input, &auth.data));
            let reason = if matching().next().is_some() {
                format!("peer {identity} agreed on {}, which its rule does not allow", self.suite)
            } else if let Some(wanted) = &wanted {
                format!("no KeyExchangeRule for peer {identity} that asks for {wanted}")
            } else {
                format!("no KeyExchangeRule for peer {identity}")
            };
            return Err(Failure::new(FailureKind::NoRule, reason));
        };
        proof::check(rule, &identity, auth, &input, found, ctx.unix())?;
        Ok(Verified { rule: rule.clone(), identity })
    }

    /// Answers with an error; the SA is over.
    pub(crate) fn refuse(
        &mut self,
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        request: &Message,
        octets: &[u8],
        kind: NotifyType,
        reason: &Failure,
    ) -> State {
        let header = sa.header(ExchangeType::IKE_AUTH, true, request.header.message_id);
        let notify = Payload::Notify(Notify::new(kind, Vec::new()));
        if let Ok(response) = self.sealer.seal(&Message::new(header, vec![notify]), ctx.rng) {
            sa.answer(ctx, octets, response);
        }
        if ctx.out.limit.allow(ctx.now, sa.remote.ip(), Mistake::Authentication).is_some() {
            return sa.fail(ctx, reason);
        }
        ctx.out.counters.remote_failure += 1;
        sa.end(ctx, reason)
    }
}

/// Grants the first child, or says why not; the IKE SA stands either way (T19).
fn grant_first(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    found: &Found<'_>,
    transcript: &Transcript,
) -> Vec<Payload> {
    let (Some(offer), Some(ts_initiator), Some(ts_responder)) = (found.sa, found.ts_i, found.ts_r) else {
        if found.sa.is_none() && found.ts_i.is_none() && found.ts_r.is_none() {
            // A peer that makes its children later (RFC 6023).
            return Vec::new();
        }
        let refusal = Refusal::new(NotifyType::INVALID_SYNTAX, "IKE_AUTH lacks a payload of its child");
        return vec![super::create_child::refused(sa, ctx, refusal)];
    };
    let transport = found.has(NotifyType::USE_TRANSPORT_MODE);
    let wish = Wish { sa: offer, ts_initiator, ts_responder, transport, ke: None };
    let granted = child::room(established, ctx)
        .and_then(|()| child::grant(established, sa, ctx, &wish, &Occasion::First));
    let grant = match granted {
        Ok(grant) => grant,
        Err(refusal) => return vec![super::create_child::refused(sa, ctx, refusal)],
    };
    let spi_in = ctx.book.new_child_spi(ctx.rng);
    let payloads = grant.payloads(spi_in);
    let tunnel = child::place(sa, established, ctx, &grant.terms);
    // The peer cannot receive on it before it has our answer: what can go another way until then does.
    let outbound_active = !ctx.book.has_active_twin(&grant.terms.local, &grant.terms.remote);
    let draft = Draft {
        tunnel,
        role: Role::Responder,
        spi_in,
        spi_out: grant.spi_out,
        terms: grant.terms,
        shared: None,
        nonces: transcript.nonces(),
        outbound_active,
        resumed: None,
    };
    let mut child = child::install(sa, established, ctx, draft);
    child.activate_at = (!outbound_active).then(|| ctx.now + PREFER_NEW);
    established.children.insert(spi_in, child);
    leave_child(tunnel, ctx, "");
    sa.counters.child_remote_success += 1;
    ctx.out.counters.ike.child_remote_success += 1;
    payloads
}

/// For the events of a peer that failed.
pub(crate) fn failed(peer: SocketAddr, rule: Option<String>, reason: Failure) -> Event {
    Event::Failed { peer: peer.ip(), rule, reason, acquire: None }
}
