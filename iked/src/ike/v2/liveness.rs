//! What time brings to an established SA: retransmission and dead peers (RFC 7296 sections 2.1 and 2.4), keepalives,
//! lifetimes.

use super::child::Standing;
use super::established::{Established, IkeStanding, LOOKS, Next, REST};
use super::sa::{Exchange, IkeSa, Task};
use crate::ike::context::{After, Context};
use crate::ike::failure::{Failure, FailureKind};
use crate::ike::timer::Timer;
use crate::ike::wire::ExchangeType;
use std::time::Duration;

/// How long the Delete of an expired child may take before it is removed without an answer.
const GRACE: Duration = Duration::from_secs(30);

/// Asks whether the peer lives.
pub(crate) fn start(established: &mut Established, sa: &mut IkeSa, ctx: &mut Context<'_>) {
    established.request(sa, ctx, ExchangeType::INFORMATIONAL, Vec::new(), Exchange::Liveness);
}

/// Does what is due.
pub(crate) fn on_timeout(established: &mut Established, sa: &mut IkeSa, ctx: &mut Context<'_>) -> Next {
    let now = ctx.now;
    if sa.timers.expired(Timer::Retransmit, now) && !sa.retransmit(ctx) {
        let reason = match sa.outbound.open().map(|open| &open.exchange) {
            Some(Exchange::DeleteIke(ours)) => Failure::deactivated(ours.reason),
            _ => Failure::new(FailureKind::Timeout, format!("peer {} does not answer", sa.remote)),
        };
        return Next::End(reason);
    }
    if sa.timers.expired(Timer::Keepalive, now) {
        sa.keepalive(ctx);
    }
    if sa.timers.expired(Timer::Linger, now) {
        match established.standing {
            IkeStanding::Closing => {
                return Next::End(Failure::deactivated("deleted, the peer has not answered"));
            }
            // The peer has replaced this SA and then forgot it.
            IkeStanding::Serving | IkeStanding::Replaced => {
                established.want_delete_ike(sa, ctx, "rekeyed by the peer");
            }
        }
    }
    if sa.timers.expired(Timer::Liveness, now) {
        ask(established, sa, ctx);
    }
    if sa.timers.expired(Timer::Redundant, now) && established.standing == IkeStanding::Serving {
        established.looks = established.looks.saturating_sub(1);
        let busy = sa.outbound.open().is_some() || !sa.tasks.is_empty();
        if !busy && sa.replaces.is_none() {
            ctx.after.push(After::EndRedundant(sa.key));
        }
        if established.looks > 0 {
            sa.timers.set(Timer::Redundant, now + REST * (1 << (LOOKS - established.looks)));
        }
    }
    // Only wakes up `go_on`, which looks at the queue.
    sa.timers.expired(Timer::Retry, now);
    let expired = sa.timers.expired(Timer::Expire, now);
    let reauth = sa.timers.expired(Timer::Reauth, now);
    let rekey = sa.timers.expired(Timer::Rekey, now);
    if established.standing == IkeStanding::Serving {
        if expired {
            established.want_delete_ike(sa, ctx, "lifetime has ended");
        } else if reauth && !established.children.is_empty() {
            ctx.after.push(After::Reauthenticate(sa.key));
        } else if rekey {
            let unused = established.children.is_empty() && !established.contested;
            if unused && sa.tasks.is_empty() && sa.outbound.open().is_none() {
                // Spec: an SA that is not used is not replaced.
                established.want_delete_ike(sa, ctx, "not used");
            } else {
                established.want_rekey_ike(sa);
            }
        }
        children(established, sa, ctx);
    }
    Next::Keep
}

fn ask(established: &Established, sa: &mut IkeSa, ctx: &Context<'_>) {
    let interval = ctx.settings.liveness;
    if interval.is_zero() || established.standing == IkeStanding::Closing {
        return;
    }
    let due = established.heard + interval;
    if due > ctx.now {
        sa.timers.set(Timer::Liveness, due);
        return;
    }
    sa.timers.set(Timer::Liveness, ctx.now + interval);
    // An open request is as good a question.
    if sa.outbound.open().is_none() && !sa.tasks.iter().any(|task| matches!(task, Task::Liveness)) {
        sa.tasks.push_back(Task::Liveness);
    }
}

fn children(established: &mut Established, sa: &mut IkeSa, ctx: &mut Context<'_>) {
    let now = ctx.now;
    let due: Vec<u32> = established
        .children
        .values()
        .filter(|child| child.deadline() <= now)
        .map(|child| child.spi_in)
        .collect();
    for spi in due {
        let Some(child) = established.children.get_mut(&spi) else { continue };
        if child.activate_at.take_if(|at| *at <= now).is_some() {
            established.activate(ctx, spi);
        }
        let Some(child) = established.children.get_mut(&spi).filter(|child| child.deadline() <= now) else {
            continue;
        };
        if child.life.expires_at > now {
            established.want_rekey(sa, spi);
        } else if child.standing == Standing::Closing {
            established.remove_child(ctx, spi, "lifetime has ended");
        } else {
            child.life.expires_at = now + GRACE;
            if let Standing::Replaced { by } = child.standing {
                established.activate(ctx, by);
            }
            established.want_delete(sa, spi, "lifetime has ended");
        }
    }
}
