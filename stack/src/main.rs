//! `stackd`: one forwarding stack, in one network namespace. Arguments, the namespace and the log; the rest is in the
//! library.

use anyhow::{Context, bail};
use clap::Parser;
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, setrlimit};
use stack::daemon::{self, Options};
use std::path::{Path, PathBuf};
use tracing_subscriber::EnvFilter;

/// One forwarding stack: ESP, filters and distribution. `iked` starts and steers it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Name of the stack, as in `iked.toml`: 1 to 8 letters and digits.
    #[arg(long, value_parser = stack_name)]
    name: String,
    /// Unix socket to listen on for `iked`, in a folder of our own with mode 0700.
    #[arg(long)]
    control: PathBuf,
    /// Network namespace to enter, a name under `/run/netns`; without it the one that we are started in.
    #[arg(long)]
    netns: Option<String>,
    /// What to log: a level, or `target=level,…`.
    #[arg(long, default_value = "info")]
    log: EnvFilter,
}

fn stack_name(name: &str) -> Result<String, String> {
    if !(1..=8).contains(&name.len()) {
        return Err(format!("has {} characters, 1 to 8 are allowed", name.len()));
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !"$#@_-".contains(*c)) {
        Some(c) => Err(format!("must not hold {c:?}")),
        None => Ok(name.to_owned()),
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(arguments.log)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // The reader of the log may die before us: that must not end us (a message about it would).
        .log_internal_errors(false)
        .init();
    // Keys are in our memory: no core file (threats T27).
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("core files cannot be switched off")?;
    if let Some(name) = &arguments.netns {
        enter(name)?;
    }
    // After the namespace: threads that are started from here on are in it, too.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(daemon::run(Options { name: arguments.name, control: arguments.control }))
}

fn enter(name: &str) -> anyhow::Result<()> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        bail!("{name:?} cannot be the name of a network namespace");
    }
    let path = Path::new("/run/netns").join(name);
    let file = std::fs::File::open(&path)
        .with_context(|| format!("there is no network namespace {name} ({})", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("namespace {name} cannot be entered"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t58_names_that_no_stack_can_have_are_refused() {
        assert_eq!(stack_name("TCPCS1").as_deref(), Ok("TCPCS1"));
        for bad in ["", "NINECHARS", "a b", "a/b", "ä"] {
            assert!(stack_name(bad).is_err(), "{bad:?}");
        }
    }
}
