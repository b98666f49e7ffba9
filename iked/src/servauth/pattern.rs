//! Generic profile names, as RACF has them for general resources.
//!
//! | in a profile name | matches |
//! |---|---|
//! | `%` | one character of a qualifier |
//! | `*` as a qualifier at the beginning or in the middle | one qualifier |
//! | `*` as the last qualifier | one or more qualifiers, to the end |
//! | `*` at the end of a qualifier in the middle | zero or more characters of that qualifier |
//! | `*` at the end of the last qualifier | any rest of the name |
//! | `**` as a qualifier, once | zero or more qualifiers |

use std::cmp::Ordering;
use std::fmt;

/// Longest profile name (that of RACF's SERVAUTH class is 64; longer stack names are allowed for).
const MAX_LENGTH: usize = 246;

/// What is wrong with a profile name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing, or a name that starts, ends or continues with an empty qualifier.
    #[error("profile name {0:?} has an empty qualifier")]
    EmptyQualifier(String),
    /// Longer than any resource.
    #[error("profile name of {0} characters, at most {MAX_LENGTH} are allowed")]
    TooLong(usize),
    /// A character that no resource has.
    #[error("profile name {name:?}: {character:?} is not allowed")]
    Character {
        /// The name.
        name: String,
        /// The character.
        character: char,
    },
    /// `*` not at the end of a qualifier, or `**` within one.
    #[error(
        "profile name {0:?}: `*` is allowed at the end of a qualifier only, `**` only as a whole qualifier"
    )]
    Asterisk(String),
    /// More than one `**`.
    #[error("profile name {0:?}: `**` is allowed once")]
    TwoDoubleAsterisks(String),
}

/// A profile name, discrete or generic. Upper case; resources are compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern of a profile name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(name: &str) -> Result<Self, PatternError> {
        let name = name.to_ascii_uppercase();
        if name.len() > MAX_LENGTH {
            return Err(PatternError::TooLong(name.len()));
        }
        if let Some(character) = name.chars().find(|c| !c.is_ascii_graphic() || *c == '&') {
            return Err(PatternError::Character { name, character });
        }
        let mut doubles = 0;
        for qualifier in name.split('.') {
            if qualifier.is_empty() {
                return Err(PatternError::EmptyQualifier(name));
            }
            if qualifier == "**" {
                doubles += 1;
                continue;
            }
            if qualifier.find('*').is_some_and(|at| at + 1 != qualifier.len()) {
                return Err(PatternError::Asterisk(name));
            }
        }
        if doubles > 1 {
            return Err(PatternError::TwoDoubleAsterisks(name));
        }
        Ok(Self(name))
    }

    /// Whether it covers a resource.
    #[must_use]
    pub fn covers(&self, resource: &str) -> bool {
        let resource = resource.to_ascii_uppercase();
        let pattern: Vec<&str> = self.0.split('.').collect();
        let name: Vec<&str> = resource.split('.').collect();
        covers(&pattern, &name)
    }

    /// Most specific first: at the first character in which two names differ, a letter goes before `%`, that before
    /// `*`, that before `**`.
    #[must_use]
    pub fn specificity(&self, other: &Self) -> Ordering {
        rank(&self.0).cmp(rank(&other.0)).then_with(|| self.0.cmp(&other.0))
    }
}

/// `**` occurs once, so this takes at most one step for each qualifier of the resource.
fn covers(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (["**", rest @ ..], _) => {
            rest.is_empty() || (0..=name.len()).any(|skipped| covers(rest, &name[skipped..]))
        }
        ([last], [first, ..]) if last.ends_with('*') => {
            let stem = &last[..last.len() - 1];
            // As a whole qualifier it needs one to stand for; behind characters it takes any rest.
            (!stem.is_empty() || !first.is_empty()) && starts(stem, first)
        }
        ([p, rest @ ..], [n, others @ ..]) => {
            let here = match p.strip_suffix('*') {
                Some("") => !n.is_empty(),
                Some(stem) => starts(stem, n),
                None => p.len() == n.len() && starts(p, n),
            };
            here && covers(rest, others)
        }
        _ => false,
    }
}

/// Whether `name` begins with `stem`, in which `%` is any character.
fn starts(stem: &str, name: &str) -> bool {
    name.len() >= stem.len() && stem.bytes().zip(name.bytes()).all(|(p, n)| p == b'%' || p == n)
}

fn rank(name: &str) -> impl Iterator<Item = u8> {
    let bytes = name.as_bytes();
    (0..bytes.len()).map(|i| match bytes[i] {
        b'%' => 1,
        b'*' if bytes.get(i + 1) == Some(&b'*') => 3,
        b'*' => 2,
        _ => 0,
    })
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
