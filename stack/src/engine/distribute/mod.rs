//! Distribution: which target gets a new connection of a DVIPA (the DPT, spec sections 6.2 and 7)?
//!
//! Asked once for each connection; later packets follow the connection table. Counters are lines of
//! (DVIPA, protocol, port, target) that outlive a new configuration.

pub mod round_robin;

use super::connection::{Connections, Place};
use crate::control::{Home, PortRange, Role, TargetView};
use hashbrown::{HashMap, HashSet};
use round_robin::RoundRobin;
use std::hash::BuildHasher;
use std::net::IpAddr;

/// The services of the DVIPAs that this stack owns.
#[derive(Debug, Default)]
pub struct Distributor {
    services: HashMap<IpAddr, Vec<Service>>,
    lines: Vec<Line>,
    numbers: HashMap<Line, u32>,
}

#[derive(Debug)]
struct Service {
    protocol: u8,
    ports: Vec<PortRange>,
    chooser: Chooser,
    targets: Vec<TargetPlace>,
}

#[derive(Debug, Clone)]
struct TargetPlace {
    place: Place,
    /// Counter line for each port range of the service.
    slots: Vec<u32>,
}

/// What a method remembers between two connections.
#[derive(Debug, Clone, Copy)]
enum Chooser {
    RoundRobin(RoundRobin),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    dvipa: IpAddr,
    protocol: u8,
    port: u16,
    target: String,
}

/// The answer for a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The port is not distributed: it stays here and needs no entry.
    NotDistributed,
    /// It goes there; counted in this line.
    Target(Place, u32),
    /// It is distributed, but nobody can have it.
    NoCandidate,
}

impl Distributor {
    /// Takes over a configuration. Turns of services that stay are kept.
    pub fn configure(&mut self, own_name: &str, homes: &[Home]) {
        let mut old = std::mem::take(&mut self.services);
        for home in homes {
            let Role::Owner { distribution } = &home.role else { continue };
            let mut kept = old.remove(&home.address).unwrap_or_default();
            let mut services = Vec::with_capacity(distribution.len());
            for d in distribution {
                let before = kept.iter().position(|s| s.protocol == d.protocol && s.ports == d.ports);
                let turn = before.map(|i| kept.swap_remove(i).chooser);
                let targets = d
                    .targets
                    .iter()
                    .map(|t| TargetPlace {
                        place: t.xcf.map_or(Place::Here, Place::At),
                        slots: d
                            .ports
                            .iter()
                            .map(|p| {
                                let target = if t.name.is_empty() { own_name } else { &t.name };
                                self.line(home.address, d.protocol, p.low, target)
                            })
                            .collect(),
                    })
                    .collect();
                services.push(Service {
                    protocol: d.protocol,
                    ports: d.ports.clone(),
                    chooser: turn.unwrap_or(Chooser::RoundRobin(RoundRobin::default())),
                    targets,
                });
            }
            self.services.insert(home.address, services);
        }
    }

    /// Number of a counter line; 0 is no line.
    fn line(&mut self, dvipa: IpAddr, protocol: u8, port: u16, target: &str) -> u32 {
        let line = Line { dvipa, protocol, port, target: target.to_owned() };
        if let Some(n) = self.numbers.get(&line) {
            return *n;
        }
        self.lines.push(line.clone());
        let n = u32::try_from(self.lines.len()).expect("fewer lines than a configuration frame has bytes");
        self.numbers.insert(line, n);
        n
    }

    /// Chooses for a new connection; `members` are the XCF addresses that can be reached.
    pub fn choose(
        &mut self,
        dvipa: IpAddr,
        protocol: u8,
        port: u16,
        members: &HashSet<IpAddr, impl BuildHasher>,
    ) -> Choice {
        let hit = self.services.get_mut(&dvipa).and_then(|services| {
            services.iter_mut().filter(|s| s.protocol == protocol).find_map(|s| {
                let range = s.ports.iter().position(|p| p.contains(port))?;
                Some((s, range))
            })
        });
        let Some((service, range)) = hit else { return Choice::NotDistributed };
        let targets = &service.targets;
        let ready = |i: usize| match targets[i].place {
            Place::Here => true,
            Place::At(xcf) => members.contains(&xcf),
        };
        let chosen = match &mut service.chooser {
            Chooser::RoundRobin(turn) => turn.pick(targets.len(), ready),
        };
        chosen.map_or(Choice::NoCandidate, |i| Choice::Target(targets[i].place, targets[i].slots[range]))
    }

    /// Whether connections to this port are spread over targets.
    #[must_use]
    pub fn distributes(&self, dvipa: IpAddr, protocol: u8, port: u16) -> bool {
        self.services.get(&dvipa).is_some_and(|services| {
            services.iter().any(|s| s.protocol == protocol && s.ports.iter().any(|p| p.contains(port)))
        })
    }

    /// Whether the stack with this XCF address is a target of the DVIPA.
    #[must_use]
    pub fn is_target(&self, dvipa: IpAddr, xcf: IpAddr) -> bool {
        self.services.get(&dvipa).is_some_and(|services| {
            services.iter().any(|s| s.targets.iter().any(|t| t.place == Place::At(xcf)))
        })
    }

    /// Connections by target: the configured lines and those that still have some.
    #[must_use]
    pub fn view(&self, connections: &Connections) -> Vec<TargetView> {
        let configured: HashSet<u32> = self
            .services
            .values()
            .flatten()
            .flat_map(|s| s.targets.iter().flat_map(|t| t.slots.iter().copied()))
            .collect();
        (1u32..)
            .zip(&self.lines)
            .filter_map(|(n, line)| {
                let tally = connections.tally(n);
                (configured.contains(&n) || tally.active > 0).then(|| TargetView {
                    dvipa: line.dvipa,
                    port: line.port,
                    target: line.target.clone(),
                    active: tally.active,
                    total: tally.total,
                    ready: None,
                    weight: 10,
                    quiesced: false,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Distribution, Method, Target};

    fn dvipa() -> IpAddr {
        IpAddr::from([192, 0, 2, 80])
    }
    fn xcf(n: u8) -> IpAddr {
        IpAddr::from([10, 99, 0, n])
    }

    fn home(targets: &[Option<u8>]) -> Home {
        let targets = targets
            .iter()
            .enumerate()
            .map(|(i, t)| Target { name: format!("T{i}"), xcf: t.map(xcf), weight: 10, quiesced: false })
            .collect();
        Home {
            address: dvipa(),
            epoch: 1,
            role: Role::Owner {
                distribution: vec![Distribution {
                    protocol: 6,
                    ports: vec![PortRange { low: 80, high: 80 }, PortRange { low: 443, high: 444 }],
                    method: Method::RoundRobin,
                    affinity_secs: 0,
                    targets,
                }],
            },
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn twenty_connections_on_two_targets_are_ten_and_ten() {
        let mut d = Distributor::default();
        d.configure("D", &[home(&[Some(2), Some(3)])]);
        let members: HashSet<IpAddr> = HashSet::from_iter([xcf(2), xcf(3)]);
        let mut connections = Connections::new(1, 100);
        for n in 0..20u8 {
            let Choice::Target(place, slot) = d.choose(dvipa(), 6, 443, &members) else {
                panic!("no target")
            };
            let key = super::super::connection::ConnectionKey {
                protocol: 6,
                local: dvipa(),
                local_port: 443,
                remote: xcf(n),
                remote_port: 1,
            };
            connections.insert(std::time::Instant::now(), key, place, true, slot).unwrap();
        }
        let view = d.view(&connections);
        assert_eq!(view.len(), 4, "a line per port range and target");
        let on_443: Vec<_> = view.iter().filter(|v| v.port == 443).map(|v| (v.active, v.total)).collect();
        assert_eq!(on_443, [(10, 10), (10, 10)]);
    }

    #[test]
    fn a_target_that_left_is_no_candidate_and_turns_survive_a_reconfiguration() {
        let mut d = Distributor::default();
        d.configure("D", &[home(&[Some(2), Some(3), None])]);
        let mut members: HashSet<IpAddr> = HashSet::from_iter([xcf(2), xcf(3)]);
        assert!(matches!(d.choose(dvipa(), 6, 80, &members), Choice::Target(Place::At(a), _) if a == xcf(2)));
        d.configure("D", &[home(&[Some(2), Some(3), None])]);
        assert!(matches!(d.choose(dvipa(), 6, 80, &members), Choice::Target(Place::At(a), _) if a == xcf(3)));
        members.remove(&xcf(2));
        assert!(matches!(d.choose(dvipa(), 6, 80, &members), Choice::Target(Place::Here, _)));
        assert!(matches!(d.choose(dvipa(), 6, 80, &members), Choice::Target(Place::At(a), _) if a == xcf(3)));
        assert_eq!(d.choose(dvipa(), 6, 22, &members), Choice::NotDistributed);
        assert_eq!(d.choose(dvipa(), 17, 80, &members), Choice::NotDistributed);
        d.configure("D", &[home(&[Some(2)])]);
        assert_eq!(d.choose(dvipa(), 6, 80, &members), Choice::NoCandidate);
    }
}
