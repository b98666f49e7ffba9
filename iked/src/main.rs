//! `iked`: arguments, privileges, runtime and exit code; the rest is the library.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use iked::cf::fence::Sysplex;
use iked::cf::seal::SysplexKey;
use iked::cf::sled::Embedded;
use iked::cf::{CouplingFacility, inspect};
use iked::config::{Config, Facility, Takeover};
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
    /// Print its records, without secrets. The embedded one can be opened by one process only: stop iked first
    Dump,
    /// Say which records are of no use, and why
    Verify,
    /// Remove or seal again what `verify` finds
    Repair {
        /// Do it; without this, only say what would be done
        #[arg(long)]
        yes: bool,
    },
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
        Some(Command::Cf(command)) => {
            let sysplex = config.sysplex.as_ref().context("the configuration has no [sysplex]")?;
            match sysplex.facility {
                Facility::Sled => {
                    let store = Embedded::open(&shell::cf_folder(&config))?;
                    return runtime.block_on(facility(&config, store, command));
                }
                #[cfg(feature = "etcd")]
                Facility::Etcd => return runtime.block_on(facility(&config, shell::etcd(sysplex)?, command)),
                #[cfg(not(feature = "etcd"))]
                Facility::Etcd => anyhow::bail!("this iked was built without etcd"),
            }
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

/// Carries out a command about the coupling facility. Fails if something is found bad and stays so.
async fn facility<C: CouplingFacility>(config: &Config, store: C, command: &CfCommand) -> Result<ExitCode> {
    let sysplex = config.sysplex.as_ref().context("the configuration has no [sysplex]")?;
    let plex = Sysplex::new(store, sysplex.name.as_str(), SysplexKey::load(&sysplex.key_file)?);
    let mut out = std::io::stdout().lock();
    let mut told = Ok(());
    let mut tell = |line: String| {
        if told.is_ok() {
            told = writeln!(out, "{line}");
        }
    };
    let renegotiated = config.dvipas.iter().filter(|d| d.takeover == Takeover::Renegotiate);
    let renegotiated = renegotiated.map(|d| d.address).collect();
    let bad = match command {
        CfCommand::Dump => {
            inspect::dump(&plex, &mut tell).await?;
            false
        }
        CfCommand::Verify => {
            let found = inspect::verify(&plex, &renegotiated).await?;
            found.iter().for_each(|f| tell(f.to_string()));
            found.iter().any(inspect::Finding::is_bad)
        }
        CfCommand::Repair { yes } => {
            let found = inspect::verify(&plex, &renegotiated).await?;
            let done = if *yes { inspect::repair(&plex, &found).await? } else { Vec::new() };
            for finding in &found {
                let is_done = done.contains(&finding);
                tell(format!("{finding}{}", if is_done { ": done" } else { "" }));
            }
            if !yes && !found.is_empty() {
                tell("nothing was changed; say --yes to do it".into());
            }
            found.iter().any(|f| f.is_bad() && !done.contains(&f))
        }
    };
    told?;
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// No core dump, and no other process of the same user may read our keys; nobody else may change our files.
fn guard_secrets() -> Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("cannot forbid core dumps")?;
    nix::sys::prctl::set_dumpable(false).context("cannot protect the memory")?;
    umask(Mode::from_bits_truncate(0o022));
    Ok(())
}
