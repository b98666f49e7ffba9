//! What the filters in force look like to `iked`: generated ones, policy's with the dynamic ones before their anchors, the
//! implicit ones at the end.

use super::{IMPLICIT_RULE, NO_SET, Spd, XCF_RULE, side};
use crate::control::{
    AddressRange, Direction, FilterAction, FilterKind, FilterRule, FilterTotals, FilterView, PortRange,
    Scope, Selector,
};
use crate::engine::filter::Table;
use hashbrown::HashMap;
use std::sync::Arc;

/// What is known of the filters, from which their views are made.
#[derive(Debug)]
pub(in crate::engine) struct Survey {
    table: Arc<Table>,
    totals: Vec<FilterTotals>,
    set_of: Vec<usize>,
    installed: u64,
    implicit: [[FilterTotals; 2]; 2],
    xcf: [FilterTotals; 2],
    xcf_range: Option<AddressRange>,
    /// As far as they were copied.
    tunnels: Vec<Shown>,
    /// The place to go on at.
    next: usize,
}

/// What a tunnel's filters are made of.
#[derive(Debug)]
struct Shown {
    number: u32,
    set: usize,
    local: Vec<Selector>,
    remote: Vec<Selector>,
    created: u64,
    order: u64,
    totals: [FilterTotals; 2],
}

impl Spd {
    /// Packet totals of all filters.
    #[must_use]
    pub fn summary(&self) -> FilterTotals {
        self.all
    }

    /// Begins a survey of the filters in force.
    pub(in crate::engine) fn begin_survey(&self) -> Survey {
        Survey {
            table: Arc::clone(&self.table),
            totals: self.totals.clone(),
            set_of: self.set_of.clone(),
            installed: self.installed,
            implicit: self.implicit,
            xcf: self.xcf,
            xcf_range: self.xcf_range,
            tunnels: Vec::with_capacity(self.tunnels.len()),
            next: 0,
        }
    }

    /// Copies up to `count` tunnels more; true: there are no others.
    pub(in crate::engine) fn survey(&self, survey: &mut Survey, count: usize) -> bool {
        if !Arc::ptr_eq(&survey.table, &self.table) {
            // The tunnels hang on other rules now.
            *survey = self.begin_survey();
        }
        let some = self.tunnels.iter().skip(survey.next).take(count).flatten();
        survey.tunnels.extend(some.map(|t| Shown {
            number: t.number,
            set: t.set,
            local: t.local.clone(),
            remote: t.remote.clone(),
            created: t.created,
            order: t.order,
            totals: t.totals,
        }));
        survey.next += count;
        survey.next >= self.tunnels.len()
    }
}

impl Survey {
    /// The filters in force: the XCF's, policy's with the dynamic ones before their anchors, the implicit ones.
    pub(in crate::engine) fn views(&self) -> Vec<FilterView> {
        let mut views = Vec::with_capacity(self.table.rules().len() + self.tunnels.len() * 2 + 6);
        if let Some(range) = self.xcf_range {
            for (extension, direction) in (1..).zip([Direction::Outbound, Direction::Inbound]) {
                let mut rule =
                    FilterRule::new(XCF_RULE, extension, direction, range, range, FilterAction::Permit);
                rule.protocol = Some(crate::wire::protocol::GRE);
                let totals = self.xcf[side(direction)];
                views.push(FilterView { rule, kind: FilterKind::Common, totals, created: self.installed });
            }
        }
        let mut by_set: HashMap<usize, Vec<&Shown>> = HashMap::new();
        for t in &self.tunnels {
            by_set.entry(t.set).or_default().push(t);
        }
        for set in by_set.values_mut() {
            set.sort_unstable_by_key(|t| std::cmp::Reverse(t.order));
        }
        let mut shown = hashbrown::HashSet::new();
        for ((rule, totals), set) in self.table.rules().iter().zip(&self.totals).zip(&self.set_of) {
            // A manual tunnel has no selectors but those of its rules.
            let manual = rule.action == FilterAction::Manual;
            for tunnel in by_set.get(set).into_iter().flatten().filter(|_| !manual) {
                for (number, rule) in dynamic_rules(rule, tunnel) {
                    if shown.insert((tunnel.number, rule.direction, number)) {
                        let totals = tunnel.totals[side(rule.direction)];
                        let kind = FilterKind::Dynamic(tunnel.number);
                        views.push(FilterView { rule, kind, totals, created: tunnel.created });
                    }
                }
            }
            let kind = if *set == NO_SET || manual { FilterKind::Generic } else { FilterKind::DynamicAnchor };
            views.push(FilterView { rule: rule.clone(), kind, totals: *totals, created: self.installed });
        }
        let mut extension = 0;
        for (family, range) in [AddressRange::ANY_V4, AddressRange::ANY_V6].into_iter().enumerate() {
            for direction in [Direction::Outbound, Direction::Inbound] {
                extension += 1;
                let mut rule =
                    FilterRule::new(IMPLICIT_RULE, extension, direction, range, range, FilterAction::Deny);
                rule.scope = Scope::Either;
                let totals = self.implicit[family][side(direction)];
                views.push(FilterView { rule, kind: FilterKind::Generic, totals, created: self.installed });
            }
        }
        views
    }
}

/// The filters that a tunnel has before one anchor: one for each pair of selectors that the anchor can let through.
fn dynamic_rules<'a>(anchor: &'a FilterRule, t: &'a Shown) -> impl Iterator<Item = (usize, FilterRule)> + 'a {
    let pairs = t.local.iter().flat_map(move |l| t.remote.iter().map(move |r| (l, r)));
    pairs.enumerate().filter_map(move |(number, (local, remote))| {
        let (from, to) = match anchor.direction {
            Direction::Inbound => (remote, local),
            Direction::Outbound => (local, remote),
        };
        let meets = overlap(&anchor.source, &from.addresses)
            && overlap(&anchor.destination, &to.addresses)
            && from.protocol.zip(anchor.protocol).is_none_or(|(a, b)| a == b);
        meets.then(|| {
            let protocol = from.protocol.or(to.protocol).or(anchor.protocol);
            let typed = matches!(protocol, Some(1 | 58));
            let (kind, code) = if typed && from.ports != PortRange::ANY {
                let [low, high] = [from.ports.low.to_be_bytes(), from.ports.high.to_be_bytes()];
                (Some((low[0], high[0])), Some((low[1], high[1])))
            } else {
                (anchor.icmp_type, anchor.icmp_code)
            };
            let rule = FilterRule {
                source: from.addresses,
                destination: to.addresses,
                protocol,
                source_ports: if typed { PortRange::ANY } else { from.ports },
                destination_ports: if typed { PortRange::ANY } else { to.ports },
                icmp_type: kind,
                icmp_code: code,
                ..anchor.clone()
            };
            (number, rule)
        })
    })
}

fn overlap(a: &AddressRange, b: &AddressRange) -> bool {
    a.low.is_ipv4() == b.low.is_ipv4() && a.low <= b.high && b.low <= a.high
}
