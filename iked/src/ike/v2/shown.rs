//! SAs as the management interface shows them.

use super::child::{Child, Standing};
use super::established::{Established, IkeStanding};
use super::sa::{ChildRequest, Exchange, IkeSa, State, Task};
use crate::ike::table::Book;
use crate::ike::timer::Timer;
use crate::ike::view::{Census, ChildView, IkeProgress, IkeSuite, IkeView, Role, SaState};
use crate::ike::{command::ActivationMethod, wire};
use std::time::Duration;

const fn suite(suite: &wire::IkeSuite) -> IkeSuite {
    let wire::IkeSuite { encryption, integrity, prf, group } = *suite;
    IkeSuite { encryption, integrity, prf, group }
}

/// Counts an IKE SA and its children: as [`ike`] and [`children`] show them, without making anything.
pub(crate) fn count(sa: &IkeSa, book: &Book, census: &mut Census) {
    if let Some((state, _)) = ike_state(sa) {
        census.ike.add(state);
    }
    let installed = established(sa).into_iter().flat_map(|established| {
        established.children.values().map(|child| (child.tunnel, child_state(established, child)))
    });
    let wanted = requests(sa).into_iter().map(|(request, state)| (request.tunnel, state));
    for (tunnel, state) in installed.chain(wanted) {
        census.children.add(state);
        let rule = book.child_tunnel(tunnel).and_then(|t| t.local_dyn_vpn_rule.as_deref());
        if let Some(rule) = rule.filter(|rule| state == SaState::Active && !census.rules_up.contains(*rule)) {
            census.rules_up.insert(rule.to_owned());
        }
    }
}

fn established(sa: &IkeSa) -> Option<&Established> {
    match &sa.state {
        State::Established(established) => Some(established),
        State::Connecting | State::ExpectAuthRequest(_) | State::Closed => None,
    }
}

/// State of an IKE SA; `None` once it is closed.
fn ike_state(sa: &IkeSa) -> Option<(SaState, IkeProgress)> {
    Some(match &sa.state {
        State::Connecting => (SaState::InNegotiation, connecting(sa)),
        State::ExpectAuthRequest(_) => (SaState::InNegotiation, IkeProgress::WaitKe),
        State::Established(established) => match established.standing {
            IkeStanding::Serving => (SaState::Active, IkeProgress::Done),
            IkeStanding::Replaced => (SaState::Expired, IkeProgress::Expired),
            IkeStanding::Closing => (SaState::HalfClosed, IkeProgress::HalfClosed),
        },
        State::Closed => return None,
    })
}

fn child_state(established: &Established, child: &Child) -> SaState {
    match child.standing {
        _ if established.standing == IkeStanding::Closing => SaState::HalfClosed,
        Standing::Serving | Standing::Rekeying | Standing::Replaced { .. } => SaState::Active,
        Standing::Closing => SaState::HalfClosed,
    }
}

/// The children of an IKE SA that are still being negotiated, or wait for it.
fn requests(sa: &IkeSa) -> Vec<(&ChildRequest, SaState)> {
    let open = match sa.outbound.open().map(|open| &open.exchange) {
        Some(Exchange::Init(init)) => init.child.as_deref().map(|request| (request, SaState::Pending)),
        Some(Exchange::Auth(auth)) => auth.child.as_deref().map(|request| (request, SaState::InNegotiation)),
        Some(Exchange::NewChild(child)) => Some((child.request(), SaState::InNegotiation)),
        _ => None,
    };
    let waiting = sa.tasks.iter().filter_map(|task| match task {
        Task::NewChild(request) => Some((&**request, SaState::Pending)),
        _ => None,
    });
    open.into_iter().chain(waiting).collect()
}

/// An IKE SA; `None` once it is closed.
pub(crate) fn ike(sa: &IkeSa) -> Option<IkeView> {
    let (state, progress) = ike_state(sa)?;
    let established = established(sa);
    let agreed = match (&sa.state, sa.outbound.open().map(|open| &open.exchange)) {
        (State::Established(established), _) => Some(established.suite),
        (State::ExpectAuthRequest(expect), _) => Some(expect.suite),
        (_, Some(Exchange::Auth(expect))) => Some(expect.suite()),
        _ => None,
    };
    Some(IkeView {
        id: sa.tunnel,
        generation: sa.generation,
        rule: sa.rule.name.clone(),
        action: sa.rule.action.clone(),
        local: sa.local,
        remote: sa.remote,
        local_id: Some(sa.rule.local_id.clone()),
        remote_id: established.map(|established| established.remote_id.clone()),
        spi_i: sa.spi_i,
        spi_r: sa.spi_r,
        state,
        progress,
        role: sa.role,
        suite: agreed.as_ref().map(suite),
        nat_allowed: sa.rule.allow_nat,
        nat_local: sa.nat.local,
        nat_remote: sa.nat.remote,
        lifetime: established.map_or(Duration::ZERO, |established| established.lifetime),
        established: established.map(|established| established.since),
        rekey_at: sa.timers.at(Timer::Rekey),
        expires_at: established.map(|established| established.life.expires_at),
        proofs: sa.proofs,
        reauth_interval: sa.rule.reauth_interval,
        reauth_at: sa.timers.at(Timer::Reauth),
        counters: sa.counters,
    })
}

fn connecting(sa: &IkeSa) -> IkeProgress {
    match sa.outbound.open().map(|open| &open.exchange) {
        Some(Exchange::Init(_)) => IkeProgress::WaitKe,
        Some(Exchange::Auth(_)) => IkeProgress::WaitAuth,
        _ => IkeProgress::Init,
    }
}

/// All children of an IKE SA, those still being negotiated too.
pub(crate) fn children(sa: &IkeSa, book: &Book) -> Vec<ChildView> {
    let mut views = Vec::new();
    if let Some(established) = established(sa) {
        views.extend(established.children.values().map(|child| installed(sa, established, child, book)));
    }
    views.extend(requests(sa).into_iter().map(|(request, state)| pending(sa, request, state, book)));
    views
}

fn installed(sa: &IkeSa, established: &Established, child: &Child, book: &Book) -> ChildView {
    let tunnel = book.child_tunnel(child.tunnel);
    let suite = child.terms.suite;
    ChildView {
        id: child.tunnel,
        generation: child.generation,
        ike: sa.tunnel,
        rule: child.terms.rule.rule.clone(),
        vpn_action: child.terms.rule.vpn_action.clone(),
        local_dyn_vpn_rule: tunnel.and_then(|tunnel| tunnel.local_dyn_vpn_rule.clone()),
        method: tunnel.map_or(ActivationMethod::Remote, |tunnel| tunnel.method),
        state: child_state(established, child),
        role: child.role,
        local: child.local,
        remote: child.remote,
        udp: child.udp,
        nat_local: sa.nat.local,
        nat_remote: sa.nat.remote,
        mode: child.terms.mode,
        encryption: Some(suite.encryption),
        integrity: suite.integrity,
        group: suite.group,
        esn: suite.esn,
        spi_in: child.spi_in,
        spi_out: child.spi_out,
        local_selectors: child.terms.local.clone(),
        remote_selectors: child.terms.remote.clone(),
        lifetime: child.lifetime,
        lifesize_bytes: child.lifesize,
        installed: Some(child.installed),
        rekey_at: (child.standing == Standing::Serving).then_some(child.life.rekey_at),
        expires_at: Some(child.life.expires_at),
        vpn_life_ends: tunnel.and_then(|tunnel| tunnel.vpn_life_ends),
    }
}

fn pending(sa: &IkeSa, request: &ChildRequest, state: SaState, book: &Book) -> ChildView {
    let tunnel = book.child_tunnel(request.tunnel);
    ChildView {
        id: request.tunnel,
        generation: 0,
        ike: sa.tunnel,
        rule: request.rule.rule.clone(),
        vpn_action: request.rule.vpn_action.clone(),
        local_dyn_vpn_rule: tunnel.and_then(|tunnel| tunnel.local_dyn_vpn_rule.clone()),
        method: tunnel.map_or(ActivationMethod::OnDemand, |tunnel| tunnel.method),
        state,
        role: Role::Initiator,
        local: sa.local,
        remote: sa.remote,
        udp: sa.nat.encapsulate(),
        nat_local: sa.nat.local,
        nat_remote: sa.nat.remote,
        mode: request.rule.modes.first().copied().unwrap_or(crate::ike::types::Mode::Tunnel),
        encryption: None,
        integrity: None,
        group: request.group,
        esn: false,
        spi_in: 0,
        spi_out: 0,
        local_selectors: request.local.clone(),
        remote_selectors: request.remote.clone(),
        lifetime: request.rule.offers.first().map_or(Duration::ZERO, |offer| offer.lifetime),
        lifesize_bytes: request.rule.offers.first().and_then(|offer| offer.lifesize_bytes),
        installed: None,
        rekey_at: None,
        expires_at: None,
        vpn_life_ends: tunnel.and_then(|tunnel| tunnel.vpn_life_ends),
    }
}
