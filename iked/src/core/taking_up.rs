//! The many IKE tunnels that a lost owner left are taken up in turns with everything else: the first peers are answered while
//! the last tunnels are still to come.
//!
//! Until all are there, whoever wants a new IKE SA waits: a peer that has lost its own, a packet, a rule. What is only not
//! there yet would be made a second time otherwise, and an INITIAL_CONTACT would not end it.

use super::{Core, Internal, Now};
use crate::act;
use crate::ike::command::{Command, Renegotiate, Restore, Succession};
use crate::ike::snapshot::IkeSnapshot;
use crate::stack_link::StackIndex;
use stack::control::{FromStack, IkeDatagram};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// IKE tunnels of a turn: a millisecond. Tests have turns too.
const AT_ONCE: usize = if cfg!(test) { 1 } else { 16 };
/// Messages that wait, and how long one may be: a peer sends again what is not taken.
const MAX_WAITING: usize = 4096;
const MAX_OCTETS: usize = 4096;

/// What is not taken up yet, by DVIPA.
#[derive(Default)]
pub(super) struct TakingUp(BTreeMap<IpAddr, Rest>);

struct Rest {
    index: StackIndex,
    epoch: u64,
    /// The first number that the owner before cannot have used.
    next_sequence: u64,
    tunnels: VecDeque<IkeSnapshot>,
    /// What is negotiated when all are there.
    items: Vec<Renegotiate>,
    waiting: Vec<FromStack>,
}

impl TakingUp {
    /// IKE tunnels of the DVIPA are still to come.
    pub(super) fn is_on(&self, dvipa: IpAddr) -> bool {
        self.0.contains_key(&dvipa)
    }

    /// Keeps what is to be negotiated until all are there.
    pub(super) fn put_off(&mut self, dvipa: IpAddr, items: Vec<Renegotiate>) {
        if let Some(rest) = self.0.get_mut(&dvipa) {
            rest.items = items;
        }
    }

    /// Keeps a message that would begin an IKE SA, if it has to wait; gives it back otherwise.
    pub(super) fn hold(&mut self, index: StackIndex, message: FromStack) -> Option<FromStack> {
        let mut of_stack = self.0.iter_mut().filter(|(_, rest)| rest.index == index);
        let concerned = match &message {
            FromStack::Ike(d) if begins(d) => of_stack.find(|(dvipa, _)| **dvipa == d.local.ip()),
            FromStack::Acquire(_) => of_stack.next(),
            _ => None,
        };
        let Some((_, rest)) = concerned else { return Some(message) };
        let too_long = matches!(&message, FromStack::Ike(d) if d.bytes.len() > MAX_OCTETS);
        if rest.waiting.len() < MAX_WAITING && !too_long {
            rest.waiting.push(message);
        }
        None
    }

    /// The stack is not the owner any more.
    pub(super) fn stop(&mut self, index: StackIndex, dvipa: IpAddr) {
        self.0.retain(|of, rest| (*of, rest.index) != (dvipa, index));
    }
}

/// IKE_SA_INIT and IKE_AUTH requests (RFC 7296 section 3.1).
fn begins(d: &IkeDatagram) -> bool {
    const RESPONSE: u8 = 0x20;
    let (exchange_type, flags) = (d.bytes.get(18), d.bytes.get(19));
    matches!(exchange_type, Some(34 | 35)) && flags.is_some_and(|flags| flags & RESPONSE == 0)
}

impl Core {
    /// Takes up the IKE tunnels of an owner that was lost: the first of them at once, the others in turns.
    pub(super) fn take_up_lost(
        &mut self,
        now: Now,
        (index, dvipa, epoch): (StackIndex, IpAddr, u64),
        next_sequence: u64,
        tunnels: Vec<IkeSnapshot>,
    ) {
        // What waited for another attempt waits for this one.
        let waiting = self.taking_up.0.remove(&dvipa).map_or_else(Vec::new, |before| before.waiting);
        let mut rest =
            Rest { index, epoch, next_sequence, tunnels: tunnels.into(), items: Vec::new(), waiting };
        self.take_some_up(now, &mut rest);
        if !rest.tunnels.is_empty() || !rest.waiting.is_empty() {
            self.taking_up.0.insert(dvipa, rest);
            self.in_another_turn(Internal::TakeUp { dvipa, epoch });
        }
    }

    /// Another turn.
    pub(super) fn go_on_taking_up(&mut self, now: Now, dvipa: IpAddr, epoch: u64) {
        if self.taking_up.0.get(&dvipa).is_none_or(|rest| rest.epoch != epoch) {
            // A turn of an earlier attempt.
            return;
        }
        let is_owner = self.takeovers.machine.serving(dvipa).is_some_and(|(_, e)| e == epoch);
        let Some(mut rest) = self.taking_up.0.remove(&dvipa).filter(|_| is_owner) else { return };
        let index = rest.index;
        self.take_some_up(now, &mut rest);
        self.taking_up.0.insert(dvipa, rest);
        self.drain(now, index);
        if self.taking_up.0.get(&dvipa).is_some_and(|rest| !rest.tunnels.is_empty()) {
            return self.in_another_turn(Internal::TakeUp { dvipa, epoch });
        }
        let Some(rest) = self.taking_up.0.remove(&dvipa) else { return };
        act::write_all(&mut self.stacks[index], self.keeper.as_ref(), now, dvipa);
        self.negotiate_items(now, index, rest.items);
        for message in rest.waiting {
            self.message(now, index, message);
        }
        self.drain(now, index);
    }

    fn take_some_up(&mut self, now: Now, rest: &mut Rest) {
        let some = rest.tunnels.len().min(AT_ONCE);
        for snapshot in rest.tunnels.drain(..some) {
            let succession = Succession::Failed { next_sequence: rest.next_sequence };
            self.restore(now, rest.index, snapshot, succession);
        }
    }

    /// An IKE tunnel of the owner before goes on at the engine.
    pub(super) fn restore(
        &mut self,
        now: Now,
        index: StackIndex,
        snapshot: IkeSnapshot,
        succession: Succession,
    ) {
        let restore = Restore { snapshot, unix: now.unix, succession };
        self.stacks[index].engine.handle_command(now.instant, Command::Restore(Box::new(restore)));
    }
}
