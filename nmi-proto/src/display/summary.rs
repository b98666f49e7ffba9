//! Answer to `NMsec_GET_SUMMARY`: counters of a stack (section 6.2).

use super::Record;
use crate::code::MessageType;
use crate::error::DecodeError;
use crate::record::{RecordBuilder, RecordView};
use crate::text::CodePage;

structure! {
    /// Counters of IKE (phase 1), dynamic tunnels (phase 2) and filters. Cumulative ones count since the daemon started.
    Statistics = "NMsecStatistics", 180, "6.2" {
        /// IKE tunnels active now.
        [0 D "NMsStatP1Active"] phase1_active: u32,
        /// IKE tunnels pending or being negotiated now.
        [4 D "NMsStatP1InProgress"] phase1_in_progress: u32,
        /// Expired IKE tunnels still kept (kept until all their dynamic tunnels have expired).
        [8 D "NMsStatP1Expired"] phase1_expired: u32,
        /// Successful activations started locally, cumulative.
        [12 D "NMsStatP1LclActSuccess"] phase1_local_activation_success: u64,
        /// Successful activations started by the peer, cumulative.
        [20 D "NMsStatP1RmtActSuccess"] phase1_remote_activation_success: u64,
        /// Failed activations started locally, cumulative.
        [28 D "NMsStatP1LclActFailure"] phase1_local_activation_failure: u64,
        /// Failed activations started by the peer, cumulative.
        [36 D "NMsStatP1RmtActFailure"] phase1_remote_activation_failure: u64,
        /// Retransmitted key-exchange (phase 1) messages, cumulative.
        [44 D "NMsStatP1Retransmit"] phase1_retransmit: u64,
        /// Replayed phase 1 messages received, cumulative.
        [52 C "NMsStatP1Replay"] phase1_replay: u64,
        /// Invalid phase 1 messages received, cumulative.
        [60 C "NMsStatP1Invalid"] phase1_invalid: u64,
        /// Phase 1 authentication failures, cumulative.
        [68 C "NMsStatP1AuthFail"] phase1_auth_fail: u64,
        /// Dynamic tunnels active now, without shadows and manual tunnels.
        [76 I "NMsStatP2Active"] phase2_active: u32,
        /// Shadow dynamic tunnels active now, on a distribution target.
        [80 I "NMsStatP2ActiveShadow"] phase2_active_shadow: u32,
        /// Dynamic tunnels pending or being negotiated now.
        [84 I "NMsStatP2InProgress"] phase2_in_progress: u32,
        /// Expired dynamic tunnels still kept.
        [88 I "NMsStatP2Expired"] phase2_expired: u32,
        /// As the phase 1 counter, for dynamic tunnels.
        [92 C "NMsStatP2LclActSuccess"] phase2_local_activation_success: u64,
        /// As the phase 1 counter, for dynamic tunnels.
        [100 C "NMsStatP2RmtActSuccess"] phase2_remote_activation_success: u64,
        /// As the phase 1 counter, for dynamic tunnels.
        [108 C "NMsStatP2LclActFailure"] phase2_local_activation_failure: u64,
        /// As the phase 1 counter, for dynamic tunnels.
        [116 C "NMsStatP2RmtActFailure"] phase2_remote_activation_failure: u64,
        /// Retransmitted phase 2 messages, cumulative.
        [124 C "NMsStatP2Retransmit"] phase2_retransmit: u64,
        /// Replayed phase 2 messages received, cumulative.
        [132 C "NMsStatP2Replay"] phase2_replay: u64,
        /// Invalid phase 2 messages received, cumulative.
        [140 C "NMsStatP2Invalid"] phase2_invalid: u64,
        /// Packets permitted by filters, all filters.
        [148 I "NMsStatPktPermit"] packets_permit: u64,
        /// Packets denied by a deny action.
        [156 I "NMsStatPktDeny"] packets_deny: u64,
        /// Packets denied by an action mismatch.
        [164 I "NMsStatPktMismatch"] packets_mismatch: u64,
        /// Manual tunnels active now.
        [172 C "NMsStatManActive"] manual_active: u32,
    } reserved {
        [176 C "NMsStatRsvd1"] 32,
    }
}

impl Record for Statistics {
    const TYPES: &'static [MessageType] = &[MessageType::GET_SUMMARY];

    fn build(&self, page: CodePage) -> Vec<u8> {
        RecordBuilder::new(page).one(self).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        record.one(0)
    }
}
