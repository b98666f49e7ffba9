//! The task that keeps a stack in the store's sight: its `member` record, and the lease that lets it use its DVIPAs.
//!
//! What counts is only a renewal that was acknowledged, from the moment before it was sent; and each renewal holds
//! only if all DVIPAs of the stack are still its own, in the same transaction. So whoever takes one over, after it
//! saw no renewal for the lease and a quarter, knows that none comes after.

use super::CouplingFacility;
use super::fence::{Fence, FenceError, SetBack, Standing, Sysplex, within};
use super::health::Source;
use super::keeper::Shared;
use super::order::{Progress, Report};
use super::record::{Alive, Member};
use super::{Change, Condition, LEASED_PERIOD, Outcome, Revision, Transaction};
use crate::supervise::Backoff;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tracing::warn;

/// What a pulse is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Duty {
    /// The stack runs.
    Serve(Member, Option<Duration>),
    /// It has ended. `closing`: so has the daemon, and the store is asked once only.
    End { closing: bool },
    /// It may run or not: nothing is written until there is more to say.
    Rest,
    /// The daemon ends and the stack goes on: nothing more is written.
    Leave,
}

/// The pulse of one stack.
pub(super) struct Pulse<C> {
    stack: String,
    shared: Arc<Shared<C>>,
    duty: watch::Receiver<Duty>,
    count: u64,
    /// Revision of the last renewal: a store whose count goes back was set back.
    newest: Revision,
    last: Option<(Member, Duration)>,
    /// The store says that the stack has ended.
    ended: bool,
}

impl<C: CouplingFacility> Pulse<C> {
    pub(super) const fn new(stack: String, shared: Arc<Shared<C>>, duty: watch::Receiver<Duty>) -> Self {
        Self { stack, shared, duty, count: 0, newest: Revision::ABSENT, last: None, ended: false }
    }

    /// Works until the daemon ends.
    pub(super) async fn run(mut self) {
        loop {
            let duty = self.duty.borrow_and_update().clone();
            self.ended &= matches!(duty, Duty::End { .. });
            match duty {
                Duty::Serve(member, Some(lease)) => {
                    self.last = Some((member.clone(), lease));
                    self.renew(&member, lease).await;
                }
                Duty::Serve(member, None) => self.announce(&member).await,
                Duty::End { closing: false } => self.end(false).await,
                Duty::End { closing: true } => {
                    if !self.ended {
                        self.end(true).await;
                    }
                    return;
                }
                Duty::Rest => {
                    self.shared.health.gone(&Source::Stack(self.stack.clone())).await;
                    let changed = self.duty.changed().await;
                    self.left(changed.is_err());
                }
                Duty::Leave => return,
            }
        }
    }

    /// Keeps the `member` record.
    async fn announce(&mut self, member: &Member) {
        let mut backoff = pauses();
        loop {
            let pause = match self.put_member(member).await {
                false => backoff.pause(),
                true if C::EXPIRES => LEASED_PERIOD,
                true => Duration::MAX,
            };
            tokio::select! {
                () = sleep(pause) => {}
                changed = self.duty.changed() => return self.left(changed.is_err()),
            }
        }
    }

    /// The keeper is gone: so is its pulse.
    fn left(&mut self, gone: bool) {
        if gone {
            let (_, duty) = watch::channel(Duty::Leave);
            self.duty = duty;
        }
    }

    async fn put_member(&self, member: &Member) -> bool {
        let written = async {
            let plex = self.shared.sysplex().await?;
            let path = plex.paths().member(&self.shared.system, &self.stack);
            plex.put_leased(path, Some(member)).await
        };
        self.judge(written.await).await
    }

    async fn judge<T>(&self, done: Result<T, FenceError>) -> bool {
        let source = Source::Stack(self.stack.clone());
        match done {
            Ok(_) => {
                self.shared.health.good(&source).await;
                true
            }
            Err(e) => {
                self.shared.health.bad(source, e.to_string(), e.is_store()).await;
                false
            }
        }
    }

    async fn renew(&mut self, member: &Member, lease: Duration) {
        let mut ticks = interval(lease / 5);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut member_due = Instant::now();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = self.duty.changed() => return self.left(changed.is_err()),
            }
            let done = self.renew_once(member, lease).await;
            let good = self.judge(done).await;
            if good && Instant::now() >= member_due && self.put_member(member).await {
                member_due = Instant::now() + LEASED_PERIOD;
            }
        }
    }

    /// Sends one renewal and judges its answer.
    async fn renew_once(&mut self, member: &Member, lease: Duration) -> Result<(), FenceError> {
        let plex = self.shared.sysplex().await?;
        let fences = self.shared.fences.of(&self.stack);
        self.count += 1;
        let lease_ms = u32::try_from(lease.as_millis()).unwrap_or(u32::MAX);
        let alive = Alive { start: member.start, count: self.count, lease_ms, ended: false };
        // Before the request is on its way: the lease is over no later here than it is for anybody who saw it.
        let sent_boot_ns = (self.shared.clock)();
        let sent = async { Ok(plex.renew(&self.shared.system, &self.stack, &alive, &fences).await) };
        match within(lease.max(Duration::from_millis(100)), sent).await?? {
            Outcome::Committed(revision) => {
                if revision <= self.newest {
                    self.set_back(&fences, &plex).await;
                }
                self.newest = revision;
                let stack = self.stack.clone();
                self.shared.report(Report::Renewed { stack, sent_boot_ns, lease }).await;
                Ok(())
            }
            Outcome::ConditionFailed => self.look(&plex, &fences).await,
        }
    }

    /// One of the DVIPAs is not this stack's any more, or its fence was renewed meanwhile.
    async fn look(&self, plex: &Sysplex<C>, fences: &[Fence]) -> Result<(), FenceError> {
        for fence in fences {
            let standing = plex.standing(fence).await?;
            // What the clerk changed meanwhile is the clerk's to tell.
            if !self.shared.fences.holds(fence) {
                continue;
            }
            let dvipa = fence.dvipa();
            match standing {
                Standing::Unchanged => {}
                Standing::Rewritten(newer) => self.shared.fences.set(newer),
                Standing::Lost | Standing::Released => {
                    self.shared.fences.remove(dvipa);
                    self.shared.report(Report::Lost(dvipa)).await;
                }
                Standing::SetBack(SetBack { seen, found }) => {
                    self.shared.fences.remove(dvipa);
                    self.shared.report(Report::StoreSetBack { dvipa, seen, found }).await;
                }
            }
        }
        Ok(())
    }

    /// The store counts from a smaller number: an old copy was put in its place.
    async fn set_back(&self, fences: &[Fence], plex: &Sysplex<C>) {
        for fence in fences {
            let dvipa = fence.dvipa();
            warn!(%dvipa, "the coupling facility was set back to an older state");
            let (seen, found) = (plex.known().of(dvipa), Progress { epoch: fence.epoch(), ceiling: None });
            self.shared.report(Report::StoreSetBack { dvipa, seen, found }).await;
        }
    }

    /// Says in the store that the stack has ended, and takes it out of the members.
    async fn end(&mut self, closing: bool) {
        let mut backoff = pauses();
        loop {
            let done = self.end_once().await;
            if self.judge(done).await {
                self.shared.health.gone(&Source::Stack(self.stack.clone())).await;
                (self.last, self.ended) = (None, true);
                self.shared.report(Report::Ended { stack: self.stack.clone() }).await;
                break;
            }
            if closing {
                return;
            }
            let again = Instant::now() + backoff.pause();
            tokio::select! {
                () = sleep_until(again) => {}
                changed = self.duty.changed() => return self.left(changed.is_err()),
            }
        }
        if !closing {
            let changed = self.duty.changed().await;
            self.left(changed.is_err());
        }
    }

    async fn end_once(&mut self) -> Result<(), FenceError> {
        let plex = self.shared.sysplex().await?;
        if let Some((member, lease)) = &self.last {
            self.count += 1;
            let lease_ms = u32::try_from(lease.as_millis()).unwrap_or(u32::MAX);
            let alive = Alive { start: member.start, count: self.count, lease_ms, ended: true };
            let path = plex.paths().alive(&self.shared.system, &self.stack);
            if !say_ended(&plex, path, &alive, self.newest).await? {
                // Another start of the stack lives.
                return Ok(());
            }
        }
        plex.put_leased::<Member>(plex.paths().member(&self.shared.system, &self.stack), None).await
    }
}

/// Puts `alive`, which says that its start of the stack has ended, in place of that start's last renewal, which was at
/// `newest` as far as is known. False: another start has written since. An order that comes late, after a new start, so
/// changes nothing.
async fn say_ended<C: CouplingFacility>(
    plex: &Sysplex<C>,
    path: String,
    alive: &Alive,
    mut newest: Revision,
) -> Result<bool, FenceError> {
    loop {
        let conditions = vec![Condition::Revision(path.clone(), newest)];
        let changes = vec![Change::Put(path.clone(), plex.seal(&path, 0, alive)?)];
        if let Outcome::Committed(_) = plex.commit(Transaction { conditions, changes }).await? {
            return Ok(true);
        }
        // A renewal whose answer was lost, or somebody else.
        newest = match plex.get(&path).await? {
            Some(entry) => match plex.open::<Alive>(&path, &entry.value) {
                Ok((_, found)) if found.start != alive.start => return Ok(false),
                // What cannot be read says nothing of any life.
                Ok(_) | Err(_) => entry.revision,
            },
            None => Revision::ABSENT,
        };
    }
}

fn pauses() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(5))
}
