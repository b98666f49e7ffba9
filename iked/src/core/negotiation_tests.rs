//! Two stacks of one core negotiate with each other: SAs, records, restarts, the end.

use super::tests::*;
use super::*;
use crate::cf::RecordKey;
use crate::cf::fence::{Contents, Record};
use crate::cf::record::{Owner, Phase1, Phase2, RecordId};
use crate::events::What;
use crate::ike::command::ActivationMethod;
use crate::ike::failure::FailureKind;
use crate::request::{CfState, ControlAction, ControlObject, ControlStatus, Want};
use crate::stack_link::LinkEvent;
use stack::control::{FromStack, PortTranslation, SaNotice};

fn kinds_of(writes: &[(RecordKey, bool)]) -> Vec<(&'static str, bool)> {
    let kind = |k: &RecordKey| match k {
        RecordKey::Phase1(_) => "phase1",
        RecordKey::Phase2(_) => "phase2",
        RecordKey::Keys(_) => "keys",
    };
    writes.iter().map(|(k, put)| (kind(k), *put)).collect()
}

fn id(text: &str) -> ControlObject {
    ControlObject { name: None, tunnel_id: Some(text.into()) }
}

async fn up() -> Lab {
    let mut lab = Lab::both().await;
    assert_eq!(lab.activate("toPeer").await.1, ControlStatus::Updated);
    lab.assert_mirrored(1);
    lab
}

#[tokio::test(start_paused = true)]
async fn an_activation_installs_a_pair_on_both_sides_and_records_it() {
    let mut lab = up().await;
    let writes = lab.writes();
    assert_eq!(kinds_of(&writes), [("phase1", true), ("phase2", true)], "of the DVIPA's side only");
    let shown = lab.display(Want::Children).await.unwrap();
    assert_eq!(shown.children[0].local_dyn_vpn_rule.as_deref(), Some("toPeer"));
    assert_eq!(shown.children[0].method, ActivationMethod::Command);
    assert_eq!(shown.sas.len(), 1);
    let census = lab.display(Want::Summary).await.unwrap().census;
    assert_eq!((census.ike.active, census.children.active), (1, 1));
    assert!(census.rules_up.iter().eq(["toPeer"]));
    assert!(shown.cf_children.values().all(|s| *s == CfState::Failed), "until it is written");
    let keys = writes.into_iter().map(|(k, _)| k).collect();
    lab.core.on_report(lab.now, Report::Written { dvipa: ip(VIP), keys });
    let shown = lab.display(Want::IkeTunnels).await.unwrap();
    assert_eq!(shown.cf_ike.into_values().collect::<Vec<_>>(), [CfState::Stored]);
    assert_eq!(shown.cf_children.into_values().collect::<Vec<_>>(), [CfState::Stored]);
}

#[tokio::test(start_paused = true)]
async fn an_sa_that_the_stack_refuses_ends_at_both_ends_and_counts_as_failed() {
    let mut lab = up().await;
    let mut events = lab.core.events.read();
    let spi_in = *lab.stacks[OWN].sas.keys().next().unwrap();
    let refused = FromStack::SaRefused { spi_in, reason: "no room".into() };
    lab.core.on_link(lab.now, OWN, LinkEvent::Message(Box::new(refused)));
    lab.settle().await;
    lab.assert_mirrored(0);
    let What::Failed { reason, .. } = &events.recv().await.unwrap().what else { panic!() };
    assert_eq!(reason.kind, FailureKind::Stack);
    assert!(reason.text.contains("no room"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn control_requests_have_the_documented_statuses() {
    let mut lab = up().await;
    assert_eq!(lab.activate("toPeer").await, (Some("Y1".into()), ControlStatus::AlreadySet));
    assert_eq!(lab.activate("noFilter").await.1, ControlStatus::NoFilterRule);
    assert_eq!(lab.activate("nobody").await.1, ControlStatus::NotFound);
    let done = lab.control(ControlAction::RefreshChild, &[id("Y9"), id("y1")]).await;
    assert_eq!(
        done,
        [(Some("Y9".into()), ControlStatus::NotFound), (Some("Y1".into()), ControlStatus::Updated)]
    );
    lab.assert_mirrored(1);
    assert_eq!(
        lab.control(ControlAction::DeactivateChild, &[]).await,
        [(Some("Y1".into()), ControlStatus::Updated)]
    );
    lab.assert_mirrored(0);
    assert_eq!(lab.control(ControlAction::DeactivateChild, &[]).await, []);
    let ended = lab.control(ControlAction::DeactivateIke, &[named("kx")]).await;
    assert_eq!(ended, [(Some("K1".into()), ControlStatus::Updated)]);
    assert!(lab.display(Want::IkeTunnels).await.unwrap().ike.is_empty());
}

#[tokio::test(start_paused = true)]
async fn records_go_with_their_tunnels() {
    let mut lab = up().await;
    let made = lab.writes();
    lab.control(ControlAction::DeactivateIke, &[]).await;
    lab.assert_mirrored(0);
    let mut removed = lab.writes();
    removed.sort();
    let mut expected: Vec<_> = made.into_iter().map(|(k, _)| (k, false)).collect();
    expected.sort();
    assert_eq!(removed, expected);
}

fn translation(translated: u16) -> PortTranslation {
    PortTranslation {
        endpoint: format!("{PEER}:1024").parse().unwrap(),
        protocol: 6,
        local: format!("{VIP}:443").parse().unwrap(),
        remote: ip(PEER),
        original: 40_000,
        translated,
    }
}

/// The translations in records that were written since this was asked last.
fn translations_written(lab: &mut Lab) -> Vec<Vec<PortTranslation>> {
    lab.answer_orders();
    let written = |o| match o {
        Order::Write { record: Some(Record::Phase2(r)), .. } => Some(r.translations),
        _ => None,
    };
    std::mem::take(&mut lab.kept).into_iter().filter_map(written).collect()
}

#[tokio::test(start_paused = true)]
async fn translated_ports_stand_in_the_record_of_their_tunnel() {
    let mut lab = up().await;
    assert_eq!(translations_written(&mut lab), [vec![]]);
    let tunnel = lab.display(Want::Children).await.unwrap().children[0].id.0;
    let say = |lab: &mut Lab, tunnel, flows: Vec<PortTranslation>| {
        let said = FromStack::Translations { tunnel, flows };
        lab.core.on_link(lab.now, OWN, LinkEvent::Message(Box::new(said)));
        translations_written(lab)
    };
    assert!(say(&mut lab, tunnel + 1, vec![translation(1)]).is_empty(), "of no tunnel");
    assert_eq!(say(&mut lab, tunnel, vec![translation(65_535)]), [vec![translation(65_535)]]);
    // They stay while the tunnel is there, and go to the process that follows.
    lab.control(ControlAction::RefreshChild, &[]).await;
    lab.pass(Duration::from_secs(5)).await;
    assert_eq!(translations_written(&mut lab).last(), Some(&vec![translation(65_535)]));
    lab.core.on_link(lab.now, OWN, LinkEvent::Down { reason: "killed".into(), ended: true });
    lab.stacks[OWN].sas.clear();
    lab.stacks[OWN].heard.clear();
    lab.connect(OWN, 2, false).await;
    let expected = ToStack::Translations { flows: vec![translation(65_535)] };
    assert!(lab.stacks[OWN].heard.contains(&expected), "{:?}", kinds(&lab.stacks[OWN].heard));
}

#[tokio::test(start_paused = true)]
async fn a_rekey_writes_the_record_in_place() {
    let mut lab = up().await;
    let made = lab.writes();
    lab.control(ControlAction::RefreshChild, &[]).await;
    lab.pass(Duration::from_secs(5)).await;
    lab.assert_mirrored(1);
    let writes = lab.writes();
    assert!(!writes.is_empty());
    assert!(writes.iter().all(|w| made.contains(w)), "{writes:?} in place of {made:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outbound_packet_starts_a_negotiation() {
    let mut lab = Lab::both().await;
    lab.core.on_link(lab.now, OWN, acquire(1, "all"));
    lab.settle().await;
    lab.assert_mirrored(1);
    assert!(!lab.stacks[OWN].heard.contains(&ToStack::AcquireFailed { id: 1 }));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_is_given_up_and_the_packet_with_it() {
    let mut lab = Lab::new();
    lab.connect(OWN, 1, false).await;
    lab.core.on_link(lab.now, OWN, acquire(4, "all"));
    lab.pass(Duration::from_secs(600)).await;
    assert!(lab.stacks[OWN].heard.contains(&ToStack::AcquireFailed { id: 4 }));
    assert!(lab.display(Want::IkeTunnels).await.unwrap().ike.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_died_gets_new_sas_and_the_peer_forgets_the_old() {
    let mut lab = up().await;
    let old: Vec<u32> = lab.stacks[OTHER].sas.keys().copied().collect();
    lab.core.on_link(lab.now, OWN, LinkEvent::Down { reason: "killed".into(), ended: true });
    assert_eq!(lab.display(Want::Children).await.unwrap_err(), CoreError::UnknownStack);
    lab.stacks[OWN].sas.clear();
    lab.stacks[OWN].heard.clear();
    lab.connect(OWN, 2, false).await;
    lab.pass(Duration::from_secs(10)).await;
    let told = ["Configure", "Defend", "SetFilters", "RemoveAllSas"];
    assert_eq!(kinds(&lab.stacks[OWN].heard)[..4], told);
    lab.assert_mirrored(1);
    assert!(!lab.stacks[OTHER].sas.contains_key(&old[0]), "t26: nothing of the old SA is used again");
    assert_eq!(lab.display(Want::Children).await.unwrap().children.len(), 1);
}

/// Members accept the messages of the start that stands in the member record, and of no other.
#[tokio::test(start_paused = true)]
async fn t47_a_process_that_nobody_saw_end_is_followed_by_the_start_that_is_there() {
    let mut lab = up().await;
    // It was adopted: the link breaks, and its end is not seen.
    lab.core.on_link(lab.now, OWN, LinkEvent::Down { reason: "closed".into(), ended: false });
    lab.stacks[OWN].sas.clear();
    lab.kept.clear();
    lab.connect(OWN, 2, false).await;
    let starts = lab.kept.iter().filter_map(|o| match o {
        Order::Serve { stack, member, .. } if stack == "OWN" => Some(member.start),
        _ => None,
    });
    assert_eq!(starts.collect::<Vec<_>>(), [2]);
    assert!(
        lab.kept.iter().any(|o| matches!(o, Order::End { stack } if stack == "OWN")),
        "the other one ended"
    );
}

#[tokio::test(start_paused = true)]
async fn a_link_that_broke_leaves_the_sas_alone() {
    let mut lab = up().await;
    let sas = lab.stacks[OWN].sas.clone();
    lab.stacks[OWN].sas.insert(77, pair_of(77));
    lab.core.on_link(lab.now, OWN, LinkEvent::Down { reason: "reset".into(), ended: false });
    lab.stacks[OWN].heard.clear();
    lab.connect(OWN, 1, true).await;
    assert_eq!(lab.stacks[OWN].sas, sas, "the stray one is gone, the other stays");
    lab.assert_mirrored(1);
    let spi_in = *sas.keys().next().unwrap();
    assert!(lab.stacks[OWN].heard.contains(&ToStack::ActivateOutbound { spi_in }));
}

#[tokio::test(start_paused = true)]
async fn limits_of_the_stack_rekey_or_end_the_sa() {
    let mut lab = up().await;
    let spi_in = *lab.stacks[OWN].sas.keys().next().unwrap();
    let notice = |spi_in, notice| LinkEvent::Message(Box::new(FromStack::Sa { spi_in, notice }));
    lab.core.on_link(lab.now, OWN, notice(spi_in, SaNotice::SoftLimit));
    lab.settle().await;
    lab.pass(Duration::from_secs(5)).await;
    lab.assert_mirrored(1);
    assert!(!lab.stacks[OWN].sas.contains_key(&spi_in), "rekeyed");
    let spi_in = *lab.stacks[OWN].sas.keys().next().unwrap();
    lab.core.on_link(lab.now, OWN, notice(spi_in, SaNotice::HardLimit));
    lab.settle().await;
    assert!(!lab.stacks[OWN].sas.contains_key(&spi_in));
    assert_eq!(lab.stacks[OWN].sas.len(), lab.stacks[OTHER].sas.len());
}

#[tokio::test(start_paused = true)]
async fn the_end_deletes_everything_and_tells_the_stacks() {
    let mut lab = up().await;
    lab.writes();
    assert!(!lab.core.is_idle());
    lab.core.shutdown(lab.now);
    lab.settle().await;
    assert!(lab.core.is_idle());
    lab.assert_mirrored(0);
    assert_eq!(lab.writes().iter().filter(|(_, put)| *put).count(), 0);
    lab.core.end_stacks();
    lab.settle().await;
    assert_eq!(lab.stacks[OWN].heard.last(), Some(&ToStack::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn auto_activation_begins_when_the_stack_is_active() {
    let mut lab = Lab::with(Source { auto: true, ..Source::default() });
    lab.connect(OTHER, 1, false).await;
    assert!(lab.stacks[OTHER].sas.is_empty());
    lab.connect(OWN, 1, false).await;
    lab.assert_mirrored(1);
    let shown = lab.display(Want::Children).await.unwrap();
    assert_eq!(shown.children[0].method, ActivationMethod::Auto);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_owner_left_is_negotiated_again_and_then_cleared() {
    let mut lab = Lab::new();
    let all = selector;
    let phase1 = Phase1 {
        local: format!("{VIP}:500").parse().unwrap(),
        remote: format!("{PEER}:500").parse().unwrap(),
        ..crate::cf::record::tests::phase1()
    };
    let phase2 = Phase2 {
        rule: "all".into(),
        local_selectors: vec![all(VIP)],
        remote_selectors: vec![all(PEER)],
        translations: vec![translation(65_535)],
        ..crate::cf::record::tests::phase2(RecordId([1; 16]), 5)
    };
    lab.epoch = 1;
    lab.left = Contents {
        phase1: vec![(RecordId([1; 16]), 1, phase1)],
        phase2: vec![(RecordId([2; 16]), 1, phase2)],
        ..Contents::default()
    };
    lab.connect(OTHER, 1, false).await;
    lab.connect(OWN, 1, false).await;
    lab.assert_mirrored(1);
    let expected = ToStack::Translations { flows: vec![translation(65_535)] };
    let sas = |m: &ToStack| matches!(m, ToStack::InstallSa(_));
    let heard = &lab.stacks[OWN].heard;
    let at = heard.iter().position(|m| *m == expected).expect("the stack is told what was translated");
    assert!(heard.iter().position(sas).is_some_and(|sa| at < sa), "before anybody's SA is there");
    let shown = lab.display(Want::Children).await.unwrap();
    assert_eq!(shown.children[0].method, ActivationMethod::Takeover);
    assert_eq!(shown.dvipas[0].epoch, 2);
    let cleared = |lab: &mut Lab| lab.kept.iter().any(|o| matches!(o, Order::ClearOlder(d) if *d == ip(VIP)));
    lab.pass(TICK * 5).await;
    assert!(!cleared(&mut lab), "not before the new records stand (distributor.md R9)");
    let keys = lab.writes().into_iter().map(|(k, _)| k).collect();
    lab.core.on_report(lab.now, Report::Written { dvipa: ip(VIP), keys });
    lab.settle().await;
    assert!(cleared(&mut lab));
    lab.core.on_report(lab.now, Report::Cleared(ip(VIP)));
    let done = lab.core.takeovers.machine.history().iter().next_back().unwrap();
    assert_eq!((done.progress, done.counts.total), (crate::takeover::Progress::Done, 2));
}

#[tokio::test(start_paused = true)]
async fn t48_a_failing_store_is_shown_and_stops_nothing() {
    let mut lab = up().await;
    let keys: Vec<_> = lab.writes().into_iter().map(|(k, _)| k).collect();
    let failed = Report::Failed { dvipa: ip(VIP), keys, reason: "disk full".into(), lasting: false };
    lab.core.on_report(lab.now, failed);
    let shown = lab.display(Want::Summary).await.unwrap();
    assert!(shown.cf_ike.values().all(|s| *s == CfState::Failed));
    lab.assert_mirrored(1);
}

#[tokio::test(start_paused = true)]
async fn t47_who_lost_a_dvipa_gives_it_up_at_once_and_writes_nothing() {
    let mut lab = up().await;
    lab.writes();
    lab.stacks[OWN].heard.clear();
    let owner = Some(Owner { system: "SYSB".into(), stack: "X".into(), epoch: 9, released: false });
    let report = Report::OwnerIs { dvipa: ip(VIP), owner, revision: crate::cf::Revision(7) };
    lab.core.on_report(lab.now, report);
    lab.core.on_report(lab.now, Report::Lost(ip(VIP)));
    lab.settle().await;
    let heard = &lab.stacks[OWN].heard;
    let ToStack::Configure(c) = &heard[0] else { panic!("{heard:?}") };
    let role = stack::control::Role::Moving { distributor: None };
    assert_eq!(c.home[0].role, role, "before anything else is said");
    assert!(lab.stacks[OWN].sas.is_empty());
    assert!(lab.writes().is_empty());
    assert!(lab.display(Want::Summary).await.unwrap().dvipas.is_empty());
}
