//! ESP in UDP that arrives as IP fragments: a rule with a port matches no fragment, so no socket ever sees them; they
//! come by the TUN, and the engine makes them whole again.
//!
//! ```text
//!   peer .11 (this test: an engine in memory behind a UDP socket) === ext, MTU 1500 === dist: stackd, home .100
//! ```

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod support;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use stack::control::*;
use stack::engine::io::{Output, UdpArrival, VnetHeader};
use stack::engine::{Engine, Links};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;
use support::*;

/// Bytes of an echo request, so that its ESP datagram has more than 3,000.
const ECHO: usize = 2960;

struct Ends {
    peer: IpAddr,
    home: IpAddr,
}

impl Ends {
    fn echo(&self) -> Vec<u8> {
        let mut packet = Vec::new();
        let data = vec![0xa5; ECHO];
        match (self.peer, self.home) {
            (IpAddr::V4(a), IpAddr::V4(b)) => PacketBuilder::ipv4(a.octets(), b.octets(), 64)
                .icmpv4_echo_request(7, 1)
                .write(&mut packet, &data)
                .unwrap(),
            (IpAddr::V6(a), IpAddr::V6(b)) => PacketBuilder::ipv6(a.octets(), b.octets(), 64)
                .icmpv6_echo_request(7, 1)
                .write(&mut packet, &data)
                .unwrap(),
            _ => unreachable!("both of one family"),
        }
        packet
    }
}

fn config(name: &str, home: IpAddr, role: Role) -> StackConfig {
    StackConfig {
        name: name.into(),
        network: vec!["ext".into()],
        xcf: None,
        mark: 0x42,
        mark_mask: 0xff,
        home: vec![Home { address: home, role, epoch: 1 }],
        members: vec![],
        sysplex: None,
        max_connections: 1000,
    }
}

/// Whether `packet` is an echo reply with all the bytes of the request.
fn is_reply(packet: &[u8]) -> bool {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let whole = matches!(&sliced.net, Some(NetSlice::Ipv4(v4)) if !v4.header().is_fragmenting_payload())
        || matches!(&sliced.net, Some(NetSlice::Ipv6(_)));
    let data = match &sliced.transport {
        Some(TransportSlice::Icmpv4(icmp)) if icmp.type_u8() == 0 => icmp.payload(),
        Some(TransportSlice::Icmpv6(icmp)) if icmp.type_u8() == 129 => icmp.payload(),
        _ => return false,
    };
    whole && data == vec![0xa5; ECHO]
}

fn echo_through_fragments(test: &str, ends: Ends) {
    let net = Net::new(test, &[("peer", 11, false), ("dist", 1, false)]);
    let mut stack = net.start("dist", "DIST");
    let mut iked = stack.connect();
    iked.configure(&config("DIST", ends.home, Role::Owner { distribution: vec![] }));
    let v6 = ends.home.is_ipv6();
    iked.filters(1, everything(v6, FilterAction::Ipsec { on_demand: false }));
    iked.send(&ToStack::InstallSa(Box::new(pair(ends.home, ends.peer, 0x1001, 0x1002))));
    iked.ask(Question::Summary);

    let capture = Capture::start(&net, "dist");
    net.inside("peer", move || {
        let mut engine = Engine::new(1);
        let own = config("PEER", ends.peer, Role::Static);
        engine.configure(now(), &own, Links { network_mtu: 9000, xcf_mtu: 0 });
        let rules = everything(v6, FilterAction::Ipsec { on_demand: false });
        let set = FilterSet {
            epoch: 1,
            policy: true,
            logging: false,
            predecap: false,
            log_implicit: false,
            implicit_icmp: false,
            rules,
        };
        engine.set_filters(now(), 0, set);
        engine.install_sa(now(), 0, pair(ends.peer, ends.home, 0x1002, 0x1001)).unwrap();

        let socket = UdpSocket::bind(SocketAddr::new(ends.peer, 4500)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let to = SocketAddr::new(ends.home, 4500);
        let (mut out, mut buffer) = (Output::default(), vec![0u8; 65_536]);
        until("an echo reply", || {
            engine.handle_host(now(), VnetHeader::default(), &mut ends.echo(), &mut out);
            engine.flush(now(), &mut out);
            for send in out.udp.drain(..) {
                let datagram = &out.bytes[send.range];
                assert!(datagram.len() > 3000, "{} bytes need no fragments", datagram.len());
                socket.send_to(datagram, to).unwrap();
            }
            out.clear();
            let mut arrived = false;
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let arrival =
                    UdpArrival { local: socket.local_addr().unwrap(), remote: from, segment: length, tos: 0 };
                engine.handle_udp(now(), arrival, &mut buffer[..length], &mut out);
                engine.flush(now(), &mut out);
                arrived |= out.host.iter().any(|range| is_reply(&out.bytes[range.clone()][10..]));
                out.clear();
                if arrived {
                    break;
                }
            }
            arrived
        });
    });
    until("the fragments that the peer's kernel cut are in the capture", || {
        capture.frames().iter().filter(|f| f.interface == "ext" && is_fragment(&f.bytes)).count() >= 3
    });
    assert_eq!(iked.drops("malformed_packet"), 0);
}

fn is_fragment(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => u16::from_be_bytes([frame[20], frame[21]]) & 0x3fff != 0,
        Some([0x86, 0xdd]) => frame[20] == 44,
        _ => false,
    }
}

#[test]
fn esp_in_udp_of_3000_bytes_in_ipv4_fragments_is_processed() {
    if privileged("esp_in_udp_of_3000_bytes_in_ipv4_fragments_is_processed") {
        let ends = Ends { peer: "192.0.2.11".parse().unwrap(), home: "192.0.2.100".parse().unwrap() };
        echo_through_fragments("frag4", ends);
    }
}

#[test]
fn esp_in_udp_of_3000_bytes_in_ipv6_fragments_is_processed() {
    if privileged("esp_in_udp_of_3000_bytes_in_ipv6_fragments_is_processed") {
        let ends = Ends { peer: "2001:db8:2::11".parse().unwrap(), home: "2001:db8:2::100".parse().unwrap() };
        echo_through_fragments("frag6", ends);
    }
}
