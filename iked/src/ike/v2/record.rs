//! An established IKE SA as another process needs it ([`SaRecord`]), and whether such a record can be used. Taking it up is
//! [`super::revive`].

use super::child::Child;
use super::sa::{ChildRequest, Exchange, IkeSa, State, Task};
use crate::ike::context::RuleSet;
use crate::ike::crypto::{IkeKeys, PrivateKey};
use crate::ike::lifetime::Lifetime;
use crate::ike::rules::{ChildRule, ExchangeRule};
use crate::ike::snapshot::{
    ChildRecord, ExchangeRecord, LifeRecord, OpenRecord, PrivateRecord, RequestRecord, SaRecord, TaskRecord,
};
use crate::ike::table::SaKey;
use crate::ike::timer::Timer;
use crate::ike::types::{Secret, TrafficSelector};
use crate::ike::wire::payload::Nonce;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

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

    /// Own SPI of the SA that the peer made in this one's place while this side does the same.
    pub(crate) fn rival(&self) -> Option<u64> {
        match &self.open.as_ref()?.exchange {
            ExchangeRecord::RekeyIke { rival, .. } => rival.as_ref().map(|(spi, _)| *spi),
            _ => None,
        }
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
        if !suite.is_sound()
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
    pub(super) fn exchange_rule<'r>(&self, rules: &'r RuleSet) -> Option<&'r Arc<ExchangeRule>> {
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
    pub(super) fn rule<'r>(&self, rules: &'r RuleSet) -> Option<&'r Arc<ChildRule>> {
        let proper = proper(&self.local) && proper(&self.remote);
        rules.child_named(&self.rule, &self.local, &self.remote).filter(|_| proper)
    }
}

pub(super) fn proper(selectors: &[TrafficSelector]) -> bool {
    !selectors.is_empty()
        && selectors.iter().all(|selector| {
            let (low, high) = (selector.addresses.low, selector.addresses.high);
            low.is_ipv4() == high.is_ipv4() && low <= high
        })
}
