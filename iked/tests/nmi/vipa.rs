//! DVIPAs over the interface: displays, orders, authority.

use super::fake::{Daemon, OPERATOR};
use super::refused;
use nmi_proto::code::{
    CfProtection, DistributionMethod, DvipaState, MessageType, ReasonCode, ReturnCode, TakeoverCause,
    TakeoverResult, TakeoverStep, VipaStatus,
};
use nmi_proto::control::VipaControl;
use nmi_proto::filter::InFilter;
use nmi_proto::text::CodePage;
use std::net::IpAddr;

fn vip() -> IpAddr {
    "203.0.113.10".parse().unwrap()
}

#[test]
fn displays_have_every_value_of_the_core() {
    let daemon = Daemon::start();
    for page in [CodePage::Ascii, CodePage::Ibm1047] {
        let mut nmi = daemon.client();
        nmi.set_page(page);
        let all = nmi.dvipas("TCPCS1", &[]).unwrap();
        assert_eq!((all.records.len(), all.total), (2, 2));
        let one = &all.records[0].dvipa;
        assert_eq!(one.address.ip(one.ipv6), vip());
        assert_eq!((one.owner.as_str(), one.owner_system.as_str(), one.epoch), ("TCPCS1", "SYSA", 5));
        assert_eq!((one.state, one.cf_state), (DvipaState::ACTIVE, CfProtection::NOT_PROTECTED));
        assert_eq!(one.cf_reason, "etcd: no leader");
        assert_eq!((one.connections_known, one.connections, one.lease_ms), (true, 12, 500));
        let ranks: Vec<_> = all.records[0].backups.iter().map(|b| (b.stack.as_str(), b.rank)).collect();
        assert_eq!(ranks, [("TCPCS1", 0), ("TCPCS2", 1)]);
        let other = &all.records[1].dvipa;
        assert!(other.ipv6 && !other.connections_known && other.owner.is_blank());
        let some = nmi.dvipas("TCPCS1", &[InFilter::local(vip())]).unwrap();
        assert_eq!((some.records.len(), some.total), (1, 2));

        let targets = nmi.vipa_targets("TCPCS1", &[InFilter::rule("TGT2")]).unwrap();
        assert_eq!((targets.records.len(), targets.total), (1, 2));
        let t = &targets.records[0];
        assert_eq!((t.port_low, t.port_high, t.protocol), (80, 81, 6));
        assert_eq!(t.method, DistributionMethod::WEIGHTED_ACTIVE);
        assert!(t.quiesced && t.ready_known && t.path_known && !t.path_up && !t.local);
        assert_eq!((t.ready, t.weight, t.active, t.total, t.heard_ms), (2, 10, 3, 30, 25));
        assert_eq!(t.xcf.ip(t.xcf_ipv6), "10.99.0.3".parse::<IpAddr>().unwrap());

        let history = nmi.takeovers("TCPCS1", &[]).unwrap().records;
        let last = &history[0];
        assert_eq!((last.takeover.from.as_str(), last.takeover.to.as_str()), ("TCPCS2", "TCPCS1"));
        assert_eq!(
            (last.takeover.cause, last.takeover.result),
            (TakeoverCause::LEASE_ENDED, TakeoverResult::INCOMPLETE)
        );
        assert_eq!((last.takeover.sas, last.takeover.remade, last.takeover.failed), (3, 2, 1));
        let steps: Vec<_> = last.steps.iter().map(|s| (s.step, s.begin_us, s.duration_us)).collect();
        assert_eq!(steps, [(TakeoverStep::DETECT, 0, 125_000), (TakeoverStep::ACQUIRE, 125_000, 800)]);
    }
}

#[test]
fn orders_reach_the_core_and_each_object_has_its_result() {
    let daemon = Daemon::start();
    let mut nmi = daemon.client();
    let other: IpAddr = "203.0.113.99".parse().unwrap();
    let moves = [VipaControl::new(Some(vip()), Some("TCPCS2")), VipaControl::new(Some(other), Some("X"))];
    let done = nmi.control_vipa(MessageType::MOVE_DVIPA, "TCPCS1", &moves).unwrap();
    let results: Vec<_> = done.iter().map(|o| (o.address(), o.stack.as_str(), o.status)).collect();
    assert_eq!(
        results,
        [(Some(vip()), "TCPCS2", VipaStatus::STARTED), (Some(other), "X", VipaStatus::NOTFOUND)]
    );
    assert_eq!(done[1].reason, "no such DVIPA");

    let all = [VipaControl::new(None, Some("TGT1"))];
    let done = nmi.control_vipa(MessageType::QUIESCE_TARGET, "TCPCS1", &all).unwrap();
    assert_eq!(done.len(), 2, "one for each DVIPA of the target");
    assert!(done.iter().all(|o| o.status == VipaStatus::STARTED && o.address().is_some()));
}

#[test]
fn t54_orders_that_lack_something_or_say_too_much_are_refused_whole() {
    let daemon = Daemon::start();
    let mut nmi = daemon.client();
    let good = VipaControl::new(Some(vip()), Some("TCPCS2"));
    let bad_family =
        VipaControl { ipv6: false, dvipa: "2001:db8::1".parse::<IpAddr>().unwrap().into(), ..good.clone() };
    let answered = VipaControl { status: VipaStatus::STARTED, ..good.clone() };
    for (kind, object) in [
        (MessageType::MOVE_DVIPA, VipaControl::new(Some(vip()), None)),
        (MessageType::MOVE_DVIPA, VipaControl::new(None, Some("TCPCS2"))),
        (MessageType::MOVE_DVIPA, bad_family),
        (MessageType::MOVE_DVIPA, answered),
        (MessageType::DEACTIVATE_DVIPA, good.clone()),
        (MessageType::REACTIVATE_DVIPA, VipaControl::new(None, None)),
        (MessageType::RESUME_TARGET, VipaControl::new(Some(vip()), None)),
    ] {
        let with_a_good_one = [VipaControl::new(Some(vip()), Some("TCPCS2")), object];
        let result = nmi.control_vipa(kind, "TCPCS1", &with_a_good_one);
        assert_eq!(refused(result), (ReturnCode::EINVAL, ReasonCode::BAD_VALUE), "{kind}");
    }
    let none = nmi.control_vipa(MessageType::MOVE_DVIPA, "TCPCS1", &[]);
    assert_eq!(refused(none), (ReturnCode::EINVAL, ReasonCode::RECORD_NUM));
    assert_eq!(daemon.controls(), 0);
}

#[test]
fn t55_the_right_to_display_moves_no_address() {
    let daemon = Daemon::start();
    daemon.be(OPERATOR);
    let mut nmi = daemon.client();
    assert!(nmi.dvipas("TCPCS1", &[]).is_ok());
    let order = [VipaControl::new(Some(vip()), Some("TCPCS2"))];
    let result = nmi.control_vipa(MessageType::MOVE_DVIPA, "TCPCS1", &order);
    assert_eq!(refused(result), (ReturnCode::EACCES, ReasonCode::NONE));
    assert_eq!(daemon.controls(), 0);
}
