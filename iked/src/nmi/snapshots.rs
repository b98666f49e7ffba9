//! Snapshots of the core, shared by the clients that want the same at the same time.
//!
//! A snapshot of a large stack is the most that a request costs. Requests that come while one is being made wait for
//! the next, together: each sees a moment after its request, and however many clients ask for everything at once, the
//! core makes one snapshot at a time of each part, and they hold it in common.
//!
//! A snapshot lives until its last client has read its answer. So that clients who read slowly, one after the other, do not
//! keep one each, there are no more than [`MOST`] of a part of a stack at a time: who asks for another waits for
//! [`ROOM`], and then gets the newest of those that there are. It is older than his request, at most by the time that a
//! client may take for an answer, and the time in the header of the answer is its own.

use super::display::Moment;
use crate::request::{CoreError, CoreRequest, Want};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// Snapshots of a part of a stack that are held at a time.
const MOST: usize = 3;
/// How long is waited until one of them is let go.
const ROOM: Duration = Duration::from_millis(500);

type Answer = Result<Arc<Moment>, CoreError>;
type Waiting = Vec<oneshot::Sender<Answer>>;

type Key = (String, Want);

#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Who waits for which part of which stack. An entry is there while somebody makes snapshots of it.
    waiting: Mutex<BTreeMap<Key, Waiting>>,
    /// Snapshots that somebody may still read, the newest last.
    held: Mutex<BTreeMap<Key, Vec<Weak<Moment>>>>,
    /// Told when nobody reads one of them any more.
    freed: Arc<Notify>,
}

impl Snapshots {
    /// A snapshot of a moment after this call, unless very many are being read.
    pub(super) async fn take(
        self: &Arc<Self>,
        core: &mpsc::Sender<CoreRequest>,
        stack: &str,
        want: Want,
    ) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        let key = (stack.to_ascii_uppercase(), want);
        let first = {
            let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let first = !all.contains_key(&key);
            all.entry(key.clone()).or_default().push(reply);
            first
        };
        if first {
            let (this, core, stack) = (Arc::clone(self), core.clone(), stack.to_owned());
            tokio::spawn(async move {
                while this.anybody(&key) {
                    let newest = this.room(&key).await;
                    // Who came while it was waited for gets the same.
                    let Some(waiting) = this.waiting(&key) else { break };
                    let made = match newest {
                        Some(newest) => Some(Ok(newest)),
                        None => this.make(&core, &stack, want).await,
                    };
                    if let Some(Ok(made)) = &made {
                        this.hold(&key, made);
                    }
                    for one in waiting {
                        // Who left meanwhile needs none; without a core all learn that it has ended.
                        match &made {
                            Some(made) => drop(one.send(made.clone())),
                            None => drop(one),
                        }
                    }
                }
            });
        }
        answer.await.ok()
    }

    /// Waits until one more snapshot may be made. `Some`: none may, and this is the newest that there is.
    async fn room(&self, key: &Key) -> Option<Arc<Moment>> {
        let freed_one = async {
            loop {
                let freed = self.freed.notified();
                if self.living(key).len() < MOST {
                    return;
                }
                freed.await;
            }
        };
        tokio::time::timeout(ROOM, freed_one).await.err()?;
        let mut living = self.living(key);
        if living.len() < MOST { None } else { living.pop() }
    }

    /// The snapshots that somebody still reads, the newest last.
    fn living(&self, key: &Key) -> Vec<Arc<Moment>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of_key) = held.get_mut(key) else { return Vec::new() };
        let living: Vec<_> = of_key.iter().filter_map(Weak::upgrade).collect();
        if living.is_empty() {
            held.remove(key);
        }
        living
    }

    fn hold(&self, key: &Key, made: &Arc<Moment>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // What clients ask for has no end (tests of packets): a part is known while somebody reads it.
        held.retain(|_, of_key| {
            of_key.retain(|one| one.strong_count() > 0);
            !of_key.is_empty()
        });
        let of_key = held.entry(key.clone()).or_default();
        if !of_key.iter().any(|one| std::ptr::eq(one.as_ptr(), Arc::as_ptr(made))) {
            of_key.push(Arc::downgrade(made));
        }
    }

    /// Asks the core. The indexes into the snapshot are made once, too.
    async fn make(&self, core: &mpsc::Sender<CoreRequest>, stack: &str, want: Want) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        core.send(CoreRequest::Display { stack: stack.to_owned(), want, reply }).await.ok()?;
        let freed = Arc::clone(&self.freed);
        Some(answer.await.ok()?.map(|snapshot| Arc::new(Moment::new(snapshot, freed))))
    }

    /// Whether somebody waits; if not, the entry is gone.
    fn anybody(&self, key: &Key) -> bool {
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let some = all.get(key).is_some_and(|w| !w.is_empty());
        if !some {
            all.remove(key);
        }
        some
    }

    /// Those who wait now; `None`: nobody does, and the entry is gone.
    fn waiting(&self, key: &Key) -> Option<Waiting> {
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = std::mem::take(all.get_mut(key)?);
        if waiting.is_empty() {
            all.remove(key);
            return None;
        }
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> crate::request::Snapshot {
        use crate::request::{Snapshot, StackInfo};
        Snapshot {
            stack: StackInfo {
                name: "A".into(),
                active: true,
                ipv6: false,
                dvipsec: false,
                logging: false,
                predecap: false,
                policy_filters: true,
                nat_keepalive_secs: 20,
                defense: stack::control::DefenseMode::Active,
                excluded: Vec::new(),
            },
            now: tokio::time::Instant::now().into_std(),
            unix_now: 0,
            ike: Vec::new(),
            children: Vec::new(),
            census: Default::default(),
            configured: Vec::new(),
            engine: Default::default(),
            manual: Vec::new(),
            sas: Vec::new(),
            filters: Vec::new(),
            matching: 0,
            verdicts: Vec::new(),
            shelved: Vec::new(),
            totals: Default::default(),
            interfaces: Vec::new(),
            drops: Vec::new(),
            targets: Vec::new(),
            ports: Vec::new(),
            traffic: None,
            dvipas: Vec::new(),
            cf_ike: BTreeMap::new(),
            cf_children: BTreeMap::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_readers_hold_a_few_snapshots_between_them() {
        let snapshots = Arc::new(Snapshots::default());
        let (core, mut asked) = mpsc::channel(8);
        let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&made);
        tokio::spawn(async move {
            while let Some(CoreRequest::Display { reply, .. }) = asked.recv().await {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                reply.send(Ok(snapshot())).unwrap();
            }
        });
        let mut read = Vec::new();
        for _ in 0..20 {
            read.push(snapshots.take(&core, "A", Want::Children).await.unwrap().unwrap());
        }
        let made = || made.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(made(), MOST, "the first few have their own");
        assert!(read[MOST..].iter().all(|m| Arc::ptr_eq(m, &read[MOST - 1])), "the others the newest");
        // Another part has its own; one that was read makes room.
        drop(snapshots.take(&core, "A", Want::Drops).await.unwrap().unwrap());
        drop(read.remove(0));
        let next = snapshots.take(&core, "A", Want::Children).await.unwrap().unwrap();
        assert_eq!(made(), MOST + 2);
        assert!(!read.iter().any(|m| Arc::ptr_eq(m, &next)));
        drop((read, next));
        assert!(snapshots.living(&("A".to_owned(), Want::Children)).is_empty());
        assert!(snapshots.held.lock().unwrap().keys().all(|k| k.1 == Want::Drops));
    }

    #[tokio::test]
    async fn those_who_ask_while_one_is_made_share_the_next() {
        let snapshots = Arc::new(Snapshots::default());
        let (core, mut asked) = mpsc::channel(8);
        let ask = |stack: &'static str| {
            let (snapshots, core) = (Arc::clone(&snapshots), core.clone());
            tokio::spawn(async move { snapshots.take(&core, stack, Want::Drops).await.unwrap() })
        };
        let refuse = |request: Option<CoreRequest>| {
            let Some(CoreRequest::Display { reply, .. }) = request else { panic!("{request:?}") };
            reply.send(Err(CoreError::UnknownStack)).unwrap();
        };
        let first = ask("A");
        let made = asked.recv().await;
        let later: Vec<_> = (0..50).map(|_| ask("a")).collect();
        let waiting = || snapshots.waiting.lock().unwrap().values().map(Vec::len).sum::<usize>();
        while waiting() < 50 {
            tokio::task::yield_now().await;
        }
        refuse(made);
        assert!(first.await.unwrap().is_err());
        refuse(asked.recv().await);
        for one in later {
            assert!(one.await.unwrap().is_err());
        }
        while waiting() > 0 || !snapshots.waiting.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(asked.try_recv().is_err(), "two snapshots for 51 requests");
    }
}
