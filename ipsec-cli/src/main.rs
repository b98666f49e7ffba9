//! The `ipsec` command: a client of the management interface, and for policy files their reader.
//!
//! ```text
//!  arguments ──► request (checked) ──► client (one socket) ──► report (values) ──► layout (text or JSON)
//! ```

mod args;
mod client;
mod defensive;
mod exit;
mod explain;
mod report;
mod request;
mod style;
mod top;
mod trace;
mod traffic;
mod vipa;
mod watch;

use args::Verb;
use clap::{CommandFactory, Parser};
use exit::Failure;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match run(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            // Nobody can be told if standard error is gone.
            let _ = writeln!(io::stderr(), "ipsec: {failure}");
            failure.code()
        }
    }
}

/// Help is no error; everything else that clap has to say is a wrong use.
fn usage(error: &clap::Error) -> ExitCode {
    let code = if error.use_stderr() { exit::USAGE } else { exit::SUCCESS };
    let _ = error.print();
    ExitCode::from(code)
}

fn run(arguments: &args::Arguments) -> Result<ExitCode, Failure> {
    match &arguments.verb {
        Some(Verb::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut args::Arguments::command(), "ipsec", &mut script);
            print(&script)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Verb::Man) => {
            let mut page = Vec::new();
            clap_mangen::Man::new(args::Arguments::command()).render(&mut page).map_err(Failure::Output)?;
            print(&page)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Verb::Watch { kinds, count }) => {
            watch::run(arguments, kinds, *count)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Verb::Explain { file, packet, common, routed, fragment, opens, at }) => {
            let details = explain::Details { routed: *routed, fragment: *fragment, opens: *opens, at: *at };
            return told(&explain::explain(common.as_deref(), file, packet, details)?);
        }
        Some(Verb::Top { interval, once }) => {
            top::run(arguments, std::time::Duration::from_secs_f32(*interval), *once)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Verb::Vipa { .. }) | None => {}
    }
    if let Some(file) = &arguments.check {
        return told(&explain::check(None, file)?);
    }
    let request = request::Request::new(arguments)?;
    let outcome = client::carry_out(&request)?;
    if !request.quiet {
        let text = if request.json {
            report::layout::json(&outcome.report)
        } else {
            let text = report::layout::text(&outcome.report, request.format);
            if style::wanted(arguments.color) { style::paint(&text) } else { text }
        };
        print(text.as_bytes())?;
    }
    Ok(ExitCode::from(outcome.code))
}

fn told(told: &explain::Told) -> Result<ExitCode, Failure> {
    print(told.text.as_bytes())?;
    Ok(ExitCode::from(told.code))
}

/// Writes to standard output. Who reads no further has what he wanted.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    match io::stdout().lock().write_all(bytes).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Failure::Output),
    }
}
