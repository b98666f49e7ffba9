//! Answers to `NMsec_GET_IPFLTCURR`, `_IPFLTDEFAULT` and `_IPFLTPOLICY`: filters in search order (section 6.3).

use super::Record;
use crate::code::{
    AddressType, DefensiveType, Direction, DiscardAction, FilterAction, FilterLogging, FilterScope,
    FilterState, FilterType, IdType, MessageType, TcpQualifier,
};
use crate::error::DecodeError;
use crate::identity::Identity;
use crate::record::{RecordBuilder, RecordView};
use crate::text::{CodePage, Text};
use crate::value::{Address, Time};

structure! {
    /// One filter: one direction of one expansion of a rule.
    IpFilter = "NMsecIPFilter", 408, "6.3" {
        /// Filter rule name.
        [0 I "NMsFilName"] name: Text<48>,
        /// Number that distinguishes the filters generated from one rule, from 1.
        [48 I "NMsFilNameExt"] extension: u32,
        /// Filter group name.
        [52 I "NMsFilGroup"] group: Text<48>,
        /// Local start action name.
        [100 I "NMsFilLclStart"] local_start: Text<48>,
        /// VPN action name.
        [148 I "NMsFilVPNAction"] vpn_action: Text<48>,
        /// Tunnel ID, blank if none.
        [196 I "NMsFilTunnelID"] tunnel_id: Text<48>,
        /// Addresses are IPv6.
        [244:0 I "NMsFilIPv6"] ipv6: bool,
        /// On-demand activation allowed (dynamic anchor filters).
        [244:1 I "NMsFilOnDemand"] on_demand: bool,
        /// Matches fragments only.
        [244:2 C "NMsFilFragOnly"] fragments_only: bool,
        /// Any protocol.
        [244:3 C "NMsFilProtoAny"] protocol_any: bool,
        /// Upper-layer protocol not identifiable.
        [244:4 C "NMsFilProtoOpaque"] protocol_opaque: bool,
        /// Any ICMP/OSPF/MIPv6 type.
        [244:5 C "NMsFilTypeAny"] type_any: bool,
        /// Any ICMP code.
        [244:6 C "NMsFilCodeAny"] code_any: bool,
        /// Any source port.
        [244:7 C "NMsFilSrcPortAny"] source_port_any: bool,
        /// Any destination port.
        [245:0 C "NMsFilDstPortAny"] destination_port_any: bool,
        /// Kind, section 8.9.
        [248 I "NMsFilType"] filter_type: FilterType,
        /// 1 active, 2 inactive.
        [249 I "NMsFilState"] state: FilterState,
        /// 1 permit, 2 deny, 3 permit with IPSec, 4 defensive block, 5 defensive simulate.
        [250 I "NMsFilAction"] action: FilterAction,
        /// 1 local, 2 routed, 3 both.
        [251 I "NMsFilScope"] scope: FilterScope,
        /// 1 inbound, 2 outbound.
        [252 I "NMsFilDirection"] direction: Direction,
        /// Security class 1..255, 0 = any.
        [253 I "NMsFilSecClass"] security_class: u8,
        /// 0 none, 1 permitted, 2 denied, 3 all.
        [254 I "NMsFilLogging"] logging: FilterLogging,
        /// 0 silent, 1 ICMP message.
        [255 I "NMsFilDiscard"] discard: DiscardAction,
        /// IP protocol number; 0 with ProtoAny.
        [256 I "NMsFilProtocol"] protocol: u8,
        /// 0 none, 1 inbound connects, 2 outbound connects.
        [257 I "NMsFilTCPQual"] tcp_qualifier: TcpQualifier,
        /// Defensive filter: 0 n/a, 1 global, 2 stack.
        [258 I "NMsFilDefType"] defensive_type: DefensiveType,
        /// Type of section 2, section 8.8; 0 = none.
        [259 I "NMsFilRmtIDType"] remote_id_type: IdType,
        /// 0 all, 1 single, 2 prefix, 3 range.
        [260 I "NMsFilSrcAddrType"] source_address_type: AddressType,
        /// Prefix length for type 2.
        [261 I "NMsFilSrcPrefix"] source_prefix: u8,
        /// 0 all, 1 single, 2 prefix, 3 range.
        [262 I "NMsFilDstAddrType"] destination_address_type: AddressType,
        /// Prefix length for type 2.
        [263 I "NMsFilDstPrefix"] destination_prefix: u8,
        /// Address, prefix or low end.
        [264 I "NMsFilSrcAddr"] source_address: Address,
        /// High end for type 3.
        [280 I "NMsFilSrcAddrHi"] source_address_high: Address,
        /// Address, prefix or low end.
        [296 I "NMsFilDstAddr"] destination_address: Address,
        /// High end for type 3.
        [312 I "NMsFilDstAddrHi"] destination_address_high: Address,
        /// NAT traversal: client address from the peer's ID payload, zero = none.
        [328 I "NMsFilRmtIDPayload"] remote_id_payload: Address,
        /// Source port, low.
        [344 I "NMsFilSrcPortLo"] source_port_low: u16,
        /// Source port, high.
        [346 I "NMsFilSrcPortHi"] source_port_high: u16,
        /// Destination port, low.
        [348 I "NMsFilDstPortLo"] destination_port_low: u16,
        /// Destination port, high.
        [350 I "NMsFilDstPortHi"] destination_port_high: u16,
        /// ICMP, ICMPv6, OSPF or MIPv6 type, low.
        [352 I "NMsFilTypeLo"] type_low: u8,
        /// ICMP, ICMPv6, OSPF or MIPv6 type, high.
        [353 I "NMsFilTypeHi"] type_high: u8,
        /// ICMP code, low.
        [354 I "NMsFilCodeLo"] code_low: u8,
        /// ICMP code, high.
        [355 I "NMsFilCodeHi"] code_high: u8,
        /// Granularity of on-demand SAs, source address: 0 from the rule, 1 from the packet.
        [356:0 I "NMsFilGranSrcAddr"] granularity_source_address: bool,
        /// Source port: 0 from the rule, 1 from the packet.
        [356:1 I "NMsFilGranSrcPort"] granularity_source_port: bool,
        /// Destination address: 0 from the rule, 1 from the packet.
        [356:2 I "NMsFilGranDstAddr"] granularity_destination_address: bool,
        /// Destination port: 0 from the rule, 1 from the packet.
        [356:3 I "NMsFilGranDstPort"] granularity_destination_port: bool,
        /// Protocol: 0 from the rule, 1 from the packet.
        [356:4 I "NMsFilGranProto"] granularity_protocol: bool,
        /// ICMP type: 0 from the rule, 1 from the packet.
        [356:5 I "NMsFilGranType"] granularity_type: bool,
        /// ICMP code: 0 from the rule, 1 from the packet.
        [356:6 I "NMsFilGranCode"] granularity_code: bool,
        /// MIPv6 type: 0 from the rule, 1 from the packet.
        [356:7 I "NMsFilGranMIPv6"] granularity_mipv6: bool,
        /// Log limit of a defensive filter, 0 = none.
        [358 I "NMsFilLogLimit"] log_limit: u16,
        /// NAT resolution filter: original remote connection port.
        [360 I "NMsFilOrigRmtPort"] original_remote_port: u16,
        /// Remote UDP encapsulation port, 0 = none.
        [362 I "NMsFilRmtUDPPort"] remote_udp_port: u16,
        /// Time of creation.
        [364 I "NMsFilCreateTime"] create_time: Time,
        /// Time of the last update.
        [368 I "NMsFilUpdateTime"] update_time: Time,
        /// Defensive filter: end of life.
        [372 C "NMsFilExpires"] expires: Time,
        /// Packets that matched.
        [376 I "NMsFilMatches"] matches: u64,
        /// Of the matches, permitted.
        [384 C "NMsFilPermits"] permits: u64,
        /// Of the matches, denied by the action.
        [392 C "NMsFilDenies"] denies: u64,
        /// Of the matches, denied by an action mismatch.
        [400 C "NMsFilMismatches"] mismatches: u64,
    } reserved {
        [245:1 C "NMsFilRsvd1"] 23,
        [357:0 C "NMsFilRsvd2"] 8,
    }
}

/// A record: one filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterRecord {
    /// Section 1; `remote_id_type` is set from `remote_id` when the record is built.
    pub filter: IpFilter,
    /// Section 2.
    pub remote_id: Option<Identity>,
}

impl FilterRecord {
    /// Its sections, which other records begin with.
    pub(super) fn sections(&self, page: CodePage) -> RecordBuilder {
        let mut filter = self.filter.clone();
        filter.remote_id_type = super::id_type(self.remote_id.as_ref());
        let id = super::id_bytes(self.remote_id.as_ref(), page);
        RecordBuilder::new(page).one(&filter).variable(&id)
    }
}

impl Record for FilterRecord {
    const TYPES: &'static [MessageType] =
        &[MessageType::GET_IPFLTCURR, MessageType::GET_IPFLTDEFAULT, MessageType::GET_IPFLTPOLICY];

    fn build(&self, page: CodePage) -> Vec<u8> {
        self.sections(page).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        let filter: IpFilter = record.one(0)?;
        let remote_id = Identity::from_bytes(filter.remote_id_type, record.variable(1), record.page())?;
        Ok(Self { filter, remote_id })
    }
}
