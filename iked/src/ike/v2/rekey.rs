//! CREATE_CHILD_SA in place of a child (RFC 7296 sections 1.3.3 and 2.8).
//!
//! The initiator installs the new pair, sends on it, and deletes the old one. The responder installs the new pair for
//! receiving only and goes on sending on the old one until that is deleted: no packet is lost.

use super::child::{self, Draft, Occasion, Refusal, Reply, Standing};
use super::collision::Rival;
use super::create_child::{Asked, PATIENCE, agree, grant, with_exchange};
use super::established::{Established, Next};
use super::found::Found;
use super::init::fresh_nonce;
use super::sa::{Exchange, IkeSa, Task};
use crate::ike::context::{After, Context};
use crate::ike::crypto::PrivateKey;
use crate::ike::event::Event;
use crate::ike::failure::{Failure, FailureKind};
use crate::ike::lifetime::retry_after;
use crate::ike::rules::ChildRule;
use crate::ike::snapshot::{ExchangeRecord, RequestRecord};
use crate::ike::types::{Group, Identity, Mode, Secret, TrafficSelector, TunnelId};
use crate::ike::view::Role;
use crate::ike::wire::payload::{Nonce, Notify, Ts};
use crate::ike::wire::{ExchangeType, Message, NotifyType, Payload, ProtocolId};
use std::sync::Arc;
use std::time::Duration;

/// The least wait before a rekey that was refused is tried again.
pub(crate) const RETRY: Duration = Duration::from_secs(10);

/// We asked for a child in place of another.
pub(crate) struct ExpectChildRekey {
    /// Inbound SPI of the old one.
    pub(crate) old: u32,
    /// The child that the peer made in its place meanwhile, by inbound SPI.
    pub(crate) rival: Option<Rival<u32>>,
    wished: Wished,
    spi_in: u32,
    nonce: Nonce,
    private: Option<PrivateKey>,
    again: bool,
    /// Another process sent the request and may have used the child: from which sequence number on this one sends.
    pub(crate) resumed: Option<u64>,
    /// SPIs that the peer has deleted while its answer was under way.
    pub(crate) deleted: Vec<u32>,
}

/// What the old child had, which the new one is to have.
#[derive(Debug, Clone)]
struct Wished {
    tunnel: TunnelId,
    rule: Arc<ChildRule>,
    local: Vec<TrafficSelector>,
    remote: Vec<TrafficSelector>,
    mode: Mode,
    group: Option<Group>,
}

impl std::fmt::Debug for ExpectChildRekey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExpectChildRekey").field("old", &self.old).finish_non_exhaustive()
    }
}

/// Asks for a child in place of one that serves.
pub(crate) fn start_child(established: &mut Established, sa: &mut IkeSa, ctx: &mut Context<'_>, spi: u32) {
    let Some(old) = established.children.get(&spi).filter(|child| child.standing == Standing::Rekeying)
    else {
        return;
    };
    let rule = ctx.rules.current_child(&old.terms);
    let wished = Wished {
        tunnel: old.tunnel,
        local: old.terms.local.clone(),
        remote: old.terms.remote.clone(),
        mode: old.terms.mode,
        group: rule.pfs_initiate,
        rule,
    };
    send_child(established, sa, ctx, spi, wished, false);
}

fn send_child(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    old: u32,
    wished: Wished,
    again: bool,
) {
    let spi_in = ctx.book.new_child_spi(ctx.rng);
    let nonce = fresh_nonce(ctx.rng);
    let private = wished.group.map(|group| PrivateKey::generate(group, ctx.rng));
    let protocol =
        established.children.get(&old).map_or(ProtocolId::ESP, |child| child.terms.suite.protocol());
    let mut payloads = vec![
        Payload::Notify(Notify::about_child(NotifyType::REKEY_SA, protocol, old)),
        Payload::Sa(wished.rule.proposals(spi_in, wished.group)),
        Payload::TsInitiator(Ts::new(wished.local.clone())),
        Payload::TsResponder(Ts::new(wished.remote.clone())),
    ];
    if wished.mode == Mode::Transport {
        payloads.push(Payload::Notify(Notify::new(NotifyType::USE_TRANSPORT_MODE, Vec::new())));
    }
    let payloads = with_exchange(payloads, &nonce, private.as_ref());
    let expect = Box::new(ExpectChildRekey {
        old,
        rival: None,
        wished,
        spi_in,
        nonce,
        private,
        again,
        resumed: None,
        deleted: Vec::new(),
    });
    established.request(sa, ctx, ExchangeType::CREATE_CHILD_SA, payloads, Exchange::RekeyChild(expect));
}

impl ExpectChildRekey {
    /// As another process needs it.
    pub(crate) fn record(&self) -> ExchangeRecord {
        let Wished { tunnel, rule, local, remote, mode, group } = &self.wished;
        ExchangeRecord::RekeyChild {
            old: self.old,
            rival: self.rival.as_ref().map(|rival| (rival.sa, rival.lowest.clone())),
            wished: RequestRecord {
                tunnel: tunnel.0,
                rule: rule.rule.clone(),
                local: local.clone(),
                remote: remote.clone(),
                group: *group,
                attempts: 0,
            },
            mode: *mode,
            again: self.again,
            deleted: self.deleted.clone(),
            spi_in: self.spi_in,
            nonce: self.nonce.as_slice().to_vec(),
            private: self.private.as_ref().map(PrivateKey::record),
        }
    }

    /// What [`Self::record`] gave, with its tunnel and rule here.
    pub(crate) fn revive(
        record: &ExchangeRecord,
        tunnel: TunnelId,
        rule: Arc<ChildRule>,
        resumed: Option<u64>,
    ) -> Option<Self> {
        let ExchangeRecord::RekeyChild { old, rival, wished, mode, again, deleted, spi_in, nonce, private } =
            record
        else {
            return None;
        };
        let private = match private {
            Some(private) => Some(private.revive()?),
            None => None,
        };
        let (local, remote) = (wished.local.clone(), wished.remote.clone());
        Some(Self {
            old: *old,
            rival: rival.as_ref().map(|(sa, lowest)| Rival { sa: *sa, lowest: lowest.clone() }),
            wished: Wished { tunnel, rule, local, remote, mode: *mode, group: wished.group },
            spi_in: *spi_in,
            nonce: Nonce::restore(nonce.clone())?,
            private,
            again: *again,
            resumed,
            deleted: deleted.clone(),
        })
    }

    /// Takes the answer.
    pub(crate) fn handle(
        self: Box<Self>,
        established: &mut Established,
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        message: &Message,
    ) -> Next {
        let found = Found::in_message(message);
        if let Some(error) = found.error() {
            self.refused(established, sa, ctx, error);
            return Next::Keep;
        }
        let (terms, spi_out, shared, nonce_r) = match self.complete(&established.remote_id, sa, &found) {
            Ok(made) => made,
            Err(reason) => {
                sa.tasks.push_back(Task::Disown(self.spi_in));
                self.give_up(established, sa, ctx, &reason);
                return Next::Keep;
            }
        };
        let nonces = (self.nonce.as_slice(), nonce_r.as_slice());
        let stays = self.rival.as_ref().is_some_and(|rival| rival.stays(nonces));
        let rival = self.rival.as_ref().filter(|rival| established.children.contains_key(&rival.sa));
        let rival_stays = stays && rival.is_some();
        let old_is_there = established.children.contains_key(&self.old);
        if (!old_is_there && self.rival.is_none()) || (stays && rival.is_none()) {
            // The tunnel was deleted while its rekey was under way, or the peer's SA, which stayed, was replaced again.
            sa.tasks.push_back(Task::Disown(self.spi_in));
            return Next::Keep;
        }
        let draft = Draft {
            tunnel: self.wished.tunnel,
            role: Role::Initiator,
            spi_in: self.spi_in,
            spi_out,
            terms,
            shared: shared.as_ref(),
            nonces,
            outbound_active: !rival_stays,
            resumed: self.resumed,
        };
        let new = child::install(sa, established, ctx, draft);
        established.children.insert(self.spi_in, new);
        sa.counters.child_local_success += 1;
        ctx.out.counters.ike.child_local_success += 1;
        match rival {
            Some(rival) if rival_stays => {
                // Ours is the redundant one; the peer deletes the old one (section 2.8.1).
                established.want_delete(sa, self.spi_in, "redundant after both ends rekeyed");
                let by = rival.sa;
                replaced_by(established, ctx, self.old, by);
            }
            _ => established.want_delete(sa, self.old, "rekeyed"),
        }
        if self.resumed.is_some() {
            // Nothing is accepted on it.
            established.want_rekey(sa, self.spi_in);
        }
        if self.deleted.contains(&spi_out) {
            established.remove_child(ctx, self.spi_in, "deleted by the peer");
        }
        Next::Keep
    }

    fn complete(
        &self,
        peer: &Identity,
        sa: &IkeSa,
        found: &Found<'_>,
    ) -> Result<(child::Terms, u32, Option<Secret>, Nonce), Failure> {
        let (Some(proposal), Some(nonce), Some(ts_initiator), Some(ts_responder)) =
            (found.sa, found.nonce, found.ts_i, found.ts_r)
        else {
            return Err(Failure::invalid("answer to a rekey lacks a payload"));
        };
        let transport = found.has(NotifyType::USE_TRANSPORT_MODE);
        let reply = Reply { sa: proposal, ts_initiator, ts_responder, transport };
        let wished = (self.wished.local.as_slice(), self.wished.remote.as_slice());
        let (terms, spi_out) = child::accept(peer, sa, &self.wished.rule, self.wished.group, wished, &reply)?;
        if terms.mode != self.wished.mode {
            let text = format!("peer answers the rekey with {:?} mode", terms.mode);
            return Err(Failure::new(FailureKind::NoProposal, text));
        }
        Ok((terms, spi_out, agree(self.private.as_ref(), found.ke)?, nonce.clone()))
    }

    fn refused(self, established: &mut Established, sa: &mut IkeSa, ctx: &mut Context<'_>, error: &Notify) {
        match error.kind {
            NotifyType::INVALID_KE_PAYLOAD if !self.again && self.rival.is_none() => {
                let group = error.group().and_then(Group::from_number);
                let rule = &self.wished.rule;
                if let Some(group) = group
                    && (rule.pfs_accept.contains(&Some(group)) || rule.pfs_initiate == Some(group))
                    && established.children.contains_key(&self.old)
                {
                    let wished = Wished { group: Some(group), ..self.wished };
                    send_child(established, sa, ctx, self.old, wished, true);
                    return;
                }
                let reason = Failure::notified(error.kind, "peer wants another group");
                self.give_up(established, sa, ctx, &reason);
            }
            NotifyType::TEMPORARY_FAILURE => self.postpone(established, ctx, PATIENCE),
            NotifyType::NO_ADDITIONAL_SAS if sa.rule.initiate => {
                // Section 4: a peer that rekeys nothing wants a new IKE SA with its children.
                self.postpone(established, ctx, RETRY);
                ctx.after.push(After::Reauthenticate(sa.key));
            }
            NotifyType::CHILD_SA_NOT_FOUND => {
                // Section 2.25: the peer has deleted it, and its Delete is on the way or was lost.
                if let Some(rival) = &self.rival {
                    established.activate(ctx, rival.sa);
                }
                established.remove_child(ctx, self.old, "peer does not have it any more");
            }
            kind => {
                let reason = Failure::notified(kind, format!("peer answers {kind} to a rekey"));
                self.give_up(established, sa, ctx, &reason);
            }
        }
    }

    /// The old child goes on; the rekey comes again later.
    fn postpone(&self, established: &mut Established, ctx: &mut Context<'_>, least: Duration) {
        if let Some(rival) = &self.rival
            && established.children.contains_key(&rival.sa)
        {
            return replaced_by(established, ctx, self.old, rival.sa);
        }
        let again = ctx.now + retry_after(least, ctx.rng);
        if let Some(old) = established.children.get_mut(&self.old)
            && old.standing == Standing::Rekeying
        {
            old.standing = Standing::Serving;
            old.life.rekey_at = again;
        }
    }

    fn give_up(
        &self,
        established: &mut Established,
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        reason: &Failure,
    ) {
        sa.counters.child_local_failure += 1;
        ctx.out.counters.ike.child_local_failure += 1;
        let rule = self.wished.rule.rule.clone();
        let reason = Failure::new(reason.kind, format!("rekey of rule {rule}: {reason}"));
        ctx.out.events.push_back(Event::Failed {
            peer: sa.remote.ip(),
            rule: Some(rule),
            reason,
            acquire: None,
        });
        self.postpone(established, ctx, RETRY);
    }
}

/// The peer will delete `old`; until then both are there.
fn replaced_by(established: &mut Established, ctx: &mut Context<'_>, old: u32, by: u32) {
    match established.children.get_mut(&old) {
        Some(child) if child.standing != Standing::Closing => child.standing = Standing::Replaced { by },
        Some(_) => {}
        None => established.activate(ctx, by),
    }
}

/// Serves a rekey of a child.
pub(crate) fn respond_child(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    found: &Found<'_>,
    rekeyed: &Notify,
) -> Result<Vec<Payload>, Refusal> {
    // Section 1.3.3: the SPI is the one on which the sender of the request receives.
    let old = rekeyed.child_spi().and_then(|(protocol, spi_out)| {
        let old = established.children.get(&established.by_outbound(spi_out)?)?;
        (old.terms.suite.protocol() == protocol).then_some(old)
    });
    let Some(old) = old else {
        if sa.outbound.open().is_some_and(|open| open.exchange.makes_child()) {
            // It may be the one that the answer we wait for will name (section 2.25).
            return Err(Refusal::new(NotifyType::TEMPORARY_FAILURE, ""));
        }
        let mut refusal = Refusal::new(NotifyType::CHILD_SA_NOT_FOUND, "");
        refusal.notify.protocol = rekeyed.protocol;
        refusal.notify.spi.clone_from(&rekeyed.spi);
        return Err(refusal);
    };
    let (spi, tunnel, rule) = (old.spi_in, old.tunnel, old.terms.rule.clone());
    match old.standing {
        // Two rekeys of one child, or it is being deleted (section 2.25.1).
        Standing::Replaced { .. } | Standing::Closing => {
            return Err(Refusal::new(NotifyType::TEMPORARY_FAILURE, ""));
        }
        Standing::Serving | Standing::Rekeying => {}
    }
    let contested = match sa.outbound.open().map(|open| &open.exchange) {
        Some(Exchange::RekeyChild(ours)) if ours.old == spi => {
            if ours.rival.is_some() {
                return Err(Refusal::new(NotifyType::TEMPORARY_FAILURE, ""));
            }
            true
        }
        _ => false,
    };
    let asked = Asked::of(found)?;
    let granted = grant(established, sa, ctx, &asked, &Occasion::Rekey(rule), Some(tunnel))?;
    let nonces = (asked.nonce.as_slice(), granted.nonce.as_slice());
    if contested {
        if let Some(open) = sa.outbound.open_mut()
            && let Exchange::RekeyChild(ours) = &mut open.exchange
        {
            ours.rival = Some(Rival::new(granted.spi_in, nonces));
        }
    } else if let Some(old) = established.children.get_mut(&spi) {
        old.standing = Standing::Replaced { by: granted.spi_in };
    }
    Ok(granted.payloads)
}
