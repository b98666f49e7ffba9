//! SAs that outlive their owner (`takeover = "continue"`): IKE tunnels go to the coupling facility before their messages
//! go to the peer, outbound numbers stay below a ceiling that stands there, and a new owner goes on from both.

use super::handover::goes_on;
use super::recency::tunnels_in_order;
use super::{Core, Now};
use crate::cf::fence::Contents;
use crate::cf::keeper::Order;
use crate::cf::record::{RecordId, Secret};
use crate::cf::seal::SysplexKey;
use crate::config::Takeover;
use crate::ike::command::{Command, Initiate, Renegotiate, Succession};
use crate::ike::rules::Settings;
use crate::ike::snapshot::IkeSnapshot;
use crate::ike::types::{IkeTunnelId, StoreTicket};
use crate::stack_link::StackIndex;
use stack::control::ToStack;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// Sequence numbers that an owner reserves at a time: some seconds of traffic at a million packets a second.
const RESERVE: u64 = 1 << 22;
/// How long a message waits for the coupling facility; then it goes, and a takeover may have to negotiate anew.
const STORE_TIME: Duration = Duration::from_secs(2);

/// What the core knows of SAs that go on.
pub(super) struct Continuing {
    key: Option<SysplexKey>,
    next_ticket: u64,
    /// Orders under way: the engine, its ticket, and when it is not waited for any more.
    tickets: BTreeMap<u64, (StackIndex, StoreTicket, Instant)>,
    /// Where an IKE tunnel stands.
    places: BTreeMap<(StackIndex, IkeTunnelId), (IpAddr, RecordId)>,
    /// Highest sequence numbers that may be sent, and the epoch in which they were reserved.
    ceilings: BTreeMap<IpAddr, (u64, u64)>,
    /// What is negotiated if an IKE tunnel of an earlier owner does not go on.
    waiting: BTreeMap<(IkeTunnelId, IpAddr), Vec<(u64, Initiate)>>,
}

impl Continuing {
    pub(super) const fn new(key: Option<SysplexKey>) -> Self {
        Self {
            key,
            next_ticket: 0,
            tickets: BTreeMap::new(),
            places: BTreeMap::new(),
            ceilings: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// The highest sequence number that may be sent.
    pub(super) fn ceiling(&self, dvipa: IpAddr) -> Option<u64> {
        self.ceilings.get(&dvipa).map(|(_, highest)| *highest)
    }

    pub(super) fn wait(&mut self, dvipa: IpAddr, was: IkeTunnelId, item: u64, initiate: Initiate) {
        self.waiting.entry((was, dvipa)).or_default().push((item, initiate));
    }
}

impl Core {
    pub(super) fn continues(&self, dvipa: IpAddr) -> bool {
        self.config.dvipas.iter().any(|d| d.address == dvipa && d.takeover == Takeover::Continue)
    }

    /// The owner record was taken. Nothing is sent above the ceiling that stands there, so it is raised while the old owner is
    /// relieved, not when its SAs go on.
    pub(super) fn reserve(&mut self, dvipa: IpAddr, contents: &Contents) {
        if self.continues(dvipa) {
            let frozen = contents.ceiling.map_or(0, |(_, c)| c.highest);
            self.order(Order::Ceiling { dvipa, highest: frozen.saturating_add(RESERVE) });
        }
    }

    /// Whether numbers are reserved for the owner of this epoch.
    pub(super) fn has_reserved(&self, dvipa: IpAddr, epoch: u64) -> bool {
        self.continuing.ceilings.get(&dvipa).is_some_and(|(of, _)| *of == epoch)
    }

    /// A new owner begins: its SAs will outlive it, and those of the owner before go on. Gives the inbound SPIs of their
    /// children, with the tunnels' numbers at the owner before.
    pub(super) fn go_on(
        &mut self,
        now: Now,
        index: StackIndex,
        dvipa: IpAddr,
        epoch: u64,
        contents: &Contents,
    ) -> BTreeMap<u32, IkeTunnelId> {
        let recorded = self.takeovers.machine.view(dvipa, now.boot).and_then(|v| v.recorded) == Some(true);
        let mut children = BTreeMap::new();
        let handed = self.handovers.before(dvipa, epoch);
        // Without the store nothing outlives anybody, and no ceiling would ever be raised.
        if !self.continues(dvipa) || !recorded {
            return children;
        }
        self.continuing.waiting.retain(|(_, d), _| *d != dvipa);
        let frozen = contents.ceiling.map_or(0, |(_, c)| c.highest);
        let stack = &mut self.stacks[index];
        stack.continued.insert(dvipa, epoch);
        let settings = stack.policy.as_ref().map(|p| p.settings()).unwrap_or_default();
        stack.engine.set_settings(Settings { continued: stack.continued.clone(), ..settings });
        let reserved = self.continuing.ceilings.get(&dvipa).filter(|(of, _)| *of == epoch).map(|(_, c)| *c);
        stack.send(ToStack::Ceiling { dvipa, epoch, highest: reserved.unwrap_or(frozen) });
        if reserved.is_none() {
            self.raise_ceiling(dvipa, epoch, frozen);
        }
        if contents.set_back.is_some() {
            warn!(%dvipa, "the coupling facility was set back: nothing goes on, SAs are negotiated anew");
            return children;
        }
        let readable = |secret: &Secret| {
            IkeSnapshot::decode(secret.octets())
                .map_err(|e| warn!(%dvipa, "IKE tunnel not continued: {e}"))
                .ok()
        };
        let mut tunnels: Vec<IkeSnapshot> = contents.keys.iter().filter_map(|(.., s)| readable(s)).collect();
        tunnels_in_order(contents, &mut tunnels);
        for snapshot in &tunnels {
            let was = snapshot.tunnel();
            children.extend(snapshot.children().map(|c| (c.spi_in, was)));
        }
        let next_sequence = frozen.saturating_add(1);
        let Some(windows) = handed else {
            self.take_up_lost(now, (index, dvipa, epoch), next_sequence, tunnels);
            return children;
        };
        // They are handed over whole: all are there before the first packet is.
        for snapshot in tunnels {
            let known = |c: u32| Some((c, goes_on(windows.get(&c)?, next_sequence)));
            let of_tunnel = snapshot.children().filter_map(|c| known(c.spi_in)).collect();
            let succession = Succession::Handed { next_sequence, children: of_tunnel };
            self.restore(now, index, snapshot, succession);
        }
        children
    }

    /// An IKE tunnel of the owner before goes on, or does not. Gives the DVIPA whose records are to be written then, once for all
    /// that came with it.
    #[must_use]
    pub(super) fn restored(
        &mut self,
        now: Now,
        index: StackIndex,
        was: IkeTunnelId,
        is: Option<IkeTunnelId>,
    ) -> Option<IpAddr> {
        // Numbers are one owner's own: two DVIPAs may bring the same one (distributor.md R7).
        let at = is.and_then(|id| self.stacks[index].engine.ike_tunnel(id)).map(|v| v.local.ip());
        let fits = |(w, d): &&(IkeTunnelId, IpAddr)| *w == was && at.is_none_or(|at| at == *d);
        let place = self.continuing.waiting.keys().find(fits).copied();
        let items = place.and_then(|p| self.continuing.waiting.remove(&p)).unwrap_or_default();
        if let (Some(_), Some(dvipa)) = (is, at) {
            let items: Vec<u64> = items.into_iter().map(|(item, _)| item).collect();
            self.went_on(now, &items);
            return Some(dvipa);
        }
        if !items.is_empty() {
            let items = items.into_iter().map(|(item, initiate)| Renegotiate { item, initiate }).collect();
            self.stacks[index].engine.handle_command(now.instant, Command::Renegotiate(items));
            self.drain(now, index);
        }
        None
    }

    /// What has changed goes to the coupling facility before the peer hears of it.
    pub(super) fn store_changed(
        &mut self,
        now: Now,
        index: StackIndex,
        changed: Vec<(IkeTunnelId, StoreTicket)>,
    ) {
        let last: BTreeMap<_, _> = changed.into_iter().collect();
        let mut free = Vec::new();
        for (id, ticket) in last {
            let stack = &self.stacks[index];
            let keys = stack.engine.export(id, now.unix);
            let at = stack.engine.ike_tunnel(id).map(|v| v.local.ip());
            let known = self.continuing.places.get(&(index, id)).copied();
            let place = known.or_else(|| {
                let (dvipa, key) = (at?, self.continuing.key.as_ref()?);
                let epoch = *stack.continued.get(&dvipa)?;
                let name = [epoch.to_be_bytes().as_slice(), id.0.to_be_bytes().as_slice()].concat();
                Some((dvipa, RecordId(key.name_of(b"keys", &name))))
            });
            let Some((dvipa, record)) = place.filter(|(d, _)| stack.continued.contains_key(d)) else {
                free.push(ticket);
                continue;
            };
            match keys {
                Some(_) => drop(self.continuing.places.insert((index, id), (dvipa, record))),
                None => drop(self.continuing.places.remove(&(index, id))),
            }
            self.continuing.next_ticket += 1;
            let number = self.continuing.next_ticket;
            self.continuing.tickets.insert(number, (index, ticket, now.instant + STORE_TIME));
            let keys = keys.map(|k| Secret::new(k.encode().to_vec()));
            self.order(Order::Keys { dvipa, id: record, keys, ticket: number });
        }
        self.release(now, index, free);
    }

    fn release(&mut self, now: Now, index: StackIndex, tickets: Vec<StoreTicket>) {
        if tickets.is_empty() {
            return;
        }
        for ticket in tickets {
            self.stacks[index].engine.handle_command(now.instant, Command::Stored(ticket));
        }
        self.drain(now, index);
    }

    /// These stand in the coupling facility.
    pub(super) fn keys_stored(&mut self, now: Now, tickets: &[u64]) {
        for number in tickets {
            if let Some((index, ticket, _)) = self.continuing.tickets.remove(number) {
                self.release(now, index, vec![ticket]);
            }
        }
    }

    /// What the coupling facility does not take in time goes without it: a peer that hears nothing gives up.
    pub(super) fn release_late(&mut self, now: Now) {
        let late = |(_, (.., until)): &(&u64, &(StackIndex, StoreTicket, Instant))| *until <= now.instant;
        let numbers: Vec<u64> = self.continuing.tickets.iter().filter(late).map(|(n, _)| *n).collect();
        if !numbers.is_empty() {
            debug!(
                messages = numbers.len(),
                "sent before the coupling facility has them: a takeover may negotiate anew"
            );
            self.keys_stored(now, &numbers);
        }
    }

    /// Reserves sequence numbers above `used`.
    pub(super) fn raise_ceiling(&mut self, dvipa: IpAddr, epoch: u64, used: u64) {
        if self.takeovers.machine.serving(dvipa).is_some_and(|(_, e)| e == epoch) {
            self.order(Order::Ceiling { dvipa, highest: used.saturating_add(RESERVE) });
        }
    }

    /// The coupling facility has a higher ceiling.
    pub(super) fn ceiling_raised(&mut self, now: Now, dvipa: IpAddr, epoch: u64, highest: u64) {
        self.continuing.ceilings.insert(dvipa, (epoch, highest));
        self.reserved(now, dvipa);
        let owner =
            self.takeovers.machine.serving(dvipa).filter(|(_, e)| *e == epoch).map(|(s, _)| s.clone());
        if let Some(index) = owner.and_then(|s| self.index(&s)) {
            self.stacks[index].send(ToStack::Ceiling { dvipa, epoch, highest });
        }
    }
}
