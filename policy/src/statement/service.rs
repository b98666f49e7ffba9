//! IpService and IpServiceGroup (spec: protocol, ports, types, direction, routing).

use super::params::Params;
use super::value::{Args, Choice, number};
use crate::feature::Feature;
use crate::model::{Connect, Direction, Name, PortRange, Protocol, Routing, Service};
use crate::resolve::{Context, Object, Table, Tables};
use std::sync::Arc;

/// IpServiceGroup.
pub(crate) struct Group(pub(crate) Vec<Arc<Service>>);

impl Object for Group {
    const KEYWORD: &'static str = "IpServiceGroup";
    const REF: &'static str = "IpServiceGroupRef";
    fn read<'a>(_: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let services = params.objects::<Service>(cx);
        if !params.has(&[Service::KEYWORD, Service::REF]) {
            params.missing("at least one IpService", cx);
        }
        Some(Self(services.into_iter().map(|(_, s)| s).collect()))
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.service_groups
    }
}

impl Object for Service {
    const KEYWORD: &'static str = "IpService";
    const REF: &'static str = "IpServiceRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let opaque = params.peek("Protocol").filter(|word| word.text.eq_ignore_ascii_case("Opaque"));
        if let Some(word) = opaque {
            cx.uses(Feature::Opaque, word);
        }
        let number = params.value("Protocol", cx, |args, cx| {
            if args.take_if("Opaque") { Some(None) } else { protocol(args, cx) }
        });
        // Of a protocol that is wrong nothing can be said about ports and types.
        let known = number.is_some() || !params.has(&["Protocol"]);
        let number = number.flatten();
        let source = params.value("SourcePortRange", cx, Args::ports);
        let destination = params.value("DestinationPortRange", cx, Args::ports);
        let kind = params.value("Type", cx, Args::bytes_or_any);
        let code = params.value("Code", cx, Args::bytes_or_any);
        let has_ports = matches!(number, Some(6 | 17 | 132));
        let (has_type, has_code) =
            (matches!(number, Some(1 | 58 | 89 | 135)), matches!(number, Some(1 | 58)));
        for (keyword, fits, whose) in [
            ("SourcePortRange", has_ports, "tcp and udp"),
            ("DestinationPortRange", has_ports, "tcp and udp"),
            ("Type", has_type, "icmp, icmpv6, ospf and mipv6"),
            ("Code", has_code, "icmp and icmpv6"),
        ] {
            if known && !fits && params.has(&[keyword]) {
                cx.findings
                    .error(params.at, format!("{keyword} does not go with the Protocol of this IpService"))
                    .label(format!("only {whose} have it"));
            }
        }
        let protocol = match number {
            None if opaque.is_some() => Protocol::Opaque,
            None => Protocol::Any,
            Some(number) if has_ports => Protocol::Ports {
                number,
                source: source.unwrap_or(PortRange::ANY),
                destination: destination.unwrap_or(PortRange::ANY),
            },
            Some(number) if has_type => {
                Protocol::Typed { number, kind: kind.unwrap_or(None), code: code.unwrap_or(None) }
            }
            Some(number) => Protocol::Other(number),
        };
        let direction =
            params.value("Direction", cx, direction).unwrap_or(Direction::Bidirectional(Connect::Either));
        let qualified = matches!(direction, Direction::Bidirectional(Connect::Inbound | Connect::Outbound));
        if known && qualified && number != Some(6) {
            cx.findings
                .error(params.at, "InboundConnect and OutboundConnect are for Protocol tcp only")
                .label("this IpService has another Protocol");
        }
        let routing = params.value("Routing", cx, |args, cx| {
            args.choice(
                &[
                    ("Local", Choice::Is(Routing::Local)),
                    ("Routed", Choice::Is(Routing::Routed)),
                    ("Either", Choice::Is(Routing::Either)),
                ],
                cx,
            )
        });
        let security_class = params.value("SecurityClass", cx, |args, cx| args.number(0, 255, cx));
        let fragments_only = params.value("FragmentsOnly", cx, Args::yes_no).unwrap_or(false);
        if fragments_only && protocol.is_partial() {
            cx.findings
                .error(params.at, "FragmentsOnly does not go with ports, types or codes")
                .label("only the first fragment of a packet has them");
        }
        Some(Self {
            name,
            protocol,
            direction,
            routing: routing.unwrap_or(Routing::Local),
            security_class: security_class.and_then(|c| u8::try_from(c).ok()).unwrap_or(0),
            fragments_only,
        })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.services
    }
}

/// Names of protocols; mind that `Ip` is IP in IP.
const PROTOCOLS: &[(&str, u8)] = &[
    ("Tcp", 6),
    ("Udp", 17),
    ("Icmp", 1),
    ("Icmpv6", 58),
    ("Ospf", 89),
    ("MIPv6", 135),
    ("Ip", 4),
    ("Ipip", 94),
    ("Esp", 50),
    ("Ah", 51),
    ("Igmp", 2),
];

/// A protocol by name or number; `Some(None)` is every protocol.
pub(crate) fn protocol<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Option<u8>> {
    let expected = "All, a protocol name or a number from 0 to 255";
    let word = args.word(expected, cx)?;
    if word.text.eq_ignore_ascii_case("All") {
        return Some(None);
    }
    let named = PROTOCOLS.iter().find(|(name, _)| word.text.eq_ignore_ascii_case(name)).map(|(_, n)| *n);
    match named.or_else(|| number(word.text).and_then(|n| u8::try_from(n).ok())) {
        Some(n) => Some(Some(n)),
        None => {
            let names = PROTOCOLS.iter().map(|(name, _)| *name).chain(["All"]);
            cx.findings
                .error(
                    word.span,
                    format!("`{}` is no value for {}", crate::report::escaped(word.text), args.keyword),
                )
                .label(format!("expected {expected}"))
                .did_you_mean(word.text, names);
            None
        }
    }
}

fn direction<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Direction> {
    let main = args.choice(
        &[
            ("Bidirectional", Choice::Is(Direction::Bidirectional(Connect::Either))),
            ("Inbound", Choice::Is(Direction::Inbound)),
            ("Outbound", Choice::Is(Direction::Outbound)),
        ],
        cx,
    )?;
    let connect = if args.take_if("InboundConnect") {
        Connect::Inbound
    } else if args.take_if("OutboundConnect") {
        Connect::Outbound
    } else {
        return Some(main);
    };
    if matches!(main, Direction::Bidirectional(_)) {
        return Some(Direction::Bidirectional(connect));
    }
    let at = args.whole();
    cx.findings
        .error(at, "InboundConnect and OutboundConnect go with Bidirectional only")
        .label("a service of one direction has no answer to tell from a new connection");
    None
}
