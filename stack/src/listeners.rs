//! On which ports of a DVIPA servers listen in this namespace, asked of the kernel by `sock_diag`.
//!
//! A server counts if it is bound to the DVIPA or to any address: TCP and SCTP sockets that listen, UDP sockets that are not
//! connected. An IPv6 socket on any address counts for IPv4, too, unless it says otherwise (`IPV6_V6ONLY`).

use crate::control::ReadyPort;
use crate::driver::{IKE_PORT, NAT_T_PORT};
use crate::engine::connection::ConnectionKey;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, Nla as _,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use thiserror::Error;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// `INET_DIAG_SKV6ONLY`: an IPv6 socket says whether it takes IPv4.
const V6_ONLY: u16 = 11;
/// The kernel's number of the state LISTEN.
const LISTEN: u8 = 10;
/// There while the kernel knows SCTP; to ask it otherwise would load modules.
const SCTP_LOADED: &str = "/proc/net/sctp";

/// The kernel does not tell.
#[derive(Debug, Error)]
pub enum ListenersError {
    /// No socket, or no answer.
    #[error("the kernel does not tell which ports have servers: {0}")]
    Socket(#[from] io::Error),
    /// An answer that this version does not understand.
    #[error("the kernel's answer about servers is not understood: {0}")]
    Answer(String),
}

/// One server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listener {
    protocol: u8,
    /// Unspecified: any address of its family.
    address: IpAddr,
    port: u16,
    /// On any IPv6 address, and on IPv4 as well.
    both: bool,
}

impl Listener {
    fn serves(&self, dvipa: IpAddr) -> bool {
        self.address == dvipa
            || self.address.is_unspecified() && (self.address.is_ipv4() == dvipa.is_ipv4() || self.both)
    }
}

/// The question that is asked again and again.
#[derive(Debug, Default)]
pub struct Listeners {
    socket: Option<Socket>,
    /// Protocols of which this kernel tells nothing.
    silent: Vec<u8>,
}

impl Listeners {
    /// Servers by port of these DVIPAs, in order.
    ///
    /// # Errors
    /// When the kernel does not tell; the next call begins anew.
    pub fn look(&mut self, dvipas: &[IpAddr]) -> Result<Vec<ReadyPort>, ListenersError> {
        if dvipas.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.dump();
        if found.is_err() {
            self.socket = None;
        }
        Ok(count(&found?, dvipas))
    }

    fn dump(&mut self) -> Result<Vec<Listener>, ListenersError> {
        if self.socket.is_none() {
            self.socket = Some(open()?);
        }
        let Some(socket) = &self.socket else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for protocol in [TCP, UDP, SCTP] {
            if self.silent.contains(&protocol) || protocol == SCTP && !Path::new(SCTP_LOADED).exists() {
                continue;
            }
            for family in [AF_INET, AF_INET6] {
                let states = if protocol == UDP { StateFlags::CLOSE } else { StateFlags::LISTEN };
                match ask(socket, family, protocol, states, |r| found.extend(listener(protocol, r))) {
                    Err(ListenersError::Socket(e)) if e.kind() == io::ErrorKind::NotFound => {
                        tracing::warn!(
                            protocol,
                            "this kernel has no sock_diag for it: its servers are not seen"
                        );
                        self.silent.push(protocol);
                        break;
                    }
                    other => other?,
                }
            }
        }
        Ok(found)
    }
}

/// The TCP connections of this namespace that have one of these addresses as their own: what a stack finds that starts
/// while applications run.
///
/// # Errors
/// When the kernel does not tell.
pub fn open_connections(homes: &[IpAddr]) -> Result<Vec<ConnectionKey>, ListenersError> {
    let mut found = Vec::new();
    let states = StateFlags::ESTABLISHED
        | StateFlags::FIN_WAIT1
        | StateFlags::FIN_WAIT2
        | StateFlags::CLOSE_WAIT
        | StateFlags::LAST_ACK
        | StateFlags::CLOSING;
    let socket = open()?;
    for family in [AF_INET, AF_INET6] {
        ask(&socket, family, TCP, states.clone(), |r| {
            let id = &r.header.socket_id;
            let key = ConnectionKey {
                protocol: TCP,
                local: id.source_address.to_canonical(),
                local_port: id.source_port,
                remote: id.destination_address.to_canonical(),
                remote_port: id.destination_port,
            };
            if homes.contains(&key.local) {
                found.push(key);
            }
        })?;
    }
    Ok(found)
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

fn ask(
    socket: &Socket,
    family: u8,
    protocol: u8,
    states: StateFlags,
    mut each: impl FnMut(&InetResponse),
) -> Result<(), ListenersError> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = InetRequest {
        family,
        protocol,
        extensions: ExtensionFlags::empty(),
        states,
        socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
                .map_err(|e| ListenersError::Answer(e.to_string()))?;
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).max(1);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(r)) => {
                    each(&r);
                }
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(e) => return Err(e.to_io().into()),
                _ => {}
            }
        }
    }
}

fn listener(protocol: u8, r: &InetResponse) -> Option<Listener> {
    let id = &r.header.socket_id;
    // The stack's own sockets for IKE are bound to its home addresses, too.
    let own = protocol == UDP && [IKE_PORT, NAT_T_PORT].contains(&id.source_port);
    let serves = if protocol == UDP { id.destination_port == 0 } else { r.header.state == LISTEN };
    if own || !serves || id.source_port == 0 {
        return None;
    }
    let v6_only = r.nlas.iter().any(|nla| match nla {
        Nla::Other(other) if other.kind() == V6_ONLY => {
            let mut value = vec![0; other.value_len()];
            other.emit_value(&mut value);
            value.first().is_some_and(|v| *v != 0)
        }
        _ => false,
    });
    let mapped = match id.source_address {
        IpAddr::V6(a) => a.to_ipv4_mapped().map(IpAddr::V4),
        IpAddr::V4(_) => None,
    };
    Some(Listener {
        protocol,
        address: mapped.unwrap_or(id.source_address),
        port: id.source_port,
        both: id.source_address.is_ipv6() && mapped.is_none() && !v6_only,
    })
}

fn count(found: &[Listener], dvipas: &[IpAddr]) -> Vec<ReadyPort> {
    let mut ports: BTreeMap<(IpAddr, u8, u16), u32> = BTreeMap::new();
    for l in found {
        for dvipa in dvipas.iter().filter(|d| l.serves(**d)) {
            let count = ports.entry((*dvipa, l.protocol, l.port)).or_default();
            *count = count.saturating_add(1);
        }
    }
    ports
        .into_iter()
        .map(|((dvipa, protocol, port), count)| ReadyPort { dvipa, protocol, port, count })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv6Addr, TcpListener, UdpSocket};

    fn at(ready: &[ReadyPort], dvipa: IpAddr, protocol: u8, port: u16) -> u32 {
        ready
            .iter()
            .filter(|r| r.dvipa == dvipa && r.protocol == protocol && r.port == port)
            .map(|r| r.count)
            .sum()
    }

    #[test]
    fn servers_on_the_address_and_on_any_are_counted_and_go() {
        let v4 = IpAddr::from([127, 0, 0, 77]);
        let other = IpAddr::from([127, 0, 0, 78]);
        let mut listeners = Listeners::default();
        let exact = TcpListener::bind((v4, 0)).unwrap();
        let port = exact.local_addr().unwrap().port();
        let ready = listeners.look(&[v4, other]).unwrap();
        assert_eq!((at(&ready, v4, TCP, port), at(&ready, other, TCP, port)), (1, 0));
        let any = TcpListener::bind("0.0.0.0:0").unwrap();
        let any_port = any.local_addr().unwrap().port();
        let ready = listeners.look(&[v4, other]).unwrap();
        assert_eq!((at(&ready, v4, TCP, any_port), at(&ready, other, TCP, any_port)), (1, 1));
        drop(exact);
        assert_eq!(at(&listeners.look(&[v4]).unwrap(), v4, TCP, port), 0);
        assert_eq!(listeners.look(&[]).unwrap(), []);
    }

    #[test]
    fn connections_that_are_open_are_found_from_both_ends() {
        let home = IpAddr::from([127, 0, 0, 79]);
        let server = TcpListener::bind((home, 0)).unwrap();
        let to = server.local_addr().unwrap();
        let client = std::net::TcpStream::connect(to).unwrap();
        let (_accepted, from) = server.accept().unwrap();
        let key = ConnectionKey {
            protocol: TCP,
            local: home,
            local_port: to.port(),
            remote: from.ip(),
            remote_port: from.port(),
        };
        assert_eq!(open_connections(&[home]).unwrap(), [key]);
        let own = open_connections(&[from.ip()]).unwrap();
        assert!(own.iter().any(|k| (k.local_port, k.remote_port) == (from.port(), to.port())));
        drop(client);
        assert_eq!(open_connections(&[IpAddr::from([127, 0, 0, 80])]).unwrap(), []);
    }

    #[test]
    fn a_v6_server_on_any_serves_v4_and_a_connected_udp_socket_serves_nobody() {
        let (v4, v6) = (IpAddr::from([127, 0, 0, 77]), IpAddr::from(Ipv6Addr::LOCALHOST));
        let mut listeners = Listeners::default();
        // Rust's standard library leaves IPV6_V6ONLY as the system has it: off.
        if let Ok(any) = TcpListener::bind("[::]:0") {
            let port = any.local_addr().unwrap().port();
            let ready = listeners.look(&[v4, v6]).unwrap();
            assert_eq!((at(&ready, v4, TCP, port), at(&ready, v6, TCP, port)), (1, 1));
        } else {
            eprintln!("SKIPPED: no IPv6 here");
        }
        let server = UdpSocket::bind((v4, 0)).unwrap();
        let client = UdpSocket::bind((v4, 0)).unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let ready = listeners.look(&[v4]).unwrap();
        assert_eq!(at(&ready, v4, UDP, server.local_addr().unwrap().port()), 1);
        assert_eq!(at(&ready, v4, UDP, client.local_addr().unwrap().port()), 0);
    }

    #[test]
    fn what_v6_only_says_counts() {
        let listener =
            |both| Listener { protocol: TCP, address: Ipv6Addr::UNSPECIFIED.into(), port: 80, both };
        let (v4, v6) = (IpAddr::from([192, 0, 2, 80]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 80]));
        assert_eq!(
            count(&[listener(false)], &[v4, v6]),
            [ReadyPort { dvipa: v6, protocol: TCP, port: 80, count: 1 }]
        );
        assert_eq!(
            count(&[listener(true), listener(false)], &[v4, v6]).iter().map(|r| r.count).sum::<u32>(),
            3
        );
    }
}
