//! The task that tells what others write: members, lives, owners, backups.

use super::fence::{FenceError, Sysplex};
use super::health::Source;
use super::keeper::Shared;
use super::order::{Progress, Report};
use super::record::{Alive, Backup, Member, Owner, Stored};
use super::{CouplingFacility, Entry, MAX_RECORDS, Place, Revision, Seen};
use crate::supervise::Backoff;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};
use std::time::Duration;
use tracing::warn;

/// Watches `prefix` and reports what is seen, for ever.
pub(super) async fn run<C: CouplingFacility>(
    shared: Arc<Shared<C>>,
    prefix: String,
    unseen: Arc<AtomicUsize>,
) {
    let source = Source::Watch(prefix.clone());
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    let mut spy = Spy { shared, prefix, known: BTreeSet::new(), told: None, unseen: Some(unseen) };
    loop {
        let Err(e) = spy.watch(&source, &mut backoff).await;
        spy.shared.health.bad(source.clone(), e.to_string(), e.is_store()).await;
        tokio::time::sleep(backoff.pause()).await;
    }
}

struct Spy<C> {
    shared: Arc<Shared<C>>,
    prefix: String,
    /// What was told to be there, so that it can be told to be gone.
    known: BTreeSet<String>,
    /// The set-back that was told last.
    told: Option<(Progress, Progress)>,
    /// Counts the watches that have not told everything once; `None`: this one has.
    unseen: Option<Arc<AtomicUsize>>,
}

/// Never made: a watch ends by an error only.
enum Never {}

impl<C: CouplingFacility> Spy<C> {
    async fn watch(&mut self, source: &Source, backoff: &mut Backoff) -> Result<Never, FenceError> {
        let plex = self.shared.sysplex().await?;
        let mut watch = plex.watch(&self.prefix).await?;
        loop {
            let seen = watch.next().await?;
            backoff.reset();
            self.shared.health.good(source).await;
            match seen {
                Seen::All(entries) => {
                    let there: BTreeSet<_> = entries.iter().map(|e| e.key.clone()).collect();
                    let gone: Vec<_> = self.known.difference(&there).cloned().collect();
                    for key in gone {
                        self.removed(&plex, &key).await?;
                    }
                    for entry in &entries {
                        self.there(&plex, entry).await?;
                    }
                    if entries.is_empty() && self.known.is_empty() {
                        self.nothing(&plex).await?;
                    }
                    self.known = there;
                    if self.unseen.take().is_some_and(|n| n.fetch_sub(1, AcqRel) == 1) {
                        self.shared.report(Report::Synced).await;
                    }
                }
                Seen::Put(entry) => {
                    // More than there can be of ours: not told, so that it need not be kept.
                    if self.known.len() < MAX_RECORDS || self.known.contains(&entry.key) {
                        self.there(&plex, &entry).await?;
                        self.known.insert(entry.key);
                    }
                }
                Seen::Removed { key, .. } => {
                    self.removed(&plex, &key).await?;
                    self.known.remove(&key);
                }
            }
        }
    }

    /// An owner record that never was is news too.
    async fn nothing(&mut self, plex: &Sysplex<C>) -> Result<(), FenceError> {
        match plex.paths().place(&self.prefix) {
            Some(Place::Owner(dvipa)) => self.owner(plex, dvipa, None, Revision::ABSENT).await,
            _ => Ok(()),
        }
    }

    async fn removed(&mut self, plex: &Sysplex<C>, key: &str) -> Result<(), FenceError> {
        let revision = Revision::ABSENT;
        let report = match plex.paths().place(key) {
            Some(Place::Member { system, stack }) => Report::Member { system, stack, member: None },
            Some(Place::Alive { system, stack }) => Report::Alive { system, stack, revision, alive: None },
            Some(Place::Backup(dvipa, rank)) => Report::BackupIs { dvipa, rank, backup: None },
            Some(Place::Owner(dvipa)) => return self.owner(plex, dvipa, None, revision).await,
            Some(Place::Ceiling(_) | Place::Record(..)) | None => return Ok(()),
        };
        self.shared.report(report).await;
        Ok(())
    }

    async fn there(&mut self, plex: &Sysplex<C>, entry: &Entry) -> Result<(), FenceError> {
        let revision = entry.revision;
        let report = match plex.paths().place(&entry.key) {
            Some(Place::Member { system, stack }) => {
                Report::Member { system, stack, member: open::<C, Member>(plex, entry) }
            }
            // A record that cannot be read still changed: its writer lives, or somebody wants it to look so.
            Some(Place::Alive { system, stack }) => {
                Report::Alive { system, stack, revision, alive: open::<C, Alive>(plex, entry) }
            }
            Some(Place::Backup(dvipa, rank)) => {
                Report::BackupIs { dvipa, rank, backup: open::<C, Backup>(plex, entry) }
            }
            Some(Place::Owner(dvipa)) => {
                return match open::<C, Owner>(plex, entry) {
                    Some(owner) => self.owner(plex, dvipa, Some(owner), revision).await,
                    // Nobody can claim until it is repaired; the owner of the day goes on.
                    None => Ok(()),
                };
            }
            Some(Place::Ceiling(_) | Place::Record(..)) | None => return Ok(()),
        };
        self.shared.report(report).await;
        Ok(())
    }

    /// Tells of an owner, and of a store that was set back: an epoch smaller than one seen may only be late, so the
    /// store is asked again before that is said.
    async fn owner(
        &mut self,
        plex: &Sysplex<C>,
        dvipa: IpAddr,
        owner: Option<Owner>,
        revision: Revision,
    ) -> Result<(), FenceError> {
        let epoch = |o: &Option<Owner>| Progress { epoch: o.as_ref().map_or(0, |o| o.epoch), ceiling: None };
        let known = self.shared.known.of(dvipa);
        let (mut owner, mut revision) = (owner, revision);
        if epoch(&owner).epoch < known.epoch {
            (owner, revision) =
                plex.owner(dvipa).await?.map_or((None, Revision::ABSENT), |(o, r)| (Some(o), r));
            let found = epoch(&owner);
            if found.epoch < known.epoch {
                let seen = Progress { epoch: known.epoch, ceiling: None };
                if self.told != Some((seen, found)) {
                    self.told = Some((seen, found));
                    self.shared.report(Report::StoreSetBack { dvipa, seen, found }).await;
                }
                // Whoever takes it anew has to take it from the owner that stands there.
                self.shared.report(Report::OwnerIs { dvipa, owner, revision }).await;
                return Ok(());
            }
        }
        self.shared.known.raise(dvipa, epoch(&owner));
        self.shared.report(Report::OwnerIs { dvipa, owner, revision }).await;
        Ok(())
    }
}

fn open<C: CouplingFacility, T: Stored>(plex: &Sysplex<C>, entry: &Entry) -> Option<T> {
    match plex.open(&entry.key, &entry.value) {
        Ok((_, record)) => Some(record),
        Err(reason) => {
            warn!("record {} refused: {reason}", entry.key.escape_debug());
            None
        }
    }
}
