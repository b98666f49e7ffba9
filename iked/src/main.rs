//! `iked`: arguments, privileges, runtime and exit code; the rest is the library.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use iked::cf::dump::dump;
use iked::cf::seal::SysplexKey;
use iked::config::Config;
use iked::translate::Files;
use iked::{check, log, shell};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The IKE daemon of this system: negotiates for its stacks, serves the management interface.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/iked/iked.toml", global = true)]
    config: PathBuf,
    /// Check the configuration, policies and authorization profiles, and start nothing
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look into the coupling facility
    #[command(subcommand)]
    Cf(CfCommand),
}

#[derive(Debug, Subcommand)]
enum CfCommand {
    /// Print its records. The embedded one can be opened by one process only: stop iked first
    Dump,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(e) => {
            // Nobody can be told if standard error is gone.
            let _ = writeln!(std::io::stderr(), "iked: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    guard_secrets()?;
    anyhow::ensure!(
        !(arguments.check && arguments.command.is_some()),
        "--check starts nothing and goes with no command"
    );
    let config = Config::load(&arguments.config)?;
    if arguments.check {
        log::init(&config.log).map_err(anyhow::Error::msg)?;
        let problems = check::all(&config, &mut Files::new(&config));
        let mut out = std::io::stdout().lock();
        for p in &problems {
            writeln!(out, "{p}")?;
        }
        if problems.is_empty() {
            writeln!(out, "{}: good", arguments.config.display())?;
        }
        return Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    match &arguments.command {
        Some(Command::Cf(CfCommand::Dump)) => {
            let sysplex = config.sysplex.as_ref().context("the configuration has no [sysplex]")?;
            let key = SysplexKey::load(&sysplex.key_file)?;
            let dvipas: Vec<_> = config.dvipas.iter().map(|d| d.address).collect();
            let folder = shell::cf_folder(&config);
            let text = runtime.block_on(dump(&folder, sysplex.name.as_str(), key, &dvipas))?;
            std::io::stdout().lock().write_all(text.as_bytes())?;
        }
        None => {
            log::init(&config.log).map_err(anyhow::Error::msg)?;
            let source = Box::new(Files::new(&config));
            let ended = runtime.block_on(shell::run(config, source));
            // A disk that hangs must not keep the process from ending.
            runtime.shutdown_timeout(Duration::from_secs(1));
            ended?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// No core dump, and no other process of the same user may read our keys; nobody else may change our files.
fn guard_secrets() -> Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("cannot forbid core dumps")?;
    nix::sys::prctl::set_dumpable(false).context("cannot protect the memory")?;
    umask(Mode::from_bits_truncate(0o022));
    Ok(())
}
