use super::*;

const SYN: Signs = Signs { tcp: true, syn: true, ack: false, fin: false, rst: false };
const SYN_ACK: Signs = Signs { ack: true, ..SYN };
const ACK: Signs = Signs { tcp: true, ack: true, syn: false, fin: false, rst: false };
const FIN: Signs = Signs { fin: true, ..ACK };
const RST: Signs = Signs { rst: true, ..ACK };

#[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
fn start() -> Instant {
    Instant::now()
}

fn key(n: u32) -> ConnectionKey {
    ConnectionKey {
        protocol: 6,
        local: IpAddr::from([192, 0, 2, 80]),
        local_port: 443,
        remote: IpAddr::V4((0x0a00_0000 + n).into()),
        remote_port: 40000,
    }
}

fn target() -> Place {
    Place::At(IpAddr::from([10, 99, 0, 2]))
}

fn open(t: &mut Connections, now: Instant, n: u32) -> ConnectionId {
    let id = t.insert(now, key(n), target(), true, 1).unwrap();
    t.seen(now, id, Way::In, SYN);
    id
}

fn establish(t: &mut Connections, now: Instant, n: u32) -> ConnectionId {
    let id = open(t, now, n);
    t.seen(now, id, Way::Out, SYN_ACK);
    t.seen(now, id, Way::In, ACK);
    assert_eq!(t.get(id).state(), State::Established);
    id
}

#[test]
fn t44_a_syn_flood_pushes_out_only_itself() {
    let now = start();
    let mut t = Connections::new(1, 1000);
    for n in 0..500 {
        establish(&mut t, now, n);
    }
    for n in 1000..101_000 {
        open(&mut t, now, n);
    }
    assert!(t.len() <= 1000);
    for n in 0..500 {
        let id = t.find(&key(n)).expect("established flows stay");
        assert_eq!(t.get(id).place, target());
    }
    assert_eq!(t.tally(1).active, t.len() as u64);
    assert_eq!(t.tally(1).total, 100_500);
}

#[test]
fn t44_a_full_table_refuses_and_keeps_what_it_has() {
    let now = start();
    let mut t = Connections::new(1, 8);
    for n in 0..8 {
        establish(&mut t, now, n);
    }
    assert_eq!(t.insert(now, key(99), target(), true, 1).unwrap_err(), TableFull);
    let closing = t.find(&key(3)).unwrap();
    t.seen(now, closing, Way::In, RST);
    t.insert(now, key(99), target(), true, 1).unwrap();
    assert!(t.find(&key(3)).is_none(), "what has ended makes room");
}

#[test]
fn flows_age_by_state_without_a_scan() {
    let start = start();
    let mut t = Connections::new(1, 100);
    open(&mut t, start, 1);
    let kept = establish(&mut t, start, 2);
    let closing = establish(&mut t, start, 3);
    t.seen(start, closing, Way::In, FIN);
    assert_eq!(t.get(closing).state(), State::Established, "half closed is still open");
    assert_eq!(t.tally(1).active, 3);
    t.seen(start, closing, Way::Out, FIN);
    assert_eq!(t.tally(1).active, 2, "what is kept for late packets is no load");
    assert_eq!(t.next_expiry(), Some(start + LIFE[0]));
    let later = start + Duration::from_secs(61);
    t.expire(later);
    assert_eq!(t.len(), 1);
    t.seen(later, kept, Way::In, ACK);
    assert_eq!(t.next_expiry(), Some(later + LIFE[1]));
    t.expire(later + LIFE[1]);
    assert!(t.is_empty());
    assert_eq!(t.next_expiry(), None);
    assert_eq!(t.tally(1), Tally { active: 0, total: 3 });
}

#[test]
fn lists_stay_whole_under_random_use() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    let ops = proptest::collection::vec((0u32..40, 0u8..8, 0u64..40), 1..400);
    TestRunner::new(Config::with_cases(200))
        .run(&ops, |ops| {
            let mut now = start();
            let mut t = Connections::new(7, 24);
            for (n, op, secs) in ops {
                now += Duration::from_secs(secs);
                let id = t.find(&key(n));
                match (op, id) {
                    (0..=2, None) => drop(t.insert(now, key(n), target(), n % 2 == 0, n % 3)),
                    (0, Some(id)) => t.remove(id),
                    (1, Some(id)) => {
                        t.seen(now, id, Way::Out, SYN_ACK);
                    }
                    (2 | 3, Some(id)) => {
                        t.seen(now, id, Way::In, ACK);
                    }
                    (4, Some(id)) => {
                        t.seen(now, id, Way::In, FIN);
                    }
                    (5, Some(id)) => {
                        t.seen(now, id, Way::Out, FIN);
                    }
                    (6, Some(id)) => {
                        t.seen(now, id, Way::In, RST);
                    }
                    (7, Some(id)) => t.set_slot(id, (n + 1) % 3),
                    _ => t.expire(now),
                }
                prop_assert!(t.len() <= 24);
                prop_assert_eq!(t.index.len(), t.len());
                for (s, list) in t.lists.iter().enumerate() {
                    let (mut at, mut count, mut before) = (list.head, 0, NIL);
                    while at != NIL {
                        let e = &t.entries[at as usize];
                        prop_assert_eq!(e.state as usize, s);
                        prop_assert_eq!(e.previous, before);
                        prop_assert_eq!(t.find(&e.key), Some(ConnectionId(at)));
                        (before, at, count) = (at, e.next, count + 1);
                    }
                    prop_assert_eq!(list.tail, before);
                    prop_assert_eq!(count, list.len);
                }
                let active: u64 = (1..3).map(|s| t.tally(s).active).sum();
                prop_assert_eq!(
                    active,
                    t.iter().filter(|e| e.slot != 0 && e.state != State::Closing).count() as u64
                );
            }
            Ok(())
        })
        .unwrap();
}
