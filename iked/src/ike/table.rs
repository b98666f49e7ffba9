//! What the engine's SAs share: numbers of tunnels, SPIs in use, and who has SAs between the same identities.
//!
//! Every look-up here costs the same for ten SAs and for a hundred thousand.

use super::command::ActivationMethod;
use super::snapshot::TunnelRecord;
use super::types::{Identity, IdentityPattern, IkeTunnelId, TrafficSelector, TunnelId};
use rand::CryptoRng;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Number of an IKE SA within the engine; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SaKey(pub(crate) u64);

/// IKE SAs between the same two identities that are kept; the oldest goes when there are more (threats T32).
pub(crate) const SAS_PER_IDENTITIES: usize = 64;

/// An IKE tunnel: the IKE SAs that followed each other by rekey and re-authentication.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct IkeTunnel {
    generations: u32,
    sas: BTreeSet<SaKey>,
    up: bool,
    newest: Option<SaKey>,
    /// Addresses of both ends, own one first, once it is up.
    ends: Option<(IpAddr, IpAddr)>,
}

/// A dynamic tunnel: the child SAs that followed each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChildTunnel {
    /// LocalDynVpnRule.
    pub(crate) local_dyn_vpn_rule: Option<String>,
    /// Why it exists.
    pub(crate) method: ActivationMethod,
    /// When rekeys end; set with the first SA.
    pub(crate) vpn_life_ends: Option<Instant>,
    /// The IKE SA that has its newest child SA, or negotiates its first.
    pub(crate) at: Option<SaKey>,
    generations: u32,
    users: u32,
    up: bool,
}

/// One of several child SAs with the same selectors.
#[derive(Debug, Clone, Copy)]
struct Twin {
    tunnel: TunnelId,
    active: bool,
}

/// Selectors of both sides, own ones first.
type Selectors = (Vec<TrafficSelector>, Vec<TrafficSelector>);

/// The shared tables.
#[derive(Debug, Default)]
pub(crate) struct Book {
    last_sa: u64,
    last_ike: u32,
    last_child: u32,
    ike: BTreeMap<IkeTunnelId, IkeTunnel>,
    child: BTreeMap<TunnelId, ChildTunnel>,
    /// Our own IKE SPIs.
    pub(crate) ike_spis: BTreeMap<u64, SaKey>,
    child_spis: BTreeMap<u32, SaKey>,
    children: BTreeMap<SaKey, usize>,
    by_identities: HashMap<(Identity, Identity), BTreeSet<SaKey>>,
    twins: HashMap<Selectors, BTreeMap<u32, Twin>>,
    ike_of: BTreeMap<SaKey, IkeTunnelId>,
    /// Half-open SAs as responder.
    pub(crate) half_open: HalfOpen,
}

impl Book {
    /// A number for a new SA.
    pub(crate) const fn new_sa(&mut self) -> SaKey {
        self.last_sa += 1;
        SaKey(self.last_sa)
    }

    /// An SPI for the SA `key`, free and never zero.
    pub(crate) fn new_ike_spi(&mut self, key: SaKey, rng: &mut dyn CryptoRng) -> u64 {
        loop {
            let spi = rng.next_u64();
            if spi != 0 && !self.ike_spis.contains_key(&spi) {
                self.ike_spis.insert(spi, key);
                return spi;
            }
        }
    }

    /// An SPI on which no child SA of ours receives. 0 to 255 are reserved (RFC 4303 section 2.1).
    pub(crate) fn new_child_spi(&self, rng: &mut dyn CryptoRng) -> u32 {
        loop {
            let spi = rng.next_u32();
            if spi > 255 && !self.child_spis.contains_key(&spi) {
                return spi;
            }
        }
    }

    /// The IKE SA of the child that receives on `spi`.
    pub(crate) fn sa_of_child(&self, spi: u32) -> Option<SaKey> {
        self.child_spis.get(&spi).copied()
    }

    /// The child that receives on `spi` belongs to this IKE SA from now on.
    pub(crate) fn enter_child_spi(&mut self, spi: u32, key: SaKey) {
        self.leave_child_spi(spi);
        self.child_spis.insert(spi, key);
        *self.children.entry(key).or_default() += 1;
    }

    /// The child that received on `spi` is gone.
    pub(crate) fn leave_child_spi(&mut self, spi: u32) {
        let Some(key) = self.child_spis.remove(&spi) else { return };
        if let Some(count) = self.children.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.children.remove(&key);
            }
        }
    }

    /// Children of all IKE SAs between two identities.
    pub(crate) fn children_between(&self, own: &Identity, peer: &Identity) -> usize {
        let sas = self.by_identities.get(&(own.clone(), peer.clone()));
        sas.into_iter().flatten().filter_map(|key| self.children.get(key)).sum()
    }

    /// A new IKE tunnel.
    pub(crate) fn new_ike_tunnel(&mut self) -> IkeTunnelId {
        loop {
            self.last_ike = self.last_ike.wrapping_add(1).max(1);
            let id = IkeTunnelId(self.last_ike);
            if let Entry::Vacant(free) = self.ike.entry(id) {
                free.insert(IkeTunnel::default());
                return id;
            }
        }
    }

    /// A tunnel of another process, under its number there if that is free. It is up; its SAs [rejoin](Self::rejoin_ike).
    pub(crate) fn restore_ike_tunnel(&mut self, was: IkeTunnelId, generations: u32) -> IkeTunnelId {
        let free = was.0 != 0 && !self.ike.contains_key(&was);
        let id = if free { was } else { self.new_ike_tunnel() };
        self.ike.insert(id, IkeTunnel { generations, up: true, ..IkeTunnel::default() });
        id
    }

    /// An SA of a restored tunnel, the newest last.
    pub(crate) fn rejoin_ike(&mut self, id: IkeTunnelId, key: SaKey) {
        self.ike_of.insert(key, id);
        let tunnel = self.ike.entry(id).or_default();
        tunnel.newest = Some(key);
        tunnel.sas.insert(key);
    }

    /// The addresses between which an IKE tunnel is.
    pub(crate) fn note_ends_of_ike(&mut self, id: IkeTunnelId, ends: (IpAddr, IpAddr)) {
        if let Some(tunnel) = self.ike.get_mut(&id) {
            tunnel.ends = Some(ends);
        }
    }

    /// The addresses between which an IKE tunnel is, once it is up.
    pub(crate) fn ends_of_ike(&self, id: IkeTunnelId) -> Option<(IpAddr, IpAddr)> {
        self.ike.get(&id)?.ends
    }

    /// The tunnel of an SA.
    pub(crate) fn ike_of(&self, key: SaKey) -> Option<IkeTunnelId> {
        self.ike_of.get(&key).copied()
    }

    /// An SA that is not up yet turns out to follow the others of a tunnel: it leaves its own. Returns its generation.
    pub(crate) fn move_ike(&mut self, from: IkeTunnelId, to: IkeTunnelId, key: SaKey) -> u32 {
        self.leave_ike(from, key);
        self.enter_ike(to, key)
    }

    /// The SAs of a tunnel.
    pub(crate) fn sas_of_ike(&self, id: IkeTunnelId) -> impl Iterator<Item = SaKey> {
        self.ike.get(&id).into_iter().flat_map(|tunnel| tunnel.sas.iter().copied())
    }

    /// How many SAs a tunnel has had.
    pub(crate) fn ike_generations(&self, id: IkeTunnelId) -> u32 {
        self.ike.get(&id).map_or(0, |tunnel| tunnel.generations)
    }

    /// One more SA of an IKE tunnel; returns its generation.
    pub(crate) fn enter_ike(&mut self, id: IkeTunnelId, key: SaKey) -> u32 {
        self.ike_of.insert(key, id);
        let tunnel = self.ike.entry(id).or_default();
        tunnel.newest = Some(key);
        tunnel.generations = tunnel.generations.saturating_add(1);
        tunnel.sas.insert(key);
        tunnel.generations
    }

    /// The newest SA of a tunnel.
    pub(crate) fn newest_ike(&self, id: IkeTunnelId) -> Option<SaKey> {
        self.ike.get(&id)?.newest
    }

    /// An SA of the tunnel is established.
    pub(crate) fn ike_is_up(&mut self, id: IkeTunnelId) {
        self.ike.entry(id).or_default().up = true;
    }

    /// An SA of the tunnel is gone. True if it was the last one and the tunnel had been up.
    pub(crate) fn leave_ike(&mut self, id: IkeTunnelId, key: SaKey) -> bool {
        self.ike_of.remove(&key);
        let Some(tunnel) = self.ike.get_mut(&id) else { return false };
        tunnel.sas.remove(&key);
        if !tunnel.sas.is_empty() {
            return false;
        }
        self.ike.remove(&id).is_some_and(|tunnel| tunnel.up)
    }

    /// A new dynamic tunnel with one user: the negotiation of its first SA.
    pub(crate) fn new_child_tunnel(
        &mut self,
        method: ActivationMethod,
        local_dyn_vpn_rule: Option<String>,
    ) -> TunnelId {
        let id = self.free_child_number();
        let tunnel = ChildTunnel {
            local_dyn_vpn_rule,
            method,
            vpn_life_ends: None,
            at: None,
            generations: 0,
            users: 1,
            up: false,
        };
        self.child.insert(id, tunnel);
        id
    }

    fn free_child_number(&mut self) -> TunnelId {
        loop {
            self.last_child = self.last_child.wrapping_add(1).max(1);
            let id = TunnelId(self.last_child);
            if !self.child.contains_key(&id) {
                return id;
            }
        }
    }

    /// A dynamic tunnel as another process needs it.
    pub(crate) fn record_child(&self, id: TunnelId, now: Instant) -> Option<TunnelRecord> {
        let tunnel = self.child.get(&id)?;
        Some(TunnelRecord {
            id: id.0,
            local_dyn_vpn_rule: tunnel.local_dyn_vpn_rule.clone(),
            method: tunnel.method,
            vpn_life_in: tunnel.vpn_life_ends.map(|at| at.saturating_duration_since(now)),
            generations: tunnel.generations,
        })
    }

    /// A dynamic tunnel of another process with one user, under its number there if that is free.
    pub(crate) fn restore_child_tunnel(
        &mut self,
        record: TunnelRecord,
        vpn_life_ends: Option<Instant>,
    ) -> TunnelId {
        let was = TunnelId(record.id);
        let free = was.0 != 0 && !self.child.contains_key(&was);
        let id = if free { was } else { self.free_child_number() };
        let tunnel = ChildTunnel {
            local_dyn_vpn_rule: record.local_dyn_vpn_rule,
            method: record.method,
            vpn_life_ends,
            at: None,
            generations: record.generations,
            users: 1,
            up: record.generations > 0,
        };
        self.child.insert(id, tunnel);
        id
    }

    /// A dynamic tunnel.
    pub(crate) fn child_tunnel(&self, id: TunnelId) -> Option<&ChildTunnel> {
        self.child.get(&id)
    }

    /// The newest of a dynamic tunnel is, or will be, at this IKE SA.
    pub(crate) fn place_child(&mut self, id: TunnelId, key: SaKey) {
        if let Some(tunnel) = self.child.get_mut(&id) {
            tunnel.at = Some(key);
        }
    }

    /// One more user: a negotiation under way, or an installed SA.
    pub(crate) fn enter_child(&mut self, id: TunnelId) {
        if let Some(tunnel) = self.child.get_mut(&id) {
            tunnel.users += 1;
        }
    }

    /// A child SA of the tunnel is installed (and a user was entered for it). Returns its generation; `life` is how
    /// long rekeys keep the tunnel alive, from its first SA on.
    pub(crate) fn child_is_up(&mut self, id: TunnelId, vpn_life_ends: Option<Instant>) -> u32 {
        let Some(tunnel) = self.child.get_mut(&id) else { return 0 };
        if tunnel.generations == 0 {
            tunnel.vpn_life_ends = vpn_life_ends;
        }
        tunnel.generations = tunnel.generations.saturating_add(1);
        tunnel.up = true;
        tunnel.generations
    }

    /// A user is gone. True if it was the last one and the tunnel had been up.
    pub(crate) fn leave_child(&mut self, id: TunnelId) -> bool {
        let Some(tunnel) = self.child.get_mut(&id) else { return false };
        tunnel.users = tunnel.users.saturating_sub(1);
        if tunnel.users > 0 {
            return false;
        }
        self.child.remove(&id).is_some_and(|tunnel| tunnel.up)
    }

    /// Whether this side sends on a child SA with just these selectors, so that a new one need not be used at once.
    pub(crate) fn has_active_twin(&self, local: &[TrafficSelector], remote: &[TrafficSelector]) -> bool {
        let twins = self.twins.get(&(local.to_vec(), remote.to_vec()));
        twins.is_some_and(|twins| twins.values().any(|twin| twin.active))
    }

    /// A child SA is there, by its inbound SPI; whether this side sends on it.
    pub(crate) fn enter_twin(
        &mut self,
        local: &[TrafficSelector],
        remote: &[TrafficSelector],
        tunnel: TunnelId,
        (spi, active): (u32, bool),
    ) {
        let twins = self.twins.entry((local.to_vec(), remote.to_vec())).or_default();
        twins.insert(spi, Twin { tunnel, active });
    }

    /// The tunnel of a child with these selectors at an IKE SA older than `key` between the same two identities: what is made
    /// at `key` takes its place (re-authentication by the peer, or both ends have started at once). Not one that is
    /// `awaited` at `key` from this end: what the peer asks for is another one then.
    pub(crate) fn tunnel_elsewhere(
        &self,
        key: SaKey,
        (own, peer): (&Identity, &Identity),
        (local, remote): (&[TrafficSelector], &[TrafficSelector]),
        awaited: impl Fn(TunnelId) -> bool,
    ) -> Option<TunnelId> {
        let between = self.by_identities.get(&(own.clone(), peer.clone()))?;
        let twins = self.twins.get(&(local.to_vec(), remote.to_vec()))?;
        let at = |spi: &u32| self.child_spis.get(spi);
        // Of several children each has one that follows it.
        let followed =
            |tunnel| twins.iter().any(|(spi, twin)| at(spi) == Some(&key) && twin.tunnel == tunnel);
        let elsewhere = |spi: &u32| at(spi).is_some_and(|at| *at < key && between.contains(at));
        let free = |tunnel| !followed(tunnel) && !awaited(tunnel);
        let found = twins.iter().find(|(spi, twin)| elsewhere(spi) && free(twin.tunnel));
        found.map(|(_, twin)| twin.tunnel)
    }

    /// A child SA is gone. Returns those with the same selectors if this side sends on none of them.
    pub(crate) fn leave_twin(
        &mut self,
        local: &[TrafficSelector],
        remote: &[TrafficSelector],
        spi: u32,
    ) -> Vec<u32> {
        let selectors = (local.to_vec(), remote.to_vec());
        let Some(twins) = self.twins.get_mut(&selectors) else { return Vec::new() };
        twins.remove(&spi);
        let left: Vec<u32> = twins.keys().copied().collect();
        let active = twins.values().any(|twin| twin.active);
        if left.is_empty() {
            self.twins.remove(&selectors);
        }
        if active { Vec::new() } else { left }
    }

    /// Notes that `key` is an SA between two identities; returns the others, oldest first.
    pub(crate) fn enter_identities(&mut self, own: &Identity, peer: &Identity, key: SaKey) -> Vec<SaKey> {
        let sas = self.by_identities.entry((own.clone(), peer.clone())).or_default();
        sas.insert(key);
        sas.iter().copied().filter(|other| *other != key).collect()
    }

    /// Whether there is an SA between an identity of ours and one that a pattern accepts.
    pub(crate) fn has_identities(&self, own: &Identity, peers: &IdentityPattern) -> bool {
        match peers.exact() {
            Some(peer) => self.by_identities.contains_key(&(own.clone(), peer.clone())),
            None => self.by_identities.keys().any(|(ours, peer)| ours == own && peers.accepts(peer)),
        }
    }

    /// SAs between two identities.
    pub(crate) fn with_identities(&self, own: &Identity, peer: &Identity) -> Vec<SaKey> {
        let sas = self.by_identities.get(&(own.clone(), peer.clone()));
        sas.into_iter().flatten().copied().collect()
    }

    /// The SA is gone.
    pub(crate) fn leave_identities(&mut self, own: &Identity, peer: &Identity, key: SaKey) {
        let pair = (own.clone(), peer.clone());
        if let Some(sas) = self.by_identities.get_mut(&pair) {
            sas.remove(&key);
            if sas.is_empty() {
                self.by_identities.remove(&pair);
            }
        }
    }
}

/// Half-open SAs as responder: in all, of each source, and by what an IKE_SA_INIT that is repeated is known by.
#[derive(Debug, Default)]
pub(crate) struct HalfOpen {
    by_source: BTreeMap<IpAddr, usize>,
    by_request: BTreeMap<(SocketAddr, u64), SaKey>,
}

impl HalfOpen {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_request.len()
    }

    /// How many of one source.
    pub(crate) fn of(&self, source: IpAddr) -> usize {
        self.by_source.get(&source).copied().unwrap_or(0)
    }

    /// The one that an IKE_SA_INIT request from `remote` with the initiator's SPI has made.
    pub(crate) fn find(&self, remote: SocketAddr, spi_i: u64) -> Option<SaKey> {
        self.by_request.get(&(remote, spi_i)).copied()
    }

    /// One more.
    pub(crate) fn enter(&mut self, remote: SocketAddr, spi_i: u64, key: SaKey) {
        if self.by_request.insert((remote, spi_i), key).is_none() {
            *self.by_source.entry(remote.ip()).or_default() += 1;
        }
    }

    /// It is established or gone.
    pub(crate) fn leave(&mut self, remote: SocketAddr, spi_i: u64) {
        if self.by_request.remove(&(remote, spi_i)).is_none() {
            return;
        }
        if let Some(count) = self.by_source.get_mut(&remote.ip()) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&remote.ip());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_goes_with_its_last_user() {
        let mut book = Book::default();
        let id = book.new_child_tunnel(ActivationMethod::Command, None);
        book.enter_child(id);
        assert_eq!(book.child_is_up(id, None), 1);
        assert!(!book.leave_child(id));
        assert!(book.leave_child(id));
        assert!(!book.leave_child(id), "gone already");
        let failed = book.new_child_tunnel(ActivationMethod::OnDemand, None);
        assert_ne!(failed, id);
        assert!(!book.leave_child(failed), "was never up");
    }

    #[test]
    fn t28_half_open_counts_return_to_nothing() {
        let mut half = HalfOpen::default();
        let remote: SocketAddr = "192.0.2.7:500".parse().unwrap();
        for n in 0..5 {
            half.enter(remote, n, SaKey(n));
            half.enter(remote, n, SaKey(n));
        }
        assert_eq!((half.len(), half.of(remote.ip())), (5, 5));
        for n in 0..5 {
            half.leave(remote, n);
            half.leave(remote, n);
        }
        assert_eq!((half.len(), half.of(remote.ip())), (0, 0));
        assert!(half.by_source.is_empty());
    }
}
