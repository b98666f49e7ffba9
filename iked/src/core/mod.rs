//! The core: owns one IKE engine per stack and everything that is known about the stacks.
//!
//! It waits for nothing. The shell calls it with what happened (a link's event, a request of the management
//! interface, a report of the coupling facility, the time); it drives the engines and queues the effects, all of
//! which are in [`crate::act`]. Each call takes [`Now`], so tests move the clock by hand.

mod continued;
mod control;
mod defense;
mod display;
mod handover;
mod key;
pub(crate) mod ledger;
mod links;
mod manual;
mod policy;
mod recency;
mod takeover;
mod taking_up;
mod vipa;

use crate::act;
use crate::cf::keeper::{Order, Report};
use crate::cf::seal::{KeyInForce, SysplexKey};
use crate::config::{Config, Name, StackEntry};
use crate::events::{Events, What};
use crate::ike::Engine;
use crate::ike::command::Command;
use crate::ike::rules::IkeOffer;
use crate::policies::{PolicySource, StackPolicy};
use crate::request::{CoreError, CoreRequest};
use crate::stack_link::{Connection, LinkEvent, StackIndex};
use crate::takeover::{Input, StackState};
use crate::topology::Owners;
use ledger::Ledger;
use stack::control::{Answer, FilterSet, Heard, LastArrival, Question, SaView, StackConfig, ToStack};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use takeover::Takeovers;
use tokio::sync::mpsc;
use tracing::warn;

/// How often the SAs of a stack are looked at for inbound traffic.
const TICK: Duration = Duration::from_millis(TICK_MS);
const TICK_MS: u64 = 1_000;

/// One moment, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For timers.
    pub instant: Instant,
    /// Seconds since 1970 UTC, for people.
    pub unix: u64,
    /// `CLOCK_BOOTTIME`, for leases.
    pub boot: Duration,
}

impl Now {
    /// The Unix time of `at`.
    #[must_use]
    pub fn unix_of(&self, at: Instant) -> u64 {
        match at.checked_duration_since(self.instant) {
            Some(ahead) => self.unix.saturating_add(ahead.as_secs()),
            None => self.unix.saturating_sub((self.instant - at).as_secs()),
        }
    }
}

/// Answers that the core itself asked for, and answers to be put together at one moment.
#[derive(Debug)]
pub enum Internal {
    /// On which SAs of a stack something arrived lately, for liveness.
    Arrivals(StackIndex, Vec<LastArrival>),
    /// What a display request needs of the stack is there.
    Display(Box<display::Pending>),
    /// A policy was read.
    Policy(policy::Loaded),
    /// The next turn of taking up what the owner of a DVIPA before had.
    TakeUp {
        /// The DVIPA.
        dvipa: IpAddr,
        /// The epoch of the new owner.
        epoch: u64,
    },
    /// Where the SAs of a stack stand that was the owner of a DVIPA until then, or none where it has not said.
    Left {
        /// Stack.
        index: StackIndex,
        /// The DVIPA.
        dvipa: IpAddr,
        /// The epoch in which it was the owner.
        epoch: u64,
        /// All its SAs.
        sas: Vec<SaView>,
    },
}

/// Everything about one stack.
pub(crate) struct Stack {
    pub(crate) entry: StackEntry,
    pub(crate) engine: Engine,
    pub(crate) link: Option<Connection>,
    /// The configuration is in force.
    pub(crate) configured: bool,
    /// Id of the start of its process, 0 while it is not known.
    pub(crate) start: u64,
    /// Inbound SPIs of SAs that its process does not have any more.
    lost: Vec<u32>,
    /// What it was configured as last.
    last_config: Option<StackConfig>,
    /// For each configuration that it has not answered, what waits for the answer.
    unanswered: VecDeque<Vec<Input>>,
    /// Its process was started by an earlier daemon.
    adopted: bool,
    /// Why it could not be started, if that was the last news.
    unreachable: Option<String>,
    /// Policy in force; `None`: the defaults, because an operator or an error said so.
    pub(crate) policy: Option<Arc<dyn StackPolicy>>,
    /// The policy that was in force last, if the defaults are now.
    last_policy: Option<Arc<dyn StackPolicy>>,
    /// Offers of the KeyExchangeRules in force, by name.
    pub(crate) offers: BTreeMap<String, Vec<IkeOffer>>,
    filters: FilterSet,
    /// Filters without a policy.
    default_filters: FilterSet,
    /// When its time conditions are to be looked at again; `None`: there are none, or none that changes any more.
    look_at: Option<Instant>,
    /// Requests to put a policy in force so far.
    load_number: u64,
    /// DVIPAs of which it keeps SAs so that they can go on elsewhere, and their epochs.
    continued: BTreeMap<IpAddr, u64>,
    /// SA pairs that the stack was told to hold: inbound SPI → tunnel.
    pub(crate) installed: BTreeMap<u32, crate::ike::types::TunnelId>,
    /// Manual tunnels of the policy in force.
    manual: manual::Manual,
    pub(crate) ledger: Ledger,
    pub(crate) events: Events,
}

/// The core task's state.
pub struct Core {
    config: Arc<Config>,
    stacks: Vec<Stack>,
    owners: Owners,
    source: policy::Source,
    keeper: Option<mpsc::Sender<Order>>,
    internal: mpsc::Sender<Internal>,
    next_tick: Instant,
    takeovers: Takeovers,
    continuing: continued::Continuing,
    handovers: handover::Handovers,
    taking_up: taking_up::TakingUp,
    /// Key of the sysplex, for records and for messages between stacks.
    key: Option<KeyInForce>,
    /// What stacks say of others, and when they said it.
    heard: BTreeMap<(StackIndex, Name), (Instant, Heard)>,
    /// Whether the coupling facility works, and why not.
    facility: Option<(bool, String)>,
    /// Targets that get no new connections, for one DVIPA or for all.
    quiesced: BTreeSet<(Name, Option<IpAddr>)>,
    defenses: defense::Defenses,
    /// DVIPAs whose records could not be written: told once, and once more when it works again.
    unprotected: BTreeMap<IpAddr, String>,
    closing: bool,
    events: Events,
}

impl Core {
    /// A core for the stacks of `config`. `engine` makes the engine of a stack; `keeper` is there with a sysplex.
    pub fn new(
        config: Arc<Config>,
        source: Box<dyn PolicySource>,
        mut engine: impl FnMut(&StackEntry, Instant) -> Engine,
        sysplex: Option<(mpsc::Sender<Order>, KeyInForce)>,
        internal: mpsc::Sender<Internal>,
        now: Now,
    ) -> Self {
        let (keeper, key) = sysplex.unzip();
        // Names of records are made with the key that was in force at the beginning: they stay the same when it changes.
        let naming = key.as_ref().map(|k| SysplexKey::clone(&k.get()));
        let events = Events::default();
        let defaults: Vec<FilterSet> = config.stacks.iter().map(|s| source.default_filters(s)).collect();
        let source: policy::Source = Arc::new(Mutex::new(source));
        let stacks = config.stacks.iter().zip(defaults).map(|(entry, defaults)| {
            let mut stack = Stack {
                entry: entry.clone(),
                engine: engine(entry, now.instant),
                link: None,
                configured: false,
                start: 0,
                lost: Vec::new(),
                last_config: None,
                unanswered: VecDeque::new(),
                adopted: false,
                unreachable: None,
                policy: None,
                last_policy: None,
                offers: BTreeMap::new(),
                filters: defaults.clone(),
                default_filters: defaults,
                look_at: None,
                load_number: 0,
                continued: BTreeMap::new(),
                installed: BTreeMap::new(),
                manual: manual::Manual::default(),
                ledger: Ledger::new(naming.clone()),
                events: events.clone(),
            };
            // Grows over restarts of this daemon too, so that a stack can tell old tables from new ones.
            stack.filters.epoch = now.unix << 16;
            match policy::read(&source, entry) {
                Ok(policy) => stack.use_policy(Some(policy), now),
                Err(e) => warn!(stack = %entry.name, "policy not loaded, everything is denied: {e}"),
            }
            stack
        });
        let stacks = stacks.collect();
        let takeovers = Takeovers::new(&config);
        let quiesced = takeover::load_quiesced(&config);
        let defenses = defense::Defenses::load(&config, now.unix);
        Self {
            config,
            stacks,
            owners: Owners::new(),
            takeovers,
            continuing: continued::Continuing::new(naming),
            handovers: handover::Handovers::default(),
            taking_up: taking_up::TakingUp::default(),
            key,
            heard: BTreeMap::new(),
            facility: None,
            quiesced,
            defenses,
            source,
            keeper,
            internal,
            next_tick: now.instant + TICK,
            unprotected: BTreeMap::new(),
            closing: false,
            events,
        }
    }

    /// Where this core reports what happens.
    #[must_use]
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// A link says something.
    pub fn on_link(&mut self, now: Now, index: StackIndex, event: LinkEvent) {
        match event {
            LinkEvent::Up { hello, connection, adopted } => {
                self.link_up(now, index, hello, connection, adopted)
            }
            LinkEvent::Message(message) => self.message(now, index, *message),
            LinkEvent::Down { reason, ended } => {
                let stack = &mut self.stacks[index];
                (stack.link, stack.configured, stack.last_config) = (None, false, None);
                let down = What::StackDown { reason: reason.clone() };
                self.events.report(now.unix, stack.entry.name.as_str(), down);
                if !self.closing {
                    warn!(stack = %stack.entry.name, "link to the stack lost: {reason}");
                }
                self.gone(now, index, ended);
            }
            LinkEvent::Unreachable { reason, ended } => {
                let stack = &mut self.stacks[index];
                // It is tried again every few seconds; one line for each reason is enough.
                if stack.unreachable.as_ref() != Some(&reason) {
                    warn!(stack = %stack.entry.name, "stack not running: {reason}; it is tried again");
                    stack.unreachable = Some(reason);
                }
                self.gone(now, index, ended);
            }
        }
        self.drain(now, index);
    }

    /// The management interface asks.
    pub fn on_request(&mut self, now: Now, request: CoreRequest) {
        match request {
            CoreRequest::Stacks(reply) => {
                let all = (0..self.stacks.len()).map(|i| self.stack_info(i)).collect();
                // The asker may be gone; so it is with every reply.
                let _ = reply.send(all);
            }
            CoreRequest::Display { stack, want, reply } => self.display(now, &stack, want, reply),
            CoreRequest::Vipa(request) => self.vipa(now, request),
            CoreRequest::Defense(request) => self.defense(now, request),
            CoreRequest::Control { stack, action, objects, reply } => {
                let done = match self.find(&stack) {
                    Some(index) => {
                        let outcomes = self.control(now, index, action, &objects);
                        self.drain(now, index);
                        Ok(outcomes)
                    }
                    None => Err(CoreError::UnknownStack),
                };
                let _ = reply.send(done);
            }
            CoreRequest::LoadPolicy { stack, policy, reply } => match self.find(&stack) {
                Some(index) => self.load_policy(now, index, policy, Some(reply)),
                None => drop(reply.send(Err(CoreError::UnknownStack))),
            },
        }
    }

    /// The coupling facility's task reports.
    pub fn on_report(&mut self, now: Now, report: Report) {
        // The rest is of orders that this core does not give.
        if let Some(Report::Failed { dvipa, keys, reason, .. }) = self.takeover_report(now, report) {
            self.stacks.iter_mut().for_each(|s| s.ledger.failed(dvipa, &keys));
            if self.unprotected.get(&dvipa) != Some(&reason) {
                warn!(%dvipa, "takeover not protected: {reason}; traffic continues, it is tried again");
                self.report_protection(now, dvipa, Some(reason.clone()));
                self.unprotected.insert(dvipa, reason);
            }
        }
        (0..self.stacks.len()).for_each(|i| self.drain(now, i));
    }

    /// An answer that the core waited for.
    pub fn on_internal(&mut self, now: Now, internal: Internal) {
        match internal {
            Internal::Arrivals(index, arrivals) => {
                self.note_use(now, index, &arrivals);
                let engine = &mut self.stacks[index].engine;
                for LastArrival { spi_in, idle_in_ms } in arrivals {
                    let idle = Duration::from_millis(idle_in_ms);
                    engine.handle_command(now.instant, Command::InboundTraffic { spi_in, idle });
                }
                self.drain(now, index);
            }
            Internal::Display(pending) => self.go_on_display(now, *pending),
            Internal::TakeUp { dvipa, epoch } => self.go_on_taking_up(now, dvipa, epoch),
            Internal::Policy(loaded) => self.policy_read(now, loaded),
            Internal::Left { index, dvipa, epoch, sas } => {
                self.left_with(now, index, dvipa, epoch, sas);
            }
        }
    }

    /// Comes back to it when others have had their turn.
    fn in_another_turn(&self, internal: Internal) {
        let later = self.internal.clone();
        tokio::spawn(async move { later.send(internal).await });
    }

    /// When [`Core::on_deadline`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let engines = self.stacks.iter().filter_map(|s| s.engine.poll_timeout());
        engines.chain(self.takeovers.wake).chain(self.handovers.next()).fold(self.next_tick, Instant::min)
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, now: Now) {
        for index in 0..self.stacks.len() {
            if self.stacks[index].engine.poll_timeout().is_some_and(|t| t <= now.instant) {
                self.stacks[index].engine.handle_timeout(now.instant);
                self.drain(now, index);
            }
        }
        self.takeover_deadline(now);
        self.release_late(now);
        if self.next_tick <= now.instant {
            self.next_tick = now.instant + TICK;
            // The time of day may be set while this runs.
            for stack in &mut self.stacks {
                stack.engine.set_clock(now.instant, now.unix);
            }
            self.tick();
            self.timed_filters(now);
            self.expire_defense(now);
        }
    }

    fn tick(&mut self) {
        for (index, stack) in self.stacks.iter_mut().enumerate() {
            if let Some(keeper) = &self.keeper {
                act::write_again(stack, keeper);
            }
            let (Some(link), false) = (&stack.link, stack.installed.is_empty()) else { continue };
            // What is older was told at the last look.
            let answer = link.ask(Question::Arrivals { within_ms: 2 * TICK_MS });
            let internal = self.internal.clone();
            tokio::spawn(async move {
                if let Ok(Ok(Answer::Arrivals(arrivals))) = tokio::time::timeout(TICK, answer).await {
                    let _ = internal.send(Internal::Arrivals(index, arrivals)).await;
                }
            });
        }
    }

    /// Deletes all SAs, with Deletes to the peers; [`Core::is_idle`] says when that is done.
    pub fn shutdown(&mut self, now: Now) {
        self.closing = true;
        for index in 0..self.stacks.len() {
            self.stacks[index].engine.handle_command(now.instant, Command::Shutdown);
            self.drain(now, index);
        }
    }

    /// Nothing is left to say to any peer.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.stacks.iter().all(|s| s.link.is_none() || s.engine.is_idle())
    }

    /// Tells all stacks to undo what they did to the system and to end.
    pub fn end_stacks(&mut self) {
        for stack in &mut self.stacks {
            if let Some(link) = stack.link.take()
                && link.send(ToStack::Shutdown).is_err()
            {
                warn!(stack = %stack.entry.name, "does not take messages: it is left running");
            }
        }
    }

    fn find(&self, name: &str) -> Option<StackIndex> {
        self.stacks.iter().position(|s| s.entry.name.is(name) && s.link.is_some() && s.configured)
    }

    /// Acts upon everything the engine of a stack wants.
    fn drain(&mut self, now: Now, index: StackIndex) {
        let stack = &mut self.stacks[index];
        let drained = act::drain(stack, self.keeper.as_ref(), &self.config, &self.owners, now);
        self.store_changed(now, index, drained.changed);
        self.remade(now, index);
        let mut taken_up = BTreeSet::new();
        for (was, is) in drained.restored {
            taken_up.extend(self.restored(now, index, was, is));
        }
        for dvipa in taken_up.into_iter().filter(|dvipa| !self.taking_up.is_on(*dvipa)) {
            act::write_all(&mut self.stacks[index], self.keeper.as_ref(), now, dvipa);
        }
        for (item, outcome) in drained.negotiated {
            self.renegotiated(now, index, item, outcome);
        }
    }

    /// A stack that no link leads to any more.
    fn gone(&mut self, now: Now, index: StackIndex, ended: bool) {
        if ended {
            let stack = &mut self.stacks[index];
            stack.start = 0;
            // Whoever has ended has given up; what else was waited for never comes.
            stack.unanswered.clear();
            self.leaving_gone(now, index);
        }
        self.stack_is(now, index, if ended { StackState::Ended } else { StackState::Lost });
    }

    /// To the owner's stack, whether a takeover would find everything.
    fn report_protection(&self, now: Now, dvipa: IpAddr, missing: Option<String>) {
        let owner = self.owners.get(&dvipa).map_or("", |o| o.stack.as_str());
        self.events.report(now.unix, owner, What::Protection { dvipa, missing });
    }
}

impl Stack {
    /// Sends a command; a stack that takes none is cut off and begins again from the desired state.
    pub(crate) fn send(&mut self, message: ToStack) {
        if let Some(link) = &self.link
            && link.send(message).is_err()
        {
            warn!(stack = %self.entry.name, "does not take messages: link reset");
            self.link = None;
        }
    }
}

#[cfg(test)]
mod contact_tests;
#[cfg(test)]
mod handover_tests;
#[cfg(test)]
mod negotiation_tests;
#[cfg(test)]
mod taking_up_tests;
#[cfg(test)]
mod tests;
