//! Answers about everything there is: made in steps between packets, so that a display of 100,000 tunnels holds none up.
//!
//! ```text
//!   packet thread   ask ─► survey, STEP entries a turn ─► survey … complete          judge (a tested packet)
//!   another thread                                                └─► finish ─► Answer │ Candidates ─┘
//! ```
//!
//! The engine only copies, a few entries at a time; to sort and to put into words is the other thread's part. What comes or
//! goes meanwhile is in the answer or is not: each entry is true of a moment of its own.

use super::Engine;
use super::packet_test::{Asked, Candidates};
use super::spd;
use crate::control::{Answer, FilterView, LastArrival, PortTranslationView, SaView};
use std::time::Instant;

/// Entries that are copied in a turn: some 50 µs of a packet's time.
const STEP: usize = 256;
/// Entries that are only looked at: as much.
const GLANCE: usize = 2_048;

/// What a question gets at once.
#[derive(Debug)]
pub enum Reply {
    /// The answer.
    Answer(Answer),
    /// The beginning of one; [`Engine::survey`] goes on with it.
    Survey(Survey),
}

/// An answer in the making.
#[derive(Debug)]
pub struct Survey(pub(super) Kind);

#[derive(Debug)]
pub(super) enum Kind {
    Sas { next: usize, views: Vec<SaView> },
    Arrivals { next: usize, within_ms: u64, found: Vec<LastArrival> },
    Filters(Box<Filters>),
    Test { asked: Asked, filters: Box<Filters> },
}

/// The filters in force.
#[derive(Debug)]
pub(super) struct Filters {
    pub(super) defense: Vec<FilterView>,
    pub(super) resolutions: Vec<PortTranslationView>,
    pub(super) table: spd::Survey,
}

/// What a complete survey comes to.
#[derive(Debug)]
pub enum Finished {
    /// The answer.
    Answer(Answer),
    /// Filters that a tested packet may match; the engine decides between them ([`Engine::judge`]).
    Candidates(Candidates),
}

impl Engine {
    /// Goes a step on; true: the survey is complete.
    pub fn survey(&self, now: Instant, survey: &mut Survey) -> bool {
        match &mut survey.0 {
            Kind::Sas { next, views } => {
                let active = |sa: &super::sad::Sa| self.spd.is_active(sa.pair().spi_in);
                let view = |sa| SaView { outbound_active: active(sa), ..sa.view(now) };
                views.extend(self.sad.at(*next, STEP).map(view));
                *next += STEP;
                *next >= self.sad.places()
            }
            Kind::Arrivals { next, within_ms, found } => {
                let lately = |sa: &super::sad::Sa| {
                    let idle_in_ms = sa.idle_in_ms(now).filter(|idle| *idle <= *within_ms)?;
                    Some(LastArrival { spi_in: sa.pair().spi_in, idle_in_ms })
                };
                found.extend(self.sad.at(*next, GLANCE).filter_map(lately));
                *next += GLANCE;
                *next >= self.sad.places()
            }
            Kind::Filters(filters) | Kind::Test { filters, .. } => self.spd.survey(&mut filters.table, STEP),
        }
    }

    pub(super) fn begin_filters(&self) -> Box<Filters> {
        let (defense, resolutions) = (self.defense.view(), self.nat.view());
        Box::new(Filters { defense, resolutions, table: self.spd.begin_survey() })
    }
}

impl Survey {
    /// Makes the answer of a complete survey. It may take a tenth of a second: not for the packet thread.
    #[must_use]
    pub fn finish(self) -> Finished {
        match self.0 {
            Kind::Sas { mut views, .. } => {
                views.sort_unstable_by_key(|v| v.spi_in);
                Finished::Answer(Answer::Sas(views))
            }
            Kind::Arrivals { found, .. } => Finished::Answer(Answer::Arrivals(found)),
            Kind::Filters(filters) => Finished::Answer(Answer::Filters(filters.views())),
            Kind::Test { asked, filters } => Finished::Candidates(asked.among(filters.views())),
        }
    }
}
