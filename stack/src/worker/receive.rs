//! The way in: each ready descriptor gives one batch to the engine.

use super::{HOST_BATCH, OUTPUT_BYTES, TOKEN_RAW, Worker};
use crate::driver::batch::RecvBatch;
use crate::driver::raw::RawSocket;
use crate::engine::io::{RawArrival, UdpArrival};
use std::time::Instant;

impl Worker {
    /// A failure here is the end: without its TUN the stack protects nothing, and routing then discards all.
    pub(super) fn read_host(&mut self, now: Instant) -> nix::Result<()> {
        for _ in 0..HOST_BATCH {
            let Some(tun) = &self.tun else { return Ok(()) };
            let Some((header, packet)) = tun.receive(&mut self.host_buffer)? else { break };
            if is_chatter(packet) {
                self.drops.host_chatter += 1;
                continue;
            }
            self.engine.handle_host(now, header, packet, &mut self.out);
            if self.out.bytes.len() >= OUTPUT_BYTES {
                self.engine.flush(now, &mut self.out);
                self.carry_out(now);
            }
        }
        self.carry_out(now);
        Ok(())
    }

    pub(super) fn read_udp(&mut self, now: Instant, token: u64) {
        let Some(local) = self.udp_tokens.get(&token).copied() else { return };
        let Some(socket) = self.udp.get(&local) else { return };
        // An error here is one that an earlier send left at the socket; what arrives comes with the next turn.
        let count = socket.receive(&mut self.udp_batch).unwrap_or(0);
        for i in 0..count {
            let Some(datagram) = self.udp_batch.get(i) else {
                self.drops.receive_unusable += 1;
                continue;
            };
            let segment = datagram.segment.unwrap_or(datagram.bytes.len());
            let arrival = UdpArrival { local, remote: datagram.source, segment, tos: datagram.tos };
            self.engine.handle_udp(now, arrival, datagram.bytes, &mut self.out);
            if self.out.bytes.len() >= OUTPUT_BYTES {
                self.engine.flush(now, &mut self.out);
                self.carry_out(now);
            }
        }
        self.carry_out(now);
    }

    pub(super) fn read_raw(&mut self, now: Instant, token: u64) {
        let index = usize::try_from(token - TOKEN_RAW).unwrap_or(usize::MAX);
        let Some(raw) = self.raw.get(index) else { return };
        let count = raw.socket.receive(&mut self.raw_batch).unwrap_or(0);
        for i in 0..count {
            let Some((arrival, packet)) = raw_arrival(&raw.socket, &mut self.raw_batch, i) else {
                self.drops.receive_unusable += 1;
                continue;
            };
            self.engine.handle_esp(now, arrival, packet, &mut self.out);
        }
        self.carry_out(now);
    }

    pub(super) fn read_xcf(&mut self, now: Instant) {
        let Some((_, socket)) = &self.xcf else { return };
        let count = socket.receive(&mut self.raw_batch).unwrap_or(0);
        for i in 0..count {
            let Some((arrival, packet)) = raw_arrival(socket, &mut self.raw_batch, i) else {
                self.drops.receive_unusable += 1;
                continue;
            };
            self.engine.handle_xcf(now, arrival, packet, &mut self.out);
        }
        self.carry_out(now);
    }

    pub(super) fn read_gre_udp(&mut self, now: Instant) {
        let (Some(socket), Some((xcf, _))) = (&self.gre_udp, &self.xcf) else { return };
        let destination = xcf.address;
        let count = socket.receive(&mut self.udp_batch).unwrap_or(0);
        for i in 0..count {
            let Some(received) = self.udp_batch.get(i) else {
                self.drops.receive_unusable += 1;
                continue;
            };
            let segment = received.segment.unwrap_or(received.bytes.len()).max(1);
            let arrival = RawArrival { source: received.source.ip(), destination, tos: received.tos };
            for packet in received.bytes.chunks_mut(segment) {
                self.engine.handle_xcf(now, arrival, packet, &mut self.out);
            }
            if self.out.bytes.len() >= OUTPUT_BYTES {
                self.carry_out(now);
            }
        }
        self.carry_out(now);
    }
}

/// Multicast that never leaves its link (RFC 5771 section 4, RFC 4291 section 2.7): on the TUN it is the kernel's own
/// IGMP and MLD, since routers do not forward it.
fn is_chatter(packet: &[u8]) -> bool {
    match packet.first().map(|b| b >> 4) {
        Some(4) => packet.get(16..19) == Some(&[224, 0, 0]),
        Some(6) => packet.get(24) == Some(&0xff) && packet.get(25).is_some_and(|scope| scope & 0x0f <= 2),
        _ => false,
    }
}

fn raw_arrival<'b>(
    socket: &RawSocket,
    batch: &'b mut RecvBatch,
    index: usize,
) -> Option<(RawArrival, &'b mut [u8])> {
    let received = batch.get(index)?;
    let source = received.source.ip();
    // An IPv4 raw socket gives the IP header, an IPv6 one a control message.
    let tos = if source.is_ipv4() { *received.bytes.get(1)? } else { received.tos };
    let (destination, payload) = socket.strip(received.bytes, received.destination)?;
    Some((RawArrival { source, destination, tos }, payload))
}
