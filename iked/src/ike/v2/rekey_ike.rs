//! CREATE_CHILD_SA in place of the IKE SA itself (RFC 7296 sections 1.3.2, 2.8.2 and 2.18). The children move to the new
//! one; where both ends replaced it at once, to the one that stays.

use super::child::Refusal;
use super::collision::Rival;
use super::create_child::{PATIENCE, agree};
use super::established::{Established, Foundation, IkeStanding, Next};
use super::found::Found;
use super::fragments::Fragments;
use super::init::fresh_nonce;
use super::rekey::RETRY;
use super::sa::{Exchange, Held, IkeSa, State, Task};
use super::window::{Inbound, Outbound};
use crate::ike::context::{After, Context};
use crate::ike::crypto::{IkeKeys, PrivateKey};
use crate::ike::failure::{Failure, FailureKind};
use crate::ike::lifetime::retry_after;
use crate::ike::proposal::{ike_proposals, mismatch};
use crate::ike::snapshot::ExchangeRecord;
use crate::ike::table::SaKey;
use crate::ike::timer::{Timer, TimerTable};
use crate::ike::types::Group;
use crate::ike::view::{IkeCounters, Role};
use crate::ike::wire::payload::{Ke, Nonce, Notify, Proposal, Sa};
use crate::ike::wire::{ExchangeType, IkeSuite, Message, NotifyType, Payload, choose_ike};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long the peer has to delete an IKE SA that it replaced, before we do.
const SUCCESSION: Duration = Duration::from_secs(60);

/// We asked for an IKE SA in place of this one.
pub(crate) struct ExpectIkeRekey {
    /// Our SPI of the new one, reserved.
    pub(crate) spi: u64,
    /// The SA that the peer made in this one's place meanwhile.
    pub(crate) rival: Option<Rival<SaKey>>,
    key: SaKey,
    suites: Vec<IkeSuite>,
    nonce: Nonce,
    private: PrivateKey,
    again: bool,
}

impl std::fmt::Debug for ExpectIkeRekey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExpectIkeRekey").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Asks for an IKE SA in place of this one.
pub(crate) fn start(established: &mut Established, sa: &mut IkeSa, ctx: &mut Context<'_>) {
    sa.rule = ctx.rules.current_exchange(&sa.rule);
    let mut suites = sa.rule.suites();
    // The group in use is the one that the peer is known to take.
    suites.sort_by_key(|suite| suite.group != established.suite.group);
    if suites.is_empty() {
        suites.push(established.suite);
    }
    let group = suites[0].group;
    send(established, sa, ctx, suites, group, false);
}

fn send(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    suites: Vec<IkeSuite>,
    group: Group,
    again: bool,
) {
    let key = ctx.book.new_sa();
    let spi = ctx.book.new_ike_spi(key, ctx.rng);
    let nonce = fresh_nonce(ctx.rng);
    let private = PrivateKey::generate(group, ctx.rng);
    let payloads = vec![
        Payload::Sa(ike_proposals(&suites, Some(spi))),
        Payload::Nonce(nonce.clone()),
        Payload::Ke(Ke { group: group.number(), value: private.public().to_vec() }),
    ];
    let expect = Box::new(ExpectIkeRekey { spi, rival: None, key, suites, nonce, private, again });
    established.request(sa, ctx, ExchangeType::CREATE_CHILD_SA, payloads, Exchange::RekeyIke(expect));
}

impl ExpectIkeRekey {
    /// As another process needs it; `own_spi` names the rival.
    pub(crate) fn record(&self, own_spi: &dyn Fn(SaKey) -> Option<u64>) -> ExchangeRecord {
        let rival = self.rival.as_ref().and_then(|rival| Some((own_spi(rival.sa)?, rival.lowest.clone())));
        ExchangeRecord::RekeyIke {
            spi: self.spi,
            rival,
            suites: self.suites.clone(),
            again: self.again,
            nonce: self.nonce.as_slice().to_vec(),
            private: self.private.record(),
        }
    }

    /// What [`Self::record`] gave; `keys` are the SAs here by their own SPIs.
    pub(crate) fn revive(record: &ExchangeRecord, key: SaKey, keys: &BTreeMap<u64, SaKey>) -> Option<Self> {
        let ExchangeRecord::RekeyIke { spi, rival, suites, again, nonce, private } = record else {
            return None;
        };
        let rival = rival
            .as_ref()
            .and_then(|(spi, lowest)| keys.get(spi).map(|sa| Rival { sa: *sa, lowest: lowest.clone() }));
        Some(Self {
            spi: *spi,
            rival,
            key,
            suites: suites.clone(),
            nonce: Nonce::restore(nonce.clone())?,
            private: private.revive()?,
            again: *again,
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
        let made = match found.error() {
            Some(error) => Err(Some(error)),
            None => self.complete(established, &found).map_err(|reason| {
                let text = format!("rekey of the IKE SA: {reason}");
                let reason = Failure { text, ..reason };
                ctx.out.events.push_back(super::auth::failed(sa.remote, Some(sa.rule.name.clone()), reason));
                None
            }),
        };
        let (suite, keys, spi_r, nonce_r) = match made {
            Ok(made) => made,
            Err(error) => {
                ctx.book.ike_spis.remove(&self.spi);
                self.refused(established, sa, ctx, error);
                return Next::Keep;
            }
        };
        let mut new = successor(sa, ctx, self.key, Role::Initiator, (self.spi, spi_r));
        let mut next = found_sa(&mut new, ctx, established, suite, keys);
        let nonces = (self.nonce.as_slice(), nonce_r.as_slice());
        match self.rival.filter(|rival| rival.stays(nonces)) {
            Some(rival) => {
                // Ours is the redundant one (section 2.8.2); the peer deletes the old one.
                next.want_delete_ike(&mut new, ctx, "redundant after both ends rekeyed");
                adopt(new, next, ctx);
                succeeded(established, sa, ctx, rival.sa);
            }
            None => {
                let key = new.key;
                // Deleted, or retired for one with authentication, while its successor was being made: that goes too.
                let deleted = sa.tasks.iter().find_map(|task| match task {
                    Task::DeleteIke(reason) => Some(*reason),
                    _ => None,
                });
                if let Some(reason) = deleted {
                    next.want_delete_ike(&mut new, ctx, reason);
                }
                adopt(new, next, ctx);
                established.hand_over(sa, ctx, key);
                established.want_delete_ike(sa, ctx, "rekeyed");
            }
        }
        Next::Keep
    }

    fn complete(
        &self,
        old: &Established,
        found: &Found<'_>,
    ) -> Result<(IkeSuite, IkeKeys, u64, Nonce), Failure> {
        let (Some(offer), Some(ke), Some(nonce)) = (found.sa, found.ke, found.nonce) else {
            return Err(Failure::invalid("the answer lacks a payload"));
        };
        let chosen = offer
            .accepted_ike(&self.suites)
            .map_err(|fault| mismatch(offer, "in use", &self.suites, &[(1, fault)]))
            .map_err(|text| Failure::new(FailureKind::NoProposal, text))?;
        let spi_r = chosen.spi.ok_or_else(|| Failure::invalid("the answer has no SPI"))?;
        if chosen.suite.group != self.private.group() {
            let text = "peer took another group than the one sent";
            return Err(Failure::new(FailureKind::NoProposal, text));
        }
        let shared = agree(Some(&self.private), Some(ke))?;
        let shared = shared.ok_or_else(|| Failure::invalid("no shared secret"))?;
        let keys = IkeKeys::rekeyed(
            &chosen.suite,
            old.suite.prf,
            &old.keys.d,
            &shared,
            self.nonce.as_slice(),
            nonce.as_slice(),
            self.spi,
            spi_r,
        );
        Ok((chosen.suite, keys, spi_r, nonce.clone()))
    }

    fn refused(
        self,
        established: &mut Established,
        sa: &mut IkeSa,
        ctx: &mut Context<'_>,
        error: Option<&Notify>,
    ) {
        if let Some(rival) = self.rival {
            // The peer did not see the collision; its SA is the one that stays.
            return succeeded(established, sa, ctx, rival.sa);
        }
        let kind = error.map(|error| error.kind);
        let group = error
            .filter(|error| error.kind == NotifyType::INVALID_KE_PAYLOAD && !self.again)
            .and_then(Notify::group)
            .and_then(Group::from_number)
            .filter(|group| self.suites.iter().any(|suite| suite.group == *group));
        if let Some(group) = group {
            return send(established, sa, ctx, self.suites, group, true);
        }
        let least = if kind == Some(NotifyType::TEMPORARY_FAILURE) {
            PATIENCE
        } else if kind == Some(NotifyType::NO_ADDITIONAL_SAS)
            && sa.rule.initiate
            && !established.children.is_empty()
        {
            // Section 4: a peer that rekeys nothing wants a new IKE SA with its children.
            ctx.after.push(After::Reauthenticate(sa.key));
            RETRY
        } else {
            if let Some(kind) = kind {
                let text = format!("peer answers {kind} to the rekey of the IKE SA");
                let reason = Failure::notified(kind, text);
                ctx.out.events.push_back(super::auth::failed(sa.remote, Some(sa.rule.name.clone()), reason));
            }
            RETRY
        };
        sa.timers.set(Timer::Rekey, ctx.now + retry_after(least, ctx.rng));
    }
}

/// The SA that follows `sa` between the same peers.
fn successor(sa: &IkeSa, ctx: &mut Context<'_>, key: SaKey, role: Role, spis: (u64, u64)) -> Box<IkeSa> {
    let mut timers = TimerTable::default();
    if let Some(at) = sa.timers.at(Timer::Reauth) {
        // New keys prove nothing about identities.
        timers.set(Timer::Reauth, at);
    }
    if let Some(at) = sa.timers.at(Timer::Redundant) {
        timers.set(Timer::Redundant, at);
    }
    Box::new(IkeSa {
        key,
        tunnel: sa.tunnel,
        generation: ctx.book.enter_ike(sa.tunnel, key),
        role,
        spi_i: spis.0,
        spi_r: spis.1,
        local: sa.local,
        remote: sa.remote,
        nat: sa.nat,
        rule: sa.rule.clone(),
        proofs: sa.proofs,
        counters: IkeCounters::default(),
        timers,
        inbound: Inbound::new(0),
        fragments: Fragments::default(),
        outbound: Outbound::new(0),
        tasks: VecDeque::new(),
        held: Held::default(),
        replaces: None,
        state: State::Closed,
    })
}

fn found_sa(
    new: &mut IkeSa,
    ctx: &mut Context<'_>,
    old: &Established,
    suite: IkeSuite,
    keys: IkeKeys,
) -> Box<Established> {
    let own = new.role.into();
    let sealer = keys.sealer(&suite, own, ctx.ivs(new.local.ip())).fragmenting(old.sealer.fragments());
    let opener = keys.opener(&suite, own);
    let (local_id, remote_id) = (old.local_id.clone(), old.remote_id.clone());
    ctx.book.enter_identities(&local_id, &remote_id, new.key);
    let mut next =
        Established::new(new, ctx, Foundation { keys, suite, local_id, remote_id }, sealer, opener);
    next.origin.clone_from(&old.origin);
    next.looks = old.looks;
    next
}

fn adopt(mut new: Box<IkeSa>, next: Box<Established>, ctx: &mut Context<'_>) {
    new.state = State::Established(next);
    ctx.after.push(After::Adopt(new));
}

/// The peer's SA takes this one's place; the peer deletes this one.
fn succeeded(established: &mut Established, sa: &mut IkeSa, ctx: &mut Context<'_>, by: SaKey) {
    established.hand_over(sa, ctx, by);
    if established.standing == IkeStanding::Serving {
        established.standing = IkeStanding::Replaced;
        sa.timers.stop(Timer::Rekey);
        sa.timers.stop(Timer::Reauth);
        sa.timers.set(Timer::Linger, ctx.now + SUCCESSION);
    }
}

/// Whether the peer will find this SA gone although it asked for another: its Delete came before our rekey was answered.
pub(crate) fn rival_of(sa: &IkeSa) -> Option<SaKey> {
    match sa.outbound.open().map(|open| &open.exchange) {
        Some(Exchange::RekeyIke(ours)) => ours.rival.as_ref().map(|rival| rival.sa),
        _ => None,
    }
}

/// Serves a rekey of the IKE SA.
pub(crate) fn respond(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    found: &Found<'_>,
) -> Result<Vec<Payload>, Refusal> {
    let temporary = || Refusal::new(NotifyType::TEMPORARY_FAILURE, "");
    let contested = match sa.outbound.open().map(|open| &open.exchange) {
        // Section 2.25.2: a child would come or go while its IKE SA is being replaced.
        Some(Exchange::NewChild(_) | Exchange::RekeyChild(_) | Exchange::DeleteChild(_)) => {
            return Err(temporary());
        }
        Some(Exchange::RekeyIke(ours)) if ours.rival.is_some() => return Err(temporary()),
        Some(Exchange::RekeyIke(_)) => true,
        Some(Exchange::Init(_) | Exchange::Auth(_) | Exchange::DeleteIke(_) | Exchange::Liveness) | None => {
            false
        }
    };
    let (Some(offer), Some(ke), Some(nonce_i)) = (found.sa, found.ke, found.nonce) else {
        return Err(Refusal::new(NotifyType::INVALID_SYNTAX, "rekey of the IKE SA lacks a payload"));
    };
    let rule = ctx.rules.current_exchange(&sa.rule);
    let ours = rule.suites();
    let chosen = choose_ike(offer, &ours).map_err(|faults| {
        Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, mismatch(offer, &rule.name, &ours, &faults))
    })?;
    let Some(spi_i) = chosen.spi else {
        return Err(Refusal::new(NotifyType::INVALID_SYNTAX, "rekey of the IKE SA without an SPI"));
    };
    let group = chosen.suite.group;
    if ke.group != group.number() {
        let mut refusal = Refusal::new(NotifyType::INVALID_KE_PAYLOAD, "");
        refusal.notify = Notify::invalid_ke(group.number());
        return Err(refusal);
    }
    let private = PrivateKey::generate(group, ctx.rng);
    let shared = private
        .agree(&ke.value)
        .map_err(|error| Refusal::new(NotifyType::INVALID_SYNTAX, error.to_string()))?;
    sa.rule = rule;
    let key = ctx.book.new_sa();
    let spi_r = ctx.book.new_ike_spi(key, ctx.rng);
    let nonce_r = fresh_nonce(ctx.rng);
    let nonces = (nonce_i.as_slice(), nonce_r.as_slice());
    let suite = chosen.suite;
    let keys = IkeKeys::rekeyed(
        &suite,
        established.suite.prf,
        &established.keys.d,
        &shared,
        nonces.0,
        nonces.1,
        spi_i,
        spi_r,
    );
    let mut new = successor(sa, ctx, key, Role::Responder, (spi_i, spi_r));
    let mut next = found_sa(&mut new, ctx, established, suite, keys);
    next.contested = contested;
    adopt(new, next, ctx);
    if contested {
        if let Some(open) = sa.outbound.open_mut()
            && let Exchange::RekeyIke(ours) = &mut open.exchange
        {
            ours.rival = Some(Rival::new(key, nonces));
        }
    } else {
        succeeded(established, sa, ctx, key);
    }
    Ok(vec![
        Payload::Sa(Sa { proposals: vec![Proposal::ike(chosen.number, Some(spi_r), &suite)] }),
        Payload::Nonce(nonce_r),
        Payload::Ke(Ke { group: group.number(), value: private.public().to_vec() }),
    ])
}
