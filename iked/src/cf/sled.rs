//! The embedded coupling facility, for all the stacks of one daemon. The only file that knows sled.
//!
//! One tree, one process: sled locks its folder. Its calls may wait for the disk, so they run on tokio's threads
//! for blocking work.

use super::{CfError, Change, CouplingFacility, MAX_VALUE_BYTES, Outcome, PAGE, Transaction};
use sled::transaction::{ConflictableTransactionError, TransactionError};
use std::path::Path;

/// A sled database used as coupling facility.
#[derive(Debug, Clone)]
pub struct Embedded {
    db: sled::Db,
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
        Ok(Self { db })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        f: impl FnOnce(&sled::Db) -> Result<T, CfError> + Send + 'static,
    ) -> Result<T, CfError> {
        let db = self.db.clone();
        tokio::task::spawn_blocking(move || f(&db)).await.map_err(|e| CfError::Store(e.to_string()))?
    }
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
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, CfError> {
        let key = key.to_owned();
        self.blocking(move |db| Ok(db.get(key).map_err(store)?.map(|v| v.to_vec()))).await
    }

    async fn commit(&self, t: Transaction) -> Result<Outcome, CfError> {
        for change in &t.changes {
            if let Change::Put(_, v) = change
                && v.len() > MAX_VALUE_BYTES
            {
                return Err(CfError::TooLarge(v.len()));
            }
        }
        self.blocking(move |db| {
            let done = db.transaction(|tree| {
                let (key, expected) = &t.condition;
                if tree.get(key)?.as_deref() != expected.as_deref() {
                    return Err(ConflictableTransactionError::Abort(()));
                }
                for change in &t.changes {
                    match change {
                        Change::Put(k, v) => tree.insert(k.as_bytes(), v.as_slice())?,
                        Change::Remove(k) => tree.remove(k.as_bytes())?,
                    };
                }
                Ok(())
            });
            match done {
                Ok(()) => {}
                Err(TransactionError::Abort(())) => return Ok(Outcome::ConditionFailed),
                Err(TransactionError::Storage(e)) => return Err(store(e)),
            }
            db.flush().map_err(store)?;
            Ok(Outcome::Committed)
        })
        .await
    }

    async fn page(&self, prefix: &str, after: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, CfError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.blocking(move |db| {
            let from = after.as_deref().filter(|a| *a >= prefix.as_str()).unwrap_or(&prefix).to_owned();
            let mut page = Vec::new();
            for entry in db.range(from.as_bytes()..) {
                let (k, v) = entry.map_err(store)?;
                if !k.starts_with(prefix.as_bytes()) || page.len() == PAGE {
                    break;
                }
                // A key that is no text is nobody's record.
                let Ok(k) = String::from_utf8(k.to_vec()) else { continue };
                if after.as_deref() == Some(k.as_str()) {
                    continue;
                }
                page.push((k, v.to_vec()));
            }
            Ok(page)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(k: &str, v: &[u8]) -> Change {
        Change::Put(k.into(), v.into())
    }

    #[tokio::test]
    async fn a_transaction_happens_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let cf = Embedded::open(&dir.path().join("cf")).unwrap();
        let make =
            Transaction { condition: ("/o".into(), None), changes: vec![put("/o", b"1"), put("/a", b"x")] };
        assert_eq!(cf.commit(make.clone()).await.unwrap(), Outcome::Committed);
        let again = Transaction { changes: vec![put("/o", b"2"), put("/b", b"y")], ..make };
        assert_eq!(cf.commit(again).await.unwrap(), Outcome::ConditionFailed);
        assert_eq!(cf.get("/o").await.unwrap().as_deref(), Some(b"1".as_slice()));
        assert_eq!(cf.get("/b").await.unwrap(), None);
    }

    #[tokio::test]
    async fn pages_are_ordered_bounded_and_complete() {
        let dir = tempfile::tempdir().unwrap();
        let cf = Embedded::open(&dir.path().join("cf")).unwrap();
        for chunk in (0..300).collect::<Vec<_>>().chunks(PAGE) {
            let changes = chunk.iter().map(|i| put(&format!("/p/{i:04}"), b"v")).collect();
            cf.commit(Transaction { condition: ("/none".into(), None), changes }).await.unwrap();
        }
        let other =
            Transaction { condition: ("/none".into(), None), changes: vec![put("/p2", b""), put("/o", b"")] };
        cf.commit(other).await.unwrap();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = cf.page("/p/", after.as_deref()).await.unwrap();
            assert!(page.len() <= PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            seen.extend(page.into_iter().map(|(k, _)| k));
        }
        assert_eq!(seen, (0..300).map(|i| format!("/p/{i:04}")).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn t49_a_huge_value_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let cf = Embedded::open(&dir.path().join("cf")).unwrap();
        let t = Transaction {
            condition: ("/o".into(), None),
            changes: vec![put("/o", &[0; MAX_VALUE_BYTES + 1])],
        };
        assert!(matches!(cf.commit(t).await, Err(CfError::TooLarge(_))));
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cf");
        let cf = Embedded::open(&path).unwrap();
        cf.commit(Transaction { condition: ("/o".into(), None), changes: vec![put("/o", b"1")] })
            .await
            .unwrap();
        drop(cf);
        let cf = Embedded::open(&path).unwrap();
        assert_eq!(cf.get("/o").await.unwrap().as_deref(), Some(b"1".as_slice()));
    }
}
