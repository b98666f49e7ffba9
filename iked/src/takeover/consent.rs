//! Leases by consent: what an owner does while the coupling facility answers nobody.
//!
//! An owner whose life is not renewed must be silent after a lease, because another may take the address then. If
//! everybody who could take it promises not to, it need not: it asks the stacks of other systems that could own its
//! DVIPAs, over XCF, and speaks until a lease after it sent the question that all of them granted. Who grants waits a
//! lease and a quarter before it claims anything over this owner; who has claimed already, or knows of a higher epoch,
//! does not grant. A candidate that cannot be reached grants nothing, so a partition is no consent; nor does one whom the
//! coupling facility answers: an owner that alone is cut off from it makes room.

use super::dvipa::Step;
use super::machine::Machine;
use super::types::{Known, Message, Output, StackState, Time};
use crate::config::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Questions that are remembered; a grant that comes later is worth nothing any more.
const OPEN: usize = 16;

/// What a stack of this system has asked.
#[derive(Debug, Default)]
pub(super) struct Asks {
    next: Option<Time>,
    number: u64,
    open: BTreeMap<u64, (Time, BTreeSet<Name>)>,
}

impl Machine {
    /// Asks for consent where renewals are missing.
    pub(super) fn ask_for_consent(&mut self, now: Time) {
        let Some(lease) = self.settings.lease else { return };
        let stacks: Vec<Name> = self.local.keys().cloned().collect();
        for stack in stacks {
            let owned: Vec<(IpAddr, u64)> = self
                .dvipas
                .iter()
                .filter_map(|(a, d)| d.serving.as_ref().filter(|s| s.stack == stack).map(|s| (*a, s.epoch)))
                .collect();
            let Some(local) = self.local.get(&stack) else { continue };
            if owned.is_empty() || local.state != StackState::Ready {
                continue;
            }
            // Two renewals are missing.
            let due = if self.facility == Some(false) { now } else { local.renewed + lease * 2 / 5 };
            let at = due.max(local.asks.next.unwrap_or_default());
            if at > now {
                self.wake(at);
                continue;
            }
            let others: BTreeSet<Name> = owned
                .iter()
                .filter_map(|(a, _)| self.dvipas.get(a))
                .flat_map(|d| d.plan.candidates.iter())
                .filter(|c| !self.is_local(c))
                .cloned()
                .collect();
            let Some(local) = self.local.get_mut(&stack) else { continue };
            let asks = &mut local.asks;
            asks.number += 1;
            asks.next = Some(now + lease / 5);
            asks.open.insert(asks.number, (now, others.clone()));
            while asks.open.len() > OPEN {
                asks.open.pop_first();
            }
            let number = asks.number;
            if others.is_empty() {
                self.granted(now, &stack, None, number);
            }
            for to in others {
                let message = Message::Ask { number, owned: owned.clone() };
                self.out.push_back(Output::Send { from: stack.clone(), to, message, with_records: false });
            }
            self.wake(now + lease / 5);
        }
    }

    /// A stack of another system asks one of this system for its consent.
    pub(super) fn asked(
        &mut self,
        now: Time,
        owner: &Name,
        here: &Name,
        number: u64,
        owned: &[(IpAddr, u64)],
    ) {
        let (Some(patience), Some(lease)) = (self.patience(), self.settings.lease) else { return };
        for (dvipa, epoch) in owned {
            let known = Known { stack: owner.clone(), system: None, epoch: *epoch };
            self.owner_heard(now, *dvipa, known);
        }
        let free = |(dvipa, epoch): &(IpAddr, u64)| {
            self.dvipas.get(dvipa).is_none_or(|d| {
                let idle = matches!(d.step, Step::Steady | Step::GivingUp(_));
                idle && d.serving.is_none() && d.highest <= *epoch
            })
        };
        if !owned.iter().all(free) {
            return;
        }
        // The coupling facility answers here: then it is the owner that is cut off, and its records are no one's any more.
        let answered = self.local.get(here).is_some_and(|l| l.renewed + lease * 2 / 5 > now);
        if answered && self.facility != Some(false) {
            return;
        }
        for (dvipa, _) in owned {
            if let Some(d) = self.dvipas.get_mut(dvipa) {
                d.promised = Some((owner.clone(), now + patience));
            }
        }
        let (from, to) = (here.clone(), owner.clone());
        self.out.push_back(Output::Send {
            from,
            to,
            message: Message::Granted { number },
            with_records: false,
        });
    }

    /// A stack of another system has promised.
    pub(super) fn granted(&mut self, now: Time, here: &Name, from: Option<&Name>, number: u64) {
        let Some(lease) = self.settings.lease else { return };
        let Some(local) = self.local.get_mut(here) else { return };
        let Some((sent, waiting)) = local.asks.open.get_mut(&number) else { return };
        if let Some(from) = from {
            waiting.remove(from);
        }
        if waiting.is_empty() {
            let until = *sent + lease;
            local.asks.open.retain(|n, _| *n > number);
            if until > now {
                self.out.push_back(Output::Lease { stack: here.clone(), until });
            }
        }
    }

    /// A renewal came through: nobody need be asked for a while.
    pub(super) fn renewed(&mut self, stack: &Name, sent: Time) {
        let Some(lease) = self.settings.lease else { return };
        let Some(local) = self.local.get_mut(stack) else { return };
        if sent < local.ready || local.state != StackState::Ready {
            return;
        }
        local.renewed = local.renewed.max(sent);
        let next = local.renewed + lease * 2 / 5;
        self.out.push_back(Output::Lease { stack: stack.clone(), until: sent + lease });
        self.wake(next);
    }
}
