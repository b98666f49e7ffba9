//! The core with real engines and stacks that are only channels: negotiations, restarts, control, display and the
//! coupling facility, under a clock moved by hand.

use super::*;
use crate::cf::fence::Contents;
use crate::cf::record::{Ceiling, RecordId, Secret};
use crate::cf::{RecordKey, Revision};
use crate::ike::command::{ActivationMethod, Initiate};
use crate::ike::rules::{
    Authentication, ChildOffer, ChildRule, ExchangeRule, IkeOffer, Initiation, Rules, Settings,
};
use crate::ike::types::*;
use crate::policies::{ManualTunnel, StartError};
use crate::request::{ControlAction, ControlObject, ControlStatus, Snapshot, Want};
use crate::stack_link::ConnectionEnd;
use rand::SeedableRng;
use stack::control::{
    Acquire, DfMode, FromStack, Hello, IkeDatagram, PROTOCOL_VERSION, ReplaySnapshot, Role, SaPair,
    UpperLayer,
};
use std::sync::Mutex;
use tokio::sync::oneshot;

pub(super) const VIP: &str = "203.0.113.10";
pub(super) const PEER: &str = "198.51.100.7";
/// Another DVIPA, where there is one.
pub(super) const SECOND: &str = "203.0.113.11";

pub(super) fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

pub(super) fn selector(a: &str) -> TrafficSelector {
    let a = ip(a);
    TrafficSelector {
        addresses: AddressRange { low: a, high: a },
        protocol: 0,
        port_low: 0,
        port_high: u16::MAX,
    }
}

/// The policy of one end, which protects everything to the other.
#[derive(Clone, Copy)]
pub(super) struct Fixed {
    pub(super) local: &'static str,
    pub(super) remote: &'static str,
    pub(super) auto: bool,
    /// From when on it has one rule and a manual tunnel, seconds since 1970 UTC.
    pub(super) timed: Option<u64>,
    /// Everybody in the remote's /24 is a peer.
    pub(super) many: bool,
}

/// What the owner of the VIP is told where everybody is a peer.
pub(super) const OF_MANY: Fixed = Fixed { local: VIP, remote: PEER, auto: false, timed: None, many: true };
/// What a peer is told.
pub(super) const OF_PEER: Fixed = Fixed { local: PEER, remote: VIP, auto: false, timed: None, many: false };

/// A packet of the VIP to the peer wants an SA of this rule.
pub(super) fn acquire(id: u64, rule: &str) -> LinkEvent {
    LinkEvent::Message(Box::new(FromStack::Acquire(Acquire {
        id,
        rule: rule.into(),
        source: ip(VIP),
        destination: ip(PEER),
        protocol: 6,
        upper: UpperLayer::Ports { source: 1, destination: 2 },
    })))
}

/// What a peer asks for that has just been started.
pub(super) fn anew() -> Command {
    Command::Initiate(Box::new(OF_PEER.initiate(ActivationMethod::Auto, None)))
}

impl Fixed {
    pub(super) fn initiate(&self, method: ActivationMethod, name: Option<&str>) -> Initiate {
        Initiate {
            rule: "all".into(),
            local_endpoint: ip(self.local),
            remote_endpoint: ip(self.remote),
            remote_id: None,
            nat_port: None,
            local: vec![selector(self.local)],
            remote: vec![selector(self.remote)],
            local_dyn_vpn_rule: name.map(str::to_owned),
            method,
            acquire: None,
            initial_contact: true,
        }
    }
}

impl StackPolicy for Fixed {
    fn filters(&self, unix: u64) -> FilterSet {
        let any = stack::control::AddressRange::ANY_V4;
        let (inbound, deny) = (stack::control::Direction::Inbound, stack::control::FilterAction::Deny);
        let rule = || stack::control::FilterRule::new("night", 1, inbound, any, any, deny);
        let rules = self.timed.filter(|from| unix >= *from).map(|_| rule()).into_iter().collect();
        FilterSet { policy: true, logging: true, rules, ..crate::policies::no_filters() }
    }
    fn next_change(&self, unix: u64) -> Option<u64> {
        self.timed.filter(|from| unix < *from)
    }
    fn manual_tunnels(&self, unix: u64) -> Vec<ManualTunnel> {
        let tunnel = |from| {
            let action = "lab".to_owned();
            ManualTunnel { action, installed: unix >= from, active: true, pair: pair_of(0x1001) }
        };
        self.timed.map(tunnel).into_iter().collect()
    }
    fn rules(&self, _: u64) -> Rules {
        let range = |a| vec![selector(a).addresses];
        let remotes = match ip(self.remote) {
            IpAddr::V4(a) if self.many => {
                let [a, b, c, _] = a.octets();
                AddressRange { low: [a, b, c, 0].into(), high: [a, b, c, 255].into() }
            }
            a => AddressRange { low: a, high: a },
        };
        let lifetime = Duration::from_secs(3600);
        Rules {
            exchange: vec![ExchangeRule {
                name: "kx".into(),
                action: "kxa".into(),
                local_id: Identity::Address(ip(self.local)),
                local_location: range(self.local),
                remote_id: IdentityPattern::Addresses(remotes),
                remote_location: vec![remotes],
                initiate: true,
                respond: true,
                authentication: Authentication::SharedKey(Secret(b"correct horse".to_vec())),
                offers: vec![IkeOffer {
                    encryption: Encryption::AesGcm16(128),
                    integrity: None,
                    prf: Prf::HmacSha256,
                    group: Group::Curve25519,
                    lifetime: lifetime * 8,
                }],
                allow_nat: true,
                filter_by_identity: false,
                reauth_interval: None,
            }],
            child: vec![ChildRule {
                rule: "all".into(),
                vpn_action: "gold".into(),
                local: vec![selector(self.local)],
                remote: vec![TrafficSelector { addresses: remotes, ..selector(self.remote) }],
                remote_identity: None,
                initiation: Initiation::Either,
                modes: vec![Mode::Tunnel],
                pfs_initiate: None,
                pfs_accept: vec![None],
                offers: vec![ChildOffer {
                    encryption: Encryption::AesGcm16(128),
                    integrity: None,
                    esn: true,
                    lifetime,
                    lifesize_bytes: None,
                }],
                vpn_life: None,
                local_endpoint: None,
                remote_endpoint: None,
            }],
        }
    }
    fn settings(&self) -> Settings {
        Settings::default()
    }
    fn local_rules(&self) -> Vec<String> {
        vec!["toPeer".into()]
    }
    fn auto_activate(&self) -> Vec<String> {
        if self.auto { self.local_rules() } else { vec![] }
    }
    fn start_named(&self, name: &str, method: ActivationMethod) -> Result<Initiate, StartError> {
        match name {
            "toPeer" => Ok(self.initiate(method, Some(name))),
            "noFilter" => Err(StartError::NoFilterRule),
            _ => Err(StartError::NotFound),
        }
    }
    fn start_on_demand(&self, acquire: &Acquire) -> Result<Initiate, String> {
        match acquire.rule.as_str() {
            "all" => Ok(self.initiate(ActivationMethod::OnDemand, None)),
            other => Err(format!("{other} does not start on demand")),
        }
    }
    fn df(&self, _: &str) -> DfMode {
        DfMode::Copy
    }
}

/// Policies of both ends; can be made to fail as a file with a mistake does.
#[derive(Clone, Default)]
pub(super) struct Source {
    pub(super) auto: bool,
    pub(super) timed: Option<u64>,
    pub(super) many: bool,
    pub(super) broken: Arc<Mutex<bool>>,
}

impl PolicySource for Source {
    fn load(&mut self, stack: &StackEntry) -> Result<Arc<dyn StackPolicy>, String> {
        if *self.broken.lock().unwrap() {
            return Err("policy.conf:3: unknown keyword".into());
        }
        let auto = self.auto && stack.name.is("OWN");
        let timed = self.timed;
        Ok(Arc::new(match stack.name.is("PEER") {
            false => Fixed { auto, timed, many: self.many, ..OF_MANY },
            true => OF_PEER,
        }))
    }
}

/// What a channel that stands for a stack remembers.
#[derive(Default)]
pub(super) struct FakeStack {
    pub(super) end: Option<ConnectionEnd>,
    pub(super) sas: BTreeMap<u32, SaPair>,
    pub(super) heard: Vec<ToStack>,
    pub(super) owner: bool,
    /// It answers no question.
    pub(super) dumb: bool,
}

pub(super) struct Lab {
    pub(super) core: Core,
    pub(super) now: Now,
    pub(super) stacks: [FakeStack; 3],
    internal: mpsc::Receiver<Internal>,
    orders: mpsc::Receiver<Order>,
    /// Orders of records that nobody has looked at.
    pub(super) kept: Vec<Order>,
    /// What the next claim finds.
    pub(super) left: Contents,
    pub(super) epoch: u64,
    /// What continues SAs, as the coupling facility has it.
    pub(super) keys: BTreeMap<RecordId, Secret>,
    ceiling: Option<u64>,
    /// Orders to raise the ceiling that are not carried out yet; `None`: each is at once.
    pub(super) late: Option<Vec<Order>>,
    /// The claim of this DVIPA is not answered.
    pub(super) unanswered: Option<IpAddr>,
    source: Source,
}

pub(super) const OWN: usize = 0;
pub(super) const OTHER: usize = 1;
/// The backup, where there is one.
pub(super) const SPARE: usize = 2;

impl Lab {
    pub(super) fn new() -> Self {
        Self::with(Source::default())
    }

    pub(super) fn with(source: Source) -> Self {
        Self::configured(source, &config_of("", &format!("[[dvipa]]\naddress = '{VIP}'\nowner = 'OWN'\n")))
    }

    /// A DVIPA whose SAs go on at a backup.
    pub(super) async fn continuing() -> Self {
        Self::continuing_with(Source::default()).await
    }

    pub(super) async fn continuing_with(source: Source) -> Self {
        let mut lab = Self::continuing_unconnected(source);
        for index in [OWN, OTHER, SPARE] {
            lab.connect(index, 1, false).await;
        }
        lab
    }

    pub(super) fn continuing_unconnected(source: Source) -> Self {
        let spare = "[[stack]]\nname = 'SPARE'\nnetns = 'c'\nnetwork = ['e']\nxcf = { interface = 'x', address = '10.99.0.2' }\n";
        let dvipa = format!(
            "[[dvipa]]\naddress = '{VIP}'\nowner = 'OWN'\nbackups = ['SPARE']\ntakeover = 'continue'\ngiveback = 'manual'\n"
        );
        Self::configured(source, &config_of(spare, &dvipa))
    }

    /// This system backs the addresses of another one up, which are the VIP and [`SECOND`]; it is lost, and the claim of
    /// the second address is not answered.
    #[cfg(feature = "etcd")]
    pub(super) async fn backing_up(second_mode: &str) -> Self {
        let dvipa = |address, mode| {
            format!(
                "[[dvipa]]\naddress = '{address}'\nowner = 'FAR'\nbackups = ['OWN']\ntakeover = '{mode}'\n"
            )
        };
        let text = config_of("", &(dvipa(VIP, "renegotiate") + &dvipa(SECOND, second_mode)));
        let text = text.replace("'sled'", "'etcd'\netcd = { endpoints = ['http://192.0.2.1:2379'] }");
        let mut lab = Self::configured(Source::default(), &text);
        lab.unanswered = Some(ip(SECOND));
        for index in [OWN, OTHER] {
            lab.connect(index, 1, false).await;
        }
        let (system, stack) = ("SYSB".to_owned(), "FAR".to_owned());
        for dvipa in [VIP, SECOND].map(ip) {
            let owner = crate::cf::record::Owner {
                system: system.clone(),
                stack: stack.clone(),
                epoch: 1,
                released: false,
            };
            let revision = Revision(1);
            lab.core.on_report(lab.now, Report::OwnerIs { dvipa, owner: Some(owner), revision });
        }
        let alive = Some(crate::cf::record::Alive { start: 1, count: 1, lease_ms: 500, ended: false });
        lab.core.on_report(lab.now, Report::Alive { system, stack, revision: Revision(1), alive });
        lab.epoch = 1;
        lab
    }

    fn configured(source: Source, text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("k");
        std::fs::write(&key, "00".repeat(32)).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let config = Config::parse(&dir.path().join("iked.toml"), text).unwrap();
        let now = Now {
            instant: tokio::time::Instant::now().into_std(),
            unix: 1_700_000_000,
            boot: Duration::from_secs(100),
        };
        let (internal_tx, internal) = mpsc::channel(64);
        let (orders_tx, orders) = mpsc::channel(64);
        let mut seed = 0;
        let engine = |_: &StackEntry, at| {
            seed += 1;
            Engine::new(Settings::default(), rand::rngs::StdRng::seed_from_u64(seed), at)
        };
        let sysplex = Some((orders_tx, SysplexKey::new([7; 32]).into()));
        let core = Core::new(Arc::new(config), Box::new(source.clone()), engine, sysplex, internal_tx, now);
        let mut lab = Self {
            core,
            now,
            stacks: Default::default(),
            internal,
            orders,
            kept: vec![],
            left: Contents::default(),
            epoch: 0,
            keys: BTreeMap::new(),
            ceiling: None,
            late: None,
            unanswered: None,
            source,
        };
        lab.core.watch(now);
        lab.answer_orders();
        lab
    }

    /// A coupling facility that nobody else uses.
    pub(super) fn answer_orders(&mut self) -> bool {
        let mut moved = false;
        while let Ok(order) = self.orders.try_recv() {
            moved = true;
            match order {
                Order::Watch { dvipas } => {
                    self.core.on_report(self.now, Report::Facility { works: true });
                    for dvipa in dvipas {
                        let report = Report::OwnerIs { dvipa, owner: None, revision: Revision::ABSENT };
                        self.core.on_report(self.now, report);
                    }
                    self.core.on_report(self.now, Report::Synced);
                }
                Order::Claim { dvipa, .. } if self.unanswered == Some(dvipa) => {}
                Order::Claim { dvipa, stack, .. } => {
                    self.epoch += 1;
                    let (epoch, mut left) = (self.epoch, Box::new(std::mem::take(&mut self.left)));
                    left.keys = self.keys.iter().map(|(id, s)| (*id, epoch - 1, s.clone())).collect();
                    left.ceiling = self.ceiling.map(|highest| (epoch - 1, Ceiling { highest }));
                    self.core.on_report(self.now, Report::Owned { dvipa, stack, epoch, left });
                }
                Order::Keys { dvipa, id, keys, ticket } => {
                    match keys {
                        Some(keys) => drop(self.keys.insert(id, keys)),
                        None => drop(self.keys.remove(&id)),
                    }
                    self.core.on_report(self.now, Report::KeysStored { dvipa, tickets: vec![ticket] });
                }
                Order::ClearOlder(dvipa) if self.ceiling.is_some() => {
                    self.core.on_report(self.now, Report::Cleared(dvipa))
                }
                late @ Order::Ceiling { .. } if self.late.is_some() => {
                    self.late.get_or_insert_default().push(late)
                }
                Order::Ceiling { dvipa, highest } => {
                    self.ceiling = Some(highest);
                    let epoch = self.epoch;
                    self.core.on_report(self.now, Report::CeilingRaised { dvipa, epoch, highest });
                }
                order => self.kept.push(order),
            }
        }
        moved
    }

    /// Connects a stack whose process began as `start_id` with the SAs that the fake holds.
    pub(super) async fn connect(&mut self, index: usize, start_id: u64, adopted: bool) {
        let (connection, end) = Connection::pair();
        let sas: Vec<u32> = self.stacks[index].sas.keys().copied().collect();
        self.stacks[index].end = Some(end);
        let hello = Hello {
            version: PROTOCOL_VERSION,
            name: String::new(),
            start_id,
            configured: adopted,
            filter_epoch: 5,
            sas,
        };
        self.core.on_link(self.now, index, LinkEvent::Up { hello, connection, adopted });
        self.settle().await;
    }

    pub(super) async fn both() -> Self {
        let mut lab = Self::new();
        lab.connect(OWN, 1, false).await;
        lab.connect(OTHER, 1, false).await;
        lab
    }

    /// Carries messages until nothing moves any more.
    pub(super) async fn settle(&mut self) {
        for _ in 0..200 {
            if !self.step().await {
                return;
            }
        }
        panic!("does not come to rest");
    }

    /// Carries what is under way; false: there was nothing.
    pub(super) async fn step(&mut self) -> bool {
        let mut moved = false;
        for index in [OWN, OTHER, SPARE] {
            while let Some(message) =
                self.stacks[index].end.as_mut().and_then(|e| e.from_core.try_recv().ok())
            {
                moved = true;
                self.stack_hears(index, message);
            }
        }
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        moved |= self.answer_orders();
        while let Ok(internal) = self.internal.try_recv() {
            moved = true;
            self.core.on_internal(self.now, internal);
        }
        moved
    }

    fn stack_hears(&mut self, index: usize, message: ToStack) {
        let stack = &mut self.stacks[index];
        match &message {
            ToStack::Configure(config) => {
                let owner = |h: &stack::control::Home| matches!(h.role, Role::Owner { .. });
                stack.owner = config.home.iter().any(|h| h.address == ip(VIP) && owner(h));
                let configured = FromStack::Configured { warnings: vec![] };
                self.core.on_link(self.now, index, LinkEvent::Message(Box::new(configured)));
            }
            ToStack::InstallSa(pair) => drop(stack.sas.insert(pair.spi_in, (**pair).clone())),
            ToStack::RemoveSa { spi_in } => drop(stack.sas.remove(spi_in)),
            ToStack::RemoveAllSas => stack.sas.clear(),
            ToStack::Ike(d) => {
                let arrived =
                    FromStack::Ike(IkeDatagram { local: d.remote, remote: d.local, bytes: d.bytes.clone() });
                let to = match index {
                    OTHER => (0..self.stacks.len()).find(|i| self.stacks[*i].owner),
                    _ => Some(OTHER),
                };
                if let Some(to) = to.filter(|to| self.stacks[*to].end.is_some()) {
                    self.core.on_link(self.now, to, LinkEvent::Message(Box::new(arrived)));
                }
            }
            ToStack::Ask { id, question } => {
                let answer = match question {
                    Question::Sas => Answer::Sas(stack.sas.keys().map(|s| view(*s)).collect()),
                    Question::Arrivals { .. } => {
                        let heard = |spi_in: &u32| LastArrival { spi_in: *spi_in, idle_in_ms: 10 };
                        Answer::Arrivals(stack.sas.keys().map(heard).collect())
                    }
                    Question::Filters => Answer::Filters(vec![]),
                    Question::Summary => Answer::Summary(Default::default()),
                    _ => Answer::Drops(vec![]),
                };
                if let Some(end) = stack.end.as_ref().filter(|_| !stack.dumb) {
                    end.answers.give(*id, answer);
                }
            }
            _ => {}
        }
        self.stacks[index].heard.push(message);
    }

    /// Moves the clock, doing what is due on the way.
    pub(super) async fn pass(&mut self, time: Duration) {
        let until = self.now.instant + time;
        while self.now.instant < until {
            let next = self.core.next_deadline().clamp(self.now.instant, until);
            self.now.boot += next - self.now.instant;
            self.now.instant = next;
            self.core.on_deadline(self.now);
            self.settle().await;
        }
    }

    pub(super) async fn control(
        &mut self,
        action: ControlAction,
        objects: &[ControlObject],
    ) -> Vec<(Option<String>, ControlStatus)> {
        let (reply, answer) = oneshot::channel();
        let (stack, objects) = ("own".to_owned(), objects.to_vec());
        self.core.on_request(self.now, CoreRequest::Control { stack, action, objects, reply });
        self.settle().await;
        let outcomes = answer.await.unwrap().unwrap();
        outcomes.into_iter().map(|o| (o.object.tunnel_id, o.status)).collect()
    }

    pub(super) async fn activate(&mut self, name: &str) -> (Option<String>, ControlStatus) {
        self.control(ControlAction::ActivateChild, &[named(name)]).await.remove(0)
    }

    pub(super) async fn display(&mut self, want: Want) -> Result<Snapshot, CoreError> {
        let (reply, answer) = oneshot::channel();
        self.core.on_request(self.now, CoreRequest::Display { stack: "OWN".into(), want, reply });
        self.settle().await;
        answer.await.unwrap()
    }

    /// The pairs of both stacks, as each other's mirror image.
    pub(super) fn assert_mirrored(&self, pairs: usize) {
        let [a, b, _] = &self.stacks;
        assert_eq!((a.sas.len(), b.sas.len()), (pairs, pairs));
        for pair in a.sas.values() {
            let other = &b.sas[&pair.spi_out];
            assert_eq!(
                (other.spi_out, &other.key_in, &other.key_out),
                (pair.spi_in, &pair.key_out, &pair.key_in)
            );
        }
    }

    pub(super) fn writes_in_full(&mut self) -> Vec<Order> {
        self.answer_orders();
        std::mem::take(&mut self.kept)
    }

    pub(super) fn writes(&mut self) -> Vec<(RecordKey, bool)> {
        let mut writes = Vec::new();
        for order in self.writes_in_full() {
            if let Order::Write { key, record, .. } = order {
                writes.push((key, record.is_some()));
            }
        }
        writes
    }
}

fn view(spi_in: u32) -> SaView {
    SaView {
        spi_in,
        tunnel: 0,
        outbound_active: true,
        out_packets: 0,
        out_bytes: 0,
        in_packets: 0,
        in_bytes: 0,
        next_sequence: 1,
        highest_received: 0,
        replay: Some(ReplaySnapshot { highest: 70, seen: vec![0b1011, 1] }),
        idle_in_ms: Some(10),
        path_mtu: 1500,
        df: DfMode::Copy,
        copy_dscp: true,
    }
}

/// A configuration with more stacks and these DVIPAs.
fn config_of(stacks: &str, dvipas: &str) -> String {
    format!(
        "system = 'SYSA'\n\
         [[stack]]\nname = 'OWN'\nnetns = 'a'\nnetwork = ['e']\nxcf = {{ interface = 'x', address = '10.99.0.1' }}\n\
         [[stack]]\nname = 'PEER'\nnetns = 'b'\nnetwork = ['e']\nhome = ['{PEER}']\n\
         {stacks}\
         [sysplex]\nname = 'P'\nkey_file = 'k'\ncoupling_facility = 'sled'\n\
         {dvipas}"
    )
}

pub(super) fn named(name: &str) -> ControlObject {
    ControlObject { name: Some(name.into()), tunnel_id: None }
}

pub(super) fn kinds(heard: &[ToStack]) -> Vec<String> {
    heard.iter().map(|m| format!("{m:?}").split(['(', ' ']).next().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_adopted_stack_is_brought_to_the_desired_state_and_protects_at_once() {
    let mut lab = Lab::new();
    lab.stacks[OWN].sas.insert(77, pair_of(77));
    lab.connect(OWN, 1, true).await;
    // Filters stand before the SAs go: what was protected is denied then, not sent in clear.
    let told = ["Configure", "Defend", "SetFilters", "RemoveAllSas", "Configure"];
    assert_eq!(kinds(&lab.stacks[OWN].heard), told);
    let ToStack::Configure(c) = &lab.stacks[OWN].heard[0] else { panic!() };
    assert_eq!(c.home[0].role, Role::Backup, "nobody speaks for an address before its filters stand");
    let ToStack::Configure(c) = &lab.stacks[OWN].heard[4] else { panic!() };
    assert_eq!(c.home[0].role, Role::Owner { distribution: vec![] });
    let ToStack::SetFilters(f) = &lab.stacks[OWN].heard[2] else { panic!() };
    assert!(f.policy && f.epoch > 5);
}

pub(super) fn pair_of(spi_in: u32) -> SaPair {
    SaPair {
        tunnel: 1,
        generation: 1,
        ike_tunnel: 1,
        spi_in,
        spi_out: 1,
        local: ip(VIP),
        remote: ip(PEER),
        udp: None,
        mode: stack::control::Mode::Tunnel,
        suite: stack::control::EspSuite::AesGcm16 { key_bits: 128 },
        key_in: stack::control::KeyBytes(vec![]),
        key_out: stack::control::KeyBytes(vec![]),
        esn: false,
        replay_window: 64,
        local_selectors: vec![],
        remote_selectors: vec![],
        rule: String::new(),
        outbound_active: true,
        df: DfMode::Copy,
        copy_dscp: true,
        soft_bytes: None,
        hard_bytes: None,
        ceiling_of: None,
        continued: None,
    }
}

#[tokio::test(start_paused = true)]
async fn requests_for_stacks_that_are_not_there_are_refused() {
    let mut lab = Lab::new();
    assert_eq!(lab.display(Want::Filters).await.unwrap_err(), CoreError::UnknownStack);
    lab.connect(OWN, 1, false).await;
    assert!(lab.display(Want::Filters).await.is_ok());
    let (reply, answer) = oneshot::channel();
    lab.core.on_request(lab.now, CoreRequest::Stacks(reply));
    let stacks = answer.await.unwrap();
    assert_eq!(
        stacks.iter().map(|s| (s.name.as_str(), s.active, s.dvipsec)).collect::<Vec<_>>(),
        [("OWN", true, true), ("PEER", false, false)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_does_not_answer_delays_only_its_asker() {
    let mut lab = Lab::new();
    lab.connect(OWN, 1, false).await;
    // The end is kept, but nobody reads it.
    let _end = lab.stacks[OWN].end.take();
    let (reply, answer) = oneshot::channel();
    lab.core.on_request(lab.now, CoreRequest::Display { stack: "OWN".into(), want: Want::Drops, reply });
    assert_eq!(answer.await.unwrap().unwrap_err(), CoreError::StackSilent);
}

#[tokio::test(start_paused = true)]
async fn t58_a_bad_reload_keeps_the_policy_before() {
    let mut lab = Lab::new();
    lab.connect(OWN, 1, false).await;
    async fn load(lab: &mut Lab, policy: bool) -> Result<(), CoreError> {
        let (reply, mut answer) = oneshot::channel();
        lab.core.on_request(lab.now, CoreRequest::LoadPolicy { stack: "OWN".into(), policy, reply });
        if policy {
            // Another thread reads it.
            let read = lab.internal.recv().await.unwrap();
            lab.core.on_internal(lab.now, read);
        }
        answer.try_recv().unwrap()
    }
    *lab.source.broken.lock().unwrap() = true;
    let e = load(&mut lab, true).await.unwrap_err();
    assert_eq!(e, CoreError::Policy("policy.conf:3: unknown keyword".into()));
    assert!(lab.core.stack_info(OWN).policy_filters);
    lab.settle().await;
    lab.stacks[OWN].heard.clear();
    load(&mut lab, false).await.unwrap();
    lab.settle().await;
    let [ToStack::SetFilters(f)] = &lab.stacks[OWN].heard[..] else { panic!() };
    assert!(!f.policy && f.rules.is_empty());
    let epoch = f.epoch;
    *lab.source.broken.lock().unwrap() = false;
    load(&mut lab, true).await.unwrap();
    lab.settle().await;
    let Some(ToStack::SetFilters(f)) = lab.stacks[OWN].heard.last() else { panic!() };
    assert!(f.policy && f.epoch > epoch);
}

#[tokio::test(start_paused = true)]
async fn a_rule_comes_when_its_time_has_come_and_not_before() {
    let mut lab = Lab::with(Source { timed: Some(1_700_000_100), ..Source::default() });
    lab.connect(OWN, 1, false).await;
    lab.stacks[OWN].heard.clear();
    let mut rules = Vec::new();
    for _ in 0..150 {
        lab.now.instant += Duration::from_secs(1);
        lab.now.unix += 1;
        lab.core.on_deadline(lab.now);
        lab.settle().await;
        for message in lab.stacks[OWN].heard.drain(..) {
            if let ToStack::SetFilters(f) = message {
                rules.push((lab.now.unix, f.rules.len()));
            }
        }
    }
    let [(at, 1)] = rules[..] else { panic!("{rules:?}") };
    assert!((1_700_000_100..1_700_000_103).contains(&at), "{at}");
}

#[tokio::test(start_paused = true)]
async fn a_manual_tunnel_comes_with_its_time_and_is_what_the_stack_says() {
    let mut lab = Lab::with(Source { timed: Some(1_700_000_100), ..Source::default() });
    lab.connect(OWN, 1, false).await;
    assert!(lab.display(Want::Manual).await.unwrap().manual.is_empty(), "its time has not come");
    let late = Now { unix: 1_700_000_200, instant: lab.now.instant + Duration::from_secs(200), ..lab.now };
    lab.now = late;
    lab.core.on_deadline(lab.now);
    lab.settle().await;
    assert!(lab.stacks[OWN].sas.contains_key(&0x1001));
    let shown = lab.display(Want::Manual).await.unwrap().manual;
    assert!(shown[0].active && shown[0].since_unix == 1_700_000_200);
    // The stack does not have it.
    lab.stacks[OWN].sas.clear();
    assert!(!lab.display(Want::Manual).await.unwrap().manual[0].active);
    let refused = FromStack::SaRefused { spi_in: 0x1001, reason: "in use".into() };
    lab.core.on_link(lab.now, OWN, LinkEvent::Message(Box::new(refused)));
    let again = lab.control(ControlAction::ActivateManual, &[]).await;
    assert_eq!(again, [(Some("M1".into()), ControlStatus::Updated)], "it is told once more");
    assert!(lab.stacks[OWN].sas.contains_key(&0x1001));
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_policy_does_not_allow_is_answered() {
    let mut lab = Lab::new();
    lab.connect(OWN, 1, false).await;
    lab.core.on_link(lab.now, OWN, acquire(9, "other"));
    lab.settle().await;
    assert_eq!(lab.stacks[OWN].heard.last(), Some(&ToStack::AcquireFailed { id: 9 }));
}
