//! Snapshots of the core, shared by the clients that want the same at the same time.
//!
//! A snapshot of a large stack is the most that a request costs. Requests that come while one is being made wait for
//! the next, together: each sees a moment after its request, and however many clients ask for everything at once, the
//! core makes one snapshot at a time of each part, and they hold it in common.

use super::display::Moment;
use crate::request::{CoreError, CoreRequest, Want};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

type Answer = Result<Arc<Moment>, CoreError>;
type Waiting = Vec<oneshot::Sender<Answer>>;

/// Who waits for which part of which stack. An entry is there while somebody makes snapshots of it.
#[derive(Debug, Default)]
pub(super) struct Snapshots(Mutex<BTreeMap<(String, Want), Waiting>>);

impl Snapshots {
    /// A snapshot of a moment after this call.
    pub(super) async fn take(
        self: &Arc<Self>,
        core: &mpsc::Sender<CoreRequest>,
        stack: &str,
        want: Want,
    ) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        let key = (stack.to_ascii_uppercase(), want);
        let first = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let first = !all.contains_key(&key);
            all.entry(key.clone()).or_default().push(reply);
            first
        };
        if first {
            let (this, core, stack) = (Arc::clone(self), core.clone(), stack.to_owned());
            tokio::spawn(async move {
                while let Some(waiting) = this.waiting(&key) {
                    let made = make(&core, &stack, want).await;
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

    /// Those who wait now; `None`: nobody does, and the entry is gone.
    fn waiting(&self, key: &(String, Want)) -> Option<Waiting> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = std::mem::take(all.get_mut(key)?);
        if waiting.is_empty() {
            all.remove(key);
            return None;
        }
        Some(waiting)
    }
}

/// Asks the core. The indexes into the snapshot are made once, too.
async fn make(core: &mpsc::Sender<CoreRequest>, stack: &str, want: Want) -> Option<Answer> {
    let (reply, answer) = oneshot::channel();
    core.send(CoreRequest::Display { stack: stack.to_owned(), want, reply }).await.ok()?;
    Some(answer.await.ok()?.map(|snapshot| Arc::new(Moment::new(snapshot))))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let waiting = || snapshots.0.lock().unwrap().values().map(Vec::len).sum::<usize>();
        while waiting() < 50 {
            tokio::task::yield_now().await;
        }
        refuse(made);
        assert!(first.await.unwrap().is_err());
        refuse(asked.recv().await);
        for one in later {
            assert!(one.await.unwrap().is_err());
        }
        while waiting() > 0 || !snapshots.0.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(asked.try_recv().is_err(), "two snapshots for 51 requests");
    }
}
