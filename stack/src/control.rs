//! What `iked` and `stackd` say to each other, and how it is framed.
//!
//! `stackd` listens on a Unix stream socket in a folder of mode 0700; `iked` connects, each end checks the
//! other's credentials (`SO_PEERCRED`), the stack says [`FromStack::Hello`] first. `iked` sends the *desired
//! state* ([`ToStack::Configure`], [`ToStack::SetFilters`]) and security associations; the stack sends IKE
//! datagrams, requests for negotiation and answers. A frame is a `u32` length (big-endian, of what follows, at
//! most [`MAX_FRAME_BYTES`]) and a `postcard` encoding of one message. The stack goes on forwarding with what it
//! has when the connection ends.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Version of this protocol; [`Hello`] carries it, and `iked` refuses a stack of another one.
pub const PROTOCOL_VERSION: u16 = 2;
/// Upper bound of one frame, so that a length never decides how much memory is taken.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// From `iked` to its stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToStack {
    /// The whole desired configuration; replaces the one before. Answered by [`FromStack::Configured`].
    Configure(Box<StackConfig>),
    /// The whole filter table in search order; replaces the one before. Security associations stay.
    SetFilters(Box<FilterSet>),
    /// Installs a pair of SAs and its dynamic filter directly before the anchor it belongs to.
    InstallSa(Box<SaPair>),
    /// Makes the outbound half of the pair the one that is used for its selectors (see [`SaPair::outbound_active`]).
    ActivateOutbound {
        /// Inbound SPI of the pair.
        spi_in: u32,
    },
    /// Removes a pair and, when no other pair of its tunnel is left, its dynamic filter.
    RemoveSa {
        /// Inbound SPI of the pair.
        spi_in: u32,
    },
    /// Removes every SA and dynamic filter: what was protected is now denied.
    RemoveAllSas,
    /// The negotiation that [`FromStack::Acquire`] asked for failed: held packets are dropped and counted.
    AcquireFailed {
        /// [`Acquire::id`].
        id: u64,
    },
    /// An IKE message to send; the stack adds the non-ESP marker on port 4500 (RFC 3948 section 2.2).
    Ike(IkeDatagram),
    /// A NAT keepalive to send (RFC 3948 section 2.3).
    NatKeepalive {
        /// Own address and port.
        local: SocketAddr,
        /// The peer's address and port.
        remote: SocketAddr,
    },
    /// A question; answered by [`FromStack::Answer`] with the same id.
    Ask {
        /// Chosen by the asker.
        id: u64,
        /// What is asked.
        question: Question,
    },
    /// This stack may act as owner of its DVIPAs until this instant; only with [`SysplexLink::leased`].
    Lease {
        /// Nanoseconds of `CLOCK_BOOTTIME`, which all processes of a host share.
        until_boot_ns: u64,
    },
    /// SAs of a DVIPA ([`SaPair::ceiling_of`]) send no sequence number above `highest`.
    Ceiling {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Epoch of the ownership under which the coupling facility holds this ceiling.
        epoch: u64,
        /// Highest sequence number that may be sent.
        highest: u64,
    },
    /// Bytes for the `iked` of another stack, in order and once while both stacks live.
    Relay {
        /// Stack name.
        to: String,
        /// At most [`MAX_RELAY_BYTES`].
        bytes: Vec<u8>,
    },
    /// Remove everything that was added to the system, and end.
    Shutdown,
}

/// From a stack to `iked`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromStack {
    /// First message on each connection.
    Hello(Hello),
    /// The configuration is in force.
    Configured {
        /// What would break it, one sentence each for the operator (strict `rp_filter`, dropping firewall).
        warnings: Vec<String>,
    },
    /// A command could not be carried out; the state before it is kept.
    Refused {
        /// What was asked and why it failed, one sentence for the operator.
        reason: String,
    },
    /// An IKE message that arrived (marker removed).
    Ike(IkeDatagram),
    /// An outbound packet needs an SA that is not there and policy allows to negotiate on demand.
    Acquire(Acquire),
    /// Something happened to an SA that IKE should know.
    Sa {
        /// Inbound SPI of the pair.
        spi_in: u32,
        /// What.
        notice: SaNotice,
    },
    /// Answer to [`ToStack::Ask`].
    Answer {
        /// The id of the question.
        id: u64,
        /// The answer.
        answer: Answer,
    },
    /// Another stack of the sysplex was heard for the first time, says something new of itself, or fell silent.
    Heard(Heard),
    /// Another stack says that it owns a DVIPA, at an epoch at least as high as the one known here.
    OwnerHeard {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Stack name.
        owner: String,
        /// Its epoch.
        epoch: u64,
        /// Its ceiling, with `takeover = "continue"`.
        ceiling: Option<u64>,
    },
    /// As new owner of a DVIPA this stack has heard the connections of every live target, or has waited long enough.
    Rebuilt {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Epoch.
        epoch: u64,
        /// Connections in the table.
        connections: u64,
        /// Targets that did not report in time.
        missing: Vec<String>,
    },
    /// The last connection to a DVIPA that was given up ([`Role::Moving`]) has ended.
    Idle {
        /// The DVIPA.
        dvipa: IpAddr,
    },
    /// SAs of a DVIPA have used half of what their ceiling left: it should be raised.
    CeilingWanted {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Epoch.
        epoch: u64,
        /// Highest sequence number in use.
        highest_used: u64,
    },
    /// Bytes from the `iked` of another stack.
    Relayed {
        /// Stack name.
        from: String,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A line for the log, already rate-limited by the stack (threats R3).
    Log {
        /// True: warning; false: information.
        warning: bool,
        /// The line.
        text: String,
    },
}

/// Upper bound of [`ToStack::Relay`]'s bytes.
pub const MAX_RELAY_BYTES: usize = 1 << 20;

/// What is known of another stack of the sysplex from its heartbeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Stack name.
    pub member: String,
    /// Id of its start.
    pub start: u64,
    /// False: it has been silent for [`SysplexLink::missed_heartbeats`] heartbeats.
    pub alive: bool,
    /// Ports of DVIPAs on which servers listen.
    pub ready: Vec<ReadyPort>,
    /// Free capacity, 0 to 100; weights of the `wlm` method.
    pub capacity: u8,
}

/// Servers on a port of a DVIPA at one stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyPort {
    /// The DVIPA.
    pub dvipa: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Port.
    pub port: u16,
    /// Listeners.
    pub count: u32,
}

/// Who a stack is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the stack.
    pub version: u16,
    /// Stack name as given on its command line.
    pub name: String,
    /// Random number of this start of the process.
    pub start_id: u64,
    /// True if it holds a configuration from an earlier connection.
    pub configured: bool,
    /// Epoch of the filter table in force, 0 if none.
    pub filter_epoch: u64,
    /// Inbound SPIs of the SA pairs that it holds.
    pub sas: Vec<u32>,
}

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
    /// 32 bytes, derived from the sysplex key for XCF messages alone.
    pub key: KeyBytes,
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

/// Inclusive range of ports; `0..=65535` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// Low end.
    pub low: u16,
    /// High end, at least `low`.
    pub high: u16,
}

impl PortRange {
    /// Every port.
    pub const ANY: Self = Self { low: 0, high: u16::MAX };
    /// Whether `port` lies in it.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.low <= port && port <= self.high
    }
}

/// Inclusive range of addresses of one family; the whole family is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRange {
    /// Low end.
    pub low: IpAddr,
    /// High end: same family, at least `low`.
    pub high: IpAddr,
}

impl AddressRange {
    /// Every IPv4 address.
    pub const ANY_V4: Self =
        Self { low: IpAddr::V4(Ipv4Addr::UNSPECIFIED), high: IpAddr::V4(Ipv4Addr::BROADCAST) };
    /// Every IPv6 address.
    pub const ANY_V6: Self =
        Self { low: IpAddr::V6(Ipv6Addr::UNSPECIFIED), high: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)) };
    /// One address.
    #[must_use]
    pub const fn single(a: IpAddr) -> Self {
        Self { low: a, high: a }
    }
    /// Whether `a` lies in it. Never true across families.
    #[must_use]
    pub fn contains(&self, a: IpAddr) -> bool {
        a.is_ipv4() == self.low.is_ipv4() && self.low <= a && a <= self.high
    }
}

/// The filter table of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterSet {
    /// Grows with each table that `iked` sends.
    pub epoch: u64,
    /// True: from policy; false: the stack's defaults.
    pub policy: bool,
    /// Master switch of filter logging.
    pub logging: bool,
    /// Also filter ESP and AH before decapsulation.
    pub predecap: bool,
    /// Log packets that no rule matched.
    pub log_implicit: bool,
    /// Tell the sender of a packet that no rule matched (ICMP administratively prohibited).
    pub implicit_icmp: bool,
    /// In search order; the first match decides, no match is a deny.
    pub rules: Vec<FilterRule>,
}

/// One filter: one direction of one expansion of a policy rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterRule {
    /// Policy rule (IpFilterRule).
    pub name: String,
    /// Number of this filter within its rule, from 1.
    pub extension: u32,
    /// IpFilterGroup, if any.
    pub group: Option<String>,
    /// IpLocalStartAction, if any.
    pub local_start: Option<String>,
    /// IpDynVpnAction or IpManVpnAction, if any.
    pub vpn_action: Option<String>,
    /// Direction seen from this host.
    pub direction: Direction,
    /// Local or routed traffic.
    pub scope: Scope,
    /// Interface security class, 0 = any.
    pub security_class: u8,
    /// Source addresses of the packet.
    pub source: AddressRange,
    /// Destination addresses of the packet; same family as `source`.
    pub destination: AddressRange,
    /// IP protocol, `None` = any.
    pub protocol: Option<u8>,
    /// Source ports (TCP, UDP, SCTP).
    pub source_ports: PortRange,
    /// Destination ports.
    pub destination_ports: PortRange,
    /// ICMP, ICMPv6, OSPF or MH type: low and high, `None` = any.
    pub icmp_type: Option<(u8, u8)>,
    /// ICMP code: low and high, `None` = any.
    pub icmp_code: Option<(u8, u8)>,
    /// Which side may open a TCP connection.
    pub tcp_qualifier: TcpQualifier,
    /// Matches fragments only.
    pub fragments_only: bool,
    /// What happens to a packet that matches.
    pub action: FilterAction,
    /// Log permits.
    pub log_permit: bool,
    /// Log denials.
    pub log_deny: bool,
    /// Tell the sender of a denied packet (ICMP administratively prohibited).
    pub discard_icmp: bool,
}

impl FilterRule {
    /// A filter of local traffic that asks for direction and addresses alone, belongs to nothing and logs nothing; what is
    /// different is set in it.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        extension: u32,
        direction: Direction,
        source: AddressRange,
        destination: AddressRange,
        action: FilterAction,
    ) -> Self {
        Self {
            name: name.into(),
            extension,
            group: None,
            local_start: None,
            vpn_action: None,
            direction,
            scope: Scope::Local,
            security_class: 0,
            source,
            destination,
            protocol: None,
            source_ports: PortRange::ANY,
            destination_ports: PortRange::ANY,
            icmp_type: None,
            icmp_code: None,
            tcp_qualifier: TcpQualifier::None,
            fragments_only: false,
            action,
            log_permit: false,
            log_deny: false,
            discard_icmp: false,
        }
    }
}

/// Direction of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// Into this host.
    Inbound,
    /// Out of it.
    Outbound,
}

/// Traffic of this host, or forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// From or to this host.
    Local,
    /// Forwarded by it.
    Routed,
    /// Both.
    Either,
}

/// Which side may open a TCP connection under a rule (spec/policy.md section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TcpQualifier {
    /// Either side.
    None,
    /// Only the remote side: an outbound SYN without ACK does not match.
    InboundConnect,
    /// Only this side: an inbound SYN without ACK does not match.
    OutboundConnect,
}

/// What a filter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilterAction {
    /// In clear.
    Permit,
    /// Dropped.
    Deny,
    /// Dynamic anchor: protected by an SA whose dynamic filter matches, otherwise negotiated or dropped.
    Ipsec {
        /// An outbound packet without an SA may start a negotiation.
        on_demand: bool,
    },
}

/// A pair of SAs, with all that ESP and the filters need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaPair {
    /// Number of the dynamic tunnel (`Y7` is 7).
    pub tunnel: u32,
    /// SA number within the tunnel, from 1.
    pub generation: u32,
    /// Number of the IKE tunnel (`K3` is 3).
    pub ike_tunnel: u32,
    /// SPI of packets to us.
    pub spi_in: u32,
    /// SPI of packets to the peer.
    pub spi_out: u32,
    /// Own security endpoint.
    pub local: IpAddr,
    /// The peer's security endpoint.
    pub remote: IpAddr,
    /// ESP in UDP (RFC 3948): own and the peer's port.
    pub udp: Option<(u16, u16)>,
    /// Tunnel or transport.
    pub mode: Mode,
    /// Algorithms.
    pub suite: EspSuite,
    /// Keying material inbound, in the order of RFC 7296 section 2.17 (encryption with salt, then integrity).
    pub key_in: KeyBytes,
    /// Keying material outbound.
    pub key_out: KeyBytes,
    /// Extended sequence numbers (RFC 4303 section 2.2.1).
    pub esn: bool,
    /// Replay window in packets.
    pub replay_window: u32,
    /// Traffic selectors of this side.
    pub local_selectors: Vec<Selector>,
    /// Traffic selectors of the peer's side.
    pub remote_selectors: Vec<Selector>,
    /// Name of the IpFilterRule whose anchors (both directions) this pair serves.
    pub rule: String,
    /// False for the responder of a rekey: outbound stays on the old pair until the first packet arrives on this
    /// one, or [`ToStack::ActivateOutbound`] says so (RFC 7296 section 2.8).
    pub outbound_active: bool,
    /// DF bit of the outer header.
    pub df: DfMode,
    /// Copy the DSCP to the outer header.
    pub copy_dscp: bool,
    /// Bytes in both directions after which IKE is told to rekey; `None`: no limit.
    pub soft_bytes: Option<u64>,
    /// Bytes after which nothing passes any more.
    pub hard_bytes: Option<u64>,
    /// DVIPA whose [`ToStack::Ceiling`] bounds the outbound sequence numbers; `None`: no ceiling.
    pub ceiling_of: Option<IpAddr>,
    /// The pair was in use at an earlier owner of its DVIPA; `None`: it is fresh.
    pub continued: Option<Continued>,
}

/// Where an SA pair of an earlier owner goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continued {
    /// First sequence number to send: above every one that was ever sent.
    pub next_sequence: u64,
    /// Replay window of the earlier owner; `None`: nobody knows it, and nothing is accepted.
    pub replay: Option<ReplaySnapshot>,
}

/// A replay window (RFC 4303 section 3.4.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaySnapshot {
    /// Highest sequence number accepted.
    pub highest: u64,
    /// Bit `n` of the whole says whether `highest - n` was seen; word 0 holds the newest 64.
    pub seen: Vec<u64>,
}

/// Encapsulation mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Tunnel mode.
    Tunnel,
    /// Transport mode.
    Transport,
}

/// DF bit of the outer header (PassthroughDF).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DfMode {
    /// As in the inner header.
    Copy,
    /// 0.
    Clear,
    /// 1.
    Set,
}

/// ESP algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EspSuite {
    /// AES-GCM with a 16-octet ICV (RFC 4106); key and 4 octets of salt.
    AesGcm16 {
        /// 128 or 256.
        key_bits: u16,
    },
    /// AES-CBC (RFC 3602) with an integrity algorithm.
    AesCbc {
        /// 128, 192 or 256.
        key_bits: u16,
        /// Integrity algorithm.
        integrity: EspIntegrity,
    },
    /// AES in counter mode (RFC 3686) with an integrity algorithm; key and 4 octets of nonce.
    AesCtr {
        /// 128, 192 or 256.
        key_bits: u16,
        /// Integrity algorithm.
        integrity: EspIntegrity,
    },
    /// ChaCha20-Poly1305 (RFC 7634); key and 4 octets of salt.
    ChaCha20Poly1305,
    /// No encryption (RFC 2410), integrity alone.
    Null {
        /// Integrity algorithm.
        integrity: EspIntegrity,
    },
    /// No encryption, AES-GMAC (RFC 4543); key and 4 octets of salt.
    AesGmac {
        /// 128 or 256.
        key_bits: u16,
    },
}

/// Integrity algorithms of ESP and AH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EspIntegrity {
    /// HMAC-SHA2-256-128 (RFC 4868).
    HmacSha256,
    /// HMAC-SHA2-384-192 (RFC 4868).
    HmacSha384,
    /// HMAC-SHA2-512-256 (RFC 4868).
    HmacSha512,
    /// HMAC-SHA1-96 (RFC 2404).
    HmacSha1,
    /// AES-XCBC-MAC-96 (RFC 3566).
    AesXcbc96,
}

/// Keying material; wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
pub struct KeyBytes(pub Vec<u8>);

impl std::fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// A traffic selector (RFC 7296 section 3.13.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// Addresses.
    pub addresses: AddressRange,
    /// IP protocol, `None` = any.
    pub protocol: Option<u8>,
    /// Ports; for ICMP type and code as in RFC 7296 (type in the high octet).
    pub ports: PortRange,
}

/// Why a negotiation is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquire {
    /// For [`ToStack::AcquireFailed`]; one for each rule and pair of addresses at a time.
    pub id: u64,
    /// IpFilterRule whose anchor matched.
    pub rule: String,
    /// Source of the packet.
    pub source: IpAddr,
    /// Destination of the packet.
    pub destination: IpAddr,
    /// Protocol of the packet.
    pub protocol: u8,
    /// Source port, 0 without ports.
    pub source_port: u16,
    /// Destination port, 0 without ports.
    pub destination_port: u16,
}

/// What happened to an SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaNotice {
    /// The first packet arrived on it.
    FirstInbound,
    /// `soft_bytes` or the soft limit of sequence numbers was reached: rekey.
    SoftLimit,
    /// Nothing passes any more: `hard_bytes` or the end of the sequence numbers.
    HardLimit,
}

/// An IKE message and its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IkeDatagram {
    /// Own address and port (500 or 4500).
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// The message from its IKE header on.
    pub bytes: Vec<u8>,
}

/// What can be asked of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// [`Answer::Summary`].
    Summary,
    /// [`Answer::Filters`]: the filters in force with their counters, dynamic ones before their anchors.
    Filters,
    /// [`Answer::Sas`].
    Sas,
    /// [`Answer::Interfaces`].
    Interfaces,
    /// [`Answer::Drops`].
    Drops,
    /// [`Answer::Distribution`].
    Distribution,
}

/// Answers, each one moment's view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Packet totals of the filters.
    Summary(FilterTotals),
    /// Filters.
    Filters(Vec<FilterView>),
    /// SA pairs.
    Sas(Vec<SaView>),
    /// Interfaces and their addresses.
    Interfaces(Vec<InterfaceView>),
    /// Drops by reason, only reasons that occurred.
    Drops(Vec<DropView>),
    /// Connections by target.
    Distribution(Vec<TargetView>),
}

/// Packets that the filters judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterTotals {
    /// Permitted.
    pub permits: u64,
    /// Denied by a deny action or by no match.
    pub denies: u64,
    /// Denied because they came in clear or by another SA than policy wants.
    pub mismatches: u64,
}

/// One filter with its counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterView {
    /// The filter; of a dynamic filter the SA's selectors in the place of the rule's.
    pub rule: FilterRule,
    /// What kind it is.
    pub kind: FilterKind,
    /// Counters.
    pub totals: FilterTotals,
    /// When it was made, seconds since 1970 UTC.
    pub created: u64,
}

/// Kind of a filter in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilterKind {
    /// From policy, permit or deny.
    Generic,
    /// Generated: the common GRE filters of the XCF.
    Common,
    /// From policy, ipsec.
    DynamicAnchor,
    /// Of a dynamic tunnel (its number).
    Dynamic(u32),
}

/// One SA pair with its counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaView {
    /// Inbound SPI, the key.
    pub spi_in: u32,
    /// Tunnel number.
    pub tunnel: u32,
    /// Whether outbound traffic uses it.
    pub outbound_active: bool,
    /// Packets sent.
    pub out_packets: u64,
    /// Bytes of the inner packets sent.
    pub out_bytes: u64,
    /// Packets received.
    pub in_packets: u64,
    /// Bytes of the inner packets received.
    pub in_bytes: u64,
    /// Next sequence number to send.
    pub next_sequence: u64,
    /// Highest sequence number accepted.
    pub highest_received: u64,
    /// Replay window, for a planned move; `None` where inbound is closed.
    pub replay: Option<ReplaySnapshot>,
    /// Milliseconds since the last packet arrived; `None`: never.
    pub idle_in_ms: Option<u64>,
    /// Path MTU known for the peer.
    pub path_mtu: u16,
    /// DF bit of the outer header, in tunnel mode.
    pub df: DfMode,
    /// The DSCP is copied to the outer header, in tunnel mode.
    pub copy_dscp: bool,
}

/// One address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceView {
    /// Interface name.
    pub name: String,
    /// Address.
    pub address: IpAddr,
    /// Security class.
    pub security_class: u8,
    /// Interface is up.
    pub active: bool,
    /// Address is a DVIPA.
    pub dvipa: bool,
}

/// Packets dropped for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropView {
    /// Name of the reason in `snake_case`, the same in docs, metrics and reports.
    pub reason: String,
    /// Packets.
    pub packets: u64,
}

/// Connections of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetView {
    /// The DVIPA.
    pub dvipa: IpAddr,
    /// Port (low end of the range that was hit).
    pub port: u16,
    /// Stack name of the target.
    pub target: String,
    /// Connections in the table.
    pub active: u64,
    /// Connections since the start.
    pub total: u64,
    /// Servers that listen there; `None`: nothing was heard of it.
    pub ready: Option<u32>,
    /// Weight in force.
    pub weight: u8,
    /// It gets no new connections.
    pub quiesced: bool,
}
