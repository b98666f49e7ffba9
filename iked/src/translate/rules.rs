//! Rules and settings of the IKE engine, and what it is told to initiate.

use super::Keyring;
use crate::ike::command::{ActivationMethod, Initiate};
use crate::ike::crypto::SignatureMethod;
use crate::ike::pki::Revocation;
use crate::ike::rules::{
    Authentication, ChildOffer, ChildRule, ExchangeRule, IkeOffer, Initiation, Rules, Settings,
};
use crate::ike::types::{
    AddressRange, Encryption, Group, Identity, IdentityPattern, Integrity, Mode, Prf, Secret, TrafficSelector,
};
use policy::Policy;
use policy::compile;
use policy::explain::Upper;
use policy::model::{
    self, AddressSet, Encap, FilterRule, LocalDynVpnRule, Moment, Protection, Protocol, Service, Validation,
};
use policy::select::{self, NoStart, Packet, Start, Traffic};
use stack::control::{Acquire, UpperLayer};

/// Rules that are named when they lack something.
const SHOWN: usize = 20;

/// The KeyExchangeRules of a policy, in search order, with what of the keyring they want.
///
/// # Errors
/// The keyring lacks something; a line for each rule that wants it.
pub fn exchange(policy: &Policy, keyring: Option<&Keyring>) -> Result<Vec<ExchangeRule>, String> {
    let Some(exchange) = &policy.key_exchange else { return Ok(Vec::new()) };
    let (mut rules, mut missing) = (Vec::with_capacity(exchange.rules.len()), Vec::new());
    for rule in &exchange.rules {
        match exchange_rule(rule, &exchange.validation, keyring) {
            Ok(rule) => rules.push(rule),
            Err(why) => missing.push(format!("KeyExchangeRule {}: {why}", rule.name)),
        }
    }
    if missing.is_empty() {
        return Ok(rules);
    }
    let more = missing.len().saturating_sub(SHOWN);
    missing.truncate(SHOWN);
    if more > 0 {
        missing.push(format!("and {more} more"));
    }
    Err(missing.join("\n"))
}

/// Every rule of a policy that is in force at an instant, in search order; `exchange` is of [`exchange`].
#[must_use]
pub fn rules(policy: &Policy, exchange: &[ExchangeRule], at: Moment) -> Rules {
    Rules {
        exchange: exchange.to_vec(),
        child: policy.filter.rules.iter().filter(|rule| rule.in_force(at)).flat_map(child_rules).collect(),
    }
}

/// The settings that a policy has a say in, the others as in `base`.
#[must_use]
pub fn settings(policy: &Policy, base: &Settings) -> Settings {
    match &policy.key_exchange {
        Some(exchange) => {
            Settings { nat_keepalive: exchange.nat_keepalive, liveness: exchange.liveness, ..base.clone() }
        }
        None => base.clone(),
    }
}

/// What to negotiate for a LocalDynVpnRule.
pub fn start_by_rule(
    policy: &Policy,
    rule: &LocalDynVpnRule,
    method: ActivationMethod,
) -> Result<Initiate, NoStart> {
    let start = select::by_rule(policy, rule)?;
    Ok(Initiate { local_dyn_vpn_rule: Some(rule.name.to_string()), method, ..initiate(&start) })
}

/// What to negotiate for an outbound packet that met an anchor.
pub fn start_on_demand(policy: &Policy, acquire: &Acquire) -> Result<Initiate, NoStart> {
    let packet = Packet {
        source: acquire.source,
        destination: acquire.destination,
        upper: match acquire.upper {
            UpperLayer::Ports { source, destination } => {
                Upper::Ports { protocol: acquire.protocol, source, destination, opens: false }
            }
            UpperLayer::Typed { kind, code } => Upper::Typed { protocol: acquire.protocol, kind, code },
            UpperLayer::Open => Upper::Other(acquire.protocol),
        },
    };
    let start = select::by_packet(policy, &acquire.rule, &packet)?;
    Ok(Initiate { acquire: Some(acquire.id), ..initiate(&start) })
}

fn initiate(start: &Start<'_>) -> Initiate {
    let (local, remote) = selectors(&start.traffic);
    Initiate {
        rule: start.rule.name.to_string(),
        local_endpoint: start.local_endpoint,
        remote_endpoint: start.remote_endpoint,
        remote_id: None,
        nat_port: None,
        local: vec![local],
        remote: vec![remote],
        local_dyn_vpn_rule: None,
        method: ActivationMethod::OnDemand,
        acquire: None,
        initial_contact: true,
    }
}

fn exchange_rule(
    rule: &model::ExchangeRule,
    validation: &Validation,
    keyring: Option<&Keyring>,
) -> Result<ExchangeRule, String> {
    let authentication = authentication(rule, validation, keyring)?;
    let local_id = match (identity(&rule.local.identity), &authentication) {
        // As it is written in the certificate: peers may compare octets.
        (Identity::Dn(_), Authentication::Signature { own, .. }) => Identity::Dn(own.subject().to_vec()),
        (identity, _) => identity,
    };
    Ok(ExchangeRule {
        name: rule.name.to_string(),
        action: rule.action.name.to_string(),
        local_id,
        local_location: location(&rule.local.location),
        remote_id: pattern(&rule.remote.identity),
        remote_location: location(&rule.remote.location),
        initiate: rule.initiate,
        respond: rule.action.respond,
        authentication,
        offers: rule.action.offers.iter().map(ike_offer).collect(),
        allow_nat: rule.allow_nat,
        filter_by_identity: rule.filter_by_identity,
        reauth_interval: rule.action.reauth_interval,
    })
}

/// How both sides prove who they are. The product ignores a SharedKey where this side signs.
fn authentication(
    rule: &model::ExchangeRule,
    of_policy: &Validation,
    keyring: Option<&Keyring>,
) -> Result<Authentication, String> {
    let method = match rule.action.auth {
        model::AuthMethod::PresharedKey => {
            let key = rule.shared_key.as_ref().ok_or("SharedKey is missing")?;
            return Ok(Authentication::SharedKey(Secret(key.expose().to_vec())));
        }
        model::AuthMethod::RsaSignature => SignatureMethod::Rsa,
        model::AuthMethod::Ecdsa256 => SignatureMethod::Ecdsa256,
        model::AuthMethod::Ecdsa384 => SignatureMethod::Ecdsa384,
        model::AuthMethod::Ecdsa521 => SignatureMethod::Ecdsa521,
        model::AuthMethod::DigitalSignature => SignatureMethod::Digital,
    };
    let keyring =
        keyring.ok_or("HowToAuthMe wants certificates, and the configuration names no [ike] keyring")?;
    let coded = rule.action.validation.revocation.or(of_policy.revocation);
    let revocation = match coded.unwrap_or(model::Revocation::Loose) {
        model::Revocation::None => Revocation::None,
        model::Revocation::Loose => Revocation::Loose,
        model::Revocation::Strict => Revocation::Strict,
    };
    Ok(Authentication::Signature {
        own: keyring.credential(&identity(&rule.local.identity), method)?,
        method,
        trust: keyring.trust(&rule.remote.ca_labels, revocation)?,
    })
}

fn pattern(pattern: &model::IdentityPattern) -> IdentityPattern {
    match pattern {
        model::IdentityPattern::Exact(id) => IdentityPattern::Exact(identity(id)),
        model::IdentityPattern::Addresses(range) => IdentityPattern::Addresses(addresses(*range)),
        model::IdentityPattern::FqdnSuffix(suffix) => IdentityPattern::FqdnSuffix(suffix.clone()),
        model::IdentityPattern::UserSuffix(suffix) => IdentityPattern::UserFqdnSuffix(suffix.clone()),
    }
}

fn ike_offer(offer: &model::ExchangeOffer) -> IkeOffer {
    IkeOffer {
        encryption: encryption(offer.encryption),
        integrity: offer.integrity.map(integrity),
        prf: match offer.prf {
            model::Prf::HmacSha256 => Prf::HmacSha256,
            model::Prf::HmacSha384 => Prf::HmacSha384,
            model::Prf::HmacSha512 => Prf::HmacSha512,
            model::Prf::HmacSha1 => Prf::HmacSha1,
            model::Prf::HmacMd5 => Prf::HmacMd5,
            model::Prf::AesXcbc => Prf::AesXcbc,
        },
        group: group(offer.group),
        lifetime: offer.lifetime,
    }
}

/// One child rule for each service and family: selectors of two services must not be mixed.
fn child_rules(rule: &FilterRule) -> Vec<ChildRule> {
    let Some(vpn) = rule.dyn_vpn() else { return Vec::new() };
    let start = rule.local_start.as_deref();
    let template = ChildRule {
        rule: rule.name.to_string(),
        vpn_action: vpn.name.to_string(),
        local: Vec::new(),
        remote: Vec::new(),
        remote_identity: rule.remote_identity.as_deref().map(pattern),
        initiation: match vpn.initiation {
            model::Initiation::Either => Initiation::Either,
            model::Initiation::LocalOnly => Initiation::LocalOnly,
            model::Initiation::RemoteOnly => Initiation::RemoteOnly,
            model::Initiation::None => Initiation::None,
        },
        modes: vpn.encap.iter().copied().map(mode).collect(),
        pfs_initiate: vpn.pfs_initiate.map(group),
        pfs_accept: vpn.pfs_accept.iter().map(|g| g.map(group)).collect(),
        offers: vpn.offers.iter().filter_map(child_offer).collect(),
        vpn_life: vpn.vpn_life,
        local_endpoint: start.and_then(|s| s.local_endpoint),
        remote_endpoint: start.and_then(|s| s.remote_endpoint),
    };
    let mut made: Vec<(&Service, bool, ChildRule)> = Vec::new();
    for (service, local, remote) in compile::pairs(rule) {
        let (local, remote) = selectors(&Traffic { local, remote, protocol: service.protocol });
        let family = local.addresses.low.is_ipv4();
        let known = made.iter_mut().find(|(s, f, _)| std::ptr::eq(*s, service) && *f == family);
        let child = match known {
            Some((_, _, child)) => child,
            None => {
                made.push((service, family, template.clone()));
                match made.last_mut() {
                    Some((_, _, child)) => child,
                    None => continue,
                }
            }
        };
        if !child.local.contains(&local) {
            child.local.push(local);
        }
        if !child.remote.contains(&remote) {
            child.remote.push(remote);
        }
    }
    made.into_iter().map(|(_, _, child)| child).collect()
}

fn child_offer(offer: &model::DataOffer) -> Option<ChildOffer> {
    let (encryption, integrity) = match offer.protection {
        // A cipher without encryption, to the wire (RFC 4543 section 3).
        Protection::Esp { integrity: Some(model::Integrity::AesGmac(bits)), .. } => {
            (Encryption::AesGmac(bits.bits()), None)
        }
        Protection::Esp { encryption: cipher, integrity: auth } => (encryption(cipher), auth.map(integrity)),
        Protection::Ah { integrity: auth } => (Encryption::Absent, Some(integrity(auth))),
        // IKEv2 cannot negotiate both; the language refuses it.
        Protection::AhEsp { .. } => return None,
    };
    Some(ChildOffer {
        encryption,
        integrity,
        esn: true,
        lifetime: offer.lifetime,
        lifesize_bytes: offer.lifesize_bytes,
    })
}

/// The selectors of both sides. Type and code stand in both, as one range (RFC 7296 section 3.13.1).
fn selectors(traffic: &Traffic) -> (TrafficSelector, TrafficSelector) {
    let any = (0, u16::MAX);
    let (protocol, local, remote) = match traffic.protocol {
        Protocol::Any | Protocol::Opaque => (0, any, any),
        Protocol::Ports { number, source, destination } => {
            (number, (source.low(), source.high()), (destination.low(), destination.high()))
        }
        Protocol::Typed { number, kind, code } => {
            let kind = kind.map_or((0, u8::MAX), |k| (k.low(), k.high()));
            let code = code.map_or((0, u8::MAX), |c| (c.low(), c.high()));
            let both = (u16::from_be_bytes([kind.0, code.0]), u16::from_be_bytes([kind.1, code.1]));
            (number, both, both)
        }
        Protocol::Other(number) => (number, any, any),
    };
    let selector = |range, (port_low, port_high)| TrafficSelector {
        addresses: addresses(range),
        protocol,
        port_low,
        port_high,
    };
    (selector(traffic.local, local), selector(traffic.remote, remote))
}

fn location(set: &AddressSet) -> Vec<AddressRange> {
    set.ranges().iter().copied().map(addresses).collect()
}

const fn addresses(range: model::AddressRange) -> AddressRange {
    AddressRange { low: range.low(), high: range.high() }
}

fn identity(id: &model::Identity) -> Identity {
    match id {
        model::Identity::Address(address) => Identity::Address(*address),
        model::Identity::Fqdn(name) => Identity::Fqdn(name.clone()),
        model::Identity::UserAtFqdn(name) => Identity::UserFqdn(name.clone()),
        model::Identity::KeyId(bytes) => Identity::KeyId(bytes.clone()),
        model::Identity::Dn(der) => Identity::Dn(der.clone()),
    }
}

const fn mode(encap: Encap) -> Mode {
    match encap {
        Encap::Tunnel => Mode::Tunnel,
        Encap::Transport => Mode::Transport,
    }
}

/// An offer for an IKE SA with a cipher that is not for it is no suite, and is passed over.
const fn encryption(encryption: model::Encryption) -> Encryption {
    match encryption {
        model::Encryption::AesCbc(bits) => Encryption::AesCbc(bits.bits()),
        model::Encryption::AesGcm16(bits) => Encryption::AesGcm16(bits.bits()),
        model::Encryption::AesCtr(bits) => Encryption::AesCtr(bits.bits()),
        model::Encryption::ChaCha20Poly1305 => Encryption::ChaCha20Poly1305,
        model::Encryption::Null => Encryption::Null,
        model::Encryption::TripleDes => Encryption::TripleDes,
        model::Encryption::Des => Encryption::Des,
    }
}

const fn integrity(integrity: model::Integrity) -> Integrity {
    match integrity {
        model::Integrity::HmacSha256 => Integrity::HmacSha256,
        model::Integrity::HmacSha384 => Integrity::HmacSha384,
        model::Integrity::HmacSha512 => Integrity::HmacSha512,
        model::Integrity::HmacSha1 => Integrity::HmacSha1,
        model::Integrity::AesXcbc => Integrity::AesXcbc96,
        model::Integrity::AesGmac(bits) => Integrity::AesGmac(bits.bits()),
        model::Integrity::HmacMd5 => Integrity::HmacMd5,
    }
}

const fn group(group: model::Group) -> Group {
    match group {
        model::Group::Modp768 => Group::Modp768,
        model::Group::Modp1024 => Group::Modp1024,
        model::Group::Modp1536 => Group::Modp1536,
        model::Group::Modp2048 => Group::Modp2048,
        model::Group::Modp2048Subgroup256 => Group::Modp2048Subgroup256,
        model::Group::Ecp256 => Group::Ecp256,
        model::Group::Ecp384 => Group::Ecp384,
        model::Group::Ecp521 => Group::Ecp521,
        model::Group::Curve25519 => Group::Curve25519,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOON, SAMPLE, policy};
    use super::*;
    use std::net::IpAddr;
    use std::time::Duration;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
    fn range(low: &str, high: &str) -> AddressRange {
        AddressRange { low: ip(low), high: ip(high) }
    }
    fn acquire(rule: &str, destination: &str, protocol: u8, ports: (u16, u16)) -> Acquire {
        Acquire {
            id: 9,
            rule: rule.into(),
            source: ip("192.0.2.80"),
            destination: ip(destination),
            protocol,
            upper: UpperLayer::Ports { source: ports.0, destination: ports.1 },
        }
    }

    fn rules_of(policy: &Policy) -> Rules {
        rules(policy, &exchange(policy, None).unwrap(), NOON)
    }

    #[test]
    fn exchange_rules_keep_order_and_take_the_policys_defaults() {
        let rules = rules_of(&policy(SAMPLE));
        let [gates, clients] = &rules.exchange[..] else { panic!("{:?}", rules.exchange) };
        assert_eq!((gates.name.as_str(), clients.name.as_str()), ("gates", "clients"));
        assert!(gates.allow_nat && !clients.allow_nat);
        assert!(gates.initiate && !gates.respond && clients.respond);
        let key = Secret(vec![0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        assert_eq!(gates.authentication, Authentication::SharedKey(key));
        assert_eq!(gates.reauth_interval, Some(Duration::from_secs(720 * 60)));
        assert_eq!(gates.offers[0].encryption, Encryption::AesGcm16(128));
        assert_eq!((gates.offers[0].integrity, gates.offers[0].group), (None, Group::Curve25519));
        assert_eq!(
            (gates.offers[0].prf, gates.offers[0].lifetime),
            (Prf::HmacSha384, Duration::from_secs(36_000))
        );
        assert_eq!(gates.offers[1].encryption, Encryption::AesCbc(256));
        assert_eq!(clients.remote_id, IdentityPattern::FqdnSuffix(".example.net".into()));
        assert_eq!(clients.remote_location, [range("203.0.113.0", "203.0.113.255")]);
    }

    #[test]
    fn settings_come_from_the_policy_where_it_has_them() {
        let base = Settings { retransmit_tries: 3, ..Settings::default() };
        let settings = settings(&policy(SAMPLE), &base);
        assert_eq!(settings.liveness, Duration::from_secs(15));
        assert_eq!(settings.nat_keepalive, Duration::from_secs(7));
        assert_eq!(settings.retransmit_tries, 3);
    }

    #[test]
    fn services_of_one_rule_do_not_mix_their_selectors() {
        let rules = rules_of(&policy(SAMPLE));
        let web: Vec<_> = rules.child.iter().filter(|c| c.rule == "web").collect();
        let [tcp, udp] = web[..] else { panic!("{web:?}") };
        assert_eq!((tcp.local[0].protocol, tcp.local[0].port_low, tcp.local[0].port_high), (6, 443, 443));
        assert_eq!((udp.local[0].port_low, udp.remote[0].port_low), (5000, 6000));
        assert_eq!((tcp.local.len(), tcp.remote.len()), (1, 1));
        assert_eq!(tcp.modes, [Mode::Transport]);
        assert_eq!((tcp.pfs_initiate, &tcp.pfs_accept[..]), (Some(Group::Curve25519), &[None][..]));
        assert_eq!(tcp.offers[0].lifetime, Duration::from_secs(3600));
    }

    #[test]
    fn a_gateway_rule_names_its_endpoints() {
        let rules = rules_of(&policy(SAMPLE));
        let branch = rules.child.iter().find(|c| c.rule == "branch").unwrap();
        assert_eq!(branch.local_endpoint, Some(ip("192.0.2.1")));
        assert_eq!(branch.remote_endpoint, Some(ip("203.0.113.99")));
        assert_eq!((branch.initiation, branch.vpn_life), (Initiation::LocalOnly, None));
        assert_eq!(branch.pfs_accept, [Some(Group::Ecp256), None]);
        assert_eq!(branch.offers[0].lifesize_bytes, Some(102_400));
        assert_eq!(branch.offers[0].integrity, Some(Integrity::HmacSha384));
    }

    #[test]
    fn a_command_starts_between_the_endpoints_of_the_anchor() {
        let policy = policy(SAMPLE);
        let rule = policy.local_dyn_vpn_rule("branchNet").unwrap();
        let start = start_by_rule(&policy, rule, ActivationMethod::Auto).unwrap();
        assert_eq!((start.local_endpoint, start.remote_endpoint), (ip("192.0.2.1"), ip("203.0.113.99")));
        assert_eq!(start.local[0].addresses, range("192.0.2.128", "192.0.2.255"));
        assert_eq!((start.rule.as_str(), start.method), ("branch", ActivationMethod::Auto));
        assert_eq!(start.local_dyn_vpn_rule.as_deref(), Some("branchNet"));
    }

    #[test]
    fn a_command_without_endpoints_in_policy_uses_the_data_endpoints() {
        let policy = policy(SAMPLE);
        let rule = policy.local_dyn_vpn_rule("oneClient").unwrap();
        let start = start_by_rule(&policy, rule, ActivationMethod::Command).unwrap();
        assert_eq!((start.local_endpoint, start.remote_endpoint), (ip("192.0.2.80"), ip("203.0.113.5")));
        assert_eq!((start.local[0].port_low, start.remote[0].port_high), (443, u16::MAX));
        let nowhere = policy.local_dyn_vpn_rule("nowhere").unwrap();
        let all = start_by_rule(&policy, nowhere, ActivationMethod::Command);
        assert_eq!(all, Err(NoStart::NoFilterRule));
    }

    #[test]
    fn on_demand_takes_addresses_from_the_packet_and_single_ports_from_the_rule() {
        let policy = policy(SAMPLE);
        let start = start_on_demand(&policy, &acquire("web", "203.0.113.9", 6, (443, 51_000))).unwrap();
        assert_eq!(start.remote[0].addresses, range("203.0.113.9", "203.0.113.9"));
        assert_eq!((start.local[0].port_low, start.local[0].port_high), (443, 443));
        assert_eq!((start.remote[0].port_low, start.remote[0].port_high), (0, u16::MAX));
        assert_eq!((start.acquire, start.method), (Some(9), ActivationMethod::OnDemand));
        // A range of ports: that of the packet.
        let start = start_on_demand(&policy, &acquire("web", "203.0.113.9", 17, (5003, 6000))).unwrap();
        assert_eq!((start.local[0].port_low, start.local[0].port_high), (5003, 5003));
    }

    #[test]
    fn on_demand_is_refused_where_policy_says_so_or_nothing_fits() {
        let policy = policy(SAMPLE);
        let ask = |rule: &str, to: &str, protocol| {
            start_on_demand(&policy, &acquire(rule, to, protocol, (443, 1))).unwrap_err()
        };
        assert_eq!(ask("branch", "198.51.100.1", 6), NoStart::NotOnDemand);
        assert_eq!(ask("ping", "203.0.113.9", 1), NoStart::NoFilterRule);
        assert_eq!(ask("gone", "203.0.113.9", 1), NoStart::NoFilterRule);
        assert_eq!(ask("web", "203.0.113.9", 47), NoStart::NoFilterRule);
    }

    #[test]
    fn icmp_types_and_codes_become_one_range() {
        let traffic = |kind, code| Traffic {
            local: model::AddressRange::ALL_V4,
            remote: model::AddressRange::ALL_V4,
            protocol: Protocol::Typed { number: 1, kind, code },
        };
        let byte = |low, high| model::ByteRange::new(low, high);
        let ports = |t: &Traffic| {
            let (local, remote) = selectors(t);
            assert_eq!((local.port_low, local.port_high), (remote.port_low, remote.port_high));
            (local.port_low, local.port_high)
        };
        assert_eq!(ports(&traffic(None, None)), (0, 0xffff));
        assert_eq!(ports(&traffic(byte(8, 8), None)), (0x0800, 0x08ff));
        assert_eq!(ports(&traffic(byte(3, 3), byte(1, 4))), (0x0301, 0x0304));
    }
}
