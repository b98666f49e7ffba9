//! Why something from the XCF link was ignored: each reason has a counter and, within limits, a line in the log.

use crate::control::DropView;
use crate::counters::{Counters, reasons};
use std::time::{Duration, Instant};

/// How long a reason is not logged again.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

reasons! {
    /// Why a datagram or message of another stack was ignored; the names stand beside those of dropped packets.
    pub enum Refusal {
        /// It names no member, or came from another address than that member's.
        NotMember => "xcf_not_member",
        /// Another version of the messages.
        WrongVersion => "xcf_wrong_version",
        /// No message of a stack, or one that its seal does not make right.
        Malformed => "xcf_malformed",
        /// The start that sealed it is not the one that the configuration names, or that is not known yet.
        UnknownStart => "xcf_unknown_start",
        /// The seal is broken.
        BadSeal => "xcf_bad_seal",
        /// Its counter was seen before, or is too old to tell.
        Replay => "xcf_replay",
        /// It is meant for another start of this stack: an old one, or one whose sender has not heard of this.
        OtherStart => "xcf_other_start",
        /// It is about a DVIPA, at an epoch that is over.
        OldEpoch => "xcf_old_epoch",
        /// Two stacks claim one epoch of a DVIPA.
        EpochConflict => "xcf_epoch_conflict",
        /// More DVIPAs than are kept.
        TooManyDvipas => "xcf_too_many_dvipas",
        /// A stream grew faster than it was taken: it was begun anew.
        StreamReset => "xcf_stream_reset",
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Line {
    since: Option<Instant>,
    suppressed: u64,
}

/// Counters and the pace of the log.
#[derive(Debug)]
pub struct Refusals {
    counts: Counters<Refusal>,
    lines: [Line; Refusal::ALL.len()],
}

impl Default for Refusals {
    fn default() -> Self {
        Self { counts: Counters::default(), lines: [Line::default(); Refusal::ALL.len()] }
    }
}

impl Refusals {
    /// Counts one that is not worth a line.
    pub fn count_quietly(&mut self, reason: Refusal) {
        self.counts.count(reason);
    }

    /// Counts one. If a line may be written, what it says.
    pub fn count(&mut self, now: Instant, reason: Refusal, about: impl FnOnce() -> String) -> Option<String> {
        self.count_quietly(reason);
        let line = &mut self.lines[reason as usize];
        if line.since.is_some_and(|s| now.saturating_duration_since(s) < LINE_INTERVAL) {
            line.suppressed += 1;
            return None;
        }
        line.since = Some(now);
        let text = format!("ignored {}: {}", reason.name(), about());
        Some(match std::mem::take(&mut line.suppressed) {
            0 => text,
            n => format!("{text} ({n} more suppressed)"),
        })
    }

    /// How often.
    #[must_use]
    pub fn of(&self, reason: Refusal) -> u64 {
        self.counts.of(reason)
    }

    /// The reasons that occurred.
    #[must_use]
    pub fn view(&self) -> Vec<DropView> {
        self.counts.view()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_documented() {
        let doc = include_str!("../../../docs/datapath.md");
        let table = doc.split("## Messages between stacks").nth(1).unwrap();
        for reason in Refusal::ALL {
            assert!(table.contains(&format!("`{}`", reason.name())), "{}", reason.name());
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn r3_one_line_then_a_count() {
        let now = Instant::now();
        let mut r = Refusals::default();
        let about = || "x".to_owned();
        assert_eq!(r.count(now, Refusal::BadSeal, about).as_deref(), Some("ignored xcf_bad_seal: x"));
        for _ in 0..5 {
            assert_eq!(r.count(now, Refusal::BadSeal, about), None);
        }
        let later = r.count(now + LINE_INTERVAL, Refusal::BadSeal, about);
        assert_eq!(later.as_deref(), Some("ignored xcf_bad_seal: x (5 more suppressed)"));
        assert_eq!(r.view(), [DropView { reason: "xcf_bad_seal".into(), packets: 7 }]);
    }
}
