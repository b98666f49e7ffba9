//! INFORMATIONAL (RFC 7296 sections 1.4 and 1.4.1): deletes, and messages that only ask for an answer.

use super::child::Child;
use super::established::{Established, IkeStanding, Next};
use super::found::Found;
use super::sa::{Exchange, IkeSa};
use crate::ike::context::Context;
use crate::ike::error::Mistake;
use crate::ike::failure::Failure;
use crate::ike::timer::Timer;
use crate::ike::wire::payload::{Delete, Deleted};
use crate::ike::wire::{ExchangeType, Message, NotifyType, Payload, ProtocolId};
use std::collections::BTreeMap;

/// We sent the Delete of a child.
#[derive(Debug)]
pub(crate) struct ExpectChildDelete {
    /// Inbound SPI.
    pub(crate) spi_in: u32,
    /// Why.
    pub(crate) reason: &'static str,
}

/// We sent the Delete of this SA.
#[derive(Debug)]
pub(crate) struct ExpectIkeDelete {
    /// Why.
    pub(crate) reason: &'static str,
}

/// Sends the Delete of a child, if it is still there.
pub(crate) fn start_delete(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    spi_in: u32,
    reason: &'static str,
) {
    if let Some(child) = established.children.get(&spi_in) {
        let payloads = vec![Payload::Delete(Delete::children(child.terms.suite.protocol(), vec![spi_in]))];
        let exchange = Exchange::DeleteChild(ExpectChildDelete { spi_in, reason });
        established.request(sa, ctx, ExchangeType::INFORMATIONAL, payloads, exchange);
    }
}

/// Sends the Delete of a child that the peer made and this side never installed.
pub(crate) fn start_disown(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    spi_in: u32,
) {
    let payloads = vec![Payload::Delete(Delete::esp(vec![spi_in]))];
    let exchange = Exchange::DeleteChild(ExpectChildDelete { spi_in, reason: "" });
    established.request(sa, ctx, ExchangeType::INFORMATIONAL, payloads, exchange);
}

/// Sends the Delete of this SA.
pub(crate) fn start_delete_ike(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    reason: &'static str,
) {
    let payloads = vec![Payload::Delete(Delete::ike_sa())];
    let exchange = Exchange::DeleteIke(ExpectIkeDelete { reason });
    established.request(sa, ctx, ExchangeType::INFORMATIONAL, payloads, exchange);
}

impl ExpectChildDelete {
    /// Takes the answer. What it says does not matter: the SA is gone (section 1.4.1).
    pub(crate) fn handle(self, established: &mut Established, ctx: &mut Context<'_>) -> Next {
        established.remove_child(ctx, self.spi_in, self.reason);
        Next::Keep
    }
}

/// Serves an INFORMATIONAL request.
pub(crate) fn respond(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    message: &Message,
    octets: &[u8],
) -> Next {
    let found = Found::in_message(message);
    if let Some(error) = found.notify(NotifyType::AUTHENTICATION_FAILED) {
        // Section 2.21.2: the initiator did not take our proof. What it tells us is protected by the keys of this SA.
        let text = format!("peer answers {} to our IKE_AUTH", error.kind);
        let reason = Failure::notified(error.kind, text);
        established.reply(sa, ctx, message, octets, Vec::new());
        return Next::End(reason);
    }
    if found.deletes().any(|delete| delete.0 == Deleted::IkeSa) {
        established.reply(sa, ctx, message, octets, Vec::new());
        let reason = match established.standing {
            IkeStanding::Serving => "deleted by the peer",
            IkeStanding::Replaced => "rekeyed by the peer",
            IkeStanding::Closing => "deleted by both ends",
        };
        return Next::End(Failure::deactivated(reason));
    }
    if established.contested && found.deletes().next().is_some() {
        // They are still at the SA that this one replaces. The peer repeats it, and by then they are here.
        return Next::Keep;
    }
    let deleted = delete_children(established, sa, ctx, &found);
    // One payload is about one protocol (RFC 7296 section 3.11).
    let payloads = [ProtocolId::ESP, ProtocolId::AH].into_iter().filter_map(|protocol| {
        let of_it = deleted.iter().filter(|(p, _)| *p == protocol).map(|(_, spi)| *spi);
        let spis: Vec<u32> = of_it.collect();
        (!spis.is_empty()).then(|| Payload::Delete(Delete::children(protocol, spis)))
    });
    let payloads = payloads.collect();
    established.reply(sa, ctx, message, octets, payloads);
    Next::Keep
}

/// Deletes the children that the peer names by the SPIs on which it receives; returns our SPIs of those pairs. What is
/// not there is ignored (threats T11).
fn delete_children(
    established: &mut Established,
    sa: &mut IkeSa,
    ctx: &mut Context<'_>,
    found: &Found<'_>,
) -> Vec<(ProtocolId, u32)> {
    let mut by_outbound: BTreeMap<(ProtocolId, u32), u32> = BTreeMap::new();
    let mut answer = Vec::new();
    for delete in found.deletes() {
        let Deleted::Children { protocol, spis } = &delete.0 else { continue };
        if by_outbound.is_empty() {
            let named = |child: &Child| ((child.terms.suite.protocol(), child.spi_out), child.spi_in);
            by_outbound = established.children.values().map(named).collect();
        }
        for spi_out in spis {
            let Some(spi_in) = by_outbound.get(&(*protocol, *spi_out)).copied() else {
                if let Some(open) = sa.outbound.open_mut() {
                    open.exchange.deleted_early(*spi_out);
                }
                ctx.out.notice(ctx.now, sa.remote, Mistake::Order, "Delete of an SPI that is not there");
                continue;
            };
            if !established.children.contains_key(&spi_in) {
                continue;
            }
            let open = sa.outbound.open().map(|open| &open.exchange);
            match open {
                // Section 1.4.1: both deleted it; the half that we have named ourselves is not named again.
                Some(Exchange::DeleteChild(ours)) if ours.spi_in == spi_in => {}
                _ => answer.push((*protocol, spi_in)),
            }
            if let Some(Exchange::RekeyChild(ours)) = open
                && ours.old == spi_in
                && let Some(rival) = &ours.rival
            {
                established.activate(ctx, rival.sa);
            }
            established.remove_child(ctx, spi_in, "deleted by the peer");
        }
    }
    answer
}

/// The deadline of a shutdown: the peer has had time enough to answer.
pub(crate) fn bound_shutdown(sa: &mut IkeSa, ctx: &Context<'_>) {
    sa.timers.set(Timer::Linger, ctx.now + ctx.settings.retransmit_initial * 3);
}
