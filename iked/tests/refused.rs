//! A peer that takes no further child SAs at an IKE SA (NO_ADDITIONAL_SAS, RFC 7296 sections 1.3 and 4).

mod peer;

use iked::ike::command::{ActivationMethod, Command, Initiate};
use iked::ike::event::Event;
use iked::ike::rules::Settings;
use iked::ike::types::{AddressRange, TrafficSelector};
use iked::ike::wire::payload::Notify;
use iked::ike::wire::{ExchangeType, Flags, Header, NotifyType, Payload};
use peer::{Host, OWN, PEER, Peer, clear, only, rules, selector};
use std::net::SocketAddr;
use std::time::Duration;

type Sent = Vec<(SocketAddr, Vec<u8>)>;

/// The peer takes the request that was sent for what it is, and refuses it.
fn refuse(peer: &mut Peer, host: &mut Host, sent: Sent) -> Sent {
    let request = peer.open(&only(sent));
    assert_eq!(request.header.exchange, ExchangeType::CREATE_CHILD_SA);
    let flags = Flags { initiator: true, version: false, response: true };
    let (spi_i, spi_r) = (request.header.spi_i, request.header.spi_r);
    let header = Header::new(spi_i, spi_r, ExchangeType::CREATE_CHILD_SA, flags, request.header.message_id);
    let notify = Payload::Notify(Notify::new(NotifyType::NO_ADDITIONAL_SAS, Vec::new()));
    let octets = peer.seal(header, vec![notify]);
    host.hear(PEER, &octets)
}

fn host_of(port: u16) -> TrafficSelector {
    let mut one = selector(AddressRange { low: PEER.ip(), high: PEER.ip() });
    (one.protocol, one.port_low, one.port_high) = (6, port, port);
    one
}

fn initiate(port: u16) -> Command {
    Command::Initiate(Box::new(Initiate {
        rule: "hostToHost".to_owned(),
        local_endpoint: OWN,
        remote_endpoint: PEER.ip(),
        remote_id: None,
        nat_port: None,
        local: vec![selector(AddressRange { low: OWN, high: OWN })],
        remote: vec![host_of(port)],
        local_dyn_vpn_rule: None,
        method: ActivationMethod::Command,
        acquire: Some(7),
        initial_contact: true,
    }))
}

fn connected() -> (Peer, Host) {
    let mut host = Host::new(Settings { liveness: Duration::ZERO, ..Settings::default() });
    let mut rules = rules();
    rules.exchange[0].offers[0].lifetime = Duration::from_secs(100);
    host.engine.set_rules(host.now, rules);
    let mut peer = Peer::new(1);
    peer.connect(&mut host);
    (peer, host)
}

#[test]
fn a_child_that_an_ike_sa_does_not_take_gets_an_ike_sa_of_its_own() {
    let (mut peer, mut host) = connected();
    let sent = host.tell(initiate(80));
    let sent = refuse(&mut peer, &mut host, sent);
    let first = clear(&only(sent));
    assert_eq!(first.header.exchange, ExchangeType::IKE_SA_INIT);
    assert!(peer.is_alive(&mut host), "the first one stays");
    assert!(!host.events.iter().any(|event| matches!(event, Event::Failed { .. })), "nothing has failed yet");
    // Nobody answers at the other one: that is told to whoever asked.
    host.pass(Duration::from_secs(600));
    let failed = |event: &Event| matches!(event, Event::Failed { acquire: Some(7), .. });
    assert_eq!(host.events.iter().filter(|event| failed(event)).count(), 1);
}

#[test]
fn a_rekey_that_an_ike_sa_does_not_take_makes_it_anew() {
    for of_ike in [false, true] {
        let (mut peer, mut host) = connected();
        let sent = if of_ike {
            host.now = host.engine.ike_tunnels()[0].rekey_at.expect("it is to be rekeyed");
            host.pass(Duration::ZERO)
        } else {
            let id = host.engine.children()[0].id;
            host.tell(Command::RekeyChild(id))
        };
        let sent = refuse(&mut peer, &mut host, sent);
        let first = clear(&only(sent));
        assert_eq!(first.header.exchange, ExchangeType::IKE_SA_INIT, "rekey of the IKE SA: {of_ike}");
        assert_eq!(
            host.engine.children().iter().filter(|child| child.spi_in != 0).count(),
            1,
            "it serves on"
        );
    }
}
