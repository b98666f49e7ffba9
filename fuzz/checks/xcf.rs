//! What arrives from the XCF link: as a datagram, as what a member sealed, and as a stream of messages. Nothing panics, and
//! what parses writes back to the same octets.

use stack::control::{Home, KeyBytes, Member, Role, StackConfig, SysplexLink, Xcf};
use stack::xcf::PORT;
use stack::xcf::datagram::{Content, Envelope, Name, Record};
use stack::xcf::group::Group;
use stack::xcf::message::Message;
use stack::xcf::seal::LinkKey;
use stack::xcf::stream::Incoming;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

const OWN_START: u64 = 1;
const START: u64 = 2;
const KEY: [u8; 32] = [7; 32];

pub(crate) fn check(data: &[u8]) {
    let _ = Envelope::parse(data);
    if let Ok(content) = Content::parse(data) {
        let mut again = Vec::new();
        content.write(&mut again);
        assert_eq!(again, data);
    }
    if let Ok(message) = Message::parse(data) {
        assert_eq!(message.octets(), data);
    }
    let mut incoming = Incoming::default();
    for (bytes, number) in data.chunks(100).zip(1..) {
        incoming.take(Record { generation: 1, number, bytes: bytes.to_vec() });
        while let Ok(Some(message)) = incoming.next_message() {
            let _ = Message::parse(&message);
        }
    }
    group(data);
}

/// The octets after a length each are a datagram: those of odd length as they are, the others as the content of a good
/// seal that is meant for this start.
#[allow(clippy::disallowed_methods, reason = "a start for virtual time")]
fn group(data: &[u8]) {
    let now = Instant::now();
    let (own, sender) = (Name::new("ONE").expect("a name"), Name::new("TWO").expect("a name"));
    let address = IpAddr::from([10, 99, 0, 2]);
    let mut group = Group::new(OWN_START);
    group.configure(now, &config(address));
    let key = LinkKey::new(&KeyBytes(KEY.to_vec())).expect("32 octets").of(sender, START);
    let mut rest = data;
    for counter in 1.. {
        let Some((length, after)) = rest.split_first() else { break };
        let (bytes, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let mut datagram = bytes.to_vec();
        if length % 2 == 0 {
            let envelope = Envelope { start: START, counter, sender };
            let write = |o: &mut Vec<u8>| {
                o.extend_from_slice(&OWN_START.to_be_bytes());
                o.extend_from_slice(bytes);
            };
            key.seal(&envelope, own, write, &mut datagram);
        }
        group.handle_datagram(now, SocketAddr::new(address, PORT), &mut datagram);
        group.handle_timeout(now);
        while group.poll_transmit(now, &mut datagram).is_some() {}
        while group.poll_event().is_some() {}
    }
}

fn config(member: IpAddr) -> StackConfig {
    StackConfig {
        name: "ONE".into(),
        network: vec![],
        xcf: Some(Xcf { interface: "xcf".into(), address: IpAddr::from([10, 99, 0, 1]) }),
        mark: 1,
        mark_mask: 1,
        home: vec![Home {
            address: IpAddr::from([192, 0, 2, 80]),
            role: Role::Owner { distribution: vec![] },
            epoch: 1,
        }],
        members: vec![Member { name: "TWO".into(), xcf: member, start: Some(START) }],
        sysplex: Some(SysplexLink {
            name: "PLEX".into(),
            key: KeyBytes(KEY.to_vec()),
            other_keys: vec![],
            heartbeat_ms: 100,
            missed_heartbeats: 3,
            gre_in_udp: false,
            leased: false,
        }),
        max_connections: 10,
    }
}
