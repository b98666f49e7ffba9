//! Cut trees over the rules: which is the first to decide about a packet?
//!
//! A rule is a box in four dimensions: the addresses, protocol with source port or type, destination port or code. A node
//! cuts the space into up to [`WAYS`] slices of one dimension and is one cache line for IPv4; a leaf is a short run of
//! [`Entry`]s in rule order, each half a cache line, that hold all that most rules ask, so that a search reads no rule. What
//! stands behind a rule that has all of it is left out, in the whole table and again in each leaf (`hidden.rs`).
//!
//! A rule that is wide where a large node is cut would be repeated in most of its slices. It is put off instead to the
//! next tree of the table, where the cuts are made for what was put off. The last tree puts nothing off; a budget
//! bounds memory and time, and what is past it stays together in longer leaves. A search goes down all trees at once:
//! in large tables it is memory that it waits for, and the trees wait together.

mod build;
mod hidden;
#[cfg(test)]
pub(super) use build::{COPIES, LEAF};

use super::{Step, Subject, Upper, asks_upper, scope_allows, step};
use crate::control::{AddressRange, Direction, FilterAction, FilterRule, PortRange};
use build::Builder;
use std::net::IpAddr;

const DIMENSIONS: usize = 4;
/// The dimension whose lengths have the [`flag`]s in their lowest octet.
const SECOND: usize = 3;
/// Slices of a node.
const WAYS: usize = 8;
/// Trees of a table.
const TREES: usize = 3;
/// The ports, types and codes of a packet stand above an octet that is 0.
const SHIFT: u32 = 8;
/// The kinds of upper layers, above destination port or code.
const PORTS: u32 = 0;
const TYPED: u32 = 1 << 16;
const NEITHER: u32 = 2 << 16;

/// An address as a number, and whatever else is compared in the same width.
trait Number: Copy + Ord + std::fmt::Debug {
    const LAST: Self;
    fn of(a: IpAddr) -> Self;
    fn small(n: u32) -> Self;
    /// The number before; none is asked for that of 0.
    fn before(self) -> Self;
    fn after(self) -> Self;
    /// `self - other`; below zero it goes round.
    fn minus(self, other: Self) -> Self;
    /// `self + other`; they are a low end and a length.
    fn plus(self, other: Self) -> Self;
    /// With these bits set in the lowest octet.
    fn with(self, octet: u8) -> Self;
    fn lowest_octet(self) -> u8;
    /// Digits of it in base 2.
    fn digits(self) -> u32;
}

/// What both widths compute in the same way.
macro_rules! arithmetic {
    () => {
        const LAST: Self = Self::MAX;
        fn before(self) -> Self {
            self - 1
        }
        fn after(self) -> Self {
            self + 1
        }
        fn minus(self, other: Self) -> Self {
            self.wrapping_sub(other)
        }
        fn plus(self, other: Self) -> Self {
            self + other
        }
        fn with(self, octet: u8) -> Self {
            self | Self::from(octet)
        }
        fn lowest_octet(self) -> u8 {
            self.to_le_bytes()[0]
        }
        fn digits(self) -> u32 {
            Self::BITS - self.leading_zeros()
        }
    };
}

impl Number for u32 {
    fn of(a: IpAddr) -> Self {
        match a {
            IpAddr::V4(a) => Self::from(a),
            IpAddr::V6(_) => unreachable!("tables hold one family"),
        }
    }
    fn small(n: u32) -> Self {
        n
    }
    arithmetic!();
}

impl Number for u128 {
    fn of(a: IpAddr) -> Self {
        super::number(a)
    }
    fn small(n: u32) -> Self {
        n.into()
    }
    arithmetic!();
}

/// A point: source, destination, protocol and source port or type, kind and destination port or code.
type Point<A> = [A; DIMENSIONS];
/// A box: both ends of each dimension.
type Cube<A> = [(A, A); DIMENSIONS];

/// Which packets a table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// From or to this host.
    Local,
    /// Forwarded.
    Routed,
    /// As `Local`, a fragment that does not say its ports.
    LocalOpaque,
    /// As `Routed`, a fragment that does not say its ports.
    RoutedOpaque,
}

const VIEWS: [View; 4] = [View::Local, View::Routed, View::LocalOpaque, View::RoutedOpaque];
/// Tables of a family: views in both directions.
const TABLES: usize = 2 * VIEWS.len();

impl View {
    fn of(s: &Subject) -> Self {
        match (s.upper, s.routed) {
            (Upper::Opaque, true) => Self::RoutedOpaque,
            (Upper::Opaque, false) => Self::LocalOpaque,
            (_, true) => Self::Routed,
            (_, false) => Self::Local,
        }
    }

    const fn routed(self) -> bool {
        matches!(self, Self::Routed | Self::RoutedOpaque)
    }

    const fn opaque(self) -> bool {
        matches!(self, Self::LocalOpaque | Self::RoutedOpaque)
    }

    /// Whether a rule can decide about such a packet.
    fn holds(self, r: &FilterRule) -> bool {
        let decides =
            if self.opaque() { r.action != FilterAction::Permit || !asks_upper(r) } else { can_match(r) };
        scope_allows(r.scope, self.routed()) && decides
    }
}

/// A rule that asks for ports and for a type matches no packet that shows its upper layer.
fn can_match(r: &FilterRule) -> bool {
    !(asks_ports(r) && asks_type(r))
}

fn asks_ports(r: &FilterRule) -> bool {
    r.source_ports != PortRange::ANY || r.destination_ports != PortRange::ANY
}

fn asks_type(r: &FilterRule) -> bool {
    r.icmp_type.is_some() || r.icmp_code.is_some()
}

/// What an entry is beyond its box.
mod flag {
    /// The last of its leaf.
    pub(super) const LAST: u8 = 1;
    /// The rule itself has to be asked: security class, fragments, opaque ones, ports of any protocol.
    pub(super) const ASK: u8 = 1 << 1;
    /// It ends the search without a match (R7: a fragment that a deny could have meant).
    pub(super) const STOP: u8 = 1 << 2;
    /// It does not match a segment that opens a connection.
    pub(super) const CLOSED: u8 = 1 << 3;
    pub(super) const ALL: u8 = u8::MAX;
}

/// What a rule asks, in half a cache line for IPv4: the box as low ends and lengths less one, with the flags in the lowest
/// octet of the last length. No packet has anything in that octet, so that they change no comparison.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
struct Entry<A> {
    low: Point<A>,
    length: Point<A>,
}

impl<A: Number> Entry<A> {
    fn of(r: &FilterRule, view: View, direction: Direction) -> Self {
        let asks_upper = !view.opaque() && asks_upper(r);
        let mut flags = 0;
        let (low, high) = match r.protocol {
            Some(p) => {
                let (low, high) = match r.icmp_type {
                    _ if !asks_upper => (0, u16::MAX),
                    Some((low, high)) => (low.into(), high.into()),
                    None => (r.source_ports.low, r.source_ports.high),
                };
                let protocol = u32::from(p) << 16;
                (protocol | u32::from(low), protocol | u32::from(high))
            }
            None => {
                // Ports of any protocol: no range.
                if asks_upper {
                    flags |= flag::ASK;
                }
                (0, u32::MAX >> SHIFT)
            }
        };
        let first = (low << SHIFT, high << SHIFT | 0xff);
        let (low, high) = if !asks_upper {
            (0, u32::MAX >> SHIFT)
        } else if asks_type(r) {
            let (low, high) = r.icmp_code.unwrap_or((0, u8::MAX));
            (TYPED | u32::from(low), TYPED | u32::from(high))
        } else {
            (PORTS | u32::from(r.destination_ports.low), PORTS | u32::from(r.destination_ports.high))
        };
        let second = (low << SHIFT, high << SHIFT);
        if r.security_class != 0 || r.fragments_only || r.opaque {
            flags |= flag::ASK;
        }
        if view.opaque() && super::asks_upper(r) {
            flags |= flag::STOP;
        }
        if !view.opaque() && super::closed_to(r.tcp_qualifier, direction) {
            flags |= flag::CLOSED;
        }
        let addresses = |of: &AddressRange| (A::of(of.low), A::of(of.high));
        let small = |(low, high): (u32, u32)| (A::small(low), A::small(high));
        let ends = [addresses(&r.source), addresses(&r.destination), small(first), small(second)];
        let mut length = ends.map(|(low, high)| high.minus(low));
        length[SECOND] = length[SECOND].with(flags);
        Self { low: ends.map(|(low, _)| low), length }
    }

    /// The entry of an empty leaf: it matches nothing, no packet has this kind of upper layer.
    fn nothing() -> Self {
        let low = [A::small(0), A::small(0), A::small(0), A::small(u32::MAX << SHIFT)];
        Self { low, length: [0, 0, 0, u32::from(flag::LAST)].map(A::small) }
    }

    /// Whether the packet is in the box. All is compared whatever the first comparison says: which of them fails
    /// cannot be foreseen, and a wrong guess costs more than they do.
    fn holds(&self, point: &Point<A>) -> bool {
        let mut outside = false;
        for (value, (low, length)) in point.iter().zip(self.low.iter().zip(&self.length)) {
            outside |= value.minus(*low) > *length;
        }
        !outside
    }

    fn flags(&self) -> u8 {
        self.length[SECOND].lowest_octet()
    }

    /// Its box, for the cuts; all that the lowest octet can be is in it.
    fn cube(&self) -> Cube<A> {
        let mut length = self.length;
        length[SECOND] = length[SECOND].with(flag::ALL);
        std::array::from_fn(|i| (self.low[i], self.low[i].plus(length[i])))
    }

    /// Whether it decides about whatever is in its box.
    fn hides(&self) -> bool {
        self.flags() & (flag::ASK | flag::CLOSED) == 0
    }

    /// Whether nothing is left for `later` where the box of this one holds its box.
    fn answers_for(&self, later: &Self) -> bool {
        self.flags() & (flag::ASK | flag::CLOSED) & !(later.flags() & flag::CLOSED) == 0
    }
}

/// Where a slice leads: with [`LEAF_BIT`] the first entry of a leaf, else a node, its dimension above its place.
type Way = u32;
const LEAF_BIT: Way = 1 << 31;
const DIMENSION: u32 = 29;
const EMPTY: Way = LEAF_BIT;

/// A cut: slice `n` holds the values that are greater than `n` of the bounds, which are in order.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Node<A> {
    /// Nothing is greater than the last one.
    bounds: [A; WAYS],
    slices: [Way; WAYS],
}

impl<A: Number> Node<A> {
    fn new() -> Self {
        Self { bounds: [A::LAST; WAYS], slices: [EMPTY; WAYS] }
    }

    /// In this form the compiler compares all at once, in vector registers.
    fn slice(&self, value: A) -> Way {
        let mut passed = 0;
        for (n, bound) in self.bounds.iter().enumerate() {
            passed |= u32::from(value > *bound) << n;
        }
        self.slices[passed.trailing_ones() as usize % WAYS]
    }
}

/// The trees of one family, direction and view.
#[derive(Debug)]
struct Table<A> {
    /// Where each tree begins, by first rule; what is not there is an empty leaf.
    trees: [Way; TREES],
    /// How many there are.
    count: usize,
    nodes: Vec<Node<A>>,
    /// Of the deepest tree.
    depth: u32,
    /// The leaves; the first of them is the empty one, and so is what follows the last.
    entries: Vec<Entry<A>>,
    /// The rules of the entries.
    rules: Vec<u32>,
}

/// Entries that are compared before it is asked which of them holds the packet: more work than to stop at the first, but
/// where that is cannot be foreseen, and a wrong guess costs more. They may reach into the next leaf. That does no harm:
/// what holds a packet there is a rule that matches it, and the first of all is what is looked for.
const GROUP: usize = 4;

/// The rules as trees.
#[derive(Debug, Default)]
pub struct Classifier {
    /// By direction and view; `None`: no rules there.
    v4: [Option<Table<u32>>; TABLES],
    v6: [Option<Table<u128>>; TABLES],
}

fn table_number(direction: Direction, view: View) -> usize {
    let view = match view {
        View::Local => 0,
        View::Routed => 1,
        View::LocalOpaque => 2,
        View::RoutedOpaque => 3,
    };
    usize::from(direction == Direction::Outbound) | view << 1
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("the budget keeps trees far below 2^31 entries")
}

impl Classifier {
    /// Compiles the rules; indexes that [`Classifier::classify`] gives back are positions in this slice.
    #[must_use]
    pub fn compile(rules: &[FilterRule]) -> Self {
        Self::compile_those(rules, |_| true)
    }

    /// As [`Classifier::compile`], of the rules that are `wanted`: the others match nothing.
    pub(crate) fn compile_those(rules: &[FilterRule], wanted: impl Fn(&FilterRule) -> bool) -> Self {
        let mut this = Self::default();
        for direction in [Direction::Inbound, Direction::Outbound] {
            for view in VIEWS {
                let number = table_number(direction, view);
                this.v4[number] = Table::build(rules, &wanted, false, direction, view);
                this.v6[number] = Table::build(rules, &wanted, true, direction, view);
            }
        }
        this
    }

    /// Octets that the tables take, the rules themselves not counted.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.v4.iter().flatten().map(Table::memory).sum::<usize>()
            + self.v6.iter().flatten().map(Table::memory).sum::<usize>()
    }

    /// The first rule that matches, as its position in the compiled slice; the same as [`super::plain_search`].
    /// `rules` is the slice that was compiled.
    #[must_use]
    pub fn classify(&self, rules: &[FilterRule], s: &Subject) -> Option<usize> {
        let table = table_number(s.direction, View::of(s));
        match (s.source, s.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.v4[table].as_ref()?.search(rules, s, source.into(), destination.into())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.v6[table].as_ref()?.search(rules, s, source.into(), destination.into())
            }
            // No packet has addresses of two families.
            (IpAddr::V4(_) | IpAddr::V6(_), _) => None,
        }
    }
}

impl<A: Number> Table<A> {
    fn build(
        rules: &[FilterRule],
        wanted: impl Fn(&FilterRule) -> bool,
        v6: bool,
        direction: Direction,
        view: View,
    ) -> Option<Self> {
        let is_here = |r: &FilterRule| r.source.low.is_ipv6() == v6 && r.direction == direction;
        let members: Vec<Member<A>> = rules
            .iter()
            .zip(0..)
            .filter(|(r, _)| is_here(r) && view.holds(r) && wanted(r))
            .map(|(r, rule)| Member { rule, entry: Entry::of(r, view, direction) })
            .collect();
        if members.is_empty() { None } else { Some(Builder::new(hidden::without(members)).table()) }
    }

    fn memory(&self) -> usize {
        fn octets<T>(of: &Vec<T>) -> usize {
            of.capacity() * size_of::<T>()
        }
        octets(&self.nodes) + octets(&self.entries) + octets(&self.rules)
    }

    /// The first rule that decides.
    fn search(&self, rules: &[FilterRule], s: &Subject, source: A, destination: A) -> Option<usize> {
        let (first, second, refused) = match s.upper {
            Upper::Ports { source, destination, opens } => {
                (source, PORTS | u32::from(destination), if opens { flag::CLOSED } else { 0 })
            }
            Upper::Type { kind, code } => (kind.into(), TYPED | u32::from(code), 0),
            Upper::None | Upper::Opaque => (0, NEITHER, 0),
        };
        let first = u32::from(s.protocol) << 16 | u32::from(first);
        let point = [source, destination, A::small(first << SHIFT), A::small(second << SHIFT)];
        // How many trees there are is known here, so that small tables do not pay for what large ones need.
        let (rule, flags) = match self.count {
            1 => self.decide(self.leaves::<1>(&point), &point, refused, rules, s),
            2 => self.decide(self.leaves::<2>(&point), &point, refused, rules, s),
            _ => self.decide(self.leaves::<TREES>(&point), &point, refused, rules, s),
        };
        (rule != u32::MAX && flags & flag::STOP == 0).then_some(rule as usize)
    }

    /// Where the leaves of a point begin. Goes one level down in every tree at a time: what one of them waits for from
    /// memory, the others wait for at the same time. Who is at a leaf stays: a branch, because to foresee wrongly where a
    /// leaf is costs less than to go down all trees as far as the deepest.
    fn leaves<const N: usize>(&self, point: &Point<A>) -> [usize; N] {
        let mut ways: [Way; N] = std::array::from_fn(|tree| self.trees[tree]);
        for _ in 0..self.depth {
            for way in &mut ways {
                if *way & LEAF_BIT == 0 {
                    let value = point[(*way >> DIMENSION) as usize % DIMENSIONS];
                    *way = self.nodes[(*way & !(u32::MAX << DIMENSION)) as usize].slice(value);
                }
            }
        }
        ways.map(|way| (way & !LEAF_BIT) as usize)
    }

    /// The first rule that decides among these leaves, and its flags.
    fn decide<const N: usize>(
        &self,
        leaves: [usize; N],
        point: &Point<A>,
        refused: u8,
        rules: &[FilterRule],
        s: &Subject,
    ) -> (u32, u8) {
        let decides = |at: usize| {
            let flags = self.entries[at].flags();
            flags & refused == 0
                && (flags & flag::ASK == 0 || step(&rules[self.rules[at] as usize], s) != Step::Next)
        };
        let (mut best, mut flags) = (u32::MAX, 0);
        for mut at in leaves {
            while let Some(group) = self.entries[at..].first_chunk::<GROUP>() {
                let (mut holding, mut all) = (0_u32, 0);
                for (n, entry) in group.iter().enumerate() {
                    holding |= u32::from(entry.holds(point)) << n;
                    all |= entry.flags();
                }
                while holding != 0 && !decides(at + holding.trailing_zeros() as usize) {
                    holding &= holding - 1;
                }
                if holding != 0 {
                    let found = at + holding.trailing_zeros() as usize;
                    if self.rules[found] < best {
                        (best, flags) = (self.rules[found], self.entries[found].flags());
                    }
                    break;
                }
                if all & flag::LAST != 0 {
                    break;
                }
                at += GROUP;
            }
        }
        (best, flags)
    }

    /// Whether a rule before `member` that answers for it has a box that holds its box: if so, it is in a leaf of each
    /// of its corners.
    fn hides(&self, member: &Member<A>) -> bool {
        let cube = member.entry.cube();
        self.leaves::<TREES>(&member.entry.low).into_iter().any(|leaf| {
            for (entry, &rule) in self.entries[leaf..].iter().zip(&self.rules[leaf..]) {
                if rule >= member.rule {
                    break;
                }
                if entry.answers_for(&member.entry) && build::covers(&entry.cube(), &cube) {
                    return true;
                }
                if entry.flags() & flag::LAST != 0 {
                    break;
                }
            }
            false
        })
    }
}

/// A rule of a table that is being built.
#[derive(Debug, Clone, Copy)]
struct Member<A> {
    rule: u32,
    entry: Entry<A>,
}

#[cfg(test)]
impl Classifier {
    pub(super) fn entries(&self) -> usize {
        self.v4.iter().flatten().map(|t| t.entries.len()).sum::<usize>()
            + self.v6.iter().flatten().map(|t| t.entries.len()).sum::<usize>()
    }

    pub(super) fn trees(&self) -> usize {
        self.v4.iter().flatten().map(|t| t.count).sum::<usize>()
            + self.v6.iter().flatten().map(|t| t.count).sum::<usize>()
    }

    /// Greatest depth and longest leaf of all IPv4 trees.
    pub(super) fn deepest(&self) -> (usize, usize) {
        fn below(t: &Table<u32>, at: u32) -> (usize, usize) {
            if at & LEAF_BIT != 0 {
                let leaf = &t.entries[(at & !LEAF_BIT) as usize..];
                let last = leaf.iter().position(|e| e.flags() & flag::LAST != 0).expect("a leaf ends");
                return (0, last + 1);
            }
            let slices = t.nodes[(at & !(u32::MAX << DIMENSION)) as usize].slices;
            slices.iter().map(|&s| below(t, s)).fold((0, 0), |a, b| (a.0.max(b.0 + 1), a.1.max(b.1)))
        }
        let trees = self.v4.iter().flatten().flat_map(|t| t.trees.iter().map(move |&root| below(t, root)));
        trees.fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)))
    }
}
