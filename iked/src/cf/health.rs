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
    trouble: BTreeMap<Source, String>,
    told: Option<bool>,
}

impl Health {
    pub(super) fn new(reports: mpsc::Sender<Report>) -> Self {
        Self { state: Mutex::default(), reports, recovered: Notify::new() }
    }

    /// It worked for `source`, and nothing of its waits to be written.
    pub(super) async fn good(&self, source: &Source) {
        self.change(|s| s.trouble.remove(source).is_some()).await;
    }

    /// It did not.
    pub(super) async fn bad(&self, source: Source, reason: String) {
        self.change(|s| {
            s.trouble.insert(source, reason);
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
            let protected = state.trouble.is_empty();
            let before = state.told.replace(protected);
            let reason = state.trouble.values().next().cloned().unwrap_or_default();
            (before != Some(protected)).then_some(Report::Protected { protected, reason })
        };
        if let Some(report) = news {
            // The core only goes away when the daemon ends.
            let _ = self.reports.send(report).await;
        }
    }
}
