//! KeyExchangePolicy, its groups and rules, KeyExchangeAction.

use super::endpoint::{self, shared_key};
use super::members::{self, members};
use super::params::Params;
use super::value::{Args, Choice};
use crate::ast::Statement;
use crate::model::{
    ExchangeAction, ExchangeOffer, ExchangeRule, KeyExchangePolicy, LocalEndpoint, Name, NonEmpty,
    RemoteEndpoint,
};
use crate::resolve::{Context, Object, Table, Tables};
use crate::source::Span;
use std::sync::Arc;
use std::time::Duration;

const IKEV1: &str = "IKEv1 is not implemented";
const SIGNATURES: &str = "signatures and certificates are not implemented";

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
    validation(&mut params, cx);
    let members = members::<ExchangeRule, Group>(&mut params, cx);
    params.finish(cx);
    let default = KeyExchangePolicy::default();
    let seconds = |n: Option<u32>, or: Duration| n.map_or(or, |n| Duration::from_secs(u64::from(n)));
    Some(KeyExchangePolicy {
        nat_keepalive: seconds(keepalive, default.nat_keepalive),
        liveness: seconds(liveness, default.liveness),
        rules: members
            .into_iter()
            .map(|m| ExchangeRule {
                group: m.group,
                initiate: m.rule.action.initiate.unwrap_or(initiate),
                allow_nat: m.rule.action.allow_nat.unwrap_or(allow_nat),
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

/// Parameters about identities and certificates that policy and action share: only their `No` is supported.
fn validation<'a>(params: &mut Params<'a>, cx: &mut Context<'a, '_>) {
    params.value("FilterByIdentity", cx, |args, cx| {
        args.choice(
            &[("No", Choice::Is(())), ("Yes", Choice::NotYet("filters by identity are not implemented"))],
            cx,
        )
    });
    params.not_yet(
        "BypassIpValidation",
        "an IpAddr identity is never compared with the packet's address",
        cx,
    );
    params.not_yet("CertificateURLLookupPreference", SIGNATURES, cx);
    params.not_yet("RevocationChecking", SIGNATURES, cx);
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
        if !params.has(&["SharedKey"]) {
            params.missing("SharedKey", cx);
        }
        let local = params.object::<endpoint::Local>(cx);
        let remote = params.object::<endpoint::Remote>(cx);
        let action = params.object::<ExchangeAction>(cx);
        let shared_key = params.value("SharedKey", cx, shared_key);
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
            action,
            shared_key: shared_key?,
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
        params.value("HowToAuthMe", cx, |args, cx| {
            args.choice(
                &[
                    ("PresharedKey", Choice::Is(())),
                    ("RsaSignature", Choice::NotYet(SIGNATURES)),
                    ("ECDSA-256", Choice::NotYet(SIGNATURES)),
                    ("ECDSA-384", Choice::NotYet(SIGNATURES)),
                    ("ECDSA-521", Choice::NotYet(SIGNATURES)),
                    ("DigitalSignature", Choice::NotYet(SIGNATURES)),
                ],
                cx,
            )
        });
        let allow_nat = params.value("AllowNat", cx, Args::yes_no);
        let reauth = params.value("ReauthInterval", cx, |args, cx| args.number(0, 9_999_999, cx));
        validation(params, cx);
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
            reauth_interval: reauth.filter(|m| *m > 0).map(|m| Duration::from_secs(u64::from(m) * 60)),
            offers: NonEmpty::new(offers.into_iter().map(|(_, o)| (*o).clone()).collect())?,
        })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.exchange_actions
    }
}
