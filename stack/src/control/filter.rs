//! The filter table of a stack, and the ranges that filters and selectors are made of.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Inclusive range of ports; `0..=65535` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// Low end.
    pub low: u16,
    /// High end, at least `low`.
    pub high: u16,
}

impl PortRange {
    /// Every port.
    pub const ANY: Self = Self { low: 0, high: u16::MAX };
    /// Whether `port` lies in it.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.low <= port && port <= self.high
    }
}

/// Inclusive range of addresses of one family; the whole family is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRange {
    /// Low end.
    pub low: IpAddr,
    /// High end: same family, at least `low`.
    pub high: IpAddr,
}

impl AddressRange {
    /// Every IPv4 address.
    pub const ANY_V4: Self =
        Self { low: IpAddr::V4(Ipv4Addr::UNSPECIFIED), high: IpAddr::V4(Ipv4Addr::BROADCAST) };
    /// Every IPv6 address.
    pub const ANY_V6: Self =
        Self { low: IpAddr::V6(Ipv6Addr::UNSPECIFIED), high: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)) };
    /// One address.
    #[must_use]
    pub const fn single(a: IpAddr) -> Self {
        Self { low: a, high: a }
    }
    /// Whether `a` lies in it. Never true across families.
    #[must_use]
    pub fn contains(&self, a: IpAddr) -> bool {
        a.is_ipv4() == self.low.is_ipv4() && self.low <= a && a <= self.high
    }
}

/// The filter table of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterSet {
    /// Grows with each table that `iked` sends.
    pub epoch: u64,
    /// True: from policy; false: the stack's defaults.
    pub policy: bool,
    /// Master switch of filter logging.
    pub logging: bool,
    /// Also filter ESP and AH before decapsulation.
    pub predecap: bool,
    /// Log packets that no rule matched.
    pub log_implicit: bool,
    /// Tell the sender of a packet that no rule matched (ICMP administratively prohibited).
    pub implicit_icmp: bool,
    /// In search order; the first match decides, no match is a deny.
    pub rules: Vec<FilterRule>,
}

/// One filter: one direction of one expansion of a policy rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterRule {
    /// Policy rule (IpFilterRule).
    pub name: String,
    /// Number of this filter within its rule, from 1.
    pub extension: u32,
    /// IpFilterGroup, if any.
    pub group: Option<String>,
    /// IpLocalStartAction, if any.
    pub local_start: Option<String>,
    /// IpDynVpnAction or IpManVpnAction, if any.
    pub vpn_action: Option<String>,
    /// Direction seen from this host.
    pub direction: Direction,
    /// Local or routed traffic.
    pub scope: Scope,
    /// Interface security class, 0 = any.
    pub security_class: u8,
    /// Source addresses of the packet.
    pub source: AddressRange,
    /// Destination addresses of the packet; same family as `source`.
    pub destination: AddressRange,
    /// IP protocol, `None` = any.
    pub protocol: Option<u8>,
    /// Source ports (TCP, UDP, SCTP).
    pub source_ports: PortRange,
    /// Destination ports.
    pub destination_ports: PortRange,
    /// ICMP, ICMPv6, OSPF or MH type: low and high, `None` = any.
    pub icmp_type: Option<(u8, u8)>,
    /// ICMP code: low and high, `None` = any.
    pub icmp_code: Option<(u8, u8)>,
    /// Which side may open a TCP connection.
    pub tcp_qualifier: TcpQualifier,
    /// Matches fragments only.
    pub fragments_only: bool,
    /// Matches only IPv6 fragments that do not say their protocol (Protocol Opaque).
    pub opaque: bool,
    /// An anchor of the tunnels of certain peers only (RemoteIdentity with FilterByIdentity): packets that none of its tunnels
    /// serves are the next ipsec rule's whose tunnel does; without such a tunnel they stay with this rule.
    pub by_identity: bool,
    /// What of a packet the selectors of an SA are that is negotiated for it.
    pub granularity: Granularity,
    /// What happens to a packet that matches.
    pub action: FilterAction,
    /// Log permits.
    pub log_permit: bool,
    /// Log denials.
    pub log_deny: bool,
    /// Tell the sender of a denied packet (ICMP administratively prohibited).
    pub discard_icmp: bool,
}

/// What the selectors of an SA that is negotiated for a packet take from the packet, and not from the rule. The stack only
/// shows it: whoever negotiates knows it from the policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Granularity {
    /// Source address.
    pub source_address: bool,
    /// Destination address.
    pub destination_address: bool,
    /// Protocol.
    pub protocol: bool,
    /// Source port.
    pub source_port: bool,
    /// Destination port.
    pub destination_port: bool,
    /// ICMP type.
    pub icmp_type: bool,
    /// ICMP code.
    pub icmp_code: bool,
    /// Type of a mobility header.
    pub mh_type: bool,
}

impl FilterRule {
    /// Whether it is for the tunnels of certain peers only ([`Self::by_identity`]).
    #[must_use]
    pub fn is_for_certain_peers(&self) -> bool {
        self.by_identity && !matches!(self.action, FilterAction::Permit | FilterAction::Deny)
    }

    /// What [`super::SaPair::rule`] says of the pairs that serve it; `None`: it is served by none.
    #[must_use]
    pub fn anchor(&self) -> Option<String> {
        match self.action {
            FilterAction::Permit | FilterAction::Deny => None,
            FilterAction::Ipsec { .. } => Some(self.name.clone()),
            FilterAction::Manual => Some(manual_anchor(self.vpn_action.as_deref().unwrap_or_default())),
        }
    }

    /// A filter of local traffic that asks for direction and addresses alone, belongs to nothing and logs nothing; what is
    /// different is set in it.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        extension: u32,
        direction: Direction,
        source: AddressRange,
        destination: AddressRange,
        action: FilterAction,
    ) -> Self {
        Self {
            name: name.into(),
            extension,
            group: None,
            local_start: None,
            vpn_action: None,
            direction,
            scope: Scope::Local,
            security_class: 0,
            source,
            destination,
            protocol: None,
            source_ports: PortRange::ANY,
            destination_ports: PortRange::ANY,
            icmp_type: None,
            icmp_code: None,
            tcp_qualifier: TcpQualifier::None,
            fragments_only: false,
            opaque: false,
            by_identity: false,
            granularity: Granularity::default(),
            action,
            log_permit: false,
            log_deny: false,
            discard_icmp: false,
        }
    }
}

/// Direction of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// Into this host.
    Inbound,
    /// Out of it.
    Outbound,
}

/// Traffic of this host, or forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// From or to this host.
    Local,
    /// Forwarded by it.
    Routed,
    /// Both.
    Either,
}

/// Which side may open a TCP connection under a rule (spec/policy.md section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TcpQualifier {
    /// Either side.
    None,
    /// Only the remote side: an outbound SYN without ACK does not match.
    InboundConnect,
    /// Only this side: an inbound SYN without ACK does not match.
    OutboundConnect,
}

/// What a filter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilterAction {
    /// In clear.
    Permit,
    /// Dropped.
    Deny,
    /// Dynamic anchor: protected by an SA whose dynamic filter matches, otherwise negotiated or dropped.
    Ipsec {
        /// An outbound packet without an SA may start a negotiation.
        on_demand: bool,
    },
    /// Protected by the manual tunnel of the IpManVpnAction ([`FilterRule::vpn_action`]), otherwise dropped.
    Manual,
}

/// What [`super::SaPair::rule`] says of the pair of a manual tunnel: it serves its IpManVpnAction, whichever rules name that.
/// No rule has such a name.
#[must_use]
pub fn manual_anchor(vpn_action: &str) -> String {
    format!(",{vpn_action}")
}
