//! The daemon's configuration file, checked: what the rest of the daemon sees of `/etc/iked/iked.toml`.
//!
//! [`file`](self::file) is the text's shape, [`check`](self::check) turns it into these types or says everything
//! that is wrong with it at once. A [`Config`] that exists is consistent: names resolve, addresses are used once,
//! paths are absolute or relative to the working directory, whatever the file said.

mod check;
mod file;
mod profile;

use ipnet::IpNet;
use stack::control::DefenseMode;
pub use stack::control::Method;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Largest configuration file that is read.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// Largest number of stacks of one system.
pub const MAX_STACKS: usize = 64;

/// Name of a system, stack or sysplex: 1 to 8 characters, compared without regard to case.
#[derive(Clone)]
pub struct Name(String);

/// Without regard to case, as everywhere where a name is looked up.
impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let upper = |n: &Self| n.0.bytes().map(|b| b.to_ascii_uppercase()).collect::<Vec<_>>();
        upper(self).cmp(&upper(other))
    }
}

impl std::hash::Hash for Name {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_ascii_uppercase().hash(state);
    }
}

impl Name {
    /// Longest name, as in the management interface.
    pub const MAX: usize = 8;

    /// Checks `text`: ASCII letters, digits and `@ # $ _ -`, 1 to 8 of them; kept as it was written.
    ///
    /// # Errors
    /// A sentence saying what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let ok = |b: u8| b.is_ascii_alphanumeric() || b"@#$_-".contains(&b);
        if text.is_empty() || text.len() > Self::MAX || !text.bytes().all(ok) || text.starts_with('-') {
            return Err(format!(
                "{text:?} is no name: expected 1 to 8 characters out of A-Z a-z 0-9 @ # $ _ - (not first)"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` names the same thing.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.0.eq_ignore_ascii_case(text)
    }
}

impl std::str::FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This host.
    pub system: Name,
    /// Where state, control sockets and the embedded coupling facility live (mode 0700).
    pub state_dir: PathBuf,
    /// Policy common to all stacks.
    pub policy: Option<PathBuf>,
    /// Authorization profiles; absent: superuser only.
    pub servauth: Option<PathBuf>,
    /// Management interface.
    pub nmi: Nmi,
    /// Where metrics are served; absent: nowhere.
    pub metrics: Option<crate::metrics::Address>,
    /// Sysplex, if there is one.
    pub sysplex: Option<Sysplex>,
    /// Stacks, in the file's order.
    pub stacks: Vec<StackEntry>,
    /// DVIPAs, in the file's order.
    pub dvipas: Vec<Dvipa>,
    /// Retransmission.
    pub ike: Ike,
    /// Log.
    pub log: Log,
}

/// The management interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nmi {
    /// Path of the socket.
    pub socket: PathBuf,
    /// Clients served at a time.
    pub max_clients: usize,
    /// Encoding of text fields.
    pub text: NmiText,
}

/// Encoding of text in the management interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub enum NmiText {
    /// ASCII.
    #[serde(rename = "ascii")]
    Ascii,
    /// EBCDIC code page IBM-1047.
    #[serde(rename = "ibm-1047")]
    Ibm1047,
}

/// The sysplex that the stacks belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysplex {
    /// Name.
    pub name: Name,
    /// File with the sysplex key.
    pub key_file: PathBuf,
    /// Where the coupling facility lives.
    pub facility: Facility,
    /// The etcd cluster, with [`Facility::Etcd`] and only then.
    pub etcd: Option<Etcd>,
    /// How long a renewal lets a stack use its DVIPAs, where another system may take them.
    pub lease: std::time::Duration,
    /// Packets between stacks go in GRE in UDP (RFC 8086) instead of GRE.
    pub gre_in_udp: bool,
}

/// An etcd cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    /// URLs, all `http` or all `https`; at least one.
    pub endpoints: Vec<String>,
    /// Certificates of those who may sign the servers'; with `https`.
    pub ca: Option<PathBuf>,
    /// This client's certificate and private key, where the servers ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Which coupling facility is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Facility {
    /// Embedded in this daemon, for the stacks of one system.
    Sled,
    /// An etcd cluster, for the stacks of many systems.
    Etcd,
}

/// One stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackEntry {
    /// Name.
    pub name: Name,
    /// Network namespace; `None`: the daemon's own.
    pub netns: Option<String>,
    /// Interfaces to peers.
    pub network: Vec<String>,
    /// Its XCF link.
    pub xcf: Option<XcfEntry>,
    /// Static addresses that it protects.
    pub home: Vec<IpAddr>,
    /// Stack-specific policy beside the common one.
    pub policy: Option<PathBuf>,
    /// The IPSEC block of its profile: the filters that are in force without a policy.
    pub default_filters: Option<policy::profile::Ipsec>,
    /// Program of the stack.
    pub stackd: PathBuf,
    /// Mark and mask of what its own sockets send.
    pub mark: (u32, u32),
    /// Largest number of connections that it remembers.
    pub max_connections: u32,
    /// Its defensive filters.
    pub defense: Defense,
}

/// What a stack makes of defensive filters (DmStackConfig of the product).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defense {
    /// Whether they are in force.
    pub mode: DefenseMode,
    /// Longest lifetime of one, in minutes.
    pub max_lifetime_min: u32,
    /// Lines in five minutes, for filters that do not say; 0: as many as the stack writes about anything.
    pub log_limit: u16,
    /// Addresses of others that they do not touch.
    pub exclude: Vec<IpNet>,
}

impl Default for Defense {
    fn default() -> Self {
        Self { mode: DefenseMode::Active, max_lifetime_min: 7 * 24 * 60, log_limit: 100, exclude: Vec::new() }
    }
}

/// XCF link of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XcfEntry {
    /// Interface.
    pub interface: String,
    /// Own address on it.
    pub address: IpAddr,
}

/// One DVIPA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dvipa {
    /// The address.
    pub address: IpAddr,
    /// Stack that owns it when all is well.
    pub owner: Name,
    /// Backups, first the one that comes first.
    pub backups: Vec<Name>,
    /// What becomes of the SAs when another stack takes it over.
    pub takeover: Takeover,
    /// When the preferred owner gets it back.
    pub giveback: Giveback,
    /// What is distributed.
    pub distribute: Vec<Distribute>,
}

impl Dvipa {
    /// Stacks that can own it: the preferred one, then the backups.
    pub fn candidates(&self) -> impl Iterator<Item = &Name> {
        std::iter::once(&self.owner).chain(&self.backups)
    }
}

/// What becomes of the SAs at a takeover.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Takeover {
    /// The new owner negotiates new ones.
    #[default]
    Renegotiate,
    /// The new owner goes on with them; their keys stand in the coupling facility.
    Continue,
}

/// When the preferred owner takes a DVIPA back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Giveback {
    /// As soon as it is there.
    #[default]
    Immediate,
    /// As soon as it is there and the owner has no connection left.
    WhenIdle,
    /// When an operator says so.
    Manual,
}

/// Connections of a DVIPA that are spread over targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribute {
    /// IP protocol number.
    pub protocol: u8,
    /// Ports: low and high.
    pub ports: Vec<(u16, u16)>,
    /// How a target is chosen.
    pub method: Method,
    /// Seconds for which a client stays with its target after its last connection there; 0: not at all.
    pub affinity_secs: u32,
    /// Stacks, the preferred one of a hot standby first.
    pub targets: Vec<Target>,
}

/// A target of a distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The stack.
    pub stack: Name,
    /// Its weight, at least 1.
    pub weight: u8,
}

/// How IKE messages are repeated until they are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ike {
    /// Number of retransmissions before a peer is given up.
    pub retries: u32,
    /// Wait before the first one; doubles each time.
    pub init_wait: std::time::Duration,
    /// When ESP goes in UDP.
    pub udp_encapsulation: UdpEncapsulation,
    /// The folder with certificates and keys ([`crate::translate::Keyring`]).
    pub keyring: Option<PathBuf>,
}

/// When ESP is encapsulated in UDP (RFC 3948).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UdpEncapsulation {
    /// Where a NAT was detected.
    #[default]
    Nat,
    /// Wherever a rule allows NAT traversal: UDP has offloads that protocol 50 has not, and firewalls know it.
    Always,
}

/// How the daemon logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Filter directives (`info`, `iked=debug,warn`); the variable `IKED_LOG` goes before it.
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

impl Config {
    /// Reads and checks `path` and the key file that it names.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            read_bounded(path).map_err(|reason| ConfigError::Unreadable { path: path.into(), reason })?;
        Self::parse(path, &text)
    }

    /// As [`Config::load`], with the text given; relative paths are relative to `path`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let invalid = |problems| ConfigError::Invalid { path: path.into(), problems };
        let file: file::File = toml::from_str(text).map_err(|e| invalid(vec![Problem::of_toml(text, &e)]))?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        check::check(file, folder, text).map_err(invalid)
    }

    /// The stack called `name`.
    #[must_use]
    pub fn stack(&self, name: &str) -> Option<&StackEntry> {
        self.stacks.iter().find(|s| s.name.is(name))
    }
}

/// Reads a text file of at most [`MAX_FILE_BYTES`].
///
/// # Errors
/// A sentence saying what is wrong.
pub(crate) fn read_bounded(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("larger than {MAX_FILE_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = good.iter().filter(|&&b| b == b'\n').count() + 1;
        format!("line {line}: not UTF-8 text")
    })
}

/// Puts `text` in the place of the file `name` of a folder: who reads it then, or after a crash, has the old text or the new.
///
/// # Errors
/// As of [`std::fs::write`] and [`std::fs::rename`].
pub(crate) fn replace_file(folder: &Path, name: &str, text: &str) -> std::io::Result<()> {
    let new = folder.join(format!(".{name}.new"));
    std::fs::write(&new, text)?;
    std::fs::rename(&new, folder.join(name))
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// File.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is wrong; one line for each problem.
    #[error("{}", render(path, problems))]
    Invalid {
        /// File.
        path: PathBuf,
        /// What is wrong, in the order of the file.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line from 1.
    pub line: usize,
    /// Column from 1, in characters.
    pub column: usize,
    /// What is wrong and what was expected.
    pub message: String,
}

impl Problem {
    fn at(text: &str, offset: usize, message: String) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message,
        }
    }

    fn of_toml(text: &str, e: &toml::de::Error) -> Self {
        let message = e.message().split('\n').collect::<Vec<_>>().join("; ");
        Self::at(text, e.span().map_or(0, |s| s.start), message)
    }
}

fn render(path: &Path, problems: &[Problem]) -> String {
    let lines = problems.iter().map(|p| format!("{}:{}:{}: {}", path.display(), p.line, p.column, p.message));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
