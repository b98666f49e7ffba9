//! From the network: what the sockets of ports 500 and 4500 and of protocol 50 received, and AH, which comes by the TUN.
//!
//! IKE goes to `iked` without asking the filters but the defensive ones (it is the bypass of RFC 4301 section 4.4.1, and has
//! its own defences); ESP is opened, and what was inside goes on to [`super::inbound`]. Until the integrity check nothing of
//! a packet is believed.

use super::connection::{ConnectionKey, State};
use super::esp::{Content, OpenError, Opened};
use super::filter::{Subject, Upper};
use super::hold::Stage;
use super::icmp::Quoted;
use super::inbound::Through;
use super::io::{Output, RawArrival, UdpArrival, VnetHeader};
use super::roles::HomeRole;
use super::sad::{Sa, SaHandle};
use super::udp_encap::{self, Encapsulated, IKE_HEADER};
use super::verdict::DropReason;
use super::{Engine, Line, ah, esp, spd, subject};
use crate::control::{Direction, FilterAction, IkeDatagram, Mode, SaNotice};
use crate::wire::ah::Ah;
use crate::wire::esp::MAX_RESERVED_SPI;
use crate::wire::packet::Parsed;
use crate::wire::{ecn, protocol};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Port of IKE.
pub(super) const IKE_PORT: u16 = 500;
/// Port of IKE and ESP behind a NAT.
pub(super) const NATT_PORT: u16 = 4500;

/// How an ESP packet arrived.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arrival {
    Raw(RawArrival),
    Udp(UdpArrival),
}

impl Arrival {
    fn source(&self) -> IpAddr {
        match self {
            Self::Raw(a) => a.source,
            Self::Udp(a) => a.remote.ip(),
        }
    }
    fn tos(&self) -> u8 {
        match self {
            Self::Raw(a) => a.tos,
            Self::Udp(a) => a.tos,
        }
    }
    pub(super) fn destination(&self) -> IpAddr {
        match self {
            Self::Raw(a) => a.destination,
            Self::Udp(a) => a.local.ip(),
        }
    }
}

impl Engine {
    /// Datagrams of ports 500 and 4500, as UDP_GRO gave them: one read may hold ESP, IKE and a keepalive of the same peer.
    pub fn handle_udp(&mut self, now: Instant, arrival: UdpArrival, buffer: &mut [u8], out: &mut Output) {
        let segment = if arrival.segment == 0 { buffer.len().max(1) } else { arrival.segment };
        if buffer.is_empty() {
            return self.drop_packet(now, DropReason::MalformedUdp, Some(arrival.remote.ip()), out, || {
                format!("empty datagram from {}", arrival.remote)
            });
        }
        for datagram in buffer.chunks_mut(segment) {
            self.datagram(now, arrival, datagram, out);
        }
    }

    fn datagram(&mut self, now: Instant, arrival: UdpArrival, datagram: &mut [u8], out: &mut Output) {
        let source = Some(arrival.remote.ip());
        let length = datagram.len();
        let role = self.role(arrival.local.ip());
        if let Some(HomeRole::Moving { distributor: Some(to) }) = role {
            return self.forward_udp(to, arrival, datagram, out);
        }
        if !role.is_some_and(HomeRole::terminates) {
            return self.drop_packet(now, DropReason::NoDistributor, source, out, || {
                format!("{length} octets from {} to {}", arrival.remote, arrival.local)
            });
        }
        if let Err(reason) = self.as_owner(role) {
            return self.drop_packet(now, reason, source, out, || {
                format!("{length} octets from {} to {}", arrival.remote, arrival.local)
            });
        }
        let ike = match arrival.local.port() {
            NATT_PORT => match udp_encap::classify(datagram) {
                Encapsulated::Esp(_) => return self.open(now, Arrival::Udp(arrival), datagram, out),
                Encapsulated::Ike(at) => Some(at),
                Encapsulated::Keepalive => {
                    return self.drop_packet(now, DropReason::Keepalive, source, out, String::new);
                }
                Encapsulated::Junk => None,
            },
            _ => (length >= IKE_HEADER).then_some(0),
        };
        match ike {
            // They alone: a flood of IKE is what an operator may have to stop.
            Some(_) if self.defend(now, &outer(&Arrival::Udp(arrival), protocol::UDP), out) => {}
            Some(at) => out.ike.push(IkeDatagram {
                local: arrival.local,
                remote: arrival.remote,
                bytes: datagram[at..].to_vec(),
            }),
            None => self.drop_packet(now, DropReason::MalformedUdp, source, out, || {
                format!("{length} octets from {} to {}", arrival.remote, arrival.local)
            }),
        }
    }

    /// IP protocol 50, from the ESP header on.
    pub fn handle_esp(&mut self, now: Instant, arrival: RawArrival, packet: &mut [u8], out: &mut Output) {
        if let Some(HomeRole::Moving { distributor: Some(to) }) = self.role(arrival.destination) {
            return self.forward_esp(to, arrival, packet, out);
        }
        self.open(now, Arrival::Raw(arrival), packet, out);
    }

    /// A UDP datagram of port 500 or 4500 that came by the TUN, because it was fragmented; from its UDP header on.
    pub(super) fn reassembled_udp(
        &mut self,
        now: Instant,
        parsed: &Parsed,
        packet: &mut [u8],
        out: &mut Output,
    ) {
        let (from, to) = parsed.ports();
        let data = (parsed.header_len + crate::wire::udp::HEADER)..parsed.total_len;
        let Some(datagram) = packet.get_mut(data) else { return };
        let arrival = UdpArrival {
            local: SocketAddr::new(parsed.destination, to),
            remote: SocketAddr::new(parsed.source, from),
            segment: datagram.len(),
            tos: parsed.tos,
        };
        self.handle_udp(now, arrival, datagram, out);
    }

    pub(super) fn open(&mut self, now: Instant, arrival: Arrival, packet: &mut [u8], out: &mut Output) {
        if self.defend_sealed(now, &arrival, protocol::ESP, out) {
            return;
        }
        let spi = match packet.first_chunk() {
            Some(spi) if packet.len() >= crate::wire::esp::HEADER => Ok(u32::from_be_bytes(*spi)),
            _ => Err(DropReason::MalformedEsp),
        };
        let opened = spi.and_then(|spi| {
            self.open_checked(arrival, (protocol::ESP, spi), out, |sa, notices| {
                esp::open(sa, packet, now, notices)
            })
        });
        match opened {
            Ok((opened, through, handle)) => match opened.content {
                Content::Packet(_) => {
                    self.opened(now, arrival, through, handle, &mut packet[opened.inner], out);
                }
                Content::Payload(protocol) => {
                    let mut restored = std::mem::take(&mut self.restored);
                    let payload = &packet[opened.inner];
                    let whole = self.sad.get(handle).is_some_and(|sa| {
                        esp::restore_packet(sa, protocol, payload, arrival.tos(), &mut restored).is_ok()
                    });
                    if whole {
                        self.opened(now, arrival, through, handle, &mut restored, out);
                    } else {
                        let (source, length) = (Some(arrival.source()), payload.len());
                        self.drop_packet(now, DropReason::MalformedPacket, source, out, || {
                            format!("tunnel {}: payload of {length} octets", through.tunnel)
                        });
                    }
                    self.restored = restored;
                }
            },
            Err(DropReason::UnknownSpi)
                if self.hold_sealed(now, arrival.destination(), packet, Stage::Sealed(arrival)) => {}
            Err(reason) => {
                let spi = packet.first_chunk().map(|b: &[u8; 4]| u32::from_be_bytes(*b)).unwrap_or(0);
                self.drop_packet(now, reason, Some(arrival.source()), out, || {
                    format!("ESP from {} to {}, SPI {spi:#010x}", arrival.source(), arrival.destination())
                });
            }
        }
    }

    /// An IP packet for this host whose upper layer is AH.
    pub(super) fn handle_ah(&mut self, now: Instant, parsed: &Parsed, packet: &mut [u8], out: &mut Output) {
        let Parsed { source, destination, tos, header_len, .. } = *parsed;
        if let Some(HomeRole::Moving { distributor: Some(to) }) = self.role(destination) {
            return self.forward_ah(to, packet, parsed, out);
        }
        let arrival = Arrival::Raw(RawArrival { source, destination, tos });
        let Some(packet) = packet.get_mut(..parsed.total_len) else { return };
        if self.defend_sealed(now, &arrival, protocol::AH, out) {
            return;
        }
        let spi = packet.get(header_len..).and_then(Ah::new_checked).map(|header| header.spi());
        let opened = spi.ok_or(DropReason::MalformedAh).and_then(|spi| {
            self.open_checked(arrival, (protocol::AH, spi), out, |sa, notices| {
                ah::open(sa, packet, header_len, now, notices)
            })
        });
        match opened {
            Ok((opened, through, handle)) => {
                self.opened(now, arrival, through, handle, &mut packet[opened.inner], out);
            }
            Err(DropReason::UnknownSpi)
                if self.hold_sealed(now, destination, packet, Stage::Authenticated) => {}
            Err(reason) => self.drop_packet(now, reason, Some(source), out, || {
                format!("AH from {source} to {destination}, SPI {:#010x}", spi.unwrap_or(0))
            }),
        }
    }

    /// A packet that an SA opened: what the network did to it, whether it may come by this SA, and on to the filters.
    fn opened(
        &mut self,
        now: Instant,
        arrival: Arrival,
        through: Through,
        handle: SaHandle,
        inner: &mut [u8],
        out: &mut Output,
    ) {
        let source = Some(arrival.source());
        let mut parsed = match Parsed::parse(inner) {
            Ok(parsed) => parsed,
            Err(e) => {
                return self.drop_packet(now, DropReason::MalformedPacket, source, out, || {
                    format!("inside of tunnel {}: {e}", through.tunnel)
                });
            }
        };
        // What the network said about congestion goes on inside (RFC 6040 section 4.2).
        match ecn::decapsulate(parsed.tos, arrival.tos()) {
            Some(tos) if tos == parsed.tos => {}
            Some(tos) => {
                ecn::set_traffic_class(inner, tos);
                parsed.tos = tos;
            }
            None => {
                return self.drop_packet(now, DropReason::CongestionUnheard, source, out, || {
                    format!("tunnel {}: congestion, inner packet not ECN-capable", through.tunnel)
                });
            }
        }
        if let Some(s) = self.outside_selectors(&parsed, inner, handle) {
            return self.drop_packet(now, DropReason::SelectorViolation, source, out, || {
                format!("{} by tunnel {}", Line(&s), through.tunnel)
            });
        }
        let pair = self.sad.get(handle).map(Sa::pair);
        if let Arrival::Udp(udp) = &arrival
            && pair.is_some_and(|p| p.mode == Mode::Transport)
        {
            let connections = &self.connections;
            let held = |protocol, local: SocketAddr, remote: SocketAddr| {
                let (local, local_port, remote, remote_port) =
                    (local.ip(), local.port(), remote.ip(), remote.port());
                let key = ConnectionKey { protocol, local, local_port, remote, remote_port };
                connections.find(&key).is_some_and(|id| connections.get(id).state() != State::Closing)
            };
            match self.nat.inbound(now, (through.tunnel, udp.remote), inner, &parsed, held) {
                Ok(false) => {}
                // Nothing but a port and its checksum has changed.
                Ok(true) => match Parsed::parse(inner) {
                    Ok(translated) => parsed = translated,
                    Err(_) => return self.drops.count(DropReason::MalformedPacket),
                },
                Err(reason) => {
                    let s = subject(&parsed, Direction::Inbound, false);
                    return self.drop_packet(now, reason, source, out, || {
                        format!("{} by tunnel {}", Line(&s), through.tunnel)
                    });
                }
            }
        }
        self.inbound(now, Some(through), VnetHeader::default(), inner, &parsed, out);
    }

    /// Finds the SA by SPI, destination and protocol (RFC 4301 section 4.1), and lets `open` open the packet with it.
    fn open_checked(
        &mut self,
        arrival: Arrival,
        (protocol, spi): (u8, u32),
        out: &mut Output,
        open: impl FnOnce(&mut Sa, &mut Vec<(u32, SaNotice)>) -> Result<Opened, OpenError>,
    ) -> Result<(Opened, Through, SaHandle), DropReason> {
        if spi <= MAX_RESERVED_SPI {
            return Err(DropReason::ReservedSpi);
        }
        if self.spd.predecap() {
            self.predecap(&arrival, protocol)?;
        }
        let handle = self.sad.lookup(spi).ok_or(DropReason::UnknownSpi)?;
        let sa = self.sad.get_mut(handle).ok_or(DropReason::UnknownSpi)?;
        if !sa.face(arrival.destination(), arrival.source()) {
            return Err(DropReason::UnknownSpi);
        }
        if sa.pair().local != arrival.destination() || sa.protocol() != protocol {
            return Err(DropReason::UnknownSpi);
        }
        let local = sa.pair().local;
        let fits = match &arrival {
            Arrival::Raw(a) => sa.accepts_raw(a),
            Arrival::Udp(a) => sa.accepts_udp(a),
        };
        if !fits {
            return Err(DropReason::WrongEncapsulation);
        }
        let role = self.homes.get(&local).copied();
        if !role.is_some_and(HomeRole::terminates) {
            return Err(DropReason::NoDistributor);
        }
        if role == Some(HomeRole::Owner) && !self.lease.holds() {
            return Err(DropReason::LeaseEnded);
        }
        let (notices, highest) = (out.sa_notices.len(), sa.sequence_numbers().1);
        let opened = open(sa, &mut out.sa_notices);
        // Only the newest packet says where the peer is: an old one that was held back does not move it (T20).
        let newest = sa.sequence_numbers().1 > highest;
        if let Arrival::Udp(a) = &arrival
            && opened.is_ok()
            && newest
            && sa.udp_remote() != Some(a.remote)
            && may_be_peer(a.remote)
            && !self.homes.contains_key(&a.remote.ip())
        {
            sa.move_peer(a.remote);
        }
        let mtu = sa.path_mtu();
        let through = Through { tunnel: sa.pair().tunnel, max_inner: sa.max_inner(usize::from(mtu)) };
        self.note_first_inbound(notices, out);
        Ok((opened?, through, handle))
    }

    /// Whether a defensive filter keeps ESP or AH itself back, where the policy wants that to be asked (PreDecap On).
    fn defend_sealed(&mut self, now: Instant, arrival: &Arrival, protocol: u8, out: &mut Output) -> bool {
        self.spd.predecap() && self.defend(now, &outer(arrival, protocol), out)
    }

    /// The filters on ESP or AH itself, where the policy wants that (PreDecap On).
    fn predecap(&mut self, arrival: &Arrival, protocol: u8) -> Result<(), DropReason> {
        let s = outer(arrival, protocol);
        // An ipsec rule that covers everything between the hosts covers the ESP that carries it out.
        match self.spd.would(&s, None) {
            Some(FilterAction::Ipsec { .. } | FilterAction::Manual) => Ok(()),
            _ => self.spd.inbound(&s, None, None).map(|_| ()).map_err(|d| d.reason),
        }
    }

    /// The packet as it lies outside of what was negotiated (RFC 4301 section 5.2 step 4); an ICMP error may also be about a
    /// packet that lies inside (section 6).
    fn outside_selectors(&self, parsed: &Parsed, inner: &[u8], handle: SaHandle) -> Option<Subject> {
        let s = subject(parsed, Direction::Inbound, false);
        // The SA has just opened the packet; were it gone, nothing would be selected by it.
        let Some(pair) = self.sad.get(handle).map(Sa::pair) else { return Some(s) };
        if spd::selected(&pair.local_selectors, &pair.remote_selectors, &s) {
            return None;
        }
        let about = Quoted::of(parsed, inner).filter(|q| q.source == parsed.destination);
        let inside = about.is_some_and(|q| {
            let flow = q.subject(Direction::Outbound).reversed();
            spd::selected(&pair.local_selectors, &pair.remote_selectors, &flow)
        });
        if inside { None } else { Some(s) }
    }
}

/// What the filters want to know of IKE, ESP or AH itself.
fn outer(arrival: &Arrival, protocol: u8) -> Subject {
    let (protocol, upper) = match arrival {
        Arrival::Raw(_) => (protocol, Upper::None),
        Arrival::Udp(a) => {
            let ports = Upper::Ports { source: a.remote.port(), destination: a.local.port(), opens: false };
            (protocol::UDP, ports)
        }
    };
    Subject {
        direction: Direction::Inbound,
        routed: false,
        security_class: 0,
        source: arrival.source(),
        destination: arrival.destination(),
        protocol,
        upper,
        fragment: false,
    }
}

/// Whether a peer can sit there (T20).
fn may_be_peer(a: SocketAddr) -> bool {
    let ip = a.ip();
    a.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && !ip.is_loopback()
        && ip != IpAddr::from([255, 255, 255, 255])
}
