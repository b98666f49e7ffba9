//! LocalDynVpnPolicy, its groups and rules.

use super::address::{Coded, LOCAL_IP, Place, REMOTE_IP};
use super::members::{self, members};
use super::params::Params;
use super::service::protocol;
use super::value::Args;
use crate::ast::Statement;
use crate::model::local_dyn_vpn::LocalTraffic;
use crate::model::{AddressRange, LocalDynVpnRule, Name, PortRange};
use crate::resolve::{Context, Object, Table, Tables};
use crate::source::Span;
use std::sync::Arc;

/// LocalDynVpnGroup.
pub(crate) struct Group {
    name: Name,
    rules: Vec<(Span, Arc<LocalDynVpnRule>)>,
}

impl Object for Group {
    const KEYWORD: &'static str = "LocalDynVpnGroup";
    const REF: &'static str = "LocalDynVpnGroupRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        Some(Self { name, rules: params.objects(cx) })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.local_dyn_vpn_groups
    }
}

impl members::Group<LocalDynVpnRule> for Group {
    fn name(&self) -> &Name {
        &self.name
    }
    fn rules(&self) -> &[(Span, Arc<LocalDynVpnRule>)] {
        &self.rules
    }
}

impl members::Rule for LocalDynVpnRule {
    fn name(&self) -> &Name {
        &self.name
    }
}

/// The LocalDynVpnPolicy block: its rules, each with the place where the policy names it.
pub(crate) fn policy<'a>(
    statement: &'a Statement<'a>,
    cx: &mut Context<'a, '_>,
) -> Option<Vec<(Span, LocalDynVpnRule)>> {
    let mut params = Params::enter("LocalDynVpnPolicy", statement, cx)?;
    let members = members::<LocalDynVpnRule, Group>(&mut params, cx);
    params.finish(cx);
    let rules = members.into_iter();
    Some(rules.map(|m| (m.at, LocalDynVpnRule { group: m.group, ..Arc::unwrap_or_clone(m.rule) })).collect())
}

impl Object for LocalDynVpnRule {
    const KEYWORD: &'static str = "LocalDynVpnRule";
    const REF: &'static str = "LocalDynVpnRuleRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let local = data_endpoint(&LOCAL_IP, "LocalIp", params, cx);
        let remote = data_endpoint(&REMOTE_IP, "RemoteIp", params, cx);
        let number = params.value("Protocol", cx, protocol);
        let known = number.is_some() || !params.has(&["Protocol"]);
        let number = number.flatten();
        let local_port = params.value("LocalDataPort", cx, Args::ports).unwrap_or(PortRange::ANY);
        let remote_port = params.value("RemoteDataPort", cx, Args::ports).unwrap_or(PortRange::ANY);
        let kind = one_of(["Type", "IcmpType"], params, cx);
        let code = one_of(["Code", "IcmpCode"], params, cx);
        let auto_activate = params.value("AutoActivate", cx, Args::yes_no).unwrap_or(false);
        let has_ports = matches!(number, Some(6 | 17 | 132));
        let has_type = matches!(number, Some(1 | 58));
        for (keywords, fits, whose) in [
            (["LocalDataPort", "RemoteDataPort"], has_ports, "tcp and udp"),
            (["Type", "IcmpType"], has_type, "icmp and icmpv6"),
            (["Code", "IcmpCode"], has_type, "icmp and icmpv6"),
        ] {
            if known && !fits && params.has(&keywords) {
                cx.findings
                    .error(
                        params.at,
                        format!("{} does not go with the Protocol of this rule", keywords.join("/")),
                    )
                    .label(format!("only {whose} have it"));
            }
        }
        let traffic = match number {
            None => LocalTraffic::Any,
            Some(number) if has_ports => {
                LocalTraffic::Ports { number, local: local_port, remote: remote_port }
            }
            Some(number) if has_type => LocalTraffic::Typed { number, kind, code },
            Some(number) => LocalTraffic::Other(number),
        };
        let (local, remote) = (local?, remote?);
        if local.is_ipv4() != remote.is_ipv4() {
            cx.findings
                .error(params.at, "LocalIp and RemoteIp of different families")
                .label("expected two IPv4 or two IPv6 values");
            return None;
        }
        Some(Self { name, group: None, local, remote, traffic, auto_activate })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.local_dyn_vpn_rules
    }
}

fn data_endpoint<'a>(
    place: &Place,
    keyword: &str,
    params: &mut Params<'a>,
    cx: &mut Context<'a, '_>,
) -> Option<AddressRange> {
    match place.read(params, cx) {
        Coded::Is(set, at) => match set.ranges() {
            [one] => Some(*one),
            _ => {
                cx.findings
                    .error(at, format!("{keyword} with several addresses"))
                    .label("a tunnel has one address, prefix or range on each side");
                None
            }
        },
        Coded::Absent => {
            params.missing(keyword, cx);
            None
        }
        Coded::Faulty => None,
    }
}

/// Two spellings of one parameter.
fn one_of<'a>(
    keywords: [&'static str; 2],
    params: &mut Params<'a>,
    cx: &mut Context<'a, '_>,
) -> Option<crate::model::ByteRange> {
    let statement = params.only(&keywords, cx)?;
    let keyword = keywords.into_iter().find(|k| statement.is(k)).unwrap_or(keywords[0]);
    Args::of(keyword, statement, cx)?.read_all(cx, Args::bytes_or_any).flatten()
}
