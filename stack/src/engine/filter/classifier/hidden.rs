//! Rules that no packet reaches: whatever they match, one rule before them decides.
//!
//! Long policies have many of them, and each would take its place in leaves and be tried for packets that another rule has.
//! One rule that hides another holds its box, thus its lowest corner: a search for that corner among wide rules finds it.

use super::build::Builder;
use super::{Member, Number};

/// Of so many rules one, of the widest, is tried as one that hides others.
const WIDE: usize = 16;
/// In a shorter list each rule is tried.
const FEW: usize = 1_024;

/// The rules, in order, without those that are hidden by a single wide one. What is left can still be hidden.
pub(super) fn without<A: Number>(mut members: Vec<Member<A>>) -> Vec<Member<A>> {
    let mut wide = members.clone();
    let count = (wide.len() / WIDE).max(FEW);
    if count < wide.len() {
        wide.select_nth_unstable_by_key(count, |m| std::cmp::Reverse(breadth(m)));
        wide.truncate(count);
        wide.sort_unstable_by_key(|m| m.rule);
    }
    let table = Builder::new(wide).table();
    members.retain(|member| !table.hides(member));
    members
}

/// How wide its box is, as the number of digits of the number of packets in it.
fn breadth<A: Number>(member: &Member<A>) -> u32 {
    member.entry.length.into_iter().map(A::digits).sum()
}
