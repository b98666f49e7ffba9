//! The resources of the interface, and what a caller may do with them (docs/nmi.md sections 4 and 6.20).

use crate::request::StackInfo;
use crate::servauth::{Caller, Profiles};
use nmi_proto::display::{Authority, AuthorityRecord, Caller as WireCaller};
use stack::control::DefenseMode;

/// The resource of displays of a stack.
pub(super) fn display(system: &str, stack: &str) -> String {
    format!("EZB.NETMGMT.{system}.{stack}.IPSEC.DISPLAY")
}

/// The resource of controls of a stack.
pub(super) fn control(system: &str, stack: &str) -> String {
    format!("EZB.NETMGMT.{system}.{stack}.IPSEC.CONTROL")
}

/// The resource of displays without a stack.
pub(super) fn daemon(system: &str) -> String {
    format!("EZB.NETMGMT.{system}.{system}.IKED.DISPLAY")
}

/// The stacks that an order about all of them is about.
pub(super) fn defending(stacks: &[StackInfo]) -> impl Iterator<Item = &str> {
    stacks.iter().filter(|s| s.defense != DefenseMode::Inactive).map(|s| s.name.as_str())
}

/// What `caller` may do. Of a stack with which he may do nothing he does not hear, unless he may list the stacks.
pub(super) fn of<'a>(
    system: &str,
    profiles: &Profiles,
    caller: &Caller,
    stacks: impl Iterator<Item = &'a str>,
) -> Vec<AuthorityRecord> {
    let decide = |resource: &str| {
        let decision = profiles.decide(resource, caller);
        (decision.permitted, decision.by.map_or_else(String::new, ToString::to_string))
    };
    let (lists, by) = decide(&daemon(system));
    let me = WireCaller {
        superuser: profiles.is_superuser(caller),
        uid: caller.uid,
        pid: u32::try_from(caller.pid).unwrap_or_default(),
        user: caller.user.name.as_deref().unwrap_or_default().into(),
        system: system.into(),
    };
    let first = AuthorityRecord {
        authority: Authority { display: lists, display_by: by.as_str().into(), ..Authority::default() },
        caller: Some(me),
    };
    let of_stack = |stack: &str| {
        let ((display, display_by), (control, control_by)) =
            (decide(&display(system, stack)), decide(&control(system, stack)));
        (display || control || lists).then(|| AuthorityRecord {
            authority: Authority {
                display,
                control,
                stack: stack.into(),
                display_by: display_by.as_str().into(),
                control_by: control_by.as_str().into(),
            },
            caller: None,
        })
    };
    std::iter::once(first).chain(stacks.filter_map(of_stack)).collect()
}
