//! Input filters: which objects a display request asks for (section 5).

use crate::code::{MessageType, SaState};
use crate::text::Text;
use crate::value::Address;
use std::net::IpAddr;

structure! {
    /// One input filter: all criteria whose bits are set must match. Several filters: one of them must.
    InFilter = "NMsecInFilter", 232, "5" {
        /// Criterion `NMsFltTunnelID` is specified.
        [0:0 I "NMsFltByTunnelID"] by_tunnel_id: bool,
        /// Criterion `NMsFltName` is specified.
        [0:1 I "NMsFltByName"] by_name: bool,
        /// Criterion `NMsFltVPNAction` is specified.
        [0:2 I "NMsFltByVPNAction"] by_vpn_action: bool,
        /// Criterion `NMsFltGroup` is specified.
        [0:3 C "NMsFltByGroup"] by_group: bool,
        /// Criterion `NMsFltLclAddr` / prefix is specified.
        [0:4 C "NMsFltByLclAddr"] by_local_address: bool,
        /// Criterion `NMsFltRmtAddr` / prefix is specified.
        [0:5 C "NMsFltByRmtAddr"] by_remote_address: bool,
        /// Criterion `NMsFltProtocol` is specified.
        [0:6 C "NMsFltByProtocol"] by_protocol: bool,
        /// Criterion `NMsFltState` is specified.
        [0:7 C "NMsFltByState"] by_state: bool,
        /// Only the most recent SA of each tunnel family.
        [1:0 I "NMsFltCurrentOnly"] current_only: bool,
        /// Addresses in this filter are IPv6.
        [1:1 C "NMsFltIPv6"] ipv6: bool,
        /// Only shadow tunnels.
        [1:2 I "NMsFltShadow"] shadow: bool,
        /// Tunnel ID, for example `K1`, `Y2`.
        [4 I "NMsFltTunnelID"] tunnel_id: Text<48>,
        /// IP filter: rule name. Dynamic tunnel: LocalDynVpnRule name. IKE tunnel: KeyExchangeRule name. Targets: stack.
        [52 I "NMsFltName"] name: Text<48>,
        /// IpManVpnAction or IpDynVpnAction name.
        [100 I "NMsFltVPNAction"] vpn_action: Text<48>,
        /// IP filter group name.
        [148 C "NMsFltGroup"] group: Text<48>,
        /// Local endpoint (tunnels), source address (filters), DVIPA (extensions).
        [196 C "NMsFltLclAddr"] local_address: Address,
        /// Remote endpoint (tunnels, port translation), destination address (filters).
        [212 C "NMsFltRmtAddr"] remote_address: Address,
        /// Prefix length, 0..32 or 0..128; 32 or 128 = one address.
        [228 C "NMsFltLclPrefix"] local_prefix: u8,
        /// Prefix length, 0..32 or 0..128; 32 or 128 = one address.
        [229 C "NMsFltRmtPrefix"] remote_prefix: u8,
        /// IP protocol number.
        [230 C "NMsFltProtocol"] protocol: u8,
        /// State, section 8.1.
        [231 C "NMsFltState"] state: SaState,
    } reserved {
        [1:3 C "NMsFltRsvd1"] 21,
    }
}

/// A criterion of an input filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Criterion {
    /// `NMsFltByTunnelID`.
    TunnelId,
    /// `NMsFltByName`.
    Name,
    /// `NMsFltByVPNAction`.
    VpnAction,
    /// `NMsFltByGroup`.
    Group,
    /// `NMsFltByLclAddr`.
    LocalAddress,
    /// `NMsFltByRmtAddr`.
    RemoteAddress,
    /// `NMsFltByProtocol`.
    Protocol,
    /// `NMsFltByState`.
    State,
    /// `NMsFltCurrentOnly`.
    CurrentOnly,
    /// `NMsFltShadow`.
    Shadow,
}

impl Criterion {
    /// The criteria that a request may use (second table of section 5).
    #[must_use]
    pub const fn allowed(request: MessageType) -> &'static [Self] {
        use Criterion::{
            CurrentOnly, Group, LocalAddress, Name, Protocol, RemoteAddress, Shadow, State, TunnelId,
            VpnAction,
        };
        match request {
            MessageType::GET_IPFLTCURR | MessageType::GET_IPFLTDEFAULT | MessageType::GET_IPFLTPOLICY => {
                &[TunnelId, Name, VpnAction, Group, LocalAddress, RemoteAddress, Protocol]
            }
            MessageType::GET_DVIPA | MessageType::GET_TAKEOVERS => &[LocalAddress],
            MessageType::GET_VIPATARGETS => &[Name, LocalAddress],
            MessageType::GET_DEFENSIVE => &[Name, LocalAddress, RemoteAddress, Protocol],
            MessageType::GET_PORTTRAN => &[RemoteAddress, Protocol],
            MessageType::GET_IPTUNMANUAL => &[TunnelId, VpnAction, LocalAddress, RemoteAddress, State],
            MessageType::GET_IPTUNDYNSTACK => &[
                TunnelId,
                Name,
                VpnAction,
                LocalAddress,
                RemoteAddress,
                Protocol,
                State,
                CurrentOnly,
                Shadow,
            ],
            MessageType::GET_IPTUNDYNIKE => {
                &[TunnelId, Name, VpnAction, LocalAddress, RemoteAddress, Protocol, State, CurrentOnly]
            }
            MessageType::GET_IKETUN | MessageType::GET_IKETUNCASCADE => {
                &[TunnelId, Name, LocalAddress, RemoteAddress, State, CurrentOnly]
            }
            _ => &[],
        }
    }
}

/// What a filter looks at in an object. What an object has not is `None` and matches no criterion.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    /// Tunnel ID.
    pub tunnel_id: Option<&'a str>,
    /// IpFilterRule, LocalDynVpnRule or KeyExchangeRule.
    pub name: Option<&'a str>,
    /// IpManVpnAction or IpDynVpnAction.
    pub vpn_action: Option<&'a str>,
    /// IpFilterGroup.
    pub group: Option<&'a str>,
    /// Local endpoint or source address: low and high end.
    pub local: Option<(IpAddr, IpAddr)>,
    /// Remote endpoint or destination address: low and high end.
    pub remote: Option<(IpAddr, IpAddr)>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// State.
    pub state: Option<SaState>,
    /// It is the most recent SA of its tunnel.
    pub current: bool,
    /// It is a shadow tunnel.
    pub shadow: bool,
}

impl InFilter {
    /// The criteria that are specified.
    pub fn criteria(&self) -> impl Iterator<Item = Criterion> + use<> {
        [
            (self.by_tunnel_id, Criterion::TunnelId),
            (self.by_name, Criterion::Name),
            (self.by_vpn_action, Criterion::VpnAction),
            (self.by_group, Criterion::Group),
            (self.by_local_address, Criterion::LocalAddress),
            (self.by_remote_address, Criterion::RemoteAddress),
            (self.by_protocol, Criterion::Protocol),
            (self.by_state, Criterion::State),
            (self.current_only, Criterion::CurrentOnly),
            (self.shadow, Criterion::Shadow),
        ]
        .into_iter()
        .filter_map(|(set, c)| set.then_some(c))
    }

    /// A filter for one tunnel ID.
    #[must_use]
    pub fn tunnel(id: &str) -> Self {
        Self { by_tunnel_id: true, tunnel_id: id.into(), ..Self::default() }
    }

    /// A filter for one local address: a DVIPA.
    #[must_use]
    pub fn local(address: IpAddr) -> Self {
        Self {
            by_local_address: true,
            ipv6: address.is_ipv6(),
            local_address: address.into(),
            local_prefix: if address.is_ipv6() { 128 } else { 32 },
            ..Self::default()
        }
    }

    /// A filter for one rule name.
    #[must_use]
    pub fn rule(name: &str) -> Self {
        Self { by_name: true, name: name.into(), ..Self::default() }
    }

    /// Whether a value that a criterion needs is missing or out of range.
    #[must_use]
    pub fn has_bad_value(&self) -> bool {
        let width = if self.ipv6 { 128 } else { 32 };
        let bad_address = |a: Address| !self.ipv6 && a.0[..12] != [0; 12];
        (self.by_tunnel_id && self.tunnel_id.is_blank())
            || (self.by_name && self.name.is_blank())
            || (self.by_vpn_action && self.vpn_action.is_blank())
            || (self.by_group && self.group.is_blank())
            || (self.by_local_address && (self.local_prefix > width || bad_address(self.local_address)))
            || (self.by_remote_address && (self.remote_prefix > width || bad_address(self.remote_address)))
            || (self.by_state && self.state.name().is_none())
    }

    /// Whether all its criteria match.
    #[must_use]
    pub fn matches(&self, s: &Subject<'_>) -> bool {
        let text = |by: bool, want: &str, is: Option<&str>| !by || is == Some(want);
        let address = |by: bool, want: Address, prefix: u8, is: Option<(IpAddr, IpAddr)>| {
            !by || is.is_some_and(|range| within(range, want.ip(self.ipv6), prefix))
        };
        text(self.by_tunnel_id, &self.tunnel_id, s.tunnel_id)
            && text(self.by_name, &self.name, s.name)
            && text(self.by_vpn_action, &self.vpn_action, s.vpn_action)
            && text(self.by_group, &self.group, s.group)
            && address(self.by_local_address, self.local_address, self.local_prefix, s.local)
            && address(self.by_remote_address, self.remote_address, self.remote_prefix, s.remote)
            && (!self.by_protocol || s.protocol == Some(self.protocol))
            && (!self.by_state || s.state == Some(self.state))
            && (!self.current_only || s.current)
            && (!self.shadow || s.shadow)
    }

    /// Whether an object is asked for: no filter, or one that matches.
    #[must_use]
    pub fn any_matches(filters: &[Self], s: &Subject<'_>) -> bool {
        filters.is_empty() || filters.iter().any(|f| f.matches(s))
    }
}

/// Whether both ends of `range` lie in the prefix of `bits` bits of `base`.
fn within((low, high): (IpAddr, IpAddr), base: IpAddr, bits: u8) -> bool {
    let inside = |a: IpAddr| match (a, base) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(32u32.saturating_sub(bits.into())).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(128u32.saturating_sub(bits.into())).unwrap_or(0) == 0
        }
        _ => false,
    };
    inside(low) && inside(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(a: &str, b: &str) -> Option<(IpAddr, IpAddr)> {
        Some((a.parse().unwrap(), b.parse().unwrap()))
    }

    #[test]
    fn criteria_of_one_filter_are_and_filters_are_or() {
        let s = Subject { tunnel_id: Some("K1"), name: Some("Branch"), current: true, ..Subject::default() };
        let both = InFilter { by_name: true, name: "Branch".into(), ..InFilter::tunnel("K1") };
        let one_wrong = InFilter { by_name: true, name: "branch".into(), ..InFilter::tunnel("K1") };
        assert!(both.matches(&s));
        assert!(!one_wrong.matches(&s));
        assert!(InFilter::any_matches(&[one_wrong.clone(), both], &s));
        assert!(!InFilter::any_matches(&[one_wrong], &s));
        assert!(InFilter::any_matches(&[], &s));
    }

    #[test]
    fn prefixes_of_every_length() {
        let f = |prefix| InFilter {
            by_local_address: true,
            local_address: IpAddr::from([10, 1, 2, 3]).into(),
            local_prefix: prefix,
            ..InFilter::default()
        };
        let at = |low, high| Subject { local: range(low, high), ..Subject::default() };
        assert!(f(0).matches(&at("200.0.0.1", "200.0.0.1")));
        assert!(f(8).matches(&at("10.0.0.0", "10.255.255.255")));
        assert!(!f(8).matches(&at("10.0.0.0", "11.0.0.0")));
        assert!(f(32).matches(&at("10.1.2.3", "10.1.2.3")));
        assert!(!f(32).matches(&at("10.1.2.4", "10.1.2.4")));
        assert!(!f(0).matches(&at("::1", "::1")), "another family never matches");
        assert!(!f(0).matches(&Subject::default()));
    }
}
