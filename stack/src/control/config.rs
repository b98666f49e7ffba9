//! What a stack is to be: its links, its addresses, and what it distributes.

use super::{KeyBytes, PortRange};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What a stack is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackConfig {
    /// Name, at most 8 characters.
    pub name: String,
    /// Interfaces to peers, and to hosts that the stack routes for.
    pub network: Vec<String>,
    /// The trusted link to the other stacks of the sysplex.
    pub xcf: Option<Xcf>,
    /// Mark of the packets that the stack's own sockets send, under [`StackConfig::mark_mask`].
    pub mark: u32,
    /// Mask of the mark.
    pub mark_mask: u32,
    /// Addresses that the stack protects.
    pub home: Vec<Home>,
    /// The other stacks of the sysplex: the only ones whose GRE is accepted.
    pub members: Vec<Member>,
    /// Messages to the other stacks; `None`: a stack by itself.
    pub sysplex: Option<SysplexLink>,
    /// Largest number of connections in the table (threats T44).
    pub max_connections: u32,
}

/// How a stack talks to the other stacks of its sysplex over the XCF link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysplexLink {
    /// Name of the sysplex.
    pub name: String,
    /// 32 bytes, derived from the sysplex key for XCF messages alone: what this stack seals with.
    pub key: KeyBytes,
    /// Others that messages may be sealed with, while the sysplex key is changed: not all systems change it at once.
    pub other_keys: Vec<KeyBytes>,
    /// Milliseconds between two heartbeats.
    pub heartbeat_ms: u32,
    /// Heartbeats that are missing before a member counts as silent.
    pub missed_heartbeats: u32,
    /// Carry packets in GRE in UDP (RFC 8086) instead of plain GRE.
    pub gre_in_udp: bool,
    /// Ownership of DVIPAs ends by itself unless [`ToStack::Lease`] prolongs it.
    pub leased: bool,
}

/// The XCF link of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xcf {
    /// Interface name.
    pub interface: String,
    /// Own address on it (set by the operator, not by the stack).
    pub address: IpAddr,
}

/// Another stack of the sysplex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Stack name.
    pub name: String,
    /// Its XCF address.
    pub xcf: IpAddr,
    /// Id of its start ([`Hello::start_id`]); `None` while it is not known: its messages are not accepted.
    pub start: Option<u64>,
}

/// One home address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// The address.
    pub address: IpAddr,
    /// What this stack is for it.
    pub role: Role,
    /// Epoch of the owner; 0 for a static address.
    pub epoch: u64,
}

/// What a stack is for a home address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A static address of this stack alone.
    Static,
    /// Owner of a DVIPA: answers ARP and ND for it, terminates IPsec, distributes.
    Owner {
        /// What is distributed; connections to other ports stay here.
        distribution: Vec<Distribution>,
    },
    /// A target: the address is on `lo`, ARP and ND are not answered; outbound goes by [`Role::Target::distributor`].
    Target {
        /// XCF address of the current owner; `None`: nobody owns it now, what belongs to it waits.
        distributor: Option<IpAddr>,
    },
    /// Gave the DVIPA up while connections end here: they go on by way of the new owner, no new ones are made.
    Moving {
        /// XCF address of the current owner; `None` as with [`Role::Target`].
        distributor: Option<IpAddr>,
    },
    /// A backup that is no target: not on `lo`, sockets may be bound ahead.
    Backup,
}

/// Connections of one DVIPA that are spread over targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// IP protocol number.
    pub protocol: u8,
    /// Destination ports.
    pub ports: Vec<PortRange>,
    /// How a target is chosen.
    pub method: Method,
    /// Connections of a client go to the same target until this many seconds after its last one ended; 0: off.
    pub affinity_secs: u32,
    /// The targets.
    pub targets: Vec<Target>,
}

/// How a target is chosen for a new connection (spec/distributor.md section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// The next one in turn.
    RoundRobin,
    /// Active connections in proportion to [`Target::weight`].
    WeightedActive,
    /// All to the first target that is ready, in the order of the list.
    HotStandby {
        /// Back to an earlier one as soon as it is ready again.
        autoswitchback: bool,
        /// Switch when the target says that it has no capacity, not only when it is not there.
        healthswitch: bool,
    },
    /// In proportion to the capacity that targets report, times their weight.
    Wlm,
    /// By a consistent hash of the flow, so that every distributor makes the same choice.
    Maglev,
}

impl Method {
    /// Whether [`Target::weight`] counts.
    #[must_use]
    pub const fn has_weights(self) -> bool {
        matches!(self, Self::WeightedActive | Self::Wlm | Self::Maglev)
    }

    /// The weight in force of a target of this weight and reported capacity (0 to 100); `None`: the method has none, or needs
    /// a capacity that is not known.
    #[must_use]
    pub fn weight_in_force(self, weight: u8, capacity: Option<u8>) -> Option<u8> {
        match self {
            Self::RoundRobin | Self::HotStandby { .. } => None,
            Self::WeightedActive | Self::Maglev => Some(weight),
            Self::Wlm => {
                let share = u16::from(weight) * u16::from(capacity?) / 100;
                Some(u8::try_from(share).unwrap_or(weight))
            }
        }
    }
}

/// A target of a distribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Stack name.
    pub name: String,
    /// XCF address; `None`: this stack itself.
    pub xcf: Option<IpAddr>,
    /// Weight, 0 to 255; 0 never gets a connection.
    pub weight: u8,
    /// Gets no new connections; those that it has go on.
    pub quiesced: bool,
}
