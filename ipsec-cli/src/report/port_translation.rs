//! `-o`: remote ports that NAT traversal translated (ipsec-command.md section 10).

use super::heading::{Display, Heading};
use super::{Body, Entry, Report, address, field, protocol};
use nmi_proto::answer::Answer;
use nmi_proto::display::PortTranslation;

/// The report.
pub(crate) fn report(stack: &str, answer: &Answer<PortTranslation>) -> Report {
    Report {
        heading: Heading {
            stack: stack.to_owned(),
            time: answer.timestamp,
            primary: "NATT Port Trans",
            function: "Display",
            display: Some(Display { source: "Stack", scope: "n/a", total: Some(answer.total) }),
            more: Vec::new(),
        },
        body: Body::Entries(answer.records.iter().map(entry).collect()),
    }
}

fn entry(t: &PortTranslation) -> Entry {
    let mut entry = Entry::default();
    entry.row([field("RmtIpAddress", t.remote_address.ip(t.ipv6))]).row([
        field("Protocol", protocol(t.protocol)),
        field("TransRmtConnPort", t.translated_port),
        field("OrigRmtConnPort", t.original_port),
        field("RmtInnerIpAddress", address(t.inner_address, t.ipv6)),
    ]);
    entry
}

#[cfg(test)]
mod tests {
    use super::super::layout::text;
    use super::super::tests::NOW;
    use super::*;
    use crate::request::Format;
    use std::net::IpAddr;

    #[test]
    fn a_translation_with_and_without_its_inner_address() {
        let one = PortTranslation {
            remote_address: IpAddr::from([203, 0, 113, 5]).into(),
            inner_address: IpAddr::from([198, 51, 100, 77]).into(),
            protocol: 6,
            translated_port: 65533,
            original_port: 40960,
            ..PortTranslation::default()
        };
        let unknown = PortTranslation { inner_address: Default::default(), protocol: 17, ..one.clone() };
        let answer = Answer { records: vec![one, unknown], total: 2, timestamp: NOW };
        insta::assert_snapshot!("port_translation", text(&report("DIST", &answer), Format::Detail));
    }
}
