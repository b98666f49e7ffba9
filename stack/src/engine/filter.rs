//! The compiled filter table: which rule is the first to match a packet?
//!
//! The rules stay what they are (an ordered list, first match wins), and [`matches`] is what one of them means;
//! beside them stand decision trees ([`Classifier`]) that lead to the few rules that can match at all. Whatever the
//! trees say equals the plain search: a property test holds them to that.

mod classifier;
mod table;
#[cfg(test)]
mod tests;

pub use classifier::Classifier;
pub(crate) use table::NEW;
pub use table::Table;

use crate::control::{Direction, FilterAction, FilterRule, PortRange, Scope, TcpQualifier};
use std::net::IpAddr;

/// What the filters look at in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// Into this host or out of it.
    pub direction: Direction,
    /// Forwarded, neither from nor to this host.
    pub routed: bool,
    /// Security class of the interface.
    pub security_class: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Upper-layer protocol.
    pub protocol: u8,
    /// What is known of the upper layer.
    pub upper: Upper,
    /// A fragment (of traffic that this host only forwards; all else is reassembled first).
    pub fragment: bool,
}

/// What is known of the upper layer of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upper {
    /// TCP, UDP, SCTP: source and destination port.
    Ports {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// A TCP segment that opens a connection: SYN without ACK.
        opens: bool,
    },
    /// ICMP, ICMPv6, OSPF, MH: type and code.
    Type {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// A protocol without either.
    None,
    /// Not in this packet: a fragment other than the first.
    Opaque,
}

impl Subject {
    /// Same packet, other direction and addresses exchanged: how the flow of a quoted packet is looked up.
    #[must_use]
    pub fn reversed(self) -> Self {
        let direction = match self.direction {
            Direction::Inbound => Direction::Outbound,
            Direction::Outbound => Direction::Inbound,
        };
        let upper = match self.upper {
            Upper::Ports { source, destination, .. } => {
                Upper::Ports { source: destination, destination: source, opens: false }
            }
            other @ (Upper::Type { .. } | Upper::None | Upper::Opaque) => other,
        };
        Self { direction, source: self.destination, destination: self.source, upper, ..self }
    }

    /// An IPv6 fragment other than the first whose data begins with an extension header: what it carries is not said.
    #[must_use]
    pub fn hides_protocol(&self) -> bool {
        use crate::wire::protocol::{DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING};
        self.upper == Upper::Opaque
            && self.source.is_ipv6()
            && matches!(self.protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
    }

    /// The pair (own side, peer's side) of addresses.
    #[must_use]
    pub fn local_remote(&self) -> (IpAddr, IpAddr) {
        match self.direction {
            Direction::Inbound => (self.destination, self.source),
            Direction::Outbound => (self.source, self.destination),
        }
    }
}

/// Number of an address within its family, for comparisons of ranges.
pub(super) fn number(a: IpAddr) -> u128 {
    match a {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

/// Whether a rule matches a packet: the meaning of a filter, in one place.
#[must_use]
pub fn matches(r: &FilterRule, s: &Subject) -> bool {
    if r.direction != s.direction
        || !scope_allows(r.scope, s.routed)
        || !(r.security_class == 0 || r.security_class == s.security_class)
        || !r.source.contains(s.source)
        || !r.destination.contains(s.destination)
        || r.protocol.is_some_and(|p| p != s.protocol)
        || (r.fragments_only && !s.fragment)
        || (r.opaque && !s.hides_protocol())
    {
        return false;
    }
    match s.upper {
        Upper::Ports { source, destination, opens } => {
            r.source_ports.contains(source)
                && r.destination_ports.contains(destination)
                && r.icmp_type.is_none()
                && r.icmp_code.is_none()
                && !(opens && closed_to(r.tcp_qualifier, s.direction))
        }
        Upper::Type { kind, code } => {
            r.source_ports == PortRange::ANY
                && r.destination_ports == PortRange::ANY
                && within(r.icmp_type, kind)
                && within(r.icmp_code, code)
        }
        Upper::None | Upper::Opaque => !asks_upper(r),
    }
}

fn scope_allows(scope: Scope, routed: bool) -> bool {
    match scope {
        Scope::Either => true,
        Scope::Local => !routed,
        Scope::Routed => routed,
    }
}

fn within(range: Option<(u8, u8)>, value: u8) -> bool {
    range.is_none_or(|(low, high)| low <= value && value <= high)
}

/// Whether a rule with this qualifier does not match a SYN without ACK in this direction (policy.md 3.4).
fn closed_to(q: TcpQualifier, direction: Direction) -> bool {
    match q {
        TcpQualifier::None => false,
        TcpQualifier::InboundConnect => direction == Direction::Outbound,
        TcpQualifier::OutboundConnect => direction == Direction::Inbound,
    }
}

/// Whether a rule looks into the upper layer.
fn asks_upper(r: &FilterRule) -> bool {
    r.source_ports != PortRange::ANY
        || r.destination_ports != PortRange::ANY
        || r.icmp_type.is_some()
        || r.icmp_code.is_some()
}

/// What a rule means for the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It matches: the search ends.
    Match,
    /// The search ends without a match.
    Stop,
    /// On to the next rule.
    Next,
}

fn step(r: &FilterRule, s: &Subject) -> Step {
    if matches(r, s) {
        Step::Match
    } else if s.upper == Upper::Opaque
        && r.action != FilterAction::Permit
        && asks_upper(r)
        && matches(&without_upper(r), s)
    {
        Step::Stop
    } else {
        Step::Next
    }
}

/// The first rule that matches, as its position, by trying one after the other: what [`Classifier::classify`] must equal.
///
/// Of a fragment without ports, a permit that asks for ports is passed over, and a deny or ipsec rule that
/// asks for them ends the search without a match: what it would have kept back must not slip through further down (R7).
#[must_use]
pub fn plain_search(rules: &[FilterRule], s: &Subject) -> Option<usize> {
    let position = rules.iter().position(|r| step(r, s) != Step::Next)?;
    matches(&rules[position], s).then_some(position)
}

fn without_upper(r: &FilterRule) -> FilterRule {
    FilterRule {
        source_ports: PortRange::ANY,
        destination_ports: PortRange::ANY,
        icmp_type: None,
        icmp_code: None,
        name: String::new(),
        group: None,
        local_start: None,
        vpn_action: None,
        ..*r
    }
}
