//! An established IKE SA that another process had ([`SaRecord`], made by [`super::record`]), taken up here.

use super::child::{self, Child, Standing, Terms};
use super::create_child::ExpectChild;
use super::established::{Allowance, Established, IkeStanding};
use super::fragments::Fragments;
use super::informational::{ExpectChildDelete, ExpectIkeDelete};
use super::record::proper;
use super::rekey::ExpectChildRekey;
use super::rekey_ike::ExpectIkeRekey;
use super::sa::{ChildRequest, Exchange, Held, IkeSa, State, Task};
use super::window::{Inbound, Open, Outbound};
use crate::ike::command::Succession;
use crate::ike::context::{Context, iv_prefix};
use crate::ike::crypto::{IkeKeys, IvCounter};
use crate::ike::event::{ChildInstall, Event};
use crate::ike::failure::{Failure, FailureKind};
use crate::ike::lifetime::{Lifetime, soft_bytes};
use crate::ike::rules::ChildRule;
use crate::ike::selector::covered;
use crate::ike::snapshot::{
    ChildRecord, ExchangeRecord, LifeRecord, OpenRecord, RequestRecord, SaRecord, TaskRecord,
};
use crate::ike::table::SaKey;
use crate::ike::timer::{Backoff, Timer, TimerTable};
use crate::ike::types::{Continued, IkeTunnelId, TunnelId};
use crate::ike::view::IkeCounters;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a Delete of the old owner was sent; it knew better.
const DELETED: &str = "deleted before another system took over";

/// An SA that has passed its end lives as long, so that it can be replaced: the clocks of two systems may differ.
const AT_LEAST: Duration = Duration::from_secs(60);

/// No time in a snapshot counts for more.
const AT_MOST: Duration = Duration::from_secs(366 * 24 * 3600);

/// What the SAs of one snapshot share while they are taken up.
pub(crate) struct Revival<'s> {
    /// The IKE tunnel here.
    pub(crate) id: IkeTunnelId,
    /// Time since the snapshot was taken.
    pub(crate) elapsed: Duration,
    /// How the owners followed each other.
    pub(crate) succession: &'s Succession,
    /// The SAs by their own SPIs.
    pub(crate) keys: BTreeMap<u64, SaKey>,
    /// Own SPIs of those that the peer made in place of one that this side replaces too.
    pub(crate) contested: BTreeSet<u64>,
    /// Dynamic tunnels here by their numbers there.
    pub(crate) tunnels: BTreeMap<u32, TunnelId>,
    /// Children that could not be taken up.
    pub(crate) lost: usize,
}

impl Revival<'_> {
    /// What is left of a time that was left then.
    pub(crate) fn left(&self, then: Duration) -> Duration {
        then.saturating_sub(self.elapsed).min(AT_MOST)
    }

    fn life(&self, now: Instant, life: LifeRecord) -> Lifetime {
        let expires_at = now + self.left(life.expires_in).max(AT_LEAST);
        Lifetime { rekey_at: now + self.left(life.rekey_in), expires_at }
    }

    /// From which number on a child sends that an open exchange of the old owner makes: that owner may have had the answer.
    /// Also one that has handed its SAs over: what it did after it was fenced is not in the snapshot.
    const fn resumed(&self) -> u64 {
        match self.succession {
            Succession::Failed { next_sequence } | Succession::Handed { next_sequence, .. } => *next_sequence,
        }
    }

    fn numbers(&self, child: &ChildRecord) -> Continued {
        let closed = |next_sequence| Continued { next_sequence, replay: None, bytes: 0 };
        match self.succession {
            Succession::Failed { next_sequence } => closed(*next_sequence),
            Succession::Handed { next_sequence, children } => {
                children.get(&child.spi_in).cloned().unwrap_or_else(|| closed(*next_sequence))
            }
        }
    }
}

/// A moment that lay `age` before `now`, as far as the clock goes back.
fn ago(now: Instant, age: Duration) -> Instant {
    now.checked_sub(age.min(AT_MOST)).unwrap_or(now)
}

/// Takes up an SA that was checked; its children's [`Event::InstallChild`] go out. `None` if it was not checked.
pub(crate) fn revive(
    record: SaRecord,
    ctx: &mut Context<'_>,
    revival: &mut Revival<'_>,
) -> Option<Box<IkeSa>> {
    let now = ctx.now;
    let rule = record.exchange_rule(ctx.rules)?.clone();
    let keys = IkeKeys::parted(&record.suite, &record.keys)?;
    let key = *revival.keys.get(&record.own_spi())?;
    let epoch = ctx.epoch(record.local.ip());
    let contested = revival.contested.contains(&record.own_spi());
    let ivs = if epoch == record.epoch {
        // This owner itself before a restart: it has sent no message whose IV is not in the snapshot.
        IvCounter::resume(record.next_iv)
    } else {
        IvCounter::of_epoch(iv_prefix(epoch))
    };
    let own = record.role.into();
    let (sealer, opener) = (keys.sealer(&record.suite, own, ivs), keys.opener(&record.suite, own));
    let open = match &record.open {
        Some(open) => Some(open_request(open, key, ctx, revival)?),
        None => None,
    };
    ctx.book.ike_spis.insert(record.own_spi(), key);
    ctx.book.rejoin_ike(revival.id, key);
    ctx.book.note_ends_of_ike(revival.id, (record.local.ip(), record.remote.ip()));
    ctx.book.enter_identities(&record.local_id, &record.remote_id, key);
    let life = revival.life(now, record.life);
    let mut timers = TimerTable::default();
    timers.set(Timer::Expire, life.expires_at);
    if record.standing == IkeStanding::Serving {
        timers.set(Timer::Rekey, life.rekey_at);
        if let Some(left) = record.reauth_in {
            timers.set(Timer::Reauth, now + revival.left(left));
        }
    }
    if let Some(left) = record.linger_in {
        timers.set(Timer::Linger, now + revival.left(left));
    }
    if !ctx.settings.liveness.is_zero() {
        timers.set(Timer::Liveness, now + ctx.settings.liveness);
    }
    let mut sa = Box::new(IkeSa {
        key,
        tunnel: revival.id,
        generation: record.generation,
        role: record.role,
        spi_i: record.spi_i,
        spi_r: record.spi_r,
        local: record.local,
        remote: record.remote,
        nat: record.nat,
        proofs: rule.authentication.proofs(),
        rule,
        counters: IkeCounters::default(),
        timers,
        fragments: Fragments::default(),
        inbound: Inbound::restore(record.expected, record.answered),
        outbound: Outbound::restore(record.next, open),
        tasks: std::collections::VecDeque::new(),
        held: Held::default(),
        replaces: record.replaces.and_then(|spi| revival.keys.get(&spi).copied()),
        state: State::Closed,
    });
    let mut established = Box::new(Established {
        keys,
        sealer,
        opener,
        suite: record.suite,
        local_id: record.local_id,
        remote_id: record.remote_id,
        children: BTreeMap::new(),
        heard: now,
        since: ago(now, record.age.saturating_add(revival.elapsed)),
        life,
        lifetime: record.lifetime.min(AT_MOST),
        standing: record.standing,
        ids_end: false,
        allowance: Allowance::new(now),
        born: record.born,
        origin: record.origin,
        looks: 0,
        caught_up: false,
        contested,
    });
    for child in record.children {
        take_child(&mut established, &mut sa, ctx, revival, child);
    }
    for task in record.tasks {
        sa.tasks.extend(match task {
            TaskRecord::NewChild(request) => request.revive(ctx, revival).map(Task::NewChild),
            TaskRecord::RekeyChild(spi) => Some(Task::RekeyChild(spi)),
            TaskRecord::DeleteChild(spi) => Some(Task::DeleteChild(spi, DELETED)),
            TaskRecord::Disown(spi) => Some(Task::Disown(spi)),
            TaskRecord::RekeyIke => Some(Task::RekeyIke),
            TaskRecord::DeleteIke => Some(Task::DeleteIke(DELETED)),
            TaskRecord::Liveness => Some(Task::Liveness),
        });
    }
    sa.restart_keepalive(ctx);
    sa.state = State::Established(established);
    Some(sa)
}

fn open_request(
    open: &OpenRecord,
    key: SaKey,
    ctx: &mut Context<'_>,
    revival: &Revival<'_>,
) -> Option<Open<Exchange>> {
    let resumed = Some(revival.resumed());
    let exchange = match &open.exchange {
        ExchangeRecord::NewChild { request, .. } => {
            let request = request.revive(ctx, revival)?;
            Exchange::NewChild(Box::new(ExpectChild::revive(&open.exchange, request, resumed)?))
        }
        ExchangeRecord::RekeyChild { wished, .. } => {
            let rule = wished.rule(ctx.rules)?.clone();
            let tunnel = *revival.tunnels.get(&wished.tunnel)?;
            Exchange::RekeyChild(Box::new(ExpectChildRekey::revive(&open.exchange, tunnel, rule, resumed)?))
        }
        ExchangeRecord::RekeyIke { spi, .. } => {
            let new = ctx.book.new_sa();
            let expect = ExpectIkeRekey::revive(&open.exchange, new, &revival.keys)?;
            ctx.book.ike_spis.insert(*spi, new);
            Exchange::RekeyIke(Box::new(expect))
        }
        ExchangeRecord::DeleteChild { spi_in } => {
            Exchange::DeleteChild(ExpectChildDelete { spi_in: *spi_in, reason: DELETED })
        }
        ExchangeRecord::DeleteIke => Exchange::DeleteIke(ExpectIkeDelete { reason: DELETED }),
        ExchangeRecord::Liveness => Exchange::Liveness,
    };
    tracing::trace!(sa = key.0, id = open.id, "goes on with an open request");
    let backoff = Backoff::new(ctx.settings.retransmit_initial, ctx.settings.retransmit_tries);
    Some(Open { id: open.id, message: open.message.clone(), backoff, exchange })
}

/// Has a child installed that another process had; where that cannot be, it is deleted and made anew.
fn take_child(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    revival: &mut Revival<'_>,
    record: ChildRecord,
) {
    let Some(&tunnel) = revival.tunnels.get(&record.tunnel) else { return };
    let rule = usable_rule(ctx, &record);
    let free = ctx.book.sa_of_child(record.spi_in).is_none() && record.spi_in > 255;
    let suite = record.suite;
    let length = suite.encryption.key_len() + suite.integrity.map_or(0, |integrity| integrity.key_len());
    let keys = suite.is_sound() && record.key_in.0.len() == length && record.key_out.0.len() == length;
    let Some(rule) = rule.filter(|_| free && keys) else {
        revival.lost += 1;
        sa.tasks.push_back(Task::Disown(record.spi_in));
        if record.standing == Standing::Serving || record.standing == Standing::Rekeying {
            make_anew(sa, ctx, revival, &record);
        }
        return;
    };
    let numbers = revival.numbers(&record);
    let terms = Terms {
        rule,
        suite,
        mode: record.mode,
        local: record.local_selectors,
        remote: record.remote_selectors,
    };
    ctx.book.enter_child(tunnel);
    ctx.book.enter_child_spi(record.spi_in, sa.key);
    ctx.book.place_child(tunnel, sa.key);
    ctx.book.enter_twin(&terms.local, &terms.remote, tunnel, (record.spi_in, record.outbound_active));
    let closed = numbers.replay.is_none();
    let hard_bytes = record.lifesize.map(|hard| hard.saturating_sub(numbers.bytes));
    ctx.out.events.push_back(Event::InstallChild(Box::new(ChildInstall {
        tunnel,
        generation: record.generation,
        ike: sa.tunnel,
        spi_in: record.spi_in,
        spi_out: record.spi_out,
        local: record.local,
        remote: record.remote,
        udp: record.udp,
        mode: terms.mode,
        encryption: suite.encryption,
        integrity: suite.integrity,
        key_in: record.key_in.clone(),
        key_out: record.key_out.clone(),
        esn: suite.esn,
        local_selectors: terms.local.clone(),
        remote_selectors: terms.remote.clone(),
        rule: terms.rule.rule.clone(),
        vpn_action: terms.rule.vpn_action.clone(),
        outbound_active: record.outbound_active,
        soft_bytes: hard_bytes.map(|hard| soft_bytes(hard, ctx.rng)),
        hard_bytes,
        outlives: true,
        continued: Some(numbers),
    })));
    ctx.out.events.push_back(Event::ChildUp(tunnel));
    let now = ctx.now;
    let child = Child {
        tunnel,
        generation: record.generation,
        role: record.role,
        spi_in: record.spi_in,
        spi_out: record.spi_out,
        terms,
        local: record.local,
        remote: record.remote,
        udp: record.udp,
        installed: ago(now, record.age.saturating_add(revival.elapsed)),
        life: revival.life(now, record.life),
        lifetime: record.lifetime.min(AT_MOST),
        lifesize: record.lifesize,
        outbound_active: record.outbound_active,
        activate_at: record.activate_in.map(|left| now + revival.left(left)),
        standing: record.standing,
        keys: Some((record.key_in, record.key_out)),
    };
    established.children.insert(record.spi_in, child);
    if closed {
        // Nothing is accepted on it: one round trip, and there is one on which it is.
        established.want_rekey(sa, record.spi_in);
    }
}

fn usable_rule(ctx: &Context<'_>, record: &ChildRecord) -> Option<Arc<ChildRule>> {
    let (local, remote) = (&record.local_selectors, &record.remote_selectors);
    if !proper(local) || !proper(remote) {
        return None;
    }
    let rule = ctx.rules.child_named(&record.rule, local, remote)?;
    // A responder behind a NAT may have granted more than its rule names (RFC 7296 section 2.23.1).
    let covers = covered(&rule.local, local) && covered(&rule.remote, remote);
    (covers || record.udp).then(|| rule.clone())
}

fn make_anew(sa: &mut IkeSa, ctx: &mut Context<'_>, revival: &Revival<'_>, record: &ChildRecord) {
    let request = RequestRecord {
        tunnel: record.tunnel,
        rule: record.rule.clone(),
        local: record.local_selectors.clone(),
        remote: record.remote_selectors.clone(),
        group: None,
        attempts: 0,
    };
    match request.revive(ctx, revival) {
        Some(mut request) => {
            request.group = request.rule.pfs_initiate;
            sa.tasks.push_back(Task::NewChild(request));
        }
        None => ctx.out.events.push_back(Event::Failed {
            peer: sa.remote.ip(),
            rule: Some(record.rule.clone()),
            reason: Failure::new(
                FailureKind::NoRule,
                format!(
                    "no rule {} for the tunnel between {} here and {} there that was taken over",
                    record.rule,
                    child::shown(&record.local_selectors),
                    child::shown(&record.remote_selectors),
                ),
            ),
            acquire: None,
        }),
    }
}

impl RequestRecord {
    /// The request, which becomes a user of its tunnel.
    fn revive(&self, ctx: &mut Context<'_>, revival: &Revival<'_>) -> Option<Box<ChildRequest>> {
        let rule = self.rule(ctx.rules)?.clone();
        let tunnel = *revival.tunnels.get(&self.tunnel)?;
        ctx.book.enter_child(tunnel);
        Some(Box::new(ChildRequest {
            tunnel,
            rule,
            local: self.local.clone(),
            remote: self.remote.clone(),
            acquires: Vec::new(),
            items: Vec::new(),
            refused: false,
            group: self.group,
            attempts: self.attempts,
            initial_contact: false,
            peer: None,
        }))
    }
}
