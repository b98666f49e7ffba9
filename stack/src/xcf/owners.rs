//! Who owns which DVIPA, as far as this stack has heard: the greatest epoch counts.

use super::datagram::Owned;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// DVIPAs that are kept, at most.
const MAX_DVIPAS: usize = 4096;

/// The owner of a DVIPA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    /// Its XCF address.
    pub(super) xcf: IpAddr,
    pub(super) epoch: u64,
    /// What it said of its ceiling.
    pub(super) ceiling: Option<u64>,
    /// It said so itself; otherwise the configuration does.
    pub(super) heard: bool,
}

/// What a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// Another owner than before, or the first.
    NewOwner,
    /// The known owner says so itself for the first time, or has another ceiling.
    News,
    /// Nothing new.
    Known,
    /// The epoch is over.
    Old,
    /// Somebody else said so at the same epoch.
    Conflict,
    /// There is no room.
    NoRoom,
}

#[derive(Debug, Default)]
pub(super) struct Owners(BTreeMap<IpAddr, Owner>);

impl Owners {
    pub(super) fn get(&self, dvipa: IpAddr) -> Option<Owner> {
        self.0.get(&dvipa).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, Owner)> {
        self.0.iter().map(|(dvipa, owner)| (*dvipa, *owner))
    }

    /// `xcf` owns a DVIPA, as it says itself (`heard`) or the configuration does.
    pub(super) fn claim(&mut self, xcf: IpAddr, owned: Owned, heard: bool) -> Claim {
        let new = Owner { xcf, epoch: owned.epoch, ceiling: owned.ceiling, heard };
        let full = self.0.len() >= MAX_DVIPAS;
        match self.0.get_mut(&owned.dvipa) {
            None if full => Claim::NoRoom,
            None => {
                self.0.insert(owned.dvipa, new);
                Claim::NewOwner
            }
            Some(known) if owned.epoch < known.epoch => Claim::Old,
            Some(known) if owned.epoch > known.epoch => {
                *known = new;
                Claim::NewOwner
            }
            Some(known) if known.xcf != xcf => Claim::Conflict,
            // Heartbeats overtake each other; a ceiling only grows.
            Some(known) if owned.ceiling > known.ceiling || heard && !known.heard => {
                known.ceiling = known.ceiling.max(owned.ceiling);
                known.heard |= heard;
                Claim::News
            }
            Some(_) => Claim::Known,
        }
    }

    /// What is not in the configuration and was heard of nobody who is a member any more goes.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(IpAddr, Owner) -> bool) {
        self.0.retain(|dvipa, owner| keep(*dvipa, *owner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t47_r8_the_greatest_epoch_counts() {
        let mut o = Owners::default();
        let d = IpAddr::from([192, 0, 2, 80]);
        let (a, b) = (IpAddr::from([10, 99, 0, 1]), IpAddr::from([10, 99, 0, 2]));
        let owned = |epoch, ceiling| Owned { dvipa: d, epoch, ceiling };
        assert_eq!(o.claim(a, owned(3, None), true), Claim::NewOwner);
        assert_eq!(o.claim(a, owned(3, None), true), Claim::Known);
        assert_eq!(o.claim(a, owned(3, Some(10)), true), Claim::News);
        assert_eq!(o.claim(a, owned(3, Some(9)), true), Claim::Known, "overtaken");
        assert_eq!(o.claim(b, owned(2, None), true), Claim::Old);
        assert_eq!(o.claim(b, owned(3, None), true), Claim::Conflict);
        assert_eq!(o.claim(b, owned(4, None), true), Claim::NewOwner);
        assert_eq!(o.claim(a, owned(3, Some(99)), true), Claim::Old);
        assert_eq!(o.get(d), Some(Owner { xcf: b, epoch: 4, ceiling: None, heard: true }));
    }

    #[test]
    fn t45_more_dvipas_than_are_kept() {
        let mut o = Owners::default();
        let a = IpAddr::from([10, 99, 0, 1]);
        for n in 0..u32::try_from(MAX_DVIPAS).unwrap() {
            let dvipa = IpAddr::from(n.to_be_bytes());
            assert_eq!(o.claim(a, Owned { dvipa, epoch: 1, ceiling: None }, true), Claim::NewOwner);
        }
        let dvipa = IpAddr::from([255, 0, 0, 1]);
        assert_eq!(o.claim(a, Owned { dvipa, epoch: 1, ceiling: None }, true), Claim::NoRoom);
    }
}
