//! The table of IKE SAs: a step is taken with one of them at a time, then its indexes and deadline are set anew and what
//! follows for others is carried out.

use super::{Engine, Indexed, established, go_on};
use crate::ike::context::{After, Context};
use crate::ike::failure::Failure;
use crate::ike::table::SaKey;
use crate::ike::v2::child::{self, Child};
use crate::ike::v2::established::{Established, Next};
use crate::ike::v2::sa::{IkeSa, State, Task};
use crate::ike::view::Role;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long after an SA was made an INITIAL_CONTACT may still have crossed it on the way.
const CROSSING: Duration = Duration::from_secs(30);

impl Engine {
    pub(super) fn advance(&mut self, now: Instant) {
        // Time goes forward only, whatever a caller's clock says (T22).
        self.now = self.now.max(now);
    }

    /// Takes a step with an SA, and what follows from it for others. `None` if there is no such SA.
    pub(super) fn with<R>(
        &mut self,
        key: SaKey,
        step: impl FnOnce(&mut IkeSa, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let mut sa = self.sas.remove(&key)?;
        if !matches!(sa.state, State::Closed) {
            self.open -= 1;
        }
        let mut ctx = context!(self);
        let result = step(&mut sa, &mut ctx);
        let after = ctx.after;
        self.store(sa);
        self.carry_out(after);
        Some(result)
    }

    pub(super) fn carry_out(&mut self, after: Vec<After>) {
        for after in after {
            match after {
                After::Adopt(sa) => {
                    let key = sa.key;
                    self.store(sa);
                    self.with(key, go_on);
                }
                After::Inherit { to, children, tasks, replaces } => {
                    self.inherit(to, children, tasks, replaces);
                }
                After::Activate(spi_in) => {
                    self.with_child(spi_in, |established, _, ctx| established.activate(ctx, spi_in));
                }
                After::Retire(key, reason) => {
                    self.with(key, |sa, ctx| {
                        established(sa, ctx, |established, sa, ctx| {
                            established.want_orderly_delete_ike(sa, ctx, reason);
                            Next::Keep
                        });
                    });
                }
                After::Reauthenticated { old, new } => self.retire(old, new),
                After::Apart { request, target } => self.connect(*target, Some(request), Vec::new(), None),
                After::EndRedundant(key) => self.end_redundant(key),
                After::Reauthenticate(key) => self.reauthenticate(key),
                After::Delete(key, reason) => self.delete_ike(key, reason),
                After::Forget(key, reason) => self.forget(key, reason),
            }
        }
    }

    /// The peer says that it has this SA no longer. Where both ends have started at once it may have made it only after
    /// it said so: then it is told.
    fn forget(&mut self, key: SaKey, reason: &'static str) {
        let young = |since: Instant| self.now.saturating_duration_since(since) < CROSSING;
        let crossed =
            matches!(self.sas.get(&key).map(|sa| &sa.state), Some(State::Established(e)) if young(e.since));
        if crossed {
            return self.delete_ike(key, reason);
        }
        self.with(key, |sa, ctx| {
            established(sa, ctx, |_, _, _| Next::End(Failure::deactivated(reason)));
        });
    }

    /// Both ends have started at once, or one has started twice because it did not hear the answer: two IKE SAs with the same
    /// children. The one that yields is deleted by the end that started it, after this side sends on the other one.
    fn end_redundant(&mut self, key: SaKey) {
        let Some((sa, ours)) = self.serving(key) else { return };
        let Some(origin) = &ours.origin else { return };
        let ends = (sa.local.ip(), sa.remote.ip());
        let between = self.book.with_identities(&ours.local_id, &ours.remote_id);
        let stays = between.into_iter().filter(|other| *other != key).find(|other| {
            self.serving(*other).is_some_and(|(other, theirs)| {
                let newer = theirs.since > ours.since && other.replaces.is_none();
                let empty = ours.children.is_empty() && !theirs.children.is_empty();
                let yields = theirs.origin.as_ref().is_some_and(|theirs| {
                    origin.yields_to(theirs)
                        || (empty && origin.role == Role::Initiator)
                        || (newer && (origin.role, theirs.role) == (Role::Initiator, Role::Initiator))
                });
                yields && (other.local.ip(), other.remote.ip()) == ends && ours.is_doubled_by(theirs)
            })
        });
        let Some(stays) = stays else { return };
        self.with(stays, |sa, ctx| {
            established(sa, ctx, |established, _, ctx| {
                for spi_in in established.children.keys().copied().collect::<Vec<_>>() {
                    established.prefer(ctx, spi_in);
                }
                Next::Keep
            });
        });
        self.carry_out(vec![After::Retire(key, "the same was made twice")]);
    }

    /// An SA in use.
    fn serving(&self, key: SaKey) -> Option<(&IkeSa, &Established)> {
        let sa = self.sas.get(&key)?;
        match &sa.state {
            State::Established(established) if established.serves() => Some((sa, established)),
            _ => None,
        }
    }

    fn inherit(
        &mut self,
        to: SaKey,
        children: BTreeMap<u32, Child>,
        tasks: Vec<Task>,
        replaces: Option<SaKey>,
    ) {
        let serves = self.sas.get(&to).is_some_and(|sa| matches!(sa.state, State::Established(_)));
        if serves {
            self.with(to, |sa, ctx| {
                sa.replaces = sa.replaces.take().or(replaces);
                established(sa, ctx, |established, sa, ctx| {
                    established.inherit(sa, ctx, children, tasks);
                    Next::Keep
                });
            });
            return;
        }
        // The successor ended before it could take them: the peer has none of them either.
        let mut ctx = context!(self);
        let reason = "the IKE SA that took its place is gone";
        for child in children.into_values() {
            child::remove(&child, &mut ctx, reason);
        }
        for task in tasks {
            if let Task::NewChild(request) = task {
                let peer = SocketAddr::new(IpAddr::from([0; 4]), 0);
                request.fail(peer, &mut ctx, &Failure::deactivated(reason));
            }
        }
    }

    pub(super) fn store(&mut self, sa: Box<IkeSa>) {
        let key = sa.key;
        let before = self.index.get(&key).copied().unwrap_or_default();
        if let Some((remote, spi_i)) = before.half_open
            && !sa.is_half_open()
        {
            self.book.half_open.leave(remote, spi_i);
        }
        if sa.is_gone() {
            self.book.ike_spis.remove(&sa.own_spi());
            self.unindex(key, before);
            return;
        }
        let closed = matches!(sa.state, State::Closed);
        let half_open = match &sa.state {
            State::ExpectAuthRequest(expect) => Some((expect.came_from, sa.spi_i)),
            State::Connecting | State::Established(_) | State::Closed => None,
        };
        let endpoints = (!closed).then_some((sa.local.ip(), sa.remote.ip()));
        let now = Indexed { deadline: sa.next_deadline(), half_open, endpoints };
        self.reindex(key, before, now);
        if !closed {
            self.open += 1;
        }
        self.sas.insert(key, sa);
    }

    pub(super) fn index_deadline(&mut self, key: SaKey) {
        let Some(sa) = self.sas.get(&key) else { return };
        let before = self.index.get(&key).copied().unwrap_or_default();
        let now = Indexed { deadline: sa.next_deadline(), ..before };
        self.reindex(key, before, now);
    }

    fn unindex(&mut self, key: SaKey, before: Indexed) {
        self.reindex(key, before, Indexed::default());
        self.index.remove(&key);
    }

    fn reindex(&mut self, key: SaKey, before: Indexed, now: Indexed) {
        if before.deadline != now.deadline {
            if let Some(at) = before.deadline {
                self.deadlines.remove(&(at, key));
            }
            if let Some(at) = now.deadline {
                self.deadlines.insert((at, key));
            }
        }
        if before.endpoints != now.endpoints {
            if let Some(endpoints) = before.endpoints
                && let Some(keys) = self.by_endpoints.get_mut(&endpoints)
            {
                keys.remove(&key);
                if keys.is_empty() {
                    self.by_endpoints.remove(&endpoints);
                }
            }
            if let Some(endpoints) = now.endpoints {
                self.by_endpoints.entry(endpoints).or_default().insert(key);
            }
        }
        self.index.insert(key, now);
    }
}
