//! What a lookup in the compiled filter table costs, and how that grows with the table: no flow cache, one packet
//! after the other, packets drawn evenly over the rules and a tenth beside them all.
//!
//! The rules mix prefixes that lie in each other, ranges that overlap, single hosts, "any" on either side, ports,
//! port ranges, ICMP types and connect qualifiers; no rule takes everything, so that misses are searched to the end.
//! `cargo compare -- filter` runs it.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench reads the clock and prints figures"
)]

use stack::control::{AddressRange, Direction, FilterAction, FilterRule, PortRange, TcpQualifier};
use stack::engine::filter::{Classifier, Subject, Upper, plain_search};
use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const SIZES: [usize; 3] = [10, 1_000, 100_000];
const PACKETS: usize = 1 << 17;
/// Every one of so many packets is compared with the plain search.
const CHECKED: usize = 1_024;
const ROUNDS: usize = 15;

/// SplitMix64: the same rules and packets in every run.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).expect("a place in a slice")]
    }

    fn port(&mut self, low: u16, high: u16) -> u16 {
        u16::try_from(self.between(low.into(), high.into())).expect("between two ports")
    }

    /// An address of a site: private networks, and the rest of the world.
    fn address(&mut self) -> u32 {
        let n = u32::try_from(self.next() >> 32).expect("32 bits");
        match self.below(4) {
            0 | 1 => 0x0a00_0000 | n & 0x00ff_ffff,
            2 => 0xac10_0000 | n & 0x000f_ffff,
            _ => 0x1000_0000 + n % 0xb000_0000,
        }
    }

    fn addresses(&mut self) -> (u32, u32) {
        let at = self.address();
        match self.below(20) {
            0..3 => (0, u32::MAX),
            3..6 => (at, at.saturating_add(u32::try_from(self.below(4_096)).expect("small"))),
            6..11 => (at, at),
            _ => {
                let length = self.of(&[12, 16, 16, 20, 20, 22, 24, 24, 24, 24, 24, 26, 28, 30]);
                let hosts = u32::MAX >> length;
                (at & !hosts, at | hosts)
            }
        }
    }

    fn destination_ports(&mut self) -> PortRange {
        match self.below(10) {
            0..2 => PortRange::ANY,
            2..6 => {
                let port = self.of(&[22, 25, 53, 80, 123, 443, 443, 443, 1414, 3306, 5432, 8080, 8443, 9092]);
                PortRange { low: port, high: port }
            }
            6..8 => {
                let port = self.port(1, u16::MAX);
                PortRange { low: port, high: port }
            }
            8 => {
                let low = self.port(1, 60_000);
                PortRange { low, high: self.port(low, low + 5_000) }
            }
            _ => PortRange { low: 1_024, high: u16::MAX },
        }
    }

    fn rule(&mut self, number: usize) -> FilterRule {
        loop {
            let (source, destination) = (self.addresses(), self.addresses());
            let protocol =
                self.of(&[Some(6), Some(6), Some(6), Some(6), Some(17), Some(17), Some(1), None, Some(47)]);
            let mut rule = FilterRule::new(
                format!("R{number}"),
                1,
                Direction::Inbound,
                range(source),
                range(destination),
                self.of(&[FilterAction::Permit, FilterAction::Deny, FilterAction::Ipsec { on_demand: true }]),
            );
            rule.protocol = protocol;
            match protocol {
                Some(6 | 17) => {
                    rule.destination_ports = self.destination_ports();
                    if self.below(5) == 0 {
                        rule.source_ports = self.destination_ports();
                    }
                    if protocol == Some(6) && self.below(8) == 0 {
                        rule.tcp_qualifier = TcpQualifier::InboundConnect;
                    }
                }
                Some(1) if self.below(2) == 0 => rule.icmp_type = Some((8, 8)),
                _ => {}
            }
            // "Any to any" without a port would hide the rest.
            if source != (0, u32::MAX) || destination != (0, u32::MAX) {
                return rule;
            }
        }
    }

    fn within(&mut self, range: AddressRange) -> IpAddr {
        let (IpAddr::V4(low), IpAddr::V4(high)) = (range.low, range.high) else {
            unreachable!("rules are IPv4")
        };
        let (low, high) = (u32::from(low), u32::from(high));
        // Whoever "any" is, it is somebody: packets come from where addresses are.
        let n = if (low, high) == (0, u32::MAX) {
            self.address()
        } else {
            u32::try_from(self.between(low.into(), high.into())).expect("between two addresses")
        };
        IpAddr::V4(n.into())
    }

    fn packet(&mut self, rule: &FilterRule) -> Subject {
        let protocol = rule.protocol.unwrap_or_else(|| self.of(&[6, 17, 1, 50]));
        let upper = match protocol {
            6 | 17 => Upper::Ports {
                source: self.port(rule.source_ports.low, rule.source_ports.high),
                destination: self.port(rule.destination_ports.low, rule.destination_ports.high),
                opens: protocol == 6 && self.below(4) == 0,
            },
            1 => Upper::Type { kind: self.of(&[0, 8, 8, 3]), code: 0 },
            _ => Upper::None,
        };
        let (source, destination) = (self.within(rule.source), self.within(rule.destination));
        Subject {
            direction: Direction::Inbound,
            routed: false,
            security_class: 255,
            source,
            destination,
            protocol,
            upper,
            fragment: false,
        }
    }
}

fn range((low, high): (u32, u32)) -> AddressRange {
    AddressRange { low: IpAddr::V4(low.into()), high: IpAddr::V4(high.into()) }
}

struct Figure {
    rules: usize,
    lookup: f64,
    build: Duration,
    memory: usize,
    matched: f64,
}

fn measure(count: usize) -> Figure {
    let mut draw = Draw(0x5eed_0000 + count as u64);
    let rules: Vec<FilterRule> = (0..count).map(|i| draw.rule(i)).collect();
    let start = Instant::now();
    let table = Classifier::compile(&rules);
    let build = start.elapsed();
    let packets: Vec<Subject> = (0..PACKETS)
        .map(|i| {
            let near = &rules[usize::try_from(draw.below(count as u64)).expect("a place in a slice")];
            let mut packet = draw.packet(near);
            if i % 10 == 0 {
                // 224.0.0.0/4 is nobody's destination here, but by "any".
                packet.destination = IpAddr::V4((0xe000_0000 | u32::try_from(i).expect("small")).into());
            }
            packet
        })
        .collect();
    for packet in packets.iter().step_by(PACKETS / CHECKED) {
        assert_eq!(table.classify(&rules, packet), plain_search(&rules, packet), "{packet:?}");
    }
    let mut rounds = Vec::with_capacity(ROUNDS);
    let mut matched = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        matched =
            packets.iter().filter(|p| table.classify(black_box(&rules), black_box(p)).is_some()).count();
        rounds.push(start.elapsed());
    }
    rounds.sort_unstable();
    let lookup = rounds[ROUNDS / 2].as_secs_f64() * 1e9 / PACKETS as f64;
    Figure { rules: count, lookup, build, memory: table.memory(), matched: matched as f64 / PACKETS as f64 }
}

fn main() {
    println!(
        "{:>8} {:>12} {:>7} {:>10} {:>10} {:>9}",
        "rules", "ns/lookup", "ratio", "build ms", "KiB", "matched"
    );
    let mut first = None;
    for count in SIZES {
        let f = measure(count);
        let base = *first.get_or_insert(f.lookup);
        println!(
            "{:>8} {:>12.1} {:>7.2} {:>10.1} {:>10} {:>8.0}%",
            f.rules,
            f.lookup,
            f.lookup / base,
            f.build.as_secs_f64() * 1e3,
            f.memory / 1024,
            f.matched * 100.0
        );
    }
}
