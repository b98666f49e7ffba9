//! Sections of control requests (section 7).

use crate::code::{FilterSet, MessageType, TunnelStatus};
use crate::text::Text;

structure! {
    /// What a control request acts on; the response returns it with the result.
    Tunnel = "NMsecTunnel", 100, "7" {
        /// Manual tunnel: IpManVpnAction; dynamic tunnel: LocalDynVpnRule; IKE tunnel: KeyExchangeRule. Blank if not given.
        [0 D "NMsTunName"] name: Text<48>,
        /// Tunnel ID. Blank if not given.
        [48 D "NMsTunTunnelID"] tunnel_id: Text<48>,
        /// 0 in a request; in a response the result.
        [96 D "NMsTunStatus"] status: TunnelStatus,
    } reserved {
        [97 C "NMsTunRsvd1"] 24,
    }
}

structure! {
    /// Which set of filters to put in force.
    LoadPolicy = "NMsecLoadPolicy", 4, "7" {
        /// Filter set to put in force.
        [0 I "NMsPolFilterSet"] filter_set: FilterSet,
    } reserved {
        [1 C "NMsPolRsvd1"] 24,
    }
}

impl Tunnel {
    /// By name of its rule or action.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// By tunnel ID.
    #[must_use]
    pub fn with_id(id: &str) -> Self {
        Self { tunnel_id: id.into(), ..Self::default() }
    }

    /// Whether `request` allows this combination of fields (second table of section 7).
    #[must_use]
    pub fn fits(&self, request: MessageType) -> bool {
        if self.status != TunnelStatus::NOT_PROCESSED {
            return false;
        }
        if request == MessageType::ACTIVATE_IPTUNDYN {
            return !self.name.is_blank() && self.tunnel_id.is_blank();
        }
        !self.name.is_blank() || !self.tunnel_id.is_blank()
    }
}
