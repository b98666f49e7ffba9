//! What all IP tunnels have in common, and the answer to `NMsec_GET_IPTUNMANUAL` (section 6.5).

use super::Record;
use crate::code::{
    AuthAlgorithm, AuthProtocol, DfMode, DscpMode, EncapsulationMode, EncryptionAlgorithm, MessageType,
    SaState, TunnelType,
};
use crate::error::DecodeError;
use crate::record::{RecordBuilder, RecordView};
use crate::text::{CodePage, Text};
use crate::value::{Address, Time};

structure! {
    /// An IP tunnel: a pair of SAs, manual or dynamic.
    IpTunnel = "NMsecIPTunnel", 164, "6.5" {
        /// Tunnel ID: Y (dynamic) or M (manual) and a decimal number.
        [0 D "NMsIPTunID"] id: Text<48>,
        /// VPN action name.
        [48 D "NMsIPTunVPNAction"] vpn_action: Text<48>,
        /// Security endpoint and data endpoint addresses are IPv6.
        [96:0 D "NMsIPTunFlagIPv6"] ipv6: bool,
        /// FIPS 140 mode for this tunnel.
        [96:1 D "NMsIPTunFIPS140"] fips140: bool,
        /// Manual, dynamic as known to the stack, or dynamic as known to IKE.
        [100 D "NMsIPTunType"] tunnel_type: TunnelType,
        /// State, section 8.1.
        [101 D "NMsIPTunState"] state: SaState,
        /// 1 tunnel, 2 transport.
        [102 I "NMsIPTunEncapMode"] encap_mode: EncapsulationMode,
        /// 0 none, 50 ESP, 51 AH.
        [103 I "NMsIPTunAuthProto"] auth_protocol: AuthProtocol,
        /// Integrity algorithm, section 8.3.
        [104 I "NMsIPTunAuthAlg"] auth_algorithm: AuthAlgorithm,
        /// Encryption algorithm, section 8.4.
        [105 I "NMsIPTunEncrAlg"] encryption_algorithm: EncryptionAlgorithm,
        /// Encryption key length in bits, 0 = fixed or none.
        [106 C "NMsIPTunKeyLength"] key_length: u16,
        /// Local security endpoint.
        [108 I "NMsIPTunLclEndpt"] local_endpoint: Address,
        /// Remote security endpoint.
        [124 I "NMsIPTunRmtEndpt"] remote_endpoint: Address,
        /// Inbound SPI of the authentication SA.
        [140 I "NMsIPTunInAuthSPI"] in_auth_spi: u32,
        /// Outbound SPI of the authentication SA.
        [144 I "NMsIPTunOutAuthSPI"] out_auth_spi: u32,
        /// Inbound SPI of the encryption SA. With plain ESP equal to the authentication SPI.
        [148 I "NMsIPTunInEncrSPI"] in_encryption_spi: u32,
        /// Outbound SPI of the encryption SA.
        [152 I "NMsIPTunOutEncrSPI"] out_encryption_spi: u32,
        /// Time the SA pair was installed.
        [156 C "NMsIPTunStartTime"] start_time: Time,
        /// DF bit of the outer header: 0 n/a, 1 copied from the inner header, 2 cleared, 3 set.
        [160 I "NMsIPTunDFMode"] df_mode: DfMode,
        /// DSCP of the outer header: 0 n/a, 1 copied, 2 cleared.
        [161 I "NMsIPTunDSCPMode"] dscp_mode: DscpMode,
    } reserved {
        [96:2 D "NMsIPTunRsvd1"] 30,
        [162 C "NMsIPTunRsvd2"] 16,
    }
}

structure! {
    /// Usage of a manual tunnel.
    IpManualTunnel = "NMsecIPManualTunnel", 32, "6.5" {
        /// Packets protected outbound.
        [0 C "NMsIPManOutPkts"] out_packets: u64,
        /// Bytes outbound.
        [8 C "NMsIPManOutBytes"] out_bytes: u64,
        /// Packets inbound.
        [16 C "NMsIPManInPkts"] in_packets: u64,
        /// Bytes inbound.
        [24 C "NMsIPManInBytes"] in_bytes: u64,
    } reserved {
    }
}

/// A record: one manual tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManualRecord {
    /// Section 1.
    pub tunnel: IpTunnel,
    /// Section 2.
    pub usage: IpManualTunnel,
}

impl Record for ManualRecord {
    const TYPES: &'static [MessageType] = &[MessageType::GET_IPTUNMANUAL];

    fn build(&self, page: CodePage) -> Vec<u8> {
        RecordBuilder::new(page).one(&self.tunnel).one(&self.usage).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        Ok(Self { tunnel: record.one(0)?, usage: record.one(1)? })
    }
}
