//! What is counted where it happens: failed negotiations and takeovers, for the life of the daemon.

use crate::events::What;
use crate::ike::failure::FailureKind;
use crate::takeover::Entry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Upper bounds of the durations' buckets in seconds: a millisecond to five minutes.
const SECONDS: [f64; 13] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FailureLabels {
    stack: String,
    reason: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TakeoverLabels {
    stack: String,
    dvipa: String,
    cause: String,
    result: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReadyLabels {
    stack: String,
    dvipa: String,
    planned: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StepLabels {
    stack: String,
    step: String,
}

fn durations() -> Histogram {
    Histogram::new(SECONDS)
}

/// Counters that grow as things happen. Clones count together.
#[derive(Debug, Clone)]
pub struct Meters {
    failures: Family<FailureLabels, Counter>,
    takeovers: Family<TakeoverLabels, Counter>,
    ready: Family<ReadyLabels, Histogram, fn() -> Histogram>,
    steps: Family<StepLabels, Histogram, fn() -> Histogram>,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            failures: Family::default(),
            takeovers: Family::default(),
            ready: Family::new_with_constructor(durations),
            steps: Family::new_with_constructor(durations),
        }
    }
}

impl Meters {
    /// Something happened to a stack.
    pub(crate) fn happened(&self, stack: &str, what: &What) {
        if let What::Failed { reason, .. } = what {
            let labels = FailureLabels { stack: stack.to_owned(), reason: reason.kind.as_str() };
            self.failures.get_or_create(&labels).inc();
        }
    }

    /// A takeover has ended.
    pub(crate) fn took_over(&self, entry: &Entry) {
        let stack = || entry.to.as_str().to_owned();
        let labels = TakeoverLabels {
            stack: stack(),
            dvipa: entry.dvipa.to_string(),
            cause: entry.cause.to_string().replace(' ', "_"),
            result: entry.progress.to_string(),
        };
        self.takeovers.get_or_create(&labels).inc();
        if let Some(ready) = entry.ready() {
            let planned = if entry.planned { "yes" } else { "no" };
            let labels = ReadyLabels { stack: stack(), dvipa: entry.dvipa.to_string(), planned };
            self.ready.get_or_create(&labels).observe(ready.as_secs_f64());
        }
        for (step, took) in entry.steps.iter().filter_map(|t| Some((t.step, t.took?))) {
            let labels = StepLabels { stack: stack(), step: step.to_string() };
            self.steps.get_or_create(&labels).observe(Duration::as_secs_f64(&took));
        }
    }

    /// Every reason of a stack is shown from the start: a rate over a counter that appears with 1 misses the first.
    pub(super) fn introduce(&self, stack: &str) {
        for reason in FailureKind::ALL.map(FailureKind::as_str) {
            drop(self.failures.get_or_create(&FailureLabels { stack: stack.to_owned(), reason }));
        }
    }

    pub(super) fn register(&self, r: &mut Registry) {
        r.register("negotiation_failures", "Failed negotiations, by reason", self.failures.clone());
        r.register("takeovers", "Takeovers that ended, by cause and result", self.takeovers.clone());
        r.register(
            "takeover_ready_seconds",
            "From the first sign of a takeover until the new owner could send and negotiate",
            self.ready.clone(),
        );
        r.register("takeover_step_seconds", "Duration of the steps of takeovers", self.steps.clone());
    }
}

#[cfg(test)]
impl Meters {
    /// As if there had been one.
    pub(super) fn one_takeover(&self) {
        let word = || "S".to_owned();
        let takeover = TakeoverLabels { stack: word(), dvipa: word(), cause: word(), result: word() };
        self.takeovers.get_or_create(&takeover).inc();
        let ready = ReadyLabels { stack: word(), dvipa: word(), planned: "yes" };
        self.ready.get_or_create(&ready).observe(0.1);
        self.steps.get_or_create(&StepLabels { stack: word(), step: word() }).observe(0.1);
    }
}
