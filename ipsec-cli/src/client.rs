//! Carries a request out over one connection to the daemon.

use crate::exit::{self, Failure};
use crate::report::{self, Report};
use crate::request::{Action, FilterScope, Objects, Request, View};
use crate::{defensive, trace, vipa};
use nmi_proto::answer::Answer;
use nmi_proto::client::{Client, ClientError};
use nmi_proto::code::{FilterType, MessageType, ReturnCode, TunnelStatus};
use nmi_proto::control::{LoadPolicy, Tunnel};
use nmi_proto::display::{FilterRecord, Stack};
use nmi_proto::value::Time;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the daemon may be silent.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What came of it.
pub(crate) struct Outcome {
    /// What is shown.
    pub(crate) report: Report,
    /// Exit code.
    pub(crate) code: u8,
}

/// Asks the daemon.
pub(crate) fn carry_out(request: &Request) -> Result<Outcome, Failure> {
    let mut client = Client::connect(&request.socket, Some(PATIENCE)).map_err(Failure::Client)?;
    if request.trace {
        client.set_trace(trace::trace);
    }
    // What is about no stack needs none.
    let about_all = |report| Ok(Outcome { report, code: exit::SUCCESS });
    match &request.action {
        Action::Authority => {
            let answer = client.authority().map_err(|error| Failure::of(error, None))?;
            return about_all(report::services::authority(&answer));
        }
        Action::Services if request.stack.is_none() => {
            let answer = client.nss().map_err(|error| Failure::of(error, None))?;
            return about_all(report::services::stacks("*ALL*", &answer));
        }
        Action::Defensive { global: true, action } => {
            let done = defensive::carry_out(&mut client, "", None, now(), action);
            return done.map_err(|error| Failure::of(error, None));
        }
        Action::ServiceClients => return about_all(report::services::clients(now())),
        _ => {}
    }
    let (stack, info) = stack(&mut client, request)?;
    let failed = |error| Failure::of(error, Some(&stack));
    let report = match &request.action {
        Action::Filters { scope, resolutions, select } => {
            let message = match scope {
                FilterScope::Current => MessageType::GET_IPFLTCURR,
                FilterScope::Profile => MessageType::GET_IPFLTDEFAULT,
                FilterScope::Policy => MessageType::GET_IPFLTPOLICY,
            };
            let mut answer = client.display(message, &stack, select).map_err(failed)?;
            hide_resolutions(&mut answer, *resolutions);
            report::filter::report(&stack, info.as_ref(), *scope, &answer)
        }
        Action::IkeTunnels { all, cascade, select } => {
            let message = if *cascade { MessageType::GET_IKETUNCASCADE } else { MessageType::GET_IKETUN };
            let answer = client.display(message, &stack, select).map_err(failed)?;
            report::ike_tunnel::report(&stack, *all, *cascade, &answer)
        }
        Action::DynamicTunnels { all, view: view @ (View::Stack | View::Shadow), select } => {
            let answer = client.dynamic_tunnels(&stack, select).map_err(failed)?;
            report::dynamic_tunnel::stack_report(&stack, *all, *view == View::Shadow, &answer)
        }
        Action::ManualTunnels(select) => {
            report::manual_tunnel::report(&stack, &client.manual_tunnels(&stack, select).map_err(failed)?)
        }
        Action::PortTranslations(select) => {
            let answer = client.port_translations(&stack, select).map_err(failed)?;
            report::port_translation::report(&stack, &answer)
        }
        Action::TrafficTest(packet) => {
            let answer = client.test_packet(&stack, &packet.to_wire()).map_err(failed)?;
            report::filter::test_report(&stack, info.as_ref(), packet, &answer)
        }
        Action::Services | Action::ServiceClients | Action::Authority => {
            let answer = client.display(MessageType::GET_IKENSINFO, &stack, &[]).map_err(failed)?;
            report::services::stacks(&stack, &answer)
        }
        Action::DynamicTunnels { all, view: View::Ike, select } => {
            let answer = client.dynamic_tunnels_ike(&stack, select).map_err(failed)?;
            report::dynamic_tunnel::ike_report(&stack, *all, &answer)
        }
        Action::Interfaces => report::interface::report(&stack, &client.interfaces(&stack).map_err(failed)?),
        Action::Drops => report::extension::drops(&stack, &client.drops(&stack).map_err(failed)?),
        Action::Distribution => {
            report::extension::distribution(&stack, &client.distribution(&stack).map_err(failed)?)
        }
        Action::Defensive { action, .. } => {
            return defensive::carry_out(&mut client, &stack, info.as_ref(), now(), action).map_err(failed);
        }
        Action::Vipa(action) => {
            return vipa::carry_out(&mut client, &stack, now(), action).map_err(failed);
        }
        Action::Load(set) => {
            client.load_policy(&stack, &LoadPolicy { filter_set: *set }).map_err(failed)?;
            report::control::loaded(&stack, now(), *set)
        }
        Action::Control { function, objects } => {
            let results = match objects {
                Objects::All => client.control_all(function.message(), &stack),
                Objects::These(tunnels) => client.control(function.message(), &stack, tunnels),
            };
            let results = results.map_err(failed)?;
            let report =
                report::control::report(&stack, now(), *function, *objects == Objects::All, &results);
            return Ok(Outcome { report, code: control_code(&results) });
        }
    };
    Ok(Outcome { report, code: exit::SUCCESS })
}

/// NAT resolution filters, one for each flow, are shown where they are asked for.
fn hide_resolutions(answer: &mut Answer<FilterRecord>, shown: bool) {
    if !shown {
        let all = answer.records.len();
        answer.records.retain(|r| r.filter.filter_type != FilterType::NRF);
        let hidden = u32::try_from(all - answer.records.len()).unwrap_or(u32::MAX);
        answer.total = answer.total.saturating_sub(hidden);
    }
}

/// Something was done, and nothing failed.
fn control_code(results: &[Tunnel]) -> u8 {
    let is = |wanted: TunnelStatus| move |t: &Tunnel| t.status == wanted;
    let done = is(TunnelStatus::STATEUPDATED);
    let fine = |t: &Tunnel| done(t) || is(TunnelStatus::STATEALREADYSET)(t);
    if results.iter().any(done) && results.iter().all(fine) { exit::SUCCESS } else { exit::FAILED }
}

/// The stack that is meant, and what is known of it where it matters. Who may display one stack need not be
/// permitted to list them all: with a name the list is a help only.
fn stack(client: &mut Client, request: &Request) -> Result<(String, Option<Stack>), Failure> {
    let shows_settings =
        matches!(request.action, Action::Filters { .. } | Action::TrafficTest(_) | Action::Defensive { .. });
    let needs_list = request.stack.is_none() || shows_settings;
    let listed = if needs_list { Some(client.stacks()) } else { None };
    let stacks = match listed {
        None => Vec::new(),
        Some(Ok(answer)) => answer.records.into_iter().map(|record| record.stack).collect(),
        Some(Err(ClientError::Refused { rc: ReturnCode::EACCES, .. })) if request.stack.is_some() => {
            Vec::new()
        }
        Some(Err(error)) => return Err(Failure::of(error, None)),
    };
    let Some(name) = &request.stack else {
        let first = stacks.into_iter().next().ok_or(Failure::NoStack)?;
        return Ok((first.name.to_string(), Some(first)));
    };
    let info = stacks.into_iter().find(|s| s.name.eq_ignore_ascii_case(name));
    let shown = info.as_ref().map_or_else(|| name.clone(), |s| s.name.to_string());
    Ok((shown, info))
}

#[expect(
    clippy::disallowed_methods,
    reason = "answers to control requests carry no time: the clock enters here"
)]
fn now() -> Time {
    Time::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t59_partial_success_is_not_success() {
        let with = |statuses: &[TunnelStatus]| {
            let tunnels: Vec<_> =
                statuses.iter().map(|s| Tunnel { status: *s, ..Tunnel::default() }).collect();
            control_code(&tunnels)
        };
        use TunnelStatus as S;
        assert_eq!(with(&[S::STATEUPDATED]), 0);
        assert_eq!(with(&[S::STATEUPDATED, S::STATEALREADYSET]), 0);
        assert_eq!(with(&[S::STATEUPDATED, S::NOTFOUND]), 1);
        assert_eq!(with(&[S::STATEALREADYSET]), 1);
        assert_eq!(with(&[S::STATEUPDATED, S::FAILED]), 1);
        assert_eq!(with(&[]), 1);
    }
}
