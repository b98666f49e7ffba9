//! What stands above a report (ipsec-command.md section 4.1).

use super::Cell;
use super::layout::{local, plain};
use crate::request::Format;
use nmi_proto::value::Time;
use std::fmt::Write;

/// The product, where the original has `CS V2R5`.
const PRODUCT: &str = concat!("iked ", env!("CARGO_PKG_VERSION"));

/// Heading of a report.
#[derive(Debug)]
pub(crate) struct Heading {
    /// Stack.
    pub(crate) stack: String,
    /// When.
    pub(crate) time: Time,
    /// Primary option.
    pub(crate) primary: &'static str,
    /// Function.
    pub(crate) function: &'static str,
    /// Third line, of display functions.
    pub(crate) display: Option<Display>,
    /// Further lines: names and values, in columns.
    pub(crate) more: Vec<Vec<(&'static str, Cell)>>,
}

/// Third line of the heading.
#[derive(Debug)]
pub(crate) struct Display {
    /// Where the data live.
    pub(crate) source: &'static str,
    /// What was asked for.
    pub(crate) scope: &'static str,
    /// Entries before selection, if it is known.
    pub(crate) total: Option<u32>,
}

impl Heading {
    /// The heading as text, ending with an empty line.
    pub(crate) fn text(&self, format: Format) -> String {
        let mut out = format!(
            "{PRODUCT} ipsec  Stack Name: {}  {}\n",
            plain(&Cell::from(self.stack.as_str())),
            local(self.time, "%a %b %e %H:%M:%S %Y")
        );
        let format = match format {
            Format::Short => "Short",
            Format::Detail => "Detail",
            Format::Wide => "Wide",
        };
        if let Some(display) = &self.display {
            let total = display.total.map_or_else(|| "n/a".to_owned(), |t| t.to_string());
            let lines = [
                [("Primary:", self.primary), ("Function:", self.function), ("Format:", format)],
                [("Source:", display.source), ("Scope:", display.scope), ("TotAvail:", total.as_str())],
            ];
            for [a, b, c] in lines {
                let _ = writeln!(out, "{:<10}{:<16}{:<10}{:<19}{:<10}{}", a.0, a.1, b.0, b.1, c.0, c.1);
            }
        } else {
            let _ =
                writeln!(out, "{:<10}{:<16}{:<10}{}", "Primary:", self.primary, "Function:", self.function);
        }
        for line in &self.more {
            let mut text = String::new();
            for (column, (name, cell)) in line.iter().enumerate() {
                // Columns begin where those of the lines above do.
                let at = [0, 26, 55][column.min(2)];
                while text.chars().count() < at {
                    text.push(' ');
                }
                let name = format!("{name}:");
                let gap = if name.len() < 10 { 10 } else { 15 }.max(name.len() + 1) - name.len();
                let _ = write!(text, "{name}{:gap$}{}", "", plain(cell));
            }
            let _ = writeln!(out, "{}", text.trim_end());
        }
        out.push('\n');
        out
    }
}
