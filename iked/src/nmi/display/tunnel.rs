//! Dynamic tunnels, as the stack holds them and as IKE knows them (nmi.md sections 6.5 to 6.7).

use super::filter::wire_address;
use super::{Moment, OwnedSubject, wire_state};
use crate::ike::command::ActivationMethod;
use crate::ike::types::{Encryption, Integrity, Mode, TrafficSelector, TunnelId};
use crate::ike::view::{ChildView, Role, SaState};
use nmi_proto::code::{
    ActivationMethod as WireMethod, AuthAlgorithm, AuthProtocol, DfMode, DhGroup, DscpMode, DynExtState,
    EncapsulationMode, EncryptionAlgorithm, Role as WireRole, SaState as WireState, TunnelType,
};
use nmi_proto::display::{DynIkeRecord, DynStackRecord, IpDynTunnel, IpDynamicIke, IpDynamicStack, IpTunnel};
use nmi_proto::filter::Subject;
use stack::control::{self, SaView};
use std::net::SocketAddr;
use std::time::Duration;

/// ICMP and ICMPv6: a selector's ports are type and code (RFC 7296 section 3.13.1).
const ICMP: [u8; 2] = [1, 58];

pub(super) fn subject(child: &ChildView, current: bool) -> OwnedSubject<'_> {
    OwnedSubject {
        tunnel_id: Some(format!("Y{}", child.id.0)),
        rest: Subject {
            name: child.local_dyn_vpn_rule.as_deref(),
            vpn_action: Some(&child.vpn_action),
            local: Some((child.local.ip(), child.local.ip())),
            remote: Some((child.remote.ip(), child.remote.ip())),
            protocol: Some(protocol(child)),
            state: Some(wire_state(child.state)),
            current,
            ..Subject::default()
        },
    }
}

/// The protocol of a tunnel, as its record has it; a peer may name it on its own side alone.
fn protocol(child: &ChildView) -> u8 {
    let sides = [child.local_selectors.first(), child.remote_selectors.first()];
    sides.into_iter().flatten().map(|s| s.protocol).find(|p| *p != 0).unwrap_or_default()
}

pub(super) const fn integrity(i: Option<Integrity>) -> AuthAlgorithm {
    match i {
        None => AuthAlgorithm::NONE,
        Some(Integrity::HmacSha256) => AuthAlgorithm::HMAC_SHA2_256_128,
        Some(Integrity::HmacSha384) => AuthAlgorithm::HMAC_SHA2_384_192,
        Some(Integrity::HmacSha512) => AuthAlgorithm::HMAC_SHA2_512_256,
        Some(Integrity::HmacSha1) => AuthAlgorithm::HMAC_SHA1_96,
        Some(Integrity::AesXcbc96) => AuthAlgorithm::AES128_XCBC_96,
        Some(Integrity::HmacMd5) => AuthAlgorithm::HMAC_MD5_96,
        Some(Integrity::AesGmac(bits)) => gmac(bits),
    }
}

/// Algorithm and key length in bits.
pub(super) const fn encryption(e: Option<Encryption>) -> (EncryptionAlgorithm, u16) {
    match e {
        None | Some(Encryption::Absent) => (EncryptionAlgorithm::NONE, 0),
        Some(Encryption::AesCbc(bits)) => (EncryptionAlgorithm::AES_CBC, bits),
        Some(Encryption::AesGcm16(bits)) => (EncryptionAlgorithm::AES_GCM_16, bits),
        Some(Encryption::AesCtr(bits)) => (EncryptionAlgorithm::AES_CTR, bits),
        Some(Encryption::ChaCha20Poly1305) => (EncryptionAlgorithm::CHACHA20_POLY1305, 256),
        // What AES-GMAC does in ESP is authentication: see `authentication`.
        Some(Encryption::Null | Encryption::AesGmac(_)) => (EncryptionAlgorithm::NULL, 0),
        Some(Encryption::TripleDes) => (EncryptionAlgorithm::TRIPLE_DES_CBC, 192),
        Some(Encryption::Des) => (EncryptionAlgorithm::DES_CBC, 64),
    }
}

const fn gmac(bits: u16) -> AuthAlgorithm {
    match bits {
        128 => AuthAlgorithm::AES_GMAC_128,
        _ => AuthAlgorithm::AES_GMAC_256,
    }
}

/// What authenticates, and in which protocol.
const fn authentication(e: Option<Encryption>, i: Option<Integrity>) -> (AuthProtocol, AuthAlgorithm) {
    match e {
        None => (AuthProtocol::NONE, AuthAlgorithm::NONE),
        Some(Encryption::Absent) => (AuthProtocol::AH, integrity(i)),
        Some(Encryption::AesGmac(bits)) => (AuthProtocol::ESP, gmac(bits)),
        // ESP authenticates with an AEAD too; then there is no algorithm of its own.
        Some(_) => (AuthProtocol::ESP, integrity(i)),
    }
}

pub(super) const fn role(r: Role) -> WireRole {
    match r {
        Role::Initiator => WireRole::INITIATOR,
        Role::Responder => WireRole::RESPONDER,
    }
}

pub(super) fn seconds(d: Duration) -> u32 {
    u32::try_from(d.as_secs()).unwrap_or(u32::MAX)
}

/// Ports of IKE and of ESP in UDP as a peer uses them.
const IKE_PORTS: [u16; 2] = [500, 4500];

/// The NAT in front of a peer translates its ports too, as far as can be seen: one that happens to keep the port does
/// not show.
pub(super) const fn napt(nat: bool, peer: SocketAddr) -> bool {
    nat && peer.port() != IKE_PORTS[0] && peer.port() != IKE_PORTS[1]
}

/// The peer protects more than itself. Behind a NAT the address inside is another one, though it is the peer's own.
fn is_gateway(child: &ChildView) -> bool {
    let own = |s: &TrafficSelector| {
        s.addresses.low == s.addresses.high && (s.addresses.low == child.remote.ip() || child.nat_remote)
    };
    child.mode == Mode::Tunnel && !child.remote_selectors.iter().all(own)
}

impl Moment {
    /// What both views have in common.
    fn ip_tunnel(&self, child: &ChildView, tunnel_type: TunnelType) -> IpTunnel {
        let (encryption_algorithm, key_length) = encryption(child.encryption);
        let (auth_protocol, auth_algorithm) = authentication(child.encryption, child.integrity);
        let is_ah = child.encryption == Some(Encryption::Absent);
        IpTunnel {
            id: format!("Y{}", child.id.0).as_str().into(),
            vpn_action: child.vpn_action.as_str().into(),
            ipv6: child.local.is_ipv6(),
            fips140: false,
            tunnel_type,
            state: wire_state(child.state),
            encap_mode: match child.mode {
                Mode::Tunnel => EncapsulationMode::TUNNEL,
                Mode::Transport => EncapsulationMode::TRANSPORT,
            },
            auth_protocol,
            auth_algorithm,
            encryption_algorithm,
            key_length,
            local_endpoint: child.local.ip().into(),
            remote_endpoint: child.remote.ip().into(),
            // One ESP SA does both, so the SPIs are equal.
            in_auth_spi: child.spi_in,
            out_auth_spi: child.spi_out,
            in_encryption_spi: if is_ah { 0 } else { child.spi_in },
            out_encryption_spi: if is_ah { 0 } else { child.spi_out },
            start_time: self.time(child.installed),
            ..IpTunnel::default()
        }
    }

    /// Of several selectors the first is shown: the structure has room for one.
    fn dyn_tunnel(&self, child: &ChildView) -> IpDynTunnel {
        let mut d = IpDynTunnel {
            rule: child.local_dyn_vpn_rule.as_deref().unwrap_or_default().into(),
            ike_tunnel_id: format!("K{}", child.ike.0).as_str().into(),
            udp_encap: child.udp,
            local_nat: child.nat_local,
            remote_nat: child.nat_remote,
            remote_napt: napt(child.nat_remote, child.remote),
            remote_gateway: is_gateway(child),
            // Either side of an IKEv2 SA may start exchanges in it.
            can_initiate: true,
            generation: child.generation,
            ike_major: 2,
            ike_minor: 0,
            activation_method: match child.method {
                ActivationMethod::Command => WireMethod::COMMAND,
                ActivationMethod::Remote => WireMethod::REMOTE,
                ActivationMethod::OnDemand => WireMethod::ON_DEMAND,
                ActivationMethod::Takeover => WireMethod::TAKEOVER,
                ActivationMethod::Auto => WireMethod::AUTO,
            },
            dh_group: child.group.map_or(DhGroup::NONE, |g| DhGroup(g.number())),
            remote_udp_port: if child.udp { child.remote.port() } else { 0 },
            lifetime: seconds(child.lifetime),
            refresh_time: self.time(child.rekey_at),
            expire_time: self.time(child.expires_at),
            vpn_life_end: self.time(child.vpn_life_ends),
            lifesize: child.lifesize_bytes.unwrap_or_default(),
            // The life size is what the SA is refreshed at.
            refresh_size: child.lifesize_bytes.unwrap_or_default(),
            protocol: protocol(child),
            ..IpDynTunnel::default()
        };
        if let Some(local) = child.local_selectors.first() {
            let a = wire_address(local.addresses.low, local.addresses.high);
            (d.local_address_type, d.local_prefix, d.local_address, d.local_address_high) =
                (a.kind, a.prefix, a.low, a.high);
            if ICMP.contains(&local.protocol) {
                icmp(&mut d, local);
            } else {
                (d.local_port_low, d.local_port_high) = (local.port_low, local.port_high);
            }
        }
        if let Some(remote) = child.remote_selectors.first() {
            let a = wire_address(remote.addresses.low, remote.addresses.high);
            (d.remote_address_type, d.remote_prefix, d.remote_address, d.remote_address_high) =
                (a.kind, a.prefix, a.low, a.high);
            if !ICMP.contains(&remote.protocol) {
                (d.remote_port_low, d.remote_port_high) = (remote.port_low, remote.port_high);
            }
        }
        d
    }

    pub(super) fn stack_tunnel(&self, sa: u32, child: Option<u32>) -> DynStackRecord {
        let s = &self.snapshot;
        let sa = &s.sas[sa as usize];
        let Some(child) = child.map(|i| &s.children[i as usize]) else { return unknown_to_ike(sa) };
        let mut tunnel = self.ip_tunnel(child, TunnelType::STACK);
        if child.mode == Mode::Tunnel {
            (tunnel.df_mode, tunnel.dscp_mode) = outer_header(sa.df, sa.copy_dscp);
        }
        DynStackRecord {
            tunnel,
            dynamic: self.dyn_tunnel(child),
            usage: usage(sa, child.lifesize_bytes.is_some()),
            dist: self.child_dist(child),
        }
    }

    pub(super) fn ike_child(&self, child: u32) -> DynIkeRecord {
        let child = &self.snapshot.children[child as usize];
        let newest = self.newest_child.get(&child.id).copied().unwrap_or_default();
        let ike = IpDynamicIke {
            ext_state: match child.state {
                SaState::Pending => DynExtState::PENDING,
                SaState::InNegotiation => DynExtState::INIT,
                SaState::Active => DynExtState::DONE,
                SaState::Expired => DynExtState::EXPIRED,
                SaState::HalfClosed => DynExtState::HALF_CLOSED,
            },
            role: role(child.role),
            pending_activation: child.generation < newest && self.is_negotiating(child.id, newest),
            pending_deactivation: child.state == SaState::HalfClosed,
            filter_rule: child.rule.as_str().into(),
            ..IpDynamicIke::default()
        };
        DynIkeRecord {
            tunnel: self.ip_tunnel(child, TunnelType::IKE),
            dynamic: self.dyn_tunnel(child),
            ike,
            // IKEv2 negotiates traffic selectors; client IDs are IKEv1's.
            local_id: None,
            remote_id: None,
            dist: self.child_dist(child),
        }
    }

    fn is_negotiating(&self, id: TunnelId, generation: u32) -> bool {
        self.snapshot
            .children
            .iter()
            .any(|c| c.id == id && c.generation == generation && super::in_progress(c.state))
    }

    fn child_dist(&self, child: &ChildView) -> Option<nmi_proto::display::Dist> {
        let taken_over = child.method == ActivationMethod::Takeover;
        self.dist(child.local.ip(), taken_over, self.snapshot.cf_children.get(&child.id))
    }
}

fn icmp(d: &mut IpDynTunnel, s: &TrafficSelector) {
    let [type_low, code_low] = s.port_low.to_be_bytes();
    let [type_high, code_high] = s.port_high.to_be_bytes();
    (d.type_low, d.type_high, d.code_low, d.code_high) = (type_low, type_high, code_low, code_high);
}

/// Only tunnel mode has an outer header of its own (RFC 4301 section 8.1).
pub(super) const fn outer_header(df: control::DfMode, copy_dscp: bool) -> (DfMode, DscpMode) {
    let df = match df {
        control::DfMode::Copy => DfMode::COPIED,
        control::DfMode::Clear => DfMode::CLEARED,
        control::DfMode::Set => DfMode::SET,
    };
    (df, if copy_dscp { DscpMode::COPIED } else { DscpMode::CLEARED })
}

fn usage(sa: &SaView, has_lifesize: bool) -> IpDynamicStack {
    IpDynamicStack {
        out_packets: sa.out_packets,
        out_bytes: sa.out_bytes,
        in_packets: sa.in_packets,
        in_bytes: sa.in_bytes,
        current_size: if has_lifesize { sa.out_bytes.saturating_add(sa.in_bytes) } else { 0 },
        shadow: false,
    }
}

/// An SA that the stack holds and IKE does not (it was restarted, and has not removed it yet).
fn unknown_to_ike(sa: &SaView) -> DynStackRecord {
    DynStackRecord {
        tunnel: IpTunnel {
            id: format!("Y{}", sa.tunnel).as_str().into(),
            tunnel_type: TunnelType::STACK,
            state: WireState::ACTIVE,
            in_auth_spi: sa.spi_in,
            in_encryption_spi: sa.spi_in,
            ..IpTunnel::default()
        },
        usage: usage(sa, false),
        ..DynStackRecord::default()
    }
}
