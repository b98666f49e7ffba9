//! The audit log: one line for each refusal and each control action, target `audit`.
//!
//! Refusals can be had for nothing by anybody who may connect, so they are limited for each user (threats R3).
//! Control actions are permitted ones and always logged.

use crate::servauth::{Caller, Decision};
use nmi_proto::code::MessageType;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Refusals of one user that are logged in [`WINDOW`].
const LINES: u32 = 20;
/// See [`LINES`].
const WINDOW: Duration = Duration::from_secs(60);
/// Users that are told apart; with more of them the oldest windows are forgotten.
const USERS: usize = 1024;

/// The audit log of a server.
#[derive(Debug, Default)]
pub(super) struct Audit {
    refused: Mutex<BTreeMap<u32, (Instant, u32)>>,
}

impl Audit {
    /// A request that was not permitted.
    pub(super) fn refused(&self, who: &Caller, request: MessageType, resource: &str, decision: Decision<'_>) {
        let Some(suppressed) = self.admit(who.uid, Instant::now()) else { return };
        tracing::warn!(
            target: "audit",
            user = who.user.name.as_deref().unwrap_or("?"),
            uid = who.uid,
            pid = who.pid,
            %request,
            resource,
            by = %decision,
            suppressed,
            "refused"
        );
    }

    /// A control request that was carried out or failed.
    pub(super) fn control(
        &self,
        who: &Caller,
        request: MessageType,
        stack: &str,
        objects: usize,
        result: &str,
    ) {
        tracing::info!(
            target: "audit",
            user = who.user.name.as_deref().unwrap_or("?"),
            uid = who.uid,
            pid = who.pid,
            %request,
            stack,
            objects,
            result,
            "control"
        );
    }

    /// Whether a refusal of `uid` is logged, and how many before it were not.
    fn admit(&self, uid: u32, now: Instant) -> Option<u32> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= USERS && !refused.contains_key(&uid) {
            refused.retain(|_, (start, _)| now.duration_since(*start) < WINDOW);
            if refused.len() >= USERS {
                return None;
            }
        }
        let (start, count) = refused.entry(uid).or_insert((now, 0));
        let mut suppressed = 0;
        if now.duration_since(*start) >= WINDOW {
            suppressed = count.saturating_sub(LINES);
            (*start, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        (*count <= LINES).then_some(suppressed)
    }
}

/// What is said of each of some objects; a request may name a thousand, the log need not.
pub(super) fn in_few_words<T>(all: &[T], said: impl Fn(&T) -> String) -> String {
    let shown: Vec<_> = all.iter().take(4).map(said).collect();
    let more = if all.len() > shown.len() { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refusals_are_limited_for_each_user_and_counted() {
        let audit = Audit::default();
        let now = Instant::now();
        assert_eq!((0..50).filter(|_| audit.admit(1, now).is_some()).count(), 20);
        assert_eq!(audit.admit(2, now), Some(0), "another user has lines of his own");
        assert_eq!(audit.admit(1, now + WINDOW), Some(30), "what was left out is told later");
        assert_eq!(audit.admit(1, now + WINDOW), Some(0));
    }
}
