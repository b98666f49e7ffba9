//! A new or restarted owner learns its connection table from the stacks on which connections end (race R10).
//!
//! ```text
//!   becomes owner ─► every member that may live is asked ─┬─ all have reported ─┬─► rebuilt
//!                      (again while it does not answer)   └─ one second ────────┘
//! ```

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long unknown flows are held.
pub(super) const PHASE: Duration = Duration::from_secs(1);
/// Longest that a packet waits for the end of the phase, and a little.
pub(super) const LONGEST_WAIT: Duration = Duration::from_millis(1500);
/// A member is asked again after this, then after twice as long, and so on.
const FIRST_REPEAT: Duration = Duration::from_millis(40);

/// A table that is being rebuilt.
#[derive(Debug)]
struct Rebuild {
    dvipa: IpAddr,
    epoch: u64,
    end: Instant,
    ask_again: Instant,
    interval: Duration,
    /// XCF addresses of members that have not reported.
    awaited: Vec<IpAddr>,
    /// Unknown flows are held; false: the table is whole but for what one member said.
    holding: bool,
}

/// A table that is rebuilt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) dvipa: IpAddr,
    pub(super) epoch: u64,
    /// XCF addresses of members that did not report in time.
    pub(super) missing: Vec<IpAddr>,
    /// As it was started.
    pub(super) holding: bool,
}

/// The tables that are being rebuilt: as many as DVIPAs were taken over in the last second.
#[derive(Debug, Default)]
pub(super) struct Rebuilds {
    running: Vec<Rebuild>,
}

impl Rebuilds {
    /// Begins; whom to ask is `awaited`. `holding`: unknown flows are held until then.
    pub(super) fn start(
        &mut self,
        now: Instant,
        dvipa: IpAddr,
        epoch: u64,
        awaited: Vec<IpAddr>,
        holding: bool,
    ) {
        // The same members are not asked twice over.
        self.running.retain(|r| r.dvipa != dvipa || r.holding != holding || r.awaited != awaited);
        self.running.push(Rebuild {
            dvipa,
            epoch,
            end: now + PHASE,
            ask_again: now,
            interval: FIRST_REPEAT,
            awaited,
            holding,
        });
    }

    /// The DVIPA is another stack's.
    pub(super) fn stop(&mut self, dvipa: IpAddr) {
        self.running.retain(|r| r.dvipa != dvipa);
    }

    /// Whether unknown flows of the DVIPA are held.
    pub(super) fn holds(&self, dvipa: IpAddr) -> bool {
        self.running.iter().any(|r| r.holding && r.dvipa == dvipa)
    }

    /// A member has said all that it has.
    pub(super) fn reported(&mut self, dvipa: IpAddr, member: IpAddr) {
        for r in self.running.iter_mut().filter(|r| r.dvipa == dvipa) {
            r.awaited.retain(|m| *m != member);
        }
    }

    /// A member has nothing to say any more.
    pub(super) fn gone(&mut self, member: IpAddr) {
        for r in &mut self.running {
            r.awaited.retain(|m| *m != member);
        }
    }

    /// Members to be asked (again): member, DVIPA, epoch.
    pub(super) fn asks(&mut self, now: Instant) -> Vec<(IpAddr, IpAddr, u64)> {
        let mut asked = Vec::new();
        for r in self.running.iter_mut().filter(|r| r.ask_again <= now) {
            asked.extend(r.awaited.iter().map(|m| (*m, r.dvipa, r.epoch)));
            r.ask_again = now + r.interval;
            r.interval *= 2;
        }
        asked
    }

    /// One that is over.
    pub(super) fn take_done(&mut self, now: Instant) -> Option<Done> {
        let at = self.running.iter().position(|r| r.awaited.is_empty() || r.end <= now)?;
        let Rebuild { dvipa, epoch, awaited: missing, holding, .. } = self.running.swap_remove(at);
        Some(Done { dvipa, epoch, missing, holding })
    }

    /// When something is to be done.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.running
            .iter()
            .map(|r| if r.awaited.is_empty() { r.ask_again } else { r.ask_again.min(r.end) })
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn member(n: u8) -> IpAddr {
        IpAddr::from([10, 99, 0, n])
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn ends_with_the_last_report_or_after_a_second() {
        let now = Instant::now();
        let mut r = Rebuilds::default();
        r.start(now, D, 7, vec![member(2), member(3)], true);
        assert_eq!(r.asks(now), [(member(2), D, 7), (member(3), D, 7)]);
        assert!(r.asks(now + Duration::from_millis(39)).is_empty());
        r.reported(D, member(2));
        assert_eq!(r.asks(now + FIRST_REPEAT), [(member(3), D, 7)]);
        assert_eq!(r.take_done(now + FIRST_REPEAT), None);
        r.gone(member(3));
        assert_eq!(r.take_done(now), Some(Done { dvipa: D, epoch: 7, missing: vec![], holding: true }));
        assert!(!r.holds(D));

        r.start(now, D, 8, vec![member(2)], true);
        assert!(r.holds(D));
        let mut asked = 0;
        let mut at = now;
        while r.take_done(at).is_none() {
            asked += r.asks(at).len();
            at = r.next_timeout().unwrap();
        }
        assert_eq!(at, now + PHASE);
        assert!((4..8).contains(&asked), "{asked}");
    }
}
