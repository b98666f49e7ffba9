//! IpDataOffer and KeyExchangeOffer: algorithms and lifetimes.

use super::params::Params;
use super::value::{Args, Choice};
use crate::model::algorithm::KeyBits;
use crate::model::{DataOffer, Encap, Encryption, ExchangeOffer, Group, Integrity, Name, Prf};
use crate::resolve::{Context, Object, Table, Tables};
use crate::source::Span;
use std::time::Duration;

/// Minutes that a lifetime may have.
const LIFETIME: (u32, u32) = (1, 9_999);
/// Default lifetime of a child SA, in minutes.
const CHILD_MINUTES: u32 = 240;
/// Default lifetime of an IKE SA, in minutes.
const IKE_MINUTES: u32 = 480;
/// What is wrong with the algorithms that are refused for good.
const BROKEN: &str = "it is not secure any more";

impl Object for DataOffer {
    const KEYWORD: &'static str = "IpDataOffer";
    const REF: &'static str = "IpDataOfferRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let encap = params.value("HowToEncap", cx, encap).unwrap_or(Encap::Tunnel);
        let coded = params.has(&["HowToEncrypt"]);
        let encryption = params.value("HowToEncrypt", cx, |args, cx| {
            encryption(args, ("DoNot", Choice::NotYet("ESP without encryption")), cx)
        });
        let encryption = if coded { encryption } else { Some(Encryption::AesCbc(KeyBits::B256)) };
        let auth = params.only(&["HowToAuth"], cx);
        let at = auth.map_or(params.at, |s| s.head());
        let coded_auth = auth.map(|s| Args::of("HowToAuth", s, cx).and_then(|a| a.read_all(cx, how_to_auth)));
        let minutes =
            params.value("RefreshLifetimeProposed", cx, |a, cx| a.number(LIFETIME.0, LIFETIME.1, cx));
        // IKEv2 does not negotiate lifetimes (RFC 7296 section 2.8): the range is checked, and of no effect.
        params.value("RefreshLifetimeAccepted", cx, |a, cx| a.range(LIFETIME.0, LIFETIME.1, cx));
        let kbytes = params.value("RefreshLifesizeProposed", cx, lifesize).flatten();
        params.value("RefreshLifesizeAccepted", cx, |args, cx| {
            if args.take_if("None") { Some(()) } else { args.range(1, u32::MAX, cx).map(|_| ()) }
        });
        let encryption = encryption?;
        let integrity = match coded_auth {
            Some(faulty_or_value) => child_integrity(encryption, faulty_or_value?, at, cx)?,
            None if encryption.is_aead() => None,
            None => Some(Integrity::HmacSha256),
        };
        Some(Self {
            name,
            encap,
            encryption,
            integrity,
            lifetime: minutes_to_duration(minutes.unwrap_or(CHILD_MINUTES)),
            lifesize_bytes: kbytes.map(|k| u64::from(k) * 1024),
        })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.data_offers
    }
}

/// AES-GCM protects integrity itself; AES-CBC without integrity is open to anybody who changes bits.
fn child_integrity(
    encryption: Encryption,
    auth: Option<Integrity>,
    at: Span,
    cx: &mut Context<'_, '_>,
) -> Option<Option<Integrity>> {
    match (encryption.is_aead(), auth) {
        (true, None) => Some(None),
        (false, Some(integrity)) => Some(Some(integrity)),
        (true, Some(_)) => {
            cx.findings
                .error(at, "AES_GCM_16 protects integrity itself")
                .label("expected HowToAuth ESP NULL, or nothing");
            None
        }
        (false, None) => {
            cx.findings
                .error(at, "HowToAuth ESP NULL goes with AES_GCM_16 only")
                .label("expected an HMAC: AES_CBC alone does not protect integrity");
            None
        }
    }
}

/// `ESP algorithm`; `Some(None)` is NULL.
fn how_to_auth<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Option<Integrity>> {
    args.choice(&[("ESP", Choice::Is(())), ("AH", Choice::NotYet("only ESP is implemented"))], cx)?;
    args.choice(
        &[
            ("HMAC_SHA2_256_128", Choice::Is(Some(Integrity::HmacSha256))),
            ("HMAC_SHA2_384_192", Choice::Is(Some(Integrity::HmacSha384))),
            ("HMAC_SHA2_512_256", Choice::Is(Some(Integrity::HmacSha512))),
            ("Null", Choice::Is(None)),
            ("HMAC_MD5", Choice::Refused(BROKEN)),
            ("HMAC_SHA", Choice::NotYet("HMAC-SHA1 is not implemented")),
            ("HMAC_SHA1", Choice::NotYet("HMAC-SHA1 is not implemented")),
            ("AES128_XCBC_96", Choice::NotYet("AES-XCBC is not implemented")),
            ("AES_GMAC_128", Choice::NotYet("AES-GMAC is not implemented")),
            ("AES_GMAC_256", Choice::NotYet("AES-GMAC is not implemented")),
        ],
        cx,
    )
}

/// HowToEncrypt: `AES`, `AES_CBC KeyLength n`, `AES_GCM_16 KeyLength n`; KeyLength may be left out.
fn encryption<'a>(
    args: &mut Args<'a>,
    extra: (&'static str, Choice<Cipher>),
    cx: &mut Context<'a, '_>,
) -> Option<Encryption> {
    let cipher = args.choice(
        &[
            ("AES_GCM_16", Choice::Is(Cipher::Gcm)),
            ("AES_CBC", Choice::Is(Cipher::Cbc)),
            ("AES", Choice::Is(Cipher::Aes)),
            ("DES", Choice::Refused(BROKEN)),
            ("3DES", Choice::Refused(BROKEN)),
            extra,
        ],
        cx,
    )?;
    let bits = if cipher != Cipher::Aes && args.take_if("KeyLength") {
        args.choice(
            &[
                ("128", Choice::Is(KeyBits::B128)),
                ("192", Choice::Is(KeyBits::B192)),
                ("256", Choice::Is(KeyBits::B256)),
            ],
            cx,
        )?
    } else {
        KeyBits::B128
    };
    Some(match cipher {
        Cipher::Gcm => Encryption::AesGcm16(bits),
        Cipher::Cbc | Cipher::Aes => Encryption::AesCbc(bits),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cipher {
    Aes,
    Cbc,
    Gcm,
}

/// HowToEncap.
fn encap<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Encap> {
    args.choice(&[("Tunnel", Choice::Is(Encap::Tunnel)), ("Transport", Choice::Is(Encap::Transport))], cx)
}

/// None or Kbytes.
fn lifesize<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Option<u32>> {
    if args.take_if("None") { Some(None) } else { args.number(1, u32::MAX, cx).map(Some) }
}

fn minutes_to_duration(minutes: u32) -> Duration {
    Duration::from_secs(u64::from(minutes) * 60)
}

/// The groups, and why some are not there.
const GROUPS: [(&str, Choice<Option<Group>>); 9] = [
    ("Group14", Choice::Is(Some(Group::Modp2048))),
    ("Group19", Choice::Is(Some(Group::Ecp256))),
    ("Group20", Choice::Is(Some(Group::Ecp384))),
    ("Group31", Choice::Is(Some(Group::Curve25519))),
    ("Group1", Choice::Refused(BROKEN)),
    ("Group2", Choice::Refused(BROKEN)),
    ("Group5", Choice::Refused(BROKEN)),
    ("Group21", Choice::NotYet("the 521-bit group is not implemented")),
    ("Group24", Choice::Refused(BROKEN)),
];

/// A group or None (`Some(None)`).
pub(super) fn pfs_group<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Option<Group>> {
    if args.take_if("None") { Some(None) } else { args.choice(&GROUPS, cx) }
}

impl Object for ExchangeOffer {
    const KEYWORD: &'static str = "KeyExchangeOffer";
    const REF: &'static str = "KeyExchangeOfferRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let coded = params.has(&["HowToEncrypt"]);
        let encryption = params.value("HowToEncrypt", cx, |args, cx| {
            encryption(args, ("DoNot", Choice::Refused("an IKE SA is always encrypted")), cx)
        });
        let encryption = if coded { encryption } else { Some(Encryption::AesCbc(KeyBits::B256)) };
        let verify = params.only(&["HowToVerifyMsgs"], cx);
        let integrity = verify.and_then(|s| Args::of("HowToVerifyMsgs", s, cx)?.read_all(cx, how_to_verify));
        if let (Some(statement), Some(true)) = (verify, encryption.map(Encryption::is_aead)) {
            cx.findings
                .warning(statement.head(), "HowToVerifyMsgs has no effect")
                .label("AES_GCM_16 protects integrity itself");
        }
        let prf = params.value("PseudoRandomFunction", cx, prf).unwrap_or(Prf::HmacSha256);
        let group = params.value("DHGroup", cx, |args, cx| args.choice(&GROUPS, cx)).flatten();
        params.ikev1_only("HowToAuthMsgs", cx, |args, cx| {
            args.choice(
                &[
                    ("SHA2_256", Choice::Is(())),
                    ("SHA2_384", Choice::Is(())),
                    ("SHA2_512", Choice::Is(())),
                    ("SHA1", Choice::Is(())),
                    ("MD5", Choice::Refused(BROKEN)),
                ],
                cx,
            )
        });
        params.ikev1_only("HowToAuthPeers", cx, |args, cx| {
            args.choice(
                &[
                    ("PresharedKey", Choice::Is(())),
                    ("RsaSignature", Choice::NotYet("signatures are not implemented")),
                ],
                cx,
            )
        });
        let minutes =
            params.value("RefreshLifetimeProposed", cx, |a, cx| a.number(LIFETIME.0, LIFETIME.1, cx));
        params.ikev1_only("RefreshLifetimeAccepted", cx, |a, cx| a.range(LIFETIME.0, LIFETIME.1, cx));
        for keyword in ["RefreshLifesizeProposed", "RefreshLifesizeAccepted"] {
            params.value(keyword, cx, |args, cx| args.choice(&[("None", Choice::Is(()))], cx));
        }
        let encryption = encryption?;
        Some(Self {
            name,
            encryption,
            integrity: (!encryption.is_aead()).then(|| integrity.unwrap_or(Integrity::HmacSha256)),
            prf,
            group: group.unwrap_or(Group::Modp2048),
            lifetime: minutes_to_duration(minutes.unwrap_or(IKE_MINUTES)),
        })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.exchange_offers
    }
}

fn how_to_verify<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Integrity> {
    args.choice(
        &[
            ("HMAC_SHA2_256_128", Choice::Is(Integrity::HmacSha256)),
            ("HMAC_SHA2_384_192", Choice::Is(Integrity::HmacSha384)),
            ("HMAC_SHA2_512_256", Choice::Is(Integrity::HmacSha512)),
            ("HMAC_MD5_96", Choice::Refused(BROKEN)),
            ("HMAC_SHA1_96", Choice::NotYet("HMAC-SHA1 is not implemented")),
            ("AES128_XCBC_96", Choice::NotYet("AES-XCBC is not implemented")),
        ],
        cx,
    )
}

fn prf<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Prf> {
    args.choice(
        &[
            ("HMAC_SHA2_256", Choice::Is(Prf::HmacSha256)),
            ("HMAC_SHA2_384", Choice::Is(Prf::HmacSha384)),
            ("HMAC_SHA2_512", Choice::Is(Prf::HmacSha512)),
            ("HMAC_MD5", Choice::Refused(BROKEN)),
            ("HMAC_SHA1", Choice::NotYet("HMAC-SHA1 is not implemented")),
            ("AES128_XCBC", Choice::NotYet("AES-XCBC is not implemented")),
        ],
        cx,
    )
}
