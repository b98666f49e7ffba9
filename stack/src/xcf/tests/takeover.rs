//! Owners, connections and what one `iked` has for another.

use super::*;

#[test]
fn connections_reach_the_owner_once_and_in_order_over_a_bad_link() {
    for seed in 0..10 {
        let mut c = Cluster::new(seed);
        c.run(BEAT * 2);
        c.bad_link();
        for n in 0..500u16 {
            c.open("T1", n, "D1");
            c.open("T2", 1000 + n, "D1");
            if n % 3 == 0 {
                c.end("T1", n, "D1");
            }
            c.run(Duration::from_millis(2));
        }
        c.run(Duration::from_secs(5));
        let want: BTreeMap<u16, IpAddr> = [("T1", 3), ("T2", 4)]
            .into_iter()
            .flat_map(|(t, host)| c.nodes[t].connections.iter().map(move |p| (*p, xcf(host))))
            .collect();
        assert_eq!(c.nodes["D1"].table, want, "seed {seed}");
    }
}

#[test]
fn t47_r8_a_takeover_turns_everybody_round_and_the_table_is_rebuilt() {
    for seed in 0..10 {
        let mut c = Cluster::new(seed);
        c.run(BEAT * 2);
        for n in 0..50 {
            c.open("T1", n, "D1");
            c.open("T2", 100 + n, "D1");
            c.node("D1").connections.insert(200 + n);
        }
        c.run(BEAT);
        c.bad_link();
        // Only D2's own `iked` knows yet: it is owner at epoch 2 now.
        c.node("D2").home =
            vec![Home { address: DVIPA, role: Role::Owner { distribution: vec![] }, epoch: 2 }];
        c.configure("D2");
        c.ask("D2", 2);
        c.run(Duration::from_secs(2));
        for name in ["D1", "T1", "T2"] {
            assert_eq!(c.nodes[name].owner_order(), Some((xcf(2), 2)), "{name}");
        }
        let heard = FromStack::OwnerHeard { dvipa: DVIPA, owner: "D2".into(), epoch: 2, ceiling: None };
        assert!(c.nodes["D1"].to_iked.contains(&heard));
        let want: BTreeMap<u16, IpAddr> = [("D1", 1), ("T1", 3), ("T2", 4)]
            .into_iter()
            .flat_map(|(t, host)| c.nodes[t].connections.iter().map(move |p| (*p, xcf(host))))
            .collect();
        assert_eq!(c.nodes["D2"].table, want, "seed {seed}");
        // The old owner's configuration comes late: it changes nothing, and nobody is told of the old epoch.
        c.configure("D1");
        c.configure("T1");
        c.run(BEAT * 5);
        assert_eq!(c.nodes["T1"].owner_order(), Some((xcf(2), 2)));
        assert_eq!(c.nodes["D1"].owner_order(), Some((xcf(2), 2)));
        // What a target still says to the old owner goes nowhere.
        let table = c.nodes["D1"].table.len();
        c.open("T1", 300, "D1");
        c.run(BEAT * 5);
        assert_eq!(c.nodes["D1"].table.len(), table);
    }
}

#[test]
fn t47_the_claim_of_an_old_owner_is_counted_and_ignored() {
    let mut c = Cluster::new(5);
    c.run(BEAT * 2);
    c.roles("D2", 2);
    for name in ["D2", "T1", "T2"] {
        c.configure(name);
    }
    // D1 heard nothing of it, and goes on to say that it is the owner.
    c.cut("D1", "D2", true);
    c.node("D1").group = Group::new(c.nodes["D1"].start + 1);
    c.node("D1").start += 1;
    c.node("D1").home = vec![Home { address: DVIPA, role: Role::Owner { distribution: vec![] }, epoch: 1 }];
    c.configure("D1");
    c.configure("T1");
    c.run(BEAT * 3);
    assert!(c.nodes["T1"].is_alive("D1"));
    assert!(c.nodes["T1"].refused("xcf_old_epoch") > 0);
    assert_ne!(c.nodes["T1"].owner_order(), Some((xcf(1), 1)));
    // Two owners of one epoch cannot be by the coupling facility; if it happens it is seen.
    c.cut("D1", "D2", false);
    c.node("D1").home[0].epoch = 2;
    c.configure("D1");
    c.run(BEAT * 3);
    assert!(c.nodes["T1"].refused("xcf_epoch_conflict") > 0);
    assert_ne!(c.nodes["T1"].owner_order(), Some((xcf(1), 2)));
}

#[test]
fn after_a_gap_the_owner_asks_again() {
    let mut c = Cluster::new(6);
    c.run(BEAT * 2);
    for n in 0..20 {
        c.open("T1", n, "D1");
    }
    c.run(BEAT);
    // Reports of the engine were lost: connections came and went of which nothing was said.
    c.node("T1").connections = (10..40).collect();
    let now = c.now;
    c.node("T1").group.handle_report(now, EngineReport::Lost);
    c.run(BEAT);
    let knows = |c: &Cluster, ports: std::ops::Range<u16>| {
        ports.into_iter().all(|p| c.nodes["D1"].table.get(&p) == Some(&xcf(3)))
    };
    assert!(knows(&c, 10..40));
    // The same with more messages than may wait.
    let asked = c.nodes["T1"].lists_asked();
    c.cut("T1", "D1", true);
    for n in 0..60_000u16 {
        c.open("T1", n, "D1");
        c.report("T1", ToGroup::Ended { to: xcf(1), key: flow(n).key });
    }
    c.run(BEAT);
    let resets = c.nodes["T1"].refused("xcf_stream_reset");
    for n in 0..60_000u16 {
        c.open("T1", n, "D1");
        c.report("T1", ToGroup::Ended { to: xcf(1), key: flow(n).key });
    }
    c.node("T1").connections = (60_000..60_100).collect();
    assert!(c.nodes["T1"].refused("xcf_stream_reset") > resets);
    c.cut("T1", "D1", false);
    c.run(Duration::from_secs(2));
    assert!(c.nodes["T1"].lists_asked() > asked);
    assert!(knows(&c, 60_000..60_100));
}

#[test]
fn what_iked_says_to_iked_arrives_whole() {
    let mut c = Cluster::new(9);
    c.run(BEAT * 2);
    c.bad_link();
    // While both live: three heartbeats in a row do not get lost.
    c.loss = 0.05;
    let large: Vec<u8> = (0..MAX_RELAY_BYTES).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    c.node("D1").group.relay("D2", b"first".to_vec());
    c.node("D1").group.relay("D2", large.clone());
    c.node("D1").group.relay("D2", b"last".to_vec());
    c.run(Duration::from_secs(30));
    let got: Vec<_> = c.nodes["D2"]
        .to_iked
        .iter()
        .filter_map(|m| match m {
            FromStack::Relayed { from, bytes } => Some((from.as_str(), bytes.clone())),
            _ => None,
        })
        .collect();
    assert!(got == [("D1", b"first".to_vec()), ("D1", large), ("D1", b"last".to_vec())]);
    for (to, bytes) in [("D2", vec![0; MAX_RELAY_BYTES + 1]), ("NOBODY", vec![1]), ("D1", vec![1])] {
        c.node("D1").group.relay(to, bytes);
        let said = c.node("D1").group.poll_event();
        assert!(matches!(said, Some(Event::ToIked(FromStack::Refused { .. }))), "{to}");
    }
}

#[test]
fn a_ceiling_is_heard_and_only_grows() {
    let mut c = Cluster::new(10);
    c.run(BEAT);
    c.node("D1").group.set_ceiling(DVIPA, 1, 5000);
    c.node("D1").group.set_ceiling(DVIPA, 2, 9000);
    c.run(BEAT * 2);
    c.node("D1").group.set_ceiling(DVIPA, 1, 100);
    c.run(BEAT * 2);
    let ceilings: Vec<_> = c.nodes["D2"]
        .to_iked
        .iter()
        .filter_map(|m| match m {
            FromStack::OwnerHeard { epoch: 1, ceiling, .. } => Some(*ceiling),
            _ => None,
        })
        .collect();
    assert_eq!(ceilings, [None, Some(5000)]);
}

#[test]
fn r10_a_restarted_owner_is_not_told_that_members_are_dead_which_it_has_not_heard_yet() {
    let mut c = Cluster::new(18);
    c.run(BEAT * 2);
    c.kill("D1");
    c.start("D1");
    c.configure_all();
    c.run(Duration::ZERO);
    let dead = |o: &EngineOrder| matches!(o, EngineOrder::Target(t) if t.xcf.is_some() && !t.alive);
    assert!(!c.nodes["D1"].orders.iter().any(dead));
    c.kill("T1");
    c.run(BEAT * 6);
    assert!(c.nodes["D2"].orders.iter().any(dead));
    c.node("D2").orders.clear();
    c.configure("D2");
    c.run(Duration::ZERO);
    assert!(c.nodes["D2"].orders.iter().any(dead), "said again after a configuration");
}

#[test]
fn a_short_silence_loses_nothing_and_a_long_one_only_what_waited() {
    let mut c = Cluster::new(19);
    c.run(BEAT * 2);
    let relayed =
        |c: &Cluster| c.nodes["D2"].to_iked.iter().filter(|m| matches!(m, FromStack::Relayed { .. })).count();
    c.cut("D1", "D2", true);
    c.node("D1").group.relay("D2", vec![1; 200_000]);
    c.run(BEAT * 10);
    assert!(!c.nodes["D1"].is_alive("D2"));
    c.cut("D1", "D2", false);
    c.run(Duration::from_secs(2));
    assert_eq!((relayed(&c), c.nodes["D1"].refused("xcf_stream_reset")), (1, 0));
    c.cut("D1", "D2", true);
    c.node("D1").group.relay("D2", vec![2; 200_000]);
    c.run(Duration::from_secs(10));
    c.node("D1").group.relay("D2", vec![3]);
    let said = c.node("D1").group.poll_event();
    assert!(matches!(said, Some(Event::ToIked(FromStack::Refused { .. }))), "{said:?}");
    c.cut("D1", "D2", false);
    c.run(Duration::from_secs(1));
    c.node("D1").group.relay("D2", vec![4]);
    c.run(Duration::from_secs(1));
    assert_eq!(relayed(&c), 2);
}
