//! Child processes in namespaces: started, watched, ended by pid.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A background process; it is ended when this is dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
    /// Where its output goes.
    pub log: PathBuf,
}

impl Background {
    /// Starts `command` with its output in `log`.
    ///
    /// # Errors
    /// When the log cannot be made or the program not started.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("log {}", log.display()))?;
        command.stdin(Stdio::null()).stderr(file.try_clone()?).stdout(file);
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"))
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends `signal`, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.running() {
            // The process is our own child and not yet waited for, so the pid is still its.
            let _ = kill(self.pid(), signal);
        }
    }

    /// Sends `signal` and waits for the end; `SIGKILL` follows after ten seconds.
    pub fn end(&mut self, signal: Signal) {
        if !self.running() {
            return;
        }
        // The process is our own child and not yet waited for, so the pid is still its.
        let _ = kill(self.pid(), signal);
        let child = &mut self.child;
        let ended = crate::wait::until("end of process", Duration::from_secs(10), || {
            if child.try_wait()?.is_some() { Ok(()) } else { bail!("runs") }
        });
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// What it has said so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end(Signal::SIGTERM);
    }
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started.
pub fn run(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("run {command:?}"))
}

/// Runs a command that must succeed and gives its standard output.
///
/// # Errors
/// When it fails; with what it said.
pub fn check(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `program` with the arguments of `line`, split at blanks.
pub fn command(program: impl AsRef<OsStr>, line: &str) -> Command {
    let mut c = Command::new(program);
    c.args(line.split_whitespace());
    c
}

/// CPU seconds (user and system) that process `pid` has used.
///
/// # Errors
/// When the process is gone.
pub fn cpu_seconds(pid: Pid) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit_once(')').context("stat")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

/// Processes with an argument that begins with `path`, which nobody else uses.
#[must_use]
pub fn naming(path: &str) -> Vec<Pid> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let names = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).any(|word| word.starts_with(path.as_bytes()))
    };
    let mut found: Vec<i32> = pids.filter(names).collect();
    found.sort_unstable();
    found.into_iter().map(Pid::from_raw).collect()
}
