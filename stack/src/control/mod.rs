//! What `iked` and `stackd` say to each other, and how it is framed.
//!
//! `stackd` listens on a Unix stream socket in a folder of mode 0700; `iked` connects, each end checks the
//! other's credentials (`SO_PEERCRED`), the stack says [`FromStack::Hello`] first. `iked` sends the *desired
//! state* ([`ToStack::Configure`], [`ToStack::SetFilters`]) and security associations; the stack sends IKE
//! datagrams, requests for negotiation and answers. A frame is a `u32` length (big-endian, of what follows, at
//! most [`MAX_FRAME_BYTES`]) and a `postcard` encoding of one message. The stack goes on forwarding with what it
//! has when the connection ends.

mod config;
mod defense;
mod filter;
mod sa;
mod view;

pub use config::*;
pub use defense::*;
pub use filter::*;
pub use sa::*;
pub use view::*;

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Version of this protocol; [`Hello`] carries it, and `iked` refuses a stack of another one.
pub const PROTOCOL_VERSION: u16 = 8;
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
    /// Flows that an earlier owner, or an earlier process, translated: whoever comes with one keeps its port.
    Translations {
        /// Of IPv4 alone; others are passed over.
        flows: Vec<PortTranslation>,
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
    /// The defensive filters, all of them; they are searched before the filter table.
    Defend(Box<DefenseSet>),
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
    /// A pair was not installed; the SAs before it are kept.
    SaRefused {
        /// Inbound SPI of the pair.
        spi_in: u32,
        /// Why, one sentence for the operator.
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
    /// Translated flows of a tunnel have begun or ended.
    Translations {
        /// Number of the dynamic tunnel.
        tunnel: u32,
        /// All of them; the newest ones, where they are too many for a record.
        flows: Vec<PortTranslation>,
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
    /// What it says of that protocol.
    pub upper: UpperLayer,
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
