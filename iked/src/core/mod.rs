//! The core: owns one IKE engine per stack and everything that is known about the stacks.
//!
//! It waits for nothing. The shell calls it with what happened (a link's event, a request of the management
//! interface, a report of the coupling facility, the time); it drives the engines and queues the effects, all of
//! which are in [`crate::act`]. Each call takes [`Now`], so tests move the clock by hand.

mod control;
mod display;
pub(crate) mod ledger;
mod links;
mod vipa;

use crate::act;
use crate::cf::keeper::{Expected, Order, Report};
use crate::cf::seal::SysplexKey;
use crate::config::{Config, StackEntry};
use crate::ike::Engine;
use crate::ike::command::{ActivationMethod, Command};
use crate::ike::rules::Rules;
use crate::policies::{PolicySource, StackPolicy};
use crate::request::{CoreError, CoreRequest};
use crate::stack_link::{Connection, LinkEvent, StackIndex};
use crate::topology::{Owners, Ownership};
use ledger::Ledger;
use stack::control::{Answer, FilterSet, Question, SaView, ToStack};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// How often the SAs of a stack are looked at for inbound traffic.
const TICK: Duration = Duration::from_secs(1);
/// How long after a claim the records of earlier epochs that nothing replaced are kept.
const CLEAR_AFTER: Duration = Duration::from_secs(60);

/// One moment, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For timers.
    pub instant: Instant,
    /// Seconds since 1970 UTC, for people.
    pub unix: u64,
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
    /// SAs of a stack, for liveness.
    Sas(StackIndex, Vec<SaView>),
    /// What a display request needs of the stack is there.
    Display(Box<display::Pending>),
}

/// Everything about one stack.
pub(crate) struct Stack {
    pub(crate) entry: StackEntry,
    pub(crate) engine: Engine,
    pub(crate) link: Option<Connection>,
    /// The configuration is in force.
    pub(crate) configured: bool,
    /// Its process was started by an earlier daemon.
    adopted: bool,
    /// Why it could not be started, if that was the last news.
    unreachable: Option<String>,
    /// Policy in force; `None`: the defaults, because an operator or an error said so.
    pub(crate) policy: Option<Arc<dyn StackPolicy>>,
    filters: FilterSet,
    /// SA pairs that the stack was told to hold: inbound SPI → tunnel.
    pub(crate) installed: BTreeMap<u32, crate::ike::types::TunnelId>,
    pub(crate) ledger: Ledger,
}

/// The core task's state.
pub struct Core {
    config: Arc<Config>,
    stacks: Vec<Stack>,
    owners: Owners,
    source: Box<dyn PolicySource>,
    keeper: Option<mpsc::Sender<Order>>,
    internal: mpsc::Sender<Internal>,
    next_tick: Instant,
    clear_at: BTreeMap<IpAddr, Instant>,
    /// DVIPAs whose records could not be written: told once, and once more when it works again.
    unprotected: BTreeMap<IpAddr, String>,
    closing: bool,
}

impl Core {
    /// A core for the stacks of `config`. `engine` makes the engine of a stack; `keeper` is there with a sysplex.
    pub fn new(
        config: Arc<Config>,
        mut source: Box<dyn PolicySource>,
        mut engine: impl FnMut(&StackEntry, Instant) -> Engine,
        sysplex: Option<(mpsc::Sender<Order>, SysplexKey)>,
        internal: mpsc::Sender<Internal>,
        now: Now,
    ) -> Self {
        let (keeper, key) = sysplex.unzip();
        let stacks = config.stacks.iter().map(|entry| {
            let mut stack = Stack {
                entry: entry.clone(),
                engine: engine(entry, now.instant),
                link: None,
                configured: false,
                adopted: false,
                unreachable: None,
                policy: None,
                filters: source.default_filters(),
                installed: BTreeMap::new(),
                ledger: Ledger::new(key.clone()),
            };
            // Grows over restarts of this daemon too, so that a stack can tell old tables from new ones.
            stack.filters.epoch = now.unix << 16;
            match source.load(entry) {
                Ok(policy) => stack.use_policy(Some(policy), now.instant),
                Err(e) => warn!(stack = %entry.name, "policy not loaded, everything is denied: {e}"),
            }
            stack
        });
        let stacks = stacks.collect();
        // Until the coupling facility answers, the configured owner is the owner: with the embedded one, nobody
        // else can be.
        let owners =
            config.dvipas.iter().map(|d| (d.address, Ownership { stack: d.owner.clone(), epoch: 1 }));
        let owners = owners.collect();
        Self {
            config,
            stacks,
            owners,
            source,
            keeper,
            internal,
            next_tick: now.instant + TICK,
            clear_at: BTreeMap::new(),
            unprotected: BTreeMap::new(),
            closing: false,
        }
    }

    /// Asks the coupling facility for the DVIPAs of this system.
    pub fn claim(&mut self) {
        for d in &self.config.dvipas {
            let order = Order::Claim {
                dvipa: d.address,
                stack: d.owner.as_str().to_owned(),
                expected: Expected::Any,
                over: None,
            };
            if let Some(keeper) = &self.keeper
                && keeper.try_send(order).is_err()
            {
                warn!(dvipa = %d.address, "not claimed: the coupling facility's task takes no orders");
            }
        }
    }

    /// A link says something.
    pub fn on_link(&mut self, now: Now, index: StackIndex, event: LinkEvent) {
        match event {
            LinkEvent::Up { hello, connection, adopted } => {
                self.link_up(now, index, hello, connection, adopted)
            }
            LinkEvent::Message(message) => self.message(now, index, *message),
            LinkEvent::Down { reason } => {
                let stack = &mut self.stacks[index];
                (stack.link, stack.configured) = (None, false);
                if !self.closing {
                    warn!(stack = %stack.entry.name, "link to the stack lost: {reason}");
                }
            }
            LinkEvent::Unreachable { reason } => {
                let stack = &mut self.stacks[index];
                // It is tried again every few seconds; one line for each reason is enough.
                if stack.unreachable.as_ref() != Some(&reason) {
                    warn!(stack = %stack.entry.name, "stack not running: {reason}; it is tried again");
                    stack.unreachable = Some(reason);
                }
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
            CoreRequest::Vipa(request) => self.vipa(request),
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
            CoreRequest::LoadPolicy { stack, policy, reply } => {
                let done = match self.find(&stack) {
                    Some(index) => self.load_policy(now, index, policy),
                    None => Err(CoreError::UnknownStack),
                };
                let _ = reply.send(done);
            }
        }
    }

    /// The coupling facility's task reports.
    pub fn on_report(&mut self, now: Now, report: Report) {
        match report {
            Report::Owned { dvipa, stack, epoch, left } => self.owned(now, dvipa, &stack, epoch, &left),
            Report::Written { dvipa, keys } => {
                if self.unprotected.remove(&dvipa).is_some() {
                    info!(%dvipa, "records are written again: takeover is protected");
                }
                self.stacks.iter_mut().for_each(|s| s.ledger.written(dvipa, &keys));
            }
            Report::Failed { dvipa, keys, reason, .. } => {
                self.stacks.iter_mut().for_each(|s| s.ledger.failed(dvipa, &keys));
                if self.unprotected.get(&dvipa) != Some(&reason) {
                    warn!(%dvipa, "takeover not protected: {reason}; traffic continues, it is tried again");
                    self.unprotected.insert(dvipa, reason);
                }
            }
            Report::Lost(dvipa) => self.lost(now, dvipa),
            Report::NotOwned { dvipa, stack, reason } => warn!(%dvipa, %stack, "not taken: {reason}"),
            Report::StoreSetBack { dvipa, seen, found } => {
                warn!(%dvipa, seen = seen.epoch, found = found.epoch, "the coupling facility was set back");
            }
            // Of stacks of other systems, and of orders that this core does not give.
            Report::Released { .. }
            | Report::KeysStored { .. }
            | Report::CeilingRaised { .. }
            | Report::Renewed { .. }
            | Report::Ended { .. }
            | Report::Cleared(_)
            | Report::Synced
            | Report::Facility { .. }
            | Report::Member { .. }
            | Report::Alive { .. }
            | Report::OwnerIs { .. }
            | Report::BackupIs { .. }
            | Report::Protected { .. } => {}
        }
        (0..self.stacks.len()).for_each(|i| self.drain(now, i));
    }

    /// An answer that the core waited for.
    pub fn on_internal(&mut self, now: Now, internal: Internal) {
        match internal {
            Internal::Sas(index, sas) => {
                let engine = &mut self.stacks[index].engine;
                for sa in sas {
                    // Only what is newer than the last look: everything older was told then.
                    if let Some(idle) = sa.idle_in_ms.map(Duration::from_millis)
                        && idle <= TICK * 2
                    {
                        engine
                            .handle_command(now.instant, Command::InboundTraffic { spi_in: sa.spi_in, idle });
                    }
                }
                self.drain(now, index);
            }
            Internal::Display(pending) => self.finish_display(now, *pending),
        }
    }

    /// When [`Core::on_deadline`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let engines = self.stacks.iter().filter_map(|s| s.engine.poll_timeout());
        engines.chain(self.clear_at.values().copied()).fold(self.next_tick, Instant::min)
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, now: Now) {
        for index in 0..self.stacks.len() {
            if self.stacks[index].engine.poll_timeout().is_some_and(|t| t <= now.instant) {
                self.stacks[index].engine.handle_timeout(now.instant);
                self.drain(now, index);
            }
        }
        let due: Vec<_> = self.clear_at.iter().filter(|(_, t)| **t <= now.instant).map(|(d, _)| *d).collect();
        for dvipa in due {
            self.clear_at.remove(&dvipa);
            if let Some(keeper) = &self.keeper
                && keeper.try_send(Order::ClearOlder(dvipa)).is_err()
            {
                self.clear_at.insert(dvipa, now.instant + CLEAR_AFTER);
            }
        }
        if self.next_tick <= now.instant {
            self.next_tick = now.instant + TICK;
            self.tick();
        }
    }

    fn tick(&mut self) {
        for (index, stack) in self.stacks.iter_mut().enumerate() {
            if let Some(keeper) = &self.keeper {
                act::write_again(stack, keeper);
            }
            let (Some(link), false) = (&stack.link, stack.installed.is_empty()) else { continue };
            let answer = link.ask(Question::Sas);
            let internal = self.internal.clone();
            tokio::spawn(async move {
                if let Ok(Ok(Answer::Sas(sas))) = tokio::time::timeout(TICK, answer).await {
                    let _ = internal.send(Internal::Sas(index, sas)).await;
                }
            });
        }
    }

    /// Reads all policies again (`SIGHUP`).
    pub fn reload(&mut self, now: Now) {
        for index in 0..self.stacks.len() {
            let name = self.stacks[index].entry.name.clone();
            match self.load_policy(now, index, true) {
                Ok(()) => info!(stack = %name, "policy reloaded"),
                Err(e) => warn!(stack = %name, "{e}; the policy before stays in force"),
            }
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
        act::drain(stack, self.keeper.as_ref(), &self.owners, now);
    }

    fn load_policy(&mut self, now: Now, index: StackIndex, policy: bool) -> Result<(), CoreError> {
        let stack = &mut self.stacks[index];
        let next = match policy {
            true => Some(self.source.load(&stack.entry).map_err(CoreError::Policy)?),
            false => None,
        };
        let next_filters = next.is_none().then(|| self.source.default_filters());
        stack.use_policy(next, now.instant);
        if let Some(defaults) = next_filters {
            stack.filters = FilterSet { epoch: stack.filters.epoch, ..defaults };
        }
        stack.send(ToStack::SetFilters(Box::new(stack.filters.clone())));
        self.auto_activate(now, index);
        self.drain(now, index);
        Ok(())
    }

    /// Starts the tunnels that are to be there always and are not.
    fn auto_activate(&mut self, now: Now, index: StackIndex) {
        let stack = &mut self.stacks[index];
        let Some(policy) = stack.policy.clone() else { return };
        for name in policy.auto_activate() {
            let up = stack.engine.children().iter().any(|c| c.local_dyn_vpn_rule.as_deref() == Some(&name));
            if up || !stack.configured {
                continue;
            }
            match policy.start_named(&name, ActivationMethod::Auto) {
                Ok(initiate) => {
                    stack.engine.handle_command(now.instant, Command::Initiate(Box::new(initiate)));
                }
                Err(e) => warn!(stack = %stack.entry.name, rule = %name, "not activated: {e}"),
            }
        }
    }

    /// Another one owns a DVIPA: nothing is sent for it any more, not even Deletes (distributor.md section 10).
    fn lost(&mut self, now: Now, dvipa: IpAddr) {
        warn!(%dvipa, "another stack owns it by now: it is given up here");
        self.owners.remove(&dvipa);
        self.clear_at.remove(&dvipa);
        // The stack stops to speak for the address before the engine says goodbye, so nobody hears it.
        (0..self.stacks.len()).for_each(|i| self.configure(i));
        for stack in &mut self.stacks {
            stack.ledger.lost(dvipa);
            for view in stack.engine.ike_tunnels().into_iter().filter(|v| v.local.ip() == dvipa) {
                stack.engine.handle_command(now.instant, Command::DeleteIke(view.id));
            }
        }
    }

    fn owned(&mut self, now: Now, dvipa: IpAddr, name: &str, epoch: u64, left: &crate::cf::fence::Contents) {
        let Some(index) = self.stacks.iter().position(|s| s.entry.name.is(name)) else { return };
        self.unprotected.remove(&dvipa);
        let stack = &mut self.stacks[index];
        info!(%dvipa, stack = %stack.entry.name, epoch, phase1 = left.phase1.len(), phase2 = left.phase2.len(),
            "owned; records of earlier epochs found");
        for (path, reason) in &left.refused {
            warn!(%dvipa, "record {} refused: {reason}", path.escape_debug());
        }
        let owner = Ownership { stack: stack.entry.name.clone(), epoch };
        stack.ledger.owned(dvipa, left);
        let before = self.owners.insert(dvipa, owner.clone());
        if before != Some(owner) {
            (0..self.stacks.len()).for_each(|i| self.configure(i));
        }
        self.clear_at.insert(dvipa, now.instant + CLEAR_AFTER);
        self.renegotiate_left(now, index);
    }
}

impl Stack {
    /// Puts a policy in force in the engine and in [`Stack::filters`], which the caller sends.
    fn use_policy(&mut self, policy: Option<Arc<dyn StackPolicy>>, now: Instant) {
        let epoch = self.filters.epoch + 1;
        match &policy {
            Some(p) => {
                self.filters = p.filters();
                self.engine.set_settings(p.settings());
                self.engine.set_rules(now, p.rules());
            }
            None => self.engine.set_rules(now, Rules::default()),
        }
        self.filters.epoch = epoch;
        self.policy = policy;
    }

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
mod negotiation_tests;
#[cfg(test)]
mod tests;
