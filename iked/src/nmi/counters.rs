//! What the interface refused and whom it cut off, by reason (threats R2): `NMsec_GET_DROPS` without a target shows it.

use nmi_proto::code::{ReasonCode, ReturnCode};
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a request was refused or a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    TooManyClients,
    NoCredentials,
    NoAuthority,
    UnknownStack,
    BadRequest,
    NotSupported,
    Failed,
    BadMessage,
    RequestTimeout,
    AnswerNotTaken,
}

impl Reason {
    const ALL: [Self; 10] = [
        Self::TooManyClients,
        Self::NoCredentials,
        Self::NoAuthority,
        Self::UnknownStack,
        Self::BadRequest,
        Self::NotSupported,
        Self::Failed,
        Self::BadMessage,
        Self::RequestTimeout,
        Self::AnswerNotTaken,
    ];

    /// Its name, as those of a stack's drops.
    const fn name(self) -> &'static str {
        match self {
            Self::TooManyClients => "nmi_closed_too_many_clients",
            Self::NoCredentials => "nmi_closed_no_credentials",
            Self::NoAuthority => "nmi_refused_no_authority",
            Self::UnknownStack => "nmi_refused_unknown_stack",
            Self::BadRequest => "nmi_refused_bad_request",
            Self::NotSupported => "nmi_refused_not_supported",
            Self::Failed => "nmi_refused_failed",
            Self::BadMessage => "nmi_closed_bad_message",
            Self::RequestTimeout => "nmi_closed_request_timeout",
            Self::AnswerNotTaken => "nmi_closed_answer_not_taken",
        }
    }

    /// Of a request that is answered with `rc`.
    pub(super) const fn of_refusal(rc: ReturnCode) -> Self {
        match rc {
            ReturnCode::EACCES => Self::NoAuthority,
            ReturnCode::ENXIO => Self::UnknownStack,
            ReturnCode::EOPNOTSUPP => Self::NotSupported,
            ReturnCode::EINVAL => Self::BadRequest,
            _ => Self::Failed,
        }
    }

    /// Of a connection that ends with these codes; `None`: an orderly end.
    pub(super) const fn of_end(rc: ReturnCode, rsn: ReasonCode) -> Option<Self> {
        match (rc, rsn) {
            (ReturnCode::ETIMEDOUT, _) => Some(Self::RequestTimeout),
            (ReturnCode::EINVAL, _) => Some(Self::BadMessage),
            _ => None,
        }
    }
}

/// Counters of a server.
#[derive(Debug, Default)]
pub(super) struct Counters([AtomicU64; Reason::ALL.len()]);

impl Counters {
    pub(super) fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Reasons that occurred.
    pub(super) fn occurred(&self) -> Vec<(&'static str, u64)> {
        Reason::ALL
            .iter()
            .map(|r| (r.name(), self.0[*r as usize].load(Ordering::Relaxed)))
            .filter(|(_, n)| *n > 0)
            .collect()
    }
}
