//! The embedded coupling facility, for all the stacks of one daemon. The only file that knows sled.
//!
//! One tree, one process: sled locks its folder. A value stands behind the number of the transaction that wrote it
//! (its revision, eight octets); the number of the newest transaction stands at a key of its own. Calls may wait
//! for the disk, so they run on tokio's threads for blocking work.

use super::watch::local::{self, News};
use super::{CfError, Condition, CouplingFacility, Entry, Outcome, READ, Revision, Transaction, Watch};
use sled::transaction::{ConflictableTransactionError, TransactionError, TransactionalTree};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::sync::broadcast;

/// Where the newest revision stands: no key of a sysplex begins so.
const NEWEST: &[u8] = b"revision";
/// The tree of this format.
const TREE: &str = "records-1";

/// A sled database used as coupling facility.
#[derive(Debug, Clone)]
pub struct Embedded {
    db: sled::Tree,
    /// Held from a transaction's begin until it is told, so that changes are told in their order.
    news: Arc<Mutex<broadcast::Sender<News>>>,
}

impl Embedded {
    /// Opens or makes the database in `folder`. May wait for the disk.
    ///
    /// # Errors
    /// It is in use by another process, or not usable.
    pub fn open(folder: &Path) -> Result<Self, CfError> {
        let db = sled::Config::new().path(folder).mode(sled::Mode::LowSpace).open().map_err(|e| match e {
            sled::Error::Io(io) if io.kind() == std::io::ErrorKind::WouldBlock || is_lock(&io) => {
                CfError::InUse(folder.display().to_string())
            }
            e => store(e),
        })?;
        let db = db.open_tree(TREE).map_err(store)?;
        Ok(Self { db, news: Arc::new(Mutex::new(local::news())) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Self) -> Result<T, CfError> + Send + 'static,
    ) -> Result<T, CfError> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || f(&this)).await.map_err(|e| CfError::Store(e.to_string()))?
    }

    fn commit_now(&self, t: Transaction) -> Result<Outcome, CfError> {
        let news = self.news.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let done = self.db.transaction(|tree| {
            for condition in &t.conditions {
                if !holds(tree, condition)? {
                    return Err(ConflictableTransactionError::Abort(()));
                }
            }
            let revision = tree.get(NEWEST)?.map_or(0, |v| number(&v)).saturating_add(1);
            tree.insert(NEWEST, &revision.to_be_bytes())?;
            for change in &t.changes {
                match change.value() {
                    Some(value) => tree.insert(change.key().as_bytes(), framed(revision, value))?,
                    None => tree.remove(change.key().as_bytes())?,
                };
            }
            Ok(Revision(revision))
        });
        let revision = match done {
            Ok(revision) => revision,
            Err(TransactionError::Abort(())) => return Ok(Outcome::ConditionFailed),
            Err(TransactionError::Storage(e)) => return Err(store(e)),
        };
        self.db.flush().map_err(store)?;
        // Without watchers there is nobody to tell.
        let _ = news.send((revision, t.changes));
        Ok(Outcome::Committed(revision))
    }
}

fn holds(tree: &TransactionalTree, condition: &Condition) -> Result<bool, ConflictableTransactionError<()>> {
    Ok(match condition {
        Condition::Value(key, value) => tree.get(key)?.is_some_and(|v| content(&v) == value),
        Condition::Absent(key) => tree.get(key)?.is_none(),
        Condition::Revision(key, revision) => tree.get(key)?.map_or(0, |v| number(&v)) == revision.0,
    })
}

fn framed(revision: u64, value: &[u8]) -> Vec<u8> {
    [&revision.to_be_bytes(), value].concat()
}

fn number(framed: &[u8]) -> u64 {
    framed.first_chunk().map_or(0, |n| u64::from_be_bytes(*n))
}

fn content(framed: &[u8]) -> &[u8] {
    framed.get(8..).unwrap_or_default()
}

/// sled wraps the lock's `EWOULDBLOCK` into an error of another kind.
fn is_lock(e: &std::io::Error) -> bool {
    e.to_string().contains("could not acquire lock")
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn store(e: sled::Error) -> CfError {
    CfError::Store(e.to_string())
}

impl CouplingFacility for Embedded {
    const EXPIRES: bool = false;

    async fn get(&self, key: &str) -> Result<Option<Entry>, CfError> {
        let key = key.to_owned();
        self.blocking(move |cf| {
            let found = cf.db.get(&key).map_err(store)?;
            Ok(found.map(|v| Entry { key, value: content(&v).to_vec(), revision: Revision(number(&v)) }))
        })
        .await
    }

    async fn commit(&self, t: Transaction) -> Result<Outcome, CfError> {
        t.check()?;
        self.blocking(move |cf| cf.commit_now(t)).await
    }

    async fn page(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Entry>, CfError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.blocking(move |cf| {
            let from = after.as_deref().filter(|a| *a >= prefix.as_str()).unwrap_or(&prefix).to_owned();
            let mut page = Vec::new();
            for entry in cf.db.range(from.as_bytes()..) {
                let (k, v) = entry.map_err(store)?;
                if !k.starts_with(prefix.as_bytes()) || page.len() == READ {
                    break;
                }
                // A key that is no text is nobody's record.
                let Ok(key) = String::from_utf8(k.to_vec()) else { continue };
                if after.as_deref() == Some(key.as_str()) {
                    continue;
                }
                page.push(Entry { key, value: content(&v).to_vec(), revision: Revision(number(&v)) });
            }
            Ok(page)
        })
        .await
    }

    async fn watch(&self, prefix: &str) -> Result<Watch, CfError> {
        let news = self.news.lock().unwrap_or_else(std::sync::PoisonError::into_inner).subscribe();
        local::watch(self.clone(), news, prefix.to_owned()).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::Change;
    use super::*;

    #[tokio::test]
    async fn what_was_committed_is_there_after_a_restart_and_revisions_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cf");
        let put =
            |k: &str| Transaction { conditions: vec![], changes: vec![Change::Put(k.into(), b"1".into())] };
        let cf = Embedded::open(&path).unwrap();
        let Outcome::Committed(first) = cf.commit(put("/o")).await.unwrap() else { panic!() };
        drop(cf);
        let cf = Embedded::open(&path).unwrap();
        let found = cf.get("/o").await.unwrap().unwrap();
        assert_eq!((found.value.as_slice(), found.revision), (b"1".as_slice(), first));
        let Outcome::Committed(second) = cf.commit(put("/p")).await.unwrap() else { panic!() };
        assert!(second > first);
    }

    #[tokio::test]
    async fn a_second_process_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let _cf = Embedded::open(dir.path()).unwrap();
        assert!(matches!(Embedded::open(dir.path()), Err(CfError::InUse(_))));
    }

    #[tokio::test]
    async fn t49_a_value_without_a_revision_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let cf = Embedded::open(dir.path()).unwrap();
        cf.db.insert("/o", b"abc").unwrap();
        let found = cf.get("/o").await.unwrap().unwrap();
        assert_eq!((found.value.len(), found.revision), (0, Revision::ABSENT));
    }
}
