//! Ownership of DVIPAs: who may write their records, and the refusal of everybody else.
//!
//! The owner record is taken by compare-and-swap with an epoch one higher. What comes out is a [`Fence`]; only
//! with one can records be written, and each such write is a transaction on the condition that the owner record
//! is, byte for byte, the one that this owner wrote (its seal's random salt makes it unique). An old owner that
//! comes back to life finds its writes refused (threats T47), and so is the renewal of its lease, which has the
//! same condition.
//!
//! A write whose answer is lost may still arrive: [`Sysplex::refence`] writes the owner record again under a fresh
//! salt, after which nothing that was on its way before can happen.

pub use super::contents::{Contents, Refusal};
use super::mirror::Mirror;
use super::order::{AliveSeen, Expected, NotOwned, Progress};
use super::record::{Alive, Ceiling, Owner, Phase1, Phase2, RecordId, Secret, Stored};
use super::seal::{FIRST_FORMAT, KeyInForce, SysplexKey};
use super::{
    CALL_TIME, CfError, Change, Condition, CouplingFacility, Entry, MAX_VALUE_BYTES, Outcome, PAGE, Paths,
    RecordKey, Revision, Transaction, Watch,
};
use rand::TryRng;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A coupling facility, used as one sysplex.
#[derive(Debug, Clone)]
pub struct Sysplex<C> {
    facility: C,
    paths: Paths,
    key: KeyInForce,
    known: Known,
}

/// Proof that a DVIPA is owned at an epoch; needed for each write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    dvipa: IpAddr,
    owner: Owner,
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
        self.owner.epoch
    }
    /// Stack that owns it.
    #[must_use]
    pub fn stack(&self) -> &str {
        &self.owner.stack
    }

    fn condition(&self, paths: &Paths) -> Condition {
        Condition::Value(paths.owner(self.dvipa), self.sealed.clone())
    }
}

/// The furthest that is known of each DVIPA, from the store and past it.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<Mutex<BTreeMap<IpAddr, Progress>>>);

impl Known {
    /// What is known of `dvipa`.
    #[must_use]
    pub fn of(&self, dvipa: IpAddr) -> Progress {
        self.lock().get(&dvipa).copied().unwrap_or_default()
    }

    /// Adds what was seen or heard.
    pub fn raise(&self, dvipa: IpAddr, seen: Progress) {
        let mut all = self.lock();
        let known = all.entry(dvipa).or_default();
        *known = known.max(seen);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<IpAddr, Progress>> {
        // Each change is one assignment: nothing is half done after a panic.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The store knows less than was known before it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetBack {
    /// Known before.
    pub seen: Progress,
    /// What the store says.
    pub found: Progress,
}

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// IKE tunnel.
    Phase1(Box<Phase1>),
    /// Dynamic tunnel.
    Phase2(Box<Phase2>),
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
    /// The owner record is older than this ownership.
    #[error("the store was set back: it has epoch {} of {dvipa}, epoch {} was seen before", .set_back.found.epoch, .set_back.seen.epoch)]
    SetBack {
        /// The DVIPA.
        dvipa: IpAddr,
        /// How far.
        set_back: SetBack,
    },
    /// The claim came to nothing.
    #[error("{dvipa} is not taken: {reason}")]
    NotOwned {
        /// The DVIPA.
        dvipa: IpAddr,
        /// Why.
        reason: NotOwned,
    },
    /// The owner record is not to be trusted; `iked cf repair` replaces it.
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

impl FenceError {
    /// It is the store that does not do its work.
    #[must_use]
    pub const fn is_store(&self) -> bool {
        matches!(self, Self::Store(_))
    }
}

/// What became of an owner record.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is still this owner's, as last written.
    Unchanged,
    /// It is still this owner's, written again by it.
    Rewritten(Fence),
    /// It is still this owner's, which released it.
    Released,
    /// Another one's, of a later epoch.
    Lost,
    /// Of an earlier epoch, or gone.
    SetBack(SetBack),
}

impl<C: CouplingFacility> Sysplex<C> {
    /// The sysplex called `name` in `facility`.
    pub fn new(facility: C, name: &str, key: impl Into<KeyInForce>) -> Self {
        Self { facility, paths: Paths::new(name), key: key.into(), known: Known::default() }
    }

    /// The same, sharing what is known of DVIPAs.
    #[must_use]
    pub fn with_known(mut self, known: Known) -> Self {
        self.known = known;
        self
    }

    /// The key in force.
    pub fn key(&self) -> Arc<SysplexKey> {
        self.key.get()
    }

    /// Where what is kept.
    pub const fn paths(&self) -> &Paths {
        &self.paths
    }

    /// What is known of DVIPAs.
    pub const fn known(&self) -> &Known {
        &self.known
    }

    /// Who owns `dvipa`, and the revision of that record.
    ///
    /// # Errors
    /// The store, or an owner record that is refused.
    pub async fn owner(&self, dvipa: IpAddr) -> Result<Option<(Owner, Revision)>, FenceError> {
        Ok(self.owner_entry(dvipa).await?.map(|(owner, entry)| (owner, entry.revision)))
    }

    async fn owner_entry(&self, dvipa: IpAddr) -> Result<Option<(Owner, Entry)>, FenceError> {
        let path = self.paths.owner(dvipa);
        let Some(entry) = self.get(&path).await? else { return Ok(None) };
        let (_, owner) = self
            .open::<Owner>(&path, &entry.value)
            .map_err(|reason| FenceError::OwnerRefused { dvipa, reason })?;
        Ok(Some((owner, entry)))
    }

    /// Makes `system`'s `stack` the owner of `dvipa`, with an epoch above all that were ever seen. An owner of another
    /// system that has not released it must agree (`expected` names it) or its lease be over (`over` says which).
    ///
    /// # Errors
    /// As [`FenceError`].
    pub async fn claim(
        &self,
        dvipa: IpAddr,
        system: &str,
        stack: &str,
        expected: &Expected,
        over: Option<&AliveSeen>,
    ) -> Result<(Fence, Contents), FenceError> {
        self.claim_with(None, dvipa, (system, stack), expected, over).await
    }

    /// The same, with what a mirror has read before.
    ///
    /// # Errors
    /// As [`FenceError`].
    pub(super) async fn claim_with(
        &self,
        mirror: Option<&Mirror>,
        dvipa: IpAddr,
        (system, stack): (&str, &str),
        expected: &Expected,
        over: Option<&AliveSeen>,
    ) -> Result<(Fence, Contents), FenceError> {
        let seen = self.known.of(dvipa);
        let before = self.owner_entry(dvipa).await?;
        let not_owned = |reason| FenceError::NotOwned { dvipa, reason };
        let is_expected = match (expected, before.as_ref().map(|(o, _)| o)) {
            (Expected::Any, _) | (Expected::Nobody, None) => true,
            (Expected::Owner { stack, epoch }, Some(o)) => {
                o.stack.eq_ignore_ascii_case(stack) && o.epoch == *epoch
            }
            (Expected::Nobody, Some(_)) | (Expected::Owner { .. }, None) => false,
        };
        if !is_expected {
            return Err(not_owned(NotOwned::Changed));
        }
        let mut conditions = Vec::new();
        let mut free = true;
        if let Some((o, _)) = &before {
            let agreed = matches!(expected, Expected::Owner { .. }) && over.is_none();
            free = agreed || o.released || o.system.eq_ignore_ascii_case(system);
            let is = |a: &AliveSeen| {
                a.system.eq_ignore_ascii_case(&o.system) && a.stack.eq_ignore_ascii_case(&o.stack)
            };
            match over.filter(|a| is(a)) {
                _ if free => {}
                Some(a) => {
                    conditions.push(Condition::Revision(self.paths.alive(&a.system, &a.stack), a.revision));
                }
                None => {
                    let held = NotOwned::Held { system: o.system.clone(), stack: o.stack.clone() };
                    return Err(not_owned(held));
                }
            }
        }
        let highest = before.as_ref().map_or(0, |(o, _)| o.epoch).max(seen.epoch);
        let epoch = highest.checked_add(1).ok_or(FenceError::EpochsExhausted(dvipa))?;
        let owner = Owner { system: system.into(), stack: stack.into(), epoch, released: false };
        let path = self.paths.owner(dvipa);
        let sealed = self.seal(&path, epoch, &owner)?;
        let (previous, swap) = match before {
            None => (None, Condition::Absent(path.clone())),
            Some((o, entry)) => (Some(o), Condition::Value(path.clone(), entry.value)),
        };
        conditions.push(swap);
        let swap = Transaction { conditions, changes: vec![Change::Put(path, sealed.clone())] };
        if self.commit(swap).await? == Outcome::ConditionFailed {
            let reason = match over {
                Some(a) if !free && self.alive_revision(&a.system, &a.stack).await? != a.revision => {
                    NotOwned::Alive { system: a.system.clone(), stack: a.stack.clone() }
                }
                _ => NotOwned::Faster,
            };
            return Err(not_owned(reason));
        }
        let acquired = tokio::time::Instant::now().into_std();
        // From here on nobody else can write: what is read now is all that there will be.
        let fence = Fence { dvipa, owner, sealed };
        let mirrored = match mirror {
            Some(mirror) => mirror.take(&fence.sealed, epoch).await,
            None => None,
        };
        let mut contents = match mirrored {
            Some(contents) => contents,
            None => self.read_up_to(dvipa, epoch).await?,
        };
        let found = Progress {
            epoch: previous.as_ref().map_or(0, |o| o.epoch),
            ceiling: contents.ceiling.map(|(_, c)| c.highest),
        };
        contents.set_back =
            (found.epoch < seen.epoch || found.ceiling < seen.ceiling).then_some(SetBack { seen, found });
        contents.previous = previous;
        contents.acquired = Some(acquired);
        self.known.raise(dvipa, Progress { epoch, ceiling: found.ceiling });
        Ok((fence, contents))
    }

    async fn alive_revision(&self, system: &str, stack: &str) -> Result<Revision, FenceError> {
        let entry = self.get(&self.paths.alive(system, stack)).await?;
        Ok(entry.map_or(Revision::ABSENT, |e| e.revision))
    }

    /// What the owner record says of the ownership that `fence` proves.
    ///
    /// # Errors
    /// The store, or an owner record that is refused.
    pub async fn standing(&self, fence: &Fence) -> Result<Standing, FenceError> {
        let seen = Progress { epoch: fence.epoch(), ceiling: None };
        let Some((owner, entry)) = self.owner_entry(fence.dvipa).await? else {
            return Ok(Standing::SetBack(SetBack { seen, found: Progress::default() }));
        };
        let released = Owner { released: true, ..fence.owner.clone() };
        Ok(if owner == fence.owner && entry.value == fence.sealed {
            Standing::Unchanged
        } else if owner == fence.owner {
            Standing::Rewritten(Fence { sealed: entry.value, ..fence.clone() })
        } else if owner == released {
            Standing::Released
        } else if owner.epoch < fence.epoch() {
            Standing::SetBack(SetBack { seen, found: Progress { epoch: owner.epoch, ceiling: None } })
        } else {
            Standing::Lost
        })
    }

    /// The same ownership under a new fence: nothing that was written under the old one, and whose answer never
    /// came, can arrive any more.
    ///
    /// # Errors
    /// As [`FenceError`].
    pub async fn refence(&self, fence: &Fence) -> Result<Fence, FenceError> {
        let current = match self.standing(fence).await? {
            Standing::Unchanged => fence.clone(),
            Standing::Rewritten(newer) => newer,
            other => return Err(other.into_error(fence.dvipa)),
        };
        let path = self.paths.owner(fence.dvipa);
        let sealed = self.seal(&path, fence.epoch(), &fence.owner)?;
        let swap = Transaction::new(current.condition(&self.paths), Change::Put(path, sealed.clone()));
        match self.commit(swap).await? {
            Outcome::Committed(_) => Ok(Fence { sealed, ..current }),
            Outcome::ConditionFailed => Err(self.why_failed(fence).await?),
        }
    }

    /// Gives the DVIPA up: whoever wants may take it.
    ///
    /// # Errors
    /// As [`FenceError`].
    pub async fn release(&self, fence: &Fence) -> Result<(), FenceError> {
        let path = self.paths.owner(fence.dvipa);
        let released = Owner { released: true, ..fence.owner.clone() };
        let change = Change::Put(path.clone(), self.seal(&path, fence.epoch(), &released)?);
        match self.commit(Transaction::new(fence.condition(&self.paths), change)).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::ConditionFailed => match self.standing(fence).await? {
                Standing::Released => Ok(()),
                other => Err(other.into_error(fence.dvipa)),
            },
        }
    }

    /// Renews the lease of `stack`, all of whose DVIPAs `fences` prove: refused as a whole when one of them is
    /// another's by now. Returns the store's revision.
    ///
    /// # Errors
    /// The store.
    pub async fn renew(
        &self,
        system: &str,
        stack: &str,
        alive: &Alive,
        fences: &[Fence],
    ) -> Result<Outcome, FenceError> {
        let path = self.paths.alive(system, stack);
        let conditions = fences.iter().map(|f| f.condition(&self.paths)).collect();
        let change = Change::Put(path.clone(), self.seal(&path, 0, alive)?);
        Ok(self.commit(Transaction { conditions, changes: vec![change] }).await?)
    }

    /// Writes what is not a DVIPA owner's: a member, a backup. `None` removes it.
    ///
    /// # Errors
    /// The store.
    pub async fn put_leased<T: Stored>(&self, path: String, record: Option<&T>) -> Result<(), FenceError> {
        let change = match record {
            Some(r) => {
                let sealed = self.seal(&path, 0, r)?;
                Change::PutLeased(path, sealed)
            }
            None => Change::Remove(path),
        };
        self.commit(Transaction { conditions: vec![], changes: vec![change] }).await?;
        Ok(())
    }

    /// The change that writes `content` or, without any, removes a record at the epoch of `fence`.
    ///
    /// # Errors
    /// It is too large, or there are no random numbers.
    pub fn change(
        &self,
        fence: &Fence,
        key: RecordKey,
        content: Option<&Record>,
    ) -> Result<Change, FenceError> {
        let path = self.paths.record(fence.dvipa, key);
        Ok(match content {
            None => Change::Remove(path),
            Some(Record::Phase1(r)) => {
                Change::Put(path.clone(), self.seal(&path, fence.epoch(), r.as_ref())?)
            }
            Some(Record::Phase2(r)) => {
                Change::Put(path.clone(), self.seal(&path, fence.epoch(), r.as_ref())?)
            }
        })
    }

    /// The same for what continues an IKE SA.
    ///
    /// # Errors
    /// As [`Sysplex::change`].
    pub fn change_keys(
        &self,
        fence: &Fence,
        id: RecordId,
        keys: Option<&Secret>,
    ) -> Result<Change, FenceError> {
        let path = self.paths.record(fence.dvipa, RecordKey::Keys(id));
        Ok(match keys {
            None => Change::Remove(path),
            Some(s) => {
                Change::Put(path.clone(), self.seal_octets(&path, FIRST_FORMAT, fence.epoch(), s.octets())?)
            }
        })
    }

    /// The change that raises the ceiling.
    ///
    /// # Errors
    /// As [`Sysplex::change`].
    pub fn change_ceiling(&self, fence: &Fence, ceiling: Ceiling) -> Result<Change, FenceError> {
        let path = self.paths.ceiling(fence.dvipa);
        Ok(Change::Put(path.clone(), self.seal(&path, fence.epoch(), &ceiling)?))
    }

    /// Carries out `changes`, all or none, if the DVIPA is still owned. At most [`PAGE`].
    ///
    /// # Errors
    /// As [`FenceError`].
    pub async fn write(&self, fence: &Fence, changes: Vec<Change>) -> Result<(), FenceError> {
        let conditions = vec![fence.condition(&self.paths)];
        match self.commit(Transaction { conditions, changes }).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::ConditionFailed => Err(self.why_failed(fence).await?),
        }
    }

    async fn why_failed(&self, fence: &Fence) -> Result<FenceError, FenceError> {
        Ok(self.standing(fence).await?.into_error(fence.dvipa))
    }

    /// A watch of `prefix`.
    ///
    /// # Errors
    /// The store.
    pub async fn watch(&self, prefix: &str) -> Result<Watch, CfError> {
        within(CALL_TIME, self.facility.watch(prefix)).await
    }

    /// One page of the store, as the store has it.
    ///
    /// # Errors
    /// The store.
    pub async fn page(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Entry>, CfError> {
        within(CALL_TIME, self.facility.page(prefix, after)).await
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Entry>, CfError> {
        within(CALL_TIME, self.facility.get(key)).await
    }

    pub(super) async fn commit(&self, t: Transaction) -> Result<Outcome, CfError> {
        within(CALL_TIME, self.facility.commit(t)).await
    }

    pub(super) fn seal<T: Stored>(&self, path: &str, epoch: u64, record: &T) -> Result<Vec<u8>, FenceError> {
        self.seal_octets(path, T::FORMAT, epoch, &record.write())
    }

    pub(super) fn seal_octets(
        &self,
        path: &str,
        format: u8,
        epoch: u64,
        octets: &[u8],
    ) -> Result<Vec<u8>, FenceError> {
        let mut salt = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut salt).map_err(|e| FenceError::Random(e.to_string()))?;
        let sealed = self.key().seal(path, format, epoch, salt, octets);
        if sealed.len() > MAX_VALUE_BYTES {
            return Err(CfError::TooLarge(sealed.len()).into());
        }
        Ok(sealed)
    }

    /// Epoch and content of a record.
    ///
    /// # Errors
    /// It is refused.
    pub fn open<T: Stored>(&self, path: &str, sealed: &[u8]) -> Result<(u64, T), Refusal> {
        let opened = self.key().open(path, sealed)?;
        Ok((opened.epoch, T::of(&opened)?))
    }
}

impl Standing {
    fn into_error(self, dvipa: IpAddr) -> FenceError {
        match self {
            // Nobody but this owner's own task writes under its fence, so these two pass by themselves.
            Self::Unchanged | Self::Rewritten(_) => {
                CfError::Store("the owner record changed meanwhile".into()).into()
            }
            Self::Released | Self::Lost => FenceError::Lost(dvipa),
            Self::SetBack(set_back) => FenceError::SetBack { dvipa, set_back },
        }
    }
}

/// Cuts changes into transactions that every store takes.
pub(super) fn in_bounds(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let mut parts: Vec<Vec<Change>> = Vec::new();
    let mut bytes = usize::MAX;
    for change in changes {
        let size = change.key().len() + change.value().map_or(0, <[u8]>::len);
        match parts.last_mut() {
            Some(part) if part.len() < PAGE && bytes.saturating_add(size) <= super::MAX_TRANSACTION_BYTES => {
                part.push(change);
                bytes += size;
            }
            _ => {
                parts.push(vec![change]);
                bytes = size;
            }
        }
    }
    parts
}

/// A store that hangs is a store that failed (threats T48).
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, CfError>>,
) -> Result<T, CfError> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(CfError::Timeout(limit)))
}
