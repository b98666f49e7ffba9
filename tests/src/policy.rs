//! Policies in the product's language, written for the scenarios.

use crate::scenario::{Options, SECRET};
use std::fmt::Write as _;

/// Two addresses between which everything is protected.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// Name of the rule.
    pub name: &'a str,
    /// Own address.
    pub local: &'a str,
    /// The peer's address.
    pub remote: &'a str,
    /// Name of the LocalDynVpnRule; empty: none, only the peers start.
    pub start: &'a str,
}

/// A policy that protects everything between the pairs, and lets the pairs of [`Options::permits`] talk in clear.
#[must_use]
pub fn policy(pairs: &[Pair<'_>], options: &Options) -> String {
    let mut text = protection(pairs, options);
    for (number, (local, remote)) in options.permits.iter().enumerate() {
        let _ = write!(
            text,
            "
IpFilterRule open{number}
{{
  IpSourceAddr  {local}
  IpDestAddr    {remote}
  IpService
  {{
    Protocol   all
    Direction  Bidirectional
    Routing    Local
  }}
  IpGenericFilterActionRef  open
}}
"
        );
    }
    if !options.permits.is_empty() {
        text.push_str("\nIpGenericFilterAction open\n{\n  IpFilterAction  Permit\n}\n");
    }
    text
}

fn protection(pairs: &[Pair<'_>], options: &Options) -> String {
    let demand = if options.on_demand { "Yes" } else { "No" };
    let mut text = format!("IpFilterPolicy\n{{\n  FilterLogging  On\n  AllowOnDemand  {demand}\n");
    for p in pairs {
        let _ = writeln!(text, "  IpFilterRuleRef  {}", p.name);
    }
    for number in 0..options.permits.len() {
        let _ = writeln!(text, "  IpFilterRuleRef  open{number}");
    }
    let _ = write!(
        text,
        "}}\n\nKeyExchangePolicy\n{{\n  AllowNat  Yes\n  LivenessInterval  {}\n",
        options.liveness_secs
    );
    for p in pairs {
        let _ = writeln!(text, "  KeyExchangeRuleRef  kx-{}", p.name);
    }
    text.push_str("}\n\nLocalDynVpnPolicy\n{\n");
    for p in pairs.iter().filter(|p| !p.start.is_empty()) {
        let _ = write!(
            text,
            "  LocalDynVpnRule {}\n  {{\n    LocalIp   {}\n    RemoteIp  {}\n    Protocol  all\n  }}\n",
            p.start, p.local, p.remote
        );
    }
    text.push_str("}\n");
    for p in pairs {
        let _ = write!(
            text,
            "
IpFilterRule {name}
{{
  IpSourceAddr  {local}
  IpDestAddr    {remote}
  IpService
  {{
    Protocol   all
    Direction  Bidirectional
    Routing    Local
  }}
  IpGenericFilterActionRef  guarded
  IpDynVpnActionRef         gcmTunnel
}}

KeyExchangeRule kx-{name}
{{
  LocalSecurityEndpoint
  {{
    Identity  IpAddr {local}
    Location  {local}
  }}
  RemoteSecurityEndpoint
  {{
    Identity  IpAddr {remote}
    Location  {remote}
  }}
  KeyExchangeActionRef  kxStrong
  SharedKey             Ascii {SECRET}
}}
",
            name = p.name,
            local = p.local,
            remote = p.remote,
        );
    }
    let _ = write!(
        text,
        "
IpGenericFilterAction guarded
{{
  IpFilterAction   IpSec
  IpFilterLogging  LogDeny
}}

IpDynVpnAction gcmTunnel
{{
  Initiation       Either
  HowToEncapIKEv2  Tunnel
  IpDataOffer
  {{
    HowToEncap               Tunnel
    HowToEncrypt             AES_GCM_16 KeyLength 128
    HowToAuth                ESP NULL
    RefreshLifetimeProposed  {minutes}
  }}
  IpDataOffer
  {{
    HowToEncap               Tunnel
    HowToEncrypt             AES_CBC KeyLength 256
    HowToAuth                ESP HMAC_SHA2_256_128
    RefreshLifetimeProposed  {minutes}
  }}
{more}}}

KeyExchangeAction kxStrong
{{
  HowToInitiate  IKEv2
  HowToAuthMe    {auth}
  KeyExchangeOffer
  {{
    HowToEncrypt             AES_GCM_16 KeyLength 128
    PseudoRandomFunction     HMAC_SHA2_256
    DHGroup                  Group31
    RefreshLifetimeProposed  {ike_minutes}
  }}
  KeyExchangeOffer
  {{
    HowToEncrypt          AES_CBC KeyLength 256
    HowToVerifyMsgs       HMAC_SHA2_256_128
    PseudoRandomFunction  HMAC_SHA2_256
    DHGroup               Group19
  }}
  KeyExchangeOffer
  {{
    HowToEncrypt          AES_CBC KeyLength 256
    HowToVerifyMsgs       HMAC_SHA2_512_256
    PseudoRandomFunction  HMAC_SHA2_512
    DHGroup               Group21
  }}
{exchanges}}}
",
        auth = options.keyring.as_ref().map_or("PresharedKey", |(how, _)| how),
        minutes = options.child_minutes,
        exchanges = options.exchange_offers.iter().map(exchange_offer).collect::<String>(),
        more = options.offers.iter().map(offer).collect::<String>(),
        ike_minutes = options.ike_minutes,
    );
    text
}

/// One more offer for child SAs.
fn offer((encrypt, auth): &(&str, &str)) -> String {
    format!(
        "  IpDataOffer\n  {{\n    AllowWeak     Yes\n    HowToEncrypt  {encrypt}\n    HowToAuth     {auth}\n  }}\n"
    )
}

/// A KeyExchangeOffer that may be weak.
#[derive(Debug, Clone, Copy)]
pub struct ExchangeOffer {
    /// HowToEncrypt.
    pub encrypt: &'static str,
    /// HowToVerifyMsgs.
    pub verify: &'static str,
    /// PseudoRandomFunction.
    pub prf: &'static str,
    /// DHGroup.
    pub group: &'static str,
}

fn exchange_offer(offer: &ExchangeOffer) -> String {
    let ExchangeOffer { encrypt, verify, prf, group } = offer;
    format!(
        "  KeyExchangeOffer\n  {{\n    AllowWeak             Yes\n    HowToEncrypt          {encrypt}\n    \
         HowToVerifyMsgs       {verify}\n    PseudoRandomFunction  {prf}\n    DHGroup               {group}\n  }}\n"
    )
}

/// A policy that denies everything, GRE first; what the XCF needs is not policy's to deny.
pub const DENY_ALL: &str = "\
IpFilterPolicy
{
  IpFilterRule tunnels
  {
    IpSourceAddr  All
    IpDestAddr    All
    IpService
    {
      Protocol   47
      Direction  Bidirectional
      Routing    Either
    }
    IpGenericFilterAction
    {
      IpFilterAction  Deny
    }
  }
  IpFilterRule nothing
  {
    IpSourceAddr  All
    IpDestAddr    All
    IpService
    {
      Protocol   all
      Direction  Bidirectional
      Routing    Either
    }
    IpGenericFilterAction
    {
      IpFilterAction  Deny
    }
  }
}
";
