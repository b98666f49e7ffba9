//! What the stacks of a sysplex say to each other over the XCF link: heartbeats with capacity and owned DVIPAs, the ports
//! on which servers listen, owners, connections, and what their `iked`s have to say to each other.
//!
//! Pure, like the packet engine: bytes, orders and the time in; bytes, events and the next deadline out. The shell that
//! has the socket is `group_link`.

pub mod order;
