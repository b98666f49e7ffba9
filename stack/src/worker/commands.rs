//! What the control thread and the group want of the engine.

use super::{Command, Ended, Greeting, Worker, unix_seconds};
use crate::control::{Answer, FromStack, ToStack};
use crate::driver::poll::Poller;
use crate::engine::survey::Reply;
use crate::filter_compiler::Exchanged;
use crate::xcf::message::MAX_PAGE;
use crate::xcf::order::{EngineOrder, EngineReport};
use std::sync::mpsc;
use std::time::Instant;

/// A NAT keepalive (RFC 3948 section 2.3).
const KEEPALIVE: [u8; 1] = [0xff];

impl Worker {
    pub(super) fn obey(
        &mut self,
        now: Instant,
        poller: &Poller,
        commands: &mpsc::Receiver<Command>,
    ) -> Result<(), Ended> {
        loop {
            match commands.try_recv() {
                Ok(Command::Configure { config, links, tun, rebind_xcf, done }) => {
                    let result = self.configure(now, poller, &config, links, tun, rebind_xcf);
                    // The control thread waits for it, unless it is ending.
                    let _ = done.send(result);
                }
                Ok(Command::Judge { id, candidates }) => {
                    let answer = Answer::Test(Box::new(self.engine.judge(candidates)));
                    self.tell(FromStack::Answer { id, answer });
                }
                Ok(Command::Greeting(reply)) => {
                    // The connection that asked is over.
                    self.surveys.clear();
                    let _ = reply.send(Greeting {
                        configured: self.engine.configured(),
                        filter_epoch: self.engine.filter_epoch(),
                        sas: self.engine.installed_spis(),
                    });
                }
                Ok(Command::Group(orders)) => {
                    for order in orders {
                        self.handle_order(now, order);
                    }
                    self.carry_out(now);
                }
                Ok(Command::Filters { table, done }) => {
                    let before = self.engine.exchange_filters(unix_seconds(), table);
                    // The compiler waits for it, unless the process is ending.
                    let _ = done.send(Exchanged { before, took: now.elapsed() });
                }
                Ok(Command::Message(message)) => {
                    self.handle_message(now, message);
                    self.carry_out(now);
                }
                Err(mpsc::TryRecvError::Empty) => return Ok(()),
                Err(mpsc::TryRecvError::Disconnected) => return Err(Ended),
            }
        }
    }

    fn handle_message(&mut self, now: Instant, message: ToStack) {
        match message {
            ToStack::SetFilters(set) => self.engine.set_filters(now, unix_seconds(), *set),
            ToStack::InstallSa(pair) => {
                let spi_in = pair.spi_in;
                if let Err(e) = self.engine.install_sa(now, unix_seconds(), *pair) {
                    self.tell(FromStack::SaRefused { spi_in, reason: e.to_string() });
                }
            }
            ToStack::ActivateOutbound { spi_in } => self.engine.activate_outbound(spi_in),
            ToStack::RemoveSa { spi_in } => self.engine.remove_sa(spi_in),
            ToStack::RemoveAllSas => self.engine.remove_all_sas(),
            ToStack::AcquireFailed { id } => self.engine.acquire_failed(id, &mut self.out),
            ToStack::Ike(datagram) => {
                if self.engine.may_send_ike(datagram.local.ip()) {
                    self.send_ike(&datagram);
                }
            }
            ToStack::NatKeepalive { local, remote } => {
                if self.engine.may_send_ike(local.ip()) {
                    self.send_datagram(local, remote, &KEEPALIVE);
                }
            }
            ToStack::Ask { id, question } => match self.engine.ask(question) {
                Some(Reply::Answer(mut answer)) => {
                    if let Answer::Drops(drops) = &mut answer {
                        drops.extend(self.drops.view());
                    }
                    self.tell(FromStack::Answer { id, answer });
                }
                Some(Reply::Survey(survey)) => self.surveys.push_back((id, survey)),
                None => self.tell(FromStack::Refused {
                    reason: format!("question {id}: the engine has no answer to {question:?}"),
                }),
            },
            // The control thread's business; it does not pass them on.
            ToStack::Configure(_) | ToStack::Shutdown | ToStack::Relay { .. } => {}
            ToStack::Defend(set) => self.engine.defend_with(now, *set),
            ToStack::Lease { until_boot_ns } => self.engine.lease(until_boot_ns),
            ToStack::Ceiling { dvipa, epoch, highest } => self.engine.ceiling(dvipa, epoch, highest),
            ToStack::Translations { flows } => self.engine.expect_translations(now, &flows),
        }
    }

    fn handle_order(&mut self, now: Instant, order: EngineOrder) {
        match order {
            EngineOrder::ListConnections { to, dvipa, epoch, from } => {
                let (entries, next) = self.engine.connections_of(dvipa, from, MAX_PAGE);
                self.report(EngineReport::Connections { to, dvipa, epoch, from, entries, next });
            }
            other => self.engine.handle_group(now, &other),
        }
    }
}
