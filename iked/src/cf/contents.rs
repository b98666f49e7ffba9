//! What stands in the store about a DVIPA: read at a takeover, tidied afterwards.

use super::fence::{Fence, FenceError, SetBack, Sysplex, in_bounds};
use super::record::{Ceiling, Malformed, Owner, Phase1, Phase2, RecordId, Secret, Stored};
use super::seal::{Opened, SealError};
use super::{CfError, Change, CouplingFacility, Entry, MAX_RECORDS, MAX_REFUSED};
use stack::control::PortTranslation;
use std::net::IpAddr;
use std::time::Instant;

/// Everything that stands in the store about a DVIPA.
#[derive(Debug, Default)]
pub struct Contents {
    /// IKE tunnels, with the epoch of their writer.
    pub phase1: Vec<(RecordId, u64, Phase1)>,
    /// Dynamic tunnels.
    pub phase2: Vec<(RecordId, u64, Phase2)>,
    /// Translated ports that came beside the records of another system; others stand in the records.
    pub translations: Vec<PortTranslation>,
    /// What continues IKE tunnels and their children; with `takeover = "continue"` only.
    pub keys: Vec<(RecordId, u64, Secret)>,
    /// Epoch and highest sequence number that its owner may have used.
    pub ceiling: Option<(u64, Ceiling)>,
    /// The owner before.
    pub previous: Option<Owner>,
    /// When the owner record was taken, if this was read for that; reading followed.
    pub acquired: Option<Instant>,
    /// The store was set back: nothing of it may be continued.
    pub set_back: Option<SetBack>,
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

/// Records with their epochs, and those that were refused.
type Found<T> = (Vec<(RecordId, u64, T)>, Vec<(String, Refusal)>);

impl<C: CouplingFacility> Sysplex<C> {
    /// Everything about `dvipa`, records of any epoch up to its owner's.
    ///
    /// # Errors
    /// The store, or an owner record that is refused.
    pub async fn read(&self, dvipa: IpAddr) -> Result<Contents, FenceError> {
        let owner = self.owner(dvipa).await?.map(|(o, _)| o);
        let mut contents = self.read_up_to(dvipa, owner.as_ref().map_or(0, |o| o.epoch)).await?;
        contents.previous = owner;
        Ok(contents)
    }

    /// All kinds at once: at a takeover nobody is served until the last of them is read.
    pub(super) async fn read_up_to(&self, dvipa: IpAddr, newest: u64) -> Result<Contents, FenceError> {
        let (phase1, phase2, keys) =
            (self.paths().phase1(dvipa), self.paths().phase2(dvipa), self.paths().keys(dvipa));
        let ceiling = self.paths().ceiling(dvipa);
        let (phase1, phase2, keys, ceiling_entry) = tokio::try_join!(
            self.read_prefix(&phase1, newest, |o| Ok(Stored::of(o)?)),
            self.read_prefix(&phase2, newest, |o| Ok(Stored::of(o)?)),
            self.read_prefix(&keys, newest, |o| Ok(Secret::new(o.plaintext.to_vec()))),
            self.get(&ceiling),
        )?;
        let mut refused = [phase1.1, phase2.1, keys.1].concat();
        let mut found = None;
        if let Some(entry) = ceiling_entry {
            match self.open::<Ceiling>(&ceiling, &entry.value) {
                Ok((epoch, _)) if epoch > newest => refused.push((ceiling, Refusal::Future(epoch))),
                Ok(opened) => found = Some(opened),
                Err(reason) => refused.push((ceiling, reason)),
            }
        }
        let (phase1, phase2, keys) = (phase1.0, phase2.0, keys.0);
        Ok(Contents { phase1, phase2, keys, ceiling: found, refused, ..Contents::default() })
    }

    async fn read_prefix<T>(
        &self,
        prefix: &str,
        newest: u64,
        decode: impl Fn(&Opened) -> Result<T, Refusal>,
    ) -> Result<Found<T>, CfError> {
        let (mut records, mut refused, mut after) = (Vec::new(), Vec::new(), None);
        while records.len() < MAX_RECORDS {
            let page = self.page(prefix, after.as_deref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for entry in page {
                let opened = record_id(prefix, &entry.key).and_then(|id| {
                    let opened = self.key().open(&entry.key, &entry.value)?;
                    if opened.epoch > newest {
                        return Err(Refusal::Future(opened.epoch));
                    }
                    Ok((id, opened.epoch, decode(&opened)?))
                });
                match opened {
                    Ok(record) => records.push(record),
                    Err(reason) if refused.len() < MAX_REFUSED => refused.push((entry.key, reason)),
                    Err(_) => {}
                }
            }
        }
        Ok((records, refused))
    }

    /// Removes what owners before this one left, unreadable records included. Returns how many.
    ///
    /// # Errors
    /// As [`FenceError`].
    pub async fn clear_older(&self, fence: &Fence) -> Result<usize, FenceError> {
        let old = |entry: &Entry| {
            let current = self.key().open(&entry.key, &entry.value).is_ok_and(|o| o.epoch == fence.epoch());
            (!current).then(|| Change::Remove(entry.key.clone()))
        };
        self.change_all(fence, old).await
    }

    /// Removes the keys and the ceiling of a DVIPA that does not continue (threats T27). Returns how many records.
    ///
    /// # Errors
    /// As [`FenceError`].
    pub async fn forget_keys(&self, fence: &Fence) -> Result<usize, FenceError> {
        let remove = |entry: &Entry| Some(Change::Remove(entry.key.clone()));
        let removed = self.change_prefix(fence, &self.paths().keys(fence.dvipa()), &remove).await?;
        let ceiling = self.paths().ceiling(fence.dvipa());
        if self.get(&ceiling).await?.is_none() {
            return Ok(removed);
        }
        self.write(fence, vec![Change::Remove(ceiling)]).await?;
        Ok(removed + 1)
    }

    /// Seals again under the newest key what stands under an older one. Returns how many records.
    ///
    /// # Errors
    /// As [`FenceError`].
    pub async fn reseal(&self, fence: &Fence) -> Result<usize, FenceError> {
        let resealed = |entry: &Entry| {
            let opened = self.key().open(&entry.key, &entry.value).ok().filter(|o| o.old_key)?;
            let sealed = self.seal_octets(&entry.key, opened.format, opened.epoch, &opened.plaintext).ok()?;
            Some(Change::Put(entry.key.clone(), sealed))
        };
        let mut count = self.change_all(fence, resealed).await?;
        if let Some(entry) = self.get(&self.paths().ceiling(fence.dvipa())).await?
            && let Some(change) = resealed(&entry)
        {
            self.write(fence, vec![change]).await?;
            count += 1;
        }
        Ok(count)
    }

    async fn change_all(
        &self,
        fence: &Fence,
        change: impl Fn(&Entry) -> Option<Change>,
    ) -> Result<usize, FenceError> {
        let dvipa = fence.dvipa();
        let mut count = 0;
        for prefix in [self.paths().phase1(dvipa), self.paths().phase2(dvipa), self.paths().keys(dvipa)] {
            count += self.change_prefix(fence, &prefix, &change).await?;
        }
        Ok(count)
    }

    async fn change_prefix(
        &self,
        fence: &Fence,
        prefix: &str,
        change: &impl Fn(&Entry) -> Option<Change>,
    ) -> Result<usize, FenceError> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.page(prefix, after.as_deref()).await?;
            let Some(last) = page.last() else { return Ok(count) };
            after = Some(last.key.clone());
            let changes: Vec<_> = page.iter().filter_map(change).collect();
            for part in in_bounds(changes) {
                count += part.len();
                self.write(fence, part).await?;
            }
        }
    }
}

fn record_id(prefix: &str, path: &str) -> Result<RecordId, Refusal> {
    let digits = path.strip_prefix(prefix).ok_or(Refusal::Key)?;
    let id: RecordId = digits.parse().map_err(|_| Refusal::Key)?;
    // Written in another way it would stand beside the true one.
    if id.to_string() == digits { Ok(id) } else { Err(Refusal::Key) }
}
