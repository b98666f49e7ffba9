//! Answer to `NMsec_GET_STACKINFO`: the active stacks (section 6.1).

use super::Record;
use crate::code::{DefensiveMode, MessageType};
use crate::error::DecodeError;
use crate::record::{RecordBuilder, RecordView};
use crate::text::{CodePage, Text};
use crate::value::Address;

structure! {
    /// A stack and its settings.
    Stack = "NMsecStack", 36, "6.1" {
        /// IP security is on for this stack.
        [0:0 D "NMsStackIPSecurity"] ip_security: bool,
        /// IP security for IPv6 is on.
        [0:1 D "NMsStackIPv6Security"] ipv6_security: bool,
        /// Sysplex-wide SAs are on (stack takes part in distribution or takeover of a DVIPA).
        [0:2 D "NMsStackDVIPSec"] dvipsec: bool,
        /// Filter logging is on.
        [0:3 D "NMsStackLogging"] logging: bool,
        /// Filtering before decapsulation is on.
        [0:4 D "NMsStackPreDecap"] predecap: bool,
        /// Filter set in force: 0 `NMsec_FLT_DEFAULT`, 1 `NMsec_FLT_POLICY`.
        [0:5 D "NMsStackFilterSet"] policy_filters: bool,
        /// Cryptography restricted to FIPS 140 algorithms and modes.
        [0:6 D "NMsStackFIPS140"] fips140: bool,
        /// Name of the stack (job name).
        [4 D "NMsStackName"] name: Text<24>,
        /// NAT keepalive interval in seconds.
        [28 I "NMsStackNATKeepAlive"] nat_keepalive: u32,
        /// Defensive filtering.
        [32 I "NMsStackDefMode"] defensive_mode: DefensiveMode,
    } reserved {
        [0:7 D "NMsStackRsvd1"] 25,
        [33 C "NMsStackRsvd2"] 24,
    }
}

structure! {
    /// An address or prefix that defensive filters do not touch.
    ExcludedAddress = "NMsecExclAddr", 24, "6.1" {
        /// Address is IPv6.
        [0:0 C "NMsExclIPv6"] ipv6: bool,
        /// Address or prefix excluded from defensive filtering.
        [4 I "NMsExclAddr"] address: Address,
        /// Prefix length.
        [20 C "NMsExclPrefix"] prefix: u8,
    } reserved {
        [0:1 C "NMsExclRsvd1"] 31,
        [21 C "NMsExclRsvd2"] 24,
    }
}

/// A record: one stack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StackRecord {
    /// Section 1.
    pub stack: Stack,
    /// Section 2.
    pub excluded: Vec<ExcludedAddress>,
}

impl Record for StackRecord {
    const TYPES: &'static [MessageType] = &[MessageType::GET_STACKINFO];

    fn build(&self, page: CodePage) -> Vec<u8> {
        RecordBuilder::new(page).one(&self.stack).all(&self.excluded).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        Ok(Self { stack: record.one(0)?, excluded: record.all(1)? })
    }
}
