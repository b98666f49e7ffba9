//! Hostile bytes on every way of a whole stack: nothing panics, nothing grows, nothing gets through.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

mod common;

use common::*;
use proptest::prelude::*;
use stack::control::FilterAction;
use stack::engine::io::{RawArrival, UdpArrival, VnetHeader};
use std::net::{IpAddr, SocketAddr};

/// Bytes that get past the first checks now and then: a good packet with some octets changed, or noise.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let seed = prop_oneof![
        Just(ends(PEER, 40_000, DVIPA, 443).tcp("S", 1, 0, b"data")),
        Just(ends(DVIPA, 443, PEER, 40_000).tcp("A", 1, 1, &[7; 300])),
        Just(ends(PEER, 500, DVIPA, 4500).udp(&[0; 64])),
        Just(ends(STRANGER, 1, DVIPA, 2).udp(&[1; 64])),
        Just(
            [&[0x20, 0, 8, 0, 0, 0, 0, 100][..], &ends(PEER, 1, DVIPA, 443).tcp("A", 1, 1, &[7; 900])]
                .concat()
        ),
        Just([&[0, 0, 8, 0][..], &ends(DVIPA, 443, PEER, 1).tcp("A", 1, 1, &[7; 90])].concat()),
        Just([&0x1000u32.to_be_bytes()[..], &[0, 0, 0, 1], &[3; 120]].concat()),
        Just({
            let mut e = Vec::new();
            let about = ends(DVIPA, 443, PEER, 1).tcp("A", 1, 1, b"");
            assert!(stack::wire::icmp::write_error(
                &mut e,
                PEER,
                &about,
                stack::wire::icmp::Error::TooBig(600)
            ));
            e
        }),
        Just(
            [&[0x60, 0, 0, 0, 0, 40, 44, 64][..], &[0xfd; 32], &[17, 0, 0, 1, 0, 0, 0, 9], &[5; 32]].concat()
        ),
        prop::collection::vec(any::<u8>(), 0..200),
    ];
    (
        seed,
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        any::<prop::sample::Index>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(mut b, changes, cut, cuts)| {
            for (at, value) in changes {
                if !b.is_empty() {
                    let i = at.index(b.len());
                    b[i] = value;
                }
            }
            if cuts && !b.is_empty() {
                b.truncate(cut.index(b.len()));
            }
            b
        })
}

fn header() -> impl Strategy<Value = VnetHeader> {
    prop_oneof![
        Just(VnetHeader::default()),
        (
            any::<u8>(),
            prop_oneof![Just(1u8), Just(4), Just(5), any::<u8>()],
            any::<u16>(),
            any::<u16>(),
            any::<u16>(),
            any::<u16>()
        )
            .prop_map(|(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset)| VnetHeader {
                flags,
                gso_type,
                hdr_len,
                gso_size,
                csum_start,
                csum_offset
            }),
    ]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![Just(PEER), Just(DVIPA), Just(STRANGER), Just(xcf(1)), Just(xcf(2)), Just(xcf(3))]
}

#[derive(Debug, Clone)]
enum Input {
    Host(VnetHeader, Vec<u8>),
    Udp(IpAddr, u16, usize, Vec<u8>),
    Esp(IpAddr, IpAddr, Vec<u8>),
    Xcf(IpAddr, IpAddr, Vec<u8>),
    Pass(u64),
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => (header(), bytes()).prop_map(|(h, b)| Input::Host(h, b)),
        2 => (address(), prop_oneof![Just(500u16), Just(4500)], 0usize..80, bytes()).prop_map(|(a, p, s, b)| Input::Udp(a, p, s, b)),
        2 => (address(), address(), bytes()).prop_map(|(a, b, p)| Input::Esp(a, b, p)),
        4 => (address(), address(), bytes()).prop_map(|(a, b, p)| Input::Xcf(a, b, p)),
        1 => (0u64..100).prop_map(Input::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn random_bytes_on_every_way_never_panic(inputs in prop::collection::vec(input(), 1..60), node in 1usize..3) {
        let mut w = sysplex();
        for i in inputs {
            let now = w.now;
            let n = &mut w.nodes[node];
            match i {
                Input::Host(h, mut b) => n.engine.handle_host(now, h, &mut b, &mut n.out),
                Input::Udp(from, port, segment, mut b) => {
                    let arrival = UdpArrival { local: SocketAddr::new(DVIPA, port), remote: SocketAddr::new(from, port), segment, tos: 0 };
                    n.engine.handle_udp(now, arrival, &mut b, &mut n.out);
                }
                Input::Esp(source, destination, mut b) => {
                    n.engine.handle_esp(now, RawArrival { source, destination, tos: 0 }, &mut b, &mut n.out);
                }
                Input::Xcf(source, destination, mut b) => {
                    n.engine.handle_xcf(now, RawArrival { source, destination, tos: 0 }, &mut b, &mut n.out);
                }
                Input::Pass(secs) => w.timeout(["peer", "D", "T1"][node], std::time::Duration::from_secs(secs)),
            }
            // Ranges lie inside of the arena, whatever came in.
            let out = &w.nodes[node].out;
            prop_assert!(out.host.iter().all(|r| r.end <= out.bytes.len() && r.len() > 10));
            prop_assert!(out.xcf.iter().all(|s| s.range.end <= out.bytes.len()));
            w.carry(node);
        }
        // The filters let nothing of the DVIPA pass in clear.
        for n in &w.nodes {
            for (_, p) in &n.clear {
                prop_assert!(p[0] >> 4 != 4 || p[12..16] != [192, 0, 2, 80] || p[9] == 1, "{} leaked {p:?}", n.name);
            }
        }
    }
}

#[test]
fn every_packet_in_is_a_packet_out_or_a_count() {
    // R2: no counter, no drop. Each input below is dropped, and the sum of the counters is their number.
    let mut w = sysplex();
    w.filters("D", both("N", any4(), any4(), FilterAction::Deny));
    let mut inputs = 0;
    for (n, flags) in (0u16..).zip(["S", "A", "SA", "R", "FA"]) {
        w.send("D", ends(STRANGER, n, DVIPA, 443).tcp(flags, 1, 1, b""));
        w.send("D", ends(STRANGER, n, IpAddr::from([203, 0, 113, 1]), 443).tcp(flags, 1, 1, b""));
        w.esp("D", PEER, DVIPA, vec![n as u8; 50]);
        w.gre("D", STRANGER, xcf(1), vec![0; 50]);
        inputs += 4;
    }
    let total: u64 = w.drops("D").iter().map(|d| d.1).sum();
    assert_eq!(total, inputs, "{:?}", w.drops("D"));
}
