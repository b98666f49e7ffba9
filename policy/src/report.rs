//! What is wrong with a policy, told like a compiler: place, excerpt, marker, what was expected, suggestion.
//!
//! A diagnostic owns its text, so it outlives the files; excerpts never show a shared key.

use crate::source::{Source, Span};
use std::fmt;

/// Diagnostics that are kept of one load; the rest is only counted.
pub const MAX_DIAGNOSTICS: usize = 200;
/// Candidates that are looked at for a suggestion, so that a huge file with many faults is refused quickly.
const MAX_CANDIDATES: usize = 5_000;
/// Characters of a line that an excerpt shows.
const MAX_EXCERPT: usize = 160;

/// Whether the policy can be used in spite of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It can.
    Warning,
    /// It cannot.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// What.
    pub message: String,
    /// Where.
    pub place: Place,
    /// What was expected at the marker; may be empty.
    pub label: String,
    /// Other places that have to do with it, and what.
    pub related: Vec<(Place, String)>,
    /// What to do.
    pub help: Option<String>,
}

/// A place with an excerpt of its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// File name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line, shortened, without secrets and control characters.
    excerpt: String,
    /// Where the marker stands in the excerpt, and how wide it is, in characters.
    marker: (usize, usize),
}

/// Why a policy was refused: all errors of all its files, and the warnings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Findings by place.
    pub diagnostics: Vec<Diagnostic>,
    /// Number of further errors that are not shown.
    pub suppressed: usize,
}

impl Report {
    /// Number of errors, the suppressed ones included.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Error).count() + self.suppressed
    }
}

impl std::error::Error for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{diagnostic}")?;
        }
        if self.suppressed > 0 {
            writeln!(f, "{} more errors are not shown", self.suppressed)?;
        }
        let errors = self.errors();
        write!(f, "policy refused: {errors} error{}", if errors == 1 { "" } else { "s" })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}: {}", self.message)?;
        let width = self
            .related
            .iter()
            .map(|(p, _)| p.line)
            .chain([self.place.line])
            .max()
            .map_or(1, |line| line.to_string().len());
        self.place.show(f, "-->", width, '^', &self.label)?;
        for (place, text) in &self.related {
            place.show(f, ":::", width, '-', text)?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "{:width$} = help: {help}", "")?;
        }
        Ok(())
    }
}

impl Place {
    pub(crate) fn new(sources: &[Source], span: Span) -> Self {
        let Some(source) = sources.get(span.file) else {
            return Self { file: String::new(), line: 1, column: 1, excerpt: String::new(), marker: (0, 1) };
        };
        let bytes = source.bytes();
        let start = span.start.min(bytes.len());
        let before = bytes.get(..start).unwrap_or_default();
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |p| p + 1);
        let line_bytes = bytes.get(line_start..).unwrap_or_default();
        let line_end = line_bytes.iter().position(|&b| b == b'\n').unwrap_or(line_bytes.len());
        let line_bytes = line_bytes.get(..line_end).unwrap_or_default();
        let line_bytes = line_bytes.strip_suffix(b"\r").unwrap_or(line_bytes);
        let text = String::from_utf8_lossy(line_bytes);
        let chars_to = |offset: usize| {
            String::from_utf8_lossy(line_bytes.get(..offset.min(line_bytes.len())).unwrap_or_default())
                .chars()
                .count()
        };
        let column = chars_to(start - line_start);
        let end = chars_to(span.end.max(start) - line_start);
        let (excerpt, marker) = excerpt(&text, column, end.saturating_sub(column).max(1));
        Self {
            file: escaped(source.name()),
            line: before.iter().filter(|&&b| b == b'\n').count() + 1,
            column: column + 1,
            excerpt,
            marker,
        }
    }

    fn show(
        &self,
        f: &mut fmt::Formatter<'_>,
        arrow: &str,
        width: usize,
        mark: char,
        label: &str,
    ) -> fmt::Result {
        writeln!(f, "{:width$}{arrow} {}:{}:{}", "", self.file, self.line, self.column)?;
        writeln!(f, "{:width$} |", "")?;
        writeln!(f, "{:width$} | {}", self.line, self.excerpt)?;
        let (at, wide) = self.marker;
        let marker: String = std::iter::repeat_n(mark, wide).collect();
        writeln!(f, "{:width$} | {:at$}{marker} {label}", "", "").map(|()| ())
    }
}

/// The line as shown, and where the marker stands in it.
fn excerpt(line: &str, column: usize, width: usize) -> (String, (usize, usize)) {
    let mut shown: Vec<char> = line
        .chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect();
    let (mut at, mut wide) = (column.min(shown.len()), width);
    if let Some(secret) = secret_column(line)
        && secret < shown.len()
    {
        shown.truncate(secret);
        shown.extend("***".chars());
        if at >= secret {
            (at, wide) = (secret, 3);
        }
    }
    let from = at.saturating_sub(MAX_EXCERPT / 2);
    if shown.len() > MAX_EXCERPT {
        shown = shown.into_iter().skip(from).take(MAX_EXCERPT).collect();
        at -= from;
    }
    wide = wide.min(shown.len().saturating_sub(at)).max(1);
    (shown.into_iter().collect(), (at, wide))
}

/// Column in characters from which on a line is secret: what follows `Ascii`, `Ebcdic` or `Hex`, and everything
/// behind a keyword that is, or looks like, `SharedKey` or `Key`.
fn secret_column(line: &str) -> Option<usize> {
    let mut words = Vec::new();
    let mut column = 0;
    for piece in line.split_inclusive(|c: char| c.is_whitespace()) {
        let word = piece.trim_end();
        if !word.is_empty() {
            words.push((column, word));
        }
        column += piece.chars().count();
    }
    let is_format = |word: &str| ["ascii", "ebcdic", "hex"].iter().any(|f| word.eq_ignore_ascii_case(f));
    if let Some(at) = words.iter().position(|(_, w)| is_format(w)) {
        return words.get(at + 1).map(|(column, _)| *column);
    }
    let (_, first) = words.first()?;
    let first = first.to_ascii_lowercase();
    (distance(&first, "sharedkey") <= 3 || distance(&first, "key") <= 1)
        .then(|| words.get(1).map(|(column, _)| *column))
        .flatten()
}

/// Text with control characters written out, so that a terminal shows them instead of obeying them.
pub(crate) fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// The candidate that `word` was probably meant to be.
pub(crate) fn suggestion<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = word.to_ascii_lowercase();
    if word.len() > 64 {
        return None;
    }
    let limit = (word.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .filter(|c| c.len().abs_diff(word.len()) <= limit)
        .map(|c| (distance(&word, &c.to_ascii_lowercase()), c))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Number of single-character edits (insert, delete, replace, swap of neighbours) between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// Collects findings while a policy is read.
pub(crate) struct Findings<'a> {
    sources: &'a [Source],
    found: Vec<(Span, Diagnostic)>,
    errors: usize,
    suppressed: usize,
}

/// Details of a finding, added in chains.
pub(crate) struct Finding<'f, 'a> {
    findings: &'f mut Findings<'a>,
    kept: bool,
}

impl<'a> Findings<'a> {
    pub(crate) const fn new(sources: &'a [Source]) -> Self {
        Self { sources, found: Vec::new(), errors: 0, suppressed: 0 }
    }
    pub(crate) fn error(&mut self, at: Span, message: impl Into<String>) -> Finding<'_, 'a> {
        self.errors += 1;
        self.add(Severity::Error, at, message.into())
    }
    pub(crate) fn warning(&mut self, at: Span, message: impl Into<String>) -> Finding<'_, 'a> {
        self.add(Severity::Warning, at, message.into())
    }
    fn add(&mut self, severity: Severity, at: Span, message: String) -> Finding<'_, 'a> {
        let kept = self.found.len() < MAX_DIAGNOSTICS;
        if kept {
            let place = Place::new(self.sources, at);
            let diagnostic = Diagnostic {
                severity,
                message,
                place,
                label: String::new(),
                related: Vec::new(),
                help: None,
            };
            self.found.push((at, diagnostic));
        } else if severity == Severity::Error {
            self.suppressed += 1;
        }
        Finding { findings: self, kept }
    }
    pub(crate) const fn has_errors(&self) -> bool {
        self.errors > 0
    }
    /// The warnings if there is no error, else everything.
    pub(crate) fn finish(mut self) -> Result<Vec<Diagnostic>, Report> {
        self.found.sort_by_key(|(span, _)| (span.file, span.start));
        let diagnostics = self.found.into_iter().map(|(_, d)| d).collect();
        if self.errors == 0 {
            Ok(diagnostics)
        } else {
            Err(Report { diagnostics, suppressed: self.suppressed })
        }
    }
}

impl Finding<'_, '_> {
    fn last(&mut self) -> Option<&mut Diagnostic> {
        if self.kept { self.findings.found.last_mut().map(|(_, d)| d) } else { None }
    }
    /// What was expected at the marker.
    pub(crate) fn label(mut self, text: impl Into<String>) -> Self {
        if let Some(d) = self.last() {
            d.label = text.into();
        }
        self
    }
    /// What to do.
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        if let Some(d) = self.last() {
            d.help = Some(text.into());
        }
        self
    }
    /// `did you mean …`, if one of the candidates is likely.
    pub(crate) fn did_you_mean<'c>(self, word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Self {
        if !self.kept {
            return self;
        }
        match suggestion(word, candidates) {
            Some(c) => self.help(format!("did you mean `{c}`?")),
            None => self,
        }
    }
    /// Another place that has to do with it.
    pub(crate) fn related(mut self, at: Span, text: impl Into<String>) -> Self {
        let place = self.kept.then(|| Place::new(self.findings.sources, at));
        if let (Some(place), Some(d)) = (place, self.last()) {
            d.related.push((place, text.into()));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_swaps_once() {
        assert_eq!(distance("ipsorucaddr", "ipsourceaddr"), 2);
        assert_eq!(distance("permit", "premit"), 1);
        assert_eq!(suggestion("IpSorceAddr", ["IpDestAddr", "IpSourceAddr"]), Some("IpSourceAddr"));
        assert_eq!(suggestion("zebra", ["IpDestAddr", "IpSourceAddr"]), None);
    }

    #[test]
    fn t27_an_excerpt_hides_the_key_however_the_keyword_is_spelt() {
        for line in [
            "Key geheim",
            "Kye geheim",
            "  SharedKey Ascii geheim",
            "SharedKy Asci geheim",
            "SharedKey geheim",
            "  x Hex geheim",
        ] {
            let (shown, _) = excerpt(line, 0, 3);
            assert!(!shown.contains("geheim"), "{shown}");
            assert!(shown.contains("***"), "{shown}");
        }
    }
}
