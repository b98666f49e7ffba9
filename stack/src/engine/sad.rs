//! The security association database: pairs of SAs, found by inbound SPI or by tunnel in constant time.
//!
//! An SPI that we chose names an SA alone (RFC 4301 section 4.1), so the SPI is the key; that a packet also came to the
//! right address and in the right encapsulation is asked of the [`Sa`] itself.

use super::ceiling::Ceiling;
use super::io::{RawArrival, UdpArrival};
use super::replay::{ReplayError, ReplayWindow};
use crate::aead::{AhKey, KeyError, Opener, Sealer};
use crate::control::{EspSuite, MANUAL_TUNNELS, Mode, SaNotice, SaPair, SaView, TrafficTotals};
use crate::wire::esp::MAX_RESERVED_SPI;
use crate::wire::{ah, ipv4, ipv6, protocol};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// Share of the sequence numbers after which IKE is told to rekey, in 16ths.
const SOFT_SIXTEENTHS: u64 = 12;
/// Path MTU that is taken for granted until something is learnt.
const INITIAL_PATH_MTU: u16 = 1500;

/// Why a pair was not installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// SPIs up to 255 are reserved (RFC 4303 section 2.1).
    #[error("SPI {0:#010x} is reserved")]
    ReservedSpi(u32),
    /// An SA with this inbound SPI is there.
    #[error("SPI {0:#010x} is in use")]
    SpiInUse(u32),
    /// The keying material does not fit.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Both directions have the same keying material: numbers and so IVs would repeat (threats T26).
    #[error("SPI {0:#010x}: both directions have the same key")]
    SameKey(u32),
    /// Extended sequence numbers cannot be followed without a replay window (RFC 4303 section 2.2.1).
    #[error("SPI {0:#010x}: extended sequence numbers without a replay window")]
    EsnWithoutWindow(u32),
    /// AH does not pass address translation, and so nothing carries it in UDP.
    #[error("SPI {0:#010x}: AH in UDP")]
    AhInUdp(u32),
    /// Only a manual pair may have ends that are those of each packet: whatever else it were, it would be anybody's.
    #[error("SPI {0:#010x}: endpoints that are not one address, in a pair that is not manual")]
    OpenEnds(u32),
    /// Endpoints of different address families.
    #[error("endpoints {0} and {1} are of different families")]
    Families(IpAddr, IpAddr),
}

/// Names an installed pair; stays valid until the pair is removed and is never taken for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SaHandle {
    slot: u32,
    generation: u32,
}

/// The pairs of a stack.
#[derive(Debug)]
pub struct Sad {
    seed: u64,
    /// Pairs installed so far: with the seed it salts IVs.
    installed: u64,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_spi: HashMap<u32, SaHandle, FixedState>,
    /// Pairs of each tunnel; during a rekey two or three.
    tunnels: HashMap<u32, Vec<SaHandle>, FixedState>,
    /// What pairs carried that are gone: sums never fall.
    gone: TrafficTotals,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    sa: Option<Box<Sa>>,
}

/// What is left of a pair after its removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Number of its tunnel.
    pub tunnel: u32,
    /// Whether that tunnel has no pair any more: its dynamic filter goes too.
    pub last_of_tunnel: bool,
}

impl Sad {
    /// Without SAs; `seed`, of which no other start has the same, keys the hash tables.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            installed: 0,
            slots: Vec::new(),
            free: Vec::new(),
            by_spi: HashMap::with_hasher(FixedState::with_seed(seed)),
            tunnels: HashMap::with_hasher(FixedState::with_seed(seed.rotate_left(32))),
            gone: TrafficTotals::default(),
        }
    }

    /// Installs a pair. Its keying material is wiped before this returns.
    ///
    /// # Errors
    /// When the pair cannot be used; nothing changes then.
    pub fn install(&mut self, pair: SaPair) -> Result<SaHandle, InstallError> {
        let (spi, tunnel) = (pair.spi_in, pair.tunnel);
        if self.by_spi.contains_key(&spi) {
            return Err(InstallError::SpiInUse(spi));
        }
        self.installed += 1;
        let sa = Box::new(Sa::new(pair, FixedState::with_seed(self.seed).hash_one(self.installed))?);
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(Slot { generation: 0, sa: None });
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 pairs: SPIs differ")
            }
        };
        let place = &mut self.slots[slot as usize];
        place.sa = Some(sa);
        let handle = SaHandle { slot, generation: place.generation };
        self.by_spi.insert(spi, handle);
        self.tunnels.entry(tunnel).or_default().push(handle);
        Ok(handle)
    }

    /// Removes the pair with this inbound SPI.
    pub fn remove(&mut self, spi_in: u32) -> Option<Removed> {
        let handle = self.by_spi.remove(&spi_in)?;
        let slot = &mut self.slots[handle.slot as usize];
        let sa = slot.sa.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(handle.slot);
        sa.add_to(&mut self.gone);
        let tunnel = sa.pair.tunnel;
        let mut last_of_tunnel = true;
        if let Some(pairs) = self.tunnels.get_mut(&tunnel) {
            pairs.retain(|h| *h != handle);
            last_of_tunnel = pairs.is_empty();
            if last_of_tunnel {
                self.tunnels.remove(&tunnel);
            }
        }
        Some(Removed { tunnel, last_of_tunnel })
    }

    /// Removes every pair.
    pub fn clear(&mut self) {
        for spi in self.spis() {
            self.remove(spi);
        }
    }

    /// The pair with this inbound SPI.
    #[must_use]
    pub fn lookup(&self, spi_in: u32) -> Option<SaHandle> {
        self.by_spi.get(&spi_in).copied()
    }

    /// The pair that outbound traffic of a tunnel uses: of those that are active, the newest.
    #[must_use]
    pub fn outbound(&self, tunnel: u32) -> Option<SaHandle> {
        let active = |h: &&SaHandle| self.get(**h).is_some_and(|sa| sa.outbound_active);
        let generation = |h: &&SaHandle| self.get(**h).map(|sa| sa.pair.generation);
        self.tunnels.get(&tunnel)?.iter().filter(active).max_by_key(generation).copied()
    }

    /// The pair, if it is still there.
    #[must_use]
    pub fn get(&self, handle: SaHandle) -> Option<&Sa> {
        let slot = self.slots.get(handle.slot as usize)?;
        if slot.generation == handle.generation { slot.sa.as_deref() } else { None }
    }

    /// The pair, if it is still there.
    pub fn get_mut(&mut self, handle: SaHandle) -> Option<&mut Sa> {
        let slot = self.slots.get_mut(handle.slot as usize)?;
        if slot.generation == handle.generation { slot.sa.as_deref_mut() } else { None }
    }

    /// Every pair, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Sa> {
        self.slots.iter().filter_map(|s| s.sa.as_deref())
    }

    /// The pairs at up to `count` places from `from` on. Who walks on finds every pair that stays, once.
    pub fn at(&self, from: usize, count: usize) -> impl Iterator<Item = &Sa> {
        self.slots.iter().skip(from).take(count).filter_map(|s| s.sa.as_deref())
    }

    /// Places there are.
    #[must_use]
    pub const fn places(&self) -> usize {
        self.slots.len()
    }

    /// Every pair, in no particular order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Sa> {
        self.slots.iter_mut().filter_map(|s| s.sa.as_deref_mut())
    }

    /// Inbound SPIs, ascending.
    #[must_use]
    pub fn spis(&self) -> Vec<u32> {
        let mut spis: Vec<u32> = self.iter().map(|sa| sa.pair.spi_in).collect();
        spis.sort_unstable();
        spis
    }

    /// What all pairs carried, those that are gone too.
    #[must_use]
    pub fn totals(&self) -> TrafficTotals {
        let mut totals = TrafficTotals { pairs: self.len() as u64, ..self.gone };
        self.iter().for_each(|sa| sa.add_to(&mut totals));
        totals
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_spi.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_spi.is_empty()
    }
}

/// Counters of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes of the inner packets.
    pub bytes: u64,
}

/// No number is left, or the lifetime in bytes is used up: nothing passes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the SA is used up")]
pub struct Expired;

/// Why no sequence number was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoNumber {
    /// None is left, or the lifetime in bytes is used up.
    #[error(transparent)]
    Expired(#[from] Expired),
    /// The next one lies above the ceiling that is stored; it may be raised.
    #[error("the ceiling of the sequence numbers is reached")]
    Ceiling,
}

/// Ends of a manual pair that are those of each packet (Any, Any4, Any6), and the families that they may be of.
#[derive(Debug, Clone, Copy)]
struct OpenEnds {
    local: bool,
    remote: bool,
    v4: bool,
    v6: bool,
}

impl OpenEnds {
    fn of(pair: &SaPair) -> Result<Option<Self>, InstallError> {
        let (local, remote) = (pair.local.is_unspecified(), pair.remote.is_unspecified());
        let both = local && remote;
        if !both && pair.local.is_ipv4() != pair.remote.is_ipv4() {
            return Err(InstallError::Families(pair.local, pair.remote));
        }
        if !local && !remote {
            return Ok(None);
        }
        if pair.tunnel < MANUAL_TUNNELS || pair.replay_window != 0 || pair.udp.is_some() {
            return Err(InstallError::OpenEnds(pair.spi_in));
        }
        let v4 = pair.local.is_ipv4() || pair.remote.is_ipv4();
        let v6 = pair.local.is_ipv6() || pair.remote.is_ipv6();
        Ok(Some(Self { local, remote, v4, v6 }))
    }
}

/// A pair of SAs in use.
#[derive(Debug)]
pub struct Sa {
    /// As installed, without the keys. Open ends are those of the packet that it [faces](Sa::face).
    pair: SaPair,
    open: Option<OpenEnds>,
    outbound_active: bool,
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    /// Keys of AH, outbound and inbound.
    ah: Option<(AhKey, AhKey)>,
    replay: ReplayWindow,
    /// Numbers are not looked at, and go round: manual keys (RFC 4303 sections 3.3.3 and 3.4.3).
    unordered: bool,
    /// Next number to send. Past `last_sequence`: none is left.
    next_sequence: u64,
    /// Greatest number that may be sent (RFC 4303 section 3.3.3: it never cycles).
    last_sequence: u64,
    soft_sequence: u64,
    /// How far the numbers may go that the coupling facility knows of.
    ceiling: Option<Arc<Ceiling>>,
    /// Continued after a failure: what the earlier owner had accepted is not known.
    inbound_closed: bool,
    sent: Traffic,
    received: Traffic,
    last_inbound: Option<Instant>,
    /// Bytes at which the next limit is reached.
    next_limit: u64,
    soft_told: bool,
    hard_told: bool,
    path_mtu: u16,
}

impl Sa {
    fn new(mut pair: SaPair, salt: u64) -> Result<Self, InstallError> {
        let inside = match pair.suite {
            EspSuite::AhEsp { esp_spi_in, esp_spi_out, .. } => [esp_spi_in, esp_spi_out],
            _ => [pair.spi_in, pair.spi_out],
        };
        for spi in [pair.spi_in, pair.spi_out].into_iter().chain(inside) {
            if spi <= MAX_RESERVED_SPI {
                return Err(InstallError::ReservedSpi(spi));
            }
        }
        let open = OpenEnds::of(&pair)?;
        if pair.key_in == pair.key_out {
            return Err(InstallError::SameKey(pair.spi_in));
        }
        let unordered = pair.replay_window == 0;
        if unordered && pair.esn {
            return Err(InstallError::EsnWithoutWindow(pair.spi_in));
        }
        if pair.udp.is_some() && pair.suite.ah().is_some() {
            return Err(InstallError::AhInUdp(pair.spi_in));
        }
        let mut sealer = Sealer::new(pair.suite, &pair.key_out.0)?;
        if unordered {
            sealer.salt_ivs(salt);
        }
        let ah = AhKey::new(pair.suite, &pair.key_out.0)?.zip(AhKey::new(pair.suite, &pair.key_in.0)?);
        let opener = Opener::new(pair.suite, &pair.key_in.0)?;
        zeroize::Zeroize::zeroize(&mut pair.key_in);
        zeroize::Zeroize::zeroize(&mut pair.key_out);
        let last_sequence = if pair.esn || unordered { u64::MAX - 1 } else { u64::from(u32::MAX) };
        // What was in use elsewhere goes on where it is told to; number 0 is never sent (RFC 4303 section 2.2).
        let (next_sequence, snapshot) = match pair.continued.take() {
            Some(c) => (c.next_sequence.max(1), Some(c.replay)),
            None => (1, None),
        };
        let replay = match &snapshot {
            Some(Some(snapshot)) => ReplayWindow::restore(pair.replay_window, pair.esn, snapshot),
            Some(None) | None => ReplayWindow::new(pair.replay_window, pair.esn),
        };
        let ceiling = pair.ceiling_of.map(|_| Arc::default());
        let mut sa = Self {
            outbound_active: pair.outbound_active,
            sealer,
            opener,
            ah,
            replay,
            unordered,
            next_sequence,
            last_sequence,
            soft_sequence: last_sequence / 16 * SOFT_SIXTEENTHS,
            ceiling,
            inbound_closed: snapshot == Some(None),
            sent: Traffic::default(),
            received: Traffic::default(),
            last_inbound: None,
            next_limit: 0,
            soft_told: false,
            hard_told: false,
            path_mtu: INITIAL_PATH_MTU,
            open,
            pair,
        };
        sa.next_limit = sa.limit_ahead();
        Ok(sa)
    }

    /// Adds what it carried.
    const fn add_to(&self, totals: &mut TrafficTotals) {
        totals.out_packets = totals.out_packets.saturating_add(self.sent.packets);
        totals.out_bytes = totals.out_bytes.saturating_add(self.sent.bytes);
        totals.in_packets = totals.in_packets.saturating_add(self.received.packets);
        totals.in_bytes = totals.in_bytes.saturating_add(self.received.bytes);
    }

    /// The pair as it was installed; its keys are gone.
    #[must_use]
    pub fn pair(&self) -> &SaPair {
        &self.pair
    }

    /// Whether its ends are those of each packet.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether packets between these addresses, own one first, can be its own.
    #[must_use]
    pub fn is_between(&self, local: IpAddr, remote: IpAddr) -> bool {
        let Some(open) = self.open else { return (self.pair.local, self.pair.remote) == (local, remote) };
        let family = local.is_ipv4() == remote.is_ipv4() && if local.is_ipv4() { open.v4 } else { open.v6 };
        let one = |a: IpAddr| {
            !(a.is_unspecified() || a.is_multicast() || a == IpAddr::V4(std::net::Ipv4Addr::BROADCAST))
        };
        family
            && one(local)
            && one(remote)
            && (open.local || self.pair.local == local)
            && (open.remote || self.pair.remote == remote)
    }

    /// Turns to a packet whose own end is `local` and whose other end is `remote`: open ends are these from now on. False: it
    /// is none for such a packet. A pair without open ends stays as it is.
    #[must_use]
    pub fn face(&mut self, local: IpAddr, remote: IpAddr) -> bool {
        let Some(open) = self.open else { return true };
        let (own, peer) = (
            if open.local { local } else { self.pair.local },
            if open.remote { remote } else { self.pair.remote },
        );
        if !self.is_between(own, peer) {
            return false;
        }
        (self.pair.local, self.pair.remote) = (own, peer);
        true
    }

    /// The protocol whose header comes first: ESP, or AH.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        if self.ah.is_some() { protocol::AH } else { protocol::ESP }
    }

    /// SPI of ESP in packets to the peer.
    #[must_use]
    pub const fn esp_spi_out(&self) -> u32 {
        match self.pair.suite {
            EspSuite::AhEsp { esp_spi_out, .. } => esp_spi_out,
            _ => self.pair.spi_out,
        }
    }

    /// SPI of ESP inside AH, in packets to us.
    pub(super) const fn esp_spi_in(&self) -> Option<u32> {
        match self.pair.suite {
            EspSuite::AhEsp { esp_spi_in, .. } => Some(esp_spi_in),
            _ => None,
        }
    }

    /// What AH signs with.
    pub(super) fn ah_outbound(&self) -> Option<&AhKey> {
        self.ah.as_ref().map(|(out, _)| out)
    }

    /// What AH is checked with.
    pub(super) fn ah_inbound(&self) -> Option<&AhKey> {
        self.ah.as_ref().map(|(_, inbound)| inbound)
    }

    /// The whole sequence number of a packet with these low 32 bits, if it may be new.
    pub(super) fn check_number(&self, low: u32) -> Result<u64, ReplayError> {
        if self.unordered { Ok(u64::from(low)) } else { self.replay.check(low) }
    }

    /// The packet with this number was authentic.
    pub(super) fn accept_number(&mut self, sequence: u64) {
        if !self.unordered {
            self.replay.commit(sequence);
        }
    }

    /// Whether the inbound SA takes ESP that arrived so: to its own address, from its peer's, not in UDP.
    #[must_use]
    pub fn accepts_raw(&self, arrival: &RawArrival) -> bool {
        self.pair.udp.is_none()
            && arrival.destination == self.pair.local
            && arrival.source == self.pair.remote
    }

    /// Whether the inbound SA takes ESP in UDP that arrived so: to its own address and port. Where the peer sits may
    /// change behind a NAT (RFC 3948 section 3.3); compare [`Sa::udp_remote`] after the packet proved authentic.
    #[must_use]
    pub fn accepts_udp(&self, arrival: &UdpArrival) -> bool {
        self.pair.udp.is_some_and(|(own, _)| arrival.local == SocketAddr::new(self.pair.local, own))
    }

    /// Where ESP in UDP goes to.
    #[must_use]
    pub fn udp_remote(&self) -> Option<SocketAddr> {
        self.pair.udp.map(|(_, port)| SocketAddr::new(self.pair.remote, port))
    }

    /// The peer moved: later packets go to `remote`. Only for packets that proved authentic and fresh (threats T20);
    /// does nothing for ESP without UDP or across address families. In transport mode only the port moves: the address is
    /// that of the connections inside.
    pub fn move_peer(&mut self, remote: SocketAddr) {
        let address = match self.pair.mode {
            Mode::Tunnel => remote.is_ipv4() == self.pair.remote.is_ipv4(),
            Mode::Transport => remote.ip() == self.pair.remote,
        };
        if let Some((_, port)) = &mut self.pair.udp
            && address
        {
            *port = remote.port();
            self.pair.remote = remote.ip();
        }
    }

    /// Whether outbound traffic may use it.
    #[must_use]
    pub const fn outbound_active(&self) -> bool {
        self.outbound_active
    }

    /// Lets outbound traffic use it.
    pub const fn activate_outbound(&mut self) {
        self.outbound_active = true;
    }

    /// Path MTU towards the peer, octets of the outer packet.
    #[must_use]
    pub const fn path_mtu(&self) -> u16 {
        self.path_mtu
    }

    /// Sets the path MTU; the caller judges whether the news can be believed (threats T39).
    pub const fn set_path_mtu(&mut self, mtu: u16) {
        self.path_mtu = mtu;
    }

    /// Octets that the outer IP header, UDP, AH, ESP header and IV take before the inner packet.
    #[must_use]
    pub fn overhead_before(&self) -> usize {
        let ah = self.ah_outbound().map_or(0, |key| ah::len(key.icv_len(), self.pair.remote.is_ipv4()));
        let esp = crate::wire::esp::HEADER + self.pair.suite.iv_len();
        self.ip_header()
            + if self.pair.udp.is_some() { 8 } else { 0 }
            + ah
            + if self.pair.suite.has_esp() { esp } else { 0 }
    }

    /// The longest packet that, once protected, fits into `mtu` octets; 0 if none. In transport mode the packet's own IP
    /// header (without options) becomes the outer one.
    #[must_use]
    pub fn max_inner(&self, mtu: usize) -> usize {
        let fixed = self.overhead_before() + self.pair.suite.icv_len();
        let room = mtu.saturating_sub(fixed);
        let text = if self.pair.suite.has_esp() {
            (room - room % self.pair.suite.alignment()).saturating_sub(2)
        } else {
            room
        };
        match self.pair.mode {
            Mode::Transport if text > 0 => text + self.ip_header(),
            Mode::Tunnel | Mode::Transport => text,
        }
    }

    /// Length of the outer IP header.
    fn ip_header(&self) -> usize {
        if self.pair.remote.is_ipv4() { ipv4::MIN_HEADER } else { ipv6::HEADER }
    }

    /// Counters of what was sent.
    #[must_use]
    pub const fn sent(&self) -> Traffic {
        self.sent
    }

    /// Counters of what arrived and was authentic.
    #[must_use]
    pub const fn received(&self) -> Traffic {
        self.received
    }

    /// When the last authentic packet arrived.
    #[must_use]
    pub const fn last_inbound(&self) -> Option<Instant> {
        self.last_inbound
    }

    /// Next sequence number to send, and the highest accepted.
    #[must_use]
    pub const fn sequence_numbers(&self) -> (u64, u64) {
        (self.next_sequence, self.replay.highest())
    }

    /// Goes on where another process or node ended: sends from `next` and accepts only above `accepted` (threats T26).
    /// Numbers never go back.
    pub fn resume(&mut self, next: u64, accepted: u64) {
        self.next_sequence = self.next_sequence.max(next);
        self.replay.accept_only_above(accepted);
    }

    /// Bounds the numbers by a ceiling that other pairs share. A pair with [`SaPair::ceiling_of`] sends nothing before.
    pub fn share_ceiling(&mut self, ceiling: Arc<Ceiling>) {
        ceiling.note_start(self.next_sequence);
        self.ceiling = Some(ceiling);
    }

    /// That the ceiling should be raised, once: the DVIPA and the highest number in use.
    #[must_use]
    pub fn take_ceiling_wish(&self) -> Option<(IpAddr, u64)> {
        Some((self.pair.ceiling_of?, self.ceiling.as_ref()?.take_wish()?))
    }

    /// Whether nothing is accepted, because nobody knows what was accepted before.
    #[must_use]
    pub const fn is_inbound_closed(&self) -> bool {
        self.inbound_closed
    }

    /// What a display shows.
    #[must_use]
    pub fn view(&self, now: Instant) -> SaView {
        SaView {
            spi_in: self.pair.spi_in,
            tunnel: self.pair.tunnel,
            outbound_active: self.outbound_active,
            out_packets: self.sent.packets,
            out_bytes: self.sent.bytes,
            in_packets: self.received.packets,
            in_bytes: self.received.bytes,
            next_sequence: self.next_sequence,
            highest_received: self.replay.highest(),
            replay: (!self.inbound_closed).then(|| self.replay.snapshot()),
            idle_in_ms: self.idle_in_ms(now),
            path_mtu: self.path_mtu,
            df: self.pair.df,
            copy_dscp: self.pair.copy_dscp,
        }
    }

    /// Milliseconds since the last packet arrived.
    #[must_use]
    pub fn idle_in_ms(&self, now: Instant) -> Option<u64> {
        let idle = now.saturating_duration_since(self.last_inbound?);
        Some(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX))
    }

    /// Takes `count` numbers for packets of `bytes` octets in all; returns the first. Numbers are never given out twice,
    /// never past the end and never above the ceiling: then nothing is taken (threats T26).
    pub(super) fn take_numbers(
        &mut self,
        count: u64,
        bytes: u64,
        notices: &mut Vec<(u32, SaNotice)>,
    ) -> Result<u64, NoNumber> {
        if self.hard_told {
            return Err(Expired.into());
        }
        let first = self.next_sequence;
        // `last_sequence` is below 2^64 - 1, so the sum of what is left does not overflow.
        if first > self.last_sequence || count > self.last_sequence - first + 1 {
            self.expire(notices);
            return Err(Expired.into());
        }
        if let Some(ceiling) = &self.ceiling
            && !ceiling.admits(first + count.max(1) - 1)
        {
            return Err(NoNumber::Ceiling);
        }
        self.next_sequence = first + count;
        self.sent.packets += count;
        self.sent.bytes = self.sent.bytes.saturating_add(bytes);
        if self.next_sequence > self.soft_sequence {
            self.tell_soft(notices);
        }
        self.check_bytes(notices);
        Ok(first)
    }

    /// Counts an authentic packet.
    pub(super) fn count_inbound(&mut self, bytes: u64, now: Instant, notices: &mut Vec<(u32, SaNotice)>) {
        if self.received.packets == 0 {
            notices.push((self.pair.spi_in, SaNotice::FirstInbound));
            // The peer uses the new SA: so may we (RFC 7296 section 2.8).
            self.outbound_active = true;
        }
        self.received.packets += 1;
        self.received.bytes = self.received.bytes.saturating_add(bytes);
        self.last_inbound = Some(now);
        self.check_bytes(notices);
    }

    /// Whether the hard limit was reached.
    #[must_use]
    pub const fn is_expired(&self) -> bool {
        self.hard_told
    }

    fn check_bytes(&mut self, notices: &mut Vec<(u32, SaNotice)>) {
        let total = self.sent.bytes.saturating_add(self.received.bytes);
        if total < self.next_limit {
            return;
        }
        if self.pair.hard_bytes.is_some_and(|hard| total >= hard) {
            self.expire(notices);
        } else if self.pair.soft_bytes.is_some_and(|soft| total >= soft) {
            self.tell_soft(notices);
        }
        self.next_limit = self.limit_ahead();
    }

    fn limit_ahead(&self) -> u64 {
        let soft = if self.soft_told { None } else { self.pair.soft_bytes };
        let hard = if self.hard_told { None } else { self.pair.hard_bytes };
        soft.unwrap_or(u64::MAX).min(hard.unwrap_or(u64::MAX))
    }

    fn tell_soft(&mut self, notices: &mut Vec<(u32, SaNotice)>) {
        if !self.soft_told {
            self.soft_told = true;
            self.next_limit = self.limit_ahead();
            notices.push((self.pair.spi_in, SaNotice::SoftLimit));
        }
    }

    fn expire(&mut self, notices: &mut Vec<(u32, SaNotice)>) {
        if !self.hard_told {
            self.hard_told = true;
            notices.push((self.pair.spi_in, SaNotice::HardLimit));
        }
    }
}
