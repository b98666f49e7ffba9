//! An engine as responder, with a hostile peer that has the secret: whatever it sends, in clear, forged or sealed, the
//! engine goes on serving the others and keeps its limits.

#[path = "../../iked/tests/peer/mod.rs"]
mod peer;

use iked::ike::rules::Settings;
use iked::ike::wire::{ExchangeType, Flags, Header, Message, Parsed, Payload};
use peer::{Host, PEER, Peer};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Time that a run may take on the engine's clock: below all lifetimes.
const LONGEST: Duration = Duration::from_secs(600);

fn settings() -> Settings {
    Settings {
        liveness: Duration::ZERO,
        nat_keepalive: Duration::ZERO,
        children_per_peer: 4,
        half_open_limit: 8,
        cookie_threshold: 4,
        ..Settings::default()
    }
}

fn at(last: u8) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(203, 0, 113, last).into(), 500)
}

/// The octets as a chain of payloads, the first octet the type of the first.
fn payloads(octets: &[u8]) -> Option<Vec<Payload>> {
    let (first, chain) = octets.split_first()?;
    let mut datagram =
        Message::new(Header::new(1, 0, ExchangeType::INFORMATIONAL, Flags::default(), 0), vec![])
            .encode()
            .ok()?;
    datagram[16] = *first;
    datagram.extend_from_slice(chain);
    let length = u32::try_from(datagram.len()).ok()?;
    datagram[24..28].copy_from_slice(&length.to_be_bytes());
    match Message::parse(&datagram) {
        Ok(Parsed::Clear(message)) => Some(message.payloads),
        _ => None,
    }
}

pub(crate) fn check(data: &[u8]) {
    let mut host = Host::new(settings());
    let end = host.now + LONGEST;
    let mut honest = Peer::at(1, at(1));
    honest.connect(&mut host);
    let mut bad = Peer::new(2);
    bad.half_open(&mut host);
    let mut last = bad.init(None);
    let mut rest = data;
    while let [kind, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (octets, tail) = tail.split_at(length);
        rest = tail;
        let exchange = ExchangeType(34 + (kind >> 4) % 4);
        match kind % 8 {
            0 => last = octets.to_vec(),
            1 => match payloads(octets) {
                Some(payloads) => last = bad.ask(exchange, payloads),
                None => continue,
            },
            2 => {
                // The true authentication, with more behind it.
                let mut all = bad.auth_payloads();
                all.extend(payloads(octets).unwrap_or_default());
                let header = bad.header(ExchangeType::IKE_AUTH, 1);
                bad.next = bad.next.max(2);
                last = bad.seal(header, all);
            }
            3 => {
                let mut all = bad.create_child_payloads(0x0c00_0000 + u32::from(*high));
                all.extend(payloads(octets).unwrap_or_default());
                last = bad.ask(ExchangeType::CREATE_CHILD_SA, all);
            }
            4 => {
                let Some(payloads) = payloads(octets) else { continue };
                let flags = Flags { initiator: high & 1 != 0, response: high & 2 != 0, version: false };
                let header = Header { flags, ..bad.header(exchange, u32::from(*low)) };
                last = bad.seal(header, payloads);
            }
            5 => {
                for (to, from) in last.iter_mut().zip(octets) {
                    *to ^= from;
                }
            }
            6 => {
                let step = Duration::from_millis(u64::from(*high) * 50);
                if host.now + step < end {
                    host.pass(step);
                }
                continue;
            }
            _ => {
                // IKE_SA_INIT with anything in it.
                let Some(payloads) = payloads(octets) else { continue };
                let header = Header {
                    spi_i: u64::from(*low) + 1,
                    spi_r: 0,
                    ..bad.header(ExchangeType::IKE_SA_INIT, 0)
                };
                let Ok(octets) = Message::new(header, payloads).encode() else { continue };
                last = octets;
            }
        }
        let from = if kind & 8 == 0 { PEER } else { at(9) };
        let _ = host.hear(from, &last);
    }
    let children = host.engine.children();
    assert!(children.len() <= 2 * settings().children_per_peer, "{} children", children.len());
    assert!(honest.is_alive(&mut host), "an honest peer lost its SA");
    Peer::at(3, at(3)).connect(&mut host);
}
