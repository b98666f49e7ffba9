//! What a link's events mean: a stack that comes up is brought to the desired state, and its SAs are compared
//! with the engine's.

use super::{Core, Now, Stack};
use crate::act;
use crate::events::What;
use crate::ike::command::{ActivationMethod, Command, Initiate};
use crate::ike::types::TunnelId;
use crate::ike::view::{ChildView, SaState};
use crate::stack_link::{Connection, StackIndex};
use crate::takeover::{Input, StackState};
use crate::topology::{self, Plex};
use stack::control::{FromStack, Hello, SaNotice, StackConfig, ToStack};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tracing::{debug, info, warn};

/// How the SAs of a stack differ from the engine's.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// The engine has them, the stack does not: they are lost.
    pub(super) lost: Vec<u32>,
    /// The stack has them, nobody knows their keys any more: they go.
    pub(super) stray: Vec<u32>,
    /// Both have them.
    pub(super) common: Vec<u32>,
}

/// Compares by inbound SPI.
pub(super) fn compare<T>(engine: &BTreeMap<u32, T>, stack: &[u32]) -> Difference {
    let held: BTreeSet<u32> = stack.iter().copied().collect();
    let (common, lost) = engine.keys().copied().partition(|spi| held.contains(spi));
    let stray = held.into_iter().filter(|spi| !engine.contains_key(spi)).collect();
    Difference { lost, stray, common }
}

impl Core {
    /// A stack is there. Its desired state goes first; what it protects is denied until SAs are there, never sent
    /// in clear.
    pub(super) fn link_up(
        &mut self,
        now: Now,
        index: StackIndex,
        hello: Hello,
        connection: Connection,
        adopted: bool,
    ) {
        let stack = &mut self.stacks[index];
        let difference = compare(&stack.installed, &hello.sas);
        info!(stack = %stack.entry.name, adopted, configured = hello.configured, sas = hello.sas.len(),
            lost = difference.lost.len(), stray = difference.stray.len(), "stack connected");
        let other = hello.start_id != stack.start && stack.start != 0;
        stack.link = Some(connection);
        stack.last_config = None;
        (stack.adopted, stack.unreachable) = (adopted, None);
        stack.filters.epoch = stack.filters.epoch.max(hello.filter_epoch.saturating_add(1));
        if other {
            // The process of the last connection is not this one.
            self.gone(now, index, true);
        }
        // After the end of the other one, which forgets its start.
        self.stacks[index].start = hello.start_id;
        self.stack_is(now, index, StackState::Starting);
        let stack = &mut self.stacks[index];
        // What was not answered on the last connection is on this one.
        let waits: Vec<_> = stack.unanswered.drain(..).flatten().collect();
        self.configure_anyway(index, waits);
        // Before the table that lets packets in at all.
        self.defend(now, index);
        let stack = &mut self.stacks[index];
        stack.send(ToStack::SetFilters(Box::new(stack.filters.clone())));
        if difference.common.is_empty() {
            stack.send(ToStack::RemoveAllSas);
        } else {
            difference.stray.iter().for_each(|&spi_in| stack.send(ToStack::RemoveSa { spi_in }));
            activate_only_ones(stack, &difference.common);
        }
        let flows = stack.ledger.translations();
        if !flows.is_empty() {
            stack.send(ToStack::Translations { flows });
        }
        // What it had of them was stray.
        for message in stack.manual.all() {
            stack.send(message);
        }
        stack.lost = difference.lost;
    }

    /// What a stack has lost is negotiated again, once its peers' answers would reach it.
    fn make_lost_again(&mut self, now: Now, index: StackIndex) {
        let stack = &mut self.stacks[index];
        let children = stack.engine.children();
        for spi_in in std::mem::take(&mut stack.lost) {
            stack.installed.remove(&spi_in);
            stack.engine.handle_command(now.instant, Command::ChildLost { spi_in });
            // The newest SA of the tunnel is negotiated again; a peer that would do so itself finds it done.
            let child = children.iter().find(|c| c.spi_in == spi_in && c.state == SaState::Active);
            if let Some(again) = child.map(again) {
                stack.engine.handle_command(now.instant, Command::Initiate(Box::new(again)));
            }
        }
    }

    /// Sends a stack its configuration, if it is connected and something has changed or waits for the answer.
    pub(super) fn configure(&mut self, index: StackIndex, waits: Option<Input>) {
        let config = self.desired(index);
        let stack = &self.stacks[index];
        if waits.is_some() || stack.last_config.as_ref() != Some(&config) {
            self.configure_anyway(index, waits.into_iter().collect());
        }
    }

    fn configure_anyway(&mut self, index: StackIndex, waits: Vec<Input>) {
        let config = self.desired(index);
        let stack = &mut self.stacks[index];
        stack.unanswered.push_back(waits);
        if stack.link.is_some() {
            stack.last_config = Some(config.clone());
            stack.send(ToStack::Configure(Box::new(config)));
        }
    }

    /// What a stack is to be now.
    fn desired(&self, index: StackIndex) -> StackConfig {
        let plex = Plex {
            config: &self.config,
            machine: &self.takeovers.machine,
            starts: self.stacks.iter().map(|s| (s.entry.name.clone(), s.start)).collect(),
            remote: &self.takeovers.members,
            keys: &self.xcf_keys(),
            leased: super::takeover::lease(&self.config).is_some(),
            quiesced: &self.quiesced,
        };
        plex.stack_config(&self.stacks[index].entry)
    }

    pub(super) fn message(&mut self, now: Now, index: StackIndex, message: FromStack) {
        let Some(message) = self.taking_up.hold(index, message) else { return };
        let stack = &mut self.stacks[index];
        match message {
            FromStack::Configured { warnings } => {
                let first = !std::mem::replace(&mut stack.configured, true);
                // A stack that this daemon started says it on its standard error too, which is passed to the log.
                for w in warnings.iter().filter(|_| stack.adopted) {
                    warn!(stack = %stack.entry.name, "{}", w.escape_debug());
                }
                let waited = stack.unanswered.pop_front().unwrap_or_default();
                if first {
                    info!(stack = %stack.entry.name, "stack active");
                    stack.events.report(now.unix, stack.entry.name.as_str(), What::StackUp);
                    self.now_ready(now, index);
                    self.forget_others(now, index);
                    self.make_lost_again(now, index);
                    self.auto_activate(now, index);
                    // The others know its start from now on.
                    for other in (0..self.stacks.len()).filter(|i| *i != index) {
                        self.configure(other, None);
                    }
                }
                for input in waited {
                    self.configured_for(now, index, input);
                }
            }
            FromStack::Refused { reason } => {
                warn!(stack = %stack.entry.name, "refused by the stack: {}", reason.escape_debug());
            }
            FromStack::SaRefused { spi_in, reason } => match stack.manual.refused(spi_in) {
                Some((id, action)) => {
                    let (name, reason) = (&stack.entry.name, reason.escape_debug());
                    warn!(stack = %name, tunnel = %id, "manual tunnel {action} is not active: {reason}");
                }
                None => act::child_refused(stack, now, spi_in, &reason),
            },
            FromStack::Ike(d) => {
                stack.engine.handle_datagram(now.instant, d.local, d.remote, &d.bytes);
            }
            FromStack::Acquire(acquire) => {
                let started = match &stack.policy {
                    Some(policy) => policy.start_on_demand(&acquire).and_then(|i| {
                        let name = &stack.entry.name;
                        match topology::may_use(&self.config, &self.owners, name, i.local_endpoint) {
                            true => Ok(i),
                            false => Err(format!("{} is owned by another stack", i.local_endpoint)),
                        }
                    }),
                    None => Err("no policy is in force".into()),
                };
                match started {
                    Ok(mut initiate) => {
                        initiate.acquire = Some(acquire.id);
                        stack.engine.handle_command(now.instant, Command::Initiate(Box::new(initiate)));
                    }
                    Err(reason) => act::acquire_failed(stack, &acquire, &reason),
                }
            }
            FromStack::Sa { spi_in, notice } => {
                let command = match notice {
                    SaNotice::FirstInbound => Command::InboundTraffic { spi_in, idle: Duration::ZERO },
                    SaNotice::SoftLimit => Command::SoftLimit { spi_in },
                    SaNotice::HardLimit => Command::ChildLost { spi_in },
                };
                stack.engine.handle_command(now.instant, command);
            }
            FromStack::Log { .. } if !stack.adopted => {}
            FromStack::Log { warning: true, text } => {
                warn!(target: "stackd", stack = %stack.entry.name, "{}", text.escape_debug());
            }
            FromStack::Log { warning: false, text } => {
                info!(target: "stackd", stack = %stack.entry.name, "{}", text.escape_debug());
            }
            message @ (FromStack::Heard(_)
            | FromStack::OwnerHeard { .. }
            | FromStack::Rebuilt { .. }
            | FromStack::Idle { .. }
            | FromStack::Relayed { .. }) => self.takeover_message(now, index, message),
            FromStack::CeilingWanted { dvipa, epoch, highest_used } => {
                self.raise_ceiling(dvipa, epoch, highest_used);
            }
            FromStack::Translations { tunnel, flows } => {
                act::translated(stack, self.keeper.as_ref(), now, TunnelId(tunnel), flows);
            }
            // The link keeps these.
            FromStack::Hello(_) | FromStack::Answer { .. } => debug!("out of place"),
        }
    }

    /// A stack with policy and configuration may own what it is there for; without policy it would attract what it
    /// must deny.
    pub(super) fn now_ready(&mut self, now: Now, index: StackIndex) {
        let stack = &self.stacks[index];
        if stack.configured && stack.link.is_some() {
            let state = if stack.policy.is_some() { StackState::Ready } else { StackState::Configured };
            self.stack_is(now, index, state);
        }
    }
}

/// A rekey's last step may have been lost with the connection: what is alone in its tunnel is sent on.
fn activate_only_ones(stack: &mut Stack, common: &[u32]) {
    let mut per_tunnel: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    for spi in common {
        if let Some(tunnel) = stack.installed.get(spi) {
            per_tunnel.entry(*tunnel).or_default().push(*spi);
        }
    }
    for spis in per_tunnel.into_values() {
        if let [spi_in] = spis[..] {
            stack.send(ToStack::ActivateOutbound { spi_in });
        }
    }
}

fn again(child: &ChildView) -> Initiate {
    Initiate {
        rule: child.rule.clone(),
        local_endpoint: child.local.ip(),
        remote_endpoint: child.remote.ip(),
        remote_id: None,
        nat_port: child.nat_remote.then_some(child.remote.port()),
        local: child.local_selectors.clone(),
        remote: child.remote_selectors.clone(),
        local_dyn_vpn_rule: child.local_dyn_vpn_rule.clone(),
        method: match child.method {
            ActivationMethod::Remote => ActivationMethod::OnDemand,
            other => other,
        },
        acquire: None,
        initial_contact: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(engine: &[u32], stack: &[u32]) -> Difference {
        compare(&engine.iter().map(|s| (*s, ())).collect(), stack)
    }

    #[test]
    fn every_sa_is_lost_stray_or_common() {
        assert_eq!(difference(&[], &[]), Difference::default());
        let d = difference(&[1, 2, 3], &[2, 3, 4, 4]);
        assert_eq!(d, Difference { lost: vec![1], stray: vec![4], common: vec![2, 3] });
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_forgotten_or_doubled(e: BTreeSet<u8>, s: Vec<u8>) {
            let engine: Vec<u32> = e.iter().map(|x| u32::from(*x)).collect();
            let stack: Vec<u32> = s.iter().map(|x| u32::from(*x)).collect();
            let d = difference(&engine, &stack);
            let union: BTreeSet<u32> = engine.iter().chain(&stack).copied().collect();
            let mut all: Vec<u32> = [d.lost, d.stray, d.common].concat();
            all.sort_unstable();
            proptest::prop_assert_eq!(all, union.into_iter().collect::<Vec<_>>());
        }
    }
}
