//! What the stacks of a sysplex say to each other over the XCF link: heartbeats with capacity and owned DVIPAs, the ports
//! on which servers listen, owners, connections, and what their `iked`s have to say to each other.
//!
//! Pure, like the packet engine: bytes, reports and the time in; bytes, events and the next deadline out. The shell that
//! has the socket is `group_link`.
//!
//! ```text
//!  datagram ─► datagram.rs (envelope) ─► seal.rs ─► datagram.rs (content) ─┬─ heartbeat ─► liveness.rs, owners.rs
//!                                                                         └─ record ─► stream.rs ─► message.rs
//!  group.rs holds one member.rs for each stack, and gives orders to the engine (order.rs) and news to iked
//! ```
//!
//! Whose word counts: datagrams are sealed under a key of the sender's name and start, tied to their receiver, counted
//! once, and taken from the sender's XCF address alone. A member counts as heard only while it names the start of *this*
//! stack: an old datagram of a dead member, repeated to a stack that has just started, makes nobody live.

mod codec;
pub mod datagram;
pub mod group;
pub mod liveness;
mod member;
pub mod message;
pub mod order;
mod owners;
pub mod refusal;
pub mod seal;
pub mod stream;
#[cfg(test)]
mod tests;

pub use codec::MessageError;

/// UDP port of the messages between stacks, on their XCF addresses.
pub const PORT: u16 = 4740;
