//! Bytes to tokens. Lines matter, case does not; `#` at the start of a word begins a comment.

use crate::ast::Word;
use crate::report::Findings;
use crate::source::{Source, Span};

/// Words that one file may have.
pub(crate) const MAX_WORDS: usize = 1_000_000;
/// Bytes of one word.
pub(crate) const MAX_WORD_BYTES: usize = 1024;

/// A token.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Token<'a> {
    Word(Word<'a>),
    Open(Span),
    Close(Span),
    Newline,
}

/// Cuts a file into tokens. A file that is no policy text at all gives one error and no token.
pub(crate) fn lex<'a>(source: &'a Source, file: usize, findings: &mut Findings<'_>) -> Vec<Token<'a>> {
    let at = |start: usize, end: usize| Span { file, start, end };
    let Some(text) = source.text(file, findings) else { return Vec::new() };
    let skip = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    if let Some(start) = text.find(|c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        findings
            .error(at(start, start + 1), "the file holds a control character: it is not a policy text")
            .label("only tab and line end may stand here");
        return Vec::new();
    }
    let mut tokens = Vec::new();
    let mut words = 0;
    let mut rest = text.char_indices().skip_while(|(i, _)| *i < skip).peekable();
    while let Some((start, c)) = rest.next() {
        if c == '\n' || c == '\r' {
            if !matches!(tokens.last(), Some(Token::Newline)) {
                tokens.push(Token::Newline);
            }
        } else if c == '#' {
            while rest.next_if(|(_, c)| !matches!(c, '\n' | '\r')).is_some() {}
        } else if !c.is_whitespace() {
            let mut end = start + c.len_utf8();
            while let Some((i, c)) = rest.next_if(|(_, c)| !c.is_whitespace()) {
                end = i + c.len_utf8();
            }
            words += 1;
            if words > MAX_WORDS {
                findings
                    .error(at(start, end), format!("the file has more than {MAX_WORDS} words"))
                    .label("the rest was not read");
                return tokens;
            }
            tokens.push(token(text.get(start..end).unwrap_or_default(), at(start, end), findings));
        }
    }
    tokens
}

fn token<'a>(text: &'a str, span: Span, findings: &mut Findings<'_>) -> Token<'a> {
    match text {
        "{" => Token::Open(span),
        "}" => Token::Close(span),
        _ if text.len() > MAX_WORD_BYTES => {
            findings
                .error(span, format!("a word of {} bytes", text.len()))
                .label(format!("at most {MAX_WORD_BYTES} are accepted"));
            Token::Word(Word { text: "", span })
        }
        _ => Token::Word(Word { text, span }),
    }
}
