//! The command line as it was typed: options, without what they mean together.

use clap::{ArgAction, ArgGroup, Parser, Subcommand};
use std::net::IpAddr;
use std::path::PathBuf;

/// Display and control IP filters, IKE tunnels and dynamic tunnels of a stack.
///
/// Keyword values can be cut to three characters. Exit status: 0 done, 1 nothing done or partly failed, 2 wrong use,
/// 3 not permitted, 4 stack or daemon not available.
#[derive(Debug, Parser)]
#[command(name = "ipsec", version, disable_help_flag = true, max_term_width = 100)]
#[command(group = ArgGroup::new("primary").required(true))]
#[command(subcommand_negates_reqs = true, disable_help_subcommand = true, infer_subcommands = true)]
pub(crate) struct Arguments {
    /// IP filters: display (default), default, reload
    #[arg(short = 'f', value_name = "FUNCTION", num_args = 0..=1, default_missing_value = "display", group = "primary")]
    pub(crate) filter: Option<String>,
    /// Defensive filters: display (default), delete, add and update with operands: srcip, destip, prot, srcport, destport,
    /// type, code, dir, routing, fragmentsonly, mode block|simulate, log yes|no, loglimit, lifetime, each with its value
    #[arg(short = 'F', value_name = "FUNCTION", num_args = 0.., group = "primary")]
    pub(crate) defensive: Option<Vec<String>>,
    /// IKE tunnels: display (default), deactivate, refresh
    #[arg(short = 'k', value_name = "FUNCTION", num_args = 0..=1, default_missing_value = "display", group = "primary")]
    pub(crate) ike: Option<String>,
    /// Dynamic tunnels: display (default), activate, deactivate, refresh
    #[arg(short = 'y', value_name = "FUNCTION", num_args = 0..=1, default_missing_value = "display", group = "primary")]
    pub(crate) dynamic: Option<String>,
    /// Manual tunnels: display (default), activate, deactivate
    #[arg(short = 'm', value_name = "FUNCTION", num_args = 0..=1, default_missing_value = "display", group = "primary")]
    pub(crate) manual: Option<String>,
    /// Translated remote ports of NAT traversal
    #[arg(short = 'o', value_name = "FUNCTION", num_args = 0..=1, default_missing_value = "display", group = "primary")]
    pub(crate) ports: Option<String>,
    /// Traffic test: which filters in force match SOURCE DESTINATION PROTOCOL [PORT PORT | TYPE CODE] [in|out] [CLASS]
    #[arg(short = 't', value_name = "OPERAND", num_args = 3..=8, group = "primary")]
    pub(crate) test: Vec<String>,
    /// Network security services of each stack
    #[arg(short = 'w', value_name = "FUNCTION", num_args = 0..=1, default_missing_value = "display", group = "primary")]
    pub(crate) services: Option<String>,
    /// Clients of the network security server
    #[arg(short = 'x', value_name = "FUNCTION", num_args = 0..=1, default_missing_value = "display", group = "primary")]
    pub(crate) clients: Option<String>,
    /// Interfaces
    #[arg(short = 'i', value_name = "FUNCTION", num_args = 0..=1, default_missing_value = "display", group = "primary")]
    pub(crate) interface: Option<String>,
    /// Packets that the stack dropped, by reason
    #[arg(long, group = "primary")]
    pub(crate) drops: bool,
    /// Connections that the stack gave to each target
    #[arg(long, group = "primary")]
    pub(crate) vipa: bool,

    /// What the caller may do, per stack
    #[arg(long, group = "primary")]
    pub(crate) whoami: bool,

    /// Check a policy file: every fault with its place, and nothing is asked of a daemon
    #[arg(long, value_name = "FILE", group = "primary")]
    pub(crate) check: Option<PathBuf>,

    /// Stack; without it the only, or first, active one
    #[arg(short = 'p', value_name = "STACK", global = true)]
    pub(crate) stack: Option<String>,
    /// Report format: short, detail (default), wide
    #[arg(short = 'r', value_name = "FORMAT", global = true)]
    pub(crate) format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format", global = true)]
    pub(crate) json: bool,

    /// Trace: requests and answers on standard error
    #[arg(short = 'd', global = true)]
    pub(crate) trace: bool,
    /// Quiet: only the exit status
    #[arg(short = 'q', global = true)]
    pub(crate) quiet: bool,
    /// Colours in reports: auto (on a terminal), always, never
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto")]
    pub(crate) color: Color,

    /// Names: filter rules (-f), KeyExchangeRules (-k), IpDynVpnActions (-y), IpManVpnActions (-m), addresses (-o)
    #[arg(short = 'n', value_name = "NAME", num_args = 1..)]
    pub(crate) names: Vec<String>,
    /// Names of defensive filters
    #[arg(short = 'N', value_name = "NAME", num_args = 1..)]
    pub(crate) defensive_names: Vec<String>,
    /// With -F: of all stacks
    #[arg(short = 'G')]
    pub(crate) global: bool,
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
    /// With -y: shadow tunnels of a distribution target
    #[arg(short = 's')]
    pub(crate) shadow: bool,
    /// With -f: NAT resolution filters too
    #[arg(short = 'h')]
    pub(crate) resolutions: bool,
    /// With -k: below each IKE tunnel its dynamic tunnels
    #[arg(short = 'e')]
    pub(crate) cascade: bool,

    /// Socket of the daemon
    #[arg(long, value_name = "PATH", global = true, env = "IPSECMGMT_SOCKET", hide_env_values = true, default_value = nmi_proto::SOCKET_PATH)]
    pub(crate) socket: PathBuf,
    /// Print help
    #[arg(short = '?', long, action = ArgAction::Help, global = true)]
    pub(crate) help: Option<bool>,

    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// When reports have colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, and where `NO_COLOR` is not set.
    Auto,
    Always,
    Never,
}

/// What the product has no option for.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// DVIPAs: owners and backups, targets, takeovers
    #[command(infer_subcommands = true, disable_help_subcommand = true)]
    Vipa {
        #[command(subcommand)]
        function: Option<Vipa>,
    },
    /// Print what happens as it happens: one JSON object a line, until interrupted
    Watch {
        /// Kinds of events, as ike_up, child_down, owner_changed; all without
        #[arg(value_name = "KIND")]
        kinds: Vec<String>,
        /// End after so many events
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Say what a policy file does with a packet: the rules in the order searched, and why each does not match
    Explain {
        /// Policy of the stack
        file: PathBuf,
        /// The packet, as with -t: SOURCE DESTINATION PROTOCOL [PORT PORT | TYPE CODE] [in|out] [CLASS]
        #[arg(value_name = "OPERAND", num_args = 3..=8, required = true)]
        packet: Vec<String>,
        /// Policy that is common to all stacks
        #[arg(long, value_name = "FILE")]
        common: Option<PathBuf>,
        /// It is forwarded, neither from nor to this host
        #[arg(long)]
        routed: bool,
        /// It is a fragment other than the first
        #[arg(long)]
        fragment: bool,
        /// It opens a TCP connection
        #[arg(long)]
        opens: bool,
        /// At this time, for time conditions: seconds since 1970 UTC
        #[arg(long, value_name = "SECONDS")]
        at: Option<i64>,
    },
    /// A live view: tunnels and their rates, drops, DVIPAs, targets
    Top {
        /// Seconds between two looks, 0.2 to 3600
        #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
        interval: f32,
        /// Print one screen of 80 by 24 and end; needs no terminal
        #[arg(long)]
        once: bool,
    },
    /// Print the completions of a shell
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff)
    Man,
}

/// Functions of `ipsec vipa`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Vipa {
    /// DVIPAs of the stack: owner, state, backups, protection by the coupling facility (default)
    Display {
        /// DVIPAs; all without
        #[arg(value_name = "ADDR")]
        addresses: Vec<IpAddr>,
    },
    /// Targets of these DVIPAs: listeners, weights, connections, XCF path
    Targets {
        /// DVIPAs; all without
        #[arg(value_name = "ADDR")]
        addresses: Vec<IpAddr>,
        /// Targets; all without
        #[arg(short = 'n', value_name = "TARGET", num_args = 1..)]
        names: Vec<String>,
    },
    /// Takeovers and how long each step took, the latest first
    History {
        /// DVIPAs; all without
        #[arg(value_name = "ADDR")]
        addresses: Vec<IpAddr>,
    },
    /// Move DVIPAs to another stack
    Move {
        /// DVIPAs
        #[arg(value_name = "ADDR", required = true)]
        addresses: Vec<IpAddr>,
        /// The new owner
        #[arg(long, value_name = "STACK")]
        to: String,
    },
    /// Let the owner give DVIPAs up, until they are reactivated
    Deactivate {
        /// DVIPAs
        #[arg(value_name = "ADDR", required = true)]
        addresses: Vec<IpAddr>,
    },
    /// Let the stack own DVIPAs again
    Reactivate {
        /// DVIPAs
        #[arg(value_name = "ADDR", required = true)]
        addresses: Vec<IpAddr>,
    },
    /// Give targets no new connections
    Quiesce {
        /// Targets
        #[arg(value_name = "TARGET", required = true)]
        targets: Vec<String>,
        /// Only for this DVIPA
        #[arg(long, value_name = "ADDR")]
        dvipa: Option<IpAddr>,
    },
    /// Let targets take part again
    Resume {
        /// Targets
        #[arg(value_name = "TARGET", required = true)]
        targets: Vec<String>,
        /// Only for this DVIPA
        #[arg(long, value_name = "ADDR")]
        dvipa: Option<IpAddr>,
    },
}

fn seconds(text: &str) -> Result<f32, String> {
    let seconds: f32 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    if (0.2..=3600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("expected 0.2 to 3600 seconds".to_owned())
    }
}
