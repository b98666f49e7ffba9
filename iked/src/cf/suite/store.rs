//! What every store must do: transactions, revisions, pages, watches.

use super::super::{
    CfError, Change, Condition, CouplingFacility, Entry, MAX_VALUE_BYTES, Outcome, PAGE, READ, Revision,
    Seen, Transaction, Watch,
};
use super::{Store, for_every_store, put, unconditional};
use std::time::Duration;

for_every_store!(
    a_transaction_happens_whole_or_not_at_all,
    every_kind_of_condition_is_judged,
    of_many_transactions_on_one_revision_one_happens,
    revisions_grow_and_tell_who_wrote_last,
    pages_are_ordered_bounded_and_complete,
    t49_what_is_too_large_is_not_written,
    a_watch_tells_what_is_there_and_each_change_once_in_order,
    a_watch_sees_no_other_prefix,
);

async fn value<C: CouplingFacility>(cf: &C, key: &str) -> Option<Vec<u8>> {
    cf.get(key).await.unwrap().map(|e| e.value)
}

async fn a_transaction_happens_whole_or_not_at_all(store: impl Store) {
    let cf = store.facility();
    let make = Transaction {
        conditions: vec![Condition::Absent("/o".into())],
        changes: vec![put("/o", b"1"), put("/a", b"x")],
    };
    assert!(matches!(cf.commit(make.clone()).await.unwrap(), Outcome::Committed(_)));
    let again = Transaction { changes: vec![put("/o", b"2"), put("/b", b"y")], ..make };
    assert_eq!(cf.commit(again).await.unwrap(), Outcome::ConditionFailed);
    assert_eq!(value(&cf, "/o").await.as_deref(), Some(b"1".as_slice()));
    assert_eq!(value(&cf, "/b").await, None);
    cf.commit(unconditional(vec![Change::Remove("/o".into()), Change::Remove("/never".into())]))
        .await
        .unwrap();
    assert_eq!(value(&cf, "/o").await, None);
}

async fn every_kind_of_condition_is_judged(store: impl Store) {
    let cf = store.facility();
    let Outcome::Committed(old) = cf.commit(unconditional(vec![put("/a", b"1")])).await.unwrap() else {
        panic!()
    };
    let Outcome::Committed(now) = cf.commit(unconditional(vec![put("/a", b"1")])).await.unwrap() else {
        panic!()
    };
    let a = || "/a".to_owned();
    for (conditions, holds) in [
        (vec![Condition::Value(a(), b"1".into())], true),
        (vec![Condition::Value(a(), b"2".into())], false),
        (vec![Condition::Value("/n".into(), b"".into())], false),
        (vec![Condition::Absent("/n".into())], true),
        (vec![Condition::Absent(a())], false),
        (vec![Condition::Revision(a(), now)], true),
        (vec![Condition::Revision(a(), old)], false),
        (vec![Condition::Revision("/n".into(), Revision::ABSENT)], true),
        (vec![Condition::Revision(a(), Revision::ABSENT)], false),
        (vec![Condition::Value(a(), b"1".into()), Condition::Absent("/n".into())], true),
        (vec![Condition::Value(a(), b"1".into()), Condition::Absent(a())], false),
    ] {
        let t = Transaction { conditions: conditions.clone(), changes: vec![put("/other", b"")] };
        let happened = matches!(cf.commit(t).await.unwrap(), Outcome::Committed(_));
        assert_eq!(happened, holds, "{conditions:?}");
    }
}

async fn of_many_transactions_on_one_revision_one_happens(store: impl Store) {
    let cf = store.facility();
    let Outcome::Committed(seen) = cf.commit(unconditional(vec![put("/a", b"")])).await.unwrap() else {
        panic!()
    };
    let tries = (0..16u8).map(|i| {
        let cf = store.facility();
        let condition = Condition::Revision("/a".into(), seen);
        tokio::spawn(async move { cf.commit(Transaction::new(condition, put("/a", &[i]))).await.unwrap() })
    });
    let mut won = 0;
    for task in tries.collect::<Vec<_>>() {
        won += usize::from(matches!(task.await.unwrap(), Outcome::Committed(_)));
    }
    assert_eq!(won, 1);
}

async fn revisions_grow_and_tell_who_wrote_last(store: impl Store) {
    let cf = store.facility();
    let mut last = Revision::ABSENT;
    for key in ["/a", "/b", "/a"] {
        let Outcome::Committed(now) = cf.commit(unconditional(vec![put(key, b"v")])).await.unwrap() else {
            panic!()
        };
        assert!(now > last);
        assert_eq!(cf.get(key).await.unwrap().unwrap().revision, now);
        last = now;
    }
    let page = cf.page("/", None).await.unwrap();
    assert_eq!(page.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["/a", "/b"]);
    assert_eq!(page[0].revision, last);
    assert!(page[1].revision < last);
}

async fn pages_are_ordered_bounded_and_complete(store: impl Store) {
    let cf = store.facility();
    for chunk in (0..2500).collect::<Vec<_>>().chunks(PAGE) {
        let changes = chunk.iter().map(|i| put(&format!("/p/{i:04}"), b"v")).collect();
        cf.commit(unconditional(changes)).await.unwrap();
    }
    cf.commit(unconditional(vec![put("/p2", b""), put("/o", b"")])).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = cf.page("/p/", after.as_deref()).await.unwrap();
        assert!(page.len() <= READ);
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        seen.extend(page.into_iter().map(|e| e.key));
    }
    assert_eq!(seen, (0..2500).map(|i| format!("/p/{i:04}")).collect::<Vec<_>>());
}

async fn t49_what_is_too_large_is_not_written(store: impl Store) {
    let cf = store.facility();
    let huge = unconditional(vec![put("/o", &[0; MAX_VALUE_BYTES + 1])]);
    assert!(matches!(cf.commit(huge).await, Err(CfError::TooLarge(_))));
    let many = unconditional((0..=PAGE).map(|i| put(&format!("/{i}"), b"")).collect());
    assert!(matches!(cf.commit(many).await, Err(CfError::TooMany(_))));
    assert!(cf.page("/", None).await.unwrap().is_empty());
    // The largest of everything goes in.
    let full = |i: usize| put(&format!("/{i:03}"), &[7; MAX_VALUE_BYTES]);
    let parts = super::super::fence::in_bounds((0..PAGE).map(full).collect());
    assert!(parts.len() > 1);
    for part in parts {
        assert!(matches!(cf.commit(unconditional(part)).await.unwrap(), Outcome::Committed(_)));
    }
    assert_eq!(cf.page("/", None).await.unwrap().len(), PAGE);
}

async fn next(watch: &mut Watch) -> Seen {
    tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("something is seen").unwrap()
}

async fn a_watch_tells_what_is_there_and_each_change_once_in_order(store: impl Store) {
    let cf = store.facility();
    cf.commit(unconditional(vec![put("/w/a", b"0")])).await.unwrap();
    let mut watch = store.facility().watch("/w/").await.unwrap();
    let Seen::All(all) = next(&mut watch).await else { panic!() };
    assert_eq!(
        all.iter().map(|e| (e.key.as_str(), e.value.as_slice())).collect::<Vec<_>>(),
        [("/w/a", b"0".as_slice())]
    );
    let mut expected = Vec::new();
    for i in 0..50u8 {
        let key = format!("/w/{}", i % 3);
        let change = if i % 7 == 6 { Change::Remove(key.clone()) } else { put(&key, &[i]) };
        let there = cf.get(&key).await.unwrap().is_some();
        let Outcome::Committed(revision) = cf.commit(unconditional(vec![change.clone()])).await.unwrap()
        else {
            panic!()
        };
        match change {
            Change::Remove(key) if there => expected.push(Seen::Removed { key, revision }),
            Change::Remove(_) => {}
            _ => expected.push(Seen::Put(Entry { key, value: vec![i], revision })),
        }
    }
    for e in expected {
        assert_eq!(next(&mut watch).await, e);
    }
}

async fn a_watch_sees_no_other_prefix(store: impl Store) {
    let cf = store.facility();
    let mut watch = cf.watch("/w/").await.unwrap();
    assert_eq!(next(&mut watch).await, Seen::All(vec![]));
    cf.commit(unconditional(vec![put("/x", b""), put("/w", b""), put("/w0", b"")])).await.unwrap();
    cf.commit(unconditional(vec![put("/w/mine", b"")])).await.unwrap();
    let Seen::Put(entry) = next(&mut watch).await else { panic!() };
    assert_eq!(entry.key, "/w/mine");
}
