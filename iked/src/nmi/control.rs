//! Control requests: what is asked of the core, and how its outcomes go back (nmi.md section 7).

use crate::request::{ControlAction, ControlObject, ControlOutcome, ControlStatus};
use nmi_proto::code::{MessageType, TunnelStatus};
use nmi_proto::control::Tunnel;

/// What a request does; `None`: it is no control request.
pub(super) const fn action(kind: MessageType) -> Option<ControlAction> {
    match kind {
        MessageType::ACTIVATE_IPTUNDYN => Some(ControlAction::ActivateChild),
        MessageType::DEACTIVATE_IPTUNDYN => Some(ControlAction::DeactivateChild),
        MessageType::REFRESH_IPTUNDYN => Some(ControlAction::RefreshChild),
        MessageType::DEACTIVATE_IKETUN => Some(ControlAction::DeactivateIke),
        MessageType::REFRESH_IKETUN => Some(ControlAction::RefreshIke),
        MessageType::ACTIVATE_IPTUNMANUAL => Some(ControlAction::ActivateManual),
        MessageType::DEACTIVATE_IPTUNMANUAL => Some(ControlAction::DeactivateManual),
        _ => None,
    }
}

pub(super) fn object(tunnel: &Tunnel) -> ControlObject {
    ControlObject {
        name: tunnel.name.given().map(str::to_owned),
        tunnel_id: tunnel.tunnel_id.given().map(str::to_owned),
    }
}

pub(super) fn tunnel(outcome: &ControlOutcome) -> Tunnel {
    Tunnel {
        name: outcome.object.name.as_deref().unwrap_or_default().into(),
        tunnel_id: outcome.object.tunnel_id.as_deref().unwrap_or_default().into(),
        status: match outcome.status {
            ControlStatus::NotFound => TunnelStatus::NOTFOUND,
            ControlStatus::Updated => TunnelStatus::STATEUPDATED,
            ControlStatus::AlreadySet => TunnelStatus::STATEALREADYSET,
            ControlStatus::NoKeyExchangeRule => TunnelStatus::NOKER,
            ControlStatus::NoFilterRule => TunnelStatus::NOFILTER,
            ControlStatus::NoDataOffer => TunnelStatus::NODATAOFFER,
            ControlStatus::Failed => TunnelStatus::FAILED,
        },
    }
}

/// Results in a few words, for the audit log.
pub(super) fn summary(tunnels: &[Tunnel]) -> String {
    let done = tunnels
        .iter()
        .filter(|t| matches!(t.status, TunnelStatus::STATEUPDATED | TunnelStatus::STATEALREADYSET))
        .count();
    format!("{done} of {}", tunnels.len())
}
