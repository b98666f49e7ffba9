//! Project extension: answer to `NMsec_GET_DEFENSIVE`, the defensive filters (section 6.22), and what is ordered about them
//! (section 7.3).

use super::{IpFilter, Record};
use crate::answer::input_record;
use crate::code::{DefensiveStatus, Direction, FilterAction, FilterScope, MessageType};
use crate::error::DecodeError;
use crate::record::{RecordBuilder, RecordView};
use crate::text::{CodePage, Text};
use crate::value::Address;
use std::net::IpAddr;

structure! {
    /// What a defensive filter has beside the fields of every filter.
    Defensive = "NMsecDefensive", 40, "6.22" {
        /// Global filter: stacks that have a copy of it now.
        [0 C "NMsDefStacks"] stacks: u32,
        /// Minutes for which it was to live, since it was added or its lifetime was changed.
        [4 C "NMsDefLifetime"] lifetime_min: u32,
        /// User that added it, blank if the database had none.
        [8 C "NMsDefUser"] user: Text<32>,
    } reserved {
    }
}

/// Record of an answer to `NMsec_GET_DEFENSIVE`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DefensiveRecord {
    /// The filter.
    pub filter: IpFilter,
    /// What no other filter has.
    pub more: Defensive,
}

impl Record for DefensiveRecord {
    const TYPES: &'static [MessageType] = &[MessageType::GET_DEFENSIVE];

    fn build(&self, page: CodePage) -> Vec<u8> {
        RecordBuilder::new(page).one(&self.filter).one(&self.more).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        Ok(Self { filter: record.one(0)?, more: record.one(1)? })
    }
}

structure! {
    /// A defensive filter that is to be added, changed or deleted; the response returns it with the result.
    DefensiveControl = "NMsecDefensiveControl", 240, "7.3" {
        /// Addresses are IPv6.
        [0:0 C "NMsDctIPv6"] ipv6: bool,
        /// All addresses of both families; the address fields are zero.
        [0:1 C "NMsDctBoth"] both_families: bool,
        /// Matches fragments only.
        [0:2 C "NMsDctFragOnly"] fragments_only: bool,
        /// Any protocol.
        [0:3 C "NMsDctProtoAny"] protocol_any: bool,
        /// Any type of ICMP or ICMPv6.
        [0:4 C "NMsDctTypeAny"] type_any: bool,
        /// Any code of ICMP or ICMPv6.
        [0:5 C "NMsDctCodeAny"] code_any: bool,
        /// `NMsDctAction` is given.
        [0:6 C "NMsDctByAction"] by_action: bool,
        /// `NMsDctLog` is given.
        [0:7 C "NMsDctByLog"] by_log: bool,
        /// `NMsDctLogLimit` is given.
        [1:0 C "NMsDctByLogLimit"] by_log_limit: bool,
        /// `NMsDctLifetime` is given.
        [1:1 C "NMsDctByLifetime"] by_lifetime: bool,
        /// Matches are logged.
        [1:2 C "NMsDctLog"] log: bool,
        /// Name.
        [4 C "NMsDctName"] name: Text<48>,
        /// 4 block, 5 simulate.
        [52 C "NMsDctAction"] action: FilterAction,
        /// 1 inbound, 2 outbound.
        [53 C "NMsDctDirection"] direction: Direction,
        /// 1 local, 2 routed, 3 both.
        [54 C "NMsDctScope"] scope: FilterScope,
        /// IP protocol number; 0 with ProtoAny.
        [55 C "NMsDctProtocol"] protocol: u8,
        /// Prefix length of the source, 0..32 or 0..128; 32 or 128 = one address.
        [56 C "NMsDctSrcPrefix"] source_prefix: u8,
        /// Prefix length of the destination.
        [57 C "NMsDctDstPrefix"] destination_prefix: u8,
        /// Type of ICMP or ICMPv6.
        [58 C "NMsDctType"] icmp_type: u8,
        /// Code of ICMP or ICMPv6.
        [59 C "NMsDctCode"] icmp_code: u8,
        /// Source address or prefix.
        [60 C "NMsDctSrcAddr"] source: Address,
        /// Destination address or prefix.
        [76 C "NMsDctDstAddr"] destination: Address,
        /// Source port, low; 0 to 65535 is any.
        [92 C "NMsDctSrcPortLo"] source_port_low: u16,
        /// Source port, high.
        [94 C "NMsDctSrcPortHi"] source_port_high: u16,
        /// Destination port, low.
        [96 C "NMsDctDstPortLo"] destination_port_low: u16,
        /// Destination port, high.
        [98 C "NMsDctDstPortHi"] destination_port_high: u16,
        /// Lines in five minutes, on average; 0: as many as the stack writes about anything.
        [100 C "NMsDctLogLimit"] log_limit: u16,
        /// 0 in a request; in a response the result.
        [102 C "NMsDctStatus"] status: DefensiveStatus,
        /// Minutes from now.
        [104 C "NMsDctLifetime"] lifetime_min: u32,
        /// In a response the stacks that it was done at.
        [108 C "NMsDctStacks"] stacks: u32,
        /// Blank in a request; in a response why, where there is more to say than the status does.
        [112 C "NMsDctReason"] reason: Text<128>,
    } reserved {
        [1:3 C "NMsDctRsvd1"] 21,
        [103 C "NMsDctRsvd2"] 8,
    }
}

/// Longest name of a defensive filter.
pub const MAX_DEFENSIVE_NAME: usize = 32;

impl DefensiveControl {
    /// Names a filter, for `NMsec_DELETE_DEFENSIVE`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// A filter of every inbound packet of both families, for `NMsec_ADD_DEFENSIVE`.
    #[must_use]
    pub fn all(name: &str) -> Self {
        Self {
            both_families: true,
            protocol_any: true,
            type_any: true,
            code_any: true,
            direction: Direction::INBOUND,
            scope: FilterScope::BOTH,
            source_port_high: u16::MAX,
            destination_port_high: u16::MAX,
            ..Self::named(name)
        }
    }

    /// Source and its prefix length.
    #[must_use]
    pub fn source(&self) -> (IpAddr, u8) {
        (self.source.ip(self.ipv6), self.source_prefix)
    }

    /// Destination and its prefix length.
    #[must_use]
    pub fn destination(&self) -> (IpAddr, u8) {
        (self.destination.ip(self.ipv6), self.destination_prefix)
    }

    /// Whether `request` allows this combination of fields (table of section 7.3).
    #[must_use]
    pub fn fits(&self, request: MessageType) -> bool {
        let name = self.name.as_str();
        let named = !name.is_empty()
            && name.len() <= MAX_DEFENSIVE_NAME
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"@#$_.-".contains(&b));
        let blank_answer =
            self.status == DefensiveStatus::NOT_PROCESSED && self.stacks == 0 && self.reason.is_blank();
        let action = match self.by_action {
            true => matches!(self.action, FilterAction::DEFENSIVE_BLOCK | FilterAction::DEFENSIVE_SIMULATE),
            false => self.action == FilterAction::default(),
        };
        let log = (self.by_log || !self.log) && (self.by_log_limit || self.log_limit == 0);
        let lifetime = self.by_lifetime == (self.lifetime_min != 0);
        named
            && blank_answer
            && action
            && log
            && lifetime
            && match request {
                MessageType::ADD_DEFENSIVE => self.names_packets(),
                MessageType::UPDATE_DEFENSIVE => {
                    let given = self.by_action || self.by_log || self.by_log_limit || self.by_lifetime;
                    given && self.names_no_packets()
                }
                MessageType::DELETE_DEFENSIVE => *self == Self::named(name),
                _ => false,
            }
    }

    /// No field that says which packets is set.
    fn names_no_packets(&self) -> bool {
        let Self {
            by_action, by_log, by_log_limit, by_lifetime, log, action, log_limit, lifetime_min, ..
        } = *self;
        let bare = Self {
            by_action,
            by_log,
            by_log_limit,
            by_lifetime,
            log,
            action,
            log_limit,
            lifetime_min,
            ..Self::named(self.name.as_str())
        };
        *self == bare
    }

    /// The fields that say which packets make sense together.
    fn names_packets(&self) -> bool {
        let width = if self.ipv6 { 128 } else { 32 };
        let family = |a: Address| self.ipv6 || a.0[..12] == [0; 12];
        let addresses = if self.both_families {
            let all = (Address::default(), 0);
            !self.ipv6
                && (self.source, self.source_prefix) == all
                && (self.destination, self.destination_prefix) == all
        } else {
            family(self.source)
                && family(self.destination)
                && self.source_prefix <= width
                && self.destination_prefix <= width
        };
        let any_ports = (0, u16::MAX);
        let ports = [
            (self.source_port_low, self.source_port_high),
            (self.destination_port_low, self.destination_port_high),
        ];
        let has = |protocols: &[u8]| !self.protocol_any && protocols.contains(&self.protocol);
        let ports_fit =
            ports.iter().all(|p| p.0 <= p.1) && (has(&[6, 17, 132]) || ports == [any_ports, any_ports]);
        let types_fit = (has(&[1, 58]) || (self.type_any && self.code_any))
            && (!self.type_any || self.icmp_type == 0)
            && (!self.code_any || self.icmp_code == 0);
        addresses
            && ports_fit
            && types_fit
            && (!self.protocol_any || self.protocol == 0)
            && matches!(self.direction, Direction::INBOUND | Direction::OUTBOUND)
            && matches!(self.scope, FilterScope::LOCAL | FilterScope::ROUTED | FilterScope::BOTH)
    }
}

impl Record for DefensiveControl {
    const TYPES: &'static [MessageType] =
        &[MessageType::ADD_DEFENSIVE, MessageType::UPDATE_DEFENSIVE, MessageType::DELETE_DEFENSIVE];

    fn build(&self, page: CodePage) -> Vec<u8> {
        input_record(page, self)
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        record.one(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_request_takes() {
        use MessageType as T;
        let add = DefensiveControl::all("floods");
        let one = DefensiveControl {
            both_families: false,
            protocol_any: false,
            protocol: 6,
            source: IpAddr::from([203, 0, 113, 9]).into(),
            source_prefix: 32,
            destination_port_low: 80,
            destination_port_high: 80,
            by_action: true,
            action: FilterAction::DEFENSIVE_SIMULATE,
            by_lifetime: true,
            lifetime_min: 5,
            ..add.clone()
        };
        let update = DefensiveControl { by_log: true, log: true, ..DefensiveControl::named("floods") };
        let delete = DefensiveControl::named("floods");
        for (kind, good) in [
            (T::ADD_DEFENSIVE, &add),
            (T::ADD_DEFENSIVE, &one),
            (T::UPDATE_DEFENSIVE, &update),
            (T::DELETE_DEFENSIVE, &delete),
        ] {
            assert!(good.fits(kind), "{kind}: {good:?}");
        }
        let bad = [
            (T::ADD_DEFENSIVE, delete.clone()),
            (T::ADD_DEFENSIVE, DefensiveControl { name: "".into(), ..add.clone() }),
            (T::ADD_DEFENSIVE, DefensiveControl { name: "a b".into(), ..add.clone() }),
            (T::ADD_DEFENSIVE, DefensiveControl { name: "x".repeat(33).as_str().into(), ..add.clone() }),
            (T::ADD_DEFENSIVE, DefensiveControl { source_prefix: 33, ..one.clone() }),
            (T::ADD_DEFENSIVE, DefensiveControl { both_families: true, ..one.clone() }),
            (T::ADD_DEFENSIVE, DefensiveControl { protocol: 1, ..one.clone() }),
            (T::ADD_DEFENSIVE, DefensiveControl { icmp_type: 8, type_any: false, ..one.clone() }),
            (T::ADD_DEFENSIVE, DefensiveControl { source_port_low: 9, source_port_high: 8, ..one.clone() }),
            (T::ADD_DEFENSIVE, DefensiveControl { action: FilterAction::PERMIT, ..one.clone() }),
            (T::ADD_DEFENSIVE, DefensiveControl { lifetime_min: 0, ..one.clone() }),
            (T::ADD_DEFENSIVE, DefensiveControl { log_limit: 1, ..one.clone() }),
            (T::ADD_DEFENSIVE, DefensiveControl { status: DefensiveStatus::DONE, ..one.clone() }),
            (T::ADD_DEFENSIVE, DefensiveControl { direction: Direction(3), ..one.clone() }),
            (T::UPDATE_DEFENSIVE, delete),
            (T::UPDATE_DEFENSIVE, one),
            (T::DELETE_DEFENSIVE, update),
            (T::MOVE_DVIPA, add),
        ];
        for (kind, object) in bad {
            assert!(!object.fits(kind), "{kind}: {object:?}");
        }
    }
}
