//! The filters in force: policy's table, the dynamic filters in front of their anchors, and what each has counted.
//!
//! A dynamic filter never widens its anchor, so it needs no place in the compiled table: the table finds the anchor, and
//! the anchor's own [`DynamicSet`] the tunnel. SAs therefore come and go without anything being compiled again, and
//! a new table invalidates nothing: tunnels hang on the *name* of their rule.

mod asked;
mod dynamic;
mod identity;
mod view;

pub use dynamic::selected;
pub(super) use view::Survey;

use super::filter::{NEW, Subject, Table};
use super::verdict::DropReason;
use crate::control::{AddressRange, Direction, FilterAction, FilterRule, FilterSet, FilterTotals, SaPair};
use dynamic::{DynamicSet, Pair, Tunnel};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::sync::Arc;

/// Name of the implicit rule at the end of every table.
pub const IMPLICIT_RULE: &str = "SYSDEFAULTDENYRULE";
/// Name of the generated filters that let GRE of the XCF pass (spec 5.3).
pub const XCF_RULE: &str = "SYSXCFGRE";

/// What the filters say about an outbound packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outbound {
    /// In clear.
    Clear,
    /// By the pair with this inbound SPI.
    Protect {
        /// Inbound SPI of the pair.
        spi_in: u32,
    },
    /// By an SA that must be negotiated first; the rule's position in the table.
    Wanted {
        /// Position of the anchor.
        rule: usize,
    },
}

/// A packet that the filters do not let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// Why.
    pub reason: DropReason,
    /// Position of the rule; `None`: no rule matched.
    pub rule: Option<usize>,
    /// The sender is to be told (DiscardAction Icmp).
    pub tell: bool,
    /// A line for the log is wanted.
    pub log: bool,
}

/// A packet that the filters let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Position of the rule.
    pub rule: usize,
    /// A line for the log is wanted.
    pub log: bool,
}

/// The filter table with its dynamic filters and counters.
#[derive(Debug)]
pub struct Spd {
    seed: u64,
    table: Arc<Table>,
    totals: Vec<FilterTotals>,
    /// Set of dynamic filters of each rule; `usize::MAX` of rules that are no anchors.
    set_of: Vec<usize>,
    installed: u64,
    sets: Vec<DynamicSet>,
    set_names: HashMap<String, usize>,
    tunnels: Vec<Option<Tunnel>>,
    /// Places in `tunnels` without one.
    free: Vec<usize>,
    tunnel_numbers: HashMap<u32, usize, FixedState>,
    tunnel_of_spi: HashMap<u32, usize>,
    next_order: u64,
    identified: identity::Identified,
    /// By family and direction.
    implicit: [[FilterTotals; 2]; 2],
    /// By direction.
    xcf: [FilterTotals; 2],
    xcf_range: Option<AddressRange>,
    all: FilterTotals,
}

const fn side(d: Direction) -> usize {
    match d {
        Direction::Inbound => 0,
        Direction::Outbound => 1,
    }
}

const NO_SET: usize = usize::MAX;

impl Spd {
    /// A table without rules: everything is denied. `seed` keys the hashes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            table: Arc::default(),
            totals: Vec::new(),
            set_of: Vec::new(),
            installed: 0,
            sets: Vec::new(),
            set_names: HashMap::new(),
            tunnels: Vec::new(),
            free: Vec::new(),
            tunnel_numbers: HashMap::with_hasher(FixedState::with_seed(seed)),
            tunnel_of_spi: HashMap::new(),
            next_order: 0,
            identified: identity::Identified::new(seed),
            implicit: Default::default(),
            xcf: Default::default(),
            xcf_range: None,
            all: FilterTotals::default(),
        }
    }

    /// Replaces the table. Counters of rules that stay the same are kept, and so are all dynamic filters.
    pub fn set_filters(&mut self, unix_secs: u64, set: FilterSet) {
        let table = Table::new(set, &self.table);
        drop(self.exchange(unix_secs, Arc::new(table)));
    }

    /// As [`Spd::set_filters`], with a table that is compiled already. Gives the one before.
    pub fn exchange(&mut self, unix_secs: u64, table: Arc<Table>) -> Arc<Table> {
        let (totals, sets) = (std::mem::take(&mut self.totals), std::mem::take(&mut self.set_of));
        let before = std::mem::replace(&mut self.table, Arc::clone(&table));
        let inherits = table.inherits(&before).unwrap_or_default();
        self.totals.reserve_exact(table.rules().len());
        self.set_of.reserve_exact(table.rules().len());
        for (position, rule) in table.rules().iter().enumerate() {
            let old = inherits.get(position).filter(|p| **p != NEW).and_then(|p| usize::try_from(*p).ok());
            self.totals.push(old.and_then(|p| totals.get(p)).copied().unwrap_or_default());
            let set = match (rule.action, old.and_then(|p| sets.get(p))) {
                (FilterAction::Permit | FilterAction::Deny, _) => NO_SET,
                (FilterAction::Ipsec { .. } | FilterAction::Manual, Some(set)) => *set,
                (FilterAction::Ipsec { .. }, None) => self.set_named(&rule.name),
                (FilterAction::Manual, None) => self.set_named(&rule.anchor().unwrap_or_default()),
            };
            self.set_of.push(set);
        }
        self.installed = unix_secs;
        self.identified.exchange(table.rules(), &self.set_of, &self.tunnels);
        before
    }

    /// Epoch of the table, 0 if there is none.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.table.epoch()
    }

    /// Whether ESP is filtered before it is opened.
    #[must_use]
    pub fn predecap(&self) -> bool {
        self.table.set().predecap
    }

    /// A rule by its position.
    #[must_use]
    pub fn rule(&self, position: usize) -> Option<&FilterRule> {
        self.table.rules().get(position)
    }

    /// The number of an anchor's set of dynamic filters, which outlives tables, and the name of its rule.
    #[must_use]
    pub fn anchor(&self, position: usize) -> Option<(usize, &str)> {
        let set = *self.set_of.get(position)?;
        Some((set, self.table.rules().get(position)?.name.as_str()))
    }

    /// Between which addresses the common GRE filters permit; `None`: this stack has no XCF.
    pub fn set_xcf(&mut self, range: Option<AddressRange>) {
        self.xcf_range = range;
    }

    /// Counts a GRE packet that the common filters let pass.
    pub fn count_xcf(&mut self, direction: Direction) {
        self.xcf[side(direction)].permits += 1;
        self.all.permits += 1;
    }

    fn set_named(&mut self, name: &str) -> usize {
        if let Some(&i) = self.set_names.get(name) {
            return i;
        }
        self.sets.push(DynamicSet::new(self.seed));
        self.set_names.insert(name.to_owned(), self.sets.len() - 1);
        self.sets.len() - 1
    }

    /// Adds an SA pair, and the dynamic filter of its tunnel if this is the first one or its selectors changed. Returns the
    /// number of the set that the filter stands in, see [`Spd::anchor`].
    pub fn add_pair(&mut self, unix_secs: u64, pair: &SaPair) -> usize {
        let _ = self.remove_pair(pair.spi_in);
        let set = self.set_named(&pair.rule);
        let fresh = Pair { spi_in: pair.spi_in, generation: pair.generation };
        let place = if let Some(&i) = self.tunnel_numbers.get(&pair.tunnel) {
            i
        } else {
            let i = self.free.pop().unwrap_or_else(|| {
                self.tunnels.push(None);
                self.tunnels.len() - 1
            });
            self.tunnel_numbers.insert(pair.tunnel, i);
            i
        };
        self.next_order += 1;
        let order = self.next_order;
        let tunnel = match self.tunnels[place].take() {
            Some(mut t) => {
                self.sets[t.set].remove(place, &t.remote);
                self.identified.remove(place, &t);
                t.pairs.push(fresh);
                if pair.outbound_active {
                    t.current = pair.spi_in;
                }
                Tunnel {
                    set,
                    order,
                    local: pair.local_selectors.clone(),
                    remote: pair.remote_selectors.clone(),
                    ..t
                }
            }
            None => Tunnel {
                number: pair.tunnel,
                set,
                pairs: vec![fresh],
                current: pair.spi_in,
                local: pair.local_selectors.clone(),
                remote: pair.remote_selectors.clone(),
                created: unix_secs,
                order,
                totals: Default::default(),
            },
        };
        self.sets[set].insert(place, &tunnel.remote);
        self.identified.insert(place, &tunnel);
        self.tunnels[place] = Some(tunnel);
        self.tunnel_of_spi.insert(pair.spi_in, place);
        set
    }

    /// Makes a pair the one that its tunnel sends with. True if it was not so before.
    pub fn activate(&mut self, spi_in: u32) -> bool {
        let Some(t) = self.tunnel_of_spi.get(&spi_in).and_then(|&i| self.tunnels[i].as_mut()) else {
            return false;
        };
        let changed = t.current != spi_in;
        t.current = spi_in;
        changed
    }

    /// Whether its tunnel sends with this pair.
    #[must_use]
    pub fn is_active(&self, spi_in: u32) -> bool {
        self.tunnel_of_spi
            .get(&spi_in)
            .and_then(|&i| self.tunnels[i].as_ref())
            .is_some_and(|t| t.current == spi_in)
    }

    /// Removes a pair; with the last one of its tunnel the dynamic filter goes, and the tunnel's number is given.
    pub fn remove_pair(&mut self, spi_in: u32) -> Option<u32> {
        let place = self.tunnel_of_spi.remove(&spi_in)?;
        let t = self.tunnels[place].as_mut()?;
        t.pairs.retain(|p| p.spi_in != spi_in);
        match t.pairs.iter().max_by_key(|p| p.generation) {
            Some(newest) if t.current == spi_in => t.current = newest.spi_in,
            Some(_) => {}
            None => {
                let t = self.tunnels[place].take()?;
                self.sets[t.set].remove(place, &t.remote);
                self.identified.remove(place, &t);
                self.tunnel_numbers.remove(&t.number);
                self.free.push(place);
                return Some(t.number);
            }
        }
        None
    }

    /// Removes every pair.
    pub fn remove_all_pairs(&mut self) {
        self.tunnels.clear();
        self.free.clear();
        self.tunnel_numbers.clear();
        self.tunnel_of_spi.clear();
        self.sets.iter_mut().for_each(DynamicSet::clear);
        self.identified.clear();
    }

    /// Judges a packet that came in. `through` is the tunnel that opened it; of an ICMP error `quoted` is the
    /// flow that it is about, as packets of it come in: it decides where no rule names the error itself.
    pub fn inbound(
        &mut self,
        s: &Subject,
        quoted: Option<&Subject>,
        through: Option<u32>,
    ) -> Result<Admitted, Denied> {
        let Some((position, by)) = self.find(s, quoted) else { return Err(self.implicit(s)) };
        let position = self.for_peer_of(position, if by { quoted.unwrap_or(s) } else { s }, through);
        let rule = &self.table.rules()[position];
        let reason = match (rule.action, through) {
            (FilterAction::Permit, None) => None,
            (FilterAction::Permit, Some(_)) => Some(DropReason::ProtectedButClearRequired),
            (FilterAction::Deny, _) => Some(DropReason::FilterDeny),
            (FilterAction::Ipsec { .. } | FilterAction::Manual, None) => {
                Some(DropReason::ClearButIpsecRequired)
            }
            (FilterAction::Ipsec { .. } | FilterAction::Manual, Some(tunnel)) => {
                // The opening SA has checked its own selectors, which are those of its dynamic filter.
                let own = self.tunnel_numbers.get(&tunnel).copied();
                let own =
                    own.filter(|&i| self.tunnels[i].as_ref().is_some_and(|t| t.set == self.set_of[position]));
                if let Some(t) = own.and_then(|i| self.tunnels[i].as_mut()) {
                    t.totals[side(Direction::Inbound)].permits += 1;
                    self.totals[position].permits += u64::from(rule.action == FilterAction::Manual);
                    self.all.permits += 1;
                    return Ok(Admitted { rule: position, log: self.table.set().logging && rule.log_permit });
                }
                Some(DropReason::TunnelMismatch)
            }
        };
        self.count(position, reason)?;
        Ok(Admitted {
            rule: position,
            log: self.table.set().logging && self.table.rules()[position].log_permit,
        })
    }

    /// Judges a packet that wants out; `quoted` as for [`Spd::inbound`], as packets of that flow go out.
    pub fn outbound(
        &mut self,
        s: &Subject,
        quoted: Option<&Subject>,
    ) -> Result<(Outbound, Admitted), Denied> {
        self.outbound_by(s, quoted, None)
    }

    /// As [`Spd::outbound`]; a packet of a resolved flow goes by the tunnel of that number, of which it is `original`.
    pub fn outbound_by(
        &mut self,
        s: &Subject,
        quoted: Option<&Subject>,
        resolved: Option<(u32, &Subject)>,
    ) -> Result<(Outbound, Admitted), Denied> {
        let Some((position, by)) = self.find(s, quoted) else { return Err(self.implicit(s)) };
        let position = self.for_peer(position, if by { quoted.unwrap_or(s) } else { s });
        let rule = &self.table.rules()[position];
        let admitted = Admitted { rule: position, log: self.table.set().logging && rule.log_permit };
        match rule.action {
            FilterAction::Permit => {
                self.count(position, None)?;
                Ok((Outbound::Clear, admitted))
            }
            FilterAction::Deny => {
                self.count(position, Some(DropReason::FilterDeny))?;
                Ok((Outbound::Clear, admitted))
            }
            FilterAction::Ipsec { .. } | FilterAction::Manual => {
                let by = if by { quoted.unwrap_or(s) } else { s };
                let set = self.set_of[position];
                let own = resolved.and_then(|(tunnel, original)| self.resolved(set, tunnel, original));
                let found = own.or_else(|| self.sets[set].find(&self.tunnels, by));
                if let Some(t) = found.and_then(|i| self.tunnels[i].as_mut()) {
                    t.totals[side(Direction::Outbound)].permits += 1;
                    self.totals[position].permits += u64::from(rule.action == FilterAction::Manual);
                    self.all.permits += 1;
                    return Ok((Outbound::Protect { spi_in: t.current }, admitted));
                }
                if rule.action == (FilterAction::Ipsec { on_demand: true }) {
                    return Ok((Outbound::Wanted { rule: position }, admitted));
                }
                self.count(position, Some(DropReason::NoSa))?;
                Ok((Outbound::Clear, admitted))
            }
        }
    }

    /// The place of a tunnel, if it stands in this set and its selectors take the packet.
    fn resolved(&self, set: usize, tunnel: u32, original: &Subject) -> Option<usize> {
        let place = *self.tunnel_numbers.get(&tunnel)?;
        let t = self.tunnels[place].as_ref()?;
        (t.set == set && selected(&t.local, &t.remote, original)).then_some(place)
    }

    /// The number of the tunnel of a pair.
    #[must_use]
    pub fn tunnel_of(&self, spi_in: u32) -> Option<u32> {
        self.tunnels[*self.tunnel_of_spi.get(&spi_in)?].as_ref().map(|t| t.number)
    }

    /// What the filters would do with an outbound packet, without counting: permit, deny or ipsec.
    #[must_use]
    pub fn would(&self, s: &Subject, quoted: Option<&Subject>) -> Option<FilterAction> {
        self.find(s, quoted).map(|(position, _)| self.table.rules()[position].action)
    }

    fn find(&self, s: &Subject, quoted: Option<&Subject>) -> Option<(usize, bool)> {
        let (classifier, rules) = (self.table.classifier(), self.table.rules());
        if let Some(position) = classifier.classify(rules, s) {
            return Some((position, false));
        }
        quoted.and_then(|q| classifier.classify(rules, q)).map(|position| (position, true))
    }

    fn count(&mut self, position: usize, reason: Option<DropReason>) -> Result<(), Denied> {
        let totals = &mut self.totals[position];
        let rule = &self.table.rules()[position];
        let Some(reason) = reason else {
            totals.permits += 1;
            self.all.permits += 1;
            return Ok(());
        };
        if reason == DropReason::FilterDeny || reason == DropReason::NoSa {
            totals.denies += 1;
            self.all.denies += 1;
        } else {
            totals.mismatches += 1;
            self.all.mismatches += 1;
        }
        let tell = rule.discard_icmp && reason == DropReason::FilterDeny;
        Err(Denied { reason, rule: Some(position), tell, log: self.table.set().logging && rule.log_deny })
    }

    fn implicit(&mut self, s: &Subject) -> Denied {
        self.implicit[usize::from(s.source.is_ipv6())][side(s.direction)].denies += 1;
        self.all.denies += 1;
        Denied {
            reason: DropReason::ImplicitDeny,
            rule: None,
            tell: self.table.set().implicit_icmp,
            log: self.table.set().logging && self.table.set().log_implicit,
        }
    }
}

#[cfg(test)]
mod tests;
