//! An etcd for the coupling facility: Debian's, alone, with its data in memory.

use crate::lab::Lab;
use crate::process::{Background, check, command};
use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The node where it runs.
pub const NODE: &str = "CF";
/// Where its clients reach it, on the segment `mgmt`.
pub const ENDPOINT: &str = "http://10.98.0.5:2379";
const HOST: u8 = 5;

/// Whether etcd and its client are installed.
#[must_use]
pub fn installed() -> bool {
    let found =
        |program: &str| ["/usr/bin", "/usr/local/bin"].iter().any(|d| Path::new(d).join(program).exists());
    found("etcd") && found("etcdctl")
}

/// A running etcd; its data is removed with it.
#[derive(Debug)]
pub struct Etcd {
    process: Option<Background>,
    namespace: String,
    data: tempfile::TempDir,
    logs: PathBuf,
    starts: u32,
}

impl Etcd {
    /// Makes its node and starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(lab: &mut Lab) -> Result<Self> {
        lab.node(NODE)?;
        lab.join(NODE, "mgmt", HOST)?;
        // What it writes need not outlive the machine, and must not wait for a disk.
        let memory = Path::new("/dev/shm");
        let builder = tempfile::Builder::new();
        let data = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() }?;
        let mut etcd = Self {
            process: None,
            namespace: lab.namespace(NODE),
            data,
            logs: lab.folder("etcd")?,
            starts: 0,
        };
        etcd.again()?;
        Ok(etcd)
    }

    /// Starts it again on its data.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn again(&mut self) -> Result<()> {
        let mut command = self.inside("etcd");
        command.arg("--data-dir").arg(self.folder());
        command.args(["--listen-client-urls", ENDPOINT, "--advertise-client-urls", ENDPOINT]);
        command.args([
            "--listen-peer-urls",
            "http://127.0.0.1:2380",
            "--log-level",
            "warn",
            "--logger",
            "zap",
        ]);
        self.starts += 1;
        let process = Background::start(command, &self.logs.join(format!("etcd.{}.log", self.starts)))?;
        let process = self.process.insert(process);
        let (namespace, log) = (&self.namespace, process.log.clone());
        crate::wait::until("etcd", Duration::from_secs(20), || {
            ensure!(process.running(), "ended: {}", std::fs::read_to_string(&log).unwrap_or_default());
            check(&mut etcdctl(namespace, "endpoint health")).map(drop)
        })
    }

    /// Ends it; `SIGKILL` as a crash.
    pub fn end(&mut self, signal: Signal) {
        if let Some(process) = &mut self.process {
            process.end(signal);
        }
    }

    /// Stops it (`SIGSTOP`) or lets it go on (`SIGCONT`).
    pub fn signal(&mut self, signal: Signal) {
        if let Some(process) = &mut self.process {
            process.signal(signal);
        }
    }

    /// Runs `etcdctl`.
    ///
    /// # Errors
    /// When it fails.
    pub fn ctl(&self, line: &str) -> Result<String> {
        check(&mut etcdctl(&self.namespace, line))
    }

    /// Every key under `prefix` and its value.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub fn records(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let text = self.ctl(&format!("get --prefix {prefix} -w json"))?;
        let answer: serde_json::Value = serde_json::from_str(&text)?;
        let list = answer["kvs"].as_array().cloned().unwrap_or_default();
        let bytes = |v: &serde_json::Value| BASE64_STANDARD.decode(v.as_str().unwrap_or_default());
        list.iter().map(|kv| Ok((String::from_utf8(bytes(&kv["key"])?)?, bytes(&kv["value"])?))).collect()
    }

    /// Writes everything that it holds to a file.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub fn save(&self, file: &Path) -> Result<()> {
        self.ctl(&format!("snapshot save {}", file.display())).map(drop)
    }

    /// Goes back to what a file holds: ends, forgets, starts again.
    ///
    /// # Errors
    /// When the file is none of etcd's.
    pub fn restore(&mut self, file: &Path) -> Result<()> {
        self.end(Signal::SIGKILL);
        std::fs::remove_dir_all(self.folder()).context("etcd's data")?;
        self.ctl(&format!("snapshot restore {} --data-dir {}", file.display(), self.folder().display()))?;
        self.again()
    }

    fn folder(&self) -> PathBuf {
        self.data.path().join("etcd")
    }

    fn inside(&self, program: &str) -> Command {
        let mut c = Command::new("ip");
        c.args(["netns", "exec", &self.namespace, program]);
        c
    }
}

fn etcdctl(namespace: &str, line: &str) -> Command {
    let mut c = command(
        "ip",
        &format!("netns exec {namespace} etcdctl --endpoints {ENDPOINT} --command-timeout 2s {line}"),
    );
    c.env("ETCDCTL_API", "3");
    c
}
