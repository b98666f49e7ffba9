//! Identities: which ones a rule accepts (spec: RemoteSecurityEndpoint), and how they are shown.

use super::types::{Identity, IdentityPattern};
use std::fmt;

impl IdentityPattern {
    /// Whether the pattern accepts an identity. Names of hosts and domains are compared without regard to case
    /// (RFC 5280 section 7.2), everything else byte by byte.
    #[must_use]
    pub fn accepts(&self, identity: &Identity) -> bool {
        match (self, identity) {
            (Self::Exact(own), other) => same(own, other),
            (Self::Addresses(range), Identity::Address(address)) => range.contains(*address),
            (Self::FqdnSuffix(suffix), Identity::Fqdn(name))
            | (Self::UserFqdnSuffix(suffix), Identity::UserFqdn(name)) => ends_with(name, suffix),
            (Self::Addresses(_) | Self::FqdnSuffix(_) | Self::UserFqdnSuffix(_), _) => false,
        }
    }

    /// The identity, if the pattern accepts one only.
    #[must_use]
    pub const fn exact(&self) -> Option<&Identity> {
        match self {
            Self::Exact(identity) => Some(identity),
            Self::Addresses(_) | Self::FqdnSuffix(_) | Self::UserFqdnSuffix(_) => None,
        }
    }
}

/// Whether two identities are the same one.
pub(crate) fn same(one: &Identity, other: &Identity) -> bool {
    match (one, other) {
        (Identity::Fqdn(a), Identity::Fqdn(b)) => a.eq_ignore_ascii_case(b),
        // The part before the `@` is the mailbox's own business and may depend on case (RFC 5280 section 7.5).
        (Identity::UserFqdn(a), Identity::UserFqdn(b)) => match (a.rsplit_once('@'), b.rsplit_once('@')) {
            (Some((box_a, host_a)), Some((box_b, host_b))) => {
                box_a == box_b && host_a.eq_ignore_ascii_case(host_b)
            }
            _ => a == b,
        },
        (Identity::Dn(a), Identity::Dn(b)) => super::pki::same_dn(a, b),
        _ => one == other,
    }
}

fn ends_with(name: &str, suffix: &str) -> bool {
    // On bytes: a cut through a character of several bytes must not panic.
    let (name, suffix) = (name.as_bytes(), suffix.as_bytes());
    name.len() > suffix.len() && name[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
}

/// As an operator reads it: control characters escaped, binary in hex (threats T10).
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Fqdn(name) | Self::UserFqdn(name) => write!(f, "{}", name.escape_debug()),
            Self::Dn(der) => f.write_str(&super::pki::show_dn(der)),
            Self::KeyId(id) => write!(f, "KeyID:{}", hex::encode(&id[..id.len().min(64)])),
        }
    }
}

impl fmt::Display for IdentityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(identity) => write!(f, "{identity}"),
            Self::Addresses(range) => write!(f, "{}-{}", range.low, range.high),
            Self::FqdnSuffix(suffix) | Self::UserFqdnSuffix(suffix) => {
                write!(f, "*{}", suffix.escape_debug())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ike::types::AddressRange;

    fn fqdn(name: &str) -> Identity {
        Identity::Fqdn(name.to_owned())
    }

    #[test]
    fn wildcards_take_names_below_a_domain_and_not_the_domain() {
        let pattern = IdentityPattern::FqdnSuffix(".example.net".to_owned());
        assert!(pattern.accepts(&fqdn("gw1.EXAMPLE.net")));
        assert!(!pattern.accepts(&fqdn(".example.net")));
        assert!(!pattern.accepts(&fqdn("gw1.example.net.evil")));
        assert!(!pattern.accepts(&fqdn("é")));
        assert!(!pattern.accepts(&Identity::UserFqdn("gw1.example.net".to_owned())));
    }

    #[test]
    fn an_address_range_takes_addresses_of_its_family_only() {
        let range =
            AddressRange { low: "0.0.0.0".parse().unwrap(), high: "255.255.255.255".parse().unwrap() };
        let pattern = IdentityPattern::Addresses(range);
        assert!(pattern.accepts(&Identity::Address("192.0.2.7".parse().unwrap())));
        assert!(!pattern.accepts(&Identity::Address("2001:db8::7".parse().unwrap())));
        assert!(!pattern.accepts(&fqdn("192.0.2.7")));
    }

    #[test]
    fn mailboxes_keep_their_case() {
        let pattern = IdentityPattern::Exact(Identity::UserFqdn("Ann@example.net".to_owned()));
        assert!(pattern.accepts(&Identity::UserFqdn("Ann@Example.NET".to_owned())));
        assert!(!pattern.accepts(&Identity::UserFqdn("ann@example.net".to_owned())));
    }

    #[test]
    fn t10_hostile_names_are_shown_escaped() {
        assert_eq!(fqdn("a\u{1b}[2J\n\0").to_string(), r"a\u{1b}[2J\n\0");
        assert_eq!(Identity::KeyId(vec![0xff; 60_000]).to_string().len(), "KeyID:".len() + 128);
    }
}
