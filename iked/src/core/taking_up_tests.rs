//! Many SAs of an owner that was lost go on: in turns, and nobody begins anew meanwhile.

use super::tests::*;
use super::*;
use crate::cf::record::{RecordId, Secret};
use crate::ike::command::ActivationMethod;
use crate::ike::event::{Event, Payload};
use crate::ike::rules::Settings;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

const PEERS: [&str; 5] =
    ["198.51.100.101", "198.51.100.102", "198.51.100.103", "198.51.100.104", "198.51.100.105"];

/// Keys of an IKE tunnel with each of [`PEERS`], as an owner before stored them.
fn left_by_another(now: Now) -> BTreeMap<RecordId, Secret> {
    let engine = |seed, settings, policy: Fixed| {
        let mut engine = Engine::new(settings, StdRng::seed_from_u64(seed), now.instant);
        engine.set_rules(now.instant, policy.rules(now.unix));
        engine
    };
    let continued = Settings { continued: BTreeMap::from([(ip(VIP), 1)]), ..Settings::default() };
    let mut owner = engine(90, continued, OF_MANY);
    let mut keys = BTreeMap::new();
    for (seed, local) in (91..).zip(PEERS) {
        let policy = Fixed { local, ..OF_PEER };
        let mut peer = engine(seed, Settings::default(), policy);
        let begin = Command::Initiate(Box::new(policy.initiate(ActivationMethod::Command, None)));
        peer.handle_command(now.instant, begin);
        let mut moved = true;
        while std::mem::take(&mut moved) {
            while peer.poll_event().is_some() {}
            while let Some(event) = owner.poll_event() {
                if let Event::Changed { id, ticket } = event {
                    let snapshot = owner.export(id, now.unix).unwrap();
                    keys.insert(
                        RecordId([u8::try_from(id.0).unwrap(); 16]),
                        Secret::new(snapshot.encode().to_vec()),
                    );
                    owner.handle_command(now.instant, Command::Stored(ticket));
                }
            }
            for (from, to) in [(0, 1), (1, 0)] {
                let ends = [&mut peer, &mut owner];
                while let Some(t) = ends[from].poll_transmit() {
                    moved = true;
                    if let Payload::Message(m) = t.payload {
                        ends[to].handle_datagram(now.instant, t.remote, t.local, &m);
                    }
                }
            }
        }
    }
    assert_eq!(keys.len(), PEERS.len());
    keys
}

/// OWN is lost, and SPARE has begun to take up what it left.
async fn begun() -> Lab {
    let mut lab = Lab::continuing_with(Source { many: true, ..Source::default() }).await;
    // The first owner waits for what targets report.
    lab.pass(Duration::from_secs(5)).await;
    lab.keys = left_by_another(lab.now);
    lab.core.on_link(lab.now, OWN, LinkEvent::Down { reason: "killed".into(), ended: true });
    lab.stacks[OWN] = FakeStack::default();
    while lab.stacks[SPARE].sas.is_empty() {
        assert!(lab.step().await, "nothing is taken up");
    }
    assert!(lab.stacks[SPARE].sas.len() < PEERS.len(), "not all at once");
    lab
}

/// Where in what SPARE heard the last SA is that went on.
fn last_that_went_on(lab: &Lab) -> usize {
    let goes_on = |m: &ToStack| matches!(m, ToStack::InstallSa(pair) if pair.continued.is_some());
    let heard = &lab.stacks[SPARE].heard;
    assert_eq!(heard.iter().filter(|m| goes_on(m)).count(), PEERS.len());
    heard.iter().rposition(goes_on).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_first_peers_are_spoken_to_while_the_last_tunnels_are_to_come() {
    let mut lab = begun().await;
    let spoken_at = |lab: &Lab| lab.stacks[SPARE].heard.iter().position(|m| matches!(m, ToStack::Ike(_)));
    while spoken_at(&lab).is_none() {
        lab.core.on_deadline(lab.now);
        assert!(lab.step().await, "nothing is said");
    }
    assert!(lab.core.taking_up.is_on(ip(VIP)));
    lab.settle().await;
    assert_eq!(lab.stacks[SPARE].sas.len(), PEERS.len());
    assert!(spoken_at(&lab).unwrap() < last_that_went_on(&lab), "rekeys begin with the first");
    assert!(!lab.core.taking_up.is_on(ip(VIP)));
}

/// Whoever is spoken to at PEER is spoken to when all tunnels are there.
async fn waits(lab: &mut Lab) {
    assert_eq!(lab.core.identities_elsewhere(OWN, ip(SECOND)), None, "some are to come");
    lab.settle().await;
    let to_peer = |m: &ToStack| matches!(m, ToStack::Ike(d) if d.remote.ip() == ip(PEER));
    let spoken = lab.stacks[SPARE].heard.iter().position(to_peer).unwrap();
    assert!(spoken > last_that_went_on(lab), "after the last");
    assert_eq!(lab.stacks[SPARE].sas.len(), PEERS.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_begins_anew_waits_until_all_tunnels_are_there() {
    let mut lab = begun().await;
    lab.core.stacks[OTHER].engine.handle_command(lab.now.instant, anew());
    lab.core.drain(lab.now, OTHER);
    waits(&mut lab).await;
}

#[tokio::test(start_paused = true)]
async fn a_packet_that_wants_an_sa_waits_until_all_tunnels_are_there() {
    let mut lab = begun().await;
    lab.core.on_link(lab.now, SPARE, acquire(1, "all"));
    waits(&mut lab).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_gives_up_meanwhile_stops() {
    let mut lab = begun().await;
    let at = lab.now;
    lab.core.forget(at, SPARE, ip(VIP));
    lab.settle().await;
    assert!(lab.stacks[SPARE].sas.is_empty(), "{:?}", lab.stacks[SPARE].sas.keys());
    assert!(!lab.core.taking_up.is_on(ip(VIP)));
}
