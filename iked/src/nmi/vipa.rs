//! Requests about DVIPAs: what is asked of the core, and how its outcomes go back (docs/nmi.md section 7.1).

use super::audit::in_few_words;
use super::session::Failure;
use crate::request::vipa::{VipaOrder, VipaOutcome, VipaResult};
use nmi_proto::code::{MessageType, VipaStatus};
use nmi_proto::control::VipaControl;

/// Whether a request displays what a [`VipaRequest`](crate::request::vipa::VipaRequest) answers.
pub(super) const fn is_display(kind: MessageType) -> bool {
    matches!(kind, MessageType::GET_DVIPA | MessageType::GET_VIPATARGETS | MessageType::GET_TAKEOVERS)
}

/// The order that a record of a request gives; `None`: the record does not fit the request.
pub(super) fn order(kind: MessageType, object: &VipaControl) -> Option<VipaOrder> {
    let (dvipa, stack) = (object.address(), object.stack.given().map(str::to_owned));
    Some(match kind {
        MessageType::MOVE_DVIPA => VipaOrder::Move { dvipa: dvipa?, to: stack? },
        MessageType::DEACTIVATE_DVIPA => VipaOrder::Deactivate(dvipa?),
        MessageType::REACTIVATE_DVIPA => VipaOrder::Reactivate(dvipa?),
        MessageType::QUIESCE_TARGET => VipaOrder::Quiesce { target: stack?, dvipa },
        MessageType::RESUME_TARGET => VipaOrder::Resume { target: stack?, dvipa },
        _ => return None,
    })
}

/// What became of it, as the answer has it.
pub(super) fn outcome(outcome: &VipaOutcome) -> VipaControl {
    VipaControl {
        status: match outcome.result {
            VipaResult::NotFound => VipaStatus::NOTFOUND,
            VipaResult::Started => VipaStatus::STARTED,
            VipaResult::AlreadySet => VipaStatus::ALREADYSET,
            VipaResult::NotABackup => VipaStatus::NOTABACKUP,
            VipaResult::NotReady => VipaStatus::NOTREADY,
            VipaResult::Busy => VipaStatus::BUSY,
            VipaResult::NotOwner => VipaStatus::NOTOWNER,
            VipaResult::Failed => VipaStatus::FAILED,
        },
        reason: outcome.reason.as_deref().unwrap_or_default().into(),
        ..VipaControl::new(outcome.dvipa, outcome.stack.as_deref())
    }
}

/// An object that could not be treated because the core failed.
pub(super) fn failed(object: &VipaControl, why: &Failure) -> VipaControl {
    VipaControl { status: VipaStatus::FAILED, reason: why.to_string().as_str().into(), ..object.clone() }
}

/// Results in a few words, for the audit log.
pub(super) fn summary(all: &[VipaControl]) -> String {
    let said = |o: &VipaControl| {
        let dvipa = o.address().map_or_else(String::new, |a| format!("{a} "));
        let status = o.status.to_string();
        let status = status.trim_start_matches("NMsec_VIPASTATUS_").to_ascii_lowercase();
        format!("{dvipa}{} {status}", o.stack).trim().to_owned()
    };
    in_few_words(all, said)
}
