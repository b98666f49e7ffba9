//! What is asked about defensive filters: what there are, and orders of an operator (docs/nmi.md sections 6.22 and 7.3).

use super::CoreError;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use stack::control::{AddressRange, Direction, FilterAction, FilterRule, FilterView, PortRange, Scope};
use tokio::sync::oneshot;

/// Name of the stack that stands for all of them in authorization profiles and in the log.
pub const GLOBAL: &str = "DMD_GLOBAL";
/// Minutes that a filter lives if nobody says otherwise.
pub const DEFAULT_LIFETIME_MIN: u32 = 30;

/// A request about defensive filters. `stack`: of one stack, active and matched without regard to case; `None`: global.
#[derive(Debug)]
pub enum DefenseRequest {
    /// What there are.
    Display {
        /// See there.
        stack: Option<String>,
        /// Answer: in search order.
        reply: oneshot::Sender<Result<Vec<DefenseStatus>, CoreError>>,
    },
    /// An order. Who gives it may control `stack`, or all that are concerned.
    Control {
        /// See there.
        stack: Option<String>,
        /// Who orders it, if he has a name.
        user: Option<String>,
        /// What.
        order: DefenseOrder,
        /// One outcome for each name that the order stands for.
        reply: oneshot::Sender<Result<Vec<DefenseOutcome>, CoreError>>,
    },
}

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefenseOrder {
    /// A new filter, before all others.
    Add {
        /// Its name.
        name: String,
        /// Which packets.
        packets: Box<Packets>,
        /// What else is said of it.
        settings: Settings,
    },
    /// Other settings for those of this name.
    Update {
        /// Name.
        name: String,
        /// What is to change.
        settings: Settings,
    },
    /// Those of this name go; `None`: all.
    Delete(Option<String>),
}

/// What is said of a filter; `None`: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// It only says what it would have dropped.
    pub simulate: Option<bool>,
    /// Matches are logged.
    pub log: Option<bool>,
    /// Lines in five minutes.
    pub log_limit: Option<u16>,
    /// Minutes from now.
    pub lifetime_min: Option<u32>,
}

/// Which packets a filter is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// Source and destination, of one family; `None`: all of both families.
    pub addresses: Option<(AddressRange, AddressRange)>,
    /// IP protocol; `None`: any.
    pub protocol: Option<u8>,
    /// Source ports.
    pub source_ports: PortRange,
    /// Destination ports.
    pub destination_ports: PortRange,
    /// Type of ICMP or ICMPv6; `None`: any.
    pub icmp_type: Option<u8>,
    /// Its code.
    pub icmp_code: Option<u8>,
    /// Direction.
    pub direction: Direction,
    /// Local or routed traffic.
    pub scope: Scope,
    /// Fragments only.
    pub fragments_only: bool,
}

impl Packets {
    /// The filters that it is: one for each family.
    pub fn rules(&self, name: &str) -> Vec<FilterRule> {
        let both = [AddressRange::ANY_V4, AddressRange::ANY_V6].map(|any| (any, any));
        let families = self.addresses.as_ref().map_or(&both[..], std::slice::from_ref);
        let one = |number: Option<u8>| number.map(|n| (n, n));
        let rule = |(extension, (source, destination)): (u32, &(AddressRange, AddressRange))| {
            let base =
                FilterRule::new(name, extension, self.direction, *source, *destination, FilterAction::Deny);
            FilterRule {
                scope: self.scope,
                protocol: self.protocol,
                source_ports: self.source_ports,
                destination_ports: self.destination_ports,
                icmp_type: one(self.icmp_type),
                icmp_code: one(self.icmp_code),
                fragments_only: self.fragments_only,
                ..base
            }
        };
        (1..).zip(families).map(rule).collect()
    }
}

/// The addresses of a prefix: what lies behind its length is not looked at.
#[must_use]
pub fn range(net: IpNet) -> AddressRange {
    AddressRange { low: net.network(), high: net.broadcast() }
}

/// A defensive filter as it is displayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefenseStatus {
    /// The filter and its counters.
    pub filter: FilterView,
    /// Stacks that have a copy, of a global one.
    pub stacks: u32,
    /// Minutes for which it was to live.
    pub lifetime_min: u32,
    /// Who added it, if he had a name.
    pub user: Option<String>,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefenseOutcome {
    /// Name of the filter.
    pub name: String,
    /// Result.
    pub result: DefenseResult,
    /// Stacks that it was done at.
    pub stacks: u32,
    /// A sentence for the operator, if there is more to say.
    pub reason: Option<String>,
}

/// Result of an order (NMsDctStatus, docs/nmi.md section 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefenseResult {
    /// 1: no filter of that name.
    NotFound,
    /// 2: done.
    Done,
    /// 3: there is one of that name.
    Exists,
    /// 4: the stack does not defend itself.
    Inactive,
    /// 5: longer than the stack allows.
    Lifetime,
    /// 6: there are too many.
    Full,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_its_addresses() {
        let shown = |a: &str, n| {
            let range = range(IpNet::new(a.parse().unwrap(), n).unwrap());
            format!("{}-{}", range.low, range.high)
        };
        assert_eq!(shown("10.1.2.3", 32), "10.1.2.3-10.1.2.3");
        assert_eq!(shown("10.1.2.3", 8), "10.0.0.0-10.255.255.255");
        assert_eq!(range("10.1.2.3/0".parse().unwrap()), AddressRange::ANY_V4);
        assert_eq!(shown("2001:db8::7", 126), "2001:db8::4-2001:db8::7");
        assert_eq!(shown("2001:db8::7", 128), "2001:db8::7-2001:db8::7");
        assert_eq!(range("::1/0".parse().unwrap()), AddressRange::ANY_V6);
    }
}
