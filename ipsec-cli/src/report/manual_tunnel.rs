//! `-m`: manual tunnels (ipsec-command.md section 8).

use super::dynamic_tunnel::{passthrough, protection, sa_state};
use super::heading::{Display, Heading};
use super::{Body, Cell, Entry, Report, address, field};
use nmi_proto::answer::Answer;
use nmi_proto::code::EncapsulationMode;
use nmi_proto::display::ManualRecord;
use nmi_proto::value::Address;

/// The report.
pub(crate) fn report(stack: &str, answer: &Answer<ManualRecord>) -> Report {
    Report {
        heading: Heading {
            stack: stack.to_owned(),
            time: answer.timestamp,
            primary: "Manual tunnel",
            function: "Display",
            display: Some(Display { source: "Stack", scope: "n/a", total: Some(answer.total) }),
            more: Vec::new(),
        },
        body: Body::Entries(answer.records.iter().map(entry).collect()),
    }
}

fn entry(record: &ManualRecord) -> Entry {
    let (t, u) = (&record.tunnel, &record.usage);
    let encapsulation = match t.encap_mode {
        EncapsulationMode::TUNNEL => Cell::from("Tunnel"),
        EncapsulationMode::TRANSPORT => "Transport".into(),
        other => other.to_string().into(),
    };
    let mut entry = Entry::default();
    entry
        .row([
            field("TunnelID", &t.id),
            field("VpnActionName", &t.vpn_action),
            field("State", sa_state(t.state)),
        ])
        .row([
            field("HowToEncap", encapsulation),
            field("LocalEndPoint", end(t.local_endpoint, t.ipv6)),
            field("RemoteEndPoint", end(t.remote_endpoint, t.ipv6)),
        ]);
    protection(&mut entry, t, None);
    entry
        .row([
            field("OutboundPackets", u.out_packets),
            field("OutboundBytes", u.out_bytes),
            field("InboundPackets", u.in_packets),
            field("InboundBytes", u.in_bytes),
        ])
        .row(passthrough(t));
    entry
}

/// An endpoint that is not one address is that of each packet.
fn end(endpoint: Address, ipv6: bool) -> Cell {
    address(endpoint, ipv6).map_or_else(|| "Any".into(), Cell::from)
}

#[cfg(test)]
mod tests {
    use super::super::layout::{json, text};
    use super::super::tests::NOW;
    use super::*;
    use crate::request::Format;
    use nmi_proto::code::{
        AuthAlgorithm, AuthProtocol, DfMode, DscpMode, EncryptionAlgorithm, SaState, TunnelType,
    };
    use nmi_proto::display::{IpManualTunnel, IpTunnel};

    #[test]
    fn a_tunnel_and_none() {
        let tunnel = IpTunnel {
            id: "M1".into(),
            vpn_action: "staticLab".into(),
            tunnel_type: TunnelType::MANUAL,
            state: SaState::INACTIVE,
            encap_mode: EncapsulationMode::TUNNEL,
            auth_protocol: AuthProtocol::ESP,
            auth_algorithm: AuthAlgorithm::HMAC_SHA1,
            encryption_algorithm: EncryptionAlgorithm::AES_CBC,
            key_length: 128,
            local_endpoint: std::net::IpAddr::from([192, 0, 2, 10]).into(),
            remote_endpoint: std::net::IpAddr::from([203, 0, 113, 30]).into(),
            in_auth_spi: 4097,
            out_auth_spi: 4098,
            in_encryption_spi: 4097,
            out_encryption_spi: 4098,
            df_mode: DfMode::COPIED,
            dscp_mode: DscpMode::COPIED,
            ..IpTunnel::default()
        };
        let open = IpTunnel { remote_endpoint: Address::default(), ..tunnel.clone() };
        assert_eq!(end(open.local_endpoint, false), Cell::from(std::net::IpAddr::from([192, 0, 2, 10])));
        assert_eq!(end(open.remote_endpoint, false), Cell::from("Any"));
        let one = ManualRecord { tunnel, usage: IpManualTunnel::default() };
        let answer = Answer { records: vec![one], total: 1, timestamp: NOW };
        insta::assert_snapshot!("manual_detail", text(&report("TCPLAB", &answer), Format::Detail));
        insta::assert_snapshot!("manual_json", json(&report("TCPLAB", &answer)));
        let none = Answer { records: vec![], total: 0, timestamp: NOW };
        assert!(text(&report("TCPLAB", &none), Format::Detail).ends_with("\n\n0 entries selected\n"));
    }
}
