//! Policies of the stacks: read beside the core, compared with the one in force, and put in force at once.
//!
//! Reading ten thousand rules takes longer than a stack may wait for its lease, so files are read on a thread for
//! blocking work; the core goes on and takes up the outcome. What was asked for last counts: an older outcome that comes
//! late is not used. A policy with a fault changes nothing.

use super::{Core, Internal, Now, Stack};
use crate::config::StackEntry;
use crate::events::What;
use crate::ike::command::{ActivationMethod, Command};
use crate::ike::covered;
use crate::ike::rules::{ChildRule, Rules, Settings};
use crate::ike::types::{IkeTunnelId, TunnelId};
use crate::ike::view::{ChildView, IkeView, SaState};
use crate::policies::{PolicySource, StackPolicy};
use crate::request::CoreError;
use crate::stack_link::StackIndex;
use crate::topology;
use stack::control::{FilterAction, FilterKind, FilterRule, FilterSet, FilterTotals, FilterView, ToStack};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tracing::{info, warn};

/// Where policies are read from; held only while one is read.
pub(super) type Source = Arc<Mutex<Box<dyn PolicySource>>>;
/// Who waits for a policy to be in force; `None`: a signal asked.
type Reply = Option<oneshot::Sender<Result<(), CoreError>>>;

/// How often time conditions are looked at, at least.
const LOOK: Duration = Duration::from_secs(60);

/// A policy that was read, or why it cannot be.
pub struct Loaded {
    index: StackIndex,
    /// Which of the requests this is the outcome of.
    number: u64,
    outcome: Result<Arc<dyn StackPolicy>, String>,
    reply: Reply,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("index", &self.index)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// Reads the policy of a stack.
pub(super) fn read(source: &Source, entry: &StackEntry) -> Result<Arc<dyn StackPolicy>, String> {
    // A panic while it was held has read nothing that could be half done.
    source.lock().unwrap_or_else(PoisonError::into_inner).load(entry)
}

impl Core {
    /// Reads all policies again (`SIGHUP`).
    pub fn reload(&mut self, now: Now) {
        for index in 0..self.stacks.len() {
            self.load_policy(now, index, true, None);
        }
    }

    /// Puts the policy of a stack in force once it is read, or the defaults at once.
    pub(super) fn load_policy(&mut self, now: Now, index: StackIndex, policy: bool, reply: Reply) {
        let stack = &mut self.stacks[index];
        stack.load_number += 1;
        let number = stack.load_number;
        if !policy {
            self.put_in_force(now, index, None);
            answer(reply, Ok(()));
            return;
        }
        let (source, internal, entry) =
            (Arc::clone(&self.source), self.internal.clone(), stack.entry.clone());
        tokio::task::spawn_blocking(move || {
            let outcome = read(&source, &entry);
            // The core has ended if nobody takes it.
            let _ = internal.blocking_send(Internal::Policy(Loaded { index, number, outcome, reply }));
        });
    }

    /// A policy was read.
    pub(super) fn policy_read(&mut self, now: Now, loaded: Loaded) {
        let Loaded { index, number, outcome, reply } = loaded;
        let stack = &self.stacks[index];
        let name = stack.entry.name.clone();
        let done = match outcome {
            Ok(_) if number != stack.load_number => {
                Err(CoreError::Policy("another request came while it was read".to_owned()))
            }
            Ok(policy) => {
                self.put_in_force(now, index, Some(policy));
                info!(stack = %name, "policy reloaded");
                Ok(())
            }
            Err(reason) => {
                warn!(stack = %name, "policy not loaded, the one before stays in force: {reason}");
                self.events.report(now.unix, name.as_str(), What::PolicyFailed { reason: reason.clone() });
                Err(CoreError::Policy(reason))
            }
        };
        answer(reply, done);
    }

    fn put_in_force(&mut self, now: Now, index: StackIndex, next: Option<Arc<dyn StackPolicy>>) {
        let policy = next.is_some();
        let stack = &mut self.stacks[index];
        stack.use_policy(next, now);
        stack.send(ToStack::SetFilters(Box::new(stack.filters.clone())));
        self.events.report(now.unix, stack.entry.name.as_str(), What::PolicyLoaded { policy });
        self.now_ready(now, index);
        self.auto_activate(now, index);
        self.drain(now, index);
    }

    /// Rules whose time has come or is over.
    pub(super) fn timed_filters(&mut self, now: Now) {
        for index in 0..self.stacks.len() {
            let stack = &mut self.stacks[index];
            if stack.look_at.is_none_or(|at| now.instant < at) {
                continue;
            }
            let policy = stack.policy.clone();
            stack.look_at = look_at(policy.as_deref(), now);
            let same = |p: &Arc<dyn StackPolicy>| {
                p.filters(now.unix).rules == stack.filters.rules
                    && stack.manual.is(&p.manual_tunnels(now.unix))
            };
            if policy.as_ref().is_some_and(same) {
                continue;
            }
            info!(stack = %stack.entry.name, "a time condition has come or is over");
            stack.use_policy(policy, now);
            stack.send(ToStack::SetFilters(Box::new(stack.filters.clone())));
            self.auto_activate(now, index);
            self.drain(now, index);
        }
    }

    /// Starts the tunnels that are to be there always and are not.
    pub(super) fn auto_activate(&mut self, now: Now, index: StackIndex) {
        let stack = &mut self.stacks[index];
        let Some(policy) = stack.policy.clone() else { return };
        for name in policy.auto_activate() {
            let up = stack.engine.children().iter().any(|c| c.local_dyn_vpn_rule.as_deref() == Some(&name));
            if up || !stack.configured {
                continue;
            }
            match policy.start_named(&name, ActivationMethod::Auto) {
                // Its owner does it, and this stack when it becomes the owner.
                Ok(initiate)
                    if !topology::may_use(
                        &self.config,
                        &self.owners,
                        &stack.entry.name,
                        initiate.local_endpoint,
                    ) => {}
                Ok(initiate) => {
                    stack.engine.handle_command(now.instant, Command::Initiate(Box::new(initiate)));
                }
                Err(e) => warn!(stack = %stack.entry.name, rule = %name, "not activated: {e}"),
            }
        }
    }
}

fn answer(reply: Reply, done: Result<(), CoreError>) {
    if let Some(reply) = reply {
        // The asker may be gone.
        let _ = reply.send(done);
    }
}

impl Stack {
    /// Puts a policy in force in the engine and in [`Stack::filters`], which the caller sends; `None`: the defaults. SAs go
    /// on, but for those that the policy does not cover any more.
    pub(super) fn use_policy(&mut self, policy: Option<Arc<dyn StackPolicy>>, now: Now) {
        let epoch = self.filters.epoch + 1;
        let wanted = policy.as_ref().map_or_else(Vec::new, |p| p.manual_tunnels(now.unix));
        for message in self.manual.replace(wanted, now.unix) {
            self.send(message);
        }
        let next = match &policy {
            Some(p) => {
                let rules = p.rules(now.unix);
                let over = uncovered(&self.engine.children(), &self.engine.ike_tunnels(), &rules);
                self.engine.set_settings(Settings { continued: self.continued.clone(), ..p.settings() });
                self.offers = rules.exchange.iter().map(|r| (r.name.clone(), r.offers.clone())).collect();
                self.engine.set_clock(now.instant, now.unix);
                self.engine.set_rules(now.instant, rules);
                for id in over {
                    info!(stack = %self.entry.name, tunnel = %format_args!("Y{}", id.0), "deleted: no rule covers it any more");
                    self.engine.handle_command(now.instant, Command::DeleteChild(id));
                }
                p.filters(now.unix)
            }
            None => {
                // SAs stay, unused: the policy may come back.
                self.offers.clear();
                self.engine.set_rules(now.instant, Rules::default());
                self.default_filters.clone()
            }
        };
        self.look_at = look_at(policy.as_deref(), now);
        self.filters = FilterSet { epoch, ..next };
        if policy.is_some() {
            self.last_policy.clone_from(&policy);
        }
        self.policy = policy;
    }

    /// The set that is not in force: the defaults under a policy, the policy under the defaults.
    pub(super) fn shelved(&self, unix: u64) -> Vec<FilterView> {
        let set = match (&self.policy, &self.last_policy) {
            (Some(_), _) => self.default_filters.clone(),
            (None, Some(policy)) => policy.filters(unix),
            (None, None) => return Vec::new(),
        };
        let view = |rule: FilterRule| {
            let kind = match rule.action {
                FilterAction::Ipsec { .. } => FilterKind::DynamicAnchor,
                FilterAction::Permit | FilterAction::Deny | FilterAction::Manual => FilterKind::Generic,
            };
            FilterView { rule, kind, totals: FilterTotals::default(), created: 0 }
        };
        set.rules.into_iter().map(view).collect()
    }
}

/// When a policy may have other rules in force. The wall clock may be set, and local time changes twice a year: while
/// a time condition is waited for, it is asked often.
fn look_at(policy: Option<&dyn StackPolicy>, now: Now) -> Option<Instant> {
    let change = policy?.next_change(now.unix)?;
    let ahead = Duration::from_secs(change.saturating_sub(now.unix));
    Some(now.instant + ahead.min(LOOK))
}

/// Tunnels whose rule is gone, does not cover them any more, or is not for their peer any more.
fn uncovered(children: &[ChildView], ikes: &[IkeView], rules: &Rules) -> Vec<TunnelId> {
    let mut by_name: HashMap<&str, Vec<&ChildRule>> = HashMap::new();
    for rule in &rules.child {
        by_name.entry(&rule.rule).or_default().push(rule);
    }
    let peers: HashMap<IkeTunnelId, &IkeView> =
        ikes.iter().filter(|ike| ike.remote_id.is_some()).map(|ike| (ike.id, ike)).collect();
    let lets = |child: &ChildView, rule: &ChildRule| {
        let Some(ike) = peers.get(&child.ike) else { return true };
        let exchange = rules.exchange.iter().find(|exchange| exchange.name == ike.rule);
        exchange.zip(ike.remote_id.as_ref()).is_none_or(|(exchange, peer)| exchange.lets(peer, rule))
    };
    let mut over: Vec<TunnelId> = children
        .iter()
        .filter(|c| c.state == SaState::Active)
        .filter(|c| {
            let named = by_name.get(c.rule.as_str()).map_or(&[][..], Vec::as_slice);
            let covers = |r: &&&ChildRule| {
                covered(&r.local, &c.local_selectors) && covered(&r.remote, &c.remote_selectors)
            };
            !named.iter().filter(covers).any(|r| lets(c, r))
        })
        .map(|c| c.id)
        .collect();
    over.sort_unstable();
    over.dedup();
    over
}
