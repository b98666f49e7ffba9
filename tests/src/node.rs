//! An `iked` with its stacks, and the `ipsec` command that looks at it.

use crate::lab::Lab;
use crate::process::{Background, run};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The key of every sysplex that the harness makes.
pub const SYSPLEX_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Path of one of the project's programs, built beside the one that runs now.
///
/// # Errors
/// When it was not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mut folder = own.parent().context("a program lies in a folder")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("deps lies in a folder")?;
    }
    let path = folder.join(name);
    ensure!(
        path.exists(),
        "{} is missing: build the workspace first (cargo build --workspace)",
        path.display()
    );
    Ok(path)
}

/// Builds the programs that [`binary`] finds, where cargo started the one that runs now, with the same profile, and the
/// packages `more`; with `etcd`, an `iked` that can use one.
///
/// # Errors
/// When the build fails.
pub fn build(more: &[&str], etcd: bool) -> Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let run = |arguments: &[&str]| -> Result<()> {
        let mut command = Command::new(&cargo);
        command.args(["build", "--quiet", "--bins"]).args(arguments);
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        ensure!(command.status()?.success(), "the build failed");
        Ok(())
    };
    let packages: Vec<&str> = ["stack", "ipsec-cli"].iter().chain(more).flat_map(|p| ["-p", *p]).collect();
    run(&packages)?;
    // By itself: cargo gives a feature of one package to none when several are named.
    run(if etcd { &["-p", "iked", "--features", "etcd"] } else { &["-p", "iked"] })
}

/// The files that configure an `iked`.
#[derive(Debug, Clone)]
pub struct Files {
    /// `iked.toml` without `system`, `state_dir`, `policy`, `servauth` and `[nmi]`, which the harness writes.
    pub stacks: String,
    /// `policy.conf`.
    pub policy: String,
    /// `servauth.toml`.
    pub servauth: String,
}

/// A running `iked`.
#[derive(Debug)]
pub struct Daemon {
    process: Background,
    /// System name.
    pub system: String,
    /// Its folder: configuration, state, log, socket.
    pub dir: PathBuf,
    /// Network namespace of the daemon itself; `None`: that of the harness.
    place: Option<String>,
    stacks: Vec<String>,
}

impl Daemon {
    /// Writes the files, starts the daemon and waits until every stack of `stacks` answers.
    ///
    /// # Errors
    /// When it ends or does not become ready; with its log.
    pub fn start(lab: &Lab, system: &str, files: &Files, stacks: &[&str]) -> Result<Self> {
        let dir = write_files(lab, system, files)?;
        Self::launch(dir, None, system, stacks)
    }

    /// As [`Daemon::start`], the daemon itself being in the node that has its system's name.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_inside(lab: &Lab, system: &str, files: &Files, stacks: &[&str]) -> Result<Self> {
        let dir = write_files(lab, system, files)?;
        Self::launch(dir, Some(lab.namespace(system)), system, stacks)
    }

    /// Starts the daemon on files that are there already.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn restart(dir: PathBuf, system: &str, stacks: &[&str]) -> Result<Self> {
        Self::launch(dir, None, system, stacks)
    }

    /// Starts it again after its end, where it was and on the files that it had; one that runs is killed, and its stacks
    /// go on.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL);
        let stacks: Vec<&str> = self.stacks.iter().map(String::as_str).collect();
        let mut again = Self::launch(self.dir.clone(), self.place.clone(), &self.system, &stacks)?;
        // What goes is the old process, not the stacks, which the new one may have taken over: without a folder none are found.
        std::mem::swap(&mut self.process, &mut again.process);
        again.dir = PathBuf::new();
        Ok(())
    }

    fn launch(dir: PathBuf, place: Option<String>, system: &str, stacks: &[&str]) -> Result<Self> {
        // Another user must be able to reach the socket: authorization decides, not the path to it.
        for folder in dir.ancestors().take(2) {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        let command = iked(place.as_deref(), &dir)?;
        let number = (0..).find(|n| !dir.join(format!("iked.{n}.log")).exists()).unwrap_or_default();
        let process = Background::start(command, &dir.join(format!("iked.{number}.log")))?;
        let stacks = stacks.iter().map(|s| (*s).to_owned()).collect();
        let mut daemon = Self { process, system: system.to_owned(), dir, place, stacks };
        let ready = crate::wait::until("iked and its stacks", Duration::from_secs(20), || {
            if !daemon.process.running() {
                return Ok(false);
            }
            for stack in &daemon.stacks {
                daemon.ipsec(&format!("-p {stack} -f display"))?;
            }
            Ok(true)
        });
        match ready {
            Ok(true) => Ok(daemon),
            Ok(false) => bail!("iked ended at its start:\n{}", daemon.log()),
            Err(e) => Err(e.context(daemon.log())),
        }
    }

    /// Runs `iked cf …` on its files.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub fn cf(&self, line: &str) -> Result<String> {
        let mut command = iked(self.place.as_deref(), &self.dir)?;
        crate::process::check(command.arg("cf").args(line.split_whitespace()))
    }

    /// The log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> nix::unistd::Pid {
        self.process.pid()
    }

    /// Process ids of its stacks, those among them that an earlier daemon started.
    #[must_use]
    pub fn stack_pids(&self) -> Vec<nix::unistd::Pid> {
        // Each is told where its control socket is to be.
        let control = self.dir.join("state/control");
        crate::process::naming(&control.to_string_lossy())
    }

    /// Kills the daemon and every stack of it with `SIGKILL`, as a loss of the system does.
    pub fn crash(&mut self) {
        let stacks = self.stack_pids();
        self.process.signal(Signal::SIGKILL);
        for pid in stacks {
            // Found a moment ago.
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        }
        self.process.end(Signal::SIGKILL);
    }

    /// Sends `signal` to the daemon and to every stack of it.
    pub fn signal_all(&mut self, signal: Signal) {
        for pid in self.stack_pids() {
            let _ = nix::sys::signal::kill(pid, signal);
        }
        self.process.signal(signal);
    }

    /// Process of the stack `name`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stack_pid(&self, name: &str) -> Result<nix::unistd::Pid> {
        let found = self.stack_pids().into_iter().find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|b| *b == 0).any(|word| word == name.as_bytes())
        });
        found.with_context(|| format!("no stackd of {name}: {}", self.log()))
    }

    /// Ends it: `SIGTERM` in good order, `SIGKILL` as a crash.
    pub fn end(&mut self, signal: Signal) {
        self.process.end(signal);
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        self.process.running()
    }

    /// As [`Daemon::running`], for those who only look.
    #[must_use]
    pub fn alive(&self) -> bool {
        // A process that has ended and was not waited for is a zombie: it has no command line.
        fs::read(format!("/proc/{}/cmdline", self.pid())).is_ok_and(|line| !line.is_empty())
    }

    /// The management socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("sock/ipsecmgmt")
    }

    /// What the daemon's metrics socket answers to a scrape, in the OpenMetrics text form.
    ///
    /// # Errors
    /// When there is no answer, or one that is not 200.
    pub fn scrape(&self) -> Result<String> {
        let path = self.dir.join("sock/metrics");
        let mut stream = UnixStream::connect(&path).with_context(|| path.display().to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: iked\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no end of the head")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
        Ok(body.to_owned())
    }

    /// An `ipsec` command with these arguments.
    ///
    /// # Errors
    /// When the program was not built.
    pub fn ipsec_command(&self, line: &str) -> Result<Command> {
        let mut command = crate::process::command(binary("ipsec")?, line);
        command.env("IPSECMGMT_SOCKET", self.socket());
        Ok(command)
    }

    /// Runs `ipsec` and gives what it printed.
    ///
    /// # Errors
    /// When its exit code is not 0; with what it said.
    pub fn ipsec(&self, line: &str) -> Result<String> {
        let output = run(&mut self.ipsec_command(line)?)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "ipsec {line}: {}: {}{text}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }

    /// Runs `ipsec … --json`.
    ///
    /// # Errors
    /// As [`Daemon::ipsec`], or when it printed no JSON.
    pub fn json(&self, line: &str) -> Result<Value> {
        let text = self.ipsec(&format!("{line} --json"))?;
        serde_json::from_str(&text).with_context(|| format!("ipsec {line} --json printed {text}"))
    }

    /// The entries of a report.
    ///
    /// # Errors
    /// As [`Daemon::json`].
    pub fn entries(&self, line: &str) -> Result<Vec<Value>> {
        let report = self.json(line)?;
        Ok(report.get("entries").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Waits until `owner` has heard of a server on `port` at `count` targets, each DVIPA's own counted, and misses none:
    /// before that a connection is refused, or goes to another target. Of its own servers nothing is heard.
    ///
    /// # Errors
    /// When it takes too long.
    pub fn servers_known(&self, owner: &str, port: u16, count: usize) -> Result<()> {
        crate::wait::until("servers known to the owner", Duration::from_secs(10), || {
            let mut targets = self.entries(&format!("-p {owner} vipa targets"))?;
            targets.retain(|t| t["Ports"].to_string().trim_matches('"') == port.to_string());
            let heard = |t: &Value| t["ReadyCount"].as_u64() > Some(0) || t["XCFPath"] == "Local";
            ensure!(
                targets.len() == count && targets.iter().all(heard),
                "not {count} are ready: {targets:?}"
            );
            Ok(())
        })
    }

    /// Packets that `stack` dropped for `reason`.
    ///
    /// # Errors
    /// As [`Daemon::json`].
    pub fn drops(&self, stack: &str, reason: &str) -> Result<u64> {
        let found = self.all_drops(stack)?;
        Ok(found.get(reason).copied().unwrap_or(0))
    }

    /// All of them: reason and packets.
    ///
    /// # Errors
    /// When they cannot be asked for.
    pub fn all_drops(&self, stack: &str) -> Result<std::collections::BTreeMap<String, u64>> {
        let entries = self.entries(&format!("-p {stack} --drops"))?;
        let one = |e: &Value| Some((e["reason"].as_str()?.to_owned(), e["packets"].as_u64()?));
        Ok(entries.iter().filter_map(one).collect())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.end(Signal::SIGTERM);
        // It ends its stacks; one that could not in time leaves them.
        for pid in self.stack_pids() {
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        }
    }
}

/// The program with its configuration, in its namespace.
fn iked(place: Option<&str>, dir: &std::path::Path) -> Result<Command> {
    let mut command = match place {
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(binary("iked")?);
            command
        }
        None => Command::new(binary("iked")?),
    };
    command.arg("--config").arg(dir.join("iked.toml"));
    Ok(command)
}

fn write_files(lab: &Lab, system: &str, files: &Files) -> Result<PathBuf> {
    let dir = lab.folder(system)?;
    let head = format!(
        "system = \"{system}\"\nstate_dir = \"{0}/state\"\npolicy = \"policy.conf\"\nservauth = \"servauth.toml\"\n\n",
        dir.display()
    );
    let nmi = format!(
        "[nmi]\nsocket = \"{0}/sock/ipsecmgmt\"\n\n[metrics]\nlisten = \"unix:{0}/sock/metrics\"\n\n",
        dir.display()
    );
    fs::write(dir.join("iked.toml"), head + &nmi + &files.stacks)?;
    fs::write(dir.join("policy.conf"), &files.policy)?;
    fs::write(dir.join("servauth.toml"), &files.servauth)?;
    let key = dir.join("sysplex.key");
    fs::write(&key, format!("{SYSPLEX_KEY}\n"))?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    fs::set_permissions(dir.join("policy.conf"), fs::Permissions::from_mode(0o600))?;
    Ok(dir)
}

/// Opens everything to the superuser and nothing to others.
pub const SERVAUTH_ROOT_ONLY: &str = "# no profile: superusers only\n";
