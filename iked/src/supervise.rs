//! Starting a stack's program and starting it again: what can be decided without a process, and the process.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

/// Growing pauses: doubled after each failure up to a limit.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses from `first` up to `limit`.
    #[must_use]
    pub const fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, next: first }
    }

    /// The pause after one more failure.
    #[must_use]
    pub fn pause(&mut self) -> Duration {
        let now = self.next;
        self.next = now.saturating_mul(2).min(self.limit);
        now
    }

    /// It worked: the next failure begins again.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

/// How a stack is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub stackd: PathBuf,
    /// Name of the stack.
    pub name: String,
    /// Namespace.
    pub netns: Option<String>,
    /// Socket on which it will listen.
    pub control: PathBuf,
}

/// Why a stack cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program is not there.
    #[error("stack {name}: program {} not found: install it there or say `stackd = …` in its [[stack]]", path.display())]
    NoProgram {
        /// Stack.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The namespace is not there.
    #[error(
        "stack {name}: network namespace {netns:?} does not exist: make it (`ip netns add {netns}`) or correct `netns`"
    )]
    NoNamespace {
        /// Stack.
        name: String,
        /// Namespace.
        netns: String,
    },
    /// The system refuses.
    #[error("stack {name}: cannot start {}: {reason}", path.display())]
    Refused {
        /// Stack.
        name: String,
        /// Program.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Launch {
    /// Looks for what is needed, before anything is started.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self) -> Result<(), LaunchError> {
        if !self.stackd.is_file() {
            return Err(LaunchError::NoProgram { name: self.name.clone(), path: self.stackd.clone() });
        }
        match &self.netns {
            Some(n) if !PathBuf::from("/var/run/netns").join(n).exists() => {
                Err(LaunchError::NoNamespace { name: self.name.clone(), netns: n.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Starts the program. It outlives this daemon: it is in a process group of its own and not killed with it.
    ///
    /// # Errors
    /// What is missing, or what the system says.
    pub fn start(&self) -> Result<Child, LaunchError> {
        self.check()?;
        let mut command = Command::new(&self.stackd);
        command.arg("--name").arg(&self.name).arg("--control").arg(&self.control);
        if let Some(netns) = &self.netns {
            command.arg("--netns").arg(netns);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|e| LaunchError::Refused {
            name: self.name.clone(),
            path: self.stackd.clone(),
            reason: e.to_string(),
        })?;
        if let Some(out) = child.stdout.take() {
            tokio::spawn(pass_lines(self.name.clone(), out));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(pass_lines(self.name.clone(), err));
        }
        Ok(child)
    }
}

/// Longest line of a stack that is logged in one piece.
const MAX_LINE: u64 = 4096;

/// Passes what a stack prints to the log, line by line, each at most [`MAX_LINE`] bytes.
async fn pass_lines(stack: String, from: impl AsyncRead + Unpin) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let (warning, text) = without_time(text.trim_end());
                let text = text.escape_debug();
                match warning {
                    _ if text.clone().next().is_none() => {}
                    true => tracing::warn!(target: "stackd", %stack, "{text}"),
                    false => tracing::info!(target: "stackd", %stack, "{text}"),
                }
            }
        }
    }
}

/// A line of the stack's own log has a time and a level, which ours gives it again.
fn without_time(line: &str) -> (bool, &str) {
    let mut words = line.splitn(2, ' ');
    let (Some(time), Some(rest)) = (words.next(), words.next()) else { return (false, line) };
    if !time.ends_with('Z') || !time.starts_with(|c: char| c.is_ascii_digit()) {
        return (false, line);
    }
    match rest.trim_start().split_once(' ') {
        Some(("WARN" | "ERROR", text)) => (true, text),
        Some(("INFO" | "DEBUG" | "TRACE", text)) => (false, text),
        _ => (false, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_begin_again() {
        let s = Duration::from_secs;
        let mut b = Backoff::new(s(1), s(5));
        assert_eq!([b.pause(), b.pause(), b.pause(), b.pause(), b.pause()], [s(1), s(2), s(4), s(5), s(5)]);
        b.reset();
        assert_eq!(b.pause(), s(1));
    }

    #[test]
    fn lines_of_a_stack_keep_their_level_and_lose_their_time() {
        let line = "2026-11-22T03:22:08.322542Z  WARN stack::worker: dropped";
        assert_eq!(without_time(line), (true, "stack::worker: dropped"));
        assert_eq!(without_time("2026-11-22T03:22:08.3Z  INFO a: b"), (false, "a: b"));
        for odd in ["", "Error: no namespace", "2026Z", "2026Z WARN", "thread panicked at WARN x"] {
            assert_eq!(without_time(odd), (false, odd));
        }
    }

    fn launch(stackd: &str, netns: Option<&str>) -> Launch {
        Launch {
            stackd: stackd.into(),
            name: "TCPCS1".into(),
            netns: netns.map(str::to_owned),
            control: "/nowhere/TCPCS1.sock".into(),
        }
    }

    #[test]
    fn t59_what_is_missing_is_said_in_one_line() {
        insta::assert_snapshot!(launch("/nowhere/stackd", None).check().unwrap_err().to_string(), @"stack TCPCS1: program /nowhere/stackd not found: install it there or say `stackd = …` in its [[stack]]");
        insta::assert_snapshot!(launch("/bin/true", Some("shell-none")).check().unwrap_err().to_string(), @r#"stack TCPCS1: network namespace "shell-none" does not exist: make it (`ip netns add shell-none`) or correct `netns`"#);
        assert!(launch("/bin/true", None).check().is_ok());
    }
}
