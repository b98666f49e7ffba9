//! A server in a folder of its own, before a core of fixed values.

use iked::events::Events;
use iked::ike::command::ActivationMethod;
use iked::ike::types::{
    AddressRange, Encryption, Group, Identity, IkeTunnelId, Integrity, Mode, Prf, TrafficSelector, TunnelId,
};
use iked::ike::view::{
    Census, ChildView, EngineCounters, IkeCounters, IkeProgress, IkeSuite, IkeView, Role, SaState,
};
use iked::ike::wire::AuthMethod;
use iked::nmi::Config;
use iked::request::{
    CfState, ControlObject, ControlOutcome, ControlStatus, CoreError, CoreRequest, DvipaInfo, ManualView,
    Snapshot, StackInfo, defense, vipa,
};
use iked::servauth::{Profiles, Resolve, User};
use nmi_proto::answer::Message;
use nmi_proto::client::Client;
use nmi_proto::codec::Decoder;
use stack::control as wire;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long anything may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Whoever runs the tests is this to the daemon.
pub(crate) const ROOT: u32 = 0;
/// May display TCPCS1.
pub(crate) const OPERATOR: u32 = 1;
/// May nothing.
pub(crate) const STRANGER: u32 = 2;

pub(crate) const PROFILES: &str = r#"
[[profile]]
name = "EZB.NETMGMT.SYSA.TCPCS1.IPSEC.DISPLAY"
permit = [{ group = "netops" }, { group = "root" }]
[[profile]]
name = "EZB.NETMGMT.**"
permit = [{ user = "root" }]
"#;

/// The user of a test is chosen by the test: the kernel's uid of all its connections is the same.
#[derive(Debug, Default)]
struct Users(AtomicU32);

impl Resolve for Users {
    fn user(&self, _uid: u32, _gid: u32) -> std::io::Result<User> {
        let (name, group) = match self.0.load(Ordering::SeqCst) {
            ROOT => ("root", "root"),
            OPERATOR => ("olga", "netops"),
            _ => ("mallory", "users"),
        };
        Ok(User { name: Some(name.to_owned()), groups: [group.to_owned()].into() })
    }
}

pub(crate) struct Daemon {
    socket: PathBuf,
    users: Arc<Users>,
    pub(crate) profiles: watch::Sender<Arc<Profiles>>,
    pub(crate) policy_loaded: watch::Sender<bool>,
    shutdown: CancellationToken,
    core: CancellationToken,
    controls: Arc<AtomicU64>,
    pub(crate) events: Events,
    pub(crate) statistics: iked::nmi::Statistics,
    runtime: tokio::runtime::Runtime,
    served: tokio::task::JoinHandle<()>,
    folder: tempfile::TempDir,
}

pub(crate) fn config(socket: &Path) -> Config {
    Config::new(socket.to_owned(), "SYSA")
}

impl Daemon {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {}, true)
    }

    pub(crate) fn start_with(edit: impl FnOnce(&mut Config), policy_loaded: bool) -> Self {
        Self::start_with_filters(edit, policy_loaded, FILTERS)
    }

    /// With so many filters: a record of one has 448 bytes.
    pub(crate) fn start_with_filters(
        edit: impl FnOnce(&mut Config),
        policy_loaded: bool,
        filters: u32,
    ) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("nmi-test")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let socket = folder.path().join("ipsecmgmt");
        let users = Arc::new(Users::default());
        let mut config = config(&socket);
        config.users = Arc::clone(&users) as _;
        edit(&mut config);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let inside = runtime.enter();
        let events = Events::default();
        let profiles = Profiles::parse(PROFILES, Path::new("servauth.toml")).unwrap();
        let (profiles, seen_profiles) = watch::channel(Arc::new(profiles));
        let (policy_loaded, seen_policy) = watch::channel(policy_loaded);
        let (shutdown, core) = (CancellationToken::new(), CancellationToken::new());
        let controls = Arc::new(AtomicU64::new(0));
        let (ask, asked) = mpsc::channel(16);
        runtime.spawn(answer(asked, core.clone(), Arc::clone(&controls), filters));
        let server = iked::nmi::Server::bind(config).unwrap();
        let statistics = server.statistics();
        let backend = iked::nmi::Backend {
            profiles: seen_profiles,
            core: ask,
            policy_loaded: seen_policy,
            events: events.clone(),
        };
        let served = runtime.spawn(server.run(backend, shutdown.clone()));
        drop(inside);
        Self {
            socket,
            users,
            profiles,
            policy_loaded,
            shutdown,
            core,
            controls,
            events,
            statistics,
            runtime,
            served,
            folder,
        }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Connections from now on are this user's.
    pub(crate) fn be(&self, user: u32) {
        self.users.0.store(user, Ordering::SeqCst);
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket, Some(LIMIT)).unwrap()
    }

    /// A stream that has had its INIT.
    pub(crate) fn raw(&self) -> UnixStream {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        frame(&mut stream);
        stream
    }

    /// A client as soon as the server has noticed that another one left.
    pub(crate) fn client_when_free(&self) -> Client {
        until(|| Client::connect(&self.socket, Some(LIMIT)).ok())
    }

    /// A stream as soon as there is room for one, those that wait to be accepted counted too.
    pub(crate) fn stream_when_free(&self) -> UnixStream {
        self.wait_for_connections(self.statistics.limit() - 1);
        assert!(self.statistics.clients() < self.statistics.limit());
        UnixStream::connect(&self.socket).unwrap()
    }

    /// Until the server holds no more than `n` connections open.
    pub(crate) fn wait_for_connections(&self, n: usize) {
        let path = self.socket.to_str().unwrap();
        until(|| {
            let table = std::fs::read_to_string("/proc/net/unix").unwrap();
            // One line is the listening socket itself.
            (table.lines().filter(|l| l.ends_with(path)).count() <= n + 1).then_some(())
        });
    }

    pub(crate) fn controls(&self) -> u64 {
        self.controls.load(Ordering::SeqCst)
    }

    pub(crate) fn end_core(&self) {
        self.core.cancel();
    }

    /// Ends it, returns the folder of its socket.
    pub(crate) fn stop(self) -> tempfile::TempDir {
        self.shutdown.cancel();
        self.runtime.block_on(self.served).unwrap();
        self.folder
    }
}

/// Asks again until there is an answer, for no longer than [`LIMIT`].
pub(crate) fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "nothing happened in {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The next message, and not a byte more.
pub(crate) fn frame(stream: &mut UnixStream) -> Message {
    let mut decoder = Decoder::new(nmi_proto::MAX_ANSWER_BYTES);
    let mut prefix = [0; 16];
    stream.read_exact(&mut prefix).unwrap();
    decoder.push(&prefix);
    let length = u32::from_be_bytes([prefix[12], prefix[13], prefix[14], prefix[15]]) as usize;
    let mut rest = vec![0; length - 16];
    stream.read_exact(&mut rest).unwrap();
    decoder.push(&rest);
    Message::read(decoder.next_frame().unwrap().unwrap()).unwrap()
}

/// Filters unless a test wants another number.
const FILTERS: u32 = 10_000;

async fn answer(
    mut asked: mpsc::Receiver<CoreRequest>,
    end: CancellationToken,
    controls: Arc<AtomicU64>,
    filters: u32,
) {
    loop {
        let request = tokio::select! {
            () = end.cancelled() => return,
            request = asked.recv() => request,
        };
        match request {
            None => return,
            Some(CoreRequest::Stacks(reply)) => {
                let down = StackInfo { name: "DOWN".into(), active: false, ..stack_info() };
                let _ = reply.send(vec![stack_info(), down]);
            }
            Some(CoreRequest::Display { stack, reply, .. }) => {
                let known = stack == "TCPCS1";
                let _ = reply.send(if known { Ok(snapshot(filters)) } else { Err(CoreError::UnknownStack) });
            }
            Some(CoreRequest::Control { objects, reply, .. }) => {
                controls.fetch_add(1, Ordering::SeqCst);
                let outcome = |object: ControlObject| {
                    let known = object.tunnel_id.as_deref() == Some("Y7");
                    let status = if known { ControlStatus::Updated } else { ControlStatus::NotFound };
                    ControlOutcome { object, status }
                };
                let all = ["K3", "K4"].map(|id| ControlOutcome {
                    object: ControlObject { name: None, tunnel_id: Some(id.to_owned()) },
                    status: ControlStatus::Updated,
                });
                let _ = reply.send(Ok(if objects.is_empty() {
                    all.into()
                } else {
                    objects.into_iter().map(outcome).collect()
                }));
            }
            Some(CoreRequest::Vipa(request)) => {
                controls.fetch_add(
                    u64::from(matches!(request, vipa::VipaRequest::Control { .. })),
                    Ordering::SeqCst,
                );
                vipa(request);
            }
            Some(CoreRequest::Defense(request)) => {
                let control = matches!(request, defense::DefenseRequest::Control { .. });
                controls.fetch_add(u64::from(control), Ordering::SeqCst);
                defense(request);
            }
            Some(CoreRequest::LoadPolicy { policy, reply, .. }) => {
                let failed = Err(CoreError::Policy("policy.conf:3: no such keyword".into()));
                let _ = reply.send(if policy { failed } else { Ok(()) });
            }
        }
    }
}

fn defense(request: defense::DefenseRequest) {
    use defense::{DefenseOrder, DefenseOutcome, DefenseRequest, DefenseResult, DefenseStatus};
    match request {
        DefenseRequest::Display { stack, reply } => {
            let view = |name: &str, simulate| {
                let rule = wire::FilterRule { name: name.into(), log_deny: true, ..filter(0).rule };
                DefenseStatus {
                    filter: wire::FilterView {
                        rule,
                        kind: wire::FilterKind::Defensive {
                            simulate,
                            global: stack.is_none(),
                            log_limit: 100,
                            expires: 1_741_012_641,
                            updated: 1_741_010_900,
                        },
                        totals: wire::FilterTotals {
                            permits: u64::from(simulate) * 7,
                            denies: u64::from(!simulate) * 12,
                            mismatches: 0,
                        },
                        created: 1_741_010_841,
                    },
                    stacks: if stack.is_none() { 2 } else { 0 },
                    lifetime_min: 30,
                    user: Some("olga".into()),
                }
            };
            let _ = reply.send(Ok(vec![view("scanner", false), view("maybe", true)]));
        }
        DefenseRequest::Control { stack, user, order, reply } => {
            let outcome = |name: &str, result, reason: Option<String>| DefenseOutcome {
                name: name.to_owned(),
                result,
                stacks: if stack.is_none() { 2 } else { 1 },
                reason,
            };
            let done = match &order {
                DefenseOrder::Add { name, packets, settings } => {
                    let said = format!(
                        "{:?} {} {}",
                        user,
                        packets.rules(name).len(),
                        settings.lifetime_min.is_some()
                    );
                    vec![outcome(name, DefenseResult::Done, Some(said))]
                }
                DefenseOrder::Update { name, .. } => vec![outcome(name, DefenseResult::NotFound, None)],
                DefenseOrder::Delete(Some(name)) => vec![outcome(name, DefenseResult::Done, None)],
                DefenseOrder::Delete(None) => {
                    ["scanner", "maybe"].map(|n| outcome(n, DefenseResult::Done, None)).into()
                }
            };
            let _ = reply.send(Ok(done));
        }
    }
}

fn vipa(request: vipa::VipaRequest) {
    let (first, second) = ("203.0.113.10".parse().unwrap(), "2001:db8::10".parse().unwrap());
    match request {
        vipa::VipaRequest::Display { reply, .. } => drop(reply.send(Ok(dvipas(first, second)))),
        vipa::VipaRequest::Targets { reply, .. } => {
            let target = |name: &str, quiesced| vipa::TargetStatus {
                dvipa: first,
                protocol: 6,
                ports: (80, 81),
                method: vipa::DistributionMethod::WeightedActive,
                target: name.into(),
                xcf: Some("10.99.0.3".parse().unwrap()),
                path_up: Some(false),
                heard: Some(Duration::from_millis(25)),
                ready: Some(2),
                weight: Some(10),
                quiesced,
                preferred: false,
                connections: Some((3, 30)),
                affinity: Duration::ZERO,
            };
            let _ = reply.send(Ok(vec![target("TGT1", false), target("TGT2", true)]));
        }
        vipa::VipaRequest::History { reply, .. } => drop(reply.send(Ok(vec![takeover(first)]))),
        vipa::VipaRequest::Control { order, reply, .. } => {
            let outcome = |dvipa, stack: Option<&str>, result, reason: Option<&str>| vipa::VipaOutcome {
                dvipa: Some(dvipa),
                stack: stack.map(str::to_owned),
                result,
                reason: reason.map(str::to_owned),
            };
            let done = match &order {
                vipa::VipaOrder::Move { dvipa, to } if *dvipa == first => {
                    vec![outcome(first, Some(to), vipa::VipaResult::Started, None)]
                }
                vipa::VipaOrder::Move { dvipa, to } => {
                    vec![outcome(*dvipa, Some(to), vipa::VipaResult::NotFound, Some("no such DVIPA"))]
                }
                vipa::VipaOrder::Deactivate(dvipa) | vipa::VipaOrder::Reactivate(dvipa) => {
                    vec![outcome(*dvipa, None, vipa::VipaResult::AlreadySet, None)]
                }
                vipa::VipaOrder::Quiesce { target, .. } | vipa::VipaOrder::Resume { target, .. } => {
                    [first, second].map(|d| outcome(d, Some(target), vipa::VipaResult::Started, None)).into()
                }
            };
            let _ = reply.send(Ok(done));
        }
    }
}

fn dvipas(first: IpAddr, second: IpAddr) -> Vec<vipa::DvipaStatus> {
    let backup = |(rank, stack): (u16, &str)| vipa::BackupStatus {
        stack: stack.into(),
        system: "SYSA".into(),
        rank,
        state: vipa::BackupState::Ready,
    };
    let one = vipa::DvipaStatus {
        address: first,
        owner: Some(vipa::Owner {
            stack: "TCPCS1".into(),
            system: "SYSA".into(),
            epoch: 5,
            since_unix: Some(1_700_000_000),
            from: Some("TCPCS2".into()),
        }),
        state: vipa::DvipaState::Active,
        mode: vipa::TakeoverMode::Continue,
        giveback: vipa::GivebackMode::WhenIdle,
        protection: vipa::Protection::NotProtected("etcd: no leader".into()),
        backups: [(0, "TCPCS1"), (1, "TCPCS2")].map(backup).into(),
        connections: Some(12),
        ike_sas: 1,
        child_sas: 2,
        stored: 3,
        failed: 0,
        lease: Some(Duration::from_millis(500)),
        ceiling: Some(1 << 33),
    };
    let other = vipa::DvipaStatus {
        address: second,
        owner: None,
        state: vipa::DvipaState::Backup,
        protection: vipa::Protection::NotApplicable,
        connections: None,
        lease: None,
        ceiling: None,
        ..one.clone()
    };
    vec![one, other]
}

fn takeover(dvipa: IpAddr) -> vipa::TakeoverReport {
    let step = |step, begin, duration| vipa::StepTime {
        step,
        begin: Duration::from_micros(begin),
        duration: Duration::from_micros(duration),
    };
    vipa::TakeoverReport {
        dvipa,
        from: Some("TCPCS2".into()),
        to: "TCPCS1".into(),
        epoch: 5,
        cause: vipa::TakeoverCause::LeaseEnded,
        result: vipa::TakeoverResult::Incomplete,
        mode: vipa::TakeoverMode::Renegotiate,
        planned: false,
        started_unix: 1_700_000_000,
        duration: Duration::from_millis(900),
        ready: Some(Duration::from_micros(140_500)),
        steps: vec![
            step(vipa::TakeoverStep::Detect, 0, 125_000),
            step(vipa::TakeoverStep::Acquire, 125_000, 800),
        ],
        connections: 12,
        sas: 3,
        remade: 2,
        continued: 0,
        failed: 1,
        waiting: 0,
        reason: Some("Branch: no answer".into()),
    }
}

fn stack_info() -> StackInfo {
    StackInfo {
        name: "TCPCS1".into(),
        active: true,
        ipv6: true,
        dvipsec: true,
        logging: false,
        predecap: false,
        policy_filters: true,
        nat_keepalive_secs: 20,
        defense: wire::DefenseMode::Active,
        excluded: vec!["198.51.100.0/24".parse().unwrap()],
    }
}

fn range(low: &str, high: &str) -> AddressRange {
    AddressRange { low: low.parse().unwrap(), high: high.parse().unwrap() }
}

fn ike(id: u32, local: &str, now: Instant) -> IkeView {
    IkeView {
        id: IkeTunnelId(id),
        generation: 1,
        rule: "Branch".into(),
        action: "Strong".into(),
        local: format!("{local}:4500").parse().unwrap(),
        remote: "198.51.100.7:4500".parse().unwrap(),
        local_id: Some(Identity::Fqdn("shop.example.org".into())),
        remote_id: (id == 3).then(|| Identity::Fqdn("branch.example.org".into())),
        spi_i: 0x0102_0304_0506_0708,
        spi_r: 9,
        state: if id == 3 { SaState::Active } else { SaState::InNegotiation },
        progress: if id == 3 { IkeProgress::Done } else { IkeProgress::WaitKe },
        role: Role::Responder,
        suite: Some(IkeSuite {
            encryption: Encryption::AesGcm16(256),
            integrity: None,
            prf: Prf::HmacSha384,
            group: Group::Curve25519,
        }),
        nat_allowed: true,
        nat_local: false,
        nat_remote: true,
        lifetime: Duration::from_secs(3600),
        established: Some(now),
        rekey_at: Some(now + Duration::from_secs(3000)),
        expires_at: Some(now + Duration::from_secs(3600)),
        proofs: Some((AuthMethod::SHARED_KEY, AuthMethod::SHARED_KEY)),
        reauth_interval: None,
        reauth_at: None,
        counters: IkeCounters::default(),
    }
}

fn child(generation: u32, state: SaState, now: Instant) -> ChildView {
    let selector = |low, high| TrafficSelector {
        addresses: range(low, high),
        protocol: 6,
        port_low: 0,
        port_high: u16::MAX,
    };
    ChildView {
        id: TunnelId(7),
        generation,
        ike: IkeTunnelId(3),
        rule: "Protect".into(),
        vpn_action: "Gold".into(),
        local_dyn_vpn_rule: Some("ToBranch".into()),
        method: ActivationMethod::Remote,
        state,
        role: Role::Responder,
        local: "203.0.113.10:4500".parse().unwrap(),
        remote: "198.51.100.7:4500".parse().unwrap(),
        udp: true,
        nat_local: false,
        nat_remote: true,
        mode: Mode::Tunnel,
        encryption: Some(Encryption::AesCbc(128)),
        integrity: Some(Integrity::HmacSha256),
        group: None,
        esn: true,
        spi_in: if state == SaState::Active { 0xC000_0001 } else { 0 },
        spi_out: 0xD000_0001,
        local_selectors: vec![selector("10.0.0.0", "10.0.0.255")],
        remote_selectors: vec![selector("198.51.100.7", "198.51.100.7")],
        lifetime: Duration::from_secs(600),
        lifesize_bytes: None,
        installed: Some(now),
        rekey_at: None,
        expires_at: None,
        vpn_life_ends: None,
    }
}

fn sa(spi_in: u32, tunnel: u32) -> wire::SaView {
    wire::SaView {
        spi_in,
        tunnel,
        outbound_active: true,
        out_packets: 1,
        out_bytes: 2,
        in_packets: 3,
        in_bytes: 4_000_000_000_000,
        next_sequence: 2,
        highest_received: 3,
        replay: None,
        idle_in_ms: None,
        path_mtu: 1500,
        df: wire::DfMode::Clear,
        copy_dscp: true,
    }
}

/// Ten thousand filters of a thousand rules; the last one is of a dynamic tunnel.
fn filter(i: u32) -> wire::FilterView {
    let any =
        wire::AddressRange { low: "0.0.0.0".parse().unwrap(), high: "255.255.255.255".parse().unwrap() };
    wire::FilterView {
        rule: wire::FilterRule {
            name: format!("Rule{}", i % 1000),
            extension: i + 1,
            group: None,
            local_start: None,
            vpn_action: None,
            direction: wire::Direction::Inbound,
            scope: wire::Scope::Local,
            security_class: 0,
            source: any,
            destination: any,
            protocol: Some(6),
            source_ports: wire::PortRange::ANY,
            destination_ports: wire::PortRange { low: 80, high: 80 },
            icmp_type: None,
            icmp_code: None,
            tcp_qualifier: wire::TcpQualifier::None,
            fragments_only: false,
            opaque: false,
            by_identity: false,
            granularity: wire::Granularity::default(),
            action: wire::FilterAction::Permit,
            log_permit: false,
            log_deny: true,
            discard_icmp: false,
        },
        kind: if i == 9_999 { wire::FilterKind::Dynamic(7) } else { wire::FilterKind::Generic },
        totals: wire::FilterTotals::default(),
        created: 1_700_000_000,
    }
}

fn snapshot(filters: u32) -> Snapshot {
    let now = Instant::now();
    let dvipa: IpAddr = "203.0.113.10".parse().unwrap();
    let interface = |name: &str, address: IpAddr| wire::InterfaceView {
        name: name.into(),
        address,
        security_class: 1,
        active: true,
        dvipa: address == dvipa,
    };
    let ike = vec![ike(3, "203.0.113.10", now), ike(4, "192.0.2.1", now)];
    let children = vec![child(2, SaState::InNegotiation, now), child(1, SaState::Active, now)];
    let mut census = Census::default();
    ike.iter().for_each(|v| census.ike.add(v.state));
    children.iter().for_each(|v| census.children.add(v.state));
    let up = children.iter().filter(|v| v.state == SaState::Active);
    census.rules_up = up.filter_map(|v| v.local_dyn_vpn_rule.clone()).collect();
    Snapshot {
        stack: stack_info(),
        now,
        unix_now: 1_700_000_000,
        ike,
        children,
        census,
        configured: vec![("Branch1".into(), true), ("Branch2".into(), false)],
        engine: EngineCounters::default(),
        manual: vec![ManualView {
            number: 1,
            vpn_action: "staticLab".into(),
            active: true,
            since_unix: 1_700_000_000,
            mode: wire::Mode::Tunnel,
            suite: wire::EspSuite::AhEsp {
                cipher: wire::BareCipher::AesCbc { key_bits: 128 },
                integrity: wire::EspIntegrity::HmacSha256,
                esp_spi_in: 0x1003,
                esp_spi_out: 0x1004,
            },
            local: "192.0.2.1".parse().unwrap(),
            remote: "192.0.2.9".parse().unwrap(),
            spi_in: 0x1001,
            spi_out: 0x1002,
            df: wire::DfMode::Copy,
            copy_dscp: true,
        }],
        sas: vec![sa(0xC000_0002, 9), sa(0xC000_0001, 7), sa(0x1001, wire::MANUAL_TUNNELS + 1)],
        filters: (0..filters).map(filter).collect(),
        totals: wire::FilterTotals { permits: 100, denies: 7, mismatches: 1 },
        interfaces: vec![interface("eth0", "192.0.2.1".parse().unwrap()), interface("lo", dvipa)],
        drops: vec![wire::DropView { reason: "no_filter_match".into(), packets: 12 }],
        shelved: vec![filter(0)],
        matching: 10_017,
        verdicts: vec![wire::TestVerdict {
            filter: 9_999,
            certain: true,
            treatment: wire::Treatment::Protected { tunnel: 7, spi_in: 0xC000_0001, spi_out: 0xD000_0001 },
        }],
        ports: vec![
            wire::PortTranslationView {
                local: [192, 0, 2, 80].into(),
                local_port: 443,
                remote: [203, 0, 113, 5].into(),
                protocol: 6,
                translated: 65_535,
                original: 40_000,
                tunnel: 2,
            },
            wire::PortTranslationView {
                local: [192, 0, 2, 80].into(),
                local_port: 443,
                remote: [203, 0, 113, 5].into(),
                protocol: 6,
                translated: 40_000,
                original: 40_000,
                tunnel: 1,
            },
        ],
        targets: vec![wire::TargetView {
            dvipa,
            protocol: 6,
            port: 80,
            target: "TGT1".into(),
            active: 4,
            total: 40,
            ready: None,
            weight: 10,
            quiesced: false,
        }],
        traffic: None,
        dvipas: vec![DvipaInfo { address: dvipa, owner: "TCPCS1".into(), epoch: 5, from: None }],
        cf_ike: BTreeMap::from([(IkeTunnelId(3), CfState::Stored)]),
        cf_children: BTreeMap::new(),
    }
}
