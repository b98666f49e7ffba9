//! The TCP/IP profile statements that concern IP security and dynamic VIPAs: IPCONFIG, IPSEC with its rules, and
//! VIPADYNAMIC. Another spelling of what `iked.toml` says of a stack, for those who come with a profile.
//!
//! A profile is words; `;` begins a comment, lines have no meaning, and keywords may be shortened to their capitals
//! in the reference (`VIPADEF` for VIPADEFINE). What belongs to other parts of the stack is not read: a profile is
//! never only ours.

mod read;

pub use read::load;

use crate::model::{AddressRange, ByteRange, Connect, Direction, PortRange, Routing};
use std::net::IpAddr;

/// WEIGHT of a target for which none is coded.
pub const DEFAULT_WEIGHT: u8 = 10;
/// Most seconds of TIMEDAFFINITY.
pub const MAX_AFFINITY_SECS: u32 = 9999;

/// What a profile says of one stack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// IPCONFIG IPSECURITY: without it the IPSEC block has no effect.
    pub ipsecurity: bool,
    /// IPCONFIG6 IPSECURITY.
    pub ipsecurity6: bool,
    /// IPCONFIG SYSPLEXROUTING.
    pub sysplex_routing: bool,
    /// IPCONFIG DYNAMICXCF.
    pub xcf4: Option<DynamicXcf>,
    /// IPCONFIG6 DYNAMICXCF.
    pub xcf6: Option<DynamicXcf>,
    /// IPSEC.
    pub ipsec: Option<Ipsec>,
    /// VIPADYNAMIC.
    pub vipas: Vec<Vipa>,
    /// VIPADISTRIBUTE.
    pub distributions: Vec<Distribution>,
}

/// DYNAMICXCF: the stack's address on the link between the stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynamicXcf {
    /// Address.
    pub address: IpAddr,
    /// Bits of its network; 128 for IPv6 where it is not coded.
    pub prefix: u8,
    /// SECCLASS.
    pub security_class: u8,
}

/// The IPSEC block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ipsec {
    /// DVIPSEC: dynamic tunnels of DVIPAs may be distributed and moved.
    pub dvipsec: bool,
    /// DVLOCALFLTR.
    pub dv_local_filter: bool,
    /// LOGENABLE.
    pub log: bool,
    /// LOGIMPLICIT.
    pub log_implicit: bool,
    /// IPSECRULE and IPSEC6RULE, in order.
    pub rules: Vec<DefaultRule>,
}

/// A default filter: always a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultRule {
    /// Source of an outbound packet.
    pub source: AddressRange,
    /// Destination of an outbound packet.
    pub destination: AddressRange,
    /// LOG.
    pub log: bool,
    /// PROTOCOL, `None` = any.
    pub protocol: Option<u8>,
    /// SRCPORT.
    pub source_ports: PortRange,
    /// DESTPORT.
    pub destination_ports: PortRange,
    /// TYPE, `None` = any.
    pub kind: Option<ByteRange>,
    /// CODE, `None` = any.
    pub code: Option<ByteRange>,
    /// ROUTING.
    pub routing: Routing,
    /// FRAGMENTSONLY.
    pub fragments_only: bool,
    /// SECCLASS, 0 = any.
    pub security_class: u8,
    /// DIRECTION.
    pub direction: Direction,
}

impl DefaultRule {
    /// A rule that asks for addresses alone.
    #[must_use]
    pub const fn new(source: AddressRange, destination: AddressRange) -> Self {
        Self {
            source,
            destination,
            log: false,
            protocol: None,
            source_ports: PortRange::ANY,
            destination_ports: PortRange::ANY,
            kind: None,
            code: None,
            routing: Routing::Local,
            fragments_only: false,
            security_class: 0,
            direction: Direction::Bidirectional(Connect::Either),
        }
    }
}

/// VIPADEFINE or VIPABACKUP of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vipa {
    /// The DVIPA.
    pub address: IpAddr,
    /// Bits of its network, where they are coded.
    pub prefix: Option<u8>,
    /// Owner or backup.
    pub role: VipaRole,
    /// When the role may move to the stack that defines the address while another one has it; of a backup: coded
    /// only where it activates an address that is active nowhere.
    pub moveable: Option<Moveable>,
}

/// What a stack is for a DVIPA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VipaRole {
    /// VIPADEFINE.
    Owner,
    /// VIPABACKUP.
    Backup {
        /// 1 to 254; the highest takes over first.
        rank: u8,
    },
}

/// MOVEABLE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moveable {
    /// At once; connections of the old owner go on.
    Immediate,
    /// When the last connection of the old owner has ended.
    WhenIdle,
}

/// VIPADISTRIBUTE DEFINE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// The DVIPA.
    pub address: IpAddr,
    /// DISTMETHOD.
    pub method: Method,
    /// TIMEDAFFINITY in seconds, 0 = none.
    pub affinity_secs: u32,
    /// OPTLOCAL.
    pub optlocal: Option<u8>,
    /// SYSPLEXPORTS.
    pub sysplex_ports: bool,
    /// PORT; none: every port with a server.
    pub ports: Vec<PortRange>,
    /// DESTIP; none: ALL.
    pub targets: Vec<Target>,
}

/// A target of DESTIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its XCF address.
    pub xcf: IpAddr,
    /// WEIGHT, 10 where it is not coded.
    pub weight: u8,
    /// BACKUP with its rank (HOTSTANDBY); `None`: PREFERRED, or the method has no such roles.
    pub backup_rank: Option<u8>,
}

/// DISTMETHOD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// BASEWLM.
    BaseWlm,
    /// SERVERWLM.
    ServerWlm,
    /// ROUNDROBIN.
    RoundRobin,
    /// WEIGHTEDACTIVE.
    WeightedActive,
    /// HOTSTANDBY.
    HotStandby {
        /// AUTOSWITCHBACK.
        autoswitchback: bool,
        /// HEALTHSWITCH.
        healthswitch: bool,
    },
}
