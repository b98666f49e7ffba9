//! Answers about everything there is are made in steps between packets, while SAs and rules come and go.
#![allow(clippy::unwrap_used, reason = "tests: helpers beside #[test] functions too")]

mod common;

use common::*;
use stack::control::{Answer, FilterKind, FilterView, LastArrival, Question, Role, SaView};
use stack::engine::Engine;
use stack::engine::survey::{Finished, Reply, Survey};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// More than a few steps.
const PAIRS: u32 = 2_000;

fn world() -> World {
    let mut w = World::new(vec![Node::new("B", None, vec![home(DVIPA, Role::Static)], &[])]);
    w.filters("B", both("R", one(DVIPA), any4(), IPSEC));
    for n in 0..PAIRS {
        install(&mut w, n);
    }
    w
}

fn install(w: &mut World, n: u32) {
    let now = w.now;
    let (_, pair) = pair(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), DVIPA, spi(n), "R");
    w.n("B").engine.install_sa(now, 1, stack::control::SaPair { tunnel: n, ..pair }).unwrap();
}

/// The inbound SPI of a pair.
const fn spi(n: u32) -> u32 {
    0x1000 + 2 * n
}

fn begin(engine: &Engine, question: Question) -> Survey {
    match engine.ask(question) {
        Some(Reply::Survey(survey)) => survey,
        other => panic!("{other:?}"),
    }
}

/// Goes on to the end; gives how many steps that took.
fn complete(w: &mut World, survey: &mut Survey) -> usize {
    let now = w.now;
    1 + (0..10_000).take_while(|_| !w.n("B").engine.survey(now, survey)).count()
}

fn sas(survey: Survey) -> Vec<SaView> {
    match survey.finish() {
        Finished::Answer(Answer::Sas(views)) => views,
        other => panic!("{other:?}"),
    }
}

fn filters(survey: Survey) -> Vec<FilterView> {
    match survey.finish() {
        Finished::Answer(Answer::Filters(views)) => views,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_sa_that_stays_is_shown_once_whatever_comes_and_goes_meanwhile() {
    let mut w = world();
    let now = w.now;
    let mut survey = begin(&w.n("B").engine, Question::Sas);
    assert!(!w.n("B").engine.survey(now, &mut survey), "no turn copies them all");
    // Some that were seen, some that were not, and others in their places.
    for n in (0..PAIRS).step_by(3) {
        w.n("B").engine.remove_sa(spi(n));
    }
    for n in PAIRS..PAIRS + 200 {
        install(&mut w, n);
    }
    assert!(complete(&mut w, &mut survey) > 3);
    let shown: Vec<u32> = sas(survey).iter().map(|v| v.spi_in).collect();
    assert!(shown.is_sorted());
    let once: BTreeSet<u32> = shown.iter().copied().collect();
    assert_eq!(once.len(), shown.len());
    assert!((0..PAIRS).filter(|n| n % 3 != 0).all(|n| once.contains(&spi(n))));
}

#[test]
fn a_table_that_is_exchanged_meanwhile_is_the_one_that_is_shown() {
    let mut w = world();
    let now = w.now;
    let mut survey = begin(&w.n("B").engine, Question::Filters);
    assert!(!w.n("B").engine.survey(now, &mut survey));
    let rules = [both("first", one(STRANGER), any4(), IPSEC), both("R", one(DVIPA), any4(), IPSEC)].concat();
    w.filters("B", rules);
    complete(&mut w, &mut survey);
    let shown = filters(survey);
    let anchors = shown.iter().filter(|v| v.kind == FilterKind::DynamicAnchor);
    let names: Vec<&str> = anchors.map(|v| v.rule.name.as_str()).collect();
    assert_eq!(names, ["first", "first", "R", "R"]);
    let mut tunnels: Vec<u32> = Vec::new();
    for view in &shown {
        if let FilterKind::Dynamic(tunnel) = view.kind {
            assert_eq!(view.rule.name, "R");
            tunnels.push(tunnel);
        }
    }
    tunnels.sort_unstable();
    let twice: Vec<u32> = (0..PAIRS).flat_map(|n| [n, n]).collect();
    assert_eq!(tunnels, twice, "each in both directions");
}

#[test]
fn only_what_something_arrived_on_lately_is_told() {
    let mut w = World::new(vec![
        Node::new("A", None, vec![home(PEER, Role::Static)], &[]),
        Node::new("B", None, vec![home(DVIPA, Role::Static)], &[]),
    ]);
    w.filters("A", both("R", one(PEER), one(DVIPA), IPSEC));
    w.filters("B", both("R", one(DVIPA), any4(), IPSEC));
    let (a, b) = pair(PEER, DVIPA, 0x1000, "R");
    let heard = b.spi_in;
    w.sa("A", a);
    w.sa("B", b);
    // Another one, of which nobody hears.
    w.sa("B", pair(STRANGER, DVIPA, 0x2000, "R").1);
    let lately = |w: &mut World| {
        let now = w.now;
        match answer(&w.n("B").engine, now, Question::Arrivals { within_ms: 2_000 }) {
            Answer::Arrivals(found) => found,
            other => panic!("{other:?}"),
        }
    };
    assert!(lately(&mut w).is_empty());
    w.send("A", ends(PEER, 40_000, DVIPA, 443).tcp("S", 1, 0, b""));
    w.now += Duration::from_millis(1_500);
    assert_eq!(lately(&mut w), [LastArrival { spi_in: heard, idle_in_ms: 1_500 }]);
    w.now += Duration::from_secs(1);
    assert!(lately(&mut w).is_empty());
}
