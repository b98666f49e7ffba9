//! An established IKE SA as another process needs it ([`SaRecord`]), and back.

use super::child::{self, Child, Standing, Terms};
use super::create_child::ExpectChild;
use super::established::{Allowance, Established, IkeStanding};
use super::informational::{ExpectChildDelete, ExpectIkeDelete};
use super::rekey::ExpectChildRekey;
use super::rekey_ike::ExpectIkeRekey;
use super::sa::{ChildRequest, Exchange, Held, IkeSa, State, Task};
use super::window::{Inbound, Open, Outbound};
use crate::ike::command::Succession;
use crate::ike::context::{Context, RuleSet, iv_prefix};
use crate::ike::crypto::{IkeKeys, IvCounter, PrivateKey};
use crate::ike::event::{ChildInstall, Event};
use crate::ike::lifetime::{Lifetime, soft_bytes};
use crate::ike::rules::{ChildRule, ExchangeRule};
use crate::ike::selector::covered;
use crate::ike::snapshot::{
    ChildRecord, ExchangeRecord, LifeRecord, OpenRecord, PrivateRecord, RequestRecord, SaRecord, TaskRecord,
};
use crate::ike::table::SaKey;
use crate::ike::timer::{Backoff, Timer, TimerTable};
use crate::ike::types::{Continued, Encryption, IkeTunnelId, Secret, TrafficSelector, TunnelId};
use crate::ike::view::IkeCounters;
use crate::ike::wire::payload::Nonce;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a Delete of the old owner was sent; it knew better.
const DELETED: &str = "deleted before another system took over";

/// An SA that has passed its end lives as long, so that it can be replaced: the clocks of two systems may differ.
const AT_LEAST: Duration = Duration::from_secs(60);

/// No time in a snapshot counts for more.
const AT_MOST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Octets that an IKE message has at most.
const LONGEST_MESSAGE: usize = 65_535;

/// The SA at `now`; `None` if it is not established. `own_spi` names other SAs of the engine.
pub(crate) fn record(
    sa: &IkeSa,
    now: Instant,
    epoch: u64,
    own_spi: &dyn Fn(SaKey) -> Option<u64>,
) -> Option<SaRecord> {
    let State::Established(established) = &sa.state else { return None };
    let left = |at: Instant| at.saturating_duration_since(now);
    let (expected, answered) = sa.inbound.record();
    let open = sa.outbound.open().and_then(|open| {
        let exchange = exchange(&open.exchange, own_spi)?;
        Some(OpenRecord { id: open.id, message: open.message.clone(), exchange })
    });
    let life =
        |life: &Lifetime| LifeRecord { rekey_in: left(life.rekey_at), expires_in: left(life.expires_at) };
    let child = |child: &Child| {
        let (key_in, key_out) =
            child.keys.clone().unwrap_or_else(|| (Secret(Vec::new()), Secret(Vec::new())));
        ChildRecord {
            tunnel: child.tunnel.0,
            generation: child.generation,
            role: child.role,
            spi_in: child.spi_in,
            spi_out: child.spi_out,
            rule: child.terms.rule.rule.clone(),
            suite: child.terms.suite,
            mode: child.terms.mode,
            local_selectors: child.terms.local.clone(),
            remote_selectors: child.terms.remote.clone(),
            local: child.local,
            remote: child.remote,
            udp: child.udp,
            age: now.saturating_duration_since(child.installed),
            life: life(&child.life),
            lifetime: child.lifetime,
            lifesize: child.lifesize,
            outbound_active: child.outbound_active,
            activate_in: child.activate_at.map(left),
            standing: child.standing,
            key_in,
            key_out,
        }
    };
    Some(SaRecord {
        generation: sa.generation,
        role: sa.role,
        spi_i: sa.spi_i,
        spi_r: sa.spi_r,
        local: sa.local,
        remote: sa.remote,
        nat: sa.nat,
        rule: sa.rule.name.clone(),
        suite: established.suite,
        keys: established.keys.joined(),
        next_iv: established.sealer.next_iv(),
        born: established.born,
        origin: established.origin.clone(),
        epoch,
        local_id: established.local_id.clone(),
        remote_id: established.remote_id.clone(),
        age: now.saturating_duration_since(established.since),
        lifetime: established.lifetime,
        life: LifeRecord {
            rekey_in: left(sa.timers.at(Timer::Rekey).unwrap_or(established.life.rekey_at)),
            expires_in: left(established.life.expires_at),
        },
        reauth_in: sa.timers.at(Timer::Reauth).map(left),
        linger_in: sa.timers.at(Timer::Linger).map(left),
        standing: established.standing,
        expected,
        answered,
        next: sa.outbound.next(),
        open,
        tasks: sa.tasks.iter().map(task).collect(),
        replaces: sa.replaces.and_then(own_spi),
        children: established.children.values().map(child).collect(),
    })
}

fn task(task: &Task) -> TaskRecord {
    match task {
        Task::NewChild(request) => TaskRecord::NewChild(request.record()),
        Task::RekeyChild(spi) => TaskRecord::RekeyChild(*spi),
        Task::DeleteChild(spi, _) => TaskRecord::DeleteChild(*spi),
        Task::Disown(spi) => TaskRecord::Disown(*spi),
        Task::RekeyIke => TaskRecord::RekeyIke,
        Task::DeleteIke(_) => TaskRecord::DeleteIke,
        Task::Liveness => TaskRecord::Liveness,
    }
}

fn exchange(exchange: &Exchange, own_spi: &dyn Fn(SaKey) -> Option<u64>) -> Option<ExchangeRecord> {
    match exchange {
        Exchange::Init(_) | Exchange::Auth(_) => None,
        Exchange::NewChild(awaited) => Some(awaited.record()),
        Exchange::RekeyChild(awaited) => Some(awaited.record()),
        Exchange::RekeyIke(awaited) => Some(awaited.record(own_spi)),
        Exchange::DeleteChild(awaited) => Some(ExchangeRecord::DeleteChild { spi_in: awaited.spi_in }),
        Exchange::DeleteIke(_) => Some(ExchangeRecord::DeleteIke),
        Exchange::Liveness => Some(ExchangeRecord::Liveness),
    }
}

impl ChildRequest {
    pub(crate) fn record(&self) -> RequestRecord {
        RequestRecord {
            tunnel: self.tunnel.0,
            rule: self.rule.rule.clone(),
            local: self.local.clone(),
            remote: self.remote.clone(),
            group: self.group,
            attempts: self.attempts,
        }
    }
}

impl PrivateKey {
    pub(crate) fn record(&self) -> PrivateRecord {
        PrivateRecord { group: self.group(), exponent: self.exponent() }
    }
}

impl PrivateRecord {
    pub(crate) fn revive(&self) -> Option<PrivateKey> {
        PrivateKey::from_exponent(self.group, &self.exponent)
    }
}

impl SaRecord {
    fn requests(&self) -> impl Iterator<Item = &RequestRecord> {
        let open = self.open.as_ref().and_then(|open| match &open.exchange {
            ExchangeRecord::NewChild { request, .. } | ExchangeRecord::RekeyChild { wished: request, .. } => {
                Some(request)
            }
            ExchangeRecord::RekeyIke { .. }
            | ExchangeRecord::DeleteChild { .. }
            | ExchangeRecord::DeleteIke
            | ExchangeRecord::Liveness => None,
        });
        let queued = self.tasks.iter().filter_map(|task| match task {
            TaskRecord::NewChild(request) => Some(request),
            _ => None,
        });
        open.into_iter().chain(queued)
    }

    /// Numbers of the dynamic tunnels that it names.
    pub(crate) fn tunnels(&self) -> BTreeSet<u32> {
        let of_children = self.children.iter().map(|child| child.tunnel);
        of_children.chain(self.requests().map(|request| request.tunnel)).collect()
    }

    /// Own SPIs of IKE SAs that it needs.
    pub(crate) fn own_spis(&self) -> impl Iterator<Item = u64> {
        let asked = self.open.as_ref().and_then(|open| match &open.exchange {
            ExchangeRecord::RekeyIke { spi, .. } => Some(*spi),
            _ => None,
        });
        std::iter::once(self.own_spi()).chain(asked)
    }

    /// Whether all of it can be used by these rules (threats T49).
    pub(crate) fn check(&self, rules: &RuleSet) -> Result<(), String> {
        let suite = &self.suite;
        if !is_whole(suite.encryption, suite.integrity.is_some())
            || IkeKeys::parted(suite, &self.keys).is_none()
            || self.spi_i == 0
            || self.spi_r == 0
            || self.local.is_ipv4() != self.remote.is_ipv4()
        {
            return Err("an IKE SA that cannot be".to_owned());
        }
        if self.exchange_rule(rules).is_none() {
            return Err(format!("no KeyExchangeRule for {} at {}", self.remote_id, self.remote.ip()));
        }
        let Some(open) = &self.open else { return Ok(()) };
        if open.message.len() > LONGEST_MESSAGE || open.id.checked_add(1) != Some(self.next) {
            return Err("an open request that cannot be".to_owned());
        }
        for request in self.requests().take(1).filter(|_| open.exchange.names_rule()) {
            if request.rule(rules).is_none() {
                return Err(format!("no rule {} for what is being negotiated", request.rule));
            }
        }
        let (nonce, private) = match &open.exchange {
            ExchangeRecord::NewChild { nonce, private, .. }
            | ExchangeRecord::RekeyChild { nonce, private, .. } => (nonce, private.as_ref()),
            ExchangeRecord::RekeyIke { nonce, private, .. } => (nonce, Some(private)),
            ExchangeRecord::DeleteChild { .. } | ExchangeRecord::DeleteIke | ExchangeRecord::Liveness => {
                return Ok(());
            }
        };
        if Nonce::restore(nonce.clone()).is_none() || private.is_some_and(|key| key.revive().is_none()) {
            return Err("an open key exchange that cannot be".to_owned());
        }
        Ok(())
    }

    /// The KeyExchangeRule that it goes by: the one of that name if it still fits, or the first that does.
    fn exchange_rule<'r>(&self, rules: &'r RuleSet) -> Option<&'r Arc<ExchangeRule>> {
        let fitting = || {
            rules.exchange(self.local.ip(), self.remote.ip()).filter(|rule| {
                rule.remote_id.accepts(&self.remote_id)
                    && crate::ike::identity::same(&rule.local_id, &self.local_id)
            })
        };
        fitting().find(|rule| rule.name == self.rule).or_else(|| fitting().next())
    }
}

impl ExchangeRecord {
    const fn names_rule(&self) -> bool {
        matches!(self, Self::NewChild { .. } | Self::RekeyChild { .. })
    }
}

impl RequestRecord {
    fn rule<'r>(&self, rules: &'r RuleSet) -> Option<&'r Arc<ChildRule>> {
        let proper = proper(&self.local) && proper(&self.remote);
        rules.child_named(&self.rule, &self.local, &self.remote).filter(|_| proper)
    }

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
        }))
    }
}

/// Keys of a length that exists, and integrity where it belongs.
fn is_whole(encryption: Encryption, integrity: bool) -> bool {
    let (Encryption::AesCbc(bits) | Encryption::AesGcm16(bits)) = encryption;
    matches!(bits, 128 | 256) && encryption.is_aead() != integrity
}

fn proper(selectors: &[TrafficSelector]) -> bool {
    !selectors.is_empty()
        && selectors.iter().all(|selector| {
            let (low, high) = (selector.addresses.low, selector.addresses.high);
            low.is_ipv4() == high.is_ipv4() && low <= high
        })
}

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
    fn resumed(&self) -> Option<u64> {
        match self.succession {
            Succession::Failed { next_sequence } => Some(*next_sequence),
            Succession::Handed { .. } => None,
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
        rule,
        counters: IkeCounters::default(),
        timers,
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
    let resumed = revival.resumed();
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
    let keys = is_whole(suite.encryption, suite.integrity.is_some())
        && record.key_in.0.len() == length
        && record.key_out.0.len() == length;
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
            reason: format!(
                "no rule {} for the tunnel between {} here and {} there that was taken over",
                record.rule,
                child::shown(&record.local_selectors),
                child::shown(&record.remote_selectors),
            ),
            acquire: None,
        }),
    }
}
