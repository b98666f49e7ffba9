//! `-F`: defensive filters, what is typed of them and what is done with it.

use crate::client::Outcome;
use crate::exit::{self, Failure};
use crate::report::{defensive as report, has_ports, has_types};
use ipnet::IpNet;
use nmi_proto::client::{Client, ClientError};
use nmi_proto::code::{DefensiveStatus, Direction, FilterAction, FilterScope, MessageType};
use nmi_proto::display::{DefensiveControl, MAX_DEFENSIVE_NAME, Stack};
use nmi_proto::filter::InFilter;
use nmi_proto::value::{Address, Time};
use nmi_proto::{MAX_FILTERS, MAX_TUNNELS};
use std::net::IpAddr;

/// What is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Display(Vec<InFilter>),
    /// No objects: all, of `Delete`.
    Control {
        function: Function,
        objects: Vec<DefensiveControl>,
    },
}

/// Functions that change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Add,
    Update,
    Delete,
}

impl Function {
    const fn message(self) -> MessageType {
        match self {
            Self::Add => MessageType::ADD_DEFENSIVE,
            Self::Update => MessageType::UPDATE_DEFENSIVE,
            Self::Delete => MessageType::DELETE_DEFENSIVE,
        }
    }
}

fn usage(text: String) -> Failure {
    Failure::Usage(text)
}

impl Action {
    /// Checks what was typed behind `-F`, with the values of `-N` and `-a`. The values of `add` and `update` cannot be
    /// cut.
    pub(crate) fn new(words: &[String], names: &[String], ids: &[String]) -> Result<Self, Failure> {
        let (function, operands) = match words.split_first() {
            None => ("display".to_owned(), words),
            Some((word, rest)) => (word.to_ascii_lowercase(), rest),
        };
        if let Some(bad) = names.iter().find(|n| !is_name(n)) {
            let text = format!(
                "`{}` is no name for -N: expected up to {MAX_DEFENSIVE_NAME} letters, digits and @#$_.-",
                bad.escape_debug()
            );
            return Err(usage(text));
        }
        let alone = |what: &str| match operands.first() {
            None => Ok(()),
            Some(word) => Err(usage(format!("`{}` does not go with -F {what}", word.escape_debug()))),
        };
        let no_ids = || match ids {
            [] => Ok(()),
            _ => Err(usage("-a goes with -F delete only".into())),
        };
        // Cut to three characters, as everywhere; `add` has no more.
        let is = |whole: &str| function.len() >= 3 && whole.starts_with(&function);
        let action = if is("display") {
            alone("display")?;
            no_ids()?;
            Self::Display(names.iter().map(|n| InFilter::rule(n)).collect())
        } else if is("add") {
            no_ids()?;
            let [name] = names else { return Err(usage("-F add needs one name with -N".into())) };
            let object = add(name, operands)?;
            Self::Control { function: Function::Add, objects: vec![object] }
        } else if is("update") {
            no_ids()?;
            let base = Typed::read(operands)?.only_settings()?;
            if names.is_empty() {
                return Err(usage("-F update needs names with -N".into()));
            }
            let named = |n: &String| DefensiveControl { name: n.as_str().into(), ..base.clone() };
            Self::Control { function: Function::Update, objects: names.iter().map(named).collect() }
        } else if is("delete") {
            alone("delete")?;
            let objects: Vec<_> = names.iter().map(|n| DefensiveControl::named(n)).collect();
            match (ids, objects.is_empty()) {
                ([one], true) if one.eq_ignore_ascii_case("all") => {}
                ([], false) => {}
                _ => return Err(usage("-F delete needs names with -N, or -a all".into())),
            }
            Self::Control { function: Function::Delete, objects }
        } else {
            let text = format!(
                "`{}` is no value for -F: expected display, add, update or delete",
                function.escape_debug()
            );
            return Err(usage(text));
        };
        match &action {
            Self::Display(filters) if filters.len() > MAX_FILTERS => {
                Err(usage(format!("{} names, at most {MAX_FILTERS} at a time", filters.len())))
            }
            Self::Control { objects, .. } if objects.len() > MAX_TUNNELS => {
                Err(usage(format!("{} names, at most {MAX_TUNNELS} at a time", objects.len())))
            }
            _ => Ok(action),
        }
    }
}

fn is_name(name: &str) -> bool {
    DefensiveControl::named(name).fits(MessageType::DELETE_DEFENSIVE)
}

/// Operands of `add` and `update` as typed: keyword and value.
struct Typed<'a>(Vec<(String, &'a str)>);

const PACKETS: [&str; 10] =
    ["srcip", "destip", "prot", "srcport", "destport", "type", "code", "dir", "routing", "fragmentsonly"];
const SETTINGS: [&str; 4] = ["mode", "log", "loglimit", "lifetime"];

impl<'a> Typed<'a> {
    fn read(words: &'a [String]) -> Result<Self, Failure> {
        let mut all: Vec<(String, &str)> = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let key = word.to_ascii_lowercase();
            if !PACKETS.contains(&key.as_str()) && !SETTINGS.contains(&key.as_str()) {
                let known = [&PACKETS[..], &SETTINGS[..]].concat().join(", ");
                return Err(usage(format!("`{}` is no operand: expected {known}", word.escape_debug())));
            }
            let value = words.next().ok_or_else(|| usage(format!("{key} needs a value")))?;
            if all.iter().any(|(k, _)| *k == key) {
                return Err(usage(format!("{key} is given twice")));
            }
            all.push((key, value));
        }
        Ok(Self(all))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| *v)
    }

    /// One of these words.
    fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let found = words.iter().find(|(w, _)| w.eq_ignore_ascii_case(value)).map(|(_, v)| *v);
        found.map(Some).ok_or_else(|| {
            let known = words.iter().map(|(w, _)| *w).collect::<Vec<_>>().join(" or ");
            usage(format!("`{}` is no value for {key}: expected {known}", value.escape_debug()))
        })
    }

    fn number<T: std::str::FromStr>(&self, key: &str, expected: &str) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| {
            usage(format!("`{}` is no value for {key}: expected {expected}", value.escape_debug()))
        })
    }

    /// The settings, in an object that has nothing else.
    fn settings(&self) -> Result<DefensiveControl, Failure> {
        let mode = self.word(
            "mode",
            &[("block", FilterAction::DEFENSIVE_BLOCK), ("simulate", FilterAction::DEFENSIVE_SIMULATE)],
        )?;
        let log = self.word("log", &[("yes", true), ("no", false)])?;
        let log_limit = self.number("loglimit", "lines in five minutes, 0 to 65535")?;
        let lifetime: Option<u32> = self.number("lifetime", "minutes from 1")?;
        if lifetime == Some(0) {
            return Err(usage("`0` is no value for lifetime: expected minutes from 1".into()));
        }
        Ok(DefensiveControl {
            by_action: mode.is_some(),
            action: mode.unwrap_or_default(),
            by_log: log.is_some(),
            log: log.unwrap_or(false),
            by_log_limit: log_limit.is_some(),
            log_limit: log_limit.unwrap_or(0),
            by_lifetime: lifetime.is_some(),
            lifetime_min: lifetime.unwrap_or(0),
            ..DefensiveControl::default()
        })
    }

    /// The settings, where there is something to change and nothing else is given.
    fn only_settings(&self) -> Result<DefensiveControl, Failure> {
        if let Some((key, _)) = self.0.iter().find(|(k, _)| PACKETS.contains(&k.as_str())) {
            return Err(usage(format!("{key} cannot be changed: delete the filter and add another")));
        }
        if self.0.is_empty() {
            return Err(usage(format!("-F update needs at least one of {}", SETTINGS.join(", "))));
        }
        self.settings()
    }
}

/// An address, or address and prefix length; `None`: all.
fn address(key: &str, text: Option<&str>) -> Result<Option<IpNet>, Failure> {
    let text = match text {
        None => return Ok(None),
        Some(all) if all.eq_ignore_ascii_case("all") => return Ok(None),
        Some(text) => text,
    };
    let net = text.parse().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()));
    net.map(Some).ok_or_else(|| {
        let text = text.escape_debug();
        usage(format!("`{text}` is no value for {key}: expected an address, address/prefix length or all"))
    })
}

/// A port or `low-high`; 0 is any.
fn ports(key: &str, text: Option<&str>) -> Result<(u16, u16), Failure> {
    let Some(text) = text else { return Ok((0, u16::MAX)) };
    let read = || match text.split_once('-') {
        None => text.parse().ok().map(|p| if p == 0 { (0, u16::MAX) } else { (p, p) }),
        Some((low, high)) => Some((low.parse().ok()?, high.parse().ok()?)),
    };
    read().filter(|(low, high)| low <= high).ok_or_else(|| {
        usage(format!("`{}` is no value for {key}: expected a port or low-high", text.escape_debug()))
    })
}

fn add(name: &str, operands: &[String]) -> Result<DefensiveControl, Failure> {
    let typed = Typed::read(operands)?;
    let (source, destination) =
        (address("srcip", typed.get("srcip"))?, address("destip", typed.get("destip"))?);
    let ipv6 = match (source, destination) {
        (Some(s), Some(d)) if s.addr().is_ipv6() != d.addr().is_ipv6() => {
            return Err(usage("srcip and destip are of different families".into()));
        }
        (Some(a), _) | (_, Some(a)) => Some(a.addr().is_ipv6()),
        (None, None) => None,
    };
    let protocol = match typed.get("prot") {
        None => None,
        Some(all) if all.eq_ignore_ascii_case("all") => None,
        Some(text) => Some(crate::traffic::protocol_number(text).ok_or_else(|| {
            usage(format!("`{}` is no value for prot: expected a protocol or 0 to 255", text.escape_debug()))
        })?),
    };
    let (source_ports, destination_ports) =
        (ports("srcport", typed.get("srcport"))?, ports("destport", typed.get("destport"))?);
    let (icmp_type, icmp_code): (Option<u8>, Option<u8>) =
        (typed.number("type", "0 to 255")?, typed.number("code", "0 to 255")?);
    let has = |keys: [&str; 2], of: fn(u8) -> bool, whose: &str| {
        let given = keys.into_iter().find(|k| typed.get(k).is_some());
        match given {
            Some(key) if !protocol.is_some_and(of) => {
                Err(usage(format!("{key} goes with prot {whose} only")))
            }
            _ => Ok(()),
        }
    };
    has(["srcport", "destport"], has_ports, "tcp, udp or sctp")?;
    has(["type", "code"], has_types, "icmp or icmpv6")?;
    let wire = |a: Option<IpNet>| a.map_or((Address::default(), 0), |a| (a.addr().into(), a.prefix_len()));
    let ((source, source_prefix), (destination, destination_prefix)) = (wire(source), wire(destination));
    Ok(DefensiveControl {
        name: name.into(),
        ipv6: ipv6.unwrap_or(false),
        both_families: ipv6.is_none(),
        fragments_only: typed.word("fragmentsonly", &[("yes", true), ("no", false)])?.unwrap_or(false),
        protocol_any: protocol.is_none(),
        protocol: protocol.unwrap_or(0),
        source,
        source_prefix,
        destination,
        destination_prefix,
        source_port_low: source_ports.0,
        source_port_high: source_ports.1,
        destination_port_low: destination_ports.0,
        destination_port_high: destination_ports.1,
        type_any: icmp_type.is_none(),
        icmp_type: icmp_type.unwrap_or(0),
        code_any: icmp_code.is_none(),
        icmp_code: icmp_code.unwrap_or(0),
        direction: typed
            .word(
                "dir",
                &[
                    ("in", Direction::INBOUND),
                    ("inbound", Direction::INBOUND),
                    ("out", Direction::OUTBOUND),
                    ("outbound", Direction::OUTBOUND),
                ],
            )?
            .unwrap_or(Direction::INBOUND),
        scope: typed
            .word(
                "routing",
                &[
                    ("local", FilterScope::LOCAL),
                    ("routed", FilterScope::ROUTED),
                    ("either", FilterScope::BOTH),
                ],
            )?
            .unwrap_or(FilterScope::BOTH),
        ..typed.settings()?
    })
}

/// Asks the daemon; `stack` is blank for the global filters.
pub(crate) fn carry_out(
    client: &mut Client,
    stack: &str,
    info: Option<&Stack>,
    now: Time,
    action: &Action,
) -> Result<Outcome, ClientError> {
    match action {
        Action::Display(by) => {
            let answer = client.defensive_filters(stack, by)?;
            Ok(Outcome { report: report::display(stack, info, &answer), code: exit::SUCCESS })
        }
        Action::Control { function, objects } => {
            let results = client.control_defensive(function.message(), stack, objects)?;
            let report = report::control(stack, now, *function, &results);
            Ok(Outcome { report, code: control_code(&results) })
        }
    }
}

/// Something was done, and nothing failed.
fn control_code(results: &[DefensiveControl]) -> u8 {
    let done = |o: &DefensiveControl| o.status == DefensiveStatus::DONE;
    if !results.is_empty() && results.iter().all(done) { exit::SUCCESS } else { exit::FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Action as Any;
    use crate::request::tests::request;

    fn action(line: &str) -> Action {
        match request(line).unwrap().action {
            Any::Defensive { action, .. } => action,
            other => panic!("{other:?}"),
        }
    }
    fn one(line: &str) -> DefensiveControl {
        match action(line) {
            Action::Control { mut objects, .. } => objects.remove(0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_operand_of_add() {
        let all = one("-F add -N floods");
        assert_eq!(all, DefensiveControl::all("floods"));
        let whole = one(
            "-F ADD SRCIP 203.0.113.0/24 destip 192.0.2.80 prot TCP srcport 1024-65535 destport 443 dir OUT \
             routing local fragmentsonly no mode SIMULATE log yes loglimit 5 lifetime 90 -N one.two -p DIST",
        );
        assert!(whole.fits(MessageType::ADD_DEFENSIVE), "{whole:?}");
        assert_eq!(whole.source(), ("203.0.113.0".parse().unwrap(), 24));
        assert_eq!(whole.destination(), ("192.0.2.80".parse().unwrap(), 32));
        assert_eq!((whole.protocol, whole.protocol_any, whole.log, whole.log_limit), (6, false, true, 5));
        assert_eq!((whole.source_port_low, whole.destination_port_high), (1024, 443));
        assert_eq!((whole.direction, whole.scope), (Direction::OUTBOUND, FilterScope::LOCAL));
        assert_eq!((whole.action, whole.lifetime_min), (FilterAction::DEFENSIVE_SIMULATE, 90));
        let ping = one("-F add srcip 2001:db8::/32 prot icmpv6 type 128 -N ping");
        assert!(ping.ipv6 && !ping.type_any && ping.code_any && ping.fits(MessageType::ADD_DEFENSIVE));
        let any = one("-F add prot udp destport 0 -N u");
        assert_eq!((any.destination_port_low, any.destination_port_high), (0, 65_535));
    }

    #[test]
    fn display_update_and_delete() {
        assert_eq!(action("-F"), Action::Display(vec![]));
        assert_eq!(action("-F dis -N a b"), Action::Display(vec![InFilter::rule("a"), InFilter::rule("b")]));
        let Action::Control { function, objects } = action("-F update mode block -N a b") else { panic!() };
        assert_eq!((function, objects.len(), objects[1].name.as_str()), (Function::Update, 2, "b"));
        assert!(objects.iter().all(|o| o.fits(MessageType::UPDATE_DEFENSIVE)));
        let Action::Control { function, objects } = action("-F delete -a ALL") else { panic!() };
        assert_eq!((function, objects.len()), (Function::Delete, 0));
        assert_eq!(one("-F del -N a"), DefensiveControl::named("a"));
        let global = request("-F -G").unwrap();
        assert!(matches!(global.action, Any::Defensive { global: true, .. }));
    }

    #[test]
    fn t59_what_makes_no_sense_is_refused() {
        for (line, part) in [
            ("-F add", "one name"),
            ("-F add -N a b", "one name"),
            ("-F add srcip x -N a", "address"),
            ("-F add srcip 10.0.0.1/33 -N a", "address"),
            ("-F add srcip 10.0.0.1 destip ::1 -N a", "families"),
            ("-F add srcport 5 -N a", "prot tcp"),
            ("-F add prot icmp destport 5 -N a", "prot tcp"),
            ("-F add prot tcp type 5 -N a", "icmp"),
            ("-F add prot tcp srcport 9-8 -N a", "low-high"),
            ("-F add mod block -N a", "no operand"),
            ("-F add mode blo -N a", "block or simulate"),
            ("-F add mode -N a", "needs a value"),
            ("-F add log yes log no -N a", "twice"),
            ("-F add lifetime 0 -N a", "minutes"),
            ("-F add -N a/b", "no name"),
            ("-F add -a all -N a", "delete only"),
            ("-F update -N a", "at least one"),
            ("-F update srcip all -N a", "cannot be changed"),
            ("-F update mode block", "names"),
            ("-F delete", "-a all"),
            ("-F delete -a all -N a", "-a all"),
            ("-F delete mode block -N a", "does not go with"),
            ("-F what", "no value for -F"),
            ("-F -G -p DIST", "-G"),
            ("-F -G -N a -b", "does not go with"),
            ("-f -G", "does not go with"),
            ("-y -N a", "does not go with"),
        ] {
            let said = request(line).unwrap_err();
            assert!(said.contains(part), "{line}: {said}");
        }
    }

    #[test]
    fn t59_partial_success_is_not_success() {
        let with = |statuses: &[DefensiveStatus]| {
            let one = |s: &DefensiveStatus| DefensiveControl { status: *s, ..DefensiveControl::default() };
            control_code(&statuses.iter().map(one).collect::<Vec<_>>())
        };
        use DefensiveStatus as S;
        assert_eq!(with(&[S::DONE, S::DONE]), 0);
        assert_eq!(with(&[S::DONE, S::NOTFOUND]), 1);
        assert_eq!(with(&[]), 1, "nothing done");
    }
}
