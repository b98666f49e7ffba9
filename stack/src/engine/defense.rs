//! Defensive filters: they are searched before the filter table, block or only say what they would have blocked, and end
//! by themselves.
//!
//! The first filter that matches decides. One that only simulates says so and lets the search go on, to a blocking one
//! further down and then to the filter table, but never to a second one that simulates. Both searches are those of the
//! compiled tables, so the number of filters costs a packet nothing.

use super::filter::{Classifier, Subject, matches};
use super::io::Output;
use super::log::{LogLimit, Topic};
use super::verdict::DropReason;
use super::{Engine, Line, subject, with_suppressed};
use crate::control::{
    AddressRange, DefenseMode, DefenseSet, DefensiveFilter, Direction, FilterAction, FilterRule, FilterView,
};
use crate::wire::packet::Parsed;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The interval of [`DefensiveFilter::log_limit`].
const LOG_INTERVAL: Duration = Duration::from_secs(300);

/// Lines that a filter may still write: they come back one by one over [`LOG_INTERVAL`].
#[derive(Debug, Clone, Copy, Default)]
struct Allowance {
    /// Time for lines that is left, and when that was so; `None`: none was written yet.
    left: Option<(Duration, Instant)>,
    suppressed: u64,
}

impl Allowance {
    /// Whether a line may be written now; if so, how many were not since the last one.
    fn admit(&mut self, now: Instant, limit: u16) -> Option<u64> {
        let price = LOG_INTERVAL / u32::from(limit.max(1));
        let left = self.left.map_or(LOG_INTERVAL, |(left, since)| {
            left.saturating_add(now.saturating_duration_since(since)).min(LOG_INTERVAL)
        });
        let Some(rest) = left.checked_sub(price) else {
            self.left = Some((left, now));
            self.suppressed += 1;
            return None;
        };
        self.left = Some((rest, now));
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// A filter in force.
#[derive(Debug)]
struct Filter {
    /// It simulates too where the stack's mode says so.
    wanted: DefensiveFilter,
    ends: Instant,
    matched: u64,
    allowance: Allowance,
}

/// Rules and the trees over them. The rules permit, whatever they do: that search passes over a rule that asks for
/// ports where a fragment has none, and goes on.
#[derive(Debug, Default)]
struct Search {
    rules: Vec<FilterRule>,
    /// Positions of the rules in the list of filters.
    places: Vec<usize>,
    classifier: Classifier,
}

impl Search {
    fn new<'a>(filters: impl Iterator<Item = (usize, &'a Filter)>) -> Self {
        let (places, rules): (Vec<_>, Vec<_>) = filters
            .map(|(i, f)| (i, FilterRule { action: FilterAction::Permit, ..f.wanted.rule.clone() }))
            .unzip();
        let classifier = Classifier::compile(&rules);
        Self { rules, places, classifier }
    }

    fn first(&self, s: &Subject) -> Option<usize> {
        if self.rules.is_empty() {
            return None;
        }
        self.places.get(self.classifier.classify(&self.rules, s)?).copied()
    }
}

/// The defensive filters of a stack.
#[derive(Debug, Default)]
pub struct Defense {
    excluded: Vec<AddressRange>,
    filters: Vec<Filter>,
    all: Search,
    blocking: Search,
    /// Positions of those that ask for fragments.
    of_fragments: Vec<usize>,
    next_end: Option<Instant>,
}

/// What the defensive filters say of a packet: positions of those that matched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Verdict {
    simulated: Option<usize>,
    blocked: Option<usize>,
}

impl Defense {
    /// Puts these in force.
    pub fn replace(&mut self, now: Instant, set: DefenseSet) {
        let mut before = std::mem::take(&mut self.filters);
        self.excluded = set.excluded;
        if set.mode == DefenseMode::Inactive {
            self.compile();
            return;
        }
        for wanted in set.filters {
            let same = before.iter().position(|f| f.wanted.id == wanted.id).map(|i| before.swap_remove(i));
            let (matched, allowance) = same.map_or_else(Default::default, |f| (f.matched, f.allowance));
            let simulate = wanted.simulate || set.mode == DefenseMode::Simulate;
            let ends = now.checked_add(Duration::from_millis(wanted.remaining_ms)).unwrap_or(now);
            let wanted = DefensiveFilter { simulate, ..wanted };
            self.filters.push(Filter { wanted, ends, matched, allowance });
        }
        self.compile();
        self.expire(now);
    }

    fn compile(&mut self) {
        let each = || self.filters.iter().enumerate();
        self.all = Search::new(each());
        self.blocking = Search::new(each().filter(|(_, f)| !f.wanted.simulate));
        self.of_fragments = each().filter(|(_, f)| f.wanted.rule.fragments_only).map(|(i, _)| i).collect();
        self.next_end = self.filters.iter().map(|f| f.ends).min();
    }

    /// Removes those whose time has come.
    pub fn expire(&mut self, now: Instant) {
        if self.next_end.is_some_and(|end| end <= now) {
            self.filters.retain(|f| f.ends > now);
            self.compile();
        }
    }

    /// When [`Defense::expire`] is due.
    #[must_use]
    pub const fn next_expiry(&self) -> Option<Instant> {
        self.next_end
    }

    /// What is shown of them.
    #[must_use]
    pub fn view(&self) -> Vec<FilterView> {
        self.filters.iter().map(|f| f.wanted.view(f.matched)).collect()
    }

    pub(super) fn passes_by(&self, s: &Subject) -> bool {
        let (_, remote): (IpAddr, IpAddr) = s.local_remote();
        self.excluded.iter().any(|range| range.contains(remote))
    }

    fn judge(&mut self, now: Instant, s: &Subject) -> Verdict {
        self.expire(now);
        let Some(first) = self.all.first(s).filter(|_| !self.passes_by(s)) else {
            return Verdict::default();
        };
        let (simulated, blocked) = match self.filters.get(first).is_some_and(|f| f.wanted.simulate) {
            // Whatever blocks stands behind it, for it was the first of all.
            true => (Some(first), self.blocking.first(s)),
            false => (None, Some(first)),
        };
        self.count(Verdict { simulated, blocked })
    }

    /// As [`Defense::judge`], of a fragment of a packet that will be judged again as a whole: only filters that ask for
    /// fragments.
    fn judge_fragment(&mut self, now: Instant, s: &Subject) -> Verdict {
        self.expire(now);
        if self.passes_by(s) {
            return Verdict::default();
        }
        let mut verdict = Verdict::default();
        for &place in &self.of_fragments {
            let Some(f) = self.filters.get(place).filter(|f| matches(&f.wanted.rule, s)) else { continue };
            if !f.wanted.simulate {
                verdict.blocked = Some(place);
                break;
            }
            verdict.simulated.get_or_insert(place);
        }
        self.count(verdict)
    }

    fn count(&mut self, verdict: Verdict) -> Verdict {
        for place in [verdict.simulated, verdict.blocked].into_iter().flatten() {
            if let Some(f) = self.filters.get_mut(place) {
                f.matched += 1;
            }
        }
        verdict
    }

    /// The line about a match, if one may be written.
    fn line(
        &mut self,
        now: Instant,
        place: usize,
        s: &Subject,
        log: &mut LogLimit,
    ) -> Option<(bool, String)> {
        let f = self.filters.get_mut(place).filter(|f| f.wanted.log)?;
        let suppressed = match f.wanted.log_limit {
            0 => log.admit(now, Topic::Defense(f.wanted.id))?,
            limit => f.allowance.admit(now, limit).filter(|_| log.has_room(now))?,
        };
        let did = if f.wanted.simulate { "would have dropped" } else { "dropped" };
        let (name, extension) = (&f.wanted.rule.name, f.wanted.rule.extension);
        let line = format!("{did} {}: filter {name}.{extension}, {}", DropReason::DefensiveBlock, Line(s));
        Some((true, with_suppressed(line, suppressed)))
    }
}

impl Engine {
    /// Replaces the defensive filters.
    pub fn defend_with(&mut self, now: Instant, set: DefenseSet) {
        self.defense.replace(now, set);
    }

    /// Whether a defensive filter keeps the packet back: it is counted and logged then.
    pub(super) fn defend(&mut self, now: Instant, s: &Subject, out: &mut Output) -> bool {
        if self.defense.filters.is_empty() {
            return false;
        }
        let verdict = self.defense.judge(now, s);
        self.carry_out_defense(now, verdict, s, out)
    }

    /// As [`Engine::defend`], of a fragment that is about to be collected.
    pub(super) fn defend_fragment(
        &mut self,
        now: Instant,
        parsed: &Parsed,
        direction: Direction,
        out: &mut Output,
    ) -> bool {
        if self.defense.of_fragments.is_empty() {
            return false;
        }
        let s = subject(parsed, direction, false);
        let verdict = self.defense.judge_fragment(now, &s);
        self.carry_out_defense(now, verdict, &s, out)
    }

    fn carry_out_defense(&mut self, now: Instant, verdict: Verdict, s: &Subject, out: &mut Output) -> bool {
        for place in [verdict.simulated, verdict.blocked].into_iter().flatten() {
            out.logs.extend(self.defense.line(now, place, s, &mut self.log));
        }
        if verdict.blocked.is_some() {
            self.drops.count(DropReason::DefensiveBlock);
        }
        verdict.blocked.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{PortRange, Scope};
    use crate::engine::filter::Upper;
    use proptest::prelude::*;

    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn start() -> Instant {
        Instant::now()
    }

    fn from(low: u32, high: u32) -> AddressRange {
        AddressRange { low: IpAddr::V4(low.into()), high: IpAddr::V4(high.into()) }
    }

    fn filter(id: u64, source: AddressRange, simulate: bool) -> DefensiveFilter {
        let mut rule = FilterRule::new(
            format!("F{id}"),
            1,
            Direction::Inbound,
            source,
            from(0, u32::MAX),
            FilterAction::Deny,
        );
        rule.scope = Scope::Either;
        DefensiveFilter {
            id,
            rule,
            simulate,
            log: true,
            log_limit: 2,
            remaining_ms: 60_000,
            expires: 1_060,
            created: 1_000,
            updated: 1_000,
            global: false,
        }
    }

    fn set(filters: Vec<DefensiveFilter>) -> DefenseSet {
        DefenseSet { mode: DefenseMode::Active, excluded: Vec::new(), filters }
    }

    fn packet(source: u32, port: u16) -> Subject {
        Subject {
            direction: Direction::Inbound,
            routed: false,
            security_class: 0,
            source: IpAddr::V4(source.into()),
            destination: IpAddr::V4(9.into()),
            protocol: 6,
            upper: Upper::Ports { source: 1000, destination: port, opens: true },
            fragment: false,
        }
    }

    fn matched(d: &Defense) -> Vec<(String, u64, u64)> {
        d.view().into_iter().map(|v| (v.rule.name, v.totals.permits, v.totals.denies)).collect()
    }

    #[test]
    fn the_first_decides_and_a_simulating_one_lets_the_search_go_on_to_a_blocking_one() {
        let (mut d, now) = (Defense::default(), start());
        d.replace(
            now,
            set(vec![
                filter(4, from(5, 6), true),
                filter(3, from(5, 5), true),
                filter(2, from(5, 5), false),
                filter(1, from(0, 9), false),
            ]),
        );
        let judged = |d: &mut Defense, n| d.judge(now, &packet(n, 80));
        assert_eq!(judged(&mut d, 5), Verdict { simulated: Some(0), blocked: Some(2) });
        assert_eq!(judged(&mut d, 6), Verdict { simulated: Some(0), blocked: Some(3) });
        assert_eq!(judged(&mut d, 7), Verdict { simulated: None, blocked: Some(3) });
        assert_eq!(judged(&mut d, 10), Verdict::default());
        let out = Subject { direction: Direction::Outbound, ..packet(5, 80) };
        assert_eq!(d.judge(now, &out), Verdict::default(), "of the other direction");
        let counted = [("F4", 2, 0), ("F3", 0, 0), ("F2", 0, 1), ("F1", 0, 2)];
        let counted: Vec<_> = counted.map(|(n, p, b)| (n.to_owned(), p, b)).into();
        assert_eq!(matched(&d), counted);
        // Another list: what is in both goes on counting.
        d.replace(now, set(vec![filter(1, from(0, 9), false), filter(5, from(0, 9), false)]));
        assert_eq!(matched(&d), [("F1".to_owned(), 0, 2), ("F5".to_owned(), 0, 0)]);
    }

    #[test]
    fn each_ends_by_itself_at_its_time_and_nothing_else_does() {
        let (mut d, now) = (Defense::default(), start());
        let short = DefensiveFilter { remaining_ms: 1_000, ..filter(2, from(5, 5), false) };
        d.replace(now, set(vec![short, filter(1, from(6, 6), false)]));
        let second = Duration::from_secs(1);
        assert_eq!(d.next_expiry(), Some(now + second));
        assert!(d.judge(now + second - Duration::from_millis(1), &packet(5, 80)).blocked.is_some());
        // Nobody called `expire`: a packet that comes before the timer finds it gone all the same.
        assert_eq!(d.judge(now + second, &packet(5, 80)), Verdict::default());
        assert!(d.judge(now + second, &packet(6, 80)).blocked.is_some());
        d.expire(now + 60 * second);
        assert!(d.view().is_empty() && d.next_expiry().is_none());
        // A lifetime that no clock can show, and none at all.
        let odd = |remaining_ms| DefensiveFilter { remaining_ms, ..filter(3, from(5, 5), false) };
        d.replace(now, set(vec![odd(u64::MAX), odd(0)]));
        assert!(d.view().len() <= 1);
    }

    #[test]
    fn the_mode_of_the_stack_and_excluded_addresses_go_before_what_a_filter_says() {
        let (mut d, now) = (Defense::default(), start());
        let filters = vec![filter(1, from(0, 9), false)];
        d.replace(now, DefenseSet { mode: DefenseMode::Simulate, ..set(filters.clone()) });
        assert_eq!(d.judge(now, &packet(5, 80)), Verdict { simulated: Some(0), blocked: None });
        d.replace(now, DefenseSet { excluded: vec![from(5, 5)], ..set(filters.clone()) });
        assert_eq!(d.judge(now, &packet(5, 80)), Verdict::default());
        assert!(d.judge(now, &packet(6, 80)).blocked.is_some());
        d.replace(now, DefenseSet { mode: DefenseMode::Inactive, ..set(filters) });
        assert!(d.view().is_empty() && d.judge(now, &packet(6, 80)) == Verdict::default());
    }

    #[test]
    fn a_fragment_without_ports_is_blocked_by_what_stands_behind_a_filter_of_ports() {
        let (mut d, now) = (Defense::default(), start());
        let mut ports = filter(2, from(5, 5), false);
        ports.rule.protocol = Some(6);
        ports.rule.destination_ports = PortRange { low: 80, high: 80 };
        let mut fragments = filter(3, from(6, 6), false);
        fragments.rule.fragments_only = true;
        d.replace(now, set(vec![fragments, ports, filter(1, from(5, 5), false)]));
        let later = |n| Subject { upper: Upper::Opaque, fragment: true, routed: true, ..packet(n, 0) };
        assert_eq!(d.judge(now, &later(5)).blocked, Some(2), "R7");
        assert_eq!(d.judge(now, &later(6)).blocked, Some(0));
        assert_eq!(d.judge(now, &packet(6, 80)).blocked, None, "no fragment");
        assert_eq!(d.judge_fragment(now, &later(6)).blocked, Some(0));
        assert_eq!(d.judge_fragment(now, &later(5)).blocked, None, "judged as a whole later");
    }

    #[test]
    fn lines_are_limited_on_average_and_what_was_left_out_is_counted() {
        let now = start();
        let mut a = Allowance::default();
        assert_eq!(
            [a.admit(now, 2), a.admit(now, 2), a.admit(now, 2), a.admit(now, 2)],
            [Some(0), Some(0), None, None]
        );
        assert_eq!(a.admit(now + LOG_INTERVAL / 2, 2), Some(2));
        assert_eq!(a.admit(now + LOG_INTERVAL / 2, 2), None);
        let mut log = LogLimit::new(1);
        let mut d = Defense::default();
        d.replace(now, set(vec![filter(1, from(0, 9), true)]));
        let line = d.line(now, 0, &packet(5, 80), &mut log).unwrap().1;
        assert!(line.contains("would have dropped defensive_block: filter F1.1"), "{line}");
    }

    proptest! {
        #[test]
        fn judging_equals_a_scan_of_the_list(
            list in prop::collection::vec((0u32..30, 0u32..30, any::<bool>(), prop::option::of(0u16..4)), 0..12),
            source in 0u32..32, port in 0u16..5,
        ) {
            let (mut d, now) = (Defense::default(), start());
            let filters: Vec<_> = (1u64..).zip(&list).map(|(id, (a, b, simulate, port))| {
                let mut f = filter(id, from(*a.min(b), *a.max(b)), *simulate);
                if let Some(port) = port {
                    f.rule.protocol = Some(6);
                    f.rule.destination_ports = PortRange { low: *port, high: *port };
                }
                f
            }).collect();
            d.replace(now, set(filters.clone()));
            let s = packet(source, port);
            let hits: Vec<usize> = (0..filters.len()).filter(|i| matches(&filters[*i].rule, &s)).collect();
            let simulated = hits.first().copied().filter(|i| filters[*i].simulate);
            let blocked = hits.iter().copied().find(|i| !filters[*i].simulate);
            prop_assert_eq!(d.judge(now, &s), Verdict { simulated, blocked });
        }
    }
}
