//! IKE tunnels that go on at another process: what the old one writes down, and how the new one takes it up.
//!
//! ```text
//!  old owner: a step ─► Event::Changed ─► export ─► stored ─► Command::Stored ─► the step's messages are sent
//!  new owner: Command::Restore ─► the same SAs; open requests and answers are repeated octet by octet
//! ```
//!
//! So nothing has been sent that is not in the snapshot, and nothing is sent anew that it holds.

use super::{Engine, established};
use crate::ike::command::Restore;
use crate::ike::context::Context;
use crate::ike::event::Event;
use crate::ike::failure::Failure;
use crate::ike::snapshot::{IkeSnapshot, SaRecord};
use crate::ike::table::SaKey;
use crate::ike::types::{IkeTunnelId, TunnelId};
use crate::ike::v2::established::Next;
use crate::ike::v2::record;
use crate::ike::v2::revive::{self, Revival};
use crate::ike::v2::sa::{IkeSa, State};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Epochs after which IVs of IKE messages would begin again.
const EPOCHS: u64 = 1 << 16;

/// SAs that go on before what they have to say is fetched.
const AT_ONCE: usize = 16;

impl Engine {
    /// An IKE tunnel as it is now, for another process to go on with; `unix` is now, in seconds since 1970. `None` if it has no
    /// established IKE SA.
    #[must_use]
    pub fn export(&self, id: IkeTunnelId, unix: u64) -> Option<IkeSnapshot> {
        let book = &self.book;
        let of_tunnel = book.sas_of_ike(id).filter_map(|key| self.sas.get(&key));
        let own_spi = |key: SaKey| self.sas.get(&key).map(|sa| sa.own_spi());
        let epoch = |sa: &IkeSa| self.settings.continued.get(&sa.local.ip()).copied().unwrap_or(0);
        let mut sas: Vec<SaRecord> =
            of_tunnel.filter_map(|sa| record::record(sa, self.now, epoch(sa), &own_spi)).collect();
        sas.sort_by_key(|sa| sa.generation);
        if sas.is_empty() {
            return None;
        }
        let mut named = BTreeSet::new();
        for sa in &sas {
            named.extend(sa.tunnels());
        }
        let tunnels = named.into_iter().filter_map(|id| book.record_child(TunnelId(id), self.now)).collect();
        Some(IkeSnapshot { tunnel: id, generations: book.ike_generations(id), taken: unix, sas, tunnels })
    }

    /// All IKE tunnels of a home address that [`Self::export`] would give something for.
    #[must_use]
    pub fn tunnels_of(&self, local: std::net::IpAddr) -> Vec<IkeTunnelId> {
        let of_address = |sa: &IkeSa| sa.local.ip() == local && matches!(sa.state, State::Established(_));
        let ids: BTreeSet<IkeTunnelId> =
            self.sas.values().filter(|sa| of_address(sa)).map(|sa| sa.tunnel).collect();
        ids.into_iter().collect()
    }

    /// Ends a tunnel without a word.
    pub(super) fn forget_tunnel(&mut self, id: IkeTunnelId) {
        for key in self.keys(|sa| sa.tunnel == id) {
            self.with(key, |sa, ctx| {
                let reason = &Failure::deactivated("another system goes on with it");
                match std::mem::replace(&mut sa.state, State::Closed) {
                    State::Established(established) => sa.state = established.end(sa, ctx, reason),
                    State::Connecting | State::ExpectAuthRequest(_) => sa.state = sa.end(ctx, reason),
                    State::Closed => {}
                }
                // Repeats are answered by the one that goes on.
                sa.timers.stop(crate::ike::timer::Timer::Linger);
            });
        }
        self.out.drop_held(id);
    }

    /// Children whose keys were not kept are replaced: only then another process can go on with them.
    pub(super) fn renew_unkept(&mut self) {
        for key in self.keys(|sa| matches!(sa.state, State::Established(_))) {
            self.with(key, |sa, ctx| {
                if !ctx.is_continued(sa.local.ip()) {
                    return;
                }
                sa.changed(ctx);
                established(sa, ctx, |established, sa, _| {
                    let unkept = established.children.values().filter(|child| child.keys.is_none());
                    for spi in unkept.map(|child| child.spi_in).collect::<Vec<_>>() {
                        established.want_rekey(sa, spi);
                    }
                    Next::Keep
                });
            });
        }
    }

    /// Takes a tunnel up.
    pub(super) fn restore(&mut self, restore: Restore) {
        let Restore { snapshot, unix, succession } = restore;
        let was = snapshot.tunnel;
        if let Err(reason) = self.check(&snapshot) {
            return self.out.events.push_back(Event::RestoreRefused { was, reason });
        }
        let IkeSnapshot { generations, taken, sas, tunnels, .. } = snapshot;
        let elapsed = Duration::from_secs(unix.saturating_sub(taken));
        let id = self.book.restore_ike_tunnel(was, generations);
        let mut revival = Revival {
            id,
            elapsed,
            succession: &succession,
            keys: BTreeMap::new(),
            contested: sas.iter().filter_map(SaRecord::rival).collect(),
            tunnels: BTreeMap::new(),
            lost: 0,
        };
        for sa in &sas {
            revival.keys.insert(sa.own_spi(), self.book.new_sa());
        }
        for tunnel in tunnels {
            let was = tunnel.id;
            let ends = tunnel.vpn_life_in.map(|left| self.now + revival.left(left));
            if let Entry::Vacant(unknown) = revival.tunnels.entry(was) {
                unknown.insert(self.book.restore_child_tunnel(tunnel, ends));
            }
        }
        self.out.events.push_back(Event::IkeUp(id));
        let mut restored = Vec::new();
        for record in sas {
            let mut ctx = context!(self);
            if let Some(sa) = revive::revive(record, &mut ctx, &mut revival) {
                restored.push(sa.key);
                self.store(sa);
            }
        }
        let Revival { tunnels, lost, .. } = revival;
        for tunnel in tunnels.into_values() {
            // The user that held it until its SAs were there.
            self.book.leave_child(tunnel);
        }
        self.out.events.push_back(Event::Restored { was, id, lost });
        self.resuming.extend(restored);
    }

    /// Lets some of the SAs that were taken up go on. Apart from taking them up, because that is cheap and opens the way for
    /// what this side sends, and a rekey is not: of many tunnels none waits for the key exchanges of the others.
    pub(super) fn resume_some(&mut self) {
        for _ in 0..AT_ONCE {
            let Some(key) = self.resuming.pop_front() else { return };
            self.with(key, resume);
        }
    }

    /// Whether the snapshot can be taken up here, as a whole.
    fn check(&self, snapshot: &IkeSnapshot) -> Result<(), String> {
        if snapshot.sas.is_empty() {
            return Err("no IKE SA in it".to_owned());
        }
        let mut spis = BTreeSet::new();
        for sa in &snapshot.sas {
            let local = sa.local.ip();
            let Some(&epoch) = self.settings.continued.get(&local) else {
                return Err(format!("SAs of {local} are not continued here"));
            };
            if epoch < sa.epoch || epoch - sa.born.min(epoch) >= EPOCHS {
                return Err(format!("made in epoch {} to {}, {epoch} is ours", sa.born, sa.epoch));
            }
            for spi in sa.own_spis() {
                if self.book.ike_spis.contains_key(&spi) || !spis.insert(spi) {
                    return Err("it is here already".to_owned());
                }
            }
            sa.check(&self.rules)?;
        }
        Ok(())
    }
}

/// Repeats the open request and does what is due.
fn resume(sa: &mut IkeSa, ctx: &mut Context<'_>) {
    sa.changed(ctx);
    if let Some(open) = sa.outbound.open() {
        // It stands where the snapshot came from: nothing to wait for.
        let message = open.message.clone();
        let wait = open.backoff.wait();
        sa.send(ctx, message);
        sa.timers.set(crate::ike::timer::Timer::Retransmit, ctx.now + wait);
    }
    super::go_on(sa, ctx);
}
