//! What a step of an IKE SA works with: the time, the rules, randomness, the shared tables and what goes out.

use super::crypto::IvCounter;
use super::error::{Mistake, RateLimit};
use super::event::{Event, Payload, Transmit};
use super::rules::{ChildRule, ExchangeRule, Rules, Settings};
use super::selector::covered;
use super::table::{Book, SaKey};
use super::types::{Identity, IkeTunnelId, StoreTicket, TrafficSelector, TunnelId};
use super::v2::child::{Child, Terms};
use super::v2::init::Target;
use super::v2::sa::{ChildRequest, IkeSa, Task};
use super::view::EngineCounters;
use rand::CryptoRng;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// The rules in force, shared with the SAs that were made by them.
#[derive(Debug, Default)]
pub(crate) struct RuleSet {
    exchange: Vec<Arc<ExchangeRule>>,
    child: Vec<Arc<ChildRule>>,
}

impl RuleSet {
    /// In search order.
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            exchange: rules.exchange.into_iter().map(Arc::new).collect(),
            child: rules.child.into_iter().map(Arc::new).collect(),
        }
    }

    /// KeyExchangeRules that hold between two addresses.
    pub(crate) fn exchange(&self, local: IpAddr, remote: IpAddr) -> impl Iterator<Item = &Arc<ExchangeRule>> {
        self.exchange.iter().filter(move |rule| {
            rule.local_location.iter().any(|range| range.contains(local))
                && rule.remote_location.iter().any(|range| range.contains(remote))
        })
    }

    /// The rule of that name that is in force now, or the one that was.
    pub(crate) fn current_exchange(&self, old: &Arc<ExchangeRule>) -> Arc<ExchangeRule> {
        self.exchange.iter().find(|rule| rule.name == old.name).unwrap_or(old).clone()
    }

    /// Rules for children, in search order.
    pub(crate) fn child(&self) -> &[Arc<ChildRule>] {
        &self.child
    }

    /// The rule of that name: of several, one for each service of an IpFilterRule, the first that covers the selectors.
    pub(crate) fn child_named(
        &self,
        name: &str,
        local: &[TrafficSelector],
        remote: &[TrafficSelector],
    ) -> Option<&Arc<ChildRule>> {
        let named = || self.child.iter().filter(|rule| rule.rule == name);
        let covers = |rule: &&Arc<ChildRule>| covered(&rule.local, local) && covered(&rule.remote, remote);
        named().find(covers).or_else(|| named().next())
    }

    /// The rule that a child was negotiated under, as it is in force now; or as it was, if it is gone.
    pub(crate) fn current_child(&self, terms: &Terms) -> Arc<ChildRule> {
        let found = self.child_named(&terms.rule.rule, &terms.local, &terms.remote);
        found.unwrap_or(&terms.rule).clone()
    }
}

/// What became of one try to negotiate a child again.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is there.
    Made(TunnelId),
    /// It will not be, however often it is tried.
    Refused(String),
    /// There was no answer, or none that decides.
    Silent(String),
}

/// What goes out of the engine.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Datagrams.
    pub(crate) transmits: VecDeque<Transmit>,
    /// Events.
    pub(crate) events: VecDeque<Event>,
    /// Counters of the engine.
    pub(crate) counters: EngineCounters,
    /// How often something is said.
    pub(crate) limit: RateLimit,
    /// What became of items of a renegotiation.
    pub(crate) verdicts: VecDeque<(u64, Verdict)>,
    /// Messages that wait until the state of their tunnel is stored.
    held: BTreeMap<StoreTicket, Transmit>,
    /// Tunnels that have changed since the shell was told last.
    changed: BTreeMap<IkeTunnelId, StoreTicket>,
    last_ticket: u64,
}

impl Outbox {
    /// Sends an IKE message.
    pub(crate) fn send(&mut self, local: SocketAddr, remote: SocketAddr, message: Vec<u8>) {
        self.push(Transmit { local, remote, payload: Payload::Message(message) });
    }

    /// Sends what may be several datagrams.
    fn push(&mut self, transmit: Transmit) {
        let Transmit { local, remote, payload: Payload::Message(octets) } = transmit else {
            self.transmits.push_back(transmit);
            return;
        };
        let message = |octets: &[u8]| Transmit { local, remote, payload: Payload::Message(octets.to_vec()) };
        self.transmits.extend(super::crypto::datagrams(&octets).map(message));
    }

    /// A tunnel whose state is stored has changed.
    pub(crate) fn change(&mut self, tunnel: IkeTunnelId) -> StoreTicket {
        self.last_ticket += 1;
        let ticket = StoreTicket { tunnel, number: self.last_ticket };
        self.changed.insert(tunnel, ticket);
        ticket
    }

    /// Sends a message of a tunnel once the state to which it belongs is stored.
    pub(crate) fn hold(&mut self, tunnel: IkeTunnelId, transmit: Transmit) -> StoreTicket {
        let ticket = self.change(tunnel);
        self.held.insert(ticket, transmit);
        ticket
    }

    /// Whether the message that was given this ticket still waits.
    pub(crate) fn is_held(&self, ticket: StoreTicket) -> bool {
        self.held.contains_key(&ticket)
    }

    /// Whether any message waits.
    pub(crate) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// The state with this ticket is stored, and with it all that came before.
    pub(crate) fn release(&mut self, ticket: StoreTicket) {
        for transmit in self.take_held(ticket) {
            self.push(transmit);
        }
    }

    /// The messages of a tunnel that wait are not sent any more.
    pub(crate) fn drop_held(&mut self, tunnel: IkeTunnelId) {
        self.take_held(StoreTicket { tunnel, number: u64::MAX });
        self.changed.remove(&tunnel);
    }

    fn take_held(&mut self, up_to: StoreTicket) -> Vec<Transmit> {
        let mut out = Vec::new();
        let first = StoreTicket { number: 0, ..up_to };
        while let Some((&ticket, _)) = self.held.range(first..=up_to).next() {
            out.extend(self.held.remove(&ticket));
        }
        out
    }

    /// Sends what waits for addresses that are not continued any more.
    pub(crate) fn release_others(&mut self, continued: &BTreeMap<IpAddr, u64>) {
        let free = |transmit: &Transmit| !continued.contains_key(&transmit.local.ip());
        for (ticket, transmit) in std::mem::take(&mut self.held) {
            if free(&transmit) {
                self.push(transmit);
            } else {
                self.held.insert(ticket, transmit);
            }
        }
    }

    /// Tells the shell what has changed.
    pub(crate) fn tell_changes(&mut self) {
        for (id, ticket) in std::mem::take(&mut self.changed) {
            self.events.push_back(Event::Changed { id, ticket });
        }
    }

    /// Logs a peer's mistake, once per interval. True if it was said.
    pub(crate) fn notice(&mut self, now: Instant, peer: SocketAddr, mistake: Mistake, text: &str) -> bool {
        match self.limit.allow(now, peer.ip(), mistake) {
            None => false,
            Some(suppressed) => {
                let more = match suppressed {
                    0 => String::new(),
                    n => format!(" ({n} more suppressed)"),
                };
                let text = format!("{text}{more}");
                self.events.push_back(Event::Notice { peer, text });
                true
            }
        }
    }
}

/// What a step has to do to other SAs than its own; carried out when the step is over.
#[derive(Debug)]
pub(crate) enum After {
    /// A new SA enters the table.
    Adopt(Box<IkeSa>),
    /// Children and tasks move to another SA (RFC 7296 section 2.18).
    Inherit {
        /// The SA that takes them.
        to: SaKey,
        /// Children by inbound SPI.
        children: BTreeMap<u32, Child>,
        /// Tasks.
        tasks: Vec<Task>,
        /// The SA whose place the old one was taking.
        replaces: Option<SaKey>,
    },
    /// Send on this child, by its inbound SPI.
    Activate(u32),
    /// Delete this SA if another one has all that it has and is the one that stays.
    EndRedundant(SaKey),
    /// Make an SA with authentication in place of this one.
    Reauthenticate(SaKey),
    /// All that a re-authentication was to make at `new` is made or refused: `old` goes.
    Reauthenticated {
        /// The SA whose place was taken.
        old: SaKey,
        /// The one that took it.
        new: SaKey,
    },
    /// Make an IKE SA of its own for a child, because the peer allows no more at the one where it was asked for.
    Apart {
        /// The child.
        request: Box<ChildRequest>,
        /// Where.
        target: Box<Target>,
    },
    /// Delete an SA whose traffic has another way, towards the peer as well.
    Retire(SaKey, &'static str),
    /// Delete an SA, towards the peer as well.
    Delete(SaKey, &'static str),
    /// Forget an SA without a word: the peer has none of it any more (INITIAL_CONTACT).
    Forget(SaKey, &'static str),
}

/// The part of an epoch that heads IVs.
pub(crate) const fn iv_prefix(epoch: u64) -> u16 {
    let [.., high, low] = epoch.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// Everything that a step may use.
pub(crate) struct Context<'e> {
    /// The time.
    pub(crate) now: Instant,
    /// Seconds since 1970 at some moment.
    pub(crate) clock: (Instant, u64),
    /// Settings.
    pub(crate) settings: &'e Settings,
    /// Rules.
    pub(crate) rules: &'e RuleSet,
    /// Randomness.
    pub(crate) rng: &'e mut dyn CryptoRng,
    /// What goes out.
    pub(crate) out: &'e mut Outbox,
    /// Shared tables.
    pub(crate) book: &'e mut Book,
    /// For other SAs.
    pub(crate) after: Vec<After>,
}

impl Context<'_> {
    /// Now, in seconds since 1970: for what certificates say. Nothing is valid yet where nobody has said the time.
    pub(crate) fn unix(&self) -> u64 {
        let (then, unix) = self.clock;
        unix.saturating_add(self.now.saturating_duration_since(then).as_secs())
    }

    /// Whether the SAs of a home address outlive this process.
    pub(crate) fn is_continued(&self, local: IpAddr) -> bool {
        self.settings.continued.contains_key(&local)
    }

    /// The epoch at which this side owns a home address; 0 where that does not matter.
    pub(crate) fn epoch(&self, local: IpAddr) -> u64 {
        self.settings.continued.get(&local).copied().unwrap_or(0)
    }

    /// The IVs of a key of this side that is new, or new to this process.
    pub(crate) fn ivs(&self, local: IpAddr) -> IvCounter {
        IvCounter::of_epoch(iv_prefix(self.epoch(local)))
    }

    /// The KeyExchangeRule for a peer whose identity is known, as responder or after the answer to IKE_AUTH: the first
    /// that accepts it (spec: KeyExchangeRule order). `own` is the identity that the peer asked for.
    pub(crate) fn exchange_rule(
        &self,
        local: IpAddr,
        remote: IpAddr,
        peer: &Identity,
        own: Option<&Identity>,
    ) -> impl Iterator<Item = &Arc<ExchangeRule>> {
        self.rules.exchange(local, remote).filter(move |rule| {
            rule.remote_id.accepts(peer) && own.is_none_or(|own| super::identity::same(own, &rule.local_id))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ike::rules::Initiation;
    use crate::ike::types::AddressRange;

    #[test]
    fn of_two_rules_of_one_name_the_one_that_covers_is_found() {
        let port = |port| {
            let addresses = AddressRange::single(IpAddr::from([192, 0, 2, 80]));
            vec![TrafficSelector { addresses, protocol: 6, port_low: port, port_high: port }]
        };
        let rule = |number| ChildRule {
            rule: "web".into(),
            vpn_action: "strong".into(),
            local: port(number),
            remote: port(number),
            remote_identity: None,
            initiation: Initiation::Either,
            modes: vec![],
            pfs_initiate: None,
            pfs_accept: vec![],
            offers: vec![],
            vpn_life: None,
            local_endpoint: None,
            remote_endpoint: None,
        };
        let rules = RuleSet::new(Rules { exchange: vec![], child: vec![rule(80), rule(443)] });
        let found =
            |name, number| rules.child_named(name, &port(number), &port(number)).map(|r| r.local[0].port_low);
        assert_eq!(found("web", 443), Some(443));
        assert_eq!(found("web", 80), Some(80));
        // None covers it: the first one says why not.
        assert_eq!(found("web", 22), Some(80));
        assert_eq!(found("other", 80), None);
    }
}
