//! A packet that is only asked about (`ipsec -t`): which filters match it, which one decides, and by which SA it would go.
//!
//! Where the question leaves nothing open that the matching filters ask for, the compiled table decides as it does for
//! packets. Otherwise the first filter that may match is named, and that it need not be the one.

use super::Engine;
use super::filter::{Subject, Upper, matches};
use crate::control::{
    Direction, FilterAction, FilterKind, FilterRule, FilterView, MAX_TEST_FILTERS, PacketTest, PortRange,
    TestVerdict, TestedPacket, Treatment, UpperLayer,
};
use crate::wire::protocol;

/// How far a filter matches a packet that is not told in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// Not at all.
    No,
    /// Only if the packet is a fragment, which nobody said.
    Fragment,
    /// Depending on what was left open.
    Open,
    /// Whatever was left open.
    Certain,
}

/// The question, with what only the engine knows of it.
#[derive(Debug)]
pub(super) struct Asked {
    test: PacketTest,
    /// The directions asked for, and whether the defensive filters pass by such a packet.
    directions: Vec<(Direction, bool)>,
    routed: bool,
}

impl Asked {
    /// The filters that match the packet, or may.
    pub(super) fn among(self, filters: Vec<FilterView>) -> Candidates {
        let fitting = |view: FilterView| {
            let (_, passed_by) = self.directions.iter().find(|(d, _)| *d == view.rule.direction)?;
            if *passed_by && matches!(view.kind, FilterKind::Defensive { .. }) {
                return None;
            }
            let fit = fit_of_view(&view, &self.test, self.routed);
            (fit != Fit::No).then_some((view, fit))
        };
        let filters = filters.into_iter().filter_map(fitting).collect();
        Candidates { asked: self, filters }
    }
}

/// The filters that a tested packet matches, or may match, in search order.
#[derive(Debug)]
pub struct Candidates {
    asked: Asked,
    filters: Vec<(FilterView, Fit)>,
}

impl Engine {
    /// Takes a question up. Nothing is counted, logged or negotiated for it.
    pub(super) fn begin_test(&self, test: &PacketTest) -> Asked {
        let directions = match test.direction {
            Some(one) => vec![one],
            None => vec![Direction::Outbound, Direction::Inbound],
        };
        // Local is what one end of is an address of this stack: as for packets.
        let here = |a| self.role(a).is_some() || self.is_xcf(a);
        let routed = !here(test.source) && !here(test.destination);
        let passed_by = |d| (d, self.defense.passes_by(&open_subject(test, d, routed)));
        Asked { test: *test, directions: directions.into_iter().map(passed_by).collect(), routed }
    }

    /// Which of the candidates decides, and what happens to the packet.
    #[must_use]
    pub fn judge(&self, candidates: Candidates) -> TestedPacket {
        let Candidates { asked: Asked { test, directions, routed }, filters: mut candidates } = candidates;
        let mut verdicts: Vec<TestVerdict> =
            directions.iter().filter_map(|(d, _)| self.decide(&test, *d, routed, &candidates)).collect();
        let matching = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
        candidates.truncate(MAX_TEST_FILTERS);
        verdicts.retain(|v| (v.filter as usize) < candidates.len());
        TestedPacket { filters: candidates.into_iter().map(|(view, _)| view).collect(), matching, verdicts }
    }

    fn decide(
        &self,
        test: &PacketTest,
        direction: Direction,
        routed: bool,
        candidates: &[(FilterView, Fit)],
    ) -> Option<TestVerdict> {
        // What only says what it would have dropped decides nothing.
        let decides = |v: &FilterView| !matches!(v.kind, FilterKind::Defensive { simulate: true, .. });
        let own = || {
            candidates.iter().enumerate().filter(|(_, (v, _))| v.rule.direction == direction && decides(v))
        };
        let (first, (view, _)) = own().find(|(_, (_, fit))| *fit != Fit::Fragment)?;
        let told = subject(test, direction, routed)
            .filter(|s| s.security_class != 0 || own().all(|(_, (v, _))| v.rule.security_class == 0));
        let (at, treatment) = match (view.kind, told) {
            // In front of the table: defensive filters, what the XCF needs, and flows that NAT resolution knows.
            (FilterKind::Defensive { .. }, _) => (first, Treatment::Denied),
            (FilterKind::Common, _) => (first, Treatment::Clear),
            (FilterKind::Resolution { tunnel, .. }, _) => (first, self.by_tunnel(tunnel)),
            (_, Some(s)) => match self.spd.ask(&s) {
                None => (own().next_back()?.0, Treatment::Denied),
                Some(found) => {
                    let rule = self.spd.rule(found.rule)?;
                    let kind = found.tunnel.map(FilterKind::Dynamic);
                    let same = |v: &FilterView| v.rule.name == rule.name;
                    let dynamic = own().find(|(_, (v, _))| Some(v.kind) == kind && same(v));
                    let configured = || {
                        own().find(|(_, (v, _))| {
                            matches!(v.kind, FilterKind::Generic | FilterKind::DynamicAnchor)
                                && same(v)
                                && v.rule.extension == rule.extension
                        })
                    };
                    let (at, _) = dynamic.or_else(configured)?;
                    let treatment = match found.tunnel {
                        Some(tunnel) => self.by_tunnel(tunnel),
                        None => without_sa(rule.action, direction),
                    };
                    (at, treatment)
                }
            },
            (FilterKind::Dynamic(tunnel), None) => (first, self.by_tunnel(tunnel)),
            (FilterKind::Generic | FilterKind::DynamicAnchor, None) => {
                // A manual tunnel takes whatever its rules give it, and has no filter of its own.
                let any = open_subject(test, direction, routed);
                let treatment = match self.spd.serves(&view.rule, &any) {
                    Some(tunnel) => self.by_tunnel(tunnel),
                    None => without_sa(view.rule.action, direction),
                };
                (first, treatment)
            }
        };
        // What stands before it is only there because it may match after all.
        let first_of_all = own().next().is_some_and(|(i, (_, fit))| i == at && *fit == Fit::Certain);
        // Clients with the same port of their own are told apart by the translated one, which may not be what was given.
        let flows = own().filter(|(_, (v, _))| matches!(v.kind, FilterKind::Resolution { .. })).count();
        let certain = first_of_all && flows < 2;
        Some(TestVerdict { filter: u32::try_from(at).ok()?, certain, treatment })
    }

    /// The SA that a tunnel sends with now.
    fn by_tunnel(&self, tunnel: u32) -> Treatment {
        let spi_in = self.spd.sends_with(tunnel);
        let sa = spi_in.and_then(|spi| self.sad.get(self.sad.lookup(spi)?));
        sa.map_or(Treatment::NoSa, |sa| Treatment::Protected {
            tunnel,
            spi_in: sa.pair().spi_in,
            spi_out: sa.pair().spi_out,
        })
    }
}

/// What a rule does with a packet that no tunnel serves.
const fn without_sa(action: FilterAction, direction: Direction) -> Treatment {
    match (action, direction) {
        (FilterAction::Permit, _) => Treatment::Clear,
        (FilterAction::Deny, _) => Treatment::Denied,
        (FilterAction::Ipsec { on_demand: true }, Direction::Outbound) => Treatment::Negotiated,
        (FilterAction::Ipsec { .. } | FilterAction::Manual, _) => Treatment::NoSa,
    }
}

/// What of the upper layer the filters see of such a packet; `None`: it was not given in full.
const fn upper(test: &PacketTest) -> Option<Upper> {
    match (test.protocol, test.upper) {
        (_, UpperLayer::Ports { source: 0, .. } | UpperLayer::Ports { destination: 0, .. }) => None,
        (_, UpperLayer::Ports { source, destination }) => {
            Some(Upper::Ports { source, destination, opens: false })
        }
        (_, UpperLayer::Typed { kind, code }) => Some(Upper::Type { kind, code }),
        (protocol, UpperLayer::Open) if has_ports(protocol) || has_types(protocol) => None,
        (_, UpperLayer::Open) => Some(Upper::None),
    }
}

const fn has_ports(number: u8) -> bool {
    matches!(number, protocol::TCP | protocol::UDP | protocol::UDP_LITE | protocol::SCTP)
}

const fn has_types(number: u8) -> bool {
    matches!(number, protocol::ICMP | protocol::ICMPV6 | protocol::OSPF | protocol::MOBILITY)
}

fn open_subject(test: &PacketTest, direction: Direction, routed: bool) -> Subject {
    Subject {
        direction,
        routed,
        security_class: test.security_class,
        source: test.source,
        destination: test.destination,
        protocol: test.protocol,
        upper: Upper::None,
        fragment: false,
    }
}

/// The packet as the filters would see it, whole and not the first of its connection; `None`: something they see was not given.
fn subject(test: &PacketTest, direction: Direction, routed: bool) -> Option<Subject> {
    Some(Subject { upper: upper(test)?, ..open_subject(test, direction, routed) })
}

fn fit_of_view(view: &FilterView, test: &PacketTest, routed: bool) -> Fit {
    match view.kind {
        FilterKind::Resolution { original_port, .. } => {
            // By the client's own port, or by the one that the applications here see in its place.
            let own = PortRange { low: original_port, high: original_port };
            let original = FilterRule { destination_ports: own, ..view.rule.clone() };
            fit(&original, test, routed).max(fit(&view.rule, test, routed))
        }
        FilterKind::Generic
        | FilterKind::Common
        | FilterKind::DynamicAnchor
        | FilterKind::Dynamic(_)
        | FilterKind::Defensive { .. } => fit(&view.rule, test, routed),
    }
}

/// How far a filter matches: what was left open is filled in with what suits the filter best, and asked of [`matches`].
fn fit(rule: &FilterRule, test: &PacketTest, routed: bool) -> Fit {
    let mut s = open_subject(test, rule.direction, routed);
    let mut open = false;
    if s.security_class == 0 && rule.security_class != 0 {
        (s.security_class, open) = (rule.security_class, true);
    }
    s.upper = match test.upper {
        UpperLayer::Ports { source, destination } => {
            let mut port = |given: u16, range: PortRange| {
                open |= given == 0 && range != PortRange::ANY;
                if given == 0 { range.low } else { given }
            };
            let (source, destination) =
                (port(source, rule.source_ports), port(destination, rule.destination_ports));
            Upper::Ports { source, destination, opens: false }
        }
        UpperLayer::Typed { kind, code } => Upper::Type { kind, code },
        UpperLayer::Open if has_ports(test.protocol) => {
            open |= rule.source_ports != PortRange::ANY || rule.destination_ports != PortRange::ANY;
            let (source, destination) = (rule.source_ports.low, rule.destination_ports.low);
            Upper::Ports { source, destination, opens: false }
        }
        UpperLayer::Open if has_types(test.protocol) => {
            open |= rule.icmp_type.is_some() || rule.icmp_code.is_some();
            let low = |range: Option<(u8, u8)>| range.map_or(0, |(low, _)| low);
            Upper::Type { kind: low(rule.icmp_type), code: low(rule.icmp_code) }
        }
        UpperLayer::Open => Upper::None,
    };
    if matches(rule, &s) {
        // The one that opens a connection may be another filter's.
        let opening = match s.upper {
            Upper::Ports { source, destination, .. } if s.protocol == protocol::TCP => {
                Subject { upper: Upper::Ports { source, destination, opens: true }, ..s }
            }
            Upper::Ports { .. } | Upper::Type { .. } | Upper::None | Upper::Opaque => s,
        };
        return if open || !matches(rule, &opening) { Fit::Open } else { Fit::Certain };
    }
    // Fragments come to the filters only of what is forwarded.
    let fragments = [Subject { fragment: true, ..s }, Subject { fragment: true, upper: Upper::Opaque, ..s }];
    if routed && fragments.iter().any(|s| matches(rule, s)) { Fit::Fragment } else { Fit::No }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{AddressRange, FilterSet, TcpQualifier};
    use crate::engine::filter::Table;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn v4(low: u32, high: u32) -> AddressRange {
        AddressRange { low: IpAddr::V4(low.into()), high: IpAddr::V4(high.into()) }
    }

    fn tcp(ports: (u16, u16)) -> PacketTest {
        PacketTest {
            direction: Some(Direction::Outbound),
            security_class: 0,
            source: IpAddr::V4(1.into()),
            destination: IpAddr::V4(2.into()),
            protocol: protocol::TCP,
            upper: UpperLayer::Ports { source: ports.0, destination: ports.1 },
        }
    }

    fn rule() -> FilterRule {
        let any = v4(0, u32::MAX);
        FilterRule::new("R", 1, Direction::Outbound, any, any, FilterAction::Permit)
    }

    #[test]
    fn what_is_left_open_makes_a_match_uncertain() {
        let port = |low, high| PortRange { low, high };
        let web = FilterRule { destination_ports: port(443, 444), ..rule() };
        for (ports, expected) in
            [((9, 443), Fit::Certain), ((0, 443), Fit::Certain), ((9, 0), Fit::Open), ((9, 445), Fit::No)]
        {
            assert_eq!(fit(&web, &tcp(ports), false), expected, "{ports:?}");
        }
        let one_way = FilterRule { tcp_qualifier: TcpQualifier::InboundConnect, ..rule() };
        assert_eq!(fit(&one_way, &tcp((9, 9)), false), Fit::Open, "but for the first packet");
        let inner = FilterRule { security_class: 3, ..rule() };
        assert_eq!(fit(&inner, &tcp((9, 9)), false), Fit::Open);
        assert_eq!(fit(&inner, &PacketTest { security_class: 4, ..tcp((9, 9)) }, false), Fit::No);
        let pieces = FilterRule { fragments_only: true, scope: crate::control::Scope::Either, ..rule() };
        assert_eq!(fit(&pieces, &tcp((9, 9)), true), Fit::Fragment);
        assert_eq!(fit(&pieces, &tcp((9, 9)), false), Fit::No, "what is local is whole");
        let ping = PacketTest { protocol: protocol::ICMP, upper: UpperLayer::Open, ..tcp((0, 0)) };
        let echo = FilterRule { protocol: Some(protocol::ICMP), icmp_type: Some((8, 8)), ..rule() };
        assert_eq!(fit(&echo, &ping, false), Fit::Open);
        let typed = |kind| PacketTest { upper: UpperLayer::Typed { kind, code: 0 }, ..ping };
        assert_eq!((fit(&echo, &typed(8), false), fit(&echo, &typed(0), false)), (Fit::Certain, Fit::No));
    }

    proptest! {
        /// Where nothing is open the first match is the compiled table's: what is shown first is what decides.
        #[test]
        fn the_first_match_is_what_the_table_finds(
            cuts in prop::collection::vec((0u32..8, 0u32..8, 0u16..6, 0u16..6, any::<bool>(), any::<bool>()), 1..12),
            source in 0u32..8, port in 1u16..6,
        ) {
            let rules: Vec<FilterRule> = (1u32..).zip(&cuts).map(|(extension, &(a, b, low, high, deny, qualified))| FilterRule {
                extension,
                source: v4(a.min(b), a.max(b)),
                destination_ports: PortRange { low: low.min(high), high: low.max(high) },
                action: if deny { FilterAction::Deny } else { FilterAction::Permit },
                tcp_qualifier: if qualified { TcpQualifier::InboundConnect } else { TcpQualifier::None },
                ..rule()
            }).collect();
            let test = PacketTest { source: IpAddr::V4(source.into()), ..tcp((9, port)) };
            let set = FilterSet { epoch: 1, policy: true, logging: false, predecap: false, log_implicit: false, implicit_icmp: false, rules };
            let table = Table::new(set, &Table::default());
            let found = table.classifier().classify(table.rules(), &subject(&test, Direction::Outbound, false).unwrap());
            let first = table.rules().iter().position(|r| fit(r, &test, false) != Fit::No);
            prop_assert_eq!(found, first);
        }
    }
}
