//! Transport mode: the IP header stays outside, the kernel's on the way out, restored on the way in.

use super::common::{End, SUITES, Segment, octets, other_end, pair};
use stack::control::{EspSuite, KeyBytes, Mode, SaPair};
use stack::engine::esp::{self, Content, OpenError};
use stack::engine::io::{Output, VnetHeader};
use stack::engine::segment::{self, SegmentError};
use stack::wire::packet::Parsed;

const GCM: EspSuite = EspSuite::AesGcm16 { key_bits: 128 };

/// Between the addresses of [`Segment`].
fn transport(suite: EspSuite, v6: bool) -> SaPair {
    let mut p = pair(suite);
    (p.mode, p.udp) = (Mode::Transport, None);
    (p.local, p.remote) = if v6 {
        ("2001:db8:1::1".parse().unwrap(), "2001:db8:2::2".parse().unwrap())
    } else {
        ([10, 1, 0, 1].into(), [10, 2, 0, 2].into())
    };
    p
}

fn seal(a: &mut End, vnet: &VnetHeader, packet: &[u8], limit: usize) -> Result<Output, SegmentError> {
    let mut out = Output::default();
    let parsed = Parsed::parse(packet).unwrap();
    segment::seal(a.sa(), vnet, &mut packet.to_vec(), &parsed, limit, &mut out)?;
    Ok(out)
}

fn open(b: &mut End, esp: &[u8], tos: u8) -> Result<Vec<u8>, OpenError> {
    let mut esp = esp.to_vec();
    let opened = b.open(&mut esp)?;
    let Content::Payload(protocol) = opened.content else { panic!("{opened:?}") };
    let mut packet = vec![0xee; 3];
    esp::restore_packet(b.sa(), protocol, &esp[opened.inner], tos, &mut packet).unwrap();
    Ok(packet)
}

#[test]
fn scapy_and_we_make_the_same_packet() {
    let hex = |s: &str| hex::decode(s).unwrap();
    let packet =
        hex("4500002d00004000400626c60a0100010a0200029c400050000003e800000005501820009772000068656c6c6f");
    let want = concat!(
        "c0de0080000000090000000000000009420286b40956110c931d54dd4dd3332f8bcbb5cf7a1084de38e30877937714a2",
        "397c8675e98788ed29ba1a07"
    );
    let mut p = transport(GCM, false);
    (p.spi_out, p.key_out) = (0xc0de_0080, KeyBytes(hex("030a11181f262d343b424950575e656c90979ea5")));
    let (mut a, mut b) = End::both(p);
    a.sa().resume(9, 0);
    let out = seal(&mut a, &VnetHeader::default(), &packet, 1500).unwrap();
    assert_eq!(hex::encode(&out.bytes[out.raw[0].range.clone()]), want);
    assert_eq!(open(&mut b, &hex(want), 0), Ok(packet));
}

#[test]
fn a_super_packet_arrives_in_segments() {
    for suite in SUITES {
        for v6 in [false, true] {
            let (mut a, mut b) = End::both(transport(suite, v6));
            let s = Segment { v6, id: 0, tos: 0xb9, ..Segment::default() }.with_data(octets(3000, 1));
            let parsed = Parsed::parse(&s.tcp()).unwrap();
            let vnet = segment::super_header(&parsed, 1300).unwrap();
            let out = seal(&mut a, &vnet, &s.tcp(), 1400).unwrap();
            assert_eq!(out.raw.len(), 3);
            let mut data = vec![];
            for r in &out.raw {
                assert_eq!((r.tos, r.df, r.protocol), (0xb9, true, 50));
                let packet = open(&mut b, &out.bytes[r.range.clone()], r.tos).unwrap();
                let h = etherparse::PacketHeaders::from_ip_slice(&packet).unwrap();
                let Some(etherparse::TransportHeader::Tcp(t)) = h.transport else { panic!() };
                let p = Parsed::parse(&packet).unwrap();
                assert_eq!((p.source, p.destination, p.tos), (parsed.source, parsed.destination, 0xb9));
                assert_eq!(t.sequence_number, 1000 + u32::try_from(data.len()).unwrap());
                let sum = match &h.net {
                    Some(etherparse::NetHeaders::Ipv4(ip, _)) => t.calc_checksum_ipv4(ip, h.payload.slice()),
                    Some(etherparse::NetHeaders::Ipv6(ip, _)) => t.calc_checksum_ipv6(ip, h.payload.slice()),
                    other => panic!("{other:?}"),
                };
                assert_eq!(t.checksum, sum.unwrap());
                data.extend_from_slice(h.payload.slice());
            }
            assert_eq!(data, s.data, "{suite:?}");
        }
    }
}

#[test]
fn behind_a_nat_checksums_are_made_anew() {
    let mut p = transport(GCM, false);
    p.udp = Some((4500, 4500));
    let mut q = other_end(&p);
    // The NAT gives the first end another address.
    q.remote = [203, 0, 113, 9].into();
    let (mut a, mut b) = (End::new(p), End::new(q));
    for packet in
        [Segment::default().with_data(octets(9, 1)).tcp(), Segment::default().with_data(octets(9, 1)).udp()]
    {
        let out = seal(&mut a, &VnetHeader::default(), &packet, 1400).unwrap();
        let got = open(&mut b, &out.bytes[out.udp[0].range.clone()], 0).unwrap();
        let parsed = Parsed::parse(&got).unwrap();
        assert_eq!(parsed.source, std::net::IpAddr::from([203, 0, 113, 9]));
        let pseudo = stack::wire::checksum::pseudo_header(
            &got[12..20],
            got[9],
            u32::try_from(got.len() - 20).unwrap(),
        );
        assert!(pseudo.with(&got[20..]).is_valid());
        assert_eq!(got[got.len() - 9..], packet[packet.len() - 9..]);
    }
    // Its connections have that address inside: only the port may move (threats T20).
    b.sa().move_peer("198.51.100.1:1".parse().unwrap());
    assert_eq!(b.sa().udp_remote(), Some("203.0.113.9:4500".parse().unwrap()));
    b.sa().move_peer("203.0.113.9:1".parse().unwrap());
    assert_eq!(b.sa().udp_remote(), Some("203.0.113.9:1".parse().unwrap()));
}

#[test]
fn t36_only_whole_packets_between_its_endpoints() {
    let mut other = transport(GCM, false);
    other.remote = [10, 2, 0, 3].into();
    let packet = Segment::default().tcp();
    let refused =
        |p: SaPair, packet: &[u8]| seal(&mut End::new(p), &VnetHeader::default(), packet, 1400).unwrap_err();
    assert_eq!(refused(other, &packet), SegmentError::Transport);
    let mut fragment = packet.clone();
    fragment[7] = 1;
    assert_eq!(refused(transport(GCM, false), &fragment), SegmentError::Transport);
    let hop_by_hop = Segment { v6: true, ..Segment::default() }.ip(0, &[59, 0, 1, 4, 0, 0, 0, 0]);
    assert_eq!(refused(transport(GCM, true), &hop_by_hop), SegmentError::Transport);
}

#[test]
fn the_longest_packet_fits() {
    for suite in SUITES {
        for v6 in [false, true] {
            let mut a = End::new(transport(suite, v6));
            let header = if v6 { 40 } else { 20 };
            for mtu in 1300..1330 {
                let inner = a.sa().max_inner(mtu);
                assert!(header + esp::sealed_len(a.sa(), inner - header) <= mtu);
                assert!(header + esp::sealed_len(a.sa(), inner - header + 1) > mtu);
            }
        }
    }
}

#[test]
fn t35_dummies_and_payloads_that_no_packet_holds() {
    let mut b = End::new(transport(GCM, false));
    let mut packet = vec![];
    assert!(esp::restore_packet(b.sa(), 17, &vec![0; 65_515], 0, &mut packet).is_ok());
    assert!(esp::restore_packet(b.sa(), 17, &vec![0; 65_516], 0, &mut packet).is_err());
    for n in 0..20 {
        for protocol in [0, 6, 17, 255] {
            esp::restore_packet(b.sa(), protocol, &vec![0; n], 0, &mut packet).unwrap();
            let _ = Parsed::parse(&packet);
        }
    }
}
