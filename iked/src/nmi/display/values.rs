//! Answers about DVIPAs and defensive filters: values of the core become records (docs/nmi.md sections 6.17 to 6.19, 6.22).

use super::filter;
use crate::request::defense::DefenseStatus;
use crate::request::vipa as core;
use nmi_proto::code;
use nmi_proto::display::{
    Backup, Defensive, DefensiveRecord, Dvipa, DvipaRecord, Record as _, Takeover, TakeoverRecord,
    TakeoverStepTime, VipaTarget,
};
use nmi_proto::filter::Subject;
use nmi_proto::text::CodePage;
use nmi_proto::value::{Address, Time};
use std::net::IpAddr;
use std::time::Duration;

/// Values that records are made of.
#[derive(Debug)]
pub(in crate::nmi) enum Values {
    Dvipas(Vec<core::DvipaStatus>),
    Targets(Vec<core::TargetStatus>),
    Takeovers(Vec<core::TakeoverReport>),
    Defenses(Vec<DefenseStatus>),
}

impl Values {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Dvipas(all) => all.len(),
            Self::Targets(all) => all.len(),
            Self::Takeovers(all) => all.len(),
            Self::Defenses(all) => all.len(),
        }
    }

    /// What a filter sees of the value at `index`.
    pub(super) fn subject(&self, index: usize) -> Subject<'_> {
        let (address, name) = match self {
            Self::Dvipas(all) => (all[index].address, None),
            Self::Targets(all) => (all[index].dvipa, Some(all[index].target.as_str())),
            Self::Takeovers(all) => (all[index].dvipa, None),
            Self::Defenses(all) => return filter::subject(&all[index].filter).rest,
        };
        Subject { local: Some((address, address)), name, ..Subject::default() }
    }

    pub(super) fn record(&self, index: usize, page: CodePage) -> Vec<u8> {
        match self {
            Self::Dvipas(all) => dvipa(&all[index]).build(page),
            Self::Targets(all) => target(&all[index]).build(page),
            Self::Takeovers(all) => takeover(&all[index]).build(page),
            Self::Defenses(all) => defensive(&all[index]).build(page),
        }
    }
}

fn defensive(v: &DefenseStatus) -> DefensiveRecord {
    DefensiveRecord {
        filter: filter::record(&v.filter, true).filter,
        more: Defensive {
            stacks: v.stacks,
            lifetime_min: v.lifetime_min,
            user: v.user.as_deref().unwrap_or_default().into(),
        },
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

fn millis(d: Duration) -> u32 {
    u32::try_from(d.as_millis()).unwrap_or(u32::MAX)
}

fn dvipa(v: &core::DvipaStatus) -> DvipaRecord {
    let (cf_state, reason) = match &v.protection {
        core::Protection::NotApplicable => (code::CfProtection::NOT_APPLICABLE, ""),
        core::Protection::Stored => (code::CfProtection::STORED, ""),
        core::Protection::Failed(why) => (code::CfProtection::FAILED, why.as_str()),
        core::Protection::NotProtected(why) => (code::CfProtection::NOT_PROTECTED, why.as_str()),
    };
    let owner = v.owner.as_ref();
    let backup = |b: &core::BackupStatus| Backup {
        stack: b.stack.as_str().into(),
        system: b.system.as_str().into(),
        rank: b.rank,
        state: match b.state {
            core::BackupState::Unknown => code::BackupState::UNKNOWN,
            core::BackupState::Ready => code::BackupState::READY,
            core::BackupState::NotReady => code::BackupState::NOT_READY,
            core::BackupState::Gone => code::BackupState::GONE,
        },
    };
    DvipaRecord {
        dvipa: Dvipa {
            ipv6: v.address.is_ipv6(),
            leased: v.lease.is_some(),
            connections_known: v.connections.is_some(),
            address: v.address.into(),
            owner: owner.map_or("", |o| &o.stack).into(),
            owner_system: owner.map_or("", |o| &o.system).into(),
            epoch: owner.map_or(0, |o| o.epoch),
            state: match v.state {
                core::DvipaState::Active => code::DvipaState::ACTIVE,
                core::DvipaState::Backup => code::DvipaState::BACKUP,
                core::DvipaState::Moving => code::DvipaState::MOVING,
                core::DvipaState::Quiescing => code::DvipaState::QUIESCING,
                core::DvipaState::Deactivated => code::DvipaState::DEACTIVATED,
                core::DvipaState::Dest => code::DvipaState::DEST,
            },
            takeover: mode(v.mode),
            giveback: match v.giveback {
                core::GivebackMode::Immediate => code::Giveback::IMMEDIATE,
                core::GivebackMode::WhenIdle => code::Giveback::WHEN_IDLE,
                core::GivebackMode::Manual => code::Giveback::MANUAL,
            },
            cf_state,
            cf_reason: reason.into(),
            connections: v.connections.unwrap_or_default(),
            ike_sas: v.ike_sas,
            child_sas: v.child_sas,
            stored: v.stored,
            failed: v.failed,
            since: owner.and_then(|o| o.since_unix).map_or(Time::NONE, Time::from_unix),
            lease_ms: v.lease.map_or(0, millis),
            ceiling: v.ceiling.unwrap_or_default(),
            from: owner.and_then(|o| o.from.as_deref()).unwrap_or_default().into(),
        },
        backups: v.backups.iter().map(backup).collect(),
    }
}

const fn mode(mode: core::TakeoverMode) -> code::TakeoverMode {
    match mode {
        core::TakeoverMode::Renegotiate => code::TakeoverMode::RENEGOTIATE,
        core::TakeoverMode::Continue => code::TakeoverMode::CONTINUE,
    }
}

fn target(v: &core::TargetStatus) -> VipaTarget {
    let (active, total) = v.connections.unwrap_or_default();
    VipaTarget {
        ipv6: v.dvipa.is_ipv6(),
        xcf_ipv6: v.xcf.is_some_and(|a| a.is_ipv6()),
        quiesced: v.quiesced,
        preferred: v.preferred,
        local: v.xcf.is_none(),
        ready_known: v.ready.is_some(),
        path_known: v.path_up.is_some(),
        path_up: v.path_up == Some(true),
        connections_known: v.connections.is_some(),
        dvipa: v.dvipa.into(),
        target: v.target.as_str().into(),
        xcf: v.xcf.map_or_else(Address::default, <Address as From<IpAddr>>::from),
        protocol: v.protocol,
        method: match v.method {
            core::DistributionMethod::RoundRobin => code::DistributionMethod::ROUND_ROBIN,
            core::DistributionMethod::WeightedActive => code::DistributionMethod::WEIGHTED_ACTIVE,
            core::DistributionMethod::HotStandby => code::DistributionMethod::HOT_STANDBY,
            core::DistributionMethod::Wlm => code::DistributionMethod::WLM,
            core::DistributionMethod::Maglev => code::DistributionMethod::MAGLEV,
        },
        port_low: v.ports.0,
        port_high: v.ports.1,
        ready: v.ready.unwrap_or_default(),
        weight: v.weight.unwrap_or_default(),
        active,
        total,
        affinity_secs: u32::try_from(v.affinity.as_secs()).unwrap_or(u32::MAX),
        heard_ms: v.heard.map_or(0, millis),
    }
}

fn takeover(v: &core::TakeoverReport) -> TakeoverRecord {
    let step = |s: &core::StepTime| TakeoverStepTime {
        step: match s.step {
            core::TakeoverStep::Detect => code::TakeoverStep::DETECT,
            core::TakeoverStep::Acquire => code::TakeoverStep::ACQUIRE,
            core::TakeoverStep::Read => code::TakeoverStep::READ,
            core::TakeoverStep::Relieve => code::TakeoverStep::RELIEVE,
            core::TakeoverStep::Filters => code::TakeoverStep::FILTERS,
            core::TakeoverStep::Announce => code::TakeoverStep::ANNOUNCE,
            core::TakeoverStep::Notify => code::TakeoverStep::NOTIFY,
            core::TakeoverStep::Renegotiate => code::TakeoverStep::RENEGOTIATE,
            core::TakeoverStep::Store => code::TakeoverStep::STORE,
            core::TakeoverStep::Clear => code::TakeoverStep::CLEAR,
            core::TakeoverStep::Owner => code::TakeoverStep::OWNER,
        },
        begin_us: micros(s.begin),
        duration_us: micros(s.duration),
    };
    TakeoverRecord {
        takeover: Takeover {
            ipv6: v.dvipa.is_ipv6(),
            continued_mode: v.mode == core::TakeoverMode::Continue,
            planned: v.planned,
            dvipa: v.dvipa.into(),
            from: v.from.as_deref().unwrap_or_default().into(),
            to: v.to.as_str().into(),
            epoch: v.epoch,
            cause: match v.cause {
                core::TakeoverCause::Start => code::TakeoverCause::START,
                core::TakeoverCause::Operator => code::TakeoverCause::OPERATOR,
                core::TakeoverCause::Configuration => code::TakeoverCause::CONFIGURATION,
                core::TakeoverCause::Giveback => code::TakeoverCause::GIVEBACK,
                core::TakeoverCause::OwnerStopped => code::TakeoverCause::OWNER_STOPPED,
                core::TakeoverCause::OwnerEnded => code::TakeoverCause::OWNER_ENDED,
                core::TakeoverCause::LeaseEnded => code::TakeoverCause::LEASE_ENDED,
                core::TakeoverCause::Restart => code::TakeoverCause::RESTART,
                core::TakeoverCause::Deactivated => code::TakeoverCause::DEACTIVATED,
            },
            result: match v.result {
                core::TakeoverResult::Running => code::TakeoverResult::RUNNING,
                core::TakeoverResult::Done => code::TakeoverResult::DONE,
                core::TakeoverResult::Incomplete => code::TakeoverResult::INCOMPLETE,
                core::TakeoverResult::Overtaken => code::TakeoverResult::OVERTAKEN,
                core::TakeoverResult::Failed => code::TakeoverResult::FAILED,
            },
            started: Time::from_unix(v.started_unix),
            duration_us: micros(v.duration),
            connections: v.connections,
            sas: v.sas,
            remade: v.remade,
            continued: v.continued,
            failed: v.failed,
            waiting: v.waiting,
            reason: v.reason.as_deref().unwrap_or_default().into(),
            ready_us: v.ready.map_or(0, micros),
        },
        steps: v.steps.iter().map(step).collect(),
    }
}
