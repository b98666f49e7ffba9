//! Manual tunnels (nmi.md section 6.5).

use super::{Moment, OwnedSubject};
use crate::request::ManualView;
use nmi_proto::code::{
    AuthAlgorithm, AuthProtocol, EncapsulationMode, EncryptionAlgorithm, SaState, TunnelType,
};
use nmi_proto::display::{IpManualTunnel, IpTunnel, ManualRecord};
use nmi_proto::filter::Subject;
use nmi_proto::value::Time;
use stack::control::{AhIntegrity, BareCipher, EspIntegrity, EspSuite, Mode};

const fn state(view: &ManualView) -> SaState {
    if view.active { SaState::ACTIVE } else { SaState::INACTIVE }
}

pub(super) fn subject(view: &ManualView) -> OwnedSubject<'_> {
    OwnedSubject {
        tunnel_id: Some(format!("M{}", view.number)),
        rest: Subject {
            vpn_action: Some(&view.vpn_action),
            local: Some((view.local, view.local)),
            remote: Some((view.remote, view.remote)),
            state: Some(state(view)),
            current: true,
            ..Subject::default()
        },
    }
}

const fn integrity(algorithm: EspIntegrity) -> AuthAlgorithm {
    match algorithm {
        EspIntegrity::HmacSha256 => AuthAlgorithm::HMAC_SHA2_256_128,
        EspIntegrity::HmacSha384 => AuthAlgorithm::HMAC_SHA2_384_192,
        EspIntegrity::HmacSha512 => AuthAlgorithm::HMAC_SHA2_512_256,
        EspIntegrity::HmacSha1 => AuthAlgorithm::HMAC_SHA1_96,
        EspIntegrity::AesXcbc96 => AuthAlgorithm::AES128_XCBC_96,
        EspIntegrity::HmacMd5 => AuthAlgorithm::HMAC_MD5_96,
    }
}

const fn gmac(key_bits: u16) -> AuthAlgorithm {
    if key_bits == 128 { AuthAlgorithm::AES_GMAC_128 } else { AuthAlgorithm::AES_GMAC_256 }
}

/// What authenticates, and what encrypts with a key of so many bits.
fn protection(suite: EspSuite) -> (AuthProtocol, AuthAlgorithm, EncryptionAlgorithm, u16) {
    use {AuthProtocol as P, EncryptionAlgorithm as E};
    match suite {
        EspSuite::AesGcm16 { key_bits } => (P::ESP, AuthAlgorithm::NONE, E::AES_GCM_16, key_bits),
        EspSuite::ChaCha20Poly1305 => (P::ESP, AuthAlgorithm::NONE, E::CHACHA20_POLY1305, 256),
        EspSuite::AesGmac { key_bits } => (P::ESP, gmac(key_bits), E::NULL, 0),
        EspSuite::AesCbc { key_bits, integrity: i } => (P::ESP, integrity(i), E::AES_CBC, key_bits),
        EspSuite::AesCtr { key_bits, integrity: i } => (P::ESP, integrity(i), E::AES_CTR, key_bits),
        EspSuite::Null { integrity: i } => (P::ESP, integrity(i), E::NULL, 0),
        EspSuite::TripleDes { integrity: i } => (P::ESP, integrity(i), E::TRIPLE_DES_CBC, 192),
        EspSuite::Des { integrity: i } => (P::ESP, integrity(i), E::DES_CBC, 64),
        EspSuite::Ah { integrity: AhIntegrity::Mac(i) } => (P::AH, integrity(i), E::NONE, 0),
        EspSuite::Ah { integrity: AhIntegrity::AesGmac { key_bits } } => (P::AH, gmac(key_bits), E::NONE, 0),
        EspSuite::AhEsp { cipher, integrity: i, .. } => {
            let (encryption, bits) = match cipher {
                BareCipher::AesCbc { key_bits } => (E::AES_CBC, key_bits),
                BareCipher::AesCtr { key_bits } => (E::AES_CTR, key_bits),
                BareCipher::TripleDes => (E::TRIPLE_DES_CBC, 192),
                BareCipher::Des => (E::DES_CBC, 64),
            };
            (P::AH, integrity(i), encryption, bits)
        }
    }
}

impl Moment {
    pub(super) fn manual_tunnel(&self, view: &ManualView) -> ManualRecord {
        let (auth_protocol, auth_algorithm, encryption_algorithm, key_length) = protection(view.suite);
        let (in_encryption_spi, out_encryption_spi) = match view.suite {
            EspSuite::Ah { .. } => (0, 0),
            EspSuite::AhEsp { esp_spi_in, esp_spi_out, .. } => (esp_spi_in, esp_spi_out),
            _ => (view.spi_in, view.spi_out),
        };
        let mut tunnel = IpTunnel {
            id: format!("M{}", view.number).as_str().into(),
            vpn_action: view.vpn_action.as_str().into(),
            ipv6: view.local.is_ipv6(),
            fips140: false,
            tunnel_type: TunnelType::MANUAL,
            state: state(view),
            encap_mode: match view.mode {
                Mode::Tunnel => EncapsulationMode::TUNNEL,
                Mode::Transport => EncapsulationMode::TRANSPORT,
            },
            auth_protocol,
            auth_algorithm,
            encryption_algorithm,
            key_length,
            local_endpoint: view.local.into(),
            remote_endpoint: view.remote.into(),
            in_auth_spi: view.spi_in,
            out_auth_spi: view.spi_out,
            in_encryption_spi,
            out_encryption_spi,
            start_time: if view.active { Time::from_unix(view.since_unix) } else { Time::NONE },
            ..IpTunnel::default()
        };
        if view.mode == Mode::Tunnel {
            (tunnel.df_mode, tunnel.dscp_mode) = super::tunnel::outer_header(view.df, view.copy_dscp);
        }
        let sa = self.snapshot.sas.iter().find(|sa| view.active && sa.spi_in == view.spi_in);
        let usage = sa.map_or_else(IpManualTunnel::default, |sa| IpManualTunnel {
            out_packets: sa.out_packets,
            out_bytes: sa.out_bytes,
            in_packets: sa.in_packets,
            in_bytes: sa.in_bytes,
        });
        ManualRecord { tunnel, usage }
    }
}
