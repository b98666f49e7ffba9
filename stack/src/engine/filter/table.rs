//! A filter table, ready for use: compiled where no packet waits for it, so that the packet path only exchanges it.

use super::Classifier;
use crate::control::{Direction, FilterRule, FilterSet};
use hashbrown::HashMap;

/// A rule that was in no table before.
pub(crate) const NEW: u32 = u32::MAX;

/// A compiled filter table.
#[derive(Debug)]
pub struct Table {
    set: FilterSet,
    classifier: Classifier,
    /// The same without the rules for certain peers, where there are any.
    for_anybody: Option<Classifier>,
    /// Epoch of the table that this one comes after.
    after: u64,
    /// For each rule, where the same one stands in that table; [`NEW`]: nowhere.
    inherits: Vec<u32>,
}

impl Default for Table {
    /// Without rules: everything is denied.
    fn default() -> Self {
        let set = FilterSet {
            epoch: 0,
            policy: false,
            logging: false,
            predecap: false,
            log_implicit: false,
            implicit_icmp: false,
            rules: Vec::new(),
        };
        Self { set, classifier: Classifier::default(), for_anybody: None, after: 0, inherits: Vec::new() }
    }
}

impl Table {
    /// Compiles a table that is to take the place of `before`.
    #[must_use]
    pub fn new(set: FilterSet, before: &Self) -> Self {
        let classifier = Classifier::compile(&set.rules);
        let for_some = set.rules.iter().any(FilterRule::is_for_certain_peers);
        let for_anybody =
            for_some.then(|| Classifier::compile_those(&set.rules, |r| !r.is_for_certain_peers()));
        let inherits = same_rules(&set.rules, &before.set.rules);
        Self { set, classifier, for_anybody, after: before.epoch(), inherits }
    }

    /// Its rules in search order.
    #[must_use]
    pub fn rules(&self) -> &[FilterRule] {
        &self.set.rules
    }

    /// Grows with each table that `iked` sends; 0: no table was sent yet.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.set.epoch
    }

    /// What it says beside its rules.
    pub(crate) const fn set(&self) -> &FilterSet {
        &self.set
    }

    /// The trees over its rules.
    pub(crate) const fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// The trees over its rules that are not for certain peers only; `None`: none is.
    pub(crate) const fn for_anybody(&self) -> Option<&Classifier> {
        self.for_anybody.as_ref()
    }

    /// For each rule its place in `before`; `None`: the table was made to come after another one.
    pub(crate) fn inherits(&self, before: &Self) -> Option<&[u32]> {
        (self.after == before.epoch()).then_some(&self.inherits)
    }
}

/// For each rule, where the same rule stands among `old`.
fn same_rules(rules: &[FilterRule], old: &[FilterRule]) -> Vec<u32> {
    let key = |r: &FilterRule| (r.extension, r.direction == Direction::Inbound);
    let mut places: HashMap<(&str, (u32, bool)), u32> = HashMap::with_capacity(old.len());
    for (place, rule) in (0..).zip(old) {
        places.insert((&rule.name, key(rule)), place);
    }
    let mut inherits = Vec::with_capacity(rules.len());
    for rule in rules {
        // A place is inherited once: what stands twice is not the same twice.
        let place = places.remove(&(rule.name.as_str(), key(rule))).unwrap_or(NEW);
        let before = usize::try_from(place).ok().and_then(|place| old.get(place));
        inherits.push(if before == Some(rule) { place } else { NEW });
    }
    inherits
}
