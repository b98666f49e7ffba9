//! Answers to `NMsec_GET_IKETUN` and `NMsec_GET_IKETUNCASCADE`: IKE tunnels (sections 6.8 and 6.9).

use super::{Dist, DynIkeRecord, Record};
use crate::code::{
    AuthAlgorithm, AuthMethod, DhGroup, EncryptionAlgorithm, ExchangeMode, IdType, IkeExtState, MessageType,
    NattLevel, Prf, Role, SaState,
};
use crate::error::DecodeError;
use crate::identity::Identity;
use crate::record::{RecordBuilder, RecordView};
use crate::text::{CodePage, Text};
use crate::value::{Address, Time};

structure! {
    /// An IKE SA.
    IkeTunnel = "NMsecIKETunnel", 256, "6.8" {
        /// Security endpoints are IPv6.
        [0:0 D "NMsIKETunIPv6"] ipv6: bool,
        /// NAT traversal is enabled for this tunnel.
        [0:1 D "NMsIKETunNATAllowed"] nat_allowed: bool,
        /// NAT detected in front of the local endpoint.
        [0:2 D "NMsIKETunLclNAT"] local_nat: bool,
        /// NAT detected in front of the remote endpoint.
        [0:3 D "NMsIKETunRmtNAT"] remote_nat: bool,
        /// NAPT detected in front of the remote endpoint (an undetected NAPT shows as NAT).
        [0:4 D "NMsIKETunRmtNAPT"] remote_napt: bool,
        /// The local side can start IKE negotiations with the peer.
        [0:5 D "NMsIKETunCanInitP1"] can_initiate: bool,
        /// FIPS 140 mode for this tunnel.
        [0:6 C "NMsIKETunFIPS140"] fips140: bool,
        /// Tunnel ID: K and a decimal number.
        [4 I "NMsIKETunID"] id: Text<48>,
        /// KeyExchangeRule name.
        [52 I "NMsIKETunKeyExchRule"] key_exchange_rule: Text<48>,
        /// KeyExchangeAction name.
        [100 I "NMsIKETunKeyExchAction"] key_exchange_action: Text<48>,
        /// Local security endpoint.
        [148 I "NMsIKETunLclEndpt"] local_endpoint: Address,
        /// Remote security endpoint.
        [164 I "NMsIKETunRmtEndpt"] remote_endpoint: Address,
        /// Initiator cookie (IKEv1) or SPI (IKEv2).
        [180 C "NMsIKETunInitCookie"] initiator_cookie: [u8; 8],
        /// Responder cookie or SPI.
        [188 C "NMsIKETunRespCookie"] responder_cookie: [u8; 8],
        /// State, section 8.1.
        [196 I "NMsIKETunState"] state: SaState,
        /// Progress, section 8.6.
        [197 I "NMsIKETunExtState"] ext_state: IkeExtState,
        /// 1 initiator, 2 responder.
        [198 C "NMsIKETunRole"] role: Role,
        /// IKEv1 exchange: 2 main, 4 aggressive; 0 with IKEv2.
        [199 I "NMsIKETunExchMode"] exchange_mode: ExchangeMode,
        /// Message authentication, section 8.3.
        [200 I "NMsIKETunAuthAlg"] auth_algorithm: AuthAlgorithm,
        /// Encryption, section 8.4.
        [201 I "NMsIKETunEncrAlg"] encryption_algorithm: EncryptionAlgorithm,
        /// Encryption key length in bits.
        [202 C "NMsIKETunKeyLength"] key_length: u16,
        /// Group, section 8.5.
        [204 I "NMsIKETunDHGroup"] dh_group: DhGroup,
        /// Pseudo-random function: IANA IKEv2 transform type 2 number.
        [206 C "NMsIKETunPRF"] prf: Prf,
        /// How the local side authenticates: IANA IKEv2 authentication method.
        [207 C "NMsIKETunLclAuth"] local_auth: AuthMethod,
        /// How the peer authenticates: IANA IKEv2 authentication method.
        [208 C "NMsIKETunRmtAuth"] remote_auth: AuthMethod,
        /// NAT traversal support.
        [209 C "NMsIKETunNATTLevel"] natt_level: NattLevel,
        /// IKE version, major.
        [210 I "NMsIKETunIKEMajor"] ike_major: u8,
        /// Minor.
        [211 I "NMsIKETunIKEMinor"] ike_minor: u8,
        /// SA number within the tunnel, from 1.
        [212 I "NMsIKETunGeneration"] generation: u32,
        /// Negotiated lifetime in seconds.
        [216 C "NMsIKETunLifetime"] lifetime: u32,
        /// When the SA will be refreshed.
        [220 C "NMsIKETunRefreshTime"] refresh_time: Time,
        /// When the SA expires.
        [224 C "NMsIKETunExpireTime"] expire_time: Time,
        /// Reauthentication interval in seconds, 0 = none.
        [228 C "NMsIKETunReauthIntvl"] reauth_interval: u32,
        /// Next reauthentication.
        [232 C "NMsIKETunReauthTime"] reauth_time: Time,
        /// Peer's UDP port if UDP-encapsulated, else 0.
        [236 C "NMsIKETunRmtUDPPort"] remote_udp_port: u16,
        /// Type of section 3 (section 8.8); 0 = not known.
        [238 I "NMsIKETunLclIDType"] local_id_type: IdType,
        /// Type of section 4 (section 8.8); 0 = not known.
        [239 I "NMsIKETunRmtIDType"] remote_id_type: IdType,
        /// Negotiated life size in bytes, 0 = none.
        [240 C "NMsIKETunLifesize"] lifesize: u64,
        /// Activation time.
        [248 C "NMsIKETunStartTime"] start_time: Time,
    } reserved {
        [0:7 C "NMsIKETunRsvd1"] 25,
        [252 C "NMsIKETunRsvd2"] 32,
    }
}

structure! {
    /// Counters of an IKE SA.
    IkeTunnelStats = "NMsecIKETunStats", 112, "6.8" {
        /// Bytes protected by this SA.
        [0 I "NMsIKEStBytes"] bytes: u64,
        /// Active dynamic tunnels of this IKE tunnel.
        [8 I "NMsIKEStP2Active"] phase2_active: u32,
        /// Dynamic tunnels in progress.
        [12 I "NMsIKEStP2InProgress"] phase2_in_progress: u32,
        /// Expired dynamic tunnels.
        [16 C "NMsIKEStP2Expired"] phase2_expired: u32,
        /// Phase 2 activations started locally, successful.
        [24 C "NMsIKEStP2LclActSuccess"] phase2_local_activation_success: u64,
        /// Started by the peer, successful.
        [32 C "NMsIKEStP2RmtActSuccess"] phase2_remote_activation_success: u64,
        /// Started locally, failed.
        [40 C "NMsIKEStP2LclActFailure"] phase2_local_activation_failure: u64,
        /// Started by the peer, failed.
        [48 C "NMsIKEStP2RmtActFailure"] phase2_remote_activation_failure: u64,
        /// Retransmitted phase 1 messages.
        [56 C "NMsIKEStP1Retransmit"] phase1_retransmit: u64,
        /// Replayed phase 1 messages received.
        [64 C "NMsIKEStP1Replay"] phase1_replay: u64,
        /// Invalid phase 1 messages received.
        [72 C "NMsIKEStP1Invalid"] phase1_invalid: u64,
        /// Authentication failures.
        [80 C "NMsIKEStP1AuthFail"] phase1_auth_fail: u64,
        /// Retransmitted phase 2 messages.
        [88 C "NMsIKEStP2Retransmit"] phase2_retransmit: u64,
        /// Replayed phase 2 messages received.
        [96 C "NMsIKEStP2Replay"] phase2_replay: u64,
        /// Invalid phase 2 messages received.
        [104 C "NMsIKEStP2Invalid"] phase2_invalid: u64,
    } reserved {
        [20 C "NMsIKEStRsvd1"] 32,
    }
}

/// A record: one IKE SA.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IkeRecord {
    /// Section 1; the ID types are set from the identities when the record is built.
    pub tunnel: IkeTunnel,
    /// Section 2.
    pub stats: IkeTunnelStats,
    /// Section 3.
    pub local_id: Option<Identity>,
    /// Section 4.
    pub remote_id: Option<Identity>,
    /// Section 5, where the local endpoint is a DVIPA.
    pub dist: Option<Dist>,
    /// Its dynamic tunnels, in an answer to `NMsec_GET_IKETUNCASCADE` only.
    pub cascade: Option<Vec<DynIkeRecord>>,
}

impl Record for IkeRecord {
    const TYPES: &'static [MessageType] = &[MessageType::GET_IKETUN, MessageType::GET_IKETUNCASCADE];

    fn build(&self, page: CodePage) -> Vec<u8> {
        let mut tunnel = self.tunnel.clone();
        tunnel.local_id_type = super::id_type(self.local_id.as_ref());
        tunnel.remote_id_type = super::id_type(self.remote_id.as_ref());
        let record = RecordBuilder::new(page)
            .one(&tunnel)
            .one(&self.stats)
            .variable(&super::id_bytes(self.local_id.as_ref(), page))
            .variable(&super::id_bytes(self.remote_id.as_ref(), page));
        let record = super::with_dist(record, self.dist.as_ref());
        match &self.cascade {
            Some(children) => record.cascade(children.iter().map(|c| c.build(page))).finish(),
            None => record.finish(),
        }
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        let tunnel: IkeTunnel = record.one(0)?;
        let page = record.page();
        let cascade = if record.has_cascade() {
            Some(record.cascaded()?.iter().map(DynIkeRecord::parse).collect::<Result<_, _>>()?)
        } else {
            None
        };
        Ok(Self {
            stats: record.one(1)?,
            local_id: Identity::from_bytes(tunnel.local_id_type, record.variable(2), page)?,
            remote_id: Identity::from_bytes(tunnel.remote_id_type, record.variable(3), page)?,
            dist: record.optional(4)?,
            cascade,
            tunnel,
        })
    }
}
