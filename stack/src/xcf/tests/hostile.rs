//! Datagrams that nobody should have sent.

use super::*;

#[test]
fn t45_nothing_that_was_recorded_works_again_anywhere() {
    let mut c = Cluster::new(13);
    c.run(BEAT * 5);
    let tape = std::mem::take(&mut c.tape);
    let settled = |c: &Cluster| c.nodes.values().map(|n| n.orders.len()).collect::<Vec<_>>();
    let before = settled(&c);
    for (from, _, bytes) in &tape {
        for (name, _) in NAMES {
            c.inject(name, *from, bytes);
        }
        c.inject("T1", xcf(99), bytes);
    }
    c.run(Duration::ZERO);
    assert_eq!(settled(&c), before);
    let t1 = &c.nodes["T1"];
    assert!(
        t1.refused("xcf_replay") > 0 && t1.refused("xcf_bad_seal") > 0 && t1.refused("xcf_not_member") > 0
    );
    // A stack that has just started believes nothing that was said before.
    for (name, _) in NAMES {
        c.kill(name);
    }
    c.start("T1");
    c.configure("T1");
    for (from, _, bytes) in &tape {
        c.inject("T1", *from, bytes);
    }
    c.run(BEAT);
    assert!(!c.nodes["T1"].is_alive("D1"), "a dead member stays dead");
}

#[test]
fn versions_strangers_and_other_keys_are_counted_by_name() {
    let mut c = Cluster::new(14);
    c.run(BEAT);
    let (own, sender) = (Name::new("T1").unwrap(), Name::new("D1").unwrap());
    let content = Content {
        to_start: Some(c.nodes["T1"].start),
        acknowledgement: None,
        body: Body::Heartbeat(Heartbeat {
            leaving: false,
            capacity: 1,
            owned: vec![Owned { dvipa: DVIPA, epoch: 99, ceiling: None }],
        }),
    };
    let seal = |key: u8, sender: Name, start: u64| {
        let key = LinkKey::new(&KeyBytes(vec![key; 32])).unwrap().of(sender, start);
        let mut out = Vec::new();
        let envelope = Envelope { start, counter: 1 << 40, sender };
        key.seal(&envelope, own, |o| content.write(o), &mut out);
        out
    };
    let mut version = seal(9, sender, 1001);
    version[2] = 2;
    let cases = [
        ("xcf_wrong_version", version, xcf(1)),
        ("xcf_bad_seal", seal(8, sender, 1001), xcf(1)),
        ("xcf_unknown_start", seal(9, sender, 7), xcf(1)),
        ("xcf_not_member", seal(9, Name::new("EVIL").unwrap(), 7), xcf(1)),
        ("xcf_not_member", seal(9, sender, 1001), xcf(2)),
        ("xcf_not_member", seal(9, own, 1003), xcf(3)),
        ("xcf_malformed", b"hello".to_vec(), xcf(1)),
    ];
    for (name, bytes, from) in cases {
        let before = c.nodes["T1"].refused(name);
        c.inject("T1", from, &bytes);
        assert_eq!(c.nodes["T1"].refused(name), before + 1, "{name}");
    }
    c.run(Duration::ZERO);
    assert_eq!(c.nodes["T1"].owner_order(), None);
    c.inject("T1", xcf(1), &seal(9, sender, 1001));
    c.run(Duration::ZERO);
    assert_eq!(c.nodes["T1"].owner_order(), Some((xcf(1), 99)), "the right one counts");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn t45_bytes_of_a_member_gone_mad_do_no_harm(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..40),
        seed in any::<u64>(),
    ) {
        let mut c = Cluster::new(seed);
        c.run(BEAT * 2);
        let sender = Name::new("T2").unwrap();
        let key = LinkKey::new(&KeyBytes(vec![9; 32])).unwrap().of(sender, 1004);
        for (n, body) in bodies.iter().enumerate() {
            let counter = (1 << 40) + n as u64;
            let mut out = Vec::new();
            let write = |o: &mut Vec<u8>| {
                // Every second one is for this start, so that its content counts.
                if n % 2 == 0 {
                    o.extend_from_slice(&1001u64.to_be_bytes());
                }
                o.extend_from_slice(body);
            };
            key.seal(&Envelope { start: 1004, counter, sender }, Name::new("D1").unwrap(), write, &mut out);
            c.inject("D1", xcf(4), &out);
            c.run(Duration::from_millis(10));
        }
        c.run(BEAT * 3);
        prop_assert!(c.nodes["D1"].is_alive("T1"));
    }
}
