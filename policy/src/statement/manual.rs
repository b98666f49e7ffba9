//! IpManVpnAction.

use super::address::{Coded, MANUAL_LOCAL, MANUAL_REMOTE, Place};
use super::endpoint::shared_key;
use super::offer::{self, Coding};
use super::params::Params;
use super::value::Args;
use crate::ast::Word;
use crate::model::manual::ManualSa;
use crate::model::{AddressSet, Encap, ManVpnAction, Name, Protection, Secret};
use crate::resolve::{Context, Object, Table, Tables};
use crate::source::Span;

/// The first SPI that is not reserved (RFC 4303 section 2.1).
const MIN_SPI: u32 = 256;

/// AuthInboundSa and its kin.
struct Sa {
    at: Span,
    spi: u32,
    key: Secret,
}

impl Object for ManVpnAction {
    const KEYWORD: &'static str = "IpManVpnAction";
    const REF: &'static str = "IpManVpnActionRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        offer::allow_weak(params, cx);
        let encap = params.value("HowToEncap", cx, offer::encap).unwrap_or(Encap::Tunnel);
        let coding = Coding::read(params, cx);
        let local = endpoint(&MANUAL_LOCAL, "LocalSecurityEndpointAddr", params, cx);
        let remote = endpoint(&MANUAL_REMOTE, "RemoteSecurityEndpointAddr", params, cx);
        let [auth_in, auth_out, encrypt_in, encrypt_out] =
            ["AuthInboundSa", "AuthOutboundSa", "EncryptInboundSa", "EncryptOutboundSa"]
                .map(|keyword| sa(keyword, params, cx));
        let active = params.value("Active", cx, Args::yes_no).unwrap_or(true);
        let (df, copy_dscp) = super::action::passthrough(params, cx);
        let times = super::time::conditions(params, cx);
        let protection = coding.protection(cx);
        cx.allow_weak = false;
        let protection = protection?;
        if protection.needs_nonces() {
            cx.findings.error(params.at, "this algorithm does not go with manual keys").label(
                "expected AES_CBC with an HMAC: its nonces would come again with the same key (RFC 4106 section 2)",
            );
            return None;
        }
        let both_families = |local: &AddressSet, remote: &AddressSet| {
            local.ranges().iter().any(|l| remote.ranges().iter().any(|r| l.is_ipv4() == r.is_ipv4()))
        };
        if let (Some(local), Some(remote)) = (&local, &remote)
            && !both_families(local, remote)
        {
            cx.findings
                .error(params.at, "security endpoints of different families")
                .label("expected two IPv4 or two IPv6 addresses");
        }
        let inbound =
            side(&protection, auth_in, encrypt_in, ["AuthInboundSa", "EncryptInboundSa"], params, cx);
        let outbound =
            side(&protection, auth_out, encrypt_out, ["AuthOutboundSa", "EncryptOutboundSa"], params, cx);
        Some(Self {
            name,
            encap,
            protection,
            local: local?,
            remote: remote?,
            inbound: inbound?,
            outbound: outbound?,
            active,
            df,
            copy_dscp,
            times,
        })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.man_vpn_actions
    }
}

/// One address, or a whole family.
fn endpoint<'a>(
    place: &Place,
    keyword: &str,
    params: &mut Params<'a>,
    cx: &mut Context<'a, '_>,
) -> Option<AddressSet> {
    match place.read(params, cx) {
        Coded::Faulty => None,
        Coded::Absent => {
            params.missing(keyword, cx);
            None
        }
        Coded::Is(set, at) => {
            let is_fit = |r: &crate::model::AddressRange| match r.as_single() {
                Some(address) => !address.is_unspecified() && !address.is_multicast(),
                None => *r == crate::model::AddressRange::ALL_V4 || *r == crate::model::AddressRange::ALL_V6,
            };
            if set.ranges().iter().all(is_fit) {
                return Some(set);
            }
            cx.findings
                .error(at, format!("{keyword} is not one address"))
                .label("expected an address, Any, Any4 or Any6");
            None
        }
    }
}

/// `XyzSa { Spi n  Key form text }`; the outer `None`: it is not there.
fn sa<'a>(keyword: &'static str, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Option<Sa>> {
    let statement = params.only(&[keyword], cx)?;
    let Some(mut inner) = Params::enter(keyword, statement, cx) else { return Some(None) };
    for needed in ["Spi", "Key"] {
        if !inner.has(&[needed]) {
            inner.missing(needed, cx);
        }
    }
    let spi = inner.value("Spi", cx, |args, cx| args.number(MIN_SPI, u32::MAX, cx));
    let key = inner.value("Key", cx, shared_key);
    let at = inner.at;
    inner.finish(cx);
    Some(spi.zip(key).map(|(spi, key)| Sa { at, spi, key }))
}

/// One direction: exactly the SAs that the algorithms need, with keys of their lengths.
fn side<'a>(
    protection: &Protection,
    auth: Option<Option<Sa>>,
    encrypt: Option<Option<Sa>>,
    [auth_keyword, encrypt_keyword]: [&'static str; 2],
    params: &Params<'a>,
    cx: &mut Context<'a, '_>,
) -> Option<ManualSa> {
    let (integrity, encryption) = (protection.integrity(), protection.encryption());
    let auth_bytes = integrity.map(|i| usize::from(i.key_bytes()));
    let encrypt_bytes = encryption.map(|e| usize::from(e.key_bytes())).filter(|n| *n > 0);
    let auth = needed(auth, auth_bytes, auth_keyword, params, cx)?;
    let encrypt = needed(encrypt, encrypt_bytes, encrypt_keyword, params, cx)?;
    let (auth_spi, encrypt_spi) = (auth.as_ref().map(|s| s.spi), encrypt.as_ref().map(|s| s.spi));
    let (esp_spi, ah_spi) = match protection {
        Protection::Esp { .. } => {
            if let (Some(a), Some(e)) = (&auth, &encrypt)
                && a.spi != e.spi
            {
                cx.findings
                    .error(e.at, format!("{auth_keyword} and {encrypt_keyword} have different SPIs"))
                    .label("one ESP SA encrypts and authenticates: expected the same Spi in both")
                    .related(a.at, "the other one");
                return None;
            }
            (encrypt_spi.or(auth_spi), None)
        }
        Protection::Ah { .. } => (None, auth_spi),
        Protection::AhEsp { .. } => (encrypt_spi, auth_spi),
    };
    Some(ManualSa {
        esp_spi,
        ah_spi,
        encryption_key: encrypt.map(|s| s.key),
        integrity_key: auth.map(|s| s.key),
    })
}

/// The SA if `bytes` says that there is one; the outer `None`: that was wrong, and was said.
fn needed<'a>(
    coded: Option<Option<Sa>>,
    bytes: Option<usize>,
    keyword: &'static str,
    params: &Params<'a>,
    cx: &mut Context<'a, '_>,
) -> Option<Option<Sa>> {
    match (bytes, coded) {
        (None, None) => Some(None),
        (Some(_), None) => {
            params.missing(keyword, cx);
            None
        }
        (_, Some(None)) => None,
        (None, Some(Some(sa))) => {
            cx.findings
                .error(sa.at, format!("{keyword} is not needed"))
                .label("HowToAuth and HowToEncrypt of this action do not use it");
            None
        }
        (Some(bytes), Some(Some(sa))) => {
            if sa.key.expose().len() == bytes {
                return Some(Some(sa));
            }
            cx.findings
                .error(sa.at, format!("the Key of {keyword} has {} bytes", sa.key.expose().len()))
                .label(format!("the algorithm takes {bytes} bytes, {} hexadecimal digits", bytes * 2));
            None
        }
    }
}

/// Says that manual tunnels are asked for at this word.
pub(super) fn used(word: Word<'_>, cx: &mut Context<'_, '_>) {
    cx.uses(crate::Feature::ManualTunnels, word);
}
