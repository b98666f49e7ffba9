//! Distribution: which target gets a new connection of a DVIPA (the DPT, spec sections 6.2 and 7)?
//!
//! Asked once for each connection; later packets follow the connection table. First come the candidates (ready, not
//! quiesced, of a weight), then the client's affinity, then the method. Counters are lines of (DVIPA, protocol, port,
//! target) that outlive a new configuration.

mod affinity;
mod health;
mod hot_standby;
mod maglev;
mod round_robin;
#[cfg(test)]
mod tests;
mod weighted;

use super::connection::{ConnectionKey, Connections, Place};
use crate::control::{Distribution, Method, PortRange, Role, StackConfig, TargetView};
use crate::xcf::order::TargetState;
use affinity::Affinity;
use hashbrown::{HashMap, HashSet};
use health::Health;
use hot_standby::HotStandby;
use maglev::Maglev;
use round_robin::RoundRobin;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Instant;
use weighted::{Wlm, weighted_active};

/// A port of a DVIPA: address, IP protocol, port.
pub(super) type Port = (IpAddr, u8, u16);

/// The services of the DVIPAs that this stack owns.
#[derive(Debug, Default)]
pub struct Distributor {
    services: HashMap<IpAddr, Vec<Service>>,
    lines: Vec<Line>,
    numbers: HashMap<Line, u32>,
    health: Health,
    /// Reused by each choice.
    candidates: Vec<Candidate>,
}

#[derive(Debug)]
struct Service {
    protocol: u8,
    ports: Vec<PortRange>,
    method: Method,
    chooser: Chooser,
    affinity: Option<Affinity>,
    targets: Vec<TargetPlace>,
}

#[derive(Debug, Clone)]
struct TargetPlace {
    name: String,
    place: Place,
    weight: u8,
    quiesced: bool,
    /// Counter line for each port range of the service.
    slots: Vec<u32>,
}

/// What a method remembers between two connections.
#[derive(Debug)]
enum Chooser {
    RoundRobin(RoundRobin),
    WeightedActive(RoundRobin),
    HotStandby(HotStandby),
    Wlm(Wlm),
    Maglev(Maglev),
}

/// A target that can have the connection.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    /// Its place in the list of targets.
    index: usize,
    /// Configured weight, at least 1.
    weight: u8,
    /// Connections that it has on the port.
    active: u64,
    /// Free capacity, 0 to 100.
    capacity: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    dvipa: IpAddr,
    protocol: u8,
    port: u16,
    target: String,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// The answer for a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The port is not distributed: it stays here.
    NotDistributed,
    /// It goes there.
    Target {
        /// Where it ends.
        place: Place,
        /// Counter line.
        slot: u32,
        /// The client is to be bound to the target ([`Distributor::bind`]).
        affine: bool,
    },
    /// It is distributed, but nobody can have it.
    NoCandidate,
}

impl Chooser {
    fn new(method: Method, targets: &[TargetPlace]) -> Self {
        match method {
            Method::RoundRobin => Self::RoundRobin(RoundRobin::default()),
            Method::WeightedActive => Self::WeightedActive(RoundRobin::default()),
            Method::HotStandby { .. } => Self::HotStandby(HotStandby::default()),
            Method::Wlm => Self::Wlm(Wlm::default()),
            Method::Maglev => {
                // A quiesced target keeps its places: those of others do not move when it comes and goes.
                Self::Maglev(Maglev::new(targets.iter().map(|t| (t.name.as_str(), t.weight))))
            }
        }
    }

    fn pick(&mut self, method: Method, candidates: &[Candidate], flow: u64) -> Option<usize> {
        match self {
            Self::RoundRobin(turn) => turn.pick(candidates),
            Self::WeightedActive(turn) => weighted_active(turn, candidates),
            Self::HotStandby(standby) => standby.pick(method, candidates),
            Self::Wlm(wlm) => wlm.pick(candidates),
            Self::Maglev(maglev) => maglev.pick(candidates, flow),
        }
    }
}

impl Service {
    /// Position of the range that a port lies in.
    fn range(&self, protocol: u8, port: u16) -> Option<usize> {
        if self.protocol != protocol {
            return None;
        }
        self.ports.iter().position(|p| p.contains(port))
    }
}

impl Distributor {
    /// Takes over a configuration: the addresses for which `owned` is true are distributed here. Turns and affinities of
    /// services that stay are kept.
    pub fn configure(
        &mut self,
        config: &StackConfig,
        own_xcf: Option<IpAddr>,
        owned: impl Fn(IpAddr) -> bool,
    ) {
        self.health.configure(config);
        let mut old = std::mem::take(&mut self.services);
        for home in &config.home {
            let Role::Owner { distribution } = &home.role else { continue };
            if !owned(home.address) {
                continue;
            }
            let mut kept = old.remove(&home.address).unwrap_or_default();
            let mut services = Vec::with_capacity(distribution.len());
            for d in distribution {
                let before = kept.iter().position(|s| s.protocol == d.protocol && s.ports == d.ports);
                let before = before.map(|i| kept.swap_remove(i));
                services.push(self.service(home.address, &config.name, own_xcf, d, before));
            }
            self.services.insert(home.address, services);
        }
    }

    fn service(
        &mut self,
        dvipa: IpAddr,
        own_name: &str,
        own_xcf: Option<IpAddr>,
        d: &Distribution,
        before: Option<Service>,
    ) -> Service {
        let targets: Vec<TargetPlace> = d
            .targets
            .iter()
            .map(|t| {
                let name = if t.name.is_empty() { own_name } else { &t.name };
                TargetPlace {
                    name: name.to_owned(),
                    place: t.xcf.filter(|x| Some(*x) != own_xcf).map_or(Place::Here, Place::At),
                    weight: t.weight,
                    quiesced: t.quiesced,
                    slots: d.ports.iter().map(|p| self.line(dvipa, d.protocol, p.low, name)).collect(),
                }
            })
            .collect();
        let (chooser, affinity) = match before {
            Some(b) if b.method == d.method && !matches!(b.chooser, Chooser::Maglev(_)) => {
                (Some(b.chooser), b.affinity)
            }
            Some(b) => (None, b.affinity),
            None => (None, None),
        };
        Service {
            protocol: d.protocol,
            ports: d.ports.clone(),
            method: d.method,
            chooser: chooser.unwrap_or_else(|| Chooser::new(d.method, &targets)),
            affinity: Affinity::configured(d.affinity_secs, affinity),
            targets,
        }
    }

    /// The DVIPA is another stack's.
    pub fn forget(&mut self, dvipa: IpAddr) {
        self.services.remove(&dvipa);
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

    // ---- what is known of targets ----

    /// A member lives. True: it did not before.
    pub fn heard(&mut self, member: IpAddr, state: &TargetState) -> bool {
        self.health.heard(Place::At(member), state)
    }

    /// The same of this stack.
    pub fn own(&mut self, state: &TargetState) {
        self.health.heard(Place::Here, state);
    }

    /// A member does not answer any more.
    pub fn down(&mut self, member: IpAddr) {
        self.health.down(Place::At(member));
    }

    /// Whether a member was heard once and is silent now.
    #[must_use]
    pub fn is_down(&self, member: IpAddr) -> bool {
        self.health.is_down(Place::At(member))
    }

    /// Whether only those are targets whose servers were heard of; else everybody is, always.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.health.is_strict()
    }

    // ---- choices ----

    /// Chooses for a new connection; `members` are the XCF addresses that there are.
    pub fn choose(
        &mut self,
        now: Instant,
        (dvipa, protocol, port): Port,
        client: Client,
        members: &HashSet<IpAddr, impl BuildHasher>,
        connections: &Connections,
    ) -> Choice {
        let hit = self
            .services
            .get_mut(&dvipa)
            .and_then(|all| all.iter_mut().find_map(|s| s.range(protocol, port).map(|range| (s, range))));
        let Some((service, range)) = hit else { return Choice::NotDistributed };
        let candidates = &mut self.candidates;
        candidates.clear();
        for (index, t) in service.targets.iter().enumerate() {
            let there = match t.place {
                Place::Here => true,
                Place::At(xcf) => members.contains(&xcf),
            };
            if there && !t.quiesced && t.weight > 0 && self.health.is_ready(t.place, (dvipa, protocol, port))
            {
                candidates.push(Candidate {
                    index,
                    weight: t.weight,
                    active: connections.tally(t.slots[range]).active,
                    capacity: self.health.capacity(t.place),
                });
            }
        }
        let bound = service.affinity.as_ref().and_then(|a| a.of(now, client.address));
        let affine =
            bound.and_then(|p| candidates.iter().map(|c| c.index).find(|i| service.targets[*i].place == p));
        let chosen = affine.or_else(|| {
            let flow = maglev::hash_flow(dvipa, protocol, port, client);
            service.chooser.pick(service.method, candidates, flow)
        });
        chosen.map_or(Choice::NoCandidate, |i| {
            let t = &service.targets[i];
            Choice::Target { place: t.place, slot: t.slots[range], affine: service.affinity.is_some() }
        })
    }

    fn service_of(&mut self, (dvipa, protocol, port): Port) -> Option<&mut Service> {
        self.services.get_mut(&dvipa)?.iter_mut().find(|s| s.range(protocol, port).is_some())
    }

    /// A client has one more connection to a target. True: its end is to be told ([`Distributor::unbind`]).
    pub fn bind(&mut self, now: Instant, service: Port, client: IpAddr, place: Place) -> bool {
        let affinity = self.service_of(service).and_then(|s| s.affinity.as_mut());
        affinity.is_some_and(|a| a.bind(now, client, place))
    }

    /// A connection of a client that was bound ended at `at`.
    pub fn unbind(&mut self, service: Port, client: IpAddr, at: Instant) {
        if let Some(a) = self.service_of(service).and_then(|s| s.affinity.as_mut()) {
            a.unbind(client, at);
        }
    }

    /// Counter line of a connection that ends at `place`, 0 if it is not distributed.
    #[must_use]
    pub fn slot_of(&self, key: &ConnectionKey, place: Place) -> u32 {
        let services = self.services.get(&key.local).map_or(&[][..], Vec::as_slice);
        let hit = services.iter().find_map(|s| s.range(key.protocol, key.local_port).map(|r| (s, r)));
        hit.and_then(|(s, range)| Some(s.targets.iter().find(|t| t.place == place)?.slots[range]))
            .unwrap_or(0)
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
        let mut configured: HashMap<u32, (&TargetPlace, &Service, PortRange)> = HashMap::new();
        for s in self.services.values().flatten() {
            for t in &s.targets {
                let lines = t.slots.iter().zip(&s.ports);
                configured.extend(lines.map(|(slot, range)| (*slot, (t, s, *range))));
            }
        }
        (1u32..)
            .zip(&self.lines)
            .filter_map(|(n, line)| {
                let tally = connections.tally(n);
                let now = configured.get(&n);
                if now.is_none() && tally.active == 0 {
                    return None;
                }
                Some(TargetView {
                    dvipa: line.dvipa,
                    protocol: line.protocol,
                    port: line.port,
                    target: line.target.clone(),
                    active: tally.active,
                    total: tally.total,
                    ready: now.and_then(|(t, _, range)| {
                        self.health.listeners(t.place, line.dvipa, line.protocol, *range)
                    }),
                    weight: now.map_or(0, |(t, s, _)| {
                        let capacity = self.health.capacity(t.place);
                        s.method.weight_in_force(t.weight, Some(capacity)).unwrap_or(0)
                    }),
                    quiesced: now.is_none_or(|(t, ..)| t.quiesced),
                })
            })
            .collect()
    }
}
