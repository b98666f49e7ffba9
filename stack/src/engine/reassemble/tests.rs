//! Fragments that are joined, and those that must not be.

use super::*;
use proptest::prelude::*;

#[expect(clippy::disallowed_methods, reason = "tests need some instant to begin with")]
fn start() -> Instant {
    Instant::now()
}

fn v4(source: u8, id: u16, offset: usize, more: bool, data: &[u8]) -> Vec<u8> {
    let mut p = ipv4::Ipv4Header {
        tos: 2,
        total_len: u16::try_from(20 + data.len()).unwrap(),
        id,
        flags_and_offset: u16::try_from(offset / 8).unwrap() | if more { ipv4::MF } else { 0 },
        ttl: 9,
        protocol: 17,
        source: [192, 0, 2, source].into(),
        destination: [192, 0, 2, 99].into(),
    }
    .to_bytes()
    .to_vec();
    p.extend_from_slice(data);
    p
}

/// With a destination options header before the fragment header.
fn v6(id: u32, offset: usize, more: bool, data: &[u8]) -> Vec<u8> {
    let mut rest = vec![44, 0, 1, 4, 0, 0, 0, 0, 17, 0];
    rest.extend_from_slice(&(u16::try_from(offset).unwrap() | u16::from(more)).to_be_bytes());
    rest.extend_from_slice(&id.to_be_bytes());
    rest.extend_from_slice(data);
    let mut p = ipv6::Ipv6Header {
        traffic_class: 0,
        flow_label: 0,
        payload_len: u16::try_from(rest.len()).unwrap(),
        next_header: 60,
        hop_limit: 9,
        source: "2001:db8::1".parse().unwrap(),
        destination: "2001:db8::2".parse().unwrap(),
    }
    .to_bytes()
    .to_vec();
    p.extend_from_slice(&rest);
    p
}

fn push(r: &mut Reassembler, p: &[u8], now: Instant) -> Result<Option<Vec<u8>>, ReassemblyError> {
    r.push(0, p, &Parsed::parse(p).unwrap(), now)
}

fn reassembler() -> Reassembler {
    Reassembler::new(Limits::default(), 1)
}

fn datagram(n: usize) -> Vec<u8> {
    let mut d = crate::wire::udp::header(4500, 4500, u16::try_from(n).unwrap()).to_vec();
    d.extend((8..n).map(|i| u8::try_from(i % 251).unwrap()));
    d
}

#[test]
fn in_any_order_ipv4() {
    let data = datagram(3000);
    let cuts = [(0, 1480, true), (1480, 2960, true), (2960, 3000, false)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
        let (mut r, now) = (reassembler(), start());
        let mut got = None;
        for i in order {
            let (a, b, more) = cuts[i];
            assert!(got.is_none());
            got = push(&mut r, &v4(1, 7, a, more, &data[a..b]), now).unwrap();
        }
        let got = got.unwrap();
        let ip = ipv4::Ipv4::new_checked(&got).unwrap();
        assert!(ip.checksum_ok());
        assert_eq!((ip.payload(), ip.flags_and_offset(), ip.ttl()), (&data[..], 0, 9));
        assert_eq!((r.len(), r.bytes(), r.poll_timeout()), (0, 0, None));
    }
}

#[test]
fn in_any_order_ipv6_without_the_fragment_header() {
    let data = datagram(2000);
    for reverse in [false, true] {
        let (mut r, now) = (reassembler(), start());
        let mut all = [v6(7, 0, true, &data[..1232]), v6(7, 1232, false, &data[1232..])];
        if reverse {
            all.reverse();
        }
        assert_eq!(push(&mut r, &all[0], now), Ok(None));
        let got = push(&mut r, &all[1], now).unwrap().unwrap();
        let p = Parsed::parse(&got).unwrap();
        assert_eq!((p.protocol, p.header_len, p.fragment), (17, 48, None));
        assert_eq!(&got[48..], data);
    }
}

#[test]
fn t39_overlaps_void_the_packet_for_its_time() {
    let data = datagram(3000);
    let (mut r, now) = (reassembler(), start());
    push(&mut r, &v4(1, 7, 0, true, &data[..1480]), now).unwrap();
    assert_eq!(push(&mut r, &v4(1, 7, 1472, false, &data[1472..]), now), Err(ReassemblyError::Overlap));
    assert_eq!(push(&mut r, &v4(1, 7, 1480, false, &data[1480..]), now), Err(ReassemblyError::Overlap));
    assert_eq!(push(&mut r, &v4(1, 7, 0, true, &data[..1480]), now), Err(ReassemblyError::Overlap));
    let later = now + Limits::default().timeout;
    push(&mut r, &v4(1, 7, 0, true, &data[..1480]), later).unwrap();
    assert!(push(&mut r, &v4(1, 7, 1480, false, &data[1480..]), later).unwrap().is_some());
    // A fragment inside of another, and one around another.
    for (a, b) in [(0..1480, 8..16), (8..16, 0..1480)] {
        let mut r = reassembler();
        push(&mut r, &v4(1, 7, a.start, true, &data[a]), now).unwrap();
        assert_eq!(push(&mut r, &v4(1, 7, b.start, true, &data[b]), now), Err(ReassemblyError::Overlap));
    }
}

#[test]
fn t39_an_exact_duplicate_is_no_overlap() {
    let data = datagram(2000);
    let (mut r, now) = (reassembler(), start());
    push(&mut r, &v4(1, 7, 0, true, &data[..1480]), now).unwrap();
    assert_eq!(push(&mut r, &v4(1, 7, 0, true, &data[..1480]), now), Err(ReassemblyError::Duplicate));
    assert!(push(&mut r, &v4(1, 7, 1480, false, &data[1480..]), now).unwrap().is_some());
}

#[test]
fn t39_ends_that_disagree() {
    let data = datagram(3000);
    let now = start();
    for second in [
        v4(1, 7, 2000, true, &data[..8]),
        v4(1, 7, 2000, false, &data[..8]),
        v4(1, 7, 800, false, &data[..8]),
    ] {
        let mut r = reassembler();
        push(&mut r, &v4(1, 7, 1000, false, &data[..80]), now).unwrap();
        assert_eq!(push(&mut r, &second, now), Err(ReassemblyError::BeyondEnd));
    }
    let mut r = reassembler();
    push(&mut r, &v4(1, 7, 1000, true, &data[..80]), now).unwrap();
    assert_eq!(push(&mut r, &v4(1, 7, 80, false, &data[..8]), now), Err(ReassemblyError::BeyondEnd));
}

#[test]
fn t39_the_ping_of_death_is_no_packet() {
    let p = v4(1, 7, 65_528, false, &[0; 1000]);
    assert!(Parsed::parse(&p).is_err());
    let p = v4(1, 7, 65_512, false, &[0; 16]);
    assert_eq!(push(&mut reassembler(), &p, start()), Err(ReassemblyError::TooLong), "with its header");
}

#[test]
fn t31_too_many_fragments_of_one_packet() {
    let (mut r, now) = (reassembler(), start());
    for i in 0..MAX_FRAGMENTS {
        push(&mut r, &v4(1, 7, i * 16, true, &[0; 8]), now).unwrap();
    }
    let one_more = v4(1, 7, MAX_FRAGMENTS * 16, true, &[0; 8]);
    assert_eq!(push(&mut r, &one_more, now), Err(ReassemblyError::TooLong));
    assert_eq!(r.bytes(), PACKET_COST, "its memory is free at once");
}

#[test]
fn t39_a_hundred_thousand_unfinished_packets() {
    let limits = Limits { packets: 100, packets_of_source: 10, bytes: 1 << 20, ..Limits::default() };
    let (mut r, now) = (Reassembler::new(limits, 1), start());
    let mut full = 0u64;
    for i in 0..100_000u32 {
        let source = u8::try_from(i % 97).unwrap();
        match push(&mut r, &v4(source, u16::try_from(i / 97).unwrap(), 0, true, &[0; 1000]), now) {
            Ok(None) => {}
            Err(ReassemblyError::Full) => full += 1,
            other => panic!("{other:?}"),
        }
        assert!(r.len() <= 100 && r.bytes() <= limits.bytes && r.deadlines.len() <= 300);
    }
    let evicted = r.take_given_up().evicted;
    assert_eq!(evicted + full + r.len() as u64, 100_000);
    // One source cannot have everything.
    for i in 0..1000u16 {
        let _ = push(&mut r, &v4(200, i, 0, true, &[0; 8]), now);
    }
    assert_eq!(r.sources[&(0, IpAddr::from([192, 0, 2, 200]))], 10);
}

#[test]
fn t39_bytes_are_bounded_and_the_oldest_makes_room() {
    let limits = Limits { bytes: 10_000, ..Limits::default() };
    let (mut r, now) = (Reassembler::new(limits, 1), start());
    for i in 0..20 {
        push(&mut r, &v4(1, i, 0, true, &[0; 1400]), now).unwrap();
        assert!(r.bytes() <= 10_000);
    }
    // The newest can be completed, the oldest is gone.
    assert!(push(&mut r, &v4(1, 19, 1400, false, &[1; 8]), now).unwrap().is_some());
    assert!(push(&mut r, &v4(1, 0, 1400, false, &[1; 8]), now).unwrap().is_none());
    assert!(r.take_given_up().evicted >= 14);
}

#[test]
fn time_is_up_after_the_first_fragment_not_the_last() {
    let (mut r, now) = (reassembler(), start());
    let timeout = Limits::default().timeout;
    push(&mut r, &v4(1, 7, 0, true, &[0; 80]), now).unwrap();
    assert_eq!(r.poll_timeout(), Some(now + timeout));
    push(&mut r, &v4(1, 7, 80, true, &[0; 80]), now + timeout / 2).unwrap();
    r.expire(now + timeout - Duration::from_nanos(1));
    assert_eq!(r.len(), 1);
    r.expire(now + timeout);
    assert_eq!((r.len(), r.bytes(), r.poll_timeout()), (0, 0, None));
    assert_eq!(r.take_given_up(), GivenUp { timed_out: 2, evicted: 0 });
    assert_eq!(r.take_given_up(), GivenUp::default());
}

#[test]
fn t38_ways_are_not_mixed() {
    let data = datagram(2000);
    let (mut r, now) = (reassembler(), start());
    let (one, two) = (v4(1, 7, 0, true, &data[..1480]), v4(1, 7, 1480, false, &data[1480..]));
    assert_eq!(r.push(1, &one, &Parsed::parse(&one).unwrap(), now), Ok(None));
    assert_eq!(r.push(0, &two, &Parsed::parse(&two).unwrap(), now), Ok(None));
    assert!(r.push(1, &two, &Parsed::parse(&two).unwrap(), now).unwrap().is_some());
}

#[test]
fn one_congestion_mark_marks_the_whole() {
    let data = datagram(2000);
    let (mut r, now) = (reassembler(), start());
    let mut marked = v4(1, 7, 1480, false, &data[1480..]);
    ecn::set_traffic_class(&mut marked, 3);
    push(&mut r, &marked, now).unwrap();
    let got = push(&mut r, &v4(1, 7, 0, true, &data[..1480]), now).unwrap().unwrap();
    assert_eq!(got[1], 3);
    assert!(ipv4::Ipv4::new_checked(&got).unwrap().checksum_ok());
}

proptest! {
    #[test]
    fn any_cut_in_any_order_with_duplicates_gives_the_packet(n in 16usize..9000, piece in 1usize..300, seed: u64, ip6: bool) {
        let data = datagram(n);
        let piece = (piece * 8).max(n.div_ceil(MAX_FRAGMENTS).next_multiple_of(8));
        prop_assume!(n > piece);
        let mut fragments: Vec<Vec<u8>> = (0..n).step_by(piece).map(|a| {
            let b = (a + piece).min(n);
            if ip6 { v6(3, a, b < n, &data[a..b]) } else { v4(1, 3, a, b < n, &data[a..b]) }
        }).collect();
        // A cheap shuffle, every third one twice.
        let mut s = seed;
        for i in (1..fragments.len()).rev() {
            s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            fragments.swap(i, usize::try_from(s >> 33).unwrap() % (i + 1));
        }
        let (mut r, now) = (reassembler(), start());
        let mut done = None;
        for (i, f) in fragments.iter().enumerate() {
            if let Some(p) = push(&mut r, f, now).unwrap() {
                prop_assert!(done.is_none() && i + 1 == fragments.len());
                done = Some(p);
            } else if i % 3 == 0 {
                prop_assert_eq!(push(&mut r, f, now), Err(ReassemblyError::Duplicate));
            }
        }
        let done = done.unwrap();
        let parsed = Parsed::parse(&done).unwrap();
        prop_assert_eq!(&done[parsed.header_len..], &data[..]);
        prop_assert_eq!(r.bytes(), 0);
    }

    #[test]
    fn random_fragments_stay_within_bounds(all in proptest::collection::vec((0u8..4, 0u16..3, 0usize..30, any::<bool>(), 1usize..20), 1..200)) {
        let limits = Limits { packets: 5, packets_of_source: 2, bytes: 3000, ..Limits::default() };
        let (mut r, mut now) = (Reassembler::new(limits, 1), start());
        for (source, id, offset, more, units) in all {
            let p = v4(source, id, offset * 8, more, &vec![0; units * 8]);
            if let Ok(parsed) = Parsed::parse(&p)
                && parsed.fragment.is_some()
            {
                let _ = r.push(0, &p, &parsed, now);
            }
            now += Duration::from_millis(100);
            prop_assert!(r.len() <= 5 && (r.bytes() <= 3000 || r.len() == 1));
            let cost: usize = r.packets.values().map(|p| p.cost).sum();
            prop_assert_eq!(cost, r.bytes());
        }
    }
}
