//! The tables of the format, for what is made from them for other languages.
#![allow(dead_code, reason = "each test that is made of this uses a part of it")]

use nmi_proto::code::{self, MessageType, ReasonCode, ReturnCode};
use nmi_proto::control::{LoadPolicy, Subscription, TestPacket, Tunnel, VipaControl};
use nmi_proto::display::{
    Authority, Backup, Caller, Defensive, DefensiveControl, Dist, Distribution, DropCount, Dvipa, Event,
    ExcludedAddress, IkeTunnel, IkeTunnelStats, Interface, IpDynTunnel, IpDynamicIke, IpDynamicStack,
    IpFilter, IpManualTunnel, IpTunnel, Nss, PortTranslation, Stack, Statistics, Takeover, TakeoverStepTime,
    Verdict, VipaTarget,
};
use nmi_proto::filter::InFilter;
use nmi_proto::header::HEADER_BYTES;
use nmi_proto::layout::{FieldDef, Kind, Source, Structure};
use nmi_proto::record::{CASCADE_DESCRIPTOR_BYTES, RECORD_HEADER_BYTES, SECTION_DESCRIPTOR_BYTES};

/// A structure as C sees it.
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    pub(crate) size: usize,
    pub(crate) section: &'static str,
    /// By offset.
    pub(crate) rows: Vec<FieldDef>,
}

/// The structure around the sections (section 2), whose rows are not tables of the crate: it reads and writes them
/// with `binrw`. That they are what it writes is a test of its own.
pub(crate) fn envelope() -> Vec<Layout> {
    let layout = |name, size, section, rows: &[(&'static str, usize, usize, Kind, &'static str)]| Layout {
        name,
        size,
        section,
        rows: rows
            .iter()
            .map(|&(name, offset, bytes, kind, meaning)| FieldDef {
                name,
                rust: "",
                offset,
                bit: 0,
                bits: bytes * 8,
                kind,
                source: Source::C,
                meaning,
            })
            .collect(),
    };
    vec![
        layout(
            "NMsecInRecDesc",
            16,
            "2.2",
            &[
                (
                    "NMsMInOff",
                    0,
                    4,
                    Kind::Uint,
                    "Offset of the first record from the start of the message, 0 if none",
                ),
                ("NMsMInLen", 4, 4, Kind::Uint, "Bytes of all records"),
                ("NMsMInNum", 8, 4, Kind::Uint, "Records"),
                ("NMsMInRsvd", 12, 4, Kind::Zero, "Reserved"),
            ],
        ),
        layout(
            "NMsecOutRecDesc",
            16,
            "2.2",
            &[
                (
                    "NMsMOutOff",
                    0,
                    4,
                    Kind::Uint,
                    "Offset of the first record from the start of the message, 0 if none",
                ),
                ("NMsMOutLen", 4, 4, Kind::Uint, "Bytes of all records, cascaded ones included"),
                ("NMsMOutNum", 8, 4, Kind::Uint, "Records, cascaded ones not counted"),
                (
                    "NMsMOutTot",
                    12,
                    4,
                    Kind::Uint,
                    "Objects that there were before the input filters were applied",
                ),
            ],
        ),
        layout(
            "NMsecMessageHdr",
            HEADER_BYTES,
            "2.1",
            &[
                ("NMsMIdent", 0, 4, Kind::Text, "NMsM; tells the code page of the whole message"),
                ("NMsMHdrLength", 4, 4, Kind::Uint, "96; longer in a later version"),
                ("NMsMVersion", 8, 2, Kind::Uint, "INIT: highest supported; request: the one wanted"),
                ("NMsMType", 10, 2, Kind::Uint, "Message type; an answer has its request's"),
                ("NMsMLength", 12, 4, Kind::Uint, "Bytes of the whole message"),
                (
                    "NMsMCorrelator",
                    16,
                    8,
                    Kind::Bytes,
                    "Anything; copied into the answer. 0 in INIT and TERM",
                ),
                ("NMsMTimestamp", 24, 4, Kind::Time, "When the message was made"),
                ("NMsMRc", 28, 4, Kind::Uint, "Return code"),
                ("NMsMRsn", 32, 4, Kind::Uint, "Reason code"),
                ("NMsMRsvd1", 36, 4, Kind::Zero, "Reserved"),
                ("NMsMTarget", 40, 24, Kind::Text, "Stack that the request is for, or blank"),
                ("NMsMInRec", 64, 16, Kind::Bytes, "Input records of a request; zero in an answer"),
                ("NMsMOutRec", 80, 16, Kind::Bytes, "Output records of an answer; zero in a request"),
            ],
        ),
        layout(
            "NMsecRecordHdr",
            RECORD_HEADER_BYTES,
            "2.3",
            &[
                ("NMsRIdent", 0, 4, Kind::Text, "NMsR, in the code page of the message"),
                ("NMsRLength", 4, 4, Kind::Uint, "Bytes of the whole record, a multiple of 4"),
                ("NMsRHdrLength", 8, 2, Kind::Uint, "16 + 8 x sections + 12 x cascades"),
                ("NMsRNumSec", 10, 2, Kind::Uint, "Section descriptors"),
                ("NMsRNumCasc", 12, 2, Kind::Uint, "Cascade descriptors, 0 or 1"),
                ("NMsRRsvd1", 14, 2, Kind::Zero, "Reserved"),
            ],
        ),
        layout(
            "NMsecSecDesc",
            SECTION_DESCRIPTOR_BYTES,
            "2.3",
            &[
                ("NMsSOff", 0, 4, Kind::Uint, "Offset of the first instance from the start of the record"),
                ("NMsSLen", 4, 2, Kind::Uint, "Bytes of one instance: may be more than this header knows"),
                ("NMsSNum", 6, 2, Kind::Uint, "Instances, one behind the other"),
            ],
        ),
        layout(
            "NMsecCascDesc",
            CASCADE_DESCRIPTOR_BYTES,
            "2.3",
            &[
                (
                    "NMsCOff",
                    0,
                    4,
                    Kind::Uint,
                    "Offset of the first cascaded record from the start of the record",
                ),
                ("NMsCLen", 4, 4, Kind::Uint, "Bytes of all cascaded records"),
                ("NMsCNum", 8, 4, Kind::Uint, "Cascaded records"),
            ],
        ),
    ]
}

fn of<S: Structure>() -> Layout {
    let mut rows = S::FIELDS.to_vec();
    rows.sort_by_key(|f| (f.offset, f.bit));
    Layout { name: S::NAME, size: S::SIZE, section: S::SECTION, rows }
}

/// All structures, those of other structures first.
pub(crate) fn layouts() -> Vec<Layout> {
    let mut all = envelope();
    all.extend([
        of::<InFilter>(),
        of::<Stack>(),
        of::<ExcludedAddress>(),
        of::<Statistics>(),
        of::<IpFilter>(),
        of::<PortTranslation>(),
        of::<IpTunnel>(),
        of::<IpManualTunnel>(),
        of::<IpDynTunnel>(),
        of::<IpDynamicStack>(),
        of::<IpDynamicIke>(),
        of::<IkeTunnel>(),
        of::<IkeTunnelStats>(),
        of::<Interface>(),
        of::<Nss>(),
        of::<Dist>(),
        of::<DropCount>(),
        of::<Distribution>(),
        of::<Dvipa>(),
        of::<Backup>(),
        of::<VipaTarget>(),
        of::<Takeover>(),
        of::<TakeoverStepTime>(),
        of::<Authority>(),
        of::<Caller>(),
        of::<Event>(),
        of::<Defensive>(),
        of::<DefensiveControl>(),
        of::<Tunnel>(),
        of::<LoadPolicy>(),
        of::<VipaControl>(),
        of::<Subscription>(),
        of::<TestPacket>(),
        of::<Verdict>(),
    ]);
    all
}

/// A list of values: what it is of, and C name, value and text of each.
pub(crate) struct List {
    pub(crate) of: &'static str,
    pub(crate) values: Vec<(String, u64, &'static str)>,
}

macro_rules! list {
    ($of:literal, $prefix:literal, $ty:ty) => {
        List {
            of: $of,
            values: <$ty>::KNOWN
                .iter()
                .zip(<$ty>::CONSTANTS)
                .map(|(v, name)| (format!("{}{name}", $prefix), u64::from(v.0), v.name().unwrap()))
                .collect(),
        }
    };
}

pub(crate) fn lists() -> Vec<List> {
    let mut reasons = list!("Reason codes (NMsMRsn), section 9", "", ReasonCode);
    for (name, _, text) in &mut reasons.values {
        *name = if *text == "none" { "NMsRsnNone".to_owned() } else { (*text).to_owned() };
    }
    vec![
        list!("Message types (NMsMType), section 3; 0x81xx are this project's", "NMsec_", MessageType),
        list!(
            "Return codes (NMsMRc), section 9: errno of z/OS, not of this machine",
            "NMsec_RC_",
            ReturnCode
        ),
        reasons,
        list!("State of an SA or tunnel, section 8.1", "NMsec_SASTATE_", code::SaState),
        list!("Kind of an IP tunnel (NMsIPTunType)", "NMsec_TUNTYPE_", code::TunnelType),
        list!("Encapsulation mode (NMsIPTunEncapMode)", "NMsec_ENCAP_", code::EncapsulationMode),
        list!("Protocol that authenticates (NMsIPTunAuthProto)", "NMsec_AUTHPROTO_", code::AuthProtocol),
        list!("Integrity algorithm, section 8.3", "NMsec_AUTHALG_", code::AuthAlgorithm),
        list!("Encryption algorithm, section 8.4", "NMsec_ENCALG_", code::EncryptionAlgorithm),
        list!("Diffie-Hellman group, section 8.5", "NMsec_DH_", code::DhGroup),
        list!("Pseudo-random function (NMsIKETunPRF)", "NMsec_PRF_", code::Prf),
        list!("How a side authenticates (NMsIKETunLclAuth)", "NMsec_AUTHMETHOD_", code::AuthMethod),
        list!("NAT traversal support (NMsIKETunNATTLevel)", "NMsec_NATT_", code::NattLevel),
        list!("Why a dynamic tunnel exists, section 8.2", "NMsec_ACTMETHOD_", code::ActivationMethod),
        list!("Progress of an IKE tunnel, section 8.6", "NMsec_IKEEXT_", code::IkeExtState),
        list!("Progress of a dynamic tunnel, section 8.7", "NMsec_DYNEXT_", code::DynExtState),
        list!("Role in a negotiation", "NMsec_ROLE_", code::Role),
        list!("IKEv1 exchange (NMsIKETunExchMode)", "NMsec_EXCHANGE_", code::ExchangeMode),
        list!("Type of an identity, section 8.8", "NMsec_IDTYPE_", code::IdType),
        list!("Kind of an IP filter, section 8.9", "NMsec_FILTYPE_", code::FilterType),
        list!("Whether a filter is in force (NMsFilState)", "NMsec_FILSTATE_", code::FilterState),
        list!("What a filter does (NMsFilAction)", "NMsec_FILACTION_", code::FilterAction),
        list!("Whose traffic a filter sees (NMsFilScope)", "NMsec_FILSCOPE_", code::FilterScope),
        list!("Direction of a filter (NMsFilDirection)", "NMsec_DIRECTION_", code::Direction),
        list!("What a filter logs (NMsFilLogging)", "NMsec_FILLOG_", code::FilterLogging),
        list!(
            "What the sender of a denied packet is told (NMsFilDiscard)",
            "NMsec_DISCARD_",
            code::DiscardAction
        ),
        list!("Which side may open a TCP connection (NMsFilTCPQual)", "NMsec_TCPQUAL_", code::TcpQualifier),
        list!("Reach of a defensive filter (NMsFilDefType)", "NMsec_DEFTYPE_", code::DefensiveType),
        list!("Form of an address specification", "NMsec_ADDRTYPE_", code::AddressType),
        list!("Defensive filtering of a stack (NMsStackDefMode)", "NMsec_DEFMODE_", code::DefensiveMode),
        list!("DF bit of the outer header (NMsIPTunDFMode)", "NMsec_DF_", code::DfMode),
        list!("DSCP of the outer header (NMsIPTunDSCPMode)", "NMsec_DSCP_", code::DscpMode),
        list!("Connection to an NSS server (NMsIKENSConnState)", "NMsec_NSS_", code::NssState),
        list!("Record of an SA in the coupling facility (NMsDistCFRecord)", "NMsec_CF_", code::CfRecord),
        list!(
            "Result for one object of a control request (NMsTunStatus)",
            "NMsec_TUNSTATUS_",
            code::TunnelStatus
        ),
        list!("A set of filters (NMsPolFilterSet)", "NMsec_FLT_", code::FilterSet),
        list!("What a stack is for a DVIPA, section 8.10", "NMsec_DVIPA_", code::DvipaState),
        list!(
            "What becomes of the SAs of a DVIPA when its owner changes (NMsDvpTakeover)",
            "NMsec_TAKEOVER_",
            code::TakeoverMode
        ),
        list!("When a DVIPA goes back (NMsDvpGiveback)", "NMsec_GIVEBACK_", code::Giveback),
        list!(
            "What the coupling facility has of a DVIPA, section 8.11",
            "NMsec_CFSTATE_",
            code::CfProtection
        ),
        list!("A backup (NMsBkpState)", "NMsec_BACKUP_", code::BackupState),
        list!("How a target is chosen (NMsVtgMethod)", "NMsec_METHOD_", code::DistributionMethod),
        list!("Why a DVIPA changed its owner, section 8.12", "NMsec_CAUSE_", code::TakeoverCause),
        list!("How far a takeover is (NMsTkoResult)", "NMsec_RESULT_", code::TakeoverResult),
        list!("What happened (NMsEvtKind), section 8.14", "NMsec_EVENT_", code::EventKind),
        list!("A step of a takeover, section 8.13", "NMsec_STEP_", code::TakeoverStep),
        list!("What becomes of a tested packet (NMsVdtTreatment)", "NMsec_TREATMENT_", code::Treatment),
        list!(
            "Result for one object of a control request about DVIPAs (NMsVctStatus)",
            "NMsec_VIPASTATUS_",
            code::VipaStatus
        ),
        list!(
            "Result for one object of a control request about defensive filters (NMsDctStatus)",
            "NMsec_DEFSTATUS_",
            code::DefensiveStatus
        ),
    ]
}
