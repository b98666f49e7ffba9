//! What single values cannot show: rules that contradict themselves, can never match, or lead nowhere.

use crate::compile::{self, Filter, MAX_FILTERS, MAX_FILTERS_PER_RULE};
use crate::model::{
    AddressRange, AddressSet, Connect, Direction, DynVpnAction, Encap, FilterRule, LocalDynVpnRule, Policy,
    Protocol, Routing,
};
use crate::resolve::Context;
use crate::select::{self, covers_bytes};
use crate::source::Span;
use crate::statement::members::Member;
use std::net::IpAddr;

/// Comparisons of filters that the search for unreachable rules may take; a larger policy is searched in part.
const MAX_COMPARISONS: usize = 2_000_000;

/// One rule in itself; `false`: it is too large to go on with.
pub(crate) fn filter_rule(rule: &FilterRule, at: Span, cx: &mut Context<'_, '_>) -> bool {
    let count = compile::count(rule);
    if count > MAX_FILTERS_PER_RULE {
        cx.findings
            .error(at, format!("IpFilterRule `{}` becomes {count} filters", rule.name))
            .label(format!("at most {MAX_FILTERS_PER_RULE} are accepted"))
            .help("addresses and services are multiplied: use prefixes and ranges");
        return false;
    }
    if count == 0 {
        cx.findings
            .error(at, format!("no packet can match IpFilterRule `{}`", rule.name))
            .label("the protocol of its service belongs to the other address family");
    }
    let before = cx.filters;
    cx.filters += count;
    if cx.filters > MAX_FILTERS {
        if before <= MAX_FILTERS {
            cx.findings
                .error(at, format!("the policy becomes more than {MAX_FILTERS} filters"))
                .label("up to this rule");
        }
        return false;
    }
    if rule.dyn_vpn().is_none() && rule.man_vpn().is_none() {
        return true;
    }
    if rule.services.iter().any(|s| !matches!(s.direction, Direction::Bidirectional(_))) {
        cx.findings
            .error(at, format!("IpSec rule `{}` has a service of one direction", rule.name))
            .label("expected Direction Bidirectional: a tunnel carries both");
    }
    let routed = |routing| matches!(routing, Routing::Routed | Routing::Either);
    if rule.services.iter().any(|s| routed(s.routing) && s.protocol.is_partial()) {
        cx.findings
            .error(at, format!("IpSec rule `{}` selects routed traffic by ports, types or codes", rule.name))
            .label("routed fragments do not show them: expected all ports");
    }
    if let Some(vpn) = rule.man_vpn() {
        let v4 = |set: &AddressSet| set.ranges().iter().any(AddressRange::is_ipv4);
        if vpn.encap == Encap::Transport && (!v4(&rule.source) && v4(&vpn.local)) {
            cx.findings
                .warning(at, format!("no packet of IpFilterRule `{}` fits its manual tunnel", rule.name))
                .label("transport mode keeps the addresses, and the endpoints are of the other family");
        }
        return true;
    }
    if rule.services.iter().any(|s| !has_selector(&s.protocol)) {
        cx.findings
            .error(at, format!("IpSec rule `{}` has a Type or Code that cannot be negotiated", rule.name))
            .label("expected one Type with its Codes, or Types with all Codes, of icmp, icmpv6 or mipv6");
    }
    true
}

/// Whether a traffic selector can say it: type and code are one 16-bit range (RFC 7296 section 3.13.1).
fn has_selector(protocol: &Protocol) -> bool {
    match protocol {
        Protocol::Typed { number: 89, kind, .. } => kind.is_none(),
        Protocol::Typed { kind: None, code, .. } => code.is_none(),
        Protocol::Typed { kind: Some(kind), code, .. } => code.is_none() || kind.low() == kind.high(),
        Protocol::Any | Protocol::Ports { .. } | Protocol::Other(_) => true,
        // No selector of IKE says "a protocol that is not shown".
        Protocol::Opaque => false,
    }
}

/// All rules together: which of them can never match.
pub(crate) fn filter_rules(rules: &[Member<FilterRule>], cx: &mut Context<'_, '_>) {
    cx.rule_places = rules.iter().map(|m| m.at).collect();
    let filters: Vec<Vec<Filter<'_>>> =
        rules.iter().map(|m| compile::rule_filters(&m.rule).collect()).collect();
    let mut left = MAX_COMPARISONS;
    for (index, Member { at, rule, .. }) in rules.iter().enumerate() {
        let (earlier, mine) = (&filters[..index], &filters[index]);
        // What a rule that is not always in force takes, it does not always take.
        let earlier_at = &rules[..index];
        // The rule is dead when for each of its filters an earlier rule takes every packet.
        let mut by = None;
        let dead = !mine.is_empty()
            && mine.iter().all(|filter| {
                let hit = earlier.iter().enumerate().find(|(i, theirs)| {
                    if earlier_at.get(*i).is_some_and(|m| !m.rule.times.is_empty()) {
                        return false;
                    }
                    left = left.saturating_sub(theirs.len());
                    left > 0 && theirs.iter().any(|f| covers(f, filter))
                });
                by = by.or(hit.map(|(i, _)| i));
                hit.is_some()
            });
        if let (true, Some(first)) = (dead, by.and_then(|i| rules.get(i))) {
            cx.findings
                .warning(*at, format!("IpFilterRule `{}` never matches", rule.name))
                .label("every packet that it could match is taken by a rule before it")
                .related(first.at, format!("`{}` comes first", first.rule.name));
        }
        if left == 0 {
            return;
        }
    }
}

/// Whether every packet that `inner` matches is matched by `outer`.
fn covers(outer: &Filter<'_>, inner: &Filter<'_>) -> bool {
    let routing = match (outer.service.routing, inner.service.routing) {
        (Routing::Either, _) | (Routing::Local, Routing::Local) | (Routing::Routed, Routing::Routed) => true,
        (Routing::Local | Routing::Routed, _) => false,
    };
    let class =
        outer.service.security_class == 0 || outer.service.security_class == inner.service.security_class;
    routing
        && class
        && outer.inbound == inner.inbound
        && (outer.connect == Connect::Either || outer.connect == inner.connect)
        && (!outer.service.fragments_only || inner.service.fragments_only)
        && (!outer.opaque || inner.opaque)
        && (outer.protocol.is_none() || outer.protocol == inner.protocol)
        && outer.source.covers(&inner.source)
        && outer.destination.covers(&inner.destination)
        && outer.source_ports.covers(inner.source_ports)
        && outer.destination_ports.covers(inner.destination_ports)
        && covers_bytes(outer.kind, inner.kind)
        && covers_bytes(outer.code, inner.code)
}

/// Whether there is a KeyExchangeRule for any pair of security endpoints that the rule can have. Only what is sure counts:
/// in tunnel mode a peer's gateway may be anywhere, unless the rule names it.
fn can_negotiate(policy: &Policy, rule: &FilterRule, vpn: &DynVpnAction) -> bool {
    let coded = rule.local_start.as_deref();
    let transport = !vpn.encap.contains(&Encap::Tunnel);
    let side = |endpoint: Option<IpAddr>, data: &AddressSet, location: &AddressSet| match endpoint {
        Some(endpoint) => location.contains(endpoint),
        None if transport => location.ranges().iter().any(|l| data.ranges().iter().any(|d| meet(l, d))),
        None => true,
    };
    let rules = policy.key_exchange.as_ref().map_or(&[][..], |k| &k.rules);
    rules.iter().any(|k| {
        side(coded.and_then(|s| s.local_endpoint), &rule.source, &k.local.location)
            && side(coded.and_then(|s| s.remote_endpoint), &rule.destination, &k.remote.location)
    })
}

/// Whether two ranges have an address in common.
fn meet(a: &AddressRange, b: &AddressRange) -> bool {
    a.is_ipv4() == b.is_ipv4() && a.low() <= b.high() && b.low() <= a.high()
}

/// The whole policy: what will not work although every block is right in itself.
pub(crate) fn policy(
    policy: &Policy,
    starts: &[(Span, LocalDynVpnRule)],
    at: Span,
    cx: &mut Context<'_, '_>,
) {
    let ipsec = policy.filter.rules.iter().find(|r| r.dyn_vpn().is_some());
    let has_exchange = policy.key_exchange.as_ref().is_some_and(|k| !k.rules.is_empty());
    if let (Some(rule), false) = (ipsec, has_exchange) {
        cx.findings
            .warning(at, "there is no KeyExchangeRule")
            .label(format!("no tunnel can be negotiated for IpFilterRule `{}`", rule.name));
        return;
    }
    let places = std::mem::take(&mut cx.rule_places);
    for (rule, at) in policy.filter.rules.iter().zip(places) {
        if rule.dyn_vpn().is_some_and(|vpn| !can_negotiate(policy, rule, vpn)) {
            cx.findings
                .warning(at, format!("no tunnel can be negotiated for IpFilterRule `{}`", rule.name))
                .label("no KeyExchangeRule is for its security endpoints");
        }
    }
    for (at, start) in starts {
        if let Err(reason) = select::by_rule(policy, start) {
            cx.findings
                .warning(*at, format!("LocalDynVpnRule `{}` cannot be activated", start.name))
                .label(reason.to_string());
        }
    }
}
