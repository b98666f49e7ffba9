//! IpDataOffer and KeyExchangeOffer: algorithms and lifetimes.

use super::params::Params;
use super::value::{Args, Choice};
use crate::feature::Feature;
use crate::model::algorithm::KeyBits;
use crate::model::{DataOffer, Encap, Encryption, ExchangeOffer, Group, Integrity, Name, Prf, Protection};
use crate::resolve::{Context, Object, Table, Tables};
use crate::source::Span;
use std::time::Duration;

/// Minutes that a lifetime may have.
const LIFETIME: (u32, u32) = (1, 9_999);
/// Default lifetime of a child SA, in minutes.
const CHILD_MINUTES: u32 = 240;
/// Default lifetime of an IKE SA, in minutes.
const IKE_MINUTES: u32 = 480;
/// What is said of HMAC-SHA1.
const SHA1: &str = "SHA-1 is being retired (RFC 8221 section 6)";

impl Object for DataOffer {
    const KEYWORD: &'static str = "IpDataOffer";
    const REF: &'static str = "IpDataOfferRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        allow_weak(params, cx);
        let encap = params.value("HowToEncap", cx, encap).unwrap_or(Encap::Tunnel);
        let coding = Coding::read(params, cx);
        let minutes =
            params.value("RefreshLifetimeProposed", cx, |a, cx| a.number(LIFETIME.0, LIFETIME.1, cx));
        // IKEv2 does not negotiate lifetimes (RFC 7296 section 2.8): the range is checked, and of no effect.
        params.value("RefreshLifetimeAccepted", cx, |a, cx| a.range(LIFETIME.0, LIFETIME.1, cx));
        let kbytes = params.value("RefreshLifesizeProposed", cx, lifesize).flatten();
        params.value("RefreshLifesizeAccepted", cx, |args, cx| {
            if args.take_if("None") { Some(()) } else { args.range(1, u32::MAX, cx).map(|_| ()) }
        });
        let protection = coding.protection(cx);
        cx.allow_weak = false;
        let protection = protection?;
        if matches!(protection, Protection::AhEsp { .. }) {
            cx.findings.error(params.at, "AH together with ESP cannot be negotiated").label(
                "an IKEv2 proposal is for one protocol (RFC 7296 section 3.3.1): expected HowToAuth ESP, or HowToEncrypt DoNot",
            );
            return None;
        }
        Some(Self {
            name,
            encap,
            protection,
            lifetime: minutes_to_duration(minutes.unwrap_or(CHILD_MINUTES)),
            lifesize_bytes: kbytes.map(|k| u64::from(k) * 1024),
        })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.data_offers
    }
}

/// AllowWeak: from here on the weak algorithms of this block are accepted.
pub(super) fn allow_weak<'a>(params: &mut Params<'a>, cx: &mut Context<'a, '_>) {
    cx.allow_weak = params.value("AllowWeak", cx, Args::yes_no).unwrap_or(false);
}

/// HowToEncrypt and HowToAuth as they are coded; the outer `None`: coded wrongly, which was said.
pub(super) struct Coding {
    encryption: Option<Encryption>,
    auth: Option<Auth>,
    at: Span,
}

/// HowToAuth.
enum Auth {
    NotCoded,
    Esp(Option<Integrity>),
    Ah(Option<Integrity>),
}

impl Coding {
    pub(super) fn read<'a>(params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Self {
        let coded = params.has(&["HowToEncrypt"]);
        let encryption = params.value("HowToEncrypt", cx, |args, cx| encryption(args, Use::Child, cx));
        let encryption = if coded { encryption } else { Some(Encryption::AesCbc(KeyBits::B256)) };
        let auth = params.only(&["HowToAuth"], cx);
        let at = auth.map_or(params.at, |s| s.head());
        let auth = match auth {
            None => Some(Auth::NotCoded),
            Some(s) => Args::of("HowToAuth", s, cx).and_then(|a| a.read_all(cx, how_to_auth)),
        };
        Self { encryption, auth, at }
    }

    /// What both say together.
    pub(super) fn protection(self, cx: &mut Context<'_, '_>) -> Option<Protection> {
        let (encryption, auth) = (self.encryption?, self.auth?);
        let mut wrong = |message: &str, label: &str| {
            cx.findings.error(self.at, message).label(label);
            None
        };
        let protection = match auth {
            Auth::NotCoded if encryption.is_aead() => Protection::Esp { encryption, integrity: None },
            Auth::NotCoded => Protection::Esp { encryption, integrity: Some(Integrity::HmacSha256) },
            Auth::Esp(Some(_)) if encryption.is_aead() => {
                return wrong(
                    "this HowToEncrypt protects integrity itself",
                    "expected HowToAuth ESP NULL, or nothing",
                );
            }
            Auth::Esp(None) if encryption == Encryption::Null => {
                return wrong("neither encryption nor authentication", "expected an HMAC, or a HowToEncrypt");
            }
            Auth::Esp(None) if !encryption.is_aead() => {
                return wrong(
                    "HowToAuth ESP NULL goes with AES_GCM_16 and CHACHA20_POLY1305 only",
                    "expected an HMAC: encryption alone does not protect integrity",
                );
            }
            Auth::Esp(Some(Integrity::AesGmac(_))) if encryption != Encryption::Null => {
                return wrong(
                    "AES-GMAC in ESP goes with HowToEncrypt DoNot only",
                    "expected an HMAC, or AES_GCM_16 with ESP NULL",
                );
            }
            Auth::Esp(integrity) => Protection::Esp { encryption, integrity },
            Auth::Ah(None) => {
                return wrong("HowToAuth AH NULL does not protect anything", "expected an algorithm");
            }
            Auth::Ah(Some(integrity)) if encryption == Encryption::Null => Protection::Ah { integrity },
            Auth::Ah(Some(integrity)) => Protection::AhEsp { integrity, encryption },
        };
        let is_bare = matches!(protection, Protection::Esp { encryption: Encryption::Null, .. });
        if is_bare && !cx.supported.contains(&Feature::NoEncryption) {
            cx.findings
                .error(self.at, "HowToEncrypt DoNot is not supported yet")
                .label(format!("this stack has no {}", Feature::NoEncryption));
            return None;
        }
        if protection.integrity() == Some(Integrity::HmacSha1) {
            cx.findings.warning(self.at, "HMAC_SHA1 is weak").label(SHA1);
        }
        Some(protection)
    }
}

/// `ESP algorithm` or `AH algorithm`.
fn how_to_auth<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Auth> {
    let is_ah = args.choice(&[("ESP", Choice::Is(false)), ("AH", Choice::Needs(true, Feature::Ah))], cx)?;
    let algorithm = args.choice(
        &[
            ("HMAC_SHA2_256_128", Choice::Is(Some(Integrity::HmacSha256))),
            ("HMAC_SHA2_384_192", Choice::Is(Some(Integrity::HmacSha384))),
            ("HMAC_SHA2_512_256", Choice::Is(Some(Integrity::HmacSha512))),
            ("Null", Choice::Is(None)),
            ("HMAC_MD5", Choice::Weak(Some(Integrity::HmacMd5), Feature::WeakAlgorithms)),
            ("HMAC_SHA", Choice::Needs(Some(Integrity::HmacSha1), Feature::HmacSha1)),
            ("HMAC_SHA1", Choice::Needs(Some(Integrity::HmacSha1), Feature::HmacSha1)),
            ("AES128_XCBC_96", Choice::Needs(Some(Integrity::AesXcbc), Feature::AesXcbc)),
            ("AES_GMAC_128", Choice::Needs(Some(Integrity::AesGmac(KeyBits::B128)), Feature::AesGmac)),
            ("AES_GMAC_256", Choice::Needs(Some(Integrity::AesGmac(KeyBits::B256)), Feature::AesGmac)),
        ],
        cx,
    )?;
    Some(if is_ah { Auth::Ah(algorithm) } else { Auth::Esp(algorithm) })
}

/// What a HowToEncrypt is for: not every cipher is for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Child,
    Exchange,
}

/// HowToEncrypt: `AES`, or a cipher with `KeyLength n`, which may be left out.
fn encryption<'a>(args: &mut Args<'a>, of: Use, cx: &mut Context<'a, '_>) -> Option<Encryption> {
    let of_child = |cipher, why| match of {
        Use::Child => Choice::Is(cipher),
        Use::Exchange => Choice::Refused(why),
    };
    let cipher = args.choice(
        &[
            ("AES_GCM_16", Choice::Is(Cipher::Gcm)),
            ("AES_CBC", Choice::Is(Cipher::Cbc)),
            ("AES", Choice::Is(Cipher::Aes)),
            ("AES_CTR", of_child(Cipher::Ctr, "it is for data only")),
            ("CHACHA20_POLY1305", of_child(Cipher::ChaCha, "it is for data only")),
            ("DES", Choice::Weak(Cipher::Des, Feature::WeakAlgorithms)),
            ("3DES", Choice::Weak(Cipher::TripleDes, Feature::WeakAlgorithms)),
            ("DoNot", of_child(Cipher::Null, "an IKE SA is always encrypted")),
        ],
        cx,
    )?;
    let bits = if matches!(cipher, Cipher::Cbc | Cipher::Gcm | Cipher::Ctr) && args.take_if("KeyLength") {
        let middle = match cipher {
            Cipher::Gcm => Choice::Refused("AES-GCM is used with 128 or 256 bits (RFC 8221 section 5)"),
            _ => Choice::Is(KeyBits::B192),
        };
        args.choice(
            &[("128", Choice::Is(KeyBits::B128)), ("192", middle), ("256", Choice::Is(KeyBits::B256))],
            cx,
        )?
    } else {
        KeyBits::B128
    };
    Some(match cipher {
        Cipher::Gcm => Encryption::AesGcm16(bits),
        Cipher::Cbc | Cipher::Aes => Encryption::AesCbc(bits),
        Cipher::Ctr => Encryption::AesCtr(bits),
        Cipher::ChaCha => Encryption::ChaCha20Poly1305,
        Cipher::Null => Encryption::Null,
        Cipher::TripleDes => Encryption::TripleDes,
        Cipher::Des => Encryption::Des,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cipher {
    Aes,
    Cbc,
    Gcm,
    Ctr,
    ChaCha,
    Null,
    TripleDes,
    Des,
}

/// HowToEncap.
pub(super) fn encap<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Encap> {
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
    ("Group21", Choice::Is(Some(Group::Ecp521))),
    ("Group31", Choice::Is(Some(Group::Curve25519))),
    ("Group1", Choice::Weak(Some(Group::Modp768), Feature::WeakAlgorithms)),
    ("Group2", Choice::Weak(Some(Group::Modp1024), Feature::WeakAlgorithms)),
    ("Group5", Choice::Weak(Some(Group::Modp1536), Feature::WeakAlgorithms)),
    ("Group24", Choice::Weak(Some(Group::Modp2048Subgroup256), Feature::WeakAlgorithms)),
];

/// A group or None (`Some(None)`).
pub(super) fn pfs_group<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Option<Group>> {
    if args.take_if("None") { Some(None) } else { args.choice(&GROUPS, cx) }
}

impl Object for ExchangeOffer {
    const KEYWORD: &'static str = "KeyExchangeOffer";
    const REF: &'static str = "KeyExchangeOfferRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        allow_weak(params, cx);
        let coded = params.has(&["HowToEncrypt"]);
        let encryption = params.value("HowToEncrypt", cx, |args, cx| encryption(args, Use::Exchange, cx));
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
                    ("MD5", Choice::Weak((), Feature::WeakAlgorithms)),
                ],
                cx,
            )
        });
        params.ikev1_only("HowToAuthPeers", cx, |args, cx| {
            args.choice(&[("PresharedKey", Choice::Is(())), ("RsaSignature", Choice::Is(()))], cx)
        });
        let minutes =
            params.value("RefreshLifetimeProposed", cx, |a, cx| a.number(LIFETIME.0, LIFETIME.1, cx));
        params.ikev1_only("RefreshLifetimeAccepted", cx, |a, cx| a.range(LIFETIME.0, LIFETIME.1, cx));
        for keyword in ["RefreshLifesizeProposed", "RefreshLifesizeAccepted"] {
            params.value(keyword, cx, |args, cx| args.choice(&[("None", Choice::Is(()))], cx));
        }
        cx.allow_weak = false;
        for (is_sha1, what) in [
            (integrity == Some(Integrity::HmacSha1), "HowToVerifyMsgs HMAC_SHA1_96"),
            (prf == Prf::HmacSha1, "PseudoRandomFunction HMAC_SHA1"),
        ] {
            if is_sha1 {
                cx.findings.warning(params.at, format!("{what} is weak")).label(SHA1);
            }
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
            ("HMAC_MD5_96", Choice::Weak(Integrity::HmacMd5, Feature::WeakAlgorithms)),
            ("HMAC_SHA1_96", Choice::Needs(Integrity::HmacSha1, Feature::HmacSha1)),
            ("AES128_XCBC_96", Choice::Needs(Integrity::AesXcbc, Feature::AesXcbc)),
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
            ("HMAC_MD5", Choice::Weak(Prf::HmacMd5, Feature::WeakAlgorithms)),
            ("HMAC_SHA1", Choice::Needs(Prf::HmacSha1, Feature::HmacSha1)),
            ("AES128_XCBC", Choice::Needs(Prf::AesXcbc, Feature::AesXcbc)),
        ],
        cx,
    )
}
