//! `-w`, `-x` and `--whoami`: what is about the daemon more than about a stack (ipsec-command.md section 11).

use super::heading::{Display, Heading};
use super::{Body, Cell, Entry, Report, address, field, unless_zero};
use nmi_proto::answer::Answer;
use nmi_proto::code::NssState;
use nmi_proto::display::{AuthorityRecord, Nss};
use nmi_proto::value::Time;

fn heading(stack: &str, time: Time, primary: &'static str, source: &'static str, total: u32) -> Heading {
    Heading {
        stack: stack.to_owned(),
        time,
        primary,
        function: "Display",
        display: Some(Display { source, scope: "n/a", total: Some(total) }),
        more: Vec::new(),
    }
}

/// `-w`: the stacks as clients of network security services.
pub(crate) fn stacks(stack: &str, answer: &Answer<Nss>) -> Report {
    Report {
        heading: heading(stack, answer.timestamp, "Stack NSS", "IKED", answer.total),
        body: Body::Entries(answer.records.iter().map(entry).collect()),
    }
}

fn entry(n: &Nss) -> Entry {
    let services = match (n.cert_selected, n.remote_mgmt_selected) {
        _ if !n.configured => Cell::from("None"),
        (true, true) => "CertificateServices RemoteManagement".into(),
        (true, false) => "CertificateServices".into(),
        (false, true) => "RemoteManagement".into(),
        (false, false) => "None".into(),
    };
    let flag = |on: bool| n.configured.then_some(on);
    let state = match n.connection_state {
        NssState::NOT_APPLICABLE => Cell::from("not configured"),
        other => other.to_string().into(),
    };
    let mut entry = Entry::default();
    entry
        .row([field("StackName", &n.stack_name), field("ClientName", &n.client_name)])
        .row([
            field("ClientAPIVersion", unless_zero(n.client_api_version)),
            field("ServerAPIVersion", unless_zero(n.server_api_version)),
            field("NSServicesSupported", services),
        ])
        .row([
            field("RemoteMgmtSelected", flag(n.remote_mgmt_selected)),
            field("RemoteMgmtEnabled", flag(n.remote_mgmt_enabled)),
            field("CertificateServicesSelected", flag(n.cert_selected)),
            field("CertificateServicesEnabled", flag(n.cert_enabled)),
        ])
        .row([
            field("NSClientIPAddress", address(n.client_address, n.ipv6)),
            field("NSClientPort", unless_zero(n.client_port)),
            field("NSServerIPAddress", address(n.server_address, n.ipv6)),
            field("NSServerPort", unless_zero(n.server_port)),
            field("NSServerSystemName", &n.server_sys_name),
        ])
        .row([
            field("UserID", &n.userid),
            field("ConnectionState", state),
            field("TimeConnected", n.connection_time),
            field("TimeOfLastMessage", n.last_message_time),
        ]);
    entry
}

/// `-x`: the daemon is no server of network security services, so it has no clients.
pub(crate) fn clients(time: Time) -> Report {
    Report { heading: heading("*ALL*", time, "NSS Server", "Server", 0), body: Body::Entries(Vec::new()) }
}

/// `--whoami`: what the caller may do.
pub(crate) fn authority(answer: &Answer<AuthorityRecord>) -> Report {
    let mut heading = heading("*ALL*", answer.timestamp, "Authority", "IKED", answer.total);
    if let Some(me) = answer.records.iter().find_map(|r| r.caller.as_ref()) {
        heading.more = vec![vec![
            ("User", format!("{}({})", me.user.given().unwrap_or("?"), me.uid).into()),
            ("System", (&me.system).into()),
            ("Superuser", me.superuser.into()),
        ]];
    }
    let row = |r: &AuthorityRecord| {
        let a = &r.authority;
        let by = |profile: &str| Cell::from(if profile.is_empty() { "(superusers only)" } else { profile });
        let control =
            if a.stack.is_blank() { (Cell::None, Cell::None) } else { (a.control.into(), by(&a.control_by)) };
        vec![
            a.stack.given().unwrap_or("(daemon)").into(),
            a.display.into(),
            by(&a.display_by),
            control.0,
            control.1,
        ]
    };
    Report {
        heading,
        body: Body::Table {
            columns: vec![
                ("Stack", "stack", 10),
                ("Display", "display", 9),
                ("Decided by", "display_profile", 42),
                ("Control", "control", 9),
                ("Decided by", "control_profile", 0),
            ],
            rows: answer.records.iter().map(row).collect(),
            counted: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::{json, text};
    use super::super::tests::NOW;
    use super::*;
    use crate::request::Format;
    use nmi_proto::display::{Authority, Caller};

    #[test]
    fn services_that_nobody_configured() {
        let one = Nss { stack_name: "DIST".into(), ..Nss::default() };
        let answer = Answer { records: vec![one], total: 1, timestamp: NOW };
        insta::assert_snapshot!("nss", text(&stacks("*ALL*", &answer), Format::Detail));
        assert!(text(&clients(NOW), Format::Detail).ends_with("\n0 entries selected\n"));
    }

    #[test]
    fn who_am_i() {
        let first = AuthorityRecord {
            authority: Authority {
                display: true,
                display_by: "EZB.NETMGMT.**".into(),
                ..Authority::default()
            },
            caller: Some(Caller {
                superuser: false,
                uid: 1000,
                pid: 77,
                user: "olga".into(),
                system: "SYSA".into(),
            }),
        };
        let stack = AuthorityRecord {
            authority: Authority {
                display: true,
                stack: "DIST".into(),
                display_by: "EZB.NETMGMT.SYSA.*.IPSEC.DISPLAY".into(),
                ..Authority::default()
            },
            caller: None,
        };
        let answer = Answer { records: vec![first, stack], total: 2, timestamp: NOW };
        insta::assert_snapshot!("whoami", text(&authority(&answer), Format::Detail));
        insta::assert_snapshot!("whoami_json", json(&authority(&answer)));
    }
}
