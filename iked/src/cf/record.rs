//! What the coupling facility keeps about a DVIPA: enough to negotiate again, never a key.
//!
//! One record for each IKE tunnel (phase 1) and each dynamic tunnel (phase 2). A record's id is computed from
//! what stays the same when another owner negotiates the tunnel again, so its record takes the old one's place.

use super::seal::{FIRST_FORMAT, Opened, SysplexKey};
use crate::ike::command::ActivationMethod;
use crate::ike::rules::IkeOffer;
use crate::ike::types::{
    Encryption, Group, Identity, IkeTunnelId, Integrity, Mode, Prf, TrafficSelector, TunnelId,
};
use crate::ike::view::{ChildView, IkeView, Role};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stack::control::PortTranslation;
use std::net::{IpAddr, SocketAddr};
use zeroize::ZeroizeOnDrop;

/// Number of a record within its DVIPA and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId(pub [u8; 16]);

impl std::fmt::Display for RecordId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A stack of the sysplex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its address on the XCF link.
    pub xcf: Option<IpAddr>,
    /// Random id of this start of its process; its XCF messages are sealed under it.
    pub start: u64,
    /// It may own DVIPAs.
    pub distributor: bool,
    /// Connections may be sent to it.
    pub target: bool,
}

/// That a stack lives: rewritten by its system every fifth of its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Id of the start of its process.
    pub start: u64,
    /// Count of renewals.
    pub count: u64,
    /// The lease in milliseconds: without a newer record for so long and a quarter, it has stopped to send.
    pub lease_ms: u32,
    /// It ended and sends nothing any more: nobody need wait.
    pub ended: bool,
}

/// Who owns a DVIPA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// System.
    pub system: String,
    /// Stack.
    pub stack: String,
    /// Count of owners so far; only grows.
    pub epoch: u64,
    /// It gave the DVIPA up: whoever wants may take it at once.
    pub released: bool,
}

/// Who is ready to take a DVIPA over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// System.
    pub system: String,
    /// Stack.
    pub stack: String,
}

/// The highest sequence number that the SAs of a DVIPA may use; one for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Highest number.
    pub highest: u64,
}

/// What continues an IKE SA and its children at another stack; the IKE engine says what is in it.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the octets over.
    #[must_use]
    pub const fn new(octets: Vec<u8>) -> Self {
        Self(octets)
    }

    /// The octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// An IKE tunnel of a DVIPA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase1 {
    /// Number at the writer, for operators only: another stack's `K3` is another tunnel.
    pub tunnel: IkeTunnelId,
    /// IKE major version.
    pub ike_version: u8,
    /// Own endpoint.
    pub local: SocketAddr,
    /// The peer's endpoint.
    pub remote: SocketAddr,
    /// Own identity.
    pub local_id: Identity,
    /// The peer's identity.
    pub remote_id: Identity,
    /// The writer initiated it.
    pub initiator: bool,
    /// KeyExchangeRule.
    pub rule: String,
    /// KeyExchangeAction.
    pub action: String,
    /// Offers of the rule when the SA was made, most preferred first.
    pub offers: Vec<Offer>,
    /// What was agreed.
    pub agreed: Option<Offer>,
    /// Initiator's SPI.
    pub spi_i: u64,
    /// Responder's SPI.
    pub spi_r: u64,
    /// NAT in front of the owner.
    pub nat_local: bool,
    /// NAT in front of the peer, which has given it the port of `remote`.
    pub nat_remote: bool,
    /// Re-authentication interval in seconds.
    pub reauth_secs: Option<u64>,
}

/// One combination of algorithms for an IKE SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Encryption.
    pub encryption: Encryption,
    /// Integrity; `None` with an AEAD.
    pub integrity: Option<Integrity>,
    /// PRF.
    pub prf: Prf,
    /// Group.
    pub group: Group,
    /// Lifetime in seconds.
    pub lifetime_secs: u64,
}

impl From<&IkeOffer> for Offer {
    fn from(o: &IkeOffer) -> Self {
        Self {
            encryption: o.encryption,
            integrity: o.integrity,
            prf: o.prf,
            group: o.group,
            lifetime_secs: o.lifetime.as_secs(),
        }
    }
}

/// A dynamic tunnel of a DVIPA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase2 {
    /// Number at the writer, for operators only.
    pub tunnel: TunnelId,
    /// SA number within the tunnel.
    pub generation: u32,
    /// Its IKE tunnel's record.
    pub phase1: RecordId,
    /// Inbound SPI: the next owner must choose another.
    pub spi_in: u32,
    /// Outbound SPI.
    pub spi_out: u32,
    /// ESP in UDP.
    pub udp: bool,
    /// Mode.
    pub mode: Mode,
    /// Encryption.
    pub encryption: Encryption,
    /// Integrity; `None` with an AEAD.
    pub integrity: Option<Integrity>,
    /// Group of a fresh key exchange.
    pub group: Option<Group>,
    /// Extended sequence numbers.
    pub esn: bool,
    /// Dynamic filter: selectors of the DVIPA's side.
    pub local_selectors: Vec<TrafficSelector>,
    /// Dynamic filter: selectors of the peer's side.
    pub remote_selectors: Vec<TrafficSelector>,
    /// IpFilterRule.
    pub rule: String,
    /// IpDynVpnAction.
    pub vpn_action: String,
    /// LocalDynVpnRule, so that it is found by name at the next owner.
    pub local_dyn_vpn_rule: Option<String>,
    /// Why it exists.
    pub method: ActivationMethod,
    /// The writer initiated it.
    pub initiator: bool,
    /// Lifetime in seconds.
    pub lifetime_secs: u64,
    /// Lifesize in bytes.
    pub lifesize_bytes: Option<u64>,
    /// When rekeys end, in seconds since 1970 UTC.
    pub vpn_life_ends: Option<u64>,
    /// Flows of clients behind its NAT whose ports the owner translates; stands behind the rest, see [`encode_phase2`].
    #[serde(skip)]
    pub translations: Vec<PortTranslation>,
    /// Roughly when the peer last used it, in seconds since 1970 UTC by its owner's clock: who was there last is negotiated
    /// with first. `None`: not known, as in a record of the first format.
    #[serde(skip)]
    pub last_used: Option<u64>,
}

/// A kind of record as it stands in the store: its octets, and the formats that they may have.
pub trait Stored: Serialize + DeserializeOwned {
    /// The format in which it is written. It stands, sealed, before the octets.
    const FORMAT: u8 = FIRST_FORMAT;

    /// The octets, in [`Stored::FORMAT`].
    #[must_use]
    fn write(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads octets of `format`.
    ///
    /// # Errors
    /// They are something else.
    fn read(format: u8, octets: &[u8]) -> Result<Self, Malformed> {
        if format == Self::FORMAT { decode(octets) } else { Err(Malformed) }
    }

    /// The record in an opened value.
    ///
    /// # Errors
    /// As [`Stored::read`].
    fn of(opened: &Opened) -> Result<Self, Malformed> {
        Self::read(opened.format, &opened.plaintext)
    }
}

impl Stored for Member {}
impl Stored for Alive {}
impl Stored for Owner {}
impl Stored for Backup {}
impl Stored for Ceiling {}
impl Stored for Phase1 {}

/// The second format has the last use before what the first one has.
impl Stored for Phase2 {
    const FORMAT: u8 = 2;

    fn write(&self) -> Vec<u8> {
        [encode(&self.last_used), encode_phase2(self)].concat()
    }

    fn read(format: u8, octets: &[u8]) -> Result<Self, Malformed> {
        match format {
            FIRST_FORMAT => decode_phase2(octets),
            Self::FORMAT => {
                let (last_used, rest) = postcard::take_from_bytes(octets).map_err(|_| Malformed)?;
                Ok(Self { last_used, ..decode_phase2(rest)? })
            }
            _ => Err(Malformed),
        }
    }
}

/// Why a record's content is refused after its seal was good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("content is no record of this kind")]
pub struct Malformed;

/// Encodes a record.
///
/// # Panics
/// Never: every record can be encoded into memory.
#[must_use]
fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    postcard::to_stdvec(record).expect("records have no unencodable parts")
}

/// Decodes a record; all of `bytes` must be it.
///
/// # Errors
/// It is something else.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(bytes) {
        Ok((record, [])) => Ok(record),
        _ => Err(Malformed),
    }
}

/// Encodes a record of a dynamic tunnel. What is translated follows the rest, where there is any: a record without is the one
/// that earlier versions wrote and read.
///
/// # Panics
/// Never, as [`encode`].
#[must_use]
fn encode_phase2(record: &Phase2) -> Vec<u8> {
    let mut octets = encode(record);
    if !record.translations.is_empty() {
        octets.extend(encode(&record.translations));
    }
    octets
}

/// Decodes what [`encode_phase2`] has encoded.
///
/// # Errors
/// It is something else.
fn decode_phase2(bytes: &[u8]) -> Result<Phase2, Malformed> {
    let (mut record, rest): (Phase2, _) = postcard::take_from_bytes(bytes).map_err(|_| Malformed)?;
    if !rest.is_empty() {
        record.translations = decode(rest)?;
        // Nothing has one form only.
        if record.translations.is_empty() {
            return Err(Malformed);
        }
    }
    Ok(record)
}

/// Id and record of an IKE tunnel; `None` while it has not authenticated. `offers` are those of its rule.
#[must_use]
pub fn of_ike(key: &SysplexKey, view: &IkeView, offers: &[IkeOffer]) -> Option<(RecordId, Phase1)> {
    let (Some(local_id), Some(remote_id)) = (view.local_id.clone(), view.remote_id.clone()) else {
        return None;
    };
    view.established?;
    let agreed = view.suite.map(|s| Offer {
        encryption: s.encryption,
        integrity: s.integrity,
        prf: s.prf,
        group: s.group,
        lifetime_secs: view.lifetime.as_secs(),
    });
    let record = Phase1 {
        tunnel: view.id,
        ike_version: 2,
        local: view.local,
        remote: view.remote,
        local_id,
        remote_id,
        initiator: view.role == Role::Initiator,
        rule: view.rule.clone(),
        action: view.action.clone(),
        offers: offers.iter().map(Offer::from).collect(),
        agreed,
        spi_i: view.spi_i,
        spi_r: view.spi_r,
        nat_local: view.nat_local,
        nat_remote: view.nat_remote,
        reauth_secs: view.reauth_interval.map(|d| d.as_secs()),
    };
    Some((phase1_id(key, &record), record))
}

/// The key of distributor.md's P1: identities and the peer's endpoint. Without its port, which a NAT may change.
fn phase1_id(key: &SysplexKey, r: &Phase1) -> RecordId {
    let same: (&Identity, &Identity, IpAddr) = (&r.local_id, &r.remote_id, r.remote.ip());
    RecordId(key.name_of(b"phase1", &encode(&same)))
}

/// Id and record of a dynamic tunnel; `None` while it is being negotiated. `vpn_life_ends` is in Unix seconds. Of its last use
/// nothing is said.
#[must_use]
pub fn of_child(
    key: &SysplexKey,
    view: &ChildView,
    phase1: RecordId,
    vpn_life_ends: Option<u64>,
    translations: &[PortTranslation],
) -> Option<(RecordId, Phase2)> {
    view.installed?;
    let record = Phase2 {
        tunnel: view.id,
        generation: view.generation,
        phase1,
        spi_in: view.spi_in,
        spi_out: view.spi_out,
        udp: view.udp,
        mode: view.mode,
        encryption: view.encryption?,
        integrity: view.integrity,
        group: view.group,
        esn: view.esn,
        local_selectors: view.local_selectors.clone(),
        remote_selectors: view.remote_selectors.clone(),
        rule: view.rule.clone(),
        vpn_action: view.vpn_action.clone(),
        local_dyn_vpn_rule: view.local_dyn_vpn_rule.clone(),
        method: view.method,
        initiator: view.role == Role::Initiator,
        lifetime_secs: view.lifetime.as_secs(),
        lifesize_bytes: view.lifesize_bytes,
        vpn_life_ends,
        translations: translations.to_vec(),
        last_used: None,
    };
    let same = (phase1, &record.rule, &record.local_selectors, &record.remote_selectors);
    Some((RecordId(key.name_of(b"phase2", &encode(&same))), record))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ike::types::AddressRange;
    use proptest::prelude::*;

    pub(crate) fn phase1() -> Phase1 {
        let offer = Offer {
            encryption: Encryption::AesGcm16(256),
            integrity: None,
            prf: Prf::HmacSha256,
            group: Group::Curve25519,
            lifetime_secs: 28_800,
        };
        Phase1 {
            tunnel: IkeTunnelId(3),
            ike_version: 2,
            local: "203.0.113.10:500".parse().unwrap(),
            remote: "198.51.100.7:500".parse().unwrap(),
            local_id: Identity::Fqdn("plex.example".into()),
            remote_id: Identity::Address("198.51.100.7".parse().unwrap()),
            initiator: false,
            rule: "Branch".into(),
            action: "Gold".into(),
            offers: vec![offer],
            agreed: Some(offer),
            spi_i: 1,
            spi_r: 2,
            nat_local: false,
            nat_remote: false,
            reauth_secs: None,
        }
    }

    pub(crate) fn phase2(phase1: RecordId, spi_in: u32) -> Phase2 {
        let a: IpAddr = "203.0.113.10".parse().unwrap();
        let ts = TrafficSelector {
            addresses: AddressRange { low: a, high: a },
            protocol: 6,
            port_low: 80,
            port_high: 80,
        };
        Phase2 {
            tunnel: TunnelId(7),
            generation: 1,
            phase1,
            spi_in,
            spi_out: 99,
            udp: false,
            mode: Mode::Tunnel,
            encryption: Encryption::AesCbc(128),
            integrity: Some(Integrity::HmacSha256),
            group: None,
            esn: true,
            local_selectors: vec![ts],
            remote_selectors: vec![ts],
            rule: "Web".into(),
            vpn_action: "Silver".into(),
            local_dyn_vpn_rule: None,
            method: ActivationMethod::Remote,
            initiator: false,
            lifetime_secs: 3600,
            lifesize_bytes: None,
            vpn_life_ends: None,
            translations: vec![],
            last_used: None,
        }
    }

    fn translation(endpoint: &str) -> PortTranslation {
        PortTranslation {
            endpoint: endpoint.parse().unwrap(),
            protocol: 6,
            local: "203.0.113.10:443".parse().unwrap(),
            remote: "198.51.100.7".parse().unwrap(),
            original: 40_000,
            translated: 65_535,
        }
    }

    #[test]
    fn translated_ports_stand_behind_a_record_that_earlier_versions_know() {
        let mut r = phase2(RecordId([1; 16]), 5);
        let before = encode(&r);
        assert_eq!(encode_phase2(&r), before, "without any it is the same");
        assert_eq!(decode_phase2(&before), Ok(r.clone()));
        r.translations = vec![translation("198.51.100.7:4500"), translation("198.51.100.7:1025")];
        let octets = encode_phase2(&r);
        assert!(octets.starts_with(&before));
        assert_eq!(decode_phase2(&octets), Ok(r));
        for cut in before.len() + 1..octets.len() {
            assert_eq!(decode_phase2(&octets[..cut]), Err(Malformed), "cut at {cut}");
        }
        assert_eq!(decode_phase2(&[&octets[..], &[0]].concat()), Err(Malformed));
        assert_eq!(decode_phase2(&[&before[..], &[0]].concat()), Err(Malformed), "nothing is not written");
        let huge = [&before[..], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
        assert_eq!(decode_phase2(&huge), Err(Malformed), "t49: a count that lies takes no memory");
    }

    #[test]
    fn records_survive_the_way() {
        let p1 = phase1();
        assert_eq!(decode::<Phase1>(&encode(&p1)), Ok(p1));
        let p2 = phase2(RecordId([1; 16]), 5);
        assert_eq!(Phase2::read(Phase2::FORMAT, &p2.write()), Ok(p2));
    }

    #[test]
    fn a_record_of_the_first_format_is_read_and_every_other_refused() {
        let (p1, unused) = (phase1(), phase2(RecordId([1; 16]), 5));
        let p2 = Phase2 {
            last_used: Some(1_700_000_040),
            translations: vec![translation("198.51.100.7:4500")],
            ..unused.clone()
        };
        assert_eq!(Phase2::read(Phase2::FORMAT, &p2.write()), Ok(p2.clone()));
        assert_eq!(Phase2::read(FIRST_FORMAT, &encode_phase2(&unused)), Ok(unused.clone()));
        assert_eq!(Phase2::read(Phase2::FORMAT, &unused.write()), Ok(unused));
        assert_eq!(
            Phase2::read(Phase2::FORMAT, &encode_phase2(&p2)),
            Err(Malformed),
            "not taken for one another"
        );
        assert_eq!(Phase2::read(FIRST_FORMAT, &p2.write()), Err(Malformed));
        for format in [0, Phase2::FORMAT + 1, u8::MAX] {
            assert_eq!(Phase2::read(format, &p2.write()), Err(Malformed));
        }
        assert_eq!(Phase1::read(Phase2::FORMAT, &p1.write()), Err(Malformed));
    }

    #[test]
    fn the_id_depends_on_who_talks_only() {
        let key = SysplexKey::new([7; 32]);
        let a = phase1();
        let mut b = a.clone();
        (b.spi_i, b.tunnel, b.rule) = (9, IkeTunnelId(55), "Other".into());
        b.remote.set_port(4500);
        assert_eq!(phase1_id(&key, &a), phase1_id(&key, &b));
        b.remote_id = Identity::Fqdn("198.51.100.7".into());
        assert_ne!(phase1_id(&key, &a), phase1_id(&key, &b));
        assert_ne!(phase1_id(&key, &a), phase1_id(&SysplexKey::new([8; 32]), &a));
    }

    proptest! {
        #[test]
        fn t49_noise_is_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = decode::<Member>(&bytes);
            let _ = decode::<Alive>(&bytes);
            let _ = decode::<Owner>(&bytes);
            let _ = decode::<Backup>(&bytes);
            let _ = decode::<Ceiling>(&bytes);
            let _ = decode::<Phase1>(&bytes);
            for format in 0..4 {
                let _ = Phase2::read(format, &bytes);
            }
        }

        #[test]
        fn small_records_survive_the_way(
            names in (".{0,12}", ".{0,12}"),
            numbers: (u64, u64, u32),
            flags: (bool, bool),
            xcf: Option<IpAddr>,
        ) {
            fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(r: T) {
                let bytes = encode(&r);
                assert_eq!(decode::<T>(&bytes).as_ref(), Ok(&r));
                // Nothing behind it, nothing missing.
                assert_eq!(decode::<T>(&[&bytes[..], &[0]].concat()), Err(Malformed));
                assert_eq!(decode::<T>(&bytes[..bytes.len() - 1]), Err(Malformed));
            }
            let (system, stack) = names;
            let (start, epoch, n) = numbers;
            let (distributor, target) = flags;
            same(Member { xcf, start, distributor, target });
            same(Alive { start, count: epoch, lease_ms: n, ended: target });
            same(Owner { system: system.clone(), stack: stack.clone(), epoch, released: target });
            same(Backup { system, stack });
            same(Ceiling { highest: epoch });
        }

        #[test]
        fn t49_lengths_in_a_record_are_not_trusted(at in 0usize..60) {
            let mut bytes = encode(&phase1());
            let at = at % bytes.len();
            bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f]);
            let _ = decode::<Phase1>(&bytes);
            bytes.push(0);
            prop_assert!(decode::<Owner>(&bytes).is_err() || at > 0);
        }
    }
}
