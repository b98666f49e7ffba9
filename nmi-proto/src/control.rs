//! Sections of control requests (section 7).

use crate::code::{Direction, FilterSet, MessageType, TunnelStatus, VipaStatus};
use crate::text::Text;
use crate::value::Address;
use std::net::IpAddr;

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

structure! {
    /// What a control request about DVIPAs acts on; the response returns it with the result.
    VipaControl = "NMsecVipaControl", 176, "7.1" {
        /// `NMsVctDVIPA` is given.
        [0:0 C "NMsVctByDVIPA"] by_dvipa: bool,
        /// The DVIPA is IPv6.
        [0:1 C "NMsVctIPv6"] ipv6: bool,
        /// The DVIPA.
        [4 C "NMsVctDVIPA"] dvipa: Address,
        /// MOVE: the stack that is to own it. QUIESCE and RESUME: the target.
        [20 C "NMsVctStack"] stack: Text<24>,
        /// 0 in a request; in a response the result.
        [44 C "NMsVctStatus"] status: VipaStatus,
        /// Blank in a request; in a response why, where there is more to say than the status does.
        [48 C "NMsVctReason"] reason: Text<128>,
    } reserved {
        [0:2 C "NMsVctRsvd1"] 30,
        [45 C "NMsVctRsvd2"] 24,
    }
}

structure! {
    /// Which events a subscriber wants.
    Subscription = "NMsecSubscription", 8, "7.2" {
        /// The sum of 2 to the power of each kind that is wanted; 0: all, those of later versions too.
        [0 C "NMsSubKinds"] kinds: u32,
    } reserved {
        [4 C "NMsSubRsvd1"] 32,
    }
}

structure! {
    /// A packet that a stack is asked about.
    TestPacket = "NMsecTestPacket", 48, "6.23" {
        /// Both addresses are IPv6.
        [0:0 C "NMsTpkIPv6"] ipv6: bool,
        /// `NMsTpkType` and `NMsTpkCode` are given.
        [0:1 C "NMsTpkTyped"] typed: bool,
        /// Source address of the packet.
        [4 C "NMsTpkSource"] source: Address,
        /// Destination address of the packet.
        [20 C "NMsTpkDest"] destination: Address,
        /// IP protocol.
        [36 C "NMsTpkProtocol"] protocol: u8,
        /// 1 inbound, 2 outbound; 0: both, each on its own.
        [37 C "NMsTpkDirection"] direction: Direction,
        /// Security class of the interface, 0 = not given.
        [38 C "NMsTpkSecClass"] security_class: u8,
        /// Source port of TCP, UDP or SCTP, 0 = not given. Of a client behind a NAT its own port or the translated one.
        [40 C "NMsTpkSrcPort"] source_port: u16,
        /// Destination port, in the same way.
        [42 C "NMsTpkDstPort"] destination_port: u16,
        /// ICMP or ICMPv6 type.
        [44 C "NMsTpkType"] icmp_type: u8,
        /// ICMP or ICMPv6 code.
        [45 C "NMsTpkCode"] icmp_code: u8,
    } reserved {
        [0:2 C "NMsTpkRsvd1"] 30,
        [39 C "NMsTpkRsvd2"] 8,
        [46 C "NMsTpkRsvd3"] 16,
    }
}

impl TestPacket {
    /// Whether the fields go together: addresses of the family that it says, a direction that there is, and ports or a type only
    /// of protocols that have them.
    #[must_use]
    pub fn fits(&self) -> bool {
        let family = |a: &Address| self.ipv6 || a.0[..12] == [0; 12];
        let ports = self.source_port != 0 || self.destination_port != 0;
        let typed = self.icmp_type != 0 || self.icmp_code != 0;
        family(&self.source)
            && family(&self.destination)
            && matches!(self.direction, Direction(0) | Direction::INBOUND | Direction::OUTBOUND)
            && (!ports || matches!(self.protocol, 6 | 17 | 132))
            && (!self.typed || matches!(self.protocol, 1 | 58))
            && (self.typed || !typed)
    }
}

impl VipaControl {
    /// For a DVIPA, a stack, or both.
    #[must_use]
    pub fn new(dvipa: Option<IpAddr>, stack: Option<&str>) -> Self {
        Self {
            by_dvipa: dvipa.is_some(),
            ipv6: dvipa.is_some_and(|a| a.is_ipv6()),
            dvipa: dvipa.map_or_else(Address::default, Address::from),
            stack: stack.unwrap_or_default().into(),
            ..Self::default()
        }
    }

    /// The DVIPA, if one is given.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.by_dvipa.then(|| self.dvipa.ip(self.ipv6))
    }

    /// Whether `request` allows this combination of fields (table of section 7.1).
    #[must_use]
    pub fn fits(&self, request: MessageType) -> bool {
        let blank_answer = self.status == VipaStatus::NOT_PROCESSED && self.reason.is_blank();
        let family = if self.by_dvipa {
            self.ipv6 || self.dvipa.0[..12] == [0; 12]
        } else {
            !self.ipv6 && self.dvipa.is_zero()
        };
        let (dvipa, stack) = (self.by_dvipa, !self.stack.is_blank());
        blank_answer
            && family
            && match request {
                MessageType::MOVE_DVIPA => dvipa && stack,
                MessageType::DEACTIVATE_DVIPA | MessageType::REACTIVATE_DVIPA => dvipa && !stack,
                MessageType::QUIESCE_TARGET | MessageType::RESUME_TARGET => stack,
                _ => false,
            }
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
