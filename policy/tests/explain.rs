//! Which rule decides about a packet, and why the ones before it do not.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use policy::explain::{Miss, Outcome, Packet, Upper, Verdict, answer, matching, trace};
use policy::model::Moment;
use policy::{Policy, Source, load};

const NOON: Moment = Moment { unix: 1_795_176_000, local_offset: 0 }; // Friday 2026-11-20 12:00 UTC

fn policy(text: &str) -> Policy {
    match load(&[Source::common("test.conf", text.into())]) {
        Ok((policy, _)) => policy,
        Err(report) => panic!("{report}"),
    }
}

const TEXT: &str = "
IpFilterPolicy
{
  AllowOnDemand    Yes
  IpFilterRuleRef  nights
  IpFilterRuleRef  web
  IpFilterRuleRef  branch
  IpFilterRuleRef  telnet
  IpFilterRuleRef  transit
}
IpFilterRule nights
{
  IpTimeCondition
  {
    TimeOfDayRange  22:00-06:00
    TimeZone        UTC
  }
  IpGenericFilterActionRef  permit
}
IpFilterRule web
{
  IpSourceAddr  192.0.2.80
  IpService
  {
    Protocol         tcp
    SourcePortRange  443
    Direction        Bidirectional InboundConnect
  }
  IpGenericFilterActionRef  permit
}
IpFilterRule branch
{
  IpSourceAddr  192.0.2.80
  IpDestAddr    198.51.100.0/24
  IpGenericFilterAction
  {
    IpFilterAction  IpSec
  }
  IpDynVpnAction d
  {
    IpDataOffer
    {
    }
  }
}
IpFilterRule telnet
{
  IpService
  {
    Protocol              tcp
    DestinationPortRange  23
    Routing               Routed
  }
  IpGenericFilterAction
  {
    IpFilterAction  Deny
  }
}
IpFilterRule transit
{
  IpService
  {
    Routing  Routed
  }
  IpGenericFilterActionRef  permit
}
IpGenericFilterAction permit
{
  IpFilterAction  Permit
}
";

fn out(source: &str, destination: &str, upper: Upper) -> Packet {
    Packet {
        inbound: false,
        routed: false,
        security_class: 255,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        upper,
        fragment: false,
    }
}

fn tcp(source: u16, destination: u16, opens: bool) -> Upper {
    Upper::Ports { protocol: 6, source, destination, opens }
}

fn misses(policy: &Policy, packet: Packet) -> Vec<(String, Verdict)> {
    let wanted = |m: &Verdict| !matches!(m, Verdict::Miss(Miss::Direction | Miss::Family));
    let steps = trace(policy, NOON, packet).filter(|s| wanted(&s.verdict));
    steps.map(|s| (s.filter.rule.name.to_string(), s.verdict)).collect()
}

#[test]
fn the_search_is_told_step_by_step() {
    let policy = policy(TEXT);
    let packet = out("192.0.2.80", "198.51.100.7", tcp(443, 50_000, false));
    assert_eq!(
        misses(&policy, packet),
        [("nights".to_owned(), Verdict::Miss(Miss::Time)), ("web".to_owned(), Verdict::Match)]
    );
    let syn = Packet { upper: tcp(443, 50_000, true), ..packet };
    assert_eq!(
        misses(&policy, syn),
        [
            ("nights".to_owned(), Verdict::Miss(Miss::Time)),
            ("web".to_owned(), Verdict::Miss(Miss::Connect)),
            ("branch".to_owned(), Verdict::Match)
        ]
    );
    let at_night = Moment { unix: NOON.unix + 11 * 3_600, ..NOON };
    assert!(
        matches!(answer(&policy, at_night, packet), Outcome::Permit(f) if f.rule.name.as_str() == "nights")
    );
    let names: Vec<_> = matching(&policy, NOON, packet).map(|f| f.rule.name.to_string()).collect();
    assert_eq!(names, ["web", "branch"]);
}

#[test]
fn a_tunnel_that_is_needed_is_named_or_why_there_is_none() {
    let policy = policy(TEXT);
    let packet = out("192.0.2.80", "198.51.100.7", Upper::Other(47));
    let Outcome::Dynamic(filter, Some(Err(why))) = answer(&policy, NOON, packet) else {
        panic!("not a tunnel")
    };
    assert_eq!(filter.rule.name.as_str(), "branch");
    assert!(why.to_string().contains("no KeyExchangeRule"), "{why}");
}

#[test]
fn a_fragment_without_ports_is_kept_back_where_a_deny_could_have_meant_it() {
    let policy = policy(TEXT);
    let base = out("10.0.0.1", "10.0.0.2", Upper::Other(6));
    let fragment = Packet { routed: true, fragment: true, ..base };
    assert!(
        matches!(answer(&policy, NOON, fragment), Outcome::FragmentDeny(f) if f.rule.name.as_str() == "telnet")
    );
    let udp = Packet { upper: Upper::Other(17), ..fragment };
    assert!(matches!(answer(&policy, NOON, udp), Outcome::Permit(f) if f.rule.name.as_str() == "transit"));
    assert_eq!(answer(&policy, NOON, base), Outcome::ImplicitDeny);
}
