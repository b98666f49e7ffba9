//! Ownership of DVIPAs: who may write their records, and the refusal of everybody else.
//!
//! The owner record is taken by compare-and-swap with an epoch one higher. What comes out is a [`Fence`]; only
//! with one can records be written, and each such write is a transaction on the condition that the owner record
//! is, byte for byte, the one that this owner wrote (its seal's random salt makes it unique). An old owner that
//! comes back to life finds its writes refused (threats T47).

use super::record::{self, Malformed, Owner, Phase1, Phase2, RecordId};
use super::seal::{SealError, SysplexKey};
use super::{
    CfError, Change, CouplingFacility, MAX_VALUE_BYTES, Outcome, PAGE, Paths, RecordKey, Transaction,
};
use rand::TryRng;
use std::net::IpAddr;

/// A coupling facility, used as one sysplex.
#[derive(Debug)]
pub struct Sysplex<C> {
    facility: C,
    paths: Paths,
    key: SysplexKey,
}

/// Proof that a DVIPA is owned at an epoch; needed for each write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    dvipa: IpAddr,
    epoch: u64,
    /// The owner record as it stands in the store.
    sealed: Vec<u8>,
}

impl Fence {
    /// The DVIPA.
    #[must_use]
    pub const fn dvipa(&self) -> IpAddr {
        self.dvipa
    }
    /// Epoch of the ownership.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// IKE tunnel.
    Phase1(Box<Phase1>),
    /// Dynamic tunnel.
    Phase2(Box<Phase2>),
}

/// Everything that stands in the store about a DVIPA.
#[derive(Debug, Default)]
pub struct Contents {
    /// IKE tunnels, with the epoch of their writer.
    pub phase1: Vec<(RecordId, u64, Phase1)>,
    /// Dynamic tunnels.
    pub phase2: Vec<(RecordId, u64, Phase2)>,
    /// Records that were refused, and why; the rest is used (threats T49).
    pub refused: Vec<(String, Refusal)>,
}

/// Why one record is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Its content.
    #[error(transparent)]
    Content(#[from] Malformed),
    /// Its key.
    #[error("key is no record id")]
    Key,
    /// Its epoch, which is greater than the owner's: the store was set back or mixed.
    #[error("epoch {0} is greater than the owner's")]
    Future(u64),
}

/// Why something could not be written or taken.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The store.
    #[error(transparent)]
    Store(#[from] CfError),
    /// Somebody else owns the DVIPA by now.
    #[error("this stack does not own {0} any more")]
    Lost(IpAddr),
    /// The owner record is not to be trusted; to take the DVIPA anyway, an operator removes the record.
    #[error("the owner record of {dvipa} is refused: {reason}")]
    OwnerRefused {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Why.
        reason: Refusal,
    },
    /// The epoch cannot grow.
    #[error("the epoch of {0} is at its end")]
    EpochsExhausted(IpAddr),
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
}

impl<C: CouplingFacility> Sysplex<C> {
    /// The sysplex called `name` in `facility`.
    pub fn new(facility: C, name: &str, key: SysplexKey) -> Self {
        Self { facility, paths: Paths::new(name), key }
    }

    /// The key, for record ids.
    pub const fn key(&self) -> &SysplexKey {
        &self.key
    }

    /// Where what is kept.
    pub const fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Who owns `dvipa`.
    ///
    /// # Errors
    /// The store, or an owner record that is refused.
    pub async fn owner(&self, dvipa: IpAddr) -> Result<Option<Owner>, FenceError> {
        Ok(self.owner_sealed(dvipa).await?.map(|(owner, _)| owner))
    }

    async fn owner_sealed(&self, dvipa: IpAddr) -> Result<Option<(Owner, Vec<u8>)>, FenceError> {
        let path = self.paths.owner(dvipa);
        let Some(sealed) = self.facility.get(&path).await? else { return Ok(None) };
        let owner = self
            .open::<Owner>(&path, &sealed)
            .map_err(|reason| FenceError::OwnerRefused { dvipa, reason })?;
        Ok(Some((owner.1, sealed)))
    }

    /// Makes `system`'s `stack` the owner of `dvipa`, whoever is it now, with the next epoch.
    ///
    /// # Errors
    /// As [`FenceError`]; [`FenceError::Lost`] if another one was faster.
    pub async fn claim(&self, dvipa: IpAddr, system: &str, stack: &str) -> Result<Fence, FenceError> {
        let before = self.owner_sealed(dvipa).await?;
        let epoch = match &before {
            None => 1,
            Some((o, _)) => o.epoch.checked_add(1).ok_or(FenceError::EpochsExhausted(dvipa))?,
        };
        let owner = Owner { system: system.into(), stack: stack.into(), epoch };
        let path = self.paths.owner(dvipa);
        let sealed = self.seal(&path, epoch, &owner)?;
        let swap = Transaction {
            condition: (path.clone(), before.map(|(_, sealed)| sealed)),
            changes: vec![Change::Put(path, sealed.clone())],
        };
        match self.facility.commit(swap).await? {
            Outcome::Committed => Ok(Fence { dvipa, epoch, sealed }),
            Outcome::ConditionFailed => Err(FenceError::Lost(dvipa)),
        }
    }

    /// Writes (`Some`) or removes (`None`) records, all or none, if the DVIPA is still owned. At most [`PAGE`].
    ///
    /// # Errors
    /// As [`FenceError`].
    pub async fn write(
        &self,
        fence: &Fence,
        records: &[(RecordKey, Option<Record>)],
    ) -> Result<(), FenceError> {
        let mut changes = Vec::with_capacity(records.len());
        for (key, record) in records {
            let path = self.paths.record(fence.dvipa, *key);
            changes.push(match record {
                None => Change::Remove(path),
                Some(Record::Phase1(r)) => Change::Put(path.clone(), self.seal(&path, fence.epoch, r)?),
                Some(Record::Phase2(r)) => Change::Put(path.clone(), self.seal(&path, fence.epoch, r)?),
            });
        }
        self.commit_fenced(fence, changes).await
    }

    /// Everything about `dvipa`, records of any epoch up to its owner's.
    ///
    /// # Errors
    /// The store, or an owner record that is refused.
    pub async fn read(&self, dvipa: IpAddr) -> Result<Contents, FenceError> {
        let newest = self.owner(dvipa).await?.map_or(0, |o| o.epoch);
        let mut contents = Contents::default();
        let Contents { phase1, phase2, refused } = &mut contents;
        self.read_prefix(&self.paths.phase1(dvipa), newest, phase1, refused).await?;
        self.read_prefix(&self.paths.phase2(dvipa), newest, phase2, refused).await?;
        Ok(contents)
    }

    async fn read_prefix<T: serde::de::DeserializeOwned>(
        &self,
        prefix: &str,
        newest: u64,
        into: &mut Vec<(RecordId, u64, T)>,
        refused: &mut Vec<(String, Refusal)>,
    ) -> Result<(), FenceError> {
        let mut after = None;
        loop {
            let page = self.facility.page(prefix, after.as_deref()).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (path, sealed) in page {
                let opened = record_id(prefix, &path).and_then(|id| {
                    let (epoch, record) = self.open::<T>(&path, &sealed)?;
                    if epoch > newest { Err(Refusal::Future(epoch)) } else { Ok((id, epoch, record)) }
                });
                match opened {
                    Ok(record) => into.push(record),
                    Err(reason) => refused.push((path, reason)),
                }
            }
        }
    }

    /// Removes what owners before this one left, unreadable records included. Returns how many.
    ///
    /// # Errors
    /// As [`FenceError`].
    pub async fn clear_older(&self, fence: &Fence) -> Result<usize, FenceError> {
        let mut removed = 0;
        for prefix in [self.paths.phase1(fence.dvipa), self.paths.phase2(fence.dvipa)] {
            let mut after = None;
            loop {
                let page = self.facility.page(&prefix, after.as_deref()).await?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                let current = |path: &str, sealed: &[u8]| {
                    self.key.open(path, sealed).is_ok_and(|o| o.epoch == fence.epoch)
                };
                let old: Vec<_> = page
                    .into_iter()
                    .filter(|(p, v)| !current(p, v))
                    .map(|(p, _)| Change::Remove(p))
                    .collect();
                removed += old.len();
                if !old.is_empty() {
                    self.commit_fenced(fence, old).await?;
                }
            }
        }
        Ok(removed)
    }

    async fn commit_fenced(&self, fence: &Fence, changes: Vec<Change>) -> Result<(), FenceError> {
        debug_assert!(changes.len() <= PAGE);
        let condition = (self.paths.owner(fence.dvipa), Some(fence.sealed.clone()));
        match self.facility.commit(Transaction { condition, changes }).await? {
            Outcome::Committed => Ok(()),
            Outcome::ConditionFailed => Err(FenceError::Lost(fence.dvipa)),
        }
    }

    fn seal<T: serde::Serialize>(&self, path: &str, epoch: u64, record: &T) -> Result<Vec<u8>, FenceError> {
        let mut salt = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut salt).map_err(|e| FenceError::Random(e.to_string()))?;
        let sealed = self.key.seal(path, epoch, salt, &record::encode(record));
        if sealed.len() > MAX_VALUE_BYTES {
            return Err(CfError::TooLarge(sealed.len()).into());
        }
        Ok(sealed)
    }

    fn open<T: serde::de::DeserializeOwned>(&self, path: &str, sealed: &[u8]) -> Result<(u64, T), Refusal> {
        let opened = self.key.open(path, sealed)?;
        Ok((opened.epoch, record::decode(&opened.plaintext)?))
    }
}

fn record_id(prefix: &str, path: &str) -> Result<RecordId, Refusal> {
    let mut id = [0; 16];
    let digits = path.strip_prefix(prefix).ok_or(Refusal::Key)?;
    hex::decode_to_slice(digits, &mut id).map_err(|_| Refusal::Key)?;
    Ok(RecordId(id))
}

#[cfg(test)]
mod tests {
    use super::super::sled::Embedded;
    use super::*;
    use crate::cf::record::tests::{phase1, phase2};

    const KEY: SysplexKey = SysplexKey::new([7; 32]);

    struct Fixture {
        _dir: tempfile::TempDir,
        cf: Embedded,
        plex: Sysplex<Embedded>,
        vip: IpAddr,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let cf = Embedded::open(&dir.path().join("cf")).unwrap();
        let plex = Sysplex::new(cf.clone(), "plex1", KEY);
        Fixture { _dir: dir, cf, plex, vip: "203.0.113.10".parse().unwrap() }
    }

    fn p1(id: u8) -> (RecordKey, Option<Record>) {
        (RecordKey::Phase1(RecordId([id; 16])), Some(Record::Phase1(Box::new(phase1()))))
    }

    fn p2(id: u8) -> (RecordKey, Option<Record>) {
        (
            RecordKey::Phase2(RecordId([id; 16])),
            Some(Record::Phase2(Box::new(phase2(RecordId([1; 16]), u32::from(id))))),
        )
    }

    #[tokio::test]
    async fn an_owner_writes_and_reads_its_records() {
        let f = fixture();
        let fence = f.plex.claim(f.vip, "SYSA", "TCPCS1").await.unwrap();
        assert_eq!(fence.epoch(), 1);
        f.plex.write(&fence, &[p1(1), p2(2), p2(3)]).await.unwrap();
        f.plex.write(&fence, &[(p2(3).0, None)]).await.unwrap();
        let c = f.plex.read(f.vip).await.unwrap();
        assert_eq!(c.phase1, [(RecordId([1; 16]), 1, phase1())]);
        assert_eq!(c.phase2, [(RecordId([2; 16]), 1, phase2(RecordId([1; 16]), 2))]);
        assert!(c.refused.is_empty());
    }

    #[tokio::test]
    async fn t47_an_old_owner_can_neither_write_nor_clear() {
        let f = fixture();
        let old = f.plex.claim(f.vip, "SYSA", "TCPCS1").await.unwrap();
        f.plex.write(&old, &[p1(1)]).await.unwrap();
        let new = f.plex.claim(f.vip, "SYSA", "TCPCS2").await.unwrap();
        assert_eq!(new.epoch(), 2);
        assert!(matches!(f.plex.write(&old, &[p2(9)]).await, Err(FenceError::Lost(_))));
        f.plex.write(&new, &[p2(4)]).await.unwrap();
        assert!(matches!(f.plex.clear_older(&old).await, Err(FenceError::Lost(_))));
        assert_eq!(f.plex.read(f.vip).await.unwrap().phase1.len(), 1, "kept until the new owner clears");
        assert_eq!(f.plex.clear_older(&new).await.unwrap(), 1);
        let c = f.plex.read(f.vip).await.unwrap();
        assert!(c.phase1.is_empty());
        assert_eq!(c.phase2.len(), 1);
    }

    #[tokio::test]
    async fn t47_of_many_claims_at_once_each_epoch_is_won_once() {
        let f = fixture();
        let claims = (0..20).map(|i| {
            let (plex, vip) = (Sysplex::new(f.cf.clone(), "PLEX1", KEY), f.vip);
            tokio::spawn(async move { plex.claim(vip, "SYSA", &format!("S{i}")).await })
        });
        let mut epochs = Vec::new();
        for claim in claims.collect::<Vec<_>>() {
            match claim.await.unwrap() {
                Ok(f) => epochs.push(f.epoch()),
                Err(FenceError::Lost(_)) => {}
                Err(e) => panic!("{e}"),
            }
        }
        epochs.sort_unstable();
        let n = epochs.len() as u64;
        assert!(n >= 1);
        assert_eq!(epochs, (1..=n).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn t49_hostile_records_are_refused_one_by_one() {
        let f = fixture();
        let fence = f.plex.claim(f.vip, "SYSA", "TCPCS1").await.unwrap();
        f.plex.write(&fence, &[p1(1), p2(2)]).await.unwrap();
        let put = async |path: &str, v: Vec<u8>| {
            let condition = ("/none".to_owned(), None);
            f.cf.commit(Transaction { condition, changes: vec![Change::Put(path.into(), v)] }).await.unwrap();
        };
        let p = f.plex.paths.phase1(f.vip);
        let good = f.cf.get(&format!("{p}{}", RecordId([1; 16]))).await.unwrap().unwrap();
        let at = |n: u8| format!("{p}{}", RecordId([n; 16]));
        put(&at(2), good.clone()).await; // moved
        put(&at(3), good[..20].to_vec()).await; // truncated
        put(&at(4), SysplexKey::new([8; 32]).seal(&at(4), 1, [0; 32], &record::encode(&phase1()))).await; // wrong key
        put(&at(5), [&[9], &good[1..]].concat()).await; // another version
        put(&at(6), KEY.seal(&at(6), 1, [0; 32], b"not a record")).await; // sealed nonsense
        put(&at(7), KEY.seal(&at(7), 5, [0; 32], &record::encode(&phase1()))).await; // from the future
        put(&format!("{p}../../owner"), good.clone()).await; // no id
        put(&at(8), vec![1; MAX_VALUE_BYTES]).await; // huge
        let c = f.plex.read(f.vip).await.unwrap();
        assert_eq!(c.phase1.len(), 1, "the good one is used");
        assert_eq!(c.phase2.len(), 1);
        assert_eq!(c.refused.len(), 8);
        // What is sealed at this epoch is this owner's own, whatever it is.
        assert_eq!(f.plex.clear_older(&fence).await.unwrap(), 7);
        assert_eq!(f.plex.read(f.vip).await.unwrap().refused.len(), 1);
    }

    #[tokio::test]
    async fn t49_a_forged_owner_record_stops_claims_with_its_reason() {
        let f = fixture();
        let path = f.plex.paths.owner(f.vip);
        let change = Change::Put(path.clone(), vec![1; 80]);
        f.cf.commit(Transaction { condition: (path, None), changes: vec![change] }).await.unwrap();
        let e = f.plex.claim(f.vip, "SYSA", "TCPCS1").await.unwrap_err();
        insta::assert_snapshot!(e.to_string(), @"the owner record of 203.0.113.10 is refused: not sealed under this sysplex key for this place");
    }

    #[tokio::test]
    async fn t49_records_of_another_sysplex_do_not_open() {
        let f = fixture();
        let fence = f.plex.claim(f.vip, "SYSA", "TCPCS1").await.unwrap();
        let theirs = Sysplex::new(f.cf.clone(), "PLEX2", KEY);
        let path = theirs.paths.owner(f.vip);
        let change = Change::Put(path.clone(), fence.sealed.clone());
        f.cf.commit(Transaction { condition: (path, None), changes: vec![change] }).await.unwrap();
        assert!(matches!(theirs.owner(f.vip).await, Err(FenceError::OwnerRefused { .. })));
    }
}
