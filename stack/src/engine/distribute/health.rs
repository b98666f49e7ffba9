//! What targets say of themselves: alive, listening, with capacity.

use super::Port;
use crate::control::{PortRange, StackConfig};
use crate::engine::connection::Place;
use crate::wire::protocol;
use crate::xcf::order::TargetState;
use hashbrown::HashMap;
use std::net::IpAddr;

/// Capacity of a target that has not said any: all of it.
const FULL: u8 = 100;

#[derive(Debug, Default)]
struct Target {
    alive: bool,
    /// Not damped for flapping.
    steady: bool,
    capacity: u8,
    listeners: HashMap<Port, u32>,
}

/// Health of every target, this stack among them.
#[derive(Debug, Default)]
pub(super) struct Health {
    strict: bool,
    here: Option<Target>,
    members: HashMap<IpAddr, Target>,
}

impl Health {
    /// Without messages between stacks nothing is ever heard, and everybody counts as ready.
    pub(super) fn configure(&mut self, config: &StackConfig) {
        self.strict = config.sysplex.is_some();
        self.members.retain(|xcf, _| config.members.iter().any(|m| m.xcf == *xcf));
    }

    pub(super) const fn is_strict(&self) -> bool {
        self.strict
    }

    fn of(&self, place: Place) -> Option<&Target> {
        match place {
            Place::Here => self.here.as_ref(),
            Place::At(xcf) => self.members.get(&xcf),
        }
    }

    /// True: it was not alive before.
    pub(super) fn heard(&mut self, place: Place, state: &TargetState) -> bool {
        let target = match place {
            Place::Here => self.here.get_or_insert_default(),
            Place::At(xcf) => self.members.entry(xcf).or_default(),
        };
        target.capacity = state.capacity.min(FULL);
        target.steady = state.candidate;
        target.listeners.clear();
        for r in &state.ready {
            let listeners = target.listeners.entry((r.dvipa, r.protocol, r.port)).or_default();
            *listeners = listeners.saturating_add(r.count);
        }
        !std::mem::replace(&mut target.alive, true)
    }

    pub(super) fn down(&mut self, place: Place) {
        let target = match place {
            Place::Here => return,
            Place::At(xcf) => self.members.entry(xcf).or_default(),
        };
        target.alive = false;
    }

    pub(super) fn is_down(&self, place: Place) -> bool {
        self.of(place).is_some_and(|t| !t.alive)
    }

    /// Alive, and a server listens. Of protocols whose sockets are not reported it is enough to be alive.
    pub(super) fn is_ready(&self, place: Place, port: Port) -> bool {
        let told = matches!(port.1, protocol::TCP | protocol::UDP);
        match self.of(place) {
            None => !self.strict,
            Some(t) if !self.strict => t.alive && t.steady,
            Some(t) => t.alive && t.steady && (!told || t.listeners.get(&port).is_some_and(|n| *n > 0)),
        }
    }

    pub(super) fn capacity(&self, place: Place) -> u8 {
        self.of(place).map_or(FULL, |t| t.capacity)
    }

    /// Servers on a range of ports; `None`: nothing was heard.
    pub(super) fn listeners(
        &self,
        place: Place,
        dvipa: IpAddr,
        protocol: u8,
        range: PortRange,
    ) -> Option<u32> {
        let target = self.of(place)?;
        let of_range = |(a, p, port): &Port| *a == dvipa && *p == protocol && range.contains(*port);
        Some(
            target.listeners.iter().filter(|(k, _)| of_range(k)).fold(0, |sum, (_, n)| n.saturating_add(sum)),
        )
    }
}
