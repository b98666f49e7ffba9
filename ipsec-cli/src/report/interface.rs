//! `-i`: addresses with security class and DVIPA flag (ipsec-command.md section 9).

use super::heading::{Display, Heading};
use super::{Body, Entry, Report, field};
use nmi_proto::answer::Answer;
use nmi_proto::display::Interface;

/// The report.
pub(crate) fn report(stack: &str, answer: &Answer<Interface>) -> Report {
    Report {
        heading: Heading {
            stack: stack.to_owned(),
            time: answer.timestamp,
            primary: "Interface",
            function: "Display",
            display: Some(Display { source: "Stack", scope: "n/a", total: Some(answer.total) }),
            more: Vec::new(),
        },
        body: Body::Entries(answer.records.iter().map(entry).collect()),
    }
}

fn entry(interface: &Interface) -> Entry {
    let mut entry = Entry::default();
    entry
        .row([
            field("InterfaceName", &interface.name),
            field("InterfaceAddress", interface.address.ip(interface.ipv6)),
        ])
        .row([
            field("SecurityClass", interface.security_class),
            field("DVIPA", interface.dvipa),
            field("State", if interface.active { "Active" } else { "Inactive" }),
        ]);
    entry
}

#[cfg(test)]
mod tests {
    use super::super::layout::{json, text};
    use super::super::tests::NOW;
    use super::*;
    use crate::request::Format;

    fn sample() -> Answer<Interface> {
        let one = Interface {
            name: "xcf0".into(),
            address: std::net::IpAddr::from([198, 51, 100, 1]).into(),
            security_class: 255,
            active: true,
            ..Interface::default()
        };
        let six = Interface {
            name: "lo".into(),
            address: "2001:db8::80".parse::<std::net::IpAddr>().unwrap().into(),
            ipv6: true,
            dvipa: true,
            ..Interface::default()
        };
        Answer { records: vec![one, six], total: 2, timestamp: NOW }
    }

    #[test]
    fn detail() {
        insta::assert_snapshot!(text(&report("DIST", &sample()), Format::Detail));
    }
    #[test]
    fn short() {
        insta::assert_snapshot!(text(&report("DIST", &sample()), Format::Short));
    }
    #[test]
    fn in_json() {
        insta::assert_snapshot!(json(&report("DIST", &sample())));
    }
}
