//! CREATE_CHILD_SA for a new child (RFC 7296 section 1.3.1), and the first look at every such request.

use super::child::{self, Draft, Occasion, Refusal, Reply, Wish};
use super::established::{Established, Next};
use super::found::Found;
use super::init::{Target, fresh_nonce};
use super::sa::{ChildRequest, Exchange, IkeSa, Task, leave_child};
use super::{rekey, rekey_ike};
use crate::ike::context::{After, Context};
use crate::ike::crypto::PrivateKey;
use crate::ike::event::Event;
use crate::ike::failure::Failure;
use crate::ike::lifetime::retry_after;
use crate::ike::proposal::protocol;
use crate::ike::snapshot::ExchangeRecord;
use crate::ike::timer::Timer;
use crate::ike::types::{Group, Identity, Secret};
use crate::ike::view::Role;
use crate::ike::wire::payload::{Ke, Nonce};
use crate::ike::wire::{ExchangeType, Message, NotifyType, Payload, ProtocolId};
use std::time::Duration;

/// How often a child is asked for again when the peer wants patience, another group or a single pair of selectors.
const ATTEMPTS: u32 = 8;

/// The least wait after TEMPORARY_FAILURE.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// We asked for a child.
pub(crate) struct ExpectChild {
    request: Box<ChildRequest>,
    /// It is to be deleted as soon as it is made.
    pub(crate) unwanted: bool,
    /// SPIs that the peer has deleted while its answer was under way.
    pub(crate) deleted: Vec<u32>,
    spi_in: u32,
    nonce: Nonce,
    private: Option<PrivateKey>,
    /// Another process sent the request and may have used the child: from which sequence number on this one sends.
    pub(crate) resumed: Option<u64>,
}

impl std::fmt::Debug for ExpectChild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExpectChild").field("request", &self.request).finish_non_exhaustive()
    }
}

/// Asks for a child.
pub(crate) fn start(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    request: Box<ChildRequest>,
) {
    let spi_in = ctx.book.new_child_spi(ctx.rng);
    let nonce = fresh_nonce(ctx.rng);
    let private = request.group.map(|group| PrivateKey::generate(group, ctx.rng));
    let payloads = with_exchange(request.payloads(spi_in, request.group), &nonce, private.as_ref());
    let expect = Box::new(ExpectChild {
        request,
        unwanted: false,
        deleted: Vec::new(),
        spi_in,
        nonce,
        private,
        resumed: None,
    });
    established.request(sa, ctx, ExchangeType::CREATE_CHILD_SA, payloads, Exchange::NewChild(expect));
}

/// Puts nonce and public value behind the SA payload.
pub(crate) fn with_exchange(
    mut payloads: Vec<Payload>,
    nonce: &Nonce,
    private: Option<&PrivateKey>,
) -> Vec<Payload> {
    let at = payloads.iter().position(|payload| matches!(payload, Payload::Sa(_))).map_or(0, |at| at + 1);
    if let Some(private) = private {
        let ke = Ke { group: private.group().number(), value: private.public().to_vec() };
        payloads.insert(at, Payload::Ke(ke));
    }
    payloads.insert(at, Payload::Nonce(nonce.clone()));
    payloads
}

/// The shared secret of an answer to an exchange with our `private`.
pub(crate) fn agree(private: Option<&PrivateKey>, ke: Option<&Ke>) -> Result<Option<Secret>, Failure> {
    let Some(private) = private else { return Ok(None) };
    let Some(ke) = ke.filter(|ke| ke.group == private.group().number()) else {
        return Err(Failure::invalid("peer answers without a public value of the group agreed on"));
    };
    private.agree(&ke.value).map(Some).map_err(|error| Failure::invalid(error.to_string()))
}

impl ExpectChild {
    /// What was asked for.
    pub(crate) fn request(&self) -> &ChildRequest {
        &self.request
    }

    /// What was asked for.
    pub(crate) fn request_mut(&mut self) -> &mut ChildRequest {
        &mut self.request
    }

    /// Gives the request back.
    pub(crate) fn into_request(self) -> Box<ChildRequest> {
        self.request
    }

    /// As another process needs it.
    pub(crate) fn record(&self) -> ExchangeRecord {
        ExchangeRecord::NewChild {
            request: self.request.record(),
            unwanted: self.unwanted,
            deleted: self.deleted.clone(),
            spi_in: self.spi_in,
            nonce: self.nonce.as_slice().to_vec(),
            private: self.private.as_ref().map(PrivateKey::record),
        }
    }

    /// What [`Self::record`] gave, with its request.
    pub(crate) fn revive(
        record: &ExchangeRecord,
        request: Box<ChildRequest>,
        resumed: Option<u64>,
    ) -> Option<Self> {
        let ExchangeRecord::NewChild { unwanted, deleted, spi_in, nonce, private, .. } = record else {
            return None;
        };
        let private = match private {
            Some(private) => Some(private.revive()?),
            None => None,
        };
        Some(Self {
            request,
            unwanted: *unwanted,
            deleted: deleted.clone(),
            spi_in: *spi_in,
            nonce: Nonce::restore(nonce.clone())?,
            private,
            resumed,
        })
    }

    /// Takes the answer.
    pub(crate) fn handle(
        self,
        established: &mut Established,
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        message: &Message,
    ) -> Next {
        let found = Found::in_message(message);
        let Self { mut request, unwanted, deleted, spi_in, nonce, private, resumed } = self;
        if let Some(error) = found.error() {
            if error.kind == NotifyType::INVALID_KE_PAYLOAD
                && let Some(group) = error.group().and_then(Group::from_number)
                && another_group(&request, group)
            {
                request.attempts += 1;
                request.group = Some(group);
                sa.tasks.push_front(Task::NewChild(request));
                return Next::Keep;
            }
            retry_or_fail(sa, ctx, request, error.kind, true);
            return Next::Keep;
        }
        let made = complete(&established.remote_id, sa, &request, &found, private.as_ref());
        let (terms, spi_out, shared, nonce_r) = match made {
            Ok(made) => made,
            Err(reason) => {
                sa.counters.child_local_failure += 1;
                ctx.out.counters.ike.child_local_failure += 1;
                // The peer has it: it must go there (section 1.3).
                request.refused = true;
                sa.tasks.push_back(Task::Disown(spi_in));
                request.fail(sa.remote, ctx, &reason);
                return Next::Keep;
            }
        };
        if unwanted {
            sa.tasks.push_back(Task::Disown(spi_in));
            request.fail(sa.remote, ctx, &Failure::deactivated("deactivated"));
            return Next::Keep;
        }
        let draft = Draft {
            tunnel: request.tunnel,
            role: Role::Initiator,
            spi_in,
            spi_out,
            terms,
            shared: shared.as_ref(),
            nonces: (nonce.as_slice(), nonce_r.as_slice()),
            outbound_active: true,
            resumed,
        };
        let child = child::install(sa, established, ctx, draft);
        established.children.insert(spi_in, child);
        sa.counters.child_local_success += 1;
        ctx.out.counters.ike.child_local_success += 1;
        request.made(ctx);
        if resumed.is_some() {
            // Nothing is accepted on it.
            established.want_rekey(sa, spi_in);
        }
        if deleted.contains(&spi_out) {
            established.remove_child(ctx, spi_in, "deleted by the peer");
        }
        Next::Keep
    }
}

/// Whether the group that the peer wants may be used: one that the rule accepts, and not the one just tried.
fn another_group(request: &ChildRequest, group: Group) -> bool {
    request.attempts < ATTEMPTS
        && request.group != Some(group)
        && (request.rule.pfs_accept.contains(&Some(group)) || request.rule.pfs_initiate == Some(group))
}

type Completed = (child::Terms, u32, Option<Secret>, Nonce);

fn complete(
    peer: &Identity,
    sa: &IkeSa,
    request: &ChildRequest,
    found: &Found<'_>,
    private: Option<&PrivateKey>,
) -> Result<Completed, Failure> {
    let (Some(proposal), Some(nonce), Some(ts_initiator), Some(ts_responder)) =
        (found.sa, found.nonce, found.ts_i, found.ts_r)
    else {
        return Err(Failure::invalid("answer to CREATE_CHILD_SA lacks a payload"));
    };
    let reply = Reply {
        sa: proposal,
        ts_initiator,
        ts_responder,
        transport: found.has(NotifyType::USE_TRANSPORT_MODE),
    };
    let wished = (request.local.as_slice(), request.remote.as_slice());
    let (terms, spi_out) = child::accept(peer, sa, &request.rule, request.group, wished, &reply)?;
    let shared = agree(private, found.ke)?;
    Ok((terms, spi_out, shared, nonce.clone()))
}

/// The peer refused a child: asks again where that may help, otherwise the request has failed.
pub(crate) fn retry_or_fail(
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    mut request: Box<ChildRequest>,
    kind: NotifyType,
    in_own_exchange: bool,
) {
    request.attempts += 1;
    if request.attempts < ATTEMPTS {
        if kind == NotifyType::TEMPORARY_FAILURE {
            sa.timers.set(Timer::Retry, ctx.now + retry_after(PATIENCE, ctx.rng));
            sa.tasks.push_back(Task::NewChild(request));
            return;
        }
        if kind == NotifyType::NO_ADDITIONAL_SAS && in_own_exchange && sa.rule.initiate {
            // Section 1.3: this IKE SA carries no more of them; another one may.
            let target = Target { tunnel: None, rule: sa.rule.clone(), local: sa.local, remote: sa.remote };
            request.initial_contact = false;
            ctx.after.push(After::Apart { request, target: Box::new(target) });
            return;
        }
        if kind == NotifyType::SINGLE_PAIR_REQUIRED && (request.local.len() > 1 || request.remote.len() > 1) {
            // Section 2.9: the first pair is the one that is needed now.
            request.local.truncate(1);
            request.remote.truncate(1);
            sa.tasks.push_front(Task::NewChild(request));
            return;
        }
    }
    sa.counters.child_local_failure += 1;
    ctx.out.counters.ike.child_local_failure += 1;
    request.refused = true;
    let exchange = if in_own_exchange { "CREATE_CHILD_SA" } else { "IKE_AUTH" };
    let text = format!(
        "peer answers {kind} to {exchange}; rule {} offers {} for {} here and {} there",
        request.rule.rule,
        crate::ike::proposal::shown(&request.rule.proposals(0, request.group)),
        child::shown(&request.local),
        child::shown(&request.remote),
    );
    request.fail(sa.remote, ctx, &Failure::notified(kind, text));
}

/// Serves a CREATE_CHILD_SA request: a new child, a rekey of a child, or of the IKE SA.
pub(crate) fn respond(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    message: &Message,
    octets: &[u8],
) -> Next {
    let found = Found::in_message(message);
    let answer = if !established.serves() || !established.allowance.take(ctx.now) {
        // Section 2.25.2, and threats T32.
        Err(Refusal::new(NotifyType::TEMPORARY_FAILURE, ""))
    } else if found.sa.is_some_and(|offer| protocol(offer) == ProtocolId::IKE) {
        rekey_ike::respond(established, sa, ctx, &found)
    } else if Established::is_rekeying_ike(sa) {
        // Section 2.25.2: the child would be lost with the IKE SA.
        Err(Refusal::new(NotifyType::TEMPORARY_FAILURE, ""))
    } else if let Some(rekeyed) = found.notify(NotifyType::REKEY_SA) {
        rekey::respond_child(established, sa, ctx, &found, rekeyed)
    } else {
        respond_new(established, sa, ctx, &found)
    };
    match answer {
        Ok(payloads) => established.reply(sa, ctx, message, octets, payloads),
        Err(refusal) => {
            let notify = refused(sa, ctx, refusal);
            established.reply(sa, ctx, message, octets, vec![notify]);
        }
    }
    Next::Keep
}

/// What the peer is told of a refusal; the operator is told as well where it is not the normal course of things.
pub(crate) fn refused(sa: &mut IkeSa, ctx: &mut Context<'_>, refusal: Refusal) -> Payload {
    if !refusal.reason.is_empty() {
        sa.counters.child_remote_failure += 1;
        ctx.out.counters.ike.child_remote_failure += 1;
        if ctx.out.limit.allow(ctx.now, sa.remote.ip(), crate::ike::error::Mistake::Child).is_some() {
            let (kind, peer) = (refusal.notify.kind, sa.remote.ip());
            ctx.out.events.push_back(Event::Failed {
                peer,
                rule: refusal.rule,
                reason: Failure::notified(kind, format!("{kind} for peer {peer}: {}", refusal.reason)),
                acquire: None,
            });
        }
    }
    Payload::Notify(refusal.notify)
}

/// What a request for a child must hold.
pub(crate) struct Asked<'m> {
    /// What is asked for.
    pub(crate) wish: Wish<'m>,
    /// The peer's nonce.
    pub(crate) nonce: &'m Nonce,
}

impl<'m> Asked<'m> {
    /// Of a message.
    pub(crate) fn of(found: &Found<'m>) -> Result<Self, Refusal> {
        let (Some(sa), Some(nonce), Some(ts_initiator), Some(ts_responder)) =
            (found.sa, found.nonce, found.ts_i, found.ts_r)
        else {
            return Err(Refusal::new(NotifyType::INVALID_SYNTAX, "CREATE_CHILD_SA lacks a payload"));
        };
        let transport = found.has(NotifyType::USE_TRANSPORT_MODE);
        Ok(Self { wish: Wish { sa, ts_initiator, ts_responder, transport, ke: found.ke }, nonce })
    }
}

/// A child granted in CREATE_CHILD_SA, installed; the payloads of the answer.
pub(crate) struct Granted {
    /// Its inbound SPI.
    pub(crate) spi_in: u32,
    /// The answer.
    pub(crate) payloads: Vec<Payload>,
    /// Our nonce.
    pub(crate) nonce: Nonce,
}

/// Grants a child and has it installed.
pub(crate) fn grant(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    asked: &Asked<'_>,
    occasion: &Occasion,
    tunnel: Option<crate::ike::types::TunnelId>,
) -> Result<Granted, Refusal> {
    let grant = child::grant(established, sa, ctx, &asked.wish, occasion)?;
    let private = grant.terms.suite.group.map(|group| PrivateKey::generate(group, ctx.rng));
    let shared = agree(private.as_ref(), asked.wish.ke)
        .map_err(|reason| Refusal::new(NotifyType::INVALID_SYNTAX, reason.text))?;
    let spi_in = ctx.book.new_child_spi(ctx.rng);
    let nonce = fresh_nonce(ctx.rng);
    let payloads = with_exchange(grant.payloads(spi_in), &nonce, private.as_ref());
    let fresh = tunnel.is_none();
    let tunnel = tunnel.unwrap_or_else(|| child::place(sa, established, ctx, &grant.terms));
    // The responder of a rekey goes on sending on the old SA until that is deleted (section 2.8), and so it does with
    // any other SA for the same traffic: the peer cannot receive on the new one before it has our answer.
    let outbound_active = fresh && !ctx.book.has_active_twin(&grant.terms.local, &grant.terms.remote);
    let draft = Draft {
        tunnel,
        role: Role::Responder,
        spi_in,
        spi_out: grant.spi_out,
        terms: grant.terms,
        shared: shared.as_ref(),
        nonces: (asked.nonce.as_slice(), nonce.as_slice()),
        outbound_active,
        resumed: None,
    };
    let mut child = child::install(sa, established, ctx, draft);
    child.activate_at = (fresh && !outbound_active).then(|| ctx.now + child::PREFER_NEW);
    established.children.insert(spi_in, child);
    if fresh {
        leave_child(tunnel, ctx, "");
    }
    sa.counters.child_remote_success += 1;
    ctx.out.counters.ike.child_remote_success += 1;
    Ok(Granted { spi_in, payloads, nonce })
}

fn respond_new(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    found: &Found<'_>,
) -> Result<Vec<Payload>, Refusal> {
    let asked = Asked::of(found)?;
    child::room(established, ctx)?;
    let granted = grant(established, sa, ctx, &asked, &Occasion::Further, None)?;
    Ok(granted.payloads)
}
