//! A whole stack, owner of a DVIPA with one tunnel and one remote target, fed by all its ways at once while it changes its role.
//! Whatever comes, what policy protects never leaves in clear, and everything that leaves lies inside the arena.

use stack::control::{
    AddressRange, DfMode, Direction, Distribution, EspSuite, FilterAction, FilterRule, FilterSet, Home,
    KeyBytes, Member, Method, Mode, PortRange, Role, SaPair, Selector, StackConfig, Target, Xcf,
};
use stack::engine::io::{Output, RawArrival, UdpArrival, VnetHeader};
use stack::engine::sad::Sad;
use stack::engine::{Engine, Links, esp};
use stack::wire::packet::Parsed;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

const DVIPA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 100));
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 11));
const XCF: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 1));
const TARGET: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 21));
const SPI: u32 = 0x1000;
/// Octets of a `struct virtio_net_hdr`.
const VNET: usize = 10;

fn config() -> StackConfig {
    let distribution = Distribution {
        protocol: 6,
        ports: vec![PortRange { low: 80, high: 80 }],
        method: Method::RoundRobin,
        affinity_secs: 0,
        targets: vec![
            Target { name: "TGT1".to_owned(), xcf: Some(TARGET), weight: 10, quiesced: false },
            Target { name: "DIST".to_owned(), xcf: None, weight: 10, quiesced: false },
        ],
    };
    StackConfig {
        name: "DIST".to_owned(),
        network: vec!["ext".to_owned()],
        xcf: Some(Xcf { interface: "xcf".to_owned(), address: XCF }),
        mark: 1,
        mark_mask: 1,
        home: vec![Home { address: DVIPA, role: Role::Owner { distribution: vec![distribution] }, epoch: 1 }],
        members: vec![Member { name: "TGT1".to_owned(), xcf: TARGET, start: None }],
        sysplex: None,
        max_connections: 100,
    }
}

const LINKS: Links = Links { network_mtu: 1500, xcf_mtu: 9000 };

/// Another role, or another way to choose a target.
fn change_role(role: &mut Role, to: u8) {
    match (to % 8, &mut *role) {
        (0, _) => *role = Role::Target { distributor: Some(TARGET) },
        (1, _) => *role = Role::Target { distributor: None },
        (2, _) => *role = Role::Moving { distributor: Some(TARGET) },
        (3, _) => *role = Role::Backup,
        (n, Role::Owner { distribution }) => {
            distribution[0].affinity_secs = u32::from(to >> 4);
            distribution[0].method = match n {
                4 => Method::WeightedActive,
                5 => Method::HotStandby { autoswitchback: to & 8 == 0, healthswitch: to & 16 == 0 },
                6 => Method::Wlm,
                _ => Method::Maglev,
            };
        }
        _ => {}
    }
}

fn filter(direction: Direction) -> FilterRule {
    let (home, peer) = (AddressRange::single(DVIPA), AddressRange::single(PEER));
    let (source, destination) = match direction {
        Direction::Inbound => (peer, home),
        Direction::Outbound => (home, peer),
    };
    let action = FilterAction::Ipsec { on_demand: true };
    FilterRule {
        vpn_action: Some("Vpn".to_owned()),
        log_permit: true,
        log_deny: true,
        ..FilterRule::new("Protected", 1, direction, source, destination, action)
    }
}

fn pair(ours: bool, suite: EspSuite) -> SaPair {
    let key = |octet| KeyBytes(vec![octet; suite.key_len().expect("a suite that we have")]);
    let selector = |address| Selector {
        addresses: AddressRange::single(address),
        protocol: None,
        ports: PortRange::ANY,
    };
    let (local, remote) = if ours { (DVIPA, PEER) } else { (PEER, DVIPA) };
    let (key_in, key_out) = if ours { (key(7), key(8)) } else { (key(8), key(7)) };
    SaPair {
        tunnel: 1,
        generation: 1,
        ike_tunnel: 1,
        spi_in: SPI,
        spi_out: SPI,
        local,
        remote,
        udp: None,
        mode: Mode::Tunnel,
        suite,
        key_in,
        key_out,
        esn: true,
        replay_window: 64,
        local_selectors: vec![selector(local)],
        remote_selectors: vec![selector(remote)],
        rule: "Protected".to_owned(),
        outbound_active: true,
        df: DfMode::Copy,
        copy_dscp: true,
        soft_bytes: Some(1000),
        hard_bytes: Some(1 << 20),
        ceiling_of: None,
        continued: None,
    }
}

#[allow(clippy::disallowed_methods, reason = "some instant to count from")]
pub(crate) fn check(data: &[u8]) {
    let start = Instant::now();
    let mut now = start;
    let suite = EspSuite::AesGcm16 { key_bits: 128 };
    let mut engine = Engine::new(1);
    engine.configure(now, &config(), LINKS);
    let rules = vec![filter(Direction::Inbound), filter(Direction::Outbound)];
    let set = FilterSet {
        epoch: 1,
        policy: true,
        logging: true,
        predecap: false,
        log_implicit: true,
        implicit_icmp: true,
        rules,
    };
    engine.set_filters(now, 0, set);
    engine.install_sa(now, 0, pair(true, suite)).expect("a sound pair");
    let mut peers = Sad::new(1);
    let peer = peers.install(pair(false, suite)).expect("a sound pair");
    let mut out = Output::default();
    let mut rest = data;
    while let [kind, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (bytes, tail) = tail.split_at(length);
        rest = tail;
        let mut packet = bytes.to_vec();
        let raw = |source, destination| RawArrival { source, destination, tos: 0 };
        match kind % 7 {
            0 => {
                let local = SocketAddr::new(DVIPA, if kind & 8 == 0 { 500 } else { 4500 });
                let segment = usize::from(kind >> 4) * 16;
                let arrival = UdpArrival { local, remote: SocketAddr::new(PEER, 4500), segment, tos: 0 };
                engine.handle_udp(now, arrival, &mut packet, &mut out);
            }
            1 => engine.handle_esp(now, raw(PEER, DVIPA), &mut packet, &mut out),
            2 => engine.handle_host(now, VnetHeader::default(), &mut packet, &mut out),
            3 => engine.handle_xcf(now, raw(TARGET, XCF), &mut packet, &mut out),
            4 => {
                // An authentic packet of the peer with any content.
                let mut arena = Vec::new();
                let sa = peers.get_mut(peer).expect("just installed");
                if let Ok(range) = esp::seal(sa, &packet, &[], &mut arena, &mut Vec::new()) {
                    engine.handle_esp(now, raw(PEER, DVIPA), &mut arena[range], &mut out);
                }
            }
            5 => {
                let Some((header, packet)) = packet.split_first_chunk_mut::<VNET>() else { continue };
                let at = |n: usize| u16::from_le_bytes([header[n], header[n + 1]]);
                let header = VnetHeader {
                    flags: header[0],
                    gso_type: header[1],
                    hdr_len: at(2),
                    gso_size: at(4),
                    csum_start: at(6),
                    csum_offset: at(8),
                };
                engine.handle_host(now, header, packet, &mut out);
            }
            _ => {
                now += Duration::from_millis(u64::from(*high) * 100);
                engine.handle_timeout(now, &mut out);
                if let Some(role) = bytes.first() {
                    let mut config = config();
                    config.home[0].epoch = now.duration_since(start).as_secs();
                    change_role(&mut config.home[0].role, *role);
                    engine.configure(now, &config, LINKS);
                }
            }
        }
        if kind & 0x80 != 0 {
            // The end of a batch.
            engine.flush(now, &mut out);
            judge(&out);
            out.clear();
        }
    }
    engine.flush(now, &mut out);
    judge(&out);
}

/// What leaves the stack.
fn judge(out: &Output) {
    for range in &out.host {
        let packet = &out.bytes[range.clone()][VNET..];
        let parsed = Parsed::parse(packet).expect("what is given to the kernel is a packet");
        assert!(!(parsed.source == DVIPA && parsed.destination == PEER), "protected traffic in clear");
    }
    for send in &out.udp {
        assert!(!out.bytes[send.range.clone()].is_empty() && send.segment > 0);
    }
    for send in &out.raw {
        assert!(out.bytes[send.range.clone()].len() > 8 && send.protocol == 50);
    }
    for send in &out.xcf {
        assert!(send.remote == TARGET && out.bytes[send.range.clone()].len() > 4);
    }
}
