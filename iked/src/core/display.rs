//! Display requests: what the engine knows, together with what the stack answers, as values of one moment.

use super::{Core, Internal, Now, Stack};
use crate::ike::NextSa;
use crate::ike::types::{IkeTunnelId, TunnelId};
use crate::ike::view::{Census, ChildView, IkeView};
use crate::request::{CfState, CoreError, DvipaInfo, Snapshot, StackInfo, Want};
use crate::stack_link::StackIndex;
use crate::topology;
use stack::control::{Answer, FilterTotals, Question};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a stack may take: it has the questions of all clients before one, and a hundred thousand SAs to tell of.
const PATIENCE: Duration = Duration::from_secs(10);

/// SAs shown at a time: a millisecond, which IKE and takeovers can wait. In tests each answer takes turns.
const AT_ONCE: usize = if cfg!(test) { 1 } else { 512 };

type Reply = oneshot::Sender<Result<Snapshot, CoreError>>;

/// A display request whose answer of the stack is there.
#[derive(Debug)]
pub struct Pending {
    index: StackIndex,
    want: Want,
    reply: Reply,
    answer: Option<Answer>,
    shown: Shown,
}

/// What is known of the SAs in IKE, as far as it was collected.
#[derive(Debug, Default)]
struct Shown {
    ike: Vec<IkeView>,
    children: Vec<ChildView>,
    cf_ike: BTreeMap<IkeTunnelId, CfState>,
    cf_children: BTreeMap<TunnelId, CfState>,
    next: Option<NextSa>,
}

impl Shown {
    /// Collects some more of a stack; true: that is all.
    fn collect(&mut self, stack: &Stack) -> bool {
        let Self { ike, children, cf_ike, cf_children, next } = self;
        let (ike_before, before) = (ike.len(), children.len());
        if before == 0 {
            // All the room at once: to move what is there takes long in the end.
            children.reserve(stack.installed.len());
        }
        *next = stack.engine.show(*next, AT_ONCE, ike, children);
        let state = |v: &IkeView| Some((v.id, stack.ledger.ike_state(v.id)?));
        cf_ike.extend(ike[ike_before..].iter().filter_map(state));
        let state = |v: &ChildView| Some((v.id, stack.ledger.child_state(v.id)?));
        cf_children.extend(children[before..].iter().filter_map(state));
        next.is_none()
    }
}

/// What has to be asked of the stack.
const fn question(want: Want) -> Option<Question> {
    match want {
        Want::Summary => Some(Question::Summary),
        Want::Filters => Some(Question::Filters),
        Want::Children | Want::Manual => Some(Question::Sas),
        Want::IkeTunnels => None,
        Want::Interfaces => Some(Question::Interfaces),
        Want::Drops => Some(Question::Drops),
        Want::Distribution => Some(Question::Distribution),
        Want::PortTranslations => Some(Question::PortTranslations),
        Want::Traffic => Some(Question::Traffic),
        Want::Test(packet) => Some(Question::Test(packet)),
    }
}

impl Core {
    pub(super) fn display(&mut self, now: Now, name: &str, want: Want, reply: Reply) {
        // The asker may be gone; so it is with every reply.
        let Some(index) = self.find(name) else {
            let _ = reply.send(Err(CoreError::UnknownStack));
            return;
        };
        let Some(question) = question(want) else {
            self.go_on_display(now, Pending { index, want, reply, answer: None, shown: Shown::default() });
            return;
        };
        let Some(link) = &self.stacks[index].link else { return };
        let (answer, internal) = (link.ask(question), self.internal.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(PATIENCE, answer).await {
                Ok(Ok(answer)) => {
                    let shown = Shown::default();
                    let pending = Pending { index, want, reply, answer: Some(answer), shown };
                    let _ = internal.send(Internal::Display(Box::new(pending))).await;
                }
                _ => drop(reply.send(Err(CoreError::StackSilent))),
            }
        });
    }

    /// Collects what the answer needs, in turns with everything else that the core has to do.
    pub(super) fn go_on_display(&self, now: Now, mut pending: Pending) {
        let both = matches!(pending.want, Want::Children | Want::IkeTunnels | Want::Filters | Want::Test(_));
        if !both || pending.shown.collect(&self.stacks[pending.index]) {
            return self.finish_display(now, pending);
        }
        self.in_another_turn(Internal::Display(Box::new(pending)));
    }

    /// Puts the answer together.
    fn finish_display(&self, now: Now, pending: Pending) {
        let Pending { index, want, reply, answer, shown } = pending;
        let stack = &self.stacks[index];
        let engine = &stack.engine;
        let census = if want == Want::Summary { engine.census() } else { Census::default() };
        let rules = stack.policy.as_ref().filter(|_| want == Want::Summary).map(|p| p.local_rules());
        let configured = rules.into_iter().flatten().map(|rule| {
            let up = census.rules_up.contains(&rule);
            (rule, up)
        });
        let configured = configured.collect();
        let mut snapshot = Snapshot {
            stack: self.stack_info(index),
            now: now.instant,
            unix_now: now.unix,
            ike: shown.ike,
            children: shown.children,
            census,
            configured,
            engine: engine.counters(),
            manual: stack.manual.views(),
            sas: Vec::new(),
            filters: Vec::new(),
            matching: 0,
            verdicts: Vec::new(),
            shelved: if want == Want::Filters { stack.shelved(now.unix) } else { Vec::new() },
            totals: FilterTotals::default(),
            interfaces: Vec::new(),
            drops: Vec::new(),
            targets: Vec::new(),
            ports: Vec::new(),
            traffic: None,
            dvipas: self.dvipas_of(now, index),
            cf_ike: shown.cf_ike,
            cf_children: shown.cf_children,
        };
        match answer {
            // It is not asked for a display.
            None | Some(Answer::Arrivals(_)) => {}
            Some(Answer::Summary(totals)) => snapshot.totals = totals,
            Some(Answer::Filters(filters)) => snapshot.filters = filters,
            Some(Answer::Sas(sas)) => {
                // What the stack has is active, whatever it was told.
                for tunnel in &mut snapshot.manual {
                    tunnel.active &= sas.iter().any(|sa| sa.spi_in == tunnel.spi_in);
                    tunnel.since_unix = if tunnel.active { tunnel.since_unix } else { 0 };
                }
                snapshot.sas = sas;
            }
            Some(Answer::Interfaces(interfaces)) => snapshot.interfaces = interfaces,
            Some(Answer::Drops(drops)) => snapshot.drops = drops,
            Some(Answer::Distribution(targets)) => snapshot.targets = targets,
            Some(Answer::PortTranslations(ports)) => snapshot.ports = ports,
            Some(Answer::Traffic(traffic)) => snapshot.traffic = Some(traffic),
            Some(Answer::Test(tested)) => {
                (snapshot.filters, snapshot.matching, snapshot.verdicts) =
                    (tested.filters, tested.matching, tested.verdicts);
            }
        }
        let _ = reply.send(Ok(snapshot));
    }

    /// DVIPAs that this stack owns.
    fn dvipas_of(&self, now: Now, index: StackIndex) -> Vec<DvipaInfo> {
        let name = &self.stacks[index].entry.name;
        let views = self.takeovers.machine.views(now.boot);
        let from =
            |address: &IpAddr| views.iter().find(|v| v.address == *address).and_then(|v| v.from.as_ref());
        let owned = self.owners.iter().filter(|(_, o)| o.stack == *name);
        owned
            .map(|(address, o)| DvipaInfo {
                address: *address,
                owner: o.stack.as_str().to_owned(),
                epoch: o.epoch,
                from: from(address).filter(|f| *f != name).map(|f| f.as_str().to_owned()),
            })
            .collect()
    }

    pub(super) fn stack_info(&self, index: StackIndex) -> StackInfo {
        let stack = &self.stacks[index];
        let keepalive = stack.policy.as_ref().map_or_else(Default::default, |p| p.settings()).nat_keepalive;
        let dvipas =
            self.config.dvipas.iter().map(|d| (d.address, topology::takes_part_in(d, &stack.entry.name)));
        StackInfo {
            name: stack.entry.name.as_str().to_owned(),
            active: stack.link.is_some() && stack.configured,
            ipv6: stack.entry.home.iter().any(IpAddr::is_ipv6)
                || dvipas.clone().any(|(a, part)| part && a.is_ipv6()),
            dvipsec: dvipas.clone().any(|(_, part)| part),
            logging: stack.filters.logging,
            predecap: stack.filters.predecap,
            policy_filters: stack.filters.policy,
            nat_keepalive_secs: u32::try_from(keepalive.as_secs()).unwrap_or(u32::MAX),
            defense: stack.entry.defense.mode,
            excluded: stack.entry.defense.exclude.clone(),
        }
    }
}
