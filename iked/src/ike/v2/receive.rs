//! What comes in for an IKE SA: is it what the SA waits for, does it open, and who handles it.

use super::auth::ExpectAuthRequest;
use super::established::{Established, Next};
use super::fragments::Opened;
use super::sa::{Exchange, IkeSa, State};
use super::window::Arrival;
use crate::ike::context::Context;
use crate::ike::crypto::OpenError;
use crate::ike::error::Mistake;
use crate::ike::failure::Failure;
use crate::ike::natt;
use crate::ike::view::Role;
use crate::ike::wire::{ExchangeType, Message, NotifyType, Protected};
use std::net::SocketAddr;

/// A protected datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram<'d> {
    /// Own address.
    pub(crate) local: SocketAddr,
    /// Where it came from.
    pub(crate) remote: SocketAddr,
    /// Its octets.
    pub(crate) octets: &'d [u8],
    /// Its header and where the Encrypted payload is.
    pub(crate) protected: Protected,
}

/// Takes a protected datagram for this SA.
pub(crate) fn receive(sa: &mut IkeSa, ctx: &mut Context<'_>, datagram: &Datagram<'_>) {
    let header = datagram.protected.header;
    let from_initiator = matches!(sa.role, Role::Responder);
    if header.flags.initiator != from_initiator || header.spi_i != sa.spi_i || header.spi_r != sa.spi_r {
        // Our own packet back, or a forged flag (T15).
        return dropped(sa, ctx, datagram, "flags or SPIs of another side");
    }
    if header.flags.response { response(sa, ctx, datagram) } else { request(sa, ctx, datagram) }
}

fn dropped(sa: &mut IkeSa, ctx: &mut Context<'_>, datagram: &Datagram<'_>, why: &str) {
    sa.count_invalid(ctx);
    ctx.out.notice(ctx.now, datagram.remote, Mistake::Order, why);
}

fn replayed(sa: &mut IkeSa, ctx: &mut Context<'_>) {
    if matches!(sa.state, State::Established(_)) {
        sa.counters.child_replays += 1;
        ctx.out.counters.ike.child_replays += 1;
    } else {
        sa.counters.replays += 1;
        ctx.out.counters.ike.replays += 1;
    }
}

fn forged(sa: &mut IkeSa, ctx: &mut Context<'_>, datagram: &Datagram<'_>) {
    sa.count_invalid(ctx);
    ctx.out.notice(ctx.now, datagram.remote, Mistake::Sealed, "a protected message does not open");
}

fn request(sa: &mut IkeSa, ctx: &mut Context<'_>, datagram: &Datagram<'_>) {
    let id = datagram.protected.header.message_id;
    match sa.inbound.arrival(id, datagram.octets) {
        Arrival::Fresh => {}
        Arrival::Repeat(response) => {
            let response = response.to_vec();
            replayed(sa, ctx);
            // To the peer as it is known, wherever the repeat came from (T30).
            return sa.answer_again(ctx, response);
        }
        Arrival::Outside => return replayed(sa, ctx),
    }
    match std::mem::replace(&mut sa.state, State::Closed) {
        State::Established(established) => sa.state = served(established, sa, ctx, datagram),
        State::ExpectAuthRequest(expect) => sa.state = authenticated(expect, sa, ctx, datagram),
        State::Connecting => {
            // A request of the peer before it has proved itself (T13, T14).
            sa.state = State::Connecting;
            dropped(sa, ctx, datagram, "a request before authentication");
        }
        State::Closed => {}
    }
}

fn served(
    mut established: Box<Established>,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    datagram: &Datagram<'_>,
) -> State {
    let next = match sa.fragments.open(&established.opener, datagram) {
        Ok(Opened::Whole(message, octets)) => {
            established.heard(sa, ctx, datagram);
            note_ignored(sa, ctx, datagram, &message);
            established.on_request(sa, ctx, &message, &octets)
        }
        Ok(Opened::Part) => {
            established.heard(sa, ctx, datagram);
            Next::Keep
        }
        Err(OpenError::Forged) => {
            sa.state = State::Established(established);
            forged(sa, ctx, datagram);
            return std::mem::replace(&mut sa.state, State::Closed);
        }
        Err(OpenError::Content(error)) => {
            established.heard(sa, ctx, datagram);
            established.on_bad_request(sa, ctx, datagram.protected.header, datagram.octets, &error)
        }
    };
    established.settle(sa, ctx, next)
}

fn authenticated(
    mut expect: Box<ExpectAuthRequest>,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    datagram: &Datagram<'_>,
) -> State {
    if datagram.protected.header.exchange != ExchangeType::IKE_AUTH {
        // T13, T14: no keys are used for it.
        dropped(sa, ctx, datagram, "a request before authentication");
        return State::ExpectAuthRequest(expect);
    }
    let opened = sa.fragments.open(&expect.opener, datagram);
    if !matches!(opened, Err(OpenError::Forged)) && natt::is_plausible(datagram.remote, datagram.local.ip()) {
        // RFC 7296 section 2.23: with a NAT, the initiator has moved to port 4500.
        sa.local = datagram.local;
        sa.remote = datagram.remote;
    }
    match opened {
        Ok(Opened::Whole(message, octets)) => {
            count_bytes(sa, ctx, datagram);
            note_ignored(sa, ctx, datagram, &message);
            expect.handle(sa, ctx, &message, &octets)
        }
        Ok(Opened::Part) => {
            count_bytes(sa, ctx, datagram);
            State::ExpectAuthRequest(expect)
        }
        Err(OpenError::Forged) => {
            forged(sa, ctx, datagram);
            State::ExpectAuthRequest(expect)
        }
        Err(OpenError::Content(error)) => {
            let (kind, _) = error.notify();
            let kind = if kind == NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD {
                kind
            } else {
                NotifyType::INVALID_SYNTAX
            };
            let request = Message::new(datagram.protected.header, Vec::new());
            let text = format!("IKE_AUTH of peer {} cannot be taken apart: {error}", datagram.remote);
            let reason = Failure::invalid(text);
            expect.refuse(sa, ctx, &request, datagram.octets, kind, &reason)
        }
    }
}

fn response(sa: &mut IkeSa, ctx: &mut Context<'_>, datagram: &Datagram<'_>) {
    let header = datagram.protected.header;
    let awaited =
        sa.outbound.open().filter(|open| open.id == header.message_id).map(|open| open.exchange.kind());
    if awaited != Some(header.exchange) {
        // An answer to a request never sent, or answered already (T15).
        return replayed(sa, ctx);
    }
    match std::mem::replace(&mut sa.state, State::Closed) {
        State::Established(mut established) => {
            let next = match sa.fragments.open(&established.opener, datagram) {
                Ok(Opened::Part) => {
                    established.heard(sa, ctx, datagram);
                    Next::Keep
                }
                Ok(Opened::Whole(message, _)) => {
                    established.heard(sa, ctx, datagram);
                    note_ignored(sa, ctx, datagram, &message);
                    established.on_response(sa, ctx, &message)
                }
                Err(OpenError::Forged) => {
                    sa.state = State::Established(established);
                    return forged(sa, ctx, datagram);
                }
                Err(OpenError::Content(error)) => {
                    let text = format!("peer's answer cannot be taken apart: {error}");
                    ctx.out.notice(ctx.now, datagram.remote, Mistake::Malformed, &text);
                    established.yield_to_rival(sa, ctx);
                    sa.fail_open(ctx, &Failure::invalid(text));
                    established.want_delete_ike(sa, ctx, "peer's answer cannot be taken apart");
                    Next::Keep
                }
            };
            sa.state = established.settle(sa, ctx, next);
        }
        State::Connecting => {
            sa.state = State::Connecting;
            auth_response(sa, ctx, datagram);
        }
        other @ (State::ExpectAuthRequest(_) | State::Closed) => sa.state = other,
    }
}

fn auth_response(sa: &mut IkeSa, ctx: &mut Context<'_>, datagram: &Datagram<'_>) {
    let opened = match sa.outbound.open().map(|open| &open.exchange) {
        Some(Exchange::Auth(expect)) => sa.fragments.open(&expect.opener, datagram),
        _ => return,
    };
    match opened {
        Ok(Opened::Part) => count_bytes(sa, ctx, datagram),
        Ok(Opened::Whole(message, _)) => {
            count_bytes(sa, ctx, datagram);
            note_ignored(sa, ctx, datagram, &message);
            if let Some(Exchange::Auth(expect)) = sa.close_request() {
                sa.state = expect.handle(sa, ctx, &message);
            }
        }
        Err(OpenError::Forged) => forged(sa, ctx, datagram),
        Err(OpenError::Content(error)) => {
            let reason = Failure::invalid(format!("answer to IKE_AUTH cannot be taken apart: {error}"));
            sa.state = sa.fail(ctx, &reason);
        }
    }
}

const fn count_bytes(sa: &mut IkeSa, ctx: &mut Context<'_>, datagram: &Datagram<'_>) {
    let octets = datagram.octets.len() as u64;
    sa.counters.bytes += octets;
    ctx.out.counters.ike.bytes += octets;
}

/// Notify and Delete payloads that contradict themselves are left out and counted (T11).
fn note_ignored(sa: &mut IkeSa, ctx: &mut Context<'_>, datagram: &Datagram<'_>, message: &Message) {
    for error in &message.ignored {
        sa.count_invalid(ctx);
        ctx.out.notice(ctx.now, datagram.remote, Mistake::Malformed, &error.to_string());
    }
}

impl Established {
    /// A fresh and authentic message has come: the peer lives, and if it is behind a NAT, this is where it is now (RFC 7296
    /// section 2.23, T20). Its children are replaced, for their endpoints are fixed.
    fn heard(&mut self, sa: &mut IkeSa, ctx: &mut Context<'_>, datagram: &Datagram<'_>) {
        self.heard = ctx.now;
        count_bytes(sa, ctx, datagram);
        let moved = sa.remote != datagram.remote && sa.nat.remote && !sa.nat.local;
        if moved && natt::is_plausible(datagram.remote, sa.local.ip()) {
            sa.remote = datagram.remote;
            let all: Vec<u32> = self.children.keys().copied().collect();
            for spi in all {
                self.want_rekey(sa, spi);
            }
        }
    }
}
