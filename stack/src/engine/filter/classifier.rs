//! Decision trees over the rules: which is the first to decide about a packet?
//!
//! Each inner node halves one of five dimensions (addresses, protocol, ports); a leaf is a short list in rule
//! order, with what a rule asks of those dimensions beside it, so that most rules are judged without being read. A
//! rule that covers a whole node hides what follows it there: general rules at the end cost nothing.
//!
//! Rules that are wide in one address and narrow in the other, and rules the other way round, would be repeated in
//! each other's every leaf. When a budget says that this happens, they are parted into up to four trees, by the
//! addresses in which they are wide; a search goes through the trees with the best position so far as its
//! bound. The budget also bounds memory and time: what is past it stays together in longer leaves.

use super::{Step, Subject, Upper, asks_upper, is_unconditional, number, scope_allows, step};
use crate::control::{AddressRange, Direction, FilterAction, FilterRule, PortRange};
use std::net::IpAddr;

const DIMENSIONS: usize = 5;
/// Rules that a leaf may hold before it is split.
pub(super) const LEAF: usize = 6;
/// Entries in leaves that a rule may cause on average, in one tree for all and in trees apart.
const REPEATS_TOGETHER: usize = 6;
const REPEATS_APART: usize = 12;
/// Tables up to this size are always one tree.
const SMALL: usize = 64;
/// A rule is wide in an address when it holds more than this part of the ends of the other rules.
const WIDE_PART: usize = 32;
/// A port that no range but "any" contains: the packet has no ports.
const NO_PORT: u128 = 1 << 16;

/// A box in the five dimensions: source, destination, protocol, source port, destination port.
type Cube = [(u128, u128); DIMENSIONS];

fn port_side(p: PortRange) -> (u128, u128) {
    if p == PortRange::ANY { (0, NO_PORT) } else { (u128::from(p.low), u128::from(p.high)) }
}

fn address_side(a: &AddressRange) -> (u128, u128) {
    (number(a.low), number(a.high))
}

/// The box of a rule; for packets without an upper layer it has no ports.
fn cube_of(r: &FilterRule, view: View) -> Cube {
    let ports = |p| if view == View::Opaque { (0, NO_PORT) } else { port_side(p) };
    [
        address_side(&r.source),
        address_side(&r.destination),
        r.protocol.map_or((0, 255), |p| (u128::from(p), u128::from(p))),
        ports(r.source_ports),
        ports(r.destination_ports),
    ]
}

/// Which packets a table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// From or to this host.
    Local,
    /// Forwarded.
    Routed,
    /// Forwarded or not, a fragment that does not say its ports.
    Opaque,
}

const VIEWS: [View; 3] = [View::Local, View::Routed, View::Opaque];

impl View {
    fn of(s: &Subject) -> Self {
        match (s.upper, s.routed) {
            (Upper::Opaque, _) => Self::Opaque,
            (_, true) => Self::Routed,
            (_, false) => Self::Local,
        }
    }

    /// Whether a rule can decide about such a packet.
    fn holds(self, r: &FilterRule) -> bool {
        match self {
            Self::Local => scope_allows(r.scope, false),
            Self::Routed => scope_allows(r.scope, true),
            Self::Opaque => r.action != FilterAction::Permit || !asks_upper(r),
        }
    }

    /// Whether the box alone says that a rule decides about such a packet.
    fn is_box(self, r: &FilterRule) -> bool {
        self != Self::Opaque && is_unconditional(r)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Node {
    /// `value[dimension] <= at`: `left`, else the node after it.
    Split { dimension: u8, at: u128, left: u32 },
    /// Entries `start .. start + len` of the leaves, in rule order.
    Leaf { start: u32, len: u32 },
}

/// What a rule asks of the five dimensions, in as few octets as the family allows.
#[derive(Debug, Clone, Copy)]
struct Check<A> {
    source: (A, A),
    destination: (A, A),
    source_ports: PortRange,
    destination_ports: PortRange,
    protocol: Option<u8>,
    /// That is all it asks.
    is_all: bool,
}

/// The five values of a packet.
struct Values<A> {
    source: A,
    destination: A,
    protocol: u8,
    ports: Option<(u16, u16)>,
}

impl<A: Copy + PartialOrd> Check<A> {
    fn of(r: &FilterRule, view: View, address: impl Fn(IpAddr) -> A) -> Self {
        let ports = |p| if view == View::Opaque { PortRange::ANY } else { p };
        Self {
            source: (address(r.source.low), address(r.source.high)),
            destination: (address(r.destination.low), address(r.destination.high)),
            source_ports: ports(r.source_ports),
            destination_ports: ports(r.destination_ports),
            protocol: r.protocol,
            is_all: view.is_box(r),
        }
    }

    fn holds(&self, v: &Values<A>) -> bool {
        let ports = match v.ports {
            Some((s, d)) => self.source_ports.contains(s) && self.destination_ports.contains(d),
            None => self.source_ports == PortRange::ANY && self.destination_ports == PortRange::ANY,
        };
        self.source.0 <= v.source
            && v.source <= self.source.1
            && self.destination.0 <= v.destination
            && v.destination <= self.destination.1
            && self.protocol.is_none_or(|p| p == v.protocol)
            && ports
    }
}

/// The rules that a tree leads to, by family.
#[derive(Debug)]
enum Checks {
    V4(Vec<Check<u32>>),
    V6(Vec<Check<u128>>),
}

/// One tree, and the first rule in it.
#[derive(Debug, Clone, Copy)]
struct Tree {
    root: u32,
    first: u32,
}

/// The trees of one family, direction and view.
#[derive(Debug)]
struct Table {
    /// By first rule.
    trees: Vec<Tree>,
    nodes: Vec<Node>,
    /// Places in `members` and `checks`.
    leaves: Vec<u32>,
    /// Positions of the rules in the compiled slice, ascending.
    members: Vec<u32>,
    checks: Checks,
}

/// The rules and the trees that lead to them.
#[derive(Debug, Default)]
pub struct Classifier {
    /// By family, direction and view; `None`: no rules there.
    tables: [Option<Table>; 12],
}

fn table_number(v6: bool, direction: Direction, view: View) -> usize {
    let view = match view {
        View::Local => 0,
        View::Routed => 1,
        View::Opaque => 2,
    };
    usize::from(v6) | usize::from(direction == Direction::Outbound) << 1 | view << 2
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("the budget keeps trees far below 2^32 nodes")
}

fn v4_number(a: IpAddr) -> u32 {
    match a {
        IpAddr::V4(a) => u32::from(a),
        IpAddr::V6(_) => unreachable!("tables hold one family"),
    }
}

impl Classifier {
    /// Compiles the rules; indexes that [`Classifier::classify`] gives back are positions in this slice.
    #[must_use]
    pub fn compile(rules: &[FilterRule]) -> Self {
        let mut this = Self::default();
        for v6 in [false, true] {
            for direction in [Direction::Inbound, Direction::Outbound] {
                for view in VIEWS {
                    let members: Vec<u32> = (0..rules.len())
                        .filter(|&i| {
                            let r = &rules[i];
                            r.source.low.is_ipv6() == v6 && r.direction == direction && view.holds(r)
                        })
                        .map(index)
                        .collect();
                    if !members.is_empty() {
                        this.tables[table_number(v6, direction, view)] =
                            Some(Table::build(rules, members, v6, view));
                    }
                }
            }
        }
        this
    }

    /// Octets that the tables take, the rules themselves not counted.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.tables.iter().flatten().map(Table::memory).sum()
    }

    /// The first rule that matches, as its position in the compiled slice; the same as [`super::plain_search`].
    /// `rules` is the slice that was compiled.
    #[must_use]
    pub fn classify(&self, rules: &[FilterRule], s: &Subject) -> Option<usize> {
        let table = self.tables[table_number(s.source.is_ipv6(), s.direction, View::of(s))].as_ref()?;
        let ports = match s.upper {
            Upper::Ports { source, destination, .. } => Some((source, destination)),
            Upper::Type { .. } | Upper::None | Upper::Opaque => None,
        };
        match (&table.checks, s.source, s.destination) {
            (Checks::V4(checks), IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (u32::from(source), u32::from(destination));
                table.search(checks, rules, s, &Values { source, destination, protocol: s.protocol, ports })
            }
            (Checks::V6(checks), IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (source, destination) = (u128::from(source), u128::from(destination));
                table.search(checks, rules, s, &Values { source, destination, protocol: s.protocol, ports })
            }
            // No packet has addresses of two families.
            (Checks::V4(_) | Checks::V6(_), _, _) => None,
        }
    }

    #[cfg(test)]
    pub(super) fn leaf_entries(&self) -> usize {
        self.tables.iter().flatten().map(|t| t.leaves.len()).sum()
    }

    #[cfg(test)]
    pub(super) fn trees(&self) -> usize {
        self.tables.iter().flatten().map(|t| t.trees.len()).sum()
    }

    /// Greatest depth and longest leaf of all trees.
    #[cfg(test)]
    pub(super) fn deepest(&self) -> (usize, usize) {
        fn below(t: &Table, at: u32) -> (usize, usize) {
            match t.nodes[at as usize] {
                Node::Leaf { len, .. } => (0, len as usize),
                Node::Split { left, .. } => {
                    let (a, b) = (below(t, left), below(t, left + 1));
                    (1 + a.0.max(b.0), a.1.max(b.1))
                }
            }
        }
        let trees = self.tables.iter().flatten().flat_map(|t| t.trees.iter().map(move |r| below(t, r.root)));
        trees.fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)))
    }
}

impl Table {
    fn build(rules: &[FilterRule], members: Vec<u32>, v6: bool, view: View) -> Self {
        let of = |i: &u32| &rules[*i as usize];
        let checks = if v6 {
            Checks::V6(members.iter().map(|i| Check::of(of(i), view, number)).collect())
        } else {
            Checks::V4(members.iter().map(|i| Check::of(of(i), view, v4_number)).collect())
        };
        let whole = if v6 { (0, u128::MAX) } else { (0, u128::from(u32::MAX)) };
        let mut builder = Builder {
            cubes: members.iter().map(|i| cube_of(of(i), view)).collect(),
            hides: members.iter().map(|i| view.is_box(of(i))).collect(),
            world: [whole, whole, (0, 255), (0, NO_PORT), (0, NO_PORT)],
            nodes: Vec::new(),
            leaves: Vec::new(),
        };
        let all: Vec<u32> = (0..index(members.len())).collect();
        let mut trees = vec![Tree { root: 0, first: 0 }];
        if !builder.grow(all, REPEATS_TOGETHER) && members.len() > SMALL {
            builder.nodes.clear();
            builder.leaves.clear();
            trees.clear();
            for group in builder.parted().into_iter().filter(|g| !g.is_empty()) {
                trees.push(Tree { root: index(builder.nodes.len()), first: group[0] });
                builder.grow(group, REPEATS_APART);
            }
            trees.sort_unstable_by_key(|t| t.first);
        }
        let Builder { mut nodes, mut leaves, .. } = builder;
        nodes.shrink_to_fit();
        leaves.shrink_to_fit();
        Self { trees, nodes, leaves, members, checks }
    }

    fn memory(&self) -> usize {
        fn octets<T>(of: &Vec<T>) -> usize {
            of.capacity() * size_of::<T>()
        }
        let checks = match &self.checks {
            Checks::V4(c) => octets(c),
            Checks::V6(c) => octets(c),
        };
        octets(&self.trees) + octets(&self.nodes) + octets(&self.leaves) + octets(&self.members) + checks
    }

    fn search<A: Copy + PartialOrd + Into<u128>>(
        &self,
        checks: &[Check<A>],
        rules: &[FilterRule],
        s: &Subject,
        values: &Values<A>,
    ) -> Option<usize> {
        let ports = values.ports.map_or((NO_PORT, NO_PORT), |(a, b)| (u128::from(a), u128::from(b)));
        let value: [u128; DIMENSIONS] =
            [values.source.into(), values.destination.into(), u128::from(values.protocol), ports.0, ports.1];
        let (mut best, mut matched) = (u32::MAX, false);
        for tree in &self.trees {
            if tree.first >= best {
                break;
            }
            for &i in self.leaf(tree.root, &value) {
                if i >= best {
                    break;
                }
                let check = &checks[i as usize];
                if !check.holds(values) {
                    continue;
                }
                let found = if check.is_all {
                    Step::Match
                } else {
                    step(&rules[self.members[i as usize] as usize], s)
                };
                if found != Step::Next {
                    (best, matched) = (i, found == Step::Match);
                    break;
                }
            }
        }
        matched.then(|| self.members[best as usize] as usize)
    }

    fn leaf(&self, root: u32, value: &[u128; DIMENSIONS]) -> &[u32] {
        let mut place = root;
        loop {
            match self.nodes[place as usize] {
                Node::Split { dimension, at, left } => {
                    place = left + u32::from(value[dimension as usize] > at);
                }
                Node::Leaf { start, len } => return &self.leaves[start as usize..][..len as usize],
            }
        }
    }
}

/// Grows the trees of one table; rules are places in `cubes`.
struct Builder {
    cubes: Vec<Cube>,
    /// Rules that decide about whatever is in their box.
    hides: Vec<bool>,
    world: Cube,
    nodes: Vec<Node>,
    leaves: Vec<u32>,
}

/// A node that is still to be made.
struct Todo {
    place: u32,
    cube: Cube,
    list: Vec<u32>,
    /// Entries that its leaves may hold beyond those of the list.
    budget: usize,
}

const EMPTY: Node = Node::Leaf { start: 0, len: 0 };

impl Builder {
    /// Grows one tree over `list`. False if the budget left leaves longer than they should be.
    fn grow(&mut self, list: Vec<u32>, repeats: usize) -> bool {
        let mut within_budget = true;
        let root = index(self.nodes.len());
        self.nodes.push(EMPTY);
        let budget = list.len() * repeats + SMALL;
        let mut todo = vec![Todo { place: root, cube: self.world, list, budget }];
        while let Some(Todo { place, cube, mut list, budget }) = todo.pop() {
            let hiding = |&r: &u32| self.hides[r as usize] && covers(&self.cubes[r as usize], &cube);
            if let Some(last) = list.iter().position(hiding) {
                list.truncate(last + 1);
            }
            let split = if list.len() > LEAF { best_split(&self.cubes, &cube, &list) } else { None };
            let affordable = split.filter(|s| s.left + s.right <= list.len() + budget);
            let Some(split) = affordable else {
                within_budget &= list.len() <= 2 * LEAF;
                let start = index(self.leaves.len());
                self.leaves.extend_from_slice(&list);
                self.nodes[place as usize] = Node::Leaf { start, len: index(list.len()) };
                continue;
            };
            let (low, high) = halves(&cube, split.dimension, split.at);
            let part = |half: &Cube| -> Vec<u32> {
                let meets = |&r: &u32| meets(&self.cubes[r as usize], half, split.dimension);
                list.iter().copied().filter(meets).collect()
            };
            let (left_list, right_list) = (part(&low), part(&high));
            // What remains is shared by length, so that one side cannot take it all.
            let rest = (list.len() + budget).saturating_sub(split.left + split.right);
            let left_budget = rest * split.left / (split.left + split.right).max(1);
            let left = index(self.nodes.len());
            self.nodes.extend([EMPTY, EMPTY]);
            let dimension = u8::try_from(split.dimension).expect("five dimensions");
            self.nodes[place as usize] = Node::Split { dimension, at: split.at, left };
            todo.push(Todo { place: left, cube: low, list: left_list, budget: left_budget });
            todo.push(Todo { place: left + 1, cube: high, list: right_list, budget: rest - left_budget });
        }
        within_budget
    }

    /// The rules by the addresses in which they are wide.
    fn parted(&self) -> [Vec<u32>; 4] {
        let wide: [Vec<bool>; 2] = [0, 1].map(|dimension| {
            let mut ends: Vec<u128> =
                self.cubes.iter().flat_map(|c| [c[dimension].0, c[dimension].1]).collect();
            ends.sort_unstable();
            ends.dedup();
            let limit = (ends.len() / WIDE_PART).max(2);
            let inside = |(low, high): (u128, u128)| {
                ends.partition_point(|&e| e <= high) - ends.partition_point(|&e| e < low)
            };
            self.cubes.iter().map(|c| inside(c[dimension]) > limit).collect()
        });
        let mut groups: [Vec<u32>; 4] = Default::default();
        for i in 0..self.cubes.len() {
            groups[usize::from(wide[0][i]) | usize::from(wide[1][i]) << 1].push(index(i));
        }
        groups
    }
}

struct Split {
    dimension: usize,
    at: u128,
    left: usize,
    right: usize,
}

fn covers(rule: &Cube, cube: &Cube) -> bool {
    rule.iter().zip(cube).all(|(r, c)| r.0 <= c.0 && c.1 <= r.1)
}

fn meets(rule: &Cube, half: &Cube, dimension: usize) -> bool {
    rule[dimension].0 <= half[dimension].1 && half[dimension].0 <= rule[dimension].1
}

fn halves(cube: &Cube, dimension: usize, at: u128) -> (Cube, Cube) {
    let (mut low, mut high) = (*cube, *cube);
    low[dimension].1 = at;
    high[dimension].0 = at + 1;
    (low, high)
}

/// The dimension whose middle boundary leaves the shorter lists; `None` if no cut is worth a node.
fn best_split(cubes: &[Cube], cube: &Cube, list: &[u32]) -> Option<Split> {
    let mut best: Option<Split> = None;
    let mut boundaries = Vec::with_capacity(list.len() * 2);
    for dimension in 0..DIMENSIONS {
        boundaries.clear();
        let (low, high) = cube[dimension];
        for &r in list {
            let (from, to) = cubes[r as usize][dimension];
            if from > low && from <= high {
                boundaries.push(from - 1);
            }
            if to >= low && to < high {
                boundaries.push(to);
            }
        }
        if boundaries.is_empty() {
            continue;
        }
        let middle = boundaries.len() / 2;
        let at = *boundaries.select_nth_unstable(middle).1;
        let left = list.iter().filter(|&&r| cubes[r as usize][dimension].0 <= at).count();
        let right = list.iter().filter(|&&r| cubes[r as usize][dimension].1 > at).count();
        let longer = left.max(right);
        if best.as_ref().is_none_or(|b| (longer, left + right) < (b.left.max(b.right), b.left + b.right)) {
            best = Some(Split { dimension, at, left, right });
        }
    }
    // A cut that takes away less than a sixteenth would only make the tree deep.
    best.filter(|b| b.left.max(b.right) + (list.len() / 16).max(1) <= list.len())
}
