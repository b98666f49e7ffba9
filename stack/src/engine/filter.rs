//! The compiled filter table: which rule is the first to match a packet?
//!
//! The rules stay what they are (an ordered list, first match wins); beside them stands a decision tree per
//! family, direction and scope that leads to the few rules that can match at all. Each inner node halves one of five
//! dimensions (addresses, protocol, ports); a leaf is a short list in rule order. A rule that covers a whole
//! node hides what follows it there, so general rules at the end cost nothing; a budget bounds the memory that
//! overlapping rules may take, at the price of longer leaves. Whatever the tree says equals the plain scan: a property test holds it to that.

use crate::control::{AddressRange, Direction, FilterAction, FilterRule, PortRange, Scope, TcpQualifier};
use std::net::IpAddr;

/// What the filters look at in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// Into this host or out of it.
    pub direction: Direction,
    /// Forwarded, neither from nor to this host.
    pub routed: bool,
    /// Security class of the interface.
    pub security_class: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Upper-layer protocol.
    pub protocol: u8,
    /// What is known of the upper layer.
    pub upper: Upper,
    /// A fragment (of traffic that this host only forwards; all else is reassembled first).
    pub fragment: bool,
}

/// What is known of the upper layer of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upper {
    /// TCP, UDP, SCTP: source and destination port.
    Ports {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// A TCP segment that opens a connection: SYN without ACK.
        opens: bool,
    },
    /// ICMP, ICMPv6, OSPF, MH: type and code.
    Type {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// A protocol without either.
    None,
    /// Not in this packet: a fragment other than the first.
    Opaque,
}

impl Subject {
    /// Same packet, other direction and addresses exchanged: how the flow of a quoted packet is looked up.
    #[must_use]
    pub fn reversed(self) -> Self {
        let direction = match self.direction {
            Direction::Inbound => Direction::Outbound,
            Direction::Outbound => Direction::Inbound,
        };
        let upper = match self.upper {
            Upper::Ports { source, destination, .. } => {
                Upper::Ports { source: destination, destination: source, opens: false }
            }
            other @ (Upper::Type { .. } | Upper::None | Upper::Opaque) => other,
        };
        Self { direction, source: self.destination, destination: self.source, upper, ..self }
    }

    /// The pair (own side, peer's side) of addresses.
    #[must_use]
    pub fn local_remote(&self) -> (IpAddr, IpAddr) {
        match self.direction {
            Direction::Inbound => (self.destination, self.source),
            Direction::Outbound => (self.source, self.destination),
        }
    }
}

/// Number of an address within its family, for comparisons of ranges.
pub(super) fn number(a: IpAddr) -> u128 {
    match a {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

const DIMENSIONS: usize = 5;
/// Rules that a leaf may hold before it is split.
const LEAF: usize = 6;
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

fn cube_of(r: &FilterRule) -> Cube {
    [
        address_side(&r.source),
        address_side(&r.destination),
        r.protocol.map_or((0, 255), |p| (u128::from(p), u128::from(p))),
        port_side(r.source_ports),
        port_side(r.destination_ports),
    ]
}

/// What a rule asks beyond its cube and its tree.
fn is_unconditional(r: &FilterRule) -> bool {
    r.security_class == 0
        && r.icmp_type.is_none()
        && r.icmp_code.is_none()
        && r.tcp_qualifier == TcpQualifier::None
        && !r.fragments_only
}

/// Whether a rule matches a packet: the meaning of a filter, in one place.
#[must_use]
pub fn matches(r: &FilterRule, s: &Subject) -> bool {
    if r.direction != s.direction
        || !scope_allows(r.scope, s.routed)
        || !(r.security_class == 0 || r.security_class == s.security_class)
        || !r.source.contains(s.source)
        || !r.destination.contains(s.destination)
        || r.protocol.is_some_and(|p| p != s.protocol)
        || (r.fragments_only && !s.fragment)
    {
        return false;
    }
    match s.upper {
        Upper::Ports { source, destination, opens } => {
            r.source_ports.contains(source)
                && r.destination_ports.contains(destination)
                && r.icmp_type.is_none()
                && r.icmp_code.is_none()
                && !(opens && closed_to(r.tcp_qualifier, s.direction))
        }
        Upper::Type { kind, code } => {
            r.source_ports == PortRange::ANY
                && r.destination_ports == PortRange::ANY
                && within(r.icmp_type, kind)
                && within(r.icmp_code, code)
        }
        Upper::None | Upper::Opaque => !asks_upper(r),
    }
}

fn scope_allows(scope: Scope, routed: bool) -> bool {
    match scope {
        Scope::Either => true,
        Scope::Local => !routed,
        Scope::Routed => routed,
    }
}

fn within(range: Option<(u8, u8)>, value: u8) -> bool {
    range.is_none_or(|(low, high)| low <= value && value <= high)
}

/// Whether a rule with this qualifier does not match a SYN without ACK in this direction (policy.md 3.4).
fn closed_to(q: TcpQualifier, direction: Direction) -> bool {
    match q {
        TcpQualifier::None => false,
        TcpQualifier::InboundConnect => direction == Direction::Outbound,
        TcpQualifier::OutboundConnect => direction == Direction::Inbound,
    }
}

/// Whether a rule looks into the upper layer.
fn asks_upper(r: &FilterRule) -> bool {
    r.source_ports != PortRange::ANY
        || r.destination_ports != PortRange::ANY
        || r.icmp_type.is_some()
        || r.icmp_code.is_some()
}

#[derive(Debug, Clone, Copy)]
enum Node {
    /// `value[dimension] <= at`: left, else right.
    Split { dimension: u8, at: u128, left: u32, right: u32 },
    /// Rules `start .. start + len` of [`Classifier::leaves`], in rule order.
    Leaf { start: u32, len: u32 },
}

/// The rules and the trees that lead to them.
#[derive(Debug, Default)]
pub struct Classifier {
    nodes: Vec<Node>,
    leaves: Vec<u32>,
    /// Root by family, direction and scope; `None`: no rules there.
    roots: [Option<u32>; 8],
}

fn tree_number(v6: bool, direction: Direction, routed: bool) -> usize {
    usize::from(v6) | usize::from(direction == Direction::Outbound) << 1 | usize::from(routed) << 2
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("the budget keeps trees far below 2^32 nodes")
}

impl Classifier {
    /// Compiles the rules; indexes that [`Classifier::classify`] gives back are positions in this slice.
    #[must_use]
    pub fn compile(rules: &[FilterRule]) -> Self {
        let mut this = Self::default();
        for v6 in [false, true] {
            for direction in [Direction::Inbound, Direction::Outbound] {
                for routed in [false, true] {
                    let members: Vec<u32> = (0..rules.len())
                        .filter(|&i| {
                            let r = &rules[i];
                            r.source.low.is_ipv6() == v6
                                && r.direction == direction
                                && scope_allows(r.scope, routed)
                        })
                        .map(index)
                        .collect();
                    if !members.is_empty() {
                        let root = this.build(rules, members, v6);
                        this.roots[tree_number(v6, direction, routed)] = Some(root);
                    }
                }
            }
        }
        this
    }

    fn build(&mut self, rules: &[FilterRule], members: Vec<u32>, v6: bool) -> u32 {
        let cubes: Vec<Cube> = rules.iter().map(cube_of).collect();
        let whole = if v6 { (0, u128::MAX) } else { (0, u128::from(u32::MAX)) };
        let world: Cube = [whole, whole, (0, 255), (0, NO_PORT), (0, NO_PORT)];
        // Overlapping rules are repeated in several leaves; past the budget they stay together in longer ones.
        let mut budget = members.len() * 24 + 4096;
        let root = index(self.nodes.len());
        self.nodes.push(Node::Leaf { start: 0, len: 0 });
        let mut todo = vec![(root, world, members)];
        while let Some((place, cube, mut list)) = todo.pop() {
            if let Some(last) = list
                .iter()
                .position(|&r| covers(&cubes[r as usize], &cube) && is_unconditional(&rules[r as usize]))
            {
                list.truncate(last + 1);
            }
            let split = if list.len() > LEAF { best_split(&cubes, &cube, &list) } else { None };
            let split = split.filter(|s| s.left + s.right <= budget);
            let Some(split) = split else {
                let start = index(self.leaves.len());
                self.leaves.extend_from_slice(&list);
                self.nodes[place as usize] = Node::Leaf { start, len: index(list.len()) };
                continue;
            };
            budget -= (split.left + split.right).saturating_sub(list.len()) + 1;
            let (low, high) = halves(&cube, split.dimension, split.at);
            let part = |half: &Cube| -> Vec<u32> {
                list.iter().copied().filter(|&r| meets(&cubes[r as usize], half, split.dimension)).collect()
            };
            let (left_list, right_list) = (part(&low), part(&high));
            let left = index(self.nodes.len());
            self.nodes.push(Node::Leaf { start: 0, len: 0 });
            let right = index(self.nodes.len());
            self.nodes.push(Node::Leaf { start: 0, len: 0 });
            let dimension = u8::try_from(split.dimension).expect("five dimensions");
            self.nodes[place as usize] = Node::Split { dimension, at: split.at, left, right };
            todo.push((left, low, left_list));
            todo.push((right, high, right_list));
        }
        root
    }

    /// The first rule that matches, as its position in the compiled slice.
    ///
    /// Of a fragment without ports, a permit that asks for ports is passed over, and a deny or ipsec rule that
    /// asks for them ends the search without a match: what it would have kept back must not slip through further down (R7).
    #[must_use]
    pub fn classify(&self, rules: &[FilterRule], s: &Subject) -> Option<usize> {
        if s.upper == Upper::Opaque {
            return classify_opaque(rules, s);
        }
        let mut place = self.roots[tree_number(s.source.is_ipv6(), s.direction, s.routed)]?;
        let (source_port, destination_port) = match s.upper {
            Upper::Ports { source, destination, .. } => (u128::from(source), u128::from(destination)),
            Upper::Type { .. } | Upper::None | Upper::Opaque => (NO_PORT, NO_PORT),
        };
        let value =
            [number(s.source), number(s.destination), u128::from(s.protocol), source_port, destination_port];
        loop {
            match self.nodes[place as usize] {
                Node::Split { dimension, at, left, right } => {
                    place = if value[dimension as usize] <= at { left } else { right };
                }
                Node::Leaf { start, len } => {
                    return self.leaves[start as usize..][..len as usize]
                        .iter()
                        .map(|&r| r as usize)
                        .find(|&r| matches(&rules[r], s));
                }
            }
        }
    }
}

/// The plain search for a fragment that does not say its ports.
fn classify_opaque(rules: &[FilterRule], s: &Subject) -> Option<usize> {
    for (i, r) in rules.iter().enumerate() {
        if matches(r, s) {
            return Some(i);
        }
        let could = asks_upper(r) && matches(&without_upper(r), s);
        if could && r.action != FilterAction::Permit {
            return None;
        }
    }
    None
}

fn without_upper(r: &FilterRule) -> FilterRule {
    FilterRule {
        source_ports: PortRange::ANY,
        destination_ports: PortRange::ANY,
        icmp_type: None,
        icmp_code: None,
        name: String::new(),
        group: None,
        local_start: None,
        vpn_action: None,
        ..*r
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(rules: &[FilterRule], s: &Subject) -> Option<usize> {
        rules.iter().position(|r| matches(r, s))
    }

    pub(crate) fn rule(direction: Direction, source: AddressRange, destination: AddressRange) -> FilterRule {
        FilterRule {
            name: "R".into(),
            extension: 1,
            group: None,
            local_start: None,
            vpn_action: None,
            direction,
            scope: Scope::Local,
            security_class: 0,
            source,
            destination,
            protocol: None,
            source_ports: PortRange::ANY,
            destination_ports: PortRange::ANY,
            icmp_type: None,
            icmp_code: None,
            tcp_qualifier: TcpQualifier::None,
            fragments_only: false,
            action: FilterAction::Permit,
            log_permit: false,
            log_deny: false,
            discard_icmp: false,
        }
    }

    fn v4(low: u32, high: u32) -> AddressRange {
        AddressRange { low: IpAddr::V4(low.min(high).into()), high: IpAddr::V4(low.max(high).into()) }
    }

    fn addresses() -> impl Strategy<Value = AddressRange> {
        prop_oneof![
            Just(v4(0, u32::MAX)),
            (0u32..64).prop_map(|a| v4(a, a)),
            (0u32..64, 0u32..64).prop_map(|(a, b)| v4(a, b)),
            (0u128..64, 0u128..64).prop_map(|(a, b)| AddressRange {
                low: IpAddr::V6(a.min(b).into()),
                high: IpAddr::V6(a.max(b).into())
            }),
            Just(AddressRange { low: IpAddr::V6(0.into()), high: IpAddr::V6(u128::MAX.into()) }),
        ]
    }

    fn ports() -> impl Strategy<Value = PortRange> {
        prop_oneof![
            3 => Just(PortRange::ANY),
            1 => (0u16..20, 0u16..20).prop_map(|(a, b)| PortRange { low: a.min(b), high: a.max(b) }),
            1 => (65530u16..=65535).prop_map(|a| PortRange { low: a, high: u16::MAX }),
        ]
    }

    fn direction() -> impl Strategy<Value = Direction> {
        prop_oneof![Just(Direction::Inbound), Just(Direction::Outbound)]
    }

    prop_compose! {
        fn any_rule()(
            direction in direction(), source in addresses(), destination in addresses(),
            protocol in prop_oneof![Just(None), Just(Some(6u8)), Just(Some(1)), Just(Some(17))],
            source_ports in ports(), destination_ports in ports(),
            icmp in prop_oneof![4 => Just(None), 1 => (0u8..10, 0u8..10).prop_map(|(a, b)| Some((a.min(b), a.max(b))))],
            scope in prop_oneof![Just(Scope::Local), Just(Scope::Routed), Just(Scope::Either)],
            class in prop_oneof![4 => Just(0u8), 1 => Just(1u8)],
            qualifier in prop_oneof![4 => Just(TcpQualifier::None), 1 => Just(TcpQualifier::InboundConnect), 1 => Just(TcpQualifier::OutboundConnect)],
            fragments_only in prop::bool::weighted(0.1),
        ) -> FilterRule {
            let mut r = rule(direction, source, destination);
            // Addresses of one rule are of one family (control.rs); mixed ones become "any of the source's family".
            if r.source.low.is_ipv4() != r.destination.low.is_ipv4() {
                r.destination = r.source;
            }
            r.protocol = protocol;
            (r.source_ports, r.destination_ports) = (source_ports, destination_ports);
            r.icmp_type = icmp;
            (r.scope, r.security_class, r.tcp_qualifier, r.fragments_only) = (scope, class, qualifier, fragments_only);
            r
        }
    }

    prop_compose! {
        fn any_subject()(
            direction in direction(), routed in any::<bool>(), class in 0u8..2, v6 in any::<bool>(),
            source in 0u32..70, destination in 0u32..70,
            protocol in prop_oneof![Just(6u8), Just(17), Just(1), Just(50)],
            sport in 0u16..22, dport in prop_oneof![0u16..22, 65528u16..=65535], opens in any::<bool>(), fragment in any::<bool>(),
        ) -> Subject {
            let address = |n: u32| if v6 { IpAddr::V6(u128::from(n).into()) } else { IpAddr::V4(n.into()) };
            let upper = match protocol {
                6 | 17 => Upper::Ports { source: sport, destination: dport, opens: opens && protocol == 6 },
                1 => Upper::Type { kind: (sport % 12) as u8, code: (dport % 12) as u8 },
                _ => Upper::None,
            };
            Subject { direction, routed, security_class: class, source: address(source), destination: address(destination), protocol, upper, fragment }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn tree_equals_the_scan(
            rules in prop::collection::vec(any_rule(), 0..120),
            subjects in prop::collection::vec(any_subject(), 60),
        ) {
            let compiled = Classifier::compile(&rules);
            for s in &subjects {
                prop_assert_eq!(compiled.classify(&rules, s), scan(&rules, s), "{:?}", s);
            }
        }
    }

    fn deepest(c: &Classifier, at: u32) -> (usize, usize) {
        match c.nodes[at as usize] {
            Node::Leaf { len, .. } => (0, len as usize),
            Node::Split { left, right, .. } => {
                let (a, b) = (deepest(c, left), deepest(c, right));
                (1 + a.0.max(b.0), a.1.max(b.1))
            }
        }
    }

    #[test]
    fn ten_thousand_usual_rules_cost_a_short_path() {
        let mut rules: Vec<_> = (0..10_000u32)
            .map(|i| {
                let mut r =
                    rule(Direction::Inbound, v4(0x0a00_0000 + i * 16, 0x0a00_000f + i * 16), v4(0, u32::MAX));
                r.protocol = Some(6);
                r
            })
            .collect();
        rules.push(rule(Direction::Inbound, v4(0, u32::MAX), v4(0, u32::MAX)));
        let c = Classifier::compile(&rules);
        let (depth, leaf) = deepest(&c, c.roots[0].unwrap());
        assert!(depth <= 24, "{depth}");
        assert!(leaf <= LEAF + 1, "{leaf}");
        assert!(c.leaves.len() < 60_000, "{}", c.leaves.len());
    }

    #[test]
    fn memory_stays_bounded_when_every_rule_meets_every_other() {
        let rules: Vec<_> = (0..2000u32)
            .map(|i| {
                if i % 2 == 0 {
                    rule(Direction::Inbound, v4(i, i + 5000), v4(0, u32::MAX))
                } else {
                    rule(Direction::Inbound, v4(0, u32::MAX), v4(i, i + 5000))
                }
            })
            .collect();
        let c = Classifier::compile(&rules);
        assert!(c.leaves.len() < 2000 * 60, "{}", c.leaves.len());
    }

    #[test]
    fn a_fragment_without_ports_does_not_slip_past_a_deny() {
        let mut deny = rule(Direction::Inbound, v4(0, u32::MAX), v4(0, u32::MAX));
        deny.action = FilterAction::Deny;
        deny.destination_ports = PortRange { low: 23, high: 23 };
        deny.protocol = Some(6);
        deny.scope = Scope::Routed;
        let mut permit = rule(Direction::Inbound, v4(0, u32::MAX), v4(0, u32::MAX));
        permit.scope = Scope::Routed;
        let rules = [deny, permit];
        let c = Classifier::compile(&rules);
        let mut s = Subject {
            direction: Direction::Inbound,
            routed: true,
            security_class: 0,
            source: IpAddr::V4(1.into()),
            destination: IpAddr::V4(2.into()),
            protocol: 6,
            upper: Upper::Opaque,
            fragment: true,
        };
        assert_eq!(c.classify(&rules, &s), None);
        s.protocol = 17;
        assert_eq!(c.classify(&rules, &s), Some(1));
    }

    #[test]
    fn connect_qualifiers_close_one_way_only() {
        let mut r = rule(Direction::Outbound, v4(1, 1), v4(2, 2));
        r.protocol = Some(6);
        r.tcp_qualifier = TcpQualifier::InboundConnect;
        let mut s = Subject {
            direction: Direction::Outbound,
            routed: false,
            security_class: 0,
            source: IpAddr::V4(1.into()),
            destination: IpAddr::V4(2.into()),
            protocol: 6,
            upper: Upper::Ports { source: 443, destination: 1025, opens: true },
            fragment: false,
        };
        assert!(!matches(&r, &s), "an outbound SYN does not match InboundConnect");
        s.upper = Upper::Ports { source: 443, destination: 1025, opens: false };
        assert!(matches(&r, &s));
        r.direction = Direction::Inbound;
        (s.direction, s.source, s.destination) = (Direction::Inbound, s.destination, s.source);
        (r.source, r.destination) = (r.destination, r.source);
        s.upper = Upper::Ports { source: 1025, destination: 443, opens: true };
        assert!(matches(&r, &s), "the inbound one does");
        r.tcp_qualifier = TcpQualifier::OutboundConnect;
        assert!(!matches(&r, &s), "but not OutboundConnect");
    }
}
