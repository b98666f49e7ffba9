//! `-t`: which filters in force match a packet (ipsec-command.md section 3.7).

use crate::exit::Failure;
use nmi_proto::code::{AddressType, Direction, FilterState};
use nmi_proto::display::IpFilter;
use nmi_proto::value::Address;
use std::fmt;
use std::net::IpAddr;

/// A packet to be tested. What is absent is not asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    detail: Detail,
    direction: Option<Direction>,
    /// 0: any.
    security_class: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    None,
    /// 0: any.
    Ports(u16, u16),
    Icmp(u8, u8),
}

/// Names of protocols, as in policies.
const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ospf", 89),
    ("ipip", 94),
    ("sctp", 132),
    ("mipv6", 135),
];

/// A protocol by its name or number.
pub(crate) fn protocol_number(text: &str) -> Option<u8> {
    let named = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, number)| *number);
    named.or_else(|| text.parse().ok())
}

/// EZD0876I: an operand of the product's command, by its name there.
fn wrong(operand: &str, value: &str) -> Failure {
    Failure::Usage(format!("EZD0876I {operand} `{}` of -t is not valid", value.escape_debug()))
}

impl Packet {
    /// Reads the operands of `-t`.
    pub(crate) fn parse(words: &[String]) -> Result<Self, Failure> {
        let [source, destination, protocol, rest @ ..] = words else {
            return Err(Failure::Usage("-t takes a source, a destination and a protocol".into()));
        };
        let from: IpAddr = source.parse().map_err(|_| wrong("SourceIpAddress", source))?;
        let to: IpAddr = destination.parse().map_err(|_| wrong("DestIpAddress", destination))?;
        if from.is_ipv4() != to.is_ipv4() {
            return Err(wrong("DestIpAddress", destination));
        }
        let lower = protocol.to_ascii_lowercase();
        let named = PROTOCOLS.iter().find(|(name, _)| *name == lower).map(|(_, number)| *number);
        let number = named.or_else(|| protocol.parse().ok()).ok_or_else(|| wrong("Protocol", protocol))?;
        let has_ports = matches!(number, 6 | 17 | 132);
        let is_number = |word: &&String| word.bytes().all(|b| b.is_ascii_digit());
        let mut rest = rest.iter().peekable();
        let detail = if has_ports {
            let ports = (rest.next_if(is_number), rest.next_if(is_number));
            let port = |word: Option<&String>, operand| match word {
                None => Ok(0),
                Some(word) => word.parse().map_err(|_| wrong(operand, word)),
            };
            // The keywords need their ports: a number alone would be taken for another operand.
            if named.is_some() && ports.1.is_none() {
                let given = ports.0.map_or("", String::as_str);
                return Err(wrong(if ports.0.is_none() { "SourcePort" } else { "DestinationPort" }, given));
            }
            Detail::Ports(port(ports.0, "SourcePort")?, port(ports.1, "DestinationPort")?)
        } else if matches!(number, 1 | 58) && rest.peek().is_some_and(is_number) {
            let (kind, code) = (rest.next(), rest.next_if(is_number));
            let byte = |word: Option<&String>, operand| {
                let word = word.map_or("", String::as_str);
                word.parse().map_err(|_| wrong(operand, word))
            };
            Detail::Icmp(byte(kind, "Type")?, byte(code, "Code")?)
        } else {
            Detail::None
        };
        let direction = match rest.peek().map(|w| w.to_ascii_lowercase()).as_deref() {
            Some("in" | "inb" | "inbound") => Some(Direction::INBOUND),
            Some("out" | "outbound") => Some(Direction::OUTBOUND),
            _ => None,
        };
        if direction.is_some() {
            rest.next();
        }
        let security_class = match rest.next() {
            None => 0,
            Some(word) if is_number(&word) => word.parse().map_err(|_| wrong("SecClass", word))?,
            Some(word) => return Err(wrong("Direction", word)),
        };
        if let Some(word) = rest.next() {
            return Err(wrong("SecClass", word));
        }
        Ok(Self { source: from, destination: to, protocol: number, detail, direction, security_class })
    }

    /// The direction, if one is asked for.
    pub(crate) fn direction(&self) -> Option<Direction> {
        self.direction
    }

    /// The packet as a policy sees it in one direction. Ports and types that were not given are 0.
    pub(crate) fn for_policy(
        &self,
        inbound: bool,
        routed: bool,
        fragment: bool,
        opens: bool,
    ) -> policy::explain::Packet {
        use policy::explain::Upper;
        let protocol = self.protocol;
        let upper = match self.detail {
            _ if fragment => Upper::Other(protocol),
            Detail::Ports(source, destination) => {
                Upper::Ports { protocol, source, destination, opens: opens && protocol == 6 }
            }
            Detail::Icmp(kind, code) => Upper::Typed { protocol, kind, code },
            Detail::None if matches!(protocol, 1 | 58) => Upper::Typed { protocol, kind: 0, code: 0 },
            Detail::None => Upper::Other(protocol),
        };
        policy::explain::Packet {
            inbound,
            routed,
            security_class: self.security_class,
            source: self.source,
            destination: self.destination,
            upper,
            fragment,
        }
    }

    /// Whether a filter matches it. Time conditions are not looked into: filters outside theirs are not listed.
    pub(crate) fn matches(&self, f: &IpFilter) -> bool {
        f.ipv6 == self.source.is_ipv6()
            && f.state != FilterState::INACTIVE
            && self.direction.is_none_or(|d| f.direction == d)
            && (self.security_class == 0 || f.security_class == 0 || f.security_class == self.security_class)
            && within(
                self.source,
                f.source_address_type,
                f.source_address,
                f.source_address_high,
                f.source_prefix,
            )
            && within(
                self.destination,
                f.destination_address_type,
                f.destination_address,
                f.destination_address_high,
                f.destination_prefix,
            )
            && (f.protocol_any || f.protocol == self.protocol)
            && self.detail_matches(f)
    }

    fn detail_matches(&self, f: &IpFilter) -> bool {
        match self.detail {
            Detail::None => true,
            Detail::Ports(source, destination) => {
                let fits = |port: u16, any, low, high| port == 0 || any || (low..=high).contains(&port);
                f.protocol_any
                    || (fits(source, f.source_port_any, f.source_port_low, f.source_port_high)
                        && fits(
                            destination,
                            f.destination_port_any,
                            f.destination_port_low,
                            f.destination_port_high,
                        ))
            }
            Detail::Icmp(kind, code) => {
                f.protocol_any
                    || ((f.type_any || (f.type_low..=f.type_high).contains(&kind))
                        && (f.code_any || (f.code_low..=f.code_high).contains(&code)))
            }
        }
    }
}

fn within(address: IpAddr, kind: AddressType, low: Address, high: Address, prefix: u8) -> bool {
    let (address, low, high) = (
        u128::from_be_bytes(Address::from(address).0),
        u128::from_be_bytes(low.0),
        u128::from_be_bytes(high.0),
    );
    match kind {
        AddressType::ALL => true,
        AddressType::SINGLE => address == low,
        AddressType::RANGE => (low..=high).contains(&address),
        // An IPv4 address lies in the low 32 bits, whatever its prefix covers of them.
        AddressType::PREFIX => {
            let width = if high == 0 && low >> 32 == 0 && address >> 32 == 0 { 32 } else { 128 };
            let host = 128u32.min(width).saturating_sub(prefix.into());
            host >= 128 || (address ^ low) >> host == 0
        }
        _ => false,
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = PROTOCOLS.iter().find(|(_, number)| *number == self.protocol).map(|(name, _)| *name);
        write!(f, "{} {} ", self.source, self.destination)?;
        match name {
            Some(name) => f.write_str(name)?,
            None => write!(f, "{}", self.protocol)?,
        }
        match self.detail {
            Detail::None => {}
            Detail::Ports(a, b) => write!(f, " {a} {b}")?,
            Detail::Icmp(a, b) => write!(f, " {a} {b}")?,
        }
        match self.direction {
            Some(Direction::INBOUND) => f.write_str(" in")?,
            Some(_) => f.write_str(" out")?,
            None => {}
        }
        write!(f, " {}", self.security_class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(line: &str) -> Result<Packet, String> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Packet::parse(&words).map_err(|e| e.to_string())
    }
    fn ip(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }
    fn web() -> IpFilter {
        IpFilter {
            state: FilterState::ACTIVE,
            direction: Direction::INBOUND,
            protocol: 6,
            source_address_type: AddressType::PREFIX,
            source_address: ip("203.0.113.0"),
            source_prefix: 24,
            destination_address_type: AddressType::SINGLE,
            destination_address: ip("192.0.2.10"),
            source_port_any: true,
            destination_port_low: 440,
            destination_port_high: 443,
            security_class: 3,
            ..IpFilter::default()
        }
    }

    #[test]
    fn every_operand_decides() {
        for (line, matches) in [
            ("203.0.113.20 192.0.2.10 tcp 0 443 in 0", true),
            ("203.0.113.20 192.0.2.10 TCP 1024 440", true),
            ("203.0.113.20 192.0.2.10 6", true),
            ("203.0.113.20 192.0.2.10 tcp 0 443 in 3", true),
            ("203.0.113.20 192.0.2.10 tcp 0 443 in 4", false),
            ("203.0.113.20 192.0.2.10 tcp 0 444 in", false),
            ("203.0.113.20 192.0.2.10 tcp 0 443 out", false),
            ("203.0.113.20 192.0.2.10 udp 0 443 in", false),
            ("203.0.112.20 192.0.2.10 tcp 0 443 in", false),
            ("203.0.113.20 192.0.2.11 tcp 0 443 in", false),
            ("2001:db8::1 2001:db8::2 tcp 0 443 in", false),
        ] {
            assert_eq!(packet(line).unwrap().matches(&web()), matches, "{line}");
        }
        assert!(
            !packet("203.0.113.20 192.0.2.10 tcp 0 443")
                .unwrap()
                .matches(&IpFilter { state: FilterState::INACTIVE, ..web() })
        );
    }

    #[test]
    fn a_filter_for_all_protocols_or_addresses_matches_everything_of_its_family() {
        let all = IpFilter { protocol_any: true, ..IpFilter::default() };
        for line in ["1.2.3.4 5.6.7.8 udp 53 53", "1.2.3.4 5.6.7.8 icmp 8 0", "1.2.3.4 5.6.7.8 ospf"] {
            assert!(packet(line).unwrap().matches(&all), "{line}");
        }
        let echo = IpFilter { protocol: 1, type_low: 8, type_high: 8, code_any: true, ..IpFilter::default() };
        assert!(packet("1.2.3.4 5.6.7.8 icmp 8 0").unwrap().matches(&echo));
        assert!(!packet("1.2.3.4 5.6.7.8 icmp 0 0").unwrap().matches(&echo));
        assert!(packet("1.2.3.4 5.6.7.8 icmp").unwrap().matches(&echo), "the type is not asked for");
    }

    #[test]
    fn ranges_and_prefixes_of_both_families() {
        let in_range = |low: &str, high: &str, a: &str| {
            within(a.parse().unwrap(), AddressType::RANGE, ip(low), ip(high), 0)
        };
        assert!(
            in_range("10.0.0.1", "10.0.0.9", "10.0.0.9") && !in_range("10.0.0.1", "10.0.0.9", "10.0.0.10")
        );
        let in_prefix = |base: &str, bits, a: &str| {
            within(a.parse().unwrap(), AddressType::PREFIX, ip(base), Address::default(), bits)
        };
        assert!(in_prefix("0.0.0.0", 0, "255.1.2.3") && in_prefix("10.0.0.0", 8, "10.255.0.1"));
        assert!(!in_prefix("10.0.0.0", 8, "11.0.0.0") && in_prefix("10.0.0.1", 32, "10.0.0.1"));
        assert!(
            in_prefix("2001:db8::", 32, "2001:db8:ffff::1") && !in_prefix("2001:db8::", 32, "2001:db9::")
        );
        assert!(in_prefix("2001:db8::", 0, "fe80::1"));
    }

    #[test]
    fn a_wrong_operand_is_named() {
        for (line, operand) in [
            ("x 192.0.2.10 tcp 0 0", "SourceIpAddress"),
            ("192.0.2.1 nowhere tcp 0 0", "DestIpAddress"),
            ("192.0.2.1 2001:db8::1 tcp 0 0", "DestIpAddress"),
            ("192.0.2.1 192.0.2.2 smtp", "Protocol"),
            ("192.0.2.1 192.0.2.2 256", "Protocol"),
            ("192.0.2.1 192.0.2.2 tcp in", "SourcePort"),
            ("192.0.2.1 192.0.2.2 tcp 80 in", "DestinationPort"),
            ("192.0.2.1 192.0.2.2 tcp 0 70000", "DestinationPort"),
            ("192.0.2.1 192.0.2.2 icmp 8 in", "Code"),
            ("192.0.2.1 192.0.2.2 tcp 0 0 sideways", "Direction"),
            ("192.0.2.1 192.0.2.2 tcp 0 0 in 256", "SecClass"),
        ] {
            let said = packet(line).unwrap_err();
            assert!(said.contains("EZD0876I") && said.contains(operand), "{line}: {said}");
        }
        assert_eq!(
            packet("203.0.113.20 192.0.2.10 tcp 0 443 in").unwrap().to_string(),
            "203.0.113.20 192.0.2.10 tcp 0 443 in 0"
        );
    }
}
