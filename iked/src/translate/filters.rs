//! The filter table of a stack.

use policy::compile::{self, Filter};
use policy::model::{self, Action, ByteRange, Connect, Discard, Moment, PortRange, Routing};
use policy::profile::Ipsec;
use policy::select::OfPacket;
use policy::{Policy, select};
use stack::control::{
    self, AddressRange, Direction, FilterAction, FilterRule, FilterSet, Granularity, Scope, TcpQualifier,
};

/// Name of the rules that are in force without a policy (ipsec-command.md section 5).
const DEFAULT_RULE: &str = "SYSDEFAULTRULE";
/// UDP.
const UDP: u8 = 17;
/// Ports of IKE, and of IKE and ESP behind a NAT (RFC 3948).
const IKE_PORTS: [u16; 2] = [500, 4500];

/// The table that a policy asks for at an instant, in search order.
#[must_use]
pub fn filter_set(policy: &Policy, at: Moment, epoch: u64) -> FilterSet {
    FilterSet {
        epoch,
        policy: true,
        logging: policy.filter.logging,
        predecap: policy.filter.predecap,
        log_implicit: policy.filter.log_implicit,
        implicit_icmp: policy.filter.implicit_discard == Discard::Icmp,
        rules: compile::filters_at(policy, at).map(|filter| rule(policy, &filter)).collect(),
    }
}

/// The table without a policy: IKE may be spoken, everything else is denied because nothing matches.
#[must_use]
pub fn default_filter_set(epoch: u64) -> FilterSet {
    let families = [AddressRange::ANY_V4, AddressRange::ANY_V6];
    let mut rules = Vec::new();
    for (number, port) in (1..).zip(IKE_PORTS) {
        let mut extension = 0;
        for any in families {
            for direction in [Direction::Outbound, Direction::Inbound] {
                extension += 1;
                let own = control::PortRange { low: port, high: port };
                let (source_ports, destination_ports) = match direction {
                    Direction::Outbound => (own, control::PortRange::ANY),
                    Direction::Inbound => (control::PortRange::ANY, own),
                };
                let name = format!("{DEFAULT_RULE}.{number}");
                rules.push(FilterRule {
                    protocol: Some(UDP),
                    source_ports,
                    destination_ports,
                    ..FilterRule::new(name, extension, direction, any, any, FilterAction::Permit)
                });
            }
        }
    }
    FilterSet {
        epoch,
        policy: false,
        logging: true,
        predecap: false,
        log_implicit: false,
        implicit_icmp: false,
        rules,
    }
}

/// The table that a profile asks for: its permits, each an outbound filter and its mirror image.
#[must_use]
pub fn profile_filter_set(ipsec: &Ipsec, epoch: u64) -> FilterSet {
    let mut rules = Vec::new();
    for (number, r) in (1_u32..).zip(&ipsec.rules) {
        let outbound = FilterRule {
            scope: scope(r.routing),
            security_class: r.security_class,
            protocol: r.protocol,
            source_ports: ports(r.source_ports),
            destination_ports: ports(r.destination_ports),
            icmp_type: r.kind.map(bytes),
            icmp_code: r.code.map(bytes),
            tcp_qualifier: match r.direction {
                model::Direction::Bidirectional(connect) => qualifier(connect),
                model::Direction::Inbound | model::Direction::Outbound => TcpQualifier::None,
            },
            fragments_only: r.fragments_only,
            log_permit: r.log,
            ..FilterRule::new(
                format!("{DEFAULT_RULE}.{number}"),
                0,
                Direction::Outbound,
                addresses(r.source),
                addresses(r.destination),
                FilterAction::Permit,
            )
        };
        let inbound = FilterRule {
            direction: Direction::Inbound,
            source: outbound.destination,
            destination: outbound.source,
            source_ports: outbound.destination_ports,
            destination_ports: outbound.source_ports,
            ..outbound.clone()
        };
        let (out, into) = match r.direction {
            model::Direction::Bidirectional(_) => (true, true),
            model::Direction::Outbound => (true, false),
            model::Direction::Inbound => (false, true),
        };
        let both = out.then_some(outbound).into_iter().chain(into.then_some(inbound));
        rules.extend((1..).zip(both).map(|(extension, rule)| FilterRule { extension, ..rule }));
    }
    FilterSet {
        epoch,
        policy: false,
        logging: ipsec.log,
        predecap: false,
        log_implicit: ipsec.log_implicit,
        implicit_icmp: false,
        rules,
    }
}

const fn scope(routing: Routing) -> Scope {
    match routing {
        Routing::Local => Scope::Local,
        Routing::Routed => Scope::Routed,
        Routing::Either => Scope::Either,
    }
}

const fn qualifier(connect: Connect) -> TcpQualifier {
    match connect {
        Connect::Either => TcpQualifier::None,
        Connect::Inbound => TcpQualifier::InboundConnect,
        Connect::Outbound => TcpQualifier::OutboundConnect,
    }
}

fn rule(policy: &Policy, filter: &Filter<'_>) -> FilterRule {
    let rule = filter.rule;
    let (action, log_permit, log_deny, discard) = match &rule.action {
        Action::Permit { log } => (FilterAction::Permit, *log, false, Discard::Silent),
        Action::Deny { log, discard } => (FilterAction::Deny, false, *log, *discard),
        Action::Ipsec { log_permit, log_deny, discard, .. } => {
            let on_demand = select::on_demand(policy, rule);
            (FilterAction::Ipsec { on_demand }, *log_permit, *log_deny, *discard)
        }
        Action::Manual { log_permit, log_deny, discard, .. } => {
            (FilterAction::Manual, *log_permit, *log_deny, *discard)
        }
    };
    FilterRule {
        name: rule.name.to_string(),
        extension: filter.extension,
        group: rule.group.as_ref().map(ToString::to_string),
        local_start: rule.local_start.as_ref().map(|start| start.name.to_string()),
        vpn_action: rule
            .dyn_vpn()
            .map(|vpn| &vpn.name)
            .or(rule.man_vpn().map(|vpn| &vpn.name))
            .map(ToString::to_string),
        direction: if filter.inbound { Direction::Inbound } else { Direction::Outbound },
        scope: scope(filter.service.routing),
        security_class: filter.service.security_class,
        source: addresses(filter.source),
        destination: addresses(filter.destination),
        protocol: filter.protocol,
        source_ports: ports(filter.source_ports),
        destination_ports: ports(filter.destination_ports),
        icmp_type: filter.kind.map(bytes),
        icmp_code: filter.code.map(bytes),
        tcp_qualifier: qualifier(filter.connect),
        fragments_only: filter.service.fragments_only,
        opaque: filter.opaque,
        by_identity: rule.remote_identity.is_some() && filters_by_identity(policy),
        granularity: granularity(filter),
        action,
        log_permit,
        log_deny,
        discard_icmp: discard == Discard::Icmp,
    }
}

fn granularity(filter: &Filter<'_>) -> Granularity {
    if filter.rule.dyn_vpn().is_none() {
        return Granularity::default();
    }
    let of_packet = OfPacket::of(filter.rule, &filter.service.protocol);
    let outbound = Granularity {
        source_address: of_packet.local_ip,
        destination_address: of_packet.remote_ip,
        protocol: of_packet.protocol,
        source_port: of_packet.local_port,
        destination_port: of_packet.remote_port,
        icmp_type: of_packet.icmp_type,
        icmp_code: of_packet.icmp_code,
        mh_type: of_packet.mh_type,
    };
    if !filter.inbound {
        return outbound;
    }
    Granularity {
        source_address: outbound.destination_address,
        destination_address: outbound.source_address,
        source_port: outbound.destination_port,
        destination_port: outbound.source_port,
        ..outbound
    }
}

/// Whether any negotiation asks whose tunnels a rule is for.
fn filters_by_identity(policy: &Policy) -> bool {
    policy.key_exchange.as_ref().is_some_and(|k| k.rules.iter().any(|rule| rule.filter_by_identity))
}

fn addresses(range: model::AddressRange) -> AddressRange {
    AddressRange { low: range.low(), high: range.high() }
}

const fn ports(range: PortRange) -> control::PortRange {
    control::PortRange { low: range.low(), high: range.high() }
}

const fn bytes(range: ByteRange) -> (u8, u8) {
    (range.low(), range.high())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOON, SAMPLE, policy};
    use super::*;

    #[test]
    fn each_rule_becomes_filters_of_both_directions_in_place() {
        let set = filter_set(&policy(SAMPLE), NOON, 7);
        assert!(set.policy && set.logging && set.log_implicit && !set.implicit_icmp);
        assert_eq!(set.epoch, 7);
        let names: Vec<_> = set.rules.iter().map(|r| format!("{}.{}", r.name, r.extension)).collect();
        assert_eq!(
            names,
            [
                "ping.1",
                "ping.2",
                "web.1",
                "web.2",
                "web.3",
                "web.4",
                "branch.1",
                "branch.2",
                "blocked.1",
                "blocked.2"
            ]
        );
    }

    #[test]
    fn the_inbound_filter_is_the_mirror_image() {
        let set = filter_set(&policy(SAMPLE), NOON, 1);
        let (out, into) = (&set.rules[2], &set.rules[3]);
        assert_eq!((out.direction, into.direction), (Direction::Outbound, Direction::Inbound));
        assert_eq!((out.source, out.destination), (into.destination, into.source));
        assert_eq!((out.source_ports, out.destination_ports), (into.destination_ports, into.source_ports));
        assert_eq!(out.source_ports, control::PortRange { low: 443, high: 443 });
        assert_eq!(out.tcp_qualifier, TcpQualifier::InboundConnect);
        assert_eq!(out.vpn_action.as_deref(), Some("strong"));
        assert!(out.log_deny && !out.log_permit);
    }

    #[test]
    fn on_demand_is_the_policys_unless_the_rule_says_otherwise() {
        let set = filter_set(&policy(SAMPLE), NOON, 1);
        assert_eq!(set.rules[2].action, FilterAction::Ipsec { on_demand: true });
        assert_eq!(set.rules[6].action, FilterAction::Ipsec { on_demand: false });
        assert_eq!(set.rules[6].local_start.as_deref(), Some("gates"));
        assert_eq!(set.rules[6].scope, Scope::Routed);
    }

    #[test]
    fn granularity_is_what_a_negotiation_on_demand_takes() {
        let set = filter_set(&policy(SAMPLE), NOON, 1);
        let addresses =
            Granularity { source_address: true, destination_address: true, ..Granularity::default() };
        assert_eq!(set.rules[2].granularity, addresses, "not coded: addresses of the packet");
        assert_eq!(set.rules[6].granularity, Granularity::default(), "both from the rule");
        assert_eq!(set.rules[0].granularity, Granularity::default(), "no anchor");
        let ports = SAMPLE.replace(
            "LocalIpGranularity   Rule",
            "RemotePortGranularity Packet\n    LocalIpGranularity   Packet",
        );
        let set = filter_set(&policy(&ports), NOON, 1);
        let out = Granularity { source_address: true, destination_port: true, ..Granularity::default() };
        let into = Granularity { destination_address: true, source_port: true, ..Granularity::default() };
        assert_eq!((set.rules[6].granularity, set.rules[7].granularity), (out, into), "mirrored");
        let types = SAMPLE.replace(
            "LocalIpGranularity   Rule",
            "LocalIpGranularity Rule\n IcmpTypeGranularity Packet\n MIPv6TypeGranularity Packet",
        );
        let both = Granularity { icmp_type: true, mh_type: true, ..Granularity::default() };
        assert_eq!(filter_set(&policy(&types), NOON, 1).rules[6].granularity, both);
    }

    #[test]
    fn types_logging_and_discard_action_arrive() {
        let set = filter_set(&policy(SAMPLE), NOON, 1);
        let (ping, blocked) = (&set.rules[0], &set.rules[8]);
        assert_eq!((ping.protocol, ping.icmp_type, ping.icmp_code), (Some(1), Some((8, 8)), Some((0, 0))));
        assert!(ping.log_permit && ping.source.low.is_ipv4());
        assert!(blocked.discard_icmp && !blocked.log_deny && blocked.source.low.is_ipv6());
        assert_eq!(blocked.action, FilterAction::Deny);
    }

    #[test]
    fn a_profile_makes_permits_both_ways_in_its_order() {
        let text = "IPCONFIG IPSECURITY IPSEC LOGENABLE LOGIMPLICIT
            IPSECRULE * 10.0.0.0/8 LOG PROTOCOL UDP SRCPORT 500 DESTPORT 500
            IPSECRULE * * PROTOCOL TCP DESTPORT 22 ROUTING EITHER DIRECTION BIDIRECTIONAL INBCONNECT ENDIPSEC";
        let (profile, _) = policy::profile::load(&policy::Source::stack("p", text.into())).unwrap();
        let set = profile_filter_set(&profile.ipsec.unwrap(), 4);
        assert!(!set.policy && set.logging && set.log_implicit && set.epoch == 4);
        let names: Vec<_> = set.rules.iter().map(|r| format!("{}.{}", r.name, r.extension)).collect();
        assert_eq!(
            names,
            ["SYSDEFAULTRULE.1.1", "SYSDEFAULTRULE.1.2", "SYSDEFAULTRULE.2.1", "SYSDEFAULTRULE.2.2"]
        );
        let [ike_out, ike_in, ssh_out, ssh_in] = &set.rules[..] else { panic!() };
        assert_eq!((ike_out.source, ike_out.destination), (ike_in.destination, ike_in.source));
        assert!(ike_out.log_permit && !ssh_out.log_permit);
        assert_eq!((ssh_in.source_ports.low, ssh_in.scope), (22, Scope::Either));
        assert_eq!(ssh_out.tcp_qualifier, TcpQualifier::InboundConnect);
    }

    #[test]
    fn without_a_policy_only_ike_passes() {
        let set = default_filter_set(3);
        assert!(!set.policy);
        assert_eq!(set.rules.len(), 8);
        assert!(set.rules.iter().all(|r| r.protocol == Some(UDP) && r.action == FilterAction::Permit));
        let own = |r: &FilterRule| match r.direction {
            Direction::Outbound => r.source_ports,
            Direction::Inbound => r.destination_ports,
        };
        assert!(set.rules.iter().all(|r| own(r).low == own(r).high && IKE_PORTS.contains(&own(r).low)));
    }
}
