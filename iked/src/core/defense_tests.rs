//! The list of defensive filters, without stacks.

use super::*;
use crate::config::Defense;
use stack::control::{Direction, PortRange, Scope};
use std::path::PathBuf;

fn stack(name: &str, mode: DefenseMode, max_lifetime_min: u32) -> StackEntry {
    StackEntry {
        name: Name::parse(name).unwrap(),
        netns: None,
        network: vec![],
        xcf: None,
        home: vec![],
        policy: None,
        default_filters: None,
        stackd: PathBuf::new(),
        mark: (0, 0),
        max_connections: 1,
        defense: Defense { mode, max_lifetime_min, ..Defense::default() },
    }
}

fn three() -> Vec<StackEntry> {
    vec![
        stack("A", DefenseMode::Active, 60),
        stack("B", DefenseMode::Simulate, 10),
        stack("C", DefenseMode::Inactive, 60),
    ]
}

fn packets() -> Packets {
    let one = |a: [u8; 4]| range(std::net::IpAddr::from(a).into());
    Packets {
        addresses: Some((one([203, 0, 113, 9]), one([192, 0, 2, 80]))),
        protocol: Some(6),
        source_ports: PortRange::ANY,
        destination_ports: PortRange { low: 80, high: 80 },
        icmp_type: None,
        icmp_code: None,
        direction: Direction::Inbound,
        scope: Scope::Either,
        fragments_only: false,
    }
}

fn add(name: &str, settings: Settings) -> DefenseOrder {
    DefenseOrder::Add { name: name.into(), packets: Box::new(packets()), settings }
}

struct List {
    list: Defenses,
    stacks: Vec<StackEntry>,
}

impl List {
    fn new() -> Self {
        Self { list: Defenses::default(), stacks: three() }
    }
    fn order(&mut self, at: Option<&str>, order: DefenseOrder, unix: u64) -> (DefenseResult, u32) {
        let at = at.map(|n| Name::parse(n).unwrap());
        let done = self.list.order(&Stacks(&self.stacks), at.as_ref(), Some("olga".into()), order, unix);
        (done[0].result, done[0].stacks)
    }
    fn told(&self, stack: usize, unix: u64) -> Vec<(String, bool, u64)> {
        let set = self.list.set(&self.stacks[stack], unix);
        set.filters.into_iter().map(|f| (f.rule.name, f.simulate, f.remaining_ms)).collect()
    }
}

#[test]
fn the_last_that_was_added_comes_first_and_each_ends_at_its_time() {
    let mut l = List::new();
    let minutes = |n| Settings { lifetime_min: Some(n), ..Settings::default() };
    assert_eq!(l.order(Some("a"), add("one", minutes(1)), 1000), (DefenseResult::Done, 1));
    assert_eq!(l.order(Some("A"), add("two", Settings::default()), 1000), (DefenseResult::Done, 1));
    assert_eq!(l.order(Some("A"), add("two", Settings::default()), 1000), (DefenseResult::Exists, 0));
    assert_eq!(l.order(Some("C"), add("three", Settings::default()), 1000), (DefenseResult::Inactive, 0));
    assert_eq!(l.order(Some("A"), add("three", minutes(61)), 1000), (DefenseResult::Lifetime, 0));
    assert_eq!(l.told(0, 1000), [("two".into(), false, 1_800_000), ("one".into(), false, 60_000)]);
    assert_eq!(l.told(0, 1060), [("two".into(), false, 1_740_000)]);
    assert!(l.told(1, 1000).is_empty());
    assert_eq!(l.list.expire(1059).len(), 0);
    assert_eq!(l.list.expire(1060), [("one".to_owned(), Some("A".to_owned()))]);
    // Its name is free again, and its number is not given again.
    assert_eq!(l.order(Some("A"), add("one", minutes(1)), 1060), (DefenseResult::Done, 1));
    let ids: std::collections::BTreeSet<_> = l.list.filters.iter().map(|e| e.id).collect();
    assert_eq!(ids, [2, 3].into());
}

#[test]
fn a_global_filter_has_copies_that_can_be_changed_and_deleted_one_by_one() {
    let mut l = List::new();
    let long = Settings { lifetime_min: Some(60), ..Settings::default() };
    assert_eq!(l.order(None, add("worm", long), 1000), (DefenseResult::Done, 2), "not at the inactive one");
    assert_eq!(l.told(0, 1000), [("worm".into(), false, 3_600_000)]);
    assert_eq!(l.told(1, 1000), [("worm".into(), false, 600_000)], "cut to what the stack allows");
    assert_eq!(l.order(Some("A"), add("worm", long), 1000), (DefenseResult::Exists, 0));
    let simulate = Settings { simulate: Some(true), ..Settings::default() };
    let update = |settings| DefenseOrder::Update { name: "worm".into(), settings };
    assert_eq!(l.order(Some("A"), update(simulate), 1010), (DefenseResult::Done, 1));
    assert_eq!((l.told(0, 1010)[0].1, l.told(1, 1010)[0].1), (true, false));
    let delete = || DefenseOrder::Delete(Some("worm".into()));
    assert_eq!(l.order(Some("B"), delete(), 1010), (DefenseResult::Done, 1));
    assert_eq!((l.told(1, 1010).len(), l.list.copies("worm")), (0, 1));
    // A daemon that starts again does not bring the deleted copy back, but one for a stack that is new.
    l.stacks.push(stack("D", DefenseMode::Active, 60));
    l.list.copy_to_new(&Stacks(&l.stacks));
    assert_eq!((l.told(1, 1010).len(), l.told(3, 1010).len(), l.list.copies("worm")), (0, 1, 2));
    let minutes = Settings { lifetime_min: Some(5), ..Settings::default() };
    assert_eq!(l.order(None, update(minutes), 1020), (DefenseResult::Done, 2));
    assert_eq!(l.told(0, 1020), [("worm".into(), true, 300_000)]);
    assert_eq!(l.order(None, delete(), 1020), (DefenseResult::Done, 2));
    assert!(l.list.filters.is_empty());
    assert_eq!(l.order(None, delete(), 1020), (DefenseResult::NotFound, 0));
    assert!(l.list.order(&Stacks(&l.stacks), None, None, DefenseOrder::Delete(None), 1020).is_empty());
}

#[test]
fn the_list_outlives_the_daemon_and_a_bad_file_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut l = List::new();
    l.order(None, add("worm", Settings { log: Some(true), ..Settings::default() }), 1000);
    let all = Packets { addresses: None, ..packets() };
    let both =
        DefenseOrder::Add { name: "all".into(), packets: Box::new(all), settings: Settings::default() };
    l.order(Some("A"), both, 1001);
    l.list.save(folder.path());
    let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
    let read: Defenses = toml::from_str(&text).unwrap();
    assert_eq!(read.filters, l.list.filters);
    let names: Vec<_> = l.list.set(&l.stacks[0], 1001).filters.iter().map(|f| f.rule.extension).collect();
    assert_eq!(names, [1, 2, 1], "both families of the later one, then the other");
    assert!(toml::from_str::<Defenses>("filters = [{ name = 5 }]").is_err());
    // As many as there can be are read again.
    let longest = "x".repeat(32);
    let entry = Entry { name: longest.clone(), user: Some(longest), ..l.list.filters[0].clone() };
    let full = Defenses { given: 9, filters: vec![entry; MAX_ENTRIES] };
    full.save(folder.path());
    let size = std::fs::metadata(folder.path().join(FILE)).unwrap().len();
    assert!(size <= crate::config::MAX_FILE_BYTES, "{size} bytes");
}

#[test]
fn counters_of_copies_are_added_up() {
    let mut l = List::new();
    l.order(None, add("worm", Settings::default()), 1000);
    let mut listed: Vec<FilterView> = l.list.globals().flat_map(Entry::views).collect();
    let mut copies: Vec<FilterView> = l.list.of("A").chain(l.list.of("B")).flat_map(Entry::views).collect();
    copies[0].totals.denies = 3;
    copies[1].totals.permits = 4;
    let mut other = copies[0].clone();
    other.rule.name = "else".into();
    copies.push(other);
    add_up(&mut listed, copies.iter());
    assert_eq!((listed[0].totals.denies, listed[0].totals.permits), (3, 4));
}
