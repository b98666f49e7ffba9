//! Packets for this host, opened by an SA or in clear: are they what they must be, and who gets them (I5 to I11)?

use super::connection::{Place, State, Way};
use super::distribute::{Choice, Client};
use super::filter::Subject;
use super::hold::Stage;
use super::icmp::Quoted;
use super::io::{Output, VnetHeader};
use super::network::{IKE_PORT, NATT_PORT};
use super::outbound::Origin;
use super::rebuild;
use super::roles::HomeRole;
use super::verdict::DropReason;
use super::{Engine, Line, key_inbound, pmtu, signs, subject};
use crate::control::Direction;
use crate::wire::icmp as wire_icmp;
use crate::wire::packet::{Parsed, Upper};
use crate::wire::protocol;
use crate::wire::tcp::TcpFlags;
use std::net::IpAddr;
use std::time::Instant;

/// Origins of fragments that are never joined with each other; tunnels follow.
pub(super) const FRAGMENTS_CLEAR: u64 = 0;
pub(super) const FRAGMENTS_LOCAL: u64 = 1;
const FRAGMENTS_TUNNEL: u64 = 2;

/// What becomes of a packet for a DVIPA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placing {
    At(Place),
    /// Waits until the table is rebuilt.
    Hold,
    /// New, and nobody can have it: TCP is answered with RST.
    Refuse,
    Drop(DropReason),
}

/// The SA that opened a packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Through {
    pub(super) tunnel: u32,
    /// Longest inner packet of the way back.
    pub(super) max_inner: usize,
}

impl Engine {
    /// A packet to a home address, or one to be forwarded that an SA opened.
    pub(super) fn inbound(
        &mut self,
        now: Instant,
        through: Option<Through>,
        header: VnetHeader,
        packet: &mut [u8],
        parsed: &Parsed,
        out: &mut Output,
    ) {
        if let Some(reason) = self.impossible(parsed, through.is_some()) {
            let s = subject(parsed, Direction::Inbound, false);
            return self.drop_packet(now, reason, Some(parsed.source), out, || Line(&s).to_string());
        }
        let role = match self.role(parsed.destination) {
            None => return self.routed(now, through, header, packet, parsed, out),
            Some(HomeRole::Backup) => {
                let s = subject(parsed, Direction::Inbound, false);
                return self.drop_packet(now, DropReason::NoDistributor, Some(parsed.source), out, || {
                    Line(&s).to_string()
                });
            }
            Some(role) => role,
        };
        if let Err(reason) = self.as_owner(Some(role)) {
            let s = subject(parsed, Direction::Inbound, false);
            return self.drop_packet(now, reason, Some(parsed.source), out, || Line(&s).to_string());
        }
        if parsed.fragment.is_some() {
            if self.defend_fragment(now, parsed, Direction::Inbound, out) {
                return;
            }
            let origin = through.map_or(FRAGMENTS_CLEAR, |t| FRAGMENTS_TUNNEL + u64::from(t.tunnel));
            if let Some((mut whole, parsed)) = self.reassemble(now, origin, packet, parsed, out) {
                self.inbound(now, through, VnetHeader::default(), &mut whole, &parsed, out);
            }
            return;
        }
        let s = subject(parsed, Direction::Inbound, false);
        if self.defend(now, &s, out) {
            return;
        }
        let about = Quoted::of(parsed, packet).filter(|q| q.source == parsed.destination);
        let flow = about.map(|q| q.subject(Direction::Outbound).reversed());
        match self.spd.inbound(&s, flow.as_ref(), through.map(|t| t.tunnel)) {
            Ok(admitted) if admitted.log => self.log_permit(now, admitted.rule, &s, out),
            Ok(_) => {}
            Err(denied) => {
                self.drop_denied(now, denied, &s, out);
                if denied.tell && through.is_none() {
                    self.tell(now, Origin::Local, packet, parsed, wire_icmp::Error::Prohibited, out);
                }
                return;
            }
        }
        if let Some(t) = through {
            self.clamp(parsed, packet, &header, t.max_inner);
        }
        self.admitted(now, role, through, &header, packet, parsed, out);
    }

    /// A packet that the filters let in: to whom.
    #[expect(
        clippy::too_many_arguments,
        reason = "a packet is its header, bytes and meaning; these go together everywhere"
    )]
    pub(super) fn admitted(
        &mut self,
        now: Instant,
        role: HomeRole,
        through: Option<Through>,
        header: &VnetHeader,
        packet: &mut [u8],
        parsed: &Parsed,
        out: &mut Output,
    ) {
        let placing = match role {
            // It may have been held for a while.
            HomeRole::Owner if !self.lease.holds() => Placing::Drop(DropReason::LeaseEnded),
            HomeRole::Owner => self.place(now, packet, parsed, through.is_some()),
            HomeRole::Target { .. } | HomeRole::Moving { .. } => {
                self.place_at_target(now, packet, parsed, role)
            }
            HomeRole::Backup => Placing::Drop(DropReason::NoDistributor),
            HomeRole::Static => Placing::At(Place::Here),
        };
        let reason = match placing {
            Placing::At(Place::Here) if through.is_some() => {
                return self.give_host_joined(packet, parsed, out);
            }
            Placing::At(Place::Here) => return Self::give_host(header, packet, parsed, out),
            Placing::At(Place::At(xcf)) => {
                return self.send_xcf(now, xcf, through.is_none(), header, packet, parsed, out);
            }
            Placing::Hold => {
                let bytes = packet.get(..parsed.total_len).unwrap_or(packet);
                let stage = Stage::Unplaced(through);
                match self.unplaced.push(
                    now,
                    rebuild::LONGEST_WAIT,
                    parsed.destination,
                    *header,
                    bytes,
                    stage,
                ) {
                    Ok(()) => return,
                    Err(reason) => reason,
                }
            }
            Placing::Refuse => {
                self.refuse(now, packet, parsed, out);
                DropReason::NoTarget
            }
            Placing::Drop(reason) => reason,
        };
        let s = subject(parsed, Direction::Inbound, false);
        self.drop_packet(now, reason, Some(parsed.source), out, || Line(&s).to_string());
    }

    /// Packets that nobody can rightly have sent to us (T37, T41).
    fn impossible(&self, p: &Parsed, opened: bool) -> Option<DropReason> {
        if self.homes.contains_key(&p.source) {
            return Some(DropReason::ForgedFromHome);
        }
        if self.is_xcf(p.source) || self.is_xcf(p.destination) {
            return Some(DropReason::GreNotXcf);
        }
        let broadcast = IpAddr::from([255, 255, 255, 255]);
        if p.source.is_multicast()
            || p.source.is_loopback()
            || p.source.is_unspecified()
            || p.source == broadcast
        {
            return Some(DropReason::Martian);
        }
        if p.destination.is_loopback() || p.destination.is_unspecified() {
            return Some(DropReason::Martian);
        }
        // What an SA opened is not opened again: one layer is what peers negotiate with us.
        let again = match (p.protocol, p.upper) {
            (protocol::ESP | protocol::AH | protocol::GRE, _) => true,
            (protocol::UDP, Upper::Ports { destination, .. }) => matches!(destination, IKE_PORT | NATT_PORT),
            _ => false,
        };
        (opened && again && self.homes.contains_key(&p.destination)).then_some(DropReason::Nesting)
    }

    /// Which stack has the flow; the choice for a new one (I7, I8).
    fn place(&mut self, now: Instant, packet: &[u8], parsed: &Parsed, protected: bool) -> Placing {
        let about = Quoted::of(parsed, packet).filter(|q| q.source == parsed.destination);
        if let Some(key) = about.as_ref().and_then(Quoted::connection_from_local) {
            // An error follows the flow that it quotes; it is no sign of life of that flow.
            let known = self.connections.find(&key);
            return Placing::At(known.map_or(Place::Here, |id| self.connections.get(id).place));
        }
        let Some(key) = key_inbound(parsed) else { return Placing::At(Place::Here) };
        let signs = signs(parsed);
        if let Some(id) = self.connections.find(&key) {
            let known = self.connections.get(id);
            // A SYN for a flow that is over opens a new one; for any other it is the old one's to answer (T44).
            if !(signs.opens() && known.state() == State::Closing) {
                let place = known.place;
                self.connections.seen(now, id, Way::In, signs);
                return Placing::At(place);
            }
            self.connections.remove(id);
        }
        let opens = signs.opens();
        let rebuilding = self.rebuilds.holds(key.local);
        if rebuilding && !opens {
            return Placing::Hold;
        }
        if signs.tcp && !opens {
            return Placing::At(Place::Here);
        }
        self.note_ended();
        let client = Client { address: key.remote, port: key.remote_port };
        let service = (key.local, key.protocol, key.local_port);
        match self.distributor.choose(now, service, client, &self.members, &self.connections) {
            Choice::NotDistributed => {
                // In the table for the takeover; a full one is no reason to refuse what ends here.
                if let Ok(id) = self.connections.insert(now, key, Place::Here, protected, 0) {
                    self.connections.seen(now, id, Way::In, signs);
                }
                Placing::At(Place::Here)
            }
            // Who is ready may not have been heard yet.
            Choice::NoCandidate if rebuilding => Placing::Hold,
            Choice::NoCandidate => Placing::Refuse,
            Choice::Target { place, slot, affine } => {
                match self.connections.insert(now, key, place, protected, slot) {
                    Ok(id) => {
                        if affine {
                            self.bind_client(now, id);
                        }
                        self.connections.seen(now, id, Way::In, signs);
                        Placing::At(place)
                    }
                    Err(_) => Placing::Drop(DropReason::ConnectionTableFull),
                }
            }
        }
    }

    /// A clear packet at a target: its flow is remembered, because a new owner will ask for it.
    fn place_at_target(&mut self, now: Instant, packet: &[u8], parsed: &Parsed, role: HomeRole) -> Placing {
        let about = Quoted::of(parsed, packet).is_some();
        let Some(key) = key_inbound(parsed).filter(|_| !about) else { return Placing::At(Place::Here) };
        let signs = signs(parsed);
        let known = self.connections.find(&key);
        let id = match known {
            Some(id) => Some(id),
            // What was given up takes nothing new.
            None if matches!(role, HomeRole::Moving { .. }) => {
                return Placing::Drop(DropReason::NoDistributor);
            }
            None if signs.rst => None,
            None => self.connections.insert(now, key, Place::Here, false, 0).ok(),
        };
        if let Some(id) = id {
            self.note_packet(now, id, role, Way::In, signs);
        }
        Placing::At(Place::Here)
    }

    /// Forwarded traffic: neither end is this host. It passes if neither search refuses it and one of them names it; what
    /// an SA opened, or what leaves by one, is thus named by the one ipsec rule of both ends.
    pub(super) fn routed(
        &mut self,
        now: Instant,
        through: Option<Through>,
        header: VnetHeader,
        packet: &mut [u8],
        parsed: &Parsed,
        out: &mut Output,
    ) {
        let arriving = subject(parsed, Direction::Inbound, true);
        if let Some(reason) = self.impossible(parsed, false) {
            return self.drop_packet(now, reason, Some(parsed.source), out, || Line(&arriving).to_string());
        }
        if self.defend(now, &arriving, out) {
            return;
        }
        let named = self.spd.would(&arriving, None).is_some();
        if named && let Err(denied) = self.spd.inbound(&arriving, None, through.map(|t| t.tunnel)) {
            return self.drop_denied(now, denied, &arriving, out);
        }
        if let Some(t) = through {
            self.clamp(parsed, packet, &header, t.max_inner);
        }
        let leaving = subject(parsed, Direction::Outbound, true);
        if named && self.spd.would(&leaving, None).is_none() {
            if self.defend(now, &leaving, out) {
                return;
            }
            if through.is_some() {
                self.give_host_joined(packet, parsed, out);
            } else {
                Self::give_host(&header, packet, parsed, out);
            }
            return;
        }
        self.judge_outbound(now, Origin::Routed, &header, packet, parsed, out);
    }

    /// Lets a SYN announce no larger segments than fit the way (spec section 8).
    pub(super) fn clamp(&self, parsed: &Parsed, packet: &mut [u8], header: &VnetHeader, max_inner: usize) {
        if !parsed.tcp_flags().is_some_and(|f| f.has(TcpFlags::SYN)) {
            return;
        }
        let headers = parsed.header_len + crate::wire::tcp::MIN_HEADER;
        let mss = u16::try_from(max_inner.saturating_sub(headers)).unwrap_or(u16::MAX);
        let partial = header.flags & crate::wire::vnet::NEEDS_CSUM != 0;
        if mss >= MIN_MSS
            && let Some(segment) = packet.get_mut(parsed.header_len..parsed.total_len)
        {
            pmtu::clamp_mss(segment, mss, partial);
        }
    }

    /// Collects a fragment; the packet that it completes.
    pub(super) fn reassemble(
        &mut self,
        now: Instant,
        origin: u64,
        packet: &[u8],
        parsed: &Parsed,
        out: &mut Output,
    ) -> Option<(Vec<u8>, Parsed)> {
        let fragments =
            if origin == FRAGMENTS_CLEAR { &mut self.clear_fragments } else { &mut self.fragments };
        let done = fragments.push(origin, packet, parsed, now);
        self.count_given_up();
        let s: Subject = subject(parsed, Direction::Inbound, false);
        match done {
            Ok(whole) => {
                let whole = whole?;
                match Parsed::parse(&whole) {
                    Ok(p) => Some((whole, p)),
                    Err(e) => {
                        self.drop_packet(now, DropReason::MalformedPacket, Some(parsed.source), out, || {
                            format!("{} reassembled: {e}", Line(&s))
                        });
                        None
                    }
                }
            }
            Err(e) => {
                self.drop_packet(now, e.into(), Some(parsed.source), out, || format!("{}: {e}", Line(&s)));
                None
            }
        }
    }

    /// Counts the fragments that were given up since the last time.
    pub(super) fn count_given_up(&mut self) {
        for fragments in [&mut self.clear_fragments, &mut self.fragments] {
            let lost = fragments.take_given_up();
            self.drops.add(DropReason::ReassemblyTimeout, lost.timed_out);
            self.drops.add(DropReason::ReassemblyFull, lost.evicted);
        }
    }
}

/// No MSS is lowered below this: a path that narrow is a wrong report.
const MIN_MSS: u16 = 256;
