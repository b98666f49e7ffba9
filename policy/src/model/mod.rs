//! What a policy means: the values that [`crate::load`] makes out of the text.
//!
//! No invalid value can be built: ranges are ordered and of one family, names are short and printable, lists that
//! must not be empty cannot be.

pub mod address;
pub mod algorithm;
pub mod filter;
pub mod identity;
pub mod key_exchange;
pub mod local_dyn_vpn;
pub mod manual;
pub mod service;
pub mod time;
pub mod vpn;

pub use address::{AddressRange, AddressSet};
pub use algorithm::{Encryption, Group, Integrity, Prf};
pub use filter::{Action, Discard, FilterPolicy, FilterRule, Granularity, LocalStart};
pub use identity::{Identity, IdentityPattern, LocalEndpoint, RemoteEndpoint, Secret};
pub use key_exchange::{
    AuthMethod, ExchangeAction, ExchangeOffer, ExchangeRule, KeyExchangePolicy, Revocation, UrlLookup,
    Validation,
};
pub use local_dyn_vpn::LocalDynVpnRule;
pub use manual::ManVpnAction;
pub use service::{ByteRange, Connect, Direction, PortRange, Protocol, Routing, Service};
pub use time::{Moment, TimeCondition};
pub use vpn::{DataOffer, DfBit, DynVpnAction, Encap, Initiation, Protection};

use std::fmt;
use std::ops::Deref;

/// The policy of one stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// IpFilterPolicy.
    pub filter: FilterPolicy,
    /// KeyExchangePolicy; `None`: no dynamic key management.
    pub key_exchange: Option<KeyExchangePolicy>,
    /// LocalDynVpnRules, in order of appearance; their order has no meaning.
    pub local_dyn_vpn: Vec<LocalDynVpnRule>,
}

impl Policy {
    /// The LocalDynVpnRule of that name (names are case sensitive).
    #[must_use]
    pub fn local_dyn_vpn_rule(&self, name: &str) -> Option<&LocalDynVpnRule> {
        self.local_dyn_vpn.iter().find(|r| r.name.as_str() == name)
    }
    /// The IpFilterRule of that name.
    #[must_use]
    pub fn filter_rule(&self, name: &str) -> Option<&FilterRule> {
        self.filter.rules.iter().find(|r| r.name.as_str() == name)
    }
}

/// Name of an object: 1 to 32 printable ASCII characters without blank, comma or leading hyphen.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Characters that a name may have.
    pub const MAX: usize = 32;
    /// Checks a name; `Err` says which rule it breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.chars().count() > Self::MAX {
            Err(NameError::Length)
        } else if text.starts_with('-') {
            Err(NameError::LeadingHyphen)
        } else if text.chars().any(|c| !c.is_ascii_graphic() || matches!(c, ',' | '{' | '}')) {
            Err(NameError::Character)
        } else {
            Ok(Self(text.to_owned()))
        }
    }
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Why a text is no [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or too long.
    #[error("a name has 1 to 32 characters")]
    Length,
    /// Begins with `-`.
    #[error("a name does not begin with a hyphen")]
    LeadingHyphen,
    /// Holds a comma, a brace, or something that is not printable ASCII.
    #[error("a name consists of printable ASCII characters, without commas and braces")]
    Character,
}

/// A list with at least one element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonEmpty<T>(Vec<T>);

impl<T> NonEmpty<T> {
    /// `None` if `items` is empty.
    #[must_use]
    pub fn new(items: Vec<T>) -> Option<Self> {
        (!items.is_empty()).then_some(Self(items))
    }
    /// The list with one element.
    #[must_use]
    pub fn one(item: T) -> Self {
        Self(vec![item])
    }
    /// The first element.
    #[must_use]
    pub fn first(&self) -> &T {
        self.0.first().expect("a NonEmpty has an element")
    }
}

impl<T> Deref for NonEmpty<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}
