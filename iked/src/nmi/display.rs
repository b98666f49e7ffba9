//! Answers to display requests: what of a snapshot is asked for, and records made of it one by one.
//!
//! A [`Listing`] holds the values of one moment and a small reference for each object that the input filters let
//! through. Its records can be made any number of times, always the same: once to sum their lengths, once to send.

mod filter;
mod ike;
mod manual;
mod test_packet;
mod tunnel;
mod values;

pub(super) use test_packet::question as test_question;
pub(super) use values::Values;

use crate::ike::types::{IkeTunnelId, TunnelId};
use crate::request::{CfState, Snapshot, StackInfo, Want};
use ipnet::IpNet;
use nmi_proto::code::{CfRecord, DefensiveMode, MessageType, SaState as WireState};
use nmi_proto::control::{Tunnel, VipaControl};
use nmi_proto::display::{
    AuthorityRecord, DefensiveControl, Dist, Distribution, DropCount, ExcludedAddress, FilterRecord,
    Interface, IpDynTunnel, IpDynamicIke, IpDynamicStack, IpTunnel, Nss, PortTranslation, Record as _, Stack,
    StackRecord, Statistics, TestRecord,
};
use nmi_proto::filter::{InFilter, Subject};
use nmi_proto::layout::Structure as _;
use nmi_proto::record::{RECORD_HEADER_BYTES, SECTION_DESCRIPTOR_BYTES};
use nmi_proto::text::CodePage;
use nmi_proto::value::Time;
use stack::control::{DefenseMode, MANUAL_TUNNELS};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

use crate::ike::view::{self, SaState};

/// What of a stack a request needs; `None`: nothing but its [`StackInfo`].
pub(super) const fn wanted(kind: MessageType) -> Option<Want> {
    Some(match kind {
        MessageType::GET_SUMMARY => Want::Summary,
        MessageType::GET_IPFLTCURR | MessageType::GET_IPFLTDEFAULT | MessageType::GET_IPFLTPOLICY => {
            Want::Filters
        }
        MessageType::GET_IPTUNDYNSTACK | MessageType::GET_IPTUNDYNIKE => Want::Children,
        MessageType::GET_IPTUNMANUAL => Want::Manual,
        MessageType::GET_IKETUN | MessageType::GET_IKETUNCASCADE => Want::IkeTunnels,
        MessageType::GET_IPINTERFACES => Want::Interfaces,
        MessageType::GET_DROPS => Want::Drops,
        MessageType::GET_DISTRIBUTION => Want::Distribution,
        MessageType::GET_PORTTRAN => Want::PortTranslations,
        _ => return None,
    })
}

/// A reference into a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Summary,
    /// Of `filters`.
    Filter(u32),
    /// Of `shelved`.
    Shelved(u32),
    /// Of `filters` that match a tested packet.
    Tested(u32),
    /// Of `sas`, and of `children` where IKE knows the SA.
    Sa(u32, Option<u32>),
    /// Of `children`.
    Child(u32),
    /// Of `manual`.
    Manual(u32),
    /// Of `ike`.
    Ike(u32),
    Interface(u32),
    Drop(u32),
    Target(u32),
    /// Of `ports`.
    Port(u32),
}

/// What an answer consists of.
#[derive(Debug)]
pub(super) struct Listing {
    kind: MessageType,
    content: Content,
    total: u32,
}

#[derive(Debug)]
enum Content {
    Empty,
    Stacks(Vec<StackInfo>),
    Tunnels(Vec<Tunnel>),
    VipaControls(Vec<VipaControl>),
    DefensiveControls(Vec<DefensiveControl>),
    Authority(Vec<AuthorityRecord>),
    Counters(Vec<(&'static str, u64)>),
    /// Values that are no part of a snapshot, and which of them are asked for.
    Values(Values, Vec<u32>),
    Snapshot(Arc<Moment>, Vec<Item>),
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Listing {
    /// An answer without records.
    pub(super) const fn empty(kind: MessageType) -> Self {
        Self { kind, content: Content::Empty, total: 0 }
    }

    /// One record for each stack, where the request is about stacks; none where it is about what no stack has
    /// (network security services of IKEv1).
    pub(super) fn of_stacks<'a>(kind: MessageType, stacks: impl IntoIterator<Item = &'a StackInfo>) -> Self {
        if !matches!(kind, MessageType::GET_STACKINFO | MessageType::GET_IKENSINFO) {
            return Self::empty(kind);
        }
        let stacks: Vec<_> = stacks.into_iter().cloned().collect();
        Self { kind, total: count(stacks.len()), content: Content::Stacks(stacks) }
    }

    /// Outcomes of a control request.
    pub(super) fn of_tunnels(tunnels: Vec<Tunnel>) -> Self {
        // All control requests have the same records.
        let kind = MessageType::ACTIVATE_IPTUNDYN;
        Self { kind, total: count(tunnels.len()), content: Content::Tunnels(tunnels) }
    }

    /// Outcomes of a control request about DVIPAs.
    pub(super) fn of_vipa_controls(all: Vec<VipaControl>) -> Self {
        // All these requests have the same records.
        let kind = MessageType::MOVE_DVIPA;
        Self { kind, total: count(all.len()), content: Content::VipaControls(all) }
    }

    /// Outcomes of a control request about defensive filters.
    pub(super) fn of_defensive_controls(all: Vec<DefensiveControl>) -> Self {
        // All these requests have the same records.
        let kind = MessageType::ADD_DEFENSIVE;
        Self { kind, total: count(all.len()), content: Content::DefensiveControls(all) }
    }

    /// What `filters` let through of `values`.
    pub(super) fn of_values(kind: MessageType, values: Values, filters: &[InFilter]) -> Self {
        let total = count(values.len());
        let asked = (0..total).filter(|i| InFilter::any_matches(filters, &values.subject(*i as usize)));
        let asked = asked.collect();
        Self { kind, total, content: Content::Values(values, asked) }
    }

    /// What a caller may do.
    pub(super) fn of_authority(all: Vec<AuthorityRecord>) -> Self {
        let kind = MessageType::GET_AUTHORITY;
        Self { kind, total: count(all.len()), content: Content::Authority(all) }
    }

    /// What the interface itself refused.
    pub(super) fn of_counters(counters: Vec<(&'static str, u64)>) -> Self {
        Self {
            kind: MessageType::GET_DROPS,
            total: count(counters.len()),
            content: Content::Counters(counters),
        }
    }

    /// What `filters` let through of the objects that `kind` is about.
    pub(super) fn of_snapshot(kind: MessageType, moment: Arc<Moment>, filters: &[InFilter]) -> Self {
        let all = moment.items(kind);
        let total = match kind {
            // Only the first of them are there.
            MessageType::TEST_PACKET => moment.snapshot.matching,
            _ => count(all.len()),
        };
        let items = if filters.is_empty() {
            all
        } else {
            all.into_iter()
                .filter(|i| InFilter::any_matches(filters, &moment.subject(*i).as_subject()))
                .collect()
        };
        Self { kind, total, content: Content::Snapshot(moment, items) }
    }

    /// Number of records.
    pub(super) fn len(&self) -> usize {
        match &self.content {
            Content::Empty => 0,
            Content::Stacks(all) => all.len(),
            Content::Tunnels(all) => all.len(),
            Content::VipaControls(all) => all.len(),
            Content::DefensiveControls(all) => all.len(),
            Content::Authority(all) => all.len(),
            Content::Counters(all) => all.len(),
            Content::Values(_, asked) => asked.len(),
            Content::Snapshot(_, items) => items.len(),
        }
    }

    /// As [`Self::len`], as the header has it.
    pub(super) fn number(&self) -> u32 {
        count(self.len())
    }

    /// Objects before filtering.
    pub(super) const fn total(&self) -> u32 {
        self.total
    }

    /// The moment that it shows, where that may be some time ago.
    pub(super) fn made(&self) -> Option<Time> {
        match &self.content {
            Content::Snapshot(moment, _) => Some(Time::from_unix(moment.snapshot.unix_now)),
            _ => None,
        }
    }

    /// Bytes of all records.
    pub(super) fn length(&self, page: CodePage) -> u64 {
        let of = |i: usize| match &self.content {
            Content::Snapshot(moment, items) => moment.length(items[i]),
            _ => None,
        };
        (0..self.len()).map(|i| of(i).unwrap_or_else(|| self.record(i, page).len() as u64)).sum()
    }

    /// The record at `index`, which is below [`Self::len`].
    pub(super) fn record(&self, index: usize, page: CodePage) -> Vec<u8> {
        match &self.content {
            Content::Empty => Vec::new(),
            Content::Stacks(all) if self.kind == MessageType::GET_IKENSINFO => nss(&all[index]).build(page),
            Content::Stacks(all) => stack(&all[index]).build(page),
            Content::Tunnels(all) => all[index].build(page),
            Content::VipaControls(all) => all[index].build(page),
            Content::DefensiveControls(all) => all[index].build(page),
            Content::Authority(all) => all[index].build(page),
            Content::Values(values, asked) => values.record(asked[index] as usize, page),
            Content::Counters(all) => {
                let (reason, packets) = all[index];
                DropCount { reason: reason.into(), packets }.build(page)
            }
            Content::Snapshot(moment, items) => moment.record(self.kind, items[index], page),
        }
    }
}

fn stack(info: &StackInfo) -> StackRecord {
    let stack = Stack {
        ip_security: true,
        ipv6_security: info.ipv6,
        dvipsec: info.dvipsec,
        logging: info.logging,
        predecap: info.predecap,
        policy_filters: info.policy_filters,
        fips140: false,
        name: info.name.as_str().into(),
        nat_keepalive: info.nat_keepalive_secs,
        defensive_mode: match info.defense {
            DefenseMode::Inactive => DefensiveMode::INACTIVE,
            DefenseMode::Active => DefensiveMode::ACTIVE,
            DefenseMode::Simulate => DefensiveMode::SIMULATE,
        },
    };
    let excluded = |net: &IpNet| ExcludedAddress {
        ipv6: net.addr().is_ipv6(),
        address: net.addr().into(),
        prefix: net.prefix_len(),
    };
    StackRecord { stack, excluded: info.excluded.iter().map(excluded).collect() }
}

/// No stack is a client of network security services.
fn nss(info: &StackInfo) -> Nss {
    Nss { stack_name: info.name.as_str().into(), ..Nss::default() }
}

/// A snapshot and the indexes into it that records need.
#[derive(Debug)]
pub(super) struct Moment {
    snapshot: Snapshot,
    /// Children of each IKE tunnel, in the snapshot's order.
    children_of: BTreeMap<IkeTunnelId, Vec<u32>>,
    /// Greatest generation of each tunnel: the most recent SA.
    newest_child: BTreeMap<TunnelId, u32>,
    newest_ike: BTreeMap<IkeTunnelId, u32>,
    /// The first SA of each tunnel in the snapshot: the newest, whatever its state.
    first_child: BTreeMap<TunnelId, u32>,
    first_ike: BTreeMap<IkeTunnelId, u32>,
    /// Told when nobody reads it any more.
    freed: Arc<Notify>,
}

impl Drop for Moment {
    fn drop(&mut self) {
        self.freed.notify_waiters();
    }
}

/// What of a [`Subject`] is made and not borrowed.
struct OwnedSubject<'a> {
    tunnel_id: Option<String>,
    rest: Subject<'a>,
}

impl OwnedSubject<'_> {
    fn as_subject(&self) -> Subject<'_> {
        Subject { tunnel_id: self.tunnel_id.as_deref(), ..self.rest }
    }
}

impl Moment {
    pub(super) fn new(mut snapshot: Snapshot, freed: Arc<Notify>) -> Self {
        // Here and not in the core, which has other things to do.
        view::order_ike(&mut snapshot.ike);
        view::order_children(&mut snapshot.children);
        let mut children_of: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        let (mut newest_child, mut newest_ike) = (BTreeMap::new(), BTreeMap::new());
        let (mut first_child, mut first_ike) = (BTreeMap::new(), BTreeMap::new());
        for (i, child) in (0..).zip(&snapshot.children) {
            children_of.entry(child.ike).or_default().push(i);
            first_child.entry(child.id).or_insert(i);
            let newest = newest_child.entry(child.id).or_insert(child.generation);
            *newest = child.generation.max(*newest);
        }
        for (i, ike) in (0..).zip(&snapshot.ike) {
            first_ike.entry(ike.id).or_insert(i);
            let newest = newest_ike.entry(ike.id).or_insert(ike.generation);
            *newest = ike.generation.max(*newest);
        }
        Self { snapshot, children_of, newest_child, newest_ike, first_child, first_ike, freed }
    }

    /// All objects that a request is about, in the order of the answer.
    fn items(&self, kind: MessageType) -> Vec<Item> {
        let s = &self.snapshot;
        let all = |n: usize, make: fn(u32) -> Item| (0..count(n)).map(make).collect::<Vec<_>>();
        match kind {
            MessageType::GET_SUMMARY => vec![Item::Summary],
            MessageType::GET_IPFLTCURR => all(s.filters.len(), Item::Filter),
            MessageType::TEST_PACKET => all(s.filters.len(), Item::Tested),
            MessageType::GET_IPFLTDEFAULT | MessageType::GET_IPFLTPOLICY => {
                if s.stack.policy_filters != (kind == MessageType::GET_IPFLTPOLICY) {
                    return all(s.shelved.len(), Item::Shelved);
                }
                let configured = |i: &u32| filter::is_configured(&s.filters[*i as usize]);
                (0..count(s.filters.len())).filter(configured).map(Item::Filter).collect()
            }
            MessageType::GET_IPTUNDYNSTACK => self.stack_tunnels(),
            MessageType::GET_IPTUNDYNIKE => all(s.children.len(), Item::Child),
            MessageType::GET_IPTUNMANUAL => all(s.manual.len(), Item::Manual),
            MessageType::GET_IKETUN | MessageType::GET_IKETUNCASCADE => all(s.ike.len(), Item::Ike),
            MessageType::GET_IPINTERFACES => all(s.interfaces.len(), Item::Interface),
            MessageType::GET_DROPS => all(s.drops.len(), Item::Drop),
            MessageType::GET_DISTRIBUTION => all(s.targets.len(), Item::Target),
            // Flows whose port is their own are resolved too; only translations are asked for.
            MessageType::GET_PORTTRAN => (0..)
                .zip(&s.ports)
                .filter(|(_, p)| p.translated != p.original)
                .map(|(i, _)| Item::Port(i))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// SAs that the stack holds: those of IKE's tunnels in their order, then those that IKE does not know. Manual ones are
    /// asked for apart.
    fn stack_tunnels(&self) -> Vec<Item> {
        let s = &self.snapshot;
        let mut sas: BTreeMap<u32, u32> = (0..)
            .zip(&s.sas)
            .filter(|(_, sa)| sa.tunnel < MANUAL_TUNNELS)
            .map(|(i, sa)| (sa.spi_in, i))
            .collect();
        let known = (0..).zip(&s.children).filter_map(|(i, child)| {
            // 0 is no SPI: a child that is being negotiated has no SA.
            let sa = (child.spi_in != 0).then(|| sas.remove(&child.spi_in)).flatten()?;
            Some(Item::Sa(sa, Some(i)))
        });
        let mut items: Vec<_> = known.collect();
        items.extend(sas.into_values().map(|sa| Item::Sa(sa, None)));
        items
    }

    fn subject(&self, item: Item) -> OwnedSubject<'_> {
        let s = &self.snapshot;
        let none = || OwnedSubject { tunnel_id: None, rest: Subject::default() };
        match item {
            Item::Filter(i) | Item::Tested(i) => filter::subject(&s.filters[i as usize]),
            Item::Shelved(i) => filter::subject(&s.shelved[i as usize]),
            Item::Child(i) | Item::Sa(_, Some(i)) => {
                let child = &s.children[i as usize];
                let current = self.newest_child.get(&child.id) == Some(&child.generation);
                tunnel::subject(child, current)
            }
            Item::Manual(i) => manual::subject(&s.manual[i as usize]),
            Item::Sa(i, None) => OwnedSubject {
                tunnel_id: Some(format!("Y{}", s.sas[i as usize].tunnel)),
                rest: Subject { state: Some(WireState::ACTIVE), current: true, ..Subject::default() },
            },
            Item::Ike(i) => {
                let tunnel = &s.ike[i as usize];
                ike::subject(tunnel, self.newest_ike.get(&tunnel.id) == Some(&tunnel.generation))
            }
            Item::Port(i) => {
                let p = &s.ports[i as usize];
                let rest = Subject {
                    remote: Some((p.remote, p.remote)),
                    protocol: Some(p.protocol),
                    ..Subject::default()
                };
                OwnedSubject { tunnel_id: None, rest }
            }
            Item::Summary | Item::Interface(_) | Item::Drop(_) | Item::Target(_) => none(),
        }
    }

    fn record(&self, kind: MessageType, item: Item, page: CodePage) -> Vec<u8> {
        let s = &self.snapshot;
        match item {
            Item::Summary => self.summary().build(page),
            Item::Filter(i) => self.filter(i).build(page),
            Item::Tested(i) => {
                let verdict = s.verdicts.iter().find(|v| v.filter == i).map(test_packet::verdict);
                TestRecord { filter: self.filter(i), verdict }.build(page)
            }
            Item::Shelved(i) => filter::record(&s.shelved[i as usize], false).build(page),
            Item::Sa(sa, child) => self.stack_tunnel(sa, child).build(page),
            Item::Child(i) => self.ike_child(i).build(page),
            Item::Manual(i) => self.manual_tunnel(&s.manual[i as usize]).build(page),
            Item::Ike(i) => self.ike_tunnel(i, kind == MessageType::GET_IKETUNCASCADE).build(page),
            Item::Interface(i) => {
                let v = &s.interfaces[i as usize];
                Interface {
                    name: v.name.as_str().into(),
                    address: v.address.into(),
                    security_class: v.security_class,
                    ipv6: v.address.is_ipv6(),
                    active: v.active,
                    dvipa: v.dvipa,
                }
                .build(page)
            }
            Item::Drop(i) => {
                let v = &s.drops[i as usize];
                DropCount { reason: v.reason.as_str().into(), packets: v.packets }.build(page)
            }
            Item::Port(i) => {
                let v = &s.ports[i as usize];
                PortTranslation {
                    ipv6: v.remote.is_ipv6(),
                    remote_address: v.remote.into(),
                    // In transport mode nobody says it.
                    inner_address: Default::default(),
                    protocol: v.protocol,
                    translated_port: v.translated,
                    original_port: v.original,
                }
                .build(page)
            }
            Item::Target(i) => {
                let v = &s.targets[i as usize];
                Distribution {
                    ipv6: v.dvipa.is_ipv6(),
                    dvipa: v.dvipa.into(),
                    target: v.target.as_str().into(),
                    port: v.port,
                    active: v.active,
                    total: v.total,
                }
                .build(page)
            }
        }
    }

    /// The length of a record of which there are very many and whose sections are of fixed length; `None`: it is to be made to
    /// know it.
    fn length(&self, item: Item) -> Option<u64> {
        const TUNNEL: usize = IpTunnel::SIZE + IpDynTunnel::SIZE;
        let (sections, descriptors, child) = match item {
            Item::Sa(_, child) => (TUNNEL + IpDynamicStack::SIZE, 3, child),
            // The client IDs of IKEv1 are absent and have their descriptors.
            Item::Child(child) => (TUNNEL + IpDynamicIke::SIZE, 5, Some(child)),
            _ => return None,
        };
        let local = child.map(|i| self.snapshot.children[i as usize].local.ip());
        let dist = local.is_some_and(|local| self.snapshot.dvipas.iter().any(|d| d.address == local));
        let dist = if dist { SECTION_DESCRIPTOR_BYTES + Dist::SIZE } else { 0 };
        Some((RECORD_HEADER_BYTES + descriptors * SECTION_DESCRIPTOR_BYTES + sections + dist) as u64)
    }

    fn summary(&self) -> Statistics {
        let s = &self.snapshot;
        let (engine, sum) = (&s.engine, &s.engine.ike);
        let (ike, child) = (&s.census.ike, &s.census.children);
        Statistics {
            phase1_active: ike.active,
            phase1_in_progress: ike.pending.saturating_add(ike.in_negotiation),
            phase1_expired: ike.expired,
            phase1_local_activation_success: engine.local_success,
            phase1_remote_activation_success: engine.remote_success,
            phase1_local_activation_failure: engine.local_failure,
            phase1_remote_activation_failure: engine.remote_failure,
            phase1_retransmit: sum.retransmits,
            phase1_replay: sum.replays,
            phase1_invalid: sum.invalid,
            phase1_auth_fail: sum.auth_failures,
            phase2_active: child.active,
            phase2_active_shadow: 0,
            phase2_in_progress: child.pending.saturating_add(child.in_negotiation),
            phase2_expired: child.expired,
            phase2_local_activation_success: sum.child_local_success,
            phase2_remote_activation_success: sum.child_remote_success,
            phase2_local_activation_failure: sum.child_local_failure,
            phase2_remote_activation_failure: sum.child_remote_failure,
            phase2_retransmit: sum.child_retransmits,
            phase2_replay: sum.child_replays,
            phase2_invalid: sum.child_invalid,
            packets_permit: s.totals.permits,
            packets_deny: s.totals.denies,
            packets_mismatch: s.totals.mismatches,
            manual_active: count(s.manual.iter().filter(|m| m.active).count()),
        }
    }

    fn filter(&self, i: u32) -> FilterRecord {
        let view = &self.snapshot.filters[i as usize];
        let mut record = filter::record(view, true);
        if let Some(tunnel) = filter::tunnel(view.kind) {
            self.peer_of(tunnel, &mut record);
        }
        record
    }

    /// What a dynamic filter's record has of the peer: its identity, and its port with ESP in UDP.
    fn peer_of(&self, tunnel: TunnelId, record: &mut FilterRecord) {
        let s = &self.snapshot;
        let Some(child) = self.first_child.get(&tunnel).map(|i| &s.children[*i as usize]) else { return };
        record.filter.remote_udp_port = if child.udp { child.remote.port() } else { 0 };
        let ike = self.first_ike.get(&child.ike).map(|i| &s.ike[*i as usize]);
        record.remote_id = ike.and_then(|v| v.remote_id.as_ref()).map(ike::identity);
    }

    /// A moment of the engine's clock as wall time.
    fn time(&self, at: Option<Instant>) -> Time {
        let Some(at) = at else { return Time::NONE };
        let s = &self.snapshot;
        let (ahead, ago): (Duration, Duration) =
            (at.saturating_duration_since(s.now), s.now.saturating_duration_since(at));
        Time::from_unix(s.unix_now.saturating_add(ahead.as_secs()).saturating_sub(ago.as_secs()))
    }

    /// The section of tunnels whose local endpoint is a DVIPA.
    fn dist(&self, local: IpAddr, taken_over: bool, record: Option<&CfState>) -> Option<Dist> {
        let dvipa = self.snapshot.dvipas.iter().find(|d| d.address == local)?;
        Some(Dist {
            dvipa: true,
            taken_over,
            cf_record: match record {
                None => CfRecord::NOT_APPLICABLE,
                Some(CfState::Stored) => CfRecord::STORED,
                Some(CfState::Failed) => CfRecord::FAILED,
            },
            epoch: dvipa.epoch,
            owner: dvipa.owner.as_str().into(),
            from: if taken_over { dvipa.from.as_deref().unwrap_or_default().into() } else { "".into() },
        })
    }
}

const fn is_active(state: SaState) -> bool {
    matches!(state, SaState::Active)
}
const fn in_progress(state: SaState) -> bool {
    matches!(state, SaState::Pending | SaState::InNegotiation)
}
const fn is_expired(state: SaState) -> bool {
    matches!(state, SaState::Expired)
}

const fn wire_state(state: SaState) -> WireState {
    match state {
        SaState::Pending => WireState::PENDING,
        SaState::InNegotiation => WireState::IN_NEGOTIATION,
        SaState::Active => WireState::ACTIVE,
        SaState::Expired => WireState::EXPIRED,
        SaState::HalfClosed => WireState::HALF_CLOSED,
    }
}
