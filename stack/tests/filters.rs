//! Filters on the way of packets: before decapsulation, in the log, and for clients behind one NAT.
#![allow(clippy::unwrap_used, reason = "tests: helpers beside #[test] functions too")]

mod common;

use common::*;
use stack::control::{
    Answer, Direction, FilterAction, FilterKind, FilterRule, FilterSet, FromStack, MANUAL_TUNNELS, Mode,
    PacketTest, PortRange, Question, Role, SaPair, TestedPacket, Treatment, UpperLayer, manual_anchor,
};
use stack::engine::io::{UdpArrival, VnetHeader};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const PERMIT: FilterAction = FilterAction::Permit;
/// The address of both clients behind the NAT, and that of the NAT.
const INNER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 7));
const PUBLIC: IpAddr = PEER;
/// The ports of the NAT for the two clients.
const NAT: [(&str, u16, u32); 2] = [("ONE", 4_501, 0x1010), ("TWO", 4_502, 0x1020)];

/// Two clients with the same private address behind one NAT, each with a tunnel in transport mode to a service.
fn behind_nat() -> World {
    let mut w = World::new(vec![
        Node::new("ONE", None, vec![home(INNER, Role::Static)], &[]),
        Node::new("TWO", None, vec![home(INNER, Role::Static)], &[]),
        Node::new("SRV", None, vec![home(DVIPA, Role::Static)], &[]),
    ]);
    // The test is the network.
    w.cut = true;
    w.filters("SRV", both("R", one(DVIPA), one(PUBLIC), IPSEC));
    for (name, ..) in NAT {
        w.filters(name, both("R", one(INNER), one(DVIPA), IPSEC));
    }
    for (client, (.., spi)) in NAT.into_iter().enumerate() {
        serve(&mut w, client, spi);
    }
    w
}

/// Carries what lies on the network as the NAT does; `from` is the client that sent, if one did.
fn translate(w: &mut World, from: Option<u16>) {
    for packet in std::mem::take(&mut w.wire) {
        let OnWire::EspInUdp { to, mut bytes, segment, .. } = packet else { panic!("{packet:?}") };
        let service = SocketAddr::new(DVIPA, 4500);
        let (name, local, remote) = match from {
            Some(port) => ("SRV", service, SocketAddr::new(PUBLIC, port)),
            None => {
                assert_eq!(to.ip(), PUBLIC);
                let (name, ..) = NAT.into_iter().find(|n| n.1 == to.port()).expect("a client of the NAT");
                (name, SocketAddr::new(INNER, 4500), service)
            }
        };
        let (now, i) = (w.now, w.node(name));
        let n = &mut w.nodes[i];
        n.engine.handle_udp(now, UdpArrival { local, remote, segment, tos: 0 }, &mut bytes, &mut n.out);
        w.carry(i);
    }
}

/// Sends a segment from a client to the service, and gives what the service got.
fn ask(w: &mut World, client: usize, flags: &str, data: &[u8]) -> etherparse::TcpHeader {
    let (name, port, _) = NAT[client];
    w.n("SRV").app.clear();
    w.send(name, ends(INNER, 40_000, DVIPA, 443).tcp(flags, 1, 0, data));
    translate(w, Some(port));
    let got = &w.n("SRV").app;
    assert_eq!(got.len(), 1, "one segment arrives");
    check_tcp(&got[0].1)
}

fn ports(w: &World) -> Vec<(u16, u16, u32)> {
    match answer(&w.nodes[w.node("SRV")].engine, w.now, Question::PortTranslations) {
        Answer::PortTranslations(all) => all.iter().map(|p| (p.translated, p.original, p.tunnel)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn clients_behind_one_nat_with_the_same_port_are_two() {
    let mut w = behind_nat();
    assert_eq!(ask(&mut w, 0, "S", b"").source_port, 40_000);
    assert_eq!(ask(&mut w, 1, "S", b"").source_port, 65_535, "the second one is translated");
    assert_eq!(ask(&mut w, 0, "A", b"one").source_port, 40_000);
    assert_eq!(ask(&mut w, 1, "A", b"two").source_port, 65_535);
    assert_eq!(ports(&w), [(40_000, 40_000, 0x10), (65_535, 40_000, 0x20)]);

    // Answers find their client, with its own port; a super-packet of the TUN too.
    for (client, port) in [(0, 40_000), (1, 65_535)] {
        w.send("SRV", ends(DVIPA, 443, PUBLIC, port).tcp("SA", 7, 2, b""));
        let (header, packet) = ends(DVIPA, 443, PUBLIC, port).tso(8, 2, &[7; 3_000], 1_200);
        w.tun("SRV", header, packet);
        translate(&mut w, None);
        let (mine, other) = (NAT[client].0, NAT[1 - client].0);
        let got = std::mem::take(&mut w.n(mine).app);
        assert!(got.len() >= 2, "{}", got.len());
        let mut data = 0;
        for (h, p) in &got {
            // Joined ones are for the kernel to check.
            if *h == VnetHeader::default() {
                assert_eq!(check_tcp(p).destination_port, 40_000);
            }
            data += p.len() - 40;
        }
        assert!(data >= 3_000);
        assert!(w.n(other).app.is_empty());
    }
    assert!(w.drops("SRV").is_empty(), "{:?}", w.drops("SRV"));

    // The filters of the flows stand before those of their tunnels.
    let filters = w.nodes[2].filters(w.now);
    let kinds: Vec<_> =
        filters.iter().filter(|f| f.rule.direction == Direction::Outbound).map(|f| f.kind).collect();
    let flow = |tunnel| FilterKind::Resolution { tunnel, original_port: 40_000 };
    assert_eq!(
        kinds[..5],
        [
            flow(0x20),
            FilterKind::Dynamic(0x20),
            flow(0x10),
            FilterKind::Dynamic(0x10),
            FilterKind::DynamicAnchor
        ]
    );

    // With its tunnel a client's flows go.
    w.n("SRV").engine.remove_sa(NAT[1].2);
    assert_eq!(ports(&w), [(40_000, 40_000, 0x10)]);
    w.n("SRV").engine.remove_all_sas();
    assert!(ports(&w).is_empty());
}

/// A new owner, or a new process, that was told what was translated before: each client keeps its port, whoever comes first,
/// and nothing for one goes to the other.
#[test]
fn translated_ports_outlive_the_stack_that_chose_them() {
    let mut w = behind_nat();
    assert_eq!(ask(&mut w, 0, "S", b"").source_port, 40_000);
    assert_eq!(ask(&mut w, 1, "S", b"").source_port, 65_535);
    let told = |w: &mut World| {
        let last = std::mem::take(&mut w.n("SRV").events).into_iter().rev().find_map(|e| match e {
            FromStack::Translations { tunnel, flows } => Some((tunnel, flows)),
            _ => None,
        });
        last.expect("it tells what it translates")
    };
    let (tunnel, flows) = told(&mut w);
    assert_eq!((tunnel, flows.len()), (0x20, 1));
    assert_eq!((flows[0].endpoint, flows[0].translated), (SocketAddr::new(PUBLIC, 4_502), 65_535));

    let server = w.node("SRV");
    w.nodes[server].crash();
    w.configure(server);
    w.filters("SRV", both("R", one(DVIPA), one(PUBLIC), IPSEC));
    let now = w.now;
    w.n("SRV").engine.expect_translations(now, &flows);
    let answer = |w: &mut World| {
        w.send("SRV", ends(DVIPA, 443, PUBLIC, 65_535).tcp("A", 7, 2, b"for the second"));
        w.wire.len()
    };
    // The first client is there again, the second one is not.
    serve(&mut w, 0, 0x1030);
    assert_eq!(answer(&mut w), 0);
    assert_eq!(w.dropped("SRV", "no_sa"), 1);
    // As soon as there is a tunnel to where its NAT sends from, its packets have a way, before it says anything.
    serve(&mut w, 1, 0x1040);
    assert_eq!(answer(&mut w), 1);
    translate(&mut w, None);
    assert_eq!(check_tcp(&w.n("TWO").app.pop().unwrap().1).destination_port, 40_000);
    assert!(w.n("ONE").app.is_empty());
    assert_eq!(ask(&mut w, 1, "A", b"two").source_port, 65_535);
    assert_eq!(ask(&mut w, 0, "A", b"one").source_port, 40_000);
    assert_eq!(ports(&w), [(40_000, 40_000, 0x30), (65_535, 40_000, 0x40)]);
    // The next one is told, too.
    let (tunnel, again) = told(&mut w);
    assert_eq!((tunnel, again), (0x40, flows));
}

/// A new SA between a client and the service.
fn serve(w: &mut World, client: usize, spi: u32) {
    let (name, port, _) = NAT[client];
    let (mut client, mut server) = pair(INNER, DVIPA, spi, "R");
    (client.mode, server.mode) = (Mode::Transport, Mode::Transport);
    (client.udp, server.udp) = (Some((4500, 4500)), Some((4500, port)));
    server.remote = PUBLIC;
    server.remote_selectors = vec![selector(one(PUBLIC))];
    w.n(name).engine.remove_all_sas();
    w.sa(name, client);
    w.sa("SRV", server);
}

fn protected() -> World {
    let mut w = World::new(vec![
        Node::new("A", None, vec![home(PEER, Role::Static)], &[]),
        Node::new("B", None, vec![home(DVIPA, Role::Static)], &[]),
    ]);
    w.filters("A", both("R", one(PEER), one(DVIPA), IPSEC));
    let (a, b) = pair(PEER, DVIPA, 0x1000, "R");
    w.sa("A", a);
    w.sa("B", b);
    w
}

fn set(w: &mut World, predecap: bool, rules: Vec<FilterRule>) {
    let now = w.now;
    let set = FilterSet {
        epoch: 1,
        policy: true,
        logging: true,
        predecap,
        log_implicit: true,
        implicit_icmp: false,
        rules,
    };
    w.n("B").engine.set_filters(now, 1, set);
}

fn tcp_only(mut rules: Vec<FilterRule>) -> Vec<FilterRule> {
    rules.iter_mut().for_each(|r| r.protocol = Some(6));
    rules
}

#[test]
fn before_decapsulation_esp_itself_has_to_be_permitted() {
    let mut w = protected();
    let data = ends(PEER, 40_000, DVIPA, 443).tcp("S", 1, 0, b"");
    let inner = || tcp_only(both("R", one(DVIPA), one(PEER), IPSEC));
    set(&mut w, false, inner());
    w.send("A", data.clone());
    assert_eq!(w.n("B").app.len(), 1, "without PreDecap nobody asks about ESP");
    set(&mut w, true, inner());
    w.send("A", data.clone());
    assert_eq!((w.n("B").app.len(), w.dropped("B", "implicit_deny")), (1, 1));
    let mut esp = both("esp", one(DVIPA), one(PEER), PERMIT);
    esp.iter_mut().for_each(|r| r.protocol = Some(50));
    set(&mut w, true, [esp, inner()].concat());
    w.send("A", data);
    assert_eq!((w.n("B").app.len(), w.dropped("B", "implicit_deny")), (2, 1));
}

#[test]
fn a_rule_logs_what_it_is_asked_to_and_not_more() {
    let mut w = protected();
    let mut open = both("open", one(DVIPA), one(STRANGER), PERMIT);
    open.iter_mut().for_each(|r| r.log_permit = true);
    let mut shut = both("shut", one(DVIPA), any4(), FilterAction::Deny);
    shut.iter_mut().for_each(|r| r.log_deny = true);
    set(&mut w, false, [open, shut].concat());
    let from = |a: IpAddr| ends(a, 1_000, DVIPA, 443).tcp("S", 1, 0, b"");
    let other = IpAddr::from([203, 0, 113, 9]);
    for _ in 0..50 {
        w.send("B", from(STRANGER));
        w.send("B", from(other));
    }
    let lines = |w: &World, what: &str| -> Vec<String> {
        w.nodes[1].logs.iter().filter(|l| l.contains(what)).cloned().collect()
    };
    let (permits, denials) = (lines(&w, "permitted"), lines(&w, "filter_deny"));
    assert_eq!((permits.len(), denials.len()), (1, 1), "one line for each in an interval");
    assert!(permits[0].contains("rule open.2"), "{permits:?}");
    assert!(denials[0].contains("rule shut.2") && denials[0].contains("203.0.113.9"), "{denials:?}");
    w.now += Duration::from_secs(11);
    w.send("B", from(other));
    let denials = lines(&w, "filter_deny");
    assert_eq!(denials.len(), 2);
    assert!(denials[1].contains("49 more suppressed"), "{denials:?}");
    assert_eq!(w.dropped("B", "filter_deny"), 51, "counted all the same");
}

#[test]
fn counters_and_tunnels_survive_a_table_that_was_compiled_elsewhere() {
    use stack::engine::filter::Table;
    use std::sync::Arc;
    let mut w = protected();
    let rules = both("R", one(DVIPA), one(PEER), IPSEC);
    set(&mut w, false, rules.clone());
    w.send("A", ends(PEER, 40_000, DVIPA, 443).tcp("S", 1, 0, b""));
    w.send("B", ends(STRANGER, 1, DVIPA, 443).tcp("S", 1, 0, b""));
    let set = |epoch, rules| FilterSet {
        epoch,
        policy: true,
        logging: true,
        predecap: false,
        log_implicit: false,
        implicit_icmp: false,
        rules,
    };
    let many: Vec<FilterRule> = (0..50u8)
        .flat_map(|n| both(&format!("r{n}"), one(DVIPA), one(IpAddr::from([10, 9, 9, n])), PERMIT))
        .collect();
    let engine = &mut w.n("B").engine;
    let before = engine.exchange_filters(2, Arc::new(Table::new(set(2, rules.clone()), &Table::default())));
    assert_eq!((before.epoch(), before.rules().len()), (1, 2));
    // Made to come after another table than that which it meets: nothing is inherited, nothing breaks.
    let next = Table::new(set(3, [rules, many].concat()), &before);
    let before = engine.exchange_filters(3, Arc::new(next));
    assert_eq!(before.epoch(), 2);
    assert_eq!(engine.filter_epoch(), 3);
    w.send("A", ends(PEER, 40_000, DVIPA, 443).tcp("A", 2, 1, b"x"));
    assert_eq!(w.n("B").app.len(), 2, "the tunnel goes on");
}

/// What a node says of a packet.
fn ask_about(w: &World, name: &str, test: PacketTest) -> TestedPacket {
    match answer(&w.nodes[w.node(name)].engine, w.now, Question::Test(test)) {
        Answer::Test(tested) => *tested,
        other => panic!("{other:?}"),
    }
}

fn tcp_out(to: IpAddr, port: u16) -> PacketTest {
    PacketTest {
        direction: Some(Direction::Outbound),
        security_class: 0,
        source: DVIPA,
        destination: to,
        protocol: 6,
        upper: UpperLayer::Ports { source: 443, destination: port },
    }
}

/// Name of the rule that decides, kind of its filter, what becomes of the packet, and whether that is sure.
fn decided(tested: &TestedPacket) -> (String, FilterKind, Treatment, bool) {
    let [v] = tested.verdicts[..] else { panic!("{tested:?}") };
    let view = &tested.filters[v.filter as usize];
    (view.rule.name.clone(), view.kind, v.treatment, v.certain)
}

#[test]
fn a_tested_packet_is_judged_as_one_that_comes_and_leaves_no_trace() {
    let mut w = World::new(vec![Node::new("N", None, vec![home(DVIPA, Role::Static)], &[])]);
    let mut web = both("web", one(DVIPA), one(PEER), PERMIT);
    for rule in &mut web {
        rule.protocol = Some(6);
        let ports = match rule.direction {
            Direction::Outbound => &mut rule.destination_ports,
            Direction::Inbound => &mut rule.source_ports,
        };
        *ports = PortRange { low: 80, high: 89 };
    }
    let mut lab = both("lab", one(DVIPA), one(STRANGER), FilterAction::Manual);
    lab.iter_mut().for_each(|r| r.vpn_action = Some("static".into()));
    let rest = both("R", one(DVIPA), any4(), IPSEC);
    w.filters("N", [web, lab, rest].concat());
    let ask = |w: &World, test| decided(&ask_about(w, "N", test));

    let (name, anchor) = (String::from, FilterKind::DynamicAnchor);
    assert_eq!(ask(&w, tcp_out(PEER, 80)), (name("web"), FilterKind::Generic, Treatment::Clear, true));
    assert_eq!(ask(&w, tcp_out(PEER, 0)), (name("web"), FilterKind::Generic, Treatment::Clear, false));
    assert_eq!(ask(&w, tcp_out(PEER, 90)), (name("R"), anchor, Treatment::Negotiated, true));
    let inbound = PacketTest {
        direction: Some(Direction::Inbound),
        source: PEER,
        destination: DVIPA,
        ..tcp_out(PEER, 0)
    };
    assert_eq!(
        ask(&w, PacketTest { upper: UpperLayer::Ports { source: 7, destination: 8 }, ..inbound }),
        (name("R"), anchor, Treatment::NoSa, true)
    );
    assert_eq!(ask(&w, tcp_out(STRANGER, 9)), (name("lab"), FilterKind::Generic, Treatment::NoSa, true));
    // Not from here: forwarded, which no rule is for.
    let foreign = PacketTest { source: PEER, ..tcp_out(STRANGER, 9) };
    assert_eq!(ask(&w, foreign).0, "SYSDEFAULTDENYRULE");
    assert_eq!(ask(&w, foreign).2, Treatment::Denied);

    let (sa, _) = pair(DVIPA, PEER, 0x1007, "R");
    let (spi_in, spi_out) = (sa.spi_in, sa.spi_out);
    w.sa("N", sa);
    let (manual, _) = pair(DVIPA, STRANGER, 0x1010, &manual_anchor("static"));
    let tunnel = MANUAL_TUNNELS + 1;
    let manual = SaPair { tunnel, remote_selectors: vec![selector(any4())], ..manual };
    let keys = (manual.spi_in, manual.spi_out);
    w.sa("N", manual);
    let by = Treatment::Protected { tunnel: 7, spi_in, spi_out };
    assert_eq!(ask(&w, tcp_out(PEER, 90)), (name("R"), FilterKind::Dynamic(7), by, true));
    assert_eq!(
        ask(&w, tcp_out(STRANGER, 0)),
        (
            name("lab"),
            FilterKind::Generic,
            Treatment::Protected { tunnel, spi_in: keys.0, spi_out: keys.1 },
            true
        )
    );
    // Both directions at once, each with its filters in the order searched, the anchor behind its tunnels.
    let both_ways = ask_about(&w, "N", PacketTest { direction: None, ..tcp_out(PEER, 90) });
    assert_eq!(both_ways.verdicts.len(), 2);
    let out: Vec<_> = both_ways
        .filters
        .iter()
        .filter(|f| f.rule.direction == Direction::Outbound)
        .map(|f| (f.rule.name.as_str(), f.kind))
        .collect();
    assert_eq!(
        out,
        [("R", FilterKind::Dynamic(7)), ("R", anchor), ("SYSDEFAULTDENYRULE", FilterKind::Generic)]
    );

    assert!(w.drops("N").is_empty() && w.nodes[0].acquires.is_empty());
    assert!(w.nodes[0].filters(w.now).iter().all(|f| f.totals == Default::default()));
}

#[test]
fn of_a_client_behind_a_nat_its_own_port_is_asked_about() {
    let mut w = behind_nat();
    ask(&mut w, 0, "S", b"");
    ask(&mut w, 1, "S", b"");
    let own = w.nodes[w.node("SRV")].filters(w.now).into_iter().find_map(|f| match f.kind {
        FilterKind::Resolution { tunnel, original_port } if f.rule.destination_ports.low != original_port => {
            Some((tunnel, original_port))
        }
        _ => None,
    });
    let (tunnel, port) = own.expect("the second client's port is translated");
    let translated = w.nodes[w.node("SRV")].filters(w.now).into_iter().find_map(|f| match f.kind {
        FilterKind::Resolution { tunnel: of, .. } if of == tunnel => Some(f.rule.destination_ports.low),
        _ => None,
    });
    for (asked, sure) in [(port, false), (translated.unwrap(), true)] {
        let (name, kind, treatment, certain) = decided(&ask_about(&w, "SRV", tcp_out(PUBLIC, asked)));
        assert_eq!((name.as_str(), certain), ("R", sure), "{asked}");
        let FilterKind::Resolution { tunnel: by, .. } = kind else { panic!("{kind:?}") };
        assert!(matches!(treatment, Treatment::Protected { tunnel, .. } if tunnel == by), "{treatment:?}");
        assert!(!sure || by == tunnel);
    }
}

#[test]
fn peers_with_rules_of_the_same_selectors_are_told_apart_by_their_tunnels() {
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 67));
    let mut w = World::new(vec![
        Node::new("SRV", None, vec![home(DVIPA, Role::Static)], &[]),
        Node::new("ONE", None, vec![home(PEER, Role::Static)], &[]),
        Node::new("TWO", None, vec![home(STRANGER, Role::Static)], &[]),
    ]);
    let rule = |name: &str| {
        let mut rules = both(name, one(DVIPA), any4(), FilterAction::Ipsec { on_demand: false });
        rules.iter_mut().for_each(|r| r.by_identity = true);
        rules
    };
    // The permit at the end is for nobody who is to be protected.
    w.filters("SRV", [rule("alice"), rule("bob"), both("rest", one(DVIPA), any4(), PERMIT)].concat());
    for (name, own, spi, whose) in [("ONE", PEER, 0x1001, "alice"), ("TWO", STRANGER, 0x1011, "bob")] {
        w.filters(name, both("R", one(own), one(DVIPA), IPSEC));
        let (client, mut server) = pair(own, DVIPA, spi, "R");
        server.rule = whose.into();
        w.sa(name, client);
        w.sa("SRV", server);
    }
    for (name, own) in [("ONE", PEER), ("TWO", STRANGER)] {
        let flow = ends(own, 40_000, DVIPA, 443);
        w.nodes.iter_mut().for_each(|n| n.app.clear());
        w.send(name, flow.tcp("S", 1, 0, b""));
        w.send("SRV", flow.back().tcp("SA", 100, 2, b""));
        let (server, client) = (w.node("SRV"), w.node(name));
        assert_eq!((w.nodes[server].app.len(), w.nodes[client].app.len()), (1, 1), "{name}");
    }
    assert!(w.drops("SRV").is_empty(), "{:?}", w.drops("SRV"));
    // Who has no tunnel is the first rule's, both ways, and not the permit's.
    w.nodes.iter_mut().for_each(|n| n.app.clear());
    w.send("SRV", ends(DVIPA, 443, OTHER, 9).tcp("S", 1, 0, b""));
    w.send("SRV", ends(OTHER, 9, DVIPA, 443).tcp("S", 1, 0, b""));
    let drops = w.drops("SRV");
    assert!(
        drops.contains(&("no_sa".into(), 1)) && drops.contains(&("clear_but_ipsec_required".into(), 1)),
        "{drops:?}"
    );
    assert!(w.nodes[w.node("SRV")].clear.is_empty());
    let tested = ask_about(&w, "SRV", tcp_out(STRANGER, 9));
    let (name, kind, treatment, certain) = decided(&tested);
    assert_eq!((name.as_str(), kind), ("bob", FilterKind::Dynamic(0x11)));
    assert!(matches!(treatment, Treatment::Protected { .. }) && !certain, "{tested:?}");
}
