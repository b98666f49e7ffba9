//! Whether this stack may act as owner: the lease, and the ceilings of the numbers that it sends (threats T47, T26).
//!
//! `iked` says until when, by the clock of the host that goes on while it sleeps; the driver gives the time of each batch. So
//! a stack that was stopped for longer than its lease finds it over with the first packet that it looks at. Static home
//! addresses are nobody else's and need none.

use super::Engine;
use super::ceiling::Ceiling;
use super::io::Output;
use super::roles::HomeRole;
use super::sad::SaHandle;
use super::verdict::DropReason;
use crate::control::FromStack;
use hashbrown::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The right to act as owner.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lease {
    /// Without it the right does not end.
    pub(super) required: bool,
    until_ns: u64,
    now_ns: u64,
}

impl Lease {
    /// Whether it holds now.
    pub(super) const fn holds(self) -> bool {
        !self.required || self.now_ns < self.until_ns
    }
}

#[derive(Debug)]
struct Held {
    epoch: u64,
    ceiling: Arc<Ceiling>,
}

/// Ceilings by DVIPA.
#[derive(Debug, Default)]
pub(super) struct Ceilings {
    of: HashMap<IpAddr, Held>,
}

impl Ceilings {
    /// The one that SAs of the DVIPA share; closed until `iked` says how far.
    pub(super) fn of(&mut self, dvipa: IpAddr) -> Arc<Ceiling> {
        let held = self.of.entry(dvipa).or_insert_with(|| Held { epoch: 0, ceiling: Arc::default() });
        held.ceiling.clone()
    }

    /// Within an epoch a ceiling only grows: a smaller one is an older message's.
    fn set(&mut self, dvipa: IpAddr, epoch: u64, highest: u64) {
        let held = self.of.entry(dvipa).or_insert_with(|| Held { epoch, ceiling: Arc::default() });
        if epoch > held.epoch || (epoch == held.epoch && highest > held.ceiling.highest()) {
            held.epoch = epoch;
            held.ceiling.set(highest);
        }
    }

    /// The DVIPA is another's: what is left of its SAs sends nothing.
    pub(super) fn close(&mut self, dvipa: IpAddr) {
        if let Some(held) = self.of.remove(&dvipa) {
            held.ceiling.set(0);
        }
    }

    pub(super) fn highest(&self, dvipa: IpAddr) -> Option<u64> {
        self.of.get(&dvipa).map(|h| h.ceiling.highest()).filter(|h| *h > 0)
    }

    fn epoch(&self, dvipa: IpAddr) -> u64 {
        self.of.get(&dvipa).map_or(0, |h| h.epoch)
    }
}

impl Engine {
    /// The time of `CLOCK_BOOTTIME` in nanoseconds, to be given before each batch.
    pub const fn set_boot_time(&mut self, ns: u64) {
        self.lease.now_ns = ns;
    }

    /// This stack may act as owner until then, in nanoseconds of `CLOCK_BOOTTIME`; an instant that is over ends it now.
    pub const fn lease(&mut self, until_boot_ns: u64) {
        self.lease.until_ns = until_boot_ns;
    }

    /// Numbers of SAs of `dvipa` may go up to `highest`.
    pub fn ceiling(&mut self, dvipa: IpAddr, epoch: u64, highest: u64) {
        self.ceilings.set(dvipa, epoch, highest);
    }

    /// Whether an IKE message may leave with this address as source; otherwise it is counted as dropped.
    pub fn may_send_ike(&mut self, local: IpAddr) -> bool {
        let may = self.lease.holds() || self.role(local) == Some(HomeRole::Static);
        if !may {
            self.drops.count(DropReason::LeaseEnded);
        }
        may
    }

    /// Whether an owner may do what it does.
    pub(super) fn as_owner(&self, role: Option<HomeRole>) -> Result<(), DropReason> {
        if role != Some(HomeRole::Owner) || self.lease.holds() { Ok(()) } else { Err(DropReason::LeaseEnded) }
    }

    /// Whether the address is a DVIPA of ours that we cannot prove to own. Costs nothing while the lease holds.
    pub(super) fn may_not_own(&self, a: IpAddr) -> bool {
        !self.lease.holds() && self.role(a) == Some(HomeRole::Owner)
    }

    /// Tells `iked` when an SA that has sent comes near its ceiling.
    pub(super) fn note_ceiling(&mut self, handle: SaHandle, out: &mut Output) {
        let Some((dvipa, highest_used)) = self.sad.get(handle).and_then(|sa| sa.take_ceiling_wish()) else {
            return;
        };
        let epoch = self.ceilings.epoch(dvipa);
        out.events.push(FromStack::CeilingWanted { dvipa, epoch, highest_used });
    }
}
