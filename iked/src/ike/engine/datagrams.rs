//! Datagrams that are not yet told to belong to an IKE SA: first requests, unprotected messages, broken ones.

use super::Engine;
use crate::ike::context::Context;
use crate::ike::error::Mistake;
use crate::ike::table::SaKey;
use crate::ike::v2::init;
use crate::ike::v2::window::Arrival;
use crate::ike::view::Role;
use crate::ike::wire::payload::Notify;
use crate::ike::wire::{ExchangeType, Fault, Header, Message, Payload, WireError};
use std::net::SocketAddr;

impl Engine {
    pub(super) fn clear(&mut self, local: SocketAddr, remote: SocketAddr, message: &Message, octets: &[u8]) {
        let header = message.header;
        if header.exchange != ExchangeType::IKE_SA_INIT {
            // An unprotected notification about an SA changes nothing (T16).
            let text = match message.payloads.first() {
                Some(Payload::Notify(notify)) => format!("unprotected {}", notify.kind),
                _ => format!("unprotected {}", header.exchange),
            };
            self.out.counters.dropped += 1;
            self.out.notice(self.now, remote, Mistake::Unprotected, &text);
            return;
        }
        match (header.flags.initiator, header.flags.response) {
            (true, false) if header.message_id == 0 && header.spi_r == 0 => {
                self.init_request(local, remote, message, octets);
            }
            (false, true) => {
                let key = self.book.ike_spis.get(&header.spi_i).copied();
                let taken = key.and_then(|key| {
                    self.with(key, |sa, ctx| {
                        if sa.role == Role::Initiator {
                            init::on_response(sa, ctx, message, octets, remote);
                        } else {
                            ctx.out.counters.dropped += 1;
                        }
                    })
                });
                if taken.is_none() {
                    self.unknown(remote);
                }
            }
            // Our own packet back, or flags that contradict each other (T15).
            (true, _) | (false, false) => {
                self.out.counters.dropped += 1;
                self.out.notice(
                    self.now,
                    remote,
                    Mistake::Order,
                    "IKE_SA_INIT with wrong flags or message id",
                );
            }
        }
    }

    fn init_request(&mut self, local: SocketAddr, remote: SocketAddr, message: &Message, octets: &[u8]) {
        if let Some(key) = self.book.half_open.find(remote, message.header.spi_i) {
            self.with(key, |sa, ctx| {
                sa.counters.replays += 1;
                ctx.out.counters.ike.replays += 1;
                if let Arrival::Repeat(response) = sa.inbound.arrival(0, octets) {
                    let response = response.to_vec();
                    sa.send(ctx, response);
                }
            });
            return;
        }
        let mut ctx = context!(self);
        let made = init::respond(&mut ctx, &mut self.cookies, message, octets, local, remote);
        let after = ctx.after;
        if let Some(sa) = made {
            self.store(sa);
        }
        self.carry_out(after);
    }

    pub(super) fn malformed(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        octets: &[u8],
        error: &WireError,
    ) {
        self.out.counters.dropped += 1;
        let version = matches!(error.fault, Fault::MajorVersion(_));
        let mistake = if version { Mistake::Version } else { Mistake::Malformed };
        let said = self.out.notice(self.now, remote, mistake, &error.to_string());
        // One small answer, and only to what could have been a first request (T02, T05).
        let Ok(header) = Header::parse(octets) else { return };
        let first = header.exchange == ExchangeType::IKE_SA_INIT && header.spi_r == 0;
        if said && !header.flags.response && (version || first) {
            let (kind, data) = error.notify();
            let payloads = vec![Payload::Notify(Notify::new(kind, data))];
            let mut ctx = context!(self);
            init::send_unprotected(&mut ctx, header, local, remote, payloads);
        }
    }

    pub(super) fn unknown(&mut self, remote: SocketAddr) {
        self.out.counters.dropped += 1;
        self.out.notice(self.now, remote, Mistake::UnknownSa, "a message for no IKE SA of ours");
    }

    /// The SA that a protected message names: by our own SPI, which the flag tells (RFC 7296 section 2.6).
    pub(super) fn by_spi(&self, header: &Header) -> Option<SaKey> {
        let own = if header.flags.initiator { header.spi_r } else { header.spi_i };
        self.book.ike_spis.get(&own).copied()
    }
}
