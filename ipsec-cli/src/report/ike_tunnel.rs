//! `-k`: IKE tunnels (ipsec-command.md section 6).

use super::dynamic_tunnel;
use super::extension_fields;
use super::heading::{Display, Heading};
use super::{Body, Cell, Entry, Report, encryption, field, integrity, unless_zero};
use nmi_proto::answer::Answer;
use nmi_proto::code::{AuthMethod, ExchangeMode, IkeExtState, NattLevel, Prf, Role};
use nmi_proto::display::IkeRecord;

/// The report.
pub(crate) fn report(stack: &str, all: bool, cascade: bool, answer: &Answer<IkeRecord>) -> Report {
    Report {
        heading: Heading {
            stack: stack.to_owned(),
            time: answer.timestamp,
            primary: "IKE tunnel",
            function: if cascade { "Display (cascade)" } else { "Display" },
            display: Some(Display {
                source: "IKED",
                scope: if all { "All" } else { "Current" },
                total: None,
            }),
            more: Vec::new(),
        },
        body: Body::Entries(answer.records.iter().map(entry).collect()),
    }
}

fn entry(record: &IkeRecord) -> Entry {
    let t = &record.tunnel;
    let mut entry = Entry::default();
    entry
        .row([
            field("TunnelID", &t.id),
            field("Generation", t.generation),
            field("IKEVersion", format!("{}.{}", t.ike_major, t.ike_minor)),
        ])
        .row([field("KeyExchangeRuleName", &t.key_exchange_rule)])
        .row([field("KeyExchangeActionName", &t.key_exchange_action)])
        .row([field("LocalEndPoint", t.local_endpoint.ip(t.ipv6))])
        .row([
            field("LocalIDType", record.local_id.as_ref().map(|id| id.id_type().to_string())),
            field("LocalID", record.local_id.as_ref()),
        ])
        .row([field("RemoteEndPoint", t.remote_endpoint.ip(t.ipv6))])
        .row([
            field("RemoteIDType", record.remote_id.as_ref().map(|id| id.id_type().to_string())),
            field("RemoteID", record.remote_id.as_ref()),
        ])
        .row([
            field(
                "ExchangeMode",
                match t.exchange_mode {
                    ExchangeMode::MAIN => Cell::from("Main"),
                    ExchangeMode::AGGRESSIVE => Cell::from("Aggressive"),
                    _ => Cell::None,
                },
            ),
            field(
                "State",
                if t.ext_state == IkeExtState::UNKNOWN { Cell::None } else { t.ext_state.to_string().into() },
            ),
        ])
        .row([
            field("AuthenticationAlgorithm", integrity(t.auth_algorithm, t.encryption_algorithm)),
            field("EncryptionAlgorithm", encryption(t.encryption_algorithm)),
            field("KeyLength", unless_zero(t.key_length)),
        ])
        .row([
            field(
                "PseudoRandomFunction",
                if t.prf == Prf::NONE { Cell::None } else { t.prf.to_string().into() },
            ),
            field("DiffieHellmanGroup", unless_zero(t.dh_group.0)),
        ])
        .row([
            field("LocalAuthenticationMethod", method(t.local_auth)),
            field("RemoteAuthenticationMethod", method(t.remote_auth)),
        ])
        .row([
            field("InitiatorCookie", cookie(t.initiator_cookie)),
            field("ResponderCookie", cookie(t.responder_cookie)),
        ])
        .row([
            field("Lifesize", Cell::Unit(t.lifesize / 1024, 'K')),
            field("CurrentByteCount", Cell::Unit(record.stats.bytes, 'b')),
        ])
        .row([
            field("Lifetime", Cell::Unit((t.lifetime / 60).into(), 'm')),
            field("LifetimeRefresh", t.refresh_time),
            field("LifetimeExpires", t.expire_time),
        ])
        .row([
            field("ReauthInterval", Cell::Unit((t.reauth_interval / 60).into(), 'm')),
            field("ReauthTime", t.reauth_time),
        ])
        .row([
            field(
                "Role",
                match t.role {
                    Role::INITIATOR => Cell::from("Initiator"),
                    Role::RESPONDER => Cell::from("Responder"),
                    other => other.to_string().into(),
                },
            ),
            field("AssociatedDynamicTunnels", record.stats.phase2_active),
        ])
        .row([
            field(
                "NATTSupportLevel",
                match t.natt_level {
                    NattLevel::NONE => Cell::from("None"),
                    NattLevel::RFC3947_DRAFT_2 => Cell::from("RFCD2"),
                    NattLevel::RFC3947_DRAFT_3 => Cell::from("RFCD3"),
                    NattLevel::RFC3947 => Cell::from("RFC"),
                    NattLevel::RFC3947_ZOS => Cell::from("zOS"),
                    NattLevel::IKEV2 => Cell::from("IKEv2"),
                    other => other.to_string().into(),
                },
            ),
            field("NATInFrntLclScEndPnt", t.local_nat),
            field("NATInFrntRmtScEndPnt", t.remote_nat),
            field("zOSCanInitiateP1SA", t.can_initiate),
            field("AllowNat", t.nat_allowed),
            field("RmtNAPTDetected", t.remote_napt),
            field("RmtUdpEncapPort", unless_zero(t.remote_udp_port)),
        ]);
    entry.row(extension_fields(record.dist.as_ref()));
    entry.below = record.cascade.iter().flatten().map(dynamic_tunnel::ike_entry).collect();
    entry
}

fn method(method: AuthMethod) -> Cell {
    Cell::from(match method {
        AuthMethod::UNKNOWN => return Cell::None,
        AuthMethod::PRE_SHARED_KEY => "PresharedKey",
        AuthMethod::RSA_SIGNATURE => "RsaSignature",
        AuthMethod::DIGITAL_SIGNATURE => "DigitalSignature",
        other => return other.to_string().into(),
    })
}

fn cookie(bytes: [u8; 8]) -> Cell {
    Cell::Text(format!("0x{:016X}", u64::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::super::layout::{json, text};
    use super::super::tests::NOW;
    use super::*;
    use crate::request::Format;
    use nmi_proto::code::{AuthAlgorithm, DhGroup, EncryptionAlgorithm, SaState};
    use nmi_proto::display::{IkeTunnel, IkeTunnelStats};
    use nmi_proto::identity::Identity;
    use nmi_proto::value::Time;
    use std::net::IpAddr;

    fn sample() -> Answer<IkeRecord> {
        let tunnel = IkeTunnel {
            id: "K3".into(),
            key_exchange_rule: "kxDvipa".into(),
            key_exchange_action: "kxStrong".into(),
            local_endpoint: IpAddr::from([192, 0, 2, 80]).into(),
            remote_endpoint: IpAddr::from([203, 0, 113, 20]).into(),
            initiator_cookie: 0x5D1E_60C2_A97F_3B84_u64.to_be_bytes(),
            responder_cookie: 0x0A44_F713_9BC8_E2D5_u64.to_be_bytes(),
            state: SaState::ACTIVE,
            ext_state: IkeExtState::DONE,
            role: Role::RESPONDER,
            auth_algorithm: AuthAlgorithm::HMAC_SHA2_256_128,
            encryption_algorithm: EncryptionAlgorithm::AES_CBC,
            key_length: 256,
            dh_group: DhGroup::GROUP_19,
            prf: Prf::HMAC_SHA2_256,
            local_auth: AuthMethod::PRE_SHARED_KEY,
            remote_auth: AuthMethod::PRE_SHARED_KEY,
            ike_major: 2,
            generation: 1,
            lifetime: 480 * 60,
            refresh_time: Time(NOW.0 + 26_000),
            expire_time: Time(NOW.0 + 28_800),
            reauth_interval: 720 * 60,
            reauth_time: Time(NOW.0 + 43_200),
            can_initiate: true,
            ..IkeTunnel::default()
        };
        let done = IkeRecord {
            tunnel,
            stats: IkeTunnelStats { bytes: 1184, phase2_active: 1, ..IkeTunnelStats::default() },
            local_id: Some(Identity::Fqdn("shop.example.org".into())),
            remote_id: Some(Identity::KeyId(b"\x1b[31m a key id of many bytes".to_vec())),
            ..IkeRecord::default()
        };
        let begun = IkeRecord {
            tunnel: IkeTunnel {
                id: "K4".into(),
                ext_state: IkeExtState::WAIT_KE,
                role: Role::INITIATOR,
                ike_major: 2,
                generation: 1,
                ..IkeTunnel::default()
            },
            cascade: Some(vec![dynamic_tunnel::tests::ike_sample()]),
            ..IkeRecord::default()
        };
        Answer { records: vec![done, begun], total: 2, timestamp: NOW }
    }

    #[test]
    fn detail() {
        insta::assert_snapshot!(text(&report("DIST", false, false, &sample()), Format::Detail));
    }
    #[test]
    fn short() {
        insta::assert_snapshot!(text(&report("DIST", true, true, &sample()), Format::Short));
    }
    #[test]
    fn in_json() {
        insta::assert_snapshot!(json(&report("DIST", false, true, &sample())));
    }
}
