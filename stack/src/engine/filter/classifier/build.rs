//! Growing the trees of one table.

use super::{
    Cube, DIMENSION, DIMENSIONS, EMPTY, Entry, GROUP, LEAF_BIT, Member, Node, Number, SECOND, TREES, Table,
    WAYS, Way, flag, index,
};
use std::collections::VecDeque;

/// Entries that a leaf may hold before it is cut.
pub(in super::super) const LEAF: usize = 8;
/// Nodes of fewer rules put none off: copies of a few rules cost less than another tree.
const PUT_OFF: usize = 256;
/// A rule that goes on for so many slices beyond its first is put off.
const SPAN: usize = 3;
/// In lists of so many rules each is compared with those before it: it may be hidden there.
const COMPARED: usize = 64;
/// Copies of a rule in leaves, on average over the table.
pub(in super::super) const COPIES: usize = 4;
/// Copies that every table may have beyond that.
const SMALL: usize = 64;
/// Rules of a large node whose ends are looked at to place its cuts.
const SAMPLE: usize = 1_024;
/// A cut has to leave lists that are so much shorter.
const WORTH: f64 = 0.9;
/// What a rule that is put off costs, in rules of the node: the search for it begins anew.
const PUT_OFF_COST: f64 = 0.5;
/// A table is at most so deep: what is left there is one leaf.
const DEPTH: u32 = 32;

/// Grows the trees of one table; rules are places in `members`.
pub(super) struct Builder<A> {
    members: Vec<Member<A>>,
    cubes: Vec<Cube<A>>,
    nodes: Vec<Node<A>>,
    depth: u32,
    entries: Vec<Entry<A>>,
    rules: Vec<u32>,
}

/// A slice that still leads nowhere.
struct Todo<A> {
    /// The node and which of its slices; `None`: the root.
    at: Option<(u32, usize)>,
    cube: Cube<A>,
    list: Vec<u32>,
    /// Entries that its leaves may hold beyond those of the list.
    budget: usize,
    depth: u32,
}

/// A way to cut a node.
struct Cut<A> {
    dimension: usize,
    bounds: Vec<A>,
    /// Rules in each slice.
    sizes: [usize; WAYS],
    cost: f64,
}

impl<A: Number> Builder<A> {
    pub(super) fn new(members: Vec<Member<A>>) -> Self {
        let cubes = members.iter().map(|m| m.entry.cube()).collect();
        let (entries, rules) = (vec![Entry::nothing()], vec![u32::MAX]);
        Self { members, cubes, nodes: Vec::new(), depth: 0, entries, rules }
    }

    pub(super) fn table(mut self) -> Table<A> {
        let mut list: Vec<u32> = (0..index(self.members.len())).collect();
        let mut trees = Vec::new();
        let limit = list.len() * COPIES + SMALL;
        while let Some(&first) = list.first() {
            let may_put_off = trees.len() + 1 < TREES;
            let mut put_off = Vec::new();
            let rule = self.members[first as usize].rule;
            let root = self.grow(list, limit, may_put_off.then_some(&mut put_off));
            trees.push((root, rule));
            put_off.sort_unstable();
            put_off.dedup();
            list = put_off;
        }
        trees.sort_unstable_by_key(|&(_, rule)| rule);
        let count = trees.len();
        let mut roots = [EMPTY; TREES];
        for (at, (root, _)) in roots.iter_mut().zip(trees) {
            *at = root;
        }
        let Self { mut nodes, depth, mut entries, mut rules, .. } = self;
        // A search compares so many entries at once.
        for _ in 1..GROUP {
            entries.push(Entry::nothing());
            rules.push(u32::MAX);
        }
        nodes.shrink_to_fit();
        entries.shrink_to_fit();
        rules.shrink_to_fit();
        // A search that is at its leaf reads some node all the same.
        if nodes.is_empty() {
            nodes.push(Node::new());
        }
        Table { trees: roots, count, nodes, depth, entries, rules }
    }

    /// Grows one tree, nodes of one depth beside each other, and says where it begins.
    fn grow(&mut self, list: Vec<u32>, limit: usize, mut put_off: Option<&mut Vec<u32>>) -> Way {
        let (address, port) = ((A::small(0), A::LAST), (A::small(0), A::small(u32::MAX)));
        let cube = [address, address, port, port];
        let budget = limit.saturating_sub(self.entries.len() + list.len());
        // A tree that puts rules off leaves something for them.
        let budget = if put_off.is_some() { budget / 2 } else { budget };
        let mut todo = VecDeque::from([Todo { at: None, cube, list, budget, depth: 0 }]);
        let mut root = EMPTY;
        while let Some(mut next) = todo.pop_front() {
            let place = self.place(&mut next, put_off.as_deref_mut(), &mut todo);
            match next.at {
                Some((node, slice)) => self.nodes[node as usize].slices[slice] = place,
                None => root = place,
            }
        }
        root
    }

    /// Makes a leaf or a node.
    fn place(
        &mut self,
        next: &mut Todo<A>,
        put_off: Option<&mut Vec<u32>>,
        todo: &mut VecDeque<Todo<A>>,
    ) -> Way {
        let Todo { cube, list, budget, depth, .. } = next;
        let hiding =
            |&r: &u32| self.members[r as usize].entry.hides() && covers(&self.cubes[r as usize], cube);
        if let Some(last) = list.iter().position(hiding) {
            list.truncate(last + 1);
        }
        if list.len() <= COMPARED {
            self.drop_hidden(cube, list);
        }
        let may_put_off = put_off.is_some() && list.len() > PUT_OFF;
        let cut =
            if list.len() > LEAF && *depth < DEPTH { self.best_cut(cube, list, may_put_off) } else { None };
        let copies = |c: &Cut<A>| c.sizes.iter().sum::<usize>();
        let Some(cut) = cut.filter(|c| copies(c) <= list.len() + *budget) else {
            return self.leaf(list);
        };
        let mut slices: Vec<Vec<u32>> = cut.sizes.iter().map(|&n| Vec::with_capacity(n)).collect();
        let mut off = Vec::new();
        for &r in &*list {
            let (low, high) = self.cubes[r as usize][cut.dimension];
            let (from, to) = (slice_of(&cut.bounds, low), slice_of(&cut.bounds, high));
            if may_put_off && to - from >= SPAN {
                off.push(r);
            } else {
                slices[from..=to].iter_mut().for_each(|s| s.push(r));
            }
        }
        let total = copies(&cut);
        let rest = (list.len() + *budget).saturating_sub(total + off.len());
        if let Some(put_off) = put_off {
            put_off.append(&mut off);
        }
        let node = index(self.nodes.len());
        let mut made = Node::new();
        let (mut low, last) = cube[cut.dimension];
        let mut n = 0;
        let mut slices = slices.into_iter().take(cut.bounds.len() + 1).enumerate().peekable();
        while let Some((i, list)) = slices.next() {
            // Neighbours that hold the same rules are one slice.
            if slices.peek().is_some_and(|(_, following)| *following == list) {
                continue;
            }
            let high = cut.bounds.get(i).copied().unwrap_or(last);
            if n < WAYS - 1 && i < cut.bounds.len() {
                made.bounds[n] = high;
            }
            let mut inner = *cube;
            inner[cut.dimension] = (low, high);
            if !list.is_empty() {
                // What remains is shared by length, so that one slice cannot take it all.
                let budget = rest * list.len() / total.max(1);
                todo.push_back(Todo { at: Some((node, n)), cube: inner, list, budget, depth: *depth + 1 });
            }
            n += 1;
            if i < cut.bounds.len() {
                low = high.after();
            }
        }
        self.depth = self.depth.max(*depth + 1);
        self.nodes.push(made);
        index(cut.dimension) << DIMENSION | node
    }

    /// Drops the rules of a short list that are hidden in this cube by a rule before them.
    fn drop_hidden(&self, cube: &Cube<A>, list: &mut Vec<u32>) {
        let mut kept: Vec<(u32, Cube<A>)> = Vec::with_capacity(list.len());
        list.retain(|&r| {
            let entry = &self.members[r as usize].entry;
            let inside = clip(&self.cubes[r as usize], cube);
            let hides = |(before, outer): &(u32, Cube<A>)| {
                covers(outer, &inside) && self.members[*before as usize].entry.answers_for(entry)
            };
            let keep = !kept.iter().any(hides);
            if keep {
                kept.push((r, inside));
            }
            keep
        });
    }

    fn leaf(&mut self, list: &[u32]) -> Way {
        let start = index(self.entries.len());
        for &r in list {
            let Member { rule, entry } = self.members[r as usize];
            self.entries.push(entry);
            self.rules.push(rule);
        }
        match self.entries.last_mut() {
            Some(last) if !list.is_empty() => {
                last.length[SECOND] = last.length[SECOND].with(flag::LAST);
                start | LEAF_BIT
            }
            _ => EMPTY,
        }
    }

    /// The cut after which the lists are shortest; `None` if no cut is worth a node.
    fn best_cut(&self, cube: &Cube<A>, list: &[u32], may_put_off: bool) -> Option<Cut<A>> {
        let best = (0..DIMENSIONS)
            .filter_map(|dimension| self.cut(dimension, cube, list, may_put_off))
            .min_by(|a, b| a.cost.total_cmp(&b.cost))?;
        (best.cost < list.len() as f64 * WORTH).then_some(best)
    }

    fn cut(&self, dimension: usize, cube: &Cube<A>, list: &[u32], may_put_off: bool) -> Option<Cut<A>> {
        let (low, high) = cube[dimension];
        let mut ends: Vec<A> = Vec::with_capacity(2 * list.len().min(SAMPLE + 1));
        for &r in list.iter().step_by(list.len().div_ceil(SAMPLE)) {
            let (from, to) = self.cubes[r as usize][dimension];
            if from > low && from <= high {
                ends.push(from.before());
            }
            if to >= low && to < high {
                ends.push(to);
            }
        }
        ends.sort_unstable();
        let mut bounds: Vec<A> = (1..WAYS).filter_map(|i| ends.get(i * ends.len() / WAYS)).copied().collect();
        bounds.dedup();
        if bounds.is_empty() {
            return None;
        }
        let (mut steps, mut put_off) = ([0_isize; WAYS + 1], 0);
        for &r in list {
            let (from, to) = self.cubes[r as usize][dimension];
            let (from, to) = (slice_of(&bounds, from), slice_of(&bounds, to));
            if may_put_off && to - from >= SPAN {
                put_off += 1;
            } else {
                steps[from] += 1;
                steps[to + 1] -= 1;
            }
        }
        let mut sizes = [0; WAYS];
        let mut open = 0_isize;
        for (size, step) in sizes.iter_mut().zip(steps) {
            open += step;
            *size = open.unsigned_abs();
        }
        let (mut total, mut squares) = (0.0, 0.0);
        for n in sizes {
            total += n as f64;
            squares += (n * n) as f64;
        }
        let kept = (list.len() - put_off) as f64;
        // The mean length of the lists as rules see it; a third power of copies for one of length.
        let cost = squares / total * (total / kept).cbrt() + put_off as f64 * PUT_OFF_COST;
        Some(Cut { dimension, bounds, sizes, cost })
    }
}

fn slice_of<A: Ord>(bounds: &[A], value: A) -> usize {
    bounds.iter().map(|b| usize::from(value > *b)).sum()
}

fn clip<A: Number>(rule: &Cube<A>, cube: &Cube<A>) -> Cube<A> {
    std::array::from_fn(|i| (rule[i].0.max(cube[i].0), rule[i].1.min(cube[i].1)))
}

pub(super) fn covers<A: Number>(rule: &Cube<A>, cube: &Cube<A>) -> bool {
    rule.iter().zip(cube).all(|(r, c)| r.0 <= c.0 && c.1 <= r.1)
}
