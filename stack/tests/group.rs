//! Real `stackd`s in network namespaces hear each other over the XCF link, and nobody else.
//!
//! ```text
//!   peer .11    one .1     two .2     odd .9
//!  ==+===========+==========+===================== ext 192.0.2.0/24       DVIPA .100
//!                |          |          |
//!               =+==========+==========+========== xcf 10.99.0.0/24
//! ```

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod support;

use stack::control::*;
use stack::xcf;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use support::*;

const DVIPA: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
const NODES: [(&str, u8, bool); 4] =
    [("peer", 11, false), ("one", 1, true), ("two", 2, true), ("odd", 9, true)];
const BEAT: Duration = Duration::from_millis(200);
/// Patience of two seconds: tests run beside others that leave them no CPU for a while.
const MISSED: u32 = 10;

fn at(host: u8) -> IpAddr {
    IpAddr::from([10, 99, 0, host])
}

fn at_v6(host: u8) -> IpAddr {
    IpAddr::from([0xfd00, 0x99, 0, 0, 0, 0, 0, host.into()])
}

/// A stack of the sysplex of two, as its `iked` configures it.
fn config(name: &str, role: Role, epoch: u64, starts: [Option<u64>; 2]) -> StackConfig {
    let members = [("ONE", 1), ("TWO", 2)];
    let own = members.iter().find(|(n, _)| *n == name).unwrap().1;
    StackConfig {
        name: name.into(),
        network: vec!["ext".into()],
        xcf: Some(Xcf { interface: "xcf".into(), address: at(own) }),
        mark: 0x42,
        mark_mask: 0xff,
        home: vec![Home { address: DVIPA, role, epoch }],
        members: members
            .into_iter()
            .zip(starts)
            .map(|((n, h), start)| Member { name: n.into(), xcf: at(h), start })
            .collect(),
        sysplex: Some(SysplexLink {
            name: "PLEX".into(),
            key: KeyBytes(vec![0x5a; 32]),
            other_keys: vec![],
            heartbeat_ms: u32::try_from(BEAT.as_millis()).unwrap(),
            missed_heartbeats: MISSED,
            gre_in_udp: false,
            leased: false,
        }),
        max_connections: 1000,
    }
}

fn owner() -> Role {
    Role::Owner { distribution: vec![] }
}

fn target() -> Role {
    Role::Target { distributor: Some(at(1)) }
}

fn heard(iked: &mut Iked, choose: impl Fn(&Heard) -> bool) -> Heard {
    iked.wait_for(|m| match m {
        FromStack::Heard(h) if choose(h) => Some(h.clone()),
        _ => None,
    })
}

fn start_of(iked: &mut Iked) -> u64 {
    iked.hello.as_ref().unwrap().start_id
}

#[test]
fn stacks_hear_each_other_and_what_the_other_has_to_say() {
    const NAME: &str = "stacks_hear_each_other_and_what_the_other_has_to_say";
    if !privileged(NAME) {
        return;
    }
    let net = Net::new("xcfh", &NODES[1..3]);
    let (mut one, mut two) = (net.start("one", "ONE"), net.start("two", "TWO"));
    let (mut iked1, mut iked2) = (one.connect(), two.connect());
    let starts = [start_of(&mut iked1), start_of(&mut iked2)].map(Some);
    assert_eq!(iked1.configure(&config("ONE", owner(), 3, starts)), Vec::<String>::new());
    iked2.configure(&config("TWO", target(), 3, starts));
    let configured = now();
    let h = heard(&mut iked1, |h| h.alive);
    assert_eq!((h.member.as_str(), Some(h.start)), ("TWO", starts[1]));
    heard(&mut iked2, |h| h.alive);
    let took = configured.elapsed();
    assert!(took < BEAT * 3, "heard after {took:?}");
    let epoch = iked2.wait_for(|m| match m {
        FromStack::OwnerHeard { dvipa, owner, epoch, .. } if *dvipa == DVIPA && owner == "ONE" => {
            Some(*epoch)
        }
        _ => None,
    });
    assert_eq!(epoch, 3);

    // A server comes and goes at the target.
    let server = net.inside("two", || TcpListener::bind((DVIPA, 8443)).unwrap());
    let serves =
        |h: &Heard| h.ready.iter().any(|r| (r.dvipa, r.protocol, r.port, r.count) == (DVIPA, 6, 8443, 1));
    heard(&mut iked1, serves);
    drop(server);
    let by_load = heard(&mut iked1, |h| !serves(h)).capacity;
    // Far from what it is by itself: small changes are not told.
    let capacity = if by_load >= 50 { 7 } else { 93 };
    std::fs::write(net.dir.path().join("TWO.capacity"), capacity.to_string()).unwrap();
    heard(&mut iked1, |h| h.capacity == capacity);

    // What one `iked` has for the other.
    let large: Vec<u8> = (0..MAX_RELAY_BYTES).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    iked1.send(&ToStack::Relay { to: "TWO".into(), bytes: large.clone() });
    let (from, bytes) = iked2.wait_for(|m| match m {
        FromStack::Relayed { from, bytes } => Some((from.clone(), bytes.clone())),
        _ => None,
    });
    assert!((from.as_str(), bytes) == ("ONE", large));
    iked1.send(&ToStack::Ceiling { dvipa: DVIPA, epoch: 3, highest: 70_000 });
    iked2.wait_for(|m| match m {
        FromStack::OwnerHeard { ceiling: Some(70_000), epoch: 3, .. } => Some(()),
        _ => None,
    });

    // A new `iked` is told at once.
    drop(iked1);
    let mut iked1 = one.connect();
    assert_eq!(heard(&mut iked1, |h| h.alive).member, "TWO");

    // Killed, it is silent after the configured time; restarted, it is heard when its start is vouched for.
    let killed = now();
    two.kill();
    assert!(!heard(&mut iked1, |h| !h.alive).alive);
    let took = killed.elapsed();
    assert!(BEAT * (MISSED - 1) <= took && took < BEAT * (MISSED + 5), "silent after {took:?}");
    let mut two = net.start("two", "TWO");
    let mut iked2 = two.connect();
    let starts = [starts[0], Some(start_of(&mut iked2))];
    iked2.configure(&config("TWO", target(), 3, starts));
    until("its messages are ignored", || iked1.drops("xcf_unknown_start") > 0);
    iked1.configure(&config("ONE", owner(), 3, starts));
    assert_eq!(Some(heard(&mut iked1, |h| h.alive).start), starts[1]);
    heard(&mut iked2, |h| h.alive);

    // It ends in order: known at once.
    let ended = now();
    two.terminate();
    heard(&mut iked1, |h| !h.alive);
    assert!(ended.elapsed() < BEAT * MISSED, "{:?}", ended.elapsed());
    assert!(one.is_running());
}

#[test]
fn t41_t45_nothing_counts_that_comes_by_another_way_or_from_a_stranger() {
    const NAME: &str = "t41_t45_nothing_counts_that_comes_by_another_way_or_from_a_stranger";
    if !privileged(NAME) {
        return;
    }
    let net = Net::new("xcfs", &NODES);
    let (mut one, mut two) = (net.start("one", "ONE"), net.start("two", "TWO"));
    let (mut iked1, mut iked2) = (one.connect(), two.connect());
    let starts = [start_of(&mut iked1), start_of(&mut iked2)].map(Some);
    iked1.configure(&config("ONE", owner(), 3, starts));
    // The recorder is on the link: it keeps what the other stack says.
    let tape = Capture::start(&net, "one");
    iked2.configure(&config("TWO", target(), 3, starts));
    heard(&mut iked1, |h| h.alive);
    until("something is recorded", || !datagrams(&tape).is_empty());
    let recorded = datagrams(&tape);

    // From the network, with a member's address as source: routing leads it into the engine, which counts it.
    net.ip("peer", "addr add 10.99.0.2/32 dev lo");
    net.ip("peer", "route add 10.99.0.1/32 via 192.0.2.1 dev ext src 10.99.0.2");
    let before = (iked1.drops("gre_not_xcf"), iked1.drops("xcf_replay"));
    let bytes = recorded[0].clone();
    net.inside("peer", move || {
        let socket = UdpSocket::bind(SocketAddr::new(at(2), xcf::PORT)).unwrap();
        for _ in 0..5 {
            socket.send_to(&bytes, SocketAddr::new(at(1), xcf::PORT)).unwrap();
        }
    });
    until("they are dropped", || iked1.drops("gre_not_xcf") >= before.0 + 5);
    assert_eq!(iked1.drops("xcf_replay"), before.1, "none reached the group");

    // On the link, from somebody who is no member; and again what a member once said.
    let bytes = recorded[0].clone();
    net.inside("odd", move || {
        let socket = UdpSocket::bind(SocketAddr::new(at(9), xcf::PORT)).unwrap();
        socket.send_to(&bytes, SocketAddr::new(at(1), xcf::PORT)).unwrap();
        socket.send_to(b"hello", SocketAddr::new(at(1), xcf::PORT)).unwrap();
    });
    until("the stranger is counted", || {
        iked1.drops("xcf_not_member") > 0 && iked1.drops("xcf_malformed") > 0
    });
    two.kill();
    net.ip("two", "addr show dev xcf");
    let bytes = recorded[0].clone();
    net.inside("two", move || {
        let socket = UdpSocket::bind(SocketAddr::new(at(2), xcf::PORT)).unwrap();
        socket.send_to(&bytes, SocketAddr::new(at(1), xcf::PORT)).unwrap();
    });
    until("the repetition is counted", || iked1.drops("xcf_replay") > before.1);
    heard(&mut iked1, |h| !h.alive);
}

#[test]
fn a_link_of_ipv6_carries_them_too() {
    const NAME: &str = "a_link_of_ipv6_carries_them_too";
    if !privileged(NAME) {
        return;
    }
    let net = Net::new("xcf6", &NODES[1..3]);
    let (mut one, mut two) = (net.start("one", "ONE"), net.start("two", "TWO"));
    let (mut iked1, mut iked2) = (one.connect(), two.connect());
    let starts = [start_of(&mut iked1), start_of(&mut iked2)].map(Some);
    for (iked, name, role, host) in [
        (&mut iked1, "ONE", owner(), 1),
        (&mut iked2, "TWO", Role::Target { distributor: Some(at_v6(1)) }, 2),
    ] {
        let mut config = config(name, role, 1, starts);
        config.xcf = Some(Xcf { interface: "xcf".into(), address: at_v6(host) });
        // Host 1 and 2, as the names go.
        config.members.iter_mut().zip([1, 2]).for_each(|(m, h)| m.xcf = at_v6(h));
        iked.configure(&config);
    }
    heard(&mut iked1, |h| h.alive);
    heard(&mut iked2, |h| h.alive);
    let server = net.inside("two", || TcpListener::bind("[::]:8443").unwrap());
    heard(&mut iked1, |h| h.ready.iter().any(|r| (r.dvipa, r.port) == (DVIPA, 8443)));
    drop(server);
}

#[test]
fn r10_an_owner_that_starts_again_learns_its_connections_from_the_target() {
    const NAME: &str = "r10_an_owner_that_starts_again_learns_its_connections_from_the_target";
    if !privileged(NAME) {
        return;
    }
    let net = Net::new("xcfr", &NODES[..3]);
    let (mut one, mut two) = (net.start("one", "ONE"), net.start("two", "TWO"));
    let (mut iked1, mut iked2) = (one.connect(), two.connect());
    let starts = [start_of(&mut iked1), start_of(&mut iked2)].map(Some);
    let distributing = Role::Owner {
        distribution: vec![Distribution {
            protocol: 6,
            ports: vec![PortRange { low: 8443, high: 8443 }],
            method: Method::RoundRobin,
            affinity_secs: 0,
            targets: vec![Target { name: "TWO".into(), xcf: Some(at(2)), weight: 10, quiesced: false }],
        }],
    };
    iked1.configure(&config("ONE", distributing.clone(), 3, starts));
    iked2.configure(&config("TWO", target(), 3, starts));
    iked1.filters(1, everything(false, FilterAction::Permit));
    iked2.filters(1, everything(false, FilterAction::Permit));
    let server = net.inside("two", || TcpListener::bind((DVIPA, 8443)).unwrap());
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    heard(&mut iked1, |h| h.ready.iter().any(|r| r.port == 8443));
    let mut client = net.inside("peer", || TcpStream::connect((DVIPA, 8443)).unwrap());
    assert!(talks(&mut client, b"before"));
    let Answer::Distribution(views) = iked1.ask(Question::Distribution) else { panic!("no distribution") };
    assert_eq!(
        views.iter().map(|v| (v.target.as_str(), v.active, v.ready)).collect::<Vec<_>>(),
        [("TWO", 1, Some(1))]
    );

    one.kill();
    let mut one = net.start("one", "ONE");
    let mut iked1 = one.connect();
    let starts = [Some(start_of(&mut iked1)), starts[1]];
    iked1.configure(&config("ONE", distributing, 3, starts));
    iked1.filters(2, everything(false, FilterAction::Permit));
    iked2.configure(&config("TWO", target(), 3, starts));
    let rebuilt = iked1.wait_for(|m| match m {
        FromStack::Rebuilt { dvipa, epoch, connections, missing } => {
            Some((*dvipa, *epoch, *connections, missing.clone()))
        }
        _ => None,
    });
    assert_eq!(rebuilt, (DVIPA, 3, 1, vec![]));
    assert!(talks(&mut client, b"after"), "the session goes on");
    drop(client);
}

/// Sends `text` to the echo server and gets it back.
fn talks(stream: &mut TcpStream, text: &[u8]) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = vec![0; text.len()];
    stream.write_all(text).is_ok() && stream.read_exact(&mut answer).is_ok() && answer == text
}

/// Messages of the second stack that came in on the XCF link.
fn datagrams(tape: &Capture) -> Vec<Vec<u8>> {
    tape.frames()
        .into_iter()
        .filter(|f| f.interface == "xcf" && !f.outgoing)
        .filter_map(|f| {
            let packet = etherparse::SlicedPacket::from_ethernet(&f.bytes).ok()?;
            let Some(etherparse::TransportSlice::Udp(udp)) = packet.transport else { return None };
            (udp.destination_port() == xcf::PORT).then(|| udp.payload().to_vec())
        })
        .collect()
}
