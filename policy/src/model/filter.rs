//! IpFilterPolicy and its rules.

use super::{
    AddressSet, DynVpnAction, IdentityPattern, ManVpnAction, Moment, Name, NonEmpty, Service, TimeCondition,
};
use std::net::IpAddr;
use std::sync::Arc;

/// IpFilterPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterPolicy {
    /// PreDecap: filter ESP and AH too, before decapsulation.
    pub predecap: bool,
    /// FilterLogging: master switch.
    pub logging: bool,
    /// IpFilterLogImplicit: log what no rule matched.
    pub log_implicit: bool,
    /// AllowOnDemand: default for the rules.
    pub allow_on_demand: bool,
    /// ImplicitDiscardAction: what the sender of a packet that no rule matched is told.
    pub implicit_discard: Discard,
    /// FIPS140: only approved algorithms.
    pub fips140: bool,
    /// The rules in search order, groups opened.
    pub rules: Vec<FilterRule>,
}

/// What the sender of a denied packet is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// Nothing.
    Silent,
    /// ICMP "administratively prohibited".
    Icmp,
}

/// An IpFilterRule. Source and destination are those of an outbound packet: local and remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRule {
    /// Name; no two rules of a policy have the same.
    pub name: Name,
    /// IpFilterGroup that it stands in.
    pub group: Option<Name>,
    /// Local addresses.
    pub source: AddressSet,
    /// Remote addresses.
    pub destination: AddressSet,
    /// Traffic, at least one service.
    pub services: NonEmpty<Arc<Service>>,
    /// IpGenericFilterAction.
    pub action_name: Name,
    /// What happens to a packet that matches.
    pub action: Action,
    /// IpLocalStartAction, only with [`Action::Ipsec`].
    pub local_start: Option<Arc<LocalStart>>,
    /// IpTimeConditions, one of which has to hold; none: always in force.
    pub times: Vec<Arc<TimeCondition>>,
    /// RemoteIdentity: the peers whose tunnels the rule is for; has a meaning with FilterByIdentity only.
    pub remote_identity: Option<Arc<IdentityPattern>>,
}

impl FilterRule {
    /// The IpDynVpnAction of an ipsec rule.
    #[must_use]
    pub fn dyn_vpn(&self) -> Option<&DynVpnAction> {
        match &self.action {
            Action::Ipsec { vpn, .. } => Some(vpn),
            Action::Permit { .. } | Action::Deny { .. } | Action::Manual { .. } => None,
        }
    }
    /// The IpManVpnAction of an ipsec rule.
    #[must_use]
    pub fn man_vpn(&self) -> Option<&ManVpnAction> {
        match &self.action {
            Action::Manual { vpn, .. } => Some(vpn),
            Action::Permit { .. } | Action::Deny { .. } | Action::Ipsec { .. } => None,
        }
    }
    /// Whether it is in force: a rule outside of its time is not installed.
    #[must_use]
    pub fn in_force(&self, at: Moment) -> bool {
        self.times.is_empty() || self.times.iter().any(|t| t.holds(at))
    }
}

/// IpGenericFilterAction, together with the VPN action that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// In clear.
    Permit {
        /// Log it.
        log: bool,
    },
    /// Dropped.
    Deny {
        /// Log it.
        log: bool,
        /// What the sender is told.
        discard: Discard,
    },
    /// Protected by a dynamic tunnel, otherwise dropped.
    Ipsec {
        /// Log what a valid SA carried.
        log_permit: bool,
        /// Log what had none.
        log_deny: bool,
        /// What the sender is told.
        discard: Discard,
        /// IpDynVpnAction.
        vpn: Arc<DynVpnAction>,
    },
    /// Protected by a manual tunnel, otherwise dropped.
    Manual {
        /// Log what the tunnel carried.
        log_permit: bool,
        /// Log what it did not.
        log_deny: bool,
        /// What the sender is told.
        discard: Discard,
        /// IpManVpnAction.
        vpn: Arc<ManVpnAction>,
    },
}

/// IpLocalStartAction: how a negotiation that starts here is made out of rule and packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalStart {
    /// Name.
    pub name: Name,
    /// AllowOnDemand; `None`: as the policy says.
    pub allow_on_demand: Option<bool>,
    /// Where the local data endpoint comes from; `None`: not coded.
    pub local_ip: Option<Granularity>,
    /// Where the remote data endpoint comes from; `None`: not coded.
    pub remote_ip: Option<Granularity>,
    /// Protocol.
    pub protocol: Granularity,
    /// Local port; `None`: not coded.
    pub local_port: Option<Granularity>,
    /// Remote port; `None`: not coded.
    pub remote_port: Option<Granularity>,
    /// ICMP type.
    pub icmp_type: Granularity,
    /// ICMP code.
    pub icmp_code: Granularity,
    /// Type of a mobility header.
    pub mh_type: Granularity,
    /// Own security endpoint, if it is not the data endpoint.
    pub local_endpoint: Option<IpAddr>,
    /// The peer's security endpoint, if it is not the data endpoint.
    pub remote_endpoint: Option<IpAddr>,
}

/// Where a value of a negotiation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// The rule.
    Rule,
    /// The packet.
    Packet,
}
