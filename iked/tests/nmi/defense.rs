//! Defensive filters over the interface: displays, orders, authority of one stack and of all.

use super::fake::{Daemon, OPERATOR, STRANGER};
use super::refused;
use iked::servauth::Profiles;
use nmi_proto::code::{
    DefensiveMode, DefensiveStatus, DefensiveType, FilterAction, FilterLogging, FilterType, MessageType,
    ReasonCode, ReturnCode,
};
use nmi_proto::display::DefensiveControl;
use nmi_proto::filter::InFilter;
use nmi_proto::text::CodePage;
use std::path::Path;
use std::sync::Arc;

#[test]
fn displays_have_every_value_of_the_core() {
    let daemon = Daemon::start();
    for page in [CodePage::Ascii, CodePage::Ibm1047] {
        let mut nmi = daemon.client();
        nmi.set_page(page);
        let all = nmi.defensive_filters("TCPCS1", &[]).unwrap();
        assert_eq!((all.records.len(), all.total), (2, 2));
        let (block, simulate) = (&all.records[0], &all.records[1]);
        let f = &block.filter;
        assert_eq!((f.name.as_str(), f.filter_type), ("scanner", FilterType::DEFENSIVE));
        assert_eq!((f.action, f.defensive_type), (FilterAction::DEFENSIVE_BLOCK, DefensiveType::STACK));
        assert_eq!((f.log_limit, f.logging), (100, FilterLogging::DENIED));
        assert_eq!((f.create_time.0, f.update_time.0), (1_741_010_841, 1_741_010_900));
        assert_eq!((f.expires.0, f.matches, f.denies), (1_741_012_641, 12, 12));
        assert_eq!((block.more.lifetime_min, block.more.user.as_str(), block.more.stacks), (30, "olga", 0));
        assert_eq!(simulate.filter.action, FilterAction::DEFENSIVE_SIMULATE);
        assert_eq!((simulate.filter.permits, simulate.filter.denies), (7, 0));
        let some = nmi.defensive_filters("TCPCS1", &[InFilter::rule("maybe")]).unwrap();
        assert_eq!((some.records.len(), some.total), (1, 2));
        let global = nmi.defensive_filters("", &[]).unwrap().records;
        assert_eq!((global[0].filter.defensive_type, global[0].more.stacks), (DefensiveType::GLOBAL, 2));
        let stack = &nmi.stacks().unwrap().records[0];
        assert_eq!(stack.stack.defensive_mode, DefensiveMode::ACTIVE);
        assert_eq!((stack.excluded[0].prefix, stack.excluded.len()), (24, 1));
    }
}

#[test]
fn orders_reach_the_core_and_each_object_has_its_result() {
    let daemon = Daemon::start();
    let mut nmi = daemon.client();
    let mut wanted = DefensiveControl::all("floods");
    (wanted.by_lifetime, wanted.lifetime_min) = (true, 5);
    let both = [wanted.clone(), DefensiveControl::all("more")];
    let done = nmi.control_defensive(MessageType::ADD_DEFENSIVE, "TCPCS1", &both).unwrap();
    assert_eq!((done.len(), done[0].status, done[0].stacks), (2, DefensiveStatus::DONE, 1));
    // Who ordered it, one filter for each family, and a lifetime: as the core heard it.
    assert_eq!(done[0].reason, "Some(\"root\") 2 true");
    let echoed = DefensiveControl { reason: "".into(), stacks: 0, status: wanted.status, ..done[0].clone() };
    assert_eq!(echoed, wanted, "the record of the request");
    let update = DefensiveControl { by_log: true, log: true, ..DefensiveControl::named("gone") };
    let done = nmi.control_defensive(MessageType::UPDATE_DEFENSIVE, "TCPCS1", &[update]).unwrap();
    assert_eq!(done[0].status, DefensiveStatus::NOTFOUND);
    let done = nmi.control_defensive(MessageType::DELETE_DEFENSIVE, "", &[]).unwrap();
    let names: Vec<_> = done.iter().map(|o| (o.name.as_str(), o.status, o.stacks)).collect();
    assert_eq!(names, [("scanner", DefensiveStatus::DONE, 2), ("maybe", DefensiveStatus::DONE, 2)]);
    assert_eq!(daemon.controls(), 4);
}

#[test]
fn t54_orders_that_say_too_little_or_too_much_are_refused_whole() {
    let daemon = Daemon::start();
    let mut nmi = daemon.client();
    let good = DefensiveControl::all("floods");
    let bad = DefensiveControl { source_port_low: 5, ..good.clone() };
    for (kind, objects) in [
        (MessageType::ADD_DEFENSIVE, vec![good.clone(), bad]),
        (MessageType::ADD_DEFENSIVE, vec![DefensiveControl::named("floods")]),
        (MessageType::UPDATE_DEFENSIVE, vec![DefensiveControl::named("floods")]),
        (MessageType::DELETE_DEFENSIVE, vec![good]),
    ] {
        let result = nmi.control_defensive(kind, "TCPCS1", &objects);
        assert_eq!(refused(result), (ReturnCode::EINVAL, ReasonCode::BAD_VALUE), "{kind}");
    }
    let none = nmi.control_defensive(MessageType::ADD_DEFENSIVE, "TCPCS1", &[]);
    assert_eq!(refused(none), (ReturnCode::EINVAL, ReasonCode::RECORD_NUM));
    let unknown = nmi.control_defensive(MessageType::DELETE_DEFENSIVE, "NOSUCH", &[]);
    assert_eq!(refused(unknown).0, ReturnCode::ENXIO);
    assert_eq!(daemon.controls(), 0);
}

#[test]
fn t55_global_filters_need_the_right_to_them_and_to_each_stack() {
    let daemon = Daemon::start();
    daemon.be(OPERATOR);
    let mut nmi = daemon.client();
    assert!(nmi.defensive_filters("TCPCS1", &[]).is_ok());
    let denied = (ReturnCode::EACCES, ReasonCode::NONE);
    assert_eq!(refused(nmi.defensive_filters("", &[])), denied);
    let add = [DefensiveControl::all("floods")];
    assert_eq!(refused(nmi.control_defensive(MessageType::ADD_DEFENSIVE, "TCPCS1", &add)), denied);
    assert_eq!(refused(nmi.control_defensive(MessageType::ADD_DEFENSIVE, "", &add)), denied);
    // What no profile covers is open to root, which the test may be.
    let base = "[[profile]]\nname = \"EZB.NETMGMT.**\"\npermit = [{ user = \"root\" }]\n";
    let permit = |text: &str| {
        let profiles = Profiles::parse(&format!("{base}{text}"), Path::new("servauth.toml")).unwrap();
        daemon.profiles.send_replace(Arc::new(profiles));
    };
    let global =
        "[[profile]]\nname = \"EZB.NETMGMT.SYSA.DMD_GLOBAL.IPSEC.*\"\npermit = [{ group = \"netops\" }]\n";
    permit(global);
    assert!(nmi.defensive_filters("", &[]).is_ok());
    let without_the_stack = nmi.control_defensive(MessageType::ADD_DEFENSIVE, "", &add);
    assert_eq!(refused(without_the_stack), denied);
    assert_eq!(daemon.controls(), 0);
    let stack =
        "[[profile]]\nname = \"EZB.NETMGMT.SYSA.TCPCS1.IPSEC.CONTROL\"\npermit = [{ group = \"netops\" }]\n";
    permit(&format!("{global}{stack}"));
    // A stack that is down is concerned too.
    let down = nmi.control_defensive(MessageType::ADD_DEFENSIVE, "", &add);
    assert_eq!(refused(down), denied);
    permit(&format!("{global}{}", stack.replace("TCPCS1", "*")));
    assert!(nmi.control_defensive(MessageType::ADD_DEFENSIVE, "", &add).is_ok());
    daemon.be(STRANGER);
    let mut other = daemon.client();
    assert_eq!(refused(other.defensive_filters("TCPCS1", &[])), denied);
}
