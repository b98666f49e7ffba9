//! The keeper between the core and a store with faults, under virtual time.

use super::super::memory::Memory;
use super::super::order::AliveSeen;
use super::super::record::tests::phase1;
use super::super::record::{Alive, Member, Owner, RecordId, Secret, Stored};
use super::super::seal::SysplexKey;
use super::super::{Change, Entry, Outcome, Transaction};
use super::*;
use crate::cf::fence::{Contents, Record};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::time::Instant;

#[path = "keeper_key_tests.rs"]
mod key;

const KEY: SysplexKey = SysplexKey::new([7; 32]);
const LEASE: Duration = Duration::from_millis(1000);

/// One daemon's keeper on a store that it may share with others.
struct Host {
    store: Memory,
    orders: mpsc::Sender<Order>,
    reports: mpsc::Receiver<Report>,
    task: tokio::task::JoinHandle<()>,
    clock: Arc<AtomicU64>,
    key: KeyInForce,
}

fn vip() -> IpAddr {
    "203.0.113.10".parse().unwrap()
}

fn host(store: &Memory, system: &str, continued: bool) -> Host {
    let store = store.host();
    let (report_tx, reports) = mpsc::channel(1024);
    let (orders, rx) = mpsc::channel(64);
    let opened = store.clone();
    let clock = Arc::new(AtomicU64::new(1));
    let ticking = clock.clone();
    let key = KeyInForce::from(KEY);
    let settings = Settings {
        name: "PLEX1".into(),
        system: system.into(),
        key: key.clone(),
        continued: if continued { BTreeSet::from([vip()]) } else { BTreeSet::new() },
        clock: Box::new(move || ticking.fetch_add(1, SeqCst)),
    };
    let open = move || std::future::ready(Ok(opened.clone()));
    let task = tokio::spawn(Keeper::new(open, settings, report_tx).run(rx));
    Host { store, orders, reports, task, clock, key }
}

fn member(start: u64) -> Member {
    Member { xcf: Some("10.99.0.1".parse().unwrap()), start, distributor: true, target: true }
}

fn seal_alive(ended: bool) -> Alive {
    Alive { start: 1, count: 1, lease_ms: 1000, ended }
}

impl Host {
    async fn order(&self, order: Order) {
        self.orders.send(order).await.unwrap();
    }

    async fn claim(&self, stack: &str) {
        self.order(Order::Claim { dvipa: vip(), stack: stack.into(), expected: Expected::Any, over: None })
            .await;
    }

    async fn serve(&self, stack: &str) {
        self.order(Order::Serve { stack: stack.into(), member: member(1), lease: Some(LEASE) }).await;
    }

    async fn write(&self, id: u8, name: &str) {
        let mut r = phase1();
        r.rule = name.into();
        let key = RecordKey::Phase1(RecordId([id; 16]));
        self.order(Order::Write { dvipa: vip(), key, record: Some(Record::Phase1(Box::new(r))) }).await;
    }

    async fn keys(&self, id: u8, octets: &[u8], ticket: u64) {
        let keys = Some(Secret::new(octets.to_vec()));
        self.order(Order::Keys { dvipa: vip(), id: RecordId([id; 16]), keys, ticket }).await;
    }

    async fn next(&mut self) -> Report {
        tokio::time::timeout(Duration::from_secs(300), self.reports.recv()).await.expect("a report").unwrap()
    }

    /// The next report that `f` takes; others are passed over.
    async fn until<T>(&mut self, mut f: impl FnMut(Report) -> Option<T>) -> T {
        loop {
            if let Some(found) = f(self.next().await) {
                return found;
            }
        }
    }

    async fn owned(&mut self) -> (u64, Box<Contents>) {
        self.until(|r| match r {
            Report::Owned { epoch, left, .. } => Some((epoch, left)),
            _ => None,
        })
        .await
    }

    async fn protected(&mut self) -> (bool, String) {
        self.until(|r| match r {
            Report::Protected { protected, reason } => Some((protected, reason)),
            _ => None,
        })
        .await
    }

    async fn renewed(&mut self) -> u64 {
        self.until(|r| match r {
            Report::Renewed { sent_boot_ns, .. } => Some(sent_boot_ns),
            _ => None,
        })
        .await
    }

    fn plex(&self) -> Sysplex<Memory> {
        Sysplex::new(self.store.host(), "PLEX1", KEY)
    }

    async fn alive(&self, system: &str, stack: &str) -> (Alive, Entry) {
        let plex = self.plex();
        let entry = plex.get(&plex.paths().alive(system, stack)).await.unwrap().unwrap();
        (plex.open::<Alive>(&entry.key, &entry.value).unwrap().1, entry)
    }

    async fn end(self) {
        drop(self.orders);
        self.task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn t48_a_store_that_is_down_is_reported_and_tried_again() {
    let mut h = host(&Memory::new(), "SYSA", false);
    h.store.faults(|f| f.down = true);
    h.claim("TCPCS1").await;
    h.write(1, "a").await;
    let Report::Failed { reason, lasting: false, .. } = h.next().await else { panic!() };
    assert_eq!(reason, "coupling facility: connection refused");
    assert!(matches!(h.next().await, Report::Facility { works: false }));
    assert_eq!(h.protected().await, (false, "coupling facility: connection refused".into()));
    h.store.faults(|f| f.down = false);
    assert_eq!(h.owned().await.0, 1);
    let keys = h
        .until(|r| match r {
            Report::Written { keys, .. } => Some(keys),
            _ => None,
        })
        .await;
    assert_eq!(keys, [RecordKey::Phase1(RecordId([1; 16]))]);
    assert_eq!(h.protected().await, (true, String::new()));
}

#[tokio::test(start_paused = true)]
async fn t48_a_store_that_hangs_is_reported_within_its_limit_and_nothing_waits_for_it() {
    let mut h = host(&Memory::new(), "SYSA", false);
    h.claim("TCPCS1").await;
    h.owned().await;
    h.store.faults(|f| f.hangs = true);
    let before = Instant::now();
    h.write(1, "a").await;
    let (protected, reason) = loop {
        let told = h.protected().await;
        if !told.0 {
            break told;
        }
    };
    assert!(!protected && reason.contains("no answer within 2000 ms"), "{reason}");
    assert!(before.elapsed() <= Duration::from_millis(2100));
    // Orders are taken all the same.
    for n in 0..200 {
        h.write(2, &n.to_string()).await;
    }
    h.store.faults(|f| f.hangs = false);
    assert!(h.protected().await.0);
    let rules: BTreeSet<_> =
        h.plex().read(vip()).await.unwrap().phase1.into_iter().map(|(_, _, p)| p.rule).collect();
    assert_eq!(rules, BTreeSet::from(["a".to_owned(), "199".to_owned()]), "only the newest wish counts");
}

#[tokio::test(start_paused = true)]
async fn t48_a_store_that_is_full_is_reported_and_made_good() {
    let mut h = host(&Memory::new(), "SYSA", true);
    h.claim("TCPCS1").await;
    h.owned().await;
    assert!(h.protected().await.0);
    h.store.faults(|f| f.read_only = true);
    h.order(Order::Ceiling { dvipa: vip(), highest: 1000 }).await;
    assert_eq!(h.protected().await, (false, "coupling facility: no space".into()));
    h.store.faults(|f| f.read_only = false);
    let highest = h
        .until(|r| match r {
            Report::CeilingRaised { highest, .. } => Some(highest),
            _ => None,
        })
        .await;
    assert_eq!(highest, 1000);
    assert!(h.protected().await.0);
}

#[tokio::test(start_paused = true)]
async fn one_record_that_is_too_large_does_not_keep_the_others_out() {
    let mut h = host(&Memory::new(), "SYSA", false);
    h.claim("TCPCS1").await;
    h.owned().await;
    h.write(1, &"x".repeat(20_000)).await;
    h.write(2, "fine").await;
    let (mut failed, mut written) = (Vec::new(), Vec::new());
    while failed.is_empty() || written.is_empty() {
        match h.next().await {
            Report::Failed { keys, lasting: true, .. } => failed.extend(keys),
            Report::Written { keys, .. } => written.extend(keys),
            Report::Protected { protected: true, .. } | Report::Facility { works: true } => {}
            r => panic!("{r:?}"),
        }
    }
    assert_eq!(failed, [RecordKey::Phase1(RecordId([1; 16]))]);
    assert_eq!(written, [RecordKey::Phase1(RecordId([2; 16]))]);
}

#[tokio::test(start_paused = true)]
async fn t47_a_fenced_keeper_says_so_and_writes_no_more() {
    let mut h = host(&Memory::new(), "SYSA", false);
    h.claim("TCPCS1").await;
    h.owned().await;
    let plex = h.plex();
    plex.claim(vip(), "SYSA", "OTHER", &Expected::Any, None).await.unwrap();
    h.write(1, "a").await;
    h.until(|r| matches!(r, Report::Lost(v) if v == vip()).then_some(())).await;
    h.write(2, "b").await;
    h.end().await;
    assert!(plex.read(vip()).await.unwrap().phase1.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restart_finds_what_the_last_owner_left_and_clears_it() {
    let mut h = host(&Memory::new(), "SYSA", false);
    h.claim("TCPCS1").await;
    h.write(1, "a").await;
    assert_eq!(h.owned().await.0, 1);
    h.until(|r| matches!(r, Report::Written { .. }).then_some(())).await;
    h.claim("TCPCS1").await;
    let (epoch, left) = h.owned().await;
    assert_eq!((epoch, left.phase1[0].2.rule.as_str()), (2, "a"));
    h.order(Order::ClearOlder(vip())).await;
    let plex = h.plex();
    h.end().await;
    assert!(plex.read(vip()).await.unwrap().phase1.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_every_fifth_of_it_and_counts_from_before_it_was_sent() {
    let mut h = host(&Memory::new(), "SYSA", false);
    h.serve("TCPCS1").await;
    h.renewed().await;
    let begin = Instant::now();
    for _ in 0..10 {
        let before = h.clock.load(SeqCst);
        h.store.faults(|f| f.slow = Duration::from_millis(20));
        let sent = h.renewed().await;
        assert!(sent < h.clock.load(SeqCst) && sent + 2 >= before, "{sent} {before}");
    }
    let took = begin.elapsed();
    assert!(took >= LEASE * 9 / 5 && took <= LEASE * 3, "{took:?}");
    let (alive, _) = h.alive("SYSA", "TCPCS1").await;
    assert_eq!((alive.lease_ms, alive.ended), (1000, false));
    let plex = h.plex();
    let path = plex.paths().member("SYSA", "TCPCS1");
    let entry = plex.get(&path).await.unwrap().unwrap();
    assert_eq!(plex.open::<Member>(&path, &entry.value).unwrap().1, member(1));
}

#[tokio::test(start_paused = true)]
async fn t47_only_an_acknowledged_renewal_counts() {
    let mut h = host(&Memory::new(), "SYSA", false);
    h.serve("TCPCS1").await;
    h.renewed().await;
    // It happens, but nobody hears of it: a partition between the store and its answer.
    h.store.faults(|f| f.lost_answers = u32::MAX);
    tokio::time::sleep(LEASE * 3).await;
    let mut heard = 0;
    while let Ok(r) = h.reports.try_recv() {
        heard += usize::from(matches!(r, Report::Renewed { .. }));
    }
    assert!(heard <= 1, "the one that was under way");
    h.store.faults(|f| f.lost_answers = 0);
    h.renewed().await;
}

#[tokio::test(start_paused = true)]
async fn t47_who_lost_a_dvipa_is_told_before_its_lease_goes_on() {
    let mut h = host(&Memory::new(), "SYSA", false);
    h.serve("TCPCS1").await;
    h.claim("TCPCS1").await;
    h.owned().await;
    h.renewed().await;
    let plex = h.plex();
    // A backup saw no renewal for a lease and a quarter: the owner was stopped, say.
    h.store.faults(|f| f.hangs = true);
    tokio::time::sleep(LEASE * 2).await;
    while h.reports.try_recv().is_ok() {}
    let (_, entry) = h.alive("SYSA", "TCPCS1").await;
    let over = AliveSeen { system: "SYSA".into(), stack: "TCPCS1".into(), revision: entry.revision };
    plex.claim(vip(), "SYSB", "BACKUP", &Expected::Any, Some(&over)).await.unwrap();
    h.store.faults(|f| f.hangs = false);
    let first = h
        .until(|r| match r {
            Report::Lost(v) => Some(v.to_string()),
            Report::Renewed { .. } => Some("renewed".into()),
            _ => None,
        })
        .await;
    assert_eq!(first, vip().to_string());
    h.renewed().await;
}

#[tokio::test(start_paused = true)]
async fn t47_of_two_hosts_that_claim_over_a_dead_owner_one_owns() {
    let store = Memory::new();
    let mut a = host(&store, "SYSA", false);
    a.serve("TCPCS1").await;
    a.claim("TCPCS1").await;
    a.owned().await;
    let (_, entry) = a.alive("SYSA", "TCPCS1").await;
    a.store.faults(|f| f.hangs = true);
    let over = AliveSeen { system: "SYSA".into(), stack: "TCPCS1".into(), revision: entry.revision };
    let mut hosts = [host(&store, "SYSB", false), host(&store, "SYSC", false)];
    for h in &hosts {
        h.order(Order::Claim {
            dvipa: vip(),
            stack: "BACKUP".into(),
            expected: Expected::Any,
            over: Some(over.clone()),
        })
        .await;
    }
    let mut won = 0;
    for h in &mut hosts {
        won += h
            .until(|r| match r {
                Report::Owned { epoch, .. } => Some(usize::from(epoch == 2)),
                Report::NotOwned { .. } => Some(0),
                _ => None,
            })
            .await;
    }
    assert_eq!(won, 1);
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_to_the_others_and_needs_no_waiting() {
    let store = Memory::new();
    let (mut a, mut b) = (host(&store, "SYSA", false), host(&store, "SYSB", false));
    b.order(Order::Watch { dvipas: vec![vip()] }).await;
    a.serve("TCPCS1").await;
    a.claim("TCPCS1").await;
    a.owned().await;
    a.order(Order::End { stack: "TCPCS1".into() }).await;
    a.until(|r| matches!(r, Report::Ended { .. }).then_some(())).await;
    let seen = b
        .until(|r| match r {
            Report::Alive { system, stack, revision, alive: Some(Alive { ended: true, .. }) } => {
                Some(AliveSeen { system, stack, revision })
            }
            _ => None,
        })
        .await;
    assert_eq!((seen.system.as_str(), seen.stack.as_str()), ("SYSA", "TCPCS1"));
    b.order(Order::Claim { dvipa: vip(), stack: "BACKUP".into(), expected: Expected::Any, over: Some(seen) })
        .await;
    let (epoch, left) = b.owned().await;
    assert_eq!((epoch, left.previous.unwrap().stack.as_str()), (2, "TCPCS1"));
    let path = "/PLEX1/member/SYSA/TCPCS1";
    assert!(a.store.get(path).await.unwrap().is_none(), "it is no member any more");
    // Back again, as a new start.
    a.order(Order::Serve { stack: "TCPCS1".into(), member: member(2), lease: Some(LEASE) }).await;
    a.renewed().await;
    assert_eq!(a.alive("SYSA", "TCPCS1").await.0.start, 2);
}

#[tokio::test(start_paused = true)]
async fn t47_an_end_that_comes_after_a_new_start_ends_nothing() {
    let store = Memory::new();
    let mut old = host(&store, "SYSA", false);
    old.serve("TCPCS1").await;
    old.renewed().await;
    old.order(Order::Retire { stack: "TCPCS1".into() }).await;
    // The daemon is started again with a new process of the stack, while the end of the old one waits for the store.
    let mut new = host(&store, "SYSA", false);
    new.order(Order::Serve { stack: "TCPCS1".into(), member: member(2), lease: Some(LEASE) }).await;
    new.renewed().await;
    while old.alive("SYSA", "TCPCS1").await.0.start != 2 {
        new.renewed().await;
    }
    old.order(Order::End { stack: "TCPCS1".into() }).await;
    old.until(|r| matches!(r, Report::Ended { .. }).then_some(())).await;
    let (alive, _) = new.alive("SYSA", "TCPCS1").await;
    assert_eq!((alive.start, alive.ended), (2, false), "the new start lives");
    let path = "/PLEX1/member/SYSA/TCPCS1";
    assert!(new.store.get(path).await.unwrap().is_some(), "and is a member");
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_members_lives_owners_and_backups() {
    let store = Memory::new();
    let (mut a, mut b) = (host(&store, "SYSA", false), host(&store, "SYSB", false));
    b.order(Order::Watch { dvipas: vec![vip()] }).await;
    let none = b.until(|r| if let Report::OwnerIs { owner, .. } = r { Some(owner) } else { None }).await;
    assert_eq!(none, None, "nobody yet is told too");
    a.serve("TCPCS1").await;
    a.claim("TCPCS1").await;
    a.order(Order::Backup { dvipa: vip(), rank: 1, stack: Some("TCPCS2".into()) }).await;
    let (mut m, mut l, mut o, mut k) = (false, false, false, false);
    while !(m && l && o && k) {
        match b.next().await {
            Report::Member { system, member: Some(x), .. } => m |= system == "SYSA" && x == member(1),
            Report::Alive { alive: Some(x), .. } => l |= x.start == 1,
            Report::OwnerIs { owner: Some(Owner { epoch: 1, system, .. }), .. } => o |= system == "SYSA",
            Report::BackupIs { rank: 1, backup: Some(x), .. } => k |= x.stack == "TCPCS2",
            _ => {}
        }
    }
    a.order(Order::Backup { dvipa: vip(), rank: 1, stack: None }).await;
    b.until(|r| matches!(r, Report::BackupIs { rank: 1, backup: None, .. }).then_some(())).await;
    a.order(Order::Release { dvipa: vip() }).await;
    a.until(|r| matches!(r, Report::Released { epoch: 1, .. }).then_some(())).await;
    let released = b
        .until(|r| match r {
            Report::OwnerIs { owner: Some(o), .. } if o.released => Some(o.epoch),
            _ => None,
        })
        .await;
    assert_eq!(released, 1);
    b.claim("BACKUP").await;
    assert_eq!(b.owned().await.0, 2);
    a.renewed().await;
}

/// At a takeover nobody is served until the records are there: they are, before it begins.
#[tokio::test(start_paused = true)]
async fn a_backup_has_read_what_it_takes_before_it_takes_it() {
    let store = Memory::new();
    let (mut a, mut b) = (host(&store, "SYSA", true), host(&store, "SYSB", true));
    a.claim("TCPCS1").await;
    a.owned().await;
    a.write(1, "there before anybody looked").await;
    a.until(|r| matches!(r, Report::Written { .. }).then_some(())).await;
    b.order(Order::Mirror { dvipa: vip() }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for id in 2..20 {
        a.write(id, "a").await;
        a.keys(id, &[id; 40], id.into()).await;
    }
    a.order(Order::Ceiling { dvipa: vip(), highest: 77 }).await;
    let gone = RecordKey::Phase1(RecordId([5; 16]));
    a.order(Order::Write { dvipa: vip(), key: gone, record: None }).await;
    // T49: somebody else writes, too.
    let plex = b.plex();
    let hostile = ["phase1/nonsense", "phase2/00112233445566778899aabbccddeeff", "keys/x/y", "elsewhere"];
    let changes = hostile.map(|p| Change::Put(format!("/PLEX1/dvipa/{}/{p}", vip()), vec![1; 90]));
    plex.commit(Transaction { conditions: vec![], changes: changes.to_vec() }).await.unwrap();
    a.order(Order::Release { dvipa: vip() }).await;
    a.until(|r| matches!(r, Report::Released { .. }).then_some(())).await;
    let mut read = plex.read(vip()).await.unwrap();
    assert_eq!((read.phase1.len(), read.keys.len(), read.refused.len()), (18, 18, 3));
    read.refused.sort_by(|x, y| x.0.cmp(&y.0));
    b.store.faults(|f| f.no_pages = true);
    b.claim("BACKUP").await;
    let (epoch, left) = b.owned().await;
    assert_eq!(epoch, 2);
    assert_eq!((&left.phase1, &left.phase2, &left.keys), (&read.phase1, &read.phase2, &read.keys));
    assert_eq!((left.ceiling, &left.refused, left.set_back), (read.ceiling, &read.refused, None));
    // As owner it mirrors nothing; when it has given the DVIPA up, it begins again.
    b.store.faults(|f| f.no_pages = false);
    b.write(1, "b").await;
    b.order(Order::Release { dvipa: vip() }).await;
    b.until(|r| matches!(r, Report::Released { .. }).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    b.store.faults(|f| f.no_pages = true);
    b.claim("BACKUP").await;
    let (epoch, left) = b.owned().await;
    assert_eq!(
        (epoch, left.phase1.iter().find(|r| r.0 == RecordId([1; 16])).map(|r| r.2.rule.as_str())),
        (3, Some("b"))
    );
}

#[tokio::test(start_paused = true)]
async fn what_expires_is_repeated() {
    let mut h = host(&Memory::new(), "SYSA", false);
    h.order(Order::Serve { stack: "TCPCS1".into(), member: member(1), lease: None }).await;
    h.order(Order::Backup { dvipa: vip(), rank: 0, stack: Some("TCPCS1".into()) }).await;
    let plex = h.plex();
    let paths = [plex.paths().member("SYSA", "TCPCS1"), plex.paths().backup(vip(), 0)];
    h.protected().await;
    for path in paths {
        // As etcd does when it saw nothing of us for a while.
        let remove = Transaction { conditions: vec![], changes: vec![Change::Remove(path.clone())] };
        h.store.commit(remove).await.unwrap();
        let limit = Instant::now() + super::super::LEASED_PERIOD * 2;
        while h.store.get(&path).await.unwrap().is_none() {
            assert!(Instant::now() < limit, "{path}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_withdrawn_unless_it_was_made() {
    let mut h = host(&Memory::new(), "SYSA", false);
    let withdrawn = |r| match r {
        Report::NotOwned { reason, .. } => Some(Err(reason)),
        Report::Owned { epoch, .. } => Some(Ok(epoch)),
        _ => None,
    };
    h.store.faults(|f| f.down = true);
    h.claim("TCPCS1").await;
    h.until(|r| matches!(r, Report::Facility { works: false }).then_some(())).await;
    h.order(Order::Withdraw { dvipa: vip() }).await;
    h.store.faults(|f| f.down = false);
    assert_eq!(h.until(withdrawn).await, Err(NotOwned::Withdrawn));
    assert_eq!(h.plex().owner(vip()).await.unwrap(), None);
    // The next one is made, and its answer is lost.
    h.store.faults(|f| f.lost_answers = 1);
    h.claim("TCPCS1").await;
    h.until(|r| matches!(r, Report::Facility { works: false }).then_some(())).await;
    h.order(Order::Withdraw { dvipa: vip() }).await;
    assert_eq!(h.until(withdrawn).await, Ok(2));
    h.order(Order::ClearOlder(vip())).await;
    h.until(|r| matches!(r, Report::Cleared(_)).then_some(())).await;
    // Nothing is left to be withdrawn.
    h.order(Order::Withdraw { dvipa: vip() }).await;
    h.claim("TCPCS1").await;
    assert_eq!(h.until(withdrawn).await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn who_watches_is_told_when_he_has_seen_everything_once() {
    let store = Memory::new();
    let (mut a, mut b) = (host(&store, "SYSA", false), host(&store, "SYSB", false));
    a.serve("TCPCS1").await;
    a.claim("TCPCS1").await;
    a.owned().await;
    a.renewed().await;
    b.order(Order::Watch { dvipas: vec![vip()] }).await;
    let (mut alive, mut owner) = (false, false);
    loop {
        match b.next().await {
            Report::Alive { .. } => alive = true,
            Report::OwnerIs { .. } => owner = true,
            Report::Synced => break,
            _ => {}
        }
    }
    assert!(alive && owner);
    // A stack of which nobody knows whether it runs is renewed no more, and not ended.
    a.order(Order::Retire { stack: "TCPCS1".into() }).await;
    tokio::time::sleep(LEASE * 3).await;
    let (last, entry) = a.alive("SYSA", "TCPCS1").await;
    assert!(!last.ended);
    tokio::time::sleep(LEASE).await;
    assert_eq!(a.alive("SYSA", "TCPCS1").await.1.revision, entry.revision);
    a.serve("TCPCS1").await;
    tokio::time::sleep(LEASE).await;
    assert!(a.alive("SYSA", "TCPCS1").await.1.revision > entry.revision);
}

#[tokio::test(start_paused = true)]
async fn t26_a_late_write_cannot_lower_a_ceiling() {
    let mut h = host(&Memory::new(), "SYSA", true);
    h.claim("TCPCS1").await;
    h.owned().await;
    h.store.faults(|f| f.late = true);
    h.order(Order::Ceiling { dvipa: vip(), highest: 100 }).await;
    assert!(
        !h.until(|r| if let Report::Protected { protected: false, .. } = r { Some(false) } else { None })
            .await
    );
    h.order(Order::Ceiling { dvipa: vip(), highest: 200 }).await;
    let raised = h
        .until(|r| match r {
            Report::CeilingRaised { highest, .. } => Some(highest),
            _ => None,
        })
        .await;
    assert_eq!(raised, 200);
    assert_eq!(h.store.arrive(), [Outcome::ConditionFailed]);
    assert_eq!(h.plex().read(vip()).await.unwrap().ceiling.unwrap().1.highest, 200);
}

#[tokio::test(start_paused = true)]
async fn t26_the_ceiling_only_rises_whatever_is_ordered() {
    let mut h = host(&Memory::new(), "SYSA", true);
    h.claim("TCPCS1").await;
    h.owned().await;
    let raise = async |h: &mut Host, highest| {
        h.order(Order::Ceiling { dvipa: vip(), highest }).await;
        h.until(|r| match r {
            Report::CeilingRaised { highest, .. } => Some(highest),
            _ => None,
        })
        .await
    };
    assert_eq!(raise(&mut h, 5000).await, 5000);
    assert_eq!(raise(&mut h, 4000).await, 5000);
    h.claim("TCPCS1").await;
    assert_eq!(h.owned().await.1.ceiling.unwrap().1.highest, 5000);
    assert_eq!(raise(&mut h, 1).await, 5000);
    assert_eq!(raise(&mut h, 6000).await, 6000);
}

#[tokio::test(start_paused = true)]
async fn keys_are_acknowledged_by_the_ticket_that_stands_in_the_store() {
    let mut h = host(&Memory::new(), "SYSA", true);
    h.claim("TCPCS1").await;
    for ticket in 1..=5u64 {
        h.keys(1, &[u8::try_from(ticket).unwrap(); 9], ticket).await;
    }
    let mut last = 0;
    while last < 5 {
        let tickets = h
            .until(|r| match r {
                Report::KeysStored { tickets, .. } => Some(tickets),
                _ => None,
            })
            .await;
        assert_eq!(tickets.len(), 1);
        assert!(tickets[0] > last);
        last = tickets[0];
        let stored = h.plex().read(vip()).await.unwrap().keys;
        assert!(u64::from(stored[0].2.octets()[0]) >= last, "nothing is acknowledged that is not there");
    }
}

#[tokio::test(start_paused = true)]
async fn t27_without_continue_no_octet_of_a_key_reaches_the_store() {
    let store = Memory::new();
    // What an earlier configuration with `continue` left.
    let mut before = host(&store, "SYSA", true);
    before.claim("TCPCS1").await;
    before.keys(1, b"old-key-material", 1).await;
    before.order(Order::Ceiling { dvipa: vip(), highest: 9 }).await;
    before.until(|r| matches!(r, Report::KeysStored { .. }).then_some(())).await;
    before.end().await;
    let mut h = host(&store, "SYSA", false);
    h.claim("TCPCS1").await;
    let (_, left) = h.owned().await;
    assert!(left.keys.is_empty() && left.ceiling.is_none(), "they are not handed on either");
    h.write(1, "a").await;
    h.keys(2, b"new-key-material", 2).await;
    h.order(Order::Ceiling { dvipa: vip(), highest: 10 }).await;
    let mut refused = 0;
    while refused < 2 {
        refused += usize::from(matches!(h.next().await, Report::Failed { lasting: true, .. }));
    }
    let plex = h.plex();
    h.end().await;
    let content = store.snapshot();
    for (key, (value, _)) in &content.entries {
        assert!(!key.contains("/keys/") && !key.contains("/ceiling"), "{key}");
        // Neither sealed nor open.
        let open = plex.key().open(key, value).unwrap();
        for octets in [&value[..], &open.plaintext[..]] {
            assert!(!octets.windows(12).any(|w| w == b"key-material"), "{key}");
        }
    }
    assert_eq!(plex.read(vip()).await.unwrap().phase1.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn t48_a_store_that_was_set_back_is_noticed_by_its_owner_at_once() {
    let store = Memory::new();
    let mut h = host(&store, "SYSA", true);
    h.serve("TCPCS1").await;
    h.claim("TCPCS1").await;
    h.owned().await;
    let old = store.snapshot();
    h.order(Order::Ceiling { dvipa: vip(), highest: 100 }).await;
    h.until(|r| matches!(r, Report::CeilingRaised { .. }).then_some(())).await;
    for _ in 0..5 {
        h.renewed().await;
    }
    // The owner record is the same; the renewals that were acknowledged are not there.
    store.restore(old);
    h.until(|r| matches!(r, Report::StoreSetBack { .. }).then_some(())).await;
    h.claim("TCPCS1").await;
    let (epoch, left) = h.owned().await;
    assert_eq!(epoch, 2);
    assert_eq!(left.set_back.unwrap().seen.ceiling, Some(100));
}

#[tokio::test(start_paused = true)]
async fn t48_a_store_that_was_set_back_is_noticed_by_others_and_their_epoch_is_new() {
    let store = Memory::new();
    let (mut a, mut b) = (host(&store, "SYSA", false), host(&store, "SYSB", false));
    b.order(Order::Watch { dvipas: vec![vip()] }).await;
    a.claim("TCPCS1").await;
    a.owned().await;
    let old = store.snapshot();
    a.claim("TCPCS1").await;
    a.owned().await;
    b.until(|r| match r {
        Report::OwnerIs { owner: Some(Owner { epoch: 2, .. }), .. } => Some(()),
        _ => None,
    })
    .await;
    store.restore(old);
    let (seen, found) = b
        .until(|r| match r {
            Report::StoreSetBack { seen, found, .. } => Some((seen.epoch, found.epoch)),
            _ => None,
        })
        .await;
    assert_eq!((seen, found), (2, 1));
    // The owner finds out with its next write, and is the owner again after a claim.
    a.write(1, "a").await;
    a.until(|r| matches!(r, Report::StoreSetBack { .. }).then_some(())).await;
    a.claim("TCPCS1").await;
    assert_eq!(a.owned().await.0, 3);
}

#[tokio::test(start_paused = true)]
async fn t48_an_epoch_that_was_heard_of_past_the_store_is_never_used_again() {
    let mut h = host(&Memory::new(), "SYSA", true);
    h.order(Order::Heard { dvipa: vip(), seen: Progress { epoch: 41, ceiling: Some(7) } }).await;
    h.claim("TCPCS1").await;
    let (epoch, left) = h.owned().await;
    assert_eq!(epoch, 42);
    assert!(left.set_back.is_some());
}

#[tokio::test(start_paused = true)]
async fn t49_hostile_records_of_others_are_passed_over() {
    let store = Memory::new();
    let mut b = host(&store, "SYSB", false);
    let plex = b.plex();
    let paths = plex.paths().clone();
    let put = |key: String, value: Vec<u8>| Transaction {
        conditions: vec![],
        changes: vec![Change::Put(key, value)],
    };
    let forged = SysplexKey::new([9; 32]);
    let ended = seal_alive(true).write();
    for t in [
        put(paths.member("EVIL", "A"), vec![0; 16 << 10]),
        put(format!("{}no/such/place", paths.members()), vec![1]),
        put(
            paths.alive("SYSA", "TCPCS1"),
            forged.seal(&paths.alive("SYSA", "TCPCS1"), 1, 0, [0; 32], &ended),
        ),
        put(paths.owner(vip()), vec![2; 99]),
        put(paths.backup(vip(), 0), vec![]),
    ] {
        store.commit(t).await.unwrap();
    }
    b.order(Order::Watch { dvipas: vec![vip()] }).await;
    b.until(|r| match r {
        Report::Alive { alive, stack, .. } => {
            assert_eq!((alive, stack.as_str()), (None, "TCPCS1"), "a forged end is no end");
            Some(())
        }
        Report::Member { member: Some(m), .. } => panic!("{m:?}"),
        _ => None,
    })
    .await;
    // The rest is used.
    let mut a = host(&store, "SYSA", false);
    a.serve("TCPCS1").await;
    b.until(|r| matches!(r, Report::Alive { alive: Some(_), .. }).then_some(())).await;
    a.renewed().await;
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_of_the_daemon_ends_the_leases_that_it_was_told_to() {
    let store = Memory::new();
    let mut a = host(&store, "SYSA", false);
    for stack in ["ONE", "TWO"] {
        a.serve(stack).await;
        a.renewed().await;
    }
    while a.store.get("/PLEX1/alive/SYSA/TWO").await.unwrap().is_none() {
        a.renewed().await;
    }
    let b = host(&store, "SYSB", false);
    a.order(Order::End { stack: "ONE".into() }).await;
    a.end().await;
    assert!(b.alive("SYSA", "ONE").await.0.ended);
    assert!(!b.alive("SYSA", "TWO").await.0.ended, "that stack goes on without its daemon");
}
