//! IKE tunnels (nmi.md sections 6.8 and 6.9).

use super::tunnel::{encryption, integrity, napt, role, seconds};
use super::{Moment, OwnedSubject, count, in_progress, is_active, is_expired, wire_state};
use crate::ike::command::ActivationMethod;
use crate::ike::types::{Identity, Prf};
use crate::ike::view::{IkeProgress, IkeView, Role, SaState};
use nmi_proto::code::{AuthMethod, DhGroup, ExchangeMode, IkeExtState, NattLevel, Prf as WirePrf};
use nmi_proto::display::{IkeRecord, IkeTunnel, IkeTunnelStats};
use nmi_proto::filter::Subject;
use nmi_proto::identity::Identity as WireIdentity;

/// UDP port of IKE and ESP in UDP (RFC 3948, RFC 7296 section 2.23).
const NATT_PORT: u16 = 4500;

pub(super) fn subject(tunnel: &IkeView, current: bool) -> OwnedSubject<'_> {
    OwnedSubject {
        tunnel_id: Some(format!("K{}", tunnel.id.0)),
        rest: Subject {
            name: Some(&tunnel.rule),
            local: Some((tunnel.local.ip(), tunnel.local.ip())),
            remote: Some((tunnel.remote.ip(), tunnel.remote.ip())),
            state: Some(wire_state(tunnel.state)),
            current,
            ..Subject::default()
        },
    }
}

pub(super) fn identity(id: &Identity) -> WireIdentity {
    match id {
        Identity::Address(a) => WireIdentity::Address(*a),
        Identity::Fqdn(s) => WireIdentity::Fqdn(s.clone()),
        Identity::UserFqdn(s) => WireIdentity::UserFqdn(s.clone()),
        Identity::Dn(der) => WireIdentity::Dn(crate::ike::pki::dn_text(der)),
        Identity::KeyId(bytes) => WireIdentity::KeyId(bytes.clone()),
    }
}

impl Moment {
    pub(super) fn ike_tunnel(&self, index: u32, cascade: bool) -> IkeRecord {
        let v = &self.snapshot.ike[index as usize];
        let children = self.children_of.get(&v.id).map(Vec::as_slice).unwrap_or_default();
        IkeRecord {
            tunnel: self.ike_section(v),
            stats: self.ike_stats(v, children),
            local_id: v.local_id.as_ref().map(identity),
            remote_id: v.remote_id.as_ref().map(identity),
            dist: self.dist(v.local.ip(), self.taken_over(children), self.snapshot.cf_ike.get(&v.id)),
            cascade: cascade.then(|| children.iter().map(|i| self.ike_child(*i)).collect()),
        }
    }

    /// An IKE tunnel was made again, or goes on, for the sake of its children.
    fn taken_over(&self, children: &[u32]) -> bool {
        let taken = |i: &u32| self.snapshot.children[*i as usize].method == ActivationMethod::Takeover;
        children.iter().any(taken)
    }

    fn ike_section(&self, v: &IkeView) -> IkeTunnel {
        let (encryption_algorithm, key_length) = encryption(v.suite.map(|s| s.encryption));
        // IANA's numbers are those of the interface.
        let method = |m: crate::ike::wire::AuthMethod| AuthMethod(m.0);
        let unknown = (AuthMethod::UNKNOWN, AuthMethod::UNKNOWN);
        let (local_auth, remote_auth) = v.proofs.map_or(unknown, |(own, peer)| (method(own), method(peer)));
        IkeTunnel {
            ipv6: v.local.is_ipv6(),
            nat_allowed: v.nat_allowed,
            local_nat: v.nat_local,
            remote_nat: v.nat_remote,
            remote_napt: napt(v.nat_remote, v.remote),
            // A peer behind a NAT is reached only if the way was opened from its side, or by us through this very SA.
            can_initiate: !v.nat_remote || v.role == Role::Initiator,
            fips140: false,
            id: format!("K{}", v.id.0).as_str().into(),
            key_exchange_rule: v.rule.as_str().into(),
            key_exchange_action: v.action.as_str().into(),
            local_endpoint: v.local.ip().into(),
            remote_endpoint: v.remote.ip().into(),
            initiator_cookie: v.spi_i.to_be_bytes(),
            responder_cookie: v.spi_r.to_be_bytes(),
            state: wire_state(v.state),
            ext_state: match v.progress {
                IkeProgress::Init => IkeExtState::INIT,
                IkeProgress::WaitKe => IkeExtState::WAIT_SA,
                IkeProgress::WaitAuth => IkeExtState::WAIT_AUTH,
                IkeProgress::Done => IkeExtState::DONE,
                IkeProgress::Expired => IkeExtState::EXPIRED,
                IkeProgress::HalfClosed => IkeExtState::HALF_CLOSED,
            },
            role: role(v.role),
            exchange_mode: ExchangeMode::NOT_APPLICABLE,
            auth_algorithm: integrity(v.suite.and_then(|s| s.integrity)),
            encryption_algorithm,
            key_length,
            dh_group: v.suite.map_or(DhGroup::NONE, |s| DhGroup(s.group.number())),
            prf: v.suite.map_or(WirePrf::NONE, |s| match s.prf {
                Prf::HmacSha256 => WirePrf::HMAC_SHA2_256,
                Prf::HmacSha384 => WirePrf::HMAC_SHA2_384,
                Prf::HmacSha512 => WirePrf::HMAC_SHA2_512,
                Prf::HmacSha1 => WirePrf::HMAC_SHA1,
                Prf::HmacMd5 => WirePrf::HMAC_MD5,
                Prf::AesXcbc => WirePrf::AES128_XCBC,
            }),
            local_auth,
            remote_auth,
            natt_level: if v.nat_allowed { NattLevel::IKEV2 } else { NattLevel::NONE },
            ike_major: 2,
            ike_minor: 0,
            generation: v.generation,
            lifetime: seconds(v.lifetime),
            refresh_time: self.time(v.rekey_at),
            expire_time: self.time(v.expires_at),
            reauth_interval: v.reauth_interval.map_or(0, seconds),
            reauth_time: self.time(v.reauth_at),
            remote_udp_port: if v.local.port() == NATT_PORT { v.remote.port() } else { 0 },
            lifesize: 0,
            start_time: self.time(v.established),
            ..IkeTunnel::default()
        }
    }

    fn ike_stats(&self, v: &IkeView, children: &[u32]) -> IkeTunnelStats {
        let c = &v.counters;
        let number = |state: fn(SaState) -> bool| {
            count(children.iter().filter(|i| state(self.snapshot.children[**i as usize].state)).count())
        };
        IkeTunnelStats {
            bytes: c.bytes,
            phase2_active: number(is_active),
            phase2_in_progress: number(in_progress),
            phase2_expired: number(is_expired),
            phase2_local_activation_success: c.child_local_success,
            phase2_remote_activation_success: c.child_remote_success,
            phase2_local_activation_failure: c.child_local_failure,
            phase2_remote_activation_failure: c.child_remote_failure,
            phase1_retransmit: c.retransmits,
            phase1_replay: c.replays,
            phase1_invalid: c.invalid,
            phase1_auth_fail: c.auth_failures,
            phase2_retransmit: c.child_retransmits,
            phase2_replay: c.child_replays,
            phase2_invalid: c.child_invalid,
        }
    }
}
