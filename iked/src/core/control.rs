//! Control requests: activate, deactivate and refresh tunnels.

use super::{Core, Now, Stack, manual};
use crate::ike::command::{ActivationMethod, Command};
use crate::ike::types::{IkeTunnelId, TunnelId};
use crate::ike::view::SaState;
use crate::policies::StartError;
use crate::request::{ControlAction, ControlObject, ControlOutcome, ControlStatus};
use crate::stack_link::StackIndex;
use crate::topology::may_use;
use std::collections::BTreeMap;

/// A tunnel as a control request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tunnel<Id> {
    id: Id,
    /// LocalDynVpnRule or KeyExchangeRule.
    name: Option<String>,
    shown: String,
    /// A delete is under way.
    ending: bool,
}

impl Core {
    /// Carries out `action`; outcomes as in [`crate::request::CoreRequest::Control`].
    pub(super) fn control(
        &mut self,
        now: Now,
        index: StackIndex,
        action: ControlAction,
        objects: &[ControlObject],
    ) -> Vec<ControlOutcome> {
        let stack = &mut self.stacks[index];
        match action {
            ControlAction::ActivateChild => {
                let name = stack.entry.name.clone();
                let ours = |address| may_use(&self.config, &self.owners, &name, address);
                activate(now, stack, &ours, objects)
            }
            ControlAction::DeactivateChild | ControlAction::RefreshChild => {
                let found = select(&dynamic_tunnels(stack), objects);
                let deactivate = action == ControlAction::DeactivateChild;
                apply(now, stack, found, deactivate, |id: TunnelId| match deactivate {
                    true => Command::DeleteChild(id),
                    false => Command::RekeyChild(id),
                })
            }
            ControlAction::ActivateManual => manual::switch(now, stack, true, objects),
            ControlAction::DeactivateManual => manual::switch(now, stack, false, objects),
            ControlAction::DeactivateIke | ControlAction::RefreshIke => {
                let found = select(&ike_tunnels(stack), objects);
                let deactivate = action == ControlAction::DeactivateIke;
                apply(now, stack, found, deactivate, |id: IkeTunnelId| match deactivate {
                    true => Command::DeleteIke(id),
                    false => Command::RefreshIke(id),
                })
            }
        }
    }
}

fn dynamic_tunnels(stack: &Stack) -> Vec<Tunnel<TunnelId>> {
    // The newest SA comes first and stands for the tunnel.
    let mut tunnels = BTreeMap::new();
    for c in stack.engine.children() {
        tunnels.entry(c.id).or_insert_with(|| Tunnel {
            id: c.id,
            name: c.local_dyn_vpn_rule,
            shown: format!("Y{}", c.id.0),
            ending: c.state == SaState::HalfClosed,
        });
    }
    tunnels.into_values().collect()
}

fn ike_tunnels(stack: &Stack) -> Vec<Tunnel<IkeTunnelId>> {
    let mut tunnels = BTreeMap::new();
    for i in stack.engine.ike_tunnels() {
        tunnels.entry(i.id).or_insert_with(|| Tunnel {
            id: i.id,
            name: (!i.rule.is_empty()).then_some(i.rule),
            shown: format!("K{}", i.id.0),
            ending: i.state == SaState::HalfClosed,
        });
    }
    tunnels.into_values().collect()
}

/// The tunnels that each object names, or the object that names none. No object: all tunnels.
fn select<Id: Copy>(
    tunnels: &[Tunnel<Id>],
    objects: &[ControlObject],
) -> Vec<Result<Tunnel<Id>, ControlObject>>
where
    Tunnel<Id>: Clone,
{
    if objects.is_empty() {
        return tunnels.iter().cloned().map(Ok).collect();
    }
    let mut found = Vec::new();
    for object in objects {
        let before = found.len();
        // What is given must fit; names are case sensitive, tunnel ids are not.
        let fits = |t: &&Tunnel<Id>| {
            object.name.as_ref().is_none_or(|n| t.name.as_ref() == Some(n))
                && object.tunnel_id.as_ref().is_none_or(|id| t.shown.eq_ignore_ascii_case(id))
                && (object.name.is_some() || object.tunnel_id.is_some())
        };
        found.extend(tunnels.iter().filter(fits).cloned().map(Ok));
        if found.len() == before {
            found.push(Err(object.clone()));
        }
    }
    found
}

fn apply<Id: Copy>(
    now: Now,
    stack: &mut Stack,
    found: Vec<Result<Tunnel<Id>, ControlObject>>,
    deactivate: bool,
    command: impl Fn(Id) -> Command,
) -> Vec<ControlOutcome> {
    let outcome = |found: Result<Tunnel<Id>, ControlObject>| match found {
        Err(object) => ControlOutcome { object, status: ControlStatus::NotFound },
        Ok(t) => {
            let status = match (t.ending, deactivate) {
                (true, true) => ControlStatus::AlreadySet,
                (true, false) => ControlStatus::Failed,
                (false, _) => {
                    stack.engine.handle_command(now.instant, command(t.id));
                    ControlStatus::Updated
                }
            };
            ControlOutcome { object: ControlObject { name: t.name, tunnel_id: Some(t.shown) }, status }
        }
    };
    found.into_iter().map(outcome).collect()
}

fn activate(
    now: Now,
    stack: &mut Stack,
    ours: &dyn Fn(std::net::IpAddr) -> bool,
    objects: &[ControlObject],
) -> Vec<ControlOutcome> {
    let Some(policy) = stack.policy.clone() else {
        let refused =
            |o: &ControlObject| ControlOutcome { object: o.clone(), status: ControlStatus::NotFound };
        return objects.iter().map(refused).collect();
    };
    let all = || policy.local_rules().into_iter().map(|n| ControlObject { name: Some(n), tunnel_id: None });
    let objects = if objects.is_empty() { all().collect() } else { objects.to_vec() };
    let outcome = |object: ControlObject| {
        let Some(name) = &object.name else {
            return ControlOutcome { object, status: ControlStatus::NotFound };
        };
        let up = stack.engine.children().into_iter().find(|c| {
            c.local_dyn_vpn_rule.as_ref() == Some(name)
                && matches!(c.state, SaState::Active | SaState::InNegotiation | SaState::Pending)
        });
        if let Some(child) = up {
            let object = ControlObject { tunnel_id: Some(format!("Y{}", child.id.0)), ..object };
            return ControlOutcome { object, status: ControlStatus::AlreadySet };
        }
        let status = match policy.start_named(name, ActivationMethod::Command) {
            // Another stack owns the address: it is to be asked.
            Ok(initiate) if !ours(initiate.local_endpoint) => ControlStatus::Failed,
            Ok(initiate) => {
                stack.engine.handle_command(now.instant, Command::Initiate(Box::new(initiate)));
                ControlStatus::Updated
            }
            Err(StartError::NotFound) => ControlStatus::NotFound,
            Err(StartError::NoKeyExchangeRule) => ControlStatus::NoKeyExchangeRule,
            Err(StartError::NoFilterRule) => ControlStatus::NoFilterRule,
            Err(StartError::NoDataOffer) => ControlStatus::NoDataOffer,
            Err(StartError::NotAllowed) => ControlStatus::Failed,
        };
        ControlOutcome { object, status }
    };
    objects.into_iter().map(outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnels() -> Vec<Tunnel<u32>> {
        let t = |id: u32, name: Option<&str>| Tunnel {
            id,
            name: name.map(str::to_owned),
            shown: format!("Y{id}"),
            ending: false,
        };
        vec![t(1, Some("branch")), t(2, Some("branch")), t(3, None)]
    }

    fn object(name: Option<&str>, id: Option<&str>) -> ControlObject {
        ControlObject { name: name.map(str::to_owned), tunnel_id: id.map(str::to_owned) }
    }

    fn ids(objects: &[ControlObject]) -> Vec<Option<u32>> {
        select(&tunnels(), objects).into_iter().map(|r| r.ok().map(|t| t.id)).collect()
    }

    #[test]
    fn names_and_ids_select_and_both_must_fit() {
        assert_eq!(ids(&[]), [Some(1), Some(2), Some(3)]);
        assert_eq!(ids(&[object(Some("branch"), None)]), [Some(1), Some(2)]);
        assert_eq!(ids(&[object(None, Some("y3")), object(None, Some("K3"))]), [Some(3), None]);
        assert_eq!(ids(&[object(Some("branch"), Some("Y3"))]), [None]);
        assert_eq!(ids(&[object(Some("BRANCH"), None)]), [None]);
        assert_eq!(ids(&[object(None, None)]), [None], "nothing named is not everything");
    }
}
