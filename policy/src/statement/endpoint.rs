//! LocalSecurityEndpoint, RemoteSecurityEndpoint, RemoteIdentity and SharedKey.

use super::address::{self, Coded, LOCATION};
use super::params::Params;
use super::value::{Args, Choice};
use crate::ast::Word;
use crate::escaped;
use crate::feature::Feature;
use crate::model::{AddressRange, AddressSet, Identity, IdentityPattern, Name, Secret};
use crate::resolve::{Context, Object, Table, Tables};
use std::sync::Arc;
use zeroize::Zeroizing;

/// LocalSecurityEndpoint; a local start needs no identity.
pub(crate) struct Local {
    pub(crate) name: Name,
    pub(crate) identity: Option<Identity>,
    /// An Identity stands there and is wrong, which was said.
    pub(crate) faulty: bool,
    pub(crate) location: AddressSet,
}

/// RemoteSecurityEndpoint.
pub(crate) struct Remote {
    pub(crate) name: Name,
    pub(crate) identity: Option<IdentityPattern>,
    /// As [`Local::faulty`].
    pub(crate) faulty: bool,
    pub(crate) location: AddressSet,
    pub(crate) ca_labels: Vec<String>,
}

impl Object for Local {
    const KEYWORD: &'static str = "LocalSecurityEndpoint";
    const REF: &'static str = "LocalSecurityEndpointRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let identity = params.value("Identity", cx, own_identity);
        let faulty = identity.is_none() && params.has(&["Identity"]);
        Some(Self { name, identity, faulty, location: location(params, cx) })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.local_endpoints
    }
}

impl Object for Remote {
    const KEYWORD: &'static str = "RemoteSecurityEndpoint";
    const REF: &'static str = "RemoteSecurityEndpointRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let coded = params.value("Identity", cx, pattern);
        let object = params.object::<IdentityPattern>(cx);
        if let (true, Some((at, _))) = (params.has(&["Identity"]), &object) {
            cx.findings
                .error(*at, "Identity and RemoteIdentity in one RemoteSecurityEndpoint")
                .label("expected one of them");
        }
        if let Some(word) = params.each(&["CaLabel"]).first().map(|s| s.keyword) {
            cx.uses(Feature::Signatures, word);
        }
        let ca_labels = params.values("CaLabel", cx, |args, cx| args.rest("a label", cx));
        let identity = coded.or_else(|| object.map(|(_, o)| Arc::unwrap_or_clone(o)));
        let coded = ["Identity", IdentityPattern::KEYWORD, IdentityPattern::REF];
        let faulty = identity.is_none() && params.has(&coded);
        let ca_labels = ca_labels.into_iter().map(|(_, label)| label).collect();
        Some(Self { name, identity, faulty, location: location(params, cx), ca_labels })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.remote_endpoints
    }
}

impl Object for IdentityPattern {
    const KEYWORD: &'static str = "RemoteIdentity";
    const REF: &'static str = "RemoteIdentityRef";
    fn read<'a>(_: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        if !params.has(&["Identity"]) {
            params.missing("Identity", cx);
        }
        params.value("Identity", cx, pattern)
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.remote_identities
    }
}

/// Location in any form; the default is any IPv4 address.
fn location<'a>(params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> AddressSet {
    match LOCATION.read(params, cx) {
        Coded::Is(set, _) => set,
        Coded::Absent | Coded::Faulty => AddressSet::one(AddressRange::ALL_V4),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Address,
    Fqdn,
    User,
    KeyId,
    Dn,
}

const KINDS: [(&str, Choice<Kind>); 5] = [
    ("IpAddr", Choice::Is(Kind::Address)),
    ("Fqdn", Choice::Is(Kind::Fqdn)),
    ("UserAtFqdn", Choice::Is(Kind::User)),
    ("KeyID", Choice::Is(Kind::KeyId)),
    ("X500dn", Choice::Needs(Kind::Dn, Feature::Signatures)),
];

/// An identity that this side proves: no wildcard.
fn own_identity<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Identity> {
    match args.choice(&KINDS, cx)? {
        Kind::Address => address::single(args, cx).map(Identity::Address),
        Kind::Fqdn => {
            let word = args.word("a domain name", cx)?;
            exact(word, is_domain, "a domain name", args, cx).map(Identity::Fqdn)
        }
        Kind::User => {
            let word = args.word("user@domain", cx)?;
            exact(word, is_user, "user@domain", args, cx).map(Identity::UserAtFqdn)
        }
        Kind::KeyId => key_id(args, cx).map(Identity::KeyId),
        Kind::Dn => distinguished(args, cx).map(Identity::Dn),
    }
}

/// Identities of a peer, wildcards among them.
fn pattern<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<IdentityPattern> {
    match args.choice(&KINDS, cx)? {
        Kind::Address => {
            let range = address::identity_range(args, cx)?;
            Some(match range.as_single() {
                // The unspecified address stands for any of its family.
                Some(a) if a.is_unspecified() && a.is_ipv4() => {
                    IdentityPattern::Addresses(AddressRange::ALL_V4)
                }
                Some(a) if a.is_unspecified() => IdentityPattern::Addresses(AddressRange::ALL_V6),
                Some(a) => IdentityPattern::Exact(Identity::Address(a)),
                None => IdentityPattern::Addresses(range),
            })
        }
        Kind::Fqdn => {
            let expected = "a domain name or *.domain";
            let word = args.word(expected, cx)?;
            if let Some(suffix) = word.text.strip_prefix('*')
                && suffix.strip_prefix('.').is_some_and(is_domain)
            {
                return Some(IdentityPattern::FqdnSuffix(suffix.to_owned()));
            }
            let name = exact(word, is_domain, expected, args, cx)?;
            Some(IdentityPattern::Exact(Identity::Fqdn(name)))
        }
        Kind::User => {
            let expected = "user@domain or *@domain";
            let word = args.word(expected, cx)?;
            if let Some(suffix) = word.text.strip_prefix('*')
                && suffix.strip_prefix('@').is_some_and(is_domain)
            {
                return Some(IdentityPattern::UserSuffix(suffix.to_owned()));
            }
            let name = exact(word, is_user, expected, args, cx)?;
            Some(IdentityPattern::Exact(Identity::UserAtFqdn(name)))
        }
        Kind::KeyId => Some(IdentityPattern::Exact(Identity::KeyId(key_id(args, cx)?))),
        Kind::Dn => Some(IdentityPattern::Exact(Identity::Dn(distinguished(args, cx)?))),
    }
}

/// The rest of the line is a name.
fn distinguished<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Vec<u8>> {
    let expected = "a distinguished name such as CN=gw1.example.net, O=Example, C=US";
    let first = args.peek();
    let text = args.rest(expected, cx)?;
    let name = crate::dn::der(&text);
    if let (None, Some(word)) = (&name, first) {
        cx.findings
            .error(word.span, format!("`{}` is no distinguished name", escaped(&text)))
            .label(format!("expected {expected}"));
    }
    name
}

fn exact<'a>(
    word: Word<'a>,
    is_valid: fn(&str) -> bool,
    expected: &str,
    args: &Args<'a>,
    cx: &mut Context<'a, '_>,
) -> Option<String> {
    if is_valid(word.text) { Some(word.text.to_owned()) } else { args.wrong(word, expected, cx) }
}

fn is_domain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

fn is_user(text: &str) -> bool {
    text.split_once('@').is_some_and(|(user, domain)| {
        (1..=64).contains(&user.len())
            && user.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'@' | b'*'))
            && is_domain(domain)
    })
}

fn key_id<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Vec<u8>> {
    secret_bytes(args, cx).map(|bytes| bytes.to_vec())
}

/// SharedKey.
pub(super) fn shared_key<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Secret> {
    secret_bytes(args, cx).and_then(Secret::new)
}

/// Text of one form to bytes.
type Read = fn(&str) -> Option<Zeroizing<Vec<u8>>>;

/// `Ascii text`, `Ebcdic text` or `Hex digits`. No message repeats the words: they are secret.
fn secret_bytes<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Zeroizing<Vec<u8>>> {
    let expected = "Ascii text, Ebcdic text or Hex digits";
    let format = args.word(expected, cx)?;
    let is = |name: &str| format.text.eq_ignore_ascii_case(name);
    let (read, label): (Read, _) = if is("Hex") {
        (hex_bytes, "an even number of hexadecimal digits")
    } else if is("Ascii") {
        (ascii_bytes, "ASCII characters, without blanks")
    } else if is("Ebcdic") {
        (ebcdic_bytes, "printable ASCII characters, without blanks")
    } else {
        cx.findings
            .error(format.span, format!("the value of {} does not begin with its form", args.keyword))
            .label(format!("expected {expected}"));
        return None;
    };
    let word = args.word(label, cx)?;
    let bytes = read(word.text);
    if bytes.is_none() {
        cx.findings
            .error(word.span, format!("not a value for {}", args.keyword))
            .label(format!("expected {label}"));
    }
    bytes
}

/// What the printable ASCII characters from `!` to `~` are in EBCDIC, code page 1047.
const EBCDIC: [u8; 94] = [
    0x5a, 0x7f, 0x7b, 0x5b, 0x6c, 0x50, 0x7d, 0x4d, 0x5d, 0x5c, 0x4e, 0x6b, 0x60, 0x4b, 0x61, // ! to /
    0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, // digits
    0x7a, 0x5e, 0x4c, 0x7e, 0x6e, 0x6f, 0x7c, // : to @
    0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xd1, 0xd2, 0xd3, 0xd4, // A to M
    0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, // N to Z
    0xad, 0xe0, 0xbd, 0x5f, 0x6d, 0x79, // [ to `
    0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x91, 0x92, 0x93, 0x94, // a to m
    0x95, 0x96, 0x97, 0x98, 0x99, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, // n to z
    0xc0, 0x4f, 0xd0, 0xa1, // { to ~
];

/// The text as the original would hold it: code page 1047.
fn ebcdic_bytes(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    for byte in text.bytes() {
        bytes.push(*EBCDIC.get(usize::from(byte.checked_sub(b'!')?))?);
    }
    Some(bytes)
}

fn ascii_bytes(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    text.is_ascii().then(|| Zeroizing::new(text.as_bytes().to_vec()))
}

fn hex_bytes(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |b: u8| char::from(b).to_digit(16);
    let mut bytes = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for &[high, low] in pairs {
        bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
    }
    Some(bytes)
}
