//! AH against scapy and itself: both modes, both versions, extended numbers, replay, hostile input; ESP inside AH.

use super::common::{Segment, octets, other_end, pair, start};
use proptest::prelude::*;
use stack::aead::IntegrityError;
use stack::control::{AhIntegrity, BareCipher, EspIntegrity, EspSuite, KeyBytes, Mode, SaNotice, SaPair};
use stack::engine::ah;
use stack::engine::esp::OpenError;
use stack::engine::io::{Output, VnetHeader};
use stack::engine::replay::ReplayError;
use stack::engine::sad::{InstallError, Sa, SaHandle, Sad};
use stack::engine::segment::{self, SegmentError};
use stack::engine::verdict::DropReason;
use stack::wire::packet::Parsed;

const VNET: usize = 10;

/// AH with each algorithm, and around each cipher.
fn suites() -> Vec<EspSuite> {
    let mac = |i| EspSuite::Ah { integrity: AhIntegrity::Mac(i) };
    let bundle = |cipher| EspSuite::AhEsp {
        cipher,
        integrity: EspIntegrity::HmacSha256,
        esp_spi_in: 0x3000,
        esp_spi_out: 0x3000,
    };
    vec![
        mac(EspIntegrity::HmacSha256),
        mac(EspIntegrity::HmacSha384),
        mac(EspIntegrity::HmacSha512),
        mac(EspIntegrity::HmacSha1),
        mac(EspIntegrity::AesXcbc96),
        mac(EspIntegrity::HmacMd5),
        EspSuite::Ah { integrity: AhIntegrity::AesGmac { key_bits: 128 } },
        EspSuite::Ah { integrity: AhIntegrity::AesGmac { key_bits: 256 } },
        bundle(BareCipher::AesCbc { key_bits: 256 }),
        bundle(BareCipher::AesCtr { key_bits: 128 }),
        bundle(BareCipher::TripleDes),
        bundle(BareCipher::Des),
    ]
}

/// Between the addresses of [`Segment`] in transport mode, between gateways in tunnel mode.
fn ah_pair(suite: EspSuite, mode: Mode, v6: bool) -> SaPair {
    let mut p = pair(suite);
    (p.mode, p.udp) = (mode, None);
    let of = |a: &str, b: &str| (a.parse().unwrap(), b.parse().unwrap());
    (p.local, p.remote) = match (mode, v6) {
        (Mode::Transport, false) => of("10.1.0.1", "10.2.0.2"),
        (Mode::Transport, true) => of("2001:db8:1::1", "2001:db8:2::2"),
        (Mode::Tunnel, false) => of("192.0.2.1", "198.51.100.2"),
        (Mode::Tunnel, true) => of("2001:db8::1", "2001:db8::2"),
    };
    p
}

struct End {
    sad: Sad,
    handle: SaHandle,
    notices: Vec<(u32, SaNotice)>,
}

impl End {
    fn new(pair: SaPair) -> Self {
        let mut sad = Sad::new(1);
        let handle = sad.install(pair).unwrap();
        Self { sad, handle, notices: vec![] }
    }
    fn both(pair: SaPair) -> (Self, Self) {
        let other = other_end(&pair);
        (Self::new(pair), Self::new(other))
    }
    fn sa(&mut self) -> &mut Sa {
        self.sad.get_mut(self.handle).unwrap()
    }
    fn seal_all(
        &mut self,
        vnet: &VnetHeader,
        packet: &[u8],
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, SegmentError> {
        let mut out = Output::default();
        let parsed = Parsed::parse(packet).unwrap();
        segment::seal(self.sa(), vnet, &mut packet.to_vec(), &parsed, limit, &mut out)?;
        assert!(out.raw.is_empty() && out.udp.is_empty(), "AH goes out by the TUN");
        Ok(out.host.iter().map(|r| out.bytes[r.start + VNET..r.end].to_vec()).collect())
    }
    fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        self.seal_all(&VnetHeader::default(), packet, 1500).unwrap().remove(0)
    }
    fn open(&mut self, packet: &[u8]) -> Result<Vec<u8>, OpenError> {
        let at = Parsed::parse(packet).map_or(0, |p| p.header_len);
        let mut packet = packet.to_vec();
        let sa = self.sad.get_mut(self.handle).unwrap();
        let opened = ah::open(sa, &mut packet, at, start(), &mut self.notices)?;
        Ok(packet[opened.inner].to_vec())
    }
}

fn hex(s: &str) -> Vec<u8> {
    hex::decode(s).unwrap()
}

#[test]
fn scapy_and_we_make_the_same_packets() {
    let mut cases = 0;
    for line in include_str!("ah_scapy.txt").lines().filter(|l| !l.starts_with('#')) {
        let [integrity, mode, esn, sequence, key, before, after] = line.split(' ').collect::<Vec<_>>()[..]
        else {
            panic!("{line}")
        };
        let integrity = match integrity {
            "SHA2-256-128" => EspIntegrity::HmacSha256,
            "SHA2-384-192" => EspIntegrity::HmacSha384,
            "SHA2-512-256" => EspIntegrity::HmacSha512,
            "HMAC-SHA1-96" => EspIntegrity::HmacSha1,
            "HMAC-MD5-96" => EspIntegrity::HmacMd5,
            other => panic!("{other}"),
        };
        let mode = if mode == "tunnel" { Mode::Tunnel } else { Mode::Transport };
        let (before, after) = (hex(before), hex(after));
        let mut p =
            ah_pair(EspSuite::Ah { integrity: AhIntegrity::Mac(integrity) }, mode, before[0] >> 4 == 6);
        (p.spi_out, p.key_out, p.esn) = (0xc0de_0080, KeyBytes(hex(key)), esn != "0");
        let (mut a, mut b) = End::both(p);
        let sequence = u64::from_str_radix(sequence.trim_start_matches("0x"), 16).unwrap();
        a.sa().resume(sequence, 0);
        b.sa().resume(1, sequence - 1);
        let got = a.seal(&before);
        // scapy's outer hop limit and our own are 64; the checksum follows.
        assert_eq!(hex::encode(&got), hex::encode(&after), "{line}");
        assert_eq!(b.open(&after).map(hex::encode), Ok(hex::encode(&before)), "{line}");
        cases += 1;
    }
    assert_eq!(cases, 44);
}

#[test]
fn what_one_end_protects_the_other_opens() {
    for suite in suites() {
        for mode in [Mode::Tunnel, Mode::Transport] {
            for v6 in [false, true] {
                for esn in [false, true] {
                    let mut p = ah_pair(suite, mode, v6);
                    p.esn = esn;
                    let (mut a, mut b) = End::both(p);
                    for n in [0, 1, 7, 500] {
                        let packet = Segment { v6, ..Segment::default() }.with_data(octets(n, 1)).tcp();
                        let sealed = a.seal(&packet);
                        assert_eq!(b.open(&sealed), Ok(packet.clone()), "{suite:?} {mode:?} {n}");
                        let parsed = Parsed::parse(&sealed).unwrap();
                        assert_eq!((parsed.protocol, parsed.total_len), (51, sealed.len()));
                        let clear = sealed.windows(8).any(|w| w == &packet[packet.len() - 8..]);
                        assert_eq!(clear, matches!(suite, EspSuite::Ah { .. }) && n >= 8 || clear && n < 8);
                    }
                    assert_eq!(b.sa().received().packets, 4);
                }
            }
        }
    }
}

#[test]
fn what_routers_change_does_not_matter_and_all_else_does() {
    let (mut a, mut b) = End::both(ah_pair(suites()[0], Mode::Transport, false));
    let mut sealed = a.seal(&Segment::default().tcp());
    // DSCP, TTL, DF, and the checksum with them.
    (sealed[1], sealed[8], sealed[6]) = (0xb8, 3, 0);
    stack::wire::ipv4::fill_checksum(&mut sealed[..20]);
    let got = b.open(&sealed).unwrap();
    assert_eq!((got[1], got[8], got[9]), (0xb8, 3, 6));
    assert!(Parsed::parse(&got).is_ok());
    for at in [4, 12, 16, 19] {
        let mut bad = a.seal(&Segment::default().tcp());
        bad[at] ^= 1;
        stack::wire::ipv4::fill_checksum(&mut bad[..20]);
        assert_eq!(b.open(&bad), Err(OpenError::Integrity(IntegrityError)), "octet {at}");
    }
}

#[test]
fn a_super_packet_becomes_packets_of_their_own() {
    for suite in suites() {
        for (mode, v6) in [(Mode::Tunnel, false), (Mode::Transport, true)] {
            let (mut a, mut b) = End::both(ah_pair(suite, mode, v6));
            let s = Segment { v6, ..Segment::default() }.with_data(octets(3000, 1));
            let parsed = Parsed::parse(&s.tcp()).unwrap();
            let vnet = segment::super_header(&parsed, 1300).unwrap();
            let limit = a.sa().max_inner(1500);
            let sealed = a.seal_all(&vnet, &s.tcp(), limit).unwrap();
            assert_eq!(sealed.len(), 3);
            let opened: Vec<_> = sealed.iter().map(|p| b.open(p).unwrap()).collect();
            let data: Vec<u8> =
                opened.iter().flat_map(|p| p[p.len().min(if v6 { 72 } else { 52 })..].to_vec()).collect();
            assert_eq!(data, s.data, "{suite:?}");
        }
    }
}

#[test]
fn the_longest_packet_fits_the_path() {
    for suite in suites() {
        for mode in [Mode::Tunnel, Mode::Transport] {
            for v6 in [false, true] {
                let mut a = End::new(ah_pair(suite, mode, v6));
                let headers = Segment { v6, ..Segment::default() }.tcp().len();
                for mtu in 1300..1312 {
                    let fits = a.sa().max_inner(mtu);
                    let packet = |n: usize| {
                        Segment { v6, ..Segment::default() }.with_data(octets(n - headers, 1)).tcp()
                    };
                    assert!(a.seal(&packet(fits)).len() <= mtu, "{suite:?} {mode:?} {mtu}");
                    a.sa().set_path_mtu(9000);
                    assert!(a.seal(&packet(fits + 1)).len() > mtu);
                }
            }
        }
    }
}

#[test]
fn what_is_too_long_for_an_ipv6_path_leaves_in_fragments() {
    let (mut a, mut b) = End::both(ah_pair(suites()[0], Mode::Transport, true));
    let packet = Segment { v6: true, ..Segment::default() }.with_data(octets(4000, 1)).udp();
    let sealed = a.seal_all(&VnetHeader::default(), &packet, 65_535).unwrap();
    assert_eq!(sealed.len(), 3);
    let mut whole = sealed[0][..40].to_vec();
    for (index, piece) in sealed.iter().enumerate() {
        let p = Parsed::parse(piece).unwrap();
        let fragment = p.fragment.unwrap();
        assert!(piece.len() <= 1500 && p.protocol == 51);
        assert_eq!((usize::from(fragment.offset), fragment.more), (whole.len() - 40, index < 2));
        whole.extend_from_slice(&piece[48..]);
    }
    whole[6] = 51;
    let length = u16::try_from(whole.len() - 40).unwrap();
    whole[4..6].copy_from_slice(&length.to_be_bytes());
    assert_eq!(b.open(&whole), Ok(packet));
}

#[test]
fn t34_replayed_packets_and_forged_numbers() {
    for esn in [false, true] {
        let mut p = ah_pair(suites()[0], Mode::Tunnel, false);
        p.esn = esn;
        let (mut a, mut b) = End::both(p);
        let packets: Vec<_> = (0..200).map(|_| a.seal(&Segment::default().tcp())).collect();
        assert!(b.open(&packets[199]).is_ok() && b.open(&packets[150]).is_ok());
        assert_eq!(b.open(&packets[150]), Err(OpenError::Replay(ReplayError::Duplicate(151))));
        // With extended numbers it may be one of the next 2^32, which is for the ICV to refuse (RFC 4303 appendix A2).
        let old = if esn { IntegrityError.into() } else { ReplayError::TooOld(1).into() };
        assert_eq!(b.open(&packets[0]), Err(old));
        let mut forged = packets[198].clone();
        forged[28..32].copy_from_slice(&0xffff_fff0u32.to_be_bytes());
        assert_eq!(b.open(&forged), Err(OpenError::Integrity(IntegrityError)));
        assert_eq!(b.sa().sequence_numbers().1, 200);
    }
}

#[test]
fn t34_extended_numbers_go_on_across_the_wrap() {
    let mut p = ah_pair(suites()[6], Mode::Tunnel, true);
    p.esn = true;
    let (mut a, mut b) = End::both(p);
    let first = (1u64 << 32) - 5;
    a.sa().resume(first, 0);
    b.sa().resume(1, first - 1);
    for n in 0..10 {
        let packet = a.seal(&Segment { v6: true, ..Segment::default() }.tcp());
        assert!(b.open(&packet).is_ok(), "{n}");
    }
}

#[test]
fn manual_keys_have_no_window_and_numbers_go_round() {
    for suite in suites() {
        let mut p = ah_pair(suite, Mode::Tunnel, false);
        p.replay_window = 0;
        let (mut a, mut b) = End::both(p.clone());
        a.sa().resume((1 << 32) - 1, 0);
        let packet = Segment::default().tcp();
        let (last, zero, one) = (a.seal(&packet), a.seal(&packet), a.seal(&packet));
        for p in [&zero, &last, &one, &one] {
            assert_eq!(b.open(p), Ok(packet.clone()), "{suite:?}");
        }
        p.esn = true;
        assert_eq!(Sad::new(1).install(p).unwrap_err(), InstallError::EsnWithoutWindow(0x1000));
    }
}

#[test]
fn t26_a_key_that_is_typed_in_again_gives_other_ivs() {
    for suite in [
        EspSuite::AesCbc { key_bits: 128, integrity: EspIntegrity::HmacSha256 },
        EspSuite::TripleDes { integrity: EspIntegrity::HmacSha1 },
        suites()[8],
    ] {
        let mut p = ah_pair(suite, Mode::Tunnel, false);
        p.replay_window = 0;
        let sealed = |seed| {
            let mut sad = Sad::new(seed);
            let handle = sad.install(p.clone()).unwrap();
            let mut out = Output::default();
            let mut packet = Segment::default().tcp();
            let parsed = Parsed::parse(&packet).unwrap();
            let sa = sad.get_mut(handle).unwrap();
            segment::seal(sa, &VnetHeader::default(), &mut packet, &parsed, 1500, &mut out).unwrap();
            out.bytes
        };
        assert_eq!(sealed(1), sealed(1));
        let (a, b) = (sealed(1), sealed(2));
        // The first 8 octets of ciphertext differ, whatever stands before them.
        let common = a.iter().zip(&b).filter(|(a, b)| a == b).count();
        assert!(common < a.len() / 2 + 40, "{suite:?}: {common} of {}", a.len());
        assert_ne!(a[a.len() - 40..], b[b.len() - 40..]);
    }
}

#[test]
fn t25_t35_cut_flipped_and_mislabelled() {
    for suite in suites() {
        for (mode, v6) in [(Mode::Tunnel, false), (Mode::Transport, true)] {
            let (mut a, mut b) = End::both(ah_pair(suite, mode, v6));
            let packet = a.seal(&Segment { v6, ..Segment::default() }.with_data(octets(20, 1)).tcp());
            let at = Parsed::parse(&packet).unwrap().header_len;
            for n in 0..packet.len() {
                let mut cut = packet[..n].to_vec();
                let sa = b.sad.get_mut(b.handle).unwrap();
                let e = ah::open(sa, &mut cut, at, start(), &mut b.notices).unwrap_err();
                let reason = DropReason::from(e);
                assert!(
                    matches!(reason, DropReason::AuthenticationFailed | DropReason::MalformedAh),
                    "{suite:?} {n}: {reason}"
                );
            }
            for bit in at * 8..packet.len() * 8 {
                let mut bad = packet.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let e = DropReason::from(b.open(&bad).unwrap_err());
                assert!(
                    matches!(
                        e,
                        DropReason::AuthenticationFailed | DropReason::MalformedAh | DropReason::Replay
                    ),
                    "{suite:?} bit {bit}: {e}"
                );
            }
            assert_eq!(b.sa().received().packets, 0);
            assert!(b.open(&packet).is_ok(), "nothing was marked as seen");
        }
    }
}

#[test]
fn t36_transport_mode_takes_whole_packets_of_its_endpoints_and_no_source_routes() {
    let refused = |packet: &[u8], v6| {
        End::new(ah_pair(suites()[0], Mode::Transport, v6))
            .seal_all(&VnetHeader::default(), packet, 1500)
            .unwrap_err()
    };
    let mut elsewhere = Segment::default().tcp();
    elsewhere[19] = 9;
    assert_eq!(refused(&elsewhere, false), SegmentError::Transport);
    let mut fragment = Segment::default().tcp();
    fragment[7] = 1;
    assert_eq!(refused(&fragment, false), SegmentError::Transport);
    let mut routed = hex("4700001c000040003f06000a0a0100010a020002830704040102030400");
    routed.truncate(28);
    routed[2..4].copy_from_slice(&28u16.to_be_bytes());
    routed[9] = 253;
    stack::wire::ipv4::fill_checksum(&mut routed[..28]);
    assert_eq!(refused(&routed, false), SegmentError::Transport);
    let route = Segment { v6: true, ..Segment::default() }.ip(43, &[59, 0, 2, 0, 0, 0, 0, 0]);
    assert_eq!(refused(&route, true), SegmentError::Transport);
}

#[test]
fn a_pair_with_ah_goes_in_no_udp() {
    let mut p = ah_pair(suites()[0], Mode::Tunnel, false);
    p.udp = Some((4500, 4500));
    assert_eq!(Sad::new(1).install(p).unwrap_err(), InstallError::AhInUdp(0x1000));
}

proptest! {
    #[test]
    fn t37_nothing_that_arrives_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..80, suite in 0usize..12, transport: bool,
    ) {
        let mode = if transport { Mode::Transport } else { Mode::Tunnel };
        let mut end = End::new(ah_pair(suites()[suite], mode, false));
        let mut bytes = bytes;
        let sa = end.sad.get_mut(end.handle).unwrap();
        prop_assert!(ah::open(sa, &mut bytes, at, start(), &mut end.notices).is_err());
    }
}
