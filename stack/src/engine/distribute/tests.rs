use super::*;
use crate::control::{Home, Member, ReadyPort, SysplexLink, Target, Xcf};
use std::time::Duration;

/// Candidates of (index, weight, active connections) with full capacity.
pub(super) fn candidates(of: &[(usize, u8, u64)]) -> Vec<Candidate> {
    of.iter().map(|&(index, weight, active)| Candidate { index, weight, active, capacity: 100 }).collect()
}

fn dvipa() -> IpAddr {
    IpAddr::from([192, 0, 2, 80])
}

fn xcf(n: u8) -> IpAddr {
    IpAddr::from([10, 99, 0, n])
}

fn config(method: Method, affinity_secs: u32, targets: &[Option<u8>], link: bool) -> StackConfig {
    let targets = targets
        .iter()
        .enumerate()
        .map(|(i, t)| Target { name: format!("T{i}"), xcf: t.map(xcf), weight: 10, quiesced: false })
        .collect();
    let distribution = vec![Distribution {
        protocol: 6,
        ports: vec![PortRange { low: 80, high: 80 }, PortRange { low: 443, high: 444 }],
        method,
        affinity_secs,
        targets,
    }];
    let member = |n| Member { name: format!("S{n}"), xcf: xcf(n), start: None };
    StackConfig {
        name: "D".into(),
        network: vec![],
        xcf: Some(Xcf { interface: "xcf".into(), address: xcf(1) }),
        mark: 1,
        mark_mask: 1,
        home: vec![Home { address: dvipa(), epoch: 1, role: Role::Owner { distribution } }],
        members: (2..6).map(member).collect(),
        sysplex: link.then(|| SysplexLink {
            name: "PLEX".into(),
            key: crate::control::KeyBytes(vec![0; 32]),
            other_keys: vec![],
            heartbeat_ms: 10,
            missed_heartbeats: 5,
            gre_in_udp: false,
            leased: false,
        }),
        max_connections: 1000,
    }
}

struct Story {
    d: Distributor,
    connections: Connections,
    members: HashSet<IpAddr>,
    now: Instant,
    port: u16,
}

impl Story {
    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn new(config: &StackConfig) -> Self {
        let mut d = Distributor::default();
        d.configure(config, Some(xcf(1)), |_| true);
        let members = config.members.iter().map(|m| m.xcf).collect();
        Self { d, connections: Connections::new(1, 1000), members, now: Instant::now(), port: 0 }
    }

    /// A connection of a client to a port; where it goes.
    fn open(&mut self, client: u8, port: u16) -> Option<Place> {
        self.port += 1;
        let client = Client { address: IpAddr::from([198, 51, 100, client]), port: self.port };
        let service = (dvipa(), 6, port);
        for e in self.connections.take_ended() {
            self.d.unbind((e.key.local, e.key.protocol, e.key.local_port), e.key.remote, e.at);
        }
        match self.d.choose(self.now, service, client, &self.members, &self.connections) {
            Choice::Target { place, slot, affine } => {
                let key = ConnectionKey {
                    protocol: 6,
                    local: dvipa(),
                    local_port: port,
                    remote: client.address,
                    remote_port: client.port,
                };
                let id = self.connections.insert(self.now, key, place, true, slot).unwrap();
                if affine && self.d.bind(self.now, service, client.address, place) {
                    self.connections.watch(id);
                }
                Some(place)
            }
            Choice::NoCandidate => None,
            Choice::NotDistributed => panic!("not distributed"),
        }
    }

    fn listens(&mut self, member: u8, port: u16, count: u32, capacity: u8) {
        let mut state = told(port, count);
        state.capacity = capacity;
        self.d.heard(xcf(member), &state);
    }
}

/// What a stack with servers on one port says.
fn told(port: u16, count: u32) -> TargetState {
    TargetState {
        name: String::new(),
        xcf: None,
        alive: true,
        left: false,
        candidate: true,
        ready: vec![ReadyPort { dvipa: dvipa(), protocol: 6, port, count }],
        capacity: 100,
    }
}

fn at(n: u8) -> Option<Place> {
    Some(Place::At(xcf(n)))
}

#[test]
fn twenty_connections_on_two_targets_are_ten_and_ten() {
    let mut s = Story::new(&config(Method::RoundRobin, 0, &[Some(2), Some(3)], false));
    for n in 0..20 {
        s.open(n, 443);
    }
    let view = s.d.view(&s.connections);
    assert_eq!(view.len(), 4, "a line per port range and target");
    let on_443: Vec<_> = view.iter().filter(|v| v.port == 443).map(|v| (v.active, v.total)).collect();
    assert_eq!(on_443, [(10, 10), (10, 10)]);
}

#[test]
fn a_target_that_left_is_no_candidate_and_turns_survive_a_reconfiguration() {
    let of = |targets: &[Option<u8>]| config(Method::RoundRobin, 0, targets, false);
    let mut s = Story::new(&of(&[Some(2), Some(3), None]));
    assert_eq!(s.open(1, 80), at(2));
    s.d.configure(&of(&[Some(2), Some(3), None]), Some(xcf(1)), |_| true);
    assert_eq!(s.open(1, 80), at(3));
    s.members.remove(&xcf(2));
    assert_eq!(s.open(1, 80), Some(Place::Here));
    assert_eq!(s.open(1, 80), at(3));
    let client = Client { address: xcf(9), port: 1 };
    for (protocol, port) in [(6, 22), (17, 80)] {
        let choice = s.d.choose(s.now, (dvipa(), protocol, port), client, &s.members, &s.connections);
        assert_eq!(choice, Choice::NotDistributed);
    }
    s.d.configure(&of(&[Some(2)]), Some(xcf(1)), |_| true);
    assert_eq!(s.open(1, 80), None);
    s.d.configure(&of(&[Some(3)]), Some(xcf(1)), |_| false);
    assert!(!s.d.is_target(dvipa(), xcf(3)), "owned elsewhere");
}

#[test]
fn t45_only_who_is_heard_and_listens_is_a_candidate() {
    let mut s = Story::new(&config(Method::RoundRobin, 0, &[Some(2), Some(3), None], true));
    assert_eq!(s.open(1, 80), None, "nobody was heard");
    s.listens(2, 80, 1, 100);
    s.listens(3, 443, 1, 100);
    assert_eq!([s.open(1, 80), s.open(1, 80), s.open(1, 443)], [at(2), at(2), at(3)]);
    assert_eq!(s.open(1, 444), None, "a range is ready port by port");
    let ready: Vec<_> = s.d.view(&s.connections).iter().map(|v| (v.port, v.ready)).collect();
    let want = [(80, Some(1)), (443, Some(0)), (80, Some(0)), (443, Some(1)), (80, None), (443, None)];
    assert_eq!(ready, want);
    s.d.own(&told(80, 2));
    assert_eq!(s.open(1, 80), Some(Place::Here));
    s.listens(2, 80, 0, 100);
    assert_eq!([s.open(1, 80), s.open(1, 80)], [Some(Place::Here); 2], "the listener is closed");
    s.listens(2, 80, 1, 100);
    s.d.down(xcf(2));
    assert!(s.d.is_down(xcf(2)) && !s.d.is_down(xcf(4)));
    assert_eq!([s.open(1, 80), s.open(1, 80)], [Some(Place::Here); 2]);
    let damped = TargetState { candidate: false, ..told(80, 1) };
    assert!(s.d.heard(xcf(2), &damped), "it is back, but flaps");
    assert_eq!(s.open(1, 80), Some(Place::Here));
    assert!(!s.d.heard(xcf(2), &told(80, 1)));
    assert_eq!(s.open(1, 80), at(2));
}

#[test]
fn t45_quiesced_and_weightless_targets_get_nothing_new() {
    let mut c = config(Method::RoundRobin, 0, &[Some(2), Some(3), Some(4)], false);
    let mut s = Story::new(&c);
    assert_eq!([s.open(1, 80), s.open(1, 80)], [at(2), at(3)]);
    let Role::Owner { distribution } = &mut c.home[0].role else { panic!() };
    distribution[0].targets[0].quiesced = true;
    distribution[0].targets[1].weight = 0;
    s.d.configure(&c, Some(xcf(1)), |_| true);
    assert_eq!([s.open(1, 80), s.open(1, 80)], [at(4), at(4)]);
    let view = s.d.view(&s.connections);
    assert_eq!((view[0].quiesced, view[0].active, view[2].weight), (true, 1, 0), "what it has goes on");
}

#[test]
fn capacity_and_weights_decide_by_method() {
    let mut s = Story::new(&config(Method::Wlm, 0, &[Some(2), Some(3)], true));
    s.listens(2, 80, 1, 75);
    s.listens(3, 80, 1, 25);
    let on_2 = (0..100).filter(|_| s.open(1, 80) == at(2)).count();
    assert_eq!(on_2, 75);
    let mut s = Story::new(&config(
        Method::HotStandby { autoswitchback: false, healthswitch: true },
        0,
        &[Some(2), Some(3)],
        true,
    ));
    s.listens(2, 80, 1, 100);
    s.listens(3, 80, 1, 100);
    assert_eq!(s.open(1, 80), at(2));
    s.listens(2, 80, 1, 0);
    assert_eq!(s.open(1, 80), at(3));
    s.listens(2, 80, 1, 100);
    assert_eq!(s.open(1, 80), at(3));
}

#[test]
fn a_client_stays_at_its_target_until_its_affinity_is_over() {
    let mut s = Story::new(&config(Method::RoundRobin, 10, &[Some(2), Some(3)], false));
    assert_eq!([s.open(1, 80), s.open(2, 80), s.open(1, 80), s.open(1, 443)], [at(2), at(3), at(2), at(2)]);
    let all: Vec<_> = s.connections.iter().map(|c| c.key).collect();
    for key in all {
        let id = s.connections.find(&key).unwrap();
        s.connections.end(s.now, id);
    }
    assert_eq!(s.open(3, 80), at(2), "the turn is at the first");
    s.now += Duration::from_secs(9);
    assert_eq!(s.open(2, 80), at(3));
    s.now += Duration::from_secs(9);
    assert_eq!([s.open(1, 80), s.open(2, 80)], [at(3), at(3)], "one is over, the other has a connection");
    // What its target cannot have goes elsewhere.
    s.members.remove(&xcf(3));
    assert_eq!(s.open(2, 80), at(2));
}
