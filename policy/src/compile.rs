//! From policy to the ordered table that a stack matches packets against.
//!
//! A rule becomes one filter for each pair of its source and destination ranges of one family, each service and
//! each direction; they stand where the rule stands and are numbered from 1 (FilterNameExtension).

use crate::model::{
    AddressRange, ByteRange, Connect, Direction, FilterRule, Moment, Policy, PortRange, Protocol, Service,
};

/// Filters that one rule may become.
pub const MAX_FILTERS_PER_RULE: usize = 16_384;
/// Filters that a policy may become.
pub const MAX_FILTERS: usize = 131_072;

/// One filter: one direction of one expansion of a rule, seen from the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter<'p> {
    /// The rule that it comes from.
    pub rule: &'p FilterRule,
    /// The service that it comes from.
    pub service: &'p Service,
    /// FilterNameExtension, from 1.
    pub extension: u32,
    /// True: packets into this host.
    pub inbound: bool,
    /// Source addresses of the packet.
    pub source: AddressRange,
    /// Destination addresses of the packet.
    pub destination: AddressRange,
    /// IP protocol, `None` = any, or one that cannot be seen if [`Filter::opaque`].
    pub protocol: Option<u8>,
    /// Matches nothing but fragments that do not show their protocol.
    pub opaque: bool,
    /// Source ports of the packet.
    pub source_ports: PortRange,
    /// Destination ports of the packet.
    pub destination_ports: PortRange,
    /// ICMP, ICMPv6, OSPF or MIPv6 type.
    pub kind: Option<ByteRange>,
    /// ICMP or ICMPv6 code.
    pub code: Option<ByteRange>,
    /// Which side may open a TCP connection.
    pub connect: Connect,
}

/// Every filter of the policy in search order.
pub fn filters(policy: &Policy) -> impl Iterator<Item = Filter<'_>> {
    policy.filter.rules.iter().flat_map(rule_filters)
}

/// Every filter that is in force at an instant, in search order.
pub fn filters_at(policy: &Policy, at: Moment) -> impl Iterator<Item = Filter<'_>> {
    policy.filter.rules.iter().filter(move |rule| rule.in_force(at)).flat_map(rule_filters)
}

/// When the filters in force may be others, or a manual tunnel is installed or taken away: seconds since 1970 UTC.
/// `None`: never, nothing is bound to a time any more.
#[must_use]
pub fn next_change(policy: &Policy, after: Moment) -> Option<i64> {
    let rules = policy.filter.rules.iter();
    let times = rules.flat_map(|r| r.times.iter().chain(r.man_vpn().into_iter().flat_map(|m| &m.times)));
    times.filter_map(|t| t.next_change(after)).min()
}

/// The filters of one rule.
pub fn rule_filters(rule: &FilterRule) -> impl Iterator<Item = Filter<'_>> {
    pairs(rule)
        .flat_map(|(service, local, remote)| sides(rule, service, local, remote))
        .zip(1..)
        .map(|(filter, extension)| Filter { extension, ..filter })
}

/// Number of filters that a rule becomes, without making them.
#[must_use]
pub fn count(rule: &FilterRule) -> usize {
    let pairs_of = |v4: bool| {
        let of = |set: &[AddressRange]| set.iter().filter(|r| r.is_ipv4() == v4).count();
        of(rule.source.ranges()).saturating_mul(of(rule.destination.ranges()))
    };
    let (v4, v6) = (pairs_of(true), pairs_of(false));
    rule.services.iter().fold(0_usize, |sum, service| {
        let fits = |v4| family_fits(&service.protocol, v4);
        let pairs = (if fits(true) { v4 } else { 0 }).saturating_add(if fits(false) { v6 } else { 0 });
        let sides = if matches!(service.direction, Direction::Bidirectional(_)) { 2 } else { 1 };
        sum.saturating_add(pairs.saturating_mul(sides))
    })
}

/// The triples (service, local, remote) of a rule that can match a packet.
pub fn pairs(rule: &FilterRule) -> impl Iterator<Item = (&Service, AddressRange, AddressRange)> {
    rule.source.ranges().iter().flat_map(move |&local| {
        let remotes = rule.destination.ranges().iter().filter(move |r| r.is_ipv4() == local.is_ipv4());
        remotes.flat_map(move |&remote| {
            rule.services
                .iter()
                .filter(move |s| family_fits(&s.protocol, local.is_ipv4()))
                .map(move |s| (&**s, local, remote))
        })
    })
}

/// ICMP is IPv4's, ICMPv6 and the mobility header are IPv6's.
const fn family_fits(protocol: &Protocol, v4: bool) -> bool {
    match protocol {
        Protocol::Opaque => !v4,
        Protocol::Any | Protocol::Ports { .. } | Protocol::Typed { .. } | Protocol::Other(_) => {
            match protocol.number() {
                Some(1) => v4,
                Some(58 | 135) => !v4,
                _ => true,
            }
        }
    }
}

fn sides<'p>(
    rule: &'p FilterRule,
    service: &'p Service,
    local: AddressRange,
    remote: AddressRange,
) -> impl Iterator<Item = Filter<'p>> {
    let (local_ports, remote_ports) = match service.protocol {
        Protocol::Ports { source, destination, .. } => (source, destination),
        Protocol::Any | Protocol::Typed { .. } | Protocol::Other(_) | Protocol::Opaque => {
            (PortRange::ANY, PortRange::ANY)
        }
    };
    let (kind, code) = match service.protocol {
        Protocol::Typed { kind, code, .. } => (kind, code),
        Protocol::Any | Protocol::Ports { .. } | Protocol::Other(_) | Protocol::Opaque => (None, None),
    };
    let connect = match service.direction {
        Direction::Bidirectional(connect) => connect,
        Direction::Inbound | Direction::Outbound => Connect::Either,
    };
    let outbound = Filter {
        rule,
        service,
        extension: 0,
        inbound: false,
        source: local,
        destination: remote,
        protocol: service.protocol.number(),
        opaque: service.protocol == Protocol::Opaque,
        source_ports: local_ports,
        destination_ports: remote_ports,
        kind,
        code,
        connect,
    };
    let inbound = Filter {
        inbound: true,
        source: remote,
        destination: local,
        source_ports: remote_ports,
        destination_ports: local_ports,
        ..outbound
    };
    // Source and destination of a rule are those of an outbound packet, for a service of one direction too.
    let (out, into) = match service.direction {
        Direction::Bidirectional(_) => (true, true),
        Direction::Outbound => (true, false),
        Direction::Inbound => (false, true),
    };
    out.then_some(outbound).into_iter().chain(into.then_some(inbound))
}
