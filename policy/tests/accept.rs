//! Policies that must load, and what they mean: `accept/*.conf` with a snapshot each.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use policy::{Policy, Source, compile, load};
use std::fmt::Write;

fn read(name: &str) -> (Policy, Vec<policy::Diagnostic>) {
    let path = format!("{}/tests/accept/{name}.conf", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).unwrap();
    match load(&[Source::common(format!("{name}.conf"), bytes)]) {
        Ok(loaded) => loaded,
        Err(report) => panic!("{report}"),
    }
}

/// The filters, one a line, then the warnings.
fn show(name: &str) -> String {
    let (policy, warnings) = read(name);
    let mut out = String::new();
    for f in compile::filters(&policy) {
        let way = if f.inbound { "in " } else { "out" };
        let protocol = f.protocol.map_or("any".to_owned(), |n| n.to_string());
        let ports = |r: policy::model::PortRange| {
            if r.is_any() { String::new() } else { format!(":{}-{}", r.low(), r.high()) }
        };
        writeln!(
            out,
            "{} {} {way} {protocol} {}{} > {}{} {:?} {}",
            f.rule.name,
            f.extension,
            f.source,
            ports(f.source_ports),
            f.destination,
            ports(f.destination_ports),
            f.service.routing,
            match &f.rule.action {
                policy::model::Action::Permit { .. } => "permit".to_owned(),
                policy::model::Action::Deny { .. } => "deny".to_owned(),
                policy::model::Action::Ipsec { vpn, .. } => format!("ipsec {}", vpn.name),
                policy::model::Action::Manual { vpn, .. } => format!("manual {}", vpn.name),
            }
        )
        .unwrap();
    }
    for warning in warnings {
        write!(out, "\n{warning}").unwrap();
    }
    out
}

#[test]
fn the_example_of_the_project_has_no_warning() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/policy.conf");
    let (_, warnings) = load(&[Source::common("policy.conf", std::fs::read(path).unwrap())]).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn the_example_of_the_reference_has_no_warning() {
    let reference =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy.md")).unwrap();
    let example = reference.split("```policy\n").nth(1).unwrap().split("```").next().unwrap();
    let (_, warnings) = load(&[Source::common("policy.md", example.into())]).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn host_to_host() {
    insta::assert_snapshot!(show("host_to_host"));
}

#[test]
fn subnet() {
    insta::assert_snapshot!(show("subnet"));
}

#[test]
fn manual() {
    insta::assert_snapshot!(show("manual"));
    insta::assert_debug_snapshot!("manual_in_full", read("manual").0.filter.rules.last().unwrap().man_vpn());
}

#[test]
fn all_features() {
    insta::assert_snapshot!(show("all_features"));
    insta::assert_debug_snapshot!("all_features_in_full", read("all_features").0);
}

#[test]
fn dvipa() {
    insta::assert_snapshot!(show("dvipa"));
}

#[test]
fn everything() {
    insta::assert_snapshot!(show("everything"));
}

#[test]
fn everything_in_full() {
    insta::assert_debug_snapshot!(read("everything").0);
}
