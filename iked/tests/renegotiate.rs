//! After a takeover all peers are negotiated with again: in order, a few at a time, one IKE SA for each; those that do not
//! answer hold nobody up, and each item comes to one end (threats T51).

mod star;

use iked::ike::command::{Command, Initiate, Renegotiate, Restore, Succession};
use iked::ike::event::{Event, Outcome};
use iked::ike::rules::{Authentication, Settings};
use iked::ike::sim::{ADDRESS_A, rules};
use iked::ike::types::{AddressRange, Identity, IdentityPattern, Secret};
use star::{LATENCY, NAT, Star, address, hub_rules, initiate};
use std::collections::BTreeMap;
use std::time::Duration;

fn items(peers: usize, children: u16) -> Vec<Renegotiate> {
    let mut items = Vec::new();
    // As records come: the children of a peer are not together.
    for child in 0..children {
        for peer in 0..peers {
            let item = items.len() as u64;
            items.push(Renegotiate { item, initiate: initiate(peer, child) });
        }
    }
    items
}

fn outcomes(star: &Star) -> BTreeMap<u64, Vec<&Outcome>> {
    let mut out: BTreeMap<u64, Vec<&Outcome>> = BTreeMap::new();
    for (_, event) in &star.events {
        if let Event::Renegotiated { item, outcome } = event {
            out.entry(*item).or_default().push(outcome);
        }
    }
    out
}

fn made(star: &Star) -> usize {
    outcomes(star).values().filter(|of_item| matches!(of_item[..], [Outcome::Made(_)])).count()
}

#[test]
fn t51_peers_that_do_not_answer_hold_nobody_up() {
    const PEERS: usize = 300;
    let settings = Settings { renegotiate_at_once: 16, ..Settings::default() };
    let mut star = Star::new(PEERS, 2, &settings);
    // The first ones, more than there are places, and others between.
    star.silent.extend((0..40).chain((40..PEERS).step_by(10)));
    let silent = star.silent.len();
    star.command(Command::Renegotiate(items(PEERS, 2)));
    let living = 2 * (PEERS - silent);
    // A place is lost for a second at most: 66 silent peers, 16 places.
    let took = star.run_until(Duration::from_secs(60), |star| made(star) == living);
    assert_eq!(made(&star), living);
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(star.reached.is_sorted(), "in the order asked for");
    let ups = star.events.iter().filter(|(_, event)| matches!(event, Event::IkeUp(_))).count();
    assert_eq!(ups, PEERS - silent, "one IKE SA for each peer");
    assert_eq!(star.hub.ike_tunnels().len(), PEERS, "and one try for each of the others");
    // Those that never answer are given up, each once.
    star.run_until(Duration::from_secs(1200), |_| false);
    let outcomes = outcomes(&star);
    assert_eq!(outcomes.len(), 2 * PEERS);
    assert!(outcomes.values().all(|of_item| of_item.len() == 1));
    let given_up = outcomes.values().filter(|of_item| matches!(of_item[..], [Outcome::GivenUp(_)])).count();
    assert_eq!(given_up, 2 * silent);
    let others = star.hub.ike_tunnels().len();
    assert_eq!(others, PEERS - silent, "nothing is left of them");
}

#[test]
fn a_peer_that_comes_back_is_made_within_the_retry_period() {
    let mut star = Star::new(4, 1, &Settings { retransmit_tries: 2, ..Settings::default() });
    star.silent.insert(2);
    star.command(Command::Renegotiate(items(4, 1)));
    star.run_until(Duration::from_secs(100), |_| false);
    assert_eq!(made(&star), 3);
    star.silent.clear();
    star.run_until(Duration::from_secs(60), |star| made(star) == 4);
    assert_eq!(made(&star), 4);
}

#[test]
fn what_is_refused_is_said_at_once_with_its_reason() {
    let mut star = Star::new(3, 2, &Settings::default());
    let now = star.now;
    let mut other_secret = rules(address(1), ADDRESS_A);
    other_secret.exchange[0].authentication = Authentication::SharedKey(Secret(b"another secret".to_vec()));
    star.peers[1].set_rules(now, other_secret);
    let mut no_child = rules(address(2), ADDRESS_A);
    no_child.child.clear();
    star.peers[2].set_rules(now, no_child);
    let mut all = items(3, 2);
    all.push(Renegotiate { item: 99, initiate: Initiate { rule: "nothing".into(), ..initiate(0, 0) } });
    star.command(Command::Renegotiate(all));
    star.run_until(Duration::from_secs(10), |star| outcomes(star).len() == 7);
    let outcomes = outcomes(&star);
    let failed = |item: u64, what: &str| {
        let [Outcome::Failed(reason)] = outcomes[&item][..] else { panic!("{:?}", outcomes[&item]) };
        assert!(reason.contains(what), "{reason}");
    };
    assert_eq!(made(&star), 2);
    for item in [1, 4] {
        failed(item, "AUTHENTICATION_FAILED");
    }
    for item in [2, 5] {
        failed(item, "TS_UNACCEPTABLE");
    }
    failed(99, "no rule nothing");
}

#[test]
fn what_the_peer_has_made_meanwhile_counts() {
    let mut star = Star::new(1, 1, &Settings::default());
    let wish = Renegotiate { item: 7, initiate: initiate(0, 0) };
    star.command(Command::Renegotiate(vec![wish.clone()]));
    star.run_until(Duration::from_secs(5), |star| made(star) == 1);
    let inits = star.inits;
    star.events.clear();
    star.command(Command::Renegotiate(vec![wish]));
    assert_eq!((made(&star), star.inits), (1, inits));
}

/// What the NAT still remembers is used; a port that it has forgotten is tried once, and the peer has to begin.
#[test]
fn r16_peers_behind_one_nat_are_reached_by_their_ports() {
    let mut star = Star::new(3, 1, &Settings::default());
    star.translated.extend([(0, 40_000), (1, 40_001)]);
    let mut rules = hub_rules(3, 1);
    for rule in &mut rules.exchange {
        rule.remote_location = vec![AddressRange::single(NAT)];
    }
    star.hub.set_rules(star.now, rules);
    let behind = |peer: usize, port| Initiate {
        remote_endpoint: NAT,
        remote_id: Some(Identity::Address(address(peer))),
        nat_port: Some(port),
        ..initiate(peer, 0)
    };
    let ports = [40_000, 40_001, 40_002].into_iter().enumerate();
    let items = ports.map(|(peer, port)| Renegotiate { item: peer as u64, initiate: behind(peer, port) });
    star.command(Command::Renegotiate(items.collect()));
    star.run_until(Duration::from_secs(5), |star| made(star) == 2);
    let mut found: Vec<_> =
        star.hub.ike_tunnels().into_iter().filter_map(|v| Some((v.remote.port(), v.remote_id?))).collect();
    found.sort_by_key(|(port, _)| *port);
    let own = |port, peer| (port, Identity::Address(address(peer)));
    assert_eq!(found, [own(40_000, 0), own(40_001, 1)]);
    assert_eq!(star.inits, 3, "the first message went to the translated port, and another has no cause");
    star.run_until(Duration::from_secs(600), |star| outcomes(star).len() == 3);
    assert!(matches!(outcomes(&star)[&2][..], [Outcome::GivenUp(_)]));
    let tries = star.inits;
    star.run_until(Duration::from_secs(600), |_| false);
    assert_eq!(star.inits, tries, "given up");
}

/// One KeyExchangeRule for many: whom it was with before the takeover is known, and a peer that is told INITIAL_CONTACT does not
/// send on what is gone.
#[test]
fn peers_of_one_rule_are_each_told_that_their_old_sas_are_gone() {
    const PEERS: usize = 10;
    let for_all = |peers: usize| {
        let mut rules = hub_rules(peers, 1);
        rules.exchange.truncate(1);
        let all = AddressRange { low: address(0), high: address(peers - 1) };
        rules.exchange[0].remote_id = IdentityPattern::Addresses(all);
        rules.exchange[0].remote_location = vec![all];
        rules
    };
    // One after the other, so that each finds others of its rule.
    let settings = Settings { renegotiate_at_once: 1, ..Settings::default() };
    let known = |peer: usize| Initiate {
        remote_id: Some(Identity::Address(address(peer))),
        initial_contact: true,
        ..initiate(peer, 0)
    };
    let items = |_| (0..PEERS).map(|peer| Renegotiate { item: peer as u64, initiate: known(peer) }).collect();
    let mut star = Star::new(PEERS, 1, &settings);
    for owner in 0..2 {
        star.replace_hub(7 + owner, &settings, for_all(PEERS));
        star.events.clear();
        star.command(Command::Renegotiate(items(owner)));
        star.run_until(Duration::from_secs(5), |star| made(star) == PEERS);
        assert_eq!(made(&star), PEERS);
        star.run_until(LATENCY * 4, |_| false);
        let of_peers = star.peers.iter().map(|peer| peer.ike_tunnels().len());
        assert_eq!(of_peers.collect::<Vec<_>>(), [1; PEERS], "owner {owner}");
        // Older than what an INITIAL_CONTACT may have crossed on the way.
        star.run_until(Duration::from_secs(31), |_| false);
    }
}

/// A thousand peers: how long the wire takes, and what it costs (printed with `--nocapture`).
#[test]
fn a_thousand_peers_in_one_engine() {
    const PEERS: usize = 1000;
    let continued =
        |epoch| Settings { continued: BTreeMap::from([(ADDRESS_A, epoch)]), ..Settings::default() };
    let mut star = Star::new(PEERS, 1, &continued(1));
    let clock = cpu();
    star.command(Command::Renegotiate(items(PEERS, 1)));
    let took = star.run_until(Duration::from_secs(60), |star| made(star) == PEERS);
    assert_eq!(made(&star), PEERS);
    println!(
        "{PEERS} peers renegotiated in {took:?} of the network's time, {:?} of both ends' work",
        clock()
    );
    // Two round trips for each, 64 at a time.
    assert!(took < LATENCY * 4 * 17, "{took:?}");

    let stored = std::mem::take(&mut star.stored);
    assert_eq!(stored.len(), PEERS);
    let octets: usize = stored.values().map(|snapshot| snapshot.encode().len()).sum();
    star.replace_hub(7, &continued(2), hub_rules(PEERS, 1));
    star.events.clear();
    let clock = cpu();
    for snapshot in stored.into_values() {
        let succession = Succession::Failed { next_sequence: 1 << 32 };
        star.command(Command::Restore(Box::new(Restore { snapshot, unix: 0, succession })));
    }
    println!("{PEERS} tunnels taken up, outbound open, in {:?}; {octets} octets", clock());
    let fresh = |star: &Star| {
        let rekeyed = |event: &Event| matches!(event, Event::InstallChild(one) if one.continued.is_none());
        star.events.iter().filter(|(_, event)| rekeyed(event)).count()
    };
    assert_eq!(fresh(&star), 0);
    let clock = cpu();
    let took = star.run_until(Duration::from_secs(10), |star| fresh(star) == PEERS);
    println!("all rekeyed after {took:?} of the network's time, {:?} of both ends' work", clock());
    assert_eq!(took, LATENCY * 2, "one round trip");
}

/// Work done since.
fn cpu() -> impl Fn() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "it is measured, and nothing depends on it")]
    let now = std::time::Instant::now;
    let start = now();
    move || now() - start
}
