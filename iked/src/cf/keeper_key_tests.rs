//! The sysplex key is changed while the keepers of two systems work.

use super::*;

#[tokio::test(start_paused = true)]
async fn t26_a_key_that_is_changed_under_way_seals_everything_again() {
    let new = SysplexKey::new([8; 32]);
    let store = Memory::new();
    let (mut a, mut b) = (host(&store, "SYSA", true), host(&store, "SYSB", true));
    a.serve("TCPCS1").await;
    b.serve("TCPCS2").await;
    b.order(Order::Backup { dvipa: vip(), rank: 0, stack: Some("TCPCS2".into()) }).await;
    a.claim("TCPCS1").await;
    a.owned().await;
    a.write(1, "a").await;
    a.keys(1, b"key", 1).await;
    a.order(Order::Ceiling { dvipa: vip(), highest: 100 }).await;
    a.until(|r| matches!(r, Report::Written { .. }).then_some(())).await;
    let under_new = |content: &crate::cf::memory::Content| {
        content.entries.iter().filter(|(path, (value, _))| new.open(path, value).is_ok()).count()
    };
    assert_eq!(under_new(&store.snapshot()), 0);
    // One system after the other, as docs/coupling-facility.md says: first both can read it, then they write it.
    for keys in [KEY.with_older(&[[8; 32]]), new.clone().with_older(&[[7; 32]])] {
        for h in [&mut a, &mut b] {
            h.key.replace(keys.clone());
            h.order(Order::SealAgain).await;
            h.renewed().await;
        }
    }
    let sealed_again = async {
        while under_new(&store.snapshot()) < store.snapshot().entries.len() {
            a.renewed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), sealed_again).await.expect("nothing stale is left");
    let content = store.snapshot();
    let kinds = [
        "member/SYSA",
        "member/SYSB",
        "alive/SYSA",
        "alive/SYSB",
        "owner",
        "backup",
        "phase1",
        "keys",
        "ceiling",
    ];
    for kind in kinds {
        assert!(
            content.entries.keys().any(|path| path.contains(kind)),
            "{kind}: {:?}",
            content.entries.keys()
        );
    }
    let stale = content.entries.iter().filter(|(path, (value, _))| new.open(path, value).is_err());
    let stale: Vec<_> = stale.map(|(path, _)| path).collect();
    assert!(stale.is_empty(), "{stale:?}");
    // The old one can go; nobody has lost anything.
    for h in [&mut a, &mut b] {
        h.key.replace(new.clone());
        h.order(Order::SealAgain).await;
    }
    a.write(2, "b").await;
    a.until(|r| match r {
        Report::Written { .. } => Some(()),
        Report::Lost(_) | Report::StoreSetBack { .. } | Report::Failed { .. } => panic!("{r:?}"),
        _ => None,
    })
    .await;
    b.renewed().await;
}
