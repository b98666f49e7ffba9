//! GRE over the XCF: the arrival check that takes the place of authentication (spec 5.2), and both ends of the way.

use super::coalesce::{Complete, Limits};
use super::connection::{Place, State, Way};
use super::hold::Stage;
use super::icmp::Quoted;
use super::io::{FlowRecord, FlowStage, Output, RawArrival, VnetHeader, XcfSend};
use super::outbound::Origin;
use super::roles::HomeRole;
use super::segment::{self, super_header};
use super::strays::is_sealed;
use super::verdict::DropReason;
use super::{Engine, Line, To, key_inbound, key_outbound, signs, subject};
use crate::control::Direction;
use crate::wire::gre::{GreError, GreHeader, MAX_HEADER};
use crate::wire::packet::{IpVersion, Parsed};
use crate::wire::{ipv4, ipv6, protocol, udp};
use std::net::IpAddr;
use std::time::Instant;

impl Engine {
    /// GRE that arrived on the XCF interface, from the GRE header on.
    pub fn handle_xcf(&mut self, now: Instant, arrival: RawArrival, packet: &mut [u8], out: &mut Output) {
        let (header, inner, parsed) = match self.arrived(arrival, packet) {
            Ok(accepted) => accepted,
            Err(reason) => {
                return self.drop_packet(now, reason, Some(arrival.source), out, || {
                    format!("GRE from {} to {}", arrival.source, arrival.destination)
                });
            }
        };
        self.spd.count_xcf(Direction::Inbound);
        self.accepted(now, arrival.source, header, &mut packet[inner..], parsed, out);
    }

    /// A packet of a member: what it is to this stack.
    pub(super) fn accepted(
        &mut self,
        now: Instant,
        member: IpAddr,
        header: GreHeader,
        inner: &mut [u8],
        mut parsed: Parsed,
        out: &mut Output,
    ) {
        let vnet = match header.segment {
            0 => VnetHeader::default(),
            size => match super_header(&parsed, size) {
                Some(vnet) => vnet,
                None => {
                    return self.drop_packet(now, DropReason::GreBadKey, Some(member), out, || {
                        format!("GRE from {member}: segments of {size} octets")
                    });
                }
            },
        };
        parsed.df &= !header.fragmentable;
        let (from, to) = (self.role(parsed.source), self.role(parsed.destination));
        let sealed = header.clear && is_sealed(&parsed);
        let early = Stage::FromMember { member, header };
        let verdict = match (from, to) {
            (None, Some(role @ (HomeRole::Target { .. } | HomeRole::Moving { .. }))) if !sealed => {
                self.at_target(now, role, header, vnet, inner, &parsed, out)
            }
            (None, Some(HomeRole::Owner)) if header.clear => {
                self.stray(now, vnet, inner, &parsed, out);
                Ok(())
            }
            (None, Some(HomeRole::Target { .. } | HomeRole::Backup)) if sealed => {
                self.hold_early(now, parsed.destination, &inner[..parsed.total_len], early)
            }
            (Some(HomeRole::Owner), None) => self
                .as_owner(from)
                .and_then(|()| self.at_distributor(now, member, header, vnet, inner, &parsed, out)),
            (Some(HomeRole::Moving { distributor: Some(to) }), None) if !header.forwarded && to != member => {
                self.forward_outbound(to, header, inner, &parsed, out);
                Ok(())
            }
            (Some(HomeRole::Target { .. } | HomeRole::Backup), None) if !header.clear => {
                self.hold_early(now, parsed.source, &inner[..parsed.total_len], early)
            }
            _ => Err(DropReason::GreNotDvipa),
        };
        if let Err(reason) = verdict {
            let s = subject(&parsed, Direction::Inbound, false);
            self.drop_packet(now, reason, Some(member), out, || format!("GRE from {member}: {}", Line(&s)));
        }
    }

    /// The arrival check: outer addresses first, then the header, then what is inside.
    fn arrived(&self, arrival: RawArrival, packet: &[u8]) -> Result<(GreHeader, usize, Parsed), DropReason> {
        let own = self.own_xcf.ok_or(DropReason::GreNotXcf)?;
        if arrival.destination != own {
            return Err(DropReason::GreBadDestination);
        }
        if arrival.source == own || !self.members.contains(&arrival.source) {
            return Err(DropReason::GreBadSource);
        }
        let (header, at) = GreHeader::parse(packet).map_err(|e| match e {
            GreError::Short(_) => DropReason::GreTruncated,
            GreError::Version(_) | GreError::Flags(_) => DropReason::GreBadFlags,
            GreError::Protocol(_) => DropReason::GreBadProtocol,
            GreError::Key(_) => DropReason::GreBadKey,
        })?;
        let parsed = Parsed::parse(&packet[at..]).map_err(|_| DropReason::MalformedPacket)?;
        if header.v6 != (parsed.version == IpVersion::V6) {
            return Err(DropReason::GreBadProtocol);
        }
        if parsed.protocol == protocol::GRE {
            return Err(DropReason::GreInGre);
        }
        // Both ends reassemble before they send.
        if parsed.fragment.is_some() || self.is_xcf(parsed.source) || self.is_xcf(parsed.destination) {
            return Err(DropReason::MalformedPacket);
        }
        Ok((header, at, parsed))
    }

    /// At a target: the distributor has filtered it (J1 to J5); what came to it in clear we filter ourselves.
    #[expect(
        clippy::too_many_arguments,
        reason = "a packet is its header, bytes and meaning; these go together everywhere"
    )]
    fn at_target(
        &mut self,
        now: Instant,
        role: HomeRole,
        header: GreHeader,
        vnet: VnetHeader,
        packet: &mut [u8],
        parsed: &Parsed,
        out: &mut Output,
    ) -> Result<(), DropReason> {
        if header.forwarded {
            // Only what is on its way out is given on.
            return Err(DropReason::GreBadKey);
        }
        if header.clear {
            self.inbound(now, None, vnet, packet, parsed, out);
            return Ok(());
        }
        let about = Quoted::of(parsed, packet).is_some();
        if let Some(key) = key_inbound(parsed).filter(|_| !about) {
            let signs = signs(parsed);
            let id = match self.connections.find(&key) {
                Some(id) => id,
                // What was given up takes nothing new.
                None if matches!(role, HomeRole::Moving { .. }) && signs.opens() => {
                    return Err(DropReason::GreNotDvipa);
                }
                None => self
                    .connections
                    .insert(now, key, Place::Here, true, 0)
                    .map_err(|_| DropReason::ConnectionTableFull)?,
            };
            self.connections.set_routed(id, true);
            self.connections.seen(now, id, Way::In, signs);
        }
        if vnet.is_super() {
            Self::give_host(&vnet, packet, parsed, out);
        } else {
            self.give_host_joined(packet, parsed, out);
        }
        Ok(())
    }

    /// At the distributor: from a target, to be protected (O1 to O7).
    #[expect(
        clippy::too_many_arguments,
        reason = "a packet is its header, bytes and meaning; these go together everywhere"
    )]
    fn at_distributor(
        &mut self,
        now: Instant,
        target: IpAddr,
        header: GreHeader,
        vnet: VnetHeader,
        packet: &mut [u8],
        parsed: &Parsed,
        out: &mut Output,
    ) -> Result<(), DropReason> {
        if header.clear {
            // Only a distributor says so.
            return Err(DropReason::GreBadKey);
        }
        let about = Quoted::of(parsed, packet).filter(|q| q.destination == parsed.source);
        let key = match about.as_ref() {
            Some(q) => q.connection_to_local(),
            None => key_outbound(parsed),
        };
        let key = key.ok_or(DropReason::GreUnknownFlow)?;
        let target = if header.forwarded {
            match self.forwarded_for(now, target, &key) {
                Some(target) => target,
                // Which target has the flow is about to be told.
                None if self.rebuilds.holds(key.local) && self.connections.find(&key).is_none() => {
                    let stage = Stage::FromMember { member: target, header };
                    return self.hold_early(now, key.local, &packet[..parsed.total_len], stage);
                }
                None => return Err(DropReason::GreNotOwner),
            }
        } else {
            target
        };
        let signs = signs(parsed);
        let known = self.connections.find(&key);
        // A SYN of a flow that is over is a new one's.
        let stale = known.filter(|id| signs.opens() && self.connections.get(*id).state() == State::Closing);
        if let Some(id) = stale {
            self.connections.remove(id);
        }
        match known.filter(|_| stale.is_none()) {
            Some(id) => {
                if self.connections.get(id).place != Place::At(target) {
                    return Err(DropReason::GreNotOwner);
                }
                if about.is_none() {
                    // The target decides by arrival in GRE or by its own policy that a flow is protected (J5, 4.1).
                    self.connections.set_routed(id, true);
                    self.connections.seen(now, id, Way::Out, signs);
                }
            }
            None => {
                let opens = about.is_none() && (!signs.tcp || signs.opens());
                // A target whose list of connections is still to come tells of one of them.
                let tells = about.is_none() && self.rebuilds.holds(key.local);
                if !tells && (!opens || !self.distributor.is_target(key.local, target)) {
                    return Err(DropReason::GreUnknownFlow);
                }
                let stage = if opens { FlowStage::Opening } else { FlowStage::Open };
                self.adopt(now, target, &FlowRecord { key, ipsec_routed: true, stage });
                let id = self.connections.find(&key).ok_or(DropReason::ConnectionTableFull)?;
                self.connections.seen(now, id, Way::Out, signs);
            }
        }
        self.judge_outbound(now, Origin::Target(target), &vnet, packet, parsed, out);
        Ok(())
    }

    /// Longest inner packet of one GRE packet.
    fn xcf_room(&self) -> usize {
        let ip = if self.own_xcf.is_some_and(|a| a.is_ipv6()) { ipv6::HEADER } else { ipv4::MIN_HEADER };
        let udp = if self.gre_in_udp { udp::HEADER } else { 0 };
        let mtu = usize::try_from(self.links.xcf_mtu).unwrap_or(usize::MAX).min(ipv4::MAX_PACKET);
        mtu.saturating_sub(ip + udp + MAX_HEADER)
    }

    /// Sends a packet to another stack; super-packets whole where they fit, single ones joined where that helps.
    #[expect(clippy::too_many_arguments, reason = "as at_distributor")]
    pub(super) fn send_xcf(
        &mut self,
        now: Instant,
        remote: IpAddr,
        clear: bool,
        header: &VnetHeader,
        packet: &mut [u8],
        parsed: &Parsed,
        out: &mut Output,
    ) {
        let room = self.xcf_room();
        self.spd.count_xcf(Direction::Outbound);
        let v6 = parsed.version == IpVersion::V6;
        // IPv4 says it in its own header.
        let fragmentable = v6 && !parsed.df;
        let gre = GreHeader { v6, clear, fragmentable, ..GreHeader::default() };
        let tcp = parsed.protocol == protocol::TCP;
        if !header.is_super() {
            if segment::complete_checksum(header, packet).is_err() {
                return self.drops.count(DropReason::MalformedPacket);
            }
            let limits = Limits { bytes: room, udp: false };
            let to = To::Xcf { remote, clear, fragmentable };
            return self.joined.push(to, packet, parsed, limits, out, emit);
        }
        // What was collected before must not be overtaken by the super-packet.
        self.joined.flush(out, emit);
        if tcp && parsed.total_len <= room {
            let range = start_packet(out, packet, parsed);
            let header = GreHeader { segment: header.gso_size, ..gre };
            return put(out, remote, header, range, parsed.tos);
        }
        // The kernel fragments what does not fit even so: an outer packet may be (DF 0, spec 5.1).
        let limit = if room < parsed.header_len + MIN_SEGMENT { ipv4::MAX_PACKET } else { room };
        let tos = parsed.tos;
        let cut = segment::split(header, packet, parsed, limit, MAX_HEADER, out, |out, range| {
            put(out, remote, gre, range, tos);
        });
        if let Err(e) = cut {
            let s = subject(parsed, Direction::Outbound, false);
            self.drop_packet(now, e.into(), Some(parsed.source), out, || format!("{}: {e}", Line(&s)));
        }
    }

    /// Gives a packet to the host, joined with others of its flow where that is possible.
    pub(super) fn give_host_joined(&mut self, packet: &[u8], parsed: &Parsed, out: &mut Output) {
        let limits = Limits { bytes: super::coalesce::MAX_SUPER, udp: true };
        self.joined.push(To::Host, packet, parsed, limits, out, emit);
    }
}

/// Room for headers and some data; a narrower XCF is a mistake.
const MIN_SEGMENT: usize = 512;

/// Puts out what the coalescer has completed.
pub(super) fn emit(out: &mut Output, to: To, done: Complete) {
    match to {
        To::Host => done.to_host(out),
        To::Xcf { remote, clear, fragmentable } => {
            let first = out.bytes.get(done.packet.start).copied().unwrap_or(0);
            let v6 = first >> 4 == 6;
            let second = out.bytes.get(done.packet.start + 1).copied().unwrap_or(0);
            let tos = if v6 { first << 4 | second >> 4 } else { second };
            let segment = if done.vnet.is_super() { done.vnet.gso_size } else { 0 };
            let header = GreHeader { v6, clear, fragmentable, segment, ..GreHeader::default() };
            put(out, remote, header, done.packet, tos);
        }
    }
}

/// Appends a packet with room for a GRE header before it.
pub(super) fn start_packet(out: &mut Output, packet: &[u8], parsed: &Parsed) -> std::ops::Range<usize> {
    out.bytes.extend_from_slice(&[0; MAX_HEADER]);
    let start = out.bytes.len();
    out.bytes.extend_from_slice(packet.get(..parsed.total_len).unwrap_or(packet));
    start..out.bytes.len()
}

/// Writes the GRE header before a packet in the arena and puts both out.
pub(super) fn put(
    out: &mut Output,
    remote: IpAddr,
    header: GreHeader,
    packet: std::ops::Range<usize>,
    tos: u8,
) {
    let start = packet.start - header.len();
    header.write_before(&mut out.bytes[start..packet.start]);
    out.xcf.push(XcfSend { remote, range: start..packet.end, tos });
}
