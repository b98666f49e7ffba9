//! From the TUN, and everything that wants out: local applications, answers of targets, forwarded packets.
//!
//! The TUN gives what routing takes away from the kernel (design: ways of a packet): packets with a home address as source
//! (applications), as destination (the network: in clear, AH, or fragments of IKE and ESP), and neither (forwarded).

use super::acquire::{Held, Queued};
use super::connection::{Place, Way};
use super::filter::{self, Subject};
use super::hold::Stage;
use super::icmp::{Quoted, may_answer};
use super::inbound::{FRAGMENTS_CLEAR, FRAGMENTS_LOCAL};
use super::io::{FlowRecord, FlowStage, Output, RawArrival, ToGroup, VnetHeader};
use super::natt::{self, Whose};
use super::network::{IKE_PORT, NATT_PORT};
use super::roles::HomeRole;
use super::sad::SaHandle;
use super::segment::{self, SegmentError};
use super::spd::Outbound;
use super::verdict::DropReason;
use super::{Engine, Line, key_outbound, signs, subject};
use crate::control::{Direction, FilterAction};
use crate::wire::icmp as wire_icmp;
use crate::wire::packet::{IpVersion, Parsed, Upper};
use crate::wire::{icmp, ipv4, protocol, vnet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long a packet waits for an owner: by then TCP has sent it again (R11).
const UNDIRECTED_LIFE: Duration = Duration::from_secs(2);

/// The packet with another destination port.
fn to_port(s: Subject, port: u16) -> Subject {
    match s.upper {
        filter::Upper::Ports { source, opens, .. } => {
            Subject { upper: filter::Upper::Ports { source, destination: port, opens }, ..s }
        }
        filter::Upper::Type { .. } | filter::Upper::None | filter::Upper::Opaque => s,
    }
}

/// Where an outbound packet comes from, and thus who hears of its failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// An application on this stack.
    Local,
    /// The target with this XCF address.
    Target(IpAddr),
    /// A host that this stack forwards for.
    Routed,
}

impl Engine {
    /// A packet from the TUN, maybe a super-packet.
    pub fn handle_host(&mut self, now: Instant, header: VnetHeader, packet: &mut [u8], out: &mut Output) {
        let parsed = match Parsed::parse(packet) {
            Ok(parsed) => parsed,
            Err(e) => {
                return self.drop_packet(now, DropReason::MalformedPacket, None, out, || e.to_string());
            }
        };
        let (from, to) = (self.role(parsed.source), self.role(parsed.destination));
        match (from, to) {
            _ if self.is_xcf(parsed.destination) || self.is_xcf(parsed.source) => {
                let s = subject(&parsed, Direction::Inbound, to.is_none());
                self.drop_packet(now, DropReason::GreNotXcf, Some(parsed.source), out, || {
                    Line(&s).to_string()
                });
            }
            // Between two home addresses packets stay on `lo`.
            (Some(_), Some(_)) => {
                let s = subject(&parsed, Direction::Inbound, false);
                self.drop_packet(now, DropReason::ForgedFromHome, Some(parsed.source), out, || {
                    Line(&s).to_string()
                });
            }
            (Some(role), None) => self.local(now, role, header, packet, &parsed, out),
            (None, Some(_)) => self.clear(now, header, packet, &parsed, out),
            (None, None) => self.routed(now, None, header, packet, &parsed, out),
        }
    }

    /// Cleartext of the network to a home address; fragmented IKE and ESP among it.
    fn clear(
        &mut self,
        now: Instant,
        header: VnetHeader,
        packet: &mut [u8],
        parsed: &Parsed,
        out: &mut Output,
    ) {
        if parsed.fragment.is_some() {
            if self.defend_fragment(now, parsed, Direction::Inbound, out) {
                return;
            }
            if let Some((mut whole, parsed)) = self.reassemble(now, FRAGMENTS_CLEAR, packet, parsed, out) {
                self.clear(now, VnetHeader::default(), &mut whole, &parsed, out);
            }
            return;
        }
        match (parsed.protocol, parsed.upper) {
            (protocol::UDP, Upper::Ports { destination: IKE_PORT | NATT_PORT, .. }) if !header.is_super() => {
                self.reassembled_udp(now, parsed, packet, out);
            }
            (protocol::ESP, _) => {
                let arrival =
                    RawArrival { source: parsed.source, destination: parsed.destination, tos: parsed.tos };
                if let Some(esp) = packet.get_mut(parsed.header_len..parsed.total_len) {
                    self.handle_esp(now, arrival, esp, out);
                }
            }
            (protocol::AH, _) if !header.is_super() => self.handle_ah(now, parsed, packet, out),
            (protocol::ICMP | protocol::ICMPV6, _) if self.about_ourselves(now, packet, parsed, out) => {}
            _ => self.inbound(now, None, header, packet, parsed, out),
        }
    }

    /// ICMP errors about our own IKE and ESP: only a report of a smaller path, that quotes a live SPI and its peer, is
    /// of use (T39); nobody else is to see them.
    fn about_ourselves(&mut self, now: Instant, packet: &[u8], parsed: &Parsed, out: &mut Output) -> bool {
        let Some(quoted) = Quoted::of(parsed, packet) else { return false };
        if quoted.source != parsed.destination {
            return false;
        }
        let in_udp = quoted.protocol == protocol::UDP
            && quoted.ports.is_some_and(|(from, _)| matches!(from, IKE_PORT | NATT_PORT));
        if !matches!(quoted.protocol, protocol::ESP | protocol::AH) && !in_udp {
            return false;
        }
        let v6 = parsed.version == IpVersion::V6;
        let mtu = packet
            .get(parsed.header_len..parsed.total_len)
            .and_then(|m| wire_icmp::Icmp::new_checked(m, v6))
            .and_then(|m| m.mtu());
        let own = quoted.spi.and_then(|spi| self.spi_out.get(&spi));
        let live = own.into_iter().flatten().filter_map(|i| self.sad.get(self.sad.lookup(*i)?)).any(|sa| {
            let p = sa.pair();
            let ports = p.udp.is_none() != in_udp && p.udp.is_none_or(|u| quoted.ports == Some(u));
            sa.is_between(quoted.source, quoted.destination) && ports
        });
        match mtu {
            Some(mtu) if live => {
                // Zero: a router older than RFC 1191.
                let mtu = if mtu == 0 { super::pmtu::MIN_V4 } else { u16::try_from(mtu).unwrap_or(u16::MAX) };
                self.path_mtu(now, quoted.destination, mtu);
                self.drops.count(DropReason::IcmpConsumed);
            }
            _ => {
                let source = parsed.source;
                self.drop_packet(now, DropReason::IcmpUnrelated, Some(source), out, || {
                    format!("ICMP of {source} about {} -> {}", quoted.source, quoted.destination)
                });
            }
        }
        true
    }

    /// A packet of an application on this stack (spec 4.1).
    pub(super) fn local(
        &mut self,
        now: Instant,
        role: HomeRole,
        header: VnetHeader,
        packet: &mut [u8],
        parsed: &Parsed,
        out: &mut Output,
    ) {
        if parsed.fragment.is_some() {
            if self.defend_fragment(now, parsed, Direction::Outbound, out) {
                return;
            }
            if let Some((mut whole, mut parsed)) = self.reassemble(now, FRAGMENTS_LOCAL, packet, parsed, out)
            {
                // What its source has cut may be cut again (of IPv6, where nobody else may: RFC 8200 section 4.5).
                parsed.df = false;
                self.local(now, role, VnetHeader::default(), &mut whole, &parsed, out);
            }
            return;
        }
        let dropped = |reason| {
            let s = subject(parsed, Direction::Outbound, false);
            (reason, move || Line(&s).to_string())
        };
        match role {
            HomeRole::Backup => {
                let (reason, about) = dropped(DropReason::NoDistributor);
                return self.drop_packet(now, reason, Some(parsed.source), out, about);
            }
            HomeRole::Static => {}
            HomeRole::Owner => match self.as_owner(Some(role)) {
                Ok(()) => self.note_local(now, packet, parsed),
                Err(reason) => {
                    let (reason, about) = dropped(reason);
                    return self.drop_packet(now, reason, Some(parsed.source), out, about);
                }
            },
            HomeRole::Target { distributor } | HomeRole::Moving { distributor } => {
                let failed = match self.goes_to_distributor(now, role, packet, parsed) {
                    Ok(false) => None,
                    Ok(true) => match distributor {
                        Some(xcf) => return self.send_xcf(now, xcf, false, &header, packet, parsed, out),
                        None => {
                            let bytes = packet.get(..parsed.total_len).unwrap_or(packet);
                            let stage = Stage::Undirected;
                            let dvipa = parsed.source;
                            match self.undirected.push(now, UNDIRECTED_LIFE, dvipa, header, bytes, stage) {
                                Ok(()) => return,
                                Err(reason) => Some(reason),
                            }
                        }
                    },
                    Err(reason) => Some(reason),
                };
                if let Some(reason) = failed {
                    let (reason, about) = dropped(reason);
                    return self.drop_packet(now, reason, Some(parsed.source), out, about);
                }
            }
        }
        self.judge_outbound(now, Origin::Local, &header, packet, parsed, out);
    }

    /// A flow that ends at the owner stands in the table too: a takeover must find it, and so must a restart, of which the
    /// applications here know nothing.
    fn note_local(&mut self, now: Instant, packet: &[u8], parsed: &Parsed) {
        let about = Quoted::of(parsed, packet).is_some();
        let Some(key) = key_outbound(parsed).filter(|_| !about) else { return };
        let signs = signs(parsed);
        let id = match self.connections.find(&key) {
            Some(id) if self.connections.get(id).place == Place::Here => id,
            Some(_) => return,
            None if signs.rst => return,
            None => {
                let slot = self.distributor.slot_of(&key, Place::Here);
                // A full table is no reason to refuse what ends here.
                let Ok(id) = self.connections.insert(now, key, Place::Here, true, slot) else { return };
                id
            }
        };
        self.connections.seen(now, id, Way::Out, signs);
    }

    /// Whether the packet of a DVIPA that another stack owns is that stack's to protect (claims 11, 12, 30, 31).
    fn goes_to_distributor(
        &mut self,
        now: Instant,
        role: HomeRole,
        packet: &[u8],
        parsed: &Parsed,
    ) -> Result<bool, DropReason> {
        let about = Quoted::of(parsed, packet).filter(|q| q.destination == parsed.source);
        let key = match about.as_ref() {
            Some(q) => q.connection_to_local(),
            None => key_outbound(parsed),
        };
        let signs = signs(parsed);
        let known = key.and_then(|key| self.connections.find(&key));
        if let Some(id) = known.filter(|id| self.connections.get(*id).ipsec_routed) {
            if about.is_none() {
                self.connections.seen(now, id, Way::Out, signs);
            }
            return Ok(true);
        }
        let s = subject(parsed, Direction::Outbound, false);
        let flow = about.map(|q| q.subject(Direction::Inbound).reversed());
        let action = self.spd.would(&s, flow.as_ref());
        let routed = matches!(action, Some(FilterAction::Ipsec { .. }));
        let flow_key = key.filter(|_| about.is_none());
        match (known, flow_key) {
            (Some(id), Some(_)) => {
                if routed {
                    self.connections.set_routed(id, true);
                }
                self.note_packet(now, id, role, Way::Out, signs);
            }
            (None, Some(key)) if routed => {
                let id = self
                    .connections
                    .insert(now, key, Place::Here, true, 0)
                    .map_err(|_| DropReason::ConnectionTableFull)?;
                self.connections.seen(now, id, Way::Out, signs);
                if signs.tcp && !signs.opens() && !signs.rst {
                    // This stack has restarted and forgotten it; the owner may not know it either (spec 4.1).
                    let flow = FlowRecord { key, ipsec_routed: true, stage: FlowStage::Open };
                    self.tell_opened(now, role, flow);
                }
            }
            (None, Some(key)) if action == Some(FilterAction::Permit) && !signs.rst => {
                // Its answers come to the owner, who has seen nothing of it (NEWCONN).
                if let Ok(id) = self.connections.insert(now, key, Place::Here, false, 0) {
                    self.note_packet(now, id, role, Way::Out, signs);
                    let flow = self.connections.get(id).record();
                    self.tell_opened(now, role, flow);
                }
            }
            _ => {}
        }
        Ok(routed)
    }

    /// Tells the owner of a flow that did not come by it (NEWCONN).
    fn tell_opened(&mut self, now: Instant, role: HomeRole, flow: FlowRecord) {
        if let HomeRole::Target { distributor: Some(to) } | HomeRole::Moving { distributor: Some(to) } = role
        {
            self.group.push(ToGroup::Opened { to, flow });
            self.due.get_or_insert(now);
        }
    }

    /// The filters on a packet that wants out, and what they say.
    pub(super) fn judge_outbound(
        &mut self,
        now: Instant,
        origin: Origin,
        header: &VnetHeader,
        packet: &mut [u8],
        parsed: &Parsed,
        out: &mut Output,
    ) {
        let s = subject(parsed, Direction::Outbound, origin == Origin::Routed);
        if self.defend(now, &s, out) {
            return;
        }
        let about = Quoted::of(parsed, packet).filter(|q| q.destination == parsed.source);
        let flow = about.map(|q| q.subject(Direction::Inbound).reversed());
        let resolution = match self.nat.outbound(now, parsed) {
            Whose::Nobodys => None,
            Whose::Tunnel(tunnel, original) => Some((tunnel, original)),
            // By another tunnel it would reach another client.
            Whose::Absent => {
                return self.drop_packet(now, DropReason::NoSa, Some(parsed.source), out, || {
                    format!("{}: its client has not come back", Line(&s))
                });
            }
        };
        let original = resolution.map(|(_, original)| to_port(s, original));
        let resolved = resolution.zip(original.as_ref()).map(|((tunnel, _), original)| (tunnel, original));
        match self.spd.outbound_by(&s, flow.as_ref(), resolved) {
            Ok((way, admitted)) => {
                if admitted.log {
                    self.log_permit(now, admitted.rule, &s, out);
                }
                match way {
                    // A target sends here only what must be protected: in clear it would be a leak (T43, R7).
                    Outbound::Clear if matches!(origin, Origin::Target(_)) => {
                        self.drop_packet(now, DropReason::GreClearOutbound, Some(parsed.source), out, || {
                            Line(&s).to_string()
                        });
                    }
                    Outbound::Clear if self.may_not_own(parsed.source) => {
                        let about = || Line(&s).to_string();
                        self.drop_packet(now, DropReason::LeaseEnded, Some(parsed.source), out, about);
                    }
                    Outbound::Clear => Self::give_host(header, packet, parsed, out),
                    Outbound::Protect { spi_in } => {
                        if let Some((_, original)) =
                            resolution.filter(|(tunnel, _)| self.spd.tunnel_of(spi_in) == Some(*tunnel))
                        {
                            let partial = header.flags & vnet::NEEDS_CSUM != 0;
                            natt::restore_port(packet, parsed, original, partial);
                        }
                        self.protect(now, spi_in, origin, header, packet, parsed, out)
                    }
                    Outbound::Wanted { rule } => self.want(now, rule, origin, header, packet, parsed, out),
                }
            }
            Err(denied) => {
                self.drop_denied(now, denied, &s, out);
                // A local sender always hears of it (policy 4.3); others where the rule says so.
                if denied.tell || origin == Origin::Local {
                    self.tell(now, origin, packet, parsed, icmp::Error::Prohibited, out);
                }
            }
        }
    }

    /// Seals a packet and sends it to the peer.
    #[expect(
        clippy::too_many_arguments,
        reason = "a packet is its header, bytes and meaning; these go together everywhere"
    )]
    fn protect(
        &mut self,
        now: Instant,
        spi_in: u32,
        origin: Origin,
        header: &VnetHeader,
        packet: &mut [u8],
        parsed: &Parsed,
        out: &mut Output,
    ) {
        let Some(handle) = self.sad.lookup(spi_in) else {
            let s = subject(parsed, Direction::Outbound, false);
            return self
                .drop_packet(now, DropReason::NoSa, Some(parsed.source), out, || Line(&s).to_string());
        };
        if !self.turn(now, handle, parsed) {
            let s = subject(parsed, Direction::Outbound, false);
            let about = || Line(&s).to_string();
            return self.drop_packet(now, SegmentError::Transport.into(), Some(parsed.source), out, about);
        }
        let (local, fits) = self
            .sad
            .get(handle)
            .map_or((None, 0), |sa| (Some(sa.pair().local), sa.max_inner(usize::from(sa.path_mtu()))));
        if local.is_some_and(|a| self.may_not_own(a)) {
            let s = subject(parsed, Direction::Outbound, false);
            let about = || Line(&s).to_string();
            return self.drop_packet(now, DropReason::LeaseEnded, Some(parsed.source), out, about);
        }
        self.clamp(parsed, packet, header, fits);
        let Some(sa) = self.sad.get_mut(handle) else { return };
        // What may be fragmented is sealed whole, and the network fragments the ESP packet (RFC 4301 section 8.2.1).
        let limit = if parsed.df || header.is_super() { fits } else { ipv4::MAX_PACKET };
        let sealed = segment::seal(sa, header, packet, parsed, limit, out);
        self.note_ceiling(handle, out);
        match sealed {
            Ok(_) => {}
            Err(SegmentError::TooBig { .. }) => {
                let s = subject(parsed, Direction::Outbound, false);
                let length = parsed.total_len;
                self.drop_packet(now, DropReason::TooBig, Some(parsed.source), out, || {
                    format!("{}, {length} octets where {fits} fit", Line(&s))
                });
                let mtu = u16::try_from(fits).unwrap_or(u16::MAX);
                self.tell(now, origin, packet, parsed, icmp::Error::TooBig(mtu), out);
            }
            Err(e @ (SegmentError::NoNumber(_) | SegmentError::Offload | SegmentError::Transport)) => {
                let s = subject(parsed, Direction::Outbound, false);
                self.drop_packet(now, e.into(), Some(parsed.source), out, || format!("{}: {e}", Line(&s)));
            }
        }
    }

    /// Turns a pair with open ends to a packet that it is to protect. False: it cannot protect it.
    fn turn(&mut self, now: Instant, handle: SaHandle, parsed: &Parsed) -> bool {
        let Some(sa) = self.sad.get_mut(handle).filter(|sa| sa.is_open()) else { return true };
        if !sa.face(parsed.source, parsed.destination) {
            return false;
        }
        let (local, remote) = (sa.pair().local, sa.pair().remote);
        sa.set_path_mtu(self.path_mtu.of(now, remote));
        // What is forwarded has no end here.
        self.homes.contains_key(&local)
    }

    /// Lets a packet wait for an SA, and asks for one.
    #[expect(clippy::too_many_arguments, reason = "as protect")]
    fn want(
        &mut self,
        now: Instant,
        rule: usize,
        origin: Origin,
        header: &VnetHeader,
        packet: &[u8],
        parsed: &Parsed,
        out: &mut Output,
    ) {
        let s = subject(parsed, Direction::Outbound, origin == Origin::Routed);
        let Some(anchor) = self.spd.anchor(rule) else { return };
        let bytes = packet.get(..parsed.total_len).unwrap_or(packet);
        let held = || Held { header: *header, packet: bytes.to_vec(), from: origin, df: parsed.df };
        let reason = match self.acquires.wait(now, anchor, &s, bytes.len(), held) {
            Queued::Ask(acquire) => return out.acquires.push(acquire),
            Queued::Waits => return,
            Queued::Full => DropReason::AcquireQueueFull,
            Queued::Failed => DropReason::AcquireFailed,
        };
        self.drop_packet(now, reason, Some(parsed.source), out, || Line(&s).to_string());
    }

    /// What waited for an SA that has come tries again.
    pub(super) fn release_held(&mut self, now: Instant, out: &mut Output) {
        if !self.acquires.has_ready() {
            return;
        }
        for mut held in self.acquires.take_ready() {
            if let Ok(mut parsed) = Parsed::parse(&held.packet) {
                parsed.df = held.df;
                self.judge_outbound(now, held.from, &held.header, &mut held.packet, &parsed, out);
            }
        }
    }

    /// Tells the sender of a packet that it goes nowhere, within limits.
    pub(super) fn tell(
        &mut self,
        now: Instant,
        origin: Origin,
        packet: &[u8],
        parsed: &Parsed,
        error: icmp::Error,
        out: &mut Output,
    ) {
        if !may_answer(parsed) || !self.errors.take(now) {
            return;
        }
        // The error comes from where the packet wanted to go: an address that every host takes errors from.
        let mut message = Vec::new();
        if !icmp::write_error(&mut message, parsed.destination, packet, error) {
            return;
        }
        let Ok(p) = Parsed::parse(&message) else { return };
        let header = VnetHeader::default();
        match origin {
            Origin::Local | Origin::Routed => Self::give_host(&header, &message, &p, out),
            Origin::Target(xcf) => self.send_xcf(now, xcf, false, &header, &mut message, &p, out),
        }
    }

    /// Gives a packet to the TUN as it is: to an application, or for the kernel to route.
    pub(super) fn give_host(header: &VnetHeader, packet: &[u8], parsed: &Parsed, out: &mut Output) {
        let start = out.bytes.len();
        out.bytes.extend_from_slice(&header.to_bytes());
        out.bytes.extend_from_slice(packet.get(..parsed.total_len).unwrap_or(packet));
        out.host.push(start..out.bytes.len());
    }
}
