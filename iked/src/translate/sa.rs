//! A child SA in the words of the stack.

use crate::ike::event::ChildInstall;
use crate::ike::types::{Encryption, Integrity, Mode, TrafficSelector};
use stack::control::{
    AddressRange, AhIntegrity, Continued, DfMode, EspIntegrity, EspSuite, KeyBytes, Mode as StackMode,
    PortRange, ReplaySnapshot, SaPair, Selector,
};

/// Replay window of every SA in packets: many cores and paths reorder widely.
const REPLAY_WINDOW: u32 = 1024;

/// What a stack installs for a child SA. `outer`: DF bit, and whether the DSCP is copied.
#[must_use]
pub fn sa_pair(child: ChildInstall, (df, copy_dscp): (DfMode, bool)) -> SaPair {
    let ChildInstall { mut key_in, mut key_out, .. } = child;
    SaPair {
        tunnel: child.tunnel.0,
        generation: child.generation,
        ike_tunnel: child.ike.0,
        spi_in: child.spi_in,
        spi_out: child.spi_out,
        local: child.local.ip(),
        remote: child.remote.ip(),
        udp: child.udp.then(|| (child.local.port(), child.remote.port())),
        mode: match child.mode {
            Mode::Tunnel => StackMode::Tunnel,
            Mode::Transport => StackMode::Transport,
        },
        suite: suite(child.encryption, child.integrity),
        // Moved, not copied: the bytes stay in one place and are wiped there.
        key_in: KeyBytes(std::mem::take(&mut key_in.0)),
        key_out: KeyBytes(std::mem::take(&mut key_out.0)),
        esn: child.esn,
        replay_window: REPLAY_WINDOW,
        local_selectors: child.local_selectors.iter().map(selector).collect(),
        remote_selectors: child.remote_selectors.iter().map(selector).collect(),
        rule: child.rule,
        outbound_active: child.outbound_active,
        df,
        copy_dscp,
        soft_bytes: child.soft_bytes,
        hard_bytes: child.hard_bytes,
        ceiling_of: child.outlives.then(|| child.local.ip()),
        continued: child.continued.map(|c| Continued {
            next_sequence: c.next_sequence,
            replay: c.replay.map(|r| ReplaySnapshot { highest: r.highest, seen: r.seen }),
        }),
    }
}

fn suite(encryption: Encryption, integrity: Option<Integrity>) -> EspSuite {
    let gmac = match integrity {
        Some(Integrity::AesGmac(key_bits)) => Some(AhIntegrity::AesGmac { key_bits }),
        _ => None,
    };
    let integrity = match integrity {
        Some(Integrity::HmacSha384) => EspIntegrity::HmacSha384,
        Some(Integrity::HmacSha512) => EspIntegrity::HmacSha512,
        Some(Integrity::HmacSha1) => EspIntegrity::HmacSha1,
        Some(Integrity::AesXcbc96) => EspIntegrity::AesXcbc96,
        Some(Integrity::HmacMd5) => EspIntegrity::HmacMd5,
        // What is no AEAD always has one: suites without are not sound. AES-GMAC is AH's, below.
        Some(Integrity::HmacSha256 | Integrity::AesGmac(_)) | None => EspIntegrity::HmacSha256,
    };
    match encryption {
        Encryption::AesGcm16(key_bits) => EspSuite::AesGcm16 { key_bits },
        Encryption::AesCbc(key_bits) => EspSuite::AesCbc { key_bits, integrity },
        Encryption::AesCtr(key_bits) => EspSuite::AesCtr { key_bits, integrity },
        Encryption::AesGmac(key_bits) => EspSuite::AesGmac { key_bits },
        Encryption::ChaCha20Poly1305 => EspSuite::ChaCha20Poly1305,
        Encryption::Null => EspSuite::Null { integrity },
        Encryption::TripleDes => EspSuite::TripleDes { integrity },
        Encryption::Des => EspSuite::Des { integrity },
        Encryption::Absent => EspSuite::Ah { integrity: gmac.unwrap_or(AhIntegrity::Mac(integrity)) },
    }
}

fn selector(ts: &TrafficSelector) -> Selector {
    Selector {
        addresses: AddressRange { low: ts.addresses.low, high: ts.addresses.high },
        protocol: (ts.protocol != 0).then_some(ts.protocol),
        ports: PortRange { low: ts.port_low, high: ts.port_high },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ike::types::{IkeTunnelId, Secret, TunnelId};

    #[test]
    fn an_sa_pair_says_what_the_engine_said() {
        let range = crate::ike::types::AddressRange {
            low: "10.0.0.0".parse().unwrap(),
            high: "10.0.0.255".parse().unwrap(),
        };
        let ts = |protocol| TrafficSelector { addresses: range, protocol, port_low: 0, port_high: u16::MAX };
        let pair = sa_pair(
            ChildInstall {
                tunnel: TunnelId(7),
                generation: 2,
                ike: IkeTunnelId(3),
                spi_in: 0x100,
                spi_out: 0x200,
                local: "192.0.2.1:4500".parse().unwrap(),
                remote: "192.0.2.2:1024".parse().unwrap(),
                udp: true,
                mode: Mode::Transport,
                encryption: Encryption::AesCbc(256),
                integrity: Some(Integrity::HmacSha384),
                key_in: Secret(vec![1; 80]),
                key_out: Secret(vec![2; 80]),
                esn: true,
                local_selectors: vec![ts(0)],
                remote_selectors: vec![ts(6)],
                rule: "Web".into(),
                vpn_action: "Gold".into(),
                outbound_active: false,
                soft_bytes: Some(1),
                hard_bytes: Some(2),
                outlives: false,
                continued: None,
            },
            (DfMode::Set, true),
        );
        insta::assert_debug_snapshot!(pair, @r#"
        SaPair {
            tunnel: 7,
            generation: 2,
            ike_tunnel: 3,
            spi_in: 256,
            spi_out: 512,
            local: 192.0.2.1,
            remote: 192.0.2.2,
            udp: Some(
                (
                    4500,
                    1024,
                ),
            ),
            mode: Transport,
            suite: AesCbc {
                key_bits: 256,
                integrity: HmacSha384,
            },
            key_in: Key(80 bytes),
            key_out: Key(80 bytes),
            esn: true,
            replay_window: 1024,
            local_selectors: [
                Selector {
                    addresses: AddressRange {
                        low: 10.0.0.0,
                        high: 10.0.0.255,
                    },
                    protocol: None,
                    ports: PortRange {
                        low: 0,
                        high: 65535,
                    },
                },
            ],
            remote_selectors: [
                Selector {
                    addresses: AddressRange {
                        low: 10.0.0.0,
                        high: 10.0.0.255,
                    },
                    protocol: Some(
                        6,
                    ),
                    ports: PortRange {
                        low: 0,
                        high: 65535,
                    },
                },
            ],
            rule: "Web",
            outbound_active: false,
            df: Set,
            copy_dscp: true,
            soft_bytes: Some(
                1,
            ),
            hard_bytes: Some(
                2,
            ),
            ceiling_of: None,
            continued: None,
        }
    "#);
    }
}
