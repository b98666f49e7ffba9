//! Packets for this host, opened by an SA or in clear: are they what they must be, and who gets them (I5 to I11)?

use super::connection::{Place, Way};
use super::distribute::Choice;
use super::filter::Subject;
use super::icmp::Quoted;
use super::io::{Output, VnetHeader};
use super::network::{IKE_PORT, NATT_PORT};
use super::outbound::Origin;
use super::verdict::DropReason;
use super::{Engine, HomeRole, Line, key_inbound, pmtu, signs, subject};
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
        if parsed.fragment.is_some() {
            let origin = through.map_or(FRAGMENTS_CLEAR, |t| FRAGMENTS_TUNNEL + u64::from(t.tunnel));
            if let Some((mut whole, parsed)) = self.reassemble(now, origin, packet, parsed, out) {
                self.inbound(now, through, VnetHeader::default(), &mut whole, &parsed, out);
            }
            return;
        }
        let s = subject(parsed, Direction::Inbound, false);
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
        let place = match role {
            HomeRole::Owner => match self.place(now, parsed, about.as_ref(), through.is_some()) {
                Ok(place) => place,
                Err(reason) => {
                    return self.drop_packet(now, reason, Some(parsed.source), out, || Line(&s).to_string());
                }
            },
            HomeRole::Static | HomeRole::Target { .. } | HomeRole::Backup => Place::Here,
        };
        match place {
            Place::Here if through.is_some() => self.give_host_joined(packet, parsed, out),
            Place::Here => Self::give_host(&header, packet, parsed, out),
            Place::At(xcf) => self.send_xcf(now, xcf, through.is_none(), &header, packet, parsed, out),
        }
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
    fn place(
        &mut self,
        now: Instant,
        parsed: &Parsed,
        about: Option<&Quoted>,
        protected: bool,
    ) -> Result<Place, DropReason> {
        if let Some(key) = about.and_then(Quoted::connection_from_local) {
            // An error follows the flow that it quotes; it is no sign of life of that flow.
            return Ok(self.connections.find(&key).map_or(Place::Here, |id| self.connections.get(id).place));
        }
        let Some(key) = key_inbound(parsed) else { return Ok(Place::Here) };
        let signs = signs(parsed);
        if let Some(id) = self.connections.find(&key) {
            let known = self.connections.get(id);
            // A SYN for a flow that is over opens a new one; for any other it is the old one's to answer (T44).
            if !(signs.opens() && known.state() == super::connection::State::Closing) {
                let place = known.place;
                self.connections.seen(now, id, Way::In, signs);
                return Ok(place);
            }
            self.connections.remove(id);
        }
        if signs.tcp && !signs.opens() {
            return Ok(Place::Here);
        }
        match self.distributor.choose(key.local, key.protocol, key.local_port, &self.members) {
            Choice::NotDistributed | Choice::NoCandidate => Ok(Place::Here),
            Choice::Target(place, slot) => {
                let id = self
                    .connections
                    .insert(now, key, place, protected, slot)
                    .map_err(|_| DropReason::ConnectionTableFull)?;
                self.connections.seen(now, id, Way::In, signs);
                Ok(place)
            }
        }
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
        let named = self.spd.would(&arriving, None).is_some();
        if named && let Err(denied) = self.spd.inbound(&arriving, None, through.map(|t| t.tunnel)) {
            return self.drop_denied(now, denied, &arriving, out);
        }
        if let Some(t) = through {
            self.clamp(parsed, packet, &header, t.max_inner);
        }
        let leaving = subject(parsed, Direction::Outbound, true);
        if named && self.spd.would(&leaving, None).is_none() {
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
