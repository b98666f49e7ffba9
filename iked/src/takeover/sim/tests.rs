//! Stories and storms.

use super::*;

const THREE: &[&[&str]] = &[&["D1"], &["D2"], &["D3"]];
const TWO: &[&[&str]] = &[&["D1", "D2"], &["D3"]];
const ONE: &[&[&str]] = &[&["D1", "D2", "D3"]];

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn vip(w: &World) -> IpAddr {
    w.plans[0].address
}

fn owner(w: &World, dvipa: IpAddr) -> Option<(usize, u64)> {
    (0..w.stacks.len()).find_map(|s| w.speaks(s, dvipa).map(|e| (s, e)))
}

/// A world in which everybody has come up.
fn calm(seed: u64, layout: &[&[&str]], leased: bool, giveback: Giveback) -> World {
    let mut w = World::new(seed, layout, leased, giveback);
    w.run(seconds(4));
    w.settled();
    w
}

fn storm(seed: u64, layout: &[&[&str]], leased: bool, giveback: Giveback, bugs: Bugs) -> World {
    let mut w = World::new(seed, layout, leased, giveback);
    w.bugs = bugs;
    w.faults = true;
    w.at(ms(1500), Event::Fault);
    w.run(seconds(7));
    w.heal_all();
    w.run(seconds(17));
    w.settled();
    w
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let n = std::env::var("TAKEOVER_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(default);
    let first = std::env::var("TAKEOVER_SEED").ok().and_then(|s| s.parse().ok());
    first.map_or(0..n, |f| f..f + 1)
}

#[test]
fn t47_storms_over_three_systems() {
    for seed in seeds(120) {
        let giveback = [Giveback::Immediate, Giveback::Manual][usize::from(seed % 2 == 1)];
        storm(seed, THREE, true, giveback, Bugs::default());
    }
}

#[test]
fn t47_storms_over_two_systems_one_with_two_stacks() {
    for seed in seeds(80) {
        storm(seed, TWO, true, Giveback::Immediate, Bugs::default());
    }
}

#[test]
fn t47_storms_over_the_stacks_of_one_system() {
    for seed in seeds(80) {
        let giveback = [Giveback::Immediate, Giveback::Manual][usize::from(seed % 2 == 1)];
        storm(seed, ONE, false, giveback, Bugs::default());
    }
}

/// The first moment after now at which `holds`, looking each millisecond.
fn when(w: &mut World, limit: Duration, holds: impl Fn(&World) -> bool) -> Duration {
    let begun = w.now;
    while w.now < begun + limit {
        w.run(w.now + ms(1));
        if holds(w) {
            return w.now - begun;
        }
    }
    w.require(false, || "it did not come to pass".into());
    limit
}

/// Everything of the system of a stack ends.
fn kill(w: &mut World, stack: usize) {
    let system = w.stacks[stack].system;
    for s in 0..w.stacks.len() {
        if w.stacks[s].system == system {
            w.end_stack(s);
        }
    }
    w.end_system(system);
}

#[test]
fn s1_claim_12_a_whole_system_that_dies_is_followed_after_a_lease_and_a_quarter() {
    for seed in 0..20 {
        let mut w = calm(seed, THREE, true, Giveback::Manual);
        let dvipa = vip(&w);
        let (old, epoch) = owner(&w, dvipa).unwrap();
        kill(&mut w, old);
        w.events.retain(|_, e| !matches!(e, Event::StartSystem { .. }));
        let took = when(&mut w, seconds(2), |w| owner(w, dvipa).is_some_and(|(s, e)| s != old && e > epoch));
        // The last renewal was at most a fifth of a lease ago; the rest are the delays of the links.
        w.require(took <= LEASE * 5 / 4 + ms(40), || format!("took {took:?}"));
        w.require(took >= LEASE, || format!("took {took:?}: the old lease was not over"));
    }
}

#[test]
fn a_process_whose_end_is_seen_is_followed_at_once() {
    for seed in 0..20 {
        for (layout, leased) in [(ONE, false), (TWO, true)] {
            let mut w = calm(seed, layout, leased, Giveback::Manual);
            let dvipa = vip(&w);
            let (old, _) = owner(&w, dvipa).unwrap();
            w.end_stack(old);
            let limit = if leased { ms(50) + LEASE } else { ms(50) };
            let took = when(&mut w, seconds(2), |w| owner(w, dvipa).is_some_and(|(s, _)| s != old));
            w.require(took <= limit, || format!("took {took:?}"));
        }
    }
}

#[test]
fn s1_claim_1_an_operator_moves_a_dvipa_within_milliseconds_and_it_stays() {
    for seed in 0..20 {
        for (layout, leased) in [(ONE, false), (THREE, true)] {
            let mut w = calm(seed, layout, leased, Giveback::Immediate);
            let dvipa = vip(&w);
            let to = name("D2");
            let (old, _) = owner(&w, dvipa).unwrap();
            let system = w.stacks[old].system;
            let now = w.local_time(system);
            w.systems[system].machine.request(now, &Request::Move { dvipa, to }).unwrap();
            w.drain(system);
            when(&mut w, seconds(1), |w| owner(w, dvipa).is_none());
            let silent = when(&mut w, seconds(1), |w| owner(w, dvipa).is_some_and(|(s, _)| s == 1));
            w.require(silent <= ms(20), || format!("silent for {silent:?}"));
            w.run(w.now + seconds(3));
            w.settled();
            assert_eq!(owner(&w, dvipa).map(|o| o.0), Some(1), "what an operator chose is not given back");
        }
    }
}

#[test]
fn s1_claim_3_without_the_coupling_facility_the_old_owner_hands_the_records_over() {
    for seed in 0..20 {
        let mut w = calm(seed, THREE, true, Giveback::Manual);
        let dvipa = vip(&w);
        w.store.down = true;
        w.run(w.now + seconds(1));
        assert_eq!(owner(&w, dvipa).map(|o| o.0), Some(0), "traffic goes on by consent");
        let now = w.local_time(0);
        w.systems[0].machine.request(now, &Request::Move { dvipa, to: name("D3") }).unwrap();
        w.drain(0);
        when(&mut w, seconds(1), |w| owner(w, dvipa).is_some_and(|(s, _)| s == 2));
        w.run(w.now + seconds(1));
        w.store.down = false;
        w.run(w.now + seconds(3));
        w.settled();
        assert_eq!(owner(&w, dvipa).map(|o| o.0), Some(2));
        assert_eq!(w.store.owners[&dvipa].0, name("D3"), "the store has learned it");
    }
}

#[test]
fn t48_the_store_is_away_and_traffic_goes_on_while_all_who_could_take_it_agree() {
    for seed in 0..10 {
        let mut w = calm(seed, THREE, true, Giveback::Manual);
        w.store.down = true;
        for _ in 0..200 {
            w.run(w.now + ms(10));
            for p in w.plans.clone() {
                let speaks = owner(&w, p.address).is_some();
                w.require(speaks, || "silence".into());
            }
        }
    }
}

#[test]
fn t47_an_owner_cut_off_from_the_store_and_the_others_is_silent_before_another_speaks() {
    for seed in 0..20 {
        let mut w = calm(seed, THREE, true, Giveback::Manual);
        let dvipa = vip(&w);
        w.store.cut.insert(0);
        w.cut.extend([(0, 1), (0, 2)]);
        when(&mut w, seconds(1), |w| owner(w, dvipa).is_none());
        when(&mut w, seconds(1), |w| owner(w, dvipa).is_some_and(|(s, _)| s != 0));
        w.run(w.now + seconds(1));
        w.store.cut.clear();
        w.cut.clear();
        w.run(w.now + seconds(3));
        w.settled();
    }
}

#[test]
fn t47_an_owner_stopped_for_three_leases_comes_back_as_a_backup() {
    for seed in 0..20 {
        let mut w = calm(seed, THREE, true, Giveback::Manual);
        let dvipa = vip(&w);
        let until = w.now + LEASE * 3;
        w.systems[0].paused_until = until;
        w.stacks[0].paused_until = until;
        let incarnation = w.systems[0].incarnation;
        w.at(until, Event::Wake { system: 0, incarnation });
        w.at(until, Event::Resume { stack: 0 });
        w.run(until + seconds(3));
        w.settled();
        assert_ne!(owner(&w, dvipa).map(|o| o.0), Some(0));
    }
}

#[test]
fn giveback_is_as_configured() {
    for (giveback, back) in
        [(Giveback::Immediate, true), (Giveback::Manual, false), (Giveback::WhenIdle, true)]
    {
        for (layout, leased) in [(ONE, false), (THREE, true)] {
            let mut w = calm(7, layout, leased, giveback);
            let dvipa = vip(&w);
            w.end_stack(0);
            when(&mut w, seconds(1), |w| owner(w, dvipa).is_some_and(|(s, _)| s != 0));
            w.run(w.now + seconds(2));
            let stays = owner(&w, dvipa).unwrap().0;
            assert_eq!(stays == 0, giveback == Giveback::Immediate);
            let system = w.stacks[stays].system;
            for count in [5, 0] {
                w.input(system, Input::Connections { dvipa, count });
            }
            w.run(w.now + seconds(2));
            w.settled();
            assert_eq!(owner(&w, dvipa).unwrap().0 == 0, back, "{giveback:?}");
        }
    }
}

#[test]
fn s1_claim_7_chains_and_double_failures_keep_every_record() {
    for seed in 0..20 {
        let mut w = calm(seed, THREE, true, Giveback::Manual);
        let dvipa = vip(&w);
        for gap in [1000, 270, 300] {
            let Some((old, _)) = owner(&w, dvipa) else { break };
            kill(&mut w, old);
            w.run(w.now + ms(gap));
        }
        w.run(w.now + seconds(8));
        w.settled();
    }
}

#[test]
fn t50_a_crash_at_every_step_ends_in_the_same_state() {
    for (layout, leased) in [(THREE, true), (TWO, true), (ONE, false)] {
        for step in 1..40 {
            let mut w = calm(step, layout, leased, Giveback::Manual);
            let dvipa = vip(&w);
            let (old, _) = owner(&w, dvipa).unwrap();
            let heir = if leased { (w.stacks[old].system + 1) % layout.len() } else { 0 };
            w.said[heir] = 0;
            w.crash_at = Some((heir, step));
            if leased {
                kill(&mut w, old)
            } else {
                w.end_stack(old)
            }
            w.run(w.now + seconds(12));
            w.settled();
        }
    }
}

#[test]
fn an_orderly_stop_hands_everything_to_the_best_backup() {
    for seed in 0..20 {
        let mut w = calm(seed, THREE, true, Giveback::Manual);
        let dvipa = vip(&w);
        let now = w.local_time(0);
        w.systems[0].stopping = true;
        w.systems[0].machine.stop(now);
        w.drain(0);
        let took = when(&mut w, seconds(1), |w| owner(w, dvipa).is_some_and(|(s, _)| s == 1));
        w.require(took <= ms(40), || format!("took {took:?}"));
    }
}

#[test]
fn deactivated_it_goes_to_a_backup_and_reactivated_it_comes_back() {
    for (layout, leased) in [(ONE, false), (THREE, true)] {
        let mut w = calm(3, layout, leased, Giveback::Immediate);
        let (dvipa, stack) = (vip(&w), name("D1"));
        for (request, then) in [
            (Request::Deactivate { dvipa, stack: stack.clone() }, 1),
            (Request::Reactivate { dvipa, stack: stack.clone() }, 0),
        ] {
            let now = w.local_time(0);
            w.systems[0].machine.request(now, &request).unwrap();
            w.drain(0);
            // A stack of another system offers it again and again, and is refused while it is deactivated.
            w.run(w.now + seconds(4));
            w.settled();
            assert_eq!(owner(&w, dvipa).map(|o| o.0), Some(then));
        }
        let now = w.local_time(0);
        let again = w.systems[0].machine.request(now, &Request::Reactivate { dvipa, stack: stack.clone() });
        assert_eq!(again, Err(Refusal::NotDeactivated(stack)));
    }
}

/// The simulation finds what it is there to find.
#[test]
fn sown_bugs_are_found() {
    let bugs = [
        Bugs { impatient: true, ..Bugs::default() },
        Bugs { no_gate: true, ..Bugs::default() },
        Bugs { early_clear: true, ..Bugs::default() },
    ];
    for bug in bugs {
        let found = (0..200).any(|seed| {
            std::panic::catch_unwind(|| storm(seed, THREE, true, Giveback::Immediate, bug)).is_err()
        });
        assert!(found, "{bug:?}");
    }
}
