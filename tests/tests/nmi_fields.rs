//! Every display request of the management interface against a running system: what a record says is what the peer, the
//! kernel and the wire say.
//!
//! ```text
//!   PEER .11 === ext === .1 DIST .1 === xcf === .21 TGT1
//!   strongSwan            DVIPA 192.0.2.100, 2001:db8:2::100
//! ```

use anyhow::{Context, Result, ensure};
use e2e::capture::Capture;
use e2e::lab::Lab;
use e2e::packet::Seen;
use e2e::scenario::{DVIPA4, DVIPA6, PEER4, Sysplex, server};
use e2e::swan::Swan;
use e2e::{http, wait};
use nmi_proto::answer::Answer;
use nmi_proto::client::Client;
use nmi_proto::code::{
    ActivationMethod, AuthAlgorithm, AuthMethod, AuthProtocol, CfProtection, CfRecord, DhGroup, Direction,
    DvipaState, DynExtState, EncapsulationMode, EncryptionAlgorithm, FilterAction, FilterState, FilterType,
    IkeExtState, MessageType, NattLevel, Prf, Role, SaState, TakeoverCause, TakeoverResult, TunnelType,
};
use nmi_proto::display::{DynIkeRecord, DynStackRecord, FilterRecord, IkeRecord, IpDynTunnel, IpTunnel};
use nmi_proto::filter::InFilter;
use nmi_proto::text::CodePage;
use nmi_proto::value::Time;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(40);
const DIST: &str = "DIST";

struct Scene {
    lab: Lab,
    plex: Sysplex,
    peer: Swan,
    /// What strongSwan says of its SAs.
    said: String,
    /// Inbound and outbound SPI, from strongSwan's side.
    spis: (u32, u32),
    /// Seconds since 1970 before and after the negotiation.
    made: (u32, u32),
}

fn unix() -> u32 {
    #[expect(clippy::disallowed_methods, reason = "times of records are compared with the clock on the wall")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| u32::try_from(d.as_secs()).unwrap_or(u32::MAX))
}

impl Scene {
    /// The sysplex and strongSwan, with one tunnel that the peer has asked for; `None`: strongSwan is not installed.
    fn set(name: &str) -> Result<Option<Self>> {
        let Some((lab, plex, peer)) = Sysplex::with_strongswan(name)? else { return Ok(None) };
        let before = unix();
        peer.initiate("v4")?;
        let made = (before, unix());
        let (said, spis) = (peer.sas()?, peer.spis()?[0]);
        Ok(Some(Self { lab, plex, peer, said, spis, made }))
    }

    fn client(&self) -> Result<Client> {
        Ok(Client::connect(self.plex.daemon.socket(), Some(LIMIT))?)
    }

    /// A time at which the tunnel may have been made.
    fn is_when_made(&self, time: Time) -> bool {
        (self.made.0.saturating_sub(1)..=self.made.1 + 1).contains(&time.0)
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("a fixed address")
}

fn only<T>(answer: Answer<T>) -> Result<T> {
    let mut all = answer.records;
    ensure!(all.len() == 1 && answer.total >= 1, "{} records of {}", all.len(), answer.total);
    all.pop().context("one record")
}

/// What both kinds of records of the one tunnel have in common.
fn check_tunnel(scene: &Scene, tunnel: &IpTunnel, dynamic: &IpDynTunnel, kind: TunnelType) {
    assert!(
        tunnel.id.as_str().strip_prefix('Y').is_some_and(|n| n.parse::<u32>().is_ok()),
        "{:?}",
        tunnel.id
    );
    assert_eq!(tunnel.vpn_action, "gcmTunnel");
    assert_eq!((tunnel.ipv6, tunnel.fips140), (false, false));
    assert_eq!((tunnel.tunnel_type, tunnel.state), (kind, SaState::ACTIVE));
    assert_eq!((tunnel.encap_mode, tunnel.auth_protocol), (EncapsulationMode::TUNNEL, AuthProtocol::ESP));
    // strongSwan: "ESP:AES_GCM_16-128".
    assert!(scene.said.contains("AES_GCM_16-128"), "{}", scene.said);
    let suite = (tunnel.encryption_algorithm, tunnel.key_length, tunnel.auth_algorithm);
    assert_eq!(suite, (EncryptionAlgorithm::AES_GCM_16, 128, AuthAlgorithm::NONE));
    assert_eq!(tunnel.local_endpoint.ip(false), address(DVIPA4));
    assert_eq!(tunnel.remote_endpoint.ip(false), address(PEER4));
    let (swan_in, swan_out) = scene.spis;
    assert_eq!((tunnel.in_encryption_spi, tunnel.out_encryption_spi), (swan_out, swan_in));
    assert_eq!((tunnel.in_auth_spi, tunnel.out_auth_spi), (swan_out, swan_in));
    assert!(scene.is_when_made(tunnel.start_time), "{:?} {:?}", tunnel.start_time, scene.made);

    assert!(dynamic.rule.is_blank(), "the peer asked for it");
    assert!(dynamic.ike_tunnel_id.as_str().starts_with('K'));
    // strongSwan forces ESP in UDP by pretending a NAT; there is none behind which ports could change.
    assert!(dynamic.udp_encap && !dynamic.remote_napt && !dynamic.remote_gateway && !dynamic.remote_zos);
    assert_eq!((dynamic.generation, dynamic.ike_major, dynamic.ike_minor), (1, 2, 0));
    assert_eq!(dynamic.activation_method, ActivationMethod::REMOTE);
    assert_eq!(dynamic.protocol, 0, "any");
    let selectors = [(dynamic.local_address, DVIPA4), (dynamic.remote_address, PEER4)];
    for (shown, wanted) in selectors {
        assert_eq!(shown.ip(false), address(wanted));
        assert!(scene.said.contains(&format!("{wanted}/32")), "{}", scene.said);
    }
    let ports =
        [dynamic.local_port_low, dynamic.local_port_high, dynamic.remote_port_low, dynamic.remote_port_high];
    assert_eq!(ports, [0, u16::MAX, 0, u16::MAX]);
    assert_eq!(dynamic.dh_group, DhGroup::NONE, "the first child uses the keys of the IKE SA");
    assert_eq!(dynamic.remote_udp_port, 4500);
    assert_eq!(dynamic.lifetime, 3600);
    // Both are cut to seconds.
    assert!((3599..=3601).contains(&(dynamic.expire_time.0 - tunnel.start_time.0)));
    assert!((tunnel.start_time.0..dynamic.expire_time.0).contains(&dynamic.refresh_time.0));
    assert_eq!((dynamic.lifesize, dynamic.refresh_size), (0, 0), "none is configured");
}

#[test]
fn tunnels_are_shown_as_the_peer_and_the_wire_have_them() -> Result<()> {
    let Some(scene) = Scene::set("fields")? else { return Ok(()) };
    let mut nmi = scene.client()?;
    scene.lab.frame_each_datagram(DIST, "ext")?;
    let capture = Capture::start(&scene.lab, DIST, "ext")?;

    // IPTUNDYNSTACK, IPTUNDYNIKE: sections 6.5 to 6.7.
    let before: DynStackRecord = only(nmi.dynamic_tunnels(DIST, &[])?)?;
    check_tunnel(&scene, &before.tunnel, &before.dynamic, TunnelType::STACK);
    let ike_side: DynIkeRecord = only(nmi.dynamic_tunnels_ike(DIST, &[])?)?;
    check_tunnel(&scene, &ike_side.tunnel, &ike_side.dynamic, TunnelType::IKE);
    assert_eq!((ike_side.ike.ext_state, ike_side.ike.role), (DynExtState::DONE, Role::RESPONDER));
    assert!(!ike_side.ike.pending_activation && !ike_side.ike.pending_deactivation);
    assert_eq!(ike_side.ike.filter_rule, "web");
    for dist in [before.dist.as_ref(), ike_side.dist.as_ref()] {
        let dist = dist.context("the local endpoint is a DVIPA")?;
        assert!(dist.dvipa && !dist.taken_over && dist.from.is_blank());
        assert_eq!((dist.cf_record, dist.owner.as_str()), (CfRecord::STORED, DIST));
        assert_eq!(dist.epoch, only(nmi.dvipas(DIST, &[by_local(DVIPA4)])?)?.dvipa.epoch);
    }

    // Counters: what the wire carried.
    for _ in 0..3 {
        http::get(&scene.lab, "PEER", server(false), LIMIT)?;
    }
    let mut looks = 0;
    let mut last = before.usage.clone();
    let usage = wait::until("no packet any more", LIMIT, || {
        let now = only(nmi.dynamic_tunnels(DIST, &[])?)?.usage;
        looks = if now == last && now.in_packets > 0 { looks + 1 } else { 0 };
        last = now;
        ensure!(looks >= 100, "{last:?}");
        Ok(last.clone())
    })?;
    assert_eq!((usage.current_size, usage.shadow), (0, false));
    let dvipa = address(DVIPA4);
    let capture = capture.finish()?;
    let count = |inbound: bool| {
        let way = |s: &Seen| match s {
            Seen::Esp(ends, _) | Seen::EspInUdp(ends, _) => (ends.destination == dvipa) == inbound,
            _ => false,
        };
        capture.count(way) as u64
    };
    assert_eq!((usage.in_packets, usage.out_packets), (count(true), count(false)), "{:?}", capture.file);
    assert!(usage.in_bytes > usage.in_packets * 40 && usage.out_bytes > usage.out_packets * 40, "{usage:?}");

    // IKETUN and IKETUNCASCADE: sections 6.8 to 6.10.
    let ike: IkeRecord = only(nmi.ike_tunnels(DIST, &[])?)?;
    check_ike(&scene, &ike)?;
    assert_eq!(ike.tunnel.id, before.dynamic.ike_tunnel_id.as_str());
    let cascade: IkeRecord =
        only(nmi.ike_tunnels_cascade(DIST, &[InFilter::tunnel(ike.tunnel.id.as_str())])?)?;
    check_ike(&scene, &cascade)?;
    let children = cascade.cascade.context("a cascade")?;
    assert_eq!(children.len(), 1);
    assert_eq!((&children[0].tunnel.id, &children[0].ike), (&ike_side.tunnel.id, &ike_side.ike));
    check_tunnel(&scene, &children[0].tunnel, &children[0].dynamic, TunnelType::IKE);

    // IPFLTCURR: the dynamic filters of the tunnel, with the peer; section 6.3.
    let dynamic: Vec<FilterRecord> =
        nmi.filters(DIST, &[InFilter::tunnel(before.tunnel.id.as_str())])?.records;
    let directions: Vec<_> = dynamic.iter().map(|r| r.filter.direction).collect();
    assert!(directions.contains(&Direction::INBOUND) && directions.contains(&Direction::OUTBOUND));
    for r in &dynamic {
        let f = &r.filter;
        assert_eq!(
            (f.filter_type, f.action, f.state),
            (FilterType::DYNAMIC, FilterAction::IPSEC, FilterState::ACTIVE)
        );
        assert_eq!((f.name.as_str(), f.vpn_action.as_str()), ("web", "gcmTunnel"));
        assert_eq!(r.remote_id.as_ref().context("the peer's identity")?.to_string(), PEER4);
        assert_eq!((f.remote_udp_port, f.matches), (4500, f.permits + f.denies + f.mismatches));
        assert!(scene.is_when_made(f.create_time), "{:?}", f.create_time);
        let (own, other) = match f.direction {
            Direction::INBOUND => (f.destination_address, f.source_address),
            _ => (f.source_address, f.destination_address),
        };
        assert_eq!((own.ip(false), other.ip(false)), (address(DVIPA4), address(PEER4)));
    }
    let permits =
        |d| dynamic.iter().filter(|r| r.filter.direction == d).map(|r| r.filter.permits).sum::<u64>();
    assert_eq!(
        (permits(Direction::INBOUND), permits(Direction::OUTBOUND)),
        (usage.in_packets, usage.out_packets)
    );

    // SUMMARY: section 6.2.
    let sum = nmi.summary(DIST)?;
    assert_eq!((sum.phase1_active, sum.phase1_in_progress, sum.phase1_expired), (1, 0, 0));
    assert_eq!(
        (sum.phase2_active, sum.phase2_in_progress, sum.phase2_expired, sum.phase2_active_shadow),
        (1, 0, 0, 0)
    );
    assert_eq!((sum.phase1_remote_activation_success, sum.phase1_local_activation_success), (1, 0));
    assert_eq!((sum.phase2_remote_activation_success, sum.phase2_local_activation_success), (1, 0));
    assert_eq!((sum.phase1_auth_fail, sum.phase1_invalid), (0, 0));
    assert!(sum.packets_permit >= usage.in_packets + usage.out_packets, "{sum:?}");
    assert_eq!(sum.manual_active, 0);

    // A rekey is a new generation with new SPIs; the same records in the other code page.
    scene.peer.swanctl(&["--rekey", "--child", "v4"])?;
    nmi.set_page(CodePage::Ibm1047);
    wait::until("the rekeyed child alone", LIMIT, || {
        let (spis, now) = (scene.peer.spis()?, only(nmi.dynamic_tunnels(DIST, &[])?)?);
        ensure!(spis.len() == 1 && now.tunnel.in_encryption_spi == spis[0].1, "{spis:?}");
        assert_eq!((now.tunnel.id.as_str(), now.dynamic.generation), (before.tunnel.id.as_str(), 2));
        assert_eq!(now.tunnel.out_encryption_spi, spis[0].0);
        Ok(())
    })
}

fn check_ike(scene: &Scene, record: &IkeRecord) -> Result<()> {
    let (t, stats) = (&record.tunnel, &record.stats);
    assert_eq!(
        (t.ipv6, t.nat_allowed, t.remote_napt, t.can_initiate, t.fips140),
        (false, true, false, !t.remote_nat, false)
    );
    assert_eq!((t.key_exchange_rule.as_str(), t.key_exchange_action.as_str()), ("kx-web", "kxStrong"));
    assert_eq!((t.local_endpoint.ip(false), t.remote_endpoint.ip(false)), (address(DVIPA4), address(PEER4)));
    // strongSwan: "v4: #1, ESTABLISHED, IKEv2, 0123456789abcdef_i* fedcba9876543210_r".
    for (cookie, mark) in [(t.initiator_cookie, "_i*"), (t.responder_cookie, "_r")] {
        let shown = format!("{:016x}{mark}", u64::from_be_bytes(cookie));
        ensure!(scene.said.contains(&shown), "{shown} is not in {}", scene.said);
    }
    assert_eq!((t.state, t.ext_state, t.role), (SaState::ACTIVE, IkeExtState::DONE, Role::RESPONDER));
    ensure!(scene.said.contains("AES_GCM_16-128/PRF_HMAC_SHA2_256/CURVE_25519"), "{}", scene.said);
    assert_eq!((t.encryption_algorithm, t.key_length), (EncryptionAlgorithm::AES_GCM_16, 128));
    assert_eq!((t.auth_algorithm, t.prf, t.dh_group), (AuthAlgorithm::NONE, Prf::HMAC_SHA2_256, DhGroup(31)));
    assert_eq!((t.local_auth, t.remote_auth), (AuthMethod::PRE_SHARED_KEY, AuthMethod::PRE_SHARED_KEY));
    assert_eq!((t.natt_level, t.ike_major, t.ike_minor, t.generation), (NattLevel::IKEV2, 2, 0, 1));
    assert_eq!(t.lifetime, 480 * 60);
    assert!((t.lifetime - 1..=t.lifetime + 1).contains(&(t.expire_time.0 - t.start_time.0)));
    assert!((t.start_time.0..t.expire_time.0).contains(&t.refresh_time.0));
    assert_eq!((t.reauth_interval, t.reauth_time, t.lifesize, t.remote_udp_port), (0, Time::NONE, 0, 4500));
    assert!(scene.is_when_made(t.start_time), "{:?} {:?}", t.start_time, scene.made);
    let id = |id: &Option<nmi_proto::identity::Identity>| id.as_ref().map(ToString::to_string);
    assert_eq!(
        (id(&record.local_id), id(&record.remote_id)),
        (Some(DVIPA4.to_owned()), Some(PEER4.to_owned()))
    );
    assert_eq!((stats.phase2_active, stats.phase2_in_progress, stats.phase2_expired), (1, 0, 0));
    let activations = (stats.phase2_remote_activation_success, stats.phase2_local_activation_success);
    assert_eq!((activations, stats.phase2_remote_activation_failure), ((1, 0), 0));
    assert!(stats.bytes > 0 && stats.phase1_auth_fail == 0, "{stats:?}");
    let dist = record.dist.as_ref().context("the local endpoint is a DVIPA")?;
    assert_eq!((dist.cf_record, dist.owner.as_str(), dist.taken_over), (CfRecord::STORED, DIST, false));
    Ok(())
}

fn by_local(text: &str) -> InFilter {
    InFilter::local(address(text))
}

#[test]
fn stacks_filters_interfaces_drops_and_dvipas_are_shown_as_they_are() -> Result<()> {
    let Some(scene) = Scene::set("stackfields")? else { return Ok(()) };
    let mut nmi = scene.client()?;

    // STACKINFO and IKENSINFO: sections 6.1 and 6.13.
    let stacks = nmi.stacks()?.records;
    let names: BTreeSet<_> = stacks.iter().map(|r| r.stack.name.as_str().to_owned()).collect();
    assert_eq!(names, BTreeSet::from([DIST.to_owned(), "TGT1".to_owned()]));
    for r in &stacks {
        let s = &r.stack;
        assert!(s.ip_security && s.ipv6_security && s.dvipsec && s.logging && s.policy_filters, "{s:?}");
        assert!(!s.predecap && !s.fips140 && r.excluded.is_empty(), "{s:?}");
        assert_eq!(s.nat_keepalive, 20, "the default of the policy language");
    }
    let nss = nmi.nss()?.records;
    assert_eq!(nss.iter().map(|n| n.stack_name.as_str().to_owned()).collect::<BTreeSet<_>>(), names);
    assert!(nss.iter().all(|n| n.client_name.is_blank() && !n.configured), "no stack has a key server");

    // IPFLTPOLICY is the file's set, IPFLTDEFAULT the one that a stack has without it; section 6.3.
    let set =
        |nmi: &mut Client, kind| -> Result<Vec<FilterRecord>> { Ok(nmi.display(kind, DIST, &[])?.records) };
    let policy = set(&mut nmi, MessageType::GET_IPFLTPOLICY)?;
    let rules: BTreeSet<_> = policy.iter().map(|r| r.filter.name.as_str().to_owned()).collect();
    assert!(rules.contains("web") && rules.contains("web6"), "{rules:?}");
    assert!(policy.iter().all(|r| r.filter.state == FilterState::ACTIVE && r.filter.tunnel_id.is_blank()));
    let web = policy.iter().find(|r| r.filter.name == "web").context("the rule")?;
    assert_eq!(
        (web.filter.action, web.filter.filter_type),
        (FilterAction::IPSEC, FilterType::DYNAMIC_ANCHOR)
    );
    let default = set(&mut nmi, MessageType::GET_IPFLTDEFAULT)?;
    assert!(default.iter().all(|r| r.filter.state == FilterState::INACTIVE && r.filter.matches == 0));
    assert!(default.iter().all(|r| r.filter.name != "web"));
    assert!(nmi.manual_tunnels(DIST, &[])?.records.is_empty(), "none is configured");
    assert!(nmi.port_translations(DIST, &[])?.records.is_empty(), "no NAT");

    // IPINTERFACES: the kernel's addresses; section 6.12.
    let shown: BTreeSet<(String, IpAddr)> = nmi
        .interfaces(DIST)?
        .records
        .iter()
        .map(|i| (i.name.as_str().to_owned(), i.address.ip(i.ipv6)))
        .collect();
    let mut ip = scene.lab.exec(DIST, std::path::Path::new("ip"));
    let kernel = e2e::process::check(ip.args(["-o", "addr", "show"]))?;
    for (name, ip) in &shown {
        let line = |l: &str| l.contains(&format!(" {name} ")) && l.contains(&format!(" {ip}/"));
        ensure!(kernel.lines().any(line), "{name} {ip} is not in {kernel}");
    }
    for dvipa in [DVIPA4, DVIPA6] {
        let record =
            nmi.interfaces(DIST)?.records.into_iter().find(|i| i.address.ip(i.ipv6) == address(dvipa));
        assert!(record.is_some_and(|i| i.dvipa && i.active && i.name == "lo"), "{dvipa}");
    }

    // GET_DROPS and SUMMARY: one packet in clear that should have been protected.
    let clear = |nmi: &mut Client| -> Result<u64> {
        let all = nmi.drops(DIST)?.records;
        Ok(all.iter().find(|d| d.reason == "clear_but_ipsec_required").map_or(0, |d| d.packets))
    };
    let (dropped, denied) = (clear(&mut nmi)?, nmi.summary(DIST)?);
    scene.peer.swanctl(&["--terminate", "--ike", "v4"])?;
    let stray = address(DVIPA4);
    scene.lab.inside("PEER", move || -> Result<()> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.send_to(b"in clear", (stray, 9))?;
        Ok(())
    })??;
    wait::until("the packet is counted", LIMIT, || {
        let (now, sum) = (clear(&mut nmi)?, nmi.summary(DIST)?);
        ensure!(now == dropped + 1, "{now} after {dropped}: {:?}", nmi.drops(DIST)?.records);
        let judged = |s: &nmi_proto::display::Statistics| s.packets_deny + s.packets_mismatch;
        ensure!(judged(&sum) > judged(&denied), "{sum:?}");
        Ok(())
    })?;

    // GET_DVIPA, GET_VIPATARGETS, GET_TAKEOVERS: docs/nmi.md sections 6.17 to 6.19.
    let d = only(nmi.dvipas(DIST, &[by_local(DVIPA4)])?)?;
    assert_eq!(
        (d.dvipa.owner.as_str(), d.dvipa.owner_system.as_str(), d.dvipa.state),
        (DIST, "SYSA", DvipaState::ACTIVE)
    );
    assert!(d.dvipa.epoch >= 1 && d.dvipa.since.0 > 0);
    assert_ne!(d.dvipa.cf_state, CfProtection::FAILED);
    http_through_the_tunnel(&scene)?;
    let targets = nmi.vipa_targets(DIST, &[by_local(DVIPA4)])?.records;
    let target = targets.first().context("a target")?;
    assert_eq!(
        (target.target.as_str(), target.port_low, target.port_high, target.protocol),
        ("TGT1", 80, 80, 6)
    );
    assert_eq!(target.xcf.ip(target.xcf_ipv6), address("10.99.0.21"));
    assert!(target.ready_known && target.ready >= 1 && target.path_known && target.path_up, "{target:?}");
    assert!(target.connections_known && target.total >= 2, "{target:?}");
    let spread = nmi.distribution(DIST)?.records;
    let v4 = spread.iter().find(|r| r.dvipa.ip(r.ipv6) == address(DVIPA4)).context("the DVIPA")?;
    assert_eq!((v4.target.as_str(), v4.port, v4.total), ("TGT1", 80, target.total));
    let start = only(nmi.takeovers(DIST, &[by_local(DVIPA4)])?)?;
    assert_eq!((start.takeover.cause, start.takeover.result), (TakeoverCause::START, TakeoverResult::DONE));
    assert_eq!((start.takeover.to.as_str(), start.takeover.epoch), (DIST, d.dvipa.epoch));
    assert!(!start.steps.is_empty());
    Ok(())
}

fn http_through_the_tunnel(scene: &Scene) -> Result<()> {
    scene.peer.initiate("v4")?;
    for _ in 0..2 {
        http::get(&scene.lab, "PEER", server(false), LIMIT)?;
    }
    Ok(())
}

#[test]
fn t55_a_descriptor_that_was_passed_on_has_the_rights_of_whoever_connected() -> Result<()> {
    let (_lab, plex) = Sysplex::with_one_target("passed")?;
    // A child connects as nobody, hands the descriptor to its parent, which is root, and ends: its number may be used
    // again by anybody. The parent asks through it, and through a connection of its own.
    let script = r#"
import array, os, socket, struct, sys
path, stack = sys.argv[1], sys.argv[2].encode().ljust(24)
def summary(s):
    head = b"NMsM" + struct.pack(">IHHI", 96, 1, 0x0102, 96) + bytes(24) + stack + bytes(32)
    def read(n):
        data = b""
        while len(data) < n:
            more = s.recv(n - len(data))
            assert more, "closed"
            data += more
        return data
    def message():
        first = read(96)
        size = struct.unpack(">I", first[12:16])[0]
        read(size - 96)
        return struct.unpack(">I", first[28:32])[0]
    message()
    s.sendall(head)
    return message()
def connect():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.connect(path)
    return s
here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
child = os.fork()
if child == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    s = connect()
    there.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno()]))])
    os._exit(0)
_, ancillary, _, _ = here.recvmsg(1, socket.CMSG_LEN(4))
fd = array.array("i", ancillary[0][2][:4])[0]
os.waitpid(child, 0)
print(summary(socket.socket(fileno=fd)), summary(connect()))
"#;
    let output = e2e::process::run(
        std::process::Command::new("python3").args(["-c", script]).arg(plex.daemon.socket()).arg(DIST),
    )?;
    let text = String::from_utf8_lossy(&output.stdout);
    let refused = nmi_proto::code::ReturnCode::EACCES.0;
    assert_eq!(text.trim(), format!("{refused} 0"), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn t59_without_descriptors_new_clients_wait_and_a_second_daemon_refuses_to_start() -> Result<()> {
    let (_lab, plex) = Sysplex::with_one_target("descriptors")?;
    let daemon = &plex.daemon;
    let second = std::process::Command::new(e2e::node::binary("iked")?)
        .arg("--config")
        .arg(daemon.dir.join("iked.toml"))
        .output()?;
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another iked runs with this configuration"), "{said}");

    let mut before = Client::connect(daemon.socket(), Some(LIMIT))?;
    let limit = |most: &str| {
        let mut prlimit = std::process::Command::new("prlimit");
        e2e::process::check(
            prlimit.arg(format!("--pid={}", daemon.pid())).arg(format!("--nofile={most}:4096")),
        )
    };
    // What it has open it keeps; nothing more can be opened.
    limit("8")?;
    let waiting: Vec<_> =
        (0..5).map(|_| std::os::unix::net::UnixStream::connect(daemon.socket())).collect::<Result<_, _>>()?;
    wait::until("the daemon says that it has no descriptors", LIMIT, || {
        ensure!(daemon.log().contains("could not be accepted"), "{}", daemon.log());
        Ok(())
    })?;
    assert!(before.summary(DIST).is_ok(), "who was connected still is served");
    limit("4096")?;
    for stream in waiting {
        Client::on(stream, Some(LIMIT)).context("served as soon as there are descriptors")?.summary(DIST)?;
    }
    Ok(())
}
