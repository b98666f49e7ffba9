//! `ipsec vipa`: DVIPAs, their targets and takeovers, and what an operator does with them.

use crate::args::Vipa;
use crate::client::Outcome;
use crate::exit::{self, Failure};
use crate::report::vipa as report;
use nmi_proto::client::{Client, ClientError};
use nmi_proto::code::{MessageType, VipaStatus};
use nmi_proto::control::VipaControl;
use nmi_proto::filter::InFilter;
use nmi_proto::value::Time;
use nmi_proto::{MAX_FILTERS, MAX_TUNNELS};
use std::net::IpAddr;

/// What is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Display(Vec<InFilter>),
    Targets(Vec<InFilter>),
    History(Vec<InFilter>),
    Control { function: Function, objects: Vec<VipaControl> },
}

/// Functions that change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Move,
    Deactivate,
    Reactivate,
    Quiesce,
    Resume,
}

impl Function {
    const fn message(self) -> MessageType {
        match self {
            Self::Move => MessageType::MOVE_DVIPA,
            Self::Deactivate => MessageType::DEACTIVATE_DVIPA,
            Self::Reactivate => MessageType::REACTIVATE_DVIPA,
            Self::Quiesce => MessageType::QUIESCE_TARGET,
            Self::Resume => MessageType::RESUME_TARGET,
        }
    }
}

impl Action {
    /// Checks what was typed.
    pub(crate) fn new(typed: Option<&Vipa>) -> Result<Self, Failure> {
        let dvipas = |all: &[IpAddr]| all.iter().map(|a| InFilter::local(*a)).collect::<Vec<_>>();
        let control = |function, objects: Vec<VipaControl>| {
            if objects.len() > MAX_TUNNELS {
                let count = objects.len();
                return Err(Failure::Usage(format!("{count} objects, at most {MAX_TUNNELS} at a time")));
            }
            Ok(Self::Control { function, objects })
        };
        let addressed = |all: &[IpAddr], to: Option<&str>| {
            all.iter().map(|a| VipaControl::new(Some(*a), to)).collect::<Vec<_>>()
        };
        let named = |all: &[String], dvipa: Option<IpAddr>| {
            all.iter().map(|t| VipaControl::new(dvipa, Some(t))).collect::<Vec<_>>()
        };
        let action = match typed {
            None => Self::Display(Vec::new()),
            Some(Vipa::Display { addresses }) => Self::Display(dvipas(addresses)),
            Some(Vipa::History { addresses }) => Self::History(dvipas(addresses)),
            Some(Vipa::Targets { addresses, names }) => {
                let of = |name: Option<&String>, base: InFilter| match name {
                    Some(name) => InFilter { by_name: true, name: name.as_str().into(), ..base },
                    None => base,
                };
                let filters = match (&addresses[..], &names[..]) {
                    ([], names) => names.iter().map(|n| InFilter::rule(n)).collect(),
                    (addresses, []) => dvipas(addresses),
                    (addresses, names) => dvipas(addresses)
                        .into_iter()
                        .flat_map(|base| names.iter().map(move |n| of(Some(n), base.clone())))
                        .collect(),
                };
                Self::Targets(filters)
            }
            Some(Vipa::Move { addresses, to }) => {
                return control(Function::Move, addressed(addresses, Some(to)));
            }
            Some(Vipa::Deactivate { addresses }) => {
                return control(Function::Deactivate, addressed(addresses, None));
            }
            Some(Vipa::Reactivate { addresses }) => {
                return control(Function::Reactivate, addressed(addresses, None));
            }
            Some(Vipa::Quiesce { targets, dvipa }) => {
                return control(Function::Quiesce, named(targets, *dvipa));
            }
            Some(Vipa::Resume { targets, dvipa }) => {
                return control(Function::Resume, named(targets, *dvipa));
            }
        };
        match &action {
            Self::Display(f) | Self::Targets(f) | Self::History(f) if f.len() > MAX_FILTERS => {
                let count = f.len();
                Err(Failure::Usage(format!("{count} selections, at most {MAX_FILTERS} at a time")))
            }
            _ => Ok(action),
        }
    }
}

/// Asks the daemon.
pub(crate) fn carry_out(
    client: &mut Client,
    stack: &str,
    now: Time,
    action: &Action,
) -> Result<Outcome, ClientError> {
    let report = match action {
        Action::Display(by) => report::dvipas(stack, &client.dvipas(stack, by)?),
        Action::Targets(by) => report::targets(stack, &client.vipa_targets(stack, by)?),
        Action::History(by) => report::history(stack, &client.takeovers(stack, by)?),
        Action::Control { function, objects } => {
            let results = client.control_vipa(function.message(), stack, objects)?;
            let report = report::control(stack, now, *function, &results);
            return Ok(Outcome { report, code: control_code(&results) });
        }
    };
    Ok(Outcome { report, code: exit::SUCCESS })
}

/// Something was done, and nothing failed.
fn control_code(results: &[VipaControl]) -> u8 {
    let is = |wanted: VipaStatus| move |o: &VipaControl| o.status == wanted;
    let done = is(VipaStatus::STARTED);
    let fine = |o: &VipaControl| done(o) || is(VipaStatus::ALREADYSET)(o);
    if results.iter().any(done) && results.iter().all(fine) { exit::SUCCESS } else { exit::FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Action as Any;
    use crate::request::tests::request;

    fn action(line: &str) -> Action {
        match request(line).unwrap().action {
            Any::Vipa(action) => action,
            other => panic!("{other:?}"),
        }
    }
    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn display_is_the_default_and_options_stand_on_either_side() {
        for line in ["vipa", "vipa display", "vipa dis", "-p DIST vipa", "vipa display -p DIST"] {
            assert_eq!(action(line), Action::Display(vec![]), "{line}");
        }
        let r = request("vipa -p DIST targets --json").unwrap();
        assert!(r.json && r.stack.as_deref() == Some("DIST"));
        assert_eq!(
            action("vipa history 192.0.2.80 2001:db8::1"),
            Action::History(vec![InFilter::local(ip("192.0.2.80")), InFilter::local(ip("2001:db8::1"))])
        );
    }

    #[test]
    fn targets_are_selected_by_dvipa_and_name() {
        let Action::Targets(f) = action("vipa targets 192.0.2.80 -n TGT1 TGT2") else { panic!() };
        assert_eq!(f.len(), 2);
        assert!(f.iter().all(|f| f.by_name && f.by_local_address));
        assert_eq!(action("vipa targets -n T"), Action::Targets(vec![InFilter::rule("T")]));
    }

    #[test]
    fn orders() {
        let one = |dvipa: Option<&str>, stack: Option<&str>| vec![VipaControl::new(dvipa.map(ip), stack)];
        let of = |function, objects| Action::Control { function, objects };
        let vip = Some("192.0.2.80");
        assert_eq!(action("vipa move 192.0.2.80 --to TGT1"), of(Function::Move, one(vip, Some("TGT1"))));
        assert_eq!(action("vipa deactivate 192.0.2.80"), of(Function::Deactivate, one(vip, None)));
        assert_eq!(action("vipa reactivate 192.0.2.80"), of(Function::Reactivate, one(vip, None)));
        assert_eq!(action("vipa quiesce TGT1"), of(Function::Quiesce, one(None, Some("TGT1"))));
        assert_eq!(
            action("vipa resume TGT1 --dvipa 192.0.2.80"),
            of(Function::Resume, one(vip, Some("TGT1")))
        );
    }

    #[test]
    fn what_lacks_something_is_refused() {
        for line in [
            "vipa move 192.0.2.80",
            "vipa move --to TGT1",
            "vipa deactivate",
            "vipa quiesce",
            "vipa display nowhere",
            "vipa destroy",
            "-f display vipa",
            "--drops vipa",
        ] {
            assert!(request(line).is_err(), "{line}");
        }
    }

    #[test]
    fn t59_partial_success_is_not_success() {
        let with = |statuses: &[VipaStatus]| {
            let all: Vec<_> =
                statuses.iter().map(|s| VipaControl { status: *s, ..VipaControl::default() }).collect();
            control_code(&all)
        };
        use VipaStatus as S;
        assert_eq!(with(&[S::STARTED, S::ALREADYSET]), 0);
        assert_eq!(with(&[S::STARTED, S::NOTREADY]), 1);
        assert_eq!(with(&[S::ALREADYSET]), 1);
        assert_eq!(with(&[]), 1);
    }
}
