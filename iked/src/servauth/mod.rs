//! SERVAUTH: who may use which resource of the management interface (nmi.md section 4).
//!
//! ```text
//! servauth.toml ──► Profiles ──┐
//! SO_PEERCRED ──► Identities ──┴─► Profiles::decide(resource, caller) ──► Decision
//! ```
//!
//! Profiles are what RACF has for general resources: the most specific profile that covers a resource decides
//! alone, with its list of permits and its universal access. A resource that no profile covers is open to
//! superusers only: uid 0, or who is permitted to `BPX.SUPERUSER` in class FACILITY. Only READ is ever asked for.
//! Any doubt (a user database that does not answer) is a refusal.

mod file;
mod identity;
mod pattern;

pub use file::ServauthError;
pub use identity::{Caller, Identities, Resolve, SystemUsers, User};
pub use pattern::{Pattern, PatternError};

use serde::Deserialize;
use std::fmt;
use std::path::Path;

/// The resource that makes a superuser of somebody other than uid 0.
const SUPERUSER: &str = "BPX.SUPERUSER";

/// Class of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Class {
    /// Network resources.
    #[default]
    Servauth,
    /// System facilities.
    Facility,
}

/// Who may read a resource beside those who are permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UniversalAccess {
    /// Nobody.
    #[default]
    None,
    /// Everybody.
    Read,
}

/// An entry of a profile's access list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Permit {
    /// A user of this name.
    User(String),
    /// The members of a group of this name, by their primary or a supplementary group.
    Group(String),
}

/// Who may read the resources that a pattern covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Class.
    pub class: Class,
    /// Which resources.
    pub name: Pattern,
    /// Everybody.
    pub universal: UniversalAccess,
    /// Some.
    pub permits: Vec<Permit>,
}

impl Profile {
    fn permits(&self, caller: &Caller) -> bool {
        self.universal == UniversalAccess::Read
            || self.permits.iter().any(|permit| match permit {
                Permit::User(name) => caller.user.name.as_deref() == Some(name),
                Permit::Group(name) => caller.user.groups.contains(name),
            })
    }
}

/// All profiles, most specific first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profiles(Vec<Profile>);

impl Profiles {
    /// Profiles of a file.
    ///
    /// # Errors
    /// The file cannot be read or trusted, or something in it is wrong; the text says where.
    pub fn load(path: &Path) -> Result<Self, ServauthError> {
        file::load(path).map(Self::from_iter)
    }

    /// Profiles of a text; `name` stands in messages.
    ///
    /// # Errors
    /// Something in it is wrong; the text says where.
    pub fn parse(text: &str, name: &Path) -> Result<Self, ServauthError> {
        file::parse(text, name).map(Self::from_iter)
    }

    /// Whether `caller` may read `resource` of class SERVAUTH, and which profile says so.
    #[must_use]
    pub fn decide(&self, resource: &str, caller: &Caller) -> Decision<'_> {
        match self.covering(Class::Servauth, resource) {
            Some(profile) => Decision { permitted: profile.permits(caller), by: Some(&profile.name) },
            None => Decision { permitted: self.is_superuser(caller), by: None },
        }
    }

    /// Whether `caller` may read what no profile covers.
    #[must_use]
    pub fn is_superuser(&self, caller: &Caller) -> bool {
        caller.uid == 0 || self.covering(Class::Facility, SUPERUSER).is_some_and(|p| p.permits(caller))
    }

    /// The most specific profile that covers a resource.
    fn covering(&self, class: Class, resource: &str) -> Option<&Profile> {
        self.0.iter().find(|p| p.class == class && p.name.covers(resource))
    }
}

impl FromIterator<Profile> for Profiles {
    fn from_iter<I: IntoIterator<Item = Profile>>(profiles: I) -> Self {
        let mut all: Vec<_> = profiles.into_iter().collect();
        all.sort_by(|a, b| a.name.specificity(&b.name));
        Self(all)
    }
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Permitted or not.
    pub permitted: bool,
    /// The profile that decided; `None`: no profile covers the resource.
    pub by: Option<&'a Pattern>,
}

impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            Some(pattern) => write!(f, "profile {pattern}"),
            None => f.write_str("no profile, superusers only"),
        }
    }
}

#[cfg(test)]
mod tests;
