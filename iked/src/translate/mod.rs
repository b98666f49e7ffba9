//! What a policy means for a stack and for the IKE engine.
//!
//! ```text
//!  policy::Policy ──► filters: stack::control::FilterSet ──► stackd
//!                ├──► manual:  stack::control::SaPair ──► stackd
//!                └──► rules:   ike::rules::{Rules, Settings}, ike::command::Initiate ──► ike::Engine
//!
//!  ike::event::ChildInstall ──► sa: stack::control::SaPair ──► stackd
//! ```
//!
//! Pure but for [`files`], which reads them.

pub mod files;
pub mod filters;
mod keyring;
pub mod manual;
pub mod rules;
pub mod sa;

pub use files::Files;
pub use keyring::Keyring;

use policy::model::DfBit;
use policy::{Feature, Policy};
use stack::control::DfMode;

/// What the stacks and the IKE engine can do of what the language knows beyond the usual; a policy that asks for
/// more is refused by [`Files`], with its place.
pub const SUPPORTED: &[Feature] = &[
    Feature::ManualTunnels,
    Feature::Ah,
    Feature::NoEncryption,
    Feature::HmacSha1,
    Feature::AesXcbc,
    Feature::AesGmac,
    Feature::WeakAlgorithms,
    Feature::Opaque,
    Feature::TimeConditions,
    Feature::FilterByIdentity,
    Feature::Signatures,
];

/// What the stack must know about the outer headers of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OuterHeader {
    /// DF bit (PassthroughDF).
    pub df: DfMode,
    /// Copy the DSCP (PassthroughDSCP).
    pub copy_dscp: bool,
}

impl Default for OuterHeader {
    fn default() -> Self {
        Self { df: DfMode::Copy, copy_dscp: true }
    }
}

/// Outer headers under an IpDynVpnAction; what is not known any more gets the defaults.
#[must_use]
pub fn outer_header(policy: &Policy, vpn_action: &str) -> OuterHeader {
    let actions = policy.filter.rules.iter().filter_map(|rule| rule.dyn_vpn());
    actions.into_iter().find(|action| action.name.as_str() == vpn_action).map_or_else(
        OuterHeader::default,
        |action| OuterHeader { df: df_mode(action.df), copy_dscp: action.copy_dscp },
    )
}

const fn df_mode(df: DfBit) -> DfMode {
    match df {
        DfBit::Copy => DfMode::Copy,
        DfBit::Clear => DfMode::Clear,
        DfBit::Set => DfMode::Set,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A policy in the language; a fault in it fails the test.
    pub(crate) fn policy(text: &str) -> Policy {
        match policy::load_for(&[policy::Source::common("test.conf", text.into())], SUPPORTED) {
            Ok((policy, _)) => policy,
            Err(report) => panic!("{report}"),
        }
    }

    /// Friday 2026-11-20 12:00 UTC.
    pub(crate) const NOON: policy::model::Moment =
        policy::model::Moment { unix: 1_795_176_000, local_offset: 0 };

    /// A host with a web service, a subnet behind it, and things in clear.
    pub(crate) const SAMPLE: &str = include_str!("sample.conf");

    #[test]
    fn outer_headers_follow_the_action() {
        let policy = policy(SAMPLE);
        let set = OuterHeader { df: DfMode::Set, copy_dscp: false };
        assert_eq!(outer_header(&policy, "strong"), set);
        assert_eq!(outer_header(&policy, "gone"), OuterHeader::default());
    }
}
