//! The words behind a keyword: numbers, ranges, words of a list.

use crate::ast::{Statement, Word};
use crate::feature::Feature;
use crate::model::{ByteRange, PortRange};
use crate::report::escaped;
use crate::resolve::Context;

/// The words behind a keyword, read from left to right.
pub(crate) struct Args<'a> {
    /// The parameter, as the reference spells it.
    pub(crate) keyword: &'static str,
    statement: &'a Statement<'a>,
    next: usize,
}

/// What a word of a list stands for.
pub(crate) enum Choice<T> {
    /// A value.
    Is(T),
    /// The language has it, we do not support it yet, because.
    NotYet(&'static str),
    /// A value that not every stack can serve.
    Needs(T, Feature),
    /// A value that AllowWeak allows, of stacks that have the feature.
    Weak(T, Feature),
    /// It is refused, because.
    Refused(&'static str),
}

impl<'a> Args<'a> {
    /// `None`, and an error, if the statement has a block: a value has none.
    pub(crate) fn of(
        keyword: &'static str,
        statement: &'a Statement<'a>,
        cx: &mut Context<'a, '_>,
    ) -> Option<Self> {
        if let Some(block) = &statement.block {
            cx.findings
                .error(block.open, format!("{keyword} has no block"))
                .label("expected a value on one line");
            return None;
        }
        Some(Self { keyword, statement, next: 0 })
    }

    /// Reads the value; what stands behind it is ignored with a warning.
    pub(crate) fn read_all<T>(
        mut self,
        cx: &mut Context<'a, '_>,
        read: impl FnOnce(&mut Self, &mut Context<'a, '_>) -> Option<T>,
    ) -> Option<T> {
        let value = read(&mut self, cx)?;
        if let Some(rest) = self.statement.args.get(self.next..)
            && let (Some(first), Some(last)) = (rest.first(), rest.last())
        {
            cx.findings
                .warning(
                    first.span.to(last.span),
                    format!("text behind the value of {} is ignored", self.keyword),
                )
                .label("did you forget a `#`?");
        }
        Some(value)
    }

    /// Keyword and all words.
    pub(crate) fn whole(&self) -> crate::source::Span {
        self.statement.head()
    }
    /// The next word, if there is one.
    pub(crate) fn peek(&self) -> Option<Word<'a>> {
        self.statement.args.get(self.next).copied()
    }
    /// Takes the next word if it is `text`.
    pub(crate) fn take_if(&mut self, text: &str) -> bool {
        let taken = self.peek().is_some_and(|w| w.text.eq_ignore_ascii_case(text));
        self.next += usize::from(taken);
        taken
    }
    /// The next word; an error if there is none.
    pub(crate) fn word(&mut self, expected: &str, cx: &mut Context<'a, '_>) -> Option<Word<'a>> {
        let word = self.peek();
        if word.is_none() {
            let message = if self.next == 0 {
                format!("{} without a value", self.keyword)
            } else {
                format!("the value of {} is not complete", self.keyword)
            };
            cx.findings.error(self.statement.head(), message).label(format!("expected {expected}"));
        }
        self.next += 1;
        word
    }
    /// All words that are left, with one blank between them; an error if there is none.
    pub(crate) fn rest(&mut self, expected: &str, cx: &mut Context<'a, '_>) -> Option<String> {
        let mut text = self.word(expected, cx)?.text.to_owned();
        while let Some(word) = self.peek() {
            text.push(' ');
            text.push_str(word.text);
            self.next += 1;
        }
        Some(text)
    }
    /// Says that `word` is no value for this parameter.
    pub(crate) fn wrong<T>(&self, word: Word<'a>, expected: &str, cx: &mut Context<'a, '_>) -> Option<T> {
        cx.findings
            .error(word.span, format!("`{}` is no value for {}", escaped(word.text), self.keyword))
            .label(format!("expected {expected}"));
        None
    }

    /// One word of a list.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        choices: &[(&'static str, Choice<T>)],
        cx: &mut Context<'a, '_>,
    ) -> Option<T> {
        let (supported, weak) = (cx.supported, cx.allow_weak);
        let listed = || {
            choices
                .iter()
                .filter(|(_, c)| match c {
                    Choice::Is(_) => true,
                    Choice::Needs(_, feature) => supported.contains(feature),
                    Choice::Weak(_, feature) => weak && supported.contains(feature),
                    Choice::NotYet(_) | Choice::Refused(_) => false,
                })
                .map(|(text, _)| *text)
                .collect::<Vec<_>>()
        };
        let expected = match listed().as_slice() {
            [] => String::new(),
            [one] => (*one).to_owned(),
            [all @ .., last] => format!("{} or {last}", all.join(", ")),
        };
        let word = self.word(&expected, cx)?;
        match choices.iter().find(|(text, _)| word.text.eq_ignore_ascii_case(text)) {
            Some((_, Choice::Is(value))) => Some(*value),
            Some((text, Choice::Needs(value, feature))) => {
                if !cx.supported.contains(feature) {
                    cx.findings
                        .error(word.span, format!("{} {text} is not supported yet", self.keyword))
                        .label(if expected.is_empty() {
                            format!("this stack has no {feature}")
                        } else {
                            format!("this stack has no {feature}: expected {expected}")
                        });
                    return None;
                }
                Some(*value)
            }
            Some((text, Choice::Weak(value, feature))) => {
                if !cx.allow_weak {
                    cx.findings
                        .error(
                            word.span,
                            format!("{} {text} is refused: it is not secure any more", self.keyword),
                        )
                        .label(format!("expected {expected}"))
                        .help("`AllowWeak Yes` in this block accepts it all the same");
                    return None;
                }
                if !cx.uses(*feature, word) {
                    return None;
                }
                cx.weak.get_or_insert(word);
                cx.findings
                    .warning(word.span, format!("{text} is weak"))
                    .label("AllowWeak accepts it; whoever records the traffic can hope to read or forge it");
                Some(*value)
            }
            Some((text, Choice::NotYet(why))) => {
                cx.findings
                    .error(word.span, format!("{} {text} is not supported yet: {why}", self.keyword))
                    .label(format!("expected {expected}"));
                None
            }
            Some((text, Choice::Refused(why))) => {
                cx.findings
                    .error(word.span, format!("{} {text} is refused: {why}", self.keyword))
                    .label(format!("expected {expected}"));
                None
            }
            None => {
                cx.findings
                    .error(word.span, format!("`{}` is no value for {}", escaped(word.text), self.keyword))
                    .label(format!("expected {expected}"))
                    .did_you_mean(word.text, listed());
                None
            }
        }
    }

    /// `Yes` or `No`.
    pub(crate) fn yes_no(&mut self, cx: &mut Context<'a, '_>) -> Option<bool> {
        self.choice(&[("Yes", Choice::Is(true)), ("No", Choice::Is(false))], cx)
    }
    /// `On` or `Off`.
    pub(crate) fn on_off(&mut self, cx: &mut Context<'a, '_>) -> Option<bool> {
        self.choice(&[("On", Choice::Is(true)), ("Off", Choice::Is(false))], cx)
    }

    /// A number between two bounds.
    pub(crate) fn number(&mut self, low: u32, high: u32, cx: &mut Context<'a, '_>) -> Option<u32> {
        let expected = format!("a number from {low} to {high}");
        let word = self.word(&expected, cx)?;
        match number(word.text) {
            Some(n) if low <= n && n <= high => Some(n),
            _ => self.wrong(word, &expected, cx),
        }
    }

    /// `n`, `n m`, `n-m` or `n:m` between two bounds.
    pub(crate) fn range(&mut self, low: u32, high: u32, cx: &mut Context<'a, '_>) -> Option<(u32, u32)> {
        let expected = format!("n, n m, n-m or n:m, with numbers from {low} to {high}");
        let word = self.word(&expected, cx)?;
        let parts = word.text.split_once(['-', ':']);
        let pair = match parts {
            Some((a, b)) => number(a).zip(number(b)),
            None => match self.peek() {
                Some(next)
                    if next.text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | ':')) =>
                {
                    self.next += 1;
                    number(word.text).zip(number(next.text))
                }
                _ => number(word.text).map(|n| (n, n)),
            },
        };
        match pair {
            Some((a, b)) if low <= a && a <= b && b <= high => Some((a, b)),
            Some((a, b)) if a > b => {
                self.wrong(word, "a range whose first number is not above the second", cx)
            }
            _ => self.wrong(word, &expected, cx),
        }
    }

    /// A port or a range of ports; 0 alone is every port.
    pub(crate) fn ports(&mut self, cx: &mut Context<'a, '_>) -> Option<PortRange> {
        let (low, high) = self.range(0, u32::from(u16::MAX), cx)?;
        if high == 0 {
            return Some(PortRange::ANY);
        }
        PortRange::new(u16::try_from(low).ok()?, u16::try_from(high).ok()?)
    }
    /// A type or code, a range of them, or `Any` (`Some(None)`).
    pub(crate) fn bytes_or_any(&mut self, cx: &mut Context<'a, '_>) -> Option<Option<ByteRange>> {
        if self.take_if("any") {
            return Some(None);
        }
        let (low, high) = self.range(0, u32::from(u8::MAX), cx)?;
        ByteRange::new(u8::try_from(low).ok()?, u8::try_from(high).ok()?).map(Some)
    }
}

/// Decimal digits only: no sign, no blank, no overflow.
pub(crate) fn number(text: &str) -> Option<u32> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}
