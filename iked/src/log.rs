//! The log: lines or JSON on standard error, filtered by directives; journald and containers take it from there.
//!
//! Levels: a state change that an operator cares about is `info` and one line; a packet is `trace`. Secrets are
//! in types that do not print, so they cannot get here.

use crate::config::Log;
use tracing_subscriber::EnvFilter;

/// Variable whose directives replace the configuration's.
pub const VARIABLE: &str = "IKED_LOG";

/// Begins logging. Once for the life of the process; a second call changes nothing.
///
/// # Errors
/// The variable's directives are wrong.
pub fn init(config: &Log) -> Result<(), String> {
    let directives = std::env::var(VARIABLE).unwrap_or_else(|_| config.filter.clone());
    let filter = EnvFilter::builder()
        .parse(&directives)
        .map_err(|e| format!("{VARIABLE}={directives:?}: {e}; expected as in iked=debug,info"))?;
    // A log that cannot be written (full disk, reader gone) must not stop or disturb the daemon (threats T59).
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .log_internal_errors(false);
    let _ = if config.json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    Ok(())
}
