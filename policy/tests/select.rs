//! What an SA that an outbound packet asks for takes from the packet, and what from its rule.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use policy::explain::Upper;
use policy::model::{ByteRange, PortRange, Protocol};
use policy::select::{NoStart, Packet, by_packet};
use policy::{Policy, Source, load};

/// A policy of one rule with these services and this local start.
fn policy(services: &str, start: &str) -> Policy {
    let text = format!(
        "IpFilterPolicy {{\n AllowOnDemand Yes\n IpFilterRuleRef r\n}}
        IpFilterRule r
        {{
          {services}
          IpGenericFilterAction {{\n IpFilterAction IpSec\n }}
          IpDynVpnAction d {{\n IpDataOffer {{\n }}\n }}
          IpLocalStartAction s {{\n {start}\n }}
        }}
        KeyExchangePolicy
        {{
          KeyExchangeRule k
          {{
            LocalSecurityEndpoint {{\n Identity Ipaddr 192.0.2.1\n }}
            RemoteSecurityEndpoint {{\n Identity Ipaddr 203.0.113.9\n }}
            SharedKey Ascii secret
            KeyExchangeAction a
            {{
              HowToInitiate IKEv2
              KeyExchangeOffer {{\n HowToAuthPeers PresharedKey\n DHGroup Group19\n }}
            }}
          }}
        }}"
    );
    match load(&[Source::common("test.conf", text.into())]) {
        Ok((policy, _)) => policy,
        Err(report) => panic!("{report}"),
    }
}

fn asks(policy: &Policy, upper: Upper) -> Result<Protocol, NoStart> {
    let packet =
        Packet { source: "192.0.2.1".parse().unwrap(), destination: "203.0.113.9".parse().unwrap(), upper };
    by_packet(policy, "r", &packet).map(|start| start.traffic.protocol)
}

fn typed(number: u8, kind: Option<u8>, code: Option<u8>) -> Protocol {
    let single = |n| ByteRange::new(n, n);
    Protocol::Typed { number, kind: kind.and_then(single), code: code.and_then(single) }
}

const fn icmp(kind: u8, code: u8) -> Upper {
    Upper::Typed { protocol: 1, kind, code }
}

#[test]
fn types_and_codes_are_the_packets_where_the_local_start_says_so() {
    let service = "IpService {\n Protocol ICMP\n }";
    let of_rule = policy(service, "");
    assert_eq!(asks(&of_rule, icmp(3, 1)), Ok(typed(1, None, None)));
    let kind = policy(service, "IcmpTypeGranularity Packet");
    assert_eq!(asks(&kind, icmp(3, 1)), Ok(typed(1, Some(3), None)));
    let both = policy(service, "IcmpTypeGranularity Packet\n IcmpCodeGranularity Packet");
    assert_eq!(asks(&both, icmp(3, 1)), Ok(typed(1, Some(3), Some(1))));
    // A code is one of a type: of no type there is none.
    let code = policy(service, "IcmpCodeGranularity Packet");
    assert_eq!(asks(&code, icmp(3, 1)), Ok(typed(1, None, None)));
}

#[test]
fn a_protocol_of_the_packet_brings_what_is_asked_of_it() {
    let start = "ProtocolGranularity Packet\n IcmpTypeGranularity Packet\n RemotePortGranularity Packet\n MIPv6TypeGranularity Packet";
    let any = policy("IpService {\n Protocol All\n }", start);
    assert_eq!(asks(&any, icmp(8, 0)), Ok(typed(1, Some(8), None)));
    assert_eq!(asks(&any, Upper::Typed { protocol: 135, kind: 5, code: 0 }), Ok(typed(135, Some(5), None)));
    assert_eq!(asks(&any, Upper::Typed { protocol: 89, kind: 5, code: 0 }), Ok(typed(89, None, None)));
    assert_eq!(asks(&any, Upper::Other(47)), Ok(Protocol::Other(47)));
    let port = PortRange::new(443, 443).unwrap();
    let tcp = Upper::Ports { protocol: 6, source: 1, destination: 443, opens: true };
    let ports = Protocol::Ports { number: 6, source: PortRange::ANY, destination: port };
    assert_eq!(asks(&any, tcp), Ok(ports));
}

#[test]
fn the_service_is_the_one_that_holds_the_packet() {
    let two =
        policy("IpService {\n Protocol ICMP\n Type 8\n }\n IpService {\n Protocol ICMP\n Type 3\n }", "");
    assert_eq!(asks(&two, icmp(3, 1)), Ok(typed(1, Some(3), None)));
    assert_eq!(asks(&two, icmp(5, 0)), Err(NoStart::NoFilterRule));
    // A fragment shows neither type nor ports: it is of a service that asks for none.
    assert_eq!(asks(&two, Upper::Other(1)), Err(NoStart::NoFilterRule));
    let whole = policy("IpService {\n Protocol ICMP\n }", "IcmpTypeGranularity Packet");
    assert_eq!(asks(&whole, Upper::Other(1)), Ok(typed(1, None, None)));
}
