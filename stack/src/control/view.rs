//! What a stack can be asked, and what it answers: each answer is one moment's view.

use super::{DfMode, Direction, FilterRule, ReplaySnapshot};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What can be asked of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// [`Answer::Summary`].
    Summary,
    /// [`Answer::Filters`]: the filters in force with their counters, dynamic ones before their anchors.
    Filters,
    /// [`Answer::Sas`].
    Sas,
    /// [`Answer::Arrivals`]: SAs on which something arrived lately.
    Arrivals {
        /// How lately, in milliseconds.
        within_ms: u64,
    },
    /// [`Answer::Interfaces`].
    Interfaces,
    /// [`Answer::Drops`].
    Drops,
    /// [`Answer::Distribution`].
    Distribution,
    /// [`Answer::PortTranslations`].
    PortTranslations,
    /// [`Answer::Traffic`].
    Traffic,
    /// [`Answer::Filters`], of the defensive filters alone.
    Defense,
    /// [`Answer::Test`]: what the filters would do with this packet. Nothing is sent or counted.
    Test(PacketTest),
}

/// A packet that is only asked about. What is not given is open: the answer says whether it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PacketTest {
    /// `None`: both, each on its own.
    pub direction: Option<Direction>,
    /// Security class of the interface, 0 = open.
    pub security_class: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Upper-layer protocol.
    pub protocol: u8,
    /// What is given of the upper layer.
    pub upper: UpperLayer,
}

/// What is said of the upper layer of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum UpperLayer {
    /// Nothing.
    Open,
    /// Ports of TCP, UDP or SCTP; 0 = open. Of a client behind a NAT the port is its own, or the translated one.
    Ports {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// Type and code of ICMP or ICMPv6.
    Typed {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
}

/// What the filters would do with a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestedPacket {
    /// The filters that match it, or may match, in search order: at most [`MAX_TEST_FILTERS`].
    pub filters: Vec<FilterView>,
    /// How many there are.
    pub matching: u32,
    /// One for each direction asked for.
    pub verdicts: Vec<TestVerdict>,
}

/// Upper bound of [`TestedPacket::filters`].
pub const MAX_TEST_FILTERS: usize = 1_000;

/// Which filter decides on a packet, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestVerdict {
    /// Index in [`TestedPacket::filters`].
    pub filter: u32,
    /// It decides whatever was left open (ports, SYN, fragments, security class).
    pub certain: bool,
    /// What becomes of the packet.
    pub treatment: Treatment,
}

/// What becomes of a packet; of an inbound one, how it has to come to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Treatment {
    /// In clear.
    Clear,
    /// Dropped.
    Denied,
    /// By a tunnel.
    Protected {
        /// Its number, as [`super::SaPair::tunnel`].
        tunnel: u32,
        /// Inbound SPI of the pair that it sends with.
        spi_in: u32,
        /// Outbound SPI of that pair.
        spi_out: u32,
    },
    /// Dropped, because there is no SA for it.
    NoSa,
    /// Held, while an SA for it is negotiated on demand.
    Negotiated,
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
    /// SA pairs on which something arrived lately.
    Arrivals(Vec<LastArrival>),
    /// Interfaces and their addresses.
    Interfaces(Vec<InterfaceView>),
    /// Drops by reason, only reasons that occurred.
    Drops(Vec<DropView>),
    /// Connections by target.
    Distribution(Vec<TargetView>),
    /// Flows of clients behind NATs.
    PortTranslations(Vec<PortTranslationView>),
    /// What all SAs carried.
    Traffic(TrafficTotals),
    /// What the filters would do with a packet.
    Test(Box<TestedPacket>),
}

/// When something arrived last on an SA pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastArrival {
    /// Inbound SPI of the pair.
    pub spi_in: u32,
    /// Milliseconds since then.
    pub idle_in_ms: u64,
}

/// What all SAs of a stack carried since its process began, those that are gone too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficTotals {
    /// Packets sent.
    pub out_packets: u64,
    /// Bytes of the inner packets sent.
    pub out_bytes: u64,
    /// Packets received.
    pub in_packets: u64,
    /// Bytes of the inner packets received.
    pub in_bytes: u64,
    /// SA pairs that are there now.
    pub pairs: u64,
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

/// A flow of a client behind a NAT, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortTranslationView {
    /// Own address.
    pub local: IpAddr,
    /// Own port.
    pub local_port: u16,
    /// Public address of the client.
    pub remote: IpAddr,
    /// 6 or 17.
    pub protocol: u8,
    /// The client's port as this stack sees it.
    pub translated: u16,
    /// The client's own port.
    pub original: u16,
    /// Number of its tunnel.
    pub tunnel: u32,
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
    /// NAT resolution: one flow of a client behind a NAT.
    Resolution {
        /// Number of the tunnel.
        tunnel: u32,
        /// The client's own port.
        original_port: u16,
    },
    /// A defensive filter; what it dropped counts as denied, what it would have dropped as permitted.
    Defensive {
        /// [`super::DefensiveFilter::simulate`], or the stack's mode says so.
        simulate: bool,
        /// [`super::DefensiveFilter::global`].
        global: bool,
        /// [`super::DefensiveFilter::log_limit`].
        log_limit: u16,
        /// [`super::DefensiveFilter::expires`].
        expires: u64,
        /// [`super::DefensiveFilter::updated`].
        updated: u64,
    },
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
    /// IP protocol number.
    pub protocol: u8,
    /// Port (low end of the range that was hit).
    pub port: u16,
    /// Stack name of the target.
    pub target: String,
    /// Connections that have not ended.
    pub active: u64,
    /// Connections since the start.
    pub total: u64,
    /// Servers that listen there; `None`: nothing was heard of it.
    pub ready: Option<u32>,
    /// Weight in force; 0 where the method has none.
    pub weight: u8,
    /// It gets no new connections.
    pub quiesced: bool,
}
