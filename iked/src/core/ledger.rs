//! Which records of a stack's DVIPAs stand in the coupling facility, and which should.
//!
//! Two tunnels between the same ends have one record (simultaneous negotiation, distributor.md R4): it stands as
//! long as one of them does.

use super::recency::Use;
use crate::cf::RecordKey;
use crate::cf::fence::{Contents, Record};
use crate::cf::keeper::Order;
use crate::cf::record::{self, Phase1, Phase2};
use crate::cf::seal::SysplexKey;
use crate::ike::command::{ActivationMethod, Initiate};
use crate::ike::rules::IkeOffer;
use crate::ike::types::{IkeTunnelId, TunnelId};
use crate::ike::view::{ChildView, IkeView};
use crate::request::CfState;
use stack::control::PortTranslation;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A record's place.
pub(crate) type Place = (IpAddr, RecordKey);

/// The ledger of one stack.
#[derive(Debug)]
pub(crate) struct Ledger {
    key: Option<SysplexKey>,
    ike: BTreeMap<IkeTunnelId, Place>,
    children: BTreeMap<TunnelId, Place>,
    /// Numbers of the tunnels that share a record.
    users: BTreeMap<Place, BTreeSet<u32>>,
    state: BTreeMap<Place, CfState>,
    /// Orders that the keeper's queue did not take.
    unsent: BTreeMap<Place, Option<Record>>,
    /// Records that were made since it was last asked.
    made: Vec<Place>,
    /// What the stack translates for clients behind NATs.
    translations: BTreeMap<TunnelId, Vec<PortTranslation>>,
    /// When the dynamic tunnels of these records were used last.
    uses: BTreeMap<Place, Use>,
}

impl Ledger {
    /// A ledger; without a sysplex there is nothing to keep.
    pub(crate) const fn new(key: Option<SysplexKey>) -> Self {
        Self {
            key,
            ike: BTreeMap::new(),
            children: BTreeMap::new(),
            users: BTreeMap::new(),
            state: BTreeMap::new(),
            unsent: BTreeMap::new(),
            made: Vec::new(),
            translations: BTreeMap::new(),
            uses: BTreeMap::new(),
        }
    }

    /// An IKE tunnel of a DVIPA was made or changed.
    pub(crate) fn ike_up(&mut self, view: &IkeView, offers: &[IkeOffer]) -> Vec<Order> {
        let dvipa = view.local.ip();
        let Some((id, r)) = self.key.as_ref().and_then(|k| record::of_ike(k, view, offers)) else {
            return vec![];
        };
        let place = (dvipa, RecordKey::Phase1(id));
        let mut orders = match self.ike.insert(view.id, place) {
            Some(old) if old != place => self.release(old, view.id.0),
            _ => vec![],
        };
        orders.push(self.hold(place, view.id.0, Record::Phase1(Box::new(r))));
        orders
    }

    /// An IKE tunnel is gone.
    pub(crate) fn ike_down(&mut self, id: IkeTunnelId) -> Vec<Order> {
        self.ike.remove(&id).map_or_else(Vec::new, |place| self.release(place, id.0))
    }

    /// A dynamic tunnel of a DVIPA was made or changed. `vpn_life_ends` and now, `unix`, are in Unix seconds.
    pub(crate) fn child_up(&mut self, view: &ChildView, vpn_life_ends: Option<u64>, unix: u64) -> Vec<Order> {
        let Some(&(dvipa, RecordKey::Phase1(phase1))) = self.ike.get(&view.ike) else { return vec![] };
        let translations = self.translations.get(&view.id).map_or(&[][..], Vec::as_slice);
        let made = |key| record::of_child(key, view, phase1, vpn_life_ends, translations);
        let Some((id, mut r)) = self.key.as_ref().and_then(made) else { return vec![] };
        let place = (dvipa, RecordKey::Phase2(id));
        let mut orders = match self.children.insert(view.id, place) {
            Some(old) if old != place => self.release(old, view.id.0),
            _ => vec![],
        };
        // Nobody asks for an SA that he does not want to use. One that was made in the place of an earlier owner's is as old as
        // that one.
        let used = self.uses.entry(place).or_insert_with(|| {
            let mut used = Use::default();
            used.at(unix);
            used
        });
        r.last_used = used.write();
        orders.push(self.hold(place, view.id.0, Record::Phase2(Box::new(r))));
        orders
    }

    /// An earlier owner has left these records.
    pub(crate) fn found(&mut self, dvipa: IpAddr, contents: &Contents) {
        for (id, _, child) in &contents.phase2 {
            self.uses.entry((dvipa, RecordKey::Phase2(*id))).or_default().at(child.last_used.unwrap_or(0));
        }
    }

    /// The peer has used a dynamic tunnel at `unix`. True: its record is worth writing for that.
    pub(crate) fn used(&mut self, id: TunnelId, unix: u64) -> bool {
        let Some(used) = self.children.get(&id).and_then(|place| self.uses.get_mut(place)) else {
            return false;
        };
        used.at(unix);
        used.is_due()
    }

    /// A dynamic tunnel is gone.
    pub(crate) fn child_down(&mut self, id: TunnelId) -> Vec<Order> {
        self.translations.remove(&id);
        self.children.remove(&id).map_or_else(Vec::new, |place| self.release(place, id.0))
    }

    /// The stack translates these ports for clients behind the NAT of a tunnel. [`Ledger::child_up`] writes them.
    pub(crate) fn translate(&mut self, id: TunnelId, flows: Vec<PortTranslation>) {
        if flows.is_empty() {
            self.translations.remove(&id);
        } else {
            self.translations.insert(id, flows);
        }
    }

    /// Everything that the stack translates.
    pub(crate) fn translations(&self) -> Vec<PortTranslation> {
        self.translations.values().flatten().copied().collect()
    }

    fn hold(&mut self, place: Place, user: u32, record: Record) -> Order {
        self.users.entry(place).or_default().insert(user);
        self.made.push(place);
        // Until the store says otherwise: what is not yet there protects nothing.
        self.state.entry(place).or_insert(CfState::Failed);
        Order::Write { dvipa: place.0, key: place.1, record: Some(record) }
    }

    fn release(&mut self, place: Place, user: u32) -> Vec<Order> {
        let Some(users) = self.users.get_mut(&place) else { return vec![] };
        users.remove(&user);
        if !users.is_empty() {
            return vec![];
        }
        self.users.remove(&place);
        self.state.remove(&place);
        self.uses.remove(&place);
        vec![Order::Write { dvipa: place.0, key: place.1, record: None }]
    }

    /// The keeper's queue did not take this order.
    pub(crate) fn unsent(&mut self, order: Order) {
        if let Order::Write { dvipa, key, record } = order {
            self.unsent.insert((dvipa, key), record);
        }
    }

    /// Orders to be sent again.
    pub(crate) fn take_unsent(&mut self) -> Vec<Order> {
        let orders = std::mem::take(&mut self.unsent).into_iter();
        orders.map(|((dvipa, key), record)| Order::Write { dvipa, key, record }).collect()
    }

    /// These records are written.
    pub(crate) fn written(&mut self, dvipa: IpAddr, keys: &[RecordKey]) {
        self.set(dvipa, keys, CfState::Stored);
    }

    /// These could not be written.
    pub(crate) fn failed(&mut self, dvipa: IpAddr, keys: &[RecordKey]) {
        self.set(dvipa, keys, CfState::Failed);
    }

    /// Nothing of `dvipa` can be written any more: its records are another one's.
    pub(crate) fn lost(&mut self, dvipa: IpAddr) {
        self.ike.retain(|_, (d, _)| *d != dvipa);
        self.children.retain(|_, (d, _)| *d != dvipa);
        self.users.retain(|(d, _), _| *d != dvipa);
        self.state.retain(|(d, _), _| *d != dvipa);
        self.unsent.retain(|(d, _), _| *d != dvipa);
        self.uses.retain(|(d, _), _| *d != dvipa);
    }

    fn set(&mut self, dvipa: IpAddr, keys: &[RecordKey], state: CfState) {
        for key in keys {
            if let Some(s) = self.state.get_mut(&(dvipa, *key)) {
                *s = state;
            }
        }
    }

    /// States of all records of a DVIPA.
    pub(crate) fn states_of(&self, dvipa: IpAddr) -> Vec<CfState> {
        self.state.iter().filter(|((d, _), _)| *d == dvipa).map(|(_, s)| *s).collect()
    }

    /// State of an IKE tunnel's record.
    pub(crate) fn ike_state(&self, id: IkeTunnelId) -> Option<CfState> {
        self.state.get(self.ike.get(&id)?).copied()
    }

    /// State of a dynamic tunnel's record.
    pub(crate) fn child_state(&self, id: TunnelId) -> Option<CfState> {
        self.state.get(self.children.get(&id)?).copied()
    }

    /// Records that were made since this was asked last.
    pub(crate) fn take_made(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.made)
    }

    /// Whether a tunnel stands for this record.
    pub(crate) fn stands(&self, dvipa: IpAddr, key: RecordKey) -> bool {
        self.users.contains_key(&(dvipa, key))
    }

    /// The record of a dynamic tunnel.
    pub(crate) fn place(&self, id: TunnelId) -> Option<Place> {
        self.children.get(&id).copied()
    }
}

/// What to negotiate in the place of an earlier owner's dynamic tunnel.
pub(crate) fn start_again(dvipa: IpAddr, phase1: &Phase1, child: &Phase2) -> Initiate {
    Initiate {
        rule: child.rule.clone(),
        local_endpoint: dvipa,
        remote_endpoint: phase1.remote.ip(),
        remote_id: Some(phase1.remote_id.clone()),
        nat_port: phase1.nat_remote.then_some(phase1.remote.port()),
        local: child.local_selectors.clone(),
        remote: child.remote_selectors.clone(),
        local_dyn_vpn_rule: child.local_dyn_vpn_rule.clone(),
        method: ActivationMethod::Takeover,
        acquire: None,
        initial_contact: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cf::record::RecordId;

    fn ledger() -> (Ledger, Place) {
        let place = ("203.0.113.10".parse().unwrap(), RecordKey::Phase1(RecordId([1; 16])));
        (Ledger::new(Some(SysplexKey::new([7; 32]))), place)
    }

    fn record() -> Record {
        Record::Phase1(Box::new(record::tests::phase1()))
    }

    #[test]
    fn a_record_stands_as_long_as_one_of_its_tunnels() {
        let (mut l, place) = ledger();
        for id in [1, 2] {
            l.ike.insert(IkeTunnelId(id), place);
            assert!(matches!(l.hold(place, id, record()), Order::Write { record: Some(_), .. }));
        }
        assert!(l.ike_down(IkeTunnelId(1)).is_empty(), "the other one still needs it");
        assert!(matches!(l.ike_down(IkeTunnelId(2))[..], [Order::Write { record: None, .. }]));
        assert!(l.ike_down(IkeTunnelId(2)).is_empty(), "once");
        assert!(l.users.is_empty() && l.state.is_empty());
    }

    #[test]
    fn t48_orders_that_found_no_room_are_sent_again_the_newest_for_each_record() {
        let (mut l, place) = ledger();
        let write = l.hold(place, 1, record());
        l.unsent(write);
        l.unsent(Order::Write { dvipa: place.0, key: place.1, record: None });
        assert!(matches!(l.take_unsent()[..], [Order::Write { record: None, .. }]));
        assert!(l.take_unsent().is_empty());
    }

    #[test]
    fn nothing_is_stored_until_the_store_says_so() {
        let (mut l, place) = ledger();
        l.ike.insert(IkeTunnelId(1), place);
        let _ = l.hold(place, 1, record());
        assert_eq!(l.ike_state(IkeTunnelId(1)), Some(CfState::Failed));
        l.written(place.0, &[place.1]);
        assert_eq!(l.ike_state(IkeTunnelId(1)), Some(CfState::Stored));
        l.failed(place.0, &[place.1]);
        assert_eq!(l.ike_state(IkeTunnelId(1)), Some(CfState::Failed));
        l.lost(place.0);
        assert_eq!(l.ike_state(IkeTunnelId(1)), None);
    }
}
