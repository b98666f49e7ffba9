//! Numbers with names: message types, return and reason codes, states and algorithms (sections 3, 8, 9).
//!
//! All are open: a value that this version does not know survives and prints as its number.

use crate::error::TextFault;
use crate::layout::{Field, Kind, Value};
use crate::text::CodePage;
use binrw::{BinRead, BinWrite};
use std::fmt;

pub use defensive::DefensiveStatus;
pub use event::EventKind;
pub use verdict::Treatment;
pub use vipa::{
    BackupState, CfProtection, DistributionMethod, DvipaState, Giveback, TakeoverCause, TakeoverMode,
    TakeoverResult, TakeoverStep, VipaStatus,
};

/// An open enumeration on the wire: `NAME = value "text"`.
macro_rules! open_enum {
    ($(#[$attr:meta])* $name:ident : $int:ty { $( $(#[$vattr:meta])* $const:ident = $value:literal $text:literal, )* }) => {
        $(#[$attr])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BinRead, BinWrite)]
        #[brw(big)]
        pub struct $name(pub $int);

        impl $name {
            $( $(#[$vattr])* #[doc = concat!($text, " (", stringify!($value), ").")] pub const $const: Self = Self($value); )*

            /// The known values.
            pub const KNOWN: &'static [Self] = &[$( Self::$const, )*];

            /// Names of the constants above, in the order of [`Self::KNOWN`]: other languages' are made from them.
            pub const CONSTANTS: &'static [&'static str] = &[$( stringify!($const), )*];

            /// Name of the value, `None` if this version does not know it.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $( $value => Some($text), )*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.pad(name),
                    None => f.pad(&format!("{:#x}", self.0)),
                }
            }
        }

        impl Field for $name {
            const BITS: usize = <$int as Field>::BITS;
            const KIND: Kind = Kind::Uint;
            fn read(bytes: &[u8], bit: usize, page: CodePage) -> Result<Self, TextFault> {
                <$int as Field>::read(bytes, bit, page).map(Self)
            }
            fn write(&self, bytes: &mut [u8], bit: usize, page: CodePage) {
                Field::write(&self.0, bytes, bit, page);
            }
            fn value(&self) -> Value {
                Value::Uint(u64::from(self.0))
            }
        }
    };
}

// Behind the macro that it uses.
mod defensive;
mod event;
mod verdict;
mod vipa;

open_enum! {
    /// Type of a message (`NMsMType`, section 3).
    MessageType: u16 {
        INIT = 0x0001 "NMsec_INIT",
        TERM = 0x0002 "NMsec_TERM",
        GET_STACKINFO = 0x0101 "NMsec_GET_STACKINFO",
        GET_SUMMARY = 0x0102 "NMsec_GET_SUMMARY",
        GET_IPFLTCURR = 0x0103 "NMsec_GET_IPFLTCURR",
        GET_IPFLTDEFAULT = 0x0104 "NMsec_GET_IPFLTDEFAULT",
        GET_IPFLTPOLICY = 0x0105 "NMsec_GET_IPFLTPOLICY",
        GET_PORTTRAN = 0x0106 "NMsec_GET_PORTTRAN",
        GET_IPTUNMANUAL = 0x0107 "NMsec_GET_IPTUNMANUAL",
        GET_IPTUNDYNSTACK = 0x0108 "NMsec_GET_IPTUNDYNSTACK",
        GET_IPTUNDYNIKE = 0x0109 "NMsec_GET_IPTUNDYNIKE",
        GET_IKETUN = 0x010A "NMsec_GET_IKETUN",
        GET_IKETUNCASCADE = 0x010B "NMsec_GET_IKETUNCASCADE",
        GET_IPINTERFACES = 0x010C "NMsec_GET_IPINTERFACES",
        GET_IKENSINFO = 0x010D "NMsec_GET_IKENSINFO",
        GET_CLIENTINFO = 0x010E "NMsec_GET_CLIENTINFO",
        ACTIVATE_IPTUNMANUAL = 0x0201 "NMsec_ACTIVATE_IPTUNMANUAL",
        DEACTIVATE_IPTUNMANUAL = 0x0202 "NMsec_DEACTIVATE_IPTUNMANUAL",
        ACTIVATE_IPTUNDYN = 0x0203 "NMsec_ACTIVATE_IPTUNDYN",
        DEACTIVATE_IPTUNDYN = 0x0204 "NMsec_DEACTIVATE_IPTUNDYN",
        REFRESH_IPTUNDYN = 0x0205 "NMsec_REFRESH_IPTUNDYN",
        DEACTIVATE_IKETUN = 0x0206 "NMsec_DEACTIVATE_IKETUN",
        REFRESH_IKETUN = 0x0207 "NMsec_REFRESH_IKETUN",
        LOAD_POLICY = 0x0208 "NMsec_LOAD_POLICY",
        EVENT = 0x8001 "NMsec_EVENT",
        GET_DROPS = 0x8101 "NMsec_GET_DROPS",
        GET_DISTRIBUTION = 0x8102 "NMsec_GET_DISTRIBUTION",
        GET_DVIPA = 0x8103 "NMsec_GET_DVIPA",
        GET_VIPATARGETS = 0x8104 "NMsec_GET_VIPATARGETS",
        GET_TAKEOVERS = 0x8105 "NMsec_GET_TAKEOVERS",
        GET_AUTHORITY = 0x8106 "NMsec_GET_AUTHORITY",
        SUBSCRIBE = 0x8107 "NMsec_SUBSCRIBE",
        UNSUBSCRIBE = 0x8108 "NMsec_UNSUBSCRIBE",
        GET_DEFENSIVE = 0x8109 "NMsec_GET_DEFENSIVE",
        TEST_PACKET = 0x81FF "NMsec_TEST_PACKET",
        MOVE_DVIPA = 0x8201 "NMsec_MOVE_DVIPA",
        DEACTIVATE_DVIPA = 0x8202 "NMsec_DEACTIVATE_DVIPA",
        REACTIVATE_DVIPA = 0x8203 "NMsec_REACTIVATE_DVIPA",
        QUIESCE_TARGET = 0x8204 "NMsec_QUIESCE_TARGET",
        RESUME_TARGET = 0x8205 "NMsec_RESUME_TARGET",
        ADD_DEFENSIVE = 0x8206 "NMsec_ADD_DEFENSIVE",
        UPDATE_DEFENSIVE = 0x8207 "NMsec_UPDATE_DEFENSIVE",
        DELETE_DEFENSIVE = 0x8208 "NMsec_DELETE_DEFENSIVE",
    }
}

/// Which authority a request needs (section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// `…IPSEC.DISPLAY` of its stack, or `IKED.DISPLAY` without one.
    Display,
    /// `…IPSEC.CONTROL` of its stack.
    Control,
    /// None: it tells a caller of himself.
    Anyone,
}

/// Whether a request names a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetRule {
    /// `NMsMTarget` is blank.
    Blank,
    /// `NMsMTarget` names a stack.
    Stack,
    /// Either.
    Optional,
}

/// What input records a request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InputRule {
    /// None.
    Nothing,
    /// Any number of [`InFilter`](crate::filter::InFilter) up to [`MAX_FILTERS`](crate::MAX_FILTERS).
    Filters,
    /// Any number of [`Tunnel`](crate::control::Tunnel) up to [`MAX_TUNNELS`](crate::MAX_TUNNELS).
    Tunnels,
    /// One [`LoadPolicy`](crate::control::LoadPolicy).
    LoadPolicy,
    /// One [`VipaControl`](crate::control::VipaControl) or more, up to [`MAX_TUNNELS`](crate::MAX_TUNNELS).
    Vipa,
    /// One [`Subscription`](crate::control::Subscription), or none: everything.
    Subscription,
    /// One [`DefensiveControl`](crate::display::DefensiveControl) or more, up to [`MAX_TUNNELS`](crate::MAX_TUNNELS).
    Defensive,
    /// As [`Self::Defensive`], or none: all of them.
    DefensiveOrAll,
    /// One [`TestPacket`](crate::control::TestPacket).
    Packet,
}

/// What section 3 says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestRule {
    /// Authority.
    pub access: Access,
    /// Target.
    pub target: TargetRule,
    /// Input records.
    pub input: InputRule,
}

impl MessageType {
    /// The rule of a request that the daemon serves; `None` for INIT, TERM, CLIENTINFO and unknown types.
    #[must_use]
    pub const fn request_rule(self) -> Option<RequestRule> {
        use InputRule::{
            Defensive, DefensiveOrAll, Filters, LoadPolicy, Nothing, Packet, Subscription, Tunnels, Vipa,
        };
        let (access, target, input) = match self {
            Self::GET_STACKINFO => (Access::Display, TargetRule::Blank, Nothing),
            Self::SUBSCRIBE => (Access::Display, TargetRule::Optional, Subscription),
            Self::TEST_PACKET => (Access::Display, TargetRule::Stack, Packet),
            Self::UNSUBSCRIBE => (Access::Anyone, TargetRule::Blank, Nothing),
            Self::GET_AUTHORITY => (Access::Anyone, TargetRule::Blank, Nothing),
            Self::GET_IKENSINFO | Self::GET_DROPS => (Access::Display, TargetRule::Optional, Nothing),
            Self::GET_SUMMARY | Self::GET_IPINTERFACES | Self::GET_DISTRIBUTION => {
                (Access::Display, TargetRule::Stack, Nothing)
            }
            Self::GET_IPFLTCURR
            | Self::GET_IPFLTDEFAULT
            | Self::GET_IPFLTPOLICY
            | Self::GET_PORTTRAN
            | Self::GET_IPTUNMANUAL
            | Self::GET_IPTUNDYNSTACK
            | Self::GET_IPTUNDYNIKE
            | Self::GET_IKETUN
            | Self::GET_IKETUNCASCADE
            | Self::GET_DVIPA
            | Self::GET_VIPATARGETS
            | Self::GET_TAKEOVERS => (Access::Display, TargetRule::Stack, Filters),
            Self::ACTIVATE_IPTUNMANUAL
            | Self::DEACTIVATE_IPTUNMANUAL
            | Self::ACTIVATE_IPTUNDYN
            | Self::DEACTIVATE_IPTUNDYN
            | Self::REFRESH_IPTUNDYN
            | Self::DEACTIVATE_IKETUN
            | Self::REFRESH_IKETUN => (Access::Control, TargetRule::Stack, Tunnels),
            Self::LOAD_POLICY => (Access::Control, TargetRule::Stack, LoadPolicy),
            Self::MOVE_DVIPA
            | Self::DEACTIVATE_DVIPA
            | Self::REACTIVATE_DVIPA
            | Self::QUIESCE_TARGET
            | Self::RESUME_TARGET => (Access::Control, TargetRule::Stack, Vipa),
            Self::GET_DEFENSIVE => (Access::Display, TargetRule::Optional, Filters),
            Self::ADD_DEFENSIVE | Self::UPDATE_DEFENSIVE => {
                (Access::Control, TargetRule::Optional, Defensive)
            }
            Self::DELETE_DEFENSIVE => (Access::Control, TargetRule::Optional, DefensiveOrAll),
            _ => return None,
        };
        Some(RequestRule { access, target, input })
    }
}

open_enum! {
    /// Return code (`NMsMRc`): an errno **of z/OS**, not of Linux (section 9).
    ReturnCode: u32 {
        OK = 0 "OK",
        EACCES = 111 "EACCES",
        EAGAIN = 112 "EAGAIN",
        EINVAL = 121 "EINVAL",
        EIO = 122 "EIO",
        ENXIO = 138 "ENXIO",
        EOPNOTSUPP = 1112 "EOPNOTSUPP",
        ETIMEDOUT = 1127 "ETIMEDOUT",
    }
}

open_enum! {
    /// Reason code (`NMsMRsn`, section 9).
    ReasonCode: u32 {
        NONE = 0 "none",
        BAD_IDENT = 1 "NMsRsnBadIdent",
        BAD_VERSION = 2 "NMsRsnBadVersion",
        BAD_TYPE = 3 "NMsRsnBadType",
        EXCESSIVE_SIZE = 4 "NMsRsnExcessiveSize",
        HDR_SIZE = 5 "NMsRsnHdrSize",
        MSG_SIZE = 6 "NMsRsnMsgSize",
        RESERVED_NONZERO = 7 "NMsRsnReservedNonzero",
        RECORD_LENGTH = 8 "NMsRsnRecordLength",
        RECORD_NUM = 9 "NMsRsnRecordNum",
        SEC_DESC = 10 "NMsRsnSecDesc",
        SEC_LENGTH = 11 "NMsRsnSecLength",
        BAD_FILTER = 12 "NMsRsnBadFilter",
        BAD_VALUE = 13 "NMsRsnBadValue",
        BAD_TARGET = 14 "NMsRsnBadTarget",
        MAX_CLIENTS = 20 "NMsRsnMaxClients",
        TIMEOUT = 21 "NMsRsnTimeout",
        SHUTDOWN = 22 "NMsRsnShutdown",
        POLICY_LOAD = 23 "NMsRsnPolicyLoad",
        INTERNAL = 24 "NMsRsnInternal",
        BUSY = 25 "NMsRsnBusy",
    }
}

open_enum! {
    /// State of an SA or tunnel (section 8.1).
    SaState: u8 {
        INACTIVE = 1 "inactive",
        PENDING = 2 "pending",
        IN_NEGOTIATION = 3 "in negotiation",
        ACTIVE = 4 "active",
        EXPIRED = 5 "expired",
        HALF_CLOSED = 6 "half-closed",
    }
}

open_enum! {
    /// Kind of an IP tunnel (`NMsIPTunType`, section 6.5).
    TunnelType: u8 {
        MANUAL = 1 "manual",
        STACK = 2 "dynamic, stack",
        IKE = 3 "dynamic, IKE",
    }
}

open_enum! {
    /// Encapsulation mode (`NMsIPTunEncapMode`).
    EncapsulationMode: u8 {
        TUNNEL = 1 "tunnel",
        TRANSPORT = 2 "transport",
    }
}

open_enum! {
    /// Protocol that authenticates (`NMsIPTunAuthProto`).
    AuthProtocol: u8 {
        NONE = 0 "none",
        ESP = 50 "ESP",
        AH = 51 "AH",
    }
}

open_enum! {
    /// Integrity algorithm (section 8.3). An AEAD cipher reports 0.
    AuthAlgorithm: u8 {
        NONE = 0 "none",
        AES_GMAC_128 = 4 "AES-GMAC-128",
        AES_GMAC_192 = 5 "AES-GMAC-192",
        AES_GMAC_256 = 6 "AES-GMAC-256",
        HMAC_SHA2_256_128 = 7 "HMAC-SHA2-256-128",
        AES128_XCBC_96 = 9 "AES128-XCBC-96",
        HMAC_SHA2_384_192 = 13 "HMAC-SHA2-384-192",
        HMAC_SHA2_512_256 = 14 "HMAC-SHA2-512-256",
        HMAC_MD5 = 38 "HMAC-MD5",
        HMAC_SHA1 = 39 "HMAC-SHA1",
        HMAC_MD5_96 = 40 "HMAC-MD5-96",
        HMAC_SHA1_96 = 41 "HMAC-SHA1-96",
    }
}

open_enum! {
    /// Encryption algorithm: IANA IKEv2 transform type 1 numbers (section 8.4).
    EncryptionAlgorithm: u8 {
        NONE = 0 "none",
        DES_CBC = 2 "DES-CBC",
        TRIPLE_DES_CBC = 3 "3DES-CBC",
        NULL = 11 "NULL",
        AES_CBC = 12 "AES-CBC",
        AES_CTR = 13 "AES-CTR",
        AES_GCM_8 = 18 "AES-GCM-8",
        AES_GCM_12 = 19 "AES-GCM-12",
        AES_GCM_16 = 20 "AES-GCM-16",
        CHACHA20_POLY1305 = 28 "ChaCha20-Poly1305",
    }
}

open_enum! {
    /// Diffie-Hellman group: IANA numbers, 0 = none (section 8.5).
    DhGroup: u16 {
        NONE = 0 "none",
        GROUP_1 = 1 "Group1",
        GROUP_2 = 2 "Group2",
        GROUP_5 = 5 "Group5",
        GROUP_14 = 14 "Group14",
        GROUP_19 = 19 "Group19",
        GROUP_20 = 20 "Group20",
        GROUP_21 = 21 "Group21",
        GROUP_24 = 24 "Group24",
        GROUP_31 = 31 "Group31",
    }
}

open_enum! {
    /// Pseudo-random function: IANA IKEv2 transform type 2 numbers (`NMsIKETunPRF`).
    Prf: u8 {
        NONE = 0 "none",
        HMAC_MD5 = 1 "HMAC-MD5",
        HMAC_SHA1 = 2 "HMAC-SHA1",
        AES128_XCBC = 4 "AES128-XCBC",
        HMAC_SHA2_256 = 5 "HMAC-SHA2-256",
        HMAC_SHA2_384 = 6 "HMAC-SHA2-384",
        HMAC_SHA2_512 = 7 "HMAC-SHA2-512",
    }
}

open_enum! {
    /// How a side authenticates: IANA IKEv2 authentication methods, 0 = not known (`NMsIKETunLclAuth`).
    AuthMethod: u8 {
        UNKNOWN = 0 "unknown",
        RSA_SIGNATURE = 1 "RSA signature",
        PRE_SHARED_KEY = 2 "pre-shared key",
        ECDSA_256 = 9 "ECDSA-256",
        ECDSA_384 = 10 "ECDSA-384",
        ECDSA_521 = 11 "ECDSA-521",
        DIGITAL_SIGNATURE = 14 "digital signature",
    }
}

open_enum! {
    /// NAT traversal support (`NMsIKETunNATTLevel`).
    NattLevel: u8 {
        NONE = 0 "none",
        RFC3947_DRAFT_2 = 1 "RFC 3947 draft 2",
        RFC3947_DRAFT_3 = 2 "RFC 3947 draft 3",
        RFC3947 = 3 "RFC 3947",
        RFC3947_ZOS = 4 "RFC 3947 with z/OS",
        IKEV2 = 5 "IKEv2",
    }
}

open_enum! {
    /// Why a dynamic tunnel exists (section 8.2).
    ActivationMethod: u8 {
        COMMAND = 1 "command",
        REMOTE = 2 "remote",
        ON_DEMAND = 3 "on demand",
        TAKEOVER = 5 "takeover",
        AUTO = 6 "automatic",
    }
}

open_enum! {
    /// Progress of an IKE tunnel (section 8.6).
    IkeExtState: u8 {
        UNKNOWN = 0 "unknown",
        PENDING = 1 "PENDING",
        INIT = 2 "INIT",
        WAIT_SA = 3 "WAIT SA",
        WAIT_KE = 4 "WAIT KE",
        WAIT_AUTH = 5 "WAIT AUTH",
        DONE = 6 "DONE",
        EXPIRED = 7 "EXPIRED",
        HALF_CLOSED = 8 "HALF-CLOSED",
    }
}

open_enum! {
    /// Progress of a dynamic tunnel (section 8.7).
    DynExtState: u8 {
        UNKNOWN = 0 "unknown",
        PENDING = 1 "PENDING",
        INIT = 2 "INIT",
        KEP = 3 "KEP",
        NOTIFY = 4 "NOTIFY",
        DONE = 6 "DONE",
        EXPIRED = 7 "EXPIRED",
        HALF_CLOSED = 8 "HALF-CLOSED",
    }
}

open_enum! {
    /// Role in a negotiation.
    Role: u8 {
        INITIATOR = 1 "initiator",
        RESPONDER = 2 "responder",
    }
}

open_enum! {
    /// IKEv1 exchange (`NMsIKETunExchMode`); 0 with IKEv2.
    ExchangeMode: u8 {
        NOT_APPLICABLE = 0 "n/a",
        MAIN = 2 "main",
        AGGRESSIVE = 4 "aggressive",
    }
}

open_enum! {
    /// Type of an identity: IANA IKE ID types, 0 = absent (section 8.8).
    IdType: u8 {
        NONE = 0 "none",
        IPV4_ADDR = 1 "ID_IPV4_ADDR",
        FQDN = 2 "ID_FQDN",
        USER_FQDN = 3 "ID_USER_FQDN",
        IPV4_SUBNET = 4 "ID_IPV4_ADDR_SUBNET",
        IPV6_ADDR = 5 "ID_IPV6_ADDR",
        IPV6_SUBNET = 6 "ID_IPV6_ADDR_SUBNET",
        IPV4_RANGE = 7 "ID_IPV4_ADDR_RANGE",
        IPV6_RANGE = 8 "ID_IPV6_ADDR_RANGE",
        DER_ASN1_DN = 9 "ID_DER_ASN1_DN",
        KEY_ID = 11 "ID_KEY_ID",
    }
}

open_enum! {
    /// Kind of an IP filter (section 8.9).
    FilterType: u8 {
        GENERIC = 1 "generic",
        DYNAMIC_ANCHOR = 2 "dynamic anchor",
        DYNAMIC = 3 "dynamic",
        NATT_ANCHOR = 4 "NAT-T anchor",
        NATT_DYNAMIC = 5 "NAT-T dynamic",
        NRF = 6 "NRF",
        DEFENSIVE = 7 "defensive",
    }
}

open_enum! {
    /// Whether a filter is in force (`NMsFilState`).
    FilterState: u8 {
        ACTIVE = 1 "active",
        INACTIVE = 2 "inactive",
    }
}

open_enum! {
    /// What a filter does (`NMsFilAction`).
    FilterAction: u8 {
        PERMIT = 1 "permit",
        DENY = 2 "deny",
        IPSEC = 3 "permit with IPSec",
        DEFENSIVE_BLOCK = 4 "defensive block",
        DEFENSIVE_SIMULATE = 5 "defensive simulate",
    }
}

open_enum! {
    /// Whose traffic a filter sees (`NMsFilScope`).
    FilterScope: u8 {
        LOCAL = 1 "local",
        ROUTED = 2 "routed",
        BOTH = 3 "both",
    }
}

open_enum! {
    /// Direction of a filter (`NMsFilDirection`).
    Direction: u8 {
        INBOUND = 1 "inbound",
        OUTBOUND = 2 "outbound",
    }
}

open_enum! {
    /// What a filter logs (`NMsFilLogging`).
    FilterLogging: u8 {
        NONE = 0 "none",
        PERMITTED = 1 "permitted",
        DENIED = 2 "denied",
        ALL = 3 "all",
    }
}

open_enum! {
    /// What the sender of a denied packet is told (`NMsFilDiscard`).
    DiscardAction: u8 {
        SILENT = 0 "silent",
        ICMP = 1 "ICMP",
    }
}

open_enum! {
    /// Which side may open a TCP connection (`NMsFilTCPQual`).
    TcpQualifier: u8 {
        NONE = 0 "none",
        INBOUND_CONNECT = 1 "inbound connect",
        OUTBOUND_CONNECT = 2 "outbound connect",
    }
}

open_enum! {
    /// Reach of a defensive filter (`NMsFilDefType`).
    DefensiveType: u8 {
        NOT_APPLICABLE = 0 "n/a",
        GLOBAL = 1 "global",
        STACK = 2 "stack",
    }
}

open_enum! {
    /// Form of an address specification (`NMsFilSrcAddrType`, `NMsIPDynLclAddrType`).
    AddressType: u8 {
        ALL = 0 "all",
        SINGLE = 1 "single",
        PREFIX = 2 "prefix",
        RANGE = 3 "range",
    }
}

open_enum! {
    /// Defensive filtering of a stack (`NMsStackDefMode`).
    DefensiveMode: u8 {
        INACTIVE = 0 "inactive",
        ACTIVE = 1 "active",
        SIMULATE = 2 "simulate",
    }
}

open_enum! {
    /// DF bit of the outer header (`NMsIPTunDFMode`).
    DfMode: u8 {
        NOT_APPLICABLE = 0 "n/a",
        COPIED = 1 "copied",
        CLEARED = 2 "cleared",
        SET = 3 "set",
    }
}

open_enum! {
    /// DSCP of the outer header (`NMsIPTunDSCPMode`).
    DscpMode: u8 {
        NOT_APPLICABLE = 0 "n/a",
        COPIED = 1 "copied",
        CLEARED = 2 "cleared",
    }
}

open_enum! {
    /// Connection to an NSS server (`NMsIKENSConnState`).
    NssState: u8 {
        NOT_APPLICABLE = 0 "n/a",
        NOT_CONNECTED = 1 "not connected",
        CONNECTING = 2 "connecting",
        CONNECTED = 3 "connected",
    }
}

open_enum! {
    /// Record of an SA in the coupling facility (`NMsDistCFRecord`).
    CfRecord: u8 {
        NOT_APPLICABLE = 0 "n/a",
        STORED = 1 "stored",
        FAILED = 2 "failed",
    }
}

open_enum! {
    /// Result for one object of a control request (`NMsTunStatus`, section 7).
    TunnelStatus: u8 {
        NOT_PROCESSED = 0 "not processed",
        NOTFOUND = 1 "NMsec_TUNSTATUS_NOTFOUND",
        STATEUPDATED = 2 "NMsec_TUNSTATUS_STATEUPDATED",
        STATEALREADYSET = 3 "NMsec_TUNSTATUS_STATEALREADYSET",
        NOKER = 5 "NMsec_TUNSTATUS_NOKER",
        NOFILTER = 6 "NMsec_TUNSTATUS_NOFILTER",
        NODATAOFFER = 7 "NMsec_TUNSTATUS_NODATAOFFER",
        FAILED = 8 "NMsec_TUNSTATUS_FAILED",
    }
}

open_enum! {
    /// A set of filters (`NMsPolFilterSet`, section 7).
    FilterSet: u8 {
        DEFAULT = 0 "NMsec_FLT_DEFAULT",
        POLICY = 1 "NMsec_FLT_POLICY",
    }
}
