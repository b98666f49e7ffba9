//! `--drops` and `--vipa`: what the product lacks.

use super::heading::{Display, Heading};
use super::{Body, Report};
use nmi_proto::answer::Answer;
use nmi_proto::display::{Distribution, DropCount};

fn heading<R>(stack: &str, primary: &'static str, answer: &Answer<R>) -> Heading {
    Heading {
        stack: stack.to_owned(),
        time: answer.timestamp,
        primary,
        function: "Display",
        display: Some(Display { source: "Stack", scope: "n/a", total: Some(answer.total) }),
        more: Vec::new(),
    }
}

/// Packets dropped, by reason.
pub(crate) fn drops(stack: &str, answer: &Answer<DropCount>) -> Report {
    Report {
        heading: heading(stack, "Drops", answer),
        body: Body::Table {
            columns: vec![("Reason", "reason", 40), ("Packets", "packets", 0)],
            rows: answer.records.iter().map(|r| vec![(&r.reason).into(), r.packets.into()]).collect(),
            counted: true,
        },
    }
}

/// Connections by DVIPA, port and target.
pub(crate) fn distribution(stack: &str, answer: &Answer<Distribution>) -> Report {
    let row = |r: &Distribution| {
        vec![r.dvipa.ip(r.ipv6).into(), r.port.into(), (&r.target).into(), r.active.into(), r.total.into()]
    };
    Report {
        heading: heading(stack, "Distribution", answer),
        body: Body::Table {
            columns: vec![
                ("DVIPA", "dvipa", 40),
                ("Port", "port", 7),
                ("Target", "target", 10),
                ("Active", "active", 12),
                ("Total", "total", 0),
            ],
            rows: answer.records.iter().map(row).collect(),
            counted: true,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::{json, text};
    use super::super::tests::NOW;
    use super::*;
    use crate::request::Format;

    #[test]
    fn reports() {
        let drop = |reason: &str, packets| DropCount { reason: reason.into(), packets };
        let answer = Answer {
            records: vec![drop("clear_but_ipsec_required", 12), drop("gre_untrusted_link", 3)],
            total: 2,
            timestamp: NOW,
        };
        let drops = drops("DIST", &answer);
        insta::assert_snapshot!("drops", text(&drops, Format::Detail));
        insta::assert_snapshot!("drops_json", json(&drops));

        let target = |target: &str, active, total| Distribution {
            ipv6: false,
            dvipa: std::net::IpAddr::from([192, 0, 2, 100]).into(),
            target: target.into(),
            port: 80,
            active,
            total,
        };
        let answer = Answer {
            records: vec![target("TGT1", 3, 11), target("TGT2", 4, 11), target("TGT3", 3, 10)],
            total: 3,
            timestamp: NOW,
        };
        let distribution = distribution("DIST", &answer);
        insta::assert_snapshot!("distribution", text(&distribution, Format::Detail));
        insta::assert_snapshot!("distribution_json", json(&distribution));
    }
}
