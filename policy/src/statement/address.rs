//! IpAddr, IpAddrSet, IpAddrGroup and the places where an address can stand.

use super::params::Params;
use super::value::Args;
use crate::model::{AddressRange, AddressSet, Name};
use crate::resolve::{Context, Object, Table, Tables};
use crate::source::Span;
use ipnet::IpNet;
use std::net::IpAddr;
use std::str::FromStr;

/// IpAddr.
pub(crate) struct Single(pub(crate) AddressRange);
/// IpAddrSet.
pub(crate) struct Set(pub(crate) AddressRange);
/// IpAddrGroup.
pub(crate) struct Group(pub(crate) AddressSet);

/// Words that stand for a whole family, and whether IPv4 and IPv6 belong to them.
type Words = &'static [(&'static str, bool, bool)];
/// In filter rules.
const ALL: Words = &[("All", true, true), ("All4", true, false), ("All6", false, true)];
/// In security endpoints.
const ANY: Words = &[("Any", true, true), ("Any4", true, false), ("Any6", false, true)];
/// Where one address, prefix or range is meant.
const NONE: Words = &[];

impl Object for Single {
    const KEYWORD: &'static str = "IpAddr";
    const REF: &'static str = "IpAddrRef";
    fn read<'a>(_: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        if !params.has(&["Addr"]) {
            params.missing("Addr", cx);
        }
        params.value("Addr", cx, single).map(|a| Self(AddressRange::single(a)))
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.addresses
    }
}

impl Object for Set {
    const KEYWORD: &'static str = "IpAddrSet";
    const REF: &'static str = "IpAddrSetRef";
    fn read<'a>(_: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let Some(statement) = params.only(&["Prefix", "Range"], cx) else {
            params.missing("Prefix or Range", cx);
            return None;
        };
        if statement.is("Prefix") {
            let read = |args: &mut Args<'a>, cx: &mut Context<'a, '_>| {
                let expected = "address/length";
                let word = args.word(expected, cx)?;
                prefix(word.text).or_else(|| args.wrong(word, expected, cx))
            };
            Args::of("Prefix", statement, cx)?.read_all(cx, read).map(Self)
        } else {
            let read = |args: &mut Args<'a>, cx: &mut Context<'a, '_>| {
                let expected = "address-address, the lower one first";
                let word = args.word(expected, cx)?;
                range(word.text).or_else(|| args.wrong(word, expected, cx))
            };
            Args::of("Range", statement, cx)?.read_all(cx, read).map(Self)
        }
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.address_sets
    }
}

impl Object for Group {
    const KEYWORD: &'static str = "IpAddrGroup";
    const REF: &'static str = "IpAddrGroupRef";
    fn read<'a>(_: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let members = params.each(&[Single::KEYWORD, Single::REF, Set::KEYWORD, Set::REF]);
        if members.is_empty() {
            params.missing("at least one IpAddr or IpAddrSet", cx);
        }
        let mut ranges = Vec::new();
        for member in members {
            if member.is(Single::KEYWORD) || member.is(Single::REF) {
                ranges.extend(cx.object::<Single>(member).map(|a| a.0));
            } else {
                ranges.extend(cx.object::<Set>(member).map(|a| a.0));
            }
        }
        AddressSet::new(ranges).map(Self)
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.address_groups
    }
}

/// One address.
pub(crate) fn single<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<IpAddr> {
    let expected = "an IPv4 or IPv6 address";
    let word = args.word(expected, cx)?;
    IpAddr::from_str(word.text).ok().or_else(|| args.wrong(word, expected, cx))
}

/// Address, prefix, range, or one of `words`.
fn spec<'a>(args: &mut Args<'a>, words: Words, cx: &mut Context<'a, '_>) -> Option<AddressSet> {
    let names: Vec<_> = words.iter().map(|(name, ..)| *name).collect();
    let expected = match names.first() {
        Some(first) => format!("an address, address/length, address-address or {first}"),
        None => "an address, address/length or address-address".to_owned(),
    };
    let word = args.word(&expected, cx)?;
    if let Some((_, v4, v6)) = words.iter().find(|(name, ..)| word.text.eq_ignore_ascii_case(name)) {
        let v4 = v4.then_some(AddressRange::ALL_V4);
        let v6 = v6.then_some(AddressRange::ALL_V6);
        return AddressSet::new(v4.into_iter().chain(v6).collect());
    }
    let found = IpAddr::from_str(word.text)
        .ok()
        .map(AddressRange::single)
        .or_else(|| prefix(word.text))
        .or_else(|| range(word.text));
    found.map(AddressSet::one).or_else(|| args.wrong(word, &expected, cx))
}

/// Address, prefix or range of a remote identity.
pub(crate) fn identity_range<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<AddressRange> {
    spec(args, NONE, cx)?.ranges().first().copied()
}

fn prefix(text: &str) -> Option<AddressRange> {
    IpNet::from_str(text).ok().map(AddressRange::prefix)
}

fn range(text: &str) -> Option<AddressRange> {
    let (low, high) = text.split_once('-')?;
    AddressRange::new(low.parse().ok()?, high.parse().ok()?)
}

/// Keywords of one address parameter: value, IpAddr, IpAddrSet, IpAddrSet, IpAddrGroup.
pub(crate) struct Place {
    value: &'static str,
    single: &'static str,
    set: &'static str,
    set_ref: &'static str,
    group: &'static str,
    words: Words,
    /// IPv4-mapped and IPv4-compatible IPv6 addresses may stand here.
    embedded: bool,
}

/// Local side of a filter rule.
pub(crate) const SOURCE: Place = Place {
    value: "IpSourceAddr",
    single: "IpSourceAddrRef",
    set: "IpSourceAddrSet",
    set_ref: "IpSourceAddrSetRef",
    group: "IpSourceAddrGroupRef",
    words: ALL,
    embedded: true,
};
/// Remote side of a filter rule.
pub(crate) const DESTINATION: Place = Place {
    value: "IpDestAddr",
    single: "IpDestAddrRef",
    set: "IpDestAddrSet",
    set_ref: "IpDestAddrSetRef",
    group: "IpDestAddrGroupRef",
    words: ALL,
    embedded: true,
};
/// Addresses of a security endpoint.
pub(crate) const LOCATION: Place = Place {
    value: "Location",
    single: "LocationRef",
    set: "LocationSet",
    set_ref: "LocationSetRef",
    group: "LocationGroupRef",
    words: ANY,
    embedded: false,
};
/// Own end of a manual tunnel.
pub(crate) const MANUAL_LOCAL: Place = Place {
    value: "LocalSecurityEndpointAddr",
    single: "LocalSecurityEndpointAddrRef",
    set: "LocalSecurityEndpointAddrSet",
    set_ref: "LocalSecurityEndpointAddrSetRef",
    group: "LocalSecurityEndpointAddrGroupRef",
    words: ANY,
    embedded: false,
};
/// The peer's end of a manual tunnel.
pub(crate) const MANUAL_REMOTE: Place = Place {
    value: "RemoteSecurityEndpointAddr",
    single: "RemoteSecurityEndpointAddrRef",
    set: "RemoteSecurityEndpointAddrSet",
    set_ref: "RemoteSecurityEndpointAddrSetRef",
    group: "RemoteSecurityEndpointAddrGroupRef",
    words: ANY,
    embedded: false,
};
/// Own data endpoint of a LocalDynVpnRule.
pub(crate) const LOCAL_IP: Place = Place {
    value: "LocalIp",
    single: "LocalIpRef",
    set: "LocalIpSet",
    set_ref: "LocalIpSetRef",
    group: "LocalIpGroupRef",
    words: NONE,
    embedded: false,
};
/// The peer's data endpoint of a LocalDynVpnRule.
pub(crate) const REMOTE_IP: Place = Place {
    value: "RemoteIp",
    single: "RemoteIpRef",
    set: "RemoteIpSet",
    set_ref: "RemoteIpSetRef",
    group: "RemoteIpGroupRef",
    words: NONE,
    embedded: false,
};

/// What a parameter says.
pub(crate) enum Coded {
    /// It does not stand there.
    Absent,
    /// It stands there and is wrong, which was said.
    Faulty,
    /// Its value and its place.
    Is(AddressSet, Span),
}

impl Place {
    /// Reads the parameter in any of its forms.
    pub(crate) fn read<'a>(&self, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Coded {
        let keywords = [self.value, self.single, self.set, self.set_ref, self.group];
        let Some(statement) = params.only(&keywords, cx) else { return Coded::Absent };
        let set = if statement.is(self.single) {
            cx.reference::<Single>(self.single, statement).map(|a| AddressSet::one(a.0))
        } else if statement.is(self.set_ref) {
            cx.reference::<Set>(self.set_ref, statement).map(|a| AddressSet::one(a.0))
        } else if statement.is(self.group) {
            cx.reference::<Group>(self.group, statement).map(|g| g.0.clone())
        } else if statement.block.is_some() && statement.is(self.set) {
            cx.inline::<Set>(statement).map(|a| AddressSet::one(a.0))
        } else if statement.block.is_some() {
            cx.inline::<Single>(statement).map(|a| AddressSet::one(a.0))
        } else {
            let keyword = if statement.is(self.set) { self.set } else { self.value };
            Args::of(keyword, statement, cx)
                .and_then(|args| args.read_all(cx, |a, cx| spec(a, self.words, cx)))
        };
        let at = statement.head();
        match set {
            Some(set) if self.embedded => Coded::Is(set, at),
            Some(set) => {
                let native = set.ranges().iter().all(|r| refuse_embedded(*r, at, cx).is_some());
                if native { Coded::Is(set, at) } else { Coded::Faulty }
            }
            None => Coded::Faulty,
        }
    }
}

/// IPv4-mapped addresses and those in ::/96 mean something in filters and identities only.
fn refuse_embedded(range: AddressRange, at: Span, cx: &mut Context<'_, '_>) -> Option<AddressRange> {
    let embedded = match (range.low(), range.high()) {
        (IpAddr::V6(low), IpAddr::V6(high)) => {
            let head = |a: std::net::Ipv6Addr| a.to_bits() >> 32;
            head(low) == head(high) && matches!(head(low), 0 | 0xffff)
        }
        _ => false,
    };
    if embedded {
        cx.findings
            .error(at, "an IPv6 address that embeds an IPv4 address cannot stand here")
            .label("only filter rules and identities may have ::ffff:a.b.c.d and ::a.b.c.d");
        return None;
    }
    Some(range)
}
