//! ESP under attack, by the numbers of the threat list; lifetimes.

use super::common::{End, SUITES, Segment, octets, other_end, pair};
use proptest::prelude::*;
use stack::aead::{IntegrityError, Sealer};
use stack::control::{EspSuite, SaNotice};
use stack::engine::esp::OpenError;
use stack::engine::replay::ReplayError;
use stack::engine::sad::{Expired, InstallError, NoNumber, Sad};
use stack::engine::verdict::DropReason;

const GCM: EspSuite = EspSuite::AesGcm16 { key_bits: 128 };

#[test]
fn t25_cut_anywhere() {
    for suite in SUITES {
        let (mut a, mut b) = End::both(pair(suite));
        let packet = a.seal(&Segment::default().with_data(octets(50, 1)).tcp());
        for n in 0..packet.len() {
            let e = b.open_copy(&packet[..n]).unwrap_err();
            assert_eq!(DropReason::from(e), DropReason::AuthenticationFailed, "{suite:?} {n}");
        }
        assert_eq!(b.sa().received().packets, 0);
        assert!(b.open_copy(&packet).is_ok(), "nothing was marked as seen");
    }
}

#[test]
fn t25_one_bit_flipped_anywhere() {
    for suite in SUITES {
        for esn in [false, true] {
            let mut p = pair(suite);
            p.esn = esn;
            let (mut a, mut b) = End::both(p);
            let packet = a.seal(&Segment::default().with_data(octets(20, 1)).tcp());
            // The SPI selects the SA and is authenticated as well.
            for bit in 0..packet.len() * 8 {
                let mut bad = packet.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let e = b.open_copy(&bad).unwrap_err();
                let zero = OpenError::Replay(ReplayError::Zero);
                assert!(e == OpenError::Integrity(IntegrityError) || e == zero, "{suite:?} bit {bit}: {e}");
            }
            assert_eq!(b.sa().sequence_numbers().1, 0);
            assert!(b.open_copy(&packet).is_ok());
        }
    }
}

#[test]
fn t34_the_same_packet_again_and_out_of_order() {
    for suite in SUITES {
        let (mut a, mut b) = End::both(pair(suite));
        let packets: Vec<_> = (0..300).map(|_| a.seal(&Segment::default().tcp())).collect();
        for p in packets.iter().step_by(2).rev().take(64) {
            b.open_copy(p).unwrap();
        }
        assert!(matches!(b.open_copy(&packets[298]), Err(OpenError::Replay(ReplayError::Duplicate(299)))));
        assert!(b.open_copy(&packets[297]).is_ok());
        assert!(matches!(b.open_copy(&packets[0]), Err(OpenError::Replay(ReplayError::TooOld(1)))));
        assert_eq!(b.sa().received().packets, 65);
    }
}

#[test]
fn t34_a_forged_high_number_moves_nothing() {
    let (mut a, mut b) = End::both(pair(GCM));
    let packets: Vec<_> = (0..2).map(|_| a.seal(&Segment::default().tcp())).collect();
    b.open_copy(&packets[0]).unwrap();
    let mut forged = packets[1].clone();
    forged[4..8].copy_from_slice(&0xffff_fff0u32.to_be_bytes());
    assert_eq!(b.open_copy(&forged), Err(OpenError::Integrity(IntegrityError)));
    assert_eq!(b.sa().sequence_numbers().1, 1);
    assert!(b.open_copy(&packets[1]).is_ok());
}

#[test]
fn t34_traffic_goes_on_across_the_wrap_with_extended_numbers() {
    for suite in SUITES {
        let mut p = pair(suite);
        p.esn = true;
        let (mut a, mut b) = End::both(p);
        let first = (1u64 << 32) - 20;
        a.sa().resume(first, 0);
        b.sa().resume(1, first - 1);
        let packets: Vec<_> = (0..40).map(|_| a.seal(&Segment::default().tcp())).collect();
        for (i, packet) in packets.iter().enumerate().rev() {
            assert!(b.open_copy(packet).is_ok(), "{suite:?} packet {i}");
            assert!(b.open_copy(packet).is_err(), "{suite:?} packet {i} again");
        }
        assert_eq!(b.sa().sequence_numbers().1, first + 39);
    }
}

#[test]
fn t26_sending_stops_before_the_numbers_wrap() {
    let (mut a, mut b) = End::both(pair(GCM));
    a.sa().resume(u64::from(u32::MAX) - 1, 0);
    let one = a.seal(&Segment::default().tcp());
    let two = a.seal(&Segment::default().tcp());
    assert!(b.open_copy(&one).is_ok() && b.open_copy(&two).is_ok());
    assert_eq!(b.sa().sequence_numbers().1, u64::from(u32::MAX));
    let (mut arena, mut notices) = (vec![], vec![]);
    for _ in 0..3 {
        let r = stack::engine::esp::seal(a.sa(), &[0x45; 20], &[], &mut arena, &mut notices);
        assert_eq!(r, Err(NoNumber::Expired(Expired)));
    }
    assert!(arena.is_empty());
    assert_eq!(a.notices, [(0x1000, SaNotice::SoftLimit)]);
    assert_eq!(notices, [(0x1000, SaNotice::HardLimit)], "told once");
}

#[test]
fn t26_both_directions_with_one_key_are_refused() {
    let mut p = pair(GCM);
    p.key_in = p.key_out.clone();
    assert_eq!(Sad::new(0).install(p), Err(InstallError::SameKey(0x1000)));
}

#[test]
fn t26_numbers_never_go_back() {
    let mut a = End::new(pair(GCM));
    a.sa().resume(1000, 0);
    a.sa().resume(10, 0);
    assert_eq!(a.sa().sequence_numbers().0, 1000);
}

#[test]
fn t33_reserved_and_doubled_spis_are_refused() {
    let mut sad = Sad::new(3);
    for spi in 0..=255 {
        let mut p = pair(GCM);
        p.spi_in = spi;
        assert_eq!(sad.install(p), Err(InstallError::ReservedSpi(spi)));
        let mut p = pair(GCM);
        p.spi_out = spi;
        assert_eq!(sad.install(p), Err(InstallError::ReservedSpi(spi)));
    }
    sad.install(pair(GCM)).unwrap();
    assert_eq!(sad.install(pair(GCM)), Err(InstallError::SpiInUse(0x1000)));
    assert_eq!((sad.len(), sad.lookup(0x1001)), (1, None));
}

/// Seals a plaintext with a trailer of the caller's choice, as a peer with the right key could.
fn raw_seal(suite: EspSuite, sequence: u64, text: &[u8]) -> Vec<u8> {
    let p = pair(suite);
    let sealer = Sealer::new(suite, &p.key_in.0).unwrap();
    let mut packet = stack::wire::esp::header(p.spi_in, u32::try_from(sequence).unwrap()).to_vec();
    packet.resize(8 + suite.iv_len(), 0);
    packet.extend_from_slice(text);
    packet.resize(packet.len() + suite.icv_len(), 0);
    sealer.seal(&mut packet, sequence, false).unwrap();
    packet
}

#[test]
fn t35_what_opens_but_is_wrong_inside() {
    for suite in SUITES {
        let mut b = End::new(pair(suite));
        let inner = Segment::default().with_data(octets(8, 0)).tcp();
        let mut number = 0;
        let mut open = |trailer: &[u8], inner: &[u8]| {
            number += 1;
            let text = [inner, trailer].concat();
            b.open_copy(&raw_seal(suite, number, &text))
        };
        // 60 octets of TCP, 4 of trailer: whole blocks of every suite.
        assert_eq!(open(&[1, 2, 2, 4], &inner).as_deref(), Ok(inner.as_slice()));
        assert_eq!(open(&[1, 3, 2, 4], &inner), Err(OpenError::Padding));
        assert_eq!(open(&[0, 0, 2, 4], &inner), Err(OpenError::Padding));
        assert_eq!(open(&[1, 2, 63, 4], &inner), Err(OpenError::PadLength(63)));
        assert_eq!(open(&[1, 2, 255, 4], &inner), Err(OpenError::PadLength(255)));
        assert_eq!(open(&[1, 2, 2, 59], &inner), Err(OpenError::Dummy));
        assert_eq!(open(&[1, 2, 2, 41], &inner), Err(OpenError::NextHeader(41)), "IPv4 inside");
        for next in [0, 6, 17, 50, 255] {
            assert_eq!(open(&[1, 2, 2, next], &inner), Err(OpenError::NextHeader(next)));
        }
        let all: Vec<u8> = (1..=62).chain([62, 4]).collect();
        assert_eq!(open(&all, &[]), Err(OpenError::NextHeader(4)), "nothing inside");
        let drops: Vec<DropReason> =
            [OpenError::Padding, OpenError::Dummy, OpenError::NextHeader(0)].map(DropReason::from).into();
        assert_eq!(drops, [DropReason::MalformedEsp, DropReason::Dummy, DropReason::MalformedEsp]);
        // Authentic packets are counted and seen, whatever is inside.
        assert_eq!(b.sa().received().packets, 13);
        assert_eq!(b.sa().sequence_numbers().1, 13);
    }
}

#[test]
fn lifetimes_in_bytes_are_told_once_and_then_nothing_passes() {
    let mut p = pair(GCM);
    (p.soft_bytes, p.hard_bytes) = (Some(1000), Some(2000));
    let mut q = other_end(&p);
    (q.soft_bytes, q.hard_bytes) = (None, None);
    let (mut a, mut b) = (End::new(p), End::new(q));
    let inner = Segment::default().with_data(octets(448, 0)).tcp();
    assert_eq!(inner.len(), 500);
    a.seal(&inner);
    assert!(a.notices.is_empty());
    let back = b.seal(&inner);
    a.open_copy(&back).unwrap();
    assert_eq!(a.notices, [(0x1000, SaNotice::FirstInbound), (0x1000, SaNotice::SoftLimit)]);
    a.seal(&inner);
    assert_eq!(a.notices.len(), 2);
    a.seal(&inner);
    assert_eq!(a.notices[2..], [(0x1000, SaNotice::HardLimit)]);
    let mut arena = vec![];
    assert!(stack::engine::esp::seal(a.sa(), &inner, &[], &mut arena, &mut vec![]).is_err());
    let back = b.seal(&inner);
    assert_eq!(a.open_copy(&back), Err(OpenError::Expired(Expired)));
}

#[test]
fn outbound_goes_to_the_newest_active_pair_of_a_tunnel() {
    let mut sad = Sad::new(9);
    let make = |generation, spi, active| {
        let mut p = pair(GCM);
        (p.generation, p.spi_in, p.outbound_active) = (generation, spi, active);
        p
    };
    let old = sad.install(make(1, 0x1000, true)).unwrap();
    assert_eq!(sad.outbound(7), Some(old));
    let new = sad.install(make(2, 0x3000, false)).unwrap();
    assert_eq!(sad.outbound(7), Some(old), "the responder of a rekey waits");
    sad.get_mut(new).unwrap().activate_outbound();
    assert_eq!(sad.outbound(7), Some(new));
    assert_eq!(sad.remove(0x1000).map(|r| (r.tunnel, r.last_of_tunnel)), Some((7, false)));
    assert!(sad.get(old).is_none());
    let other = sad.install(make(3, 0x5000, true)).unwrap();
    assert!(sad.get(old).is_none(), "a handle is never taken for another pair's");
    assert_eq!(sad.outbound(7), Some(other));
    assert_eq!(sad.spis(), [0x3000, 0x5000]);
    sad.clear();
    assert_eq!((sad.len(), sad.outbound(7), sad.remove(0x3000)), (0, None, None));
}

#[test]
fn first_packet_on_a_rekeyed_pair_activates_it() {
    let mut p = pair(GCM);
    p.outbound_active = false;
    let mut a = End::new(p.clone());
    let mut b = End::new(other_end(&p));
    let packet = b.seal(&Segment::default().tcp());
    assert!(!a.sa().outbound_active());
    let mut forged = packet.clone();
    forged[20] ^= 1;
    assert!(a.open_copy(&forged).is_err());
    assert!(!a.sa().outbound_active());
    a.open_copy(&packet).unwrap();
    assert!(a.sa().outbound_active());
    assert_eq!(a.notices, [(0x1000, SaNotice::FirstInbound)]);
}

#[test]
fn t27_keys_are_neither_kept_nor_shown() {
    let mut a = End::new(pair(GCM));
    assert!(a.sa().pair().key_in.0.is_empty() && a.sa().pair().key_out.0.is_empty());
    let shown = format!("{:?}", a.sa());
    assert!(shown.contains("AeadKey(..)") && shown.contains("Key(0 bytes)"), "{shown}");
}

#[test]
fn the_longest_inner_packet_fits_and_one_more_octet_does_not() {
    for suite in SUITES {
        for udp in [None, Some((4500, 4500))] {
            let mut p = pair(suite);
            p.udp = udp;
            let mut a = End::new(p);
            for mtu in 576..700 {
                let inner = a.sa().max_inner(mtu);
                let outer = |n| 20 + udp.map_or(0, |_| 8) + stack::engine::esp::sealed_len(a.sa(), n);
                let (fits, more) = (inner, inner + 1);
                let mut outer = outer;
                assert!(outer(fits) <= mtu, "{suite:?} {mtu}");
                assert!(outer(more) > mtu, "{suite:?} {mtu}");
            }
            assert_eq!(a.sa().max_inner(20), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_opens(suite in prop::sample::select(SUITES.to_vec()), esn: bool, n in 0usize..1600, v6: bool, start in 1u64..1 << 31) {
        let mut p = pair(suite);
        p.esn = esn;
        let (mut a, mut b) = End::both(p);
        a.sa().resume(start, 0);
        let inner = Segment { v6, ..Segment::default() }.with_data(octets(n, 3)).tcp();
        let packet = a.seal(&inner);
        prop_assert_eq!(b.open_copy(&packet), Ok(inner));
    }

    #[test]
    fn random_bytes_never_panic_nor_open(suite in prop::sample::select(SUITES.to_vec()), b in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut e = End::new(pair(suite));
        prop_assert!(e.open_copy(&b).is_err());
    }
}
