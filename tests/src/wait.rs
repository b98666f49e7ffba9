//! Awaiting a condition with a deadline, the only way in which a test waits.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// The present time; the one place where the harness reads the clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the clock enters the harness here")]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks `condition` again and again until it gives a value.
///
/// # Errors
/// When `limit` has passed; the message says `what` was awaited and the last reason that `condition` gave.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<T>) -> Result<T> {
    let end = now() + limit;
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(last) if now() >= end => bail!("{what}: not within {limit:?}; last: {last:#}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(10)),
        }
    }
}
