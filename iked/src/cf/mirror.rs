//! What stands in the store about a DVIPA that this system may take, read and opened before it is needed: a takeover then waits
//! for one event of a watch and not for thousands of records.
//!
//! ```text
//!  not owner: watch of the DVIPA ─► opened records ─► claim commits ─► its own owner record comes by the watch: all is here
//!  owner: nothing is kept
//! ```
//! The watch tells changes in the order in which they were committed, and after the claim's nobody else can write: once the
//! owner record that this very claim wrote has come by (its seal is unique), so has everything before it. What does not come in
//! time is read.

use super::contents::{Contents, Refusal};
use super::fence::{FenceError, Sysplex};
use super::keeper::Shared;
use super::record::{Ceiling, Phase1, Phase2, RecordId, Secret, Stored};
use super::{CouplingFacility, Entry, MAX_RECORDS, MAX_REFUSED, Place, RecordKey, Seen};
use crate::supervise::Backoff;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How long a claim waits for its own record: a little longer than reading a thousand takes.
const PATIENCE: Duration = Duration::from_millis(50);

/// Records that are opened before other tasks have their turn.
const YIELD: usize = 64;

/// The mirror of one DVIPA; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Mirror {
    shelf: Arc<Shelf>,
    task: JoinHandle<()>,
}

/// What is known.
#[derive(Debug, Default)]
struct Shelf {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The owner record as it came last.
    owner: Option<Vec<u8>>,
    /// By path; with the epoch of its writer.
    records: BTreeMap<String, Result<(u64, Content), Refusal>>,
    /// Everything that stood there when the watch began is here.
    ready: bool,
    /// There is more than is kept of anybody.
    too_much: bool,
}

#[derive(Debug)]
enum Content {
    Phase1(RecordId, Box<Phase1>),
    Phase2(RecordId, Box<Phase2>),
    Keys(RecordId, Secret),
    Ceiling(Ceiling),
}

impl Mirror {
    /// Begins to mirror `dvipa`.
    pub(super) fn start<C: CouplingFacility>(shared: Arc<Shared<C>>, dvipa: IpAddr) -> Self {
        let shelf = Arc::new(Shelf::default());
        let task = tokio::spawn(follow(shared, dvipa, shelf.clone()));
        Self { shelf, task }
    }

    /// Everything that stood in the store when the owner record `sealed` was written at epoch `newest`; `None`: it is to be
    /// read. Nothing is left here.
    pub(super) async fn take(&self, sealed: &[u8], newest: u64) -> Option<Contents> {
        if !self.shelf.state().ready {
            return None;
        }
        let there = async {
            loop {
                let changed = self.shelf.changed.notified();
                if self.shelf.state().owner.as_deref() == Some(sealed) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, there).await.ok()?;
        let state = std::mem::take(&mut *self.shelf.state());
        (!state.too_much).then(|| state.contents(newest))
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shelf {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one call of a map.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put<C: CouplingFacility>(&mut self, plex: &Sysplex<C>, entry: Entry) {
        match plex.paths().place(&entry.key) {
            Some(Place::Owner(_)) => self.owner = Some(entry.value),
            Some(Place::Record(..) | Place::Ceiling(_)) => {
                if self.records.len() >= MAX_RECORDS && !self.records.contains_key(&entry.key) {
                    self.too_much = true;
                    return;
                }
                let opened = open(plex, &entry);
                self.records.insert(entry.key, opened);
            }
            // Under the prefix of a kind, yet none of its records: told as reading tells it.
            None if is_of_a_kind(&entry.key) => {
                if self.records.len() < MAX_RECORDS {
                    self.records.insert(entry.key, Err(Refusal::Key));
                } else {
                    self.too_much = true;
                }
            }
            None => {}
            Some(Place::Backup(..) | Place::Member { .. } | Place::Alive { .. }) => {}
        }
    }

    fn contents(self, newest: u64) -> Contents {
        let mut contents = Contents::default();
        for (path, opened) in self.records {
            let refused = match opened {
                Ok((epoch, _)) if epoch > newest => Refusal::Future(epoch),
                Err(reason) => reason,
                Ok((epoch, content)) => {
                    match content {
                        Content::Phase1(id, r) => contents.phase1.push((id, epoch, *r)),
                        Content::Phase2(id, r) => contents.phase2.push((id, epoch, *r)),
                        Content::Keys(id, r) => contents.keys.push((id, epoch, r)),
                        Content::Ceiling(r) => contents.ceiling = Some((epoch, r)),
                    }
                    continue;
                }
            };
            if contents.refused.len() < MAX_REFUSED {
                contents.refused.push((path, refused));
            }
        }
        contents
    }
}

fn is_of_a_kind(path: &str) -> bool {
    // "", sysplex, "dvipa", address, kind
    path.split('/').nth(4).is_some_and(|kind| matches!(kind, "phase1" | "phase2" | "keys"))
}

fn open<C: CouplingFacility>(plex: &Sysplex<C>, entry: &Entry) -> Result<(u64, Content), Refusal> {
    let opened = plex.key().open(&entry.key, &entry.value)?;
    let content = match plex.paths().place(&entry.key) {
        Some(Place::Record(_, RecordKey::Phase1(id))) => Content::Phase1(id, Box::new(Stored::of(&opened)?)),
        Some(Place::Record(_, RecordKey::Phase2(id))) => Content::Phase2(id, Box::new(Stored::of(&opened)?)),
        Some(Place::Record(_, RecordKey::Keys(id))) => {
            Content::Keys(id, Secret::new(opened.plaintext.to_vec()))
        }
        Some(Place::Ceiling(_)) => Content::Ceiling(Stored::of(&opened)?),
        _ => return Err(Refusal::Key),
    };
    Ok((opened.epoch, content))
}

/// Mirrors for ever. What fails is told by those who need the store: here it only begins again.
async fn follow<C: CouplingFacility>(shared: Arc<Shared<C>>, dvipa: IpAddr, shelf: Arc<Shelf>) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    loop {
        let Err(_) = copy(&shared, dvipa, &shelf, &mut backoff).await;
        *shelf.state() = State::default();
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Never made: a watch ends by an error only.
enum Never {}

async fn copy<C: CouplingFacility>(
    shared: &Shared<C>,
    dvipa: IpAddr,
    shelf: &Shelf,
    backoff: &mut Backoff,
) -> Result<Never, FenceError> {
    let plex = shared.sysplex().await?;
    let mut watch = plex.watch(&plex.paths().everything_of(dvipa)).await?;
    loop {
        let seen = watch.next().await?;
        backoff.reset();
        match seen {
            Seen::All(entries) => {
                // Nobody waits for thousands to be opened: a claim that comes now reads by itself.
                *shelf.state() = State::default();
                let mut all = State { ready: true, ..State::default() };
                for (n, entry) in entries.into_iter().enumerate() {
                    all.put(&plex, entry);
                    if n % YIELD == YIELD - 1 {
                        tokio::task::yield_now().await;
                    }
                }
                *shelf.state() = all;
            }
            Seen::Put(entry) => shelf.state().put(&plex, entry),
            Seen::Removed { key, .. } => drop(shelf.state().records.remove(&key)),
        }
        shelf.changed.notify_waiters();
    }
}
