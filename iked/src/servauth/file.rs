//! `servauth.toml`: read with care, because who can write it decides who may do what.

use super::{Class, Pattern, PatternError, Permit, Profile, UniversalAccess};
use serde::Deserialize;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// Largest file that is read (threats T58).
const MAX_BYTES: u64 = 1 << 20;

/// Why a file of profiles is not used.
#[derive(Debug, thiserror::Error)]
pub enum ServauthError {
    /// It cannot be read.
    #[error("{file}: {source}", file = file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody other than its owner could have written it.
    #[error("{file}: mode {mode:03o}: must not be writable by group or others", file = file.display())]
    Writable {
        /// The file.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is larger than any list of profiles.
    #[error("{file}: larger than {MAX_BYTES} bytes", file = file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// It is no TOML of this form; the text has line and column.
    #[error("{file}: {text}", file = file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What and where.
        text: String,
    },
    /// A profile name is wrong.
    #[error("{file}:{line}: {cause}", file = file.display())]
    Name {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What.
        cause: PatternError,
    },
    /// A profile stands there twice; neither could be said to decide.
    #[error("{file}:{line}: profile {name} stands on line {first} already", file = file.display())]
    Duplicate {
        /// The file.
        file: PathBuf,
        /// Line of the second, from 1.
        line: usize,
        /// Line of the first.
        first: usize,
        /// The name.
        name: Pattern,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    profile: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    class: Class,
    name: Spanned<String>,
    #[serde(default)]
    uacc: UniversalAccess,
    #[serde(default)]
    permit: Vec<Permit>,
}

pub(super) fn load(path: &Path) -> Result<Vec<Profile>, ServauthError> {
    let failed = |source| ServauthError::Read { file: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(ServauthError::Writable { file: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(ServauthError::TooLarge { file: path.to_owned() });
    }
    parse(&text, path)
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<Profile>, ServauthError> {
    let file: File = toml::from_str(text).map_err(|e| ServauthError::Syntax {
        file: path.to_owned(),
        text: e.to_string().trim_end().to_owned(),
    })?;
    let line_of = |at: usize| 1 + text.bytes().take(at).filter(|&b| b == b'\n').count();
    let mut profiles: Vec<(usize, Profile)> = Vec::new();
    for entry in file.profile {
        let line = line_of(entry.name.span().start);
        let name = Pattern::new(entry.name.get_ref()).map_err(|cause| ServauthError::Name {
            file: path.to_owned(),
            line,
            cause,
        })?;
        if let Some((first, _)) = profiles.iter().find(|(_, p)| p.class == entry.class && p.name == name) {
            return Err(ServauthError::Duplicate { file: path.to_owned(), line, first: *first, name });
        }
        let profile = Profile { class: entry.class, name, universal: entry.uacc, permits: entry.permit };
        profiles.push((line, profile));
    }
    Ok(profiles.into_iter().map(|(_, profile)| profile).collect())
}
