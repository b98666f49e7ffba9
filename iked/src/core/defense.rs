//! Defensive filters: the list of them all, what each stack is told of it, and what an operator orders.
//!
//! A filter of one stack is an entry of that stack. A global filter is an entry without a stack and a copy for each stack
//! that defends itself; the copies can be changed and deleted one by one, orders about the global one reach those that
//! are left. Stacks end filters at their time by themselves; here they are taken off the list at about the same time. The list
//! stands in the state folder and outlives the daemon.

use super::{Core, Now};
use crate::config::{Config, Name, StackEntry};
use crate::request::CoreError;
use crate::request::defense::{
    DEFAULT_LIFETIME_MIN, DefenseOrder, DefenseOutcome, DefenseRequest, DefenseResult, DefenseStatus, GLOBAL,
    Packets, Settings, range,
};
use crate::stack_link::{ANSWER_TIME, StackIndex};
use serde::{Deserialize, Serialize};
use stack::control::{
    Answer, DefenseMode, DefenseSet, DefensiveFilter, FilterKind, FilterView, Question, ToStack,
};
use std::collections::BTreeMap;
use std::path::Path;
use tokio::sync::oneshot;
use tracing::{info, warn};

/// File in the state folder.
const FILE: &str = "defense.toml";
/// Filters at one stack, and global ones. All of them together fit into the file.
const MAX_FILTERS: usize = 500;
/// Entries of all stacks together.
const MAX_ENTRIES: usize = 1000;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Grows; never given twice.
    id: u64,
    name: String,
    /// `None`: the global one itself.
    stack: Option<String>,
    /// It is global, or a copy of one.
    global: bool,
    /// Stacks that have had a copy, so that one that was deleted does not come back.
    #[serde(default)]
    copied: Vec<String>,
    simulate: bool,
    log: bool,
    log_limit: u16,
    lifetime_min: u32,
    /// Seconds since 1970 UTC, as the next ones.
    created: u64,
    updated: u64,
    expires: u64,
    user: Option<String>,
    packets: Packets,
}

impl Entry {
    fn change(&mut self, settings: Settings, max_lifetime_min: u32, unix: u64) {
        self.simulate = settings.simulate.unwrap_or(self.simulate);
        self.log = settings.log.unwrap_or(self.log);
        self.log_limit = settings.log_limit.unwrap_or(self.log_limit);
        if let Some(lifetime) = settings.lifetime_min {
            self.live(lifetime.min(max_lifetime_min), unix);
        }
        self.updated = unix;
    }

    fn live(&mut self, minutes: u32, unix: u64) {
        self.lifetime_min = minutes;
        self.expires = unix.saturating_add(u64::from(minutes) * 60);
    }

    /// What a stack is told.
    fn filters(&self, unix: u64) -> impl Iterator<Item = DefensiveFilter> + '_ {
        let remaining_ms = self.expires.saturating_sub(unix).saturating_mul(1000);
        self.packets.rules(&self.name).into_iter().map(move |rule| DefensiveFilter {
            id: self.id * 2 + u64::from(rule.extension - 1),
            rule,
            simulate: self.simulate,
            log: self.log,
            log_limit: self.log_limit,
            remaining_ms,
            expires: self.expires,
            created: self.created,
            updated: self.updated,
            global: self.global,
        })
    }

    fn views(&self) -> impl Iterator<Item = FilterView> + '_ {
        self.filters(0).map(|f| f.view(0))
    }
}

/// The list.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Defenses {
    /// The last id given.
    given: u64,
    #[serde(default)]
    filters: Vec<Entry>,
}

/// What of the stacks' configuration an order goes by.
struct Stacks<'a>(&'a [StackEntry]);

impl Stacks<'_> {
    fn defending(&self) -> impl Iterator<Item = &StackEntry> {
        self.0.iter().filter(|s| s.defense.mode != DefenseMode::Inactive)
    }
    fn get(&self, name: &str) -> Option<&StackEntry> {
        self.0.iter().find(|s| s.name.is(name))
    }
}

fn outcome(name: &str, result: DefenseResult, stacks: usize, reason: Option<String>) -> DefenseOutcome {
    let stacks = u32::try_from(stacks).unwrap_or(u32::MAX);
    DefenseOutcome { name: name.to_owned(), result, stacks, reason }
}

impl Defenses {
    /// Reads what [`Defenses::save`] wrote; stacks that are new get their copies of the global filters.
    pub(super) fn load(config: &Config, unix: u64) -> Self {
        let path = config.state_dir.join(FILE);
        if !path.exists() {
            return Self::default();
        }
        let read = crate::config::read_bounded(&path)
            .and_then(|text| toml::from_str::<Self>(&text).map_err(|e| e.message().to_owned()));
        let mut all = match read {
            Ok(all) => all,
            Err(e) => {
                warn!("{}: {e}: no defensive filter is in force", path.display());
                return Self::default();
            }
        };
        all.filters.truncate(MAX_ENTRIES);
        all.given = all.filters.iter().map(|e| e.id).fold(all.given, u64::max);
        all.expire(unix);
        all.copy_to_new(&Stacks(&config.stacks));
        all
    }

    /// Writes the list where the next daemon finds it.
    fn save(&self, folder: &Path) {
        let text = toml::to_string(self).map_err(std::io::Error::other);
        if let Err(e) = text.and_then(|text| crate::config::replace_file(folder, FILE, &text)) {
            warn!("{}: {e}: defensive filters will be forgotten when iked ends", folder.join(FILE).display());
        }
    }

    fn copy_to_new(&mut self, stacks: &Stacks<'_>) {
        let mut copies = Vec::new();
        for global in self.filters.iter_mut().filter(|e| e.stack.is_none()) {
            for s in stacks.defending() {
                let name = s.name.as_str();
                if !global.copied.iter().any(|c| s.name.is(c)) {
                    global.copied.push(name.to_owned());
                    copies.push(Entry { stack: Some(name.to_owned()), copied: Vec::new(), ..global.clone() });
                }
            }
        }
        for mut copy in copies {
            self.given += 1;
            copy.id = self.given;
            self.filters.push(copy);
        }
    }

    /// Takes off those whose time has come; their names and stacks.
    fn expire(&mut self, unix: u64) -> Vec<(String, Option<String>)> {
        let ended = self.filters.iter().filter(|e| e.expires <= unix);
        let ended = ended.map(|e| (e.name.clone(), e.stack.clone())).collect();
        self.filters.retain(|e| e.expires > unix);
        ended
    }

    fn of<'a>(&'a self, stack: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.filters.iter().filter(|e| e.stack.as_deref().is_some_and(|s| s.eq_ignore_ascii_case(stack)))
    }

    fn globals(&self) -> impl Iterator<Item = &Entry> {
        self.filters.iter().filter(|e| e.stack.is_none())
    }

    /// Copies of a global filter that are left.
    fn copies(&self, name: &str) -> u32 {
        let copies = self.filters.iter().filter(|e| e.global && e.stack.is_some() && e.name == name);
        u32::try_from(copies.count()).unwrap_or(u32::MAX)
    }

    /// What a stack is to have.
    fn set(&self, entry: &StackEntry, unix: u64) -> DefenseSet {
        let mut own: Vec<&Entry> = self.of(entry.name.as_str()).filter(|e| e.expires > unix).collect();
        own.sort_unstable_by_key(|e| std::cmp::Reverse(e.id));
        DefenseSet {
            mode: entry.defense.mode,
            excluded: entry.defense.exclude.iter().copied().map(range).collect(),
            filters: own.into_iter().flat_map(|e| e.filters(unix)).collect(),
        }
    }

    /// Carries an order out at one stack, or everywhere.
    fn order(
        &mut self,
        stacks: &Stacks<'_>,
        at: Option<&Name>,
        user: Option<String>,
        order: DefenseOrder,
        unix: u64,
    ) -> Vec<DefenseOutcome> {
        self.expire(unix);
        match order {
            DefenseOrder::Add { name, packets, settings } => {
                vec![self.add(stacks, at, user, name, *packets, settings, unix)]
            }
            DefenseOrder::Update { name, settings } => vec![self.update(stacks, at, &name, settings, unix)],
            DefenseOrder::Delete(Some(name)) => vec![self.delete(at, &name)],
            DefenseOrder::Delete(None) => {
                let mine = |e: &&Entry| match at {
                    Some(stack) => e.stack.as_deref().is_some_and(|s| stack.is(s)),
                    None => e.stack.is_none(),
                };
                let mut names: Vec<String> =
                    self.filters.iter().filter(mine).map(|e| e.name.clone()).collect();
                names.sort_unstable();
                names.into_iter().map(|name| self.delete(at, &name)).collect()
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a filter is what is said of it")]
    fn add(
        &mut self,
        stacks: &Stacks<'_>,
        at: Option<&Name>,
        user: Option<String>,
        name: String,
        packets: Packets,
        settings: Settings,
        unix: u64,
    ) -> DefenseOutcome {
        let places: Vec<&StackEntry> =
            stacks.defending().filter(|s| at.is_none_or(|name| s.name == *name)).collect();
        if places.is_empty() {
            let reason = "the stack's [stack.defense] says mode = \"inactive\"";
            return outcome(&name, DefenseResult::Inactive, 0, Some(reason.into()));
        }
        let taken = |s: &&&StackEntry| self.of(s.name.as_str()).any(|e| e.name == name);
        if let Some(s) = places.iter().find(taken) {
            let reason = format!("stack {} has one of that name", s.name);
            return outcome(&name, DefenseResult::Exists, 0, Some(reason));
        }
        if at.is_none() && self.globals().any(|e| e.name == name) {
            return outcome(
                &name,
                DefenseResult::Exists,
                0,
                Some("there is a global one of that name".into()),
            );
        }
        let full = |s: &&&StackEntry| self.of(s.name.as_str()).count() >= MAX_FILTERS;
        let new = places.len() + usize::from(at.is_none());
        if places.iter().any(|s| full(&s)) || self.filters.len() + new > MAX_ENTRIES {
            let reason =
                format!("{MAX_FILTERS} at a stack and {MAX_ENTRIES} in all are as many as there can be");
            return outcome(&name, DefenseResult::Full, 0, Some(reason));
        }
        let wanted = settings.lifetime_min.unwrap_or(DEFAULT_LIFETIME_MIN);
        let longest = places.iter().map(|s| s.defense.max_lifetime_min).max().unwrap_or_default();
        if settings.lifetime_min.is_some_and(|wanted| wanted > longest) {
            let reason = format!("{wanted} minutes, at most {longest} as max_lifetime says");
            return outcome(&name, DefenseResult::Lifetime, 0, Some(reason));
        }
        let log_limit = |s: Option<&StackEntry>| {
            settings.log_limit.unwrap_or_else(|| s.map_or(0, |s| s.defense.log_limit))
        };
        let mut base = Entry {
            id: 0,
            name: name.clone(),
            stack: None,
            global: at.is_none(),
            copied: places.iter().map(|s| s.name.as_str().to_owned()).collect(),
            simulate: settings.simulate.unwrap_or(false),
            log: settings.log.unwrap_or(false),
            log_limit: log_limit(places.first().copied()),
            lifetime_min: 0,
            created: unix,
            updated: unix,
            expires: 0,
            user,
            packets,
        };
        base.live(wanted.min(longest), unix);
        let mut entries: Vec<Entry> = if at.is_none() { vec![base.clone()] } else { Vec::new() };
        for s in &places {
            let mut own = Entry {
                stack: Some(s.name.as_str().to_owned()),
                copied: Vec::new(),
                log_limit: log_limit(Some(*s)),
                ..base.clone()
            };
            own.live(wanted.min(s.defense.max_lifetime_min), unix);
            entries.push(own);
        }
        for mut entry in entries {
            self.given += 1;
            entry.id = self.given;
            self.filters.push(entry);
        }
        outcome(&name, DefenseResult::Done, places.len(), None)
    }

    fn update(
        &mut self,
        stacks: &Stacks<'_>,
        at: Option<&Name>,
        name: &str,
        settings: Settings,
        unix: u64,
    ) -> DefenseOutcome {
        let longest = |stack: Option<&str>| match stack.and_then(|s| stacks.get(s)) {
            Some(s) => s.defense.max_lifetime_min,
            None => stacks.defending().map(|s| s.defense.max_lifetime_min).max().unwrap_or(u32::MAX),
        };
        let most = longest(at.map(Name::as_str));
        if !self.filters.iter().any(|e| is_meant(e, at, name)) {
            return outcome(name, DefenseResult::NotFound, 0, None);
        }
        if let Some(wanted) = settings.lifetime_min.filter(|wanted| *wanted > most) {
            let reason = format!("{wanted} minutes, at most {most} as max_lifetime says");
            return outcome(name, DefenseResult::Lifetime, 0, Some(reason));
        }
        let mut changed = 0;
        for e in self.filters.iter_mut().filter(|e| is_meant(e, at, name)) {
            let most = longest(e.stack.as_deref());
            e.change(settings, most, unix);
            changed += usize::from(e.stack.is_some());
        }
        outcome(name, DefenseResult::Done, changed, None)
    }

    fn delete(&mut self, at: Option<&Name>, name: &str) -> DefenseOutcome {
        let before = self.filters.len();
        let stacks = self.filters.iter().filter(|e| is_meant(e, at, name) && e.stack.is_some()).count();
        self.filters.retain(|e| !is_meant(e, at, name));
        let result = if self.filters.len() == before { DefenseResult::NotFound } else { DefenseResult::Done };
        outcome(name, result, stacks, None)
    }
}

/// Whether an order at a stack, or everywhere, about `name` is about this entry.
fn is_meant(e: &Entry, at: Option<&Name>, name: &str) -> bool {
    e.name == name
        && match at {
            Some(stack) => e.stack.as_deref().is_some_and(|s| stack.is(s)),
            None => e.global,
        }
}

type Reply = oneshot::Sender<Result<Vec<DefenseStatus>, CoreError>>;

impl Core {
    /// The management interface asks about defensive filters.
    pub(super) fn defense(&mut self, now: Now, request: DefenseRequest) {
        match request {
            DefenseRequest::Display { stack, reply } => self.display_defense(stack.as_deref(), reply),
            DefenseRequest::Control { stack, user, order, reply } => {
                let at = match &stack {
                    None => None,
                    Some(name) => match self.find(name) {
                        Some(index) => Some(self.stacks[index].entry.name.clone()),
                        None => return drop(reply.send(Err(CoreError::UnknownStack))),
                    },
                };
                let said = describe(&order);
                let all = Stacks(&self.config.stacks);
                let outcomes = self.defenses.order(&all, at.as_ref(), user.clone(), order, now.unix);
                if outcomes.iter().any(|o| o.result == DefenseResult::Done) {
                    let (stack, user) = (at.as_ref().map_or(GLOBAL, Name::as_str), user.as_deref());
                    info!(stack, user, "defensive filters: {said}");
                    self.defenses.save(&self.config.state_dir);
                    for index in 0..self.stacks.len() {
                        if at.as_ref().is_none_or(|name| self.stacks[index].entry.name == *name) {
                            self.defend(now, index);
                        }
                    }
                }
                let _ = reply.send(Ok(outcomes));
            }
        }
    }

    /// Tells a stack its defensive filters.
    pub(super) fn defend(&mut self, now: Now, index: StackIndex) {
        let stack = &mut self.stacks[index];
        let set = self.defenses.set(&stack.entry, now.unix);
        stack.send(ToStack::Defend(Box::new(set)));
    }

    /// Filters whose time has come: the stacks know that by themselves.
    pub(super) fn expire_defense(&mut self, now: Now) {
        let ended = self.defenses.expire(now.unix);
        for (filter, stack) in &ended {
            info!(
                stack = stack.as_deref().unwrap_or(GLOBAL),
                filter, "defensive filter: its lifetime is over"
            );
        }
        if !ended.is_empty() {
            self.defenses.save(&self.config.state_dir);
        }
    }

    fn display_defense(&self, stack: Option<&str>, reply: Reply) {
        let answers: Vec<_> = match stack {
            Some(name) => match self.find(name).and_then(|i| self.stacks[i].link.as_ref()) {
                Some(link) => vec![link.ask(Question::Defense)],
                None => return drop(reply.send(Err(CoreError::UnknownStack))),
            },
            None => {
                self.stacks.iter().filter_map(|s| s.link.as_ref()).map(|l| l.ask(Question::Defense)).collect()
            }
        };
        // Of a stack its own list counts, with what is known here of each; of the global ones the list here.
        let known: BTreeMap<String, DefenseStatusBase> = match stack {
            Some(name) => self.defenses.of(name).map(|e| (e.name.clone(), self.base(e))).collect(),
            None => self.defenses.globals().map(|e| (e.name.clone(), self.base(e))).collect(),
        };
        let mut globals: Vec<&Entry> = self.defenses.globals().collect();
        globals.sort_unstable_by_key(|e| std::cmp::Reverse(e.id));
        let listed: Option<Vec<FilterView>> =
            stack.is_none().then(|| globals.into_iter().flat_map(Entry::views).collect());
        tokio::spawn(async move {
            let mut seen = Vec::new();
            for answer in answers {
                match tokio::time::timeout(ANSWER_TIME, answer).await {
                    Ok(Ok(Answer::Filters(views))) => seen.push(views),
                    // A global filter is shown without what this stack has counted.
                    _ if listed.is_some() => {}
                    _ => return drop(reply.send(Err(CoreError::StackSilent))),
                }
            }
            let views = match listed {
                None => seen.into_iter().flatten().collect(),
                Some(mut listed) => {
                    add_up(&mut listed, seen.iter().flatten());
                    listed
                }
            };
            let status = |filter: FilterView| {
                let base = known.get(&filter.rule.name).cloned().unwrap_or_default();
                DefenseStatus {
                    filter,
                    stacks: base.stacks,
                    lifetime_min: base.lifetime_min,
                    user: base.user,
                }
            };
            let _ = reply.send(Ok(views.into_iter().map(status).collect()));
        });
    }

    fn base(&self, e: &Entry) -> DefenseStatusBase {
        let stacks = if e.global { self.defenses.copies(&e.name) } else { 0 };
        DefenseStatusBase { stacks, lifetime_min: e.lifetime_min, user: e.user.clone() }
    }
}

/// What is known of a filter beside what its stack says.
#[derive(Debug, Clone, Default)]
struct DefenseStatusBase {
    stacks: u32,
    lifetime_min: u32,
    user: Option<String>,
}

/// Adds to each global filter what its copies have counted.
fn add_up<'a>(listed: &mut [FilterView], copies: impl Iterator<Item = &'a FilterView>) {
    let place = |v: &FilterView| (v.rule.name.clone(), v.rule.extension);
    let places: BTreeMap<_, _> = listed.iter().enumerate().map(|(i, v)| (place(v), i)).collect();
    for copy in copies.filter(|v| matches!(v.kind, FilterKind::Defensive { global: true, .. })) {
        let Some(v) = places.get(&place(copy)).and_then(|i| listed.get_mut(*i)) else { continue };
        v.totals.permits = v.totals.permits.saturating_add(copy.totals.permits);
        v.totals.denies = v.totals.denies.saturating_add(copy.totals.denies);
    }
}

/// An order in a few words, for the log.
fn describe(order: &DefenseOrder) -> String {
    match order {
        DefenseOrder::Add { name, packets, settings } => {
            let range = |r: &stack::control::AddressRange| format!("{}-{}", r.low, r.high);
            let (source, destination) = match &packets.addresses {
                Some((s, d)) => (range(s), range(d)),
                None => ("all".to_owned(), "all".to_owned()),
            };
            let ports = |p: stack::control::PortRange| format!("{}-{}", p.low, p.high);
            format!(
                "{name} added, {:?} {:?} from {source} to {destination}, protocol {}, ports {} to {}, fragments only: {}, mode {}, log {}, lifetime {} minutes",
                packets.direction,
                packets.scope,
                packets.protocol.map_or_else(|| "all".to_owned(), |p| p.to_string()),
                ports(packets.source_ports),
                ports(packets.destination_ports),
                packets.fragments_only,
                if settings.simulate == Some(true) { "simulate" } else { "block" },
                settings.log.unwrap_or(false),
                settings.lifetime_min.unwrap_or(DEFAULT_LIFETIME_MIN),
            )
        }
        DefenseOrder::Update { name, settings } => format!("{name} changed: {settings:?}"),
        DefenseOrder::Delete(Some(name)) => format!("{name} deleted"),
        DefenseOrder::Delete(None) => "all deleted".to_owned(),
    }
}

#[cfg(test)]
#[path = "defense_tests.rs"]
mod tests;
