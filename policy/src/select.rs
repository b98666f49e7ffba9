//! Which rule stands for a tunnel that shall be started here, and between which selectors.
//!
//! A filter rule is not linked to a key exchange rule: the two security endpoints, known only when a tunnel is
//! started, make the link.

use crate::compile;
use crate::explain::Upper;
use crate::model::local_dyn_vpn::LocalTraffic;
use crate::model::{
    Action, AddressRange, ByteRange, ExchangeRule, FilterRule, Granularity, Initiation, LocalDynVpnRule,
    Policy, PortRange, Protocol,
};
use std::net::IpAddr;

/// A tunnel to negotiate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start<'p> {
    /// The dynamic anchor.
    pub rule: &'p FilterRule,
    /// The key exchange rule, as far as the endpoints decide it.
    pub exchange: &'p ExchangeRule,
    /// Own security endpoint.
    pub local_endpoint: IpAddr,
    /// The peer's security endpoint.
    pub remote_endpoint: IpAddr,
    /// What is to be protected.
    pub traffic: Traffic,
}

/// Selectors of a tunnel, seen from an outbound packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Own addresses.
    pub local: AddressRange,
    /// The peer's addresses.
    pub remote: AddressRange,
    /// Protocol and what is selected of it.
    pub protocol: Protocol,
}

/// An outbound packet without an SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// What it carries.
    pub upper: Upper,
}

/// Why no tunnel can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoStart {
    /// No rule of that name, or none whose anchor covers the selectors.
    #[error("no IpFilterRule with a dynamic VPN action covers the selectors")]
    NoFilterRule,
    /// The rule does not say between which addresses to negotiate.
    #[error("the security endpoints are not known: IpLocalStartAction has to name them")]
    NoEndpoints,
    /// No KeyExchangeRule for the two endpoints.
    #[error("no KeyExchangeRule for {local} and {remote}")]
    NoExchangeRule {
        /// Own security endpoint.
        local: IpAddr,
        /// The peer's.
        remote: IpAddr,
    },
    /// Initiation RemoteOnly or None, or HowToInitiate DoNot.
    #[error("policy does not allow this side to initiate")]
    NotInitiator,
    /// The rule does not allow to negotiate on demand.
    #[error("policy does not allow to negotiate on demand")]
    NotOnDemand,
}

/// Whether packets of `rule` may start a negotiation.
#[must_use]
pub fn on_demand(policy: &Policy, rule: &FilterRule) -> bool {
    let allowed = rule.local_start.as_ref().and_then(|s| s.allow_on_demand);
    rule.dyn_vpn().is_some_and(|vpn| may_initiate(vpn.initiation))
        && allowed.unwrap_or(policy.filter.allow_on_demand)
}

/// The first dynamic anchor that covers the selectors of `start`.
pub fn anchor<'p>(policy: &'p Policy, start: &LocalDynVpnRule) -> Option<&'p FilterRule> {
    policy.filter.rules.iter().filter(|rule| rule.dyn_vpn().is_some()).find(|rule| {
        compile::pairs(rule).any(|(service, local, remote)| {
            local.covers(&start.local)
                && remote.covers(&start.remote)
                && covers_traffic(&service.protocol, &start.traffic)
        })
    })
}

/// A tunnel that a LocalDynVpnRule asks for (command, AutoActivate).
pub fn by_rule<'p>(policy: &'p Policy, start: &LocalDynVpnRule) -> Result<Start<'p>, NoStart> {
    let rule = anchor(policy, start).ok_or(NoStart::NoFilterRule)?;
    let coded = rule.local_start.as_deref();
    let local_endpoint = coded.and_then(|s| s.local_endpoint).or_else(|| start.local.as_single());
    let remote_endpoint = coded.and_then(|s| s.remote_endpoint).or_else(|| start.remote.as_single());
    let (local_endpoint, remote_endpoint) =
        local_endpoint.zip(remote_endpoint).ok_or(NoStart::NoEndpoints)?;
    let protocol = match start.traffic {
        LocalTraffic::Any => Protocol::Any,
        LocalTraffic::Ports { number, local, remote } => {
            Protocol::Ports { number, source: local, destination: remote }
        }
        LocalTraffic::Typed { number, kind, code } => Protocol::Typed { number, kind, code },
        LocalTraffic::Other(number) => Protocol::Other(number),
    };
    let traffic = Traffic { local: start.local, remote: start.remote, protocol };
    finish(policy, rule, local_endpoint, remote_endpoint, traffic)
}

/// What the selectors of an SA that is negotiated for a packet take from the packet; the rest is the rule's (granularity of
/// IpLocalStartAction).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OfPacket {
    /// The address of this side.
    pub local_ip: bool,
    /// The address of the other side.
    pub remote_ip: bool,
    /// The protocol, where the rule has any.
    pub protocol: bool,
    /// The port of this side.
    pub local_port: bool,
    /// The port of the other side.
    pub remote_port: bool,
    /// The ICMP type.
    pub icmp_type: bool,
    /// The ICMP code.
    pub icmp_code: bool,
    /// The type of a mobility header.
    pub mh_type: bool,
}

impl OfPacket {
    /// For one service of a rule with IpDynVpnAction.
    #[must_use]
    pub fn of(rule: &FilterRule, service: &Protocol) -> Self {
        let coded = rule.local_start.as_deref();
        let or = |coded: Option<Granularity>, default| coded.map_or(default, |g| g == Granularity::Packet);
        // Ports not coded: from the rule where it has one port or all, from the packet where it has several.
        let several = |range: PortRange| !range.is_any() && !range.is_single();
        let (local, remote) = match *service {
            Protocol::Ports { source, destination, .. } => (several(source), several(destination)),
            Protocol::Any | Protocol::Typed { .. } | Protocol::Other(_) | Protocol::Opaque => (false, false),
        };
        let typed = |numbers: &[u8], coded: Option<Granularity>| {
            let of_these = match service {
                Protocol::Any => true,
                Protocol::Typed { number, .. } => numbers.contains(number),
                Protocol::Ports { .. } | Protocol::Other(_) | Protocol::Opaque => false,
            };
            of_these && or(coded, false)
        };
        Self {
            local_ip: or(coded.and_then(|s| s.local_ip), true),
            remote_ip: or(coded.and_then(|s| s.remote_ip), true),
            protocol: *service == Protocol::Any && or(coded.map(|s| s.protocol), false),
            local_port: or(coded.and_then(|s| s.local_port), local),
            remote_port: or(coded.and_then(|s| s.remote_port), remote),
            icmp_type: typed(&ICMP, coded.map(|s| s.icmp_type)),
            icmp_code: typed(&ICMP, coded.map(|s| s.icmp_code)),
            mh_type: typed(&[MH], coded.map(|s| s.mh_type)),
        }
    }
}

/// ICMP and ICMPv6.
const ICMP: [u8; 2] = [1, 58];
/// Mobility header.
const MH: u8 = 135;

/// A tunnel that an outbound packet asks for which met the anchor of the rule called `rule`.
pub fn by_packet<'p>(policy: &'p Policy, rule: &str, packet: &Packet) -> Result<Start<'p>, NoStart> {
    let rule = policy.filter_rule(rule).filter(|r| r.dyn_vpn().is_some()).ok_or(NoStart::NoFilterRule)?;
    if !on_demand(policy, rule) {
        let initiation = rule.dyn_vpn().map(|vpn| vpn.initiation);
        return Err(if initiation.is_some_and(may_initiate) {
            NoStart::NotOnDemand
        } else {
            NoStart::NotInitiator
        });
    }
    let (service, local, remote) = compile::pairs(rule)
        .find(|(service, local, remote)| {
            local.contains(packet.source)
                && remote.contains(packet.destination)
                && matches_packet(&service.protocol, packet.upper)
        })
        .ok_or(NoStart::NoFilterRule)?;
    let of_packet = OfPacket::of(rule, &service.protocol);
    let protocol = protocol_of(service.protocol, of_packet, packet.upper);
    let address = |of_packet, of_rule, own| if of_packet { AddressRange::single(own) } else { of_rule };
    let traffic = Traffic {
        local: address(of_packet.local_ip, local, packet.source),
        remote: address(of_packet.remote_ip, remote, packet.destination),
        protocol,
    };
    let coded = rule.local_start.as_deref();
    let local_endpoint = coded.and_then(|s| s.local_endpoint).unwrap_or(packet.source);
    let remote_endpoint = coded.and_then(|s| s.remote_endpoint).unwrap_or(packet.destination);
    finish(policy, rule, local_endpoint, remote_endpoint, traffic)
}

/// What an SA takes of the service and of the packet.
fn protocol_of(service: Protocol, of_packet: OfPacket, upper: Upper) -> Protocol {
    let port = |of_packet, of_rule: PortRange, own| {
        PortRange::new(own, own).filter(|_| of_packet).unwrap_or(of_rule)
    };
    let ports = |number, (local, remote), (source, destination)| Protocol::Ports {
        number,
        source: port(of_packet.local_port, local, source),
        destination: port(of_packet.remote_port, remote, destination),
    };
    let typed = |number, (kind, code): (Option<ByteRange>, Option<ByteRange>), (own_kind, own_code)| {
        let icmp = ICMP.contains(&number);
        let single = |own| ByteRange::new(own, own);
        let of_own = (icmp && of_packet.icmp_type) || (number == MH && of_packet.mh_type);
        let kind = if of_own { single(own_kind) } else { kind };
        // Codes are selected within one type (RFC 4301 section 4.4.1.1).
        let of_one = kind.is_some_and(|k| k.low() == k.high());
        let code = if icmp && of_packet.icmp_code && of_one { single(own_code) } else { code };
        Protocol::Typed { number, kind, code }
    };
    let any = (PortRange::ANY, PortRange::ANY);
    match (service, upper) {
        (Protocol::Any, _) if !of_packet.protocol => service,
        (Protocol::Any, Upper::Ports { protocol, source, destination, .. }) => {
            ports(protocol, any, (source, destination))
        }
        (Protocol::Any, Upper::Typed { protocol, kind, code }) => typed(protocol, (None, None), (kind, code)),
        (Protocol::Any, Upper::Other(number)) => Protocol::Other(number),
        (
            Protocol::Ports { number, source: local, destination: remote },
            Upper::Ports { source, destination, .. },
        ) => ports(number, (local, remote), (source, destination)),
        (Protocol::Typed { number, kind, code }, Upper::Typed { kind: own_kind, code: own_code, .. }) => {
            typed(number, (kind, code), (own_kind, own_code))
        }
        (other, _) => other,
    }
}

fn finish<'p>(
    policy: &'p Policy,
    rule: &'p FilterRule,
    local_endpoint: IpAddr,
    remote_endpoint: IpAddr,
    traffic: Traffic,
) -> Result<Start<'p>, NoStart> {
    if local_endpoint.is_ipv4() != remote_endpoint.is_ipv4() {
        return Err(NoStart::NoEndpoints);
    }
    let exchange = exchange_rule(policy, local_endpoint, remote_endpoint)
        .ok_or(NoStart::NoExchangeRule { local: local_endpoint, remote: remote_endpoint })?;
    match &rule.action {
        Action::Ipsec { vpn, .. } if may_initiate(vpn.initiation) && exchange.initiate => {
            Ok(Start { rule, exchange, local_endpoint, remote_endpoint, traffic })
        }
        Action::Ipsec { .. } => Err(NoStart::NotInitiator),
        Action::Permit { .. } | Action::Deny { .. } | Action::Manual { .. } => Err(NoStart::NoFilterRule),
    }
}

/// The first KeyExchangeRule for two security endpoints whose identities are not known yet.
#[must_use]
pub fn exchange_rule(policy: &Policy, local: IpAddr, remote: IpAddr) -> Option<&ExchangeRule> {
    let rules = policy.key_exchange.as_ref().map_or(&[][..], |k| &k.rules);
    rules.iter().find(|r| r.local.location.contains(local) && r.remote.location.contains(remote))
}

const fn may_initiate(initiation: Initiation) -> bool {
    matches!(initiation, Initiation::Either | Initiation::LocalOnly)
}

fn covers_traffic(rule: &Protocol, wanted: &LocalTraffic) -> bool {
    match (*rule, *wanted) {
        (Protocol::Any, _) => true,
        (
            Protocol::Ports { number, source, destination },
            LocalTraffic::Ports { number: n, local, remote },
        ) => number == n && source.covers(local) && destination.covers(remote),
        (Protocol::Typed { number, kind, code }, LocalTraffic::Typed { number: n, kind: k, code: c }) => {
            number == n && covers_bytes(kind, k) && covers_bytes(code, c)
        }
        (Protocol::Other(number), LocalTraffic::Other(n)) => number == n,
        (Protocol::Ports { .. } | Protocol::Typed { .. } | Protocol::Other(_) | Protocol::Opaque, _) => false,
    }
}

/// Whether a type or code selection holds all of another one; `None` is any.
pub(crate) const fn covers_bytes(outer: Option<ByteRange>, inner: Option<ByteRange>) -> bool {
    match (outer, inner) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(o), Some(i)) => o.low() <= i.low() && i.high() <= o.high(),
    }
}

/// Whether a packet is one of the service's.
fn matches_packet(service: &Protocol, upper: Upper) -> bool {
    match (*service, upper) {
        (Protocol::Any, _) => true,
        (
            Protocol::Ports { number, source: of, destination: to },
            Upper::Ports { protocol, source, destination, .. },
        ) => number == protocol && of.contains(source) && to.contains(destination),
        (
            Protocol::Typed { number, kind, code },
            Upper::Typed { protocol, kind: own_kind, code: own_code },
        ) => {
            number == protocol
                && kind.is_none_or(|r| r.contains(own_kind))
                && code.is_none_or(|r| r.contains(own_code))
        }
        (Protocol::Other(number), _) => upper.protocol() == Some(number),
        (Protocol::Opaque, _) => false,
        // A fragment that does not show them is of whoever does not ask.
        (Protocol::Ports { number, source, destination }, _) => {
            upper.protocol() == Some(number) && source.is_any() && destination.is_any()
        }
        (Protocol::Typed { number, kind, code }, _) => {
            upper.protocol() == Some(number) && kind.is_none() && code.is_none()
        }
    }
}
