//! What the shell asks for: which IKE SA it concerns, or whether a new one is needed.

use super::{Engine, established, go_on};
use crate::ike::command::{ActivationMethod, Initiate};
use crate::ike::context::{After, Context, RuleSet, Verdict};
use crate::ike::event::Event;
use crate::ike::failure::{Failure, FailureKind};
use crate::ike::lifetime::retry_after;
use crate::ike::natt::NAT_PORT;
use crate::ike::rules::{ExchangeRule, Initiation};
use crate::ike::selector::{covered, narrowed};
use crate::ike::table::{Book, SaKey};
use crate::ike::timer::Timer;
use crate::ike::types::{IkeTunnelId, TrafficSelector, TunnelId};
use crate::ike::v2::child::{Child, Standing};
use crate::ike::v2::established::{Established, IkeStanding, Next};
use crate::ike::v2::init::{self, Target};
use crate::ike::v2::sa::{ChildRequest, Exchange, IkeSa, State, Task};
use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// IKE's port without a NAT.
const IKE_PORT: u16 = 500;

/// How long after a child was made a packet that asks for it may still be on the way here.
const CROSSING: Duration = Duration::from_secs(5);

/// Tasks that may wait at one IKE SA.
const QUEUE: usize = 1024;

impl Engine {
    /// Negotiates a child; `item` is the renegotiation's name for it.
    pub(super) fn initiate(&mut self, initiate: Initiate, item: Option<u64>) {
        if let Err(reason) = self.try_initiate(&initiate, item) {
            match item {
                Some(item) => self.out.verdicts.push_back((item, Verdict::Refused(reason.text))),
                None => self.out.events.push_back(Event::Failed {
                    peer: initiate.remote_endpoint,
                    rule: Some(initiate.rule),
                    reason,
                    acquire: initiate.acquire,
                }),
            }
        }
    }

    fn try_initiate(&mut self, initiate: &Initiate, item: Option<u64>) -> Result<(), Failure> {
        let no_rule = |text| Err(Failure::new(FailureKind::NoRule, text));
        let Initiate { local_endpoint, remote_endpoint, nat_port, .. } = *initiate;
        let Some(rule) = self.rules.child_named(&initiate.rule, &initiate.local, &initiate.remote).cloned()
        else {
            return no_rule(format!("no rule {}", initiate.rule));
        };
        if matches!(rule.initiation, Initiation::RemoteOnly | Initiation::None) {
            return no_rule(format!("rule {} does not let this side start", rule.rule));
        }
        let local = narrowed(&rule.local, &initiate.local);
        let remote = narrowed(&rule.remote, &initiate.remote);
        if local.is_empty() || remote.is_empty() {
            return no_rule(format!("rule {} does not cover what is to be negotiated", rule.rule));
        }
        let existing = self.usable(local_endpoint, remote_endpoint, nat_port);
        if let Some(key) = existing
            && self.join(key, &rule.rule, &local, &remote, (initiate.acquire, item))
        {
            return Ok(());
        }
        if let Some(tunnel) = existing.and_then(|key| self.just_made(key, initiate, item, &local, &remote)) {
            // The packet that asked has crossed the SA that it needs; or the peer was quicker than we.
            match item {
                Some(item) => self.out.verdicts.push_back((item, Verdict::Made(tunnel))),
                None => self.out.events.push_back(Event::ChildUp(tunnel)),
            }
            return Ok(());
        }
        if existing.and_then(|key| self.sas.get(&key)).is_some_and(|sa| sa.tasks.len() >= QUEUE) {
            let text = "too many negotiations wait for this peer";
            return Err(Failure::new(FailureKind::Timeout, text));
        }
        let target = match existing {
            Some(_) => None,
            None => {
                let mut rules = self.rules.exchange(local_endpoint, remote_endpoint);
                let is_of_peer = |rule: &ExchangeRule| {
                    initiate.remote_id.as_ref().is_none_or(|known| rule.remote_id.accepts(known))
                };
                let Some(exchange) = rules.find(|rule| rule.initiate && is_of_peer(rule)).cloned() else {
                    return no_rule(format!(
                        "no KeyExchangeRule lets {local_endpoint} negotiate with {remote_endpoint}"
                    ));
                };
                Some(Target {
                    tunnel: None,
                    rule: exchange,
                    local: SocketAddr::new(local_endpoint, nat_port.map_or(IKE_PORT, |_| NAT_PORT)),
                    remote: SocketAddr::new(remote_endpoint, nat_port.unwrap_or(IKE_PORT)),
                })
            }
        };
        let request = Box::new(ChildRequest {
            tunnel: self.book.new_child_tunnel(initiate.method, initiate.local_dyn_vpn_rule.clone()),
            group: rule.pfs_initiate,
            rule,
            local,
            remote,
            acquires: initiate.acquire.into_iter().collect(),
            attempts: 0,
            items: item.into_iter().collect(),
            refused: false,
            initial_contact: initiate.initial_contact,
            peer: initiate.remote_id.clone(),
        });
        match (existing, target) {
            (Some(key), _) => {
                self.with(key, |sa, ctx| {
                    ctx.book.place_child(request.tunnel, sa.key);
                    sa.tasks.push_back(Task::NewChild(request));
                    go_on(sa, ctx);
                });
            }
            (None, Some(target)) => self.connect(target, Some(request), Vec::new(), None),
            (None, None) => {}
        }
        Ok(())
    }

    /// Starts an IKE SA.
    pub(super) fn connect(
        &mut self,
        target: Target,
        child: Option<Box<ChildRequest>>,
        more: Vec<ChildRequest>,
        replaces: Option<SaKey>,
    ) {
        let mut ctx = context!(self);
        let mut sa = init::start(&mut ctx, target, child);
        if matches!(sa.state, State::Closed) {
            for request in more {
                let reason = Failure::invalid("the IKE SA could not be started");
                request.fail(sa.remote, &mut ctx, &reason);
            }
        } else {
            sa.tasks.extend(more.into_iter().map(|request| Task::NewChild(Box::new(request))));
            sa.replaces = replaces;
        }
        self.store(sa);
    }

    /// An SA that can take one more negotiation: established, or being so.
    fn usable(&self, local: IpAddr, remote: IpAddr, nat_port: Option<u16>) -> Option<SaKey> {
        let keys = self.by_endpoints.get(&(local, remote))?;
        let is_usable = |key: &&SaKey| match self.sas.get(key).map(|sa| &sa.state) {
            Some(State::Established(established)) => established.serves(),
            Some(State::Connecting) => true,
            Some(State::ExpectAuthRequest(_) | State::Closed) | None => false,
        };
        // One that stands before one that may fail; then the newest.
        let stands =
            |key: &SaKey| matches!(self.sas.get(key).map(|sa| &sa.state), Some(State::Established(_)));
        // Others may be behind the same NAT.
        let is_peer = |key: &&SaKey| {
            nat_port.is_none_or(|port| self.sas.get(key).is_some_and(|sa| sa.remote.port() == port))
        };
        keys.iter().filter(is_usable).filter(is_peer).max_by_key(|key| (stands(key), **key)).copied()
    }

    /// The tunnel made a moment ago that covers what a packet asks for; of any age where it is to be negotiated again.
    fn just_made(
        &self,
        key: SaKey,
        initiate: &Initiate,
        item: Option<u64>,
        local: &[TrafficSelector],
        remote: &[TrafficSelector],
    ) -> Option<TunnelId> {
        let State::Established(established) = &self.sas.get(&key)?.state else { return None };
        let fits = |child: &&Child| {
            child.terms.rule.rule == initiate.rule
                && child.standing == Standing::Serving
                && (item.is_some() || self.now.saturating_duration_since(child.installed) < CROSSING)
                && covered(&child.terms.local, local)
                && covered(&child.terms.remote, remote)
        };
        let found = established.children.values().find(fits).map(|child| child.tunnel);
        found.filter(|_| initiate.method == ActivationMethod::OnDemand || item.is_some())
    }

    /// Whether the same is being negotiated already; then the acquire waits for that.
    fn join(
        &mut self,
        key: SaKey,
        rule: &str,
        local: &[TrafficSelector],
        remote: &[TrafficSelector],
        (acquire, item): (Option<u64>, Option<u64>),
    ) -> bool {
        let Some(sa) = self.sas.get_mut(&key) else { return false };
        let same = |request: &&mut ChildRequest| {
            request.rule.rule == rule && request.local == local && request.remote == remote
        };
        let open = sa.outbound.open_mut().and_then(|open| match &mut open.exchange {
            Exchange::Init(init) => init.child.as_deref_mut(),
            Exchange::Auth(auth) => auth.child.as_deref_mut(),
            Exchange::NewChild(child) => Some(child.request_mut()),
            _ => None,
        });
        let queued = sa.tasks.iter_mut().filter_map(|task| match task {
            Task::NewChild(request) => Some(&mut **request),
            _ => None,
        });
        match open.into_iter().chain(queued).find(same) {
            Some(request) => {
                request.join(acquire, item);
                true
            }
            None => false,
        }
    }

    pub(super) fn rekey_child(&mut self, id: TunnelId) {
        for key in self.keys(|sa| matches!(&sa.state, State::Established(e) if e.newest_of(id).is_some())) {
            self.with(key, |sa, ctx| {
                established(sa, ctx, |established, sa, _| {
                    if let Some(spi) = established.newest_of(id).map(|child| child.spi_in) {
                        established.want_rekey(sa, spi);
                    }
                    Next::Keep
                });
            });
        }
    }

    pub(super) fn delete_child(&mut self, id: TunnelId) {
        for key in self.keys(|_| true) {
            self.with(key, |sa, ctx| {
                let (gone, kept): (VecDeque<Task>, VecDeque<Task>) = std::mem::take(&mut sa.tasks)
                    .into_iter()
                    .partition(|task| matches!(task, Task::NewChild(request) if request.tunnel == id));
                sa.tasks = kept;
                for task in gone {
                    if let Task::NewChild(request) = task {
                        request.fail(sa.remote, ctx, &Failure::deactivated("deactivated"));
                    }
                }
                cancel(sa, ctx, id);
                established(sa, ctx, |established, sa, _| {
                    let of_tunnel = established.children.values().filter(|child| child.tunnel == id);
                    let spis: Vec<u32> = of_tunnel.map(|child| child.spi_in).collect();
                    for spi in spis {
                        established.want_delete(sa, spi, "deactivated");
                    }
                    Next::Keep
                });
            });
        }
    }

    pub(super) fn delete_ike(&mut self, key: SaKey, reason: &'static str) {
        self.with(key, |sa, ctx| match std::mem::replace(&mut sa.state, State::Closed) {
            State::Established(mut established) => {
                established.want_delete_ike(sa, ctx, reason);
                sa.state = established.settle(sa, ctx, Next::Keep);
            }
            State::Connecting | State::ExpectAuthRequest(_) => {
                sa.state = sa.end(ctx, &Failure::deactivated(reason));
            }
            State::Closed => {}
        });
    }

    /// Makes a new IKE SA with authentication and all children of `key`, which goes when that is done. Where this side may
    /// not initiate, the SA is rekeyed instead.
    pub(super) fn reauthenticate(&mut self, key: SaKey) {
        let Some(sa) = self.sas.get(&key) else { return };
        let State::Established(established) = &sa.state else { return };
        if established.standing != IkeStanding::Serving {
            return;
        }
        let endpoints = (sa.local.ip(), sa.remote.ip());
        let between = self.by_endpoints.get(&endpoints).into_iter().flatten();
        if between.filter_map(|other| self.sas.get(other)).any(|other| other.replaces == Some(key)) {
            // Its successor is being made: two would both stay.
            return;
        }
        let Some(sa) = self.sas.get_mut(&key) else { return };
        let State::Established(established) = &sa.state else { return };
        let rule = self.rules.current_exchange(&sa.rule);
        if !rule.initiate || established.children.is_empty() {
            self.with(key, |sa, ctx| {
                super::established(sa, ctx, |established, sa, _| {
                    established.want_rekey_ike(sa);
                    Next::Keep
                });
            });
            return;
        }
        if let Some(interval) = rule.reauth_interval {
            // In case that it fails.
            let again = self.now + retry_after(interval / 20, &mut *self.rng);
            sa.timers.set(Timer::Reauth, again);
        }
        let target = Target { tunnel: Some(sa.tunnel), rule, local: sa.local, remote: sa.remote };
        let mut requests =
            once_more(established.children.values(), BTreeSet::new(), &mut self.book, &self.rules);
        let more = requests.split_off(1);
        self.connect(target, requests.pop().map(Box::new), more, Some(key));
        self.index_deadline(key);
    }

    /// All that was to be made again at `new` is made, or refused, and `old` goes; but first what was made at `old`
    /// meanwhile.
    pub(super) fn retire(&mut self, old: SaKey, new: SaKey) {
        let old_key = old;
        let missing = match (self.sas.get(&old).map(|sa| &sa.state), self.sas.get(&new).map(|sa| &sa.state)) {
            (Some(State::Established(old)), Some(State::Established(new))) if !new.caught_up => {
                let made = new.children.values().map(|child| child.tunnel).collect();
                // What has its newest SA elsewhere needs none here.
                let wanted: Vec<&Child> = old
                    .children
                    .values()
                    .filter(|child| {
                        let at = self.book.child_tunnel(child.tunnel).and_then(|tunnel| tunnel.at);
                        child.standing != Standing::Closing && at == Some(old_key)
                    })
                    .collect();
                once_more(wanted.into_iter(), made, &mut self.book, &self.rules)
            }
            _ => Vec::new(),
        };
        if missing.is_empty() {
            return self.carry_out(vec![After::Retire(old, "re-authenticated")]);
        }
        self.with(new, |sa, ctx| {
            sa.replaces = Some(old);
            sa.tasks.extend(missing.into_iter().map(|request| Task::NewChild(Box::new(request))));
            established(sa, ctx, |established, _, _| {
                // Once, or a child that the peer refuses would keep the old SA.
                established.caught_up = true;
                Next::Keep
            });
        });
    }

    pub(super) fn inbound_traffic(&mut self, spi_in: u32, idle: Duration) {
        let now = self.now;
        self.with_child(spi_in, |established, _, ctx| {
            let Some(at) = now.checked_sub(idle) else { return };
            established.heard = established.heard.max(at);
            // The peer sends on the new SA of a rekey: it has it, and so may we (RFC 7296 section 2.8).
            if established.children.get(&spi_in).is_some_and(|child| child.installed <= at) {
                established.activate(ctx, spi_in);
            }
        });
    }

    pub(super) fn with_child(
        &mut self,
        spi_in: u32,
        act: impl FnOnce(&mut Established, &mut IkeSa, &mut Context<'_>),
    ) {
        if let Some(key) = self.book.sa_of_child(spi_in) {
            self.with(key, |sa, ctx| {
                established(sa, ctx, |established, sa, ctx| {
                    act(established, sa, ctx);
                    Next::Keep
                });
            });
        }
    }

    pub(super) fn newest(&self, id: IkeTunnelId) -> Option<SaKey> {
        let serves = |sa: &&IkeSa| {
            sa.tunnel == id
                && matches!(&sa.state, State::Established(e) if e.standing == IkeStanding::Serving)
        };
        self.sas.values().map(|sa| &**sa).filter(serves).max_by_key(|sa| sa.generation).map(|sa| sa.key)
    }

    pub(super) fn keys(&self, choose: impl Fn(&IkeSa) -> bool) -> Vec<SaKey> {
        self.sas.values().filter(|sa| choose(sa)).map(|sa| sa.key).collect()
    }
}

/// Requests for the tunnels of some children, apart from those `made`.
fn once_more<'c>(
    children: impl Iterator<Item = &'c Child>,
    mut made: BTreeSet<TunnelId>,
    book: &mut Book,
    rules: &RuleSet,
) -> Vec<ChildRequest> {
    let mut requests = Vec::new();
    for child in children {
        if !made.insert(child.tunnel) {
            continue;
        }
        book.enter_child(child.tunnel);
        let rule = rules.current_child(&child.terms);
        requests.push(ChildRequest {
            tunnel: child.tunnel,
            group: rule.pfs_initiate,
            rule,
            local: child.terms.local.clone(),
            remote: child.terms.remote.clone(),
            acquires: Vec::new(),
            attempts: 0,
            items: Vec::new(),
            refused: false,
            initial_contact: false,
            peer: None,
        });
    }
    requests
}

/// A child that is being asked for is deleted as soon as it is made.
fn cancel(sa: &mut IkeSa, ctx: &mut Context<'_>, id: TunnelId) {
    let alone = match sa.outbound.open_mut().map(|open| &mut open.exchange) {
        Some(Exchange::NewChild(child)) if child.request().tunnel == id => {
            child.unwanted = true;
            false
        }
        Some(Exchange::Init(init)) => init.child.as_ref().is_some_and(|child| child.tunnel == id),
        Some(Exchange::Auth(auth)) => auth.child.as_ref().is_some_and(|child| child.tunnel == id),
        _ => false,
    };
    if alone {
        // Nothing else was wanted of this SA, or it starts again for the rest.
        sa.state = sa.end(ctx, &Failure::deactivated("deactivated"));
    }
}
