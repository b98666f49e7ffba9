//! IpLocalStartAction.

use super::endpoint;
use super::params::Params;
use super::value::{Args, Choice};
use crate::model::{Granularity, LocalStart, Name};
use crate::resolve::{Context, Object, Table, Tables};

impl Object for LocalStart {
    const KEYWORD: &'static str = "IpLocalStartAction";
    const REF: &'static str = "IpLocalStartActionRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let allow_on_demand = params.value("AllowOnDemand", cx, Args::yes_no);
        let mut granularity_of = |keyword, cx: &mut Context<'a, '_>| params.value(keyword, cx, granularity);
        let local_ip = granularity_of("LocalIpGranularity", cx);
        let remote_ip = granularity_of("RemoteIpGranularity", cx);
        let protocol = granularity_of("ProtocolGranularity", cx).unwrap_or(Granularity::Rule);
        let local_port = granularity_of("LocalPortGranularity", cx);
        let remote_port = granularity_of("RemotePortGranularity", cx);
        let icmp_type = granularity_of("IcmpTypeGranularity", cx).unwrap_or(Granularity::Rule);
        let icmp_code = granularity_of("IcmpCodeGranularity", cx).unwrap_or(Granularity::Rule);
        let mh_type = granularity_of("MIPv6TypeGranularity", cx).unwrap_or(Granularity::Rule);
        let local = params.object::<endpoint::Local>(cx);
        let remote = params.object::<endpoint::Remote>(cx);
        let mut address = |at, location: &crate::model::AddressSet| {
            let single = location.as_single();
            if single.is_none() {
                cx.findings
                    .error(at, "the Location of a local start is one address")
                    .label("a negotiation goes from one address to one address");
            }
            single
        };
        Some(Self {
            name,
            allow_on_demand,
            local_ip,
            remote_ip,
            protocol,
            local_port,
            remote_port,
            icmp_type,
            icmp_code,
            mh_type,
            local_endpoint: local.and_then(|(at, e)| address(at, &e.location)),
            remote_endpoint: remote.and_then(|(at, e)| address(at, &e.location)),
        })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.local_starts
    }
}

fn granularity<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Granularity> {
    args.choice(&[("Rule", Choice::Is(Granularity::Rule)), ("Packet", Choice::Is(Granularity::Packet))], cx)
}
