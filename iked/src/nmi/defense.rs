//! Requests about defensive filters: what is asked of the core, and how its outcomes go back (docs/nmi.md section 7.3).

use super::audit::in_few_words;
use super::session::Failure;
use crate::request::defense::{DefenseOrder, DefenseOutcome, DefenseResult, Packets, Settings, range};
use ipnet::IpNet;
use nmi_proto::code::{DefensiveStatus, Direction, FilterAction, FilterScope, MessageType};
use nmi_proto::display::DefensiveControl;
use stack::control::{self, PortRange, Scope};

/// The order that a record of a request gives; `None`: the record does not fit the request.
pub(super) fn order(kind: MessageType, object: &DefensiveControl) -> Option<DefenseOrder> {
    let name = object.name.given()?.to_owned();
    Some(match kind {
        MessageType::ADD_DEFENSIVE => {
            DefenseOrder::Add { name, packets: Box::new(packets(object)?), settings: settings(object) }
        }
        MessageType::UPDATE_DEFENSIVE => DefenseOrder::Update { name, settings: settings(object) },
        MessageType::DELETE_DEFENSIVE => DefenseOrder::Delete(Some(name)),
        _ => return None,
    })
}

/// The order of a request without records.
pub(super) fn delete_all(kind: MessageType) -> Option<DefenseOrder> {
    (kind == MessageType::DELETE_DEFENSIVE).then_some(DefenseOrder::Delete(None))
}

fn settings(o: &DefensiveControl) -> Settings {
    Settings {
        simulate: o.by_action.then_some(o.action == FilterAction::DEFENSIVE_SIMULATE),
        log: o.by_log.then_some(o.log),
        log_limit: o.by_log_limit.then_some(o.log_limit),
        lifetime_min: o.by_lifetime.then_some(o.lifetime_min),
    }
}

fn packets(o: &DefensiveControl) -> Option<Packets> {
    let addresses = |(address, length)| Some(range(IpNet::new(address, length).ok()?));
    let both = (addresses(o.source())?, addresses(o.destination())?);
    Some(Packets {
        addresses: (!o.both_families).then_some(both),
        protocol: (!o.protocol_any).then_some(o.protocol),
        source_ports: PortRange { low: o.source_port_low, high: o.source_port_high },
        destination_ports: PortRange { low: o.destination_port_low, high: o.destination_port_high },
        icmp_type: (!o.type_any).then_some(o.icmp_type),
        icmp_code: (!o.code_any).then_some(o.icmp_code),
        direction: match o.direction {
            Direction::INBOUND => control::Direction::Inbound,
            Direction::OUTBOUND => control::Direction::Outbound,
            _ => return None,
        },
        scope: match o.scope {
            FilterScope::LOCAL => Scope::Local,
            FilterScope::ROUTED => Scope::Routed,
            FilterScope::BOTH => Scope::Either,
            _ => return None,
        },
        fragments_only: o.fragments_only,
    })
}

/// What became of it, as the answer has it: the record of the request with the result.
pub(super) fn outcome(object: Option<&DefensiveControl>, outcome: &DefenseOutcome) -> DefensiveControl {
    DefensiveControl {
        name: outcome.name.as_str().into(),
        status: match outcome.result {
            DefenseResult::NotFound => DefensiveStatus::NOTFOUND,
            DefenseResult::Done => DefensiveStatus::DONE,
            DefenseResult::Exists => DefensiveStatus::EXISTS,
            DefenseResult::Inactive => DefensiveStatus::INACTIVE,
            DefenseResult::Lifetime => DefensiveStatus::LIFETIME,
            DefenseResult::Full => DefensiveStatus::FULL,
        },
        stacks: outcome.stacks,
        reason: outcome.reason.as_deref().unwrap_or_default().into(),
        ..object.cloned().unwrap_or_default()
    }
}

/// An object that could not be treated because the core failed.
pub(super) fn failed(object: &DefensiveControl, why: &Failure) -> DefensiveControl {
    DefensiveControl {
        status: DefensiveStatus::FAILED,
        reason: why.to_string().as_str().into(),
        ..object.clone()
    }
}

/// Results in a few words, for the audit log.
pub(super) fn summary(all: &[DefensiveControl]) -> String {
    let said = |o: &DefensiveControl| {
        let status = o.status.to_string();
        format!("{} {}", o.name, status.trim_start_matches("NMsec_DEFSTATUS_").to_ascii_lowercase())
    };
    in_few_words(all, said)
}
