//! A coupling facility in memory whose faults a test chooses (threats T48).
//!
//! Clones share one store, as the hosts of a sysplex do; each clone made by [`Memory::host`] has faults of its own.

use super::watch::local::{self, News};
use super::{
    CfError, Change, Condition, CouplingFacility, Entry, Outcome, READ, Revision, Transaction, Watch,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::broadcast;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) entries: BTreeMap<String, (Vec<u8>, Revision)>,
    revision: u64,
}

/// What is wrong between one host and the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Nothing answers: a call ends with an error at once.
    pub(crate) down: bool,
    /// Nothing answers at all: a call hangs.
    pub(crate) hangs: bool,
    /// Writes are refused, as by a full disk or an alarm of etcd.
    pub(crate) read_only: bool,
    /// Nothing is read in pages: only what a watch has told is known.
    pub(crate) no_pages: bool,
    /// Each call takes so long.
    pub(crate) slow: Duration,
    /// The next so many commits happen, and their answer is lost.
    pub(crate) lost_answers: u32,
    /// The next commit hangs and happens only when [`Memory::arrive`] is called: a packet that was on its way.
    pub(crate) late: bool,
}

#[derive(Debug)]
struct Shared {
    content: Content,
    news: broadcast::Sender<News>,
    late: Vec<Transaction>,
}

/// One host's way to the store.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    shared: Arc<Mutex<Shared>>,
    faults: Arc<Mutex<Faults>>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let shared = Shared { content: Content::default(), news: local::news(), late: vec![] };
        Self { shared: Arc::new(Mutex::new(shared)), faults: Arc::default() }
    }

    /// Another host's way to the same store.
    pub(crate) fn host(&self) -> Self {
        Self { shared: self.shared.clone(), faults: Arc::default() }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    /// Changes what is wrong.
    pub(crate) fn faults(&self, f: impl FnOnce(&mut Faults)) {
        f(&mut self.faults.lock().unwrap());
    }

    /// A copy of everything, as a backup of the store would hold.
    pub(crate) fn snapshot(&self) -> Content {
        self.shared().content.clone()
    }

    /// Puts an old copy in the store's place: watchers see what changed, as after a restore.
    pub(crate) fn restore(&self, content: Content) {
        let mut shared = self.shared();
        let gone = shared.content.entries.keys().filter(|k| !content.entries.contains_key(*k));
        let mut changes: Vec<Change> = gone.cloned().map(Change::Remove).collect();
        changes.extend(content.entries.iter().map(|(k, (v, _))| Change::Put(k.clone(), v.clone())));
        // Watches of this store look at revisions; those of the restored content are old.
        let revision = Revision(shared.content.revision + 1);
        shared.content = content;
        let _ = shared.news.send((revision, changes));
    }

    /// Lets what was on its way happen.
    pub(crate) fn arrive(&self) -> Vec<Outcome> {
        let late = std::mem::take(&mut self.shared().late);
        late.into_iter().map(|t| self.apply(t)).collect()
    }

    async fn enter(&self) -> Result<Faults, CfError> {
        let f = *self.faults.lock().unwrap();
        if f.hangs {
            std::future::pending::<()>().await;
        }
        if !f.slow.is_zero() {
            tokio::time::sleep(f.slow).await;
        }
        if f.down { Err(CfError::Store("connection refused".into())) } else { Ok(f) }
    }

    fn apply(&self, t: Transaction) -> Outcome {
        let mut shared = self.shared();
        let found = |key: &String| shared.content.entries.get(key);
        let holds = |c: &Condition| match c {
            Condition::Value(k, v) => found(k).is_some_and(|(have, _)| have == v),
            Condition::Absent(k) => found(k).is_none(),
            Condition::Revision(k, r) => found(k).map_or(Revision::ABSENT, |(_, have)| *have) == *r,
        };
        if !t.conditions.iter().all(holds) {
            return Outcome::ConditionFailed;
        }
        shared.content.revision += 1;
        let revision = Revision(shared.content.revision);
        for change in &t.changes {
            match change.value() {
                Some(v) => shared.content.entries.insert(change.key().into(), (v.to_vec(), revision)),
                None => shared.content.entries.remove(change.key()),
            };
        }
        let _ = shared.news.send((revision, t.changes));
        Outcome::Committed(revision)
    }
}

impl CouplingFacility for Memory {
    const EXPIRES: bool = true;

    async fn get(&self, key: &str) -> Result<Option<Entry>, CfError> {
        self.enter().await?;
        let shared = self.shared();
        let found = shared.content.entries.get(key);
        Ok(found.map(|(value, revision)| Entry {
            key: key.into(),
            value: value.clone(),
            revision: *revision,
        }))
    }

    async fn commit(&self, t: Transaction) -> Result<Outcome, CfError> {
        t.check()?;
        let faults = self.enter().await?;
        if faults.read_only {
            return Err(CfError::Store("no space".into()));
        }
        if faults.late {
            self.faults(|f| f.late = false);
            self.shared().late.push(t);
            return std::future::pending().await;
        }
        let outcome = self.apply(t);
        if faults.lost_answers > 0 {
            self.faults(|f| f.lost_answers -= 1);
            return Err(CfError::Store("connection reset".into()));
        }
        Ok(outcome)
    }

    async fn page(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Entry>, CfError> {
        if self.enter().await?.no_pages {
            return Err(CfError::Store("nothing is read".into()));
        }
        let shared = self.shared();
        let from = after.filter(|a| *a >= prefix).unwrap_or(prefix).to_owned();
        let entries = shared.content.entries.range(from..);
        let mine =
            entries.take_while(|(k, _)| k.starts_with(prefix)).filter(|(k, _)| Some(k.as_str()) != after);
        Ok(mine
            .take(READ)
            .map(|(k, (v, r))| Entry { key: k.clone(), value: v.clone(), revision: *r })
            .collect())
    }

    async fn watch(&self, prefix: &str) -> Result<Watch, CfError> {
        self.enter().await?;
        let news = self.shared().news.subscribe();
        local::watch(self.clone(), news, prefix.to_owned()).await
    }
}
