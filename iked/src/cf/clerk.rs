//! The task that does what is wanted for one DVIPA, in order of urgency, one step at a time.
//!
//! It keeps, for each record, only the newest wish, and repeats what failed with growing pauses. Between two steps
//! it looks at its wishes again, so a claim or a ceiling never waits for a thousand records.

use super::fence::{Contents, Fence, FenceError, Record, Sysplex, in_bounds};
use super::health::Source;
use super::keeper::Shared;
use super::mirror::Mirror;
use super::order::{AliveSeen, Expected, NotOwned, Progress, Report};
use super::record::{Backup, Ceiling, RecordId, Secret};
use super::{CfError, Change, CouplingFacility, LEASED_PERIOD, PAGE, RecordKey};
use crate::supervise::Backoff;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tracing::warn;

/// A DVIPA is to be taken.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) stack: String,
    pub(super) expected: Expected,
    pub(super) over: Option<AliveSeen>,
}

/// What is to be done for one DVIPA.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) claim: Option<Claim>,
    /// The claim is not wanted any more.
    pub(super) withdraw: bool,
    pub(super) backups: BTreeMap<u8, Option<String>>,
    pub(super) ceiling: Option<u64>,
    pub(super) keys: BTreeMap<RecordId, (u64, Option<Secret>)>,
    pub(super) records: BTreeMap<RecordKey, Option<Record>>,
    pub(super) release: bool,
    pub(super) clear: bool,
    /// Another key is in force.
    pub(super) seal_again: bool,
    /// The daemon ends: what cannot be done now is not done.
    pub(super) closing: bool,
}

/// Where the keeper leaves wishes for a clerk.
#[derive(Debug, Default)]
pub(super) struct Desk {
    wishes: Mutex<Wishes>,
    changed: Notify,
}

impl Desk {
    /// Changes the wishes and wakes the clerk.
    pub(super) fn change(&self, f: impl FnOnce(&mut Wishes)) {
        f(&mut self.wishes());
        self.changed.notify_one();
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        // Wishes are replaced one by one: none is half changed after a panic.
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a step was not done.
struct Trouble {
    reason: String,
    /// Because the store does not do its work.
    store: bool,
}

impl From<FenceError> for Trouble {
    fn from(e: FenceError) -> Self {
        Self { reason: e.to_string(), store: e.is_store() }
    }
}

/// One thing to do.
#[derive(Debug)]
enum Step {
    Claim(Claim),
    Withdraw(Claim),
    /// After a call whose end is unknown.
    Refence,
    /// Records that must not be there.
    ForgetKeys,
    Ceiling(u64),
    Keys(BTreeMap<RecordId, (u64, Option<Secret>)>),
    Records(BTreeMap<RecordKey, Option<Record>>),
    Release,
    Backup(u8, Option<String>),
    Reseal,
    Clear,
}

/// The clerk of one DVIPA.
pub(super) struct Clerk<C> {
    dvipa: IpAddr,
    shared: Arc<Shared<C>>,
    desk: Arc<Desk>,
    fence: Option<Fence>,
    /// A write may still arrive.
    doubt: bool,
    /// A claim may have been made that was not acknowledged.
    claim_doubt: bool,
    forget_keys: bool,
    reseal: bool,
    ceiling: u64,
    /// Epoch of the last ownership that was acknowledged.
    epoch: u64,
    /// Records that must be repeated.
    backups: BTreeMap<u8, String>,
    /// While another one is the owner, and the store is elsewhere: what a claim will find.
    mirror: Option<Mirror>,
    backoff: Backoff,
}

impl<C: CouplingFacility> Clerk<C> {
    pub(super) fn new(dvipa: IpAddr, shared: Arc<Shared<C>>, desk: Arc<Desk>) -> Self {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        Self {
            dvipa,
            shared,
            desk,
            fence: None,
            doubt: false,
            claim_doubt: false,
            forget_keys: false,
            reseal: false,
            ceiling: 0,
            epoch: 0,
            backups: BTreeMap::new(),
            mirror: None,
            backoff,
        }
    }

    /// Works until the daemon ends.
    pub(super) async fn run(mut self) {
        self.look();
        loop {
            if std::mem::take(&mut self.desk.wishes().seal_again) {
                self.seal_again();
            }
            let Some(step) = self.next() else {
                if self.desk.wishes().closing {
                    return;
                }
                let repeat =
                    if C::EXPIRES && !self.backups.is_empty() { LEASED_PERIOD } else { Duration::MAX };
                if tokio::time::timeout(repeat, self.desk.changed.notified()).await.is_err() {
                    self.repeat_backups();
                }
                continue;
            };
            let source = Source::Dvipa(self.dvipa);
            match self.attempt(step).await {
                Ok(()) => {
                    self.backoff.reset();
                    if self.is_idle() {
                        self.shared.health.good(&source).await;
                    }
                }
                Err(Trouble { reason, store }) => {
                    let keys = self.desk.wishes().records.keys().copied().collect();
                    self.report(Report::Failed {
                        dvipa: self.dvipa,
                        keys,
                        reason: reason.clone(),
                        lasting: false,
                    })
                    .await;
                    self.shared.health.bad(source, reason, store).await;
                    if self.desk.wishes().closing {
                        return;
                    }
                    let pause = self.backoff.pause();
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.shared.health.recovery() => {}
                        () = self.shared.closing.cancelled() => {}
                    }
                }
            }
        }
    }

    fn repeat_backups(&self) {
        let mut w = self.desk.wishes();
        for (rank, stack) in &self.backups {
            w.backups.entry(*rank).or_insert_with(|| Some(stack.clone()));
        }
    }

    /// Wishes that all records of this system stand under the key that is in force now.
    fn seal_again(&mut self) {
        self.repeat_backups();
        // The owner record and what belongs to it; a mirror may have refused what the key before did not open.
        (self.doubt, self.reseal) = (self.fence.is_some(), self.fence.is_some());
        self.mirror = None;
        self.look();
    }

    fn is_idle(&self) -> bool {
        let w = self.desk.wishes();
        w.claim.is_none()
            && w.backups.is_empty()
            && (self.fence.is_none()
                || (w.ceiling.is_none() && w.keys.is_empty() && w.records.is_empty() && !w.clear))
    }

    /// Takes the most urgent wish.
    fn next(&self) -> Option<Step> {
        let mut w = self.desk.wishes();
        let withdraw = std::mem::take(&mut w.withdraw);
        if let Some(claim) = w.claim.take() {
            return Some(if withdraw { Step::Withdraw(claim) } else { Step::Claim(claim) });
        }
        if self.fence.is_some() {
            if self.doubt {
                return Some(Step::Refence);
            }
            if self.forget_keys {
                return Some(Step::ForgetKeys);
            }
            if let Some(highest) = w.ceiling.take() {
                return Some(Step::Ceiling(highest));
            }
            if !w.keys.is_empty() {
                return Some(Step::Keys(take_some(&mut w.keys)));
            }
            if !w.records.is_empty() {
                return Some(Step::Records(take_some(&mut w.records)));
            }
            if w.release {
                return Some(Step::Release);
            }
        }
        if let Some((rank, stack)) = w.backups.pop_first() {
            return Some(Step::Backup(rank, stack));
        }
        if self.fence.is_some() {
            if self.reseal {
                return Some(Step::Reseal);
            }
            if w.clear {
                return Some(Step::Clear);
            }
        }
        None
    }

    /// Does a step; what could not be done is wished again. An error says that the store did not work.
    async fn attempt(&mut self, step: Step) -> Result<(), Trouble> {
        let plex = match self.shared.sysplex().await {
            Ok(plex) => plex,
            Err(e) => {
                self.put_back(step);
                return Err(e.into());
            }
        };
        match step {
            Step::Claim(claim) => self.claim(&plex, claim).await,
            Step::Withdraw(claim) => self.withdraw(&plex, claim).await,
            Step::Backup(rank, stack) => self.backup(&plex, rank, stack).await,
            step => {
                let Some(fence) = self.fence.clone() else { return Ok(()) };
                match self.owned_step(&plex, &fence, &step).await {
                    Ok(None) => Ok(()),
                    Ok(Some(report)) => {
                        self.report(report).await;
                        Ok(())
                    }
                    Err(e) => self.failed(e, step).await,
                }
            }
        }
    }

    fn put_back(&self, step: Step) {
        let mut w = self.desk.wishes();
        match step {
            Step::Claim(claim) => {
                w.claim.get_or_insert(claim);
            }
            Step::Withdraw(claim) => {
                w.withdraw |= w.claim.is_none();
                w.claim.get_or_insert(claim);
            }
            Step::Ceiling(highest) => w.ceiling = w.ceiling.max(Some(highest)),
            Step::Keys(keys) => {
                for (id, k) in keys {
                    w.keys.entry(id).or_insert(k);
                }
            }
            Step::Records(records) => {
                for (k, r) in records {
                    w.records.entry(k).or_insert(r);
                }
            }
            Step::Backup(rank, stack) => {
                w.backups.entry(rank).or_insert(stack);
            }
            // Their wish stands until it is done.
            Step::Refence | Step::ForgetKeys | Step::Release | Step::Reseal | Step::Clear => {}
        }
    }

    async fn claim(&mut self, plex: &Sysplex<C>, claim: Claim) -> Result<(), Trouble> {
        let dvipa = self.dvipa;
        self.set_fence(None);
        let mut expected = claim.expected.clone();
        if self.claim_doubt && self.was_made(plex, &claim).await.unwrap_or(false) {
            expected = Expected::Any;
        }
        let by = (self.shared.system.as_str(), claim.stack.as_str());
        let claimed = plex.claim_with(self.mirror.as_ref(), dvipa, by, &expected, claim.over.as_ref());
        match claimed.await {
            Ok((fence, left)) => {
                let continues = self.shared.continued.contains(&dvipa);
                self.forget_keys = !continues;
                self.reseal = plex.key().has_older();
                (self.doubt, self.claim_doubt) = (false, false);
                self.ceiling = left.ceiling.map_or(0, |(_, c)| c.highest);
                let epoch = fence.epoch();
                self.epoch = epoch;
                self.set_fence(Some(fence));
                let left =
                    Box::new(if continues { left } else { Contents { keys: vec![], ceiling: None, ..left } });
                if let Some(set_back) = left.set_back {
                    self.report(Report::StoreSetBack { dvipa, seen: set_back.seen, found: set_back.found })
                        .await;
                }
                self.report(Report::Owned { dvipa, stack: claim.stack, epoch, left }).await;
                Ok(())
            }
            Err(FenceError::NotOwned { reason, .. }) => {
                self.forget();
                self.report(Report::NotOwned { dvipa, stack: claim.stack, reason }).await;
                Ok(())
            }
            Err(e) => {
                self.claim_doubt |= matches!(&e, FenceError::Store(store) if store.outcome_unknown());
                self.put_back(Step::Claim(claim));
                Err(e.into())
            }
        }
    }

    /// Whether a claim whose answer was lost was made after all.
    async fn was_made(&self, plex: &Sysplex<C>, claim: &Claim) -> Result<bool, FenceError> {
        let owner = plex.owner(self.dvipa).await?;
        Ok(owner.is_some_and(|(o, _)| {
            o.system.eq_ignore_ascii_case(&self.shared.system)
                && o.stack.eq_ignore_ascii_case(&claim.stack)
                && !o.released
                && o.epoch > self.epoch
        }))
    }

    /// Answers that a claim was not made, or makes it again if it was.
    async fn withdraw(&mut self, plex: &Sysplex<C>, claim: Claim) -> Result<(), Trouble> {
        let dvipa = self.dvipa;
        if self.claim_doubt {
            match self.was_made(plex, &claim).await {
                Ok(true) => return self.claim(plex, claim).await,
                Ok(false) => {}
                Err(e) => {
                    self.put_back(Step::Withdraw(claim));
                    return Err(e.into());
                }
            }
        }
        self.forget();
        self.report(Report::NotOwned { dvipa, stack: claim.stack, reason: NotOwned::Withdrawn }).await;
        Ok(())
    }

    async fn backup(&mut self, plex: &Sysplex<C>, rank: u8, stack: Option<String>) -> Result<(), Trouble> {
        let path = plex.paths().backup(self.dvipa, rank);
        let record = stack.clone().map(|stack| Backup { system: self.shared.system.clone(), stack });
        let written = plex.put_leased(path, record.as_ref()).await;
        match (&written, stack) {
            (Err(_), stack) => self.put_back(Step::Backup(rank, stack)),
            (Ok(()), Some(stack)) => drop(self.backups.insert(rank, stack)),
            (Ok(()), None) => drop(self.backups.remove(&rank)),
        }
        Ok(written?)
    }

    /// Does what only an owner may do. The report says what is done.
    async fn owned_step(
        &mut self,
        plex: &Sysplex<C>,
        fence: &Fence,
        step: &Step,
    ) -> Result<Option<Report>, FenceError> {
        let dvipa = self.dvipa;
        match step {
            Step::Refence => {
                let fence = plex.refence(fence).await?;
                self.set_fence(Some(fence));
                self.doubt = false;
            }
            Step::ForgetKeys => {
                plex.forget_keys(fence).await?;
                self.forget_keys = false;
            }
            Step::Reseal => {
                plex.reseal(fence).await?;
                self.reseal = false;
            }
            Step::Clear => {
                plex.clear_older(fence).await?;
                self.desk.wishes().clear = false;
                return Ok(Some(Report::Cleared(dvipa)));
            }
            Step::Ceiling(wanted) => {
                let highest = self.ceiling.max(*wanted);
                plex.write(fence, vec![plex.change_ceiling(fence, Ceiling { highest })?]).await?;
                self.ceiling = highest;
                let epoch = fence.epoch();
                plex.known().raise(dvipa, Progress { epoch, ceiling: Some(highest) });
                return Ok(Some(Report::CeilingRaised { dvipa, epoch, highest }));
            }
            Step::Keys(keys) => {
                let changes = keys.iter().map(|(id, (ticket, secret))| {
                    (RecordKey::Keys(*id), *ticket, plex.change_keys(fence, *id, secret.as_ref()))
                });
                let tickets = self.write(plex, fence, changes).await?;
                return Ok(Some(Report::KeysStored { dvipa, tickets }));
            }
            Step::Records(records) => {
                let changes = records.iter().map(|(k, r)| (*k, *k, plex.change(fence, *k, r.as_ref())));
                let keys = self.write(plex, fence, changes).await?;
                return Ok(Some(Report::Written { dvipa, keys }));
            }
            Step::Release => {
                // No renewal of the lease counts on it any more from here on.
                self.shared.fences.remove(dvipa);
                let released = plex.release(fence).await;
                if released.is_err() {
                    self.shared.fences.set(fence.clone());
                }
                released?;
                let epoch = fence.epoch();
                self.forget();
                return Ok(Some(Report::Released { dvipa, epoch }));
            }
            Step::Claim(_) | Step::Withdraw(_) | Step::Backup(..) => {}
        }
        Ok(None)
    }

    /// Writes `changes`, each with the name under which it is told. One that is too large does not keep the others
    /// out.
    async fn write<T>(
        &self,
        plex: &Sysplex<C>,
        fence: &Fence,
        changes: impl Iterator<Item = (RecordKey, T, Result<Change, FenceError>)> + Send,
    ) -> Result<Vec<T>, FenceError> {
        let (mut good, mut names, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (key, name, change) in changes {
            match change {
                Ok(change) => {
                    good.push(change);
                    names.push(name);
                }
                Err(e @ FenceError::Store(CfError::TooLarge(_))) => failed.push((key, e.to_string())),
                Err(e) => return Err(e),
            }
        }
        for part in in_bounds(good) {
            plex.write(fence, part).await?;
        }
        for (key, reason) in failed {
            let dvipa = self.dvipa;
            self.report(Report::Failed { dvipa, keys: vec![key], reason, lasting: true }).await;
        }
        Ok(names)
    }

    /// What to do about a step that failed. An error says that the store did not work.
    async fn failed(&mut self, e: FenceError, step: Step) -> Result<(), Trouble> {
        let dvipa = self.dvipa;
        match e {
            FenceError::Lost(_) => {
                self.forget();
                self.report(Report::Lost(dvipa)).await;
                Ok(())
            }
            FenceError::SetBack { set_back, .. } => {
                warn!(%dvipa, "{e}");
                self.forget();
                self.report(Report::StoreSetBack { dvipa, seen: set_back.seen, found: set_back.found }).await;
                Ok(())
            }
            FenceError::Store(ref store) => {
                self.doubt |= store.outcome_unknown();
                self.put_back(step);
                Err(e.into())
            }
            FenceError::NotOwned { .. }
            | FenceError::OwnerRefused { .. }
            | FenceError::EpochsExhausted(_)
            | FenceError::Random(_) => {
                self.put_back(step);
                Err(e.into())
            }
        }
    }

    /// The DVIPA is not this stack's: what was to be written for it is not.
    fn forget(&mut self) {
        self.set_fence(None);
        (self.doubt, self.claim_doubt, self.forget_keys, self.reseal) = (false, false, false, false);
        let mut w = self.desk.wishes();
        let (claim, backups) = (w.claim.take(), std::mem::take(&mut w.backups));
        *w = Wishes { claim, backups, closing: w.closing, ..Wishes::default() };
    }

    fn set_fence(&mut self, fence: Option<Fence>) {
        match &fence {
            Some(fence) => self.shared.fences.set(fence.clone()),
            None => self.shared.fences.remove(self.dvipa),
        }
        self.fence = fence;
        self.look();
    }

    /// Mirrors what another owner writes; nobody mirrors himself.
    fn look(&mut self) {
        if !C::EXPIRES || self.fence.is_some() {
            self.mirror = None;
        } else if self.mirror.is_none() {
            self.mirror = Some(Mirror::start(self.shared.clone(), self.dvipa));
        }
    }

    async fn report(&self, report: Report) {
        self.shared.report(report).await;
    }
}

/// Takes the first [`PAGE`] out of `wishes`.
fn take_some<K: Ord + Copy, V>(wishes: &mut BTreeMap<K, V>) -> BTreeMap<K, V> {
    match wishes.keys().nth(PAGE).copied() {
        Some(first) => {
            let rest = wishes.split_off(&first);
            std::mem::replace(wishes, rest)
        }
        None => std::mem::take(wishes),
    }
}
