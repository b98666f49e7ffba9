//! `-F`: defensive filters, and what became of orders about them (ipsec-command.md sections 3.3 and 5).

use super::filter::{defensive_mode, filter_entry};
use super::heading::{Display, Heading};
use super::{Body, Cell, Report};
use crate::defensive::Function;
use nmi_proto::answer::Answer;
use nmi_proto::code::{DefensiveStatus, DefensiveType};
use nmi_proto::display::{DefensiveControl, DefensiveRecord, Stack};
use nmi_proto::value::Time;

const PRIMARY: &str = "Defensive Filt";
/// What stands in the place of a stack's name.
const ALL: &str = "*ALL*";

fn shown(stack: &str) -> String {
    if stack.is_empty() { ALL.to_owned() } else { stack.to_owned() }
}

/// The filters of `stack`; blank: the global ones.
pub(crate) fn display(stack: &str, info: Option<&Stack>, answer: &Answer<DefensiveRecord>) -> Report {
    let global = stack.is_empty();
    let entry = |r: &DefensiveRecord| {
        let stacks = (r.filter.defensive_type == DefensiveType::GLOBAL).then_some(r.more.stacks);
        filter_entry(&r.filter, None, stacks)
    };
    Report {
        heading: Heading {
            stack: shown(stack),
            time: answer.timestamp,
            primary: PRIMARY,
            function: if global { "Display (global)" } else { "Display" },
            display: Some(Display {
                source: if global { "DMD" } else { "Stack" },
                scope: "Current",
                total: Some(answer.total),
            }),
            more: if global { Vec::new() } else { vec![vec![("Defensive Mode", defensive_mode(info))]] },
        },
        body: Body::Entries(answer.records.iter().map(entry).collect()),
    }
}

/// What became of an order.
pub(crate) fn control(stack: &str, time: Time, function: Function, results: &[DefensiveControl]) -> Report {
    let (name, done) = match function {
        Function::Add => ("Add", "Added"),
        Function::Update => ("Update", "Updated"),
        Function::Delete => ("Delete", "Deleted"),
    };
    let heading = Heading {
        stack: shown(stack),
        time,
        primary: PRIMARY,
        function: name,
        display: None,
        more: Vec::new(),
    };
    if results.is_empty() {
        return Report { heading, body: Body::Line("There are no defensive filters".to_owned()) };
    }
    let row = |o: &DefensiveControl| {
        let status = Cell::from(match o.status {
            DefensiveStatus::DONE => done,
            DefensiveStatus::NOTFOUND => "Not found",
            DefensiveStatus::EXISTS => "Exists already",
            DefensiveStatus::INACTIVE => "Defense inactive",
            DefensiveStatus::LIFETIME => "Lifetime too long",
            DefensiveStatus::FULL => "Too many",
            _ => "Failed",
        });
        vec![Cell::from(&o.name), status, o.stacks.into(), Cell::from(&o.reason)]
    };
    let columns = vec![
        ("FilterName", "FilterName", 34),
        ("Status", "Status", 19),
        ("Stacks", "Stacks", 8),
        ("Reason", "Reason", 0),
    ];
    Report { heading, body: Body::Table { columns, rows: results.iter().map(row).collect(), counted: false } }
}

#[cfg(test)]
mod tests {
    use super::super::layout::{json, text};
    use super::super::tests::NOW;
    use super::*;
    use crate::request::Format;
    use nmi_proto::code::{
        AddressType, DefensiveMode, Direction, FilterAction, FilterLogging, FilterScope, FilterState,
        FilterType,
    };
    use nmi_proto::display::{Defensive, IpFilter};
    use std::net::IpAddr;

    fn answer() -> Answer<DefensiveRecord> {
        let filter = IpFilter {
            name: "scanner".into(),
            extension: 1,
            filter_type: FilterType::DEFENSIVE,
            state: FilterState::ACTIVE,
            action: FilterAction::DEFENSIVE_BLOCK,
            scope: FilterScope::BOTH,
            direction: Direction::INBOUND,
            logging: FilterLogging::DENIED,
            log_limit: 100,
            protocol: 6,
            defensive_type: DefensiveType::GLOBAL,
            source_address_type: AddressType::SINGLE,
            source_address: IpAddr::from([203, 0, 113, 66]).into(),
            source_port_any: true,
            source_port_high: u16::MAX,
            destination_address_type: AddressType::ALL,
            destination_port_low: 443,
            destination_port_high: 443,
            create_time: NOW,
            update_time: NOW,
            expires: Time(NOW.0 + 1800),
            matches: 12,
            denies: 12,
            ..IpFilter::default()
        };
        let more = Defensive { stacks: 2, lifetime_min: 30, user: "olga".into() };
        Answer { records: vec![DefensiveRecord { filter, more }], total: 3, timestamp: NOW }
    }

    #[test]
    fn of_a_stack_and_of_all() {
        let info = Stack { defensive_mode: DefensiveMode::ACTIVE, ..Stack::default() };
        let report = display("DIST", Some(&info), &answer());
        insta::assert_snapshot!("defensive_detail", text(&report, Format::Detail));
        insta::assert_snapshot!("defensive_short", text(&report, Format::Short));
        insta::assert_snapshot!("defensive_wide", text(&report, Format::Wide));
        let global = display("", None, &answer());
        insta::assert_snapshot!("defensive_global_json", json(&global));
        let heading = text(&global, Format::Detail);
        assert!(heading.contains("Stack Name: *ALL*") && heading.contains("Display (global)"), "{heading}");
    }

    #[test]
    fn orders() {
        let with = |name: &str, status, reason: &str| DefensiveControl {
            status,
            stacks: u32::from(status == DefensiveStatus::DONE),
            reason: reason.into(),
            ..DefensiveControl::named(name)
        };
        use DefensiveStatus as S;
        let results = [
            with("scanner", S::DONE, ""),
            with("worm", S::EXISTS, "stack DIST has one of that name"),
            with("a", S::NOTFOUND, ""),
            with("b", S::INACTIVE, ""),
            with("c", S::LIFETIME, ""),
            with("d", S::FULL, ""),
            with("e", S::FAILED, ""),
        ];
        let report = control("DIST", NOW, Function::Add, &results);
        insta::assert_snapshot!("defensive_orders", text(&report, Format::Detail));
        insta::assert_snapshot!("defensive_orders_json", json(&report));
        let none = text(&control("", NOW, Function::Delete, &[]), Format::Detail);
        assert!(none.ends_with("There are no defensive filters\n"), "{none}");
    }
}
