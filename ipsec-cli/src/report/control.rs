//! Reports of the functions that change something (ipsec-command.md section 4.2).

use super::heading::Heading;
use super::{Body, Cell, Report};
use crate::request::Function;
use nmi_proto::code::{FilterSet, TunnelStatus};
use nmi_proto::control::Tunnel;
use nmi_proto::value::Time;

fn heading(stack: &str, time: Time, primary: &'static str, function: &'static str) -> Heading {
    Heading { stack: stack.to_owned(), time, primary, function, display: None, more: Vec::new() }
}

/// `-f default`, `-f reload`.
pub(crate) fn loaded(stack: &str, time: Time, set: FilterSet) -> Report {
    let (function, line) = if set == FilterSet::DEFAULT {
        ("Default", "The default IP filters are in force")
    } else {
        ("Reload", "The IP filters of the policy are in force")
    };
    Report { heading: heading(stack, time, "Filter", function), body: Body::Line(line.to_owned()) }
}

/// Functions of `-k` and `-y`.
pub(crate) fn report(stack: &str, time: Time, function: Function, all: bool, results: &[Tunnel]) -> Report {
    let is_ike = matches!(function, Function::DeactivateIke | Function::RefreshIke);
    let is_manual = matches!(function, Function::ActivateManual | Function::DeactivateManual);
    let (primary, plural) = match (is_ike, is_manual) {
        (true, _) => ("IKE tunnel", "IKE tunnels"),
        (_, true) => ("Manual tunnel", "manual tunnels"),
        _ => ("Dynamic tunnel", "dynamic tunnels"),
    };
    let (name, doing) = match function {
        Function::ActivateManual => ("Activate", "Activated"),
        Function::DeactivateManual => ("Deactivate", "Deactivated"),
        Function::ActivateDynamic => ("Activate", "Activating"),
        Function::DeactivateDynamic | Function::DeactivateIke => ("Deactivate", "Deactivating"),
        Function::RefreshDynamic | Function::RefreshIke => ("Refresh", "Refreshing"),
    };
    let heading = heading(stack, time, primary, name);
    let smooth = results.iter().all(|t| t.status == TunnelStatus::STATEUPDATED);
    if all && smooth {
        let line = if results.is_empty() {
            format!("There are no {plural}")
        } else {
            format!("All {plural} {doing}")
        };
        return Report { heading, body: Body::Line(line) };
    }
    let row = |t: &Tunnel| {
        let (id, rule, status) =
            (Cell::from(&t.tunnel_id), Cell::from(&t.name), status(function, doing, t.status));
        if is_ike { vec![id, status] } else { vec![id, rule, status] }
    };
    let columns = if is_ike {
        vec![("Tunnel ID", "TunnelID", 17), ("Status", "Status", 0)]
    } else {
        vec![
            ("Tunnel ID", "TunnelID", 17),
            if is_manual {
                ("IpManVpnActionName", "IpManVpnActionName", 50)
            } else {
                ("LocalDynVpnRuleName", "LocalDynVpnRuleName", 50)
            },
            ("Status", "Status", 0),
        ]
    };
    Report { heading, body: Body::Table { columns, rows: results.iter().map(row).collect(), counted: false } }
}

fn status(function: Function, doing: &str, status: TunnelStatus) -> Cell {
    Cell::from(match status {
        TunnelStatus::STATEUPDATED => doing,
        TunnelStatus::NOTFOUND => "Not found",
        TunnelStatus::STATEALREADYSET => match function {
            Function::ActivateDynamic | Function::ActivateManual => "Already active",
            Function::DeactivateDynamic | Function::DeactivateIke | Function::DeactivateManual => {
                "Already inactive"
            }
            Function::RefreshDynamic | Function::RefreshIke => "Already refreshing",
        },
        TunnelStatus::NOKER => "No KeyExchangeRule",
        TunnelStatus::NOFILTER => "No IpFilterRule",
        TunnelStatus::NODATAOFFER => "No IpDataOffer",
        TunnelStatus::FAILED => "Failed",
        other => return other.to_string().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::layout::{json, text};
    use super::super::tests::NOW;
    use super::*;
    use crate::request::Format;

    fn tunnel(id: &str, name: &str, status: TunnelStatus) -> Tunnel {
        Tunnel { name: name.into(), tunnel_id: id.into(), status }
    }
    fn shown(function: Function, all: bool, results: &[Tunnel]) -> String {
        text(&report("DIST", NOW, function, all, results), Format::Detail)
    }

    #[test]
    fn tables() {
        use TunnelStatus as S;
        let one = [tunnel("K3", "kxPeer", S::STATEUPDATED)];
        insta::assert_snapshot!("deactivate_ike", shown(Function::DeactivateIke, false, &one));
        let two = [tunnel("Y7", "", S::STATEUPDATED), tunnel("Y9", "branchNet", S::NOTFOUND)];
        insta::assert_snapshot!("refresh_dynamic", shown(Function::RefreshDynamic, false, &two));
        let report = report("DIST", NOW, Function::RefreshDynamic, false, &two);
        insta::assert_snapshot!("refresh_dynamic_json", json(&report));
        let all = [S::STATEALREADYSET, S::NOKER, S::NOFILTER, S::NODATAOFFER, S::FAILED, TunnelStatus(99)];
        let rules: Vec<_> = all.iter().map(|s| tunnel("", "rule", *s)).collect();
        insta::assert_snapshot!("activate", shown(Function::ActivateDynamic, false, &rules));
    }

    #[test]
    fn all_of_them() {
        let done = [tunnel("Y7", "", TunnelStatus::STATEUPDATED)];
        assert!(
            shown(Function::DeactivateDynamic, true, &done).ends_with("\nAll dynamic tunnels Deactivating\n")
        );
        assert!(shown(Function::RefreshIke, true, &[]).ends_with("\nThere are no IKE tunnels\n"));
        // What did not go is listed, although all were meant.
        let failed = [tunnel("Y7", "", TunnelStatus::FAILED)];
        assert!(shown(Function::DeactivateDynamic, true, &failed).contains("Failed"));
    }

    #[test]
    fn filter_sets() {
        insta::assert_snapshot!("reload", text(&loaded("DIST", NOW, FilterSet::POLICY), Format::Detail));
        let default = text(&loaded("DIST", NOW, FilterSet::DEFAULT), Format::Detail);
        assert!(default.contains("Function: Default"), "{default}");
    }
}
