//! Ownership on every store: claims, fencing, leases, hostile records, a store that was set back.

use super::super::fence::{Fence, FenceError, Known, Record, Refusal, Standing, Sysplex};
use super::super::order::{AliveSeen, Expected, NotOwned, Progress};
use super::super::record::tests::{phase1, phase2};
use super::super::record::{Alive, Ceiling, RecordId, Secret, Stored};
use super::super::seal::SysplexKey;
use super::super::{Change, CouplingFacility, MAX_VALUE_BYTES, Outcome, RecordKey, Revision};
use super::{Store, for_every_store, put, unconditional};
use std::net::IpAddr;

for_every_store!(
    an_owner_writes_and_reads_its_records,
    t47_an_old_owner_can_neither_write_nor_clear_nor_renew,
    t47_of_many_claims_at_once_each_epoch_is_won_once,
    t47_of_two_systems_that_claim_over_a_dead_owner_one_wins,
    t47_a_live_owner_is_not_claimed_over,
    t47_what_was_on_its_way_cannot_arrive_under_a_new_fence,
    a_released_dvipa_is_anybodys,
    an_owner_that_agreed_is_named_exactly,
    t48_a_store_that_was_set_back_is_noticed_and_no_epoch_is_used_twice,
    t48_a_ceiling_that_was_set_back_is_noticed,
    t49_hostile_records_are_refused_one_by_one,
    t49_a_forged_owner_record_stops_claims_with_its_reason,
    t49_records_of_another_sysplex_do_not_open,
    what_an_older_key_sealed_is_sealed_again,
    t27_keys_that_must_not_be_there_are_removed,
);

const KEY: SysplexKey = SysplexKey::new([7; 32]);
const A: &str = "SYSA";
const B: &str = "SYSB";

fn vip() -> IpAddr {
    "203.0.113.10".parse().unwrap()
}

fn plex<S: Store>(store: &S) -> Sysplex<S::Facility> {
    Sysplex::new(store.facility(), "plex1", KEY)
}

fn id(n: u8) -> RecordId {
    RecordId([n; 16])
}

type Wanted = (RecordKey, Option<Record>);

fn p1(n: u8) -> Wanted {
    (RecordKey::Phase1(id(n)), Some(Record::Phase1(Box::new(phase1()))))
}

fn p2(n: u8) -> Wanted {
    (RecordKey::Phase2(id(n)), Some(Record::Phase2(Box::new(phase2(id(1), u32::from(n))))))
}

async fn write<C: CouplingFacility>(
    plex: &Sysplex<C>,
    fence: &Fence,
    wanted: &[Wanted],
) -> Result<(), FenceError> {
    let changes = wanted.iter().map(|(k, r)| plex.change(fence, *k, r.as_ref()).unwrap()).collect();
    plex.write(fence, changes).await
}

async fn claim<C: CouplingFacility>(plex: &Sysplex<C>, system: &str, stack: &str) -> Fence {
    plex.claim(vip(), system, stack, &Expected::Any, None).await.unwrap().0
}

fn alive(count: u64) -> Alive {
    Alive { start: 9, count, lease_ms: 1000, ended: false }
}

async fn renew<C: CouplingFacility>(
    plex: &Sysplex<C>,
    system: &str,
    stack: &str,
    count: u64,
    fences: &[Fence],
) -> AliveSeen {
    let Outcome::Committed(revision) = plex.renew(system, stack, &alive(count), fences).await.unwrap() else {
        panic!()
    };
    AliveSeen { system: system.into(), stack: stack.into(), revision }
}

async fn an_owner_writes_and_reads_its_records(store: impl Store) {
    let plex = plex(&store);
    let fence = claim(&plex, A, "TCPCS1").await;
    assert_eq!(fence.epoch(), 1);
    write(&plex, &fence, &[p1(1), p2(2), p2(3)]).await.unwrap();
    write(&plex, &fence, &[(p2(3).0, None)]).await.unwrap();
    let secret = Secret::new(b"keys".to_vec());
    let keys = plex.change_keys(&fence, id(1), Some(&secret)).unwrap();
    let ceiling = plex.change_ceiling(&fence, Ceiling { highest: 5000 }).unwrap();
    plex.write(&fence, vec![keys, ceiling]).await.unwrap();
    let c = plex.read(vip()).await.unwrap();
    assert_eq!(c.phase1, [(id(1), 1, phase1())]);
    assert_eq!(c.phase2, [(id(2), 1, phase2(id(1), 2))]);
    assert_eq!(c.keys, [(id(1), 1, secret)]);
    assert_eq!(c.ceiling, Some((1, Ceiling { highest: 5000 })));
    assert!(c.refused.is_empty());
}

async fn t47_an_old_owner_can_neither_write_nor_clear_nor_renew(store: impl Store) {
    let plex = plex(&store);
    let old = claim(&plex, A, "TCPCS1").await;
    write(&plex, &old, &[p1(1)]).await.unwrap();
    let new = claim(&plex, A, "TCPCS2").await;
    assert_eq!(new.epoch(), 2);
    assert!(matches!(write(&plex, &old, &[p2(9)]).await, Err(FenceError::Lost(_))));
    write(&plex, &new, &[p2(4)]).await.unwrap();
    assert!(matches!(plex.clear_older(&old).await, Err(FenceError::Lost(_))));
    assert!(matches!(plex.refence(&old).await, Err(FenceError::Lost(_))));
    assert!(matches!(plex.release(&old).await, Err(FenceError::Lost(_))));
    let renewed = plex.renew(A, "TCPCS1", &alive(1), std::slice::from_ref(&old)).await.unwrap();
    assert_eq!(renewed, Outcome::ConditionFailed);
    assert_eq!(plex.standing(&old).await.unwrap(), Standing::Lost);
    assert_eq!(plex.read(vip()).await.unwrap().phase1.len(), 1, "kept until the new owner clears");
    assert_eq!(plex.clear_older(&new).await.unwrap(), 1);
    let c = plex.read(vip()).await.unwrap();
    assert!(c.phase1.is_empty());
    assert_eq!(c.phase2.len(), 1);
}

async fn t47_of_many_claims_at_once_each_epoch_is_won_once(store: impl Store) {
    let claims = (0..20).map(|i| {
        let plex = plex(&store);
        tokio::spawn(async move { plex.claim(vip(), A, &format!("S{i}"), &Expected::Any, None).await })
    });
    let mut epochs = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        match claim.await.unwrap() {
            Ok((f, _)) => epochs.push(f.epoch()),
            Err(FenceError::NotOwned { reason: NotOwned::Faster, .. }) => {}
            Err(e) => panic!("{e}"),
        }
    }
    epochs.sort_unstable();
    let n = epochs.len() as u64;
    assert!(n >= 1);
    assert_eq!(epochs, (1..=n).collect::<Vec<_>>());
}

async fn t47_of_two_systems_that_claim_over_a_dead_owner_one_wins(store: impl Store) {
    let owner = plex(&store);
    let fence = claim(&owner, A, "TCPCS1").await;
    let dead = renew(&owner, A, "TCPCS1", 1, std::slice::from_ref(&fence)).await;
    let claims = ["SYSB", "SYSC", "SYSD"].map(|system| {
        let (plex, over) = (plex(&store), dead.clone());
        tokio::spawn(async move { plex.claim(vip(), system, "BACKUP", &Expected::Any, Some(&over)).await })
    });
    let mut won = Vec::new();
    for claim in claims {
        match claim.await.unwrap() {
            Ok((fence, _)) => won.push(fence.epoch()),
            // The slower ones see another owner, or that their swap failed.
            Err(FenceError::NotOwned { reason: NotOwned::Faster | NotOwned::Held { .. }, .. }) => {}
            Err(e) => panic!("{e}"),
        }
    }
    assert_eq!(won, [2]);
    let late = owner.renew(A, "TCPCS1", &alive(2), &[fence]).await.unwrap();
    assert_eq!(late, Outcome::ConditionFailed, "the old owner's lease is over for good");
}

async fn t47_a_live_owner_is_not_claimed_over(store: impl Store) {
    let (owner, other) = (plex(&store), plex(&store));
    let fence = claim(&owner, A, "TCPCS1").await;
    let Err(FenceError::NotOwned { reason, .. }) =
        other.claim(vip(), B, "BACKUP", &Expected::Any, None).await
    else {
        panic!()
    };
    assert_eq!(reason, NotOwned::Held { system: A.into(), stack: "TCPCS1".into() });
    let absent = AliveSeen { system: A.into(), stack: "TCPCS1".into(), revision: Revision::ABSENT };
    let seen = renew(&owner, A, "TCPCS1", 1, std::slice::from_ref(&fence)).await;
    let newer = renew(&owner, A, "TCPCS1", 2, std::slice::from_ref(&fence)).await;
    for old in [absent, seen] {
        let Err(FenceError::NotOwned { reason, .. }) =
            other.claim(vip(), B, "BACKUP", &Expected::Any, Some(&old)).await
        else {
            panic!()
        };
        assert_eq!(reason, NotOwned::Alive { system: A.into(), stack: "TCPCS1".into() });
    }
    // The proof must be about the owner.
    let third = renew(&owner, "SYSC", "TCPCS3", 1, &[]).await;
    let Err(FenceError::NotOwned { reason, .. }) =
        other.claim(vip(), B, "BACKUP", &Expected::Any, Some(&third)).await
    else {
        panic!()
    };
    assert!(matches!(reason, NotOwned::Held { .. }));
    let (fence, left) = other.claim(vip(), B, "BACKUP", &Expected::Any, Some(&newer)).await.unwrap();
    assert_eq!(fence.epoch(), 2);
    assert_eq!(left.previous.unwrap().system, A);
}

async fn t47_what_was_on_its_way_cannot_arrive_under_a_new_fence(store: impl Store) {
    let plex = plex(&store);
    let old = claim(&plex, A, "TCPCS1").await;
    let late = plex.change_ceiling(&old, Ceiling { highest: 100 }).unwrap();
    let new = plex.refence(&old).await.unwrap();
    assert_eq!(new.epoch(), old.epoch());
    let higher = plex.change_ceiling(&new, Ceiling { highest: 200 }).unwrap();
    plex.write(&new, vec![higher]).await.unwrap();
    plex.write(&old, vec![late]).await.unwrap_err();
    assert_eq!(plex.read(vip()).await.unwrap().ceiling.unwrap().1.highest, 200);
    // Told of the old fence only, as after an answer that was lost, it is found again.
    let newest = plex.refence(&old).await.unwrap();
    write(&plex, &newest, &[p1(1)]).await.unwrap();
    write(&plex, &new, &[p1(1)]).await.unwrap_err();
}

async fn a_released_dvipa_is_anybodys(store: impl Store) {
    let (owner, other) = (plex(&store), plex(&store));
    let fence = claim(&owner, A, "TCPCS1").await;
    owner.release(&fence).await.unwrap();
    owner.release(&fence).await.expect("once more, as after a lost answer");
    assert!(write(&owner, &fence, &[p1(1)]).await.is_err());
    let (fence, left) = other.claim(vip(), B, "BACKUP", &Expected::Any, None).await.unwrap();
    assert_eq!(fence.epoch(), 2);
    assert!(left.previous.unwrap().released);
}

async fn an_owner_that_agreed_is_named_exactly(store: impl Store) {
    let (owner, other) = (plex(&store), plex(&store));
    let nobody = Expected::Nobody;
    let named = |stack: &str, epoch| Expected::Owner { stack: stack.into(), epoch };
    let Err(FenceError::NotOwned { reason, .. }) =
        other.claim(vip(), B, "BACKUP", &named("TCPCS1", 1), None).await
    else {
        panic!()
    };
    assert_eq!(reason, NotOwned::Changed);
    owner.claim(vip(), A, "TCPCS1", &nobody, None).await.unwrap();
    for wrong in [nobody, named("TCPCS1", 2), named("TCPCS2", 1)] {
        let Err(FenceError::NotOwned { reason, .. }) = other.claim(vip(), B, "BACKUP", &wrong, None).await
        else {
            panic!()
        };
        assert_eq!(reason, NotOwned::Changed, "{wrong:?}");
    }
    let (fence, left) = other.claim(vip(), B, "BACKUP", &named("tcpcs1", 1), None).await.unwrap();
    assert_eq!(fence.epoch(), 2);
    assert!(left.acquired.is_some());
}

/// Everything under the sysplex as it is now, to be put back.
async fn copy<S: Store>(store: &S) -> Vec<Change> {
    let all = store.facility().page("/PLEX1/", None).await.unwrap();
    all.into_iter().map(|e| Change::Put(e.key, e.value)).collect()
}

async fn t48_a_store_that_was_set_back_is_noticed_and_no_epoch_is_used_twice(store: impl Store) {
    let known = Known::default();
    let plex = plex(&store).with_known(known.clone());
    let first = claim(&plex, A, "TCPCS1").await;
    let old = copy(&store).await;
    let second = claim(&plex, A, "TCPCS1").await;
    store.facility().commit(unconditional(old)).await.unwrap();
    let Err(FenceError::SetBack { set_back, .. }) = write(&plex, &second, &[p1(1)]).await else { panic!() };
    assert_eq!((set_back.seen.epoch, set_back.found.epoch), (second.epoch(), first.epoch()));
    let (third, left) = plex.claim(vip(), A, "TCPCS1", &Expected::Any, None).await.unwrap();
    assert_eq!(third.epoch(), 3);
    assert!(left.set_back.is_some());
    // A backup that only heard of it.
    let other = super::fence::plex(&store);
    other.known().raise(vip(), Progress { epoch: 7, ceiling: None });
    plex.release(&third).await.unwrap();
    let (eighth, left) = other.claim(vip(), B, "BACKUP", &Expected::Any, None).await.unwrap();
    assert_eq!(eighth.epoch(), 8);
    assert_eq!(left.set_back.unwrap().found.epoch, 3);
}

async fn t48_a_ceiling_that_was_set_back_is_noticed(store: impl Store) {
    let (owner, heard, deaf) = (plex(&store), plex(&store), plex(&store));
    let fence = claim(&owner, A, "TCPCS1").await;
    owner.write(&fence, vec![owner.change_ceiling(&fence, Ceiling { highest: 100 }).unwrap()]).await.unwrap();
    owner.release(&fence).await.unwrap();
    heard.known().raise(vip(), Progress { epoch: 1, ceiling: Some(200) });
    let (fence, left) = heard.claim(vip(), B, "BACKUP", &Expected::Any, None).await.unwrap();
    assert_eq!(left.set_back.unwrap().seen.ceiling, Some(200));
    heard.release(&fence).await.unwrap();
    let (_, left) = deaf.claim(vip(), B, "BACKUP", &Expected::Any, None).await.unwrap();
    assert_eq!((left.set_back, left.ceiling), (None, Some((1, Ceiling { highest: 100 }))));
}

async fn t49_hostile_records_are_refused_one_by_one(store: impl Store) {
    let (plex, cf) = (plex(&store), store.facility());
    let fence = claim(&plex, A, "TCPCS1").await;
    write(&plex, &fence, &[p1(1), p2(2)]).await.unwrap();
    let p = plex.paths().phase1(vip());
    let at = |n: u8| format!("{p}{}", id(n));
    let good = cf.get(&at(1)).await.unwrap().unwrap().value;
    let c = plex.paths().ceiling(vip());
    let hostile = [
        (at(2), good.clone()),                                                            // moved
        (at(3), good[..20].to_vec()),                                                     // truncated
        (at(4), SysplexKey::new([8; 32]).seal(&at(4), 1, 1, [0; 32], &phase1().write())), // wrong key
        (at(5), [&[9], &good[1..]].concat()),                                             // another version
        (at(6), KEY.seal(&at(6), 1, 1, [0; 32], b"not a record")),                        // sealed nonsense
        (at(7), KEY.seal(&at(7), 1, 5, [0; 32], &phase1().write())),                      // from the future
        (format!("{p}../../owner"), good.clone()),                                        // no id
        (format!("{p}{}", id(0xab).to_string().to_uppercase()), good),                    // another spelling
        (at(8), vec![1; MAX_VALUE_BYTES]),                                                // huge
        (c.clone(), KEY.seal(&c, 1, 5, [0; 32], &Ceiling { highest: 1 }.write())),        // from the future
    ];
    for (path, value) in &hostile {
        cf.commit(unconditional(vec![put(path, value)])).await.unwrap();
    }
    let c = plex.read(vip()).await.unwrap();
    assert_eq!(c.phase1.len(), 1, "the good one is used");
    assert_eq!(c.phase2.len(), 1);
    assert_eq!(c.ceiling, None);
    assert_eq!(c.refused.len(), hostile.len());
    assert!(c.refused.iter().any(|(_, r)| *r == Refusal::Future(5)));
    // What is sealed at this epoch is this owner's own, whatever it is.
    assert_eq!(plex.clear_older(&fence).await.unwrap(), 8);
    assert_eq!(plex.read(vip()).await.unwrap().refused.len(), 2);
}

async fn t49_a_forged_owner_record_stops_claims_with_its_reason(store: impl Store) {
    let plex = plex(&store);
    let path = plex.paths().owner(vip());
    store.facility().commit(unconditional(vec![put(&path, &[1; 80])])).await.unwrap();
    let e = plex.claim(vip(), A, "TCPCS1", &Expected::Any, None).await.unwrap_err();
    assert_eq!(
        e.to_string(),
        "the owner record of 203.0.113.10 is refused: not sealed under this sysplex key for this place"
    );
}

async fn t49_records_of_another_sysplex_do_not_open(store: impl Store) {
    let ours = plex(&store);
    claim(&ours, A, "TCPCS1").await;
    let theirs = Sysplex::new(store.facility(), "PLEX2", KEY);
    let owner = store.facility().get(&ours.paths().owner(vip())).await.unwrap().unwrap();
    store
        .facility()
        .commit(unconditional(vec![put(&theirs.paths().owner(vip()), &owner.value)]))
        .await
        .unwrap();
    assert!(matches!(theirs.owner(vip()).await, Err(FenceError::OwnerRefused { .. })));
}

async fn what_an_older_key_sealed_is_sealed_again(store: impl Store) {
    let before = plex(&store);
    let fence = claim(&before, A, "TCPCS1").await;
    write(&before, &fence, &[p1(1), p2(2)]).await.unwrap();
    let keys = before.change_keys(&fence, id(1), Some(&Secret::new(vec![5; 40]))).unwrap();
    let ceiling = before.change_ceiling(&fence, Ceiling { highest: 9 }).unwrap();
    before.write(&fence, vec![keys, ceiling]).await.unwrap();
    let new = SysplexKey::new([8; 32]);
    let both = Sysplex::new(store.facility(), "plex1", new.clone().with_older(&[[7; 32]]));
    let (fence, left) = both.claim(vip(), A, "TCPCS1", &Expected::Any, None).await.unwrap();
    assert!(left.refused.is_empty());
    assert_eq!(both.reseal(&fence).await.unwrap(), 4);
    assert_eq!(both.reseal(&fence).await.unwrap(), 0);
    let after = Sysplex::new(store.facility(), "plex1", new);
    let c = after.read(vip()).await.unwrap();
    assert!(c.refused.is_empty(), "{:?}", c.refused);
    assert_eq!((c.phase1.len(), c.phase2.len(), c.keys.len(), c.ceiling.is_some()), (1, 1, 1, true));
    assert_eq!(c.phase1[0].1, 1, "the writer's epoch stays");
}

async fn t27_keys_that_must_not_be_there_are_removed(store: impl Store) {
    let plex = plex(&store);
    let fence = claim(&plex, A, "TCPCS1").await;
    write(&plex, &fence, &[p1(1)]).await.unwrap();
    let keys = plex.change_keys(&fence, id(1), Some(&Secret::new(vec![5; 40]))).unwrap();
    let ceiling = plex.change_ceiling(&fence, Ceiling { highest: 9 }).unwrap();
    plex.write(&fence, vec![keys, ceiling]).await.unwrap();
    assert_eq!(plex.forget_keys(&fence).await.unwrap(), 2);
    let c = plex.read(vip()).await.unwrap();
    assert_eq!((c.phase1.len(), c.keys.len(), c.ceiling), (1, 0, None));
}
