//! What members say, and whether it counts.

use super::say::MAX_LISTINGS;
use super::{Event, Group};
use crate::control::FromStack;
use crate::xcf::datagram::{Body, Content, Heartbeat, Name, Owned, Record};
use crate::xcf::liveness::Change;
use crate::xcf::member::{Listing, Member};
use crate::xcf::message::{Message, Page};
use crate::xcf::order::EngineOrder;
use crate::xcf::owners::Claim;
use crate::xcf::refusal::Refusal;
use crate::xcf::stream::Arrived;
use std::net::IpAddr;
use std::time::Instant;

impl Group {
    pub(super) fn handle_content(&mut self, now: Instant, sender: Name, counter: u64, content: Content) {
        // It does not know this start, as happens at each restart: nothing tells when it said so.
        if content.to_start != Some(self.start) {
            self.refusals.count_quietly(Refusal::OtherStart);
            return;
        }
        let Some(mut member) = self.members.remove(&sender) else { return };
        if let Some(change) = member.liveness.hear(now) {
            self.changed(now, &mut member, change);
        }
        if !member.outgoing.acknowledge(now, counter, content.acknowledgement) {
            self.reset(now, &mut member, "the other stack has forgotten it");
        }
        self.go_on_listing(&mut member);
        match content.body {
            Body::Heartbeat(heartbeat) => self.handle_heartbeat(now, &mut member, heartbeat),
            Body::Record(record) => self.handle_record(now, &mut member, record),
            Body::Nothing => {}
        }
        self.members.insert(sender, member);
    }

    fn handle_heartbeat(&mut self, now: Instant, member: &mut Member, heartbeat: Heartbeat) {
        member.capacity = heartbeat.capacity;
        for owned in heartbeat.owned {
            self.claim(now, member, owned);
        }
        if heartbeat.leaving
            && let Some(change) = member.liveness.leave()
        {
            member.left = true;
            self.changed(now, member, change);
        }
        self.publish(member);
    }

    fn handle_record(&mut self, now: Instant, member: &mut Member, record: Record) {
        match member.incoming.take(record) {
            Arrived::Stale => return,
            Arrived::Here => {}
            Arrived::NewStream => {
                member.asked.clear();
                self.events.push_back(Event::ToEngine(EngineOrder::Gap { member: member.xcf }));
            }
        }
        member.acknowledge = true;
        loop {
            let parsed = match member.incoming.next_message() {
                Ok(None) => return,
                Ok(Some(octets)) => Message::parse(&octets).map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match parsed {
                Ok(message) => self.handle_message(now, member, message),
                Err(error) => {
                    let name = member.name;
                    self.refuse(now, Refusal::Malformed, || format!("from {name}: {error}"));
                }
            }
        }
    }

    fn handle_message(&mut self, now: Instant, member: &mut Member, message: Message) {
        let xcf = member.xcf;
        match message {
            Message::Owner { owned, list_wanted } => {
                let Owned { dvipa, epoch, .. } = owned;
                let current = self.claim(now, member, owned);
                if current
                    && list_wanted
                    && (member.listing.len() < MAX_LISTINGS || member.listing.contains_key(&dvipa))
                {
                    member.listing.insert(dvipa, Listing { epoch, next: 0, waiting: false });
                    self.go_on_listing(member);
                }
            }
            Message::NewConnection { epoch, flow } => {
                if self.is_ours(now, member, flow.key.local, epoch) {
                    let order = EngineOrder::NewConnection { member: xcf, epoch, entry: flow };
                    self.events.push_back(Event::ToEngine(order));
                }
            }
            Message::ConnectionEnded { epoch, key } => {
                if self.is_ours(now, member, key.local, epoch) {
                    let order = EngineOrder::ConnectionEnded { member: xcf, epoch, key };
                    self.events.push_back(Event::ToEngine(order));
                }
            }
            Message::ConnectionList(page) => {
                let Page { dvipa, epoch, last, flows: entries } = page;
                if self.is_ours(now, member, dvipa, epoch) {
                    if last {
                        member.asked.remove(&(dvipa, epoch));
                    }
                    let order = EngineOrder::Connections { member: xcf, dvipa, epoch, entries, last };
                    self.events.push_back(Event::ToEngine(order));
                }
            }
            Message::Ready(ready) => {
                member.ready = ready;
                self.publish(member);
            }
            Message::Relay(bytes) => {
                let from = member.name.to_string();
                self.events.push_back(Event::ToIked(FromStack::Relayed { from, bytes }));
            }
        }
    }

    /// Whether a message for the owner of a DVIPA is for this stack, as it is now.
    fn is_ours(&mut self, now: Instant, member: &Member, dvipa: IpAddr, epoch: u64) -> bool {
        let ours = self.owned.get(&dvipa).is_some_and(|o| o.epoch == epoch);
        if !ours {
            let name = member.name;
            self.refuse(now, Refusal::OldEpoch, || format!("{name} about {dvipa}, epoch {epoch}"));
        }
        ours
    }

    /// A member says that it owns a DVIPA; whether it does, as far as is known.
    fn claim(&mut self, now: Instant, member: &Member, owned: Owned) -> bool {
        let Owned { dvipa, epoch, .. } = owned;
        let name = member.name;
        let reason = match self.owners.claim(member.xcf, owned, true) {
            Claim::Known => return true,
            Claim::NewOwner => {
                // Whatever this stack took itself for: it has lost the DVIPA (T47).
                self.owned.remove(&dvipa);
                self.tell_engine_owner(dvipa);
                self.tell_iked_owner(name, owned);
                return true;
            }
            Claim::News => {
                self.tell_iked_owner(name, owned);
                return true;
            }
            Claim::Conflict => {
                self.tell_iked_owner(name, owned);
                Refusal::EpochConflict
            }
            Claim::Old => Refusal::OldEpoch,
            Claim::NoRoom => Refusal::TooManyDvipas,
        };
        self.refuse(now, reason, || format!("{name} as owner of {dvipa}, epoch {epoch}"));
        false
    }

    pub(super) fn changed(&mut self, now: Instant, member: &mut Member, change: Change) {
        let name = member.name;
        match change {
            Change::Heard => {
                self.log(false, format!("stack {name} is heard over the XCF link"));
                member.heartbeat = true;
                member.left = false;
                // After a short silence the stream goes on where it was.
                if !member.outgoing.is_open() {
                    self.begin(now, member);
                }
            }
            Change::Silent => {
                if member.left {
                    member.give_up();
                }
                self.log(true, format!("stack {name} is not heard any more over the XCF link"));
            }
            Change::Steady => {}
        }
        self.publish(member);
    }
}
