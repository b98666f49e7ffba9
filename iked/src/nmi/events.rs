//! A subscription: events of the core become records of EVENT messages (docs/nmi.md sections 6.21 and 7.2).

use crate::events::{Event, What};
use nmi_proto::answer::with_records;
use nmi_proto::code::{EventKind, MessageType, ReasonCode, ReturnCode};
use nmi_proto::display::{Event as WireEvent, Record as _};
use nmi_proto::header::MessageHeader;
use nmi_proto::text::CodePage;
use nmi_proto::value::Time;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Events that go into one message at most.
const BATCH: usize = 64;

/// What a client asked for, and where its events come from.
#[derive(Debug)]
pub(super) struct Subscription {
    events: Receiver<Arc<Event>>,
    /// Of this stack; `None`: of all.
    stack: Option<String>,
    /// Bits of kinds; 0: all.
    kinds: u32,
    page: CodePage,
    correlator: [u8; 8],
    /// Events that were not read in time, since the last that was delivered.
    lost: u64,
    /// Events that were lost after those of the last batch.
    lost_behind: u64,
}

impl Subscription {
    pub(super) fn new(
        events: Receiver<Arc<Event>>,
        stack: Option<String>,
        kinds: u32,
        request: &MessageHeader,
    ) -> Self {
        let (page, correlator) = (request.page, request.correlator);
        Self { events, stack, kinds, page, correlator, lost: 0, lost_behind: 0 }
    }

    /// The next events, at least one; `None`: there will be no more.
    ///
    /// Cancel safe: what was taken is not lost, because the wait comes before anything is taken.
    pub(super) async fn next(&mut self) -> Option<Vec<Arc<Event>>> {
        self.lost = self.lost.saturating_add(std::mem::take(&mut self.lost_behind));
        let mut batch = Vec::new();
        loop {
            match self.events.recv().await {
                Ok(event) => {
                    batch.extend(Some(event).filter(|e| self.wants(e)));
                    break;
                }
                Err(RecvError::Lagged(n)) => self.lost = self.lost.saturating_add(n),
                Err(RecvError::Closed) => return None,
            }
        }
        while batch.len() < BATCH {
            match self.events.try_recv() {
                Ok(event) => batch.extend(Some(event).filter(|e| self.wants(e))),
                // Told with the next batch: what came before it stands in this one.
                Err(TryRecvError::Lagged(n)) => {
                    self.lost_behind = n;
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        Some(batch)
    }

    fn wants(&self, event: &Event) -> bool {
        (self.kinds == 0 || self.kinds & kind(&event.what).bit() != 0)
            && self.stack.as_ref().is_none_or(|s| s.eq_ignore_ascii_case(&event.stack))
    }

    /// An EVENT message with these events; `None`: there is none.
    pub(super) fn message(&mut self, now: Time, events: &[Arc<Event>]) -> Option<Vec<u8>> {
        let mut records = Vec::new();
        for event in events {
            let lost = std::mem::take(&mut self.lost);
            records.push(record(event, lost).build(self.page));
        }
        let number = u32::try_from(records.len()).ok().filter(|n| *n > 0)?;
        let mut asked = MessageHeader::new(self.page, MessageType::EVENT);
        asked.correlator = self.correlator;
        let head = asked.answer(now, ReturnCode::OK, ReasonCode::NONE);
        let length = records.iter().map(|r| r.len() as u64).sum();
        let head = with_records(head, length, number, number)?;
        Some([head.to_bytes().as_slice(), &records.concat()].concat())
    }
}

/// The kind of an event on the wire.
const fn kind(what: &What) -> EventKind {
    match what {
        What::IkeUp { generation: 0 | 1, .. } => EventKind::IKE_UP,
        What::IkeUp { .. } => EventKind::IKE_REKEYED,
        What::IkeDown { .. } => EventKind::IKE_DOWN,
        What::ChildUp { generation: 0 | 1, .. } => EventKind::CHILD_UP,
        What::ChildUp { .. } => EventKind::CHILD_REKEYED,
        What::ChildDown { .. } => EventKind::CHILD_DOWN,
        What::Failed { .. } => EventKind::NEGOTIATION_FAILED,
        What::OwnerChanged { .. } => EventKind::OWNER_CHANGED,
        What::Protection { missing: Some(_), .. } => EventKind::PROTECTION_LOST,
        What::Protection { missing: None, .. } => EventKind::PROTECTION_REGAINED,
        What::PolicyLoaded { .. } => EventKind::POLICY_LOADED,
        What::PolicyFailed { .. } => EventKind::POLICY_FAILED,
        What::StackUp => EventKind::STACK_UP,
        What::StackDown { .. } => EventKind::STACK_DOWN,
    }
}

fn record(event: &Event, lost: u64) -> WireEvent {
    let mut out = WireEvent {
        sequence: event.number,
        lost,
        time: Time::from_unix(event.unix),
        kind: kind(&event.what),
        stack: event.stack.as_str().into(),
        ..WireEvent::default()
    };
    let local = |out: &mut WireEvent, address: IpAddr| {
        (out.ipv6, out.local) = (address.is_ipv6(), address.into());
    };
    match &event.what {
        What::IkeUp { tunnel, generation, rule, local: own, remote } => {
            local(&mut out, *own);
            out.remote = (*remote).into();
            (out.tunnel_id, out.generation) = (format!("K{tunnel}").as_str().into(), *generation);
            out.rule = rule.as_str().into();
        }
        What::ChildUp { tunnel, ike, generation, rule, local: own, remote, spi_in, spi_out } => {
            local(&mut out, *own);
            out.remote = (*remote).into();
            (out.tunnel_id, out.generation) = (format!("Y{tunnel}").as_str().into(), *generation);
            out.parent_id = format!("K{ike}").as_str().into();
            out.rule = rule.as_str().into();
            (out.in_spi, out.out_spi) = (*spi_in, *spi_out);
        }
        What::IkeDown { tunnel, reason } => {
            out.tunnel_id = format!("K{tunnel}").as_str().into();
            out.reason = reason.as_str().into();
        }
        What::ChildDown { tunnel, reason } => {
            out.tunnel_id = format!("Y{tunnel}").as_str().into();
            out.reason = reason.as_str().into();
        }
        What::Failed { peer, rule, reason } => {
            (out.ipv6, out.remote) = (peer.is_ipv6(), (*peer).into());
            out.rule = rule.as_deref().unwrap_or_default().into();
            out.reason = reason.text.as_str().into();
        }
        What::OwnerChanged { dvipa, owner, from, epoch } => {
            local(&mut out, *dvipa);
            out.owner = owner.as_deref().unwrap_or_default().into();
            out.from = from.as_deref().unwrap_or_default().into();
            out.epoch = *epoch;
        }
        What::Protection { dvipa, missing } => {
            local(&mut out, *dvipa);
            out.reason = missing.as_deref().unwrap_or_default().into();
        }
        What::PolicyLoaded { policy } => out.reason = if *policy { "policy" } else { "defaults" }.into(),
        What::PolicyFailed { reason } | What::StackDown { reason } => out.reason = reason.as_str().into(),
        What::StackUp => {}
    }
    out
}
