//! The `ipsec` command: a client of the management interface and nothing else.
//!
//! ```text
//!  arguments ──► request (checked) ──► client (one socket) ──► report (values) ──► layout (text or JSON)
//! ```

mod args;
mod client;
mod exit;
mod report;
mod request;
mod vipa;

use clap::Parser;
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
    let request = request::Request::new(arguments)?;
    let outcome = client::carry_out(&request)?;
    let text = if request.json {
        report::layout::json(&outcome.report)
    } else {
        report::layout::text(&outcome.report, request.format)
    };
    match io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // Who reads no further has what he wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.map_err(Failure::Output)?,
    }
    Ok(ExitCode::from(outcome.code))
}
