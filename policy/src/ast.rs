//! The text as statements: a keyword, words behind it, perhaps a block. No meaning yet.

use crate::source::Span;

/// A word of the text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Word<'a> {
    pub(crate) text: &'a str,
    pub(crate) span: Span,
}

/// `Keyword word word … { … }`
#[derive(Debug)]
pub(crate) struct Statement<'a> {
    pub(crate) keyword: Word<'a>,
    pub(crate) args: Vec<Word<'a>>,
    pub(crate) block: Option<Block<'a>>,
}

/// What stands between braces.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub(crate) open: Span,
    pub(crate) statements: Vec<Statement<'a>>,
}

impl Statement<'_> {
    /// Whether the keyword is `name`; case has no meaning.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.keyword.text.eq_ignore_ascii_case(name)
    }
    /// The statement without its block.
    pub(crate) fn head(&self) -> Span {
        self.args.last().map_or(self.keyword.span, |last| self.keyword.span.to(last.span))
    }
}
