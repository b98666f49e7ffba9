//! Segmentation and coalescing: each undoes the other, and nothing is lost, doubled or overtaken.

use super::common::{End, Segment, octets, pair};
use proptest::prelude::*;
use stack::control::EspSuite;
use stack::engine::coalesce::{Coalescer, Limits, MAX_SUPER};
use stack::engine::io::{Output, VnetHeader};
use stack::engine::segment::{self, SegmentError};
use stack::wire::checksum::Sum;
use stack::wire::packet::Parsed;

const GCM: EspSuite = EspSuite::AesGcm16 { key_bits: 128 };
const ALL: Limits = Limits { bytes: MAX_SUPER, udp: true };

/// A super-packet as a TUN gives it: the checksum field holds the sum of the pseudo header.
fn super_packet(s: &Segment, tcp: bool, segment: u16) -> (VnetHeader, Vec<u8>) {
    let mut p = if tcp { s.tcp() } else { s.udp() };
    let parsed = Parsed::parse(&p).unwrap();
    let vnet = segment::super_header(&parsed, segment).unwrap_or(VnetHeader {
        flags: 1,
        csum_start: u16::try_from(parsed.header_len).unwrap(),
        csum_offset: if tcp { 16 } else { 6 },
        ..VnetHeader::default()
    });
    let at = parsed.header_len + usize::from(vnet.csum_offset);
    let addresses = if s.v6 { 8..40 } else { 12..20 };
    let length = u32::try_from(p.len() - parsed.header_len).unwrap();
    let sum = stack::wire::checksum::pseudo_header(&p[addresses], if tcp { 6 } else { 17 }, length);
    p[at..at + 2].copy_from_slice(&sum.folded());
    (vnet, p)
}

fn split(vnet: &VnetHeader, packet: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, SegmentError> {
    let mut out = Output::default();
    let mut got = vec![];
    let mut p = packet.to_vec();
    let parsed = Parsed::parse(packet).unwrap();
    segment::split(vnet, &mut p, &parsed, limit, 8, &mut out, |o, r| got.push(o.bytes[r].to_vec()))?;
    Ok(got)
}

fn coalesce(packets: &[Vec<u8>], limits: Limits) -> Vec<(VnetHeader, Vec<u8>)> {
    let mut c = Coalescer::default();
    let mut out = Output::default();
    for p in packets {
        c.push((), p, &Parsed::parse(p).unwrap(), limits, &mut out, |o, (), done| done.to_host(o));
    }
    c.flush(&mut out, |o, (), done| done.to_host(o));
    let take = |r: &std::ops::Range<usize>| {
        let b = &out.bytes[r.clone()];
        (VnetHeader::parse(b).unwrap(), b[10..].to_vec())
    };
    out.host.iter().map(take).collect()
}

/// An independent opinion on the checksums and lengths of a packet.
fn assert_wellformed(packet: &[u8]) {
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
    let h = PacketHeaders::from_ip_slice(packet).unwrap();
    let payload = h.payload.slice();
    let transport = h.transport.unwrap();
    match (&h.net, &transport) {
        (Some(NetHeaders::Ipv4(ip, _)), t) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(usize::from(ip.total_len), packet.len());
            match t {
                TransportHeader::Tcp(t) => assert_eq!(t.checksum, t.calc_checksum_ipv4(ip, payload).unwrap()),
                TransportHeader::Udp(u) => assert_eq!(u.checksum, u.calc_checksum_ipv4(ip, payload).unwrap()),
                other => panic!("{other:?}"),
            }
        }
        (Some(NetHeaders::Ipv6(ip, _)), t) => {
            assert_eq!(usize::from(ip.payload_length), packet.len() - 40);
            match t {
                TransportHeader::Tcp(t) => assert_eq!(t.checksum, t.calc_checksum_ipv6(ip, payload).unwrap()),
                TransportHeader::Udp(u) => assert_eq!(u.checksum, u.calc_checksum_ipv6(ip, payload).unwrap()),
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tcp_super_packet_is_cut_as_tso_would() {
    for v6 in [false, true] {
        let s = Segment { v6, id: 0xffff, sequence: u32::MAX - 100, flags: 0x99, ..Segment::default() }
            .with_data(octets(1000, 1));
        let (vnet, p) = super_packet(&s, true, 300);
        let got = split(&vnet, &p, 1500).unwrap();
        assert_eq!(got.len(), 4);
        for (i, q) in got.iter().enumerate() {
            assert_wellformed(q);
            let h = etherparse::PacketHeaders::from_ip_slice(q).unwrap();
            let Some(etherparse::TransportHeader::Tcp(t)) = h.transport else { panic!() };
            assert_eq!(t.sequence_number, s.sequence.wrapping_add(u32::try_from(i).unwrap() * 300));
            assert_eq!((t.fin, t.psh, t.cwr, t.ack), (i == 3, i == 3, i == 0, true), "segment {i}");
            assert_eq!(h.payload.slice(), &s.data[i * 300..(i * 300 + 300).min(1000)]);
            if !v6 {
                assert_eq!(
                    u16::from_be_bytes([q[4], q[5]]),
                    0xffffu16.wrapping_add(u16::try_from(i).unwrap())
                );
            }
        }
    }
}

#[test]
fn a_udp_super_packet_is_cut_into_datagrams() {
    for v6 in [false, true] {
        let s = Segment { v6, ..Segment::default() }.with_data(octets(2500, 1));
        let (vnet, p) = super_packet(&s, false, 1000);
        assert_eq!(vnet.gso_type, 5);
        let got = split(&vnet, &p, 1500).unwrap();
        let lengths: Vec<usize> = got.iter().map(|q| q.len() - if v6 { 48 } else { 28 }).collect();
        assert_eq!(lengths, [1000, 1000, 500]);
        got.iter().for_each(|q| assert_wellformed(q));
        assert_eq!(
            split(&vnet, &p, 600),
            Err(SegmentError::TooBig { length: if v6 { 1048 } else { 1028 }, limit: 600 })
        );
    }
}

#[test]
fn a_single_packet_gets_its_checksum_completed() {
    for (tcp, v6) in [(true, false), (true, true), (false, false), (false, true)] {
        let s = Segment { v6, ..Segment::default() }.with_data(octets(101, 1));
        let (vnet, p) = super_packet(&s, tcp, 1400);
        assert_eq!((vnet.gso_type, vnet.flags), (0, 1));
        let got = split(&vnet, &p, 1500).unwrap();
        assert_eq!(got, [if tcp { s.tcp() } else { s.udp() }]);
    }
}

#[test]
fn t46_too_big_is_said_unless_tcp_can_be_cut_smaller() {
    let s = Segment::default().with_data(octets(3000, 1));
    let (vnet, p) = super_packet(&s, true, 1448);
    let got = split(&vnet, &p, 1000).unwrap();
    assert!(got.iter().all(|q| q.len() <= 1000));
    let data: Vec<u8> = got.iter().flat_map(|q| q[52..].to_vec()).collect();
    assert_eq!(data, s.data);
    got.iter().for_each(|q| assert_wellformed(q));
    assert_eq!(split(&vnet, &p, 200), Err(SegmentError::TooBig { length: 1500, limit: 200 }));
    let one = Segment::default().with_data(octets(1448, 1)).tcp();
    assert_eq!(
        split(&VnetHeader::default(), &one, 1499),
        Err(SegmentError::TooBig { length: 1500, limit: 1499 })
    );
}

#[test]
fn offload_headers_that_do_not_fit_are_refused() {
    let s = Segment::default().with_data(octets(3000, 1));
    let (vnet, p) = super_packet(&s, true, 1448);
    let bad = |v: VnetHeader| split(&v, &p, 1500);
    assert_eq!(bad(VnetHeader { gso_size: 0, ..vnet }), Err(SegmentError::Offload));
    assert_eq!(bad(VnetHeader { gso_type: 4, ..vnet }), Err(SegmentError::Offload));
    assert_eq!(bad(VnetHeader { gso_type: 3, ..vnet }), Err(SegmentError::Offload));
    assert_eq!(bad(VnetHeader { gso_type: 5, ..vnet }), Err(SegmentError::Offload));
    let one = Segment::default().tcp();
    for (csum_start, csum_offset) in [(20, 40), (60, 0), (51, 0), (0xffff, 0xffff)] {
        let v = VnetHeader { flags: 1, csum_start, csum_offset, ..VnetHeader::default() };
        assert_eq!(split(&v, &one, 1500), Err(SegmentError::Offload), "{csum_start} {csum_offset}");
    }
}

#[test]
fn equal_segments_go_out_as_one_send_within_its_limits() {
    let mut a = End::new(pair(GCM));
    let mut out = Output::default();
    let mut seal = |a: &mut End, data: usize, size: u16| {
        let (vnet, mut p) = super_packet(&Segment::default().with_data(octets(data, 1)), true, size);
        let parsed = Parsed::parse(&p).unwrap();
        segment::seal(a.sa(), &vnet, &mut p, &parsed, 1400, &mut out).unwrap()
    };
    assert_eq!(seal(&mut a, 64_000, 1300), 50);
    assert_eq!(seal(&mut a, 400, 1300), 1);
    // Many small ones: at most 64 in one send.
    assert_eq!(seal(&mut a, 30_000, 300), 100);
    let shape: Vec<(usize, usize)> = out.udp.iter().map(|u| (u.range.len() / u.segment, u.segment)).collect();
    let sealed = |n: usize| (n + 52 + 2).next_multiple_of(4) + 32;
    let full = sealed(1300);
    // 47 of them reach 65,507 octets; the last full one and the rest of the first make the second send.
    let per_send = 65_507 / full;
    assert_eq!(shape[0], (per_send, full));
    assert_eq!(out.udp[1].range.len(), full * (49 - per_send) + sealed(300));
    // A shorter one ends a send, and behind it nothing joins.
    assert_eq!(out.udp[2].range.len(), sealed(400) + sealed(300));
    assert_eq!(shape[3..], [(64, sealed(300)), (35, sealed(300))]);
    for u in &out.udp {
        assert!(u.range.len() <= 65_507 && u.range.len().div_ceil(u.segment) <= 64);
        assert!(u.df);
    }
    // What one send carries is whole packets one behind the other.
    assert!(out.udp.windows(2).all(|w| w[0].range.end == w[1].range.start));
}

#[test]
fn raw_esp_is_one_send_for_each_packet() {
    let mut p = pair(GCM);
    (p.udp, p.copy_dscp) = (None, true);
    let mut a = End::new(p);
    let mut out = Output::default();
    let s = Segment { tos: 0xb9, df: false, ..Segment::default() }.with_data(octets(3000, 1));
    let (vnet, mut p) = super_packet(&s, true, 1300);
    let parsed = Parsed::parse(&p).unwrap();
    assert_eq!(segment::seal(a.sa(), &vnet, &mut p, &parsed, 1400, &mut out), Ok(3));
    assert_eq!(out.raw.len(), 3);
    assert!(out.raw.iter().all(|r| r.protocol == 50 && r.tos == 0xb9 && !r.df));
}

#[test]
fn a_super_packet_comes_back_whole_from_the_other_end() {
    for v6 in [false, true] {
        let (mut a, mut b) = End::both(pair(GCM));
        let s = Segment { v6, flags: 0x18, ..Segment::default() }.with_data(octets(60_000, 1));
        let (vnet, p) = super_packet(&s, true, 1300);
        let mut out = Output::default();
        let parsed = Parsed::parse(&p).unwrap();
        segment::seal(a.sa(), &vnet, &mut p.clone(), &parsed, 1400, &mut out).unwrap();
        let mut inner = vec![];
        for u in &out.udp {
            for packet in out.bytes[u.range.clone()].chunks(u.segment) {
                inner.push(b.open_copy(packet).unwrap());
            }
        }
        assert_eq!(inner.len(), 47);
        assert_eq!(coalesce(&inner, ALL), [(vnet, p)]);
    }
}

#[test]
fn interleaved_flows_are_joined_each_for_itself() {
    let flow = |port| {
        let s = Segment { port, flags: 0x18, ..Segment::default() }.with_data(octets(5000, 1));
        super_packet(&s, true, 500)
    };
    let flows: Vec<_> = (0..8).map(|i| flow(40000 + i)).collect();
    let cut: Vec<Vec<Vec<u8>>> = flows.iter().map(|(v, p)| split(v, p, 1500).unwrap()).collect();
    let mixed: Vec<Vec<u8>> = (0..10).flat_map(|i| cut.iter().map(move |c| c[i].clone())).collect();
    assert_eq!(coalesce(&mixed, ALL), flows);
}

#[test]
fn more_flows_than_slots_still_arrive_in_order() {
    let cut: Vec<Vec<Vec<u8>>> = (0..20u16)
        .map(|i| {
            let s = Segment { port: 40000 + i, flags: 0x18, ..Segment::default() }.with_data(octets(3000, 1));
            let (v, p) = super_packet(&s, true, 500);
            split(&v, &p, 1500).unwrap()
        })
        .collect();
    let mixed: Vec<Vec<u8>> = (0..6).flat_map(|i| cut.iter().map(move |c| c[i].clone())).collect();
    let got: Vec<Vec<u8>> =
        coalesce(&mixed, ALL).iter().flat_map(|(v, p)| split(v, p, 1500).unwrap()).collect();
    for (i, c) in cut.iter().enumerate() {
        let port = u16::try_from(40000 + i).unwrap().to_be_bytes();
        let of_flow: Vec<Vec<u8>> = got.iter().filter(|p| p[20..22] == port).cloned().collect();
        assert_eq!(&of_flow, c);
    }
}

#[test]
fn an_output_that_was_cleared_too_early_loses_packets_and_nothing_else() {
    let (mut c, mut out) = (Coalescer::default(), Output::default());
    let s = Segment::default().with_data(octets(500, 1));
    let push = |c: &mut Coalescer<()>, out: &mut Output, p: &[u8]| {
        c.push((), p, &Parsed::parse(p).unwrap(), ALL, out, |o, (), d| d.to_host(o));
    };
    push(&mut c, &mut out, &s.tcp());
    out.clear();
    out.bytes.resize(2000, 0xff);
    let next = Segment { sequence: 1500, ..s.clone() }.tcp();
    push(&mut c, &mut out, &next);
    out.clear();
    c.flush(&mut out, |o, (), d| d.to_host(o));
    assert!(out.host.is_empty());
    push(&mut c, &mut out, &next);
    c.flush(&mut out, |o, (), d| d.to_host(o));
    assert_eq!(&out.bytes[out.host[0].clone()][10..], next);
}

/// What must not be joined goes out alone, untouched and in its place.
#[test]
fn only_what_could_have_been_one_is_joined() {
    let base = Segment::default().with_data(octets(500, 1));
    let next = Segment { sequence: 1500, id: 2, ..base.clone() };
    let alone = |second: Vec<u8>| {
        let packets = vec![base.tcp(), second];
        let got = coalesce(&packets, ALL);
        let plain: Vec<Vec<u8>> = got.iter().map(|(_, p)| p.clone()).collect();
        got.iter().all(|(v, _)| *v == VnetHeader::default()) && plain == packets
    };
    assert!(!alone(next.tcp()), "the good case");
    let change = |f: &dyn Fn(&mut Segment)| {
        let mut s = next.clone();
        f(&mut s);
        alone(s.tcp())
    };
    assert!(change(&|s| s.sequence += 1), "a gap");
    assert!(change(&|s| s.sequence -= 500), "the same again");
    assert!(change(&|s| s.data.push(0)), "longer than the first");
    assert!(change(&|s| s.data.clear()), "an acknowledgment");
    assert!(change(&|s| s.tos = 1));
    assert!(change(&|s| s.options[7] = 9), "another time stamp");
    assert!(change(&|s| s.options.truncate(4)));
    assert!(change(&|s| s.df = false));
    for flags in [0x11, 0x12, 0x14, 0x30, 0x50, 0x90, 0x00] {
        assert!(change(&|s| s.flags = flags), "flags {flags:#x}");
    }
    let mut bad = next.tcp();
    *bad.last_mut().unwrap() ^= 1;
    assert!(alone(bad), "a wrong checksum stays for the receiver to see");
    let mut bad = next.tcp();
    bad[8] ^= 1;
    assert!(alone(bad), "a wrong IP header checksum or another hop limit");
    // Without DF the identification means something.
    let one = Segment { df: false, id: 9, ..base.clone() };
    let two = |id| Segment { df: false, id, ..next.clone() }.tcp();
    assert_eq!(coalesce(&[one.tcp(), two(10)], ALL).len(), 1);
    assert_eq!(coalesce(&[one.tcp(), two(11)], ALL).len(), 2);
    // A short segment or PSH ends a super-packet.
    let short = Segment { sequence: 1500, ..base.clone() }.with_data(octets(400, 1)).tcp();
    let after = Segment { sequence: 1900, ..base.clone() }.tcp();
    assert_eq!(coalesce(&[base.tcp(), short, after], ALL).len(), 2);
    let pushed = Segment { flags: 0x18, ..next.clone() }.tcp();
    let after = Segment { sequence: 2000, ..base.clone() }.tcp();
    assert_eq!(coalesce(&[base.tcp(), pushed, after], ALL).len(), 2);
}

#[test]
fn limits_of_the_destination_hold() {
    let s = Segment { flags: 0x10, ..Segment::default() }.with_data(octets(60_000, 1));
    let (vnet, p) = super_packet(&s, true, 1000);
    let cut = split(&vnet, &p, 1500).unwrap();
    let got = coalesce(&cut, Limits { bytes: 9000, udp: false });
    assert!(got.iter().all(|(_, p)| p.len() <= 9000));
    assert_eq!(got.len(), 60usize.div_ceil(8));
    let again: Vec<Vec<u8>> = got.iter().flat_map(|(v, p)| split(v, p, 1500).unwrap()).collect();
    assert_eq!(again, cut);
    let datagrams = vec![Segment::default().with_data(octets(100, 1)).udp(); 3];
    assert_eq!(coalesce(&datagrams, Limits { bytes: MAX_SUPER, udp: false }).len(), 3);
    assert_eq!(coalesce(&datagrams, ALL).len(), 1);
}

#[test]
fn a_udp_super_packet_comes_back_whole() {
    for v6 in [false, true] {
        let s = Segment { v6, ..Segment::default() }.with_data(octets(10_500, 1));
        let (vnet, p) = super_packet(&s, false, 1000);
        let cut = split(&vnet, &p, 1500).unwrap();
        assert_eq!(coalesce(&cut, ALL), [(vnet, p)]);
    }
}

#[test]
fn a_datagram_without_checksum_is_left_alone() {
    let mut d = Segment::default().with_data(octets(100, 1)).udp();
    d[26..28].fill(0);
    let got = coalesce(&[d.clone(), d.clone()], ALL);
    assert_eq!(got, [(VnetHeader::default(), d.clone()), (VnetHeader::default(), d)]);
}

#[test]
fn fragments_do_not_overtake_the_flow_between_their_addresses() {
    let one = Segment::default().with_data(octets(500, 1)).tcp();
    let mut fragment = Segment::default().ip(6, &octets(64, 2));
    fragment[6..8].copy_from_slice(&0x2000u16.to_be_bytes());
    fragment[10..12].fill(0);
    let c = Sum::ZERO.with(&fragment[..20]).finish();
    fragment[10..12].copy_from_slice(&c);
    let two = Segment { sequence: 1500, ..Segment::default() }.with_data(octets(500, 1)).tcp();
    let got: Vec<Vec<u8>> =
        coalesce(&[one.clone(), fragment.clone(), two.clone()], ALL).into_iter().map(|(_, p)| p).collect();
    assert_eq!(got, [one, fragment, two]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Cutting what was joined gives the packets that were joined, whatever they are.
    #[test]
    fn split_of_coalesce_is_the_identity_for_each_flow(
        steps in proptest::collection::vec((0u16..3, 0usize..4, any::<bool>(), 0u8..8, any::<bool>()), 1..60), udp: bool, v6: bool
    ) {
        let mut next = [1000u32; 3];
        let mut packets = vec![];
        for (flow, size, odd, oddity, push) in steps {
            let mut s = Segment { v6, port: 40000 + flow, sequence: next[usize::from(flow)], ..Segment::default() };
            s.data = octets([0, 100, 400, 400][size], 1);
            s.flags = if push { 0x18 } else { 0x10 };
            if odd {
                match oddity {
                    0 => s.sequence = s.sequence.wrapping_add(7),
                    1 => s.flags |= 1,
                    2 => s.tos = 2,
                    3 => s.flags |= 0x40,
                    4 => s.options = vec![],
                    _ => {}
                }
            }
            next[usize::from(flow)] = s.sequence.wrapping_add(u32::try_from(s.data.len()).unwrap());
            packets.push(if udp && oddity == 7 { s.udp() } else { s.tcp() });
        }
        let joined = coalesce(&packets, Limits { bytes: 3000, udp });
        for (_, p) in &joined {
            prop_assert!(p.len() <= 3000);
        }
        let again: Vec<Vec<u8>> = joined.iter().flat_map(|(v, p)| split(v, p, 65_535).unwrap()).collect();
        prop_assert_eq!(again.len(), packets.len());
        for flow in 0..3u16 {
            for protocol in [6, 17] {
                let port = (40000 + flow).to_be_bytes();
                // Identifications of atomic packets mean nothing and count up after cutting.
                let of_flow = |all: &[Vec<u8>]| all.iter().filter(|p| {
                    let (proto, at) = if v6 { (p[6], 40) } else { (p[9], 20) };
                    proto == protocol && p[at..at + 2] == port
                }).map(|p| {
                    let mut p = p.clone();
                    if !v6 {
                        p[4..6].fill(0);
                        p[10..12].fill(0);
                    }
                    p
                }).collect::<Vec<_>>();
                prop_assert_eq!(of_flow(&again), of_flow(&packets));
            }
        }
    }

    #[test]
    fn random_packets_never_panic(mut packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 20..120), 1..10),
                                  flags: u8, gso_type in 0u8..8, gso_size: u16, csum_start in 0u16..130, csum_offset in 0u16..130) {
        let vnet = VnetHeader { flags, gso_type, hdr_len: 0, gso_size, csum_start, csum_offset };
        let mut c = Coalescer::default();
        let mut out = Output::default();
        let mut a = End::new(pair(GCM));
        for p in &mut packets {
            // Plausible enough to get past the parser now and then.
            let v6 = p[0] & 1 == 1 && p.len() >= 40;
            p[0] = if v6 { 0x60 } else { 0x45 };
            let n = u16::try_from(p.len()).unwrap();
            if v6 {
                p[4..6].copy_from_slice(&(n - 40).to_be_bytes());
                p[6] = [6, 17, 44, 0][usize::from(p[6] & 3)];
            } else {
                p[2..4].copy_from_slice(&n.to_be_bytes());
                p[9] = [6, 17, 1, 47][usize::from(p[9] & 3)];
            }
            if let Ok(parsed) = Parsed::parse(p) {
                c.push((), p, &parsed, ALL, &mut out, |o, (), d| d.to_host(o));
                let _ = segment::seal(a.sa(), &vnet, &mut p.clone(), &parsed, 1400, &mut out);
                let _ = segment::split(&vnet, &mut p.clone(), &parsed, 1400, 0, &mut out, |_, _| ());
                let _ = segment::super_header(&parsed, gso_size);
            }
        }
        c.flush(&mut out, |o, (), d| d.to_host(o));
    }
}
