//! Planned moves of a DVIPA whose SAs go on, between two stacks of one core.

use super::tests::*;
use super::*;
use crate::request::ControlStatus;
use crate::stack_link::LinkEvent;
use crate::takeover::Request;
use stack::control::{ReplaySnapshot, Role, SaPair};

/// Pairs that a stack was told to install.
fn installed(lab: &Lab, index: usize) -> Vec<SaPair> {
    let pair = |m: &ToStack| match m {
        ToStack::InstallSa(pair) => Some((**pair).clone()),
        _ => None,
    };
    lab.stacks[index].heard.iter().filter_map(pair).collect()
}

fn said(lab: &Lab, index: usize) -> usize {
    lab.stacks[index].heard.iter().filter(|m| matches!(m, ToStack::Ike(_))).count()
}

async fn up() -> Lab {
    let mut lab = Lab::continuing().await;
    assert_eq!(lab.activate("toPeer").await.1, ControlStatus::Updated);
    lab.assert_mirrored(1);
    // The first owner waits for what targets report.
    lab.pass(Duration::from_secs(5)).await;
    lab
}

async fn move_to(lab: &mut Lab, stack: &str) {
    let to = Name::parse(stack).unwrap();
    lab.core.takeovers.machine.request(lab.now.boot, &Request::Move { dvipa: ip(VIP), to }).unwrap();
    lab.core.carry_out(lab.now);
    lab.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_planned_move_hands_the_replay_windows_over_and_tells_the_peer_nothing() {
    let mut lab = up().await;
    let pair = installed(&lab, OWN).remove(0);
    let before = said(&lab, OTHER);
    move_to(&mut lab, "SPARE").await;
    assert!(lab.stacks[OWN].sas.is_empty(), "the old owner has none of it");
    let moved = installed(&lab, SPARE);
    assert_eq!(moved.len(), 1);
    let continued = moved[0].continued.clone().expect("it goes on");
    assert_eq!(continued.replay, Some(ReplaySnapshot { highest: 70, seen: vec![0b1011, 1] }));
    assert!(continued.next_sequence > 1 << 22, "above everything that the old one could have sent");
    assert_eq!((moved[0].spi_in, moved[0].spi_out), (pair.spi_in, pair.spi_out));
    assert_eq!((&moved[0].key_in, &moved[0].key_out), (&pair.key_in, &pair.key_out));
    lab.pass(Duration::from_secs(10)).await;
    assert_eq!((said(&lab, SPARE), said(&lab, OTHER)), (0, before), "nothing is negotiated");
    // The windows are asked for when nothing is accepted any more, and before the SAs go.
    let heard = &lab.stacks[OWN].heard;
    let at = |f: &dyn Fn(&ToStack) -> bool| heard.iter().rposition(f).unwrap();
    let left = heard.iter().position(|m| {
        let moving = |h: &stack::control::Home| matches!(h.role, Role::Moving { .. });
        matches!(m, ToStack::Configure(c) if c.home.iter().any(moving))
    });
    let removed = at(&|m| matches!(m, ToStack::RemoveSa { .. }));
    let asked = heard[left.unwrap()..removed].iter().any(|m| matches!(m, ToStack::Ask { .. }));
    assert!(asked, "between the two");
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_does_not_say_where_its_sas_stand_delays_nothing_and_they_are_rekeyed() {
    let mut lab = up().await;
    lab.stacks[OWN].dumb = true;
    move_to(&mut lab, "SPARE").await;
    tokio::time::advance(Duration::from_secs(1)).await;
    lab.settle().await;
    assert_eq!(installed(&lab, SPARE)[0].continued.clone().unwrap().replay, None, "nobody knows it");
    lab.pass(Duration::from_secs(5)).await;
    assert!(said(&lab, SPARE) > 0, "rekeyed at once");
    assert_eq!(lab.stacks[SPARE].sas.len(), 1);
    assert!(lab.stacks[SPARE].sas.values().all(|pair| pair.continued.is_none()));
}

#[tokio::test(start_paused = true)]
async fn it_goes_back_the_same_way() {
    let mut lab = up().await;
    for to in ["SPARE", "OWN", "SPARE"] {
        move_to(&mut lab, to).await;
        lab.pass(Duration::from_secs(5)).await;
        let index = if to == "OWN" { OWN } else { SPARE };
        let last = installed(&lab, index).pop().unwrap();
        assert!(last.continued.unwrap().replay.is_some(), "{to}");
    }
    assert_eq!((said(&lab, SPARE), lab.stacks[SPARE].sas.len()), (0, 1));
}

/// Whether a stack was told, at last, that it owns the DVIPA.
fn owns(lab: &Lab, index: usize) -> bool {
    let last = lab.stacks[index].heard.iter().rev().find_map(|m| match m {
        ToStack::Configure(config) => Some(config),
        _ => None,
    });
    last.is_some_and(|c| c.home.iter().any(|h| matches!(h.role, Role::Owner { .. })))
}

#[tokio::test(start_paused = true)]
async fn a_new_owner_is_none_before_it_may_send_on_what_was_handed_over() {
    let mut lab = up().await;
    lab.late = Some(vec![]);
    move_to(&mut lab, "SPARE").await;
    assert!(!owns(&lab, OWN) && !owns(&lab, SPARE) && installed(&lab, SPARE).is_empty(), "packets wait");
    let Some(Order::Ceiling { dvipa, highest }) = lab.late.take().and_then(|mut late| late.pop()) else {
        panic!("no ceiling was ordered")
    };
    let epoch = lab.epoch;
    lab.core.on_report(lab.now, Report::CeilingRaised { dvipa, epoch, highest });
    lab.settle().await;
    assert!(owns(&lab, SPARE));
    let next = installed(&lab, SPARE)[0].continued.clone().unwrap().next_sequence;
    let heard = &lab.stacks[SPARE].heard;
    let ceiling = heard.iter().find_map(|m| match m {
        ToStack::Ceiling { highest, .. } => Some(*highest),
        _ => None,
    });
    assert!(ceiling.is_some_and(|c| c > next), "it may send at once: {ceiling:?}, {next}");
}

#[tokio::test(start_paused = true)]
async fn a_coupling_facility_that_reserves_nothing_does_not_keep_a_new_owner_from_receiving() {
    let mut lab = up().await;
    lab.late = Some(vec![]);
    move_to(&mut lab, "SPARE").await;
    lab.pass(Duration::from_millis(60)).await;
    assert!(owns(&lab, SPARE));
    assert!(installed(&lab, SPARE)[0].continued.clone().unwrap().replay.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_store_is_mirrored_from_the_start_and_has_the_backup_while_it_is_ready() {
    let backups = |lab: &mut Lab| {
        let stack = |order| match order {
            Order::Backup { rank: 0, stack, .. } => Some(stack),
            _ => None,
        };
        lab.writes_in_full().into_iter().filter_map(stack).collect::<Vec<_>>()
    };
    let mut lab = Lab::continuing_unconnected(Source::default());
    assert!(lab.kept.iter().any(|order| matches!(order, Order::Mirror { dvipa } if *dvipa == ip(VIP))));
    lab.connect(SPARE, 1, false).await;
    assert_eq!(backups(&mut lab).last(), Some(&Some("SPARE".to_owned())));
    lab.core.on_link(lab.now, SPARE, LinkEvent::Down { reason: "killed".into(), ended: true });
    lab.settle().await;
    assert_eq!(backups(&mut lab).last(), Some(&None));
}
