//! The one place where effects happen: what an engine wants becomes a message to its stack, an order to the
//! coupling facility, or a line of the log.
//!
//! Events go before datagrams: when a peer hears that an SA exists, the stack holds it already.

use crate::cf::RecordKey;
use crate::cf::fence::Record;
use crate::cf::keeper::Order;
use crate::cf::record::{Phase1, Phase2, RecordId};
use crate::config::Config;
use crate::core::{Now, Stack};
use crate::events::What;
use crate::ike::command::Command;
use crate::ike::event::{Event, Outcome as Negotiated, Payload, Transmit};
use crate::ike::failure::{Failure, FailureKind};
use crate::ike::rules::IkeOffer;
use crate::ike::types::{Encryption, Identity, IkeTunnelId, Integrity, StoreTicket, TunnelId};
use crate::ike::view::{ChildView, IkeSuite};
use crate::topology::{Owners, may_use};
use crate::translate::sa::sa_pair;
use stack::control::{Acquire, DfMode, IkeDatagram, PortTranslation, ToStack};
use std::net::IpAddr;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Acts upon everything that `stack`'s engine has to say.
///
/// Gives what is the core's to act upon.
pub(crate) fn drain(
    stack: &mut Stack,
    keeper: Option<&mpsc::Sender<Order>>,
    config: &Config,
    owners: &Owners,
    now: Now,
) -> Drained {
    let mut drained = Drained::default();
    while let Some(event) = stack.engine.poll_event() {
        match event {
            Event::Renegotiated { item, outcome } => drained.negotiated.push((item, outcome)),
            Event::Changed { id, ticket } => drained.changed.push((id, ticket)),
            Event::Restored { was, id, lost } => {
                info!(stack = %stack.entry.name, tunnel = %format_args!("K{}", id.0), was = %format_args!("K{}", was.0),
                    lost, "goes on with an IKE tunnel of another owner");
                drained.restored.push((was, Some(id)));
            }
            Event::RestoreRefused { was, reason } => {
                warn!(stack = %stack.entry.name, was = %format_args!("K{}", was.0),
                    "IKE tunnel not continued: {}; it is negotiated anew", reason.escape_debug());
                drained.restored.push((was, None));
            }
            event => act(stack, keeper, owners, now, event),
        }
    }
    while let Some(transmit) = stack.engine.poll_transmit() {
        // Whoever does not own an address does not speak for it, whatever an engine still has to say.
        if let Some(link) = &stack.link
            && may_use(config, owners, &stack.entry.name, transmit.local.ip())
        {
            link.send_datagram(datagram(transmit));
        }
    }
    drained
}

/// What an engine said that is not for its stack.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    /// Ends of negotiations in the place of an earlier owner's.
    pub(crate) negotiated: Vec<(u64, Negotiated)>,
    /// IKE tunnels whose state is to be stored.
    pub(crate) changed: Vec<(IkeTunnelId, StoreTicket)>,
    /// IKE tunnels of an earlier owner, by their numbers there, and their numbers here if they go on.
    pub(crate) restored: Vec<(IkeTunnelId, Option<IkeTunnelId>)>,
}

/// Writes the records of a DVIPA's tunnels again, as they are now.
pub(crate) fn write_all(stack: &mut Stack, keeper: Option<&mpsc::Sender<Order>>, now: Now, dvipa: IpAddr) {
    let mut orders = Vec::new();
    for view in stack.engine.ike_tunnels().into_iter().filter(|v| v.local.ip() == dvipa) {
        let offers = offers(stack, &view.rule);
        orders.extend(stack.ledger.ike_up(&view, &offers));
    }
    for view in stack.engine.children().into_iter().filter(|v| v.local.ip() == dvipa) {
        orders.extend(child_orders(stack, &view, now));
    }
    order(stack, keeper, orders);
}

/// Writes the record of a dynamic tunnel again, as it is now.
pub(crate) fn write_child(stack: &mut Stack, keeper: Option<&mpsc::Sender<Order>>, now: Now, id: TunnelId) {
    let Some(view) = stack.engine.child(id) else { return };
    let orders = child_orders(stack, &view, now);
    order(stack, keeper, orders);
}

/// What writes the record of a dynamic tunnel. Only children of recorded IKE tunnels are recorded, and only those of DVIPAs are.
fn child_orders(stack: &mut Stack, view: &ChildView, now: Now) -> Vec<Order> {
    stack.ledger.child_up(view, view.vpn_life_ends.map(|t| now.unix_of(t)), now.unix)
}

/// The records of a DVIPA's tunnels, as they would be written.
#[expect(clippy::type_complexity, reason = "the two lists of records as they stand in the coupling facility")]
pub(crate) fn records(
    stack: &mut Stack,
    now: Now,
    dvipa: IpAddr,
) -> (Vec<(RecordId, u64, Phase1)>, Vec<(RecordId, u64, Phase2)>) {
    let (mut phase1, mut phase2) = (Vec::new(), Vec::new());
    for view in stack.engine.ike_tunnels().into_iter().filter(|v| v.local.ip() == dvipa) {
        let offers = offers(stack, &view.rule);
        for o in stack.ledger.ike_up(&view, &offers) {
            if let Order::Write { key: RecordKey::Phase1(id), record: Some(Record::Phase1(r)), .. } = o {
                phase1.push((id, 0, *r));
            }
        }
    }
    for view in stack.engine.children().into_iter().filter(|v| v.local.ip() == dvipa) {
        for o in child_orders(stack, &view, now) {
            if let Order::Write { key: RecordKey::Phase2(id), record: Some(Record::Phase2(r)), .. } = o {
                phase2.push((id, 0, *r));
            }
        }
    }
    // The frames do not say when they were used; their order does.
    phase2.sort_by_key(|(.., child)| std::cmp::Reverse(child.last_used));
    (phase1, phase2)
}

/// The offers of a KeyExchangeRule.
fn offers(stack: &Stack, rule: &str) -> Vec<IkeOffer> {
    stack.offers.get(rule).cloned().unwrap_or_default()
}

/// Sends the orders again that did not fit into the keeper's queue.
pub(crate) fn write_again(stack: &mut Stack, keeper: &mpsc::Sender<Order>) {
    let orders = stack.ledger.take_unsent();
    order(stack, Some(keeper), orders);
}

/// A negotiation that the stack asked for cannot be started.
pub(crate) fn acquire_failed(stack: &mut Stack, acquire: &Acquire, reason: &str) {
    warn!(stack = %stack.entry.name, rule = %acquire.rule, source = %acquire.source,
        destination = %acquire.destination, "on-demand negotiation not started: {reason}");
    stack.send(ToStack::AcquireFailed { id: acquire.id });
}

fn failed(stack: &Stack, now: Now, peer: IpAddr, rule: Option<String>, reason: Failure) {
    let name = &stack.entry.name;
    warn!(stack = %name, %peer, rule = rule.as_deref().unwrap_or("-"), "negotiation failed: {reason}");
    stack.events.report(now.unix, name.as_str(), What::Failed { peer, rule, reason });
}

/// The stack cannot use an SA that was negotiated: it ends at the peer, too, which would send into nothing.
pub(crate) fn child_refused(stack: &mut Stack, now: Now, spi_in: u32, reason: &str) {
    let reason = reason.escape_debug();
    let Some(child) = stack.engine.children().into_iter().find(|c| c.spi_in == spi_in) else {
        warn!(stack = %stack.entry.name, spi_in = %format_args!("{spi_in:08x}"), "SA refused by the stack: {reason}");
        return;
    };
    let text = format!("the stack cannot use what was negotiated: {reason}");
    failed(stack, now, child.remote.ip(), Some(child.rule), Failure::new(FailureKind::Stack, text));
    stack.engine.handle_command(now.instant, Command::ChildLost { spi_in });
}

fn act(stack: &mut Stack, keeper: Option<&mpsc::Sender<Order>>, owners: &Owners, now: Now, event: Event) {
    let name = stack.entry.name.clone();
    match event {
        Event::InstallChild(child) => {
            stack.installed.insert(child.spi_in, child.tunnel);
            let outer = stack
                .policy
                .as_ref()
                .map_or((DfMode::Copy, true), |p| (p.df(&child.vpn_action), p.copy_dscp(&child.vpn_action)));
            stack.send(ToStack::InstallSa(Box::new(sa_pair(*child, outer))));
        }
        Event::ActivateOutbound { spi_in } => stack.send(ToStack::ActivateOutbound { spi_in }),
        Event::RemoveChild { spi_in } => {
            stack.installed.remove(&spi_in);
            stack.send(ToStack::RemoveSa { spi_in });
        }
        Event::IkeUp(id) => ike_up(stack, keeper, owners, now, id),
        Event::IkeDown { id, reason } => {
            info!(stack = %name, tunnel = %format_args!("K{}", id.0), "IKE tunnel ended: {reason}");
            stack.events.report(now.unix, name.as_str(), What::IkeDown { tunnel: id.0, reason });
            let orders = stack.ledger.ike_down(id);
            order(stack, keeper, orders);
        }
        Event::ChildUp(id) => child_up(stack, keeper, now, id),
        Event::ChildDown { id, reason } => {
            info!(stack = %name, tunnel = %format_args!("Y{}", id.0), "dynamic tunnel ended: {reason}");
            stack.events.report(now.unix, name.as_str(), What::ChildDown { tunnel: id.0, reason });
            let orders = stack.ledger.child_down(id);
            order(stack, keeper, orders);
        }
        Event::Failed { peer, rule, reason, acquire } => {
            failed(stack, now, peer, rule, reason);
            if let Some(id) = acquire {
                stack.send(ToStack::AcquireFailed { id });
            }
        }
        // The core's.
        Event::Changed { .. }
        | Event::Restored { .. }
        | Event::RestoreRefused { .. }
        | Event::Renegotiated { .. } => {}
        Event::Notice { peer, text } => info!(stack = %name, %peer, "{}", text.escape_debug()),
    }
}

fn ike_up(
    stack: &mut Stack,
    keeper: Option<&mpsc::Sender<Order>>,
    owners: &Owners,
    now: Now,
    id: IkeTunnelId,
) {
    let Some(view) = stack.engine.ike_tunnel(id) else { return };
    let up = What::IkeUp {
        tunnel: id.0,
        generation: view.generation,
        rule: view.rule.clone(),
        local: view.local.ip(),
        remote: view.remote.ip(),
    };
    stack.events.report(now.unix, stack.entry.name.as_str(), up);
    info!(stack = %stack.entry.name, tunnel = %format_args!("K{}", id.0), generation = view.generation,
        rule = %view.rule, local = %view.local, peer = %view.remote,
        peer_id = %view.remote_id.as_ref().map_or_else(|| "-".to_owned(), shown),
        suite = %suite_text(view.suite), "IKE tunnel established");
    if !owns(stack, owners, view.local.ip()) {
        return;
    }
    let offers = offers(stack, &view.rule);
    let orders = stack.ledger.ike_up(&view, &offers);
    order(stack, keeper, orders);
}

fn child_up(stack: &mut Stack, keeper: Option<&mpsc::Sender<Order>>, now: Now, id: TunnelId) {
    let Some(view) = stack.engine.child(id) else { return };
    info!(stack = %stack.entry.name, tunnel = %format_args!("Y{}", id.0), generation = view.generation,
        ike = %format_args!("K{}", view.ike.0), rule = %view.rule, peer = %view.remote.ip(), mode = ?view.mode,
        udp = view.udp, spi_in = %format_args!("{:08x}", view.spi_in),
        spi_out = %format_args!("{:08x}", view.spi_out), suite = %esp_text(view.encryption, view.integrity), "dynamic tunnel active");
    let up = What::ChildUp {
        tunnel: id.0,
        ike: view.ike.0,
        generation: view.generation,
        rule: view.rule.clone(),
        local: view.local.ip(),
        remote: view.remote.ip(),
        spi_in: view.spi_in,
        spi_out: view.spi_out,
    };
    stack.events.report(now.unix, stack.entry.name.as_str(), up);
    write_child(stack, keeper, now, id);
}

/// The stack translates other ports than before for the clients of a tunnel: the next owner is to know them.
pub(crate) fn translated(
    stack: &mut Stack,
    keeper: Option<&mpsc::Sender<Order>>,
    now: Now,
    id: TunnelId,
    flows: Vec<PortTranslation>,
) {
    if stack.engine.child(id).is_some() {
        stack.ledger.translate(id, flows);
        write_child(stack, keeper, now, id);
    }
}

fn owns(stack: &Stack, owners: &Owners, address: IpAddr) -> bool {
    owners.get(&address).is_some_and(|o| o.stack == stack.entry.name)
}

fn order(stack: &mut Stack, keeper: Option<&mpsc::Sender<Order>>, orders: Vec<Order>) {
    let Some(keeper) = keeper else { return };
    for order in orders {
        if let Err(e) = keeper.try_send(order) {
            stack.ledger.unsent(e.into_inner());
        }
    }
}

fn datagram(t: Transmit) -> ToStack {
    let Transmit { local, remote, payload } = t;
    match payload {
        Payload::Message(bytes) => ToStack::Ike(IkeDatagram { local, remote, bytes }),
        Payload::NatKeepalive => ToStack::NatKeepalive { local, remote },
    }
}

/// Algorithms of an IKE SA for people: `AesGcm16(128)/HmacSha256/Curve25519`.
fn suite_text(suite: Option<IkeSuite>) -> String {
    suite.map_or_else(
        || "-".to_owned(),
        |s| format!("{}/{:?}/{:?}", esp_text(Some(s.encryption), s.integrity), s.prf, s.group),
    )
}

/// Algorithms that protect packets, for people: `AesCbc(256)+HmacSha256`.
fn esp_text(encryption: Option<Encryption>, integrity: Option<Integrity>) -> String {
    match (encryption, integrity) {
        (None, _) => "-".to_owned(),
        (Some(e), None) => format!("{e:?}"),
        (Some(e), Some(i)) => format!("{e:?}+{i:?}"),
    }
}

/// An identity for people. What a peer sent is escaped (threats T10).
fn shown(id: &Identity) -> String {
    match id {
        Identity::Address(a) => a.to_string(),
        Identity::Fqdn(s) | Identity::UserFqdn(s) => s.escape_debug().to_string(),
        Identity::Dn(der) => format!("dn:{}", hex::encode(der)),
        Identity::KeyId(id) => format!("key-id:{}", hex::encode(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t10_identities_are_escaped() {
        assert_eq!(shown(&Identity::Fqdn("a\x1b[2J\n".into())), "a\\u{1b}[2J\\n");
        assert_eq!(shown(&Identity::KeyId(vec![0, 255])), "key-id:00ff");
    }
}
