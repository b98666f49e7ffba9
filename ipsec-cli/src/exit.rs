//! Exit codes, and what is said with them.

use nmi_proto::client::ClientError;
use nmi_proto::code::{ReasonCode, ReturnCode};
use std::process::ExitCode;

/// Done.
pub(crate) const SUCCESS: u8 = 0;
/// Nothing done, or partly failed.
pub(crate) const FAILED: u8 = 1;
/// Wrong arguments.
pub(crate) const USAGE: u8 = 2;
/// The daemon does not permit it.
pub(crate) const NOT_PERMITTED: u8 = 3;
/// Stack or daemon not available.
pub(crate) const UNAVAILABLE: u8 = 4;

/// Why the command ends early: one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The arguments are understood and make no sense together.
    #[error("{0}; see ipsec --help")]
    Usage(String),
    /// No connection, or it broke.
    #[error("{0}")]
    Client(#[source] ClientError),
    /// The daemon refused the request for a stack.
    #[error("{}", refusal(stack.as_deref(), *rc, *rsn))]
    Refused {
        /// Stack, if the request named one.
        stack: Option<String>,
        /// Return code.
        rc: ReturnCode,
        /// Reason code.
        rsn: ReasonCode,
    },
    /// No stack was named and it is not clear which one is meant.
    #[error("no stack is active")]
    NoStack,
    /// A file could not be read.
    #[error("{0}")]
    Input(String),
    /// The report could not be written.
    #[error("cannot write: {0}")]
    Output(#[source] std::io::Error),
}

impl Failure {
    /// The failure of a request for `stack`.
    pub(crate) fn of(error: ClientError, stack: Option<&str>) -> Self {
        match error {
            ClientError::Refused { rc, rsn } => Self::Refused { stack: stack.map(str::to_owned), rc, rsn },
            other => Self::Client(other),
        }
    }

    /// What the command's exit code says of it.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.number())
    }

    pub(crate) const fn number(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Refused { rc: ReturnCode::EACCES, .. } => NOT_PERMITTED,
            Self::Refused {
                rc: ReturnCode::EINVAL,
                rsn: ReasonCode::BAD_FILTER | ReasonCode::BAD_VALUE,
                ..
            } => USAGE,
            Self::Refused { rc: ReturnCode::EIO | ReturnCode::EINVAL | ReturnCode::EOPNOTSUPP, .. }
            | Self::Input(_)
            | Self::Output(_) => FAILED,
            Self::Refused { .. } | Self::Client(_) | Self::NoStack => UNAVAILABLE,
        }
    }
}

fn refusal(stack: Option<&str>, rc: ReturnCode, rsn: ReasonCode) -> String {
    let of = stack.map_or_else(String::new, |s| format!(" for stack {s}"));
    match (rc, rsn) {
        (ReturnCode::EACCES, _) => format!("permission denied{of} (EACCES)"),
        (ReturnCode::ENXIO, _) => format!("no active stack {} (ENXIO)", stack.unwrap_or_default()),
        (ReturnCode::EIO, ReasonCode::POLICY_LOAD) => {
            format!(
                "the policy was not loaded{of}, the filters before stay in force: the log of iked says why"
            )
        }
        (ReturnCode::EAGAIN, _) => format!("the daemon is busy{of}, try again ({rsn})"),
        (ReturnCode::EINVAL, ReasonCode::BAD_TYPE) | (ReturnCode::EOPNOTSUPP, _) => {
            "the daemon does not serve this request yet".to_owned()
        }
        _ => format!("request refused{of}: {rc}, {rsn}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_exit_code_and_its_sentence() {
        let refused = |rc, rsn| Failure::of(ClientError::Refused { rc, rsn }, Some("DIST"));
        let cases = [
            (
                refused(ReturnCode::EACCES, ReasonCode::NONE),
                NOT_PERMITTED,
                "permission denied for stack DIST (EACCES)",
            ),
            (refused(ReturnCode::ENXIO, ReasonCode::NONE), UNAVAILABLE, "no active stack DIST (ENXIO)"),
            (
                refused(ReturnCode::EINVAL, ReasonCode::BAD_FILTER),
                USAGE,
                "request refused for stack DIST: EINVAL, NMsRsnBadFilter",
            ),
            (
                refused(ReturnCode::EINVAL, ReasonCode::BAD_TYPE),
                FAILED,
                "the daemon does not serve this request yet",
            ),
            (
                Failure::Client(ClientError::NotReady),
                UNAVAILABLE,
                "the daemon is not ready: no policy has been loaded yet",
            ),
            (Failure::Usage("-l needs a name".into()), USAGE, "-l needs a name; see ipsec --help"),
        ];
        for (failure, code, text) in cases {
            assert_eq!((failure.number(), failure.to_string().as_str()), (code, text));
        }
    }
}
