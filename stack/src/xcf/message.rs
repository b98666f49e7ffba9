//! Messages that two stacks send each other by a stream: in order, and once (spec 6.3).
//!
//! ```text
//! kind (1) · body
//!   1 OWNER      DVIPA · epoch (8) · ceiling (1, or 1+8) · list wanted (1)
//!   2 NEWCONN    epoch (8) · DVIPA · flow
//!   3 CONN_END   epoch (8) · DVIPA · protocol (1) · port (2) · peer (4 or 16) · peer's port (2)
//!   4 CONN_LIST  DVIPA · epoch (8) · last page (1) · count (2) · count × flow
//!   5 READY      count (2) · count × { DVIPA · protocol (1) · port (2) · listeners (4) }
//!   6 RELAY      octets
//! flow: protocol (1) · port (2) · peer (of the DVIPA's family) · peer's port (2) · flags (1: routed, stage << 1)
//! ```

use super::codec::{MessageError, Reader, put_address, put_octets};
use super::datagram::Owned;
use crate::control::{MAX_RELAY_BYTES, ReadyPort};
use crate::engine::connection::ConnectionKey;
use crate::engine::io::{FlowRecord, FlowStage};
use std::net::IpAddr;

/// Most octets of one message.
pub const MAX_MESSAGE: usize = MAX_RELAY_BYTES + 1;
/// Most connections in one page of a CONN_LIST.
pub const MAX_PAGE: usize = 1024;
/// Most ports in one READY.
pub const MAX_READY: usize = 8192;

const OWNER: u8 = 1;
const NEWCONN: u8 = 2;
const CONN_END: u8 = 3;
const CONN_LIST: u8 = 4;
const READY: u8 = 5;
const RELAY: u8 = 6;

const ROUTED: u8 = 1;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The sender owns a DVIPA.
    Owner {
        /// Which, since when.
        owned: Owned,
        /// The receiver is to send its [`Message::ConnectionList`].
        list_wanted: bool,
    },
    /// A connection now ends at the sender; for the owner.
    NewConnection {
        /// Epoch of the owner it is meant for.
        epoch: u64,
        /// The connection.
        flow: FlowRecord,
    },
    /// A connection that ended at the sender is over; for the owner.
    ConnectionEnded {
        /// Epoch of the owner it is meant for.
        epoch: u64,
        /// The connection.
        key: ConnectionKey,
    },
    /// A page of the connections that end at the sender; for the owner that asked.
    ConnectionList(Page),
    /// Where servers listen at the sender; replaces what was said before.
    Ready(Vec<ReadyPort>),
    /// For the receiver's `iked`.
    Relay(Vec<u8>),
}

/// A page of a CONN_LIST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The DVIPA.
    pub dvipa: IpAddr,
    /// Epoch of the owner that asked.
    pub epoch: u64,
    /// The last page.
    pub last: bool,
    /// At most [`MAX_PAGE`] connections, all of the DVIPA.
    pub flows: Vec<FlowRecord>,
}

impl Message {
    /// Reads a whole message.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut r = Reader::new(bytes);
        let message = match r.u8("the kind")? {
            OWNER => Self::Owner { owned: Owned::parse(&mut r)?, list_wanted: r.flag("OWNER")? },
            NEWCONN => {
                let (epoch, dvipa) = (r.u64("NEWCONN")?, r.address("NEWCONN")?);
                Self::NewConnection { epoch, flow: parse_flow(&mut r, dvipa)? }
            }
            CONN_END => {
                let (epoch, dvipa) = (r.u64("CONN_END")?, r.address("CONN_END")?);
                Self::ConnectionEnded { epoch, key: parse_key(&mut r, dvipa)? }
            }
            CONN_LIST => Self::ConnectionList(Page::parse(&mut r)?),
            READY => {
                let count = bounded(r.u16("READY")?, "ports", MAX_READY)?;
                Self::Ready((0..count).map(|_| parse_ready(&mut r)).collect::<Result<_, _>>()?)
            }
            RELAY => {
                if r.left() > MAX_RELAY_BYTES {
                    return Err(MessageError::TooMany {
                        what: "octets for iked",
                        count: r.left(),
                        limit: MAX_RELAY_BYTES,
                    });
                }
                Self::Relay(r.rest().to_vec())
            }
            other => return Err(MessageError::Value { what: "the kind of a message", value: other.into() }),
        };
        r.end()?;
        Ok(message)
    }

    /// Its octets.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let mut to = Vec::new();
        match self {
            Self::Owner { owned, list_wanted } => {
                to.push(OWNER);
                owned.write(&mut to);
                to.push(u8::from(*list_wanted));
            }
            Self::NewConnection { epoch, flow } => {
                to.push(NEWCONN);
                to.extend_from_slice(&epoch.to_be_bytes());
                put_address(&mut to, flow.key.local);
                put_flow(&mut to, flow);
            }
            Self::ConnectionEnded { epoch, key } => {
                to.push(CONN_END);
                to.extend_from_slice(&epoch.to_be_bytes());
                put_address(&mut to, key.local);
                put_key(&mut to, key);
            }
            Self::ConnectionList(page) => {
                to.push(CONN_LIST);
                page.write(&mut to);
            }
            Self::Ready(ports) => {
                to.push(READY);
                debug_assert!(ports.len() <= MAX_READY, "the group cuts it");
                put_count(&mut to, ports.len().min(MAX_READY));
                for p in ports.iter().take(MAX_READY) {
                    put_address(&mut to, p.dvipa);
                    to.push(p.protocol);
                    to.extend_from_slice(&p.port.to_be_bytes());
                    to.extend_from_slice(&p.count.to_be_bytes());
                }
            }
            Self::Relay(bytes) => {
                to.push(RELAY);
                to.extend_from_slice(bytes);
            }
        }
        to
    }
}

impl Page {
    fn parse(r: &mut Reader<'_>) -> Result<Self, MessageError> {
        let what = "CONN_LIST";
        let (dvipa, epoch, last) = (r.address(what)?, r.u64(what)?, r.flag(what)?);
        let count = bounded(r.u16(what)?, "connections in a page", MAX_PAGE)?;
        let flows = (0..count).map(|_| parse_flow(r, dvipa)).collect::<Result<_, _>>()?;
        Ok(Self { dvipa, epoch, last, flows })
    }

    fn write(&self, to: &mut Vec<u8>) {
        debug_assert!(self.flows.len() <= MAX_PAGE, "the group cuts it");
        put_address(to, self.dvipa);
        to.extend_from_slice(&self.epoch.to_be_bytes());
        to.push(u8::from(self.last));
        put_count(to, self.flows.len().min(MAX_PAGE));
        for flow in self.flows.iter().take(MAX_PAGE) {
            put_flow(to, flow);
        }
    }
}

fn bounded(count: u16, what: &'static str, limit: usize) -> Result<usize, MessageError> {
    let count = usize::from(count);
    if count > limit { Err(MessageError::TooMany { what, count, limit }) } else { Ok(count) }
}

fn put_count(to: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).expect("every bound is below 65,536");
    to.extend_from_slice(&count.to_be_bytes());
}

fn parse_key(r: &mut Reader<'_>, local: IpAddr) -> Result<ConnectionKey, MessageError> {
    let what = "a connection";
    Ok(ConnectionKey {
        protocol: r.u8(what)?,
        local,
        local_port: r.u16(what)?,
        remote: r.address_of(local.is_ipv6(), what)?,
        remote_port: r.u16(what)?,
    })
}

/// A connection lies within one family: `key.remote` is of that of `key.local`.
fn put_key(to: &mut Vec<u8>, key: &ConnectionKey) {
    debug_assert_eq!(key.local.is_ipv4(), key.remote.is_ipv4(), "packets have one family");
    to.push(key.protocol);
    to.extend_from_slice(&key.local_port.to_be_bytes());
    put_octets(to, key.remote);
    to.extend_from_slice(&key.remote_port.to_be_bytes());
}

fn parse_flow(r: &mut Reader<'_>, local: IpAddr) -> Result<FlowRecord, MessageError> {
    let key = parse_key(r, local)?;
    let flags = r.u8("a connection")?;
    let stage = match flags >> 1 {
        0 => FlowStage::Opening,
        1 => FlowStage::Open,
        2 => FlowStage::Closing,
        _ => return Err(MessageError::Value { what: "a connection's flags", value: flags.into() }),
    };
    Ok(FlowRecord { key, ipsec_routed: flags & ROUTED != 0, stage })
}

fn put_flow(to: &mut Vec<u8>, flow: &FlowRecord) {
    put_key(to, &flow.key);
    let stage = match flow.stage {
        FlowStage::Opening => 0u8,
        FlowStage::Open => 1,
        FlowStage::Closing => 2,
    };
    to.push(stage << 1 | if flow.ipsec_routed { ROUTED } else { 0 });
}

fn parse_ready(r: &mut Reader<'_>) -> Result<ReadyPort, MessageError> {
    let what = "a port";
    Ok(ReadyPort { dvipa: r.address(what)?, protocol: r.u8(what)?, port: r.u16(what)?, count: r.u32(what)? })
}

#[cfg(test)]
mod tests {
    use super::super::datagram::tests::address;
    use super::*;
    use proptest::prelude::*;

    fn key(local: IpAddr) -> impl Strategy<Value = ConnectionKey> {
        (any::<u8>(), any::<u16>(), any::<[u8; 16]>(), any::<u16>()).prop_map(
            move |(protocol, local_port, octets, remote_port)| {
                let remote = if local.is_ipv4() {
                    IpAddr::from([octets[0], octets[1], octets[2], octets[3]])
                } else {
                    IpAddr::from(octets)
                };
                ConnectionKey { protocol, local, local_port, remote, remote_port }
            },
        )
    }

    fn flow(local: IpAddr) -> impl Strategy<Value = FlowRecord> {
        let stage = prop_oneof![Just(FlowStage::Opening), Just(FlowStage::Open), Just(FlowStage::Closing)];
        (key(local), any::<bool>(), stage).prop_map(|(key, ipsec_routed, stage)| FlowRecord {
            key,
            ipsec_routed,
            stage,
        })
    }

    pub(crate) fn message() -> impl Strategy<Value = Message> {
        let owned = (address(), any::<u64>(), any::<Option<u64>>())
            .prop_map(|(dvipa, epoch, ceiling)| Owned { dvipa, epoch, ceiling });
        let ready = (address(), any::<u8>(), any::<u16>(), any::<u32>())
            .prop_map(|(dvipa, protocol, port, count)| ReadyPort { dvipa, protocol, port, count });
        let page = (address(), any::<u64>(), any::<bool>()).prop_flat_map(|(dvipa, epoch, last)| {
            prop::collection::vec(flow(dvipa), 0..20)
                .prop_map(move |flows| Message::ConnectionList(Page { dvipa, epoch, last, flows }))
        });
        prop_oneof![
            (owned, any::<bool>()).prop_map(|(owned, list_wanted)| Message::Owner { owned, list_wanted }),
            (any::<u64>(), address().prop_flat_map(flow))
                .prop_map(|(epoch, flow)| Message::NewConnection { epoch, flow }),
            (any::<u64>(), address().prop_flat_map(key))
                .prop_map(|(epoch, key)| Message::ConnectionEnded { epoch, key }),
            page,
            prop::collection::vec(ready, 0..20).prop_map(Message::Ready),
            prop::collection::vec(any::<u8>(), 0..200).prop_map(Message::Relay),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(message in message()) {
            let octets = message.octets();
            prop_assert!(octets.len() <= MAX_MESSAGE);
            for cut in 1..octets.len() {
                let cut = Message::parse(&octets[..cut]);
                prop_assert!(cut.is_err() || matches!(message, Message::Relay(_)));
            }
            prop_assert_eq!(Message::parse(&octets), Ok(message));
        }

        #[test]
        fn t45_hostile_octets_are_an_error_or_a_message(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(message) = Message::parse(&bytes) {
                prop_assert_eq!(&message.octets(), &bytes);
            }
        }
    }

    #[test]
    fn each_message_octet_by_octet() {
        let v4 = IpAddr::from([192, 0, 2, 80]);
        let key = ConnectionKey {
            protocol: 6,
            local: v4,
            local_port: 443,
            remote: IpAddr::from([203, 0, 113, 7]),
            remote_port: 40001,
        };
        let flow = FlowRecord { key, ipsec_routed: true, stage: FlowStage::Open };
        let cases = [
            (
                Message::Owner { owned: Owned { dvipa: v4, epoch: 3, ceiling: None }, list_wanted: true },
                "0104c0000250000000000000000300 01",
            ),
            (
                Message::NewConnection { epoch: 3, flow },
                "02 0000000000000003 04c0000250 06 01bb cb007107 9c41 03",
            ),
            (
                Message::ConnectionEnded { epoch: 3, key },
                "03 0000000000000003 04c0000250 06 01bb cb007107 9c41",
            ),
            (
                Message::ConnectionList(Page { dvipa: v4, epoch: 3, last: true, flows: vec![flow] }),
                "04 04c0000250 0000000000000003 01 0001 06 01bb cb007107 9c41 03",
            ),
            (
                Message::Ready(vec![ReadyPort { dvipa: v4, protocol: 6, port: 443, count: 2 }]),
                "05 0001 04c0000250 06 01bb 00000002",
            ),
            (Message::Relay(b"hi".to_vec()), "06 6869"),
        ];
        for (message, golden) in cases {
            assert_eq!(hex::encode(message.octets()), golden.replace(' ', ""), "{message:?}");
        }
    }

    #[test]
    fn t45_counts_that_lie_take_no_memory() {
        let lie = hex::decode("04 04c0000250 0000000000000003 01 ffff".replace(' ', "")).unwrap();
        assert_eq!(
            Message::parse(&lie),
            Err(MessageError::TooMany { what: "connections in a page", count: 65_535, limit: MAX_PAGE })
        );
        assert_eq!(Message::parse(&[5, 0x10, 0]), Err(MessageError::Truncated("a port")));
    }
}
