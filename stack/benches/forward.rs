//! What a packet costs in the whole engine: `cargo bench -p stack --no-default-features --bench forward`.
//!
//! The same super-packet of 46 segments of 1,400 octets as `transforms`, but through filters, flows and verdicts: what
//! this prints less what `transforms` prints is the price of the decisions. Small and large tables must cost the same.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]
#![allow(clippy::disallowed_methods, reason = "measures time")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{DVIPA, IPSEC, PEER, both, distribution, ends, home, one, pair, selector, xcf};
use stack::control::{AddressRange, FilterAction, FilterSet, PortRange, Role, SaPair};
use stack::engine::io::{Output, RawArrival, UdpArrival};
use stack::engine::{Engine, Links};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

const SEGMENT: u16 = 1360;
const PACKETS: usize = 46;
const ROUNDS: usize = 300;

struct Ends {
    peer: Engine,
    stack: Engine,
    now: Instant,
    sequence: u32,
}

/// A peer and a stack that owns the DVIPA, with `extra` more rules and tunnels that have nothing to do with them.
fn ends_with(extra: u32, distributed: bool) -> Ends {
    let now = Instant::now();
    let links = Links { network_mtu: 1500, xcf_mtu: 65_535 };
    let node = |address: IpAddr, role: Role, xcf_host: Option<u8>| {
        let mut e = Engine::new(7);
        let n = common::Node::new(
            "N",
            xcf_host,
            vec![home(address, role)],
            if xcf_host.is_some() { &[2] } else { &[] },
        );
        e.configure(now, &n.config, links);
        e
    };
    let target = if distributed { ("T", Some(2)) } else { ("D", None) };
    let owner = Role::Owner { distribution: vec![distribution(&[443], &[target])] };
    let mut peer = node(PEER, Role::Static, None);
    let mut stack = node(DVIPA, owner, Some(1));
    let other = |n: u32| IpAddr::V4((0x0a00_0000 + n).into());
    let set = |local: IpAddr, remote: IpAddr| {
        let mut rules = vec![];
        for n in 0..extra {
            let mut r = both(&format!("X{n}"), one(local), one(other(n)), FilterAction::Permit);
            for (r, inbound) in r.iter_mut().zip([false, true]) {
                r.protocol = Some(6);
                let ports = if inbound { &mut r.destination_ports } else { &mut r.source_ports };
                *ports = PortRange { low: 443, high: 443 };
            }
            rules.extend(r);
        }
        let any =
            AddressRange { low: IpAddr::from([100, 64, 0, 0]), high: IpAddr::from([255, 255, 255, 255]) };
        let _ = remote;
        rules.extend(both("R", one(local), any, IPSEC));
        FilterSet {
            epoch: 1,
            policy: true,
            logging: true,
            predecap: false,
            log_implicit: false,
            implicit_icmp: false,
            rules,
        }
    };
    peer.set_filters(now, 1, set(PEER, DVIPA));
    stack.set_filters(now, 1, set(DVIPA, PEER));
    for n in 0..extra {
        let far = IpAddr::V4((0x6500_0000 + n).into());
        let (p, _) = pair(DVIPA, far, 0x10_0000 + 2 * n, "R");
        let p = SaPair { tunnel: 1000 + n, remote_selectors: vec![selector(one(far))], ..p };
        stack.install_sa(now, 1, p).unwrap();
    }
    let (mut s, mut p) = pair(DVIPA, PEER, 0x1000, "R");
    (s.udp, p.udp) = (Some((4500, 4500)), Some((4500, 4500)));
    (s.replay_window, p.replay_window) = (1024, 1024);
    stack.install_sa(now, 1, s).unwrap();
    peer.install_sa(now, 1, p).unwrap();
    let mut e = Ends { peer, stack, now, sequence: 2 };
    // The flow is in the table.
    let mut out = e.sealed(&mut ends(PEER, 40_000, DVIPA, 443).tcp("S", 1, 0, b""));
    e.take(&mut out);
    e
}

impl Ends {
    fn sealed(&mut self, packet: &mut [u8]) -> Output {
        let mut out = Output::default();
        self.peer.handle_host(self.now, stack::engine::io::VnetHeader::default(), packet, &mut out);
        self.peer.flush(self.now, &mut out);
        out
    }

    fn take(&mut self, sealed: &mut Output) -> Output {
        let mut out = Output::default();
        for s in sealed.udp.clone() {
            let arrival = UdpArrival { local: s.remote, remote: s.local, segment: s.segment, tos: s.tos };
            self.stack.handle_udp(self.now, arrival, &mut sealed.bytes[s.range], &mut out);
        }
        self.stack.flush(self.now, &mut out);
        out
    }

    fn burst(&mut self) -> Output {
        let data = vec![0x5a; usize::from(SEGMENT) * PACKETS];
        let f = ends(PEER, 40_000, DVIPA, 443);
        let (header, mut packet) = f.tso(self.sequence, 1, &data, SEGMENT);
        self.sequence = self.sequence.wrapping_add(u32::try_from(data.len()).unwrap());
        let mut out = Output::default();
        self.peer.handle_host(self.now, header, &mut packet, &mut out);
        self.peer.flush(self.now, &mut out);
        out
    }
}

type Case = (String, Box<dyn FnMut() -> Duration>, Vec<Duration>);

fn inbound(name: &str, extra: u32, distributed: bool) -> Case {
    let mut e = ends_with(extra, distributed);
    let mut out = Output::default();
    let run = move || {
        let mut sealed = e.burst();
        out.clear();
        let sends = sealed.udp.clone();
        let t = Instant::now();
        for s in sends {
            let arrival = UdpArrival {
                local: SocketAddr::new(DVIPA, 4500),
                remote: SocketAddr::new(PEER, 4500),
                segment: s.segment,
                tos: 0,
            };
            e.stack.handle_udp(e.now, arrival, &mut sealed.bytes[s.range], &mut out);
        }
        e.stack.flush(e.now, &mut out);
        let took = t.elapsed();
        assert_eq!(if distributed { out.xcf.len() } else { out.host.len() }, 1, "joined to one");
        took
    };
    (name.to_owned(), Box::new(run), vec![])
}

fn outbound(name: &str, extra: u32) -> Case {
    let mut e = ends_with(extra, false);
    let data = vec![0x5a; usize::from(SEGMENT) * PACKETS];
    let f = ends(PEER, 40_000, DVIPA, 443).back();
    let mut out = Output::default();
    let run = move || {
        let (header, mut packet) = f.tso(1, 1, &data, SEGMENT);
        out.clear();
        let t = Instant::now();
        e.stack.handle_host(e.now, header, &mut packet, &mut out);
        e.stack.flush(e.now, &mut out);
        let took = t.elapsed();
        assert!(!out.udp.is_empty() && out.udp.len() <= 2);
        took
    };
    (name.to_owned(), Box::new(run), vec![])
}

fn from_target(name: &str, extra: u32) -> Case {
    let mut e = ends_with(extra, true);
    let data = vec![0x5a; usize::from(SEGMENT) * PACKETS];
    let f = ends(PEER, 40_000, DVIPA, 443).back();
    let mut out = Output::default();
    let run = move || {
        let (header, packet) = f.tso(1, 1, &data, SEGMENT);
        let mut gre = vec![0x20, 0, 8, 0, 0, 0];
        gre.extend(header.gso_size.to_be_bytes());
        gre.extend(packet);
        out.clear();
        let arrival = RawArrival { source: xcf(2), destination: xcf(1), tos: 0 };
        let t = Instant::now();
        e.stack.handle_xcf(e.now, arrival, &mut gre, &mut out);
        e.stack.flush(e.now, &mut out);
        let took = t.elapsed();
        assert!(!out.udp.is_empty() && out.udp.len() <= 2);
        took
    };
    (name.to_owned(), Box::new(run), vec![])
}

fn main() {
    let mut cases = vec![];
    for extra in [10, 10_000] {
        cases.push(outbound(&format!("host to network, {extra} rules and tunnels"), extra));
        cases.push(inbound(&format!("network to host, {extra} rules and tunnels"), extra, false));
        cases.push(inbound(&format!("network to xcf, {extra} rules and tunnels"), extra, true));
        cases.push(from_target(&format!("xcf to network, {extra} rules and tunnels"), extra));
    }
    for _ in 0..ROUNDS {
        for (_, run, times) in &mut cases {
            times.push(run());
        }
    }
    println!("{:<46} {:>8} {:>8}   ns per packet of 1400 octets", "", "median", "best");
    for (name, _, times) in &mut cases {
        times.sort_unstable();
        let each = |t: Duration| t.as_nanos() / PACKETS as u128;
        println!("{name:<46} {:>8} {:>8}", each(times[ROUNDS / 2]), each(times[0]));
    }
}
