//! The tasks that talk to the coupling facility, so that nobody else waits for it.
//!
//! The keeper only routes: each order goes to the clerk of its DVIPA or to the pulse of its stack, which work side
//! by side. Each change of fortune is reported: the core shows it ([`crate::request::CfState`]) and logs it. Traffic
//! goes on meanwhile.

use super::clerk::{Claim, Clerk, Desk};
use super::fence::{Fence, FenceError, Known, Sysplex};
use super::health::Health;
use super::pulse::{Duty, Pulse};
use super::seal::KeyInForce;
use super::{CALL_TIME, CfError, CouplingFacility, RecordKey, spy};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use super::order::{AliveSeen, Expected, NotOwned, Order, Progress, Report};

/// What a keeper must know.
pub struct Settings {
    /// The sysplex.
    pub name: String,
    /// This system.
    pub system: String,
    /// Key of the sysplex.
    pub key: KeyInForce,
    /// DVIPAs with `takeover = "continue"`: for no other are keys or a ceiling ever written.
    pub continued: BTreeSet<IpAddr>,
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub clock: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("system", &self.system)
            .finish_non_exhaustive()
    }
}

/// `CLOCK_BOOTTIME`: goes on while the machine sleeps, as a lease does.
///
/// # Panics
/// Never: Linux has this clock since 2.6.39.
#[must_use]
pub fn boot_ns() -> u64 {
    let t = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("Linux has CLOCK_BOOTTIME");
    u64::try_from(t.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec()).unwrap_or(0)
}

type Opening<C> = Pin<Box<dyn Future<Output = Result<C, CfError>> + Send>>;

/// What all tasks of a keeper share.
pub(super) struct Shared<C> {
    open: Box<dyn Fn() -> Opening<C> + Send + Sync>,
    plex: tokio::sync::Mutex<Option<Sysplex<C>>>,
    name: String,
    key: KeyInForce,
    pub(super) system: String,
    pub(super) continued: BTreeSet<IpAddr>,
    pub(super) clock: Box<dyn Fn() -> u64 + Send + Sync>,
    pub(super) health: Health,
    pub(super) fences: Fences,
    pub(super) known: Known,
    /// The daemon ends: nobody waits for a store any longer.
    pub(super) closing: CancellationToken,
    reports: mpsc::Sender<Report>,
}

impl<C: CouplingFacility> Shared<C> {
    /// The store, opened by whoever needs it first.
    pub(super) async fn sysplex(&self) -> Result<Sysplex<C>, FenceError> {
        let mut plex = self.plex.lock().await;
        if let Some(plex) = &*plex {
            return Ok(plex.clone());
        }
        let facility = super::fence::within(CALL_TIME, (self.open)()).await?;
        let opened = Sysplex::new(facility, &self.name, self.key.clone()).with_known(self.known.clone());
        Ok(plex.insert(opened).clone())
    }

    pub(super) async fn report(&self, r: Report) {
        // The core only goes away when the daemon ends.
        let _ = self.reports.send(r).await;
    }
}

/// Ownerships of this system: the clerks write them, the pulses read them.
#[derive(Debug, Default)]
pub(super) struct Fences(Mutex<BTreeMap<IpAddr, Fence>>);

impl Fences {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Fence>> {
        // Each change is one call of the map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, fence: Fence) {
        self.lock().insert(fence.dvipa(), fence);
    }

    pub(super) fn remove(&self, dvipa: IpAddr) {
        self.lock().remove(&dvipa);
    }

    pub(super) fn holds(&self, fence: &Fence) -> bool {
        self.lock().get(&fence.dvipa()) == Some(fence)
    }

    /// Those of a stack.
    pub(super) fn of(&self, stack: &str) -> Vec<Fence> {
        self.lock().values().filter(|f| f.stack().eq_ignore_ascii_case(stack)).cloned().collect()
    }
}

/// The router.
pub struct Keeper<C> {
    shared: Arc<Shared<C>>,
    clerks: BTreeMap<IpAddr, Arc<Desk>>,
    pulses: BTreeMap<String, watch::Sender<Duty>>,
    watching: bool,
    tasks: JoinSet<()>,
    watches: JoinSet<()>,
}

impl<C: CouplingFacility> Keeper<C> {
    /// A keeper that opens its store by `open`, again and again until it works.
    pub fn new<F, O>(open: O, settings: Settings, reports: mpsc::Sender<Report>) -> Self
    where
        F: Future<Output = Result<C, CfError>> + Send + 'static,
        O: Fn() -> F + Send + Sync + 'static,
    {
        let shared = Shared {
            open: Box::new(move || Box::pin(open())),
            plex: tokio::sync::Mutex::default(),
            name: settings.name,
            key: settings.key,
            system: settings.system,
            continued: settings.continued,
            clock: settings.clock,
            health: Health::new(reports.clone()),
            fences: Fences::default(),
            known: Known::default(),
            closing: CancellationToken::new(),
            reports,
        };
        Self {
            shared: Arc::new(shared),
            clerks: BTreeMap::new(),
            pulses: BTreeMap::new(),
            watching: false,
            tasks: JoinSet::new(),
            watches: JoinSet::new(),
        }
    }

    /// Serves orders until their sender is gone and what it wanted was tried once more.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.recv().await {
            self.route(order).await;
        }
        self.watches.shutdown().await;
        self.shared.closing.cancel();
        for desk in self.clerks.values() {
            desk.change(|w| w.closing = true);
        }
        for duty in self.pulses.values() {
            duty.send_modify(|d| {
                *d = match d {
                    Duty::End { .. } => Duty::End { closing: true },
                    Duty::Serve(..) | Duty::Rest | Duty::Leave => Duty::Leave,
                }
            });
        }
        while self.tasks.join_next().await.is_some() {}
    }

    async fn route(&mut self, order: Order) {
        match order {
            Order::Serve { stack, member, lease } => self.pulse(stack, Duty::Serve(member, lease)),
            Order::Retire { stack } => self.pulse(stack, Duty::Rest),
            Order::End { stack } => self.pulse(stack, Duty::End { closing: false }),
            Order::Watch { dvipas } => self.watch(dvipas),
            // The clerk mirrors while it does not own.
            Order::Mirror { dvipa } => self.wish(dvipa, |_| ()),
            Order::Heard { dvipa, seen } => self.shared.known.raise(dvipa, seen),
            Order::Claim { dvipa, stack, expected, over } => {
                self.wish(dvipa, |w| (w.claim, w.withdraw) = (Some(Claim { stack, expected, over }), false));
            }
            Order::Withdraw { dvipa } => self.wish(dvipa, |w| w.withdraw = true),
            Order::Release { dvipa } => self.wish(dvipa, |w| w.release = true),
            Order::Backup { dvipa, rank, stack } => self.wish(dvipa, |w| drop(w.backups.insert(rank, stack))),
            Order::Write { dvipa, key, record } => self.wish(dvipa, |w| drop(w.records.insert(key, record))),
            Order::SealAgain => self.seal_again(),
            Order::ClearOlder(dvipa) => self.wish(dvipa, |w| w.clear = true),
            Order::Keys { dvipa, id, keys, ticket } => {
                if self.continues(dvipa, &[RecordKey::Keys(id)]).await {
                    self.wish(dvipa, |w| drop(w.keys.insert(id, (ticket, keys))));
                }
            }
            Order::Ceiling { dvipa, highest } => {
                if self.continues(dvipa, &[]).await {
                    self.wish(dvipa, |w| w.ceiling = w.ceiling.max(Some(highest)));
                }
            }
        }
    }

    /// Whether keys may be written for `dvipa` at all (threats T27).
    async fn continues(&self, dvipa: IpAddr, keys: &[RecordKey]) -> bool {
        let yes = self.shared.continued.contains(&dvipa);
        if !yes {
            let reason = "keys are kept with takeover = \"continue\" only".to_owned();
            self.shared.report(Report::Failed { dvipa, keys: keys.to_vec(), reason, lasting: true }).await;
        }
        yes
    }

    fn wish(&mut self, dvipa: IpAddr, f: impl FnOnce(&mut super::clerk::Wishes)) {
        let desk = self.clerks.entry(dvipa).or_insert_with(|| {
            let desk = Arc::new(Desk::default());
            self.tasks.spawn(Clerk::new(dvipa, self.shared.clone(), desk.clone()).run());
            desk
        });
        desk.change(f);
    }

    fn pulse(&mut self, stack: String, duty: Duty) {
        match self.pulses.get(&stack) {
            // Sent again though it is the same: a new start counts as new.
            Some(sender) => drop(sender.send_replace(duty)),
            None => {
                let (sender, receiver) = watch::channel(duty);
                self.tasks.spawn(Pulse::new(stack.clone(), self.shared.clone(), receiver).run());
                self.pulses.insert(stack, sender);
            }
        }
    }

    /// All write again what they have written; what another one has written is read again.
    fn seal_again(&self) {
        for desk in self.clerks.values() {
            desk.change(|w| w.seal_again = true);
        }
        for duty in self.pulses.values().filter(|d| matches!(*d.borrow(), Duty::Serve(..))) {
            duty.send_modify(|_| {});
        }
    }

    fn watch(&mut self, dvipas: Vec<IpAddr>) {
        if std::mem::replace(&mut self.watching, true) {
            return;
        }
        let paths = super::Paths::new(&self.shared.name);
        let mut prefixes = vec![paths.members(), paths.alives()];
        for dvipa in dvipas {
            prefixes.extend([paths.owner(dvipa), paths.backups(dvipa)]);
        }
        let unseen = Arc::new(AtomicUsize::new(prefixes.len()));
        for prefix in prefixes {
            self.watches.spawn(spy::run(self.shared.clone(), prefix, unseen.clone()));
        }
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
