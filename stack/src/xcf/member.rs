//! What this stack knows of another one.

use super::datagram::Name;
use super::liveness::Liveness;
use super::order::TargetState;
use super::seal::{LinkKeys, SenderKeys};
use super::stream::{Incoming, Outgoing};
use crate::control::{Heard, ReadyPort};
use crate::engine::replay::{MAX_WINDOW, ReplayWindow};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A change of capacity below this is not told.
const CAPACITY_STEP: u8 = 5;

/// How far a member has our connections of one of its DVIPAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) epoch: u64,
    /// Where the next page begins.
    pub(super) next: u32,
    /// The engine was asked for that page.
    pub(super) waiting: bool,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Name,
    pub(super) xcf: IpAddr,
    /// Its start, by the configuration.
    pub(super) start: Option<u64>,
    /// Opens what that start has sealed.
    pub(super) key: Option<SenderKeys>,
    /// Counters of that start.
    pub(super) window: ReplayWindow,
    pub(super) liveness: Liveness,
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
    /// An acknowledgement is to be sent, even if nothing else is.
    pub(super) acknowledge: bool,
    /// A heartbeat is to be sent.
    pub(super) heartbeat: bool,
    pub(super) ready: Vec<ReadyPort>,
    pub(super) capacity: u8,
    /// DVIPAs of ours, with our epoch, of which it was asked for its connections and has not sent all.
    pub(super) asked: BTreeSet<(IpAddr, u64)>,
    /// DVIPAs of it of which it gets our connections page by page: its epoch, and where the next page begins; whether the
    /// engine was asked for it.
    pub(super) listing: BTreeMap<IpAddr, Listing>,
    /// It said that it ends.
    pub(super) left: bool,
    /// What the engine and `iked` were told.
    told: Option<TargetState>,
}

impl Member {
    pub(super) fn new(name: Name, xcf: IpAddr) -> Self {
        Self {
            name,
            xcf,
            start: None,
            key: None,
            window: ReplayWindow::new(MAX_WINDOW, true),
            liveness: Liveness::default(),
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            acknowledge: false,
            heartbeat: false,
            ready: Vec::new(),
            capacity: 0,
            asked: BTreeSet::new(),
            listing: BTreeMap::new(),
            left: false,
            told: None,
        }
    }

    /// The configuration says which start is the right one. With another one than before nothing of it counts any more.
    pub(super) fn expect(&mut self, start: Option<u64>, keys: &LinkKeys) {
        self.key = start.map(|s| keys.of(self.name, s));
        if self.start == start {
            return;
        }
        self.liveness.restarted();
        *self = Self {
            start,
            key: self.key.take(),
            liveness: std::mem::take(&mut self.liveness),
            heartbeat: true,
            told: self.told.take(),
            ..Self::new(self.name, self.xcf)
        };
    }

    /// It is gone: what waits for it is forgotten.
    pub(super) fn give_up(&mut self) {
        self.outgoing.end();
        self.asked.clear();
        self.listing.clear();
        self.acknowledge = false;
    }

    /// What the engine and `iked` are to know, if it is not what they know.
    pub(super) fn news(&mut self) -> Option<(TargetState, Option<Heard>)> {
        let new = self.state();
        if let Some(old) = &self.told {
            let same = TargetState { capacity: new.capacity, ready: vec![], ..old.clone() }
                == TargetState { ready: vec![], ..new.clone() };
            let steady = old.capacity.abs_diff(new.capacity) < CAPACITY_STEP;
            if same && steady && old.ready == new.ready {
                return None;
            }
        } else if !new.alive {
            return None;
        }
        self.told = Some(new.clone());
        Some((new, self.heard()))
    }

    /// Whether the engine and `iked` know anything of it.
    pub(super) const fn was_told(&self) -> bool {
        self.told.is_some()
    }

    /// What the engine was told, for an engine that may have forgotten it.
    pub(super) fn state(&self) -> TargetState {
        TargetState {
            name: self.name.to_string(),
            xcf: Some(self.xcf),
            alive: self.liveness.is_alive(),
            left: self.left,
            candidate: self.liveness.is_steady(),
            ready: self.ready.clone(),
            capacity: self.capacity,
        }
    }

    /// What `iked` is to know; nothing of a member that was never heard.
    pub(super) fn heard(&self) -> Option<Heard> {
        self.told.as_ref()?;
        Some(Heard {
            member: self.name.to_string(),
            start: self.start?,
            alive: self.liveness.is_alive(),
            ready: self.ready.clone(),
            capacity: self.capacity,
        })
    }
}
