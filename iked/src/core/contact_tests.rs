//! Peers at a new owner: in which order they are begun with, and what becomes of the SAs of one that has lost its own and says
//! so (INITIAL_CONTACT, RFC 7296 section 2.4).

use super::recency::{GRAIN, REWRITE};
use super::tests::*;
use super::*;
use crate::cf::RecordKey;
use crate::cf::fence::{Contents, Record};
use crate::cf::record::{Phase1, Phase2, RecordId};
use crate::ike::types::{Identity, TrafficSelector};
use crate::request::ControlStatus;
use crate::stack_link::LinkEvent;
use crate::takeover::Progress;
use std::net::SocketAddr;

/// The peer loses everything, without a word.
async fn peer_forgets(lab: &mut Lab) {
    let now = lab.now;
    for id in lab.core.stacks[OTHER].engine.tunnels_of(ip(PEER)) {
        lab.core.stacks[OTHER].engine.handle_command(now.instant, Command::Forget(id));
    }
    lab.core.drain(now, OTHER);
    lab.settle().await;
    assert!(lab.stacks[OTHER].sas.is_empty());
}

async fn peer_begins(lab: &mut Lab) {
    let now = lab.now;
    lab.core.stacks[OTHER].engine.handle_command(now.instant, anew());
    lab.core.drain(now, OTHER);
    lab.settle().await;
}

/// The pairs of two stacks, as each other's mirror image.
fn mirrored(lab: &Lab, a: usize, b: usize) -> bool {
    let (a, b) = (&lab.stacks[a].sas, &lab.stacks[b].sas);
    a.len() == b.len()
        && a.values().all(|pair| b.get(&pair.spi_out).is_some_and(|o| o.spi_out == pair.spi_in))
}

fn phase1(n: u8, remote: &str) -> (RecordId, u64, Phase1) {
    let record = Phase1 {
        local: SocketAddr::new(ip(VIP), 500),
        remote: SocketAddr::new(ip(remote), 500),
        local_id: Identity::Address(ip(VIP)),
        remote_id: Identity::Address(ip(remote)),
        ..crate::cf::record::tests::phase1()
    };
    (RecordId([n; 16]), 1, record)
}

fn phase2(n: u8, of: u8, local: TrafficSelector, remote: TrafficSelector) -> (RecordId, u64, Phase2) {
    let record = Phase2 {
        rule: "all".into(),
        local_selectors: vec![local],
        remote_selectors: vec![remote],
        last_used: None,
        ..crate::cf::record::tests::phase2(RecordId([of; 16]), n.into())
    };
    (RecordId([n; 16]), 1, record)
}

#[tokio::test(start_paused = true)]
async fn sas_that_went_on_are_forgotten_when_their_peer_has_lost_them() {
    let mut lab = Lab::continuing().await;
    assert_eq!(lab.activate("toPeer").await.1, ControlStatus::Updated);
    lab.pass(Duration::from_secs(60)).await;
    lab.now.unix += 60;
    let old: Vec<u32> = lab.stacks[OWN].sas.keys().copied().collect();
    let left = lab.keys.clone();
    assert_eq!((old.len(), left.len()), (1, 1));
    // The peer is started anew while the owner dies: nobody is there to whom it could say so.
    peer_forgets(&mut lab).await;
    lab.core.on_link(lab.now, OWN, LinkEvent::Down { reason: "killed".into(), ended: true });
    lab.stacks[OWN] = FakeStack::default();
    lab.settle().await;
    assert!(old.iter().all(|spi| lab.stacks[SPARE].sas.contains_key(spi)), "the new owner goes on");
    let before = lab.keys.clone();
    peer_begins(&mut lab).await;
    lab.pass(Duration::from_secs(60)).await;
    assert!(old.iter().all(|spi| !lab.stacks[SPARE].sas.contains_key(spi)), "what the peer has not is gone");
    assert_eq!((lab.stacks[SPARE].sas.len(), mirrored(&lab, SPARE, OTHER)), (1, true));
    assert_eq!(lab.core.stacks[SPARE].engine.ike_tunnels().len(), 1);
    // Of its keys there is only what the first owner left, which goes when the takeover is complete.
    let (stay, new): (Vec<_>, Vec<_>) = lab.keys.keys().partition(|id| before.contains_key(id));
    assert_eq!(new.len(), 1);
    assert!(stay.iter().all(|id| left.contains_key(id)), "{stay:?}");
    // The records that are left are those of the new SAs.
    let mut standing = BTreeSet::new();
    for (key, put) in lab.writes() {
        if put {
            standing.insert(key)
        } else {
            standing.remove(&key)
        };
    }
    assert_eq!(standing.len(), 2, "{standing:?}");
    assert_eq!(lab.core.stacks[SPARE].ledger.states_of(ip(VIP)).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_lost_its_state_is_faster_than_the_new_owner() {
    let mut lab = Lab::new();
    lab.epoch = 1;
    lab.left = Contents {
        phase1: vec![phase1(1, PEER)],
        phase2: vec![phase2(2, 1, selector(VIP), selector(PEER))],
        ..Contents::default()
    };
    // The new owner asks, and nobody is there.
    lab.connect(OWN, 1, false).await;
    lab.pass(Duration::from_millis(300)).await;
    assert!(lab.stacks[OWN].heard.iter().any(|m| matches!(m, ToStack::Ike(_))));
    assert!(lab.stacks[OWN].sas.is_empty());
    lab.connect(OTHER, 1, false).await;
    peer_begins(&mut lab).await;
    lab.pass(Duration::from_secs(120)).await;
    // Both have asked: one of the two stays.
    assert_eq!((lab.stacks[OWN].sas.len(), mirrored(&lab, OWN, OTHER)), (1, true));
    assert_eq!(lab.core.stacks[OWN].engine.ike_tunnels().len(), 1);
    let keys = lab.writes().into_iter().filter(|(_, put)| *put).map(|(k, _)| k).collect();
    lab.core.on_report(lab.now, Report::Written { dvipa: ip(VIP), keys });
    lab.core.on_report(lab.now, Report::Cleared(ip(VIP)));
    lab.settle().await;
    let done = lab.core.takeovers.machine.history().iter().next_back().unwrap();
    assert_eq!((done.progress, done.counts.total, done.counts.failed), (Progress::Done, 2, 0));
}

/// Peers to whom the new owner has spoken, in that order.
fn begun(lab: &Lab) -> Vec<IpAddr> {
    let mut order = Vec::new();
    for message in &lab.stacks[OWN].heard {
        if let ToStack::Ike(d) = message
            && !order.contains(&d.remote.ip())
        {
            order.push(d.remote.ip());
        }
    }
    order
}

#[tokio::test(start_paused = true)]
async fn peers_are_begun_with_in_the_order_in_which_they_were_there_last_and_not_all_at_once() {
    const PEERS: u8 = 150;
    let mut lab = Lab::with(Source { many: true, ..Source::default() });
    let address = |n: u8| format!("198.51.100.{n}");
    // The records lie in another order; of each tenth peer nothing is known.
    let used = |n: u8| (!n.is_multiple_of(10)).then(|| 1_600_000_000 + u64::from(n.wrapping_mul(77)) * GRAIN);
    lab.epoch = 1;
    lab.left = Contents {
        phase1: (1..=PEERS).map(|n| phase1(n, &address(n))).collect(),
        phase2: (1..=PEERS)
            .map(|n| {
                let (id, epoch, child) = phase2(n, n, selector(VIP), selector(&address(n)));
                (id, epoch, Phase2 { last_used: used(n), ..child })
            })
            .collect(),
        ..Contents::default()
    };
    lab.connect(OWN, 1, false).await;
    let at_once = crate::ike::rules::Settings::default().renegotiate_at_once;
    assert_eq!(begun(&lab).len(), at_once);
    lab.pass(Duration::from_secs(10)).await;
    let mut expected: Vec<u8> = (1..=PEERS).collect();
    expected.sort_by_key(|n| std::cmp::Reverse(used(*n)));
    let expected: Vec<IpAddr> = expected.into_iter().map(|n| ip(&address(n))).collect();
    assert_eq!(begun(&lab), expected);
}

#[tokio::test(start_paused = true)]
async fn a_record_says_when_its_tunnel_was_used_and_is_written_for_that_rarely() {
    let mut lab = Lab::both().await;
    lab.activate("toPeer").await;
    let said = |lab: &mut Lab| {
        let last_used = |order: Order| match order {
            Order::Write { key: RecordKey::Phase2(_), record: Some(Record::Phase2(r)), .. } => {
                Some(r.last_used)
            }
            _ => None,
        };
        lab.writes_in_full().into_iter().filter_map(last_used).collect::<Vec<_>>()
    };
    let made = lab.now.unix - lab.now.unix % GRAIN;
    assert_eq!(said(&mut lab), [Some(made)]);
    // There is traffic all the time.
    lab.now.unix += REWRITE - GRAIN;
    lab.pass(TICK * 5).await;
    assert_eq!(said(&mut lab), []);
    lab.now.unix += 2 * GRAIN;
    lab.pass(TICK * 5).await;
    let later = lab.now.unix - lab.now.unix % GRAIN;
    assert!(later >= made + REWRITE);
    assert_eq!(said(&mut lab), [Some(later)], "once");
    // Whatever else the record is written for says it too.
    lab.now.unix += 2 * GRAIN;
    lab.pass(TICK * 5).await;
    lab.control(crate::request::ControlAction::RefreshChild, &[]).await;
    lab.pass(TICK * 5).await;
    let last = lab.now.unix - lab.now.unix % GRAIN;
    assert!(said(&mut lab).contains(&Some(last)));
}

#[tokio::test(start_paused = true)]
async fn who_was_idle_before_a_takeover_is_idle_after_it() {
    let mut first = Lab::both().await;
    first.activate("toPeer").await;
    let (mut phase1, mut phase2) = (Vec::new(), Vec::new());
    for order in first.writes_in_full() {
        match order {
            Order::Write { key: RecordKey::Phase1(id), record: Some(Record::Phase1(r)), .. } => {
                phase1.push((id, 1, *r));
            }
            Order::Write { key: RecordKey::Phase2(id), record: Some(Record::Phase2(r)), .. } => {
                phase2.push((id, 1, Phase2 { last_used: Some(1_600_000_020), ..*r }));
            }
            _ => {}
        }
    }
    let mut lab = Lab::new();
    lab.epoch = 1;
    lab.left = Contents { phase1, phase2, ..Contents::default() };
    lab.connect(OTHER, 1, false).await;
    lab.connect(OWN, 1, false).await;
    lab.assert_mirrored(1);
    let used = lab.writes_in_full().into_iter().find_map(|order| match order {
        Order::Write { record: Some(Record::Phase2(r)), .. } => Some(r.last_used),
        _ => None,
    });
    assert_eq!(used, Some(Some(1_600_000_020)), "new keys are no use");
}

/// Whether the new owner of one address of a lost system may say INITIAL_CONTACT while it claims the other one.
#[cfg(feature = "etcd")]
async fn says_initial_contact(mode_of_the_other: &str) -> bool {
    let mut lab = Lab::backing_up(mode_of_the_other).await;
    assert_eq!(lab.core.identities_elsewhere(OWN, ip(VIP)), None, "its owner may have SAs with anybody");
    lab.pass(Duration::from_secs(2)).await;
    assert_eq!(lab.core.owners[&ip(VIP)].stack.as_str(), "OWN");
    assert_eq!(lab.core.owners[&ip(SECOND)].stack.as_str(), "FAR");
    lab.core.identities_elsewhere(OWN, ip(VIP)).is_some()
}

#[cfg(feature = "etcd")]
#[tokio::test(start_paused = true)]
async fn nothing_lives_of_an_owner_that_was_lost_unless_it_is_gone_on_with() {
    assert!(says_initial_contact("renegotiate").await);
    assert!(!says_initial_contact("continue").await);
}
