//! Global statements by kind and name, inline objects and references to them.
//!
//! An object is made when it is first asked for, and once; what nobody asked for is made at the end, so that its
//! faults are found too.

use crate::ast::{Statement, Word};
use crate::feature::Feature;
use crate::model::{
    DataOffer, DynVpnAction, ExchangeAction, ExchangeOffer, ExchangeRule, FilterRule, IdentityPattern,
    LocalDynVpnRule, LocalStart, ManVpnAction, Name, Service, TimeCondition,
};
use crate::report::{Findings, escaped};
use crate::source::Span;
use crate::statement::params::{self, Params};
use crate::statement::value::Args;
use crate::statement::{action, address, endpoint, filter, key_exchange, local_dyn_vpn, service, time};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A kind of object that can stand inline (`Xyz`) or be referred to (`XyzRef`).
pub(crate) trait Object: Sized {
    /// `Xyz`.
    const KEYWORD: &'static str;
    /// `XyzRef`.
    const REF: &'static str;
    /// Makes the object out of its parameters.
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self>;
    /// Where the global ones of this kind are kept.
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self>;
}

/// The global statements of one kind.
pub(crate) struct Table<'a, T>(BTreeMap<&'a str, Entry<'a, T>>);

struct Entry<'a, T> {
    statement: &'a Statement<'a>,
    /// `Some(None)`: could not be made, which was said.
    made: Option<Option<Arc<T>>>,
    used: bool,
}

impl<T> Default for Table<'_, T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// Names the kinds: a table for each, and what is done for all of them.
macro_rules! kinds {
    ($($field:ident: $type:ty,)+) => {
        /// The global statements.
        #[derive(Default)]
        pub(crate) struct Tables<'a> {
            $(pub(crate) $field: Table<'a, $type>,)+
        }

        impl<'a> Context<'a, '_> {
            /// Takes up a global statement; `false`: it is of no kind of object.
            pub(crate) fn declare(&mut self, statement: &'a Statement<'a>) -> bool {
                $(if statement.is(<$type>::KEYWORD) {
                    self.declare_as::<$type>(statement);
                    return true;
                })+
                false
            }
            /// Makes what nobody asked for, and says so.
            pub(crate) fn finish_objects(&mut self, is_library: impl Fn(usize) -> bool) {
                $(self.finish_kind::<$type>(&is_library);)+
            }
            /// Keywords of all kinds.
            pub(crate) const KINDS: &'static [&'static str] = &[$(<$type>::KEYWORD,)+];
        }
    };
}

kinds! {
    filter_rules: FilterRule,
    filter_groups: filter::Group,
    services: Service,
    service_groups: service::Group,
    addresses: address::Single,
    address_sets: address::Set,
    address_groups: address::Group,
    generic_actions: action::GenericAction,
    dyn_vpn_actions: DynVpnAction,
    man_vpn_actions: ManVpnAction,
    time_conditions: TimeCondition,
    time_groups: time::Group,
    data_offers: DataOffer,
    local_starts: LocalStart,
    exchange_rules: ExchangeRule,
    exchange_groups: key_exchange::Group,
    exchange_actions: ExchangeAction,
    exchange_offers: ExchangeOffer,
    local_endpoints: endpoint::Local,
    remote_endpoints: endpoint::Remote,
    remote_identities: IdentityPattern,
    local_dyn_vpn_rules: LocalDynVpnRule,
    local_dyn_vpn_groups: local_dyn_vpn::Group,
}

/// What is known while a policy is read.
pub(crate) struct Context<'a, 's> {
    /// What was found wrong so far.
    pub(crate) findings: Findings<'s>,
    tables: Tables<'a>,
    made_up: u32,
    /// Filters that the rules read so far become.
    pub(crate) filters: usize,
    /// Where the policy names each of its filter rules, in search order.
    pub(crate) rule_places: Vec<Span>,
    /// What the stacks can do.
    pub(crate) supported: &'s [Feature],
    /// AllowWeak of the block that is being read.
    pub(crate) allow_weak: bool,
    /// The first weak value that AllowWeak let pass.
    pub(crate) weak: Option<Word<'a>>,
}

impl<'a, 's> Context<'a, 's> {
    pub(crate) fn new(findings: Findings<'s>, supported: &'s [Feature]) -> Self {
        let tables = Tables::default();
        Self {
            findings,
            tables,
            made_up: 0,
            filters: 0,
            rule_places: Vec::new(),
            supported,
            allow_weak: false,
            weak: None,
        }
    }

    /// Whether the stacks can do what is asked for at this word; if not, that is said.
    pub(crate) fn uses(&mut self, feature: Feature, at: Word<'_>) -> bool {
        let supported = self.supported.contains(&feature);
        if !supported {
            self.findings
                .error(at.span, format!("{} is not supported yet", escaped(at.text)))
                .label(format!("this stack has no {feature}"));
        }
        supported
    }

    /// A name for an inline object without one; `~` cannot be mistaken for a name that somebody chose.
    pub(crate) fn made_up_name(&mut self, keyword: &str) -> Option<Name> {
        self.made_up += 1;
        Name::new(&format!("~{keyword}.{}", self.made_up)).ok()
    }

    fn declare_as<T: Object>(&mut self, statement: &'a Statement<'a>) {
        let Some(name) = params::name(T::KEYWORD, statement, true, self) else { return };
        let Some(word) = statement.args.first() else { return };
        let table = T::table(&mut self.tables);
        if let Some(first) = table.0.get(word.text) {
            let first = first.statement.head();
            self.findings
                .error(statement.head(), format!("a second {} `{name}`", T::KEYWORD))
                .label("names are unique within a kind")
                .related(first, "first one");
            return;
        }
        table.0.insert(word.text, Entry { statement, made: None, used: false });
    }

    /// The object of an `Xyz` or `XyzRef` statement.
    pub(crate) fn object<T: Object>(&mut self, statement: &'a Statement<'a>) -> Option<Arc<T>> {
        if statement.is(T::KEYWORD) { self.inline(statement) } else { self.reference(T::REF, statement) }
    }

    /// The object that stands in the block of `statement`, whatever its keyword.
    pub(crate) fn inline<T: Object>(&mut self, statement: &'a Statement<'a>) -> Option<Arc<T>> {
        let name = params::name(T::KEYWORD, statement, false, self);
        self.make::<T>(name, statement).map(Arc::new)
    }

    /// The global object that `statement`, a `keyword`, names.
    pub(crate) fn reference<T: Object>(
        &mut self,
        keyword: &'static str,
        statement: &'a Statement<'a>,
    ) -> Option<Arc<T>> {
        let reference = Args::of(keyword, statement, self)?
            .read_all(self, |args, cx| args.word(&format!("the name of an {}", T::KEYWORD), cx))?;
        self.global::<T>(reference.text, reference.span)
    }

    fn make<T: Object>(&mut self, name: Option<Name>, statement: &'a Statement<'a>) -> Option<T> {
        let mut params = Params::enter(T::KEYWORD, statement, self)?;
        // With a bad name the block is read all the same, for its own faults.
        let read_as = name.clone().or_else(|| self.made_up_name(T::KEYWORD))?;
        let object = T::read(read_as, &mut params, self);
        params.finish(self);
        name.and(object)
    }

    fn global<T: Object>(&mut self, name: &'a str, at: Span) -> Option<Arc<T>> {
        if let Some(entry) = T::table(&mut self.tables).0.get_mut(name) {
            entry.used = true;
            if let Some(made) = &entry.made {
                return made.clone();
            }
            let statement = entry.statement;
            let object = self.make::<T>(Name::new(name).ok(), statement).map(Arc::new);
            if let Some(entry) = T::table(&mut self.tables).0.get_mut(name) {
                entry.made = Some(object.clone());
            }
            return object;
        }
        if name.is_empty() {
            // A word that was too long to be one: that was said.
            return None;
        }
        let finding = self.findings.error(at, format!("there is no {} `{}`", T::KEYWORD, escaped(name)));
        let table = T::table(&mut self.tables);
        finding.label("not defined in these files").did_you_mean(name, table.0.keys().copied());
        None
    }

    fn finish_kind<T: Object>(&mut self, is_library: &impl Fn(usize) -> bool) {
        let unused: Vec<(&'a str, Span)> = T::table(&mut self.tables)
            .0
            .iter()
            .filter(|(_, entry)| !entry.used)
            .map(|(name, entry)| (*name, entry.statement.head()))
            .collect();
        for (name, at) in unused {
            self.global::<T>(name, at);
            if !is_library(at.file) {
                self.findings
                    .warning(at, format!("{} `{name}` is not used", T::KEYWORD))
                    .label("nothing refers to it");
            }
        }
    }
}
