//! Colours of reports, where somebody sees them.

use crate::args::Color;
use std::io::IsTerminal;

const BOLD: &str = "\x1b[1m";
const GOOD: &str = "\x1b[32m";
const BAD: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Values that stand out, wherever they are a whole value.
const GOOD_WORDS: &[&str] = &["Active", "ACTIVE", "DONE", "Stored", "Up", "ready", "Permit", "done"];
const BAD_WORDS: &[&str] = &[
    "Inactive",
    "Failed",
    "not protected",
    "Down",
    "gone",
    "not ready",
    "Deny",
    "Expired",
    "failed",
    "incomplete",
];

/// Whether colours are wanted on standard output.
pub(crate) fn wanted(when: Color) -> bool {
    match when {
        Color::Always => true,
        Color::Never => false,
        // https://no-color.org: set and not empty.
        Color::Auto => {
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        }
    }
}

/// A report with its heading bold and its good and bad values in colour. Taken out again, the report is as before.
pub(crate) fn paint(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 256);
    let mut heading = true;
    for line in text.split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |l| (l, "\n"));
        heading &= !body.is_empty();
        let value_at = body.find(':').map(|at| at + 1);
        let value = value_at.and_then(|at| body.get(at..)).map(str::trim).unwrap_or_default();
        let color = match value {
            _ if heading => Some((0, BOLD)),
            v if GOOD_WORDS.contains(&v) => Some((body.len() - v.len(), GOOD)),
            v if BAD_WORDS.contains(&v) => Some((body.len() - v.len(), BAD)),
            _ => None,
        };
        match color {
            Some((at, color)) => {
                let (before, painted) = body.split_at(at);
                out.extend([before, color, painted, PLAIN, end]);
            }
            None => out.push_str(line),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heading_and_values_are_painted_and_nothing_is_lost() {
        let report = "iked ipsec  Stack Name: D\n\nState:      Active\nCFRecords:  not protected\nName:  x\n";
        let painted = paint(report);
        assert!(painted.starts_with("\x1b[1miked ipsec  Stack Name: D\x1b[0m\n\n"));
        assert!(painted.contains("State:      \x1b[32mActive\x1b[0m\n"));
        assert!(painted.contains("\x1b[31mnot protected\x1b[0m\nName:  x\n"));
        let back = [BOLD, GOOD, BAD, PLAIN].iter().fold(painted, |t, code| t.replace(code, ""));
        assert_eq!(back, report);
    }
}
