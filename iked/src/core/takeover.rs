//! The takeover machine in the core: what happens becomes its inputs, what it wants becomes configurations of
//! stacks, commands of IKE engines, orders to the coupling facility and messages to other systems.

use super::recency::children_in_order;
use super::{Core, Now};
use crate::act;
use crate::cf::fence::Contents;
use crate::cf::keeper::{AliveSeen, NotOwned, Order, Progress, Report};
use crate::cf::record::{Member, Phase1, Phase2, RecordId};
use crate::cf::{self, RecordKey, Revision};
use crate::config::{Config, Facility, Name};
use crate::events::What;
use crate::ike::command::{Command, Renegotiate};
use crate::ike::event::Outcome as Negotiated;
use crate::ike::types::Identity;
use crate::stack_link::StackIndex;
use crate::takeover::wire::{Frame, RECORDS, Records};
use crate::takeover::{
    ClaimFailure, Entry, Expected, Input, Known, Left, Machine, Message, Outcome, Output, Over, Plan,
    Progress as Done, Settings, StackState,
};
use crate::topology::{Ownership, is_target};
use stack::control::{FromStack, ToStack};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// What the core knows of takeovers beside the machine.
pub(super) struct Takeovers {
    pub(super) machine: Machine,
    /// When the machine wants to be called.
    pub(super) wake: Option<Instant>,
    /// Records of DVIPAs that were claimed or offered and are not taken over yet.
    found: BTreeMap<IpAddr, Contents>,
    /// Records that came from another system, until the offer does.
    handed: BTreeMap<IpAddr, Contents>,
    /// Negotiations under way: the record, and the one of its IKE tunnel.
    items: BTreeMap<u64, Item>,
    next_item: u64,
    /// New records that stand for earlier ones with another id, until they are written.
    moved: BTreeMap<(IpAddr, RecordKey), Vec<RecordKey>>,
    /// New owners that are being configured.
    announcing: BTreeMap<IpAddr, Announcing>,
    /// DVIPAs of which the owner was told.
    told: BTreeSet<IpAddr>,
    /// Stacks of other systems.
    pub(super) members: BTreeMap<Name, (Name, Member)>,
}

/// Translations in one frame between systems: as many octets as records have there, about.
const TRANSLATIONS: usize = 1024;
/// Translations of one DVIPA that are taken from another system: as many as a stack keeps.
const MAX_TRANSLATIONS: usize = 65_536;

/// File of the targets that operators took out, in the state folder.
const QUIESCED: &str = "quiesced";

/// Reads what [`Core::save_quiesced`] wrote; lines that name nothing are left out.
pub(super) fn load_quiesced(config: &Config) -> BTreeSet<(Name, Option<IpAddr>)> {
    let text = crate::config::read_bounded(&config.state_dir.join(QUIESCED)).unwrap_or_default();
    let line = |l: &str| {
        let (target, dvipa) = l.split_once(' ')?;
        let dvipa = if dvipa == "*" { None } else { Some(dvipa.parse().ok()?) };
        Some((Name::parse(target).ok()?, dvipa))
    };
    text.lines().filter_map(line).collect()
}

/// A new owner that does not speak for its address yet.
struct Announcing {
    index: StackIndex,
    epoch: u64,
    /// It had the DVIPA before.
    again: bool,
    /// What is to be negotiated, where what goes on has been taken up.
    items: Option<Vec<Renegotiate>>,
}

/// A negotiation in the place of an earlier owner's SA.
struct Item {
    dvipa: IpAddr,
    child: RecordKey,
    ike: RecordKey,
    behind_nat: bool,
}

/// How long an owner may speak after its last renewal; `None`: every stack is of this system.
pub(super) fn lease(config: &Config) -> Option<Duration> {
    match config.sysplex.as_ref()?.facility {
        Facility::Sled => None,
        Facility::Etcd => Some(config.sysplex.as_ref()?.lease),
    }
}

impl Takeovers {
    pub(super) fn new(config: &Config) -> Self {
        let plan = |d: &crate::config::Dvipa| Plan {
            address: d.address,
            candidates: d.candidates().cloned().collect(),
            giveback: d.giveback,
        };
        let settings = Settings { system: config.system.clone(), lease: lease(config) };
        let stacks = config.stacks.iter().map(|s| s.name.clone());
        Self {
            machine: Machine::new(settings, stacks, config.dvipas.iter().map(plan)),
            wake: None,
            found: BTreeMap::new(),
            handed: BTreeMap::new(),
            items: BTreeMap::new(),
            next_item: 0,
            moved: BTreeMap::new(),
            announcing: BTreeMap::new(),
            told: BTreeSet::new(),
            members: BTreeMap::new(),
        }
    }
}

impl Core {
    /// Asks the coupling facility to tell of owners, members and lives.
    pub fn watch(&mut self, now: Now) {
        let dvipas: Vec<_> = self.config.dvipas.iter().map(|d| d.address).collect();
        self.order(Order::Watch { dvipas });
        let config = Arc::clone(&self.config);
        for d in &config.dvipas {
            if d.candidates().any(|stack| self.index(stack).is_some()) {
                self.order(Order::Mirror { dvipa: d.address });
            }
        }
        if self.config.dvipas.is_empty() || self.keeper.is_none() {
            self.takeover(now, Input::Synced);
        }
    }

    /// The owner of every DVIPA was told, or the store does not answer.
    #[must_use]
    pub fn knows_owners(&self) -> bool {
        self.keeper.is_none()
            || self.takeovers.told.len() >= self.config.dvipas.len()
            || !self.unprotected.is_empty()
    }

    /// Gives the machine an input and does what it wants.
    pub(super) fn takeover(&mut self, now: Now, input: Input) {
        let announced = match &input {
            Input::Announced { dvipa, .. } => Some(*dvipa),
            _ => None,
        };
        self.takeovers.machine.handle(now.boot, input);
        self.carry_out(now);
        if let Some(dvipa) = announced {
            self.negotiate(now, dvipa);
        }
    }

    /// Does what is due for the machine.
    pub(super) fn takeover_deadline(&mut self, now: Now) {
        if self.takeovers.wake.is_some_and(|t| t <= now.instant) {
            self.takeovers.machine.on_time(now.boot);
            self.carry_out(now);
        }
        self.reserve_no_longer(now);
    }

    /// Does everything that the machine wants.
    pub(super) fn carry_out(&mut self, now: Now) {
        while let Some(output) = self.takeovers.machine.poll() {
            self.do_output(now, output);
        }
        let deadline = self.takeovers.machine.deadline();
        self.takeovers.wake = deadline.map(|at| now.instant + at.saturating_sub(now.boot));
    }

    pub(super) fn order(&mut self, order: Order) {
        if let Some(keeper) = &self.keeper
            && keeper.try_send(order).is_err()
        {
            warn!("the coupling facility's task takes no orders");
        }
    }

    fn do_output(&mut self, now: Now, output: Output) {
        match output {
            Output::Serve { stack } => self.serve(&stack),
            Output::Retire { stack } => self.order(Order::Retire { stack: stack.as_str().to_owned() }),
            Output::End { stack } => self.order(Order::End { stack: stack.as_str().to_owned() }),
            Output::Claim { dvipa, stack, expected, over, above } => {
                let seen = Progress { epoch: above, ceiling: None };
                self.order(Order::Heard { dvipa, seen });
                let over = over.map(|Over { stack, system, revision }| AliveSeen {
                    system: system.as_str().to_owned(),
                    stack: stack.as_str().to_owned(),
                    revision: Revision(revision),
                });
                let expected = match expected {
                    Expected::Any => cf::keeper::Expected::Any,
                    Expected::Nobody => cf::keeper::Expected::Nobody,
                    Expected::Owner(stack, epoch) => {
                        cf::keeper::Expected::Owner { stack: stack.as_str().to_owned(), epoch }
                    }
                };
                self.order(Order::Claim { dvipa, stack: stack.as_str().to_owned(), expected, over });
            }
            Output::Withdraw { dvipa } => self.order(Order::Withdraw { dvipa }),
            Output::Clear { dvipa } => self.order(Order::ClearOlder(dvipa)),
            Output::Lease { stack, until } => {
                let until_boot_ns = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
                if let Some(index) = self.index(&stack) {
                    self.stacks[index].send(ToStack::Lease { until_boot_ns });
                }
            }
            Output::Configure => self.configure_all(now, None),
            Output::TakeOver { dvipa, stack, epoch, from, planned, again } => {
                info!(%dvipa, %stack, epoch, from = from.as_ref().map_or("-", Name::as_str), planned, "owned");
                let changed = What::OwnerChanged {
                    dvipa,
                    owner: Some(stack.as_str().to_owned()),
                    from: from.as_ref().map(|f| f.as_str().to_owned()),
                    epoch,
                };
                self.events.report(now.unix, stack.as_str(), changed);
                self.take_over_reserved(now, dvipa, stack, epoch, again);
            }
            Output::GiveUp { dvipa, stack, epoch, planned } => {
                info!(%dvipa, %stack, epoch, planned, "given up");
                let from = Some(stack.as_str().to_owned());
                let changed = What::OwnerChanged { dvipa, owner: None, from, epoch };
                self.events.report(now.unix, stack.as_str(), changed);
                self.give_up(now, dvipa, &stack, epoch, planned);
            }
            Output::Kill { stack } => {
                if let Some(link) = self.index(&stack).and_then(|i| self.stacks[i].link.as_ref()) {
                    link.kill();
                }
            }
            Output::Send { from, to, message, with_records } => {
                self.say(now, &from, &to, message, with_records);
            }
            Output::Done(entry) => {
                self.events.meters().took_over(&entry);
                log_entry(&entry);
            }
            Output::Note { dvipa, warning: true, text } => warn!(%dvipa, "{text}"),
            Output::Note { dvipa, warning: false, text } => info!(%dvipa, "{text}"),
        }
    }

    /// What operators took out of the distribution outlives this daemon.
    pub(super) fn save_quiesced(&self) {
        let line = |(target, dvipa): &(Name, Option<IpAddr>)| {
            format!("{target} {}\n", dvipa.map_or_else(|| "*".to_owned(), |d| d.to_string()))
        };
        let text: String = self.quiesced.iter().map(line).collect();
        let folder = &self.config.state_dir;
        if let Err(e) = crate::config::replace_file(folder, QUIESCED, &text) {
            warn!(
                "{}: {e}: quiesced targets will be forgotten when iked ends",
                folder.join(QUIESCED).display()
            );
        }
    }

    pub(super) fn index(&self, stack: &Name) -> Option<StackIndex> {
        self.stacks.iter().position(|s| s.entry.name == *stack)
    }

    fn serve(&mut self, stack: &Name) {
        let Some(index) = self.index(stack) else { return };
        let s = &self.stacks[index];
        let part = |f: &dyn Fn(&crate::config::Dvipa) -> bool| self.config.dvipas.iter().any(f);
        let member = Member {
            xcf: s.entry.xcf.as_ref().map(|x| x.address),
            start: s.start,
            distributor: part(&|d| d.candidates().any(|c| c == stack)),
            target: part(&|d| is_target(d, stack)),
        };
        let lease = lease(&self.config);
        self.order(Order::Serve { stack: stack.as_str().to_owned(), member, lease });
    }

    /// Owners as the machine has them.
    fn refresh_owners(&mut self, now: Now) {
        let views = self.takeovers.machine.views(now.boot).into_iter();
        let owner = |v: crate::takeover::DvipaView| {
            let (address, epoch) = (v.address, v.epoch);
            v.owner
                .filter(|_| !self.handovers.is_reserving(address))
                .map(|stack| (address, Ownership { stack, epoch }))
        };
        self.owners = views.filter_map(owner).collect();
    }

    /// Brings the stacks that it concerns to their desired state; first of all `first`, whose input waits for that.
    pub(super) fn configure_all(&mut self, now: Now, mut first: Option<(StackIndex, Input)>) {
        self.refresh_owners(now);
        let mut order: Vec<StackIndex> = (0..self.stacks.len()).collect();
        if let Some((index, _)) = &first {
            order.sort_by_key(|i| i != index);
        }
        for index in order {
            let waits = first.take_if(|(i, _)| *i == index).map(|(_, input)| input);
            self.configure(index, waits);
        }
        for ended in (0..self.stacks.len()).filter(|i| self.stacks[*i].start == 0).collect::<Vec<_>>() {
            self.forget_others(now, ended);
        }
    }

    /// Forgets what a stack that has ended, or is a new process, had of DVIPAs that another owns by now: nobody told it to give
    /// them up.
    pub(super) fn forget_others(&mut self, now: Now, index: StackIndex) {
        let name = self.stacks[index].entry.name.clone();
        let others: Vec<IpAddr> =
            self.owners.iter().filter(|(_, o)| o.stack != name).map(|(dvipa, _)| *dvipa).collect();
        for dvipa in others {
            if !self.stacks[index].engine.tunnels_of(dvipa).is_empty() {
                self.forget(now, index, dvipa);
            }
        }
    }

    pub(super) fn take_over(&mut self, now: Now, dvipa: IpAddr, stack: &Name, epoch: u64, again: bool) {
        let Some(index) = self.index(stack) else { return };
        let announced = Input::Announced { dvipa, stack: stack.clone() };
        // SAs that are handed over whole say nothing to anybody: they are there before the first packet is.
        let items = self.handovers.are_for(dvipa, epoch).then(|| {
            self.refresh_owners(now);
            let items = self.take_up(now, index, dvipa, epoch, again);
            self.drain(now, index);
            items
        });
        self.configure_all(now, Some((index, announced)));
        self.end_leaving(now, dvipa);
        for other in (0..self.stacks.len()).filter(|i| *i != index) {
            self.forget(now, other, dvipa);
        }
        self.takeovers.announcing.insert(dvipa, Announcing { index, epoch, again, items });
    }

    /// The address is announced: peers' answers find their way, and what the owner before had is made again.
    fn negotiate(&mut self, now: Now, dvipa: IpAddr) {
        let Some(Announcing { index, epoch, again, items }) = self.takeovers.announcing.remove(&dvipa) else {
            return;
        };
        let items = items.unwrap_or_else(|| self.take_up(now, index, dvipa, epoch, again));
        if self.taking_up.is_on(dvipa) {
            self.taking_up.put_off(dvipa, items);
        } else {
            self.negotiate_items(now, index, items);
        }
        self.drain(now, index);
    }

    /// All SAs of earlier owners are there that go on: what else there was, or is to be, is negotiated.
    pub(super) fn negotiate_items(&mut self, now: Now, index: StackIndex, items: Vec<Renegotiate>) {
        if !items.is_empty() {
            self.stacks[index].engine.handle_command(now.instant, Command::Renegotiate(items));
        }
        self.auto_activate(now, index);
    }

    /// Goes on with what the owner before had, and gives what is to be negotiated instead.
    fn take_up(
        &mut self,
        now: Now,
        index: StackIndex,
        dvipa: IpAddr,
        epoch: u64,
        again: bool,
    ) -> Vec<Renegotiate> {
        if again {
            // What lives is written again, under the new epoch.
            act::write_all(&mut self.stacks[index], self.keeper.as_ref(), now, dvipa);
        }
        let contents = self.takeovers.found.remove(&dvipa).unwrap_or_default();
        self.stacks[index].ledger.found(dvipa, &contents);
        for (path, reason) in &contents.refused {
            warn!(%dvipa, "record {} refused: {reason}", path.escape_debug());
        }
        let of_records = contents.phase2.iter().flat_map(|(.., r)| &r.translations);
        let flows: Vec<_> = of_records.chain(&contents.translations).copied().collect();
        if !flows.is_empty() {
            self.stacks[index].send(ToStack::Translations { flows });
        }
        let goes_on = self.go_on(now, index, dvipa, epoch, &contents);
        let elsewhere = self.identities_elsewhere(index, dvipa);
        let phase1_of = ike_tunnels(&contents);
        let mut items = Vec::new();
        for (id, _, child) in children_in_order(&contents) {
            let key = RecordKey::Phase2(*id);
            let phase1 = phase1_of.get(&child.phase1).copied();
            let Some(phase1) = phase1.filter(|p| why_not(Some(*p), child, now).is_none()) else { continue };
            if self.stacks[index].ledger.stands(dvipa, key) {
                continue;
            }
            let mut initiate = super::ledger::start_again(dvipa, phase1, child);
            let between = (phase1.local_id.clone(), phase1.remote_id.clone());
            initiate.initial_contact = elsewhere.as_ref().is_some_and(|known| !known.contains(&between));
            self.takeovers.next_item += 1;
            let item = self.takeovers.next_item;
            let ike = RecordKey::Phase1(child.phase1);
            let behind_nat = initiate.nat_port.is_some();
            self.takeovers.items.insert(item, Item { dvipa, child: key, ike, behind_nat });
            if let Some(was) = goes_on.get(&child.spi_in) {
                self.continuing.wait(dvipa, *was, item, initiate);
                continue;
            }
            debug!(%dvipa, rule = %initiate.rule, peer = %initiate.remote_endpoint, "negotiating again");
            items.push(Renegotiate { item, initiate });
        }
        items
    }

    /// Between whom IKE SAs of the sysplex are known beside those of this DVIPA here; `None`: others may have some that are not.
    /// INITIAL_CONTACT would end them too (distributor.md section 10).
    pub(super) fn identities_elsewhere(
        &self,
        index: StackIndex,
        dvipa: IpAddr,
    ) -> Option<HashSet<(Identity, Identity)>> {
        let unknown = self.owners.iter().filter(|(a, _)| **a != dvipa).any(|(a, o)| {
            let elsewhere = self.index(&o.stack).is_none();
            // Of an owner that was lost nothing lives, unless this system goes on with its SAs as soon as it has them.
            let to_come = self.takeovers.announcing.contains_key(a) || self.taking_up.is_on(*a);
            let goes_on = self.continues(*a) && (elsewhere || to_come);
            goes_on || (elsewhere && !self.takeovers.machine.replaces_lost(*a))
        });
        if unknown {
            return None;
        }
        let linked = self.stacks.iter().enumerate().filter(|(_, s)| s.link.is_some());
        let tunnels = linked.flat_map(|(i, s)| s.engine.ike_tunnels().into_iter().map(move |v| (i, v)));
        let others = tunnels.filter(|(i, v)| *i != index || v.local.ip() != dvipa);
        Some(others.filter_map(|(_, v)| v.local_id.zip(v.remote_id)).collect())
    }

    fn give_up(&mut self, now: Now, dvipa: IpAddr, stack: &Name, epoch: u64, planned: bool) {
        let Some(index) = self.index(stack) else { return };
        let s = &mut self.stacks[index];
        let tunnels = s.engine.tunnels_of(dvipa);
        let goes_on = s.continued.contains_key(&dvipa);
        if planned && !goes_on {
            // Said once, while the address is still ours; nobody waits for the answers (distributor.md T7).
            for id in tunnels {
                s.engine.handle_command(now.instant, Command::DeleteIke(id));
            }
            s.ledger.lost(dvipa);
            self.drain(now, index);
        }
        // It stops to speak before its SAs go: what still comes is given on, not refused.
        self.takeovers.announcing.remove(&dvipa);
        let gave_up = Input::GaveUp { dvipa, stack: stack.clone() };
        let hands_over = planned && goes_on && self.stacks[index].link.is_some();
        if hands_over {
            // Its SAs stay until it has said where they stand.
            self.handovers.leave(dvipa, index, epoch);
        }
        if planned {
            // The others learn of the new owner when it is one: until then what they send is given on.
            self.refresh_owners(now);
            self.configure(index, Some(gave_up));
        } else {
            self.configure_all(now, Some((index, gave_up)));
        }
        if !hands_over {
            self.forget(now, index, dvipa);
        }
    }

    /// The record of a negotiation in the place of an earlier owner's SA went on instead.
    pub(super) fn went_on(&mut self, now: Now, items: &[u64]) {
        for item in items {
            let Some(Item { dvipa, child, ike, .. }) = self.takeovers.items.remove(item) else { continue };
            for key in [child, ike] {
                self.takeover(now, Input::Record { dvipa, key, outcome: Outcome::Continued });
            }
        }
    }

    /// Nothing is known of the SAs of an address that is another's, and nothing is said to their peers.
    pub(super) fn forget(&mut self, now: Now, index: StackIndex, dvipa: IpAddr) {
        self.taking_up.stop(index, dvipa);
        let s = &mut self.stacks[index];
        s.continued.remove(&dvipa);
        s.ledger.lost(dvipa);
        for id in s.engine.tunnels_of(dvipa) {
            s.engine.handle_command(now.instant, Command::Forget(id));
        }
        self.drain(now, index);
    }

    /// A negotiation of a takeover has ended.
    pub(super) fn renegotiated(&mut self, now: Now, index: StackIndex, item: u64, outcome: Negotiated) {
        let Some(Item { dvipa, child, ike, behind_nat }) = self.takeovers.items.remove(&item) else { return };
        let (outcome, tunnel) = match outcome {
            Negotiated::Made(tunnel) => (Outcome::Remade, Some(tunnel)),
            // The NAT has forgotten it (distributor.md R16).
            Negotiated::GivenUp(reason) if behind_nat => {
                info!(%dvipa, "waits for a peer behind a NAT, which must begin: {}", reason.escape_debug());
                (Outcome::Waiting(format!("behind a NAT, it must begin: {reason}")), None)
            }
            Negotiated::Failed(reason) | Negotiated::GivenUp(reason) => {
                warn!(%dvipa, "not negotiated again: {}", reason.escape_debug());
                (Outcome::Failed(reason), None)
            }
        };
        // With other selectors it has another record: the old one is of no use as soon as that one stands.
        let place = tunnel.and_then(|t| self.stacks[index].ledger.place(t));
        if let Some(new) = place.filter(|new| *new != (dvipa, child)) {
            self.takeovers.moved.entry(new).or_default().extend([child, ike]);
        }
        for key in [child, ike] {
            self.takeover(now, Input::Record { dvipa, key, outcome: outcome.clone() });
        }
    }

    /// Records of SAs that were made: whatever an earlier owner left there is made again.
    pub(super) fn remade(&mut self, now: Now, index: StackIndex) {
        for (dvipa, key) in self.stacks[index].ledger.take_made() {
            self.takeover(now, Input::Record { dvipa, key, outcome: Outcome::Remade });
        }
    }

    fn say(&mut self, now: Now, from: &Name, to: &Name, message: Message, with_records: bool) {
        let Some(index) = self.index(from) else { return };
        let mut frames = Vec::new();
        if let (Message::Offer { dvipa, .. }, true) = (&message, with_records) {
            let (phase1, phase2) = act::records(&mut self.stacks[index], now, *dvipa);
            let first = Records { dvipa: Some(*dvipa), first: true, ..Records::default() };
            frames.push(Frame::Records(first));
            let part = |phase1, phase2| {
                Frame::Records(Records { dvipa: Some(*dvipa), first: false, phase1, phase2 })
            };
            frames.extend(phase1.chunks(RECORDS).map(|c| part(c.to_vec(), vec![])));
            frames.extend(phase2.chunks(RECORDS).map(|c| part(vec![], c.to_vec())));
            let flows: Vec<_> = phase2.iter().flat_map(|(.., r)| &r.translations).copied().collect();
            let translations = |c: &[_]| Frame::Translations { dvipa: *dvipa, flows: c.to_vec() };
            frames.extend(flows.chunks(TRANSLATIONS).map(translations));
        }
        if let Message::GaveUp { dvipa, epoch } = &message {
            frames.extend(self.handovers.frames(*dvipa, *epoch));
        }
        frames.push(Frame::Message(message));
        for frame in frames {
            let relay = ToStack::Relay { to: to.as_str().to_owned(), bytes: frame.encode() };
            self.stacks[index].send(relay);
        }
    }

    /// Another system says something.
    fn relayed(&mut self, now: Now, index: StackIndex, from: &str, bytes: &[u8]) {
        let Ok(from) = Name::parse(from) else { return };
        match Frame::decode(bytes) {
            Ok(Frame::Records(records)) => {
                let Some(dvipa) =
                    records.dvipa.filter(|d| self.config.dvipas.iter().any(|c| c.address == *d))
                else {
                    return;
                };
                let handed = self.takeovers.handed.entry(dvipa).or_default();
                if records.first {
                    *handed = Contents::default();
                }
                handed.phase1.extend(records.phase1);
                handed.phase2.extend(records.phase2);
            }
            Ok(Frame::Translations { dvipa, flows }) => {
                // They follow the first frame of their records.
                if let Some(handed) = self.takeovers.handed.get_mut(&dvipa) {
                    let room = MAX_TRANSLATIONS.saturating_sub(handed.translations.len());
                    handed.translations.extend(flows.into_iter().take(room));
                }
            }
            Ok(Frame::Windows(windows)) => self.hear_windows(&from, windows),
            Ok(Frame::Message(mut message)) => {
                if let Message::Offer { dvipa, handed, .. } = &mut message
                    && let Some(contents) = self.takeovers.handed.remove(dvipa)
                {
                    *handed = Some(left(&contents, now));
                    self.takeovers.found.insert(*dvipa, contents);
                }
                let to = self.stacks[index].entry.name.clone();
                self.takeover(now, Input::Message { from, to, message });
            }
            Err(e) => {
                warn!(stack = %self.stacks[index].entry.name, %from, "message of another system refused: {e}")
            }
        }
    }

    /// What a stack says about takeovers and other stacks.
    pub(super) fn takeover_message(&mut self, now: Now, index: StackIndex, message: FromStack) {
        let stack = self.stacks[index].entry.name.clone();
        let input = match message {
            FromStack::Heard(heard) => {
                let Ok(member) = Name::parse(&heard.member) else { return };
                let alive = heard.alive;
                self.heard.insert((index, member.clone()), (now.instant, heard));
                Input::Heard { stack: member, alive }
            }
            FromStack::OwnerHeard { dvipa, owner, epoch, ceiling } => {
                let Ok(owner) = Name::parse(&owner) else { return };
                if self.config.dvipas.iter().any(|d| d.address == dvipa) {
                    self.order(Order::Heard { dvipa, seen: Progress { epoch, ceiling } });
                }
                Input::OwnerHeard { dvipa, owner, epoch }
            }
            FromStack::Rebuilt { dvipa, epoch, connections, missing } => {
                if !missing.is_empty() {
                    warn!(%dvipa, %stack, "targets that did not report their connections: {}", missing.join(", "));
                }
                Input::Rebuilt { dvipa, epoch, connections, missing: missing.len() }
            }
            FromStack::Idle { dvipa } => Input::Drained { dvipa, stack },
            FromStack::Relayed { from, bytes } => return self.relayed(now, index, &from, &bytes),
            _ => return,
        };
        self.takeover(now, input);
    }

    /// What the coupling facility's task says about owners and stacks; the rest is given back.
    pub(super) fn takeover_report(&mut self, now: Now, report: Report) -> Option<Report> {
        let input = match report {
            Report::Owned { dvipa, stack, epoch, left: contents } => {
                self.unprotected.remove(&dvipa);
                self.takeovers.moved.retain(|(d, _), _| *d != dvipa);
                let Ok(stack) = Name::parse(&stack) else { return None };
                let records = left(&contents, now);
                info!(%dvipa, %stack, epoch, phase1 = contents.phase1.len(), phase2 = contents.phase2.len(),
                    "claimed; records of earlier epochs found");
                let since = contents.acquired.map(|at| now.instant.saturating_duration_since(at));
                let acquired = now.boot.saturating_sub(since.unwrap_or_default());
                self.reserve(dvipa, &contents);
                self.takeovers.found.insert(dvipa, *contents);
                Input::Claimed { dvipa, stack, epoch, acquired, records }
            }
            Report::NotOwned { dvipa, stack, reason } => {
                info!(%dvipa, %stack, "not taken: {reason}");
                let failure = match reason {
                    NotOwned::Withdrawn => ClaimFailure::Withdrawn,
                    NotOwned::Faster | NotOwned::Changed | NotOwned::Alive { .. } | NotOwned::Held { .. } => {
                        ClaimFailure::Overtaken
                    }
                };
                Input::ClaimFailed { dvipa, failure }
            }
            Report::Lost(dvipa) => Input::Fenced { dvipa },
            Report::StoreSetBack { dvipa, seen, found } => {
                warn!(%dvipa, seen = seen.epoch, found = found.epoch, "the coupling facility was set back");
                self.tell_owner(dvipa);
                // Heard late: it was taken anew already.
                if self.takeovers.machine.serving(dvipa).is_some_and(|(_, epoch)| epoch > seen.epoch) {
                    return None;
                }
                Input::SetBack { dvipa }
            }
            Report::Written { dvipa, keys } => {
                if self.unprotected.remove(&dvipa).is_some() {
                    info!(%dvipa, "records are written again: takeover is protected");
                    self.report_protection(now, dvipa, None);
                }
                self.stacks.iter_mut().for_each(|s| s.ledger.written(dvipa, &keys));
                for key in keys {
                    let older = self.takeovers.moved.remove(&(dvipa, key)).unwrap_or_default();
                    for key in older.into_iter().chain([key]) {
                        self.takeover(now, Input::Record { dvipa, key, outcome: Outcome::Stored });
                    }
                }
                return None;
            }
            Report::KeysStored { tickets, .. } => {
                self.keys_stored(now, &tickets);
                return None;
            }
            Report::CeilingRaised { dvipa, epoch, highest } => {
                self.ceiling_raised(now, dvipa, epoch, highest);
                return None;
            }
            Report::Cleared(dvipa) => Input::Cleared { dvipa },
            Report::Renewed { stack, sent_boot_ns, .. } => {
                let Ok(stack) = Name::parse(&stack) else { return None };
                Input::Renewed { stack, sent: Duration::from_nanos(sent_boot_ns) }
            }
            Report::Member { system, stack, member } => {
                self.member(now, &system, &stack, member);
                return None;
            }
            Report::Alive { system, stack, revision, alive } => {
                let (Ok(stack), Ok(system)) = (Name::parse(&stack), Name::parse(&system)) else {
                    return None;
                };
                let ended = alive.is_some_and(|a| a.ended);
                Input::Alive { stack, system, revision: revision.0, ended }
            }
            Report::OwnerIs { dvipa, owner, .. } => {
                self.tell_owner(dvipa);
                let known = owner.and_then(|o| {
                    let (stack, system) = (Name::parse(&o.stack).ok()?, Name::parse(&o.system).ok());
                    Some(Known { stack, system, epoch: o.epoch })
                });
                Input::OwnerIs { dvipa, owner: known }
            }
            Report::Protected { protected, reason } => {
                match protected {
                    true => info!("the coupling facility works: takeover is protected"),
                    false => warn!("takeover not protected: {reason}; traffic goes on, it is tried again"),
                }
                let missing = (!protected).then(|| reason.clone());
                for dvipa in self.owners.keys().copied().collect::<Vec<_>>() {
                    self.report_protection(now, dvipa, missing.clone());
                }
                self.facility = Some((protected, reason));
                return None;
            }
            Report::Facility { works } => Input::Facility { works },
            Report::Synced => Input::Synced,
            other => return Some(other),
        };
        self.takeover(now, input);
        None
    }

    fn tell_owner(&mut self, dvipa: IpAddr) {
        self.takeovers.told.insert(dvipa);
    }

    /// A stack of another system came or went.
    fn member(&mut self, now: Now, system: &str, stack: &str, member: Option<Member>) {
        let (Ok(system), Ok(stack)) = (Name::parse(system), Name::parse(stack)) else { return };
        if self.index(&stack).is_some() {
            if system != self.config.system {
                warn!(%stack, %system, "another system has a stack of this name: names must be unique in a sysplex");
            }
            return;
        }
        let before = match member {
            Some(m) => {
                self.takeovers.members.insert(stack, (system, m.clone())).is_none_or(|(_, old)| old != m)
            }
            // Its lease in the store ran out; its messages say better whether it is there.
            None => false,
        };
        if before {
            self.configure_all(now, None);
        }
    }

    /// A stack of this system is now so far.
    pub(super) fn stack_is(&mut self, now: Now, index: StackIndex, state: StackState) {
        let stack = self.stacks[index].entry.name.clone();
        let config = Arc::clone(&self.config);
        for d in &config.dvipas {
            let rank = d.backups.iter().position(|b| *b == stack).and_then(|rank| u8::try_from(rank).ok());
            if let Some(rank) = rank {
                let ready = (state == StackState::Ready).then(|| stack.as_str().to_owned());
                self.order(Order::Backup { dvipa: d.address, rank, stack: ready });
            }
        }
        self.takeover(now, Input::Stack { stack, state });
    }

    /// This daemon ends: what others can take is given to them first.
    pub fn hand_over(&mut self, now: Now) {
        self.takeovers.machine.stop(now.boot);
        self.carry_out(now);
    }

    /// Nothing is left that somebody else could take.
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        self.takeovers.machine.is_stopped()
    }
}

/// Why a dynamic tunnel is not negotiated again, if it is not. `phase1` is the record of its IKE tunnel.
fn why_not(phase1: Option<&Phase1>, child: &Phase2, now: Now) -> Option<Outcome> {
    match phase1 {
        None => Some(Outcome::Dropped("the record of its IKE tunnel is missing".into())),
        Some(_) if child.vpn_life_ends.is_some_and(|t| t <= now.unix) => {
            Some(Outcome::Dropped("its VpnLife has ended".into()))
        }
        Some(_) => None,
    }
}

/// IKE tunnels by the ids of their records.
fn ike_tunnels(contents: &Contents) -> HashMap<RecordId, &Phase1> {
    contents.phase1.iter().map(|(id, _, phase1)| (*id, phase1)).collect()
}

/// The records of `contents`, with what is known of each already. An IKE tunnel is negotiated again for the sake of one child.
fn left(contents: &Contents, now: Now) -> Vec<Left> {
    let phase1 = ike_tunnels(contents);
    let mut of_ike: HashMap<RecordId, Option<Outcome>> = HashMap::new();
    let mut all = Vec::with_capacity(contents.phase1.len() + contents.phase2.len());
    for (id, _, child) in &contents.phase2 {
        let outcome = why_not(phase1.get(&child.phase1).copied(), child, now);
        let ike = of_ike.entry(child.phase1).or_insert_with(|| outcome.clone());
        if outcome.is_none() {
            *ike = None;
        }
        all.push(Left { key: RecordKey::Phase2(*id), outcome });
    }
    for (id, ..) in &contents.phase1 {
        let childless = || Some(Outcome::Dropped("no dynamic tunnel belongs to it".into()));
        let outcome = of_ike.remove(id).unwrap_or_else(childless);
        all.push(Left { key: RecordKey::Phase1(*id), outcome });
    }
    all
}

/// One line for each takeover.
fn log_entry(e: &Entry) {
    let c = &e.counts;
    let ready = e.ready().map_or(0.0, |d| d.as_secs_f64() * 1000.0);
    let from = e.from.as_ref().map_or("-", Name::as_str);
    let reason = e.reason.as_deref().unwrap_or("-").escape_debug();
    match e.progress {
        Done::Done | Done::Running => {
            info!(dvipa = %e.dvipa, from, to = %e.to, epoch = e.epoch, cause = %e.cause,
            result = %e.progress, ready_ms = format_args!("{ready:.1}"), connections = e.connections, records = c.total,
            remade = c.remade, continued = c.continued, "takeover: {e}")
        }
        Done::Incomplete | Done::Overtaken | Done::Failed => {
            warn!(dvipa = %e.dvipa, from, to = %e.to, epoch = e.epoch, cause = %e.cause, result = %e.progress,
                ready_ms = format_args!("{ready:.1}"), connections = e.connections, records = c.total, remade = c.remade,
                continued = c.continued, waiting = c.waiting, failed = c.failed, reason = %reason, "takeover: {e}");
        }
    }
}
