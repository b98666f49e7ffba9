//! Many children to negotiate at once, after a takeover: in order, a few peers at a time, one IKE SA for each peer.
//!
//! A peer takes a place until its first child is decided on, but never longer than [`PLACE`]: those that do not answer go on
//! by themselves and hold nobody up (threats T51).

use super::Engine;
use crate::ike::command::{Initiate, Renegotiate};
use crate::ike::context::Verdict;
use crate::ike::event::{Event, Outcome};
use crate::ike::lifetime::retry_after;
use crate::ike::natt::NAT_PORT;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long a peer that has not answered takes a place.
const PLACE: Duration = Duration::from_secs(1);

/// The first wait before a peer is tried again, which doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(32);

/// Own endpoint, the peer's, and the port that a NAT has given it.
type Ends = (IpAddr, IpAddr, Option<u16>);

/// What is still to be negotiated.
#[derive(Debug, Default)]
pub(super) struct Renegotiation {
    last: u64,
    waiting: VecDeque<Peer>,
    /// Peers to be tried again.
    later: BTreeMap<(Instant, u64), Peer>,
    running: BTreeMap<u64, Running>,
    by_item: HashMap<u64, u64>,
    /// Until when running peers take a place.
    places: BTreeMap<u64, Instant>,
}

/// A peer with what is to be negotiated with it.
#[derive(Debug)]
struct Peer {
    number: u64,
    items: Vec<Renegotiate>,
    tries: u32,
    /// When it is given up; set with the first try.
    until: Option<Instant>,
}

/// A peer that is being tried.
#[derive(Debug)]
struct Running {
    peer: Peer,
    /// Items that are not decided on.
    open: usize,
    /// Items to be tried again, with the reason.
    silent: Vec<(Renegotiate, String)>,
}

impl Renegotiation {
    /// When [`Engine::go_on_renegotiating`] has to look at it.
    pub(super) fn next(&self) -> Option<Instant> {
        let later = self.later.keys().next().map(|(at, _)| *at);
        let place = self.places.values().min().copied().filter(|_| !self.waiting.is_empty());
        [later, place].into_iter().flatten().min()
    }

    /// Whether a peer is being tried, or will be.
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.later.is_empty() && self.running.is_empty()
    }
}

impl Engine {
    pub(super) fn renegotiate(&mut self, items: Vec<Renegotiate>) {
        let mut order: Vec<Ends> = Vec::new();
        let mut by_peer: HashMap<Ends, Vec<Renegotiate>> = HashMap::new();
        for item in items {
            let Initiate { local_endpoint, remote_endpoint, nat_port, .. } = item.initiate;
            let ends = (local_endpoint, remote_endpoint, nat_port);
            let of_peer = by_peer.entry(ends).or_default();
            if of_peer.is_empty() {
                order.push(ends);
            }
            of_peer.push(item);
        }
        for ends in order {
            let Some(items) = by_peer.remove(&ends) else { continue };
            self.renegotiation.last += 1;
            let number = self.renegotiation.last;
            self.renegotiation.waiting.push_back(Peer { number, items, tries: 0, until: None });
        }
    }

    /// Takes what was decided on and starts what there is place for.
    pub(super) fn go_on_renegotiating(&mut self) {
        if self.renegotiation.is_idle() {
            self.out.verdicts.clear();
            return;
        }
        loop {
            while let Some((item, verdict)) = self.out.verdicts.pop_front() {
                self.decided(item, verdict);
            }
            let now = self.now;
            while let Some(entry) = self.renegotiation.later.first_entry().filter(|e| e.key().0 <= now) {
                let peer = entry.remove();
                self.renegotiation.waiting.push_back(peer);
            }
            self.renegotiation.places.retain(|_, until| *until > now);
            if self.renegotiation.places.len() >= self.settings.renegotiate_at_once.max(1) {
                return;
            }
            let Some(peer) = self.renegotiation.waiting.pop_front() else { return };
            self.start_peer(peer);
        }
    }

    fn start_peer(&mut self, mut peer: Peer) {
        // What a NAT has forgotten it does not remember again before the peer itself begins: one try says it all. (It may keep
        // the port, or the peer only pretend to have a NAT; then it is a peer like any other.)
        let translated = peer.items.iter().any(|one| one.initiate.nat_port.is_some_and(|p| p != NAT_PORT));
        let patience = if translated { Duration::ZERO } else { self.settings.renegotiate_for };
        peer.until.get_or_insert(self.now + patience);
        peer.tries += 1;
        let items = peer.items.clone();
        let number = peer.number;
        self.renegotiation.places.insert(number, self.now + PLACE);
        for item in &items {
            self.renegotiation.by_item.insert(item.item, number);
        }
        let running = Running { peer, open: items.len(), silent: Vec::new() };
        self.renegotiation.running.insert(number, running);
        for item in items {
            self.initiate(item.initiate, Some(item.item));
        }
    }

    fn decided(&mut self, item: u64, verdict: Verdict) {
        let Some(number) = self.renegotiation.by_item.remove(&item) else { return };
        self.renegotiation.places.remove(&number);
        let Some(running) = self.renegotiation.running.get_mut(&number) else { return };
        let Some(at) = running.peer.items.iter().position(|one| one.item == item) else { return };
        let decided = running.peer.items.swap_remove(at);
        running.open -= 1;
        let done = running.open == 0;
        match verdict {
            Verdict::Made(tunnel) => self.renegotiated(item, Outcome::Made(tunnel)),
            Verdict::Refused(reason) => self.renegotiated(item, Outcome::Failed(reason)),
            Verdict::Silent(reason) => running.silent.push((decided, reason)),
        }
        if done && let Some(running) = self.renegotiation.running.remove(&number) {
            self.again_or_never(running);
        }
    }

    fn again_or_never(&mut self, running: Running) {
        let Running { mut peer, mut silent, .. } = running;
        if silent.is_empty() {
            return;
        }
        // In the order in which they were asked for.
        silent.sort_by_key(|(one, _)| one.item);
        let wait = FIRST_WAIT.saturating_mul(1 << peer.tries.min(8)).min(LAST_WAIT) / 2;
        let again = self.now + retry_after(wait, &mut *self.rng);
        if peer.until.is_some_and(|until| again >= until) {
            for (one, reason) in silent {
                self.renegotiated(one.item, Outcome::GivenUp(reason));
            }
            return;
        }
        peer.items = silent.into_iter().map(|(one, _)| one).collect();
        self.renegotiation.later.insert((again, peer.number), peer);
    }

    fn renegotiated(&mut self, item: u64, outcome: Outcome) {
        self.out.events.push_back(Event::Renegotiated { item, outcome });
    }
}
