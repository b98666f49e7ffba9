//! The rules of a policy block: inline, by reference, or through a group, in order of appearance.

use super::params::Params;
use crate::ast::Statement;
use crate::model::Name;
use crate::resolve::{Context, Object};
use crate::source::Span;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A rule, and where the policy takes it up.
pub(crate) struct Member<T> {
    pub(crate) at: Span,
    pub(crate) group: Option<Name>,
    pub(crate) rule: Arc<T>,
}

/// A kind of rule that can stand in groups.
pub(crate) trait Rule: Object {
    fn name(&self) -> &Name;
}

/// A group of rules.
pub(crate) trait Group<T>: Object {
    fn name(&self) -> &Name;
    /// Its rules, each with the place where the group names it.
    fn rules(&self) -> &[(Span, Arc<T>)];
}

/// Reads the rules of a policy block. Names tell rules apart, and the second one of a name, or the second use of a
/// group, could never match: both are errors.
pub(crate) fn members<'a, T: Rule, G: Group<T>>(
    params: &mut Params<'a>,
    cx: &mut Context<'a, '_>,
) -> Vec<Member<T>> {
    let mut found = Found { rules: BTreeMap::new(), list: Vec::new() };
    let mut groups: BTreeMap<Name, Span> = BTreeMap::new();
    for statement in params.each(&[T::KEYWORD, T::REF, G::KEYWORD, G::REF]) {
        if !is_one_of::<G>(statement) {
            if let Some(rule) = cx.object::<T>(statement) {
                found.add(Member { at: statement.head(), group: None, rule }, cx);
            }
            continue;
        }
        let Some(group) = cx.object::<G>(statement) else { continue };
        if let Some(first) = groups.insert(group.name().clone(), statement.head()) {
            twice(G::KEYWORD, group.name(), statement.head(), first, cx);
            continue;
        }
        for (at, rule) in group.rules() {
            let member = Member { at: *at, group: Some(group.name().clone()), rule: Arc::clone(rule) };
            found.add(member, cx);
        }
    }
    found.list
}

fn is_one_of<G: Object>(statement: &Statement<'_>) -> bool {
    statement.is(G::KEYWORD) || statement.is(G::REF)
}

struct Found<T> {
    rules: BTreeMap<Name, Span>,
    list: Vec<Member<T>>,
}

impl<T: Rule> Found<T> {
    fn add(&mut self, member: Member<T>, cx: &mut Context<'_, '_>) {
        let name = member.rule.name();
        if let Some(first) = self.rules.get(name) {
            twice(T::KEYWORD, name, member.at, *first, cx);
            return;
        }
        self.rules.insert(name.clone(), member.at);
        self.list.push(member);
    }
}

fn twice(keyword: &str, name: &Name, at: Span, first: Span, cx: &mut Context<'_, '_>) {
    cx.findings
        .error(at, format!("{keyword} `{name}` stands in the policy twice"))
        .label("the second one would never match")
        .related(first, "first time");
}
