//! Answers to `iked`: one moment's view of filters, SAs, drops and connections.

use super::Engine;
use super::survey::{Filters, Kind, Reply, Survey};
use crate::control::{
    AddressRange, Answer, Direction, FilterKind, FilterRule, FilterTotals, FilterView, PortRange,
    PortTranslationView, Question,
};
use hashbrown::HashMap;

impl Engine {
    /// Answers a question, or begins to; `None` for those that the driver answers (`Interfaces`).
    #[must_use]
    pub fn ask(&self, question: Question) -> Option<Reply> {
        let survey = |kind| Some(Reply::Survey(Survey(kind)));
        let answer = match question {
            Question::Interfaces => return None,
            Question::Filters => return survey(Kind::Filters(self.begin_filters())),
            // All the room at once: to copy millions of octets into a larger one takes longer than a step may.
            Question::Sas => {
                let views = Vec::with_capacity(self.sad.places());
                return survey(Kind::Sas { next: 0, views });
            }
            Question::Arrivals { within_ms } => {
                return survey(Kind::Arrivals { next: 0, within_ms, found: Vec::new() });
            }
            Question::Test(test) => {
                let (asked, filters) = (self.begin_test(&test), self.begin_filters());
                return survey(Kind::Test { asked, filters });
            }
            Question::Summary => Answer::Summary(self.spd.summary()),
            Question::PortTranslations => Answer::PortTranslations(self.nat.view()),
            Question::Drops => Answer::Drops(self.drops.view()),
            Question::Distribution => Answer::Distribution(self.distributor.view(&self.connections)),
            Question::Traffic => Answer::Traffic(self.sad.totals()),
            Question::Defense => Answer::Filters(self.defense.view()),
        };
        Some(Reply::Answer(answer))
    }
}

impl Filters {
    /// In search order: defensive ones first; those of NAT resolution stand before the outbound filter of their tunnel.
    pub(super) fn views(self) -> Vec<FilterView> {
        let mut resolutions: HashMap<u32, Vec<PortTranslationView>> = HashMap::new();
        for r in self.resolutions {
            resolutions.entry(r.tunnel).or_default().push(r);
        }
        let mut all = self.defense;
        let filters = self.table.views();
        all.reserve(filters.len());
        for filter in filters {
            if let (FilterKind::Dynamic(tunnel), Direction::Outbound) = (filter.kind, filter.rule.direction) {
                let flows = resolutions.remove(&tunnel).unwrap_or_default();
                all.extend(flows.iter().map(|r| resolution(&filter, r)));
            }
            all.push(filter);
        }
        all
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
