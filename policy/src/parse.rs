//! Tokens to statements. Every fault is reported and parsing goes on behind it.

use crate::ast::{Block, Statement, Word};
use crate::lex::Token;
use crate::report::Findings;
use crate::source::Span;

/// Blocks within blocks that are accepted; the language needs five.
pub(crate) const MAX_DEPTH: usize = 16;

/// The statements of one file.
pub(crate) fn parse<'a>(tokens: &[Token<'a>], findings: &mut Findings<'_>) -> Vec<Statement<'a>> {
    let mut parser = Parser { tokens, next: 0, findings };
    let mut all = Vec::new();
    loop {
        all.append(&mut parser.statements(0));
        // Only a closing brace that nothing opened ends the outermost list early.
        let Some(Token::Close(span)) = parser.advance() else { return all };
        parser
            .findings
            .error(span, "a closing brace without an opening one")
            .label("no block is open here")
            .help("the opening brace stands on its own line behind the keyword and the name");
    }
}

struct Parser<'t, 'a, 'f, 's> {
    tokens: &'t [Token<'a>],
    next: usize,
    findings: &'f mut Findings<'s>,
}

impl<'a> Parser<'_, 'a, '_, '_> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).copied()
    }
    fn advance(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.next += 1;
        token
    }

    /// Statements up to, not including, a closing brace or the end.
    fn statements(&mut self, depth: usize) -> Vec<Statement<'a>> {
        let mut list = Vec::new();
        loop {
            match self.peek() {
                None | Some(Token::Close(_)) => return list,
                Some(Token::Newline) => self.next += 1,
                Some(Token::Open(span)) => {
                    self.findings
                        .error(span, "a block without a statement in front of it")
                        .label("expected a keyword");
                    drop(self.block(span, depth, None));
                }
                Some(Token::Word(keyword)) => {
                    self.next += 1;
                    list.push(self.statement(keyword, depth));
                }
            }
        }
    }

    fn statement(&mut self, keyword: Word<'a>, depth: usize) -> Statement<'a> {
        let mut args = Vec::new();
        while let Some(Token::Word(word)) = self.peek() {
            args.push(word);
            self.next += 1;
        }
        let back = self.next;
        while matches!(self.peek(), Some(Token::Newline)) {
            self.next += 1;
        }
        let block = match self.peek() {
            Some(Token::Open(open)) => self.block(open, depth, Some(keyword)),
            _ => {
                self.next = back;
                None
            }
        };
        Statement { keyword, args, block }
    }

    /// A block whose opening brace comes next.
    fn block(&mut self, open: Span, depth: usize, of: Option<Word<'_>>) -> Option<Block<'a>> {
        self.next += 1;
        if depth >= MAX_DEPTH {
            self.findings
                .error(open, format!("more than {MAX_DEPTH} blocks within one another"))
                .label("this one was not read");
            self.skip_block();
            return None;
        }
        let statements = self.statements(depth + 1);
        if self.advance().is_none() {
            let message = of.map_or_else(
                || "the block is not closed".to_owned(),
                |word| format!("the block of {} is not closed", word.text),
            );
            self.findings
                .error(open, message)
                .label("opened here")
                .help("a closing brace `}` on its own line is missing");
        }
        Some(Block { open, statements })
    }

    /// Goes behind the closing brace of a block that was just entered.
    fn skip_block(&mut self) {
        let mut open = 1_usize;
        while open > 0 {
            match self.advance() {
                None => return,
                Some(Token::Open(_)) => open += 1,
                Some(Token::Close(_)) => open -= 1,
                Some(Token::Word(_) | Token::Newline) => {}
            }
        }
    }
}
