//! Where the policy of a stack comes from, as the core sees it.
//!
//! The language is the `policy` crate's, what it means for filters and negotiations is `translate`'s; this is the
//! seam between them and the core.

use crate::config::StackEntry;
use crate::ike::command::{ActivationMethod, Initiate};
use crate::ike::rules::{Rules, Settings};
use stack::control::{Acquire, DfMode, FilterSet, SaPair};
use std::sync::Arc;

/// Loads policies.
pub trait PolicySource: Send {
    /// Reads, checks and translates the policy of a stack.
    ///
    /// # Errors
    /// Everything that is wrong with it, as lines for an operator.
    fn load(&mut self, stack: &StackEntry) -> Result<Arc<dyn StackPolicy>, String>;

    /// The filters that are in force at a stack without a policy. Their epoch does not count.
    fn default_filters(&self, _stack: &StackEntry) -> FilterSet {
        no_filters()
    }
}

/// A table without rules: everything is denied.
#[must_use]
pub const fn no_filters() -> FilterSet {
    FilterSet {
        epoch: 0,
        policy: false,
        logging: false,
        predecap: false,
        log_implicit: false,
        implicit_icmp: false,
        rules: Vec::new(),
    }
}

/// A manual tunnel that a policy asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualTunnel {
    /// IpManVpnAction.
    pub action: String,
    /// Its time has come, or it has none; otherwise the stack does not have it, and it is not shown.
    pub installed: bool,
    /// Active when it is installed, not only when an operator says so.
    pub active: bool,
    /// Its SAs; the number of the tunnel does not count.
    pub pair: SaPair,
}

/// The policy of one stack, ready for use.
pub trait StackPolicy: Send + Sync {
    /// For the stack: the rules that are in force at this time (seconds since 1970 UTC). The epoch does not count.
    fn filters(&self, unix: u64) -> FilterSet;
    /// For the engine: the rules that are in force at this time.
    fn rules(&self, unix: u64) -> Rules;
    /// When other rules are in force than at this time; `None`: never.
    fn next_change(&self, _unix: u64) -> Option<u64> {
        None
    }
    /// For the engine.
    fn settings(&self) -> Settings;
    /// Manual tunnels, each once, as they are at this time.
    fn manual_tunnels(&self, _unix: u64) -> Vec<ManualTunnel> {
        Vec::new()
    }
    /// Names of all LocalDynVpnRules.
    fn local_rules(&self) -> Vec<String>;
    /// Names of those with AutoActivate.
    fn auto_activate(&self) -> Vec<String>;
    /// What to negotiate for a LocalDynVpnRule.
    ///
    /// # Errors
    /// What is missing.
    fn start_named(&self, name: &str, method: ActivationMethod) -> Result<Initiate, StartError>;
    /// What to negotiate for an outbound packet.
    ///
    /// # Errors
    /// A sentence for an operator.
    fn start_on_demand(&self, acquire: &Acquire) -> Result<Initiate, String>;
    /// DF bit of outer headers under an IpDynVpnAction.
    fn df(&self, vpn_action: &str) -> DfMode;
    /// Whether outer headers under an IpDynVpnAction take over the DSCP.
    fn copy_dscp(&self, _vpn_action: &str) -> bool {
        true
    }
}

/// Why a LocalDynVpnRule cannot be activated (nmi.md section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// No LocalDynVpnRule of that name.
    #[error("no LocalDynVpnRule of that name")]
    NotFound,
    /// No KeyExchangeRule fits its endpoints.
    #[error("no KeyExchangeRule fits its security endpoints")]
    NoKeyExchangeRule,
    /// No IpFilterRule with a dynamic VPN action covers it.
    #[error("no IpFilterRule with an IpDynVpnAction covers it")]
    NoFilterRule,
    /// No usable IpDataOffer.
    #[error("no IpDataOffer can be used for it")]
    NoDataOffer,
    /// Policy lets only the peer start.
    #[error("Initiation lets only the peer start it")]
    NotAllowed,
}
