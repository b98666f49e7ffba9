//! Watches: what stands under a prefix, and what becomes of it.

use super::{CfError, Entry, Revision};
use tokio::sync::mpsc;

/// Changes that wait for a watcher that is slow; then the store waits, or begins again with everything.
const QUEUE: usize = 256;

/// What a watcher learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Everything under the prefix at one moment; what is not in it is gone.
    All(Vec<Entry>),
    /// A key was written.
    Put(Entry),
    /// A key was removed.
    Removed {
        /// Key.
        key: String,
        /// When.
        revision: Revision,
    },
}

/// A watch; ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    seen: mpsc::Receiver<Result<Seen, CfError>>,
}

/// The store's end of a [`Watch`].
pub(super) type Watched = mpsc::Sender<Result<Seen, CfError>>;

impl Watch {
    pub(super) fn new() -> (Watched, Self) {
        let (watched, seen) = mpsc::channel(QUEUE);
        (watched, Self { seen })
    }

    /// The next thing seen. May be cancelled and called again.
    ///
    /// # Errors
    /// The store cannot be reached any more: watch anew.
    pub async fn next(&mut self) -> Result<Seen, CfError> {
        self.seen.recv().await.unwrap_or_else(|| Err(CfError::Store("the watch ended".into())))
    }
}

/// Watches for stores whose every change happens in this process: a change is told to all, and a watcher that is
/// too slow for that begins again with everything.
pub(super) mod local {
    use super::super::{Change, CouplingFacility, READ};
    use super::{CfError, Entry, Revision, Seen, Watch};
    use std::collections::BTreeMap;
    use tokio::sync::broadcast::{self, error::RecvError};

    /// Changes that were committed together.
    pub(in super::super) type News = (Revision, Vec<Change>);

    /// Where changes are told; as many as fit before a watcher counts as too slow.
    pub(in super::super) fn news() -> broadcast::Sender<News> {
        broadcast::channel(1024).0
    }

    /// A watch of `prefix` in `store`, whose changes are told through `news`, each after it is there to be read.
    pub(in super::super) async fn watch<C: CouplingFacility>(
        store: C,
        mut news: broadcast::Receiver<News>,
        prefix: String,
    ) -> Result<Watch, CfError> {
        let (watched, watch) = Watch::new();
        let all = snapshot(&store, &prefix).await?;
        let mut known = revisions(&all);
        let _ = watched.send(Ok(Seen::All(all))).await;
        tokio::spawn(async move {
            loop {
                let told = tokio::select! {
                    told = news.recv() => told,
                    () = watched.closed() => return,
                };
                let seen: Vec<Seen> = match told {
                    // What the snapshot has already is not told again.
                    Ok((revision, changes)) => changes
                        .into_iter()
                        .filter(|c| {
                            c.key().starts_with(&prefix) && known.get(c.key()).is_none_or(|r| *r < revision)
                        })
                        .map(|c| seen(c, revision))
                        .collect(),
                    Err(RecvError::Lagged(_)) => match snapshot(&store, &prefix).await {
                        Ok(all) => {
                            known = revisions(&all);
                            vec![Seen::All(all)]
                        }
                        Err(e) => {
                            let _ = watched.send(Err(e)).await;
                            return;
                        }
                    },
                    Err(RecvError::Closed) => return,
                };
                for s in seen {
                    if watched.send(Ok(s)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(watch)
    }

    fn revisions(all: &[Entry]) -> BTreeMap<String, Revision> {
        all.iter().map(|e| (e.key.clone(), e.revision)).collect()
    }

    fn seen(change: Change, revision: Revision) -> Seen {
        match change {
            Change::Put(key, value) | Change::PutLeased(key, value) => {
                Seen::Put(Entry { key, value, revision })
            }
            Change::Remove(key) => Seen::Removed { key, revision },
        }
    }

    async fn snapshot<C: CouplingFacility>(store: &C, prefix: &str) -> Result<Vec<Entry>, CfError> {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let page = store.page(prefix, all.last().map(|e| e.key.as_str())).await?;
            let last = page.len() < READ;
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }
}
