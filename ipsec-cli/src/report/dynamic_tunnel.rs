//! `-y`: dynamic tunnels, as the stack holds them and as IKE knows them (ipsec-command.md section 7).

use super::heading::{Display, Heading};
use super::{
    Body, Cell, Entry, Field, Report, encryption, extension_fields, field, has_ports, has_types, integrity,
    protocol, range, sub, unless_zero,
};
use nmi_proto::answer::Answer;
use nmi_proto::code::{
    ActivationMethod, AddressType, AuthProtocol, DfMode, DhGroup, DscpMode, DynExtState, EncapsulationMode,
    SaState,
};
use nmi_proto::display::{DynIkeRecord, DynStackRecord, IpDynTunnel, IpTunnel};
use nmi_proto::value::{Address, Time};
use std::net::Ipv4Addr;

fn heading<R>(stack: &str, source: &'static str, all: bool, answer: &Answer<R>) -> Heading {
    Heading {
        stack: stack.to_owned(),
        time: answer.timestamp,
        primary: "Dynamic tunnel",
        function: "Display",
        display: Some(Display {
            source,
            scope: if all { "All" } else { "Current" },
            total: Some(answer.total),
        }),
        more: Vec::new(),
    }
}

/// What the stack holds.
pub(crate) fn stack_report(stack: &str, all: bool, shadows: bool, answer: &Answer<DynStackRecord>) -> Report {
    let entries = answer.records.iter().map(|r| stack_entry(r, answer.timestamp)).collect();
    let function = if shadows { "Display (shadows)" } else { "Display" };
    Report {
        heading: Heading { function, ..heading(stack, "Stack", all, answer) },
        body: Body::Entries(entries),
    }
}

/// What IKE knows.
pub(crate) fn ike_report(stack: &str, all: bool, answer: &Answer<DynIkeRecord>) -> Report {
    let entries = answer.records.iter().map(ike_entry).collect();
    Report { heading: heading(stack, "IKED", all, answer), body: Body::Entries(entries) }
}

fn stack_entry(record: &DynStackRecord, now: Time) -> Entry {
    let (t, d, u) = (&record.tunnel, &record.dynamic, &record.usage);
    let mut entry = Entry::default();
    first_rows(&mut entry, t, d, None, sa_state(t.state));
    protection(&mut entry, t, None);
    traffic(&mut entry, d);
    entry
        .row([
            field("OutboundPackets", u.out_packets),
            field("OutboundBytes", u.out_bytes),
            field("InboundPackets", u.in_packets),
            field("InboundBytes", u.in_bytes),
        ])
        .row(lifesize(d).into_iter().chain([field("CurrentByteCount", Cell::Unit(u.current_size, 'b'))]))
        .row([
            field("LifetimeRefresh", d.refresh_time),
            field("LifetimeExpires", d.expire_time),
            field("CurrentTime", now),
            field("VPNLifeExpires", d.vpn_life_end),
        ])
        .row(nat_traversal(d, Cell::None, Cell::None))
        .row(passthrough(t))
        .row(extension_fields(record.dist.as_ref()));
    entry
}

/// What the outer header has of the inner one.
pub(super) fn passthrough(t: &IpTunnel) -> [Field; 2] {
    [
        field(
            "PassthroughDF",
            match t.df_mode {
                DfMode::COPIED => Cell::from("Yes"),
                DfMode::CLEARED => Cell::from("Clear"),
                DfMode::SET => Cell::from("Set"),
                _ => Cell::None,
            },
        ),
        field(
            "PassthroughDSCP",
            match t.dscp_mode {
                DscpMode::COPIED => Cell::from("Yes"),
                DscpMode::CLEARED => Cell::from("No"),
                _ => Cell::None,
            },
        ),
    ]
}

/// An entry of the IKE view, also below an IKE tunnel.
pub(crate) fn ike_entry(record: &DynIkeRecord) -> Entry {
    let (t, d, i) = (&record.tunnel, &record.dynamic, &record.ike);
    let mut entry = Entry::default();
    let state = if i.ext_state == DynExtState::UNKNOWN { Cell::None } else { i.ext_state.to_string().into() };
    first_rows(&mut entry, t, d, Some(Cell::from(&i.filter_rule)), state);
    let group: Cell = if d.dh_group == DhGroup::NONE { "None".into() } else { d.dh_group.0.into() };
    protection(&mut entry, t, Some(group));
    traffic(&mut entry, d);
    let oa = |received: bool, address: [u8; 4]| -> Cell {
        received.then(|| Ipv4Addr::from(address).to_string()).into()
    };
    entry
        .row(lifesize(d))
        .row([
            field("LifetimeRefresh", d.refresh_time),
            field("LifetimeExpires", d.expire_time),
            field("VPNLifeExpires", d.vpn_life_end),
        ])
        .row(nat_traversal(
            d,
            oa(i.source_nat_oa, i.source_oa_address),
            oa(i.destination_nat_oa, i.destination_oa_address),
        ))
        .row([
            field("PendingNewActivation", i.pending_activation),
            field("DeactivationPending", i.pending_deactivation),
        ])
        .row(extension_fields(record.dist.as_ref()));
    entry
}

fn first_rows(entry: &mut Entry, t: &IpTunnel, d: &IpDynTunnel, filter_rule: Option<Cell>, state: Cell) {
    entry
        .row([
            field("TunnelID", &t.id),
            field("Generation", d.generation),
            field("IKEVersion", format!("{}.{}", d.ike_major, d.ike_minor)),
            field("ParentIKETunnelID", &d.ike_tunnel_id),
        ])
        .row(
            filter_rule
                .into_iter()
                .map(|rule| field("IpFilterRule", rule))
                .chain([field("VpnActionName", &t.vpn_action), field("LocalDynVpnRule", &d.rule)]),
        )
        .row([
            field("ActivationMethod", method(d.activation_method)),
            field("State", state),
            field(
                "HowToEncap",
                match t.encap_mode {
                    EncapsulationMode::TUNNEL => Cell::from("Tunnel"),
                    EncapsulationMode::TRANSPORT => Cell::from("Transport"),
                    _ => Cell::None,
                },
            ),
        ])
        .row([field("LocalEndPoint", t.local_endpoint.ip(t.ipv6))])
        .row([field("RemoteEndPoint", t.remote_endpoint.ip(t.ipv6))]);
    let side = |names: [&'static str; 3],
                kind: AddressType,
                low: Address,
                prefix: u8,
                high: Address|
     -> [Field; 3] {
        let base = if kind == AddressType::ALL { Cell::from("All") } else { low.ip(t.ipv6).into() };
        [
            field(names[0], base),
            field(names[1], (kind == AddressType::PREFIX).then_some(prefix)),
            field(names[2], (kind == AddressType::RANGE).then(|| high.ip(t.ipv6))),
        ]
    };
    let local = ["LocalAddressBase", "LocalAddressPrefix", "LocalAddressRange"];
    let remote = ["RemoteAddressBase", "RemoteAddressPrefix", "RemoteAddressRange"];
    entry
        .row(side(local, d.local_address_type, d.local_address, d.local_prefix, d.local_address_high))
        .row(side(remote, d.remote_address_type, d.remote_address, d.remote_prefix, d.remote_address_high));
}

pub(super) fn protection(entry: &mut Entry, t: &IpTunnel, group: Option<Cell>) {
    entry
        .row([
            field(
                "HowToAuth",
                match t.auth_protocol {
                    AuthProtocol::NONE => Cell::None,
                    other => other.to_string().into(),
                },
            ),
            sub("AuthAlgorithm", integrity(t.auth_algorithm, t.encryption_algorithm)),
            sub("AuthInboundSpi", spi(t.in_auth_spi)),
            sub("AuthOutboundSpi", spi(t.out_auth_spi)),
        ])
        .row([
            field("HowToEncrypt", encryption(t.encryption_algorithm)),
            sub("KeyLength", unless_zero(t.key_length)),
            sub("EncryptInboundSpi", spi(t.in_encryption_spi)),
            sub("EncryptOutboundSpi", spi(t.out_encryption_spi)),
        ]);
    if let Some(group) = group {
        entry.row([field("DiffieHellmanGroup", group)]);
    }
}

fn traffic(entry: &mut Entry, d: &IpDynTunnel) {
    let name = if d.protocol == 0 { "ALL(0)".to_owned() } else { protocol(d.protocol) };
    let ports = |low: u16, high: u16| {
        if d.protocol == 0 || has_ports(d.protocol) {
            range(low, high, low == 0 && high == u16::MAX)
        } else {
            (Cell::None, Cell::None)
        }
    };
    let (local, remote) =
        (ports(d.local_port_low, d.local_port_high), ports(d.remote_port_low, d.remote_port_high));
    let bytes = |low: u8, high: u8| {
        if has_types(d.protocol) || d.protocol == 135 {
            range(low.into(), high.into(), low == 0 && high == u8::MAX)
        } else {
            (Cell::None, Cell::None)
        }
    };
    let (kind, code) = (bytes(d.type_low, d.type_high), bytes(d.code_low, d.code_high));
    entry
        .row([
            field("Protocol", name),
            field("LocalPort", local.0),
            field("LocalPortRange", local.1),
            field("RemotePort", remote.0),
            field("RemotePortRange", remote.1),
        ])
        .row([
            field("Type", kind.0),
            field("TypeRange", kind.1),
            field("Code", code.0),
            field("CodeRange", code.1),
        ]);
}

fn lifesize(d: &IpDynTunnel) -> [Field; 2] {
    [
        field("Lifesize", Cell::Unit(d.lifesize / 1024, 'K')),
        field("LifesizeRefresh", Cell::Unit(d.refresh_size / 1024, 'K')),
    ]
}

/// The block of NAT traversal; whether the peer is a gateway or z/OS is known only where a NAT made it matter.
fn nat_traversal(d: &IpDynTunnel, source_oa: Cell, destination_oa: Cell) -> [Field; 10] {
    let nat = d.local_nat || d.remote_nat;
    let if_nat = |flag: bool| nat.then_some(flag);
    [
        sub("UdpEncapMode", d.udp_encap).titled("NAT Traversal Topology:"),
        sub("LclNATDetected", d.local_nat),
        sub("RmtNATDetected", d.remote_nat),
        sub("RmtNAPTDetected", d.remote_napt),
        sub("RmtIsGw", if_nat(d.remote_gateway)),
        sub("RmtIsZOS", if_nat(d.remote_zos)),
        sub("zOSCanInitP2SA", if_nat(d.can_initiate)),
        sub("RmtUdpEncapPort", unless_zero(d.remote_udp_port)),
        sub("SrcNATOARcvd", source_oa),
        sub("DstNATOARcvd", destination_oa),
    ]
}

fn spi(spi: u32) -> Cell {
    if spi == 0 { Cell::None } else { Cell::Spi(spi) }
}

pub(super) fn sa_state(state: SaState) -> Cell {
    Cell::from(match state {
        SaState::INACTIVE => "Inactive",
        SaState::PENDING => "Pending",
        SaState::IN_NEGOTIATION => "In negotiation",
        SaState::ACTIVE => "Active",
        SaState::EXPIRED => "Expired",
        SaState::HALF_CLOSED => "Half-closed",
        other => return other.to_string().into(),
    })
}

fn method(method: ActivationMethod) -> Cell {
    Cell::from(match method {
        ActivationMethod::COMMAND => "USER",
        ActivationMethod::REMOTE => "REMOTE",
        ActivationMethod::ON_DEMAND => "ONDEMAND",
        ActivationMethod::TAKEOVER => "TAKEOVER",
        ActivationMethod::AUTO => "AUTOACT",
        _ => return Cell::None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::layout::{json, text};
    use super::super::tests::NOW;
    use super::*;
    use crate::request::Format;
    use nmi_proto::code::{CfRecord, EncryptionAlgorithm};
    use nmi_proto::display::{Dist, IpDynamicIke, IpDynamicStack};
    use std::net::IpAddr;

    fn tunnel() -> IpTunnel {
        IpTunnel {
            id: "Y7".into(),
            vpn_action: "strongTransport".into(),
            state: SaState::ACTIVE,
            encap_mode: EncapsulationMode::TRANSPORT,
            auth_protocol: AuthProtocol::ESP,
            encryption_algorithm: EncryptionAlgorithm::AES_GCM_16,
            key_length: 256,
            local_endpoint: IpAddr::from([192, 0, 2, 80]).into(),
            remote_endpoint: IpAddr::from([203, 0, 113, 20]).into(),
            in_auth_spi: 0xAB5D_38F3,
            out_auth_spi: 0x46F5_32EA,
            in_encryption_spi: 0xAB5D_38F3,
            out_encryption_spi: 0x46F5_32EA,
            ..IpTunnel::default()
        }
    }
    fn dynamic() -> IpDynTunnel {
        IpDynTunnel {
            ike_tunnel_id: "K3".into(),
            generation: 1,
            ike_major: 2,
            activation_method: ActivationMethod::REMOTE,
            protocol: 6,
            local_address_type: AddressType::SINGLE,
            remote_address_type: AddressType::SINGLE,
            local_address: IpAddr::from([192, 0, 2, 80]).into(),
            remote_address: IpAddr::from([203, 0, 113, 20]).into(),
            local_port_low: 443,
            local_port_high: 443,
            remote_port_high: u16::MAX,
            refresh_time: Time(NOW.0 + 2_700),
            expire_time: Time(NOW.0 + 3_000),
            vpn_life_end: Time(NOW.0 + 86_400),
            ..IpDynTunnel::default()
        }
    }

    pub(crate) fn ike_sample() -> DynIkeRecord {
        DynIkeRecord {
            tunnel: IpTunnel { encap_mode: EncapsulationMode::TUNNEL, ..tunnel() },
            dynamic: IpDynTunnel {
                rule: "branchNet".into(),
                local_nat: true,
                udp_encap: true,
                remote_udp_port: 4500,
                protocol: 1,
                type_low: 8,
                type_high: 8,
                code_high: 255,
                local_address_type: AddressType::PREFIX,
                local_prefix: 25,
                dh_group: DhGroup::GROUP_31,
                activation_method: ActivationMethod::COMMAND,
                ..dynamic()
            },
            ike: IpDynamicIke {
                ext_state: DynExtState::DONE,
                filter_rule: "branch".into(),
                source_nat_oa: true,
                source_oa_address: [10, 0, 0, 1],
                ..IpDynamicIke::default()
            },
            ..DynIkeRecord::default()
        }
    }

    fn stack_sample() -> Answer<DynStackRecord> {
        let record = DynStackRecord {
            tunnel: tunnel(),
            dynamic: dynamic(),
            usage: IpDynamicStack {
                out_packets: 118,
                out_bytes: 96_412,
                in_packets: 131,
                in_bytes: 20_977,
                ..IpDynamicStack::default()
            },
            dist: Some(Dist {
                dvipa: true,
                cf_record: CfRecord::STORED,
                epoch: 3,
                owner: "DIST".into(),
                ..Dist::default()
            }),
        };
        let product = DynStackRecord { dist: None, ..record.clone() };
        Answer { records: vec![record, product], total: 2, timestamp: NOW }
    }

    #[test]
    fn stack_detail() {
        insta::assert_snapshot!(text(&stack_report("DIST", false, false, &stack_sample()), Format::Detail));
    }
    #[test]
    fn stack_short() {
        insta::assert_snapshot!(text(&stack_report("DIST", false, false, &stack_sample()), Format::Short));
    }
    #[test]
    fn stack_json() {
        insta::assert_snapshot!(json(&stack_report("DIST", false, false, &stack_sample())));
    }
    #[test]
    fn ike_detail() {
        let answer = Answer { records: vec![ike_sample()], total: 1, timestamp: NOW };
        insta::assert_snapshot!(text(&ike_report("DIST", true, &answer), Format::Detail));
    }
}
