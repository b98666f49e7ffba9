//! The command line as it was typed: options, without what they mean together.

use clap::{ArgAction, ArgGroup, Parser};
use std::path::PathBuf;

/// Display and control IP filters, IKE tunnels and dynamic tunnels of a stack.
///
/// Keyword values can be cut to three characters. Exit status: 0 done, 1 nothing done or partly failed, 2 wrong use,
/// 3 not permitted, 4 stack or daemon not available.
#[derive(Debug, Parser)]
#[command(name = "ipsec", version, disable_help_flag = true, max_term_width = 100)]
#[command(group = ArgGroup::new("primary").required(true))]
pub(crate) struct Arguments {
    /// IP filters: display (default), default, reload
    #[arg(short = 'f', value_name = "FUNCTION", num_args = 0..=1, default_missing_value = "display", group = "primary")]
    pub(crate) filter: Option<String>,
    /// IKE tunnels: display (default), deactivate, refresh
    #[arg(short = 'k', value_name = "FUNCTION", num_args = 0..=1, default_missing_value = "display", group = "primary")]
    pub(crate) ike: Option<String>,
    /// Dynamic tunnels: display (default), activate, deactivate, refresh
    #[arg(short = 'y', value_name = "FUNCTION", num_args = 0..=1, default_missing_value = "display", group = "primary")]
    pub(crate) dynamic: Option<String>,
    /// Interfaces
    #[arg(short = 'i', value_name = "FUNCTION", num_args = 0..=1, default_missing_value = "display", group = "primary")]
    pub(crate) interface: Option<String>,
    /// Packets that the stack dropped, by reason
    #[arg(long, group = "primary")]
    pub(crate) drops: bool,
    /// Connections that the stack gave to each target
    #[arg(long, group = "primary")]
    pub(crate) vipa: bool,

    /// Stack; without it the only, or first, active one
    #[arg(short = 'p', value_name = "STACK")]
    pub(crate) stack: Option<String>,
    /// Report format: short, detail (default), wide
    #[arg(short = 'r', value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,

    /// Names: filter rules (-f), KeyExchangeRules (-k), IpDynVpnActions (-y)
    #[arg(short = 'n', value_name = "NAME", num_args = 1..)]
    pub(crate) names: Vec<String>,
    /// Filter groups
    #[arg(short = 'g', value_name = "GROUP", num_args = 1..)]
    pub(crate) groups: Vec<String>,
    /// Tunnel ids, or all
    #[arg(short = 'a', value_name = "ID", num_args = 1..)]
    pub(crate) ids: Vec<String>,
    /// LocalDynVpnRules
    #[arg(short = 'l', value_name = "RULE", num_args = 1..)]
    pub(crate) rules: Vec<String>,
    /// Scope: current (default), profile, policy for filters; current (default), all for tunnels
    #[arg(short = 'c', value_name = "SCOPE")]
    pub(crate) scope: Option<String>,
    /// With -y: what IKE knows, tunnels in negotiation too
    #[arg(short = 'b')]
    pub(crate) ike_view: bool,
    /// With -k: below each IKE tunnel its dynamic tunnels
    #[arg(short = 'e')]
    pub(crate) cascade: bool,

    /// Socket of the daemon
    #[arg(long, value_name = "PATH", env = "IPSECMGMT_SOCKET", hide_env_values = true, default_value = nmi_proto::SOCKET_PATH)]
    pub(crate) socket: PathBuf,
    /// Print help
    #[arg(short = '?', long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
}
