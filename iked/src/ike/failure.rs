//! Why a negotiation came to nothing: a kind, for whoever counts, and a sentence, for people.

use super::wire::NotifyType;
use std::fmt;

/// Kinds of failures. They are few, whatever peers send: a metric has one counter for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// The peer does not answer.
    Timeout,
    /// A wrong identity or secret, ours or the peer's.
    Authentication,
    /// No rule for the peer or for what is to be protected, or one that does not allow it.
    NoRule,
    /// The ends do not agree on what is to be protected.
    TrafficSelectors,
    /// The ends have no algorithms in common.
    NoProposal,
    /// The peer refuses for another reason.
    Refused,
    /// Nobody wants it any more: it was deactivated or deleted, or the daemon ends.
    Deactivated,
    /// A message that cannot be, or cannot be made.
    InvalidMessage,
    /// The stack cannot use what was agreed on.
    Stack,
}

impl FailureKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Timeout,
        Self::Authentication,
        Self::NoRule,
        Self::TrafficSelectors,
        Self::NoProposal,
        Self::Refused,
        Self::Deactivated,
        Self::InvalidMessage,
        Self::Stack,
    ];

    /// The name in metrics and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Authentication => "authentication",
            Self::NoRule => "no_rule",
            Self::TrafficSelectors => "traffic_selectors",
            Self::NoProposal => "no_proposal",
            Self::Refused => "refused",
            Self::Deactivated => "deactivated",
            Self::InvalidMessage => "invalid_message",
            Self::Stack => "stack",
        }
    }

    /// What an error notify means (RFC 7296 section 3.10.1).
    #[must_use]
    pub const fn of_notify(kind: NotifyType) -> Self {
        match kind {
            NotifyType::AUTHENTICATION_FAILED => Self::Authentication,
            NotifyType::TS_UNACCEPTABLE | NotifyType::SINGLE_PAIR_REQUIRED => Self::TrafficSelectors,
            NotifyType::NO_PROPOSAL_CHOSEN | NotifyType::INVALID_KE_PAYLOAD => Self::NoProposal,
            NotifyType::INVALID_SYNTAX
            | NotifyType::INVALID_MAJOR_VERSION
            | NotifyType::INVALID_MESSAGE_ID
            | NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD => Self::InvalidMessage,
            _ => Self::Refused,
        }
    }
}

/// Why something came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// What was expected and what came ("peer offers AES-CBC-128/…; rule Branch allows …").
    pub text: String,
}

impl Failure {
    /// A failure of a kind.
    #[must_use]
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// The peer answers with an error.
    pub(crate) fn notified(kind: NotifyType, text: impl Into<String>) -> Self {
        Self::new(FailureKind::of_notify(kind), text)
    }

    /// Nobody wants it any more.
    pub(crate) fn deactivated(text: impl Into<String>) -> Self {
        Self::new(FailureKind::Deactivated, text)
    }

    /// A message that cannot be, or cannot be made.
    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(FailureKind::InvalidMessage, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
