//! Takeovers in any order against a model: whatever happens to owners, a packet of a connection never reaches another stack
//! than the one on which it ends, nothing leaves in clear, and connections whose stack lived go on in the end.
//!
//! ```text
//! peer ══ ESP ══ one of D, B, T1 owns the DVIPA ── GRE ── T1, T2, and whoever owned it before
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests: helpers beside #[test] functions too"
)]

mod common;

use common::*;
use proptest::prelude::*;
use stack::control::{FromStack, Home, Role};
use stack::engine::connection::ConnectionKey;
use std::collections::BTreeMap;
use std::time::Duration;

/// Stacks and their XCF hosts.
const STACKS: [(&str, u8); 4] = [("D", 1), ("T1", 2), ("T2", 3), ("B", 4)];
/// Who may own the DVIPA.
const OWNERS: [&str; 3] = ["D", "B", "T1"];

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The peer opens a connection: distributed, or to a port of the owner itself.
    Open { distributed: bool },
    /// The peer says something in a connection, or the application does.
    Say { connection: usize, peer: bool },
    /// The owner gives the DVIPA up to another one.
    Move { to: usize },
    /// The owner dies; with it die the connections that end on it.
    Die { to: usize },
    /// The owner's stack restarts; applications do not notice.
    Restart,
    /// A stack says nothing and hears nothing for a while.
    Deaf { stack: usize, ms: u64 },
    /// Heartbeats of a stack fail to arrive at the others, for less than makes it lost.
    Flap { stack: usize },
    /// Time passes.
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => any::<bool>().prop_map(|distributed| Step::Open { distributed }),
        8 => (any::<usize>(), any::<bool>()).prop_map(|(connection, peer)| Step::Say { connection, peer }),
        2 => (0usize..2).prop_map(|to| Step::Move { to }),
        1 => (0usize..2).prop_map(|to| Step::Die { to }),
        1 => Just(Step::Restart),
        1 => (0usize..4, 1u64..500).prop_map(|(stack, ms)| Step::Deaf { stack, ms }),
        1 => (0usize..4).prop_map(|stack| Step::Flap { stack }),
        2 => (1u64..1500).prop_map(|ms| Step::Wait { ms }),
    ]
}

struct Model {
    w: World,
    owner: &'static str,
    epoch: u64,
    /// Where connections end, by the peer's port; the server's port is 443 or 22.
    connections: BTreeMap<u16, (&'static str, u16)>,
    said: u32,
    spi: u32,
}

impl Model {
    fn new() -> Self {
        let mut w = sysplex();
        w.nodes.push(Node::new("B", Some(4), vec![home(DVIPA, Role::Backup)], &[1, 2, 3]));
        for (name, host) in STACKS {
            let others: Vec<u8> = STACKS.iter().map(|s| s.1).filter(|h| *h != host).collect();
            w.n(name).config.members = Node::new("", None, vec![], &others).config.members;
        }
        w.filters("B", both("R", one(DVIPA), one(PEER), IPSEC));
        w.with_group(&[443]);
        let mut m = Self { w, owner: "D", epoch: 1, connections: BTreeMap::new(), said: 0, spi: 0x1000 };
        m.pass(1100);
        m
    }

    fn role(name: &'static str, owner: &'static str, was: &Role) -> Role {
        let host = |n: &str| STACKS.iter().find(|s| s.0 == n).unwrap().1;
        let distributor = Some(xcf(host(owner)));
        if name == owner {
            let place = |n: &str| if n == owner { None } else { Some(host(n)) };
            let targets = [("T1", place("T1")), ("T2", place("T2"))];
            return Role::Owner { distribution: vec![distribution(&[443], &targets)] };
        }
        match was {
            _ if name.starts_with('T') => Role::Target { distributor },
            Role::Owner { .. } | Role::Moving { .. } => Role::Moving { distributor },
            _ => Role::Backup,
        }
    }

    /// Tells all stacks, the old owner first, who owns the DVIPA now.
    fn roles(&mut self, old: &'static str) {
        let mut order: Vec<&'static str> = STACKS.iter().map(|s| s.0).collect();
        order.sort_by_key(|n| (*n != old, *n != self.owner));
        for name in order {
            let i = self.w.node(name);
            let role = Self::role(name, self.owner, &self.w.nodes[i].config.home[0].role);
            self.w.nodes[i].config.home[0] = Home { address: DVIPA, role, epoch: self.epoch };
            self.w.configure(i);
            self.w.carry(i);
        }
    }

    /// SAs between the peer and the owner.
    fn tunnel(&mut self) {
        self.spi += 0x100;
        self.w.n("peer").engine.remove_all_sas();
        let (a, p) = pair(DVIPA, PEER, self.spi, "R");
        self.w.sa("peer", p);
        let owner = self.owner;
        self.w.sa(owner, a);
    }

    /// Another owner; `dead`: without the help of the old one.
    fn change_owner(&mut self, to: usize, dead: bool) {
        let old = self.owner;
        let candidates: Vec<&'static str> = OWNERS.into_iter().filter(|n| *n != old).collect();
        self.owner = candidates[to % candidates.len()];
        self.epoch += 1;
        self.w.n(old).engine.remove_all_sas();
        if dead {
            self.connections.retain(|_, (at, _)| *at != old);
            let n = self.w.n(old);
            n.crash();
            n.config.home[0].role = Role::Backup;
            self.w.filters(old, both("R", one(DVIPA), one(PEER), IPSEC));
        }
        self.roles(old);
        self.tunnel();
        if dead {
            // It is back, and is told of all others.
            self.w.all_ready(&[443]);
        }
    }

    /// Lets time pass, with every timer in its time.
    fn pass(&mut self, ms: u64) {
        let end = self.w.now + Duration::from_millis(ms);
        loop {
            let next = self.w.nodes.iter().filter_map(|n| n.engine.poll_timeout()).min();
            let next = next.filter(|t| *t <= end);
            self.w.now = self.w.now.max(next.unwrap_or(end));
            for i in 0..self.w.nodes.len() {
                let (now, n) = (self.w.now, &mut self.w.nodes[i]);
                if n.engine.poll_timeout().is_some_and(|t| t <= now) {
                    n.engine.handle_timeout(now, &mut n.out);
                    self.w.carry(i);
                }
            }
            if next.is_none() {
                return;
            }
        }
    }

    fn ends(&self, port: u16) -> Ends {
        ends(PEER, port, DVIPA, self.connections[&port].1)
    }

    fn open(&mut self, distributed: bool) {
        let port = 1000 + self.connections.keys().last().map_or(0, |p| p - 1000 + 1);
        let server = if distributed { 443 } else { 22 };
        let f = ends(PEER, port, DVIPA, server);
        self.forget();
        self.w.send("peer", f.tcp("S", 1, 0, b""));
        let at: Vec<_> =
            STACKS.iter().map(|s| s.0).filter(|n| !self.w.nodes[self.w.node(n)].app.is_empty()).collect();
        // While the owner has not heard of its targets the SYN waits, and is sent again later.
        let [at] = at[..] else { return };
        assert!(distributed || at == self.owner);
        self.connections.insert(port, (at, server));
        self.forget();
        self.w.send(at, f.back().tcp("SA", 1, 2, b""));
        self.w.send("peer", f.tcp("A", 2, 2, b""));
        self.forget();
    }

    fn forget(&mut self) {
        for n in &mut self.w.nodes {
            n.app.clear();
        }
    }

    /// Every packet that some application got must be one of a connection that ends there.
    fn check_places(&mut self) {
        for (name, _) in STACKS {
            let i = self.w.node(name);
            for (_, p) in &self.w.nodes[i].app {
                let port = u16::from_be_bytes([p[20], p[21]]);
                if let Some((at, _)) = self.connections.get(&port) {
                    assert_eq!(*at, name, "a packet of connection {port} reached another stack");
                }
            }
        }
        for n in &self.w.nodes {
            assert!(n.clear.is_empty(), "{} sent in clear", n.name);
        }
    }

    fn say(&mut self, port: u16, peer: bool) {
        self.said += 1;
        let (at, _) = self.connections[&port];
        let f = self.ends(port);
        if peer {
            self.w.send("peer", f.tcp("AP", self.said, 2, b"question"));
        } else {
            self.w.send(at, f.back().tcp("AP", self.said, 2, b"answer"));
        }
        self.check_places();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Open { distributed } => self.open(distributed),
            Step::Say { connection, peer } => {
                let ports: Vec<u16> = self.connections.keys().copied().collect();
                if !ports.is_empty() {
                    self.say(ports[connection % ports.len()], peer);
                }
            }
            Step::Move { to } => self.change_owner(to, false),
            Step::Die { to } => self.change_owner(to, true),
            Step::Restart => {
                let owner = self.owner;
                self.w.n(owner).crash();
                self.w.filters(owner, both("R", one(DVIPA), one(PEER), IPSEC));
                let i = self.w.node(owner);
                self.w.configure(i);
                let here = self.connections.iter().filter(|(_, (at, _))| *at == owner);
                let open: Vec<ConnectionKey> = here
                    .map(|(port, (_, server))| ConnectionKey {
                        protocol: 6,
                        local: DVIPA,
                        local_port: *server,
                        remote: PEER,
                        remote_port: *port,
                    })
                    .collect();
                let now = self.w.now;
                self.w.nodes[i].engine.found_open(now, &open);
                self.w.carry(i);
                self.tunnel();
                self.w.all_ready(&[443]);
            }
            Step::Deaf { stack, ms } => {
                let name = STACKS[stack].0;
                self.w.n(name).mute = true;
                self.pass(ms);
                self.w.n(name).mute = false;
            }
            Step::Flap { stack } => {
                let (name, host) = STACKS[stack];
                for (other, _) in STACKS.into_iter().filter(|s| s.0 != name) {
                    let i = self.w.node(other);
                    let state = stack::xcf::order::TargetState {
                        alive: false,
                        ..target_state(Some(xcf(host)), &[], 0)
                    };
                    let order = stack::xcf::order::EngineOrder::Target(state);
                    let now = self.w.now;
                    self.w.nodes[i].engine.handle_group(now, &order);
                    self.w.carry(i);
                }
                self.pass(300);
                self.w.all_ready(&[443]);
            }
            Step::Wait { ms } => self.pass(ms),
        }
        self.check_places();
    }

    /// In the end everything that lived works, both ways.
    fn settle(&mut self) {
        self.w.all_ready(&[443]);
        self.pass(1500);
        self.check_places();
        let ports: Vec<u16> = self.connections.keys().copied().collect();
        for port in ports {
            let (at, _) = self.connections[&port];
            // The application first: on the owner itself nobody else remembers the connection after a restart.
            self.forget();
            self.say(port, false);
            assert_eq!(self.w.n("peer").app.len(), 1, "{port} on {at}: to the peer");
            self.forget();
            self.say(port, true);
            assert_eq!(self.w.n(at).app.len(), 1, "{port} on {at}: to the application");
        }
        let owned: Vec<_> =
            self.w.nodes.iter().filter(|n| !n.engine.owned().iter().all(|o| o.dvipa != DVIPA)).collect();
        assert_eq!(owned.iter().map(|n| n.name).collect::<Vec<_>>(), [self.owner], "one owner");
        let told = self
            .w
            .nodes
            .iter()
            .flat_map(|n| &n.events)
            .filter(|e| matches!(e, FromStack::Rebuilt { epoch, .. } if *epoch == self.epoch));
        assert!(told.count() > 0, "the table of the last epoch is rebuilt");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]
    #[test]
    fn t45_t47_connections_whose_stack_lives_survive_everything(steps in prop::collection::vec(step(), 1..60)) {
        let mut m = Model::new();
        for step in steps {
            m.take(step);
        }
        m.settle();
    }
}
