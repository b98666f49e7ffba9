//! KeyExchangePolicy, its groups and rules, KeyExchangeAction.

use super::endpoint::{self, shared_key};
use super::members::{self, members};
use super::params::Params;
use super::value::{Args, Choice};
use crate::ast::Statement;
use crate::feature::Feature;
use crate::model::key_exchange::{Revocation, UrlLookup, Validation};
use crate::model::{
    AuthMethod, ExchangeAction, ExchangeOffer, ExchangeRule, KeyExchangePolicy, LocalEndpoint, Name,
    NonEmpty, RemoteEndpoint,
};
use crate::resolve::{Context, Object, Table, Tables};
use crate::source::Span;
use std::sync::Arc;
use std::time::Duration;

const IKEV1: &str = "IKEv1 is not implemented";

/// KeyExchangeGroup.
pub(crate) struct Group {
    name: Name,
    rules: Vec<(Span, Arc<ExchangeRule>)>,
}

impl Object for Group {
    const KEYWORD: &'static str = "KeyExchangeGroup";
    const REF: &'static str = "KeyExchangeGroupRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        Some(Self { name, rules: params.objects(cx) })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.exchange_groups
    }
}

impl members::Group<ExchangeRule> for Group {
    fn name(&self) -> &Name {
        &self.name
    }
    fn rules(&self) -> &[(Span, Arc<ExchangeRule>)] {
        &self.rules
    }
}

impl members::Rule for ExchangeRule {
    fn name(&self) -> &Name {
        &self.name
    }
}

/// The KeyExchangePolicy block.
pub(crate) fn policy<'a>(
    statement: &'a Statement<'a>,
    cx: &mut Context<'a, '_>,
) -> Option<KeyExchangePolicy> {
    let mut params = Params::enter("KeyExchangePolicy", statement, cx)?;
    let allow_nat = params.value("AllowNat", cx, Args::yes_no).unwrap_or(false);
    let keepalive = params.value("NatKeepAliveInterval", cx, |args, cx| args.number(0, 999, cx));
    let initiate = params.value("HowToInitiate", cx, how_to_initiate).unwrap_or(true);
    let liveness = params.value("LivenessInterval", cx, |args, cx| args.number(0, 86_400, cx));
    let checks = validation(&mut params, cx);
    let members = members::<ExchangeRule, Group>(&mut params, cx);
    params.finish(cx);
    let default = KeyExchangePolicy::default();
    let seconds = |n: Option<u32>, or: Duration| n.map_or(or, |n| Duration::from_secs(u64::from(n)));
    Some(KeyExchangePolicy {
        nat_keepalive: seconds(keepalive, default.nat_keepalive),
        liveness: seconds(liveness, default.liveness),
        validation: checks,
        rules: members
            .into_iter()
            .map(|m| ExchangeRule {
                group: m.group,
                initiate: m.rule.action.initiate.unwrap_or(initiate),
                allow_nat: m.rule.action.allow_nat.unwrap_or(allow_nat),
                filter_by_identity: (m.rule.action.validation.filter_by_identity)
                    .or(checks.filter_by_identity)
                    .unwrap_or(false),
                ..Arc::unwrap_or_clone(m.rule)
            })
            .collect(),
    })
}

/// HowToInitiate; IKEv2 is our default, Main that of the original.
fn how_to_initiate<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<bool> {
    args.choice(
        &[
            ("IKEv2", Choice::Is(true)),
            ("DoNot", Choice::Is(false)),
            ("Main", Choice::NotYet(IKEV1)),
            ("Aggressive", Choice::NotYet(IKEV1)),
        ],
        cx,
    )
}

/// Parameters about identities and certificates that policy and action share.
fn validation<'a>(params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Validation {
    let filter_by_identity = params.value("FilterByIdentity", cx, |args, cx| {
        args.choice(&[("No", Choice::Is(false)), ("Yes", Choice::Needs(true, Feature::FilterByIdentity))], cx)
    });
    let bypass_ip = params.value("BypassIpValidation", cx, Args::yes_no);
    if bypass_ip == Some(false) {
        cx.findings
            .warning(params.at, "BypassIpValidation No has no effect")
            .label("an IpAddr identity is never compared with the packet's address");
    }
    let url_lookup = params.value("CertificateURLLookupPreference", cx, |args, cx| {
        args.choice(
            &[
                ("Tolerate", Choice::Is(UrlLookup::Tolerate)),
                ("Allow", Choice::Refused("no address that a peer names is ever asked")),
                ("Disallow", Choice::Is(UrlLookup::Disallow)),
            ],
            cx,
        )
    });
    let revocation = params.value("RevocationChecking", cx, |args, cx| {
        let signatures = Feature::Signatures;
        args.choice(
            &[
                ("None", Choice::Needs(Revocation::None, signatures)),
                ("Loose", Choice::Needs(Revocation::Loose, signatures)),
                ("Strict", Choice::Needs(Revocation::Strict, signatures)),
            ],
            cx,
        )
    });
    Validation { filter_by_identity, bypass_ip, url_lookup, revocation }
}

impl Object for ExchangeRule {
    const KEYWORD: &'static str = "KeyExchangeRule";
    const REF: &'static str = "KeyExchangeRuleRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        for (object, reference) in [
            (endpoint::Local::KEYWORD, endpoint::Local::REF),
            (endpoint::Remote::KEYWORD, endpoint::Remote::REF),
            (ExchangeAction::KEYWORD, ExchangeAction::REF),
        ] {
            if !params.has(&[object, reference]) {
                params.missing(&format!("{object} or {reference}"), cx);
            }
        }
        let local = params.object::<endpoint::Local>(cx);
        let remote = params.object::<endpoint::Remote>(cx);
        let action = params.object::<ExchangeAction>(cx);
        let key_coded = params.has(&["SharedKey"]);
        let shared_key = params.value("SharedKey", cx, shared_key);
        // Of an action that is wrong nothing can be said about keys; the usual one needs a key.
        let needs_key = action.as_ref().is_none_or(|(_, a)| a.auth == AuthMethod::PresharedKey);
        if needs_key && !key_coded {
            params.missing("SharedKey", cx);
        }
        let mut identity_missing = |at: Span| {
            cx.findings
                .error(at, "the security endpoint of a KeyExchangeRule needs an Identity")
                .label("this one has none");
        };
        let local = local.and_then(|(at, local)| match &local.identity {
            Some(identity) => Some(LocalEndpoint {
                name: local.name.clone(),
                identity: identity.clone(),
                location: local.location.clone(),
            }),
            None => {
                if !local.faulty {
                    identity_missing(at);
                }
                None
            }
        });
        let remote = remote.and_then(|(at, remote)| match &remote.identity {
            Some(identity) => Some(RemoteEndpoint {
                name: remote.name.clone(),
                identity: identity.clone(),
                location: remote.location.clone(),
                ca_labels: remote.ca_labels.clone(),
            }),
            None => {
                if !remote.faulty {
                    identity_missing(at);
                }
                None
            }
        });
        let (_, action) = action?;
        Some(Self {
            name,
            group: None,
            local: Arc::new(local?),
            remote: Arc::new(remote?),
            // Where the action is silent the policy decides, see `policy`.
            initiate: action.initiate.unwrap_or(true),
            allow_nat: action.allow_nat.unwrap_or(false),
            filter_by_identity: action.validation.filter_by_identity.unwrap_or(false),
            shared_key: if needs_key { Some(shared_key?) } else { shared_key },
            action,
        })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.exchange_rules
    }
}

impl Object for ExchangeAction {
    const KEYWORD: &'static str = "KeyExchangeAction";
    const REF: &'static str = "KeyExchangeActionRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let initiate = params.value("HowToInitiate", cx, how_to_initiate);
        for keyword in ["HowToRespondIKEv1", "HowToRespond"] {
            params.ikev1_only(keyword, cx, |args, cx| {
                args.choice(
                    &[("Main", Choice::Is(())), ("Aggressive", Choice::Is(())), ("Either", Choice::Is(()))],
                    cx,
                )
            });
        }
        let respond = params.value("HowToRespondIKEv2", cx, Args::yes_no).unwrap_or(true);
        let auth = params.value("HowToAuthMe", cx, |args, cx| {
            let signatures = Feature::Signatures;
            args.choice(
                &[
                    ("PresharedKey", Choice::Is(AuthMethod::PresharedKey)),
                    ("RsaSignature", Choice::Needs(AuthMethod::RsaSignature, signatures)),
                    ("ECDSA-256", Choice::Needs(AuthMethod::Ecdsa256, signatures)),
                    ("ECDSA-384", Choice::Needs(AuthMethod::Ecdsa384, signatures)),
                    ("ECDSA-521", Choice::Needs(AuthMethod::Ecdsa521, signatures)),
                    ("DigitalSignature", Choice::Needs(AuthMethod::DigitalSignature, signatures)),
                ],
                cx,
            )
        });
        let allow_nat = params.value("AllowNat", cx, Args::yes_no);
        let reauth = params.value("ReauthInterval", cx, |args, cx| args.number(0, 9_999_999, cx));
        let validation = validation(params, cx);
        let coded = params.has(&[ExchangeOffer::KEYWORD, ExchangeOffer::REF]);
        let offers = params.objects::<ExchangeOffer>(cx);
        if !coded {
            params.missing("at least one KeyExchangeOffer", cx);
        }
        Some(Self {
            name,
            initiate,
            respond,
            allow_nat,
            auth: auth.unwrap_or(AuthMethod::PresharedKey),
            validation,
            reauth_interval: reauth.filter(|m| *m > 0).map(|m| Duration::from_secs(u64::from(m) * 60)),
            offers: NonEmpty::new(offers.into_iter().map(|(_, o)| (*o).clone()).collect())?,
        })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.exchange_actions
    }
}
