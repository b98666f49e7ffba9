//! GRE in UDP (RFC 8086) between real stacks: what crosses the XCF link, and that it arrives.
//!
//! ```text
//!   peer .11    one .1     two .2
//!  ==+===========+==========+======= ext 192.0.2.0/24       DVIPA .100, owned by one, served by two
//!                |          |
//!               =+==========+======= xcf 10.99.0.0/24, MTU 1500
//! ```

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod support;

use stack::control::*;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;
use support::*;

const DVIPA: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
const PORT: u16 = 8443;
const GRE_IN_UDP: u16 = 4754;
const OCTETS: usize = 3_000_000;

fn at(host: u8) -> IpAddr {
    IpAddr::from([10, 99, 0, host])
}

fn config(name: &str, host: u8, role: Role, starts: [u64; 2]) -> StackConfig {
    StackConfig {
        name: name.into(),
        network: vec!["ext".into()],
        xcf: Some(Xcf { interface: "xcf".into(), address: at(host) }),
        mark: 0x42,
        mark_mask: 0xff,
        home: vec![Home { address: DVIPA, role, epoch: 1 }],
        members: [("ONE", 1), ("TWO", 2)]
            .into_iter()
            .zip(starts)
            .map(|((n, h), start)| Member { name: n.into(), xcf: at(h), start: Some(start) })
            .collect(),
        sysplex: Some(SysplexLink {
            name: "PLEX".into(),
            key: KeyBytes(vec![0x5a; 32]),
            other_keys: vec![],
            heartbeat_ms: 50,
            missed_heartbeats: 20,
            gre_in_udp: true,
            leased: false,
        }),
        max_connections: 1000,
    }
}

/// What crossed the XCF link by IP protocol and destination port: GRE, and GRE in UDP with the longest datagram.
fn on_xcf(tape: &Capture) -> (usize, usize, usize) {
    let (mut plain, mut in_udp, mut longest) = (0, 0, 0);
    for frame in tape.frames().iter().filter(|f| f.interface == "xcf") {
        let Ok(packet) = etherparse::SlicedPacket::from_ethernet(&frame.bytes) else { continue };
        if let Some(etherparse::TransportSlice::Udp(udp)) = &packet.transport
            && udp.destination_port() == GRE_IN_UDP
        {
            in_udp += 1;
            longest = longest.max(udp.payload().len());
            assert_eq!(udp.payload()[2..4], [8, 0], "GRE with IPv4 inside");
        }
        plain += usize::from(frame.bytes.get(12..14) == Some(&[8, 0]) && frame.bytes.get(23) == Some(&47));
    }
    (plain, in_udp, longest)
}

#[test]
fn a_connection_crosses_the_xcf_in_udp() {
    const NAME: &str = "a_connection_crosses_the_xcf_in_udp";
    if !privileged(NAME) {
        return;
    }
    let net = Net::new("greu", &[("peer", 11, false), ("one", 1, true), ("two", 2, true)]);
    let (mut one, mut two) = (net.start("one", "ONE"), net.start("two", "TWO"));
    let (mut iked1, mut iked2) = (one.connect(), two.connect());
    let starts = [&iked1, &iked2].map(|i| i.hello.as_ref().unwrap().start_id);
    let distribution = vec![Distribution {
        protocol: 6,
        ports: vec![PortRange { low: PORT, high: PORT }],
        method: Method::WeightedActive,
        affinity_secs: 0,
        targets: vec![Target { name: "TWO".into(), xcf: Some(at(2)), weight: 10, quiesced: false }],
    }];
    iked1.configure(&config("ONE", 1, Role::Owner { distribution }, starts));
    iked2.configure(&config("TWO", 2, Role::Target { distributor: Some(at(1)) }, starts));
    iked1.filters(1, everything(false, FilterAction::Permit));
    iked2.filters(1, everything(false, FilterAction::Permit));
    let server = net.inside("two", || TcpListener::bind((DVIPA, PORT)).unwrap());
    iked1.wait_for(|m| {
        matches!(m, FromStack::Heard(h) if h.ready.iter().any(|r| r.port == PORT)).then_some(())
    });
    let tape = Capture::start(&net, "one");
    let sum = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let mut bytes = vec![0; OCTETS];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(b"thanks").unwrap();
        bytes.iter().fold(0u64, |sum, b| sum.rotate_left(5) ^ u64::from(*b))
    });
    let bytes: Vec<u8> = (0..OCTETS).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let want = bytes.iter().fold(0u64, |sum, b| sum.rotate_left(5) ^ u64::from(*b));
    let answer = net.inside("peer", move || {
        let mut stream = TcpStream::connect_timeout(&(DVIPA, PORT).into(), Duration::from_secs(5)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
        answer
    });
    assert_eq!(&answer, b"thanks");
    assert_eq!(sum.join().unwrap(), want);
    let (plain, in_udp, _) = on_xcf(&tape);
    assert_eq!(plain, 0, "nothing by protocol 47");
    assert!(in_udp > 0);

    // Back to plain GRE while connections are open: the same sockets are not needed any more.
    let mut config = config("TWO", 2, Role::Target { distributor: Some(at(1)) }, starts);
    config.sysplex.as_mut().unwrap().gre_in_udp = false;
    iked2.configure(&config);
    assert!(net.inside("two", || std::net::UdpSocket::bind((at(2), GRE_IN_UDP)).is_ok()), "the port is free");
}
