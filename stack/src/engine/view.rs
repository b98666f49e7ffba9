//! Answers to `iked`: one moment's view of filters, SAs, drops and connections.

use super::Engine;
use crate::control::{
    AddressRange, Answer, Direction, FilterKind, FilterRule, FilterTotals, FilterView, PortRange,
    PortTranslationView, Question, SaView,
};
use hashbrown::HashMap;
use std::time::Instant;

impl Engine {
    /// Answers a question; `None` for those that the driver answers (`Interfaces`).
    #[must_use]
    pub fn answer(&self, now: Instant, question: Question) -> Option<Answer> {
        Some(match question {
            Question::Summary => Answer::Summary(self.spd.summary()),
            Question::Filters => Answer::Filters(self.filters()),
            Question::PortTranslations => Answer::PortTranslations(self.nat.view()),
            Question::Sas => Answer::Sas(self.sas(now)),
            Question::Interfaces => return None,
            Question::Drops => Answer::Drops(self.drops.view()),
            Question::Distribution => Answer::Distribution(self.distributor.view(&self.connections)),
            Question::Traffic => Answer::Traffic(self.sad.totals()),
            Question::Defense => Answer::Filters(self.defense.view()),
            Question::Test(test) => Answer::Test(Box::new(self.test(&test))),
        })
    }

    /// The filters in force, defensive ones first; those of NAT resolution stand before the outbound filter of their tunnel.
    pub(super) fn filters(&self) -> Vec<FilterView> {
        let mut all = self.defense.view();
        all.append(&mut self.filter_table());
        all
    }

    fn filter_table(&self) -> Vec<FilterView> {
        let mut resolutions: HashMap<u32, Vec<PortTranslationView>> = HashMap::new();
        for r in self.nat.view() {
            resolutions.entry(r.tunnel).or_default().push(r);
        }
        let filters = self.spd.view();
        if resolutions.is_empty() {
            return filters;
        }
        let mut all = Vec::with_capacity(filters.len());
        for filter in filters {
            if let (FilterKind::Dynamic(tunnel), Direction::Outbound) = (filter.kind, filter.rule.direction) {
                let flows = resolutions.remove(&tunnel).unwrap_or_default();
                all.extend(flows.iter().map(|r| resolution(&filter, r)));
            }
            all.push(filter);
        }
        all
    }

    fn sas(&self, now: Instant) -> Vec<SaView> {
        let mut views: Vec<SaView> = self
            .sad
            .iter()
            .map(|sa| SaView { outbound_active: self.spd.is_active(sa.pair().spi_in), ..sa.view(now) })
            .collect();
        views.sort_unstable_by_key(|v| v.spi_in);
        views
    }
}

/// The NAT resolution filter of one flow, which goes by the tunnel of `dynamic`.
fn resolution(dynamic: &FilterView, r: &PortTranslationView) -> FilterView {
    let port = |port| PortRange { low: port, high: port };
    FilterView {
        rule: FilterRule {
            source: AddressRange::single(r.local),
            destination: AddressRange::single(r.remote),
            protocol: Some(r.protocol),
            source_ports: port(r.local_port),
            destination_ports: port(r.translated),
            ..dynamic.rule.clone()
        },
        kind: FilterKind::Resolution { tunnel: r.tunnel, original_port: r.original },
        totals: FilterTotals::default(),
        created: dynamic.created,
    }
}
