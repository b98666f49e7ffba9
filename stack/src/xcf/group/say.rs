//! What members are told by their streams.

use super::{Event, Group};
use crate::xcf::datagram::Owned;
use crate::xcf::member::{Listing, Member};
use crate::xcf::message::{MAX_PAGE, Message, Page};
use crate::xcf::order::EngineOrder;
use crate::xcf::refusal::Refusal;
use std::net::IpAddr;
use std::time::Instant;

/// A member gets the next page of our connections when no more than this many octets wait for it.
const LISTING_ROOM: usize = 256 << 10;
/// DVIPAs of one member of which it gets our connections at a time; it asks for the others again.
pub(super) const MAX_LISTINGS: usize = 256;

impl Group {
    /// Begins a stream to a member, with all that it has to know.
    pub(super) fn begin(&mut self, now: Instant, member: &mut Member) {
        self.generation += 1;
        member.outgoing.begin(self.generation);
        // Whoever misses pages asks again.
        member.listing.clear();
        self.push(now, member, &Message::Ready(self.ready.clone()));
        for (dvipa, epoch) in std::mem::take(&mut member.asked) {
            self.ask(now, member, dvipa, epoch);
        }
    }

    /// Gives up what waits for a member, and begins anew.
    pub(super) fn reset(&mut self, now: Instant, member: &mut Member, why: &str) {
        let name = member.name;
        self.refuse(now, Refusal::StreamReset, || format!("messages to {name} begin anew: {why}"));
        self.begin(now, member);
    }

    pub(super) fn push(&mut self, now: Instant, member: &mut Member, message: &Message) {
        if member.outgoing.is_open() && member.outgoing.push(message).is_err() {
            self.reset(now, member, "too many waited");
        }
    }

    /// Asks a member for its connections, once until it has answered.
    pub(super) fn ask(&mut self, now: Instant, member: &mut Member, dvipa: IpAddr, epoch: u64) {
        let Some(own) = self.owned.get(&dvipa).filter(|o| o.epoch == epoch) else { return };
        let owned = Owned { dvipa, epoch, ceiling: own.ceiling };
        if member.outgoing.is_open() && member.asked.insert((dvipa, epoch)) {
            self.push(now, member, &Message::Owner { owned, list_wanted: true });
        }
    }

    /// Asks the engine for the next pages of what a member is to hear, if there is room for them.
    pub(super) fn go_on_listing(&mut self, member: &mut Member) {
        if member.outgoing.queued() > LISTING_ROOM {
            return;
        }
        for (dvipa, listing) in member.listing.iter_mut().filter(|(_, l)| !l.waiting) {
            listing.waiting = true;
            let Listing { epoch, next: from, .. } = *listing;
            let order = EngineOrder::ListConnections { to: member.xcf, dvipa: *dvipa, epoch, from };
            self.events.push_back(Event::ToEngine(order));
        }
    }

    /// The engine gives a page.
    pub(super) fn page(
        &mut self,
        now: Instant,
        member: &mut Member,
        mut page: Page,
        from: u32,
        next: Option<u32>,
    ) {
        let Page { dvipa, epoch, .. } = page;
        let wanted = Listing { epoch, next: from, waiting: true };
        if member.listing.get(&dvipa) != Some(&wanted) {
            return;
        }
        match next {
            Some(next) => member.listing.insert(dvipa, Listing { epoch, next, waiting: false }),
            None => member.listing.remove(&dvipa),
        };
        // Messages tell the family once.
        page.flows.retain(|f| f.key.local == dvipa && f.key.remote.is_ipv4() == dvipa.is_ipv4());
        page.flows.truncate(MAX_PAGE);
        self.push(now, member, &Message::ConnectionList(page));
        self.go_on_listing(member);
    }

    /// The epoch of which a member is the owner of a DVIPA.
    pub(super) fn epoch_of(&self, xcf: IpAddr, dvipa: IpAddr) -> Option<u64> {
        self.owners.get(dvipa).filter(|o| o.xcf == xcf).map(|o| o.epoch)
    }

    pub(super) fn with_member(&mut self, xcf: IpAddr, work: impl FnOnce(&mut Self, &mut Member)) {
        let Some(name) = self.members.values().find(|m| m.xcf == xcf).map(|m| m.name) else { return };
        let Some(mut member) = self.members.remove(&name) else { return };
        work(self, &mut member);
        self.members.insert(name, member);
    }

    pub(super) fn each_alive(&mut self, mut work: impl FnMut(&mut Self, &mut Member)) {
        let mut members = std::mem::take(&mut self.members);
        for member in members.values_mut().filter(|m| m.outgoing.is_open()) {
            work(self, member);
        }
        self.members = members;
    }
}
