//! Project extension: DVIPAs, their targets and their takeovers (sections 6.17 to 6.19).

use super::Record;
use crate::code::{
    BackupState, CfProtection, DistributionMethod, DvipaState, Giveback, MessageType, TakeoverCause,
    TakeoverMode, TakeoverResult, TakeoverStep,
};
use crate::error::DecodeError;
use crate::record::{RecordBuilder, RecordView};
use crate::text::{CodePage, Text};
use crate::value::{Address, Time};

structure! {
    /// A DVIPA, as the asked stack and its system know it.
    Dvipa = "NMsecDVIPA", 276, "6.17" {
        /// The DVIPA is IPv6.
        [0:0 C "NMsDvpIPv6"] ipv6: bool,
        /// The owner may use the address only while it holds a lease (several systems).
        [0:1 C "NMsDvpLeased"] leased: bool,
        /// The number of connections is known: the asked system runs the owner.
        [0:2 C "NMsDvpConnKnown"] connections_known: bool,
        /// The DVIPA.
        [4 C "NMsDvpAddress"] address: Address,
        /// Stack that owns it, blank if nobody does.
        [20 C "NMsDvpOwner"] owner: Text<24>,
        /// System of the owner.
        [44 C "NMsDvpOwnerSystem"] owner_system: Text<24>,
        /// Owner epoch: grows with each change of the owner.
        [68 C "NMsDvpEpoch"] epoch: u64,
        /// What the asked stack is for it, section 8.10.
        [76 C "NMsDvpState"] state: DvipaState,
        /// What becomes of its SAs when the owner changes: 1 renegotiate, 2 continue.
        [77 C "NMsDvpTakeover"] takeover: TakeoverMode,
        /// When it goes back to its preferred owner: 1 immediate, 2 when idle, 3 manual.
        [78 C "NMsDvpGiveback"] giveback: Giveback,
        /// Whether the coupling facility has what a backup needs, section 8.11.
        [79 C "NMsDvpCFState"] cf_state: CfProtection,
        /// Why not, if the state is 2 or 3.
        [80 C "NMsDvpCFReason"] cf_reason: Text<128>,
        /// Connections in the owner's table.
        [208 C "NMsDvpConnections"] connections: u64,
        /// IKE SAs whose local endpoint it is.
        [216 C "NMsDvpIKESAs"] ike_sas: u32,
        /// Child SAs whose local endpoint it is.
        [220 C "NMsDvpChildSAs"] child_sas: u32,
        /// Of both, those whose record stands in the coupling facility.
        [224 C "NMsDvpStored"] stored: u32,
        /// Of both, those whose record could not be written.
        [228 C "NMsDvpFailed"] failed: u32,
        /// The owner owns it since.
        [232 C "NMsDvpSince"] since: Time,
        /// Length of the lease in milliseconds, 0 without one.
        [236 C "NMsDvpLease"] lease_ms: u32,
        /// Highest sequence number that the owner may send (continue), 0 without one.
        [240 C "NMsDvpCeiling"] ceiling: u64,
        /// Stack that owned it before, blank if none is known.
        [248 C "NMsDvpFrom"] from: Text<24>,
    } reserved {
        [0:3 C "NMsDvpRsvd1"] 29,
        [272 C "NMsDvpRsvd2"] 32,
    }
}

structure! {
    /// A stack that takes a DVIPA over.
    Backup = "NMsecBackup", 52, "6.17" {
        /// Stack.
        [0 C "NMsBkpStack"] stack: Text<24>,
        /// Its system.
        [24 C "NMsBkpSystem"] system: Text<24>,
        /// 0: the preferred owner; 1: the first of the backups to take over, and so on.
        [48 C "NMsBkpRank"] rank: u16,
        /// 0 unknown, 1 ready, 2 not ready, 3 gone.
        [50 C "NMsBkpState"] state: BackupState,
    } reserved {
        [51 C "NMsBkpRsvd1"] 8,
    }
}

/// Record of an answer to `NMsec_GET_DVIPA`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DvipaRecord {
    /// The DVIPA.
    pub dvipa: Dvipa,
    /// The stacks that can own it, in the order in which they are asked to.
    pub backups: Vec<Backup>,
}

impl Record for DvipaRecord {
    const TYPES: &'static [MessageType] = &[MessageType::GET_DVIPA];

    fn build(&self, page: CodePage) -> Vec<u8> {
        RecordBuilder::new(page).one(&self.dvipa).all(&self.backups).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        Ok(Self { dvipa: record.one(0)?, backups: record.all(1)? })
    }
}

structure! {
    /// A target of one port range of a DVIPA.
    VipaTarget = "NMsecVipaTarget", 104, "6.18" {
        /// The DVIPA is IPv6.
        [0:0 C "NMsVtgIPv6"] ipv6: bool,
        /// The XCF address is IPv6.
        [0:1 C "NMsVtgXCFIPv6"] xcf_ipv6: bool,
        /// An operator took it out: no new connections.
        [0:2 C "NMsVtgQuiesced"] quiesced: bool,
        /// The preferred target of a hot standby.
        [0:3 C "NMsVtgPreferred"] preferred: bool,
        /// It is the owner itself.
        [0:4 C "NMsVtgLocal"] local: bool,
        /// The ready count is known.
        [0:5 C "NMsVtgReadyKnown"] ready_known: bool,
        /// The state of the XCF path is known.
        [0:6 C "NMsVtgPathKnown"] path_known: bool,
        /// The XCF path works: it was heard in time.
        [0:7 C "NMsVtgPathUp"] path_up: bool,
        /// The counts of connections are known: the asked stack is the owner.
        [1:0 C "NMsVtgConnKnown"] connections_known: bool,
        /// The DVIPA.
        [4 C "NMsVtgDVIPA"] dvipa: Address,
        /// Stack.
        [20 C "NMsVtgTarget"] target: Text<24>,
        /// XCF address; 0 where it is the owner itself.
        [44 C "NMsVtgXCF"] xcf: Address,
        /// IP protocol.
        [60 C "NMsVtgProtocol"] protocol: u8,
        /// How a target is chosen: 1 round-robin, 2 weighted-active, 3 hot-standby, 4 wlm, 5 maglev.
        [61 C "NMsVtgMethod"] method: DistributionMethod,
        /// Low end of the ports.
        [64 C "NMsVtgPortLow"] port_low: u16,
        /// High end of the ports.
        [66 C "NMsVtgPortHigh"] port_high: u16,
        /// Listeners on these ports.
        [68 C "NMsVtgReady"] ready: u32,
        /// Weight in use, 0 where the method has none.
        [72 C "NMsVtgWeight"] weight: u32,
        /// Connections in the owner's table.
        [76 C "NMsVtgActive"] active: u64,
        /// Connections since the distributor started.
        [84 C "NMsVtgTotal"] total: u64,
        /// Seconds for which a client stays with its target after its last connection, 0 without affinity.
        [92 C "NMsVtgAffinity"] affinity_secs: u32,
        /// Milliseconds since it was last heard.
        [96 C "NMsVtgHeard"] heard_ms: u32,
    } reserved {
        [1:1 C "NMsVtgRsvd1"] 23,
        [62 C "NMsVtgRsvd2"] 16,
        [100 C "NMsVtgRsvd3"] 32,
    }
}

impl Record for VipaTarget {
    const TYPES: &'static [MessageType] = &[MessageType::GET_VIPATARGETS];

    fn build(&self, page: CodePage) -> Vec<u8> {
        RecordBuilder::new(page).one(self).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        record.one(0)
    }
}

structure! {
    /// A takeover that the asked stack made or lost.
    Takeover = "NMsecTakeover", 268, "6.19" {
        /// The DVIPA is IPv6.
        [0:0 C "NMsTkoIPv6"] ipv6: bool,
        /// The SAs went on (continue).
        [0:1 C "NMsTkoContinue"] continued_mode: bool,
        /// Planned: the old owner gave it up by itself.
        [0:2 C "NMsTkoPlanned"] planned: bool,
        /// The DVIPA.
        [4 C "NMsTkoDVIPA"] dvipa: Address,
        /// Old owner, blank if there was none.
        [20 C "NMsTkoFrom"] from: Text<24>,
        /// New owner.
        [44 C "NMsTkoTo"] to: Text<24>,
        /// Epoch of the new owner.
        [68 C "NMsTkoEpoch"] epoch: u64,
        /// Why, section 8.12.
        [76 C "NMsTkoCause"] cause: TakeoverCause,
        /// How far: 0 running, 1 done, 2 incomplete, 3 overtaken by a later one, 4 failed.
        [77 C "NMsTkoResult"] result: TakeoverResult,
        /// When it began.
        [80 C "NMsTkoStarted"] started: Time,
        /// Microseconds from its begin to its end, or to now.
        [84 C "NMsTkoDuration"] duration_us: u64,
        /// Connections that targets reported.
        [92 C "NMsTkoConnections"] connections: u64,
        /// SAs that were to be taken over.
        [100 C "NMsTkoSAs"] sas: u32,
        /// Of these, negotiated anew.
        [104 C "NMsTkoRemade"] remade: u32,
        /// Of these, gone on with.
        [108 C "NMsTkoContinued"] continued: u32,
        /// Of these, given up.
        [112 C "NMsTkoFailedSAs"] failed: u32,
        /// Of these, waiting for a peer that cannot be initiated.
        [116 C "NMsTkoWaiting"] waiting: u32,
        /// What is to be said beside, blank if nothing.
        [120 C "NMsTkoReason"] reason: Text<128>,
        /// Microseconds from its begin to the first packet that the new owner could send, 0 if not known.
        [248 C "NMsTkoReady"] ready_us: u64,
    } reserved {
        [0:3 C "NMsTkoRsvd1"] 29,
        [78 C "NMsTkoRsvd2"] 16,
        [256 C "NMsTkoRsvd3"] 96,
    }
}

structure! {
    /// A step of a takeover.
    TakeoverStepTime = "NMsecTakeoverStep", 20, "6.19" {
        /// Step, section 8.13.
        [0 C "NMsTksStep"] step: TakeoverStep,
        /// Microseconds from the begin of the takeover to that of the step.
        [4 C "NMsTksBegin"] begin_us: u64,
        /// Microseconds that it took, so far if it still runs.
        [12 C "NMsTksDuration"] duration_us: u64,
    } reserved {
        [1 C "NMsTksRsvd1"] 24,
    }
}

/// Record of an answer to `NMsec_GET_TAKEOVERS`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakeoverRecord {
    /// The takeover.
    pub takeover: Takeover,
    /// Its steps so far, in order.
    pub steps: Vec<TakeoverStepTime>,
}

impl Record for TakeoverRecord {
    const TYPES: &'static [MessageType] = &[MessageType::GET_TAKEOVERS];

    fn build(&self, page: CodePage) -> Vec<u8> {
        RecordBuilder::new(page).one(&self.takeover).all(&self.steps).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        Ok(Self { takeover: record.one(0)?, steps: record.all(1)? })
    }
}
