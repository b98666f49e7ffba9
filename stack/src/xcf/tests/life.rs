//! Who is heard, when, and what is known of him.

use super::*;

#[test]
fn everybody_hears_everybody_within_a_heartbeat() {
    let mut c = Cluster::new(1);
    c.run(BEAT);
    for (name, node) in &c.nodes {
        for (other, _) in NAMES.iter().filter(|(n, _)| n != name) {
            assert!(node.is_alive(other), "{name} hears {other}");
            let targets = node.orders.iter().rev();
            let state = targets.filter_map(|o| match o {
                EngineOrder::Target(t) if t.name == *other => Some(t),
                _ => None,
            });
            assert!(state.take(1).all(|t| t.alive && t.candidate));
        }
    }
}

#[test]
fn a_killed_stack_is_silent_after_the_configured_time_and_heard_again_with_its_new_start() {
    let mut c = Cluster::new(2);
    c.run(BEAT * 10);
    c.kill("T1");
    c.run(BEAT * (MISSED - 1));
    assert!(c.nodes["D1"].is_alive("T1"));
    c.run(BEAT * 2);
    assert!(!c.nodes["D1"].is_alive("T1"));
    c.start("T1");
    c.configure("T1");
    c.run(BEAT * 5);
    assert!(!c.nodes["D1"].is_alive("T1"), "a start that nobody vouches for");
    assert!(c.nodes["D1"].refused("xcf_unknown_start") > 0);
    c.configure_all();
    c.run(BEAT);
    let heard = c.nodes["D1"].heard("T1").unwrap();
    assert_eq!((heard.alive, heard.start), (true, 11_003));
    assert!(c.nodes["T1"].is_alive("D1"));
}

#[test]
fn an_orderly_end_is_known_at_once() {
    let mut c = Cluster::new(3);
    c.run(BEAT);
    c.node("T1").group.leave();
    c.run(Duration::from_millis(1));
    c.kill("T1");
    assert!(c.nodes["D1"].heard("T1").is_some_and(|h| !h.alive));
}

#[test]
fn ports_and_capacity_reach_everybody() {
    let mut c = Cluster::new(4);
    c.bad_link();
    c.run(BEAT * 3);
    let port = ReadyPort { dvipa: DVIPA, protocol: 6, port: 443, count: 2 };
    let now = c.now;
    c.node("T1").group.set_ready(now, vec![port], 40);
    c.run(BEAT * 10);
    let heard = c.nodes["D1"].heard("T1").unwrap();
    assert_eq!((heard.ready.as_slice(), heard.capacity), (&[port][..], 40));
    let now = c.now;
    c.node("T1").group.set_ready(now, vec![], 40);
    c.run(BEAT * 10);
    assert_eq!(c.nodes["D2"].heard("T1").unwrap().ready, []);
}

#[test]
fn r20_a_cut_link_makes_both_silent_and_what_was_missed_is_caught_up() {
    let mut c = Cluster::new(7);
    c.run(BEAT * 2);
    c.cut("T1", "D1", true);
    c.run(BEAT * 5);
    assert!(!c.nodes["D1"].is_alive("T1") && !c.nodes["T1"].is_alive("D1"));
    assert!(c.nodes["T2"].is_alive("T1"), "others hear it");
    for n in 0..30 {
        c.open("T1", n, "D1");
    }
    c.cut("T1", "D1", false);
    c.run(BEAT * 3);
    assert!(c.nodes["D1"].is_alive("T1") && c.nodes["T1"].is_alive("D1"));
    assert_eq!(c.nodes["D1"].table.len(), 30);
}

#[test]
fn t45_a_flapping_member_is_heard_but_no_candidate() {
    let mut c = Cluster::new(8);
    c.run(BEAT * 2);
    for _ in 0..5 {
        c.cut("T1", "D1", true);
        c.run(BEAT * 5);
        c.cut("T1", "D1", false);
        c.run(BEAT * 5);
    }
    let state = |c: &Cluster| {
        let last = c.nodes["D1"].orders.iter().rev().find_map(|o| match o {
            EngineOrder::Target(t) if t.name == "T1" => Some((t.alive, t.candidate)),
            _ => None,
        });
        last.unwrap()
    };
    assert_eq!(state(&c), (true, false));
    c.run(Duration::from_secs(30));
    assert_eq!(state(&c), (true, true));
}

#[test]
fn more_dvipas_than_a_heartbeat_holds_are_all_heard() {
    let mut c = Cluster::new(11);
    let dvipas: Vec<IpAddr> = (0..100).map(|n| IpAddr::from([198, 51, 100, n])).collect();
    c.node("D1").home = dvipas
        .iter()
        .map(|a| Home { address: *a, role: Role::Owner { distribution: vec![] }, epoch: 3 })
        .collect();
    c.configure("D1");
    c.run(BEAT * 5);
    let heard: BTreeSet<IpAddr> = c.nodes["T1"]
        .to_iked
        .iter()
        .filter_map(|m| match m {
            FromStack::OwnerHeard { dvipa, epoch: 3, .. } => Some(*dvipa),
            _ => None,
        })
        .collect();
    assert_eq!(heard, dvipas.into_iter().collect());
}

#[test]
fn a_new_iked_hears_all_that_is_known() {
    let mut c = Cluster::new(12);
    c.run(BEAT * 2);
    c.node("T1").to_iked.clear();
    c.node("T1").group.greet();
    c.run(Duration::ZERO);
    for other in ["D1", "D2", "T2"] {
        assert!(c.nodes["T1"].is_alive(other));
    }
    let owner = FromStack::OwnerHeard { dvipa: DVIPA, owner: "D1".into(), epoch: 1, ceiling: None };
    assert!(c.nodes["T1"].to_iked.contains(&owner));
}

#[test]
fn without_a_link_nothing_is_said_and_nothing_heard() {
    let mut c = Cluster::new(15);
    c.run(BEAT);
    let mut config = c.config("T1");
    config.sysplex = None;
    let now = c.now;
    c.node("T1").group.configure(now, &config);
    c.run(BEAT * 5);
    assert_eq!(c.nodes["T1"].group.poll_timeout(), None);
    assert!(!c.nodes["T1"].is_alive("D1") && !c.nodes["D1"].is_alive("T1"));
    config.sysplex = Some(SysplexLink { key: KeyBytes(vec![1; 31]), ..c.config("T1").sysplex.unwrap() });
    c.node("T1").group.configure(now, &config);
    let said = c.node("T1").group.poll_event();
    assert!(matches!(said, Some(Event::ToIked(FromStack::Log { warning: true, .. }))), "{said:?}");
    c.configure("T1");
    c.run(BEAT * 2);
    assert!(c.nodes["T1"].is_alive("D1") && c.nodes["D1"].is_alive("T1"));
}

/// The steps of docs/coupling-facility.md, one stack after the other: nobody is silent for anybody, and nothing that is said
/// meanwhile is lost, a takeover neither.
#[test]
fn while_the_sysplex_key_is_changed_everybody_hears_everybody() {
    const STEPS: [(u8, &[u8]); 4] = [(9, &[]), (9, &[8]), (8, &[9]), (8, &[])];
    let mut c = Cluster::new(17);
    c.run(BEAT * 2);
    let mut port = 0;
    let mut owner = "D1";
    for (step, (own, others)) in STEPS.into_iter().enumerate() {
        for (turn, (name, _)) in NAMES.into_iter().enumerate() {
            let mut config = c.config(name);
            let link = config.sysplex.as_mut().unwrap();
            link.key = KeyBytes(vec![own; 32]);
            link.other_keys = others.iter().map(|k| KeyBytes(vec![*k; 32])).collect();
            let now = c.now;
            c.node(name).group.configure(now, &config);
            port += 1;
            c.open("T1", port, owner);
            c.run(BEAT * (MISSED + 2));
            if (step, turn) == (2, 1) {
                // Half of them seal with the new key; D2 takes over.
                owner = "D2";
                let epoch = 2;
                c.roles(owner, epoch);
                for (name, _) in NAMES {
                    let (before, mut config) =
                        (if ["D1", "D2"].contains(&name) { (8, 9) } else { (9, 8) }, c.config(name));
                    let link = config.sysplex.as_mut().unwrap();
                    (link.key, link.other_keys) =
                        (KeyBytes(vec![before.0; 32]), vec![KeyBytes(vec![before.1; 32])]);
                    let now = c.now;
                    c.node(name).group.configure(now, &config);
                }
                c.ask(owner, epoch);
                c.run(BEAT);
            }
        }
    }
    assert_eq!(c.nodes["D2"].table.keys().copied().collect::<Vec<_>>(), (1..=port).collect::<Vec<_>>());
    for (name, node) in &c.nodes {
        for (other, _) in NAMES.iter().filter(|(n, _)| n != name) {
            let silent = node
                .to_iked
                .iter()
                .any(|m| matches!(m, FromStack::Heard(h) if h.member == *other && !h.alive));
            assert!(!silent && node.is_alive(other), "{name} has always heard {other}");
        }
        assert_eq!(node.refused("xcf_bad_seal"), 0, "{name}");
    }
}

#[test]
fn what_is_sent_stops_when_all_is_said() {
    let mut c = Cluster::new(16);
    c.run(BEAT * 5);
    let sent = c.tape.len();
    c.run(BEAT * 100);
    // Twelve pairs, one heartbeat each.
    let rate = (c.tape.len() - sent) / 100;
    assert!((12..=13).contains(&rate), "{rate} datagrams per heartbeat");
    assert!(c.begin < c.now);
}
