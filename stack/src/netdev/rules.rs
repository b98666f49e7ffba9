//! Policy routing: which packets the kernel keeps, which go to the sockets and which to the TUN.
//!
//! | preference | rule | goes to |
//! |---|---|---|
//! | 5 | `iif <network> from <home>`: our own address as a source | discarded |
//! | 6 | `iif <network> to <own XCF address>`: forged GRE, its fragments too | table 100: counted, discarded |
//! | 7 | `fwmark M/mask`: what the stack's own sockets send | `main` |
//! | 8, 9 | `iif <network> to <home>` UDP 500 and 4500; ESP | `local`: the sockets |
//! | 10 | `iif <tun> to <home>`: what the stack gives back | `local` |
//! | 11 | `iif lo to <home>`: between applications here | `local` |
//! | 12 | `iif lo from <home>`: what applications send to others | table 100 |
//! | 13 | `to <home>`, from anywhere else; AH with the header that it protects | table 100 |
//! | 1000 | the `local` table, in place of the kernel's own rule 0 | |
//! | 1001 | `iif <network>`: what would be forwarded | table 100 |
//! | 1002 | `iif <xcf>` | discarded |
//!
//! Without 5 a host of the network could have a forwarded packet with a home address as source diverted by 1001, and in
//! the TUN it would look like one of an application here: it would be sealed and sent to a peer. IPv4's martian
//! check finds such packets too, IPv6 has none.
//!
//! 1001 and 1002 are the security of the XCF: forwarding is on, and without them a host of the network could route
//! GRE with a member's source address onto the XCF link, where it passes every arrival check.

use super::{NetDevError, OWN_PROTOCOL, Wanted, absent, exists};
use crate::control::{Role, StackConfig};
use crate::driver::raw::{Family, RawProtocol};
use crate::driver::{IKE_PORT, NAT_T_PORT};
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use netlink_packet_route::{AddressFamily, IpProtocol};
use rtnetlink::{Handle, IpVersion};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The table that leads into the TUN, or nowhere.
pub const DIVERT_TABLE: u8 = 100;
const TABLE_MAIN: u8 = 254;
const TABLE_LOCAL: u8 = 255;
/// Where the rule for the `local` table stands as long as the stack runs.
const LOCAL_PREFERENCE: u32 = 1000;
const UDP: u8 = 17;

/// What a rule does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Looks in a table, and goes on with the next rule if that has no route.
    Table(u8),
    /// Discards it.
    Blackhole,
}

/// One rule; absent selectors match everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Preference: low ones first.
    pub preference: u32,
    /// Family.
    pub family: Family,
    /// Interface by which the packet came; `lo`: made here.
    pub input: Option<String>,
    /// Source address.
    pub from: Option<IpAddr>,
    /// Destination address.
    pub to: Option<IpAddr>,
    /// Mark and mask.
    pub mark: Option<(u32, u32)>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// Destination port.
    pub port: Option<u16>,
    /// What happens.
    pub target: Target,
}

impl Rule {
    const fn new(preference: u32, family: Family, target: Target) -> Self {
        Self {
            preference,
            family,
            input: None,
            from: None,
            to: None,
            mark: None,
            protocol: None,
            port: None,
            target,
        }
    }

    fn input(mut self, interface: &str) -> Self {
        self.input = Some(interface.to_owned());
        self
    }

    const fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    const fn to(mut self, address: IpAddr) -> Self {
        self.to = Some(address);
        self
    }

    const fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = Some(protocol);
        self
    }

    const fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }
}

/// The rules of a configuration.
#[must_use]
pub fn wanted(config: &StackConfig, tun: &str) -> BTreeSet<Rule> {
    const LOCAL: Target = Target::Table(TABLE_LOCAL);
    const DIVERT: Target = Target::Table(DIVERT_TABLE);
    let mut rules = BTreeSet::new();
    for family in Family::BOTH {
        let mut own = Rule::new(7, family, Target::Table(TABLE_MAIN));
        own.mark = Some((config.mark, config.mark_mask));
        rules.insert(own);
        rules.insert(Rule::new(LOCAL_PREFERENCE, family, LOCAL));
        for network in &config.network {
            rules.insert(Rule::new(1001, family, DIVERT).input(network));
        }
        if let Some(xcf) = &config.xcf {
            rules.insert(Rule::new(1002, family, Target::Blackhole).input(&xcf.interface));
        }
    }
    if let Some(xcf) = &config.xcf {
        for network in &config.network {
            let family = Family::of(xcf.address);
            rules.insert(Rule::new(6, family, DIVERT).input(network).to(xcf.address));
        }
    }
    for home in &config.home {
        let (address, family) = (home.address, Family::of(home.address));
        rules.insert(keeping_in(address));
        // The address of a backup is another host's: packets to it leave as to any other host.
        if home.role == Role::Backup {
            continue;
        }
        for network in &config.network {
            rules.insert(Rule::new(5, family, Target::Blackhole).input(network).from(address));
            for port in [IKE_PORT, NAT_T_PORT] {
                let rule = Rule::new(8, family, LOCAL).input(network).to(address);
                rules.insert(rule.protocol(UDP).port(port));
            }
            let rule = Rule::new(9, family, LOCAL).input(network).to(address);
            rules.insert(rule.protocol(RawProtocol::Esp.number()));
        }
        rules.insert(Rule::new(10, family, LOCAL).input(tun).to(address));
        rules.insert(Rule::new(11, family, LOCAL).input("lo").to(address));
        rules.insert(Rule::new(13, family, DIVERT).to(address));
    }
    rules
}

/// What applications send from an address goes to the stack, or nowhere.
#[must_use]
pub fn keeping_in(address: IpAddr) -> Rule {
    Rule::new(12, Family::of(address), Target::Table(DIVERT_TABLE)).input("lo").from(address)
}

/// The kernel's own rule, which stands before all others.
const fn kernel_local(family: Family) -> Rule {
    Rule::new(0, family, Target::Table(TABLE_LOCAL))
}

/// Adds the rules that are not there, then takes the kernel's `local` rule out of the way.
pub(super) async fn add_missing(
    handle: &Handle,
    families: &[Family],
    wanted: &BTreeSet<Rule>,
) -> Result<(), NetDevError> {
    for family in families {
        let present = read(handle, *family).await?;
        let missing = wanted
            .iter()
            .filter(|rule| rule.family == *family && !present.iter().any(|(p, own)| *own && p == *rule));
        // All asked for at once, and added in this order: a takeover waits for them.
        try_join_all(missing.map(|rule| add(handle, rule, OWN_PROTOCOL))).await?;
        remove(handle, &kernel_local(*family), None).await?;
    }
    Ok(())
}

/// Removes rules of ours that are not wanted.
pub(super) async fn remove_others(
    handle: &Handle,
    families: &[Family],
    wanted: &BTreeSet<Rule>,
) -> Result<(), NetDevError> {
    for family in families {
        for (rule, own) in read(handle, *family).await? {
            if own && !wanted.contains(&rule) {
                remove(handle, &rule, Some(OWN_PROTOCOL)).await?;
            }
        }
    }
    Ok(())
}

/// Puts the kernel's `local` rule back and removes all of ours but some.
pub(super) async fn remove_all(
    handle: &Handle,
    families: &[Family],
    but: &BTreeSet<Rule>,
) -> Result<(), NetDevError> {
    for family in families {
        let present = read(handle, *family).await?;
        let kernel = kernel_local(*family);
        if !present.iter().any(|(rule, _)| *rule == kernel) {
            add(handle, &kernel, RouteProtocol::Kernel.into()).await?;
        }
    }
    remove_others(handle, families, but).await
}

/// Every rule that can be said in our terms, and whether it is ours.
async fn read(handle: &Handle, family: Family) -> Result<Vec<(Rule, bool)>, NetDevError> {
    let version = match family {
        Family::V4 => IpVersion::V4,
        Family::V6 => IpVersion::V6,
    };
    let messages: Vec<RuleMessage> = handle
        .rule()
        .get(version)
        .execute()
        .try_collect()
        .await
        .wanted(|| "the routing rules cannot be read".into())?;
    Ok(messages.iter().filter_map(|m| parse(m, family)).collect())
}

async fn add(handle: &Handle, rule: &Rule, protocol: u8) -> Result<(), NetDevError> {
    let mut request = handle.rule().add();
    *request.message_mut() = message(rule, Some(protocol));
    match request.execute().await {
        Err(e) if exists(&e) => Ok(()),
        other => other.wanted(|| format!("routing rule {} cannot be added", rule.preference)),
    }
}

async fn remove(handle: &Handle, rule: &Rule, protocol: Option<u8>) -> Result<(), NetDevError> {
    match handle.rule().del(message(rule, protocol)).execute().await {
        Err(e) if absent(&e) => Ok(()),
        other => other.wanted(|| format!("routing rule {} cannot be removed", rule.preference)),
    }
}

fn message(rule: &Rule, protocol: Option<u8>) -> RuleMessage {
    let mut m = RuleMessage::default();
    let (family, bits) = match rule.family {
        Family::V4 => (AddressFamily::Inet, 32),
        Family::V6 => (AddressFamily::Inet6, 128),
    };
    m.header.family = family;
    (m.header.action, m.header.table) = match rule.target {
        Target::Table(table) => (RuleAction::ToTable, table),
        Target::Blackhole => (RuleAction::Blackhole, 0),
    };
    let a = &mut m.attributes;
    a.push(RuleAttribute::Priority(rule.preference));
    if let Some(name) = &rule.input {
        a.push(RuleAttribute::Iifname(name.clone()));
    }
    if let Some(address) = rule.from {
        m.header.src_len = bits;
        a.push(RuleAttribute::Source(address));
    }
    if let Some(address) = rule.to {
        m.header.dst_len = bits;
        a.push(RuleAttribute::Destination(address));
    }
    if let Some((mark, mask)) = rule.mark {
        a.push(RuleAttribute::FwMark(mark));
        a.push(RuleAttribute::FwMask(mask));
    }
    if let Some(protocol) = rule.protocol {
        a.push(RuleAttribute::IpProtocol(IpProtocol::from(protocol)));
    }
    if let Some(port) = rule.port {
        a.push(RuleAttribute::DestinationPortRange(RulePortRange { start: port, end: port }));
    }
    if let Some(protocol) = protocol {
        a.push(RuleAttribute::Protocol(RouteProtocol::from(protocol)));
    }
    m
}

/// `None` for a rule that none of ours can equal. Of one of ours the kernel may say more than we asked for (Linux 6.14
/// adds the masks of ports).
fn parse(m: &RuleMessage, family: Family) -> Option<(Rule, bool)> {
    let target = match m.header.action {
        RuleAction::ToTable => Target::Table(m.header.table),
        RuleAction::Blackhole => Target::Blackhole,
        _ => return None,
    };
    let mut rule = Rule::new(0, family, target);
    let mut own = false;
    let mut more = false;
    let mut mark = None;
    let mut mask = u32::MAX;
    for attribute in &m.attributes {
        match attribute {
            RuleAttribute::Priority(p) => rule.preference = *p,
            RuleAttribute::Iifname(name) => rule.input = Some(name.clone()),
            RuleAttribute::Source(a) => rule.from = Some(*a),
            RuleAttribute::Destination(a) => rule.to = Some(*a),
            RuleAttribute::FwMark(m) => mark = Some(*m),
            RuleAttribute::FwMask(m) => mask = *m,
            RuleAttribute::IpProtocol(p) => rule.protocol = Some(u8::from(*p)),
            RuleAttribute::DestinationPortRange(r) if r.start == r.end => rule.port = Some(r.start),
            RuleAttribute::Protocol(p) => own = u8::from(*p) == OWN_PROTOCOL,
            RuleAttribute::Table(_) | RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            _ => more = true,
        }
    }
    if more && !own {
        return None;
    }
    rule.mark = mark.map(|mark| (mark, mask));
    Some((rule, own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Home, Xcf};

    fn config(role: Role) -> StackConfig {
        StackConfig {
            name: "TCPCS1".into(),
            network: vec!["net0".into()],
            xcf: Some(Xcf { interface: "xcf0".into(), address: "10.99.0.1".parse().unwrap() }),
            mark: 0x42,
            mark_mask: 0xff,
            home: vec![Home { address: "203.0.113.10".parse().unwrap(), role, epoch: 1 }],
            members: vec![],
            sysplex: None,
            max_connections: 10,
        }
    }

    /// As `ip rule` would print it.
    fn text(r: &Rule) -> String {
        let mut s = format!("{}:", r.preference);
        if let Some(a) = r.from {
            s += &format!(" from {a}");
        }
        if let Some(a) = r.to {
            s += &format!(" to {a}");
        }
        if let Some((m, k)) = r.mark {
            s += &format!(" fwmark {m:#x}/{k:#x}");
        }
        if let Some(i) = &r.input {
            s += &format!(" iif {i}");
        }
        if let Some(p) = r.protocol {
            s += &format!(" ipproto {p}");
        }
        if let Some(p) = r.port {
            s += &format!(" dport {p}");
        }
        match r.target {
            Target::Table(t) => s + &format!(" lookup {t}"),
            Target::Blackhole => s + " blackhole",
        }
    }

    #[test]
    fn the_table_of_an_owner() {
        let rules = wanted(&config(Role::Owner { distribution: vec![] }), "ipsec-TCPCS1");
        let v4: Vec<String> = rules.iter().filter(|r| r.family == Family::V4).map(text).collect();
        assert_eq!(
            v4,
            [
                "5: from 203.0.113.10 iif net0 blackhole",
                "6: to 10.99.0.1 iif net0 lookup 100",
                "7: fwmark 0x42/0xff lookup 254",
                "8: to 203.0.113.10 iif net0 ipproto 17 dport 500 lookup 255",
                "8: to 203.0.113.10 iif net0 ipproto 17 dport 4500 lookup 255",
                "9: to 203.0.113.10 iif net0 ipproto 50 lookup 255",
                "10: to 203.0.113.10 iif ipsec-TCPCS1 lookup 255",
                "11: to 203.0.113.10 iif lo lookup 255",
                "12: from 203.0.113.10 iif lo lookup 100",
                "13: to 203.0.113.10 lookup 100",
                "1000: lookup 255",
                "1001: iif net0 lookup 100",
                "1002: iif xcf0 blackhole",
            ]
        );
        let v6: Vec<String> = rules.iter().filter(|r| r.family == Family::V6).map(text).collect();
        assert_eq!(
            v6,
            [
                "7: fwmark 0x42/0xff lookup 254",
                "1000: lookup 255",
                "1001: iif net0 lookup 100",
                "1002: iif xcf0 blackhole"
            ]
        );
    }

    #[test]
    fn a_backup_only_keeps_its_own_clear_packets_in() {
        let rules = wanted(&config(Role::Backup), "ipsec-TCPCS1");
        let home: Vec<String> = rules.iter().map(text).filter(|t| t.contains("203.0.113.10")).collect();
        assert_eq!(home, ["12: from 203.0.113.10 iif lo lookup 100"]);
    }

    #[test]
    fn a_rule_survives_the_way_to_the_kernel_and_back() {
        for rule in wanted(&config(Role::Static), "ipsec-TCPCS1") {
            let m = message(&rule, Some(OWN_PROTOCOL));
            assert_eq!(parse(&m, rule.family), Some((rule, true)));
        }
    }
}
