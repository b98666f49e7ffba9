//! Manual tunnels: pairs of SAs whose keys stand in the policy.

use super::df_mode;
use crate::policies::ManualTunnel;
use policy::Policy;
use policy::model::manual::ManualSa;
use policy::model::{AddressSet, Encap, Encryption, Integrity, ManVpnAction, Moment, Protection};
use stack::control::{
    AddressRange, AhIntegrity, BareCipher, EspIntegrity, EspSuite, KeyBytes, Mode, PortRange, SaPair,
    Selector, manual_anchor,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The manual tunnels of a policy, each once, in the order of the rules that use them; those too that are not to be installed at
/// this moment.
///
/// # Errors
/// What no stack can do, as lines for an operator.
pub fn tunnels(policy: &Policy, at: Moment) -> Result<Vec<ManualTunnel>, String> {
    let (mut made, mut faults): (Vec<ManualTunnel>, Vec<String>) = (Vec::new(), Vec::new());
    let mut seen = Vec::new();
    for action in policy.filter.rules.iter().filter_map(|rule| rule.man_vpn()) {
        if seen.contains(&action.name.as_str()) {
            continue;
        }
        seen.push(action.name.as_str());
        match tunnel(action, at) {
            Ok(tunnel) => {
                // One number names one SA of this side, of whichever protocol.
                let twin = made.iter().find(|t| t.pair.spi_in == tunnel.pair.spi_in);
                if let Some(twin) = twin {
                    let spi = tunnel.pair.spi_in;
                    faults.push(format!(
                        "IpManVpnAction {}: its inbound Spi {spi} is that of IpManVpnAction {} too",
                        action.name, twin.action
                    ));
                }
                made.push(tunnel);
            }
            Err(fault) => faults.push(format!("IpManVpnAction {}: {fault}", action.name)),
        }
    }
    if faults.is_empty() { Ok(made) } else { Err(faults.join("\n")) }
}

fn tunnel(action: &ManVpnAction, at: Moment) -> Result<ManualTunnel, String> {
    let any = |addresses| Selector { addresses, protocol: None, ports: PortRange::ANY };
    let selectors = vec![any(AddressRange::ANY_V4), any(AddressRange::ANY_V6)];
    let suite = suite(action)?;
    let (local, remote) = ends(&action.local, &action.remote)?;
    // The outermost header names the pair.
    let outer = |sa: &ManualSa| sa.ah_spi.or(sa.esp_spi).ok_or("without an SPI");
    let pair = SaPair {
        // The core gives it a number.
        tunnel: 0,
        generation: 1,
        ike_tunnel: 0,
        spi_in: outer(&action.inbound)?,
        spi_out: outer(&action.outbound)?,
        local,
        remote,
        udp: None,
        mode: match action.encap {
            Encap::Tunnel => Mode::Tunnel,
            Encap::Transport => Mode::Transport,
        },
        suite,
        key_in: key(&action.inbound),
        key_out: key(&action.outbound),
        // Both need a replay window, and that needs keys that are fresh (RFC 4303 sections 2.2.1 and 3.4.3).
        esn: false,
        replay_window: 0,
        // What goes in is the rules' to say.
        local_selectors: selectors.clone(),
        remote_selectors: selectors,
        rule: manual_anchor(action.name.as_str()),
        outbound_active: true,
        df: df_mode(action.df),
        copy_dscp: action.copy_dscp,
        soft_bytes: None,
        hard_bytes: None,
        ceiling_of: None,
        continued: None,
    };
    if pair.key_in == pair.key_out {
        return Err("both directions have the same keys: each needs its own".to_owned());
    }
    let installed = action.times.is_empty() || action.times.iter().any(|t| t.holds(at));
    Ok(ManualTunnel { action: action.name.to_string(), installed, active: action.active, pair })
}

/// The endpoints as the stack has them: one that is Any, Any4 or Any6 is unspecified, in a family that both have.
fn ends(local: &AddressSet, remote: &AddressSet) -> Result<(IpAddr, IpAddr), String> {
    const ANY_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const ANY_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let any_of = |address: IpAddr| if address.is_ipv4() { ANY_V4 } else { ANY_V6 };
    let has = |v4: bool| {
        [local, remote].into_iter().all(|set| set.ranges().iter().any(|range| range.is_ipv4() == v4))
    };
    match (local.as_single(), remote.as_single(), has(true), has(false)) {
        (Some(local), Some(remote), ..) => Ok((local, remote)),
        (Some(local), None, ..) => Ok((local, any_of(local))),
        (None, Some(remote), ..) => Ok((any_of(remote), remote)),
        (None, None, true, true) => Ok((ANY_V4, ANY_V6)),
        (None, None, true, false) => Ok((ANY_V4, ANY_V4)),
        (None, None, false, true) => Ok((ANY_V6, ANY_V6)),
        (None, None, false, false) => Err("security endpoints of different families".to_owned()),
    }
}

/// Encryption key, then integrity key, as the stack takes them.
fn key(sa: &ManualSa) -> KeyBytes {
    let parts =
        [&sa.encryption_key, &sa.integrity_key].map(|key| key.as_ref().map_or(&[][..], |k| k.expose()));
    KeyBytes(parts.concat())
}

fn suite(action: &ManVpnAction) -> Result<EspSuite, String> {
    Ok(match action.protection {
        Protection::Esp { encryption, integrity: Some(auth) } => {
            let integrity = integrity(auth)?;
            match encryption {
                Encryption::AesCbc(bits) => EspSuite::AesCbc { key_bits: bits.bits(), integrity },
                Encryption::Null => EspSuite::Null { integrity },
                Encryption::TripleDes => EspSuite::TripleDes { integrity },
                Encryption::Des => EspSuite::Des { integrity },
                Encryption::AesCtr(_) | Encryption::AesGcm16(_) | Encryption::ChaCha20Poly1305 => {
                    return Err(NONCES.to_owned());
                }
            }
        }
        Protection::Esp { integrity: None, .. } => return Err(NONCES.to_owned()),
        Protection::Ah { integrity: auth } => EspSuite::Ah { integrity: AhIntegrity::Mac(integrity(auth)?) },
        Protection::AhEsp { integrity: auth, encryption } => EspSuite::AhEsp {
            cipher: match encryption {
                Encryption::AesCbc(bits) => BareCipher::AesCbc { key_bits: bits.bits() },
                Encryption::TripleDes => BareCipher::TripleDes,
                Encryption::Des => BareCipher::Des,
                Encryption::Null
                | Encryption::AesCtr(_)
                | Encryption::AesGcm16(_)
                | Encryption::ChaCha20Poly1305 => return Err(NONCES.to_owned()),
            },
            integrity: integrity(auth)?,
            esp_spi_in: action.inbound.esp_spi.ok_or("without an SPI of ESP")?,
            esp_spi_out: action.outbound.esp_spi.ok_or("without an SPI of ESP")?,
        },
    })
}

/// The language refuses these with a better place.
const NONCES: &str = "an algorithm that does not go with manual keys";

fn integrity(integrity: Integrity) -> Result<EspIntegrity, String> {
    Ok(match integrity {
        Integrity::HmacSha256 => EspIntegrity::HmacSha256,
        Integrity::HmacSha384 => EspIntegrity::HmacSha384,
        Integrity::HmacSha512 => EspIntegrity::HmacSha512,
        Integrity::HmacSha1 => EspIntegrity::HmacSha1,
        Integrity::AesXcbc => EspIntegrity::AesXcbc96,
        Integrity::HmacMd5 => EspIntegrity::HmacMd5,
        Integrity::AesGmac(_) => return Err(NONCES.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOON, policy};
    use super::*;

    const SAMPLE: &str = include_str!("../../../policy/tests/accept/manual.conf");

    #[test]
    fn the_sample_becomes_a_pair() {
        let made = tunnels(&policy(SAMPLE), NOON).unwrap();
        let [lab] = &made[..] else { panic!("{made:?}") };
        assert_eq!((lab.action.as_str(), lab.active), ("staticLab", false));
        let p = &lab.pair;
        assert_eq!((p.spi_in, p.spi_out, p.mode, p.replay_window), (4097, 4098, Mode::Tunnel, 0));
        let integrity = EspIntegrity::HmacSha1;
        assert_eq!(p.suite, EspSuite::AesCbc { key_bits: 128, integrity });
        assert_eq!(
            hex::encode(&p.key_in.0),
            "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f10111213"
        );
        assert_eq!(p.rule, ",staticLab");
    }

    #[test]
    fn both_protocols_have_spis_of_their_own() {
        let text = SAMPLE
            .replace("ESP HMAC_SHA1", "AH HMAC_SHA2_256_128")
            .replace(
                "Spi  4097\n    Key  Hex 000102030405060708090a0b0c0d0e0f10111213",
                "Spi 5001\n Key Hex 000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f",
            )
            .replace(
                "Spi  4098\n    Key  Hex 131211100f0e0d0c0b0a09080706050403020100",
                "Spi 5002\n Key Hex 100102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f",
            );
        let made = tunnels(&policy(&text), NOON).unwrap();
        let p = &made[0].pair;
        assert_eq!((p.spi_in, p.spi_out), (5001, 5002));
        let EspSuite::AhEsp { cipher, esp_spi_in, esp_spi_out, .. } = p.suite else {
            panic!("{:?}", p.suite)
        };
        assert_eq!((cipher, esp_spi_in, esp_spi_out), (BareCipher::AesCbc { key_bits: 128 }, 4097, 4098));
        assert_eq!(p.key_in.0.len(), p.suite.key_len().unwrap());
    }

    #[test]
    fn what_no_stack_can_do_is_said_by_name() {
        let same = SAMPLE
            .replace("131211100f0e0d0c0b0a09080706050403020100", "000102030405060708090a0b0c0d0e0f10111213")
            .replace("ffeeddccbbaa99887766554433221100", "00112233445566778899aabbccddeeff");
        assert!(tunnels(&policy(&same), NOON).unwrap_err().contains("same keys"));
    }

    #[test]
    fn ends_that_are_any_are_unspecified_in_the_family_that_both_have() {
        let (one, other) = ("192.0.2.10", "203.0.113.30");
        for (local, remote, expected) in [
            (one, "Any", (one, "0.0.0.0")),
            (one, "Any4", (one, "0.0.0.0")),
            ("Any", other, ("0.0.0.0", other)),
            ("Any", "2001:db8::1", ("::", "2001:db8::1")),
            ("Any4", "Any", ("0.0.0.0", "0.0.0.0")),
            ("Any", "Any6", ("::", "::")),
            ("Any", "Any", ("0.0.0.0", "::")),
        ] {
            let text = SAMPLE
                .replace(
                    &format!("LocalSecurityEndpointAddr   {one}"),
                    &format!("LocalSecurityEndpointAddr {local}"),
                )
                .replace(
                    &format!("RemoteSecurityEndpointAddr  {other}"),
                    &format!("RemoteSecurityEndpointAddr {remote}"),
                );
            let made = tunnels(&policy(&text), NOON).unwrap();
            let pair = &made[0].pair;
            assert_eq!(
                (pair.local.to_string(), pair.remote.to_string()),
                (expected.0.into(), expected.1.into()),
                "{local} {remote}"
            );
        }
    }

    #[test]
    fn a_tunnel_is_installed_in_its_time() {
        let text = SAMPLE.replace(
            "Active  no",
            "Active  yes\n  IpTimeCondition\n  {\n    TimeOfDayRange  22:00-06:00\n    TimeZone  UTC\n  }",
        );
        let policy = policy(&text);
        let at = |hours: i64| {
            tunnels(&policy, Moment { unix: NOON.unix + hours * 3_600, ..NOON }).unwrap()[0].installed
        };
        assert_eq!([at(0), at(9), at(10), at(17), at(18)], [false, false, true, true, false]);
    }
}
