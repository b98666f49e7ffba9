//! `iked cf dump`, `verify` and `repair`: what stands in the coupling facility, what of it is of no use and why, and
//! how that is put right. Nothing here prints a secret: keys of SAs appear as their length.

use super::fence::{FenceError, Refusal, Sysplex};
use super::record::{Alive, Backup, Ceiling, Member, Owner, Phase1, Phase2, RecordId, Stored};
use super::seal::Opened;
use super::{Change, Condition, CouplingFacility, Entry, Outcome, Place, RecordKey, Revision, Transaction};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How much an epoch is raised when the owner record was lost: whoever is still at work has a smaller one.
const EPOCH_LEAP: u64 = 1024;

/// A record, opened.
#[derive(Debug)]
struct Read {
    epoch: u64,
    old_key: bool,
    content: Content,
}

/// What is in it, as far as it matters to others, and as text.
#[derive(Debug)]
enum Content {
    Owner(Owner),
    Phase2(Phase2),
    Other(String),
}

impl Content {
    fn text(&self) -> String {
        match self {
            Self::Owner(o) => {
                let released = if o.released { " released" } else { "" };
                format!("system {} stack {} epoch {}{released}", o.system, o.stack, o.epoch)
            }
            Self::Phase2(p) => format!("{p:?}"),
            Self::Other(text) => text.clone(),
        }
    }
}

/// Something that is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its key.
    pub path: String,
    /// What is wrong.
    pub fault: Fault,
    /// What can be done.
    pub remedy: Remedy,
    revision: Revision,
}

impl Finding {
    /// The record is of no use; otherwise it only should be written again.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.fault != Fault::OldKey
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.path.escape_debug(), self.fault, self.remedy)
    }
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is refused by whoever reads it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No key of ours.
    #[error("this program writes no such key")]
    NoPlace,
    /// A child SA whose IKE SA has no record.
    #[error("its phase-1 record {0} does not exist")]
    Orphan(RecordId),
    /// Keys where none may be (threats T27).
    #[error("the DVIPA does not continue, so it may hold no keys and no ceiling")]
    Forbidden,
    /// Sealed under an older key than the newest.
    #[error("sealed under an older key")]
    OldKey,
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Remedy {
    /// Remove it.
    #[error("to be removed")]
    Remove,
    /// Seal it again under the newest key.
    #[error("to be sealed again")]
    Reseal,
    /// Put a record in its place that lets anybody take the DVIPA, at this epoch.
    #[error("to be replaced by a released owner of epoch {0}")]
    Release(u64),
    /// Its writer does it: when it starts again with the new key file, or sooner.
    #[error("its writer seals it again when it starts with the new key")]
    Wait,
}

/// Calls `tell` with a line for each record of the sysplex.
///
/// # Errors
/// The store.
pub async fn dump<C: CouplingFacility>(
    plex: &Sysplex<C>,
    mut tell: impl FnMut(String),
) -> Result<(), FenceError> {
    for_each(plex, |entry| {
        let path = entry.key.escape_debug();
        let revision = entry.revision.0;
        tell(match read(plex, entry) {
            Ok((_, r)) => format!("{path} revision {revision} epoch {} {}", r.epoch, r.content.text()),
            Err(fault) => format!("{path} revision {revision} refused: {fault}"),
        });
    })
    .await
}

/// Everything that is wrong with the records of the sysplex. `renegotiated`: DVIPAs known not to continue.
///
/// # Errors
/// The store.
pub async fn verify<C: CouplingFacility>(
    plex: &Sysplex<C>,
    renegotiated: &BTreeSet<IpAddr>,
) -> Result<Vec<Finding>, FenceError> {
    let mut survey = Survey::default();
    for_each(plex, |entry| survey.look(plex, entry, renegotiated)).await?;
    Ok(survey.findings())
}

/// Puts right what `findings` say, each only if its record is still the same. Returns those that are done.
///
/// # Errors
/// The store.
pub async fn repair<'f, C: CouplingFacility>(
    plex: &Sysplex<C>,
    findings: &'f [Finding],
) -> Result<Vec<&'f Finding>, FenceError> {
    let mut done = Vec::new();
    for finding in findings {
        let path = finding.path.clone();
        let change = match finding.remedy {
            Remedy::Remove => Change::Remove(path.clone()),
            Remedy::Release(epoch) => {
                let owner = Owner { system: "NONE".into(), stack: "NONE".into(), epoch, released: true };
                Change::Put(path.clone(), plex.seal(&path, epoch, &owner)?)
            }
            Remedy::Reseal => {
                let Some(entry) = plex.get(&path).await? else { continue };
                let Ok(opened) = plex.key().open(&path, &entry.value) else { continue };
                Change::Put(
                    path.clone(),
                    plex.seal_octets(&path, opened.format, opened.epoch, &opened.plaintext)?,
                )
            }
            Remedy::Wait => continue,
        };
        let t = Transaction::new(Condition::Revision(path, finding.revision), change);
        if matches!(plex.commit(t).await?, Outcome::Committed(_)) {
            done.push(finding);
        }
    }
    Ok(done)
}

async fn for_each<C: CouplingFacility>(
    plex: &Sysplex<C>,
    mut f: impl FnMut(&Entry),
) -> Result<(), FenceError> {
    let mut after: Option<String> = None;
    loop {
        let page = plex.page(&plex.paths().all(), after.as_deref()).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        page.iter().for_each(&mut f);
    }
}

fn read<C: CouplingFacility>(plex: &Sysplex<C>, entry: &Entry) -> Result<(Place, Read), Fault> {
    let place = plex.paths().place(&entry.key).ok_or(Fault::NoPlace)?;
    let opened = plex.key().open(&entry.key, &entry.value).map_err(Refusal::from)?;
    let content = match place {
        Place::Member { .. } => text::<Member>(&opened)?,
        Place::Alive { .. } => text::<Alive>(&opened)?,
        Place::Owner(_) => Content::Owner(Stored::of(&opened).map_err(Refusal::from)?),
        Place::Backup(..) => text::<Backup>(&opened)?,
        Place::Ceiling(_) => text::<Ceiling>(&opened)?,
        Place::Record(_, RecordKey::Phase1(_)) => text::<Phase1>(&opened)?,
        Place::Record(_, RecordKey::Phase2(_)) => {
            Content::Phase2(Stored::of(&opened).map_err(Refusal::from)?)
        }
        Place::Record(_, RecordKey::Keys(_)) => {
            Content::Other(format!("Secret({} bytes)", opened.plaintext.len()))
        }
    };
    Ok((place, Read { epoch: opened.epoch, old_key: opened.old_key, content }))
}

fn text<T: Stored + std::fmt::Debug>(opened: &Opened) -> Result<Content, Refusal> {
    Ok(Content::Other(format!("{:?}", T::of(opened)?)))
}

/// What was seen so far of a store that is looked through.
#[derive(Debug, Default)]
struct Survey {
    findings: Vec<Finding>,
    owners: BTreeMap<IpAddr, u64>,
    /// Owner records that are refused.
    ownerless: BTreeMap<IpAddr, (String, Revision, Fault)>,
    /// Highest epoch of any record of a DVIPA.
    newest: BTreeMap<IpAddr, u64>,
    phase1: BTreeSet<(IpAddr, RecordId)>,
    children: Vec<(IpAddr, RecordId, String, Revision)>,
    /// Records of DVIPAs, to be compared with their owner's epoch.
    epochs: Vec<(IpAddr, u64, String, Revision)>,
}

impl Survey {
    fn add(&mut self, entry: &Entry, fault: Fault, remedy: Remedy) {
        self.findings.push(Finding { path: entry.key.clone(), fault, remedy, revision: entry.revision });
    }

    fn look<C: CouplingFacility>(
        &mut self,
        plex: &Sysplex<C>,
        entry: &Entry,
        renegotiated: &BTreeSet<IpAddr>,
    ) {
        let (place, read) = match read(plex, entry) {
            Ok(good) => good,
            Err(fault) => {
                match plex.paths().place(&entry.key) {
                    Some(Place::Owner(dvipa)) => {
                        self.ownerless.insert(dvipa, (entry.key.clone(), entry.revision, fault));
                    }
                    _ => self.add(entry, fault, Remedy::Remove),
                }
                return;
            }
        };
        let (dvipa, secret) = match place {
            Place::Member { .. } | Place::Alive { .. } | Place::Backup(..) => (None, false),
            Place::Owner(dvipa) => {
                self.owners.insert(dvipa, read.epoch);
                (None, false)
            }
            Place::Ceiling(dvipa) | Place::Record(dvipa, RecordKey::Keys(_)) => (Some(dvipa), true),
            Place::Record(dvipa, RecordKey::Phase1(id)) => {
                self.phase1.insert((dvipa, id));
                (Some(dvipa), false)
            }
            Place::Record(dvipa, RecordKey::Phase2(_)) => (Some(dvipa), false),
        };
        let Some(dvipa) = dvipa else {
            if read.old_key {
                self.add(entry, Fault::OldKey, Remedy::Wait);
            }
            return;
        };
        if secret && renegotiated.contains(&dvipa) {
            return self.add(entry, Fault::Forbidden, Remedy::Remove);
        }
        if let Content::Phase2(child) = &read.content {
            self.children.push((dvipa, child.phase1, entry.key.clone(), entry.revision));
        }
        let newest = self.newest.entry(dvipa).or_default();
        *newest = (*newest).max(read.epoch);
        self.epochs.push((dvipa, read.epoch, entry.key.clone(), entry.revision));
        if read.old_key {
            self.add(entry, Fault::OldKey, Remedy::Reseal);
        }
    }

    fn findings(mut self) -> Vec<Finding> {
        let mut found = std::mem::take(&mut self.findings);
        for (dvipa, (path, revision, fault)) in &self.ownerless {
            let newest = self.newest.get(dvipa).copied().unwrap_or(0);
            let remedy = Remedy::Release(newest.saturating_add(EPOCH_LEAP));
            found.push(Finding { path: path.clone(), fault: *fault, remedy, revision: *revision });
        }
        let mut bad = BTreeSet::new();
        for (dvipa, epoch, path, revision) in self.epochs {
            // Without a readable owner nothing can be said; it is replaced first.
            let owner = self.owners.get(&dvipa).copied();
            if self.ownerless.contains_key(&dvipa) || owner.is_some_and(|o| epoch <= o) {
                continue;
            }
            bad.insert(path.clone());
            let fault = Fault::Refused(Refusal::Future(epoch));
            found.push(Finding { path, fault, remedy: Remedy::Remove, revision });
        }
        for (dvipa, phase1, path, revision) in self.children {
            if !self.phase1.contains(&(dvipa, phase1)) && !bad.contains(&path) {
                found.push(Finding { path, fault: Fault::Orphan(phase1), remedy: Remedy::Remove, revision });
            }
        }
        // A record that goes need not be sealed again.
        let removed: BTreeSet<_> =
            found.iter().filter(|f| f.remedy == Remedy::Remove).map(|f| f.path.clone()).collect();
        found.retain(|f| f.remedy != Remedy::Reseal || !removed.contains(&f.path));
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::fence::Record;
    use super::super::memory::Memory;
    use super::super::order::Expected;
    use super::super::record::Secret;
    use super::super::record::tests::{phase1, phase2};
    use super::super::seal::SysplexKey;
    use super::*;

    const KEY: SysplexKey = SysplexKey::new([7; 32]);

    struct Fixture {
        store: Memory,
        plex: Sysplex<Memory>,
        vip: IpAddr,
        /// None at all, and the one.
        none: BTreeSet<IpAddr>,
        one: BTreeSet<IpAddr>,
    }

    /// A store with one of everything, and the keys `KEYKEYKEY`.
    async fn fixture() -> Fixture {
        let store = Memory::new();
        let plex = Sysplex::new(store.host(), "P", KEY);
        let vip: IpAddr = "203.0.113.10".parse().unwrap();
        let (fence, _) = plex.claim(vip, "SYSA", "OWN", &Expected::Any, None).await.unwrap();
        let id = RecordId([1; 16]);
        let p1 = Record::Phase1(Box::new(phase1()));
        let p2 = Record::Phase2(Box::new(phase2(id, 5)));
        let changes = vec![
            plex.change(&fence, RecordKey::Phase1(id), Some(&p1)).unwrap(),
            plex.change(&fence, RecordKey::Phase2(id), Some(&p2)).unwrap(),
            plex.change_keys(&fence, id, Some(&Secret::new(b"KEYKEYKEY".to_vec()))).unwrap(),
            plex.change_ceiling(&fence, Ceiling { highest: 5000 }).unwrap(),
        ];
        plex.write(&fence, changes).await.unwrap();
        let alive = Alive { start: 1, count: 2, lease_ms: 1000, ended: false };
        plex.renew("SYSA", "OWN", &alive, &[fence]).await.unwrap();
        let member = Member { xcf: None, start: 1, distributor: true, target: false };
        plex.put_leased(plex.paths().member("SYSA", "OWN"), Some(&member)).await.unwrap();
        let backup = Backup { system: "SYSB".into(), stack: "BACK".into() };
        plex.put_leased(plex.paths().backup(vip, 0), Some(&backup)).await.unwrap();
        Fixture { store, plex, vip, none: BTreeSet::new(), one: BTreeSet::from([vip]) }
    }

    impl Fixture {
        async fn put(&self, path: &str, value: Vec<u8>) {
            let change = Change::Put(path.into(), value);
            self.store.commit(Transaction { conditions: vec![], changes: vec![change] }).await.unwrap();
        }
        async fn verify(&self) -> Vec<Finding> {
            verify(&self.plex, &self.none).await.unwrap()
        }
    }

    #[tokio::test]
    async fn t27_a_dump_shows_every_record_and_no_secret() {
        let f = fixture().await;
        let mut lines = Vec::new();
        dump(&f.plex, |line| lines.push(line)).await.unwrap();
        let starts: Vec<_> = lines.iter().map(|l| l.split(' ').next().unwrap()).collect();
        assert_eq!(
            starts,
            [
                "/P/alive/SYSA/OWN",
                "/P/dvipa/203.0.113.10/backup/0",
                "/P/dvipa/203.0.113.10/ceiling",
                "/P/dvipa/203.0.113.10/keys/01010101010101010101010101010101",
                "/P/dvipa/203.0.113.10/owner",
                "/P/dvipa/203.0.113.10/phase1/01010101010101010101010101010101",
                "/P/dvipa/203.0.113.10/phase2/01010101010101010101010101010101",
                "/P/member/SYSA/OWN",
            ]
        );
        let text = lines.join("\n");
        assert!(text.contains("Secret(9 bytes)"));
        for secret in ["KEYKEY", "75, 69, 89", &hex::encode("KEYKEY")] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(lines[4].ends_with("system SYSA stack OWN epoch 1"), "{}", lines[4]);
    }

    #[tokio::test]
    async fn what_is_good_is_found_good() {
        let f = fixture().await;
        assert_eq!(f.verify().await, []);
    }

    #[tokio::test]
    async fn t49_each_bad_record_is_named_with_its_reason_and_repaired() {
        let f = fixture().await;
        let p = |n: u8| f.plex.paths().record(f.vip, RecordKey::Phase1(RecordId([n; 16])));
        let orphan = f.plex.paths().record(f.vip, RecordKey::Phase2(RecordId([6; 16])));
        f.put(&p(2), vec![1; 80]).await;
        f.put(&p(3), KEY.seal(&p(3), 1, 9, [0; 32], &phase1().write())).await;
        f.put(&p(4), KEY.seal(&p(4), 1, 1, [0; 32], b"nonsense")).await;
        f.put(&p(5), vec![1]).await;
        let child = phase2(RecordId([0xee; 16]), 1);
        f.put(&orphan, KEY.seal(&orphan, Phase2::FORMAT, 1, [0; 32], &child.write())).await;
        f.put("/P/dvipa/203.0.113.10/owner/\u{1b}[2J", vec![]).await;
        let found = f.verify().await;
        let text: Vec<_> = found.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        /P/dvipa/203.0.113.10/owner/\u{1b}[2J: this program writes no such key; to be removed
        /P/dvipa/203.0.113.10/phase1/02020202020202020202020202020202: not sealed under this sysplex key for this place; to be removed
        /P/dvipa/203.0.113.10/phase1/03030303030303030303030303030303: epoch 9 is greater than the owner's; to be removed
        /P/dvipa/203.0.113.10/phase1/04040404040404040404040404040404: content is no record of this kind; to be removed
        /P/dvipa/203.0.113.10/phase1/05050505050505050505050505050505: truncated (1 bytes); to be removed
        /P/dvipa/203.0.113.10/phase2/06060606060606060606060606060606: its phase-1 record eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee does not exist; to be removed
        ");
        // One of them is written by somebody meanwhile: that one is left alone.
        f.put(&p(5), KEY.seal(&p(5), 1, 1, [0; 32], &phase1().write())).await;
        assert_eq!(repair(&f.plex, &found).await.unwrap().len(), 5);
        assert_eq!(f.verify().await, []);
        assert_eq!(f.plex.read(f.vip).await.unwrap().phase1.len(), 2);
    }

    #[tokio::test]
    async fn t49_a_forged_owner_record_is_replaced_at_an_epoch_above_all_that_were() {
        let f = fixture().await;
        f.put(&f.plex.paths().owner(f.vip), vec![1; 80]).await;
        assert!(f.plex.claim(f.vip, "SYSB", "BACK", &Expected::Any, None).await.is_err());
        let found = f.verify().await;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].remedy, Remedy::Release(1 + EPOCH_LEAP));
        repair(&f.plex, &found).await.unwrap();
        let (fence, _) = f.plex.claim(f.vip, "SYSB", "BACK", &Expected::Any, None).await.unwrap();
        assert_eq!(fence.epoch(), 2 + EPOCH_LEAP);
    }

    #[tokio::test]
    async fn t27_keys_of_a_dvipa_that_does_not_continue_are_found_and_removed() {
        let f = fixture().await;
        let found = verify(&f.plex, &f.one).await.unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|x| x.fault == Fault::Forbidden && x.is_bad()));
        repair(&f.plex, &found).await.unwrap();
        let c = f.plex.read(f.vip).await.unwrap();
        assert_eq!((c.keys.len(), c.ceiling), (0, None));
    }

    #[tokio::test]
    async fn after_a_change_of_keys_everything_that_nobody_rewrites_is_sealed_again() {
        let f = fixture().await;
        let new = SysplexKey::new([8; 32]);
        let both = Sysplex::new(f.store.host(), "P", new.clone().with_older(&[[7; 32]]));
        let found = verify(&both, &f.none).await.unwrap();
        assert_eq!(found.len(), 8);
        assert!(!found.iter().any(Finding::is_bad));
        assert_eq!(repair(&both, &found).await.unwrap().len(), 4);
        let left = verify(&both, &f.none).await.unwrap();
        assert_eq!(left.len(), 4);
        assert!(left.iter().all(|x| x.remedy == Remedy::Wait));
        let after = Sysplex::new(f.store.host(), "P", new);
        let bad = verify(&after, &f.none).await.unwrap();
        assert_eq!(bad.len(), 4, "those that their writers still have to write: {bad:?}");
    }
}
