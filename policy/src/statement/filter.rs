//! IpFilterPolicy, IpFilterGroup and IpFilterRule.

use super::action::{GenericAction, Kind, discard};
use super::address::{Coded, DESTINATION, SOURCE};
use super::members::{self, members};
use super::params::Params;
use super::value::{Args, Choice};
use super::{manual, service};
use crate::ast::Statement;
use crate::check;
use crate::feature::Feature;
use crate::model::{
    Action, AddressSet, Connect, Direction, Discard, DynVpnAction, FilterPolicy, FilterRule, IdentityPattern,
    LocalStart, ManVpnAction, Name, NonEmpty, Protocol, Routing, Service,
};
use crate::resolve::{Context, Object, Table, Tables};
use crate::source::Span;
use std::sync::Arc;

/// IpFilterGroup.
pub(crate) struct Group {
    name: Name,
    rules: Vec<(Span, Arc<FilterRule>)>,
}

impl Object for Group {
    const KEYWORD: &'static str = "IpFilterGroup";
    const REF: &'static str = "IpFilterGroupRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        Some(Self { name, rules: params.objects(cx) })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.filter_groups
    }
}

impl members::Group<FilterRule> for Group {
    fn name(&self) -> &Name {
        &self.name
    }
    fn rules(&self) -> &[(Span, Arc<FilterRule>)] {
        &self.rules
    }
}

impl members::Rule for FilterRule {
    fn name(&self) -> &Name {
        &self.name
    }
}

/// The IpFilterPolicy block.
pub(crate) fn policy<'a>(statement: &'a Statement<'a>, cx: &mut Context<'a, '_>) -> Option<FilterPolicy> {
    let mut params = Params::enter("IpFilterPolicy", statement, cx)?;
    let predecap = params.value("PreDecap", cx, Args::on_off).unwrap_or(false);
    let logging = params.value("FilterLogging", cx, Args::on_off).unwrap_or(true);
    let log_implicit = params.value("IpFilterLogImplicit", cx, Args::yes_no).unwrap_or(false);
    let allow_on_demand = params.value("AllowOnDemand", cx, Args::yes_no).unwrap_or(false);
    let implicit_discard = params.value("ImplicitDiscardAction", cx, discard).unwrap_or(Discard::Silent);
    let fips140 = params.value("FIPS140", cx, |args, cx| {
        args.choice(&[("No", Choice::Is(false)), ("Yes", Choice::Needs(true, Feature::Fips))], cx)
    });
    if !params.has(&[FilterRule::KEYWORD, FilterRule::REF, Group::KEYWORD, Group::REF]) {
        params.missing("at least one IpFilterRule", cx);
    }
    let members = members::<FilterRule, Group>(&mut params, cx);
    params.finish(cx);
    check::filter_rules(&members, cx);
    let rules =
        members.into_iter().map(|m| FilterRule { group: m.group, ..Arc::unwrap_or_clone(m.rule) }).collect();
    let fips140 = fips140.unwrap_or(false);
    Some(FilterPolicy { predecap, logging, log_implicit, allow_on_demand, implicit_discard, fips140, rules })
}

impl Object for FilterRule {
    const KEYWORD: &'static str = "IpFilterRule";
    const REF: &'static str = "IpFilterRuleRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let source = SOURCE.read(params, cx);
        let destination = DESTINATION.read(params, cx);
        let services = services(params, cx);
        let times = super::time::conditions(params, cx);
        for word in params.each(&[IdentityPattern::KEYWORD, IdentityPattern::REF]).iter().map(|s| s.keyword) {
            cx.uses(Feature::FilterByIdentity, word);
        }
        let remote_identity = params.object::<IdentityPattern>(cx).map(|(_, identity)| identity);
        if !params.has(&[GenericAction::KEYWORD, GenericAction::REF]) {
            params.missing("IpGenericFilterAction or IpGenericFilterActionRef", cx);
        }
        let generic = params.object::<GenericAction>(cx);
        let vpn = params.object::<DynVpnAction>(cx);
        for word in params.each(&[ManVpnAction::KEYWORD, ManVpnAction::REF]).iter().map(|s| s.keyword) {
            manual::used(word, cx);
        }
        let man_vpn = params.object::<ManVpnAction>(cx);
        let start = params.object::<LocalStart>(cx);
        let (generic_at, generic) = generic?;
        let has_vpn = params.has(&[DynVpnAction::KEYWORD, DynVpnAction::REF]);
        let has_manual = params.has(&[ManVpnAction::KEYWORD, ManVpnAction::REF]);
        let has_start = params.has(&[LocalStart::KEYWORD, LocalStart::REF]);
        let is_ipsec = generic.kind == Kind::Ipsec;
        let misplaced =
            (vpn.as_ref().map(|v| v.0)).or(man_vpn.as_ref().map(|m| m.0)).or(start.as_ref().map(|s| s.0));
        if let (false, Some(at)) = (is_ipsec, misplaced) {
            cx.findings
                .error(at, "a rule that is not IpSec has no VPN action and no local start action")
                .label("IpFilterAction of this rule is Permit or Deny")
                .related(generic_at, "its generic action");
        }
        if let (true, true, Some((at, _))) = (has_vpn, has_manual, &man_vpn) {
            cx.findings
                .error(*at, "IpDynVpnAction and IpManVpnAction in one rule")
                .label("expected one of them: the keys are negotiated or coded");
            return None;
        }
        if let (true, Some((at, _))) = (is_ipsec && has_manual, &start) {
            cx.findings
                .error(*at, "IpLocalStartAction goes with IpDynVpnAction only")
                .label("a manual tunnel is not negotiated");
        }
        if is_ipsec && !has_vpn && !has_manual {
            let at = if has_start { start.as_ref().map_or(generic_at, |s| s.0) } else { generic_at };
            cx.findings
                .error(at, "an IpSec rule needs an IpDynVpnAction or an IpManVpnAction")
                .label("the generic action is IpSec")
                .help("add `IpDynVpnActionRef name` to the rule");
        }
        let action = match (generic.kind, vpn) {
            (Kind::Permit, _) => Action::Permit { log: generic.log_permit },
            (Kind::Deny, _) => Action::Deny { log: generic.log_deny, discard: generic.discard },
            (Kind::Ipsec, None) if has_manual => Action::Manual {
                log_permit: generic.log_permit,
                log_deny: generic.log_deny,
                discard: generic.discard,
                vpn: man_vpn?.1,
            },
            (Kind::Ipsec, vpn) => Action::Ipsec {
                log_permit: generic.log_permit,
                log_deny: generic.log_deny,
                discard: generic.discard,
                vpn: vpn?.1,
            },
        };
        let (source, destination) = both_sides(source, destination, params.at, cx)?;
        let rule = Self {
            name,
            group: None,
            source,
            destination,
            services: services?,
            action_name: generic.name.clone(),
            action,
            local_start: start.map(|(_, start)| start),
            times,
            remote_identity,
        };
        check::filter_rule(&rule, params.at, cx).then_some(rule)
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.filter_rules
    }
}

fn both_sides(
    source: Coded,
    destination: Coded,
    at: Span,
    cx: &mut Context<'_, '_>,
) -> Option<(AddressSet, AddressSet)> {
    let value = |coded| match coded {
        Coded::Absent => Some(AddressSet::all()),
        Coded::Faulty => None,
        Coded::Is(set, _) => Some(set),
    };
    let (source, destination) = (value(source)?, value(destination)?);
    let has = |set: &AddressSet, v4| set.ranges().iter().any(|r| r.is_ipv4() == v4);
    let common = |v4| has(&source, v4) && has(&destination, v4);
    if !common(true) && !common(false) {
        cx.findings
            .error(at, "source and destination of different families")
            .label("no packet has an IPv4 address and an IPv6 address");
        return None;
    }
    Some((source, destination))
}

/// IpService, IpServiceRef and IpServiceGroupRef in order; none is all local traffic in both directions.
fn services<'a>(params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<NonEmpty<Arc<Service>>> {
    let members = params.each(&[Service::KEYWORD, Service::REF, service::Group::REF]);
    if members.is_empty() {
        return Some(NonEmpty::one(Arc::new(Service {
            name: cx.made_up_name(Service::KEYWORD)?,
            protocol: Protocol::Any,
            direction: Direction::Bidirectional(Connect::Either),
            routing: Routing::Local,
            security_class: 0,
            fragments_only: false,
        })));
    }
    let mut services = Vec::new();
    for member in members {
        if member.is(service::Group::REF) {
            services.extend(cx.object::<service::Group>(member).into_iter().flat_map(|g| g.0.clone()));
        } else {
            services.extend(cx.object::<Service>(member));
        }
    }
    NonEmpty::new(services)
}
