//! Child SAs: what is agreed on with the peer, and what is installed.
//!
//! The same steps serve the first child in IKE_AUTH, further ones and rekeys; only the key exchange differs.

use super::established::Established;
use super::sa::{IkeSa, leave_child};
use crate::ike::command::ActivationMethod;
use crate::ike::context::{After, Context};
use crate::ike::crypto::ChildKeys;
use crate::ike::event::{ChildInstall, Event};
use crate::ike::failure::{Failure, FailureKind};
use crate::ike::lifetime::{Lifetime, soft_bytes};
use crate::ike::proposal::{mismatch, without_groups};
use crate::ike::rules::{ChildRule, ExchangeRule, Initiation};
use crate::ike::selector::{Fit, covered, fit, narrowed};
use crate::ike::types::{Continued, Group, Identity, Mode, Secret, TrafficSelector, TunnelId};
use crate::ike::view::Role;
use crate::ike::wire::payload::{Ke, Notify, Proposal, Sa, Ts};
use crate::ike::wire::{ChildSuite, NotifyType, Payload, ProtocolId, choose_child};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A child SA, installed.
#[derive(Debug)]
pub(crate) struct Child {
    /// Tunnel.
    pub(crate) tunnel: TunnelId,
    /// Place in the tunnel, from 1.
    pub(crate) generation: u32,
    /// Role in the exchange that made it.
    pub(crate) role: Role,
    /// Inbound SPI.
    pub(crate) spi_in: u32,
    /// Outbound SPI.
    pub(crate) spi_out: u32,
    /// What was agreed on.
    pub(crate) terms: Terms,
    /// Own endpoint.
    pub(crate) local: SocketAddr,
    /// The peer's.
    pub(crate) remote: SocketAddr,
    /// ESP in UDP.
    pub(crate) udp: bool,
    /// When it was installed.
    pub(crate) installed: Instant,
    /// When it is replaced, and when it ends.
    pub(crate) life: Lifetime,
    /// Lifetime.
    pub(crate) lifetime: Duration,
    /// Lifesize.
    pub(crate) lifesize: Option<u64>,
    /// This side sends on it.
    pub(crate) outbound_active: bool,
    /// This side sends on it from then on, whatever else there is for the same traffic.
    pub(crate) activate_at: Option<Instant>,
    /// What becomes of it.
    pub(crate) standing: Standing,
    /// Keying material inbound and outbound, kept only where SAs outlive this process.
    pub(crate) keys: Option<(Secret, Secret)>,
}

/// What becomes of a child SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Standing {
    /// In use.
    Serving,
    /// In use; its rekey is queued or under way.
    Rekeying,
    /// Replaced; the peer will delete it, and then this side sends on that one.
    Replaced {
        /// Inbound SPI of its successor.
        by: u32,
    },
    /// Its Delete is queued or under way.
    Closing,
}

impl Child {
    /// When it has to be looked at.
    pub(crate) fn deadline(&self) -> Instant {
        let next = match self.standing {
            Standing::Serving => self.life.rekey_at.min(self.life.expires_at),
            Standing::Rekeying | Standing::Replaced { .. } | Standing::Closing => self.life.expires_at,
        };
        self.activate_at.map_or(next, |at| at.min(next))
    }
}

/// When a new child SA is used for sending although another one for the same traffic is there: by then its initiator has
/// our answer, even if that had to be sent twice; and the other one may be dead.
pub(crate) const PREFER_NEW: Duration = Duration::from_secs(5);

/// What two peers agree on for a child SA.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// IpFilterRule.
    pub(crate) rule: Arc<ChildRule>,
    /// Algorithms.
    pub(crate) suite: ChildSuite,
    /// Mode.
    pub(crate) mode: Mode,
    /// Selectors of this side.
    pub(crate) local: Vec<TrafficSelector>,
    /// Selectors of the peer's side.
    pub(crate) remote: Vec<TrafficSelector>,
}

/// What a peer asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'m> {
    /// Proposals.
    pub(crate) sa: &'m Sa,
    /// Its side.
    pub(crate) ts_initiator: &'m Ts,
    /// Ours.
    pub(crate) ts_responder: &'m Ts,
    /// It wants transport mode.
    pub(crate) transport: bool,
    /// Its public value, in CREATE_CHILD_SA.
    pub(crate) ke: Option<&'m Ke>,
}

/// What was granted to a peer.
#[derive(Debug)]
pub(crate) struct Grant {
    /// Terms.
    pub(crate) terms: Terms,
    /// Number of the proposal taken.
    pub(crate) number: u8,
    /// The peer's inbound SPI.
    pub(crate) spi_out: u32,
}

impl Grant {
    /// The payloads of the answer that say what was granted, KE and nonce apart.
    pub(crate) fn payloads(&self, spi_in: u32) -> Vec<Payload> {
        let suite = self.terms.suite;
        let proposal = Proposal::child(self.number, spi_in, &suite, &[suite.esn]);
        let mut payloads = vec![
            Payload::Sa(Sa { proposals: vec![proposal] }),
            Payload::TsInitiator(Ts::new(self.terms.remote.clone())),
            Payload::TsResponder(Ts::new(self.terms.local.clone())),
        ];
        if self.terms.mode == Mode::Transport {
            payloads.push(Payload::Notify(Notify::new(NotifyType::USE_TRANSPORT_MODE, Vec::new())));
        }
        payloads
    }
}

/// Why a child was refused: what the peer is told, and what the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For the peer.
    pub(crate) notify: Notify,
    /// For the operator; empty where it is part of the protocol's normal course.
    pub(crate) reason: String,
    /// Rule concerned.
    pub(crate) rule: Option<String>,
}

impl Refusal {
    /// A refusal without data.
    pub(crate) fn new(kind: NotifyType, reason: impl Into<String>) -> Self {
        Self { notify: Notify::new(kind, Vec::new()), reason: reason.into(), rule: None }
    }

    fn of_rule(kind: NotifyType, rule: &ChildRule, reason: impl Into<String>) -> Self {
        Self { rule: Some(rule.rule.clone()), ..Self::new(kind, reason) }
    }

    /// "Try again with this group."
    fn group(group: Group) -> Self {
        Self { notify: Notify::invalid_ke(group.number()), reason: String::new(), rule: None }
    }
}

/// In which exchange a child is made, as far as it decides what is possible.
#[derive(Debug, Clone)]
pub(crate) enum Occasion {
    /// IKE_AUTH: no key exchange of its own.
    First,
    /// CREATE_CHILD_SA.
    Further,
    /// CREATE_CHILD_SA in place of a child of this rule.
    Rekey(Arc<ChildRule>),
}

/// Grants or refuses what a peer asks for (spec: responder's choice, RFC 7296 sections 2.7 and 2.9).
pub(crate) fn grant(
    established: &Established,
    sa: &IkeSa,
    ctx: &Context<'_>,
    wish: &Wish<'_>,
    occasion: &Occasion,
) -> Result<Grant, Refusal> {
    let offered_local = substituted(wish, sa.nat.local, &wish.ts_responder.selectors, sa.local);
    let offered_remote = substituted(wish, sa.nat.remote, &wish.ts_initiator.selectors, sa.remote);
    let rule = match occasion {
        Occasion::Rekey(rule) => {
            ctx.rules.child_named(&rule.rule, &offered_local, &offered_remote).unwrap_or(rule).clone()
        }
        Occasion::First | Occasion::Further => {
            find_rule(ctx, (&established.remote_id, &sa.rule), &offered_local, &offered_remote)?
        }
    };
    let refuse = |kind, reason: String| Err(Refusal::of_rule(kind, &rule, reason));
    if !sa.rule.lets(&established.remote_id, &rule) {
        return refuse(NotifyType::TS_UNACCEPTABLE, not_for(&rule, &established.remote_id));
    }
    let local = narrowed(&rule.local, &offered_local);
    let remote = narrowed(&rule.remote, &offered_remote);
    if local.is_empty() || remote.is_empty() {
        return refuse(
            NotifyType::TS_UNACCEPTABLE,
            format!("rule {} does not allow what the peer wants to rekey", rule.rule),
        );
    }
    if matches!(rule.initiation, Initiation::LocalOnly | Initiation::None)
        && !matches!(occasion, Occasion::Rekey(_))
    {
        return refuse(
            NotifyType::TS_UNACCEPTABLE,
            format!("rule {} lets no peer start a negotiation", rule.rule),
        );
    }
    let mode = if wish.transport && rule.modes.contains(&Mode::Transport) {
        Mode::Transport
    } else if rule.modes.contains(&Mode::Tunnel) {
        Mode::Tunnel
    } else {
        return refuse(
            NotifyType::NO_PROPOSAL_CHOSEN,
            format!("peer wants tunnel mode; rule {} allows transport mode only", rule.rule),
        );
    };
    let first = matches!(occasion, Occasion::First);
    let groups = if first { vec![None] } else { preferred_groups(&rule.pfs_accept, wish.ke) };
    let ours = usable(sa, rule.suites(&groups));
    let stripped;
    let theirs = if first {
        stripped = without_groups(wish.sa);
        &stripped
    } else {
        wish.sa
    };
    let chosen = match choose_child(theirs, &ours) {
        Ok(chosen) => chosen,
        Err(faults) => {
            return refuse(NotifyType::NO_PROPOSAL_CHOSEN, mismatch(wish.sa, &rule.rule, &ours, &faults));
        }
    };
    if let Some(group) = chosen.suite.group
        && wish.ke.is_none_or(|ke| ke.group != group.number())
    {
        return Err(Refusal::group(group));
    }
    let terms = Terms { rule, suite: chosen.suite, mode, local, remote };
    Ok(Grant { terms, number: chosen.number, spi_out: chosen.spi })
}

/// AH covers the addresses, and so passes no NAT (RFC 3715 section 2.1).
fn usable(sa: &IkeSa, mut suites: Vec<ChildSuite>) -> Vec<ChildSuite> {
    if sa.nat.encapsulate() {
        suites.retain(|suite| suite.protocol() != ProtocolId::AH);
    }
    suites
}

/// Whether a peer may have one more child (threats T32).
pub(crate) fn room(established: &Established, ctx: &Context<'_>) -> Result<(), Refusal> {
    let count = ctx.book.children_between(&established.local_id, &established.remote_id);
    if count < ctx.settings.children_per_peer {
        return Ok(());
    }
    let reason = format!("{} has {count} child SAs already", established.remote_id);
    Err(Refusal::new(NotifyType::NO_ADDITIONAL_SAS, reason))
}

/// The groups that a rule accepts, the one first for which the peer has sent its public value: that saves it a round
/// trip, and the policy gives them no order.
fn preferred_groups(accepted: &[Option<Group>], ke: Option<&Ke>) -> Vec<Option<Group>> {
    let sent = |group: &Option<Group>| match (group, ke) {
        (Some(group), Some(ke)) => group.number() == ke.group,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    let mut groups = accepted.to_vec();
    groups.sort_by_key(|group| !sent(group));
    groups
}

/// For the operator: the peer is not the one that a rule is for.
fn not_for(rule: &ChildRule, peer: &Identity) -> String {
    let whose = rule.remote_identity.as_ref().map_or_else(String::new, ToString::to_string);
    format!("peer is {peer}; rule {} is for {whose} (FilterByIdentity)", rule.rule)
}

fn find_rule(
    ctx: &Context<'_>,
    (peer, exchange): (&Identity, &ExchangeRule),
    local: &[TrafficSelector],
    remote: &[TrafficSelector],
) -> Result<Arc<ChildRule>, Refusal> {
    let mut best: Option<(Fit, &Arc<ChildRule>)> = None;
    let (mut forbidden, mut others) = (None, None);
    for rule in ctx.rules.child() {
        let Some(fit) = fit(&rule.local, &rule.remote, local, remote) else { continue };
        if !exchange.lets(peer, rule) {
            others.get_or_insert(rule);
            continue;
        }
        if matches!(rule.initiation, Initiation::LocalOnly | Initiation::None) {
            forbidden.get_or_insert(rule);
            continue;
        }
        if best.is_none_or(|(before, _)| fit > before) {
            best = Some((fit, rule));
        }
    }
    if let Some((_, rule)) = best {
        return Ok(rule.clone());
    }
    Err(match (forbidden, others) {
        (Some(rule), _) => Refusal::of_rule(
            NotifyType::TS_UNACCEPTABLE,
            rule,
            format!("rule {} lets no peer start a negotiation", rule.rule),
        ),
        (None, Some(rule)) => Refusal::of_rule(NotifyType::TS_UNACCEPTABLE, rule, not_for(rule, peer)),
        (None, None) => Refusal::new(
            NotifyType::TS_UNACCEPTABLE,
            format!("no rule covers {} here and {} there", shown(local), shown(remote)),
        ),
    })
}

/// Behind a NAT, transport mode selectors name addresses that only one side knows: the one seen on the way takes their
/// place (RFC 7296 section 2.23.1).
fn substituted(
    wish: &Wish<'_>,
    nat: bool,
    selectors: &[TrafficSelector],
    seen: SocketAddr,
) -> Vec<TrafficSelector> {
    let mut out = selectors.to_vec();
    if wish.transport && nat {
        for selector in &mut out {
            if selector.addresses.low == selector.addresses.high {
                selector.addresses.low = seen.ip();
                selector.addresses.high = seen.ip();
            }
        }
    }
    out
}

/// What the responder made of our wish.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply<'m> {
    /// Proposal taken.
    pub(crate) sa: &'m Sa,
    /// Our side.
    pub(crate) ts_initiator: &'m Ts,
    /// Its side.
    pub(crate) ts_responder: &'m Ts,
    /// It agrees to transport mode.
    pub(crate) transport: bool,
}

/// Checks what the responder made of our wish: nothing may be in it that was not asked for. Returns the terms and the
/// peer's inbound SPI.
pub(crate) fn accept(
    peer: &Identity,
    sa: &IkeSa,
    rule: &Arc<ChildRule>,
    group: Option<Group>,
    wished: (&[TrafficSelector], &[TrafficSelector]),
    reply: &Reply<'_>,
) -> Result<(Terms, u32), Failure> {
    if !sa.rule.lets(peer, rule) {
        return Err(Failure::new(FailureKind::NoRule, not_for(rule, peer)));
    }
    let ours = usable(sa, rule.suites(&[group]));
    let chosen = reply
        .sa
        .accepted_child(&ours)
        .map_err(|fault| mismatch(reply.sa, &rule.rule, &ours, &[(0, fault)]))
        .map_err(|text| Failure::new(FailureKind::NoProposal, text))?;
    let mode = if reply.transport { Mode::Transport } else { Mode::Tunnel };
    if !rule.modes.contains(&mode) || (reply.transport && rule.modes.first() != Some(&Mode::Transport)) {
        let text = format!("peer chose {mode:?} mode, which rule {} does not ask for", rule.rule);
        return Err(Failure::new(FailureKind::NoProposal, text));
    }
    let (local, remote) = (&reply.ts_initiator.selectors, &reply.ts_responder.selectors);
    // A transport mode peer that sees a NAT names the addresses that it sees (section 2.23.1).
    let as_asked = |wished: &[TrafficSelector], got: &[TrafficSelector]| {
        covered(wished, got) || (reply.transport && sa.nat.encapsulate() && got.len() == wished.len())
    };
    if !as_asked(wished.0, local) || !as_asked(wished.1, remote) {
        let (local, remote) = (shown(local), shown(remote));
        let text = format!("peer answers with selectors {local} and {remote} that were not asked for");
        return Err(Failure::new(FailureKind::TrafficSelectors, text));
    }
    let narrow = |wished: &[TrafficSelector], got: &[TrafficSelector]| {
        let inside = narrowed(wished, got);
        if inside.is_empty() { wished.to_vec() } else { inside }
    };
    let terms = Terms {
        rule: rule.clone(),
        suite: chosen.suite,
        mode,
        local: narrow(wished.0, local),
        remote: narrow(wished.1, remote),
    };
    Ok((terms, chosen.spi))
}

/// The child SA that two peers have agreed on, still without keys.
#[derive(Debug)]
pub(crate) struct Draft<'k> {
    /// Tunnel, of which the SA becomes a user.
    pub(crate) tunnel: TunnelId,
    /// Our role in the exchange.
    pub(crate) role: Role,
    /// Inbound SPI.
    pub(crate) spi_in: u32,
    /// Outbound SPI.
    pub(crate) spi_out: u32,
    /// Terms.
    pub(crate) terms: Terms,
    /// Fresh shared secret, if any.
    pub(crate) shared: Option<&'k Secret>,
    /// Nonces of the exchange, initiator's first.
    pub(crate) nonces: (&'k [u8], &'k [u8]),
    /// Whether this side sends on it from now on.
    pub(crate) outbound_active: bool,
    /// Another process asked for it and may have used it: from which sequence number on this one sends.
    pub(crate) resumed: Option<u64>,
}

/// The tunnel of a child that a peer asks for, of which the request becomes a user: the one that it has with the same
/// selectors at another IKE SA, or a new one.
pub(crate) fn place(sa: &IkeSa, established: &Established, ctx: &mut Context<'_>, terms: &Terms) -> TunnelId {
    let identities = (&established.local_id, &established.remote_id);
    let selectors = (terms.local.as_slice(), terms.remote.as_slice());
    match ctx.book.tunnel_elsewhere(sa.key, identities, selectors, |tunnel| sa.awaits_child_of(tunnel)) {
        Some(tunnel) => {
            ctx.book.enter_child(tunnel);
            tunnel
        }
        None => ctx.book.new_child_tunnel(ActivationMethod::Remote, None),
    }
}

/// Derives the keys and has the pair installed.
pub(crate) fn install(
    sa: &IkeSa,
    established: &Established,
    ctx: &mut Context<'_>,
    draft: Draft<'_>,
) -> Child {
    let Draft { tunnel, role, spi_in, spi_out, terms, shared, nonces, outbound_active, resumed } = draft;
    let suite = terms.suite;
    let (prf, d) = (established.suite.prf, &established.keys.d);
    let keys = ChildKeys::derive(prf, d, &suite, shared, nonces.0, nonces.1);
    let (key_in, key_out) = keys.split(role.into());
    let kept = ctx.is_continued(sa.local.ip()).then(|| (key_in.clone(), key_out.clone()));
    let offer = terms.rule.offer(&suite);
    let lifetime = offer.map_or(Duration::from_secs(3600), |offer| offer.lifetime);
    let lifesize = offer.and_then(|offer| offer.lifesize_bytes);
    let mut life = Lifetime::start(ctx.now, lifetime, ctx.rng);
    ctx.book.enter_child(tunnel);
    let generation = ctx.book.child_is_up(tunnel, terms.rule.vpn_life.map(|life| ctx.now + life));
    if let Some(end) = ctx.book.child_tunnel(tunnel).and_then(|tunnel| tunnel.vpn_life_ends) {
        // Past the tunnel's life nothing is replaced, and the SA ends with it (spec: VpnLife).
        if end <= life.expires_at {
            life = Lifetime { rekey_at: end, expires_at: end };
        }
    }
    ctx.book.enter_child_spi(spi_in, sa.key);
    ctx.book.place_child(tunnel, sa.key);
    ctx.book.enter_twin(&terms.local, &terms.remote, tunnel, (spi_in, outbound_active));
    let udp = sa.nat.encapsulate();
    let endpoint = |address: SocketAddr| {
        let mut address = address;
        if !udp {
            address.set_port(0);
        }
        address
    };
    let (local, remote) = (endpoint(sa.local), endpoint(sa.remote));
    ctx.out.events.push_back(Event::InstallChild(Box::new(ChildInstall {
        tunnel,
        generation,
        ike: sa.tunnel,
        spi_in,
        spi_out,
        local,
        remote,
        udp,
        mode: terms.mode,
        encryption: suite.encryption,
        integrity: suite.integrity,
        key_in,
        key_out,
        esn: suite.esn,
        local_selectors: terms.local.clone(),
        remote_selectors: terms.remote.clone(),
        rule: terms.rule.rule.clone(),
        vpn_action: terms.rule.vpn_action.clone(),
        outbound_active,
        soft_bytes: lifesize.map(|hard| soft_bytes(hard, ctx.rng)),
        hard_bytes: lifesize,
        outlives: ctx.is_continued(sa.local.ip()),
        continued: resumed.map(|next_sequence| Continued { next_sequence, replay: None, bytes: 0 }),
    })));
    ctx.out.events.push_back(Event::ChildUp(tunnel));
    Child {
        tunnel,
        generation,
        role,
        spi_in,
        spi_out,
        terms,
        local,
        remote,
        udp,
        installed: ctx.now,
        life,
        lifetime,
        lifesize,
        outbound_active,
        activate_at: None,
        standing: Standing::Serving,
        keys: kept,
    }
}

/// Has a pair removed.
pub(crate) fn remove(child: &Child, ctx: &mut Context<'_>, reason: &str) {
    ctx.book.leave_child_spi(child.spi_in);
    let twins = ctx.book.leave_twin(&child.terms.local, &child.terms.remote, child.spi_in);
    // What else there is for this traffic takes it over.
    ctx.after.extend(twins.into_iter().map(After::Activate));
    ctx.out.events.push_back(Event::RemoveChild { spi_in: child.spi_in });
    leave_child(child.tunnel, ctx, reason);
}

/// Selectors for a log line.
pub(crate) fn shown(selectors: &[TrafficSelector]) -> String {
    const SHOWN: usize = 4;
    let mut out = Vec::new();
    for selector in selectors.iter().take(SHOWN) {
        let (low, high) = (selector.addresses.low, selector.addresses.high);
        let mut text = if low == high { low.to_string() } else { format!("{low}-{high}") };
        if selector.protocol != 0 {
            text.push_str(&format!(" protocol {}", selector.protocol));
        }
        if (selector.port_low, selector.port_high) != (0, u16::MAX) {
            text.push_str(&format!(" ports {}-{}", selector.port_low, selector.port_high));
        }
        out.push(text);
    }
    if selectors.len() > SHOWN {
        out.push(format!("{} more", selectors.len() - SHOWN));
    }
    if out.is_empty() { "nothing usable".to_owned() } else { out.join(", ") }
}
