//! ESP: forged packets are refused, and authentic ones with any content at all are opened or refused, never worse.

use stack::aead::Sealer;
use stack::control::{DfMode, EspIntegrity, EspSuite, KeyBytes, Mode, SaPair};
use stack::engine::esp::{open, seal};
use stack::engine::sad::Sad;
use std::time::Instant;

const SPI: u32 = 0x1000;

/// One end's pair; the other end's has the keys the other way round.
fn pair(suite: EspSuite, keys: [u8; 2]) -> SaPair {
    let key = |octet| KeyBytes(vec![octet; suite.key_len().expect("a suite that we have")]);
    SaPair {
        tunnel: 1,
        generation: 1,
        ike_tunnel: 1,
        spi_in: SPI,
        spi_out: SPI,
        local: [192, 0, 2, 1].into(),
        remote: [192, 0, 2, 2].into(),
        udp: None,
        mode: Mode::Tunnel,
        suite,
        key_in: key(keys[0]),
        key_out: key(keys[1]),
        esn: false,
        replay_window: 64,
        local_selectors: Vec::new(),
        remote_selectors: Vec::new(),
        rule: String::new(),
        outbound_active: true,
        df: DfMode::Clear,
        copy_dscp: false,
        soft_bytes: None,
        hard_bytes: None,
        ceiling_of: None,
        continued: None,
    }
}

#[allow(clippy::disallowed_methods, reason = "some instant to count from")]
pub(crate) fn check(data: &[u8]) {
    let now = Instant::now();
    let suites = [
        EspSuite::AesGcm16 { key_bits: 128 },
        EspSuite::AesCbc { key_bits: 256, integrity: EspIntegrity::HmacSha256 },
    ];
    for suite in suites {
        let mut notices = Vec::new();
        let (mut ours, mut theirs) = (Sad::new(1), Sad::new(1));
        let handle = ours.install(pair(suite, [7, 8])).expect("a sound pair");
        let sa = ours.get_mut(handle).expect("just installed");

        let mut forged = data.to_vec();
        assert!(open(sa, &mut forged, now, &mut notices).is_err(), "a packet made without the key");

        // The octets as plaintext with its trailer, sealed by somebody who has the key.
        let text = &data[..data.len() / suite.alignment() * suite.alignment()];
        let mut packet = [&SPI.to_be_bytes()[..], &1_u32.to_be_bytes()].concat();
        packet.resize(8 + suite.iv_len(), 0);
        packet.extend_from_slice(text);
        packet.resize(packet.len() + suite.icv_len(), 0);
        let sealer =
            Sealer::new(suite, &pair(suite, [8, 7]).key_out.0).expect("the key has the suite's length");
        if sealer.seal(&mut packet, 1, false).is_ok()
            && let Ok(opened) = open(sa, &mut packet, now, &mut notices)
        {
            assert_eq!(packet[opened.inner], text[..inner_len(text)]);
        }

        // And as an inner packet that the peer sends.
        let mut arena = Vec::new();
        if matches!(data.first().map(|octet| octet >> 4), Some(4 | 6)) && data.len() < 60_000 {
            let handle = theirs.install(pair(suite, [8, 7])).expect("a sound pair");
            let peer = theirs.get_mut(handle).expect("just installed");
            // The first number was used above.
            let _ = seal(peer, data, &[], &mut arena, &mut notices).expect("a fresh SA");
            let range = seal(peer, data, &[], &mut arena, &mut notices).expect("a fresh SA");
            let opened =
                open(sa, &mut arena[range.clone()], now, &mut notices).expect("what is sealed opens");
            assert_eq!(&arena[range][opened.inner], data);
        }
    }
}

/// Length of the inner packet in a text that ends with padding, pad length and next header.
fn inner_len(text: &[u8]) -> usize {
    text.len() - 2 - usize::from(text[text.len() - 2])
}
