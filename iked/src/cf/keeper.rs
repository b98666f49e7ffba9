//! The task that talks to the coupling facility, so that nobody else waits for it.
//!
//! It keeps, for each record, only the newest wish, and repeats what failed with growing pauses. Each change of
//! fortune is reported: the core shows it ([`crate::request::CfState`]) and logs it. Traffic goes on meanwhile.

use super::fence::{Contents, Fence, FenceError, Record, Sysplex};
use super::seal::SysplexKey;
use super::{CfError, CouplingFacility, PAGE, RecordKey};
use crate::supervise::Backoff;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// What the core wants of the coupling facility.
#[derive(Debug)]
pub enum Order {
    /// Take a DVIPA for a stack of this system; [`Report::Owned`] follows, however long it takes.
    Claim {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack.
        stack: String,
    },
    /// Write or (`None`) remove a record; only the last order for a key counts.
    Write {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Which record.
        key: RecordKey,
        /// What it is to be.
        record: Option<Record>,
    },
    /// Remove what earlier epochs left.
    ClearOlder(IpAddr),
}

/// What became of it.
#[derive(Debug)]
pub enum Report {
    /// The DVIPA is owned.
    Owned {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack.
        stack: String,
        /// Epoch.
        epoch: u64,
        /// What the owners before left.
        left: Box<Contents>,
    },
    /// These records stand in the store as wanted.
    Written {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Which.
        keys: Vec<RecordKey>,
    },
    /// These could not be written; it is tried again unless `lasting`. With no key: the claim.
    Failed {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Which.
        keys: Vec<RecordKey>,
        /// Why.
        reason: String,
        /// It is not tried again.
        lasting: bool,
    },
    /// Another stack owns the DVIPA by now: nothing is written for it any more.
    Lost(IpAddr),
}

/// What is to be done for one DVIPA.
#[derive(Debug, Default)]
struct Wishes {
    claim: Option<String>,
    fence: Option<Fence>,
    records: BTreeMap<RecordKey, Option<Record>>,
    clear: bool,
}

impl Wishes {
    fn is_idle(&self) -> bool {
        self.claim.is_none() && (self.fence.is_none() || (self.records.is_empty() && !self.clear))
    }
}

/// The task's state.
#[derive(Debug)]
pub struct Keeper<C, F> {
    open: F,
    plex: Option<Sysplex<C>>,
    name: String,
    system: String,
    key: SysplexKey,
    wishes: BTreeMap<IpAddr, Wishes>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    reports: mpsc::Sender<Report>,
}

impl<C, F> Keeper<C, F>
where
    C: CouplingFacility,
    F: Fn() -> Result<C, CfError> + Clone + Send + 'static,
{
    /// A keeper for `system`'s part of the sysplex called `name`; `open` opens the store and may wait for it.
    pub fn new(open: F, name: &str, system: &str, key: SysplexKey, reports: mpsc::Sender<Report>) -> Self {
        Self {
            open,
            plex: None,
            name: name.to_owned(),
            system: system.to_owned(),
            key,
            wishes: BTreeMap::new(),
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            retry_at: None,
            reports,
        }
    }

    /// Serves orders until their sender is gone and what it wanted was tried once more.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            tokio::select! {
                order = orders.recv() => {
                    let Some(order) = order else { break };
                    self.absorb(order);
                    while let Ok(order) = orders.try_recv() {
                        self.absorb(order);
                    }
                    if self.retry_at.is_some() {
                        continue;
                    }
                }
                () = wait(self.retry_at) => self.retry_at = None,
            }
            self.work().await;
        }
        self.work().await;
    }

    fn absorb(&mut self, order: Order) {
        match order {
            Order::Claim { dvipa, stack } => {
                let w = self.wishes.entry(dvipa).or_default();
                (w.claim, w.fence) = (Some(stack), None);
            }
            Order::Write { dvipa, key, record } => {
                self.wishes.entry(dvipa).or_default().records.insert(key, record);
            }
            Order::ClearOlder(dvipa) => self.wishes.entry(dvipa).or_default().clear = true,
        }
    }

    async fn work(&mut self) {
        if self.wishes.values().all(Wishes::is_idle) {
            return;
        }
        let mut wishes = std::mem::take(&mut self.wishes);
        let mut healthy = self.plex.is_some();
        let mut reason = String::new();
        if !healthy {
            match self.open_store().await {
                Ok(facility) => {
                    self.plex = Some(Sysplex::new(facility, &self.name, self.key.clone()));
                    healthy = true;
                }
                Err(e) => reason = e.to_string(),
            }
        }
        for (&dvipa, w) in &mut wishes {
            let done = match &self.plex {
                Some(plex) if healthy => serve(plex, &self.system, dvipa, w, &self.reports).await,
                _ => Err(reason.clone()),
            };
            if let Err(e) = done {
                healthy = false;
                reason.clone_from(&e);
                let keys = w.records.keys().copied().collect();
                self.report(Report::Failed { dvipa, keys, reason: e, lasting: false }).await;
            }
        }
        self.wishes = wishes;
        if healthy {
            self.backoff.reset();
        } else {
            self.retry_at = Some(Instant::now() + self.backoff.pause());
        }
    }

    async fn open_store(&self) -> Result<C, CfError> {
        let open = self.open.clone();
        tokio::task::spawn_blocking(open).await.map_err(|e| CfError::Store(e.to_string()))?
    }

    async fn report(&self, r: Report) {
        // The core only goes away when the daemon ends.
        let _ = self.reports.send(r).await;
    }
}

/// Does what `w` wants; what was done is taken out of it. An error says that the store did not work.
async fn serve<C: CouplingFacility>(
    plex: &Sysplex<C>,
    system: &str,
    dvipa: IpAddr,
    w: &mut Wishes,
    reports: &mpsc::Sender<Report>,
) -> Result<(), String> {
    if let Some(stack) = &w.claim {
        let fence = plex.claim(dvipa, system, stack).await.map_err(|e| e.to_string())?;
        let left = Box::new(plex.read(dvipa).await.map_err(|e| e.to_string())?);
        let epoch = fence.epoch();
        w.fence = Some(fence);
        let stack = w.claim.take().unwrap_or_default();
        let _ = reports.send(Report::Owned { dvipa, stack, epoch, left }).await;
    }
    let Some(fence) = w.fence.clone() else { return Ok(()) };
    while !w.records.is_empty() {
        let batch: Vec<_> = w.records.iter().take(PAGE).map(|(k, r)| (*k, r.clone())).collect();
        let keys: Vec<_> = batch.iter().map(|(k, _)| *k).collect();
        match plex.write(&fence, &batch).await {
            Ok(()) => {
                keys.iter().for_each(|k| drop(w.records.remove(k)));
                let _ = reports.send(Report::Written { dvipa, keys }).await;
            }
            Err(FenceError::Lost(_)) => return lost(dvipa, w, reports).await,
            // One record that is too large must not keep the others out: each goes alone.
            Err(FenceError::Store(CfError::TooLarge(_))) => {
                for (key, record) in batch {
                    w.records.remove(&key);
                    let report = match plex.write(&fence, &[(key, record.clone())]).await {
                        Ok(()) => Report::Written { dvipa, keys: vec![key] },
                        Err(e @ FenceError::Store(CfError::TooLarge(_))) => {
                            Report::Failed { dvipa, keys: vec![key], reason: e.to_string(), lasting: true }
                        }
                        Err(FenceError::Lost(_)) => return lost(dvipa, w, reports).await,
                        Err(e) => {
                            w.records.insert(key, record);
                            return Err(e.to_string());
                        }
                    };
                    let _ = reports.send(report).await;
                }
            }
            Err(e) => return Err(e.to_string()),
        }
    }
    if w.clear {
        match plex.clear_older(&fence).await {
            Ok(_) => w.clear = false,
            Err(FenceError::Lost(_)) => return lost(dvipa, w, reports).await,
            Err(e) => return Err(e.to_string()),
        }
    }
    Ok(())
}

async fn lost(dvipa: IpAddr, w: &mut Wishes, reports: &mpsc::Sender<Report>) -> Result<(), String> {
    *w = Wishes::default();
    let _ = reports.send(Report::Lost(dvipa)).await;
    Ok(())
}

async fn wait(until: Option<Instant>) {
    match until {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::RecordId;
    use super::super::record::tests::phase1;
    use super::super::sled::Embedded;
    use super::super::{Outcome, Transaction};
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    const KEY: SysplexKey = SysplexKey::new([7; 32]);

    /// A store that can be made to fail.
    #[derive(Debug, Clone)]
    struct Flaky(Embedded, Arc<AtomicBool>);

    impl Flaky {
        fn check(&self) -> Result<(), CfError> {
            if self.1.load(SeqCst) { Err(CfError::Store("disk full".into())) } else { Ok(()) }
        }
    }

    impl CouplingFacility for Flaky {
        async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, CfError> {
            self.check()?;
            self.0.get(key).await
        }
        async fn commit(&self, t: Transaction) -> Result<Outcome, CfError> {
            self.check()?;
            self.0.commit(t).await
        }
        async fn page(&self, prefix: &str, after: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, CfError> {
            self.check()?;
            self.0.page(prefix, after).await
        }
    }

    struct Fixture {
        _dir: tempfile::TempDir,
        store: Flaky,
        orders: mpsc::Sender<Order>,
        reports: mpsc::Receiver<Report>,
        task: tokio::task::JoinHandle<()>,
        vip: IpAddr,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let store = Flaky(Embedded::open(&dir.path().join("cf")).unwrap(), Arc::default());
        let (report_tx, reports) = mpsc::channel(64);
        let (orders, rx) = mpsc::channel(64);
        let opened = store.clone();
        let open = move || opened.check().map(|()| opened.clone());
        let task = tokio::spawn(Keeper::new(open, "PLEX1", "SYSA", KEY, report_tx).run(rx));
        Fixture { _dir: dir, store, orders, reports, task, vip: "203.0.113.10".parse().unwrap() }
    }

    impl Fixture {
        async fn claim(&self) {
            self.orders.send(Order::Claim { dvipa: self.vip, stack: "TCPCS1".into() }).await.unwrap();
        }
        async fn write(&self, id: u8, name: &str) {
            let mut r = phase1();
            r.rule = name.into();
            let key = RecordKey::Phase1(RecordId([id; 16]));
            let record = Some(Record::Phase1(Box::new(r)));
            self.orders.send(Order::Write { dvipa: self.vip, key, record }).await.unwrap();
        }
        async fn next(&mut self) -> Report {
            tokio::time::timeout(Duration::from_secs(120), self.reports.recv()).await.unwrap().unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn t48_a_store_that_is_down_is_reported_and_tried_again() {
        let mut f = fixture();
        f.store.1.store(true, SeqCst);
        f.claim().await;
        f.write(1, "a").await;
        let Report::Failed { reason, lasting: false, .. } = f.next().await else { panic!() };
        assert_eq!(reason, "coupling facility: disk full");
        f.store.1.store(false, SeqCst);
        let owned = loop {
            match f.next().await {
                Report::Failed { .. } => {}
                r => break r,
            }
        };
        assert!(matches!(owned, Report::Owned { epoch: 1, .. }));
        let Report::Written { keys, .. } = f.next().await else { panic!() };
        assert_eq!(keys, [RecordKey::Phase1(RecordId([1; 16]))]);
    }

    #[tokio::test]
    async fn one_record_that_is_too_large_does_not_keep_the_others_out() {
        let mut f = fixture();
        f.claim().await;
        assert!(matches!(f.next().await, Report::Owned { .. }));
        f.write(1, &"x".repeat(20_000)).await;
        f.write(2, "fine").await;
        let (mut failed, mut written) = (Vec::new(), Vec::new());
        while failed.is_empty() || written.is_empty() {
            match f.next().await {
                Report::Failed { keys, lasting: true, .. } => failed.extend(keys),
                Report::Written { keys, .. } => written.extend(keys),
                r => panic!("{r:?}"),
            }
        }
        assert_eq!(failed, [RecordKey::Phase1(RecordId([1; 16]))]);
        assert_eq!(written, [RecordKey::Phase1(RecordId([2; 16]))]);
    }

    #[tokio::test]
    async fn t47_a_fenced_keeper_says_so_and_writes_no_more() {
        let mut f = fixture();
        f.claim().await;
        assert!(matches!(f.next().await, Report::Owned { .. }));
        let other = Sysplex::new(f.store.clone(), "PLEX1", KEY);
        other.claim(f.vip, "SYSB", "OTHER").await.unwrap();
        f.write(1, "a").await;
        assert!(matches!(f.next().await, Report::Lost(v) if v == f.vip));
        f.write(2, "b").await;
        drop(f.orders);
        f.task.await.unwrap();
        assert!(other.read(f.vip).await.unwrap().phase1.is_empty());
    }

    #[tokio::test]
    async fn a_restart_finds_what_the_last_owner_left_and_clears_it() {
        let mut f = fixture();
        f.claim().await;
        f.write(1, "a").await;
        assert!(matches!(f.next().await, Report::Owned { epoch: 1, .. }));
        assert!(matches!(f.next().await, Report::Written { .. }));
        f.claim().await;
        let Report::Owned { epoch: 2, left, .. } = f.next().await else { panic!() };
        assert_eq!(left.phase1[0].2.rule, "a");
        f.orders.send(Order::ClearOlder(f.vip)).await.unwrap();
        let plex = Sysplex::new(f.store.clone(), "PLEX1", KEY);
        drop(f.orders);
        f.task.await.unwrap();
        assert!(plex.read(f.vip).await.unwrap().phase1.is_empty());
    }
}
