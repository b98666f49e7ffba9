//! The first end-to-end test: a real `stackd` in a network namespace sorts real packets, and lets no clear packet
//! pass when it is killed.
//!
//! ```text
//!   peer .11    dist .1     tgt .21
//!  ==+===========+===========+====== ext 192.0.2.0/24, 2001:db8:2::/64      DVIPA .100, ::100
//!                |           |
//!               =+===========+====== xcf 10.99.0.0/24
//! ```

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod support;

use stack::control::*;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::*;

const DVIPA4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
const DVIPA6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x100));
const NODES: [(&str, u8, bool); 3] = [("peer", 11, false), ("dist", 1, true), ("tgt", 21, true)];

fn config(name: &str, host: u8, role: &Role) -> StackConfig {
    StackConfig {
        name: name.into(),
        network: vec!["ext".into()],
        xcf: Some(Xcf { interface: "xcf".into(), address: IpAddr::from([10, 99, 0, host]) }),
        mark: 0x42,
        mark_mask: 0xff,
        home: [DVIPA4, DVIPA6].map(|address| Home { address, role: role.clone(), epoch: 1 }).to_vec(),
        members: [("D", 1), ("T", 21)]
            .into_iter()
            .filter(|(n, _)| *n != name)
            .map(|(n, h)| Member { name: n.into(), xcf: IpAddr::from([10, 99, 0, h]), start: None })
            .collect(),
        sysplex: None,
        max_connections: 1000,
    }
}

fn owner() -> Role {
    Role::Owner { distribution: vec![] }
}

fn target() -> Role {
    Role::Target { distributor: Some(IpAddr::from([10, 99, 0, 1])) }
}

fn permit() -> Vec<FilterRule> {
    [false, true].into_iter().flat_map(|v6| everything(v6, FilterAction::Permit)).collect()
}

fn deny() -> Vec<FilterRule> {
    [false, true].into_iter().flat_map(|v6| everything(v6, FilterAction::Deny)).collect()
}

/// A server on `address` that sends back what it gets, and counts it.
fn echo_server(net: &Net, node: &str, address: SocketAddr) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let listener = net.inside(node, move || TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), counter) = (stream, counter.clone()) else { return };
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    counter.fetch_add(n, Ordering::SeqCst);
                    if stream.write_all(&buffer[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    count
}

/// A server on `address` that says something to every client all the time.
fn talking_server(net: &Net, node: &str, address: SocketAddr) {
    let listener = net.inside(node, move || TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                while stream.write_all(b"tick").is_ok() {
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
        }
    });
}

/// Sends `text` to the echo server and gets it back.
fn talks(stream: &mut TcpStream, text: &[u8]) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answer = vec![0; text.len()];
    stream.write_all(text).is_ok() && stream.read_exact(&mut answer).is_ok() && answer == text
}

/// The address in a frame's IP header, if it is IPv4 or IPv6: source and destination.
fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let packet = etherparse::LaxPacketHeaders::from_ethernet(frame).ok()?;
    match packet.net? {
        etherparse::NetHeaders::Ipv4(h, _) => Some((h.source.into(), h.destination.into())),
        etherparse::NetHeaders::Ipv6(h, _) => Some((h.source.into(), h.destination.into())),
        etherparse::NetHeaders::Arp(_) => None,
    }
}

/// Neighbour discovery is about the addresses, not from a conversation.
fn is_neighbour_discovery(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x86, 0xdd])
        && frame.get(20) == Some(&58)
        && matches!(frame.get(54), Some(133..=137))
}

#[test]
fn clear_packets_pass_only_as_filters_say_and_a_killed_stack_lets_none_in_or_out() {
    const NAME: &str = "clear_packets_pass_only_as_filters_say_and_a_killed_stack_lets_none_in_or_out";
    if !privileged(NAME) {
        return;
    }
    let net = Net::new("srtk", &NODES[..2]);
    let before = net.state("dist");
    let mut stackd = net.start("dist", "D");
    let mut iked = stackd.connect();
    let hello = iked.hello.take().unwrap();
    assert_eq!((hello.version, hello.name.as_str(), hello.configured), (PROTOCOL_VERSION, "D", false));
    let config = config("D", 1, &owner());
    let warnings = iked.configure(&config);
    assert_eq!(warnings, Vec::<String>::new());
    let rules = net.ip("dist", "rule");
    for line in [
        "8:\tfrom all to 192.0.2.100 iif ext ipproto udp dport 500 lookup local",
        "1000:\tfrom all lookup local",
        "1002:\tfrom all iif xcf blackhole",
    ] {
        assert!(rules.contains(line), "{line} is missing in\n{rules}");
    }
    assert!(!rules.contains("\n0:") && !rules.starts_with("0:"), "{rules}");

    // Permit: a real connection passes the engine, in both families.
    iked.filters(1, permit());
    let mut connections = Vec::new();
    let mut counters = Vec::new();
    for address in [DVIPA4, DVIPA6] {
        let to = SocketAddr::new(address, 7777);
        counters.push(echo_server(&net, "dist", to));
        let permits = iked.totals().permits;
        let mut stream =
            net.inside("peer", move || TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap());
        assert!(talks(&mut stream, &[7; 3000]), "{address}");
        assert!(iked.totals().permits >= permits + 4, "{address} passed the engine");
        connections.push(stream);
    }

    // Deny: nothing passes, and the refusals are counted.
    iked.filters(2, deny());
    let denies = iked.totals().denies;
    for address in [DVIPA4, DVIPA6] {
        let to = SocketAddr::new(address, 7777);
        let refused = net.inside("peer", move || TcpStream::connect_timeout(&to, Duration::from_millis(300)));
        assert!(refused.is_err(), "{address}");
    }
    assert!(iked.totals().denies >= denies + 2);
    iked.filters(3, permit());

    // Killed: both ends have something to say to each other and cannot. The kernel's own retransmissions count, too.
    for stream in &mut connections {
        assert!(talks(stream, b"before"));
    }
    stackd.kill();
    let heard: Vec<usize> = counters.iter().map(|c| c.load(Ordering::SeqCst)).collect();
    let capture = Capture::start(&net, "dist");
    for stream in &mut connections {
        stream.write_all(b"into the void").unwrap();
    }
    for address in [DVIPA4, DVIPA6] {
        // An application that binds to the address, and one that is asked from outside.
        // Whether the call fails or the packet is discarded does not matter: the capture decides.
        let _ = net.inside("dist", move || {
            let socket = UdpSocket::bind(SocketAddr::new(address, 0)).unwrap();
            let to = if address.is_ipv4() { "192.0.2.11:9" } else { "[2001:db8:2::11]:9" };
            socket.send_to(b"clear", to)
        });
        let to = SocketAddr::new(address, 7777);
        let refused = net.inside("peer", move || TcpStream::connect_timeout(&to, Duration::from_millis(300)));
        assert!(refused.is_err(), "{address} answers without its stack");
    }
    until("the peer's segments arrive at the interface", || {
        capture
            .frames()
            .iter()
            .filter(|f| !f.outgoing && addresses(&f.bytes).is_some_and(|(_, d)| d == DVIPA4))
            .count()
            > 1
    });
    let out: Vec<_> = capture
        .frames()
        .into_iter()
        .filter(|f| f.outgoing && f.interface != "lo" && !is_neighbour_discovery(&f.bytes))
        .filter(|f| addresses(&f.bytes).is_some_and(|(s, _)| s == DVIPA4 || s == DVIPA6))
        .collect();
    assert!(out.is_empty(), "clear packets left: {out:?}");
    for (counter, before) in counters.iter().zip(heard) {
        assert_eq!(counter.load(Ordering::SeqCst), before, "clear packets came in");
    }
    drop(capture);

    // Started again: what is there is adopted, and the connections go on.
    // A rule for an interface that is gone waits for the next one of that name.
    let rules = net.ip("dist", "rule").replace(" [detached]", "");
    let mut stackd = net.start("dist", "D");
    let mut iked = stackd.connect();
    iked.configure(&config);
    assert_eq!(net.ip("dist", "rule"), rules, "adopted, not doubled");
    assert_eq!(net.ip("dist", "addr show dev lo").matches("192.0.2.100/32").count(), 1);
    assert_eq!(net.ip("dist", "neigh show proxy").matches("192.0.2.100").count(), 1);
    iked.filters(1, permit());
    for stream in &mut connections {
        let mut answer = [0; 13];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"into the void", "repeated by TCP until the stack was back");
        assert!(talks(stream, b"after"));
    }

    // Stopped in order: as if it had never been, and what was connected does not go on in clear. IPv6 would: it sends
    // from an address that the host no longer has.
    let mut listeners = Vec::new();
    for address in [DVIPA4, DVIPA6] {
        let to = SocketAddr::new(address, 7778);
        talking_server(&net, "dist", to);
        let mut stream =
            net.inside("peer", move || TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap());
        stream.read_exact(&mut [0; 40]).unwrap();
        listeners.push(stream);
    }
    let capture = Capture::start(&net, "dist");
    iked.send(&ToStack::Shutdown);
    stackd.ended();
    let ended = now();
    assert_eq!(net.state("dist"), before);
    assert!(net.ip("dist", "link").lines().all(|l| !l.contains("ipsec-")));
    // IPv6 was ended by a reset while the stack was there; IPv4 repeats what nobody hears.
    until("the IPv6 connection is reset", || listeners[1].read(&mut [0; 4096]).is_err());
    listeners[0].set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    while let Ok(1..) = listeners[0].read(&mut [0; 4096]) {}
    let late = |f: &Frame| {
        f.at > ended && f.outgoing && addresses(&f.bytes).is_some_and(|(s, _)| s == DVIPA4 || s == DVIPA6)
    };
    let late: Vec<_> =
        capture.frames().into_iter().filter(|f| late(f) && !is_neighbour_discovery(&f.bytes)).collect();
    assert!(late.is_empty(), "clear packets after the end: {late:?}");
}

#[test]
fn what_would_break_the_sorting_is_reported_and_restored() {
    if !privileged("what_would_break_the_sorting_is_reported_and_restored") {
        return;
    }
    let net = Net::new("srtw", &NODES[1..2]);
    for name in ["all", "ext"] {
        net.sysctl("dist", &format!("net/ipv4/conf/{name}/rp_filter"), "1");
    }
    net.nft("dist", "add table inet fw");
    net.inside("dist", || {
        let rule = "add chain inet fw transit { type filter hook forward priority 0; policy drop; }";
        assert!(std::process::Command::new("nft").arg(rule).status().unwrap().success());
    });
    let before = net.state("dist");
    let mut stackd = net.start("dist", "D");
    let mut iked = stackd.connect();
    let warnings = iked.configure(&config("D", 1, &owner()));
    assert!(warnings.iter().any(|w| w.contains("rp_filter of ext was strict")), "{warnings:?}");
    assert!(
        warnings.iter().any(|w| w.contains("forward chain transit of nftables table inet fw drops")),
        "{warnings:?}"
    );
    assert_eq!(net.read_sysctl("dist", "net/ipv4/conf/ext/rp_filter"), "2");
    assert_eq!(net.read_sysctl("dist", "net/ipv4/conf/all/rp_filter"), "0");
    assert_eq!(net.read_sysctl("dist", "net/ipv4/conf/xcf/rp_filter"), "1", "as strict as it was");

    // A second stack in the same namespace would take the first one's rules for its own.
    let mut second = net.start("dist", "E");
    until("the second stackd gives up", || !second.is_running());
    assert!(std::fs::read_to_string(&second.log).unwrap().contains("another stackd"));

    // Killed and started again, it restores what was there before the first start.
    stackd.kill();
    let mut stackd = net.start("dist", "D");
    stackd.connect().configure(&config("D", 1, &owner()));
    stackd.terminate();
    assert_eq!(net.state("dist"), before);
}

#[test]
fn a_configuration_that_cannot_be_is_refused_and_the_one_before_stays() {
    if !privileged("a_configuration_that_cannot_be_is_refused_and_the_one_before_stays") {
        return;
    }
    let net = Net::new("srtr", &NODES[1..2]);
    let mut stackd = net.start("dist", "D");
    let mut iked = stackd.connect();
    let good = config("D", 1, &owner());
    iked.configure(&good);
    let state = net.state("dist");
    let mut missing = good.clone();
    missing.network.push("nosuch0".into());
    assert!(iked.try_configure(&missing).unwrap_err().contains("no interface nosuch0"));
    let mut unmarked = good.clone();
    unmarked.mark = 0;
    assert!(iked.try_configure(&unmarked).unwrap_err().contains("marks nothing"));
    // Another IKE daemon has the port of a new home address.
    let taken: IpAddr = "192.0.2.101".parse().unwrap();
    net.ip("dist", "addr add 192.0.2.101/32 dev ext");
    let _taken = net.inside("dist", move || UdpSocket::bind((taken, 4500)).unwrap());
    let mut busy = good.clone();
    busy.home.push(Home { address: taken, role: Role::Static, epoch: 0 });
    assert!(iked.try_configure(&busy).unwrap_err().contains("192.0.2.101:4500"));
    assert_eq!(net.state("dist"), state, "everything as it was");

    // Roles change: a backup has the address no more, and takes nothing of it in or out.
    iked.configure(&config("D", 1, &Role::Backup));
    // Whoever takes the address does not wait for the rest.
    until("the backup has put the address away", || {
        !net.ip("dist", "addr show dev lo").contains("192.0.2.100")
            && net.ip("dist", "neigh show proxy").is_empty()
    });
    let rules = net.ip("dist", "rule");
    assert!(rules.contains("12:\tfrom 192.0.2.100 iif lo lookup 100"), "{rules}");
    assert!(!rules.contains("to 192.0.2.100"), "{rules}");
}

#[test]
fn only_the_owner_answers_arp_and_neighbour_solicitations_and_within_20_ms() {
    if !privileged("only_the_owner_answers_arp_and_neighbour_solicitations_and_within_20_ms") {
        return;
    }
    let net = Net::new("srta", &NODES);
    let mut d = net.start("dist", "D");
    d.connect().configure(&config("D", 1, &owner()));
    let mut t = net.start("tgt", "T");
    t.connect().configure(&config("T", 21, &target()));
    let hardware = hardware_of(&net, "dist");
    let capture = Capture::start(&net, "peer");
    // Any datagram makes the peer's kernel ask.
    for to in [SocketAddr::new(DVIPA4, 9), SocketAddr::new(DVIPA6, 9)] {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        net.inside("peer", move || UdpSocket::bind(any).unwrap().send_to(b"?", to).unwrap());
    }
    let solicited = |f: &Frame, kind: u8, flags: u8| {
        f.bytes.get(12..14) == Some(&[0x86, 0xdd])
            && f.bytes.get(54) == Some(&kind)
            && f.bytes.get(58).is_some_and(|b| b & flags == flags)
    };
    let arp = |f: &Frame, operation: u8, target: bool| {
        let at = if target { 38 } else { 28 };
        f.bytes.get(12..14) == Some(&[8, 6])
            && f.bytes.get(21) == Some(&operation)
            && f.bytes.get(at..at + 4) == Some(&[192, 0, 2, 100])
    };
    let answers = |asked: &dyn Fn(&Frame) -> bool, answered: &dyn Fn(&Frame) -> bool, what: &str| {
        until(what, || capture.frames().iter().any(|f| !f.outgoing && answered(f)));
        let frames = capture.frames();
        let asked = frames.iter().find(|f| f.outgoing && asked(f)).expect("the peer asked");
        let answers: Vec<_> =
            frames.iter().filter(|f| !f.outgoing && answered(f) && f.at >= asked.at).collect();
        assert!(
            answers.iter().all(|f| f.bytes[6..12] == hardware),
            "{what}: somebody else answered: {answers:?}"
        );
        let delay = answers[0].at - asked.at;
        assert!(delay < Duration::from_millis(20), "{what}: {delay:?}");
    };
    // Replies to the peer's own address; announcements are broadcasts.
    answers(&|f| arp(f, 1, true), &|f| arp(f, 2, false) && f.bytes[0] & 1 == 0, "ARP");
    answers(
        &|f| solicited(f, 135, 0),
        &|f| solicited(f, 136, 0x40) && f.bytes[0] & 1 == 0,
        "neighbour solicitation",
    );

    // A probe of a neighbour that is known is unicast, and arrives by another way through the kernel.
    drop(capture);
    let capture = Capture::start(&net, "peer");
    let address = hardware.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":");
    net.ip("peer", &format!("neigh replace {DVIPA6} lladdr {address} dev ext nud probe"));
    until("a unicast probe is answered", || {
        capture.frames().iter().any(|f| !f.outgoing && solicited(f, 136, 0x40) && f.bytes[6..12] == hardware)
    });
    // On XCF the target is silent about the address, too, while it answers for its own.
    drop(capture);
    let capture = Capture::start(&net, "tgt");
    net.inside("dist", || {
        let index = nix::net::if_::if_nametoindex("xcf").unwrap();
        let sender = stack::driver::packet::FrameSender::open().unwrap();
        for wanted in [[192, 0, 2, 100], [10, 99, 0, 21]] {
            let mut request = vec![0xff; 6];
            request.extend_from_slice(&[
                2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 99, 0, 1,
            ]);
            request.extend_from_slice(&[0; 6]);
            request.extend_from_slice(&wanted);
            sender.send(index, &request).unwrap();
        }
    });
    let answered = |for_: [u8; 4]| {
        capture.frames().iter().any(|f| {
            f.outgoing
                && f.bytes.get(12..14) == Some(&[8, 6])
                && f.bytes[20..22] == [0, 2]
                && f.bytes[28..32] == for_
        })
    };
    until("the target answers for its own address", || answered([10, 99, 0, 21]));
    assert!(!answered([192, 0, 2, 100]), "the target answered for an address of another owner");
}

fn hardware_of(net: &Net, node: &str) -> Vec<u8> {
    let line = net.ip(node, "-o link show dev ext");
    let hex = line.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    hex.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect()
}

#[test]
fn a_new_owner_announces_its_addresses() {
    if !privileged("a_new_owner_announces_its_addresses") {
        return;
    }
    let net = Net::new("srtn", &NODES[..2]);
    let capture = Capture::start(&net, "peer");
    let mut d = net.start("dist", "D");
    let mut iked = d.connect();
    iked.configure(&config("D", 1, &target()));
    let gratuitous = |f: &Frame| {
        f.bytes.get(12..14) == Some(&[8, 6])
            && f.bytes[28..32] == [192, 0, 2, 100]
            && f.bytes[38..42] == [192, 0, 2, 100]
    };
    let advertised = |f: &Frame| {
        f.bytes.get(54) == Some(&136)
            && f.bytes.get(58).is_some_and(|b| b & 0x60 == 0x20)
            && f.bytes.get(77) == Some(&0)
    };
    assert!(!capture.frames().iter().any(gratuitous), "a target is silent");
    iked.configure(&config("D", 1, &owner()));
    until("both kinds are repeated", || {
        let frames = capture.frames();
        frames.iter().filter(|f| gratuitous(f)).count() >= 4
            && frames.iter().filter(|f| advertised(f)).count() >= 2
    });
}

#[test]
fn t41_forged_gre_routed_through_the_distributor_never_appears_on_xcf() {
    if !privileged("t41_forged_gre_routed_through_the_distributor_never_appears_on_xcf") {
        return;
    }
    let net = Net::new("srtg", &NODES);
    let mut d = net.start("dist", "D");
    let mut iked = d.connect();
    iked.configure(&config("D", 1, &owner()));
    iked.filters(1, permit());
    net.ip("peer", "route add 10.99.0.0/24 via 192.0.2.1");
    let dist = Capture::start(&net, "dist");
    let tgt = Capture::start(&net, "tgt");
    // To a target, with a member's source address, for the distributor to forward; and to the distributor itself.
    for destination in [21u8, 1] {
        let mut packet = Vec::new();
        etherparse::PacketBuilder::ipv4([10, 99, 0, 1], [10, 99, 0, destination], 64)
            .write(&mut packet, etherparse::IpNumber(47), &[0, 0, 8, 0, 0x45, 0, 0, 20])
            .unwrap();
        if destination == 1 {
            packet[15] = 21;
        }
        net.inside("peer", move || {
            use nix::sys::socket::*;
            let fd =
                socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).unwrap();
            let to = SockaddrIn::new(10, 99, 0, destination, 0);
            use std::os::fd::AsRawFd;
            sendto(fd.as_raw_fd(), &packet, &to, MsgFlags::empty()).unwrap();
        });
    }
    let is_gre = |f: &Frame| f.bytes.get(12..14) == Some(&[8, 0]) && f.bytes.get(23) == Some(&47);
    until("both forged packets reach the distributor", || {
        dist.frames().iter().filter(|f| f.interface == "ext" && !f.outgoing && is_gre(f)).count() == 2
    });
    until("they are counted", || iked.drops("gre_not_xcf") >= 1);
    let on_xcf: Vec<_> = dist.frames().into_iter().filter(|f| f.interface == "xcf" && is_gre(f)).collect();
    assert!(on_xcf.is_empty(), "{on_xcf:?}");
    assert!(!tgt.frames().iter().any(is_gre), "forged GRE reached the target");
}

/// The route gives them their source, after it was chosen by what they did not have yet.
#[test]
fn t38_unbound_sockets_that_a_route_gives_a_home_address_get_round_nothing() {
    if !privileged("t38_unbound_sockets_that_a_route_gives_a_home_address_get_round_nothing") {
        return;
    }
    if !std::process::Command::new("nft").arg("--version").output().is_ok_and(|o| o.status.success()) {
        eprintln!("not run: needs nft");
        return;
    }
    let net = Net::new("srtu", &NODES[..2]);
    let mut d = net.start("dist", "D");
    let mut iked = d.connect();
    iked.configure(&config("D", 1, &owner()));
    net.ip("dist", "route add 203.0.113.0/24 via 192.0.2.11 src 192.0.2.100");
    let capture = Capture::start(&net, "peer");
    net.inside("dist", || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..3 {
            socket.send_to(b"unbound", "203.0.113.5:9").unwrap();
        }
    });
    // In the engine, where no filter lets them out.
    until("they come by the TUN", || iked.drops("implicit_deny") >= 3);
    let clear = |f: &Frame| f.bytes.windows(7).any(|w| w == b"unbound");
    assert!(!capture.frames().iter().any(clear), "left in clear");
}

/// The kernel puts fragments together without looking where each came from: one of the network must not get so far.
#[test]
fn t41_fragments_of_gre_on_two_links_never_make_one_packet() {
    if !privileged("t41_fragments_of_gre_on_two_links_never_make_one_packet") {
        return;
    }
    let net = Net::new("srtf", &NODES);
    let mut d = net.start("dist", "D");
    let mut iked = d.connect();
    iked.configure(&config("D", 1, &owner()));
    iked.filters(1, permit());
    net.ip("peer", "route add 10.99.0.0/24 via 192.0.2.1");
    // GRE that carries no IP: counted as such, once it is whole.
    let gre = [&[0, 0, 0x88, 0xbe][..], &[7; 20]].concat();
    let send = |node: &str, id: u16, first: bool| {
        let (data, flags) = if first { (&gre[..8], 0x2000u16) } else { (&gre[8..], 1) };
        let mut packet = vec![0x45, 0];
        packet.extend_from_slice(&u16::try_from(20 + data.len()).unwrap().to_be_bytes());
        packet.extend_from_slice(&id.to_be_bytes());
        packet.extend_from_slice(&flags.to_be_bytes());
        packet.extend_from_slice(&[64, 47, 0, 0, 10, 99, 0, 21, 10, 99, 0, 1]);
        packet.extend_from_slice(data);
        net.inside(node, move || {
            use nix::sys::socket::*;
            use std::os::fd::AsRawFd;
            let raw = SockProtocol::Raw;
            let fd = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), raw).unwrap();
            let to = SockaddrIn::new(10, 99, 0, 1, 0);
            sendto(fd.as_raw_fd(), &packet, &to, MsgFlags::empty()).unwrap();
        });
    };
    for (id, first) in [(1, true), (2, false)] {
        send("peer", id, first);
        until("a fragment of the network is counted", || iked.drops("gre_not_xcf") >= u64::from(id));
        send("tgt", id, !first);
    }
    for first in [true, false] {
        send("tgt", 3, first);
    }
    until("both fragments on the XCF make a packet", || iked.drops("gre_bad_protocol") >= 1);
    assert_eq!(iked.drops("gre_bad_protocol"), 1, "the others made none");
}

#[test]
fn ike_messages_are_handed_over_and_kept_while_iked_is_away() {
    if !privileged("ike_messages_are_handed_over_and_kept_while_iked_is_away") {
        return;
    }
    let net = Net::new("srti", &NODES[..2]);
    let mut d = net.start("dist", "D");
    let mut iked = d.connect();
    iked.configure(&config("D", 1, &owner()));
    for (local, remote) in [(DVIPA4, "192.0.2.11"), (DVIPA6, "2001:db8:2::11")] {
        let remote: IpAddr = remote.parse().unwrap();
        for port in [500, 4500] {
            // As long as with certificates: it comes as fragments, which the kernel does not give to the socket.
            for length in [200usize, 3000] {
                let message: Vec<u8> = ike_message(length);
                let marker: &[u8] = if port == 4500 { &[0; 4] } else { &[] };
                let datagram = [marker, &message].concat();
                let peer = net.inside("peer", move || {
                    let socket = UdpSocket::bind((remote, port)).unwrap();
                    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                    socket.send_to(&datagram, (local, port)).unwrap();
                    socket
                });
                let got = iked.wait_for(|m| match m {
                    FromStack::Ike(d) => Some(d.clone()),
                    _ => None,
                });
                let own = SocketAddr::new(local, port);
                assert_eq!(
                    got,
                    IkeDatagram { local: own, remote: SocketAddr::new(remote, port), bytes: message.clone() }
                );
                // The answer leaves from the same address and port, with the marker on 4500.
                iked.send(&ToStack::Ike(got));
                let mut answer = vec![0; 65_536];
                let (n, from) = peer.recv_from(&mut answer).unwrap();
                assert_eq!((from, &answer[..n]), (own, [marker, &message].concat().as_slice()));
            }
        }
    }
    // Two messages while nobody is connected; the next connection gets them after its Hello.
    drop(iked);
    net.inside("peer", || {
        let socket = UdpSocket::bind("192.0.2.11:500").unwrap();
        for length in [101, 102] {
            socket.send_to(&ike_message(length), (DVIPA4, 500)).unwrap();
        }
    });
    let mut iked = d.connect();
    let hello = iked.hello.take().unwrap();
    assert!(hello.configured);
    for length in [101, 102] {
        let bytes = iked.wait_for(|m| match m {
            FromStack::Ike(d) => Some(d.bytes.clone()),
            _ => None,
        });
        assert_eq!(bytes.len(), length);
    }
    // A new connection replaces the old one.
    let _second = d.connect();
    let mut rest = Vec::new();
    assert_eq!(iked.read_to_end(&mut rest), 0, "the old connection is closed");
}

/// The header of an IKE_SA_INIT request (RFC 7296 section 3.1) with the right length, and something behind it.
fn ike_message(length: usize) -> Vec<u8> {
    let mut m = vec![0x5a; length];
    m[8..16].fill(0);
    m[16..20].copy_from_slice(&[33, 0x20, 34, 0x08]);
    m[20..24].fill(0);
    m[24..28].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    m
}

#[test]
fn interfaces_are_shown_with_their_addresses() {
    if !privileged("interfaces_are_shown_with_their_addresses") {
        return;
    }
    let net = Net::new("srtf", &NODES[1..2]);
    let mut d = net.start("dist", "D");
    let mut iked = d.connect();
    iked.configure(&config("D", 1, &owner()));
    let Answer::Interfaces(views) = iked.ask(Question::Interfaces) else { panic!("no interfaces") };
    let find = |a: &str| {
        views
            .iter()
            .find(|v| v.address == a.parse::<IpAddr>().unwrap())
            .unwrap_or_else(|| panic!("{a}: {views:?}"))
    };
    assert_eq!(
        (find("192.0.2.1").name.as_str(), find("192.0.2.1").dvipa, find("192.0.2.1").active),
        ("ext", false, true)
    );
    assert_eq!((find("192.0.2.100").name.as_str(), find("192.0.2.100").dvipa), ("lo", true));
    assert!(views.iter().all(|v| !v.name.starts_with("ipsec-")));
}
