//! Whether a takeover would find everything: the sum of what the tasks of the keeper meet.

use super::order::Report;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Notify, mpsc};

/// Who met trouble, or met none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The clerk of a DVIPA.
    Dvipa(IpAddr),
    /// The pulse of a stack.
    Stack(String),
    /// A watch of a prefix.
    Watch(String),
}

/// Trouble of all tasks, and the last thing that was told about it.
#[derive(Debug)]
pub(super) struct Health {
    state: Mutex<State>,
    reports: mpsc::Sender<Report>,
    /// Told when the store works again for somebody: the others need not wait for their pause to end.
    recovered: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Why, and whether it is the store that does not answer.
    trouble: BTreeMap<Source, (String, bool)>,
    told_protected: Option<bool>,
    told_works: Option<bool>,
}

impl Health {
    pub(super) fn new(reports: mpsc::Sender<Report>) -> Self {
        Self { state: Mutex::default(), reports, recovered: Notify::new() }
    }

    /// It worked for `source`, and nothing of its waits to be written.
    pub(super) async fn good(&self, source: &Source) {
        self.change(|s| s.trouble.remove(source).is_some()).await;
    }

    /// It did not; `store`: because the store does not do its work.
    pub(super) async fn bad(&self, source: Source, reason: String, store: bool) {
        self.change(|s| {
            s.trouble.insert(source, (reason, store));
            false
        })
        .await;
    }

    /// `source` is no more.
    pub(super) async fn gone(&self, source: &Source) {
        self.good(source).await;
    }

    /// Waits until the store works again for somebody.
    pub(super) async fn recovery(&self) {
        self.recovered.notified().await;
    }

    async fn change(&self, f: impl FnOnce(&mut State) -> bool) {
        let news = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if f(&mut state) {
                self.recovered.notify_waiters();
            }
            let (protected, works) =
                (state.trouble.is_empty(), !state.trouble.values().any(|(_, store)| *store));
            let reason = state.trouble.values().next().map(|(reason, _)| reason.clone()).unwrap_or_default();
            let told_works = state.told_works.replace(works) == Some(works);
            let told_protected = state.told_protected.replace(protected) == Some(protected);
            let works = (!told_works).then_some(Report::Facility { works });
            works.into_iter().chain((!told_protected).then_some(Report::Protected { protected, reason }))
        };
        for report in news {
            // The core only goes away when the daemon ends.
            let _ = self.reports.send(report).await;
        }
    }
}
