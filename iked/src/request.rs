//! What the management interface asks of the core task, which owns all engines and stacks.
//!
//! A session never touches an engine: it sends a [`CoreRequest`] over a channel and gets values of one moment back.

use crate::ike::types::{IkeTunnelId, TunnelId};
use crate::ike::view::{Census, ChildView, EngineCounters, IkeView};
use defense::DefenseRequest;
use ipnet::IpNet;
use stack::control::{
    DefenseMode, DfMode, DropView, EspSuite, FilterTotals, FilterView, InterfaceView, Mode, PacketTest,
    PortTranslationView, SaView, TargetView, TestVerdict, TrafficTotals,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;
use tokio::sync::oneshot;
use vipa::VipaRequest;

pub mod defense;
pub mod vipa;

/// A request to the core task.
#[derive(Debug)]
pub enum CoreRequest {
    /// All configured stacks.
    Stacks(oneshot::Sender<Vec<StackInfo>>),
    /// Values of one stack at one moment.
    Display {
        /// Stack name as configured (matched without regard to case).
        stack: String,
        /// Which parts of the snapshot are needed.
        want: Want,
        /// Answer.
        reply: oneshot::Sender<Result<Snapshot, CoreError>>,
    },
    /// A control request.
    Control {
        /// Stack name.
        stack: String,
        /// What to do.
        action: ControlAction,
        /// To which objects; empty: all of that kind.
        objects: Vec<ControlObject>,
        /// One outcome for each object, in order; for "all" one for each object touched.
        reply: oneshot::Sender<Result<Vec<ControlOutcome>, CoreError>>,
    },
    /// Put a filter set in force (`ipsec -f default`, `-f reload`).
    LoadPolicy {
        /// Stack name.
        stack: String,
        /// True: read the policy files again and use them; false: the defaults.
        policy: bool,
        /// Answer.
        reply: oneshot::Sender<Result<(), CoreError>>,
    },
    /// DVIPAs, their targets and takeovers.
    Vipa(VipaRequest),
    /// Defensive filters.
    Defense(DefenseRequest),
}

/// Why the core could not serve a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// No stack of that name, or it is not active.
    #[error("no active stack of that name")]
    UnknownStack,
    /// The stack did not answer in time.
    #[error("the stack does not answer")]
    StackSilent,
    /// The policy could not be loaded; the one before is in force.
    #[error("policy not loaded: {0}")]
    Policy(String),
    /// This daemon cannot do that.
    #[error("not supported")]
    NotSupported,
    /// Something else went wrong inside.
    #[error("{0}")]
    Internal(String),
}

/// A stack, for NMsecStack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackInfo {
    /// Name.
    pub name: String,
    /// Its process runs and is configured.
    pub active: bool,
    /// It has IPv6 home addresses.
    pub ipv6: bool,
    /// It takes part in distribution or takeover of a DVIPA.
    pub dvipsec: bool,
    /// Filter logging is on.
    pub logging: bool,
    /// Filtering before decapsulation is on.
    pub predecap: bool,
    /// Policy filters (not the defaults) are in force.
    pub policy_filters: bool,
    /// NAT keepalive interval.
    pub nat_keepalive_secs: u32,
    /// Whether defensive filters are in force.
    pub defense: DefenseMode,
    /// Addresses that they do not touch.
    pub excluded: Vec<IpNet>,
}

/// Parts of a [`Snapshot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// `census`, `configured`, `engine`, `totals`.
    Summary,
    /// `filters`; `ike`, `children` for the tunnels of dynamic ones.
    Filters,
    /// `children`, `ike`, `sas`: dynamic tunnels, both views.
    Children,
    /// `manual`, `sas`: manual tunnels.
    Manual,
    /// `ike`, `children`.
    IkeTunnels,
    /// `interfaces`.
    Interfaces,
    /// `drops`.
    Drops,
    /// `targets`.
    Distribution,
    /// `ports`.
    PortTranslations,
    /// `traffic`.
    Traffic,
    /// `filters` that match a packet, `matching` and `verdicts`; `ike`, `children` as with `Filters`.
    Test(PacketTest),
}

/// Values of one moment; only what was wanted is filled.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The stack.
    pub stack: StackInfo,
    /// Engine time of the snapshot.
    pub now: Instant,
    /// The same moment in seconds since 1970 UTC.
    pub unix_now: u64,
    /// IKE SAs, in no order that counts.
    pub ike: Vec<IkeView>,
    /// Child SAs, in no order that counts.
    pub children: Vec<ChildView>,
    /// How many SAs there are.
    pub census: Census,
    /// LocalDynVpnRules of the policy, and whether each has an active child SA.
    pub configured: Vec<(String, bool)>,
    /// Counters of the IKE engine.
    pub engine: EngineCounters,
    /// Manual tunnels of the policy in force.
    pub manual: Vec<ManualView>,
    /// SA pairs in the stack.
    pub sas: Vec<SaView>,
    /// Filters in force.
    pub filters: Vec<FilterView>,
    /// How many filters match a tested packet; `filters` has the first of them.
    pub matching: u32,
    /// Which of `filters` decide on a tested packet.
    pub verdicts: Vec<TestVerdict>,
    /// Of policy and defaults the filters that are not in force, with `filters`.
    pub shelved: Vec<FilterView>,
    /// Filter counters.
    pub totals: FilterTotals,
    /// Interfaces.
    pub interfaces: Vec<InterfaceView>,
    /// Drops by reason.
    pub drops: Vec<DropView>,
    /// Connections by target.
    pub targets: Vec<TargetView>,
    /// Flows of clients behind NATs.
    pub ports: Vec<PortTranslationView>,
    /// What all SAs carried.
    pub traffic: Option<TrafficTotals>,
    /// DVIPAs of this stack as a local endpoint.
    pub dvipas: Vec<DvipaInfo>,
    /// Coupling facility state of IKE tunnels of DVIPAs.
    pub cf_ike: BTreeMap<IkeTunnelId, CfState>,
    /// Coupling facility state of dynamic tunnels of DVIPAs.
    pub cf_children: BTreeMap<TunnelId, CfState>,
}

/// A manual tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualView {
    /// Shown as `M1`.
    pub number: u32,
    /// IpManVpnAction.
    pub vpn_action: String,
    /// Its SAs are installed.
    pub active: bool,
    /// Since when, seconds since 1970 UTC; 0 if not active.
    pub since_unix: u64,
    /// Tunnel or transport.
    pub mode: Mode,
    /// Protocols and algorithms.
    pub suite: EspSuite,
    /// Own security endpoint.
    pub local: IpAddr,
    /// The peer's.
    pub remote: IpAddr,
    /// SPI of packets to us, of AH where there is AH.
    pub spi_in: u32,
    /// SPI of packets to the peer.
    pub spi_out: u32,
    /// DF bit of the outer header.
    pub df: DfMode,
    /// The DSCP is copied to the outer header.
    pub copy_dscp: bool,
}

/// A DVIPA and its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DvipaInfo {
    /// Address.
    pub address: IpAddr,
    /// Stack that owns it.
    pub owner: String,
    /// Owner epoch.
    pub epoch: u64,
    /// Stack that owned it before, if there was one.
    pub from: Option<String>,
}

/// Whether a record stands in the coupling facility (NMsDistCFRecord).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CfState {
    /// Stored.
    Stored,
    /// Could not be stored: takeover is not protected.
    Failed,
}

/// What a control request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlAction {
    /// Start negotiating a LocalDynVpnRule.
    ActivateChild,
    /// Delete a dynamic tunnel.
    DeactivateChild,
    /// Rekey a dynamic tunnel.
    RefreshChild,
    /// Delete an IKE tunnel and its children.
    DeactivateIke,
    /// New keys and authentication for an IKE tunnel.
    RefreshIke,
    /// Install a manual tunnel.
    ActivateManual,
    /// Take a manual tunnel away: its packets are dropped.
    DeactivateManual,
}

/// What a control request acts on (NMsecTunnel).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlObject {
    /// LocalDynVpnRule, KeyExchangeRule or IpManVpnAction.
    pub name: Option<String>,
    /// `Y7`, `K3`, `M1`.
    pub tunnel_id: Option<String>,
}

/// Outcome for one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlOutcome {
    /// The object, filled in as far as known.
    pub object: ControlObject,
    /// Result (NMsTunStatus).
    pub status: ControlStatus,
}

/// NMsTunStatus (nmi.md section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlStatus {
    /// 1
    NotFound,
    /// 2: done, or started.
    Updated,
    /// 3
    AlreadySet,
    /// 5
    NoKeyExchangeRule,
    /// 6
    NoFilterRule,
    /// 7
    NoDataOffer,
    /// 8
    Failed,
}
