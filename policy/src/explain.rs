//! Which rule decides about a packet, and why the ones before it do not: the question of `ipsec -t` and
//! `ipsec explain`, asked of a policy that need not be in force.
//!
//! [`trace`] goes through the filters as a stack would; [`answer`] sums it up. What a filter means is told here
//! apart from the stack's compiled table, from the text of the policy, and tests hold the two together.

use crate::compile::{self, Filter};
use crate::model::{Action, Connect, Moment, Policy, Routing};
use crate::select::{self, NoStart, Start};
use std::fmt;
use std::net::IpAddr;

/// A packet to ask about, as it appears at this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Into this host.
    pub inbound: bool,
    /// Forwarded: neither from nor to this host.
    pub routed: bool,
    /// Security class of its interface.
    pub security_class: u8,
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// What it carries.
    pub upper: Upper,
    /// It is a fragment; with ports or a type it is the first one.
    pub fragment: bool,
}

/// The upper layer of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upper {
    /// A protocol with ports.
    Ports {
        /// IP protocol number.
        protocol: u8,
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// TCP: SYN without ACK.
        opens: bool,
    },
    /// A protocol with type and code.
    Typed {
        /// IP protocol number.
        protocol: u8,
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// Another protocol, or one whose ports are not in this packet.
    Other(u8),
    /// Not shown: an IPv6 fragment other than the first whose protocol stands in an extension header.
    Hidden,
}

impl Upper {
    pub(crate) const fn protocol(self) -> Option<u8> {
        match self {
            Self::Ports { protocol, .. } | Self::Typed { protocol, .. } | Self::Other(protocol) => {
                Some(protocol)
            }
            Self::Hidden => None,
        }
    }
}

/// Why a filter does not match: the first thing that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// The rule is out of its time.
    Time,
    /// It is for the other direction.
    Direction,
    /// Addresses of the other family.
    Family,
    /// It is for local traffic, or for routed.
    Routing,
    /// Another security class.
    SecurityClass,
    /// The source is none of its.
    Source,
    /// The destination is none of its.
    Destination,
    /// Another protocol.
    Protocol,
    /// The source port is none of its.
    SourcePort,
    /// The destination port is none of its.
    DestinationPort,
    /// Another type or code.
    Type,
    /// The connection is opened by the wrong side.
    Connect,
    /// It is for fragments only.
    Fragment,
    /// A fragment without ports, and it asks for ports.
    PortsNotShown,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Time => "the rule is out of its time",
            Self::Direction => "it is for the other direction",
            Self::Family => "its addresses are of the other family",
            Self::Routing => "local traffic is not routed traffic",
            Self::SecurityClass => "the interface has another security class",
            Self::Source => "the source address is not in it",
            Self::Destination => "the destination address is not in it",
            Self::Protocol => "it is for another protocol",
            Self::SourcePort => "the source port is not in it",
            Self::DestinationPort => "the destination port is not in it",
            Self::Type => "type or code is not in it",
            Self::Connect => "the connection is opened by the other side",
            Self::Fragment => "it is for fragments only",
            Self::PortsNotShown => "it asks for ports, types or codes, which this fragment does not show",
        })
    }
}

/// What became of one filter of the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It matches and decides.
    Match,
    /// The search goes on.
    Miss(Miss),
    /// It would keep the packet back if it showed its ports: the search ends, and the packet is denied.
    Stop,
}

/// One filter of the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'p> {
    /// The filter.
    pub filter: Filter<'p>,
    /// What became of it.
    pub verdict: Verdict,
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<'p> {
    /// In clear.
    Permit(Filter<'p>),
    /// Dropped by a rule.
    Deny(Filter<'p>),
    /// By the dynamic tunnel of the rule. Of an outbound packet without a tunnel: the negotiation that it would start.
    Dynamic(Filter<'p>, Option<Result<Start<'p>, NoStart>>),
    /// By the manual tunnel of the rule, if it is active.
    Manual(Filter<'p>),
    /// Dropped: no rule matches.
    ImplicitDeny,
    /// Dropped: see [`Verdict::Stop`].
    FragmentDeny(Filter<'p>),
}

/// The search, filter after filter; it ends behind the one that decides.
pub fn trace<'p>(policy: &'p Policy, at: Moment, packet: Packet) -> impl Iterator<Item = Step<'p>> {
    let mut over = false;
    compile::filters(policy).map_while(move |filter| {
        if over {
            return None;
        }
        let verdict = verdict(&filter, at, &packet);
        over = !matches!(verdict, Verdict::Miss(_));
        Some(Step { filter, verdict })
    })
}

/// Every filter that could decide about the packet, in search order: the first one does.
pub fn matching<'p>(policy: &'p Policy, at: Moment, packet: Packet) -> impl Iterator<Item = Filter<'p>> {
    compile::filters(policy).filter(move |filter| verdict(filter, at, &packet) == Verdict::Match)
}

/// What happens to a packet under a policy.
#[must_use]
pub fn answer<'p>(policy: &'p Policy, at: Moment, packet: Packet) -> Outcome<'p> {
    let Some(Step { filter, verdict }) =
        trace(policy, at, packet).find(|s| !matches!(s.verdict, Verdict::Miss(_)))
    else {
        return Outcome::ImplicitDeny;
    };
    match (&filter.rule.action, verdict) {
        (_, Verdict::Stop) => Outcome::FragmentDeny(filter),
        (_, Verdict::Miss(_)) => Outcome::ImplicitDeny,
        (Action::Permit { .. }, Verdict::Match) => Outcome::Permit(filter),
        (Action::Deny { .. }, Verdict::Match) => Outcome::Deny(filter),
        (Action::Manual { .. }, Verdict::Match) => Outcome::Manual(filter),
        (Action::Ipsec { .. }, Verdict::Match) => {
            let start = (!packet.inbound).then(|| {
                let (source, destination) = (packet.source, packet.destination);
                let asked = select::Packet { source, destination, upper: packet.upper };
                select::by_packet(policy, filter.rule.name.as_str(), &asked)
            });
            Outcome::Dynamic(filter, start)
        }
    }
}

fn verdict(filter: &Filter<'_>, at: Moment, packet: &Packet) -> Verdict {
    let Some(miss) = first_difference(filter, at, packet) else { return Verdict::Match };
    let permits = matches!(filter.rule.action, Action::Permit { .. });
    if miss == Miss::PortsNotShown && !permits { Verdict::Stop } else { Verdict::Miss(miss) }
}

fn first_difference(filter: &Filter<'_>, at: Moment, packet: &Packet) -> Option<Miss> {
    let service = filter.service;
    let routing = match service.routing {
        Routing::Either => true,
        Routing::Local => !packet.routed,
        Routing::Routed => packet.routed,
    };
    let protocol = match (filter.opaque, packet.upper.protocol()) {
        (true, seen) => seen.is_none(),
        (false, seen) => filter.protocol.is_none() || filter.protocol == seen,
    };
    let tests = [
        (filter.inbound == packet.inbound, Miss::Direction),
        (filter.source.is_ipv4() == packet.source.is_ipv4(), Miss::Family),
        (filter.rule.in_force(at), Miss::Time),
        (routing, Miss::Routing),
        (service.security_class == 0 || service.security_class == packet.security_class, Miss::SecurityClass),
        (filter.source.contains(packet.source), Miss::Source),
        (filter.destination.contains(packet.destination), Miss::Destination),
        (protocol, Miss::Protocol),
        (!service.fragments_only || packet.fragment, Miss::Fragment),
    ];
    tests
        .into_iter()
        .find(|(holds, _)| !holds)
        .map(|(_, miss)| miss)
        .or_else(|| upper_difference(filter, packet))
}

/// Ports, types and who opens the connection, where all the rest fits.
fn upper_difference(filter: &Filter<'_>, packet: &Packet) -> Option<Miss> {
    let asks_ports = !filter.source_ports.is_any() || !filter.destination_ports.is_any();
    let asks_type = filter.kind.is_some() || filter.code.is_some();
    match packet.upper {
        Upper::Ports { source, destination, opens, .. } => {
            let closed = match filter.connect {
                Connect::Either => false,
                Connect::Inbound => !filter.inbound,
                Connect::Outbound => filter.inbound,
            };
            if !filter.source_ports.contains(source) {
                Some(Miss::SourcePort)
            } else if !filter.destination_ports.contains(destination) {
                Some(Miss::DestinationPort)
            } else if asks_type {
                Some(Miss::Type)
            } else {
                (opens && closed).then_some(Miss::Connect)
            }
        }
        Upper::Typed { kind, code, .. } => {
            let fits = !asks_ports
                && filter.kind.is_none_or(|r| r.contains(kind))
                && filter.code.is_none_or(|r| r.contains(code));
            (!fits).then_some(Miss::Type)
        }
        Upper::Other(_) | Upper::Hidden => (asks_ports || asks_type).then_some(if packet.fragment {
            Miss::PortsNotShown
        } else {
            Miss::Type
        }),
    }
}
