//! What the packet engine of this stack and the group ([`super::group::Group`]) tell each other.
//!
//! They run in different threads: orders and reports go through queues, in order. The group decides whose word counts
//! (member, seal, epoch); the engine decides what becomes of connections. Addresses of members are XCF addresses.

use crate::control::ReadyPort;
use crate::engine::connection::ConnectionKey;
use crate::engine::io::{FlowRecord, ToGroup};
use std::net::IpAddr;

/// What the engine is told of the other stacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineOrder {
    /// Another stack owns a DVIPA, at a higher epoch than the configuration and every owner before: connections that
    /// end here go by way of it from now on. It may contradict a [`crate::control::Role`] in force, and is said again
    /// after each configuration that is behind it. An engine that took itself for the owner has lost the DVIPA.
    OwnerChanged {
        /// The DVIPA.
        dvipa: IpAddr,
        /// The new owner.
        owner: IpAddr,
        /// Its epoch.
        epoch: u64,
    },
    /// The owner asks which connections of a DVIPA end here. Answered by [`EngineReport::Connections`] with a page of them, or
    /// with none; the rest is asked for when there is room for it.
    ListConnections {
        /// Who asks.
        to: IpAddr,
        /// The DVIPA.
        dvipa: IpAddr,
        /// Epoch of the asker, to be given back.
        epoch: u64,
        /// 0, or where the page before ended.
        from: u32,
    },
    /// A page of the connections that end at a member, as the engine asked ([`ToGroup::AskConnections`]).
    Connections {
        /// Where they end.
        member: IpAddr,
        /// The DVIPA.
        dvipa: IpAddr,
        /// Epoch of our ownership for which they were asked.
        epoch: u64,
        /// The connections.
        entries: Vec<FlowRecord>,
        /// The last page: the member has reported (R10).
        last: bool,
    },
    /// What a member said before may have got lost: its connections are to be asked for again.
    Gap {
        /// The member.
        member: IpAddr,
    },
    /// A connection now ends at a member (NEWCONN).
    NewConnection {
        /// Where it ends.
        member: IpAddr,
        /// Epoch of our ownership.
        epoch: u64,
        /// The connection.
        entry: FlowRecord,
    },
    /// A connection at a member has ended (CONN_END).
    ConnectionEnded {
        /// Where it ended.
        member: IpAddr,
        /// Epoch of our ownership.
        epoch: u64,
        /// The connection.
        key: ConnectionKey,
    },
    /// What is known of a stack as a target; replaces what was said of it before.
    Target(TargetState),
}

/// A stack as a target of new connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetState {
    /// Stack name.
    pub name: String,
    /// XCF address; `None`: this stack itself.
    pub xcf: Option<IpAddr>,
    /// It is heard. A silent one gets nothing (R20); a new owner does not wait for its connections (R10).
    pub alive: bool,
    /// It is not alive because it said that it ends.
    pub left: bool,
    /// It is steadily heard, so that it may get new connections: false while a flapping one is damped (T45).
    pub candidate: bool,
    /// Where servers listen.
    pub ready: Vec<ReadyPort>,
    /// Free capacity, 0 to 100, for the `wlm` method.
    pub capacity: u8,
}

/// What the engine has for the other stacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineReport {
    /// What it says by itself.
    Said(ToGroup),
    /// Answer to [`EngineOrder::ListConnections`] (CONN_LIST).
    Connections {
        /// Who asked.
        to: IpAddr,
        /// The DVIPA.
        dvipa: IpAddr,
        /// Epoch that the question named.
        epoch: u64,
        /// Where the page begins, as the question said.
        from: u32,
        /// At most [`super::message::MAX_PAGE`] connections of the DVIPA that end here.
        entries: Vec<FlowRecord>,
        /// Where the next page begins; `None`: this was the last.
        next: Option<u32>,
    },
    /// Reports before this one found no room in the queue: owners are told to ask again.
    Lost,
}
