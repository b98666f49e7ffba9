//! The way out: what the engine wants is done before the next batch is read.

use super::{Raw, Told, Worker};
use crate::control::{FromStack, IkeDatagram};
use crate::driver::raw::{Family, RawHow};
use crate::driver::udp::{self, UdpHow};
use crate::driver::{IKE_PORT, Sent};
use crate::engine::io::Output;
use crate::xcf::order::EngineReport;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long a path MTU that the kernel told is not asked for again.
const MTU_QUESTION_INTERVAL: Duration = Duration::from_secs(1);
/// Four zero octets before an IKE message on port 4500 (RFC 3948 section 2.2).
const NON_ESP_MARKER: [u8; 4] = [0; 4];

impl Worker {
    /// Ends a batch: does what the engine wants, and makes its output empty.
    pub(super) fn carry_out(&mut self, now: Instant) {
        // What is still open for coalescing lies in the output, too.
        self.engine.flush(now, &mut self.out);
        let mut out = std::mem::take(&mut self.out);
        self.send_host(&out);
        self.send_udp(now, &out);
        self.send_raw(now, &out);
        self.send_xcf(&out);
        self.tell_all(&mut out);
        out.clear();
        self.out = out;
    }

    fn send_host(&mut self, out: &Output) {
        for packet in &out.host {
            let sent = self.tun.as_ref().map(|tun| tun.send(&out.bytes[packet.clone()]));
            if sent != Some(Sent::Done) {
                self.drops.host_refused += 1;
            }
        }
    }

    fn send_udp(&mut self, now: Instant, out: &Output) {
        for send in &out.udp {
            let Some(socket) = self.udp.get_mut(&send.local) else {
                self.drops.send_no_socket += 1;
                continue;
            };
            let how = UdpHow { segment: send.segment, tos: send.tos, df: send.df };
            let mut too_long = false;
            let bytes = &out.bytes[send.range.clone()];
            socket.send(&mut self.sender, send.remote, bytes, how, |sent, packets| {
                too_long |= sent == Sent::TooLong;
                self.drops.count_send(sent, packets);
            });
            if too_long {
                self.learn_mtu(now, send.remote.ip());
            }
        }
    }

    fn send_raw(&mut self, now: Instant, out: &Output) {
        for send in &out.raw {
            let family = Family::of(send.remote);
            let socket =
                self.raw.iter_mut().find(|r| r.family == family && r.protocol.number() == send.protocol);
            let Some(Raw { socket, .. }) = socket else {
                self.drops.send_no_socket += 1;
                continue;
            };
            let how = RawHow { source: Some(send.local), remote: send.remote, tos: send.tos, df: send.df };
            let sent = socket.send(&mut self.sender, how, &out.bytes[send.range.clone()]);
            self.drops.count_send(sent, 1);
            if sent == Sent::TooLong {
                self.learn_mtu(now, send.remote);
            }
        }
    }

    /// To other stacks, as GRE or as GRE in UDP (RFC 8086).
    fn send_xcf(&mut self, out: &Output) {
        if let Some(socket) = &mut self.gre_udp {
            let drops = &mut self.drops;
            socket.send(&mut self.sender, &out.xcf, &out.bytes, |sent, n| drops.count_send(sent, n));
            return;
        }
        for send in &out.xcf {
            let Some((xcf, socket)) = &mut self.xcf else {
                self.drops.send_no_socket += 1;
                continue;
            };
            let how = RawHow { source: Some(xcf.address), remote: send.remote, tos: send.tos, df: false };
            let sent = socket.send(&mut self.sender, how, &out.bytes[send.range.clone()]);
            self.drops.count_send(sent, 1);
        }
    }

    fn tell_all(&mut self, out: &mut Output) {
        for datagram in out.ike.drain(..) {
            self.tell(FromStack::Ike(datagram));
        }
        for acquire in out.acquires.drain(..) {
            self.tell(FromStack::Acquire(acquire));
        }
        for (spi_in, notice) in out.sa_notices.drain(..) {
            self.tell(FromStack::Sa { spi_in, notice });
        }
        for event in out.events.drain(..) {
            self.tell(event);
        }
        for report in out.group.drain(..) {
            self.report(EngineReport::Said(report));
        }
        for (warning, text) in out.logs.drain(..) {
            if warning {
                tracing::warn!("{text}");
            } else {
                tracing::info!("{text}");
            }
            self.tell(FromStack::Log { warning, text });
        }
    }

    /// The interface takes less than the engine believes: ask the kernel how much, and tell the engine.
    fn learn_mtu(&mut self, now: Instant, remote: IpAddr) {
        self.asked_mtu.retain(|_, asked| now.saturating_duration_since(*asked) < MTU_QUESTION_INTERVAL);
        if self.asked_mtu.try_insert(remote, now).is_err() {
            return;
        }
        if let Some(mtu) = udp::route_mtu(remote, self.mark) {
            self.engine.path_mtu(now, remote, mtu);
        }
    }

    pub(super) fn tell(&mut self, message: FromStack) {
        self.say(Told::Message(message));
    }

    pub(super) fn say(&mut self, told: Told) {
        if self.events.try_send(told).is_err() {
            self.drops.control_queue_full += 1;
        }
    }

    /// What does not find room is not repeated: the group has its owner ask for all connections anew.
    pub(super) fn report(&mut self, report: EngineReport) {
        if self.reports_lost && self.reports.try_send(EngineReport::Lost).is_ok() {
            self.reports_lost = false;
        }
        if self.reports_lost || self.reports.try_send(report).is_err() {
            self.drops.group_queue_full += 1;
            self.reports_lost = true;
        }
    }

    pub(super) fn send_ike(&mut self, message: &IkeDatagram) {
        let mut datagram = std::mem::take(&mut self.datagram);
        datagram.clear();
        if message.local.port() != IKE_PORT {
            datagram.extend_from_slice(&NON_ESP_MARKER);
        }
        datagram.extend_from_slice(&message.bytes);
        self.send_datagram(message.local, message.remote, &datagram);
        self.datagram = datagram;
    }

    pub(super) fn send_datagram(&mut self, local: SocketAddr, remote: SocketAddr, bytes: &[u8]) {
        let Some(socket) = self.udp.get_mut(&local) else {
            self.drops.send_no_socket += 1;
            return;
        };
        // Without DF: an IKE message with certificates may need fragments (RFC 7296 section 2).
        let how = UdpHow { segment: bytes.len(), tos: 0, df: false };
        let drops = &mut self.drops;
        socket.send(&mut self.sender, remote, bytes, how, |sent, n| drops.count_send(sent, n));
    }
}
