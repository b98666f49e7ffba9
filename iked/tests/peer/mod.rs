//! A peer made of messages and keys alone, without an engine: it says exactly what a test wants it to say.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]
#![allow(dead_code, reason = "each test uses a part of it")]

use iked::ike::Engine;
use iked::ike::command::Command;
use iked::ike::crypto::{AuthInput, IkeKeys, IvCounter, Opener, PrivateKey, Role, Sealer, psk_auth};
use iked::ike::event::{Event, Payload as Sent};
use iked::ike::rules::{
    Authentication, ChildOffer, ChildRule, ExchangeRule, IkeOffer, Initiation, Rules, Settings,
};
use iked::ike::types::{
    AddressRange, Encryption, Group, Identity, IdentityPattern, Mode, Prf, Secret, TrafficSelector,
};
use iked::ike::wire::payload::{Auth, Delete, Id, Ke, Nonce, Notify, Proposal, Sa, Ts};
use iked::ike::wire::{
    AuthMethod, ChildSuite, ExchangeType, Flags, Header, IkeSuite, Message, NotifyType, Parsed, Payload,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// The engine's address.
pub(crate) const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
/// The peer's usual endpoint.
pub(crate) const PEER: SocketAddr =
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7)), 500);
/// The pre-shared key.
const SECRET: &[u8] = b"a secret of the two";

/// Algorithms of the IKE SA.
pub(crate) const SUITE: IkeSuite = IkeSuite {
    encryption: Encryption::AesGcm16(128),
    integrity: None,
    prf: Prf::HmacSha256,
    group: Group::Curve25519,
};

/// Algorithms of child SAs.
pub(crate) const CHILD: ChildSuite =
    ChildSuite { encryption: Encryption::AesGcm16(128), integrity: None, group: None, esn: false };

fn range(low: [u8; 4], high: [u8; 4]) -> AddressRange {
    AddressRange { low: low.into(), high: high.into() }
}

/// A selector of all traffic of these addresses.
pub(crate) fn selector(addresses: AddressRange) -> TrafficSelector {
    TrafficSelector { addresses, protocol: 0, port_low: 0, port_high: u16::MAX }
}

/// Takes any peer of any address that is named by its FQDN under `peer.example` and knows the secret.
pub(crate) fn rules() -> Rules {
    let hour = Duration::from_secs(3600);
    let any = range([0; 4], [255; 4]);
    let IkeSuite { encryption, integrity, prf, group } = SUITE;
    Rules {
        exchange: vec![ExchangeRule {
            name: "kxPeer".to_owned(),
            action: "kxAction".to_owned(),
            local_id: Identity::Fqdn("own.example".to_owned()),
            local_location: vec![any],
            remote_id: IdentityPattern::FqdnSuffix(".peer.example".to_owned()),
            remote_location: vec![any],
            initiate: true,
            respond: true,
            authentication: Authentication::SharedKey(Secret(SECRET.to_vec())),
            offers: vec![IkeOffer { encryption, integrity, prf, group, lifetime: hour * 8 }],
            allow_nat: true,
            filter_by_identity: false,
            reauth_interval: None,
        }],
        child: vec![ChildRule {
            rule: "hostToHost".to_owned(),
            vpn_action: "vpnAction".to_owned(),
            local: vec![selector(AddressRange { low: OWN, high: OWN })],
            remote: vec![selector(any)],
            remote_identity: None,
            initiation: Initiation::Either,
            modes: vec![Mode::Tunnel],
            pfs_initiate: None,
            pfs_accept: vec![Some(Group::Curve25519), None],
            offers: vec![ChildOffer {
                encryption,
                integrity,
                esn: false,
                lifetime: hour,
                lifesize_bytes: None,
            }],
            vpn_life: None,
            local_endpoint: None,
            remote_endpoint: None,
        }],
    }
}

/// An engine with a clock, and what it said.
pub(crate) struct Host {
    /// The engine.
    pub(crate) engine: Engine,
    /// The clock.
    pub(crate) now: Instant,
    /// Events so far.
    pub(crate) events: Vec<Event>,
}

impl Host {
    /// With [`rules`].
    pub(crate) fn new(settings: Settings) -> Self {
        #[allow(clippy::disallowed_methods, reason = "an instant to start from; only differences matter")]
        let now = Instant::now();
        let mut engine = Engine::new(settings, StdRng::seed_from_u64(1), now);
        engine.set_rules(now, rules());
        Self { engine, now, events: Vec::new() }
    }

    /// Hands it a datagram; returns what it sends because of it: to whom, and the octets.
    pub(crate) fn hear(&mut self, from: SocketAddr, octets: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
        self.engine.handle_datagram(self.now, SocketAddr::new(OWN, 500), from, octets);
        self.drain()
    }

    /// Gives it a command; returns what it sends because of it.
    pub(crate) fn tell(&mut self, command: Command) -> Vec<(SocketAddr, Vec<u8>)> {
        self.engine.handle_command(self.now, command);
        self.drain()
    }

    /// Lets time pass, doing what is due on the way; returns what it sends meanwhile.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<(SocketAddr, Vec<u8>)> {
        let end = self.now + time;
        let mut sent = Vec::new();
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now);
            sent.extend(self.drain());
        }
        self.now = end;
        sent
    }

    fn drain(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.events.extend(std::iter::from_fn(|| self.engine.poll_event()));
        std::iter::from_fn(|| self.engine.poll_transmit())
            .filter_map(|transmit| match transmit.payload {
                Sent::Message(octets) => Some((transmit.remote, octets)),
                Sent::NatKeepalive => None,
            })
            .collect()
    }

    /// Datagrams and messages that it counted as bad in one way or another.
    pub(crate) fn refused(&self) -> u64 {
        let all = self.engine.counters();
        all.dropped + all.ike.invalid + all.ike.child_invalid + all.ike.replays + all.ike.child_replays
    }
}

/// The only answer, as octets.
pub(crate) fn only(sent: Vec<(SocketAddr, Vec<u8>)>) -> Vec<u8> {
    let [(_, octets)] = <[_; 1]>::try_from(sent).unwrap_or_else(|sent| panic!("{} answers", sent.len()));
    octets
}

/// A message in clear.
pub(crate) fn clear(octets: &[u8]) -> Message {
    match Message::parse(octets).unwrap() {
        Parsed::Clear(message) => message,
        Parsed::Protected(protected) => panic!("{protected:?}"),
    }
}

/// The notifications of a message.
pub(crate) fn notifies(message: &Message) -> Vec<NotifyType> {
    let kind = |payload: &Payload| match payload {
        Payload::Notify(notify) => Some(notify.kind),
        _ => None,
    };
    message.payloads.iter().filter_map(kind).collect()
}

/// The scripted peer, initiator of its IKE SA.
pub(crate) struct Peer {
    /// Where it is.
    pub(crate) at: SocketAddr,
    /// Its SPI.
    pub(crate) spi_i: u64,
    /// The engine's SPI, 0 before it is known.
    pub(crate) spi_r: u64,
    /// Message id of its next request.
    pub(crate) next: u32,
    name: String,
    rng: StdRng,
    private: PrivateKey,
    nonce: Nonce,
    nonce_r: Vec<u8>,
    request: Vec<u8>,
    keys: Option<(IkeKeys, Sealer, Opener)>,
}

impl Peer {
    /// At [`PEER`].
    pub(crate) fn new(seed: u64) -> Self {
        Self::at(seed, PEER)
    }

    /// Somewhere else.
    pub(crate) fn at(seed: u64, at: SocketAddr) -> Self {
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(1000));
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        Self {
            at,
            spi_i: rng.next_u64() | 1,
            spi_r: 0,
            next: 0,
            name: format!("p{seed}.peer.example"),
            private: PrivateKey::generate(SUITE.group, &mut rng),
            nonce: Nonce::new(nonce),
            nonce_r: Vec::new(),
            request: Vec::new(),
            keys: None,
            rng,
        }
    }

    /// A header of this SA, of a request.
    pub(crate) fn header(&self, exchange: ExchangeType, id: u32) -> Header {
        let flags = Flags { initiator: true, ..Flags::default() };
        Header::new(self.spi_i, self.spi_r, exchange, flags, id)
    }

    /// What IKE_SA_INIT carries.
    pub(crate) fn init_payloads(&self) -> Vec<Payload> {
        let value = self.private.public().to_vec();
        vec![
            Payload::Sa(Sa { proposals: vec![Proposal::ike(1, None, &SUITE)] }),
            Payload::Ke(Ke { group: SUITE.group.number(), value }),
            Payload::Nonce(self.nonce.clone()),
        ]
    }

    /// IKE_SA_INIT, with a cookie if it was asked for one.
    pub(crate) fn init(&mut self, cookie: Option<&[u8]>) -> Vec<u8> {
        let mut payloads = self.init_payloads();
        if let Some(cookie) = cookie {
            payloads.insert(0, Payload::Notify(Notify::new(NotifyType::COOKIE, cookie.to_vec())));
        }
        let message = Message::new(self.header(ExchangeType::IKE_SA_INIT, 0), payloads);
        self.request = message.encode().unwrap();
        self.request.clone()
    }

    /// Takes the answer to IKE_SA_INIT; the cookie instead, if it asks for one.
    pub(crate) fn take_init(&mut self, octets: &[u8]) -> Result<(), Vec<u8>> {
        let message = clear(octets);
        let (mut shared, mut nonce) = (None, None);
        for payload in &message.payloads {
            match payload {
                Payload::Notify(notify) if notify.kind == NotifyType::COOKIE => {
                    return Err(notify.data.clone());
                }
                Payload::Ke(ke) => shared = Some(self.private.agree(&ke.value).unwrap()),
                Payload::Nonce(theirs) => nonce = Some(theirs.as_slice().to_vec()),
                _ => (),
            }
        }
        self.spi_r = message.header.spi_r;
        self.nonce_r = nonce.expect("a nonce");
        let (ni, nr) = (self.nonce.as_slice(), self.nonce_r.as_slice());
        let keys = IkeKeys::initial(&SUITE, ni, nr, &shared.expect("a KE payload"), self.spi_i, self.spi_r);
        let sealer = keys.sealer(&SUITE, Role::Initiator, IvCounter::of_epoch(0));
        let opener = keys.opener(&SUITE, Role::Initiator);
        self.keys = Some((keys, sealer, opener));
        self.next = 1;
        Ok(())
    }

    /// What IKE_AUTH carries.
    pub(crate) fn auth_payloads(&self) -> Vec<Payload> {
        self.auth_payloads_as(Id::new(&Identity::Fqdn(self.name.clone())))
    }

    /// The same in another name.
    pub(crate) fn auth_payloads_as(&self, id: Id) -> Vec<Payload> {
        let (keys, _, _) = self.keys.as_ref().unwrap();
        let input = AuthInput {
            prf: SUITE.prf,
            message: &self.request,
            nonce: &self.nonce_r,
            sk_p: &keys.pi,
            id: &id.body(),
        };
        let data = psk_auth(&Secret(SECRET.to_vec()), &input);
        let mut payloads =
            vec![Payload::IdInitiator(id), Payload::Auth(Auth { method: AuthMethod::SHARED_KEY, data })];
        payloads.extend(self.child_payloads(0x0a00_0001));
        payloads
    }

    /// SA, TSi and TSr of a child on which it receives with this SPI.
    pub(crate) fn child_payloads(&self, spi: u32) -> Vec<Payload> {
        let own = self.at.ip();
        vec![
            Payload::Sa(Sa { proposals: vec![Proposal::child(1, spi, &CHILD, &[false])] }),
            Payload::TsInitiator(Ts::new(vec![selector(AddressRange { low: own, high: own })])),
            Payload::TsResponder(Ts::new(vec![selector(AddressRange { low: OWN, high: OWN })])),
        ]
    }

    /// The payloads of CREATE_CHILD_SA for one more child without a fresh key exchange.
    pub(crate) fn create_child_payloads(&self, spi: u32) -> Vec<Payload> {
        let mut payloads = self.child_payloads(spi);
        payloads.insert(1, Payload::Nonce(Nonce::new([9; 32])));
        payloads
    }

    /// A protected message with this header.
    pub(crate) fn seal(&mut self, header: Header, payloads: Vec<Payload>) -> Vec<u8> {
        let (_, sealer, _) = self.keys.as_mut().unwrap();
        sealer.seal(&Message::new(header, payloads), &mut self.rng).unwrap()
    }

    /// The next request.
    pub(crate) fn ask(&mut self, exchange: ExchangeType, payloads: Vec<Payload>) -> Vec<u8> {
        let header = self.header(exchange, self.next);
        self.next += 1;
        self.seal(header, payloads)
    }

    /// A protected message of the engine.
    pub(crate) fn open(&self, octets: &[u8]) -> Message {
        let Parsed::Protected(protected) = Message::parse(octets).unwrap() else { panic!("in clear") };
        let (_, _, opener) = self.keys.as_ref().unwrap();
        opener.open(octets, &protected).unwrap()
    }

    /// IKE_SA_INIT with the engine, with a cookie if it wants one.
    pub(crate) fn half_open(&mut self, host: &mut Host) {
        let request = self.init(None);
        let answer = only(host.hear(self.at, &request));
        if let Err(cookie) = self.take_init(&answer) {
            let request = self.init(Some(&cookie));
            let answer = only(host.hear(self.at, &request));
            self.take_init(&answer).expect("no second cookie");
        }
    }

    /// Everything until the IKE SA and its first child are there; returns the engine's answer to IKE_AUTH.
    pub(crate) fn connect(&mut self, host: &mut Host) -> Message {
        self.half_open(host);
        self.authenticate(host)
    }

    /// IKE_AUTH with the engine.
    pub(crate) fn authenticate(&mut self, host: &mut Host) -> Message {
        let payloads = self.auth_payloads();
        let request = self.ask(ExchangeType::IKE_AUTH, payloads);
        let answer = self.open(&only(host.hear(self.at, &request)));
        assert!(answer.payloads.iter().any(|payload| matches!(payload, Payload::Auth(_))), "{answer:?}");
        answer
    }

    /// An empty INFORMATIONAL: the engine answers as long as the SA lives.
    pub(crate) fn is_alive(&mut self, host: &mut Host) -> bool {
        let request = self.ask(ExchangeType::INFORMATIONAL, vec![]);
        let sent = host.hear(self.at, &request);
        matches!(sent.as_slice(), [(_, octets)] if self.open(octets).payloads.is_empty())
    }

    /// The payloads of a Delete of the IKE SA.
    pub(crate) fn delete() -> Vec<Payload> {
        vec![Payload::Delete(Delete::ike_sa())]
    }
}
