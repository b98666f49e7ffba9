//! Answer to `NMsec_GET_IKENSINFO`: network security services of each stack (section 6.13).

use super::Record;
use crate::code::{MessageType, NssState};
use crate::error::DecodeError;
use crate::record::{RecordBuilder, RecordView};
use crate::text::{CodePage, Text};
use crate::value::{Address, Time};

structure! {
    /// A stack as a client of network security services; without them only the stack name is filled.
    Nss = "NMsecNSS", 100, "6.13" {
        /// NSS client name, by default sysname_stackname; blank if no NSS.
        [0 D "NMsIKENSClientName"] client_name: Text<24>,
        /// Job name of the stack.
        [24 D "NMsIKENSStackName"] stack_name: Text<8>,
        /// User ID under which the client is registered; blank without NSS.
        [32 D "NMsIKENSUserid"] userid: Text<8>,
        /// System name of the NSS server; blank if no NSS.
        [40 D "NMsIKENSServerSysName"] server_sys_name: Text<8>,
        /// Stack is configured for an NSS server.
        [48:0 D "NMsIKENSSConfigured"] configured: bool,
        /// Certificate service selected.
        [48:1 D "NMsIKENSSvcSelCert"] cert_selected: bool,
        /// Certificate service enabled.
        [48:2 D "NMsIKENSSvcEnblCert"] cert_enabled: bool,
        /// Remote management service selected.
        [48:3 I "NMsIKENSSvcSelRMgmt"] remote_mgmt_selected: bool,
        /// Remote management service enabled.
        [48:4 I "NMsIKENSSvcEnblRMgmt"] remote_mgmt_enabled: bool,
        /// Addresses below are IPv6.
        [48:5 C "NMsIKENSIPv6"] ipv6: bool,
        /// 0 not applicable, 1 not connected, 2 connecting, 3 connected.
        [52 I "NMsIKENSConnState"] connection_state: NssState,
        /// API version of the client, 0 = n/a.
        [53 I "NMsIKENSClientAPIVer"] client_api_version: u8,
        /// API version of the server, 0 = n/a.
        [54 I "NMsIKENSServerAPIVer"] server_api_version: u8,
        /// Client address.
        [56 I "NMsIKENSClientAddr"] client_address: Address,
        /// Server address.
        [72 I "NMsIKENSServerAddr"] server_address: Address,
        /// Client port.
        [88 I "NMsIKENSClientPort"] client_port: u16,
        /// Server port.
        [90 I "NMsIKENSServerPort"] server_port: u16,
        /// Time connected.
        [92 I "NMsIKENSConnTime"] connection_time: Time,
        /// Time of the last message to the server.
        [96 I "NMsIKENSLastMsgTime"] last_message_time: Time,
    } reserved {
        [48:6 C "NMsIKENSRsvd1"] 26,
        [55 C "NMsIKENSRsvd2"] 8,
    }
}

impl Record for Nss {
    const TYPES: &'static [MessageType] = &[MessageType::GET_IKENSINFO];

    fn build(&self, page: CodePage) -> Vec<u8> {
        RecordBuilder::new(page).one(self).finish()
    }

    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError> {
        record.one(0)
    }
}
