//! What got lost between engine and kernel.

use crate::control::DropView;
use crate::driver::Sent;

/// Packets that got lost between engine and kernel, by reason; the names stand beside the engine's in
/// [`Answer::Drops`].
#[derive(Debug, Default)]
pub(super) struct DriverDrops {
    /// A datagram that did not fit into its buffer, or had no usable sender.
    pub(super) receive_unusable: u64,
    /// The send buffer stayed full.
    pub(super) send_buffer_full: u64,
    /// The kernel refused to send (no route, no such address, a firewall).
    pub(super) send_refused: u64,
    /// Larger than the interface takes, with DF.
    pub(super) send_too_long: u64,
    /// No socket for the own address (any more).
    pub(super) send_no_socket: u64,
    /// The kernel did not take what the stack gave back.
    pub(super) host_refused: u64,
    /// Membership reports that the kernel sends on the TUN itself.
    pub(super) host_chatter: u64,
    /// The control thread did not keep up.
    pub(super) control_queue_full: u64,
    /// The group did not keep up with connections that came and went.
    pub(super) group_queue_full: u64,
}

impl DriverDrops {
    pub(super) fn view(&self) -> impl Iterator<Item = DropView> {
        [
            ("receive_unusable", self.receive_unusable),
            ("send_buffer_full", self.send_buffer_full),
            ("send_refused", self.send_refused),
            ("send_too_long", self.send_too_long),
            ("send_no_socket", self.send_no_socket),
            ("host_refused", self.host_refused),
            ("host_chatter", self.host_chatter),
            ("control_queue_full", self.control_queue_full),
            ("group_queue_full", self.group_queue_full),
        ]
        .into_iter()
        .filter(|(_, packets)| *packets > 0)
        .map(|(reason, packets)| DropView { reason: reason.to_owned(), packets })
    }

    pub(super) fn count_send(&mut self, sent: Sent, packets: u64) {
        let slot = match sent {
            Sent::Done => return,
            Sent::TooLong => &mut self.send_too_long,
            Sent::Full => &mut self.send_buffer_full,
            Sent::Failed(_) => &mut self.send_refused,
        };
        *slot = slot.saturating_add(packets);
    }
}
