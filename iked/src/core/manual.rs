//! The manual tunnels of a stack: what policy wants, what an operator made of it, what the stack is told.
//!
//! A tunnel that a reload leaves as it was keeps its number and its state; one that changed begins anew. One whose time has
//! not come is not there, but for its number; when it comes it begins anew too.

use super::{Now, Stack};
use crate::policies::ManualTunnel;
use crate::request::{ControlObject, ControlOutcome, ControlStatus, ManualView};
use stack::control::{MANUAL_TUNNELS, SaPair, ToStack};

/// One of them.
#[derive(Debug)]
struct Tunnel {
    /// Shown as `M3`.
    number: u32,
    /// As policy has it.
    wanted: ManualTunnel,
    /// Its pair is installed, as far as is known: the stack may refuse it.
    active: bool,
    /// When that was, seconds since 1970 UTC.
    since: u64,
}

/// All of them, in policy's order.
#[derive(Debug, Default)]
pub(crate) struct Manual {
    tunnels: Vec<Tunnel>,
    /// Numbers of those whose time has not come, by action.
    asleep: Vec<(String, u32)>,
    /// Numbers given out.
    given: u32,
}

impl Tunnel {
    fn pair(&self) -> SaPair {
        SaPair { tunnel: MANUAL_TUNNELS.saturating_add(self.number), ..self.wanted.pair.clone() }
    }

    fn set(&mut self, active: bool, unix: u64) -> Option<ToStack> {
        if self.active == active {
            return None;
        }
        (self.active, self.since) = (active, if active { unix } else { 0 });
        Some(match active {
            true => ToStack::InstallSa(Box::new(self.pair())),
            false => ToStack::RemoveSa { spi_in: self.wanted.pair.spi_in },
        })
    }
}

impl Manual {
    /// Takes what a policy wants; what the stack has to be told of it, in order.
    pub(super) fn replace(&mut self, wanted: Vec<ManualTunnel>, unix: u64) -> Vec<ToStack> {
        let mut before = std::mem::take(&mut self.tunnels);
        let mut asleep = std::mem::take(&mut self.asleep);
        let (mut removals, mut installs) = (Vec::new(), Vec::new());
        for wanted in wanted {
            if let Some(same) = before.iter().position(|t| t.wanted == wanted) {
                self.tunnels.push(before.swap_remove(same));
                continue;
            }
            let old = before.iter().position(|t| t.wanted.action == wanted.action);
            let slept = asleep.iter().position(|(action, _)| *action == wanted.action);
            let number = match (old.map(|at| before.swap_remove(at)), slept) {
                (Some(mut old), _) => {
                    removals.extend(old.set(false, unix));
                    old.number
                }
                (None, Some(at)) => asleep.swap_remove(at).1,
                (None, None) => {
                    self.given += 1;
                    self.given
                }
            };
            if !wanted.installed {
                self.asleep.push((wanted.action, number));
                continue;
            }
            let active = wanted.active;
            let mut tunnel = Tunnel { number, wanted, active: false, since: 0 };
            installs.extend(tunnel.set(active, unix));
            self.tunnels.push(tunnel);
        }
        removals.extend(before.iter_mut().filter_map(|t| t.set(false, unix)));
        removals.extend(installs);
        removals
    }

    /// Whether [`Self::replace`] would change nothing.
    pub(super) fn is(&self, wanted: &[ManualTunnel]) -> bool {
        let installed = wanted.iter().filter(|w| w.installed);
        self.tunnels.iter().map(|t| &t.wanted).eq(installed)
    }

    /// The stack has refused a pair: the tunnel is not active. Its shown id and its action, if it is one of these.
    pub(super) fn refused(&mut self, spi_in: u32) -> Option<(String, String)> {
        let tunnel = self.tunnels.iter_mut().find(|t| t.active && t.wanted.pair.spi_in == spi_in)?;
        (tunnel.active, tunnel.since) = (false, 0);
        Some((format!("M{}", tunnel.number), tunnel.wanted.action.clone()))
    }

    /// What a stack that has none of them is told.
    pub(super) fn all(&self) -> Vec<ToStack> {
        self.tunnels.iter().filter(|t| t.active).map(|t| ToStack::InstallSa(Box::new(t.pair()))).collect()
    }

    pub(super) fn views(&self) -> Vec<ManualView> {
        let view = |t: &Tunnel| {
            let p = &t.wanted.pair;
            ManualView {
                number: t.number,
                vpn_action: t.wanted.action.clone(),
                active: t.active,
                since_unix: t.since,
                mode: p.mode,
                suite: p.suite,
                local: p.local,
                remote: p.remote,
                spi_in: p.spi_in,
                spi_out: p.spi_out,
                df: p.df,
                copy_dscp: p.copy_dscp,
            }
        };
        self.tunnels.iter().map(view).collect()
    }

    /// Switches what `objects` name, or all.
    fn switch(
        &mut self,
        active: bool,
        objects: &[ControlObject],
        unix: u64,
    ) -> (Vec<ControlOutcome>, Vec<ToStack>) {
        let (mut outcomes, mut messages) = (Vec::new(), Vec::new());
        let all = [ControlObject::default()];
        let named = if objects.is_empty() { &all[..] } else { objects };
        for object in named {
            let before = outcomes.len();
            // What is given must fit; names are case sensitive, tunnel ids are not.
            let fits = |t: &Tunnel| {
                object.name.as_ref().is_none_or(|n| *n == t.wanted.action)
                    && object
                        .tunnel_id
                        .as_ref()
                        .is_none_or(|id| id.eq_ignore_ascii_case(&format!("M{}", t.number)))
                    && (objects.is_empty() || object.name.is_some() || object.tunnel_id.is_some())
            };
            for tunnel in self.tunnels.iter_mut().filter(|t| fits(t)) {
                let message = tunnel.set(active, unix);
                let status =
                    if message.is_some() { ControlStatus::Updated } else { ControlStatus::AlreadySet };
                messages.extend(message);
                let (name, tunnel_id) =
                    (Some(tunnel.wanted.action.clone()), Some(format!("M{}", tunnel.number)));
                outcomes.push(ControlOutcome { object: ControlObject { name, tunnel_id }, status });
            }
            if outcomes.len() == before && !objects.is_empty() {
                outcomes.push(ControlOutcome { object: object.clone(), status: ControlStatus::NotFound });
            }
        }
        (outcomes, messages)
    }
}

/// Activates or deactivates manual tunnels.
pub(super) fn switch(
    now: Now,
    stack: &mut Stack,
    active: bool,
    objects: &[ControlObject],
) -> Vec<ControlOutcome> {
    let (outcomes, messages) = stack.manual.switch(active, objects, now.unix);
    messages.into_iter().for_each(|m| stack.send(m));
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::manual;
    use crate::translate::tests::{NOON, policy};

    const SAMPLE: &str = include_str!("../../../policy/tests/accept/manual.conf");

    fn wanted(text: &str) -> Vec<ManualTunnel> {
        manual::tunnels(&policy(text), NOON).unwrap()
    }
    fn told(messages: &[ToStack]) -> Vec<String> {
        let text = |m: &ToStack| match m {
            ToStack::InstallSa(p) => format!("+{} of {}", p.spi_in, p.tunnel - MANUAL_TUNNELS),
            ToStack::RemoveSa { spi_in } => format!("-{spi_in}"),
            other => panic!("{other:?}"),
        };
        messages.iter().map(text).collect()
    }

    #[test]
    fn a_reload_leaves_what_did_not_change_as_the_operator_has_it() {
        let mut manual = Manual::default();
        assert!(manual.replace(wanted(SAMPLE), 5).is_empty(), "Active no");
        let all = |m: &mut Manual, active| m.switch(active, &[], 7);
        let (outcomes, messages) = all(&mut manual, true);
        assert_eq!(
            (outcomes[0].status, told(&messages)),
            (ControlStatus::Updated, vec!["+4097 of 1".to_owned()])
        );
        assert_eq!(outcomes[0].object.tunnel_id.as_deref(), Some("M1"));
        assert_eq!(all(&mut manual, true).0[0].status, ControlStatus::AlreadySet);
        assert!(manual.replace(wanted(SAMPLE), 8).is_empty());
        assert_eq!((manual.views()[0].active, manual.views()[0].since_unix), (true, 7));
        assert_eq!(told(&manual.all()), ["+4097 of 1"]);
        // Another SPI: the old pair goes first.
        let changed = SAMPLE.replace("4097", "4199").replace("Active  no", "Active  yes");
        assert_eq!(told(&manual.replace(wanted(&changed), 9)), ["-4097", "+4199 of 1"]);
        assert_eq!(told(&manual.replace(Vec::new(), 9)), ["-4199"]);
        assert!(manual.views().is_empty());
    }

    #[test]
    fn names_and_numbers_select_and_what_is_not_there_is_said() {
        let mut manual = Manual::default();
        manual.replace(wanted(SAMPLE), 5);
        let object = |name: Option<&str>, id: Option<&str>| ControlObject {
            name: name.map(str::to_owned),
            tunnel_id: id.map(str::to_owned),
        };
        let mut status = |o| manual.switch(true, &[o], 6).0[0].status;
        assert_eq!(status(object(Some("other"), None)), ControlStatus::NotFound);
        assert_eq!(status(object(None, None)), ControlStatus::NotFound, "nothing named is not everything");
        assert_eq!(status(object(Some("staticLab"), Some("M2"))), ControlStatus::NotFound);
        assert_eq!(status(object(None, Some("m1"))), ControlStatus::Updated);
        assert_eq!(status(object(Some("staticLab"), None)), ControlStatus::AlreadySet);
        assert!(Manual::default().switch(true, &[], 1).0.is_empty());
    }

    #[test]
    fn a_tunnel_comes_and_goes_with_its_time_and_keeps_its_number() {
        let mut manual = Manual::default();
        let active = SAMPLE.replace("Active  no", "Active  yes");
        let at = |installed| {
            let mut tunnels = wanted(&active);
            tunnels[0].installed = installed;
            tunnels
        };
        assert!(manual.replace(at(false), 5).is_empty());
        assert!(manual.views().is_empty() && manual.is(&at(false)) && !manual.is(&at(true)));
        assert_eq!(told(&manual.replace(at(true), 6)), ["+4097 of 1"]);
        assert_eq!(manual.views()[0].since_unix, 6);
        assert!(manual.is(&at(true)));
        // What an operator said holds until its time is over.
        manual.switch(false, &[], 7);
        assert!(manual.replace(at(true), 8).is_empty() && !manual.views()[0].active);
        assert!(manual.replace(at(false), 9).is_empty());
        assert_eq!(
            manual.switch(true, &[ControlObject { name: Some("staticLab".into()), tunnel_id: None }], 9).0[0]
                .status,
            ControlStatus::NotFound
        );
        assert_eq!(told(&manual.replace(at(true), 10)), ["+4097 of 1"]);
    }

    #[test]
    fn what_the_stack_refuses_is_not_active_and_can_be_tried_again() {
        let mut manual = Manual::default();
        manual.replace(wanted(SAMPLE), 5);
        manual.switch(true, &[], 6);
        assert_eq!(manual.refused(9), None);
        assert_eq!(manual.refused(4097), Some(("M1".to_owned(), "staticLab".to_owned())));
        assert!(!manual.views()[0].active && manual.all().is_empty());
        assert_eq!(told(&manual.switch(true, &[], 7).1), ["+4097 of 1"]);
    }
}
