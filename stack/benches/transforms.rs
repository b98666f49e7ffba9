//! What the transforms cost: `cargo bench -p stack --no-default-features --bench transforms [FILTER]`.
//!
//! Prints nanoseconds per packet of 1,400 octets (inner), the median of many short rounds of each case, taken in turns so
//! that a busy machine troubles all cases alike. Numbers compare on one machine only; see docs/performance.md.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]
#![allow(clippy::disallowed_methods, reason = "measures time")]

use stack::aead::Sealer;
use stack::control::{DfMode, EspIntegrity, EspSuite, KeyBytes, Mode, SaPair};
use stack::engine::coalesce::{Coalescer, Limits, MAX_SUPER};
use stack::engine::esp;
use stack::engine::io::{Output, VnetHeader};
use stack::engine::sad::{Sa, SaHandle, Sad};
use stack::engine::segment::{self, super_header};
use stack::wire::checksum::{Sum, pseudo_header};
use stack::wire::ipv4::{DF, Ipv4Header};
use stack::wire::packet::Parsed;
use std::hint::black_box;
use std::time::{Duration, Instant};

const INNER: usize = 1400;
const PACKETS: usize = 46;
const ROUNDS: usize = 300;
const LIMITS: Limits = Limits { bytes: MAX_SUPER, udp: true };

struct Case {
    name: String,
    /// Runs once over `packets` packets and says how long that took.
    run: Box<dyn FnMut() -> Duration>,
    packets: usize,
    times: Vec<Duration>,
}

fn pair(suite: EspSuite, udp: bool) -> SaPair {
    let n = suite.key_len().unwrap();
    SaPair {
        tunnel: 1,
        generation: 1,
        ike_tunnel: 1,
        spi_in: 0x1000,
        spi_out: 0x2000,
        local: [192, 0, 2, 1].into(),
        remote: [192, 0, 2, 2].into(),
        udp: udp.then_some((4500, 4500)),
        mode: Mode::Tunnel,
        suite,
        key_in: KeyBytes(vec![1; n]),
        key_out: KeyBytes(vec![2; n]),
        esn: true,
        replay_window: 1024,
        local_selectors: vec![],
        remote_selectors: vec![],
        rule: String::new(),
        outbound_active: true,
        df: DfMode::Copy,
        copy_dscp: false,
        soft_bytes: None,
        hard_bytes: None,
        ceiling_of: None,
        continued: None,
    }
}

fn other(p: &SaPair) -> SaPair {
    let (key_in, key_out) = (p.key_out.clone(), p.key_in.clone());
    SaPair {
        spi_in: p.spi_out,
        spi_out: p.spi_in,
        key_in,
        key_out,
        local: p.remote,
        remote: p.local,
        ..p.clone()
    }
}

fn install(p: SaPair) -> (Sad, SaHandle) {
    let mut sad = Sad::new(1);
    let handle = sad.install(p).unwrap();
    (sad, handle)
}

/// A TCP super-packet as a TUN gives it.
fn super_packet(port: u16) -> (VnetHeader, Vec<u8>) {
    let size = INNER - 52;
    let mut t = vec![0u8; 32];
    t[..2].copy_from_slice(&port.to_be_bytes());
    (t[12], t[13]) = (0x80, 0x18);
    t.resize(32 + size * PACKETS, 0x5a);
    let mut p = Ipv4Header {
        tos: 0,
        total_len: u16::try_from(20 + t.len()).unwrap(),
        id: 0,
        flags_and_offset: DF,
        ttl: 64,
        protocol: 6,
        source: [10, 0, 0, 1].into(),
        destination: [10, 0, 0, 2].into(),
    }
    .to_bytes()
    .to_vec();
    let partial = pseudo_header(&p[12..20], 6, u32::try_from(t.len()).unwrap()).folded();
    t[16..18].copy_from_slice(&partial);
    p.extend_from_slice(&t);
    let vnet = super_header(&Parsed::parse(&p).unwrap(), u16::try_from(size).unwrap()).unwrap();
    (vnet, p)
}

fn cut(vnet: &VnetHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let (mut out, mut got) = (Output::default(), vec![]);
    let parsed = Parsed::parse(packet).unwrap();
    let emit = |o: &mut Output, r: std::ops::Range<usize>| got.push(o.bytes[r].to_vec());
    segment::split(vnet, &mut packet.to_vec(), &parsed, 1500, 0, &mut out, emit).unwrap();
    got
}

fn timed(f: impl FnOnce()) -> Duration {
    let t = Instant::now();
    f();
    t.elapsed()
}

/// The cipher alone, in place, without copying.
fn cipher_case(name: &str, suite: EspSuite, add: &mut impl Add) {
    let sealer = Sealer::new(suite, &vec![2; suite.key_len().unwrap()]).unwrap();
    let text = (INNER + 2).next_multiple_of(suite.alignment());
    let mut packet = vec![0; 8 + suite.iv_len() + text + suite.icv_len()];
    let mut number = 0;
    let run = move || {
        timed(|| {
            for _ in 0..PACKETS {
                number += 1;
                sealer.seal(black_box(&mut packet), number, true).unwrap();
            }
        })
    };
    add(format!("cipher alone {name}"), PACKETS, Box::new(run));
}

/// Cases of one suite.
fn esp_cases(
    name: &str,
    suite: EspSuite,
    vnet: VnetHeader,
    big: &[u8],
    small: &[Vec<u8>],
    add: &mut impl Add,
) {
    let (mut sad, h) = install(pair(suite, true));
    let (packets, mut out) = (small.to_vec(), Output::default());
    let run = move || {
        let sa: &mut Sa = sad.get_mut(h).unwrap();
        out.clear();
        timed(|| {
            for q in &packets {
                black_box(esp::seal(sa, q, &[], &mut out.bytes, &mut out.sa_notices)).unwrap();
            }
        })
    };
    add(format!("seal {name}"), PACKETS, Box::new(run));

    let p = pair(suite, true);
    let (mut sad_b, b) = install(other(&p));
    let (mut sad_a, a) = install(p);
    let (packets, mut out) = (small.to_vec(), Output::default());
    let run = move || {
        out.clear();
        let sa = sad_a.get_mut(a).unwrap();
        let mut seal = |q: &Vec<u8>| esp::seal(sa, q, &[], &mut out.bytes, &mut out.sa_notices).unwrap();
        let all: Vec<_> = packets.iter().map(&mut seal).collect();
        let (sa, now) = (sad_b.get_mut(b).unwrap(), Instant::now());
        let (bytes, notices) = (&mut out.bytes, &mut out.sa_notices);
        timed(|| {
            for r in all {
                black_box(esp::open(sa, &mut bytes[r], now, notices)).unwrap();
            }
        })
    };
    add(format!("open {name}"), PACKETS, Box::new(run));

    for (way, udp) in [("udp", true), ("raw", false)] {
        let (mut sad, h) = install(pair(suite, udp));
        let (mut packet, mut out) = (big.to_vec(), Output::default());
        let parsed = Parsed::parse(big).unwrap();
        let run = move || {
            let sa = sad.get_mut(h).unwrap();
            out.clear();
            timed(|| _ = segment::seal(sa, &vnet, &mut packet, &parsed, 1500, &mut out).unwrap())
        };
        add(format!("segment and seal {name} {way}"), PACKETS, Box::new(run));
    }
}

trait Add: FnMut(String, usize, Box<dyn FnMut() -> Duration>) {}
impl<T: FnMut(String, usize, Box<dyn FnMut() -> Duration>)> Add for T {}

fn coalesce_case(flows: u16, add: &mut impl Add) {
    let one = |f| {
        let (vnet, packet) = super_packet(40000 + f);
        cut(&vnet, &packet)
    };
    let cuts: Vec<Vec<Vec<u8>>> = (0..flows).map(one).collect();
    let mixed: Vec<Vec<u8>> = (0..PACKETS).flat_map(|i| cuts.iter().map(move |c| c[i].clone())).collect();
    let (mut c, mut out) = (Coalescer::default(), Output::default());
    let count = mixed.len();
    let run = move || {
        out.clear();
        let t = timed(|| {
            for p in &mixed {
                let parsed = Parsed::parse(p).unwrap();
                c.push((), p, &parsed, LIMITS, &mut out, |o, (), d| d.to_host(o));
            }
            c.flush(&mut out, |o, (), d| d.to_host(o));
        });
        assert_eq!(out.host.len(), usize::from(flows));
        t
    };
    add(format!("parse and coalesce, flows interleaved: {flows}"), count, Box::new(run));
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let (vnet, big) = super_packet(40000);
    let small = cut(&vnet, &big);
    assert!(small.len() == PACKETS && small[0].len() == INNER);
    let mut cases: Vec<Case> = vec![];
    let mut add = |name: String, packets: usize, run: Box<dyn FnMut() -> Duration>| {
        if name.contains(&filter) {
            cases.push(Case { name, run, packets, times: vec![] });
        }
    };

    let block = big[..INNER].to_vec();
    let sum = move || timed(|| (0..PACKETS).for_each(|_| _ = black_box(Sum::ZERO.with(black_box(&block)))));
    add("checksum".into(), PACKETS, Box::new(sum));
    let packets = small.clone();
    let parse = move || timed(|| packets.iter().for_each(|p| _ = black_box(Parsed::parse(black_box(p)))));
    add("parse".into(), PACKETS, Box::new(parse));
    for (name, suite) in [
        ("aes-gcm-128", EspSuite::AesGcm16 { key_bits: 128 }),
        ("aes-gcm-256", EspSuite::AesGcm16 { key_bits: 256 }),
        ("aes-cbc-128-sha256", EspSuite::AesCbc { key_bits: 128, integrity: EspIntegrity::HmacSha256 }),
        ("aes-cbc-256-sha512", EspSuite::AesCbc { key_bits: 256, integrity: EspIntegrity::HmacSha512 }),
    ] {
        cipher_case(name, suite, &mut add);
        esp_cases(name, suite, vnet, &big, &small, &mut add);
    }
    let (mut packet, mut out) = (big.clone(), Output::default());
    let parsed = Parsed::parse(&big).unwrap();
    let run = move || {
        out.clear();
        timed(|| _ = segment::split(&vnet, &mut packet, &parsed, 1500, 16, &mut out, |_, _| ()).unwrap())
    };
    add("split in clear".into(), PACKETS, Box::new(run));
    for flows in [1, 4] {
        coalesce_case(flows, &mut add);
    }

    for _ in 0..ROUNDS {
        for c in &mut cases {
            let t = (c.run)();
            c.times.push(t);
        }
    }
    println!("{:<46} {:>8} {:>8}   ns per packet of {INNER} octets", "", "median", "best");
    for c in &mut cases {
        c.times.sort_unstable();
        let each = |t: Duration| t.as_nanos() / c.packets as u128;
        println!("{:<46} {:>8} {:>8}", c.name, each(c.times[ROUNDS / 2]), each(c.times[0]));
    }
}
