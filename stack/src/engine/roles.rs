//! What this stack is for each home address, and what changes with it: a takeover is a change of roles (spec 9.4).
//!
//! ```text
//!   Target ──► Owner: what ended here and was routed is local now; other stacks are asked for theirs (rebuild.rs)
//!   Owner ──► Moving, Target: what ends here is routed through the new owner now; what ended elsewhere is forgotten
//! ```
//! Configurations of `iked` and messages of other owners both say who owns an address; the higher epoch is right.

use super::connection::Place;
use super::io::Output;
use super::rebuild;
use super::strays::TakenOver;
use super::{Engine, Links};
use crate::control::{AddressRange, FromStack, Home, Role, StackConfig};
use std::net::IpAddr;
use std::time::Instant;

/// What this stack is for an address, as packets ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HomeRole {
    Static,
    Owner,
    Target { distributor: Option<IpAddr> },
    Moving { distributor: Option<IpAddr> },
    Backup,
}

impl HomeRole {
    /// Whether this stack terminates IPsec for the address.
    pub(super) const fn terminates(self) -> bool {
        matches!(self, Self::Static | Self::Owner)
    }

    /// The same with another owner.
    const fn owned_by(self, owner: IpAddr) -> Self {
        let distributor = Some(owner);
        match self {
            Self::Static => Self::Static,
            Self::Owner | Self::Moving { .. } => Self::Moving { distributor },
            Self::Target { .. } => Self::Target { distributor },
            Self::Backup => Self::Backup,
        }
    }
}

/// A DVIPA that this stack owns, as it tells others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// The DVIPA.
    pub dvipa: IpAddr,
    /// Epoch of the ownership.
    pub epoch: u64,
    /// Highest sequence number that its SAs may send, where that is bounded.
    pub ceiling: Option<u64>,
}

/// An owner that another stack told of.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeardOwner {
    epoch: u64,
    owner: IpAddr,
}

impl Engine {
    /// Puts a configuration in force. Connections of addresses that stay are kept; at a takeover those that end here
    /// change their way with the role of their address (spec 9.4), those of a stack that left are forgotten.
    ///
    /// A home address of which another stack has proved a higher epoch keeps that owner.
    pub fn configure(&mut self, now: Instant, config: &StackConfig, links: Links) {
        self.links = links;
        self.gre_in_udp = config.sysplex.as_ref().is_some_and(|s| s.gre_in_udp);
        self.lease.required = config.sysplex.as_ref().is_some_and(|s| s.leased);
        self.own_xcf = config.xcf.as_ref().map(|x| x.address);
        self.members.clear();
        self.members.extend(config.members.iter().map(|m| m.xcf).filter(|m| Some(*m) != self.own_xcf));
        self.spd.set_xcf(self.own_xcf.map(|own| {
            let group = || self.members.iter().copied().filter(|m| m.is_ipv4() == own.is_ipv4()).chain([own]);
            AddressRange { low: group().min().unwrap_or(own), high: group().max().unwrap_or(own) }
        }));
        let before = self.homes.clone();
        let members_before =
            self.config.as_ref().map(|c| c.members.iter().map(|m| m.xcf).collect::<Vec<_>>());
        let epochs_before = std::mem::take(&mut self.epochs);
        self.homes.clear();
        self.heard.retain(|a, h| config.home.iter().any(|home| home.address == *a && home.epoch < h.epoch));
        for home in &config.home {
            let (role, epoch) = self.settled(home);
            self.homes.insert(home.address, role);
            self.epochs.insert(home.address, epoch);
        }
        let homes = &self.homes;
        let owned = |a: IpAddr| homes.get(&a) == Some(&HomeRole::Owner);
        self.distributor.configure(config, self.own_xcf, owned);
        self.connections.set_limit(config.max_connections as usize);
        let members = &self.members;
        // A scan of the whole table, so only where some connection may have lost its place.
        let left = |m: &IpAddr| Some(*m) != self.own_xcf && !members.contains(m);
        if before != *homes || members_before.is_none_or(|all| all.iter().any(left)) {
            self.connections.retain(|c| match (homes.get(&c.key.local), c.place) {
                (Some(HomeRole::Owner), Place::At(xcf)) => members.contains(&xcf),
                (Some(HomeRole::Owner | HomeRole::Target { .. } | HomeRole::Moving { .. }), Place::Here) => {
                    true
                }
                _ => false,
            });
        }
        self.config = Some(config.clone());
        for home in &config.home {
            let address = home.address;
            match (before.get(&address), self.homes.get(&address)) {
                (Some(HomeRole::Owner), Some(HomeRole::Owner)) => {
                    let epoch = self.epoch_of(address);
                    if epochs_before.get(&address) != Some(&epoch) {
                        self.tell_rebuilt(now, address, epoch, &[]);
                    }
                }
                (was, Some(HomeRole::Owner)) => {
                    let from = match was {
                        Some(HomeRole::Target { distributor } | HomeRole::Moving { distributor }) => {
                            *distributor
                        }
                        _ => None,
                    };
                    self.became_owner(now, address, from);
                }
                (Some(HomeRole::Owner), _) => self.ceased_to_own(address),
                _ => {}
            }
        }
        for address in before.keys().filter(|a| !config.home.iter().any(|h| h.address == **a)) {
            self.ceased_to_own(*address);
        }
        // Said once for each configuration: `iked` may have heard it before it knew that the address was given up.
        self.idle_told.clear();
        self.note_idle(now);
        self.waiting_news(now);
        self.path_mtu.set_link(links.network_mtu);
        for sa in self.sad.iter_mut() {
            let mtu = self.path_mtu.of(now, sa.pair().remote);
            sa.set_path_mtu(mtu);
        }
    }

    /// Role and epoch of a home address, by the configuration or by what another stack has told since.
    fn settled(&self, home: &Home) -> (HomeRole, u64) {
        let role = match &home.role {
            Role::Static => HomeRole::Static,
            Role::Owner { .. } => HomeRole::Owner,
            Role::Target { distributor } => HomeRole::Target { distributor: *distributor },
            Role::Moving { distributor } => HomeRole::Moving { distributor: *distributor },
            Role::Backup => HomeRole::Backup,
        };
        match self.heard.get(&home.address) {
            Some(heard) => (role.owned_by(heard.owner), heard.epoch),
            None => (role, home.epoch),
        }
    }

    /// Another stack, at this XCF address, says that it owns a DVIPA. True: that is news, and from now on it is the
    /// distributor of what ends here (T3, T12); it wants to hear of it ([`Engine::connections_of`]).
    ///
    /// A smaller epoch than the one known is an old owner's and changes nothing. An owner that hears of a greater one is
    /// the old owner.
    pub fn owner_heard(&mut self, now: Instant, dvipa: IpAddr, owner: IpAddr, epoch: u64) -> bool {
        let Some(role) = self.role(dvipa).filter(|r| *r != HomeRole::Static) else { return false };
        let undirected = matches!(
            role,
            HomeRole::Target { distributor: None }
                | HomeRole::Moving { distributor: None }
                | HomeRole::Backup
        );
        let known = self.epoch_of(dvipa);
        if !self.members.contains(&owner) || epoch < known || (epoch == known && !undirected) {
            return false;
        }
        if role == HomeRole::Backup && epoch == known {
            return false;
        }
        let role_now = role.owned_by(owner);
        self.heard.insert(dvipa, HeardOwner { epoch, owner });
        self.epochs.insert(dvipa, epoch);
        self.homes.insert(dvipa, role_now);
        if role == HomeRole::Owner {
            self.distributor.forget(dvipa);
            self.connections.retain(|c| c.key.local != dvipa || c.place == Place::Here);
            self.ceased_to_own(dvipa);
        }
        self.note_idle(now);
        self.waiting_news(now);
        !matches!(role_now, HomeRole::Backup)
    }

    /// Epoch of the owner of a DVIPA as it is known here; 0: none.
    #[must_use]
    pub fn epoch_of(&self, dvipa: IpAddr) -> u64 {
        self.epochs.get(&dvipa).copied().unwrap_or(0)
    }

    /// What this stack owns.
    #[must_use]
    pub fn owned(&self) -> Vec<Owned> {
        let mut owned: Vec<Owned> = self
            .epochs
            .iter()
            .filter(|(a, _)| self.homes.get(*a) == Some(&HomeRole::Owner))
            .map(|(a, epoch)| Owned { dvipa: *a, epoch: *epoch, ceiling: self.ceilings.highest(*a) })
            .collect();
        owned.sort_unstable_by_key(|o| o.dvipa);
        owned
    }

    /// What was routed and ends here is local now (T13); the rest is asked for.
    fn became_owner(&mut self, now: Instant, dvipa: IpAddr, from: Option<IpAddr>) {
        let distributor = &self.distributor;
        self.connections.assign_slots(dvipa, |key| distributor.slot_of(key, Place::Here));
        let awaited: Vec<IpAddr> = if self.distributor.is_strict() {
            self.taken_over.insert(dvipa, TakenOver { until: now + rebuild::PHASE, from });
            self.members.iter().copied().filter(|m| !self.distributor.is_down(*m)).collect()
        } else {
            Vec::new()
        };
        let epoch = self.epoch_of(dvipa);
        self.rebuilds.start(now, dvipa, epoch, awaited, true);
        self.work_on_rebuilds(now);
    }

    fn ceased_to_own(&mut self, dvipa: IpAddr) {
        self.taken_over.remove(&dvipa);
        self.rebuilds.stop(dvipa);
        self.ceilings.close(dvipa);
    }

    /// Tells `iked` of addresses that were given up and have no connection left.
    pub(super) fn note_idle(&mut self, now: Instant) {
        for (dvipa, role) in &self.homes {
            if matches!(role, HomeRole::Moving { .. })
                && self.connections.count_of(*dvipa) == 0
                && self.idle_told.insert(*dvipa)
            {
                self.events.push(FromStack::Idle { dvipa: *dvipa });
                self.due.get_or_insert(now);
            }
        }
    }

    /// Hands what is to be told to others over.
    pub(super) fn deliver_news(&mut self, out: &mut Output) {
        self.due = None;
        out.events.append(&mut self.events);
        out.group.append(&mut self.group);
    }
}
