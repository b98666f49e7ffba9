//! What goes into the engine and comes out of it: the contract between the pure engine and its driver.
//!
//! The driver reads a batch (one TUN read may be a 64 KiB super-packet, one UDP read up to 64 KiB of equal
//! segments), calls the engine for each piece with the same [`Output`], then carries out what stands in the
//! [`Output`] and clears it. Nothing is allocated for a packet: all bytes lie in one arena that is reused.

use super::connection::ConnectionKey;
use crate::control::{Acquire, FromStack, IkeDatagram, SaNotice};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// The `struct virtio_net_hdr` that Linux puts before a packet on a TUN with `IFF_VNET_HDR` (10 octets, host order).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// `VIRTIO_NET_HDR_F_*`: 1 = checksum is to be completed from `csum_start`.
    pub flags: u8,
    /// 0 none, 1 TCPv4, 4 TCPv6, 5 UDP_L4; 0x80 ECN.
    pub gso_type: u8,
    /// Length of all headers of a super-packet.
    pub hdr_len: u16,
    /// Payload of one segment.
    pub gso_size: u16,
    /// Where the checksum starts.
    pub csum_start: u16,
    /// Where it is stored, from `csum_start`.
    pub csum_offset: u16,
}

/// How a UDP datagram (or several equal ones, as UDP_GRO gives them) arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpArrival {
    /// Own address (from packet information) and port.
    pub local: SocketAddr,
    /// The sender.
    pub remote: SocketAddr,
    /// Length of each datagram in the buffer but the last; the whole length if there is one.
    pub segment: usize,
    /// DSCP and ECN octet of the outer header (the kernel joins only datagrams that agree in it).
    pub tos: u8,
}

/// How a raw IP payload (ESP, GRE) arrived; the kernel has reassembled it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawArrival {
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// DSCP and ECN octet of the outer header.
    pub tos: u8,
}

/// A connection as stacks tell each other of it (NEWCONN, CONN_LIST; spec 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowRecord {
    /// The flow.
    pub key: ConnectionKey,
    /// IPSEC-ROUTED: its packets to the peer go through the distributor's IPsec.
    pub ipsec_routed: bool,
    /// How far it has come.
    pub stage: FlowStage,
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowStage {
    /// One side has been heard.
    Opening,
    /// Both sides have been heard.
    Open,
    /// Reset, or closed from both sides.
    Closing,
}

/// What the engine wants other stacks of the sysplex to be told. The shell seals it and sends it over the XCF link;
/// `to` is the XCF address of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToGroup {
    /// The member is asked for its connections on a DVIPA that this stack owns now; they come back by
    /// [`super::Engine::connections_reported`]. Said again until then, so it need not be sent twice.
    AskConnections {
        /// Whom.
        to: IpAddr,
        /// The DVIPA.
        dvipa: IpAddr,
        /// Epoch of the ownership.
        epoch: u64,
    },
    /// NEWCONN: a connection that did not come by the owner, whose packets from the peer will.
    Opened {
        /// The owner.
        to: IpAddr,
        /// The connection.
        flow: FlowRecord,
    },
    /// CONN_END: a connection of which the owner sees one direction only is over.
    Ended {
        /// The owner.
        to: IpAddr,
        /// The connection.
        key: ConnectionKey,
    },
}

/// Everything a batch produced. Ranges point into [`Output::bytes`].
#[derive(Debug, Default)]
pub struct Output {
    /// The arena.
    pub bytes: Vec<u8>,
    /// UDP datagrams to the network (ESP in UDP), to be sent with `UDP_SEGMENT` where `segment` is shorter than the range.
    pub udp: Vec<UdpSend>,
    /// Raw IP payloads to the network (protocol 50).
    pub raw: Vec<RawSend>,
    /// Packets for the TUN: a 10-octet [`VnetHeader`] and the IP packet.
    pub host: Vec<Range<usize>>,
    /// GRE packets (from the GRE header on) for the XCF link.
    pub xcf: Vec<XcfSend>,
    /// IKE messages for `iked`.
    pub ike: Vec<IkeDatagram>,
    /// Negotiations wanted.
    pub acquires: Vec<Acquire>,
    /// SA notices (inbound SPI, what).
    pub sa_notices: Vec<(u32, SaNotice)>,
    /// Messages for other stacks.
    pub group: Vec<ToGroup>,
    /// Other news for `iked`: rebuilt tables, addresses without connections, ceilings that are wanted.
    pub events: Vec<FromStack>,
    /// Log lines (warning?, text), already rate-limited.
    pub logs: Vec<(bool, String)>,
    /// How often it was cleared: what holds ranges from one call to the next can tell that they are void.
    pub(super) clears: u64,
}

/// Datagrams of equal size (the last may be shorter) to one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpSend {
    /// Own address and port.
    pub local: SocketAddr,
    /// The peer.
    pub remote: SocketAddr,
    /// Where they lie.
    pub range: Range<usize>,
    /// Length of each but the last.
    pub segment: usize,
    /// DSCP and ECN octet of the outer header.
    pub tos: u8,
    /// DF of the outer header (IPv4).
    pub df: bool,
}

/// One raw IP payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawSend {
    /// Own address.
    pub local: IpAddr,
    /// The peer.
    pub remote: IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Where it lies.
    pub range: Range<usize>,
    /// DSCP and ECN octet of the outer header.
    pub tos: u8,
    /// DF of the outer header (IPv4).
    pub df: bool,
}

/// One GRE packet to another stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XcfSend {
    /// XCF address of that stack.
    pub remote: IpAddr,
    /// Where it lies.
    pub range: Range<usize>,
    /// DSCP and ECN octet, a copy of the inner one.
    pub tos: u8,
}

impl Output {
    /// Ready for the next batch; keeps the memory. [`super::Engine::flush`] comes before: what the engine still collects
    /// lies in the arena and would be lost.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.udp.clear();
        self.raw.clear();
        self.host.clear();
        self.xcf.clear();
        self.ike.clear();
        self.acquires.clear();
        self.sa_notices.clear();
        self.group.clear();
        self.events.clear();
        self.logs.clear();
        self.clears = self.clears.wrapping_add(1);
    }
}
