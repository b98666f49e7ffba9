//! The shape of `iked.toml`. Nothing here is checked beyond types; unknown keys are errors everywhere.

use super::{Facility, Giveback, NmiText, Takeover, UdpEncapsulation};
use serde::Deserialize;
use std::net::IpAddr;
use std::path::PathBuf;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) system: Spanned<String>,
    #[serde(default = "default_state_dir")]
    pub(super) state_dir: PathBuf,
    pub(super) policy: Option<PathBuf>,
    pub(super) servauth: Option<PathBuf>,
    #[serde(default)]
    pub(super) nmi: Nmi,
    #[serde(default)]
    pub(super) metrics: Metrics,
    pub(super) sysplex: Option<Spanned<Sysplex>>,
    #[serde(default)]
    pub(super) stack: Vec<Spanned<Stack>>,
    #[serde(default)]
    pub(super) dvipa: Vec<Spanned<Dvipa>>,
    #[serde(default)]
    pub(super) ike: Ike,
    #[serde(default)]
    pub(super) log: Log,
}

fn default_state_dir() -> PathBuf {
    "/var/lib/iked".into()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Nmi {
    pub(super) socket: PathBuf,
    pub(super) max_clients: Option<Spanned<u32>>,
    pub(super) text: NmiText,
}

impl Default for Nmi {
    fn default() -> Self {
        Self { socket: "/var/sock/ipsecmgmt".into(), max_clients: None, text: NmiText::Ascii }
    }
}

/// Off unless it says where.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    pub(super) listen: Option<crate::metrics::Address>,
}

/// IkeRetries and IkeInitWait of the product's IkeConfig statement (docs/policy.md).
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ike {
    /// A file with an IkeConfig statement; what stands here goes before it.
    pub(super) file: Option<Spanned<PathBuf>>,
    pub(super) retries: Option<Spanned<u32>>,
    pub(super) init_wait_secs: Option<Spanned<u32>>,
    /// The folder with certificates and keys.
    pub(super) keyring: Option<PathBuf>,
    pub(super) udp_encapsulation: UdpEncapsulation,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sysplex {
    pub(super) name: Spanned<String>,
    pub(super) key_file: Spanned<PathBuf>,
    pub(super) coupling_facility: Spanned<Facility>,
    pub(super) etcd: Option<Spanned<Etcd>>,
    pub(super) lease_ms: Option<Spanned<u32>>,
    #[serde(default)]
    pub(super) gre_in_udp: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Etcd {
    pub(super) endpoints: Spanned<Vec<Spanned<String>>>,
    pub(super) ca: Option<Spanned<PathBuf>>,
    pub(super) cert: Option<Spanned<PathBuf>>,
    pub(super) key: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stack {
    pub(super) name: Spanned<String>,
    pub(super) netns: Option<Spanned<String>>,
    pub(super) network: Spanned<Vec<Spanned<String>>>,
    pub(super) xcf: Option<Spanned<Xcf>>,
    #[serde(default)]
    pub(super) home: Vec<Spanned<IpAddr>>,
    pub(super) policy: Option<PathBuf>,
    pub(super) profile: Option<Spanned<PathBuf>>,
    pub(super) stackd: Option<PathBuf>,
    pub(super) mark: Option<u32>,
    pub(super) mark_mask: Option<Spanned<u32>>,
    pub(super) max_connections: Option<Spanned<u32>>,
    #[serde(default)]
    pub(super) defense: Defense,
}

/// DmStackConfig of the product.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Defense {
    pub(super) mode: stack::control::DefenseMode,
    pub(super) max_lifetime: Option<Spanned<u32>>,
    pub(super) log_limit: Option<u16>,
    pub(super) exclude: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Xcf {
    pub(super) interface: Spanned<String>,
    /// Absent: that of the profile.
    pub(super) address: Option<Spanned<IpAddr>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dvipa {
    pub(super) address: Spanned<IpAddr>,
    pub(super) owner: Spanned<String>,
    #[serde(default)]
    pub(super) backups: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) takeover: Takeover,
    #[serde(default)]
    pub(super) giveback: Giveback,
    #[serde(default)]
    pub(super) distribute: Vec<Spanned<Distribute>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Distribute {
    pub(super) ports: Spanned<Vec<Spanned<Ports>>>,
    #[serde(default)]
    pub(super) protocol: Protocol,
    #[serde(default)]
    pub(super) method: Method,
    /// Hot standby only, as is the next one.
    pub(super) autoswitchback: Option<Spanned<bool>>,
    pub(super) healthswitch: Option<Spanned<bool>>,
    pub(super) affinity_secs: Option<Spanned<u32>>,
    pub(super) targets: Spanned<Vec<Spanned<Target>>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Method {
    #[default]
    RoundRobin,
    WeightedActive,
    HotStandby,
    Wlm,
    Maglev,
}

/// `"TGT1"` or `{ stack = "TGT1", weight = 20 }`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected the name of a stack (\"TGT1\") or { stack = \"TGT1\", weight = 20 }")]
pub(super) enum Target {
    Name(String),
    Weighted(Weighted),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Weighted {
    pub(super) stack: String,
    pub(super) weight: u32,
}

/// `443` or `"8000-8099"`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a port (443) or a range of ports (\"8000-8099\")")]
pub(super) enum Ports {
    One(u16),
    Range(String),
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    /// Absent: `info`, or what the level of an IkeConfig asks for.
    pub(super) filter: Option<Spanned<String>>,
    pub(super) format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: None, format: LogFormat::Text }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    Text,
    Json,
}
