//! IpGenericFilterAction and IpDynVpnAction.

use super::offer::pfs_group;
use super::params::Params;
use super::value::{Args, Choice};
use crate::model::{DataOffer, DfBit, Discard, DynVpnAction, Encap, Group, Initiation, Name, NonEmpty};
use crate::resolve::{Context, Object, Table, Tables};
use std::time::Duration;

/// IpGenericFilterAction; what IpSec means is known with the rule's VPN action only.
pub(crate) struct GenericAction {
    pub(crate) name: Name,
    pub(crate) kind: Kind,
    pub(crate) log_permit: bool,
    pub(crate) log_deny: bool,
    pub(crate) discard: Discard,
}

/// IpFilterAction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Permit,
    Deny,
    Ipsec,
}

#[derive(Clone, Copy)]
enum Logging {
    Yes,
    No,
    Permit,
    Deny,
}

impl Object for GenericAction {
    const KEYWORD: &'static str = "IpGenericFilterAction";
    const REF: &'static str = "IpGenericFilterActionRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        if !params.has(&["IpFilterAction"]) {
            params.missing("IpFilterAction", cx);
        }
        let kind = params.value("IpFilterAction", cx, |args, cx| {
            args.choice(
                &[
                    ("Permit", Choice::Is(Kind::Permit)),
                    ("Deny", Choice::Is(Kind::Deny)),
                    ("IpSec", Choice::Is(Kind::Ipsec)),
                ],
                cx,
            )
        });
        let logging = params.value("IpFilterLogging", cx, |args, cx| {
            let both = [("Yes", Choice::Is(Logging::Yes)), ("No", Choice::Is(Logging::No))];
            if kind.is_some_and(|k| k != Kind::Ipsec) {
                return args.choice(&both, cx);
            }
            let [yes, no] = both;
            let sides = [("LogPermit", Choice::Is(Logging::Permit)), ("LogDeny", Choice::Is(Logging::Deny))];
            let [permit, deny] = sides;
            args.choice(&[yes, no, permit, deny], cx)
        });
        let discard = params.value("DiscardAction", cx, discard).unwrap_or(Discard::Silent);
        let logging = logging.unwrap_or(Logging::No);
        Some(Self {
            name,
            kind: kind?,
            log_permit: matches!(logging, Logging::Yes | Logging::Permit),
            log_deny: matches!(logging, Logging::Yes | Logging::Deny),
            discard,
        })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.generic_actions
    }
}

/// DiscardAction and ImplicitDiscardAction.
pub(crate) fn discard<'a>(args: &mut Args<'a>, cx: &mut Context<'a, '_>) -> Option<Discard> {
    args.choice(&[("Silent", Choice::Is(Discard::Silent)), ("ICMP", Choice::Is(Discard::Icmp))], cx)
}

/// Default of VpnLife.
const VPN_LIFE_MINUTES: u32 = 1440;

impl Object for DynVpnAction {
    const KEYWORD: &'static str = "IpDynVpnAction";
    const REF: &'static str = "IpDynVpnActionRef";
    fn read<'a>(name: Name, params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> Option<Self> {
        let initiation = params.value("Initiation", cx, |args, cx| {
            args.choice(
                &[
                    ("Either", Choice::Is(Initiation::Either)),
                    ("LocalOnly", Choice::Is(Initiation::LocalOnly)),
                    ("RemoteOnly", Choice::Is(Initiation::RemoteOnly)),
                    ("None", Choice::Is(Initiation::None)),
                ],
                cx,
            )
        });
        let life = params.value("VpnLife", cx, |args, cx| args.number(0, 9_999_999, cx));
        let life = life.unwrap_or(VPN_LIFE_MINUTES);
        super::offer::allow_weak(params, cx);
        let (pfs_initiate, pfs_accept) = pfs(params, cx);
        cx.allow_weak = false;
        let both = params.value("HowToEncapIKEv2", cx, |args, cx| {
            args.choice(
                &[
                    ("Tunnel", Choice::Is(Some(Encap::Tunnel))),
                    ("Transport", Choice::Is(Some(Encap::Transport))),
                    ("Either", Choice::Is(None)),
                ],
                cx,
            )
        });
        let (df, copy_dscp) = passthrough(params, cx);
        let coded = params.has(&[DataOffer::KEYWORD, DataOffer::REF]);
        let offers = params.objects::<DataOffer>(cx);
        if !coded {
            params.missing("at least one IpDataOffer", cx);
        }
        let offers = NonEmpty::new(offers.into_iter().map(|(_, o)| (*o).clone()).collect())?;
        let encap = match both.flatten() {
            Some(one) => NonEmpty::one(one),
            // Either: what the first offer names is proposed first.
            None => match offers.first().encap {
                Encap::Tunnel => NonEmpty::new(vec![Encap::Tunnel, Encap::Transport])?,
                Encap::Transport => NonEmpty::new(vec![Encap::Transport, Encap::Tunnel])?,
            },
        };
        Some(Self {
            name,
            initiation: initiation.unwrap_or(Initiation::Either),
            vpn_life: (life > 0).then(|| Duration::from_secs(u64::from(life) * 60)),
            pfs_initiate,
            pfs_accept,
            encap,
            df,
            copy_dscp,
            offers,
        })
    }
    fn table<'c, 'a>(tables: &'c mut Tables<'a>) -> &'c mut Table<'a, Self> {
        &mut tables.dyn_vpn_actions
    }
}

/// PassthroughDF and PassthroughDSCP.
pub(super) fn passthrough<'a>(params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> (DfBit, bool) {
    let df = params.value("PassthroughDF", cx, |args, cx| {
        if args.yes_no(cx)? {
            return Some(DfBit::Copy);
        }
        if args.take_if("Set") {
            return Some(DfBit::Set);
        }
        args.take_if("Clear");
        Some(DfBit::Clear)
    });
    let copy_dscp = params.value("PassthroughDSCP", cx, Args::yes_no).unwrap_or(true);
    (df.unwrap_or(DfBit::Copy), copy_dscp)
}

/// Pfs, InitiateWithPfs and AcceptablePfs.
fn pfs<'a>(params: &mut Params<'a>, cx: &mut Context<'a, '_>) -> (Option<Group>, NonEmpty<Option<Group>>) {
    let older = params.value("Pfs", cx, pfs_group);
    if older.is_some() && params.has(&["InitiateWithPfs", "AcceptablePfs"]) {
        cx.findings
            .error(params.at, "Pfs does not go with InitiateWithPfs and AcceptablePfs")
            .label("Pfs is the older keyword for both");
    }
    let initiate = params.value("InitiateWithPfs", cx, pfs_group).or(older).flatten();
    let mut accept = Vec::new();
    for (_, group) in params.values("AcceptablePfs", cx, pfs_group) {
        if !accept.contains(&group) {
            accept.push(group);
        }
    }
    let accept = NonEmpty::new(accept).unwrap_or_else(|| NonEmpty::one(older.flatten()));
    (initiate, accept)
}
