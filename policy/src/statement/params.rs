//! The parameters of one statement: each is asked for by name, and what nobody asked for is an error.

use super::value::Args;
use crate::ast::{Statement, Word};
use crate::model::Name;
use crate::report::escaped;
use crate::resolve::{Context, Object};
use crate::source::Span;
use std::sync::Arc;

/// The parameters in the block of a statement.
pub(crate) struct Params<'a> {
    owner: &'static str,
    /// Where the statement stands.
    pub(crate) at: Span,
    items: &'a [Statement<'a>],
    taken: Vec<bool>,
    known: Vec<&'static str>,
}

impl<'a> Params<'a> {
    /// Enters the block of `statement`, which is an `owner`.
    pub(crate) fn enter(
        owner: &'static str,
        statement: &'a Statement<'a>,
        cx: &mut Context<'a, '_>,
    ) -> Option<Self> {
        let Some(block) = &statement.block else {
            cx.findings
                .error(statement.head(), format!("{owner} without a block"))
                .label("expected `{` on the next line");
            return None;
        };
        let items = &block.statements;
        let taken = vec![false; items.len()];
        Some(Self { owner, at: statement.head(), items, taken, known: Vec::new() })
    }

    /// Every occurrence of the keywords, in order of appearance.
    pub(crate) fn each(&mut self, keywords: &[&'static str]) -> Vec<&'a Statement<'a>> {
        self.known.extend_from_slice(keywords);
        let mut found = Vec::new();
        for (item, taken) in self.items.iter().zip(&mut self.taken) {
            if keywords.iter().any(|k| item.is(k)) {
                *taken = true;
                found.push(item);
            }
        }
        found
    }

    /// The only occurrence of any of the keywords; further ones are errors.
    pub(crate) fn only(
        &mut self,
        keywords: &[&'static str],
        cx: &mut Context<'a, '_>,
    ) -> Option<&'a Statement<'a>> {
        let found = self.each(keywords);
        let (&first, rest) = found.split_first()?;
        for again in rest {
            let (one, other) = (spelling(first, keywords), spelling(again, keywords));
            if one == other {
                cx.findings
                    .error(again.keyword.span, format!("{one} is coded twice in this {}", self.owner))
                    .label("second time")
                    .related(first.keyword.span, "first time");
            } else {
                cx.findings
                    .error(again.keyword.span, format!("{one} and {other} in one {}", self.owner))
                    .label("expected one of them")
                    .related(first.keyword.span, "the other one");
            }
        }
        Some(first)
    }

    /// The value of a parameter that stands at most once; `read` reads the words behind the keyword.
    pub(crate) fn value<T>(
        &mut self,
        keyword: &'static str,
        cx: &mut Context<'a, '_>,
        read: impl FnOnce(&mut Args<'a>, &mut Context<'a, '_>) -> Option<T>,
    ) -> Option<T> {
        let statement = self.only(&[keyword], cx)?;
        Args::of(keyword, statement, cx)?.read_all(cx, read)
    }

    /// The values of a parameter that may be repeated.
    pub(crate) fn values<T>(
        &mut self,
        keyword: &'static str,
        cx: &mut Context<'a, '_>,
        mut read: impl FnMut(&mut Args<'a>, &mut Context<'a, '_>) -> Option<T>,
    ) -> Vec<(Span, T)> {
        let found = self.each(&[keyword]);
        found
            .into_iter()
            .filter_map(|s| Some((s.head(), Args::of(keyword, s, cx)?.read_all(cx, &mut read)?)))
            .collect()
    }

    /// A parameter that only IKEv1 uses: checked, without effect, said.
    pub(crate) fn ikev1_only<T>(
        &mut self,
        keyword: &'static str,
        cx: &mut Context<'a, '_>,
        read: impl FnMut(&mut Args<'a>, &mut Context<'a, '_>) -> Option<T>,
    ) {
        for (at, _) in self.values(keyword, cx, read) {
            cx.findings
                .warning(at, format!("{keyword} has no effect"))
                .label("used by IKEv1 only, which is not supported yet");
        }
    }

    /// Objects of one kind, inline or by reference, in order of appearance.
    pub(crate) fn objects<T: Object>(&mut self, cx: &mut Context<'a, '_>) -> Vec<(Span, Arc<T>)> {
        let found = self.each(&[T::KEYWORD, T::REF]);
        found.into_iter().filter_map(|s| Some((s.head(), cx.object::<T>(s)?))).collect()
    }

    /// At most one object of a kind, inline or by reference.
    pub(crate) fn object<T: Object>(&mut self, cx: &mut Context<'a, '_>) -> Option<(Span, Arc<T>)> {
        let statement = self.only(&[T::KEYWORD, T::REF], cx)?;
        Some((statement.head(), cx.object::<T>(statement)?))
    }

    /// The first word behind a parameter, without reading it.
    pub(crate) fn peek(&self, keyword: &str) -> Option<Word<'a>> {
        self.items.iter().find(|item| item.is(keyword)).and_then(|item| item.args.first()).copied()
    }

    /// Whether a parameter of one of these names is there, without reading it.
    pub(crate) fn has(&self, keywords: &[&str]) -> bool {
        self.items.iter().any(|item| keywords.iter().any(|k| item.is(k)))
    }

    /// Says that something required is missing.
    pub(crate) fn missing(&self, what: &str, cx: &mut Context<'a, '_>) {
        cx.findings.error(self.at, format!("{} needs {what}", self.owner)).label("missing in this block");
    }

    /// Every parameter that nobody asked for is an error.
    pub(crate) fn finish(self, cx: &mut Context<'a, '_>) {
        for (item, _) in self.items.iter().zip(&self.taken).filter(|(_, taken)| !**taken) {
            let word = item.keyword;
            cx.findings
                .error(word.span, format!("{} has no parameter `{}`", self.owner, escaped(word.text)))
                .label(format!("expected a parameter of {}", self.owner))
                .did_you_mean(word.text, self.known.iter().copied());
        }
    }
}

/// The keyword of a statement as the reference spells it.
fn spelling(statement: &Statement<'_>, keywords: &[&'static str]) -> &'static str {
    keywords.iter().copied().find(|k| statement.is(k)).unwrap_or_default()
}

/// The name behind the keyword of an object; a made-up one where an inline object has none.
pub(crate) fn name<'a>(
    keyword: &'static str,
    statement: &Statement<'a>,
    required: bool,
    cx: &mut Context<'a, '_>,
) -> Option<Name> {
    let Some((word, rest)) = statement.args.split_first() else {
        if required {
            cx.findings
                .error(statement.keyword.span, format!("{keyword} without a name"))
                .label("expected a name");
            return None;
        }
        return cx.made_up_name(keyword);
    };
    if let Some(extra) = rest.first() {
        cx.findings.warning(extra.span, "text behind the name is ignored").label("did you forget a `#`?");
    }
    match Name::new(word.text) {
        Ok(name) => Some(name),
        Err(error) => {
            cx.findings
                .error(word.span, format!("`{}` is not a name", escaped(word.text)))
                .label(error.to_string());
            None
        }
    }
}
