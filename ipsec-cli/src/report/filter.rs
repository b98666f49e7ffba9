//! `-f`: filters in search order (ipsec-command.md section 5).

use super::heading::{Display, Heading};
use super::{
    Body, Cell, Entry, Field, Report, address, field, has_ports, has_types, protocol, range, unless_zero,
};
use crate::request::FilterScope;
use crate::traffic::Packet;
use nmi_proto::answer::Answer;
use nmi_proto::code::{
    AddressType, DefensiveMode, DefensiveType, Direction, DiscardAction, FilterAction, FilterLogging,
    FilterScope as Scope, FilterState, FilterType, TcpQualifier,
};
use nmi_proto::display::{FilterRecord, IpFilter, Stack, TestRecord, Verdict};
use nmi_proto::identity::Identity;
use nmi_proto::value::Address;

/// The report. Without the right to list stacks their settings are not known.
pub(crate) fn report(
    stack: &str,
    info: Option<&Stack>,
    scope: FilterScope,
    answer: &Answer<FilterRecord>,
) -> Report {
    let on = |flag: fn(&Stack) -> bool| -> Cell { info.map(|s| if flag(s) { "On" } else { "Off" }).into() };
    let policy = match scope {
        FilterScope::Current => info.is_none_or(|s| s.policy_filters),
        FilterScope::Profile => false,
        FilterScope::Policy => true,
    };
    let more = vec![
        vec![
            ("Logging", on(|s| s.logging)),
            ("Predecap", on(|s| s.predecap)),
            ("DVIPSec", info.map(|s| s.dvipsec).into()),
        ],
        vec![
            ("NatKeepAlive", info.map(|s| s.nat_keepalive).into()),
            ("FIPS140", info.map(|s| s.fips140).into()),
        ],
        vec![("Defensive Mode", defensive_mode(info))],
    ];
    Report {
        heading: Heading {
            stack: stack.to_owned(),
            time: answer.timestamp,
            primary: "Filter",
            function: "Display",
            display: Some(Display {
                source: if policy { "Stack Policy" } else { "Stack Profile" },
                scope: match scope {
                    FilterScope::Current => "Current",
                    FilterScope::Profile => "Profile",
                    FilterScope::Policy => "Policy",
                },
                total: Some(answer.total),
            }),
            more,
        },
        body: Body::Entries(answer.records.iter().map(entry).collect()),
    }
}

/// `-t`: the filters that match `packet`, in search order, and what the stack says of the one that decides.
pub(crate) fn test_report(
    stack: &str,
    info: Option<&Stack>,
    packet: &Packet,
    answer: &Answer<TestRecord>,
) -> Report {
    let none = Answer { records: Vec::new(), total: answer.total, timestamp: answer.timestamp };
    let mut report = report(stack, info, FilterScope::Current, &none);
    report.heading.primary = "IP Traffic Test";
    report.heading.more.insert(0, vec![("TestData", packet.to_string().into())]);
    let tested = |record: &TestRecord| {
        let mut entry = entry(&record.filter);
        entry.row(verdict(record.verdict.as_ref()));
        entry
    };
    report.body = Body::Entries(answer.records.iter().map(tested).collect());
    report
}

/// What only a tested packet has: whether this filter decides on it, and by which SA it would go.
fn verdict(verdict: Option<&Verdict>) -> [Field; 6] {
    let of = |cell: fn(&Verdict) -> Cell| verdict.map_or(Cell::None, cell);
    let spi = |spi: u32| if spi == 0 { Cell::None } else { Cell::Spi(spi) };
    [
        field("Decides", verdict.is_some()),
        field("Certain", of(|v| v.certain.into())),
        field("Treatment", of(|v| v.treatment.to_string().into())),
        field("ServedBy", of(|v| (&v.tunnel_id).into())),
        field("InboundSpi", verdict.map_or(Cell::None, |v| spi(v.spi_in))),
        field("OutboundSpi", verdict.map_or(Cell::None, |v| spi(v.spi_out))),
    ]
}

/// What the stack does with defensive filters, if it is known.
pub(super) fn defensive_mode(info: Option<&Stack>) -> Cell {
    let mode = info.map(|s| match s.defensive_mode {
        DefensiveMode::ACTIVE => "Active",
        DefensiveMode::SIMULATE => "Simulate",
        _ => "Inactive",
    });
    mode.into()
}

fn entry(record: &FilterRecord) -> Entry {
    filter_entry(&record.filter, record.remote_id.as_ref(), None)
}

/// A filter; `stacks` have a copy of it.
pub(super) fn filter_entry(f: &IpFilter, remote_id: Option<&Identity>, stacks: Option<u32>) -> Entry {
    let is_dynamic = matches!(
        f.filter_type,
        FilterType::DYNAMIC_ANCHOR | FilterType::DYNAMIC | FilterType::NATT_ANCHOR | FilterType::NATT_DYNAMIC
    );
    // Granularity says how an SA is made on demand: of other filters none is made.
    let gran = |packet: bool, applies: bool| -> Cell {
        (is_dynamic && applies).then_some(if packet { "Packet" } else { "Rule" }).into()
    };
    let ports = f.protocol_any || has_ports(f.protocol);
    let types = has_types(f.protocol);
    let typed = |number: u8| -> (Cell, Cell) {
        if f.protocol == number && !f.protocol_any {
            range(f.type_low.into(), f.type_high.into(), f.type_any)
        } else {
            (Cell::None, Cell::None)
        }
    };
    let icmp = if types { typed(f.protocol) } else { (Cell::None, Cell::None) };
    let code = if types {
        range(f.code_low.into(), f.code_high.into(), f.code_any)
    } else {
        (Cell::None, Cell::None)
    };
    let (ospf, mipv6) = (typed(89), typed(135));
    let type_range = [icmp.1, ospf.1, mipv6.1].into_iter().find(|c| *c != Cell::None).unwrap_or(Cell::None);
    let mut entry = Entry::default();
    entry
        .row([field("FilterName", &f.name), field("FilterNameExtension", f.extension)])
        .row([field("GroupName", &f.group)])
        .row([field("LocalStartActionName", &f.local_start)])
        .row([field("VpnActionName", &f.vpn_action)])
        .row([field("TunnelID", f.tunnel_id.given().unwrap_or("0x00"))])
        .row([
            field("Type", kind(f.filter_type)),
            field(
                "DefensiveType",
                match f.defensive_type {
                    DefensiveType::GLOBAL => Cell::from("Global"),
                    DefensiveType::STACK => Cell::from("Stack"),
                    _ => Cell::None,
                },
            ),
            field("State", if f.state == FilterState::ACTIVE { "Active" } else { "Inactive" }),
            field("Action", action(f.action)),
            field(
                "Scope",
                match f.scope {
                    Scope::LOCAL => Cell::from("Local"),
                    Scope::ROUTED => Cell::from("Routed"),
                    Scope::BOTH => Cell::from("Both"),
                    other => other.to_string().into(),
                },
            ),
            field("Direction", if f.direction == Direction::INBOUND { "Inbound" } else { "Outbound" }),
            field("OnDemand", is_dynamic.then_some(f.on_demand)),
        ])
        .row([
            field("SecurityClass", f.security_class),
            field(
                "Logging",
                match f.logging {
                    FilterLogging::ALL => "All",
                    FilterLogging::PERMITTED => "Permit",
                    FilterLogging::DENIED => "Deny",
                    _ => "None",
                },
            ),
            field("LogLimit", unless_zero(f.log_limit)),
        ])
        .row([
            field("Protocol", shown_protocol(f)),
            field("ICMPType", icmp.0),
            field("ICMPTypeGranularity", gran(f.granularity_type, types)).short("ICMPTypeGran"),
            field("ICMPCode", code.0),
            field("ICMPCodeGranularity", gran(f.granularity_code, types)).short("ICMPCodeGran"),
        ])
        .row([
            field("OSPFType", ospf.0),
            field("TCPQualifier", qualifier(f)),
            field("ProtocolGranularity", gran(f.granularity_protocol, true)).short("ProtocolGran"),
        ]);
    side(
        &mut entry,
        &SOURCE,
        &Side {
            kind: f.source_address_type,
            prefix: f.source_prefix,
            low: f.source_address,
            high: f.source_address_high,
            ports: (f.source_port_low, f.source_port_high, f.source_port_any),
            address_gran: gran(f.granularity_source_address, true),
            port_gran: gran(f.granularity_source_port, ports),
        },
        f.ipv6,
        ports,
    );
    side(
        &mut entry,
        &DESTINATION,
        &Side {
            kind: f.destination_address_type,
            prefix: f.destination_prefix,
            low: f.destination_address,
            high: f.destination_address_high,
            ports: (f.destination_port_low, f.destination_port_high, f.destination_port_any),
            address_gran: gran(f.granularity_destination_address, true),
            port_gran: gran(f.granularity_destination_port, ports),
        },
        f.ipv6,
        ports,
    );
    entry
        .row([
            field("OrigRmtConnPort", unless_zero(f.original_remote_port)),
            field("RmtIDPayload", address(f.remote_id_payload, f.ipv6)).short("RmtIDpayload"),
            field("RmtUdpEncapPort", unless_zero(f.remote_udp_port)),
        ])
        .row([field("CreateTime", f.create_time), field("UpdateTime", f.update_time)])
        .row([
            field("DiscardAction", if f.discard == DiscardAction::ICMP { "ICMP" } else { "Silent" }),
            field("MIPv6Type", mipv6.0),
            field("MIPv6TypeGranularity", gran(f.granularity_mipv6, f.protocol == 135))
                .short("MIPv6TypeGran"),
            field("TypeRange", type_range),
            field("CodeRange", code.1),
        ])
        .row([
            field("RemoteIdentityType", remote_id.map(|id| id.id_type().to_string())),
            field("RemoteIdentity", remote_id),
        ])
        .row([
            field("FragmentsOnly", f.fragments_only),
            field("FilterMatches", f.matches),
            field("LifetimeExpires", f.expires),
            field("AssociatedStackCount", stacks),
        ]);
    entry
}

/// Names of the fields of one side.
struct Names {
    address: &'static str,
    prefix: &'static str,
    range: &'static str,
    gran: [&'static str; 2],
    port: &'static str,
    port_range: &'static str,
    port_gran: [&'static str; 2],
}

const SOURCE: Names = Names {
    address: "SourceAddress",
    prefix: "SourceAddressPrefix",
    range: "SourceAddressRange",
    gran: ["SourceAddressGranularity", "SourceAddressGran"],
    port: "SourcePort",
    port_range: "SourcePortRange",
    port_gran: ["SourcePortGranularity", "SourcePortGran"],
};
const DESTINATION: Names = Names {
    address: "DestAddress",
    prefix: "DestAddressPrefix",
    range: "DestAddressRange",
    gran: ["DestAddressGranularity", "DestAddressGran"],
    port: "DestPort",
    port_range: "DestPortRange",
    port_gran: ["DestPortGranularity", "DestPortGran"],
};

struct Side {
    kind: AddressType,
    prefix: u8,
    low: Address,
    high: Address,
    ports: (u16, u16, bool),
    address_gran: Cell,
    port_gran: Cell,
}

fn side(entry: &mut Entry, names: &Names, side: &Side, ipv6: bool, has_ports: bool) {
    let base = if side.kind == AddressType::ALL { Cell::from("All") } else { side.low.ip(ipv6).into() };
    let (port, port_range) =
        if has_ports { range(side.ports.0, side.ports.1, side.ports.2) } else { (Cell::None, Cell::None) };
    let gran =
        |names: [&'static str; 2], cell: &Cell| -> Field { field(names[0], cell.clone()).short(names[1]) };
    entry
        .row([field(names.address, base)])
        .row([field(names.prefix, (side.kind == AddressType::PREFIX).then_some(side.prefix))])
        .row([field(names.range, (side.kind == AddressType::RANGE).then(|| side.high.ip(ipv6)))])
        .row([gran(names.gran, &side.address_gran)])
        .row([
            field(names.port, port),
            field(names.port_range, port_range),
            gran(names.port_gran, &side.port_gran),
        ]);
}

fn kind(kind: FilterType) -> Cell {
    Cell::from(match kind {
        FilterType::GENERIC => "Generic",
        FilterType::DYNAMIC_ANCHOR => "Dynamic Anchor",
        FilterType::DYNAMIC => "Dynamic",
        FilterType::NATT_ANCHOR => "NATT Anchor",
        FilterType::NATT_DYNAMIC => "NATT Dynamic",
        FilterType::NRF => "NRF",
        FilterType::DEFENSIVE => "Defensive",
        other => return other.to_string().into(),
    })
}

fn action(action: FilterAction) -> Cell {
    Cell::from(match action {
        FilterAction::PERMIT => "Permit",
        FilterAction::DENY => "Deny",
        FilterAction::IPSEC => "IPSec",
        FilterAction::DEFENSIVE_BLOCK => "Defensive Block",
        FilterAction::DEFENSIVE_SIMULATE => "Defensive Simulate",
        other => return other.to_string().into(),
    })
}

fn shown_protocol(f: &IpFilter) -> String {
    if f.protocol_opaque {
        "Opaque".to_owned()
    } else if f.protocol_any {
        "All".to_owned()
    } else {
        protocol(f.protocol)
    }
}

fn qualifier(f: &IpFilter) -> Cell {
    if f.protocol != 6 || f.protocol_any {
        return Cell::None;
    }
    Cell::from(match f.tcp_qualifier {
        TcpQualifier::INBOUND_CONNECT => "ConnectInbound",
        TcpQualifier::OUTBOUND_CONNECT => "ConnectOutbound",
        _ => "None",
    })
}

#[cfg(test)]
mod tests {
    use super::super::layout::{json, text};
    use super::super::tests::NOW;
    use super::*;
    use crate::request::Format;
    use std::net::IpAddr;

    fn stack() -> Stack {
        Stack {
            name: "DIST".into(),
            dvipsec: true,
            logging: true,
            policy_filters: true,
            nat_keepalive: 20,
            ..Stack::default()
        }
    }

    fn sample() -> Answer<FilterRecord> {
        let web = IpFilter {
            name: "dvWeb".into(),
            extension: 1,
            vpn_action: "strongTransport".into(),
            tunnel_id: "Y7".into(),
            on_demand: true,
            filter_type: FilterType::DYNAMIC,
            state: FilterState::ACTIVE,
            action: FilterAction::PERMIT,
            scope: Scope::LOCAL,
            direction: Direction::OUTBOUND,
            logging: FilterLogging::DENIED,
            protocol: 6,
            tcp_qualifier: TcpQualifier::INBOUND_CONNECT,
            source_address_type: AddressType::SINGLE,
            source_address: IpAddr::from([192, 0, 2, 80]).into(),
            source_port_low: 443,
            source_port_high: 443,
            destination_address_type: AddressType::PREFIX,
            destination_prefix: 24,
            destination_address: IpAddr::from([203, 0, 113, 0]).into(),
            destination_port_any: true,
            destination_port_high: u16::MAX,
            granularity_source_address: true,
            granularity_destination_address: true,
            create_time: NOW,
            update_time: NOW,
            matches: 118,
            ..IpFilter::default()
        };
        let ping = IpFilter {
            name: "ping".into(),
            extension: 4,
            group: "basics".into(),
            ipv6: true,
            filter_type: FilterType::GENERIC,
            state: FilterState::ACTIVE,
            action: FilterAction::DENY,
            scope: Scope::BOTH,
            direction: Direction::INBOUND,
            security_class: 7,
            logging: FilterLogging::ALL,
            discard: DiscardAction::ICMP,
            protocol: 58,
            type_low: 128,
            type_high: 129,
            code_any: true,
            source_address_type: AddressType::RANGE,
            source_address: "2001:db8::1".parse::<IpAddr>().unwrap().into(),
            source_address_high: "2001:db8::9".parse::<IpAddr>().unwrap().into(),
            destination_address_type: AddressType::ALL,
            create_time: NOW,
            update_time: NOW,
            ..IpFilter::default()
        };
        let records = vec![
            FilterRecord { filter: web, remote_id: Some(Identity::Fqdn("gate.example.net".into())) },
            FilterRecord { filter: ping, remote_id: None },
        ];
        Answer { records, total: 7, timestamp: NOW }
    }

    #[test]
    fn detail() {
        let report = report("DIST", Some(&stack()), FilterScope::Current, &sample());
        insta::assert_snapshot!(text(&report, Format::Detail));
    }
    #[test]
    fn short() {
        let report = report("DIST", Some(&stack()), FilterScope::Current, &sample());
        insta::assert_snapshot!(text(&report, Format::Short));
    }
    #[test]
    fn wide() {
        let report = report("DIST", Some(&stack()), FilterScope::Policy, &sample());
        insta::assert_snapshot!(text(&report, Format::Wide));
    }
    #[test]
    fn in_json() {
        let report = report("DIST", Some(&stack()), FilterScope::Current, &sample());
        insta::assert_snapshot!(json(&report));
    }
    #[test]
    fn a_tested_packet() {
        use nmi_proto::code::Treatment;
        let packet =
            "192.0.2.80 203.0.113.20 tcp 443 0 out".split(' ').map(str::to_owned).collect::<Vec<_>>();
        let Ok(packet) = Packet::parse(&packet) else { panic!() };
        let sample = sample();
        let by = Verdict {
            certain: false,
            treatment: Treatment::PROTECTED,
            tunnel_id: "Y7".into(),
            spi_in: 0xAB5D_38F3,
            spi_out: 0x46F5_32EA,
        };
        let mut verdicts = [Some(by), None].into_iter();
        let records = sample
            .records
            .into_iter()
            .map(|filter| TestRecord { filter, verdict: verdicts.next().flatten() })
            .collect();
        let answer = Answer { records, total: 2, timestamp: NOW };
        let report = test_report("DIST", Some(&stack()), &packet, &answer);
        insta::assert_snapshot!(text(&report, Format::Detail));
        insta::assert_snapshot!(text(&report, Format::Short));
    }
    #[test]
    fn nothing_selected_and_nothing_known_of_the_stack() {
        let answer = Answer { records: vec![], ..sample() };
        let report = report("DIST", None, FilterScope::Profile, &answer);
        insta::assert_snapshot!(text(&report, Format::Short));
    }
}
