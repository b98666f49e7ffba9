//! Hosts in network namespaces, and what runs on them: the harness of the end-to-end tests, of the demo and of
//! the comparison.
//!
//! A [`lab::Lab`] is a set of namespaces joined by two segments, `ext` (the network) and `xcf` (the trusted
//! link); [`node::Daemon`] is an `iked` with its stacks, [`swan::Swan`] a strongSwan peer, [`http`] the servers
//! and clients that make real connections, [`capture::Capture`] the evidence. Everything is removed when it is
//! dropped. Nothing here waits for a fixed time: [`wait::until`] awaits a condition.

pub mod capture;
pub mod chaos;
pub mod etcd;
pub mod evidence;
pub mod forge;
pub mod http;
pub mod lab;
pub mod load;
pub mod meter;
pub mod nmi_load;
pub mod node;
pub mod packet;
pub mod peers;
pub mod plex;
pub mod policy;
pub mod process;
pub mod random;
pub mod scenario;
pub mod schema;
pub mod shared;
pub mod swan;
pub mod takeover;
pub mod wait;

/// Prints a line for people; a closed pipe is no error.
pub fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}
