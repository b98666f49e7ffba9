//! Reports of `ipsec vipa`.

use super::heading::{Display, Heading};
use super::{Body, Cell, Entry, Item, Report, address, field, protocol, sub, unless_zero};
use crate::vipa::Function;
use nmi_proto::answer::Answer;
use nmi_proto::code::{CfProtection, VipaStatus};
use nmi_proto::control::VipaControl;
use nmi_proto::display::{Backup, DvipaRecord, TakeoverRecord, TakeoverStepTime, VipaTarget};
use nmi_proto::value::Time;

fn heading<R>(stack: &str, primary: &'static str, source: &'static str, answer: &Answer<R>) -> Heading {
    Heading {
        stack: stack.to_owned(),
        time: answer.timestamp,
        primary,
        function: "Display",
        display: Some(Display { source, scope: "n/a", total: Some(answer.total) }),
        more: Vec::new(),
    }
}

/// `vipa display`.
pub(crate) fn dvipas(stack: &str, answer: &Answer<DvipaRecord>) -> Report {
    Report {
        heading: heading(stack, "DVIPA", "IKED", answer),
        body: Body::Entries(answer.records.iter().map(dvipa).collect()),
    }
}

fn dvipa(record: &DvipaRecord) -> Entry {
    let d = &record.dvipa;
    let backup = |b: &Backup| -> Item {
        vec![
            ("Rank", b.rank.into()),
            ("Stack", (&b.stack).into()),
            ("System", (&b.system).into()),
            ("State", b.state.to_string().into()),
        ]
    };
    let owned = !d.owner.is_blank();
    let protection = (d.cf_state != CfProtection::NOT_APPLICABLE).then(|| Cell::from(d.cf_state.to_string()));
    let known = |n: u32| owned.then_some(n);
    let mut entry = Entry::default();
    entry
        .row([field("DVIPA", d.address.ip(d.ipv6)), field("State", d.state.to_string())])
        .row([
            field("Owner", &d.owner),
            field("OwnerSystem", &d.owner_system),
            field("Epoch", unless_zero(d.epoch)),
            field("OwnedSince", d.since),
            field("TakenOverFrom", &d.from),
        ])
        .row([
            field("TakeoverMode", d.takeover.to_string()),
            field("Giveback", d.giveback.to_string()),
            field("Lease", unless_zero(d.lease_ms).map(|ms| Cell::Micros(ms * 1000))),
            field("Ceiling", unless_zero(d.ceiling)),
        ])
        .row([
            field("CFRecords", protection.unwrap_or(Cell::None)),
            sub("Reason", &d.cf_reason),
            sub("Stored", known(d.stored)),
            sub("NotStored", known(d.failed)),
        ])
        .row([
            field("Connections", d.connections_known.then_some(d.connections)),
            field("IKESAs", known(d.ike_sas)),
            field("ChildSAs", known(d.child_sas)),
        ])
        .row([field("Owners", Cell::Items(record.backups.iter().map(backup).collect()))]);
    entry
}

/// `vipa targets`.
pub(crate) fn targets(stack: &str, answer: &Answer<VipaTarget>) -> Report {
    Report {
        heading: heading(stack, "DVIPA targets", "Stack", answer),
        body: Body::Entries(answer.records.iter().map(target).collect()),
    }
}

fn target(t: &VipaTarget) -> Entry {
    let path = match (t.local, t.path_known, t.path_up) {
        (true, ..) => Cell::from("Local"),
        (_, true, true) => "Up".into(),
        (_, true, false) => "Down".into(),
        _ => Cell::None,
    };
    let ports = if t.port_low == t.port_high {
        t.port_low.to_string()
    } else {
        format!("{}-{}", t.port_low, t.port_high)
    };
    let connections = |n: u64| t.connections_known.then_some(n);
    let mut entry = Entry::default();
    entry
        .row([
            field("DVIPA", t.dvipa.ip(t.ipv6)),
            field("Protocol", protocol(t.protocol)),
            field("Ports", ports),
            field("Target", &t.target),
        ])
        .row([
            field("XCFAddress", address(t.xcf, t.xcf_ipv6)),
            field("XCFPath", path),
            field("LastHeard", unless_zero(t.heard_ms).map(|ms| Cell::Micros(ms * 1000))),
        ])
        .row([
            field("Method", t.method.to_string()),
            field("Weight", unless_zero(t.weight)),
            field("Preferred", t.preferred),
            field("TimedAffinity", unless_zero(t.affinity_secs).map(|s| Cell::Unit(s, 's'))),
        ])
        .row([
            field("Quiesced", t.quiesced),
            field("ReadyCount", t.ready_known.then_some(t.ready)),
            field("ActiveConnections", connections(t.active)),
            field("TotalConnections", connections(t.total)),
        ]);
    entry
}

/// `vipa history`.
pub(crate) fn history(stack: &str, answer: &Answer<TakeoverRecord>) -> Report {
    Report {
        heading: heading(stack, "Takeover", "IKED", answer),
        body: Body::Entries(answer.records.iter().map(takeover).collect()),
    }
}

fn takeover(record: &TakeoverRecord) -> Entry {
    let t = &record.takeover;
    let step = |s: &TakeoverStepTime| -> Item {
        vec![
            ("Step", s.step.to_string().into()),
            ("Begin", Cell::Micros(s.begin_us)),
            ("Duration", Cell::Micros(s.duration_us)),
        ]
    };
    let mut entry = Entry::default();
    entry
        .row([
            field("DVIPA", t.dvipa.ip(t.ipv6)),
            field("From", &t.from),
            field("To", &t.to),
            field("Epoch", t.epoch),
        ])
        .row([
            field("Cause", t.cause.to_string()),
            field("Planned", t.planned),
            field("TakeoverMode", if t.continued_mode { "continue" } else { "renegotiate" }),
            field("Result", t.result.to_string()),
            field("Reason", &t.reason),
        ])
        .row([
            field("Started", t.started),
            field("Duration", Cell::Micros(t.duration_us)),
            field("FirstPacketAfter", unless_zero(t.ready_us).map(Cell::Micros)),
        ])
        .row([
            field("SAs", t.sas),
            field("Remade", t.remade),
            field("Continued", t.continued),
            field("Waiting", t.waiting),
            field("GivenUp", t.failed),
            field("Connections", t.connections),
        ])
        .row([field("Steps", Cell::Items(record.steps.iter().map(step).collect()))]);
    entry
}

/// Functions that change something.
pub(crate) fn control(stack: &str, time: Time, function: Function, results: &[VipaControl]) -> Report {
    let name = match function {
        Function::Move => "Move",
        Function::Deactivate => "Deactivate",
        Function::Reactivate => "Reactivate",
        Function::Quiesce => "Quiesce",
        Function::Resume => "Resume",
    };
    let heading = Heading {
        stack: stack.to_owned(),
        time,
        primary: "DVIPA",
        function: name,
        display: None,
        more: Vec::new(),
    };
    let row = |o: &VipaControl| {
        vec![o.address().into(), (&o.stack).into(), status(function, o.status), (&o.reason).into()]
    };
    let columns = vec![
        ("DVIPA", "DVIPA", 26),
        (if function == Function::Move { "To" } else { "Target" }, "Stack", 10),
        ("Status", "Status", 20),
        ("Reason", "Reason", 0),
    ];
    Report { heading, body: Body::Table { columns, rows: results.iter().map(row).collect(), counted: false } }
}

fn status(function: Function, status: VipaStatus) -> Cell {
    Cell::from(match status {
        VipaStatus::STARTED => match function {
            Function::Move => "Moving",
            Function::Deactivate => "Deactivating",
            Function::Reactivate => "Reactivated",
            Function::Quiesce => "Quiesced",
            Function::Resume => "Resumed",
        },
        VipaStatus::ALREADYSET => match function {
            Function::Move => "Already there",
            Function::Deactivate => "Already inactive",
            Function::Reactivate => "Already active",
            Function::Quiesce => "Already quiesced",
            Function::Resume => "Not quiesced",
        },
        VipaStatus::NOTFOUND => "Not found",
        VipaStatus::NOTABACKUP => "No backup",
        VipaStatus::NOTREADY => "Not ready",
        VipaStatus::BUSY => "Takeover under way",
        VipaStatus::NOTOWNER => "Owner elsewhere",
        VipaStatus::FAILED => "Failed",
        other => return other.to_string().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::layout::{json, text};
    use super::super::tests::NOW;
    use super::*;
    use crate::request::Format;
    use nmi_proto::code::{
        BackupState, DistributionMethod, DvipaState, Giveback, TakeoverCause, TakeoverMode, TakeoverResult,
        TakeoverStep,
    };
    use nmi_proto::display::{Dvipa, Takeover};
    use std::net::IpAddr;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn sample_dvipas() -> Answer<DvipaRecord> {
        let backup =
            |rank, stack: &str, state| Backup { stack: stack.into(), system: "SYSA".into(), rank, state };
        let one = DvipaRecord {
            dvipa: Dvipa {
                address: ip("192.0.2.80").into(),
                leased: true,
                connections_known: true,
                owner: "DIST".into(),
                owner_system: "SYSA".into(),
                epoch: 7,
                state: DvipaState::ACTIVE,
                takeover: TakeoverMode::CONTINUE,
                giveback: Giveback::WHEN_IDLE,
                cf_state: CfProtection::NOT_PROTECTED,
                cf_reason: "the coupling facility does not answer".into(),
                connections: 31,
                ike_sas: 1,
                child_sas: 2,
                stored: 2,
                failed: 1,
                since: NOW,
                lease_ms: 500,
                ceiling: 1 << 20,
                from: "TGT1".into(),
                ..Dvipa::default()
            },
            backups: vec![
                backup(0, "DIST", BackupState::READY),
                backup(1, "TGT1", BackupState::NOT_READY),
                backup(2, "TGT2", BackupState::GONE),
            ],
        };
        let nobody = DvipaRecord {
            dvipa: Dvipa {
                ipv6: true,
                address: ip("2001:db8::80").into(),
                state: DvipaState::BACKUP,
                takeover: TakeoverMode::RENEGOTIATE,
                giveback: Giveback::MANUAL,
                ..Dvipa::default()
            },
            backups: vec![],
        };
        Answer { records: vec![one, nobody], total: 2, timestamp: NOW }
    }

    fn sample_targets() -> Answer<VipaTarget> {
        let first = VipaTarget {
            dvipa: ip("192.0.2.80").into(),
            target: "DIST".into(),
            local: true,
            protocol: 6,
            method: DistributionMethod::HOT_STANDBY,
            port_low: 80,
            port_high: 80,
            preferred: true,
            ready_known: true,
            ready: 1,
            connections_known: true,
            active: 3,
            total: 40,
            ..VipaTarget::default()
        };
        let second = VipaTarget {
            target: "TGT1".into(),
            local: false,
            xcf: ip("198.51.100.2").into(),
            path_known: true,
            path_up: true,
            heard_ms: 12,
            weight: 10,
            affinity_secs: 60,
            quiesced: true,
            preferred: false,
            port_high: 89,
            ..first.clone()
        };
        let unknown = VipaTarget {
            target: "TGT2".into(),
            path_known: false,
            ready_known: false,
            connections_known: false,
            ..second.clone()
        };
        Answer { records: vec![first, second, unknown], total: 3, timestamp: NOW }
    }

    fn sample_history() -> Answer<TakeoverRecord> {
        let step = |step, begin_us, duration_us| TakeoverStepTime { step, begin_us, duration_us };
        let one = TakeoverRecord {
            takeover: Takeover {
                dvipa: ip("192.0.2.80").into(),
                from: "TGT1".into(),
                to: "DIST".into(),
                epoch: 7,
                cause: TakeoverCause::LEASE_ENDED,
                result: TakeoverResult::INCOMPLETE,
                started: NOW,
                duration_us: 1_250_125,
                ready_us: 626_040,
                sas: 3,
                remade: 2,
                failed: 1,
                connections: 31,
                reason: "Branch: no answer from 203.0.113.20".into(),
                ..Takeover::default()
            },
            steps: vec![
                step(TakeoverStep::DETECT, 0, 625_000),
                step(TakeoverStep::ACQUIRE, 625_000, 740),
                step(TakeoverStep::RENEGOTIATE, 626_040, 610_000),
            ],
        };
        Answer { records: vec![one], total: 1, timestamp: NOW }
    }

    #[test]
    fn display() {
        let report = dvipas("DIST", &sample_dvipas());
        insta::assert_snapshot!("dvipa_detail", text(&report, Format::Detail));
        insta::assert_snapshot!("dvipa_short", text(&report, Format::Short));
        insta::assert_snapshot!("dvipa_json", json(&report));
    }
    #[test]
    fn of_targets() {
        let report = targets("DIST", &sample_targets());
        insta::assert_snapshot!("targets_detail", text(&report, Format::Detail));
        insta::assert_snapshot!("targets_wide", text(&report, Format::Wide));
        insta::assert_snapshot!("targets_json", json(&report));
    }
    #[test]
    fn of_takeovers() {
        let report = history("DIST", &sample_history());
        insta::assert_snapshot!("history_detail", text(&report, Format::Detail));
        insta::assert_snapshot!("history_wide", text(&report, Format::Wide));
        insta::assert_snapshot!("history_json", json(&report));
    }
    #[test]
    fn orders() {
        let result = |stack: Option<&str>, status, reason: &str| VipaControl {
            status,
            reason: reason.into(),
            ..VipaControl::new(Some(ip("192.0.2.80")), stack)
        };
        let moved = [
            result(Some("TGT1"), VipaStatus::STARTED, ""),
            result(Some("TGT2"), VipaStatus::NOTREADY, "no policy is in force there"),
        ];
        let report = control("DIST", NOW, Function::Move, &moved);
        insta::assert_snapshot!("move", text(&report, Format::Detail));
        insta::assert_snapshot!("move_json", json(&report));
        let done = [result(None, VipaStatus::ALREADYSET, "")];
        let report = control("DIST", NOW, Function::Quiesce, &done);
        insta::assert_snapshot!("quiesce", text(&report, Format::Detail));
    }
}
