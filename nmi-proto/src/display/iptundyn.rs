//! Answers to `NMsec_GET_IPTUNDYNSTACK` and `NMsec_GET_IPTUNDYNIKE`: dynamic tunnels as the stack holds them and as
//! IKE knows them (sections 6.6 and 6.7).

use super::{Dist, IpTunnel, Record};
use crate::code::{ActivationMethod, AddressType, DhGroup, DynExtState, IdType, MessageType, Role};
use crate::error::DecodeError;
use crate::identity::Identity;
use crate::record::{RecordBuilder, RecordView};
use crate::text::{CodePage, Text};
use crate::value::{Address, Time};

structure! {
    /// What a dynamic tunnel has beyond [`IpTunnel`].
    IpDynTunnel = "NMsecIPDynTunnel", 224, "6.6" {
        /// LocalDynVpnRule name; blank if activated on demand or by the peer.
        [0 I "NMsIPDynRule"] rule: Text<48>,
        /// ID of the parent IKE tunnel.
        [48 C "NMsIPDynIKETunID"] ike_tunnel_id: Text<48>,
        /// UDP-encapsulated.
        [96:0 I "NMsIPDynUDPEncap"] udp_encap: bool,
        /// NAT in front of the local endpoint.
        [96:1 C "NMsIPDynLclNAT"] local_nat: bool,
        /// NAT in front of the remote endpoint.
        [96:2 C "NMsIPDynRmtNAT"] remote_nat: bool,
        /// NAPT in front of the remote endpoint.
        [96:3 C "NMsIPDynRmtNAPT"] remote_napt: bool,
        /// Peer acts as a security gateway.
        [96:4 C "NMsIPDynRmtGW"] remote_gateway: bool,
        /// Peer is z/OS.
        [96:5 C "NMsIPDynRmtZOS"] remote_zos: bool,
        /// Local side can initiate phase 2.
        [96:6 C "NMsIPDynCanInitP2"] can_initiate: bool,
        /// SA number within the tunnel, from 1.
        [100 I "NMsIPDynGeneration"] generation: u32,
        /// IKE version, major: 1 or 2.
        [104 I "NMsIPDynIKEMajor"] ike_major: u8,
        /// IKE version, minor.
        [105 I "NMsIPDynIKEMinor"] ike_minor: u8,
        /// Why the tunnel exists, section 8.2.
        [106 I "NMsIPDynActMethod"] activation_method: ActivationMethod,
        /// IP protocol selector, 0 = any.
        [107 I "NMsIPDynProtocol"] protocol: u8,
        /// 1 single, 2 prefix, 3 range.
        [108 C "NMsIPDynLclAddrType"] local_address_type: AddressType,
        /// 1 single, 2 prefix, 3 range.
        [109 C "NMsIPDynRmtAddrType"] remote_address_type: AddressType,
        /// Prefix length for type 2.
        [110 C "NMsIPDynLclPrefix"] local_prefix: u8,
        /// Prefix length for type 2.
        [111 C "NMsIPDynRmtPrefix"] remote_prefix: u8,
        /// Local data endpoint: address, prefix or low end.
        [112 I "NMsIPDynLclAddr"] local_address: Address,
        /// High end for type 3.
        [128 C "NMsIPDynLclAddrHi"] local_address_high: Address,
        /// Remote data endpoint: address, prefix or low end.
        [144 I "NMsIPDynRmtAddr"] remote_address: Address,
        /// High end for type 3.
        [160 C "NMsIPDynRmtAddrHi"] remote_address_high: Address,
        /// Local port, low; 0..65535 = any.
        [176 I "NMsIPDynLclPortLo"] local_port_low: u16,
        /// Local port, high.
        [178 I "NMsIPDynLclPortHi"] local_port_high: u16,
        /// Remote port, low.
        [180 I "NMsIPDynRmtPortLo"] remote_port_low: u16,
        /// Remote port, high.
        [182 I "NMsIPDynRmtPortHi"] remote_port_high: u16,
        /// ICMP or MIPv6 type, low.
        [184 I "NMsIPDynTypeLo"] type_low: u8,
        /// ICMP or MIPv6 type, high.
        [185 I "NMsIPDynTypeHi"] type_high: u8,
        /// ICMP code, low.
        [186 I "NMsIPDynCodeLo"] code_low: u8,
        /// ICMP code, high.
        [187 I "NMsIPDynCodeHi"] code_high: u8,
        /// Group of the fresh key exchange, section 8.5; 0 = none.
        [188 I "NMsIPDynDHGroup"] dh_group: DhGroup,
        /// Remote UDP encapsulation port, 0 = none.
        [190 C "NMsIPDynRmtUDPPort"] remote_udp_port: u16,
        /// Negotiated lifetime in seconds.
        [192 I "NMsIPDynLifetime"] lifetime: u32,
        /// When the SA will be refreshed.
        [196 C "NMsIPDynRefreshTime"] refresh_time: Time,
        /// When the SA expires.
        [200 C "NMsIPDynExpireTime"] expire_time: Time,
        /// End of VPN life, after which there is no more rekeying.
        [204 I "NMsIPDynVPNLifeExp"] vpn_life_end: Time,
        /// Negotiated life size in bytes, 0 = none.
        [208 I "NMsIPDynLifesize"] lifesize: u64,
        /// Byte count at which the SA is refreshed.
        [216 C "NMsIPDynRefreshSize"] refresh_size: u64,
    } reserved {
        [96:7 C "NMsIPDynRsvd1"] 25,
    }
}

structure! {
    /// Usage of a dynamic tunnel, from the stack.
    IpDynamicStack = "NMsecIPDynamicStack", 44, "6.6" {
        /// Packets outbound.
        [0 C "NMsIPDStOutPkts"] out_packets: u64,
        /// Bytes outbound.
        [8 I "NMsIPDStOutBytes"] out_bytes: u64,
        /// Packets inbound.
        [16 C "NMsIPDStInPkts"] in_packets: u64,
        /// Bytes inbound.
        [24 I "NMsIPDStInBytes"] in_bytes: u64,
        /// Bytes carried since activation, to compare with the life size; 0 if none was negotiated.
        [32 I "NMsIPDStCurSize"] current_size: u64,
        /// Shadow SA on a distribution target.
        [40:0 I "NMsIPDStShadow"] shadow: bool,
    } reserved {
        [40:1 C "NMsIPDStRsvd1"] 31,
    }
}

structure! {
    /// What only IKE knows of a dynamic tunnel.
    IpDynamicIke = "NMsecIPDynamicIKE", 64, "6.7" {
        /// Progress of the negotiation, section 8.7.
        [0 I "NMsIPDIkeExtState"] ext_state: DynExtState,
        /// 1 initiator, 2 responder.
        [1 C "NMsIPDIkeRole"] role: Role,
        /// Type of section 4 (section 8.8); 0 = absent.
        [2 I "NMsIPDIkeLclIDType"] local_id_type: IdType,
        /// Type of section 5 (section 8.8); 0 = absent.
        [3 I "NMsIPDIkeRmtIDType"] remote_id_type: IdType,
        /// A source NAT-OA payload was received.
        [4:0 I "NMsIPDIkeSrcNATOA"] source_nat_oa: bool,
        /// A destination NAT-OA payload was received.
        [4:1 I "NMsIPDIkeDstNATOA"] destination_nat_oa: bool,
        /// A new activation is pending.
        [4:2 C "NMsIPDIkePendAct"] pending_activation: bool,
        /// A deactivation is pending.
        [4:3 C "NMsIPDIkePendDeact"] pending_deactivation: bool,
        /// IPv4 address from the source NAT-OA payload.
        [8 I "NMsIPDIkeSrcOAAddr"] source_oa_address: [u8; 4],
        /// IPv4 address from the destination NAT-OA payload.
        [12 I "NMsIPDIkeDstOAAddr"] destination_oa_address: [u8; 4],
        /// IpFilterRule that led to the tunnel, blank if none.
        [16 C "NMsIPDIkeFilterRule"] filter_rule: Text<48>,
    } reserved {
        [4:4 C "NMsIPDIkeRsvd1"] 28,
    }
}

/// A record: one dynamic tunnel as the stack holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DynStackRecord {
    /// Section 1.
    pub tunnel: IpTunnel,
    /// Section 2.
    pub dynamic: IpDynTunnel,
    /// Section 3.
    pub usage: IpDynamicStack,
    /// Section 4, where the local endpoint is a DVIPA.
    pub dist: Option<Dist>,
}

impl Record for DynStackRecord {
    const TYPES: &'static [MessageType] = &[MessageType::GET_IPTUNDYNSTACK];

    fn build(&self, page: CodePage) -> Vec<u8> {
        let record = RecordBuilder::new(page).one(&self.tunnel).one(&self.dynamic).one(&self.usage);
        super::with_dist(record, self.dist.as_ref()).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            tunnel: record.one(0)?,
            dynamic: record.one(1)?,
            usage: record.one(2)?,
            dist: record.optional(3)?,
        })
    }
}

/// A record: one dynamic tunnel as IKE knows it, also cascaded below its IKE tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DynIkeRecord {
    /// Section 1.
    pub tunnel: IpTunnel,
    /// Section 2.
    pub dynamic: IpDynTunnel,
    /// Section 3; the ID types are set from the identities when the record is built.
    pub ike: IpDynamicIke,
    /// Section 4.
    pub local_id: Option<Identity>,
    /// Section 5.
    pub remote_id: Option<Identity>,
    /// Section 6, where the local endpoint is a DVIPA.
    pub dist: Option<Dist>,
}

impl Record for DynIkeRecord {
    const TYPES: &'static [MessageType] = &[MessageType::GET_IPTUNDYNIKE];

    fn build(&self, page: CodePage) -> Vec<u8> {
        let mut ike = self.ike.clone();
        ike.local_id_type = super::id_type(self.local_id.as_ref());
        ike.remote_id_type = super::id_type(self.remote_id.as_ref());
        let record = RecordBuilder::new(page)
            .one(&self.tunnel)
            .one(&self.dynamic)
            .one(&ike)
            .variable(&super::id_bytes(self.local_id.as_ref(), page))
            .variable(&super::id_bytes(self.remote_id.as_ref(), page));
        super::with_dist(record, self.dist.as_ref()).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        let ike: IpDynamicIke = record.one(2)?;
        let page = record.page();
        Ok(Self {
            tunnel: record.one(0)?,
            dynamic: record.one(1)?,
            local_id: Identity::from_bytes(ike.local_id_type, record.variable(3), page)?,
            remote_id: Identity::from_bytes(ike.remote_id_type, record.variable(4), page)?,
            dist: record.optional(5)?,
            ike,
        })
    }
}
