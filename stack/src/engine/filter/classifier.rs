//! Cut trees over the rules: which is the first to decide about a packet?
//!
//! A rule is a box in five dimensions (addresses, protocol, ports or type and code). A node cuts the space into up to
//! [`WAYS`] slices of one dimension and is one cache line for IPv4; a leaf is a short run of [`Entry`]s in rule
//! order that hold all that most rules ask, so that a search reads no rule. A rule that covers a whole node hides what
//! follows it there: general rules at the end cost nothing.
//!
//! A rule that is wide where a large node is cut would be repeated in most of its slices. It is put off instead to the
//! next tree of the table, where the cuts are made for what was put off. The last tree puts nothing off; a budget
//! bounds memory and time, and what is past it stays together in longer leaves. A search goes down all trees at once:
//! in large tables it is memory that it waits for, and the trees wait together.

mod build;
mod hidden;
#[cfg(test)]
pub(super) use build::{COPIES, LEAF};

use super::{Subject, Upper, asks_upper, scope_allows};
use crate::control::{AddressRange, Direction, FilterAction, FilterRule, PortRange};
use build::Builder;
use std::net::IpAddr;

const DIMENSIONS: usize = 5;
/// Slices of a node.
const WAYS: usize = 8;
/// Trees of a table.
const TREES: usize = 3;
/// In the dimensions of the ports: the packet has neither ports nor a type.
const NO_PORT: u32 = 1 << 16;
/// In the dimensions of the ports: type 0, code 0.
const TYPE: u32 = NO_PORT + 1;
const PORT_END: u32 = TYPE + 255;

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

/// A box in the five dimensions: source, destination, protocol, source port or type, destination port or code.
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

/// What the upper layer of a packet is, as one bit; an entry holds the bits that it accepts.
mod upper {
    /// Ports; not a segment that opens a connection.
    pub(super) const PORTS: u8 = 1;
    /// A segment that opens a connection.
    pub(super) const OPENS: u8 = 1 << 1;
    /// Type and code.
    pub(super) const TYPED: u8 = 1 << 2;
    /// Neither, or not shown.
    pub(super) const NONE: u8 = 1 << 3;
    pub(super) const ANY: u8 = PORTS | OPENS | TYPED | NONE;
}

/// What an entry is beyond its box.
mod flag {
    /// The last of its leaf.
    pub(super) const LAST: u8 = 1;
    /// The rule itself has to be asked: security class, fragments, opaque ones.
    pub(super) const ASK: u8 = 1 << 1;
    /// It ends the search without a match (R7: a fragment that a deny could have meant).
    pub(super) const STOP: u8 = 1 << 2;
}

/// What a rule asks, in half a cache line for IPv4. Ranges are their low end and their length less one.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
struct Entry<A> {
    source: (A, A),
    destination: (A, A),
    /// Of source port or type.
    first: (u16, u16),
    /// Of destination port or code.
    second: (u16, u16),
    rule: u32,
    protocol: u8,
    protocol_mask: u8,
    uppers: u8,
    flags: u8,
}

/// What an entry is compared with.
#[derive(Debug, Clone, Copy)]
struct Values<A> {
    source: A,
    destination: A,
    first: u16,
    second: u16,
    protocol: u8,
    upper: u8,
}

impl<A: Number> Entry<A> {
    fn of(rule: u32, r: &FilterRule, view: View, direction: Direction) -> Self {
        let range = |low, high| (low, high - low);
        let ((first, second), mut uppers) = if view.opaque() {
            ((range(0, u16::MAX), range(0, u16::MAX)), upper::ANY)
        } else if asks_type(r) {
            let side =
                |of: Option<(u8, u8)>| of.map_or(range(0, 255), |(low, high)| range(low.into(), high.into()));
            ((side(r.icmp_type), side(r.icmp_code)), upper::TYPED)
        } else {
            let side = |of: PortRange| range(of.low, of.high);
            let uppers = if asks_ports(r) { upper::PORTS | upper::OPENS } else { upper::ANY };
            ((side(r.source_ports), side(r.destination_ports)), uppers)
        };
        if super::closed_to(r.tcp_qualifier, direction) {
            uppers &= !upper::OPENS;
        }
        let addresses = |of: &AddressRange| {
            let low = A::of(of.low);
            (low, A::of(of.high).minus(low))
        };
        let mut flags = 0;
        if r.security_class != 0 || r.fragments_only || r.opaque {
            flags |= flag::ASK;
        }
        if view.opaque() && asks_upper(r) {
            flags |= flag::STOP;
        }
        Self {
            source: addresses(&r.source),
            destination: addresses(&r.destination),
            first,
            second,
            rule,
            protocol: r.protocol.unwrap_or(0),
            protocol_mask: if r.protocol.is_some() { u8::MAX } else { 0 },
            uppers,
            flags,
        }
    }

    /// The entry of an empty leaf: it matches nothing.
    fn nothing() -> Self {
        Self {
            source: (A::LAST, A::small(0)),
            destination: (A::LAST, A::small(0)),
            first: (0, 0),
            second: (0, 0),
            rule: u32::MAX,
            protocol: 0,
            protocol_mask: 0,
            uppers: 0,
            flags: flag::LAST,
        }
    }

    /// Whether the packet is in the box. All is compared whatever the first comparison says: which of them fails
    /// cannot be foreseen, and a wrong guess costs more than they do.
    fn holds(&self, v: &Values<A>) -> bool {
        (v.source.minus(self.source.0) <= self.source.1)
            & (v.destination.minus(self.destination.0) <= self.destination.1)
            & (v.first.wrapping_sub(self.first.0) <= self.first.1)
            & (v.second.wrapping_sub(self.second.0) <= self.second.1)
            & ((v.protocol ^ self.protocol) & self.protocol_mask == 0)
            & (v.upper & self.uppers != 0)
    }

    /// Its box, for the cuts.
    fn cube(&self) -> Cube<A> {
        let addresses = |(low, length): (A, A)| (low, low.plus(length));
        let side = |(low, length): (u16, u16)| {
            let (low, high) = (u32::from(low), u32::from(low) + u32::from(length));
            match self.uppers & (upper::PORTS | upper::TYPED) {
                upper::PORTS => (A::small(low), A::small(high)),
                upper::TYPED => (A::small(TYPE + low), A::small(TYPE + high)),
                _ => (A::small(0), A::small(PORT_END)),
            }
        };
        let protocol =
            if self.protocol_mask == 0 { (0, 255) } else { (self.protocol.into(), self.protocol.into()) };
        [
            addresses(self.source),
            addresses(self.destination),
            (A::small(protocol.0), A::small(protocol.1)),
            side(self.first),
            side(self.second),
        ]
    }

    /// Whether it decides about whatever is in its box.
    fn hides(&self) -> bool {
        // All but those of one opening side: nothing of a box of ports, of types or of both is left out.
        let whole = [upper::ANY, upper::TYPED, upper::PORTS | upper::OPENS];
        self.flags & flag::ASK == 0 && whole.contains(&self.uppers)
    }

    /// Whether nothing is left for `later` where the box of this one holds its box: who comes so far has the upper
    /// layer that both accept, and nothing else is asked here.
    fn answers_for(&self, later: &Self) -> bool {
        self.flags & flag::ASK == 0 && self.uppers & later.uppers == later.uppers
    }
}

/// Where a slice leads: a node, or with this bit the first entry of a leaf.
const LEAF_BIT: u32 = 1 << 31;

/// A cut: slice `n` holds the values that are greater than `n` of the bounds.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Node<A> {
    bounds: [A; WAYS - 1],
    dimension: u32,
    slices: [u32; WAYS],
}

impl<A: Number> Node<A> {
    fn slice(&self, value: &[A; 8]) -> u32 {
        let value = value[(self.dimension & 7) as usize];
        let n: usize = self.bounds.iter().map(|&b| usize::from(value > b)).sum();
        self.slices[n & (WAYS - 1)]
    }
}

/// The trees of one family, direction and view.
#[derive(Debug)]
struct Table<A> {
    /// Where each tree begins, by first rule.
    trees: Vec<u32>,
    nodes: Vec<Node<A>>,
    /// Of the deepest tree.
    depth: u32,
    /// The leaves; the first of them is the empty one.
    entries: Vec<Entry<A>>,
}

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
        let mut this = Self::default();
        for direction in [Direction::Inbound, Direction::Outbound] {
            for view in VIEWS {
                let number = table_number(direction, view);
                this.v4[number] = Table::build(rules, false, direction, view);
                this.v6[number] = Table::build(rules, true, direction, view);
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
                self.v4[table].as_ref()?.lane(s, source.into(), destination.into()).search(rules, s)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.v6[table].as_ref()?.lane(s, source.into(), destination.into()).search(rules, s)
            }
            // No packet has addresses of two families.
            (IpAddr::V4(_) | IpAddr::V6(_), _) => None,
        }
    }
}

impl<A: Number> Table<A> {
    fn build(rules: &[FilterRule], v6: bool, direction: Direction, view: View) -> Option<Self> {
        let members: Vec<Entry<A>> = rules
            .iter()
            .zip(0..)
            .filter(|(r, _)| r.source.low.is_ipv6() == v6 && r.direction == direction && view.holds(r))
            .map(|(r, rule)| Entry::of(rule, r, view, direction))
            .collect();
        if members.is_empty() { None } else { Some(Builder::new(hidden::without(members)).table()) }
    }

    fn memory(&self) -> usize {
        fn octets<T>(of: &Vec<T>) -> usize {
            of.capacity() * size_of::<T>()
        }
        octets(&self.trees) + octets(&self.nodes) + octets(&self.entries)
    }

    /// Begins a search.
    fn lane(&self, s: &Subject, source: A, destination: A) -> Lane<'_, A> {
        let (first, second, upper, base) = match s.upper {
            Upper::Ports { source, destination, opens } => {
                (source, destination, if opens { upper::OPENS } else { upper::PORTS }, 0)
            }
            Upper::Type { kind, code } => (kind.into(), code.into(), upper::TYPED, TYPE),
            Upper::None | Upper::Opaque => (0, 0, upper::NONE, NO_PORT),
        };
        let values = Values { source, destination, first, second, protocol: s.protocol, upper };
        let [protocol, first, second] =
            [u32::from(s.protocol), base + u32::from(first), base + u32::from(second)].map(A::small);
        let zero = A::small(0);
        self.lane_at([source, destination, protocol, first, second, zero, zero, zero], values)
    }

    fn lane_at(&self, value: [A; 8], values: Values<A>) -> Lane<'_, A> {
        let mut at = [LEAF_BIT; TREES];
        for (at, &root) in at.iter_mut().zip(&self.trees) {
            *at = root;
        }
        Lane { table: self, values, value, at }
    }
}

/// A search under way: where it is in each tree.
struct Lane<'t, A> {
    table: &'t Table<A>,
    values: Values<A>,
    value: [A; 8],
    at: [u32; TREES],
}

impl<A: Number> Lane<'_, A> {
    /// Goes one level down in every tree: what one of them waits for from memory, the others wait for at the same
    /// time. Who is at a leaf stays; that is no branch, it could not be foreseen.
    fn descend(&mut self) {
        for at in &mut self.at[..self.table.trees.len()] {
            let is_leaf = *at & LEAF_BIT != 0;
            let slice = self.table.nodes[if is_leaf { 0 } else { *at as usize }].slice(&self.value);
            *at = if is_leaf { *at } else { slice };
        }
    }

    /// First rules of the leaves.
    fn heads(&self) -> [u32; TREES] {
        self.at.map(|at| self.table.entries[(at & !LEAF_BIT) as usize].rule)
    }

    /// The first rule that decides.
    fn decide(&self, heads: [u32; TREES], rules: &[FilterRule], s: &Subject) -> Option<usize> {
        let (mut best, mut stop) = (u32::MAX, false);
        for (at, head) in self.at.into_iter().zip(heads) {
            if head >= best {
                continue;
            }
            for entry in &self.table.entries[(at & !LEAF_BIT) as usize..] {
                if entry.rule >= best {
                    break;
                }
                if entry.holds(&self.values)
                    && (entry.flags & flag::ASK == 0 || is_asked(&rules[entry.rule as usize], s))
                {
                    (best, stop) = (entry.rule, entry.flags & flag::STOP != 0);
                    break;
                }
                if entry.flags & flag::LAST != 0 {
                    break;
                }
            }
        }
        (best != u32::MAX && !stop).then_some(best as usize)
    }

    /// Whether the box of an entry that comes before `entry`, and answers for it, holds the box of it. The lane is one of
    /// a packet in that box.
    fn hidden(mut self, entry: &Entry<A>) -> bool {
        let cube = entry.cube();
        for _ in 0..self.table.depth {
            self.descend();
        }
        self.at.into_iter().any(|at| {
            let mut rest = &self.table.entries[(at & !LEAF_BIT) as usize..];
            while let Some((before, others)) = rest.split_first().filter(|(e, _)| e.rule < entry.rule) {
                if before.answers_for(entry) && build::covers(&before.cube(), &cube) {
                    return true;
                }
                rest = if before.flags & flag::LAST == 0 { others } else { &[] };
            }
            false
        })
    }

    fn search(mut self, rules: &[FilterRule], s: &Subject) -> Option<usize> {
        for _ in 0..self.table.depth {
            self.descend();
        }
        self.decide(self.heads(), rules, s)
    }
}

/// What a rule asks beyond its box.
fn is_asked(r: &FilterRule, s: &Subject) -> bool {
    (r.security_class == 0 || r.security_class == s.security_class)
        && (!r.fragments_only || s.fragment)
        && (!r.opaque || s.hides_protocol())
}

#[cfg(test)]
impl Classifier {
    pub(super) fn entries(&self) -> usize {
        self.v4.iter().flatten().map(|t| t.entries.len()).sum::<usize>()
            + self.v6.iter().flatten().map(|t| t.entries.len()).sum::<usize>()
    }

    pub(super) fn trees(&self) -> usize {
        self.v4.iter().flatten().map(|t| t.trees.len()).sum::<usize>()
            + self.v6.iter().flatten().map(|t| t.trees.len()).sum::<usize>()
    }

    /// Greatest depth and longest leaf of all IPv4 trees.
    pub(super) fn deepest(&self) -> (usize, usize) {
        fn below(t: &Table<u32>, at: u32) -> (usize, usize) {
            if at & LEAF_BIT != 0 {
                let leaf = &t.entries[(at & !LEAF_BIT) as usize..];
                let last = leaf.iter().position(|e| e.flags & flag::LAST != 0).expect("a leaf ends");
                return (0, last + 1);
            }
            let slices = t.nodes[at as usize].slices;
            slices.iter().map(|&s| below(t, s)).fold((0, 0), |a, b| (a.0.max(b.0 + 1), a.1.max(b.1)))
        }
        let trees = self.v4.iter().flatten().flat_map(|t| t.trees.iter().map(move |&root| below(t, root)));
        trees.fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)))
    }
}
