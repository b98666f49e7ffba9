//! What the other stacks of the sysplex say, as far as it concerns packets.

use super::connection::{Place, State};
use super::io::{FlowRecord, FlowStage, Output};
use super::{Engine, HomeRole};
use crate::xcf::order::EngineOrder;
use std::net::IpAddr;
use std::time::Instant;

impl Engine {
    /// Takes note of what the group has to say.
    pub fn handle_group(&mut self, now: Instant, order: EngineOrder, _out: &mut Output) {
        match order {
            EngineOrder::OwnerChanged { dvipa, owner, .. } => self.owner_changed(dvipa, owner),
            EngineOrder::ConnectionEnded { member, key, .. } => {
                if let Some(id) = self.connections.find(&key)
                    && self.connections.get(id).place == Place::At(member)
                {
                    self.connections.remove(id);
                }
            }
            EngineOrder::Connections { member, entries, .. } => {
                for entry in entries {
                    self.connection_at(now, member, entry);
                }
            }
            EngineOrder::NewConnection { member, entry, .. } => self.connection_at(now, member, entry),
            // Distribution looks at the configuration alone as yet.
            EngineOrder::Target(_) | EngineOrder::Gap { .. } => {}
            // The driver asks [`Engine::list_connections`].
            EngineOrder::ListConnections { .. } => {}
        }
    }

    fn owner_changed(&mut self, dvipa: IpAddr, owner: IpAddr) {
        if let Some(HomeRole::Target { distributor }) = self.homes.get_mut(&dvipa) {
            *distributor = owner;
        }
    }

    /// Every connection of a DVIPA that ends on this stack.
    #[must_use]
    pub fn list_connections(&self, dvipa: IpAddr) -> Vec<FlowRecord> {
        self.connections
            .iter()
            .filter(|c| c.key.local == dvipa && c.place == Place::Here)
            .map(|c| FlowRecord { key: c.key, ipsec_routed: c.ipsec_routed, stage: stage(c.state()) })
            .collect()
    }

    /// A connection ends at a member: unknown ones are taken over, if this stack owns their DVIPA.
    fn connection_at(&mut self, now: Instant, member: IpAddr, entry: FlowRecord) {
        let owned = self.homes.get(&entry.key.local) == Some(&HomeRole::Owner);
        if owned && self.connections.find(&entry.key).is_none() {
            // A full table is no reason to forget others; this one is learnt again from its packets.
            let _ = self.connections.insert(now, entry.key, Place::At(member), entry.ipsec_routed, 0);
        }
    }
}

const fn stage(state: State) -> FlowStage {
    match state {
        State::Opening => FlowStage::Opening,
        State::Established | State::Datagram => FlowStage::Open,
        State::Closing => FlowStage::Closing,
    }
}
