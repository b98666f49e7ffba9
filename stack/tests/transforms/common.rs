//! Pairs of SAs, and packets to send through them.

use stack::control::{DfMode, EspIntegrity, EspSuite, KeyBytes, Mode, SaNotice, SaPair};
use stack::engine::esp::{self, OpenError, Opened};
use stack::engine::sad::{Sa, SaHandle, Sad};
use stack::wire::checksum::pseudo_header;
use stack::wire::ipv4::{DF, Ipv4Header};
use stack::wire::ipv6::Ipv6Header;
use std::time::Instant;

/// A start of virtual time; nothing but differences matter.
#[expect(clippy::disallowed_methods, reason = "tests need some instant to begin with")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) const SUITES: [EspSuite; 18] = [
    EspSuite::AesGcm16 { key_bits: 128 },
    EspSuite::AesGcm16 { key_bits: 256 },
    EspSuite::AesCbc { key_bits: 128, integrity: EspIntegrity::HmacSha256 },
    EspSuite::AesCbc { key_bits: 128, integrity: EspIntegrity::HmacSha512 },
    EspSuite::AesCbc { key_bits: 192, integrity: EspIntegrity::HmacSha384 },
    EspSuite::AesCbc { key_bits: 256, integrity: EspIntegrity::HmacSha256 },
    EspSuite::AesCbc { key_bits: 256, integrity: EspIntegrity::HmacSha384 },
    EspSuite::AesCbc { key_bits: 256, integrity: EspIntegrity::HmacSha512 },
    EspSuite::AesCbc { key_bits: 128, integrity: EspIntegrity::HmacSha1 },
    EspSuite::AesCtr { key_bits: 128, integrity: EspIntegrity::AesXcbc96 },
    EspSuite::AesCtr { key_bits: 256, integrity: EspIntegrity::HmacSha256 },
    EspSuite::ChaCha20Poly1305,
    EspSuite::Null { integrity: EspIntegrity::HmacSha1 },
    EspSuite::AesGmac { key_bits: 128 },
    EspSuite::AesGmac { key_bits: 256 },
    EspSuite::AesCbc { key_bits: 256, integrity: EspIntegrity::HmacMd5 },
    EspSuite::TripleDes { integrity: EspIntegrity::HmacSha1 },
    EspSuite::Des { integrity: EspIntegrity::HmacMd5 },
];

/// One end's view of a pair; [`other_end`] is the other's.
pub(crate) fn pair(suite: EspSuite) -> SaPair {
    let length = suite.key_len().unwrap();
    let key =
        |salt: usize| KeyBytes((0..length).map(|i| u8::try_from((i * 7 + salt) % 256).unwrap()).collect());
    SaPair {
        tunnel: 7,
        generation: 1,
        ike_tunnel: 3,
        spi_in: 0x1000,
        spi_out: 0x2000,
        local: "192.0.2.1".parse().unwrap(),
        remote: "198.51.100.2".parse().unwrap(),
        udp: Some((4500, 4500)),
        mode: Mode::Tunnel,
        suite,
        key_in: key(1),
        key_out: key(2),
        esn: false,
        replay_window: 128,
        local_selectors: vec![],
        remote_selectors: vec![],
        rule: "r".into(),
        outbound_active: true,
        df: DfMode::Copy,
        copy_dscp: false,
        soft_bytes: None,
        hard_bytes: None,
        ceiling_of: None,
        continued: None,
    }
}

pub(crate) fn other_end(pair: &SaPair) -> SaPair {
    SaPair {
        spi_in: pair.spi_out,
        spi_out: pair.spi_in,
        local: pair.remote,
        remote: pair.local,
        udp: pair.udp.map(|(a, b)| (b, a)),
        key_in: pair.key_out.clone(),
        key_out: pair.key_in.clone(),
        ..pair.clone()
    }
}

/// An SA in a database of its own.
pub(crate) struct End {
    sad: Sad,
    handle: SaHandle,
    pub(crate) notices: Vec<(u32, SaNotice)>,
}

impl End {
    pub(crate) fn new(pair: SaPair) -> Self {
        let mut sad = Sad::new(1);
        let handle = sad.install(pair).unwrap();
        Self { sad, handle, notices: vec![] }
    }
    pub(crate) fn both(pair: SaPair) -> (Self, Self) {
        let other = other_end(&pair);
        (Self::new(pair), Self::new(other))
    }
    pub(crate) fn sa(&mut self) -> &mut Sa {
        self.sad.get_mut(self.handle).unwrap()
    }
    pub(crate) fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
        let mut arena = vec![];
        let sa = self.sad.get_mut(self.handle).unwrap();
        let range = esp::seal(sa, inner, &[], &mut arena, &mut self.notices).unwrap();
        assert_eq!(range, 0..esp::sealed_len(sa, inner.len()));
        arena
    }
    pub(crate) fn open(&mut self, packet: &mut [u8]) -> Result<Opened, OpenError> {
        esp::open(self.sad.get_mut(self.handle).unwrap(), packet, start(), &mut self.notices)
    }
    pub(crate) fn open_copy(&mut self, packet: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut p = packet.to_vec();
        let opened = self.open(&mut p)?;
        Ok(p[opened.inner].to_vec())
    }
}

/// A TCP segment over IPv4 or IPv6, with correct checksums.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) v6: bool,
    pub(crate) id: u16,
    pub(crate) df: bool,
    pub(crate) tos: u8,
    pub(crate) port: u16,
    pub(crate) sequence: u32,
    pub(crate) flags: u8,
    /// A multiple of 4 octets.
    pub(crate) options: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Default for Segment {
    fn default() -> Self {
        let options = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let (v6, df) = (false, true);
        Self { v6, id: 1, df, tos: 0, port: 40000, sequence: 1000, flags: 0x10, options, data: vec![] }
    }
}

impl Segment {
    pub(crate) fn with_data(self, data: Vec<u8>) -> Self {
        Self { data, ..self }
    }
    pub(crate) fn ip(&self, protocol: u8, upper: &[u8]) -> Vec<u8> {
        let length = u16::try_from(upper.len()).unwrap();
        let mut p = if self.v6 {
            Ipv6Header {
                traffic_class: self.tos,
                flow_label: 5,
                payload_len: length,
                next_header: protocol,
                hop_limit: 63,
                source: "2001:db8:1::1".parse().unwrap(),
                destination: "2001:db8:2::2".parse().unwrap(),
            }
            .to_bytes()
            .to_vec()
        } else {
            Ipv4Header {
                tos: self.tos,
                total_len: length + 20,
                id: self.id,
                flags_and_offset: if self.df { DF } else { 0 },
                ttl: 63,
                protocol,
                source: [10, 1, 0, 1].into(),
                destination: [10, 2, 0, 2].into(),
            }
            .to_bytes()
            .to_vec()
        };
        p.extend_from_slice(upper);
        p
    }
    fn finish(&self, protocol: u8, mut upper: Vec<u8>, check_at: usize) -> Vec<u8> {
        let p = self.ip(protocol, &upper);
        let addresses = if self.v6 { &p[8..40] } else { &p[12..20] };
        let sum = pseudo_header(addresses, protocol, u32::try_from(upper.len()).unwrap()).with(&upper);
        let mut check = sum.finish();
        if check == [0, 0] && protocol == 17 {
            check = [0xff; 2];
        }
        upper[check_at..check_at + 2].copy_from_slice(&check);
        self.ip(protocol, &upper)
    }
    pub(crate) fn tcp(&self) -> Vec<u8> {
        let mut t = vec![];
        t.extend_from_slice(&self.port.to_be_bytes());
        t.extend_from_slice(&80u16.to_be_bytes());
        t.extend_from_slice(&self.sequence.to_be_bytes());
        t.extend_from_slice(&77u32.to_be_bytes());
        t.push(u8::try_from((20 + self.options.len()) / 4).unwrap() << 4);
        t.push(self.flags);
        t.extend_from_slice(&[0x10, 0x00, 0, 0, 0, 0]);
        t.extend_from_slice(&self.options);
        t.extend_from_slice(&self.data);
        self.finish(6, t, 16)
    }
    pub(crate) fn udp(&self) -> Vec<u8> {
        let mut u =
            stack::wire::udp::header(self.port, 53, u16::try_from(self.data.len() + 8).unwrap()).to_vec();
        u.extend_from_slice(&self.data);
        self.finish(17, u, 6)
    }
}

pub(crate) fn octets(n: usize, seed: u8) -> Vec<u8> {
    (0..n).map(|i| u8::try_from((i * 31 + usize::from(seed)) % 256).unwrap()).collect()
}
