//! Answers to `iked`: one moment's view of filters, SAs, drops and connections.

use super::Engine;
use crate::control::{Answer, Question, SaView};
use std::time::Instant;

impl Engine {
    /// Answers a question; `None` for those that the driver answers (`Interfaces`).
    #[must_use]
    pub fn answer(&self, now: Instant, question: Question) -> Option<Answer> {
        Some(match question {
            Question::Summary => Answer::Summary(self.spd.summary()),
            Question::Filters => Answer::Filters(self.spd.view()),
            Question::Sas => Answer::Sas(self.sas(now)),
            Question::Interfaces => return None,
            Question::Drops => Answer::Drops(self.drops.view()),
            Question::Distribution => Answer::Distribution(self.distributor.view(&self.connections)),
        })
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
